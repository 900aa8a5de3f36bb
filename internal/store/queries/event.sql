-- name: CreateEvent :exec
INSERT INTO event (project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt)
VALUES (@project_id, @id, @occurred_at, @kind, @actor, @subject, @client_id, @object, @address, @refused, @reason, @trace_id, @attempt);

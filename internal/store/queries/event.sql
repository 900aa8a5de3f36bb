-- name: CreateEvent :exec
INSERT INTO event (project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt)
VALUES (@project_id, @id, @occurred_at, @kind, @actor, @subject, @client_id, @object, @address, @refused, @reason, @trace_id, @attempt);

-- The events of a page come from one index, newest first, no more than looked of
-- them, and what the index does not know of is asked of these. The limits of an
-- index on a column are written as one pair with the id, and ordered by: with
-- column = value instead, PostgreSQL walks back through all events of the
-- project when it takes the value for a common one.

-- name: EventsByProject :many
SELECT e.project_id, e.id, e.occurred_at, e.kind, e.actor, e.subject, e.client_id, e.object, e.address, e.refused, e.reason, e.trace_id, e.attempt
FROM (SELECT project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt
      FROM event
      WHERE project_id = @project_id AND id < @before AND id >= @oldest
      ORDER BY id DESC LIMIT @looked) AS e
WHERE (CAST(@actor AS text) = '' OR e.actor = @actor)
  AND (CAST(@object AS text) = '' OR e.object = @object)
ORDER BY e.id DESC LIMIT @max_rows;

-- name: EventsByRefused :many
SELECT e.project_id, e.id, e.occurred_at, e.kind, e.actor, e.subject, e.client_id, e.object, e.address, e.refused, e.reason, e.trace_id, e.attempt
FROM (SELECT project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt
      FROM event
      WHERE project_id = @project_id AND refused AND id < @before AND id >= @oldest
      ORDER BY id DESC LIMIT @looked) AS e
WHERE (CAST(@kinds AS text) = '' OR replace(@kinds, ' ' || e.kind || ' ', '') <> @kinds)
  AND (CAST(@client_id AS text) = '' OR e.client_id = @client_id)
  AND (CAST(@actor AS text) = '' OR e.actor = @actor)
  AND (CAST(@object AS text) = '' OR e.object = @object)
ORDER BY e.id DESC LIMIT @max_rows;

-- name: EventsByKind :many
SELECT e.project_id, e.id, e.occurred_at, e.kind, e.actor, e.subject, e.client_id, e.object, e.address, e.refused, e.reason, e.trace_id, e.attempt
FROM (SELECT project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt
      FROM event
      WHERE project_id = @project_id AND (kind, id) < (@kind, @before) AND (kind, id) >= (@kind, @oldest)
      ORDER BY kind DESC, id DESC LIMIT @looked) AS e
WHERE (CAST(@subject AS text) = '' OR e.subject = @subject)
  AND (CAST(@client_id AS text) = '' OR e.client_id = @client_id)
  AND (CAST(@actor AS text) = '' OR e.actor = @actor)
  AND (CAST(@object AS text) = '' OR e.object = @object)
  AND (NOT CAST(@refused_only AS boolean) OR e.refused)
ORDER BY e.id DESC LIMIT @max_rows;

-- name: EventsByClient :many
SELECT e.project_id, e.id, e.occurred_at, e.kind, e.actor, e.subject, e.client_id, e.object, e.address, e.refused, e.reason, e.trace_id, e.attempt
FROM (SELECT project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt
      FROM event
      WHERE project_id = @project_id AND client_id <> '' AND kind <> 'token.refreshed' AND (client_id, id) < (@client_id, @before) AND (client_id, id) >= (@client_id, @oldest)
      ORDER BY client_id DESC, id DESC LIMIT @looked) AS e
WHERE (CAST(@kinds AS text) = '' OR replace(@kinds, ' ' || e.kind || ' ', '') <> @kinds)
  AND (CAST(@actor AS text) = '' OR e.actor = @actor)
  AND (CAST(@object AS text) = '' OR e.object = @object)
ORDER BY e.id DESC LIMIT @max_rows;

-- name: EventsBySubject :many
SELECT e.project_id, e.id, e.occurred_at, e.kind, e.actor, e.subject, e.client_id, e.object, e.address, e.refused, e.reason, e.trace_id, e.attempt
FROM (SELECT project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt
      FROM event
      WHERE project_id = @project_id AND subject <> '' AND kind <> 'token.refreshed' AND (subject, id) < (@subject, @before) AND (subject, id) >= (@subject, @oldest)
      ORDER BY subject DESC, id DESC LIMIT @looked) AS e
WHERE (CAST(@kinds AS text) = '' OR replace(@kinds, ' ' || e.kind || ' ', '') <> @kinds)
  AND (CAST(@client_id AS text) = '' OR e.client_id = @client_id)
  AND (CAST(@actor AS text) = '' OR e.actor = @actor)
  AND (CAST(@object AS text) = '' OR e.object = @object)
  AND (NOT CAST(@refused_only AS boolean) OR e.refused)
ORDER BY e.id DESC LIMIT @max_rows;

-- How far back the first so many events of an index reach.

-- name: LookBackByProject :one
SELECT id
FROM event
WHERE project_id = @project_id AND id < @before AND id >= @oldest
ORDER BY id DESC LIMIT 1 OFFSET @looked;

-- name: LookBackByRefused :one
SELECT id
FROM event
WHERE project_id = @project_id AND refused AND id < @before AND id >= @oldest
ORDER BY id DESC LIMIT 1 OFFSET @looked;

-- name: LookBackByKind :one
SELECT id
FROM event
WHERE project_id = @project_id AND (kind, id) < (@kind, @before) AND (kind, id) >= (@kind, @oldest)
ORDER BY kind DESC, id DESC LIMIT 1 OFFSET @looked;

-- name: LookBackByClient :one
SELECT id
FROM event
WHERE project_id = @project_id AND client_id <> '' AND kind <> 'token.refreshed' AND (client_id, id) < (@client_id, @before) AND (client_id, id) >= (@client_id, @oldest)
ORDER BY client_id DESC, id DESC LIMIT 1 OFFSET @looked;

-- name: LookBackBySubject :one
SELECT id
FROM event
WHERE project_id = @project_id AND subject <> '' AND kind <> 'token.refreshed' AND (subject, id) < (@subject, @before) AND (subject, id) >= (@subject, @oldest)
ORDER BY subject DESC, id DESC LIMIT 1 OFFSET @looked;

-- name: EventsAfter :many
SELECT project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt
FROM event
WHERE project_id = @project_id AND id > @after
ORDER BY id LIMIT @max_rows;

-- name: CountEvents :one
SELECT count(*) FROM event
WHERE project_id = @project_id AND kind = @kind AND id >= @since AND id < @until;

-- name: CountRefusals :one
SELECT count(*) FROM event
WHERE project_id = @project_id AND refused AND id >= @since AND id < @until;

-- RefusalCauses groups the newest refusals by what they have in common.
-- name: RefusalCauses :many
SELECT e.kind, e.reason, e.client_id, count(*) AS refusals, CAST(min(e.id) AS text) AS first, CAST(max(e.id) AS text) AS newest
FROM (SELECT event.kind, event.reason, event.client_id, event.id
      FROM event
      WHERE event.project_id = @project_id AND event.refused AND event.id >= @since
      ORDER BY event.id DESC LIMIT @looked) AS e
GROUP BY e.kind, e.reason, e.client_id
ORDER BY refusals DESC, newest DESC LIMIT @max_rows;

-- name: Event :one
SELECT project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt
FROM event
WHERE project_id = @project_id AND id = @id;

-- name: CreateFlow :exec
INSERT INTO flow (project_id, id, browser_hash, return_to, request, email, method_id, code_expires_at, trace_id, created_at, expires_at, decided_at)
VALUES (@project_id, @id, @browser_hash, @return_to, @request, @email, @method_id, @code_expires_at, @trace_id, @created_at, @expires_at, 0);

-- name: Flow :one
SELECT project_id, id, browser_hash, return_to, request, email, method_id, code_expires_at, trace_id, created_at, expires_at, decided_at
FROM flow WHERE project_id = @project_id AND id = @id AND expires_at > @now;

-- name: SetFlowRequest :execrows
UPDATE flow SET request = @request WHERE project_id = @project_id AND id = @id AND decided_at = 0;

-- SetFlowMethod is what makes one code of a flow work and all others dead.
-- name: SetFlowMethod :execrows
UPDATE flow SET email = @email, method_id = @method_id, code_expires_at = @code_expires_at
WHERE project_id = @project_id AND id = @id AND expires_at > @now;

-- name: ClearFlowMethod :exec
UPDATE flow SET email = '', method_id = '', code_expires_at = 0 WHERE project_id = @project_id AND id = @id;

-- name: DecideFlow :execrows
UPDATE flow SET decided_at = @now
WHERE project_id = @project_id AND id = @id AND decided_at = 0 AND expires_at > @now;

-- name: FlowDecidedAt :one
SELECT decided_at FROM flow WHERE project_id = @project_id AND id = @id;

-- name: CreateEmailCode :exec
INSERT INTO email_code (project_id, id, flow_id, email, email_folded, mac, tries, created_at, expires_at, used_at)
VALUES (@project_id, @id, @flow_id, @email, @email_folded, @mac, 0, @created_at, @expires_at, 0);

-- name: EmailCodeAddress :one
SELECT email_folded FROM email_code WHERE project_id = @project_id AND id = @id AND flow_id = @flow_id;

-- TryEmailCode counts a try and compares, in one: no row means that the code
-- does not work any more, used_at 0 that the try was wrong.
-- name: TryEmailCode :one
UPDATE email_code SET
    tries = tries + 1,
    used_at = CASE WHEN mac = @mac THEN CAST(@now AS bigint) ELSE CAST(0 AS bigint) END
WHERE email_code.project_id = @project_id AND email_code.id = @id AND email_code.flow_id = @flow_id
  AND used_at = 0 AND tries < @max_tries AND email_code.expires_at > @now
  AND EXISTS (SELECT 1 FROM flow f
              WHERE f.project_id = @project_id AND f.id = @flow_id AND f.method_id = @id AND f.expires_at > @now)
RETURNING email, email_folded, tries, used_at;

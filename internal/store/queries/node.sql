-- The deployment's servers, and what it was made for. No statement binds a
-- project.

-- name: RenewNode :exec
INSERT INTO node (id, started_at, until) VALUES (@id, @started_at, @until)
ON CONFLICT (id) DO UPDATE SET until = excluded.until;

-- name: DeleteLateNodes :exec
DELETE FROM node WHERE until <= @now;

-- name: CountNodes :one
SELECT count(*) FROM node;

-- name: DeleteNode :exec
DELETE FROM node WHERE id = @id;

-- name: Purpose :one
SELECT name FROM purpose WHERE id = 1;

-- name: KeepPurpose :exec
INSERT INTO purpose (id, name) VALUES (1, @name)
ON CONFLICT (id) DO NOTHING;

-- name: KeepPurposeOfEmpty :exec
INSERT INTO purpose (id, name)
SELECT 1, CAST(@name AS TEXT) WHERE NOT EXISTS (SELECT 1 FROM project)
ON CONFLICT (id) DO NOTHING;

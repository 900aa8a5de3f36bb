-- Keys of the deployment, which bind no project.

-- name: CreateWorkspaceKey :exec
INSERT INTO workspace_key (id, name, secret_hash, read_only, made_by, created_at, last_used_at, expires_at, revoked_at)
VALUES (@id, @name, @secret_hash, @read_only, @made_by, @created_at, 0, @expires_at, 0);

-- name: WorkspaceKey :one
SELECT id, name, secret_hash, read_only, made_by, created_at, last_used_at, expires_at, revoked_at FROM workspace_key WHERE id = @id;

-- name: WorkspaceKeys :many
SELECT id, name, secret_hash, read_only, made_by, created_at, last_used_at, expires_at, revoked_at FROM workspace_key ORDER BY id;

-- name: RevokeWorkspaceKey :execrows
UPDATE workspace_key SET revoked_at = @revoked_at
WHERE id = @id AND revoked_at = 0 AND (expires_at = 0 OR expires_at > @revoked_at);

-- name: RevokeWorkspaceKeysOf :many
UPDATE workspace_key SET revoked_at = @revoked_at
WHERE made_by = @made_by AND revoked_at = 0 AND (expires_at = 0 OR expires_at > @revoked_at)
RETURNING id;

-- name: TouchWorkspaceKey :exec
UPDATE workspace_key SET last_used_at = @used_at WHERE id = @id AND last_used_at < @used_at;

-- name: CreateProject :exec
INSERT INTO project (project_id, name, issuer, vertical, environment, public_token, secret_id, secret_hash, settings, created_at)
VALUES (@project_id, @name, @issuer, @vertical, @environment, @public_token, @secret_id, @secret_hash, @settings, @created_at);

-- name: CreateProjectHost :execrows
INSERT INTO project_host (host, project_id, is_issuer) VALUES (@host, @project_id, @is_issuer)
ON CONFLICT (host) DO NOTHING;

-- name: CreateProjectCounter :exec
INSERT INTO project_counter (project_id, change, revocation) VALUES (@project_id, 1, 0);

-- RaiseChange also is the lock under which a project is changed: it comes first.
-- name: RaiseChange :execrows
UPDATE project_counter SET change = change + 1 WHERE project_id = @project_id;

-- name: RaiseChangeFrom :execrows
UPDATE project_counter SET change = change + 1 WHERE project_id = @project_id AND change = @change;

-- name: SaveSettings :exec
UPDATE project SET name = @name, settings = @settings WHERE project_id = @project_id;

-- name: Policy :one
SELECT document FROM policy WHERE project_id = @project_id ORDER BY version DESC LIMIT 1;

-- name: CreatePolicy :exec
INSERT INTO policy (project_id, version, document, created_at)
VALUES (@project_id, @version, @document, @created_at);

-- name: ResourceAddresses :many
SELECT uri, aliases FROM resource_server WHERE project_id = @project_id;

-- name: SaveResourceServer :one
INSERT INTO resource_server (project_id, id, uri, uri_key, aliases, name, scopes, default_scopes, profile, access_token, secret_id, secret_hash, is_default, created_at)
VALUES (@project_id, @id, @uri, @uri_key, @aliases, @name, @scopes, @default_scopes, @profile, @access_token, @secret_id, @secret_hash, @is_default, @created_at)
ON CONFLICT (project_id, uri_key) DO UPDATE SET
    uri = excluded.uri, aliases = excluded.aliases, name = excluded.name, scopes = excluded.scopes, default_scopes = excluded.default_scopes,
    profile = excluded.profile, access_token = excluded.access_token, is_default = excluded.is_default,
    secret_id = CASE WHEN excluded.secret_id = '' THEN resource_server.secret_id ELSE excluded.secret_id END,
    secret_hash = CASE WHEN excluded.secret_id = '' THEN resource_server.secret_hash ELSE excluded.secret_hash END
RETURNING id;

-- name: ClearOtherDefaults :exec
UPDATE resource_server SET is_default = FALSE WHERE project_id = @project_id AND id <> @id AND is_default;

-- name: DeleteResourceServer :execrows
DELETE FROM resource_server WHERE project_id = @project_id AND uri_key = @uri_key;

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

-- name: SetProjectSecret :exec
UPDATE project SET secret_id = @secret_id, secret_hash = @secret_hash WHERE project_id = @project_id;

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

-- name: MoveResourceServer :execrows
UPDATE resource_server SET uri = @uri, uri_key = @uri_key, aliases = @aliases, name = @name
WHERE project_id = @project_id AND id = @id AND uri_key = @old_key;

-- What was decided about another server that once was at an address is not
-- about the one that comes there.
-- name: DeleteScopesOfResource :exec
DELETE FROM grant_scope WHERE project_id = @project_id AND resource = @resource;

-- name: MoveScopesOfResource :exec
UPDATE grant_scope SET resource = @resource WHERE project_id = @project_id AND resource = @old;

-- name: SetIssuer :execrows
UPDATE project SET issuer = @issuer WHERE project_id = @project_id AND issuer = @old;

-- name: DeleteProjectHosts :exec
DELETE FROM project_host WHERE project_id = @project_id AND (is_issuer OR host = @host);

-- Access is what lives of families: all of a project where resources is '', else
-- those for the addresses in it, each with a space before and behind.

-- AccessOf counts it.
-- name: AccessOf :one
SELECT count(*) AS families, count(DISTINCT f.client_id) AS clients, count(DISTINCT f.subject) AS people
FROM family f
WHERE f.project_id = @project_id AND f.expires_at > @now AND f.revoked_at = 0
  AND (CAST(@resources AS text) = '' OR replace(CAST(@resources AS text), ' ' || f.resource || ' ', '') <> @resources)
  AND (f.idle_expires_at = 0 OR f.idle_expires_at > @now);

-- AccessByClient counts the people of the clients that most of them use. It says
-- CROSS JOIN because SQLite keeps its order: it would rather walk all clients.
-- name: AccessByClient :many
SELECT sqlc.embed(c), n.people
FROM (
    SELECT f.client_id, count(DISTINCT f.subject) AS people
    FROM family f
    WHERE f.project_id = @project_id AND f.expires_at > @now AND f.revoked_at = 0
      AND (CAST(@resources AS text) = '' OR replace(CAST(@resources AS text), ' ' || f.resource || ' ', '') <> @resources)
      AND (f.idle_expires_at = 0 OR f.idle_expires_at > @now)
    GROUP BY f.client_id
) n CROSS JOIN client c
WHERE c.project_id = @project_id AND c.id = n.client_id
ORDER BY n.people DESC, c.id LIMIT @max_rows;

-- name: EndAccess :execrows
UPDATE family SET revoked_at = @now, expires_at = CAST(@now AS bigint)
WHERE project_id = @project_id AND expires_at > @now AND revoked_at = 0
  AND (CAST(@resources AS text) = '' OR replace(CAST(@resources AS text), ' ' || resource || ' ', '') <> @resources);

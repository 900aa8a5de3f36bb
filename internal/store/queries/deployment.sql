-- The deployment's own rows: the only statements that bind no project.

-- name: SchemaState :one
SELECT version, min_binary_schema FROM schema_state WHERE id = 1;

-- name: SetSchemaState :exec
INSERT INTO schema_state (id, version, min_binary_schema) VALUES (1, @version, @min_binary_schema)
ON CONFLICT (id) DO UPDATE SET version = excluded.version, min_binary_schema = excluded.min_binary_schema;

-- name: MasterKeyCheck :one
SELECT value FROM master_key_check WHERE id = 1;

-- name: KeepMasterKeyCheck :exec
INSERT INTO master_key_check (id, value) VALUES (1, @value)
ON CONFLICT (id) DO NOTHING;

-- name: ProjectIDs :many
SELECT project_id FROM project ORDER BY project_id;

-- name: Changes :many
SELECT project_id, change FROM project_counter;

-- name: Projects :many
SELECT project_id, name, issuer, vertical, environment, public_token, secret_id, secret_hash, settings, created_at
FROM project ORDER BY project_id;

-- name: ProjectHosts :many
SELECT project_id, host FROM project_host WHERE NOT is_issuer ORDER BY project_id, host;

-- name: ResourceServers :many
SELECT project_id, id, uri, aliases, name, scopes, default_scopes, profile, access_token, secret_id, secret_hash, is_default, created_at
FROM resource_server ORDER BY project_id, created_at, id;

-- name: Policies :many
SELECT p.project_id, p.document FROM policy p
WHERE p.version = (SELECT max(q.version) FROM policy q WHERE q.project_id = p.project_id);

-- name: LiveGrant :one
SELECT project_id, id, subject, organization, client_id, created_at, last_used_at, revoked_at
FROM "grant"
WHERE project_id = @project_id AND subject = @subject AND organization = @organization AND client_id = @client_id
  AND revoked_at = 0;

-- name: CreateGrant :execrows
INSERT INTO "grant" (project_id, id, subject, organization, client_id, created_at, last_used_at, revoked_at)
VALUES (@project_id, @id, @subject, @organization, @client_id, @created_at, 0, 0)
ON CONFLICT (project_id, subject, organization, client_id) DO NOTHING;

-- ReviveGrant makes a grant that was taken back a new one under the same id.
-- name: ReviveGrant :one
UPDATE "grant" SET created_at = @created_at, last_used_at = 0, revoked_at = 0
WHERE project_id = @project_id AND subject = @subject AND organization = @organization AND client_id = @client_id
  AND revoked_at <> 0
RETURNING id;

-- LockGrant changes nothing: it finds a live grant and keeps it alive to the
-- end of the transaction.
-- name: LockGrant :one
UPDATE "grant" SET revoked_at = 0
WHERE project_id = @project_id AND subject = @subject AND organization = @organization AND client_id = @client_id
  AND revoked_at = 0
RETURNING id;

-- name: LockSubjectsGrant :execrows
UPDATE "grant" SET revoked_at = 0
WHERE project_id = @project_id AND id = @id AND subject = @subject AND revoked_at = 0;

-- name: UseGrantOfCode :exec
UPDATE "grant" SET last_used_at = @now
WHERE "grant".project_id = @project_id AND revoked_at = 0
  AND "grant".id = (SELECT c.grant_id FROM code c WHERE c.project_id = @project_id AND c.id = @code_id AND c.redeemed_at = 0);

-- name: SubjectsGrant :one
SELECT revoked_at FROM "grant" WHERE project_id = @project_id AND id = @id AND subject = @subject;

-- name: RevokeGrant :execrows
UPDATE "grant" SET revoked_at = @now
WHERE project_id = @project_id AND id = @id AND subject = @subject AND revoked_at = 0;

-- name: RevokeGrantsOfSubject :many
UPDATE "grant" SET revoked_at = @now
WHERE project_id = @project_id AND subject = @subject AND revoked_at = 0
RETURNING id;

-- name: GrantByID :one
SELECT project_id, id, subject, organization, client_id, created_at, last_used_at, revoked_at
FROM "grant" WHERE project_id = @project_id AND id = @id;

-- LiveGrantsOfClient are those that were not taken back, the newest first.
-- name: LiveGrantsOfClient :many
SELECT sqlc.embed(g),
    CAST(COALESCE((SELECT max(f.rotated_at) FROM family f
        WHERE f.project_id = g.project_id AND f.grant_id = g.id AND f.rotated_at >= g.created_at), 0) AS bigint) AS refreshed_at
FROM "grant" g
WHERE g.project_id = @project_id AND g.client_id = @client_id AND g.revoked_at = 0 AND g.id < @before
ORDER BY g.id DESC LIMIT @max_rows;

-- AllowedScopesOfClient are those of the live grants from one id to another.
-- name: AllowedScopesOfClient :many
SELECT s.grant_id, s.resource, s.scope
FROM "grant" g CROSS JOIN grant_scope s
WHERE g.project_id = @project_id AND g.client_id = @client_id AND g.revoked_at = 0 AND g.id >= @first AND g.id <= @last
  AND s.project_id = g.project_id AND s.grant_id = g.id AND s.allowed
ORDER BY s.grant_id, s.resource, s.scope;

-- SomeLiveGrantsOfClient are counted in Go. The order keeps PostgreSQL to the
-- index: for any few rows it would rather read the table.
-- name: SomeLiveGrantsOfClient :many
SELECT id FROM "grant"
WHERE project_id = @project_id AND client_id = @client_id AND revoked_at = 0 ORDER BY id LIMIT @max_rows;

-- name: RevokeGrantsOfClient :many
UPDATE "grant" SET revoked_at = @now
WHERE project_id = @project_id AND client_id = @client_id AND revoked_at = 0
RETURNING id;

-- name: GrantsOfSubject :many
SELECT id FROM "grant" WHERE project_id = @project_id AND subject = @subject;

-- name: DeleteGrantsOfSubject :exec
DELETE FROM "grant" WHERE project_id = @project_id AND subject = @subject;

-- name: GrantsOfClient :many
SELECT id FROM "grant" WHERE project_id = @project_id AND client_id = @client_id;

-- name: DeleteGrantsOfClient :exec
DELETE FROM "grant" WHERE project_id = @project_id AND client_id = @client_id;

-- name: GrantScopes :many
SELECT resource, scope, allowed, consent_hash, decided_at FROM grant_scope
WHERE project_id = @project_id AND grant_id = @grant_id AND resource = @resource ORDER BY scope;

-- GrantScopesOfSubject says CROSS JOIN because SQLite keeps its order: it would
-- rather walk the scopes of the whole project.
-- name: GrantScopesOfSubject :many
SELECT s.grant_id, s.resource, s.scope, s.allowed, s.consent_hash, s.decided_at
FROM "grant" g CROSS JOIN grant_scope s
WHERE g.project_id = @project_id AND g.subject = @subject AND g.organization = @organization
  AND s.project_id = g.project_id AND s.grant_id = g.id;

-- name: SaveGrantScope :exec
INSERT INTO grant_scope (project_id, grant_id, resource, scope, allowed, consent_hash, decided_at)
VALUES (@project_id, @grant_id, @resource, @scope, @allowed, @consent_hash, @decided_at)
ON CONFLICT (project_id, grant_id, resource, scope) DO UPDATE SET
    allowed = excluded.allowed, consent_hash = excluded.consent_hash, decided_at = excluded.decided_at;

-- name: DeclineGrantScope :exec
UPDATE grant_scope SET allowed = FALSE, decided_at = @now
WHERE project_id = @project_id AND grant_id = @grant_id AND scope = @scope AND allowed;

-- name: DeleteGrantScopes :exec
DELETE FROM grant_scope WHERE project_id = @project_id AND grant_id = @grant_id;

-- ConnectedApps adds 0 under max so that SQLite finds the families by grant: it
-- would rather walk all families by expiry.
-- name: ConnectedApps :many
SELECT sqlc.embed(g), sqlc.embed(c),
    CAST(COALESCE((SELECT max(f.expires_at + 0) FROM family f
        WHERE f.project_id = g.project_id AND f.grant_id = g.id AND f.revoked_at = 0 AND g.revoked_at = 0), 0) AS bigint) AS expires_at,
    CAST(COALESCE((SELECT max(f.idle_expires_at) FROM family f
        WHERE f.project_id = g.project_id AND f.grant_id = g.id AND f.revoked_at = 0 AND g.revoked_at = 0), 0) AS bigint) AS idle_expires_at,
    CAST(COALESCE((SELECT max(f.rotated_at) FROM family f
        WHERE f.project_id = g.project_id AND f.grant_id = g.id AND f.rotated_at >= g.created_at), 0) AS bigint) AS refreshed_at
FROM "grant" g JOIN client c ON c.project_id = g.project_id AND c.id = g.client_id
WHERE g.project_id = @project_id AND g.subject = @subject AND g.organization = @organization
  AND (g.revoked_at = 0 OR g.revoked_at > @since)
ORDER BY CASE WHEN g.revoked_at = 0 THEN 0 ELSE 1 END, g.created_at DESC, g.id DESC;

-- What members of one organization allowed. Statements name organization <> ''
-- so that the index that leaves consumer projects out is used.

-- OrganizationGrants are the live ones, by connected app.
-- name: OrganizationGrants :many
SELECT sqlc.embed(g), sqlc.embed(c),
    CAST(COALESCE((SELECT max(f.rotated_at) FROM family f
        WHERE f.project_id = g.project_id AND f.grant_id = g.id AND f.rotated_at >= g.created_at), 0) AS bigint) AS refreshed_at
FROM "grant" g JOIN client c ON c.project_id = g.project_id AND c.id = g.client_id
WHERE g.project_id = @project_id AND g.organization = @organization AND g.organization <> '' AND g.revoked_at = 0
  AND (g.client_id, g.id) > (@after_client, @after)
ORDER BY g.client_id, g.id LIMIT @max_rows;

-- name: OrganizationGrant :one
SELECT project_id, id, subject, organization, client_id, created_at, last_used_at, revoked_at
FROM "grant" WHERE project_id = @project_id AND id = @id AND organization = @organization;

-- name: AllowedScopes :many
SELECT resource, scope FROM grant_scope WHERE project_id = @project_id AND grant_id = @grant_id AND allowed ORDER BY resource, scope;

-- OrganizationClients are the connected apps that a member of the organization
-- ever allowed.
-- name: OrganizationClients :many
SELECT sqlc.embed(c) FROM client c
WHERE c.project_id = @project_id AND c.id IN (
    SELECT g.client_id FROM "grant" g
    WHERE g.project_id = @project_id AND g.organization = @organization AND g.organization <> '')
ORDER BY c.id LIMIT @max_rows;

-- name: RevokeGrantsOfOrganization :many
UPDATE "grant" SET revoked_at = @now
WHERE project_id = @project_id AND organization = @organization AND organization <> '' AND client_id = @client_id AND revoked_at = 0
RETURNING id;

-- name: SaveClientLogo :exec
INSERT INTO client_logo (project_id, client_id, digest, png) VALUES (@project_id, @client_id, @digest, @png)
ON CONFLICT (project_id, client_id) DO UPDATE SET digest = excluded.digest, png = excluded.png;

-- name: DeleteClientLogo :exec
DELETE FROM client_logo WHERE project_id = @project_id AND client_id = @client_id;

-- name: SaveProjectLogo :exec
INSERT INTO project_logo (project_id, digest, png) VALUES (@project_id, @digest, @png)
ON CONFLICT (project_id) DO UPDATE SET digest = excluded.digest, png = excluded.png;

-- name: DeleteProjectLogo :exec
DELETE FROM project_logo WHERE project_id = @project_id;

-- name: ClientLogo :one
SELECT png FROM client_logo WHERE project_id = @project_id AND digest = @digest LIMIT 1;

-- name: ProjectLogo :one
SELECT png FROM project_logo WHERE project_id = @project_id AND digest = @digest;

-- name: ProjectLogos :many
SELECT project_id, digest FROM project_logo;

-- name: SetOrganizationLogo :execrows
UPDATE organization SET logo = @logo, version = version + 1, updated_at = @updated_at WHERE project_id = @project_id AND id = @id;

-- name: SaveOrganizationLogo :exec
INSERT INTO organization_logo (project_id, organization_id, digest, png) VALUES (@project_id, @organization_id, @digest, @png)
ON CONFLICT (project_id, organization_id) DO UPDATE SET digest = excluded.digest, png = excluded.png;

-- name: DeleteOrganizationLogo :exec
DELETE FROM organization_logo WHERE project_id = @project_id AND organization_id = @organization_id;

-- name: OrganizationLogo :one
SELECT png FROM organization_logo WHERE project_id = @project_id AND digest = @digest LIMIT 1;

-- name: Client :one
SELECT project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo
FROM client WHERE project_id = @project_id AND id = @id;

-- name: ClientByURL :one
SELECT project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo
FROM client WHERE project_id = @project_id AND url = @url AND url <> '';

-- name: Clients :many
SELECT project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo
FROM client WHERE project_id = @project_id AND id > @after ORDER BY id LIMIT @max_rows;

-- name: CreateClient :exec
INSERT INTO client (project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo)
VALUES (@project_id, @id, @url, @type, @creation, @metadata, @metadata_hash, FALSE, @secret_id, @secret_hash, @secret_last4, @bypass_consent, @blocked, @created_at, @last_registered_at, @fetched_at, @fresh_until, 0, '');

-- name: MergeClient :one
INSERT INTO client (project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo)
VALUES (@project_id, @id, '', @type, @creation, @metadata, @metadata_hash, TRUE, '', NULL, '', FALSE, FALSE, @created_at, @last_registered_at, 0, 0, 0, '')
ON CONFLICT (project_id, metadata_hash) WHERE merged DO UPDATE SET last_registered_at = excluded.last_registered_at
RETURNING project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo;

-- SaveDocumentClient replaces what the document said; what an operator decided
-- (blocked, bypass_consent) and when we first saw it stay.
-- name: SaveDocumentClient :one
INSERT INTO client (project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo)
VALUES (@project_id, @id, @url, @type, @creation, @metadata, @metadata_hash, FALSE, '', NULL, '', @bypass_consent, @blocked, @created_at, @last_registered_at, @fetched_at, @fresh_until, @copied_at, @logo)
ON CONFLICT (project_id, url) WHERE url <> '' DO UPDATE SET
    type = excluded.type, creation = excluded.creation, metadata = excluded.metadata, metadata_hash = excluded.metadata_hash,
    last_registered_at = excluded.last_registered_at, fetched_at = excluded.fetched_at, fresh_until = excluded.fresh_until,
    copied_at = excluded.copied_at, logo = excluded.logo
RETURNING project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo;

-- name: SetClientSecret :execrows
UPDATE client SET secret_id = @secret_id, secret_hash = @secret_hash, secret_last4 = ''
WHERE project_id = @project_id AND id = @id;

-- name: DeleteClient :execrows
DELETE FROM client WHERE project_id = @project_id AND id = @id;

-- name: ExpireClients :many
DELETE FROM client
WHERE client.project_id = @project_id AND client.id IN (
        SELECT c.id FROM client c
        WHERE c.project_id = @project_id AND c.creation <> 'preregistered' AND c.last_registered_at < @before
          AND NOT EXISTS (SELECT 1 FROM "grant" g WHERE g.project_id = @project_id AND g.client_id = c.id)
        ORDER BY c.last_registered_at LIMIT @max_rows)
  AND client.last_registered_at < @before
RETURNING id;

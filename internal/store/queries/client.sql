-- name: Client :one
SELECT project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded
FROM client WHERE project_id = @project_id AND id = @id;

-- name: ClientByURL :one
SELECT project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded
FROM client WHERE project_id = @project_id AND url = @url AND url <> '';

-- name: Clients :many
SELECT project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded
FROM client WHERE project_id = @project_id AND id > @after ORDER BY id LIMIT @max_rows;

-- The lists by name: all whose folded name begins with a text, or those of them
-- that are of one kind. Each has its index.
-- name: ClientsByName :many
SELECT project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded
FROM client WHERE project_id = @project_id
  AND (name_folded, id) > (@after_name, @after) AND name_folded < @below_text
ORDER BY name_folded, id LIMIT @max_rows;

-- name: ClientsOfCreation :many
SELECT project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded
FROM client WHERE project_id = @project_id AND creation = @creation
  AND (name_folded, id) > (@after_name, @after) AND name_folded < @below_text
ORDER BY name_folded, id LIMIT @max_rows;

-- name: ClientsOfType :many
SELECT project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded
FROM client WHERE project_id = @project_id AND type = @type
  AND (name_folded, id) > (@after_name, @after) AND name_folded < @below_text
ORDER BY name_folded, id LIMIT @max_rows;

-- name: BlockedClients :many
SELECT project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded
FROM client WHERE project_id = @project_id AND blocked
  AND (name_folded, id) > (@after_name, @after) AND name_folded < @below_text
ORDER BY name_folded, id LIMIT @max_rows;

-- ChangeClient replaces what a client says of itself, if that is still what was
-- read.
-- name: ChangeClient :execrows
UPDATE client SET metadata = @metadata, metadata_hash = @metadata_hash, name_folded = @name_folded, bypass_consent = @bypass_consent
WHERE project_id = @project_id AND id = @id AND metadata_hash = @metadata_hash_before AND bypass_consent = @bypass_consent_before;

-- name: SetClientBlocked :execrows
UPDATE client SET blocked = @blocked WHERE project_id = @project_id AND id = @id AND blocked <> @blocked;

-- name: ClientBlocked :one
SELECT blocked FROM client WHERE project_id = @project_id AND id = @id;

-- name: CreateClient :exec
INSERT INTO client (project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded)
VALUES (@project_id, @id, @url, @type, @creation, @metadata, @metadata_hash, FALSE, @secret_id, @secret_hash, @secret_last4, @rat_id, @rat_hash, @bypass_consent, @blocked, @created_at, @last_registered_at, @fetched_at, @fresh_until, 0, '', @name_folded);

-- name: MergeClient :one
INSERT INTO client (project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded)
VALUES (@project_id, @id, '', @type, @creation, @metadata, @metadata_hash, TRUE, '', NULL, '', '', NULL, FALSE, FALSE, @created_at, @last_registered_at, 0, 0, 0, '', @name_folded)
ON CONFLICT (project_id, metadata_hash) WHERE merged DO UPDATE SET last_registered_at = excluded.last_registered_at
RETURNING id, created_at;

-- SaveDocumentClient replaces what the document said; what an operator decided
-- (blocked, bypass_consent) and when we first saw it stay.
-- name: SaveDocumentClient :one
INSERT INTO client (project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded)
VALUES (@project_id, @id, @url, @type, @creation, @metadata, @metadata_hash, FALSE, '', NULL, '', '', NULL, @bypass_consent, @blocked, @created_at, @last_registered_at, @fetched_at, @fresh_until, @copied_at, @logo, @name_folded)
ON CONFLICT (project_id, url) WHERE url <> '' DO UPDATE SET
    type = excluded.type, creation = excluded.creation, metadata = excluded.metadata, metadata_hash = excluded.metadata_hash,
    last_registered_at = excluded.last_registered_at, fetched_at = excluded.fetched_at, fresh_until = excluded.fresh_until,
    copied_at = excluded.copied_at, logo = excluded.logo, name_folded = excluded.name_folded
RETURNING project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded;

-- name: SetClientSecret :execrows
UPDATE client SET secret_id = @secret_id, secret_hash = @secret_hash, secret_last4 = ''
WHERE project_id = @project_id AND id = @id;

-- name: DeleteClient :execrows
DELETE FROM client WHERE project_id = @project_id AND id = @id;

-- ReplaceOwnClient is a client's own change of its registration. Its registration
-- access token is good for one; so of any number of calls with one token one
-- changes a row.
-- name: ReplaceOwnClient :execrows
UPDATE client SET metadata = @metadata, metadata_hash = @metadata_hash, name_folded = @name_folded,
    secret_id = @secret_id, secret_hash = @secret_hash, secret_last4 = @secret_last4,
    rat_id = @rat_id, rat_hash = @rat_hash, last_registered_at = @last_registered_at
WHERE project_id = @project_id AND id = @id AND rat_id = @rat_id_before AND rat_hash = @rat_hash_before
  AND secret_id = @secret_id_before AND NOT blocked;

-- TakeOwnToken is the first step of a client that deletes itself: whoever took its
-- token may.
-- name: TakeOwnToken :execrows
UPDATE client SET rat_id = '', rat_hash = NULL
WHERE project_id = @project_id AND id = @id AND rat_id = @rat_id AND rat_hash = @rat_hash AND NOT blocked;

-- name: ExpireClients :many
DELETE FROM client
WHERE client.project_id = @project_id AND client.id IN (
        SELECT c.id FROM client c
        WHERE c.project_id = @project_id AND c.creation <> 'preregistered' AND NOT c.blocked AND c.last_registered_at < @before
          AND NOT EXISTS (SELECT 1 FROM "grant" g WHERE g.project_id = @project_id AND g.client_id = c.id)
        ORDER BY c.last_registered_at LIMIT @max_rows)
  AND client.last_registered_at < @before
RETURNING id;

-- UseAssertion changes no row when the assertion was used before.
-- name: UseAssertion :execrows
INSERT INTO client_assertion (project_id, client_id, jti_hash, until)
VALUES (@project_id, @client_id, @jti_hash, @until)
ON CONFLICT (project_id, client_id, jti_hash) DO NOTHING;

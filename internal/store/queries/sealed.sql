-- The columns that are sealed under the master key: read from end to end, and
-- replaced where they are still as they were read.

-- name: SealedSigningKeys :many
SELECT project_id, id, private_key FROM signing_key
WHERE (project_id, id) > (@project_id, @id) ORDER BY project_id, id LIMIT @max_rows;

-- name: ResealSigningKey :execrows
UPDATE signing_key SET private_key = @sealed WHERE project_id = @project_id AND id = @id AND private_key = @was;

-- name: SealedConnections :many
SELECT project_id, id, client_secret FROM sso_connection
WHERE (project_id, id) > (@project_id, @id) ORDER BY project_id, id LIMIT @max_rows;

-- name: ResealConnection :execrows
UPDATE sso_connection SET client_secret = @sealed WHERE project_id = @project_id AND id = @id AND client_secret = @was;

-- name: SealedProofs :many
SELECT project_id, number, proof FROM event_seal
WHERE (project_id, number) > (@project_id, CAST(@number AS bigint)) ORDER BY project_id, number LIMIT @max_rows;

-- name: ResealProof :execrows
UPDATE event_seal SET proof = @sealed WHERE project_id = @project_id AND number = @number AND proof = @was;

-- name: SealedAdministrators :many
SELECT id, totp_secret FROM administrator
WHERE id > @id ORDER BY id LIMIT @max_rows;

-- name: ResealAdministrator :execrows
UPDATE administrator SET totp_secret = @sealed WHERE id = @id AND totp_secret = @was;

-- name: SealedCeremonies :many
SELECT id, state FROM administrator_ceremony
WHERE id > @id ORDER BY id LIMIT @max_rows;

-- name: ResealCeremony :execrows
UPDATE administrator_ceremony SET state = @sealed WHERE id = @id AND state = @was;

-- name: ReplaceMasterKeyCheck :execrows
UPDATE master_key_check SET value = @value WHERE id = 1 AND value = @was;

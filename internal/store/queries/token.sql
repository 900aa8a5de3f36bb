-- name: CreateCode :exec
INSERT INTO code (project_id, id, hash, client_id, grant_id, subject, organization, session_id, redirect_uri, challenge, resource, scopes, nonce, auth_time, created_at, expires_at, tries, redeemed_at, family_id, attempt)
VALUES (@project_id, @id, @hash, @client_id, @grant_id, @subject, @organization, @session_id, @redirect_uri, @challenge, @resource, @scopes, @nonce, @auth_time, @created_at, @expires_at, 0, 0, '', @attempt);

-- name: Code :one
SELECT project_id, id, hash, client_id, grant_id, subject, organization, session_id, redirect_uri, challenge, resource, scopes, nonce, auth_time, created_at, expires_at, tries, redeemed_at, family_id, attempt,
    CAST(CASE WHEN EXISTS (SELECT 1 FROM "user" u WHERE u.project_id = code.project_id AND u.id = code.subject AND u.active) THEN 1 ELSE 0 END AS bigint) AS person_active
FROM code WHERE code.project_id = @project_id AND code.id = @id;

-- name: CountCodeTry :execrows
UPDATE code SET tries = tries + 1 WHERE project_id = @project_id AND id = @id;

-- RedeemCode is the one statement that uses a code up.
-- name: RedeemCode :execrows
UPDATE code SET redeemed_at = @now, family_id = @family_id
WHERE code.project_id = @project_id AND code.id = @id AND code.client_id = @client_id AND code.grant_id = @grant_id
  AND redeemed_at = 0 AND expires_at > @now AND tries < 5
  AND EXISTS (SELECT 1 FROM "grant" g WHERE g.project_id = @project_id AND g.id = @grant_id AND g.revoked_at = 0);

-- name: DeleteUnusedCodes :exec
DELETE FROM code WHERE project_id = @project_id AND grant_id = @grant_id AND redeemed_at = 0;

-- name: DeleteCodesOfGrant :exec
DELETE FROM code WHERE project_id = @project_id AND grant_id = @grant_id;

-- name: CreateFamily :exec
INSERT INTO family (project_id, id, grant_id, client_id, subject, organization, session_id, resource, scopes, nonce, auth_time, created_at, expires_at, revoked_at, attempt, series_hash, auth_method, refresh_hash, idle_expires_at, previous_hash, rotated_at, replay)
VALUES (@project_id, @id, @grant_id, @client_id, @subject, @organization, @session_id, @resource, @scopes, @nonce, @auth_time, @created_at, @expires_at, 0, @attempt, @series_hash, @auth_method, @refresh_hash, @idle_expires_at, @previous_hash, 0, NULL);

-- OldestFamilies are the live families of a grant but for the newest ones. The end
-- is an expression: SQLite would rather walk all that live in the project.
-- name: OldestFamilies :many
SELECT id FROM family
WHERE project_id = @project_id AND grant_id = @grant_id AND revoked_at = 0 AND expires_at + 0 > @now
ORDER BY created_at DESC, id DESC LIMIT 1000 OFFSET @keep;

-- A family that is revoked also ends, so that its rows are cleaned up in time.
-- name: RevokeFamily :execrows
UPDATE family SET revoked_at = @now, expires_at = CASE WHEN expires_at > @now THEN CAST(@now AS bigint) ELSE expires_at END
WHERE project_id = @project_id AND id = @id AND revoked_at = 0;

-- name: RevokeFamiliesOfGrant :many
UPDATE family SET revoked_at = @now, expires_at = CASE WHEN expires_at > @now THEN CAST(@now AS bigint) ELSE expires_at END
WHERE project_id = @project_id AND grant_id = @grant_id AND revoked_at = 0
RETURNING id;

-- A family ends in one transaction with whatever it rests on, its grant, which is
-- locked while a family is made, its person or its client; the grant is not read
-- for each of its tokens, then. That the person is not locked and the client not
-- blocked is looked up all the same, in the indexes of those who are, user_locked
-- and client_barred: adding '' keeps SQLite from the key of everybody, which is a
-- page or two of a large file that nobody needed yet.

-- Family is read for every refresh. It names what is needed then, and joins what can
-- be one column, for each of them costs time.
-- name: Family :one
SELECT f.grant_id, f.subject, f.organization, f.session_id, f.resource, f.scopes, f.auth_time, f.expires_at,
    f.series_hash, f.auth_method, f.refresh_hash,
    CAST(CASE WHEN f.rotated_at = 0 THEN f.created_at ELSE f.rotated_at END AS bigint) AS issued_at,
    CAST(CASE WHEN f.revoked_at = 0 THEN f.idle_expires_at ELSE 0 END AS bigint) AS idle_expires_at,
    CAST(CASE WHEN EXISTS (SELECT 1 FROM "user" u WHERE u.project_id || '' = f.project_id AND u.id = f.subject AND NOT u.active) THEN 0 ELSE 1 END AS bigint) AS person_active,
    f.client_id, c.url, c.type, c.creation, c.metadata, c.secret_id, c.secret_hash, c.blocked
FROM family f
JOIN client c ON c.project_id = f.project_id AND c.id = f.client_id
WHERE f.project_id = @project_id AND f.id = @id;

-- RotateFamily is the one statement that rotates a refresh token, while it is the
-- live one.
-- name: RotateFamily :execrows
UPDATE family SET refresh_hash = @successor_hash, idle_expires_at = @idle_expires_at, previous_hash = @refresh_hash, rotated_at = @now, replay = @replay
WHERE family.project_id = @project_id AND family.id = @id AND refresh_hash = @refresh_hash
  AND revoked_at = 0 AND expires_at > @now AND idle_expires_at > @now;

-- Replay is what decides about a refresh token that could not be rotated.
-- name: Replay :one
SELECT refresh_hash, previous_hash, expires_at, revoked_at, rotated_at, replay
FROM family WHERE project_id = @project_id AND id = @id;

-- Live is the one read of introspection, without a row where the token is not
-- alive; the type is of a member's client. Whether a member may still do anything is
-- more than a column: that is asked elsewhere.
-- name: Live :one
SELECT f.client_id, f.organization, f.attempt,
    CAST(CASE WHEN f.organization = '' THEN '' ELSE (SELECT c.type FROM client c WHERE c.project_id = f.project_id AND c.id = f.client_id) END AS text) AS client_type
FROM family f
WHERE f.project_id = @project_id AND f.id = @id AND f.revoked_at = 0
  AND NOT EXISTS (SELECT 1 FROM revoked_token r WHERE r.project_id = @project_id AND r.jti = @jti)
  AND NOT EXISTS (SELECT 1 FROM client b WHERE b.project_id || '' = f.project_id AND b.id = f.client_id AND b.blocked)
  AND NOT EXISTS (SELECT 1 FROM "user" u WHERE u.project_id || '' = f.project_id AND u.id = f.subject AND NOT u.active);

-- name: RevokeToken :execrows
INSERT INTO revoked_token (project_id, jti, until) VALUES (@project_id, @jti, @until)
ON CONFLICT (project_id, jti) DO NOTHING;

-- RaiseRevocation takes the next n numbers of the feed; the row stays locked to
-- the end of the transaction, so that numbers become visible in their order.
-- name: RaiseRevocation :one
UPDATE project_counter SET revocation = revocation + @n WHERE project_id = @project_id
RETURNING revocation;

-- name: CreateRevocation :exec
INSERT INTO revocation (project_id, sequence, kind, value, until, created_at)
VALUES (@project_id, @sequence, @kind, @value, @until, @created_at);

-- name: CreateCode :exec
INSERT INTO code (project_id, id, hash, client_id, grant_id, subject, organization, session_id, redirect_uri, challenge, resource, scopes, nonce, auth_time, created_at, expires_at, tries, redeemed_at, family_id, attempt)
VALUES (@project_id, @id, @hash, @client_id, @grant_id, @subject, @organization, @session_id, @redirect_uri, @challenge, @resource, @scopes, @nonce, @auth_time, @created_at, @expires_at, 0, 0, '', @attempt);

-- name: Code :one
SELECT project_id, id, hash, client_id, grant_id, subject, organization, session_id, redirect_uri, challenge, resource, scopes, nonce, auth_time, created_at, expires_at, tries, redeemed_at, family_id, attempt
FROM code WHERE project_id = @project_id AND id = @id;

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
INSERT INTO family (project_id, id, grant_id, client_id, subject, organization, session_id, resource, scopes, nonce, auth_time, generation, created_at, expires_at, revoked_at, attempt)
VALUES (@project_id, @id, @grant_id, @client_id, @subject, @organization, @session_id, @resource, @scopes, @nonce, @auth_time, @generation, @created_at, @expires_at, 0, @attempt);

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

-- name: CreateRefreshToken :exec
INSERT INTO refresh_token (project_id, id, family_id, generation, hash, auth_method, created_at, expires_at, rotated_at, successor_id, replay)
VALUES (@project_id, @id, @family_id, @generation, @hash, @auth_method, @created_at, @expires_at, 0, '', NULL);

-- name: RefreshToken :one
SELECT sqlc.embed(t), sqlc.embed(f), sqlc.embed(g)
FROM refresh_token t
JOIN family f ON f.project_id = t.project_id AND f.id = t.family_id
JOIN "grant" g ON g.project_id = f.project_id AND g.id = f.grant_id
WHERE t.project_id = @project_id AND t.id = @id;

-- RotateRefresh is the one statement that rotates a refresh token.
-- name: RotateRefresh :one
UPDATE refresh_token SET rotated_at = @now, successor_id = @successor_id, replay = @replay
WHERE refresh_token.project_id = @project_id AND refresh_token.id = @id
  AND rotated_at = 0 AND refresh_token.expires_at > @now
  AND EXISTS (SELECT 1 FROM family f JOIN "grant" g ON g.project_id = f.project_id AND g.id = f.grant_id
              WHERE f.project_id = @project_id AND f.id = refresh_token.family_id
                AND f.revoked_at = 0 AND f.expires_at > @now AND g.revoked_at = 0)
RETURNING family_id, generation;

-- RaiseGeneration holds the family alive to the end of the transaction.
-- name: RaiseGeneration :execrows
UPDATE family SET generation = generation + 1
WHERE project_id = @project_id AND id = @id AND generation = @generation AND revoked_at = 0;

-- name: RefreshTokenAfter :one
SELECT auth_method, rotated_at FROM refresh_token
WHERE project_id = @project_id AND family_id = @family_id AND generation = @generation;

-- name: ForgetReplay :exec
UPDATE refresh_token SET replay = NULL
WHERE project_id = @project_id AND family_id = @family_id AND generation = @generation AND replay IS NOT NULL;

-- DeleteOldGenerations takes away the oldest two generations of a family, if
-- they have run out: a family that refreshes for months stays small.
-- name: DeleteOldGenerations :exec
DELETE FROM refresh_token
WHERE refresh_token.project_id = @project_id
  AND refresh_token.id IN (SELECT t.id FROM refresh_token t
                           WHERE t.project_id = @project_id AND t.family_id = @family_id ORDER BY t.generation LIMIT 2)
  AND refresh_token.rotated_at <> 0 AND refresh_token.expires_at <= @now;

-- Live is the one read of introspection.
-- name: Live :one
SELECT sqlc.embed(f), sqlc.embed(g), c.type AS client_type,
    CAST(CASE WHEN f.revoked_at = 0 AND g.revoked_at = 0 AND NOT c.blocked
        AND NOT EXISTS (SELECT 1 FROM revoked_token r WHERE r.project_id = @project_id AND r.jti = @jti)
        THEN 1 ELSE 0 END AS bigint) AS alive
FROM family f
JOIN "grant" g ON g.project_id = f.project_id AND g.id = f.grant_id
JOIN client c ON c.project_id = f.project_id AND c.id = f.client_id
WHERE f.project_id = @project_id AND f.id = @id;

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

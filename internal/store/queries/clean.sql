-- What has run out, a few rows at a time (LIMIT in the subselect: DELETE has
-- none on either database). Where all rows live about as long, the oldest by
-- key are looked at and no index is needed.

-- CleanFlows takes the codes sent for a flow with it.
-- name: CleanFlows :execrows
DELETE FROM flow WHERE flow.project_id = @project_id AND flow.expires_at <= @before AND flow.id IN (
    SELECT f.id FROM flow f WHERE f.project_id = @project_id ORDER BY f.id LIMIT @max_rows);

-- name: CleanCodes :execrows
DELETE FROM code WHERE code.project_id = @project_id AND code.expires_at <= @before AND code.id IN (
    SELECT c.id FROM code c WHERE c.project_id = @project_id ORDER BY c.id LIMIT @max_rows);

-- name: CleanAttempts :execrows
DELETE FROM attempt WHERE attempt.project_id = @project_id AND attempt.started_at <= @before AND attempt.id IN (
    SELECT a.id FROM attempt a WHERE a.project_id = @project_id ORDER BY a.id LIMIT @max_rows);

-- name: CleanSessions :execrows
DELETE FROM session WHERE session.project_id = @project_id AND session.id IN (
    SELECT s.id FROM session s WHERE s.project_id = @project_id AND s.idle_expires_at <= @before ORDER BY s.idle_expires_at LIMIT @max_rows);

-- name: CleanBrowsers :execrows
DELETE FROM browser WHERE browser.project_id = @project_id AND browser.id IN (
    SELECT b.id FROM browser b WHERE b.project_id = @project_id AND b.idle_expires_at <= @before ORDER BY b.idle_expires_at LIMIT @max_rows);

-- name: CleanFamilies :many
DELETE FROM family WHERE family.project_id = @project_id AND family.id IN (
    SELECT f.id FROM family f WHERE f.project_id = @project_id AND f.expires_at <= @before ORDER BY f.expires_at LIMIT @max_rows)
RETURNING grant_id, rotated_at;

-- KeepLastUse keeps of a family that is deleted when its grant was used last,
-- unless the grant was made anew since.
-- name: KeepLastUse :exec
UPDATE "grant" SET last_used_at = @used_at
WHERE project_id = @project_id AND id = @id AND last_used_at < @used_at AND created_at <= @used_at;

-- name: CleanRevokedTokens :execrows
DELETE FROM revoked_token WHERE revoked_token.project_id = @project_id AND revoked_token.jti IN (
    SELECT r.jti FROM revoked_token r WHERE r.project_id = @project_id AND r.until <= @before ORDER BY r.until LIMIT @max_rows);

-- name: CleanAssertions :execrows
DELETE FROM client_assertion WHERE client_assertion.project_id = @project_id AND client_assertion.until <= @before
  AND (client_assertion.client_id, client_assertion.jti_hash) IN (
    SELECT a.client_id, a.jti_hash FROM client_assertion a WHERE a.project_id = @project_id AND a.until <= @before ORDER BY a.until LIMIT @max_rows);

-- name: CleanRevocations :execrows
DELETE FROM revocation WHERE revocation.project_id = @project_id AND revocation.until <= @before AND revocation.sequence IN (
    SELECT r.sequence FROM revocation r WHERE r.project_id = @project_id ORDER BY r.sequence LIMIT @max_rows);

-- name: CleanCounters :execrows
DELETE FROM counter WHERE counter.project_id = @project_id AND counter.until <= @before
  AND (counter.kind, counter.key_hash) IN (
    SELECT c.kind, c.key_hash FROM counter c WHERE c.project_id = @project_id AND c.until <= @before ORDER BY c.until LIMIT @max_rows);

-- Of the deployment, which has few rows of them.

-- name: CleanAdministratorSessions :execrows
DELETE FROM administrator_session WHERE id IN (
    SELECT s.id FROM administrator_session s WHERE s.idle_expires_at <= @before ORDER BY s.idle_expires_at LIMIT @max_rows);

-- name: CleanAdministratorCeremonies :execrows
DELETE FROM administrator_ceremony WHERE id IN (
    SELECT c.id FROM administrator_ceremony c WHERE c.expires_at <= @before ORDER BY c.expires_at LIMIT @max_rows);

-- name: CleanAdministratorLinks :execrows
DELETE FROM administrator_link WHERE id IN (
    SELECT l.id FROM administrator_link l WHERE l.expires_at <= @before ORDER BY l.expires_at LIMIT @max_rows);

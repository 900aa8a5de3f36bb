-- name: Connection :one
SELECT project_id, id, organization_id, issuer, client_id, client_secret, active, provider, created_at, updated_at
FROM sso_connection WHERE project_id = @project_id AND organization_id = @organization_id;

-- Connected finds among the organizations that an address can be in.
-- name: Connected :many
SELECT m.organization_id FROM member m
WHERE m.project_id = @project_id AND m.email_folded = @email_folded AND m.status <> 'deleted'
  AND EXISTS (SELECT 1 FROM sso_connection c
              WHERE c.project_id = @project_id AND c.organization_id = m.organization_id AND c.active)
UNION ALL
SELECT d.organization_id FROM organization_domain d
WHERE d.project_id = @project_id AND d.domain = @domain
  AND EXISTS (SELECT 1 FROM sso_connection c
              WHERE c.project_id = @project_id AND c.organization_id = d.organization_id AND c.active);

-- name: CreateConnection :execrows
INSERT INTO sso_connection (project_id, id, organization_id, issuer, client_id, client_secret, active, provider, created_at, updated_at)
VALUES (@project_id, @id, @organization_id, @issuer, @client_id, @client_secret, @active, @provider, @created_at, @updated_at)
ON CONFLICT DO NOTHING;

-- name: ActivateConnection :execrows
UPDATE sso_connection SET active = TRUE, updated_at = @updated_at WHERE project_id = @project_id AND id = @id;

-- name: SaveProvider :execrows
UPDATE sso_connection SET provider = @provider, updated_at = @updated_at WHERE project_id = @project_id AND id = @id;

-- LockConnection makes sign-ins through a connection wait for each other and
-- for its end.
-- name: LockConnection :execrows
UPDATE sso_connection SET updated_at = updated_at
WHERE project_id = @project_id AND id = @id AND organization_id = @organization_id AND active;

-- name: DeleteConnection :execrows
DELETE FROM sso_connection WHERE project_id = @project_id AND id = @id;

-- BrowsersOfConnection are those that signed in through it: its id stands in
-- their proofs.
-- name: BrowsersOfConnection :many
SELECT browser_id FROM session
WHERE project_id = @project_id AND organization_id = @organization_id AND organization_id <> '' AND browser_id <> ''
  AND replace(factors, CAST(@connection AS text), '') <> factors;

-- name: SSOSubject :one
SELECT s.member_id, m.status FROM sso_subject s
JOIN member m ON m.project_id = s.project_id AND m.id = s.member_id
WHERE s.project_id = @project_id AND s.connection_id = @connection_id AND s.subject = @subject;

-- name: DeleteSSOSubject :exec
DELETE FROM sso_subject WHERE project_id = @project_id AND connection_id = @connection_id AND subject = @subject;

-- name: CreateSSOSubject :execrows
INSERT INTO sso_subject (project_id, connection_id, subject, member_id)
VALUES (@project_id, @connection_id, @subject, @member_id)
ON CONFLICT DO NOTHING;

-- KeepAttempt replaces the attempt that a flow had: one state of a flow works.
-- name: KeepAttempt :exec
INSERT INTO sso_attempt (project_id, flow_id, id, hash, organization_id, connection_id, is_test, proves_again, created_at, expires_at)
VALUES (@project_id, @flow_id, @id, @hash, @organization_id, @connection_id, @is_test, @proves_again, @created_at, @expires_at)
ON CONFLICT (project_id, flow_id) DO UPDATE SET
    id = excluded.id, hash = excluded.hash, organization_id = excluded.organization_id, connection_id = excluded.connection_id,
    is_test = excluded.is_test, proves_again = excluded.proves_again, created_at = excluded.created_at, expires_at = excluded.expires_at;

-- name: Attempt :one
SELECT project_id, flow_id, id, hash, organization_id, connection_id, is_test, proves_again, created_at, expires_at
FROM sso_attempt WHERE project_id = @project_id AND id = @id AND expires_at > @now;

-- name: TakeAttempt :execrows
DELETE FROM sso_attempt WHERE project_id = @project_id AND id = @id AND expires_at > @now;

-- ConnectedOrganizations are those with a connection, by name.
-- name: ConnectedOrganizations :many
SELECT o.id, o.name FROM sso_connection c JOIN organization o ON o.project_id = c.project_id AND o.id = c.organization_id
WHERE c.project_id = @project_id ORDER BY o.name, o.id;

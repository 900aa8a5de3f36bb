-- Administrators of the deployment, who bind no project.

-- name: CreateAdministratorSession :exec
INSERT INTO administrator_session (id, administrator_id, secret_hash, address, user_agent, created_at, last_seen_at, idle_expires_at, expires_at)
VALUES (@id, @administrator_id, @secret_hash, @address, @user_agent, @created_at, @created_at, @idle_expires_at, @expires_at);

-- name: AdministratorSession :one
SELECT s.id, s.administrator_id, s.secret_hash, s.address, s.user_agent, s.created_at, s.last_seen_at, s.idle_expires_at, s.expires_at,
    a.email, a.created_at AS administrator_created_at, a.last_sign_in_at
FROM administrator_session s JOIN administrator a ON a.id = s.administrator_id
WHERE s.id = @id AND s.idle_expires_at > @now AND s.expires_at > @now AND a.removed_at = 0;

-- name: AdministratorSessions :many
SELECT id, administrator_id, secret_hash, address, user_agent, created_at, last_seen_at, idle_expires_at, expires_at
FROM administrator_session
WHERE administrator_id = @administrator_id AND idle_expires_at > @now AND expires_at > @now
ORDER BY last_seen_at DESC, id;

-- name: TouchAdministratorSession :exec
UPDATE administrator_session SET last_seen_at = @seen_at, idle_expires_at = @idle_expires_at WHERE id = @id;

-- name: CountAdministratorSession :one
SELECT COUNT(*) FROM administrator_session WHERE id = @id AND administrator_id = @administrator_id;

-- name: EndAdministratorSession :execrows
DELETE FROM administrator_session WHERE id = @id;

-- name: EndAdministratorSessions :execrows
DELETE FROM administrator_session WHERE administrator_id = @administrator_id AND id <> @except_id;

-- name: NoteAdministratorSignIn :execrows
UPDATE administrator SET last_sign_in_at = @signed_in_at WHERE id = @id AND removed_at = 0;

-- name: Claimed :one
SELECT COUNT(*) FROM deployment_claim WHERE id = 1;

-- name: Claim :execrows
INSERT INTO deployment_claim (id, claimed_at) VALUES (1, @claimed_at) ON CONFLICT (id) DO NOTHING;

-- LockDeployment makes changes of how many administrators there are wait for
-- each other.
-- name: LockDeployment :exec
UPDATE deployment_claim SET claimed_at = claimed_at WHERE id = 1;

-- name: KeepAdministratorLink :exec
INSERT INTO administrator_link (id, secret_hash, administrator_id, email, email_folded, tries, created_at, expires_at)
VALUES (@id, @secret_hash, @administrator_id, @email, @email_folded, 0, @created_at, @expires_at)
ON CONFLICT (email_folded) DO UPDATE SET id = excluded.id, secret_hash = excluded.secret_hash, administrator_id = excluded.administrator_id,
    email = excluded.email, tries = 0, created_at = excluded.created_at, expires_at = excluded.expires_at;

-- name: AdministratorLink :one
SELECT id, secret_hash, administrator_id, email, created_at, expires_at FROM administrator_link
WHERE id = @id AND expires_at > @now AND tries < @max_tries;

-- name: CountAdministratorLinkTry :execrows
UPDATE administrator_link SET tries = tries + 1 WHERE id = @id;

-- UseAdministratorLink takes a link away; no row means that it is no more.
-- name: UseAdministratorLink :execrows
DELETE FROM administrator_link WHERE id = @id AND expires_at > @now AND tries < @max_tries;

-- name: DropAdministratorLinks :exec
DELETE FROM administrator_link WHERE email_folded = @email_folded;

-- name: CreateAdministrator :execrows
INSERT INTO administrator (id, email, email_folded, password_hash, totp_secret, totp_step, created_at, last_sign_in_at, removed_at)
VALUES (@id, @email, @email_folded, '', @no_secret, 0, @created_at, 0, 0)
ON CONFLICT (email_folded) WHERE removed_at = 0 DO NOTHING;

-- LockAdministrator makes changes of how somebody signs in wait for each other;
-- no row means that they were removed.
-- name: LockAdministrator :execrows
UPDATE administrator SET removed_at = removed_at WHERE id = @id AND removed_at = 0;

-- LockAdministratorByAddress is LockAdministrator for who is known by address.
-- name: LockAdministratorByAddress :execrows
UPDATE administrator SET removed_at = removed_at WHERE email_folded = @email_folded AND removed_at = 0;

-- name: Administrators :many
SELECT a.id, a.email, a.created_at, a.last_sign_in_at, a.password_hash,
    (SELECT COUNT(*) FROM administrator_passkey p WHERE p.administrator_id = a.id) AS passkeys
FROM administrator a
WHERE a.removed_at = 0
ORDER BY a.email_folded;

-- name: AdministratorByAddress :one
SELECT a.id, a.email, a.created_at, a.last_sign_in_at, a.password_hash, a.totp_secret, a.totp_step,
    (SELECT COUNT(*) FROM administrator_passkey p WHERE p.administrator_id = a.id) AS passkeys
FROM administrator a
WHERE a.email_folded = @email_folded AND a.removed_at = 0;

-- name: OtherAdministrators :one
SELECT COUNT(*) FROM administrator WHERE id <> @id AND removed_at = 0;

-- name: RemoveAdministrator :execrows
UPDATE administrator SET removed_at = @removed_at, password_hash = '', totp_secret = @no_secret WHERE id = @id AND removed_at = 0;

-- name: SetAdministratorPassword :execrows
UPDATE administrator SET password_hash = @password_hash, totp_secret = @totp_secret, totp_step = @totp_step
WHERE id = @id AND removed_at = 0;

-- UseAdministratorCode uses up a time step, and all before it; no row means that
-- it was used, or that the password has changed.
-- name: UseAdministratorCode :execrows
UPDATE administrator SET totp_step = @totp_step
WHERE id = @id AND removed_at = 0 AND totp_step < @totp_step AND password_hash = @password_hash;

-- name: CreateAdministratorPasskey :execrows
INSERT INTO administrator_passkey (id, administrator_id, name, credential, created_at, last_used_at)
VALUES (@id, @administrator_id, @name, @credential, @created_at, 0)
ON CONFLICT (id) DO NOTHING;

-- name: AdministratorPasskey :one
SELECT p.id, p.administrator_id, p.name, p.credential, p.created_at, p.last_used_at,
    a.email, a.created_at AS administrator_created_at, a.last_sign_in_at
FROM administrator_passkey p JOIN administrator a ON a.id = p.administrator_id
WHERE p.id = @id AND a.removed_at = 0;

-- name: AdministratorPasskeys :many
SELECT id, administrator_id, name, credential, created_at, last_used_at FROM administrator_passkey
WHERE administrator_id = @administrator_id
ORDER BY created_at, id;

-- UseAdministratorPasskey moves a passkey on; no row means that another sign-in
-- with it came in between.
-- name: UseAdministratorPasskey :execrows
UPDATE administrator_passkey SET credential = @credential, last_used_at = @used_at
WHERE id = @id AND administrator_id = @administrator_id AND credential = @before;

-- name: RemoveAdministratorPasskey :execrows
DELETE FROM administrator_passkey WHERE id = @id AND administrator_id = @administrator_id;

-- name: RemoveAdministratorPasskeys :exec
DELETE FROM administrator_passkey WHERE administrator_id = @administrator_id;

-- name: AdministratorWays :one
SELECT a.password_hash, (SELECT COUNT(*) FROM administrator_passkey p WHERE p.administrator_id = a.id) AS passkeys
FROM administrator a WHERE a.id = @id AND a.removed_at = 0;

-- name: CreateAdministratorCeremony :exec
INSERT INTO administrator_ceremony (id, secret_hash, state, expires_at) VALUES (@id, @secret_hash, @state, @expires_at);

-- name: AdministratorCeremony :one
SELECT secret_hash, state FROM administrator_ceremony WHERE id = @id AND expires_at > @now;

-- name: TakeAdministratorCeremony :execrows
DELETE FROM administrator_ceremony WHERE id = @id;

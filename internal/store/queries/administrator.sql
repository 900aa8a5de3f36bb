-- Administrators of the deployment, who bind no project.

-- name: CreateAdministratorSession :exec
INSERT INTO administrator_session (id, administrator_id, secret_hash, address, user_agent, created_at, last_seen_at, idle_expires_at, expires_at)
VALUES (@id, @administrator_id, @secret_hash, @address, @user_agent, @created_at, @created_at, @idle_expires_at, @expires_at);

-- name: AdministratorSession :one
SELECT s.id, s.administrator_id, s.secret_hash, s.address, s.user_agent, s.created_at, s.last_seen_at, s.idle_expires_at, s.expires_at,
    a.email, a.created_at AS administrator_created_at, a.last_sign_in_at
FROM administrator_session s JOIN administrator a ON a.id = s.administrator_id
WHERE s.id = @id AND s.idle_expires_at > @now AND s.expires_at > @now AND a.removed_at = 0;

-- name: TouchAdministratorSession :exec
UPDATE administrator_session SET last_seen_at = @seen_at, idle_expires_at = @idle_expires_at WHERE id = @id;

-- name: EndAdministratorSession :execrows
DELETE FROM administrator_session WHERE id = @id;

-- name: NoteAdministratorSignIn :execrows
UPDATE administrator SET last_sign_in_at = @signed_in_at WHERE id = @id AND removed_at = 0;

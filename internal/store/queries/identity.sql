-- name: User :one
SELECT project_id, id, email, email_folded, email_verified, name, active, created_at, last_sign_in_at
FROM "user" WHERE project_id = @project_id AND id = @id;

-- name: UserByEmail :one
SELECT project_id, id, email, email_folded, email_verified, name, active, created_at, last_sign_in_at
FROM "user" WHERE project_id = @project_id AND email_folded = @email_folded;

-- Users are found by a range of ids or by one of addresses, each in the order of
-- its index: with either in one statement a search for a rare address would walk
-- through all users. UsersByAddress leaves out those that were found by id.

-- name: Users :many
SELECT project_id, id, email, email_folded, email_verified, name, active, created_at, last_sign_in_at
FROM "user"
WHERE project_id = @project_id AND id >= @from_id AND id < @below_id
ORDER BY id LIMIT @max_rows;

-- name: UsersByAddress :many
SELECT project_id, id, email, email_folded, email_verified, name, active, created_at, last_sign_in_at
FROM "user"
WHERE project_id = @project_id AND email_folded >= @from_text AND email_folded < @below_text
  AND NOT (id >= @from_id AND id < @below_id)
ORDER BY email_folded LIMIT @max_rows;

-- name: SetUserActive :execrows
UPDATE "user" SET active = @active WHERE project_id = @project_id AND id = @id AND active <> @active;

-- name: DeleteUser :execrows
DELETE FROM "user" WHERE project_id = @project_id AND id = @id;

-- name: CreateUser :execrows
INSERT INTO "user" (project_id, id, email, email_folded, email_verified, name, active, created_at, last_sign_in_at)
VALUES (@project_id, @id, @email, @email_folded, @email_verified, @name, @active, @created_at, @last_sign_in_at)
ON CONFLICT (project_id, email_folded) DO NOTHING;

-- UserSignedIn finds nobody when the user is not active.
-- name: UserSignedIn :execrows
UPDATE "user" SET email_verified = TRUE, last_sign_in_at = @now
WHERE project_id = @project_id AND id = @id AND active;

-- LockUser changes nothing: it finds a user who is not locked, and keeps them so to
-- the end of the transaction.
-- name: LockUser :execrows
UPDATE "user" SET active = TRUE WHERE project_id = @project_id AND id = @id AND active;

-- name: CreateSession :exec
INSERT INTO session (project_id, id, subject, organization_id, browser_id, kind, secret_id, secret_hash, factors, address, user_agent, created_at, last_seen_at, idle_expires_at, expires_at)
VALUES (@project_id, @id, @subject, @organization_id, @browser_id, @kind, @secret_id, @secret_hash, @factors, @address, @user_agent, @created_at, @last_seen_at, @idle_expires_at, @expires_at);

-- name: UserSession :one
SELECT sqlc.embed(s), sqlc.embed(u)
FROM session s JOIN "user" u ON u.project_id = s.project_id AND u.id = s.subject
WHERE s.project_id = @project_id AND s.secret_id = @secret_id AND s.kind = @kind
  AND s.idle_expires_at > @now AND s.expires_at > @now AND u.active;

-- name: TouchSession :exec
UPDATE session SET last_seen_at = @last_seen_at, idle_expires_at = @idle_expires_at
WHERE project_id = @project_id AND id = @id
  AND idle_expires_at > @last_seen_at AND expires_at > @last_seen_at AND last_seen_at < @last_seen_at;

-- name: EndSession :execrows
DELETE FROM session WHERE project_id = @project_id AND id = @id;

-- name: EndSessions :execrows
DELETE FROM session WHERE project_id = @project_id AND subject = @subject;

-- The end in SessionsOfSubject is an expression: SQLite would rather walk all
-- sessions that live in the project.
-- name: SessionsOfSubject :many
SELECT project_id, id, subject, organization_id, browser_id, kind, secret_id, secret_hash, factors, address, user_agent, created_at, last_seen_at, idle_expires_at, expires_at
FROM session
WHERE project_id = @project_id AND subject = @subject AND idle_expires_at + 0 > @now AND expires_at > @now
ORDER BY last_seen_at DESC, id DESC LIMIT @max_rows;

-- name: EndSessionOfSubject :one
DELETE FROM session WHERE project_id = @project_id AND id = @id AND subject = @subject
RETURNING browser_id;

-- SaveAttempt keeps an attempt, or what became of it by now. Where and when it
-- began stays.
-- name: SaveAttempt :exec
INSERT INTO attempt (project_id, id, code, client_id, client_name, creation, redirect_uri, resource, scopes, address, subject, state, step, step_up, detail, asked, discovered_at, registered_at, started_at, called_at)
VALUES (@project_id, @id, @code, @client_id, @client_name, @creation, @redirect_uri, @resource, @scopes, @address, @subject, @state, @step, @step_up, @detail, @asked, @discovered_at, @registered_at, @started_at, 0)
ON CONFLICT (project_id, code) DO UPDATE SET
    client_id = excluded.client_id, client_name = excluded.client_name, creation = excluded.creation,
    redirect_uri = excluded.redirect_uri, resource = excluded.resource, scopes = excluded.scopes,
    subject = excluded.subject, state = excluded.state, step = excluded.step, step_up = excluded.step_up,
    detail = excluded.detail, asked = excluded.asked, registered_at = excluded.registered_at;

-- DecideAttempt keeps that a person allowed it.
-- name: DecideAttempt :exec
UPDATE attempt SET state = @state, step = @step, subject = @subject, step_up = @step_up
WHERE project_id = @project_id AND code = @code;

-- RecoverAttempt: tokens were given after a refusal. A success at once changes
-- nothing: its event tells of it.
-- name: RecoverAttempt :exec
UPDATE attempt SET state = @state, step = @step, detail = '', asked = ''
WHERE project_id = @project_id AND code = @code AND state <> @state;

-- name: FailAttempt :exec
UPDATE attempt SET state = @state, step = @step, detail = '', asked = @asked
WHERE project_id = @project_id AND code = @code;

-- name: CallAttempt :exec
UPDATE attempt SET called_at = @now, step = @step WHERE project_id = @project_id AND code = @code AND called_at = 0;

-- AttemptWithoutToken is the newest attempt of a client from an address that was
-- allowed and waits for its token.
-- name: AttemptWithoutToken :one
SELECT code FROM attempt
WHERE project_id = @project_id AND client_id = @client_id AND state = @state AND step = @step AND address = @address
  AND id > @after
ORDER BY id DESC LIMIT 1;

-- name: CountTokensOfAttempt :one
SELECT COUNT(*) FROM event WHERE project_id = @project_id AND attempt = @attempt AND attempt <> '' AND kind || '' = 'token.issued';

-- AttemptsByCode finds attempts whose code lies between two texts: one, or all
-- that begin with the same letters.
-- name: AttemptsByCode :many
SELECT sqlc.embed(a) FROM attempt a
WHERE a.project_id = @project_id AND a.code >= @first AND a.code <= @last ORDER BY a.code LIMIT @max_rows;

-- name: AttemptEvents :many
SELECT project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt FROM event
WHERE project_id = @project_id AND attempt = @attempt AND attempt <> '' ORDER BY id LIMIT @max_rows;

-- name: RefusedInRequest :many
SELECT project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt FROM event
WHERE project_id = @project_id AND trace_id >= @first AND trace_id <= @last AND refused ORDER BY trace_id, id LIMIT @max_rows;

-- The lists of attempts, newest first, one for each index. A filter that is no key
-- of the index is a range, of all or of one: with OR for it PostgreSQL would read
-- the attempt itself to know. What a success leaves to its events is asked of them:
-- signed_in and has_tokens, with the kind as an expression, so that SQLite finds
-- the events by attempt: it would rather walk all of the kind. OFFSET 0 keeps
-- PostgreSQL from reading the events of all attempts into a hash table first.

-- name: Attempts :many
SELECT sqlc.embed(a), COALESCE(u.email, m.email, '') AS email,
    EXISTS (SELECT 1 FROM event e WHERE e.project_id = a.project_id AND e.attempt = a.code AND e.attempt <> '' AND e.kind || '' = 'signin.succeeded' LIMIT 1 OFFSET 0) AS signed_in,
    EXISTS (SELECT 1 FROM event e WHERE e.project_id = a.project_id AND e.attempt = a.code AND e.attempt <> '' AND e.kind || '' = 'token.issued' LIMIT 1 OFFSET 0) AS has_tokens
FROM attempt a
LEFT JOIN "user" u ON u.project_id = a.project_id AND u.id = a.subject
LEFT JOIN member m ON m.project_id = a.project_id AND m.id = a.subject
WHERE a.project_id = @project_id AND a.id < @before
ORDER BY a.id DESC LIMIT @max_rows;

-- name: AttemptsOfState :many
SELECT sqlc.embed(a), COALESCE(u.email, m.email, '') AS email,
    EXISTS (SELECT 1 FROM event e WHERE e.project_id = a.project_id AND e.attempt = a.code AND e.attempt <> '' AND e.kind || '' = 'signin.succeeded' LIMIT 1 OFFSET 0) AS signed_in,
    EXISTS (SELECT 1 FROM event e WHERE e.project_id = a.project_id AND e.attempt = a.code AND e.attempt <> '' AND e.kind || '' = 'token.issued' LIMIT 1 OFFSET 0) AS has_tokens
FROM attempt a
LEFT JOIN "user" u ON u.project_id = a.project_id AND u.id = a.subject
LEFT JOIN member m ON m.project_id = a.project_id AND m.id = a.subject
WHERE a.project_id = @project_id AND a.state = @state AND a.id < @before
ORDER BY a.id DESC LIMIT @max_rows;

-- name: AttemptsOfClient :many
SELECT sqlc.embed(a), COALESCE(u.email, m.email, '') AS email,
    EXISTS (SELECT 1 FROM event e WHERE e.project_id = a.project_id AND e.attempt = a.code AND e.attempt <> '' AND e.kind || '' = 'signin.succeeded' LIMIT 1 OFFSET 0) AS signed_in,
    EXISTS (SELECT 1 FROM event e WHERE e.project_id = a.project_id AND e.attempt = a.code AND e.attempt <> '' AND e.kind || '' = 'token.issued' LIMIT 1 OFFSET 0) AS has_tokens
FROM attempt a
LEFT JOIN "user" u ON u.project_id = a.project_id AND u.id = a.subject
LEFT JOIN member m ON m.project_id = a.project_id AND m.id = a.subject
WHERE a.project_id = @project_id AND a.client_id = @client_id AND a.id < @before
  AND a.state >= @first_state AND a.state <= @last_state
ORDER BY a.id DESC LIMIT @max_rows;

-- AttemptsFrom are those of an address, which can be that of everybody behind one
-- gateway.
-- name: AttemptsFrom :many
SELECT sqlc.embed(a), COALESCE(u.email, m.email, '') AS email,
    EXISTS (SELECT 1 FROM event e WHERE e.project_id = a.project_id AND e.attempt = a.code AND e.attempt <> '' AND e.kind || '' = 'signin.succeeded' LIMIT 1 OFFSET 0) AS signed_in,
    EXISTS (SELECT 1 FROM event e WHERE e.project_id = a.project_id AND e.attempt = a.code AND e.attempt <> '' AND e.kind || '' = 'token.issued' LIMIT 1 OFFSET 0) AS has_tokens
FROM attempt a
LEFT JOIN "user" u ON u.project_id = a.project_id AND u.id = a.subject
LEFT JOIN member m ON m.project_id = a.project_id AND m.id = a.subject
WHERE a.project_id = @project_id AND a.address = @address AND a.id < @before
  AND a.client_id >= @first_client AND a.client_id <= @last_client AND a.state >= @first_state AND a.state <= @last_state
ORDER BY a.id DESC LIMIT @max_rows;

-- AttemptsOfPerson are those that a user or a member decided.
-- name: AttemptsOfPerson :many
SELECT sqlc.embed(a), COALESCE(u.email, m.email, '') AS email,
    EXISTS (SELECT 1 FROM event e WHERE e.project_id = a.project_id AND e.attempt = a.code AND e.attempt <> '' AND e.kind || '' = 'signin.succeeded' LIMIT 1 OFFSET 0) AS signed_in,
    EXISTS (SELECT 1 FROM event e WHERE e.project_id = a.project_id AND e.attempt = a.code AND e.attempt <> '' AND e.kind || '' = 'token.issued' LIMIT 1 OFFSET 0) AS has_tokens
FROM attempt a
LEFT JOIN "user" u ON u.project_id = a.project_id AND u.id = a.subject
LEFT JOIN member m ON m.project_id = a.project_id AND m.id = a.subject
WHERE a.project_id = @project_id AND a.subject = @subject AND a.subject <> '' AND a.id < @before
  AND a.client_id >= @first_client AND a.client_id <= @last_client AND a.state >= @first_state AND a.state <= @last_state
ORDER BY a.id DESC LIMIT @max_rows;

-- CountAttempts counts the attempts of each state as far as max_rows.
-- name: CountAttempts :one
SELECT
    (SELECT COUNT(*) FROM (SELECT a.id FROM attempt a WHERE a.project_id = @project_id AND a.state = 'waiting' LIMIT @max_rows) AS w) AS waiting,
    (SELECT COUNT(*) FROM (SELECT a.id FROM attempt a WHERE a.project_id = @project_id AND a.state = 'refused' LIMIT @max_rows) AS r) AS refused,
    (SELECT COUNT(*) FROM (SELECT a.id FROM attempt a WHERE a.project_id = @project_id AND a.state = 'denied' LIMIT @max_rows) AS d) AS denied,
    (SELECT COUNT(*) FROM (SELECT a.id FROM attempt a WHERE a.project_id = @project_id AND a.state = 'allowed' LIMIT @max_rows) AS l) AS allowed;

-- CountAttemptsOfClient counts the newest max_rows attempts of a client by state.
-- name: CountAttemptsOfClient :many
SELECT n.state, COUNT(*) AS counted
FROM (SELECT a.state FROM attempt a WHERE a.project_id = @project_id AND a.client_id = @client_id ORDER BY a.id DESC LIMIT @max_rows) AS n
GROUP BY n.state;

-- name: SubjectsAt :many
SELECT u.id FROM "user" u WHERE u.project_id = @project_id AND u.email_folded = @email_folded
UNION ALL
SELECT m.id FROM member m WHERE m.project_id = @project_id AND m.email_folded = @email_folded
LIMIT 50;

-- name: LastSeal :one
SELECT project_id, number, sealed_at, marks, proof FROM event_seal
WHERE project_id = @project_id AND number > 0
ORDER BY number DESC LIMIT 1;

-- name: SealsAfter :many
SELECT project_id, number, sealed_at, marks, proof FROM event_seal
WHERE project_id = @project_id AND number > @number
ORDER BY number LIMIT @max_rows;

-- name: CreateSeal :execrows
INSERT INTO event_seal (project_id, number, sealed_at, marks, proof)
VALUES (@project_id, @number, @sealed_at, @marks, @proof)
ON CONFLICT (project_id, number) DO NOTHING;

-- name: SigningKeys :many
SELECT id, algorithm, generation, public_key, private_key, created_at, not_before, retire_at
FROM signing_key WHERE project_id = @project_id ORDER BY algorithm, generation;

-- name: CreateSigningKey :execrows
INSERT INTO signing_key (project_id, id, algorithm, generation, public_key, private_key, created_at, not_before, retire_at)
VALUES (@project_id, @id, @algorithm, @generation, @public_key, @private_key, @created_at, @not_before, @retire_at)
ON CONFLICT (project_id, algorithm, generation) DO NOTHING;

-- name: RetireSigningKeys :exec
UPDATE signing_key SET retire_at = @retire_at
WHERE project_id = @project_id AND algorithm = @algorithm AND generation < @generation
  AND (retire_at = 0 OR retire_at > @retire_at);

-- name: DeleteSigningKey :execrows
DELETE FROM signing_key WHERE project_id = @project_id AND id = @id;

-- name: DeleteRetiredSigningKeys :exec
DELETE FROM signing_key WHERE project_id = @project_id AND retire_at <> 0 AND retire_at <= @now;

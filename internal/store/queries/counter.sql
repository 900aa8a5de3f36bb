-- Count adds one unless the counter is full; no row changed means full.
-- name: Count :execrows
INSERT INTO counter (project_id, kind, key_hash, counted, until)
VALUES (@project_id, @kind, @key_hash, 1, @until)
ON CONFLICT (project_id, kind, key_hash) DO UPDATE SET
    counted = CASE WHEN counter.until <= @now THEN 1 ELSE counter.counted + 1 END,
    until = CASE WHEN counter.until <= @now THEN excluded.until ELSE counter.until END
WHERE counter.until <= @now OR counter.counted < @max_count;

-- name: Uncount :exec
UPDATE counter SET counted = counted - 1
WHERE project_id = @project_id AND kind = @kind AND key_hash = @key_hash AND counted > 0;

-- name: Counter :one
SELECT counted, until FROM counter
WHERE project_id = @project_id AND kind = @kind AND key_hash = @key_hash AND until > @now;

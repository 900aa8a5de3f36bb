package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"time"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store/db"
)

// A counter is exact: the row is raised by a conditional statement, in the
// transaction of what it bounds. Its window begins with the first count and
// then starts anew, so that Limit holds from any count that began one.

// Count adds one to a counter, or returns oauth.ErrLimited when it is full.
func (d *DB) Count(ctx context.Context, projectID string, c oauth.Counter, now time.Time) error {
	return d.write(ctx, func(q *db.Queries) error { return countAll(ctx, q, projectID, []oauth.Counter{c}, now) })
}

// countAll counts under each counter, or returns oauth.ErrLimited at the first
// that is full.
func countAll(ctx context.Context, q *db.Queries, projectID string, counters []oauth.Counter, now time.Time) error {
	for _, c := range counters {
		switch ok, err := count(ctx, q, projectID, c, now); {
		case err != nil:
			return err
		case !ok:
			return oauth.ErrLimited
		}
	}
	return nil
}

// count adds one and reports whether there was room.
func count(ctx context.Context, q *db.Queries, projectID string, c oauth.Counter, now time.Time) (bool, error) {
	if c.Limit < 1 {
		return false, nil
	}
	n, err := q.Count(ctx, db.CountParams{
		ProjectID: projectID, Kind: c.Kind, KeyHash: keyHash(c),
		Until: micros(now.Add(c.Window)), Now: micros(now), MaxCount: int64(c.Limit),
	})
	return n == 1, wrap("count", err)
}

// uncount takes one back.
func uncount(ctx context.Context, q *db.Queries, projectID string, c oauth.Counter) error {
	return wrap("uncount", q.Uncount(ctx, db.UncountParams{ProjectID: projectID, Kind: c.Kind, KeyHash: keyHash(c)}))
}

// counterRow reads a counter's open window; all is zero without one.
func counterRow(ctx context.Context, q *db.Queries, projectID string, c oauth.Counter, now time.Time) (db.CounterRow, error) {
	row, err := q.Counter(ctx, db.CounterParams{ProjectID: projectID, Kind: c.Kind, KeyHash: keyHash(c), Now: micros(now)})
	if errors.Is(err, sql.ErrNoRows) {
		return db.CounterRow{}, nil
	}
	return row, wrap("read counter", err)
}

// Counted is how far a counter is in its open window.
func (d *DB) Counted(ctx context.Context, projectID string, c oauth.Counter, now time.Time) (int, error) {
	row, err := counterRow(ctx, d.read, projectID, c, now)
	return int(row.Counted), err
}

// keyHash keeps what a stranger chose (an address, a client id) out of the
// table, and every key the same size.
func keyHash(c oauth.Counter) []byte {
	sum := sha256.Sum256([]byte(c.Key))
	return sum[:]
}

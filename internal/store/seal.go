package store

import (
	"context"
	"database/sql"
	"errors"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/store/db"
)

var _ audit.SealStore = (*DB)(nil)

// LastSeal returns the newest seal of a trail.
func (d *DB) LastSeal(ctx context.Context, projectID string) (audit.Seal, error) {
	row, err := d.read.LastSeal(ctx, projectID)
	if errors.Is(err, sql.ErrNoRows) {
		return audit.Seal{ProjectID: projectID}, nil
	}
	return toSeal(row), wrap("read seal", err)
}

// SealsAfter lists the seals of a trail with higher numbers, the lowest first.
func (d *DB) SealsAfter(ctx context.Context, projectID string, number int64, limit int) ([]audit.Seal, error) {
	rows, err := d.read.SealsAfter(ctx, db.SealsAfterParams{ProjectID: projectID, Number: number, MaxRows: int32(limit)})
	seals := make([]audit.Seal, len(rows))
	for i, row := range rows {
		seals[i] = toSeal(row)
	}
	return seals, wrap("read seals", err)
}

// CreateSeal keeps a seal, or returns audit.ErrSealed where its number is taken.
func (d *DB) CreateSeal(ctx context.Context, s audit.Seal) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.CreateSeal(ctx, db.CreateSealParams{
			ProjectID: s.ProjectID, Number: s.Number, SealedAt: micros(s.At), Marks: s.Marks, Proof: s.Proof,
		})
		if err == nil && n == 0 {
			return audit.ErrSealed
		}
		return wrap("create seal", err)
	})
}

func toSeal(row db.EventSeal) audit.Seal {
	return audit.Seal{ProjectID: row.ProjectID, Number: row.Number, At: fromMicros(row.SealedAt), Marks: row.Marks, Proof: row.Proof}
}

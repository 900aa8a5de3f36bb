package store

import (
	"context"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store/db"
)

var _ project.WorkspaceKeyStore = (*DB)(nil)

// CreateWorkspaceKey keeps a new key of the deployment.
func (d *DB) CreateWorkspaceKey(ctx context.Context, k project.WorkspaceKey, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		err := q.CreateWorkspaceKey(ctx, db.CreateWorkspaceKeyParams{
			ID: k.ID, Name: k.Name, SecretHash: k.SecretHash, CreatedAt: micros(k.CreatedAt),
		})
		if err != nil {
			return wrap("create workspace key", err)
		}
		return record(ctx, q, e)
	})
}

// WorkspaceKey returns a key by id, revoked or not.
func (d *DB) WorkspaceKey(ctx context.Context, id string) (project.WorkspaceKey, error) {
	row, err := d.read.WorkspaceKey(ctx, id)
	if err != nil {
		return project.WorkspaceKey{}, found("read workspace key", err, project.ErrNotFound)
	}
	return toWorkspaceKey(row), nil
}

// WorkspaceKeys returns every key, the oldest first.
func (d *DB) WorkspaceKeys(ctx context.Context) ([]project.WorkspaceKey, error) {
	rows, err := d.read.WorkspaceKeys(ctx)
	if err != nil {
		return nil, wrap("list workspace keys", err)
	}
	keys := make([]project.WorkspaceKey, len(rows))
	for i, row := range rows {
		keys[i] = toWorkspaceKey(row)
	}
	return keys, nil
}

// RevokeWorkspaceKey ends a key that works.
func (d *DB) RevokeWorkspaceKey(ctx context.Context, id string, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.RevokeWorkspaceKey(ctx, micros(e.At), id)
		switch {
		case err != nil:
			return found("revoke workspace key", err, project.ErrNotFound)
		case n == 0:
			return project.ErrNotFound
		}
		return record(ctx, q, e)
	})
}

// TouchWorkspaceKey notes when a key was used last.
func (d *DB) TouchWorkspaceKey(ctx context.Context, id string, used time.Time) error {
	return d.write(ctx, func(q *db.Queries) error {
		return wrap("touch workspace key", q.TouchWorkspaceKey(ctx, micros(used), id))
	})
}

func toWorkspaceKey(row db.WorkspaceKey) project.WorkspaceKey {
	return project.WorkspaceKey{
		ID: row.ID, Name: row.Name, SecretHash: row.SecretHash, CreatedAt: fromMicros(row.CreatedAt),
		LastUsedAt: fromMicros(row.LastUsedAt), RevokedAt: fromMicros(row.RevokedAt),
	}
}

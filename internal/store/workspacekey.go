package store

import (
	"context"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store/db"
)

var _ project.WorkspaceKeyStore = (*DB)(nil)

// CreateWorkspaceKey keeps a new key of the deployment. Who is removed at the
// same moment makes none: their keys are ended in the transaction that removes
// them, and this one waits for it.
func (d *DB) CreateWorkspaceKey(ctx context.Context, k project.WorkspaceKey, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		if k.MadeBy != audit.Operator {
			n, err := q.LockAdministratorByAddress(ctx, identity.Fold(k.MadeBy))
			switch {
			case err != nil:
				return wrap("lock administrator", err)
			case n == 0:
				return project.ErrNotFound
			}
		}
		err := q.CreateWorkspaceKey(ctx, db.CreateWorkspaceKeyParams{
			ID: k.ID, Name: k.Name, SecretHash: k.SecretHash, ReadOnly: k.ReadOnly, MadeBy: k.MadeBy, CreatedAt: micros(k.CreatedAt), ExpiresAt: micros(k.ExpiresAt),
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

// endWorkspaceKeys ends the keys that work of an administrator whose removal e
// tells of, each with its event.
func endWorkspaceKeys(ctx context.Context, q *db.Queries, madeBy string, e audit.Event) error {
	ids, err := q.RevokeWorkspaceKeysOf(ctx, micros(e.At), madeBy)
	if err != nil {
		return wrap("end workspace keys", err)
	}
	e.Kind = audit.WorkspaceKeyRevoked
	for _, id := range ids {
		e.Object = id
		if err := record(ctx, q, e); err != nil {
			return err
		}
	}
	return nil
}

// TouchWorkspaceKey notes when a key was used last.
func (d *DB) TouchWorkspaceKey(ctx context.Context, id string, used time.Time) error {
	return d.write(ctx, func(q *db.Queries) error {
		return wrap("touch workspace key", q.TouchWorkspaceKey(ctx, micros(used), id))
	})
}

func toWorkspaceKey(row db.WorkspaceKey) project.WorkspaceKey {
	return project.WorkspaceKey{
		ID: row.ID, Name: row.Name, SecretHash: row.SecretHash, ReadOnly: row.ReadOnly, MadeBy: row.MadeBy, CreatedAt: fromMicros(row.CreatedAt),
		LastUsedAt: fromMicros(row.LastUsedAt), ExpiresAt: fromMicros(row.ExpiresAt), RevokedAt: fromMicros(row.RevokedAt),
	}
}

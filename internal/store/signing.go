package store

import (
	"context"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store/db"
)

// Keys returns every signing key of a project.
func (d *DB) Keys(ctx context.Context, projectID string) ([]signing.Key, error) {
	rows, err := d.read.SigningKeys(ctx, projectID)
	if err != nil {
		return nil, wrap("read signing keys", err)
	}
	keys := make([]signing.Key, len(rows))
	for i, r := range rows {
		keys[i] = signing.Key{
			ID: r.ID, ProjectID: projectID, Algorithm: signing.Algorithm(r.Algorithm), Generation: r.Generation,
			Public: r.PublicKey, Private: r.PrivateKey, CreatedAt: fromMicros(r.CreatedAt),
			NotBefore: fromMicros(r.NotBefore), RetireAt: fromMicros(r.RetireAt),
		}
	}
	return keys, nil
}

// AddKey keeps the next generation of a key, or returns signing.ErrConflict.
func (d *DB) AddKey(ctx context.Context, k signing.Key, previousRetireAt time.Time, e audit.Event) error {
	return d.changeProject(ctx, k.ProjectID, func(q *db.Queries) error {
		if err := addKey(ctx, q, k, previousRetireAt); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// RemoveKey takes a key out, and puts next in its place unless that is nil. It
// returns signing.ErrNotFound or signing.ErrConflict.
func (d *DB) RemoveKey(ctx context.Context, projectID, id string, next *signing.Key, previousRetireAt time.Time, e audit.Event) error {
	return d.changeProject(ctx, projectID, func(q *db.Queries) error {
		n, err := q.DeleteSigningKey(ctx, projectID, id)
		if err != nil {
			return wrap("delete signing key", err)
		}
		if n == 0 {
			return signing.ErrNotFound
		}
		if next != nil {
			if err := addKey(ctx, q, *next, previousRetireAt); err != nil {
				return err
			}
		}
		return record(ctx, q, e)
	})
}

// addKey keeps a key, lets the earlier ones retire and deletes those that have.
func addKey(ctx context.Context, q *db.Queries, k signing.Key, previousRetireAt time.Time) error {
	n, err := q.CreateSigningKey(ctx, db.CreateSigningKeyParams{
		ProjectID: k.ProjectID, ID: k.ID, Algorithm: string(k.Algorithm), Generation: k.Generation,
		PublicKey: k.Public, PrivateKey: k.Private, CreatedAt: micros(k.CreatedAt),
		NotBefore: micros(k.NotBefore), RetireAt: micros(k.RetireAt),
	})
	if err != nil {
		return wrap("create signing key", err)
	}
	if n == 0 {
		return signing.ErrConflict
	}
	err = q.RetireSigningKeys(ctx, db.RetireSigningKeysParams{
		RetireAt: micros(previousRetireAt), ProjectID: k.ProjectID, Algorithm: string(k.Algorithm), Generation: k.Generation,
	})
	if err != nil {
		return wrap("retire signing keys", err)
	}
	return wrap("delete signing keys", q.DeleteRetiredSigningKeys(ctx, k.ProjectID, micros(k.CreatedAt)))
}

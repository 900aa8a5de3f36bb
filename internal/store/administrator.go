package store

import (
	"context"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/store/db"
)

var _ identity.AdministratorStore = (*DB)(nil)

// CreateAdministratorSession keeps a session that begins.
func (d *DB) CreateAdministratorSession(ctx context.Context, s identity.AdministratorSession, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.NoteAdministratorSignIn(ctx, micros(s.CreatedAt), s.AdministratorID)
		switch {
		case err != nil:
			return wrap("note sign-in", err)
		case n == 0:
			return identity.ErrNotFound
		}
		err = q.CreateAdministratorSession(ctx, db.CreateAdministratorSessionParams{
			ID: s.ID, AdministratorID: s.AdministratorID, SecretHash: s.SecretHash, Address: s.Address, UserAgent: storable(s.UserAgent),
			CreatedAt: micros(s.CreatedAt), IdleExpiresAt: micros(s.IdleExpiresAt), ExpiresAt: micros(s.ExpiresAt),
		})
		if err != nil {
			return wrap("create session", err)
		}
		return record(ctx, q, e)
	})
}

// AdministratorSession returns a live session and whose it is.
func (d *DB) AdministratorSession(ctx context.Context, id string, now time.Time) (identity.AdministratorSession, identity.Administrator, error) {
	row, err := d.read.AdministratorSession(ctx, id, micros(now))
	if err != nil {
		return identity.AdministratorSession{}, identity.Administrator{}, found("read session", err, identity.ErrNotFound)
	}
	return identity.AdministratorSession{
			ID: row.ID, AdministratorID: row.AdministratorID, SecretHash: row.SecretHash, Address: row.Address, UserAgent: row.UserAgent,
			CreatedAt: fromMicros(row.CreatedAt), LastSeenAt: fromMicros(row.LastSeenAt),
			IdleExpiresAt: fromMicros(row.IdleExpiresAt), ExpiresAt: fromMicros(row.ExpiresAt),
		}, identity.Administrator{
			ID: row.AdministratorID, Email: row.Email,
			CreatedAt: fromMicros(row.AdministratorCreatedAt), LastSignInAt: fromMicros(row.LastSignInAt),
		}, nil
}

// TouchAdministratorSession moves the idle expiry of a session forward.
func (d *DB) TouchAdministratorSession(ctx context.Context, id string, seen, idleExpires time.Time) error {
	return d.write(ctx, func(q *db.Queries) error {
		return wrap("touch session", q.TouchAdministratorSession(ctx, db.TouchAdministratorSessionParams{
			SeenAt: micros(seen), IdleExpiresAt: micros(idleExpires), ID: id,
		}))
	})
}

// EndAdministratorSession ends a session.
func (d *DB) EndAdministratorSession(ctx context.Context, id string, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.EndAdministratorSession(ctx, id)
		if err != nil || n == 0 {
			return wrap("end session", err)
		}
		return record(ctx, q, e)
	})
}

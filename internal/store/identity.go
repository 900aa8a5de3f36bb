package store

import (
	"context"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/store/db"
)

// User returns a user by id, active or not.
func (d *DB) User(ctx context.Context, projectID, id string) (identity.User, error) {
	row, err := d.read.User(ctx, projectID, id)
	return toUser(row), found("read user", err, identity.ErrNotFound)
}

// Users lists users whose address or id begins with query.
func (d *DB) Users(ctx context.Context, projectID, query, after string, limit int) ([]identity.User, error) {
	from := identity.Fold(query)
	rows, err := d.read.Users(ctx, db.UsersParams{
		ProjectID: projectID, After: after, FromText: from, BelowText: from + "\U0010FFFF", MaxRows: int32(limit),
	})
	if err != nil {
		return nil, wrap("list users", err)
	}
	users := make([]identity.User, len(rows))
	for i, row := range rows {
		users[i] = toUser(row)
	}
	return users, nil
}

// Session returns the live session with a secret, and its active user.
func (d *DB) Session(ctx context.Context, projectID, secretID string, kind identity.SessionKind, now time.Time) (identity.Session, identity.User, error) {
	row, err := d.read.UserSession(ctx, db.UserSessionParams{ProjectID: projectID, SecretID: secretID, Kind: string(kind), Now: micros(now)})
	if err != nil {
		return identity.Session{}, identity.User{}, found("read session", err, identity.ErrNotFound)
	}
	s, err := toSession(row.Session)
	return s, toUser(row.User), err
}

func toSession(s db.Session) (identity.Session, error) {
	factors, err := fromJSON[[]identity.Factor](s.Factors)
	return identity.Session{
		ID: s.ID, ProjectID: s.ProjectID, Subject: s.Subject, OrganizationID: s.OrganizationID, BrowserID: s.BrowserID,
		Kind: identity.SessionKind(s.Kind), SecretID: s.SecretID, SecretHash: s.SecretHash,
		Factors: factors, Address: s.Address, UserAgent: s.UserAgent,
		CreatedAt: fromMicros(s.CreatedAt), LastSeenAt: fromMicros(s.LastSeenAt),
		IdleExpiresAt: fromMicros(s.IdleExpiresAt), ExpiresAt: fromMicros(s.ExpiresAt),
	}, err
}

func createSession(ctx context.Context, q *db.Queries, s identity.Session) error {
	return wrap("create session", q.CreateSession(ctx, db.CreateSessionParams{
		ProjectID: s.ProjectID, ID: s.ID, Subject: s.Subject, OrganizationID: s.OrganizationID, BrowserID: s.BrowserID,
		Kind: string(s.Kind), SecretID: s.SecretID, SecretHash: notNull(s.SecretHash),
		Factors: toJSON(s.Factors), Address: s.Address, UserAgent: storable(s.UserAgent),
		CreatedAt: micros(s.CreatedAt), LastSeenAt: micros(s.LastSeenAt),
		IdleExpiresAt: micros(s.IdleExpiresAt), ExpiresAt: micros(s.ExpiresAt),
	}))
}

// TouchSession moves the idle expiry of a live session. A session that is not
// alive, or was seen later by another request, stays as it is.
func (d *DB) TouchSession(ctx context.Context, projectID, id string, seen, idleExpires time.Time) error {
	return d.write(ctx, func(q *db.Queries) error {
		return wrap("touch session", q.TouchSession(ctx, db.TouchSessionParams{
			LastSeenAt: micros(seen), IdleExpiresAt: micros(idleExpires), ProjectID: projectID, ID: id,
		}))
	})
}

// EndSession ends one session. The event is recorded if there was one.
func (d *DB) EndSession(ctx context.Context, projectID, id string, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.EndSession(ctx, projectID, id)
		if err != nil || n == 0 {
			return wrap("end session", err)
		}
		return record(ctx, q, e)
	})
}

// EndSessions ends every session of a user and reports how many there were.
func (d *DB) EndSessions(ctx context.Context, projectID, userID string, e audit.Event) (int, error) {
	var n int64
	err := d.write(ctx, func(q *db.Queries) (err error) {
		n, err = q.EndSessions(ctx, projectID, userID)
		if err != nil || n == 0 {
			return wrap("end sessions", err)
		}
		return record(ctx, q, e)
	})
	return int(n), err
}

// RevokeUser ends every session and every grant of a user and reports how many
// grants lived.
func (d *DB) RevokeUser(ctx context.Context, projectID, userID string, e audit.Event) (grants int, err error) {
	err = d.write(ctx, func(q *db.Queries) error {
		if _, err := q.User(ctx, projectID, userID); err != nil {
			return found("read user", err, identity.ErrNotFound)
		}
		if _, err := q.EndSessions(ctx, projectID, userID); err != nil {
			return wrap("end sessions", err)
		}
		var err error
		if grants, err = revokeSubject(ctx, q, projectID, userID, e.At); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
	return grants, err
}

func toUser(u db.User) identity.User {
	return identity.User{
		ID: u.ID, ProjectID: u.ProjectID, Email: u.Email, EmailVerified: u.EmailVerified, Name: u.Name, Active: u.Active,
		CreatedAt: fromMicros(u.CreatedAt), LastSignInAt: fromMicros(u.LastSignInAt),
	}
}

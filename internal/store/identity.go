package store

import (
	"context"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store/db"
)

// User returns a user by id, active or not.
func (d *DB) User(ctx context.Context, projectID, id string) (identity.User, error) {
	row, err := d.read.User(ctx, projectID, id)
	return toUser(row), found("read user", err, identity.ErrNotFound)
}

// Users lists users whose id begins with query, and then those whose address
// does.
func (d *DB) Users(ctx context.Context, projectID, query, after string, limit int) ([]identity.User, error) {
	prefix, after := identity.Fold(storable(query)), storable(after)
	var rows []db.User
	address := ""
	if after == "" || strings.HasPrefix(after, prefix) {
		var err error
		rows, err = d.read.Users(ctx, db.UsersParams{ProjectID: projectID, FromID: from(prefix, after), BelowID: below(prefix), MaxRows: int32(limit)})
		if err != nil {
			return nil, wrap("list users", err)
		}
	} else {
		last, err := d.User(ctx, projectID, after)
		if err != nil {
			return nil, err
		}
		address = identity.Fold(last.Email)
	}
	if len(rows) < limit && prefix != "" {
		more, err := d.read.UsersByAddress(ctx, db.UsersByAddressParams{
			ProjectID: projectID, FromText: from(prefix, address), BelowText: below(prefix), FromID: prefix, BelowID: below(prefix),
			MaxRows: int32(limit - len(rows)),
		})
		if err != nil {
			return nil, wrap("list users", err)
		}
		rows = append(rows, more...)
	}
	users := make([]identity.User, len(rows))
	for i, row := range rows {
		users[i] = toUser(row)
	}
	return users, nil
}

// from and below are the limits of the texts that begin with prefix, behind
// after ("" from the first).
func from(prefix, after string) string {
	if after == "" {
		return prefix
	}
	return after + "\x01" // PostgreSQL keeps no smaller character
}

func below(prefix string) string { return prefix + "\U0010FFFF" }

// SetUserActive lets a user in or shuts them out, who then loses every session
// and grant.
func (d *DB) SetUserActive(ctx context.Context, projectID, userID string, active bool, e audit.Event) (grants int, err error) {
	err = d.write(ctx, func(q *db.Queries) error {
		grants = 0
		n, err := q.SetUserActive(ctx, db.SetUserActiveParams{Active: active, ProjectID: projectID, ID: userID})
		if err != nil {
			return wrap("set user", err)
		}
		if n == 0 {
			_, err := q.User(ctx, projectID, userID)
			return found("read user", err, identity.ErrNotFound)
		}
		if !active {
			if _, err := q.EndSessions(ctx, projectID, userID); err != nil {
				return wrap("end sessions", err)
			}
			if grants, err = revokeSubject(ctx, q, projectID, userID, e.At); err != nil {
				return err
			}
		}
		return record(ctx, q, e)
	})
	return grants, err
}

// DeleteUser removes a user with all sessions and grants. The row goes first: a
// sign-in that is under way holds it, and its session is seen here or never made.
func (d *DB) DeleteUser(ctx context.Context, projectID, userID string, e audit.Event) error {
	until := e.At.Add(longestAccessToken)
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.DeleteUser(ctx, projectID, userID)
		switch {
		case err != nil:
			return wrap("delete user", err)
		case n == 0:
			return identity.ErrNotFound
		}
		if _, err := q.EndSessions(ctx, projectID, userID); err != nil {
			return wrap("end sessions", err)
		}
		grants, err := q.GrantsOfSubject(ctx, projectID, userID)
		if err != nil {
			return wrap("list grants", err)
		}
		var feed []oauth.Revocation
		for _, id := range grants {
			families, err := revokeFamilies(ctx, q, projectID, id, e.At, until)
			if err != nil {
				return err
			}
			feed = append(append(feed, families...), oauth.Revocation{Kind: grantRevoked, Value: id, Until: until})
			if err := q.DeleteCodesOfGrant(ctx, projectID, id); err != nil {
				return wrap("delete codes", err)
			}
		}
		if err := q.DeleteGrantsOfSubject(ctx, projectID, userID); err != nil {
			return wrap("delete grants", err)
		}
		if err := publish(ctx, q, projectID, e.At, feed); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// Sessions lists the live sessions of a user or member, the one seen last first.
func (d *DB) Sessions(ctx context.Context, projectID, subject string, now time.Time, limit int) ([]identity.Session, error) {
	rows, err := d.read.SessionsOfSubject(ctx, db.SessionsOfSubjectParams{ProjectID: projectID, Subject: subject, Now: micros(now), MaxRows: int32(limit)})
	if err != nil {
		return nil, wrap("list sessions", err)
	}
	return each(rows, toSession)
}

// EndSubjectSession ends one session of a user or member, and the browser that
// a member's is below: the address that was proved there would open it again.
func (d *DB) EndSubjectSession(ctx context.Context, projectID, subject, id string, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		browser, err := q.EndSessionOfSubject(ctx, db.EndSessionOfSubjectParams{ProjectID: projectID, ID: id, Subject: subject})
		if err != nil {
			return found("end session", err, identity.ErrNotFound)
		}
		if browser != "" {
			if err := endBrowser(ctx, q, projectID, browser); err != nil {
				return err
			}
		}
		return record(ctx, q, e)
	})
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

// endBefore ends what a new sign-in takes the place of. The event is recorded if
// there was such a session.
func endBefore(ctx context.Context, q *db.Queries, projectID string, ends identity.Ending) error {
	switch {
	case ends.SessionID != "":
		n, err := q.EndSession(ctx, projectID, ends.SessionID)
		if err != nil || n == 0 {
			return wrap("end session", err)
		}
	case ends.BrowserID != "":
		if err := endBrowser(ctx, q, projectID, ends.BrowserID); err != nil {
			return err
		}
	default:
		return nil
	}
	return record(ctx, q, ends.Event)
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

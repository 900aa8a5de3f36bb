package store

import (
	"context"
	"errors"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store/db"
)

var _ identity.AdministratorStore = (*DB)(nil)

// Claimed reports whether the deployment has ever had an administrator.
func (d *DB) Claimed(ctx context.Context) (bool, error) {
	n, err := d.read.Claimed(ctx)
	return n > 0, wrap("read claim", err)
}

// KeepAdministratorLink keeps a link in place of the earlier one for its
// address.
func (d *DB) KeepAdministratorLink(ctx context.Context, l identity.AdministratorLink, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		if l.Email == "" {
			// A claim that comes in after this is no harm: the link is then refused
			// when it is used.
			switch n, err := q.Claimed(ctx); {
			case err != nil:
				return wrap("read claim", err)
			case n > 0:
				return identity.ErrConflict
			}
		} else if l.AdministratorID == "" {
			_, err := q.AdministratorByAddress(ctx, identity.Fold(l.Email))
			switch err := found("read administrator", err, identity.ErrNotFound); {
			case err == nil:
				return identity.ErrConflict
			case !errors.Is(err, identity.ErrNotFound):
				return err
			}
		}
		if err := keepLink(ctx, q, l); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

func keepLink(ctx context.Context, q *db.Queries, l identity.AdministratorLink) error {
	return wrap("keep link", q.KeepAdministratorLink(ctx, db.KeepAdministratorLinkParams{
		ID: l.ID, SecretHash: l.SecretHash, AdministratorID: l.AdministratorID, Email: l.Email, EmailFolded: identity.Fold(l.Email),
		CreatedAt: micros(l.CreatedAt), ExpiresAt: micros(l.ExpiresAt),
	}))
}

// AdministratorLink returns a link that works.
func (d *DB) AdministratorLink(ctx context.Context, id string, now time.Time) (identity.AdministratorLink, error) {
	row, err := d.read.AdministratorLink(ctx, db.AdministratorLinkParams{ID: id, Now: micros(now), MaxTries: identity.LinkTries})
	if err != nil {
		return identity.AdministratorLink{}, found("read link", err, identity.ErrNotFound)
	}
	return identity.AdministratorLink{
		ID: row.ID, SecretHash: row.SecretHash, AdministratorID: row.AdministratorID, Email: row.Email,
		CreatedAt: fromMicros(row.CreatedAt), ExpiresAt: fromMicros(row.ExpiresAt),
	}, nil
}

// RefuseAdministratorLink counts a wrong secret for a link.
func (d *DB) RefuseAdministratorLink(ctx context.Context, id string, limit identity.TryLimit, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		if _, err := q.CountAdministratorLinkTry(ctx, id); err != nil {
			return wrap("count try", err)
		}
		return recordWithin(ctx, q, limit, e)
	})
}

// RefuseAdministrator keeps the event of a refused sign-in while limit has room.
func (d *DB) RefuseAdministrator(ctx context.Context, limit identity.TryLimit, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error { return recordWithin(ctx, q, limit, e) })
}

// recordWithin keeps an event that strangers can cause, unless there were too
// many.
func recordWithin(ctx context.Context, q *db.Queries, limit identity.TryLimit, e audit.Event) error {
	ok, err := count(ctx, q, "", tryCounter(limit), e.At)
	if err != nil || !ok {
		return err
	}
	return record(ctx, q, e)
}

// AcceptAdministratorLink uses a link up.
func (d *DB) AcceptAdministratorLink(ctx context.Context, linkID string, who identity.Administrator, p identity.Proof, s identity.AdministratorSession, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		link, err := q.AdministratorLink(ctx, db.AdministratorLinkParams{ID: linkID, Now: micros(e.At), MaxTries: identity.LinkTries})
		if err != nil {
			return found("read link", err, identity.ErrNotFound)
		}
		n, err := q.UseAdministratorLink(ctx, db.UseAdministratorLinkParams{ID: linkID, Now: micros(e.At), MaxTries: identity.LinkTries})
		switch {
		case err != nil:
			return wrap("use link", err)
		case n == 0:
			return identity.ErrNotFound
		}
		if n, err = q.Claim(ctx, micros(e.At)); err != nil {
			return wrap("claim", err)
		}
		if link.Email == "" && n == 0 {
			return identity.ErrNotFound // the deployment was claimed by another link
		}
		if link.AdministratorID == "" {
			n, err = q.CreateAdministrator(ctx, db.CreateAdministratorParams{
				ID: who.ID, Email: who.Email, EmailFolded: identity.Fold(who.Email), NoSecret: []byte{}, CreatedAt: micros(who.CreatedAt),
			})
			switch {
			case err != nil:
				return wrap("create administrator", err)
			case n == 0:
				return identity.ErrConflict
			}
		}
		if err := addProof(ctx, q, who.ID, p); err != nil {
			return err
		}
		if err := record(ctx, q, e); err != nil {
			return err
		}
		return beginAdministratorSession(ctx, q, s)
	})
}

// addProof gives an administrator a way to sign in.
func addProof(ctx context.Context, q *db.Queries, id string, p identity.Proof) error {
	n, err := q.LockAdministrator(ctx, id)
	switch {
	case err != nil:
		return wrap("lock administrator", err)
	case n == 0:
		return identity.ErrNotFound
	}
	if p.Passkey != nil {
		n, err = q.CreateAdministratorPasskey(ctx, db.CreateAdministratorPasskeyParams{
			ID: p.Passkey.ID, AdministratorID: id, Name: storable(p.Passkey.Name), Credential: p.Passkey.Credential, CreatedAt: micros(p.Passkey.CreatedAt),
		})
		if err == nil && n == 0 {
			return identity.ErrConflict
		}
		return wrap("create passkey", err)
	}
	_, err = q.SetAdministratorPassword(ctx, db.SetAdministratorPasswordParams{
		PasswordHash: p.Password.Hash, TotpSecret: p.Password.TOTPSecret, TotpStep: p.Password.TOTPStep, ID: id,
	})
	return wrap("set password", err)
}

func beginAdministratorSession(ctx context.Context, q *db.Queries, s identity.AdministratorSession) error {
	n, err := q.NoteAdministratorSignIn(ctx, micros(s.CreatedAt), s.AdministratorID)
	switch {
	case err != nil:
		return wrap("note sign-in", err)
	case n == 0:
		return identity.ErrNotFound
	}
	return wrap("create session", q.CreateAdministratorSession(ctx, db.CreateAdministratorSessionParams{
		ID: s.ID, AdministratorID: s.AdministratorID, SecretHash: s.SecretHash, Address: s.Address, UserAgent: storable(s.UserAgent),
		CreatedAt: micros(s.CreatedAt), IdleExpiresAt: micros(s.IdleExpiresAt), ExpiresAt: micros(s.ExpiresAt),
	}))
}

// Administrators returns all who were not removed, by address.
func (d *DB) Administrators(ctx context.Context) ([]identity.Administrator, error) {
	rows, err := d.read.Administrators(ctx)
	if err != nil {
		return nil, wrap("list administrators", err)
	}
	all := make([]identity.Administrator, len(rows))
	for i, row := range rows {
		all[i] = toAdministrator(row.ID, row.Email, row.CreatedAt, row.LastSignInAt)
		all[i].Passkeys, all[i].Password = int(row.Passkeys), row.PasswordHash != ""
	}
	return all, nil
}

func toAdministrator(id, email string, created, signedIn int64) identity.Administrator {
	return identity.Administrator{ID: id, Email: email, CreatedAt: fromMicros(created), LastSignInAt: fromMicros(signedIn)}
}

// AdministratorByAddress returns who has a folded address, and their password.
func (d *DB) AdministratorByAddress(ctx context.Context, folded string) (identity.Administrator, identity.Password, error) {
	row, err := d.read.AdministratorByAddress(ctx, folded)
	if err != nil {
		return identity.Administrator{}, identity.Password{}, found("read administrator", err, identity.ErrNotFound)
	}
	who := toAdministrator(row.ID, row.Email, row.CreatedAt, row.LastSignInAt)
	who.Passkeys, who.Password = int(row.Passkeys), row.PasswordHash != ""
	return who, identity.Password{Hash: row.PasswordHash, TOTPSecret: row.TotpSecret, TOTPStep: row.TotpStep}, nil
}

// ResetAdministrator ends the sessions and ways to sign in of an administrator
// and keeps the link that gives them new ones.
func (d *DB) ResetAdministrator(ctx context.Context, l identity.AdministratorLink, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.SetAdministratorPassword(ctx, db.SetAdministratorPasswordParams{TotpSecret: []byte{}, ID: l.AdministratorID})
		switch {
		case err != nil:
			return wrap("drop password", err)
		case n == 0:
			return identity.ErrNotFound
		}
		if err := signOutAdministrator(ctx, q, l.AdministratorID); err != nil {
			return err
		}
		if err := keepLink(ctx, q, l); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// signOutAdministrator ends the sessions and passkeys of an administrator.
func signOutAdministrator(ctx context.Context, q *db.Queries, id string) error {
	if err := q.RemoveAdministratorPasskeys(ctx, id); err != nil {
		return wrap("remove passkeys", err)
	}
	_, err := q.EndAdministratorSessions(ctx, id, "")
	return wrap("end sessions", err)
}

// RemoveAdministrator removes an administrator and ends the keys that they made.
func (d *DB) RemoveAdministrator(ctx context.Context, a identity.Administrator, last bool, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		// Two who remove each other at the same moment must not both succeed.
		if err := q.LockDeployment(ctx); err != nil {
			return wrap("lock deployment", err)
		}
		if !last {
			switch others, err := q.OtherAdministrators(ctx, a.ID); {
			case err != nil:
				return wrap("count administrators", err)
			case others == 0:
				return identity.ErrLastAdministrator
			}
		}
		n, err := q.RemoveAdministrator(ctx, db.RemoveAdministratorParams{RemovedAt: micros(e.At), NoSecret: []byte{}, ID: a.ID})
		switch {
		case err != nil:
			return wrap("remove administrator", err)
		case n == 0:
			return identity.ErrNotFound
		}
		if err := signOutAdministrator(ctx, q, a.ID); err != nil {
			return err
		}
		if err := q.DropAdministratorLinks(ctx, identity.Fold(a.Email)); err != nil {
			return wrap("drop links", err)
		}
		if err := endWorkspaceKeys(ctx, q, a.Email, e); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// AddAdministratorProof gives an administrator another way to sign in.
func (d *DB) AddAdministratorProof(ctx context.Context, administratorID, sessionID string, p identity.Proof, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := addProof(ctx, q, administratorID, p); err != nil {
			return err
		}
		if err := stillSignedIn(ctx, q, administratorID, sessionID); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// stillSignedIn refuses who was signed out since they asked, as by a reset. The
// administrator's row is held, so that a reset comes before or after.
func stillSignedIn(ctx context.Context, q *db.Queries, administratorID, sessionID string) error {
	n, err := q.CountAdministratorSession(ctx, sessionID, administratorID)
	if err == nil && n == 0 {
		return identity.ErrNotFound
	}
	return wrap("read session", err)
}

// RemoveAdministratorProof takes a way to sign in away while another is left.
func (d *DB) RemoveAdministratorProof(ctx context.Context, administratorID, sessionID, passkeyID string, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.LockAdministrator(ctx, administratorID)
		switch {
		case err != nil:
			return wrap("lock administrator", err)
		case n == 0:
			return identity.ErrNotFound
		}
		if err := stillSignedIn(ctx, q, administratorID, sessionID); err != nil {
			return err
		}
		if passkeyID != "" {
			n, err = q.RemoveAdministratorPasskey(ctx, passkeyID, administratorID)
		} else {
			n, err = q.SetAdministratorPassword(ctx, db.SetAdministratorPasswordParams{TotpSecret: []byte{}, ID: administratorID})
		}
		switch {
		case err != nil:
			return wrap("remove way to sign in", err)
		case n == 0:
			return identity.ErrNotFound
		}
		left, err := q.AdministratorWays(ctx, administratorID)
		if err != nil {
			return wrap("count ways to sign in", err)
		}
		if left.PasswordHash == "" && left.Passkeys == 0 {
			return identity.ErrLastWay
		}
		return record(ctx, q, e)
	})
}

// AdministratorPasskey returns a passkey and whose it is.
func (d *DB) AdministratorPasskey(ctx context.Context, id string) (identity.Passkey, identity.Administrator, error) {
	row, err := d.read.AdministratorPasskey(ctx, id)
	if err != nil {
		return identity.Passkey{}, identity.Administrator{}, found("read passkey", err, identity.ErrNotFound)
	}
	return identity.Passkey{
		ID: row.ID, AdministratorID: row.AdministratorID, Name: row.Name, Credential: row.Credential,
		CreatedAt: fromMicros(row.CreatedAt), LastUsedAt: fromMicros(row.LastUsedAt),
	}, toAdministrator(row.AdministratorID, row.Email, row.AdministratorCreatedAt, row.LastSignInAt), nil
}

// AdministratorPasskeys returns those of one administrator, the oldest first.
func (d *DB) AdministratorPasskeys(ctx context.Context, administratorID string) ([]identity.Passkey, error) {
	rows, err := d.read.AdministratorPasskeys(ctx, administratorID)
	if err != nil {
		return nil, wrap("list passkeys", err)
	}
	all := make([]identity.Passkey, len(rows))
	for i, row := range rows {
		all[i] = identity.Passkey{
			ID: row.ID, AdministratorID: row.AdministratorID, Name: row.Name, Credential: row.Credential,
			CreatedAt: fromMicros(row.CreatedAt), LastUsedAt: fromMicros(row.LastUsedAt),
		}
	}
	return all, nil
}

// CountAdministratorTry counts a try under each limit, or under none.
func (d *DB) CountAdministratorTry(ctx context.Context, limits []identity.TryLimit, now time.Time) error {
	return d.write(ctx, func(q *db.Queries) error {
		for _, l := range limits {
			switch ok, err := count(ctx, q, "", tryCounter(l), now); {
			case err != nil:
				return err
			case !ok:
				return identity.ErrLimited
			}
		}
		return nil
	})
}

func tryCounter(l identity.TryLimit) oauth.Counter {
	return oauth.Counter{Kind: l.Kind, Key: l.Key, Limit: l.Count, Window: l.Window}
}

// SignInByPasskey moves a passkey on and begins the session.
func (d *DB) SignInByPasskey(ctx context.Context, p identity.Passkey, before string, s identity.AdministratorSession, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.UseAdministratorPasskey(ctx, db.UseAdministratorPasskeyParams{
			Credential: p.Credential, UsedAt: micros(e.At), ID: p.ID, AdministratorID: p.AdministratorID, Before: before,
		})
		switch {
		case err != nil:
			return wrap("use passkey", err)
		case n == 0:
			return identity.ErrStale
		}
		if err := beginAdministratorSession(ctx, q, s); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// SignInByPassword uses up a time step and begins the session.
func (d *DB) SignInByPassword(ctx context.Context, administratorID string, p identity.Password, counted []identity.TryLimit, s identity.AdministratorSession, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.UseAdministratorCode(ctx, db.UseAdministratorCodeParams{TotpStep: p.TOTPStep, ID: administratorID, PasswordHash: p.Hash})
		switch {
		case err != nil:
			return wrap("use code", err)
		case n == 0:
			return identity.ErrStale
		}
		for _, l := range counted {
			if err := uncount(ctx, q, "", tryCounter(l)); err != nil {
				return err
			}
		}
		if err := beginAdministratorSession(ctx, q, s); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// KeepCeremony keeps what the server remembers between two steps.
func (d *DB) KeepCeremony(ctx context.Context, id string, hash, state []byte, expires time.Time) error {
	return d.write(ctx, func(q *db.Queries) error {
		return wrap("keep ceremony", q.CreateAdministratorCeremony(ctx, db.CreateAdministratorCeremonyParams{
			ID: id, SecretHash: hash, State: state, ExpiresAt: micros(expires),
		}))
	})
}

// TakeCeremony returns what was kept, once.
func (d *DB) TakeCeremony(ctx context.Context, id string, now time.Time) (hash, state []byte, err error) {
	err = d.write(ctx, func(q *db.Queries) error {
		row, err := q.AdministratorCeremony(ctx, id, micros(now))
		if err != nil {
			return found("read ceremony", err, identity.ErrNotFound)
		}
		n, err := q.TakeAdministratorCeremony(ctx, id)
		if err == nil && n == 0 {
			return identity.ErrNotFound
		}
		hash, state = row.SecretHash, row.State
		return wrap("take ceremony", err)
	})
	return hash, state, err
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
	}, toAdministrator(row.AdministratorID, row.Email, row.AdministratorCreatedAt, row.LastSignInAt), nil
}

// AdministratorSessions returns the live ones, the last used first.
func (d *DB) AdministratorSessions(ctx context.Context, administratorID string, now time.Time) ([]identity.AdministratorSession, error) {
	rows, err := d.read.AdministratorSessions(ctx, administratorID, micros(now))
	if err != nil {
		return nil, wrap("list sessions", err)
	}
	all := make([]identity.AdministratorSession, len(rows))
	for i, row := range rows {
		all[i] = identity.AdministratorSession{
			ID: row.ID, AdministratorID: row.AdministratorID, SecretHash: row.SecretHash, Address: row.Address, UserAgent: row.UserAgent,
			CreatedAt: fromMicros(row.CreatedAt), LastSeenAt: fromMicros(row.LastSeenAt),
			IdleExpiresAt: fromMicros(row.IdleExpiresAt), ExpiresAt: fromMicros(row.ExpiresAt),
		}
	}
	return all, nil
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

// EndOtherAdministratorSessions ends all of an administrator but one.
func (d *DB) EndOtherAdministratorSessions(ctx context.Context, administratorID, keep string, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.EndAdministratorSessions(ctx, administratorID, keep)
		if err != nil || n == 0 {
			return wrap("end sessions", err)
		}
		return record(ctx, q, e)
	})
}

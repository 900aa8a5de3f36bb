package signin

import (
	"context"
	"errors"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/secret"
)

// How long an administrator stays signed in: without a request, and at most.
const (
	adminIdle     = 2 * time.Hour
	adminAbsolute = 12 * time.Hour
	adminTouch    = time.Minute // a session's row is not written on every request
	maxUserAgent  = 256
)

// Administrators is how those who look after the deployment sign in to the
// dashboard.
type Administrators struct {
	store identity.AdministratorStore
	now   func() time.Time
}

// AdministratorsConfig is what NewAdministrators needs; both are required.
type AdministratorsConfig struct {
	Store identity.AdministratorStore
	Now   func() time.Time
}

// NewAdministrators returns the Administrators of a store.
func NewAdministrators(c AdministratorsConfig) (*Administrators, error) {
	if c.Store == nil || c.Now == nil {
		return nil, errors.New("signin: Store and Now are required")
	}
	return &Administrators{store: c.Store, now: c.Now}, nil
}

// Begin starts a session of an administrator who has just proved who they are,
// and returns its cookie. e says where.
func (a *Administrators) Begin(ctx context.Context, who identity.Administrator, address, userAgent string, e audit.Event) (secret.Secret, error) {
	now := a.now()
	cookie := secret.New(secret.AdminSession, now)
	e.At, e.Kind, e.Actor, e.Object = now, audit.AdministratorSignedIn, who.Email, who.ID
	return cookie, a.store.CreateAdministratorSession(ctx, identity.AdministratorSession{
		ID: cookie.ID, AdministratorID: who.ID, SecretHash: cookie.Hash[:],
		Address: address, UserAgent: userAgent[:min(len(userAgent), maxUserAgent)],
		CreatedAt: now, LastSeenAt: now, IdleExpiresAt: now.Add(adminIdle), ExpiresAt: now.Add(adminAbsolute),
	}, e)
}

// Session returns the live session behind a cookie and moves its idle expiry
// forward, or returns identity.ErrNotFound.
func (a *Administrators) Session(ctx context.Context, cookie string) (identity.AdministratorSession, identity.Administrator, error) {
	given, ok := secret.Parse(secret.AdminSession, cookie)
	if !ok {
		return identity.AdministratorSession{}, identity.Administrator{}, identity.ErrNotFound
	}
	now := a.now()
	s, who, err := a.store.AdministratorSession(ctx, given.ID, now)
	if err != nil {
		return s, who, err
	}
	if !given.Matches(s.SecretHash) {
		return identity.AdministratorSession{}, identity.Administrator{}, identity.ErrNotFound
	}
	if now.Sub(s.LastSeenAt) >= adminTouch {
		s.LastSeenAt, s.IdleExpiresAt = now, now.Add(adminIdle)
		err = a.store.TouchAdministratorSession(ctx, s.ID, s.LastSeenAt, s.IdleExpiresAt)
	}
	return s, who, err
}

// End signs one browser out.
func (a *Administrators) End(ctx context.Context, s identity.AdministratorSession, e audit.Event) error {
	e.At, e.Kind, e.Object = a.now(), audit.AdministratorSignedOut, s.AdministratorID
	return a.store.EndAdministratorSession(ctx, s.ID, e)
}

package identity

import (
	"context"
	"time"

	"github.com/postern-id/postern/internal/audit"
)

// Administrator is a person who looks after the whole deployment. They have
// nothing to do with the users and members of any project.
type Administrator struct {
	ID           string // administrator-<uuid>
	Email        string // as the person wrote it; what they sign in with and what events name
	CreatedAt    time.Time
	LastSignInAt time.Time // zero before
}

// AdministratorSession is one browser in which an administrator signed in. Its
// secret is a cookie of the dashboard and opens nothing else.
type AdministratorSession struct {
	ID              string // id part of the cookie (decision 23)
	AdministratorID string
	SecretHash      []byte
	Address         string
	UserAgent       string // at most 256 bytes
	CreatedAt       time.Time
	LastSeenAt      time.Time
	IdleExpiresAt   time.Time
	ExpiresAt       time.Time
}

// AdministratorStore is what the sessions of administrators need of a database.
type AdministratorStore interface {
	// CreateAdministratorSession keeps a session that begins, notes the sign-in at
	// the administrator and keeps the event.
	CreateAdministratorSession(ctx context.Context, s AdministratorSession, e audit.Event) error
	// AdministratorSession returns a live session of an administrator who was not
	// removed, or ErrNotFound.
	AdministratorSession(ctx context.Context, id string, now time.Time) (AdministratorSession, Administrator, error)
	// TouchAdministratorSession moves the idle expiry of a session forward.
	TouchAdministratorSession(ctx context.Context, id string, seen, idleExpires time.Time) error
	// EndAdministratorSession ends a session. Ending an ended one is no error.
	EndAdministratorSession(ctx context.Context, id string, e audit.Event) error
}

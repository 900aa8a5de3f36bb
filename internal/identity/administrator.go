package identity

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/secret"
)

// ErrLastWay says that somebody would be left without a way to sign in.
var ErrLastWay = errors.New("identity: the last way to sign in stays")

// ErrLastAdministrator says that the deployment would have no administrator
// left.
var ErrLastAdministrator = errors.New("identity: the last administrator of the deployment stays")

// Administrator is a person who looks after the whole deployment. They have
// nothing to do with the users and members of any project.
type Administrator struct {
	ID           string // administrator-<uuid>
	Email        string // as the person wrote it; what they sign in with and what events name
	CreatedAt    time.Time
	LastSignInAt time.Time // zero before
	Passkeys     int       // how many they have; only where administrators are listed
	Password     bool      // they have a password and an authenticator; only where administrators are listed
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

// AdministratorLink is the row of a one-time link: it makes an administrator, or
// gives one new ways to sign in.
type AdministratorLink struct {
	ID              string // id part of the link's secret
	SecretHash      []byte
	AdministratorID string // whose ways it replaces; "" makes a new administrator
	Email           string // "" for the first administrator, who names themselves
	CreatedAt       time.Time
	ExpiresAt       time.Time
}

// LinkLifetime is how long a one-time link works, and LinkTries how many wrong
// secrets for it end it.
const (
	LinkLifetime = 24 * time.Hour
	LinkTries    = 5
)

// Passkey is a passkey of an administrator.
type Passkey struct {
	ID              string // the authenticator's, in base64url
	AdministratorID string
	Name            string // what its owner calls it
	Credential      string // public key, flags and counter, as package signin keeps them
	CreatedAt       time.Time
	LastUsedAt      time.Time // zero before
}

// Password is a password and the authenticator app that goes with it.
type Password struct {
	Hash       string // PHC string, "" for none
	TOTPSecret []byte // sealed
	TOTPStep   int64  // the last time step whose code was used
}

// Proof is what a new way to sign in brings: exactly one of the two.
type Proof struct {
	Passkey  *Passkey
	Password *Password
}

// TryLimit is an exact limit of tries: Count in the Window that the first began.
type TryLimit struct {
	Kind   string
	Key    string // hashed before it is kept
	Count  int
	Window time.Duration
}

// AdministratorStore is what administrators need of a database: one method, one
// transaction, with the event that tells of it.
type AdministratorStore interface {
	// Claimed reports whether the deployment has ever had an administrator.
	Claimed(ctx context.Context) (bool, error)
	// KeepAdministratorLink keeps a link in place of the earlier one for its
	// address. For a new administrator whose address is taken, and for a first
	// one once the deployment is claimed, it returns ErrConflict.
	KeepAdministratorLink(ctx context.Context, l AdministratorLink, e audit.Event) error
	// AdministratorLink returns a link that works, or ErrNotFound.
	AdministratorLink(ctx context.Context, id string, now time.Time) (AdministratorLink, error)
	// RefuseAdministratorLink counts a wrong secret for a link, which may not
	// exist, and keeps the event while limit has room.
	RefuseAdministratorLink(ctx context.Context, id string, limit TryLimit, e audit.Event) error
	// AcceptAdministratorLink uses a link up: it makes the administrator who, or
	// finds the one of the link, gives them the way to sign in and begins the
	// session. The first one claims the deployment. Of any number at once one
	// succeeds; for the others, and for a link that no longer works, it is
	// ErrNotFound, for a new administrator whose address is taken ErrConflict.
	AcceptAdministratorLink(ctx context.Context, linkID string, who Administrator, p Proof, s AdministratorSession, e audit.Event) error

	// Administrators returns all who were not removed, by address.
	Administrators(ctx context.Context) ([]Administrator, error)
	// AdministratorByAddress returns who has a folded address, and their password,
	// or ErrNotFound.
	AdministratorByAddress(ctx context.Context, folded string) (Administrator, Password, error)
	// ResetAdministrator ends the sessions and ways to sign in of an administrator
	// and keeps the link that gives them new ones, or returns ErrNotFound.
	ResetAdministrator(ctx context.Context, l AdministratorLink, e audit.Event) error
	// RemoveAdministrator removes an administrator and ends the workspace keys
	// that they made, or returns ErrNotFound, or without last
	// ErrLastAdministrator where nobody else is left.
	RemoveAdministrator(ctx context.Context, a Administrator, last bool, e audit.Event) error

	// AddAdministratorProof gives an administrator another way to sign in; a
	// password replaces the one before. ErrConflict: somebody has this passkey.
	// ErrNotFound: they were removed, or the session in which they ask has ended.
	AddAdministratorProof(ctx context.Context, administratorID, sessionID string, p Proof, e audit.Event) error
	// RemoveAdministratorProof takes a passkey away, or the password when
	// passkeyID is "". Errors: ErrNotFound, also where the session in which they ask
	// has ended, and ErrLastWay.
	RemoveAdministratorProof(ctx context.Context, administratorID, sessionID, passkeyID string, e audit.Event) error
	// AdministratorPasskey returns a passkey and whose it is, or ErrNotFound.
	AdministratorPasskey(ctx context.Context, id string) (Passkey, Administrator, error)
	// AdministratorPasskeys returns those of one administrator, the oldest first.
	AdministratorPasskeys(ctx context.Context, administratorID string) ([]Passkey, error)

	// CountAdministratorTry counts a try under each limit, or under none and
	// returns ErrLimited.
	CountAdministratorTry(ctx context.Context, limits []TryLimit, now time.Time) error
	// RefuseAdministrator keeps the event of a refused sign-in while limit has
	// room.
	RefuseAdministrator(ctx context.Context, limit TryLimit, e audit.Event) error
	// SignInByPasskey moves a passkey on from before and begins the session, or
	// returns ErrStale when another sign-in with it came in between.
	SignInByPasskey(ctx context.Context, p Passkey, before string, s AdministratorSession, e audit.Event) error
	// SignInByPassword uses up a time step of the authenticator, gives the counted
	// tries back and begins the session, or returns ErrStale when the step was
	// used or the password changed.
	SignInByPassword(ctx context.Context, administratorID string, p Password, counted []TryLimit, s AdministratorSession, e audit.Event) error

	// KeepCeremony keeps what the server remembers between two steps.
	KeepCeremony(ctx context.Context, id string, hash, state []byte, expires time.Time) error
	// TakeCeremony returns it once, or ErrNotFound.
	TakeCeremony(ctx context.Context, id string, now time.Time) (hash, state []byte, err error)

	// AdministratorSession returns a live session of an administrator who was not
	// removed, or ErrNotFound.
	AdministratorSession(ctx context.Context, id string, now time.Time) (AdministratorSession, Administrator, error)
	// AdministratorSessions returns the live ones, the last used first.
	AdministratorSessions(ctx context.Context, administratorID string, now time.Time) ([]AdministratorSession, error)
	// TouchAdministratorSession moves the idle expiry of a session forward.
	TouchAdministratorSession(ctx context.Context, id string, seen, idleExpires time.Time) error
	// EndAdministratorSession ends a session. Ending an ended one is no error.
	EndAdministratorSession(ctx context.Context, id string, e audit.Event) error
	// EndOtherAdministratorSessions ends all of an administrator but one.
	EndOtherAdministratorSessions(ctx context.Context, administratorID, keep string, e audit.Event) error
}

// Administrators invites, lists and removes those who look after a deployment.
type Administrators struct {
	store AdministratorStore
	now   func() time.Time
	by    audit.Origin
}

// NewAdministrators returns the Administrators of a store, whose changes are the
// operator's.
func NewAdministrators(store AdministratorStore, now func() time.Time) *Administrators {
	return &Administrators{store: store, now: now, by: audit.Origin{Actor: audit.Operator}}
}

// FirstLink makes the secret of the link for the first administrator; the one
// made before stops working. It returns ErrConflict once the deployment is
// claimed.
func (a *Administrators) FirstLink(ctx context.Context) (secret.Secret, error) {
	l, key := a.link("", "")
	return key, a.store.KeepAdministratorLink(ctx, l, a.by.Event("", l.CreatedAt, audit.AdministratorInvited, ""))
}

// Invite makes the secret of a one-time link for another administrator. The one
// made before for the address stops working. Errors: Problems, ErrConflict when
// they are one.
func (a *Administrators) Invite(ctx context.Context, email string) (secret.Secret, error) {
	email = strings.TrimSpace(email)
	if mail.CheckAddress(email) != nil {
		return secret.Secret{}, Problems{"Enter an e-mail address, such as you@company.com."}
	}
	l, key := a.link("", email)
	return key, a.store.KeepAdministratorLink(ctx, l, a.event(l.CreatedAt, audit.AdministratorInvited, Administrator{Email: email}))
}

// All returns the administrators by address.
func (a *Administrators) All(ctx context.Context) ([]Administrator, error) {
	return a.store.Administrators(ctx)
}

// Find returns the administrator with an address, or ErrNotFound.
func (a *Administrators) Find(ctx context.Context, email string) (Administrator, error) {
	who, _, err := a.store.AdministratorByAddress(ctx, Fold(email))
	return who, err
}

// Reset signs an administrator out everywhere, takes every way to sign in from
// them and makes the secret of a link that gives them a new one.
func (a *Administrators) Reset(ctx context.Context, who Administrator) (secret.Secret, error) {
	l, key := a.link(who.ID, who.Email)
	return key, a.store.ResetAdministrator(ctx, l, a.event(l.CreatedAt, audit.AdministratorChanged, who))
}

// Remove removes an administrator, who is signed out at once and whose workspace
// keys end. Without last the only one stays: ErrLastAdministrator.
func (a *Administrators) Remove(ctx context.Context, who Administrator, last bool) error {
	return a.store.RemoveAdministrator(ctx, who, last, a.event(a.now(), audit.AdministratorRemoved, who))
}

func (a *Administrators) event(at time.Time, kind audit.Kind, who Administrator) audit.Event {
	e := a.by.Event("", at, kind, who.ID)
	e.Subject = who.Email
	return e
}

func (a *Administrators) link(id, email string) (AdministratorLink, secret.Secret) {
	now := a.now()
	key := secret.New(secret.Setup, now)
	return AdministratorLink{
		ID: key.ID, SecretHash: key.Hash[:], AdministratorID: id, Email: email, CreatedAt: now, ExpiresAt: now.Add(LinkLifetime),
	}, key
}

// Package identity holds who people are inside a project: User, the person of
// a consumer project; Organization and Member, of a B2B project; and Session, the
// proof that one of them signed in on a browser. People answers the questions
// that others ask of them: whose session is this, may this subject still act,
// what may be told about it. Administrators, who look after the deployment, are
// nobody of any project.
//
// How somebody proves who they are is package signin's; what a connected app
// may do is package oauth's, which knows people as plain strings. Nothing here
// signs a token or sees a password.
package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/postern-id/postern/internal/audit"
)

// ErrNotFound says that no such user or live session exists in the project.
var ErrNotFound = errors.New("identity: not found")

// User is a person of a consumer project.
type User struct {
	ID            string // user-<test|live>-<uuid>
	ProjectID     string
	Email         string // as the person wrote it
	EmailVerified bool
	Name          string
	Active        bool
	CreatedAt     time.Time
	LastSignInAt  time.Time
}

// SessionKind says where a session's secret is accepted (decision 30).
type SessionKind string

// The two kinds; neither secret opens the other's door.
const (
	Hosted SessionKind = "hosted" // a cookie on the hosted pages
	API    SessionKind = "api"    // a token of the compatible API
)

// Ending is what a new sign-in in the same browser takes the place of: it ends in
// the transaction that uses up the proof, or the person before would stay signed
// in where that fails.
type Ending struct {
	SessionID string // of a user, "" for none
	BrowserID string // of a B2B project, "" for none
	Event     audit.Event
}

// Factor is one proof given during a session.
type Factor struct {
	Method string    `json:"method"` // MethodEmailCode or MethodSSO
	At     time.Time `json:"at"`
	// OrganizationID and ConnectionID are of MethodSSO: the proof counts in that
	// organization alone.
	OrganizationID string `json:"organization_id,omitempty"`
	ConnectionID   string `json:"connection_id,omitempty"`
}

// Session is one signed-in browser.
type Session struct {
	ID             string // session-<test|live>-<uuid>
	ProjectID      string
	Subject        string // the user, or the member
	OrganizationID string // of a member, "" for a user
	BrowserID      string // of a member's hosted session, "" otherwise
	Kind           SessionKind
	SecretID       string // id part of the cookie (decision 23)
	SecretHash     []byte // SHA-256 of its random part
	Factors        []Factor
	Address        string
	UserAgent      string // at most 256 bytes
	CreatedAt      time.Time
	LastSeenAt     time.Time
	IdleExpiresAt  time.Time
	ExpiresAt      time.Time
}

// AuthTime is when the person last proved who they are.
func (s Session) AuthTime() time.Time {
	return newest(s.CreatedAt, s.Factors)
}

func newest(latest time.Time, factors []Factor) time.Time {
	for _, f := range factors {
		if f.At.After(latest) {
			latest = f.At
		}
	}
	return latest
}

// Store is what People needs of a database. Each method is one state change
// or one read; a change holds its audit row.
type Store interface {
	// User returns a user by id, active or not, or ErrNotFound.
	User(ctx context.Context, projectID, id string) (User, error)
	// Users lists users whose id begins with query ("" for all), ascending by id,
	// and then those whose address does, ascending by address: at most limit,
	// after the user with the id after ("" from the start). ErrNotFound when that
	// user was needed to go on and is gone.
	Users(ctx context.Context, projectID, query, after string, limit int) ([]User, error)
	// Session returns the live session with this secret and its active user:
	// not ended, neither idle nor absolute expiry reached. Otherwise
	// ErrNotFound.
	Session(ctx context.Context, projectID, secretID string, kind SessionKind, now time.Time) (Session, User, error)
	// TouchSession moves the idle expiry of a live session forward.
	TouchSession(ctx context.Context, projectID, id string, seen, idleExpires time.Time) error
	// EndSession ends one session. Ending an ended one is no error.
	EndSession(ctx context.Context, projectID, id string, e audit.Event) error
	// EndSessions ends every session of a user, both kinds, by one statement
	// and reports how many. Grants stay (decision 30).
	EndSessions(ctx context.Context, projectID, userID string, e audit.Event) (int, error)
	// RevokeUser ends every session and revokes every grant of a user with its
	// families, and appends to the revocation feed. The user can sign in again.
	RevokeUser(ctx context.Context, projectID, userID string, e audit.Event) (grants int, err error)
	// SetUserActive lets a user sign in, or shuts them out and does what
	// RevokeUser does. Where nothing changes nothing is recorded.
	SetUserActive(ctx context.Context, projectID, userID string, active bool, e audit.Event) (grants int, err error)
	// DeleteUser removes a user with sessions and grants, and appends to the
	// revocation feed.
	DeleteUser(ctx context.Context, projectID, userID string, e audit.Event) error
	// Sessions lists at most limit live sessions of a user or member, the one seen
	// last first.
	Sessions(ctx context.Context, projectID, subject string, now time.Time, limit int) ([]Session, error)
	// EndSubjectSession ends a session of a user or member, with the browser it is
	// below, or returns ErrNotFound.
	EndSubjectSession(ctx context.Context, projectID, subject, id string, e audit.Event) error

	OrganizationStore
	ConnectionStore
}

// People answers questions about the people of all projects. It also is what
// package oauth asks about a subject.
type People struct {
	store Store
	now   func() time.Time
	rules sync.Map // project id -> Rules
}

// Config is what New needs; both fields are required.
type Config struct {
	Store Store
	Now   func() time.Time
}

// New returns People on a store.
func New(c Config) (*People, error) {
	if c.Store == nil || c.Now == nil {
		return nil, errors.New("identity: Store and Now are required")
	}
	return &People{store: c.Store, now: c.Now}, nil
}

// touchAfter keeps a session's row from being written on every request.
const touchAfter = time.Minute

// Session returns the live hosted session behind a cookie's secret, and moves
// its idle expiry forward. It returns ErrNotFound for anything that is not a
// live session of this project.
func (p *People) Session(ctx context.Context, projectID, secretID string, matches func(hash []byte) bool, idle time.Duration) (Session, User, error) {
	now := p.now()
	s, u, err := p.store.Session(ctx, projectID, secretID, Hosted, now)
	if err != nil {
		return Session{}, User{}, err
	}
	if !matches(s.SecretHash) {
		return Session{}, User{}, ErrNotFound
	}
	if now.Sub(s.LastSeenAt) >= touchAfter {
		s.LastSeenAt, s.IdleExpiresAt = now, earlier(now.Add(idle), s.ExpiresAt)
		if err := p.store.TouchSession(ctx, projectID, s.ID, s.LastSeenAt, s.IdleExpiresAt); err != nil {
			return Session{}, User{}, fmt.Errorf("identity: touch session: %w", err)
		}
	}
	return s, u, nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// SignOut ends one session.
func (p *People) SignOut(ctx context.Context, s Session, e audit.Event) error {
	return p.store.EndSession(ctx, s.ProjectID, s.ID, e)
}

// SignOutEverywhere ends every session of the person behind s, and reports how
// many there were.
func (p *People) SignOutEverywhere(ctx context.Context, s Session, e audit.Event) (int, error) {
	return p.store.EndSessions(ctx, s.ProjectID, s.Subject, e)
}

// User returns a user by id, active or not, or ErrNotFound.
func (p *People) User(ctx context.Context, projectID, id string) (User, error) {
	return p.store.User(ctx, projectID, id)
}

// Users lists users; see Store.
func (p *People) Users(ctx context.Context, projectID, query, after string, limit int) ([]User, error) {
	return p.store.Users(ctx, projectID, query, after, limit)
}

// Revoke ends every session and takes back every grant of a user, and reports
// how many grants there were. The user can sign in again.
func (p *People) Revoke(ctx context.Context, projectID, userID string, e audit.Event) (int, error) {
	return p.store.RevokeUser(ctx, projectID, userID, e)
}

// SetActive lets a user sign in again, or shuts them out: every session ends and
// every grant is taken back, and neither comes back with them. It reports how
// many grants there were.
func (p *People) SetActive(ctx context.Context, u User, active bool, e audit.Event) (int, error) {
	e.Kind, e.Subject, e.Object = audit.UserDeactivated, u.ID, u.ID
	if active {
		e.Kind = audit.UserActivated
	}
	return p.store.SetUserActive(ctx, u.ProjectID, u.ID, active, e)
}

// DeleteUser removes a user with all sessions and grants. Who signs in with the
// address afterwards is somebody new.
func (p *People) DeleteUser(ctx context.Context, u User, e audit.Event) error {
	e.Kind, e.Subject, e.Object = audit.UserDeleted, u.ID, u.ID
	return p.store.DeleteUser(ctx, u.ProjectID, u.ID, e)
}

// SignOutUser ends every session of a user, and reports how many there were.
func (p *People) SignOutUser(ctx context.Context, u User, e audit.Event) (int, error) {
	e.Kind, e.Subject = audit.SignedOut, u.ID
	return p.store.EndSessions(ctx, u.ProjectID, u.ID, e)
}

// sessionsListed bounds the sessions of one person that are shown.
const sessionsListed = 50

// Sessions lists the live sessions of a user or member, at most 50, the one seen
// last first.
func (p *People) Sessions(ctx context.Context, projectID, subject string) ([]Session, error) {
	return p.store.Sessions(ctx, projectID, subject, p.now(), sessionsListed)
}

// EndSession ends one session of a user or member, or returns ErrNotFound when
// it is not theirs or has ended. A member is signed out of every organization in
// that browser.
func (p *People) EndSession(ctx context.Context, projectID, subject, id string, e audit.Event) error {
	e.Kind, e.Subject, e.Object = audit.SignedOut, subject, id
	return p.store.EndSubjectSession(ctx, projectID, subject, id, e)
}

// Claims returns what may be told about a subject to the holder of scopes
// (OpenID Connect Core §5.4): email and email_verified for "email", name for
// "profile", and always the organization of a member. active is as in Narrow.
func (p *People) Claims(ctx context.Context, projectID, subject, organization string, scopes []string) (claims map[string]any, active bool, err error) {
	claims = map[string]any{}
	var email, name string
	verified := true // a member is active once the address was proved
	if organization == "" {
		u, err := p.store.User(ctx, projectID, subject)
		if err != nil || !u.Active {
			return nil, false, gone(err)
		}
		email, verified, name = u.Email, u.EmailVerified, u.Name
	} else {
		m, o, err := p.store.MemberAndOrganization(ctx, projectID, organization, subject)
		if err != nil || m.Status != Active || !o.Active {
			return nil, false, gone(err)
		}
		email, name = m.Email, m.Name
		claims["organization_id"], claims["organization_slug"], claims["organization_name"] = o.ID, o.Slug, o.Name
	}
	if slices.Contains(scopes, "email") {
		claims["email"], claims["email_verified"] = email, verified
	}
	if slices.Contains(scopes, "profile") && name != "" {
		claims["name"] = name
	}
	return claims, true, nil
}

// gone is nil for a person who is not there: that is an answer, not an error.
func gone(err error) error {
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

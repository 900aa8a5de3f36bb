package oauth

import (
	"context"
	"errors"
	"time"

	"github.com/postern-id/postern/internal/audit"
)

// Errors that a Store returns, wrapped or not.
var (
	// ErrNotFound says that the row does not exist in this project.
	ErrNotFound = errors.New("oauth: not found")
	// ErrUsed says that a one-time object was used before. What was issued from
	// it, if anything, is revoked by then.
	ErrUsed = errors.New("oauth: already used")
	// ErrDead says that a one-time object has run out, or that its grant, family
	// or person is gone. Nothing was changed.
	ErrDead = errors.New("oauth: no longer valid")
	// ErrLimited says that a counted attempt was one too many.
	ErrLimited = errors.New("oauth: too many attempts")
	// ErrConflict says that a unique value is taken.
	ErrConflict = errors.New("oauth: conflict")
)

// Grant is what a person allowed one client: what people see and revoke
// (decision 29). It is unique per project, subject, organization and client.
type Grant struct {
	ID           string // grant-<test|live>-<uuid>
	ProjectID    string
	Subject      string
	Organization string // "" in a consumer project
	ClientID     string // Client.ID
	CreatedAt    time.Time
	RevokedAt    time.Time // zero while it lives
}

// GrantScope is a person's decision on one scope for one resource.
type GrantScope struct {
	Resource    string // "" when the token has no resource
	Scope       string
	Allowed     bool   // false: declined
	ConsentHash []byte // what was shown: client metadata and redirect URI
	DecidedAt   time.Time
}

// Family is one completed authorization: all tokens that descend from one code.
type Family struct {
	ID           string // uuid; the sid claim of its access tokens
	ProjectID    string
	GrantID      string
	ClientID     string
	Subject      string
	Organization string
	SessionID    string
	Resource     string // as it stands in aud; "" for none
	Scopes       []string
	Nonce        string
	AuthTime     time.Time
	Attempt      string // code of the authorization attempt
	CreatedAt    time.Time
	ExpiresAt    time.Time // absolute end of its refresh tokens; without one, the end of its access token

	PersonActive bool          // of a consumer project: the person is there and not locked
	Refresh      *RefreshToken // the live one, nil where the client gets none
}

// MaxFamilies is how many live families a grant has at most: a program that
// connects anew and again does not pile up tokens that nobody will ever end.
const MaxFamilies = 50

// Code is an authorization code as it is kept: the secret only as a hash.
type Code struct {
	ID           string // id part of the secret (decision 23)
	ProjectID    string
	Hash         []byte
	ClientID     string
	GrantID      string
	Subject      string
	Organization string
	SessionID    string
	RedirectURI  string
	Challenge    string // S256 (RFC 7636 §4.2)
	Resource     string
	Scopes       []string
	Nonce        string
	AuthTime     time.Time
	Attempt      string // code of the authorization attempt
	CreatedAt    time.Time
	ExpiresAt    time.Time
	Tries        int       // wrong verifiers so far
	RedeemedAt   time.Time // zero before
	FamilyID     string    // what it was redeemed for
	PersonActive bool      // as in Family
}

// RefreshToken is the one of a family that lives, the secret only as hashes. All
// that a family ever has carry its id.
type RefreshToken struct {
	Series     []byte // hash of what they have in common
	Hash       []byte
	AuthMethod string // how the client authenticated for the code, and has to for a refresh
	CreatedAt  time.Time
	ExpiresAt  time.Time // idle end; zero once its family was revoked
}

// Decision is what the consent page ended with. The store makes or revives the
// grant, replaces the scope rows that were asked, marks the flow decided, and
// keeps the code, in one transaction.
type Decision struct {
	FlowID string       // "" when consent was remembered and no flow was made
	Asked  bool         // a person decided now; else a scope that they declined stands against the code
	Grant  Grant        // ID is used when the grant is new
	Scopes []GrantScope // one for each scope that was decided; empty when remembered
	Rests  []string     // scopes of the code that were allowed earlier, which must hold still
	Code   Code         // GrantID is set by the store
	// Attempt is kept as it is by now; it begins here where no flow was made.
	Attempt audit.Attempt
}

// Redeem turns a code into a family. Everything was checked before and the
// tokens are made; a loser throws them away.
type Redeem struct {
	CodeID string
	Now    time.Time
	Family Family
}

// Rotate replaces a refresh token by its successor.
type Rotate struct {
	ProjectID string
	FamilyID  string
	Hash      []byte // of the presented one, whose series is the family's
	Now       time.Time
	Window    time.Duration // how long a repeat gets the same answer
	Successor RefreshToken
	Replay    []byte // sealed answer to keep for a repeat
}

// Rotation is the result of Rotate: exactly one of its cases holds.
type Rotation struct {
	Done   bool   // this call rotated
	Replay []byte // an earlier call did, within the window: the sealed answer it kept
}

// Live is what the family of a token that is alive says about it.
type Live struct {
	ClientID     string
	ClientType   ClientType // of a member's, "" of a consumer project's
	Organization string     // "" of a consumer project
	Attempt      string     // code of the authorization attempt
}

// Revocation is one row of the feed that resource servers follow (decision 29).
type Revocation struct {
	ProjectID string
	Kind      string    // "token", "family" or "grant"
	Value     string    // jti, family id or grant id
	Until     time.Time // when no token of it can be alive any more
}

// ConnectedApp is a grant as its person sees it.
type ConnectedApp struct {
	Grant         Grant
	Client        Client
	Scopes        []GrantScope
	LastUsedAt    time.Time // last token issued or refreshed; zero before
	ExpiresAt     time.Time // when its newest live family ends; zero when none lives
	IdleExpiresAt time.Time // when its newest refresh token runs out unused
}

// Counter is one exact guess limit (decision 32): at most Limit counts under
// Key within Window.
type Counter struct {
	Kind   string // "client_auth", "register_address", "register_project"
	Key    string // hashed by the store
	Limit  int
	Window time.Duration
}

// Store is what the protocol needs of a database. Every method is bound to a
// project, is one transaction, and takes the event that tells of it.
type Store interface {
	// Client returns a client by its id, or ErrNotFound.
	Client(ctx context.Context, projectID, id string) (Client, error)
	// ClientByURL returns the client of a metadata document, or ErrNotFound.
	ClientByURL(ctx context.Context, projectID, url string) (Client, error)
	// Clients lists clients ascending by id, after the id after, at most limit.
	Clients(ctx context.Context, projectID, after string, limit int) ([]Client, error)
	// CreateClient keeps a pre-registered client, or a self-registered one that
	// is never merged.
	CreateClient(ctx context.Context, c Client, limits []Counter, e audit.Event) error
	// MergeClient keeps a self-registered public client, or moves LastRegisteredAt
	// of the one with the same MetadataHash (decision 9). It returns ID and CreatedAt
	// of the one that is kept. ErrLimited when a counter is full; then nothing changed.
	MergeClient(ctx context.Context, c Client, limits []Counter, e audit.Event) (id string, created time.Time, err error)
	// SaveDocumentClient keeps what a metadata document said, under its URL: the
	// id of an existing row stays, all else is replaced, the logo too, a PNG or nil
	// for none. It returns the row.
	SaveDocumentClient(ctx context.Context, c Client, logo []byte, e audit.Event) (Client, error)
	// Logo returns the PNG with this SHA-256 in hex that is a logo of the project or
	// of one of its clients, or ErrNotFound.
	Logo(ctx context.Context, projectID, digest string) ([]byte, error)
	// SetClientSecret replaces a client's secret.
	SetClientSecret(ctx context.Context, projectID, id, secretID string, hash []byte, e audit.Event) error
	// ReplaceOwnClient is a client's own change: it replaces Metadata, secret, token
	// and LastRegisteredAt, if token and secret are still those of before and the
	// client is not blocked, else ErrConflict. ErrLimited when a counter is full;
	// then nothing changed.
	ReplaceOwnClient(ctx context.Context, c, before Client, limits []Counter, e audit.Event) error
	// DeleteOwnClient is DeleteClient by the client itself, if its token is still that
	// of before and it is not blocked, else ErrConflict.
	DeleteOwnClient(ctx context.Context, before Client, e audit.Event) error
	// UseAssertion keeps until when nobody may use an assertion of a client with this
	// jti again, or returns ErrUsed.
	UseAssertion(ctx context.Context, projectID, clientID, jti string, until time.Time) error
	// DeleteClient removes a client with its grants, families and tokens, and
	// appends them to the revocation feed.
	DeleteClient(ctx context.Context, projectID, id string, e audit.Event) error
	// ExpireClients deletes self-registered clients with no grant and no
	// registration since before, at most limit, and reports how many.
	ExpireClients(ctx context.Context, before time.Time, limit int, now time.Time) (int, error)

	// Grant returns the live grant of a person for a client with its scope rows
	// for one resource, or ErrNotFound.
	Grant(ctx context.Context, projectID, subject, organization, clientID, resource string) (Grant, []GrantScope, error)
	// Decide keeps a decision. ErrUsed when the flow was decided before.
	Decide(ctx context.Context, d Decision, e audit.Event) error
	// Deny marks a flow decided, keeps what its attempt came to and records the
	// refusal. ErrUsed as Decide.
	Deny(ctx context.Context, projectID, flowID string, now time.Time, a audit.Attempt, e audit.Event) error

	// Code returns a code by its id, used or not.
	Code(ctx context.Context, projectID, id string) (Code, error)
	// CountCodeTry counts a wrong verifier against a code.
	CountCodeTry(ctx context.Context, projectID, id string) error
	// RedeemCode uses a code up by one conditional statement (unused, in time,
	// fewer than five wrong tries, grant alive), keeps the family and its refresh
	// token and marks the grant used. ErrUsed when it was redeemed before: then
	// the family it was redeemed for is revoked in the same transaction, with
	// reuse as the event. ErrDead otherwise. A grant keeps at most MaxFamilies
	// live families: the oldest beyond end in the same transaction.
	RedeemCode(ctx context.Context, projectID string, r Redeem, done, reuse audit.Event) error

	// Family returns a family without Nonce, CreatedAt and Attempt, whatever its
	// state, or ErrNotFound; one whose grant was taken back is revoked. Of its client
	// it returns who it is and what it may do: ID, ProjectID, URL, Type, Creation,
	// Metadata, its secret and Blocked.
	Family(ctx context.Context, projectID, id string) (Family, Client, error)
	// RotateRefresh rotates by one conditional statement (not rotated, in time,
	// family and grant alive). When another call rotated it: within the window and
	// with the successor unused the kept answer comes back; otherwise the family is
	// revoked in the same transaction with reuse as the event, and ErrUsed comes
	// back. ErrDead when it has run out or its family or grant is gone.
	RotateRefresh(ctx context.Context, r Rotate, done, reuse audit.Event) (Rotation, error)

	// Live is the one read of introspection. ErrNotFound when there is no such
	// family, when it or this jti alone was revoked, its client blocked, or its
	// consumer project's person locked.
	Live(ctx context.Context, projectID, familyID, jti string) (Live, error)
	// RevokeToken ends one access token by its jti until its expiry.
	RevokeToken(ctx context.Context, projectID, jti string, until time.Time, e audit.Event) error
	// RevokeFamily ends a family (idempotent).
	RevokeFamily(ctx context.Context, projectID, familyID string, until time.Time, e audit.Event) error
	// RevokeGrant ends a grant and its families, if it belongs to the subject
	// (idempotent). ErrNotFound when it does not.
	RevokeGrant(ctx context.Context, projectID, subject, grantID string, until time.Time, e audit.Event) error
	// DeclineScopes marks scope rows of a live grant as declined and revokes its
	// families, so that the next token has only what is left ("make read only").
	DeclineScopes(ctx context.Context, projectID, subject, grantID string, scopes []string, until time.Time, e audit.Event) error
	// ConnectedApps lists a person's grants, live ones first, newest first, and
	// those revoked after since.
	ConnectedApps(ctx context.Context, projectID, subject, organization string, since time.Time) ([]ConnectedApp, error)

	// OrganizationApps lists the live grants of an organization's members in the
	// order of client and id, at most limit after the grant with the id after, or
	// returns ErrNotFound when that is none of the organization's.
	OrganizationApps(ctx context.Context, projectID, organization, after string, limit int) ([]ConnectedApp, error)
	// OrganizationGrant returns a grant of an organization's member, live or not,
	// or ErrNotFound.
	OrganizationGrant(ctx context.Context, projectID, organization, id string) (Grant, error)
	// OrganizationClients lists the clients that members ever allowed.
	OrganizationClients(ctx context.Context, projectID, organization string, limit int) ([]Client, error)
	// RevokeOrganizationClient ends the grants of an organization's members for a
	// client with their families, appends to the revocation feed, and reports how
	// many lived.
	RevokeOrganizationClient(ctx context.Context, projectID, organization, clientID string, until time.Time, e audit.Event) (int, error)

	// Count adds one to a counter, or returns ErrLimited when it is full.
	Count(ctx context.Context, projectID string, c Counter, now time.Time) error
	// Record keeps an event that stands alone.
	Record(ctx context.Context, e audit.Event) error
	// RecordRefusal keeps an event that a stranger can cause at will. ErrLimited
	// when a counter is full; then nothing changed.
	RecordRefusal(ctx context.Context, e audit.Event, limits []Counter) error
	// RefuseAttempt is RecordRefusal for an authorization request: it keeps what
	// its attempt came to as well.
	RefuseAttempt(ctx context.Context, a audit.Attempt, e audit.Event, limits []Counter) error
	// RefuseToken is RecordRefusal for the token endpoint: the attempt that the
	// event names was refused, or, when it names none, the newest that its client
	// began from the same address and has no token for. asked is what was not right,
	// "" where nothing was compared.
	RefuseToken(ctx context.Context, asked string, e audit.Event, limits []Counter) error
	// CallAttempts keeps that tokens of attempts were used; the first time counts.
	CallAttempts(ctx context.Context, calls []audit.Call) error

	audit.TraceReader
}

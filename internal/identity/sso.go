package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

// The ways to sign in that a Factor names.
const (
	MethodEmailCode = "email_code"
	MethodSSO       = "sso"
)

// Errors about an organization's own sign-in service.
var (
	// ErrUnproved says that nobody has proved the member's address yet, and that it
	// is not of the organization's domains: the organization's service does not
	// prove it either.
	ErrUnproved = errors.New("identity: the address was never proved")
	// ErrOtherPerson says that the service knows somebody else by the address, or
	// the person by another one.
	ErrOtherPerson = errors.New("identity: bound to another person")
	// ErrLockedOut says that an organization would have single sign-on alone and no
	// active connection.
	ErrLockedOut = errors.New("identity: nobody could sign in")
)

// Connection is how the members of one organization sign in through the
// organization's own OpenID provider. An organization has at most one.
type Connection struct {
	ID             string // sso-connection-<test|live>-<uuid>
	ProjectID      string
	OrganizationID string
	Issuer         string // as in the provider's metadata and tokens, to the letter
	ClientID       string // ours, there
	SealedSecret   []byte // the client secret, sealed for this row
	Active         bool   // false: only an administrator's test goes through it
	Provider       Provider
	CreatedAt      time.Time
	UpdatedAt      time.Time
}

// Provider is what an issuer's metadata says (OpenID Connect Discovery §3, RFC
// 9207 §3). Every address is https.
type Provider struct {
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Keys          string   `json:"jwks_uri"`
	Userinfo      string   `json:"userinfo_endpoint,omitempty"`
	ClientAuth    []string `json:"token_endpoint_auth_methods_supported,omitempty"`
	NamesItself   bool     `json:"authorization_response_iss_parameter_supported,omitempty"`
}

// ConnectionStore is what the package needs of a database for sign-in through
// organizations' own services.
type ConnectionStore interface {
	// Connection returns the connection of an organization, or ErrNotFound.
	Connection(ctx context.Context, projectID, organizationID string) (Connection, error)
	// Connected lists the organizations with an active connection among those that
	// an address is a member of, is invited to or may join by its domain.
	Connected(ctx context.Context, projectID, emailFolded string) ([]string, error)
	// CreateConnection keeps a new connection; ErrConflict when the organization
	// has one.
	CreateConnection(ctx context.Context, c Connection, e audit.Event) error
	// ActivateConnection makes a connection active, or returns ErrNotFound.
	ActivateConnection(ctx context.Context, c Connection, e audit.Event) error
	// SaveProvider replaces Provider of a connection and nothing else: it was
	// fetched, and meanwhile somebody may have made the connection active.
	// ErrNotFound when it is gone.
	SaveProvider(ctx context.Context, c Connection, e audit.Event) error
	// DeleteConnection removes a connection, and ends the browsers that signed in
	// through it. ErrNotFound when it is gone, ErrLockedOut when the organization
	// needs it.
	DeleteConnection(ctx context.Context, c Connection, e audit.Event) error
	// EnterBySSO keeps n.Browser, begins a member's session below it and ends
	// n.Ends, if the connection still is active. subject is bound to the member the first time,
	// and has to be the member's from then on. ErrNotFound, ErrUnproved or
	// ErrOtherPerson when the person may not be there.
	EnterBySSO(ctx context.Context, n Entry, connectionID, subject string, e audit.Event) (Session, Member, error)
}

// Counts reports whether a proof is worth something in an organization. What an
// organization's own service says about a person holds in that organization and
// nowhere else: its administrators decide what it says.
func (f Factor) Counts(organizationID string) bool {
	return f.OrganizationID == "" || f.OrganizationID == organizationID
}

// TakesSSO reports whether the organization's settings let members sign in
// through its own service.
func (o Organization) TakesSSO() bool {
	return o.Settings.Methods != Listed || slices.Contains(o.Settings.AllowedMethods, MethodSSO)
}

// NeedsSSO reports whether the organization's settings let members sign in
// through its own service alone.
func (o Organization) NeedsSSO() bool {
	return o.Settings.Methods == Listed && !slices.Contains(o.Settings.AllowedMethods, MethodEmailCode)
}

// Equal reports whether two metadata say the same.
func (p Provider) Equal(q Provider) bool {
	return p.Authorization == q.Authorization && p.Token == q.Token && p.Keys == q.Keys && p.Userinfo == q.Userinfo &&
		p.NamesItself == q.NamesItself && slices.Equal(p.ClientAuth, q.ClientAuth)
}

// Confined is the one organization that a browser's proofs count for, "" when
// the address itself was proved.
func (b Browser) Confined() string {
	if len(b.Factors) == 0 || slices.ContainsFunc(b.Factors, func(f Factor) bool { return f.OrganizationID == "" }) {
		return ""
	}
	return b.Factors[0].OrganizationID
}

// Connection returns the connection of an organization, or ErrNotFound.
func (p *People) Connection(ctx context.Context, projectID, organizationID string) (Connection, error) {
	return p.store.Connection(ctx, projectID, organizationID)
}

// Connected lists the ids of those organizations that a browser's person can
// enter by single sign-on.
func (p *People) Connected(ctx context.Context, b Browser) ([]string, error) {
	return p.store.Connected(ctx, b.ProjectID, b.EmailFolded)
}

// CreateConnection keeps a new connection, which is not active yet. ErrConflict
// when the organization has one.
func (p *People) CreateConnection(ctx context.Context, c Connection, e audit.Event) error {
	e.Kind, e.Object = audit.SSOCreated, c.ID
	c.Active, c.CreatedAt, c.UpdatedAt = false, p.now(), p.now()
	return p.store.CreateConnection(ctx, c, e)
}

// ActivateConnection lets members sign in through a connection.
func (p *People) ActivateConnection(ctx context.Context, c Connection, e audit.Event) error {
	e.Kind, e.Object = audit.SSOChanged, c.ID
	c.UpdatedAt = p.now()
	return p.store.ActivateConnection(ctx, c, e)
}

// SaveProvider keeps what the provider of a connection says.
func (p *People) SaveProvider(ctx context.Context, c Connection, e audit.Event) error {
	e.Kind, e.Object = audit.SSOChanged, c.ID
	c.UpdatedAt = p.now()
	return p.store.SaveProvider(ctx, c, e)
}

// DeleteConnection removes a connection. Who signed in through it is signed out
// at once. The error is Problems where nobody could sign in any more.
func (p *People) DeleteConnection(ctx context.Context, c Connection, e audit.Event) error {
	e.Kind, e.Object = audit.SSODeleted, c.ID
	err := p.store.DeleteConnection(ctx, c, e)
	if errors.Is(err, ErrLockedOut) {
		return Problems{"Members may sign in by single sign-on alone. Allow codes by e-mail first, or nobody can sign in."}
	}
	return err
}

// EnterBySSO goes into the organization of a connection as the person that its
// provider named: subject is the provider's own id of them. The browser is new
// and is kept with the session; ends is what it takes the place of. Errors are those of Enter and of
// ConnectionStore.
func (p *People) EnterBySSO(ctx context.Context, proj *project.Project, b Browser, c Connection, subject, name string, ends Ending, e audit.Event) (Visit, error) {
	o, err := p.store.Organization(ctx, proj.ID, c.OrganizationID)
	switch {
	case err != nil:
		return Visit{}, err
	case !o.Active:
		return Visit{}, ErrNotFound
	case !o.Accepts(b.Factors):
		return Visit{}, ErrMethod
	}
	n := p.entry(proj, b, o.ID)
	n.Ends = ends
	if Printable(name, maxName) {
		n.Newcomer.Name = name
	}
	s, m, err := p.store.EnterBySSO(ctx, n, c.ID, subject, e)
	if err != nil {
		return Visit{}, err
	}
	b.OrganizationID = o.ID
	return Visit{b, s, m, o}, nil
}

// stillConnected returns ErrMethod when a browser came by a connection that the
// organization has no more.
func (p *People) stillConnected(ctx context.Context, b Browser, o Organization) error {
	if b.Confined() == "" {
		return nil
	}
	c, err := p.store.Connection(ctx, o.ProjectID, o.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if err != nil || !c.Active || c.ID != b.Factors[0].ConnectionID {
		return ErrMethod
	}
	return nil
}

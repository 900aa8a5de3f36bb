package oauth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

// SetupStore is what Setup needs of a database besides what the protocol does.
type SetupStore interface {
	Store
	// FindClients lists clients by name, or returns ErrNotFound when the one to go
	// on after is gone.
	FindClients(ctx context.Context, projectID string, q ClientQuery) ([]Client, error)
	// ChangeClient replaces metadata and BypassConsent of a client, if before is
	// what they still are, or returns ErrConflict.
	ChangeClient(ctx context.Context, c, before Client, e audit.Event) error
	// BlockClient blocks a client, ends its grants with their families, appends to
	// the revocation feed, and reports how many lived. Blocking a blocked one
	// changes nothing. ErrNotFound when there is none.
	BlockClient(ctx context.Context, projectID, id string, e audit.Event) (int, error)
	// UnblockClient is idempotent too. No grant comes back.
	UnblockClient(ctx context.Context, projectID, id string, e audit.Event) error
	// ClientGrants lists the live grants of a client, the one made last first,
	// before the grant with the id before ("" from the start), at most limit.
	ClientGrants(ctx context.Context, projectID, clientID, before string, limit int) ([]ClientGrant, error)
	// CountClientGrants counts the live grants of a client as far as limit.
	CountClientGrants(ctx context.Context, projectID, clientID string, limit int) (int, error)
	// GrantByID returns a grant, live or not, or ErrNotFound.
	GrantByID(ctx context.Context, projectID, id string) (Grant, error)
	// RevokeClientGrants ends the grants of a client as BlockClient does.
	RevokeClientGrants(ctx context.Context, projectID, clientID string, e audit.Event) (int, error)
	// Counted is how far a counter is in its open window.
	Counted(ctx context.Context, projectID string, c Counter, now time.Time) (int, error)
}

// ClientQuery asks for clients in the order of their names. At most one of
// Creation, Type and Blocked is set.
type ClientQuery struct {
	Text     string // what the name begins with, a whole id, or a document's whole address
	Creation Creation
	Type     ClientType
	Blocked  bool
	After    string // id of the last client of the page before, "" from the start
	Limit    int
}

// ClientGrant is a grant as the operator of a client sees it.
type ClientGrant struct {
	Grant      Grant
	Scopes     []GrantScope // those that are allowed, without hash and time
	LastUsedAt time.Time    // as in ConnectedApp
}

// Allowed are the scopes that a grant allows and the resources that its tokens
// are for, each once and in order.
func Allowed(rows []GrantScope) (scopes, resources []string) {
	scopes, resources = []string{}, []string{}
	for _, row := range rows {
		if row.Allowed {
			scopes = append(scopes, row.Scope)
			if row.Resource != "" {
				resources = append(resources, row.Resource)
			}
		}
	}
	slices.Sort(scopes)
	slices.Sort(resources)
	return slices.Compact(scopes), slices.Compact(resources)
}

// foldedName is how many characters of a name count in a list's order.
const foldedName = 60

// FoldName is a client's name as lists are ordered and searched by: in lower
// case, on one line, without what nobody sees.
func FoldName(name string) string {
	name = strings.Join(strings.FieldsFunc(strings.ToLower(name), unicode.IsSpace), " ")
	var folded []rune
	for _, r := range name {
		if unicode.IsGraphic(r) && r != unicode.ReplacementChar && len(folded) < foldedName {
			folded = append(folded, r)
		}
	}
	return strings.TrimSpace(string(folded))
}

// FindClients lists clients by name. A whole id or address finds its client
// alone, whatever else is asked.
func (s *Setup) FindClients(ctx context.Context, p *project.Project, q ClientQuery) ([]Client, error) {
	chosen := 0
	for _, is := range []bool{q.Creation != "", q.Type != "", q.Blocked} {
		if is {
			chosen++
		}
	}
	if chosen > 1 {
		return nil, project.Problem("connected apps are listed by one of type, how they came to be known, and blocked; choose one")
	}
	q.Text = strings.TrimSpace(q.Text)
	if strings.HasPrefix(q.Text, "connected-app-") || strings.HasPrefix(q.Text, "https://") {
		c, err := s.Client(ctx, p, q.Text)
		switch {
		case err == nil:
			return []Client{c}, nil
		case !errors.Is(err, ErrNotFound):
			return nil, err
		}
	}
	return s.store.FindClients(ctx, p.ID, q)
}

// ChangeClient edits the name, the addresses, the keys or BypassConsent of a
// pre-registered client; what else edit changes is not kept. It tries again when
// somebody else changed the client in between. Whoever agreed to the client is
// asked once more, for a consent is one to what was shown.
func (s *Setup) ChangeClient(ctx context.Context, p *project.Project, id string, edit func(c *Client) error) (Client, error) {
	for range 5 {
		before, err := s.Client(ctx, p, id)
		if err != nil {
			return Client{}, err
		}
		if before.Creation != Preregistered {
			return Client{}, project.Problem("this client says itself what it is called and where its answers go; only one that was registered by hand can be changed")
		}
		c := before
		c.Metadata.RedirectURIs = slices.Clone(before.Metadata.RedirectURIs)
		c.Metadata.PostLogoutRedirectURIs = slices.Clone(before.Metadata.PostLogoutRedirectURIs)
		if err := edit(&c); err != nil {
			return Client{}, err
		}
		c.Metadata.ClientName = strings.TrimSpace(c.Metadata.ClientName)
		if err := typedKeys(p, &c.Metadata); err != nil {
			return Client{}, err
		}
		if err := checkTyped(p, c, before); err != nil {
			return Client{}, err
		}
		if c.MetadataHash = c.Metadata.Hash(); slices.Equal(c.MetadataHash, before.MetadataHash) && c.BypassConsent == before.BypassConsent {
			return c, nil
		}
		err = s.store.ChangeClient(ctx, c, before, s.event(p, audit.ClientChanged, c.ID))
		if !errors.Is(err, ErrConflict) {
			return c, err
		}
	}
	return Client{}, ErrConflict
}

// typedKeys turns the keys that an operator gave a client into what is kept of
// them.
func typedKeys(p *project.Project, m *Metadata) error {
	if m.TokenEndpointAuthMethod != authKey && (len(m.JWKS) > 0 || m.JWKSURI != "") {
		return project.Problem("this client does not authenticate with keys; register another one that does")
	}
	err := checkLink("jwks_uri", m.JWKSURI, false)
	if err == nil {
		err = m.keepKeys(p, false)
	}
	var refusal *Error
	if errors.As(err, &refusal) {
		return project.Problem("its keys: " + refusal.Description)
	}
	return err
}

// checkTyped refuses what an operator cannot have of a client. Addresses that it
// had before stay right when the project's rules have changed since.
func checkTyped(p *project.Project, c, before Client) error {
	redirects, signedOut := c.Metadata.RedirectURIs, c.Metadata.PostLogoutRedirectURIs
	switch {
	case strings.TrimSpace(c.Metadata.ClientName) == "":
		return project.Problem("a client needs a name")
	case len(redirects) == 0:
		return project.Problem("a client needs at least one redirect URI")
	case len(redirects) > maxRedirectURIs || len(signedOut) > maxRedirectURIs:
		return project.Problem(fmt.Sprintf("a client has at most %d redirect URIs", maxRedirectURIs))
	case c.BypassConsent && !c.Type.FirstParty():
		return project.Problem("only first-party clients can do without consent")
	}
	for _, list := range [][2][]string{{redirects, before.Metadata.RedirectURIs}, {signedOut, before.Metadata.PostLogoutRedirectURIs}} {
		for i, uri := range list[0] {
			if slices.Contains(list[0][:i], uri) {
				return project.Problem(fmt.Sprintf("the address %s is there already", uri))
			}
			var refusal *Error
			if err := checkRedirectURI(p, uri); errors.As(err, &refusal) && !slices.Contains(list[1], uri) {
				return project.Problem(fmt.Sprintf("the address %s: %s", uri, refusal.Description))
			}
		}
	}
	return nil
}

// Block shuts a client out: it gets no code and no token any more, and what
// people allowed it ends. It reports how many grants that were.
func (s *Setup) Block(ctx context.Context, p *project.Project, id string) (int, error) {
	return s.store.BlockClient(ctx, p.ID, id, s.event(p, audit.ClientBlocked, id))
}

// Unblock lets a client ask people again. What they allowed before stays ended.
func (s *Setup) Unblock(ctx context.Context, p *project.Project, id string) error {
	return s.store.UnblockClient(ctx, p.ID, id, s.event(p, audit.ClientUnblocked, id))
}

// Grants lists what people allow a client now; see SetupStore.
func (s *Setup) Grants(ctx context.Context, p *project.Project, clientID, before string, limit int) ([]ClientGrant, error) {
	return s.store.ClientGrants(ctx, p.ID, clientID, before, limit)
}

// CountGrants counts what people allow a client now, as far as limit.
func (s *Setup) CountGrants(ctx context.Context, p *project.Project, clientID string, limit int) (int, error) {
	return s.store.CountClientGrants(ctx, p.ID, clientID, limit)
}

// Grant returns a grant of the project, live or not.
func (s *Setup) Grant(ctx context.Context, p *project.Project, id string) (Grant, error) {
	return s.store.GrantByID(ctx, p.ID, id)
}

// RevokeGrant ends a grant of the project with every token under it, and returns
// it as it was.
func (s *Setup) RevokeGrant(ctx context.Context, p *project.Project, id string) (Grant, error) {
	g, err := s.store.GrantByID(ctx, p.ID, id)
	if err != nil {
		return Grant{}, err
	}
	e := s.by.Event(p.ID, s.now(), audit.GrantRevoked, g.ID)
	e.Subject, e.ClientID = g.Subject, g.ClientID
	return g, s.store.RevokeGrant(ctx, p.ID, g.Subject, g.ID, tokensUntil(p, s.now()), e)
}

// RevokeAll ends every grant of a client, which may ask again, and reports how
// many there were.
func (s *Setup) RevokeAll(ctx context.Context, p *project.Project, clientID string) (int, error) {
	return s.store.RevokeClientGrants(ctx, p.ID, clientID, s.event(p, audit.GrantRevoked, clientID))
}

// Registrations is how many clients may register themselves, and how many did.
type Registrations struct {
	PerAddress int // in an hour
	PerProject int // in a day
	Counted    int // in the day that is running
}

// Registrations tells how far the project's limit of self-registrations is used.
func (s *Setup) Registrations(ctx context.Context, p *project.Project) (Registrations, error) {
	limits := registrationLimits("")
	n, err := s.store.Counted(ctx, p.ID, limits[1], s.now())
	return Registrations{PerAddress: limits[0].Limit, PerProject: limits[1].Limit, Counted: n}, err
}

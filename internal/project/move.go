package project

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
)

// An address stands in every token that names it, and in the memory of every
// client, so the access that was given under it ends with it. What people
// decided stays: docs/decisions/0014.

// Impact is what a new address ends, before it is done: Access counts it, Apps
// names those that have to be connected again.
type Impact struct {
	Authorizations int           // completed ones that still give tokens
	People         int           // who gave them; a member of two organizations counts twice
	Clients        int           // connected apps that have them
	Apps           []ImpactedApp // of these the first, with the most people first
	Connections    []Connection  // sign-in services of organizations, whose redirect URI moves with the issuer
}

// ImpactedApp is a connected app that has to be connected again.
type ImpactedApp struct {
	ClientID string // as the client itself says it
	Name     string
	People   int
}

// Connection is an organization with a sign-in service of its own.
type Connection struct{ OrganizationID, Organization string }

// impactedApps bounds Impact.Apps.
const impactedApps = 20

// MoveStore is what moving needs of a database; see SetupStore.
type MoveStore interface {
	// Access is the impact of ending what lives at now: for some resources, to the
	// letter, or of the whole project when there are none. At most limit apps are
	// named.
	Access(ctx context.Context, projectID string, resources []string, now time.Time, limit int) (Impact, error)
	// Connections lists the organizations that have a sign-in service.
	Connections(ctx context.Context, projectID string) ([]Connection, error)
	// MoveResource gives the resource server r.ID, which was at old, the addresses
	// and the name of r. Decisions about old.URI become decisions about r.URI,
	// where older ones are forgotten; access for an address in ended ends. It
	// returns how many authorizations that were, ErrNotFound when nothing is at
	// old any more, ErrTaken when an address of r is another's, and ErrConflict
	// unless seen still is the project's change counter.
	MoveResource(ctx context.Context, projectID string, seen int64, old, r Resource, ended []string, e audit.Event) (int, error)
	// SetIssuer replaces the issuer old, and ends all access of the project. It
	// returns how many authorizations that were, and ErrConflict when the host is
	// another project's or the issuer is not old any more.
	SetIssuer(ctx context.Context, projectID, old, issuer string, e audit.Event) (int, error)
}

// MoveImpact is what MoveResource would end.
func (s *Setup) MoveImpact(ctx context.Context, p *Project, old string) (Impact, error) {
	r, err := p.movable(old)
	if err != nil {
		return Impact{}, err
	}
	return s.store.Access(ctx, p.ID, r.spellings(), s.now(), impactedApps)
}

// MoveResource gives a resource server another URI. It stays the same server:
// its id, secret and scopes stay, and so does what people allowed and declined.
// Its aliases go with it to the new origin, their paths as they are. Access for
// the old addresses ends; the number is how many authorizations that were.
func (s *Setup) MoveResource(ctx context.Context, p *Project, old, uri string) (Resource, int, error) {
	before, err := p.movable(old)
	if err != nil {
		return Resource{}, 0, err
	}
	after, err := p.Moved(old, uri)
	if err != nil {
		return Resource{}, 0, err
	}
	n, err := s.store.MoveResource(ctx, p.ID, p.Change, before, after, before.spellings(), s.event(p.ID, audit.ResourceMoved, after.ID))
	return after, n, err
}

// IssuerImpact is what SetIssuer would end.
func (s *Setup) IssuerImpact(ctx context.Context, p *Project) (Impact, error) {
	all, err := s.store.Access(ctx, p.ID, nil, s.now(), impactedApps)
	if err != nil {
		return Impact{}, err
	}
	all.Connections, err = s.store.Connections(ctx, p.ID)
	return all, err
}

// SetIssuer gives a project another issuer. Everything that was issued under the
// old one ends; the number is how many authorizations that were. Signing keys,
// people and what they decided stay; sessions of browsers stay behind with the
// cookies of the old host.
func (s *Setup) SetIssuer(ctx context.Context, p *Project, issuer string) (int, error) {
	if err := CheckIssuer(issuer); err != nil {
		return 0, err
	}
	if issuer == p.Issuer {
		return 0, fmt.Errorf("the issuer is %s already", issuer)
	}
	return s.store.SetIssuer(ctx, p.ID, p.Issuer, issuer, s.event(p.ID, audit.IssuerChanged, p.ID))
}

// movable finds a resource server by its own URI.
func (p *Project) movable(uri string) (Resource, error) {
	r, ok := p.Resource(uri)
	switch {
	case !ok:
		return Resource{}, fmt.Errorf("%w: the project %s has no resource server %s", ErrNotFound, p.Name, uri)
	case ResourceKey(r.URI) != ResourceKey(uri):
		return Resource{}, fmt.Errorf("%s is an alias of %s; move that one, and the alias goes with it", uri, r.URI)
	}
	return r, nil
}

// Moved is what MoveResource makes of a resource server, or why it cannot.
func (p *Project) Moved(old, uri string) (Resource, error) {
	before, err := p.movable(old)
	if err != nil {
		return Resource{}, err
	}
	after, err := before.at(uri)
	if err != nil {
		return Resource{}, err
	}
	if other, ok := p.Resource(uri); ok && other.ID != before.ID {
		return Resource{}, fmt.Errorf("%w: %s is an address of the resource server %s; an address belongs to one", ErrTaken, uri, other.URI)
	}
	others := slices.DeleteFunc(slices.Clone(p.Resources), func(r Resource) bool { return r.ID == before.ID })
	return after, after.CheckTaken(others)
}

// at is a resource server at another URI.
func (r Resource) at(uri string) (Resource, error) {
	if err := CheckResource(uri); err != nil {
		return Resource{}, err
	}
	if ResourceKey(uri) == ResourceKey(r.URI) {
		return Resource{}, errors.New("the resource server is there already")
	}
	after := r
	after.URI, after.Aliases = uri, nil
	if r.Name == IssuerHost(r.URI) { // nobody named it
		after.Name = IssuerHost(uri)
	}
	authority := func(uri string) int { // where the path begins
		start := strings.Index(uri, "://") + len("://")
		if slash := strings.IndexByte(uri[start:], '/'); slash >= 0 {
			return start + slash
		}
		return len(uri)
	}
	for _, alias := range r.Aliases {
		moved := uri[:authority(uri)] + alias[authority(alias):]
		if !after.Is(moved) {
			after.Aliases = append(after.Aliases, moved)
		}
	}
	return after, after.CheckAliases()
}

// spellings are the resource identifiers that tokens for r may have been granted
// for: its addresses, with and without a last slash.
func (r Resource) spellings() []string {
	var all []string
	for _, uri := range r.URIs() {
		all = append(all, ResourceKey(uri), ResourceKey(uri)+"/")
	}
	return slices.Compact(all)
}

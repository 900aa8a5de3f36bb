package dev

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

// SeedOKR is the B2B project that "postern dev" starts with beside the first:
// an organization with three members, and no policy. All fields are required.
type SeedOKR struct {
	Projects *project.Setup
	Clients  *oauth.Setup
	People   *identity.People
	Now      func() time.Time
	Issuer   string // of the project, such as http://localhost:4001
	OKRURL   string // of the example's page, such as http://localhost:3001; its MCP server is at /mcp
}

// SeededOKR names what others need of it.
type SeededOKR struct {
	Project     *project.Project
	Resource    string // the example's MCP server
	OKRClientID string // the example's web page, which signs people in
	Members     []SeededMember
}

// SeededMember is somebody to sign in as.
type SeededMember struct {
	Email string
	Role  string // "member", which everybody has, or one that was given
}

// The seeded organization, and the address of each of its people by role.
const okrOrganization = "example"

func seededMembers() []SeededMember {
	return []SeededMember{{"admin@example.test", "admin"}, {"manager@example.test", "manager"}, {"employee@example.test", "member"}}
}

// The scopes of the example; its policy file says what they stand for.
func okrScopes() []string {
	return []string{"read:okrs", "report_kr_status", "manage:krs", "manage:objectives"}
}

// Plant makes what is missing. The example's role manager comes with its
// policy: Staff gives it.
func (s SeedOKR) Plant(ctx context.Context) (SeededOKR, error) {
	p, err := s.Projects.Find(ctx, s.Issuer)
	if errors.Is(err, project.ErrNotFound) {
		settings := project.Defaults()
		settings.UnregisteredResources = true // decision 4
		p, _, err = s.Projects.Create(ctx, project.New{Name: "OKR", Issuer: s.Issuer, Vertical: project.B2B, Environment: project.Test, Settings: &settings})
	}
	if err != nil {
		return SeededOKR{}, fmt.Errorf("dev: project: %w", err)
	}
	resource, aliases := s.OKRURL+"/mcp", []string{s.OKRURL + "/sse"}
	if known, ok := p.Resource(resource); !ok || !known.Default || !slices.Equal(known.Aliases, aliases) {
		known.URI, known.Aliases, known.Name, known.Default, known.Scopes = resource, aliases, "OKR", true, okrScopes()
		if _, _, err := s.Projects.AddResource(ctx, p, known, nil, false); err != nil {
			return SeededOKR{}, fmt.Errorf("dev: resource server: %w", err)
		}
	}
	seeded := SeededOKR{Resource: resource, Members: seededMembers()}
	seeded.OKRClientID, err = findClient(ctx, s.Clients, p, oauth.NewClient{
		Name: "OKR", Type: oauth.FirstPartyPublic, BypassConsent: true,
		RedirectURIs:           []string{"http://localhost:3001/callback"},
		PostLogoutRedirectURIs: []string{"http://localhost:3001/"},
	})
	if err != nil {
		return SeededOKR{}, fmt.Errorf("dev: client: %w", err)
	}
	seeded.Project, err = s.Projects.Find(ctx, p.ID)
	return seeded, err
}

// Staff makes the organization and its people where there is nobody yet, with
// those of their roles that the policy has. applied says that the policy came
// just now: then who never signed in gets the role that was missing.
func (s SeedOKR) Staff(ctx context.Context, p *project.Project, applied bool) error {
	e := audit.Event{ProjectID: p.ID, At: s.Now(), Actor: "operator"}
	o, err := s.People.Organization(ctx, p.ID, okrOrganization)
	if errors.Is(err, identity.ErrNotFound) {
		o, err = s.People.CreateOrganization(ctx, p, identity.Organization{
			Name: "Example", Slug: okrOrganization, Settings: identity.DefaultOrganization(),
		}, e)
	}
	if err != nil {
		return fmt.Errorf("dev: organization: %w", err)
	}
	some, err := s.People.Members(ctx, o, identity.MemberQuery{Limit: 1})
	if err != nil || len(some) > 0 && !applied {
		return err // who was removed stays removed
	}
	empty := len(some) == 0
	rules, err := s.People.Rules(ctx, p)
	if err != nil {
		return fmt.Errorf("dev: policy: %w", err)
	}
	for _, one := range seededMembers() {
		var roles []string
		if one.Role != "member" && rules.HasRole(one.Role) {
			roles = []string{one.Role}
		}
		m, err := s.People.Member(ctx, o, one.Email)
		switch {
		case empty:
			_, err = s.People.AddMember(ctx, p, o, identity.Member{Email: one.Email, Status: identity.Active, Roles: roles}, e)
		case err == nil && len(m.Roles) == 0 && len(roles) > 0 && m.LastSignInAt.IsZero():
			_, err = s.People.ChangeMember(ctx, p, o, m.ID, func(m *identity.Member) error { m.Roles = roles; return nil }, e)
		}
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			return fmt.Errorf("dev: member: %w", err)
		}
	}
	return nil
}

package dev

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

// Seed is what "postern dev" starts with. All fields are required.
type Seed struct {
	Projects *project.Setup
	Clients  *oauth.Setup
	Issuer   string // of the project, such as http://localhost:4000
	TodoURL  string // of the example's page, such as http://localhost:3000; its MCP server is at /mcp
}

// Seeded names what others need of it.
type Seeded struct {
	Project      *project.Project
	Resource     string // the example's MCP server
	TodoClientID string // the example's web page, which signs people in
	DemoClientID string // a pre-registered MCP client, for a terminal on this computer
}

// The names by which later runs find the seeded clients again.
const (
	todoPage = "Todo"
	demoMCP  = "Terminal (pre-registered)"
)

// Plant makes what is missing: the project, the example's resource server and
// two clients. It may run at every start.
func (s Seed) Plant(ctx context.Context) (Seeded, error) {
	p, err := s.project(ctx)
	if err != nil {
		return Seeded{}, fmt.Errorf("dev: project: %w", err)
	}
	resource := s.TodoURL + "/mcp"
	// Clients of the older transport ask for a token of the address they use.
	aliases := []string{s.TodoURL + "/sse"}
	if known, ok := p.Resource(resource); !ok || !known.Default || !slices.Equal(known.Aliases, aliases) {
		known.URI, known.Aliases, known.Name, known.Default = resource, aliases, "Todo", true
		if _, _, err := s.Projects.AddResource(ctx, p, known, todoScopes(), false); err != nil {
			return Seeded{}, fmt.Errorf("dev: resource server: %w", err)
		}
	}
	seeded := Seeded{Resource: resource}
	// Any port of this computer matches a loopback redirect URI, so the clients
	// stay the same when the example moves to another.
	if seeded.TodoClientID, err = findClient(ctx, s.Clients, p, oauth.NewClient{
		Name: todoPage, Type: oauth.FirstPartyPublic, BypassConsent: true,
		RedirectURIs:           []string{"http://localhost:3000/callback"},
		PostLogoutRedirectURIs: []string{"http://localhost:3000/"},
	}); err != nil {
		return Seeded{}, fmt.Errorf("dev: client: %w", err)
	}
	if seeded.DemoClientID, err = findClient(ctx, s.Clients, p, oauth.NewClient{
		Name: demoMCP, Type: oauth.ThirdPartyPublic,
		RedirectURIs: []string{"http://localhost/callback", "http://127.0.0.1/callback"},
	}); err != nil {
		return Seeded{}, fmt.Errorf("dev: client: %w", err)
	}
	seeded.Project, err = s.Projects.Find(ctx, p.ID)
	return seeded, err
}

func todoScopes() []project.Scope {
	return []project.Scope{
		{Name: "read:todos", Description: "Read your to-dos", Detail: "Their texts, which ones are done, and who added them", ReadOnly: true},
		{Name: "write:todos", Description: "Add, complete and delete your to-dos", Detail: "Deleted to-dos cannot be brought back"},
	}
}

func (s Seed) project(ctx context.Context) (*project.Project, error) {
	p, err := s.Projects.Find(ctx, s.Issuer)
	if !errors.Is(err, project.ErrNotFound) {
		return p, err
	}
	settings := project.Defaults()
	settings.UnregisteredResources = true // decision 4
	p, _, err = s.Projects.Create(ctx, project.New{Name: "Todo", Issuer: s.Issuer, Environment: project.Test, Settings: &settings})
	return p, err
}

// findClient finds a pre-registered client by its name, or makes it.
func findClient(ctx context.Context, setup *oauth.Setup, p *project.Project, n oauth.NewClient) (string, error) {
	const page = 200
	for after := ""; ; {
		clients, err := setup.Clients(ctx, p, after, page)
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(clients, func(c oauth.Client) bool {
			return c.Creation == oauth.Preregistered && c.Metadata.ClientName == n.Name
		})
		if i >= 0 {
			return clients[i].ID, nil
		}
		if len(clients) < page {
			break
		}
		after = clients[len(clients)-1].ID
	}
	c, _, err := setup.CreateClient(ctx, p, n)
	return c.ID, err
}

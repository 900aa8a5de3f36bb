package main

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

func (p *program) clientCommand() *cobra.Command {
	c := group("client", "Register connected apps by hand, and look after all of them",
		p.clientCreate(), p.clientList(), p.clientShow(), p.clientDelete(), p.clientRotateSecret())
	c.PersistentFlags().Bool("json", false, "print JSON")
	c.PersistentFlags().String("project", "", "which project, by id or issuer; not needed when there is one")
	return c
}

func (p *program) clientCreate() *cobra.Command {
	var n oauth.NewClient
	var kind string
	c := &cobra.Command{
		Use:   "create",
		Short: "Register a client and print what to type into its settings",
		Long: `Register a client and print what to type into its settings.

Types:
  first-party          your own program, with a secret
  first-party-public   your own program, without one
  third-party          somebody else's program, with a secret
  third-party-public   somebody else's program, without one; most MCP clients`,
		Args: needs(),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, _ []string) error {
			n.Type = oauth.ClientType(strings.ReplaceAll(kind, "-", "_"))
			created, key, err := d.clients.CreateClient(ctx, one, n)
			if err != nil {
				return advise(err, "postern client create --help")
			}
			if d.json {
				j := describeClient(created)
				if key != nil {
					j.Secret = key.Text
				}
				return d.out.json(j)
			}
			d.out.line("%s registered %s", d.out.ok(), d.out.bright(created.Name()))
			d.out.line("")
			d.out.line("Type this into the client's settings:")
			d.out.line("")
			rows := [][2]string{{"client id", d.out.bright(created.PublicID())}}
			if key != nil {
				rows = append(rows, [2]string{"client secret", d.out.amber(key.Text)})
			}
			d.out.facts(rows...)
			if key != nil {
				d.out.line("%s", d.out.dim("The secret is shown once; only its hash is kept."))
			}
			d.out.line("")
			d.out.facts(clientFacts(created)...)
			return nil
		}),
	}
	f := c.Flags()
	f.StringVar(&n.Name, "name", "", "what people read when it asks for permission")
	f.StringVar(&kind, "type", "third-party-public", "first-party, first-party-public, third-party or third-party-public")
	f.StringArrayVar(&n.RedirectURIs, "redirect-uri", nil, "where answers may go, exactly; any port on localhost; may repeat")
	f.StringArrayVar(&n.PostLogoutRedirectURIs, "post-logout-redirect-uri", nil, "where it may send people after signing out; may repeat")
	f.StringVar(&n.AuthMethod, "auth-method", "", "how it sends its secret: client_secret_basic (default) or client_secret_post")
	f.BoolVar(&n.BypassConsent, "bypass-consent", false, "do not ask people (first party only)")
	return c
}

// everyClient is how many clients are read at once.
const everyClient = 200

func (p *program) clientList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the connected apps of a project, however they came to be known",
		Args:  needs(),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, _ []string) error {
			all, after := []clientJSON{}, ""
			var rows [][]string
			for {
				page, err := d.clients.Clients(ctx, one, after, everyClient)
				if err != nil {
					return err
				}
				for _, c := range page {
					all = append(all, describeClient(c))
					rows = append(rows, []string{d.out.bright(printable(c.Name())), typeName(c.Type), string(c.Creation), stamp(c.LastRegisteredAt), c.PublicID()})
				}
				if len(page) < everyClient {
					break
				}
				after = page[len(page)-1].ID
			}
			switch {
			case d.json:
				return d.out.json(all)
			case len(all) == 0:
				d.out.line("No connected app yet. MCP clients register by themselves, or:   %s",
					d.out.green("postern client create --name NAME --redirect-uri URL"))
				return nil
			}
			d.out.table([]string{"CONNECTED APP", "TYPE", "HOW", "LAST REGISTERED", "CLIENT ID"}, rows)
			return nil
		}),
	}
}

// printable keeps a name that a stranger chose from steering the terminal.
func printable(s string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c >= 0x7f && c < 0xa0 || c >= 0x200b && c <= 0x200f || c >= 0x202a && c <= 0x202e || c >= 0x2066 && c <= 0x2069 {
			return '?'
		}
		return c
	}, s)
}

func (p *program) clientShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show CLIENT_ID",
		Short: "Show a connected app",
		Args:  needs("the client id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			c, err := d.client(ctx, one, args[0])
			if err != nil {
				return err
			}
			if d.json {
				return d.out.json(describeClient(c))
			}
			d.out.line("%s", d.out.bright(printable(c.Name())))
			d.out.line("")
			d.out.facts(append([][2]string{{"Client id", c.PublicID()}}, clientFacts(c)...)...)
			return nil
		}),
	}
}

func (d *desk) client(ctx context.Context, p *project.Project, id string) (oauth.Client, error) {
	c, err := d.clients.Client(ctx, p, id)
	if errors.Is(err, oauth.ErrNotFound) {
		return c, wrong("postern client list", "the project %s has no client %s", p.Name, id)
	}
	return c, err
}

func (p *program) clientDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete CLIENT_ID",
		Short: "Delete a connected app; what people allowed it ends with it",
		Args:  needs("the client id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			c, err := d.client(ctx, one, args[0])
			if err != nil {
				return err
			}
			if err := d.clients.DeleteClient(ctx, one, c.ID); err != nil {
				return advise(err, "postern client list")
			}
			if d.json {
				return d.out.json(describeClient(c))
			}
			d.out.line("%s deleted %s; its tokens have ended", d.out.ok(), d.out.bright(printable(c.Name())))
			return nil
		}),
	}
}

func (p *program) clientRotateSecret() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-secret CLIENT_ID",
		Short: "Give a client a new secret; the old one stops at once",
		Args:  needs("the client id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			c, err := d.client(ctx, one, args[0])
			if err != nil {
				return err
			}
			key, err := d.clients.RotateSecret(ctx, one, c.ID)
			if err != nil {
				return advise(err, "postern client show "+c.ID)
			}
			if d.json {
				j := describeClient(c)
				j.Secret = key.Text
				return d.out.json(j)
			}
			d.out.line("%s %s has a new secret; the old one has stopped", d.out.ok(), d.out.bright(c.Name()))
			d.out.line("")
			d.out.facts([2]string{"client id", c.PublicID()}, [2]string{"client secret", d.out.amber(key.Text)})
			d.out.line("%s", d.out.dim("The secret is shown once; only its hash is kept."))
			return nil
		}),
	}
}

func typeName(t oauth.ClientType) string { return strings.ReplaceAll(string(t), "_", "-") }

func clientFacts(c oauth.Client) [][2]string {
	facts := [][2]string{
		{"Type", typeName(c.Type)},
		{"Registered", string(c.Creation) + ", " + stamp(c.CreatedAt)},
		{"Authenticates by", c.Metadata.TokenEndpointAuthMethod},
		{"Redirect URIs", printable(strings.Join(c.Metadata.RedirectURIs, " "))},
	}
	if len(c.Metadata.PostLogoutRedirectURIs) > 0 {
		facts = append(facts, [2]string{"After sign-out", printable(strings.Join(c.Metadata.PostLogoutRedirectURIs, " "))})
	}
	if c.URL != "" {
		facts = append(facts, [2]string{"Document read", stamp(c.FetchedAt)})
	}
	if c.Blocked {
		facts = append(facts, [2]string{"Blocked", "yes"})
	}
	return facts
}

// clientJSON is a client for programs.
type clientJSON struct {
	ID               string         `json:"client_id"`
	AppID            string         `json:"connected_app_id"`
	Type             string         `json:"client_type"`
	Creation         string         `json:"creation_method"`
	Metadata         oauth.Metadata `json:"metadata"`
	BypassConsent    bool           `json:"bypass_consent"`
	Blocked          bool           `json:"blocked"`
	Secret           string         `json:"client_secret,omitempty"` // only when it was made
	CreatedAt        time.Time      `json:"created_at"`
	LastRegisteredAt time.Time      `json:"last_registered_at"`
}

func describeClient(c oauth.Client) clientJSON {
	return clientJSON{
		ID: c.PublicID(), AppID: c.ID, Type: string(c.Type), Creation: string(c.Creation), Metadata: c.Metadata,
		BypassConsent: c.BypassConsent, Blocked: c.Blocked, CreatedAt: c.CreatedAt, LastRegisteredAt: c.LastRegisteredAt,
	}
}

package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

func (p *program) clientCommand() *cobra.Command {
	c := group("client", "Register connected apps by hand, and look after all of them",
		p.clientCreate(), p.clientList(), p.clientShow(), p.clientSet(), p.clientRotateSecret(), p.clientGrants(), p.clientRevokeAll(),
		p.clientBlock(), p.clientUnblock(), p.clientDelete())
	c.PersistentFlags().Bool("json", false, "print JSON")
	c.PersistentFlags().String("project", "", "which project, by id or issuer; not needed when there is one")
	return c
}

func (p *program) clientCreate() *cobra.Command {
	var n oauth.NewClient
	var kind, jwks string
	c := &cobra.Command{
		Use:   "create",
		Short: "Register a client and print what to type into its settings",
		Long: `Register a client and print what to type into its settings.

Types:
  first-party          your own program, with a secret
  first-party-public   your own program, without one
  third-party          somebody else's program, with a secret
  third-party-public   somebody else's program, without one; most MCP clients

A program that signs with a key of its own (private_key_jwt) has no secret: give its
public keys with --jwks or --jwks-uri.`,
		Args: needs(),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, _ []string) error {
			n.Type = oauth.ClientType(strings.ReplaceAll(kind, "-", "_"))
			var err error
			if n.JWKS, err = keyFile(jwks); err != nil {
				return err
			}
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
			d.out.line("%s registered %s", d.out.ok(), d.out.bright(printable(created.Name())))
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
	f.StringVar(&n.AuthMethod, "auth-method", "", "client_secret_basic (default), client_secret_post, or private_key_jwt with keys")
	keyFlags(c, &jwks, &n.JWKSURI)
	f.BoolVar(&n.BypassConsent, "bypass-consent", false, "do not ask people (first party only)")
	return c
}

// keyFlags are the flags for the keys of a client.
func keyFlags(c *cobra.Command, jwks, jwksURI *string) {
	c.Flags().StringVar(jwks, "jwks", "", "file with its public keys, a JWK set; for private_key_jwt")
	c.Flags().StringVar(jwksURI, "jwks-uri", "", "https address where it publishes them instead")
	c.MarkFlagsMutuallyExclusive("jwks", "jwks-uri")
}

// keyFile reads a file of public keys, if one is named.
func keyFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, wrong("postern client --help", "the file of keys: %s", plain(err))
	}
	if len(text) == 0 {
		return nil, wrong("postern client --help", "the file of keys: %s: it is empty", path)
	}
	return text, nil
}

// everyClient is how many clients are read at once.
const everyClient = 200

func (p *program) clientList() *cobra.Command {
	var kind, how string
	var blocked bool
	c := &cobra.Command{
		Use:   "list [NAME]",
		Short: "List connected apps by name, all or those whose name begins with NAME",
		Args:  atMost(1),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			q := oauth.ClientQuery{
				Text: strings.Join(args, ""), Type: oauth.ClientType(strings.ReplaceAll(kind, "-", "_")), Creation: oauth.Creation(how),
				Blocked: blocked, Limit: everyClient,
			}
			if types := []oauth.ClientType{"", oauth.FirstParty, oauth.FirstPartyPublic, oauth.ThirdParty, oauth.ThirdPartyPublic}; !slices.Contains(types, q.Type) {
				return wrong("postern client list --help", "there is no client type %q; use first-party, first-party-public, third-party or third-party-public", kind)
			}
			if ways := []oauth.Creation{"", oauth.Preregistered, oauth.Dynamic, oauth.Document}; !slices.Contains(ways, q.Creation) {
				return wrong("postern client list --help", "no client comes to be known as %q; use preregistered, dynamic or document", how)
			}
			all := []clientJSON{}
			var rows [][]string
			for {
				page, err := d.clients.FindClients(ctx, one, q)
				if err != nil {
					return advise(err, "postern client list --help")
				}
				for _, c := range page {
					all = append(all, describeClient(c))
					state := stamp(c.LastRegisteredAt)
					if c.Blocked {
						state = "blocked"
					}
					rows = append(rows, []string{d.out.bright(printable(c.Name())), typeName(c.Type), string(c.Creation), state, c.PublicID()})
				}
				if len(page) < everyClient {
					break
				}
				q.After = page[len(page)-1].ID
			}
			switch {
			case d.json:
				return d.out.json(all)
			case len(all) == 0 && (q.Text != "" || kind != "" || how != "" || blocked):
				d.out.line("No connected app is like that.")
				return nil
			case len(all) == 0:
				d.out.line("No connected app yet. MCP clients register by themselves, or:   %s",
					d.out.green("postern client create --name NAME --redirect-uri URL"))
				return nil
			}
			d.out.table([]string{"CONNECTED APP", "TYPE", "HOW", "LAST REGISTERED", "CLIENT ID"}, rows)
			return nil
		}),
	}
	f := c.Flags()
	f.StringVar(&kind, "type", "", "only first-party, first-party-public, third-party or third-party-public")
	f.StringVar(&how, "how", "", "only those that came to be known as preregistered, dynamic or document")
	f.BoolVar(&blocked, "blocked", false, "only blocked ones")
	return c
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

func (p *program) clientSet() *cobra.Command {
	var name, bypass, jwks, jwksURI string
	var add, remove, addOut, removeOut []string
	c := &cobra.Command{
		Use:   "set CLIENT_ID",
		Short: "Change a client that was registered by hand",
		Long: `Change a client that was registered by hand: its name, where its answers may go,
its keys, whether people are asked. Whoever agreed to it is asked once more.`,
		Args: needs("the client id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			c, err := d.client(ctx, one, args[0])
			if err != nil {
				return err
			}
			if name == "" && bypass == "" && jwks == "" && jwksURI == "" && len(add)+len(remove)+len(addOut)+len(removeOut) == 0 {
				return wrong("postern client set --help", "say what to change")
			}
			if bypass != "" && bypass != "on" && bypass != "off" {
				return wrong("postern client set --help", "--bypass-consent is on or off")
			}
			keys, err := keyFile(jwks)
			if err != nil {
				return err
			}
			changed, err := d.clients.ChangeClient(ctx, one, c.ID, func(c *oauth.Client) error {
				if len(keys) > 0 || jwksURI != "" {
					c.Metadata.JWKS, c.Metadata.JWKSURI = keys, jwksURI
				}
				if name != "" {
					c.Metadata.ClientName = name
				}
				if bypass != "" {
					c.BypassConsent = bypass == "on"
				}
				if c.Metadata.RedirectURIs, err = edited(c.Metadata.RedirectURIs, add, remove); err != nil {
					return err
				}
				c.Metadata.PostLogoutRedirectURIs, err = edited(c.Metadata.PostLogoutRedirectURIs, addOut, removeOut)
				return err
			})
			if err != nil {
				return advise(err, "postern client show "+c.ID)
			}
			if d.json {
				return d.out.json(describeClient(changed))
			}
			d.out.line("%s changed %s", d.out.ok(), d.out.bright(printable(changed.Name())))
			d.out.line("")
			d.out.facts(clientFacts(changed)...)
			return nil
		}),
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "what people read when it asks for permission")
	f.StringArrayVar(&add, "redirect-uri", nil, "add an address where answers may go; may repeat")
	f.StringArrayVar(&remove, "remove-redirect-uri", nil, "take one away; may repeat")
	f.StringArrayVar(&addOut, "post-logout-redirect-uri", nil, "add an address for after signing out; may repeat")
	f.StringArrayVar(&removeOut, "remove-post-logout-redirect-uri", nil, "take one away; may repeat")
	f.StringVar(&bypass, "bypass-consent", "", "on: do not ask people (first party only); off: ask them")
	keyFlags(c, &jwks, &jwksURI)
	return c
}

// edited is a list of addresses with some added and some taken away.
func edited(uris, add, remove []string) ([]string, error) {
	uris = append(slices.Clone(uris), add...)
	for _, uri := range remove {
		i := slices.Index(uris, uri)
		if i < 0 {
			return nil, project.Problem(uri + " is not one of its addresses")
		}
		uris = slices.Delete(uris, i, i+1)
	}
	return uris, nil
}

func (p *program) clientGrants() *cobra.Command {
	return &cobra.Command{
		Use:   "grants CLIENT_ID",
		Short: "List who allows a connected app what",
		Args:  needs("the client id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			c, err := d.client(ctx, one, args[0])
			if err != nil {
				return err
			}
			all, before := []clientGrantJSON{}, ""
			var rows [][]string
			for {
				page, err := d.clients.Grants(ctx, one, c.ID, before, everyClient)
				if err != nil {
					return err
				}
				for _, g := range page {
					j := describeClientGrant(g)
					all = append(all, j)
					rows = append(rows, []string{d.out.bright(j.Subject), orNone(j.Scopes), orNone(j.Resources), stamp(g.Grant.CreatedAt), stamp(g.LastUsedAt), j.ID})
				}
				if len(page) < everyClient {
					break
				}
				before = page[len(page)-1].Grant.ID
			}
			switch {
			case d.json:
				return d.out.json(all)
			case len(all) == 0:
				d.out.line("Nobody allows %s anything.", printable(c.Name()))
				return nil
			}
			d.out.table([]string{"PERSON", "MAY", "AT", "SINCE", "LAST USED", "GRANT"}, rows)
			return nil
		}),
	}
}

// clientGrantJSON is a grant of one client for programs.
type clientGrantJSON struct {
	ID           string     `json:"grant_id"`
	Subject      string     `json:"subject"`
	Organization string     `json:"organization_id,omitempty"`
	Scopes       []string   `json:"scopes"`
	Resources    []string   `json:"resources"`
	CreatedAt    time.Time  `json:"created_at"`
	LastUsedAt   *time.Time `json:"last_used_at,omitempty"`
}

func describeClientGrant(g oauth.ClientGrant) clientGrantJSON {
	j := clientGrantJSON{ID: g.Grant.ID, Subject: g.Grant.Subject, Organization: g.Grant.Organization, CreatedAt: g.Grant.CreatedAt}
	j.Scopes, j.Resources = oauth.Allowed(g.Scopes)
	if !g.LastUsedAt.IsZero() {
		j.LastUsedAt = &g.LastUsedAt
	}
	return j
}

func (p *program) clientRevokeAll() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke-all CLIENT_ID",
		Short: "End what everybody allowed a connected app; it may ask again",
		Args:  needs("the client id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			c, err := d.client(ctx, one, args[0])
			if err != nil {
				return err
			}
			n, err := d.clients.RevokeAll(ctx, one, c.ID)
			if err != nil {
				return advise(err, "postern client list")
			}
			return d.ended(c, n, "took back "+d.out.bright(printable(c.Name())))
		}),
	}
}

func (p *program) clientBlock() *cobra.Command {
	return &cobra.Command{
		Use:   "block CLIENT_ID",
		Short: "Shut a connected app out; what people allowed it ends",
		Args:  needs("the client id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			c, err := d.client(ctx, one, args[0])
			if err != nil {
				return err
			}
			n, err := d.clients.Block(ctx, one, c.ID)
			if err != nil {
				return advise(err, "postern client list")
			}
			c.Blocked = true
			return d.ended(c, n, "blocked "+d.out.bright(printable(c.Name())))
		}),
	}
}

// ended says what a command did to a connected app and how many grants ended
// with it.
func (d *desk) ended(c oauth.Client, grants int, what string) error {
	if d.json {
		return d.out.json(struct {
			clientJSON
			Revoked int `json:"grants_revoked"`
		}{describeClient(c), grants})
	}
	ended := "grants ended"
	if grants == 1 {
		ended = "grant ended"
	}
	d.out.line("%s %s; %d %s", d.out.ok(), what, grants, ended)
	d.out.line("%s", d.out.dim(tokensEnd))
	return nil
}

func (p *program) clientUnblock() *cobra.Command {
	return &cobra.Command{
		Use:   "unblock CLIENT_ID",
		Short: "Let a connected app ask people again; what ended stays ended",
		Args:  needs("the client id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			c, err := d.client(ctx, one, args[0])
			if err != nil {
				return err
			}
			if err := d.clients.Unblock(ctx, one, c.ID); err != nil {
				return advise(err, "postern client list")
			}
			if c.Blocked = false; d.json {
				return d.out.json(describeClient(c))
			}
			d.out.line("%s %s may ask people again", d.out.ok(), d.out.bright(printable(c.Name())))
			return nil
		}),
	}
}

func (p *program) grantCommand() *cobra.Command {
	c := group("grant", "Take back what one person allowed one connected app", p.grantRevoke())
	c.PersistentFlags().Bool("json", false, "print JSON")
	c.PersistentFlags().String("project", "", "which project, by id or issuer; not needed when there is one")
	return c
}

func (p *program) grantRevoke() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke GRANT_ID",
		Short: "End a grant with every token under it",
		Args:  needs("the grant's id"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			g, err := d.clients.RevokeGrant(ctx, one, args[0])
			switch {
			case errors.Is(err, oauth.ErrNotFound):
				return wrong("postern client grants CLIENT_ID", "the project %s has no grant %s", one.Name, args[0])
			case err != nil:
				return err
			case d.json:
				return d.out.json(map[string]any{"grant_id": g.ID, "subject": g.Subject, "connected_app_id": g.ClientID})
			}
			d.out.line("%s took back what %s allowed %s", d.out.ok(), d.out.bright(g.Subject), g.ClientID)
			d.out.line("%s", d.out.dim(tokensEnd))
			return nil
		}),
	}
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
			d.out.line("%s %s has a new secret; the old one has stopped", d.out.ok(), d.out.bright(printable(c.Name())))
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
	switch {
	case c.Metadata.JWKSURI != "":
		facts = append(facts, [2]string{"Keys at", printable(c.Metadata.JWKSURI)})
	case c.HasKeys():
		facts = append(facts, [2]string{"Keys", printable(cmp.Or(strings.Join(c.KeyIDs(), " "), "without kid"))})
	}
	if len(c.Metadata.PostLogoutRedirectURIs) > 0 {
		facts = append(facts, [2]string{"After sign-out", printable(strings.Join(c.Metadata.PostLogoutRedirectURIs, " "))})
	}
	if c.URL != "" {
		facts = append(facts, [2]string{"Document read", stamp(c.FetchedAt)})
	}
	if c.ChangesItself() {
		facts = append(facts, [2]string{"Changes itself", "yes (RFC 7592)"})
	}
	if c.BypassConsent {
		facts = append(facts, [2]string{"Asks people", "no"})
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
	ChangesItself    bool           `json:"changes_itself"`          // by RFC 7592
	Secret           string         `json:"client_secret,omitempty"` // only when it was made
	CreatedAt        time.Time      `json:"created_at"`
	LastRegisteredAt time.Time      `json:"last_registered_at"`
}

func describeClient(c oauth.Client) clientJSON {
	return clientJSON{
		ID: c.PublicID(), AppID: c.ID, Type: string(c.Type), Creation: string(c.Creation), Metadata: c.Metadata,
		BypassConsent: c.BypassConsent, Blocked: c.Blocked, ChangesItself: c.ChangesItself(), CreatedAt: c.CreatedAt, LastRegisteredAt: c.LastRegisteredAt,
	}
}

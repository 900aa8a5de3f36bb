package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/project"
)

func (p *program) resourceCommand() *cobra.Command {
	c := group("resource", "Register the MCP servers that trust a project",
		p.resourceAdd(), p.resourceList(), p.resourceShow(), p.resourceMove(), p.resourceRotateSecret(), p.resourceRemove())
	c.PersistentFlags().Bool("json", false, "print JSON")
	c.PersistentFlags().String("project", "", "which project, by id or issuer; not needed when there is one")
	return c
}

// ofProject makes a command's function of one that works on a project.
func (p *program) ofProject(do func(ctx context.Context, d *desk, one *project.Project, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ref, err := cmd.Flags().GetString("project")
		if err != nil {
			return err
		}
		return p.atDesk(func(ctx context.Context, d *desk, args []string) error {
			one, err := d.project(ctx, ref)
			if err != nil {
				return err
			}
			return do(ctx, d, one, args)
		})(cmd, args)
	}
}

func (p *program) resourceAdd() *cobra.Command {
	var name, profile, lifetime string
	var reads, writes, details, removed, defaults, aliases []string
	var byDefault, introspect, offline bool
	c := &cobra.Command{
		Use:   "add URL",
		Short: "Register an MCP server, or change one",
		Long: `Register an MCP server by the address that MCP clients call, or change one that
is there. Its scopes are read from its protected-resource metadata where it
answers; --scope and --write-scope add others and say what a person reads:

  postern resource add https://notes.example.com/mcp \
    --scope 'read:notes=Read your notes' --write-scope 'write:notes=Change your notes' \
    --scope-detail 'read:notes=Titles and texts'

--alias names another address of the same server, such as an older transport:

  postern resource add https://notes.example.com/mcp --alias https://notes.example.com/sse`,
		Args: needs("the URL that MCP clients call"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			if err := project.CheckResource(args[0]); err != nil {
				return advise(err, "postern resource add --help")
			}
			r, known := one.Resource(args[0])
			if err := itself(r, known, args[0]); err != nil {
				return err
			}
			if !known {
				r = project.Resource{URI: args[0], Profile: project.RFC9068}
			}
			if known && introspect {
				return wrong("postern resource rotate-secret "+r.URI, "%s is registered already; it gets a new secret by a command of its own", r.URI)
			}
			r.Default = r.Default || byDefault
			if name != "" {
				r.Name = name
			}
			switch {
			case slices.Equal(defaults, []string{"all"}):
				r.DefaultScopes, defaults = nil, nil
			case len(defaults) > 0:
				r.DefaultScopes = defaults
			}
			switch {
			case slices.Equal(aliases, []string{"none"}):
				r.Aliases = nil
			case len(aliases) > 0:
				r.Aliases = aliases
			}
			switch p := project.TokenProfile(profile); p {
			case project.RFC9068, project.Compatible:
				r.Profile = p
			case "":
			default:
				return wrong("postern resource add --help", "the profile is %q; use rfc9068 or compatible", profile)
			}
			switch lifetime {
			case "":
			case "project":
				r.AccessToken = 0
			default:
				n, err := project.ParseSpan(lifetime)
				if err != nil || n < 60 || n > 86400 {
					return wrong("postern resource add --help", "the access token lifetime is %q; use 1m to 1d, or project", lifetime)
				}
				r.AccessToken = n
			}
			scopes, problems := append(parseScopes(reads, true), parseScopes(writes, false)...), []string(nil)
			for _, s := range scopes {
				if !project.ValidScope(s.Name) {
					problems = append(problems, fmt.Sprintf("the scope %q has a character that a scope cannot have", s.Name))
				}
				if old, ok := one.Scope(s.Name); ok && s.Description == "" && old.ReadOnly && !s.ReadOnly { // a bare --scope names any that is there
					problems = append(problems, fmt.Sprintf("the scope %q is registered as one that only reads; to change that, give it a sentence too: --write-scope 'NAME=Sentence'", s.Name))
				}
			}
			for _, gone := range removed {
				i := slices.Index(r.Scopes, gone)
				if i < 0 {
					problems = append(problems, fmt.Sprintf("%s has no scope %q to take away", r.URI, gone))
					continue
				}
				r = r.WithoutScope(gone)
			}
			if len(problems) > 0 {
				return &fault{problems: problems, next: "postern resource add --help"}
			}
			var told []string
			if !offline {
				client := metadataClient()
				var answered bool
				if told, answered = one.Discover(ctx, client, &r, &scopes); !answered {
					told[0] += "; name its scopes with --scope, or run this again when it runs."
				}
				client.CloseIdleConnections()
			}
			problems = append(addDetails(one, r, &scopes, details), undefaultable(r, scopes, defaults)...)
			if len(problems) > 0 {
				return &fault{problems: problems, next: "postern resource add --help"}
			}
			added, key, err := d.projects.AddResource(ctx, one, r, scopes, introspect)
			if err != nil {
				return advise(err, "postern resource list")
			}
			if one, err = d.projects.Find(ctx, one.ID); err != nil {
				return err
			}
			if kept, ok := one.Resource(added.URI); ok {
				added = kept
			}
			if d.json {
				for _, t := range told {
					p.err.line("%s", t)
				}
				j := describeResource(added)
				if key != nil {
					j.Secret, j.SecretID = key.Text, key.ID
				}
				return d.out.json(j)
			}
			d.out.line("%s registered %s", d.out.ok(), d.out.bright(added.URI))
			for _, t := range told {
				d.out.line("%s", d.out.dim(t))
			}
			d.out.line("")
			d.resource(one, added)
			if key != nil {
				d.out.line("")
				d.out.facts([2]string{"Introspection id", added.ID}, [2]string{"Introspection secret", d.out.amber(key.Text)})
				d.out.line("%s", d.out.dim("The secret is shown once; only its hash is kept."))
			}
			return nil
		}),
	}
	f := c.Flags()
	f.StringVar(&name, "name", "", "what people read on the consent page (default: what the server says, else the project's name)")
	f.StringArrayVar(&reads, "scope", nil, "a scope that only reads, as NAME or 'NAME=Sentence'; may repeat")
	f.StringArrayVar(&writes, "write-scope", nil, "a scope that changes or deletes something, as NAME or 'NAME=Sentence'; may repeat")
	f.StringArrayVar(&details, "scope-detail", nil, "what stands smaller below a scope's sentence, as 'NAME=Detail'; may repeat")
	f.StringArrayVar(&removed, "remove-scope", nil, "a scope that the server has no longer; may repeat. With --offline, else its metadata may bring it back")
	f.StringArrayVar(&aliases, "alias", nil, "another address of the same server, at the same host; may repeat; replaces those there are, none takes them away")
	f.StringArrayVar(&defaults, "default-scope", nil, "a scope that a request without scopes gets; may repeat; all is every one (the default)")
	f.BoolVar(&byDefault, "default", false, "make it the resource of requests that name none")
	f.StringVar(&profile, "profile", "", "access tokens as rfc9068 (the default) or compatible")
	f.StringVar(&lifetime, "access-token-lifetime", "", "lifetime of access tokens for it, such as 10m; project is the project's own (the default)")
	f.BoolVar(&introspect, "secret", false, "make a secret with which it may introspect tokens")
	f.BoolVar(&offline, "offline", false, "do not ask the server for its metadata")
	return c
}

// parseScopes reads NAME or NAME=Sentence.
func parseScopes(texts []string, readOnly bool) []project.Scope {
	var scopes []project.Scope
	for _, t := range texts {
		name, sentence, _ := strings.Cut(t, "=")
		scopes = append(scopes, project.Scope{Name: strings.TrimSpace(name), Description: strings.TrimSpace(sentence), ReadOnly: readOnly})
	}
	return scopes
}

// addDetails sets what NAME=Detail says of scopes that r has or is about to
// have. It returns a sentence for each that cannot be set.
func addDetails(one *project.Project, r project.Resource, scopes *[]project.Scope, texts []string) []string {
	var problems []string
	for _, t := range texts {
		name, detail, _ := strings.Cut(t, "=")
		name, detail = strings.TrimSpace(name), strings.TrimSpace(detail)
		i := slices.IndexFunc(*scopes, func(s project.Scope) bool { return s.Name == name })
		known, _ := one.Scope(name)
		switch {
		case i < 0 && !slices.Contains(r.Scopes, name):
			problems = append(problems, fmt.Sprintf("%s has no scope %q to give a detail to; name it with --scope or --write-scope", r.URI, name))
			continue
		case i < 0:
			*scopes = append(*scopes, project.Scope{Name: name})
			i = len(*scopes) - 1
		}
		if (*scopes)[i].Description == "" && known.Description == "" {
			problems = append(problems, fmt.Sprintf("the scope %q has no sentence for a detail to stand below; give it one with --scope or --write-scope", name))
		}
		(*scopes)[i].Detail = detail
	}
	return problems
}

// undefaultable says which of the default scopes that were named r neither has nor
// is about to have.
func undefaultable(r project.Resource, scopes []project.Scope, defaults []string) []string {
	var problems []string
	for _, name := range defaults {
		is := func(s project.Scope) bool { return s.Name == name }
		if !slices.Contains(r.Scopes, name) && !slices.ContainsFunc(scopes, is) {
			problems = append(problems, fmt.Sprintf("the default scope %q is not one of its scopes; --scope adds one, and --default-scope is repeated for several", name))
		}
	}
	return problems
}

// itself refuses to change a resource server by one of its aliases.
func itself(r project.Resource, known bool, named string) error {
	if known && project.ResourceKey(r.URI) != project.ResourceKey(named) {
		return wrong("postern resource show "+r.URI, "%s is an alias of %s; name that one", named, r.URI)
	}
	return nil
}

// metadataClient asks MCP servers what they say of themselves: whoever types the
// address may reach it from here anyway.
func metadataClient() *http.Client {
	return &http.Client{
		Timeout:       5 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func (p *program) resourceList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the MCP servers of a project",
		Args:  needs(),
		RunE: p.ofProject(func(_ context.Context, d *desk, one *project.Project, _ []string) error {
			if d.json {
				return d.out.json(describeProject(one).Resources)
			}
			if len(one.Resources) == 0 {
				return wrong("postern resource add https://notes.example.com/mcp", "the project %s has no resource server yet", one.Name)
			}
			d.resources(one)
			return nil
		}),
	}
}

func (p *program) resourceShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show URL",
		Short: "Show an MCP server: name, scopes, profile",
		Args:  needs("the URL of the resource server"),
		RunE: p.ofProject(func(_ context.Context, d *desk, one *project.Project, args []string) error {
			r, ok := one.Resource(args[0])
			if !ok {
				return wrong("postern resource list", "the project %s has no resource server %s", one.Name, args[0])
			}
			if d.json {
				return d.out.json(describeResource(r))
			}
			d.resource(one, r)
			return nil
		}),
	}
}

func (p *program) resourceMove() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "move OLD NEW",
		Short: "Give an MCP server another URL, and say who must connect again",
		Long: `Give an MCP server another URL. It stays the same server: its id, scopes and
secret stay, and people are not asked again for what they allowed or declined.
Aliases go with it to the new host, with the paths they have.

The URL stands in every token for it, so what connected apps hold ends: they
connect again, at the new URL. The command says which before it does anything,
and asks where there are any; --yes answers.`,
		Args: needs("the URL that it has", "the URL that it gets"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
				const next = "postern resource list"
				impact, err := d.projects.MoveImpact(ctx, one, args[0])
				if err != nil {
					return advise(err, next)
				}
				if _, err := one.Moved(args[0], args[1]); err != nil {
					return advise(err, next)
				}
				d.impact("Access for "+args[0], impact)
				if impact.Authorizations > 0 && !yes {
					if err := p.ask(cmd, !d.json); err != nil {
						return err
					}
				}
				after, ended, err := d.projects.MoveResource(ctx, one, args[0], args[1])
				if err != nil {
					return advise(err, next)
				}
				if d.json {
					return d.out.json(struct {
						resourceJSON
						movedJSON
					}{describeResource(after), describeMoved(impact, ended)})
				}
				d.out.line("%s %s is now %s", d.out.ok(), args[0], d.out.bright(after.URI))
				for _, alias := range after.Aliases {
					d.out.line("   alias %s", alias)
				}
				d.out.line("")
				d.out.line("Tell the server itself (resource and audience in its settings), and change redirect URIs of")
				d.out.line("your own clients at its old address: postern client list")
				return nil
			})(cmd, args)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// impact prints what is about to end.
func (d *desk) impact(what string, i project.Impact) {
	if d.json {
		return
	}
	if i.Authorizations == 0 {
		d.out.line("%s: nobody has any, so nobody has to connect again.", what)
		d.out.line("")
		return
	}
	d.out.line("%s will end. To be connected again:", what)
	d.out.line("")
	var rows [][]string
	for _, app := range i.Apps {
		rows = append(rows, []string{d.out.bright(printable(app.Name)), strconv.Itoa(app.People), app.ClientID})
	}
	if more := i.Clients - len(i.Apps); more > 0 {
		rows = append(rows, []string{fmt.Sprintf("and %d more", more), "", ""})
	}
	d.out.table([]string{"CONNECTED APP", "PEOPLE", "CLIENT ID"}, rows)
	d.out.line("")
	d.out.line("In all: connected apps %d, people %d, authorizations %d.", i.Clients, i.People, i.Authorizations)
	d.out.line("")
}

// movedJSON is what a new address ended, for programs.
type movedJSON struct {
	Ended  int         `json:"ended_authorizations"`
	People int         `json:"people"`
	Apps   []endedJSON `json:"connected_apps"` // those with the most people
	More   int         `json:"more_connected_apps,omitempty"`

	Callbacks []callbackJSON `json:"sso_redirect_uris,omitempty"` // of a new issuer
}

type callbackJSON struct {
	OrganizationID string `json:"organization_id"`
	Organization   string `json:"organization_name"`
	URI            string `json:"redirect_uri"`
}

type endedJSON struct {
	ClientID string `json:"client_id"`
	Name     string `json:"name"`
	People   int    `json:"people"`
}

func describeMoved(i project.Impact, ended int) movedJSON {
	j := movedJSON{Ended: ended, People: i.People, Apps: []endedJSON{}, More: i.Clients - len(i.Apps)}
	for _, app := range i.Apps {
		j.Apps = append(j.Apps, endedJSON(app))
	}
	return j
}

func (p *program) resourceRotateSecret() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-secret URL",
		Short: "Make a new introspection secret; one that is there stops at once",
		Args:  needs("the URL of the resource server"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			r, key, err := d.projects.RotateResourceSecret(ctx, one, args[0])
			if err != nil {
				return advise(err, "postern resource list")
			}
			if d.json {
				j := describeResource(r)
				j.Secret, j.SecretID = key.Text, key.ID
				return d.out.json(j)
			}
			d.out.line("%s %s has a new secret", d.out.ok(), d.out.bright(r.URI))
			d.out.line("")
			d.out.facts([2]string{"Introspection id", r.ID}, [2]string{"Introspection secret", d.out.amber(key.Text)})
			d.out.line("%s", d.out.dim("The secret is shown once; only its hash is kept."))
			return nil
		}),
	}
}

func (p *program) resourceRemove() *cobra.Command {
	return &cobra.Command{
		Use:   "remove URL",
		Short: "Remove an MCP server; tokens for it live until they expire",
		Args:  needs("the URL of the resource server"),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			r, ok := one.Resource(args[0])
			if !ok {
				return wrong("postern resource list", "the project %s has no resource server %s", one.Name, args[0])
			}
			if err := itself(r, ok, args[0]); err != nil {
				return err
			}
			if err := d.projects.RemoveResource(ctx, one, r.URI); err != nil {
				return advise(err, "postern resource list")
			}
			if d.json {
				return d.out.json(describeResource(r))
			}
			d.out.line("%s removed %s", d.out.ok(), d.out.bright(r.URI))
			return nil
		}),
	}
}

// resources prints the table of a project's resource servers.
func (d *desk) resources(p *project.Project) {
	fallback, has := p.DefaultResource()
	var rows [][]string
	for _, r := range p.Resources {
		mark := ""
		if has && fallback.ID == r.ID {
			mark = "default"
		}
		rows = append(rows, []string{d.out.bright(r.URI), r.Name, orNone(r.Scopes), string(r.Profile), mark})
		for _, alias := range r.Aliases {
			rows = append(rows, []string{d.out.dim(alias), "", "", "", "alias"})
		}
	}
	d.out.table([]string{"RESOURCE SERVER", "NAME", "SCOPES", "PROFILE", ""}, rows)
}

// resource prints one resource server with the sentences of its scopes.
func (d *desk) resource(p *project.Project, r project.Resource) {
	fallback, has := p.DefaultResource()
	life := "the project's"
	if r.AccessToken > 0 {
		life = project.Span(r.AccessToken)
	}
	introspection := "no secret"
	if r.SecretID != "" {
		introspection = "with its secret"
	}
	d.out.facts(
		[2]string{"Resource server", r.URI},
		[2]string{"Aliases", orNone(r.Aliases)},
		[2]string{"Name", r.Name},
		[2]string{"Id", r.ID},
		[2]string{"Token profile", string(r.Profile)},
		[2]string{"Access token", life},
		[2]string{"Introspection", introspection},
		[2]string{"Default", yesNo(has && fallback.ID == r.ID)},
		[2]string{"Default scopes", orAll(r.DefaultScopes)},
	)
	if len(r.Scopes) == 0 {
		d.out.line("")
		d.out.line("No scopes yet.   %s", d.out.green("postern resource add "+r.URI+" --scope 'read:notes=Read your notes'"))
		return
	}
	d.out.line("")
	var rows [][]string
	for _, name := range r.Scopes {
		s, _ := p.Scope(name)
		sentence, kind := s.Description, "changes something"
		if sentence == "" {
			sentence = "described by nobody"
		}
		if s.ReadOnly {
			kind = "reads"
		}
		rows = append(rows, []string{d.out.bright(name), kind, sentence})
		if s.Detail != "" {
			rows = append(rows, []string{"", "", d.out.dim(s.Detail)})
		}
	}
	d.out.table([]string{"SCOPE", "KIND", "SENTENCE"}, rows)
}

// orNone is a list on one line. Strangers may have chosen what is in it.
func orNone(list []string) string { return printable(cmp.Or(strings.Join(list, " "), "none")) }

func orAll(list []string) string {
	if len(list) == 0 {
		return "all of its scopes"
	}
	return strings.Join(list, " ")
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// resourceJSON is a resource server for programs.
type resourceJSON struct {
	ID            string    `json:"resource_server_id"`
	URI           string    `json:"resource"`
	Aliases       []string  `json:"aliases"`
	Name          string    `json:"name"`
	Scopes        []string  `json:"scopes"`
	DefaultScopes []string  `json:"default_scopes"`
	Profile       string    `json:"token_profile"`
	AccessToken   int       `json:"access_token_lifetime,omitempty"`
	Default       bool      `json:"default"`
	SecretID      string    `json:"secret_id,omitempty"`
	Secret        string    `json:"secret,omitempty"` // only when it was made
	CreatedAt     time.Time `json:"created_at"`
}

func describeResource(r project.Resource) resourceJSON {
	return resourceJSON{
		ID: r.ID, URI: r.URI, Aliases: append([]string{}, r.Aliases...), Name: r.Name, Scopes: append([]string{}, r.Scopes...), DefaultScopes: append([]string{}, r.DefaultScopes...),
		Profile: string(r.Profile), AccessToken: r.AccessToken, Default: r.Default, SecretID: r.SecretID, CreatedAt: r.CreatedAt,
	}
}

// scopeJSON is a scope for programs.
type scopeJSON struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	Detail      string `json:"detail,omitempty"`
	ReadOnly    bool   `json:"read_only"`
}

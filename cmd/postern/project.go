package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/picture"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/signin"
)

func (p *program) projectCommand() *cobra.Command {
	c := group("project", "Create, look at and change projects",
		p.projectCreate(), p.projectList(), p.projectShow(), p.projectSet())
	c.PersistentFlags().Bool("json", false, "print JSON")
	return c
}

func (p *program) projectCreate() *cobra.Command {
	var issuer string
	var b2b bool
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a project: an issuer with its own people, keys and connected apps",
		Args:  needs("a NAME, as people will read it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := p.newDesk(cmd, true)
			if err != nil {
				return err
			}
			defer d.close()
			if issuer == "" {
				issuer = d.config.URL
			}
			n := project.New{Name: args[0], Issuer: issuer, Environment: project.Live}
			if !strings.HasPrefix(issuer, "https://") {
				n.Environment = project.Test
			}
			if b2b {
				n.Vertical = project.B2B
			}
			if d.config.Mail.Transport == "console" { // what the server would refuse at its next start
				if problems := server.Unfit(n.Name, n.Issuer, true); len(problems) > 0 {
					return &fault{problems: problems, next: settingsHelp}
				}
			}
			created, key, err := d.projects.Create(cmd.Context(), n)
			if err != nil {
				return advise(err, "postern project list")
			}
			if d.json {
				return d.out.json(struct {
					projectJSON
					Secret string `json:"project_secret"`
				}{describeProject(created), key.Text})
			}
			d.out.line("%s created the project %s", d.out.ok(), d.out.bright(created.Name))
			d.out.line("")
			d.out.facts(append(projectFacts(created), [2]string{"Project secret", d.out.amber(key.Text)})...)
			d.out.line("%s", d.out.dim("The project secret is shown once; only its hash is kept."))
			d.out.line("")
			next := "postern resource add https://notes.example.com/mcp"
			if b2b {
				next = `postern organization create "Example" --project ` + created.Issuer
			}
			d.out.line("%s   %s", d.out.dim("Next"), d.out.green(next))
			return nil
		},
	}
	c.Flags().StringVar(&issuer, "issuer", "", "address of the project, such as https://auth.example.com (default: the setting url)")
	c.Flags().BoolVar(&b2b, "b2b", false, "people are members of organizations, with roles")
	return c
}

func (p *program) projectList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the projects",
		Args:  needs(),
		RunE: p.atDesk(func(ctx context.Context, d *desk, _ []string) error {
			all, err := d.projects.All(ctx)
			if err != nil {
				return err
			}
			if d.json {
				list := []projectJSON{}
				for _, one := range all {
					list = append(list, describeProject(one))
				}
				return d.out.json(list)
			}
			if len(all) == 0 {
				return wrong(`postern project create "My project"`, "there is no project yet")
			}
			var rows [][]string
			for _, one := range all {
				rows = append(rows, []string{d.out.bright(one.Name), string(one.Vertical), one.Issuer, strconv.Itoa(len(one.Resources)), one.ID})
			}
			d.out.table([]string{"PROJECT", "KIND", "ISSUER", "RESOURCE SERVERS", "ID"}, rows)
			return nil
		}),
	}
}

func (p *program) projectShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show [PROJECT]",
		Short: "Show a project: issuer, ids, settings, resource servers",
		Args:  atMost(1),
		RunE: p.atDesk(func(ctx context.Context, d *desk, args []string) error {
			one, err := d.project(ctx, args...)
			if err != nil {
				return err
			}
			if d.json {
				return d.out.json(describeProject(one))
			}
			d.out.line("%s   %s, %s", d.out.bright(one.Name), one.Vertical, one.Environment)
			d.out.line("")
			d.out.facts(projectFacts(one)...)
			d.out.line("")
			var settings [][2]string
			for _, k := range knobs() {
				settings = append(settings, [2]string{k.name, k.get(one)})
			}
			d.out.facts(settings...)
			d.out.line("")
			if len(one.Resources) == 0 {
				d.out.line("No resource server yet.   %s", d.out.green("postern resource add https://notes.example.com/mcp"))
				return nil
			}
			d.resources(one)
			return nil
		}),
	}
}

func (p *program) projectSet() *cobra.Command {
	var ref string
	var yes bool
	var known []string
	for _, k := range knobs() {
		known = append(known, fmt.Sprintf("  %-24s %s", k.name, k.values))
	}
	c := &cobra.Command{
		Use:   "set SETTING VALUE [SETTING VALUE]…",
		Short: "Change settings of a project; a running server follows within a second",
		Long: "Change settings of a project; a running server follows within a second.\n\n" +
			"A new issuer ends everything that was issued under the old one: the command says\n" +
			"who must sign in again before it does anything, and asks; --yes answers.\n\n" +
			"Settings:\n" + strings.Join(known, "\n"),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 || len(args)%2 != 0 {
				return misused(cmd, "%s needs a setting and its value, such as: dynamic-registration off", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			d, err := p.newDesk(cmd, false)
			if err != nil {
				return err
			}
			defer d.close()
			ctx := cmd.Context()
			one, err := d.project(ctx, ref)
			if err != nil {
				return err
			}
			var problems []string
			trial := *one
			for i := 0; i < len(args); i += 2 {
				if err := set(&trial, args[i], args[i+1]); err != nil {
					problems = append(problems, err.Error())
				}
			}
			if len(problems) > 0 {
				return &fault{problems: problems, next: "postern project set --help"}
			}
			var moved *movedJSON
			if trial.Issuer != one.Issuer {
				if moved, err = d.moveIssuer(cmd, one, trial.Issuer, yes); err != nil {
					return err
				}
				one.Issuer = trial.Issuer
			}
			if err := d.apply(ctx, one, args); err != nil {
				return advise(err, "postern project show")
			}
			if one, err = d.projects.Find(ctx, one.ID); err != nil {
				return err
			}
			if d.json {
				return d.out.json(struct {
					projectJSON
					*movedJSON
				}{describeProject(one), moved})
			}
			for i := 0; i < len(args); i += 2 {
				d.out.line("%s %s is %s", d.out.ok(), args[i], d.out.bright(knob(args[i]).get(one)))
			}
			if moved != nil {
				d.issuerLetters(one)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask before a new issuer ends what was issued")
	c.Flags().StringVar(&ref, "project", "", "which project, by id or issuer; not needed when there is one")
	return c
}

// moveIssuer gives a project another issuer, after it has said what ends.
func (d *desk) moveIssuer(cmd *cobra.Command, one *project.Project, issuer string, yes bool) (*movedJSON, error) {
	ctx := cmd.Context()
	if d.current != "" {
		return nil, wrong("POSTERN_PORT=4100 postern dev", "postern dev gives its projects their addresses; only its port can be chosen")
	}
	if d.config.Mail.Transport == "console" { // what the server would refuse at its next start
		if problems := server.Unfit(one.Name, issuer, true); len(problems) > 0 {
			return nil, &fault{problems: problems, next: settingsHelp}
		}
	}
	impact, err := d.projects.IssuerImpact(ctx, one)
	if err != nil {
		return nil, err
	}
	d.impact("What was issued by "+one.Issuer, impact)
	if impact.Authorizations > 0 && !yes {
		if err := d.program.ask(cmd, !d.json); err != nil {
			return nil, err
		}
	}
	ended, err := d.projects.SetIssuer(ctx, one, issuer)
	if err != nil {
		return nil, advise(err, "postern project list")
	}
	moved := describeMoved(impact, ended)
	for _, c := range impact.Connections {
		moved.Callbacks = append(moved.Callbacks, callbackJSON{c.OrganizationID, c.Organization, issuer + signin.CallbackPath + c.OrganizationID})
	}
	if !d.json && len(moved.Callbacks) > 0 {
		d.out.line("These organizations have a sign-in service of their own, which has to know a new redirect URI:")
		d.out.line("")
		var rows [][]string
		for _, c := range moved.Callbacks {
			rows = append(rows, []string{d.out.bright(printable(c.Organization)), c.URI})
		}
		d.out.table([]string{"ORGANIZATION", "REDIRECT URI"}, rows)
		d.out.line("")
	}
	return &moved, nil
}

// issuerLetters says who else has to learn of a new issuer.
func (d *desk) issuerLetters(one *project.Project) {
	d.out.line("")
	d.out.line("Set %s as the issuer of every MCP server and of your own clients;", one.Issuer)
	d.out.line("people sign in again there, for their cookies belong to the old host.")
	for _, r := range one.Resources {
		d.out.line("   %s", r.URI)
	}
}

// apply writes settings, given as pairs that set accepted.
func (d *desk) apply(ctx context.Context, before *project.Project, pairs []string) error {
	changed, err := d.projects.Change(ctx, before.ID, func(p *project.Project) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := set(p, pairs[i], pairs[i+1]); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	// A logo is a file beside the settings.
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != logoKnob {
			continue
		}
		file, err := readLogo(pairs[i+1])
		if err != nil {
			return err
		}
		if err := d.projects.SetLogo(ctx, changed, file); err != nil {
			return err
		}
	}
	if !slices.Contains(pairs, defaultResource) {
		return nil
	}
	// The default resource is a mark on a resource server, not a setting.
	for i, r := range changed.Resources {
		if i < len(before.Resources) && before.Resources[i].Default == r.Default && before.Resources[i].URI == r.URI {
			continue
		}
		if _, _, err := d.projects.AddResource(ctx, changed, r, nil, false); err != nil {
			return err
		}
	}
	return nil
}

const (
	defaultResource = "default-resource"
	logoKnob        = "logo"
)

// readLogo reads the file of a logo, no more of it than a logo may have and one
// byte; nil for "none".
func readLogo(path string) ([]byte, error) {
	if path == "none" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, picture.MaxBytes+1))
}

// aKnob is one thing that "project set" turns.
type aKnob struct {
	name   string
	values string
	get    func(*project.Project) string
	set    func(*project.Project, string) error
}

func knob(name string) aKnob {
	all := knobs()
	i := slices.IndexFunc(all, func(k aKnob) bool { return k.name == name })
	if i < 0 {
		return aKnob{}
	}
	return all[i]
}

func set(p *project.Project, name, value string) error {
	k := knob(name)
	if k.set == nil {
		return fmt.Errorf("there is no setting %q", name)
	}
	if err := k.set(p, value); err != nil {
		return fmt.Errorf("%s is %q; use %s", name, value, k.values)
	}
	return nil
}

// errValue says that a value is not one of a knob's.
var errValue = fmt.Errorf("not a value of this setting")

func knobs() []aKnob {
	return []aKnob{
		{"name", "what people read", func(p *project.Project) string { return p.Name }, func(p *project.Project, v string) error {
			if strings.TrimSpace(v) == "" {
				return errValue
			}
			p.Name = strings.TrimSpace(v)
			return nil
		}},
		{"issuer", "an address such as https://auth.example.com", func(p *project.Project) string { return p.Issuer }, func(p *project.Project, v string) error {
			p.Issuer = v
			return project.CheckIssuer(v)
		}},
		{logoKnob, "a PNG, JPEG, GIF or WebP file of at most 256 KiB and 2048 by 2048 pixels, or none", func(p *project.Project) string {
			if p.Logo != "" {
				return "in place"
			}
			return "none"
		}, func(_ *project.Project, v string) error {
			file, err := readLogo(v)
			if err != nil || v == "none" {
				return err
			}
			_, err = picture.Logo(file)
			return err
		}},
		either("dynamic-registration", "on", "off", func(s *project.Settings) *bool { return &s.DynamicRegistration }),
		either("cimd", "on", "off", func(s *project.Settings) *bool { return &s.MetadataDocuments }),
		either("cimd-copies", "on", "off", func(s *project.Settings) *bool { return &s.DocumentCopies }),
		either("organization-creation", "on", "off", func(s *project.Settings) *bool { return &s.OrganizationCreation }),
		either("unregistered-resources", "allow", "refuse", func(s *project.Settings) *bool { return &s.UnregisteredResources }),
		{defaultResource, "the URL of a resource server, or none", func(p *project.Project) string {
			if r, ok := p.DefaultResource(); ok {
				return r.URI
			}
			return "none"
		}, func(p *project.Project, v string) error {
			chosen, ok := p.Resource(v)
			if !ok && v != "none" {
				return errValue
			}
			p.Resources = slices.Clone(p.Resources)
			for i := range p.Resources {
				p.Resources[i].Default = ok && p.Resources[i].URI == chosen.URI
			}
			return nil
		}},
		list("default-scopes", "scopes with commas between, where neither request nor resource names any", func(s *project.Settings) *[]string { return &s.DefaultScopes }),
		list("private-use-schemes", "schemes that a redirect URI may have besides https, such as cursor,vscode", func(s *project.Settings) *[]string { return &s.PrivateUseSchemes }),
		either("preselect", "read-only", "all", func(s *project.Settings) *bool { return &s.PreselectReadOnly }),
		either("badge", "hide", "show", func(s *project.Settings) *bool { return &s.HideBadge }),
		link("privacy-url", func(s *project.Settings) *string { return &s.PrivacyURL }),
		link("help-url", func(s *project.Settings) *string { return &s.HelpURL }),
		seconds("code-lifetime", func(l *project.Lifetimes) *int { return &l.Code }),
		seconds("access-token-lifetime", func(l *project.Lifetimes) *int { return &l.AccessToken }),
		seconds("lone-access-token-lifetime", func(l *project.Lifetimes) *int { return &l.LoneAccessToken }),
		seconds("refresh-idle", func(l *project.Lifetimes) *int { return &l.RefreshIdle }),
		seconds("refresh-absolute", func(l *project.Lifetimes) *int { return &l.RefreshAbsolute }),
		seconds("replay-window", func(l *project.Lifetimes) *int { return &l.ReplayWindow }),
		seconds("email-code-lifetime", func(l *project.Lifetimes) *int { return &l.EmailCode }),
		seconds("session-idle", func(l *project.Lifetimes) *int { return &l.SessionIdle }),
		seconds("session-absolute", func(l *project.Lifetimes) *int { return &l.SessionAbsolute }),
	}
}

// either is a switch whose true is called yes and whose false is called no.
func either(name, yes, no string, field func(*project.Settings) *bool) aKnob {
	return aKnob{name, yes + " or " + no, func(p *project.Project) string {
		if *field(&p.Settings) {
			return yes
		}
		return no
	}, func(p *project.Project, v string) error {
		if v != yes && v != no {
			return errValue
		}
		*field(&p.Settings) = v == yes
		return nil
	}}
}

func list(name, values string, field func(*project.Settings) *[]string) aKnob {
	return aKnob{name, values, func(p *project.Project) string {
		if l := *field(&p.Settings); len(l) > 0 {
			return strings.Join(l, ",")
		}
		return "none"
	}, func(p *project.Project, v string) error {
		items := []string{}
		for item := range strings.SplitSeq(v, ",") {
			if item = strings.TrimSpace(item); item != "" && item != "none" {
				items = append(items, item)
			}
		}
		*field(&p.Settings) = items
		return nil
	}}
}

func link(name string, field func(*project.Settings) *string) aKnob {
	return aKnob{name, "an https address, or none", func(p *project.Project) string {
		if u := *field(&p.Settings); u != "" {
			return u
		}
		return "none"
	}, func(p *project.Project, v string) error {
		switch {
		case v == "none":
			v = ""
		case !strings.HasPrefix(v, "https://") || len(v) > 500:
			return errValue
		}
		*field(&p.Settings) = v
		return nil
	}}
}

func seconds(name string, field func(*project.Lifetimes) *int) aKnob {
	return aKnob{name, "a time such as 90s, 15m, 12h or 14d", func(p *project.Project) string {
		return span(*field(&p.Settings.Lifetimes))
	}, func(p *project.Project, v string) error {
		n, err := parseSpan(v)
		*field(&p.Settings.Lifetimes) = n
		return err
	}}
}

// span writes seconds in the largest unit that fits.
func span(n int) string {
	for _, u := range []struct {
		size int
		name string
	}{{86400, "d"}, {3600, "h"}, {60, "m"}} {
		if n >= u.size && n%u.size == 0 {
			return strconv.Itoa(n/u.size) + u.name
		}
	}
	return strconv.Itoa(n) + "s"
}

func parseSpan(text string) (int, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 100_000 {
			return 0, errValue
		}
		return n * 86400, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || d%time.Second != 0 {
		return 0, errValue
	}
	return int(d / time.Second), nil
}

func projectFacts(p *project.Project) [][2]string {
	return [][2]string{{"Issuer", p.Issuer}, {"Project id", p.ID}, {"Public token", p.PublicToken}, {"Created", stamp(p.CreatedAt)}}
}

// projectJSON is a project for programs.
type projectJSON struct {
	ID          string           `json:"project_id"`
	Name        string           `json:"name"`
	Issuer      string           `json:"issuer"`
	Vertical    project.Vertical `json:"vertical"`
	Environment string           `json:"environment"`
	PublicToken string           `json:"public_token"`
	Logo        bool             `json:"logo"` // whether there is one
	Settings    project.Settings `json:"settings"`
	Resources   []resourceJSON   `json:"resource_servers"`
	Scopes      []scopeJSON      `json:"scopes"`
	CreatedAt   time.Time        `json:"created_at"`
}

func describeProject(p *project.Project) projectJSON {
	j := projectJSON{
		ID: p.ID, Name: p.Name, Issuer: p.Issuer, Vertical: p.Vertical, Environment: string(p.Environment),
		PublicToken: p.PublicToken, Logo: p.Logo != "", Settings: p.Settings, Resources: []resourceJSON{}, Scopes: []scopeJSON{}, CreatedAt: p.CreatedAt,
	}
	for _, r := range p.Resources {
		j.Resources = append(j.Resources, describeResource(r))
	}
	for _, s := range p.Scopes {
		j.Scopes = append(j.Scopes, scopeJSON(s))
	}
	return j
}

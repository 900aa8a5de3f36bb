package main

import (
	"context"
	"errors"
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
		p.projectCreate(), p.projectList(), p.projectShow(), p.projectSet(), p.projectRotateSecret())
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
			d.out.facts(settings(one)...)
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
	for _, s := range project.AllSettings() {
		known = append(known, fmt.Sprintf("  %-24s %s", s.Name, s.Values))
		if s.Name == project.IssuerSetting {
			known = append(known, fmt.Sprintf("  %-24s %s", logoSetting, logoValues))
		}
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
				if err := try(&trial, args[i], args[i+1]); err != nil {
					problems = append(problems, err.Error())
				}
			}
			if problems = append(problems, trial.Settings.Check()...); len(problems) > 0 {
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
				err = advise(err, "postern project show")
				if f, ok := errors.AsType[*fault](err); ok && moved != nil {
					f.problems = append(f.problems, "the issuer is "+one.Issuer+" all the same, and what was issued under the old one has ended; set the rest again")
				}
				return err
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
				d.out.line("%s %s is %s", d.out.ok(), args[i], d.out.bright(settingNow(one, args[i])))
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

func (p *program) projectRotateSecret() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-secret [PROJECT]",
		Short: "Make a new project secret; the old one stops at once",
		Args:  atMost(1),
		RunE: p.atDesk(func(ctx context.Context, d *desk, args []string) error {
			one, err := d.project(ctx, args...)
			if err != nil {
				return err
			}
			key, err := d.projects.RotateSecret(ctx, one)
			if err != nil {
				return advise(err, "postern project show")
			}
			if d.json {
				return d.out.json(map[string]any{"project_id": one.ID, "project_secret": key.Text})
			}
			d.out.line("%s the project %s has a new secret; the old one has stopped", d.out.ok(), d.out.bright(one.Name))
			d.out.line("")
			d.out.facts([2]string{"Project id", one.ID}, [2]string{"Project secret", d.out.amber(key.Text)})
			d.out.line("%s", d.out.dim("The project secret is shown once; only its hash is kept."))
			return nil
		}),
	}
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
	d.out.line("at another host people sign in again, for their cookies belong to the old one.")
	for _, r := range one.Resources {
		d.out.line("   %s", r.URI)
	}
}

// apply writes settings, given as pairs that try accepted; the issuer is set
// already.
func (d *desk) apply(ctx context.Context, before *project.Project, pairs []string) error {
	var changes []project.Change
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != logoSetting && pairs[i] != project.IssuerSetting {
			changes = append(changes, project.Change{Setting: pairs[i], Value: pairs[i+1]})
		}
	}
	if len(changes) > 0 {
		if _, err := d.projects.Set(ctx, before.ID, changes, nil); err != nil {
			return err
		}
	}
	// A logo is a file beside the settings.
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] != logoSetting {
			continue
		}
		file, err := readLogo(pairs[i+1])
		if err != nil {
			return err
		}
		if err := d.projects.SetLogo(ctx, before, file); err != nil {
			return err
		}
	}
	return nil
}

// logoSetting is the setting whose value is a file of whoever types it.
const logoSetting = "logo"

const logoValues = "a PNG, JPEG, GIF or WebP file of at most 256 KiB and 2048 by 2048 pixels, or none"

// readLogo reads the file of a logo, no more of it than a logo may have and one
// byte, and refuses what is none; nil for "none".
func readLogo(path string) ([]byte, error) {
	if path == "none" {
		return nil, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	file, err := io.ReadAll(io.LimitReader(f, picture.MaxBytes+1))
	if err == nil {
		_, err = picture.Logo(file)
	}
	return file, err
}

// try applies one setting to a copy of a project.
func try(trial *project.Project, name, value string) error {
	if name == logoSetting {
		if _, err := readLogo(value); err != nil {
			return fmt.Errorf("%s is %q; use %s", name, value, logoValues)
		}
		return nil
	}
	s, ok := project.SettingOf(name)
	if !ok {
		return fmt.Errorf("there is no setting %q", name)
	}
	return s.Set(trial, value)
}

// settings are all of a project, with their values.
func settings(p *project.Project) [][2]string {
	logo := [2]string{logoSetting, "none"}
	if p.Logo != "" {
		logo[1] = "in place"
	}
	var all [][2]string
	for _, s := range project.AllSettings() {
		all = append(all, [2]string{s.Name, s.Get(p)})
		if s.Name == project.IssuerSetting {
			all = append(all, logo)
		}
	}
	return all
}

func settingNow(p *project.Project, name string) string {
	all := settings(p)
	i := slices.IndexFunc(all, func(s [2]string) bool { return s[0] == name })
	return all[i][1] // try found it
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

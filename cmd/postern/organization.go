package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
)

func (p *program) organizationCommand() *cobra.Command {
	c := group("organization", "Look after the organizations of a B2B project",
		p.organizationCreate(), p.organizationList(), p.organizationShow(), p.organizationSet(), p.organizationDelete(),
		p.organizationApps(), p.organizationRevoke())
	c.PersistentFlags().Bool("json", false, "print JSON")
	c.PersistentFlags().String("project", "", "which project, by id or issuer; not needed when there is one")
	return c
}

// ofB2B is ofProject for what only a B2B project has.
func (p *program) ofB2B(do func(ctx context.Context, d *desk, one *project.Project, args []string) error) func(*cobra.Command, []string) error {
	return p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
		if one.Vertical != project.B2B {
			return wrong("postern project list", "%s is a consumer project: it has users, and neither organizations nor members; name a B2B project with --project", one.Name)
		}
		return do(ctx, d, one, args)
	})
}

func (p *program) organizationCreate() *cobra.Command {
	var change organizationChange
	c := &cobra.Command{
		Use:   "create NAME",
		Short: "Create an organization; it has no members yet",
		Args:  needs("a NAME, as people will read it"),
		RunE: p.ofB2B(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			o := identity.Organization{Name: args[0], Settings: identity.DefaultOrganization()}
			edit, err := change.edit(ctx, d, one)
			if err != nil {
				return err
			}
			edit(&o)
			o, err = d.people.CreateOrganization(ctx, one, o, d.event(one, audit.OrganizationCreated, ""))
			if err != nil {
				return organizationFault(err, "postern organization create --help")
			}
			if d.json {
				return d.out.json(describeOrganization(o))
			}
			d.out.line("%s created the organization %s", d.out.ok(), d.out.bright(o.Name))
			d.out.line("")
			d.organization(o)
			d.out.line("")
			d.out.line("%s   %s", d.out.dim("Next"), d.out.green("postern member add ada@example.com --organization "+o.Slug+" --role "+rbac.RoleAdmin))
			return nil
		}),
	}
	change.flags(c.Flags())
	return c
}

// everyOrganization is how many organizations are read at once.
const everyOrganization = 200

func (p *program) organizationList() *cobra.Command {
	return &cobra.Command{
		Use:   "list [PREFIX]",
		Short: "List organizations, all or those whose slug or id begins with PREFIX",
		Args:  atMost(1),
		RunE: p.ofB2B(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			all, after := []organizationJSON{}, ""
			var rows [][]string
			for {
				page, err := d.people.Organizations(ctx, one.ID, strings.Join(args, ""), after, everyOrganization)
				if err != nil {
					return err
				}
				for _, o := range page {
					all = append(all, describeOrganization(o))
					rows = append(rows, []string{d.out.bright(printable(o.Name)), o.Slug, organizationState(o), stamp(o.CreatedAt), o.ID})
				}
				if len(page) < everyOrganization {
					break
				}
				after = page[len(page)-1].ID
			}
			switch {
			case d.json:
				return d.out.json(all)
			case len(all) == 0:
				d.out.line("No organization here.   %s", d.out.green("postern organization create NAME"))
				return nil
			}
			d.out.table([]string{"ORGANIZATION", "SLUG", "STATE", "SINCE", "ID"}, rows)
			return nil
		}),
	}
}

func (p *program) organizationShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ORGANIZATION",
		Short: "Show an organization, by slug or id, and its rules",
		Args:  needs("the organization's slug or id"),
		RunE: p.ofB2B(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			o, err := d.findOrganization(ctx, one, args[0])
			if err != nil {
				return err
			}
			if d.json {
				return d.out.json(describeOrganization(o))
			}
			d.out.line("%s", d.out.bright(printable(o.Name)))
			d.out.line("")
			d.organization(o)
			return nil
		}),
	}
}

func (p *program) organizationSet() *cobra.Command {
	var change organizationChange
	var name, logo string
	var suspend, resume bool
	c := &cobra.Command{
		Use:   "set ORGANIZATION",
		Short: "Change an organization; a running server follows at once",
		Args:  needs("the organization's slug or id"),
	}
	c.RunE = withChange(p.ofB2B(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
		o, err := d.findOrganization(ctx, one, args[0])
		if err != nil {
			return err
		}
		edit, err := change.edit(ctx, d, one)
		if err != nil {
			return err
		}
		var picture []byte
		if logo != "" {
			if picture, err = readLogo(logo); err != nil {
				return wrong("postern organization set --help", "the logo: %s", plain(err))
			}
		}
		if changes(c, "logo") {
			o, err = d.people.ChangeOrganization(ctx, one, o.ID, func(o *identity.Organization) error {
				edit(o)
				o.Name = cmp.Or(name, o.Name)
				o.Active = (o.Active || resume) && !suspend
				return nil
			}, d.event(one, audit.OrganizationChanged, o.ID))
			if err != nil {
				return organizationFault(err, "postern organization set --help")
			}
		}
		if logo != "" { // a file beside the rest, which is in order
			if err := d.people.SetOrganizationLogo(ctx, o, picture, d.event(one, audit.OrganizationChanged, o.ID)); err != nil {
				return wrong("postern organization set --help", "the logo: %s", plain(err))
			}
			if o, err = d.findOrganization(ctx, one, o.ID); err != nil {
				return err
			}
		}
		if d.json {
			return d.out.json(describeOrganization(o))
		}
		d.out.line("%s changed %s", d.out.ok(), d.out.bright(printable(o.Name)))
		d.out.line("")
		d.organization(o)
		return nil
	}))
	f := c.Flags()
	change.flags(f)
	f.StringVar(&name, "name", "", "what people read")
	f.StringVar(&logo, "logo", "", "a PNG, JPEG, GIF or WebP file of at most 256 KiB and 2048 by 2048 pixels, or none")
	f.BoolVar(&suspend, "suspend", false, "let nobody in, and take every token for inactive")
	f.BoolVar(&resume, "resume", false, "end that")
	c.MarkFlagsMutuallyExclusive("suspend", "resume")
	return c
}

// withChange refuses a command to change something that does not say what.
func withChange(run func(*cobra.Command, []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if !changes(cmd, "") {
			return misused(cmd, "%s needs what to change", cmd.CommandPath())
		}
		return run(cmd, args)
	}
}

// changes reports whether a flag of the command was given, other than one.
func changes(cmd *cobra.Command, other string) bool {
	given := false
	cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { given = given || f.Changed && f.Name != other })
	return given
}

func (p *program) organizationDelete() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "delete ORGANIZATION",
		Short: "Delete an organization with its members, their sessions and what they allowed",
		Long: `Delete an organization with its members, their sessions and what they allowed.
That does not come back, so the command asks; --yes answers. To shut everybody out
for a while: postern organization set ORGANIZATION --suspend.`,
		Args: needs("the organization's slug or id"),
	}
	c.RunE = p.ofB2B(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
		o, err := d.findOrganization(ctx, one, args[0])
		if err != nil {
			return err
		}
		if !yes {
			p.err.line("The organization %s goes, with its members, their sessions and what they allowed. It does not come back.", printable(o.Name))
			if err := p.ask(c, !d.json); err != nil {
				return err
			}
		}
		if err := d.people.DeleteOrganization(ctx, one.ID, o.ID, d.event(one, audit.OrganizationDeleted, o.ID)); err != nil {
			return organizationFault(err, "postern organization list")
		}
		if d.json {
			return d.out.json(describeOrganization(o))
		}
		d.out.line("%s deleted %s", d.out.ok(), d.out.bright(printable(o.Name)))
		return nil
	})
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return c
}

// everyGrant is how many grants are read at once.
const everyGrant = 200

func (p *program) organizationApps() *cobra.Command {
	return &cobra.Command{
		Use:   "apps ORGANIZATION",
		Short: "List the connected apps that members of an organization allowed",
		Args:  needs("the organization's slug or id"),
		RunE: p.ofB2B(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			o, err := d.findOrganization(ctx, one, args[0])
			if err != nil {
				return err
			}
			all, after := []organizationGrantJSON{}, ""
			var rows [][]string
			for {
				page, err := d.clients.OrganizationApps(ctx, one, o.ID, after, everyGrant)
				if err != nil {
					return err
				}
				for _, app := range page {
					g := describeGrants([]oauth.ConnectedApp{app})[0]
					all = append(all, organizationGrantJSON{g, app.Grant.Subject})
					rows = append(rows, []string{d.out.bright(printable(g.Client)), app.Grant.Subject, orNone(g.Scopes), orNone(g.Resources), stamp(g.LastUsedAt), g.ID})
				}
				if len(page) < everyGrant {
					break
				}
				after = page[len(page)-1].Grant.ID
			}
			switch {
			case d.json:
				return d.out.json(all)
			case len(all) == 0:
				d.out.line("No member of %s has a connected app.", printable(o.Name))
				return nil
			}
			d.out.table([]string{"CONNECTED APP", "MEMBER", "MAY", "AT", "LAST USED", "GRANT"}, rows)
			return nil
		}),
	}
}

// organizationGrantJSON is a member's grant for programs.
type organizationGrantJSON struct {
	grantJSON
	MemberID string `json:"member_id"`
}

func (p *program) organizationRevoke() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke ORGANIZATION CLIENT_ID",
		Short: "Take back what every member of an organization allowed one connected app",
		Args:  needs("the organization's slug or id", "the client id"),
		RunE: p.ofB2B(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			o, err := d.findOrganization(ctx, one, args[0])
			if err != nil {
				return err
			}
			c, err := d.client(ctx, one, args[1])
			if err != nil {
				return err
			}
			n, err := d.clients.TakeBackInOrganization(ctx, one, o.ID, c.ID)
			if err != nil {
				return organizationFault(err, "postern organization apps "+o.Slug)
			}
			if d.json {
				return d.out.json(map[string]any{"organization_id": o.ID, "client_id": c.PublicID(), "grants_revoked": n})
			}
			d.out.line("%s took back %d grants for %s in %s", d.out.ok(), n, d.out.bright(printable(c.Name())), printable(o.Name))
			d.out.line("%s", d.out.dim(tokensEnd))
			return nil
		}),
	}
}

// findOrganization finds an organization by slug or id.
func (d *desk) findOrganization(ctx context.Context, p *project.Project, ref string) (identity.Organization, error) {
	o, err := d.people.Organization(ctx, p.ID, ref)
	if errors.Is(err, identity.ErrNotFound) {
		return o, wrong("postern organization list", "the project %s has no organization %s", p.Name, printable(ref))
	}
	return o, err
}

// organizationChange is what the flags say about an organization. What was not
// given stays as it is.
type organizationChange struct {
	slug, externalID       string
	domains                []string
	join, invites          string
	methods                string
	firstParty, thirdParty string
	byDomain               []string
	roles, trusted         string
}

func (c *organizationChange) flags(f *pflag.FlagSet) {
	f.StringVar(&c.slug, "slug", "", "its short name in addresses (default: made from the name)")
	f.StringVar(&c.externalID, "external-id", "", "its id in your own system, or none")
	f.StringArrayVar(&c.domains, "domain", nil, "an e-mail domain of its people, or none; may repeat, and replaces those that are there")
	f.StringVar(&c.join, "join-by-domain", "", "on: everybody with an address of its domains may join; off")
	f.StringVar(&c.invites, "invites", "", "who may be invited: all, listed (addresses of its domains) or none")
	f.StringVar(&c.methods, "methods", "", "ways to sign in that it takes: all, or of "+strings.Join(identity.SignInMethods(), ",")+" with commas between")
	f.StringArrayVar(&c.byDomain, "role-by-domain", nil, "DOMAIN=ROLE: everybody with an address of the domain has the role; or none; may repeat, and replaces those that are there")
	f.StringVar(&c.roles, "roles", "", "file with roles of the organization's own, as roles stand in a policy; or none")
	f.StringVar(&c.trusted, "trusted-metadata", "", "a JSON object that your own programs read; {} for none")
	f.StringVar(&c.firstParty, "first-party-apps", "", "your own connected apps that members may let in: all, listed:ID,ID or none")
	f.StringVar(&c.thirdParty, "third-party-apps", "", "the same for other people's connected apps")
}

// edit reads the flags and returns what they change.
func (c *organizationChange) edit(ctx context.Context, d *desk, one *project.Project) (func(*identity.Organization), error) {
	var problems []string
	if c.join != "" && c.join != "on" && c.join != "off" {
		problems = append(problems, fmt.Sprintf("--join-by-domain is %q; use on or off", c.join))
	}
	first, err := d.appPolicy(ctx, one, "first-party-apps", c.firstParty, &problems)
	if err != nil {
		return nil, err
	}
	third, err := d.appPolicy(ctx, one, "third-party-apps", c.thirdParty, &problems)
	if err != nil {
		return nil, err
	}
	implicit := []identity.ImplicitRole{}
	for _, pair := range c.byDomain {
		domain, role, found := strings.Cut(pair, "=")
		switch {
		case pair == "none":
		case !found:
			problems = append(problems, fmt.Sprintf("--role-by-domain is %q; use DOMAIN=ROLE", pair))
		default:
			implicit = append(implicit, identity.ImplicitRole{Domain: domain, Role: role})
		}
	}
	trusted := metadataOf("trusted-metadata", c.trusted, &problems)
	if len(problems) > 0 {
		return nil, &fault{problems: problems, next: "postern organization set --help"}
	}
	own, err := d.ownRoles(ctx, one, c.roles)
	if err != nil {
		return nil, err
	}
	return func(o *identity.Organization) {
		if c.byDomain != nil {
			o.Settings.ImplicitRoles = implicit
		}
		if c.roles != "" {
			o.Roles = own
		}
		if c.trusted != "" {
			o.TrustedMetadata = trusted
		}
		s := &o.Settings
		o.Slug = cmp.Or(c.slug, o.Slug)
		o.ExternalID = orNothing(cmp.Or(c.externalID, o.ExternalID))
		if c.domains != nil {
			s.AllowedDomains = slices.DeleteFunc(slices.Clone(c.domains), func(d string) bool { return orNothing(d) == "" })
		}
		if c.join != "" {
			s.Provisioning = c.join == "on"
		}
		s.Invitations = cmp.Or(identity.Extent(c.invites), s.Invitations)
		switch c.methods {
		case "":
		case string(identity.All):
			s.Methods, s.AllowedMethods = identity.All, []string{}
		default:
			s.Methods, s.AllowedMethods = identity.Listed, strings.Split(c.methods, ",")
		}
		if c.firstParty != "" {
			s.FirstParty = first
		}
		if c.thirdParty != "" {
			s.ThirdParty = third
		}
	}, nil
}

// orNothing is how a flag takes away what is there.
func orNothing(value string) string {
	if value == "none" {
		return ""
	}
	return value
}

// appPolicy reads which connected apps are let in. Those that are listed have to
// be there: a mistyped id would let nobody in, or later somebody else.
func (d *desk) appPolicy(ctx context.Context, one *project.Project, flag, value string, problems *[]string) (identity.AppPolicy, error) {
	policy := identity.AppPolicy{Allowed: identity.Extent(value), Listed: []string{}}
	ids, listed := strings.CutPrefix(value, string(identity.Listed)+":")
	if !listed {
		if value != "" && policy.Allowed != identity.All && policy.Allowed != identity.None {
			*problems = append(*problems, fmt.Sprintf("--%s is %q; use all, listed:ID,ID or none", flag, value))
		}
		return policy, nil
	}
	policy.Allowed = identity.Listed
	for id := range strings.SplitSeq(ids, ",") {
		c, err := d.clients.Client(ctx, one, strings.TrimSpace(id))
		switch {
		case errors.Is(err, oauth.ErrNotFound):
			*problems = append(*problems, fmt.Sprintf("--%s: the project %s has no connected app %q; postern client list shows them", flag, one.Name, id))
		case err != nil:
			return policy, err
		default:
			policy.Listed = append(policy.Listed, c.ID)
		}
	}
	return policy, nil
}

// organizationFault says what went wrong with an organization or a member.
func organizationFault(err error, next string) error {
	var problems identity.Problems
	switch {
	case errors.As(err, &problems):
		return &fault{problems: problems, next: next}
	case errors.Is(err, identity.ErrConflict):
		return wrong(next, "another one has this slug, address or external id")
	case errors.Is(err, identity.ErrStale):
		return wrong(next, "somebody else changed it at the same moment; nothing was changed now")
	case errors.Is(err, identity.ErrLastAdmin):
		return wrong("postern member set MEMBER --role "+rbac.RoleAdmin, "the organization would have no administrator left; make somebody else one first")
	}
	return advise(err, next)
}

func organizationState(o identity.Organization) string {
	if o.Active {
		return "active"
	}
	return "suspended"
}

// organization prints an organization and its rules.
// metadataOf reads a JSON object from the command line.
func metadataOf(flag, text string, problems *[]string) (object map[string]any) {
	if text == "" {
		return nil
	}
	if err := json.Unmarshal([]byte(text), &object); err != nil || object == nil {
		*problems = append(*problems, fmt.Sprintf("--%s is not a JSON object, such as {\"plan\": \"gold\"}", flag))
	}
	return object
}

// ownRoles reads a file with roles of an organization's own.
func (d *desk) ownRoles(ctx context.Context, one *project.Project, file string) ([]rbac.Role, error) {
	if file == "" || file == "none" {
		return []rbac.Role{}, nil
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, wrong("postern organization set --help", "%s: %s", file, plain(err))
	}
	policy, err := d.people.Policy(ctx, one.ID)
	if err != nil {
		return nil, err
	}
	roles, err := policy.ParseRoles(text)
	return roles, linesOf(file, err)
}

func (d *desk) organization(o identity.Organization) {
	s := o.Settings
	invites := map[identity.Extent]string{
		identity.All: "anybody", identity.Listed: "addresses of its domains", identity.None: "nobody",
	}[s.Invitations]
	methods := "all"
	if s.Methods == identity.Listed {
		methods = strings.Join(s.AllowedMethods, " ")
	}
	rows := [][2]string{
		{"Id", o.ID},
		{"Slug", o.Slug},
		{"External id", cmp.Or(printable(o.ExternalID), "none")},
		{"State", organizationState(o)},
		{"Since", stamp(o.CreatedAt)},
		{"Domains", orNone(s.AllowedDomains)},
		{"Join by domain", yesNo(s.Provisioning)},
		{"May be invited", invites},
		{"Ways to sign in", methods},
		{"First-party apps", appsText(s.FirstParty)},
		{"Third-party apps", appsText(s.ThirdParty)},
	}
	for _, r := range s.ImplicitRoles {
		rows = append(rows, [2]string{"Role by domain", r.Role + " for " + r.Domain})
	}
	for _, r := range o.Roles {
		rows = append(rows, [2]string{"Role of its own", r.ID})
	}
	d.out.facts(rows...)
}

func appsText(p identity.AppPolicy) string {
	if p.Allowed == identity.Listed {
		return orNone(p.Listed)
	}
	return string(p.Allowed)
}

// organizationJSON is an organization for programs.
type organizationJSON struct {
	ID              string                        `json:"organization_id"`
	Name            string                        `json:"name"`
	Slug            string                        `json:"slug"`
	ExternalID      string                        `json:"external_id,omitempty"`
	Active          bool                          `json:"active"`
	Settings        identity.OrganizationSettings `json:"settings"`
	Roles           []rbac.Role                   `json:"roles"` // of its own
	TrustedMetadata map[string]any                `json:"trusted_metadata"`
	CreatedAt       time.Time                     `json:"created_at"`
	UpdatedAt       time.Time                     `json:"updated_at"`
}

func describeOrganization(o identity.Organization) organizationJSON {
	j := organizationJSON{
		ID: o.ID, Name: o.Name, Slug: o.Slug, ExternalID: o.ExternalID, Active: o.Active, Settings: o.Settings,
		Roles: append([]rbac.Role{}, o.Roles...), TrustedMetadata: o.TrustedMetadata, CreatedAt: o.CreatedAt, UpdatedAt: o.UpdatedAt,
	}
	if j.TrustedMetadata == nil {
		j.TrustedMetadata = map[string]any{}
	}
	return j
}

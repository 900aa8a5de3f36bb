package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
)

// organizationsView is a part of the organizations of a B2B project, with the
// form that makes one.
type organizationsView struct {
	frame
	pager
	Query         string
	Organizations []organizationRow
	Name, Slug    string // what was typed
	Making        bool
}

type organizationRow struct {
	identity.Organization
	Path string
	Logo string // address of its picture, "" without one
}

// Organizations lists the organizations of a B2B project and makes new ones.
func (d *Dashboard) Organizations(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.among(w, r, project.B2B)
	if !ok {
		return err
	}
	query := strings.TrimSpace(r.URL.Query().Get("q"))
	words := []string{"organization", "list"}
	if query != "" {
		words = append(words, query)
	}
	view := organizationsView{frame: d.frame(r, v, "organizations", "Organizations", v.command(words...)), Query: query}
	view.Lead = "Times are UTC"
	status := http.StatusOK
	if r.Method == http.MethodPost {
		values, err := d.form(r, v)
		if err != nil {
			return err
		}
		view.Making, view.Name, view.Slug = true, strings.TrimSpace(values.Get("name")), strings.TrimSpace(values.Get("slug"))
		made, err := d.People.CreateOrganization(r.Context(), v.project,
			identity.Organization{Name: view.Name, Slug: view.Slug, Settings: identity.DefaultOrganization()}, d.event(v, audit.OrganizationCreated, ""))
		if err == nil {
			d.done(w, r, organizationPath(v.project, made.ID, ""), "create", "")
			return nil
		}
		if view.Problems, err = sentences(err); err != nil {
			return err
		}
		status = http.StatusUnprocessableEntity
	}
	all, err := d.People.Organizations(r.Context(), v.project.ID, query, r.URL.Query().Get("after"), peoplePage+1)
	if err != nil {
		return gone(err, "The organization that this page begins after was deleted.")
	}
	next := ""
	if len(all) > peoplePage {
		all = all[:peoplePage]
		next = all[peoplePage-1].ID
	}
	view.pager = turn(r, next)
	for _, o := range all {
		view.Organizations = append(view.Organizations, organizationRow{o, organizationPath(v.project, o.ID, ""), logoPath(v.project, o.Logo)})
	}
	return d.pages.Render(w, status, "organizations", view)
}

// organizationPath is the address of an organization, or of a page below it.
func organizationPath(p *project.Project, id, page string) string {
	path := projectPath(p, "organizations/"+url.PathEscape(id))
	if page != "" {
		path += "/" + page
	}
	return path
}

// organizationFrame is what stands around the pages about one organization.
type organizationFrame struct {
	frame
	Organization identity.Organization
	Picture      string // address of its logo, "" without one
	Tabs         []tab
}

// tab is one of the pages about one thing.
type tab struct {
	Name, Path string
	Current    bool
}

// organization enters a B2B project and finds the organization of the address.
func (d *Dashboard) organization(w http.ResponseWriter, r *http.Request) (v visit, o identity.Organization, ok bool, err error) {
	if v, ok, err = d.among(w, r, project.B2B); !ok {
		return v, o, ok, err
	}
	if o, err = d.People.Organization(r.Context(), v.project.ID, r.PathValue("organization")); err != nil {
		return v, o, false, gone(err, "This project has no organization with this id.")
	}
	return v, o, true, nil
}

// organizationFrame begins a page about an organization. page is its part of the
// address.
func (d *Dashboard) organizationFrame(r *http.Request, v visit, o identity.Organization, page, cli string) organizationFrame {
	f := organizationFrame{frame: d.frame(r, v, "organizations", o.Name, cli).in(), Organization: o, Picture: logoPath(v.project, o.Logo)}
	f.Lead = "Times are UTC"
	for _, t := range []struct{ name, path string }{{"Summary", ""}, {"Members", "members"}, {"Connected apps", "apps"}, {"Single sign-on", "sso"}} {
		f.Tabs = append(f.Tabs, tab{t.name, organizationPath(v.project, o.ID, t.path), t.path == page})
	}
	return f
}

// organizationView is the summary of an organization and its settings.
type organizationView struct {
	organizationFrame
	Form    organizationForm
	Members string            // how many, in words
	CLIs    map[string]string // by action
	Dangers []danger
}

// organizationForm is what the fields of the page hold.
type organizationForm struct {
	Name, Slug, ExternalID string
	Domains                string // one a line
	Provisioning           bool
	Invitations            identity.Extent
	Methods                string // all, or one of them
	ByDomain               string // DOMAIN=ROLE, one a line
	FirstParty, ThirdParty appsForm
	Trusted                string // JSON
	Roles                  string // JSON or YAML
}

// appsForm is which connected apps of one kind members may let in.
type appsForm struct {
	Kind, Title string
	Allowed     identity.Extent
	IDs         string // one a line
}

// The parts of the settings of an organization, one form each, and what else can
// be done to it.
const (
	doInfo     = "info"
	doPeople   = "people"
	doApps     = "apps"
	doMetadata = "metadata"
	doOwnRoles = "own_roles"
	doLogo     = "logo"
	doNoLogo   = "no_logo"
	doSuspend  = "suspend"
	doResume   = "resume"
)

// Organization shows an organization and its settings, and changes them.
func (d *Dashboard) Organization(w http.ResponseWriter, r *http.Request) error {
	v, o, ok, err := d.organization(w, r)
	if !ok {
		return err
	}
	status, problems, tried, form := http.StatusOK, []string(nil), "", organizationFormOf(o)
	if r.Method == http.MethodPost {
		var values url.Values
		var file []byte
		if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
			values, file, err = d.upload(r, v)
		} else {
			values, err = d.form(r, v)
		}
		if err != nil {
			return err
		}
		tried = values.Get("action")
		form.take(tried, values)
		if problems, err = d.changeOrganization(r, v, o, form, values, file); err != nil {
			return err
		}
		if problems == nil {
			back, about := organizationPath(v.project, o.ID, ""), ""
			if tried == doDelete {
				back, about = projectPath(v.project, "organizations"), o.Name
			}
			d.done(w, r, back, tried, about)
			return nil
		}
		status = http.StatusUnprocessableEntity
	}
	view := organizationView{organizationFrame: d.organizationFrame(r, v, o, "", v.command("organization", "show", o.Slug)), Form: form}
	view.Problems = problems
	view.CLIs = form.commands(v, o)
	members, err := d.People.Members(r.Context(), o, identity.MemberQuery{Limit: manyMembers + 1})
	if err != nil {
		return err
	}
	view.Members = counted(len(members), "member")
	if len(members) > manyMembers {
		view.Members = fmt.Sprintf("more than %d members", manyMembers)
	}
	if o.Active {
		view.Dangers = append(view.Dangers, view.guard(danger{
			Action: doSuspend, Button: "Suspend " + o.Name, Type: confirmationOf(o.Slug), Sure: "Suspend it", CLI: v.command("organization", "set", o.Slug, "--suspend"),
			Stops: "Nobody gets in: " + view.Members + " and their connected apps. Every token is inactive until you end the suspension.",
		}))
	}
	view.Dangers = append(view.Dangers, view.guard(danger{
		Action: doDelete, Button: "Delete " + o.Name, Type: confirmationOf(o.Slug), Sure: "Delete for good", CLI: v.command("organization", "delete", o.Slug),
		Stops: "Deletes " + view.Members + " with their sessions and everything they allowed, and the connection to their sign-in service. It does not come back.",
	}))
	if i := slices.IndexFunc(view.Dangers, func(one danger) bool { return one.Action == tried }); i >= 0 && problems != nil {
		view.Dangers[i].Open = true
	}
	return d.pages.Render(w, status, "organization", view)
}

// manyMembers is how far members are counted.
const manyMembers = 100

// organizationFormOf fills the fields with an organization as it stands.
func organizationFormOf(o identity.Organization) organizationForm {
	s := o.Settings
	f := organizationForm{
		Name: o.Name, Slug: o.Slug, ExternalID: o.ExternalID,
		Domains: strings.Join(s.AllowedDomains, "\n"), Provisioning: s.Provisioning, Invitations: s.Invitations,
		Methods:    string(identity.All),
		FirstParty: appsForm{"first_party", "Your own connected apps", s.FirstParty.Allowed, strings.Join(s.FirstParty.Listed, "\n")},
		ThirdParty: appsForm{"third_party", "Connected apps of others", s.ThirdParty.Allowed, strings.Join(s.ThirdParty.Listed, "\n")},
		Trusted:    metadataText(o.TrustedMetadata),
	}
	if s.Methods == identity.Listed {
		f.Methods = strings.Join(s.AllowedMethods, ",")
	}
	var pairs []string
	for _, i := range s.ImplicitRoles {
		pairs = append(pairs, i.Domain+"="+i.Role)
	}
	f.ByDomain = strings.Join(pairs, "\n")
	if len(o.Roles) > 0 {
		text, err := json.MarshalIndent(map[string]any{"roles": o.Roles}, "", "  ")
		if err == nil {
			f.Roles = string(text)
		}
	}
	return f
}

// metadataText is metadata as it is edited: "{}" for none.
func metadataText(m map[string]any) string {
	if len(m) == 0 {
		return "{}"
	}
	text, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return "{}" // it was read from JSON
	}
	return string(text)
}

// take puts what one form sent into its fields.
func (f *organizationForm) take(section string, values url.Values) {
	switch section {
	case doInfo:
		f.Name, f.Slug, f.ExternalID = strings.TrimSpace(values.Get("name")), strings.TrimSpace(values.Get("slug")), strings.TrimSpace(values.Get("external_id"))
	case doPeople:
		f.Domains, f.Provisioning, f.Invitations = values.Get("domains"), values.Get("provisioning") == "on", identity.Extent(values.Get("invitations"))
		f.Methods, f.ByDomain = values.Get("methods"), values.Get("by_domain")
	case doApps:
		for _, one := range []*appsForm{&f.FirstParty, &f.ThirdParty} {
			one.Allowed, one.IDs = identity.Extent(values.Get(one.Kind)), values.Get(one.Kind+"_ids")
		}
	case doMetadata:
		f.Trusted = values.Get("trusted")
	case doOwnRoles:
		f.Roles = values.Get("roles")
	}
}

// commands are the command lines that do what the forms do, with what stands in
// them.
func (f organizationForm) commands(v visit, o identity.Organization) map[string]string {
	set := func(words ...string) string {
		return v.command(append([]string{"organization", "set", o.Slug}, words...)...)
	}
	each := func(flag string, values []string) (words []string) {
		for _, value := range values {
			words = append(words, flag, value)
		}
		if len(values) == 0 {
			words = []string{flag, "none"}
		}
		return words
	}
	join := "off"
	if f.Provisioning {
		join = "on"
	}
	people := append(each("--domain", wordsOf(f.Domains)), "--join-by-domain", join, "--invites", string(f.Invitations), "--methods", f.Methods)
	apps := []string{}
	for flag, one := range map[string]appsForm{"--first-party-apps": f.FirstParty, "--third-party-apps": f.ThirdParty} {
		value := string(one.Allowed)
		if one.Allowed == identity.Listed {
			value += ":" + strings.Join(wordsOf(one.IDs), ",")
		}
		apps = append(apps, flag+"="+value)
	}
	slices.Sort(apps)
	return map[string]string{
		doInfo:     set("--name", f.Name, "--slug", f.Slug, "--external-id", cmp.Or(f.ExternalID, "none")),
		doPeople:   set(append(people, each("--role-by-domain", wordsOf(f.ByDomain))...)...),
		doApps:     set(apps...),
		doMetadata: set("--trusted-metadata", strings.Join(strings.Fields(f.Trusted), " ")),
		doOwnRoles: set("--roles", "roles.yaml"),
		doLogo:     set("--logo", "logo.png"),
		doResume:   set("--resume"),
	}
}

// changeOrganization does what a form of the page asks for. problems says why
// nothing was done.
func (d *Dashboard) changeOrganization(r *http.Request, v visit, o identity.Organization, form organizationForm, values url.Values, file []byte) (problems []string, err error) {
	ctx, do := r.Context(), values.Get("action")
	if (do == doSuspend || do == doDelete) && !confirmed(values, confirmationOf(o.Slug)) {
		return unconfirmed(confirmationOf(o.Slug)), nil
	}
	if do == doDelete {
		return nil, gone(d.People.DeleteOrganization(ctx, v.project.ID, o.ID, d.event(v, audit.OrganizationDeleted, o.ID)), "Another window deleted this organization.")
	}
	if do == doLogo || do == doNoLogo {
		if do == doLogo && file == nil {
			return []string{"Choose a picture first."}, nil
		}
		if err := d.People.SetOrganizationLogo(ctx, o, file, d.event(v, audit.OrganizationChanged, o.ID)); err != nil {
			return sentences(err)
		}
		return nil, nil
	}
	change, problems, err := d.organizationChange(ctx, v, do, form)
	if problems != nil || err != nil {
		return problems, err
	}
	_, err = d.People.ChangeOrganization(ctx, v.project, o.ID, func(o *identity.Organization) error {
		if sent := values.Get("version"); sent != "" && sent != strconv.FormatInt(o.Version, 10) {
			return identity.ErrStale
		}
		change(o)
		return nil
	}, d.event(v, audit.OrganizationChanged, o.ID))
	if err == nil {
		return nil, nil
	}
	return sentences(err)
}

// organizationChange is what a form of the page changes.
func (d *Dashboard) organizationChange(ctx context.Context, v visit, do string, form organizationForm) (change func(*identity.Organization), problems []string, err error) {
	switch do {
	case doInfo:
		change = func(o *identity.Organization) {
			o.Name, o.Slug, o.ExternalID = form.Name, form.Slug, form.ExternalID
		}
	case doPeople:
		implicit := []identity.ImplicitRole{}
		for _, pair := range strings.Fields(form.ByDomain) {
			domain, role, found := strings.Cut(pair, "=")
			if !found {
				problems = append(problems, "Write roles by domain as DOMAIN=ROLE, one a line.")
			}
			implicit = append(implicit, identity.ImplicitRole{Domain: strings.ToLower(domain), Role: role})
		}
		change = func(o *identity.Organization) {
			s := &o.Settings
			s.AllowedDomains, s.Provisioning, s.Invitations, s.ImplicitRoles = wordsOf(strings.ToLower(form.Domains)), form.Provisioning, form.Invitations, implicit
			s.Methods, s.AllowedMethods = identity.All, []string{}
			if form.Methods != string(identity.All) {
				s.Methods, s.AllowedMethods = identity.Listed, wordsOf(form.Methods)
			}
		}
	case doApps:
		var policies [2]identity.AppPolicy
		for i, one := range []appsForm{form.FirstParty, form.ThirdParty} {
			policies[i] = identity.AppPolicy{Allowed: one.Allowed, Listed: []string{}}
			for _, id := range wordsOf(one.IDs) {
				c, err := d.Clients.Client(ctx, v.project, id)
				switch {
				case errors.Is(err, oauth.ErrNotFound):
					problems = append(problems, "This project has no connected app with the id "+id+".")
				case err != nil:
					return nil, nil, err
				default:
					policies[i].Listed = append(policies[i].Listed, c.ID)
				}
			}
		}
		change = func(o *identity.Organization) {
			o.Settings.FirstParty, o.Settings.ThirdParty = policies[0], policies[1]
		}
	case doMetadata:
		trusted, problem := metadataOf("The trusted metadata", form.Trusted)
		problems = problem
		change = func(o *identity.Organization) { o.TrustedMetadata = trusted }
	case doOwnRoles:
		roles, problem, err := d.ownRoles(ctx, v, form.Roles)
		if err != nil {
			return nil, nil, err
		}
		problems = problem
		change = func(o *identity.Organization) { o.Roles = roles }
	case doSuspend, doResume:
		change = func(o *identity.Organization) { o.Active = do == doResume }
	default:
		problems = []string{"This page has no such button any more. Load it again."}
	}
	return change, problems, nil
}

// ownRoles reads roles of an organization's own.
func (d *Dashboard) ownRoles(ctx context.Context, v visit, text string) (roles []rbac.Role, problems []string, err error) {
	if strings.TrimSpace(text) == "" {
		return []rbac.Role{}, nil, nil
	}
	policy, err := d.People.Policy(ctx, v.project.ID)
	if err != nil {
		return nil, nil, err
	}
	roles, err = policy.ParseRoles([]byte(unixLines(text)))
	return roles, documentProblems(err), nil
}

// wordsOf cuts a field at blanks, commas and line ends.
func wordsOf(text string) []string {
	words := []string{}
	return append(words, strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(" ,;\t\r\n", c) })...)
}

// metadataOf reads a JSON object.
func metadataOf(what, text string) (object map[string]any, problems []string) {
	if strings.TrimSpace(text) == "" {
		text = "{}"
	}
	if err := json.Unmarshal([]byte(text), &object); err != nil || object == nil {
		return nil, []string{what + ` must be a JSON object, such as {"plan": "gold"}.`}
	}
	return object, nil
}

// organizationAppsView is what the members of an organization allowed.
type organizationAppsView struct {
	organizationFrame
	pager
	Apps []organizationApp
}

// organizationApp is a connected app with the members who allowed it.
type organizationApp struct {
	Door   door
	ID     string
	Path   string
	Grants []grantRow
	Danger danger
}

// OrganizationApps lists what the members of an organization allowed, by
// connected app, and takes it back.
func (d *Dashboard) OrganizationApps(w http.ResponseWriter, r *http.Request) error {
	v, o, ok, err := d.organization(w, r)
	if !ok {
		return err
	}
	ctx := r.Context()
	view := organizationAppsView{organizationFrame: d.organizationFrame(r, v, o, "apps", v.command("organization", "apps", o.Slug))}
	status, tried := http.StatusOK, ""
	if r.Method == http.MethodPost {
		values, err := d.form(r, v)
		if err != nil {
			return err
		}
		tried = values.Get("about")
		client, err := d.Clients.Client(ctx, v.project, tried)
		if err != nil {
			return gone(err, "This project has no such connected app.")
		}
		if view.Problems = unconfirmed(client.ID); confirmed(values, client.ID) {
			if _, err := d.Clients.By(v.origin).TakeBackInOrganization(ctx, v.project, o.ID, client.ID); err != nil {
				return err
			}
			d.done(w, r, view.Here, doRevoke, client.Name())
			return nil
		}
		status = http.StatusUnprocessableEntity
	}
	apps, err := d.Clients.OrganizationApps(ctx, v.project, o.ID, r.URL.Query().Get("after"), peoplePage+1)
	if err != nil {
		return gone(err, "The grant that this page begins after is not there any more.")
	}
	next := ""
	if len(apps) > peoplePage {
		apps = apps[:peoplePage]
		next = apps[peoplePage-1].Grant.ID
	}
	view.pager = turn(r, next)
	for _, app := range apps {
		last := len(view.Apps) - 1
		if last < 0 || view.Apps[last].ID != app.Client.ID {
			view.Apps = append(view.Apps, organizationApp{
				Door: v.doorOf(app.Client), ID: app.Client.ID, Path: projectPath(v.project, "apps/"+url.PathEscape(app.Client.ID)),
				Danger: view.guard(danger{
					Action: doRevoke, About: app.Client.ID, Button: "Take back from everybody", Type: app.Client.ID, Sure: "Take back from everybody", Open: tried == app.Client.ID,
					Stops: "Every member of " + o.Name + " who allowed " + app.Client.Name() + " loses it within seconds. They can allow it again, unless the settings say otherwise.",
					CLI:   v.command("organization", "revoke", o.Slug, app.Client.PublicID()),
				}),
			})
			last++
		}
		row := v.grantRow(app)
		m, err := d.People.Member(ctx, o, app.Grant.Subject)
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			return err
		}
		row.Person, row.Path = m.Email, memberPath(v.project, o.ID, app.Grant.Subject)
		view.Apps[last].Grants = append(view.Apps[last].Grants, row)
	}
	return d.pages.Render(w, status, "organizationapps", view)
}

// organizationSSOView is how the members sign in through their own service.
type organizationSSOView struct {
	organizationFrame
	Connection *identity.Connection // nil for none
	Manage     string               // where the organization's administrators look after it
}

// OrganizationSSO shows the connection of an organization to its own sign-in
// service. Its administrators look after it on the project's own pages.
func (d *Dashboard) OrganizationSSO(w http.ResponseWriter, r *http.Request) error {
	v, o, ok, err := d.organization(w, r)
	if !ok {
		return err
	}
	view := organizationSSOView{
		organizationFrame: d.organizationFrame(r, v, o, "sso", v.command("organization", "show", o.Slug)),
		Manage:            v.project.Issuer + "/organization/sso",
	}
	c, err := d.People.Connection(r.Context(), v.project.ID, o.ID)
	switch {
	case err == nil:
		view.Connection = &c
	case !errors.Is(err, identity.ErrNotFound):
		return err
	}
	return d.pages.Render(w, http.StatusOK, "organizationsso", view)
}

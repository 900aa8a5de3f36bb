package admin

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/web"
)

// settingsView is what can be set about a project, in groups with a form each.
type settingsView struct {
	frame
	ID       string
	Public   string // token of the project
	Issuer   string
	Hosts    []string // further ones of its API
	Change   string   // address of the page that changes the issuer
	Groups   []settingGroup
	Picture  string // address of the logo, "" without one
	LogoCLI  string
	Addition string // where connected apps are
}

// settingGroup is settings that are saved together.
type settingGroup struct {
	Name, Title string // Name is the action of its form
	Text        string
	Rows        []settingRow
	CLI         string
	Was         string // what the form says it saw
}

// settingRow is one setting in a form. Of On, Choices and Value it has what its
// kind needs.
type settingRow struct {
	Name, Title, Hint string
	Switch, On        bool
	Choices           []string
	Value             string
}

// settingPlan is a group as it is written down here.
type settingPlan struct {
	name, title, text string
	b2b               bool        // of such projects alone
	rows              [][3]string // setting, title, hint
}

// The settings on the page, in its groups. A setting that is one of two is a
// switch, which Title says what it is when it is on.
var settingGroups = []settingPlan{
	{"look", "Look", "What people see when they sign in.", false, [][3]string{
		{"name", "Name", "People read it when they sign in and in mails."},
		{"privacy-url", "Privacy page", "An https address at the foot of every page, or none."},
		{"help-url", "Help page", "The same for help."},
		{"badge", "Leave “Guarded by postern” out", "The line at the foot of the pages that people see."},
	}},
	{"authorization", "Authorization page", "Where clients send people who are asked for permission.", false, [][3]string{
		{"authorization-url", "Your own page", "The metadata names it in place of ours; it sends people on to ours with the same query. The calls by which it could answer by itself are not here yet."},
	}},
	{"registration", "Who may register", "How clients come in that nobody registered by hand.", false, [][3]string{
		{"cimd", "Registration by metadata document", "A client is known by the address of a document about itself. Its host vouches for it."},
		{"cimd-copies", "Stored copies of metadata documents", "Stand for documents that cannot be read at the moment."},
		{"dynamic-registration", "Self-registration", "Dynamic client registration, at most 60 an hour for each address. Nobody vouches for these."},
		{"private-use-schemes", "Private return schemes", "With commas between. Addresses such as cursor://… lead to a program on a person's computer."},
		{"unregistered-resources", "Unregistered resources", "Tokens may name servers that nobody registered here."},
	}},
	{"consent", "Consent", "What a request gets that does not say what it wants.", false, [][3]string{
		{"preselect", "Tick only what reads", "For unverified apps. People can tick the rest themselves."},
		{"default-resource", "Default resource server", "Of requests that name none."},
		{"default-scopes", "Default scopes", "With commas between; where neither the request nor the resource server names any."},
	}},
	{"joining", "Organizations", "Who makes them.", true, [][3]string{
		{"organization-creation", "Whoever signs in may make an organization", "And becomes its first administrator."},
	}},
	{"lifetimes", "Lifetimes", "Times such as 90s, 15m, 12h or 14d.", false, [][3]string{
		{"code-lifetime", "Authorization code", "10s to 10m."},
		{"access-token-lifetime", "Access token", "1m to 1d. A revoked one is refused by servers that ask us; others take it until it ends."},
		{"lone-access-token-lifetime", "Access token without a refresh token", "1m to 1d."},
		{"refresh-idle", "Refresh token, unused", "5m to 365d."},
		{"refresh-absolute", "Refresh token, at the latest", "5m to 730d."},
		{"replay-window", "Repeats of a refresh", "0s to 5m. For so long a repeat gets the same answer; after that it ends the authorization."},
		{"email-code-lifetime", "One-time code by mail", "1m to 30m."},
		{"session-idle", "Session, unused", "5m to 30d."},
		{"session-absolute", "Session, at the latest", "5m to 90d."},
	}},
}

// settings are those of a group.
func (g settingPlan) settings() []string {
	var all []string
	for _, row := range g.rows {
		all = append(all, row[0])
	}
	return all
}

// Settings shows what can be set about a project, and sets it.
func (d *Dashboard) Settings(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	if r.Method != http.MethodPost {
		return d.settings(w, r, v, http.StatusOK, nil, nil)
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/") {
		return d.logo(w, r, v)
	}
	values, err := d.form(r, v)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(settingGroups, func(g settingPlan) bool { return g.name == values.Get("action") })
	if i < 0 {
		return &web.Error{Status: http.StatusBadRequest}
	}
	var changes []project.Change
	for _, row := range settingGroups[i].rows {
		s, _ := project.SettingOf(row[0]) // one of ours: a test walks them
		// What was left as it is, is nobody's change.
		if value := typedSetting(s, values); value != s.Get(v.project) {
			changes = append(changes, project.Change{Setting: s.Name, Value: value})
		}
	}
	if len(changes) == 0 {
		d.done(w, r, r.URL.Path, "saved", "")
		return nil
	}
	if err := d.set(r, v, values, changes, settingGroups[i].settings()); err != nil {
		problems, err := sentences(err)
		if err != nil {
			return err
		}
		return d.settings(w, r, v, http.StatusUnprocessableEntity, problems, changes)
	}
	d.Changed(r.Context())
	d.done(w, r, r.URL.Path, "saved", "")
	return nil
}

// typedSetting is the value of a setting as its field in a form says it: a box
// that is not ticked sends nothing, and an empty field is none.
func typedSetting(s project.Setting, values url.Values) string {
	value := strings.TrimSpace(values.Get(s.Name))
	switch {
	case s.On != "" && value == "on":
		return s.On
	case s.On != "":
		return s.Off
	case value == "" && s.Name != "name":
		return "none"
	}
	return value
}

// logo takes the form with the file.
func (d *Dashboard) logo(w http.ResponseWriter, r *http.Request, v visit) error {
	values, file, err := d.upload(r, v)
	if err != nil {
		return err
	}
	switch action := values.Get("action"); {
	case action == "logo" && file == nil:
		return d.settings(w, r, v, http.StatusUnprocessableEntity, []string{"Choose a file first."}, nil)
	case action == "no_logo":
		file = nil
	case action != "logo":
		return &web.Error{Status: http.StatusBadRequest}
	}
	if err := d.Projects.By(v.origin).SetLogo(r.Context(), v.project, file); err != nil {
		problems, err := sentences(err)
		if err != nil {
			return err
		}
		return d.settings(w, r, v, http.StatusUnprocessableEntity, problems, nil)
	}
	d.Changed(r.Context())
	d.done(w, r, r.URL.Path, "saved", "")
	return nil
}

// settings draws the page; typed is what was not kept.
func (d *Dashboard) settings(w http.ResponseWriter, r *http.Request, v visit, status int, problems []string, typed []project.Change) error {
	p := v.project
	view := settingsView{
		frame: d.frame(r, v, "settings", "Settings", projectCommand(v, "show")), ID: p.ID, Public: p.PublicToken, Issuer: p.Issuer, Hosts: p.Hosts,
		Change: projectPath(p, "settings/issuer"), Picture: logoPath(p, p.Logo), LogoCLI: v.command("project", "set", "logo", "FILE"), Addition: projectPath(p, "apps"),
	}
	view.Problems = problems
	for _, g := range settingGroups {
		if g.b2b && p.Vertical != project.B2B {
			continue
		}
		group := settingGroup{Name: g.name, Title: g.title, Text: g.text}
		words := []string{"project", "set"}
		for _, row := range g.rows {
			s, _ := project.SettingOf(row[0]) // as above
			now := s.Get(p)
			words = append(words, row[0], now)
			if i := slices.IndexFunc(typed, func(c project.Change) bool { return c.Setting == row[0] }); i >= 0 {
				now = typed[i].Value
			}
			one := settingRow{Name: row[0], Title: row[1], Hint: row[2], Switch: s.On != "", On: now == s.On, Value: now}
			if now == "none" {
				one.Value = ""
			}
			if row[0] == project.DefaultResourceSetting {
				one.Choices = resourceChoices(p)
			}
			group.Rows = append(group.Rows, one)
		}
		group.CLI, group.Was = v.command(words...), shown(p, g.settings())
		view.Groups = append(view.Groups, group)
	}
	return d.pages.Render(w, status, "settings", view)
}

// resourceChoices are the resource servers that can be the default.
func resourceChoices(p *project.Project) []string {
	all := []string{""}
	for _, one := range p.Resources {
		all = append(all, one.URI)
	}
	return all
}

// issuerView is the page that gives a project another issuer.
type issuerView struct {
	frame
	Issuer    string
	To        string // as it was typed
	Type      string
	Fixed     bool
	Impact    impactView
	Servers   []project.Resource
	Callbacks []callbackRow
	SetCLI    string
}

// callbackRow is an organization whose sign-in service has to know another
// redirect URI.
type callbackRow struct{ Organization, Path string }

// Issuer gives a project another issuer, after it has said what ends.
func (d *Dashboard) Issuer(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	view, status := issuerView{}, http.StatusOK
	if r.Method == http.MethodPost {
		values, err := d.form(r, v)
		if err != nil {
			return err
		}
		view.To = strings.TrimSpace(values.Get("issuer"))
		problems, err := refused(d.setIssuer(r, v, view.To, values))
		if err != nil {
			return err
		}
		if problems == nil {
			d.Changed(r.Context())
			d.done(w, r, projectPath(v.project, "settings"), "issuer", "")
			return nil
		}
		view.Problems, status = problems, http.StatusUnprocessableEntity
	}
	impact, err := d.Projects.IssuerImpact(r.Context(), v.project)
	if err != nil {
		return err
	}
	problems := view.Problems
	view.frame = d.frame(r, v, "settings", "Change the issuer", v.command("project", "set", "issuer", "NEW_URL")).in()
	view.Problems, view.Issuer, view.Type, view.Fixed = problems, v.project.Issuer, confirmationOf(v.project.Name), d.FixedIssuers
	view.Impact, view.Servers = toImpact(impact), v.project.Resources
	for _, c := range impact.Connections {
		view.Callbacks = append(view.Callbacks, callbackRow{c.Organization, signin.CallbackPath + c.OrganizationID})
	}
	return d.pages.Render(w, status, "issuer", view)
}

func (d *Dashboard) setIssuer(r *http.Request, v visit, to string, values url.Values) error {
	if d.FixedIssuers {
		return project.Problem("postern dev gives its projects their addresses; only its port can be chosen")
	}
	if err := project.CheckIssuer(to); err != nil {
		return plainProblem(err)
	}
	if to == v.project.Issuer {
		return project.Problem("the project has this issuer already")
	}
	if problems := d.Unfit(v.project.Name, to); len(problems) > 0 {
		return project.Problem(strings.Join(problems, "\n"))
	}
	if name := confirmationOf(v.project.Name); !confirmed(values, name) {
		return project.Problem(unconfirmed(name)[0])
	}
	_, err := d.Projects.By(v.origin).SetIssuer(r.Context(), v.project, to)
	return err
}

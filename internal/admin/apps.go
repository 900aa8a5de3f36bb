package admin

import (
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

const (
	// appsPage is how many connected apps stand on a page.
	appsPage = 50
	// grantsCounted is as far as the grants of a connected app are counted.
	grantsCounted = 100
)

// appsView is the list of connected apps, with who may come in at its top and
// the form that registers one by hand at its end.
type appsView struct {
	frame
	Switches      []switchRow
	Was           string // what their form says it saw
	Switch        string // the command that turns them
	Registrations oauth.Registrations
	Query, Show   string
	Shows         []showGroup
	Rows          []appRow
	Pager         pager
	New           oauth.NewClient // what was typed
	Addresses     string          // of New, one a line
	Types         []clientType
	Keys          keyFields // of New
	Made          appRow
	Secret        string // of Made: shown once
}

// appRow is one connected app. The template of a door wants Name, Known, Shut and
// Logo.
type appRow struct {
	oauth.Client
	Path        string
	Kind, Came  string // in words
	Known, Shut bool
	Logo        string
	Grants      string // how many, as far as it was counted
}

func (v visit) appRow(c oauth.Client) appRow {
	door := v.doorOf(c)
	return appRow{
		Client: c, Path: appPath(v.project, c.ID, ""), Kind: typeOf(c).Title, Came: came(c),
		Known: door.Known, Shut: door.Shut, Logo: door.Logo,
	}
}

func appPath(p *project.Project, id, tab string) string {
	path := projectPath(p, "apps/"+url.PathEscape(id))
	if tab != "" {
		path += "/" + tab
	}
	return path
}

// came says how a connected app came to be known.
func came(c oauth.Client) string {
	switch c.Creation {
	case oauth.Preregistered:
		return "Registered by hand"
	case oauth.Document:
		return "By its metadata document"
	}
	return "Registered itself"
}

// upTo writes a number that was counted as far as limit.
func upTo(n, limit int) string {
	if n > limit {
		return strconv.Itoa(limit) + "+"
	}
	return strconv.Itoa(n)
}

// clientType is one of the types that a client registered by hand can have.
type clientType struct {
	Type     oauth.ClientType
	Title    string
	Sentence string
}

func clientTypes() []clientType {
	return []clientType{
		{oauth.ThirdPartyPublic, "Third party, public", "Somebody else’s program without a secret: most MCP clients."},
		{oauth.ThirdParty, "Third party, confidential", "Somebody else’s program on a server, with a secret or keys of its own."},
		{oauth.FirstPartyPublic, "First party, public", "Your own program without a secret, such as a page or a command."},
		{oauth.FirstParty, "First party, confidential", "Your own program on a server, with a secret or keys of its own."},
	}
}

func typeOf(c oauth.Client) clientType {
	for _, t := range clientTypes() {
		if t.Type == c.Type {
			return t
		}
	}
	return clientType{Type: c.Type, Title: string(c.Type)}
}

// showGroup is a part of what a list can be narrowed to.
type showGroup struct {
	Title   string
	Options []showOption
}

type showOption struct {
	Value, Words string
	Chosen       bool
}

const (
	showBlocked  = "blocked"
	showCreation = "how:"
	showType     = "type:"
)

// shows are what the list can be narrowed to: one at a time, each found by an
// index.
func shows(chosen string) []showGroup {
	groups := []showGroup{
		{"How it came", []showOption{
			{Value: showCreation + string(oauth.Preregistered), Words: "Registered by hand"},
			{Value: showCreation + string(oauth.Document), Words: "By metadata document"},
			{Value: showCreation + string(oauth.Dynamic), Words: "Registered itself"},
		}},
		{"Type", nil},
		{"State", []showOption{{Value: showBlocked, Words: "Blocked"}}},
	}
	for _, t := range clientTypes() {
		groups[1].Options = append(groups[1].Options, showOption{Value: showType + string(t.Type), Words: t.Title})
	}
	for _, g := range groups {
		for i := range g.Options {
			g.Options[i].Chosen = g.Options[i].Value == chosen
		}
	}
	return groups
}

// clientQuery reads what the address asks for, and the command that asks the
// same.
func clientQuery(v visit, values url.Values) (oauth.ClientQuery, string) {
	q := oauth.ClientQuery{Text: strings.TrimSpace(values.Get("q")), After: values.Get("after"), Limit: appsPage + 1}
	words := []string{"client", "list"}
	if q.Text != "" {
		words = append(words, q.Text)
	}
	show := values.Get("show")
	if how, ok := strings.CutPrefix(show, showCreation); ok {
		q.Creation = oauth.Creation(how)
		words = append(words, "--how", how)
	} else if kind, ok := strings.CutPrefix(show, showType); ok {
		q.Type = oauth.ClientType(kind)
		words = append(words, "--type", strings.ReplaceAll(kind, "_", "-"))
	} else if q.Blocked = show == showBlocked; q.Blocked {
		words = append(words, "--blocked")
	}
	return q, v.command(words...)
}

// AppList shows the connected apps of a project, says how they may come to be
// known, and registers one by hand.
func (d *Dashboard) AppList(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	view := appsView{New: oauth.NewClient{Type: oauth.ThirdPartyPublic}, Types: clientTypes()}
	status := http.StatusOK
	var problems []string
	if r.Method == http.MethodPost {
		values, err := d.form(r, v)
		if err != nil {
			return err
		}
		if values.Get("action") == "registration" {
			return d.flip(w, r, v, values, registration())
		}
		view.New, view.Addresses, view.Keys = newClient(values), values.Get("addresses"), readKeyFields(values)
		made, key, err := d.Clients.By(v.origin).CreateClient(r.Context(), v.project, view.New)
		switch {
		case err == nil && key == nil:
			d.Changed(r.Context())
			d.done(w, r, appPath(v.project, made.ID, ""), "created", "")
			return nil
		case err == nil:
			d.Changed(r.Context())
			view.Made, view.Secret = v.appRow(made), key.Text
			view.New, view.Addresses, view.Keys = oauth.NewClient{Type: oauth.ThirdPartyPublic}, "", keyFields{}
		default:
			if problems, err = sentences(err); err != nil {
				return err
			}
			status = http.StatusUnprocessableEntity
		}
	}
	return d.appList(w, r, v, status, view, problems)
}

// appList draws the list into a view that holds what the form did.
func (d *Dashboard) appList(w http.ResponseWriter, r *http.Request, v visit, status int, view appsView, problems []string) error {
	ctx, values := r.Context(), r.URL.Query()
	q, cli := clientQuery(v, values)
	view.frame = d.frame(r, v, "apps", "Connected apps", cli)
	view.Lead = "Programs that may ask people to act for them. Times are UTC."
	view.Problems = problems
	view.Query, view.Show, view.Shows = q.Text, values.Get("show"), shows(values.Get("show"))
	view.Switches, view.Switch, view.Was = v.switchRows(registration())
	var err error
	if view.Registrations, err = d.Clients.Registrations(ctx, v.project); err != nil {
		return err
	}
	found, err := d.Clients.FindClients(ctx, v.project, q)
	if errors.Is(err, oauth.ErrNotFound) { // the last one of the page before is gone
		q.After = ""
		found, err = d.Clients.FindClients(ctx, v.project, q)
	}
	if err != nil {
		return err
	}
	next := ""
	if len(found) > appsPage {
		found = found[:appsPage]
		next = found[appsPage-1].ID
	}
	view.Pager = turn(r, next)
	for _, c := range found {
		row := v.appRow(c)
		n, err := d.Clients.CountGrants(ctx, v.project, c.ID, grantsCounted+1)
		if err != nil {
			return err
		}
		row.Grants = upTo(n, grantsCounted)
		view.Rows = append(view.Rows, row)
	}
	return d.pages.Render(w, status, "apps", view)
}

// Filtered reports whether the list is asked for less than everything.
func (a appsView) Filtered() bool { return a.Query != "" || a.Show != "" }

// newClient reads the form that registers a client.
func newClient(values url.Values) oauth.NewClient {
	keys := readKeyFields(values)
	return oauth.NewClient{
		Name: values.Get("name"), Type: oauth.ClientType(values.Get("type")), RedirectURIs: addressLines(values.Get("addresses")),
		AuthMethod: values.Get("auth_method"), BypassConsent: values.Get("bypass_consent") == "on",
		JWKS: []byte(keys.Set), JWKSURI: keys.Address,
	}
}

// keyFields are a client's keys as they are typed: one of the two, or none.
type keyFields struct{ Address, Set string }

// Typed reports whether something was.
func (k keyFields) Typed() bool { return k != keyFields{} }

func readKeyFields(values url.Values) keyFields {
	return keyFields{Address: strings.TrimSpace(values.Get("jwks_uri")), Set: strings.TrimSpace(values.Get("jwks"))}
}

// addressLines are the lines of a text that say something.
func addressLines(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

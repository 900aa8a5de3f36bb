package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// The tabs of a connected app, by the end of their address.
const (
	tabSummary   = ""
	tabGrants    = "grants"
	tabAttempts  = "attempts"
	tabAddresses = "addresses"
	tabSettings  = "settings"
)

// grantsPage is how many grants stand on a page.
const grantsPage = 50

// appView is one connected app. What a tab does not show is not read.
type appView struct {
	frame
	App         appRow
	Type        clientType
	ByHand      bool // an operator registered it, and may change what it says
	Tabs        []appTab
	Tab         string
	Count       int       // of grants, as far as it was counted
	Open        string    // the dangerous action whose form is open
	LastTokenAt time.Time // of its newest first token and of its newest 50 grants, zero without one
	Grants      []holderRow
	Pager       pager                       // of the grants
	Scopes      []string                    // that the grants of the page hold
	Resources   []string                    // that their tokens are for
	Counts      map[audit.State]audit.Count // of attempts
	Attempts    attemptList
	Trace       *traceView // the attempt that is open, nil for none
	Addresses   []addressRow
	SignedOut   []string          // addresses after signing out
	Add         string            // an address that was typed, or that a trace proposes
	Name        string            // as it was typed
	WasName     string            // as it stands, which the form says it saw
	WasBypass   bool              // the same
	Keys        keyFields         // as they are, or as they were typed
	Secret      string            // a new one: shown once
	Commands    map[string]string // by action
	Dangers     map[string]danger // by action
}

// appTab is one page of a connected app.
type appTab struct {
	Name, Path, Count string
	Current           bool
}

// holderRow is what one person allows.
type holderRow struct {
	Grant      oauth.Grant
	LastUsedAt time.Time
	Scopes     []string
	Resources  []string // that its tokens are for
	Person     string   // address, "" of somebody who is gone
	Path       string   // of the person's page
}

// addressRow is one return address and where it leads.
type addressRow struct {
	URI string
	oauth.Destination
}

// Counted is how many people allow it something, as far as it was counted.
func (a appView) Counted() string { return upTo(a.Count, grantsCounted) }

// People says how many lose something.
func (a appView) People() string {
	switch a.Count {
	case 0:
		return "Nobody allows it anything now."
	case 1:
		return "One grant ends."
	}
	return a.Counted() + " grants end."
}

// App shows a connected app and takes the forms about it.
func (d *Dashboard) App(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	chosen := r.PathValue("tab")
	if !slices.Contains([]string{tabSummary, tabGrants, tabAttempts, tabAddresses, tabSettings}, chosen) {
		return &web.Error{Status: http.StatusNotFound}
	}
	c, err := d.Clients.Client(r.Context(), v.project, r.PathValue("app"))
	if errors.Is(err, oauth.ErrNotFound) {
		return &web.Error{Status: http.StatusNotFound, Page: web.ErrorPage{
			What: "The project has no connected app with this id. It may have been deleted, or belong to another project.",
			Next: "Look for it among the connected apps of each project.",
		}}
	}
	if err != nil {
		return err
	}
	view := appView{Tab: chosen, Open: r.URL.Query().Get("open"), Add: r.URL.Query().Get("add"), Name: c.Name(), Keys: keysOf(c), WasName: c.Name(), WasBypass: c.BypassConsent}
	if r.Method != http.MethodPost {
		return d.app(w, r, v, http.StatusOK, view, c)
	}
	values, err := d.form(r, v)
	if err != nil {
		return err
	}
	f := appForm{
		action: values.Get("action"), confirmed: confirmed(values, confirmation(c)), grant: values.Get("grant"),
		address: strings.TrimSpace(values.Get("address")), name: values.Get("name"), bypass: values.Get("bypass_consent") == "on",
		keys: readKeyFields(values), wasName: values.Get("was_name"), wasBypass: values.Get("was_bypass") == "true", saw: values.Has("was_name"),
	}
	done, err := d.changeApp(r.Context(), v, c, f)
	switch {
	case err == nil && done.secret != "":
		d.Changed(r.Context())
		if c, err = d.Clients.Client(r.Context(), v.project, c.ID); err != nil {
			return err
		}
		view.Secret = done.secret
		return d.app(w, r, v, http.StatusOK, view, c)
	case err == nil && f.action == "delete":
		d.Changed(r.Context())
		d.done(w, r, projectPath(v.project, "apps"), "deleted", c.Name())
		return nil
	case err == nil:
		d.Changed(r.Context())
		d.done(w, r, appPath(v.project, c.ID, chosen), f.action, done.about)
		return nil
	case errors.Is(err, oauth.ErrNotFound):
		return &web.Error{Status: http.StatusNotFound}
	}
	problems, err := sentences(err)
	if err != nil {
		return err
	}
	view.Open, view.Add, view.Name = f.action, f.address, c.Name()
	switch f.action {
	case "change":
		view.Name, c.BypassConsent = f.name, f.bypass
	case "keys":
		view.Keys = f.keys
	}
	view.Problems = problems
	return d.app(w, r, v, http.StatusUnprocessableEntity, view, c)
}

// appForm is what the forms of the page send.
type appForm struct {
	action, grant, address, name string
	bypass, confirmed            bool
	keys                         keyFields
	wasName                      string // when the page was made
	wasBypass, saw               bool
}

// appDone is what a form did, besides its own name.
type appDone struct{ about, secret string }

// changeApp carries a form out.
func (d *Dashboard) changeApp(ctx context.Context, v visit, c oauth.Client, f appForm) (done appDone, err error) {
	clients := d.Clients.By(v.origin)
	if slices.Contains([]string{"rotate", "block", "delete", "revoke_all"}, f.action) && !f.confirmed {
		return done, identity.Problems(unconfirmed(confirmation(c)))
	}
	edit := func(change func(m *oauth.Metadata)) error {
		_, err := clients.ChangeClient(ctx, v.project, c.ID, func(c *oauth.Client) error {
			change(&c.Metadata)
			return nil
		})
		return err
	}
	without := func(list []string) []string {
		return slices.DeleteFunc(list, func(uri string) bool { return uri == f.address })
	}
	var n int
	switch f.action {
	case "change":
		_, err = clients.ChangeClient(ctx, v.project, c.ID, func(c *oauth.Client) error {
			// What another window changed since would go back to what this one shows.
			if f.saw && (f.wasName != c.Name() || f.wasBypass != c.BypassConsent) {
				return oauth.ErrConflict
			}
			c.Metadata.ClientName, c.BypassConsent = f.name, f.bypass
			return nil
		})
	case "keys":
		err = edit(func(m *oauth.Metadata) { m.JWKS, m.JWKSURI = []byte(f.keys.Set), f.keys.Address })
	case "add":
		err = edit(func(m *oauth.Metadata) { m.RedirectURIs = append(m.RedirectURIs, f.address) })
	case "remove":
		err = edit(func(m *oauth.Metadata) { m.RedirectURIs = without(m.RedirectURIs) })
	case "add_signed_out":
		err = edit(func(m *oauth.Metadata) { m.PostLogoutRedirectURIs = append(m.PostLogoutRedirectURIs, f.address) })
	case "remove_signed_out":
		err = edit(func(m *oauth.Metadata) { m.PostLogoutRedirectURIs = without(m.PostLogoutRedirectURIs) })
	case "rotate":
		key, err := clients.RotateSecret(ctx, v.project, c.ID)
		return appDone{secret: key.Text}, err
	case "block":
		n, err = clients.Block(ctx, v.project, c.ID)
	case "unblock":
		err = clients.Unblock(ctx, v.project, c.ID)
	case "delete":
		err = clients.DeleteClient(ctx, v.project, c.ID)
	case "revoke":
		var g oauth.Grant
		// The form of one app must not end a grant of another.
		if g, err = clients.Grant(ctx, v.project, f.grant); err == nil && g.ClientID != c.ID {
			err = oauth.ErrNotFound
		}
		if err == nil {
			_, err = clients.RevokeGrant(ctx, v.project, f.grant)
		}
	case "revoke_all":
		n, err = clients.RevokeAll(ctx, v.project, c.ID)
	default:
		err = &web.Error{Status: http.StatusBadRequest}
	}
	done.about = strconv.Itoa(n)
	return done, err
}

// keysOf are the keys of a client as a form shows them.
func keysOf(c oauth.Client) keyFields {
	var set bytes.Buffer
	if json.Indent(&set, c.Metadata.JWKS, "", "  ") != nil { // none
		set.Reset()
	}
	return keyFields{Address: c.Metadata.JWKSURI, Set: set.String()}
}

// confirmation is what is typed before a dangerous action: the name as it is
// shown, without what nobody can see or type.
func confirmation(c oauth.Client) string { return web.ClientText(c.Name()) }

// app draws a page of a connected app.
func (d *Dashboard) app(w http.ResponseWriter, r *http.Request, v visit, status int, view appView, c oauth.Client) error {
	ctx, id := r.Context(), c.PublicID()
	problems := view.Problems
	view.frame = d.frame(r, v, "apps", c.Name(), v.command("client", "show", id)).in()
	view.Problems = problems
	view.App, view.Type, view.ByHand = v.appRow(c), typeOf(c), c.Creation == oauth.Preregistered
	var err error
	if view.Count, err = d.Clients.CountGrants(ctx, v.project, c.ID, grantsCounted+1); err != nil {
		return err
	}
	if view.Counts, err = d.Traces.CountAttempts(ctx, v.project.ID, c.ID); err != nil {
		return err
	}
	var attempts audit.Count
	for _, n := range view.Counts {
		attempts = audit.Count{N: attempts.N + n.N, More: n.More}
	}
	for _, t := range []appTab{
		{"Summary", tabSummary, "", false},
		{"Grants", tabGrants, view.Counted(), false},
		{"Attempts", tabAttempts, atLeast(attempts), false},
		{"Return addresses", tabAddresses, strconv.Itoa(len(c.Metadata.RedirectURIs)), false},
		{"Settings", tabSettings, "", false},
	} {
		view.Tabs = append(view.Tabs, appTab{t.Name, appPath(v.project, c.ID, t.Path), t.Count, t.Path == view.Tab})
	}
	switch view.Tab {
	case tabSummary:
		err = d.appSummary(ctx, v, &view, c)
	case tabGrants:
		err = d.appGrants(r, v, &view, c)
	case tabAttempts:
		err = d.appAttempts(r, v, &view, c)
	case tabAddresses:
		for _, uri := range c.Metadata.RedirectURIs {
			view.Addresses = append(view.Addresses, addressRow{uri, oauth.DestinationOf(uri)})
		}
		view.SignedOut = c.Metadata.PostLogoutRedirectURIs
	}
	if err != nil {
		return err
	}
	view.Commands = map[string]string{
		"change": v.command("client", "set", id, "--name", c.Name()), "revoke": v.command("grant", "revoke", "GRANT_ID"), "unblock": v.command("client", "unblock", id),
		"keys":           v.command("client", "set", id, "--jwks-uri", "URL"),
		"add":            v.command("client", "set", id, "--redirect-uri", "NEW", "--remove-redirect-uri", "OLD"),
		"add_signed_out": v.command("client", "set", id, "--post-logout-redirect-uri", "NEW", "--remove-post-logout-redirect-uri", "OLD"),
	}
	tokens := view.People() + " Refresh and introspection refuse at once; a server that only checks signatures takes a token until it expires, after " + longest(v.project) + " at most."
	view.Dangers = map[string]danger{}
	for _, danger := range []danger{
		{
			Action: "revoke_all", Button: "Take back from everybody", Sure: "Take back from everybody", CLI: v.command("client", "revoke-all", id),
			Stops: tokens + " It may ask people again afterwards; block it if it should not.",
		},
		{
			Action: "rotate", Button: "New secret", Sure: "Make a new secret", CLI: v.command("client", "rotate-secret", id),
			Stops: "The old secret stops at once: the program fetches no token before it has the new one. Nobody has to allow it again.",
		},
		{
			Action: "block", Button: "Block " + confirmation(c), Sure: "Block it", CLI: v.command("client", "block", id),
			Stops: tokens + " What has ended does not come back when you unblock it.",
		},
		{Action: "delete", Button: "Delete " + confirmation(c), Sure: "Delete it", CLI: v.command("client", "delete", id), Stops: tokens},
	} {
		danger.Type, danger.Open = confirmation(c), view.Open == danger.Action
		view.Dangers[danger.Action] = view.guard(danger)
	}
	return d.pages.Render(w, status, "app", view)
}

// longest says how long an access token of the project can live.
func longest(p *project.Project) string {
	seconds := max(p.Settings.Lifetimes.AccessToken, p.Settings.Lifetimes.LoneAccessToken)
	for _, r := range p.Resources {
		seconds = max(seconds, r.AccessToken)
	}
	if minutes := seconds / 60; minutes != 1 {
		return strconv.Itoa(minutes) + " minutes"
	}
	return "one minute"
}

// appSummary finds out what a connected app holds and when it was here.
func (d *Dashboard) appSummary(ctx context.Context, v visit, view *appView, c oauth.Client) error {
	issued, err := d.Events.Events(ctx, audit.Query{
		ProjectID: v.project.ID, ClientID: c.ID, Kinds: []audit.Kind{audit.TokenIssued}, Limit: 1,
	})
	if err != nil {
		return err
	}
	for _, e := range issued.Events {
		view.LastTokenAt = e.At // of a grant that was taken back since, too
	}
	grants, err := d.Clients.Grants(ctx, v.project, c.ID, "", grantsPage)
	var rows []oauth.GrantScope
	for _, g := range grants {
		rows = append(rows, g.Scopes...)
		if g.LastUsedAt.After(view.LastTokenAt) {
			view.LastTokenAt = g.LastUsedAt
		}
	}
	view.Scopes, view.Resources = oauth.Allowed(rows)
	return err
}

// appAttempts lists the attempts of a connected app; one may be open.
func (d *Dashboard) appAttempts(r *http.Request, v visit, view *appView, c oauth.Client) (err error) {
	path, code := appPath(v.project, c.ID, tabAttempts), r.URL.Query().Get("code")
	view.CLI = v.command("trace")
	if view.Attempts, err = d.attemptList(r, v, path, c.ID, code, view.Counts); err != nil {
		return err
	}
	for i, row := range view.Attempts.Rows {
		query := r.URL.Query()
		query.Set("code", row.Code)
		view.Attempts.Rows[i].Path = path + "?" + query.Encode()
	}
	if code == "" {
		return nil
	}
	view.CLI = v.command("trace", code)
	view.Trace, _, err = d.trace(r.Context(), v, code)
	if err != nil || view.Trace == nil {
		return err
	}
	if view.Trace.Attempt.ClientID != c.ID { // another one's
		view.Trace = nil
		return nil
	}
	step, refused := view.Trace.Refusal()
	if refused && view.ByHand && len(step.Registered) > 0 && step.Asked == view.Trace.Attempt.RedirectURI {
		view.Trace.Add = appPath(v.project, c.ID, tabAddresses) + "?" + url.Values{"add": {step.Asked}}.Encode()
	}
	return nil
}

// appGrants lists who allows a connected app what.
func (d *Dashboard) appGrants(r *http.Request, v visit, view *appView, c oauth.Client) error {
	ctx := r.Context()
	view.CLI = v.command("client", "grants", c.PublicID())
	grants, err := d.Clients.Grants(ctx, v.project, c.ID, r.URL.Query().Get("after"), grantsPage+1)
	if err != nil {
		return err
	}
	next := ""
	if len(grants) > grantsPage {
		grants = grants[:grantsPage]
		next = grants[grantsPage-1].Grant.ID
	}
	view.Pager = turn(r, next)
	for _, g := range grants {
		row, err := d.holderRow(ctx, v, g)
		if err != nil {
			return err
		}
		view.Grants = append(view.Grants, row)
	}
	return nil
}

// holderRow names the person of a grant.
func (d *Dashboard) holderRow(ctx context.Context, v visit, g oauth.ClientGrant) (holderRow, error) {
	row := holderRow{Grant: g.Grant, LastUsedAt: g.LastUsedAt}
	row.Scopes, row.Resources = oauth.Allowed(g.Scopes)
	var err error
	if v.project.Vertical == project.B2B {
		var m identity.Member
		m, err = d.People.Member(ctx, identity.Organization{ProjectID: v.project.ID, ID: g.Grant.Organization}, g.Grant.Subject)
		row.Person, row.Path = m.Email, organizationPath(v.project, g.Grant.Organization, "members/"+url.PathEscape(g.Grant.Subject))
	} else {
		var u identity.User
		u, err = d.People.User(ctx, v.project.ID, g.Grant.Subject)
		row.Person, row.Path = u.Email, projectPath(v.project, "users/"+url.PathEscape(g.Grant.Subject))
	}
	if errors.Is(err, identity.ErrNotFound) {
		row.Path, err = "", nil
	}
	return row, err
}

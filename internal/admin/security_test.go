package admin_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/web"
)

// markup is a name that would leave its attribute and begin an element.
func markup(name string) string { return name + `" onfocus="x"><svg onload=x>` }

// asMarkup finds markup that was not made text, and addresses that run.
var asMarkup = regexp.MustCompile(`<svg onload|" onfocus="x|(?:href|src|action)="(?:javascript|data):`)

// agent makes a browser call itself by another name.
type agent struct {
	http.RoundTripper
	name string
}

func (a agent) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", a.name)
	return a.RoundTripper.RoundTrip(r)
}

// filled is a desk whose data is markup wherever a text can be chosen, and the
// secrets that were given out on the way there.
type filled struct {
	desk
	shown   []string          // names that pages have to show
	secrets map[string]string // by what they are
}

func (f filled) name(name string) string { return markup("mk-" + name) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fill fills a desk.
func fill(t *testing.T, d desk) filled {
	t.Helper()
	ctx := t.Context()
	f := filled{desk: d, secrets: map[string]string{"project secret": d.Secret}}
	by := func(kind audit.Kind) audit.Event {
		return audit.Event{ProjectID: d.Project.ID, At: d.Clock.Now(), Kind: kind}
	}
	_, err := d.Projects.Set(ctx, d.Project.ID, []project.Change{{Setting: "name", Value: f.name("project")}}, nil)
	must(t, err)
	_, key, err := d.Projects.AddResource(ctx, d.Project, project.Resource{URI: "https://notes.example.test/mcp", Name: f.name("resource")},
		[]project.Scope{{Name: "read:notes", Description: f.name("sentence"), Detail: f.name("detail"), ReadOnly: true}}, true)
	must(t, err)
	f.secrets["resource secret"] = key.Text
	d.Follow(t)
	app, text := d.addApp(t, f.name("client"), oauth.ThirdParty)
	f.secrets["client secret"] = text
	d.AddClient(t, oauth.NewClient{Name: f.name("second"), Type: oauth.ThirdPartyPublic, RedirectURIs: []string{callback + "?a=" + url.QueryEscape(f.name("query"))}})
	d.selfRegistered(t, f.name("self"))
	_, wk, err := project.NewWorkspaceKeys(d.Store, d.Clock.Now).Create(ctx, project.NewKey{Name: f.name("key")})
	must(t, err)
	f.secrets["workspace key"] = wk.Text
	invited, err := identity.NewAdministrators(d.Store, d.Clock.Now).Invite(ctx, "oda@example.test")
	must(t, err)
	f.secrets["one-time link"] = invited.Text
	f.shown = append(f.shown, "project", "resource", "sentence", "detail", "client", "second", "key", "self", "agent", "asked")

	// A person with a strange browser allows something, and an attempt is refused
	// in each of its fields.
	person := d.Browser(t)
	person.Client.Transport = agent{http.DefaultTransport, f.name("agent")}
	request := url.Values{
		"response_type": {"code"}, "client_id": {app.PublicID()}, "redirect_uri": {callback}, "scope": {"read:notes"}, "state": {f.name("state")},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}, "resource": {"https://notes.example.test/mcp"},
	}
	if d.Project.Vertical == project.B2B {
		f.organize(t, by)
	}
	page := person.SignIn(t, person.Authorize(t, request), "ada@example.test")
	code := person.Allow(t, page).Query().Get("code")
	f.secrets["code"] = code
	tokens := d.tokens(t, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "code_verifier": {verifier}, "resource": {"https://notes.example.test/mcp"},
	}, app.PublicID(), text)
	f.secrets["access token"], f.secrets["refresh token"] = tokens.Access, tokens.Refresh
	for name, value := range map[string]string{"client_id": f.name("stranger"), "redirect_uri": "https://" + f.name("asked"), "scope": f.name("asked"), "resource": "https://" + f.name("asked")} {
		bad := maps.Clone(request)
		bad.Set(name, value)
		d.Browser(t).Authorize(t, bad)
	}
	deployment, err := url.Parse(d.Issuer)
	must(t, err)
	for _, b := range []*servertest.Browser{d.b, person} {
		for _, c := range b.Client.Jar.Cookies(deployment) {
			f.secrets["cookie "+c.Name] = c.Value
		}
	}
	f.secrets["password of an administrator"] = servertest.AdministratorPassword
	link, err := identity.NewAdministrators(d.Store, d.Clock.Now).Invite(ctx, "una@example.test")
	must(t, err)
	una := d.Browser(t)
	una.Client.Transport = agent{http.DefaultTransport, f.name("agent")}
	f.secrets["authenticator"] = una.Claim(t, link.Text, "", d.Clock.Now())
	d.b = una // her page shows the strange browser
	f.desk = d
	return f
}

// organize gives a B2B project people and roles.
func (f *filled) organize(t *testing.T, by func(audit.Kind) audit.Event) {
	t.Helper()
	ctx, d := t.Context(), f.desk
	standing, err := d.People.Policy(ctx, d.Project.ID)
	must(t, err)
	_, err = d.People.ApplyPolicy(ctx, d.Project.ID, rbac.Policy{
		Version:   standing.Version,
		Resources: []rbac.Resource{{ID: "note", Description: f.name("kind"), Actions: []string{"read"}}},
		Roles:     []rbac.Role{{ID: "reader", Description: f.name("role"), Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"read"}}}}},
		Scopes:    []rbac.Scope{{Name: "read:notes", Description: f.name("sentence"), Detail: f.name("detail"), ReadOnly: true, Permissions: []rbac.Permission{}}},
	}, by(audit.PolicyApplied))
	must(t, err)
	o, err := d.People.CreateOrganization(ctx, d.Project, identity.Organization{
		Name: f.name("organization"), Slug: "fennel", ExternalID: "mk-external", TrustedMetadata: map[string]any{"a": f.name("trusted")}, Settings: identity.DefaultOrganization(),
	}, by(audit.OrganizationCreated))
	must(t, err)
	_, err = d.People.AddMember(ctx, d.Project, o, identity.Member{
		Email: "ada@example.test", Name: f.name("member"), Roles: []string{"reader"}, Status: identity.Active,
		TrustedMetadata: map[string]any{"a": f.name("of-member")}, UntrustedMetadata: map[string]any{f.name("untrusted"): 1.0},
	}, by(audit.MemberAdded))
	must(t, err)
	must(t, d.People.CreateConnection(ctx, identity.Connection{
		ID: secret.NewID(d.Clock.Now(), "sso-connection", "test"), ProjectID: d.Project.ID, OrganizationID: o.ID, Issuer: "https://idp.example.test/" + f.name("issuer"),
		ClientID: f.name("there"), SealedSecret: []byte("sealed-canary-of-the-connection"), CreatedAt: d.Clock.Now(), UpdatedAt: d.Clock.Now(),
	}, by(audit.SSOCreated)))
	f.secrets["sealed secret of a connection"] = "sealed-canary-of-the-connection"
	f.shown = append(f.shown, "kind", "role", "organization", "trusted", "member", "of-member", "untrusted", "issuer", "there")
	d.Clock.Advance(time.Second)
}

// given is what the token endpoint gives.
type given struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// tokens asks the token endpoint.
func (d desk) tokens(t *testing.T, form url.Values, id, text string) (g given) {
	t.Helper()
	d.Ready(t)
	status, body := d.call(t, http.MethodPost, oauth.PathToken, form, id, text)
	must(t, json.Unmarshal([]byte(body), &g))
	if status != http.StatusOK || g.Access == "" {
		t.Fatalf("token endpoint: %d %s", status, body)
	}
	return g
}

// call sends a form as a program does, with Basic where an id is given.
func (d desk) call(t *testing.T, method, path string, form url.Values, id, text string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, d.Issuer+path, strings.NewReader(form.Encode()))
	must(t, err)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		request.SetBasicAuth(id, text)
	}
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return response.StatusCode, string(body)
}

var dashboardLink = regexp.MustCompile(`(?:href|action)="(/dashboard[^"#]*)`)

// crawl opens every page that links lead to, from the first one on.
func (f filled) crawl(t *testing.T, look func(p servertest.Page)) (paths []string) {
	t.Helper()
	seen, next := map[string]bool{}, []string{"/dashboard", "/dashboard/activity", f.page("settings/issuer"), f.page("attempts")}
	for len(next) > 0 && len(seen) < 600 {
		at := next[0]
		next = next[1:]
		if seen[at] {
			continue
		}
		seen[at] = true
		p := f.b.Get(t, at)
		look(p)
		for _, m := range dashboardLink.FindAllStringSubmatch(p.Body, -1) {
			next = append(next, html.UnescapeString(m[1]))
		}
		if !slices.Contains(paths, p.URL.Path) {
			paths = append(paths, p.URL.Path)
		}
	}
	return paths
}

// Rows: D07, D10. Whatever a name, an address or a question is made of, each page
// shows it as text; and no page shows a secret that is kept.
func TestPagesShowTextAndNoSecrets(t *testing.T) {
	for _, vertical := range []project.Vertical{project.Consumer, project.B2B} {
		each(t, servertest.Config{Vertical: vertical}, func(t *testing.T, d desk) {
			f := fill(t, d)
			hidden := map[string]string{} // what a secret is, by a form of it
			for what, text := range f.secrets {
				for _, form := range forms(text) {
					hidden[form] = what
				}
			}
			var all strings.Builder
			look := func(p servertest.Page) {
				t.Helper()
				if found := asMarkup.FindString(p.Body); found != "" {
					t.Errorf("%s has %s", p.URL, found)
				}
				if p.Status >= http.StatusInternalServerError {
					t.Errorf("%s is %d", p.URL, p.Status)
				}
				for form, what := range hidden {
					if strings.Contains(p.Body, form) {
						t.Errorf("%s shows the %s", p.URL, what)
					}
				}
				all.WriteString(p.Body)
			}
			paths := f.crawl(t, look)
			if want := 30; len(paths) < want {
				t.Errorf("%d pages, want at least %d: %v", len(paths), want, paths)
			}
			text := html.UnescapeString(all.String())
			for _, name := range f.shown {
				if !regexp.MustCompile(`mk-` + name + `\\?"`).MatchString(text) { // in JSON and YAML with a backslash
					t.Errorf("no page shows the text of %s", name)
				}
			}
			if !d.Store.SQLite() { // a question is answered by the same code
				return
			}
			for _, path := range paths {
				for _, query := range f.questions() {
					look(f.b.Get(t, path+"?"+query.Encode()))
				}
			}
			f.press(t, paths, look)
		})
	}
}

// forms are the ways in which a secret could stand on a page, in the log or in a
// row: as it is, its end, and its hash.
func forms(text string) []string {
	all := []string{text}
	if at := strings.LastIndexByte(text, '_'); strings.HasPrefix(text, "pst_") {
		all = append(all, text[at+1+30:])
		kind, _, _ := strings.Cut(strings.TrimPrefix(text, "pst_"), "_")
		if s, ok := secret.Parse(secret.Kind(kind), text); ok {
			all = append(all, hex.EncodeToString(s.Hash[:]), base64.StdEncoding.EncodeToString(s.Hash[:]), base64.RawURLEncoding.EncodeToString(s.Hash[:]))
		}
	}
	return all
}

// questions are addresses that ask for markup, in every field a page knows.
func (f filled) questions() []url.Values {
	query := url.Values{}
	for _, name := range []string{"q", "add", "kind", "person", "client", "object", "since", "until", "refused", "scope", "open", "in", "show", "status", "role", "state", "code", "next"} {
		query.Set(name, f.name("asked"))
	}
	all := []url.Values{query, {"after": {f.name("asked")}, "before": {f.name("asked")}}}
	for _, done := range []string{"add", "block", "delete", "deleted", "drop", "removed", "revoke", "revoke_all"} {
		all = append(all, url.Values{"done": {done}, "about": {f.name("about")}})
	}
	return all
}

var (
	formTag   = regexp.MustCompile(`(?s)<form([^>]*)>(.*?)</form>`)
	fieldTag  = regexp.MustCompile(`<(input|textarea|select|button)\b([^>]*)>`)
	attribute = regexp.MustCompile(`([a-z-]+)="([^"]*)"`)
)

// press sends every form of every page once with each of its buttons, and with
// markup in every field that can be typed into. What is typed to confirm is
// wrong, so that what was made stays.
func (f filled) press(t *testing.T, paths []string, look func(p servertest.Page)) {
	t.Helper()
	pressed := 0
	for _, path := range paths {
		p := f.b.Get(t, path)
		for _, form := range formTag.FindAllStringSubmatch(p.Body, -1) {
			tag := attributesOf(form[1])
			if !strings.EqualFold(tag["method"], "post") || strings.HasSuffix(tag["action"], "/sign-out") || strings.HasPrefix(path, "/dashboard/you") {
				continue
			}
			values, buttons := url.Values{}, []string{""}
			for _, field := range fieldTag.FindAllStringSubmatch(form[2], -1) {
				a := attributesOf(field[2])
				switch {
				case a["name"] == "":
				case field[1] == "button":
					buttons = append(buttons, a["value"])
				case field[1] == "input" && slices.Contains([]string{"hidden", "radio", "checkbox"}, a["type"]):
					values.Set(a["name"], a["value"])
				case field[1] == "select": // the browser would send one of its own
				default:
					values.Set(a["name"], f.name("typed"))
				}
			}
			if values.Get("csrf") == "" {
				t.Errorf("a form of %s has no token", path)
			}
			for _, button := range buttons {
				if slices.Contains([]string{"rotate", "take_back", "sign_out", "end_session", "revoke"}, button) {
					continue // done without a word typed
				}
				if button != "" {
					values.Set("action", button)
				}
				sent := f.b.Post(t, tag["action"], values)
				if look(sent); sent.Status == http.StatusForbidden {
					t.Errorf("a form of %s is refused on its own page", path)
				}
				pressed++
			}
		}
	}
	if pressed < 15 {
		t.Errorf("%d forms were sent: the pages have more", pressed)
	}
}

func attributesOf(text string) map[string]string {
	all := map[string]string{}
	for _, m := range attribute.FindAllStringSubmatch(text, -1) {
		all[m[1]] = html.UnescapeString(m[2])
	}
	return all
}

// everything is what the trail, the attempts and the log hold, and on PostgreSQL
// every row of every table.
func (d desk) everything(t *testing.T, postgres bool) map[string]string {
	t.Helper()
	found := map[string]string{"the log": d.Log.String()}
	for what, id := range map[string]string{"the trail": d.Project.ID, "the deployment's trail": ""} {
		events, err := d.Store.EventsAfter(t.Context(), id, time.Time{}, "", 10_000)
		must(t, err)
		text, err := json.Marshal(events)
		must(t, err)
		found[what] = string(text)
	}
	attempts, err := d.Store.Attempts(t.Context(), d.Project.ID, audit.AttemptFilter{}, "", 1000)
	must(t, err)
	text, err := json.Marshal(attempts)
	must(t, err)
	found["the attempts"] = string(text)
	if !postgres {
		return found
	}
	db := d.SQL(t)
	rows, err := db.QueryContext(t.Context(), "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
	must(t, err)
	defer func() { _ = rows.Close() }()
	var tables []string
	for rows.Next() {
		var name string
		must(t, rows.Scan(&name))
		tables = append(tables, name)
	}
	must(t, rows.Err())
	for _, table := range tables {
		var text string
		must(t, db.QueryRowContext(t.Context(), fmt.Sprintf(`SELECT coalesce(json_agg(x)::text, '') FROM %q x`, table)).Scan(&text))
		found["the table "+table] = text
	}
	if len(tables) < 20 {
		t.Errorf("%d tables", len(tables))
	}
	return found
}

var anySecret = regexp.MustCompile(`pst_[a-z]+_[0-9A-Za-z]{70}`)

// makes presses a button that makes a secret, and keeps what the page shows.
func (f filled) makes(t *testing.T, what string, p servertest.Page) {
	t.Helper()
	text := anySecret.FindString(p.Body)
	if p.Status != http.StatusOK || text == "" {
		t.Fatalf("%s: %d, no secret at %s\n%s", what, p.Status, p.URL, p.Text())
	}
	f.secrets[what] = text
}

// Rows: K06, D11, D17. A whole life with known secrets: none of them is in the log, in
// the trail, in an attempt, on a page or as it is in any row, also where it was
// sent to the wrong place. And each event says who, what, from where and why.
//
// Proves: RFC6749-10.3-b
func TestNoSecretIsKeptOrLogged(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		s := servertest.New(t, c)
		f := fill(t, desk{s, s.Administrator(t)})
		f.use(t)
		before := f.everything(t, c.Postgres)
		if !c.Postgres {
			before["the files"] = s.Kept(t)
		}
		f.mistake(t)
		found := f.everything(t, c.Postgres)
		delete(found, "the table flow") // a state comes back as it was sent, a secret in the wrong place too
		for place, text := range before {
			found["before the mistakes, "+place] = text
		}
		f.crawl(t, func(p servertest.Page) { found["the page "+p.URL.String()] = p.Body })
		export := f.b.Get(t, f.page("activity/export"))
		if found["the export"] = export.Body; export.Status != http.StatusOK {
			t.Errorf("export: %d", export.Status)
		}
		for place, text := range found {
			for what, value := range f.secrets {
				for _, form := range forms(value)[:min(2, len(forms(value)))] { // a row may have the hash
					if at := strings.Index(text, form); at >= 0 {
						t.Errorf("%s has the %s: …%q", place, what, text[max(0, at-120):at])
					}
					if strings.Contains(text, hex.EncodeToString([]byte(form))) { // a column of bytes, as PostgreSQL writes it
						t.Errorf("%s has the %s, in hexadecimal", place, what)
					}
				}
			}
		}
		f.wellFormed(t, f.Project.ID, "")
	})
}

// client finds a client by its name.
func (f filled) client(t *testing.T, name string) oauth.Client {
	t.Helper()
	found, err := f.Clients.FindClients(t.Context(), f.Project, oauth.ClientQuery{Text: name, Limit: 1})
	if err != nil || len(found) != 1 {
		t.Fatalf("client %s: %v, %v", name, found, err)
	}
	return found[0]
}

const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk" // RFC 7636 Appendix B

// use does what has secrets in it, as it should be done.
func (f filled) use(t *testing.T) {
	t.Helper()
	f.call(t, http.MethodPost, oauth.PathToken, url.Values{"grant_type": {"authorization_code"}, "code": {f.secrets["code"]}, "redirect_uri": {callback}, "code_verifier": {verifier}},
		f.client(t, "mk-client").PublicID(), f.secrets["client secret"])
	f.makes(t, "secret of a client made on a page", f.send(t, f.b.Get(t, f.page("apps")), "action", "create", "name", "Robot", "type", "third_party", "addresses", callback))
	robot := f.client(t, "robot")
	f.makes(t, "rotated client secret", f.send(t, f.b.Get(t, f.page("apps/"+robot.ID+"/settings")), "action", "rotate", "confirm", "Robot"))
	f.makes(t, "workspace key made on a page", f.send(t, f.b.Get(t, f.page("keys")), "action", "create", "name", "CI"))
	f.makes(t, "rotated project secret", f.send(t, f.b.Get(t, f.page("keys")), "action", "secret", "confirm", web.ClientText(f.name("project"))))
	f.makes(t, "secret of another project", f.send(t, f.b.Get(t, "/dashboard/projects"), "name", "Elsewhere", "issuer", strings.Replace(f.Issuer, "localhost", "127.0.0.1", 1)))
	f.Follow(t)
	f.secrets["second authenticator"] = f.send(t, f.b.Get(t, "/dashboard/you"), "at", "/dashboard/you/add").TOTPSecret(t)

	// A person allows the client something, and it uses what it got.
	b := f.Browser(t)
	page := b.SignIn(t, b.Authorize(t, f.request(robot)), "bea@example.test")
	code := b.Allow(t, page).Query().Get("code")
	f.secrets["code of a person"], f.secrets["code verifier"] = code, verifier
	id, text := robot.PublicID(), f.secrets["rotated client secret"]
	first := f.tokens(t, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "code_verifier": {verifier}, "resource": {"https://notes.example.test/mcp"}}, id, text)
	f.secrets["first access token"], f.secrets["first refresh token"] = first.Access, first.Refresh
	second := f.tokens(t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.Refresh}}, id, text)
	f.secrets["second access token"], f.secrets["second refresh token"] = second.Access, second.Refresh
	if status, body := f.call(t, http.MethodPost, oauth.PathIntrospect, url.Values{"token": {second.Access}}, id, text); status != http.StatusOK || !strings.Contains(body, `"active":true`) {
		t.Errorf("introspection: %d %s", status, body)
	}
	f.Clock.Advance(10 * time.Minute) // past the window of repeats
	f.call(t, http.MethodPost, oauth.PathToken, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.Refresh}}, id, text)
	f.call(t, http.MethodPost, oauth.PathRevoke, url.Values{"token": {second.Refresh}}, id, text)
	f.secrets["a wrong password"] = "canary of a wrong password"
	signIn(t, f.Browser(t), "oda@example.test", f.secrets["a wrong password"], "000000")
	signIn(t, f.Browser(t), "oda@example.test", servertest.AdministratorPassword, f.secrets["a wrong password"])
	open(t, f.Browser(t), f.secrets["one-time link"])
	open(t, f.Browser(t), f.secrets["one-time link"]+"0")
}

// request is an authorization request of a client.
func (f filled) request(c oauth.Client) url.Values {
	return url.Values{
		"response_type": {"code"}, "client_id": {c.PublicID()}, "redirect_uri": {callback}, "scope": {"read:notes"}, "state": {"s"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}, "resource": {"https://notes.example.test/mcp"},
	}
}

// mistake sends each secret to places where it does not belong.
func (f filled) mistake(t *testing.T) {
	t.Helper()
	robot := f.client(t, "robot")
	own := map[string]string{} // one of each kind
	for _, text := range f.secrets {
		if kind, _, found := strings.Cut(strings.TrimPrefix(text, "pst_"), "_"); found && strings.HasPrefix(text, "pst_") || strings.HasPrefix(text, "eyJ") {
			own[kind[:min(3, len(kind))]] = text
		}
	}
	const policy = "/v1/projects/{project}/policy"
	response, err := http.Post(f.Issuer+oauth.PathRegister, "application/json", strings.NewReader(`{"redirect_uris": ["javascript:alert(1)"]}`))
	must(t, err)
	_ = response.Body.Close() // what the trail says of it counts
	for _, text := range own {
		for _, path := range []string{oauth.PathToken, oauth.PathIntrospect, oauth.PathRevoke} {
			form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"x"}, "token": {"x"}}
			f.call(t, http.MethodPost, path, form, text, "x")
			form.Set("client_id", text)
			f.call(t, http.MethodPost, path, form, "", "")
			f.call(t, http.MethodPost, path+"?client_secret="+text, form, "", "")
			f.call(t, http.MethodGet, path+"/"+text, nil, "", "")
		}
		for _, form := range []url.Values{
			{"grant_type": {text}},
			{"grant_type": {"refresh_token"}, "refresh_token": {text, text}},
			{"grant_type": {"refresh_token"}, "refresh_token": {f.secrets["refresh token"]}, "scope": {text}},
			{"grant_type": {"refresh_token"}, "refresh_token": {f.secrets["refresh token"]}, "resource": {"https://x.example.test/" + text}},
			{"grant_type": {"authorization_code"}, "code": {text}, "redirect_uri": {"https://x.example.test/" + text}, "code_verifier": {text}},
		} {
			f.call(t, http.MethodPost, oauth.PathToken, form, robot.PublicID(), f.secrets["rotated client secret"])
		}
		f.call(t, http.MethodGet, strings.ReplaceAll(policy, "{project}", f.Project.ID), nil, text, "x")
		f.call(t, http.MethodGet, strings.ReplaceAll(policy, "{project}", f.Project.ID)+"?key="+text, nil, "", "")
		f.call(t, http.MethodGet, oauth.PathUserinfo+"?access_token="+text, nil, "", "")
		bearer, err := http.NewRequestWithContext(t.Context(), http.MethodGet, f.Issuer+oauth.PathUserinfo, nil)
		must(t, err)
		bearer.Header.Set("Authorization", "Bearer "+text)
		response, err := http.DefaultClient.Do(bearer)
		must(t, err)
		_ = response.Body.Close() // what the trail says of it counts
		f.b.Post(t, f.page("keys"), url.Values{"csrf": {text}, "name": {text}})
		for _, path := range []string{"/", "/v1/", "/dashboard/", "/dashboard/setup/", "/.well-known/", "/flow/", "/nothing/" + strings.Repeat("n", 70) + "/"} {
			f.b.Get(t, path+text)
		}
		for _, name := range []string{"client_id", "redirect_uri", "scope", "resource", "state", "login_hint"} {
			request := f.request(robot)
			request.Set(name, text)
			if name == "redirect_uri" || name == "resource" {
				request.Set(name, "https://x.example.test/"+text)
			}
			f.Browser(t).Get(t, oauth.PathAuthorize+"?"+request.Encode())
		}
		other := f.Browser(t)
		other.Client.Transport = agent{http.DefaultTransport, "Browser " + text}
		other.Get(t, "/nothing")
		for _, path := range []string{"activity", "attempts", "apps", "users", "resources"} {
			f.b.Get(t, f.page(path)+"?"+url.Values{"q": {text}, "client": {text}, "object": {text}, "person": {text}}.Encode())
		}
		f.b.Get(t, f.page("attempts/"+text))
		signIn(t, f.Browser(t), text, text, text)
		f.Clock.Advance(time.Minute)
	}
}

// wellFormed asserts of every event that it says what an event has to.
func (f filled) wellFormed(t *testing.T, projects ...string) {
	t.Helper()
	known, seen := map[audit.Kind]bool{}, map[audit.Kind]bool{}
	for _, g := range audit.Groups() {
		for _, k := range g.Kinds() {
			known[k] = true
		}
	}
	for _, id := range projects {
		events, err := f.Store.EventsAfter(t.Context(), id, time.Time{}, "", 10_000)
		must(t, err)
		for _, e := range events {
			seen[e.Kind] = true
			kind, _, _ := strings.Cut(string(e.Kind), ".")
			switch {
			case !known[e.Kind]:
				t.Errorf("%s is no kind", e.Kind)
			case e.At.IsZero() || e.ProjectID != id:
				t.Errorf("%s: at %v in project %q", e.Kind, e.At, e.ProjectID)
			case e.Address != "" && e.TraceID == "":
				t.Errorf("%s comes from %s without the code of its request", e.Kind, e.Address)
			case e.Refused && e.Reason == "":
				t.Errorf("%s is refused without a reason", e.Kind)
			case e.Refused != strings.HasSuffix(string(e.Kind), "refused") && e.Kind != audit.CodeReused && e.Kind != audit.RefreshReused:
				t.Errorf("%s: refused is %v", e.Kind, e.Refused)
			case kind == "token" && e.ClientID == "", kind == "grant" && (e.ClientID == "" || e.Subject == ""):
				t.Errorf("%s does not say of which client: %+v", e.Kind, e)
			case !e.Refused && e.Actor == "" && e.Subject == "" && kind != "signin" && e.Kind != audit.ClientRegistered && e.Kind != audit.KeyCreated:
				t.Errorf("%s does not say who: %+v", e.Kind, e)
			}
		}
	}
	for _, k := range []audit.Kind{
		audit.ProjectCreated, audit.ProjectChanged, audit.ProjectRotated, audit.ResourceAdded, audit.KeyCreated, audit.ClientCreated, audit.ClientRegistered, audit.ClientRotated, audit.ClientRefused, audit.RegisterRefused,
		audit.CodeSent, audit.SignedIn, audit.UserCreated, audit.AuthorizeRefused, audit.GrantAllowed, audit.TokenIssued, audit.TokenRefreshed, audit.TokenRefused, audit.RequestRefused, audit.UserinfoRefused, audit.CodeReused, audit.RefreshReused,
		audit.WorkspaceKeyCreated, audit.WorkspaceKeyRefused, audit.AdministratorInvited, audit.AdministratorCreated, audit.AdministratorRefused, audit.FormRefused,
	} {
		if !seen[k] {
			t.Errorf("no event %s", k)
		}
	}
}

// Row: D09. A form sets what its page shows, whatever else is in it.
func TestFormsSetWhatTheyShow(t *testing.T) {
	more := []string{
		"id", "x", "project_id", "x", "organization_id", "x", "org_id", "x", "created_at", "1", "client_id", "x", "client_secret", "x", "secret_hash", "x", "is_admin", "true", "email_verified", "true",
		"creation", "document", "creation_mode", "document", "url", "https://client.example.test/x", "blocked", "true", "environment", "live", "status", "deleted", "email", "eve@example.test", "last_sign_in_at", "1", "active", "", "public_token", "x",
	}
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		shows(t, d.send(t, d.b.Get(t, d.page("apps")), append([]string{"action", "create", "name", "Robot", "type", "third_party_public", "addresses", callback}, more...)...), http.StatusOK, "Registered.")
		found, err := d.Clients.FindClients(t.Context(), d.Project, oauth.ClientQuery{Text: "robot", Limit: 1})
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		if c := found[0]; len(c.ID) < 20 || c.ProjectID != d.Project.ID || c.Creation != oauth.Preregistered || c.URL != "" || c.Blocked || c.BypassConsent || !c.CreatedAt.Equal(d.Clock.Now()) {
			t.Errorf("a client is %+v", c)
		}
		before := d.Project
		shows(t, d.send(t, d.b.Get(t, d.page("settings")), append([]string{"action", "look", "name", "Other", "issuer", "https://evil.example.test", "dynamic-registration", "", "unregistered-resources", "on", "access-token-lifetime", "1d"}, more...)...), http.StatusOK)
		d.Follow(t)
		if p := d.Project; p.Name != "Other" || p.ID != before.ID || p.Issuer != before.Issuer || p.PublicToken != before.PublicToken || p.Environment != before.Environment ||
			!p.Settings.DynamicRegistration || p.Settings.UnregisteredResources || p.Settings.Lifetimes != before.Settings.Lifetimes {
			t.Errorf("a project is %+v", p)
		}
		body := `{"client_name": "Self", "redirect_uris": ["http://localhost/cb"], "token_endpoint_auth_method": "none", "client_id": "x", "client_id_issued_at": 1, "type": "first_party",
			"client_type": "first_party", "creation": "preregistered", "bypass_consent": true, "blocked": false, "is_admin": true, "org_id": "x", "project_id": "x"}`
		response, err := http.Post(d.Issuer+oauth.PathRegister, "application/json", strings.NewReader(body))
		must(t, err)
		_ = response.Body.Close() // what was kept counts
		if response.StatusCode == http.StatusCreated {
			found, err := d.Clients.FindClients(t.Context(), d.Project, oauth.ClientQuery{Text: "self", Limit: 1})
			must(t, err)
			if c := found[0]; c.Creation != oauth.Dynamic || c.Type != oauth.ThirdPartyPublic || c.BypassConsent || c.Trusted() || len(c.ID) < 20 || c.ProjectID != d.Project.ID {
				t.Errorf("a client that registered itself is %+v", c)
			}
		} else if response.StatusCode != http.StatusBadRequest {
			t.Errorf("registration: %d", response.StatusCode)
		}
	})
	each(t, servertest.Config{Vertical: project.B2B}, func(t *testing.T, d desk) {
		o, m := d.fennel(t)
		at := d.page("organizations/" + o.ID)
		shows(t, d.send(t, d.b.Get(t, at), append([]string{"at", at, "action", "info", "name", "Fennel", "slug", "fennel", "trusted", `{"plan": "gold"}`, "roles", "x", "provisioning", "on"}, more...)...), http.StatusOK, "Saved.")
		after, err := d.People.Organization(t.Context(), d.Project.ID, o.ID)
		must(t, err)
		if !after.Active || after.ProjectID != o.ProjectID || len(after.TrustedMetadata) != 0 || len(after.Roles) != 0 || after.Settings.Provisioning != o.Settings.Provisioning || !after.CreatedAt.Equal(o.CreatedAt) {
			t.Errorf("an organization is %+v", after)
		}
		at += "/members/" + m.ID
		shows(t, d.send(t, d.b.Get(t, at), append([]string{"at", at, "action", "save", "name", "Ada", "role", "admin", "trusted", "{}", "untrusted", "{}"}, more...)...), http.StatusOK, "Saved.")
		now, err := d.People.Member(t.Context(), o, m.ID)
		must(t, err)
		if now.Email != m.Email || now.Status != m.Status || now.OrganizationID != o.ID || now.ProjectID != m.ProjectID || !now.CreatedAt.Equal(m.CreatedAt) || !now.LastSignInAt.Equal(m.LastSignInAt) || now.Name != "Ada" {
			t.Errorf("a member is %+v", now)
		}
	})
}

package server_test

import (
	"bytes"
	"image"
	"image/png"
	"mime/multipart"
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
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
)

// bureau is a deployment with something behind every address of its dashboard.
type bureau struct {
	*servertest.Server
	places *strings.Replacer // of what a pattern leaves open; B2B pages are of another project
	b2b    *strings.Replacer
	edda   *servertest.Browser // an administrator
}

const dashboardCookie = "postern-dashboard" // as package admin calls it on plain http

func newBureau(t *testing.T, c servertest.Config) bureau {
	t.Helper()
	s := servertest.New(t, c)
	ctx, e := t.Context(), func(kind audit.Kind) audit.Event { return audit.Event{At: s.Clock.Now(), Kind: kind} }
	r := s.AddResource(t, "https://notes.example.test/mcp", project.Scope{Name: "read:notes", Description: "Read your notes"})
	app, _ := s.AddClient(t, oauth.NewClient{Name: "Robot", Type: oauth.ThirdParty, RedirectURIs: []string{"https://client.example.test/cb"}})
	zoe := s.Browser(t)
	zoe.SignIn(t, zoe.Get(t, "/login"), "zoe@example.test")
	users, err := s.People.Users(ctx, s.Project.ID, "zoe@", "", 1)
	if err != nil || len(users) != 1 {
		t.Fatal(users, err)
	}
	refused := ask(t, s, "GET", oauth.PathAuthorize+"?client_id="+app.ID+"&redirect_uri=https://other.example.test/", nil)
	u, err := url.Parse(s.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := s.Projects.Create(ctx, project.New{Name: "Goals", Issuer: "http://127.0.0.2:" + u.Port(), Vertical: project.B2B, Environment: project.Test})
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.People.CreateOrganization(ctx, other, identity.Organization{Name: "Fennel", Slug: "fennel", Settings: identity.DefaultOrganization()}, e(audit.OrganizationCreated))
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.People.AddMember(ctx, other, o, identity.Member{Email: "ada@example.test", Roles: []string{}, Status: identity.Pending}, e(audit.MemberAdded))
	if err != nil {
		t.Fatal(err)
	}
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	if err := s.Projects.SetLogo(ctx, s.Project, picture.Bytes()); err != nil {
		t.Fatal(err)
	}
	s.Follow(t)
	s.Ready(t)
	return bureau{
		Server: s, edda: s.Administrator(t),
		places: strings.NewReplacer("{project}", s.Project.ID, "{app}", app.ID, "{tab}", "settings", "{resource}", r.ID, "{page}", "settings", "{user}", users[0].ID, "{digest}", s.Project.Logo, "{code}", refused.header.Get("X-Request-Id")),
		b2b:    strings.NewReplacer("{project}", other.ID, "{organization}", o.ID, "{member}", m.ID),
	}
}

// address is one that a pattern stands for.
func (b bureau) address(r server.Route) string {
	if strings.Contains(r.Path, "/organizations") {
		return b.b2b.Replace(r.Path)
	}
	return b.places.Replace(r.Path)
}

// cookie is the header with the cookies of a browser.
func (b bureau) cookie(t *testing.T, of *servertest.Browser) string {
	t.Helper()
	u, err := url.Parse(b.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, c := range of.Client.Jar.Cookies(u) {
		all = append(all, c.Name+"="+c.Value)
	}
	return strings.Join(all, "; ")
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// csrf is the token in the forms of an administrator.
func (b bureau) csrf(t *testing.T, of *servertest.Browser) string {
	t.Helper()
	p := of.Get(t, "/dashboard/you")
	m := csrfField.FindStringSubmatch(p.Body)
	if m == nil {
		t.Fatalf("%s (%d) has no form", p.URL, p.Status)
	}
	return m[1]
}

// newest is the id of the newest event of each trail, but for forms that were
// refused: those did nothing.
func (b bureau) newest(t *testing.T) (ids []string) {
	t.Helper()
	projects, err := b.Projects.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range append(projects, &project.Project{}) {
		page, err := b.Store.Events(t.Context(), audit.Query{ProjectID: p.ID, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		done := slices.DeleteFunc(page.Events, func(e audit.Event) bool { return e.Kind == audit.FormRefused })
		if len(done) > 0 {
			ids = append(ids, done[0].ID)
		}
	}
	return ids
}

// ofAdministrators are the routes that nobody else may use.
func (b bureau) ofAdministrators(t *testing.T, method string) (routes []server.Route) {
	t.Helper()
	for _, r := range b.DashboardRoutes() {
		if r.Who == server.Administrator && r.Method == method {
			routes = append(routes, r)
		}
	}
	if len(routes) < 20 {
		t.Fatalf("%d routes: the list is not whole", len(routes))
	}
	return routes
}

const (
	formType = "application/x-www-form-urlencoded"
	door     = "/dashboard/sign-in?"
)

// Rows: D06, D14. Whoever has no session of an administrator gets to the door,
// by whatever spelling of an address and with whatever other cookie.
func TestDashboardIsForAdministrators(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		b := newBureau(t, c)
		person := b.Browser(t)
		person.SignIn(t, person.Get(t, "/login"), "bea@example.test")
		hosted := b.cookie(t, person)
		m := regexp.MustCompile(`(\S+-session)=([^;]+)`).FindStringSubmatch(hosted)
		if m == nil {
			t.Fatalf("no session in %q", hosted)
		}
		strangers := map[string]string{
			"nobody": "", "a person": hosted, "a person's session under the other name": dashboardCookie + "=" + m[2], "nonsense": dashboardCookie + "=pst_as_0",
		}
		before := b.newest(t)
		for _, method := range []string{"GET", "POST"} {
			for _, r := range b.ofAdministrators(t, method) {
				for name, cookie := range strangers {
					got := ask(t, b.Server, method, b.address(r), strings.NewReader("csrf=x"), "Content-Type", formType, "Origin", b.Issuer, "Cookie", cookie)
					if got.status != http.StatusSeeOther || !strings.HasPrefix(got.header.Get("Location"), door) {
						t.Errorf("%s %s: %s gets %d %s", method, r.Path, name, got.status, got.header.Get("Location"))
					}
				}
			}
		}
		for _, r := range b.ofAdministrators(t, "GET") {
			path := b.address(r)
			for _, spelled := range []string{
				"/" + path, "/x/.." + path, path + "/", path + "/.", path + "//", path + ";a=b", path + "%3f", path + "%23", path + "%00",
				strings.Replace(path, "/dashboard", "/dashboard/..;/dashboard", 1), strings.Replace(path, "/dashboard", "/%64ashboard", 1),
				strings.Replace(path, "/dashboard", "/DASHBOARD", 1), strings.Replace(path, "dashboard/", "dashboard%2f", 1), strings.Replace(path, "/dashboard", "/connected-apps/../dashboard", 1),
			} {
				got := ask(t, b.Server, "GET", b.Issuer+spelled, nil)
				to := got.header.Get("Location")
				if got.status == http.StatusOK || got.status >= http.StatusInternalServerError || strings.HasPrefix(to, "//") || strings.Contains(to, "://") && !strings.HasPrefix(to, b.Issuer) {
					t.Errorf("%s gets a stranger %d %s", spelled, got.status, to)
				}
			}
			got := ask(t, b.Server, "GET", path, nil, "Cookie", b.cookie(t, b.edda), "Origin", "https://evil.example.test")
			if got.status != http.StatusOK && got.status != http.StatusSeeOther {
				t.Errorf("%s is %d for an administrator: the test has no right address for it", r.Path, got.status)
			}
			for name := range got.header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s answers another origin with %s", r.Path, name)
				}
			}
			keep, policy := "no-store", regexp.MustCompile(`; script-src 'self'; `)
			if strings.HasSuffix(r.Path, "/logo/{digest}") { // a picture, not a page
				keep, policy = "private, max-age=31536000, immutable", regexp.MustCompile(`^default-src 'none'$`)
			}
			for name, want := range map[string]string{"Cross-Origin-Opener-Policy": "same-origin", "Cross-Origin-Resource-Policy": "same-origin", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff", "Cache-Control": keep, "Referrer-Policy": "no-referrer"} {
				if got.header.Get(name) != want {
					t.Errorf("%s has %s %q, want %q", r.Path, name, got.header.Get(name), want)
				}
			}
			if !policy.MatchString(got.header.Get("Content-Security-Policy")) {
				t.Errorf("%s has the policy %q", r.Path, got.header.Get("Content-Security-Policy"))
			}
			// A method that a header names is not the method.
			form := "?csrf=" + b.csrf(t, b.edda) + "&action=secret"
			for _, name := range []string{"X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"} {
				if got := ask(t, b.Server, "GET", path+form, nil, "Cookie", b.cookie(t, b.edda), name, "POST"); got.status >= http.StatusBadRequest {
					t.Errorf("GET %s with %s: %d", r.Path, name, got.status)
				}
			}
		}
		if after := b.newest(t); !equal(before, after) {
			t.Errorf("something was done: %v, before %v", after, before)
		}
		for _, path := range []string{"/policy", "/rbac_policy"} {
			for _, method := range []string{"OPTIONS", "GET", "PUT"} {
				got := ask(t, b.Server, method, "/v1/projects/"+b.Project.ID+path, nil, "Origin", "https://evil.example.test", "Access-Control-Request-Method", "PUT")
				for name := range got.header {
					if strings.HasPrefix(name, "Access-Control-") {
						t.Errorf("%s of a project's %s answers another origin with %s", method, path, name)
					}
				}
			}
		}
		// And the other way: a session of the dashboard is no person's.
		cookie := b.cookie(t, b.edda)
		_, value, _ := strings.Cut(cookie, "=")
		for cookie, want := range map[string]int{hosted: http.StatusOK, cookie: http.StatusSeeOther, m[1] + "=" + value: http.StatusSeeOther} {
			if got := ask(t, b.Server, "GET", "/connected-apps", nil, "Cookie", cookie); got.status != want {
				t.Errorf("a person's page is %d, want %d", got.status, want)
			}
		}
	})
}

func equal(a, b []string) bool { return strings.Join(a, " ") == strings.Join(b, " ") }

// Every form is refused that another site sends, or that is not of a page of
// this session.
func TestDashboardTakesItsOwnForms(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		b := newBureau(t, c)
		cookie, right := b.cookie(t, b.edda), b.csrf(t, b.edda)
		another := b.csrf(t, b.Administrator(t))
		before := b.newest(t)
		forms := b.ofAdministrators(t, "POST")
		send := func(r server.Route, csrf string, headers ...string) int {
			body := url.Values{"csrf": {csrf}, "action": {"none"}}.Encode()
			return ask(t, b.Server, "POST", b.address(r), strings.NewReader(body), append([]string{"Content-Type", formType, "Cookie", cookie}, headers...)...).status
		}
		for _, r := range forms {
			for name, token := range map[string]string{"no": "", "a wrong": "x", "a longer": right + "A", "another administrator's": another} {
				if status := send(r, token, "Origin", b.Issuer, "Sec-Fetch-Site", "same-origin"); status != http.StatusForbidden {
					t.Errorf("POST %s with %s token: %d, want 403", r.Path, name, status)
				}
			}
			var upload bytes.Buffer
			w := multipart.NewWriter(&upload)
			_ = w.WriteField("csrf", "x") // into memory
			_ = w.Close()
			got := ask(t, b.Server, "POST", b.address(r), &upload, "Content-Type", w.FormDataContentType(), "Cookie", cookie, "Origin", b.Issuer)
			if got.status != http.StatusForbidden && got.status != http.StatusUnsupportedMediaType && got.status != http.StatusBadRequest {
				t.Errorf("POST %s with a file and a wrong token: %d", r.Path, got.status)
			}
		}
		for _, r := range b.DashboardRoutes() { // those of the door too
			if r.Method != "POST" {
				continue
			}
			for name, headers := range map[string][]string{
				"of another origin": {"Origin", "https://evil.example.test"},
				"of no origin":      {"Origin", "null"},
				"of another port":   {"Origin", "http://localhost:1"},
				"of another scheme": {"Origin", "https" + strings.TrimPrefix(b.Issuer, "http"), "Sec-Fetch-Site", "cross-site"},
				"of another site":   {"Sec-Fetch-Site", "cross-site"},
				"of the same site":  {"Sec-Fetch-Site", "same-site", "Origin", b.Issuer},
			} {
				if status := send(r, right, headers...); status != http.StatusForbidden {
					t.Errorf("POST %s %s: %d, want 403", r.Path, name, status)
				}
			}
		}
		if after := b.newest(t); !equal(before, after) {
			t.Errorf("something was done: %v, before %v", after, before)
		}
		// The same forms with nothing wrong are taken: what was refused above was
		// refused for what was wrong with it. Signing out comes last.
		for _, out := range []bool{false, true} {
			for _, r := range forms {
				if out == strings.HasSuffix(r.Path, "/sign-out") {
					if status := send(r, right, "Origin", b.Issuer, "Sec-Fetch-Site", "same-origin"); status == http.StatusForbidden || status >= http.StatusInternalServerError {
						t.Errorf("POST %s with nothing wrong: %d", r.Path, status)
					}
				}
			}
		}
	})
}

// A session ends at once with its administrator, with a reset, and when it is
// old; and it is of one deployment.
func TestDashboardSessionsEnd(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		s := servertest.New(t, c)
		in := func(b *servertest.Browser) bool {
			t.Helper()
			return b.Get(t, "/dashboard/you").URL.Path == "/dashboard/you"
		}
		administrators := identity.NewAdministrators(s.Store, s.Clock.Now)
		first, second, third := s.Administrator(t), s.Administrator(t), s.Administrator(t)
		all, err := administrators.All(t.Context())
		if err != nil || len(all) != 3 {
			t.Fatal(all, err)
		}
		for i, b := range []*servertest.Browser{first, second, third} {
			if !in(b) {
				t.Fatalf("administrator %d is not signed in", i)
			}
		}
		// Which of them a browser is stands on its page.
		who := func(b *servertest.Browser) identity.Administrator {
			t.Helper()
			text := b.Get(t, "/dashboard/you").Body
			for _, a := range all {
				if strings.Contains(text, ">"+a.Email+"<") {
					return a
				}
			}
			t.Fatal("a page without its administrator")
			return identity.Administrator{}
		}
		removed, reset := who(second), who(third)
		if err := administrators.Remove(t.Context(), removed, false); err != nil {
			t.Fatal(err)
		}
		if in(second) {
			t.Error("somebody who was removed is still in")
		}
		if _, err := administrators.Reset(t.Context(), reset); err != nil {
			t.Fatal(err)
		}
		if in(third) {
			t.Error("a session outlives the reset of its administrator")
		}
		if !in(first) {
			t.Error("another one's session ended too")
		}

		// A cookie with the id of a session and other random bits opens nothing.
		now := s.Clock.Now()
		guess, right := secret.New(secret.AdminSession, now), secret.New(secret.AdminSession, now)
		holder := identity.Administrator{ID: "administrator-max", Email: "max@example.test", CreatedAt: now}
		link, err := administrators.Invite(t.Context(), holder.Email)
		if err != nil {
			t.Fatal(err)
		}
		session := identity.AdministratorSession{
			ID: guess.ID, AdministratorID: holder.ID, SecretHash: right.Hash[:], CreatedAt: now, LastSeenAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour),
		}
		proof := identity.Proof{Passkey: &identity.Passkey{ID: "key", AdministratorID: holder.ID, Name: "Key", Credential: "{}", CreatedAt: now}}
		if err := s.Store.AcceptAdministratorLink(t.Context(), link.ID, holder, proof, session, audit.Event{At: now, Kind: audit.AdministratorCreated}); err != nil {
			t.Fatal(err)
		}
		if got := ask(t, s, "GET", "/dashboard/you", nil, "Cookie", dashboardCookie+"="+guess.Text); got.status != http.StatusSeeOther {
			t.Errorf("a session whose secret is another: %d", got.status)
		}

		elsewhere := servertest.New(t, c)
		elsewhere.Administrator(t)
		b := bureau{Server: s}
		if got := ask(t, elsewhere, "GET", "/dashboard/you", nil, "Cookie", b.cookie(t, first)); got.status != http.StatusSeeOther {
			t.Errorf("a session of another deployment: %d", got.status)
		}

		s.Clock.Advance(15 * time.Minute)
		if in(first) {
			t.Error("a session outlives an idle quarter of an hour")
		}
		busy := s.Administrator(t)
		for range 8*6 - 1 {
			s.Clock.Advance(10 * time.Minute)
			if !in(busy) {
				t.Fatal("a session that is used ended")
			}
		}
		s.Clock.Advance(10 * time.Minute)
		if in(busy) {
			t.Error("a session outlives eight hours")
		}
	})
}

// Row: D05. What a program says of itself to its developers is on no address.
func TestNothingToProfileInPublic(t *testing.T) {
	b := newBureau(t, servertest.Config{})
	cookie := b.cookie(t, b.edda)
	for _, path := range []string{
		"/debug", "/debug/", "/debug/pprof", "/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/profile", "/debug/pprof/cmdline", "/debug/vars", "/debug/requests",
		"/metrics", "/metrics/", "/v1/metrics", "/v1/debug/pprof/", "/dashboard/metrics", "/dashboard/debug/pprof/", "/.well-known/metrics", "/statusz", "/varz", "/swagger", "/openapi.json", "/server-status", "/dev/mailbox", "/dev/mailbox.json",
	} {
		for _, cookie := range []string{"", cookie} {
			if got := ask(t, b.Server, "GET", path, nil, "Cookie", cookie); got.status != http.StatusNotFound {
				t.Errorf("%s: %d", path, got.status)
			}
		}
	}
}

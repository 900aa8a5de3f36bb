package project_test

import (
	"bytes"
	"context"
	"errors"
	"image"
	"image/png"
	"net/url"
	pathpkg "path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/picture"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/store"
)

// Proves: MCP-AS-11, OIDCDISC-3-a.
func TestCheckIssuer(t *testing.T) {
	for issuer, want := range map[string]bool{
		"https://auth.example.com":      true,
		"https://auth.example.com:8443": true,
		"http://localhost:4000":         true,
		"http://127.0.0.1":              true,
		"http://[::1]:4000":             true,

		"https://auth.example.com/tenant1":                            true,
		"https://auth.example.com/tenant1/Prod_2.0~x-y":               true,
		"http://localhost:4000/tenant1":                               true,
		"https://auth.example.com/" + strings.Repeat("a", 275):        true,
		"https://auth.example.com/" + strings.Repeat("a", 276):        false,
		"https://auth.example.com/tenant1/":                           false,
		"https://auth.example.com//tenant1":                           false,
		"https://auth.example.com/a//b":                               false,
		"https://auth.example.com/.":                                  false,
		"https://auth.example.com/a/..":                               false,
		"https://auth.example.com/../a":                               false,
		"https://auth.example.com/a/./b":                              false,
		"https://auth.example.com/tenant%31":                          false,
		"https://auth.example.com/a%2Fb":                              false,
		"https://auth.example.com/a b":                                false,
		"https://auth.example.com/tenänt":                             false,
		"https://auth.example.com/a;b":                                false,
		"https://auth.example.com/a:b":                                false,
		"https://auth.example.com/{a}":                                false,
		`https://auth.example.com/a"b`:                                false,
		"https://auth.example.com/a\\b":                               false,
		"https://auth.example.com/tenant1?x":                          false,
		"https://auth.example.com/tenant1#x":                          false,
		"https://auth.example.com/.well-known":                        false,
		"https://auth.example.com/a/.well-known/openid-configuration": false,
		"https://auth.example.com/dashboard":                          false,
		"https://auth.example.com/dashboard/a":                        false,
		"https://auth.example.com/v1":                                 false,
		"https://auth.example.com/assets/a":                           false,
		"https://auth.example.com/healthz":                            false,
		"https://auth.example.com/readyz":                             false,

		"":                              false,
		"auth.example.com":              false,
		"http://auth.example.com":       false,
		"http://localhost.evil.test":    false,
		"http://127.0.0.1.evil.test":    false,
		"https://auth.example.com/":     false, // RFC 8414 §2: compared byte for byte
		"https://auth.example.com?x=1":  false,
		"https://auth.example.com?":     false,
		"https://auth.example.com#x":    false,
		"https://auth.example.com#":     false,
		"https://user@auth.example.com": false,
		"https://Auth.example.com":      false,
		"HTTPS://auth.example.com":      false,
		"https://Auth.example.com/a":    false,
		"https://auth.example.com:443":  false,
		"http://localhost:80":           false,
		"ftp://auth.example.com":        false,
		"https:auth.example.com":        false,
		"https://":                      false,
		"javascript:alert(1)":           false,
	} {
		if err := project.CheckIssuer(issuer); (err == nil) != want {
			t.Errorf("CheckIssuer(%q): %v, want accepted: %t", issuer, err, want)
		}
	}
}

func TestCheckURL(t *testing.T) {
	for address, want := range map[string]bool{
		"https://auth.example.com": true, "http://localhost:4000": true,
		"https://auth.example.com/tenant1": false, "https://auth.example.com/": false, "http://auth.example.com": false, "": false,
	} {
		if err := project.CheckURL(address); (err == nil) != want {
			t.Errorf("CheckURL(%q): %v, want accepted: %t", address, err, want)
		}
	}
}

func TestCheckResource(t *testing.T) {
	for uri, want := range map[string]bool{
		"https://notes.example.com/mcp":   true,
		"https://notes.example.com":       true,
		"https://notes.example.com/":      true,
		"http://localhost:3000/mcp":       true,
		"http://notes.example.com/mcp":    false,
		"https://notes.example.com/mcp#x": false, // RFC 8707 §2
		"https://notes.example.com/mcp#":  false,
		"https://notes.example.com/mcp?a": false,
		"https://u:p@notes.example.com/":  false,
		"/mcp":                            false,
		"notes":                           false,
		"urn:example:notes":               false,
	} {
		if err := project.CheckResource(uri); (err == nil) != want {
			t.Errorf("CheckResource(%q): %v, want accepted: %t", uri, err, want)
		}
	}
}

func TestHost(t *testing.T) {
	for _, test := range []struct{ scheme, given, want string }{
		{"https", "Auth.Example.com", "auth.example.com"},
		{"https", "auth.example.com:443", "auth.example.com"},
		{"https", "auth.example.com:80", "auth.example.com:80"},
		{"http", "localhost:80", "localhost"},
		{"http", "localhost:443", "localhost:443"},
		{"https", "[::1]:443", "[::1]"},
		{"https", "[::1]:8443", "[::1]:8443"},
		{"https", "[::1]", "[::1]"},
		{"https", "", ""},
		{"https", "auth.example.com:", "auth.example.com:"},
	} {
		if got := project.Host(test.scheme, test.given); got != test.want {
			t.Errorf("Host(%s, %q) = %q, want %q", test.scheme, test.given, got, test.want)
		}
	}
	for issuer, want := range map[string]string{
		"https://auth.example.com": "auth.example.com", "http://localhost:4000": "localhost:4000", "http://[::1]": "[::1]", ":": "",
	} {
		if got := project.IssuerHost(issuer); got != want {
			t.Errorf("IssuerHost(%q) = %q, want %q", issuer, got, want)
		}
	}
}

// Whatever CheckIssuer takes is found again under the host of its own pages.
func FuzzIssuerHost(f *testing.F) {
	for _, seed := range []string{"https://auth.example.com", "http://localhost:4000", "http://[::1]", "https://a:443", "https://A", "https://a/b/c", "https://a/b%2F"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, issuer string) {
		if project.CheckIssuer(issuer) != nil {
			return
		}
		scheme, rest, _ := strings.Cut(issuer, "://")
		path := (&project.Project{Issuer: issuer}).Path()
		host := strings.TrimSuffix(rest, path)
		if got := project.IssuerHost(issuer); got == "" || got != project.Host(scheme, host) || got != host {
			t.Fatalf("%q is served at %q, asked for at %q", issuer, got, project.Host(scheme, host))
		}
		u, err := url.Parse(issuer)
		if err != nil || u.Path != path || u.EscapedPath() != path || path != "" && pathpkg.Clean(path) != path {
			t.Fatalf("%q has the path %q, and is asked for at %v, %v", issuer, path, u, err)
		}
	})
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"localhost": true, "LocalHost": true, "127.0.0.1": true, "127.9.9.9": true, "::1": true, "[::1]": true,
		"": false, "localhost.evil.test": false, "127.0.0.1.evil.test": false, "10.0.0.1": false, "0.0.0.0": false, "::": false, "example.com": false,
	} {
		if got := project.Loopback(host); got != want {
			t.Errorf("Loopback(%q) = %t", host, got)
		}
	}
}

func TestValidScope(t *testing.T) {
	for scope, want := range map[string]bool{
		"read:notes": true, "a": true, "!#[]~": true, strings.Repeat("a", 128): true,
		"": false, "a b": false, `a"b`: false, `a\b`: false, "a\tb": false, "ä": false, "a\x7f": false, strings.Repeat("a", 129): false,
	} {
		if got := project.ValidScope(scope); got != want {
			t.Errorf("ValidScope(%q) = %t, want %t", scope, got, want)
		}
	}
}

// docs/guide/hardening.md promises these.
func TestDefaultLifetimes(t *testing.T) {
	const minute, hour, day = 60, 3600, 86400
	want := project.Lifetimes{
		Code: 60, AccessToken: 15 * minute, LoneAccessToken: hour,
		RefreshIdle: 14 * day, RefreshAbsolute: 90 * day, ReplayWindow: 120,
		EmailCode: 10 * minute, SessionIdle: 12 * hour, SessionAbsolute: 7 * day,
	}
	if diff := cmp.Diff(want, project.Defaults().Lifetimes); diff != "" {
		t.Error(diff)
	}
	if s := project.Defaults(); s.UnregisteredResources || s.AuthorizationURL != "" || len(s.DocumentPorts) != 0 {
		t.Errorf("a new project is open further than it has to be: %+v", s)
	}
}

func TestSettingsCheck(t *testing.T) {
	if problems := project.Defaults().Check(); problems != nil {
		t.Errorf("the defaults: %q", problems)
	}
	bad := project.Defaults()
	bad.Lifetimes = project.Lifetimes{
		Code: 9, AccessToken: 86401, LoneAccessToken: 59, RefreshIdle: 299, RefreshAbsolute: 731 * 86400,
		ReplayWindow: 301, EmailCode: 1801, SessionIdle: 0, SessionAbsolute: -1,
	}
	bad.PrivateUseSchemes = []string{"cursor", "Cursor", "javascript", "data", "https", "vscode+x.1-2", "1password", "", "a b", "blob"}
	bad.DocumentPorts = []int{8443, 0, 65536 + 25}
	problems := strings.Join(bad.Check(), "\n")
	if !strings.Contains(problems, "document_ports has 0;") || !strings.Contains(problems, "document_ports has 65561;") || strings.Contains(problems, "8443") {
		t.Errorf("ports in:\n%s", problems)
	}
	for _, name := range []string{"code-lifetime", "access-token-lifetime", "lone-access-token-lifetime", "refresh-idle", "refresh-absolute", "replay-window", "email-code-lifetime", "session-idle", "session-absolute"} {
		if !strings.Contains("\n"+problems, "\n"+name+" is ") {
			t.Errorf("%s is not named in:\n%s", name, problems)
		}
	}
	for _, scheme := range []string{"Cursor", "javascript", "data", "https", "1password", "", "a b", "blob"} {
		if !strings.Contains(problems, `has "`+scheme+`"`) {
			t.Errorf("the scheme %q is not named in:\n%s", scheme, problems)
		}
	}
	if strings.Contains(problems, `has "cursor"`) || strings.Contains(problems, `has "vscode+x.1-2"`) {
		t.Errorf("a good scheme is refused:\n%s", problems)
	}
}

func TestResources(t *testing.T) {
	notes := project.Resource{URI: "https://notes.example.com/mcp/"}
	files := project.Resource{URI: "https://files.example.com", Default: true}
	p := &project.Project{Resources: []project.Resource{notes}, Scopes: []project.Scope{{Name: "read:notes", ReadOnly: true}}}
	for uri, want := range map[string]string{
		"https://notes.example.com/mcp":   notes.URI, // one slash does not count, and the registered spelling comes back
		"https://notes.example.com/mcp/":  notes.URI,
		"https://notes.example.com/mcp//": "",
		"https://notes.example.com/MCP":   "",
		"https://Notes.example.com/mcp":   "",
		"https://notes.example.com/mcp?x": "",
		"":                                "",
	} {
		if got, ok := p.Resource(uri); ok != (want != "") || got.URI != want {
			t.Errorf("Resource(%q) = %q, %t", uri, got.URI, ok)
		}
	}
	if got, ok := p.DefaultResource(); !ok || got.URI != notes.URI {
		t.Errorf("the only one is not the default: %+v", got)
	}
	p.Resources = []project.Resource{notes, files}
	if got, ok := p.DefaultResource(); !ok || got.URI != files.URI {
		t.Errorf("the marked one is not the default: %+v", got)
	}
	p.Resources[1].Default = false
	if got, ok := p.DefaultResource(); ok {
		t.Errorf("one of two is the default: %+v", got)
	}
	if _, ok := (&project.Project{}).DefaultResource(); ok {
		t.Error("a project without resources has a default")
	}
	if s, ok := p.Scope("read:notes"); !ok || !s.ReadOnly {
		t.Errorf("scope %+v, %t", s, ok)
	}
	if _, ok := p.Scope("read"); ok {
		t.Error("a scope that nobody defined is found")
	}
}

// Every address of a resource server leads to it.
func TestAliases(t *testing.T) {
	notes := project.Resource{URI: "https://notes.example.com/mcp", Aliases: []string{"https://notes.example.com/sse", "https://notes.example.com/old/"}}
	p := &project.Project{Resources: []project.Resource{{URI: "https://files.example.com"}, notes}}
	for uri, want := range map[string]bool{
		"https://notes.example.com/mcp": true, "https://notes.example.com/sse": true, "https://notes.example.com/sse/": true,
		"https://notes.example.com/old": true, "https://notes.example.com/sse/x": false, "https://notes.example.com": false,
	} {
		if got, ok := p.Resource(uri); ok != want || want && got.URI != notes.URI || notes.Is(uri) != want {
			t.Errorf("Resource(%q) = %q, %t", uri, got.URI, ok)
		}
	}
	if diff := cmp.Diff([]string{notes.URI, notes.Aliases[0], notes.Aliases[1]}, notes.URIs()); diff != "" {
		t.Error(diff)
	}

	for alias, says := range map[string]string{
		"https://notes.example.com/sse":     "",
		"https://NOTES.example.com:443/sse": "",
		"https://notes.example.com/mcp/":    "is named twice",
		"https://notes.example.com/twice":   "is named twice",
		"https://notes.example.com/a?b":     "must have no user, query or fragment",
		"/sse":                              "is not a URL",
		"https://files.example.com/sse":     "is not at https://notes.example.com",
		"https://notes.example.com:8443/x":  "is not at https://notes.example.com",
		"http://localhost/sse":              "is not at https://notes.example.com",
	} {
		r := project.Resource{URI: notes.URI, Aliases: []string{"https://notes.example.com/twice", alias}}
		if err := r.CheckAliases(); (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v, want %q", alias, err, says)
		}
	}

	for _, test := range []struct {
		name  string
		r     project.Resource
		taken bool
	}{
		{"itself again", notes, false},
		{"itself without its aliases, in another spelling", project.Resource{URI: notes.URI + "/"}, false},
		{"another", project.Resource{URI: "https://notes.example.com/api", Aliases: []string{"https://notes.example.com/events"}}, false},
		{"another's alias", project.Resource{URI: "https://notes.example.com/sse"}, true},
		{"another's alias, in another spelling", project.Resource{URI: "https://notes.example.com/old"}, true},
		{"another's alias as an alias", project.Resource{URI: "https://notes.example.com/api", Aliases: notes.Aliases[:1]}, true},
		{"another's URI as an alias", project.Resource{URI: "https://notes.example.com/api", Aliases: []string{notes.URI}}, true},
	} {
		if err := test.r.CheckTaken(p.Resources); errors.Is(err, project.ErrTaken) != test.taken || !test.taken && err != nil {
			t.Errorf("%s: %v", test.name, err)
		} else if test.taken && !strings.Contains(err.Error(), "of the resource server "+notes.URI) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
}

func TestContext(t *testing.T) {
	if _, ok := project.Known(t.Context()); ok {
		t.Error("a project out of nothing")
	}
	p := &project.Project{ID: "project-test-1"}
	ctx := project.NewContext(t.Context(), p)
	if got, ok := project.Known(ctx); !ok || got != p || project.FromContext(ctx) != p {
		t.Error("another project comes out than went in")
	}
}

// data is a database with nothing in it.
func data(t *testing.T) (*store.DB, *project.Setup) {
	t.Helper()
	now := func() time.Time { return time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC) }
	d, err := server.Data{Folder: t.TempDir(), Now: now}.Open(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d.DB, project.NewSetup(d.DB, now)
}

func TestSetup(t *testing.T) {
	db, setup := data(t)
	if _, err := setup.Find(t.Context(), ""); !errors.Is(err, project.ErrNotFound) || !strings.Contains(err.Error(), "there is no project yet") {
		t.Errorf("before the first: %v", err)
	}
	for name, n := range map[string]project.New{
		"no name":      {Name: " ", Issuer: "https://auth.example.com"},
		"no issuer":    {Name: "Notes"},
		"bad settings": {Name: "Notes", Issuer: "https://auth.example.com", Settings: &project.Settings{}},
	} {
		if _, _, err := setup.Create(t.Context(), n); err == nil {
			t.Errorf("created with %s", name)
		}
	}
	p, key, err := setup.Create(t.Context(), project.New{Name: " Notes ", Issuer: "https://auth.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != "Notes" || p.Vertical != project.Consumer || p.Environment != project.Live || !strings.HasPrefix(p.ID, "project-live-") ||
		!strings.HasPrefix(p.PublicToken, "public-token-live-") || !key.Matches(p.SecretHash) || !cmp.Equal(p.Settings, project.Defaults()) {
		t.Errorf("created %+v", p)
	}
	if _, _, err := setup.Create(t.Context(), project.New{Name: "Other", Issuer: "https://auth.example.com"}); !errors.Is(err, project.ErrConflict) {
		t.Errorf("the same issuer twice: %v", err)
	}
	for _, ref := range []string{"", p.ID, p.Issuer, p.Issuer + "/"} {
		if got, err := setup.Find(t.Context(), ref); err != nil || got.ID != p.ID {
			t.Errorf("Find(%q): %v", ref, err)
		}
	}
	if _, err := setup.Find(t.Context(), "Notes"); !errors.Is(err, project.ErrNotFound) {
		t.Errorf("a name is no reference: %v", err)
	}
	second, _, err := setup.Create(t.Context(), project.New{Name: "Second", Issuer: "https://second.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := setup.Find(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "there are 2 projects") {
		t.Errorf("one of two, without a name: %v", err)
	}

	t.Run("a change is tried again when another came between", func(t *testing.T) {
		tries := 0
		got, err := setup.Change(t.Context(), p.ID, func(edited *project.Project) error {
			if tries++; tries == 1 {
				_, err := setup.Change(context.WithoutCancel(t.Context()), p.ID, func(other *project.Project) error {
					other.Settings.HelpURL = "https://example.com/help"
					return nil
				})
				return err
			}
			edited.Settings.DynamicRegistration = false
			return nil
		})
		if err != nil || tries != 2 || got.Settings.DynamicRegistration || got.Settings.HelpURL == "" {
			t.Errorf("after %d tries: %+v, %v", tries, got, err)
		}
		kept, err := setup.Find(t.Context(), p.ID)
		if err != nil || kept.Settings.DynamicRegistration || kept.Settings.HelpURL == "" {
			t.Errorf("kept %+v, %v", kept.Settings, err)
		}
	})
	t.Run("a change that is out of bounds is none", func(t *testing.T) {
		if _, err := setup.Change(t.Context(), p.ID, func(p *project.Project) error { p.Settings.Lifetimes.Code = 1; return nil }); err == nil {
			t.Error("taken")
		}
		refused := errors.New("not this")
		if _, err := setup.Change(t.Context(), p.ID, func(*project.Project) error { return refused }); !errors.Is(err, refused) {
			t.Errorf("%v", err)
		}
		if kept, _ := setup.Find(t.Context(), p.ID); kept.Settings.Lifetimes.Code != 60 {
			t.Errorf("kept %+v", kept.Settings)
		}
	})
	t.Run("resources", func(t *testing.T) {
		for name, bad := range map[string]struct {
			uri   string
			scope string
		}{"an address": {"http://notes.example.com/mcp", "a"}, "a scope": {"https://notes.example.com/mcp", "a b"}} {
			if _, _, err := setup.AddResource(t.Context(), p, project.Resource{URI: bad.uri}, []project.Scope{{Name: bad.scope}}, false); err == nil {
				t.Errorf("added with %s that cannot be", name)
			}
		}
		r, key, err := setup.AddResource(t.Context(), p, project.Resource{URI: "https://notes.example.com/mcp"}, []project.Scope{{Name: "read:notes", Description: "Read", ReadOnly: true}}, true)
		if err != nil || key == nil || !key.Matches(r.SecretHash) || r.Profile != project.RFC9068 || r.Name != "notes.example.com" {
			t.Fatalf("%+v, %v", r, err)
		}
		got, err := setup.Find(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := got.Resource("https://notes.example.com/mcp"); !ok || len(got.Scopes) != 1 {
			t.Errorf("kept %+v", got)
		}
		if err := setup.RemoveResource(t.Context(), p, "https://notes.example.com/mcp"); err != nil {
			t.Fatal(err)
		}
		if err := setup.RemoveResource(t.Context(), p, "https://notes.example.com/mcp"); !errors.Is(err, project.ErrNotFound) {
			t.Errorf("removed twice: %v", err)
		}
	})

	t.Run("a default scope is a scope, but one that is wrong already stops nothing", func(t *testing.T) {
		const uri = "https://okr.example.com/mcp"
		wrong := project.Resource{ID: "resource-server-live-1", URI: uri, Name: "OKR", Profile: project.RFC9068, DefaultScopes: []string{"read:okrs manage:objectives"}}
		if _, _, err := setup.AddResource(t.Context(), p, wrong, nil, false); err == nil || !strings.Contains(err.Error(), "without space") {
			t.Errorf("a new one: %v", err)
		}
		if err := db.AddResource(t.Context(), p.ID, nil, wrong, nil, audit.Origin{Actor: audit.Operator}.Event(p.ID, p.CreatedAt, audit.ResourceAdded, wrong.ID)); err != nil {
			t.Fatal(err)
		}
		now, err := setup.Find(t.Context(), p.ID)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := setup.RotateResourceSecret(t.Context(), now, uri); err != nil {
			t.Errorf("a new secret for one from before: %v", err)
		}
	})

	t.Run("the directory follows", func(t *testing.T) {
		d, err := project.NewDirectory(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := d.ByHost("second.example.com"); !ok || got.ID != second.ID {
			t.Errorf("by host: %+v", got)
		}
		if _, ok := d.ByHost("third.example.com"); ok {
			t.Error("a host out of nothing")
		}
		if changed, err := d.Poll(t.Context()); err != nil || changed != nil {
			t.Errorf("nothing changed: %q, %v", changed, err)
		}
		before, _ := d.ByID(p.ID)
		if _, err := setup.Change(t.Context(), p.ID, func(p *project.Project) error { p.Name = "Renamed"; return nil }); err != nil {
			t.Fatal(err)
		}
		third, _, err := setup.Create(t.Context(), project.New{Name: "Third", Issuer: "https://third.example.com"})
		if err != nil {
			t.Fatal(err)
		}
		changed, err := d.Poll(t.Context())
		want := []string{p.ID, third.ID}
		slices.Sort(want)
		if err != nil || !cmp.Equal(changed, want) {
			t.Errorf("changed: %q, %v", changed, err)
		}
		after, _ := d.ByID(p.ID)
		if before.Name != "Notes" || after.Name != "Renamed" {
			t.Errorf("a request's project was %q and is %q", before.Name, after.Name)
		}
		if got, ok := d.ByHost("third.example.com"); !ok || got.ID != third.ID || len(d.All()) != 3 {
			t.Errorf("the new one: %+v of %d", got, len(d.All()))
		}
	})
}

// A directory whose database is away says so and keeps what it knows.
type away struct{ project.Store }

func (away) Changes(context.Context) (map[string]int64, error) {
	return nil, errors.New("the database is away")
}

func (away) Projects(context.Context) ([]*project.Project, error) {
	return nil, errors.New("the database is away")
}

// A logo is drawn anew, and what is no picture changes nothing.
func TestSetLogo(t *testing.T) {
	db, setup := data(t)
	p, _, err := setup.Create(t.Context(), project.New{Name: "Notes", Issuer: "https://auth.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	var file bytes.Buffer
	if err := png.Encode(&file, image.NewNRGBA(image.Rect(0, 0, 200, 100))); err != nil {
		t.Fatal(err)
	}
	if err := setup.SetLogo(t.Context(), p, file.Bytes()); err != nil {
		t.Fatal(err)
	}
	with, err := setup.Find(t.Context(), p.ID)
	if err != nil || with.Logo == "" {
		t.Fatalf("%v, logo %q", err, with.Logo)
	}
	kept, err := db.Logo(t.Context(), p.ID, with.Logo)
	if err != nil {
		t.Fatal(err)
	}
	if size, err := png.DecodeConfig(bytes.NewReader(kept)); err != nil || size.Width != 128 || size.Height != 64 {
		t.Errorf("%d by %d, %v", size.Width, size.Height, err)
	}
	if err := setup.SetLogo(t.Context(), p, []byte("<svg/>")); !errors.Is(err, picture.ErrUnfit) {
		t.Errorf("SVG: %v", err)
	}
	if p, err := setup.Find(t.Context(), p.ID); err != nil || p.Logo != with.Logo {
		t.Errorf("after it: %v, logo %q", err, p.Logo)
	}
}

func TestDirectoryWithoutDatabase(t *testing.T) {
	if _, err := project.NewDirectory(t.Context(), away{}); err == nil {
		t.Error("a directory of nothing")
	}
}

package server_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"html"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	pathpkg "path"
	"regexp"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

// tenant is the path of the issuer in these tests.
const tenant = "/tenant1"

// fence is a proxy that forwards what is below the path of an issuer and knows
// nothing else of the host: a browser behind it fails the test when it asks for
// something beside the path, or is shown an address there.
type fence struct {
	t    *testing.T
	host string
	seen *int // pages
}

// rooted are the addresses in a page that begin at the root of the host.
var rooted = regexp.MustCompile(`\s(?:href|action|src|formaction|data-challenge)="(/[^"]*)"`)

func (f fence) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || r.URL.Host != f.host {
		return response, err
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close() // it was read
	response.Body = io.NopCloser(bytes.NewReader(body))
	leads := []string{r.URL.Path, response.Header.Get("Location")}
	if _, to, ok := strings.Cut(response.Header.Get("Refresh"), "url="); ok {
		leads = append(leads, to)
	}
	if strings.HasPrefix(response.Header.Get("Content-Type"), "text/html") {
		*f.seen++
		for _, m := range rooted.FindAllStringSubmatch(string(body), -1) {
			leads = append(leads, html.UnescapeString(m[1]))
		}
	}
	for _, to := range leads {
		if strings.HasPrefix(to, "/") && to != tenant && !strings.HasPrefix(to, tenant+"/") {
			f.t.Errorf("%s %s leads to %s, beside the issuer's path", r.Method, r.URL.Path, to)
		}
	}
	for _, c := range response.Cookies() {
		if c.Path != "/" { // a __Host- cookie has no other (RFC 6265bis §4.1.3.2)
			f.t.Errorf("%s sets the cookie %s for the path %q", r.URL.Path, c.Name, c.Path)
		}
	}
	return response, err
}

// fenced is a browser behind a fence. The number counts the pages that it saw.
func fenced(t *testing.T, s *servertest.Server) (*servertest.Browser, *int) {
	t.Helper()
	u, err := url.Parse(s.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	b, seen := s.Browser(t), new(int)
	b.Client.Transport = fence{t, u.Host, seen}
	return b, seen
}

// verifier is the PKCE verifier of the flow here.
const verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"

// issuerOf is iss of a token that nobody checks.
func issuerOf(t *testing.T, token string) string {
	t.Helper()
	var claims struct{ Iss string }
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q is no signed token", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &claims) != nil {
		t.Fatalf("%q: %v", payload, err)
	}
	return claims.Iss
}

func logoPNG(t *testing.T) []byte {
	t.Helper()
	var file bytes.Buffer
	if err := png.Encode(&file, image.NewRGBA(image.Rect(0, 0, 64, 64))); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// The three addresses of the metadata have one document, which names the issuer
// to the letter; every other address has none.
//
// Proves: RFC8414-3-a, RFC8414-3.1-a, RFC8414-3.3-a, RFC8414-5-a, MCP-AS-2, MCP-AS-3, MCP-AS-9, OIDCDISC-4-a, OIDCDISC-4.2-a,
// OIDCDISC-4.3-a
func TestPathIssuerMetadata(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		c.Path = tenant
		s := servertest.New(t, c)
		other := second(t, s)
		places := []string{oauth.PathMetadata + tenant, oauth.PathDiscovery + tenant, tenant + oauth.PathDiscovery}
		first := ""
		for _, place := range places {
			got := ask(t, s, "GET", s.Address+place, nil, "Origin", "https://inspector.example.com", "X-Forwarded-Host", "evil.example.com")
			var m map[string]any
			if got.status != 200 || got.header.Get("Content-Type") != "application/json" || json.Unmarshal([]byte(got.body), &m) != nil {
				t.Fatalf("%s: %d %s", place, got.status, got.body)
			}
			if first == "" {
				first = got.body
			}
			if m["issuer"] != s.Address+tenant || got.body != first {
				t.Errorf("%s: %s", place, got.body)
			}
			for name, value := range m {
				if address, ok := value.(string); ok && (strings.HasSuffix(name, "_endpoint") || name == "jwks_uri") && !strings.HasPrefix(address, s.Issuer+"/") {
					t.Errorf("%s: the %s %s is not below the issuer", place, name, address)
				}
			}
			for name, want := range map[string]string{
				"Access-Control-Allow-Origin": "*", "X-Content-Type-Options": "nosniff", "Cache-Control": "public, max-age=60",
				"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'", "Set-Cookie": "",
			} {
				if value := got.header.Get(name); value != want {
					t.Errorf("%s: %s is %q, want %q", place, name, value, want)
				}
			}
			if again := ask(t, s, "GET", s.Address+place, nil, "If-None-Match", got.header.Get("ETag")); again.status != http.StatusNotModified {
				t.Errorf("%s: asked again, %d", place, again.status)
			}
			if open := ask(t, s, "OPTIONS", s.Address+place, nil, "Origin", "https://inspector.example.com", "Access-Control-Request-Method", "GET"); open.header.Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("%s: preflight, %d", place, open.status)
			}
			if got := ask(t, s, "POST", s.Address+place, nil); got.status != http.StatusMethodNotAllowed {
				t.Errorf("%s: POST, %d", place, got.status)
			}
		}
		if got := ask(t, s, "GET", s.Issuer+oauth.PathJWKS, nil); got.status != 200 || !strings.Contains(got.body, `"keys"`) {
			t.Errorf("the key set: %d %s", got.status, got.body)
		}

		var wrong []string
		for _, document := range []string{oauth.PathMetadata, oauth.PathDiscovery} {
			for _, path := range []string{
				"", "/", tenant + "/", "/Tenant1", "/TENANT1", "/tenant", "/tenant2", "/tenant11", tenant + tenant, tenant + "/x", "/" + tenant, "//tenant1",
				"/./tenant1", "/x/..%2ftenant1", "/tenant%31", "/%74enant1", tenant + "%2f", tenant + "%00", tenant + ";x", tenant + ".json",
			} {
				wrong = append(wrong, document+path)
			}
			for _, path := range []string{"/Tenant1", "/tenant2", tenant + tenant, tenant + "/x", "/" + tenant, tenant + "/", "/x/.." + tenant, "/tenant%31", "/x%2f.." + tenant} {
				wrong = append(wrong, path+document)
			}
			wrong = append(wrong, tenant+document+"/", tenant+document+tenant, tenant+"//"+document[1:], strings.ToUpper(document)+tenant)
		}
		wrong = append(wrong, oauth.PathJWKS, oauth.PathJWKS+tenant, tenant+oauth.PathMetadata, oauth.PathPolicy, "/.well-known/oauth-protected-resource"+tenant)
		for _, path := range wrong {
			got := ask(t, s, "GET", s.Address+path, nil)
			if tidied := got.header.Get("Location"); got.status == http.StatusTemporaryRedirect && tidied == pathpkg.Clean(path) {
				continue // of // and .., as on every host
			}
			if got.status != http.StatusNotFound || strings.Contains(got.body, `"issuer"`) || got.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s: %d %s", path, got.status, got.body)
			}
			if strings.Contains(path, "/.well-known/") && got.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: %s", path, got.header.Get("Content-Type"))
			}
		}

		// Another project's host knows nothing of the path, whatever is asked for.
		for _, path := range append(places, tenant+"/login", tenant+oauth.PathToken, tenant+oauth.PathAuthorize) {
			if got := ask(t, s, "GET", s.Address+path, nil, "Host", project.IssuerHost(other.Issuer)); got.status != http.StatusNotFound || strings.Contains(got.body, s.Issuer) {
				t.Errorf("%s at another project's host: %d %s", path, got.status, got.body)
			}
		}
		if got := ask(t, s, "GET", s.Address+oauth.PathMetadata, nil, "Host", project.IssuerHost(other.Issuer)); got.status != 200 || !strings.Contains(got.body, `"issuer":"`+other.Issuer+`"`) {
			t.Errorf("the other project: %d %s", got.status, got.body)
		}
	})
}

// An issuer with a path has its whole host, and can get and lose its path.
func TestPathIssuerOwnsItsHost(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		c.Path = tenant
		s := servertest.New(t, c)
		other := second(t, s)
		for _, issuer := range []string{s.Address, s.Address + "/tenant2", s.Issuer, s.Issuer + "/x"} {
			if _, _, err := s.Projects.Create(t.Context(), project.New{Name: "Intruder", Issuer: issuer, Environment: project.Test}); !errors.Is(err, project.ErrConflict) {
				t.Errorf("another project at %s: %v", issuer, err)
			}
			if _, err := s.Projects.SetIssuer(t.Context(), other, issuer); !errors.Is(err, project.ErrConflict) {
				t.Errorf("another project moves to %s: %v", issuer, err)
			}
		}
		for _, issuer := range []string{s.Address + "/tenant2", s.Address, s.Address + "/a/b"} {
			if _, err := s.Projects.SetIssuer(t.Context(), s.Project, issuer); err != nil {
				t.Fatal(err)
			}
			before := s.Project.Path()
			s.Follow(t)
			if got := ask(t, s, "GET", s.Address+oauth.PathMetadata+s.Project.Path(), nil); !strings.Contains(got.body, `"issuer":"`+issuer+`"`) {
				t.Errorf("%s: %d %s", issuer, got.status, got.body)
			}
			if got := ask(t, s, "GET", s.Address+oauth.PathMetadata+before, nil); got.status != http.StatusNotFound {
				t.Errorf("%s, after %s: %d %s", issuer, before, got.status, got.body)
			}
		}
	})
}

// A whole flow through a proxy that forwards nothing but what is below the path:
// pages, their style sheets and logos, the answer, tokens and what they open.
//
// Proves: MCP-AS-3, RFC8414-3.1-a
func TestPathIssuerFlow(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		c.Path = tenant
		s := servertest.New(t, c)
		s.Ready(t)
		r := s.AddResource(t, "https://notes.example.test/mcp", project.Scope{Name: "read:notes", Description: "Read your notes"})
		if err := s.Projects.SetLogo(t.Context(), s.Project, logoPNG(t)); err != nil {
			t.Fatal(err)
		}
		s.Follow(t)
		b, seen := fenced(t, s)
		endpoints := map[string]string{}
		{
			var m map[string]any
			if p := b.Get(t, oauth.PathDiscovery); json.Unmarshal([]byte(p.Body), &m) != nil {
				t.Fatal(p.Status, p.Body)
			}
			for name, value := range m {
				if address, ok := value.(string); ok {
					endpoints[name] = address
				}
			}
		}
		post := func(endpoint string, form url.Values) answer {
			t.Helper()
			got := ask(t, s, "POST", endpoints[endpoint], strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
			if got.status != http.StatusOK {
				t.Errorf("%s: %d %s", endpoint, got.status, got.body)
			}
			return got
		}
		registered := ask(t, s, "POST", endpoints["registration_endpoint"], strings.NewReader(
			`{"client_name":"Notebook","redirect_uris":["https://client.example.test/cb"],"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none"}`),
			"Content-Type", "application/json")
		var app struct {
			ID string `json:"client_id"`
		}
		if err := json.Unmarshal([]byte(registered.body), &app); err != nil || registered.status != http.StatusCreated {
			t.Fatal(registered.status, registered.body)
		}
		challenge := sha256.Sum256([]byte(verifier))
		request := url.Values{
			"response_type": {"code"}, "client_id": {app.ID}, "redirect_uri": {"https://client.example.test/cb"}, "state": {"s"},
			"scope": {"openid email read:notes"}, "resource": {r.URI}, "code_challenge_method": {"S256"},
			"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])},
		}
		p := b.Get(t, endpoints["authorization_endpoint"]+"?"+request.Encode())
		for _, m := range rooted.FindAllStringSubmatch(p.Body, -1) {
			if strings.Contains(m[1], "/assets/") || strings.Contains(m[1], "/logo/") {
				if got := ask(t, s, "GET", s.Address+m[1], nil); got.status != 200 || got.body == "" {
					t.Errorf("%s: %d", m[1], got.status)
				}
			}
		}
		if !strings.Contains(p.Body, tenant+"/logo/") || !strings.Contains(p.Body, tenant+"/assets/") {
			t.Errorf("the page has no logo or no style sheet:\n%s", p.Body)
		}
		answered := b.Allow(t, b.SignIn(t, p, "ada@example.test")).Query()
		if iss := answered["iss"]; len(iss) != 1 || iss[0] != s.Issuer {
			t.Errorf("the answer has iss %q", iss)
		}
		var tokens struct {
			Access  string `json:"access_token"`
			ID      string `json:"id_token"`
			Refresh string `json:"refresh_token"`
		}
		got := post("token_endpoint", url.Values{
			"grant_type": {"authorization_code"}, "code": {answered.Get("code")}, "client_id": {app.ID},
			"redirect_uri": {"https://client.example.test/cb"}, "code_verifier": {verifier},
		})
		if err := json.Unmarshal([]byte(got.body), &tokens); err != nil || tokens.Access == "" {
			t.Fatal(got.status, got.body)
		}
		for name, token := range map[string]string{"access token": tokens.Access, "id token": tokens.ID} {
			if iss := issuerOf(t, token); iss != s.Issuer {
				t.Errorf("the %s has iss %q", name, iss)
			}
		}
		post("token_endpoint", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.Refresh}, "client_id": {app.ID}})
		if got := ask(t, s, "GET", endpoints["userinfo_endpoint"], nil, "Authorization", "Bearer "+tokens.Access); got.status != 200 || !strings.Contains(got.body, "ada@example.test") {
			t.Errorf("userinfo: %d %s", got.status, got.body)
		}
		// The published SDKs ask at the root of the host.
		if got := ask(t, s, "GET", s.Address+oauth.PathUserinfo, nil, "Authorization", "Bearer "+tokens.Access); got.status != 200 {
			t.Errorf("userinfo at the root: %d %s", got.status, got.body)
		}
		if got := ask(t, s, "GET", s.Address+"/v1/sessions/jwks/"+s.Project.ID, nil); got.status != 200 {
			t.Errorf("key set by project id at the root: %d", got.status)
		}
		for _, server := range []string{s.Issuer, s.Address} {
			if got := ask(t, s, "GET", server+"/v1/projects/"+s.Project.ID+"/policy", nil); got.status != http.StatusUnauthorized {
				t.Errorf("the JSON API at %s: %d %s", server, got.status, got.body)
			}
		}
		post("revocation_endpoint", url.Values{"token": {tokens.Access}, "client_id": {app.ID}})
		// A form that becomes a GET, the person's own pages, signing out.
		if p := b.Post(t, endpoints["authorization_endpoint"], request); p.Status != 200 {
			t.Errorf("an authorization request by a form: %d", p.Status)
		}
		for _, path := range []string{"", "/", "/login", "/connected-apps"} {
			if p := b.Get(t, s.Issuer+path); p.Status != 200 || p.URL.Path != tenant+"/connected-apps" {
				t.Errorf("%q leads to %s (%d)", path, p.URL, p.Status)
			}
		}
		p = b.Get(t, "/connected-apps")
		if p = b.Submit(t, p, "grant", url.Values{"action": {"take_back"}}); p.Status != 200 || !strings.Contains(p.Body, "Notebook") {
			t.Errorf("take back: %d at %s", p.Status, p.URL)
		}
		if p = b.Get(t, endpoints["end_session_endpoint"]+"?client_id="+app.ID); p.Status != 200 {
			t.Errorf("logout: %d %s", p.Status, p.Body)
		}
		if p = b.Submit(t, p, "csrf", url.Values{"action": {"stay"}}); p.URL.Path != tenant+"/connected-apps" {
			t.Errorf("logout, stay: %s", p.URL)
		}
		p = b.Submit(t, b.Get(t, "/sign-out"), "csrf", url.Values{"action": {"sign_out"}})
		if p = b.Get(t, p.Link(t, "Sign in again")); !strings.Contains(p.Body, `name="email"`) {
			t.Errorf("after signing out: %s\n%s", p.URL, p.Body)
		}
		if p = b.Get(t, "/nothing"); p.Status != http.StatusNotFound {
			t.Errorf("a page that is not there: %d", p.Status)
		}
		if *seen < 12 {
			t.Errorf("the browser saw %d pages", *seen)
		}
	})
}

// The pages of organizations stay below the path too.
func TestPathIssuerOrganizations(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		c.Path, c.Vertical = tenant, project.B2B
		s := servertest.New(t, c)
		e := audit.Event{At: s.Clock.Now(), Kind: audit.OrganizationCreated, ProjectID: s.Project.ID}
		var o identity.Organization
		for _, slug := range []string{"fennel", "thyme"} {
			var err error
			o, err = s.People.CreateOrganization(t.Context(), s.Project, identity.Organization{Name: slug, Slug: slug, Settings: identity.DefaultOrganization()}, e)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.People.AddMember(t.Context(), s.Project, o, identity.Member{Email: "ada@example.test", Roles: []string{"admin"}, Status: identity.Pending}, e); err != nil {
				t.Fatal(err)
			}
		}
		s.Follow(t)
		b, seen := fenced(t, s)
		p := b.SignIn(t, b.Get(t, "/organization"), "ada@example.test")
		p = b.Submit(t, p, "organization", url.Values{"organization": {o.ID}})
		if p.Status != 200 || p.URL.Path != tenant+"/organization" {
			t.Fatalf("after choosing: %d at %s\n%s", p.Status, p.URL, p.Body)
		}
		for _, path := range []string{"/organization", "/organization/members", "/organization/connected-apps", "/organization/sso", "/organization/sso/test", "/switch-organization", "/connected-apps", "/sign-out"} {
			if p := b.Get(t, path); p.Status >= 500 || p.Status == http.StatusNotFound && path != "/organization/sso/test" {
				t.Errorf("%s: %d", path, p.Status)
			}
		}
		p = b.Submit(t, b.Get(t, "/organization/members"), "email", url.Values{"email": {"bea@example.test"}, "action": {"invite"}})
		if p.Status != 200 || p.URL.Path != tenant+"/organization/members" {
			t.Errorf("invite: %d at %s", p.Status, p.URL)
		}
		found := false
		for _, m := range s.Mail.Mails() {
			found = found || m.To == "bea@example.test" && strings.Contains(m.Text, s.Issuer+"/switch-organization")
		}
		if !found {
			t.Error("no mail invites to the issuer's own address")
		}
		if p = b.Get(t, "/sso/callback/nobody?state=x&code=y"); p.Status >= 500 {
			t.Errorf("callback: %d", p.Status)
		}
		if *seen < 10 {
			t.Errorf("the browser saw %d pages", *seen)
		}
	})
}

// What is beside the path is nobody's, but for the dashboard on the deployment's
// own host, and nothing leads out of the path by a trick.
func TestPathIssuerBeside(t *testing.T) {
	s := servertest.New(t, servertest.Config{Path: tenant, Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}})
	// Another one, on a host that is not the deployment's.
	if _, _, err := s.Projects.Create(t.Context(), project.New{Name: "Public", Issuer: "https://auth.example.com" + tenant, Environment: project.Test}); err != nil {
		t.Fatal(err)
	}
	s.Follow(t)
	forwarded := []string{"X-Forwarded-Host", "auth.example.com", "X-Forwarded-Proto", "https", "X-Forwarded-For", "203.0.113.9"}
	for _, path := range []string{"/login", "/connected-apps", "/oauth/authorize", "/tenant", "/Tenant1/login", "/tenant2/login", "/tenant1x/login", "/%74enant1/login"} {
		if got := ask(t, s, "GET", s.Address+path, nil); got.status != http.StatusNotFound || got.header.Get("Set-Cookie") != "" || got.header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d %v", path, got.status, got.header)
		}
	}
	for path, tidied := range map[string]string{
		"//login": "/login", tenant + "//login": tenant + "/login", tenant + "/x/../login": tenant + "/login", tenant + "/./login": tenant + "/login",
		tenant + "/login/../../login": "/login", tenant + "//evil.example.com/login": tenant + "/evil.example.com/login",
		tenant + "/..": "/", tenant + "/v1//oauth2/token": tenant + "/v1/oauth2/token",
	} {
		for _, headers := range [][]string{nil, forwarded} {
			if got := ask(t, s, "GET", s.Address+path, nil, headers...); got.status != http.StatusTemporaryRedirect || got.header.Get("Location") != tidied {
				t.Errorf("%s: %d, Location %q", path, got.status, got.header.Get("Location"))
			}
		}
	}
	if got := ask(t, s, "GET", s.Address+"/", nil); got.status != http.StatusSeeOther || got.header.Get("Location") != tenant+"/connected-apps" {
		t.Errorf("/: %d, Location %q", got.status, got.header.Get("Location"))
	}

	door := ask(t, s, "GET", s.Address+"/dashboard/setup", nil)
	if door.status != http.StatusOK {
		t.Errorf("the dashboard: %d", door.status)
	}
	for _, m := range rooted.FindAllStringSubmatch(door.body, -1) {
		if got := ask(t, s, "GET", s.Address+m[1], nil); got.status != http.StatusOK {
			t.Errorf("the dashboard names %s: %d", m[1], got.status)
		}
	}
	if got := ask(t, s, "GET", s.Issuer+"/dashboard", nil); got.status != http.StatusNotFound {
		t.Errorf("the dashboard below the path: %d", got.status)
	}
	edda := s.Administrator(t)
	if p := edda.Get(t, s.Address+"/dashboard/projects/"+s.Project.ID+"/settings/issuer"); p.Status != http.StatusOK || !strings.Contains(p.Body, s.Issuer) {
		t.Errorf("settings: %d", p.Status)
	}

	// By https the cookies have the __Host- prefix, which has to have Path=/.
	got := ask(t, s, "GET", s.Address+tenant+"/login", nil, forwarded...)
	cookie := got.header.Get("Set-Cookie")
	if !strings.HasPrefix(cookie, "__Host-postern-") || !strings.Contains(cookie, "; Path=/;") || !strings.Contains(cookie, "; Secure") || strings.Contains(cookie, "Domain") {
		t.Errorf("the cookie is %q", cookie)
	}
	if !strings.HasPrefix(got.header.Get("Location"), tenant+"/flow/") || got.header.Get("Strict-Transport-Security") == "" {
		t.Errorf("got %v", got.header)
	}
	if got := ask(t, s, "GET", s.Address+"/assets/x", nil, forwarded...); got.status != http.StatusNotFound { // not the deployment's host
		t.Errorf("a style sheet at the root of another host: %d", got.status)
	}
}

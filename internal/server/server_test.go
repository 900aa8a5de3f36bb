package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
)

// answer is what a request got.
type answer struct {
	status int
	header http.Header
	body   string
}

// ask sends one request straight to the handler's listener, without following
// redirects. Headers are pairs.
func ask(t *testing.T, s *servertest.Server, method, address string, body io.Reader, headers ...string) answer {
	t.Helper()
	if strings.HasPrefix(address, "/") {
		address = s.Issuer + address
	}
	request, err := http.NewRequestWithContext(t.Context(), method, address, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
			continue
		}
		request.Header.Add(headers[i], headers[i+1])
	}
	client := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport:     &http.Transport{DisableKeepAlives: true},
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{response.StatusCode, response.Header, string(text)}
}

// second adds another project to the server, at another name of this computer.
func second(t *testing.T, s *servertest.Server) *project.Project {
	t.Helper()
	u, err := url.Parse(s.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	issuer := "http://127.0.0.2:" + u.Port()
	p, _, err := s.Projects.Create(t.Context(), project.New{Name: "Second", Issuer: issuer, Environment: project.Test})
	if err != nil {
		t.Fatal(err)
	}
	s.Follow(t)
	return p
}

// Row: I13.
func TestProjectsAreFoundByHost(t *testing.T) {
	s := servertest.New(t, servertest.Config{})
	other := second(t, s)
	u, _ := url.Parse(s.Issuer)
	issuerOf := func(a answer) string {
		var m struct{ Issuer string }
		_ = json.Unmarshal([]byte(a.body), &m) // an answer that is no metadata has no issuer
		return m.Issuer
	}
	for _, test := range []struct {
		name, host, issuer string
	}{
		{"its own host", u.Host, s.Issuer},
		{"in capitals", strings.ToUpper(u.Host), s.Issuer},
		{"another project's host", "127.0.0.2:" + u.Port(), other.Issuer},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, path := range []string{oauth.PathMetadata, oauth.PathDiscovery} {
				got := ask(t, s, "GET", path, nil, "Host", test.host)
				if got.status != 200 || issuerOf(got) != test.issuer {
					t.Errorf("%s: got %d %s, want the issuer %s", path, got.status, got.body, test.issuer)
				}
			}
		})
	}
	for _, host := range []string{"evil.example.com", "localhost", "localhost:1", u.Host + ".evil.example.com", "127.0.0.1:" + u.Port()} {
		t.Run("refused: "+host, func(t *testing.T) {
			for _, path := range []string{oauth.PathMetadata, "/login", "/v1/oauth2/token"} {
				got := ask(t, s, "GET", path, nil, "Host", host)
				if got.status != http.StatusMisdirectedRequest || !strings.Contains(got.body, s.Issuer) || !strings.Contains(got.body, other.Issuer) {
					t.Errorf("%s: got %d %s, want 421 with the issuers", path, got.status, got.body)
				}
			}
		})
	}
	t.Run("the issuer never comes from the request", func(t *testing.T) {
		got := ask(t, s, "GET", oauth.PathMetadata, nil, "X-Forwarded-Host", "evil.example.com", "Forwarded", "host=evil.example.com", "X-Forwarded-Proto", "https")
		if issuerOf(got) != s.Issuer {
			t.Errorf("got %s", got.body)
		}
	})
	t.Run("health answers on any host", func(t *testing.T) {
		for _, path := range []string{"/healthz", "/readyz"} {
			s.Ready(t)
			if got := ask(t, s, "GET", path, nil, "Host", "10.1.2.3"); got.status != 200 {
				t.Errorf("%s: got %d %s", path, got.status, got.body)
			}
		}
	})
	t.Run("a path that names another project is refused", func(t *testing.T) {
		for path, want := range map[string]int{
			"/v1/sessions/jwks/" + s.Project.ID:     200,
			"/v1/b2b/sessions/jwks/" + s.Project.ID: 200,
			"/v1/sessions/jwks/" + other.ID:         404,
			"/v1/b2b/sessions/jwks/project-test-x":  404,
		} {
			if got := ask(t, s, "GET", path, nil); got.status != want {
				t.Errorf("%s: got %d, want %d", path, got.status, want)
			}
		}
		if got := ask(t, s, "POST", "/v1/public/"+other.ID+"/oauth2/token", nil); got.status != 404 {
			t.Errorf("token endpoint of another project: got %d", got.status)
		}
		if got := ask(t, s, "POST", "/v1/public/"+s.Project.ID+"/oauth2/token", strings.NewReader("grant_type=x"),
			"Content-Type", "application/x-www-form-urlencoded"); got.status == 404 {
			t.Errorf("own token endpoint by project id: got %d", got.status)
		}
	})
}

func TestForwardedHeadersCountFromNamedProxiesOnly(t *testing.T) {
	proxied := servertest.New(t, servertest.Config{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}})
	p, _, err := proxied.Projects.Create(t.Context(), project.New{Name: "Public", Issuer: "https://auth.example.com", Environment: project.Test})
	if err != nil {
		t.Fatal(err)
	}
	proxied.Follow(t)
	forwarded := []string{"X-Forwarded-Host", "auth.example.com", "X-Forwarded-Proto", "https", "X-Forwarded-For", "203.0.113.9"}
	got := ask(t, proxied, "GET", oauth.PathMetadata, nil, forwarded...)
	if got.status != 200 || !strings.Contains(got.body, `"issuer":"https://auth.example.com"`) {
		t.Errorf("from a named proxy: got %d %s", got.status, got.body)
	}
	if got := ask(t, proxied, "GET", "/login", nil, forwarded...); !strings.Contains(got.header.Get("Set-Cookie"), "__Host-postern-") || got.header.Get("Strict-Transport-Security") == "" {
		t.Errorf("a page by https sets no __Host- cookie or no HSTS: %v", got.header)
	}
	if !strings.Contains(proxied.Log.String(), "203.0.113.9") {
		t.Error("the log does not name the address that the proxy told")
	}
	_ = p

	direct := servertest.New(t, servertest.Config{})
	if _, _, err := direct.Projects.Create(t.Context(), project.New{Name: "Public", Issuer: "https://auth.example.com", Environment: project.Test}); err != nil {
		t.Fatal(err)
	}
	direct.Follow(t)
	got = ask(t, direct, "GET", oauth.PathMetadata, nil, forwarded...)
	if !strings.Contains(got.body, `"issuer":"`+direct.Issuer+`"`) {
		t.Errorf("from anybody else: got %d %s, want the issuer of the Host header", got.status, got.body)
	}
	if strings.Contains(direct.Log.String(), "203.0.113.9") {
		t.Error("the log believes an address that a stranger claimed")
	}
}

// Row: I13. Proves: MCP-AS-9
func TestUnknownPathsArePlainlyNotFound(t *testing.T) {
	s := servertest.New(t, servertest.Config{})
	for _, path := range []string{
		"/.well-known/", "/.well-known/oauth-protected-resource", "/.well-known/oauth-authorization-server/x",
		"/.well-known/security.txt", "/v1/", "/v1/oauth2/nothing", "/v1/users",
	} {
		t.Run(path, func(t *testing.T) {
			got := ask(t, s, "GET", path, nil)
			if got.status != 404 || got.header.Get("Content-Type") != "application/json" || !json.Valid([]byte(got.body)) {
				t.Errorf("got %d %s %q", got.status, got.header.Get("Content-Type"), got.body)
			}
		})
	}
	t.Run("a page that is not there is a page", func(t *testing.T) {
		got := ask(t, s, "GET", "/nothing", nil)
		if got.status != 404 || !strings.HasPrefix(got.header.Get("Content-Type"), "text/html") {
			t.Errorf("got %d %s", got.status, got.header.Get("Content-Type"))
		}
	})
	t.Run("a wrong method names the right ones", func(t *testing.T) {
		got := ask(t, s, "PUT", oauth.PathToken, nil)
		if got.status != 405 || !strings.Contains(got.header.Get("Allow"), "POST") {
			t.Errorf("got %d, Allow %q", got.status, got.header.Get("Allow"))
		}
		got = ask(t, s, "DELETE", oauth.PathAuthorize, nil)
		if got.status != 405 || got.header.Get("Allow") != "GET, HEAD, POST" {
			t.Errorf("authorize: got %d, Allow %q", got.status, got.header.Get("Allow"))
		}
	})
}

// Browsers of any origin may call what programs in them need, without
// credentials, and nothing else.
//
// Proves: MCP-AS-10, OIDC-5.3-a
func TestCORS(t *testing.T) {
	s := servertest.New(t, servertest.Config{})
	preflight := func(path, method string) answer {
		return ask(t, s, "OPTIONS", path, nil, "Origin", "https://inspector.example.com",
			"Access-Control-Request-Method", method, "Access-Control-Request-Headers", "authorization,content-type,dpop,mcp-protocol-version")
	}
	for path, method := range map[string]string{
		oauth.PathMetadata: "GET", oauth.PathDiscovery: "GET", oauth.PathJWKS: "GET",
		oauth.PathToken: "POST", oauth.PathRegister: "POST", oauth.PathRevoke: "POST", oauth.PathUserinfo: "GET",
		"/v1/public/" + s.Project.ID + "/oauth2/token": "POST",
	} {
		t.Run("open: "+path, func(t *testing.T) {
			got := preflight(path, method)
			if got.status >= 300 || got.header.Get("Access-Control-Allow-Origin") != "*" || got.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("preflight: got %d %v", got.status, got.header)
			}
			allowed := strings.ToLower(got.header.Get("Access-Control-Allow-Headers"))
			for _, name := range []string{"authorization", "content-type", "mcp-protocol-version", "dpop"} {
				if !strings.Contains(allowed, name) {
					t.Errorf("preflight does not allow %s: %q", name, allowed)
				}
			}
			got = ask(t, s, method, path, nil, "Origin", "https://inspector.example.com")
			if got.header.Get("Access-Control-Allow-Origin") != "*" || got.header.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("%s: got %v", method, got.header)
			}
		})
	}
	for _, path := range []string{oauth.PathAuthorize, oauth.PathIntrospect, "/login", "/connected-apps", "/sign-out", oauth.PathLogout} {
		t.Run("closed: "+path, func(t *testing.T) {
			for _, got := range []answer{preflight(path, "GET"), ask(t, s, "GET", path, nil, "Origin", "https://inspector.example.com")} {
				for name := range got.header {
					if strings.HasPrefix(name, "Access-Control-") {
						t.Errorf("got %s: %q", name, got.header.Get(name))
					}
				}
			}
		})
	}
}

func TestPagesTakeFormsOfOwnPagesOnly(t *testing.T) {
	s := servertest.New(t, servertest.Config{})
	got := ask(t, s, "POST", "/sign-out", strings.NewReader("action=sign_out"),
		"Content-Type", "application/x-www-form-urlencoded", "Origin", "https://evil.example.com", "Sec-Fetch-Site", "cross-site")
	if got.status != http.StatusForbidden {
		t.Errorf("a form of another site: got %d", got.status)
	}
	// OpenID Connect RP-Initiated Logout 1.0 §2 lets another site post here.
	got = ask(t, s, "POST", oauth.PathLogout, strings.NewReader(""),
		"Content-Type", "application/x-www-form-urlencoded", "Origin", "https://app.example.com", "Sec-Fetch-Site", "cross-site")
	if got.status >= http.StatusBadRequest {
		t.Errorf("logout by another site's form: got %d %s", got.status, got.body)
	}
}

// A flood from one address is stopped; others, and who sits on this computer,
// do not notice.
func TestFloodsAreStoppedPerAddress(t *testing.T) {
	s := servertest.New(t, servertest.Config{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	from := func(address string) []string { return []string{"X-Forwarded-For", address} }
	last := answer{}
	for range 61 {
		last = ask(t, s, "GET", oauth.PathAuthorize, nil, from("203.0.113.9")...)
	}
	if last.status != http.StatusTooManyRequests || last.header.Get("Retry-After") == "" {
		t.Errorf("request 61 in a minute got %d, Retry-After %q", last.status, last.header.Get("Retry-After"))
	}
	if got := ask(t, s, "GET", oauth.PathAuthorize, nil, from("203.0.113.10")...); got.status == http.StatusTooManyRequests {
		t.Error("another address is stopped too")
	}
	if got := ask(t, s, "GET", oauth.PathMetadata, nil, from("203.0.113.9")...); got.status != http.StatusOK {
		t.Errorf("another endpoint is stopped too: %d", got.status)
	}
	s.Clock.Advance(time.Minute)
	if got := ask(t, s, "GET", oauth.PathAuthorize, nil, from("203.0.113.9")...); got.status == http.StatusTooManyRequests {
		t.Error("a minute later it is still stopped")
	}
	for range 130 {
		last = ask(t, s, "GET", oauth.PathAuthorize, nil)
	}
	if last.status == http.StatusTooManyRequests {
		t.Error("this computer is limited")
	}
}

// A resource server asks from one address for all its callers, so it may ask more
// often than others, and still not without end.
func TestIntrospectionHasALimitOfItsOwn(t *testing.T) {
	s := servertest.New(t, servertest.Config{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	limited := func(path string) bool {
		return ask(t, s, "GET", path, nil, "X-Forwarded-For", "203.0.113.9").status == http.StatusTooManyRequests
	}
	for path, limit := range map[string]int{oauth.PathMetadata: 600, oauth.PathIntrospect: 6000} {
		for n := range limit {
			if limited(path) {
				t.Fatalf("%s: request %d in a minute is stopped", path, n+1)
			}
		}
		if !limited(path) {
			t.Errorf("%s: request %d in a minute is not stopped", path, limit+1)
		}
	}
}

func TestChangesBesideTheServerAreFollowed(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		s := servertest.New(t, c)
		if got := ask(t, s, "GET", oauth.PathMetadata, nil); !strings.Contains(got.body, "registration_endpoint") {
			t.Fatalf("got %s", got.body)
		}
		if _, err := s.Projects.Change(t.Context(), s.Project.ID, func(p *project.Project) error {
			p.Settings.DynamicRegistration = false
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		deadline := time.Now().Add(5 * time.Second)
		for strings.Contains(ask(t, s, "GET", oauth.PathMetadata, nil).body, "registration_endpoint") {
			if time.Now().After(deadline) {
				t.Fatal("after five seconds the server still offers registration")
			}
			time.Sleep(50 * time.Millisecond)
		}
	})
}

func TestNewProjectGetsItsKeys(t *testing.T) {
	s := servertest.New(t, servertest.Config{})
	p := second(t, s)
	got := ask(t, s, "GET", oauth.PathJWKS, nil, "Host", project.IssuerHost(p.Issuer))
	if !strings.Contains(got.body, `"ES256"`) || !strings.Contains(got.body, `"RS256"`) {
		t.Errorf("got %s", got.body)
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	s := servertest.New(t, servertest.Config{})
	// A request whose body is still on its way when the server is told to end.
	conn, err := net.Dial("tcp", strings.TrimPrefix(strings.Replace(s.Issuer, "localhost", "127.0.0.1", 1), "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := "grant_type=authorization_code"
	fmt.Fprintf(conn, "POST /v1/oauth2/token HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n",
		strings.TrimPrefix(s.Issuer, "http://"), len(body))
	goOn := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n")) // comes when the handler reads the body
	if _, err := io.ReadFull(conn, goOn); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, body[:5])
	ended := make(chan struct{})
	go func() {
		s.Stop()
		close(ended)
	}()
	time.Sleep(100 * time.Millisecond)
	if c, err := net.DialTimeout("tcp", conn.RemoteAddr().String(), time.Second); err == nil {
		c.Close()
		t.Error("a new connection was taken after the server was told to end")
	}
	fmt.Fprint(conn, body[5:])
	answer := make([]byte, 12)
	if _, err := io.ReadFull(conn, answer); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 4") {
		t.Errorf("the running request got %q, %v", answer, err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the server has not ended after five seconds")
	}
}

func TestDevelopmentSendsNumbersToTheName(t *testing.T) {
	s := servertest.New(t, servertest.Config{Dev: &server.Dev{}})
	u, _ := url.Parse(s.Issuer)
	for _, host := range []string{"127.0.0.1:" + u.Port(), "[::1]:" + u.Port()} {
		got := ask(t, s, "GET", "/login?x=1", nil, "Host", host)
		if got.status != http.StatusTemporaryRedirect || got.header.Get("Location") != s.Issuer+"/login?x=1" {
			t.Errorf("%s: got %d to %q", host, got.status, got.header.Get("Location"))
		}
		if got := ask(t, s, "GET", oauth.PathMetadata, nil, "Host", host); got.status != http.StatusMisdirectedRequest {
			t.Errorf("%s: metadata by number: got %d", host, got.status)
		}
		if got := ask(t, s, "POST", "/sign-out", nil, "Host", host); got.status != http.StatusMisdirectedRequest {
			t.Errorf("%s: a form by number: got %d", host, got.status)
		}
	}
}

// On PostgreSQL nobody migrates by accident: a server waits, says so, and goes
// on when somebody did.
func TestNotReadyUntilMigrated(t *testing.T) {
	data := server.Data{Folder: t.TempDir(), Database: servertest.NewDatabase(t), MasterKey: servertest.NewMasterKey(), Now: time.Now}
	storage, err := data.Open(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close()
	log := &servertest.Log{}
	s, err := server.Open(t.Context(), server.Config{
		Storage: storage, URL: "http://localhost:4000", Mail: mail.NewRecorder(1, time.Now), Log: slog.New(slog.NewJSONHandler(log, nil)), Now: time.Now, Version: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
	listeners, err := server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, listeners) }()
	status := func(path string) int {
		response, err := http.Get("http://" + listeners[0].Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, oauth.PathMetadata: 503} {
		if got := status(path); got != want {
			t.Errorf("before the migration %s answers %d, want %d", path, got, want)
		}
	}
	if err := storage.DB.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(5 * time.Second); status("/readyz") != 200; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("five seconds after the migration the server is not ready")
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("the server ended with %v", err)
	}
	if !strings.Contains(log.String(), "postern migrate") {
		t.Error("the log does not name the command")
	}
}

func TestListen(t *testing.T) {
	first, err := server.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first[0].Close()
	taken := first[0].Addr().String()
	listeners, err := server.Listen("127.0.0.1:0", taken)
	var busy *server.Taken
	if !asTaken(err, &busy) || busy.Address != taken || busy.Port != first[0].Addr().(*net.TCPAddr).Port {
		t.Errorf("got %v, %v, want the taken address %s", listeners, err, taken)
	}
}

func asTaken(err error, to **server.Taken) bool {
	var t *server.Taken
	ok := errors.As(err, &t)
	*to = t
	return ok
}

// A person signs in, allows a client, and the client gets a token that
// introspection knows: the whole assembly in one breath, on both databases.
func TestWholeFlow(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		var told []audit.Event
		c.Dev = &server.Dev{Told: func(e audit.Event, _ []string) { told = append(told, e) }}
		s := servertest.New(t, c)
		s.AddResource(t, "https://notes.example.com/mcp",
			project.Scope{Name: "read:notes", Description: "Read your notes", ReadOnly: true},
			project.Scope{Name: "write:notes", Description: "Change your notes"})
		client, _ := s.AddClient(t, oauth.NewClient{Name: "Terminal", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{"http://127.0.0.1/callback"}})
		b := s.Browser(t)
		page := b.Authorize(t, url.Values{
			"client_id": {client.ID}, "redirect_uri": {"http://127.0.0.1:5123/callback"}, "response_type": {"code"}, "state": {"xyz"},
			"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
			"scope": {"read:notes write:notes"}, "resource": {"https://notes.example.com/mcp"},
		})
		page = b.SignIn(t, page, "ada@example.test")
		if page.Status != 200 || !strings.Contains(page.Body, "Change your notes") {
			t.Fatalf("got %d:\n%s", page.Status, page.Body)
		}
		to := b.Allow(t, page)
		if q := to.Query(); to.Host != "127.0.0.1:5123" || q.Get("state") != "xyz" || q.Get("iss") != s.Issuer {
			t.Fatalf("the answer goes to %s", to)
		}
		got := ask(t, s, "POST", oauth.PathToken, strings.NewReader(url.Values{
			"grant_type": {"authorization_code"}, "client_id": {client.ID}, "code": {to.Query().Get("code")},
			"code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}, "redirect_uri": {"http://127.0.0.1:5123/callback"},
		}.Encode()), "Content-Type", "application/x-www-form-urlencoded")
		if got.status != 200 || !strings.Contains(got.body, `"refresh_token"`) {
			t.Fatalf("got %d %s", got.status, got.body)
		}
		for _, kind := range []audit.Kind{audit.SignedIn, audit.GrantAllowed, audit.TokenIssued} {
			if !slices.ContainsFunc(told, func(e audit.Event) bool { return e.Kind == kind && !e.Refused }) {
				t.Errorf("nobody was told of %s: %+v", kind, told)
			}
		}
		if log := s.Log.String(); strings.Contains(log, to.Query().Get("code")) || strings.Contains(log, "ada@example.test") {
			t.Error("the log holds a code or an address")
		}
	})
}

func TestOpenNeedsEverything(t *testing.T) {
	if _, err := server.Open(context.Background(), server.Config{}); err == nil {
		t.Error("an empty configuration was taken")
	}
}

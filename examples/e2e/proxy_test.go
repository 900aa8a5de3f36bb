package e2e_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// The names of the two hosts, and what a client that lies says of itself.
const (
	authName  = "auth.example.test"
	okrName   = "okr.example.test"
	liedPeer  = "203.0.113.9"
	liedHost  = "evil.example"
	peerOfAll = "127.0.0.2" // where clients come from; the proxy is 127.0.0.1
)

// site is Postern and the OKR manager as they stand on a host: behind one
// reverse proxy that speaks TLS, each under a name of its own.
type site struct {
	*office
	address    string // where the proxy listens
	postern    string // where Postern listens, behind it
	backends   map[string]*url.URL
	httpClient *http.Client // of somebody far away, who lies
}

// newSite sets one up. The proxy appends to X-Forwarded-For and sets Host, Proto
// and nothing else, as docs/guide/deploy.md shows it for nginx.
func newSite(t *testing.T) *site {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("a client with another address than the proxy needs 127.0.0.2, which Linux has")
	}
	s := &site{backends: map[string]*url.URL{}}
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			name, _, _ := strings.Cut(r.In.Host, ":")
			r.SetURL(s.backends[name])
			r.Out.Host = r.In.Host
			for _, passed := range []string{"X-Forwarded-For", "Forwarded"} {
				r.Out.Header[passed] = r.In.Header[passed]
			}
			r.SetXForwarded()
		},
		FlushInterval: -1,
	})
	certificate, authority := newCertificate(t, authName, okrName)
	front.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	front.StartTLS()
	t.Cleanup(front.Close)
	s.address = front.Listener.Addr().String()
	_, port, err := net.SplitHostPort(s.address)
	if err != nil {
		t.Fatal(err)
	}
	s.httpClient = s.client(t, certificate)

	mails := newMailServer(t)
	inner, okrPort := freePort(t), freePort(t)
	s.postern = "http://127.0.0.1:" + inner
	s.backends[authName], s.backends[okrName] = &url.URL{Scheme: "http", Host: "127.0.0.1:" + inner}, &url.URL{Scheme: "http", Host: "127.0.0.1:" + okrPort}
	p := &postern{issuer: "https://" + authName + ":" + port, dir: t.TempDir(), codes: mails.all}
	p.env = environment(
		"POSTERN_URL="+p.issuer, "POSTERN_LISTEN=127.0.0.1:"+inner, "POSTERN_BEHIND_PROXY=127.0.0.1/32",
		"POSTERN_DATA="+filepath.Join(p.dir, "data"),
		"POSTERN_MAIL_HOST=127.0.0.1", "POSTERN_MAIL_PORT="+mails.port, "POSTERN_MAIL_SECURITY=none", "POSTERN_MAIL_FROM=codes@example.test",
	)
	p.process = start(t, p.dir, p.env, "postern", "serve")
	p.await(t, s.postern+"/healthz")
	p.run(t, nil, "project", "create", "OKR", "--b2b")
	policy, err := filepath.Abs("../okr/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p.run(t, nil, "policy", "apply", "--yes", "-f", policy)
	s.office = &office{p, "https://" + okrName + ":" + port}
	add := []string{"resource", "add", s.okr + "/mcp", "--offline", "--default", "--alias", s.okr + "/sse", "--secret"}
	for _, scope := range everyScope() {
		add = append(add, "--scope", scope)
	}
	var registered resource
	p.run(t, &registered, add...)
	var web struct {
		ID string `json:"client_id"`
	}
	p.run(t, &web, "client", "create", "--name", "OKR", "--type", "first-party-public", "--bypass-consent", "--redirect-uri", s.okr+"/callback")
	s.awaitProject(t)
	start(t, p.dir, environment(
		"OKR_URL="+s.okr, "OKR_LISTEN=127.0.0.1:"+okrPort, "OKR_ISSUER="+p.issuer, "OKR_CLIENT_ID="+web.ID, "OKR_DATA="+filepath.Join(p.dir, "okr.db"),
		"OKR_INTROSPECTION_ID="+registered.ID, "OKR_INTROSPECTION_SECRET="+registered.Secret, "SSL_CERT_FILE="+authority,
	), okrWithNames(t)).await(t, "http://127.0.0.1:"+okrPort+"/healthz")
	return s
}

// awaitProject waits until the server has seen everything that was set up.
func (s *site) awaitProject(t *testing.T) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if resp, body := s.get(t, s.issuer+metadataPath); resp.StatusCode == http.StatusOK && strings.Contains(body, manageObjectives) && strings.Contains(body, s.okr) {
			return
		}
	}
	t.Fatal("the server does not follow what was set up beside it")
}

// okrWithNames builds the OKR manager with a resolver for the two names.
func okrWithNames(t *testing.T) string {
	t.Helper()
	names, err := filepath.Abs("testdata/names.go.txt")
	if err != nil {
		t.Fatal(err)
	}
	okr, err := filepath.Abs("../okr")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{filepath.Join(okr, "names.go"): names}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(dir, "okr")
	build := exec.CommandContext(t.Context(), "go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", program, ".")
	build.Dir = okr
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build okr: %v\n%s", err, out)
	}
	return program
}

// client is somebody at peerOfAll, who finds both names at the proxy and forges
// what proxies say.
func (s *site) client(t *testing.T, certificate tls.Certificate) *http.Client {
	t.Helper()
	trusted, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(trusted)
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(peerOfAll)}}
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if name, _, _ := net.SplitHostPort(address); name == authName || name == okrName {
				address = s.address
			}
			return dialer.DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: forging{transport}, Timeout: 20 * time.Second}
}

// forged is what a stranger claims about a request of their own.
func forged() http.Header {
	return http.Header{
		"X-Forwarded-For": {liedPeer}, "X_forwarded_for": {liedPeer}, "X-Real-Ip": {liedPeer},
		"X-Forwarded-Host": {liedHost}, "X_forwarded_host": {liedHost}, "X-Original-Host": {liedHost},
		"X-Forwarded-Proto": {"http"}, "X-Forwarded-Port": {"80"}, "X-Forwarded-Prefix": {"/" + liedHost},
		"X-Forwarded-Uri": {"/" + liedHost}, "X-Original-Url": {"/" + liedHost},
		"Forwarded": {"for=" + liedPeer + ";host=" + liedHost + ";proto=http"},
	}
}

type forging struct{ http.RoundTripper }

func (f forging) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	for name, values := range forged() {
		r.Header[name] = values
	}
	return f.RoundTripper.RoundTrip(r)
}

// From the bare address of the MCP server to a tool call, by names that only
// the proxy has, for a client that lies about its own: every address in every
// document is the configured one, cookies are for https, and the log has the
// peer that the proxy saw.
//
// Row: D15
func TestBehindProxy(t *testing.T) {
	s := newSite(t)
	ada, a := s.member(t, s.organization(t, "fennel"), "ada@example.test", "manager")
	ada.browser.Transport, a.transport = s.httpClient.Transport, s.httpClient.Transport

	session := a.mustConnect(s.okr + "/mcp")
	a.wantTrail(t, "POST /mcp 401", "GET /.well-known/oauth-protected-resource/mcp 200", "GET "+metadataPath+" 200",
		"POST /v1/oauth2/register 201", "POST /v1/oauth2/token 200", "POST /mcp 200")
	if got := objectives(t, session); len(got) == 0 { // an organization begins with one
		t.Error("no objective came back")
	}
	old, _ := a.wallet.now()
	a.wallet.expire()
	objectives(t, session)
	if renewed, err := a.wallet.now(); err != nil || renewed.AccessToken == old.AccessToken {
		t.Errorf("refresh: %v", err)
	}

	t.Run("the documents name the configured addresses", func(t *testing.T) {
		for address, want := range map[string][]string{
			s.issuer + metadataPath: {
				`"issuer":"` + s.issuer + `"`, `"token_endpoint":"` + s.issuer + "/", `"authorization_endpoint":"` + s.issuer + "/", `"jwks_uri":"` + s.issuer + "/",
				`"protected_resources":["` + s.okr + `/mcp"`,
			},
			s.issuer + "/.well-known/openid-configuration":      {`"issuer":"` + s.issuer + `"`},
			s.okr + "/.well-known/oauth-protected-resource/mcp": {`"resource":"` + s.okr + `/mcp"`, `"authorization_servers":["` + s.issuer + `"]`},
		} {
			resp, body := s.get(t, address)
			for _, text := range want {
				if !strings.Contains(strings.ReplaceAll(body, `": `, `":`), text) {
					t.Errorf("%s has no %s:\n%s", address, text, body)
				}
			}
			if all := fmt.Sprint(resp.Header, body); strings.Contains(all, liedHost) || strings.Contains(all, "http://") {
				t.Errorf("%s answers %s", address, all)
			}
		}
		resp, _ := s.get(t, s.okr+"/mcp")
		if challenge := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized ||
			!strings.Contains(challenge, `resource_metadata="`+s.okr+`/.well-known/oauth-protected-resource/mcp"`) {
			t.Errorf("%d, %s", resp.StatusCode, challenge)
		}
	})

	t.Run("pages and cookies are for https at the configured host", func(t *testing.T) {
		for _, page := range ada.asked {
			if page.url.Scheme+"://"+page.url.Host != s.issuer || strings.Contains(page.body, liedHost) {
				t.Errorf("the consent page is at %s", page.url)
			}
		}
		begin, _ := s.get(t, s.okr+"/login")
		onward, err := begin.Location()
		if err != nil || onward.Scheme+"://"+onward.Host != s.issuer || onward.Query().Get("redirect_uri") != s.okr+"/callback" {
			t.Fatalf("sign-in leads to %v, %v", onward, err)
		}
		flow, _ := s.get(t, onward.String())
		cookies := append(begin.Cookies(), flow.Cookies()...)
		if len(cookies) < 2 {
			t.Errorf("cookies %v", cookies)
		}
		for _, c := range cookies {
			if !c.Secure || !c.HttpOnly || c.Domain != "" {
				t.Errorf("cookie %s", c)
			}
		}
		if !slices.ContainsFunc(flow.Cookies(), func(c *http.Cookie) bool { return strings.HasPrefix(c.Name, "__Host-postern-") }) {
			t.Errorf("the issuer's cookies are %v", flow.Cookies())
		}
		if flow.Header.Get("Strict-Transport-Security") == "" {
			t.Error("no Strict-Transport-Security")
		}
	})

	t.Run("who is no proxy is not believed", func(t *testing.T) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.postern+metadataPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		u, err := url.Parse(s.issuer)
		if err != nil {
			t.Fatal(err)
		}
		direct := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(peerOfAll)}}).DialContext, DisableKeepAlives: true}
		r.Header.Set("X-Forwarded-Host", u.Host)
		r.Header.Set("X-Forwarded-Proto", "https")
		status, body, err := roundTrip(&http.Client{Transport: direct}, r)
		if err != nil || status != http.StatusMisdirectedRequest {
			t.Errorf("from beside the proxy with the proxy's words: %d %s, %v", status, body, err)
		}
	})

	t.Run("log and audit trail have the peer that the proxy saw", func(t *testing.T) {
		routes := map[string]bool{}
		for line := range strings.Lines(s.out.String()) {
			var entry struct{ Msg, Method, Route, IP, Agent string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "request" && entry.IP == peerOfAll {
				routes[entry.Route] = true
			}
		}
		for _, route := range []string{"POST /v1/oauth2/register", "GET /oauth/authorize", "POST /v1/oauth2/token"} {
			if !routes[route] {
				t.Errorf("no %s from %s; there are %v", route, peerOfAll, routes)
			}
		}
		if out := s.out.String(); strings.Contains(out, liedPeer) || strings.Contains(out, liedHost) {
			t.Error("what the client forged is in the log")
		}
		var events []struct{ Kind, Address string }
		s.run(t, &events, "audit", "list", "--limit", "1000")
		issued := false
		for _, e := range events {
			issued = issued || e.Kind == "token.issued" && e.Address == peerOfAll
			if e.Address == liedPeer {
				t.Errorf("%s is said to come from what the client forged", e.Kind)
			}
		}
		if !issued {
			t.Errorf("no token.issued from %s in the audit trail: %v", peerOfAll, events)
		}
	})
}

// get asks for an address once, without a cookie, and follows nothing.
func (s *site) get(t *testing.T, address string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := s.httpClient.Transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

// mailServer takes mails by SMTP and keeps them.
type mailServer struct {
	port string

	mu    sync.Mutex
	mails []mail
}

func newMailServer(t *testing.T) *mailServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	m := &mailServer{}
	_, m.port, _ = net.SplitHostPort(l.Addr().String())
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go m.take(conn)
		}
	}()
	return m
}

// take speaks as much of RFC 5321 as a client needs that wants no login.
func (m *mailServer) take(conn net.Conn) {
	defer conn.Close()
	fmt.Fprint(conn, "220 mail.example.test\r\n")
	var now mail
	data := false
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		line := lines.Text()
		switch verb := strings.ToUpper(line); {
		case data && line == ".":
			m.mu.Lock()
			m.mails = append(m.mails, now)
			m.mu.Unlock()
			now, data = mail{}, false
			fmt.Fprint(conn, "250 kept\r\n")
		case data:
			now.Text += line + "\n"
		case strings.HasPrefix(verb, "RCPT TO:"):
			now.To = strings.Trim(line[len("RCPT TO:"):], " <>")
			fmt.Fprint(conn, "250 ok\r\n")
		case verb == "DATA":
			data = true
			fmt.Fprint(conn, "354 go on\r\n")
		case verb == "QUIT":
			fmt.Fprint(conn, "221 bye\r\n")
			return
		default:
			fmt.Fprint(conn, "250 ok\r\n")
		}
	}
}

func (m *mailServer) all() ([]mail, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mails), nil
}

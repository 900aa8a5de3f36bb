package guard_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
)

func get(h http.Handler, method, url string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, url, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestMetadata proves which paths answer, with what, and that everybody may
// read it.
//
// Row: J25. Proves: MCP-RS-1, MCP-RS-2, MCP-RS-3, MCP-RS-15, MCP-RS-28, RFC9728-2-b, RFC9728-2-c, RFC9728-2-d, RFC9728-2-e,
// RFC9728-3-a, RFC9728-3.1-a, RFC9728-3.2-a, RFC9728-3.3-a, RFC9728-3.3-b, RFC9728-5.1-a.
func TestMetadata(t *testing.T) {
	issuer := guardtest.New(t)
	const prm = "/.well-known/oauth-protected-resource"
	for _, c := range []struct {
		resource string
		at       []string
		notAt    []string
	}{
		{"http://localhost:8080/mcp", []string{prm + "/mcp"}, []string{prm, prm + "/", prm + "/mcp/", prm + "/other", prm + "/MCP"}},
		{"http://localhost:8080", []string{prm}, []string{prm + "/mcp", prm + "/"}},
		{"https://notes.example.com/a/b", []string{prm + "/a/b"}, []string{prm, prm + "/a"}},
	} {
		cfg := issuer.Config(c.resource, "read", "write")
		cfg.Scopes[1].Write = true
		cfg.Name, cfg.Documentation = "Notes", "https://notes.example.com/help"
		g := newGuard(t, cfg)
		mux := http.NewServeMux()
		mux.Handle("/.well-known/", g.Metadata())
		for _, path := range c.at {
			w := get(mux, http.MethodGet, path)
			var doc map[string]any
			if err := json.Unmarshal(w.Body.Bytes(), &doc); w.Code != 200 || err != nil {
				t.Fatalf("%s of %s: %d %v", path, c.resource, w.Code, err)
			}
			if doc["resource"] != c.resource || doc["authorization_servers"].([]any)[0] != issuer.URL ||
				doc["resource_name"] != "Notes" || doc["resource_documentation"] != "https://notes.example.com/help" {
				t.Errorf("document %v", doc)
			}
			if want := `["read","write"]`; !strings.Contains(w.Body.String(), `"scopes_supported":`+want) ||
				!strings.Contains(w.Body.String(), `{"name":"write","description":"May write","write":true}`) {
				t.Errorf("document %s", w.Body)
			}
			if w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Access-Control-Allow-Origin") != "*" {
				t.Errorf("headers %v", w.Header())
			}
			if again := get(mux, http.MethodGet, path, "If-None-Match", w.Header().Get("ETag")); again.Code != 304 {
				t.Errorf("unchanged: %d", again.Code)
			}
			if w := get(mux, http.MethodOptions, path, "Origin", "https://web.example.com"); w.Code != 204 {
				t.Errorf("preflight: %d", w.Code)
			}
			if w := get(mux, http.MethodPost, path); w.Code != 405 {
				t.Errorf("POST: %d", w.Code)
			}
			// The challenge names the same place.
			challenge := get(g.Protect(&ran{}), http.MethodGet, c.resource).Header().Get("WWW-Authenticate")
			origin := c.resource[:strings.Index(c.resource[8:]+"/", "/")+8]
			if !strings.Contains(challenge, `resource_metadata="`+origin+path+`"`) {
				t.Errorf("challenge %s", challenge)
			}
		}
		for _, path := range append(c.notAt, "/.well-known/openid-configuration", "/.well-known/x") {
			if w := get(mux, http.MethodGet, path); w.Code != 404 {
				t.Errorf("%s of %s: %d, want 404", path, c.resource, w.Code)
			}
		}
	}
}

// TestMetadataWithoutScopes proves that what has no value is left out.
//
// Proves: RFC9728-3.2-b.
func TestMetadataWithoutScopes(t *testing.T) {
	issuer := guardtest.New(t)
	g := newGuard(t, guard.Config{Issuer: issuer.URL, Resource: resource})
	w := get(g.Metadata(), http.MethodGet, "/.well-known/oauth-protected-resource/mcp")
	want := `{"resource":"` + resource + `","authorization_servers":["` + issuer.URL + `"],"bearer_methods_supported":["header"]}`
	if got := strings.TrimSpace(w.Body.String()); w.Code != 200 || got != want {
		t.Errorf("%d %s\nwant %s", w.Code, got, want)
	}
}

// TestIssuerCopy proves that clients of revision 2025-03-26 find the issuer's
// document on the resource's origin, and that it is fetched once.
func TestIssuerCopy(t *testing.T) {
	issuer := guardtest.New(t)
	h := newGuard(t, issuer.Config(resource)).Metadata()
	const path = "/.well-known/oauth-authorization-server"
	issuer.Down(true)
	if w := get(h, http.MethodGet, path); w.Code != 503 {
		t.Errorf("issuer down: %d", w.Code)
	}
	issuer.Down(false)
	issuer.Advance(time.Second)
	before := issuer.Hits(path)
	for range 5 {
		w := get(h, http.MethodGet, path)
		if w.Code != 200 || !strings.Contains(w.Body.String(), `"issuer":"`+issuer.URL+`"`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
	if n := issuer.Hits(path) - before; n != 1 {
		t.Errorf("fetched %d times", n)
	}
}

// TestOrigin proves that pages of foreign origins and rebound names are
// refused before anything else, and that allowed ones can read the challenge.
//
// Row: X02, X03. Proves: MCP-RS-16, MCP-RS-28.
func TestOrigin(t *testing.T) {
	issuer := guardtest.New(t)
	local := newGuard(t, issuer.Config(resource))
	cfg := issuer.Config("https://notes.example.com/mcp")
	cfg.AllowedOrigins = []string{"https://web.example.com"}
	public := newGuard(t, cfg)
	cfg.AllowedOrigins = []string{"*"}
	open := newGuard(t, cfg)
	for _, c := range []struct {
		name         string
		g            *guard.Guard
		host, origin string
		allowed      bool
	}{
		{"no origin", local, "localhost:8080", "", true},
		{"own origin", local, "localhost:8080", "http://localhost:8080", true},
		{"another loopback page", local, "127.0.0.1:8080", "http://localhost:6274", true},
		{"IPv6 loopback", local, "[::1]:8080", "http://[::1]:6274", true},
		{"foreign page", local, "localhost:8080", "https://evil.example.com", false},
		{"rebound name", local, "evil.example.com:8080", "", false},
		{"rebound name with its origin", local, "evil.example.com:8080", "http://evil.example.com:8080", false},
		{"null", local, "localhost:8080", "null", false},
		{"name that begins like ours", local, "localhost:8080", "http://localhost.evil.example.com", false},
		{"public: own origin", public, "notes.example.com", "https://notes.example.com", true},
		{"public: listed", public, "notes.example.com", "https://web.example.com", true},
		{"public: not listed", public, "notes.example.com", "https://evil.example.com", false},
		{"public: listed, other port", public, "notes.example.com", "https://web.example.com:8443", false},
		{"public: loopback page", public, "notes.example.com", "http://localhost:6274", false},
		{"public: behind a proxy", public, "10.0.0.7:8080", "", true},
		{"open to all", open, "notes.example.com", "https://anything.example.com", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, method := range []string{http.MethodPost, http.MethodOptions} {
				r := httptest.NewRequest(method, "/mcp", nil)
				r.Host = c.host
				if c.origin != "" {
					r.Header.Set("Origin", c.origin)
				}
				r.Header.Set("Access-Control-Request-Method", "POST")
				r.Header.Set("Access-Control-Request-Headers", "authorization, Mcp-Param-Region, x-other")
				w := httptest.NewRecorder()
				c.g.Protect(&ran{}).ServeHTTP(w, r)
				want := map[string]int{http.MethodPost: 401, http.MethodOptions: 204}[method]
				if !c.allowed {
					want = 403
				}
				if w.Code != want {
					t.Errorf("%s: %d, want %d", method, w.Code, want)
				}
				if got := w.Header().Get("Access-Control-Allow-Origin"); c.allowed && got != c.origin || !c.allowed && got != "" {
					t.Errorf("%s: Access-Control-Allow-Origin %q", method, got)
				}
				if c.allowed && c.origin != "" {
					if exposed := w.Header().Get("Access-Control-Expose-Headers"); exposed != "WWW-Authenticate, Mcp-Session-Id" {
						t.Errorf("exposed %q", exposed)
					}
				}
				if w.Header().Get("Access-Control-Allow-Credentials") != "" {
					t.Error("no cookies here")
				}
				if allow := w.Header().Get("Access-Control-Allow-Headers"); c.allowed && method == http.MethodOptions {
					for _, name := range []string{"authorization", "content-type", "accept", "mcp-protocol-version", "mcp-method", "mcp-name", "mcp-session-id", "mcp-param-region"} {
						if !strings.Contains(allow, name) {
							t.Errorf("%q is not allowed by %q", name, allow)
						}
					}
					if strings.Contains(allow, "x-other") {
						t.Errorf("allows %q", allow)
					}
				}
			}
		})
	}
}

package guard_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
)

// TestKeyCache proves how often keys are fetched: once when warm, once a
// minute for unknown ones, and again before five minutes are over, so that a
// withdrawn key stops working.
//
// Row: J05, J07.
func TestKeyCache(t *testing.T) {
	mint := func(issuer *guardtest.Issuer) string {
		return issuer.Mint(guardtest.Token{Resource: resource, Lifetime: time.Hour})
	}
	verify := func(t *testing.T, g *guard.Guard, token string, want error) {
		t.Helper()
		_, err := g.Verify(t.Context(), token)
		wantError(t, "Verify", err, want)
	}

	t.Run("warm: no fetch on the request path", func(t *testing.T) {
		issuer := guardtest.New(t)
		g := newGuard(t, issuer.Config(resource))
		for range 100 {
			verify(t, g, mint(issuer), nil)
		}
		if n := issuer.Hits("/jwks"); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})

	t.Run("cold: many at once are one fetch", func(t *testing.T) {
		issuer := guardtest.New(t)
		g := newGuard(t, issuer.Config(resource))
		tokens := make([]string, 50)
		for i := range tokens {
			tokens[i] = mint(issuer)
		}
		var wg sync.WaitGroup
		for _, token := range tokens {
			wg.Go(func() { verify(t, g, token, nil) })
		}
		wg.Wait()
		if n := issuer.Hits("/jwks"); n > 2 { // a late one may just miss the first fetch's end
			t.Errorf("%d fetches", n)
		}
	})

	t.Run("a thousand unknown kids are one fetch in a minute", func(t *testing.T) {
		issuer := guardtest.New(t)
		g := newGuard(t, issuer.Config(resource))
		verify(t, g, mint(issuer), nil)
		for range 1000 {
			verify(t, g, issuer.MintWrong(guardtest.UnknownKey, guardtest.Token{Resource: resource}), guard.ErrInvalidToken)
		}
		if n := issuer.Hits("/jwks"); n != 2 {
			t.Errorf("%d fetches, want the first and one more", n)
		}
		issuer.Advance(time.Minute)
		verify(t, g, issuer.MintWrong(guardtest.UnknownKey, guardtest.Token{Resource: resource}), guard.ErrInvalidToken)
		verify(t, g, issuer.MintWrong(guardtest.UnknownKey, guardtest.Token{Resource: resource}), guard.ErrInvalidToken)
		if n := issuer.Hits("/jwks"); n != 3 {
			t.Errorf("%d fetches after a minute, want one more", n)
		}
	})

	t.Run("a new key works at once", func(t *testing.T) {
		issuer := guardtest.New(t)
		g := newGuard(t, issuer.Config(resource))
		verify(t, g, mint(issuer), nil)
		issuer.RotateKeys()
		verify(t, g, mint(issuer), nil)
	})

	t.Run("a new key works soon after a fetch that failed, and is not called unknown before", func(t *testing.T) {
		issuer := guardtest.New(t)
		g := newGuard(t, issuer.Config(resource))
		verify(t, g, mint(issuer), nil)
		issuer.RotateKeys()
		token := mint(issuer)
		fetches := func(want int) {
			t.Helper()
			if n := issuer.Hits("/jwks"); n != want {
				t.Fatalf("%d fetches, want %d", n, want)
			}
		}

		issuer.Down(true)
		for range 10 {
			verify(t, g, token, guard.ErrUnavailable)
		}
		fetches(2)
		issuer.Advance(5 * time.Second)
		for range 10 {
			verify(t, g, token, guard.ErrUnavailable)
		}
		fetches(3)
		issuer.Down(false)
		issuer.Advance(4 * time.Second)
		verify(t, g, token, guard.ErrUnavailable)
		fetches(3)
		issuer.Advance(time.Second)
		verify(t, g, token, nil)
		fetches(4)

		// That one was answered: now the minute counts.
		issuer.Advance(59 * time.Second)
		verify(t, g, issuer.MintWrong(guardtest.UnknownKey, guardtest.Token{Resource: resource}), guard.ErrInvalidToken)
		fetches(4)
	})

	t.Run("a new key works that a fetch was too early for", func(t *testing.T) {
		issuer := guardtest.New(t)
		slow := &slowKeys{fetched: make(chan struct{}), release: make(chan struct{})}
		cfg := issuer.Config(resource)
		cfg.HTTPClient = &http.Client{Transport: slow}
		g := newGuard(t, cfg)
		old := mint(issuer)
		verify(t, g, old, nil)

		slow.on.Store(true)
		issuer.Advance(2 * time.Minute)
		verify(t, g, old, nil) // begins a renewal beside it
		within(t, "the renewal", slow.fetched)
		slow.on.Store(false)
		issuer.RotateKeys()
		token := mint(issuer)
		done := make(chan struct{})
		go func() { defer close(done); verify(t, g, token, nil) }()
		time.Sleep(50 * time.Millisecond) // it waits for the renewal by now
		close(slow.release)
		within(t, "the answer", done)
		if n := issuer.Hits("/jwks"); n != 3 {
			t.Errorf("%d fetches, want the first, the renewal and one more", n)
		}
	})

	t.Run("K01 J05 a withdrawn key stops within five minutes, remembered tokens too", func(t *testing.T) {
		issuer := guardtest.New(t)
		g := newGuard(t, issuer.Config(resource))
		old := mint(issuer)
		verify(t, g, old, nil)
		issuer.RotateKeys()
		verify(t, g, old, nil) // nobody has noticed yet
		issuer.Advance(5 * time.Minute)
		verify(t, g, old, guard.ErrInvalidToken)
	})

	t.Run("a busy server notices beside its requests", func(t *testing.T) {
		issuer := guardtest.New(t)
		g := newGuard(t, issuer.Config(resource))
		old := mint(issuer)
		verify(t, g, old, nil)
		issuer.RotateKeys()
		issuer.Advance(2 * time.Minute)
		deadline := time.Now().Add(10 * time.Second)
		for {
			if _, err := g.Verify(t.Context(), old); err != nil {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the withdrawn key still works")
			}
			time.Sleep(time.Millisecond)
		}
		if n := issuer.Hits("/jwks"); n > 3 {
			t.Errorf("%d fetches", n)
		}
	})

	t.Run("an issuer that is down for half an hour stops nobody, for longer it does", func(t *testing.T) {
		issuer := guardtest.New(t)
		g := newGuard(t, issuer.Config(resource))
		token := issuer.Mint(guardtest.Token{Resource: resource, Lifetime: 3 * time.Hour})
		verify(t, g, token, nil)
		issuer.Down(true)
		for range 6 {
			issuer.Advance(5 * time.Minute)
			verify(t, g, token, nil)
		}
		issuer.Advance(31 * time.Minute)
		verify(t, g, token, guard.ErrUnavailable)
		issuer.Down(false)
		issuer.Advance(time.Second)
		verify(t, g, token, nil)
	})

	t.Run("a server starts before its issuer", func(t *testing.T) {
		issuer := guardtest.New(t)
		issuer.Down(true)
		g := newGuard(t, issuer.Config(resource, "a"))
		token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"a"}})
		w := call(g.Protect(&ran{}), http.MethodPost, pingBody, bearer(token)...)
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" {
			t.Errorf("answer %d %v", w.Code, w.Header())
		}
		issuer.Down(false)
		issuer.Advance(time.Second)
		verify(t, g, token, nil)
	})

	t.Run("garbage does not make anybody ask a failing issuer for what was never there", func(t *testing.T) {
		const metadata, other = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
		for name, place := range map[string]string{"metadata": metadata, "keys": "/jwks"} {
			t.Run(name, func(t *testing.T) {
				issuer := guardtest.New(t)
				g := newGuard(t, issuer.Config(resource))
				if name == "keys" {
					if _, err := g.IssuerMetadata(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				before := issuer.Hits(place)
				issuer.Down(true)
				for seconds := 1; seconds <= 3; seconds++ {
					for range 50 {
						verify(t, g, issuer.MintWrong(guardtest.BadSignature, guardtest.Token{Resource: resource}), guard.ErrUnavailable)
					}
					if n := issuer.Hits(place) - before; n != seconds {
						t.Fatalf("%d fetches in %d s, want one in each", n, seconds)
					}
					issuer.Advance(time.Second)
				}
				issuer.Down(false)
				verify(t, g, mint(issuer), nil)
			})
		}

		issuer := guardtest.New(t)
		cfg := issuer.Config(resource)
		cfg.Introspection = issuer.Introspection()
		g := newGuard(t, cfg)
		issuer.Down(true)
		for range 50 {
			verify(t, g, issuer.MintWrong(guardtest.BadSignature, guardtest.Token{Resource: resource}), guard.ErrUnavailable)
		}
		if n := issuer.Hits(metadata) + issuer.Hits(other); n != 2 {
			t.Errorf("with introspection %d fetches, want one at each of two places", n)
		}
	})

	t.Run("two issuers with the same kid", func(t *testing.T) { // Row: J06.
		one, two := guardtest.New(t), guardtest.New(t)
		g := newGuard(t, one.Config(resource))
		foreign := two.Mint(guardtest.Token{Resource: resource, Claims: map[string]any{"iss": one.URL}})
		verify(t, newGuard(t, two.Config(resource)), two.Mint(guardtest.Token{Resource: resource}), nil)
		verify(t, g, foreign, guard.ErrInvalidToken)
	})
}

// slowKeys holds back the answers of the key set while it is on.
type slowKeys struct {
	on               atomic.Bool
	fetched, release chan struct{}
}

func (s *slowKeys) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if r.URL.Path == "/jwks" && s.on.Load() {
		close(s.fetched)
		<-s.release
	}
	return resp, err
}

// fakeIssuer serves given documents; {issuer} in them is its own URL.
func fakeIssuer(t *testing.T, documents map[string]string) string {
	t.Helper()
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		doc, ok := documents[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(strings.ReplaceAll(doc, "{issuer}", server.URL)))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// TestDiscovery proves where metadata is looked for and which document is not
// believed.
//
// Row: X07.
func TestDiscovery(t *testing.T) {
	const good = `{"issuer":"{issuer}","jwks_uri":"{issuer}/k","authorization_endpoint":"{issuer}/a"}`
	for _, c := range []struct {
		name, path string
		documents  map[string]string
		want       error
	}{
		{"RFC 8414", "", map[string]string{"/.well-known/oauth-authorization-server": good}, nil},
		{"OpenID Connect", "", map[string]string{"/.well-known/openid-configuration": good}, nil},
		{"with a path, inserted", "/p", map[string]string{"/.well-known/oauth-authorization-server/p": strings.Replace(good, "{issuer}", "{issuer}/p", 1)}, nil},
		{"with a path, OpenID inserted", "/p", map[string]string{"/.well-known/openid-configuration/p": strings.Replace(good, "{issuer}", "{issuer}/p", 1)}, nil},
		{"with a path, OpenID appended", "/p", map[string]string{"/p/.well-known/openid-configuration": strings.Replace(good, "{issuer}", "{issuer}/p", 1)}, nil},
		{"with a path, all three", "/p", map[string]string{
			"/.well-known/oauth-authorization-server/p": strings.Replace(good, "{issuer}", "{issuer}/p", 1), "/.well-known/openid-configuration/p": `{}`, "/p/.well-known/openid-configuration": `{}`,
		}, nil},
		{"with a path, the host's own document", "/p", map[string]string{"/.well-known/oauth-authorization-server": good, "/.well-known/openid-configuration": good}, guard.ErrUnavailable},
		{"with a path, appended after RFC 8414's name", "/p", map[string]string{"/p/.well-known/oauth-authorization-server": strings.Replace(good, "{issuer}", "{issuer}/p", 1)}, guard.ErrUnavailable},
		{"with a path, a slash more there", "/p", map[string]string{"/.well-known/oauth-authorization-server/p": strings.Replace(good, "{issuer}", "{issuer}/p/", 1)}, guard.ErrUnavailable},
		{"with a path, a slash more here", "/p/", map[string]string{"/.well-known/oauth-authorization-server/p": strings.Replace(good, "{issuer}", "{issuer}/p", 1)}, guard.ErrUnavailable},
		{"with a path, another case", "/P", map[string]string{"/.well-known/oauth-authorization-server/P": strings.Replace(good, "{issuer}", "{issuer}/p", 1)}, guard.ErrUnavailable},
		{"with a path, another path", "/p", map[string]string{"/.well-known/oauth-authorization-server/p": strings.Replace(good, "{issuer}", "{issuer}/q", 1)}, guard.ErrUnavailable},
		{"with a path, doubled", "/p", map[string]string{"/p/.well-known/openid-configuration": strings.Replace(good, "{issuer}", "{issuer}/p/p", 1)}, guard.ErrUnavailable},
		{"nothing there", "", nil, guard.ErrUnavailable},
		{"foreign issuer", "", map[string]string{"/.well-known/oauth-authorization-server": `{"issuer":"https://other.example.com","jwks_uri":"{issuer}/k"}`}, guard.ErrUnavailable},
		{"issuer with a slash more", "", map[string]string{"/.well-known/oauth-authorization-server": `{"issuer":"{issuer}/","jwks_uri":"{issuer}/k"}`}, guard.ErrUnavailable},
		{"keys over plain http", "", map[string]string{"/.well-known/oauth-authorization-server": `{"issuer":"{issuer}","jwks_uri":"http://keys.example.com/k"}`}, guard.ErrUnavailable},
		{"keys in a file", "", map[string]string{"/.well-known/oauth-authorization-server": `{"issuer":"{issuer}","jwks_uri":"file:///etc/passwd"}`}, guard.ErrUnavailable},
		{"not JSON", "", map[string]string{"/.well-known/oauth-authorization-server": `<html>`}, guard.ErrUnavailable},
		{"too large", "", map[string]string{"/.well-known/oauth-authorization-server": strings.Replace(good, "{", `{"x":"`+strings.Repeat("x", 64<<10)+`",`, 1)}, guard.ErrUnavailable},
		{"the first is broken, the second is not", "", map[string]string{"/.well-known/oauth-authorization-server": `{}`, "/.well-known/openid-configuration": good}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			url := fakeIssuer(t, c.documents)
			g := newGuard(t, guard.Config{Issuer: url + c.path, Resource: resource})
			m, err := g.IssuerMetadata(t.Context())
			wantError(t, "IssuerMetadata", err, c.want)
			if err == nil && m.AuthorizationEndpoint != url+"/a" {
				t.Errorf("metadata %+v", m)
			}
		})
	}
}

// TestOldMetadata proves that an issuer that is down is asked for newer
// metadata once in a while, and that the old one serves meanwhile.
func TestOldMetadata(t *testing.T) {
	issuer := guardtest.New(t)
	g := newGuard(t, issuer.Config(resource))
	const place = "/.well-known/oauth-authorization-server"
	asked := 0
	for _, c := range []struct {
		name    string
		advance time.Duration
		down    bool
		fetches int
	}{
		{"the first", 0, false, 1},
		{"down, but it is still good", 59 * time.Minute, true, 0},
		{"down", time.Minute, true, 1},
		{"down for long", 30 * time.Second, true, 1},
		{"up again", 30 * time.Second, false, 1},
		{"a minute later", time.Minute, false, 0},
	} {
		issuer.Advance(c.advance)
		issuer.Down(c.down)
		for range 10 {
			if _, err := g.IssuerMetadata(t.Context()); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		if asked += c.fetches; issuer.Hits(place) != asked {
			t.Fatalf("%s: asked %d times since the start, want %d", c.name, issuer.Hits(place), asked)
		}
	}
}

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

// TestIntrospection proves that tokens are judged by the issuer's answer, that
// a revocation is seen within five seconds, and that only access tokens for
// this resource pass.
//
// Row: J23. Proves: MCP-RS-12.
func TestIntrospection(t *testing.T) {
	issuer := guardtest.New(t)
	cfg := todoConfig(issuer)
	cfg.Introspection = issuer.Introspection()
	handler := &ran{}
	g := newGuard(t, cfg)
	h := g.Protect(handler)
	token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"write:todos"}, Organization: "o"})

	for range 10 {
		if w := call(h, http.MethodPost, toolCall("create"), bearer(token)...); w.Code != 202 {
			t.Fatalf("status %d %s", w.Code, w.Body)
		}
	}
	if n := issuer.Hits("/introspect"); n != 1 {
		t.Errorf("asked %d times within five seconds", n)
	}
	if p := handler.caller; p.Subject != "user-test-1" || p.Organization != "o" || !p.Has("read:todos") {
		t.Errorf("principal %+v", p)
	}

	issuer.Revoke(token)
	issuer.Advance(5 * time.Second)
	handler.times = 0
	if w := call(h, http.MethodPost, toolCall("create"), bearer(token)...); w.Code != 401 || handler.times != 0 {
		t.Errorf("revoked five seconds ago: status %d, the handler ran %d times", w.Code, handler.times)
	}

	for _, wrong := range []guardtest.Wrong{
		guardtest.Expired, guardtest.NoExpiry, guardtest.NotYetValid, guardtest.OtherAudience, guardtest.NoAudience,
		guardtest.LongerAudience, guardtest.OtherIssuer, guardtest.NoSubject, guardtest.BadSignature, guardtest.AlgNone,
		guardtest.MissingScope, guardtest.NoClient,
	} {
		t.Run(string(wrong), func(t *testing.T) {
			bad := issuer.MintWrong(wrong, guardtest.Token{Resource: resource, Scopes: []string{"admin"}})
			if w := call(h, http.MethodPost, toolCall("create"), bearer(bad)...); w.Code != wrong.Status() {
				t.Errorf("status %d, want %d", w.Code, wrong.Status())
			}
		})
	}

	t.Run("never believed longer than the token lives", func(t *testing.T) {
		short := issuer.Mint(guardtest.Token{Resource: resource, Lifetime: 2 * time.Second})
		if _, err := g.Verify(t.Context(), short); err != nil {
			t.Fatal(err)
		}
		asked := issuer.Hits("/introspect")
		issuer.Advance(2 * time.Second)
		if _, err := g.Verify(t.Context(), short); err != nil || issuer.Hits("/introspect") != asked+1 {
			t.Errorf("at the end of its life the issuer must be asked again: %v", err)
		}
		issuer.Advance(31 * time.Second)
		_, err := g.Verify(t.Context(), short)
		wantError(t, "after the leeway", err, guard.ErrInvalidToken)
	})

	t.Run("a negative CacheFor asks every time", func(t *testing.T) {
		cfg.Introspection.CacheFor = -1
		g := newGuard(t, cfg)
		token := issuer.Mint(guardtest.Token{Resource: resource})
		_, err := g.Verify(t.Context(), token)
		wantError(t, "live", err, nil)
		issuer.Revoke(token)
		_, err = g.Verify(t.Context(), token)
		wantError(t, "revoked just now", err, guard.ErrInvalidToken)
	})
}

// TestIntrospectionAnswers proves that whatever is not a clear yes is a no,
// and that an outage says so.
//
// Row: J22. Proves: MCP-RS-12.
func TestIntrospectionAnswers(t *testing.T) {
	const rest = `"sub":"u","client_id":"c","aud":"` + resource + `","exp":4102444800`
	var answer atomic.Pointer[func(http.ResponseWriter, *http.Request)]
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path != "/introspect" {
			_, _ = w.Write([]byte(`{"issuer":"` + server.URL + `","introspection_endpoint":"` + server.URL + `/introspect"}`))
			return
		}
		(*answer.Load())(w, r)
	}))
	defer server.Close()
	g := newGuard(t, guard.Config{
		Issuer: server.URL, Resource: resource, Introspection: &guard.Introspection{ID: "i", Secret: "s", CacheFor: -1},
	})
	body := func(status int, media, text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", media)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(text))
		}
	}
	const js = "application/json"
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request)
		want   error
	}{
		{"yes", body(200, js, `{"active":true,"token_type":"Bearer",`+rest+`}`), nil},
		{"yes, other spelling", body(200, js, `{"active":true,"token_type":"bearer","nbf":null,`+rest+`}`), nil},
		{"yes, by the vendor's word", body(200, js, `{"active":true,"token_type":"access_token",`+rest+`}`), nil},
		{"no", body(200, js, `{"active":false}`), guard.ErrInvalidToken},
		{"active is missing", body(200, js, `{"token_type":"Bearer",`+rest+`}`), guard.ErrInvalidToken},
		{"active is text", body(200, js, `{"active":"true","token_type":"Bearer",`+rest+`}`), guard.ErrInvalidToken},
		{"active is 1", body(200, js, `{"active":1,"token_type":"Bearer",`+rest+`}`), guard.ErrInvalidToken},
		{"active twice", body(200, js, `{"active":false,"active":true,"token_type":"Bearer",`+rest+`}`), guard.ErrInvalidToken},
		{"Active", body(200, js, `{"Active":true,"token_type":"Bearer",`+rest+`}`), guard.ErrInvalidToken},
		{"a refresh token", body(200, js, `{"active":true,"token_use":"refresh",`+rest+`}`), guard.ErrInvalidToken},
		{"of unknown kind", body(200, js, `{"active":true,`+rest+`}`), guard.ErrInvalidToken},
		{"another issuer", body(200, js, `{"active":true,"token_type":"Bearer","iss":"https://other.example.com",`+rest+`}`), guard.ErrInvalidToken},
		{"an array", body(200, js, `[true]`), guard.ErrInvalidToken},
		{"status 500", body(500, js, `{"active":true,"token_type":"Bearer",`+rest+`}`), guard.ErrUnavailable},
		{"status 401", body(401, js, `{"error":"invalid_client"}`), guard.ErrUnavailable},
		{"a redirect", body(302, js, `{}`), guard.ErrUnavailable},
		{"HTML", body(200, "text/html", `<html>`), guard.ErrUnavailable},
		{"HTML called JSON", body(200, js, `<html>`), guard.ErrUnavailable},
		{"too much", body(200, js, `{"active":true,"x":"`+strings.Repeat("x", 64<<10)+`"}`), guard.ErrUnavailable},
		{"cut connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, guard.ErrUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer.Store(&c.answer)
			_, err := g.Verify(t.Context(), "opaque-token")
			wantError(t, "Verify", err, c.want)
			w := call(g.Protect(&ran{}), http.MethodPost, pingBody, bearer("opaque-token")...)
			if want := map[error]int{nil: 202, guard.ErrInvalidToken: 401, guard.ErrUnavailable: 503}[c.want]; w.Code != want {
				t.Errorf("status %d, want %d", w.Code, want)
			}
		})
	}

	t.Run("one question for one token at a time, with credentials", func(t *testing.T) {
		var asked atomic.Int32
		release := make(chan struct{})
		slow := func(w http.ResponseWriter, r *http.Request) {
			asked.Add(1)
			id, secret, _ := r.BasicAuth()
			if id != "i" || secret != "s" || r.PostFormValue("token") != "one" || r.PostFormValue("token_type_hint") != "access_token" {
				t.Errorf("question by %q %q: %v", id, secret, r.PostForm)
			}
			<-release
			_, _ = w.Write([]byte(`{"active":true,"token_type":"Bearer",` + rest + `}`))
		}
		f := (func(http.ResponseWriter, *http.Request))(slow)
		answer.Store(&f)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				_, err := g.Verify(t.Context(), "one")
				wantError(t, "Verify", err, nil)
			})
		}
		for asked.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		time.Sleep(20 * time.Millisecond) // let the others come
		close(release)
		wg.Wait()
		if n := asked.Load(); n > 3 {
			t.Errorf("asked %d times", n)
		}
	})
}

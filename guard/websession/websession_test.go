package websession_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/guard/guardtest"
	"github.com/postern-id/postern/guard/websession"
)

// A person is sent to sign in, comes back to the page they wanted, and is the
// same principal on pages and REST routes.
//
// Proves: RFC6750-5.3-b.
func TestSignIn(t *testing.T) {
	w, b := newWorld(t), newBrowser(t)
	if got := b.get(w.app.URL + "/"); got.status != http.StatusOK || !strings.HasPrefix(got.body, "nobody") {
		t.Errorf("page for everybody, signed out: %d %q", got.status, got.body)
	}
	wanted := "/page?tab=2&q=a%2Fb;c"
	first := b.get(w.app.URL + wanted)
	if first.status != http.StatusSeeOther || !strings.HasPrefix(first.location, w.app.URL+"/login?return_to=") {
		t.Fatalf("page, signed out: %d to %q", first.status, first.location)
	}

	request := b.toIssuer(w, strings.TrimPrefix(first.location, w.app.URL), "ada")
	q := request.Query()
	for name, want := range map[string]string{
		"response_type": "code", "client_id": "web", "redirect_uri": w.app.URL + "/callback",
		"resource": w.app.URL + "/mcp", "scope": read + " " + write, "code_challenge_method": "S256",
	} {
		if q.Get(name) != want {
			t.Errorf("authorization request: %s is %q, want %q", name, q.Get(name), want)
		}
	}
	if len(q.Get("state")) < 43 || len(q.Get("code_challenge")) != 43 || q.Has("nonce") {
		t.Errorf("authorization request %s: want state and challenge of 256 bits and no nonce", request)
	}

	end := b.get(b.fromIssuer(request).String())
	if end.status != http.StatusSeeOther || end.location != w.app.URL+wanted {
		t.Fatalf("callback: %d to %q, want the page that was wanted: %s", end.status, end.location, end.body)
	}
	for _, cookie := range (&http.Response{Header: end.header}).Cookies() {
		if cookie.Name == "todo_session" && (!cookie.HttpOnly || cookie.SameSite != http.SameSiteLaxMode || cookie.Path != "/" || cookie.Domain != "" || len(cookie.Value) != 43) {
			t.Errorf("session cookie %q", cookie.Raw)
		}
		if strings.HasPrefix(cookie.Name, "todo_session_login_") && cookie.MaxAge >= 0 {
			t.Errorf("the cookie of the finished sign-in stays: %q", cookie.Raw)
		}
	}
	for _, path := range []string{"/", "/page", "/api"} {
		got := b.get(w.app.URL + path)
		if got.status != http.StatusOK || !strings.HasPrefix(got.body, "ada") {
			t.Errorf("%s, signed in: %d %q", path, got.status, got.body)
		}
		if got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s may be cached: %q", path, got.header.Get("Cache-Control"))
		}
	}
	if w.wire.resources[0] != w.app.URL+"/mcp" || w.wire.auth[0] != "web" {
		t.Errorf("token request: resource %q, client %q", w.wire.resources, w.wire.auth)
	}
}

func TestConfidentialClientSendsItsSecretByBasic(t *testing.T) {
	w := newWorld(t, func(c *websession.Config) { c.ClientID, c.ClientSecret = "we:b", "s%t" })
	b := newBrowser(t)
	b.signIn(w, "ada")
	r := http.Request{Header: http.Header{"Authorization": {w.wire.auth[0]}}}
	if id, secret, ok := r.BasicAuth(); !ok || id != "we%3Ab" || secret != "s%25t" {
		t.Errorf("client authentication %q, %q, %v; want both halves form-encoded", id, secret, ok)
	}
}

// A cookie is judged by the issuer's policy and by organization as a bearer
// token is, at every request, and the answer is JSON.
func TestPermissions(t *testing.T) {
	w := newWorld(t)
	policy := func(scope string) {
		w.issuer.SetPolicy(guardtest.Policy{
			Resources: map[string][]string{"todo": {"read"}},
			Scopes:    map[string]map[string][]string{scope: {"todo": {"read"}}},
		})
	}
	policy(read)
	w.issuer.Join("ada", "organization-a")
	w.issuer.Join("bob", "organization-b")
	want := func(what string, b *browser, status int, code string) {
		t.Helper()
		got := b.get(w.app.URL + "/organization")
		var body struct{ Error string }
		_ = json.Unmarshal([]byte(got.body), &body)
		if got.status != status || got.location != "" || body.Error != code {
			t.Errorf("%s: %d %s, want %d %s", what, got.status, got.body, status, code)
		}
	}
	ada, bob, eve := newBrowser(t), newBrowser(t), newBrowser(t)
	want("signed out", ada, http.StatusUnauthorized, "unauthorized")
	ada.signIn(w, "ada")
	bob.signIn(w, "bob")
	eve.signIn(w, "eve")
	want("a member", ada, http.StatusOK, "")
	want("another organization's", bob, http.StatusForbidden, "access_denied")
	want("nobody's member", eve, http.StatusForbidden, "access_denied")
	policy("admin")
	w.issuer.Advance(time.Minute)
	want("a member whose scopes permit it no more", ada, http.StatusForbidden, "insufficient_scope")
	policy(read)
	w.issuer.Advance(time.Minute)
	want("a member whose scopes permit it again", ada, http.StatusOK, "")
}

func TestCookieOnHTTPS(t *testing.T) {
	w := newWorld(t, func(c *websession.Config) { c.URL = "https://todo.example.com" })
	got := newBrowser(t).get(w.app.URL + "/login")
	for _, cookie := range (&http.Response{Header: got.header}).Cookies() {
		if !strings.HasPrefix(cookie.Name, "__Host-todo_session_login_") || !cookie.Secure || cookie.Path != "/" || cookie.Domain != "" {
			t.Errorf("cookie %q is no __Host- cookie", cookie.Raw)
		}
	}
	if got.status != http.StatusSeeOther {
		t.Errorf("login answered %d", got.status)
	}
}

// An API call is never redirected, whatever is wrong.
func TestAPI(t *testing.T) {
	w := newWorld(t, func(c *websession.Config) { c.Scopes = []string{read} })
	signedIn := newBrowser(t)
	signedIn.signIn(w, "ada")
	bearer := "Bearer " + w.issuer.Mint(guardtest.Token{Resource: w.app.URL + "/mcp", Subject: "bob", Scopes: []string{read, write}})
	for _, test := range []struct {
		name   string
		call   func() answer
		status int
	}{
		{"signed out", func() answer { return newBrowser(t).get(w.app.URL + "/api") }, http.StatusUnauthorized},
		{"cookie of no session", func() answer {
			return newBrowser(t).post(w.app.URL+"/api", "", "Cookie", "todo_session=made-up")
		}, http.StatusUnauthorized},
		{"scope not granted", func() answer { return signedIn.post(w.app.URL+"/api", "") }, http.StatusForbidden},
		{"posted by another site", func() answer {
			return signedIn.post(w.app.URL+"/api", "", "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
		}, http.StatusForbidden},
		{"another site with a bearer token", func() answer {
			return newBrowser(t).post(w.app.URL+"/api", "", "Authorization", bearer, "Origin", "https://client.example", "Sec-Fetch-Site", "cross-site")
		}, http.StatusOK},
		{"a bearer token goes before the cookie", func() answer {
			got := signedIn.post(w.app.URL+"/api", "", "Authorization", bearer)
			if !strings.HasPrefix(got.body, "bob") {
				t.Errorf("a bearer token goes before the cookie: %q", got.body)
			}
			return got
		}, http.StatusOK},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := test.call()
			if got.status != test.status || got.location != "" {
				t.Fatalf("%d to %q, want %d: %s", got.status, got.location, test.status, got.body)
			}
			var body struct {
				Error string `json:"error"`
			}
			if got.status >= 400 && (json.Unmarshal([]byte(got.body), &body) != nil || body.Error == "" || got.header.Get("Content-Type") != "application/json") {
				t.Errorf("%s %q; want an error in JSON", got.header.Get("Content-Type"), got.body)
			}
		})
	}
}

func TestPageRefusesFormsOfOtherSites(t *testing.T) {
	w, b := newWorld(t), newBrowser(t)
	b.signIn(w, "ada")
	if got := b.post(w.app.URL+"/page", "", "Sec-Fetch-Site", "cross-site"); got.status != http.StatusForbidden {
		t.Errorf("form of another site: %d", got.status)
	}
	if got := b.post(w.app.URL+"/page", "", "Origin", w.app.URL, "Sec-Fetch-Site", "same-origin"); got.status != http.StatusOK {
		t.Errorf("our own form: %d", got.status)
	}
	if got := newBrowser(t).post(w.app.URL+"/page?x=1", ""); got.status != http.StatusSeeOther || got.location != w.app.URL+"/login" {
		t.Errorf("our own form after the session ended: %d to %q, want /login and then /", got.status, got.location)
	}
}

// What is not the issuer's answer to this browser's request is refused, and
// nothing is redeemed (RFC 9207 §2.4).
// Row: X08, X09.
func TestCallbackRefuses(t *testing.T) {
	with := func(u *url.URL, name string, values ...string) *url.URL {
		q := u.Query()
		q[name] = values
		changed := *u
		changed.RawQuery = q.Encode()
		return &changed
	}
	for _, test := range []struct {
		name   string
		change func(w *world, callback *url.URL) *url.URL
		status int
	}{
		{"another state", func(_ *world, u *url.URL) *url.URL { return with(u, "state", "made-up") }, http.StatusBadRequest},
		{"no state", func(_ *world, u *url.URL) *url.URL { return with(u, "state") }, http.StatusBadRequest},
		{"the state of another browser", func(w *world, _ *url.URL) *url.URL {
			attacker := newBrowser(t)
			return attacker.fromIssuer(attacker.toIssuer(w, "/login", "eve"))
		}, http.StatusBadRequest},
		{"another iss", func(_ *world, u *url.URL) *url.URL { return with(u, "iss", "https://evil.example") }, http.StatusBadRequest},
		{"iss with a slash more", func(w *world, u *url.URL) *url.URL { return with(u, "iss", w.issuer.URL+"/") }, http.StatusBadRequest},
		{"no iss though promised", func(_ *world, u *url.URL) *url.URL { return with(u, "iss") }, http.StatusBadRequest},
		{"another iss on an error", func(_ *world, u *url.URL) *url.URL {
			return with(with(u, "error", "access_denied"), "iss", "https://evil.example")
		}, http.StatusBadRequest},
		{"two codes", func(_ *world, u *url.URL) *url.URL { return with(u, "code", "a", "b") }, http.StatusBadRequest},
		{"two iss", func(w *world, u *url.URL) *url.URL { return with(u, "iss", w.issuer.URL, "https://evil.example") }, http.StatusBadRequest},
		{"the person said no", func(_ *world, u *url.URL) *url.URL { return with(u, "error", "access_denied") }, http.StatusForbidden},
		{"another error", func(_ *world, u *url.URL) *url.URL { return with(u, "error", "<script>") }, http.StatusBadGateway},
		{"no code", func(_ *world, u *url.URL) *url.URL { return with(u, "code") }, http.StatusBadGateway},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, b := newWorld(t), newBrowser(t)
			w.wire.metadata = map[string]any{"authorization_response_iss_parameter_supported": true}
			callback := b.fromIssuer(b.toIssuer(w, "/login", "ada"))
			got := b.get(test.change(w, callback).String())
			if got.status != test.status || b.session(w) != "" {
				t.Errorf("%d, session %q; want %d and none: %s", got.status, b.session(w), test.status, got.body)
			}
			if w.wire.redeemed != 0 {
				t.Error("a code was sent to the token endpoint")
			}
			if strings.Contains(got.body, "<") || !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") {
				t.Errorf("%s %q", got.header.Get("Content-Type"), got.body)
			}
		})
	}
}

func TestAnAnswerWorksOnce(t *testing.T) {
	w, b := newWorld(t), newBrowser(t)
	callback := b.fromIssuer(b.toIssuer(w, "/login", "ada"))
	b.get(callback.String())
	if got := b.get(callback.String()); got.status != http.StatusBadRequest || w.wire.redeemed != 1 {
		t.Errorf("second time: %d after %d redemptions", got.status, w.wire.redeemed)
	}
}

func TestSignInsInSeveralTabs(t *testing.T) {
	w, b := newWorld(t), newBrowser(t)
	one := b.toIssuer(w, "/login?return_to=/one", "ada")
	two := b.toIssuer(w, "/login?return_to=/two", "ada")
	for want, request := range map[string]*url.URL{"/one": one, "/two": two} {
		if got := b.get(b.fromIssuer(request).String()); got.location != w.app.URL+want {
			t.Errorf("tab %s ended at %d %q", want, got.status, got.location)
		}
	}
	for range 20 {
		b.toIssuer(w, "/login", "ada")
	}
	u, _ := url.Parse(w.app.URL)
	if n := len(b.http.Jar.Cookies(u)); n > 10 {
		t.Errorf("%d cookies after 20 abandoned sign-ins", n)
	}
}

// An open redirector would lend our name to a phishing page (RFC 9700 §4.11.1).
func TestReturnPath(t *testing.T) {
	w, b := newWorld(t), newBrowser(t)
	for target, want := range map[string]string{
		"/page?a=b#c":                   "/page?a=b#c",
		"/a;b,c\"d":                     "/a;b,c%22d",
		"":                              "/",
		"page":                          "/",
		"//evil.example":                "/",
		"/\\evil.example":               "/",
		"\\\\evil.example":              "/",
		"/\t/evil.example":              "/",
		"\t//evil.example":              "/",
		"/\n/evil.example":              "/",
		" //evil.example":               "/",
		"https://evil.example":          "/",
		"https:/evil.example":           "/",
		"javascript:alert(1)":           "/",
		"/a\r\nSet-Cookie: b=c":         "/",
		"/" + strings.Repeat("a", 3000): "/",
	} {
		callback := b.fromIssuer(b.toIssuer(w, "/login?return_to="+url.QueryEscape(target), "ada"))
		got := b.get(callback.String())
		if got.location != w.app.URL+want {
			t.Errorf("return_to %q ended at %q, want %q", target, got.location, want)
		}
	}
}

func TestIDToken(t *testing.T) {
	openID := func(c *websession.Config) { c.Scopes = []string{"openid", "email", read} }
	for _, test := range []struct {
		name  string
		claim string
		value any
		ok    bool
	}{
		{"right", "sub", "ada", true},
		{"several audiences", "aud", []string{"other", "web"}, true},
		{"another nonce", "nonce", "made-up", false},
		{"another client's", "aud", "other", false},
		{"another issuer's", "iss", "https://evil.example", false},
		{"another person's", "sub", "eve", false},
		{"expired", "exp", 1, false},
		{"no audience", "aud", nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, b := newWorld(t, openID), newBrowser(t)
			request := b.toIssuer(w, "/login", "ada")
			claims := idClaims(w, request, "ada")
			claims[test.claim] = test.value
			w.wire.idToken = func() map[string]any { return claims }
			got := b.get(b.fromIssuer(request).String())
			if signedIn := b.session(w) != ""; signedIn != test.ok {
				t.Errorf("signed in: %v, want %v (%d %s)", signedIn, test.ok, got.status, got.body)
			}
			if test.ok {
				if got := b.get(w.app.URL + "/page"); got.body != "ada ada@example.test" {
					t.Errorf("page says %q", got.body)
				}
			}
		})
	}
	t.Run("missing", func(t *testing.T) {
		w, b := newWorld(t, openID), newBrowser(t)
		if b.get(b.fromIssuer(b.toIssuer(w, "/login", "ada")).String()); b.session(w) != "" {
			t.Error("signed in without an id_token")
		}
	})
}

// However many calls find the access token about to end, one refreshes it.
func TestParallelCallsRefreshOnce(t *testing.T) {
	w, b := newWorld(t), newBrowser(t)
	b.signIn(w, "ada")
	for round := 1; round <= 2; round++ {
		w.issuer.Advance(15*time.Minute - 30*time.Second)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got := b.get(w.app.URL + "/api"); got.status != http.StatusOK {
					t.Errorf("call during refresh: %d %s", got.status, got.body)
				}
			})
		}
		wg.Wait()
		if w.wire.refreshed != round {
			t.Errorf("%d refreshes, want %d", w.wire.refreshed, round)
		}
	}
	if w.wire.resources[1] != w.app.URL+"/mcp" {
		t.Errorf("refresh asks for resource %q", w.wire.resources[1])
	}
}

func TestRefreshFailures(t *testing.T) {
	almost := 15*time.Minute - 30*time.Second
	for _, test := range []struct {
		name    string
		advance time.Duration
		change  func(*wire)
		status  int // while it fails
		after   int // when the issuer is well again
	}{
		{"refused: the session ends", almost, func(w *wire) { w.refuse = &refusal{400, "invalid_grant"} }, http.StatusUnauthorized, http.StatusUnauthorized},
		{"client deleted: the session ends", almost, func(w *wire) { w.refuse = &refusal{401, "invalid_client"} }, http.StatusUnauthorized, http.StatusUnauthorized},
		{"down while the token lives: it serves", almost, func(w *wire) { w.down = true }, http.StatusOK, http.StatusOK},
		{"down after the token's end: wait", 20 * time.Minute, func(w *wire) { w.down = true }, http.StatusServiceUnavailable, http.StatusOK},
		{"broken after the token's end: wait", 20 * time.Minute, func(w *wire) { w.refuse = &refusal{502, ""} }, http.StatusServiceUnavailable, http.StatusOK},
		{"a proxy knows no such path: wait", 20 * time.Minute, func(w *wire) { w.refuse = &refusal{404, ""} }, http.StatusServiceUnavailable, http.StatusOK},
		{"it takes all its time: wait from then on", almost, func(w *wire) { w.down, w.slow = true, 10*time.Second }, http.StatusOK, http.StatusOK},
		{"too many requests: wait", 20 * time.Minute, func(w *wire) { w.refuse = &refusal{429, ""} }, http.StatusServiceUnavailable, http.StatusOK},
	} {
		t.Run(test.name, func(t *testing.T) {
			w, b := newWorld(t), newBrowser(t)
			b.signIn(w, "ada")
			w.issuer.Advance(test.advance)
			w.wire.set(test.change)
			for range 3 {
				if got := b.get(w.app.URL + "/api"); got.status != test.status {
					t.Errorf("%d, want %d: %s", got.status, test.status, got.body)
				}
			}
			if w.wire.refreshed != 1 {
				t.Errorf("%d attempts at once, want 1", w.wire.refreshed)
			}
			w.wire.set(func(w *wire) { w.down, w.refuse, w.slow = false, nil, 0 })
			w.issuer.Advance(10 * time.Second)
			if got := b.get(w.app.URL + "/api"); got.status != test.after {
				t.Errorf("afterwards %d, want %d: %s", got.status, test.after, got.body)
			}
		})
	}
}

func TestLogout(t *testing.T) {
	w, b := newWorld(t), newBrowser(t)
	w.wire.metadata = map[string]any{
		"revocation_endpoint":  w.issuer.URL + "/revoke",
		"end_session_endpoint": w.issuer.URL + "/end?x=1",
	}
	b.signIn(w, "ada")
	value := b.session(w)
	if got := b.post(w.app.URL+"/logout", "", "Sec-Fetch-Site", "cross-site"); got.status != http.StatusForbidden || b.session(w) == "" {
		t.Errorf("sign-out by another site: %d", got.status)
	}
	if got := b.get(w.app.URL + "/logout"); got.status != http.StatusMethodNotAllowed || b.session(w) == "" {
		t.Errorf("sign-out by a link: %d", got.status)
	}
	handedOut := w.wire.refreshToken
	if got := b.post(w.app.URL+"/logout", ""); got.status != http.StatusSeeOther || got.location != w.app.URL+"/" || b.session(w) != "" {
		t.Errorf("sign-out: %d to %q", got.status, got.location)
	}
	if len(w.wire.revoked) != 1 || w.wire.revoked[0].Get("token") != handedOut || w.wire.revoked[0].Get("client_id") != "web" {
		t.Errorf("revoked %v, want the refresh token", w.wire.revoked)
	}
	thief := newBrowser(t)
	if got := thief.post(w.app.URL+"/api", "", "Cookie", "todo_session="+value); got.status != http.StatusUnauthorized {
		t.Errorf("a copy of the cookie after sign-out: %d", got.status)
	}
	if got := b.post(w.app.URL+"/logout", ""); got.status != http.StatusSeeOther {
		t.Errorf("sign-out without a session: %d", got.status)
	}

	b.signIn(w, "ada")
	got := b.post(w.app.URL+"/logout", "everywhere=true")
	u, _ := url.Parse(got.location)
	if u.Path != "/end" || u.Query().Get("x") != "1" || u.Query().Get("client_id") != "web" || u.Query().Get("post_logout_redirect_uri") != w.app.URL+"/" {
		t.Errorf("sign-out everywhere goes to %q", got.location)
	}
}

// TestSignOutFormsAreBounded proves that a sign-out reads a form and no more:
// anybody may send one.
func TestSignOutFormsAreBounded(t *testing.T) {
	w := newWorld(t)
	part := strings.NewReader("--x\r\nContent-Disposition: form-data; name=a; filename=b\r\n\r\n")
	body := &counted{Reader: io.MultiReader(part, io.LimitReader(endless{}, 10<<20))}
	r, err := http.NewRequest(http.MethodPost, w.app.URL+"/logout", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "multipart/form-data; boundary=x")
	w.app.Config.Handler.ServeHTTP(httptest.NewRecorder(), r)
	if body.read > 64<<10 {
		t.Errorf("%d bytes of a sign-out form were read", body.read)
	}
}

// endless is a file without an end.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	return copy(p, strings.Repeat("a", len(p))), nil
}

type counted struct {
	io.Reader
	read int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.read += n
	return n, err
}

func TestASignInEndsTheOldSession(t *testing.T) {
	w, b := newWorld(t), newBrowser(t)
	b.signIn(w, "ada")
	old := b.session(w)
	b.signIn(w, "bob")
	if b.session(w) == old {
		t.Error("the cookie stayed the same")
	}
	if got := newBrowser(t).post(w.app.URL+"/api", "", "Cookie", "todo_session="+old); got.status != http.StatusUnauthorized {
		t.Errorf("the old cookie: %d", got.status)
	}
	if got := b.get(w.app.URL + "/page"); !strings.HasPrefix(got.body, "bob") {
		t.Errorf("page says %q", got.body)
	}
}

// TestEndedSessionsAreRevoked proves that no refresh token outlives the session
// that it was kept for, and that an issuer that cannot revoke stops nobody.
func TestEndedSessionsAreRevoked(t *testing.T) {
	revoked := func(w *world) (tokens []string) {
		w.wire.set(func(w *wire) {
			for _, form := range w.revoked {
				tokens = append(tokens, form.Get("token"))
			}
		})
		return tokens
	}
	spoil := func(w *wire) { w.extra = map[string]any{"access_token": "not one of ours"} }

	t.Run("by a new sign-in", func(t *testing.T) {
		w, b := newWorld(t), newBrowser(t)
		b.signIn(w, "ada")
		first := w.wire.refreshToken
		b.signIn(w, "ada")
		if got := revoked(w); len(got) != 1 || got[0] != first {
			t.Errorf("revoked %q, want %q", got, first)
		}
		if got := b.get(w.app.URL + "/api"); got.status != http.StatusOK {
			t.Errorf("the new session: %d", got.status)
		}
	})
	t.Run("by a sign-in whose token is refused", func(t *testing.T) {
		w, b := newWorld(t), newBrowser(t)
		w.wire.set(spoil)
		if got := b.get(b.fromIssuer(b.toIssuer(w, "/login", "ada")).String()); got.status != http.StatusBadGateway {
			t.Errorf("status %d", got.status)
		}
		if got := revoked(w); len(got) != 1 || got[0] != w.wire.refreshToken {
			t.Errorf("revoked %q, want %q", got, w.wire.refreshToken)
		}
	})
	t.Run("by a refresh whose token is refused, once", func(t *testing.T) {
		w, b := newWorld(t), newBrowser(t)
		b.signIn(w, "ada")
		w.wire.set(spoil)
		w.issuer.Advance(15*time.Minute - 30*time.Second)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if got := b.get(w.app.URL + "/api"); got.status != http.StatusUnauthorized {
					t.Errorf("status %d", got.status)
				}
			})
		}
		wg.Wait()
		if got := revoked(w); len(got) != 1 || got[0] != w.wire.refreshToken {
			t.Errorf("revoked %q, want %q", got, w.wire.refreshToken)
		}
	})
	t.Run("not, where the issuer cannot", func(t *testing.T) {
		w, b := newWorld(t), newBrowser(t)
		w.wire.metadata = map[string]any{"revocation_endpoint": "https://127.0.0.1:1/gone"}
		b.signIn(w, "ada")
		b.signIn(w, "bob")
		if got := b.get(w.app.URL + "/page"); !strings.HasPrefix(got.body, "bob") {
			t.Errorf("page says %q", got.body)
		}
	})
}

func TestSessionsAreBounded(t *testing.T) {
	w := newWorld(t, func(c *websession.Config) { c.MaxSessions, c.Lifetime = 2, time.Hour })
	browsers := []*browser{newBrowser(t), newBrowser(t), newBrowser(t)}
	for i, b := range browsers {
		b.signIn(w, fmt.Sprint("person-", i))
		w.issuer.Advance(time.Second)
	}
	for i, want := range []int{http.StatusUnauthorized, http.StatusOK, http.StatusOK} {
		if got := browsers[i].get(w.app.URL + "/api"); got.status != want {
			t.Errorf("person %d: %d, want %d", i, got.status, want)
		}
	}
	w.issuer.Advance(time.Hour)
	if got := browsers[2].get(w.app.URL + "/api"); got.status != http.StatusUnauthorized {
		t.Errorf("after its lifetime: %d", got.status)
	}
}

func TestTheIssuerMayStartLater(t *testing.T) {
	w, b := newWorld(t), newBrowser(t)
	w.wire.metadata = map[string]any{"issuer": "https://evil.example"}
	if got := b.get(w.app.URL + "/login"); got.status != http.StatusServiceUnavailable {
		t.Errorf("metadata of another issuer: %d to %q", got.status, got.location)
	}
	w.wire.set(func(w *wire) { w.metadata = nil })
	w.issuer.Advance(time.Minute)
	b.signIn(w, "ada")
}

// Secrets do not go over plain http because a document says so.
// Row: X07.
func TestMetadataIsChecked(t *testing.T) {
	for _, member := range []string{"authorization_endpoint", "token_endpoint", "revocation_endpoint", "end_session_endpoint"} {
		for _, value := range []string{"http://elsewhere.example/x", "javascript:alert(1)", "//elsewhere.example"} {
			w, b := newWorld(t), newBrowser(t)
			w.wire.metadata = map[string]any{member: value}
			if got := b.get(w.app.URL + "/login"); got.status != http.StatusServiceUnavailable {
				t.Errorf("%s %q: %d to %q", member, value, got.status, got.location)
			}
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for name, change := range map[string]func(*websession.Config){
		"no guard":                func(c *websession.Config) { c.Guard = nil },
		"no client":               func(c *websession.Config) { c.ClientID = "" },
		"no resource":             func(c *websession.Config) { c.Resource = "" },
		"no URL":                  func(c *websession.Config) { c.URL = "" },
		"URL with a path":         func(c *websession.Config) { c.URL = "https://todo.example.com/" },
		"URL with a user":         func(c *websession.Config) { c.URL = "https://a@todo.example.com" },
		"plain http off loopback": func(c *websession.Config) { c.URL = "http://todo.example.com" },
		"another scheme":          func(c *websession.Config) { c.URL = "ftp://localhost" },
	} {
		var cfg websession.Config
		newWorld(t, func(c *websession.Config) { cfg = *c })
		change(&cfg)
		if _, err := websession.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

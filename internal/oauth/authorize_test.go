package oauth_test

import (
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/servertest"
)

const evil = "https://evil.example.test/cb"

// A request whose client or return address is in doubt is answered by a page
// of our own, whoever is signed in: nothing is sent anywhere, nothing is kept.
//
// Proves: MCP-AS-12, MCP-AS-17, RFC6749-3.1-b, RFC6749-3.1.2-a, RFC6749-3.1.2.3-a, RFC6749-3.1.2.4-a,
// RFC6749-4.1.2.1-a, RFC9700-2.1-a, RFC9700-4.1.3-a, RFC9700-4.2.4-a, RFC9700-4.16-a
func TestAuthorizeShownNotSent(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		at := func(registered, asked string) url.Values {
			c := w.client(t, oauth.NewClient{Name: "Other", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{registered}})
			return request(c.ID, "redirect_uri", asked)
		}
		of := func(asked string) url.Values { return at(callback, asked) }
		twice := func(name, value string) string {
			return request(w.public.ID).Encode() + "&" + url.Values{name: {value}}.Encode()
		}
		two := w.client(t, oauth.NewClient{Name: "Two", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{callback, callback + "2"}})
		gone := w.client(t, oauth.NewClient{Name: "Gone", Type: oauth.ThirdPartyPublic})
		if err := w.Clients.DeleteClient(t.Context(), w.Project, gone.ID); err != nil {
			t.Fatal(err)
		}
		shut := w.blocked(t)
		const unknown = "We do not know the program"
		const refused = audit.AuthorizeRefused
		type row struct {
			name    string
			request url.Values
			query   string // instead of request
			event   audit.Kind
			says    string
		}
		rows := []row{
			{"A01 redirect on a foreign host", of(evil), "", refused, "never registered"},
			{"A03 a dot is not a wildcard", at("https://foo.example.com/cb", "https://fooaexample.com/cb"), "", refused, "never registered"},
			{"A04 a user before the host", of("https://client.example.test@evil.example.test/cb"), "", refused, "never registered"},
			{"A05 two users", of("https://client.example.test@x@evil.example.test/cb"), "", refused, ""},
			{"A05 an encoded slash before the at sign", of("https://client.example.test%2F@evil.example.test/cb"), "", refused, ""},
			{"A05 an encoded percent sign", of("https://client.example.test%25@evil.example.test/cb"), "", refused, ""},
			{"A05 a backslash before the host", of(`https://evil.example.test\@client.example.test/cb`), "", refused, ""},
			{"A06 dots in the path", of("https://client.example.test/cb/../x"), "", refused, ""},
			{"A06 dots with a semicolon", of("https://client.example.test/cb/..;/x"), "", refused, ""},
			{"A06 encoded dots", of("https://client.example.test/%2e%2e/cb"), "", refused, ""},
			{"A07 other letter case of the path", of("https://client.example.test/CB"), "", refused, ""},
			{"A07 other letter case of the host", of("https://CLIENT.example.test/cb"), "", refused, ""},
			{"A07 a trailing slash", of(callback + "/"), "", refused, ""},
			{"A07 the default port", of("https://client.example.test:443/cb"), "", refused, ""},
			{"A07 one more query pair", of(callback + "?x=1"), "", refused, ""},
			{"A07 an encoded tilde", at("https://client.example.test/~cb", "https://client.example.test/%7Ecb"), "", refused, ""},
			{"A08 javascript", of("JavaScript:alert(1)"), "", refused, ""},
			{"A08 data behind a blank", of(" data:text/html,<script>alert(1)</script>"), "", refused, ""},
			{"A08 a tab in the scheme", of("vb\tscript:alert(1)"), "", refused, ""},
			{"A08 a control byte in the scheme", of("java\x01script:alert(1)"), "", refused, ""},
			{"A08 a NUL in the scheme", of("java\x00script:alert(1)"), "", refused, ""},
			{"A09 a fragment", of(callback + "#x"), "", refused, ""},
			{"A09 an empty fragment", of(callback + "#"), "", refused, ""},
			{"A10 loopback with another path", at("http://127.0.0.1/cb", "http://127.0.0.1:51004/other"), "", refused, ""},
			{"A10 localhost for 127.0.0.1", at("http://127.0.0.1/cb", "http://localhost:51004/cb"), "", refused, ""},
			{"A10 ::1 for localhost", at("http://localhost/cb", "http://[::1]/cb"), "", refused, ""},
			{"A10 https has no free port", at("https://localhost/cb", "https://localhost:8443/cb"), "", refused, ""},
			{"A11 localhost as the beginning of a name", at("http://localhost/cb", "http://localhost.evil.example.test/cb"), "", refused, ""},
			{"A11 127.0.0.1 as the beginning of a name", at("http://127.0.0.1/cb", "http://127.0.0.1.evil.example.test/cb"), "", refused, ""},
			{"A12 no redirect URI, two registered", request(two.ID, "redirect_uri", ""), "", refused, ""},
			{"A13 a client that never was", request("connected-app-test-01930000-0000-7000-8000-000000000000"), "", refused, unknown},
			{"A13 a client that was deleted", request(gone.ID), "", refused, unknown},
			{"A13 a client that is blocked", request(shut.ID), "", refused, unknown},
			{"A13 no client", request(""), "", refused, ""},
			{"A13 a client id with quotes and a NUL", request("x'\"\x00"), "", refused, ""},
			{"A13 a client id of 200 bytes that ends inside a letter", request(strings.Repeat("x", 199) + "é"), "", refused, unknown},
			{"A14 client_id twice", nil, twice("client_id", w.public.ID), refused, ""},
			{"A14 redirect_uri twice", nil, twice("redirect_uri", evil), refused, ""},
			{"A14 scope twice", nil, twice("scope", "read:todos"), refused, ""},
			{"A14 state twice", nil, twice("state", "x"), refused, ""},
			{"A14 code_challenge twice", nil, twice("code_challenge", challengeOf("x")), refused, ""},
			{"A14 a parameter that nobody knows, twice", nil, twice("x", "1") + "&x=2", refused, ""},
			{"A36 a client of another project", request(w.neighbour(t).ID), "", refused, unknown},
		}
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				query := row.query
				if query == "" {
					query = row.request.Encode()
				}
				for _, b := range []*servertest.Browser{w.Browser(t), w.browser} {
					w.refuses(t, row.event, func() {
						page := b.Get(t, oauth.PathAuthorize+"?"+query)
						if row.says == "" {
							refusedPage(t, page)
						} else {
							refusedPage(t, page, row.says)
						}
					})
				}
			})
		}
	})
}

// blocked is a client that an operator shut out.
func (w *world) blocked(t *testing.T) oauth.Client {
	t.Helper()
	c := w.public
	c.ID, c.Blocked = secret.NewID(w.Clock.Now(), "connected-app", "test"), true
	e := audit.Event{ProjectID: w.Project.ID, At: w.Clock.Now(), Kind: audit.ClientCreated}
	if err := w.Store.CreateClient(t.Context(), c, nil, e); err != nil {
		t.Fatal(err)
	}
	return c
}

// neighbour is a client of another project on the same server.
func (w *world) neighbour(t *testing.T) oauth.Client {
	t.Helper()
	p, _, err := w.Projects.Create(t.Context(), project.New{Name: "Next door", Issuer: "https://next.example.test", Environment: project.Test})
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := w.Clients.CreateClient(t.Context(), p, oauth.NewClient{Name: "Neighbour", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{callback}})
	if err != nil {
		t.Fatal(err)
	}
	w.Follow(t)
	return c
}

// Whatever else is wrong goes to a client that an operator registered at its
// redirect URI, with error, state and iss.
//
// Proves: MCP-AS-13, MCP-AS-18, MCP-AS-26, RFC6749-3.1.1-a, RFC6749-3.3-b, RFC6749-4.1.2.1-b, RFC7636-4.3-a,
// RFC7636-4.4.1-a, RFC8707-2-a, RFC8707-2-b, RFC8707-2-c, RFC9207-2-b, RFC9700-2.1.1-a, RFC9700-2.1.1-b, RFC9700-2.1.2-a,
// RFC9700-4.8.2-a, RFC9700-4.12-a, OIDC-6.1-a, OIDC-3.1.2.1-h, RFC7636-7.2-a
func TestAuthorizeRefusedByRedirect(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		var fetched atomic.Int32
		bait := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { fetched.Add(1) }))
		defer bait.Close()
		id := w.public.ID
		challenge := challengeOf(rigVerifier)
		rows := []struct {
			name    string
			request url.Values
			code    string
		}{
			{"A16 no response type", request(id, "response_type", ""), "invalid_request"},
			{"A16 response type token", request(id, "response_type", "token"), "unsupported_response_type"},
			{"A16 response type id_token", request(id, "response_type", "id_token"), "unsupported_response_type"},
			{"A16 response type code token", request(id, "response_type", "code token"), "unsupported_response_type"},
			{"A17 response mode form_post", request(id, "response_mode", "form_post"), "invalid_request"},
			{"A17 response mode fragment", request(id, "response_mode", "fragment"), "invalid_request"},
			{"A17 response mode web_message", request(id, "response_mode", "web_message"), "invalid_request"},
			{"A17 response mode jwt", request(id, "response_mode", "jwt"), "invalid_request"},
			{"A18 no challenge, public client", request(id, "code_challenge", ""), "invalid_request"},
			{"A18 no challenge, confidential client", request(w.basic.ID, "code_challenge", ""), "invalid_request"},
			{"A18 neither challenge nor method", request(w.post.ID, "code_challenge", "", "code_challenge_method", ""), "invalid_request"},
			{"A19 no method", request(id, "code_challenge_method", ""), "invalid_request"},
			{"A19 plain", request(id, "code_challenge_method", "plain", "code_challenge", rigVerifier), "invalid_request"},
			{"A20 S512", request(id, "code_challenge_method", "S512"), "invalid_request"},
			{"A20 s256", request(id, "code_challenge_method", "s256"), "invalid_request"},
			{"A21 a challenge of 42 characters", request(id, "code_challenge", challenge[:42]), "invalid_request"},
			{"A21 a challenge of 44 characters", request(id, "code_challenge", challenge+"A"), "invalid_request"},
			{"A21 a padded challenge", request(id, "code_challenge", challenge+"="), "invalid_request"},
			{"A21 a challenge that is not base64url", request(id, "code_challenge", strings.Repeat("+", 43)), "invalid_request"},
			{"A23 a relative resource", request(id, "resource", "/mcp"), "invalid_target"},
			{"A23 a resource with a fragment", request(id, "resource", todo+"#x"), "invalid_target"},
			{"A23 a resource that is no URL", request(id, "resource", "https://[todo"), "invalid_target"},
			{"A24 a resource nobody registered", request(id, "resource", "https://other.example.test/mcp"), "invalid_target"},
			{"A25 two resources", with2(request(id), "resource", notes), "invalid_target"},
			{"A26 a scope nobody defined", request(id, "scope", "read:todos admin"), "invalid_scope"},
			{"A26 only scopes of another resource", request(id, "scope", "read:notes"), "invalid_scope"},
			{"A27 a quote in a scope", request(id, "scope", `read:todos "`), "invalid_scope"},
			{"A27 a tab between scopes", request(id, "scope", "read:todos\twrite:todos"), "invalid_scope"},
			{"A27 65 scopes", request(id, "scope", many(65)), "invalid_scope"},
			{"A29 a request object", request(id, "request", "eyJhbGciOiJub25lIn0.e30."), "request_not_supported"},
			{"A29 a request object elsewhere", request(id, "request_uri", bait.URL+"/object"), "request_uri_not_supported"},
			{"A27 a scope of 4,097 bytes", request(id, "scope", strings.Repeat("a", 4097)), "invalid_scope"},
			{"A28 a nonce of 513 bytes", request(id, "nonce", strings.Repeat("n", 513)), "invalid_request"},
			{"an id_token_hint of 4,097 bytes", request(id, "id_token_hint", strings.Repeat("h", 4097)), "invalid_request"},
			{"an id_token_hint that is none of ours", request(id, "id_token_hint", "eyJhbGciOiJub25lIn0.e30."), "invalid_request"},
			{"a max_age that is no number", request(id, "max_age", "-1"), "invalid_request"},
			{"prompt none beside another", request(id, "prompt", "none login"), "invalid_request"},
		}
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				for _, b := range []*servertest.Browser{w.Browser(t), w.browser} {
					w.refuses(t, audit.AuthorizeRefused, func() {
						w.refusedAnswer(t, b.Authorize(t, row.request), callback, row.code)
					})
				}
			})
		}
		t.Run("A28 a state of 2,049 bytes, which comes back all the same", func(t *testing.T) {
			state := strings.Repeat("s", 2049)
			w.refuses(t, audit.AuthorizeRefused, func() {
				if q := w.browser.Authorize(t, request(id, "state", state)).Answer(t).Query(); q.Get("error") != "invalid_request" || q.Get("state") != state {
					t.Errorf("got %v", q)
				}
			})
		})
		if n := fetched.Load(); n != 0 {
			t.Errorf("the request object was fetched %d times", n)
		}
		t.Run("A24 a registered resource and an unknown one are told apart by nothing but the list", func(t *testing.T) {
			a := w.browser.Authorize(t, request(id, "resource", "https://next.example.test/mcp")).Answer(t)
			b := w.browser.Authorize(t, request(id, "resource", "https://never.example.test/mcp")).Answer(t)
			if a.String() != b.String() {
				t.Errorf("%s and %s differ", a, b)
			}
		})
	})
}

// with2 adds one more value of a parameter.
func with2(v url.Values, name, value string) url.Values {
	v[name] = append(v[name], value)
	return v
}

func many(n int) string {
	var list strings.Builder
	for i := range n {
		list.WriteString(" s" + strings.Repeat("x", i))
	}
	return list.String()
}

// What holds is answered at the redirect URI: with a code, state and iss.
//
// Proves: MCP-AS-12, RFC6749-3.1-a, RFC6749-3.1-c, RFC6749-3.1-d, RFC6749-3.1.2-b, RFC6749-4.1.2-d, RFC9207-2-a, RFC9207-3-a, RFC8707-2-d,
// RFC6749-3.3-b, RFC9068-3-b, OIDC-3.1.2.1-e, OIDC-3.1.2.1-f, OIDC-3.1.2.2-b, OIDC-15.1-b, OIDC-15.1-c, RFC6749-10.14-a
func TestAuthorizeAnswers(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		answered := func(t *testing.T, q url.Values, at string) *url.URL {
			t.Helper()
			to := w.answer(t, w.browser, q)
			w.carries(t, to, at, "code", to.Query().Get("code"))
			return to
		}
		for name, test := range map[string][2]string{
			"A10 127.0.0.1, another port":    {"http://127.0.0.1/cb", "http://127.0.0.1:51004/cb"},
			"A10 ::1, another port":          {"http://[::1]:1/cb", "http://[::1]:51004/cb"},
			"A10 localhost, another port":    {"http://localhost/cb", "http://localhost:51004/cb"},
			"A10 localhost, no port at all":  {"http://localhost:3334/cb", "http://localhost/cb"},
			"A10 a query stays as it was":    {"http://localhost/cb?keep=1", "http://localhost:5/cb?keep=1"},
			"a private-use scheme":           {"cursor://anysphere.cursor-mcp/oauth/cb", "cursor://anysphere.cursor-mcp/oauth/cb"},
			"an https address with a query ": {callback + "?keep=1", callback + "?keep=1"},
		} {
			t.Run(name, func(t *testing.T) {
				c := w.client(t, oauth.NewClient{Name: "Native", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{test[0]}})
				page := w.browser.Authorize(t, request(c.ID, "redirect_uri", test[1]))
				if strings.HasPrefix(test[1], "cursor:") {
					page = w.browser.Submit(t, page, "allow", url.Values{"action": {"allow"}})
					if !strings.Contains(page.Body, `href="`+test[1]+`?code=`) {
						t.Fatalf("no link to %s:\n%s", test[1], page.Body)
					}
					return
				}
				to := w.browser.Allow(t, page)
				w.carries(t, to, test[1], "code", to.Query().Get("code"))
				if strings.Contains(test[1], "keep=1") && to.Query().Get("keep") != "1" {
					t.Errorf("the registered query is gone: %s", to)
				}
			})
		}
		t.Run("unknown parameters are ignored, empty ones count as absent", func(t *testing.T) {
			answered(t, with(request(w.public.ID), "x", "1", "claims", "{}", "display", "popup", "ui_locales", "fr-CA xx",
				"claims_locales", "de", "acr_values", "urn:example:gold", "registration", "{}"), callback)
			q := request(w.public.ID)
			q["nonce"], q["prompt"], q["request"] = []string{""}, []string{""}, []string{""}
			answered(t, q, callback)
		})
		t.Run("no redirect URI, one registered", func(t *testing.T) {
			answered(t, request(w.public.ID, "redirect_uri", ""), callback)
		})
		t.Run("A22 no resource: the default one", func(t *testing.T) {
			tokens := w.tokens(t, w.public, "resource", "")
			if aud := claimsOf(t, tokens.Access)["aud"]; aud != todo {
				t.Errorf("aud is %v, want %s", aud, todo)
			}
		})
		t.Run("A28 a state of anything up to 2,048 bytes comes back as it was", func(t *testing.T) {
			for _, state := range []string{"a\r\nSet-Cookie: x=1", "</script><script>alert(1)", "ä ö%20&=#?+\"'", strings.Repeat("s", 2048)} {
				to := w.browser.Authorize(t, request(w.public.ID, "state", state)).Answer(t)
				if got := to.Query()["state"]; len(got) != 1 || got[0] != state {
					t.Errorf("state %.40q came back as %.40q", state, got)
				}
				if strings.ContainsAny(to.String(), "\r\n<>\" ") {
					t.Errorf("the address is not encoded: %.200s", to)
				}
				page := w.browser.Authorize(t, request(w.public.ID, "state", state, "scope", "nope"))
				if got := page.Answer(t).Query().Get("state"); got != state {
					t.Errorf("state %.40q came back with an error as %.40q", state, got)
				}
			}
		})
		for name, prompt := range map[string][]string{
			"prompt=login asks who it is, whoever is signed in": {"prompt", "login"},
			"so does a proof older than max_age":                {"max_age", "1"},
		} {
			t.Run(name, func(t *testing.T) {
				b := w.signedIn(t, rand.Text()+"@example.test")
				w.Clock.Advance(2 * time.Second)
				page := b.Authorize(t, request(w.public.ID, prompt...))
				if !strings.Contains(page.Body, `name="email"`) {
					t.Fatalf("got %d, want the page that asks who it is", page.Status)
				}
				to := b.Allow(t, b.SignIn(t, page, rand.Text()+"@example.test"))
				i := got(t, w.token(t, w.public, redeem(to.Query().Get("code"))))
				if at := claimsOf(t, i.Access)["auth_time"]; at != float64(w.Clock.Now().Unix()) {
					t.Errorf("auth_time is %v", at)
				}
			})
		}
		t.Run("A34 without state there is none in the answer", func(t *testing.T) {
			to := w.browser.Authorize(t, request(w.public.ID, "state", "")).Answer(t)
			if to.Query().Has("state") || to.Query().Get("iss") != w.Issuer {
				t.Errorf("answer %s", to)
			}
		})
		t.Run("A34 the metadata says that iss is sent", func(t *testing.T) {
			for _, path := range []string{oauth.PathMetadata, oauth.PathDiscovery} {
				m := w.send(t, http.MethodGet, path, nil, "").json()
				if m["authorization_response_iss_parameter_supported"] != true || m["issuer"] != w.Issuer {
					t.Errorf("%s: %v", path, m)
				}
			}
		})
	})
}

// Nobody is made to jump to a client that nobody vouches for.
//
// Proves: MCP-AS-26, RFC9700-4.11.2-a, RFC6749-10.15-a, OIDC-3.1.2.4-a
func TestAuthorizeIsNoOpenRedirector(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		self := w.self(t, evil)
		bad := request(self, "redirect_uri", evil, "scope", "nope")
		t.Run("A31 self-registered, nobody signed in: a page without a way on", func(t *testing.T) {
			w.refuses(t, audit.AuthorizeRefused, func() {
				refusedPage(t, w.Browser(t).Authorize(t, bad))
			})
		})
		t.Run("A31 self-registered, signed in: a page with a link that the person may follow", func(t *testing.T) {
			page := w.browser.Authorize(t, bad)
			if page.Status != http.StatusBadRequest || page.Header.Get("Location") != "" || page.Header.Get("Refresh") != "" {
				t.Fatalf("got %d %v", page.Status, page.Header)
			}
			if !strings.Contains(page.Body, `href="`+evil+`?error=invalid_scope`) || !strings.Contains(page.Body, "evil.example.test") {
				t.Errorf("no link with its host:\n%s", page.Body)
			}
		})
		t.Run("A30 prompt=none, nobody signed in", func(t *testing.T) {
			w.refuses(t, audit.AuthorizeRefused, func() {
				w.refusedAnswer(t, w.Browser(t).Authorize(t, request(w.rival.ID, "prompt", "none")), callback, "login_required")
			})
			w.refuses(t, audit.AuthorizeRefused, func() {
				refusedPage(t, w.Browser(t).Authorize(t, request(self, "redirect_uri", evil, "prompt", "none")))
			})
		})
		t.Run("A30 prompt=none, signed in, nothing allowed yet", func(t *testing.T) {
			w.refuses(t, audit.AuthorizeRefused, func() {
				w.refusedAnswer(t, w.browser.Authorize(t, request(w.rival.ID, "prompt", "none")), callback, "consent_required")
			})
		})
		t.Run("A30 prompt=none, signed in, allowed: a code at once", func(t *testing.T) {
			w.code(t, request(w.rival.ID))
			page := w.browser.Authorize(t, request(w.rival.ID, "prompt", "none"))
			w.carries(t, page.Answer(t), callback, "code", page.Answer(t).Query().Get("code"))
		})
		t.Run("A30 prompt=none, the proof older than max_age", func(t *testing.T) {
			w.Clock.Advance(time.Minute)
			page := w.browser.Authorize(t, request(w.rival.ID, "prompt", "none", "max_age", "59"))
			w.refusedAnswer(t, page, callback, "login_required")
			page = w.browser.Authorize(t, request(w.rival.ID, "prompt", "none", "max_age", "61"))
			w.carries(t, page.Answer(t), callback, "code", page.Answer(t).Query().Get("code"))
		})
	})
}

// Row: A15, A32. The endpoint is for browsers that come by GET, or by a form
// without anything in the address.
//
// Proves: MCP-AS-12
func TestAuthorizeMethods(t *testing.T) {
	w := newWorld(t, servertest.Config{})
	query := "?" + request(w.public.ID).Encode()
	for _, method := range []string{"POST", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"} {
		t.Run("A32 "+method, func(t *testing.T) {
			kept := audit.Kind("")
			if method == "POST" { // read, and refused for what it is
				kept = audit.AuthorizeRefused
			}
			w.refuses(t, kept, func() {
				header := isForm.Clone()
				header.Set("Origin", "https://evil.example.test")
				header.Set("Access-Control-Request-Method", "GET")
				a := w.send(t, method, oauth.PathAuthorize+query, header, request(w.public.ID).Encode())
				if want := map[bool]int{true: http.StatusBadRequest, false: http.StatusMethodNotAllowed}[method == "POST"]; a.code != want && a.code != http.StatusForbidden {
					t.Errorf("got %d", a.code)
				}
				for name := range a.header {
					if strings.HasPrefix(name, "Access-Control-") {
						t.Errorf("%s: %s", name, a.header.Get(name))
					}
				}
				innocent(t, a.header, a.body)
			})
		})
	}
	t.Run("A32 GET from another origin gets no CORS", func(t *testing.T) {
		a := w.send(t, http.MethodGet, oauth.PathAuthorize+query, http.Header{"Origin": {"https://evil.example.test"}}, "")
		if got := a.header.Get("Access-Control-Allow-Origin"); got != "" {
			t.Errorf("Access-Control-Allow-Origin: %s", got)
		}
	})
}

// Row: A33. Who the server is follows from its configuration.
//
// Proves: MCP-AS-3
func TestSpoofedHost(t *testing.T) {
	w := newWorld(t, servertest.Config{})
	spoofed := http.Header{
		"X-Forwarded-Host": {"evil.example.test"}, "X-Forwarded-Proto": {"https"}, "X-Forwarded-Port": {"443"},
		"Forwarded": {"host=evil.example.test;proto=https"}, "X-Original-Host": {"evil.example.test"}, "X-Host": {"evil.example.test"},
	}
	t.Run("A33 headers of a proxy that was not named", func(t *testing.T) {
		a := w.send(t, http.MethodGet, oauth.PathMetadata, spoofed, "")
		if a.code != http.StatusOK || a.json()["issuer"] != w.Issuer || strings.Contains(a.body, "evil") {
			t.Errorf("got %d %s", a.code, a.body)
		}
		a = w.send(t, http.MethodGet, oauth.PathAuthorize+"?"+request(w.public.ID, "scope", "nope").Encode(), spoofed, "")
		to, err := url.Parse(a.header.Get("Location"))
		if err != nil || to.Query().Get("iss") != w.Issuer {
			t.Errorf("got %d %v", a.code, a.header)
		}
	})
	t.Run("A33 a host that no project has", func(t *testing.T) {
		for _, path := range []string{oauth.PathMetadata, oauth.PathAuthorize + "?" + request(w.public.ID).Encode(), "/login"} {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.Issuer+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Host = "evil.example.test"
			response, err := machines.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close() // only the head counts
			if response.StatusCode != http.StatusMisdirectedRequest || response.Header.Get("Location") != "" {
				t.Errorf("%s: got %d %s", path, response.StatusCode, response.Header.Get("Location"))
			}
		}
	})
}

// Row: A35. Who is not signed in is asked to, and learns from no page whether
// somebody is known here.
//
// Proves: RFC6749-3.1-e
func TestHintsTellNothing(t *testing.T) { eachWorld(t, hintsTellNothing) }

func hintsTellNothing(t *testing.T, w *world) {
	w.Ready(t)
	mine := w.tokens(t, w.public, "scope", "openid read:todos")
	page := func(changes ...string) string {
		p := w.Browser(t).Authorize(t, request(w.public.ID, changes...))
		if p.Status != http.StatusOK || !strings.Contains(p.Body, `name="email"`) {
			t.Fatalf("got %d, want the page that asks who it is", p.Status)
		}
		return unique.ReplaceAllString(p.Body, "…")
	}
	known := page("login_hint", ida)
	if !strings.Contains(known, ida) {
		t.Error("the hint is not in the page")
	}
	if unknown := page("login_hint", "eve@example.test"); strings.ReplaceAll(known, ida, "") != strings.ReplaceAll(unknown, "eve@example.test", "") {
		t.Error("A35 the pages for somebody known and somebody unknown differ")
	}
	if page() != page("id_token_hint", mine.ID) {
		t.Error("A35 an id_token_hint changes the page")
	}
}

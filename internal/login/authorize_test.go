package login_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

// Proves: OIDC-3.1.2.1-e, OIDC-3.1.2.1-f, OIDC-3.1.2.1-g, OIDC-3.1.2.1-h, OIDC-3.1.2.1-j, OIDC-15.1-b
func TestPrompt(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.signedIn(ada)
		b.connect(w.operator.ID, callback)
		silent := func(t *testing.T, b *browser, want string, change ...string) {
			t.Helper()
			p := b.authorize(request(w.operator.ID, callback, change...))
			if p.answer() == nil {
				t.Fatalf("%d %s", p.status, p.text())
			}
			if got := p.answer().Query().Get("error"); got != want {
				t.Errorf("error %q, want %q", got, want)
			}
			if q := p.answer().Query(); q.Get("state") != "s t&ä" || q.Get("iss") != w.Issuer {
				t.Errorf("answer %v", q)
			}
		}
		t.Run("none, signed in and remembered", func(t *testing.T) { silent(t, b, "", "prompt", "none") })
		t.Run("none, nobody signed in", func(t *testing.T) { silent(t, w.on(t).browser(), "login_required", "prompt", "none") })
		t.Run("none, and something to ask", func(t *testing.T) {
			silent(t, b, "consent_required", "prompt", "none", "scope", "delete:notes")
		})
		t.Run("none, with a proof that is too old", func(t *testing.T) {
			w.Clock.Advance(time.Minute)
			silent(t, b, "login_required", "prompt", "none", "max_age", "59")
		})
		t.Run("none beside another", func(t *testing.T) { silent(t, b, "invalid_request", "prompt", "none login") })
		t.Run("A30: none, for a client that registered itself, stays here", func(t *testing.T) {
			w := w.on(t)
			p := w.browser().authorize(request(w.dynamic, loopback, "prompt", "none"))
			wantText(t, p, 400, "asked in a way we cannot answer", "Nobody is signed in")
			if p.answer() != nil || strings.Contains(p.body, "Tell <bdi>") {
				t.Error("the refusal leaves the page")
			}
			b.w = w
			p = b.authorize(request(w.dynamic, loopback, "prompt", "none"))
			wantText(t, p, 400, "Tell MCP Inspector") // signed in: by a link
			if p.answer() != nil {
				t.Error("the refusal leaves by itself")
			}
			fresh := w.browser()
			p = fresh.authorize(request(w.document.url, callback, "prompt", "none"))
			wantText(t, p, 400, "nobody is signed in here")
			if p.answer() != nil || len(fresh.cookies) != 0 {
				t.Error("the refusal leaves the page, or a flow was made")
			}
		})
		for _, prompt := range []string{"login", "select_account"} {
			t.Run(prompt+" asks for a new proof", func(t *testing.T) {
				w := w.on(t)
				b := w.signedIn(ada)
				w.Clock.Advance(time.Minute)
				p := b.authorize(request(w.operator.ID, callback, "prompt", prompt))
				wantText(t, p, 200, "E-mail address")
				if p = b.signIn(p, ada); p.status != 200 || p.answer() == nil {
					t.Errorf("after the proof: %d %s", p.status, p.text())
				}
			})
		}
		t.Run("max_age", func(t *testing.T) {
			w := w.on(t)
			b := w.signedIn(ada)
			w.Clock.Advance(10 * time.Minute)
			if p := b.authorize(request(w.operator.ID, callback, "max_age", "601")); p.answer() == nil {
				t.Errorf("a proof of ten minutes: %d %s", p.status, p.text())
			}
			if p := b.authorize(request(w.operator.ID, callback, "max_age", "9223372036854775807")); p.answer() == nil {
				t.Errorf("no limit worth the name: %d %s", p.status, p.text())
			}
			p := b.authorize(request(w.operator.ID, callback, "max_age", "599"))
			wantText(t, p, 200, "E-mail address")
			if p = b.signIn(p, ada); p.answer() == nil {
				t.Errorf("after the proof: %d %s", p.status, p.text())
			}
			if p = b.authorize(request(w.operator.ID, callback, "max_age", "x")); p.answer() == nil || p.answer().Query().Get("error") != "invalid_request" {
				t.Errorf("%d %v", p.status, p.answer())
			}
		})
		t.Run("login_hint stands in the field and does nothing", func(t *testing.T) {
			w := w.on(t)
			p := w.browser().authorize(request(w.operator.ID, callback, "login_hint", `"><script>alert(1)</script>`))
			if strings.Contains(p.body, "<script>alert") || !strings.Contains(p.body, `value="&#34;&gt;&lt;script&gt;alert(1)&lt;/script&gt;"`) {
				t.Errorf("B19: the hint is not plain text:\n%s", p.body)
			}
			b.w = w
			b.signIn(b.authorize(request(w.operator.ID, callback, "prompt", "login", "login_hint", bea)), ada)
			if page := b.get("/connected-apps"); !strings.Contains(page.body, ada) || w.sent(bea) != 0 {
				t.Error("the hint chose who signs in")
			}
		})
	})
}

// Row: A01, A12-A14, A27, A28.
func TestDoubtfulRequests(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		in := w.signedIn(ada)
		for _, test := range []struct {
			name   string
			q      url.Values
			client bool
			says   []string
		}{
			{"an unknown client", request("connected-app-test-nobody", callback), false, []string{"We do not know the program that sent you here", "connected-app-test-nobody", "Remove the connection in that program"}},
			{"no client", request("", callback), false, []string{"The program that sent you here asked in a way we cannot answer", "client_id is missing"}},
			{"markup for a client", request("<b>x</b>", callback), false, []string{"<b>x</b>"}},
			{
				"a foreign return address", request(w.operator.ID, "https://evil.example/cb"), true,
				[]string{"Notebook gave a return address it never registered", "https://evil.example/cb", callback, "and 1 more, so we stopped here. Nothing was shared."},
			},
			{"a foreign return address of one that registered itself", request(w.dynamic, "http://127.0.0.1/other"), true, []string{"MCP Inspector gave a return address it never registered", loopback}},
			{"none of two", request(w.operator.ID, callback, "redirect_uri", ""), true, []string{"Notebook gave a return address it never registered"}},
			{"a client_id that is too long", request("https://client.example.test/"+strings.Repeat("x", 2049), callback), false, []string{"client_id or redirect_uri is longer than"}},
			{"a document at an address of ours", request(w.Issuer+"/client.json", callback), false, nil},
			{"a document by http", request("http://client.example.test/c.json", callback), false, nil},
		} {
			t.Run(test.name, func(t *testing.T) {
				for _, b := range []*browser{w.on(t).browser(), in} {
					b.w = w.on(t)
					p := b.authorize(test.q)
					wantText(t, p, 400, append(test.says, "Whose turn is it?", "Trace code "+p.header.Get("X-Request-Id"))...)
					if p.answer() != nil || strings.Contains(p.body, `href="https://evil`) || strings.Contains(p.body, "Tell <bdi>") || strings.Contains(p.body, "<b>x</b>") {
						t.Errorf("the page leads somewhere:\n%s", p.body)
					}
				}
			})
		}
		t.Run("A14: a parameter twice", func(t *testing.T) {
			for _, name := range []string{"client_id", "redirect_uri", "scope", "state", "code_challenge"} {
				b := w.on(t).browser()
				q := request(w.operator.ID, callback).Encode()
				wantText(t, b.get("/oauth/authorize?"+q+"&"+name+"=x"), 400, "asked in a way we cannot answer", name)
			}
		})
		t.Run("what nobody could grant is not kept until somebody signs in", func(t *testing.T) {
			for name, value := range map[string]string{"state": strings.Repeat("x", 2049), "request": "x.y.z", "id_token_hint": "x.y.z"} {
				b := w.on(t).browser()
				wantText(t, b.authorize(request(w.document.url, callback, name, value)), 400, "asked in a way we cannot answer")
				if len(b.cookies) != 0 {
					t.Errorf("%s: cookies %v", name, b.cookies)
				}
			}
		})
		t.Run("no session and no flow was made for them", func(t *testing.T) {
			b := w.on(t).browser()
			b.authorize(request("nobody", callback))
			if len(b.cookies) != 0 {
				t.Errorf("cookies %v", b.cookies)
			}
		})
	})
}

// A request may come as a form, from another site (OpenID Connect Core
// §3.1.2.1). The browser keeps our cookies back then, and brings them to the GET
// that the form becomes.
//
// Proves: OIDC-3.1.2.1-a, RFC6749-3.1-g
func TestAuthorizeByForm(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.signedIn(ada)
		post := func(w *world, body string, headers ...string) page {
			t.Helper()
			stranger := w.browser() // SameSite=Lax: without cookies
			return stranger.send(http.MethodPost, "/oauth/authorize", body, append([]string{"Origin", "https://client.example.test", "Sec-Fetch-Site", "cross-site"}, headers...)...)
		}
		q := request(w.operator.ID, callback)
		t.Run("becomes the same request by GET", func(t *testing.T) {
			w := w.on(t)
			got := post(w, q.Encode())
			to, err := url.Parse(got.header.Get("Location"))
			if err != nil || got.status != http.StatusSeeOther || to.Path != "/oauth/authorize" || to.Query().Encode() != q.Encode() {
				t.Fatalf("%d to %s", got.status, to)
			}
			if got.header.Get("Cache-Control") != "no-store" || len(got.header.Values("Set-Cookie")) != 0 {
				t.Errorf("header %v", got.header)
			}
			b.w = w
			p := b.get(to.String())
			wantText(t, p, 200, "Notebook wants to act for you", "Signed in as "+ada)
			if tokens := w.redeem(w.operator.ID, b.allow(p).answer()); tokens.AccessToken == "" {
				t.Errorf("%+v", tokens)
			}
		})
		t.Run("forged, with the cookies of a browser that sends them", func(t *testing.T) {
			b.w = w.on(t)
			b.connect(w.operator.ID, callback)
			got := b.send(http.MethodPost, "/oauth/authorize", q.Encode(), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
			if got.status != http.StatusSeeOther || !strings.HasPrefix(got.header.Get("Location"), "/oauth/authorize?") {
				t.Errorf("the form alone got an answer: %d %v", got.status, got.header)
			}
		})
		for name, test := range map[string]struct {
			body    string
			headers []string
			says    string
		}{
			"a parameter twice":          {q.Encode() + "&state=x", nil, "state"},
			"no client":                  {request("", callback).Encode(), nil, "client_id is missing"},
			"nothing":                    {"", nil, "client_id is missing"},
			"not a form":                 {`{"client_id":"x"}`, []string{"Content-Type", "application/json"}, ""},
			"more than an address takes": {q.Encode() + "&x=" + strings.Repeat("x", 8<<10), nil, ""},
		} {
			t.Run("refused: "+name, func(t *testing.T) {
				got := post(w.on(t), test.body, test.headers...)
				wantText(t, got, 400, "asked in a way we cannot answer", test.says, "Trace code")
				if got.header.Get("Location") != "" || len(got.header.Values("Set-Cookie")) != 0 {
					t.Errorf("header %v", got.header)
				}
			})
		}
		t.Run("parameters in the address beside the form", func(t *testing.T) {
			got := w.on(t).browser().send(http.MethodPost, "/oauth/authorize?"+q.Encode(), q.Encode())
			wantText(t, got, 400, "asked in a way we cannot answer")
		})
	})
}

// Row: A16, A18, A23, A26, A31, B19. Proves: MCP-AS-26.
func TestRefusalsOfCertainClients(t *testing.T) {
	w := newWorld(t, configOf(nil))
	in := w.signedIn(ada)
	for _, test := range []struct{ name, want, parameter, value string }{
		{"no challenge", "invalid_request", "code_challenge", ""},
		{"another response type", "unsupported_response_type", "response_type", "token"},
		{"an unknown scope", "invalid_scope", "scope", "read:notes nonsense"},
		{"an unknown resource", "invalid_target", "resource", "https://elsewhere.example.test/mcp"},
		{"a request object", "request_not_supported", "request", "x.y.z"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := w.on(t)
			in.w = w
			operators := w.browser().authorize(request(w.operator.ID, callback, test.parameter, test.value))
			if operators.status != http.StatusSeeOther || operators.answer() == nil {
				t.Fatalf("an operator's client: %d %s", operators.status, operators.text())
			}
			if q := operators.answer().Query(); q.Get("error") != test.want || q.Get("state") != "s t&ä" || q.Get("iss") != w.Issuer || q.Has("code") {
				t.Errorf("an operator's client: %v", q)
			}
			before := w.browser().authorize(request(w.dynamic, loopback, test.parameter, test.value))
			wantText(t, before, 400, "MCP Inspector asked in a way we cannot answer", "Nothing was shared.")
			if before.answer() != nil || strings.Contains(before.body, "error="+test.want) {
				t.Error("one that registered itself: the answer leaves the page before sign-in")
			}
			after := in.authorize(request(w.dynamic, loopback, test.parameter, test.value))
			wantText(t, after, 400, "Tell MCP Inspector")
			if after.answer() != nil || !strings.Contains(after.body, "127.0.0.1/cb?error="+test.want) {
				t.Errorf("one that registered itself, signed in: %s", after.body)
			}
		})
	}
}

func TestDocumentPages(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.signedIn(ada)
	host, _ := url.Parse(w.document.url)
	w.document.says("")
	wantText(t, b.authorize(request(w.document.url, callback)), 400, "We cannot use what "+host.Host+" says about itself", "client_name")
	wantText(t, b.authorize(request("https://127.0.0.1:1/client.json", callback)), 400, "We could not reach 127.0.0.1:1", "Try again in a minute.")
	_, err := w.Projects.Change(t.Context(), w.Project.ID, func(p *project.Project) error {
		p.Settings.MetadataDocuments = false
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.Follow(t)
	wantText(t, b.authorize(request(w.document.url, callback)), 400, "does not let "+host.Host+" connect this way", "postern project set cimd on")
}

// Row: O13, O14. Two projects on one host name: browsers send each the
// cookies of both.
func TestTwoProjectsOnOneName(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		const first, second = "https://auth.example.test:8443", "https://auth.example.test:9443"
		var browsers []*browser
		for i, issuer := range []string{first, second} {
			p, _, err := w.Projects.Create(t.Context(), project.New{Name: []string{"First", "Second"}[i], Issuer: issuer, Environment: project.Test})
			if err != nil {
				t.Fatal(err)
			}
			w.Follow(t)
			if _, _, err := w.Projects.AddResource(t.Context(), p, project.Resource{URI: notes}, []project.Scope{{Name: "read:notes", ReadOnly: true}}, false); err != nil {
				t.Fatal(err)
			}
			browsers = append(browsers, w.browserAt(issuer))
		}
		w.Server.Follow(t)
		a, b := browsers[0], browsers[1]
		b.cookies = a.cookies // one cookie jar, for cookies know no port
		a.signIn(a.get("/login"), ada)
		wantText(t, a.get("/connected-apps"), 200, "My connected apps", "in First")
		wantText(t, b.get("/connected-apps"), 200, "Sign in to Second")
		w.Clock.Advance(time.Hour)
		b.signIn(b.get("/login"), bea)
		for browser, email := range map[*browser]string{a: ada, b: bea} {
			if p := browser.get("/connected-apps"); !strings.Contains(p.body, email) || strings.Contains(p.body, "Sign in to") {
				t.Errorf("%s: %s", browser.issuer, p.text())
			}
		}
		t.Run("O14: a session renamed for the other project is none", func(t *testing.T) {
			thief := w.on(t).browserAt(second)
			var mine, theirs string
			for name := range b.cookies {
				if !strings.HasSuffix(name, "-session") {
					continue
				}
				if mine == "" {
					mine = name
				} else {
					theirs = name
				}
			}
			for _, pair := range [][2]string{{mine, theirs}, {theirs, mine}} {
				thief.cookies = map[string]string{pair[0]: b.cookies[pair[1]]}
				wantText(t, thief.get("/connected-apps"), 200, "Sign in to Second")
			}
		})
		t.Run("O13: a client of one is unknown to the other", func(t *testing.T) {
			p, err := w.Projects.Find(t.Context(), first)
			if err != nil {
				t.Fatal(err)
			}
			c, _, err := w.Clients.CreateClient(t.Context(), p, oauth.NewClient{Name: "Theirs", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{callback}})
			if err != nil {
				t.Fatal(err)
			}
			b.w = w.on(t)
			wantText(t, b.authorize(request(c.ID, callback, "scope", "read:notes")), 400, "We do not know the program")
		})
		t.Run("B23: the cookies of an https issuer", func(t *testing.T) {
			fresh := w.on(t).browserAt(first)
			w.Clock.Advance(time.Hour)
			wantCookies(t, fresh, "__Host-", true)
		})
	})
}

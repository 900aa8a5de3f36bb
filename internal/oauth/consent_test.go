package oauth_test

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

// Row: A02, B06. What is decided is what was asked: a posted form changes
// neither address, client nor scopes, and decides once.
//
// Proves: MCP-AS-17, MCP-AS-26, RFC6749-10.12-a, RFC9700-4.7.1-a, RFC9700-4.12-a, OIDC-3.1.2.4-a
func TestConsentDecidesWhatWasAsked(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		forged := url.Values{
			"redirect_uri": {evil}, "client_id": {w.rival.ID}, "scope": {"delete:todos"}, "resource": {notes}, "state": {"x"},
			"code_challenge": {challengeOf("x")}, "response_mode": {"fragment"},
		}
		t.Run("A02 allow with other parameters", func(t *testing.T) {
			c := w.client(t, oauth.NewClient{Name: "Forged", Type: oauth.ThirdPartyPublic})
			page := w.browser.Authorize(t, request(c.ID, "scope", "read:todos"))
			values := url.Values{"action": {"allow"}, "allow": {"read:todos", "delete:todos", "admin"}}
			for name, list := range forged {
				values[name] = list
			}
			page = w.browser.Submit(t, page, "allow", values)
			to := page.Answer(t)
			w.carries(t, to, callback, "code", to.Query().Get("code"))
			if page.Status != http.StatusOK || page.Header.Get("Location") != "" {
				t.Errorf("after a form comes %d to %q, want a page", page.Status, page.Header.Get("Location"))
			}
			if i := got(t, w.token(t, c, redeem(to.Query().Get("code")))); i.Scope != "read:todos" || claimsOf(t, i.Access)["aud"] != todo {
				t.Errorf("got %+v", i)
			}
		})
		t.Run("A02 deny with another redirect URI", func(t *testing.T) {
			c := w.client(t, oauth.NewClient{Name: "Denied", Type: oauth.ThirdPartyPublic})
			page := w.browser.Authorize(t, request(c.ID))
			before := w.events(t)
			page = w.browser.Submit(t, page, "action", url.Values{"action": {"deny"}, "redirect_uri": {evil}})
			w.carries(t, page.Answer(t), callback, "error", "access_denied")
			if n := w.events(t)["grant.denied"] + w.events(t)["grant.denied!"]; n != before["grant.denied"]+before["grant.denied!"]+1 {
				t.Errorf("%d events of the refusal", n)
			}
		})
		t.Run("B01 a form without our token, or with another page's", func(t *testing.T) {
			c := w.client(t, oauth.NewClient{Name: "Pressed", Type: oauth.ThirdPartyPublic})
			page := w.browser.Authorize(t, request(c.ID))
			other := w.browser.Authorize(t, request(c.ID))
			form := url.Values{"action": {"allow"}, "allow": {"read:todos"}}
			for _, csrf := range []string{"", "x", hidden.FindStringSubmatch(other.Body)[2]} {
				w.refuses(t, audit.FormRefused, func() {
					p := w.browser.Post(t, page.URL.Path+"/consent", with(form, "csrf", csrf))
					if p.Status != http.StatusForbidden || p.Header.Get("Refresh") != "" || secretText.MatchString(p.Body) {
						t.Errorf("got %d", p.Status)
					}
				})
			}
			w.browser.Allow(t, page)
		})
		t.Run("B15 deny for a client that registered itself waits for a click", func(t *testing.T) {
			page := w.browser.Authorize(t, request(w.self(t, evil), "redirect_uri", evil))
			page = w.browser.Submit(t, page, "action", url.Values{"action": {"deny"}})
			if page.Header.Get("Refresh") != "" || page.Header.Get("Location") != "" || !strings.Contains(page.Body, `href="`+evil+`?error=access_denied`) {
				t.Errorf("got %v\n%s", page.Header, page.Body)
			}
		})
		t.Run("allow with nothing ticked", func(t *testing.T) {
			c := w.client(t, oauth.NewClient{Name: "Nothing", Type: oauth.ThirdPartyPublic})
			page := w.browser.Authorize(t, request(c.ID))
			before := w.kept(t)
			page = w.browser.Submit(t, page, "allow", url.Values{"action": {"allow"}, "allow": {}})
			if page.Status != http.StatusUnprocessableEntity || !strings.Contains(page.Body, "Tick at least one") {
				t.Errorf("got %d", page.Status)
			}
			if w.kept(t)["code"] != before["code"] {
				t.Error("a code for nothing")
			}
			page = w.browser.Submit(t, page, "allow", url.Values{"action": {"allow"}, "allow": {"read:todos"}})
			w.carries(t, page.Answer(t), callback, "code", page.Answer(t).Query().Get("code"))
		})
	})
}

var headline = regexp.MustCompile(`(?s)<h1.*?</h1>`)

var hidden = regexp.MustCompile(`<input type="hidden" name="([^"]+)" value="([^"]*)"`)

// Row: B05. However often Allow arrives, one code is made.
func TestConsentRace(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		page := w.browser.Authorize(t, request(w.public.ID))
		issuer, err := url.Parse(w.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		header := isForm.Clone()
		header.Set("Origin", w.Issuer)
		header.Set("Sec-Fetch-Site", "same-origin")
		for _, c := range w.browser.Client.Jar.Cookies(issuer) {
			header.Add("Cookie", c.Name+"="+c.Value)
		}
		header["Cookie"] = []string{strings.Join(header["Cookie"], "; ")}
		values := url.Values{"action": {"allow"}, "allow": {"read:todos", "write:todos"}}
		for _, field := range hidden.FindAllStringSubmatch(page.Body, -1) {
			values.Set(field[1], field[2])
		}
		form := values.Encode()
		won := 0
		for _, a := range w.together(t, 50, func(int) (answer, error) {
			return w.try(t, http.MethodPost, page.URL.Path+"/consent", header, form)
		}) {
			if strings.Contains(a.header.Get("Refresh"), "code=") {
				won++
				continue
			}
			if a.code != http.StatusBadRequest || a.header.Get("Refresh") != "" || a.header.Get("Location") != "" || secretText.MatchString(a.body) {
				t.Errorf("a second decision got %d %s", a.code, headline.FindString(a.body))
			}
		}
		if kept := w.kept(t); won != 1 || kept["code"] != 1 || kept["grant"] != 1 {
			t.Errorf("%d answers with a code, rows %v", won, kept)
		}
		if n := w.events(t)["grant.allowed"]; n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

// asks has a person open a request and tells which boxes the page shows, nil
// when there was nothing to ask, and the scopes that the tokens get when Allow
// is pressed.
func (w *world) asks(t *testing.T, c oauth.Client, changes ...string) (boxes []string, scope string) {
	t.Helper()
	page := w.browser.Authorize(t, request(c.ID, changes...))
	to := page
	if page.Header.Get("Location") == "" {
		boxes = boxesOf(page)
		to = w.browser.Submit(t, page, "allow", url.Values{"action": {"allow"}})
	}
	return boxes, got(t, w.token(t, c, redeem(to.Answer(t).Query().Get("code")))).Scope
}

var box = regexp.MustCompile(`<input[^>]* name="allow"[^>]*>`)

var valueOf = regexp.MustCompile(` value="([^"]*)"`)

func boxesOf(p servertest.Page) []string {
	boxes := []string{}
	for _, tag := range box.FindAllString(p.Body, -1) {
		boxes = append(boxes, valueOf.FindStringSubmatch(tag)[1])
	}
	slices.Sort(boxes)
	return boxes
}

// What was allowed is remembered for this client, these scopes, this resource;
// more is asked for alone, and the token has what the client asks for now.
//
// Proves: MCP-AS-23, RFC6749-3.3-a, OIDC-3.1.2.1-i
func TestConsentRemembered(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		type visit struct {
			name    string
			changes []string
			boxes   string // "none": not asked
			scope   string
		}
		for name, visits := range map[string][]visit{
			"the same again, fewer, more": {
				{"first", nil, "read:todos write:todos", "read:todos write:todos"},
				{"the same", nil, "none", "read:todos write:todos"},
				{"fewer", []string{"scope", "read:todos"}, "none", "read:todos"},
				{"step-up with the union", []string{"scope", "read:todos write:todos delete:todos"}, "delete:todos", "read:todos write:todos delete:todos"},
				{"all of it", []string{"scope", "read:todos write:todos delete:todos"}, "none", "read:todos write:todos delete:todos"},
				{"asked for on purpose", []string{"prompt", "consent"}, "read:todos write:todos", "read:todos write:todos"},
				{"another resource", []string{"resource", notes, "scope", "read:notes"}, "read:notes", "read:notes"},
			},
			"a step-up that leaves something out gets no more than it asks for": {
				{"first", nil, "read:todos write:todos", "read:todos write:todos"},
				{"one old, one new", []string{"scope", "read:todos delete:todos"}, "delete:todos", "read:todos delete:todos"},
			},
			"a step-up that names only what is new": {
				{"first", []string{"scope", "read:todos"}, "read:todos", "read:todos"},
				{"only the new one", []string{"scope", "write:todos"}, "write:todos", "write:todos"},
				{"the first one is still allowed", []string{"scope", "read:todos write:todos"}, "none", "read:todos write:todos"},
			},
			"offline_access asks nothing": {
				{"alone: the defaults", []string{"scope", "offline_access"}, "delete:todos read:todos write:todos", "read:todos write:todos delete:todos offline_access"},
				{"again", []string{"scope", "read:todos offline_access"}, "none", "read:todos offline_access"},
			},
			"scopes of another resource are left out": {
				{"both", []string{"scope", "read:todos read:notes openid"}, "openid read:todos", "read:todos openid"},
			},
			"scopes repeated": {
				{"twice", []string{"scope", "read:todos write:todos  read:todos"}, "read:todos write:todos", "read:todos write:todos"},
			},
			"no scope: the resource's": {
				{"none", []string{"scope", ""}, "delete:todos read:todos write:todos", "read:todos write:todos delete:todos"},
			},
		} {
			t.Run(name, func(t *testing.T) {
				w.Ready(t)
				c := w.client(t, oauth.NewClient{Name: "Visitor", Type: oauth.ThirdPartyPublic})
				for _, v := range visits {
					boxes, scope := w.asks(t, c, v.changes...)
					shown := strings.Join(boxes, " ")
					if boxes == nil {
						shown = "none"
					}
					if shown != v.boxes || scope != v.scope {
						t.Errorf("%s: asked %q, token %q; want %q, %q", v.name, shown, scope, v.boxes, v.scope)
					}
				}
			})
		}
		t.Run("what was declined is asked again, beside what stays", func(t *testing.T) {
			c := w.client(t, oauth.NewClient{Name: "Declined", Type: oauth.ThirdPartyPublic})
			page := w.browser.Authorize(t, request(c.ID))
			page = w.browser.Submit(t, page, "allow", url.Values{"action": {"allow"}, "allow": {"read:todos"}})
			if i := got(t, w.token(t, c, redeem(page.Answer(t).Query().Get("code")))); i.Scope != "read:todos" {
				t.Errorf("scope %q", i.Scope)
			}
			page = w.browser.Authorize(t, request(c.ID))
			if boxes := boxesOf(page); !slices.Equal(boxes, []string{"write:todos"}) || !strings.Contains(page.Body, "That stays") {
				t.Errorf("asked %q", boxes)
			}
			page = w.browser.Submit(t, page, "action", url.Values{"action": {"deny"}})
			w.carries(t, page.Answer(t), callback, "error", "access_denied")
			if _, scope := w.asks(t, c, "scope", "read:todos"); scope != "read:todos" {
				t.Errorf("Not now took something away: %q", scope)
			}
		})
		t.Run("what a client registered with does not bind it", func(t *testing.T) {
			body := `{"client_name":"Small","redirect_uris":["http://localhost/cb"],"scope":"read:todos","token_endpoint_auth_method":"none"}`
			a := w.send(t, http.MethodPost, oauth.PathRegister, http.Header{"Content-Type": {"application/json"}}, body)
			id, _ := a.json()["client_id"].(string)
			q := request(id, "redirect_uri", "http://localhost:51004/cb")
			form := redeem(w.answer(t, w.browser, q).Query().Get("code"), "client_id", id, "redirect_uri", "http://localhost:51004/cb")
			if i := got(t, w.send(t, http.MethodPost, oauth.PathToken, isForm, form.Encode())); i.Scope != "read:todos write:todos" || i.Refresh != "" {
				t.Errorf("got %+v", i)
			}
		})
		t.Run("a client on this computer is asked about each time", func(t *testing.T) {
			c := w.client(t, oauth.NewClient{Name: "Native", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{"http://localhost/cb"}})
			for range 2 {
				page := w.browser.Authorize(t, request(c.ID, "redirect_uri", "http://localhost:51004/cb"))
				if len(boxesOf(page)) != 2 {
					t.Fatalf("got %d %v", page.Status, page.Header)
				}
				w.browser.Allow(t, page)
			}
		})
	})
}

// A project's own program may do without the page, but not where any program
// of a computer could answer in its place.
//
// Proves: MCP-AS-28
func TestConsentBypassed(t *testing.T) {
	const secure, dev = "https://auth.example.test", "http://localhost:4000"
	for _, row := range []struct {
		name, issuer, redirect string
		kind                   oauth.ClientType
		bypass, want           bool
	}{
		{"its own page", secure, callback, oauth.FirstPartyPublic, true, true},
		{"its own page, asked for on purpose", secure, callback, oauth.FirstPartyPublic, false, false},
		{"with a secret, on this computer", secure, "http://localhost/cb", oauth.FirstParty, true, true},
		{"on this computer", secure, "http://localhost/cb", oauth.FirstPartyPublic, true, false},
		{"behind a private-use scheme", secure, "cursor://x/cb", oauth.FirstPartyPublic, true, false},
		{"on this computer, as the server of development", dev, "http://localhost/cb", oauth.FirstPartyPublic, true, true},
		{"behind a private-use scheme, in development", dev, "cursor://x/cb", oauth.FirstPartyPublic, true, false},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, func(p *project.Project) { p.Issuer = row.issuer })
			c, _, err := oauth.NewSetup(r.store, r.clock.Now).CreateClient(t.Context(), r.project, oauth.NewClient{
				Name: "Own", Type: row.kind, BypassConsent: row.bypass, RedirectURIs: []string{row.redirect},
			})
			if err != nil {
				t.Fatal(err)
			}
			q := r.request(c.ID, rigNotes, "read:notes")
			q.RedirectURI = row.redirect
			pending, err := r.server.Begin(t.Context(), r.project, q, true)
			if err != nil {
				t.Fatal(err)
			}
			consent, err := r.server.Consent(t.Context(), r.project, pending, r.person())
			if err != nil || consent.Skip != row.want {
				t.Errorf("skipped: %t, %v, want %t", consent.Skip, err, row.want)
			}
			r.people.lost = []string{"read:notes"}
			if consent, err = r.server.Consent(t.Context(), r.project, pending, r.person()); err != nil || consent.Skip {
				t.Errorf("skipped although the person can grant nothing: %v", err)
			}
		})
	}
}

// What a person took back from their project's own program by "make read only"
// stays away until they allow it themselves.
func TestConsentBypassedKeepsDeclined(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		c := w.client(t, oauth.NewClient{Name: "Own", Type: oauth.FirstPartyPublic, BypassConsent: true})
		scopes := func(t *testing.T, changes ...string) string {
			t.Helper()
			return got(t, w.token(t, c, redeem(w.browser.Authorize(t, request(c.ID, changes...)).Answer(t).Query().Get("code")))).Scope
		}
		if got := scopes(t); got != "read:todos write:todos" {
			t.Fatalf("got %q", got)
		}
		apps := w.browser.Get(t, "/connected-apps")
		if page := w.browser.Submit(t, apps, "grant", url.Values{"action": {"read_only"}}); page.Status != http.StatusOK {
			t.Fatalf("make read only: %d", page.Status)
		}
		for range 2 {
			if got := scopes(t); got != "read:todos" {
				t.Errorf("got %q, want what is left", got)
			}
		}
		if got := scopes(t, "scope", "read:todos write:todos delete:todos"); got != "read:todos delete:todos" {
			t.Errorf("got %q: what was never declined comes without a question", got)
		}
		page := w.browser.Authorize(t, request(c.ID, "scope", "write:todos"))
		if page.Status != http.StatusOK || !strings.Contains(page.Body, "Change your to-dos") {
			t.Fatalf("with nothing left the person is asked: %d", page.Status)
		}
		w.browser.Allow(t, page)
		if got := scopes(t); got != "read:todos write:todos" {
			t.Errorf("got %q after the person allowed it again", got)
		}
	})
}

// What a person cannot grant they did not decline: it comes by itself once they
// can.
func TestConsentBypassedAfterARole(t *testing.T) {
	r := newRig(t)
	c, _, err := oauth.NewSetup(r.store, r.clock.Now).CreateClient(t.Context(), r.project, oauth.NewClient{
		Name: "Own", Type: oauth.FirstPartyPublic, BypassConsent: true, RedirectURIs: []string{rigCallback},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range [][]string{{"write:notes"}, nil} {
		r.people.lost = lost
		pending, err := r.server.Begin(t.Context(), r.project, r.request(c.ID, rigNotes, "read:notes", "write:notes"), true)
		if err != nil {
			t.Fatal(err)
		}
		consent, err := r.server.Consent(t.Context(), r.project, pending, r.person())
		if err != nil || !consent.Skip {
			t.Fatalf("asked: %v", err)
		}
		if _, err := r.server.Allow(t.Context(), r.project, "", pending, r.person(), consent, nil); err != nil {
			t.Fatal(err)
		}
		_, rows, err := r.store.Grant(t.Context(), r.project.ID, rigSubject, "", c.ID, rigNotes)
		if err != nil || len(rows) != 2-len(lost) {
			t.Errorf("lost %v: kept %+v, %v", lost, rows, err)
		}
	}
}

// A person who was locked while a page was open is refused, and the client
// hears of it like of a no.
func TestConsentOfSomebodyLocked(t *testing.T) {
	r := newRig(t)
	c, _ := r.client("none")
	pending, err := r.server.Begin(t.Context(), r.project, r.request(c.ID, rigNotes, "read:notes"), true)
	if err != nil {
		t.Fatal(err)
	}
	r.people.locked = true
	_, err = r.server.Consent(t.Context(), r.project, pending, r.person())
	var refused *oauth.AuthorizeError
	if !errors.As(err, &refused) || refused.Refusal.Code != "access_denied" {
		t.Errorf("got %v", err)
	}
}

// The client may go while the page is open.
func TestConsentWithoutClient(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		c := w.client(t, oauth.NewClient{Name: "Going", Type: oauth.ThirdPartyPublic})
		page := w.browser.Authorize(t, request(c.ID))
		if err := w.Clients.DeleteClient(t.Context(), w.Project, c.ID); err != nil {
			t.Fatal(err)
		}
		w.refuses(t, audit.Kind(""), func() {
			page = w.browser.Submit(t, page, "allow", url.Values{"action": {"allow"}})
			if page.Status >= 500 || page.Header.Get("Refresh") != "" {
				t.Errorf("got %d %v\n%s", page.Status, page.Header, page.Body)
			}
		})
	})
}

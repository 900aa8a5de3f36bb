package login_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

// scopeRows are a person's decisions about a client, allowed ones and declined
// ones, each in order.
func (w *world) scopeRows(b *browser, clientID string) (allowed, declined []string) {
	w.t.Helper()
	users, err := w.Store.Users(w.t.Context(), w.Project.ID, ada, "", 10)
	if err != nil || len(users) != 1 {
		w.t.Fatal(users, err)
	}
	_, rows, err := w.Store.Grant(w.t.Context(), w.Project.ID, users[0].ID, "", clientID, notes)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, row := range rows {
		if row.Allowed {
			allowed = append(allowed, row.Scope)
		} else {
			declined = append(declined, row.Scope)
		}
	}
	return allowed, declined
}

// Proves: MCP-AS-24.
func TestConsentPage(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.signedIn(ada)
	document, err := url.Parse(w.document.url)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name             string
		client, redirect string
		says             []string
	}{
		{
			"a client that an operator added", w.operator.ID, callback,
			[]string{"Notebook wants to act for you in Notes", "Added by the people who run Notes", "Answer goes to client.example.test", "A web site"},
		},
		{
			"B14: one that registered itself, at a program of this computer", w.dynamic, "http://127.0.0.1:51004/cb",
			[]string{
				"MCP Inspector wants to act for you in Notes", "Nobody has checked who made MCP Inspector", "It registered itself today and chose its own name.",
				"If you did not just start it yourself, choose Deny.", "An unverified app", "Answer goes to 127.0.0.1:51004 A program on this computer",
			},
		},
		{
			"one of a private-use scheme", w.register(map[string]any{"client_name": "Cursor", "redirect_uris": []string{"cursor://anysphere/cb"}}), "cursor://anysphere/cb",
			[]string{"Answer goes to cursor://", "The program that opens cursor links on this computer"},
		},
		{
			"M18: one with a metadata document, whose answer goes elsewhere", w.document.url, callback,
			[]string{"Claude wants to act for you in Notes", "Verified host", document.Host, "Answer goes to client.example.test", "Not the host that asks"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := b.authorize(request(test.client, test.redirect))
			wantText(t, p, 200, append(test.says, "Signed in as "+ada+" Not you?", "Notes notes.example.test/mcp", "Read your notes", "Changes data", "Add and edit notes",
				"You are allowing 2 of 2. It ends after 14 days without use, after 90 days at the latest, or when you take it back in My connected apps", "Deny", "Allow")...)
			all, ticked := p.boxes()
			wantScopes(t, all, "read:notes", "write:notes")
			wantScopes(t, ticked, "read:notes", "write:notes")
		})
	}
}

// The tokens are for a resource server whatever is asked. The page says for which,
// and so does every page that tells what was allowed. Row: B26.
func TestConsentNamesTheServer(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		const bare, nobodys = "https://bare.example.test/mcp", "https://nobodys.example.test/mcp"
		const all, none = "This server names no narrower permissions", "It gets none of this server’s own permissions"
		add := func(r project.Resource) {
			t.Helper()
			if _, _, err := w.Projects.AddResource(t.Context(), w.Project, r, nil, false); err != nil {
				t.Fatal(err)
			}
			w.Follow(t)
		}
		add(project.Resource{URI: bare, Name: "Bare"})
		b := w.signedIn(ada)
		for _, test := range []struct {
			name    string
			before  func()
			changes []string
			aud     string   // of the access token
			page    string   // its groups
			says    []string // what it says besides
			allowed string   // on the page after Allow
			listed  string   // in My connected apps
			narrow  bool     // it can be let read only
		}{
			{
				name: "no server, when there is no default", changes: []string{"resource", "", "scope", "openid"}, aud: w.Project.ID,
				page: "About you Know who you are", allowed: "You allowed it to know who you are.", listed: "Know who you are.",
			},
			{
				name: "one that has no permissions", changes: []string{"resource", bare, "scope", "openid"}, aud: bare,
				page: "Bare bare.example.test/mcp Do everything that you can there " + all + " About you Know who you are", says: []string{"You are allowing 1 of 1"},
				allowed: "You allowed it to do everything that you can in Bare, know who you are.", listed: "Do everything that you can in Bare. Know who you are.",
			},
			{
				name: "the same beside permissions of another", changes: []string{"resource", bare, "scope", "read:notes write:notes"}, aud: bare,
				page:    "Bare bare.example.test/mcp Do everything that you can there " + all + " Read your notes Changes data Add and edit notes",
				allowed: "You allowed it to do everything that you can in Bare, read your notes, add and edit notes.",
				listed:  "Do everything that you can in Bare. Read your notes. Add and edit notes.",
			},
			{
				name: "one whose permissions nobody asks for", changes: []string{"resource", notes, "scope", "openid email"}, aud: notes,
				page:    "Notes notes.example.test/mcp Do what needs no permission there " + none + " About you Know who you are",
				allowed: "You allowed it to do what needs no permission in Notes, know who you are, see your e-mail address.",
				listed:  "Do what needs no permission in Notes. See your e-mail address. Know who you are.",
			},
			{
				name: "one whose permissions are asked for", changes: []string{"resource", notes, "scope", "openid read:notes write:notes"}, aud: notes,
				page:    "Notes notes.example.test/mcp Read your notes Changes data Add and edit notes About you Know who you are",
				allowed: "You allowed it to know who you are, read your notes, add and edit notes.",
				listed:  "Know who you are. Read your notes. Add and edit notes.", narrow: true,
			},
			{
				name: "the default one", before: func() { add(project.Resource{URI: bare, Name: "Bare", Default: true}) },
				changes: []string{"resource", "", "scope", "openid"}, aud: bare,
				page:    "Bare bare.example.test/mcp Do everything that you can there " + all + " About you Know who you are",
				allowed: "You allowed it to do everything that you can in Bare, know who you are.", listed: "Do everything that you can in Bare. Know who you are.",
			},
			{
				name: "one that nobody registered", before: func() {
					if _, err := w.Projects.Change(t.Context(), w.Project.ID, func(p *project.Project) error {
						p.Settings.UnregisteredResources = true
						return nil
					}); err != nil {
						t.Fatal(err)
					}
					w.Follow(t)
				},
				changes: []string{"resource", nobodys, "scope", "openid"}, aud: nobodys,
				page:    "Notes nobodys.example.test/mcp Do everything that you can there " + all + " About you Know who you are",
				allowed: "You allowed it to do everything that you can in nobodys.example.test/mcp, know who you are.",
				listed:  "Do everything that you can in nobodys.example.test/mcp. Know who you are.",
			},
		} {
			t.Run(test.name, func(t *testing.T) {
				w := w.on(t)
				b.w = w
				if test.before != nil {
					test.before()
				}
				c, _ := w.AddClient(t, oauthClient("Namer"))
				p := b.authorize(request(c.ID, callback, test.changes...))
				before, after := "", "Take back"
				if test.narrow {
					before, after = "Read only Everything ", "Make read only"
				}
				wantText(t, p, 200, append(test.says, "Namer wants to act for you in Notes", "What it may do "+before+test.page)...)
				got := b.allow(p)
				wantText(t, got, 200, test.allowed)
				held := w.redeem(c.ID, got.answer())
				if aud := audience(t, held); !slices.Contains(aud, test.aud) {
					t.Errorf("the token is for %q", aud)
				}
				apps := b.get("/connected-apps")
				wantText(t, apps, 200, "2027 "+test.listed+" "+after)
				b.change("take_back", apps.grants()[0])
			})
		}
		t.Run("a step-up that asks nothing more of it", func(t *testing.T) {
			b.w = w.on(t)
			c, _ := w.AddClient(t, oauthClient("Stepper"))
			b.connect(c.ID, callback, "scope", "read:notes")
			p := b.authorize(request(c.ID, callback, "scope", "read:notes openid"))
			wantText(t, p, 200, "You already allow: read your notes. That stays.", "Notes notes.example.test/mcp Do what you already allow there About you Know who you are")
			wantText(t, b.allow(p), 200, "You allowed it to know who you are.")
		})
	})
}

// audience is whom an access token is for.
func audience(t *testing.T, held tokens) []string {
	t.Helper()
	parts := strings.Split(held.AccessToken, ".")
	if len(parts) != 3 {
		t.Fatalf("no access token: %+v", held)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var one struct {
		Audience string `json:"aud"`
	}
	var several struct {
		Audience []string `json:"aud"`
	}
	if json.Unmarshal(payload, &one) == nil {
		return []string{one.Audience}
	}
	if err := json.Unmarshal(payload, &several); err != nil {
		t.Fatal(err)
	}
	return several.Audience
}

// Row: B12, B13.
//
// Proves: RFC6749-10.14-a
func TestNamesFromOutside(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.signedIn(ada)
	for name, shown := range map[string]string{
		"Сlаude":                       "Сlаude", // Cyrillic letters: shown, never as verified
		"evil\u202emoc.edualc":         "evilmoc.edualc",
		"Cla\u200b\u2060ude":           "Claude",
		"<img src=x onerror=alert(1)>": "<img src=x onerror=alert(1)>",
		"a\r\nb\tc":                    "a b c",
		strings.Repeat("long ", 80):    strings.TrimSpace(strings.Repeat("long ", 80)[:59]) + "…",
	} {
		id := w.register(map[string]any{"client_name": name, "redirect_uris": []string{callback}, "logo_uri": "https://logos.example.com/claude.png"})
		p := b.authorize(request(id, callback))
		wantText(t, p, 200, shown+" wants to act for you in Notes", "Nobody has checked who made "+shown, "client.example.test")
		if strings.Contains(p.body, "<img src=x") || strings.Contains(p.body, "logos.example.com") || strings.Contains(p.body, "Verified host") {
			t.Errorf("%q: markup, a remote picture, or a sign that it is verified:\n%s", name, p.body)
		}
		if !strings.Contains(p.body, "<bdi>") {
			t.Errorf("%q is not set apart", name)
		}
	}
}

// Proves: MCP-AS-27.
func TestAllow(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		everything := []string{"scope", "read:notes write:notes delete:notes"}
		t.Run("untouched, the client gets what it asked for", func(t *testing.T) {
			w := w.on(t)
			b := w.signedIn(ada)
			got := b.allow(b.authorize(request(w.operator.ID, callback)))
			wantText(t, got, 200, "The door is open for Notebook", "client.example.test", "You allowed it to read your notes, add and edit notes. Change that")
			q := got.answer().Query()
			if q.Get("state") != "s t&ä" || q.Get("iss") != w.Issuer || q.Get("code") == "" || len(q) != 3 {
				t.Errorf("answer %v", q)
			}
			if held := w.redeem(w.operator.ID, got.answer()); held.Scope != "read:notes write:notes" || held.RefreshToken == "" {
				t.Errorf("tokens %+v", held)
			}
			allowed, declined := w.scopeRows(b, w.operator.ID)
			wantScopes(t, allowed, "read:notes", "write:notes")
			wantScopes(t, declined)
		})
		t.Run("the shortcuts set the ticks and decide nothing", func(t *testing.T) {
			w := w.on(t)
			b := w.signedIn(ada)
			p := b.authorize(request(w.dynamic, loopback, everything...))
			reads := b.submit(p, "action", "read_only", "allow", "read:notes", "allow", "delete:notes")
			_, ticked := reads.boxes()
			wantScopes(t, ticked, "read:notes")
			wantText(t, reads, 200, "You are allowing 1 of 3")
			all := b.submit(reads, "action", "everything")
			_, ticked = all.boxes()
			wantScopes(t, ticked, "read:notes", "write:notes", "delete:notes")
			if reads.answer() != nil || all.answer() != nil {
				t.Error("a shortcut sent an answer")
			}
			p = b.submit(all, "action", "read_only")
			got := w.redeem(w.dynamic, b.allow(p).answer())
			if got.Scope != "read:notes" {
				t.Errorf("scope %q", got.Scope)
			}
			allowed, declined := w.scopeRows(b, w.dynamic)
			wantScopes(t, allowed, "read:notes")
			wantScopes(t, declined, "delete:notes", "write:notes")
		})
		t.Run("what is unticked is not in the token, whatever the form invents", func(t *testing.T) {
			w := w.on(t)
			b := w.signedIn(ada)
			id := w.register(map[string]any{"client_name": "Narrow", "redirect_uris": []string{loopback}})
			p := b.allow(b.authorize(request(id, loopback)), "write:notes", "delete:notes", "admin", "")
			if got := w.redeem(id, p.answer()); got.Scope != "write:notes" {
				t.Errorf("scope %q", got.Scope)
			}
			allowed, declined := w.scopeRows(b, id)
			wantScopes(t, allowed, "write:notes")
			wantScopes(t, declined, "read:notes")
		})
		t.Run("nothing ticked is asked again", func(t *testing.T) {
			w := w.on(t)
			b := w.signedIn(ada)
			p := b.authorize(request(w.register(map[string]any{"client_name": "Nothing", "redirect_uris": []string{loopback}}), loopback))
			got := b.submit(p, "action", "allow")
			wantText(t, got, 422, "Tick at least one permission, or choose Deny.", "You are allowing 0 of 2")
			if got.answer() != nil {
				t.Error("an answer was sent")
			}
			if again := b.allow(got, "read:notes"); again.answer() == nil {
				t.Errorf("the second try: %d %s", again.status, again.text())
			}
		})
		t.Run("A02: the form says nothing about where the answer goes", func(t *testing.T) {
			w := w.on(t)
			b := w.signedIn(ada)
			p := b.authorize(request(w.operator.ID, callback, "prompt", "consent"))
			got := b.submit(p, "action", "allow", "allow", "read:notes", "redirect_uri", callback+"2", "client_id", w.dynamic, "scope", "delete:notes", "resource", "https://other.example.test/mcp", "state", "x")
			if got.answer() == nil || !strings.HasPrefix(got.answer().String(), callback+"?") || got.answer().Query().Get("state") != "s t&ä" {
				t.Fatalf("%d to %v", got.status, got.answer())
			}
			if held := w.redeem(w.operator.ID, got.answer()); held.Scope != "read:notes" {
				t.Errorf("tokens %+v", held)
			}
		})
	})
}

// Row: B05, B06.
func TestOneDecision(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.signedIn(ada)
		p := b.authorize(request(w.operator.ID, callback))
		action, csrf := b.form(p)
		body := fill(csrf, "action", "allow", "allow", "read:notes")
		var mu sync.Mutex
		var all sync.WaitGroup
		codes, old := map[string]bool{}, 0
		for range 50 {
			one := *b
			one.cookies = maps.Clone(b.cookies)
			all.Add(1)
			go func() {
				defer all.Done()
				got := one.send(http.MethodPost, action, body)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case got.answer() != nil:
					codes[got.answer().Query().Get("code")] = true
				case got.status == 400 && strings.Contains(got.text(), "is too old"): // the link, or the page
					old++
				default:
					t.Errorf("%d %s", got.status, got.text())
				}
			}()
		}
		all.Wait()
		if len(codes) != 1 || old != 49 {
			t.Errorf("B05: %d codes and %d refusals of 50 decisions, want 1 and 49", len(codes), old)
		}
		wantText(t, b.send(http.MethodPost, action, body), 400, "This link is too old")
		wantText(t, b.send(http.MethodPost, action, fill(csrf, "action", "deny")), 400, "This link is too old", "go back to Notebook and connect again.")
		back := b.send(http.MethodGet, p.at, "")
		wantText(t, back, 400, "This link is too old", "This time nothing was shared.")
		wantText(t, b.get(back.link("My connected apps")), 200, "Take back")
	})
}

// Row: B15, B16. Proves: MCP-AS-26.
func TestHandOver(t *testing.T) {
	w := newWorld(t, configOf(nil))
	cursor := w.register(map[string]any{"client_name": "Cursor", "redirect_uris": []string{"cursor://anysphere/cb"}})
	web := w.register(map[string]any{"client_name": "Web thing", "redirect_uris": []string{callback}})
	for _, test := range []struct {
		name, client, redirect string
		allowed, denied        bool // the browser goes on by itself
		reads                  string
	}{
		{"an operator's client", w.operator.ID, callback, true, true, "We are handing the answer to client.example.test. Close this page once"},
		{"a program of this computer", w.dynamic, "http://127.0.0.1:51004/cb", true, false, "127.0.0.1:51004, a program on this computer"},
		{"a web site that registered itself", web, callback, true, false, "client.example.test"},
		{"a metadata document's client", w.document.url, callback, true, false, "client.example.test"},
		{"a private-use scheme", cursor, "cursor://anysphere/cb", false, false, "hands the answer to the program that opens cursor links on this computer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := w.on(t)
			for _, decision := range []string{"allow", "deny"} {
				b := w.signedIn(decision + "-" + strings.Fields(test.name)[1] + "@example.test")
				p := b.authorize(request(test.client, test.redirect))
				got := b.submit(p, "action", decision, "allow", "read:notes")
				refresh, goes := got.header.Get("Refresh"), test.allowed
				if decision == "deny" {
					goes = test.denied
				}
				if got.status != 200 || got.header.Get("Location") != "" || (refresh != "") != goes {
					t.Errorf("%s: %d, Refresh %q, Location %q", decision, got.status, refresh, got.header.Get("Location"))
				}
				link := linkOf(got)
				if link == nil || !strings.HasPrefix(link.String(), test.redirect+"?") || strings.Contains(got.body, "ZgotmplZ") {
					t.Fatalf("%s: the page's link is %v", decision, link)
				}
				if refresh != "" && refresh != "0; url="+link.String() {
					t.Errorf("%s: Refresh %q, link %q", decision, refresh, link)
				}
				q := link.Query()
				if q.Get("iss") != w.Issuer || q.Get("state") != "s t&ä" {
					t.Errorf("%s: answer %v", decision, q)
				}
				if decision == "allow" {
					wantText(t, got, 200, "The door is open for", test.reads)
				} else {
					wantText(t, got, 200, "You said no", "gets nothing", "Close this page if you did not start this.", "Tell ")
					if q.Get("error") != "access_denied" || q.Has("code") {
						t.Errorf("answer %v", q)
					}
				}
			}
		})
	}
	t.Run("after a code comes 303", func(t *testing.T) {
		b := w.on(t).browser()
		p := b.follow(b.submit(b.get("/login"), "email", "post@example.test"))
		_, code := w.mailed("post@example.test", 1)
		if got := b.submit(p, "code", code); got.status != http.StatusSeeOther {
			t.Errorf("%d", got.status)
		}
	})
}

// linkOf is the address behind a hand-over page's button.
func linkOf(p page) *url.URL {
	_, after, ok := strings.Cut(p.body, `<a class="button primary wide" href="`)
	if !ok {
		return nil
	}
	href, _, _ := strings.Cut(after, `"`)
	u, err := url.Parse(html.UnescapeString(href))
	if err != nil {
		return nil
	}
	return u
}

// Row: B11.
func TestStepUp(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.signedIn(ada)
		b.connect(w.operator.ID, callback, "scope", "read:notes")
		more := func() page { return b.authorize(request(w.operator.ID, callback, "scope", "read:notes write:notes")) }

		p := more()
		wantText(t, p, 200, "Notebook asks for one more permission", "You already allow: read your notes. That stays.", "What it may also do", "Not now", "Add and edit notes")
		all, ticked := p.boxes()
		wantScopes(t, all, "write:notes")
		wantScopes(t, ticked, "write:notes")

		got := b.submit(p, "action", "deny")
		wantText(t, got, 200, "You said no", "gets nothing more. What you allowed before stays")
		if got.answer().Query().Get("error") != "access_denied" {
			t.Errorf("answer %v", got.answer())
		}
		allowed, _ := w.scopeRows(b, w.operator.ID)
		wantScopes(t, allowed, "read:notes")

		got = b.submit(more(), "action", "allow") // with nothing newly ticked
		if got.answer() == nil {
			t.Fatalf("%d %s", got.status, got.text())
		}
		if held := w.redeem(w.operator.ID, got.answer()); held.Scope != "read:notes" {
			t.Errorf("scope %q", held.Scope)
		}
		got = b.allow(more())
		if held := w.redeem(w.operator.ID, got.answer()); strings.Join(slices.Sorted(slices.Values(strings.Fields(held.Scope))), " ") != "read:notes write:notes" {
			t.Errorf("scope %q", held.Scope)
		}
	})
}

// Row: B09, B10, B11. Proves: MCP-AS-28, RFC6749-10.2-b.
func TestRememberedConsent(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.signedIn(ada)
		secretive, _ := w.AddClient(t, oauth.NewClient{Name: "Local", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{loopback}})
		web := w.register(map[string]any{"client_name": "Web thing", "redirect_uris": []string{callback}})
		for _, test := range []struct {
			name, client, redirect string
			silent                 bool
		}{
			{"an operator's https client", w.operator.ID, callback, true},
			{"a metadata document's https client", w.document.url, callback, true},
			{"an operator's public client on this computer", secretive.ID, loopback, false},
			{"one that registered itself, https", web, callback, false},
			{"one that registered itself, on this computer", w.dynamic, loopback, false},
		} {
			t.Run(test.name, func(t *testing.T) {
				b.w = w.on(t)
				first := b.authorize(request(test.client, test.redirect))
				wantText(t, first, 200, "wants to act for you")
				b.allow(first)
				again := b.send(http.MethodGet, "/oauth/authorize?"+request(test.client, test.redirect).Encode(), "", "Sec-Fetch-Site", "cross-site", "Referer", "https://evil.example/")
				if silent := again.answer() != nil; silent != test.silent {
					t.Fatalf("in silence: %t, want %t", silent, test.silent)
				}
				if !test.silent {
					wantText(t, b.follow(again), 200, "wants to act for you") // and it is the full page: nothing is taken as given
					return
				}
				if again.status != http.StatusSeeOther || again.answer().Query().Get("code") == "" {
					t.Errorf("%d %v", again.status, again.answer())
				}
				for _, asked := range [][]string{{"prompt", "consent"}, {"scope", "read:notes delete:notes"}} {
					if p := b.authorize(request(test.client, test.redirect, asked...)); p.answer() != nil {
						t.Errorf("%v: not asked", asked)
					}
				}
				if p := b.authorize(request(test.client, test.redirect, "scope", "read:notes")); p.answer() == nil {
					t.Error("asked for less than was allowed")
				}
			})
		}
		t.Run("B09: another redirect URI of the client asks again", func(t *testing.T) {
			b.w = w.on(t)
			wantText(t, b.authorize(request(w.operator.ID, callback+"2")), 200, "wants to act for you")
		})
		t.Run("the project's own client with bypass is never asked", func(t *testing.T) {
			b.w = w.on(t)
			if p := b.authorize(request(w.first.ID, callback)); p.answer() == nil {
				t.Errorf("%d %s", p.status, p.text())
			}
			wantText(t, b.authorize(request(w.first.ID, callback, "prompt", "consent")), 200, "A program of Notes itself")
		})
		t.Run("another resource server asks again, and one that opens more than it did", func(t *testing.T) {
			b.w = w.on(t)
			c, _ := w.AddClient(t, oauthClient("Elsewhere"))
			const bare = "https://bare.example.test/mcp"
			add := func(r project.Resource) {
				t.Helper()
				if _, _, err := w.Projects.AddResource(t.Context(), w.Project, r, nil, false); err != nil {
					t.Fatal(err)
				}
				w.Follow(t)
			}
			asks := func(resource, says string) {
				t.Helper()
				p := b.authorize(request(c.ID, callback, "resource", resource, "scope", "openid"))
				switch {
				case says == "" && p.answer() == nil:
					t.Errorf("asked again for %s: %s", resource, p.text())
				case says != "":
					wantText(t, p, 200, says)
					b.allow(p)
				}
			}
			add(project.Resource{URI: bare, Name: "Bare"})
			asks(notes, "Do what needs no permission there")
			asks(notes, "")
			asks(bare, "Bare bare.example.test/mcp Do everything that you can there")
			asks(bare, "")
			add(project.Resource{URI: notes, Name: "Notes"}) // its scopes are gone
			asks(notes, "Notes notes.example.test/mcp Do everything that you can there")
			asks(notes, "")
			add(project.Resource{URI: notes, Name: "Notes", Scopes: []string{"read:notes", "write:notes", "delete:notes"}})
		})
		t.Run("a declined permission is asked again, and alone", func(t *testing.T) {
			b.w = w.on(t)
			c, _ := w.AddClient(t, oauthClient("Declined"))
			b.allow(b.authorize(request(c.ID, callback)), "read:notes")
			p := b.authorize(request(c.ID, callback))
			all, _ := p.boxes()
			wantScopes(t, all, "write:notes")
		})
		t.Run("for another person it is another question", func(t *testing.T) {
			w := w.on(t)
			other := w.signedIn(bea)
			wantText(t, other.authorize(request(w.operator.ID, callback)), 200, "Signed in as "+bea)
		})
	})
}

// What is decided is what was shown: another tab may not make a narrower
// decision wider. Proves: MCP-AS-36.
func TestDecisionIsAboutThePage(t *testing.T) { eachDatabase(t, decisionIsAboutThePage) }

func decisionIsAboutThePage(t *testing.T, w *world) {
	b := w.signedIn(ada)
	narrow := b.authorize(request(w.operator.ID, callback))
	w.Clock.Advance(time.Second)
	b.allow(b.authorize(request(w.operator.ID, callback))) // everything, in another tab
	got := b.allow(narrow, "read:notes")
	wantText(t, got, 400, "This page is too old", "Go back and decide on the page as it is now.")
	if got.answer() != nil {
		t.Errorf("to %v: the unticked permission came back", got.answer())
	}
	if back := got.link("Go back"); back != narrow.at {
		t.Errorf("the way back is to %q", back)
	}
	t.Run("M10: a document that changes under the page is another page", func(t *testing.T) {
		w := w.on(t)
		b := w.signedIn(bea)
		p := b.authorize(request(w.document.url, callback))
		wantText(t, p, 200, "Claude wants to act for you")
		asked := w.document.asked.Load()
		w.document.says("Mallory", callback, "https://evil.example/cb")
		w.Clock.Advance(2 * time.Minute) // the copy is stale
		got := b.allow(p)
		wantText(t, got, 200, "The door is open for Claude")
		if w.document.asked.Load() != asked {
			t.Error("the document was read again between page and decision")
		}
	})
	t.Run("M10: the next request asks again", func(t *testing.T) {
		w := w.on(t)
		b := w.signedIn("cleo@example.test")
		w.Clock.Advance(24 * time.Hour)
		b.signIn(b.authorize(request(w.document.url, callback)), "cleo@example.test")
		wantText(t, b.authorize(request(w.document.url, callback)), 200, "Mallory wants to act for you")
	})
}

// Nobody who did not sign in makes this server ask another one.
func TestDocumentsAreReadForPeople(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.browser()
		p := b.authorize(request(w.document.url, callback))
		host, _ := url.Parse(w.document.url)
		wantText(t, p, 200, "To connect "+host.Host+", an unverified app")
		action, csrf := b.form(p)
		flow := strings.TrimSuffix(action, "/email")
		b.send(http.MethodPost, flow+"/consent", fill(csrf, "action", "allow", "allow", "read:notes"))
		b.get(flow)
		b.authorize(request(w.document.url, callback, "prompt", "none"))
		p = b.follow(b.submit(p, "email", ada))
		b.get(flow)
		if n := w.document.asked.Load(); n != 0 {
			t.Fatalf("the document was read %d times for a stranger", n)
		}
		_, code := w.mailed(ada, 1)
		wantText(t, b.follow(b.submit(p, "code", code)), 200, "Claude wants to act for you", "Verified host")
		for range 5 {
			b.get(flow)
		}
		if n := w.document.asked.Load(); n != 1 {
			t.Errorf("the document was read %d times, want once", n)
		}
	})
}

// A client that goes away while its page is open.
func TestClientGoesAway(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.signedIn(ada)
		p := b.authorize(request(w.operator.ID, callback))
		if err := w.Clients.DeleteClient(t.Context(), w.Project, w.operator.ID); err != nil {
			t.Fatal(err)
		}
		got := b.allow(p)
		wantText(t, got, 400, "This link is too old", "Trace code")
		if got.answer() != nil {
			t.Error("an answer was sent")
		}
	})
}

func TestNotYou(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.signedIn(ada)
		p := b.authorize(request(w.operator.ID, callback))
		old := maps.Clone(b.cookies)
		got := b.submit2(p, "switch")
		if got.status != http.StatusSeeOther {
			t.Fatalf("%d %s", got.status, got.text())
		}
		p = b.follow(got)
		wantText(t, p, 200, "Sign in to Notes", "To connect Notebook")
		p = b.signIn(p, bea)
		wantText(t, p, 200, "Signed in as "+bea, "Notebook wants to act for you")
		if b.allow(p).answer() == nil {
			t.Error("the flow does not go on")
		}
		before := w.browser()
		before.cookies = old
		wantText(t, before.get("/connected-apps"), 200, "Sign in to Notes")
	})
}

// A session that ends under an open page: the same flow asks who is there.
func TestSessionEndsUnderThePage(t *testing.T) {
	w := newWorld(t, configOf(func(s *project.Settings) { s.Lifetimes.SessionIdle = 300 }))
	b := w.signedIn(ada)
	p := b.authorize(request(w.operator.ID, callback))
	w.Clock.Advance(6 * time.Minute)
	got := b.allow(p)
	if got.status != http.StatusSeeOther || got.answer() != nil {
		t.Fatalf("%d to %v", got.status, got.answer())
	}
	wantText(t, b.follow(got), 200, "Sign in to Notes", "To connect Notebook")
}

func TestPreselectReadOnly(t *testing.T) {
	w := newWorld(t, configOf(func(s *project.Settings) { s.PreselectReadOnly = true }))
	b := w.signedIn(ada)
	for client, want := range map[string]int{w.operator.ID: 2, w.document.url: 2, w.dynamic: 1} {
		redirect := callback
		if client == w.dynamic {
			redirect = loopback
		}
		if _, ticked := b.authorize(request(client, redirect)).boxes(); len(ticked) != want {
			t.Errorf("%s: %v ticked", client, ticked)
		}
	}
}

func TestHowLongItLasts(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.signedIn(ada)
	short := w.register(map[string]any{"client_name": "Short", "redirect_uris": []string{loopback}, "grant_types": []string{"authorization_code"}})
	wantText(t, b.authorize(request(short, loopback)), 200, "It ends after 1 hour, or when you take it back")
	_, _, err := w.Projects.AddResource(t.Context(), w.Project, project.Resource{URI: notes, Name: "Notes", AccessToken: 300, Scopes: []string{"read:notes", "write:notes", "delete:notes"}}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	w.Follow(t)
	wantText(t, b.authorize(request(short, loopback)), 200, "It ends after 5 minutes, or when you take it back")
	if got := fmt.Sprint(w.Project.Settings.Lifetimes.LoneAccessToken); got != "3600" {
		t.Errorf("the project's setting changed to %s", got)
	}
}

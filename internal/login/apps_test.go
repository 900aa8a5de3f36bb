package login_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// grants are the ids of the grants on My connected apps, newest first.
func (p page) grants() []string {
	var all []string
	for _, m := range grantTag.FindAllStringSubmatch(p.body, -1) {
		all = append(all, m[1])
	}
	return all
}

// change presses a button beside a grant on My connected apps.
func (b *browser) change(action, grant string) page {
	b.w.t.Helper()
	_, hidden := b.form(b.get("/connected-apps"))
	hidden.Set("grant", grant)
	return b.send(http.MethodPost, "/connected-apps", fill(hidden, "action", action))
}

// Proves: MCP-AS-29.
func TestConnectedApps(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.signedIn(ada)
		wantText(t, b.get("/connected-apps"), 200, "No connected apps yet", "When you allow one, it is listed here and you can take it back.")
		held := b.connect(w.dynamic, loopback)
		w.Clock.Advance(time.Second)
		b.connect(w.operator.ID, callback)
		p := b.get("/connected-apps")
		wantText(t, p, 200, "MCP Inspector Unverified", "A program on your computer. Allowed today, used just now.", "Read your notes. Add and edit notes.", "Notebook", "Make read only", "Take back")
		if n := len(p.grants()); n != 2 {
			t.Fatalf("%d grants", n)
		}
		inspector, notebook := p.grants()[1], p.grants()[0]

		t.Run("another person's grant is not there, and nothing changes", func(t *testing.T) {
			w := w.on(t)
			other := w.signedIn(bea)
			for _, action := range []string{"take_back", "read_only"} {
				for _, grant := range []string{inspector, "grant-test-nothing", ""} {
					wantText(t, other.change(action, grant), 404, "There is nothing here")
				}
			}
			held = w.refresh(w.dynamic, held)
			if !w.active(held) || held.Scope != "read:notes write:notes" {
				t.Errorf("after a stranger's try: %+v", held)
			}
			if strings.Contains(other.get("/connected-apps").body, "MCP Inspector") {
				t.Error("another person sees it")
			}
		})
		t.Run("made read only", func(t *testing.T) {
			b.w = w.on(t)
			got := b.change("read_only", inspector)
			if got.status != http.StatusSeeOther {
				t.Fatalf("%d %s", got.status, got.text())
			}
			wantText(t, b.follow(got), 200, "MCP Inspector can only read now. It may have to connect again.")
			if w.active(held) || w.refresh(w.dynamic, held).Error != "invalid_grant" {
				t.Error("its tokens live")
			}
			p := b.authorize(request(w.dynamic, loopback))
			if got := w.redeem(w.dynamic, b.submit(p, "action", "allow", "allow", "read:notes").answer()); got.Scope != "read:notes" {
				t.Errorf("the next token: %+v", got)
			}
			p = b.get("/connected-apps")
			if i := strings.Index(p.body, "grant-"+inspector); i < 0 || strings.Count(p.body, "Make read only") != 1 {
				t.Errorf("the page offers it again: %s", p.text())
			}
		})
		t.Run("taken back", func(t *testing.T) {
			b.w = w.on(t)
			w := b.w
			p := b.authorize(request(w.dynamic, loopback))
			held := w.redeem(w.dynamic, b.allow(p).answer())
			if !w.active(held) {
				t.Fatal("the token is dead already")
			}
			code := b.allow(b.authorize(request(w.dynamic, loopback))).answer() // under way
			wantText(t, b.follow(b.change("take_back", inspector)), 200, "Access taken back from MCP Inspector. It was last used today at", "What you took back stays listed for 30 days.", "Taken back today")
			if w.active(held) {
				t.Error("introspection: the token is alive")
			}
			if got := w.refresh(w.dynamic, held); got.Error != "invalid_grant" {
				t.Errorf("refresh: %+v", got)
			}
			if got := w.redeem(w.dynamic, code); got.Error != "invalid_grant" {
				t.Errorf("a code that was under way: %+v", got)
			}
			wantText(t, b.follow(b.change("take_back", inspector)), 200, "Access taken back") // again: no harm
			if got := b.change("read_only", inspector); got.status != http.StatusNotFound {
				t.Errorf("made read only after it was taken back: %d", got.status)
			}
			wantText(t, b.authorize(request(w.dynamic, loopback)), 200, "wants to act for you") // and it may ask again
		})
		t.Run("an address alone says nothing untrue", func(t *testing.T) {
			b.w = w.on(t)
			for _, done := range []string{"taken back", "read only", "<script>"} {
				p := b.get("/connected-apps?" + url.Values{"done": {done}, "grant": {notebook}}.Encode())
				if strings.Contains(p.text(), "Access taken back from Notebook") || strings.Contains(p.text(), "Notebook can only read now") || strings.Contains(p.body, "<script>done") {
					t.Errorf("a link to ?done=%s makes the page say: %s", done, p.text())
				}
			}
		})
		t.Run("thirty days later it is gone from the list", func(t *testing.T) {
			w := w.on(t)
			w.Clock.Advance(30*24*time.Hour + time.Minute)
			b := w.signedIn(ada)
			if p := b.get("/connected-apps"); strings.Contains(p.text(), "Taken back") {
				t.Errorf("%s", p.text())
			}
		})
		t.Run("without a session it asks who is there", func(t *testing.T) {
			stranger := w.on(t).browser()
			got := stranger.send(http.MethodPost, "/connected-apps", fill(url.Values{"csrf": {"x"}}, "action", "take_back", "grant", notebook))
			wantText(t, stranger.follow(got), 200, "Sign in to Notes")
		})
	})
}

// An authorization without refresh token ends with its access token, and the
// page says so.
func TestConnectedAppWithoutRefreshToken(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.signedIn(ada)
		once := w.register(map[string]any{"client_name": "Once", "redirect_uris": []string{loopback}, "grant_types": []string{"authorization_code"}})
		held := b.connect(once, loopback)
		if held.RefreshToken != "" {
			t.Fatal("it got a refresh token")
		}
		w.Clock.Advance(20 * time.Minute)
		wantText(t, b.get("/connected-apps"), 200, "Once Unverified", "Ends in 40 minutes")
		w.Clock.Advance(40 * time.Minute)
		if p := b.get("/connected-apps"); w.active(held) || !strings.Contains(p.text(), "Its access has run out until you connect it again") {
			t.Errorf("after an hour: %s", p.text())
		}
	})
}

// Row: B24.
func TestLogout(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		w.Ready(t) // id_tokens are RS256
		isIn := func(b *browser) bool { return strings.Contains(b.get("/connected-apps").text(), "My connected apps") }
		const bye = "https://client.example.test/bye"
		logout := func(change ...string) string {
			q := url.Values{"client_id": {w.operator.ID}, "post_logout_redirect_uri": {bye}, "state": {"a&b"}}
			for i := 0; i < len(change); i += 2 {
				q.Set(change[i], change[i+1])
			}
			return q.Encode()
		}
		t.Run("with the token of this very session it is done", func(t *testing.T) {
			w := w.on(t)
			b := w.signedIn(ada)
			held := b.connect(w.operator.ID, callback, "scope", "openid read:notes")
			if held.IDToken == "" {
				t.Fatal("no id_token")
			}
			p := b.get("/oauth/logout?" + logout("id_token_hint", held.IDToken))
			wantText(t, p, 200, "You are signed out", "Back to Notebook")
			if !strings.Contains(p.body, `href="https://client.example.test/bye?state=a%26b"`) {
				t.Errorf("no way back:\n%s", p.body)
			}
			if isIn(b) {
				t.Error("the session lives")
			}
			if !w.active(held) {
				t.Error("the grant ended")
			}
			other := w.signedIn(ada)
			wantText(t, other.get("/oauth/logout?"+logout("id_token_hint", held.IDToken)), 200, "asks to sign you out of Notes", "Stay signed in")
			if !isIn(other) {
				t.Error("the token of one session ended another")
			}
		})
		t.Run("without it the person is asked", func(t *testing.T) {
			w := w.on(t)
			b := w.signedIn(ada)
			p := b.get("/oauth/logout?" + logout())
			wantText(t, p, 200, "Notebook asks to sign you out of Notes", "You are signed in as "+ada)
			if !isIn(b) {
				t.Fatal("a GET signed out")
			}
			if got := b.submit(p, "action", "stay"); got.status != http.StatusSeeOther || !isIn(b) {
				t.Errorf("staying: %d", got.status)
			}
			wantText(t, b.submit(p, "action", "sign_out"), 200, "You are signed out", "Back to Notebook")
			if isIn(b) {
				t.Error("the session lives")
			}
		})
		t.Run("by a form of another site the person is asked all the same", func(t *testing.T) {
			w := w.on(t)
			b := w.signedIn(ada)
			stranger := w.browser() // SameSite=Lax: the form comes without cookies
			got := stranger.send(http.MethodPost, "/oauth/logout", logout(), "Origin", "https://client.example.test", "Sec-Fetch-Site", "cross-site")
			if got.status != http.StatusSeeOther || !strings.HasPrefix(got.header.Get("Location"), "/oauth/logout?") {
				t.Fatalf("%d %s", got.status, got.text())
			}
			if got := stranger.send(http.MethodPost, "/oauth/logout", logout("csrf", "x"), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"); got.status != http.StatusSeeOther {
				t.Errorf("with a field csrf: %d %s", got.status, got.text())
			}
			p := b.get(got.header.Get("Location")) // which the browser then follows, with cookies
			wantText(t, p, 200, "Notebook asks to sign you out of Notes")
			for _, csrf := range []string{"", "wrong"} {
				b.send(http.MethodPost, "/oauth/logout", logout("csrf", csrf, "action", "sign_out"), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site")
			}
			if !isIn(b) {
				t.Error("another site signed the person out")
			}
			for _, fetchSite := range []string{"cross-site", "same-site"} {
				if got := b.send(http.MethodPost, "/sign-out", fill(url.Values{"csrf": {"x"}}, "action", "sign_out"), "Origin", "https://evil.example", "Sec-Fetch-Site", fetchSite); got.status != http.StatusForbidden {
					t.Errorf("/sign-out from %s: %d", fetchSite, got.status)
				}
			}
			if b.get("/sign-out"); !isIn(b) {
				t.Error("GET /sign-out signed out")
			}
		})
		t.Run("a private-use scheme leads back too", func(t *testing.T) {
			p := w.on(t).browser().get("/oauth/logout?" + logout("post_logout_redirect_uri", "cursor://notebook/bye"))
			if !strings.Contains(p.body, `href="cursor://notebook/bye?state=a%26b"`) {
				t.Errorf("%s", p.body)
			}
		})
		for name, change := range map[string][]string{
			"an address that was not registered": {"post_logout_redirect_uri", "https://evil.example/bye"},
			"one that is longer":                 {"post_logout_redirect_uri", bye + "/x"},
			"an unknown client":                  {"client_id", "connected-app-test-nobody"},
			"a token that is not ours":           {"id_token_hint", "eyJhbGciOiJub25lIn0.e30."},
			"a script":                           {"post_logout_redirect_uri", "javascript:alert(1)"},
		} {
			t.Run("refused: "+name, func(t *testing.T) {
				w := w.on(t)
				b := w.signedIn("cleo@example.test")
				w.Clock.Advance(time.Hour)
				p := b.get("/oauth/logout?" + logout(change...))
				wantText(t, p, 400, "asked in a way we cannot answer", "Trace code")
				if strings.Contains(p.body, `href="https://evil`) || strings.Contains(p.body, `href="javascript`) || !isIn(b) {
					t.Errorf("the page leads there, or the person is signed out:\n%s", p.body)
				}
			})
		}
	})
}

package login_test

import (
	"database/sql"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// wantCookies signs in and checks every cookie that is set on the way.
// Row: B23.
func wantCookies(t *testing.T, b *browser, prefix string, secure bool) {
	t.Helper()
	seen := map[string]bool{}
	check := func() {
		for _, c := range b.given {
			name := regexp.MustCompile(`^` + prefix + `postern-[0-9a-f]{8}-(session|known|txn-[0-9a-f-]{36})$`).FindStringSubmatch(c.Name)
			if name == nil {
				t.Errorf("cookie %s", c.Name)
				continue
			}
			seen[strings.Split(name[1], "-")[0]] = true
			if c.Secure != secure || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" {
				t.Errorf("attributes: %s", c.Raw)
			}
			if c.MaxAge >= 0 && len(c.Value) < 64 {
				t.Errorf("a short value: %s", c.Raw)
			}
		}
	}
	p := b.send(http.MethodGet, "/login", "")
	check()
	p = b.follow(b.submit(b.follow(p), "email", "cookies@example.test"))
	_, code := b.w.mailed("cookies@example.test", 1)
	b.submit(p, "code", code)
	check()
	b.submit(b.get("/sign-out"), "action", "sign_out")
	check()
	if len(seen) != 3 || len(b.cookies) != 2 {
		t.Errorf("cookies %v, left %v", seen, b.cookies)
	}
}

func TestCookiesOfDevelopment(t *testing.T) {
	w := newWorld(t, configOf(nil))
	wantCookies(t, w.browser(), "", false)
}

// Row: B04, B18. Proves: MCP-AS-25, OIDC-3.1.2.3-a, RFC6749-10.13-a.
func TestHeadersOfEveryPage(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.signedIn(ada)
	consent := b.authorize(request(w.operator.ID, callback))
	action, csrf := b.form(consent)
	stranger := w.browser()
	login := stranger.get("/login")
	pages := map[string]page{
		"sign in":                   login,
		"bad address":               stranger.submit(login, "email", "x"),
		"code":                      stranger.follow(stranger.submit(login, "email", bea)),
		"too soon":                  stranger.submit(login, "email", bea),
		"consent":                   consent,
		"no token":                  b.send(http.MethodPost, action, "action=allow"),
		"another site":              b.send(http.MethodPost, action, fill(csrf, "action", "allow"), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"),
		"body too large":            b.send(http.MethodPost, action, fill(csrf, "x", strings.Repeat("x", 1<<20))),
		"body of another kind":      b.send(http.MethodPost, action, `{"action":"allow"}`, "Content-Type", "application/json"),
		"a query beside the body":   b.send(http.MethodPost, action+"?action=allow", fill(csrf, "action", "allow")),
		"a field twice":             b.send(http.MethodPost, action, fill(csrf, "action", "allow", "action", "deny")),
		"hand-over":                 b.allow(consent),
		"too old":                   b.send(http.MethodGet, consent.at, ""),
		"bad request":               b.authorize(request("nobody", callback)),
		"connected apps":            b.get("/connected-apps"),
		"not a grant":               b.change("take_back", "x"),
		"not an action":             b.change("x", "x"),
		"sign out":                  b.get("/sign-out"),
		"signed out":                b.submit(b.get("/sign-out"), "action", "sign_out"),
		"logout":                    stranger.get("/oauth/logout"),
		"404":                       stranger.get("/nothing/here"),
		"404 below flow":            stranger.get("/flow/x/y/z"),
		"405":                       stranger.send(http.MethodDelete, "/login", ""),
		"a form's page":             stranger.send(http.MethodGet, "/flow/x/consent", ""),
		"a path that is cleaned":    stranger.send(http.MethodGet, "//login", ""),
		"a redirect":                stranger.send(http.MethodGet, "/", ""),
		"a redirect into a sign-in": stranger.send(http.MethodGet, "/connected-apps", ""),
		"HEAD":                      stranger.send(http.MethodHead, "/login", ""),
	}
	flood := w.browser()
	flood.peer = "203.0.113.9"
	for range 200 {
		if p := flood.send(http.MethodGet, "/sign-out", ""); p.status == http.StatusTooManyRequests {
			pages["429"] = p
			break
		}
	}
	w.Storage.DB.Close() // nothing works any more
	pages["500"] = stranger.send(http.MethodGet, "/login", "")
	want := map[string]int{
		"429": 429, "500": 500, "404": 404, "405": 405, "another site": 403, "no token": 403, "body too large": 413, "body of another kind": 415,
		"a query beside the body": 400, "a field twice": 400, "too soon": 429, "not an action": 400, "not a grant": 404,
	}
	for name, p := range pages {
		t.Run(name, func(t *testing.T) {
			if status, ok := want[name]; ok && p.status != status {
				t.Errorf("%d, want %d: %s", p.status, status, p.text())
			}
			for header, value := range map[string]string{
				"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
				"X-Content-Type-Options": "nosniff", "Cross-Origin-Resource-Policy": "same-origin",
				"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; script-src 'self'; connect-src 'self'; " +
					"form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
			} {
				if got := p.header.Get(header); got != value {
					t.Errorf("%s: %q", header, got)
				}
			}
			if !strings.Contains(p.header.Get("Permissions-Policy"), "publickey-credentials-get=(self)") {
				t.Error("no Permissions-Policy")
			}
			if p.status >= 400 && p.status != 422 && name != "too soon" && !strings.Contains(p.text(), "Trace code "+p.header.Get("X-Request-Id")) {
				t.Errorf("%d without its trace code: %s", p.status, p.text())
			}
			if regexp.MustCompile(`(?i)sql|goroutine|\.go:|panic|/tmp/`).MatchString(p.text()) {
				t.Errorf("the page tells of the inside: %s", p.text())
			}
		})
	}
}

// Row: B01, B02, B03. Proves: MCP-AS-25, OIDC-3.1.2.3-a.
func TestForms(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		b := w.signedIn(ada)
		b.connect(w.operator.ID, callback)
		p := b.authorize(request(w.dynamic, loopback))
		action, csrf := b.form(p)
		flow := strings.TrimSuffix(action, "/consent")
		other := b.authorize(request(w.dynamic, loopback))
		_, ofOtherFlow := b.form(other)
		stranger := w.signedIn(bea)
		_, ofOtherPerson := stranger.form(stranger.authorize(request(w.dynamic, loopback)))
		_, ofApps := b.form(b.get("/connected-apps"))
		_, ofSignOut := b.form(b.get("/sign-out"))
		grant := b.get("/connected-apps").grants()[0]

		token := csrf.Get("csrf")
		tokens := map[string]string{
			"none": "", "wrong": token[1:] + "A", "cut": token[:len(token)-1], "longer": token + "A",
			"of another flow": ofOtherFlow.Get("csrf"), "of another person": ofOtherPerson.Get("csrf"), "of the page": csrf.Get("page"),
		}
		for _, form := range []struct {
			path   string
			hidden url.Values
			fields []string
		}{
			{action, csrf, []string{"action", "allow", "allow", "read:notes"}},
			{action, csrf, []string{"action", "deny"}},
			{action, csrf, []string{"action", "switch"}},
			{flow + "/email", csrf, []string{"email", bea}},
			{flow + "/code", csrf, []string{"code", "123456"}},
			{"/connected-apps", ofApps, []string{"action", "take_back"}},
			{"/connected-apps", ofApps, []string{"action", "sign_out_everywhere"}},
			{"/sign-out", ofSignOut, []string{"action", "sign_out"}},
		} {
			t.Run(form.path[strings.LastIndex(form.path, "/"):]+" "+form.fields[1], func(t *testing.T) {
				b.w = w.on(t)
				for name, token := range tokens {
					hidden := maps.Clone(form.hidden)
					hidden.Set("csrf", token)
					if got := b.send(http.MethodPost, form.path, fill(hidden, form.fields...)); got.status != http.StatusForbidden || got.answer() != nil {
						t.Errorf("a token: %s: %d %s", name, got.status, got.text())
					}
				}
				for name, headers := range map[string][]string{
					"another site":          {"Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site"},
					"a site beside":         {"Origin", "http://evil.localhost", "Sec-Fetch-Site", "same-site"},
					"no origin to name":     {"Origin", "null", "Sec-Fetch-Site", "cross-site"},
					"an old browser":        {"Origin", "https://evil.example", "Sec-Fetch-Site", ""},
					"an old browser, null":  {"Origin", "null", "Sec-Fetch-Site", ""},
					"another port of ours":  {"Origin", "http://localhost:1", "Sec-Fetch-Site", ""},
					"a header that it made": {"Origin", "https://evil.example", "Sec-Fetch-Site", "nonsense"},
				} {
					if got := b.send(http.MethodPost, form.path, fill(form.hidden, form.fields...), headers...); got.status != http.StatusForbidden || got.answer() != nil {
						t.Errorf("from %s: %d %s", name, got.status, got.text())
					}
				}
			})
		}
		t.Run("a decision about another page is none", func(t *testing.T) {
			b.w = w.on(t)
			hidden := maps.Clone(csrf)
			for _, page := range []string{"", token, ofOtherFlow.Get("page"), ofOtherPerson.Get("page")} {
				hidden.Set("page", page)
				for _, decision := range []string{"allow", "deny"} {
					if got := b.send(http.MethodPost, action, fill(hidden, "action", decision, "allow", "read:notes")); got.status != 400 || got.answer() != nil {
						t.Errorf("%s: %d to %v", decision, got.status, got.answer())
					}
				}
			}
		})
		t.Run("and nothing changed", func(t *testing.T) {
			b.w = w.on(t)
			if !slices.Contains(b.get("/connected-apps").grants(), grant) || w.sent(bea) != 1 {
				t.Error("a grant is gone, or a mail was sent")
			}
			if b.allow(p).answer() == nil {
				t.Error("the honest form does not work any more")
			}
		})
	})
}

// A form that was drawn before somebody signed in, in another window, is refused,
// and its page leads on.
func TestFormFromBeforeASignIn(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		apps := w.signedIn(bea)
		old := apps.get("/connected-apps")
		b := w.browser()
		first, second := b.authorize(request(w.operator.ID, callback)), b.authorize(request(w.dynamic, loopback))
		wantText(t, b.signIn(first, ada), 200, "Notebook wants to act for you")
		got := b.submit(second, "email", ada)
		wantText(t, got, 403, "This page did not come from us", "Go back to the page and repeat what you did.")
		wantText(t, b.get(got.link("Go back")), 200, "MCP Inspector wants to act for you", ada)

		apps.signIn(apps.authorize(request(w.operator.ID, callback, "prompt", "login")), bea)
		wantText(t, apps.get(apps.submit(old, "action", "sign_out_everywhere").link("Go back")), 200, "My connected apps")
	})
}

// A page that was drawn in answer to a form is loaded again: it leads to what its
// flow needs next, and nothing is done once more.
func TestFormsAreLoadedAgain(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.browser()
	p := b.authorize(request(w.operator.ID, callback))
	wantText(t, b.get(b.submit(p, "email", "x").at), 200, "Send me a code")
	flow := p.at
	again := func(step string) page {
		t.Helper()
		got := b.send(http.MethodGet, flow+step, "")
		if got.status != http.StatusSeeOther || got.header.Get("Location") != flow {
			t.Errorf("GET %s: %d to %q", step, got.status, got.header.Get("Location"))
		}
		return b.follow(got)
	}
	wantText(t, again("/email"), 200, "Send me a code")
	p = b.follow(b.submit(p, "email", ada))
	w.Clock.Advance(time.Minute)
	sent := b.submit(p, "action", "resend")
	if sent.status != http.StatusSeeOther {
		t.Errorf("another code: %d, and loading that page again would ask for one more", sent.status)
	}
	for range 3 {
		wantText(t, b.follow(sent), 200, "New code sent. The old one no longer works.")
	}
	_, code := w.mailed(ada, 2)
	wantText(t, again("/code"), 200, "Six-digit code")
	if n := w.sent(ada); n != 2 {
		t.Errorf("%d mails", n)
	}
	p = b.follow(b.submit(p, "code", code))
	wantText(t, b.submit(p, "action", "read_only"), 200, "Allow")
	wantText(t, again("/consent"), 200, "Allow")
	wantText(t, w.browser().get(flow+"/consent"), 400, "This link is too old")
}

// Nothing but sign-ins, and what a person allowed before, comes of any GET.
func TestGetChangesNothing(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.signedIn(ada)
	b.connect(w.dynamic, loopback)
	p := b.authorize(request(w.operator.ID, callback))
	action, csrf := b.form(p)
	flow := strings.TrimSuffix(action, "/consent")
	_, ofSignOut := b.form(b.get("/sign-out"))
	_, ofApps := b.form(b.get("/connected-apps"))
	before, cookies := w.rows(), maps.Clone(b.cookies)
	for _, address := range []string{
		flow, flow + "?" + fill(csrf, "action", "allow", "allow", "read:notes"), flow + "/consent?" + fill(csrf, "action", "allow", "allow", "read:notes"),
		flow + "/email?" + fill(csrf, "email", bea), flow + "/code?" + fill(csrf, "code", "123456"),
		"/connected-apps?" + fill(ofApps, "action", "take_back"), "/connected-apps?" + fill(ofApps, "action", "sign_out_everywhere"),
		"/sign-out?" + fill(ofSignOut, "action", "sign_out"), "/oauth/logout?" + fill(ofSignOut, "action", "sign_out"), "/oauth/logout?client_id=" + w.operator.ID,
		"/", "/login", "/oauth/authorize?" + request(w.operator.ID, callback).Encode(), "/oauth/authorize?" + request(w.dynamic, loopback).Encode(),
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			if got := b.send(method, address, ""); got.answer() != nil {
				t.Errorf("%s %s: an answer", method, address)
			}
		}
	}
	if after := w.rows(); !maps.Equal(before, after) {
		t.Errorf("rows before: %v\nafter: %v", before, after)
	}
	for name, value := range cookies {
		if strings.HasSuffix(name, "-session") && b.cookies[name] != value {
			t.Error("the session's cookie changed")
		}
	}
	if w.sent(bea) != 0 {
		t.Error("a mail was sent")
	}
}

// rows is what each table that matters holds, flows and events aside.
func (w *world) rows() map[string]string {
	w.t.Helper()
	db, all := w.database(), map[string]string{}
	for table, columns := range map[string]string{
		"session": "id, subject", "user": "id, last_sign_in_at", "grant": "id, revoked_at", "grant_scope": "grant_id, scope, allowed",
		"family": "id, revoked_at, rotated_at", "code": "id", "email_code": "id, tries", "client": "id, metadata_hash", "revocation": "sequence",
	} {
		all[table] = strings.Join(read(w.t, db, fmt.Sprintf(`SELECT %s FROM "%s" ORDER BY 1, 2`, columns+", ''", table)), "\n")
	}
	return all
}

// read returns rows as text.
func read(t *testing.T, db *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	columns, _ := rows.Columns()
	var all []string
	for rows.Next() {
		values := make([]sql.NullString, len(columns))
		into := make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var line []string
		for _, v := range values {
			line = append(line, v.String)
		}
		all = append(all, strings.Join(line, " "))
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// Whoever reads a trace code to the operator is found: in the event, and in the
// log.
func TestEveryDecisionLeavesAnEvent(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.browser()
	db := w.database()
	users := func() string {
		all, err := w.Store.Users(t.Context(), w.Project.ID, ada, "", 1)
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		return all[0].ID
	}
	wantEvent := func(p page, want string) {
		t.Helper()
		got := read(t, db, `SELECT kind, subject, client_id, refused, reason, address FROM event WHERE trace_id = ? ORDER BY id`, p.header.Get("X-Request-Id"))
		if !slices.Contains(got, want) {
			t.Errorf("events of %s: %q, want %q", p.at, got, want)
		}
	}
	b.peer = "198.51.100.7"
	p := b.authorize(request(w.operator.ID, callback))
	sent := b.submit(p, "email", ada)
	wantEvent(sent, "signin.code_sent  "+w.operator.ID+" 0  198.51.100.7")
	p = b.follow(sent)
	_, code := w.mailed(ada, 1)
	wantEvent(b.submit(p, "code", wrong(code)), "signin.refused  "+w.operator.ID+" 1 wrong code 198.51.100.7")
	in := b.submit(p, "code", code)
	wantEvent(in, "signin.succeeded "+users()+" "+w.operator.ID+" 0  198.51.100.7")
	wantEvent(in, "user.created "+users()+" "+w.operator.ID+" 0  198.51.100.7")
	p = b.follow(in)
	wantEvent(b.submit(p, "action", "deny"), "grant.denied "+users()+" "+w.operator.ID+" 0  198.51.100.7")
	wantEvent(b.allow(b.authorize(request(w.operator.ID, callback))), "grant.allowed "+users()+" "+w.operator.ID+" 0  198.51.100.7")
	refused := b.authorize(request(w.operator.ID, "https://evil.example/cb"))
	wantEvent(refused, "authorize.refused  "+w.operator.ID+" 1 return address not registered 198.51.100.7")
	wantEvent(b.change("take_back", b.get("/connected-apps").grants()[0]), "grant.revoked "+users()+" "+w.operator.ID+" 0  198.51.100.7")
	wantEvent(b.submit(b.get("/sign-out"), "action", "sign_out"), "session.ended "+users()+"  0  198.51.100.7")

	old := b.send(http.MethodGet, "/flow/"+strings.Split(p.at, "/")[2], "")
	if line := fmt.Sprintf(`"trace":"%s"`, old.header.Get("X-Request-Id")); !strings.Contains(w.Log.String(), line) || !strings.Contains(w.Log.String(), `"refused":"This link is too old"`) {
		t.Error("the log does not say why a flow was refused")
	}
	log := w.Log.String()
	for _, secret := range append(slices.Collect(maps.Values(b.cookies)), code, ada, verifier, "s t&") {
		if len(secret) > 3 && strings.Contains(log, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
}

// Row: B20: what a browser prefers makes no state here.
func TestLanguagesMakeNoState(t *testing.T) {
	w := newWorld(t, configOf(nil))
	b := w.browser()
	first := b.get("/sign-out")
	for i := range 300 {
		if p := b.send(http.MethodGet, fmt.Sprintf("/sign-out?ui_locales=x%d", i), "", "Accept-Language", fmt.Sprintf("x%d", i)); p.body != first.body || len(b.cookies) != 0 {
			t.Fatalf("another page, or a cookie, for a language:\n%s", p.body)
		}
	}
	w.Clock.Advance(time.Second)
}

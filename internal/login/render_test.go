package login

import (
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// hostile is a client name that tries everything a name can: markup, template
// and attribute ends, direction and zero-width characters, lines and length.
const hostile = "</title></bdi>\"'><script>alert(1)</script>{{.CSRF}}\u202eevil\u2066\u200b\x00\r\nSubject: x \u0621 " +
	"a very long name that goes on and on until nobody reads it any more"

var sampleTime = time.Date(2026, 11, 20, 23, 41, 7, 0, time.UTC)

func on(t time.Time) moment { return moment{At: t, Now: sampleTime} }

func before(d time.Duration) moment { return on(sampleTime.Add(-d)) }

const oneDay = 24 * time.Hour

// sample is one page in one state.
type sample struct {
	name   string
	status int
	draw   func(*pages, http.ResponseWriter) error
}

// samples draws every page in every state, for a client of that name.
func samples(client string) []sample {
	site := web.Site{Name: "Todo", HelpURL: "https://todo.example/help", PrivacyURL: "https://todo.example/privacy"}
	f := form{CSRF: "csrf-token", Post: "/sign-in?flow=1"}
	unverified := clientView{Name: client, Registered: on(sampleTime)}
	verified := clientView{Name: client, Vouched: byHost, Host: "claude.ai"}
	const email = "ravi@menon.example"

	reads := permission{Scope: "read:todos", Sentence: "Read your to-dos", Detail: "Titles, notes and due dates", Ticked: true}
	adds := permission{Scope: "write:todos", Sentence: "Add and edit to-dos", Detail: "It can change or complete any item on your list.", Writes: true, Ticked: true}
	deletes := permission{Scope: "delete:todos", Sentence: "Delete to-dos", Detail: "Deleted items cannot be brought back", Writes: true, Ticked: true}
	closed := permission{Scope: "publish:todos", Sentence: "Publish your list", Writes: true, Refused: "Todo does not offer this to unverified apps."}
	nobody := permission{Scope: "admin:everything", Writes: true, Ticked: true}
	groups := func(p ...permission) []permissionGroup {
		return []permissionGroup{{Name: "Todo", Address: "https://todo.example/mcp", Permissions: p}}
	}
	onlyWho := func(opens permission) []permissionGroup {
		who := permission{Scope: "openid", Sentence: "Know who you are", Ticked: true}
		return []permissionGroup{{Name: "Todo", Address: "https://todo.example/mcp", Opens: opens}, {Name: "About you", Permissions: []permission{who}}}
	}
	consent := consentView{
		Site: site, form: f, Client: unverified, Answer: answerTo("http://localhost:6274/oauth/callback", ""), Email: email,
		Groups: groups(reads, adds, deletes), Idle: 14 * oneDay, AtMost: 90 * oneDay, Apps: "/apps",
	}
	with := func(v consentView, change func(*consentView)) func(*pages, http.ResponseWriter) error {
		change(&v)
		return func(p *pages, w http.ResponseWriter) error { return p.consent(w, v) }
	}
	signIn := func(v signInView) func(*pages, http.ResponseWriter) error {
		v.Site, v.form = site, f
		return func(p *pages, w http.ResponseWriter) error { return p.signIn(w, v) }
	}
	code := func(v codeView) func(*pages, http.ResponseWriter) error {
		v.Site, v.form, v.Email, v.Until = site, f, email, on(sampleTime.Add(10*time.Minute))
		return func(p *pages, w http.ResponseWriter) error { return p.code(w, v) }
	}
	handOver := func(v handOverView) func(*pages, http.ResponseWriter) error {
		v.Site, v.Client, v.Apps = site, unverified, "/apps"
		return func(p *pages, w http.ResponseWriter) error { return p.handOver(w, v) }
	}
	fail := func(e web.ErrorPage) func(*pages, http.ResponseWriter) error {
		e.Site, e.Trace, e.At, e.Step = site, "K7F-2QX-9MD", sampleTime, "authorize"
		return func(p *pages, w http.ResponseWriter) error { return p.fail(w, e) }
	}
	row := func(c clientView, a appView) appView { a.Client = c; return a }
	apps := appsView{
		Site: site, form: f, Email: email, SignOut: "/sign-out",
		Apps: []appView{
			row(unverified, appView{Grant: "grant-1", Local: true, Allowed: on(sampleTime), Used: before(2 * time.Minute), IdleEnd: before(-14 * oneDay), End: before(-13 * oneDay), Permissions: []permission{reads}}),
			row(verified, appView{Grant: "grant-2", Allowed: before(17 * oneDay), Used: before(oneDay), IdleEnd: before(-13 * oneDay), End: before(-73 * oneDay), Permissions: []permission{reads, adds, nobody}}),
			row(clientView{Name: "Zed", Vouched: byHost, Host: "zed.dev"}, appView{Grant: "grant-3", Allowed: before(39 * oneDay), Used: before(11 * oneDay), IdleEnd: before(-3 * oneDay), End: before(-51 * oneDay), Permissions: []permission{reads}}),
			row(clientView{Name: "Nightly export", Vouched: byOperator}, appView{Grant: "grant-4", Allowed: before(400 * oneDay)}),
		},
	}
	appsWith := func(change func(*appsView)) func(*pages, http.ResponseWriter) error {
		v := apps
		change(&v)
		return func(p *pages, w http.ResponseWriter) error { return p.apps(w, v) }
	}
	signOut := func(v signOutView) func(*pages, http.ResponseWriter) error {
		v.Site, v.form, v.Email = site, f, email
		return func(p *pages, w http.ResponseWriter) error { return p.signOut(w, v) }
	}
	signedOut := func(v signedOutView) func(*pages, http.ResponseWriter) error {
		v.Site, v.SignIn = site, "/sign-in"
		return func(p *pages, w http.ResponseWriter) error { return p.signedOut(w, v) }
	}
	loopback := answerTo("http://localhost:6274/oauth/callback", "")
	link := template.URL("http://localhost:6274/oauth/callback?code=pst_ac_1&state=2")

	onward := requestRefused(client, "It asked for a permission that does not exist.")
	onward.Onward, onward.OnwardTo = link, client
	todo := &project.Project{Issuer: "https://todo.example"}
	form403 := web.StatusPage(http.StatusForbidden)
	form403.Way, form403.WayTo = "/flow/1", goBack

	all := []sample{
		{"signin", 200, signIn(signInView{Client: &unverified})},
		{"signin-verified", 200, signIn(signInView{Client: &verified, Email: email})},
		{"signin-alone", 200, signIn(signInView{})},
		{"signin-bad", 422, signIn(signInView{Client: &unverified, Email: hostile, BadEmail: true})},
		{"signin-wait", 429, signIn(signInView{Client: &unverified, Email: email, pause: pause{pauseGap, 39500 * time.Millisecond}})},
		{"signin-wait-address", 429, signIn(signInView{Email: email, pause: pause{pauseAddress, 52 * time.Minute}})},
		{"signin-wait-network", 429, signIn(signInView{Email: email, pause: pause{pauseNetwork, 3 * time.Minute}})},
		{"code", 200, code(codeView{})},
		{"code-dev", 200, code(codeView{Resent: true, Mailbox: "/dev/mailbox"})},
		{"code-wrong", 422, code(codeView{Problem: codeWrong, TriesLeft: 4})},
		{"code-last", 422, code(codeView{Problem: codeWrong, TriesLeft: 1})},
		{"code-run-out", 422, code(codeView{Problem: codeRunOut})},
		{"code-too-many", 422, code(codeView{Problem: codeTooMany})},
		{"code-locked", 422, code(codeView{Problem: codeLocked})},
		{"code-wait", 429, code(codeView{Problem: codeWait, pause: pause{pauseGap, 40 * time.Second}})},
		{"code-wait-spent", 429, code(codeView{Problem: codeWait, Spent: true, pause: pause{pauseGap, 12 * time.Second}})},
		{"code-inactive", 422, code(codeView{Problem: codeInactive})},
		{"consent", 200, with(consent, func(*consentView) {})},
		{"consent-read-only", 200, with(consent, func(v *consentView) { v.Groups = groups(reads, adds, deletes); v.tickReads() })},
		{"consent-by-hand", 200, with(consent, func(v *consentView) {
			v.Groups = groups(reads, adds, deletes)
			v.tickOnly([]string{"read:todos", "write:todos"})
		})},
		{"consent-nothing", 422, with(consent, func(v *consentView) {
			v.Groups = groups(reads, adds)
			v.tickOnly(nil)
			v.NothingTicked = true
		})},
		{"consent-verified", 200, with(consent, func(v *consentView) {
			v.Client, v.Answer = verified, answerTo("https://claude.ai/api/mcp/auth_callback", "claude.ai")
			v.Groups = groups(reads, adds, closed, nobody)
		})},
		{"consent-other-host", 200, with(consent, func(v *consentView) {
			v.Client, v.Answer = verified, answerTo("https://login.somewhere-else.example.co.uk:8443/cb", "claude.ai")
		})},
		{"consent-scheme", 200, with(consent, func(v *consentView) { v.Answer = answerTo("cursor://anysphere.cursor-mcp/cb", "") })},
		{"consent-web", 200, with(consent, func(v *consentView) {
			v.Answer = answerTo("https://сlaude.ai/cb", "")
			v.Client.Registered = before(200 * oneDay)
		})},
		{"consent-operator", 200, with(consent, func(v *consentView) {
			v.Client, v.Idle, v.AtMost = clientView{Name: client, Vouched: byOperator}, 0, time.Hour
			v.Groups = groups(permission{Scope: "write:todos", Sentence: "Add and edit to-dos", Writes: true, Ticked: true})
		})},
		{"consent-project", 200, with(consent, func(v *consentView) { v.Client = clientView{Name: client, Vouched: byProject} })},
		{"consent-step-up", 200, with(consent, func(v *consentView) {
			v.Client, v.Answer = verified, answerTo("https://claude.ai/cb", "claude.ai")
			v.Groups, v.Already = groups(deletes), []permission{reads, adds}
		})},
		{"consent-closed", 200, with(consent, func(v *consentView) { v.Groups = groups(closed) })},
		{"consent-closed-member", 200, with(consent, func(v *consentView) {
			v.Groups, v.Organization = groups(closed), &organizationView{ID: "organization-test-1", Name: client, Roles: "Member", Change: "/flow/1/organization"}
		})},
		{"consent-step-up-closed", 200, with(consent, func(v *consentView) { v.Groups, v.Already = groups(closed), []permission{reads} })},
		{"consent-whole-server", 200, with(consent, func(v *consentView) { v.Groups = onlyWho(opens(oauth.ReachServer, "there")) })},
		{"consent-open-part", 200, with(consent, func(v *consentView) {
			v.Client, v.Answer = verified, answerTo("https://claude.ai/cb", "claude.ai")
			v.Groups = onlyWho(opens(oauth.ReachOpen, "there"))
		})},
		{"consent-whole-server-and-more", 200, with(consent, func(v *consentView) {
			v.Groups = groups(reads, adds, closed)
			v.Groups[0].Opens = opens(oauth.ReachServer, "there")
		})},
		{"consent-step-up-nothing", 422, with(consent, func(v *consentView) {
			v.Groups, v.Already = groups(adds, deletes), []permission{reads}
			v.tickOnly(nil)
			v.NothingTicked = true
		})},
		{"handover", 200, handOver(handOverView{Answer: loopback, Link: link, Allowed: []permission{reads}})},
		{"handover-web", 200, handOver(handOverView{Answer: answerTo("https://claude.ai/cb", "claude.ai"), Link: "https://claude.ai/cb?code=1", Allowed: []permission{reads, adds, nobody}})},
		{"handover-scheme", 200, handOver(handOverView{Answer: answerTo("cursor://x/cb", ""), Link: "cursor://x/cb?code=1", Allowed: []permission{reads}})},
		{"handover-denied", 200, handOver(handOverView{Answer: loopback, Link: link, Denied: true})},
		{"handover-not-now", 200, handOver(handOverView{Answer: loopback, Link: link, Denied: true, Keeps: true})},
		{"apps", 200, appsWith(func(v *appsView) {
			v.Done, v.DoneName, v.LastCall = doneTakenBack, client, before(time.Minute)
			v.TakenBack = []takenBackView{{clientView{Name: client, Shut: true}, on(sampleTime)}}
		})},
		{"apps-read-only", 200, appsWith(func(v *appsView) { v.Done, v.DoneName = doneReadOnly, client })},
		{"apps-confined", 200, appsWith(func(v *appsView) { v.Organization, v.Confined = client, client })},
		{"apps-none", 200, appsWith(func(v *appsView) { v.Apps = nil })},
		{"signout", 200, signOut(signOutView{})},
		{"signout-asked", 200, signOut(signOutView{Client: client, Hidden: []hiddenField{{"state", hostile}}})},
		{"signedout", 200, signedOut(signedOutView{})},
		{"signedout-organization", 200, signedOut(signedOutView{Everywhere: true, Organization: client})},
		{"signedout-return", 200, signedOut(signedOutView{Everywhere: true, Client: client, Return: "https://claude.ai/bye"})},
		{"error-return-address", 400, fail(returnAddressUnknown(client, "http://localhost:6274/callback", []string{"http://localhost:6274/oauth/callback"}))},
		{"error-return-addresses", 400, fail(returnAddressUnknown(client, hostile, []string{"https://a.example/cb", "https://b.example/cb"}))},
		{"error-no-return-address", 400, fail(returnAddressUnknown(client, "https://a.example", nil))},
		{"error-client", 400, fail(clientUnknown(hostile))},
		{"error-document", 400, fail(documentUnreadable("zed.dev"))},
		{"error-document-rules", 400, fail(documentUnusable("zed.dev", "client_name is missing."))},
		{"error-document-off", 400, fail(documentsOff("zed.dev"))},
		{"error-request", 400, fail(requestRefused(client, "code_challenge is missing"))},
		{"error-onward", 400, fail(onward)},
		{"error-old", 400, fail(linkTooOld(todo, client))},
		{"error-old-nobody", 400, fail(linkTooOld(todo, ""))},
		{"error-old-page", 400, fail(pageTooOld(client))},
		{"error-form", 403, fail(form403)},
	}
	for _, status := range []int{400, 403, 404, 405, 413, 421, 429, 500, 503} {
		name := "status-" + strings.ToLower(strings.ReplaceAll(http.StatusText(status), " ", "-"))
		all = append(all, sample{name, status, fail(web.StatusPage(status))})
	}
	all = append(all, orgSamples(client)...)
	return append(all, sample{"status-no-project", 421, func(p *pages, w http.ResponseWriter) error {
		return p.fail(w, web.StatusPage(http.StatusMisdirectedRequest))
	}})
}

func drawn(t *testing.T, p *pages, s sample) string {
	t.Helper()
	w := httptest.NewRecorder()
	if err := s.draw(p, w); err != nil {
		t.Fatal(err)
	}
	if w.Code != s.status {
		t.Errorf("status %d, want %d", w.Code, s.status)
	}
	return w.Body.String()
}

func testPages(t *testing.T) *pages {
	t.Helper()
	p, err := newPages()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestWritePages writes every page as a file into the directory that
// POSTERN_PAGES names, for looking at them in a browser. The test of package
// web puts the style sheets beside them.
func TestWritePages(t *testing.T) {
	dir := os.Getenv("POSTERN_PAGES")
	if dir == "" {
		t.Skip("POSTERN_PAGES names no directory to write the pages to")
	}
	p := testPages(t)
	for prefix, client := range map[string]string{"": "MCP Inspector", "hostile-": hostile} {
		for _, s := range samples(client) {
			if err := os.WriteFile(filepath.Join(dir, prefix+s.name+".html"), []byte(drawn(t, p, s)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// page is a drawn page as a browser reads it.
type page struct {
	text  string
	nodes []*html.Node // all elements, in order
}

func parsed(t *testing.T, text string) page {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	p := page{text: text}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			p.nodes = append(p.nodes, n)
		}
	}
	return p
}

func attr(n *html.Node, name string) (string, bool) {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val, true
		}
	}
	return "", false
}

// words is the text of an element as a person reads it, on one line.
func words(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		switch d.DataAtom {
		case atom.P, atom.Div, atom.Dt, atom.Dd, atom.Li, atom.Small, atom.Br:
			b.WriteByte(' ')
		}
		if d.Type == html.TextNode && d.Parent.DataAtom != atom.Script {
			b.WriteString(d.Data)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

func (p page) all(keep func(*html.Node) bool) []*html.Node {
	return slices.DeleteFunc(slices.Clone(p.nodes), func(n *html.Node) bool { return !keep(n) })
}

func (p page) tags(names ...string) []*html.Node {
	return p.all(func(n *html.Node) bool { return slices.Contains(names, n.Data) })
}

// buttons are the actions of the page's buttons and the words on them.
func (p page) buttons() []string {
	var all []string
	for _, n := range p.tags("button") {
		if kind, _ := attr(n, "type"); kind == "button" {
			continue
		}
		action, _ := attr(n, "value")
		all = append(all, strings.TrimSpace(action+": "+words(n)))
	}
	return all
}

// ticks are the consent page's boxes: "x" ticked, "-" closed.
func (p page) ticks() []string {
	var all []string
	for _, n := range p.tags("input") {
		if name, _ := attr(n, "name"); name != "allow" {
			continue
		}
		sign := " "
		if _, ok := attr(n, "checked"); ok {
			sign = "x"
		}
		if _, ok := attr(n, "disabled"); ok {
			sign = "-"
		}
		scope, _ := attr(n, "value")
		all = append(all, sign+" "+scope)
	}
	return all
}

// pressed are the shortcuts that match the ticks.
func (p page) pressed() []string {
	var all []string
	for _, n := range p.tags("button") {
		if v, _ := attr(n, "aria-pressed"); v == "true" {
			all = append(all, words(n))
		}
	}
	return all
}

// TestEveryPage holds every page in every state, for a plain and for a hostile
// client name, to what all pages owe: structure, labels, the content policy,
// our voice, and that words from outside stay words.
func TestEveryPage(t *testing.T) {
	p := testPages(t)
	for prefix, client := range map[string]string{"plain ": "MCP Inspector", "hostile ": hostile} {
		for _, s := range samples(client) {
			t.Run(prefix+s.name, func(t *testing.T) {
				pg := parsed(t, drawn(t, p, s))
				for _, check := range []func(page) []string{structure, fields, policy, voice, outside} {
					for _, problem := range check(pg) {
						t.Error(problem)
					}
				}
			})
		}
	}
}

// structure: language, title, one heading, skip link, landmarks, no dangling
// reference.
func structure(p page) (problems []string) {
	fail := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if lang, _ := attr(p.tags("html")[0], "lang"); lang != "en" {
		fail("lang is %q", lang)
	}
	if title := p.tags("title"); len(title) != 1 || words(title[0]) == "" {
		fail("%d titles", len(title))
	}
	if n := len(p.tags("h1")); n != 1 {
		fail("%d h1", n)
	}
	if n := len(p.tags("main")); n != 1 {
		fail("%d main", n)
	}
	if n := len(p.tags("header")); n != 1 {
		fail("%d header", n)
	}
	first := p.tags("a", "button", "input")[0]
	if href, _ := attr(first, "href"); href != "#main" {
		fail("the first stop is not the skip link")
	}
	ids := map[string]int{}
	for _, n := range p.nodes {
		if id, ok := attr(n, "id"); ok {
			ids[id]++
		}
	}
	for id, n := range ids {
		if n > 1 {
			fail("id %q %d times", id, n)
		}
	}
	for _, n := range p.nodes {
		for _, name := range []string{"for", "form", "aria-describedby", "aria-labelledby", "data-copy"} {
			value, _ := attr(n, name)
			for id := range strings.FieldsSeq(value) {
				if ids[id] == 0 {
					fail("<%s %s=%q> points nowhere", n.Data, name, id)
				}
			}
		}
		if _, ok := attr(n, "alt"); n.Data == "img" && !ok {
			fail("img without alt")
		}
		hidden, _ := attr(n, "aria-hidden")
		label, _ := attr(n, "aria-label")
		if n.Data == "svg" && hidden != "true" && label == "" {
			fail("an icon speaks")
		}
		if (n.Data == "button" || n.Data == "a") && words(n) == "" {
			fail("<%s> without words", n.Data)
		}
	}
	return problems
}

// fields: every field has a label, every form is a post with its token, every
// wrong field says so.
func fields(p page) (problems []string) {
	fail := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	labelled := map[string]bool{}
	for _, n := range p.tags("label") {
		target, _ := attr(n, "for")
		labelled[target] = words(n) != ""
	}
	for _, n := range p.tags("input") {
		kind, _ := attr(n, "type")
		id, _ := attr(n, "id")
		inside := false
		for up := range n.Ancestors() {
			inside = inside || up.DataAtom == atom.Label && words(up) != ""
		}
		if kind != "hidden" && !inside && !labelled[id] {
			fail("field %q has no label", id)
		}
		described, _ := attr(n, "aria-describedby")
		if _, bad := attr(n, "aria-invalid"); bad && !strings.Contains(described, "-error") {
			fail("field %q does not name its error", id)
		}
	}
	for _, n := range p.tags("form") {
		method, _ := attr(n, "method")
		token := ""
		for d := range n.Descendants() {
			if name, _ := attr(d, "name"); name == "csrf" {
				token, _ = attr(d, "value")
			}
		}
		if role, _ := attr(n, "role"); role == "search" && method == "get" && token == "" {
			continue // it changes nothing
		}
		if method != "post" || token != "csrf-token" {
			fail("form: method %q, token %q", method, token)
		}
	}
	return problems
}

// policy: nothing that the content policy would refuse.
func policy(p page) (problems []string) {
	for _, n := range p.nodes {
		if n.Data == "style" || n.Data == "script" && n.FirstChild != nil || slices.Contains([]string{"iframe", "object", "embed", "base"}, n.Data) {
			problems = append(problems, "<"+n.Data+"> in the page")
		}
		for _, a := range n.Attr {
			loads := a.Key == "src" || n.Data == "link" && a.Key == "href"
			switch {
			case a.Key == "style" || strings.HasPrefix(a.Key, "on"):
				problems = append(problems, fmt.Sprintf("<%s %s>", n.Data, a.Key))
			case loads && !strings.HasPrefix(a.Val, web.AssetsPath):
				problems = append(problems, "loads "+a.Val)
			case strings.Contains(a.Val, "ZgotmplZ"):
				problems = append(problems, fmt.Sprintf("<%s %s> was refused by the template", n.Data, a.Key))
			case strings.HasPrefix(strings.ToLower(a.Val), "javascript:"):
				problems = append(problems, "a script as an address")
			}
		}
	}
	return problems
}

// notOurs are words that the pages never say.
var notOurs = regexp.MustCompile(`(?i)\b(please|oops|simply|successfully|account|tenant|revoke|redirect|scope|client|secure|safe)\b|!`)

// voice: our words only, in sentence case, with every hole filled.
func voice(p page) (problems []string) {
	if strings.Contains(p.text, "evil") {
		return nil // a hostile name says what it likes
	}
	text := words(p.tags("body")[0])
	if bad := notOurs.FindString(strings.ReplaceAll(text, "admin:everything", "")); bad != "" {
		problems = append(problems, fmt.Sprintf("says %q: %s", bad, text))
	}
	if hole := regexp.MustCompile(`\{[a-z]+\}|%!|<no value>|\.\.|,\.| \.`).FindString(text); hole != "" {
		problems = append(problems, fmt.Sprintf("has %q: %s", hole, text))
	}
	return problems
}

// outside: a hostile name made no element and turned no text.
func outside(p page) (problems []string) {
	if n := len(p.tags("script")); n != 1 {
		problems = append(problems, fmt.Sprintf("%d scripts", n))
	}
	for _, r := range words(p.tags("html")[0]) {
		if unicode.Is(unicode.Cf, r) || unicode.IsControl(r) {
			problems = append(problems, fmt.Sprintf("the page has %U", r))
		}
	}
	for _, n := range p.all(func(n *html.Node) bool { return n.FirstChild != nil && n.FirstChild.Type == html.TextNode }) {
		text := words(n)
		isolated := n.Data == "bdi" || n.Data == "code" || n.Data == "title"
		if direct := n.FirstChild.Data; strings.Contains(direct, "<script>") && !isolated {
			problems = append(problems, fmt.Sprintf("a name stands in <%s> without isolation: %s", n.Data, text))
		}
	}
	return problems
}

func sampled(t *testing.T, name string) page {
	t.Helper()
	for _, s := range samples("MCP Inspector") {
		if s.name == name {
			return parsed(t, drawn(t, testPages(t), s))
		}
	}
	t.Fatalf("no sample %q", name)
	return page{}
}

// TestConsentIsEven holds the consent page to ui.md: what was asked and can be
// granted is ticked, Enter decides nothing, Deny comes before Allow
// and has its size.
func TestConsentIsEven(t *testing.T) {
	for _, c := range []struct {
		sample                  string
		buttons, ticks, pressed []string
	}{
		{
			"consent",
			[]string{"switch: Not you?", ": Enter decides nothing", "read_only: Read only", "everything: Everything", "deny: Deny", "allow: Allow"},
			[]string{"x read:todos", "x write:todos", "x delete:todos"},
			[]string{"Everything"},
		},
		{
			"consent-read-only",
			[]string{"switch: Not you?", ": Enter decides nothing", "read_only: Read only", "everything: Everything", "deny: Deny", "allow: Allow"},
			[]string{"x read:todos", "  write:todos", "  delete:todos"},
			[]string{"Read only"},
		},
		{
			"consent-by-hand",
			[]string{"switch: Not you?", ": Enter decides nothing", "read_only: Read only", "everything: Everything", "deny: Deny", "allow: Allow"},
			[]string{"x read:todos", "x write:todos", "  delete:todos"},
			nil,
		},
		{
			"consent-verified",
			[]string{"switch: Not you?", ": Enter decides nothing", "read_only: Read only", "everything: Everything", "deny: Deny", "allow: Allow"},
			[]string{"x read:todos", "x write:todos", "x admin:everything", "- publish:todos"},
			[]string{"Everything"},
		},
		{
			"consent-closed",
			[]string{"switch: Not you?", ": Enter decides nothing", "deny: Deny"},
			[]string{"- publish:todos"},
			nil,
		},
		{
			"consent-step-up",
			[]string{"switch: Not you?", ": Enter decides nothing", "deny: Not now", "allow: Allow"},
			[]string{"x delete:todos"},
			nil,
		},
	} {
		t.Run(c.sample, func(t *testing.T) {
			p := sampled(t, c.sample)
			if d := cmp.Diff(c.buttons, p.buttons()); d != "" {
				t.Errorf("buttons (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.ticks, p.ticks()); d != "" {
				t.Errorf("ticks (-want +got):\n%s", d)
			}
			if d := cmp.Diff(c.pressed, p.pressed()); d != "" {
				t.Errorf("pressed (-want +got):\n%s", d)
			}
			for _, n := range p.tags("button") {
				action, _ := attr(n, "value")
				if form, own := attr(n, "form"); own != (action == "switch") {
					t.Errorf("%s belongs to form %q: Enter would press it", action, form)
				}
			}
		})
	}
}

// TestPermissionsAreNamed: a box is called by its sentence, and what stands
// below that describes it.
func TestPermissionsAreNamed(t *testing.T) {
	p := sampled(t, "consent-verified")
	byID := map[string]string{}
	for _, n := range p.nodes {
		if id, ok := attr(n, "id"); ok {
			byID[id] = words(n)
		}
	}
	got := map[string][2]string{}
	for _, n := range p.tags("input") {
		if name, _ := attr(n, "name"); name == "allow" {
			scope, _ := attr(n, "value")
			label, _ := attr(n, "aria-labelledby")
			note, _ := attr(n, "aria-describedby")
			got[scope] = [2]string{byID[label], byID[note]}
		}
	}
	want := map[string][2]string{
		"read:todos":       {"Read your to-dos", "Titles, notes and due dates"},
		"write:todos":      {"Add and edit to-dos", "It can change or complete any item on your list"},
		"publish:todos":    {"Publish your list", "Todo does not offer this to unverified apps."},
		"admin:everything": {"admin:everything", "Described by nobody"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for _, n := range sampled(t, "consent-operator").tags("input") {
		if note, ok := attr(n, "aria-describedby"); ok {
			t.Errorf("a box with nothing below its sentence is described by %q", note)
		}
	}
	for _, short := range []string{"apps", "handover-web"} {
		if strings.Contains(sampled(t, short).text, "due dates") {
			t.Errorf("%s shows a detail", short)
		}
	}
}

// TestPagesSay holds single pages to the texts of the design.
func TestPagesSay(t *testing.T) {
	for _, c := range []struct {
		sample   string
		has, not []string
	}{
		{"signin", []string{"Sign in to Todo", "To connect MCP Inspector, an unverified app", "We send a six-digit code. No password needed.", "Send me a code"}, nil},
		{"signin-verified", []string{"To connect MCP Inspector from claude.ai"}, []string{"unverified"}},
		{"signin-alone", nil, []string{"To connect"}},
		{"signin-bad", []string{"Enter an e-mail address, such as you@company.com."}, nil},
		{"signin-wait", []string{"A code went out a moment ago. Wait 40 seconds and try again."}, nil},
		{"signin-wait-address", []string{"Too many codes went to this address. Wait 52 minutes and try again."}, []string{"a moment ago"}},
		{"signin-wait-network", []string{"Too many codes went out to your network. Wait 3 minutes and try again."}, nil},
		{"code", []string{"Check your mail", "We sent a code to ravi@menon.example.", "Works until 23:51 UTC. Pasting the code is fine.", "Send another code", "Use a different address"}, []string{"mailbox"}},
		{"code-dev", []string{"New code sent. The old one no longer works.", "Open the mailbox"}, nil},
		{"code-wrong", []string{"That code does not match. You have 4 tries left."}, nil},
		{"code-last", []string{"You have 1 try left."}, nil},
		{"code-run-out", []string{"This code has run out. Send another code"}, []string{"Continue"}},
		{"code-too-many", []string{"Too many tries. Ask for a new code."}, []string{"Continue"}},
		{"code-wait-spent", []string{"A code went out a moment ago. Wait 12 seconds and try again.", "Send another code"}, []string{"Continue", "Works until"}},
		{"code-inactive", []string{"You are locked out of Todo", "The code was right, but ravi@menon.example cannot sign in here. Ask the people who run Todo.", "Use a different address"}, []string{"Continue", "Send another code", "Check your mail"}},
		{"consent", []string{"MCP Inspector wants to act for you in Todo", "Nobody has checked who made MCP Inspector. It registered itself today and chose its own name. If you did not just start it yourself, choose Deny.", "An unverified app Registered itself on 20 Nov 2026", "localhost:6274 A program on this computer", "ravi@menon.example Not you?", "You are allowing 3 of 3. It ends after 14 days without use, after 90 days at the latest, or when you take it back in My connected apps."}, []string{"Verified"}},
		{"consent-web", []string{"It registered itself on 4 May and", "xn--laude-0ye.ai A web site"}, nil},
		{"consent-verified", []string{"claude.ai Verified host", "claude.ai The same host that asks", "admin:everything Described by nobody", "Todo does not offer this to unverified apps.", "You are allowing 3 of 4."}, []string{"Nobody has checked"}},
		{"consent-other-host", []string{"Not the host that asks"}, nil},
		{"consent-scheme", []string{"cursor:// The program that opens cursor links on this computer"}, nil},
		{"consent-operator", []string{"Added by the people who run Todo", "It ends after 1 hour, or when you take it back"}, []string{"Verified", "Nobody has checked", "Read only"}},
		{"consent-nothing", []string{"Tick at least one permission, or choose Deny."}, nil},
		{"consent-step-up", []string{"MCP Inspector asks for one more permission", "You already allow: read your to-dos, add and edit to-dos. That stays.", "You are allowing 1 of 1."}, []string{"Deny"}},
		{"consent-closed", []string{"You can allow none of this.", "Deny"}, []string{"You are allowing"}},
		{"consent-closed-member", []string{"Your role permits none of this. Ask an administrator of MCP Inspector."}, []string{"You are allowing"}},
		{"consent-step-up-closed", []string{"You already allow: read your to-dos. That stays.", "You are allowing 0 of 1."}, []string{"none of this"}},
		{"consent-whole-server", []string{"Todo todo.example/mcp Do everything that you can there This server names no narrower permissions About you Know who you are", "You are allowing 1 of 1."}, []string{"Read only", "Changes data"}},
		{"consent-open-part", []string{"Todo todo.example/mcp Do what needs no permission there It gets none of this server’s own permissions About you"}, nil},
		{"consent-whole-server-and-more", []string{"This server names no narrower permissions Read your to-dos", "You are allowing 2 of 3."}, []string{"Read only"}},
		{"handover", []string{"The door is open for MCP Inspector", "We are handing the answer to localhost:6274, a program on this computer. Close this page once MCP Inspector says it is connected.", "Continue to MCP Inspector", "Nothing happening? Choose Continue once.", "You allowed it to read your to-dos. Change that"}, nil},
		{"handover-scheme", []string{"Choose Continue. Your browser hands the answer to the program that opens cursor links on this computer."}, []string{"Nothing happening"}},
		{"handover-denied", []string{"You said no", "MCP Inspector gets nothing.", "Tell MCP Inspector", "Close this page if you did not start this."}, nil},
		{"handover-not-now", []string{"MCP Inspector gets nothing more. What you allowed before stays."}, nil},
		{"apps", []string{"Access taken back from MCP Inspector. It was last used today at 23:40 UTC.", "A program on your computer. Allowed today, used 2 minutes ago. Ends on 3 Dec 2026", "Allowed on 3 Nov, used yesterday. Ends on 1 Feb 2027", "Allowed on 12 Oct, not used for 11 days. Ends in 3 days without use", "Allowed on 16 Oct 2025, not used yet. Its access has run out until you connect it again", "Make read only", "Sign out everywhere"}, nil},
		{"apps-none", []string{"No connected apps yet", "When you allow one, it is listed here and you can take it back."}, []string{"Take back:"}},
		{"apps-confined", []string{"Sign out here, and of MCP Inspector in every other browser."}, nil},
		{"signedout-organization", []string{"This browser is signed out, and every other one is signed out of MCP Inspector."}, []string{"Every browser"}},
		{"organization", []string{"MCP Inspector Unverified app-1"}, nil},
		{"signout-asked", []string{"MCP Inspector asks to sign you out of Todo"}, nil},
		{"error-return-address", []string{"MCP Inspector gave a return address it never registered", "It asked us to send the answer to http://localhost:6274/callback. It registered http://localhost:6274/oauth/callback, so we stopped here. Nothing was shared.", "K7F-2QX-9MD", "20 Nov 2026, 23:41:07 UTC. Step: authorize"}, nil},
		{"error-return-addresses", []string{"It registered https://a.example/cb and 1 more, so"}, nil},
		{"error-request", []string{"code_challenge is missing. Nothing was shared."}, nil},
		{"error-onward", []string{"Tell MCP Inspector"}, nil},
		{"error-old-nobody", []string{"This time nothing was shared.", "If it is not connected yet, go back to the program that sent you here and connect again. My connected apps"}, nil},
		{"error-old-page", []string{"This page is too old", "This time nothing was shared."}, nil},
		{"error-form", []string{"Go back to the page and repeat what you did. Go back"}, nil},
		{"status-service-unavailable", []string{"tell the people who run Todo"}, nil},
	} {
		t.Run(c.sample, func(t *testing.T) {
			text := words(sampled(t, c.sample).tags("body")[0])
			for _, s := range c.has {
				if !strings.Contains(text, s) {
					t.Errorf("no %q in\n%s", s, text)
				}
			}
			for _, s := range c.not {
				if strings.Contains(text, s) {
					t.Errorf("%q in\n%s", s, text)
				}
			}
		})
	}
}

// TestPrivateSchemesReachTheLink: html/template would blank them, and the page
// would lead nowhere (decision 12).
func TestPrivateSchemesReachTheLink(t *testing.T) {
	p := sampled(t, "handover-scheme")
	for _, n := range p.tags("a") {
		if href, _ := attr(n, "href"); href == "cursor://x/cb?code=1" {
			return
		}
	}
	t.Error("the link is not in the page")
}

func TestAnswerTo(t *testing.T) {
	for _, c := range []struct {
		name, uri, document string
		want                answerView
	}{
		{"localhost", "http://localhost:6274/cb", "", answerView{Place: "localhost:6274", Kind: toThisComputer}},
		{"loopback address", "http://127.0.0.1:33418/", "claude.ai", answerView{Place: "127.0.0.1:33418", Kind: toThisComputer}},
		{"loopback address, version 6", "http://[::1]:1/", "", answerView{Place: "[::1]:1", Kind: toThisComputer}},
		{"not loopback but called so", "https://localhost.example/cb", "", answerView{Place: "localhost.example", Kind: toWebSite}},
		{"the host that asks", "https://Claude.ai/cb", "claude.ai", answerView{Place: "Claude.ai", Kind: toSameHost}},
		{"a neighbour of the host", "https://x.claude.ai/cb", "claude.ai", answerView{Place: "x.claude.ai", Kind: toOtherHost}},
		{"another port of the host", "https://claude.ai:8443/cb", "claude.ai", answerView{Place: "claude.ai:8443", Kind: toOtherHost}},
		{"a scheme", "cursor://anysphere/cb", "claude.ai", answerView{Place: "cursor://", Kind: toScheme, Scheme: "cursor"}},
		{"a scheme without slashes", "com.example.app:/cb", "", answerView{Place: "com.example.app://", Kind: toScheme, Scheme: "com.example.app"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, answerTo(c.uri, c.document)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTimesInWords(t *testing.T) {
	midnight := time.Date(2026, 11, 21, 0, 5, 0, 0, time.UTC)
	for _, c := range []struct{ name, got, want string }{
		{"this day", before(0).Day(), "today"},
		{"before midnight", moment{sampleTime, midnight}.Day(), "yesterday"},
		{"this year", before(17 * oneDay).Day(), "on 3 Nov"},
		{"another year", before(400 * oneDay).Day(), "on 16 Oct 2025"},
		{"seconds", before(3 * time.Second).Use(), "used just now"},
		{"one minute", before(119 * time.Second).Use(), "used 1 minute ago"},
		{"hours", before(3 * time.Hour).Use(), "used today"},
		{"a week", before(7 * oneDay).Use(), "not used for 7 days"},
		{"never", moment{Now: sampleTime}.Use(), "not used yet"},
		{"fourteen days", inWords(14 * oneDay), "14 days"},
		{"one day", inWords(oneDay), "1 day"},
		{"a day and a half", inWords(36 * time.Hour), "36 hours"},
		{"fifteen minutes", inWords(15 * time.Minute), "15 minutes"},
		{"nothing is one second", inWords(0), "1 second"},
		{"waits round up", waitWords(39*time.Second + 1), "40 seconds"},
		{"long waits are minutes", waitWords(10*time.Minute + time.Second), "11 minutes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.got != c.want {
				t.Errorf("%q, want %q", c.got, c.want)
			}
		})
	}
}

func TestPermissionsInASentence(t *testing.T) {
	for sentence, want := range map[string]string{
		"Read your to-dos":  "read your to-dos",
		"Read your notes. ": "read your notes",
		"URLs of your site": "URLs of your site",
		"Über alles lesen":  "über alles lesen",
		"":                  "read:todos",
	} {
		if got := (permission{Scope: "read:todos", Sentence: sentence}).Mid(); got != want {
			t.Errorf("%q: %q, want %q", sentence, got, want)
		}
	}
}

func TestCodeMail(t *testing.T) {
	p := testPages(t)
	until := moment{sampleTime.Add(11 * time.Minute), sampleTime}
	t.Run("for a connected app", func(t *testing.T) {
		subject, text, err := p.codeMail(codeMailView{Project: "Todo", Code: "481920", Until: until, Client: &clientView{Name: "MCP Inspector"}})
		if err != nil {
			t.Fatal(err)
		}
		want := `Your code is

    481920

It works until 23:52 UTC, in the window where you asked for it.

You asked for it to connect MCP Inspector, an unverified app.
If that was not you, ignore this message. Nobody gets in without the code.

--
Sent by Todo. Nobody from Todo will ever ask you for this code.
`
		if d := cmp.Diff(want, text); subject != "481 920 is your code for Todo" || d != "" {
			t.Errorf("subject %q, text (-want +got):\n%s", subject, d)
		}
	})
	t.Run("a name begins no line of its own", func(t *testing.T) {
		subject, text, err := p.codeMail(codeMailView{Project: "Todo\n\nBcc: x", Code: "481920", Until: until, Client: &clientView{Name: hostile}})
		if err != nil {
			t.Fatal(err)
		}
		if subject != "481 920 is your code for Todo Bcc: x" || strings.Contains(text, "\nSubject") || strings.Contains(text, "\nBcc") {
			t.Errorf("subject %q, text:\n%s", subject, text)
		}
	})
}

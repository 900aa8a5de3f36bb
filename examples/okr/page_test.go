package main

import (
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/postern-id/postern/guard/guardtest"
)

// identities adds to the token endpoint's answers what guardtest does not
// make: id_tokens, and access tokens with the organization's slug. A sign-in
// under way is for one person at a time.
type identities struct {
	issuer *guardtest.Issuer

	mu           sync.Mutex
	subject      string
	organization string
	nonce        string
	scopes       []string
	resource     string
}

func (i *identities) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || r.URL.Path != "/token" || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	var members map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&members); err != nil {
		return nil, err
	}
	i.mu.Lock()
	claims, _ := json.Marshal(map[string]any{
		"iss": i.issuer.URL, "sub": i.subject, "aud": "web", "nonce": i.nonce, "email": i.subject + "@example.test",
		"exp": time.Now().Add(time.Minute).Unix(),
	})
	members["access_token"] = i.issuer.Mint(guardtest.Token{
		Resource: i.resource, Subject: i.subject, ClientID: "web", Organization: i.organization, Scopes: i.scopes,
		Claims: map[string]any{"organization_slug": i.organization + "-works"},
	})
	i.mu.Unlock()
	members["id_token"] = "e30." + base64.RawURLEncoding.EncodeToString(claims) + ".c2ln"
	body, _ := json.Marshal(members)
	resp.Body = io.NopCloser(strings.NewReader(string(body)))
	resp.ContentLength = int64(len(body))
	resp.Header.Del("Content-Length")
	return resp, nil
}

// person is a browser in which somebody is signed in.
type person struct {
	*http.Client
	t *testing.T
	s *okr
}

// signIn lets a member sign in on the page, with what they allow it.
func (s *okr) signIn(subject, organization string, scopes ...string) *person {
	s.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.t.Fatal(err)
	}
	p := &person{&http.Client{Jar: jar}, s.t, s}
	// At the issuer, the person says who they are and what they allow.
	p.CheckRedirect = func(r *http.Request, _ []*http.Request) error {
		if r.URL.Path != "/authorize" {
			return nil
		}
		q := r.URL.Query()
		s.identities.mu.Lock()
		s.identities.subject, s.identities.organization, s.identities.nonce = subject, organization, q.Get("nonce")
		s.identities.scopes, s.identities.resource = scopes, q.Get("resource")
		s.identities.mu.Unlock()
		q.Set("login_hint", subject)
		r.URL.RawQuery = q.Encode()
		return nil
	}
	if _, body := p.get("/login"); !strings.Contains(body, subject+"@example.test") {
		s.t.Fatalf("sign-in: %s", body)
	}
	return p
}

func (p *person) get(path string) (int, string) {
	p.t.Helper()
	resp, err := p.Get(p.s.URL + path)
	return p.read(resp, err)
}

// post sends a form as our own page does.
func (p *person) post(path string, form url.Values, site string) (int, string) {
	p.t.Helper()
	r, err := http.NewRequest(http.MethodPost, p.s.URL+path, strings.NewReader(form.Encode()))
	if err != nil {
		p.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", site)
	resp, err := p.Do(r)
	return p.read(resp, err)
}

func (p *person) read(resp *http.Response, err error) (int, string) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// control is a button of a page.
type control struct {
	text     string
	disabled bool
	reason   string // the text of what describes it
	opens    bool   // there is something for it to open
}

// controls parses a page and returns its buttons with a text, by it, and the
// targets of its forms.
func controls(t *testing.T, body string) (buttons map[string]control, actions []string) {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(body))
	d.Strict, d.AutoClose, d.Entity = false, xml.HTMLAutoClose, xml.HTMLEntity
	type element struct {
		attributes map[string]string
		text       strings.Builder
	}
	var open, found []*element
	byID := map[string]*element{}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page cannot be parsed: %v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{attributes: map[string]string{}}
			for _, a := range token.Attr {
				e.attributes[a.Name.Local] = a.Value
			}
			if id, ok := e.attributes["id"]; ok {
				if byID[id] != nil {
					t.Errorf("the id %q is there twice", id)
				}
				byID[id] = e
			}
			switch token.Name.Local {
			case "button":
				found = append(found, e)
			case "form":
				actions = append(actions, e.attributes["action"])
			}
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			for _, e := range open {
				e.text.Write(token)
			}
		}
	}
	buttons = map[string]control{}
	text := func(e *element) string { return strings.Join(strings.Fields(e.text.String()), " ") }
	for _, e := range found {
		c := control{text: text(e)}
		_, c.disabled = e.attributes["disabled"]
		if by := byID[e.attributes["aria-describedby"]]; by != nil {
			c.reason = text(by)
		}
		c.opens = byID[e.attributes["popovertarget"]] != nil
		if c.text != "" {
			buttons[c.text] = c
		}
	}
	return buttons, actions
}

// Nothing is hidden from who may not do it: it is greyed, with the reason as
// text, its form is not there, and the server refuses it.
func TestGreying(t *testing.T) {
	const okr, kr = "Grow", "20 customers"
	operations := map[string]string{
		"Add an objective":       addObjective,
		"Delete: " + okr:         deleteObjective,
		"Add a key result: Grow": addKeyResult,
		"Update: " + kr:          setKeyResultAttainment,
		"Delete: " + kr:          deleteKeyResult,
	}
	for role, may := range map[string][]string{
		"member":  {setKeyResultAttainment},
		"manager": {setKeyResultAttainment, addKeyResult, deleteKeyResult},
		"admin":   slices.Collect(maps.Values(operations)),
	} {
		t.Run(role, func(t *testing.T) {
			s := startOKR(t)
			empty(t, s.service, "acme")
			o := must[Objective](t)(s.service.AddObjective(t.Context(), by("acme"), okr))
			k := must[KeyResult](t)(s.service.AddKeyResult(t.Context(), by("acme"), o.ID, kr))
			ada := s.signIn("ada", "acme", s.grantable(role)...)
			_, body := ada.get("/")
			buttons, actions := controls(t, body)
			at := "/objectives/" + o.ID
			forms := map[string]string{
				addObjective:           "/objectives",
				deleteObjective:        at + "/delete",
				addKeyResult:           at + "/keyresults",
				setKeyResultAttainment: at + "/keyresults/" + k.ID + "/attainment",
				deleteKeyResult:        at + "/keyresults/" + k.ID + "/delete",
			}
			for text, operation := range operations {
				button, there := buttons[text]
				allowed := slices.Contains(may, operation)
				if !there || button.disabled == allowed || button.opens != allowed || slices.Contains(actions, forms[operation]) != allowed {
					t.Errorf("%s: there %v, %+v, forms %q; want it enabled: %v", text, there, button, actions, allowed)
				}
				if !allowed && !strings.HasSuffix(button.reason, "your role does not include it") {
					t.Errorf("%s is greyed for the reason %q", text, button.reason)
				}
				if allowed {
					continue
				}
				before := outline(t, s.service, "acme")
				form := url.Values{"objectiveText": {"x"}, "keyResultText": {"x"}, "attainment": {"5"}}
				if status, body := ada.post(forms[operation], form, "same-origin"); status != http.StatusForbidden || !strings.Contains(body, "your role does not include it") {
					t.Errorf("%s, all the same: %d %s", operation, status, body)
				}
				if diff := cmp.Diff(before, outline(t, s.service, "acme")); diff != "" {
					t.Errorf("%s changed:\n%s", operation, diff)
				}
			}
			if closed := strings.Contains(body, `id="closed"`); closed != (role != "admin") {
				t.Errorf("the page says that something is closed: %v", closed)
			}
		})
	}
}

func TestPage(t *testing.T) {
	s := startOKR(t)
	if resp, body := s.call("GET", "/", "", ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, `href="/login"`) || !strings.Contains(body, s.URL+"/mcp") {
		t.Errorf("signed out: %d %s", resp.StatusCode, body)
	}
	ada := s.signIn("ada", "acme", s.grantable("admin")...)
	_, body := ada.get("/")
	for _, want := range []string{
		"<h1 id=\"list\">Objectives of <bdi>acme-works</bdi></h1>", "O1", seeded[0],
		s.issuer.URL + "/organization", s.issuer.URL + "/connected-apps", `href="/switch"`,
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	empty(t, s.service, "acme")
	if _, body := ada.get("/"); !strings.Contains(body, "No objectives yet.") {
		t.Errorf("emptied: %s", body)
	}
	if status, body := ada.post("/objectives", url.Values{"objectiveText": {`<b>"Grow"`}}, "same-origin"); status != http.StatusOK || !strings.Contains(body, "&lt;b&gt;&#34;Grow&#34;") {
		t.Errorf("added: %d %s", status, body)
	}
	okr := must[[]Objective](t)(s.service.List(t.Context(), "acme"))[0]
	at := "/objectives/" + okr.ID
	if status, body := ada.post(at+"/keyresults", url.Values{"keyResultText": {"20 customers"}}, "same-origin"); status != http.StatusOK || !strings.Contains(body, "20 customers") {
		t.Errorf("added: %d %s", status, body)
	}
	kr := must[[]Objective](t)(s.service.List(t.Context(), "acme"))[0].KeyResults[0]
	krAt := at + "/keyresults/" + kr.ID
	for attainment, reached := range map[string]bool{"99": false, "100": true, " 7 ": false} {
		if status, body := ada.post(krAt+"/attainment", url.Values{"attainment": {attainment}}, "same-origin"); status != http.StatusOK ||
			!strings.Contains(body, strings.TrimSpace(attainment)+"%") || strings.Contains(body, `class="reached"`) != reached {
			t.Errorf("%s: %d %s", attainment, status, body)
		}
	}
	before := outline(t, s.service, "acme")
	for _, wrong := range []string{"101", "-1", "", "5.5", "x"} {
		status, body := ada.post(krAt+"/attainment", url.Values{"attainment": {wrong}}, "same-origin")
		if status != http.StatusUnprocessableEntity || !strings.Contains(body, `aria-describedby="again-wrong"`) || !strings.Contains(body, `value="`+wrong+`"`) ||
			!strings.Contains(body, "whole number from 0 to 100") || strings.Count(body, "20 customers") < 3 {
			t.Errorf("%s: %d %s", wrong, status, body)
		}
		controls(t, body)
	}
	if status, body := ada.post("/objectives", url.Values{"objectiveText": {strings.Repeat("x", 301)}}, "same-origin"); status != http.StatusUnprocessableEntity || !strings.Contains(body, strings.Repeat("x", 301)) {
		t.Errorf("too long: %d %s", status, body)
	}
	if status, _ := ada.post(krAt+"/delete", nil, "cross-site"); status != http.StatusForbidden {
		t.Errorf("form of another site: %d", status)
	}
	bob := s.signIn("bob", "rival", s.grantable("admin")...)
	for _, path := range []string{krAt + "/delete", at + "/delete", at + "/keyresults", krAt + "/attainment"} {
		form := url.Values{"keyResultText": {"x"}, "attainment": {"1"}}
		if status, body := bob.post(path, form, "same-origin"); status != http.StatusNotFound || !strings.Contains(body, "gone already") || strings.Contains(body, "20 customers") {
			t.Errorf("%s of another organization: %d %s", path, status, body)
		}
	}
	if diff := cmp.Diff(before, outline(t, s.service, "acme")); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
	for _, path := range []string{krAt + "/delete", at + "/delete"} {
		if status, body := ada.post(path, nil, "same-origin"); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
		if status, _ := ada.post(path, nil, "same-origin"); status != http.StatusNotFound {
			t.Errorf("%s again: %d", path, status)
		}
	}
	if len(must[[]Event](t)(s.service.Events(t.Context(), "acme"))) != 0 {
		t.Error("what a person does is listed as an agent's")
	}
	if status, body := ada.post("/logout", nil, "same-origin"); status != http.StatusOK || !strings.Contains(body, `href="/login"`) {
		t.Errorf("signed out: %d %s", status, body)
	}
}

// The page's cookie opens REST too, with the same rules; what it does there the
// person does.
func TestRESTByCookie(t *testing.T) {
	s := startOKR(t)
	employee := s.signIn("eve", "acme", s.grantable("member")...)
	if status, body := employee.get("/api/objectives"); status != http.StatusOK || !strings.Contains(body, seeded[0]) {
		t.Errorf("list: %d %s", status, body)
	}
	resp, err := employee.Post(s.URL+"/api/objectives", "application/json", strings.NewReader(`{"objectiveText":"x"}`))
	if status, body := employee.read(resp, err); status != http.StatusForbidden || !strings.Contains(body, `"insufficient_scope"`) {
		t.Errorf("add: %d %s", status, body)
	}
	ceo := s.signIn("ada", "acme", s.grantable("admin")...)
	resp, err = ceo.Post(s.URL+"/api/objectives", "application/json", strings.NewReader(`{"objectiveText":"x"}`))
	if status, body := ceo.read(resp, err); status != http.StatusCreated {
		t.Errorf("add: %d %s", status, body)
	}
	if events := must[[]Event](t)(s.service.Events(t.Context(), "acme")); len(events) != 0 {
		t.Errorf("a person is listed as an agent: %+v", events)
	}
}

func TestDoneByAgents(t *testing.T) {
	s := startOKR(t)
	ada := s.signIn("ada", "acme", s.grantable("admin")...)
	must[Objective](t)(s.service.AddObjective(t.Context(), Caller{"acme", "ada", "https://ünïcode.example.test/client.json"}, "<i>Grow"))
	must[Objective](t)(s.service.AddObjective(t.Context(), Caller{"acme", "eve", "client-live-1"}, "Shrink"))
	s.callTool(s.token("bob", "acme", readOKRs), deleteObjective, `{}`)
	s.signIn("bob", "acme", readOKRs)
	_, body := ada.get("/")
	body = regexp.MustCompile(`<[^>]+>`).ReplaceAllString(body, "")
	for _, want := range []string{
		"ünïcode.example.test for you added the objective &lt;i&gt;Grow",
		"A connected app for a colleague added the objective Shrink",
		"app.example.test for bob@example.test tried to delete an objective. Refused: it has no permission for that.",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(body, "client-live-1") {
		t.Error("the page repeats the name of an app that nobody vouches for")
	}
	if _, body := s.signIn("cy", "rival", readOKRs).get("/"); strings.Contains(body, "Shrink") || !strings.Contains(body, "Nothing yet.") {
		t.Errorf("another organization: %s", body)
	}
}

// The page says what is missing where there is no policy, no role that reads,
// or no organization.
func TestPageWithoutRights(t *testing.T) {
	s := startOKR(t)
	status, body := s.signIn("ada", "acme", manageKeyResults).get("/")
	if status != http.StatusOK || !strings.Contains(body, "Your role does not include reading objectives.") || strings.Contains(body, "No objectives yet") || strings.Contains(body, seeded[0]) {
		t.Errorf("a role that reads no objectives: %d %s", status, body)
	}
	status, body = s.signIn("ada", "", s.grantable("admin")...).get("/")
	if status != http.StatusForbidden || !strings.Contains(body, "you are signed in without one") || strings.Contains(body, seeded[0]) {
		t.Errorf("no organization: %d %s", status, body)
	}
	if status, body := s.signIn("ada", "", s.grantable("admin")...).post("/objectives", url.Values{"objectiveText": {"x"}}, "same-origin"); status != http.StatusForbidden {
		t.Errorf("no organization adds: %d %s", status, body)
	}
	s.issuer.SetPolicy(guardtest.Policy{Resources: map[string][]string{"other": {"read"}}})
	s.issuer.Advance(61 * time.Second)
	status, body = s.signIn("ada", "acme", "openid").get("/")
	if status != http.StatusOK || !strings.Contains(body, "postern policy apply -f examples/okr/policy.yaml") || strings.Contains(body, "No objectives yet") {
		t.Errorf("no policy: %d %s", status, body)
	}
}

// Switching signs in again, with a question.
func TestSwitchOrganization(t *testing.T) {
	s := startOKR(t)
	resp, _ := s.call("GET", "/switch", "", "")
	target, err := url.Parse(resp.Header.Get("Location"))
	if err != nil || resp.StatusCode != http.StatusSeeOther || target.Path != "/authorize" || target.Query().Get("prompt") != "select_account" || target.Query().Get("code_challenge") == "" {
		t.Errorf("%d %s, %v", resp.StatusCode, target, err)
	}
	resp, _ = s.call("GET", "/login", "", "")
	if strings.Contains(resp.Header.Get("Location"), "prompt") {
		t.Errorf("a usual sign-in asks: %s", resp.Header.Get("Location"))
	}
}

// Everything a page loads is its own file, and nothing in it needs an exception.
func TestContentPolicy(t *testing.T) {
	s := startOKR(t)
	ada := s.signIn("ada", "acme", s.grantable("manager")...)
	_, body := ada.get("/")
	for _, inline := range []string{`<style`, `style="`, `onclick`, `<script>`, `javascript:`} {
		if strings.Contains(body, inline) {
			t.Errorf("the page has %s", inline)
		}
	}
	for _, match := range regexp.MustCompile(`(?:src|href)="(/static/[^"]+)"`).FindAllStringSubmatch(body, -1) {
		if resp, _ := s.call("GET", match[1], "", ""); resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %d", match[1], resp.StatusCode)
		}
	}
	resp, _ := s.call("GET", "/", "", "")
	policy := resp.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || !strings.Contains(policy, "form-action 'self' "+s.issuer.URL+";") {
		t.Errorf("policy %q", policy)
	}
}

func TestAgo(t *testing.T) {
	var got []string
	for _, d := range []time.Duration{-time.Second, 59 * time.Second, time.Minute, 119 * time.Minute, 23 * time.Hour, 49 * time.Hour} {
		got = append(got, ago(d))
	}
	if want := "[now now 1 min 1 h 23 h 2 d]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

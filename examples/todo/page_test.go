package main

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// identities adds to the token endpoint's answers what guardtest does not
// make: id_tokens. A sign-in under way is for one person at a time.
type identities struct {
	mu      sync.Mutex
	issuer  string
	subject string
	nonce   string
	email   string
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
		"iss": i.issuer, "sub": i.subject, "aud": "web", "nonce": i.nonce, "email": i.email,
		"exp": time.Now().Add(time.Minute).Unix(),
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
	s *todo
}

// signIn lets a person sign in on the page, with what they allow it.
func (s *todo) signIn(subject string, scopes ...string) *person {
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
		s.identities.subject, s.identities.email, s.identities.nonce = subject, subject+"@example.test", q.Get("nonce")
		s.identities.mu.Unlock()
		q.Set("login_hint", subject)
		q.Set("scope", strings.Join(scopes, " "))
		r.URL.RawQuery = q.Encode()
		return nil
	}
	if status, body := p.get("/login"); status != http.StatusOK || !strings.Contains(body, subject+"@example.test") {
		s.t.Fatalf("sign-in: %d %s", status, body)
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

func TestPage(t *testing.T) {
	s := startTodo(t)
	if resp, body := s.call("GET", "/", "", ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, `href="/login"`) || !strings.Contains(body, s.URL+"/mcp") {
		t.Errorf("signed out: %d %s", resp.StatusCode, body)
	}
	ada := s.signIn("ada", readTodos, writeTodos)
	if status, body := ada.post("/todos", url.Values{"todoText": {`<b>"Water" the lemon tree`}}, "same-origin"); status != http.StatusOK || !strings.Contains(body, "&lt;b&gt;&#34;Water&#34; the lemon tree") || !strings.Contains(body, "1 open") {
		t.Errorf("added: %d %s", status, body)
	}
	todos, err := s.service.List(t.Context(), "ada")
	if err != nil || len(todos) != 1 || todos[0].AddedBy != "" {
		t.Fatalf("list %+v, %v; want one, added by the person", todos, err)
	}
	id := todos[0].ID
	if status, body := ada.post("/todos/"+id+"/complete", nil, "same-origin"); status != http.StatusOK || !strings.Contains(body, `class="done"`) || !strings.Contains(body, "0 open") {
		t.Errorf("completed: %d %s", status, body)
	}
	if status, body := ada.post("/todos/"+id+"/delete", nil, "same-origin"); status != http.StatusOK || strings.Contains(body, "lemon") {
		t.Errorf("deleted: %d %s", status, body)
	}
	for _, change := range []string{"complete", "delete"} {
		if status, body := ada.post("/todos/"+id+"/"+change, nil, "same-origin"); status != http.StatusNotFound || !strings.Contains(body, "gone already") {
			t.Errorf("%s of what is gone: %d %s", change, status, body)
		}
	}
	if status, body := ada.post("/todos", url.Values{"todoText": {strings.Repeat("x", 501)}}, "same-origin"); status != http.StatusUnprocessableEntity ||
		!strings.Contains(body, `aria-describedby="wrong"`) || !strings.Contains(body, strings.Repeat("x", 501)) {
		t.Errorf("too long: %d %s", status, body)
	}
	if status, _ := ada.post("/todos", url.Values{"todoText": {"from elsewhere"}}, "cross-site"); status != http.StatusForbidden || len(texts(t, s.service, "ada")) != 0 {
		t.Errorf("form of another site: %d", status)
	}

	hers := create(t, s.service, "ada", "hers")
	bob := s.signIn("bob", readTodos, writeTodos)
	if status, body := bob.post("/todos/"+hers.ID+"/delete", nil, "same-origin"); status != http.StatusNotFound || strings.Contains(body, "hers") {
		t.Errorf("another person's: %d %s", status, body)
	}
	if status, body := ada.post("/logout", nil, "same-origin"); status != http.StatusOK || !strings.Contains(body, `href="/login"`) || strings.Contains(body, "hers") {
		t.Errorf("signed out: %d %s", status, body)
	}
}

// The page, REST by cookie and a connected app see one list.
func TestOneList(t *testing.T) {
	s := startTodo(t)
	ada := s.signIn("ada", readTodos, writeTodos)
	var one struct{ Todo Todo }
	use(t, s.connect(t, "/mcp", s.token("ada", writeTodos)), "createTodo", map[string]any{"todoText": "by an agent"}, &one)
	resp, err := ada.Post(s.URL+"/api/todos", "application/json", strings.NewReader(`{"todoText":"by script"}`))
	if status, body := ada.read(resp, err); status != http.StatusCreated || strings.Contains(body, "addedBy") {
		t.Errorf("REST by cookie: %d %s", status, body)
	}
	status, body := ada.get("/")
	if status != http.StatusOK || !strings.Contains(body, "by script") || !strings.Contains(body, "by an agent") || !strings.Contains(body, "Added by <bdi>app.example.test</bdi>") {
		t.Errorf("page: %d %s", status, body)
	}
	if strings.Count(body, "Added by") != 1 {
		t.Error("what the person added is shown as an agent's")
	}
	if _, err := s.service.Create(t.Context(), "ada", "client-live-1", "by another"); err != nil {
		t.Fatal(err)
	}
	if _, body := ada.get("/"); !strings.Contains(body, "Added by a connected app") || strings.Contains(body, "client-live-1") {
		t.Errorf("an app that nobody vouches for: %s", body)
	}
}

// An app may have a host in any script; its first letter stands for it.
func TestHostInAnotherScript(t *testing.T) {
	s := startTodo(t)
	ada := s.signIn("ada", readTodos, writeTodos)
	if _, err := s.service.Create(t.Context(), "ada", "https://ünïcode.example.test/client.json", "x"); err != nil {
		t.Fatal(err)
	}
	if _, body := ada.get("/"); !strings.Contains(body, `<span class="arch" aria-hidden="true">ü</span>`) || !utf8.ValidString(body) {
		t.Errorf("page: %q", body)
	}
}

func TestPageWithFewerScopes(t *testing.T) {
	s := startTodo(t)
	create(t, s.service, "ada", "hers")
	reader := s.signIn("ada", readTodos)
	if status, body := reader.post("/todos", url.Values{"todoText": {"x"}}, "same-origin"); status != http.StatusForbidden || !strings.Contains(body, "did not allow this page to change") || !strings.Contains(body, "hers") {
		t.Errorf("a reader adds: %d %s", status, body)
	}
	resp, err := reader.Post(s.URL+"/api/todos", "application/json", strings.NewReader(`{"todoText":"x"}`))
	if status, body := reader.read(resp, err); status != http.StatusForbidden || !strings.Contains(body, `"insufficient_scope"`) {
		t.Errorf("a reader adds by REST: %d %s", status, body)
	}
	if got := texts(t, s.service, "ada"); len(got) != 1 {
		t.Errorf("the list is now %q", got)
	}
}

// Everything a page loads is its own file, and nothing in it needs an exception.
func TestContentPolicy(t *testing.T) {
	s := startTodo(t)
	ada := s.signIn("ada", readTodos, writeTodos)
	create(t, s.service, "ada", "hers")
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

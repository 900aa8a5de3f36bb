package websession_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
	"github.com/postern-id/postern/guard/websession"
)

const (
	read  = "read:todos"
	write = "write:todos"
)

// world is an issuer, a web application that uses it, and the wire between
// the two, on which a test can listen and lie.
type world struct {
	issuer   *guardtest.Issuer
	wire     *wire
	app      *httptest.Server
	sessions *websession.Sessions
}

// newWorld starts a web application with one route of each kind.
func newWorld(t *testing.T, change ...func(*websession.Config)) *world {
	t.Helper()
	w := &world{issuer: guardtest.New(t)}
	w.wire = &wire{issuer: w.issuer}
	mux := http.NewServeMux()
	w.app = httptest.NewServer(mux)
	t.Cleanup(w.app.Close)

	resource := w.app.URL + "/mcp"
	cfg := w.issuer.Config(resource, read, write)
	cfg.HTTPClient = &http.Client{Transport: w.wire}
	g, err := guard.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	sessionConfig := websession.Config{
		Guard:      g,
		Resource:   resource,
		URL:        w.app.URL,
		ClientID:   "web",
		Scopes:     []string{read, write},
		CookieName: "todo_session",
		HTTPClient: cfg.HTTPClient,
		Now:        w.issuer.Now,
	}
	for _, c := range change {
		c(&sessionConfig)
	}
	if w.sessions, err = websession.New(sessionConfig); err != nil {
		t.Fatal(err)
	}

	who := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		subject := "nobody"
		if p := guard.FromContext(r.Context()); p != nil {
			subject = p.Subject
		}
		person, _ := websession.FromContext(r.Context())
		io.WriteString(rw, subject+" "+person.Email)
	})
	mux.HandleFunc("GET "+websession.LoginPath, w.sessions.Login)
	mux.HandleFunc("GET "+websession.CallbackPath, w.sessions.Callback)
	mux.HandleFunc("POST "+websession.LogoutPath, w.sessions.Logout)
	mux.Handle("GET /{$}", w.sessions.Optional(who))
	mux.Handle("/page", w.sessions.Page(who))
	mux.Handle("GET /api", w.sessions.API(g.Require(guard.AllOf(read), who)))
	mux.Handle("GET /organization", w.sessions.API(g.Require(guard.Permission("todo", "read").In("organization-a"), who)))
	mux.Handle("POST /api", w.sessions.API(g.Require(guard.AllOf(write), who)))
	return w
}

// wire carries the application's requests to the issuer.
type wire struct {
	issuer *guardtest.Issuer

	mu sync.Mutex
	// metadata is written over the issuer's metadata.
	metadata map[string]any
	// idToken, when set, makes the claims of an id_token for each code.
	idToken func() map[string]any
	// extra is written over the token endpoint's answers.
	extra map[string]any
	// down makes the token endpoint unreachable, after slow; refuse makes it answer so.
	down   bool
	slow   time.Duration
	refuse *refusal

	redeemed, refreshed int
	auth                []string     // client authentication seen: Authorization or the body's client_id
	resources           []string     // resource parameters seen at the token endpoint
	revoked             []url.Values // bodies seen at the revocation endpoint
	refreshToken        string       // the newest one handed out
}

type refusal struct {
	status int
	code   string
}

func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var form url.Values
	if r.Method == http.MethodPost {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		form, _ = url.ParseQuery(string(body))
		r = r.Clone(r.Context())
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	switch {
	case strings.Contains(r.URL.Path, "/.well-known/"):
		return w.rewrite(r, w.metadata)
	case r.URL.Path == "/revoke":
		w.revoked = append(w.revoked, form)
		return reply(http.StatusOK, nil), nil
	case form.Has("grant_type"):
		if form.Get("grant_type") == "refresh_token" {
			w.refreshed++
		} else {
			w.redeemed++
		}
		w.auth = append(w.auth, r.Header.Get("Authorization")+form.Get("client_id"))
		w.resources = append(w.resources, form.Get("resource"))
		if w.down {
			w.issuer.Advance(w.slow)
			return nil, errors.New("connection refused")
		}
		if w.refuse != nil {
			return reply(w.refuse.status, map[string]any{"error": w.refuse.code}), nil
		}
		extra := w.extra
		if w.idToken != nil {
			extra = map[string]any{"id_token": unsigned(w.idToken())}
		}
		resp, err := w.rewrite(r, extra)
		return resp, err
	}
	return http.DefaultTransport.RoundTrip(r)
}

// rewrite passes a request on and writes some members over the JSON answer.
func (w *wire) rewrite(r *http.Request, extra map[string]any) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	var members map[string]any
	if err := json.NewDecoder(resp.Body).Decode(&members); err != nil {
		return nil, err
	}
	maps.Copy(members, extra)
	if token, ok := members["refresh_token"].(string); ok {
		w.refreshToken = token
	}
	return reply(http.StatusOK, members), nil
}

func reply(status int, members map[string]any) *http.Response {
	body, _ := json.Marshal(members)
	return &http.Response{
		StatusCode: status,
		Header:     http.Header{"Content-Type": {"application/json"}},
		Body:       io.NopCloser(bytes.NewReader(body)),
	}
}

// unsigned makes a JWT whose signature nobody looks at.
func unsigned(claims map[string]any) string {
	payload, _ := json.Marshal(claims)
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".c2ln"
}

// set changes the wire while the application may be using it.
func (w *wire) set(change func(*wire)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w)
}

// browser keeps cookies and follows no redirects by itself.
type browser struct {
	t    *testing.T
	http *http.Client
}

func newBrowser(t *testing.T) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, &http.Client{Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}}
}

// answer is a response, read to its end.
type answer struct {
	status   int
	header   http.Header
	location string
	body     string
}

func (b *browser) do(r *http.Request) answer {
	b.t.Helper()
	resp, err := b.http.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	location := ""
	if u, err := resp.Location(); err == nil {
		location = u.String()
	}
	return answer{resp.StatusCode, resp.Header, location, string(body)}
}

func (b *browser) get(address string) answer {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodGet, address, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.do(r)
}

// post sends a form, with headers in pairs.
func (b *browser) post(address, form string, headers ...string) answer {
	b.t.Helper()
	r, err := http.NewRequest(http.MethodPost, address, strings.NewReader(form))
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return b.do(r)
}

// session returns the value of the session's cookie, or "".
func (b *browser) session(w *world) string {
	u, _ := url.Parse(w.app.URL)
	for _, cookie := range b.http.Jar.Cookies(u) {
		if cookie.Name == "todo_session" {
			return cookie.Value
		}
	}
	return ""
}

// toIssuer starts a sign-in and returns the address at the issuer; subject is
// who will sign in there.
func (b *browser) toIssuer(w *world, path, subject string) *url.URL {
	b.t.Helper()
	login := b.get(w.app.URL + path)
	u, err := url.Parse(login.location)
	if err != nil || login.status != http.StatusSeeOther || !strings.HasPrefix(login.location, w.issuer.URL) {
		b.t.Fatalf("login answered %d to %q: %s", login.status, login.location, login.body)
	}
	q := u.Query()
	q.Set("login_hint", subject)
	u.RawQuery = q.Encode()
	return u
}

// fromIssuer lets the issuer answer and returns the address of the callback.
func (b *browser) fromIssuer(u *url.URL) *url.URL {
	b.t.Helper()
	answer := b.get(u.String())
	callback, err := url.Parse(answer.location)
	if err != nil || answer.location == "" {
		b.t.Fatalf("the issuer answered %d: %s", answer.status, answer.body)
	}
	return callback
}

// signIn goes all the way and returns where the browser ends.
func (b *browser) signIn(w *world, subject string) string {
	b.t.Helper()
	callback := b.fromIssuer(b.toIssuer(w, "/login", subject))
	end := b.get(callback.String())
	if end.status != http.StatusSeeOther || b.session(w) == "" {
		b.t.Fatalf("callback answered %d: %s", end.status, end.body)
	}
	return end.location
}

// idClaims are the claims of a right id_token that answers the request to the issuer.
func idClaims(w *world, request *url.URL, subject string) map[string]any {
	return map[string]any{
		"iss": w.issuer.URL, "sub": subject, "aud": "web", "email": subject + "@example.test",
		"nonce": request.Query().Get("nonce"), "exp": w.issuer.Now().Add(5 * time.Minute).Unix(),
	}
}

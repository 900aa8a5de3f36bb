package oauth_test

import (
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

// The names that the tests of the whole server share.
const (
	todo     = "https://todo.example.test/mcp"  // the default resource
	notes    = "https://notes.example.test/mcp" // another, of profile compatible
	callback = "https://client.example.test/cb" // of every client
	ida      = "ida@example.test"
)

// world is a whole server with two resource servers, clients of each kind and
// Ida, who is signed in. What every refusal must leave alone is checked by
// refuses.
type world struct {
	*servertest.Server
	db        *sql.DB
	browser   *servertest.Browser  // Ida's
	resources map[string][2]string // URI → id and secret of the resource server

	public, rival, basic, post oauth.Client
	keys                       map[string]string // client id → secret
}

// eachWorld runs a test on both databases.
func eachWorld(t *testing.T, test func(t *testing.T, w *world), settings ...func(*project.Settings)) {
	t.Helper()
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		for _, change := range settings {
			c.Settings = change
		}
		test(t, newWorld(t, c))
	})
}

func newWorld(t *testing.T, c servertest.Config) *world {
	t.Helper()
	db := rowsOf(t, &c)
	w := &world{Server: servertest.New(t, c), keys: map[string]string{}, resources: map[string][2]string{}}
	w.db = db()
	for _, r := range []struct {
		resource project.Resource
		scopes   []project.Scope
	}{
		{project.Resource{URI: todo, Name: "Todo", Default: true}, []project.Scope{
			{Name: "read:todos", Description: "Read your to-dos", ReadOnly: true},
			{Name: "write:todos", Description: "Change your to-dos"},
			{Name: "delete:todos", Description: "Delete your to-dos"},
		}},
		{project.Resource{URI: notes, Name: "Notes", Profile: project.Compatible}, []project.Scope{
			{Name: "read:notes", Description: "Read your notes", ReadOnly: true},
		}},
	} {
		for _, s := range r.scopes {
			r.resource.Scopes = append(r.resource.Scopes, s.Name)
		}
		w.Clock.Advance(time.Second) // resources are listed in the order in which they were added
		added, key, err := w.Projects.AddResource(t.Context(), w.Project, r.resource, r.scopes, true)
		if err != nil {
			t.Fatal(err)
		}
		w.resources[added.URI] = [2]string{added.ID, key.Text}
	}
	w.Follow(t)
	w.public = w.client(t, oauth.NewClient{Name: "Public", Type: oauth.ThirdPartyPublic})
	w.rival = w.client(t, oauth.NewClient{Name: "Rival", Type: oauth.ThirdPartyPublic})
	w.basic = w.client(t, oauth.NewClient{Name: "Basic", Type: oauth.ThirdParty, AuthMethod: "client_secret_basic"})
	w.post = w.client(t, oauth.NewClient{Name: "Post", Type: oauth.ThirdParty, AuthMethod: "client_secret_post"})
	w.browser = w.signedIn(t, ida)
	return w
}

// rowsOf prepares a server's configuration so that the returned function,
// called after the server was started, opens its database for reading.
func rowsOf(t *testing.T, c *servertest.Config) func() *sql.DB {
	t.Helper()
	open := func(driver, source string) *sql.DB {
		db, err := sql.Open(driver, source)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = db.Close() }) // only read from
		return db
	}
	if !c.Postgres {
		folders := filepath.Join(filepath.Dir(t.TempDir()), "*")
		return func() *sql.DB {
			found, err := filepath.Glob(filepath.Join(folders, "postern.db"))
			if err != nil || len(found) != 1 {
				t.Fatalf("databases of this test: %v, %v", found, err)
			}
			return open("sqlite", "file:"+found[0]+"?mode=ro&_pragma=busy_timeout(5000)")
		}
	}
	base, err := url.Parse(os.Getenv(servertest.PostgresVariable))
	if err != nil {
		t.Fatal(err)
	}
	if base.String() == "" {
		t.Skipf("%s is not set: this test needs a PostgreSQL server", servertest.PostgresVariable)
	}
	admin, name := open("pgx", base.String()), "world-"+rand.Text()
	named := *base
	query := named.Query()
	query.Set("application_name", name)
	named.RawQuery = query.Encode()
	t.Setenv(servertest.PostgresVariable, named.String())
	return func() *sql.DB {
		var database string
		err := admin.QueryRow("SELECT datname FROM pg_stat_activity WHERE application_name = $1 AND datname LIKE 'postern%' LIMIT 1", name).Scan(&database)
		if err != nil {
			t.Fatal(err)
		}
		mine := *base
		mine.Path = "/" + database
		return open("pgx", mine.String())
	}
}

// client registers a client at the callback, unless it names its own addresses.
func (w *world) client(t *testing.T, n oauth.NewClient) oauth.Client {
	t.Helper()
	if n.RedirectURIs == nil {
		n.RedirectURIs = []string{callback}
	}
	c, key := w.AddClient(t, n)
	w.keys[c.ID] = key
	return c
}

// self registers a client that registers itself, and returns its id.
func (w *world) self(t *testing.T, redirects ...string) string {
	t.Helper()
	body := `{"client_name":"Self","redirect_uris":["` + strings.Join(redirects, `","`) + `"],` +
		`"grant_types":["authorization_code","refresh_token"],"token_endpoint_auth_method":"none"}`
	a := w.send(t, http.MethodPost, oauth.PathRegister, http.Header{"Content-Type": {"application/json"}}, body)
	if a.code != http.StatusCreated {
		t.Fatalf("register: %d %s", a.code, a.body)
	}
	return a.json()["client_id"].(string)
}

// signedIn opens a browser in which a person has signed in.
func (w *world) signedIn(t *testing.T, email string) *servertest.Browser {
	t.Helper()
	b := w.Browser(t)
	b.SignIn(t, b.Get(t, "/login"), email)
	return b
}

func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// with sets or, where the value is "", takes out parameters: name, value, …
func with(v url.Values, pairs ...string) url.Values {
	v = maps.Clone(v)
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			v.Del(pairs[i])
		} else {
			v.Set(pairs[i], pairs[i+1])
		}
	}
	return v
}

// request is an authorization request that holds, with changes as in with.
func request(clientID string, changes ...string) url.Values {
	return with(url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {callback}, "scope": {"read:todos write:todos"},
		"state": {"state-of-the-client"}, "code_challenge": {challengeOf(rigVerifier)}, "code_challenge_method": {"S256"},
		"resource": {todo},
	}, changes...)
}

// code has Ida allow a request, and returns the code.
func (w *world) code(t *testing.T, request url.Values) string {
	t.Helper()
	answer := w.answer(t, w.browser, request)
	code := answer.Query().Get("code")
	if code == "" {
		t.Fatalf("no code in %s", answer)
	}
	return code
}

// answer sends a person through a request, allowing whatever is asked, and
// returns the address that the client is answered at.
func (w *world) answer(t *testing.T, b *servertest.Browser, request url.Values) *url.URL {
	t.Helper()
	page := b.Authorize(t, request)
	if page.Header.Get("Location") != "" || page.Header.Get("Refresh") != "" {
		return page.Answer(t)
	}
	return b.Allow(t, page)
}

// send makes one request without cookies.
func (w *world) send(t *testing.T, method, path string, header http.Header, body string) answer {
	t.Helper()
	a, err := w.try(t, method, path, header, body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// try is send for other goroutines than the test's.
func (w *world) try(t *testing.T, method, path string, header http.Header, body string) (answer, error) {
	w.Under(t)
	r, err := http.NewRequestWithContext(t.Context(), method, w.Issuer+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for name, values := range header {
		r.Header[name] = values
	}
	response, err := machines.Do(r)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{T: t, code: response.StatusCode, header: response.Header, body: string(text)}, err
}

// machines follows no redirect and keeps no cookie.
var machines = &http.Client{
	Timeout:       time.Minute,
	Transport:     &http.Transport{MaxIdleConnsPerHost: 100},
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
}

var isForm = http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}

// token sends a form to the token endpoint as a client that authenticates as it
// registered; the form may say otherwise.
func (w *world) token(t *testing.T, c oauth.Client, form url.Values) answer {
	t.Helper()
	header := isForm.Clone()
	form = maps.Clone(form)
	switch c.Metadata.TokenEndpointAuthMethod {
	case "client_secret_basic":
		header.Set("Authorization", basicAuth(c.ID, w.keys[c.ID]))
	case "client_secret_post":
		form.Set("client_id", c.ID)
		form.Set("client_secret", w.keys[c.ID])
	default:
		form.Set("client_id", c.ID)
	}
	return w.send(t, http.MethodPost, oauth.PathToken, header, form.Encode())
}

func basicAuth(id, secret string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(secret)))
}

// redeem is the form that exchanges a code, with changes as in with.
func redeem(code string, changes ...string) url.Values {
	return with(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {rigVerifier}, "redirect_uri": {callback}}, changes...)
}

// refresh is the form that exchanges a refresh token.
func refresh(token string, changes ...string) url.Values {
	return with(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}, changes...)
}

// issued is what a client got.
type issued struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
	Type    string `json:"token_type"`
	Expires int    `json:"expires_in"`
	Scope   string `json:"scope"`
}

// tokens takes a client through a whole authorization.
func (w *world) tokens(t *testing.T, c oauth.Client, changes ...string) issued {
	t.Helper()
	return got(t, w.token(t, c, redeem(w.code(t, request(c.ID, changes...)))))
}

// got reads tokens that were given.
func got(t *testing.T, a answer) issued {
	t.Helper()
	var i issued
	if err := json.Unmarshal([]byte(a.body), &i); err != nil || a.code != http.StatusOK {
		t.Fatalf("token: %d %s", a.code, a.body)
	}
	return i
}

// active asks the project's way whether a token lives.
func (w *world) active(t *testing.T, token string) bool {
	t.Helper()
	header := isForm.Clone()
	header.Set("Authorization", basicAuth(w.Project.ID, w.Secret))
	a := w.send(t, http.MethodPost, oauth.PathIntrospect, header, url.Values{"token": {token}}.Encode())
	if a.code != http.StatusOK {
		t.Fatalf("introspection: %d %s", a.code, a.body)
	}
	return a.json()["active"] == true
}

// events counts the audit rows by kind; refusals end with "!".
func (w *world) events(t *testing.T) map[string]int {
	t.Helper()
	return w.count(t, "SELECT kind || CASE WHEN refused THEN '!' ELSE '' END, count(*) FROM event WHERE project_id = $1 AND kind NOT LIKE 'key.%' GROUP BY 1")
}

// kept counts the rows that a refused request must not add to.
func (w *world) kept(t *testing.T) map[string]int {
	t.Helper()
	return w.count(t, `SELECT 'code', count(*) FROM code WHERE project_id = $1
		UNION ALL SELECT 'grant', count(*) FROM "grant" WHERE project_id = $1
		UNION ALL SELECT 'family', count(*) FROM family WHERE project_id = $1
		UNION ALL SELECT 'flow', count(*) FROM flow WHERE project_id = $1`)
}

func (w *world) count(t *testing.T, query string) map[string]int {
	t.Helper()
	rows, err := w.db.QueryContext(t.Context(), query, w.Project.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	counts := map[string]int{}
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			t.Fatal(err)
		}
		counts[name] = n
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return counts
}

// refuses runs an attack and then checks what holds for every refusal
// (security catalogue, 2.1): nothing was kept of it but one event of this kind
// ("" for none), and an honest client still gets its tokens.
func (w *world) refuses(t *testing.T, kind audit.Kind, attack func()) {
	t.Helper()
	kept, events := w.kept(t), w.events(t)
	attack()
	for table, n := range w.kept(t) { // a clean-up may have removed some meanwhile
		if n > kept[table] {
			t.Errorf("the refusal left rows in %s: %d, %d before", table, n, kept[table])
		}
	}
	switch kind {
	case "":
	case audit.CodeReused, audit.RefreshReused: // a theft is an event, its refusal none besides
		events[string(kind)]++
	default:
		events[string(kind)+"!"]++
	}
	if diff := cmp.Diff(events, w.events(t)); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if a := w.token(t, w.public, redeem(w.code(t, request(w.public.ID)))); a.code != http.StatusOK {
		t.Errorf("an honest client cannot finish any more: %d %s", a.code, a.body)
	}
}

var (
	// secrets are what no refusal and no log may hold.
	secretText = regexp.MustCompile(`pst_[a-z]+_[0-9A-Za-z]{70}|eyJ[\w-]+\.[\w-]+\.[\w-]*`)
	// insides are the signs of a server that talks about itself.
	insideText = regexp.MustCompile(`(?i)goroutine \d|\.go:\d|\bSELECT |\bINSERT |\bsql:|SQLSTATE|panic|no rows|internal/|/home/|postern\.db`)
	linkText   = regexp.MustCompile(`(?i)\b(?:href|action|src|content|formaction)="([^"]*)"`)
)

func innocent(t *testing.T, header http.Header, body string) {
	t.Helper()
	text := body
	for name, values := range header {
		text += "\n" + name + ": " + strings.Join(values, ", ")
	}
	if found := secretText.FindString(text); found != "" {
		t.Errorf("a refusal holds a secret: %.20s…", found)
	}
	if found := insideText.FindString(body); found != "" {
		t.Errorf("a refusal talks about the inside: %q in\n%s", found, body)
	}
	if found := header.Values("Set-Cookie"); len(found) > 0 {
		t.Errorf("a refusal sets cookies: %q", found)
	}
}

// refusedPage checks a refusal that is shown and sends nobody anywhere.
func refusedPage(t *testing.T, p servertest.Page, says ...string) {
	t.Helper()
	if p.Status != http.StatusBadRequest || !strings.HasPrefix(p.Header.Get("Content-Type"), "text/html") {
		t.Errorf("got %d %s, want a page with 400", p.Status, p.Header.Get("Content-Type"))
	}
	for name, want := range map[string]string{"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"} {
		if p.Header.Get(name) != want {
			t.Errorf("%s is %q, want %q", name, p.Header.Get(name), want)
		}
	}
	if !strings.Contains(p.Header.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
		t.Errorf("Content-Security-Policy is %q", p.Header.Get("Content-Security-Policy"))
	}
	for _, name := range []string{"Location", "Refresh"} {
		if to := p.Header.Get(name); to != "" {
			t.Errorf("%s leads to %s", name, to)
		}
	}
	for _, link := range linkText.FindAllStringSubmatch(p.Body, -1) {
		if strings.Contains(link[1], "evil") || strings.Contains(strings.ToLower(link[1]), "script:") {
			t.Errorf("the page links to %s", link[1])
		}
	}
	for _, text := range says {
		if !strings.Contains(p.Body, text) {
			t.Errorf("the page does not say %q:\n%s", text, p.Body)
		}
	}
	innocent(t, p.Header, p.Body)
}

// refusedAnswer checks a refusal that is sent to a client's redirect URI: by
// 303, with error, state and iss once each and no code.
func (w *world) refusedAnswer(t *testing.T, p servertest.Page, redirectURI, code string) {
	t.Helper()
	if p.Status != http.StatusSeeOther {
		t.Fatalf("got %d, want a redirect:\n%s", p.Status, p.Body)
	}
	w.carries(t, p.Answer(t), redirectURI, "error", code)
	innocent(t, p.Header, p.Body)
}

// carries checks an answer to a client: at its address, with this parameter,
// state and iss, once each.
func (w *world) carries(t *testing.T, to *url.URL, redirectURI, name, value string) {
	t.Helper()
	q := to.Query()
	address, _, _ := strings.Cut(to.String(), "?")
	if want, _, _ := strings.Cut(redirectURI, "?"); address != want || to.Fragment != "" {
		t.Errorf("the answer goes to %s, want %s", to, redirectURI)
	}
	for param, want := range map[string]string{name: value, "iss": w.Issuer, "state": "state-of-the-client"} {
		if len(q[param]) != 1 || q.Get(param) != want {
			t.Errorf("%s is %q, want %q once: %s", param, q[param], want, to)
		}
	}
	if text := q.Get("error_description"); text != "" && !plainText.MatchString(text) {
		t.Errorf("RFC 6749 §4.1.2.1 does not allow %q", text)
	}
	if name != "code" && q.Has("code") {
		t.Errorf("a refusal carries a code: %s", to)
	}
}

// refusedToken checks a refusal of a machine endpoint.
func refusedToken(t *testing.T, a answer, status int, code string) {
	t.Helper()
	a.refused(status, code)
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	if text, _ := a.json()["error_description"].(string); !plainText.MatchString(text) {
		t.Errorf("RFC 6749 §5.2 does not allow %q", text)
	}
	innocent(t, a.header, a.body)
}

// plainText is what an error_description may be.
var plainText = regexp.MustCompile(`^[\x20\x21\x23-\x5B\x5D-\x7E]+$`)

// unique is what differs between two equal pages: ids, form tokens, codes.
var unique = regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|name="csrf" value="[^"]*"|[0-9A-Z]{3}-[0-9A-Z]{3}-[0-9A-Z]{3}`)

// part decodes the header (0) or the claims (1) of a JWT.
func part(t *testing.T, token string, n int) map[string]any {
	t.Helper()
	pieces := strings.Split(token, ".")
	if len(pieces) != 3 {
		t.Fatalf("not a JWT: %.20s…", token)
	}
	raw, err := base64.RawURLEncoding.DecodeString(pieces[n])
	if err != nil {
		t.Fatal(err)
	}
	var v map[string]any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func claimsOf(t *testing.T, token string) map[string]any { t.Helper(); return part(t, token, 1) }

package login_test

import (
	"crypto/sha256"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
)

const (
	notes    = "https://notes.example.test/mcp"
	callback = "https://client.example.test/cb"
	loopback = "http://127.0.0.1/cb"
	verifier = "a-verifier-of-more-than-forty-three-characters-0123"
	ada      = "ada@example.test"
	bea      = "bea@example.test"
)

// world is a server with one resource, three scopes and a client of every way
// to be known.
type world struct {
	*servertest.Server
	t        *testing.T
	operator oauth.Client // pre-registered, public, https
	first    oauth.Client // the project's own, without consent page
	dynamic  string       // client_id of one that registered itself, loopback
	document *document    // a client known by its metadata document
}

func newWorld(t *testing.T, c servertest.Config) *world {
	t.Helper()
	d := newDocument(t)
	c.Dev = &server.Dev{Roots: d.roots}
	// Requests that a test makes come from a proxy, so that it can say who asks
	// and whether by https.
	c.Proxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("127.0.0.1/32")}
	w := &world{Server: servertest.New(t, c), t: t, document: d}
	w.AddResource(t, notes,
		project.Scope{Name: "read:notes", Description: "Read your notes", ReadOnly: true},
		project.Scope{Name: "write:notes", Description: "Add and edit notes"},
		project.Scope{Name: "delete:notes", Description: "Delete notes"})
	w.operator, _ = w.AddClient(t, oauth.NewClient{
		Name: "Notebook", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{callback, callback + "2"},
		PostLogoutRedirectURIs: []string{"https://client.example.test/bye", "cursor://notebook/bye"},
	})
	w.first, _ = w.AddClient(t, oauth.NewClient{Name: "Notes desktop", Type: oauth.FirstPartyPublic, RedirectURIs: []string{callback}, BypassConsent: true})
	w.dynamic = w.register(map[string]any{"client_name": "MCP Inspector", "redirect_uris": []string{loopback}})
	return w
}

// eachDatabase runs a test on a world on SQLite and one on PostgreSQL.
func eachDatabase(t *testing.T, test func(t *testing.T, w *world)) {
	t.Helper()
	servertest.Each(t, func(t *testing.T, c servertest.Config) { test(t, newWorld(t, c)) })
}

// on is the same world in a subtest.
func (w *world) on(t *testing.T) *world {
	other := *w
	other.t = t
	return &other
}

// register registers a client by RFC 7591 and returns its client_id.
func (w *world) register(metadata map[string]any) string {
	w.t.Helper()
	if metadata["grant_types"] == nil {
		metadata["grant_types"] = []string{"authorization_code", "refresh_token"}
	}
	metadata["token_endpoint_auth_method"] = "none"
	body, err := json.Marshal(metadata)
	if err != nil {
		w.t.Fatal(err)
	}
	var answer struct {
		ClientID string `json:"client_id"`
	}
	got := w.machine("/v1/oauth2/register", "application/json", string(body), &answer)
	if got != http.StatusCreated {
		w.t.Fatalf("register: %d", got)
	}
	return answer.ClientID
}

// machine posts to an endpoint of the protocol and decodes the answer.
func (w *world) machine(path, contentType, body string, into any) int {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodPost, w.Issuer+path, strings.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("Content-Type", contentType)
	w.Under(w.t)
	answer := httptest.NewRecorder()
	w.Handler().ServeHTTP(answer, r)
	if into != nil {
		if err := json.Unmarshal(answer.Body.Bytes(), into); err != nil {
			w.t.Fatalf("%s: %d %s", path, answer.Code, answer.Body)
		}
	}
	return answer.Code
}

// request is an authorization request of a client, with changes over it: pairs
// of name and value, "" for none.
func request(clientID, redirectURI string, change ...string) url.Values {
	sum := sha256.Sum256([]byte(verifier))
	q := url.Values{
		"response_type": {"code"}, "client_id": {clientID}, "redirect_uri": {redirectURI}, "resource": {notes},
		"scope": {"read:notes write:notes"}, "state": {"s t&ä"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(change); i += 2 {
		q.Set(change[i], change[i+1])
		if change[i+1] == "" {
			q.Del(change[i])
		}
	}
	return q
}

// tokens is a token response.
type tokens struct {
	Error        string
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	Scope        string
}

// redeem turns an answer into tokens.
func (w *world) redeem(clientID string, answer *url.URL) tokens {
	w.t.Helper()
	q := answer.Query()
	answer.RawQuery = ""
	var got tokens
	w.machine("/v1/oauth2/token", "application/x-www-form-urlencoded", url.Values{
		"grant_type": {"authorization_code"}, "code": {q.Get("code")}, "redirect_uri": {answer.String()},
		"client_id": {clientID}, "code_verifier": {verifier},
	}.Encode(), &got)
	return got
}

func (w *world) refresh(clientID string, held tokens) tokens {
	w.t.Helper()
	var got tokens
	w.machine("/v1/oauth2/token", "application/x-www-form-urlencoded", url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {held.RefreshToken}, "client_id": {clientID},
	}.Encode(), &got)
	return got
}

// active asks whether an access token is alive, as the project.
func (w *world) active(held tokens) bool {
	w.t.Helper()
	r := httptest.NewRequest(http.MethodPost, w.Issuer+"/v1/oauth2/introspect", strings.NewReader(url.Values{"token": {held.AccessToken}}.Encode()))
	r.RemoteAddr = "127.0.0.1:1"
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.SetBasicAuth(w.Project.ID, w.Secret)
	w.Under(w.t)
	answer := httptest.NewRecorder()
	w.Handler().ServeHTTP(answer, r)
	var got struct{ Active *bool }
	if err := json.Unmarshal(answer.Body.Bytes(), &got); err != nil || got.Active == nil {
		w.t.Fatalf("introspect: %d %s", answer.Code, answer.Body)
	}
	return *got.Active
}

// mailed waits for the nth mail to an address and returns its text and code.
func (w *world) mailed(to string, n int) (text, code string) {
	w.t.Helper()
	for range 1000 {
		var texts []string
		for _, m := range w.Mail.Mails() {
			if strings.EqualFold(m.To, to) {
				texts = append(texts, m.Text)
			}
		}
		if len(texts) >= n {
			slices.Reverse(texts)
			return texts[n-1], codeLine.FindString(texts[n-1])
		}
		time.Sleep(5 * time.Millisecond) // the queue sends beside the answer
	}
	w.t.Fatalf("mail %d to %s did not come", n, to)
	return "", ""
}

var codeLine = regexp.MustCompile(`\b\d{6}\b`)

// sent counts the mails to an address.
func (w *world) sent(to string) int {
	n := 0
	for _, m := range w.Mail.Mails() {
		if strings.EqualFold(m.To, to) {
			n++
		}
	}
	return n
}

// wrong is a code that is not code.
func wrong(code string) string {
	return fmt.Sprintf("%s%d", code[:5], (code[5]-'0'+1)%10)
}

// database opens the SQLite file of a world, to look and nothing else.
func (w *world) database() *sql.DB {
	w.t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.Dir(w.t.TempDir()), "*", "postern.db"))
	if err != nil || len(files) != 1 {
		w.t.Fatal(files, err)
	}
	db, err := sql.Open("sqlite", "file:"+files[0]+"?mode=ro")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = db.Close() })
	return db
}

// document is the metadata document of a client, on a host of its own.
type document struct {
	url   string
	roots *x509.CertPool
	asked atomic.Int64
	text  atomic.Pointer[string]
	logo  atomic.Pointer[[]byte] // at /logo.png
}

func newDocument(t *testing.T) *document {
	t.Helper()
	d := &document{roots: x509.NewCertPool()}
	host := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if logo := d.logo.Load(); logo != nil && r.URL.Path == "/logo.png" {
			_, _ = w.Write(*logo)
			return
		}
		d.asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(*d.text.Load()))
	}))
	t.Cleanup(host.Close)
	d.roots.AddCert(host.Certificate())
	d.url = host.URL + "/client.json"
	d.says("Claude", callback)
	return d
}

// says changes what the document says.
func (d *document) says(name string, redirectURIs ...string) {
	text, _ := json.Marshal(map[string]any{
		"client_id": d.url, "client_name": name, "redirect_uris": redirectURIs,
		"grant_types": []string{"authorization_code", "refresh_token"}, "token_endpoint_auth_method": "none",
	})
	s := string(text)
	d.text.Store(&s)
}

// browser is one person's browser at the server's handler, or somebody who
// only looks like one.
type browser struct {
	w       *world
	issuer  *url.URL
	peer    string // address of the client; loopback knows no flood limits
	agent   string
	cookies map[string]string
	given   []*http.Cookie // by the last answer
}

func (w *world) browser() *browser { return w.browserAt(w.Issuer) }

func (w *world) browserAt(issuer string) *browser {
	u, err := url.Parse(issuer)
	if err != nil {
		w.t.Fatal(err)
	}
	return &browser{w: w, issuer: u, peer: "127.0.0.1", cookies: map[string]string{}}
}

// page is what a browser shows.
type page struct {
	status int
	at     string // path and query
	header http.Header
	body   string
}

// send sends one request as it is; headers are pairs over those of a browser, ""
// for none. It keeps cookies and follows nothing.
func (b *browser) send(method, address, body string, headers ...string) page {
	b.w.t.Helper()
	r := httptest.NewRequest(method, b.issuer.String()+address, strings.NewReader(body))
	r.TLS = nil
	r.RemoteAddr = "192.0.2.1:1"
	if b.peer == "127.0.0.1" { // a proxy on the computer itself, which has no limits
		r.RemoteAddr = "127.0.0.1:1"
	}
	r.Header.Set("X-Forwarded-For", b.peer)
	r.Header.Set("X-Forwarded-Proto", b.issuer.Scheme)
	r.Header.Set("User-Agent", "Mozilla/5.0 "+b.agent)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", b.issuer.String())
	}
	for _, name := range slices.Sorted(maps.Keys(b.cookies)) {
		r.AddCookie(&http.Cookie{Name: name, Value: b.cookies[name]})
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i+1] == "" {
			r.Header.Del(headers[i])
		}
	}
	b.w.Under(b.w.t)
	answer := httptest.NewRecorder()
	b.w.Handler().ServeHTTP(answer, r)
	result := answer.Result()
	b.given = result.Cookies()
	for _, c := range b.given {
		if b.cookies[c.Name] = c.Value; c.MaxAge < 0 {
			delete(b.cookies, c.Name)
		}
	}
	return page{answer.Code, address, result.Header, answer.Body.String()}
}

// follow goes where redirects lead inside the issuer.
func (b *browser) follow(p page) page {
	b.w.t.Helper()
	for range 5 {
		to := p.header.Get("Location")
		if to == "" || !strings.HasPrefix(to, "/") {
			return p
		}
		p = b.send(http.MethodGet, to, "")
	}
	b.w.t.Fatalf("redirects do not end at %s", p.at)
	return p
}

func (b *browser) get(address string) page {
	b.w.t.Helper()
	return b.follow(b.send(http.MethodGet, address, ""))
}

func (b *browser) authorize(q url.Values) page {
	b.w.t.Helper()
	return b.get("/oauth/authorize?" + q.Encode())
}

var (
	formTag   = regexp.MustCompile(`(?s)<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>`)
	hiddenTag = regexp.MustCompile(`<input type="hidden" name="([^"]*)" value="([^"]*)">`)
	boxTag    = regexp.MustCompile(`<input type="checkbox" name="allow" value="([^"]*)"[^>]*?( disabled)?( checked)?>`)
	linkTag   = regexp.MustCompile(`(?s)<a[^>]* href="([^"]*)"[^>]*>(.*?)</a>`)
	tag       = regexp.MustCompile(`<[^>]*>`)
	blank     = regexp.MustCompile(`\s+`)
	grantTag  = regexp.MustCompile(`name="grant" value="([^"]*)"`)
)

// text is what a person reads.
func (p page) text() string {
	body := p.body
	if i := strings.Index(body, "<main"); i >= 0 {
		body = body[i:]
	}
	words := blank.ReplaceAllString(html.UnescapeString(tag.ReplaceAllString(body, " ")), " ")
	return strings.NewReplacer(" .", ".", " ,", ",").Replace(words)
}

// link is the address of the link or button with these words, "" without one.
func (p page) link(words string) string {
	for _, a := range linkTag.FindAllStringSubmatch(p.body, -1) {
		if strings.TrimSpace(tag.ReplaceAllString(a[2], "")) == words {
			return html.UnescapeString(a[1])
		}
	}
	return ""
}

// form is the action and the hidden fields of a page's first form.
func (b *browser) form(p page) (action string, hidden url.Values) {
	b.w.t.Helper()
	f := formTag.FindStringSubmatch(p.body)
	if f == nil {
		b.w.t.Fatalf("%s (%d) has no form: %s", p.at, p.status, p.text())
	}
	return html.UnescapeString(f[1]), hiddenIn(f[2])
}

func hiddenIn(form string) url.Values {
	hidden := url.Values{}
	for _, field := range hiddenTag.FindAllStringSubmatch(form, -1) {
		hidden.Add(field[1], html.UnescapeString(field[2]))
	}
	return hidden
}

// submit sends a page's first form with these fields, pairs of name and value,
// and returns the answer before any redirect.
func (b *browser) submit(p page, fields ...string) page {
	b.w.t.Helper()
	action, hidden := b.form(p)
	return b.send(http.MethodPost, action, fill(hidden, fields...))
}

// fill is the body of a form with these fields besides the hidden ones.
func fill(hidden url.Values, fields ...string) string {
	form := maps.Clone(hidden)
	for i := 0; i < len(fields); i += 2 {
		form[fields[i]] = append(slices.Clone(form[fields[i]]), fields[i+1])
	}
	return form.Encode()
}

// signIn types an address and its code, and returns the page after it.
func (b *browser) signIn(p page, email string) page {
	b.w.t.Helper()
	b.w.Clock.Advance(13 * time.Minute) // five mails an hour, and a flow lives for 15 minutes
	n := b.w.sent(email)
	p = b.follow(b.submit(p, "email", email))
	_, code := b.w.mailed(email, n+1)
	p = b.submit(p, "code", code)
	if p.status != http.StatusSeeOther {
		b.w.t.Fatalf("the code was not taken: %d %s", p.status, p.text())
	}
	return b.follow(p)
}

// signedIn is a new browser in which somebody signed in.
func (w *world) signedIn(email string) *browser {
	w.t.Helper()
	b := w.browser()
	b.signIn(b.get("/login"), email)
	return b
}

// boxes are the scopes of a consent page, and those that are ticked.
func (p page) boxes() (all, ticked []string) {
	for _, box := range boxTag.FindAllStringSubmatch(p.body, -1) {
		all = append(all, html.UnescapeString(box[1]))
		if box[3] != "" {
			ticked = append(ticked, html.UnescapeString(box[1]))
		}
	}
	return all, ticked
}

// allow presses Allow on a consent page with these boxes ticked, or as they are.
func (b *browser) allow(p page, scopes ...string) page {
	b.w.t.Helper()
	if scopes == nil {
		_, scopes = p.boxes()
	}
	fields := []string{"action", "allow"}
	for _, s := range scopes {
		fields = append(fields, "allow", s)
	}
	return b.submit(p, fields...)
}

// answer is where the answer to the client goes, nil when the page carries none.
func (p page) answer() *url.URL {
	to := p.header.Get("Location")
	if _, after, ok := strings.Cut(p.header.Get("Refresh"), "url="); ok {
		to = after
	}
	if to == "" || strings.HasPrefix(to, "/") {
		return nil
	}
	u, err := url.Parse(to)
	if err != nil {
		return nil
	}
	return u
}

// connect lets a client in as somebody and returns the client's tokens. Without
// scopes it allows what is ticked.
func (b *browser) connect(clientID, redirectURI string, change ...string) tokens {
	b.w.t.Helper()
	p := b.authorize(request(clientID, redirectURI, change...))
	if p.answer() == nil {
		p = b.allow(p)
	}
	if p.answer() == nil {
		b.w.t.Fatalf("no answer: %d %s", p.status, p.text())
	}
	got := b.w.redeem(clientID, p.answer())
	if got.Error != "" || got.AccessToken == "" {
		b.w.t.Fatalf("redeem: %+v", got)
	}
	return got
}

// wantText fails where a page has another status, or lacks one of the texts.
func wantText(t *testing.T, p page, status int, texts ...string) {
	t.Helper()
	at := p.at[:min(len(p.at), 100)]
	if p.status != status {
		t.Errorf("%s: %d, want %d: %s", at, p.status, status, p.text())
	}
	for _, text := range texts {
		if !strings.Contains(p.text(), text) {
			t.Errorf("%s: no %q in: %s", at, text, p.text())
		}
	}
}

func wantScopes(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("scopes %q, want %q", got, want)
	}
}

func configOf(settings func(*project.Settings)) servertest.Config {
	return servertest.Config{Settings: settings}
}

// oauthClient is a client that an operator adds.
func oauthClient(name string) oauth.NewClient {
	return oauth.NewClient{Name: name, Type: oauth.ThirdPartyPublic, RedirectURIs: []string{callback}}
}

// deactivate shuts a person out.
func deactivate(t *testing.T, w *world, email string) {
	t.Helper()
	users, err := w.People.Users(t.Context(), w.Project.ID, email, "", 1)
	if err != nil || len(users) != 1 {
		t.Fatalf("%v, %v", users, err)
	}
	if _, err := w.People.SetActive(t.Context(), users[0], false, audit.Event{ProjectID: w.Project.ID, At: w.Clock.Now()}); err != nil {
		t.Fatal(err)
	}
}

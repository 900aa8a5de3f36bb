package oauth_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
)

// The names that the tests of the machine endpoints share.
const (
	rigIssuer   = "https://auth.example.test"
	rigNotes    = "https://notes.example.test/mcp" // a resource of profile rfc9068
	rigFiles    = "https://files.example.test/mcp" // one of profile compatible
	rigCallback = "https://client.example.test/callback"
	rigAddress  = "192.0.2.7"
	rigSubject  = "user-test-ada"
	rigVerifier = "a-verifier-of-more-than-forty-three-characters-0123"
)

// rig is one project with its protocol server, on a store of its own and a
// clock that only the test moves.
type rig struct {
	*testing.T
	server  *oauth.Server
	store   rigStore
	at      store.Config
	project *project.Project
	clock   *rigClock
	people  *rigPeople
	fetch   *http.Client // what the server reads documents with
	copies  fs.FS        // stored copies of documents, nil for none
	keys    map[string]secret.Secret
	signing signing.Store
}

type rigClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *rigClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *rigClock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// rigPeople answers for the people of the project: one person, whom a test may
// lock or, in a project of organizations, take scopes from.
type rigPeople struct {
	locked bool
	lost   []string
}

func (p *rigPeople) Narrow(_ context.Context, _ *project.Project, subject, _, _ string, _ bool, scopes []string) ([]string, bool, error) {
	var kept []string
	for _, s := range scopes {
		if !strings.Contains(" "+strings.Join(p.lost, " ")+" ", " "+s+" ") {
			kept = append(kept, s)
		}
	}
	return kept, subject == rigSubject && !p.locked, nil
}

func (p *rigPeople) Claims(_ context.Context, _, subject, _ string, scopes []string) (map[string]any, bool, error) {
	claims := map[string]any{}
	for _, s := range scopes {
		if s == "email" {
			claims["email"], claims["email_verified"] = "ada@example.test", true
		}
	}
	return claims, subject == rigSubject && !p.locked, nil
}

var errBroken = errors.New("store: SELECT hash FROM code: sql: database is closed")

// on returns the same rig with its server on another store.
func (r *rig) on(store oauth.Store) *rig {
	r.Helper()
	other := *r
	other.server = r.serve(store)
	return &other
}

// brokenStore can find clients and nothing else.

type brokenStore struct{ oauth.Store }

// guessedStore stands for a refresh token whose random part somebody guessed
// wrong: its row is there, with other hashes.
type guessedStore struct{ oauth.Store }

func (g guessedStore) Family(ctx context.Context, projectID, id string) (oauth.Family, oauth.Client, error) {
	family, client, err := g.Store.Family(ctx, projectID, id)
	family.Refresh.Hash, family.Refresh.Series = make([]byte, sha256.Size), make([]byte, sha256.Size)
	return family, client, err
}

func (brokenStore) Family(context.Context, string, string) (oauth.Family, oauth.Client, error) {
	return oauth.Family{}, oauth.Client{}, errBroken
}

func (brokenStore) RevokeToken(context.Context, string, string, time.Time, audit.Event) error {
	return errBroken
}

func (brokenStore) Live(context.Context, string, string, string) (oauth.Live, error) {
	return oauth.Live{}, errBroken
}

// newRig returns a rig whose project edit may change.
func newRig(t *testing.T, edit ...func(p *project.Project)) *rig {
	t.Helper()
	return makeRig(t, store.Config{Path: filepath.Join(t.TempDir(), "postern.db")}, edit)
}

// rigMaker is newRig, on one of the databases.
type rigMaker func(t *testing.T, edit ...func(p *project.Project)) *rig

// eachRig runs a test of rigs on both databases.
func eachRig(t *testing.T, test func(t *testing.T, newRig rigMaker)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, newRig) })
	t.Run("postgres", func(t *testing.T) {
		test(t, func(t *testing.T, edit ...func(p *project.Project)) *rig {
			t.Helper()
			return makeRig(t, store.Config{URL: servertest.NewDatabase(t)}, edit)
		})
	})
}

func makeRig(t *testing.T, database store.Config, edit []func(p *project.Project)) *rig {
	t.Helper()
	r := &rig{
		T: t, clock: &rigClock{now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)},
		people: &rigPeople{}, keys: map[string]secret.Secret{}, signing: rigKeys(t),
	}
	for _, k := range []struct {
		name string
		kind secret.Kind
	}{{"project", secret.ProjectSecret}, {"notes", secret.ResourceServer}, {"files", secret.ResourceServer}} {
		r.keys[k.name] = secret.New(k.kind, r.clock.Now())
	}
	resource := func(name, uri string, profile project.TokenProfile) project.Resource {
		key := r.keys[name]
		return project.Resource{
			ID: "resource-server-test-" + name, URI: uri, Name: name, Scopes: []string{"read:notes", "write:notes"},
			Profile: profile, SecretID: key.ID, SecretHash: key.Hash[:], CreatedAt: r.clock.Now(),
		}
	}
	key := r.keys["project"]
	r.project = &project.Project{
		ID: "project-test-00000000-0000-7000-8000-000000000001", Name: "Notes", Issuer: rigIssuer,
		Vertical: project.Consumer, Environment: project.Test, PublicToken: "public-token-test-1",
		SecretID: key.ID, SecretHash: key.Hash[:], Settings: project.Defaults(),
		Resources: []project.Resource{resource("notes", rigNotes, project.RFC9068), resource("files", rigFiles, project.Compatible)},
		Scopes: []project.Scope{
			{Name: "read:notes", Description: "Read your notes", ReadOnly: true},
			{Name: "write:notes", Description: "Change your notes"},
		},
		CreatedAt: r.clock.Now(),
	}
	for _, f := range edit {
		f(r.project)
	}
	database.Now = r.clock.Now
	r.at, r.store = database, openRigStore(t, r.project, database)
	r.server = r.serve(r.store)
	return r
}

// signingKeys are the project's.
func (r *rig) signingKeys() *signing.Keys {
	r.Helper()
	keys, err := signing.New(signing.Config{Store: r.signing, Sealer: rigSealer(r.T), Now: r.clock.Now, MaxTokenLife: time.Hour})
	if err != nil {
		r.Fatal(err)
	}
	return keys
}

// sign makes a JWT that the project never issues.
func (r *rig) sign(claims map[string]any) string {
	r.Helper()
	ring, err := r.signingKeys().Ring(r.Context(), r.project.ID)
	if err != nil {
		r.Fatal(err)
	}
	token, err := ring.Sign(signing.RS256, "JWT", claims)
	if err != nil {
		r.Fatal(err)
	}
	return token
}

// serve starts the protocol's server on a store.
func (r *rig) serve(store oauth.Store) *oauth.Server {
	r.Helper()
	server, err := oauth.New(oauth.Config{
		Store: store, Subjects: r.people, Keys: r.signingKeys(), Now: r.clock.Now,
		Fetch:   func(*project.Project) *http.Client { return r.fetch },
		Address: func(req *http.Request) string { return req.RemoteAddr },
		Trace:   func(context.Context) string { return "K7Q-2MX-9RD" },
		Note:    func(context.Context, ...slog.Attr) {},
		Copies:  r.copies,
	})
	if err != nil {
		r.Fatal(err)
	}
	return server
}

// rigKeyRows are signing keys made once, for an RSA key takes a while.
type rigKeyRows struct {
	mu   sync.Mutex
	rows []signing.Key
}

func (k *rigKeyRows) Keys(context.Context, string) ([]signing.Key, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]signing.Key(nil), k.rows...), nil
}

func (k *rigKeyRows) AddKey(_ context.Context, row signing.Key, _ time.Time, _ audit.Event) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rows = append(k.rows, row)
	return nil
}

func (k *rigKeyRows) RemoveKey(context.Context, string, string, *signing.Key, time.Time, audit.Event) error {
	return signing.ErrNotFound
}

func rigSealer(t *testing.T) *signing.Sealer {
	t.Helper()
	sealer, err := signing.NewSealer(sha256.Sum256([]byte("a master key of tests")))
	if err != nil {
		t.Fatal(err)
	}
	return sealer
}

var madeRigKeys struct {
	sync.Once
	rigKeyRows
}

func rigKeys(t *testing.T) signing.Store {
	t.Helper()
	madeRigKeys.Do(func() {
		keys, err := signing.New(signing.Config{
			Store: &madeRigKeys.rigKeyRows, Sealer: rigSealer(t), MaxTokenLife: time.Hour,
			Now: func() time.Time { return time.Date(2026, 11, 20, 11, 0, 0, 0, time.UTC) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, alg := range signing.Algorithms() {
			if err := keys.Ensure(t.Context(), "project-test-00000000-0000-7000-8000-000000000001", alg); err != nil {
				t.Fatal(err)
			}
		}
	})
	return &madeRigKeys.rigKeyRows
}

// answer is what a machine endpoint said.
type answer struct {
	*testing.T
	code   int
	header http.Header
	body   string
}

// json reads the body.
func (a answer) json() map[string]any {
	a.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		a.Fatalf("body %q: %v", a.body, err)
	}
	return v
}

// refused checks status and error code, and that nobody may keep the answer.
func (a answer) refused(status int, code string) {
	a.Helper()
	if a.code != status || a.json()["error"] != code {
		a.Fatalf("got %d %s, want %d %s", a.code, a.body, status, code)
	}
	if a.json()["error_description"] == "" {
		a.Errorf("no description: %s", a.body)
	}
	if got := a.header.Get("Cache-Control"); got != "no-store" {
		a.Errorf("Cache-Control %q, want no-store", got)
	}
}

type handler func(w http.ResponseWriter, r *http.Request) error

// send gives a request to a handler of the server, inside the rig's project.
func (r *rig) send(h handler, req *http.Request) answer {
	r.Helper()
	if req.RemoteAddr == "192.0.2.1:1234" { // httptest's
		req.RemoteAddr = rigAddress
	}
	w := httptest.NewRecorder()
	servertest.Watch(r.T, r.server.Handle(h)).ServeHTTP(w, req.WithContext(project.NewContext(r.Context(), r.project)))
	return answer{T: r.T, code: w.Code, header: w.Header(), body: w.Body.String()}
}

// post sends a form, with Basic credentials when id is not "".
func (r *rig) post(h handler, id, password string, form url.Values) answer {
	r.Helper()
	req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		req.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(password))
	}
	return r.send(h, req)
}

// client registers a client by the method ("none" or a secret one) and returns
// it with its secret.
func (r *rig) client(method string) (oauth.Client, string) {
	r.Helper()
	kind, auth := oauth.ThirdPartyPublic, ""
	if method != "none" {
		kind, auth = oauth.ThirdParty, method
	}
	c, key, err := oauth.NewSetup(r.store, r.clock.Now).CreateClient(r.Context(), r.project, oauth.NewClient{
		Name: "Notebook", Type: kind, AuthMethod: auth, RedirectURIs: []string{rigCallback},
		PostLogoutRedirectURIs: []string{"https://client.example.test/bye"},
	})
	if err != nil {
		r.Fatal(err)
	}
	if key == nil {
		return c, ""
	}
	return c, key.Text
}

// request is an authorization request of a client that holds.
func (r *rig) request(clientID, resource string, scopes ...string) oauth.AuthorizeRequest {
	sum := sha256.Sum256([]byte(rigVerifier))
	return oauth.AuthorizeRequest{
		ClientID: clientID, RedirectURI: rigCallback, ResponseType: "code", Scope: strings.Join(scopes, " "),
		CodeChallenge: base64.RawURLEncoding.EncodeToString(sum[:]), CodeChallengeMethod: "S256", Resources: []string{resource}, MaxAge: -1,
	}
}

func (r *rig) person() oauth.Person {
	who := oauth.Person{Subject: rigSubject, SessionID: "session-test-1", AuthTime: r.clock.Now()}
	if r.project.Vertical == project.B2B {
		who.Organization = "organization-test-fennel"
	}
	return who
}

// members makes a rig's person a member of an organization, who can lose scopes.
func members(p *project.Project) { p.Vertical = project.B2B }

// tokens are what a client got.
type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	ID      string `json:"id_token"`
}

// authorize takes a client through a whole authorization, everything allowed.
func (r *rig) authorize(c oauth.Client, key, resource string, scopes ...string) tokens {
	r.Helper()
	ctx := r.Context()
	pending, err := r.server.Begin(ctx, r.project, r.request(c.PublicID(), resource, scopes...), true)
	if err != nil {
		r.Fatal(err)
	}
	consent, err := r.server.Consent(ctx, r.project, pending, r.person())
	if err != nil {
		r.Fatal(err)
	}
	given, err := r.server.Allow(ctx, r.project, "", pending, r.person(), consent, scopes)
	if err != nil {
		r.Fatal(err)
	}
	target, err := url.Parse(given.URL())
	if err != nil {
		r.Fatal(err)
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {target.Query().Get("code")}, "code_verifier": {rigVerifier},
		"redirect_uri": {rigCallback},
	}
	id := ""
	if key == "" {
		form.Set("client_id", c.PublicID())
	} else {
		id = c.ID
	}
	a := r.post(r.server.Token, id, key, form)
	var got tokens
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.code != http.StatusOK {
		r.Fatalf("token: %d %s", a.code, a.body)
	}
	return got
}

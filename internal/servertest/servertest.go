// Package servertest is the whole server inside a test: a fresh store, a clock
// that the test sets, caught mail, a real listener on this computer.
//
// New starts a Server with one project, whose issuer is the listener's address.
// Browser walks its pages as a person does: it keeps cookies, follows redirects
// inside the issuer, fills in forms, reads codes from the caught mail. Clock is
// the only time the server knows.
//
// The package decides nothing; what it shows is what a client would see.
package servertest

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/store"
	"github.com/postern-id/postern/internal/web"
)

// PostgresVariable names the environment variable with the URL of a PostgreSQL
// server on which tests may create databases.
const PostgresVariable = "POSTERN_TEST_POSTGRES"

// Config changes what New starts. The zero Config is a consumer project with
// Postern's defaults on SQLite.
type Config struct {
	Postgres bool                    // a database of its own on PostgreSQL; skips the test where there is none
	Settings func(*project.Settings) // changes the project's settings
	Vertical project.Vertical        // "" is consumer
	Proxies  []netip.Prefix
	Dev      *server.Dev
	Poll     time.Duration // as in server.Config
	Timeouts web.Timeouts  // as in server.Config
	Empty    bool          // no project yet
	Path     string        // of the issuer, such as /tenant1
	Beside   *Server       // another server on PostgreSQL, whose database and clock this one shares
	After    *Server       // a server that was stopped, whose address, data, clock and mails this one goes on with

	node bool // the second server of one whose tests ask for two
}

// Server is a running server.
type Server struct {
	*server.Server
	Issuer   string // http://localhost:<port>, with Config.Path
	Address  string // http://localhost:<port> of this server, which differs from the issuer's with Config.Beside
	Project  *project.Project
	Secret   string // the project's
	Projects *project.Setup
	Clients  *oauth.Setup
	People   *identity.People
	Store    *store.DB
	Storage  *server.Storage
	Mail     *mail.Recorder
	Clock    *Clock
	Log      *Log
	data     server.Data
	keys     *keys
	read     sync.Map // address in lower case -> number of the newest mail whose code was asked for
	stop     func()

	test         testing.TB // that began it
	config       Config
	node         bool
	watch        *watch // nil in benchmarks, and of the second server of a test
	rows         rows
	destinations sync.Map // addresses that answers may lead to
	stopped      atomic.Bool
}

// Each runs a test on both databases.
func Each(t *testing.T, test func(t *testing.T, c Config)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, Config{}) })
	t.Run("postgres", func(t *testing.T) { test(t, Config{Postgres: true}) })
}

// New starts a server that ends with the test.
func New(t testing.TB, c Config) *Server {
	t.Helper()
	ctx := context.Background() // Cleanup ends it, after the test's own context
	clock := NewClock()
	address := "127.0.0.1:0"
	if c.Beside != nil {
		clock = c.Beside.Clock
	}
	if c.After != nil {
		clock = c.After.Clock
		address = strings.Replace(strings.TrimPrefix(c.After.Address, "http://"), "localhost", "127.0.0.1", 1)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		test: t, config: c, node: c.node,
		Address: fmt.Sprintf("http://localhost:%d", listener.Addr().(*net.TCPAddr).Port),
		Clock:   clock, keys: &keys{}, Log: &Log{}, Mail: mail.NewRecorder(1000, clock.Now),
	}
	s.Issuer = s.Address + c.Path
	s.data = server.Data{Folder: t.TempDir(), Now: clock.Now}
	switch {
	case c.After != nil:
		s.data, s.keys, s.Mail = c.After.data, c.After.keys, c.After.Mail
	case c.Beside != nil:
		s.Issuer, s.data, s.keys = c.Beside.Issuer, c.Beside.data, c.Beside.keys
		if c.node {
			s.Mail, s.Log = c.Beside.Mail, c.Beside.Log
		}
	case c.Postgres:
		s.data.Database = NewDatabase(t)
		s.data.MasterKey = NewMasterKey()
	}
	if s.Storage, err = s.data.Open(ctx, true); err != nil {
		t.Fatal(err)
	}
	s.Store = s.Storage.DB
	if err := s.Store.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	s.Projects, s.Clients = project.NewSetup(s.Store, clock.Now), oauth.NewSetup(s.Store, clock.Now)
	if s.People, err = identity.New(identity.Config{Store: s.Store, Now: clock.Now}); err != nil {
		t.Fatal(err)
	}
	if other := cmp.Or(c.Beside, c.After); other != nil {
		s.Project, s.Secret = other.Project, other.Secret
	} else if !c.Empty {
		s.create(ctx, t, c)
	}
	var around func(http.Handler) http.Handler
	if _, benchmark := t.(*testing.B); !benchmark && !c.node {
		s.watch = newWatch(s.now, s.registered)
		if c.After != nil {
			s.watch.named, s.watch.held = c.After.watch.named, c.After.watch.held
		}
		around = func(next http.Handler) http.Handler {
			return s.watch.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if other := s.other(); other != nil {
					other.Handler().ServeHTTP(w, r)
					return
				}
				next.ServeHTTP(w, r)
			}))
		}
	}
	s.Server, err = server.Open(ctx, server.Config{
		Around: around, RSA: s.keys.rsa,
		Storage: s.Storage, URL: originOf(s.Issuer), Mail: s.Mail, Proxies: c.Proxies, Now: clock.Now, Version: "test", Dev: c.Dev, Poll: c.Poll, Timeouts: c.Timeouts,
		Log: slog.New(slog.NewJSONHandler(s.Log, &slog.HandlerOptions{Level: slog.LevelDebug})), Drain: 5 * time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	running, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	alive.Add(1)
	go func() { done <- s.Run(running, []net.Listener{listener}) }()
	var once sync.Once
	s.stop = func() {
		once.Do(func() {
			killed := s.stopped.Swap(true)
			stop()
			if err := <-done; err != nil {
				t.Errorf("the server ended with an error: %v", err)
			}
			if s.watch != nil && !killed {
				s.ends(t)
			}
			if err := s.Storage.Close(); err != nil {
				t.Errorf("close the store: %v", err)
			}
			if alive.Add(-1); s.watch != nil {
				checkGoroutines(t)
			}
		})
	}
	t.Cleanup(s.stop)
	return s
}

// keys are the RSA keys of a database. Making one takes longer than most tests,
// so databases share them; no two of one database are the same.
type keys struct{ given atomic.Int64 }

var made struct {
	sync.Mutex
	keys []*rsa.PrivateKey
}

func (k *keys) rsa() (*rsa.PrivateKey, error) {
	n := int(k.given.Add(1))
	made.Lock()
	defer made.Unlock()
	for len(made.keys) < n {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		made.keys = append(made.keys, key)
	}
	return made.keys[n-1], nil
}

// originOf is an issuer without its path.
func originOf(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return issuer
	}
	return u.Scheme + "://" + u.Host
}

// create makes the project.
func (s *Server) create(ctx context.Context, t testing.TB, c Config) {
	t.Helper()
	settings := project.Defaults()
	if c.Settings != nil {
		c.Settings(&settings)
	}
	created, key, err := s.Projects.Create(ctx, project.New{Name: "Notes", Issuer: s.Issuer, Vertical: c.Vertical, Environment: project.Test, Settings: &settings})
	if err != nil {
		t.Fatal(err)
	}
	s.Project, s.Secret = created, key.Text
}

// Data is where the server keeps what must survive it.
func (s *Server) Data() server.Data { return s.data }

// Stop ends the server before the test ends.
func (s *Server) Stop() { s.stop() }

// Kill ends it as a kill does: nothing that it holds in the database is given
// back.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.stopped.Store(true)
	if err := s.Storage.Close(); err != nil {
		t.Error(err)
	}
	s.stop()
}

// AddResource registers a resource server with its scopes, and waits until the
// server knows it.
func (s *Server) AddResource(t testing.TB, uri string, scopes ...project.Scope) project.Resource {
	t.Helper()
	r, _, err := s.Projects.AddResource(t.Context(), s.Project, project.Resource{URI: uri, Name: "Notes"}, scopes, false)
	if err != nil {
		t.Fatal(err)
	}
	s.Follow(t)
	return r
}

// AddClient registers a client, and returns it with its secret, "" for a public
// one.
func (s *Server) AddClient(t testing.TB, n oauth.NewClient) (oauth.Client, string) {
	t.Helper()
	c, key, err := s.Clients.CreateClient(t.Context(), s.Project, n)
	if err != nil {
		t.Fatal(err)
	}
	if key == nil {
		return c, ""
	}
	return c, key.Text
}

// Follow makes the server take in now what it would see within a second.
func (s *Server) Follow(t testing.TB) {
	t.Helper()
	s.Under(t)
	s.rows.mu.Lock()
	node := s.rows.node
	s.rows.mu.Unlock()
	for _, each := range []*Server{s, node} {
		if each == nil || each.stopped.Load() {
			continue
		}
		if err := each.Server.Follow(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	p, err := s.Projects.Find(t.Context(), s.Project.ID)
	if err != nil {
		t.Fatal(err)
	}
	s.Project = p
}

// Ready waits until the server has all its keys. That its clock, which stands,
// and the database's differ is as it should be.
func (s *Server) Ready(t testing.TB) {
	t.Helper()
	var look struct {
		Ready   bool     `json:"ready"`
		Missing []string `json:"missing"`
	}
	for range 600 {
		response, err := http.Get(s.Address + "/readyz")
		if err == nil {
			err = json.NewDecoder(response.Body).Decode(&look)
			_ = response.Body.Close() // it was read
		}
		if err != nil {
			t.Fatal(err)
		}
		if look.Ready || slices.Equal(look.Missing, []string{"clock"}) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the server is not ready after six seconds: it lacks %q", look.Missing)
}

// Code waits for the newest code that was sent to an address.
func (s *Server) Code(t testing.TB, to string) string {
	t.Helper()
	return s.code(t, to, 0)
}

// nextCode waits for a code that nobody asked for yet: the mail of a sign-in
// that begins may arrive later than the one of a sign-in before it.
func (s *Server) nextCode(t testing.TB, to string) string {
	t.Helper()
	last, _ := s.read.Load(strings.ToLower(to))
	after, _ := last.(int64)
	return s.code(t, to, after)
}

// code waits for a code in a mail that came after the one numbered after.
func (s *Server) code(t testing.TB, to string, after int64) string {
	t.Helper()
	for range 500 {
		for _, m := range s.Mail.Mails() {
			if code := codeIn(m.Text); m.ID > after && strings.EqualFold(m.To, to) && code != "" {
				s.read.Store(strings.ToLower(to), m.ID)
				return code
			}
		}
		time.Sleep(10 * time.Millisecond) // the queue sends beside the answer
	}
	t.Fatalf("no code was sent to %s", to)
	return ""
}

// SQL opens the database beside the server, for what an administrator does there.
func (s *Server) SQL(t testing.TB) *sql.DB {
	t.Helper()
	driver, source := "pgx", s.data.Database
	if source == "" {
		driver, source = "sqlite", "file:"+s.data.Path()+"?_pragma=busy_timeout(5000)"
	}
	beside, err := sql.Open(driver, source)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = beside.Close() }) // it was read and told only
	return beside
}

// Kept is every byte of the folder in which a server on SQLite keeps its data.
func (s *Server) Kept(t testing.TB) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(s.data.Folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		all.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// NewDatabase makes an empty PostgreSQL database that ends with the test, and
// returns its URL. It skips the test where there is no server.
func NewDatabase(t testing.TB) string {
	t.Helper()
	base := os.Getenv(PostgresVariable)
	if base == "" {
		t.Skipf("%s is not set: this test needs a PostgreSQL server", PostgresVariable)
	}
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := sql.Open("pgx", base)
	if err != nil {
		t.Fatal(err)
	}
	name := "postern_" + strings.ToLower(rand.Text())
	if _, err := admin.Exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := admin.Exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Error(err)
		}
		_ = admin.Close() // the database is gone
	})
	u.Path = "/" + name
	return u.String()
}

// NewMasterKey makes a master key as an operator writes it.
func NewMasterKey() string {
	var key [32]byte
	rand.Read(key[:])
	return base64.StdEncoding.EncodeToString(key[:])
}

// Clock is a clock that stands still until it is moved.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at the present second.
func NewClock() *Clock { return &Clock{now: time.Now().UTC().Truncate(time.Second)} }

// Now is the time it shows.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves it.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Log keeps what the server logged.
type Log struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write keeps one line.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String is everything so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

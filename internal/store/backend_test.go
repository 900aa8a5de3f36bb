package store_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/store"
)

// The tests of this package run on SQLite and, where POSTERN_TEST_POSTGRES has
// the URL of a server on which databases may be made and dropped, on
// PostgreSQL. A backend opens a migrated database, of its own for each test.

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		os.Exit(child(role))
	}
	code := m.Run()
	postgres.drop()
	os.Exit(code)
}

// eachBackend runs a test on every database, on an empty migrated one.
func eachBackend(t *testing.T, fn func(t *testing.T, db *store.DB)) {
	t.Helper()
	eachConfig(t, func(t *testing.T, c store.Config) { fn(t, open(t, c)) })
}

// eachConfig is eachBackend for tests that open the database more than once.
func eachConfig(t *testing.T, fn func(t *testing.T, c store.Config)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		fn(t, store.Config{Path: sqliteCopy(t), Now: time.Now})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		fn(t, store.Config{URL: postgresCopy(t), Now: time.Now})
	})
}

func open(t testing.TB, c store.Config) *store.DB {
	t.Helper()
	db, err := store.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return db
}

// sqliteTemplate is a migrated file that tests copy.
var sqliteTemplate = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "store-test-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "template.db")
	if err := migrated(store.Config{Path: path, Now: time.Now}); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

func migrated(c store.Config) error {
	ctx := context.Background()
	db, err := store.Open(ctx, c)
	if err != nil {
		return err
	}
	if err := db.Migrate(ctx); err != nil {
		return err
	}
	return db.Close()
}

func sqliteCopy(t testing.TB) string {
	t.Helper()
	content, err := sqliteTemplate()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "postern.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// server is the PostgreSQL server of the environment.
type server struct {
	once     sync.Once
	admin    *sql.DB
	url      *url.URL
	template string
	err      error
}

var postgres server

// start makes the template: a migrated database in a language whose order is
// not that of bytes, so that a forgotten collation shows.
func (s *server) start() {
	text := os.Getenv("POSTERN_TEST_POSTGRES")
	if s.url, s.err = url.Parse(text); s.err != nil {
		return
	}
	if s.admin, s.err = sql.Open("pgx", text); s.err != nil {
		return
	}
	s.template = "postern_template_" + strings.ToLower(rand.Text()[:10])
	const english = " TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US' LC_COLLATE 'C' LC_CTYPE 'C'"
	if _, s.err = s.admin.Exec("CREATE DATABASE " + s.template + english); s.err == nil {
		s.err = migrated(store.Config{URL: s.database(s.template), Now: time.Now})
	}
}

func (s *server) database(name string) string {
	u := *s.url
	u.Path = "/" + name
	return u.String()
}

func (s *server) drop() {
	if s.admin != nil {
		_, _ = s.admin.Exec("DROP DATABASE IF EXISTS " + s.template)
		_ = s.admin.Close()
	}
}

// postgresCopy makes a database for one test, from the template.
func postgresCopy(t testing.TB) string {
	t.Helper()
	return postgresDatabase(t, func(name string) string { return "CREATE DATABASE " + name + " TEMPLATE " + postgres.template })
}

func postgresDatabase(t testing.TB, create func(name string) string) string {
	t.Helper()
	if os.Getenv("POSTERN_TEST_POSTGRES") == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("POSTERN_TEST_POSTGRES is not set: the store must be tested on PostgreSQL here")
		}
		t.Skip("no PostgreSQL: set POSTERN_TEST_POSTGRES to the URL of a server to test on it too")
	}
	postgres.once.Do(postgres.start)
	if postgres.err != nil {
		t.Fatal(postgres.err)
	}
	name := "postern_" + strings.ToLower(rand.Text()[:12])
	if _, err := postgres.admin.Exec(create(name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := postgres.admin.Exec("DROP DATABASE " + name + " WITH (FORCE)"); err != nil {
			t.Errorf("drop: %v", err)
		}
	})
	return postgres.database(name)
}

// at runs fn n times at once and waits for all.
func at(n int, fn func(i int)) {
	var wait sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wait.Go(func() {
			<-start
			fn(i)
		})
	}
	close(start)
	wait.Wait()
}

// rows runs a query and returns its rows as texts, columns joined by blanks.
func rows(t testing.TB, db *store.DB, query string, args ...any) []string {
	t.Helper()
	r, err := db.Raw().QueryContext(t.Context(), query, args...)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	columns, err := r.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for r.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := r.Scan(into...); err != nil {
			t.Fatal(err)
		}
		var line []string
		for _, v := range values {
			if n, ok := v.(bool); ok {
				v = map[bool]int{true: 1}[n]
			}
			line = append(line, fmt.Sprint(v))
		}
		all = append(all, strings.Join(line, " "))
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// events lists the kinds of what was recorded in a project, sorted; refused
// ones with their reason.
func events(t testing.TB, db *store.DB, projectID string) []string {
	t.Helper()
	var kinds []string
	for _, line := range rows(t, db, "SELECT kind, refused, reason FROM event WHERE project_id = $1 ORDER BY kind, reason", projectID) {
		kind, rest, _ := strings.Cut(line, " ")
		if reason, refused := strings.CutPrefix(rest, "1 "); refused {
			kind += ": " + reason
		}
		kinds = append(kinds, kind)
	}
	return kinds
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var _ io.Closer = (*store.DB)(nil)

package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/store"
)

// soon fails the test when what it waits for does not come within a limit.
func soon(t *testing.T, limit time.Duration, what string, come func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !come(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after %s: not yet %s", limit, what)
		}
	}
}

// Servers that share a database take an even part of each flood limit. One that
// ends, or is killed, leaves its part to the others.
func TestServersShareAFloodLimit(t *testing.T) {
	proxies := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	const poll = 20 * time.Millisecond
	a := servertest.New(t, servertest.Config{Postgres: true, Proxies: proxies, Poll: poll})
	u, _ := url.Parse(a.Issuer)
	stranger := 0
	// allowed is how many calls a server takes at once from one address.
	allowed := func(s *servertest.Server) (n int) {
		stranger++
		from := fmt.Sprintf("203.0.%d.%d", 100+stranger/250, stranger%250)
		for range 70 {
			if ask(t, s, "GET", s.Address+oauth.PathAuthorize, nil, "Host", u.Host, "X-Forwarded-For", from).status != http.StatusTooManyRequests {
				n++
			}
		}
		return n
	}
	// share renews what is due until a server's part is what it should be.
	share := func(what string, s *servertest.Server, want int) {
		t.Helper()
		soon(t, 10*time.Second, fmt.Sprintf("%s: %d calls", what, want), func() bool { return allowed(s) == want })
	}
	share("alone", a, 60)

	b := servertest.New(t, servertest.Config{Beside: a, Proxies: proxies, Poll: poll})
	share("the second of two", b, 30)
	a.Clock.Advance(store.NodeLease / 3)
	share("the first of two", a, 30)

	b.Stop()
	a.Clock.Advance(store.NodeLease / 3)
	share("alone after the other ended", a, 60)

	c := servertest.New(t, servertest.Config{Beside: a, Proxies: proxies, Poll: poll})
	share("a third one", c, 30)
	a.Clock.Advance(store.NodeLease / 3)
	share("the first beside a third", a, 30)
	c.Kill(t)
	a.Clock.Advance(store.NodeLease / 3)
	time.Sleep(300 * time.Millisecond) // a few rounds
	if n := allowed(a); n != 30 {
		t.Errorf("while the killed server's lease runs: %d calls, want 30", n)
	}
	a.Clock.Advance(store.NodeLease)
	share("alone after the other was killed", a, 60)
}

// A change made by one server reaches the others by the database's word, long
// before they poll, also after the connection for that was lost.
func TestChangesAreToldAtOnce(t *testing.T) {
	a := servertest.New(t, servertest.Config{Postgres: true, Poll: time.Minute})
	b := servertest.New(t, servertest.Config{Beside: a, Poll: time.Minute})
	u, _ := url.Parse(a.Issuer)
	admin := a.SQL(t)
	listening := func() (pids string) {
		rows, err := admin.Query("SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%' ORDER BY pid")
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var pid int
			if err := rows.Scan(&pid); err != nil {
				t.Fatal(err)
			}
			pids += fmt.Sprint(pid, " ")
		}
		if err := rows.Err(); err != nil {
			t.Fatal(err)
		}
		return pids
	}
	two := func() bool { return strings.Count(listening(), " ") == 2 }
	offers := func(s *servertest.Server) bool {
		return strings.Contains(ask(t, s, "GET", s.Address+oauth.PathMetadata, nil, "Host", u.Host).body, "registration_endpoint")
	}
	change := func(on bool) {
		t.Helper()
		if _, err := a.Projects.Change(t.Context(), a.Project.ID, func(p *project.Project) error {
			p.Settings.DynamicRegistration = on
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for name, s := range map[string]*servertest.Server{"the server itself": a, "the other server": b} {
			soon(t, time.Second, "seen by "+name, func() bool { return offers(s) == on })
		}
	}
	soon(t, 10*time.Second, "listening", two)
	a.Ready(t)
	b.Ready(t)
	change(false)
	change(true)

	before := listening()
	if _, err := admin.Exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"); err != nil {
		t.Fatal(err)
	}
	soon(t, 10*time.Second, "listening again", func() bool { return two() && listening() != before })
	change(false)
	if !strings.Contains(a.Log.String(), "does not tell of changes now") {
		t.Error("the log says nothing of the lost connection")
	}
}

// The database of "postern dev" is never served.
func TestDevelopmentIsNotServed(t *testing.T) {
	each(t, func(t *testing.T, data server.Data) {
		storage := opened(t, data)
		if err := storage.DB.Dedicate(t.Context(), store.Development); err != nil {
			t.Fatal(err)
		}
		c := config(storage)
		if _, err := server.Open(t.Context(), c); !errors.Is(err, store.ErrPurpose) {
			t.Errorf("got %v, want ErrPurpose", err)
		}
		c.Dev = &server.Dev{}
		if _, err := server.Open(t.Context(), c); err != nil {
			t.Errorf("in development: %v", err)
		}
	})
	t.Run("what was served is not developed on", func(t *testing.T) {
		each(t, func(t *testing.T, data server.Data) {
			storage := opened(t, data)
			if _, err := server.Open(t.Context(), config(storage)); err != nil {
				t.Fatal(err)
			}
			if err := storage.DB.Dedicate(t.Context(), store.Development); !errors.Is(err, store.ErrPurpose) {
				t.Errorf("got %v, want ErrPurpose", err)
			}
		})
	})
}

// A server whose mails go to the log serves no issuer that others reach: it
// does not start, and is not ready once there is one.
func TestConsoleMailIsForThisComputer(t *testing.T) {
	each(t, func(t *testing.T, data server.Data) {
		storage := opened(t, data)
		c := config(storage)
		c.Mail = server.ConsoleMail{Log: c.Log}
		log := &servertest.Log{}
		c.Log = slog.New(slog.NewJSONHandler(log, nil))
		projects := project.NewSetup(storage.DB, time.Now)
		create := func(issuer string) {
			t.Helper()
			if _, _, err := projects.Create(t.Context(), project.New{Name: issuer, Issuer: issuer}); err != nil {
				t.Fatal(err)
			}
		}
		create("http://localhost:4000")
		s, err := server.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		missing := func() string {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), "GET", "/readyz", nil))
			return w.Body.String()
		}
		if strings.Contains(missing(), "configuration") {
			t.Errorf("with an issuer on this computer: %s", missing())
		}
		create("https://one.example.com")
		create("https://two.example.com")
		if err := s.Follow(t.Context()); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(missing(), "configuration") {
			t.Errorf("with an issuer that others reach: %s", missing())
		}
		for _, issuer := range []string{"https://one.example.com", "https://two.example.com"} {
			if !strings.Contains(log.String(), "others sign in at "+issuer) {
				t.Errorf("the log does not name %s: %s", issuer, log)
			}
		}
		var unsafe *server.Unsafe
		if _, err := server.Open(t.Context(), c); !errors.As(err, &unsafe) || len(unsafe.Problems) != 2 {
			t.Errorf("the next start: %v", err)
		}
		c.Mail = mail.NewRecorder(1, time.Now)
		if _, err := server.Open(t.Context(), c); err != nil {
			t.Errorf("with a mail server: %v", err)
		}
	})
}

// Who asks /readyz often asks the database at most once a second.
func TestReadyIsRemembered(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		s := servertest.New(t, c)
		s.Ready(t)
		if err := s.Storage.Close(); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if got := ask(t, s, "GET", "/readyz", nil); got.status != http.StatusOK {
				t.Fatalf("in the same second: %d %s", got.status, got.body)
			}
		}
		s.Clock.Advance(time.Second)
		for range 3 {
			if got := ask(t, s, "GET", "/readyz", nil); got.status != http.StatusServiceUnavailable || !strings.Contains(got.body, "database") {
				t.Fatalf("a second later: %d %s", got.status, got.body)
			}
		}
	})
}

// each runs a test on both databases, migrated.
func each(t *testing.T, test func(t *testing.T, data server.Data)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { test(t, server.Data{Folder: t.TempDir(), Now: time.Now}) })
	t.Run("postgres", func(t *testing.T) {
		test(t, server.Data{Folder: t.TempDir(), Database: servertest.NewDatabase(t), MasterKey: servertest.NewMasterKey(), Now: time.Now})
	})
}

func opened(t *testing.T, data server.Data) *server.Storage {
	t.Helper()
	storage, err := data.Open(context.Background(), true)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { storage.Close() })
	if err := storage.DB.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return storage
}

func config(storage *server.Storage) server.Config {
	return server.Config{
		Storage: storage, URL: "http://localhost:4000", Mail: mail.NewRecorder(1, time.Now), Now: time.Now, Version: "test",
		Log: slog.New(slog.DiscardHandler),
	}
}

// What a client changes of itself at one server holds at the others at once: its
// old token is good nowhere.
func TestServersShareOwnClients(t *testing.T) {
	a := servertest.New(t, servertest.Config{Postgres: true, Poll: time.Minute})
	b := servertest.New(t, servertest.Config{Beside: a, Poll: time.Minute})
	u, _ := url.Parse(a.Issuer)
	var own struct {
		ID    string `json:"client_id"`
		Token string `json:"registration_access_token"`
	}
	call := func(s *servertest.Server, method, path, body string, want int) {
		t.Helper()
		got := ask(t, s, method, s.Address+oauth.PathRegister+path, strings.NewReader(body), "Host", u.Host, "Content-Type", "application/json", "Authorization", "Bearer "+own.Token)
		if got.status != want {
			t.Fatalf("%s: %d %s, want %d", method, got.status, got.body, want)
		}
		if want < 204 {
			if err := json.Unmarshal([]byte(got.body), &own); err != nil {
				t.Fatal(err)
			}
		}
	}
	metadata := `"redirect_uris":["https://own.example.test/cb"]}`
	call(a, "POST", "", "{"+metadata, http.StatusCreated)
	old := own.Token
	call(a, "PUT", "/"+own.ID, `{"client_id":"`+own.ID+`",`+metadata, http.StatusOK)
	call(b, "GET", "/"+own.ID, "", http.StatusOK)
	own.Token, old = old, own.Token
	call(b, "GET", "/"+own.ID, "", http.StatusUnauthorized)
	own.Token = old
	call(b, "DELETE", "/"+own.ID, "", http.StatusNoContent)
	call(a, "GET", "/"+own.ID, "", http.StatusUnauthorized)
}

package servertest

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/secret"
)

// heard is a test that only takes down what it is told.
type heard struct {
	testing.TB
	name     string
	said     []string
	cleanups []func()
}

func (h *heard) Helper()                        {}
func (h *heard) Name() string                   { return h.name }
func (h *heard) Failed() bool                   { return len(h.said) > 0 }
func (h *heard) Skipped() bool                  { return false }
func (h *heard) Cleanup(f func())               { h.cleanups = append(h.cleanups, f) }
func (h *heard) Errorf(format string, a ...any) { h.said = append(h.said, fmt.Sprintf(format, a...)) }
func (h *heard) Error(a ...any)                 { h.said = append(h.said, fmt.Sprint(a...)) }
func (h *heard) Fatalf(format string, a ...any) { h.Errorf(format, a...) }
func (h *heard) Context() context.Context       { return context.Background() }
func (h *heard) end() {
	for i := len(h.cleanups) - 1; i >= 0; i-- {
		h.cleanups[i]()
	}
	h.cleanups = nil
}

// expect checks that a test was told one thing, or nothing for "".
func (h *heard) expect(t *testing.T, words string) {
	t.Helper()
	said := strings.Join(h.said, "\n")
	if words == "" && said != "" || words != "" && (len(h.said) != 1 || !strings.Contains(said, words)) {
		t.Errorf("it says %q, want %q", said, words)
	}
	h.said = nil
}

func TestWatchAnswers(t *testing.T) {
	token := secret.New(secret.RefreshToken, time.Now()).Text
	jwt := "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1c2VyIn0.c2lnbmF0dXJl"
	const verifier = "a-verifier-of-more-than-forty-three-characters-0123"
	for name, c := range map[string]struct {
		status   int
		header   http.Header
		body     string
		sent     url.Values
		query    string
		expected string
	}{
		"a refusal in our words":           {status: 400, body: `{"error":"invalid_grant"}`},
		"tokens for who may have them":     {status: 200, body: token + jwt},
		"a session for who may have it":    {status: 303, header: http.Header{"Set-Cookie": {"__Host-postern-0-session=x"}, "Location": {"/connected-apps"}}},
		"an answer to a client":            {status: 303, header: http.Header{"Location": {"https://client.example.test/cb?code=x"}}},
		"a cookie that is taken back":      {status: 403, header: http.Header{"Set-Cookie": {"postern-0-session=; Max-Age=0"}}},
		"a name that is shown again":       {status: 400, body: "There is no " + token, query: "client_id=" + token},
		"a verifier sent as challenge":     {status: 400, body: verifier, sent: url.Values{"code_verifier": {verifier}}, query: "code_challenge=" + verifier},
		"an answer to a stranger":          {status: 303, header: http.Header{"Location": {"https://evil.example.test/cb"}}, expected: "nobody registered"},
		"another host that looks like one": {status: 303, header: http.Header{"Location": {"//evil.example.test/cb"}}, expected: "nobody registered"},
		"a page that goes to a stranger":   {status: 200, header: http.Header{"Refresh": {"0; url=https://evil.example.test/"}}, expected: "nobody registered"},
		"an error with a code":             {status: 303, header: http.Header{"Location": {"https://client.example.test/cb?error=x&code=y"}}, expected: "an error and a code"},
		"a refusal with a token":           {status: 400, body: token, expected: "holds a secret"},
		"a refusal with a JWT in a header": {status: 401, header: http.Header{"Www-Authenticate": {jwt}}, expected: "holds a secret"},
		"a refusal with a session":         {status: 403, header: http.Header{"Set-Cookie": {"__Host-postern-0-session=x; Path=/"}}, expected: "session cookie"},
		"a refusal that repeats a secret":  {status: 400, body: verifier, sent: url.Values{"code_verifier": {verifier}}, expected: "a code_verifier"},
		"a stack":                          {status: 500, body: "goroutine 7 [running]", expected: "the inside"},
		"a file of the source":             {status: 500, body: "at handler.go:12", expected: "the inside"},
		"SQL":                              {status: 503, body: "SELECT id FROM client", expected: "the inside"},
		"a path":                           {status: 503, body: "open /var/lib/postern/master.key", expected: "the inside"},
		"an inner host":                    {status: 503, body: "dial tcp 10.0.0.3:5432: connection refused", expected: "the inside"},
	} {
		t.Run(name, func(t *testing.T) {
			said := &heard{TB: t}
			w := newWatch(func() testing.TB { return said }, func(to *url.URL) bool { return to.Host == "client.example.test" })
			r := httptest.NewRequest(http.MethodPost, "/x?"+c.query, strings.NewReader(c.sent.Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w.wrap(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					t.Error(err)
				}
				for name, values := range c.header {
					w.Header()[name] = values
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})).ServeHTTP(httptest.NewRecorder(), r)
			said.expect(t, c.expected)
		})
	}
}

// What a server leaves behind, on both databases.
func TestWatchTheEnd(t *testing.T) {
	Each(t, func(t *testing.T, c Config) {
		s := New(t, c)
		said := &heard{TB: t}
		ends := func(t *testing.T, words string) {
			t.Helper()
			s.ends(said)
			said.expect(t, words)
		}
		b := s.Browser(t)
		b.SignIn(t, b.Get(t, "/login"), "ida@example.test")
		code := s.Code(t, "ida@example.test")
		s.stop() // or a transaction of its own work is open
		ends(t, "")

		log := s.Log.String()
		token := secret.New(secret.AuthorizationCode, s.Clock.Now()).Text
		for _, text := range []string{token, code} {
			_, _ = fmt.Fprintf(s.Log, `{"time":"x","level":"INFO","note":"%s"}`+"\n", text)
			ends(t, "the log holds a secret")
			s.Log.text.Reset()
			s.Log.text.WriteString(log)
		}
		_, _ = fmt.Fprintf(s.Log, `{"time":"2026-11-21T12:00:00.%s","level":"INFO","bytes":%s}`+"\n", code, code)
		ends(t, "")

		if err := s.Mail.Send(t.Context(), mail.Mail{To: "nobody@example.test", Text: "Hello"}); err != nil {
			t.Fatal(err)
		}
		ends(t, "nobody@example.test, whom no request named")
		s.watch.named["nobody@example.test"] = true
		s.watch.fetches("10.0.0.3:443")
		ends(t, "asked 10.0.0.3:443, which nobody named")
		delete(s.watch.asked, "10.0.0.3:443")

		db := s.writable(t)
		if _, err := db.Exec("UPDATE project SET name = $1", token); err != nil {
			t.Fatal(err)
		}
		ends(t, "the table project holds a secret")
		s.watch.shown[token] = true // as where a client makes it its state
		ends(t, "")
	})
}

// writable opens the server's database beside it, to change what it keeps.
func (s *Server) writable(t *testing.T) *sql.DB {
	t.Helper()
	if s.data.Database != "" {
		return s.SQL(t)
	}
	file := url.URL{Scheme: "file", Path: filepath.Join(s.data.Folder, "postern.db"), RawQuery: "_pragma=busy_timeout(5000)"}
	db, err := sql.Open("sqlite", file.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // what it changed is committed
	return db
}

// A row that asks for an event fails without one, and with one that says too
// little.
func TestWatchEvents(t *testing.T) {
	s := New(t, Config{})
	row := &heard{TB: t, name: "TestCode/sqlite/T06_one_digit_less"}
	event := audit.Event{ProjectID: s.Project.ID, At: s.Clock.Now(), Kind: audit.TokenRefused, Refused: true, Reason: "code is wrong", TraceID: "K7Q-2MX-9RD", ClientID: "client"}
	for _, c := range []struct {
		what string
		keep func() []audit.Event
		says string
	}{
		{"none", func() []audit.Event { return nil }, "T06: no event token.refused"},
		{"whole", func() []audit.Event { return []audit.Event{event} }, ""},
		{"without a request", func() []audit.Event { e := event; e.TraceID = ""; return []audit.Event{e} }, "T06: the event token.refused does not say"},
		{"without a reason", func() []audit.Event { e := event; e.Reason = ""; return []audit.Event{e} }, "T06: the event token.refused does not say"},
		{"of another kind", func() []audit.Event { e := event; e.Kind = audit.ClientRefused; return []audit.Event{e} }, "T06: no event token.refused"},
	} {
		t.Run(c.what, func(t *testing.T) {
			s.Under(row)
			for _, e := range c.keep() {
				if err := s.Store.Record(t.Context(), e); err != nil {
					t.Fatal(err)
				}
			}
			row.end()
			row.expect(t, c.says)
		})
	}
}

// Every other request of a row that asks for it reaches the second server.
func TestWatchTwoServers(t *testing.T) {
	s := New(t, Config{Postgres: true})
	ask := func() {
		response, err := http.Get(s.Address + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close() // only that it came
	}
	ask()
	row := &heard{TB: t, name: "TestCode/postgres/T01_again"}
	s.Under(row)
	for range 4 {
		ask()
	}
	if s.rows.node == nil || s.rows.count != 4 {
		t.Errorf("%d requests were dealt out", s.rows.count)
	}
	row.said = []string{"it kept no event, and need not"}
	row.end()
	for range 2 {
		if s.other() != nil {
			t.Error("the second server answers after the row")
		}
	}
}

package api_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/api"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/store"
	"github.com/postern-id/postern/internal/web"
)

// world is the API of one project, with keys of its deployment.
type world struct {
	db      *store.DB
	people  *identity.People
	keys    *project.WorkspaceKeys
	clock   *servertest.Clock
	project *project.Project
	handler http.Handler

	key     string // id:secret of a key that works
	revoked string
	reads   string // of one that only reads
	ends    string // of one that ends after an hour
}

// each runs a test in a new world on both databases.
func each(t *testing.T, vertical project.Vertical, test func(t *testing.T, w *world)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) {
		test(t, newWorld(t, store.Config{Path: filepath.Join(t.TempDir(), "postern.db")}, vertical))
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		test(t, newWorld(t, store.Config{URL: servertest.NewDatabase(t)}, vertical))
	})
}

func newWorld(t testing.TB, c store.Config, vertical project.Vertical) *world {
	t.Helper()
	w := &world{clock: servertest.NewClock()}
	c.Now = w.clock.Now
	var err error
	w.db, err = store.Open(t.Context(), c)
	must(t, err)
	t.Cleanup(func() { must(t, w.db.Close()) })
	must(t, w.db.Migrate(t.Context()))
	w.project, _, err = project.NewSetup(w.db, w.clock.Now).Create(t.Context(), project.New{
		Name: "OKR", Issuer: "http://localhost:4001", Vertical: vertical, Environment: project.Test,
	})
	must(t, err)
	w.keys = project.NewWorkspaceKeys(w.db, w.clock.Now)
	w.key, _ = w.newKey(t, project.NewKey{Name: "CI"})
	w.reads, _ = w.newKey(t, project.NewKey{Name: "Look", ReadOnly: true})
	w.ends, _ = w.newKey(t, project.NewKey{Name: "Guest", Lifetime: "1h"})
	var id string
	w.revoked, id = w.newKey(t, project.NewKey{Name: "Old"})
	must(t, w.keys.Revoke(t.Context(), id))
	w.people, err = identity.New(identity.Config{Store: w.db, Now: w.clock.Now})
	must(t, err)
	a, err := api.New(api.Config{People: w.people, Keys: w.keys, Store: w.db, Now: w.clock.Now})
	must(t, err)
	m := http.NewServeMux()
	for _, o := range a.Operations() {
		m.Handle(o.Method+" "+o.Path, o.Handler)
	}
	line := web.RequestLine{Log: slog.New(slog.DiscardHandler), Now: w.clock.Now, NewTrace: func() string { return "K7Q-2MX-9RD" }}
	w.handler = servertest.Watch(t, line.Wrap(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		p, err := project.NewSetup(w.db, w.clock.Now).Find(r.Context(), w.project.ID) // as new as the directory is
		must(t, err)
		m.ServeHTTP(rw, r.WithContext(project.NewContext(r.Context(), p)))
	})))
	return w
}

func (w *world) newKey(t testing.TB, n project.NewKey) (credentials, id string) {
	t.Helper()
	k, s, err := w.keys.Create(t.Context(), n)
	must(t, err)
	return k.ID + ":" + s.Text, k.ID
}

// send makes a request. {project} in the path and body is the project's id;
// credentials "" are none.
func (w *world) send(method, path, credentials, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, w.fill(path), strings.NewReader(w.fill(body)))
	if credentials != "" {
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(credentials)))
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	return answer
}

func (w *world) fill(s string) string { return strings.ReplaceAll(s, "{project}", w.project.ID) }

// texts is a list of texts, which has one line in a transcript.
var texts = regexp.MustCompile(`\[\s+"[^"]*"(,\s+"[^"]*")*\s+\]`)

// show is an answer as the transcripts have it.
func (w *world) show(t *testing.T, answer *httptest.ResponseRecorder) string {
	t.Helper()
	var out bytes.Buffer
	fmt.Fprintln(&out, answer.Code, http.StatusText(answer.Code))
	for _, name := range []string{"Content-Type", "Cache-Control", "ETag", "WWW-Authenticate", "Retry-After"} {
		for _, v := range answer.Header().Values(name) {
			fmt.Fprintf(&out, "%s: %s\n", name, v)
		}
	}
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	if len(body) > 0 {
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, body, "", "  "); err != nil {
			t.Errorf("the answer is not JSON: %q", body)
		}
		short := texts.ReplaceAllStringFunc(pretty.String(), func(list string) string {
			return strings.Join(strings.Fields(list), " ")
		})
		fmt.Fprintf(&out, "\n%s\n", short)
	}
	return strings.ReplaceAll(out.String(), w.project.ID, "{project}")
}

// credentials are what a transcript calls by name.
func (w *world) credentials(name string) string {
	id, text, _ := strings.Cut(w.key, ":")
	other := secret.New(secret.WorkspaceKey, time.Now()).Text
	return map[string]string{
		"key": w.key, "revoked": w.revoked, "reads": w.reads, "wrong": id + ":" + other, "garbled": id + ":secret", "other-id": "workspace-key-prod-" + "0" + ":" + text, "": "",
	}[name]
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

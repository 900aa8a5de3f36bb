package server_test

import (
	"bytes"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/store"
)

// traffic is what clients and people hold of a server that is restored in the
// middle of its life.
type traffic struct {
	*servertest.Server
	t       *testing.T
	client  oauth.Client
	people  []*servertest.Browser
	codes   []string // ever given out
	tokens  []tokens // ever given out
	current []int    // of them, those that should refresh
	unused  []string // codes that should be redeemed
}

type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

const notesURI = "https://notes.example.com/mcp"

func newTraffic(t *testing.T, c servertest.Config) *traffic {
	t.Helper()
	c.Settings = func(s *project.Settings) { s.Lifetimes.ReplayWindow = 0 } // a used token is used
	s := servertest.New(t, c)
	s.AddResource(t, notesURI, project.Scope{Name: "read:notes", Description: "Read your notes", ReadOnly: true})
	client, _ := s.AddClient(t, oauth.NewClient{Name: "Terminal", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{"http://127.0.0.1/callback"}})
	w := &traffic{Server: s, t: t, client: client}
	w.newPerson()
	return w
}

// request asks for what the client wants.
func (w *traffic) request() url.Values {
	return url.Values{
		"client_id": {w.client.ID}, "redirect_uri": {"http://127.0.0.1:5123/callback"}, "response_type": {"code"}, "state": {"xyz"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
		"scope": {"read:notes"}, "resource": {notesURI},
	}
}

// newPerson signs somebody in, who allows the client.
func (w *traffic) newPerson() {
	w.t.Helper()
	b := w.Browser(w.t)
	page := b.SignIn(w.t, b.Authorize(w.t, w.request()), fmt.Sprintf("p%d@example.test", len(w.people)))
	w.people = append(w.people, b)
	w.given(b.Allow(w.t, page))
}

func (w *traffic) given(to *url.URL) {
	w.t.Helper()
	code := to.Query().Get("code")
	if code == "" {
		w.t.Fatalf("no code in %s", to)
	}
	w.codes, w.unused = append(w.codes, code), append(w.unused, code)
}

func (w *traffic) post(path string, form url.Values) answer {
	w.t.Helper()
	return ask(w.t, w.Server, "POST", path, strings.NewReader(form.Encode()), "Content-Type", "application/x-www-form-urlencoded")
}

func (w *traffic) redeem(code string) answer {
	w.t.Helper()
	return w.post(oauth.PathToken, url.Values{
		"grant_type": {"authorization_code"}, "client_id": {w.client.ID}, "code": {code},
		"code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}, "redirect_uri": {"http://127.0.0.1:5123/callback"},
	})
}

func (w *traffic) refresh(token string) answer {
	w.t.Helper()
	return w.post(oauth.PathToken, url.Values{"grant_type": {"refresh_token"}, "client_id": {w.client.ID}, "refresh_token": {token}})
}

func (w *traffic) active(token string) bool {
	w.t.Helper()
	got := w.post(oauth.PathIntrospect, url.Values{"token": {token}, "client_id": {w.Project.ID}, "client_secret": {w.Secret}})
	if got.status != http.StatusOK {
		w.t.Fatalf("introspection: %d %s", got.status, got.body)
	}
	return strings.Contains(got.body, `"active":true`)
}

// got keeps the tokens of an answer.
func (w *traffic) got(a answer) {
	w.t.Helper()
	var given tokens
	if err := json.Unmarshal([]byte(a.body), &given); err != nil || a.status != http.StatusOK || given.Refresh == "" {
		w.t.Fatalf("got %d %s", a.status, a.body)
	}
	w.tokens, w.current = append(w.tokens, given), append(w.current, len(w.tokens))
}

func (w *traffic) redeemNewest() {
	w.t.Helper()
	code := w.unused[len(w.unused)-1]
	w.unused = w.unused[:len(w.unused)-1]
	w.got(w.redeem(code))
}

// live does some of everything that uses up, gives out or takes back, and ends
// with an authorization that is in use.
func (w *traffic) live(random *rand.Rand, steps int) {
	w.t.Helper()
	for range steps {
		w.Clock.Advance(100 * time.Millisecond) // so that nothing runs out by itself
		i := random.IntN(max(len(w.current), 1))
		switch n := random.IntN(10); {
		case n < 3:
			b := w.people[random.IntN(len(w.people))]
			page := b.Authorize(w.t, w.request())
			if strings.Contains(page.Body, `value="allow"`) {
				w.given(b.Allow(w.t, page))
			} else {
				w.given(page.Answer(w.t))
			}
			if n < 2 {
				w.redeemNewest()
			}
		case n < 7 && len(w.current) > 0:
			token := w.tokens[w.current[i]].Refresh
			w.current = slices.Delete(w.current, i, i+1)
			w.got(w.refresh(token))
		case n < 8 && len(w.current) > 0:
			w.post(oauth.PathRevoke, url.Values{"token": {w.tokens[w.current[i]].Refresh}, "client_id": {w.client.ID}})
			w.current = slices.Delete(w.current, i, i+1)
		case n < 9:
			w.newPerson()
		}
	}
	w.newPerson()
	w.redeemNewest()
}

// A database is restored, or a standby that was behind is promoted, in the
// middle of traffic. Whatever was ever given out before is dead: nobody can tell
// what was used or taken back since the copy. Then life goes on.
func TestNothingOfBeforeARestoreWorks(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 1))
		w := newTraffic(t, c)
		administrator := w.Administrator(t)
		w.live(random, 25)
		waiting := w.Browser(t) // in the middle of signing in
		form := waiting.Submit(t, waiting.Authorize(t, w.request()), "email", url.Values{"email": {"late@example.test"}})
		mailed := w.Code(t, "late@example.test")

		restore := w.copied(filepath.Join(t.TempDir(), "copy.db"))
		atCopy := len(w.tokens)
		w.live(random, 25)
		for _, token := range w.current {
			if !w.active(w.tokens[token].Access) {
				t.Fatal("a token in use is not active before the restore")
			}
		}
		done := restore()
		if done.Authorizations == 0 || done.Sessions == 0 || done.AdministratorSessions != 1 {
			t.Errorf("ended: %+v", done)
		}

		for i, token := range w.tokens {
			when := map[bool]string{true: "before", false: "after"}[i < atCopy]
			if got := w.refresh(token.Refresh); got.status != http.StatusBadRequest || !strings.Contains(got.body, "invalid_grant") {
				t.Errorf("refresh token %d, of %s the copy: %d %s", i, when, got.status, got.body)
			}
			if w.active(token.Access) {
				t.Errorf("access token %d, of %s the copy, is active", i, when)
			}
			if got := ask(t, w.Server, "GET", oauth.PathUserinfo, nil, "Authorization", "Bearer "+token.Access); got.status != http.StatusUnauthorized && got.status != http.StatusForbidden {
				t.Errorf("access token %d, of %s the copy: userinfo %d %s", i, when, got.status, got.body)
			}
		}
		for i, code := range w.codes {
			if got := w.redeem(code); got.status != http.StatusBadRequest || !strings.Contains(got.body, "invalid_grant") {
				t.Errorf("code %d: %d %s", i, got.status, got.body)
			}
		}
		for i, b := range w.people {
			if page := b.Get(t, "/connected-apps"); !strings.Contains(page.Body, `name="email"`) {
				t.Errorf("person %d is signed in: %s", i, page.URL)
			}
		}
		if page := administrator.Get(t, "/dashboard"); !strings.HasSuffix(page.URL.Path, "/sign-in") {
			t.Errorf("an administrator is signed in: %s", page.URL)
		}
		if page := waiting.Submit(t, form, "code", url.Values{"code": {mailed}}); strings.Contains(page.Body, `value="allow"`) {
			t.Error("a code that was mailed before works")
		}

		// Who was there comes again, and is not asked again.
		w.Clock.Advance(time.Hour)
		b := w.Browser(t)
		page := b.SignIn(t, b.Authorize(t, w.request()), "p0@example.test")
		to := page.Header.Get("Refresh")
		if strings.Contains(page.Body, `value="allow"`) {
			w.given(b.Allow(t, page))
		} else if to != "" {
			w.given(page.Answer(t))
		}
		w.got(w.redeem(w.codes[len(w.codes)-1]))
		newest := w.tokens[len(w.tokens)-1]
		if !w.active(newest.Access) {
			t.Error("a new token is not active")
		}
		w.got(w.refresh(newest.Refresh))
		told, err := w.Store.Events(t.Context(), audit.Query{Kinds: []audit.Kind{audit.DeploymentRestored}, Limit: 10})
		if err != nil || len(told.Events) != 1 || told.Events[0].Actor != audit.Operator {
			t.Errorf("the trail: %+v, %v", told, err)
		}
	})
}

// copied takes a copy of the database now, and returns what restores it and
// starts the server again.
func (w *traffic) copied(file string) (restore func() server.Restored) {
	t := w.t
	t.Helper()
	again := func(done server.Restored, err error) server.Restored {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		w.Server = servertest.New(t, servertest.Config{After: w.Server})
		return done
	}
	data := w.Data()
	if data.Database == "" {
		if err := data.Backup(t.Context(), file); err != nil { // beside the server
			t.Fatal(err)
		}
		return func() server.Restored {
			w.Stop()
			return again(data.Restore(t.Context(), file, true))
		}
	}
	// Every row, as pg_dump and pg_restore have it, or a standby of this moment.
	u, err := url.Parse(data.Database)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimPrefix(u.Path, "/")
	admin, err := sql.Open("pgx", os.Getenv(servertest.PostgresVariable))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = admin.Close() })
	do := func(statements ...string) {
		t.Helper()
		for _, statement := range statements {
			if _, err := admin.Exec(statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	w.Stop()
	do("CREATE DATABASE " + name + "_copy TEMPLATE " + name)
	w.Server = servertest.New(t, servertest.Config{After: w.Server})
	return func() server.Restored {
		w.Stop()
		do("DROP DATABASE "+name+" WITH (FORCE)", "ALTER DATABASE "+name+"_copy RENAME TO "+name)
		return again(data.Restarted(t.Context()))
	}
}

// What is wrong is found before anything changes.
func TestRestoreChangesNothingWhenItRefuses(t *testing.T) {
	kept := func() (server.Data, string) {
		data := server.Data{Folder: t.TempDir(), Now: time.Now}
		storage := opened(t, data)
		file := filepath.Join(t.TempDir(), "copy.db")
		if err := data.Backup(t.Context(), file); err != nil {
			t.Fatal(err)
		}
		if err := storage.Close(); err != nil {
			t.Fatal(err)
		}
		key, err := os.ReadFile(filepath.Join(data.Folder, "master.key"))
		if err != nil {
			t.Fatal(err)
		}
		text := bytes.TrimSpace(key)
		raw, err := base64.StdEncoding.DecodeString(string(text))
		if err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(file); err != nil || bytes.Contains(content, text) || bytes.Contains(content, raw) {
			t.Errorf("the copy has the master key in it, or %v", err)
		}
		return data, file
	}
	data, file := kept()
	_, foreign := kept() // sealed under another key
	withoutKey, _ := kept()
	if err := os.Remove(filepath.Join(withoutKey.Folder, "master.key")); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(t.TempDir(), "database")
	if err := os.WriteFile(other, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	development := server.Data{Folder: t.TempDir(), Now: time.Now}
	if err := opened(t, development).DB.Dedicate(t.Context(), store.Development); err != nil {
		t.Fatal(err)
	}
	if err := development.Backup(t.Context(), filepath.Join(t.TempDir(), "copy.db")); !errors.Is(err, store.ErrPurpose) {
		t.Errorf("a backup of development: %v", err)
	}
	for name, test := range map[string]struct {
		data  server.Data
		file  string
		force bool
		want  string
	}{
		"there is a database":    {data, file, false, "there is a database already"},
		"of another key":         {data, foreign, true, "master key is not the one"},
		"the key is gone":        {withoutKey, file, true, "bring"},
		"no database":            {data, other, true, "damaged"},
		"nothing":                {data, filepath.Join(t.TempDir(), "no.db"), true, "no such file"},
		"PostgreSQL":             {server.Data{Database: "postgres://localhost/x", Now: time.Now}, file, true, "no file"},
		"the database it is for": {data, data.Path(), true, ""},
	} {
		t.Run(name, func(t *testing.T) {
			before, _ := os.ReadFile(test.data.Path())
			_, err := test.data.Restore(t.Context(), test.file, test.force)
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v", err)
			}
			if after, _ := os.ReadFile(test.data.Path()); !slices.Equal(before, after) {
				t.Error("the database changed")
			}
			if left, _ := filepath.Glob(filepath.Join(test.data.Folder, "*restoring*")); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
}

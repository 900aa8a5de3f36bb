package server_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/signing"
)

// kidOf reads the header of a token.
func kidOf(t *testing.T, token string) string {
	t.Helper()
	first, _, _ := strings.Cut(token, ".")
	raw, err := base64.RawURLEncoding.DecodeString(first)
	var header struct{ Kid string }
	if err == nil {
		err = json.Unmarshal(raw, &header)
	}
	if err != nil || header.Kid == "" {
		t.Fatalf("header %s: %v", raw, err)
	}
	return header.Kid
}

// A key that is taken out while servers run counts nowhere a second later: its
// tokens are dead at every endpoint of every server, and new ones are signed with
// another key. Nobody has to sign in again.
//
// Row: K01.
func TestCompromisedKey(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		w := newTraffic(t, c)
		w.Ready(t)
		servers := map[string]*servertest.Server{"the server": w.Server}
		if c.Postgres {
			servers["the other server"] = servertest.New(t, servertest.Config{Beside: w.Server})
			servers["the other server"].Ready(t)
		}
		u, err := url.Parse(w.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		form := func(s *servertest.Server, path string, values url.Values) answer {
			return ask(t, s, "POST", s.Address+path, strings.NewReader(values.Encode()), "Host", u.Host, "Content-Type", "application/x-www-form-urlencoded")
		}
		active := func(s *servertest.Server, token string) bool {
			got := form(s, oauth.PathIntrospect, url.Values{"token": {token}, "client_id": {w.Project.ID}, "client_secret": {w.Secret}})
			if got.status != http.StatusOK {
				t.Fatalf("introspection: %d %s", got.status, got.body)
			}
			return strings.Contains(got.body, `"active":true`)
		}
		userinfo := func(s *servertest.Server, token string) int {
			return ask(t, s, "GET", s.Address+oauth.PathUserinfo, nil, "Host", u.Host, "Authorization", "Bearer "+token).status
		}
		published := func(s *servertest.Server, kid string) bool {
			return strings.Contains(ask(t, s, "GET", s.Address+oauth.PathJWKS, nil, "Host", u.Host).body, kid)
		}
		w.redeemNewest()
		old := w.tokens[0]
		bad := kidOf(t, old.Access)
		before := map[string]int{}
		for name, s := range servers {
			s.Follow(t) // of what came before
			before[name] = userinfo(s, old.Access)
			if !active(s, old.Access) || !published(s, bad) || before[name] == http.StatusUnauthorized {
				t.Fatalf("%s does not know the token", name)
			}
		}

		// As the command does it, beside the servers.
		keys, err := signing.New(signing.Config{Store: w.Store, Sealer: w.Storage.Sealer, Now: w.Clock.Now, MaxTokenLife: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		next, err := keys.Compromise(t.Context(), audit.Origin{Actor: audit.Operator}, w.Project.ID, bad)
		if err != nil || next.ID == "" {
			t.Fatalf("next %q, %v", next.ID, err)
		}
		pressed := time.Now()
		for name, s := range servers {
			soon(t, 3*time.Second, "refused by "+name, func() bool { return !active(s, old.Access) })
			if took := time.Since(pressed); took > 1500*time.Millisecond { // a second, and a slow computer
				t.Errorf("%s took %s", name, took)
			}
			if status := userinfo(s, old.Access); status != http.StatusUnauthorized {
				t.Errorf("%s answers userinfo with %d", name, status)
			}
			if published(s, bad) || !published(s, next.ID) {
				t.Errorf("%s publishes the key", name)
			}
		}
		refresh := old.Refresh
		for name, s := range servers {
			got := form(s, oauth.PathToken, url.Values{"grant_type": {"refresh_token"}, "client_id": {w.client.ID}, "refresh_token": {refresh}})
			var given tokens
			if err := json.Unmarshal([]byte(got.body), &given); err != nil || got.status != http.StatusOK {
				t.Fatalf("%s refreshes with %d %s", name, got.status, got.body)
			}
			if kid := kidOf(t, given.Access); kid != next.ID {
				t.Errorf("%s signs with %s, want %s", name, kid, next.ID)
			}
			refresh = given.Refresh
			for where, other := range servers {
				if !active(other, given.Access) || userinfo(other, given.Access) != before[where] {
					t.Errorf("%s refuses the new token of %s", where, name)
				}
			}
		}
		page, err := w.Store.Events(t.Context(), audit.Query{ProjectID: w.Project.ID, Kinds: []audit.Kind{audit.KeyCompromised}, Limit: 10})
		if err != nil || len(page.Events) != 1 || page.Events[0].Object != bad || page.Events[0].Actor != audit.Operator {
			t.Errorf("events %v, %v", page.Events, err)
		}
	})
}

// A key that is taken out while a server cannot read the keys counts nowhere as
// soon as it can: what was missed is made up without another change.
//
// Row: K01.
func TestCompromisedKeyIsMadeUp(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		w := newTraffic(t, c)
		w.Ready(t)
		w.Follow(t)
		u, err := url.Parse(w.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		published := func(kid string) bool {
			return strings.Contains(ask(t, w.Server, "GET", w.Address+oauth.PathJWKS, nil, "Host", u.Host).body, kid)
		}
		w.redeemNewest()
		bad := kidOf(t, w.tokens[0].Access)
		beside := w.SQL(t)
		all := func(statements ...string) {
			t.Helper()
			tx, err := beside.BeginTx(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer tx.Rollback()
			for _, statement := range statements {
				if _, err := tx.ExecContext(t.Context(), statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		all("DELETE FROM signing_key WHERE id = '"+bad+"'",
			"UPDATE project_counter SET change = change + 1 WHERE project_id = '"+w.Project.ID+"'",
			"ALTER TABLE signing_key RENAME TO elsewhere")
		w.Follow(t)
		if !published(bad) {
			t.Fatal("the server read the keys: nothing was missed")
		}
		all("ALTER TABLE elsewhere RENAME TO signing_key")
		soon(t, 3*time.Second, "taken out of the key set", func() bool { return !published(bad) })
	})
}

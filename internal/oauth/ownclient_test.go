package oauth_test

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

// own is a client that registered itself, with its answer.
type own struct {
	ID            string  `json:"client_id"`
	Secret        string  `json:"client_secret"`
	Token         string  `json:"registration_access_token"`
	URI           string  `json:"registration_client_uri"`
	Name          string  `json:"client_name"`
	Method        string  `json:"token_endpoint_auth_method"`
	SecretExpires *int64  `json:"client_secret_expires_at"`
	IssuedAt      float64 `json:"client_id_issued_at"`
}

// ownMetadata is what such a client says of itself, with changes; nil takes one out.
func ownMetadata(changes map[string]any) string {
	m := map[string]any{
		"client_name": "Own", "redirect_uris": []string{callback}, "grant_types": []string{"authorization_code", "refresh_token"},
		"token_endpoint_auth_method": "client_secret_basic",
	}
	for name, value := range changes {
		if m[name] = value; value == nil {
			delete(m, name)
		}
	}
	body, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(body)
}

// own registers one.
func (w *world) own(t *testing.T, changes map[string]any) own {
	t.Helper()
	return readOwn(t, http.StatusCreated, w.send(t, http.MethodPost, oauth.PathRegister, http.Header{"Content-Type": {"application/json"}}, ownMetadata(changes)))
}

func readOwn(t *testing.T, status int, a answer) own {
	t.Helper()
	var o own
	if a.code != status || a.header.Get("Cache-Control") != "no-store" {
		t.Fatalf("got %d %v %s", a.code, a.header, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// asOwn makes a request about a client with a token.
func (w *world) asOwn(t *testing.T, method, id, token, body string) answer {
	t.Helper()
	header := http.Header{"Authorization": {"Bearer " + token}}
	if body != "" {
		header.Set("Content-Type", "application/json")
	}
	return w.send(t, method, oauth.PathRegister+"/"+id, header, body)
}

// replace has a client replace its registration, with changes as in ownMetadata.
func (w *world) replace(t *testing.T, o own, changes map[string]any) answer {
	t.Helper()
	changes = maps.Clone(changes)
	if changes == nil {
		changes = map[string]any{}
	}
	if _, given := changes["client_id"]; !given {
		changes["client_id"] = o.ID
	}
	return w.asOwn(t, http.MethodPut, o.ID, o.Token, ownMetadata(changes))
}

// asClient is what the store has of one.
func (w *world) asClient(t *testing.T, o own) oauth.Client {
	t.Helper()
	c, err := w.Store.Client(t.Context(), w.Project.ID, o.ID)
	if err != nil {
		t.Fatal(err)
	}
	w.keys[o.ID] = o.Secret
	return c
}

// Row: G18. Whoever has not the token of the very client is told the same, by each
// method, whatever is wrong and whether the client is there.
//
// Proves: RFC7592-2-a, RFC7592-2-b, RFC7592-2.1-b, RFC7592-2.2-h, RFC7592-2.3-c
func TestOwnClientRefusesOthers(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		mine, other := w.own(t, nil), w.own(t, map[string]any{"client_name": "Other"})
		old := mine.Token
		mine = readOwn(t, http.StatusOK, w.replace(t, mine, nil))
		gone := w.own(t, nil)
		if a := w.asOwn(t, http.MethodDelete, gone.ID, gone.Token, ""); a.code != http.StatusNoContent {
			t.Fatalf("%d %s", a.code, a.body)
		}
		flipped := []byte(mine.Token)
		flipped[20] ^= 1
		public := w.self(t, "https://client.example.test/public")
		access := w.tokens(t, w.public).Access
		var want string
		for _, test := range []struct {
			name, id, authorization, reason string
		}{
			{"G18 nothing", mine.ID, "", "no registration access token"},
			{"G18 not Bearer", mine.ID, "Basic " + mine.Token, "no registration access token"},
			{"G18 no token at all", mine.ID, "Bearer x", "no registration access token"},
			{"G18 another letter", mine.ID, "Bearer " + string(flipped), "no registration access token"},
			{"G18 its secret", mine.ID, "Bearer " + mine.Secret, "no registration access token"},
			{"G18 an access token", mine.ID, "Bearer " + access, "no registration access token"},
			{"G18 another client's", mine.ID, "Bearer " + other.Token, "wrong registration access token"},
			{"G18 old after rotation", mine.ID, "Bearer " + old, "wrong registration access token"},
			{"G18 of a client that is gone", gone.ID, "Bearer " + gone.Token, "unknown client"},
			{"G18 a client that never was", "connected-app-test-0", "Bearer " + mine.Token, "unknown client"},
			{"G18 a client that others share", public, "Bearer " + mine.Token, "wrong registration access token"},
			{"G18 a client that was registered by hand", w.basic.ID, "Bearer " + mine.Token, "wrong registration access token"},
		} {
			t.Run(test.name, func(t *testing.T) {
				w.Clock.Advance(2 * time.Minute)
				for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
					header := http.Header{"Content-Type": {"application/json"}}
					if test.authorization != "" {
						header.Set("Authorization", test.authorization)
					}
					before := w.events(t)
					a := w.send(t, method, oauth.PathRegister+"/"+test.id, header, ownMetadata(map[string]any{"client_id": test.id, "client_name": "Stolen"}))
					refusedToken(t, a, http.StatusUnauthorized, "invalid_token")
					if got := a.header.Get("WWW-Authenticate") + a.body; want == "" {
						want = got
					} else if got != want {
						t.Errorf("%s tells more:\n%s\nelsewhere:\n%s", method, got, want)
					}
					if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), `Bearer realm="postern", error="invalid_token"`) {
						t.Errorf("WWW-Authenticate %q", a.header.Get("WWW-Authenticate"))
					}
					before["client.refused!"]++
					if diff := cmp.Diff(before, w.events(t)); diff != "" {
						t.Errorf("%s: events (-want +got): %s", method, diff)
					}
				}
				page, err := w.Store.Events(t.Context(), audit.Query{ProjectID: w.Project.ID, Kinds: []audit.Kind{audit.ClientRefused}, Limit: 1})
				if err != nil || len(page.Events) != 1 || page.Events[0].Reason != test.reason || page.Events[0].ClientID != test.id {
					t.Errorf("recorded %+v, %v", page.Events, err)
				}
			})
		}
		if o := readOwn(t, http.StatusOK, w.asOwn(t, http.MethodGet, mine.ID, mine.Token, "")); o.Name != "Own" {
			t.Errorf("after all that it is %+v", o)
		}
		// At the address below the project's id it is the same endpoint, and the other
		// methods are none.
		path := "/v1/public/" + w.Project.ID + "/oauth2/register/" + mine.ID
		readOwn(t, http.StatusOK, w.send(t, http.MethodGet, path, http.Header{"Authorization": {"Bearer " + mine.Token}}, ""))
		for _, method := range []string{http.MethodPost, http.MethodPatch} {
			if a := w.asOwn(t, method, mine.ID, mine.Token, "{}"); a.code != http.StatusMethodNotAllowed {
				t.Errorf("%s: %d", method, a.code)
			}
		}
	})
}

// Below an issuer with a path the address is below that path, and works.
func TestOwnClientBelowAPath(t *testing.T) {
	w := newWorld(t, servertest.Config{Path: "/tenant"})
	mine := w.own(t, nil)
	if mine.URI != w.Issuer+oauth.PathRegister+"/"+mine.ID || !strings.Contains(mine.URI, "/tenant/") {
		t.Errorf("its address is %s", mine.URI)
	}
	readOwn(t, http.StatusOK, w.replace(t, mine, nil))
}

// Wrong tokens are counted by address; a right one works all the same, and the
// trail keeps as much as of any refusal.
//
// Proves: RFC7592-5-a
func TestOwnClientLimitsGuesses(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		c.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		w := newWorld(t, c)
		mine, other := w.own(t, nil), w.own(t, nil)
		get := func(address, token string) answer {
			return w.send(t, http.MethodGet, oauth.PathRegister+"/"+mine.ID, http.Header{"Authorization": {"Bearer " + token}, "X-Forwarded-For": {address}}, "")
		}
		w.Clock.Advance(time.Minute)
		for i := range 60 {
			if a := get("198.51.100.7", other.Token); a.code != http.StatusUnauthorized {
				t.Fatalf("guess %d: %d %s", i, a.code, a.body)
			}
		}
		get("198.51.100.7", other.Token).refused(http.StatusTooManyRequests, "temporarily_unavailable")
		if a := get("198.51.100.7", mine.Token); a.code != http.StatusOK {
			t.Errorf("the right token: %d %s", a.code, a.body)
		}
		if a := get("198.51.100.8", other.Token); a.code != http.StatusUnauthorized {
			t.Errorf("from elsewhere: %d %s", a.code, a.body)
		}
		if n := w.events(t)["client.refused!"]; n != 21 {
			t.Errorf("%d events, want 20 of the one address and one of the other", n)
		}
	})
}

// Row: G19. What may not be registered may not become of a registration either.
//
// Proves: RFC7592-2.2-b, RFC7592-2.2-c, RFC7592-2.2-d, RFC7592-2.2-f
func TestOwnClientIsCheckedAsAtRegistration(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		private := []string{"cursor://done/cb"}
		mine := w.own(t, map[string]any{"redirect_uris": private})
		other := w.own(t, nil)
		kept := w.asClient(t, mine)
		for _, test := range []struct {
			name    string
			changes map[string]any
			status  int
			code    string
		}{
			{"G19 plain http", map[string]any{"redirect_uris": []string{"http://client.example.test/cb"}}, 400, "invalid_redirect_uri"},
			{"G19 no redirect URI", map[string]any{"redirect_uris": nil}, 400, "invalid_redirect_uri"},
			{"G19 script", map[string]any{"redirect_uris": []string{callback, "javascript:alert(1)"}}, 400, "invalid_redirect_uri"},
			{"G19 link inside", map[string]any{"client_uri": "https://169.254.169.254/"}, 400, "invalid_client_metadata"},
			{"G19 implicit", map[string]any{"grant_types": []string{"implicit"}}, 400, "invalid_client_metadata"},
			{"G19 keys without a key", map[string]any{"token_endpoint_auth_method": "private_key_jwt"}, 400, "invalid_client_metadata"},
			{"G19 no authentication any more", map[string]any{"token_endpoint_auth_method": "none"}, 400, "invalid_client_metadata"},
			{"G19 software statement", map[string]any{"software_statement": "e30.e30."}, 400, "unapproved_software_statement"},
			{"G19 17 KiB", map[string]any{"client_name": strings.Repeat("x", 17<<10)}, 413, "invalid_request"},
			{"without client_id", map[string]any{"client_id": nil}, 400, "invalid_client_metadata"},
			{"another's client_id", map[string]any{"client_id": other.ID}, 400, "invalid_client_metadata"},
			{"its token", map[string]any{"registration_access_token": mine.Token}, 400, "invalid_client_metadata"},
			{"its address", map[string]any{"registration_client_uri": mine.URI}, 400, "invalid_client_metadata"},
			{"the end of its secret", map[string]any{"client_secret_expires_at": 0}, 400, "invalid_client_metadata"},
			{"its beginning", map[string]any{"client_id_issued_at": mine.IssuedAt}, 400, "invalid_client_metadata"},
			{"a secret of its choice", map[string]any{"client_secret": "hunter2"}, 400, "invalid_client_metadata"},
			{"another's secret", map[string]any{"client_secret": other.Secret}, 400, "invalid_client_metadata"},
			{"an empty secret", map[string]any{"client_secret": ""}, 400, "invalid_client_metadata"},
		} {
			t.Run(test.name, func(t *testing.T) {
				before := w.events(t)
				a := w.replace(t, mine, test.changes)
				refusedToken(t, a, test.status, test.code)
				if test.status != http.StatusRequestEntityTooLarge {
					before["client.registration_refused!"]++
				}
				if diff := cmp.Diff(before, w.events(t)); diff != "" {
					t.Errorf("events (-want +got): %s", diff)
				}
			})
		}
		a := w.asOwn(t, http.MethodPut, mine.ID, mine.Token, `{"client_id":"`+mine.ID+`","client_id":"`+mine.ID+`","redirect_uris":["`+callback+`"]}`)
		a.refused(http.StatusBadRequest, "invalid_client_metadata")
		if diff := cmp.Diff(kept, w.asClient(t, mine)); diff != "" {
			t.Errorf("a refusal changed it: %s", diff)
		}

		// The rules are those of today.
		change := func(edit func(s *project.Settings)) {
			t.Helper()
			if _, err := w.Projects.Change(t.Context(), w.Project.ID, func(p *project.Project) error { edit(&p.Settings); return nil }); err != nil {
				t.Fatal(err)
			}
			w.Follow(t)
		}
		change(func(s *project.Settings) { s.PrivateUseSchemes = []string{"zed"} })
		w.replace(t, mine, map[string]any{"redirect_uris": private}).refused(http.StatusBadRequest, "invalid_redirect_uri")
		change(func(s *project.Settings) { s.DynamicRegistration = false })
		w.replace(t, mine, nil).refused(http.StatusForbidden, "access_denied")
		readOwn(t, http.StatusOK, w.asOwn(t, http.MethodGet, mine.ID, mine.Token, ""))
		if a := w.asOwn(t, http.MethodDelete, mine.ID, mine.Token, ""); a.code != http.StatusNoContent {
			t.Errorf("delete while registration is off: %d %s", a.code, a.body)
		}
	})
}

// Row: G20. Secret and token are shown by the answer that made them, which nobody
// may keep, and only their hashes are stored. A client that others share has
// neither token nor address.
//
// Proves: RFC7592-2.1-a, RFC7592-2.1-e, RFC7592-2.2-j, RFC7592-3-a, RFC7592-3-b, RFC7592-5-b
func TestOwnClientAnswers(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		mine := w.own(t, nil)
		if mine.Secret == "" || !strings.HasPrefix(mine.Token, "pst_rat_") || mine.URI != w.Issuer+oauth.PathRegister+"/"+mine.ID || mine.SecretExpires == nil || *mine.SecretExpires != 0 {
			t.Errorf("registered as %+v", mine)
		}
		read := readOwn(t, http.StatusOK, w.asOwn(t, http.MethodGet, mine.ID, mine.Token, ""))
		want := mine
		want.Secret = ""
		if diff := cmp.Diff(want, read); diff != "" {
			t.Errorf("read (-registered): %s", diff)
		}
		changed := readOwn(t, http.StatusOK, w.replace(t, mine, map[string]any{"client_secret": mine.Secret}))
		if changed.ID != mine.ID || changed.Token == mine.Token || changed.Secret != "" || changed.URI != mine.URI || changed.IssuedAt != mine.IssuedAt {
			t.Errorf("changed to %+v", changed)
		}
		stored := w.count(t, `SELECT rat_id || ' ' || metadata || ' ' || secret_id || ' ' || secret_last4, length(rat_hash) FROM client WHERE project_id = $1 AND rat_id <> ''`)
		for row, length := range stored {
			for _, text := range []string{mine.Secret, mine.Token, changed.Token} {
				if strings.Contains(row, text[8:]) {
					t.Errorf("the row holds a secret: %s", row)
				}
			}
			if length != 32 {
				t.Errorf("a hash of %d bytes", length)
			}
		}
		if len(stored) != 1 {
			t.Errorf("%d clients with a token", len(stored))
		}
		header := http.Header{"Content-Type": {"application/json"}, "Origin": {"https://elsewhere.example.test"}}
		a := w.send(t, http.MethodPost, oauth.PathRegister, header, ownMetadata(map[string]any{"token_endpoint_auth_method": "none"}))
		if o := readOwn(t, http.StatusCreated, a); o.Token != "" || o.URI != "" || strings.Contains(a.body, "registration_") {
			t.Errorf("a shared client got %s", a.body)
		}
		header.Set("Authorization", "Bearer "+changed.Token)
		if a := w.send(t, http.MethodGet, oauth.PathRegister+"/"+mine.ID, header, ""); a.code != http.StatusOK || a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("a page of elsewhere reads %d %v", a.code, a.header)
		}
		for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
			header := http.Header{"Origin": {"https://elsewhere.example.test"}, "Access-Control-Request-Method": {method}, "Access-Control-Request-Headers": {"authorization,content-type"}}
			if a := w.send(t, http.MethodOptions, oauth.PathRegister+"/"+mine.ID, header, ""); a.code != http.StatusOK || a.header.Get("Access-Control-Allow-Methods") != method {
				t.Errorf("before %s: %d %v", method, a.code, a.header)
			}
		}
		w.Clock.Advance(20 * 24 * time.Hour)
		readOwn(t, http.StatusOK, w.asOwn(t, http.MethodGet, mine.ID, changed.Token, ""))
	})
}

// A change replaces everything and takes nothing back that people gave; they see
// it when the client asks the next time.
//
// Proves: RFC7592-2.2-a, RFC7592-2.2-e, RFC7592-2.2-g, MCP-AS-40
func TestOwnClientReplaces(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		mine := w.own(t, map[string]any{"software_id": "own", "contacts": []string{"ada@example.test"}})
		client := w.asClient(t, mine)
		held := w.tokens(t, client, "scope", "read:todos")
		if boxes, _ := w.asks(t, client, "scope", "read:todos write:todos"); !slices.Equal(boxes, []string{"write:todos"}) {
			t.Errorf("before, people are asked about %v", boxes)
		}
		w.Clock.Advance(time.Hour)
		mine.Token = readOwn(t, http.StatusOK, w.replace(t, mine, map[string]any{"client_name": "Renamed"})).Token
		after := w.asClient(t, mine)
		if m := after.Metadata; m.ClientName != "Renamed" || m.SoftwareID != "" || m.Contacts != nil {
			t.Errorf("what was left out is still there: %+v", m)
		}
		if !after.LastRegisteredAt.Equal(w.Clock.Now()) || !after.CreatedAt.Equal(client.CreatedAt) || after.SecretID != client.SecretID {
			t.Errorf("kept as %+v", after)
		}
		if got := w.newestEvent(t, audit.ClientChanged); got.Actor != mine.ID || got.ClientID != mine.ID || got.Address == "" {
			t.Errorf("recorded %+v", got)
		}
		// What people gave it goes on; of what it asks for next they see its new name.
		held = got(t, w.token(t, after, refresh(held.Refresh)))
		if !w.active(t, held.Access) {
			t.Error("its token has ended")
		}
		if boxes, _ := w.asks(t, after, "scope", "read:todos write:todos"); !slices.Equal(boxes, []string{"read:todos", "write:todos"}) {
			t.Errorf("after, people are asked about %v", boxes)
		}

		// By another method: the same secret in the body, then a key, then a new secret.
		// A refresh token is good for the method that it was given to.
		o := readOwn(t, http.StatusOK, w.replace(t, mine, map[string]any{"token_endpoint_auth_method": "client_secret_post", "client_secret": mine.Secret}))
		mine.Token = o.Token
		w.token(t, w.asClient(t, mine), refresh(held.Refresh)).refused(http.StatusBadRequest, "invalid_grant")
		held = w.tokens(t, w.asClient(t, mine))
		holder := newKeyholder(t, w.Issuer, "one", w.Clock.Now)
		holder.id = mine.ID
		o = readOwn(t, http.StatusOK, w.replace(t, mine, map[string]any{"token_endpoint_auth_method": "private_key_jwt", "jwks": json.RawMessage(holder.set())}))
		if mine.Token = o.Token; o.Secret != "" || o.SecretExpires != nil {
			t.Errorf("with a key it is %+v", o)
		}
		a := w.send(t, http.MethodPost, oauth.PathToken, isForm, refresh(held.Refresh, "client_id", mine.ID, "client_secret", mine.Secret).Encode())
		a.refused(http.StatusUnauthorized, "invalid_client")
		got(t, w.send(t, http.MethodPost, oauth.PathToken, isForm, proved(redeem(w.code(t, request(mine.ID))), holder.assertion(nil)).Encode()))
		w.replace(t, mine, map[string]any{"client_secret": mine.Secret}).refused(http.StatusBadRequest, "invalid_client_metadata")
		o = readOwn(t, http.StatusOK, w.replace(t, mine, nil))
		if o.Secret == "" || o.Secret == mine.Secret || o.SecretExpires == nil || o.Method != "client_secret_basic" {
			t.Errorf("with a secret again it is %+v", o)
		}
		if c := w.asClient(t, o); c.HasKeys() || c.SecretLast4 != o.Secret[len(o.Secret)-4:] {
			t.Errorf("kept as %+v", c)
		}
		w.tokens(t, w.asClient(t, o))
	})
}

// newestEvent is the newest event of a kind.
func (w *world) newestEvent(t *testing.T, kind audit.Kind) audit.Event {
	t.Helper()
	page, err := w.Store.Events(t.Context(), audit.Query{ProjectID: w.Project.ID, Kinds: []audit.Kind{kind}, Limit: 1})
	if err != nil || len(page.Events) != 1 {
		t.Fatalf("event %s: %v, %v", kind, page.Events, err)
	}
	return page.Events[0]
}

// Deleting ends everything at once.
//
// Proves: RFC7592-2.1-c, RFC7592-2.3-a, RFC7592-2.3-b, RFC7592-5-c, RFC7592-5-d
func TestOwnClientDeletes(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		mine := w.own(t, nil)
		client := w.asClient(t, mine)
		held, code := w.tokens(t, client), w.code(t, request(mine.ID))
		a := w.asOwn(t, http.MethodDelete, mine.ID, mine.Token, "")
		if a.code != http.StatusNoContent || a.body != "" || a.header.Get("Cache-Control") != "no-store" {
			t.Fatalf("%d %v %q", a.code, a.header, a.body)
		}
		if e := w.newestEvent(t, audit.ClientDeleted); e.Actor != mine.ID || e.ClientID != mine.ID || e.Object != mine.ID {
			t.Errorf("recorded %+v", e)
		}
		if w.active(t, held.Access) || w.active(t, held.Refresh) {
			t.Error("its tokens live")
		}
		w.token(t, client, refresh(held.Refresh)).refused(http.StatusUnauthorized, "invalid_client")
		w.token(t, client, redeem(code)).refused(http.StatusUnauthorized, "invalid_client")
		if page := w.browser.Authorize(t, request(mine.ID)); page.Status != http.StatusBadRequest {
			t.Errorf("its authorization request: %d", page.Status)
		}
		w.asOwn(t, http.MethodDelete, mine.ID, mine.Token, "").refused(http.StatusUnauthorized, "invalid_token")
	})
}

// A client that an operator shut out stays as it is: neither another name nor
// another registration under the same id takes the block away.
//
// Proves: RFC7592-2.2-i
func TestOwnClientBlocked(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		mine := w.own(t, nil)
		if _, err := w.Clients.Block(t.Context(), w.Project, mine.ID); err != nil {
			t.Fatal(err)
		}
		readOwn(t, http.StatusOK, w.asOwn(t, http.MethodGet, mine.ID, mine.Token, ""))
		w.replace(t, mine, map[string]any{"client_name": "Innocent"}).refused(http.StatusForbidden, "access_denied")
		w.asOwn(t, http.MethodDelete, mine.ID, mine.Token, "").refused(http.StatusForbidden, "access_denied")
		if c := w.asClient(t, mine); !c.Blocked || c.Metadata.ClientName != "Own" {
			t.Errorf("now it is %+v", c)
		}
		if err := w.Clients.Unblock(t.Context(), w.Project, mine.ID); err != nil {
			t.Fatal(err)
		}
		readOwn(t, http.StatusOK, w.replace(t, mine, nil))
	})
}

// Of a hundred changes with one token one is made, and its token works.
//
// Proves: RFC7592-2-b
func TestOwnClientRace(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		mine := w.own(t, nil)
		body := ownMetadata(map[string]any{"client_id": mine.ID, "client_name": "Raced"})
		header := http.Header{"Authorization": {"Bearer " + mine.Token}, "Content-Type": {"application/json"}}
		var mu sync.Mutex
		var winners []answer
		codes := map[int]int{}
		var wait sync.WaitGroup
		for range 100 {
			wait.Go(func() {
				a, err := w.try(t, http.MethodPut, oauth.PathRegister+"/"+mine.ID, header, body)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				if codes[a.code]++; a.code == http.StatusOK {
					winners = append(winners, a)
				}
			})
		}
		wait.Wait()
		if len(winners) != 1 || codes[http.StatusOK]+codes[http.StatusUnauthorized]+codes[http.StatusTooManyRequests] != 100 {
			t.Fatalf("answers %v", codes)
		}
		mine.Token = readOwn(t, http.StatusOK, winners[0]).Token
		readOwn(t, http.StatusOK, w.asOwn(t, http.MethodGet, mine.ID, mine.Token, ""))
		if n := w.events(t)["client.changed"]; n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

// replaceFrom has a client of the rig replace its registration by a text.
func (r *rig) replaceFrom(o own, body string) answer {
	r.Helper()
	req := httptest.NewRequest(http.MethodPut, oauth.PathRegister+"/"+o.ID, strings.NewReader(body))
	req.SetPathValue("client_id", o.ID)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+o.Token)
	return r.send(r.server.ReplaceRegistration, req)
}

// Changes are limited like registrations, apart from them.
func TestOwnClientChangesAreLimited(t *testing.T) {
	r := newRig(t)
	o := readOwn(t, http.StatusCreated, r.register(ownMetadata(nil)))
	body := ownMetadata(map[string]any{"client_id": o.ID})
	for range 60 {
		o = readOwn(t, http.StatusOK, r.replaceFrom(o, body))
	}
	r.replaceFrom(o, body).refused(http.StatusTooManyRequests, "temporarily_unavailable")
	readOwn(t, http.StatusCreated, r.register(ownMetadata(nil)))
	r.clock.Advance(time.Hour)
	readOwn(t, http.StatusOK, r.replaceFrom(o, body))
}

// guessedRow has other tokens than the client was given: one with the same id, or
// with the same hash.
type guessedRow struct {
	oauth.Store
	guess func(c *oauth.Client)
}

func (g guessedRow) Client(ctx context.Context, projectID, id string) (oauth.Client, error) {
	c, err := g.Store.Client(ctx, projectID, id)
	g.guess(&c)
	return c, err
}

// Row: G18. The whole token counts: who knows its id, which is in no answer but
// in the database, guesses the rest as little as who has the hash of another.
//
// Proves: RFC7592-5-e
func TestOwnClientComparesTheWholeToken(t *testing.T) {
	r := newRig(t)
	o := readOwn(t, http.StatusCreated, r.register(ownMetadata(nil)))
	body := ownMetadata(map[string]any{"client_id": o.ID})
	for name, guess := range map[string]func(c *oauth.Client){
		"the id alone":   func(c *oauth.Client) { c.TokenHash = append([]byte{c.TokenHash[0] ^ 1}, c.TokenHash[1:]...) },
		"the hash alone": func(c *oauth.Client) { c.TokenID = strings.Replace(c.TokenID, c.TokenID[:1], "f", 1) },
		"no hash":        func(c *oauth.Client) { c.TokenHash = nil },
	} {
		t.Run(name, func(t *testing.T) {
			r.on(guessedRow{r.store, guess}).replaceFrom(o, body).refused(http.StatusUnauthorized, "invalid_token")
		})
	}
	readOwn(t, http.StatusOK, r.replaceFrom(o, body))
}

package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/oauth"
)

// asker is who introspects: Basic credentials, or those in the body.
type asker struct {
	id, secret string
	inBody     bool
}

func (r *rig) notes() asker {
	return asker{id: "resource-server-test-notes", secret: r.keys["notes"].Text}
}

func (r *rig) files() asker {
	return asker{id: "resource-server-test-files", secret: r.keys["files"].Text}
}
func (r *rig) projectKey() asker { return asker{id: r.project.ID, secret: r.keys["project"].Text} }

func (r *rig) introspect(who asker, token string) answer {
	r.Helper()
	form := url.Values{"token": {token}}
	if !who.inBody {
		return r.post(r.server.Introspect, who.id, who.secret, form)
	}
	form.Set("client_id", who.id)
	if who.secret != "" {
		form.Set("client_secret", who.secret)
	}
	return r.post(r.server.Introspect, "", "", form)
}

// dead checks that an answer says that a token is not active, and nothing else.
func (a answer) dead() {
	a.Helper()
	if a.code != http.StatusOK || strings.TrimSpace(a.body) != `{"active":false}` || a.header.Get("Cache-Control") != "no-store" {
		a.Fatalf("got %d %v %s", a.code, a.header, a.body)
	}
}

// Proves: RFC7662-2.2-a, RFC7662-2.2-b, MCP-AS-51
func TestIntrospect(t *testing.T) {
	r := newRig(t)
	client, key := r.client("client_secret_basic")
	now := float64(r.clock.Now().Unix())
	notes := r.authorize(client, key, rigNotes, "read:notes", "write:notes")
	files := r.authorize(client, key, rigFiles, "read:notes")
	common := func(scope, kind string, aud ...string) map[string]any {
		return map[string]any{
			"active": true, "sub": rigSubject, "iss": rigIssuer, "aud": strs(aud...), "client_id": client.ID, "scope": scope,
			"token_type": kind, "exp": now + 900, "iat": now, "nbf": now,
		}
	}
	self := asker{id: client.ID, secret: key}
	for _, test := range []struct {
		name  string
		who   asker
		token string
		want  map[string]any
	}{
		{"resource server", r.notes(), notes.Access, common("read:notes write:notes", "Bearer", rigNotes)},
		{"resource server, in the body", asker{id: r.notes().id, secret: r.notes().secret, inBody: true}, notes.Access, common("read:notes write:notes", "Bearer", rigNotes)},
		{"resource server of the compatible profile", r.files(), files.Access, common("read:notes", "Bearer", r.project.ID, rigFiles)},
		{"project secret", r.projectKey(), notes.Access, common("read:notes write:notes", "access_token", rigNotes)},
		{"the client itself", self, files.Access, common("read:notes", "access_token", r.project.ID, rigFiles)},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := r.introspect(test.who, test.token)
			if a.code != http.StatusOK || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("got %d %v %s", a.code, a.header, a.body)
			}
			got := a.json()
			for _, name := range []string{"jti", "sid", "grant_id"} {
				if s, _ := got[name].(string); s == "" {
					t.Errorf("no %s", name)
				}
			}
			if diff := cmp.Diff(test.want, without(got, "jti", "sid", "grant_id")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Proves: RFC7662-2.1-b, RFC7662-2.3-a
func TestIntrospectRefusesStrangers(t *testing.T) { eachRig(t, introspectRefusesStrangers) }

func introspectRefusesStrangers(t *testing.T, newRig rigMaker) {
	r := newRig(t)
	client, key := r.client("client_secret_basic")
	token := r.authorize(client, key, rigNotes, "read:notes").Access
	for name, who := range map[string]asker{
		"I01 nobody":                              {inBody: true},
		"I01 resource server, wrong secret":       {id: r.notes().id, secret: r.files().secret},
		"I01 resource server without a secret":    {id: r.notes().id},
		"I01 resource server by its id alone":     {id: r.notes().id, inBody: true},
		"I01 project, wrong secret":               {id: r.project.ID, secret: r.notes().secret},
		"I01 confidential client by its id alone": {id: client.ID, inBody: true},
		"I01 client by another method":            {id: client.ID, secret: key, inBody: true},
		"I01 unknown":                             {id: "resource-server-test-none", secret: r.notes().secret},
	} {
		t.Run(name, func(t *testing.T) {
			a := r.introspect(who, token)
			a.refused(http.StatusUnauthorized, "invalid_client")
			if challenge := a.header.Get("WWW-Authenticate"); strings.HasPrefix(challenge, "Basic ") == who.inBody {
				t.Errorf("challenge %q", challenge)
			}
		})
	}
	t.Run("two ways at once", func(t *testing.T) {
		r.post(r.server.Introspect, r.notes().id, r.notes().secret, url.Values{"token": {token}, "client_secret": {"x"}}).
			refused(http.StatusBadRequest, "invalid_request")
	})
	t.Run("no token", func(t *testing.T) {
		r.post(r.server.Introspect, r.notes().id, r.notes().secret, url.Values{}).refused(http.StatusBadRequest, "invalid_request")
	})
	t.Run("I06 parameters in the address", func(t *testing.T) {
		req := httptest.NewRequest(http.MethodPost, "/?token="+token, strings.NewReader(url.Values{"token": {token}}.Encode()))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.SetBasicAuth(r.notes().id, r.notes().secret)
		r.send(r.server.Introspect, req).refused(http.StatusBadRequest, "invalid_request")
	})
}

// A dead token, and a living one of somebody else, look the same.
//
// Proves: RFC7662-2.2-c, RFC7662-2.2-d, RFC7662-4-a
func TestIntrospectInactive(t *testing.T) { eachRig(t, introspectInactive) }

func introspectInactive(t *testing.T, newRig rigMaker) {
	r := newRig(t)
	client, key := r.client("client_secret_basic")
	other, otherKey := r.client("client_secret_basic")
	got := r.authorize(client, key, rigNotes, "read:notes", "openid")
	self := asker{id: client.ID, secret: key}
	for name, test := range map[string]struct {
		who   asker
		token string
	}{
		"I02 another resource server":      {r.files(), got.Access},
		"I02 another client":               {asker{id: other.ID, secret: otherKey}, got.Access},
		"I02 another client, refresh":      {asker{id: other.ID, secret: otherKey}, got.Refresh},
		"I03 garbage":                      {r.projectKey(), "garbage"},
		"I03 unsigned":                     {r.projectKey(), "eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0." + strings.Split(got.Access, ".")[1] + "."},
		"I03 64 KiB":                       {r.projectKey(), strings.Repeat("a", 64<<10)},
		"I03 64 KiB, as a JWT":             {r.notes(), got.Access + strings.Repeat("a", 64<<10)},
		"I04 refresh by a resource server": {r.notes(), got.Refresh},
		"I07 cut":                          {r.notes(), got.Access[:len(got.Access)-1]},
		"I07 other tail":                   {r.notes(), got.Access[:len(got.Access)-4] + strings.Map(otherLetter, got.Access[len(got.Access)-4:])},
		"I07 refresh, cut":                 {self, got.Refresh[:len(got.Refresh)-1]},
		"an id_token":                      {r.projectKey(), got.ID},
	} {
		t.Run(name, func(t *testing.T) {
			a := r.introspect(test.who, test.token)
			a.T = t
			a.dead()
		})
	}
	t.Run("refresh token, guessed", func(t *testing.T) {
		r.on(guessedStore{r.store}).introspect(self, got.Refresh).dead()
	})
	t.Run("expired", func(t *testing.T) {
		r := newRig(t)
		client, key := r.client("client_secret_basic")
		token := r.authorize(client, key, rigNotes, "read:notes").Access
		r.clock.Advance(15*time.Minute - time.Second)
		if a := r.introspect(r.notes(), token); a.json()["active"] != true {
			t.Fatalf("a second before its end: %s", a.body)
		}
		r.clock.Advance(time.Second)
		r.introspect(r.notes(), token).dead()
	})
	t.Run("I05 person locked", func(t *testing.T) {
		r := newRig(t)
		client, key := r.client("client_secret_basic")
		got := r.authorize(client, key, rigNotes, "read:notes")
		r.lock(true)
		r.introspect(r.notes(), got.Access).dead()
		r.introspect(asker{id: client.ID, secret: key}, got.Refresh).dead()
	})
	t.Run("client deleted", func(t *testing.T) {
		r := newRig(t)
		client, key := r.client("client_secret_basic")
		token := r.authorize(client, key, rigNotes, "read:notes").Access
		if err := oauth.NewSetup(r.store, r.clock.Now).DeleteClient(t.Context(), r.project, client.ID); err != nil {
			t.Fatal(err)
		}
		r.introspect(r.notes(), token).dead()
	})
}

func TestIntrospectNarrows(t *testing.T) {
	r := newRig(t, members)
	client, key := r.client("client_secret_basic")
	token := r.authorize(client, key, rigNotes, "read:notes", "write:notes").Access
	r.people.lost = []string{"write:notes"}
	if got := r.introspect(r.notes(), token).json(); got["active"] != true || got["scope"] != "read:notes" {
		t.Errorf("got %v", got)
	}
	r.people.lost = []string{"write:notes", "read:notes"}
	if got := r.introspect(r.notes(), token).json(); got["active"] != true || got["scope"] != "" {
		t.Errorf("scope is not a string any more: %v", got)
	}
}

func TestIntrospectRefreshToken(t *testing.T) {
	r := newRig(t)
	client, _ := r.client("none")
	got := r.authorize(client, "", rigNotes, "read:notes")
	self := asker{id: client.ID, inBody: true}
	for name, who := range map[string]asker{"the client": self, "project secret": r.projectKey()} {
		a := r.introspect(who, got.Refresh).json()
		if a["active"] != true || a["client_id"] != client.ID || a["sub"] != rigSubject || a["scope"] != "read:notes" ||
			a["exp"] != float64(r.clock.Now().Add(14*24*time.Hour).Unix()) || a["token_type"] != nil {
			t.Errorf("%s: %v", name, a)
		}
	}
	rotated := r.post(r.server.Token, "", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {got.Refresh}, "client_id": {client.ID}}).json()
	r.introspect(self, got.Refresh).dead()
	r.clock.Advance(14 * 24 * time.Hour)
	r.introspect(self, rotated["refresh_token"].(string)).dead()
}

// A client of a metadata document is known to resource servers by its address,
// whatever their profile (decision 33).
func TestIntrospectNamesDocumentClients(t *testing.T) {
	r := newRig(t)
	host := r.publish("")
	client, err := r.begin(host.id)
	if err != nil {
		t.Fatal(err)
	}
	notes, files := r.authorize(client, "", rigNotes, "read:notes"), r.authorize(client, "", rigFiles, "read:notes")
	for _, test := range []struct {
		name  string
		who   asker
		token string
		want  string
	}{
		{"rfc9068", r.notes(), notes.Access, host.id},
		{"compatible", r.files(), files.Access, host.id},
		{"compatible, by the project", r.projectKey(), files.Access, client.ID},
		{"the client itself", asker{id: host.id, inBody: true}, files.Access, client.ID},
	} {
		if got := r.introspect(test.who, test.token).json(); got["client_id"] != test.want {
			t.Errorf("%s: %v, want %s", test.name, got, test.want)
		}
	}
}

// otherLetter is another letter of base64url, one that can stand last.
func otherLetter(r rune) rune {
	if r == 'A' {
		return 'Q'
	}
	return 'A'
}

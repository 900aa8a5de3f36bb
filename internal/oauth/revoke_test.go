package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/oauth"
)

func (r *rig) revoke(c oauth.Client, key, token string) answer {
	r.Helper()
	form := url.Values{"token": {token}, "token_type_hint": {"nonsense"}}
	if key == "" {
		form.Set("client_id", c.PublicID())
		return r.post(r.server.Revoke, "", "", form)
	}
	return r.post(r.server.Revoke, c.ID, key, form)
}

// revoked checks the answer to a revocation: 200 with JSON, which the published
// SDKs want to parse.
func (a answer) revoked() {
	a.Helper()
	if a.code != http.StatusOK || a.header.Get("Content-Type") != "application/json" || a.json()["error"] != nil {
		a.Fatalf("got %d %s", a.code, a.body)
	}
}

// alive introspects an access token for its resource server.
func (r *rig) alive(token string) bool {
	r.Helper()
	return r.introspect(r.notes(), token).json()["active"] == true
}

// Proves: RFC7009-2-a, RFC7009-2-b, RFC7009-2.1-a, RFC7009-2.1-b, RFC7009-2.1-c, RFC7009-2.2-a, MCP-AS-52
func TestRevoke(t *testing.T) { eachRig(t, revokeOn) }

func revokeOn(t *testing.T, newRig rigMaker) {
	refresh := func(r *rig, c oauth.Client, token string) answer {
		return r.post(r.server.Token, "", "", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {c.ID}})
	}
	t.Run("I11 an access token alone", func(t *testing.T) {
		r := newRig(t)
		c, _ := r.client("none")
		got, other := r.authorize(c, "", rigNotes, "read:notes"), r.authorize(c, "", rigNotes, "read:notes")
		r.revoke(c, "", got.Access).revoked()
		if r.alive(got.Access) || !r.alive(other.Access) {
			t.Errorf("revoked one lives: %v, other one lives: %v", r.alive(got.Access), r.alive(other.Access))
		}
		if a := refresh(r, c, got.Refresh); a.code != http.StatusOK {
			t.Errorf("the grant went with it: %d %s", a.code, a.body)
		}
		r.revoke(c, "", got.Access).revoked() // again: no error
	})
	t.Run("I11 a refresh token takes the family along", func(t *testing.T) {
		r := newRig(t)
		c, _ := r.client("none")
		got, other := r.authorize(c, "", rigNotes, "read:notes"), r.authorize(c, "", rigNotes, "read:notes")
		r.revoke(c, "", got.Refresh).revoked()
		if r.alive(got.Access) || !r.alive(other.Access) {
			t.Errorf("its access token lives: %v, other family lives: %v", r.alive(got.Access), r.alive(other.Access))
		}
		refresh(r, c, got.Refresh).refused(http.StatusBadRequest, "invalid_grant")
		if a := refresh(r, c, other.Refresh); a.code != http.StatusOK {
			t.Errorf("other family: %d %s", a.code, a.body)
		}
	})
	t.Run("an older generation too", func(t *testing.T) {
		r := newRig(t)
		c, _ := r.client("none")
		got := r.authorize(c, "", rigNotes, "read:notes")
		next := refresh(r, c, got.Refresh).json()
		r.revoke(c, "", got.Refresh).revoked()
		refresh(r, c, next["refresh_token"].(string)).refused(http.StatusBadRequest, "invalid_grant")
		if r.alive(next["access_token"].(string)) {
			t.Error("the newest access token lives")
		}
	})
	t.Run("of a metadata document's client, both profiles", func(t *testing.T) {
		r := newRig(t)
		host := r.publish("")
		c, err := r.begin(host.id)
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range []string{r.authorize(c, "", rigNotes, "read:notes").Access, r.authorize(c, "", rigFiles, "read:notes").Access} {
			r.revoke(c, "", token).revoked()
			r.introspect(r.projectKey(), token).dead()
		}
	})
	t.Run("JSON body", func(t *testing.T) {
		r := newRig(t)
		c, _ := r.client("none")
		got := r.authorize(c, "", rigNotes, "read:notes")
		req := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"client_id":"`+c.ID+`","token":"`+got.Access+`"}`))
		req.Header.Set("Content-Type", "application/json")
		r.send(r.server.Revoke, req).revoked()
		if r.alive(got.Access) {
			t.Error("it lives")
		}
	})
}

// Proves: RFC7009-2.1-d, RFC7009-2.1-e, RFC7009-2.2-b, RFC7009-2.2.1-a
func TestRevokeRefuses(t *testing.T) { eachRig(t, revokeRefuses) }

func revokeRefuses(t *testing.T, newRig rigMaker) {
	r := newRig(t)
	c, key := r.client("client_secret_basic")
	other, otherKey := r.client("client_secret_basic")
	public, _ := r.client("none")
	got := r.authorize(c, key, rigNotes, "read:notes")
	t.Run("I08 another client's access token", func(t *testing.T) {
		r.revoke(other, otherKey, got.Access).refused(http.StatusBadRequest, "unauthorized_client")
		r.revoke(public, "", got.Access).refused(http.StatusBadRequest, "unauthorized_client")
	})
	t.Run("I08 another client's refresh token", func(t *testing.T) {
		r.revoke(other, otherKey, got.Refresh).refused(http.StatusBadRequest, "unauthorized_client")
	})
	t.Run("I12 confidential client without its secret", func(t *testing.T) {
		r.revoke(c, "", got.Refresh).refused(http.StatusUnauthorized, "invalid_client")
	})
	t.Run("no token", func(t *testing.T) {
		r.post(r.server.Revoke, c.ID, key, url.Values{"token_type_hint": {"access_token"}}).refused(http.StatusBadRequest, "invalid_request")
	})
	for name, token := range map[string]string{
		"garbage": "garbage", "cut": got.Access[:len(got.Access)-1], "refresh token, cut": got.Refresh[:len(got.Refresh)-1],
		"id_token": r.authorize(c, key, rigNotes, "openid").ID, "64 KiB short of a bit": strings.Repeat("a", 30<<10),
	} {
		t.Run("I09 "+name, func(t *testing.T) { r.revoke(c, key, token).revoked() })
	}
	r.on(guessedStore{r.store}).revoke(c, key, got.Refresh).revoked()
	if !r.alive(got.Access) {
		t.Error("one of these killed the token")
	}
	t.Run("I10 the database is away", func(t *testing.T) {
		broken := r.on(brokenStore{r.store})
		for _, token := range []string{got.Access, got.Refresh} {
			a := broken.revoke(c, key, token)
			if a.refused(http.StatusServiceUnavailable, "temporarily_unavailable"); a.header.Get("Retry-After") == "" || strings.Contains(a.body, errBroken.Error()) {
				t.Errorf("header %v, body %s", a.header, a.body)
			}
		}
		a := broken.introspect(r.notes(), got.Access)
		a.refused(http.StatusServiceUnavailable, "temporarily_unavailable")
	})
}

package oauth_test

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
)

func (r *rig) userinfo(method string, authorization ...string) answer {
	r.Helper()
	req := httptest.NewRequest(method, "/", nil)
	for _, value := range authorization {
		req.Header.Add("Authorization", value)
	}
	return r.send(r.server.Userinfo, req)
}

// A token counts in the Authorization header alone.
//
// Proves: OIDC-5.3.1-a, OIDC-5.3.2-a, OIDC-5.3.2-b, RFC6750-2.1-a
func TestUserinfo(t *testing.T) {
	r := newRig(t)
	c, key := r.client("client_secret_basic")
	email := r.authorize(c, key, rigNotes, "openid", "email", "read:notes").Access
	bare := r.authorize(c, key, rigFiles, "openid").Access
	for _, test := range []struct {
		name, method, authorization string
		want                        map[string]any
	}{
		{"GET", http.MethodGet, "Bearer " + email, map[string]any{"sub": rigSubject, "email": "ada@example.test", "email_verified": true}},
		{"POST, scheme in lower case", http.MethodPost, "bearer " + email, map[string]any{"sub": rigSubject, "email": "ada@example.test", "email_verified": true}},
		{"openid alone, compatible profile", http.MethodGet, "Bearer " + bare, map[string]any{"sub": rigSubject}},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := r.userinfo(test.method, test.authorization)
			if a.code != http.StatusOK || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("got %d %v %s", a.code, a.header, a.body)
			}
			if diff := cmp.Diff(test.want, a.json()); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("in the address or a form it is not looked at", func(t *testing.T) {
		form := url.Values{"access_token": {email}}.Encode()
		for _, req := range []*http.Request{
			httptest.NewRequest(http.MethodGet, "/?"+form, nil), httptest.NewRequest(http.MethodPost, "/", strings.NewReader(form)),
		} {
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			a := r.send(r.server.Userinfo, req)
			if challenge := a.header.Get("WWW-Authenticate"); a.code != http.StatusUnauthorized || strings.Contains(challenge, "error") {
				t.Errorf("%s: %d, challenge %q", req.Method, a.code, challenge)
			}
		}
	})
}

// bearerChallenge is the form of RFC 6750 §3: the scheme, then parameters of
// characters that need no escape.
var bearerChallenge = regexp.MustCompile(`^Bearer( [a-z_]+="[ !#-\[\]-~]*",?)+$`)

// Whoever has no token that opens the endpoint gets a bearer challenge, with a code
// that fits, and with none when there were no credentials.
//
// Proves: OIDC-5.3.3-a, RFC6750-3-a, RFC6750-3-c, RFC6750-3-d, RFC6750-3-e, RFC6750-3.1-a, RFC6750-3.1-b, RFC6750-3.1-c,
// RFC6750-3.1-d, RFC6749-7-b
func TestUserinfoRefuses(t *testing.T) { eachRig(t, userinfoRefuses) }

func userinfoRefuses(t *testing.T, newRig rigMaker) {
	r := newRig(t)
	c, key := r.client("client_secret_basic")
	good := r.authorize(c, key, rigNotes, "openid", "read:notes")
	for _, test := range []struct {
		name          string
		authorization []string
		status        int
		challenge     string // "" for the bare one
	}{
		{"no token", nil, 401, ""},
		{"Basic", []string{"Basic eDp5"}, 401, ""},
		{"nothing behind the scheme", []string{"Bearer"}, 400, "invalid_request"},
		{"nothing but blanks behind the scheme", []string{"Bearer   "}, 400, "invalid_request"},
		{"two headers", []string{"Bearer " + good.Access, "Bearer " + good.Access}, 400, "invalid_request"},
		{"garbage", []string{"Bearer x.y.z"}, 401, "invalid_token"},
		{"I15 no openid", []string{"Bearer " + r.authorize(c, key, rigNotes, "read:notes").Access}, 403, "insufficient_scope"},
		{"I15 an id_token", []string{"Bearer " + good.ID}, 401, "invalid_token"},
		{"I15 a refresh token", []string{"Bearer " + good.Refresh}, 401, "invalid_token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := r.userinfo(http.MethodGet, test.authorization...)
			challenge := a.header.Get("WWW-Authenticate")
			if a.code != test.status || len(a.header.Values("WWW-Authenticate")) != 1 || !bearerChallenge.MatchString(challenge) {
				t.Fatalf("got %d, challenge %q", a.code, challenge)
			}
			for _, name := range []string{"realm", "scope", "error", "error_description"} {
				if n := strings.Count(challenge, " "+name+"="); n > 1 || n == 0 && name == "realm" {
					t.Errorf("%s stands %d times in %q", name, n, challenge)
				}
			}
			if test.challenge == "" && strings.Contains(challenge, "error") || !strings.Contains(challenge, test.challenge) {
				t.Errorf("challenge %q", challenge)
			}
			if test.status == 403 && !strings.Contains(challenge, `scope="openid"`) {
				t.Errorf("challenge %q does not name the scope", challenge)
			}
			if strings.Contains(a.body, rigSubject) {
				t.Errorf("body %s", a.body)
			}
		})
	}
	for name, happen := range map[string]func(r *rig){
		"expired":       func(r *rig) { r.clock.Advance(15 * time.Minute) },
		"revoked":       func(r *rig) { r.revoke(c, key, good.Access).revoked() },
		"person locked": func(r *rig) { r.lock(true) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c, key = r.client("client_secret_basic")
			good = r.authorize(c, key, rigNotes, "openid")
			if a := r.userinfo(http.MethodGet, "Bearer "+good.Access); a.code != http.StatusOK {
				t.Fatalf("before: %d %s", a.code, a.body)
			}
			happen(r)
			if a := r.userinfo(http.MethodGet, "Bearer "+good.Access); a.code != http.StatusUnauthorized || !strings.Contains(a.header.Get("WWW-Authenticate"), "invalid_token") {
				t.Errorf("after: %d %v %s", a.code, a.header, a.body)
			}
		})
	}
	t.Run("openid taken from the person", func(t *testing.T) {
		r := newRig(t, members)
		c, key := r.client("client_secret_basic")
		token := r.authorize(c, key, rigNotes, "openid", "read:notes").Access
		r.people.lost = []string{"openid"}
		if a := r.userinfo(http.MethodGet, "Bearer "+token); a.code != http.StatusForbidden {
			t.Errorf("got %d %s", a.code, a.body)
		}
	})
}

// The trail has the internal id of a client that its tokens name by its address.
// Row: D17.
func TestUserinfoRefusedToADocumentClient(t *testing.T) {
	r := newRig(t)
	client, err := r.begin(r.publish("").id)
	if err != nil {
		t.Fatal(err)
	}
	token := r.authorize(client, "", rigNotes, "openid", "read:notes").Access
	r.clock.Advance(24 * time.Hour)
	if a := r.userinfo(http.MethodGet, "Bearer "+token); a.code != http.StatusUnauthorized {
		t.Fatalf("got %d %s", a.code, a.body)
	}
	if e := r.newest(audit.UserinfoRefused); e.ClientID != client.ID || e.Subject != rigSubject || !e.Refused {
		t.Errorf("%+v", e)
	}
}

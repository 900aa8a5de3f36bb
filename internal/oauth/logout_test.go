package oauth_test

import (
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/oauth"
)

// Proves: OIDCLOGOUT-2-b, OIDCLOGOUT-3-b
func TestParseLogout(t *testing.T) {
	r := newRig(t)
	c, key := r.client("client_secret_basic")
	hint := r.authorize(c, key, rigNotes, "openid").ID
	r.clock.Advance(24 * time.Hour) // long expired: still says who it was for
	const bye = "https://client.example.test/bye"
	other := r.person()
	other.SessionID = "session-test-2"
	stranger := r.person()
	stranger.Subject = "user-test-grace"
	for _, test := range []struct {
		name    string
		query   url.Values
		client  string
		target  string
		matches bool
	}{
		{"nothing at all", url.Values{}, "", "", false},
		{"state without an address goes nowhere", url.Values{"state": {"x"}}, "", "", false},
		{"client alone", url.Values{"client_id": {c.ID}}, c.ID, "", false},
		{"client and address", url.Values{"client_id": {c.ID}, "post_logout_redirect_uri": {bye}}, c.ID, bye, false},
		{"state comes back", url.Values{"client_id": {c.ID}, "post_logout_redirect_uri": {bye}, "state": {"a b&c"}}, c.ID, bye + "?state=a+b%26c", false},
		{"hint", url.Values{"id_token_hint": {hint}}, c.ID, "", true},
		{"hint, client, address", url.Values{"id_token_hint": {hint}, "client_id": {c.ID}, "post_logout_redirect_uri": {bye}}, c.ID, bye, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, err := r.server.ParseLogout(t.Context(), r.project, test.query)
			if err != nil {
				t.Fatal(err)
			}
			if l.Client.ID != test.client || l.Target() != test.target {
				t.Errorf("client %q to %q", l.Client.ID, l.Target())
			}
			if l.Matches(r.person()) != test.matches {
				t.Errorf("the person matches: %v", !test.matches)
			}
			if l.Matches(other) || l.Matches(stranger) || l.Matches(oauth.Person{}) {
				t.Error("another session, another person or nobody matches")
			}
		})
	}
}

// Proves: OIDCLOGOUT-2-a, OIDCLOGOUT-2-c, OIDCLOGOUT-3-a, OIDCLOGOUT-4-a
func TestParseLogoutRefuses(t *testing.T) {
	r := newRig(t)
	c, key := r.client("client_secret_basic")
	other, _ := r.client("client_secret_post")
	got := r.authorize(c, key, rigFiles, "openid", "read:notes")
	const bye = "https://client.example.test/bye"
	claims := func(issuer, use string) string {
		return r.sign(map[string]any{"iss": issuer, "sub": rigSubject, "aud": c.ID, "sid": "session-test-1", "token_use": use})
	}
	if _, err := r.server.ParseLogout(t.Context(), r.project, url.Values{"id_token_hint": {claims(rigIssuer, "id")}}); err != nil {
		t.Fatalf("the hints below are not wrong in one thing alone: %v", err)
	}
	for name, query := range map[string]url.Values{
		"address without a client":            {"post_logout_redirect_uri": {bye}},
		"address never registered":            {"client_id": {c.ID}, "post_logout_redirect_uri": {"https://evil.example.test/bye"}},
		"address with a slash more":           {"client_id": {c.ID}, "post_logout_redirect_uri": {bye + "/"}},
		"a redirect URI is no logout address": {"client_id": {c.ID}, "post_logout_redirect_uri": {rigCallback}},
		"unknown client":                      {"client_id": {"connected-app-test-none"}},
		"hint of another client":              {"client_id": {other.ID}, "id_token_hint": {got.ID}, "post_logout_redirect_uri": {bye}},
		"hint is an access token":             {"id_token_hint": {got.Access}},
		"hint is garbage":                     {"id_token_hint": {"x.y.z"}},
		"hint is unsigned":                    {"id_token_hint": {"eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0." + strings.Split(got.ID, ".")[1] + "."}},
		"hint of another issuer":              {"id_token_hint": {claims("https://auth2.example.test", "id")}},
		"hint is a session's JWT":             {"id_token_hint": {claims(rigIssuer, "session")}},
		"state of 2049 bytes":                 {"state": {strings.Repeat("a", 2049)}},
	} {
		t.Run(name, func(t *testing.T) {
			l, err := r.server.ParseLogout(t.Context(), r.project, query)
			var refusal *oauth.Error
			if !errors.As(err, &refusal) || refusal.Code != "invalid_request" || l.Target() != "" {
				t.Errorf("got %v, going to %q", err, l.Target())
			}
		})
	}
}

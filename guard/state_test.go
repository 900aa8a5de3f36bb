package guard_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
)

// TestState proves that a sealed state opens only unchanged, in time, for its
// caller and its request, with any token of the caller and on any instance
// that has the key.
//
// Proves: MCP-RS-22, MCP-RS-23.
func TestState(t *testing.T) {
	issuer := guardtest.New(t)
	cfg := issuer.Config(resource)
	cfg.StateKey = make([]byte, 32)
	g, second := newGuard(t, cfg), newGuard(t, cfg)
	cfg.StateKey = nil
	stranger := newGuard(t, cfg)
	as := func(token guardtest.Token) context.Context {
		token.Resource = resource
		p, err := g.Verify(t.Context(), issuer.Mint(token))
		if err != nil {
			t.Fatal(err)
		}
		return guard.WithPrincipal(t.Context(), p)
	}
	owner := as(guardtest.Token{})
	type request struct{ Tool, Argument string }
	state, err := g.SealState(owner, request{"delete", "1"}, []byte("confirmed"), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	changed := func(i int) string {
		b := []byte(state)
		b[i] = sibling(b[i]) // another letter of the alphabet
		return string(b)
	}
	for _, c := range []struct {
		name    string
		g       *guard.Guard
		ctx     context.Context
		request request
		state   string
		want    error
	}{
		{"as it was", g, owner, request{"delete", "1"}, state, nil},
		{"with a refreshed token", g, as(guardtest.Token{}), request{"delete", "1"}, state, nil},
		{"on another instance", second, owner, request{"delete", "1"}, state, nil},
		{"under another key", stranger, owner, request{"delete", "1"}, state, guard.ErrState},
		{"another argument", g, owner, request{"delete", "2"}, state, guard.ErrState},
		{"another subject", g, as(guardtest.Token{Subject: "user-other"}), request{"delete", "1"}, state, guard.ErrState},
		{"another client", g, as(guardtest.Token{ClientID: "client-other"}), request{"delete", "1"}, state, guard.ErrState},
		{"another organization", g, as(guardtest.Token{Organization: "o"}), request{"delete", "1"}, state, guard.ErrState},
		{"no caller", g, t.Context(), request{"delete", "1"}, state, guard.ErrNoToken},
		{"first letter changed", g, owner, request{"delete", "1"}, changed(0), guard.ErrState},
		{"a letter in the middle changed", g, owner, request{"delete", "1"}, changed(len(state) / 2), guard.ErrState},
		{"cut", g, owner, request{"delete", "1"}, state[:len(state)-4], guard.ErrState},
		{"empty", g, owner, request{"delete", "1"}, "", guard.ErrState},
		{"not base64", g, owner, request{"delete", "1"}, "***", guard.ErrState},
	} {
		t.Run(c.name, func(t *testing.T) {
			data, err := c.g.OpenState(c.ctx, c.request, c.state)
			wantError(t, "OpenState", err, c.want)
			if (string(data) == "confirmed") != (c.want == nil) {
				t.Errorf("data %q", data)
			}
		})
	}
	issuer.Advance(61 * time.Second)
	_, err = g.OpenState(owner, request{"delete", "1"}, state)
	wantError(t, "too old", err, guard.ErrState)

	cfg.StateKey = make([]byte, 16)
	if _, err := guard.New(cfg); err == nil {
		t.Error("a short key is accepted")
	}
}

// TestRateLimit proves that one caller's tool calls are limited, batches
// included, and nobody else's.
//
// Proves: MCP-RS-26.
func TestRateLimit(t *testing.T) {
	issuer := guardtest.New(t)
	issuer.Advance(issuer.Now().Truncate(time.Minute).Add(time.Minute).Sub(issuer.Now())) // a minute begins
	cfg := todoConfig(issuer)
	cfg.CallsPerMinute = 5
	h := newGuard(t, cfg).Protect(&ran{})
	token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"admin"}, Lifetime: time.Hour})
	other := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"admin"}, Subject: "user-other"})
	expect := func(token, body string, want int) {
		t.Helper()
		w := call(h, http.MethodPost, body, bearer(token)...)
		if w.Code != want {
			t.Errorf("status %d, want %d", w.Code, want)
		}
		if want == http.StatusTooManyRequests && w.Header().Get("Retry-After") != "60" {
			t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
		}
	}
	one := toolCall("list")
	expect(token, "["+one+","+one+","+one+","+one+"]", 202)
	expect(token, "["+one+","+one+"]", 429)
	expect(token, one, 202)
	expect(token, one, 429)
	expect(token, pingBody, 202) // not a tool call
	expect(other, one, 202)
	issuer.Advance(time.Minute)
	expect(token, one, 202)
}

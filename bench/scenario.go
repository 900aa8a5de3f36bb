package main

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-id/postern/internal/rig"
)

// scenario is one operation that is measured.
type scenario struct {
	name string
	what string
	// workers prepares n workers; what it does is not measured.
	workers func(ctx context.Context, w *world, n int) ([]worker, error)
	// scarce says that workers prepared something that is used up: no warm-up.
	scarce bool
}

// scenarios are the operations of the table. The first starts the server anew, and
// the memory of the others is looked at after the last.
func scenarios() []scenario {
	return []scenario{
		{name: "introspect-first", what: "introspection, token first seen", workers: introspectingFirst, scarce: true},
		{name: "introspect", what: "introspection, token seen before", workers: introspecting},
		{name: "refresh", what: "refresh with rotation, ES256", workers: refreshing(rig.Notes)},
		{name: "refresh-rs256", what: "refresh with rotation, RS256", workers: refreshing(rig.Legacy)},
		{name: "register", what: "registration", workers: registering},
		{name: "metadata", what: "metadata", workers: getting(metadataPath, `"issuer"`)},
		{name: "jwks", what: "key set", workers: getting("/.well-known/jwks.json", `"keys"`)},
		{name: "flow", what: "full flow: registration, sign-in by code, consent, token (ES256, no id_token)", workers: flowing},
	}
}

// named is the scenario of a name.
func named(name string) scenario {
	all := scenarios()
	return all[slices.IndexFunc(all, func(s scenario) bool { return s.name == name })]
}

// world is a server with what the scenarios work on.
type world struct {
	server *rig.Server
	folder string
	held   map[string][]*holder // by resource
	asked  atomic.Int64         // numbers requests, for their addresses
	conns  []*conn
	idle   []*conn // until the server is closed
	actors []*rig.Actor
	first  []string  // access tokens to be seen for the first time
	minted time.Time // when they were
	made   time.Time
	spread []*holder // apps whose rows lie all over a filled database, nil for an empty one
}

// holder is an app with a refresh token, and the newest access token.
type holder struct {
	client string
	tokens rig.Tokens
}

// addresses is from how many addresses requests come: none meets a flood limit.
const addresses = 1 << 16

// from is the address of the next request of somebody who was here before.
func (w *world) from() string { return rig.Address(w.asked.Add(1) % addresses) }

// connect opens a connection to the server; the world closes it.
func (w *world) connect() *conn {
	c := &conn{address: w.server.Listen}
	w.conns = append(w.conns, c)
	return c
}

func (w *world) disconnect() {
	for _, c := range w.conns {
		c.close()
	}
	for _, a := range w.actors {
		a.Close()
	}
	w.conns, w.actors = nil, nil
}

// request is an HTTP request to the server, as a proxy forwards it.
func (w *world) request(from, path, more, body string) []byte {
	return request(strings.TrimPrefix(w.server.Issuer, "http://"), from, path, more, body)
}

// request is an HTTP request; a body makes it a POST.
func request(host, from, path, more, body string) []byte {
	method, length := "GET", ""
	if body != "" {
		method, length = "POST", fmt.Sprintf("Content-Length: %d\r\n", len(body))
	}
	return fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\nX-Forwarded-For: %s\r\nX-Forwarded-Proto: http\r\n%s%s\r\n%s",
		method, path, host, from, length, more, body)
}

const (
	form    = "Content-Type: application/x-www-form-urlencoded\r\n"
	inJSON  = "Content-Type: application/json\r\n"
	tokenAt = "/v1/oauth2/token"

	metadataPath = "/.well-known/oauth-authorization-server"
)

// holders returns n apps that hold tokens for a resource, each of another person.
func (w *world) holders(ctx context.Context, resource string, n int) ([]*holder, error) {
	if w.spread != nil {
		return w.spread[:n], nil
	}
	missing := n - len(w.held[resource])
	var mu sync.Mutex
	var left atomic.Int64
	left.Store(int64(missing))
	err := inParallel(8, func() error {
		a := w.server.Actor()
		a.Resource = resource
		defer a.Close()
		for left.Add(-1) >= 0 {
			a.Next()
			tokens, err := a.Connect(ctx)
			if err != nil {
				return err
			}
			mu.Lock()
			w.held[resource] = append(w.held[resource], &holder{a.ClientID, tokens})
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("connect apps: %w", err)
	}
	return w.held[resource][:n], nil
}

// inParallel runs a function n times at once and returns the first error.
func inParallel(n int, do func() error) error {
	failed := make(chan error, n)
	for range n {
		go func() { failed <- do() }()
	}
	var first error
	for range n {
		if err := <-failed; err != nil && first == nil {
			first = err
		}
	}
	return first
}

// refresh exchanges a holder's refresh token for the next, over c.
func (w *world) refresh(ctx context.Context, c *conn, h *holder, resource string) error {
	body := "grant_type=refresh_token&refresh_token=" + h.tokens.Refresh + "&client_id=" + h.client + "&resource=" + url.QueryEscape(resource)
	status, answer, err := c.ask(ctx, w.request(w.from(), tokenAt, form, body))
	if err != nil {
		return err
	}
	next, access := member(answer, "refresh_token"), member(answer, "access_token")
	if status != 200 || next == "" || access == "" || next == h.tokens.Refresh {
		return fmt.Errorf("refresh: %d %s", status, answer)
	}
	h.tokens.Refresh, h.tokens.Access = next, access
	return nil
}

// member is a text in a JSON object, without escapes.
func member(object []byte, name string) string {
	_, rest, ok := bytes.Cut(object, []byte(`"`+name+`":"`))
	if !ok {
		return ""
	}
	text, _, _ := bytes.Cut(rest, []byte(`"`))
	return string(text)
}

// refreshing follows, in each worker, the rotation of a refresh token of its own;
// of many in turn where they lie all over a filled database.
func refreshing(resource string) func(context.Context, *world, int) ([]worker, error) {
	return func(ctx context.Context, w *world, n int) ([]worker, error) {
		holders, err := w.holders(ctx, resource, max(n, len(w.spread)))
		if err != nil {
			return nil, err
		}
		return each(n, func(i int) worker {
			c, at := w.connect(), i
			return func(ctx context.Context) error {
				h := holders[at]
				if at += n; at >= len(holders) {
					at = i
				}
				return w.refresh(ctx, c, h, resource)
			}
		}), nil
	}
}

func each(n int, make func(i int) worker) []worker {
	all := []worker{}
	for i := range n {
		all = append(all, make(i))
	}
	return all
}

// introspect asks about a token, over c.
func (w *world) introspect(ctx context.Context, c *conn, token string) error {
	more := form + "Authorization: " + w.server.Inspectors[rig.Notes] + "\r\n"
	status, answer, err := c.ask(ctx, w.request(w.from(), "/v1/oauth2/introspect", more, "token="+token))
	if err != nil {
		return err
	}
	if status != 200 || !bytes.Contains(answer, []byte(`"active":true`)) {
		return fmt.Errorf("introspect: %d %s", status, answer)
	}
	return nil
}

// tokensSeen is how many tokens are asked about in turn.
const tokensSeen = 256

// introspecting asks about tokens that the server was asked about before.
func introspecting(ctx context.Context, w *world, n int) ([]worker, error) {
	tokens, err := w.mint(ctx, max(tokensSeen, len(w.spread)))
	if err != nil {
		return nil, err
	}
	c := w.connect()
	for _, token := range tokens {
		if err := w.introspect(ctx, c, token); err != nil {
			return nil, err
		}
	}
	return each(n, func(int) worker {
		c, at := w.connect(), rand.IntN(len(tokens)) //nolint:gosec // no secret
		return func(ctx context.Context) error {
			at = (at + 1) % len(tokens)
			return w.introspect(ctx, c, tokens[at])
		}
	}), nil
}

// tokensFirst is how many tokens there are to be seen for the first time.
const tokensFirst = 6000

// introspectingFirst asks about each token once. The server is started anew after
// they were issued, so that it remembers none of them.
func introspectingFirst(ctx context.Context, w *world, n int) ([]worker, error) {
	if time.Since(w.minted) > 5*time.Minute { // they are good for 15
		var err error
		if w.first, err = w.mint(ctx, tokensFirst); err != nil {
			return nil, err
		}
		w.minted = time.Now()
	}
	tokens := w.first
	w.disconnect()
	if err := w.server.Stop(); err != nil {
		return nil, err
	}
	if err := w.server.Start(ctx); err != nil {
		return nil, err
	}
	c := w.connect()
	metadata := w.request(w.from(), metadataPath, "", "")
	for range 2000 { // a server that has just started is warmed with something else
		if _, _, err := c.ask(ctx, metadata); err != nil {
			return nil, err
		}
	}
	var next atomic.Int64
	return each(n, func(int) worker {
		c := w.connect()
		return func(ctx context.Context) error {
			i := next.Add(1) - 1
			if i >= int64(len(tokens)) {
				return errDone
			}
			return w.introspect(ctx, c, tokens[i])
		}
	}), nil
}

// mint returns n access tokens of ES256, each issued by a refresh: on a filled
// database each of another app.
func (w *world) mint(ctx context.Context, n int) ([]string, error) {
	const at = 64
	holders, err := w.holders(ctx, rig.Notes, max(at, len(w.spread)))
	if err != nil {
		return nil, err
	}
	tokens := make([]string, n)
	var who atomic.Int64
	err = inParallel(at, func() error {
		c := &conn{address: w.server.Listen}
		defer c.close()
		for i := int(who.Add(1) - 1); i < n; i += at { // an app is refreshed by one at a time
			h := holders[i%len(holders)]
			if err := w.refresh(ctx, c, h, rig.Notes); err != nil {
				return err
			}
			tokens[i] = h.tokens.Access
		}
		return nil
	})
	return tokens, err
}

// registering registers apps that no other is like, each from another address.
func registering(_ context.Context, w *world, n int) ([]worker, error) {
	return each(n, func(int) worker {
		c := w.connect()
		return func(ctx context.Context) error {
			n := w.asked.Add(1)
			body := rig.Registration(fmt.Sprintf("App %d of the benchmark", n))
			status, answer, err := c.ask(ctx, w.request(rig.Address(n), "/v1/oauth2/register", inJSON, string(body)))
			if err != nil {
				return err
			}
			if status != 201 || member(answer, "client_id") == "" {
				return fmt.Errorf("register: %d %s", status, answer)
			}
			return nil
		}
	}), nil
}

// getting reads a document that everybody may read.
func getting(path, holds string) func(context.Context, *world, int) ([]worker, error) {
	return func(_ context.Context, w *world, n int) ([]worker, error) {
		return each(n, func(int) worker {
			c := w.connect()
			return func(ctx context.Context) error {
				status, answer, err := c.ask(ctx, w.request(w.from(), path, "", ""))
				if err != nil {
					return err
				}
				if status != 200 || !bytes.Contains(answer, []byte(holds)) {
					return fmt.Errorf("%s: %d %s", path, status, answer)
				}
				return nil
			}
		}), nil
	}
}

// flowing connects a new app for a new person with a new browser, again and again.
func flowing(_ context.Context, w *world, n int) ([]worker, error) {
	return each(n, func(int) worker {
		a := w.server.Actor()
		w.actors = append(w.actors, a)
		return func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, answerTime)
			defer cancel()
			a.Next()
			_, err := a.Connect(ctx)
			return err
		}
	}), nil
}

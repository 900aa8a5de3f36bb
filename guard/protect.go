package guard

import (
	"context"
	"errors"
	"net/http"
)

// Protect wraps the handler of an MCP endpoint: Streamable HTTP of any
// revision, or the HTTP+SSE transport of 2024-11-05 (the GET and its message
// endpoint may be one handler, or two under the same Guard).
//
// It answers preflights; refuses foreign origins (403); asks for a token
// (401); refuses operations that the token's scopes, or the permissions that they
// have by the issuer's policy, do not cover (403, one complete list of scopes);
// binds sessions and event streams to who opened
// them; and ends a stream when its newest token has ended. The handler finds
// the caller with [FromContext] and does not see the token.
//
// The official SDK runs all operations of a session in the context of the
// request that opened it. There [FromContext] and [Check] know the session's
// newest token only; with mcpguard's Protect and Middleware they know the
// request's own.
func (g *Guard) Protect(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.admit(w, r) {
			return
		}
		p, err := g.authenticate(r)
		if err != nil {
			g.refuse(w, r, err)
			return
		}

		// The handler gets a request of its own, without what it must not use:
		// the token, and in revisions without sessions whatever names one.
		r = r.WithContext(r.Context())
		r.Header = r.Header.Clone()
		r.Header.Del("Authorization")
		if r.Header.Get("Mcp-Protocol-Version") >= perRequest {
			r.Header.Del(sessionHeader)
			r.Header.Del("Last-Event-ID")
		}

		s, joins, err := g.streams.find(r, p)
		if err == nil {
			err = g.decide(w, r, p)
		}
		if err != nil {
			g.refuse(w, r, err)
			return
		}
		ctx := context.WithValue(r.Context(), contextKey{}, s)
		if joins && r.Method != http.MethodGet {
			// Its operations are its own: another token of the same caller, with
			// other scopes, has no say in them.
			ctx = WithPrincipal(ctx, p)
		}
		g.serve(h, w, r.WithContext(ctx), s)
	})
}

// decide decides whether the request's operations may run. The
// headers of newer revisions decide before the body is read; the body decides
// always, for nothing makes a handler believe the headers.
func (g *Guard) decide(w http.ResponseWriter, r *http.Request, p *Principal) error {
	if op, ok := headerOperation(r.Header); ok {
		if err := g.permit(r.Context(), p, g.policy.need(op.method, op.name)); err != nil {
			return err
		}
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete:
		return g.permit(r.Context(), p, g.policy.need("", ""))
	}
	ops, err := g.bodyOperations(w, r)
	if err != nil {
		return err
	}
	needs := make([]need, len(ops))
	for i, op := range ops {
		needs[i] = g.policy.need(op.method, op.name)
	}
	if err := g.permit(r.Context(), p, needs...); err != nil {
		return err
	}
	return g.limit.take(p, ops)
}

// permit refuses with all the scopes that all the operations need.
func (g *Guard) permit(ctx context.Context, p *Principal, needs ...need) error {
	var buf [4]Rule // on the stack: usual requests are one operation
	rules := buf[:0]
	for i := range needs {
		rules = append(rules, needs[i].Rule)
	}
	err := judge(ctx, p, rules...)
	if !errors.Is(err, ErrInsufficientScope) {
		return err
	}
	return &scopeError{g.policy.ask(ctx, p, needs), err}
}

// serve runs the handler for as long as the stream's token lives.
func (g *Guard) serve(h http.Handler, w http.ResponseWriter, r *http.Request, s *stream) {
	ctx, done := g.streams.open(r.Context(), s)
	defer done()
	r = r.WithContext(ctx)
	w.Header().Set("X-Accel-Buffering", "no")

	session := r.Header.Get(sessionHeader)
	// A GET opens an event stream whatever revision its header names.
	if session == "" && (r.Method == http.MethodGet || r.Header.Get("Mcp-Protocol-Version") < perRequest) {
		watch := &watcher{ResponseWriter: w, streams: g.streams, stream: s, request: r}
		defer watch.close()
		w = watch
	}
	h.ServeHTTP(w, r)
	if session != "" && r.Method == http.MethodDelete {
		g.streams.release(handle{true, session})
	}
}

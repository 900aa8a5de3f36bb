// Package mcpguard joins package guard with the official MCP SDK.
//
// guard.Protect alone protects an SDK handler. This package adds what only
// works inside the SDK: [TokenInfo] fills the SDK's own auth.TokenInfo, which
// also makes the SDK bind its sessions to the user, and [Middleware] judges
// every operation again at the moment it runs, leaves out of lists what the
// caller may not use, and marks what depends on the caller as private.
//
// It does not replace guard.Protect: a challenge can only be given by HTTP.
package mcpguard

import (
	"context"
	"math"
	"net/http"
	"slices"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard"
)

// Protect is g.Protect(TokenInfo(h)).
func Protect(g *guard.Guard, h http.Handler) http.Handler { return g.Protect(TokenInfo(h)) }

// TokenInfo sets the SDK's auth.TokenInfo from the guard's principal: Scopes,
// Expiration, UserID (the subject) and Extra with "iss", "client_id",
// "organization_id" and "principal", the *guard.Principal itself. It goes inside
// guard.Protect; without a principal it answers 401.
//
// On the HTTP+SSE transport of 2024-11-05 the SDK hands no TokenInfo to tools:
// guard.FromContext works on every transport.
func TokenInfo(h http.Handler) http.Handler {
	// The SDK keeps its context key to itself, so its own middleware must set
	// the value. It insists on a header, and on judging the expiry by the
	// system's clock, which guard has done by its own.
	const placeholder = "Bearer verified-by-guard"
	fill := auth.RequireBearerToken(fromPrincipal, &auth.RequireBearerTokenOptions{
		AllowMissingExpiration: true,
		ClockSkew:              math.MaxInt64 / 4,
	})(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Authorization")
		h.ServeHTTP(w, r)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := r.WithContext(r.Context())
		own.Header = r.Header.Clone()
		own.Header.Set("Authorization", placeholder)
		fill.ServeHTTP(w, own)
	})
}

func fromPrincipal(ctx context.Context, _ string, _ *http.Request) (*auth.TokenInfo, error) {
	p := guard.FromContext(ctx)
	if p == nil {
		return nil, auth.ErrInvalidToken
	}
	return &auth.TokenInfo{
		Scopes: p.Scopes, Expiration: p.Expires, UserID: p.Subject,
		Extra: map[string]any{
			"iss": p.Issuer, "client_id": p.ClientID, "organization_id": p.Organization, extraPrincipal: p,
		},
	}, nil
}

// extraPrincipal is where TokenInfo leaves the principal for Middleware.
const extraPrincipal = "principal"

// Middleware is a receiving middleware for an mcp.Server, added with
// server.AddReceivingMiddleware. It refuses an operation whose token has ended,
// or lacks a scope or permission, at the moment the operation runs; leaves out of
// lists what the caller may not use (tools by their own rules, prompts by that of
// "prompts/get", resources and their templates by that of "resources/read"); and
// gives every result that can be cached the cache scope "private", since another
// caller might see another (MCP, Caching).
//
// With TokenInfo outside of it, guard.FromContext and guard.Check inside an
// operation know the token of the very request that brought it. Otherwise the
// SDK runs all operations of a session in the context of its first request.
//
// It is for servers behind guard.Protect only: without a principal everything
// is refused.
func Middleware(g *guard.Guard) mcp.Middleware {
	return func(next mcp.MethodHandler) mcp.MethodHandler {
		return func(ctx context.Context, method string, req mcp.Request) (mcp.Result, error) {
			ctx = ofRequest(ctx, req)
			if err := g.Permits(ctx, method, toolName(req)); err != nil {
				return nil, err
			}
			result, err := next(ctx, method, req)
			if err == nil {
				result = narrow(ctx, g, result)
			}
			return result, err
		}
	}
}

// ofRequest returns a context with the principal of the request that brought the
// operation, where the SDK's TokenInfo has it.
func ofRequest(ctx context.Context, req mcp.Request) context.Context {
	extra := req.GetExtra()
	if extra == nil || extra.TokenInfo == nil {
		return ctx
	}
	p, ok := extra.TokenInfo.Extra[extraPrincipal].(*guard.Principal)
	if !ok {
		return ctx
	}
	return guard.WithPrincipal(ctx, p)
}

func toolName(req mcp.Request) string {
	if p, ok := req.GetParams().(*mcp.CallToolParamsRaw); ok {
		return p.Name
	}
	return ""
}

// narrow makes a result the caller's own. It changes copies: a result may be
// shared.
func narrow(ctx context.Context, g *guard.Guard, result mcp.Result) mcp.Result {
	const private = "private"
	caller := guard.FromContext(ctx)
	switch r := result.(type) {
	case *mcp.ListToolsResult:
		own := *r
		own.CacheScope = private
		own.Tools = slices.DeleteFunc(slices.Clone(r.Tools), func(t *mcp.Tool) bool {
			return !g.Allows(caller, "tools/call", t.Name)
		})
		return &own
	case *mcp.ListPromptsResult:
		own := *r
		own.CacheScope = private
		if !g.Allows(caller, "prompts/get", "") {
			own.Prompts = []*mcp.Prompt{}
		}
		return &own
	case *mcp.ListResourcesResult:
		own := *r
		own.CacheScope = private
		if !g.Allows(caller, "resources/read", "") {
			own.Resources = []*mcp.Resource{}
		}
		return &own
	case *mcp.ListResourceTemplatesResult:
		own := *r
		own.CacheScope = private
		if !g.Allows(caller, "resources/read", "") {
			own.ResourceTemplates = []*mcp.ResourceTemplate{}
		}
		return &own
	case *mcp.ReadResourceResult:
		own := *r
		own.CacheScope = private
		return &own
	case *mcp.DiscoverResult:
		own := *r
		own.CacheScope = private
		return &own
	}
	return result
}

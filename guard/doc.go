// Package guard puts an OAuth 2.1 door in front of an MCP server.
//
// An MCP server is a resource server: it does not sign anybody in, it checks
// the access tokens that an authorization server issued for it, and tells a
// client without a good one where to get it. Guard does that part. It works
// with Postern and with any other authorization server that publishes
// metadata (RFC 8414 or OpenID Connect Discovery) and signs its access tokens
// or answers introspection.
//
//	g, err := guard.New(guard.Config{
//		Issuer:   "http://localhost:4000",
//		Resource: "http://localhost:8080/mcp",
//		Scopes:   []guard.Scope{{Name: "hello", Description: "Say hello to you"}},
//	})
//	…
//	mux.Handle("/mcp", g.Protect(handler))
//	mux.Handle("/.well-known/", g.Metadata())
//
// The types to know:
//
//   - [Config] says who is trusted (Issuer), who we are (Resource), which
//     scopes there are, and which of them each tool or method needs ([Rule]).
//   - [Guard] is made of it. [Guard.Protect] wraps the MCP endpoint,
//     [Guard.Require] wraps REST routes of the same program, and
//     [Guard.Metadata] answers the well-known paths.
//   - [Principal] is who a request acts for: [FromContext] gives it to a
//     handler, and [Check] judges again inside a long operation.
//
// Every request is judged in the same order: a well-formed credential, a
// token of the right kind, issued by the issuer, for this resource, not
// expired, then its organization where the rule names one, and only then its
// scopes and permissions. So an expired token is always 401, never 403, and a
// client always learns the next thing to do.
//
// A [Rule] names scopes, or what the operation does: [Permission] asks the
// issuer's policy, a document that an administrator can change, whether one of
// the token's scopes permits it. [Principal.May] asks the same for a page.
//
// Guard has nothing in the background: the issuer's metadata, keys and policy are
// fetched when they are first needed and renewed by the requests that find
// them old, so a server starts whether or not its issuer is up. Requests never
// become a storm of questions: while the issuer fails to answer, it is asked
// once a second at most for metadata and keys that were never there, and less
// often for newer ones.
//
// What it will not do: sign people in on web pages (package websession does),
// hand out the caller's token to be sent on to another service (an MCP server
// must never do that), or keep state that another instance would need, except
// for the sessions and streams that are open in this process and the count of
// calls in the current minute.
//
// Sub-packages: mcpguard joins guard with the official MCP SDK, guardtest is
// an issuer for tests.
package guard

package guard

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// requestHeaders are what browsers may send to an MCP endpoint, besides
// Mcp-Param-*.
var requestHeaders = []string{
	"authorization", "content-type", "accept", "last-event-id", "mcp-protocol-version",
	"mcp-method", "mcp-name", "mcp-session-id",
}

// admit refuses foreign hosts and origins and answers preflights, before any
// credential is looked at; it reports whether the request goes on.
//
// A web page that rebinds its own name to a loopback address shows its name in
// Host and Origin (MCP, Streamable HTTP, Security Warning).
func (g *Guard) admit(w http.ResponseWriter, r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if loopback(g.resource.Host) && !loopback(r.Host) || origin != "" && !g.originAllowed(origin) {
		g.refuse(w, r, errOrigin)
		return false
	}
	if origin != "" {
		w.Header().Set("Access-Control-Allow-Origin", origin)
		w.Header().Set("Access-Control-Expose-Headers", "WWW-Authenticate, Mcp-Session-Id")
	}
	w.Header().Add("Vary", "Origin")
	if r.Method != http.MethodOptions {
		return true
	}
	allowed := slices.Clone(requestHeaders)
	for name := range strings.SplitSeq(r.Header.Get("Access-Control-Request-Headers"), ",") {
		if name = strings.ToLower(strings.TrimSpace(name)); strings.HasPrefix(name, "mcp-param-") && scopeSyntax(name) {
			allowed = append(allowed, name)
		}
	}
	w.Header().Set("Allow", "GET, POST, DELETE, OPTIONS")
	w.Header().Set("Access-Control-Allow-Methods", "GET, POST, DELETE")
	w.Header().Set("Access-Control-Allow-Headers", strings.Join(allowed, ", "))
	w.Header().Set("Access-Control-Max-Age", "7200")
	w.WriteHeader(http.StatusNoContent)
	return false
}

func (g *Guard) originAllowed(origin string) bool {
	if slices.Contains(g.cfg.AllowedOrigins, "*") || slices.Contains(g.cfg.AllowedOrigins, origin) ||
		origin == g.resource.Scheme+"://"+g.resource.Host {
		return true
	}
	if !loopback(g.resource.Host) {
		return false
	}
	u, err := url.Parse(origin)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && loopback(u.Host)
}

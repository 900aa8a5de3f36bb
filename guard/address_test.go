package guard_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
)

// A client that was given another address of the resource finds metadata for
// that address, and its token is good at every address.
//
// Proves: MCP-RS-1, MCP-RS-2, MCP-RS-3, MCP-RS-10, RFC9728-3-a, RFC9728-3.3-a, RFC9728-3.3-b.
func TestAliases(t *testing.T) {
	issuer := guardtest.New(t)
	const origin = "http://localhost:8080"
	cfg := issuer.Config(origin+"/mcp", "read", "write")
	cfg.Aliases = []string{origin + "/sse", origin + "/old/sse"}
	cfg.Tools = map[string]guard.Rule{"write": guard.AllOf("write")}
	g := newGuard(t, cfg)
	mux := http.NewServeMux()
	mux.Handle("/", g.Protect(&ran{}))
	mux.Handle("/.well-known/", g.Metadata())

	for _, c := range []struct{ request, resource string }{
		{"/mcp", "/mcp"},
		{"/sse", "/sse"},
		{"/sse/messages", "/sse"},
		{"/old/sse?sessionid=1", "/old/sse"},
		{"/old", "/mcp"},
		{"/sse2", "/mcp"},
		{"/api/notes", "/mcp"},
	} {
		w := get(mux, http.MethodGet, origin+c.request)
		place := "/.well-known/oauth-protected-resource" + c.resource
		if challenge := w.Header().Get("WWW-Authenticate"); w.Code != http.StatusUnauthorized || !strings.Contains(challenge, `resource_metadata="`+origin+place+`"`) {
			t.Errorf("%s: %d %s; want the place %s", c.request, w.Code, challenge, place)
		}
		var doc struct {
			Resource string
			Scopes   []string `json:"scopes_supported"`
		}
		if w := get(mux, http.MethodGet, place); w.Code != http.StatusOK || json.Unmarshal(w.Body.Bytes(), &doc) != nil ||
			doc.Resource != origin+c.resource || len(doc.Scopes) != 2 {
			t.Errorf("%s: %d %s", place, w.Code, w.Body)
		}
	}
	if w := get(mux, http.MethodGet, "/.well-known/oauth-protected-resource"); w.Code != http.StatusNotFound {
		t.Errorf("metadata of no address: %d", w.Code)
	}

	for _, resource := range []string{origin + "/mcp", origin + "/sse", origin + "/old/sse"} {
		token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read"}})
		for _, path := range []string{"/mcp", "/sse", "/old/sse"} {
			if w := get(mux, http.MethodGet, origin+path, "Authorization", "Bearer "+token); w.Code != http.StatusAccepted {
				t.Errorf("a token for %s at %s: %d", resource, path, w.Code)
			}
		}
		bad := issuer.MintWrong(guardtest.LongerAudience, guardtest.Token{Resource: resource, Scopes: []string{"read"}})
		if w := get(mux, http.MethodGet, origin+"/sse", "Authorization", "Bearer "+bad); w.Code != http.StatusUnauthorized {
			t.Errorf("a token for %s/more: %d", resource, w.Code)
		}
	}
}

func TestAliasesAreChecked(t *testing.T) {
	issuer := guardtest.New(t)
	for _, c := range []struct {
		alias, said string
	}{
		{"/sse", "not an absolute URL"},
		{"https://other.example.com/sse", "is not at https://notes.example.com, where Resource is"},
		{"http://notes.example.com/sse", "must begin with https://"},
		{"https://notes.example.com/mcp", "is named twice"},
		{"https://notes.example.com/", "leave out the trailing slash"},
		{"https://notes.example.com/sse?x=1", "must not have a user, a query or a fragment"},
	} {
		cfg := issuer.Config("https://notes.example.com/mcp", "read")
		cfg.Aliases = []string{c.alias}
		if _, err := guard.New(cfg); err == nil || !strings.Contains(err.Error(), "Aliases") || !strings.Contains(err.Error(), c.said) {
			t.Errorf("%s: %v; want %q", c.alias, err, c.said)
		}
	}
}

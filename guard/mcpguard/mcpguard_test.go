package mcpguard_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
	"github.com/postern-id/postern/guard/mcpguard"
)

const resource = "http://localhost:8080/mcp"

type withToken string

func (t withToken) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(t))
	return http.DefaultTransport.RoundTrip(r)
}

type none struct{}

// newServer has a tool that reports the SDK's TokenInfo and one that writes.
func newServer() *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "who"}, func(_ context.Context, req *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		info, _ := json.Marshal(req.Extra.TokenInfo)
		header, _ := json.Marshal(req.Extra.Header)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(info) + string(header)}}}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "write"}, func(context.Context, *mcp.CallToolRequest, none) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{}, nil, nil
	})
	server.AddResource(&mcp.Resource{URI: "note://1", Name: "one"}, func(context.Context, *mcp.ReadResourceRequest) (*mcp.ReadResourceResult, error) {
		return &mcp.ReadResourceResult{Contents: []*mcp.ResourceContents{{URI: "note://1", Text: "x"}}}, nil
	})
	server.AddPrompt(&mcp.Prompt{Name: "p"}, func(context.Context, *mcp.GetPromptRequest) (*mcp.GetPromptResult, error) {
		return &mcp.GetPromptResult{}, nil
	})
	return server
}

func newGuard(t *testing.T, issuer *guardtest.Issuer) *guard.Guard {
	t.Helper()
	cfg := issuer.Config(resource, "read", "write")
	cfg.Tools = map[string]guard.Rule{"who": guard.AnyOf("read", "write"), "write": guard.AllOf("write")}
	cfg.Methods = map[string]guard.Rule{"resources/read": guard.AllOf("read")}
	g, err := guard.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func connect(t *testing.T, url, token string) *mcp.ClientSession {
	t.Helper()
	session, err := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil).Connect(t.Context(),
		&mcp.StreamableClientTransport{Endpoint: url, HTTPClient: &http.Client{Transport: withToken(token)}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// TestTokenInfo proves that the SDK's own view of the caller is filled, and
// that no token reaches a tool.
//
// Proves: MCP-RS-14.
func TestTokenInfo(t *testing.T) {
	issuer := guardtest.New(t)
	g := newGuard(t, issuer)
	server := newServer()
	issuer.Advance(-24 * time.Hour) // the SDK must not judge by the system's clock
	h := httptest.NewServer(mcpguard.Protect(g, mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})))
	defer h.Close()
	token := issuer.Mint(guardtest.Token{Resource: resource, Subject: "user-a", ClientID: "client-a", Organization: "o-a", Scopes: []string{"read"}})
	result, err := connect(t, h.URL, token).CallTool(t.Context(), &mcp.CallToolParams{Name: "who"})
	if err != nil {
		t.Fatal(err)
	}
	text := result.Content[0].(*mcp.TextContent).Text
	for _, want := range []string{`"UserID":"user-a"`, `"Scopes":["read"]`, `"client_id":"client-a"`, `"organization_id":"o-a"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the tool sees %s, want %s", text, want)
		}
	}
	if strings.Contains(text, "Authorization") || strings.Contains(text, token) {
		t.Errorf("the tool sees a credential: %s", text)
	}

	t.Run("without a principal nothing passes", func(t *testing.T) {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/mcp", nil)
		r.Header.Set("Authorization", "Bearer verified-by-guard")
		mcpguard.TokenInfo(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			t.Errorf("the handler ran for %v", auth.TokenInfoFromContext(r.Context()))
		})).ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized {
			t.Errorf("status %d", w.Code)
		}
	})
}

// TestMiddleware proves that lists show what the caller may use, that results
// which depend on the caller are private, and that an operation is judged when
// it runs.
//
// Proves: MCP-RS-20, MCP-RS-21.
func TestMiddleware(t *testing.T) {
	issuer := guardtest.New(t)
	g := newGuard(t, issuer)
	server := newServer()
	server.AddReceivingMiddleware(mcpguard.Middleware(g))
	h := httptest.NewServer(mcpguard.Protect(g, mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})))
	defer h.Close()

	for scope, want := range map[string][]string{"read": {"who"}, "write": {"who", "write"}} {
		session := connect(t, h.URL, issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{scope}}))
		list, err := session.ListTools(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, tool := range list.Tools {
			names = append(names, tool.Name)
		}
		if !slices.Equal(names, want) || list.CacheScope != "private" {
			t.Errorf("%s sees %v, cache scope %q", scope, names, list.CacheScope)
		}
	}

	session := connect(t, h.URL, issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read"}}))
	resources, err := session.ListResources(t.Context(), nil)
	if err != nil || resources.CacheScope != "private" {
		t.Errorf("resources %+v %v", resources, err)
	}
	templates, err := session.ListResourceTemplates(t.Context(), nil)
	if err != nil || templates.CacheScope != "private" {
		t.Errorf("templates %+v %v", templates, err)
	}
	prompts, err := session.ListPrompts(t.Context(), nil)
	if err != nil || prompts.CacheScope != "private" {
		t.Errorf("prompts %+v %v", prompts, err)
	}
	read, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "note://1"})
	if err != nil || read.CacheScope != "private" {
		t.Errorf("resource %+v %v", read, err)
	}

	t.Run("behind a handler that forgot to protect", func(t *testing.T) {
		open := httptest.NewServer(mcp.NewStreamableHTTPHandler(
			func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true}))
		defer open.Close()
		session, err := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil).Connect(t.Context(),
			&mcp.StreamableClientTransport{Endpoint: open.URL}, nil)
		if err == nil {
			_, err = session.CallTool(t.Context(), &mcp.CallToolParams{Name: "who"})
		}
		if err == nil {
			t.Error("a call without a caller ran")
		}
	})

	t.Run("judged when it runs", func(t *testing.T) {
		run := mcpguard.Middleware(g)(func(context.Context, string, mcp.Request) (mcp.Result, error) {
			return &mcp.CallToolResult{}, nil
		})
		p, err := g.Verify(t.Context(), issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read"}}))
		if err != nil {
			t.Fatal(err)
		}
		ctx := guard.WithPrincipal(t.Context(), p)
		callOf := func(name string) error {
			_, err := run(ctx, "tools/call", &mcp.CallToolRequest{Params: &mcp.CallToolParamsRaw{Name: name}})
			return err
		}
		if err := callOf("who"); err != nil {
			t.Errorf("who: %v", err)
		}
		if err := callOf("write"); err == nil {
			t.Error("write ran without its scope")
		}
		issuer.Advance(16 * time.Minute)
		if err := callOf("who"); err == nil {
			t.Error("who ran after the token's end")
		}
	})
}

// TestOwnToken proves that an operation in a session of the SDK is judged by
// the token of the request that brought it, not by a wider one of the session.
func TestOwnToken(t *testing.T) {
	issuer := guardtest.New(t)
	g := newGuard(t, issuer)
	server := newServer()
	mcp.AddTool(server, &mcp.Tool{Name: "who"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{}, nil, guard.Check(ctx, guard.AllOf("write"))
	})
	server.AddReceivingMiddleware(mcpguard.Middleware(g))
	h := httptest.NewServer(mcpguard.Protect(g, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)))
	t.Cleanup(h.Close) // after the session
	wide := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read", "write"}, Lifetime: time.Hour})
	narrow := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read"}})
	session := connect(t, h.URL, wide)
	if session.ID() == "" {
		t.Fatal("no session to test with")
	}
	for token, refused := range map[string]bool{wide: false, narrow: true} {
		r, err := http.NewRequest(http.MethodPost, h.URL, strings.NewReader(
			`{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"who","arguments":{}}}`))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{
			"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "Mcp-Session-Id": session.ID(),
		} {
			r.Header.Set(name, value)
		}
		resp, err := withToken(token).RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || strings.Contains(string(answer), `"isError":true`) != refused {
			t.Errorf("%d %s %v, refused must be %t", resp.StatusCode, answer, err, refused)
		}
	}
}

// TestPermissions proves that lists and calls follow what the issuer's policy
// permits at the moment, in a session that began before a change too.
//
// Proves: MCP-RS-20, MCP-RS-21.
func TestPermissions(t *testing.T) {
	issuer := guardtest.New(t)
	policy := func(scopes map[string]map[string][]string) {
		issuer.SetPolicy(guardtest.Policy{Resources: map[string][]string{"note": {"read", "write"}, "person": {"read"}}, Scopes: scopes})
	}
	policy(map[string]map[string][]string{"some": {"person": {"read"}}, "all": {"person": {"read"}, "note": {"*"}}})
	cfg := issuer.Config(resource, "some", "all")
	cfg.Tools = map[string]guard.Rule{"who": guard.Permission("person", "read"), "write": guard.Permission("note", "write")}
	cfg.Methods = map[string]guard.Rule{"resources/read": guard.Permission("note", "read"), "prompts/get": guard.Permission("note", "read")}
	g, err := guard.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := newServer()
	server.AddResourceTemplate(&mcp.ResourceTemplate{URITemplate: "note://{id}", Name: "notes"}, nil)
	server.AddReceivingMiddleware(mcpguard.Middleware(g))
	h := httptest.NewServer(mcpguard.Protect(g, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, nil)))
	t.Cleanup(h.Close) // after the sessions

	// seen is what a session lists, and that all of it is private.
	seen := func(t *testing.T, s *mcp.ClientSession) (names []string) {
		t.Helper()
		tools, err1 := s.ListTools(t.Context(), nil)
		resources, err2 := s.ListResources(t.Context(), nil)
		templates, err3 := s.ListResourceTemplates(t.Context(), nil)
		prompts, err4 := s.ListPrompts(t.Context(), nil)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			t.Fatal(err)
		}
		for _, tool := range tools.Tools {
			names = append(names, tool.Name)
		}
		for _, r := range resources.Resources {
			names = append(names, r.URI)
		}
		for _, r := range templates.ResourceTemplates {
			names = append(names, r.URITemplate)
		}
		for _, p := range prompts.Prompts {
			names = append(names, p.Name)
		}
		if tools.Tools == nil || resources.Resources == nil || templates.ResourceTemplates == nil || prompts.Prompts == nil {
			t.Error("an empty list is null")
		}
		for _, scope := range []string{tools.CacheScope, resources.CacheScope, templates.CacheScope, prompts.CacheScope} {
			if scope != "private" && scope != "" { // older revisions have none
				t.Errorf("cache scope %q", scope)
			}
		}
		return names
	}
	everything := []string{"who", "write", "note://1", "note://{id}", "p"}
	sessions := map[string]*mcp.ClientSession{}
	for scope, want := range map[string][]string{"some": {"who"}, "all": everything} {
		sessions[scope] = connect(t, h.URL, issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{scope}}))
		if got := seen(t, sessions[scope]); !slices.Equal(got, want) {
			t.Errorf("%s sees %q, want %q", scope, got, want)
		}
	}

	policy(map[string]map[string][]string{"some": {"person": {"read"}, "note": {"*"}}, "all": {"person": {"read"}}})
	issuer.Advance(time.Minute)
	for scope, want := range map[string][]string{"some": everything, "all": {"who"}} {
		if got := seen(t, sessions[scope]); !slices.Equal(got, want) {
			t.Errorf("after the change %s sees %q, want %q", scope, got, want)
		}
	}
	if _, err := sessions["some"].CallTool(t.Context(), &mcp.CallToolParams{Name: "write"}); err != nil {
		t.Errorf("what is permitted now: %v", err)
	}
	if _, err := sessions["all"].ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "note://1"}); err == nil {
		t.Error("what is permitted no more was read")
	}
}

// TestTransport proves that guard leaves the SDK's transport of 2026-07-28 as
// it is, and adds what it lacks.
//
// Proves: MCP-RS-17, MCP-RS-18, MCP-RS-19, MCP-RS-20, MCP-RS-26.
func TestTransport(t *testing.T) {
	issuer := guardtest.New(t)
	g := newGuard(t, issuer)
	server := newServer()
	type input struct {
		Count int `json:"count"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "typed"}, func(context.Context, *mcp.CallToolRequest, input) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{}, nil, nil
	})
	server.AddReceivingMiddleware(mcpguard.Middleware(g))
	h := httptest.NewServer(mcpguard.Protect(g, mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})))
	defer h.Close()
	token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read", "write"}})

	const meta = `"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}}`
	for _, c := range []struct {
		name, verb, body, version, method, tool string
		status                                  int
		want                                    string
	}{
		{"discover", "POST", `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{` + meta + `}}`, "2026-07-28", "server/discover", "", 200, `"supportedVersions":`},
		{"discover is private", "POST", `{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{` + meta + `}}`, "2026-07-28", "server/discover", "", 200, `"cacheScope":"private"`},
		{"a result says its type", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + meta + `}}`, "2026-07-28", "tools/list", "", 200, `"resultType":"complete"`},
		{"a notification", "POST", `{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7,` + meta + `}}`, "2026-07-28", "notifications/cancelled", "", 202, ""},
		{"GET", "GET", "", "2026-07-28", "", "", 405, ""},
		{"DELETE", "DELETE", "", "2026-07-28", "", "", 405, ""},
		{"another method in the header", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + meta + `}}`, "2026-07-28", "prompts/list", "", 400, `-32020`},
		{"another tool in the header", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"who",` + meta + `}}`, "2026-07-28", "tools/call", "write", 400, `-32020`},
		{"no header", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + meta + `}}`, "2026-07-28", "", "", 400, `-32020`},
		{"an unknown version", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{` + strings.Replace(meta, "2026-07-28", "2099-01-01", 1) + `}}`, "2099-01-01", "tools/list", "", 400, `-32022`},
		{"an unknown method", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/none","params":{` + meta + `}}`, "2026-07-28", "tools/none", "", 404, `-32601`},
		{"no _meta", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}`, "2026-07-28", "tools/list", "", 400, `-32602`},
		{"an argument of the wrong type", "POST", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"typed","arguments":{"count":"many"},` + meta + `}}`, "2026-07-28", "tools/call", "typed", 200, `"isError":true`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := http.NewRequest(c.verb, h.URL, strings.NewReader(c.body))
			if err != nil {
				t.Fatal(err)
			}
			for name, value := range map[string]string{
				"Content-Type": "application/json", "Accept": "application/json, text/event-stream", "MCP-Protocol-Version": c.version,
				"Mcp-Method": c.method, "Mcp-Name": c.tool, "Authorization": "Bearer " + token, "Mcp-Session-Id": "ignored", "Last-Event-ID": "ignored",
			} {
				if value != "" {
					r.Header.Set(name, value)
				}
			}
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != c.status || !strings.Contains(string(body), c.want) {
				t.Errorf("status %d %s\nwant %d with %s", resp.StatusCode, body, c.status, c.want)
			}
			if resp.Header.Get("X-Accel-Buffering") != "no" {
				t.Error("a proxy may hold back the stream")
			}
		})
	}
}

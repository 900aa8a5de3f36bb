package guard_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
)

const resource = "http://localhost:8080/mcp"

const metadataURL = "http://localhost:8080/.well-known/oauth-protected-resource/mcp"

// newGuard fails the test on a configuration that New refuses.
func newGuard(t testing.TB, cfg guard.Config) *guard.Guard {
	t.Helper()
	g, err := guard.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// todoConfig is a server with a reading and a writing tool.
func todoConfig(issuer *guardtest.Issuer) guard.Config {
	cfg := issuer.Config(resource, "read:todos", "write:todos", "admin")
	cfg.Scopes[2].Implies = []string{"write:todos"}
	cfg.Scopes[1].Implies = []string{"read:todos"}
	cfg.InitialScopes = []string{"read:todos", "write:todos"}
	cfg.Tools = map[string]guard.Rule{
		"list":   guard.AnyOf("read:todos", "admin"),
		"create": guard.AllOf("write:todos"),
		"purge":  {All: []string{"admin"}, Any: []string{"write:todos", "read:todos"}},
	}
	cfg.Methods = map[string]guard.Rule{"resources/read": guard.AllOf("read:todos"), "ping": {}}
	return cfg
}

// ran is a handler that says who called, and counts.
type ran struct {
	times  int
	caller *guard.Principal
	header http.Header
	body   string
}

func (h *ran) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.times++
	h.caller = guard.FromContext(r.Context())
	h.header = r.Header
	body, _ := io.ReadAll(r.Body)
	h.body = string(body)
	w.WriteHeader(http.StatusAccepted)
}

// call is a request to a protected handler, without a network.
func call(h http.Handler, method, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, resource, strings.NewReader(body))
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

const pingBody = `{"jsonrpc":"2.0","id":1,"method":"tools/list"}`

func toolCall(name string) string {
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":` + quote(name) + `,"arguments":{}}}`
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

// TestNew proves that a Guard without a trusted issuer, an own name or with a
// mistake in its policy cannot be made.
//
// Row: J11. Proves: RFC9728-2-a, RFC9728-7.1-a.
func TestNew(t *testing.T) {
	good := guard.Config{
		Issuer: "https://issuer.example.com", Resource: "https://notes.example.com/mcp",
		Scopes: []guard.Scope{{Name: "read"}},
	}
	if _, err := guard.New(good); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*guard.Config)
		want   string
	}{
		"no issuer":                {func(c *guard.Config) { c.Issuer = "" }, "Issuer is required"},
		"no resource":              {func(c *guard.Config) { c.Resource = "" }, "Resource is required"},
		"plain http issuer":        {func(c *guard.Config) { c.Issuer = "http://issuer.example.com" }, "https://"},
		"issuer with a query":      {func(c *guard.Config) { c.Issuer += "?a=b" }, "query"},
		"plain http resource":      {func(c *guard.Config) { c.Resource = "http://notes.example.com/mcp" }, "Resource: \"http://notes.example.com/mcp\" must begin with https://"},
		"resource with a query":    {func(c *guard.Config) { c.Resource += "?a=b" }, "query"},
		"relative resource":        {func(c *guard.Config) { c.Resource = "/mcp" }, "absolute"},
		"resource with a fragment": {func(c *guard.Config) { c.Resource += "#x" }, "fragment"},
		"resource with a user":     {func(c *guard.Config) { c.Resource = "https://u@notes.example.com/" }, "user"},
		"origin with a slash":      {func(c *guard.Config) { c.Resource = "https://notes.example.com/" }, "trailing slash"},
		"undeclared tool scope":    {func(c *guard.Config) { c.Tools = map[string]guard.Rule{"x": guard.AllOf("raed")} }, `Tools: x: scope "raed"`},
		"undeclared any scope":     {func(c *guard.Config) { c.Tools = map[string]guard.Rule{"x": guard.AnyOf("read", "wriet")} }, `"wriet"`},
		"undeclared method scope":  {func(c *guard.Config) { c.Methods = map[string]guard.Rule{"ping": guard.AllOf("x")} }, "Methods: ping"},
		"all actions":              {func(c *guard.Config) { c.Tools = map[string]guard.Rule{"x": guard.Permission("note", "*")} }, `Tools: x: a permission is one action on one resource, not "note:*"`},
		"all resources":            {func(c *guard.Config) { c.Methods = map[string]guard.Rule{"x": guard.Permission("*", "read")} }, `"*:read"`},
		"no action":                {func(c *guard.Config) { c.Tools = map[string]guard.Rule{"x": guard.Permission("note", "")} }, `"note:"`},
		"an action on nothing":     {func(c *guard.Config) { c.Tools = map[string]guard.Rule{"x": guard.Permission("", "read")} }, `":read"`},
		"no organization":          {func(c *guard.Config) { c.Tools = map[string]guard.Rule{"x": guard.AllOf("read").In("")} }, "In needs"},
		"undeclared first scope":   {func(c *guard.Config) { c.InitialScopes = []string{"x"} }, "InitialScopes"},
		"undeclared implied scope": {func(c *guard.Config) { c.Scopes[0].Implies = []string{"x"} }, "read implies"},
		"scope with a space":       {func(c *guard.Config) { c.Scopes = []guard.Scope{{Name: "a b"}} }, "RFC 6749"},
		"scope declared twice":     {func(c *guard.Config) { c.Scopes = append(c.Scopes, c.Scopes[0]) }, "twice"},
		"offline_access":           {func(c *guard.Config) { c.Scopes = []guard.Scope{{Name: "offline_access"}} }, "offline_access"},
		"introspection, no secret": {func(c *guard.Config) { c.Introspection = &guard.Introspection{ID: "x"} }, "Introspection"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := good
			cfg.Scopes = []guard.Scope{{Name: "read"}}
			c.change(&cfg)
			_, err := guard.New(cfg)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("New: %v, want an error with %q", err, c.want)
			}
		})
	}
	t.Run("a tool that the server may not have is no mistake", func(t *testing.T) {
		cfg := good
		cfg.Tools = map[string]guard.Rule{"not there": guard.AllOf("read")}
		newGuard(t, cfg)
	})
	t.Run("all problems at once", func(t *testing.T) {
		_, err := guard.New(guard.Config{})
		if err == nil || !strings.Contains(err.Error(), "Issuer") || !strings.Contains(err.Error(), "Resource") {
			t.Errorf("New: %v", err)
		}
	})
}

// TestChallenges proves what a client is told, status by status.
//
// Row: J19, J20. Proves: MCP-RS-2, MCP-RS-4, MCP-RS-5, MCP-RS-6, MCP-RS-7, MCP-RS-8,
// MCP-RS-13, MCP-RS-15, RFC6750-2.1-a, RFC6750-3-a, RFC6750-3-c, RFC6750-3-d, RFC6750-3-e, RFC6750-3.1-a, RFC6750-3.1-b,
// RFC6750-3.1-c, RFC6750-3.1-d, RFC9728-5.1-a, RFC6749-7-b.
func TestChallenges(t *testing.T) {
	issuer := guardtest.New(t)
	handler := &ran{}
	h := newGuard(t, todoConfig(issuer)).Protect(handler)
	readOnly := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:todos"}})

	const where = `resource_metadata="` + metadataURL + `"`
	const first = `, scope="read:todos write:todos"`
	const bare = `Bearer ` + where + first
	const invalid = `Bearer error="invalid_token", error_description="The access token is expired, revoked or not meant for this server.", ` + where + first
	const malformed = `Bearer error="invalid_request", error_description="Send exactly one Authorization header of the form: Bearer <token>.", ` + where
	insufficient := func(scopes string) string {
		return `Bearer error="insufficient_scope", error_description="The access token lacks a scope that this operation needs.", scope="` + scopes + `", ` + where
	}
	for name, c := range map[string]struct {
		body    string
		headers []string
		status  int
		want    string
	}{
		"no credentials":             {pingBody, nil, 401, bare},
		"token in the query only":    {pingBody, nil, 401, bare},
		"basic scheme with a token":  {pingBody, []string{"Authorization", "Basic " + readOnly}, 401, bare},
		"token in a cookie":          {pingBody, []string{"Cookie", "access_token=" + readOnly}, 401, bare},
		"two Authorization headers":  {pingBody, append(bearer(readOnly), bearer(readOnly)...), 400, malformed},
		"no token after the scheme":  {pingBody, []string{"Authorization", "Bearer"}, 400, malformed},
		"two tokens in one header":   {pingBody, []string{"Authorization", "Bearer a b"}, 400, malformed},
		"a comma in the token":       {pingBody, []string{"Authorization", "Bearer a,b"}, 400, malformed},
		"garbage":                    {pingBody, bearer("garbage"), 401, invalid},
		"garbage of nine kilobytes":  {pingBody, bearer(strings.Repeat("a", 9<<10)), 401, invalid},
		"scheme in lower case":       {pingBody, []string{"Authorization", "bEARER " + readOnly}, 202, ""},
		"enough scope":               {toolCall("list"), bearer(readOnly), 202, ""},
		"all-of not met":             {toolCall("create"), bearer(readOnly), 403, insufficient("write:todos")},
		"all-of and any-of not met":  {toolCall("purge"), bearer(readOnly), 403, insufficient("admin write:todos")},
		"tool that no rule names":    {toolCall("other"), bearer(readOnly), 403, insufficient("read:todos write:todos admin")},
		"expired and too few scopes": {toolCall("create"), bearer(issuer.MintWrong(guardtest.Expired, guardtest.Token{Resource: resource})), 401, invalid},
		"a good token without scope": {pingBody, bearer(issuer.Mint(guardtest.Token{Resource: resource})), 403, insufficient("read:todos write:todos")},
	} {
		t.Run(name, func(t *testing.T) {
			handler.times = 0
			w := call(h, http.MethodPost, c.body, c.headers...)
			if w.Code != c.status || w.Header().Get("WWW-Authenticate") != c.want {
				t.Errorf("got %d %q\nwant %d %q", w.Code, w.Header().Get("WWW-Authenticate"), c.status, c.want)
			}
			if strings.Contains(w.Header().Get("WWW-Authenticate"), "offline_access") {
				t.Error("offline_access is no scope of a resource")
			}
			if got := handler.times; got != map[bool]int{true: 1}[c.status == 202] {
				t.Errorf("the handler ran %d times", got)
			}
			if c.status == 202 {
				return
			}
			var body struct{ Error string }
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || body.Error == "" {
				t.Errorf("body %q: %v", w.Body, err)
			}
			if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/json" {
				t.Errorf("headers %v", w.Header())
			}
			for _, secret := range []string{issuer.URL, "aud", "kid", readOnly} {
				if strings.Contains(w.Body.String(), secret) {
					t.Errorf("the body says %q", secret)
				}
			}
		})
	}
}

// TestQueryToken proves that a token in the query is not looked at, alone or
// beside a header.
//
// Row: J18. Proves: MCP-RS-13.
func TestQueryToken(t *testing.T) {
	issuer := guardtest.New(t)
	h := newGuard(t, todoConfig(issuer)).Protect(&ran{})
	token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"admin"}})
	r := httptest.NewRequest(http.MethodPost, resource+"?access_token="+token, strings.NewReader(pingBody))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != 401 || strings.Contains(w.Header().Get("WWW-Authenticate"), "error=") {
		t.Errorf("got %d %q, want the bare challenge", w.Code, w.Header().Get("WWW-Authenticate"))
	}
}

// TestPrincipal proves what a handler learns about its caller, and that the
// token is not among it.
//
// Row: X01. Proves: MCP-RS-14.
func TestPrincipal(t *testing.T) {
	issuer := guardtest.New(t)
	handler := &ran{}
	h := newGuard(t, todoConfig(issuer)).Protect(handler)
	token := issuer.Mint(guardtest.Token{
		Resource: resource, Subject: "user-a", ClientID: "https://app.example.com/client.json",
		Organization: "organization-a", Scopes: []string{"write:todos"}, Claims: map[string]any{"roles": []string{"editor"}},
	})
	if w := call(h, http.MethodPost, toolCall("create"), bearer(token)...); w.Code != 202 {
		t.Fatalf("status %d %s", w.Code, w.Body)
	}
	p := handler.caller
	if p.Subject != "user-a" || p.ClientID != "https://app.example.com/client.json" || p.Organization != "organization-a" ||
		p.Issuer != issuer.URL || p.GrantID != "grant-test-1" || p.SessionID != "family-test-1" || p.TokenID == "" ||
		!p.Has("read:todos") || p.Has("admin") || p.Expires.IsZero() {
		t.Errorf("principal %+v", p)
	}
	var claims struct{ Roles []string }
	if err := p.Claims(&claims); err != nil || len(claims.Roles) != 1 {
		t.Errorf("claims %v %v", claims, err)
	}
	if handler.header.Get("Authorization") != "" {
		t.Error("the handler sees the token")
	}
	if handler.body != toolCall("create") {
		t.Errorf("the handler read %q", handler.body)
	}
	signature := token[strings.LastIndexByte(token, '.')+1:]
	if printed := sprint(p); strings.Contains(printed, signature) {
		t.Errorf("printing a principal prints its token: %s", printed)
	}

	t.Run("a handler cannot change what others see", func(t *testing.T) {
		p.Scopes[0], p.Subject = "admin", "user-b"
		call(h, http.MethodPost, toolCall("create"), bearer(token)...)
		if handler.caller.Has("admin") || handler.caller.Subject != "user-a" {
			t.Errorf("principal %+v", handler.caller)
		}
	})
}

// TestHierarchy proves that a scope is worth what it implies.
//
// Proves: MCP-RS-9.
func TestHierarchy(t *testing.T) {
	issuer := guardtest.New(t)
	h := newGuard(t, todoConfig(issuer)).Protect(&ran{})
	for _, c := range []struct {
		scope, tool string
		status      int
	}{
		{"read:todos", "list", 202},
		{"read:todos", "create", 403},
		{"write:todos", "list", 202},
		{"write:todos", "create", 202},
		{"write:todos", "purge", 403},
		{"admin", "list", 202},
		{"admin", "create", 202},
		{"admin", "purge", 202},
		{"admin", "unknown to the policy", 202},
		{"Admin", "list", 403},
		{"read:todo", "list", 403},
	} {
		token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{c.scope}})
		if w := call(h, http.MethodPost, toolCall(c.tool), bearer(token)...); w.Code != c.status {
			t.Errorf("scope %q, tool %q: %d, want %d", c.scope, c.tool, w.Code, c.status)
		}
	}
}

// TestRequire proves the REST half: the same principal from a bearer token or
// from the context, and JSON answers.
func TestRequire(t *testing.T) {
	issuer := guardtest.New(t)
	g := newGuard(t, todoConfig(issuer))
	handler := &ran{}
	h := g.Require(guard.AllOf("write:todos"), handler)
	read := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:todos"}})
	write := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"write:todos"}, Subject: "user-w"})

	for _, c := range []struct {
		name    string
		headers []string
		status  int
	}{
		{"no token", nil, 401},
		{"too few scopes", bearer(read), 403},
		{"enough", bearer(write), 202},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := call(h, http.MethodGet, "", c.headers...)
			if w.Code != c.status {
				t.Errorf("status %d, want %d", w.Code, c.status)
			}
			if c.status != 202 && (w.Header().Get("WWW-Authenticate") == "" || !json.Valid(w.Body.Bytes())) {
				t.Errorf("answer %v %q", w.Header(), w.Body)
			}
		})
	}
	t.Run("a principal in the context goes first", func(t *testing.T) {
		p, err := g.Verify(t.Context(), write)
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodGet, "/api", nil)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r.WithContext(guard.WithPrincipal(r.Context(), p)))
		if w.Code != 202 || handler.caller.Subject != "user-w" {
			t.Errorf("status %d, caller %+v", w.Code, handler.caller)
		}
	})
	t.Run("an undeclared scope is found at start", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("Require took an undeclared scope")
			}
		}()
		g.Require(guard.AllOf("write:todo"), handler)
	})
}

// TestCheck proves that a long operation is judged again while it runs.
func TestCheck(t *testing.T) {
	issuer := guardtest.New(t)
	cfg := todoConfig(issuer)
	g := newGuard(t, cfg)
	token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:todos"}})
	var before, wrong, after error
	h := g.Require(guard.Rule{}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		before = guard.Check(r.Context(), guard.AllOf("read:todos"))
		wrong = guard.Check(r.Context(), guard.AllOf("write:todos"))
		issuer.Advance(16 * 60e9)
		after = guard.Check(r.Context(), guard.AllOf("read:todos"))
	}))
	call(h, http.MethodGet, "", bearer(token)...)
	wantError(t, "before", before, nil)
	wantError(t, "wrong scope", wrong, guard.ErrInsufficientScope)
	wantError(t, "after the end", after, guard.ErrInvalidToken)
	wantError(t, "without a caller", guard.Check(t.Context()), guard.ErrNoToken)
	wantError(t, "hand-made", guard.Check(guard.WithPrincipal(t.Context(), &guard.Principal{Scopes: []string{"a"}}), guard.AllOf("a")), nil)
}

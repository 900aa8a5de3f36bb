package guard_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"testing"

	"github.com/postern-id/postern/guard/guardtest"
)

// TestOperations proves that what a request will do is judged by its body in
// every revision, by its headers too in the newest, and that nothing in
// between lets a call slip through.
//
// Proves: MCP-RS-26.
func TestOperations(t *testing.T) {
	issuer := guardtest.New(t)
	handler := &ran{}
	cfg := todoConfig(issuer)
	cfg.MaxBody = 64 << 10
	h := newGuard(t, cfg).Protect(handler)
	read := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:todos"}})
	modern := func(method, name string) []string {
		return []string{"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", method, "Mcp-Name", name}
	}
	base64Name := func(s string) string { return "=?base64?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?=" }
	const list, create = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list"}}`, `{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"create"}}`

	for _, c := range []struct {
		name    string
		body    string
		headers []string
		status  int
		scope   string // in the challenge
	}{
		{"old: allowed tool", list, nil, 202, ""},
		{"old: other tool", create, nil, 403, "write:todos"},
		{"old: headers are not believed", create, modern("tools/call", "list")[2:], 403, "write:todos"},
		{"old: headers cannot forbid either", list, modern("tools/call", "create")[2:], 202, ""},
		{"new: both agree", list, modern("tools/call", "list"), 202, ""},
		{"new: both agree on the other", create, modern("tools/call", "create"), 403, "write:todos"},
		{"new: the body lies", create, modern("tools/call", "list"), 403, "write:todos"},
		{"new: the header lies", list, modern("tools/call", "create"), 403, "write:todos"},
		{"new: another method in the header", create, modern("tools/list", ""), 403, "write:todos"},
		{"new: no headers", create, []string{"MCP-Protocol-Version", "2026-07-28"}, 403, "write:todos"},
		{"new: name in base64", list, modern("tools/call", base64Name("list")), 202, ""},
		{"new: other name in base64", list, modern("tools/call", base64Name("create")), 403, "write:todos"},
		{"new: broken base64", list, modern("tools/call", "=?base64?*?="), 403, "read:todos write:todos admin"},
		{"batch: allowed", "[" + list + "," + list + "]", nil, 202, ""},
		{"batch: one is not", "[" + list + "," + create + "]", nil, 403, "read:todos write:todos"},
		{"batch: in the last place", "[" + pingBody + "," + pingBody + "," + create + "]", nil, 403, "read:todos write:todos"},
		{"name escaped", strings.Replace(create, "create", `cr\u0065ate`, 1), nil, 403, "write:todos"},
		{"method escaped", strings.Replace(create, "tools/call", `tools\/call`, 1), nil, 403, "write:todos"},
		{"member escaped", strings.Replace(create, `"name"`, `"n\u0061me"`, 1), nil, 403, "write:todos"},
		{"no name", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{}}`, nil, 403, "read:todos write:todos admin"},
		{"no params", `{"jsonrpc":"2.0","id":1,"method":"tools/call"}`, nil, 403, "read:todos write:todos admin"},
		{"params in an array", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":["list"]}`, nil, 403, "read:todos write:todos admin"},
		{"method with a rule", `{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"todo://1"}}`, nil, 202, ""},
		{"method without a rule", `{"jsonrpc":"2.0","id":1,"method":"prompts/get","params":{"name":"list"}}`, nil, 403, "read:todos write:todos admin"},
		{"unknown method", `{"jsonrpc":"2.0","id":1,"method":"tools/Call","params":{"name":"list"}}`, nil, 403, "read:todos write:todos admin"},
		{"notification", `{"jsonrpc":"2.0","method":"notifications/initialized"}`, nil, 202, ""},
		{"response", `{"jsonrpc":"2.0","id":1,"result":{}}`, nil, 202, ""},
		{"initialize", `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}`, nil, 202, ""},

		{"two methods", `{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call","params":{"name":"create"}}`, nil, 400, ""},
		{"two methods, one escaped", `{"jsonrpc":"2.0","id":1,"method":"tools/list","meth\u006fd":"tools/call","params":{"name":"create"}}`, nil, 400, ""},
		{"two names", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list","name":"create"}}`, nil, 400, ""},
		{"Method", `{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call","params":{"name":"create"}}`, nil, 400, ""},
		{"NAME", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list","NAME":"create"}}`, nil, 400, ""},
		{"paramſ", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list"},"paramſ":{"name":"create"}}`, nil, 400, ""},
		{"method is a number", `{"jsonrpc":"2.0","id":1,"method":1}`, nil, 400, ""},
		{"name is an object", `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":{"a":"list"}}}`, nil, 400, ""},
		{"not an object", `"tools/list"`, nil, 400, ""},
		{"empty batch", `[]`, nil, 400, ""},
		{"batch in a batch", `[[` + list + `]]`, nil, 400, ""},
		{"two values", list + list, nil, 400, ""},
		{"cut", list[:20], nil, 400, ""},
		{"not UTF-8", strings.Replace(list, "list", "\x82", 1), nil, 400, ""},
		{"empty", "", nil, 400, ""},
		{"larger than the bound", `{"method":"` + strings.Repeat("x", 64<<10) + `"}`, nil, 413, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			handler.times = 0
			w := call(h, http.MethodPost, c.body, append(bearer(read), c.headers...)...)
			if w.Code != c.status {
				t.Errorf("status %d, want %d: %s", w.Code, c.status, w.Body)
			}
			if challenge := w.Header().Get("WWW-Authenticate"); c.scope != "" && !strings.Contains(challenge, `scope="`+c.scope+`"`) {
				t.Errorf("challenge %s, want scope %q", challenge, c.scope)
			}
			if (handler.times == 1) != (c.status == 202) {
				t.Errorf("the handler ran %d times", handler.times)
			}
			if c.status == 202 && handler.body != c.body {
				t.Errorf("the handler read %q", handler.body)
			}
			if c.status == 400 && !strings.Contains(w.Body.String(), `"jsonrpc":"2.0"`) {
				t.Errorf("body %s", w.Body)
			}
		})
	}

	t.Run("another media type", func(t *testing.T) { // Row: X03.
		w := call(h, http.MethodPut, list, append(bearer(read), "Content-Type", "text/plain")...)
		if w.Code != http.StatusUnsupportedMediaType {
			t.Errorf("status %d", w.Code)
		}
	})
	t.Run("a revision without sessions has no session", func(t *testing.T) {
		w := call(h, http.MethodPost, list, append(append(bearer(read), modern("tools/call", "list")...), "Mcp-Session-Id", "x", "Last-Event-ID", "1")...)
		if w.Code != 202 || handler.header.Get("Mcp-Session-Id") != "" || handler.header.Get("Last-Event-ID") != "" {
			t.Errorf("status %d, headers %v", w.Code, handler.header)
		}
	})
}

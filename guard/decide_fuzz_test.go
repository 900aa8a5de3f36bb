package guard

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// plainMessage is a JSON-RPC message as encoding/json reads it: names in any
// case, and the last of two members wins.
type plainMessage struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
}

// plainOperations is what a handler that reads with encoding/json would do for
// a body: method, and the name or URI of the three methods that have one.
func plainOperations(t *testing.T, body []byte) []operation {
	t.Helper()
	var messages []plainMessage
	if bytes.HasPrefix(bytes.TrimSpace(body), []byte("[")) {
		if err := json.Unmarshal(body, &messages); err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
	} else {
		messages = make([]plainMessage, 1)
		if err := json.Unmarshal(body, &messages[0]); err != nil {
			t.Fatalf("accepted %q: %v", body, err)
		}
	}
	var ops []operation
	for _, m := range messages {
		op := operation{method: m.Method}
		var params struct {
			Name any `json:"name"`
			URI  any `json:"uri"`
		}
		if bytes.HasPrefix(m.Params, []byte("{")) {
			if err := json.Unmarshal(m.Params, &params); err != nil {
				t.Fatalf("accepted %q: %v", body, err)
			}
		}
		switch m.Method {
		case "tools/call", "prompts/get":
			op.name, _ = params.Name.(string)
		case "resources/read":
			op.name, _ = params.URI.(string)
		}
		ops = append(ops, op)
	}
	return ops
}

var bodySeeds = []string{
	`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list"}}`,
	`[{"jsonrpc":"2.0","id":1,"method":"ping"},{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"create"}}]`,
	`{"method":"tools/list","meth\u006fd":"tools/call","params":{"name":"create"}}`,
	`{"method":"tools/call","params":{"name":"list","NAME":"create"}}`,
	`{"method":"tools/call","params":{"name":"list"},"paramſ":{"name":"create"}}`,
	`{"method":"resources/read","params":{"uri":"todo:\/\/1","name":1}}`,
	`{"method":"prompts/get","params":["list"]}`,
	`{"method":"tools/call","params":{"name":null}}`,
	`{"method":"tools/call","params":{"name":"\ud800"}}`,
	`{"id":1,"result":{"method":"tools/call"}}`,
	`{"method":null}`, `[]`, `[[{}]]`, `{}{}`, ` {"method":"initialize","params":{}} `, "\xef\xbb\xbf{}",
	"{\"method\":\"\x82\"}", "{\"method\":\"tools/call\",\"params\":{\"name\":\"a\x82\",\"na\x82me\":1}}",
}

// FuzzBody proves that what is read of a body before the handler has it is what
// encoding/json reads there, and that the handler gets the same bytes.
func FuzzBody(f *testing.F) {
	g := &Guard{cfg: Config{MaxBody: 1 << 20}}
	for _, seed := range bodySeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/mcp", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		ops, err := g.bodyOperations(httptest.NewRecorder(), r)
		if err != nil {
			if fault := (*syntaxError)(nil); !errors.As(err, &fault) {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		if want := plainOperations(t, body); !slices.Equal(ops, want) {
			t.Fatalf("%q is judged as %q and run as %q", body, ops, want)
		}
		if left, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(left, body) {
			t.Fatalf("the handler gets %q for %q: %v", left, body, err)
		}
	})
}

// FuzzToolPolicy proves that a request runs exactly when a plain reading of its
// body, tool by tool, permits it, whatever its headers say; and that a caller
// who gets every scope that the refusals ask for is let in.
func FuzzToolPolicy(f *testing.F) {
	p, err := newPolicy(Config{
		Scopes: []Scope{{Name: "read"}, {Name: "write"}, {Name: "admin", Implies: []string{"write"}}},
		Tools: map[string]Rule{
			"list": AnyOf("read", "admin"), "create": AllOf("write"), "wipe": AllOf("read", "admin"), "help": {},
		},
		Methods: map[string]Rule{"resources/read": AllOf("read")},
	})
	if err != nil {
		f.Fatal(err)
	}
	g := &Guard{cfg: Config{MaxBody: 1 << 20}, policy: p, limit: limiter{}}
	// may is the policy above in other words.
	may := func(op operation, has func(string) bool) bool {
		every := has("read") && has("write") && has("admin")
		switch op.method {
		case "tools/call":
			switch op.name {
			case "list":
				return has("read") || has("admin")
			case "create":
				return has("write")
			case "wipe":
				return has("read") && has("admin")
			case "help":
				return true
			}
			return every
		case "resources/read":
			return has("read")
		case "", "initialize", "server/discover", "ping", "logging/setLevel", "subscriptions/listen",
			"tools/list", "prompts/list", "resources/list", "resources/templates/list":
			return has("read") || has("write") || has("admin")
		}
		if strings.HasPrefix(op.method, "notifications/") {
			return has("read") || has("write") || has("admin")
		}
		return every
	}
	for i, body := range bodySeeds {
		f.Add([]byte(body), "2026-07-28", "tools/call", "create", byte(i))
		f.Add([]byte(body), "2025-11-25", "tools/list", "=?base64?bGlzdA==?=", byte(i+1))
	}
	all := []string{"read", "write", "admin"}
	f.Fuzz(func(t *testing.T, body []byte, version, method, name string, mask byte) {
		var scopes []string
		for i, scope := range all {
			if mask&(1<<i) != 0 {
				scopes = append(scopes, scope)
			}
		}
		ask := func() (*http.Request, error) {
			r := httptest.NewRequest(http.MethodPost, "/mcp", bytes.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			r.Header["Mcp-Protocol-Version"], r.Header["Mcp-Method"], r.Header["Mcp-Name"] = []string{version}, []string{method}, []string{name}
			return r, g.decide(httptest.NewRecorder(), r, &Principal{Scopes: p.grant(scopes)})
		}
		permitted := func() bool {
			granted := p.grant(scopes)
			has := func(scope string) bool { return slices.Contains(granted, scope) }
			ops := plainOperations(t, body)
			if version >= "2026-07-28" && method != "" {
				claimed := operation{method, name}
				if encoded, ok := strings.CutPrefix(name, "=?base64?"); ok && strings.HasSuffix(encoded, "?=") {
					if text, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(encoded, "?=")); err == nil {
						claimed.name = string(text)
					}
				}
				if encoded, ok := strings.CutPrefix(method, "=?base64?"); ok && strings.HasSuffix(encoded, "?=") {
					if text, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(encoded, "?=")); err == nil {
						claimed.method = string(text)
					}
				}
				ops = append(ops, claimed)
			}
			return !slices.ContainsFunc(ops, func(op operation) bool { return !may(op, has) })
		}
		for range len(all) + 1 {
			_, err := ask()
			var lack *scopeError
			switch {
			case err == nil && !permitted():
				t.Fatalf("%q runs with the scopes %q", body, scopes)
			case err == nil:
				return
			case !errors.As(err, &lack): // the body cannot be read
				if fault := (*syntaxError)(nil); !errors.As(err, &fault) {
					t.Fatalf("%q: %v", body, err)
				}
				return
			case slices.Equal(lack.ask, scopes) || len(lack.ask) == 0:
				t.Fatalf("%q with %q is told to ask for %q", body, scopes, lack.ask)
			}
			if json.Valid(body) {
				if _, broken := parseOperations(body); broken == nil && permitted() {
					t.Fatalf("%q is refused with the scopes %q", body, scopes)
				}
			}
			scopes = union(scopes, lack.ask)
		}
		t.Fatalf("%q is refused with every scope: %q", body, scopes)
	})
}

// FuzzMetadataPath proves that the metadata of a resource is where RFC 9728 §3.1
// puts it and nowhere else, names the resource as it was configured, and is where
// the challenge says.
func FuzzMetadataPath(f *testing.F) {
	for _, resource := range []string{
		"https://notes.example.com/mcp", "https://notes.example.com", "http://localhost:8080/mcp", "https://notes.example.com/a/b/",
		"https://notes.example.com/a%2Fb", "https://notes.example.com/ä", "https://notes.example.com//x", "https://notes.example.com/a/../b",
		"https://notes.example.com/a?b=c", "https://[::1]:8443/mcp", "https://Notes.example.com/MCP", `https://notes.example.com/"x`, `https://"`, "https://nötes.example.com", "https://notes.example.com/\xff\xff",
	} {
		for _, path := range []string{"/.well-known/oauth-protected-resource", "/.well-known/oauth-protected-resource/mcp", "/.well-known/oauth-protected-resource//mcp"} {
			f.Add(resource, path)
		}
	}
	f.Fuzz(func(t *testing.T, resource, path string) {
		g, err := New(Config{Issuer: "https://issuer.example.com", Resource: resource})
		if err != nil {
			return
		}
		u, err := url.Parse(resource)
		if err != nil || u.Host == "" || u.User != nil || strings.ContainsAny(resource, "?#") {
			t.Fatalf("%q is taken for a resource: %v", resource, err)
		}
		// "Inserting the well-known URI string between the host component and
		// the path": what stands before the path stays as it was written.
		_, rest, _ := strings.Cut(resource, "://")
		if slash := strings.Index(rest, "/"); slash >= 0 {
			rest = rest[slash:]
		} else {
			rest = ""
		}
		h := g.Metadata()
		get := func(path string) (named string) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			var err error
			if r.URL, err = url.ParseRequestURI(path); err != nil || r.URL.Host != "" || r.URL.Path == issuerMetadataPath {
				return ""
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var document resourceMetadata
			switch {
			case w.Code == http.StatusNotFound:
				return ""
			case w.Code != http.StatusOK || json.Unmarshal(w.Body.Bytes(), &document) != nil:
				t.Fatalf("%q of %q: %d %s", path, resource, w.Code, w.Body)
			}
			return document.Resource
		}
		if named := get(resourceMetadataPath + rest); named != resource {
			t.Fatalf("the metadata at the path of %q names %q", resource, named)
		}
		if named := get(path); named != "" {
			asked, err := url.Parse(path)
			if err != nil || asked.EscapedPath() != resourceMetadataPath+u.EscapedPath() {
				t.Fatalf("the metadata of %q is at %q too: %v", resource, path, err)
			}
		}
		said, ok := strings.CutPrefix(g.addresses[0].challenges.none, `Bearer resource_metadata="`)
		said, rest, closed := strings.Cut(said, `"`)
		told, err := url.Parse(said)
		if !ok || !closed || rest != "" || err != nil || told.Host != u.Host || told.EscapedPath() != resourceMetadataPath+u.EscapedPath() ||
			strings.ContainsFunc(said, func(c rune) bool { return c <= ' ' || c > '~' || c == '\\' }) {
			t.Fatalf("the challenge of %q: %s", resource, g.addresses[0].challenges.none)
		}
	})
}

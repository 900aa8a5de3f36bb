package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard/guardtest"
)

// todo is the running example with an issuer that trusts everybody.
type todo struct {
	*httptest.Server
	t          *testing.T
	issuer     *guardtest.Issuer
	identities *identities
	service    *Service
}

func startTodo(t *testing.T) *todo {
	t.Helper()
	issuer := guardtest.New(t)
	server := httptest.NewUnstartedServer(nil)
	server.Start()
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	service := newService(t)
	identities := &identities{issuer: issuer.URL}
	server.Config.Handler, err = newHandler(settings{
		url: u, issuer: issuer.URL, clientID: "web", client: &http.Client{Transport: identities},
	}, service)
	if err != nil {
		t.Fatal(err)
	}
	return &todo{server, t, issuer, identities, service}
}

// token is what a connected app of the person gets.
func (s *todo) token(subject string, scopes ...string) string {
	return s.issuer.Mint(guardtest.Token{
		Resource: s.URL + "/mcp", Subject: subject, ClientID: "https://app.example.test/client.json", Scopes: scopes,
	})
}

// call sends a request with a token and a JSON body, if they are not empty.
func (s *todo) call(method, path, token, body string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r) // which follows no redirect
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(text)
}

// bearer adds a token to every request of an MCP client.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// connect connects the official client by one of the transports.
func (s *todo) connect(t *testing.T, path, token string) *mcp.ClientSession {
	t.Helper()
	client := &http.Client{Transport: bearer(token)}
	var transport mcp.Transport = &mcp.StreamableClientTransport{Endpoint: s.URL + path, HTTPClient: client}
	if path == "/sse" {
		transport = &mcp.SSEClientTransport{Endpoint: s.URL + path, HTTPClient: client}
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

var transports = []string{"/mcp", "/sse"}

// use calls a tool and decodes its result, whose text must be the same JSON as
// its structured content.
func use(t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any, into any) {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	text := result.Content[0].(*mcp.TextContent).Text
	if result.IsError {
		t.Fatalf("%s: %s", tool, text)
	}
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%s: %q is no JSON: %v", tool, text, err)
	}
	var a, b any
	structured, _ := json.Marshal(result.StructuredContent)
	if json.Unmarshal([]byte(text), &a) != nil || json.Unmarshal(structured, &b) != nil || !cmp.Equal(a, b) || len(result.Content) != 1 {
		t.Errorf("%s: text %q, structured %s", tool, text, structured)
	}
}

// refusal calls a tool that must fail and returns what the client is told.
func refusal(t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any) string {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	if !result.IsError {
		t.Fatalf("%s was not refused", tool)
	}
	return result.Content[0].(*mcp.TextContent).Text
}

func TestTools(t *testing.T) {
	for _, path := range transports {
		t.Run(path, func(t *testing.T) {
			s := startTodo(t)
			session := s.connect(t, path, s.token("ada", readTodos, writeTodos))
			tools, err := session.ListTools(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, tool := range tools.Tools {
				names = append(names, tool.Name)
				if schema, _ := json.Marshal(tool.OutputSchema); strings.Contains(string(schema), `"null"`) {
					t.Errorf("%s: the result may be null, says %s", tool.Name, schema)
				}
			}
			if got := strings.Join(names, " "); got != "createTodo deleteTodo listTodos markTodoComplete readTodo" {
				t.Errorf("tools %q", got)
			}
			if tools.CacheScope != "private" {
				t.Errorf("tools/list has the cache scope %q", tools.CacheScope)
			}

			var one struct{ Todo Todo }
			use(t, session, "createTodo", map[string]any{"todoText": "Water the lemon tree"}, &one)
			id := one.Todo.ID
			if one.Todo.Text != "Water the lemon tree" || one.Todo.Completed || one.Todo.AddedBy != "https://app.example.test/client.json" {
				t.Errorf("created %+v", one.Todo)
			}
			use(t, session, "createTodo", map[string]any{"todoText": "Book the train"}, &one)
			use(t, session, "markTodoComplete", map[string]any{"todoID": id}, &one)
			if one.Todo.ID != id || !one.Todo.Completed {
				t.Errorf("completed %+v", one.Todo)
			}
			use(t, session, "readTodo", map[string]any{"todoID": id}, &one)
			if one.Todo.ID != id || !one.Todo.Completed {
				t.Errorf("read %+v", one.Todo)
			}
			var all struct{ Todos []Todo }
			use(t, session, "listTodos", nil, &all)
			if len(all.Todos) != 2 || all.Todos[0].Text != "Book the train" || all.Todos[1].ID != id {
				t.Errorf("list %+v; want the open one first", all.Todos)
			}
			use(t, session, "deleteTodo", map[string]any{"todoID": id}, &one)
			if got := texts(t, s.service, "ada"); len(got) != 1 {
				t.Errorf("after deleting one: %q", got)
			}
			if got := refusal(t, session, "deleteTodo", map[string]any{"todoID": id}); got != "There is no to-do with that id." {
				t.Errorf("deleting it again: %q", got)
			}
			if got := refusal(t, session, "createTodo", map[string]any{"todoText": " "}); !strings.HasPrefix(got, "A to-do needs a text") {
				t.Errorf("an empty text: %q", got)
			}
		})
	}
}

func TestResources(t *testing.T) {
	for _, path := range transports {
		t.Run(path, func(t *testing.T) {
			s := startTodo(t)
			want := create(t, s.service, "ada", "Water the lemon tree")
			create(t, s.service, "bob", "not hers")
			session := s.connect(t, path, s.token("ada", readTodos))
			templates, err := session.ListResourceTemplates(t.Context(), nil)
			if err != nil || len(templates.ResourceTemplates) != 1 || templates.ResourceTemplates[0].URITemplate != "todoapp://todos/{id}" {
				t.Errorf("templates %+v, %v", templates, err)
			}
			list, err := session.ListResources(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(list.Resources) != 1 || list.Resources[0].URI != "todoapp://todos/"+want.ID || list.Resources[0].Name != want.Text || list.CacheScope != "private" {
				t.Errorf("resources %+v with the cache scope %q", list.Resources, list.CacheScope)
			}
			got, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "todoapp://todos/" + want.ID})
			if err != nil {
				t.Fatal(err)
			}
			var read Todo
			if err := json.Unmarshal([]byte(got.Contents[0].Text), &read); err != nil || read != want || got.Contents[0].MIMEType != "application/json" {
				t.Errorf("read %+v, %v; want %+v", got.Contents[0], err, want)
			}
			if got.CacheScope != "private" {
				t.Errorf("resources/read has the cache scope %q", got.CacheScope)
			}
			for _, uri := range []string{"todoapp://todos/made-up", "todoapp://todos/", "file:///etc/passwd"} {
				if _, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri}); err == nil {
					t.Errorf("%s was read", uri)
				}
			}
		})
	}
}

// The data of one person does not exist for another, whichever way they ask.
//
// Proves: MCP-RS-23
func TestTwoPeople(t *testing.T) {
	s := startTodo(t)
	hers := create(t, s.service, "ada", "hers")
	bob := s.token("bob", readTodos, writeTodos)
	made := "0193481c-0000-7000-8000-000000000000" // an id that never was

	for _, id := range []string{hers.ID, made} {
		for _, route := range []string{"GET /api/todos/" + id, "POST /api/todos/" + id + "/complete", "DELETE /api/todos/" + id} {
			method, path, _ := strings.Cut(route, " ")
			resp, body := s.call(method, path, bob, "")
			if want := `{"error":"not_found","error_description":"There is no to-do with that id."}`; resp.StatusCode != http.StatusNotFound || strings.TrimSpace(body) != want {
				t.Errorf("%s: %d %s", route, resp.StatusCode, body)
			}
		}
		for _, path := range transports {
			session := s.connect(t, path, bob)
			for _, tool := range []string{"readTodo", "markTodoComplete", "deleteTodo"} {
				if got := refusal(t, session, tool, map[string]any{"todoID": id}); got != "There is no to-do with that id." {
					t.Errorf("%s on %s: %q", tool, path, got)
				}
			}
			if got, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: resourcePrefix + id}); err == nil {
				t.Errorf("resource on %s: %+v", path, got)
			}
			list, err := session.ListResources(t.Context(), nil)
			if err != nil || len(list.Resources) != 0 {
				t.Errorf("resources on %s: %+v, %v", path, list, err)
			}
			var all struct{ Todos []Todo }
			if use(t, session, "listTodos", nil, &all); len(all.Todos) != 0 {
				t.Errorf("list on %s: %+v", path, all.Todos)
			}
		}
	}
	if _, body := s.call("GET", "/api/todos", bob, ""); strings.TrimSpace(body) != `{"todos":[]}` {
		t.Errorf("bob's list: %s", body)
	}
	if now, err := s.service.Read(t.Context(), "ada", hers.ID); err != nil || now != hers {
		t.Errorf("hers is now %+v, %v", now, err)
	}
}

// A path that is there says which methods it takes, whoever asks; one that is
// not says so.
func TestMethods(t *testing.T) {
	s := startTodo(t)
	for route, want := range map[string]string{
		"PUT /api/todos":               "GET, HEAD, POST",
		"DELETE /api/todos":            "GET, HEAD, POST",
		"PATCH /api/todos/x":           "DELETE, GET, HEAD",
		"GET /api/todos/x/complete":    "POST",
		"DELETE /api/todos/x/complete": "POST",
		"GET /api/other":               "",
		"POST /api/todos/x/other":      "",
	} {
		for _, token := range []string{"", s.token("ada", readTodos, writeTodos)} {
			method, path, _ := strings.Cut(route, " ")
			resp, body := s.call(method, path, token, "")
			status, code := http.StatusMethodNotAllowed, "method_not_allowed"
			if want == "" {
				status, code = http.StatusNotFound, "not_found"
			}
			if resp.StatusCode != status || resp.Header.Get("Allow") != want || !strings.Contains(body, `"error":"`+code+`"`) {
				t.Errorf("%s: %d, Allow %q, %s", route, resp.StatusCode, resp.Header.Get("Allow"), body)
			}
		}
	}
	if resp, body := s.call("HEAD", "/api/todos", s.token("ada", readTodos), ""); resp.StatusCode != http.StatusOK || body != "" {
		t.Errorf("HEAD: %d %q", resp.StatusCode, body)
	}
}

func TestScopes(t *testing.T) {
	s := startTodo(t)
	readOnly := s.token("ada", readTodos)
	for _, path := range transports {
		session := s.connect(t, path, readOnly)
		tools, err := session.ListTools(t.Context(), nil)
		if err != nil || len(tools.Tools) != 2 {
			t.Errorf("tools on %s for a reader: %+v, %v", path, tools, err)
		}
		if result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "createTodo", Arguments: map[string]any{"todoText": "x"}}); err == nil && !result.IsError {
			t.Errorf("a reader added one by %s", path)
		}
	}
	resp, _ := s.call("POST", "/mcp", readOnly,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"createTodo","arguments":{"todoText":"x"}}}`,
		"Accept", "application/json, text/event-stream")
	if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusForbidden ||
		!strings.Contains(got, `error="insufficient_scope"`) || !strings.Contains(got, `scope="write:todos"`) {
		t.Errorf("step-up challenge: %d %s", resp.StatusCode, got)
	}
	if got := texts(t, s.service, "ada"); len(got) != 0 {
		t.Errorf("the list has %q", got)
	}
	writeOnly := s.token("ada", writeTodos)
	session := s.connect(t, "/mcp", writeOnly)
	var one struct{ Todo Todo }
	use(t, session, "createTodo", map[string]any{"todoText": "x"}, &one)
	for _, route := range []string{"/api/todos", "/api/todos/" + one.Todo.ID} {
		if resp, body := s.call("GET", route, writeOnly, ""); resp.StatusCode != http.StatusForbidden {
			t.Errorf("a writer reads %s: %d %s", route, resp.StatusCode, body)
		}
	}
}

func TestREST(t *testing.T) {
	s := startTodo(t)
	ada := s.token("ada", readTodos, writeTodos)
	resp, body := s.call("POST", "/api/todos", ada, `{"todoText":"Water the lemon tree"}`)
	var one struct{ Todo Todo }
	if err := json.Unmarshal([]byte(body), &one); err != nil || resp.StatusCode != http.StatusCreated || one.Todo.Text != "Water the lemon tree" {
		t.Fatalf("create: %d %s", resp.StatusCode, body)
	}
	id := one.Todo.ID
	if resp, body := s.call("POST", "/api/todos/"+id+"/complete", ada, ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"completed":true`) {
		t.Errorf("complete: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.call("GET", "/api/todos/"+id, ada, ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, id) {
		t.Errorf("read: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.call("GET", "/api/todos", ada, ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, `{"todos":[{"id":"`+id) {
		t.Errorf("list: %d %s", resp.StatusCode, body)
	}

	reader := s.token("ada", readTodos)
	for _, test := range []struct {
		name, method, path, token, body string
		headers                         []string
		status                          int
		code                            string
	}{
		{"no token", "GET", "/api/todos", "", "", nil, 401, ""},
		{"broken token", "GET", "/api/todos", "nonsense", "", nil, 401, "invalid_token"},
		{"token for another resource", "GET", "/api/todos", s.issuer.Mint(guardtest.Token{Resource: "https://other.example.test", Scopes: []string{readTodos}}), "", nil, 401, "invalid_token"},
		{"scope missing", "POST", "/api/todos", reader, `{"todoText":"x"}`, nil, 403, "insufficient_scope"},
		{"scope missing to delete", "DELETE", "/api/todos/" + id, reader, "", nil, 403, "insufficient_scope"},
		{"unknown id", "GET", "/api/todos/made-up", ada, "", nil, 404, "not_found"},
		{"unknown path", "GET", "/api/todo", ada, "", nil, 404, "not_found"},
		{"unknown method", "PUT", "/api/todos", ada, "", nil, 405, "method_not_allowed"},
		{"a form", "POST", "/api/todos", ada, "todoText=x", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"},
		{"plain text, as another site may send", "POST", "/api/todos", ada, `{"todoText":"x"}`, []string{"Content-Type", "text/plain"}, 415, "unsupported_media_type"},
		{"broken JSON", "POST", "/api/todos", ada, `{"todoText":`, nil, 400, "invalid_request"},
		{"text is a number", "POST", "/api/todos", ada, `{"todoText":1}`, nil, 400, "invalid_request"},
		{"no text", "POST", "/api/todos", ada, `{}`, nil, 400, "invalid_request"},
		{"too large", "POST", "/api/todos", ada, `{"todoText":"` + strings.Repeat("x", 20<<10) + `"}`, nil, 413, "too_large"},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, body := s.call(test.method, test.path, test.token, test.body, test.headers...)
			var answer struct {
				Error       string
				Description string `json:"error_description"`
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil || resp.StatusCode != test.status || resp.Header.Get("Content-Type") != "application/json" {
				t.Fatalf("%d %s %s; want %d in JSON", resp.StatusCode, resp.Header.Get("Content-Type"), body, test.status)
			}
			if test.code != "" && answer.Error != test.code || answer.Description == "" {
				t.Errorf("answered %s, want the error %q and a sentence", body, test.code)
			}
		})
	}
	if resp, _ := s.call("DELETE", "/api/todos/"+id, ada, ""); resp.StatusCode != http.StatusOK {
		t.Errorf("delete: %d", resp.StatusCode)
	}
}

// A page of another name that points at this computer gets nothing.
func TestHosts(t *testing.T) {
	s := startTodo(t)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/mcp", "/sse", "/api/todos", "/.well-known/oauth-protected-resource/mcp"} {
		for _, host := range []string{"evil.example", "evil.example:" + u.Port(), "127.0.0.1.evil.example"} {
			if resp, body := s.call("POST", path, s.token("ada", readTodos, writeTodos), `{}`, "Host", host); resp.StatusCode != http.StatusMisdirectedRequest {
				t.Errorf("%s of %s: %d %s", path, host, resp.StatusCode, body)
			}
		}
	}
	if resp, _ := s.call("GET", "/page?x=1", "", "", "Host", "[::1]:"+u.Port()); resp.StatusCode != http.StatusTemporaryRedirect || resp.Header.Get("Location") != s.URL+"/page?x=1" {
		t.Errorf("by address: %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if resp, _ := s.call("GET", "/healthz", "", "", "Host", "10.0.0.1"); resp.StatusCode != http.StatusOK {
		t.Errorf("healthz: %d", resp.StatusCode)
	}
	if resp, _ := s.call("POST", "/mcp", s.token("ada", readTodos), `{}`, "Origin", "https://evil.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("foreign origin at /mcp: %d", resp.StatusCode)
	}
}

// One endpoint serves clients of the newest revision and older ones, each
// request by itself.
func TestBothErasOnOneEndpoint(t *testing.T) {
	s := startTodo(t)
	ada := s.token("ada", readTodos, writeTodos)
	for _, test := range []struct{ version, method, params string }{
		{"2026-07-28", "server/discover", `{"_meta":%s}`},
		{"2026-07-28", "tools/call", `{"name":"createTodo","arguments":{"todoText":"x"},"_meta":%s}`},
		{"2025-06-18", "initialize", `{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"test","version":"1"}}`},
		{"2025-06-18", "tools/call", `{"name":"createTodo","arguments":{"todoText":"x"}}`},
	} {
		t.Run(test.version+" "+test.method, func(t *testing.T) {
			headers := []string{"Accept", "application/json, text/event-stream", "MCP-Protocol-Version", test.version}
			if test.version == "2026-07-28" {
				headers = append(headers, "Mcp-Method", test.method)
				if test.method == "tools/call" {
					headers = append(headers, "Mcp-Name", "createTodo")
				}
			}
			meta := `{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}`
			body := `{"jsonrpc":"2.0","id":1,"method":"` + test.method + `","params":` + strings.Replace(test.params, "%s", meta, 1) + `}`
			resp, answer := s.call("POST", "/mcp", ada, body, headers...)
			if resp.StatusCode != http.StatusOK || !strings.Contains(answer, `"result":`) || resp.Header.Get("Mcp-Session-Id") != "" {
				t.Errorf("%d %s", resp.StatusCode, answer)
			}
		})
	}
	if got := texts(t, s.service, "ada"); len(got) != 2 {
		t.Errorf("the list has %q, want one from each era", got)
	}
}

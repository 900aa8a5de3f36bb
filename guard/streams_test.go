package guard_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
)

// todoServer is a small MCP server whose writing tool counts.
type todoServer struct {
	*mcp.Server
	created atomic.Int32
}

func newTodoServer() *todoServer {
	s := &todoServer{Server: mcp.NewServer(&mcp.Implementation{Name: "todo", Version: "1.0.0"}, nil)}
	type none struct{}
	mcp.AddTool(s.Server, &mcp.Tool{Name: "list"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		p := guard.FromContext(ctx)
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: p.Subject + " " + p.TokenID}}}, nil, nil
	})
	mcp.AddTool(s.Server, &mcp.Tool{Name: "create"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ none) (*mcp.CallToolResult, any, error) {
		if err := guard.Check(ctx, guard.AllOf("write:todos")); err != nil {
			return nil, nil, err
		}
		s.created.Add(1)
		return &mcp.CallToolResult{}, nil, nil
	})
	return s
}

// bearerTransport sends whatever token the test has set.
type bearerTransport struct{ token atomic.Pointer[string] }

func (b *bearerTransport) set(token string) { b.token.Store(&token) }

func (b *bearerTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if token := *b.token.Load(); token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// post sends a JSON-RPC message with a token and returns the status.
func post(t *testing.T, url, token, session, body string) int {
	t.Helper()
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if session != "" {
		r.Header.Set("Mcp-Session-Id", session)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// within fails the test when the channel is not closed soon.
func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s did not happen", what)
	}
}

// others are tokens that are as good as the owner's, but not the owner's.
func others(issuer *guardtest.Issuer, owner guardtest.Token) map[string]string {
	subject, client, organization := owner, owner, owner
	subject.Subject = "user-other"
	client.ClientID = "client-other"
	organization.Organization = "organization-other"
	return map[string]string{
		"another subject":      issuer.Mint(subject),
		"another client":       issuer.Mint(client),
		"another organization": issuer.Mint(organization),
	}
}

// TestEventStream proves, on the transport of 2024-11-05 with the official
// client, that a stream belongs to who opened it and lives as long as its
// newest token (decision 20).
//
// Row: X04. Proves: MCP-RS-23.
func TestEventStream(t *testing.T) {
	issuer := guardtest.New(t)
	todo := newTodoServer()
	g := newGuard(t, todoConfig(issuer))
	endpoints := make(chan string, 1)
	sse := g.Protect(mcp.NewSSEHandler(func(*http.Request) *mcp.Server { return todo.Server }, nil))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			select {
			case endpoints <- r.URL.String():
			default:
			}
		}
		sse.ServeHTTP(w, r)
	}))
	defer server.Close()

	owner := guardtest.Token{Resource: resource, Scopes: []string{"write:todos"}, Claims: map[string]any{"jti": "first"}}
	first := issuer.Mint(owner)
	var transport bearerTransport
	transport.set(first)
	client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.SSEClientTransport{
		Endpoint: server.URL + "/sse", HTTPClient: &http.Client{Transport: &transport},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = session.Wait(); close(ended) }()
	url := server.URL + <-endpoints
	tool := func(name string) (string, error) {
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: name})
		if err != nil || len(result.Content) == 0 {
			return "", err
		}
		return result.Content[0].(*mcp.TextContent).Text, err
	}
	if _, err := tool("create"); err != nil || todo.created.Load() != 1 {
		t.Fatalf("the owner cannot use the stream: %v", err)
	}

	create := toolCall("create")
	for name, token := range others(issuer, owner) {
		if status := post(t, url, token, "", create); status != http.StatusForbidden {
			t.Errorf("%s: status %d, want 403", name, status)
		}
		if status := post(t, url+"&sessionid=other-session-of-mine", token, "", create); status != http.StatusForbidden {
			t.Errorf("%s, with more in the query: status %d, want 403", name, status)
		}
	}
	if status := post(t, url, "", "", create); status != http.StatusUnauthorized {
		t.Errorf("no token: status %d, want 401", status)
	}
	narrow := owner
	narrow.Scopes = []string{"read:todos"}
	if status := post(t, url, issuer.Mint(narrow), "", create); status != http.StatusForbidden {
		t.Errorf("owner with too few scopes: status %d, want 403", status)
	}

	// The token ends: refused, and nothing changed. A refreshed one goes on.
	issuer.Advance(10 * time.Minute)
	owner.Claims["jti"] = "second"
	second := issuer.Mint(owner)
	transport.set(second)
	if text, err := tool("list"); err != nil || text != "user-test-1 second" {
		t.Errorf("after a refresh the tool sees %q %v, want the newest token", text, err)
	}
	issuer.Advance(6 * time.Minute)
	if status := post(t, url, first, "", create); status != http.StatusUnauthorized {
		t.Errorf("the first token has ended: status %d, want 401", status)
	}
	select {
	case <-ended:
		t.Fatal("the stream ended with its first token, not with its newest")
	case <-time.After(100 * time.Millisecond):
	}
	if _, err := tool("create"); err != nil || todo.created.Load() != 2 {
		t.Errorf("refreshed token: %v, created %d", err, todo.created.Load())
	}
	issuer.Advance(10 * time.Minute)
	within(t, "the end of the stream with its newest token", ended)
	if status := post(t, url, second, "", create); status != http.StatusUnauthorized {
		t.Errorf("the second token has ended: status %d, want 401", status)
	}
	owner.Claims["jti"] = "third"
	if status := post(t, url, issuer.Mint(owner), "", create); status != http.StatusNotFound {
		t.Errorf("the stream is closed: status %d, want 404", status)
	}
	if n := todo.created.Load(); n != 2 {
		t.Errorf("created %d, want 2: a refused operation changed something", n)
	}
}

// TestSession proves the same for the sessions of Streamable HTTP up to
// revision 2025-11-25.
//
// Proves: MCP-RS-23.
func TestSession(t *testing.T) {
	issuer := guardtest.New(t)
	todo := newTodoServer()
	g := newGuard(t, todoConfig(issuer))
	handler := mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return todo.Server }, nil)
	server := httptest.NewServer(g.Protect(handler))
	defer server.Close()
	url := server.URL + "/mcp"

	owner := guardtest.Token{Resource: resource, Scopes: []string{"write:todos"}, Claims: map[string]any{"jti": "first"}}
	first := issuer.Mint(owner)
	var transport bearerTransport
	transport.set(first)
	client := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil)
	session, err := client.Connect(t.Context(), &mcp.StreamableClientTransport{
		Endpoint: url, HTTPClient: &http.Client{Transport: &transport}, MaxRetries: -1,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	if session.ID() == "" {
		t.Fatal("no session to test with")
	}
	create := toolCall("create")
	for name, token := range others(issuer, owner) {
		if status := post(t, url, token, session.ID(), create); status != http.StatusForbidden {
			t.Errorf("%s: status %d, want 403", name, status)
		}
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			r, _ := http.NewRequest(method, url, nil)
			r.Header.Set("Authorization", "Bearer "+token)
			r.Header.Set("Mcp-Session-Id", session.ID())
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s, %s: status %d, want 403", name, method, resp.StatusCode)
			}
		}
	}
	if status := post(t, url, "", session.ID(), create); status != http.StatusUnauthorized {
		t.Errorf("no token: status %d", status)
	}
	if status := post(t, url, first, "a-session-nobody-opened", create); status != http.StatusNotFound {
		t.Errorf("unknown session: status %d, want 404", status)
	}

	issuer.Advance(10 * time.Minute)
	owner.Claims["jti"] = "second"
	transport.set(issuer.Mint(owner))
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "list"})
	if err != nil || result.Content[0].(*mcp.TextContent).Text != "user-test-1 second" {
		t.Errorf("after a refresh: %v %v", result, err)
	}
	issuer.Advance(6 * time.Minute)
	if status := post(t, url, first, session.ID(), create); status != http.StatusUnauthorized {
		t.Errorf("the first token has ended: status %d, want 401", status)
	}
	if n := todo.created.Load(); n != 0 {
		t.Errorf("created %d", n)
	}
}

// TestOwnToken proves that an operation is judged by the token of its own
// request, not by a wider one of the same caller that came to the same session
// or event stream, and that the stream itself knows the newest.
func TestOwnToken(t *testing.T) {
	issuer := guardtest.New(t)
	g := newGuard(t, todoConfig(issuer))
	wide := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"write:todos"}, Lifetime: time.Hour})
	narrow := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:todos"}})
	const session, endpoint = "session-0123456789abcdef", "/m?s=0123456789abcdef0123"
	var opener context.Context // of the request that opened the session
	h := g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if opener == nil {
			opener = r.Context()
			w.Header().Set("Mcp-Session-Id", session)
		}
		may := guard.Check(r.Context(), guard.AllOf("write:todos")) == nil
		if permits := g.Permits(r.Context(), "tools/call", "create") == nil; permits != may {
			t.Errorf("%s: Check says %t, Permits %t", r.Method, may, permits)
		}
		if has := guard.FromContext(r.Context()).Has("write:todos"); has != may {
			t.Errorf("%s: Check says %t, FromContext %t", r.Method, may, has)
		}
		_, _ = fmt.Fprint(w, may)
	}))
	if err := eventStream(t, g, []string{"event: endpoint\ndata: " + endpoint + "\n\n"}, bearer(wide)...); err != nil {
		t.Fatal(err)
	}
	if w := call(h, http.MethodPost, pingBody, bearer(wide)...); w.Body.String() != "true" {
		t.Fatalf("the opening request: %d %s", w.Code, w.Body)
	}

	for _, c := range []struct {
		name, method, target, session, token string
		may                                  bool
	}{
		{"a call in the session", http.MethodPost, resource, session, narrow, false},
		{"the same with the wide token", http.MethodPost, resource, session, wide, true},
		{"a message to the event stream", http.MethodPost, endpoint, "", narrow, false},
		{"the same with the wide token", http.MethodPost, endpoint, "", wide, true},
		{"the session's event stream", http.MethodGet, resource, session, narrow, true},
		{"the end of the session", http.MethodDelete, resource, session, narrow, false},
	} {
		r := httptest.NewRequest(c.method, c.target, strings.NewReader(toolCall("list")))
		r.Host = "localhost:8080"
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+c.token)
		r.Header.Set("Mcp-Session-Id", c.session)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusOK || w.Body.String() != fmt.Sprint(c.may) {
			t.Errorf("%s: may write: %d %s, want %t", c.name, w.Code, w.Body, c.may)
		}
	}
	if p := guard.FromContext(opener); p == nil || !p.Has("write:todos") {
		t.Errorf("the context that opened the session: %+v, want the newest token's principal", p)
	}
}

// TestListen proves that the long answer of subscriptions/listen
// (2026-07-28) ends with its token, and that a handler's own stream does.
func TestListen(t *testing.T) {
	issuer := guardtest.New(t)
	todo := newTodoServer()
	g := newGuard(t, todoConfig(issuer))
	server := httptest.NewServer(g.Protect(mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return todo.Server }, &mcp.StreamableHTTPOptions{Stateless: true})))
	defer server.Close()

	body := `{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true},` +
		`"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{},"io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"}}}}`
	r, _ := http.NewRequest(http.MethodPost, server.URL+"/mcp", strings.NewReader(body))
	for name, value := range map[string]string{
		"Content-Type": "application/json", "Accept": "application/json, text/event-stream",
		"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen",
		"Authorization": "Bearer " + issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:todos"}}),
	} {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 || resp.Header.Get("X-Accel-Buffering") != "no" {
		answer, _ := io.ReadAll(resp.Body)
		t.Fatalf("status %d %s", resp.StatusCode, answer)
	}
	lines := bufio.NewScanner(resp.Body)
	if !lines.Scan() {
		t.Fatal("no acknowledgement")
	}
	ended := make(chan struct{})
	go func() {
		for lines.Scan() {
		}
		close(ended)
	}()
	select {
	case <-ended:
		t.Fatal("the stream ended before its token")
	case <-time.After(100 * time.Millisecond):
	}
	issuer.Advance(15*time.Minute + 31*time.Second)
	within(t, "the end of the stream", ended)
}

// TestEndpointForms proves that a stream is bound by whatever tells its
// message endpoint from another, and that a guessable one is not served.
func TestEndpointForms(t *testing.T) {
	issuer := guardtest.New(t)
	token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"admin"}})
	other := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"admin"}, Subject: "user-other"})
	for _, c := range []struct{ name, write, message string }{
		{"in the path", "event: endpoint\ndata: /messages/0123456789abcdef0123\n\n", "/messages/0123456789abcdef0123"},
		{"an absolute URL", "event: endpoint\ndata: http://localhost:8080/m?s=0123456789abcdef0123\n\n", "/m?s=0123456789abcdef0123"},
		{"percent-encoded by the intruder", "event: endpoint\ndata: /m?s=0123456789abcdef0123\n\n", "/m?s=%30123456789abcdef0123"},
		{"another parameter of the same value", "event: endpoint\ndata: /m?s=0123456789abcdef0123\n\n", "/m?s=x&t=0123456789abcdef0123"},
		{"line ends of another kind", "event:endpoint\r\ndata:/m?s=0123456789abcdef0123\r\n\r\n", "/m?s=0123456789abcdef0123"},
		{"after other events", ": hello\n\nevent: x\ndata: " + strings.Repeat("x", 40<<10) + "\n\nevent: endpoint\ndata: /m?s=0123456789abcdef0123\n\n", "/m?s=0123456789abcdef0123"},
		{"guessable", "event: endpoint\ndata: /m?s=7\n\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuard(t, todoConfig(issuer))
			opened, closing := make(chan error, 1), make(chan struct{})
			stream := g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				var err error
				for _, part := range strings.SplitAfter(c.write, ":") { // in pieces
					if _, e := io.WriteString(w, part); e != nil {
						err = e
					}
					w.(http.Flusher).Flush()
				}
				opened <- err
				<-closing
			}))
			done := make(chan struct{})
			go func() { call(stream, http.MethodGet, "", bearer(token)...); close(done) }()
			err := <-opened
			defer func() { close(closing); <-done }()
			if c.message == "" {
				if err == nil {
					t.Error("a stream with a guessable endpoint was served")
				}
				return
			}
			for who, want := range map[string]int{token: 202, other: 403} {
				r := httptest.NewRequest(http.MethodPost, c.message, strings.NewReader(pingBody))
				r.Host = "localhost:8080"
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Authorization", "Bearer "+who)
				w := httptest.NewRecorder()
				g.Protect(&ran{}).ServeHTTP(w, r)
				if w.Code != want {
					t.Errorf("status %d, want %d", w.Code, want)
				}
			}
		})
	}
}

// eventStream opens an event stream that announces its endpoint in the given
// pieces and stays open until the test ends. It returns the first error of a
// write.
func eventStream(t *testing.T, g *guard.Guard, pieces []string, headers ...string) error {
	t.Helper()
	opened, closing, done := make(chan error, 1), make(chan struct{}), make(chan struct{})
	stream := g.Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		var err error
		for _, piece := range pieces {
			if _, e := io.WriteString(w, piece); e != nil {
				err = e
			}
		}
		opened <- err
		<-closing
	}))
	go func() { call(stream, http.MethodGet, "", headers...); close(done) }()
	t.Cleanup(func() { close(closing); <-done })
	return <-opened
}

// TestEventStreamsStayBound proves that no header, method or cut of the stream
// lets somebody else speak on it.
func TestEventStreamsStayBound(t *testing.T) {
	issuer := guardtest.New(t)
	token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"admin"}})
	other := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"admin"}, Subject: "user-other"})
	const endpoint = "/m?s=0123456789abcdef0123"
	whole := []string{"event: endpoint\ndata: " + endpoint + "\n\n"}
	for _, c := range []struct {
		name    string
		pieces  []string
		headers []string
		method  string
	}{
		{"as usual", whole, nil, http.MethodPost},
		{"opened with the header of a newer revision", whole, []string{"Mcp-Protocol-Version", "2026-07-28"}, http.MethodPost},
		{"a line end in two writes", []string{"event: endpoint\r\ndata: " + endpoint + "\r\n\r", "\n"}, nil, http.MethodPost},
		{"a message by another method", whole, nil, http.MethodPut},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGuard(t, todoConfig(issuer))
			if err := eventStream(t, g, c.pieces, append(bearer(token), c.headers...)...); err != nil {
				t.Fatal(err)
			}
			for who, want := range map[string]int{token: 202, other: 403} {
				r := httptest.NewRequest(c.method, endpoint, strings.NewReader(pingBody))
				r.Host = "localhost:8080"
				r.Header.Set("Content-Type", "application/json")
				r.Header.Set("Authorization", "Bearer "+who)
				w := httptest.NewRecorder()
				g.Protect(&ran{}).ServeHTTP(w, r)
				if w.Code != want {
					t.Errorf("status %d, want %d", w.Code, want)
				}
			}
		})
	}

	t.Run("an endpoint that another stream has", func(t *testing.T) {
		g := newGuard(t, todoConfig(issuer))
		if err := eventStream(t, g, whole, bearer(token)...); err != nil {
			t.Fatal(err)
		}
		if err := eventStream(t, g, whole, bearer(other)...); err == nil {
			t.Error("a second stream took the endpoint of the first")
		}
	})
}

// TestTwoUsers proves under the race detector that callers at the same time
// do not mix.
//
// Row: X05.
func TestTwoUsers(t *testing.T) {
	issuer := guardtest.New(t)
	todo := newTodoServer()
	g := newGuard(t, todoConfig(issuer))
	server := httptest.NewServer(g.Protect(mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return todo.Server }, &mcp.StreamableHTTPOptions{Stateless: true})))
	defer server.Close()
	t.Run("group", func(t *testing.T) {
		for n := range 4 {
			t.Run(fmt.Sprint(n), func(t *testing.T) {
				t.Parallel()
				subject := fmt.Sprintf("user-%d", n)
				var transport bearerTransport
				transport.set(issuer.Mint(guardtest.Token{
					Resource: resource, Subject: subject, Scopes: []string{"read:todos"}, Claims: map[string]any{"jti": "j"},
				}))
				session, err := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, nil).Connect(t.Context(),
					&mcp.StreamableClientTransport{Endpoint: server.URL, HTTPClient: &http.Client{Transport: &transport}}, nil)
				if err != nil {
					t.Fatal(err)
				}
				defer session.Close()
				for range 50 {
					result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "list"})
					if err != nil || result.Content[0].(*mcp.TextContent).Text != subject+" j" {
						t.Fatalf("%v %v", result, err)
					}
				}
			})
		}
	})
}

// TestUnknownSession proves that a session which this Guard did not see begin
// does not reach a handler, whatever the handler would say to it.
//
// Proves: MCP-RS-23.
func TestUnknownSession(t *testing.T) {
	issuer := guardtest.New(t)
	handler := &ran{}
	h := newGuard(t, todoConfig(issuer)).Protect(handler)
	token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"admin"}})
	for _, method := range []string{http.MethodPost, http.MethodGet, http.MethodDelete} {
		w := call(h, method, pingBody, append(bearer(token), "Mcp-Session-Id", "somebody-elses")...)
		if w.Code != http.StatusNotFound || handler.times != 0 {
			t.Errorf("%s: status %d, the handler ran %d times", method, w.Code, handler.times)
		}
	}
}

// TestSessionsOfOneCaller proves that a caller who opens sessions without end
// loses the ones they do not use, and takes no room from anybody else.
func TestSessionsOfOneCaller(t *testing.T) {
	issuer := guardtest.New(t)
	opened := 0
	h := newGuard(t, todoConfig(issuer)).Protect(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Mcp-Session-Id") == "" {
			w.Header().Set("Mcp-Session-Id", fmt.Sprint("session-", opened))
			opened++
		}
		w.WriteHeader(http.StatusOK)
	}))
	owner := guardtest.Token{Resource: resource, Scopes: []string{"admin"}}
	token := issuer.Mint(owner)
	status := func(token, session string) int {
		return call(h, http.MethodPost, pingBody, append(bearer(token), "Mcp-Session-Id", session)...).Code
	}
	theirs := map[string]string{} // sessions of others, with their tokens
	for _, token := range others(issuer, owner) {
		theirs[call(h, http.MethodPost, pingBody, bearer(token)...).Header().Get("Mcp-Session-Id")] = token
	}
	used := call(h, http.MethodPost, pingBody, bearer(token)...).Header().Get("Mcp-Session-Id")
	unused := call(h, http.MethodPost, pingBody, bearer(token)...).Header().Get("Mcp-Session-Id")
	last := ""
	for range 200 {
		if last = call(h, http.MethodPost, pingBody, bearer(token)...).Header().Get("Mcp-Session-Id"); last == "" {
			t.Fatal("a session was refused")
		}
		if code := status(token, used); code != http.StatusOK {
			t.Fatalf("the session in constant use: status %d", code)
		}
		if code := status(issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"admin"}, Subject: "user-third"}), unused); code == http.StatusOK {
			t.Fatal("somebody else's request reached the session")
		}
	}
	if code := status(token, last); code != http.StatusOK {
		t.Errorf("the newest session: status %d", code)
	}
	if code := status(token, unused); code != http.StatusNotFound {
		t.Errorf("the session unused for longest: status %d, want 404", code)
	}
	for session, token := range theirs {
		if code := status(token, session); code != http.StatusOK {
			t.Errorf("a session of another caller: status %d", code)
		}
	}
}

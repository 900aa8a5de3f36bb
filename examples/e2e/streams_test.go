package e2e_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
	"github.com/postern-id/postern/guard/mcpguard"
)

// notebook is an MCP server built as examples/todo is, in this process, so that
// its clock can be set. It has three endpoints: /mcp (Streamable HTTP without
// sessions, as in the example), /sessions (with them) and /sse (2024-11-05).
//
// Its createTodo waits in the middle where the text is "slow", and judges the
// caller again before it writes, as a long tool should.
type notebook struct {
	*httptest.Server
	resource string
	entered  chan struct{} // a slow call has begun
	release  chan struct{} // and may go on
	judged   chan error    // and this is what guard.Check said

	mu    sync.Mutex
	lists map[string][]string // by subject
}

func newNotebook(t *testing.T, configure func(resource string) guard.Config) *notebook {
	t.Helper()
	n := &notebook{
		Server:  httptest.NewServer(nil),
		entered: make(chan struct{}), release: make(chan struct{}), judged: make(chan error, 1),
		lists: map[string][]string{},
	}
	t.Cleanup(n.Close)
	t.Cleanup(n.CloseClientConnections) // streams, which never end by themselves
	n.resource = n.URL + "/mcp"
	config := configure(n.resource)
	config.Tools = map[string]guard.Rule{"listTodos": guard.AllOf(readTodos), "createTodo": guard.AllOf(writeTodos)}
	g, err := guard.New(config)
	if err != nil {
		t.Fatal(err)
	}

	server := mcp.NewServer(&mcp.Implementation{Name: "notebook", Version: "1"}, nil)
	server.AddReceivingMiddleware(mcpguard.Middleware(g))
	type text struct {
		TodoText string `json:"todoText"`
	}
	type list struct {
		Todos []string `json:"todos"`
	}
	mcp.AddTool(server, &mcp.Tool{Name: "createTodo"}, func(ctx context.Context, _ *mcp.CallToolRequest, in text) (*mcp.CallToolResult, text, error) {
		if in.TodoText == "slow" {
			n.entered <- struct{}{}
			<-n.release
			err := guard.Check(ctx, guard.AllOf(writeTodos))
			n.judged <- err
			if err != nil {
				return nil, text{}, err
			}
		}
		who := guard.FromContext(ctx).Subject
		n.mu.Lock()
		defer n.mu.Unlock()
		n.lists[who] = append(n.lists[who], in.TodoText)
		return nil, in, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "listTodos"}, func(ctx context.Context, _ *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, list, error) {
		return nil, list{n.list(guard.FromContext(ctx).Subject)}, nil
	})
	get := func(*http.Request) *mcp.Server { return server }
	mux := http.NewServeMux()
	mux.Handle("/mcp", mcpguard.Protect(g, mcp.NewStreamableHTTPHandler(get, &mcp.StreamableHTTPOptions{Stateless: true, PropagateRequestCancellation: true})))
	mux.Handle("/sessions", mcpguard.Protect(g, mcp.NewStreamableHTTPHandler(get, nil)))
	mux.Handle("/sse", mcpguard.Protect(g, mcp.NewSSEHandler(get, nil)))
	mux.Handle("/.well-known/", g.Metadata())
	n.Config.Handler = mux
	return n
}

func (n *notebook) list(subject string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string{}, n.lists[subject]...)
}

func (n *notebook) want(t *testing.T, subject string, texts ...string) {
	t.Helper()
	if got := n.list(subject); !slices.Equal(got, texts) {
		t.Errorf("the list of %s is %q, want %q", subject, got, texts)
	}
}

// line is a way to an MCP server as a client holds it open: by /sse with its
// event stream, by /sessions with its session, by /mcp with nothing.
type line struct {
	t        *testing.T
	endpoint string
	session  string
	events   chan string   // messages on the event stream
	ended    chan struct{} // the event stream has ended
}

var lines = []string{"/mcp", "/sessions", "/sse"}

// open opens a line and shakes hands on it.
func (n *notebook) open(t *testing.T, path, token string) *line {
	t.Helper()
	l := &line{t: t, endpoint: n.URL + path}
	if path == "/mcp" {
		return l
	}
	if path == "/sse" {
		l.stream(token, n.URL)
	}
	resp, _ := l.send(token, `{"jsonrpc":"2.0","id":"hello","method":"initialize","params":{"protocolVersion":"2024-11-05","capabilities":{},"clientInfo":{"name":"line","version":"1"}}}`)
	if resp.StatusCode/100 != 2 {
		t.Fatalf("initialize by %s: %s", path, resp.Status)
	}
	l.session = resp.Header.Get("Mcp-Session-Id")
	l.next()
	if resp, body := l.send(token, `{"jsonrpc":"2.0","method":"notifications/initialized"}`); resp.StatusCode/100 != 2 {
		t.Fatalf("initialized by %s: %s %s", path, resp.Status, body)
	}
	return l
}

// stream opens the event stream of 2024-11-05 and learns where messages go.
func (l *line) stream(token, origin string) {
	l.t.Helper()
	r, err := http.NewRequestWithContext(l.t.Context(), http.MethodGet, l.endpoint, nil)
	if err != nil {
		l.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		l.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		l.t.Fatalf("GET %s: %s", l.endpoint, resp.Status)
	}
	l.events, l.ended = make(chan string, 10), make(chan struct{})
	places := make(chan string, 1)
	go func() {
		defer close(l.ended)
		defer resp.Body.Close()
		name := ""
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			field, value, _ := strings.Cut(in.Text(), ": ")
			switch {
			case field == "event":
				name = value
			case field == "data" && name == "endpoint":
				places <- value
			case field == "data":
				l.events <- value
			}
		}
	}()
	select {
	case place := <-places:
		l.endpoint = origin + place
	case <-time.After(5 * time.Second):
		l.t.Fatal("the event stream names no endpoint")
	}
}

// send sends a message and returns the answer with its body.
func (l *line) send(token, message string) (*http.Response, string) {
	l.t.Helper()
	resp, body, err := l.trySend(token, message)
	if err != nil {
		l.t.Fatal(err)
	}
	return resp, body
}

func (l *line) trySend(token, message string) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(l.t.Context(), http.MethodPost, l.endpoint, strings.NewReader(message))
	if err != nil {
		return nil, "", err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if l.session != "" {
		r.Header.Set("Mcp-Session-Id", l.session)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// next is the next message on the event stream, if this line has one.
func (l *line) next() string {
	l.t.Helper()
	if l.events == nil {
		return ""
	}
	select {
	case message := <-l.events:
		return message
	case <-time.After(5 * time.Second):
		l.t.Fatal("nothing arrived on the event stream")
		return ""
	}
}

// create adds a to-do, which must work.
func (l *line) create(token, text string) {
	l.t.Helper()
	resp, body := l.send(token, createTodo(text))
	if resp.StatusCode/100 != 2 {
		l.t.Fatalf("createTodo: %s %s", resp.Status, body)
	}
	var said struct{ Result *struct{ IsError bool } }
	message := body + l.next()
	message = message[max(0, strings.Index(message, "{")):]
	if err := json.NewDecoder(strings.NewReader(message)).Decode(&said); err != nil || said.Result == nil || said.Result.IsError {
		l.t.Fatalf("createTodo: %q, %v", message, err)
	}
}

// refused sends a call that must be refused before anything runs.
func (l *line) refused(token string, status int, code string) {
	l.t.Helper()
	resp, body := l.send(token, createTodo("refused"))
	challenge := resp.Header.Get("WWW-Authenticate")
	if resp.StatusCode != status || !strings.Contains(body, `"error":"`+code+`"`) {
		l.t.Errorf("status %d %s, want %d %s", resp.StatusCode, body, status, code)
	}
	if (status == http.StatusUnauthorized) != strings.Contains(challenge, "resource_metadata=") {
		l.t.Errorf("%d comes with the challenge %q", status, challenge)
	}
}

// slow begins a call that waits, and returns a function that lets it go on and
// returns what guard.Check said in the middle of it.
func (n *notebook) slow(l *line, token string) func() error {
	l.t.Helper()
	done := make(chan error, 1)
	go func() {
		_, _, err := l.trySend(token, createTodo("slow"))
		done <- err
	}()
	select {
	case <-n.entered:
	case <-time.After(5 * time.Second):
		l.t.Fatal("the slow call never began")
	}
	return func() error {
		l.t.Helper()
		n.release <- struct{}{}
		said := <-n.judged
		<-done // however the connection ended
		return said
	}
}

// onEachLine runs a test by each of the lines.
func onEachLine(t *testing.T, test func(t *testing.T, n *notebook, issuer *guardtest.Issuer, mint func(subject string, life time.Duration) string, path string)) {
	for _, path := range lines {
		t.Run(path, func(t *testing.T) {
			issuer := guardtest.New(t)
			n := newNotebook(t, func(resource string) guard.Config {
				config := issuer.Config(resource, readTodos, writeTodos)
				config.Introspection = issuer.Introspection()
				config.Introspection.CacheFor = -1 // so that a revocation counts at once
				return config
			})
			test(t, n, issuer, func(subject string, life time.Duration) string {
				return issuer.Mint(guardtest.Token{
					Resource: n.resource, Subject: subject, ClientID: "app", Scopes: []string{readTodos, writeTodos}, Lifetime: life,
				})
			}, path)
		})
	}
}

// over is longer than a token's life of a minute with the leeway.
const over = time.Minute + 31*time.Second

// A token ends while its stream is open. The next operation is 401, one under
// way changes nothing any more, and the stream ends.
//
// Proves: MCP-RS-6, MCP-RS-10.
func TestTokenEndsInAnOpenStream(t *testing.T) {
	onEachLine(t, func(t *testing.T, n *notebook, issuer *guardtest.Issuer, mint func(string, time.Duration) string, path string) {
		token := mint("ada", time.Minute)
		l := n.open(t, path, token)
		l.create(token, "before")
		goOn := n.slow(l, token)
		issuer.Advance(over)
		l.refused(token, http.StatusUnauthorized, "invalid_token")
		if err := goOn(); err == nil {
			t.Error("in the middle of a long tool an ended token passes")
		}
		if l.ended != nil { // the SDK waits for what still runs
			select {
			case <-l.ended:
			case <-time.After(5 * time.Second):
				t.Error("the event stream outlives its token")
			}
		}
		n.want(t, "ada", "before")
	})
}

// The grant is revoked while its stream is open.
//
// Proves: MCP-RS-6, MCP-RS-12.
func TestGrantRevokedInAnOpenStream(t *testing.T) {
	onEachLine(t, func(t *testing.T, n *notebook, issuer *guardtest.Issuer, mint func(string, time.Duration) string, path string) {
		token := mint("ada", time.Hour)
		l := n.open(t, path, token)
		l.create(token, "before")
		goOn := n.slow(l, token)
		issuer.Revoke(token)
		l.refused(token, http.StatusUnauthorized, "invalid_token")
		if err := goOn(); err == nil {
			t.Error("in the middle of a long tool a revoked token passes")
		}
		n.want(t, "ada", "before")
	})
}

// A client that refreshed in time goes on, on the stream that the old token
// opened, and so does an operation that the old token began on it.
func TestRefreshedTokenGoesOn(t *testing.T) {
	onEachLine(t, func(t *testing.T, n *notebook, issuer *guardtest.Issuer, mint func(string, time.Duration) string, path string) {
		old := mint("ada", time.Minute)
		l := n.open(t, path, old)
		l.create(old, "before")
		issuer.Advance(50 * time.Second)
		fresh := mint("ada", time.Hour)
		l.create(fresh, "between")
		issuer.Advance(over)
		l.create(fresh, "after")
		l.refused(old, http.StatusUnauthorized, "invalid_token")
		n.want(t, "ada", "before", "between", "after")
	})
}

// A stream belongs to who opened it: another person's token on it is refused,
// and so is no token. Where nothing is held open, another's token has its own
// list.
//
// Proves: MCP-RS-23.
func TestAnotherPersonsToken(t *testing.T) {
	onEachLine(t, func(t *testing.T, n *notebook, issuer *guardtest.Issuer, mint func(string, time.Duration) string, path string) {
		ada, bob := mint("ada", time.Hour), mint("bob", time.Hour)
		l := n.open(t, path, ada)
		l.create(ada, "hers")
		if path == "/mcp" {
			l.create(bob, "his")
			n.want(t, "bob", "his")
		} else {
			l.refused(bob, http.StatusForbidden, "access_denied")
			otherApp := issuer.Mint(guardtest.Token{
				Resource: n.resource, Subject: "ada", ClientID: "another app", Scopes: []string{readTodos, writeTodos},
			})
			l.refused(otherApp, http.StatusForbidden, "access_denied")
		}
		l.refused("", http.StatusUnauthorized, "unauthorized")
		l.create(ada, "more")
		n.want(t, "ada", "hers", "more")
	})
}

// The real server and a guard that introspects: an access token whose time is
// not over ends when the person takes the grant back.
//
// Proves: MCP-AS-29, MCP-RS-12.
func TestTakingBackEndsAccessTokens(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		p := serveProject(t, db)
		n := newNotebook(t, func(uri string) guard.Config {
			r := p.addTodo(t, uri, "--secret")
			return guard.Config{
				Issuer: p.issuer, Resource: uri, Scopes: []guard.Scope{{Name: readTodos}, {Name: writeTodos, Write: true}},
				Introspection: &guard.Introspection{ID: r.ID, Secret: r.Secret, CacheFor: -1},
			}
		})
		ada := newPerson(t, p, "ada@example.test")
		a := newApp(t, ada, byRegistration, nil)
		session := a.mustConnect(n.resource)
		var created struct{ TodoText string }
		if err := call(t, session, "createTodo", map[string]any{"todoText": "before"}, &created); err != nil {
			t.Fatal(err)
		}
		token, _ := a.wallet.now()
		if _, err := ada.takeBack(t.Context(), a.name); err != nil {
			t.Fatal(err)
		}
		status, challenge, body := post(t, n.resource, token.AccessToken, createTodo("after"))
		if status != http.StatusUnauthorized || !strings.Contains(challenge, `error="invalid_token"`) {
			t.Errorf("after taking back: %d %s %s", status, challenge, body)
		}
		if time.Now().After(token.Expiry) {
			t.Error("the token had ended by itself, so this proves nothing")
		}
		for subject, list := range n.lists {
			if !cmp.Equal(list, []string{"before"}) {
				t.Errorf("the list of %s is %q", subject, list)
			}
		}
	})
}

// A guard that introspects, with two addresses: whichever a client was told, it
// asks for a token of that one, and the token is good at both until the person
// takes it back.
//
// Proves: MCP-RS-2, MCP-RS-12.
func TestAliasesAreIntrospected(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		p := serveProject(t, db)
		n := newNotebook(t, func(uri string) guard.Config {
			sse := strings.TrimSuffix(uri, "/mcp") + "/sse"
			r := p.addTodo(t, uri, "--secret", "--alias", sse)
			return guard.Config{
				Issuer: p.issuer, Resource: uri, Aliases: []string{sse},
				Scopes:        []guard.Scope{{Name: readTodos}, {Name: writeTodos, Write: true}},
				Introspection: &guard.Introspection{ID: r.ID, Secret: r.Secret, CacheFor: -1},
			}
		})
		for _, path := range []string{"/mcp", "/sse"} {
			t.Run(path, func(t *testing.T) {
				ada := newPerson(t, p, "ada"+strings.ReplaceAll(path, "/", "-")+"@example.test")
				a := newApp(t, ada, byRegistration, nil)
				session := a.mustConnect(n.URL + path)
				var created struct{ TodoText string }
				if err := call(t, session, "createTodo", map[string]any{"todoText": "here"}, &created); err != nil {
					t.Fatal(err)
				}
				token, _ := a.wallet.now()
				for _, other := range []string{"/mcp", "/sse"} {
					n.open(t, other, token.AccessToken).create(token.AccessToken, "by "+other)
				}
				subject, audience := claims(t, token.AccessToken)
				n.want(t, subject, "here", "by /mcp", "by /sse")
				if audience != n.resource {
					t.Errorf("the token is for %v, want the registered %s", audience, n.resource)
				}

				if _, err := ada.takeBack(t.Context(), a.name); err != nil {
					t.Fatal(err)
				}
				for _, other := range []string{"GET /sse", "POST /mcp"} {
					method, place, _ := strings.Cut(other, " ")
					status, body, err := fetch(t.Context(), method, n.URL+place, http.Header{"Authorization": {"Bearer " + token.AccessToken}})
					if err != nil || status != http.StatusUnauthorized {
						t.Errorf("%s after taking back: %d %s, %v", other, status, body, err)
					}
				}
			})
		}
	})
}

// claims reads sub and aud of a signed token.
func claims(t *testing.T, token string) (subject string, audience any) {
	t.Helper()
	var c struct {
		Sub string
		Aud any
	}
	decodeClaims(t, token, &c)
	return c.Sub, c.Aud
}

// decodeClaims reads the claims of a signed token.
func decodeClaims(t *testing.T, token string, into any) {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("not a signed token: %s", token)
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, into) != nil {
		t.Fatalf("not a token: %v", err)
	}
}

package e2e_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// An MCP client that knows nothing but the server's address gets in, on every
// way that there is; and every door it goes through can be shut again.
//
// Proves: MCP-AS-29, MCP-AS-30, MCP-AS-38, MCP-AS-39, MCP-RS-2.
func TestWalk(t *testing.T) {
	t.Run("dev", func(t *testing.T) {
		eachDatabase(t, func(t *testing.T, db database) {
			documents := newPublisher(t)
			p, address := dev(t, db, documents.authority)
			walkAll(t, p, address, documents, byDocument, byRegistration, byPreregistered)
		})
	})
	eachDatabase(t, func(t *testing.T, db database) {
		p := serveProject(t, db)
		address := p.todo(t)
		p.addTodo(t, address+"/mcp", "--default", "--alias", address+"/sse")
		walkAll(t, p, address, nil, byRegistration, byPreregistered)
	})
}

func walkAll(t *testing.T, p *postern, address string, documents *publisher, ways ...registration) {
	for _, path := range []string{"/mcp", "/sse"} {
		for _, how := range ways {
			t.Run(string(how)+" "+path, func(t *testing.T) {
				who := newPerson(t, p, strings.ReplaceAll(string(how), " ", "-")+strings.ReplaceAll(path, "/", "-")+"@example.test")
				walk(t, who, newApp(t, who, how, documents), how, address, path)
			})
		}
	}
}

func walk(t *testing.T, who *person, a *app, how registration, address, path string) {
	session := a.mustConnect(address + path)

	// Discovery and registration, each by what the step before it said.
	first := "POST " + path
	if path == "/sse" {
		first = "GET " + path
	}
	trail := []string{
		first + " 401", "GET /.well-known/oauth-protected-resource" + path + " 200",
		"GET /.well-known/oauth-authorization-server 200", "POST /v1/oauth2/token 200", first + " 200",
	}
	if how == byRegistration {
		trail = slices.Insert(trail, 3, "POST /v1/oauth2/register 201")
	}
	a.wantTrail(t, trail...)

	// Allow with nothing touched is enough for the tool that the person came for.
	var created struct{ Todo struct{ ID, Text string } }
	if err := call(t, session, "createTodo", map[string]any{"todoText": "Water the lemon tree"}, &created); err != nil {
		t.Fatalf("the writing tool after Allow: %v", err)
	}
	if len(who.asked) != 1 {
		t.Fatalf("%d consent pages, want one", len(who.asked))
	}
	shown, ticked := who.asked[0].ticked()
	if want := []string{readTodos, writeTodos}; !cmp.Equal(shown, want) || !cmp.Equal(ticked, want) {
		t.Errorf("the consent page shows %q and ticks %q", shown, ticked)
	}
	if !strings.Contains(who.asked[0].body, a.name) || !strings.Contains(who.asked[0].body, who.email) {
		t.Errorf("the consent page does not say who asks or who is asked: %v", who.asked[0])
	}

	// Refresh.
	before, _ := a.wallet.now()
	a.wallet.expire()
	if got := todos(t, session); !cmp.Equal(got, []string{"Water the lemon tree"}) {
		t.Errorf("after a refresh the list is %q", got)
	}
	after, _ := a.wallet.now()
	if after.AccessToken == before.AccessToken || after.RefreshToken == before.RefreshToken {
		t.Error("the refresh gave no new tokens")
	}

	// Taken back: the refresh is refused, and without anybody to ask so is the
	// call; whatever it would have done is not done.
	taken, err := who.takeBack(t.Context(), a.name)
	if err != nil || !strings.Contains(taken.body, "Access taken back") {
		t.Fatalf("take back: %v, %v", taken, err)
	}
	a.person = nil
	a.wallet.expire()
	if err := call(t, session, "createTodo", map[string]any{"todoText": "too late"}, &created); err == nil {
		t.Error("a call after the grant was taken back went through")
	}
	if _, refused := a.wallet.now(); refused == nil || !strings.Contains(refused.Error(), "invalid_grant") {
		t.Errorf("the refresh after the grant was taken back: %v, want invalid_grant", refused)
	}

	// Allowed again, after being asked again.
	a.person = who
	again := a.mustConnect(address + path)
	if got := todos(t, again); !cmp.Equal(got, []string{"Water the lemon tree"}) {
		t.Errorf("after allowing again the list is %q", got)
	}
	if len(who.asked) != 2 {
		t.Errorf("%d consent pages, want two: taking back must be forgotten by nobody", len(who.asked))
	}
}

// A person unticks what changes something. The tool that needs it is refused
// with the scope to ask for, the person is asked for that alone, and it works.
//
// Proves: MCP-RS-8.
func TestStepUp(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		p := serveProject(t, db)
		address := p.todo(t)
		p.addTodo(t, address+"/mcp", "--alias", address+"/sse")
		for _, path := range []string{"/mcp", "/sse"} {
			t.Run(path, func(t *testing.T) {
				who := newPerson(t, p, "ada"+strings.ReplaceAll(path, "/", "-")+"@example.test")
				who.decline = []string{writeTodos}
				a := newApp(t, who, byRegistration, nil)
				session := a.mustConnect(address + path)
				if got := tools(t, session); !cmp.Equal(got, []string{"listTodos", "readTodo"}) {
					t.Errorf("a reader is offered %q", got)
				}

				// Without the person the refusal stays one.
				a.person = nil
				var created struct{ Todo struct{ Text string } }
				if err := call(t, session, "createTodo", map[string]any{"todoText": "one"}, &created); err == nil {
					t.Error("a reader added a to-do")
				}
				if path == "/sse" { // whose client gives up on the first refusal
					session = a.mustConnect(address + path)
				}
				if got := todos(t, session); len(got) != 0 {
					t.Errorf("the list has %q", got)
				}
				token, _ := a.wallet.now() // which is good at both addresses
				status, challenge, _ := post(t, address+"/mcp", token.AccessToken, createTodo("one"))
				if status != http.StatusForbidden || !strings.Contains(challenge, `error="insufficient_scope"`) || !strings.Contains(challenge, `scope="write:todos"`) {
					t.Errorf("a reader's call: %d %s", status, challenge)
				}

				a.person, who.decline = who, nil
				if err := call(t, session, "createTodo", map[string]any{"todoText": "two"}, &created); err != nil {
					t.Fatalf("after the step-up: %v", err)
				}
				if len(who.asked) != 2 {
					t.Fatalf("%d consent pages, want two", len(who.asked))
				}
				step := who.asked[1]
				if shown, ticked := step.ticked(); !cmp.Equal(shown, []string{writeTodos}) || !cmp.Equal(ticked, shown) {
					t.Errorf("the second page shows %q and ticks %q", shown, ticked)
				}
				if !strings.Contains(step.body, "You already allow") {
					t.Errorf("the second page does not say what stays: %v", step)
				}
				if got := todos(t, session); !cmp.Equal(got, []string{"two"}) {
					t.Errorf("the list is %q", got)
				}
				a.wantTrail(t, "POST "+path+" 403", "POST /v1/oauth2/token 200")
			})
		}
	})
}

// Two people share nothing: not their lists, not their connected apps.
func TestTwoPeople(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		p := serveProject(t, db)
		address := p.todo(t)
		p.addTodo(t, address+"/mcp")
		ada, bob := newPerson(t, p, "ada@example.test"), newPerson(t, p, "bob@example.test")
		hers, his := newApp(t, ada, byRegistration, nil), newApp(t, bob, byRegistration, nil)
		hersSession, hisSession := hers.mustConnect(address+"/mcp"), his.mustConnect(address+"/mcp")
		var created struct{ Todo struct{ ID string } }
		if err := call(t, hersSession, "createTodo", map[string]any{"todoText": "hers"}, &created); err != nil {
			t.Fatal(err)
		}
		id := created.Todo.ID

		if got := todos(t, hisSession); len(got) != 0 {
			t.Errorf("his list has %q", got)
		}
		for _, tool := range []string{"readTodo", "markTodoComplete", "deleteTodo"} {
			if err := call(t, hisSession, tool, map[string]any{"todoID": id}, &created); err == nil || err.Error() != "There is no to-do with that id." {
				t.Errorf("%s of hers: %v", tool, err)
			}
		}
		if got, err := hisSession.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: "todoapp://todos/" + id}); err == nil {
			t.Errorf("he read %+v", got)
		}
		token, _ := his.wallet.now()
		for _, route := range []string{"GET /api/todos/" + id, "DELETE /api/todos/" + id, "POST /api/todos/" + id + "/complete"} {
			method, place, _ := strings.Cut(route, " ")
			status, body, err := fetch(t.Context(), method, address+place, http.Header{"Authorization": {"Bearer " + token.AccessToken}})
			if err != nil || status != http.StatusNotFound {
				t.Errorf("%s: %d %s, %v", route, status, body, err)
			}
		}
		if got := todos(t, hersSession); !cmp.Equal(got, []string{"hers"}) {
			t.Errorf("her list is %q", got)
		}

		apps, err := bob.visit(t.Context(), p.issuer+"/connected-apps")
		if err != nil || !strings.Contains(apps.body, his.name) || strings.Contains(apps.body, hers.name) {
			t.Errorf("his connected apps: %v, %v", apps, err)
		}
		if _, err := bob.takeBack(t.Context(), his.name); err != nil {
			t.Fatal(err)
		}
		hers.wallet.expire()
		if got := todos(t, hersSession); !cmp.Equal(got, []string{"hers"}) {
			t.Errorf("after he took his back, her list is %q", got)
		}
	})
}

// tools are the names of the tools that a caller is offered.
func tools(t *testing.T, session *mcp.ClientSession) []string {
	t.Helper()
	list, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	slices.Sort(names)
	return names
}

// createTodo is a tool call as the transports carry it.
func createTodo(text string) string {
	arguments, _ := json.Marshal(map[string]string{"todoText": text})
	return `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"createTodo","arguments":` + string(arguments) + `}}`
}

// post sends a message to an MCP endpoint; it returns status, challenge and
// body.
func post(t *testing.T, address, token, message string) (status int, challenge, body string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(message))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "application/json, text/event-stream")
	r.Header.Set("Authorization", "Bearer "+token)
	var header http.Header
	client := &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err == nil {
			header = resp.Header
		}
		return resp, err
	})}
	status, body, err = roundTrip(client, r)
	if err != nil {
		t.Fatal(err)
	}
	return status, header.Get("WWW-Authenticate"), body
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
	"github.com/postern-id/postern/guard/mcpguard"
)

// TestMain lets the test binary be the browser of a test: it opens the page it
// is given, as a person would who allows everything at once.
func TestMain(m *testing.M) {
	if os.Getenv("TRY_TEST_BROWSER") != "" {
		response, err := http.Get(os.Args[1])
		if err != nil {
			os.Exit(1)
		}
		response.Body.Close()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestTry(t *testing.T) {
	issuer := guardtest.New(t)
	mux := http.NewServeMux()
	s := httptest.NewServer(mux)
	defer s.Close()
	config := issuer.Config(s.URL+"/mcp", "read:todos", "write:todos")
	config.Tools = map[string]guard.Rule{"createTodo": guard.AllOf("write:todos"), "listTodos": guard.AllOf("read:todos")}
	g, err := guard.New(config)
	if err != nil {
		t.Fatal(err)
	}
	server := mcp.NewServer(&mcp.Implementation{Name: "todo", Version: "1.0.0"}, nil)
	type text struct {
		TodoText string `json:"todoText"`
	}
	added := ""
	mcp.AddTool(server, &mcp.Tool{Name: "createTodo"}, func(_ context.Context, _ *mcp.CallToolRequest, in text) (*mcp.CallToolResult, any, error) {
		added = in.TodoText
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "added it"}}}, nil, nil
	})
	mcp.AddTool(server, &mcp.Tool{Name: "listTodos"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: "one to-do"}}}, nil, nil
	})
	mux.Handle("/mcp", mcpguard.Protect(g, mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})))
	mux.Handle("/.well-known/", g.Metadata())

	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TRY_TEST_BROWSER", "1")
	var out strings.Builder
	settings := map[string]string{"TRY_URL": s.URL + "/mcp", "TRY_CLIENT_ID": "terminal", "TRY_BROWSER": self}
	if err := run(t.Context(), func(name string) string { return settings[name] }, &out); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for _, want := range []string{
		"1   Connecting to " + s.URL + "/mcp without a token.",
		"2   A token is needed.", issuer.URL + "/authorize?",
		"3   You allowed it.",
		"4   Connected. You allowed 2 tools: createTodo, listTodos",
		"5   createTodo answers: added it",
		"6   listTodos answers: one to-do",
		"7   Done. Take it back whenever you like: " + issuer.URL + "/connected-apps",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the steps do not say %q:\n%s", want, &out)
		}
	}
	if !strings.HasPrefix(added, "Try Postern") {
		t.Errorf("added %q", added)
	}
}

func TestNobodyThere(t *testing.T) {
	settings := map[string]string{"TRY_URL": "http://127.0.0.1:1/mcp", "TRY_BROWSER": "none"}
	err := run(t.Context(), func(name string) string { return settings[name] }, &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "make dev") {
		t.Errorf("got %v, want the command that starts the server", err)
	}
}

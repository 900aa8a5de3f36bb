package mcpguard_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
	"github.com/postern-id/postern/guard/mcpguard"
)

type note struct {
	ID string `json:"id"`
}

// deleter has a tool that asks before it deletes, and remembers in a sealed
// state what it asked about.
func deleter(g *guard.Guard, deleted *[]string) *mcp.Server {
	server := mcp.NewServer(&mcp.Implementation{Name: "s", Version: "1"}, nil)
	mcp.AddTool(server, &mcp.Tool{Name: "delete"}, func(ctx context.Context, req *mcp.CallToolRequest, in note) (*mcp.CallToolResult, any, error) {
		if len(req.Params.InputResponses) == 0 {
			state, err := g.SealState(ctx, in, []byte(in.ID), time.Minute)
			return &mcp.CallToolResult{
				InputRequests: mcp.InputRequestMap{"sure": &mcp.ElicitParams{Message: "Delete it?"}}, RequestState: state,
			}, nil, err
		}
		asked, err := g.OpenState(ctx, in, req.Params.RequestState)
		if err != nil {
			return nil, nil, err
		}
		if answer, ok := req.Params.InputResponses["sure"].(*mcp.ElicitResult); ok && answer.Action == "accept" {
			*deleted = append(*deleted, string(asked))
		}
		return &mcp.CallToolResult{}, nil, nil
	})
	return server
}

// TestState proves that the state of a request in several rounds comes back only
// as the server gave it, for the same caller and request, in time, and that what
// a client makes of it otherwise changes nothing.
//
// Proves: MCP-RS-22.
func TestState(t *testing.T) {
	issuer := guardtest.New(t)
	cfg := issuer.Config(resource, "write")
	cfg.Tools = map[string]guard.Rule{"delete": guard.AllOf("write")}
	g, err := guard.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var deleted []string
	server := deleter(g, &deleted)
	h := httptest.NewServer(mcpguard.Protect(g, mcp.NewStreamableHTTPHandler(
		func(*http.Request) *mcp.Server { return server }, &mcp.StreamableHTTPOptions{Stateless: true})))
	defer h.Close()
	client := func(subject string) *mcp.ClientSession {
		token := issuer.Mint(guardtest.Token{Resource: resource, Subject: subject, Scopes: []string{"write"}})
		session, err := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, &mcp.ClientOptions{
			MultiRoundTrip: &mcp.MultiRoundTripOptions{Disabled: true}, // the test is the client
		}).Connect(t.Context(), &mcp.StreamableClientTransport{Endpoint: h.URL, HTTPClient: &http.Client{Transport: withToken(token)}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = session.Close() })
		return session
	}
	ada, bea := client("user-ada"), client("user-bea")
	first, err := ada.CallTool(t.Context(), &mcp.CallToolParams{Name: "delete", Arguments: note{"7"}})
	if err != nil || !first.NeedsInput() || first.RequestState == "" {
		t.Fatalf("the first round: %v %+v", err, first)
	}
	again := func(as *mcp.ClientSession, id, state string) bool {
		t.Helper()
		before := len(deleted)
		result, err := as.CallTool(t.Context(), &mcp.CallToolParams{
			Name: "delete", Arguments: note{id}, RequestState: state,
			InputResponses: mcp.InputResponseMap{"sure": &mcp.ElicitResult{Action: "accept"}},
		})
		done := len(deleted) > before
		if ok := err == nil && !result.IsError; ok != done {
			t.Errorf("deleted %v, and told %v %+v", done, err, result)
		}
		return done
	}
	for _, c := range []struct {
		name  string
		as    *mcp.ClientSession
		id    string
		state string
	}{
		{"another note", ada, "8", first.RequestState},
		{"another person", bea, "7", first.RequestState},
		{"no state", ada, "7", ""},
		{"a changed state", ada, "7", "A" + first.RequestState[1:]},
		{"half of it", ada, "7", first.RequestState[:len(first.RequestState)/2]},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.state == first.RequestState && c.as == ada && c.id == "7" { // it began with A
				c.state = "B" + c.state[1:]
			}
			if again(c.as, c.id, c.state) {
				t.Errorf("deleted %q", deleted)
			}
		})
	}
	if !again(ada, "7", first.RequestState) || deleted[0] != "7" {
		t.Errorf("as it was: deleted %q", deleted)
	}
	issuer.Advance(2 * time.Minute)
	if again(client("user-ada"), "7", first.RequestState) {
		t.Error("after its time")
	}
}

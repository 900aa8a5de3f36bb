package main

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
)

// newTest starts a gateway in front of a handler, and returns its MCP endpoint.
func newTest(t *testing.T, behind http.HandlerFunc) (endpoint string, issuer *guardtest.Issuer) {
	t.Helper()
	inner := httptest.NewServer(behind)
	t.Cleanup(inner.Close)
	front := httptest.NewUnstartedServer(nil)
	t.Cleanup(front.Close)
	endpoint = "http://" + front.Listener.Addr().String() + "/mcp"
	issuer = guardtest.New(t)
	g, err := guard.New(guard.Config{Issuer: issuer.URL, Resource: endpoint, Scopes: scopes, Now: issuer.Now})
	if err != nil {
		t.Fatal(err)
	}
	handler, address, err := newGateway(g, endpoint, inner.URL+"/mcp")
	if err != nil || !strings.HasSuffix(endpoint, address+"/mcp") {
		t.Fatalf("a gateway at %q: %v", address, err)
	}
	front.Config.Handler = handler
	front.Start()
	return endpoint, issuer
}

// send sends one MCP request by hand.
func send(t *testing.T, endpoint, host, token string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, endpoint, strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/list"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if host != "" {
		r.Host = host
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// Only requests with a token reach the server behind, without the token, under
// that server's own name.
func TestGateway(t *testing.T) {
	reached := 0
	endpoint, issuer := newTest(t, func(w http.ResponseWriter, r *http.Request) {
		reached++
		if r.Header.Get("Authorization") != "" || r.URL.Path != "/mcp" {
			t.Errorf("the server behind saw %s%s with %v", r.Host, r.URL, r.Header)
		}
		fmt.Fprint(w, `{"jsonrpc":"2.0","id":1,"result":{}}`)
	})
	if resp := send(t, endpoint, "", ""); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(resp.Header.Get("WWW-Authenticate"), "resource_metadata=") || reached != 0 {
		t.Errorf("without a token: %s, %q, reached %d times", resp.Status, resp.Header.Get("WWW-Authenticate"), reached)
	}
	token := issuer.Mint(guardtest.Token{Resource: endpoint, Scopes: []string{"mcp"}})
	if resp := send(t, endpoint, "elsewhere.example.test", token); resp.StatusCode != http.StatusMisdirectedRequest || reached != 0 {
		t.Errorf("by another name: %s, reached %d times", resp.Status, reached)
	}
	if resp := send(t, endpoint, "", token); resp.StatusCode != http.StatusOK || reached != 1 {
		t.Errorf("with a token: %s, reached %d times", resp.Status, reached)
	}
}

// An event arrives when it is sent, not when the stream ends.
func TestEventsAtOnce(t *testing.T) {
	end := make(chan struct{})
	endpoint, issuer := newTest(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		fmt.Fprint(w, "data: one\n\n")
		w.(http.Flusher).Flush()
		<-end
		fmt.Fprint(w, "data: two\n\n")
	})
	events := bufio.NewReader(send(t, endpoint, "", issuer.Mint(guardtest.Token{Resource: endpoint, Scopes: []string{"mcp"}})).Body)
	if line, err := events.ReadString('\n'); line != "data: one\n" || err != nil {
		t.Errorf("the first event is %q, %v", line, err)
	}
	close(end)
	if rest, err := io.ReadAll(events); !strings.Contains(string(rest), "data: two") || err != nil {
		t.Errorf("the rest is %q, %v", rest, err)
	}
}

func TestRefusedSettings(t *testing.T) {
	for _, upstream := range []string{"", "127.0.0.1:9000", "/mcp", "http://%zz/mcp"} {
		if _, _, err := newGateway(nil, "http://localhost:8080/mcp", upstream); err == nil {
			t.Errorf("upstream %q is accepted", upstream)
		}
	}
}

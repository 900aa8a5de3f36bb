package main

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"strings"

	"github.com/postern-id/postern/guard"
)

// refusals notes what the guard refused a connected app, for the page's list of
// what agents did. It stands in front of the guard: what is behind it never
// hears of a refused request.
type refusals struct {
	guard     *guard.Guard
	service   *Service
	ownClient string // our own page is no agent
}

// of notes refusals on a route of one operation.
func (n *refusals) of(operation string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if n.serve(next, w, r) {
			n.note(r, operation)
		}
	})
}

// ofTools notes refused calls of tools on an MCP endpoint.
func (n *refusals) ofTools(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body beginning
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, &body), r.Body}
		if n.serve(next, w, r) {
			tools := calledTools(body.Bytes())
			if len(tools) == 0 { // a newer client says it in the headers, and was refused for them
				tools = []string{r.Header.Get("Mcp-Name")}
			}
			for _, tool := range tools {
				n.note(r, tool)
			}
		}
	})
}

// serve serves a request and reports whether it was refused with 403.
func (n *refusals) serve(next http.Handler, w http.ResponseWriter, r *http.Request) bool {
	seen := &statusWriter{ResponseWriter: w}
	next.ServeHTTP(seen, r)
	return seen.status == http.StatusForbidden
}

// note writes down that the caller tried an operation, if that is what they may
// not do: a request can also be refused for where it comes from.
func (n *refusals) note(r *http.Request, operation string) {
	act, known := acts()[operation]
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !known || !strings.EqualFold(scheme, "Bearer") {
		return
	}
	p, err := n.guard.Verify(r.Context(), strings.Trim(token, " "))
	if err != nil || p.Organization == "" || p.ClientID == n.ownClient || p.May(act.Resource, act.Action) {
		return
	}
	if err := n.service.Refused(r.Context(), Caller{p.Organization, p.Subject, p.ClientID}, operation); err != nil {
		slog.ErrorContext(r.Context(), "could not note a refusal", "error", err)
	}
}

// calledTools returns the tools that a JSON-RPC message, or a batch of them,
// calls.
func calledTools(body []byte) []string {
	type message struct {
		Method string
		Params struct{ Name string }
	}
	var batch []message
	if err := json.Unmarshal(body, &batch); err != nil {
		var one message
		if err := json.Unmarshal(body, &one); err != nil {
			return nil
		}
		batch = []message{one}
	}
	var tools []string
	for _, m := range batch {
		if m.Method == "tools/call" {
			tools = append(tools, m.Params.Name)
		}
	}
	return tools
}

// beginning keeps what is written, as long as it is no more than a tool call
// here can be.
type beginning struct{ bytes.Buffer }

func (b *beginning) Write(p []byte) (int, error) {
	if b.Len()+len(p) <= 64<<10 {
		b.Buffer.Write(p)
	}
	return len(p), nil
}

// statusWriter remembers the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap lets event streams flush.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

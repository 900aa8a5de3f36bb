package guard

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"strings"
	"unicode/utf8"
)

// perRequest is the first MCP revision without sessions, where the headers
// Mcp-Method and Mcp-Name are required.
const perRequest = "2026-07-28"

// operation is one JSON-RPC message. The method of a response is empty.
type operation struct{ method, name string }

// headerOperation is what a request of a per-request revision says in its
// headers. For older revisions they mean nothing.
func headerOperation(h http.Header) (operation, bool) {
	if h.Get("Mcp-Protocol-Version") < perRequest || h.Get("Mcp-Method") == "" {
		return operation{}, false
	}
	return operation{headerValue(h.Get("Mcp-Method")), headerValue(h.Get("Mcp-Name"))}, true
}

// headerValue decodes =?base64?…?=; a broken one stands for itself, and so
// for a name that no rule knows.
func headerValue(v string) string {
	if inner, ok := strings.CutPrefix(v, "=?base64?"); ok {
		if inner, ok = strings.CutSuffix(inner, "?="); ok {
			if decoded, err := base64.StdEncoding.DecodeString(inner); err == nil {
				return string(decoded)
			}
		}
	}
	return v
}

// syntaxError is the fault of a body that cannot be judged, by its JSON-RPC
// code.
type syntaxError struct{ code int }

func (e *syntaxError) Error() string { return "guard: the body is not a JSON-RPC message" }

// answer tells the client in JSON-RPC's own terms.
func (e *syntaxError) answer(w http.ResponseWriter) {
	message := map[int]string{-32700: "Parse error", -32600: "Invalid Request"}[e.code]
	writeJSON(w, http.StatusBadRequest, map[string]any{
		"jsonrpc": "2.0", "id": nil, "error": map[string]any{"code": e.code, "message": message},
	})
}

// bodyOperations reads the messages of a POST and puts the body back for the
// handler.
func (g *Guard) bodyOperations(w http.ResponseWriter, r *http.Request) ([]operation, error) {
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, errMediaType
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, g.cfg.MaxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, errBodyTooLarge
	}
	if err != nil {
		return nil, &syntaxError{-32700}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return parseOperations(body)
}

// parseOperations reads a JSON-RPC message or a batch of them. It refuses what
// the handler's parser could read in another way; what is not UTF-8 is no JSON
// (RFC 8259 §8.1), and every parser makes of it what it likes.
func parseOperations(body []byte) ([]operation, error) {
	if !utf8.Valid(body) || !json.Valid(body) {
		return nil, &syntaxError{-32700}
	}
	messages := []json.RawMessage{body}
	if body[skipSpace(body, 0)] == '[' {
		messages = nil
		if err := json.Unmarshal(body, &messages); err != nil || len(messages) == 0 {
			return nil, &syntaxError{-32600}
		}
	}
	ops := make([]operation, len(messages))
	for i, message := range messages {
		if err := ops[i].parse(message); err != nil {
			return nil, &syntaxError{-32600}
		}
	}
	return ops, nil
}

var (
	messageNames = []string{"jsonrpc", "id", "method", "params", "result", "error"}
	nameNames    = []string{"name", "uri"}
)

func (op *operation) parse(message []byte) error {
	var params []byte
	err := members(message, messageNames, func(name, value []byte) error {
		switch string(name) {
		case "method":
			if err := unquoteInto(&op.method, value); err != nil {
				return err
			}
			if op.method == "" {
				return errors.New("a method has a name")
			}
		case "params":
			params = value
		}
		return nil
	})
	if err != nil || params == nil || params[0] != '{' {
		return err
	}
	member := ""
	switch op.method {
	case "tools/call", "prompts/get":
		member = "name"
	case "resources/read":
		member = "uri"
	default:
		return nil
	}
	return members(params, nameNames, func(name, value []byte) error {
		if string(name) != member {
			return nil
		}
		return unquoteInto(&op.name, value)
	})
}

package oauth

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"github.com/postern-id/postern/internal/wire"
)

// Error is a refusal that the protocol has a code for. Description is written
// for the people who make the client; the cause stays in our log.
type Error struct {
	Code        string // RFC 6749 §4.1.2.1 and §5.2, RFC 7591 §3.2.2, RFC 8707 §2
	Description string // ASCII, one sentence
	cause       error
}

func (e *Error) Error() string {
	if e.cause != nil {
		return e.Code + ": " + e.Description + ": " + e.cause.Error()
	}
	return e.Code + ": " + e.Description
}

// Unwrap gives the cause to errors.Is.
func (e *Error) Unwrap() error { return e.cause }

func refuse(code, format string, args ...any) error {
	return &Error{Code: code, Description: fmt.Sprintf(format, args...)}
}

func invalidRequest(format string, args ...any) error {
	return refuse("invalid_request", format, args...)
}

func invalidClient(format string, args ...any) error {
	return refuse("invalid_client", format, args...)
}

func invalidGrant(format string, args ...any) error { return refuse("invalid_grant", format, args...) }

func invalidScope(format string, args ...any) error { return refuse("invalid_scope", format, args...) }

func invalidTarget(format string, args ...any) error {
	return refuse("invalid_target", format, args...)
}

func unauthorizedClient(format string, args ...any) error {
	return refuse("unauthorized_client", format, args...)
}

func unsupportedGrantType(format string, args ...any) error {
	return refuse("unsupported_grant_type", format, args...)
}

func invalidRedirectURI(format string, args ...any) error {
	return refuse("invalid_redirect_uri", format, args...)
}

func invalidClientMetadata(format string, args ...any) error {
	return refuse("invalid_client_metadata", format, args...)
}

// status follows from the code. Whatever has no protocol code is our own
// trouble: 503, so that clients keep registration and tokens (MCP-AS-53).
func status(code string) int {
	switch code {
	case "invalid_client", "invalid_token":
		return http.StatusUnauthorized
	case "insufficient_scope", "access_denied":
		return http.StatusForbidden
	case "registration_disabled":
		return http.StatusNotFound
	case "temporarily_unavailable", "server_error":
		return http.StatusServiceUnavailable
	case "too_many_requests":
		return http.StatusTooManyRequests
	case "request_too_large":
		return http.StatusRequestEntityTooLarge
	default:
		return http.StatusBadRequest
	}
}

// Handle turns a handler that returns errors into one that answers them in the
// form of RFC 6749 §5.2.
func (s *Server) Handle(h func(w http.ResponseWriter, r *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := h(w, r); err != nil {
			s.writeError(w, r, err)
		}
	})
}

func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *Error
	var bad *wire.Error
	switch {
	case errors.As(err, &refusal):
	case errors.As(err, &bad) && bad.Status == http.StatusRequestEntityTooLarge:
		refusal = &Error{Code: "request_too_large", Description: bad.Message}
	case errors.As(err, &bad):
		refusal = &Error{Code: "invalid_request", Description: bad.Message}
	default:
		refusal = &Error{Code: "temporarily_unavailable", Description: "The server could not answer just now. Try again in a few seconds."}
	}
	code := status(refusal.Code)
	s.note(r.Context(), slog.String("error", refusal.Code), slog.String("cause", err.Error()))
	switch code {
	case http.StatusUnauthorized:
		switch {
		case refusal.Code == "invalid_token": // RFC 6750 §3
			w.Header().Set("WWW-Authenticate", `Bearer realm="postern", error="invalid_token", error_description="`+refusal.Description+`"`)
		case usesBasic(r):
			w.Header().Set("WWW-Authenticate", `Basic realm="postern", charset="UTF-8"`)
		}
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "5")
	case http.StatusTooManyRequests:
		w.Header().Set("Retry-After", "60")
	}
	// Two codes are ours, for a status that the protocol has no word for.
	name := refusal.Code
	switch name {
	case "request_too_large":
		name = "invalid_request"
	case "too_many_requests":
		name = "temporarily_unavailable"
	}
	writeJSON(w, code, map[string]string{"error": name, "error_description": refusal.Description})
}

func usesBasic(r *http.Request) bool {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "Basic")
}

// writeJSON answers with JSON that nobody may keep (RFC 6749 §5.1).
func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // only our own types come here
		body, status = []byte(`{"error":"server_error"}`), http.StatusInternalServerError
	}
	writeBody(w, status, body)
}

// writeBody answers with JSON that nobody may keep.
func writeBody(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("Pragma", "no-cache")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away is no error of ours
}

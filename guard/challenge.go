package guard

import (
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Refusals that have an answer of their own. The errors of [Check] are refusals
// too.
var (
	errMalformed    = errors.New("guard: malformed credentials")
	errOtherCaller  = errors.New("guard: the stream belongs to another caller")
	errOrigin       = errors.New("guard: foreign origin or host")
	errNoSession    = errors.New("guard: no such session")
	errTooMany      = errors.New("guard: too many open sessions")
	errTaken        = errors.New("guard: the event stream's endpoint is another stream's")
	errMediaType    = errors.New("guard: not application/json")
	errBodyTooLarge = errors.New("guard: body too large")
)

// scopeError is an ErrInsufficientScope with what to ask for; nothing where no
// scope would help.
type scopeError struct {
	ask   []string
	cause error
}

func (e *scopeError) Error() string { return e.cause.Error() }
func (e *scopeError) Unwrap() error { return e.cause }

// challenges are the prepared values of WWW-Authenticate (RFC 6750 §3,
// RFC 9728 §5.1).
type challenges struct {
	none, invalid, malformed string
	resource                 string
}

func newChallenges(metadataURL string, initial []string) challenges {
	where := `resource_metadata="` + metadataURL + `"`
	scope := ""
	if len(initial) > 0 {
		scope = `, scope="` + strings.Join(initial, " ") + `"`
	}
	return challenges{
		none:      `Bearer ` + where + scope,
		invalid:   `Bearer error="invalid_token", error_description="` + saidInvalid + `", ` + where + scope,
		malformed: `Bearer error="invalid_request", error_description="` + saidMalformed + `", ` + where,
		resource:  where,
	}
}

// insufficient names every scope that the operation needs, at once. The
// parameter scope may be left out but not be empty (RFC 6750 §3), so it is left
// out where no scope would help.
func (c challenges) insufficient(ask []string) string {
	if len(ask) == 0 {
		return `Bearer error="insufficient_scope", error_description="` + saidHopeless + `", ` + c.resource
	}
	return `Bearer error="insufficient_scope", error_description="` + saidScope + `", scope="` +
		strings.Join(ask, " ") + `", ` + c.resource
}

// What clients read. It never depends on why exactly something was refused.
const (
	saidNone      = "An access token is needed."
	saidInvalid   = "The access token is expired, revoked or not meant for this server."
	saidMalformed = "Send exactly one Authorization header of the form: Bearer <token>."
	saidScope     = "The access token lacks a scope that this operation needs."
	saidHopeless  = "No scope of this server permits this operation."
)

// refuse answers a request that does not reach the handler.
func (g *Guard) refuse(w http.ResponseWriter, r *http.Request, err error) {
	g.cfg.Logger.Info("guard: refused", "method", r.Method, "path", r.URL.Path, "reason", err)
	status, code, said, challenge := http.StatusInternalServerError, "server_error", "", ""
	told := g.called(r).challenges
	var scope *scopeError
	var syntax *syntaxError
	var rate *rateError
	switch {
	case errors.As(err, &syntax):
		syntax.answer(w)
		return
	case errors.Is(err, ErrNoToken):
		status, code, said, challenge = http.StatusUnauthorized, "unauthorized", saidNone, told.none
	case errors.Is(err, errMalformed):
		status, code, said, challenge = http.StatusBadRequest, "invalid_request", saidMalformed, told.malformed
	case errors.Is(err, ErrInvalidToken):
		status, code, said, challenge = http.StatusUnauthorized, "invalid_token", saidInvalid, told.invalid
	case errors.As(err, &scope):
		status, code, said, challenge = http.StatusForbidden, "insufficient_scope", saidScope, told.insufficient(scope.ask)
		if len(scope.ask) == 0 {
			said = saidHopeless
		}
	case errors.Is(err, ErrUnavailable):
		status, code, said = http.StatusServiceUnavailable, "temporarily_unavailable", "The authorization server cannot be asked now. Try again."
		w.Header().Set("Retry-After", "5")
	case errors.Is(err, ErrOtherOrganization):
		status, code, said = http.StatusForbidden, "access_denied", "This belongs to another organization."
	case errors.Is(err, errOtherCaller):
		status, code, said = http.StatusForbidden, "access_denied", "This session belongs to another caller."
	case errors.Is(err, errOrigin):
		status, code, said = http.StatusForbidden, "access_denied", "Requests from this origin or host are not accepted."
	case errors.Is(err, errNoSession):
		status, code, said = http.StatusNotFound, "not_found", "There is no such session. Start a new one."
	case errors.Is(err, errTooMany):
		status, code, said = http.StatusServiceUnavailable, "temporarily_unavailable", "Too many sessions are open. Try again."
		w.Header().Set("Retry-After", "60")
	case errors.As(err, &rate):
		status, code, said = http.StatusTooManyRequests, "rate_limited", "Too many tool calls. Try again later."
		w.Header().Set("Retry-After", strconv.FormatInt(rate.wait, 10))
	case errors.Is(err, errMediaType):
		status, code, said = http.StatusUnsupportedMediaType, "invalid_request", "Send application/json."
	case errors.Is(err, errBodyTooLarge):
		status, code, said = http.StatusRequestEntityTooLarge, "invalid_request", "The request body is too large."
	}
	if challenge != "" {
		w.Header().Set("WWW-Authenticate", challenge)
	}
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, status, struct {
		Error       string `json:"error"`
		Description string `json:"error_description,omitempty"`
	}{code, said})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"server_error"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n')) // the client is gone if this fails
}

// authenticate finds and judges the bearer token of a request (RFC 6750 §2.1).
// Tokens in the query, a form or a cookie are not looked at.
func (g *Guard) authenticate(r *http.Request) (*Principal, error) {
	values := r.Header["Authorization"]
	switch {
	case len(values) == 0:
		return nil, ErrNoToken
	case len(values) > 1:
		return nil, errMalformed
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil, ErrNoToken // another scheme is no credential here
	}
	return g.verify(r.Context(), strings.Trim(token, " "))
}

// union returns the scopes of all lists, each once, in order.
func union(lists ...[]string) []string {
	var all []string
	for _, scope := range slices.Concat(lists...) {
		if !slices.Contains(all, scope) {
			all = append(all, scope)
		}
	}
	return all
}

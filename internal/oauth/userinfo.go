package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/postern-id/postern/internal/project"
)

// Userinfo tells the holder of an access token with the scope openid about the
// person (OpenID Connect Core §5.3), by GET or POST. The token comes in the
// Authorization header and nowhere else.
func (s *Server) Userinfo(w http.ResponseWriter, r *http.Request) error {
	ctx, p := s.WithAddress(r), project.FromContext(r.Context())
	token, sent := bearer(r)
	if !sent {
		return s.challenge(w, r, "", "")
	}
	claims, err := s.userClaims(ctx, p, token)
	switch {
	case errors.Is(err, errNotOurToken):
		return s.challenge(w, r, "invalid_token", "The access token is not valid here, or not any more.")
	case errors.Is(err, errNoOpenID):
		return s.challenge(w, r, "insufficient_scope", "The access token does not have the scope openid.")
	case err != nil:
		return err
	}
	writeJSON(w, http.StatusOK, claims)
	return nil
}

// errNoOpenID says that a token is good but was not given to know who somebody
// is.
var errNoOpenID = errors.New("oauth: the token lacks the scope openid")

// userClaims returns what the holder of a token may know now: a scope that the
// person lost since is lost here too.
func (s *Server) userClaims(ctx context.Context, p *project.Project, token string) (map[string]any, error) {
	c, err := s.readAccessToken(ctx, p, token)
	if err != nil {
		return nil, err
	}
	live, scopes, alive, err := s.live(ctx, p, c)
	switch {
	case err != nil:
		return nil, err
	case !alive:
		return nil, errNotOurToken
	case !contains(scopes, "openid"):
		return nil, errNoOpenID
	}
	s.sawCall(ctx, p, live.Family)
	claims, active, err := s.subjects.Claims(ctx, p.ID, c.Subject, live.Family.Organization, scopes)
	if err != nil {
		return nil, err
	}
	if !active {
		return nil, errNotOurToken
	}
	if claims == nil {
		claims = map[string]any{}
	}
	claims["sub"] = c.Subject // always, and the token's (OpenID Connect Core §5.3.2)
	return claims, nil
}

// bearer takes a token from the Authorization header (RFC 6750 §2.1). sent is
// false when the request has no credentials of this kind.
func bearer(r *http.Request) (token string, sent bool) {
	headers := r.Header.Values("Authorization")
	if len(headers) != 1 {
		return "", len(headers) > 1
	}
	scheme, token, _ := strings.Cut(headers[0], " ")
	return strings.TrimSpace(token), strings.EqualFold(scheme, "Bearer")
}

// challenge refuses a request with a bearer challenge (RFC 6750 §3). Without
// credentials it carries no error, for nothing was wrong yet.
func (s *Server) challenge(w http.ResponseWriter, r *http.Request, code, description string) error {
	value := `Bearer realm="postern"`
	answer := map[string]string{"error": "invalid_token", "error_description": "Send an access token in the Authorization header."}
	if code != "" {
		value += `, error="` + code + `", error_description="` + description + `"`
		answer = map[string]string{"error": code, "error_description": description}
	}
	if code == "insufficient_scope" {
		value += `, scope="openid"`
	}
	s.note(r.Context(), slog.String("error", answer["error"]))
	w.Header().Set("WWW-Authenticate", value)
	writeJSON(w, status(answer["error"]), answer)
	return nil
}

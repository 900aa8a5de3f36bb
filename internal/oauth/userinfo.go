package oauth

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"

	"github.com/postern-id/postern/internal/audit"
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
	claims, said, err := s.userClaims(ctx, p, token)
	switch {
	case errors.Is(err, errNotOurToken):
		if err := s.refuseUserinfo(ctx, p, said, s.whyDead(said)); err != nil {
			return err
		}
		if token == "" { // two headers, or nothing behind the scheme
			return s.challenge(w, r, "invalid_request", "Send exactly one Authorization header of the form: Bearer <token>.")
		}
		return s.challenge(w, r, "invalid_token", "The access token is not valid here, or not any more.")
	case errors.Is(err, errNoOpenID):
		if err := s.refuseUserinfo(ctx, p, said, "access token without openid"); err != nil {
			return err
		}
		return s.challenge(w, r, "insufficient_scope", "The access token does not have the scope openid.")
	case err != nil:
		return err
	}
	writeJSON(w, http.StatusOK, claims)
	return nil
}

// whyDead is why userinfo refuses a token that said this.
func (s *Server) whyDead(said accessClaims) string {
	reason := "access token works no more"
	switch {
	case said.JTI == "":
		reason = "access token is none of ours"
	case s.now().Unix() >= said.ExpiresAt:
		reason = "access token ran out"
	}
	return reason
}

// refuseUserinfo records why nothing was told about a person. said is what the
// token says of client and person, which we signed, or nothing.
func (s *Server) refuseUserinfo(ctx context.Context, p *project.Project, said accessClaims, reason string) error {
	e := s.event(ctx, p, audit.UserinfoRefused)
	e.ClientID, e.Subject, e.Reason = said.ClientID, said.Subject, reason
	if strings.HasPrefix(said.ClientID, "https://") { // the trail has the internal id
		client, err := s.findClient(ctx, p, said.ClientID)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		e.ClientID = cmp.Or(client.ID, short(said.ClientID))
	}
	return s.recordRefusal(ctx, e)
}

// errNoOpenID says that a token is good but was not given to know who somebody
// is.
var errNoOpenID = errors.New("oauth: the token lacks the scope openid")

// userClaims returns what the holder of a token may know now, and what the token
// itself says: a scope that the person lost since is lost here too.
func (s *Server) userClaims(ctx context.Context, p *project.Project, token string) (map[string]any, accessClaims, error) {
	c, err := s.readAccessToken(ctx, p, token)
	if err != nil {
		return nil, c, err
	}
	live, scopes, alive, err := s.live(ctx, p, c)
	switch {
	case err != nil:
		return nil, c, err
	case !alive:
		return nil, c, errNotOurToken
	case !contains(scopes, "openid"):
		return nil, c, errNoOpenID
	}
	s.sawCall(p, c.SID, live)
	claims, active, err := s.subjects.Claims(ctx, p.ID, c.Subject, live.Organization, scopes)
	if err != nil {
		return nil, c, err
	}
	if !active {
		return nil, c, errNotOurToken
	}
	if claims == nil {
		claims = map[string]any{}
	}
	claims["sub"] = c.Subject // always, and the token's (OpenID Connect Core §5.3.2)
	return claims, c, nil
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

// challenge refuses a request with a bearer challenge (RFC 6750 §3 and §3.1). Without
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

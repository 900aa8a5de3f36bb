package oauth

import (
	"context"
	"errors"
	"net/url"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
)

// LogoutRequest is a request of a client to sign a person out (OpenID Connect
// RP-Initiated Logout 1.0 §2) that holds. Whoever answers it asks the person
// first, unless Matches says that the client proved whom it means: a link on
// any page can send a browser here.
type LogoutRequest struct {
	Client    Client // the zero Client when the request names none
	Subject   string // whom the id_token_hint is about, "" without one
	SessionID string // the session that the id_token_hint was made in, "" without
	ReturnTo  string // the registered address to return to, "" for none
	state     string
}

// Matches reports whether the request carries an id_token of ours about this
// person, made in this session.
func (l LogoutRequest) Matches(who Person) bool {
	return l.Subject != "" && l.Subject == who.Subject && l.SessionID == who.SessionID
}

// Target is the address to go to afterwards, with the state that was sent
// (OpenID Connect RP-Initiated Logout 1.0 §3), or "" when the client named none:
// then our own page says that the person is signed out.
func (l LogoutRequest) Target() string {
	if l.ReturnTo == "" || l.state == "" {
		return l.ReturnTo
	}
	return Answer{RedirectURI: l.ReturnTo, params: url.Values{"state": {l.state}}}.URL()
}

// ParseLogout reads and checks the parameters of a logout request, from a query
// or a form. An error is for our own page: nobody is sent anywhere then
// (OpenID Connect RP-Initiated Logout 1.0 §4).
func (s *Server) ParseLogout(ctx context.Context, p *project.Project, q url.Values) (LogoutRequest, error) {
	l := LogoutRequest{ReturnTo: q.Get("post_logout_redirect_uri"), state: q.Get("state")}
	clientID := q.Get("client_id")
	if hint := q.Get("id_token_hint"); hint != "" {
		c, err := s.readIDToken(ctx, p, hint)
		if err != nil {
			return LogoutRequest{}, err
		}
		if clientID != "" && clientID != c.Audience {
			return LogoutRequest{}, invalidRequest("client_id is not the client that the id_token_hint was issued to.")
		}
		clientID, l.Subject, l.SessionID = c.Audience, c.Subject, c.SID
	}
	switch {
	case len(l.state) > maxState:
		return LogoutRequest{}, invalidRequest("state is longer than %d bytes.", maxState)
	case clientID == "" && l.ReturnTo != "":
		return LogoutRequest{}, invalidRequest("post_logout_redirect_uri needs client_id or id_token_hint beside it.")
	case clientID == "":
		return l, nil
	}
	client, err := s.findClient(ctx, p, clientID)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && client.Blocked:
		return LogoutRequest{}, invalidRequest("No client with this client_id is known here.")
	case err != nil:
		return LogoutRequest{}, err
	}
	// Compared as a string, without any exception (OpenID Connect RP-Initiated Logout 1.0 §3).
	if l.ReturnTo != "" && !contains(client.Metadata.PostLogoutRedirectURIs, l.ReturnTo) {
		return LogoutRequest{}, invalidRequest("post_logout_redirect_uri is not one that the client registered.")
	}
	l.Client = client
	return l, nil
}

// idClaims are what a logout request needs of an id_token.
type idClaims struct {
	Issuer   string `json:"iss"`
	Subject  string `json:"sub"`
	Audience string `json:"aud"` // ours name one client
	SID      string `json:"sid"`
	TokenUse string `json:"token_use"`
}

// readIDToken checks that an id_token is ours, of this project. It may have
// expired: a person signs out long after it was made (OpenID Connect
// RP-Initiated Logout 1.0 §2).
func (s *Server) readIDToken(ctx context.Context, p *project.Project, compact string) (idClaims, error) {
	ring, err := s.keys.Ring(ctx, p.ID)
	if err != nil {
		return idClaims{}, err
	}
	var c idClaims
	token, err := ring.Verify(compact, typeJWT)
	if err == nil {
		c, err = signing.Decode[idClaims](token)
	}
	if err != nil || c.Issuer != p.Issuer || c.TokenUse != "id" || c.Subject == "" || c.Audience == "" {
		return idClaims{}, invalidRequest("id_token_hint is not an id_token of this server.")
	}
	return c, nil
}

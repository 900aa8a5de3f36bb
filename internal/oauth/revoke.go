package oauth

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

// Revoke answers the revocation endpoint (RFC 7009 §2). 200 means that the
// token is not valid any more, whether or not it ever was; a storage failure is
// 503, so that nobody takes a living token for a dead one (§2.2.1).
// token_type_hint is not needed: the two kinds of token look different.
func (s *Server) Revoke(w http.ResponseWriter, r *http.Request) error {
	ctx, p := s.WithAddress(r), project.FromContext(r.Context())
	form, err := s.parseBody(r, bodyLimit)
	if err != nil {
		return s.refuseBody(ctx, r, p, atRevocation, err)
	}
	client, _, err := s.authenticateClient(ctx, r, p, form, Client{})
	if err != nil {
		return err
	}
	token := form.Get("token")
	if token == "" {
		return s.refuseRequest(ctx, p, atRevocation, client.ID, "no token", invalidRequest("token is missing."))
	}
	if err := s.revoke(ctx, p, client, token); err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, struct{}{})
	return nil
}

// revoke ends a client's token: an access token alone, or with a refresh token,
// of any generation, the whole family (RFC 7009 §2.1). What is no token of ours
// is left alone (§2.2).
func (s *Server) revoke(ctx context.Context, p *project.Project, client Client, token string) error {
	e := s.event(ctx, p, audit.TokenRevoked)
	e.Actor, e.ClientID = client.ID, client.ID

	if given, ok := secret.Parse(secret.RefreshToken, token); ok {
		family, _, err := s.store.Family(ctx, p.ID, given.ID)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil
		case err != nil:
			return err
		case family.Refresh == nil || !given.InSeries(family.Refresh.Series):
			return nil
		case family.ClientID != client.ID:
			return s.refuseRevocation(ctx, p, client)
		}
		e.Subject, e.Object = family.Subject, family.ID
		return s.store.RevokeFamily(ctx, p.ID, family.ID, s.tokensUntil(p), e)
	}

	claims, err := s.readAccessToken(ctx, p, token)
	switch {
	case errors.Is(err, errNotOurToken):
		return nil
	case err != nil:
		return err
	case claims.ClientID != client.ID && claims.ClientID != client.PublicID():
		return s.refuseRevocation(ctx, p, client)
	}
	e.Subject, e.Object = claims.Subject, claims.JTI
	return s.store.RevokeToken(ctx, p.ID, claims.JTI, time.Unix(claims.ExpiresAt, 0), e)
}

// refuseRevocation answers a client that holds another one's token (RFC 7009
// §2.1).
func (s *Server) refuseRevocation(ctx context.Context, p *project.Project, client Client) error {
	e := s.event(ctx, p, audit.TokenRefused)
	e.Actor, e.ClientID, e.Reason = client.ID, client.ID, "revocation of another client's token"
	if err := s.recordRefusal(ctx, e); err != nil {
		return err
	}
	return unauthorizedClient("The token was not issued to this client.")
}

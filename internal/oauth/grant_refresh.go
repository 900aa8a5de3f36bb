package oauth

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signing"
)

// exchangeRefresh is the refresh grant (RFC 6749 §6) with rotation (RFC 9700
// §4.14.2). One call rotates; a repeat within the window gets the same answer,
// which is kept so that only the old token can open it; anything later is theft
// and ends the family (decision 7).
func (s *Server) exchangeRefresh(ctx context.Context, r tokenRequest) ([]byte, error) {
	given, ok := secret.Parse(secret.RefreshToken, r.refresh)
	if !ok {
		return nil, s.refuseGrant(ctx, r, "", "malformed refresh token")
	}
	token, family, _, err := s.store.RefreshToken(ctx, r.project.ID, given.ID)
	if errors.Is(err, ErrNotFound) {
		return nil, s.refuseGrant(ctx, r, "", "unknown refresh token")
	}
	if err != nil {
		return nil, err
	}
	now := s.now()
	switch {
	case !given.Matches(token.Hash):
		return nil, s.refuseGrant(ctx, r, "", "unknown refresh token")
	case family.ClientID != r.client.ID:
		return nil, s.refuseGrant(ctx, r, family.Subject, "refresh token of another client")
	case token.AuthMethod != r.method:
		return nil, s.refuseGrant(ctx, r, family.Subject, "other client authentication")
	}
	if err := s.checkResource(ctx, r, family.Subject, family.Resource); err != nil {
		return nil, err
	}
	scopes, err := s.narrow(ctx, r, family.Subject, family.Organization, family.Scopes)
	if err != nil {
		return nil, err
	}
	family.Nonce = "" // it answered the first request (OpenID Connect Core §12.2)
	body, successor, err := s.mint(ctx, r, family, scopes, token.Generation+1)
	if err != nil {
		return nil, err
	}
	if successor == nil {
		return nil, s.refuseGrant(ctx, r, family.Subject, "client no longer refreshes")
	}
	place := signing.Place{Table: "refresh_token", Row: token.ID, Column: "replay"}
	done := s.tokenEvent(ctx, r, audit.TokenRefreshed, family.Subject, family.ID)
	if !slices.Equal(scopes, family.Scopes) && len(r.scopes) == 0 {
		done.Kind = audit.GrantNarrowed
	}
	rotation, err := s.store.RotateRefresh(ctx, Rotate{
		ProjectID: r.project.ID, TokenID: token.ID, AuthMethod: r.method, Now: now,
		Window:    time.Duration(r.project.Settings.Lifetimes.ReplayWindow) * time.Second,
		Successor: *successor, Replay: signing.SealUnder(given.Text, body, place),
	}, done, s.tokenEvent(ctx, r, audit.RefreshReused, family.Subject, family.ID))
	switch {
	case errors.Is(err, ErrUsed):
		return nil, invalidGrant("This refresh token was used before. Everything issued from it has been revoked; start a new authorization.")
	case errors.Is(err, ErrDead):
		return nil, s.refuseGrant(ctx, r, family.Subject, "refresh token is dead")
	case err != nil:
		return nil, err
	case !rotation.Done:
		return signing.OpenUnder(given.Text, rotation.Replay, place)
	}
	return body, nil
}

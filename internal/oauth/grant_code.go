package oauth

import (
	"context"
	"errors"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/secret"
)

// exchangeCode is the authorization code grant (RFC 6749 §4.1.3 with PKCE,
// RFC 7636 §4.6). Everything is checked and the tokens are made before the one
// statement that uses the code up; who loses that race throws them away.
//
// A second valid use revokes what the first one got (RFC 6749 §4.1.2). A wrong
// verifier or another client never gets that far, so it cannot end an honest
// client's tokens (decision 8).
func (s *Server) exchangeCode(ctx context.Context, r tokenRequest) (answer []byte, err error) {
	given, ok := secret.Parse(secret.AuthorizationCode, r.code)
	if !ok {
		return nil, s.refuseGrant(ctx, r, "", "malformed code")
	}
	code, err := s.store.Code(ctx, r.project.ID, given.ID)
	if errors.Is(err, ErrNotFound) {
		return nil, s.refuseGrant(ctx, r, "", "unknown code")
	}
	if err != nil {
		return nil, err
	}
	if !given.Matches(code.Hash) {
		return nil, s.refuseGrant(ctx, r, "", "unknown code")
	}
	r.attempt = code.Attempt
	now := s.now()
	switch {
	case code.ClientID != r.client.ID:
		return nil, s.refuseGrant(ctx, r, code.Subject, "code of another client")
	case code.RedeemedAt.IsZero() && !now.Before(code.ExpiresAt): // a used one is a replay, however late
		return nil, s.refuseGrant(ctx, r, code.Subject, "code ran out")
	case r.redirect != "" && r.redirect != code.RedirectURI:
		return nil, s.refuseToken(ctx, r, code.Subject, "other redirect URI", r.redirect, deadGrant())
	case !verifierMatches(r.verifier, code.Challenge):
		if err := s.store.CountCodeTry(ctx, r.project.ID, code.ID); err != nil {
			return nil, err
		}
		return nil, s.refuseGrant(ctx, r, code.Subject, "wrong verifier")
	}
	if err := s.checkResource(ctx, r, code.Subject, code.Resource); err != nil {
		return nil, err
	}
	life := r.project.Settings.Lifetimes.RefreshAbsolute
	if !r.client.Refreshes() {
		life = accessTokenLife(r.project, r.client, code.Resource)
	}
	first := secret.New(secret.RefreshToken, now)
	family := Family{
		ID: first.ID, ProjectID: r.project.ID, GrantID: code.GrantID, ClientID: r.client.ID,
		Subject: code.Subject, Organization: code.Organization, SessionID: code.SessionID,
		Resource: code.Resource, Scopes: code.Scopes, Nonce: code.Nonce, AuthTime: code.AuthTime, Attempt: code.Attempt,
		CreatedAt: now, ExpiresAt: now.Add(time.Duration(life) * time.Second), PersonActive: code.PersonActive,
	}
	scopes, err := s.narrow(ctx, r, family)
	if err != nil {
		return nil, err
	}
	answer, family.Refresh, err = s.mint(ctx, r, family, scopes, first)
	if err != nil {
		return nil, err
	}
	err = s.store.RedeemCode(ctx, r.project.ID, Redeem{CodeID: code.ID, Now: now, Family: family},
		s.tokenEvent(ctx, r, audit.TokenIssued, code.Subject, family.ID),
		s.tokenEvent(ctx, r, audit.CodeReused, code.Subject, code.ID))
	switch {
	case errors.Is(err, ErrUsed):
		return nil, invalidGrant("The code was used before. What was issued for it has been revoked.")
	case errors.Is(err, ErrDead):
		return nil, s.refuseGrant(ctx, r, code.Subject, "code is dead")
	}
	return answer, err
}

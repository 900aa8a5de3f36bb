package oauth

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/signing"
)

// exchangeRefresh is the refresh grant (RFC 6749 §6) with rotation (RFC 9700
// §4.14.2). One call rotates; a repeat within the window gets the same answer,
// which is kept so that only the old token can open it; anything later is theft
// and ends the family (decision 7).
func (s *Server) exchangeRefresh(ctx context.Context, r tokenRequest) (answer []byte, err error) {
	given, family := r.held.token, r.held.family
	now := s.now()
	switch {
	case given.Text == "":
		return nil, s.refuseGrant(ctx, r, "", "malformed refresh token")
	case family.Refresh == nil || !given.InSeries(family.Refresh.Series):
		return nil, s.refuseGrant(ctx, r, "", "unknown refresh token")
	case family.ClientID != r.client.ID:
		return nil, s.refuseGrant(ctx, r, family.Subject, "refresh token of another client")
	case family.Refresh.AuthMethod != r.method:
		return nil, s.refuseGrant(ctx, r, family.Subject, "other client authentication")
	}
	if err := s.checkResource(ctx, r, family.Subject, family.Resource); err != nil {
		return nil, err
	}
	scopes, err := s.narrow(ctx, r, family)
	if err != nil {
		return nil, err
	}
	answer, successor, err := s.mint(ctx, r, family, scopes, given.Next())
	if err != nil {
		return nil, err
	}
	if successor == nil {
		return nil, s.refuseGrant(ctx, r, family.Subject, "client no longer refreshes")
	}
	place := signing.Place{Table: "family", Row: family.ID, Column: "replay"}
	done := s.tokenEvent(ctx, r, audit.TokenRefreshed, family.Subject, family.ID)
	if !slices.Equal(scopes, family.Scopes) && len(r.scopes) == 0 {
		done.Kind = audit.GrantNarrowed
	}
	rotation, err := s.store.RotateRefresh(ctx, Rotate{
		ProjectID: r.project.ID, FamilyID: family.ID, Hash: given.Hash[:], Now: now,
		Window:    time.Duration(r.project.Settings.Lifetimes.ReplayWindow) * time.Second,
		Successor: *successor, Replay: signing.SealUnder(given.Text, answer, place),
	}, done, s.tokenEvent(ctx, r, audit.RefreshReused, family.Subject, family.ID))
	switch {
	case errors.Is(err, ErrUsed):
		return nil, invalidGrant("This refresh token was used before. Everything issued from it has been revoked; start a new authorization.")
	case errors.Is(err, ErrDead):
		return nil, s.refuseGrant(ctx, r, family.Subject, "refresh token is dead")
	case err != nil:
		return nil, err
	case !rotation.Done: // the kept answer, to the letter
		return signing.OpenUnder(given.Text, rotation.Replay, place)
	}
	return answer, nil
}

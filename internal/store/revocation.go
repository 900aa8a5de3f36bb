package store

import (
	"context"
	"time"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store/db"
)

// longestAccessToken is the ceiling that project.Settings.Check sets: after
// that time no access token of a revoked grant or family can be alive.
const longestAccessToken = 24 * time.Hour

// The kinds of oauth.Revocation.
const (
	tokenRevoked  = "token"
	familyRevoked = "family"
	grantRevoked  = "grant"

	// Whatever was issued for a resource, or by an issuer, before the row was made.
	resourceRevoked = "resource"
	issuerRevoked   = "issuer"
)

// publish appends to the revocation feed of a project, in one go and last in
// its transaction: the feed's counter stays locked to the end of it, so that a
// reader who has seen a number has seen all before.
func publish(ctx context.Context, q *db.Queries, projectID string, now time.Time, rows []oauth.Revocation) error {
	if len(rows) == 0 {
		return nil
	}
	last, err := q.RaiseRevocation(ctx, int64(len(rows)), projectID)
	if err != nil {
		return found("raise revocation", err, project.ErrNotFound)
	}
	for i, r := range rows {
		err := q.CreateRevocation(ctx, db.CreateRevocationParams{
			ProjectID: projectID,
			Sequence:  last - int64(len(rows)) + int64(i) + 1,
			Kind:      r.Kind,
			Value:     r.Value,
			Until:     micros(r.Until),
			CreatedAt: micros(now),
		})
		if err != nil {
			return wrap("publish revocation", err)
		}
	}
	return nil
}

// revokeFamilies ends the live families of a grant and returns what the feed
// gets.
func revokeFamilies(ctx context.Context, q *db.Queries, projectID, grantID string, now, until time.Time) ([]oauth.Revocation, error) {
	ids, err := q.RevokeFamiliesOfGrant(ctx, db.RevokeFamiliesOfGrantParams{Now: micros(now), ProjectID: projectID, GrantID: grantID})
	if err != nil {
		return nil, wrap("revoke families", err)
	}
	var rows []oauth.Revocation
	for _, id := range ids {
		rows = append(rows, oauth.Revocation{ProjectID: projectID, Kind: familyRevoked, Value: id, Until: until})
	}
	return rows, nil
}

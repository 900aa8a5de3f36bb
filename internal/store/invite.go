package store

import (
	"context"
	"errors"
	"time"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store/db"
)

// CountInvitation counts a mail that an organization sends to an address.
func (d *DB) CountInvitation(ctx context.Context, projectID, organizationID, emailFolded string, now time.Time) error {
	err := d.write(ctx, func(q *db.Queries) error {
		return countAll(ctx, q, projectID, []oauth.Counter{
			{Kind: "invitation", Key: organizationID, Limit: identity.InvitationsAnHour, Window: time.Hour},
			{Kind: "invited", Key: emailFolded, Limit: identity.InvitedAnHour, Window: time.Hour},
		}, now)
	})
	if errors.Is(err, oauth.ErrLimited) {
		return identity.ErrLimited
	}
	return err
}

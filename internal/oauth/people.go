package oauth

import (
	"context"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

// ConnectedApps lists what a person allowed, as Server.ConnectedApps does.
func (s *Setup) ConnectedApps(ctx context.Context, p *project.Project, who Person) ([]ConnectedApp, error) {
	return s.store.ConnectedApps(ctx, p.ID, who.Subject, who.Organization, s.now().Add(-takenBackShown))
}

// TakeBack is RevokeGrant for a grant that has to be this person's: ErrNotFound
// for another's.
func (s *Setup) TakeBack(ctx context.Context, p *project.Project, who Person, grantID string) error {
	g, err := s.Grant(ctx, p, grantID)
	if err != nil {
		return err
	}
	if g.Subject != who.Subject || g.Organization != who.Organization {
		return ErrNotFound
	}
	_, err = s.RevokeGrant(ctx, p, grantID)
	return err
}

// OrganizationApps lists what the members of an organization allowed, as
// Server.OrganizationApps does.
func (s *Setup) OrganizationApps(ctx context.Context, p *project.Project, organization, after string, limit int) ([]ConnectedApp, error) {
	return s.store.OrganizationApps(ctx, p.ID, organization, after, limit)
}

// TakeBackInOrganization ends the grants of every member of an organization for
// a client, and reports how many there were.
func (s *Setup) TakeBackInOrganization(ctx context.Context, p *project.Project, organization, clientID string) (int, error) {
	e := s.by.Event(p.ID, s.now(), audit.GrantRevoked, organization)
	e.ClientID = clientID
	return s.store.RevokeOrganizationClient(ctx, p.ID, organization, clientID, tokensUntil(p, e.At), e)
}

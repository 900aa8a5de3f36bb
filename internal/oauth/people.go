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

// TakeBack ends a person's grant with every token under it. ErrNotFound when it
// is not theirs.
func (s *Setup) TakeBack(ctx context.Context, p *project.Project, who Person, grantID string) error {
	apps, err := s.ConnectedApps(ctx, p, who)
	if err != nil {
		return err
	}
	for _, app := range apps {
		if app.Grant.ID == grantID {
			e := s.by.Event(p.ID, s.now(), audit.GrantRevoked, grantID)
			e.Subject, e.ClientID = app.Grant.Subject, app.Client.ID
			return s.store.RevokeGrant(ctx, p.ID, who.Subject, grantID, tokensUntil(p, e.At), e)
		}
	}
	return ErrNotFound
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

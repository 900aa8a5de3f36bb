package oauth

import (
	"context"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

// organizationClients bounds the connected apps that are offered for a list.
const organizationClients = 40

// OrganizationApps lists what the members of an organization allowed, by
// connected app, at most limit live grants after the one with the id after
// ("" from the start). ErrNotFound when after is no grant of the organization.
// Of the scopes only those that are allowed come back.
func (s *Server) OrganizationApps(ctx context.Context, p *project.Project, organization, after string, limit int) ([]ConnectedApp, error) {
	return s.store.OrganizationApps(ctx, p.ID, organization, after, limit)
}

// OrganizationClients lists the connected apps that members of an organization
// ever allowed.
func (s *Server) OrganizationClients(ctx context.Context, p *project.Project, organization string) ([]Client, error) {
	return s.store.OrganizationClients(ctx, p.ID, organization, organizationClients)
}

// RevokeInOrganization ends a member's grant with every token under it, for an
// administrator of the organization. ErrNotFound when it is not of a member of
// theirs.
func (s *Server) RevokeInOrganization(ctx context.Context, p *project.Project, by Person, grantID string) error {
	g, err := s.store.OrganizationGrant(ctx, p.ID, by.Organization, grantID)
	if err != nil {
		return err
	}
	e := s.event(ctx, p, audit.GrantRevoked)
	e.Actor, e.Subject, e.ClientID, e.Object = by.Subject, g.Subject, g.ClientID, g.ID
	return s.store.RevokeGrant(ctx, p.ID, g.Subject, g.ID, s.tokensUntil(p), e)
}

// RevokeAllInOrganization ends the grants of every member of an organization for
// a client, and reports how many there were.
func (s *Server) RevokeAllInOrganization(ctx context.Context, p *project.Project, by Person, clientID string) (int, error) {
	e := s.event(ctx, p, audit.GrantRevoked)
	e.Actor, e.ClientID, e.Object = by.Subject, clientID, by.Organization
	return s.store.RevokeOrganizationClient(ctx, p.ID, by.Organization, clientID, s.tokensUntil(p), e)
}

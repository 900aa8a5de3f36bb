package store

import (
	"context"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store/db"
)

// OrganizationApps lists the live grants of an organization's members.
func (d *DB) OrganizationApps(ctx context.Context, projectID, organization, after string, limit int) ([]oauth.ConnectedApp, error) {
	from := oauth.Grant{}
	if after != "" {
		var err error
		if from, err = d.OrganizationGrant(ctx, projectID, organization, after); err != nil {
			return nil, err
		}
	}
	rows, err := d.read.OrganizationGrants(ctx, db.OrganizationGrantsParams{
		ProjectID: projectID, Organization: organization, AfterClient: from.ClientID, After: from.ID, MaxRows: int32(limit),
	})
	if err != nil {
		return nil, wrap("list connected apps", err)
	}
	return each(rows, func(row db.OrganizationGrantsRow) (oauth.ConnectedApp, error) {
		client, err := toClient(row.Client)
		if err != nil {
			return oauth.ConnectedApp{}, err
		}
		scopes, err := d.read.AllowedScopes(ctx, projectID, row.Grant.ID)
		if err != nil {
			return oauth.ConnectedApp{}, wrap("list connected apps", err)
		}
		app := oauth.ConnectedApp{
			Grant: toGrant(row.Grant), Client: client, LastUsedAt: fromMicros(max(row.Grant.LastUsedAt, row.RefreshedAt)),
		}
		for _, s := range scopes {
			app.Scopes = append(app.Scopes, oauth.GrantScope{Resource: s.Resource, Scope: s.Scope, Allowed: true})
		}
		return app, nil
	})
}

// OrganizationGrant returns a grant of an organization's member.
func (d *DB) OrganizationGrant(ctx context.Context, projectID, organization, id string) (oauth.Grant, error) {
	row, err := d.read.OrganizationGrant(ctx, db.OrganizationGrantParams{ProjectID: projectID, ID: id, Organization: organization})
	if err != nil {
		return oauth.Grant{}, found("read grant", err, oauth.ErrNotFound)
	}
	return toGrant(row), nil
}

// OrganizationClients lists the connected apps that members ever allowed.
func (d *DB) OrganizationClients(ctx context.Context, projectID, organization string, limit int) ([]oauth.Client, error) {
	rows, err := d.read.OrganizationClients(ctx, db.OrganizationClientsParams{ProjectID: projectID, Organization: organization, MaxRows: int32(limit)})
	if err != nil {
		return nil, wrap("list connected apps", err)
	}
	return each(rows, func(row db.OrganizationClientsRow) (oauth.Client, error) { return toClient(row.Client) })
}

// RevokeOrganizationClient ends every grant of an organization's members for a
// client.
func (d *DB) RevokeOrganizationClient(ctx context.Context, projectID, organization, clientID string, until time.Time, e audit.Event) (int, error) {
	var n int
	err := d.write(much(ctx), func(q *db.Queries) error {
		ids, err := q.RevokeGrantsOfOrganization(ctx, db.RevokeGrantsOfOrganizationParams{
			Now: micros(e.At), ProjectID: projectID, Organization: organization, ClientID: clientID,
		})
		if n = len(ids); err != nil || n == 0 {
			return wrap("revoke grants", err)
		}
		if err := endGrants(ctx, q, projectID, ids, e.At, until); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
	return n, err
}

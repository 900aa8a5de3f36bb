package store

import (
	"context"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store/db"
)

// Access counts what lives for some resources, or in the whole project.
func (d *DB) Access(ctx context.Context, projectID string, resources []string, now time.Time, limit int) (project.Impact, error) {
	all, err := d.read.AccessOf(ctx, db.AccessOfParams{ProjectID: projectID, Now: micros(now), Resources: among(resources)})
	if err != nil {
		return project.Impact{}, wrap("count access", err)
	}
	rows, err := d.read.AccessByClient(ctx, db.AccessByClientParams{
		ProjectID: projectID, Now: micros(now), Resources: among(resources), MaxRows: int32(limit),
	})
	if err != nil {
		return project.Impact{}, wrap("count access", err)
	}
	apps, err := each(rows, func(row db.AccessByClientRow) (project.ImpactedApp, error) {
		c, err := toClient(row.Client)
		return project.ImpactedApp{ClientID: c.PublicID(), Name: c.Name(), People: int(row.People)}, err
	})
	return project.Impact{Authorizations: int(all.Families), People: int(all.People), Clients: int(all.Clients), Apps: apps}, err
}

// among writes resources as the statements of project.sql read them. No URI has
// a space in it.
func among(resources []string) string {
	if len(resources) == 0 {
		return ""
	}
	return " " + strings.Join(resources, "  ") + " "
}

// Connections lists the organizations that have a sign-in service.
func (d *DB) Connections(ctx context.Context, projectID string) ([]project.Connection, error) {
	rows, err := d.read.ConnectedOrganizations(ctx, projectID)
	if err != nil {
		return nil, wrap("list connections", err)
	}
	return each(rows, func(row db.ConnectedOrganizationsRow) (project.Connection, error) {
		return project.Connection{OrganizationID: row.ID, Organization: row.Name}, nil
	})
}

// MoveResource gives a resource server other addresses. Rows are locked in the
// order that grant.go names, so the project comes after the families; what it
// says is checked there all the same, and undoes the rest.
func (d *DB) MoveResource(ctx context.Context, projectID string, seen int64, old, r project.Resource, ended []string, e audit.Event) (int, error) {
	var n int64
	err := d.write(much(ctx), func(q *db.Queries) error {
		if err := q.DeleteScopesOfResource(ctx, projectID, r.URI); err != nil {
			return wrap("move decisions", err)
		}
		err := q.MoveScopesOfResource(ctx, db.MoveScopesOfResourceParams{Resource: r.URI, ProjectID: projectID, Old: old.URI})
		if err != nil {
			return wrap("move decisions", err)
		}
		if n, err = q.EndAccess(ctx, db.EndAccessParams{Now: micros(e.At), ProjectID: projectID, Resources: among(ended)}); err != nil {
			return wrap("end access", err)
		}
		if err := raiseChangeFrom(ctx, q, projectID, &seen); err != nil {
			return err
		}
		moved, err := q.MoveResourceServer(ctx, db.MoveResourceServerParams{
			URI: r.URI, URIKey: project.ResourceKey(r.URI), Aliases: toJSON(list(r.Aliases)), Name: r.Name,
			ProjectID: projectID, ID: r.ID, OldKey: project.ResourceKey(old.URI),
		})
		switch {
		case uniqueTaken(err):
			return project.ErrTaken
		case err != nil:
			return wrap("move resource server", err)
		case moved == 0:
			return project.ErrNotFound
		}
		if err := checkTaken(ctx, q, projectID, r); err != nil { // r is among them, and no other than itself
			return err
		}
		if err := record(ctx, q, e); err != nil {
			return err
		}
		return publish(ctx, q, projectID, e.At, []oauth.Revocation{
			{Kind: resourceRevoked, Value: old.URI, Until: e.At.Add(longestAccessToken)},
		})
	})
	return int(n), err
}

// SetIssuer replaces the issuer of a project.
func (d *DB) SetIssuer(ctx context.Context, projectID, old, issuer string, e audit.Event) (int, error) {
	var n int64
	err := d.write(much(ctx), func(q *db.Queries) error {
		var err error
		if n, err = q.EndAccess(ctx, db.EndAccessParams{Now: micros(e.At), ProjectID: projectID}); err != nil {
			return wrap("end access", err)
		}
		if err := raiseChange(ctx, q, projectID); err != nil {
			return err
		}
		set, err := q.SetIssuer(ctx, db.SetIssuerParams{Issuer: issuer, ProjectID: projectID, Old: old})
		if err != nil {
			return wrap("set issuer", err)
		}
		host := project.IssuerHost(issuer)
		if err := q.DeleteProjectHosts(ctx, projectID, host); err != nil {
			return wrap("set issuer", err)
		}
		free, err := q.CreateProjectHost(ctx, db.CreateProjectHostParams{Host: host, ProjectID: projectID, IsIssuer: true})
		switch {
		case err != nil:
			return wrap("set issuer", err)
		case set == 0, free == 0:
			return project.ErrConflict
		}
		if err := record(ctx, q, e); err != nil {
			return err
		}
		return publish(ctx, q, projectID, e.At, []oauth.Revocation{
			{Kind: issuerRevoked, Value: old, Until: e.At.Add(longestAccessToken)},
		})
	})
	return int(n), err
}

package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store/db"
)

// Logo returns the PNG with a digest that is the logo of a project, of one of its
// clients or of one of its organizations.
func (d *DB) Logo(ctx context.Context, projectID, digest string) ([]byte, error) {
	png, err := d.read.ClientLogo(ctx, projectID, digest)
	if errors.Is(err, sql.ErrNoRows) {
		png, err = d.read.ProjectLogo(ctx, projectID, digest)
	}
	if errors.Is(err, sql.ErrNoRows) {
		png, err = d.read.OrganizationLogo(ctx, projectID, digest)
	}
	return png, found("read logo", err, oauth.ErrNotFound)
}

// SaveLogo keeps a project's logo, a PNG; nil takes it away.
func (d *DB) SaveLogo(ctx context.Context, projectID string, png []byte, e audit.Event) error {
	return d.changeProject(ctx, projectID, func(q *db.Queries) error {
		var err error
		if png == nil {
			err = q.DeleteProjectLogo(ctx, projectID)
		} else {
			err = q.SaveProjectLogo(ctx, db.SaveProjectLogoParams{ProjectID: projectID, Digest: digest(png), PNG: png})
		}
		if err != nil {
			return wrap("save logo", err)
		}
		return record(ctx, q, e)
	})
}

// SaveOrganizationLogo keeps an organization's logo, a PNG; nil takes it away.
func (d *DB) SaveOrganizationLogo(ctx context.Context, projectID, id string, png []byte, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.SetOrganizationLogo(ctx, db.SetOrganizationLogoParams{Logo: digest(png), UpdatedAt: micros(e.At), ProjectID: projectID, ID: id})
		switch {
		case err != nil:
			return wrap("save logo", err)
		case n == 0:
			return identity.ErrNotFound
		case png == nil:
			err = q.DeleteOrganizationLogo(ctx, projectID, id)
		default:
			err = q.SaveOrganizationLogo(ctx, db.SaveOrganizationLogoParams{ProjectID: projectID, OrganizationID: id, Digest: digest(png), PNG: png})
		}
		if err != nil {
			return wrap("save logo", err)
		}
		return record(ctx, q, e)
	})
}

func (d *DB) addLogos(ctx context.Context, byID map[string]*project.Project) error {
	rows, err := d.read.ProjectLogos(ctx)
	for _, r := range rows {
		if p := byID[r.ProjectID]; p != nil {
			p.Logo = r.Digest
		}
	}
	return wrap("read logos", err)
}

func saveClientLogo(ctx context.Context, q *db.Queries, c db.Client, png []byte) error {
	if png == nil {
		return wrap("save logo", q.DeleteClientLogo(ctx, c.ProjectID, c.ID))
	}
	return wrap("save logo", q.SaveClientLogo(ctx, db.SaveClientLogoParams{
		ProjectID: c.ProjectID, ClientID: c.ID, Digest: c.Logo, PNG: png,
	}))
}

// digest names a logo by its bytes, "" without one.
func digest(png []byte) string {
	if png == nil {
		return ""
	}
	sum := sha256.Sum256(png)
	return hex.EncodeToString(sum[:])
}

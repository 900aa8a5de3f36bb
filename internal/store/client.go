package store

import (
	"bytes"
	"context"
	"errors"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store/db"
)

// Client returns a client by its id.
func (d *DB) Client(ctx context.Context, projectID, id string) (oauth.Client, error) {
	row, err := d.read.Client(ctx, projectID, id)
	if err != nil {
		return oauth.Client{}, found("read client", err, oauth.ErrNotFound)
	}
	return toClient(row)
}

// ClientByURL returns the client of a metadata document.
func (d *DB) ClientByURL(ctx context.Context, projectID, url string) (oauth.Client, error) {
	row, err := d.read.ClientByURL(ctx, projectID, url)
	if err != nil {
		return oauth.Client{}, found("read client", err, oauth.ErrNotFound)
	}
	return toClient(row)
}

// Clients lists clients ascending by id, after the id after, at most limit.
func (d *DB) Clients(ctx context.Context, projectID, after string, limit int) ([]oauth.Client, error) {
	rows, err := d.read.Clients(ctx, db.ClientsParams{ProjectID: projectID, After: after, MaxRows: int32(limit)})
	if err != nil {
		return nil, wrap("list clients", err)
	}
	clients := make([]oauth.Client, len(rows))
	for i, row := range rows {
		if clients[i], err = toClient(row); err != nil {
			return nil, err
		}
	}
	return clients, nil
}

// CreateClient keeps a client of its own row.
func (d *DB) CreateClient(ctx context.Context, c oauth.Client, limits []oauth.Counter, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := countAll(ctx, q, c.ProjectID, limits, e.At); err != nil {
			return err
		}
		err := q.CreateClient(ctx, db.CreateClientParams{
			ProjectID: c.ProjectID, ID: c.ID, URL: c.URL, Type: string(c.Type), Creation: string(c.Creation),
			Metadata: toJSON(c.Metadata), MetadataHash: notNull(c.MetadataHash),
			SecretID: c.SecretID, SecretHash: c.SecretHash, SecretLast4: c.SecretLast4,
			BypassConsent: c.BypassConsent, Blocked: c.Blocked,
			CreatedAt: micros(c.CreatedAt), LastRegisteredAt: micros(c.LastRegisteredAt),
			FetchedAt: micros(c.FetchedAt), FreshUntil: micros(c.FreshUntil),
		})
		if uniqueTaken(err) {
			return oauth.ErrConflict
		}
		if err != nil {
			return wrap("create client", err)
		}
		return record(ctx, q, e)
	})
}

// MergeClient keeps a self-registered public client, or moves the registration
// time of the one with the same metadata and returns that. The event tells of a
// new client only.
func (d *DB) MergeClient(ctx context.Context, c oauth.Client, limits []oauth.Counter, e audit.Event) (oauth.Client, error) {
	var row db.Client
	err := d.write(ctx, func(q *db.Queries) (err error) {
		if err := countAll(ctx, q, c.ProjectID, limits, e.At); err != nil {
			return err
		}
		row, err = q.MergeClient(ctx, db.MergeClientParams{
			ProjectID: c.ProjectID, ID: c.ID, Type: string(c.Type), Creation: string(c.Creation),
			Metadata: toJSON(c.Metadata), MetadataHash: notNull(c.MetadataHash),
			CreatedAt: micros(c.CreatedAt), LastRegisteredAt: micros(c.LastRegisteredAt),
		})
		if err != nil {
			return wrap("merge client", err)
		}
		if row.ID != c.ID {
			return nil
		}
		return record(ctx, q, e)
	})
	if err != nil {
		return oauth.Client{}, err
	}
	return toClient(row)
}

// SaveDocumentClient keeps what a metadata document said, under its URL, and its
// logo, nil for none. Of an existing row the id stays, the day it was made, and
// what an operator decided about it (Blocked, BypassConsent). The event tells of
// a new client, of other metadata, and of a copy that took the document's place
// or gave it back; not of another fetch.
func (d *DB) SaveDocumentClient(ctx context.Context, c oauth.Client, logo []byte, e audit.Event) (oauth.Client, error) {
	var row db.Client
	err := d.write(ctx, func(q *db.Queries) error {
		before, err := q.ClientByURL(ctx, c.ProjectID, c.URL)
		if err := found("read client", err, nil); err != nil {
			return err
		}
		row, err = q.SaveDocumentClient(ctx, db.SaveDocumentClientParams{
			ProjectID: c.ProjectID, ID: c.ID, URL: c.URL, Type: string(c.Type), Creation: string(c.Creation),
			Metadata: toJSON(c.Metadata), MetadataHash: notNull(c.MetadataHash),
			BypassConsent: c.BypassConsent, Blocked: c.Blocked,
			CreatedAt: micros(c.CreatedAt), LastRegisteredAt: micros(c.LastRegisteredAt),
			FetchedAt: micros(c.FetchedAt), FreshUntil: micros(c.FreshUntil),
			CopiedAt: micros(c.CopiedAt), Logo: digest(logo),
		})
		if err != nil {
			return wrap("save client", err)
		}
		if err := saveClientLogo(ctx, q, row, logo); err != nil {
			return err
		}
		if bytes.Equal(before.MetadataHash, row.MetadataHash) && before.CopiedAt == row.CopiedAt {
			return nil
		}
		e.Object = row.ID
		if _, err := q.RaiseChange(ctx, c.ProjectID); err != nil {
			return wrap("raise change", err)
		}
		return record(ctx, q, e)
	})
	if err != nil {
		return oauth.Client{}, err
	}
	return toClient(row)
}

// SetClientSecret replaces a client's secret. The last characters of the old
// one are forgotten.
func (d *DB) SetClientSecret(ctx context.Context, projectID, id, secretID string, hash []byte, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.SetClientSecret(ctx, db.SetClientSecretParams{SecretID: secretID, SecretHash: hash, ProjectID: projectID, ID: id})
		if err != nil {
			return wrap("set client secret", err)
		}
		if n == 0 {
			return oauth.ErrNotFound
		}
		if _, err := q.RaiseChange(ctx, projectID); err != nil {
			return wrap("raise change", err)
		}
		return record(ctx, q, e)
	})
}

// DeleteClient removes a client and everything that people gave it.
func (d *DB) DeleteClient(ctx context.Context, projectID, id string, e audit.Event) error {
	until := e.At.Add(longestAccessToken)
	return d.write(ctx, func(q *db.Queries) error {
		grants, err := q.GrantsOfClient(ctx, projectID, id)
		if err != nil {
			return wrap("list grants", err)
		}
		var feed []oauth.Revocation
		for _, g := range grants {
			families, err := revokeFamilies(ctx, q, projectID, g, e.At, until)
			if err != nil {
				return err
			}
			feed = append(append(feed, families...), oauth.Revocation{Kind: grantRevoked, Value: g, Until: until})
			if err := q.DeleteCodesOfGrant(ctx, projectID, g); err != nil {
				return wrap("delete codes", err)
			}
		}
		if err := q.DeleteGrantsOfClient(ctx, projectID, id); err != nil {
			return wrap("delete grants", err)
		}
		n, err := q.DeleteClient(ctx, projectID, id)
		switch {
		case rowMissing(err): // somebody allowed the client just now
			return errors.Join(errRace, err)
		case err != nil:
			return wrap("delete client", err)
		case n == 0:
			return oauth.ErrNotFound
		}
		if _, err := q.RaiseChange(ctx, projectID); err != nil {
			return wrap("raise change", err)
		}
		if err := publish(ctx, q, projectID, e.At, feed); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// ExpireClients deletes self-registered clients that nobody ever allowed and
// that have not registered since before, at most limit in all projects.
func (d *DB) ExpireClients(ctx context.Context, before time.Time, limit int, now time.Time) (int, error) {
	projects, err := d.read.ProjectIDs(ctx)
	if err != nil {
		return 0, wrap("list projects", err)
	}
	total := 0
	for _, projectID := range projects {
		if total >= limit {
			break
		}
		var ids []string
		err := d.write(ctx, func(q *db.Queries) (err error) {
			ids, err = q.ExpireClients(ctx, db.ExpireClientsParams{ProjectID: projectID, Before: micros(before), MaxRows: int32(limit - total)})
			if err != nil || len(ids) == 0 {
				return err
			}
			for _, id := range ids {
				e := audit.Event{ProjectID: projectID, At: now, Kind: audit.ClientExpired, ClientID: id, Object: id}
				if err := record(ctx, q, e); err != nil {
					return err
				}
			}
			_, err = q.RaiseChange(ctx, projectID)
			return err
		})
		if rowMissing(err) {
			continue // one was allowed just now; the next round sees it
		}
		if err != nil {
			return total, wrap("expire clients", err)
		}
		total += len(ids)
	}
	return total, nil
}

func toClient(c db.Client) (oauth.Client, error) {
	metadata, err := fromJSON[oauth.Metadata](c.Metadata)
	return oauth.Client{
		ID: c.ID, ProjectID: c.ProjectID, URL: c.URL, Type: oauth.ClientType(c.Type), Creation: oauth.Creation(c.Creation),
		Metadata: metadata, MetadataHash: c.MetadataHash,
		SecretID: c.SecretID, SecretHash: c.SecretHash, SecretLast4: c.SecretLast4,
		BypassConsent: c.BypassConsent, Blocked: c.Blocked,
		CreatedAt: fromMicros(c.CreatedAt), LastRegisteredAt: fromMicros(c.LastRegisteredAt),
		FetchedAt: fromMicros(c.FetchedAt), FreshUntil: fromMicros(c.FreshUntil),
		CopiedAt: fromMicros(c.CopiedAt), Logo: c.Logo,
	}, err
}

// notNull makes no bytes the empty value that a column without NULL wants.
func notNull(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

package store

import (
	"bytes"
	"context"
	"crypto/sha256"
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
	return each(rows, toClient)
}

// FindClients lists clients by name, or returns oauth.ErrNotFound when the one to
// go on after is gone.
func (d *DB) FindClients(ctx context.Context, projectID string, q oauth.ClientQuery) ([]oauth.Client, error) {
	from := oauth.FoldName(q.Text)
	params := db.ClientsByNameParams{ProjectID: projectID, AfterName: from, BelowText: from + "\U0010FFFF", MaxRows: int32(q.Limit)}
	if q.After != "" {
		last, err := d.read.Client(ctx, projectID, q.After)
		if err != nil {
			return nil, found("read client", err, oauth.ErrNotFound)
		}
		if last.NameFolded >= from {
			params.AfterName, params.After = last.NameFolded, last.ID
		}
	}
	var rows []db.Client
	var err error
	switch {
	case q.Blocked:
		rows, err = d.read.BlockedClients(ctx, db.BlockedClientsParams(params))
	case q.Creation != "":
		rows, err = d.read.ClientsOfCreation(ctx, db.ClientsOfCreationParams{
			ProjectID: projectID, Creation: storable(string(q.Creation)), AfterName: params.AfterName, After: params.After,
			BelowText: params.BelowText, MaxRows: params.MaxRows,
		})
	case q.Type != "":
		rows, err = d.read.ClientsOfType(ctx, db.ClientsOfTypeParams{
			ProjectID: projectID, Type: storable(string(q.Type)), AfterName: params.AfterName, After: params.After,
			BelowText: params.BelowText, MaxRows: params.MaxRows,
		})
	default:
		rows, err = d.read.ClientsByName(ctx, params)
	}
	if err != nil {
		return nil, wrap("find clients", err)
	}
	return each(rows, toClient)
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
			RatID: c.TokenID, RatHash: c.TokenHash,
			BypassConsent: c.BypassConsent, Blocked: c.Blocked,
			CreatedAt: micros(c.CreatedAt), LastRegisteredAt: micros(c.LastRegisteredAt),
			FetchedAt: micros(c.FetchedAt), FreshUntil: micros(c.FreshUntil), NameFolded: oauth.FoldName(c.Name()),
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
// time of the one with the same metadata and returns its id and the day it was
// made. The event tells of a new client only.
func (d *DB) MergeClient(ctx context.Context, c oauth.Client, limits []oauth.Counter, e audit.Event) (id string, created time.Time, err error) {
	var row db.MergeClientRow
	err = d.write(ctx, func(q *db.Queries) (err error) {
		if err := countAll(ctx, q, c.ProjectID, limits, e.At); err != nil {
			return err
		}
		row, err = q.MergeClient(ctx, db.MergeClientParams{
			ProjectID: c.ProjectID, ID: c.ID, Type: string(c.Type), Creation: string(c.Creation),
			Metadata: toJSON(c.Metadata), MetadataHash: notNull(c.MetadataHash),
			CreatedAt: micros(c.CreatedAt), LastRegisteredAt: micros(c.LastRegisteredAt), NameFolded: oauth.FoldName(c.Name()),
		})
		if err != nil {
			return wrap("merge client", err)
		}
		if row.ID != c.ID {
			return nil
		}
		return record(ctx, q, e)
	})
	return row.ID, fromMicros(row.CreatedAt), err
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
			CopiedAt: micros(c.CopiedAt), Logo: digest(logo), NameFolded: oauth.FoldName(c.Name()),
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

// ChangeClient replaces metadata and BypassConsent of a client that is still as
// before.
func (d *DB) ChangeClient(ctx context.Context, c, before oauth.Client, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.ChangeClient(ctx, db.ChangeClientParams{
			Metadata: toJSON(c.Metadata), MetadataHash: notNull(c.MetadataHash), NameFolded: oauth.FoldName(c.Name()), BypassConsent: c.BypassConsent,
			ProjectID: c.ProjectID, ID: c.ID, MetadataHashBefore: notNull(before.MetadataHash), BypassConsentBefore: before.BypassConsent,
		})
		if err != nil {
			return wrap("change client", err)
		}
		if n == 0 {
			return oauth.ErrConflict
		}
		if _, err := q.RaiseChange(ctx, c.ProjectID); err != nil {
			return wrap("raise change", err)
		}
		return record(ctx, q, e)
	})
}

// ReplaceOwnClient replaces what a client registered by what it says now, with a
// new registration access token, if that and its secret are still those of before
// and nobody blocked it.
func (d *DB) ReplaceOwnClient(ctx context.Context, c, before oauth.Client, limits []oauth.Counter, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.ReplaceOwnClient(ctx, db.ReplaceOwnClientParams{
			Metadata: toJSON(c.Metadata), MetadataHash: notNull(c.MetadataHash), NameFolded: oauth.FoldName(c.Name()),
			SecretID: c.SecretID, SecretHash: c.SecretHash, SecretLast4: c.SecretLast4,
			RatID: c.TokenID, RatHash: c.TokenHash, LastRegisteredAt: micros(c.LastRegisteredAt),
			ProjectID: c.ProjectID, ID: c.ID, RatIDBefore: before.TokenID, RatHashBefore: before.TokenHash, SecretIDBefore: before.SecretID,
		})
		if err != nil {
			return wrap("replace client", err)
		}
		if n == 0 {
			return oauth.ErrConflict
		}
		if err := countAll(ctx, q, c.ProjectID, limits, e.At); err != nil {
			return err
		}
		if _, err := q.RaiseChange(ctx, c.ProjectID); err != nil {
			return wrap("raise change", err)
		}
		return record(ctx, q, e)
	})
}

// BlockClient blocks a client and ends what people gave it. One that is blocked
// already may have got a grant at the very moment of it: that ends too. Its row
// comes first, as where it changes or deletes itself: so they wait for each other.
func (d *DB) BlockClient(ctx context.Context, projectID, id string, e audit.Event) (int, error) {
	var grants []string
	err := d.write(much(ctx), func(q *db.Queries) error {
		n, err := setBlocked(ctx, q, projectID, id, true)
		if err != nil {
			return err
		}
		grants, err = revokeGrantsOfClient(ctx, q, projectID, id, e.At)
		if err != nil || n == 0 && len(grants) == 0 {
			return err
		}
		return endClientGrants(ctx, q, projectID, grants, e)
	})
	return len(grants), err
}

// UnblockClient takes that back, but for what has ended.
func (d *DB) UnblockClient(ctx context.Context, projectID, id string, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := setBlocked(ctx, q, projectID, id, false)
		if err != nil || n == 0 {
			return err
		}
		return endClientGrants(ctx, q, projectID, nil, e)
	})
}

// setBlocked reports whether it changed a client that is there.
func setBlocked(ctx context.Context, q *db.Queries, projectID, id string, blocked bool) (int64, error) {
	n, err := q.SetClientBlocked(ctx, db.SetClientBlockedParams{Blocked: blocked, ProjectID: projectID, ID: id})
	if err != nil || n > 0 {
		return n, wrap("block client", err)
	}
	_, err = q.ClientBlocked(ctx, projectID, id)
	return 0, found("read client", err, oauth.ErrNotFound)
}

// RevokeClientGrants ends every grant of a client with its families.
func (d *DB) RevokeClientGrants(ctx context.Context, projectID, clientID string, e audit.Event) (int, error) {
	var grants []string
	err := d.write(much(ctx), func(q *db.Queries) (err error) {
		grants, err = revokeGrantsOfClient(ctx, q, projectID, clientID, e.At)
		if err != nil || len(grants) == 0 {
			return err
		}
		return endClientGrants(ctx, q, projectID, grants, e)
	})
	return len(grants), err
}

func revokeGrantsOfClient(ctx context.Context, q *db.Queries, projectID, clientID string, now time.Time) ([]string, error) {
	ids, err := q.RevokeGrantsOfClient(ctx, db.RevokeGrantsOfClientParams{Now: micros(now), ProjectID: projectID, ClientID: clientID})
	return ids, wrap("revoke grants", err)
}

// endClientGrants ends what hangs on revoked grants, tells the servers of the
// client's change, and records it.
func endClientGrants(ctx context.Context, q *db.Queries, projectID string, grants []string, e audit.Event) error {
	if _, err := q.RaiseChange(ctx, projectID); err != nil {
		return wrap("raise change", err)
	}
	if err := endGrants(ctx, q, projectID, grants, e.At, e.At.Add(longestAccessToken)); err != nil {
		return err
	}
	return record(ctx, q, e)
}

// ClientGrants lists the live grants of a client with what each allows.
func (d *DB) ClientGrants(ctx context.Context, projectID, clientID, before string, limit int) ([]oauth.ClientGrant, error) {
	if before == "" {
		before = "~" // above every id
	}
	rows, err := d.read.LiveGrantsOfClient(ctx, db.LiveGrantsOfClientParams{ProjectID: projectID, ClientID: clientID, Before: before, MaxRows: int32(limit)})
	if err != nil {
		return nil, wrap("list grants", err)
	}
	if len(rows) == 0 {
		return nil, nil
	}
	scopes, err := d.read.AllowedScopesOfClient(ctx, db.AllowedScopesOfClientParams{
		ProjectID: projectID, ClientID: clientID, First: rows[len(rows)-1].Grant.ID, Last: rows[0].Grant.ID,
	})
	if err != nil {
		return nil, wrap("list grants", err)
	}
	byGrant := map[string][]oauth.GrantScope{}
	for _, s := range scopes {
		byGrant[s.GrantID] = append(byGrant[s.GrantID], oauth.GrantScope{Resource: s.Resource, Scope: s.Scope, Allowed: true})
	}
	grants := make([]oauth.ClientGrant, len(rows))
	for i, row := range rows {
		grants[i] = oauth.ClientGrant{
			Grant: toGrant(row.Grant), Scopes: byGrant[row.Grant.ID], LastUsedAt: fromMicros(max(row.Grant.LastUsedAt, row.RefreshedAt)),
		}
	}
	return grants, nil
}

// CountClientGrants counts the live grants of a client as far as limit.
func (d *DB) CountClientGrants(ctx context.Context, projectID, clientID string, limit int) (int, error) {
	ids, err := d.read.SomeLiveGrantsOfClient(ctx, db.SomeLiveGrantsOfClientParams{ProjectID: projectID, ClientID: clientID, MaxRows: int32(limit)})
	return len(ids), wrap("count grants", err)
}

// GrantByID returns a grant, live or not.
func (d *DB) GrantByID(ctx context.Context, projectID, id string) (oauth.Grant, error) {
	row, err := d.read.GrantByID(ctx, projectID, id)
	if err != nil {
		return oauth.Grant{}, found("read grant", err, oauth.ErrNotFound)
	}
	return toGrant(row), nil
}

// DeleteClient removes a client and everything that people gave it.
func (d *DB) DeleteClient(ctx context.Context, projectID, id string, e audit.Event) error {
	return d.write(much(ctx), func(q *db.Queries) error { return deleteClient(ctx, q, projectID, id, e) })
}

// DeleteOwnClient is DeleteClient by the client itself, if its registration access
// token is still that of before and nobody blocked it.
func (d *DB) DeleteOwnClient(ctx context.Context, before oauth.Client, e audit.Event) error {
	return d.write(much(ctx), func(q *db.Queries) error {
		n, err := q.TakeOwnToken(ctx, db.TakeOwnTokenParams{
			ProjectID: before.ProjectID, ID: before.ID, RatID: before.TokenID, RatHash: before.TokenHash,
		})
		if err != nil {
			return wrap("take token", err)
		}
		if n == 0 {
			return oauth.ErrConflict
		}
		return deleteClient(ctx, q, before.ProjectID, before.ID, e)
	})
}

func deleteClient(ctx context.Context, q *db.Queries, projectID, id string, e audit.Event) error {
	until := e.At.Add(longestAccessToken)
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
}

// UseAssertion keeps that a client proved itself with an assertion, or returns
// oauth.ErrUsed: of any number of calls with one jti, one gets through.
func (d *DB) UseAssertion(ctx context.Context, projectID, clientID, jti string, until time.Time) error {
	hash := sha256.Sum256([]byte(jti))
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.UseAssertion(ctx, db.UseAssertionParams{ProjectID: projectID, ClientID: clientID, JtiHash: hash[:], Until: micros(until)})
		if err == nil && n == 0 {
			return oauth.ErrUsed
		}
		return wrap("use assertion", err)
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
		err := d.write(much(ctx), func(q *db.Queries) (err error) {
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
		TokenID: c.RatID, TokenHash: c.RatHash,
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

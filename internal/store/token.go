package store

import (
	"bytes"
	"context"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store/db"
)

// Code returns a code by its id, used or not.
func (d *DB) Code(ctx context.Context, projectID, id string) (oauth.Code, error) {
	c, err := d.read.Code(ctx, projectID, id)
	if err != nil {
		return oauth.Code{}, found("read code", err, oauth.ErrNotFound)
	}
	scopes, err := fromJSON[[]string](c.Scopes)
	return oauth.Code{
		ID: c.ID, ProjectID: c.ProjectID, Hash: c.Hash, ClientID: c.ClientID, GrantID: c.GrantID,
		Subject: c.Subject, Organization: c.Organization, SessionID: c.SessionID,
		RedirectURI: c.RedirectURI, Challenge: c.Challenge,
		Resource: c.Resource, Scopes: scopes, Nonce: c.Nonce, AuthTime: fromMicros(c.AuthTime),
		CreatedAt: fromMicros(c.CreatedAt), ExpiresAt: fromMicros(c.ExpiresAt), Tries: int(c.Tries),
		RedeemedAt: fromMicros(c.RedeemedAt), FamilyID: c.FamilyID, Attempt: c.Attempt, PersonActive: c.PersonActive == 1,
	}, err
}

// CountCodeTry counts a wrong verifier against a code.
func (d *DB) CountCodeTry(ctx context.Context, projectID, id string) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.CountCodeTry(ctx, projectID, id)
		if err == nil && n == 0 {
			return oauth.ErrNotFound
		}
		return wrap("count try", err)
	})
}

// RedeemCode uses a code up for a family (RFC 6749 §4.1.2, RFC 9700 §4.5). A
// second use of the same client and grant revokes the family of the first; the
// event of that is recorded once. The grant stays locked from the first
// statement on, so of any number of calls each sees the families of those before.
func (d *DB) RedeemCode(ctx context.Context, projectID string, r oauth.Redeem, done, reuse audit.Event) error {
	f, now := r.Family, micros(r.Now)
	return d.write(ctx, func(q *db.Queries) error {
		if err := q.UseGrantOfCode(ctx, db.UseGrantOfCodeParams{Now: now, ProjectID: projectID, CodeID: r.CodeID}); err != nil {
			return wrap("use grant", err)
		}
		n, err := q.RedeemCode(ctx, db.RedeemCodeParams{
			Now: now, FamilyID: f.ID, ProjectID: projectID, ID: r.CodeID, ClientID: f.ClientID, GrantID: f.GrantID,
		})
		if err != nil {
			return wrap("redeem code", err)
		}
		if n == 0 {
			return refuseCode(ctx, q, projectID, r, reuse)
		}
		tooMany, err := q.OldestFamilies(ctx, db.OldestFamiliesParams{ProjectID: projectID, GrantID: f.GrantID, Now: now, Keep: oauth.MaxFamilies - 1})
		if err != nil {
			return wrap("count families", err)
		}
		if err := createFamily(ctx, q, projectID, f); err != nil {
			return err
		}
		if err := recoverAttempt(ctx, q, projectID, f.Attempt); err != nil {
			return err
		}
		for _, oldest := range tooMany {
			ended := done
			ended.Kind, ended.Object = audit.TokenDisplaced, oldest
			if _, err := endFamily(ctx, q, projectID, oldest, r.Now, r.Now.Add(longestAccessToken), ended); err != nil {
				return err
			}
		}
		return record(ctx, q, done)
	})
}

// refuseCode tells why a code could not be redeemed, and ends what it was
// redeemed for before.
func refuseCode(ctx context.Context, q *db.Queries, projectID string, r oauth.Redeem, reuse audit.Event) error {
	c, err := q.Code(ctx, projectID, r.CodeID)
	if err := found("read code", err, oauth.ErrDead); err != nil {
		return err
	}
	if c.RedeemedAt == 0 || c.ClientID != r.Family.ClientID || c.GrantID != r.Family.GrantID {
		return oauth.ErrDead
	}
	ended, err := endFamily(ctx, q, projectID, c.FamilyID, r.Now, r.Now.Add(longestAccessToken), reuse)
	if err != nil {
		return err
	}
	if ended {
		if err := failAttempt(ctx, q, projectID, c.Attempt, ""); err != nil {
			return err
		}
	}
	return keep(oauth.ErrUsed)
}

func createFamily(ctx context.Context, q *db.Queries, projectID string, f oauth.Family) error {
	row := db.CreateFamilyParams{
		ProjectID: projectID, ID: f.ID, GrantID: f.GrantID, ClientID: f.ClientID,
		Subject: f.Subject, Organization: f.Organization, SessionID: f.SessionID,
		Resource: f.Resource, Scopes: toJSON(f.Scopes), Nonce: f.Nonce, AuthTime: micros(f.AuthTime),
		CreatedAt: micros(f.CreatedAt), ExpiresAt: micros(f.ExpiresAt), Attempt: f.Attempt,
		SeriesHash: []byte{}, RefreshHash: []byte{}, PreviousHash: []byte{},
	}
	if t := f.Refresh; t != nil {
		row.SeriesHash, row.AuthMethod = notNull(t.Series), t.AuthMethod
		row.RefreshHash, row.IdleExpiresAt = notNull(t.Hash), micros(t.ExpiresAt)
	}
	return wrap("create family", q.CreateFamily(ctx, row))
}

// Family returns a family with its live refresh token, whatever its state: not
// its nonce, when it began and in which attempt. Of its client it returns what
// tells who it is and what it may.
func (d *DB) Family(ctx context.Context, projectID, id string) (oauth.Family, oauth.Client, error) {
	row, err := d.read.Family(ctx, projectID, id)
	if err != nil {
		return oauth.Family{}, oauth.Client{}, found("read family", err, oauth.ErrNotFound)
	}
	scopes, err := fromJSON[[]string](row.Scopes)
	if err != nil {
		return oauth.Family{}, oauth.Client{}, err
	}
	f := oauth.Family{
		ID: id, ProjectID: projectID, GrantID: row.GrantID, ClientID: row.ClientID,
		Subject: row.Subject, Organization: row.Organization, SessionID: row.SessionID,
		Resource: row.Resource, Scopes: scopes, AuthTime: fromMicros(row.AuthTime),
		ExpiresAt: fromMicros(row.ExpiresAt), PersonActive: row.PersonActive == 1,
	}
	if len(row.RefreshHash) > 0 {
		f.Refresh = &oauth.RefreshToken{
			Series: row.SeriesHash, Hash: row.RefreshHash, AuthMethod: row.AuthMethod,
			CreatedAt: fromMicros(row.IssuedAt), ExpiresAt: fromMicros(row.IdleExpiresAt),
		}
	}
	metadata, err := fromJSON[oauth.Metadata](row.Metadata)
	return f, oauth.Client{
		ID: row.ClientID, ProjectID: projectID, URL: row.URL, Type: oauth.ClientType(row.Type), Creation: oauth.Creation(row.Creation),
		Metadata: metadata, SecretID: row.SecretID, SecretHash: row.SecretHash, Blocked: row.Blocked,
	}, err
}

// RotateRefresh replaces a refresh token by its successor (RFC 9700 §4.14.2,
// decision 7).
func (d *DB) RotateRefresh(ctx context.Context, r oauth.Rotate, done, reuse audit.Event) (oauth.Rotation, error) {
	var rotation oauth.Rotation
	err := d.write(ctx, func(q *db.Queries) (err error) {
		rotation, err = rotate(ctx, q, r, done, reuse)
		return err
	})
	if err != nil {
		return oauth.Rotation{}, err
	}
	return rotation, nil
}

func rotate(ctx context.Context, q *db.Queries, r oauth.Rotate, done, reuse audit.Event) (oauth.Rotation, error) {
	n, err := q.RotateFamily(ctx, db.RotateFamilyParams{
		ProjectID: r.ProjectID, ID: r.FamilyID, RefreshHash: notNull(r.Hash), Now: micros(r.Now),
		SuccessorHash: notNull(r.Successor.Hash), IdleExpiresAt: micros(r.Successor.ExpiresAt), Replay: r.Replay,
	})
	if err != nil {
		return oauth.Rotation{}, wrap("rotate refresh token", err)
	}
	if n == 0 {
		return repeat(ctx, q, r, reuse)
	}
	return oauth.Rotation{Done: true}, record(ctx, q, done)
}

// repeat decides about a refresh token that could not be rotated: the kept
// answer again, or theft, or dead.
func repeat(ctx context.Context, q *db.Queries, r oauth.Rotate, reuse audit.Event) (oauth.Rotation, error) {
	f, err := q.Replay(ctx, r.ProjectID, r.FamilyID)
	if err := found("read family", err, oauth.ErrDead); err != nil {
		return oauth.Rotation{}, err
	}
	alive := f.RevokedAt == 0 && f.ExpiresAt > micros(r.Now)
	if !alive || bytes.Equal(f.RefreshHash, r.Hash) { // which has run out
		return oauth.Rotation{}, oauth.ErrDead
	}
	inWindow := r.Window > 0 && r.Now.Sub(fromMicros(f.RotatedAt)) < r.Window
	if inWindow && bytes.Equal(f.PreviousHash, r.Hash) {
		return oauth.Rotation{Replay: f.Replay}, nil
	}
	if _, err := endFamily(ctx, q, r.ProjectID, r.FamilyID, r.Now, r.Now.Add(longestAccessToken), reuse); err != nil {
		return oauth.Rotation{}, err
	}
	return oauth.Rotation{}, keep(oauth.ErrUsed)
}

// endFamily revokes a family if it lives, publishes that and records the event.
func endFamily(ctx context.Context, q *db.Queries, projectID, familyID string, now, until time.Time, e audit.Event) (ended bool, err error) {
	n, err := q.RevokeFamily(ctx, db.RevokeFamilyParams{Now: micros(now), ProjectID: projectID, ID: familyID})
	if err != nil || n == 0 {
		return false, wrap("revoke family", err)
	}
	feed := []oauth.Revocation{{Kind: familyRevoked, Value: familyID, Until: until}}
	if err := publish(ctx, q, projectID, now, feed); err != nil {
		return false, err
	}
	return true, record(ctx, q, e)
}

// RevokeFamily ends a family. Ending one that is not there or not alive is no
// error.
func (d *DB) RevokeFamily(ctx context.Context, projectID, familyID string, until time.Time, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		_, err := endFamily(ctx, q, projectID, familyID, e.At, until, e)
		return err
	})
}

// RevokeToken ends one access token by its jti until its expiry (RFC 7009).
func (d *DB) RevokeToken(ctx context.Context, projectID, jti string, until time.Time, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.RevokeToken(ctx, db.RevokeTokenParams{ProjectID: projectID, JTI: jti, Until: micros(until)})
		if err != nil || n == 0 {
			return wrap("revoke token", err)
		}
		feed := []oauth.Revocation{{Kind: tokenRevoked, Value: jti, Until: until}}
		if err := publish(ctx, q, projectID, e.At, feed); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// Live is the one read of introspection: what the family of a token that is alive
// says of it. A token of a blocked client is not alive either, nor one of a consumer
// project's person who is locked.
func (d *DB) Live(ctx context.Context, projectID, familyID, jti string) (oauth.Live, error) {
	row, err := d.read.Live(ctx, db.LiveParams{ProjectID: projectID, JTI: jti, ID: familyID})
	if err != nil {
		return oauth.Live{}, found("read family", err, oauth.ErrNotFound)
	}
	return oauth.Live{
		ClientID: row.ClientID, Organization: row.Organization, Attempt: row.Attempt, ClientType: oauth.ClientType(row.ClientType),
	}, nil
}

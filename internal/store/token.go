package store

import (
	"context"
	"database/sql"
	"errors"
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
		RedeemedAt: fromMicros(c.RedeemedAt), FamilyID: c.FamilyID, Attempt: c.Attempt,
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
		if err := createFamily(ctx, q, projectID, f, r.Refresh); err != nil {
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

func createFamily(ctx context.Context, q *db.Queries, projectID string, f oauth.Family, refresh *oauth.RefreshToken) error {
	row := db.CreateFamilyParams{
		ProjectID: projectID, ID: f.ID, GrantID: f.GrantID, ClientID: f.ClientID,
		Subject: f.Subject, Organization: f.Organization, SessionID: f.SessionID,
		Resource: f.Resource, Scopes: toJSON(f.Scopes), Nonce: f.Nonce, AuthTime: micros(f.AuthTime),
		CreatedAt: micros(f.CreatedAt), ExpiresAt: micros(f.ExpiresAt), Attempt: f.Attempt,
	}
	if refresh != nil {
		row.Generation = int64(refresh.Generation)
	}
	if err := q.CreateFamily(ctx, row); err != nil || refresh == nil {
		return wrap("create family", err)
	}
	return createRefreshToken(ctx, q, projectID, f.ID, *refresh)
}

func createRefreshToken(ctx context.Context, q *db.Queries, projectID, familyID string, t oauth.RefreshToken) error {
	return wrap("create refresh token", q.CreateRefreshToken(ctx, db.CreateRefreshTokenParams{
		ProjectID: projectID, ID: t.ID, FamilyID: familyID, Generation: int64(t.Generation), Hash: notNull(t.Hash),
		AuthMethod: t.AuthMethod, CreatedAt: micros(t.CreatedAt), ExpiresAt: micros(t.ExpiresAt),
	}))
}

// RefreshToken returns a refresh token with its family and grant, whatever their
// state.
func (d *DB) RefreshToken(ctx context.Context, projectID, id string) (oauth.RefreshToken, oauth.Family, oauth.Grant, error) {
	row, err := d.read.RefreshToken(ctx, projectID, id)
	if err != nil {
		return oauth.RefreshToken{}, oauth.Family{}, oauth.Grant{}, found("read refresh token", err, oauth.ErrNotFound)
	}
	t := row.RefreshToken
	family, err := toFamily(row.Family)
	return oauth.RefreshToken{
		ID: t.ID, ProjectID: t.ProjectID, FamilyID: t.FamilyID, Generation: int(t.Generation), Hash: t.Hash,
		AuthMethod: t.AuthMethod, CreatedAt: fromMicros(t.CreatedAt), ExpiresAt: fromMicros(t.ExpiresAt),
		RotatedAt: fromMicros(t.RotatedAt), SuccessorID: t.SuccessorID, Replay: t.Replay,
	}, family, toGrant(row.Grant), err
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
	now := micros(r.Now)
	if err := q.UseGrantOfRefreshToken(ctx, db.UseGrantOfRefreshTokenParams{Now: now, ProjectID: r.ProjectID, TokenID: r.TokenID}); err != nil {
		return oauth.Rotation{}, wrap("use grant", err)
	}
	old, err := q.RotateRefresh(ctx, db.RotateRefreshParams{
		Now: now, SuccessorID: r.Successor.ID, Replay: r.Replay, ProjectID: r.ProjectID, ID: r.TokenID,
	})
	if errors.Is(err, sql.ErrNoRows) {
		return repeat(ctx, q, r, reuse)
	}
	if err != nil {
		return oauth.Rotation{}, wrap("rotate refresh token", err)
	}
	if r.Successor.FamilyID != old.FamilyID || int64(r.Successor.Generation) != old.Generation+1 {
		return oauth.Rotation{}, errors.New("store: successor of another refresh token")
	}
	family := db.RaiseGenerationParams{ProjectID: r.ProjectID, ID: old.FamilyID, Generation: old.Generation}
	if n, err := q.RaiseGeneration(ctx, family); err != nil {
		return oauth.Rotation{}, wrap("rotate refresh token", err)
	} else if n == 0 {
		return oauth.Rotation{}, oauth.ErrDead // revoked in this moment
	}
	if err := createRefreshToken(ctx, q, r.ProjectID, old.FamilyID, r.Successor); err != nil {
		return oauth.Rotation{}, err
	}
	if err := forgetPast(ctx, q, r.ProjectID, old, now); err != nil {
		return oauth.Rotation{}, err
	}
	return oauth.Rotation{Done: true}, record(ctx, q, done)
}

// forgetPast drops what a used successor makes useless: the answer kept with
// the token before the presented one, and generations that have run out.
func forgetPast(ctx context.Context, q *db.Queries, projectID string, old db.RotateRefreshRow, now int64) error {
	err := q.ForgetReplay(ctx, db.ForgetReplayParams{ProjectID: projectID, FamilyID: old.FamilyID, Generation: old.Generation - 1})
	if err != nil {
		return wrap("forget replay", err)
	}
	return wrap("delete old generations", q.DeleteOldGenerations(ctx, db.DeleteOldGenerationsParams{ProjectID: projectID, FamilyID: old.FamilyID, Now: now}))
}

// repeat decides about a refresh token that could not be rotated: the kept
// answer again, or theft, or dead.
func repeat(ctx context.Context, q *db.Queries, r oauth.Rotate, reuse audit.Event) (oauth.Rotation, error) {
	row, err := q.RefreshToken(ctx, r.ProjectID, r.TokenID)
	if err := found("read refresh token", err, oauth.ErrDead); err != nil {
		return oauth.Rotation{}, err
	}
	t, now := row.RefreshToken, micros(r.Now)
	alive := row.Family.RevokedAt == 0 && row.Family.ExpiresAt > now && row.Grant.RevokedAt == 0
	if !alive || t.RotatedAt == 0 {
		return oauth.Rotation{}, oauth.ErrDead
	}
	next, err := q.RefreshTokenAfter(ctx, db.RefreshTokenAfterParams{ProjectID: r.ProjectID, FamilyID: t.FamilyID, Generation: t.Generation + 1})
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return oauth.Rotation{}, wrap("read refresh token", err)
	}
	inWindow := r.Window > 0 && r.Now.Sub(fromMicros(t.RotatedAt)) < r.Window
	if err == nil && inWindow && next.RotatedAt == 0 && next.AuthMethod == r.AuthMethod && len(t.Replay) > 0 {
		return oauth.Rotation{Replay: t.Replay}, nil
	}
	if _, err := endFamily(ctx, q, r.ProjectID, t.FamilyID, r.Now, r.Now.Add(longestAccessToken), reuse); err != nil {
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

// Live is the one read of introspection. A token of a blocked client is not
// alive either.
func (d *DB) Live(ctx context.Context, projectID, familyID, jti string) (oauth.Live, error) {
	row, err := d.read.Live(ctx, db.LiveParams{ProjectID: projectID, JTI: jti, ID: familyID})
	if err != nil {
		return oauth.Live{}, found("read family", err, oauth.ErrNotFound)
	}
	family, err := toFamily(row.Family)
	return oauth.Live{Family: family, Grant: toGrant(row.Grant), ClientType: oauth.ClientType(row.ClientType), Alive: row.Alive == 1}, err
}

func toFamily(f db.Family) (oauth.Family, error) {
	scopes, err := fromJSON[[]string](f.Scopes)
	return oauth.Family{
		ID: f.ID, ProjectID: f.ProjectID, GrantID: f.GrantID, ClientID: f.ClientID,
		Subject: f.Subject, Organization: f.Organization, SessionID: f.SessionID,
		Resource: f.Resource, Scopes: scopes, Nonce: f.Nonce, AuthTime: fromMicros(f.AuthTime),
		CreatedAt: fromMicros(f.CreatedAt), ExpiresAt: fromMicros(f.ExpiresAt), RevokedAt: fromMicros(f.RevokedAt),
		Attempt: f.Attempt,
	}, err
}

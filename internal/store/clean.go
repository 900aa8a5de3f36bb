package store

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/store/db"
)

// How long rows stay that could be deleted when they run out, and why.
const (
	// A code that is used again ends what it was redeemed for: so long after its
	// end it is still known.
	codeKept = time.Hour
	// The last access token of a family can outlive it.
	familyKept = longestAccessToken
	// The clock of another server may be behind ours, and guard takes a token a
	// little after its end.
	revocationKept = time.Minute
)

// Clean deletes what has run out: of every project and kind at most limit rows,
// each in a transaction of its own, so that nobody waits long behind it. It
// reports how many rows were deleted; call it again while that is not zero.
func (d *DB) Clean(ctx context.Context, now time.Time, limit int) (int, error) {
	projects, err := d.read.ProjectIDs(ctx)
	if err != nil {
		return 0, wrap("list projects", err)
	}
	total := 0
	for _, projectID := range projects {
		for _, clean := range []func(*db.Queries) (int64, error){
			func(q *db.Queries) (int64, error) {
				return q.CleanFlows(ctx, db.CleanFlowsParams{ProjectID: projectID, Before: micros(now), MaxRows: int32(limit)})
			},
			func(q *db.Queries) (int64, error) {
				return q.CleanCodes(ctx, db.CleanCodesParams{ProjectID: projectID, Before: micros(now.Add(-codeKept)), MaxRows: int32(limit)})
			},
			func(q *db.Queries) (int64, error) {
				return q.CleanAttempts(ctx, db.CleanAttemptsParams{ProjectID: projectID, Before: micros(now.Add(-audit.AttemptKept)), MaxRows: int32(limit)})
			},
			func(q *db.Queries) (int64, error) {
				return q.CleanSessions(ctx, db.CleanSessionsParams{ProjectID: projectID, Before: micros(now), MaxRows: int32(limit)})
			},
			func(q *db.Queries) (int64, error) {
				return q.CleanBrowsers(ctx, db.CleanBrowsersParams{ProjectID: projectID, Before: micros(now), MaxRows: int32(limit)})
			},
			func(q *db.Queries) (int64, error) {
				return cleanFamilies(ctx, q, db.CleanFamiliesParams{ProjectID: projectID, Before: micros(now.Add(-familyKept)), MaxRows: int32(limit)})
			},
			func(q *db.Queries) (int64, error) {
				return q.CleanRevokedTokens(ctx, db.CleanRevokedTokensParams{ProjectID: projectID, Before: micros(now.Add(-revocationKept)), MaxRows: int32(limit)})
			},
			func(q *db.Queries) (int64, error) {
				return q.CleanAssertions(ctx, db.CleanAssertionsParams{ProjectID: projectID, Before: micros(now), MaxRows: int32(limit)})
			},
			func(q *db.Queries) (int64, error) {
				return q.CleanRevocations(ctx, db.CleanRevocationsParams{ProjectID: projectID, Before: micros(now.Add(-revocationKept)), MaxRows: int32(limit)})
			},
			func(q *db.Queries) (int64, error) {
				return q.CleanCounters(ctx, db.CleanCountersParams{ProjectID: projectID, Before: micros(now), MaxRows: int32(limit)})
			},
		} {
			n, err := d.clean(ctx, clean)
			if total += n; err != nil {
				return total, err
			}
		}
	}
	for _, clean := range []func(*db.Queries) (int64, error){
		func(q *db.Queries) (int64, error) {
			return q.CleanAdministratorSessions(ctx, micros(now), int32(limit))
		},
		func(q *db.Queries) (int64, error) {
			return q.CleanAdministratorCeremonies(ctx, micros(now), int32(limit))
		},
		func(q *db.Queries) (int64, error) {
			return q.CleanAdministratorLinks(ctx, micros(now), int32(limit))
		},
		func(q *db.Queries) (int64, error) { // those of administrators
			return q.CleanCounters(ctx, db.CleanCountersParams{ProjectID: "", Before: micros(now), MaxRows: int32(limit)})
		},
	} {
		n, err := d.clean(ctx, clean)
		if total += n; err != nil {
			return total, err
		}
	}
	return total, nil
}

// cleanFamilies deletes families and keeps in their grants when those were used.
func cleanFamilies(ctx context.Context, q *db.Queries, which db.CleanFamiliesParams) (int64, error) {
	gone, err := q.CleanFamilies(ctx, which)
	if err != nil {
		return 0, err
	}
	used := map[string]int64{}
	for _, f := range gone {
		if f.RotatedAt > used[f.GrantID] {
			used[f.GrantID] = f.RotatedAt
		}
	}
	for _, id := range slices.Sorted(maps.Keys(used)) { // one order for all who lock grants
		if err := q.KeepLastUse(ctx, db.KeepLastUseParams{UsedAt: used[id], ProjectID: which.ProjectID, ID: id}); err != nil {
			return 0, err
		}
	}
	return int64(len(gone)), nil
}

func (d *DB) clean(ctx context.Context, clean func(*db.Queries) (int64, error)) (int, error) {
	var n int64
	err := d.write(much(ctx), func(q *db.Queries) (err error) {
		n, err = clean(q)
		return err
	})
	return int(n), wrap("clean", err)
}

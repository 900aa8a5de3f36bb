package store

import (
	"context"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store/db"
)

// Ended counts what BeginEpoch ended.
type Ended struct {
	Authorizations        int // of connected apps, with their tokens
	Codes                 int // authorization codes, used or not
	SignIns               int // that somebody was in the middle of
	Sessions              int // of people, browsers of members included
	AdministratorSessions int
	AdministratorLinks    int // one-time links
}

// skipped is more than a database can have lost of the numbers of one project.
// A server that knows a later state sees that this one is another, and whoever
// followed the revocation feed misses nothing of what comes.
const skipped = 1_000_000

// BeginEpoch ends everything in a restored database that may have been used or
// revoked after the copy was made, for nobody can tell: families with their
// tokens, codes, sign-ins and sessions. Users, clients, consents, keys, settings
// and the trail stay. It needs the database to itself for as long as that takes.
func (d *DB) BeginEpoch(ctx context.Context, e audit.Event) (Ended, error) {
	var ended Ended
	err := d.write(unhurried(ctx), func(q *db.Queries) error {
		ended = Ended{} // again: a lost transaction is repeated
		projects, err := q.Projects(ctx)
		if err != nil {
			return wrap("list projects", err)
		}
		for _, p := range projects {
			if err := ended.endProject(ctx, q, p, e); err != nil {
				return wrap("end what was issued", err)
			}
		}
		if err := ended.endAdministrators(ctx, q, e); err != nil {
			return wrap("end what administrators began", err)
		}
		if err := q.EndNodes(ctx); err != nil {
			return wrap("end leases", err)
		}
		return record(ctx, q, e)
	})
	return ended, err
}

// endProject takes the rows in the order that grant.go names.
func (n *Ended) endProject(ctx context.Context, q *db.Queries, p db.Project, e audit.Event) error {
	access := func(ctx context.Context, projectID string) (int64, error) {
		return q.EndAccess(ctx, db.EndAccessParams{Now: micros(e.At), ProjectID: projectID})
	}
	for _, end := range []struct {
		rows  func(context.Context, string) (int64, error)
		total *int
	}{
		{q.EndFlows, &n.SignIns},
		{q.EndCodes, &n.Codes},
		{access, &n.Authorizations},
		{q.EndAllSessions, &n.Sessions},
		{q.EndAllBrowsers, &n.Sessions},
	} {
		rows, err := end.rows(ctx, p.ProjectID)
		if err != nil {
			return err
		}
		*end.total += int(rows)
	}
	if err := q.SkipCounters(ctx, skipped, p.ProjectID); err != nil {
		return err
	}
	return publish(ctx, q, p.ProjectID, e.At, []oauth.Revocation{
		{Kind: issuerRevoked, Value: p.Issuer, Until: e.At.Add(longestAccessToken)},
	})
}

func (n *Ended) endAdministrators(ctx context.Context, q *db.Queries, e audit.Event) error {
	sessions, err := q.EndAllAdministratorSessions(ctx)
	if err != nil {
		return err
	}
	links, err := q.EndAdministratorLinks(ctx)
	if err != nil {
		return err
	}
	n.AdministratorSessions, n.AdministratorLinks = int(sessions), int(links)
	if err := q.EndAdministratorCeremonies(ctx); err != nil {
		return err
	}
	// A code of an authenticator that was used after the copy was made is shown
	// for a moment more.
	return q.SkipAdministratorCodes(ctx, signin.LastCodeStep(e.At))
}

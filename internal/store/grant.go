package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store/db"
)

// Rows are locked in one order everywhere: flow, grant, code, refresh token,
// family, and the project's counters last. A grant that was taken back can be
// allowed again under its id; whatever hung on it before stays dead.

// Grant returns the live grant of a person for a client with its scope rows for
// one resource.
func (d *DB) Grant(ctx context.Context, projectID, subject, organization, clientID, resource string) (oauth.Grant, []oauth.GrantScope, error) {
	row, err := d.read.LiveGrant(ctx, db.LiveGrantParams{ProjectID: projectID, Subject: subject, Organization: organization, ClientID: clientID})
	if err != nil {
		return oauth.Grant{}, nil, found("read grant", err, oauth.ErrNotFound)
	}
	scopes, err := grantScopes(ctx, d.read, projectID, row.ID, resource)
	return toGrant(row), scopes, err
}

func grantScopes(ctx context.Context, q *db.Queries, projectID, grantID, resource string) ([]oauth.GrantScope, error) {
	rows, err := q.GrantScopes(ctx, db.GrantScopesParams{ProjectID: projectID, GrantID: grantID, Resource: resource})
	if err != nil {
		return nil, wrap("read grant", err)
	}
	scopes := make([]oauth.GrantScope, len(rows))
	for i, s := range rows {
		scopes[i] = oauth.GrantScope{Resource: s.Resource, Scope: s.Scope, Allowed: s.Allowed, ConsentHash: s.ConsentHash, DecidedAt: fromMicros(s.DecidedAt)}
	}
	return scopes, nil
}

// Decide keeps a decision. Besides oauth.ErrUsed it returns oauth.ErrDead when
// the flow has run out, the client is gone, or what was allowed earlier was taken
// back in between. Where a scope was allowed and is not any more, what has it ends,
// as in DeclineScopes (docs/decisions/0034).
func (d *DB) Decide(ctx context.Context, decision oauth.Decision, e audit.Event) error {
	g, code := decision.Grant, decision.Code
	return d.write(ctx, func(q *db.Queries) error {
		if decision.FlowID != "" {
			if err := decideFlow(ctx, q, g.ProjectID, decision.FlowID, code.CreatedAt); err != nil {
				return err
			}
		}
		grantID, withdrawn, err := allow(ctx, q, decision)
		if err != nil {
			return err
		}
		if withdrawn {
			if err := q.DeleteUnusedCodes(ctx, g.ProjectID, grantID); err != nil {
				return wrap("delete codes", err)
			}
		}
		for _, s := range decision.Scopes {
			err := q.SaveGrantScope(ctx, db.SaveGrantScopeParams{
				ProjectID: g.ProjectID, GrantID: grantID, Resource: s.Resource, Scope: s.Scope,
				Allowed: s.Allowed, ConsentHash: notNull(s.ConsentHash), DecidedAt: micros(s.DecidedAt),
			})
			if err != nil {
				return wrap("save scope", err)
			}
		}
		err = q.CreateCode(ctx, db.CreateCodeParams{
			ProjectID: g.ProjectID, ID: code.ID, Hash: notNull(code.Hash), ClientID: g.ClientID, GrantID: grantID,
			Subject: g.Subject, Organization: g.Organization, SessionID: code.SessionID,
			RedirectURI: code.RedirectURI, Challenge: code.Challenge,
			Resource: code.Resource, Scopes: toJSON(code.Scopes), Nonce: code.Nonce,
			AuthTime: micros(code.AuthTime), CreatedAt: micros(code.CreatedAt), ExpiresAt: micros(code.ExpiresAt),
			Attempt: code.Attempt,
		})
		if err != nil {
			return wrap("create code", err)
		}
		if err := decideAttempt(ctx, q, decision.FlowID, decision.Attempt); err != nil {
			return err
		}
		e.Object = grantID
		if withdrawn {
			feed, err := revokeFamilies(ctx, q, g.ProjectID, grantID, code.CreatedAt, code.CreatedAt.Add(longestAccessToken))
			if err != nil {
				return err
			}
			if err := publish(ctx, q, g.ProjectID, code.CreatedAt, feed); err != nil {
				return err
			}
			narrowed := e
			narrowed.Kind = audit.GrantNarrowed
			if err := record(ctx, q, narrowed); err != nil {
				return err
			}
		}
		return record(ctx, q, e)
	})
}

// allow returns the id of the decision's grant, which lives to the end of the
// transaction, and whether the decision withdraws something from it. What the code
// has from an earlier decision must hold still, and where nobody was asked nothing
// that it has may be declined. A client that was blocked since it asked gets none,
// nor does one get anything of a user who was locked or deleted since.
func allow(ctx context.Context, q *db.Queries, decision oauth.Decision) (id string, withdrawn bool, err error) {
	g, now := decision.Grant, micros(decision.Code.CreatedAt)
	blocked, err := q.ClientBlocked(ctx, g.ProjectID, g.ClientID)
	if err != nil {
		return "", false, found("read client", err, oauth.ErrDead)
	}
	if blocked {
		return "", false, oauth.ErrDead
	}
	if g.Organization == "" {
		n, err := q.LockUser(ctx, g.ProjectID, g.Subject)
		if err != nil {
			return "", false, wrap("lock user", err)
		}
		if n == 0 {
			return "", false, oauth.ErrDead
		}
	}
	if len(decision.Scopes) > 0 {
		if err := makeGrant(ctx, q, g, now); err != nil {
			return "", false, err
		}
	}
	id, err = q.LockGrant(ctx, db.LockGrantParams{ProjectID: g.ProjectID, Subject: g.Subject, Organization: g.Organization, ClientID: g.ClientID})
	if err != nil {
		return "", false, found("find grant", err, oauth.ErrDead)
	}
	rows, err := grantScopes(ctx, q, g.ProjectID, id, decision.Code.Resource)
	if err != nil {
		return "", false, err
	}
	earlier := map[string]bool{}
	for _, row := range rows {
		earlier[row.Scope] = row.Allowed
		if !decision.Asked && !row.Allowed && slices.Contains(decision.Code.Scopes, row.Scope) {
			return "", false, oauth.ErrDead
		}
	}
	for _, scope := range decision.Rests {
		if !earlier[scope] {
			return "", false, oauth.ErrDead
		}
	}
	for _, s := range decision.Scopes {
		withdrawn = withdrawn || !s.Allowed && s.Resource == decision.Code.Resource && earlier[s.Scope]
	}
	return id, withdrawn, nil
}

// makeGrant makes a grant, or revives the one that was taken back, without what
// was decided for it then and without the codes that were under way.
func makeGrant(ctx context.Context, q *db.Queries, g oauth.Grant, now int64) error {
	n, err := q.CreateGrant(ctx, db.CreateGrantParams{
		ProjectID: g.ProjectID, ID: g.ID, Subject: g.Subject, Organization: g.Organization, ClientID: g.ClientID, CreatedAt: now,
	})
	if rowMissing(err) {
		return oauth.ErrDead // the client was deleted
	}
	if err != nil || n == 1 {
		return wrap("create grant", err)
	}
	id, err := q.ReviveGrant(ctx, db.ReviveGrantParams{
		CreatedAt: now, ProjectID: g.ProjectID, Subject: g.Subject, Organization: g.Organization, ClientID: g.ClientID,
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil // it lives
	}
	if err != nil {
		return wrap("revive grant", err)
	}
	if err := q.DeleteGrantScopes(ctx, g.ProjectID, id); err != nil {
		return wrap("revive grant", err)
	}
	return wrap("revive grant", q.DeleteUnusedCodes(ctx, g.ProjectID, id))
}

// Deny marks a flow decided and records the refusal.
func (d *DB) Deny(ctx context.Context, projectID, flowID string, now time.Time, a audit.Attempt, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := decideFlow(ctx, q, projectID, flowID, now); err != nil {
			return err
		}
		if err := saveAttempt(ctx, q, a); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// decideFlow marks a flow decided: one call does, all others get oauth.ErrUsed.
func decideFlow(ctx context.Context, q *db.Queries, projectID, flowID string, now time.Time) error {
	n, err := q.DecideFlow(ctx, db.DecideFlowParams{Now: micros(now), ProjectID: projectID, ID: flowID})
	if err != nil || n == 1 {
		return wrap("decide flow", err)
	}
	decided, err := q.FlowDecidedAt(ctx, projectID, flowID)
	if err := found("read flow", err, oauth.ErrDead); err != nil {
		return err
	}
	if decided != 0 {
		return oauth.ErrUsed
	}
	return oauth.ErrDead
}

// RevokeGrant ends a grant and its families.
func (d *DB) RevokeGrant(ctx context.Context, projectID, subject, grantID string, until time.Time, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.RevokeGrant(ctx, db.RevokeGrantParams{Now: micros(e.At), ProjectID: projectID, ID: grantID, Subject: subject})
		if err != nil {
			return wrap("revoke grant", err)
		}
		if n == 0 {
			_, err := q.SubjectsGrant(ctx, db.SubjectsGrantParams{ProjectID: projectID, ID: grantID, Subject: subject})
			return found("read grant", err, oauth.ErrNotFound)
		}
		feed, err := revokeFamilies(ctx, q, projectID, grantID, e.At, until)
		if err != nil {
			return err
		}
		feed = append(feed, oauth.Revocation{Kind: grantRevoked, Value: grantID, Until: until})
		if err := publish(ctx, q, projectID, e.At, feed); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// DeclineScopes takes scopes back from a live grant. Its families and the codes
// under way have them, so they end.
func (d *DB) DeclineScopes(ctx context.Context, projectID, subject, grantID string, scopes []string, until time.Time, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error {
		n, err := q.LockSubjectsGrant(ctx, db.LockSubjectsGrantParams{ProjectID: projectID, ID: grantID, Subject: subject})
		if err != nil {
			return wrap("find grant", err)
		}
		if n == 0 {
			return oauth.ErrNotFound
		}
		for _, scope := range scopes {
			err := q.DeclineGrantScope(ctx, db.DeclineGrantScopeParams{Now: micros(e.At), ProjectID: projectID, GrantID: grantID, Scope: scope})
			if err != nil {
				return wrap("decline scope", err)
			}
		}
		if err := q.DeleteUnusedCodes(ctx, projectID, grantID); err != nil {
			return wrap("delete codes", err)
		}
		feed, err := revokeFamilies(ctx, q, projectID, grantID, e.At, until)
		if err != nil {
			return err
		}
		if err := publish(ctx, q, projectID, e.At, feed); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// ConnectedApps lists a person's grants, live ones first, newest first, and
// those revoked after since.
func (d *DB) ConnectedApps(ctx context.Context, projectID, subject, organization string, since time.Time) ([]oauth.ConnectedApp, error) {
	rows, err := d.read.ConnectedApps(ctx, db.ConnectedAppsParams{
		ProjectID: projectID, Subject: subject, Organization: organization, Since: micros(since),
	})
	if err != nil {
		return nil, wrap("list connected apps", err)
	}
	scopes, err := d.read.GrantScopesOfSubject(ctx, db.GrantScopesOfSubjectParams{ProjectID: projectID, Subject: subject, Organization: organization})
	if err != nil {
		return nil, wrap("list connected apps", err)
	}
	byGrant := map[string][]oauth.GrantScope{}
	for _, s := range scopes {
		byGrant[s.GrantID] = append(byGrant[s.GrantID], oauth.GrantScope{
			Resource: s.Resource, Scope: s.Scope, Allowed: s.Allowed, ConsentHash: s.ConsentHash, DecidedAt: fromMicros(s.DecidedAt),
		})
	}
	for _, list := range byGrant {
		slices.SortFunc(list, func(a, b oauth.GrantScope) int {
			return cmp.Or(strings.Compare(a.Resource, b.Resource), strings.Compare(a.Scope, b.Scope))
		})
	}
	apps := make([]oauth.ConnectedApp, len(rows))
	for i, row := range rows {
		client, err := toClient(row.Client)
		if err != nil {
			return nil, err
		}
		apps[i] = oauth.ConnectedApp{
			Grant: toGrant(row.Grant), Client: client, Scopes: byGrant[row.Grant.ID],
			LastUsedAt: fromMicros(max(row.Grant.LastUsedAt, row.RefreshedAt)),
			ExpiresAt:  fromMicros(row.ExpiresAt), IdleExpiresAt: fromMicros(row.IdleExpiresAt),
		}
	}
	return apps, nil
}

func toGrant(g db.Grant) oauth.Grant {
	return oauth.Grant{
		ID: g.ID, ProjectID: g.ProjectID, Subject: g.Subject, Organization: g.Organization, ClientID: g.ClientID,
		CreatedAt: fromMicros(g.CreatedAt), RevokedAt: fromMicros(g.RevokedAt),
	}
}

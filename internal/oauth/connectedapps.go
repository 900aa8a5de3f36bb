package oauth

import (
	"context"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

// takenBackShown is how long a grant that was taken back stays in the list.
const takenBackShown = 30 * 24 * time.Hour

// ConnectedApps lists what a person allowed, live grants first, then those
// taken back in the last 30 days (RFC 7009 is for clients; this is for people).
func (s *Server) ConnectedApps(ctx context.Context, p *project.Project, who Person) ([]ConnectedApp, error) {
	return s.store.ConnectedApps(ctx, p.ID, who.Subject, who.Organization, s.now().Add(-takenBackShown))
}

// TakeBack ends a person's grant with every token under it. ErrNotFound when it
// is not theirs.
func (s *Server) TakeBack(ctx context.Context, p *project.Project, who Person, grantID string) error {
	app, err := s.connectedApp(ctx, p, who, grantID)
	if err != nil {
		return err
	}
	return s.store.RevokeGrant(ctx, p.ID, who.Subject, grantID, s.tokensUntil(p), s.grantEvent(ctx, p, audit.GrantRevoked, app))
}

// MakeReadOnly takes back the permissions of a grant that change something.
// Its tokens end, so that the next ones hold only what is left.
func (s *Server) MakeReadOnly(ctx context.Context, p *project.Project, who Person, grantID string) error {
	app, err := s.connectedApp(ctx, p, who, grantID)
	if err != nil {
		return err
	}
	var writes []string
	for _, row := range app.Scopes {
		if scope, known := describe(p, row.Scope); !known || !scope.ReadOnly {
			writes = append(writes, row.Scope)
		}
	}
	return s.store.DeclineScopes(ctx, p.ID, who.Subject, grantID, writes, s.tokensUntil(p), s.grantEvent(ctx, p, audit.GrantNarrowed, app))
}

// connectedApp finds one of a person's grants, or ErrNotFound.
func (s *Server) connectedApp(ctx context.Context, p *project.Project, who Person, grantID string) (ConnectedApp, error) {
	apps, err := s.ConnectedApps(ctx, p, who)
	if err != nil {
		return ConnectedApp{}, err
	}
	for _, app := range apps {
		if app.Grant.ID == grantID {
			return app, nil
		}
	}
	return ConnectedApp{}, ErrNotFound
}

func (s *Server) grantEvent(ctx context.Context, p *project.Project, kind audit.Kind, app ConnectedApp) audit.Event {
	e := s.event(ctx, p, kind)
	e.Actor, e.Subject, e.ClientID, e.Object = app.Grant.Subject, app.Grant.Subject, app.Client.ID, app.Grant.ID
	return e
}

// tokensUntil is when no access token that exists now can be alive any more.
func (s *Server) tokensUntil(p *project.Project) time.Time { return tokensUntil(p, s.now()) }

func tokensUntil(p *project.Project, now time.Time) time.Time {
	longest := max(p.Settings.Lifetimes.AccessToken, p.Settings.Lifetimes.LoneAccessToken)
	for _, r := range p.Resources {
		longest = max(longest, r.AccessToken)
	}
	return now.Add(time.Duration(longest) * time.Second)
}

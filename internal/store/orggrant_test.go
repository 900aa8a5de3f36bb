package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store"
)

// What members of an organization allowed is seen and ended in that
// organization alone, and never reaches people of a consumer project.
func TestGrantsOfAnOrganization(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, other := newWorld(t, db, "a.example.com"), newWorld(t, db, "b.example.com")
		grants := map[string]string{}
		for _, organization := range []string{"one", "two", ""} {
			decision := w.decision(now, "read:notes")
			decision.Grant.ID, decision.Grant.Organization = "grant-"+organization, organization
			if organization != "" {
				decision.Grant.Subject = "member-" + organization
			}
			decision.Code.ID = "code-" + organization
			decision.FlowID = ""
			must(t, db.Decide(t.Context(), decision, w.event(audit.GrantAllowed)))
			grants[organization] = decision.Grant.ID
		}
		ctx, id := t.Context(), w.project.ID
		list := func(project, organization, after string) []oauth.ConnectedApp {
			t.Helper()
			apps, err := db.OrganizationApps(ctx, project, organization, after, 10)
			must(t, err)
			return apps
		}
		apps := list(id, "one", "")
		if len(apps) != 1 || apps[0].Grant.ID != grants["one"] || apps[0].Client.ID != w.client.ID || len(apps[0].Scopes) != 1 || apps[0].Scopes[0].Scope != "read:notes" {
			t.Fatalf("%+v", apps)
		}
		if more := list(id, "one", grants["one"]); len(more) != 0 {
			t.Errorf("after the last: %+v", more)
		}
		for _, empty := range [][2]string{{id, ""}, {id, "none"}, {other.project.ID, "one"}} {
			if apps := list(empty[0], empty[1], ""); len(apps) != 0 {
				t.Errorf("%v: %+v", empty, apps)
			}
			if clients, err := db.OrganizationClients(ctx, empty[0], empty[1], 10); err != nil || len(clients) != 0 {
				t.Errorf("%v: %+v, %v", empty, clients, err)
			}
			if n, err := db.RevokeOrganizationClient(ctx, empty[0], empty[1], w.client.ID, now.Add(day), w.event(audit.GrantRevoked)); n != 0 || err != nil {
				t.Errorf("%v: %d, %v", empty, n, err)
			}
			if _, err := db.OrganizationGrant(ctx, empty[0], empty[1], grants["one"]); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("%v: %v", empty, err)
			}
		}
		for _, foreign := range []string{grants["two"], grants[""], "none"} {
			if _, err := db.OrganizationApps(ctx, id, "one", foreign, 10); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("after %s: %v", foreign, err)
			}
		}
		if clients, err := db.OrganizationClients(ctx, id, "one", 10); err != nil || len(clients) != 1 || clients[0].ID != w.client.ID {
			t.Errorf("%+v, %v", clients, err)
		}

		n, err := db.RevokeOrganizationClient(ctx, id, "one", w.client.ID, now.Add(day), w.event(audit.GrantRevoked))
		if n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if left := append(list(id, "one", ""), list(id, "two", "")...); len(left) != 1 || left[0].Grant.ID != grants["two"] {
			t.Errorf("left %+v", left)
		}
		if got := rows(t, db, "SELECT value FROM revocation WHERE project_id = $1 AND kind = 'grant'", id); len(got) != 1 || got[0] != grants["one"] {
			t.Errorf("the feed says %v", got)
		}
		if got := rows(t, db, `SELECT id FROM "grant" WHERE project_id = $1 AND revoked_at = 0 AND organization = ''`, id); len(got) != 1 {
			t.Errorf("a person's own grant is gone: %v", got)
		}
	})
}

func TestInvitationsAreCounted(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "a.example.com")
		count := func(organization, email string, at time.Time) error {
			return db.CountInvitation(t.Context(), w.project.ID, organization, email, at)
		}
		for i := range identity.InvitationsAnHour {
			must(t, count("one", string(rune('a'+i))+"@example.test", now))
		}
		if err := count("one", "last@example.test", now); !errors.Is(err, identity.ErrLimited) {
			t.Errorf("of one organization: %v", err)
		}
		for range identity.InvitedAnHour {
			must(t, count("two", "ada@example.test", now))
		}
		if err := count("three", "ada@example.test", now); !errors.Is(err, identity.ErrLimited) {
			t.Errorf("to one address: %v", err)
		}
		must(t, count("one", "ada@example.test", now.Add(time.Hour)))
	})
}

package store_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store"
)

func spelled(uris ...string) (all []string) {
	for _, uri := range uris {
		all = append(all, uri, uri+"/")
	}
	return all
}

// moving is a world with a resource server that a person let a client use, and
// with another one beside it.
func moving(t *testing.T, db *store.DB, host string) (*world, project.Resource, held, oauth.Family) {
	t.Helper()
	w := newWorld(t, db, host)
	r := w.resource(notes)
	r.Aliases = []string{"https://notes.example.com/sse"}
	must(t, db.AddResource(t.Context(), w.project.ID, nil, r, nil, w.event(audit.ResourceAdded)))
	other := w.resource("https://other.example.com/mcp")
	must(t, db.AddResource(t.Context(), w.project.ID, nil, other, nil, w.event(audit.ResourceAdded)))
	token, family := w.family(now, "read:notes")
	return w, r, token, family
}

func TestMoveResource(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		const next = "https://notes.example.net/mcp"
		ctx := t.Context()
		w, r, token, family := moving(t, db, "auth.example.com")
		apart, _, _, theirs := moving(t, db, "auth.example.org") // another project with the same resource
		// Access for the other resource server, by the same person and client.
		d := w.decision(now, "read:notes")
		d.Code.Resource, d.Scopes[0].Resource = "https://other.example.com/mcp", "https://other.example.com/mcp"
		must(t, db.Decide(ctx, d, w.event(audit.GrantAllowed)))
		code, err := db.Code(ctx, w.project.ID, d.Code.ID)
		must(t, err)
		beside := w.redeem(code, now)
		must(t, w.redeemCode(beside))
		// What the person once declined at the new address, when another server was there.
		d = w.decision(now, "read:notes", "write:notes")
		for i := range d.Scopes {
			d.Scopes[i].Resource, d.Scopes[i].Allowed = next, false
		}
		must(t, db.Decide(ctx, d, w.event(audit.GrantAllowed)))

		impact, err := db.Access(ctx, w.project.ID, spelled(r.URIs()...), now, 10)
		must(t, err)
		want := project.Impact{Authorizations: 1, People: 1, Clients: 1, Apps: []project.ImpactedApp{{ClientID: w.client.ID, Name: w.client.Name(), People: 1}}}
		if diff := cmp.Diff(want, impact); diff != "" {
			t.Error(diff)
		}
		if idle, err := db.Access(ctx, w.project.ID, spelled(r.URIs()...), token.ExpiresAt, 10); err != nil || idle.Authorizations != 0 {
			t.Errorf("a refresh token that has run out still counts: %+v, %v", idle, err)
		}

		moved := r
		moved.URI, moved.Name, moved.Aliases = next, "Moved", []string{"https://notes.example.net/sse"}
		before := find(t, db, w.project.ID)
		look := everything(t, db, apart.project.ID)

		taken := moved
		taken.URI = "https://other.example.com/mcp/"
		if _, err := db.MoveResource(ctx, w.project.ID, find(t, db, w.project.ID).Change, r, taken, nil, w.event(audit.ResourceChanged)); !errors.Is(err, project.ErrTaken) {
			t.Errorf("to the address of another: %v", err)
		}
		taken.URI, taken.Aliases = next, []string{"https://other.example.com/mcp"}
		if _, err := db.MoveResource(ctx, w.project.ID, find(t, db, w.project.ID).Change, r, taken, spelled(r.URI), w.event(audit.ResourceChanged)); !errors.Is(err, project.ErrTaken) {
			t.Errorf("with the address of another as an alias: %v", err)
		}
		gone := r
		gone.URI = "https://gone.example.com/mcp"
		if _, err := db.MoveResource(ctx, w.project.ID, find(t, db, w.project.ID).Change, gone, moved, spelled(r.URI), w.event(audit.ResourceChanged)); !errors.Is(err, project.ErrNotFound) {
			t.Errorf("from where it is not: %v", err)
		}
		if !w.alive(family.ID) {
			t.Error("a move that failed ended access")
		}

		n, err := db.MoveResource(ctx, w.project.ID, find(t, db, w.project.ID).Change, r, moved, spelled(r.URIs()...), w.event(audit.ResourceChanged))
		if err != nil || n != 1 {
			t.Errorf("%d ended, %v", n, err)
		}
		after := find(t, db, w.project.ID)
		kept, ok := after.Resource(next)
		moved.DefaultScopes = []string{}
		if diff := cmp.Diff(moved, kept); !ok || diff != "" || after.Change != before.Change+1 || len(after.Resources) != 2 {
			t.Errorf("change %d to %d, %s", before.Change, after.Change, diff)
		}
		if got := events(t, db, w.project.ID); !slices.Contains(got, "resource.changed") {
			t.Errorf("events %v", got)
		}
		for id, alive := range map[string]bool{family.ID: false, beside.Family.ID: true} {
			if w.alive(id) != alive {
				t.Errorf("family %s: alive %t", id, !alive)
			}
		}
		if !apart.alive(theirs.ID) {
			t.Error("the other project's ended")
		}
		if _, err := db.RotateRefresh(ctx, w.rotation(token, now), w.event(audit.TokenRefreshed), w.event(audit.RefreshReused)); !errors.Is(err, oauth.ErrDead) {
			t.Errorf("refresh after the move: %v", err)
		}
		if _, scopes, err := db.Grant(ctx, w.project.ID, w.user.ID, "", w.client.ID, next); err != nil || len(scopes) != 1 || scopes[0].Scope != "read:notes" || !scopes[0].Allowed {
			t.Errorf("what was decided about it: %+v, %v", scopes, err)
		}
		if _, scopes, err := db.Grant(ctx, w.project.ID, w.user.ID, "", w.client.ID, notes); err != nil || len(scopes) != 0 {
			t.Errorf("left behind: %+v, %v", scopes, err)
		}
		feed := rows(t, db, "SELECT kind, value FROM revocation WHERE project_id = $1", w.project.ID)
		if !slices.Equal(feed, []string{"resource " + notes}) {
			t.Errorf("feed %q", feed)
		}
		if diff := cmp.Diff(look, everything(t, db, apart.project.ID)); diff != "" {
			t.Errorf("the other project changed: %s", diff)
		}
	})
}

func TestSetIssuer(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		w, _, token, family := moving(t, db, "auth.example.com")
		apart, _, _, _ := moving(t, db, "auth.example.org")
		look, before := everything(t, db, apart.project.ID), find(t, db, w.project.ID)
		set := func(old, issuer string) (int, error) {
			return db.SetIssuer(ctx, w.project.ID, old, issuer, w.event(audit.ProjectChanged))
		}

		for name, bad := range map[string][2]string{
			"another's host": {before.Issuer, "https://auth.example.org"}, "changed meanwhile": {"https://old.example.com", "https://login.example.com"},
		} {
			if _, err := set(bad[0], bad[1]); !errors.Is(err, project.ErrConflict) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if !w.alive(family.ID) {
			t.Error("a change that failed ended access")
		}

		all, err := db.Access(ctx, w.project.ID, nil, now, 10)
		if err != nil || all.Authorizations != 1 || len(all.Apps) != 1 {
			t.Errorf("%+v, %v", all, err)
		}
		if n, err := set(before.Issuer, "https://login.example.com"); err != nil || n != 1 {
			t.Errorf("%d ended, %v", n, err)
		}
		after := find(t, db, w.project.ID)
		if after.Issuer != "https://login.example.com" || after.Change != before.Change+1 || len(after.Hosts) != 0 {
			t.Errorf("%+v", after)
		}
		if w.alive(family.ID) {
			t.Error("access under the old issuer goes on")
		}
		if _, err := db.RotateRefresh(ctx, w.rotation(token, now), w.event(audit.TokenRefreshed), w.event(audit.RefreshReused)); !errors.Is(err, oauth.ErrDead) {
			t.Errorf("refresh: %v", err)
		}
		if _, scopes, err := db.Grant(ctx, w.project.ID, w.user.ID, "", w.client.ID, notes); err != nil || len(scopes) != 1 {
			t.Errorf("what was decided: %+v, %v", scopes, err)
		}
		feed := rows(t, db, "SELECT kind, value FROM revocation WHERE project_id = $1", w.project.ID)
		if !slices.Equal(feed, []string{"issuer " + before.Issuer}) {
			t.Errorf("feed %q", feed)
		}
		// The old host is free for another project, and can be taken back while it is.
		taker := newProject("auth.example.com")
		if n, err := set("https://login.example.com", "https://auth.example.com"); err != nil || n != 0 {
			t.Errorf("back: %d, %v", n, err)
		}
		if err := db.CreateProject(ctx, taker, audit.Event{ProjectID: taker.ID, At: now}); !errors.Is(err, project.ErrConflict) {
			t.Errorf("a host in use was given away: %v", err)
		}
		if diff := cmp.Diff(look, everything(t, db, apart.project.ID)); diff != "" {
			t.Errorf("the other project changed: %s", diff)
		}
	})
}

// One of the project's own further hosts can become its issuer.
func TestSetIssuerToOwnHost(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		p := newProject("auth.example.com")
		p.Hosts = []string{"api.example.com", "login.example.com"}
		event := audit.Event{ProjectID: p.ID, At: now, Kind: audit.ProjectChanged}
		must(t, db.CreateProject(t.Context(), p, event))
		if _, err := db.SetIssuer(t.Context(), p.ID, p.Issuer, "https://login.example.com", event); err != nil {
			t.Fatal(err)
		}
		if got := find(t, db, p.ID); got.Issuer != "https://login.example.com" || !slices.Equal(got.Hosts, []string{"api.example.com"}) {
			t.Errorf("%+v", got)
		}
	})
}

// Refreshes and a move at once: whatever the order, nothing lives afterwards.
func TestMoveAmongRefreshes(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, r, token, family := moving(t, db, "auth.example.com")
		moved := r
		moved.URI, moved.Aliases = "https://notes.example.net/mcp", nil
		var failed error
		at(8, func(i int) {
			if i == 4 {
				_, failed = db.MoveResource(t.Context(), w.project.ID, find(t, db, w.project.ID).Change, r, moved, spelled(r.URIs()...), w.event(audit.ResourceChanged))
				return
			}
			_, err := db.RotateRefresh(t.Context(), w.rotation(token, now.Add(time.Second)), w.event(audit.TokenRefreshed), w.event(audit.RefreshReused))
			if err != nil && !errors.Is(err, oauth.ErrDead) {
				t.Error(err)
			}
		})
		must(t, failed)
		if w.alive(family.ID) {
			t.Error("access under the old issuer goes on")
		}
	})
}

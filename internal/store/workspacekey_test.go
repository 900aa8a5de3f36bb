package store_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store"
)

func TestWorkspaceKeys(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		first := project.WorkspaceKey{ID: "workspace-key-prod-1", Name: "CI", SecretHash: mac("one"), MadeBy: audit.Operator, CreatedAt: now}
		second := project.WorkspaceKey{ID: "workspace-key-prod-2", Name: "CI", SecretHash: mac("two"), ReadOnly: true, MadeBy: audit.Operator, CreatedAt: now.Add(time.Second), ExpiresAt: now.Add(time.Hour)}
		event := func(kind audit.Kind, id string) audit.Event {
			return audit.Event{At: now.Add(time.Hour), Kind: kind, Actor: "operator", Object: id}
		}
		for _, k := range []project.WorkspaceKey{second, first} {
			must(t, db.CreateWorkspaceKey(ctx, k, event(audit.WorkspaceKeyCreated, k.ID)))
		}
		if err := db.CreateWorkspaceKey(ctx, first, event(audit.WorkspaceKeyCreated, first.ID)); err == nil {
			t.Error("one id twice")
		}

		// A use is noted, and an older one does not undo it.
		must(t, db.TouchWorkspaceKey(ctx, first.ID, now.Add(2*time.Minute)))
		must(t, db.TouchWorkspaceKey(ctx, first.ID, now.Add(time.Minute)))
		must(t, db.TouchWorkspaceKey(ctx, "workspace-key-prod-3", now))
		first.LastUsedAt = now.Add(2 * time.Minute)

		var ended atomic.Int64
		at(10, func(int) {
			switch err := db.RevokeWorkspaceKey(ctx, first.ID, event(audit.WorkspaceKeyRevoked, first.ID)); {
			case err == nil:
				ended.Add(1)
			case !errors.Is(err, project.ErrNotFound):
				t.Error(err)
			}
		})
		if ended.Load() != 1 {
			t.Errorf("ended %d times", ended.Load())
		}
		first.RevokedAt = now.Add(time.Hour)
		// The event is of the moment at which the second ends by itself.
		if err := db.RevokeWorkspaceKey(ctx, second.ID, event(audit.WorkspaceKeyRevoked, second.ID)); !errors.Is(err, project.ErrNotFound) {
			t.Errorf("revoke a key that has ended: %v", err)
		}
		for _, id := range []string{"workspace-key-prod-3", "", "a\x00b"} {
			if err := db.RevokeWorkspaceKey(ctx, id, event(audit.WorkspaceKeyRevoked, id)); !errors.Is(err, project.ErrNotFound) {
				t.Errorf("revoke %q: %v", id, err)
			}
			if _, err := db.WorkspaceKey(ctx, id); !errors.Is(err, project.ErrNotFound) {
				t.Errorf("read %q: %v", id, err)
			}
		}

		all, err := db.WorkspaceKeys(ctx)
		must(t, err)
		if diff := cmp.Diff([]project.WorkspaceKey{first, second}, all); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		one, err := db.WorkspaceKey(ctx, first.ID)
		must(t, err)
		if diff := cmp.Diff(first, one); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"workspace.key_created", "workspace.key_created", "workspace.key_revoked"}, events(t, db, "")); diff != "" {
			t.Errorf("events of the deployment (-want +got):\n%s", diff)
		}
	})
}

// Row: D04. The keys that an administrator made end with them, and nobody
// else's; who is removed at the same moment leaves no key that works.
func TestKeysEndWithTheirMaker(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		ctx, o := t.Context(), newOffice(t, db)
		first, err := o.by.FirstLink(ctx)
		must(t, err)
		kim, err := o.accept(first.ID, "Kim@example.test")
		must(t, err)
		key := func(id, by string, expires time.Time) project.WorkspaceKey {
			return project.WorkspaceKey{ID: id, Name: id, SecretHash: mac(id), MadeBy: by, CreatedAt: now, ExpiresAt: expires}
		}
		create := func(k project.WorkspaceKey) error {
			return db.CreateWorkspaceKey(ctx, k, audit.Event{At: now, Kind: audit.WorkspaceKeyCreated, Actor: k.MadeBy, Object: k.ID})
		}
		later := now.Add(time.Minute)
		for _, k := range []project.WorkspaceKey{
			key("a", kim.Email, time.Time{}), key("b", kim.Email, later.Add(time.Hour)), key("over", kim.Email, later), key("revoked", kim.Email, time.Time{}),
			key("operator's", audit.Operator, time.Time{}),
		} {
			must(t, create(k))
		}
		must(t, db.RevokeWorkspaceKey(ctx, "revoked", audit.Event{At: now, Kind: audit.WorkspaceKeyRevoked, Actor: audit.Operator, Object: "revoked"}))
		if err := create(key("nobody's", "lee@example.test", time.Time{})); !errors.Is(err, project.ErrNotFound) {
			t.Errorf("a key of nobody: %v", err)
		}

		// Ten are being made while she goes.
		var made atomic.Int64
		at(11, func(i int) {
			if i == 0 {
				e := audit.Event{At: later, Kind: audit.AdministratorRemoved, Actor: audit.Operator, Subject: kim.Email, Object: kim.ID}
				if err := db.RemoveAdministrator(ctx, kim, true, e); err != nil {
					t.Error(err)
				}
				return
			}
			switch err := create(key("raced-"+string(rune('a'+i)), kim.Email, time.Time{})); {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, project.ErrNotFound):
				t.Error(err)
			}
		})
		all, err := db.WorkspaceKeys(ctx)
		must(t, err)
		if len(all) != 5+int(made.Load()) {
			t.Errorf("%d keys, %d of them raced", len(all), made.Load())
		}
		for _, k := range all {
			want := map[string]string{"over": project.KeyEnded, "operator's": project.KeyWorks}[k.ID]
			if want == "" {
				want = project.KeyRevoked
			}
			if got := k.State(later); got != want {
				t.Errorf("%s: %s, want %s", k.ID, got, want)
			}
		}
		page, err := db.Events(ctx, audit.Query{Kinds: []audit.Kind{audit.WorkspaceKeyRevoked}, Limit: 50})
		must(t, err)
		if len(page.Events) != 1+2+int(made.Load()) {
			t.Errorf("%d events", len(page.Events))
		}
		for _, e := range page.Events {
			if e.Object != "revoked" && (e.Subject != kim.Email || e.Actor != audit.Operator || !e.At.Equal(later)) {
				t.Errorf("%+v", e)
			}
		}
		if err := create(key("late", kim.Email, time.Time{})); !errors.Is(err, project.ErrNotFound) {
			t.Errorf("a key of somebody who was removed: %v", err)
		}
	})
}

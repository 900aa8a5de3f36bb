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
		first := project.WorkspaceKey{ID: "workspace-key-prod-1", Name: "CI", SecretHash: mac("one"), CreatedAt: now}
		second := project.WorkspaceKey{ID: "workspace-key-prod-2", Name: "CI", SecretHash: mac("two"), CreatedAt: now.Add(time.Second)}
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

package oauth_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store"
)

type rigStore = *store.DB

// openRigStore opens a fresh SQLite database that holds the project.
func openRigStore(t *testing.T, p *project.Project, now func() time.Time) rigStore {
	t.Helper()
	ctx := t.Context()
	db, err := store.Open(ctx, store.Config{Path: filepath.Join(t.TempDir(), "postern.db"), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := db.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	e := audit.Event{ProjectID: p.ID, At: now(), Kind: audit.ProjectCreated, Actor: "operator"}
	if err := db.CreateProject(ctx, *p, e); err != nil {
		t.Fatal(err)
	}
	for _, r := range p.Resources {
		e.Kind = audit.ResourceAdded
		if err := db.AddResource(ctx, p.ID, r, p.Scopes, e); err != nil {
			t.Fatal(err)
		}
	}
	return db
}

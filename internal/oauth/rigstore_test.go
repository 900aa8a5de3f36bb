package oauth_test

import (
	"testing"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store"
)

type rigStore = *store.DB

// newest is the newest event of a kind.
func (r *rig) newest(kind audit.Kind) audit.Event {
	r.Helper()
	page, err := r.store.Events(r.Context(), audit.Query{ProjectID: r.project.ID, Kinds: []audit.Kind{kind}, Limit: 1})
	if err != nil || len(page.Events) != 1 {
		r.Fatalf("event %s: %v, %v", kind, page.Events, err)
	}
	return page.Events[0]
}

// openRigStore opens a fresh database and puts the project into it.
func openRigStore(t *testing.T, p *project.Project, database store.Config) rigStore {
	t.Helper()
	ctx := t.Context()
	db, err := store.Open(ctx, database)
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
	e := audit.Event{ProjectID: p.ID, At: database.Now(), Kind: audit.ProjectCreated, Actor: "operator"}
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

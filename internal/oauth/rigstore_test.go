package oauth_test

import (
	"database/sql"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signin"
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
		if err := db.AddResource(ctx, p.ID, nil, r, p.Scopes, e); err != nil {
			t.Fatal(err)
		}
	}
	signInRigPerson(t, db, p.ID, e.At)
	return db
}

// signInRigPerson makes the one person of a rig known to its store.
func signInRigPerson(t *testing.T, db *store.DB, projectID string, now time.Time) {
	t.Helper()
	browser, cookie := secret.New(secret.Flow, now), secret.New(secret.HostedSession, now)
	soon := now.Add(time.Hour)
	if err := db.CreateFlow(t.Context(), signin.Flow{
		ID: browser.ID, ProjectID: projectID, BrowserHash: browser.Hash[:], Request: []byte(`{}`), CreatedAt: now, ExpiresAt: soon,
	}, audit.Attempt{}); err != nil {
		t.Fatal(err)
	}
	if err := db.CreateEmailCode(t.Context(), signin.EmailCode{
		ID: "email-test-ada", ProjectID: projectID, FlowID: browser.ID, Email: "ada@example.test", EmailFolded: "ada@example.test",
		MAC: []byte("right"), CreatedAt: now, ExpiresAt: soon,
	}, signin.MailLimit{Count: 1, Window: time.Hour}, audit.Event{ProjectID: projectID, At: now, Kind: audit.CodeSent}); err != nil {
		t.Fatal(err)
	}
	out, err := db.RedeemEmailCode(t.Context(), signin.Redemption{
		ProjectID: projectID, FlowID: browser.ID, MethodID: "email-test-ada", MAC: []byte("right"), Tries: 1, DailyTries: 1,
		NewUserID: rigSubject, Now: now,
		Session: identity.Session{
			ID: "session-test-1", ProjectID: projectID, Kind: identity.Hosted, SecretID: cookie.ID, SecretHash: cookie.Hash[:],
			CreatedAt: now, LastSeenAt: now, IdleExpiresAt: soon, ExpiresAt: soon,
		},
	}, audit.Event{ProjectID: projectID, At: now, Kind: audit.SignedIn})
	if err != nil || !out.Right {
		t.Fatalf("%+v, %v", out, err)
	}
}

// lock shuts the rig's person out, or lets them in again. Nothing else happens:
// in the product what was given to them ends too.
func (r *rig) lock(locked bool) {
	r.Helper()
	r.people.locked = locked
	driver, source := "pgx", r.at.URL
	if source == "" {
		driver, source = "sqlite", "file:"+r.at.Path+"?_pragma=busy_timeout(5000)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		r.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(r.Context(), `UPDATE "user" SET active = $1 WHERE id = $2`, !locked, rigSubject); err != nil {
		r.Fatal(err)
	}
}

package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/store"
)

// office is a deployment and those who look after it.
type office struct {
	*store.DB
	t  *testing.T
	by *identity.Administrators
}

func newOffice(t *testing.T, db *store.DB) *office {
	return &office{DB: db, t: t, by: identity.NewAdministrators(db, func() time.Time { return now })}
}

// accept uses a link up with a new passkey.
func (o *office) accept(link, email string) (identity.Administrator, error) {
	id := secret.NewUUID(now)
	who := identity.Administrator{ID: "administrator-" + id, Email: email, CreatedAt: now}
	return who, o.acceptAs(link, who)
}

func (o *office) acceptAs(link string, who identity.Administrator) error {
	key := identity.Proof{Passkey: &identity.Passkey{ID: secret.NewUUID(now), AdministratorID: who.ID, Name: "Key", Credential: "{}", CreatedAt: now}}
	return o.AcceptAdministratorLink(o.t.Context(), link, who, key, session(who), adminEvent(audit.AdministratorCreated, who))
}

func session(who identity.Administrator) identity.AdministratorSession {
	cookie := secret.New(secret.AdminSession, now)
	return identity.AdministratorSession{
		ID: cookie.ID, AdministratorID: who.ID, SecretHash: cookie.Hash[:], CreatedAt: now, LastSeenAt: now,
		IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(day),
	}
}

// inside is a session in which an administrator is signed in.
func inside(t *testing.T, db *store.DB, id string) string {
	t.Helper()
	all, err := db.AdministratorSessions(t.Context(), id, now)
	must(t, err)
	if len(all) == 0 {
		t.Fatal("not signed in")
	}
	return all[0].ID
}

func adminEvent(kind audit.Kind, who identity.Administrator) audit.Event {
	return audit.Event{At: now, Kind: kind, Actor: who.Email, Object: who.ID}
}

func (o *office) count() int {
	o.t.Helper()
	all, err := o.Administrators(o.t.Context())
	must(o.t, err)
	return len(all)
}

// Rows: D02. Links of two servers, and a hundred browsers with the same one: one
// administrator.
func TestFirstAdministratorIsOne(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		o := newOffice(t, db)
		link, err := o.by.FirstLink(t.Context())
		must(t, err)
		var made atomic.Int64
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				switch _, err := o.accept(link.ID, fmt.Sprintf("a%d@example.test", i)); {
				case err == nil:
					made.Add(1)
				case !errors.Is(err, identity.ErrNotFound):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if made.Load() != 1 || o.count() != 1 {
			t.Errorf("%d succeeded and %d administrators are there, want 1 and 1", made.Load(), o.count())
		}
	})
}

// Rows: D03. Once claimed, the first link never comes back, whoever is removed;
// an invitation opens the deployment again.
func TestClaimIsForEver(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		o, ctx := newOffice(t, db), t.Context()
		early, err := o.by.FirstLink(ctx)
		must(t, err)
		link, err := o.by.FirstLink(ctx)
		must(t, err)
		if _, err := o.accept(early.ID, "early@example.test"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("the link that another replaced: %v, want ErrNotFound", err)
		}
		who, err := o.accept(link.ID, "ada@example.test")
		must(t, err)
		if _, err := o.by.FirstLink(ctx); !errors.Is(err, identity.ErrConflict) {
			t.Errorf("a first link after the claim: %v, want ErrConflict", err)
		}
		if err := o.by.Remove(ctx, who, false); !errors.Is(err, identity.ErrLastAdministrator) {
			t.Errorf("removing the last one: %v, want ErrLastAdministrator", err)
		}
		must(t, o.by.Remove(ctx, who, true))
		if claimed, err := db.Claimed(ctx); err != nil || !claimed || o.count() != 0 {
			t.Errorf("claimed %v, %v, %d administrators; want true and none", claimed, err, o.count())
		}
		if _, err := o.by.FirstLink(ctx); !errors.Is(err, identity.ErrConflict) {
			t.Errorf("a first link after everybody left: %v, want ErrConflict", err)
		}
		again, err := o.by.Invite(ctx, "Ada@example.test")
		must(t, err)
		if _, err = o.accept(again.ID, "ada@example.test"); err != nil || o.count() != 1 {
			t.Errorf("an invitation into an empty deployment: %v, %d administrators", err, o.count())
		}
	})
}

// A first link that was printed before somebody was invited makes no second
// administrator of a claimed deployment.
func TestFirstLinkEndsWithAnyClaim(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		o, ctx := newOffice(t, db), t.Context()
		first, err := o.by.FirstLink(ctx)
		must(t, err)
		invited, err := o.by.Invite(ctx, "ada@example.test")
		must(t, err)
		_, err = o.accept(invited.ID, "ada@example.test")
		must(t, err)
		if _, err := o.accept(first.ID, "eve@example.test"); !errors.Is(err, identity.ErrNotFound) || o.count() != 1 {
			t.Errorf("the first link after a claim: %v, %d administrators; want ErrNotFound and 1", err, o.count())
		}
	})
}

// Rows: D01. The fifth wrong secret ends a link; a late one is no link.
func TestLinkEndsAfterWrongSecrets(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		o, ctx := newOffice(t, db), t.Context()
		link, err := o.by.FirstLink(ctx)
		must(t, err)
		if _, err := db.AdministratorLink(ctx, link.ID, now.Add(identity.LinkLifetime)); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("a link after its end: %v, want ErrNotFound", err)
		}
		limit := identity.TryLimit{Kind: "admin_refused", Key: "192.0.2.1", Count: 3, Window: time.Hour}
		for i := range identity.LinkTries {
			if _, err := db.AdministratorLink(ctx, link.ID, now); err != nil {
				t.Fatalf("after %d wrong secrets: %v", i, err)
			}
			must(t, db.RefuseAdministratorLink(ctx, link.ID, limit, audit.Event{At: now, Kind: audit.AdministratorRefused, Refused: true}))
		}
		if _, err := db.AdministratorLink(ctx, link.ID, now); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("after five wrong secrets: %v, want ErrNotFound", err)
		}
		if _, err := o.accept(link.ID, "eve@example.test"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("using it: %v, want ErrNotFound", err)
		}
		if n := len(rows(t, db, "SELECT id FROM event WHERE project_id = '' AND kind = 'administrator.refused'")); n != 3 {
			t.Errorf("%d events of strangers, want the 3 that the limit has room for", n)
		}
	})
}

// Two who remove each other, and the last two ways to sign in: one stays.
func TestOneStays(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		o, ctx := newOffice(t, db), t.Context()
		var both []identity.Administrator
		for _, email := range []string{"ada@example.test", "bob@example.test"} {
			link, err := o.by.Invite(ctx, email)
			must(t, err)
			who, err := o.accept(link.ID, email)
			must(t, err)
			must(t, db.AddAdministratorProof(ctx, who.ID, inside(t, db, who.ID), identity.Proof{Password: &identity.Password{Hash: "x", TOTPSecret: []byte{1}, TOTPStep: 1}}, adminEvent(audit.AdministratorChanged, who)))
			both = append(both, who)
		}
		keys, err := db.AdministratorPasskeys(ctx, both[0].ID)
		must(t, err)
		together(t, identity.ErrLastWay,
			func() error {
				return db.RemoveAdministratorProof(ctx, both[0].ID, inside(t, db, both[0].ID), keys[0].ID, adminEvent(audit.AdministratorChanged, both[0]))
			},
			func() error {
				return db.RemoveAdministratorProof(ctx, both[0].ID, inside(t, db, both[0].ID), "", adminEvent(audit.AdministratorChanged, both[0]))
			},
		)
		together(t, identity.ErrLastAdministrator,
			func() error { return o.by.Remove(ctx, both[0], false) },
			func() error { return o.by.Remove(ctx, both[1], false) },
		)
		if o.count() != 1 {
			t.Errorf("%d administrators are left, want 1", o.count())
		}
	})
}

// together runs functions at once: one succeeds, the others return want.
func together(t *testing.T, want error, all ...func() error) {
	t.Helper()
	var group sync.WaitGroup
	var succeeded atomic.Int64
	for _, do := range all {
		group.Go(func() {
			switch err := do(); {
			case err == nil:
				succeeded.Add(1)
			case !errors.Is(err, want):
				t.Errorf("got %v, want %v", err, want)
			}
		})
	}
	group.Wait()
	if succeeded.Load() != 1 {
		t.Errorf("%d of %d succeeded, want 1", succeeded.Load(), len(all))
	}
}

// Rows: P15. Fifty browsers with the same code: one session; an older step never
// again. A sign-in gives its counted tries back.
func TestCodeIsUsedOnce(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		o, ctx := newOffice(t, db), t.Context()
		link, err := o.by.FirstLink(ctx)
		must(t, err)
		who, err := o.accept(link.ID, "ada@example.test")
		must(t, err)
		password := identity.Password{Hash: "hash", TOTPSecret: []byte{1}, TOTPStep: 10}
		must(t, db.AddAdministratorProof(ctx, who.ID, inside(t, db, who.ID), identity.Proof{Password: &password}, adminEvent(audit.AdministratorChanged, who)))
		limits := []identity.TryLimit{{Kind: "try", Key: "ada", Count: 2, Window: time.Minute}}
		signIn := func(step int64, hash string) error {
			return db.SignInByPassword(ctx, who.ID, identity.Password{Hash: hash, TOTPStep: step}, limits, session(who), adminEvent(audit.AdministratorSignedIn, who))
		}
		if err := signIn(11, "another"); !errors.Is(err, identity.ErrStale) {
			t.Errorf("a password that was changed: %v, want ErrStale", err)
		}
		var all []func() error
		for range 50 {
			all = append(all, func() error { return signIn(11, "hash") })
		}
		together(t, identity.ErrStale, all...)
		if err := signIn(10, "hash"); !errors.Is(err, identity.ErrStale) {
			t.Errorf("an older step: %v, want ErrStale", err)
		}
		must(t, db.CountAdministratorTry(ctx, limits, now))
		must(t, db.CountAdministratorTry(ctx, limits, now))
		if err := db.CountAdministratorTry(ctx, limits, now); !errors.Is(err, identity.ErrLimited) {
			t.Errorf("a third try: %v, want ErrLimited", err)
		}
		must(t, signIn(12, "hash"))
		must(t, db.CountAdministratorTry(ctx, limits, now))
	})
}

// Rows: W01. What is remembered between two steps is given out once, and not
// late.
func TestCeremonyIsTakenOnce(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		must(t, db.KeepCeremony(ctx, "late", []byte{1}, []byte("state"), now))
		if _, _, err := db.TakeCeremony(ctx, "late", now); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("a late one: %v, want ErrNotFound", err)
		}
		for _, id := range []string{"one", "two", "three", "four"} { // connections are open from the second on
			must(t, db.KeepCeremony(ctx, id, []byte{1}, []byte("state"), now.Add(time.Minute)))
			var all []func() error
			for range 20 {
				all = append(all, func() error {
					_, state, err := db.TakeCeremony(ctx, id, now)
					if err == nil && string(state) != "state" {
						t.Errorf("state %q", state)
					}
					return err
				})
			}
			together(t, identity.ErrNotFound, all...)
		}
	})
}

// A reset ends sessions and ways; its link gives the same administrator a new
// one, once. Who was removed is signed out.
// Row: W13.
func TestResetAndRemoveSignOut(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		o, ctx := newOffice(t, db), t.Context()
		link, err := o.by.FirstLink(ctx)
		must(t, err)
		who, err := o.accept(link.ID, "ada@example.test")
		must(t, err)
		open := func() int {
			all, err := db.AdministratorSessions(ctx, who.ID, now)
			must(t, err)
			return len(all)
		}
		if open() != 1 {
			t.Fatalf("%d sessions after the first link, want 1", open())
		}
		if _, err := o.by.Invite(ctx, "ADA@example.test"); !errors.Is(err, identity.ErrConflict) {
			t.Errorf("an invitation of somebody who is one: %v, want ErrConflict", err)
		}
		for range 4 { // connections are open from the second on
			reset, err := o.by.Reset(ctx, who)
			must(t, err)
			found, err := o.by.Find(ctx, "ADA@example.test")
			must(t, err)
			if open() != 0 || found.Passkeys != 0 || found.Password {
				t.Errorf("after a reset: %d sessions, %+v", open(), found)
			}
			var all []func() error
			for range 20 {
				all = append(all, func() error { return o.acceptAs(reset.ID, who) })
			}
			together(t, identity.ErrNotFound, all...)
		}
		if found, err := o.by.Find(ctx, "ada@example.test"); err != nil || found.ID != who.ID || found.Passkeys != 1 || open() != 1 || o.count() != 1 {
			t.Errorf("after its link: %+v, %v, %d sessions", found, err, open())
		}
		must(t, o.by.Remove(ctx, who, true))
		if open() != 0 {
			t.Error("a removed administrator has a session")
		}
		if _, err := o.by.Reset(ctx, who); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("a reset of a removed one: %v, want ErrNotFound", err)
		}
	})
}

// What has run out of administrators is deleted too.
func TestCleanOfTheDeployment(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		o, ctx := newOffice(t, db), t.Context()
		link, err := o.by.FirstLink(ctx)
		must(t, err)
		_, err = o.accept(link.ID, "ada@example.test")
		must(t, err)
		_, err = o.by.Invite(ctx, "bob@example.test")
		must(t, err)
		must(t, db.KeepCeremony(ctx, "one", []byte{1}, []byte{1}, now.Add(time.Minute)))
		must(t, db.CountAdministratorTry(ctx, []identity.TryLimit{{Kind: "try", Key: "ada", Count: 2, Window: time.Minute}}, now))
		if n, err := db.Clean(ctx, now.Add(-time.Minute), 10); err != nil || n != 0 {
			t.Errorf("before anything ran out %d rows were deleted, %v", n, err)
		}
		if n, err := db.Clean(ctx, now.Add(2*day), 10); err != nil || n != 4 {
			t.Errorf("%d rows were deleted, %v; want session, link, ceremony and counter", n, err)
		}
	})
}

// Whoever was signed out since they asked, as by a reset, gets no other way to sign
// in and takes none away.
func TestSignedOutWhileAdding(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		o, ctx := newOffice(t, db), t.Context()
		who := o.first()
		password := identity.Proof{Password: &identity.Password{Hash: "stolen", TOTPSecret: []byte{1}, TOTPStep: 1}}
		add := func(sessionID string) error {
			return db.AddAdministratorProof(ctx, who.ID, sessionID, password, adminEvent(audit.AdministratorChanged, who))
		}
		s := session(who)
		must(t, db.SignInByPassword(ctx, who.ID, identity.Password{Hash: "hash", TOTPStep: 99}, nil, s, adminEvent(audit.AdministratorSignedIn, who)))
		must(t, add(s.ID))
		link := identity.AdministratorLink{
			ID: "reset", SecretHash: []byte("secret"), Email: who.Email, AdministratorID: who.ID, CreatedAt: now, ExpiresAt: now.Add(time.Hour),
		}
		must(t, db.ResetAdministrator(ctx, link, adminEvent(audit.AdministratorChanged, who)))
		if err := add(s.ID); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("a password after the reset: %v", err)
		}
		if err := db.RemoveAdministratorProof(ctx, who.ID, s.ID, "", adminEvent(audit.AdministratorChanged, who)); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("taken away after the reset: %v", err)
		}
		if _, kept, err := db.AdministratorByAddress(ctx, identity.Fold(who.Email)); err != nil || kept.Hash != "" {
			t.Errorf("the password after the reset: %q, %v", kept.Hash, err)
		}
	})
}

package store_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store"
)

// A list by prefix, page by page: whoever is found by id first, by id, and then
// by address, by address; each once.
func TestUsersPageByPage(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		for i := range 5 {
			w.signIn(fmt.Sprintf("user-%d@example.test", 4-i))
		}
		walk := func(query string) (all []identity.User) {
			after := ""
			for {
				page, err := db.Users(t.Context(), w.project.ID, query, after, 2)
				must(t, err)
				if all = append(all, page...); len(page) < 2 {
					return all
				}
				after = page[1].ID
			}
		}
		emails := func(users []identity.User) (all []string) {
			for _, u := range users {
				all = append(all, u.Email)
			}
			return all
		}
		want := []string{"user-0@example.test", "user-1@example.test", "user-2@example.test", "user-3@example.test", "user-4@example.test"}
		all := walk("")
		if len(all) != 6 || !slices.IsSortedFunc(all, func(a, b identity.User) int { return cmpText(a.ID, b.ID) }) {
			t.Errorf("all: %v", emails(all))
		}
		if got := emails(walk("USER-")); len(got) != 6 {
			t.Errorf("ids and addresses alike: %v", got)
		}
		for i := range 5 {
			if got := emails(walk(fmt.Sprint("user-", i))); !slices.Equal(got, want[i:i+1]) {
				t.Errorf("user-%d: %v", i, got)
			}
		}
		for i := range 5 {
			w.signIn(fmt.Sprintf("zoe-%d@example.test", 4-i))
		}
		want = []string{"zoe-0@example.test", "zoe-1@example.test", "zoe-2@example.test", "zoe-3@example.test", "zoe-4@example.test"}
		zoes := walk("zoe")
		if diff := cmp.Diff(want, emails(zoes)); diff != "" {
			t.Error(diff)
		}
		must(t, db.DeleteUser(t.Context(), w.project.ID, zoes[1].ID, w.event(audit.UserDeleted)))
		if _, err := db.Users(t.Context(), w.project.ID, "zoe", zoes[1].ID, 2); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("after somebody who is gone: %v", err)
		}
	})
}

func cmpText(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Who is shut out has no session, no grant and no way in; who is let in again
// has a way in and nothing else.
func TestSetUserActive(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, ctx := newWorld(t, db, "auth.example.com"), t.Context()
		session := w.signIn("ada@example.test").Session
		_, family := w.family(now, "read:notes")
		set := func(active bool, kind audit.Kind) int {
			t.Helper()
			n, err := db.SetUserActive(ctx, w.project.ID, w.user.ID, active, w.event(kind))
			must(t, err)
			return n
		}
		if n := set(true, audit.UserActivated); n != 0 || !w.alive(family.ID) {
			t.Errorf("already in: %d grants", n)
		}
		if n := set(false, audit.UserDeactivated); n != 1 {
			t.Errorf("%d grants", n)
		}
		if n := set(false, audit.UserDeactivated); n != 0 {
			t.Errorf("again: %d grants", n)
		}
		if u, err := db.User(ctx, w.project.ID, w.user.ID); err != nil || u.Active {
			t.Errorf("%+v, %v", u, err)
		}
		if w.alive(family.ID) || len(w.feed()) != 2 {
			t.Errorf("the grant lives, or nobody is told: %v", w.feed())
		}
		if _, _, err := db.Session(ctx, w.project.ID, session.SecretID, identity.Hosted, now); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("the session lives: %v", err)
		}
		if all, err := db.Sessions(ctx, w.project.ID, w.user.ID, now, 10); err != nil || len(all) != 0 {
			t.Errorf("sessions: %v, %v", all, err)
		}
		f := w.flow(now)
		mail := w.emailCode(f, "ada@example.test", "123456", now)
		must(t, db.CreateEmailCode(ctx, mail, generous, w.event(audit.CodeSent)))
		if out, err := db.RedeemEmailCode(ctx, w.try(mail, "123456", now), w.event(audit.SignedIn)); err == nil && out.Session.ID != "" {
			t.Errorf("signed in: %+v", out)
		}
		set(true, audit.UserActivated)
		if out := w.signIn("ada@example.test"); out.User.ID != w.user.ID || out.Created {
			t.Errorf("let in again: %+v", out)
		}
		if w.alive(family.ID) {
			t.Error("the grant came back")
		}
		all := events(t, db, w.project.ID)
		if count(all, "user.deactivated") != 1 || count(all, "user.activated") != 1 {
			t.Errorf("%v", all)
		}
		if _, err := db.SetUserActive(ctx, w.project.ID, "x", false, w.event(audit.UserDeactivated)); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}
	})
}

// Proves: OIDC-2-g
func TestDeleteUser(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, ctx := newWorld(t, db, "auth.example.com"), t.Context()
		_, family := w.family(now, "read:notes")
		code := w.allow(now, "read:notes")
		stranger := *w
		stranger.user = w.signIn("zoe@example.test").User
		_, theirs := stranger.family(now, "read:notes")

		must(t, db.DeleteUser(ctx, w.project.ID, w.user.ID, w.event(audit.UserDeleted)))
		if _, err := db.User(ctx, w.project.ID, w.user.ID); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("the user: %v", err)
		}
		if _, err := db.Live(ctx, w.project.ID, family.ID, "jti"); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("the family: %v", err)
		}
		if !w.alive(theirs.ID) {
			t.Error("another's grant died")
		}
		if err := w.redeemCode(w.redeem(code, now)); err == nil {
			t.Error("a code under way was redeemed")
		}
		feed := w.feed()
		want := []string{"1 family " + family.ID, "2 grant " + family.GrantID}
		if diff := cmp.Diff(want, feed); diff != "" {
			t.Error(diff)
		}
		for _, table := range []string{`"grant"`, "family", "session", "grant_scope"} {
			column := map[string]string{"grant_scope": "grant_id"}[table]
			value := family.GrantID
			if column == "" {
				column, value = "subject", w.user.ID
			}
			if n := rows(t, db, "SELECT count(*) FROM "+table+" WHERE "+column+" = $1", value); n[0] != "0" {
				t.Errorf("%s keeps %s rows", table, n[0])
			}
		}
		if err := db.DeleteUser(ctx, w.project.ID, w.user.ID, w.event(audit.UserDeleted)); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("again: %v", err)
		}
		if n := count(events(t, db, w.project.ID), "user.deleted"); n != 1 {
			t.Errorf("%d events", n)
		}
		if out := w.signIn("ada@example.test"); out.User.ID == w.user.ID || !out.Created {
			t.Errorf("the address is somebody new: %+v", out)
		}
	})
}

// However a sign-in and the deletion of the user meet, no session of somebody
// who is gone stays.
func TestDeleteUserWhileSigningIn(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, ctx := newWorld(t, db, "auth.example.com"), t.Context()
		for i := range 10 {
			email := fmt.Sprintf("racer-%d@example.test", i)
			u := w.signIn(email).User
			var tries []signin.Redemption
			for range 4 {
				f := w.flow(now)
				mail := w.emailCode(f, email, "123456", now)
				must(t, db.CreateEmailCode(ctx, mail, generous, w.event(audit.CodeSent)))
				tries = append(tries, w.try(mail, "123456", now))
			}
			var all sync.WaitGroup
			for _, try := range tries {
				all.Go(func() {
					if _, err := db.RedeemEmailCode(ctx, try, w.event(audit.SignedIn)); err != nil && !errors.Is(err, identity.ErrNotFound) {
						t.Errorf("redeem: %v", err)
					}
				})
			}
			all.Go(func() { must(t, db.DeleteUser(ctx, w.project.ID, u.ID, w.event(audit.UserDeleted))) })
			all.Wait()
			if n := rows(t, db, "SELECT count(*) FROM session WHERE subject = $1", u.ID); n[0] != "0" {
				t.Fatalf("%s sessions of somebody who is gone", n[0])
			}
		}
	})
}

// However consent, the exchange of its code and the end of the user meet, nothing
// that was given stays.
func TestUserEndsWhileGiving(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, ctx := newWorld(t, db, "auth.example.com"), t.Context()
		for i := range 20 {
			t.Run("T28 "+[]string{"deleted", "locked"}[i%2], func(t *testing.T) {
				w.user = w.signIn(fmt.Sprintf("racer-%d@example.test", i)).User
				first := w.redeem(w.allow(now, "read:notes"), now)
				second := w.decision(now, "write:notes")
				at(3, func(n int) {
					switch {
					case n == 0:
						if err := w.redeemCode(first); err != nil && !errors.Is(err, oauth.ErrDead) {
							t.Errorf("redeem: %v", err)
						}
					case n == 1:
						err := db.Decide(ctx, second, w.event(audit.GrantAllowed))
						if err == nil {
							var c oauth.Code
							if c, err = db.Code(ctx, w.project.ID, second.Code.ID); err == nil {
								err = w.redeemCode(w.redeem(c, now))
							}
						}
						if err != nil && !errors.Is(err, oauth.ErrDead) && !errors.Is(err, oauth.ErrNotFound) {
							t.Errorf("decide: %v", err)
						}
					case i%2 == 0:
						must(t, db.DeleteUser(ctx, w.project.ID, w.user.ID, w.event(audit.UserDeleted)))
					default:
						_, err := db.SetUserActive(ctx, w.project.ID, w.user.ID, false, w.event(audit.UserDeactivated))
						must(t, err)
					}
				})
				for what, query := range map[string]string{
					"grants":   `SELECT count(*) FROM "grant" WHERE subject = $1 AND revoked_at = 0`,
					"families": "SELECT count(*) FROM family WHERE subject = $1 AND revoked_at = 0",
				} {
					if n := rows(t, db, query, w.user.ID); n[0] != "0" {
						t.Errorf("%s %s of somebody who is shut out", n[0], what)
					}
				}
			})
		}
	})
}

func TestSessionsOfASubject(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, ctx := newWorld(t, db, "auth.example.com"), t.Context()
		one, two := w.signIn("ada@example.test").Session, w.signIn("ada@example.test").Session
		w.signIn("zoe@example.test")
		must(t, db.TouchSession(ctx, w.project.ID, one.ID, now.Add(time.Minute), now.Add(time.Hour)))
		ids := func(at time.Time, limit int) (all []string) {
			t.Helper()
			sessions, err := db.Sessions(ctx, w.project.ID, w.user.ID, at, limit)
			must(t, err)
			for _, s := range sessions {
				all = append(all, s.ID)
			}
			return all
		}
		if got := ids(now, 10); len(got) != 3 || got[0] != one.ID { // and the world's own
			t.Errorf("seen last first: %v", got)
		}
		if got := ids(now, 1); len(got) != 1 {
			t.Errorf("at most one: %v", got)
		}
		if got := ids(now.Add(time.Hour), 10); slices.Contains(got, one.ID) || len(got) != 2 {
			t.Errorf("after its idle end: %v", got)
		}
		zoe := w.signIn("zoe@example.test").User
		if err := db.EndSubjectSession(ctx, w.project.ID, zoe.ID, two.ID, w.event(audit.SignedOut)); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("another's: %v", err)
		}
		must(t, db.EndSubjectSession(ctx, w.project.ID, w.user.ID, two.ID, w.event(audit.SignedOut)))
		if err := db.EndSubjectSession(ctx, w.project.ID, w.user.ID, two.ID, w.event(audit.SignedOut)); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("again: %v", err)
		}
		if got := ids(now, 10); slices.Contains(got, two.ID) || len(got) != 2 {
			t.Errorf("one ended: %v", got)
		}
		if n := count(events(t, db, w.project.ID), "session.ended"); n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

// A member's session ends with the browser it is in: otherwise one click would
// open the organization again.
func TestRevokeMember(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, ctx := newWorld(t, db, "auth.example.com"), t.Context()
		o := w.organization("fennel", nil)
		m := w.member(o, "ada@example.test")
		other := w.organization("quarry", nil)
		first, second := w.browser("ada@example.test"), w.browser("ada@example.test")
		session, _, err := w.enter(first, o.ID)
		must(t, err)
		_, _, err = w.enter(second, o.ID)
		must(t, err)
		must(t, db.EndSubjectSession(ctx, w.project.ID, m.ID, session.ID, w.event(audit.SignedOut)))
		if _, err := db.Browser(ctx, w.project.ID, first.ID, now); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("the browser lives: %v", err)
		}
		if _, err := db.Browser(ctx, w.project.ID, second.ID, now); err != nil {
			t.Errorf("the other browser: %v", err)
		}
		member := *w
		member.user.ID = m.ID
		d := member.decision(now, "read:notes")
		d.Grant.Organization, d.Code.Organization = o.ID, o.ID
		must(t, db.Decide(ctx, d, w.event(audit.GrantAllowed)))

		n, err := db.RevokeMember(ctx, m, w.event(audit.MemberRevoked))
		if err != nil || n != 1 {
			t.Errorf("%d grants, %v", n, err)
		}
		if _, err := db.Browser(ctx, w.project.ID, second.ID, now); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("a browser lives: %v", err)
		}
		if apps, err := db.OrganizationApps(ctx, w.project.ID, o.ID, "", 10); err != nil || len(apps) != 0 {
			t.Errorf("grants: %v, %v", apps, err)
		}
		if n := count(events(t, db, w.project.ID), "member.revoked"); n != 1 {
			t.Errorf("%d events", n)
		}
		m.OrganizationID = other.ID
		if _, err := db.RevokeMember(ctx, m, w.event(audit.MemberRevoked)); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("by another organization: %v", err)
		}
	})
}

package store_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store"
)

func TestUsers(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		ada := w.user
		zoe := w.signIn("Zoe@Example.test").User
		adam := w.signIn("adam@example.test").User

		got, err := db.User(t.Context(), w.project.ID, zoe.ID)
		must(t, err)
		if diff := cmp.Diff(zoe, got); diff != "" || zoe.Email != "Zoe@Example.test" || !zoe.EmailVerified || !zoe.Active {
			t.Errorf("%+v\n%s", zoe, diff)
		}
		if _, err := db.User(t.Context(), w.project.ID, "x"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("unknown user: %v", err)
		}

		for _, test := range []struct {
			query, after string
			limit        int
			want         []string
		}{
			{"", "", 10, []string{ada.ID, zoe.ID, adam.ID}},
			{"", "", 2, []string{ada.ID, zoe.ID}},
			{"", zoe.ID, 10, []string{adam.ID}},
			{"ADA", "", 10, []string{ada.ID, adam.ID}},
			{"ada@", "", 10, []string{ada.ID}},
			{"zoe@example.test", "", 10, []string{zoe.ID}},
			{adam.ID, "", 10, []string{adam.ID}},
			{"%", "", 10, nil},
			{"nobody", "", 10, nil},
		} {
			users, err := db.Users(t.Context(), w.project.ID, test.query, test.after, test.limit)
			must(t, err)
			var ids []string
			for _, u := range users {
				ids = append(ids, u.ID)
			}
			slices.Sort(test.want) // ids of one moment are in any order
			if test.limit > 2 && !slices.Equal(slices.Sorted(slices.Values(ids)), test.want) && test.after == "" {
				t.Errorf("%q: %v, want %v", test.query, ids, test.want)
			}
			if test.query == "" && !slices.IsSorted(ids) || len(ids) > test.limit || slices.Contains(ids, test.after) {
				t.Errorf("%q after %q: %v", test.query, test.after, ids)
			}
		}
	})
}

func TestSession(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		s := w.signIn("ada@example.test").Session
		read := func(at time.Time) (identity.Session, error) {
			got, user, err := db.Session(t.Context(), w.project.ID, s.SecretID, identity.Hosted, at)
			if err == nil && user.ID != w.user.ID {
				t.Errorf("session of user %s", user.ID)
			}
			return got, err
		}
		dead := func(name string, at time.Time) {
			t.Helper()
			if got, err := read(at); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("%s: %+v, %v", name, got, err)
			}
		}

		got, err := read(now)
		must(t, err)
		if diff := cmp.Diff(s, got); diff != "" {
			t.Error(diff)
		}
		dead("at its idle end", s.IdleExpiresAt)
		if _, _, err := db.Session(t.Context(), w.project.ID, s.SecretID, identity.API, now); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("at the other door: %v", err)
		}

		seen := now.Add(time.Hour)
		must(t, db.TouchSession(t.Context(), w.project.ID, s.ID, seen, seen.Add(12*time.Hour)))
		must(t, db.TouchSession(t.Context(), w.project.ID, s.ID, now, now.Add(time.Minute))) // an older request
		if got, err = read(s.IdleExpiresAt); err != nil || !got.LastSeenAt.Equal(seen) || !got.IdleExpiresAt.Equal(seen.Add(12*time.Hour)) {
			t.Errorf("after a touch: %+v, %v", got, err)
		}
		late := seen.Add(12 * time.Hour)
		must(t, db.TouchSession(t.Context(), w.project.ID, s.ID, late, late.Add(12*time.Hour)))
		dead("touched at its idle end", late)

		for range 2 {
			must(t, db.EndSession(t.Context(), w.project.ID, s.ID, w.event(audit.SignedOut)))
		}
		dead("ended", now)
		if n := count(events(t, db, w.project.ID), "session.ended"); n != 1 {
			t.Errorf("%d events", n)
		}

		for range 3 {
			w.signIn("ada@example.test")
		}
		other := w.signIn("zoe@example.test").Session
		n, err := db.EndSessions(t.Context(), w.project.ID, w.user.ID, w.event(audit.SignedOut))
		if err != nil || n != 4 { // the world's own and three
			t.Errorf("ended %d: %v", n, err)
		}
		if _, _, err := db.Session(t.Context(), w.project.ID, other.SecretID, identity.Hosted, now); err != nil {
			t.Errorf("another's session: %v", err)
		}
	})
}

func TestRevokeUser(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		session := w.signIn("ada@example.test").Session
		_, one := w.family(now, "read:notes")
		_, two := w.family(now, "read:notes")
		second := w.newClient("second")
		must(t, db.CreateClient(t.Context(), second, nil, w.event(audit.ClientCreated)))
		other := *w
		other.client = second
		_, three := other.family(now, "read:notes")
		stranger := *w
		stranger.user = w.signIn("zoe@example.test").User
		_, theirs := stranger.family(now, "read:notes")

		n, err := db.RevokeUser(t.Context(), w.project.ID, w.user.ID, w.event(audit.UserRevoked))
		if err != nil || n != 2 {
			t.Fatalf("%d grants, %v", n, err)
		}
		for _, f := range []oauth.Family{one, two, three} {
			if w.alive(f.ID) {
				t.Errorf("family %s lives", f.ID)
			}
		}
		if !w.alive(theirs.ID) {
			t.Error("another's family died")
		}
		if _, _, err := db.Session(t.Context(), w.project.ID, session.SecretID, identity.Hosted, now); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("session: %v", err)
		}
		var values []string
		for i, line := range w.feed() {
			sequence, rest := line[:2], line[2:]
			if sequence != fmt.Sprint(i+1, " ") {
				t.Errorf("line %d: %q", i, line)
			}
			values = append(values, rest)
		}
		want := []string{"family " + one.ID, "family " + two.ID, "family " + three.ID, "grant " + one.GrantID, "grant " + three.GrantID}
		slices.Sort(want)
		slices.Sort(values)
		if diff := cmp.Diff(want, values); diff != "" {
			t.Error(diff)
		}
		if n, err := db.RevokeUser(t.Context(), w.project.ID, w.user.ID, w.event(audit.UserRevoked)); n != 0 || err != nil {
			t.Errorf("again: %d, %v", n, err)
		}
		if _, err := db.RevokeUser(t.Context(), w.project.ID, "x", w.event(audit.UserRevoked)); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}
		if out := w.signIn("ada@example.test"); out.User.ID != w.user.ID || out.Created {
			t.Errorf("the user cannot come back: %+v", out)
		}
	})
}

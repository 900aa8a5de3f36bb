package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store"
)

// sizes counts the rows of the tables that are cleaned.
func sizes(t *testing.T, db *store.DB) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, table := range []string{"flow", "email_code", "code", "browser", "session", "family", "revoked_token", "client_assertion", "revocation", "counter"} {
		all[table] = rows(t, db, "SELECT count(*) FROM "+table)[0]
	}
	return all
}

// clean cleans until nothing is left, a few rows at a time.
func clean(t *testing.T, db *store.DB, at time.Time) (total int) {
	t.Helper()
	for {
		n, err := db.Clean(t.Context(), at, 3)
		must(t, err)
		if n == 0 {
			return total
		}
		total += n
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		second := newWorld(t, db, "second.example.com")
		clean(t, db, now) // limits of no time, from making the worlds
		for i := range 10 {
			w.family(now, "read:notes")
			second.family(now, "read:notes")
			must(t, db.RevokeToken(t.Context(), w.project.ID, fmt.Sprint(i), now.Add(15*time.Minute), w.event(audit.TokenRevoked)))
			must(t, db.UseAssertion(t.Context(), w.project.ID, w.client.ID, fmt.Sprint(i), now.Add(5*time.Minute)))
			must(t, db.Count(t.Context(), w.project.ID, oauth.Counter{Kind: "k", Key: fmt.Sprint(i), Limit: 1, Window: time.Minute}, now))
			c := w.emailCode(w.flow(now), fmt.Sprintf("p%d@example.test", i), "123456", now)
			must(t, db.CreateEmailCode(t.Context(), c, signin.MailLimit{Gap: time.Second, Count: 5, Window: time.Hour}, w.event(audit.CodeSent)))
		}
		token, live := w.family(now, "read:notes")
		at := now
		for range 12 { // in use for twelve weeks
			at = at.Add(7 * day)
			r := w.rotation(token, at)
			_, err := w.rotate(r)
			must(t, err)
			token = next(r)
		}

		if n := clean(t, db, now); n != 0 {
			t.Errorf("%d rows were deleted that live", n)
		}
		before := sizes(t, db)
		clean(t, db, now.Add(20*time.Minute))
		want := before
		want["flow"], want["email_code"], want["revoked_token"], want["revocation"], want["client_assertion"] = "0", "0", "0", "0", "0"
		want["counter"] = "14" // the hours of twelve addresses, and two days
		if diff := cmp.Diff(want, sizes(t, db)); diff != "" {
			t.Errorf("after 20 minutes: %s", diff)
		}
		clean(t, db, now.Add(2*time.Hour))
		want["code"], want["counter"] = "0", "2"
		if diff := cmp.Diff(want, sizes(t, db)); diff != "" {
			t.Errorf("after 2 hours: %s", diff)
		}
		clean(t, db, now.Add(12*time.Hour))
		want["session"] = "0"
		if diff := cmp.Diff(want, sizes(t, db)); diff != "" {
			t.Errorf("after 12 hours: %s", diff)
		}
		if !w.alive(live.ID) {
			t.Error("a live family was deleted")
		}
		// A day after its end, for the last access token of it.
		clean(t, db, now.Add(91*day-time.Microsecond))
		if _, _, err := db.Family(t.Context(), w.project.ID, token.FamilyID); err != nil {
			t.Errorf("90 days: %v", err)
		}
		clean(t, db, now.Add(91*day))
		want["family"], want["counter"] = "0", "0"
		if diff := cmp.Diff(want, sizes(t, db)); diff != "" {
			t.Errorf("after 91 days: %s", diff)
		}
		if _, _, err := db.Family(t.Context(), w.project.ID, token.FamilyID); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("91 days: %v", err)
		}
		if used := w.lastUse(live.GrantID); !used.Equal(at) {
			t.Errorf("without its families the grant was last used at %v, not %v", used, at)
		}
	})
}

// A family that was revoked is gone a day later, and not in three months.
func TestCleanRevokedFamily(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		_, family := w.family(now, "read:notes")
		must(t, w.RevokeFamily(t.Context(), w.project.ID, family.ID, now.Add(day), w.event(audit.TokenRevoked)))
		clean(t, db, now.Add(day-time.Microsecond))
		if w.alive(family.ID) {
			t.Error("it lives")
		}
		clean(t, db, now.Add(day))
		if _, err := db.Live(t.Context(), w.project.ID, family.ID, "jti"); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("a day later: %v", err)
		}
	})
}

// A browser is gone when it ran out, with the sessions below it, and not while
// somebody uses it.
func TestCleanBrowsers(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		must(t, db.EndSession(t.Context(), w.project.ID, rows(t, db, "SELECT id FROM session")[0], w.event(audit.SignedOut)))
		o := w.organization("fennel", nil)
		w.member(o, "ada@example.test")
		var last identity.Browser
		for range 5 {
			last = w.browser("ada@example.test")
			_, _, err := w.enter(last, o.ID)
			must(t, err)
		}
		seen := now.Add(11 * time.Hour)
		must(t, db.TouchBrowser(t.Context(), w.project.ID, last.ID, seen, seen.Add(12*time.Hour)))
		for _, test := range []struct {
			after            time.Duration
			browsers, inThem string
		}{
			{12*time.Hour - time.Microsecond, "5", "5"},
			{12 * time.Hour, "1", "1"},
			{23*time.Hour - time.Microsecond, "1", "1"},
			{23 * time.Hour, "0", "0"},
		} {
			clean(t, db, now.Add(test.after))
			if got := sizes(t, db); got["browser"] != test.browsers || got["session"] != test.inThem {
				t.Errorf("after %v: %s browsers, %s sessions", test.after, got["browser"], got["session"])
			}
		}
		if _, err := db.Member(t.Context(), w.project.ID, o.ID, rows(t, db, "SELECT id FROM member")[0]); err != nil {
			t.Errorf("the member: %v", err)
		}
	})
}

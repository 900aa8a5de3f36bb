package store_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store"
)

func TestCounter(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		c := oauth.Counter{Kind: "client_auth", Key: "client", Limit: 3, Window: time.Minute}
		add := func(c oauth.Counter, at time.Time) bool {
			t.Helper()
			err := db.Count(t.Context(), w.project.ID, c, at)
			if err != nil && !errors.Is(err, oauth.ErrLimited) {
				t.Fatal(err)
			}
			return err == nil
		}
		full := func(c oauth.Counter, at time.Time) bool {
			t.Helper()
			n, err := db.Counted(t.Context(), w.project.ID, c, at)
			must(t, err)
			return n >= c.Limit
		}
		for i := range 5 {
			at := now.Add(time.Duration(i) * time.Second)
			if before := full(c, at); before != (i >= 3) {
				t.Errorf("full before %d: %v", i, before)
			}
			if ok := add(c, at); ok != (i < 3) {
				t.Errorf("count %d: %v", i, ok)
			}
		}
		other := c
		other.Key = "other"
		if !add(other, now) {
			t.Error("another key is full")
		}
		other = c
		other.Kind = "mail"
		if !add(other, now) {
			t.Error("another kind is full")
		}
		if end := now.Add(time.Minute); !full(c, end.Add(-time.Microsecond)) || full(c, end) || !add(c, end) || !add(c, end) || full(c, end) {
			t.Error("the window did not begin anew at its end")
		}
		if none := (oauth.Counter{Kind: "k", Key: "k", Window: time.Minute}); add(none, now) {
			t.Error("a limit of nothing has room")
		}
	})
}

// A database that cannot count has not counted too many: whoever is told so would
// wait, and a refusal that was not kept would be answered as one too many to keep.
func TestCountThatFails(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		db := open(t, c)
		w := newWorld(t, db, "auth.example.com")
		_, err := outside(t, c).Exec("ALTER TABLE counter RENAME TO elsewhere")
		must(t, err)
		many := oauth.Counter{Kind: "refused", Key: "client", Limit: 100, Window: time.Minute}
		for name, err := range map[string]error{
			"a try":                  db.Count(t.Context(), w.project.ID, many, now),
			"a refusal":              db.RecordRefusal(t.Context(), w.event(audit.ClientRefused), []oauth.Counter{many}),
			"an invitation":          db.CountInvitation(t.Context(), w.project.ID, "organization", "ada@example.test", now),
			"an administrator's try": db.CountAdministratorTry(t.Context(), []identity.TryLimit{{Kind: "try", Key: "ada", Count: 100, Window: time.Minute}}, now),
		} {
			if err == nil || errors.Is(err, oauth.ErrLimited) || errors.Is(err, identity.ErrLimited) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// A hundred counts at once under a limit of seven: seven.
func TestCounterIsExact(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		var counted atomic.Int64
		at(100, func(int) {
			err := db.Count(t.Context(), w.project.ID, oauth.Counter{Kind: "k", Key: "k", Limit: 7, Window: time.Minute}, now)
			if err == nil {
				counted.Add(1)
			} else if !errors.Is(err, oauth.ErrLimited) {
				t.Error(err)
			}
		})
		if counted.Load() != 7 {
			t.Errorf("%d were counted", counted.Load())
		}
	})
}

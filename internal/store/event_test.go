package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store"
)

// Strangers can have something refused as often as they like; they cannot make
// as many rows.
func TestRecordRefusal(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		refusal := func(at time.Time, limits ...oauth.Counter) error {
			e := w.eventAt(audit.AuthorizeRefused, at)
			e.Refused, e.Reason = true, "invalid_client"
			return db.RecordRefusal(t.Context(), e, limits)
		}
		kept := func() int { return count(events(t, db, w.project.ID), "authorize.refused: invalid_client") }
		address := oauth.Counter{Kind: "address", Key: "192.0.2.7", Limit: 3, Window: time.Minute}
		all := oauth.Counter{Kind: "project", Limit: 5, Window: time.Minute}
		for i := range 10 {
			if err := refusal(now, address, all); (err != nil) != (i >= 3) || err != nil && !errors.Is(err, oauth.ErrLimited) {
				t.Errorf("refusal %d: %v", i, err)
			}
		}
		if n := kept(); n != 3 {
			t.Errorf("%d rows, want 3", n)
		}
		other := address
		other.Key = "192.0.2.8"
		at(20, func(int) {
			if err := refusal(now, other, all); err != nil && !errors.Is(err, oauth.ErrLimited) {
				t.Error(err)
			}
		})
		if n := kept(); n != 5 { // what the first address was refused in vain counts for nothing
			t.Errorf("%d rows of two addresses, want 5", n)
		}
		must(t, refusal(now.Add(time.Minute), address, all))
		must(t, refusal(now))
		if n := kept(); n != 7 {
			t.Errorf("%d rows, want 7", n)
		}
	})
}

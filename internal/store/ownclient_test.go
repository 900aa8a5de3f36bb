package store_test

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store"
)

// ownClient is a client that registered itself with a secret, and may change
// itself.
func (w *world) ownClient(name string) oauth.Client {
	c := w.newClient(name)
	c.Type, c.Creation, c.Metadata.TokenEndpointAuthMethod = oauth.ThirdParty, oauth.Dynamic, "client_secret_basic"
	c.SecretID, c.SecretHash, c.SecretLast4 = "secret of "+name, []byte{1}, "last"
	c.TokenID, c.TokenHash = "token of "+name, []byte{1}
	return c
}

// renamed is the client with another name and its n-th token.
func renamed(c oauth.Client, n int) oauth.Client {
	c.Metadata.ClientName = fmt.Sprint("name ", n)
	c.MetadataHash = c.Metadata.Hash()
	c.TokenID, c.TokenHash = fmt.Sprint("token ", n), []byte{byte(n)}
	return c
}

func TestReplaceOwnClient(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		before := w.ownClient("own")
		must(t, db.CreateClient(t.Context(), before, nil, w.event(audit.ClientRegistered)))
		change := find(t, db, w.project.ID).Change
		now := renamed(before, 2)
		now.SecretID, now.SecretHash, now.SecretLast4 = "", nil, ""
		now.LastRegisteredAt = now.LastRegisteredAt.Add(day)
		must(t, db.ReplaceOwnClient(t.Context(), now, before, nil, w.event(audit.ClientChanged)))
		got, err := db.Client(t.Context(), w.project.ID, before.ID)
		must(t, err)
		if diff := cmp.Diff(now, got); diff != "" {
			t.Error(diff)
		}
		if seen := find(t, db, w.project.ID).Change; seen != change+1 {
			t.Errorf("the change counter went from %d to %d", change, seen)
		}
		if found, err := db.FindClients(t.Context(), w.project.ID, oauth.ClientQuery{Text: "name 2", Limit: 5}); err != nil || len(found) != 1 {
			t.Errorf("by its new name: %v, %v", found, err)
		}
		other := now
		other.TokenHash = []byte{9}
		secret := now
		secret.SecretID = "another"
		for name, wrong := range map[string]oauth.Client{"the token before": before, "another hash": other, "another secret": secret} {
			if err := db.ReplaceOwnClient(t.Context(), renamed(now, 3), wrong, nil, w.event(audit.ClientChanged)); !errors.Is(err, oauth.ErrConflict) {
				t.Errorf("with %s: %v", name, err)
			}
		}
		full := []oauth.Counter{{Kind: "x", Key: "y"}}
		if err := db.ReplaceOwnClient(t.Context(), renamed(now, 3), now, full, w.event(audit.ClientChanged)); !errors.Is(err, oauth.ErrLimited) {
			t.Errorf("with a counter that is full: %v", err)
		}
		for name, wrong := range map[string]oauth.Client{"the token before": before, "another hash": other} {
			if err := db.DeleteOwnClient(t.Context(), wrong, w.event(audit.ClientDeleted)); !errors.Is(err, oauth.ErrConflict) {
				t.Errorf("delete with %s: %v", name, err)
			}
		}
		_, err = db.BlockClient(t.Context(), w.project.ID, before.ID, w.event(audit.ClientBlocked))
		must(t, err)
		if err := db.ReplaceOwnClient(t.Context(), renamed(now, 3), now, nil, w.event(audit.ClientChanged)); !errors.Is(err, oauth.ErrConflict) {
			t.Errorf("while it is blocked: %v", err)
		}
		if err := db.DeleteOwnClient(t.Context(), now, w.event(audit.ClientDeleted)); !errors.Is(err, oauth.ErrConflict) {
			t.Errorf("delete while it is blocked: %v", err)
		}
		now.Blocked = true
		if got, err = db.Client(t.Context(), w.project.ID, before.ID); err != nil || !cmp.Equal(now, got) {
			t.Errorf("what was refused changed it: %s, %v", cmp.Diff(now, got), err)
		}
		for kind, want := range map[string]int{"client.changed": 1, "client.deleted": 0} {
			if n := count(events(t, db, w.project.ID), kind); n != want {
				t.Errorf("%d events %s", n, kind)
			}
		}
	})
}

// A client that deletes itself takes all with it that people gave it.
func TestDeleteOwnClient(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		own := *w
		own.client = w.ownClient("own")
		must(t, db.CreateClient(t.Context(), own.client, nil, w.event(audit.ClientRegistered)))
		_, stays := w.family(now, "read:notes")
		_, family := own.family(now, "read:notes")
		code := own.allow(now, "read:notes")
		must(t, db.DeleteOwnClient(t.Context(), own.client, w.event(audit.ClientDeleted)))
		if _, err := db.Client(t.Context(), w.project.ID, own.client.ID); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("it is still there: %v", err)
		}
		if _, err := db.Code(t.Context(), w.project.ID, code.ID); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("its code: %v", err)
		}
		if own.alive(family.ID) || !w.alive(stays.ID) {
			t.Errorf("its family lives: %v, another's: %v", own.alive(family.ID), w.alive(stays.ID))
		}
		if diff := cmp.Diff([]string{"1 family " + family.ID, "2 grant " + family.GrantID}, w.feed()); diff != "" {
			t.Error(diff)
		}
	})
}

// Of any number of changes with one token one is made; beside deletions and a
// block too, and a blocked client is never changed or gone.
func TestOwnClientRaces(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		check := func(err error, done *atomic.Int32) {
			switch {
			case err == nil:
				done.Add(1)
			case !errors.Is(err, oauth.ErrConflict) && !errors.Is(err, oauth.ErrNotFound):
				t.Error(err)
			}
		}
		hundred := w.ownClient("hundred")
		must(t, db.CreateClient(t.Context(), hundred, nil, w.event(audit.ClientRegistered)))
		var changed atomic.Int32
		at(100, func(i int) {
			check(db.ReplaceOwnClient(t.Context(), renamed(hundred, i), hundred, nil, w.event(audit.ClientChanged)), &changed)
		})
		if changed.Load() != 1 || count(events(t, db, w.project.ID), "client.changed") != 1 {
			t.Errorf("%d of 100 changes were made, with %d events", changed.Load(), count(events(t, db, w.project.ID), "client.changed"))
		}
		for round := range 5 {
			c := w.ownClient(fmt.Sprint("raced ", round))
			must(t, db.CreateClient(t.Context(), c, nil, w.event(audit.ClientRegistered)))
			other := *w
			other.client = c
			_, family := other.family(now, "read:notes")
			var changed, deleted, blocked atomic.Int32
			at(12, func(i int) {
				switch {
				case i == 5:
					_, err := db.BlockClient(t.Context(), w.project.ID, c.ID, w.event(audit.ClientBlocked))
					check(err, &blocked)
				case i%2 == 0:
					check(db.ReplaceOwnClient(t.Context(), renamed(c, i), c, nil, w.event(audit.ClientChanged)), &changed)
				default:
					check(db.DeleteOwnClient(t.Context(), c, w.event(audit.ClientDeleted)), &deleted)
				}
			})
			row, err := db.Client(t.Context(), w.project.ID, c.ID)
			switch gone := errors.Is(err, oauth.ErrNotFound); {
			case changed.Load()+deleted.Load() > 1:
				t.Errorf("%d changes and %d deletions with one token", changed.Load(), deleted.Load())
			case gone != (deleted.Load() == 1), gone == (blocked.Load() == 1):
				t.Errorf("gone %v after %d deletions and %d blocks", gone, deleted.Load(), blocked.Load())
			case !gone && (!row.Blocked || (row.TokenID == c.TokenID) != (changed.Load() == 0)):
				t.Errorf("after %d changes it is %+v", changed.Load(), row)
			}
			if other.alive(family.ID) != (deleted.Load()+blocked.Load() == 0) {
				t.Errorf("its tokens live: %v", other.alive(family.ID))
			}
		}
	})
}

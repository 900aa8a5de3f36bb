package store_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store"
)

// Clients are listed by name, a page after the other, all or one kind of them.
func TestFindClients(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com") // has one client, "auth.example.com"
		add := func(name string, change func(*oauth.Client)) {
			c := w.newClient(name)
			if change != nil {
				change(&c)
			}
			must(t, db.CreateClient(t.Context(), c, nil, w.event(audit.ClientCreated)))
		}
		add("Zed", func(c *oauth.Client) { c.Creation = oauth.Dynamic })
		add("  claude\tCode ", nil)
		add("Claude", func(c *oauth.Client) {
			c.Creation, c.URL = oauth.Document, "https://claude.example/client.json"
		})
		add("ÉCLAIR", func(c *oauth.Client) { c.Type = oauth.FirstParty })
		add("Inspector", func(c *oauth.Client) { c.Creation, c.Blocked = oauth.Dynamic, true })
		add("Inspector", func(c *oauth.Client) { c.Creation, c.MetadataHash = oauth.Dynamic, []byte{1} })
		add("zero\x00byte", nil)
		add("", func(c *oauth.Client) { c.Metadata.RedirectURIs = []string{"https://nameless.example/cb"} })

		for _, tt := range []struct {
			q    oauth.ClientQuery
			want []string
		}{
			{oauth.ClientQuery{}, []string{"auth.example.com", "Claude", "  claude\tCode ", "Inspector", "Inspector", "", "Zed", "zero\x00byte", "ÉCLAIR"}},
			{oauth.ClientQuery{Text: "cLAUDE"}, []string{"Claude", "  claude\tCode "}},
			{oauth.ClientQuery{Text: " claude  code"}, []string{"  claude\tCode "}},
			{oauth.ClientQuery{Text: "éc"}, []string{"ÉCLAIR"}},
			{oauth.ClientQuery{Text: "nameless"}, []string{""}},
			{oauth.ClientQuery{Text: "x"}, nil},
			{oauth.ClientQuery{Text: "%"}, nil},
			{oauth.ClientQuery{Creation: oauth.Dynamic}, []string{"Inspector", "Inspector", "Zed"}},
			{oauth.ClientQuery{Creation: oauth.Document, Text: "c"}, []string{"Claude"}},
			{oauth.ClientQuery{Type: oauth.FirstParty}, []string{"ÉCLAIR"}},
			{oauth.ClientQuery{Blocked: true}, []string{"Inspector"}},
		} {
			for _, size := range []int{1, 2, 20} {
				var got []string
				for q := tt.q; ; {
					q.Limit = size
					page, err := db.FindClients(t.Context(), w.project.ID, q)
					must(t, err)
					for _, c := range page {
						got = append(got, c.Metadata.ClientName)
					}
					if len(page) < size {
						break
					}
					q.After = page[len(page)-1].ID
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%+v by %d: %s", tt.q, size, diff)
				}
			}
		}
		if _, err := db.FindClients(t.Context(), w.project.ID, oauth.ClientQuery{After: "gone", Limit: 1}); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("after a client that is gone: %v", err)
		}
	})
}

func TestChangeClient(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		c := w.client
		c.Metadata.ClientName, c.Metadata.RedirectURIs = "Other", []string{"https://a.example/cb", "https://b.example/cb"}
		c.MetadataHash, c.BypassConsent = c.Metadata.Hash(), true
		must(t, db.ChangeClient(t.Context(), c, w.client, w.event(audit.ClientChanged)))
		got, err := db.Client(t.Context(), w.project.ID, c.ID)
		must(t, err)
		if diff := cmp.Diff(c, got); diff != "" {
			t.Error(diff)
		}
		if found, err := db.FindClients(t.Context(), w.project.ID, oauth.ClientQuery{Text: "oth", Limit: 5}); err != nil || len(found) != 1 {
			t.Errorf("by its new name: %v, %v", found, err)
		}
		if err := db.ChangeClient(t.Context(), c, w.client, w.event(audit.ClientChanged)); !errors.Is(err, oauth.ErrConflict) {
			t.Errorf("from what it was before: %v", err)
		}
		if n := count(events(t, db, w.project.ID), "client.changed"); n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

// A blocked client has nothing, gets nothing, and what it had does not come back.
func TestBlockClient(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		other := *w
		other.client = w.newClient("other")
		must(t, db.CreateClient(t.Context(), other.client, nil, w.event(audit.ClientCreated)))
		_, stays := other.family(now, "read:notes")
		token, family := w.family(now, "read:notes")
		waiting := w.allow(now, "read:notes")

		if n, err := db.BlockClient(t.Context(), w.project.ID, w.client.ID, w.event(audit.ClientBlocked)); n != 1 || err != nil {
			t.Fatalf("%d grants, %v", n, err)
		}
		blocked, err := db.Client(t.Context(), w.project.ID, w.client.ID)
		must(t, err)
		if !blocked.Blocked || w.alive(family.ID) || !w.alive(stays.ID) {
			t.Errorf("blocked %v, alive %v, another's alive %v", blocked.Blocked, w.alive(family.ID), w.alive(stays.ID))
		}
		if diff := cmp.Diff([]string{"1 family " + family.ID, "2 grant " + family.GrantID}, w.feed()); diff != "" {
			t.Error(diff)
		}
		if _, err := w.rotate(w.rotation(token, now)); !errors.Is(err, oauth.ErrDead) {
			t.Errorf("refresh: %v", err)
		}
		if err := w.redeemCode(w.redeem(waiting, now)); !errors.Is(err, oauth.ErrDead) {
			t.Errorf("code: %v", err)
		}
		if err := db.Decide(t.Context(), w.decision(now, "read:notes"), w.event(audit.GrantAllowed)); !errors.Is(err, oauth.ErrDead) {
			t.Errorf("a new decision: %v", err)
		}
		if n, err := db.BlockClient(t.Context(), w.project.ID, w.client.ID, w.event(audit.ClientBlocked)); n != 0 || err != nil {
			t.Errorf("again: %d, %v", n, err)
		}

		must(t, db.UnblockClient(t.Context(), w.project.ID, w.client.ID, w.event(audit.ClientUnblocked)))
		must(t, db.UnblockClient(t.Context(), w.project.ID, w.client.ID, w.event(audit.ClientUnblocked)))
		if w.alive(family.ID) {
			t.Error("its tokens are back")
		}
		if _, _, err := db.Grant(t.Context(), w.project.ID, w.user.ID, "", w.client.ID, notes); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("its grant: %v", err)
		}
		w.family(now, "read:notes")
		for kind, want := range map[string]int{"client.blocked": 1, "client.unblocked": 1} {
			if n := count(events(t, db, w.project.ID), kind); n != want {
				t.Errorf("%d events %s", n, kind)
			}
		}
		for name, err := range map[string]error{
			"block": func() error {
				_, err := db.BlockClient(t.Context(), w.project.ID, "x", w.event(audit.ClientBlocked))
				return err
			}(),
			"unblock": db.UnblockClient(t.Context(), w.project.ID, "x", w.event(audit.ClientUnblocked)),
		} {
			if !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("%s an unknown one: %v", name, err)
			}
		}
	})
}

// A client that is blocked while people allow it has no token: the row of a
// grant that came in between goes when it is blocked again.
func TestBlockClientAgainstDecide(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		for round := range 5 {
			c := w.newClient(fmt.Sprint("raced ", round))
			must(t, db.CreateClient(t.Context(), c, nil, w.event(audit.ClientCreated)))
			at(6, func(i int) {
				if i == 3 {
					if _, err := db.BlockClient(t.Context(), w.project.ID, c.ID, w.event(audit.ClientBlocked)); err != nil {
						t.Error(err)
					}
					return
				}
				other := *w
				other.client, other.user.ID = c, fmt.Sprint("user", i)
				err := db.Decide(t.Context(), other.decision(now, "read:notes"), w.event(audit.GrantAllowed))
				if err != nil && !errors.Is(err, oauth.ErrDead) {
					t.Error(err)
				}
			})
			_, err := db.BlockClient(t.Context(), w.project.ID, c.ID, w.event(audit.ClientBlocked))
			must(t, err)
			if n, err := db.CountClientGrants(t.Context(), w.project.ID, c.ID, 10); n != 0 || err != nil {
				t.Errorf("%d grants, %v", n, err)
			}
		}
	})
}

// The live grants of a client, the newest first, and what ends them.
func TestClientGrants(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		var made []string
		for i := range 5 {
			person := *w
			person.user = w.signIn(fmt.Sprintf("person-%d@example.test", i)).User
			_, family := person.family(now.Add(time.Duration(i)*time.Second), "read:notes", "write:notes")
			made = append(made, family.GrantID)
		}
		list := func(size int) (ids []string) {
			for before := ""; ; {
				page, err := db.ClientGrants(t.Context(), w.project.ID, w.client.ID, before, size)
				must(t, err)
				for _, g := range page {
					ids = append(ids, g.Grant.ID)
					scopes, resources := oauth.Allowed(g.Scopes)
					if diff := cmp.Diff([][]string{{"read:notes", "write:notes"}, {notes}}, [][]string{scopes, resources}); diff != "" {
						t.Error(diff)
					}
				}
				if len(page) < size {
					return ids
				}
				before = page[size-1].Grant.ID
			}
		}
		want := []string{made[4], made[3], made[2], made[1], made[0]}
		for _, size := range []int{1, 2, 5, 10} {
			if diff := cmp.Diff(want, list(size)); diff != "" {
				t.Errorf("by %d: %s", size, diff)
			}
		}
		g, err := db.GrantByID(t.Context(), w.project.ID, made[2])
		must(t, err)
		must(t, db.RevokeGrant(t.Context(), w.project.ID, g.Subject, g.ID, now.Add(day), w.event(audit.GrantRevoked)))
		if diff := cmp.Diff([]string{made[4], made[3], made[1], made[0]}, list(3)); diff != "" {
			t.Errorf("after one was taken back: %s", diff)
		}
		for limit, want := range map[int]int{2: 2, 4: 4, 100: 4} {
			if n, err := db.CountClientGrants(t.Context(), w.project.ID, w.client.ID, limit); n != want || err != nil {
				t.Errorf("counted %d of %d, %v", n, limit, err)
			}
		}
		for _, want := range []int{4, 0} {
			if n, err := db.RevokeClientGrants(t.Context(), w.project.ID, w.client.ID, w.event(audit.GrantRevoked)); n != want || err != nil {
				t.Errorf("took back %d, want %d, %v", n, want, err)
			}
		}
		if left := list(5); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
		if n := count(events(t, db, w.project.ID), "grant.revoked"); n != 2 {
			t.Errorf("%d events", n)
		}
	})
}

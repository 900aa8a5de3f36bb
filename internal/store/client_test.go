package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/store"
)

func TestClient(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		read := func(id string) oauth.Client {
			t.Helper()
			c, err := db.Client(t.Context(), w.project.ID, id)
			must(t, err)
			return c
		}

		t.Run("is kept whole", func(t *testing.T) {
			key := secret.New(secret.ClientSecret, now)
			c := w.newClient("whole")
			c.Type, c.SecretID, c.SecretHash, c.SecretLast4, c.BypassConsent = oauth.FirstParty, key.ID, key.Hash[:], "a1b2", true
			c.Metadata.TokenEndpointAuthMethod, c.Metadata.Scope = "client_secret_post", "read:notes"
			must(t, db.CreateClient(t.Context(), c, nil, w.event(audit.ClientCreated)))
			if diff := cmp.Diff(c, read(c.ID)); diff != "" {
				t.Error(diff)
			}
			if err := db.CreateClient(t.Context(), c, nil, w.event(audit.ClientCreated)); !errors.Is(err, oauth.ErrConflict) {
				t.Errorf("again: %v", err)
			}

			next := secret.New(secret.ClientSecret, now)
			must(t, db.SetClientSecret(t.Context(), w.project.ID, c.ID, next.ID, next.Hash[:], w.event(audit.ClientRotated)))
			c.SecretID, c.SecretHash, c.SecretLast4 = next.ID, next.Hash[:], ""
			if diff := cmp.Diff(c, read(c.ID)); diff != "" {
				t.Errorf("after a new secret: %s", diff)
			}
		})

		t.Run("that is unknown", func(t *testing.T) {
			for _, id := range []string{"x", "", "zero\x00byte", "not\xffutf8"} {
				if _, err := db.Client(t.Context(), w.project.ID, id); !errors.Is(err, oauth.ErrNotFound) {
					t.Errorf("Client(%q): %v", id, err)
				}
				if _, err := db.ClientByURL(t.Context(), w.project.ID, id); !errors.Is(err, oauth.ErrNotFound) {
					t.Errorf("ClientByURL(%q): %v", id, err)
				}
			}
			if err := db.SetClientSecret(t.Context(), w.project.ID, "x", "", nil, w.event(audit.ClientRotated)); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("SetClientSecret: %v", err)
			}
			if err := db.DeleteClient(t.Context(), w.project.ID, "x", w.event(audit.ClientDeleted)); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("DeleteClient: %v", err)
			}
			// What a stranger called itself can be recorded, whatever it is.
			e := w.event(audit.ClientRefused)
			e.ClientID = "zero\x00byte and not\xffutf8"
			must(t, db.Record(t.Context(), e))
		})

		t.Run("lists go by id", func(t *testing.T) {
			for i := range 5 {
				must(t, db.CreateClient(t.Context(), w.newClient(fmt.Sprint("list", i)), nil, w.event(audit.ClientCreated)))
			}
			all, err := db.Clients(t.Context(), w.project.ID, "", 100)
			must(t, err)
			var paged []oauth.Client
			for after := ""; ; after = paged[len(paged)-1].ID {
				page, err := db.Clients(t.Context(), w.project.ID, after, 2)
				must(t, err)
				paged = append(paged, page...)
				if len(page) < 2 {
					break
				}
			}
			if diff := cmp.Diff(all, paged); diff != "" || len(all) != 7 {
				t.Errorf("%d clients; %s", len(all), diff)
			}
			if !slices.IsSortedFunc(all, func(a, b oauth.Client) int { return strings.Compare(a.ID, b.ID) }) {
				t.Error("not in order")
			}
		})

		t.Run("registered again with the same metadata is the same", func(t *testing.T) {
			c := w.newClient("merged")
			c.Creation = oauth.Dynamic
			merge := func(c oauth.Client) oauth.Client {
				id, created, err := db.MergeClient(t.Context(), c, nil, w.event(audit.ClientRegistered))
				must(t, err)
				kept, err := db.Client(t.Context(), w.project.ID, id)
				must(t, err)
				if !created.Equal(kept.CreatedAt) {
					t.Errorf("made at %v, says it was %v", kept.CreatedAt, created)
				}
				return kept
			}
			first := merge(c)
			if diff := cmp.Diff(c, first); diff != "" {
				t.Error(diff)
			}
			again := w.newClient("merged")
			again.Creation, again.CreatedAt, again.LastRegisteredAt = oauth.Dynamic, now.Add(day), now.Add(day)
			want := first
			want.LastRegisteredAt = now.Add(day)
			if diff := cmp.Diff(want, merge(again)); diff != "" {
				t.Error(diff)
			}
			if n := count(events(t, db, w.project.ID), "client.registered"); n != 1 {
				t.Errorf("%d events", n)
			}
			// A client of an operator with the same metadata is another one.
			must(t, db.CreateClient(t.Context(), w.newClient("merged"), nil, w.event(audit.ClientCreated)))
		})

		t.Run("over a limit is not registered", func(t *testing.T) {
			limits := []oauth.Counter{
				{Kind: "register_project", Key: "all", Limit: 100, Window: time.Hour},
				{Kind: "register_address", Key: "192.0.2.1", Limit: 2, Window: time.Hour},
			}
			must(t, db.CreateClient(t.Context(), w.newClient("limited 1"), limits, w.event(audit.ClientRegistered)))
			_, _, err := db.MergeClient(t.Context(), w.newClient("limited 2"), limits, w.event(audit.ClientRegistered))
			must(t, err)
			third := w.newClient("limited 3")
			if err := db.CreateClient(t.Context(), third, limits, w.event(audit.ClientRegistered)); !errors.Is(err, oauth.ErrLimited) {
				t.Errorf("third registration: %v", err)
			}
			if _, _, err := db.MergeClient(t.Context(), third, limits, w.event(audit.ClientRegistered)); !errors.Is(err, oauth.ErrLimited) {
				t.Errorf("third registration, merged: %v", err)
			}
			if _, err := db.Client(t.Context(), w.project.ID, third.ID); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("the refused client: %v", err)
			}
			if n, err := db.Counted(t.Context(), w.project.ID, oauth.Counter{Kind: "register_project", Key: "all"}, now); n != 2 || err != nil {
				t.Errorf("the project's counter is %d: %v", n, err)
			}
		})

		t.Run("of a metadata document keeps its id", func(t *testing.T) {
			const url = "https://app.example.com/client.json"
			c := w.newClient("document")
			c.URL, c.Creation, c.FetchedAt, c.FreshUntil = url, oauth.Document, now, now.Add(time.Hour)
			first, err := db.SaveDocumentClient(t.Context(), c, nil, w.event(audit.ClientRegistered))
			must(t, err)
			if diff := cmp.Diff(c, first); diff != "" {
				t.Error(diff)
			}
			must(t, db.Change(t.Context(), "UPDATE client SET blocked = TRUE WHERE project_id = $1 AND id = $2", w.project.ID, c.ID))
			change := mustChanges(t, db)[w.project.ID]
			next := w.newClient("document, changed")
			next.URL, next.Creation, next.FetchedAt, next.FreshUntil = url, oauth.Document, now.Add(day), now.Add(2*day)
			for range 2 { // the second fetch says nothing new
				second, err := db.SaveDocumentClient(t.Context(), next, nil, w.event(audit.ClientRegistered))
				must(t, err)
				want := next
				want.ID, want.Blocked, want.CreatedAt = c.ID, true, c.CreatedAt
				if diff := cmp.Diff(want, second); diff != "" {
					t.Error(diff)
				}
				byURL, err := db.ClientByURL(t.Context(), w.project.ID, url)
				must(t, err)
				if diff := cmp.Diff(second, byURL); diff != "" {
					t.Error(diff)
				}
			}
			if got := mustChanges(t, db)[w.project.ID]; got != change+1 {
				t.Errorf("change went from %d to %d", change, got)
			}
		})
	})
}

// The same registration a hundred times at once is one row.
func TestOneMergedClient(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		var mu sync.Mutex
		ids := map[string]int{}
		at(100, func(int) {
			c := w.newClient("merged")
			c.Creation = oauth.Dynamic
			id, _, err := db.MergeClient(t.Context(), c, nil, w.event(audit.ClientRegistered))
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids[id]++
		})
		if len(ids) != 1 {
			t.Errorf("%d rows", len(ids))
		}
		if n := count(events(t, db, w.project.ID), "client.registered"); n != 1 {
			t.Errorf("%d events", n)
		}
	})
}

func TestDeleteClient(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		other := *w
		other.client = w.newClient("other")
		must(t, db.CreateClient(t.Context(), other.client, nil, w.event(audit.ClientCreated)))
		_, stays := other.family(now, "read:notes")
		token, family := w.family(now, "read:notes")
		code := w.allow(now, "read:notes")

		must(t, db.DeleteClient(t.Context(), w.project.ID, w.client.ID, w.event(audit.ClientDeleted)))
		if _, err := db.Client(t.Context(), w.project.ID, w.client.ID); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("client: %v", err)
		}
		if _, err := db.Live(t.Context(), w.project.ID, family.ID, "jti"); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("family: %v", err)
		}
		if _, _, err := db.Family(t.Context(), w.project.ID, token.FamilyID); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("refresh token: %v", err)
		}
		if _, err := db.Code(t.Context(), w.project.ID, code.ID); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("code: %v", err)
		}
		if err := db.Decide(t.Context(), w.decision(now, "read:notes"), w.event(audit.GrantAllowed)); !errors.Is(err, oauth.ErrDead) {
			t.Errorf("a new decision: %v", err)
		}
		if !w.alive(stays.ID) {
			t.Error("another client's family died")
		}
		if diff := cmp.Diff([]string{"1 family " + family.ID, "2 grant " + family.GrantID}, w.feed()); diff != "" {
			t.Error(diff)
		}
	})
}

// A client that is deleted while people allow it: nothing of it is left.
func TestDeleteClientAgainstDecide(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		for range 10 {
			c := w.newClient("short-lived")
			must(t, db.CreateClient(t.Context(), c, nil, w.event(audit.ClientCreated)))
			at(6, func(i int) {
				if i == 3 {
					if err := db.DeleteClient(t.Context(), w.project.ID, c.ID, w.event(audit.ClientDeleted)); err != nil {
						t.Error(err)
					}
					return
				}
				other := *w
				other.client = c
				other.user.ID = fmt.Sprint("user", i)
				err := db.Decide(t.Context(), other.decision(now, "read:notes"), w.event(audit.GrantAllowed))
				if err != nil && !errors.Is(err, oauth.ErrDead) {
					t.Error(err)
				}
			})
			if left := rows(t, db, `SELECT id FROM "grant" WHERE project_id = $1 AND client_id = $2`, w.project.ID, c.ID); len(left) != 0 {
				t.Errorf("grants %v", left)
			}
		}
	})
}

// Row: G17.
func TestExpireClients(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		second := newWorld(t, db, "second.example.com")
		make := func(w *world, name string, creation oauth.Creation, registered time.Time) oauth.Client {
			c := w.newClient(name)
			c.Creation, c.LastRegisteredAt = creation, registered
			must(t, db.CreateClient(t.Context(), c, nil, w.event(audit.ClientRegistered)))
			return c
		}
		old, before := now.Add(-31*day), now.Add(-30*day)
		make(w, "old 1", oauth.Dynamic, old)
		make(w, "old 2", oauth.Document, old)
		make(second, "old 3", oauth.Dynamic, old)
		kept := []oauth.Client{
			make(w, "an operator's", oauth.Preregistered, old),
			make(w, "registered again", oauth.Dynamic, before),
			make(w, "allowed by somebody", oauth.Dynamic, old),
		}
		allowed := *w
		allowed.client = kept[2]
		allowed.allow(now, "read:notes")

		total := 0
		for _, want := range []int{2, 1, 0} {
			n, err := db.ExpireClients(t.Context(), before, 2, now)
			if err != nil || n != want {
				t.Errorf("expired %d, want %d: %v", n, want, err)
			}
			total += n
		}
		for _, c := range kept {
			if _, err := db.Client(t.Context(), w.project.ID, c.ID); err != nil {
				t.Errorf("%s: %v", c.Metadata.ClientName, err)
			}
		}
		if n := count(events(t, db, w.project.ID), "client.expired"); n != 2 {
			t.Errorf("%d events", n)
		}
	})
}

// Of a hundred uses of one assertion at once, on two nodes, one gets through, and
// none does later.
//
// Rows: T19.
//
// Proves: RFC7523-3-h
func TestAssertionIsUsedOnce(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		db := open(t, c)
		w := newWorld(t, db, "auth.example.com")
		nodes := []*store.DB{db, db}
		if c.URL != "" { // SQLite has one node
			nodes[1] = open(t, c)
		}
		use := func(node *store.DB, projectID, clientID, jti string) error {
			return node.UseAssertion(t.Context(), projectID, clientID, jti, now.Add(time.Minute))
		}
		var used atomic.Int64
		at(100, func(i int) {
			err := use(nodes[i%2], w.project.ID, w.client.ID, "one")
			switch {
			case err == nil:
				used.Add(1)
			case !errors.Is(err, oauth.ErrUsed):
				t.Error(err)
			}
		})
		if used.Load() != 1 {
			t.Errorf("%d uses got through", used.Load())
		}
		if err := use(nodes[1], w.project.ID, w.client.ID, "one"); !errors.Is(err, oauth.ErrUsed) {
			t.Errorf("again: %v", err)
		}
		must(t, use(db, w.project.ID, w.client.ID, "two"))
		must(t, use(db, w.project.ID, "another client", "one"))
		must(t, use(db, newWorld(t, db, "second.example.com").project.ID, w.client.ID, "one"))
		if kept := rows(t, db, "SELECT count(*) FROM client_assertion")[0]; kept != "4" {
			t.Errorf("%s are kept", kept)
		}
	})
}

package store_test

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store"
)

// decided returns the scope rows of the world's grant as "scope" or "-scope".
func (w *world) decided() []string {
	w.t.Helper()
	_, scopes, err := w.Grant(w.t.Context(), w.project.ID, w.user.ID, "", w.client.ID, notes)
	if errors.Is(err, oauth.ErrNotFound) {
		return nil
	}
	must(w.t, err)
	var all []string
	for _, s := range scopes {
		name := s.Scope
		if !s.Allowed {
			name = "-" + name
		}
		all = append(all, name)
	}
	return all
}

func TestDecide(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		decide := func(d oauth.Decision) error {
			return db.Decide(t.Context(), d, w.eventAt(audit.GrantAllowed, d.Code.CreatedAt))
		}

		t.Run("makes the grant", func(t *testing.T) {
			if got := w.decided(); got != nil {
				t.Fatalf("before: %v", got)
			}
			d := w.decision(now, "read:notes", "write:notes")
			d.Scopes[1].Allowed = false
			must(t, decide(d))
			grant, scopes, err := db.Grant(t.Context(), w.project.ID, w.user.ID, "", w.client.ID, notes)
			must(t, err)
			if diff := cmp.Diff(d.Grant, grant); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(d.Scopes, scopes); diff != "" {
				t.Error(diff)
			}
			if _, scopes, err := db.Grant(t.Context(), w.project.ID, w.user.ID, "", w.client.ID, "https://other.example.com"); err != nil || len(scopes) != 0 {
				t.Errorf("for another resource: %v, %v", scopes, err)
			}
		})

		t.Run("adds to the grant", func(t *testing.T) {
			must(t, decide(w.decision(now.Add(time.Minute), "write:notes", "share:notes")))
			if got, want := w.decided(), []string{"read:notes", "share:notes", "write:notes"}; !slices.Equal(got, want) {
				t.Errorf("%v, want %v", got, want)
			}
		})

		t.Run("remembered adds nothing", func(t *testing.T) {
			d := w.decision(now, "read:notes")
			d.Scopes, d.Asked = nil, false
			must(t, decide(d))
			if got := w.decided(); len(got) != 3 {
				t.Errorf("%v", got)
			}
			if c, err := db.Code(t.Context(), w.project.ID, d.Code.ID); err != nil || c.GrantID == d.Grant.ID {
				t.Errorf("%+v, %v", c, err)
			}
		})

		t.Run("remembered needs what was allowed to be so still", func(t *testing.T) {
			d := w.decision(now, "read:notes", "write:notes")
			d.Scopes, d.Asked = nil, false
			grant, _, err := db.Grant(t.Context(), w.project.ID, w.user.ID, "", w.client.ID, notes)
			must(t, err)
			must(t, db.DeclineScopes(t.Context(), w.project.ID, w.user.ID, grant.ID, []string{"write:notes"}, now.Add(day), w.event(audit.GrantNarrowed)))
			if err := decide(d); !errors.Is(err, oauth.ErrDead) {
				t.Errorf("with a declined scope: %v", err)
			}
			must(t, db.RevokeGrant(t.Context(), w.project.ID, w.user.ID, grant.ID, now.Add(day), w.event(audit.GrantRevoked)))
			d = w.decision(now, "read:notes")
			d.Scopes, d.Asked = nil, false
			if err := decide(d); !errors.Is(err, oauth.ErrDead) {
				t.Errorf("with the grant taken back: %v", err)
			}
			if got := w.decided(); got != nil {
				t.Errorf("it revived the grant: %v", got)
			}
		})

		t.Run("a project that vouches brings nothing back that was declined", func(t *testing.T) {
			grantID := w.allow(now, "read:notes", "write:notes").GrantID
			must(t, db.DeclineScopes(t.Context(), w.project.ID, w.user.ID, grantID, []string{"write:notes"}, now.Add(day), w.event(audit.GrantNarrowed)))
			vouched := w.decision(now, "read:notes", "write:notes")
			vouched.Asked = false
			if err := decide(vouched); !errors.Is(err, oauth.ErrDead) {
				t.Errorf("with a declined scope: %v", err)
			}
			if got, want := w.decided(), []string{"-write:notes", "read:notes"}; !slices.Equal(sorted(got), want) {
				t.Errorf("%v, want %v", got, want)
			}
			vouched = w.decision(now, "read:notes")
			vouched.Asked = false
			must(t, decide(vouched))
			must(t, db.RevokeGrant(t.Context(), w.project.ID, w.user.ID, grantID, now.Add(day), w.event(audit.GrantRevoked)))
		})

		t.Run("revives a grant without what was decided before", func(t *testing.T) {
			at := now.Add(time.Hour)
			must(t, decide(w.decision(at, "read:notes")))
			if got := w.decided(); !slices.Equal(got, []string{"read:notes"}) {
				t.Errorf("%v", got)
			}
			grant, _, err := db.Grant(t.Context(), w.project.ID, w.user.ID, "", w.client.ID, notes)
			must(t, err)
			if !grant.CreatedAt.Equal(at) || !grant.RevokedAt.IsZero() {
				t.Errorf("%+v", grant)
			}
		})

		t.Run("happens once in a flow", func(t *testing.T) {
			f := w.flow(now)
			d := w.decision(now, "read:notes")
			d.FlowID = f.ID
			must(t, decide(d))
			if err := decide(d); !errors.Is(err, oauth.ErrUsed) {
				t.Errorf("again: %v", err)
			}
			if err := db.Deny(t.Context(), w.project.ID, f.ID, now, audit.Attempt{}, w.event(audit.GrantDenied)); !errors.Is(err, oauth.ErrUsed) {
				t.Errorf("denied afterwards: %v", err)
			}
			for id, at := range map[string]time.Time{"x": now, w.flow(now).ID: f.ExpiresAt} {
				d := w.decision(at, "read:notes")
				d.FlowID = id
				if err := decide(d); !errors.Is(err, oauth.ErrDead) {
					t.Errorf("flow %s at %v: %v", id, at, err)
				}
				if err := db.Deny(t.Context(), w.project.ID, id, at, audit.Attempt{}, w.event(audit.GrantDenied)); !errors.Is(err, oauth.ErrDead) {
					t.Errorf("denied: flow %s at %v: %v", id, at, err)
				}
			}
		})

		t.Run("that is no leaves the grant alone", func(t *testing.T) {
			must(t, db.Deny(t.Context(), w.project.ID, w.flow(now).ID, now, audit.Attempt{}, w.event(audit.GrantDenied)))
			if got := w.decided(); !slices.Equal(got, []string{"read:notes"}) {
				t.Errorf("%v", got)
			}
		})
	})
}

// Allow pressed fifty times and Deny fifty times, all at once: one answer.
func TestOneDecision(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		f := w.flow(now)
		var won atomic.Int64
		at(100, func(i int) {
			var err error
			if i%2 == 0 {
				d := w.decision(now, "read:notes")
				d.FlowID = f.ID
				err = db.Decide(t.Context(), d, w.event(audit.GrantAllowed))
			} else {
				err = db.Deny(t.Context(), w.project.ID, f.ID, now, audit.Attempt{}, w.event(audit.GrantDenied))
			}
			if err == nil {
				won.Add(1)
			} else if !errors.Is(err, oauth.ErrUsed) {
				t.Error(err)
			}
		})
		got := events(t, db, w.project.ID)
		if won.Load() != 1 || count(got, "grant.allowed")+count(got, "grant.denied") != 1 {
			t.Errorf("%d won, events %v", won.Load(), got)
		}
		codes := rows(t, db, "SELECT count(*) FROM code WHERE project_id = $1", w.project.ID)
		if want := count(got, "grant.allowed"); codes[0] != map[int]string{0: "0", 1: "1"}[want] {
			t.Errorf("%s codes", codes[0])
		}
	})
}

// The first grant of a person for a client, fifty times at once, is one grant.
func TestOneGrant(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		at(50, func(int) {
			if err := db.Decide(t.Context(), w.decision(now, "read:notes"), w.event(audit.GrantAllowed)); err != nil {
				t.Error(err)
			}
		})
		if got := rows(t, db, `SELECT count(*) FROM "grant" WHERE project_id = $1`, w.project.ID); got[0] != "1" {
			t.Errorf("%s grants", got[0])
		}
	})
}

func TestRevokeGrant(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		_, one := w.family(now, "read:notes")
		_, two := w.family(now, "read:notes")
		revoke := func(subject, id string) error {
			return db.RevokeGrant(t.Context(), w.project.ID, subject, id, now.Add(day), w.event(audit.GrantRevoked))
		}
		if err := revoke("somebody else", one.GrantID); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("another's grant: %v", err)
		}
		if err := revoke(w.user.ID, "x"); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("unknown grant: %v", err)
		}
		if !w.alive(one.ID) {
			t.Fatal("that ended the family")
		}
		for range 2 {
			must(t, revoke(w.user.ID, one.GrantID))
		}
		if w.alive(one.ID) || w.alive(two.ID) {
			t.Error("a family lives")
		}
		feed := w.feed()
		slices.Sort(feed[:min(2, len(feed))])
		if len(feed) != 3 || feed[2] != "3 grant "+one.GrantID {
			t.Errorf("feed %v", feed)
		}
		if got := w.decided(); got != nil {
			t.Errorf("the grant is still there: %v", got)
		}
		// Allowed again, the old families stay dead.
		_, three := w.family(now.Add(time.Minute), "read:notes")
		if w.alive(one.ID) || w.alive(two.ID) || !w.alive(three.ID) {
			t.Errorf("families: %v %v %v", w.alive(one.ID), w.alive(two.ID), w.alive(three.ID))
		}
	})
}

func TestDeclineScopes(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		_, family := w.family(now, "read:notes", "write:notes")
		code := w.allow(now, "read:notes", "write:notes")
		decline := func(subject string) error {
			return db.DeclineScopes(t.Context(), w.project.ID, subject, family.GrantID, []string{"write:notes", "share:notes"}, now.Add(day), w.event(audit.GrantNarrowed))
		}
		if err := decline("somebody else"); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("another's grant: %v", err)
		}
		must(t, decline(w.user.ID))
		if got, want := w.decided(), []string{"read:notes", "-write:notes"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if w.alive(family.ID) {
			t.Error("a family with the scope lives")
		}
		if err := w.redeemCode(w.redeem(code, now)); !errors.Is(err, oauth.ErrDead) {
			t.Errorf("a code with the scope: %v", err)
		}
		if feed := w.feed(); !slices.Equal(feed, []string{"1 family " + family.ID}) {
			t.Errorf("feed %v", feed)
		}
		must(t, db.RevokeGrant(t.Context(), w.project.ID, w.user.ID, family.GrantID, now.Add(day), w.event(audit.GrantRevoked)))
		if err := decline(w.user.ID); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("of a grant that was taken back: %v", err)
		}
	})
}

func TestConnectedApps(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		app := func(name string, at time.Time, scopes ...string) (*world, held, oauth.Family) {
			other := *w
			other.client = w.newClient(name)
			must(t, db.CreateClient(t.Context(), other.client, nil, w.event(audit.ClientCreated)))
			token, family := other.family(at, scopes...)
			return &other, token, family
		}
		old, oldToken, oldFamily := app("old", now, "write:notes", "read:notes")
		rotation := old.rotation(oldToken, now.Add(time.Hour))
		_, err := old.rotate(rotation)
		must(t, err)
		_, _, fresh := app("fresh", now.Add(time.Minute), "read:notes")
		_, _, gone := app("gone", now, "read:notes")
		_, _, longGone := app("long gone", now, "read:notes")
		lone, _, loneFamily := app("no family left", now.Add(2*time.Minute), "read:notes")
		must(t, db.RevokeFamily(t.Context(), w.project.ID, loneFamily.ID, now.Add(day), w.event(audit.TokenRevoked)))
		for f, at := range map[string]time.Time{gone.GrantID: now, longGone.GrantID: now.Add(-31 * day)} {
			must(t, db.RevokeGrant(t.Context(), w.project.ID, w.user.ID, f, now.Add(day), w.eventAt(audit.GrantRevoked, at)))
		}

		apps, err := db.ConnectedApps(t.Context(), w.project.ID, w.user.ID, "", now.Add(-30*day))
		must(t, err)
		var names []string
		for _, a := range apps {
			names = append(names, a.Client.Metadata.ClientName)
		}
		if diff := cmp.Diff([]string{"no family left", "fresh", "old", "gone"}, names); diff != "" {
			t.Fatal(diff)
		}
		if a := apps[0]; !a.ExpiresAt.IsZero() || !a.IdleExpiresAt.IsZero() || a.Client.ID != lone.client.ID {
			t.Errorf("%+v", a)
		}
		if a := apps[1]; !a.ExpiresAt.Equal(fresh.ExpiresAt) || !a.IdleExpiresAt.Equal(now.Add(time.Minute).Add(14*day)) {
			t.Errorf("%+v", a)
		}
		a := apps[2]
		if !a.ExpiresAt.Equal(oldFamily.ExpiresAt) || !a.IdleExpiresAt.Equal(rotation.Successor.ExpiresAt) || !a.LastUsedAt.Equal(rotation.Now) {
			t.Errorf("%+v", a)
		}
		if len(a.Scopes) != 2 || a.Scopes[0].Scope != "read:notes" || a.Scopes[1].Scope != "write:notes" {
			t.Errorf("scopes %+v", a.Scopes)
		}
		if diff := cmp.Diff(old.client, a.Client); diff != "" {
			t.Error(diff)
		}
		if a := apps[3]; a.Grant.RevokedAt.IsZero() || !a.ExpiresAt.IsZero() {
			t.Errorf("%+v", a)
		}
		if apps, err := db.ConnectedApps(t.Context(), w.project.ID, "somebody else", "", now); err != nil || len(apps) != 0 {
			t.Errorf("%v, %v", apps, err)
		}
		clients, err := db.ClientGrants(t.Context(), w.project.ID, old.client.ID, "", 10)
		must(t, err)
		if len(clients) != 1 || !clients[0].LastUsedAt.Equal(rotation.Now) {
			t.Errorf("of the client: %+v", clients)
		}
		// Allowed anew after it was taken back, it was not used yet, whatever it was
		// used for before.
		must(t, db.RevokeGrant(t.Context(), w.project.ID, w.user.ID, oldFamily.GrantID, now.Add(day), w.eventAt(audit.GrantRevoked, now.Add(2*time.Hour))))
		must(t, db.Decide(t.Context(), old.decision(now.Add(3*time.Hour), "read:notes"), w.event(audit.GrantAllowed)))
		if used := old.lastUse(oldFamily.GrantID); !used.IsZero() {
			t.Errorf("allowed anew, it was used at %v", used)
		}
	})
}

// Rows: B27. A permission that somebody unticks, having allowed it before, is gone from
// everything that has it: the page of connected apps says so.
func TestUntickingWithdraws(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		_, first := w.family(now, "read:notes", "write:notes")
		waiting := w.allow(now, "read:notes", "write:notes")
		narrowed := func() int {
			return len(slices.DeleteFunc(events(t, db, w.project.ID), func(kind string) bool { return kind != string(audit.GrantNarrowed) }))
		}
		_, beside := w.family(now, "read:notes", "share:notes") // more is no withdrawal
		if !w.alive(first.ID) || narrowed() != 0 {
			t.Fatal("a decision that adds ends something")
		}
		never := w.decision(now, "read:notes", "delete:notes")
		never.Scopes[1].Allowed, never.Code.Scopes = false, []string{"read:notes"}
		must(t, db.Decide(t.Context(), never, w.event(audit.GrantAllowed)))
		if !w.alive(first.ID) || narrowed() != 0 {
			t.Fatal("declining what was never allowed ends something")
		}

		d := w.decision(now, "read:notes", "write:notes")
		d.Scopes[1].Allowed, d.Code.Scopes = false, []string{"read:notes"}
		must(t, db.Decide(t.Context(), d, w.event(audit.GrantAllowed)))
		for name, id := range map[string]string{"the family with it": first.ID, "the one beside, of the same grant": beside.ID} {
			if w.alive(id) {
				t.Errorf("%s lives", name)
			}
		}
		if err := w.redeemCode(w.redeem(waiting, now)); !errors.Is(err, oauth.ErrDead) && !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("a code with it: %v", err)
		}
		code, err := db.Code(t.Context(), w.project.ID, d.Code.ID)
		must(t, err)
		r := w.redeem(code, now)
		must(t, w.redeemCode(r))
		if !w.alive(r.Family.ID) || narrowed() != 1 {
			t.Errorf("the new code's family lives: %t; %d events", w.alive(r.Family.ID), narrowed())
		}
	})
}

// Rows: B28. What a code has from an earlier decision must hold still when it is made: it may
// have been taken back while the page was open.
func TestKeptScopeMustHold(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		w.family(now, "read:notes", "write:notes")
		stepUp := func() error {
			d := w.decision(now, "share:notes")
			d.Rests, d.Code.Scopes = []string{"write:notes"}, []string{"write:notes", "share:notes"}
			return db.Decide(t.Context(), d, w.event(audit.GrantAllowed))
		}
		remembered := func() error {
			d := w.decision(now, "write:notes")
			d.Asked, d.Scopes, d.Rests = false, nil, []string{"write:notes"}
			return db.Decide(t.Context(), d, w.event(audit.GrantAllowed))
		}
		must(t, stepUp())
		must(t, remembered())
		grant, _, err := db.Grant(t.Context(), w.project.ID, w.user.ID, "", w.client.ID, notes)
		must(t, err)
		must(t, db.DeclineScopes(t.Context(), w.project.ID, w.user.ID, grant.ID, []string{"write:notes"}, now.Add(day), w.event(audit.GrantNarrowed)))
		for name, decide := range map[string]func() error{"a step-up": stepUp, "a remembered consent": remembered} {
			if err := decide(); !errors.Is(err, oauth.ErrDead) {
				t.Errorf("%s with a scope that was declined: %v", name, err)
			}
		}
		must(t, db.RevokeGrant(t.Context(), w.project.ID, w.user.ID, grant.ID, now.Add(day), w.event(audit.GrantRevoked)))
		for name, decide := range map[string]func() error{"a step-up": stepUp, "a remembered consent": remembered} {
			if err := decide(); !errors.Is(err, oauth.ErrDead) {
				t.Errorf("%s with a grant that was taken back: %v", name, err)
			}
		}
		if _, _, err := db.Grant(t.Context(), w.project.ID, w.user.ID, "", w.client.ID, notes); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("the grant is alive again: %v", err)
		}
		// Allowed again with less, by hand: what is missing stays missing.
		w.allow(now, "read:notes")
		if err := remembered(); !errors.Is(err, oauth.ErrDead) {
			t.Errorf("a scope that nobody allowed again: %v", err)
		}
	})
}

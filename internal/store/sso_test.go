package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store"
)

func (w *world) connection(o identity.Organization, active bool) identity.Connection {
	w.t.Helper()
	c := identity.Connection{
		ID: secret.NewID(now, "sso-connection", "test"), ProjectID: o.ProjectID, OrganizationID: o.ID, Issuer: "https://login.example.com",
		ClientID: "postern", SealedSecret: []byte{1, 2, 3}, Active: active, CreatedAt: now, UpdatedAt: now,
		Provider: identity.Provider{Authorization: "https://login.example.com/a", Token: "https://login.example.com/t", Keys: "https://login.example.com/k", NamesItself: true},
	}
	must(w.t, w.CreateConnection(w.t.Context(), c, w.event(audit.SSOCreated)))
	return c
}

// arrival is a browser that came by a connection, going in.
func (w *world) arrival(c identity.Connection, email string) identity.Entry {
	cookie := secret.New(secret.HostedSession, now)
	return w.entry(identity.Browser{
		ID: cookie.ID, ProjectID: c.ProjectID, SecretHash: cookie.Hash[:], Email: email, EmailFolded: identity.Fold(email),
		Factors:   []identity.Factor{{Method: identity.MethodSSO, At: now, OrganizationID: c.OrganizationID, ConnectionID: c.ID}},
		CreatedAt: now, LastSeenAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(day),
	}, c.OrganizationID)
}

func (w *world) enterBySSO(c identity.Connection, email, subject string) (identity.Member, error) {
	_, m, err := w.EnterBySSO(w.t.Context(), w.arrival(c, email), c.ID, subject, w.event(audit.SignedIn))
	return m, err
}

// Settings that need the connection, and its end, are two administrators' deeds.
func TestNobodyIsLockedOut(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w, ctx := newWorld(t, d, "auth.example.com"), t.Context()
		only := func(o identity.Organization) error {
			o.Settings.Methods, o.Settings.AllowedMethods = identity.Listed, []string{identity.MethodSSO}
			return d.SaveOrganization(ctx, o, w.event(audit.OrganizationChanged))
		}
		end := func(c identity.Connection) error { return d.DeleteConnection(ctx, c, w.event(audit.SSODeleted)) }

		o := w.organization("saved-first", nil)
		if err := only(o); !errors.Is(err, identity.ErrLockedOut) {
			t.Errorf("without a connection: %v", err)
		}
		c := w.connection(o, false)
		if err := only(o); !errors.Is(err, identity.ErrLockedOut) {
			t.Errorf("before it is active: %v", err)
		}
		must(t, d.ActivateConnection(ctx, c, w.event(audit.SSOChanged)))
		must(t, only(o))
		if err := end(c); !errors.Is(err, identity.ErrLockedOut) {
			t.Errorf("delete what is needed: %v", err)
		}
		if _, err := d.Connection(ctx, w.project.ID, o.ID); err != nil {
			t.Errorf("the connection: %v", err)
		}
		for i := range 20 {
			o := w.organization(fmt.Sprint("race-", i), nil)
			c := w.connection(o, true)
			var saved, ended error
			var both sync.WaitGroup
			both.Go(func() { saved = only(o) })
			both.Go(func() { ended = end(c) })
			both.Wait()
			if (saved == nil) == (ended == nil) || !errors.Is(errors.Join(saved, ended), identity.ErrLockedOut) {
				t.Errorf("at once: saved %v, deleted %v", saved, ended)
			}
		}
	})
}

func TestConnections(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w, other, ctx := newWorld(t, d, "auth.example.com"), newWorld(t, d, "b.example.com"), t.Context()
		o := w.organization("fennel", nil)
		w.member(o, "eve@example.test")
		c := w.connection(o, false)
		got, err := d.Connection(ctx, w.project.ID, o.ID)
		if must(t, err); cmp.Diff(c, got) != "" {
			t.Error(cmp.Diff(c, got))
		}
		if err := d.CreateConnection(ctx, c, w.event(audit.SSOCreated)); !errors.Is(err, identity.ErrConflict) {
			t.Errorf("a second one: %v", err)
		}
		connected := func(email string) []string {
			ids, err := d.Connected(ctx, w.project.ID, email)
			must(t, err)
			return ids
		}
		if ids := connected("eve@example.test"); len(ids) != 0 {
			t.Errorf("before it is active: %v", ids)
		}
		must(t, d.ActivateConnection(ctx, c, w.event(audit.SSOChanged)))
		c.Provider.NamesItself = false
		must(t, d.SaveProvider(ctx, c, w.event(audit.SSOChanged))) // what it was before does not come back
		if got, err = d.Connection(ctx, w.project.ID, o.ID); err != nil || !got.Active || got.Provider.NamesItself {
			t.Errorf("%+v, %v", got, err)
		}
		if ids := connected("eve@example.test"); len(ids) != 1 || ids[0] != o.ID {
			t.Errorf("when it is: %v", ids)
		}
		if ids := connected("max@example.test"); len(ids) != 0 {
			t.Errorf("for a stranger: %v", ids)
		}

		t.Run("another project does not see or change it", func(t *testing.T) {
			id, foreign := other.project.ID, c
			foreign.ProjectID = id
			missing := map[string]error{}
			_, missing["Connection"] = d.Connection(ctx, id, o.ID)
			missing["ActivateConnection"] = d.ActivateConnection(ctx, foreign, other.event(audit.SSOChanged))
			missing["SaveProvider"] = d.SaveProvider(ctx, foreign, other.event(audit.SSOChanged))
			missing["DeleteConnection"] = d.DeleteConnection(ctx, foreign, other.event(audit.SSODeleted))
			_, missing["EnterBySSO"] = other.enterBySSO(foreign, "eve@example.test", "person-1")
			for name, err := range missing {
				if !errors.Is(err, identity.ErrNotFound) {
					t.Errorf("%s: %v", name, err)
				}
			}
			if ids, err := d.Connected(ctx, id, "eve@example.test"); err != nil || len(ids) != 0 {
				t.Errorf("Connected: %v, %v", ids, err)
			}
		})
		t.Run("an attempt works once, in its project", func(t *testing.T) {
			f, state := w.flow(now), secret.New(secret.SSOState, now)
			a := signin.Attempt{ID: state.ID, ProjectID: w.project.ID, FlowID: f.ID, Hash: state.Hash[:], OrganizationID: o.ID, ConnectionID: c.ID, Test: true, Again: true, CreatedAt: now, ExpiresAt: now.Add(time.Minute)}
			must(t, d.KeepAttempt(ctx, a))
			kept, err := d.Attempt(ctx, w.project.ID, a.ID, now)
			if must(t, err); cmp.Diff(a, kept) != "" {
				t.Error(cmp.Diff(a, kept))
			}
			for name, err := range map[string]error{
				"of another project": d.TakeAttempt(ctx, other.project.ID, a.ID, now),
				"too late":           d.TakeAttempt(ctx, w.project.ID, a.ID, a.ExpiresAt),
			} {
				if !errors.Is(err, signin.ErrNotFound) {
					t.Errorf("%s: %v", name, err)
				}
			}
			var taken atomic.Int64
			var group sync.WaitGroup
			for range 20 {
				group.Go(func() {
					if d.TakeAttempt(ctx, w.project.ID, a.ID, now) == nil {
						taken.Add(1)
					}
				})
			}
			if group.Wait(); taken.Load() != 1 {
				t.Errorf("taken %d times", taken.Load())
			}
		})
		t.Run("an organization takes it along", func(t *testing.T) {
			must(t, d.DeleteOrganization(ctx, w.project.ID, o.ID, w.event(audit.OrganizationDeleted)))
			if _, err := d.Connection(ctx, w.project.ID, o.ID); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("%v", err)
			}
		})
	})
}

// Of many browsers at once, with one address and many subjects or one subject
// and many addresses, one is bound.
func TestSubjectsAreBoundOnce(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w := newWorld(t, d, "auth.example.com")
		o := w.organization("fennel", func(o *identity.Organization) {
			o.Settings.AllowedDomains, o.Settings.Provisioning = []string{"example.test"}, true
		})
		c := w.connection(o, true)
		at := func(name string, who func(i int) (email, subject string), want int64) {
			var in, refused atomic.Int64
			var group sync.WaitGroup
			for i := range 20 {
				group.Go(func() {
					switch _, err := w.enterBySSO(c, first(who(i)), second(who(i))); {
					case err == nil:
						in.Add(1)
					case errors.Is(err, identity.ErrOtherPerson):
						refused.Add(1)
					default:
						t.Errorf("%s: %v", name, err)
					}
				})
			}
			if group.Wait(); in.Load() != want || refused.Load() != 20-want {
				t.Errorf("%s: %d in, %d refused", name, in.Load(), refused.Load())
			}
		}
		at("one address", func(i int) (string, string) { return "eve@example.test", fmt.Sprint("person-", i) }, 1)
		at("one subject", func(i int) (string, string) { return fmt.Sprintf("max%d@example.test", i), "person-max" }, 1)
		at("one person", func(int) (string, string) { return "zoe@example.test", "person-zoe" }, 20)
		members, err := d.Members(t.Context(), w.project.ID, o.ID, identity.MemberQuery{Limit: 100})
		if err != nil || len(members) != 3 {
			t.Errorf("%d members, %v", len(members), err)
		}
	})
}

func first(a, _ string) string  { return a }
func second(_, b string) string { return b }

// A connection that ends takes every browser with it that came by it, also one
// that comes at the same moment, and leaves the others. Row: P36.
func TestEndOfAConnection(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w, ctx := newWorld(t, d, "auth.example.com"), t.Context()
		o := w.organization("fennel", func(o *identity.Organization) {
			o.Settings.AllowedDomains, o.Settings.Provisioning = []string{"example.test"}, true
		})
		c := w.connection(o, true)
		w.member(o, "ada@example.test")
		_, _, err := w.enter(w.browser("ada@example.test"), o.ID)
		must(t, err)
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				_, err := w.enterBySSO(c, fmt.Sprintf("eve%d@example.test", i), fmt.Sprint("person-", i))
				if err != nil && !errors.Is(err, identity.ErrNotFound) {
					t.Error(err)
				}
			})
			if i == 10 {
				group.Go(func() { must(t, d.DeleteConnection(ctx, c, w.event(audit.SSODeleted))) })
			}
		}
		group.Wait()
		for _, table := range []string{"browser", "session"} {
			if left := rows(t, d, "SELECT id FROM "+table+" WHERE project_id = $1 AND factors LIKE '%sso%'", w.project.ID); len(left) != 0 {
				t.Errorf("%d of %s are left", len(left), table)
			}
		}
		if left := rows(t, d, "SELECT id FROM session WHERE project_id = $1 AND organization_id <> ''", w.project.ID); len(left) != 1 {
			t.Errorf("%d sessions of others are left", len(left))
		}
		if err := d.DeleteConnection(ctx, c, w.event(audit.SSODeleted)); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("again: %v", err)
		}
	})
}

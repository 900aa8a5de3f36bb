package store_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store"
)

// lost are the errors by which a use is told that another one came first.
var lost = []error{oauth.ErrUsed, oauth.ErrDead, oauth.ErrNotFound, oauth.ErrConflict, identity.ErrNotFound, identity.ErrStale, identity.ErrConflict, signin.ErrNotFound}

// won reports whether a use counted.
func won(t *testing.T, err error) bool {
	if err == nil {
		return true
	}
	for _, expected := range lost {
		if errors.Is(err, expected) {
			return false
		}
	}
	t.Error(err)
	return false
}

// singleUse makes the n-th thing of each kind that is good for one use, and
// returns that use, of any node.
var singleUse = map[string]func(o *office, w *world, n int) func(node *store.DB) error{
	"authorization code": func(_ *office, w *world, _ int) func(*store.DB) error {
		c := w.allow(now, "read:notes")
		return func(node *store.DB) error {
			r := w.redeem(c, now)
			return node.RedeemCode(w.t.Context(), w.project.ID, r, w.event(audit.TokenIssued), w.event(audit.CodeReused))
		}
	},
	"refresh token": func(_ *office, w *world, _ int) func(*store.DB) error {
		token, _ := w.family(now, "read:notes")
		return func(node *store.DB) error {
			r := w.rotation(token, now)
			r.Window = 0
			_, err := node.RotateRefresh(w.t.Context(), r, w.event(audit.TokenRefreshed), w.event(audit.RefreshReused))
			return err
		}
	},
	"mailed code": func(_ *office, w *world, n int) func(*store.DB) error {
		c := w.emailCode(w.flow(now), fmt.Sprintf("once-%d@example.test", n), "123456", now)
		must(w.t, w.CreateEmailCode(w.t.Context(), c, generous, w.event(audit.CodeSent)))
		return func(node *store.DB) error {
			out, err := node.RedeemEmailCode(w.t.Context(), w.try(c, "123456", now), w.event(audit.SignedIn))
			if err == nil && !out.Right {
				return oauth.ErrUsed
			}
			return err
		}
	},
	"decision about a flow": func(_ *office, w *world, _ int) func(*store.DB) error {
		f := w.flow(now)
		return func(node *store.DB) error {
			d := w.decision(now, "read:notes")
			d.FlowID = f.ID
			return node.Decide(w.t.Context(), d, w.event(audit.GrantAllowed))
		}
	},
	"assertion": func(_ *office, w *world, n int) func(*store.DB) error {
		return func(node *store.DB) error {
			return node.UseAssertion(w.t.Context(), w.project.ID, w.client.ID, fmt.Sprint("jti ", n), now.Add(time.Minute))
		}
	},
	"registration access token": func(_ *office, w *world, n int) func(*store.DB) error {
		c := w.ownClient(fmt.Sprint("once ", n))
		must(w.t, w.CreateClient(w.t.Context(), c, nil, w.event(audit.ClientRegistered)))
		var next atomic.Int64
		return func(node *store.DB) error {
			return node.ReplaceOwnClient(w.t.Context(), renamed(c, int(next.Add(1))), c, nil, w.event(audit.ClientChanged))
		}
	},
	"attempt at single sign-on": func(_ *office, w *world, _ int) func(*store.DB) error {
		f, state := w.flow(now), secret.New(secret.SSOState, now)
		a := signin.Attempt{ID: state.ID, ProjectID: w.project.ID, FlowID: f.ID, Hash: state.Hash[:], OrganizationID: "o", ConnectionID: "c", CreatedAt: now, ExpiresAt: now.Add(time.Minute)}
		must(w.t, w.KeepAttempt(w.t.Context(), a))
		return func(node *store.DB) error { return node.TakeAttempt(w.t.Context(), w.project.ID, a.ID, now) }
	},
	"administrator's link": func(o *office, _ *world, n int) func(*store.DB) error {
		link, err := o.by.Invite(o.t.Context(), fmt.Sprintf("once-%d@example.test", n))
		must(o.t, err)
		return func(node *store.DB) error {
			_, err := (&office{DB: node, t: o.t, by: o.by}).accept(link.ID, fmt.Sprintf("once-%d@example.test", n))
			return err
		}
	},
	"administrator's ceremony": func(o *office, _ *world, n int) func(*store.DB) error {
		id := fmt.Sprint("ceremony ", n)
		must(o.t, o.KeepCeremony(o.t.Context(), id, []byte{1}, []byte{2}, now.Add(time.Minute)))
		return func(node *store.DB) error {
			_, _, err := node.TakeCeremony(o.t.Context(), id, now)
			return err
		}
	},
	"step of an administrator's authenticator": func(o *office, _ *world, n int) func(*store.DB) error {
		who := o.first()
		return func(node *store.DB) error {
			p := identity.Password{Hash: "hash", TOTPStep: int64(100 + n)}
			return node.SignInByPassword(o.t.Context(), who.ID, p, nil, session(who), adminEvent(audit.AdministratorSignedIn, who))
		}
	},
}

// first is the administrator with a password, who is made when asked for first.
func (o *office) first() identity.Administrator {
	o.t.Helper()
	who, _, err := o.AdministratorByAddress(o.t.Context(), "first@example.test")
	if errors.Is(err, identity.ErrNotFound) {
		link, err := o.by.Invite(o.t.Context(), "first@example.test")
		must(o.t, err)
		who, err = o.accept(link.ID, "first@example.test")
		must(o.t, err)
		p := identity.Password{Hash: "hash", TOTPSecret: []byte{1}, TOTPStep: 1}
		must(o.t, o.AddAdministratorProof(o.t.Context(), who.ID, inside(o.t, o.DB, who.ID), identity.Proof{Password: &p}, adminEvent(audit.AdministratorChanged, who)))
		return who
	}
	must(o.t, err)
	return who
}

// raceSize is how many things of each kind are raced for, and by how many: a
// few in every run, and 10,000 of all kinds together by `make faults`.
func raceSize() (things, racers int) {
	if os.Getenv("POSTERN_FAULTS") == "long" {
		return 1000, 20
	}
	return 20, 10
}

// Rows: F-13. Of any number who present one thing at once, through two servers
// where there can be two, one wins.
func TestEachThingIsUsedOnce(t *testing.T) {
	things, racers := raceSize()
	eachConfig(t, func(t *testing.T, c store.Config) {
		nodes := []*store.DB{open(t, c), open(t, c)}
		w, o := newWorld(t, nodes[0], "auth.example.com"), newOffice(t, nodes[0])
		raced := 0
		for kind, create := range singleUse {
			for n := range things {
				use := create(o, w, n)
				var wins atomic.Int64
				at(racers, func(i int) {
					if won(t, use(nodes[i%2])) {
						wins.Add(1)
					}
				})
				if raced++; wins.Load() != 1 {
					t.Fatalf("%s %d: %d of %d uses counted", kind, n, wins.Load(), racers)
				}
			}
		}
		t.Logf("%d things, %d uses of each at once through two servers: one counted each time", raced, racers)
	})
}

// The same race finds a store that reads, decides and then writes: a test that
// could not would prove nothing.
func TestRaceFindsReadThenWrite(t *testing.T) {
	eachConfig(t, func(t *testing.T, c store.Config) {
		db := open(t, c)
		w := newWorld(t, db, "auth.example.com")
		nodes := []*sql.DB{outside(t, c), outside(t, c)}
		twice := 0
		for range 50 {
			id := w.allow(now, "read:notes").ID
			var wins atomic.Int64
			at(10, func(i int) {
				if careless(t, nodes[i%2], id) {
					wins.Add(1)
				}
			})
			if wins.Load() > 1 {
				twice++
			}
		}
		if twice == 0 {
			t.Error("no code was used twice by statements that allow it: the race is none")
		}
		t.Logf("%d of 50 codes were used more than once by a store that reads and then writes", twice)
	})
}

// outside opens the database without the store.
func outside(t *testing.T, c store.Config) *sql.DB {
	t.Helper()
	driver, source := "pgx", c.URL
	if c.URL == "" {
		driver, source = "sqlite", "file:"+c.Path+"?_pragma=busy_timeout(10000)"
	}
	on, err := sql.Open(driver, source)
	must(t, err)
	t.Cleanup(func() { must(t, on.Close()) })
	return on
}

// careless uses a code the wrong way.
func careless(t *testing.T, on *sql.DB, id string) bool {
	var used int64
	ctx := context.Background()
	if err := on.QueryRowContext(ctx, "SELECT redeemed_at FROM code WHERE id = $1", id).Scan(&used); err != nil {
		t.Error(err)
	}
	if used != 0 {
		return false
	}
	if _, err := on.ExecContext(ctx, "UPDATE code SET redeemed_at = 1 WHERE id = $1", id); err != nil {
		t.Error(err)
	}
	return true
}

package store_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store"
)

// A server is alive for NodeLease after each renewal, or until it ends.
func TestNodes(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		var passed atomic.Int64
		c.Now = func() time.Time { return now.Add(time.Duration(passed.Load())) }
		db := open(t, c)
		renew := func(id string, want int) {
			t.Helper()
			if db.SQLite() {
				want = 1 // a file has one server
			}
			if live, err := db.RenewNode(t.Context(), id, now); err != nil || live != want {
				t.Errorf("%s at %s: %d servers are alive, want %d (%v)", id, time.Duration(passed.Load()), live, want, err)
			}
		}
		renew("a", 1)
		renew("a", 1)
		renew("b", 2)
		passed.Store(int64(10 * time.Second))
		renew("a", 2)
		passed.Store(int64(store.NodeLease) - 1)
		renew("a", 2)
		passed.Store(int64(store.NodeLease)) // b was killed
		renew("a", 1)
		renew("b", 2) // and is back
		must(t, db.EndNode(t.Context(), "b"))
		must(t, db.EndNode(t.Context(), "b"))
		renew("a", 1)
		if n := len(rows(t, db, "SELECT id FROM node")); !db.SQLite() && n != 1 || db.SQLite() && n != 0 {
			t.Errorf("%d rows are left", n)
		}
	})
}

// Servers that renew at once, and all want to forget the same dead ones, do not
// stop each other.
func TestNodesAtOnce(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		c.Now = func() time.Time { return now }
		db := open(t, c)
		c.Now = func() time.Time { return now.Add(-time.Hour) }
		before := open(t, c)
		for i := range 20 {
			_, err := before.RenewNode(t.Context(), fmt.Sprint("dead", i), now)
			must(t, err)
		}
		const servers = 8
		at(servers, func(i int) {
			for range 10 {
				if _, err := db.RenewNode(t.Context(), fmt.Sprint("alive", i), now); err != nil {
					t.Error(err)
				}
			}
		})
		live, err := db.RenewNode(t.Context(), "alive0", now)
		if want := map[bool]int{true: 1, false: servers}[db.SQLite()]; err != nil || live != want {
			t.Errorf("%d servers are alive, want %d (%v)", live, want, err)
		}
	})
}

// What a database was made for is decided once.
func TestPurpose(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		project bool
		first   store.Purpose // "" for none
		then    store.Purpose
		want    error
		kept    store.Purpose
	}{
		"development stays development":            {first: store.Development, then: store.Development, kept: store.Development},
		"development is not served":                {first: store.Development, then: store.Service, want: store.ErrPurpose, kept: store.Development},
		"what is served is not for development":    {first: store.Service, then: store.Development, want: store.ErrPurpose, kept: store.Service},
		"what is served is served again":           {first: store.Service, then: store.Service, kept: store.Service},
		"a project is not for development":         {project: true, then: store.Development, want: store.ErrPurpose},
		"a project is served":                      {project: true, then: store.Service, kept: store.Service},
		"a project of development is developed on": {project: true, first: store.Development, then: store.Development, kept: store.Development},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			eachBackend(t, func(t *testing.T, db *store.DB) {
				if p, err := db.Purpose(t.Context()); p != "" || err != nil {
					t.Errorf("a new database is for %q (%v)", p, err)
				}
				if test.first != "" {
					must(t, db.Dedicate(t.Context(), test.first))
				}
				if test.project {
					newWorld(t, db, "auth.example.com")
				}
				if err := db.Dedicate(t.Context(), test.then); !errors.Is(err, test.want) {
					t.Errorf("got %v, want %v", err, test.want)
				}
				if p, err := db.Purpose(t.Context()); p != test.kept || err != nil {
					t.Errorf("it is for %q now, want %q (%v)", p, test.kept, err)
				}
			})
		})
	}
	t.Run("of two at once one wins", func(t *testing.T) {
		t.Parallel()
		eachBackend(t, func(t *testing.T, db *store.DB) {
			purposes := []store.Purpose{store.Development, store.Service}
			var won [2]atomic.Int64
			at(16, func(i int) {
				switch err := db.Dedicate(t.Context(), purposes[i%2]); {
				case err == nil:
					won[i%2].Add(1)
				case !errors.Is(err, store.ErrPurpose):
					t.Error(err)
				}
			})
			if d, s := won[0].Load(), won[1].Load(); d+s != 8 || d*s != 0 {
				t.Errorf("%d were told that it is for development, %d that it is to be served", d, s)
			}
		})
	})
}

// PostgreSQL tells of every raised change counter once it is committed, on a
// connection beside the pool.
func TestListen(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		writer := open(t, c)
		c.MaxConns = 1
		db := open(t, c)
		told := make(chan struct{}, 100)
		ended := make(chan error, 1)
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go func() { ended <- db.Listen(ctx, func() { told <- struct{}{} }) }()
		if db.SQLite() {
			stop()
			if err := <-ended; !errors.Is(err, context.Canceled) || len(told) > 0 {
				t.Errorf("got %v, told %d times", err, len(told))
			}
			return
		}
		hear := func(what string) {
			t.Helper()
			select {
			case <-told:
			case err := <-ended:
				t.Fatalf("%s: listening ended: %v", what, err)
			case <-time.After(5 * time.Second):
				t.Fatalf("nobody told of %s", what)
			}
		}
		hear("the beginning")
		w := newWorld(t, writer, "auth.example.com")
		hear("a new project")
		must(t, writer.AddResource(t.Context(), w.project.ID, nil, w.resource(notes), nil, w.event(audit.ResourceAdded)))
		hear("a resource server")
		must(t, db.SetClientSecret(t.Context(), w.project.ID, w.client.ID, "x", []byte("y"), w.event(audit.ClientRotated)))
		hear("a change of its own, through a pool of one")

		// Neither of these is a change: the next to be told of is the one after.
		must(t, writer.Record(t.Context(), w.event(audit.SignedOut)))
		err := writer.SaveSettings(t.Context(), w.project.ID, 0, "Old", project.Defaults(), w.event(audit.ProjectChanged))
		if !errors.Is(err, project.ErrConflict) {
			t.Fatal(err)
		}
		must(t, writer.RevokeToken(t.Context(), w.project.ID, "jti", now.Add(day), w.event(audit.TokenRevoked)))
		if len(told) > 0 {
			t.Error("told of no change")
		}
		must(t, writer.SetClientSecret(t.Context(), w.project.ID, w.client.ID, "z", []byte("y"), w.event(audit.ClientRotated)))
		hear("the next change")
		if len(told) > 0 {
			t.Errorf("told %d times more than there were changes", len(told))
		}

		must(t, writer.Change(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"))
		select {
		case err := <-ended:
			if err == nil {
				t.Error("a broken connection is no error")
			}
		case <-time.After(5 * time.Second):
			t.Error("listening goes on without a connection")
		}
	})
}

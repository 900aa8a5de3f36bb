package store_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store"
	"github.com/postern-id/postern/internal/store/db"
)

// mark writes one row that tells who wrote it.
func mark(ctx context.Context, q *db.Queries, projectID, who string) error {
	return q.CreateEvent(ctx, db.CreateEventParams{ProjectID: projectID, ID: who, Kind: who})
}

func marks(t *testing.T, w *world) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	for _, kind := range rows(t, w.DB, "SELECT kind FROM event WHERE project_id = $1 AND id = kind", w.project.ID) {
		all[kind] = true
	}
	return all
}

// Of many functions that write at once, each is kept or lost by itself.
func TestWriteTogether(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		const n = 420
		at(n, func(i int) { writeOne(t, w, i) })
		got := marks(t, w)
		for i := range n {
			who := fmt.Sprint("w", i)
			// What has begun is not cancelled.
			if want := i%6 < 2 || i%6 == 5; got[who] != want {
				t.Errorf("row of writer %d (%d) is there: %v", i, i%6, got[who])
			}
		}
	})
}

// A function runs once, and beside one that fails at most twice.
func TestWriteRunsOnce(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		for round, most := range map[string]int64{"calm": 1, "with a failure": 2} {
			var ran [100]atomic.Int64
			at(len(ran), func(i int) {
				err := w.Write(t.Context(), func(q *dbQueries) error {
					ran[i].Add(1)
					if i == 50 && most > 1 {
						return errOwn
					}
					return mark(t.Context(), q, w.project.ID, fmt.Sprint(round, i))
				})
				if (i == 50 && most > 1) != errors.Is(err, errOwn) {
					t.Errorf("%s: writer %d: %v", round, i, err)
				}
			})
			for i := range ran {
				if n := ran[i].Load(); n < 1 || n > most {
					t.Errorf("%s: function %d ran %d times", round, i, n)
				}
			}
		}
		if n := len(marks(t, w)); n != 199 {
			t.Errorf("%d rows", n)
		}
	})
}

var errOwn = errors.New("own")

// writeOne writes a row in one of six ways.
func writeOne(t *testing.T, w *world, i int) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	who := fmt.Sprint("w", i)
	var after error
	panics := false
	switch i % 6 {
	case 1:
		after = store.Keep(errOwn)
	case 2:
		after = errOwn
	case 3:
		panics = true
	case 4:
		cancel()
	}
	defer func() {
		if p := recover(); panics != (p != nil) || panics && !strings.Contains(fmt.Sprint(p), "on purpose") {
			t.Errorf("writer %d: panic %v", i, p)
		}
	}()
	err := w.Write(ctx, func(q *db.Queries) error {
		if i%6 == 5 {
			cancel()
		}
		if err := mark(ctx, q, w.project.ID, who); err != nil {
			return err
		}
		if panics {
			panic("on purpose")
		}
		return after
	})
	switch want := map[int]error{1: errOwn, 2: errOwn, 4: context.Canceled}[i%6]; {
	case want == nil && err != nil, want != nil && !errors.Is(err, want):
		t.Errorf("writer %d (%d): %v", i, i%6, err)
	}
}

// A broken rule of the database ends the function that broke it and no other.
func TestWriteBreakingARule(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		var kept atomic.Int64
		at(100, func(i int) {
			err := w.Write(t.Context(), func(q *dbQueries) error {
				if err := mark(t.Context(), q, w.project.ID, fmt.Sprint("own", i)); err != nil {
					return err
				}
				return mark(t.Context(), q, w.project.ID, "same")
			})
			if err == nil {
				kept.Add(1)
			}
		})
		if kept.Load() != 1 || len(marks(t, w)) != 2 {
			t.Errorf("%d of 100 equal keys were written, rows %v", kept.Load(), marks(t, w))
		}
	})
}

type dbQueries = db.Queries

// Where the writer's transaction is lost, nobody in it is told of success or gets
// the error of another, and the next one works.
func TestWriteLosesItsTransaction(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		if !db.SQLite() {
			t.Skip("PostgreSQL has a transaction for each")
		}
		w := newWorld(t, db, "auth.example.com")
		var succeeded atomic.Int64
		at(50, func(i int) {
			err := w.Write(t.Context(), func(q *dbQueries) error {
				if err := mark(t.Context(), q, w.project.ID, fmt.Sprint("w", i)); err != nil {
					return err
				}
				if i%10 == 0 {
					must(t, w.Rollback(t.Context()))
					return oauth.ErrLimited
				}
				return nil
			})
			var temporary interface{ Temporary() bool }
			switch {
			case err == nil:
				succeeded.Add(1)
			case errors.Is(err, oauth.ErrLimited) || !errors.As(err, &temporary) || !temporary.Temporary():
				t.Errorf("writer %d of a lost batch: %v", i, err)
			}
		})
		if n := len(marks(t, w)); int64(n) != succeeded.Load() {
			t.Errorf("%d writers heard of success, %d rows are there", succeeded.Load(), n)
		}
		must(t, w.Record(t.Context(), w.event(audit.SignedOut)))
	})
}

// On PostgreSQL a transaction that lost against another runs again, three times
// at most.
func TestWriteAgain(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		if db.SQLite() {
			t.Skip("SQLite has one writer: nothing is lost against another")
		}
		w := newWorld(t, db, "auth.example.com")
		for fails, want := range map[int]bool{3: true, 4: false} {
			runs := 0
			err := w.Write(t.Context(), func(q *dbQueries) error {
				runs++
				if err := mark(t.Context(), q, w.project.ID, fmt.Sprint("after", fails)); err != nil {
					return err
				}
				if runs <= fails {
					return fmt.Errorf("lost: %w", store.ErrRace)
				}
				return nil
			})
			if (err == nil) != want || marks(t, w)[fmt.Sprint("after", fails)] != want {
				t.Errorf("after %d losses: %v in %d runs", fails, err, runs)
			}
		}
	})
}

// Two transactions that lock the same rows in opposite order: PostgreSQL ends
// one, which runs again.
func TestWriteDeadlock(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		a, b := newWorld(t, db, "a.example.com"), newWorld(t, db, "b.example.com")
		var runs atomic.Int64
		var both sync.WaitGroup
		both.Add(2)
		at(2, func(i int) {
			first, second := a.project.ID, b.project.ID
			if i == 1 {
				first, second = second, first
			}
			err := db.Write(t.Context(), func(q *dbQueries) error {
				if _, err := q.RaiseChange(t.Context(), first); err != nil {
					return err
				}
				if runs.Add(1) <= 2 && !db.SQLite() { // wait until both hold their first
					both.Done()
					both.Wait()
				}
				_, err := q.RaiseChange(t.Context(), second)
				return err
			})
			if err != nil {
				t.Error(err)
			}
		})
		for id, change := range mustChanges(t, db) {
			if change != 3 {
				t.Errorf("project %s changed to %d, want 3", id, change)
			}
		}
	})
}

func mustChanges(t *testing.T, db *store.DB) map[string]int64 {
	t.Helper()
	changes, err := db.Changes(t.Context())
	must(t, err)
	return changes
}

// Who comes when too many wait is told at once, and who leaves while waiting
// does so at once and has written nothing. The others are not held up.
func TestWriteQueue(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		if !db.SQLite() {
			t.Skip("PostgreSQL has a pool, and whoever waits for it may leave")
		}
		w := newWorld(t, db, "auth.example.com")
		holding, release := make(chan struct{}), make(chan struct{})
		var writers sync.WaitGroup
		defer writers.Wait()
		letGo := sync.OnceFunc(func() { close(release) })
		defer letGo()
		writers.Go(func() {
			if err := w.Write(t.Context(), func(*dbQueries) error {
				close(holding)
				<-release
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
		<-holding
		impatient, leave := context.WithCancel(t.Context())
		defer leave()
		var left sync.WaitGroup
		for i := range store.GroupQueue {
			ctx, who := t.Context(), &writers
			if i%4 != 0 {
				ctx, who = impatient, &left
			}
			who.Go(func() {
				err := w.Write(ctx, func(q *dbQueries) error { return mark(ctx, q, w.project.ID, fmt.Sprint("w", i)) })
				if want := map[bool]error{true: context.Canceled}[ctx == impatient]; !errors.Is(err, want) {
					t.Errorf("writer %d: %v, want %v", i, err, want)
				}
			})
		}
		for w.Waiting() < store.GroupQueue {
			runtime.Gosched()
		}
		var passing interface{ Temporary() bool }
		guard := time.AfterFunc(10*time.Second, letGo) // a writer that should not wait fails instead of hanging
		defer guard.Stop()
		if err := w.Record(t.Context(), w.event(audit.SignedOut)); !errors.Is(err, store.ErrBusy) || !errors.As(err, &passing) || !passing.Temporary() {
			t.Errorf("one too many: %v", err)
		}
		leave()
		left.Wait() // while the first still writes
		if n := w.Waiting(); n != store.GroupQueue/4 {
			t.Errorf("%d wait, want %d", n, store.GroupQueue/4)
		}
		letGo()
		writers.Wait()
		if n := len(marks(t, w)); n != store.GroupQueue/4 {
			t.Errorf("%d rows were written, want %d", n, store.GroupQueue/4)
		}
		must(t, w.Record(t.Context(), w.event(audit.SignedOut)))
	})
}

// Callers that leave in any moment, the one of leading included, leave nobody
// waiting for ever.
// Row: N09.
func TestWriteLeaving(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		if !db.SQLite() {
			t.Skip("PostgreSQL has a pool, and whoever waits for it may leave")
		}
		w := newWorld(t, db, "auth.example.com")
		var kept atomic.Int64
		at(16, func(i int) {
			for n := range 50 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((i*50+n)%40)*50*time.Microsecond)
				err := w.Write(ctx, func(q *dbQueries) error { return mark(ctx, q, w.project.ID, fmt.Sprintf("w%d-%d", i, n)) })
				cancel()
				switch {
				case err == nil:
					kept.Add(1)
				case !errors.Is(err, context.DeadlineExceeded):
					t.Error(err)
				}
			}
		})
		if n := len(marks(t, w)); int64(n) != kept.Load() {
			t.Errorf("%d rows are there, %d writers heard of success", n, kept.Load())
		}
	})
	t.Run("who was told to lead does it first", func(t *testing.T) {
		if !store.Leaves(false) || store.Leaves(true) {
			t.Error("the others would wait for ever")
		}
	})
}

// A database that is closed while it is written to ends what was begun, and
// refuses the rest.
func TestCloseWhileWriting(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		db, err := store.Open(t.Context(), c)
		must(t, err)
		w := newWorld(t, db, "auth.example.com")
		var kept atomic.Int64
		begun, closed := make(chan struct{}, 16), make(chan error, 1)
		go func() {
			for range 16 {
				<-begun
			}
			closed <- db.Close()
		}()
		at(16, func(i int) {
			for n := 0; ; n++ {
				err := w.Write(t.Context(), func(q *dbQueries) error {
					return mark(t.Context(), q, w.project.ID, fmt.Sprint("w", i, "-", n))
				})
				if err != nil {
					return
				}
				kept.Add(1)
				if n == 0 {
					begun <- struct{}{}
				}
			}
		})
		must(t, <-closed)
		again := open(t, c)
		if n := len(marks(t, &world{DB: again, project: w.project})); int64(n) < kept.Load() {
			t.Errorf("%d writes were acknowledged, %d are there", kept.Load(), n)
		}
	})
}

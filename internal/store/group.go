package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"

	"modernc.org/sqlite"

	"github.com/postern-id/postern/internal/store/db"
)

// group makes the one writer of a SQLite file serve many callers with one
// commit. Who comes while nobody writes leads: runs the functions of all who
// wait by then inside one transaction, commits, and answers them. Who came
// meanwhile waits, and the first of those leads next.
//
// A function that fails or panics is rolled back alone: where one does among
// others, the batch begins anew with a savepoint before each, and so does the
// next one, until none fails. So a function may run twice, as on PostgreSQL. Once
// it has begun it is not cancelled: SQLite answers an interrupted write by
// rolling back the transaction, and with it the others. Until then its caller may
// leave, when its context ends.
type group struct {
	connect func(context.Context) (*sql.Conn, error)

	mu      sync.Mutex
	waiting []*job
	leading bool // while nobody leads, nobody waits
	ended   bool
	idle    sync.Cond // nobody leads any more; on mu

	// Used by who leads only.
	conn    *sql.Conn
	cached  *statements
	careful bool // something failed in the last batch
	lost    bool // SQLite rolled the transaction back, asked to or not
}

const (
	// groupSize bounds how long the first of a group waits for the last.
	groupSize = 64
	// groupQueue bounds how many wait: some seconds' work of a slow disk.
	groupQueue = 64 * groupSize
)

// ErrBusy: more writes wait than can be done soon. Nothing was written.
var ErrBusy error = queueFull{}

// queueFull is a type of its own for its method, by which whoever answers
// requests knows that trying again helps.
type queueFull struct{}

func (queueFull) Error() string   { return "store: too many writes are waiting" }
func (queueFull) Temporary() bool { return true }

var errClosed = errors.New("store: the database is closed")

// lostBatch is what everybody in a batch gets whose transaction ended before its
// time: nothing of it has happened. Why is for the log alone, since the error of
// one of them would tell the others something else.
type lostBatch struct{ why error }

func (e lostBatch) Error() string { return fmt.Sprintf("the transaction is lost: %v", e.why) }

// Temporary is how whoever answers requests knows that trying again helps.
func (lostBatch) Temporary() bool { return true }

// job is one function that waits to be run.
type job struct {
	ctx      context.Context
	fn       func(*db.Queries) error
	wake     chan bool // true: lead now; false: err is the answer
	err      error
	panicked any
}

func (g *group) write(ctx context.Context, fn func(*db.Queries) error) error {
	j := &job{ctx: ctx, fn: fn, wake: make(chan bool, 1)}
	g.mu.Lock()
	switch {
	case g.ended:
		g.mu.Unlock()
		return errClosed
	case len(g.waiting) >= groupQueue:
		g.mu.Unlock()
		return ErrBusy
	}
	g.waiting = append(g.waiting, j)
	lead := !g.leading
	g.leading = true
	g.mu.Unlock()
	if !lead {
		select {
		case lead = <-j.wake:
		case <-ctx.Done():
			if g.leave(j) {
				return ctx.Err()
			}
			lead = <-j.wake
		}
	}
	if lead {
		g.lead()
	}
	if j.panicked != nil {
		panic(j.panicked) // again: from fn, which ran in another goroutine
	}
	return j.err
}

// leave takes a job out of the waiting. It reports false where it is too late:
// the job is in a group that has begun, or was told to lead the next one, which
// others wait for.
func (g *group) leave(j *job) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := slices.Index(g.waiting, j)
	if i < 0 || len(j.wake) > 0 {
		return false
	}
	g.waiting = slices.Delete(g.waiting, i, i+1)
	return true
}

// lead serves the caller, who is the first of the waiting, and those behind. Who
// is about to write, and needs no more than a turn for that, comes along.
func (g *group) lead() {
	runtime.Gosched()
	g.mu.Lock()
	n := min(len(g.waiting), groupSize)
	batch := g.waiting[:n:n]
	g.waiting = g.waiting[n:]
	g.mu.Unlock()

	g.commit(context.WithoutCancel(batch[0].ctx), batch)

	g.mu.Lock()
	g.leading = len(g.waiting) > 0
	if g.leading {
		g.waiting[0].wake <- true
	} else {
		g.idle.Broadcast()
	}
	g.mu.Unlock()
	for _, j := range batch[1:] {
		j.wake <- false
	}
}

// commit runs a batch in one transaction. Where that is lost, everybody in it
// gets the error: nothing that they saw has happened.
func (g *group) commit(ctx context.Context, batch []*job) {
	err := g.transaction(ctx, batch)
	if err == nil {
		return
	}
	for _, j := range batch {
		j.err = fmt.Errorf("store: write: %w", err)
	}
	g.close() // whatever state the connection is in, the next one is fresh
}

func (g *group) transaction(ctx context.Context, batch []*job) error {
	if g.conn == nil {
		conn, err := g.connect(ctx)
		if err != nil {
			return err
		}
		g.conn, g.cached = conn, newStatements(conn)
		if err := conn.Raw(func(c any) error {
			c.(sqlite.HookRegisterer).RegisterRollbackHook(func() { g.lost = true })
			return nil
		}); err != nil {
			return err
		}
	}
	var here []*job
	for _, j := range batch {
		if j.err = j.ctx.Err(); j.err == nil {
			here = append(here, j)
		}
	}
	if len(here) == 0 {
		return nil
	}
	if len(here) == 1 || !g.careful {
		failed, err := g.together(ctx, here)
		if err != nil || !failed || len(here) == 1 {
			return err
		}
	}
	return g.apart(ctx, here)
}

// begin begins a transaction for the functions of a batch.
func (g *group) begin(ctx context.Context) (*db.Queries, error) {
	g.lost = false
	return db.New(within{ctx, g.cached}), g.exec(ctx, "BEGIN IMMEDIATE")
}

// together runs a batch as if nothing in it could fail. Where something does,
// nothing of the batch has happened.
func (g *group) together(ctx context.Context, batch []*job) (failed bool, err error) {
	q, err := g.begin(ctx)
	if err != nil {
		return false, err
	}
	for _, j := range batch {
		counts := j.run(q)
		switch {
		case g.lost: // what came next would be a transaction of its own
			return true, lostBatch{j.err}
		case !counts:
			if err := g.exec(ctx, "ROLLBACK"); err != nil {
				return true, lostBatch{errors.Join(err, j.err)}
			}
			return true, nil
		}
	}
	return false, g.exec(ctx, "COMMIT")
}

// apart runs a batch with a savepoint before each function.
func (g *group) apart(ctx context.Context, batch []*job) error {
	q, err := g.begin(ctx)
	if err != nil {
		return err
	}
	g.careful = false
	for _, j := range batch {
		if err := g.exec(ctx, "SAVEPOINT job"); err != nil {
			return err
		}
		counts := j.run(q)
		if g.lost {
			return lostBatch{j.err}
		}
		if !counts {
			g.careful = true
			if err := g.exec(ctx, "ROLLBACK TO job"); err != nil {
				return lostBatch{errors.Join(err, j.err)}
			}
		}
		if err := g.exec(ctx, "RELEASE job"); err != nil {
			return err
		}
	}
	return g.exec(ctx, "COMMIT")
}

// run calls the function and reports whether what it did counts.
func (j *job) run(q *db.Queries) (commit bool) {
	j.panicked = nil
	defer func() {
		if p := recover(); p != nil {
			commit, j.panicked = false, fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
	}()
	commit, j.err = outcome(j.fn(q))
	return commit
}

func (g *group) exec(ctx context.Context, statement string) error {
	_, err := g.cached.ExecContext(ctx, statement)
	return err
}

// end refuses more writes, waits for those under way and closes the connection.
func (g *group) end() {
	g.mu.Lock()
	g.ended = true
	for g.leading {
		g.idle.Wait()
	}
	g.mu.Unlock()
	g.close()
}

// close ends the connection, and with it a transaction that it may still have.
func (g *group) close() {
	if g.conn == nil {
		return
	}
	g.cached.close()
	// Closing a sql.Conn gives it back to its pool; ErrBadConn makes the pool
	// close it.
	_ = g.conn.Raw(func(any) error { return driver.ErrBadConn })
	_ = g.conn.Close()
	g.conn, g.cached = nil, nil
}

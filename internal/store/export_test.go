package store

import (
	"context"
	"os"

	"github.com/postern-id/postern/internal/store/db"
)

// What the tests look at from inside.

func (d *DB) Write(ctx context.Context, fn func(q *db.Queries) error) error { return d.write(ctx, fn) }

func (d *DB) Raw() db.DBTX { return d.reads() }

// Change runs a statement on a connection of its own.
func (d *DB) Change(ctx context.Context, statement string, args ...any) error {
	one, err := d.alone()
	if err != nil {
		return err
	}
	defer one.Close()
	_, err = one.ExecContext(ctx, statement, args...)
	return err
}

// Rollback does what SQLite does by itself when the disk is full: it ends the
// whole transaction.
func (d *DB) Rollback(ctx context.Context) error {
	_, err := d.engine.(*sqliteDB).group.conn.ExecContext(ctx, "ROLLBACK")
	return err
}

// LockFile is what LockServer holds of a SQLite file.
func (d *DB) LockFile() *os.File { return d.engine.(*sqliteDB).lock }

// Waiting is how many writers of a SQLite file wait.
func (d *DB) Waiting() int {
	g := &d.engine.(*sqliteDB).group
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

// Leaves reports whether a waiting writer may leave, told to lead or not.
func Leaves(toldToLead bool) bool {
	j := &job{wake: make(chan bool, 1)}
	if toldToLead {
		j.wake <- true
	}
	return (&group{waiting: []*job{j}, leading: true}).leave(j)
}

// GroupQueue is how many may.
const GroupQueue = groupQueue

var (
	Keep        = keep
	AtLeast     = atLeast
	SchemaFiles = schemaFiles
	ErrRace     = errRace
)

// Passing is passing, for its test.
var Passing = passing

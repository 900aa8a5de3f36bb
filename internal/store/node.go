package store

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/postern-id/postern/internal/store/db"
)

// NodeLease is how long a server counts as alive after RenewNode. It renews
// three times as often.
const NodeLease = 15 * time.Second

// RenewNode says that the server with this id is alive, and returns how many
// are. Servers whose lease ran out are forgotten. A SQLite file has one server,
// which LockServer sees to, and keeps no row of it.
func (d *DB) RenewNode(ctx context.Context, id string, started time.Time) (live int, err error) {
	if d.SQLite() {
		return 1, nil
	}
	now := d.now()
	var n int64
	err = d.write(ctx, func(q *db.Queries) error {
		err := q.RenewNode(ctx, db.RenewNodeParams{ID: id, StartedAt: micros(started), Until: micros(now.Add(NodeLease))})
		if err != nil {
			return err
		}
		if err := q.DeleteLateNodes(ctx, micros(now)); err != nil {
			return err
		}
		n, err = q.CountNodes(ctx)
		return err
	})
	return int(n), wrap("renew lease of this server", err)
}

// EndNode ends a server's lease at once, so that the others do not wait for it
// to run out.
func (d *DB) EndNode(ctx context.Context, id string) error {
	if d.SQLite() {
		return nil
	}
	return d.write(ctx, func(q *db.Queries) error { return wrap("end lease of this server", q.DeleteNode(ctx, id)) })
}

// Listen calls changed once it listens, and then whenever a project's change
// counter was raised, until ctx ends or the connection breaks; then it returns
// an error. It has a connection of its own. What it tells may be late or lost,
// so that it hurries those who poll Changes and replaces nothing. SQLite tells
// of nothing: there Listen waits for ctx.
func (d *DB) Listen(ctx context.Context, changed func()) error {
	return wrap("listen for changes", d.listen(ctx, changed))
}

// Purpose is what a database was made for.
type Purpose string

// The purposes. Data of development was served over plain http, its mail was
// caught for everybody to read, and it is thrown away with a command.
const (
	Development Purpose = "development"
	Service     Purpose = "service"
)

// ErrPurpose: the database was made for something else.
var ErrPurpose = errors.New("store: the database was made for another purpose")

// Purpose returns what the database was made for, "" while it is for anything.
func (d *DB) Purpose(ctx context.Context) (Purpose, error) {
	name, err := d.read.Purpose(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return Purpose(name), wrap("read purpose", err)
}

// Dedicate makes the database one for p, for good, or returns ErrPurpose. One
// that has projects becomes none for development.
func (d *DB) Dedicate(ctx context.Context, p Purpose) error {
	return d.write(ctx, func(q *db.Queries) error {
		keep := q.KeepPurpose
		if p == Development {
			keep = q.KeepPurposeOfEmpty
		}
		if err := keep(ctx, string(p)); err != nil {
			return wrap("keep purpose", err)
		}
		kept, err := q.Purpose(ctx)
		if errors.Is(err, sql.ErrNoRows) || err == nil && kept != string(p) {
			return ErrPurpose
		}
		return wrap("keep purpose", err)
	})
}

// Package store keeps everything Postern knows, in SQLite or PostgreSQL, with
// one text of SQL for both.
//
// [DB] is the store: the domain packages say in interfaces what they need
// (project.SetupStore, identity.Store, signin.Store, oauth.Store,
// signing.Store, audit.Recorder, audit.Reader), and a DB is all of them. [Open] opens one,
// [DB.Migrate] brings its tables up to date, [DB.LockServer] keeps a second
// server away from a SQLite file.
//
// Each method is one read or one state change. A state change is one
// transaction: one conditional statement whose row count decides, the rows that
// follow from it, and the event that tells of it. It runs in write, which hides
// how the two databases differ; what else differs is in sqlite.go and
// postgres.go and nowhere else. Queries are in queries, tables in schema, and
// what sqlc makes of both in db.
//
// No transaction leaves this package, nothing is read from a replica or a
// cache, and nothing is hashed, signed, sent or decided about people here.
package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store/db"
)

// DB is an open database. It is safe for concurrent use.
type DB struct {
	engine
	read *db.Queries
	now  func() time.Time
}

var (
	_ project.SetupStore         = (*DB)(nil)
	_ identity.Store             = (*DB)(nil)
	_ identity.OrganizationStore = (*DB)(nil)
	_ signin.Store               = (*DB)(nil)
	_ oauth.SetupStore           = (*DB)(nil)
	_ signing.Store              = (*DB)(nil)
	_ audit.Recorder             = (*DB)(nil)
	_ audit.TraceReader          = (*DB)(nil)
	_ audit.Reader               = (*DB)(nil)
)

// Config says which database to open. Now and exactly one of Path and URL are
// required.
type Config struct {
	Path     string           // SQLite file; it and its folder are made where missing
	URL      string           // PostgreSQL, postgres://…
	MaxConns int              // connections to PostgreSQL, or readers of SQLite; 0 is 10, or 4
	ReadOnly bool             // SQLite only: never write; the file must be there
	Copied   bool             // SQLite only: open a copy that Backup made too, to restore it
	Now      func() time.Time // the clock, for leases and for ClockSkew
}

// engine is what differs between the two databases.
type engine interface {
	// reads runs statements outside of transactions.
	reads() db.DBTX
	// write runs fn in a transaction and returns after its commit, or returns
	// fn's error after nothing changed. An error made by keep is different: the
	// transaction is committed all the same. A transaction that has begun is
	// finished, even if ctx ends. fn may run more than once, and must not call
	// write.
	write(ctx context.Context, fn func(q *db.Queries) error) error

	dialect() goose.Dialect
	// alone opens a single connection for the migrator.
	alone() (*sql.DB, error)
	// finish ends the transaction of a migration.
	finish(ctx context.Context, tx *sql.Tx) error
	tableExists(ctx context.Context, name string) (bool, error)
	checkCollation(ctx context.Context) error
	databaseClock(ctx context.Context) (time.Time, bool, error)
	// copyTo writes what the database holds at one moment into an empty file.
	copyTo(ctx context.Context, path string) error

	// listen calls changed once, and then after each transaction that raised a
	// change counter, until ctx ends or it fails.
	listen(ctx context.Context, changed func()) error
	lockServer() error
	ping(ctx context.Context) error
	close() error
}

// Open opens a database. It does not look at its tables: call Migrate or
// CheckSchema next.
func Open(ctx context.Context, c Config) (*DB, error) {
	if c.Now == nil {
		return nil, errors.New("store: Config.Now is required")
	}
	if (c.Path == "") == (c.URL == "") {
		return nil, errors.New("store: exactly one of Config.Path and Config.URL is required")
	}
	var e engine
	var err error
	if c.Path != "" {
		e, err = openSQLite(ctx, c)
	} else {
		e, err = openPostgres(ctx, c)
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	return &DB{engine: e, read: db.New(e.reads()), now: c.Now}, nil
}

// Close closes the database and gives up the server's lock.
func (d *DB) Close() error { return d.close() }

// Ping reports whether the database answers.
func (d *DB) Ping(ctx context.Context) error {
	if err := d.ping(ctx); err != nil {
		return fmt.Errorf("store: database does not answer: %w", err)
	}
	return nil
}

// SQLite reports whether this is a SQLite file and not a PostgreSQL server.
func (d *DB) SQLite() bool { return d.dialect() == goose.DialectSQLite3 }

// LockServer makes this process the only server of a SQLite file until Close,
// or until it dies. Where another one serves the file it returns a *Locked.
// Set-up commands work on the file beside a server and do not call it.
// PostgreSQL has many servers: there it does nothing.
func (d *DB) LockServer() error { return d.lockServer() }

// ClockSkew is how far our clock is ahead of the database's. SQLite has ours.
func (d *DB) ClockSkew(ctx context.Context) (time.Duration, error) {
	before := d.now()
	theirs, own, err := d.databaseClock(ctx)
	if err != nil {
		return 0, fmt.Errorf("store: read the database's clock: %w", err)
	}
	if !own {
		return 0, nil
	}
	after := d.now()
	return before.Add(after.Sub(before) / 2).Sub(theirs), nil
}

// MasterKeyCheck returns the value by which a wrong master key is found, or nil
// when none is kept yet.
func (d *DB) MasterKeyCheck(ctx context.Context) ([]byte, error) {
	value, err := d.read.MasterKeyCheck(ctx)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return value, wrap("master key check", err)
}

// KeepMasterKeyCheck keeps check if there is none yet, and returns the one that
// is kept.
func (d *DB) KeepMasterKeyCheck(ctx context.Context, check []byte) ([]byte, error) {
	var kept []byte
	err := d.write(ctx, func(q *db.Queries) error {
		if err := q.KeepMasterKeyCheck(ctx, check); err != nil {
			return err
		}
		var err error
		kept, err = q.MasterKeyCheck(ctx)
		return err
	})
	return kept, wrap("master key check", err)
}

// kept is a refusal that is itself a change.
type kept struct{ error }

func (k kept) Unwrap() error { return k.error }

// keep makes write commit what was done so far and then return err.
func keep(err error) error { return kept{err} }

// outcome tells what to do after a transaction's function returned err: whether
// to commit, and what its caller gets.
func outcome(err error) (commit bool, result error) {
	var k kept
	if errors.As(err, &k) {
		return true, k.error
	}
	return err == nil, err
}

// errRace says that another transaction came in between in a way that the
// database reports as a broken rule: write tries again.
var errRace = errors.New("another transaction came in between")

// within runs statements under a context of its own instead of the caller's,
// which may end in the middle of a transaction.
type within struct {
	ctx context.Context
	on  db.DBTX
}

func (w within) PrepareContext(_ context.Context, query string) (*sql.Stmt, error) {
	return w.on.PrepareContext(w.ctx, query)
}

func (w within) ExecContext(_ context.Context, query string, args ...any) (sql.Result, error) {
	return w.on.ExecContext(w.ctx, query, args...)
}

func (w within) QueryContext(_ context.Context, query string, args ...any) (*sql.Rows, error) {
	return w.on.QueryContext(w.ctx, query, args...)
}

func (w within) QueryRowContext(_ context.Context, query string, args ...any) *sql.Row {
	return w.on.QueryRowContext(w.ctx, query, args...)
}

// wrap adds what was done to an error of the database.
func wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return passing(fmt.Errorf("store: %s: %w", doing, err))
}

// trouble is an error of a database that is not there just now, is full, or is
// busier than it can be: the one who asked may ask again. Whether a change
// happened that ended so is not known.
type trouble struct{ error }

// Temporary is how whoever answers requests knows.
func (trouble) Temporary() bool { return true }

func (t trouble) Unwrap() error { return t.error }

// passing marks the errors of a database that another try may find well again.
func passing(err error) error {
	var known trouble
	if err == nil || errors.As(err, &known) || !unavailable(err) && !outOfOrder(err) {
		return err
	}
	return trouble{err}
}

// write is the engine's write, for all of this package.
func (d *DB) write(ctx context.Context, fn func(q *db.Queries) error) error {
	return passing(d.engine.write(ctx, fn))
}

// found is wrap for the read of one row: no row is missing, the sentinel of the
// package that asked. So is a text that no row can hold.
func found(doing string, err, missing error) error {
	if errors.Is(err, sql.ErrNoRows) || impossibleText(err) {
		return missing
	}
	return wrap(doing, err)
}

// storable makes a text that a stranger chose one that both databases take:
// PostgreSQL refuses what is not UTF-8, and the zero byte.
func storable(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", ""), "\uFFFD")
}

// told is storable for what is shown to others afterwards, in the trail or of an
// attempt: a secret that was sent in the wrong place is cut out.
func told(text string) string { return secret.Mask(storable(text)) }

// micros is a time as the database keeps it: microseconds since 1970, 0 for the
// zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}

// toJSON writes lists and documents of our own types.
func toJSON(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // impossible: none of our types has a member that JSON cannot say
	}
	return string(text)
}

func fromJSON[T any](text string) (v T, err error) {
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return v, fmt.Errorf("store: damaged row: %w", err)
	}
	return v, nil
}

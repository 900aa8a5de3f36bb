package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"time"

	"github.com/pressly/goose/v3"

	"github.com/postern-id/postern/internal/store/db"
)

// What CheckSchema finds.
var (
	// ErrSchemaOld: the tables are older than this binary, or missing.
	ErrSchemaOld = errors.New("store: the database needs to be migrated")
	// ErrSchemaNew: the tables are too new for this binary.
	ErrSchemaNew = errors.New("store: the database was migrated by a newer postern that this one cannot work beside")
	// ErrCollation: a text column of PostgreSQL is not compared by its bytes.
	ErrCollation = errors.New(`store: the database compares text by the rules of a language, not COLLATE "C"`)
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// migration is one file of schema, named by its version.
type migration struct {
	version int64
	oldest  int64 // min_binary_schema: the oldest binary that can work after it
	ddl     string
}

var oldestLine = regexp.MustCompile(`^-- min_binary_schema: (\d+)\n`)

// migrations reads the folder, ascending.
func migrations() ([]migration, error) {
	names, err := fs.Glob(schemaFiles, "schema/*.sql")
	if err != nil {
		return nil, err
	}
	all := make([]migration, len(names))
	for i, name := range names {
		text, err := schemaFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		version, err := goose.NumericComponent(name)
		if err != nil {
			return nil, err
		}
		line := oldestLine.FindSubmatch(text)
		if line == nil {
			return nil, fmt.Errorf("%s does not begin with min_binary_schema", name)
		}
		oldest, err := strconv.ParseInt(string(line[1]), 10, 64)
		if err != nil {
			return nil, err
		}
		all[i] = migration{version: version, oldest: oldest, ddl: string(text)}
	}
	return all, nil
}

// SchemaVersion returns the version of the database's tables, 0 for none, and
// the version that this binary was made for.
func (d *DB) SchemaVersion(ctx context.Context) (database, binary int64, err error) {
	state, binary, err := d.schema(ctx)
	return state.Version, binary, err
}

func (d *DB) schema(ctx context.Context) (state db.SchemaStateRow, binary int64, err error) {
	all, err := migrations()
	if err != nil {
		return state, 0, wrap("read migrations", err)
	}
	binary = all[len(all)-1].version
	exists, err := d.tableExists(ctx, "schema_state")
	if err != nil || !exists {
		return db.SchemaStateRow{}, binary, wrap("read schema version", err)
	}
	state, err = d.read.SchemaState(ctx)
	return state, binary, wrap("read schema version", err)
}

// CheckSchema returns nil when this binary can work with the database's tables,
// or ErrSchemaOld, ErrSchemaNew or ErrCollation.
func (d *DB) CheckSchema(ctx context.Context) error {
	state, binary, err := d.schema(ctx)
	switch {
	case err != nil:
		return damaged(err)
	case state.Version < binary:
		return fmt.Errorf("%w (it has version %d, this postern needs %d)", ErrSchemaOld, state.Version, binary)
	case state.MinBinarySchema > binary:
		return fmt.Errorf("%w (it needs version %d, this postern has %d)", ErrSchemaNew, state.MinBinarySchema, binary)
	}
	return d.checkCollation(ctx)
}

// Migrate brings the tables up to date. Any number of processes may call it at
// once: one does the work, the others wait for it until ctx ends.
func (d *DB) Migrate(ctx context.Context) error {
	if err := d.CheckSchema(ctx); !errors.Is(err, ErrSchemaOld) {
		return err
	}
	alone, err := d.alone()
	if err != nil {
		return wrap("migrate", err)
	}
	defer alone.Close()
	lease := newLease(alone, d.now)
	if err := lease.take(ctx); err != nil {
		return wrap("wait for the migration lock", err)
	}
	err = d.migrate(ctx, alone, lease)
	if err := errors.Join(err, lease.give(context.WithoutCancel(ctx))); err != nil {
		return wrap("migrate", err)
	}
	return d.CheckSchema(ctx)
}

func (d *DB) migrate(ctx context.Context, alone *sql.DB, lease *lease) error {
	all, err := migrations()
	if err != nil {
		return err
	}
	var steps []*goose.Migration
	for _, m := range all {
		run := func(ctx context.Context, tx *sql.Tx) error {
			if err := lease.hold(ctx, tx); err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, m.ddl); err != nil {
				return err
			}
			if err := d.finish(ctx, tx); err != nil {
				return err
			}
			return db.New(tx).SetSchemaState(ctx, m.version, m.oldest)
		}
		steps = append(steps, goose.NewGoMigration(m.version, &goose.GoFunc{RunTx: run}, nil))
	}
	provider, err := goose.NewProvider(d.dialect(), alone, nil,
		goose.WithGoMigrations(steps...), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	_, err = provider.Up(ctx)
	return err
}

// leaseTime is how long the migration lock outlives a process that died with
// it.
const leaseTime = 60 * time.Second

// lease is the migration lock: one row with its holder and when it ends. Every
// migration renews it inside its own transaction, and so holds the row until it
// commits: a lease that ran out meanwhile cannot be taken before, and one that
// was taken makes the migration fail. A row works where session locks do not
// (through a connection pooler, on SQLite).
type lease struct {
	on     *sql.DB
	now    func() time.Time
	holder int64
}

func newLease(on *sql.DB, now func() time.Time) *lease {
	var holder [8]byte
	rand.Read(holder[:]) // never fails: crypto/rand ends the program instead
	return &lease{on: on, now: now, holder: int64(binary.BigEndian.Uint64(holder[:]) >> 1)}
}

const leaseTable = "CREATE TABLE IF NOT EXISTS migration_lock (id BIGINT PRIMARY KEY, holder BIGINT NOT NULL, until BIGINT NOT NULL)"

// take waits for the lock.
func (l *lease) take(ctx context.Context) error {
	for {
		taken, err := l.try(ctx)
		if taken || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (l *lease) try(ctx context.Context) (taken bool, err error) {
	if _, err := l.on.ExecContext(ctx, leaseTable); err != nil {
		if tableTaken(err) {
			return false, nil // two made it at once
		}
		return false, err
	}
	if _, err := l.on.ExecContext(ctx, "INSERT INTO migration_lock (id, holder, until) VALUES (1, 0, 0) ON CONFLICT (id) DO NOTHING"); err != nil {
		return false, err
	}
	now := l.now()
	result, err := l.on.ExecContext(ctx, "UPDATE migration_lock SET holder = $1, until = $2 WHERE id = 1 AND until <= $3",
		l.holder, micros(now.Add(leaseTime)), micros(now))
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n == 1, err
}

// hold renews the lock inside a migration's transaction.
func (l *lease) hold(ctx context.Context, tx *sql.Tx) error {
	result, err := tx.ExecContext(ctx, "UPDATE migration_lock SET until = $1 WHERE id = 1 AND holder = $2",
		micros(l.now().Add(leaseTime)), l.holder)
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n != 1 {
		return errors.Join(errors.New("another process took the migration lock"), err)
	}
	return nil
}

// give ends the lock for the next one.
func (l *lease) give(ctx context.Context) error {
	_, err := l.on.ExecContext(ctx, "UPDATE migration_lock SET until = 0 WHERE id = 1 AND holder = $1", l.holder)
	return err
}

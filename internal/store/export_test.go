package store

import (
	"context"

	"github.com/postern-id/postern/internal/store/db"
)

// What the tests look at from inside.

func (d *DB) Write(ctx context.Context, fn func(q *db.Queries) error) error { return d.write(ctx, fn) }

func (d *DB) Raw() db.DBTX { return d.reads() }

// Deactivate locks a user out; nothing in this release does it yet.
func (d *DB) Deactivate(ctx context.Context, projectID, id string) error {
	return d.write(ctx, func(q *db.Queries) error {
		_, err := q.Raw().ExecContext(ctx, `UPDATE "user" SET active = FALSE WHERE project_id = $1 AND id = $2`, projectID, id)
		return err
	})
}

// Rollback does what SQLite does by itself when the disk is full: it ends the
// whole transaction.
func (d *DB) Rollback(ctx context.Context) error {
	_, err := d.engine.(*sqliteDB).group.conn.ExecContext(ctx, "ROLLBACK")
	return err
}

var (
	Keep          = keep
	AtLeast       = atLeast
	StorableText  = storable
	SchemaFiles   = schemaFiles
	ErrRace       = errRace
	SQLitePragmas = sqlitePragmas
)

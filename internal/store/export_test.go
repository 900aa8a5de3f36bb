package store

import (
	"context"

	"github.com/postern-id/postern/internal/store/db"
)

// What the tests look at from inside.

func (d *DB) Write(ctx context.Context, fn func(q *db.Queries) error) error { return d.write(ctx, fn) }

func (d *DB) Raw() db.DBTX { return d.reads() }

var (
	Keep          = keep
	AtLeast       = atLeast
	StorableText  = storable
	SchemaFiles   = schemaFiles
	ErrRace       = errRace
	SQLitePragmas = sqlitePragmas
)

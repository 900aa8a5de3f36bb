package store_test

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/store"
)

// eachEmpty is eachConfig without tables.
func eachEmpty(t *testing.T, fn func(t *testing.T, c store.Config)) {
	t.Helper()
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		fn(t, store.Config{Path: filepath.Join(t.TempDir(), "new", "postern.db"), Now: time.Now})
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		fn(t, store.Config{URL: postgresDatabase(t, func(name string) string { return "CREATE DATABASE " + name }), Now: time.Now})
	})
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	eachEmpty(t, func(t *testing.T, c store.Config) {
		db := open(t, c)
		if err := db.CheckSchema(t.Context()); !errors.Is(err, store.ErrSchemaOld) {
			t.Errorf("an empty database: %v", err)
		}
		version, binary, err := db.SchemaVersion(t.Context())
		if err != nil || version != 0 || binary < 1 {
			t.Errorf("versions %d, %d, %v", version, binary, err)
		}
		for range 2 {
			must(t, db.Migrate(t.Context()))
			must(t, db.CheckSchema(t.Context()))
		}
		if version, binary, err = db.SchemaVersion(t.Context()); err != nil || version != binary {
			t.Errorf("versions %d, %d, %v", version, binary, err)
		}
		newWorld(t, db, "auth.example.com")
	})
}

// Three servers start on an empty database at once: all of them work.
func TestMigrateRaced(t *testing.T) {
	t.Parallel()
	eachEmpty(t, func(t *testing.T, c store.Config) {
		at(3, func(i int) {
			db, err := store.Open(t.Context(), c)
			if err != nil {
				t.Error(err)
				return
			}
			defer db.Close()
			if err := db.Migrate(t.Context()); err != nil {
				t.Errorf("opener %d: %v", i, err)
			}
		})
		newWorld(t, open(t, c), "auth.example.com")
	})
}

// A lock whose holder died is taken over when it runs out; one that is held is
// waited for.
func TestMigrationLock(t *testing.T) {
	t.Parallel()
	eachEmpty(t, func(t *testing.T, c store.Config) {
		clock := now
		c.Now = func() time.Time { return clock }
		db := open(t, c)
		must(t, db.Change(t.Context(), "CREATE TABLE migration_lock (id BIGINT PRIMARY KEY, holder BIGINT NOT NULL, until BIGINT NOT NULL)"))
		must(t, db.Change(t.Context(), fmt.Sprintf("INSERT INTO migration_lock (id, holder, until) VALUES (1, 7, %d)", now.Add(time.Minute).UnixMicro())))

		clock = now.Add(time.Minute - time.Microsecond)
		ctx, cancel := contextWithTimeout(t, 300*time.Millisecond)
		defer cancel()
		if err := db.Migrate(ctx); err == nil {
			t.Error("a held lock was taken")
		}
		clock = now.Add(time.Minute)
		must(t, db.Migrate(t.Context()))
	})
}

func TestSchemaOfANewerBinary(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		db := open(t, c)
		_, binary, err := db.SchemaVersion(t.Context())
		must(t, err)
		set := func(version, oldest int64) {
			t.Helper()
			must(t, db.Change(t.Context(), "UPDATE schema_state SET version = $1, min_binary_schema = $2 WHERE id = 1", version, oldest))
		}
		set(binary+2, binary) // it says that we can work beside it
		must(t, db.CheckSchema(t.Context()))
		must(t, db.Migrate(t.Context()))
		set(binary+2, binary+1)
		for name, err := range map[string]error{"check": db.CheckSchema(t.Context()), "migrate": db.Migrate(t.Context())} {
			if !errors.Is(err, store.ErrSchemaNew) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

func TestCollationIsChecked(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		db := open(t, c)
		if db.SQLite() {
			t.Skip("SQLite compares bytes")
		}
		if got := rows(t, db, `SELECT count(*) FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
			WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND a.attcollation = 'pg_catalog."C"'::regcollation`); got[0] == "0" {
			t.Error("no column has a collation")
		}
		must(t, db.CheckSchema(t.Context()))
		must(t, db.Change(t.Context(), "CREATE TABLE by_hand (name TEXT)"))
		err := db.CheckSchema(t.Context())
		if !errors.Is(err, store.ErrCollation) || !strings.Contains(err.Error(), "by_hand") {
			t.Errorf("a table of another collation: %v", err)
		}
	})
}

// Every file of the schema says which binaries it keeps working, and they are
// numbered without a gap.
func TestSchemaFiles(t *testing.T) {
	t.Parallel()
	entries, err := store.SchemaFiles.ReadDir("schema")
	must(t, err)
	for i, e := range entries {
		if want := fmt.Sprintf("%05d_", i+1); !strings.HasPrefix(e.Name(), want) {
			t.Errorf("%s does not begin with %s", e.Name(), want)
		}
	}
}

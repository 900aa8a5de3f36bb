package store_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/store"
)

func contextWithTimeout(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	notADatabase := filepath.Join(dir, "text")
	must(t, os.WriteFile(notADatabase, []byte(strings.Repeat("no database ", 1000)), 0o600))
	for name, c := range map[string]store.Config{
		"nothing":                {Now: time.Now},
		"both":                   {Path: "x", URL: "postgres://localhost/x", Now: time.Now},
		"no clock":               {Path: filepath.Join(dir, "a.db")},
		"no file to read only":   {Path: filepath.Join(dir, "b.db"), ReadOnly: true, Now: time.Now},
		"a file of another kind": {Path: notADatabase, Now: time.Now},
		"a folder":               {Path: dir, Now: time.Now},
		"a URL of another kind":  {URL: "postgres://user:hunter2@[::1/x", Now: time.Now},
		"nobody at the URL":      {URL: "postgres://user:hunter2@127.0.0.1:1/x?sslmode=disable&connect_timeout=1", Now: time.Now},
		"PostgreSQL to read":     {URL: "postgres://localhost/x", ReadOnly: true, Now: time.Now},
	} {
		db, err := store.Open(t.Context(), c)
		if err == nil {
			db.Close()
			t.Errorf("%s: opened", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error tells the password: %v", name, err)
		}
	}
}

func TestSQLiteFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "folder with ? and %", "postern.db")
	db := open(t, store.Config{Path: path, Now: time.Now})
	must(t, db.Migrate(t.Context()))
	newWorld(t, db, "auth.example.com")
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", name, info.Mode())
		}
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder: %v, %v", info.Mode(), err)
	}
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "query_only": "1", "busy_timeout": "10000"} {
		if got := rows(t, db, "PRAGMA "+pragma); got[0] != want {
			t.Errorf("%s is %s", pragma, got[0])
		}
	}
	if _, err := db.Raw().ExecContext(t.Context(), "DELETE FROM event"); err == nil {
		t.Error("a reader can write")
	}
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	path := sqliteCopy(t)
	writer := open(t, store.Config{Path: path, Now: time.Now})
	w := newWorld(t, writer, "auth.example.com")
	db := open(t, store.Config{Path: path, ReadOnly: true, Now: time.Now})
	must(t, db.CheckSchema(t.Context()))
	if find(t, db, w.project.ID).Name != "Notes" {
		t.Error("it reads something else")
	}
	if err := db.Record(t.Context(), w.event(audit.SignedOut)); err == nil {
		t.Error("it wrote")
	}
}

func TestServerLock(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		first, second := open(t, c), open(t, c)
		must(t, first.LockServer())
		must(t, first.LockServer()) // its own already
		err := second.LockServer()
		if !first.SQLite() {
			must(t, err)
			return
		}
		var locked *store.Locked
		if !errors.As(err, &locked) || locked.PID != os.Getpid() || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			t.Errorf("a second server: %v", err)
		}
		// A set-up command works beside the server.
		newWorld(t, second, "auth.example.com")
		third, err := store.Open(t.Context(), c)
		must(t, err)
		must(t, third.Close())
		// A process that is just being started has our files for a moment, and is
		// no server.
		started := exec.Command("cat")
		started.ExtraFiles = []*os.File{first.LockFile()}
		goesOn, err := started.StdinPipe()
		must(t, err)
		must(t, started.Start())
		must(t, first.Close())
		must(t, second.LockServer())
		must(t, goesOn.Close())
		must(t, started.Wait())
	})
}

func TestMasterKeyCheck(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		if got, err := db.MasterKeyCheck(t.Context()); got != nil || err != nil {
			t.Errorf("before: %v, %v", got, err)
		}
		for _, check := range []string{"first", "second"} {
			got, err := db.KeepMasterKeyCheck(t.Context(), []byte(check))
			if string(got) != "first" || err != nil {
				t.Errorf("keep %s: %s, %v", check, got, err)
			}
		}
		if got, err := db.MasterKeyCheck(t.Context()); string(got) != "first" || err != nil {
			t.Errorf("after: %s, %v", got, err)
		}
	})
}

func TestClockSkew(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		for _, ahead := range []time.Duration{0, -time.Minute, time.Hour} {
			c.Now = func() time.Time { return time.Now().Add(ahead) }
			db := open(t, c)
			must(t, db.Ping(t.Context()))
			want := ahead
			if db.SQLite() {
				want = 0
			}
			got, err := db.ClockSkew(t.Context())
			if err != nil || (got-want).Abs() > 2*time.Second {
				t.Errorf("skew %v, want %v: %v", got, want, err)
			}
		}
	})
}

// One connection is enough for everything, at once and from many.
func TestPoolOfOne(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		c.MaxConns = 1
		db := open(t, c)
		w := newWorld(t, db, "auth.example.com")
		at(20, func(i int) {
			name := fmt.Sprintf("app %d", i)
			other := *w
			other.client = w.newClient(name)
			if err := db.CreateClient(t.Context(), other.client, nil, w.event(audit.ClientCreated)); err != nil {
				t.Error(err)
				return
			}
			d := other.decision(now, "read:notes")
			if err := db.Decide(t.Context(), d, w.event(audit.GrantAllowed)); err != nil {
				t.Error(err)
				return
			}
			if _, err := db.ConnectedApps(t.Context(), w.project.ID, w.user.ID, "", now); err != nil {
				t.Error(err)
			}
			if _, err := db.Projects(t.Context()); err != nil {
				t.Error(err)
			}
			if _, err := db.Clean(t.Context(), now, 10); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestVersions(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]bool{"3.51.3": true, "3.51.2": false, "3.52.0": true, "3.7.17": false, "4.0.0": true, "2.99.99": false, "": false, "x.y": false} {
		if store.AtLeast(version, [3]int{3, 51, 3}) != want {
			t.Errorf("%s", version)
		}
	}
}

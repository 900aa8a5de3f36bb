package store_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/store"
)

// consistent are queries whose rows are two numbers that one transaction keeps
// equal.
var consistent = map[string]string{
	"an event for each family":             `SELECT (SELECT count(*) FROM family), (SELECT count(*) FROM event WHERE kind = 'token.issued')`,
	"a used code for each family":          `SELECT (SELECT count(*) FROM family), (SELECT count(*) FROM code c JOIN family f ON f.id = c.family_id WHERE c.redeemed_at > 0)`,
	"an event for each revoked token":      `SELECT (SELECT count(*) FROM revoked_token), (SELECT count(*) FROM event WHERE kind = 'token.revoked')`,
	"the feed ends at the counter's place": `SELECT (SELECT max(sequence) FROM revocation), (SELECT max(revocation) FROM project_counter)`,
}

// Copies are taken while others write: each is whole, and of one moment.
func TestBackupWhileOthersWrite(t *testing.T) {
	t.Parallel()
	path := sqliteCopy(t)
	db := open(t, store.Config{Path: path, Now: time.Now})
	w := newWorld(t, db, "auth.example.com")
	must(t, db.RevokeToken(t.Context(), w.project.ID, "first", now.Add(day), w.event(audit.TokenRevoked)))
	stop, stopped := context.WithCancel(t.Context())
	var writing sync.WaitGroup
	for n := range 3 {
		writing.Go(func() {
			for i := 0; stop.Err() == nil; i++ {
				w.family(now, "read:notes")
				if err := db.RevokeToken(t.Context(), w.project.ID, fmt.Sprint(n, i), now.Add(day), w.event(audit.TokenRevoked)); err != nil {
					t.Error(err)
				}
				time.Sleep(2 * time.Millisecond) // so that the copies stay small
			}
		})
	}
	dir := t.TempDir()
	reader := open(t, store.Config{Path: path, ReadOnly: true, Now: time.Now})
	families := func(db *store.DB) (n int) {
		_, err := fmt.Sscan(rows(t, db, "SELECT count(*) FROM family")[0], &n)
		must(t, err)
		return n
	}
	first, last := families(db), 0
	for i := range 5 {
		told := families(db)
		name := filepath.Join(dir, fmt.Sprintf("copy%d.db", i))
		must(t, reader.Backup(t.Context(), name))
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v", info.Mode())
		}
		// By its own: what one copy has must not be in a file beside it.
		staged, err := store.Stage(t.Context(), name, filepath.Join(t.TempDir(), "postern.db"), time.Now)
		must(t, err)
		for what, query := range consistent {
			if got := strings.Fields(rows(t, staged.DB, query)[0]); got[0] != got[1] {
				t.Errorf("copy %d: %s: %v", i, what, got)
			}
		}
		if last = families(staged.DB); last < told {
			t.Errorf("copy %d has %d families; %d were kept before it began", i, last, told)
		}
		must(t, staged.Discard())
	}
	stopped()
	writing.Wait()
	if last <= first {
		t.Error("nothing was written meanwhile")
	}
	if names := namesIn(t, dir); len(names) != 5 {
		t.Errorf("beside the copies: %q", names)
	}
}

func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// backedUp is a copy of a database with one project, and that database's path.
func backedUp(t *testing.T) (file, path string) {
	t.Helper()
	path = sqliteCopy(t)
	db, err := store.Open(t.Context(), store.Config{Path: path, Now: time.Now})
	must(t, err)
	newWorld(t, db, "auth.example.com")
	file = filepath.Join(t.TempDir(), "copy.db")
	must(t, db.Backup(t.Context(), file))
	must(t, db.Close())
	return file, path
}

func TestBackupRefuses(t *testing.T) {
	t.Parallel()
	file, path := backedUp(t)
	before, err := os.ReadFile(file)
	must(t, err)
	db := open(t, store.Config{Path: path, ReadOnly: true, Now: time.Now})
	if err := db.Backup(t.Context(), file); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a file: %v", err)
	}
	if after, err := os.ReadFile(file); err != nil || !slices.Equal(before, after) {
		t.Error("the file that was there changed")
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if err := db.Backup(ended, filepath.Join(dir, "copy.db")); err == nil {
		t.Error("ended before it began: a copy")
	}
	if names := namesIn(t, dir); len(names) != 0 {
		t.Errorf("left behind: %q", names)
	}
	// What nobody restored is not worked on.
	for _, readOnly := range []bool{true, false} {
		if _, err := store.Open(t.Context(), store.Config{Path: file, ReadOnly: readOnly, Now: time.Now}); !errors.Is(err, store.ErrCopy) {
			t.Errorf("opened: %v", err)
		}
	}
}

func TestPostgresHasItsOwnCopies(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		db := open(t, c)
		if db.SQLite() {
			return
		}
		if err := db.Backup(t.Context(), filepath.Join(t.TempDir(), "copy.db")); !errors.Is(err, store.ErrNoFile) {
			t.Error(err)
		}
	})
}

func TestStageRefuses(t *testing.T) {
	t.Parallel()
	file, path := backedUp(t)
	content, err := os.ReadFile(file)
	must(t, err)
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		name = filepath.Join(dir, name)
		must(t, os.WriteFile(name, content, 0o600))
		return name
	}
	flipped := slices.Clone(content)
	for i := len(flipped) / 2; i < len(flipped)/2+5000; i++ {
		flipped[i] ^= 0xff
	}
	inUse := write("in-use.db", content)
	write("in-use.db-wal", []byte("frames"))
	empty := filepath.Join(dir, "foreign.db")
	must(t, os.WriteFile(empty, nil, 0o600))
	for what, test := range map[string]struct {
		file string
		want error
	}{
		"half a file":         {write("half.db", content[:len(content)/2]), store.ErrDamaged},
		"a changed page":      {write("flipped.db", flipped), store.ErrDamaged},
		"a text":              {write("text.db", []byte(strings.Repeat("hello ", 2000))), store.ErrDamaged},
		"no file":             {filepath.Join(dir, "nothing.db"), fs.ErrNotExist},
		"a folder":            {dir, store.ErrForeign},
		"a database in use":   {inUse, store.ErrInUse},
		"an empty file":       {empty, store.ErrForeign},
		"a later schema":      {newer(t, content, dir), store.ErrSchemaNew},
		"a database, already": {path, nil},
	} {
		target := filepath.Join(t.TempDir(), "postern.db")
		staged, err := store.Stage(t.Context(), test.file, target, time.Now)
		if err == nil {
			must(t, staged.Discard())
		}
		if !errors.Is(err, test.want) || test.want == nil && err != nil {
			t.Errorf("%s: %v", what, err)
		}
		if names := namesIn(t, filepath.Dir(target)); !slices.Equal(names, []string{"postern.db.lock"}) {
			t.Errorf("%s leaves %q", what, names)
		}
	}
	// Beside a server.
	serving := open(t, store.Config{Path: path, Now: time.Now})
	must(t, serving.LockServer())
	var locked *store.Locked
	if _, err := store.Stage(t.Context(), file, path, time.Now); !errors.As(err, &locked) {
		t.Errorf("beside a server: %v", err)
	}
}

// newer is a copy whose tables are of a later release.
func newer(t *testing.T, content []byte, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "newer.db")
	must(t, os.WriteFile(path, content, 0o600))
	db := open(t, store.Config{Path: path, Copied: true, Now: time.Now})
	must(t, db.Change(t.Context(), "UPDATE schema_state SET version = 1000, min_binary_schema = 1000"))
	must(t, db.Close())
	return path
}

// The database that was there stays whole under another name, with what was
// only in its log yet, and however damaged it is.
func TestWhatWasThereIsKept(t *testing.T) {
	t.Parallel()
	for what, damage := range map[string]func(t *testing.T, path string){
		"as a server left it": func(*testing.T, string) {},
		"damaged":             func(t *testing.T, path string) { must(t, os.WriteFile(path, []byte("nothing of use"), 0o600)) },
	} {
		t.Run(what, func(t *testing.T) {
			file, path := backedUp(t)
			live := open(t, store.Config{Path: path, Now: time.Now})
			must(t, live.Record(t.Context(), audit.Event{At: now, Kind: audit.SignedOut, Object: "the last word"}))
			// As a kill leaves it: the event is in the log alone.
			target := filepath.Join(t.TempDir(), "postern.db")
			for _, end := range []string{"", "-wal"} {
				content, err := os.ReadFile(path + end)
				must(t, err)
				must(t, os.WriteFile(target+end, content, 0o600))
			}
			damage(t, target)
			staged, err := store.Stage(t.Context(), file, target, time.Now)
			must(t, err)
			aside, err := staged.PutInPlace(t.Context())
			must(t, err)
			if aside == "" {
				t.Fatal("it is gone")
			}
			placed := open(t, store.Config{Path: target, Now: time.Now})
			if n := rows(t, placed, "SELECT count(*) FROM event WHERE object = 'the last word'")[0]; n != "0" {
				t.Error("what is in place is not the copy")
			}
			if what == "damaged" {
				if content, err := os.ReadFile(aside); err != nil || string(content) != "nothing of use" {
					t.Errorf("aside: %q, %v", content, err)
				}
				return
			}
			if _, err := store.Open(t.Context(), store.Config{Path: aside, Now: time.Now}); !errors.Is(err, store.ErrCopy) {
				t.Errorf("what was put aside can be served: %v", err)
			}
			kept := open(t, store.Config{Path: aside, Copied: true, Now: time.Now})
			if n := rows(t, kept, "SELECT count(*) FROM event WHERE object = 'the last word'")[0]; n != "1" {
				t.Error("the newest change of the database that was there is lost")
			}
		})
	}
	t.Run("and a log without its database goes away", func(t *testing.T) {
		file, _ := backedUp(t)
		target := filepath.Join(t.TempDir(), "postern.db")
		must(t, os.WriteFile(target+"-wal", []byte("frames of another database"), 0o600))
		staged, err := store.Stage(t.Context(), file, target, time.Now)
		must(t, err)
		aside, err := staged.PutInPlace(t.Context())
		must(t, err)
		if _, err := os.Stat(aside + "-wal"); err != nil {
			t.Error(err)
		}
		open(t, store.Config{Path: target, Now: time.Now})
	})
}

// A restore that was killed in the middle leaves nothing that a later one, or a
// server, takes for a database.
func TestAKilledRestoreIsBegunAgain(t *testing.T) {
	t.Parallel()
	file, path := backedUp(t)
	must(t, os.WriteFile(path+".restoring", []byte("half"), 0o600))
	must(t, os.WriteFile(path+".restoring-wal", []byte("half"), 0o600))
	staged, err := store.Stage(t.Context(), file, path, time.Now)
	must(t, err)
	_, err = staged.PutInPlace(t.Context())
	must(t, err)
	for _, name := range namesIn(t, filepath.Dir(path)) {
		if strings.Contains(name, "restoring") {
			t.Errorf("left behind: %s", name)
		}
	}
	open(t, store.Config{Path: path, Now: time.Now})
}

// While a command has the database open, nothing is put in its place: what it
// still writes would go into one file, and be read from another.
func TestNothingIsReplacedUnderACommand(t *testing.T) {
	t.Parallel()
	file, path := backedUp(t)
	command := open(t, store.Config{Path: path, Now: time.Now})
	for range 2 {
		staged, err := store.Stage(t.Context(), file, path, time.Now)
		must(t, err)
		if _, err := staged.PutInPlace(t.Context()); !errors.Is(err, store.ErrOpen) {
			t.Errorf("put in place: %v", err)
		}
	}
	must(t, command.Record(t.Context(), audit.Event{At: now, Kind: audit.SignedOut, Object: "goes on"}))
	must(t, command.Close())
	for _, name := range namesIn(t, filepath.Dir(path)) {
		if strings.Contains(name, "restoring") || strings.Contains(name, "before") {
			t.Errorf("left behind: %s", name)
		}
	}
	if n := rows(t, open(t, store.Config{Path: path, Now: time.Now}), "SELECT count(*) FROM event WHERE object = 'goes on'")[0]; n != "1" {
		t.Error("what the command wrote is lost")
	}
}

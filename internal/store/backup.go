package store

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Errors of copies of a database.
var (
	// ErrCopy: the file is a copy that nobody restored. What it holds may have been
	// used since.
	ErrCopy = errors.New("the file is a copy of a database, and was not restored")
	// ErrDamaged: the file is not as SQLite left it.
	ErrDamaged = errors.New("store: the file is damaged, or no SQLite database")
	// ErrForeign: the file is a database of something else.
	ErrForeign = errors.New("store: the file is no database of Postern")
	// ErrInUse: the file is a database that is open, or was not closed.
	ErrInUse = errors.New("store: the file is a database in use, and not a copy")
	// ErrOpen: a command has the database open that would be replaced.
	ErrOpen = errors.New("store: another command has the database open")
	// ErrNoFile: PostgreSQL has tools of its own for copies.
	ErrNoFile = errors.New("store: a PostgreSQL database is no file")
)

// Backup writes what a SQLite database holds at one moment into a new file that
// its owner alone can read, while others read and write. The copy is checked
// from end to end and on the disk when Backup returns. No command works on it
// before it was restored. Where there is a file, the error is fs.ErrExist.
func (d *DB) Backup(ctx context.Context, to string) (err error) {
	to, err = filepath.Abs(to)
	if err != nil {
		return wrap("back up", err)
	}
	claim, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return wrap("back up", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(to) // empty: the name is given only to what is whole
		}
	}()
	if err := claim.Close(); err != nil {
		return wrap("back up", err)
	}
	part, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+"-*") // mode 0600
	if err != nil {
		return wrap("back up", err)
	}
	defer os.Remove(part.Name())
	if err := part.Close(); err != nil {
		return wrap("back up", err)
	}
	if err := d.copyTo(ctx, part.Name()); err != nil {
		return wrap("back up", damaged(err))
	}
	if err := settle(ctx, part.Name(), markOfCopy); err != nil {
		return wrap("check the copy", err)
	}
	return wrap("back up", replace(part.Name(), to))
}

// replace gives a file its name, on the disk too.
func replace(from, to string) error {
	if err := onDisk(from); err != nil {
		return err
	}
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return onDisk(filepath.Dir(to))
}

// onDisk waits for the disk to have a file, or the names in a folder.
func onDisk(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// Staged is a copy on its way to become the database of a folder. It is a DB
// whose tables are up to date, in a file of its own beside the one that it will
// replace, and holds the lock of the server.
type Staged struct {
	*DB
	path, target string
	lock         *os.File
}

// Stage copies a file beside target, the SQLite file that it will replace, and
// checks it from end to end. file is what Backup or VACUUM INTO made; it is not
// changed. Errors: *Locked while a server serves target, ErrDamaged, ErrForeign,
// ErrInUse, ErrSchemaNew, fs.ErrNotExist.
func Stage(ctx context.Context, file, target string, now func() time.Time) (_ *Staged, err error) {
	if target, err = filepath.Abs(target); err != nil {
		return nil, wrap("restore", err)
	}
	s := &Staged{target: target, path: target + ".restoring"}
	if s.lock, err = lockFile(target + ".lock"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Discard())
		}
	}()
	if err := s.fetch(ctx, file); err != nil {
		return nil, wrap("restore", err)
	}
	if s.DB, err = Open(ctx, Config{Path: s.path, Copied: true, Now: now}); err != nil {
		return nil, err
	}
	ours, err := s.tableExists(ctx, "schema_state")
	if err == nil && !ours {
		err = ErrForeign
	}
	if err != nil {
		return nil, wrap("restore", err)
	}
	return s, s.Migrate(ctx)
}

// fetch copies the file, whose bytes are all there is only when nothing is left
// beside it.
func (s *Staged) fetch(ctx context.Context, file string) error {
	if err := s.remove(); err != nil { // of a restore that was killed
		return err
	}
	if log, err := os.Stat(file + "-wal"); err == nil && log.Size() > 0 {
		return ErrInUse
	}
	from, err := os.Open(file)
	if err != nil {
		return err
	}
	defer from.Close()
	if info, err := from.Stat(); err != nil || !info.Mode().IsRegular() {
		return errors.Join(ErrForeign, err)
	}
	to, err := os.OpenFile(s.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	return settle(ctx, s.path, markOfCopy)
}

// besides are the ends of the names of the files that SQLite keeps beside one.
func besides() []string { return []string{"-wal", "-shm", "-journal"} }

func (s *Staged) remove() error {
	var errs []error
	for _, end := range append(besides(), "") {
		if err := os.Remove(s.path + end); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// Discard gives up: nothing was changed.
func (s *Staged) Discard() error {
	var errs []error
	if s.DB != nil {
		errs = append(errs, s.Close())
	}
	return errors.Join(append(errs, s.remove(), unlockFile(s.lock))...)
}

// PutInPlace makes the staged database the one at its target, in one step, and
// closes it. A database that is there goes aside first and is never removed;
// aside is its new name, "" for none. While a command has that open, the error
// is ErrOpen, and nothing was changed.
func (s *Staged) PutInPlace(ctx context.Context) (aside string, err error) {
	at := s.now()
	err = errors.Join(s.Close(), settle(ctx, s.path, 0))
	s.DB = nil
	if err == nil {
		aside, err = setAside(ctx, s.target, at)
	}
	if err == nil {
		err = replace(s.path, s.target)
	}
	if err == nil && aside != "" {
		// It is a copy now like others, unless it is damaged.
		_ = settle(ctx, aside, markOfCopy)
	}
	return aside, wrap("restore", errors.Join(err, s.Discard()))
}

// setAside gives a database a second name. The first one stays until another
// file takes it, so that there is always a database to be found. Logs that are
// left beside it go along: beside another database they would be taken for its
// own.
func setAside(ctx context.Context, path string, at time.Time) (aside string, err error) {
	aside = path + ".before-" + at.UTC().Format("20060102T150405Z")
	found := false
	err = alone(path, func(one *sql.DB) error { return fold(ctx, one) })
	if busy(err) {
		return "", ErrOpen
	} // of a damaged one, which may be why it is replaced, the files go as they are
	if err := os.Link(path, aside); !errors.Is(err, fs.ErrNotExist) {
		if err != nil {
			return "", err
		}
		found = true
	}
	for _, end := range besides() {
		if err := os.Rename(path+end, aside+end); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return "", err
			}
			found = true
		}
	}
	if !found {
		return "", nil
	}
	return aside, onDisk(filepath.Dir(path))
}

// Adopt makes a database of a copy that somebody put at path by hand, after
// BeginEpoch. Nobody has it open.
func Adopt(ctx context.Context, path string) error {
	path, err := filepath.Abs(path)
	if err == nil {
		err = settle(ctx, path, 0)
	}
	return wrap("restore", err)
}

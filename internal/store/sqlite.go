package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"modernc.org/sqlite"

	"github.com/postern-id/postern/internal/store/db"
)

// sqliteDB is a SQLite file: a pool of connections that read, and one that
// writes for everybody.
type sqliteDB struct {
	path    string
	readers *sql.DB
	cached  *statements
	writer  *sql.DB
	group   group
	lock    *os.File // of the one server; nil without

	readOnly bool
	copied   bool // it may be a copy; see Config
}

// What every connection is told. FULL waits for the disk at every commit;
// grouped commits make that cheap.
// The cache of 4 MB holds the inner pages of what is looked up in a file of some
// million rows, so that a look-up reads the last page only. The log grows to 16 MB
// before its pages are copied into the file, each once however often it changed.
const sqlitePragmas = "_pragma=cache_size(-4000)&_pragma=wal_autocheckpoint(4000)&_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_pragma=foreign_keys(1)&_txlock=immediate"

func openSQLite(ctx context.Context, c Config) (*sqliteDB, error) {
	path, err := filepath.Abs(c.Path)
	if err != nil {
		return nil, err
	}
	if !c.ReadOnly {
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return nil, err
		}
		// SQLite gives its side files the mode of this one.
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := f.Close(); err != nil {
			return nil, err
		}
	}
	s := &sqliteDB{path: path, readOnly: c.ReadOnly, copied: c.Copied}
	readers := "&_pragma=query_only(1)"
	if c.ReadOnly {
		readers = "&mode=ro"
	}
	if s.readers, err = s.open(readers, max(c.MaxConns, 0)); err != nil {
		return nil, err
	}
	if c.MaxConns == 0 {
		s.readers.SetMaxOpenConns(4)
	}
	s.cached = newStatements(s.readers)
	// What a savepoint needs to go back stays in memory: SQLite would write it to a
	// file in the system's temporary folder, half of all that it writes.
	if s.writer, err = s.open("&_pragma=temp_store(MEMORY)", 1); err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.group.connect, s.group.idle.L = s.writer.Conn, &s.group.mu
	if err := s.firstConnection(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// firstConnection sets the mode of a new file and checks the version. Of
// several who open a new file at once SQLite refuses some in the middle of
// setting the mode, without the wait that it makes elsewhere.
func (s *sqliteDB) firstConnection(ctx context.Context) error {
	for range 100 {
		err := s.checkVersion(ctx)
		if !busy(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return s.checkVersion(ctx)
}

// busy reports that another connection holds the file.
func busy(err error) bool { return sqliteCode(err)&0xff == sqliteBusy }

func (s *sqliteDB) open(more string, conns int) (*sql.DB, error) {
	pragmas := sqlitePragmas
	if s.readOnly { // the mode of the file cannot be set then
		pragmas = strings.Replace(pragmas, "_pragma=journal_mode(WAL)&", "", 1)
	}
	return openFile(s.path, pragmas+more, conns)
}

// openFile opens a pool on an absolute path.
func openFile(path, query string, conns int) (*sql.DB, error) {
	slashed := filepath.ToSlash(path)
	if !strings.HasPrefix(slashed, "/") {
		slashed = "/" + slashed // a drive letter
	}
	dsn := url.URL{Scheme: "file", Path: slashed, RawQuery: query}
	connector, err := sqlite.NewConnector(dsn.String())
	if err != nil {
		return nil, err
	}
	pool := sql.OpenDB(connector)
	pool.SetMaxOpenConns(conns)
	pool.SetMaxIdleConns(max(conns, 4))
	return pool, nil
}

// checkVersion refuses the versions that can lose data when two connections
// write and checkpoint in write-ahead mode at once, and a file that is a copy.
func (s *sqliteDB) checkVersion(ctx context.Context) error {
	oldest := [3]int{3, 51, 3}
	var text string
	if err := s.readers.QueryRowContext(ctx, "SELECT sqlite_version()").Scan(&text); err != nil {
		return fmt.Errorf("open %s: %w", s.path, damaged(err))
	}
	if !atLeast(text, oldest) {
		return fmt.Errorf("SQLite %s can lose data in write-ahead mode; %d.%d.%d or later is needed", text, oldest[0], oldest[1], oldest[2])
	}
	var mark int
	if err := s.readers.QueryRowContext(ctx, "PRAGMA user_version").Scan(&mark); err != nil {
		return fmt.Errorf("open %s: %w", s.path, damaged(err))
	}
	if mark == markOfCopy && !s.copied {
		return ErrCopy
	}
	return nil
}

// markOfCopy is the user_version of a copy, until it is restored: what is in it
// may have been used since.
const markOfCopy = 0x636f7079

// copyTo has a connection of its own: query_only, which keeps the readers from
// writing, is about other files too.
func (s *sqliteDB) copyTo(ctx context.Context, path string) error {
	one, err := openFile(s.path, "_pragma=busy_timeout(10000)&mode=ro", 1)
	if err != nil {
		return err
	}
	_, err = one.ExecContext(ctx, "VACUUM INTO $1", path)
	return errors.Join(err, one.Close())
}

// settle checks a database that nobody has open, and makes one whole file of it
// with a mark. It returns ErrDamaged where the file is not as SQLite left it.
func settle(ctx context.Context, path string, mark int) error {
	return alone(path, func(one *sql.DB) error {
		if err := check(ctx, one); err != nil {
			return err
		}
		if err := fold(ctx, one); err != nil {
			return err
		}
		_, err := one.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", mark))
		return damaged(err)
	})
}

// alone works on a file with a connection that does not begin write-ahead mode.
func alone(path string, do func(*sql.DB) error) error {
	one, err := openFile(path, "_pragma=busy_timeout(10000)&_pragma=synchronous(FULL)&mode=rw", 1)
	if err != nil {
		return err
	}
	return errors.Join(do(one), one.Close())
}

// fold takes a database out of write-ahead mode, so that nothing of it is in a
// file beside. While somebody has it open, it fails as busy.
func fold(ctx context.Context, one *sql.DB) error {
	_, err := one.ExecContext(ctx, "PRAGMA journal_mode = DELETE")
	return damaged(err)
}

// check reads every page of a database and compares what belongs together.
func check(ctx context.Context, on db.DBTX) error {
	var verdict string
	if err := on.QueryRowContext(ctx, "PRAGMA integrity_check(1)").Scan(&verdict); err != nil {
		return damaged(err)
	}
	if verdict != "ok" {
		return fmt.Errorf("%w: %s", ErrDamaged, verdict)
	}
	rows, err := on.QueryContext(ctx, "PRAGMA foreign_key_check")
	if err != nil {
		return damaged(err)
	}
	defer rows.Close()
	if rows.Next() {
		return fmt.Errorf("%w: a row that others belong to is missing", ErrDamaged)
	}
	return rows.Err()
}

// damaged tells a file that cannot be right from one that cannot be read.
func damaged(err error) error {
	if code := sqliteCode(err) & 0xff; code == sqliteCorrupt || code == sqliteNotADatabase {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

func atLeast(version string, oldest [3]int) bool {
	for i, part := range strings.SplitN(version, ".", 3) {
		n, err := strconv.Atoi(part)
		if err != nil || n < oldest[i] {
			return false
		}
		if n > oldest[i] {
			return true
		}
	}
	return true
}

// reads is not cancelled when the caller goes: no read of ours takes longer than
// a list of the dashboard, and watching for the end of a context takes two
// goroutines for each, a third of what most reads cost.
func (s *sqliteDB) reads() db.DBTX { return within{context.Background(), s.cached} }

func (s *sqliteDB) write(ctx context.Context, fn func(q *db.Queries) error) error {
	if s.readOnly {
		return errors.New("store: the database was opened for reading only")
	}
	return s.group.write(ctx, fn)
}

func (s *sqliteDB) dialect() goose.Dialect { return goose.DialectSQLite3 }

func (s *sqliteDB) alone() (*sql.DB, error) { return s.open("", 1) }

// finish has nothing to do: SQLite compares text by its bytes.
func (s *sqliteDB) finish(context.Context, *sql.Tx) error { return nil }

func (s *sqliteDB) checkCollation(context.Context) error { return nil }

func (s *sqliteDB) tableExists(ctx context.Context, name string) (bool, error) {
	var n int
	err := s.readers.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = $1", name).Scan(&n)
	return n > 0, err
}

func (s *sqliteDB) databaseClock(context.Context) (time.Time, bool, error) {
	return time.Time{}, false, nil
}

// listen waits only: SQLite tells nobody of changes.
func (s *sqliteDB) listen(ctx context.Context, _ func()) error {
	<-ctx.Done()
	return ctx.Err()
}

func (s *sqliteDB) lockServer() (err error) {
	if s.lock == nil {
		s.lock, err = lockFile(s.path + ".lock")
	}
	return err
}

func (s *sqliteDB) ping(ctx context.Context) error { return s.readers.PingContext(ctx) }

func (s *sqliteDB) close() error {
	var errs []error
	if s.writer != nil {
		s.group.end()
		errs = append(errs, s.writer.Close())
	}
	s.cached.close()
	errs = append(errs, s.readers.Close())
	if s.lock != nil {
		errs = append(errs, unlockFile(s.lock))
		s.lock = nil
	}
	return errors.Join(errs...)
}

// sqliteCode is the extended result code of an error, or 0.
func sqliteCode(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code()
	}
	return 0
}

// outOfOrder reports that SQLite cannot write or read its file just now: the disk
// is full or refuses, there is no memory or no free file handle, or somebody
// else holds the file for too long.
func outOfOrder(err error) bool {
	switch sqliteCode(err) & 0xff {
	case sqliteBusy, sqliteNoMemory, sqliteReadOnly, sqliteIO, sqliteFull, sqliteCannotOpen:
		return true
	}
	return false
}

// Result codes of https://sqlite.org/rescode.html.
const (
	sqliteBusy       = 5 // in the low byte, and the next five
	sqliteNoMemory   = 7
	sqliteReadOnly   = 8
	sqliteIO         = 10
	sqliteFull       = 13
	sqliteCannotOpen = 14
	sqliteForeignKey = 787
	sqlitePrimaryKey = 1555
	sqliteUnique     = 2067

	sqliteCorrupt      = 11 // in the low byte, and this
	sqliteNotADatabase = 26
)

// statements prepares each statement once for each connection and keeps it.
type statements struct {
	on    db.DBTX
	mu    sync.RWMutex
	known map[string]*sql.Stmt
}

func newStatements(on db.DBTX) *statements {
	return &statements{on: on, known: map[string]*sql.Stmt{}}
}

func (s *statements) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	s.mu.RLock()
	stmt, ok := s.known[query]
	s.mu.RUnlock()
	if ok {
		return stmt, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if stmt, ok := s.known[query]; ok {
		return stmt, nil
	}
	stmt, err := s.on.PrepareContext(ctx, query) //nolint:sqlclosecheck // kept; close closes it
	if err == nil {
		s.known[query] = stmt
	}
	return stmt, err
}

func (s *statements) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	stmt, err := s.PrepareContext(ctx, query) //nolint:sqlclosecheck // kept; close closes it
	if err != nil {
		return nil, err
	}
	return stmt.ExecContext(ctx, args...)
}

func (s *statements) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	stmt, err := s.PrepareContext(ctx, query) //nolint:sqlclosecheck // kept; close closes it
	if err != nil {
		return nil, err
	}
	return stmt.QueryContext(ctx, args...)
}

func (s *statements) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	stmt, err := s.PrepareContext(ctx, query) //nolint:sqlclosecheck // kept; close closes it
	if err != nil {
		return s.on.QueryRowContext(ctx, query, args...) // fails the same way, in the form asked for
	}
	return stmt.QueryRowContext(ctx, args...)
}

func (s *statements) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, stmt := range s.known {
		_ = stmt.Close() // its connection is closed next
	}
}

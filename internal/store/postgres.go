package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/postern-id/postern/internal/store/db"
)

// postgresDB is a PostgreSQL server that all nodes of a cluster share.
type postgresDB struct {
	pool *sql.DB
	conn *pgx.ConnConfig
}

func openPostgres(ctx context.Context, c Config) (*postgresDB, error) {
	if c.ReadOnly {
		return nil, errors.New("reading only is for SQLite files")
	}
	conn, err := pgx.ParseConfig(c.URL)
	if err != nil {
		return nil, errors.New("the database URL cannot be read; it looks like postgres://user@host:5432/name") // the library's error can quote the password
	}
	if conn.RuntimeParams["application_name"] == "" {
		conn.RuntimeParams["application_name"] = "postern"
	}
	if conn.ConnectTimeout == 0 {
		conn.ConnectTimeout = answerTime
	}
	conns := c.MaxConns
	if conns == 0 {
		conns = 10
	}
	p := &postgresDB{pool: stdlib.OpenDB(*conn, stdlib.OptionAfterConnect(waitForDisk), stdlib.OptionShouldPing(silent)), conn: conn}
	p.pool.SetMaxOpenConns(conns)
	p.pool.SetMaxIdleConns(conns)
	if err := p.pool.PingContext(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("connect to PostgreSQL at %s: %w", conn.Host, err), p.close())
	}
	return p, nil
}

// waitForDisk makes a connection wait at each commit until the server's disk has
// it, where the server's default is not to: what was answered must outlive a
// crash. Any stricter setting stays.
func waitForDisk(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'")
	return err
}

// silent asks a connection that was idle for a second whether it lives, for
// pingTime at most: one that died without a word would take all the time that its
// user has. A silent one is closed by that, and the driver, told to ask it again,
// turns to another.
func silent(ctx context.Context, idle stdlib.ShouldPingParams) bool {
	if idle.IdleDuration <= time.Second {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, pingTime)
	defer cancel()
	return idle.Conn.Ping(ctx) != nil
}

// pingTime lets two connections be silent, and a new one be made, in answerTime.
const pingTime = time.Second

func (p *postgresDB) reads() db.DBTX { return patient{p.pool} }

// answerTime bounds how long somebody waits for a connection, for one to be made,
// and for the answer to a statement. A server that hangs keeps every connection
// busy, and who waits longer only makes the others wait.
const answerTime = 3 * time.Second

// patient runs statements outside of transactions for answerTime at most.
type patient struct{ on db.DBTX }

func (p patient) PrepareContext(ctx context.Context, query string) (*sql.Stmt, error) {
	return p.on.PrepareContext(soon(ctx), query)
}

func (p patient) ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error) {
	return p.on.ExecContext(soon(ctx), query, args...)
}

func (p patient) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	return p.on.QueryContext(soon(ctx), query, args...)
}

func (p patient) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	return p.on.QueryRowContext(soon(ctx), query, args...)
}

// soon is ctx, ended after answerTime if it ends at some time anyway: that of a
// request does, and work in the background may take as long as it takes. What
// reads the rows afterwards needs it still, so it ends with ctx and not before.
func soon(ctx context.Context) context.Context {
	if _, ends := ctx.Deadline(); !ends {
		return ctx
	}
	ctx, cancel := context.WithTimeout(ctx, answerTime) //nolint:gosec // ended with the request, as said above
	_ = cancel
	return ctx
}

// retries is how often a transaction is tried again that lost against others.
const retries = 3

// write holds one connection and asks for no second one: a pool of one works.
// READ COMMITTED is enough because one conditional statement decides: when it
// waits for another transaction, it looks at the row again afterwards.
func (p *postgresDB) write(ctx context.Context, fn func(q *db.Queries) error) error {
	for tries := 0; ; tries++ {
		err := p.transaction(ctx, fn)
		if err == nil || tries == retries || !lostRace(err) {
			return err
		}
	}
}

// transactionTime bounds how long a transaction may take, and with it a server
// that does not answer; muchTime is for one that much marked.
const (
	transactionTime = 5 * time.Second
	muchTime        = 30 * time.Second
)

type timeKey struct{}

// unhurried marks a transaction that reads or writes much of the database, and
// may take as long as its caller waits.
func unhurried(ctx context.Context) context.Context {
	return context.WithValue(ctx, timeKey{}, time.Duration(0))
}

// much marks a transaction that may change the rows of very many people.
func much(ctx context.Context) context.Context { return context.WithValue(ctx, timeKey{}, muchTime) }

func (p *postgresDB) transaction(ctx context.Context, fn func(q *db.Queries) error) error {
	conn, err := p.pool.Conn(soon(ctx))
	if err != nil {
		return err
	}
	defer conn.Close()
	// The driver closes a connection whose statement is cancelled: people who
	// leave in the middle would cost the others theirs.
	limit, marked := ctx.Value(timeKey{}).(time.Duration)
	if !marked {
		limit = transactionTime
	}
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), limit)
		defer cancel()
	}
	tx, err := conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing to do after a commit
	commit, result := outcome(fn(db.New(within{ctx, tx})))
	if !commit {
		return result
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	return result
}

// lostRace: serialization_failure, deadlock_detected, what a function says is
// the same, or a connection that was closed before anything was sent.
func lostRace(err error) bool {
	code := pgCode(err)
	return code == "40001" || code == "40P01" || errors.Is(err, errRace) || errors.Is(err, driver.ErrBadConn)
}

func (p *postgresDB) dialect() goose.Dialect { return goose.DialectPostgres }

func (p *postgresDB) alone() (*sql.DB, error) {
	one := stdlib.OpenDB(*p.conn)
	one.SetMaxOpenConns(1)
	return one, nil
}

// otherCollations lists text columns that are not compared by their bytes.
const otherCollations = `
SELECT c.relname, a.attname
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped
  AND a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'bpchar'::regtype)
  AND a.attcollation <> 'pg_catalog."C"'::regcollation
ORDER BY c.relname, a.attnum`

type column struct{ table, name string }

func collations(ctx context.Context, on db.DBTX) (others []column, err error) {
	rows, err := on.QueryContext(ctx, otherCollations)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var c column
		if err := rows.Scan(&c.table, &c.name); err != nil {
			return nil, err
		}
		others = append(others, c)
	}
	return others, rows.Err()
}

// tellOfChanges makes the database notify those who listen of every raised
// change counter, in the transaction that raises it. For each statement, not
// row, and without a payload: equal notifications of a transaction are one.
const tellOfChanges = `
CREATE OR REPLACE FUNCTION postern_tell_of_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	PERFORM pg_catalog.pg_notify('postern_change', '');
	RETURN NULL;
END $$;
DROP TRIGGER IF EXISTS tell_of_change ON project_counter;
CREATE TRIGGER tell_of_change AFTER INSERT OR UPDATE OF change ON project_counter
	FOR EACH STATEMENT EXECUTE FUNCTION postern_tell_of_change();`

// finish makes every text column compare by its bytes: what is equal and what
// comes first is a security boundary, and must not depend on the server's
// language. It also sets the trigger that tells of changes.
func (p *postgresDB) finish(ctx context.Context, tx *sql.Tx) error {
	others, err := collations(ctx, tx)
	if err != nil {
		return err
	}
	changes := map[string][]string{}
	for _, c := range others {
		change := fmt.Sprintf(`ALTER COLUMN %s TYPE text COLLATE "C"`, pgx.Identifier{c.name}.Sanitize())
		changes[c.table] = append(changes[c.table], change)
	}
	for table, list := range changes {
		//nolint:gosec // names from the catalogue, quoted
		statement := "ALTER TABLE " + pgx.Identifier{table}.Sanitize() + " " + strings.Join(list, ", ")
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, tellOfChanges)
	return err
}

func (p *postgresDB) checkCollation(ctx context.Context) error {
	others, err := collations(ctx, p.pool)
	if err != nil {
		return err
	}
	if len(others) > 0 {
		return fmt.Errorf("%w: column %s of table %s and %d more", ErrCollation, others[0].name, others[0].table, len(others)-1)
	}
	return nil
}

func (p *postgresDB) tableExists(ctx context.Context, name string) (exists bool, err error) {
	err = p.pool.QueryRowContext(ctx, "SELECT to_regclass($1) IS NOT NULL", name).Scan(&exists)
	return exists, err
}

func (p *postgresDB) databaseClock(ctx context.Context) (time.Time, bool, error) {
	var n int64
	err := p.pool.QueryRowContext(ctx, "SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)").Scan(&n)
	return fromMicros(n), true, err
}

// listenTime bounds how long listen waits for its connection.
const listenTime = 10 * time.Second

// A connection that dies in silence is noticed by TCP's keep-alive, minutes
// later: polling goes on meanwhile.
func (p *postgresDB) listen(ctx context.Context, changed func()) error {
	starting, started := context.WithTimeout(ctx, listenTime)
	defer started()
	conn, err := pgx.ConnectConfig(starting, p.conn.Copy())
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing) // it is given up anyway
	}()
	if _, err := conn.Exec(starting, "LISTEN postern_change"); err != nil {
		return err
	}
	for {
		changed() // the first time for what nobody told of
		if _, err := conn.WaitForNotification(ctx); err != nil {
			return err
		}
	}
}

func (p *postgresDB) copyTo(context.Context, string) error { return ErrNoFile }

func (p *postgresDB) lockServer() error { return nil }

func (p *postgresDB) ping(ctx context.Context) error { return p.pool.PingContext(ctx) }

func (p *postgresDB) close() error { return p.pool.Close() }

// pgCode is the SQLSTATE of an error, or "".
func pgCode(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// unavailable reports that PostgreSQL, or the way to it, is gone or overloaded: a
// connection that cannot be made or broke, or one of the classes 08 (connection),
// 53 (resources), 57P (shutdown, crash, start) and 58 (its system).
func unavailable(err error) bool {
	if code := pgCode(err); code != "" {
		return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "58")
	}
	var connecting *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connecting) || errors.As(err, &network) || pgconn.SafeToRetry(err) ||
		errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
}

// uniqueTaken reports whether a row of the same unique value exists.
func uniqueTaken(err error) bool {
	code := sqliteCode(err)
	return pgCode(err) == "23505" || code == sqliteUnique || code == sqlitePrimaryKey
}

// rowMissing reports whether a foreign key found no row, or still has rows.
func rowMissing(err error) bool {
	return pgCode(err) == "23503" || sqliteCode(err) == sqliteForeignKey
}

// tableTaken reports whether two connections made the same table at once:
// duplicate_table, or its row type or name found in the catalogue.
func tableTaken(err error) bool {
	return slices.Contains([]string{"42P07", "42710", "23505"}, pgCode(err))
}

// impossibleText reports whether PostgreSQL refused a text that is not UTF-8 or
// has a zero byte. SQLite looks such a text up and finds nothing.
func impossibleText(err error) bool { return pgCode(err) == "22021" }

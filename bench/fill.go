package main

import (
	"context"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/rig"
	"github.com/postern-id/postern/internal/secret"
)

// Rows are copies of those that one real flow left, with keys of their own: so they
// look like those the server writes, whatever columns it has.

// copies says how a table's copies differ from their original: an expression for
// each column, in which n is the number of the copy.
type copies struct {
	table   string
	where   string // finds the original, with $1 the project and $2 what follows
	with    any
	columns map[string]string
}

// dialect is how the two databases say the few things that differ.
type dialect struct {
	series string                // rows of one column n, from 1 to $1
	hex    func(n string) string // a number as 12 hexadecimal digits
	random func(n string) string // 32 bytes that nothing else has
}

func (w *world) dialect() dialect {
	if w.server.Postgres() != "" {
		return dialect{
			series: "SELECT n FROM generate_series(1, CAST($1 AS BIGINT)) AS s (n)",
			hex:    func(n string) string { return "lpad(to_hex(CAST(" + n + " AS BIGINT)), 12, '0')" },
			random: func(n string) string { return "sha256(CAST(CAST(" + n + " AS TEXT) AS BYTEA))" },
		}
	}
	return dialect{
		series: "WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < $1) SELECT n FROM s",
		hex:    func(n string) string { return "printf('%012x', " + n + ")" },
		random: func(string) string { return "randomblob(32)" },
	}
}

// moment is the time that the id of copy n of a total tells. They ascend over two
// years, so that the rows that are really written come after them.
func (w *world) moment(n, total int) time.Time {
	const span = 2 * 365 * 24 * time.Hour
	return w.made.Add(-span - time.Hour + span/time.Duration(total)*time.Duration(n))
}

// uuid is the expression of the UUIDv7 of copy n of a total.
func (w *world) uuid(total int) string {
	d := w.dialect()
	first := w.moment(0, total).UnixMilli()
	step := w.moment(1, total).UnixMilli() - first
	hex := d.hex(fmt.Sprintf("(%d + n * %d)", first, step))
	return fmt.Sprintf("substr(%s, 1, 8) || '-' || substr(%s, 9, 4) || '-7000-8000-' || substr(CAST(1000000000000 + n AS TEXT), 2)", hex, hex)
}

// number is the expression of n with a number of digits.
func number(digits int) string {
	return fmt.Sprintf("substr(CAST(%d + n AS TEXT), %d)", pow10(digits), 2)
}

func pow10(n int) int64 {
	p := int64(1)
	for range n {
		p *= 10
	}
	return p
}

// original is what one flow left.
type original struct {
	client, user, grant, family, event, attempt, code string
}

func (w *world) original(ctx context.Context, db *sql.DB) (o original, err error) {
	a := w.server.Actor()
	defer a.Close()
	if _, err := a.Connect(ctx); err != nil {
		return o, err
	}
	o.client = a.ClientID
	for _, one := range []struct {
		into  *string
		query string
	}{
		{&o.grant, `SELECT id FROM "grant" WHERE project_id = $1 AND client_id = $2`},
		{&o.user, `SELECT subject FROM "grant" WHERE project_id = $1 AND client_id = $2`},
		{&o.family, `SELECT id FROM family WHERE project_id = $1 AND client_id = $2`},
		{&o.event, `SELECT max(id) FROM event WHERE project_id = $1 AND client_id = $2 AND subject <> ''`},
		{&o.attempt, `SELECT max(id) FROM attempt WHERE project_id = $1 AND client_id = $2`},
		{&o.code, `SELECT max(code) FROM attempt WHERE project_id = $1 AND client_id = $2`},
	} {
		if err := db.QueryRowContext(ctx, one.query, w.server.ProjectID, a.ClientID).Scan(one.into); err != nil {
			return o, fmt.Errorf("%s: %w", one.query, err)
		}
	}
	return o, nil
}

// beforeUUID is an id without its UUID.
func beforeUUID(id string) string { return id[:len(id)-36] }

// fill copies one flow n times: users, clients, grants with their scopes, families,
// attempts and audit events. The server must not run. The refresh tokens of some
// of them, spread over all rows, are then replaced by ones whose text we know.
func (w *world) fill(ctx context.Context, n, known int) error {
	db, err := w.server.DB()
	if err != nil {
		return err
	}
	o, err := w.original(ctx, db)
	if err != nil {
		return err
	}
	if err := w.server.Stop(); err != nil {
		return err
	}
	d := w.dialect()
	uuid := w.uuid(n)
	is := func(id string) string { return "'" + beforeUUID(id) + "' || " + uuid }
	code := fmt.Sprintf("'%s' || %s", strings.Repeat("Z", max(0, len(o.code)-9)), number(min(9, len(o.code))))
	address := "'filled' || CAST(n AS TEXT) || '@example.test'"
	err = w.copyRows(ctx, db, n, []copies{
		{`"user"`, "id = $2", o.user, map[string]string{"id": is(o.user), "email": address, "email_folded": address}},
		{"client", "id = $2", o.client, map[string]string{"id": is(o.client), "metadata_hash": d.random("n"), "name_folded": "'app ' || " + number(9)}},
		{`"grant"`, "id = $2", o.grant, map[string]string{"id": is(o.grant), "subject": is(o.user), "client_id": is(o.client)}},
		{"grant_scope", "grant_id = $2", o.grant, map[string]string{"grant_id": is(o.grant)}},
		{"family", "id = $2", o.family, map[string]string{"id": is(o.family), "grant_id": is(o.grant), "client_id": is(o.client), "subject": is(o.user), "attempt": code}},
		{"attempt", "id = $2", o.attempt, map[string]string{"id": is(o.attempt), "code": code, "client_id": is(o.client), "subject": is(o.user)}},
		{"event", "id = $2", o.event, map[string]string{"id": is(o.event), "client_id": is(o.client), "subject": is(o.user), "attempt": code}},
	})
	if err != nil {
		return err
	}
	if err := w.sealed(ctx, db, o); err != nil {
		return err
	}
	if err := w.know(ctx, db, o, n, known); err != nil {
		return err
	}
	if err := w.settle(ctx, db); err != nil {
		return err
	}
	return w.server.Start(ctx)
}

// sealed makes the server take the copied events for sealed, as old ones are: it
// goes on after the last event that a seal names.
func (w *world) sealed(ctx context.Context, db *sql.DB, o original) error {
	var last string
	if err := db.QueryRowContext(ctx, "SELECT max(id) FROM event WHERE project_id = $1 AND id < $2", w.server.ProjectID, o.event).Scan(&last); err != nil {
		return err
	}
	id, err := hex.DecodeString(strings.ReplaceAll(last[len(last)-36:], "-", ""))
	if err != nil {
		return err
	}
	mark := append(id, make([]byte, 16)...)
	_, err = db.ExecContext(ctx, "INSERT INTO event_seal (project_id, number, sealed_at, marks, proof) VALUES ($1, 1, $2, $3, $3) ON CONFLICT (project_id, number) DO NOTHING",
		w.server.ProjectID, w.made.UnixMicro(), mark)
	return err
}

// settle does what happens by itself within minutes: PostgreSQL counts its rows,
// and SQLite moves its log into the file.
func (w *world) settle(ctx context.Context, db *sql.DB) error {
	then := "PRAGMA wal_checkpoint(TRUNCATE)"
	if w.server.Postgres() != "" {
		then = "ANALYZE"
	}
	_, err := db.ExecContext(ctx, then)
	return err
}

// copyRows makes n copies of each original.
func (w *world) copyRows(ctx context.Context, db *sql.DB, n int, all []copies) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if w.server.Postgres() != "" { // what the copies refer to is there, or comes
		if _, err := conn.ExecContext(ctx, "SET session_replication_role = replica"); err != nil {
			return err
		}
		defer func() { _, _ = conn.ExecContext(ctx, "RESET session_replication_role") }() // a connection that is broken is not used again
	}
	d := w.dialect()
	for _, c := range all {
		names, err := columns(ctx, conn, c.table)
		if err != nil {
			return err
		}
		values := make([]string, len(names))
		for i, name := range names {
			values[i] = "o." + name
			if made, ok := c.columns[name]; ok {
				values[i] = made
			}
		}
		statement := fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM (%s) AS s CROSS JOIN %s AS o WHERE o.project_id = $3 AND o.%s ORDER BY n", //nolint:gosec // all of it stands in this file
			c.table, strings.Join(names, ", "), strings.Join(values, ", "), d.series, c.table, c.where)
		if _, err := conn.ExecContext(ctx, statement, n, c.with, w.server.ProjectID); err != nil {
			return fmt.Errorf("fill %s: %w", c.table, err)
		}
	}
	return nil
}

func columns(ctx context.Context, conn *sql.Conn, table string) ([]string, error) {
	rows, err := conn.QueryContext(ctx, "SELECT * FROM "+table+" LIMIT 0") //nolint:gosec // a table of this file
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	return names, errors.Join(err, rows.Err())
}

// know replaces the refresh tokens of some copies, spread over all and in no
// order, by ones that we hold.
func (w *world) know(ctx context.Context, db *sql.DB, o original, n, known int) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	uuid := strings.ReplaceAll(w.uuid(n), "n * ", "CAST($1 AS BIGINT) * ")
	uuid = strings.ReplaceAll(uuid, "+ n AS TEXT", "+ CAST($1 AS BIGINT) AS TEXT")
	var spread []*holder
	for i := range known {
		at := 1 + i*(n/known)
		var id string
		if err := tx.QueryRowContext(ctx, "SELECT "+uuid, at).Scan(&id); err != nil {
			return err
		}
		key := secret.New(secret.RefreshToken, w.moment(at, n))
		done, err := tx.ExecContext(ctx, "UPDATE family SET id = $1, series_hash = $2, refresh_hash = $3 WHERE project_id = $4 AND id = $5",
			key.ID, key.Series(), key.Hash[:], w.server.ProjectID, beforeUUID(o.family)+id)
		if err != nil {
			return err
		}
		if rows, err := done.RowsAffected(); err != nil || rows != 1 {
			return fmt.Errorf("the copy %s is not there (%w)", id, err)
		}
		spread = append(spread, &holder{client: beforeUUID(o.client) + id, tokens: rig.Tokens{Refresh: key.Text}})
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	rand.Shuffle(len(spread), func(i, j int) { spread[i], spread[j] = spread[j], spread[i] }) //nolint:gosec // no secret
	w.spread = spread
	return nil
}

// fillExpired copies families and codes that have run out, n of each, and returns
// how many rows those are. The server must not run.
func (w *world) fillExpired(ctx context.Context, n int) (int, error) {
	db, err := w.server.DB()
	if err != nil {
		return 0, err
	}
	if err := w.server.Start(ctx); err != nil {
		return 0, err
	}
	o, err := w.original(ctx, db)
	if err != nil {
		return 0, err
	}
	if err := w.server.Stop(); err != nil {
		return 0, err
	}
	var code string
	if err := db.QueryRowContext(ctx, "SELECT id FROM code WHERE project_id = $1 AND client_id = $2", w.server.ProjectID, o.client).Scan(&code); err != nil {
		return 0, err
	}
	uuid, long := w.uuid(n), fmt.Sprint(time.Now().AddDate(-1, 0, 0).UnixMicro())
	is := func(id string) string { return "'" + beforeUUID(id) + "' || " + uuid }
	err = w.copyRows(ctx, db, n, []copies{
		{"code", "id = $2", code, map[string]string{"id": is(code), "expires_at": long, "created_at": long}},
		{"family", "id = $2", o.family, map[string]string{"id": is(o.family), "expires_at": long, "created_at": long}},
	})
	if err != nil {
		return 0, err
	}
	return 2 * n, w.settle(ctx, db)
}

// untilClean waits until nothing is left that has run out.
func (w *world) untilClean(ctx context.Context) (time.Duration, error) {
	db, err := w.server.DB()
	if err != nil {
		return 0, err
	}
	began, before := time.Now(), time.Now().AddDate(0, -6, 0).UnixMicro()
	for {
		left := 0
		err := db.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM (SELECT 1 FROM code WHERE project_id = $1 AND expires_at < $2 LIMIT 1) AS c)
			+ (SELECT count(*) FROM (SELECT 1 FROM family WHERE project_id = $1 AND expires_at < $2 LIMIT 1) AS f)`, w.server.ProjectID, before).Scan(&left)
		if err != nil {
			return 0, err
		}
		if left == 0 {
			return time.Since(began), nil
		}
		if time.Since(began) > 2*time.Minute {
			return 0, fmt.Errorf("the clean-up is not done after two minutes")
		}
		if err := sleep(ctx, 200*time.Millisecond); err != nil {
			return 0, err
		}
	}
}

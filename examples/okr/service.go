package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	_ "modernc.org/sqlite"
)

// What a change can be refused for. Page, REST and MCP say these by [sentence];
// any other error is ours, and nobody is told what it was.
var (
	ErrNoObjective = errors.New("no such objective")
	ErrNoKeyResult = errors.New("no such key result")
	ErrText        = errors.New("text is empty, too long or not one line")
	ErrAttainment  = errors.New("attainment is not from 0 to 100")
	ErrFull        = errors.New("list is full")
)

// sentence says an error of Service to a person or a client. Of any other
// error it says nothing.
func sentence(err error) string {
	switch {
	case errors.Is(err, ErrNoObjective):
		return "There is no objective with that id."
	case errors.Is(err, ErrNoKeyResult):
		return "There is no key result with that id in that objective."
	case errors.Is(err, ErrText):
		return fmt.Sprintf("Write 1 to %d characters, on one line.", maxText)
	case errors.Is(err, ErrAttainment):
		return "The attainment is a whole number from 0 to 100."
	case errors.Is(err, ErrFull):
		return fmt.Sprintf("There is room for %d objectives, and for %d key results in each. Delete some first.", maxObjectives, maxKeyResults)
	}
	return "Something broke on our side. Try again."
}

// ours tells whether an error is one that sentence has no words for.
func ours(err error) bool {
	for _, known := range []error{ErrNoObjective, ErrNoKeyResult, ErrText, ErrAttainment, ErrFull} {
		if errors.Is(err, known) {
			return false
		}
	}
	return true
}

const (
	maxText       = 300 // characters
	maxObjectives = 100 // of an organization
	maxKeyResults = 50  // of an objective
)

// Objective is what an organization wants to reach, in the shape that REST and
// MCP send.
type Objective struct {
	ID         string      `json:"id" jsonschema:"the id that the tools take as okrID"`
	Text       string      `json:"objectiveText"`
	KeyResults []KeyResult `json:"keyResults"`
}

// KeyResult is how one sees that an objective is reached.
type KeyResult struct {
	ID         string `json:"id" jsonschema:"the id that the tools take as keyResultID"`
	Objective  string `json:"okrID" jsonschema:"the id of its objective"`
	Text       string `json:"text"`
	Attainment int    `json:"attainment" jsonschema:"per cent, from 0 to 100"`
}

// Caller is who changes something: a person of an organization, by hand or
// through a connected app.
type Caller struct {
	Organization string
	Subject      string // the person
	Client       string // the connected app's client_id; empty when the person does it on the page
}

// Event is something that a connected app did, or tried in vain.
type Event struct {
	At        time.Time
	Subject   string // for whom
	Name      string // of that person; empty when they never signed in to the page
	Client    string // the connected app's client_id
	Operation string // a tool's name
	About     string // what was changed, in its own words; empty when refused
	Refused   bool
}

// Service keeps the objectives of every organization in one SQLite file. The
// page, REST and MCP all use it, so none of them can have rules of its own.
//
// Every method takes the organization, and every statement binds it: an id of
// another organization is not found, exactly like an id that never was. Every
// change is one statement that holds its own conditions, so two writers never
// overwrite each other; what a connected app changed is noted in the same
// transaction.
type Service struct {
	db *sql.DB
}

// OpenService opens the file at path and makes it when it is not there. The
// folder must exist.
func OpenService(ctx context.Context, path string) (*Service, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	file := &url.URL{Scheme: "file", Path: path, RawQuery: url.Values{
		// WAL lets readers go on while one writes; a writer waits its turn, and
		// takes it when its transaction begins.
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "foreign_keys(1)"},
		"_txlock": {"immediate"},
	}.Encode()}
	db, err := sql.Open("sqlite", file.String())
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	db.SetMaxOpenConns(4)
	if _, err := db.ExecContext(ctx, schema); err != nil {
		db.Close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &Service{db: db}, nil
}

// An organization gets its row, and with it a first objective to play with, by
// the same statement: see seed. The row stays, so that an emptied list stays
// empty.
const schema = `
CREATE TABLE IF NOT EXISTS organization (
	id TEXT PRIMARY KEY CHECK (id <> '')
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS objective (
	n            INTEGER PRIMARY KEY, -- the order in which they were added
	organization TEXT NOT NULL REFERENCES organization,
	id           TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
	text         TEXT NOT NULL,
	UNIQUE (organization, id)
);

CREATE TABLE IF NOT EXISTS key_result (
	n            INTEGER PRIMARY KEY,
	organization TEXT NOT NULL,
	objective    TEXT NOT NULL,
	id           TEXT NOT NULL DEFAULT (lower(hex(randomblob(16)))),
	text         TEXT NOT NULL,
	attainment   INTEGER NOT NULL DEFAULT 0 CHECK (attainment BETWEEN 0 AND 100),
	UNIQUE (organization, id),
	FOREIGN KEY (organization, objective) REFERENCES objective (organization, id) ON DELETE CASCADE
);
CREATE INDEX IF NOT EXISTS key_result_of ON key_result (organization, objective);

CREATE TRIGGER IF NOT EXISTS seed AFTER INSERT ON organization BEGIN
	INSERT INTO objective (organization, text) VALUES (NEW.id, 'Know what we want to reach this quarter');
	INSERT INTO key_result (organization, objective, text)
		SELECT organization, id, 'Every team has written down one objective' FROM objective WHERE organization = NEW.id;
	INSERT INTO key_result (organization, objective, text)
		SELECT organization, id, 'Every objective has a number that shows how far we are' FROM objective WHERE organization = NEW.id;
END;

CREATE TABLE IF NOT EXISTS person (
	organization TEXT NOT NULL,
	subject      TEXT NOT NULL,
	name         TEXT NOT NULL,
	PRIMARY KEY (organization, subject)
) WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS event (
	n            INTEGER PRIMARY KEY,
	organization TEXT NOT NULL CHECK (organization <> ''),
	at           INTEGER NOT NULL, -- microseconds UTC
	subject      TEXT NOT NULL,
	client       TEXT NOT NULL,
	operation    TEXT NOT NULL,
	about        TEXT NOT NULL,
	refused      INTEGER NOT NULL
);
CREATE INDEX IF NOT EXISTS event_of ON event (organization, n);

CREATE TRIGGER IF NOT EXISTS forget AFTER INSERT ON event BEGIN
	DELETE FROM event WHERE organization = NEW.organization AND n <=
		(SELECT n FROM event WHERE organization = NEW.organization ORDER BY n DESC LIMIT 1 OFFSET 10);
END;`

// Close closes the file.
func (s *Service) Close() error { return s.db.Close() }

// List returns the organization's objectives with their key results, both in
// the order in which they were added. The first time there is one to begin with.
func (s *Service) List(ctx context.Context, organization string) ([]Objective, error) {
	if err := s.meet(ctx, organization); err != nil {
		return nil, err
	}
	return list(ctx, s.db, organization, "")
}

// meet makes the organization's row if it is not there. Of many who try at
// once, one makes it; a reader of an organization that is known waits for no
// writer.
func (s *Service) meet(ctx context.Context, organization string) error {
	var known bool
	err := s.db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM organization WHERE id = ?)`, organization).Scan(&known)
	if err == nil && !known {
		_, err = s.db.ExecContext(ctx, `INSERT INTO organization (id) VALUES (?) ON CONFLICT DO NOTHING`, organization)
	}
	return err
}

// Objective returns one objective, or ErrNoObjective.
func (s *Service) Objective(ctx context.Context, organization, id string) (Objective, error) {
	return objective(ctx, s.db, organization, id)
}

// KeyResult returns one key result of any objective, or ErrNoKeyResult.
func (s *Service) KeyResult(ctx context.Context, organization, id string) (KeyResult, error) {
	return keyResult(s.db.QueryRowContext(ctx, `
		SELECT id, objective, text, attainment FROM key_result
		WHERE organization = ? AND id = ?`, organization, id))
}

// AddObjective adds an objective and returns it. The error is ErrText or
// ErrFull when the text or the list does not allow it.
func (s *Service) AddObjective(ctx context.Context, c Caller, text string) (Objective, error) {
	text, err := oneLine(text)
	if err != nil {
		return Objective{}, err
	}
	if err := s.meet(ctx, c.Organization); err != nil {
		return Objective{}, err
	}
	return change(ctx, s.db, c, addObjective, func(tx *sql.Tx) (Objective, string, error) {
		added := Objective{Text: text, KeyResults: []KeyResult{}}
		err := tx.QueryRowContext(ctx, `
			INSERT INTO objective (organization, text)
			SELECT ?1, ?2 WHERE (SELECT count(*) FROM objective WHERE organization = ?1) < ?3
			RETURNING id`, c.Organization, text, maxObjectives).Scan(&added.ID)
		if errors.Is(err, sql.ErrNoRows) {
			err = ErrFull
		}
		return added, text, err
	})
}

// DeleteObjective removes an objective with its key results and returns what
// it was, or ErrNoObjective.
func (s *Service) DeleteObjective(ctx context.Context, c Caller, id string) (Objective, error) {
	return change(ctx, s.db, c, deleteObjective, func(tx *sql.Tx) (Objective, string, error) {
		gone, err := objective(ctx, tx, c.Organization, id)
		if err == nil {
			_, err = tx.ExecContext(ctx, `DELETE FROM objective WHERE organization = ? AND id = ?`, c.Organization, id)
		}
		return gone, gone.Text, err
	})
}

// AddKeyResult adds a key result to an objective, at 0 %, and returns it. The
// error is ErrNoObjective, ErrText or ErrFull.
func (s *Service) AddKeyResult(ctx context.Context, c Caller, objectiveID, text string) (KeyResult, error) {
	text, err := oneLine(text)
	if err != nil {
		return KeyResult{}, err
	}
	return change(ctx, s.db, c, addKeyResult, func(tx *sql.Tx) (KeyResult, string, error) {
		added, err := keyResult(tx.QueryRowContext(ctx, `
			INSERT INTO key_result (organization, objective, text)
			SELECT organization, id, ?3 FROM objective
			WHERE organization = ?1 AND id = ?2
				AND (SELECT count(*) FROM key_result WHERE organization = ?1 AND objective = ?2) < ?4
			RETURNING id, objective, text, attainment`, c.Organization, objectiveID, text, maxKeyResults))
		if errors.Is(err, ErrNoKeyResult) { // why was none added?
			if _, err = objective(ctx, tx, c.Organization, objectiveID); err == nil {
				err = ErrFull
			}
		}
		return added, text, err
	})
}

// SetAttainment says how far a key result is and returns it, or ErrNoKeyResult
// or ErrAttainment.
func (s *Service) SetAttainment(ctx context.Context, c Caller, objectiveID, id string, attainment int) (KeyResult, error) {
	if attainment < 0 || attainment > 100 {
		return KeyResult{}, ErrAttainment
	}
	return change(ctx, s.db, c, setKeyResultAttainment, func(tx *sql.Tx) (KeyResult, string, error) {
		set, err := keyResult(tx.QueryRowContext(ctx, `
			UPDATE key_result SET attainment = ? WHERE organization = ? AND objective = ? AND id = ?
			RETURNING id, objective, text, attainment`, attainment, c.Organization, objectiveID, id))
		return set, fmt.Sprintf("%s: %d%%", set.Text, attainment), err
	})
}

// DeleteKeyResult removes a key result and returns what it was, or
// ErrNoKeyResult.
func (s *Service) DeleteKeyResult(ctx context.Context, c Caller, objectiveID, id string) (KeyResult, error) {
	return change(ctx, s.db, c, deleteKeyResult, func(tx *sql.Tx) (KeyResult, string, error) {
		gone, err := keyResult(tx.QueryRowContext(ctx, `
			DELETE FROM key_result WHERE organization = ? AND objective = ? AND id = ?
			RETURNING id, objective, text, attainment`, c.Organization, objectiveID, id))
		return gone, gone.Text, err
	})
}

// Refused notes that a connected app tried something that it may not do. An
// app that tries again and again is noted once in a minute.
func (s *Service) Refused(ctx context.Context, c Caller, operation string) error {
	return note(ctx, s.db, c, operation, "", true)
}

// Events returns what connected apps did last in an organization, the newest
// first, at most ten.
func (s *Service) Events(ctx context.Context, organization string) ([]Event, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT at, subject, coalesce((SELECT name FROM person p WHERE p.organization = e.organization AND p.subject = e.subject), ''),
			client, operation, about, refused
		FROM event e WHERE organization = ? ORDER BY n DESC`, organization)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var events []Event
	for rows.Next() {
		var e Event
		var at int64
		if err := rows.Scan(&at, &e.Subject, &e.Name, &e.Client, &e.Operation, &e.About, &e.Refused); err != nil {
			return nil, err
		}
		e.At = time.UnixMicro(at).UTC()
		events = append(events, e)
	}
	return events, rows.Err()
}

// Remember keeps a person's name, by which Events speaks of them: a token
// names its person by an id alone.
func (s *Service) Remember(ctx context.Context, organization, subject, name string) error {
	_, err := s.db.ExecContext(ctx, `
		INSERT INTO person (organization, subject, name) VALUES (?, ?, ?)
		ON CONFLICT (organization, subject) DO UPDATE SET name = excluded.name WHERE name <> excluded.name`,
		organization, subject, name)
	return err
}

// change runs a change and, where a connected app makes it, notes it: both or
// neither. do returns the changed thing, and what the note says about it.
func change[T any](ctx context.Context, db *sql.DB, c Caller, operation string, do func(*sql.Tx) (T, string, error)) (T, error) {
	var nothing T
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nothing, err
	}
	defer tx.Rollback() // after Commit there is nothing to roll back
	changed, about, err := do(tx)
	if err == nil && c.Client != "" {
		err = note(ctx, tx, c, operation, about, false)
	}
	if err == nil {
		err = tx.Commit()
	}
	if err != nil {
		return nothing, err
	}
	return changed, nil
}

// note adds an event, if it is no refusal that was noted a minute ago. The
// trigger forget keeps the list short.
func note(ctx context.Context, q querier, c Caller, operation, about string, refused bool) error {
	_, err := q.ExecContext(ctx, `
		INSERT INTO event (organization, at, subject, client, operation, about, refused)
		SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7 WHERE NOT ?7 OR NOT EXISTS (
			SELECT 1 FROM event WHERE organization = ?1 AND subject = ?3 AND client = ?4 AND operation = ?5
				AND refused AND at > ?2 - 60000000)`,
		c.Organization, time.Now().UnixMicro(), c.Subject, c.Client, operation, about, refused)
	return err
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// list reads the objectives of an organization, or the one with that id.
func list(ctx context.Context, q querier, organization, id string) ([]Objective, error) {
	rows, err := q.QueryContext(ctx, `
		SELECT o.id, o.text, coalesce(k.id, ''), coalesce(k.text, ''), coalesce(k.attainment, 0)
		FROM objective o LEFT JOIN key_result k ON k.organization = o.organization AND k.objective = o.id
		WHERE o.organization = ?1 AND (?2 = '' OR o.id = ?2) ORDER BY o.n, k.n`, organization, id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	all := []Objective{} // an empty list is [] in JSON, not null
	for rows.Next() {
		var o Objective
		var k KeyResult
		if err := rows.Scan(&o.ID, &o.Text, &k.ID, &k.Text, &k.Attainment); err != nil {
			return nil, err
		}
		if len(all) == 0 || all[len(all)-1].ID != o.ID {
			o.KeyResults = []KeyResult{}
			all = append(all, o)
		}
		if last := &all[len(all)-1]; k.ID != "" {
			k.Objective = o.ID
			last.KeyResults = append(last.KeyResults, k)
		}
	}
	return all, rows.Err()
}

// objective reads one; no row is ErrNoObjective.
func objective(ctx context.Context, q querier, organization, id string) (Objective, error) {
	if id == "" {
		return Objective{}, ErrNoObjective
	}
	found, err := list(ctx, q, organization, id)
	if err == nil && len(found) == 0 {
		err = ErrNoObjective
	}
	if err != nil {
		return Objective{}, err
	}
	return found[0], nil
}

// keyResult reads one row; no row is ErrNoKeyResult.
func keyResult(row *sql.Row) (KeyResult, error) {
	var k KeyResult
	err := row.Scan(&k.ID, &k.Objective, &k.Text, &k.Attainment)
	if errors.Is(err, sql.ErrNoRows) {
		err = ErrNoKeyResult
	}
	return k, err
}

// oneLine trims a text and refuses what is not one line of it.
func oneLine(text string) (string, error) {
	text = strings.TrimSpace(text)
	if text == "" || utf8.RuneCountInString(text) > maxText || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		return "", ErrText
	}
	return text, nil
}

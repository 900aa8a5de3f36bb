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

	"github.com/google/uuid"
	_ "modernc.org/sqlite"
)

// What a change can be refused for. Page, REST and MCP say these by [sentence];
// any other error is ours, and nobody is told what it was.
var (
	ErrNotFound = errors.New("no such to-do")
	ErrText     = errors.New("text is empty, too long or not one line")
	ErrFull     = errors.New("list is full")
)

// sentence says an error of Service to a person or a client. Of any other
// error it says nothing.
func sentence(err error) string {
	switch {
	case errors.Is(err, ErrNotFound):
		return "There is no to-do with that id."
	case errors.Is(err, ErrText):
		return fmt.Sprintf("A to-do needs a text of 1 to %d characters, on one line.", maxText)
	case errors.Is(err, ErrFull):
		return fmt.Sprintf("The list holds %d to-dos already. Delete some first.", maxTodos)
	}
	return "Something broke on our side. Try again."
}

const (
	maxText  = 500  // characters
	maxTodos = 1000 // per person
)

// Todo is one entry of one person's list, in the shape that REST and MCP send.
type Todo struct {
	ID        string    `json:"id" jsonschema:"the id that the other tools take as todoID"`
	Text      string    `json:"text"`
	Completed bool      `json:"completed"`
	CreatedAt time.Time `json:"createdAt"`
	// AddedBy is the client_id of the connected app that added the entry;
	// empty when the person did.
	AddedBy string `json:"addedBy,omitempty" jsonschema:"the connected app that added it; absent when the person did"`
}

// Service keeps everybody's lists in one SQLite file. The page, REST and MCP
// all use it, so none of them can have rules of its own.
//
// Every method takes the subject, the person whose list it is, and every
// statement binds it: the id of another person's to-do is not found, exactly
// like an id that never was. Every change is one statement, so two writers
// never overwrite each other.
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
		// WAL lets readers go on while one writes; a writer waits its turn.
		"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)"},
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

const schema = `
CREATE TABLE IF NOT EXISTS todo (
	subject    TEXT    NOT NULL,
	id         TEXT    NOT NULL,
	text       TEXT    NOT NULL,
	completed  INTEGER NOT NULL DEFAULT 0,
	created_at INTEGER NOT NULL, -- microseconds UTC
	added_by   TEXT    NOT NULL,
	PRIMARY KEY (subject, id)
) WITHOUT ROWID`

// Close closes the file.
func (s *Service) Close() error { return s.db.Close() }

// List returns the person's to-dos: open ones first, then by id, which is by age.
func (s *Service) List(ctx context.Context, subject string) ([]Todo, error) {
	rows, err := s.db.QueryContext(ctx, `
		SELECT id, text, completed, created_at, added_by FROM todo
		WHERE subject = ? ORDER BY completed, id`, subject)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	todos := []Todo{} // an empty list is [] in JSON, not null
	for rows.Next() {
		todo, err := scan(rows)
		if err != nil {
			return nil, err
		}
		todos = append(todos, todo)
	}
	return todos, rows.Err()
}

// Read returns one to-do, or ErrNotFound.
func (s *Service) Read(ctx context.Context, subject, id string) (Todo, error) {
	return scan(s.db.QueryRowContext(ctx, `
		SELECT id, text, completed, created_at, added_by FROM todo
		WHERE subject = ? AND id = ?`, subject, id))
}

// Create adds a to-do and returns it. addedBy is the client_id of the connected
// app that asks, or empty. The error is ErrText or ErrFull when the text or the
// list does not allow it.
func (s *Service) Create(ctx context.Context, subject, addedBy, text string) (Todo, error) {
	text = strings.TrimSpace(text)
	if text == "" || utf8.RuneCountInString(text) > maxText || !utf8.ValidString(text) ||
		strings.ContainsFunc(text, unicode.IsControl) {
		return Todo{}, ErrText
	}
	id, err := uuid.NewV7() // ascending with time, and nobody guesses one
	if err != nil {
		return Todo{}, err
	}
	todo, err := scan(s.db.QueryRowContext(ctx, `
		INSERT INTO todo (subject, id, text, created_at, added_by)
		SELECT ?1, ?2, ?3, ?4, ?5 WHERE (SELECT count(*) FROM todo WHERE subject = ?1) < ?6
		RETURNING id, text, completed, created_at, added_by`,
		subject, id.String(), text, time.Now().UnixMicro(), addedBy, maxTodos))
	if errors.Is(err, ErrNotFound) {
		return Todo{}, ErrFull
	}
	return todo, err
}

// Complete marks a to-do as done and returns it, or ErrNotFound. One that is
// done already stays so.
func (s *Service) Complete(ctx context.Context, subject, id string) (Todo, error) {
	return scan(s.db.QueryRowContext(ctx, `
		UPDATE todo SET completed = 1 WHERE subject = ? AND id = ?
		RETURNING id, text, completed, created_at, added_by`, subject, id))
}

// Delete removes a to-do and returns what it was, or ErrNotFound.
func (s *Service) Delete(ctx context.Context, subject, id string) (Todo, error) {
	return scan(s.db.QueryRowContext(ctx, `
		DELETE FROM todo WHERE subject = ? AND id = ?
		RETURNING id, text, completed, created_at, added_by`, subject, id))
}

// scan reads one row; no row is ErrNotFound.
func scan(row interface{ Scan(...any) error }) (Todo, error) {
	var todo Todo
	var created int64
	err := row.Scan(&todo.ID, &todo.Text, &todo.Completed, &created, &todo.AddedBy)
	if errors.Is(err, sql.ErrNoRows) {
		return Todo{}, ErrNotFound
	}
	todo.CreatedAt = time.UnixMicro(created).UTC()
	return todo, err
}

package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
)

// newSeals are as the server makes them, at a later time.
func newSeals(t *testing.T, db *store.DB, at time.Time) *audit.Seals {
	t.Helper()
	sealer, err := signing.NewSealer(sha256.Sum256([]byte("ours")))
	must(t, err)
	place := func(row string) signing.Place { return signing.Place{Table: "event_seal", Row: row, Column: "proof"} }
	return audit.NewSeals(audit.SealsConfig{
		Store: db, Now: func() time.Time { return at },
		Close: func(digest []byte, row string) []byte { return sealer.Seal(digest, place(row)) },
		Open:  func(proof []byte, row string) ([]byte, error) { return sealer.Open(proof, place(row)) },
	})
}

// sealed is a trail of some events, sealed in three pieces, and what they are.
func sealed(t *testing.T, db *store.DB) (*world, []audit.Event) {
	t.Helper()
	w := newWorld(t, db, "notes.example.com")
	for i := range 3 {
		for j := range 4 {
			e := w.eventAt(audit.TokenRefused, now.Add(time.Duration(i)*time.Hour+time.Duration(j)*time.Second))
			e.Subject, e.ClientID, e.Object, e.Reason, e.Attempt, e.Refused = "user", "client", "family", "wrong", "K7Q-2MX-9RD", true
			must(t, db.Record(t.Context(), e))
		}
		must(t, newSeals(t, db, now.Add(time.Duration(i)*time.Hour+2*time.Minute)).Add(t.Context(), w.project.ID))
	}
	events, err := db.EventsAfter(t.Context(), w.project.ID, time.Time{}, "", 100)
	must(t, err)
	return w, events
}

// found writes findings as "what id-or-number".
func found(v audit.Verdict) []string {
	all := []string{}
	for _, f := range v.Findings {
		if f.Event.ID == "" {
			all = append(all, fmt.Sprint(f.What, " ", f.Seal))
			continue
		}
		all = append(all, f.What+" "+f.Event.ID)
	}
	return all
}

// Row: D12. Whoever edits the trail in the database is found out, and the event is
// named.
func TestD12EditsOfTheTrailShow(t *testing.T) {
	t.Parallel()
	const row = " WHERE project_id = $1 AND id = $2"
	type edit struct {
		statement string
		more      []any // behind the project and the id of the fifth event before the end
		want      func(events []audit.Event) []string
	}
	the := func(what string) func([]audit.Event) []string {
		return func(events []audit.Event) []string { return []string{what + " " + events[len(events)-5].ID} }
	}
	edits := map[string]edit{
		"nothing": {statement: "UPDATE event SET kind = kind" + row, want: func([]audit.Event) []string { return []string{} }},
		"removed": {statement: "DELETE FROM event" + row, want: the("removed")},
		"removed before a seal's first": {
			statement: "DELETE FROM event WHERE project_id = $1 AND id <= $2", want: func(events []audit.Event) (all []string) {
				for _, e := range events[:len(events)-4] {
					all = append(all, "removed "+e.ID)
				}
				return all
			},
		},
		"another id": {
			statement: "UPDATE event SET id = $3" + row, more: []any{"00000000-0000-7000-8000-000000000000"},
			want: func(events []audit.Event) []string {
				return []string{"added 00000000-0000-7000-8000-000000000000", "removed " + events[len(events)-5].ID}
			},
		},
		"a seal's time": {
			statement: "UPDATE event_seal SET sealed_at = sealed_at + 1 WHERE project_id = $1 AND number = 2 AND $2 <> ''",
			want:      func([]audit.Event) []string { return []string{"seal changed 2"} },
		},
		"a seal's events": {
			statement: "UPDATE event_seal SET marks = (SELECT s.marks FROM event_seal AS s WHERE s.project_id = $1 AND s.number = 3) WHERE project_id = $1 AND number = 2 AND $2 <> ''",
			want:      func([]audit.Event) []string { return []string{"seal changed 2"} },
		},
		"a seal in another's place": {
			statement: `UPDATE event_seal SET marks = (SELECT s.marks FROM event_seal AS s WHERE s.project_id = $1 AND s.number = 3),
				sealed_at = (SELECT s.sealed_at FROM event_seal AS s WHERE s.project_id = $1 AND s.number = 3),
				proof = (SELECT s.proof FROM event_seal AS s WHERE s.project_id = $1 AND s.number = 3) WHERE project_id = $1 AND number = 2 AND $2 <> ''`,
			want: func([]audit.Event) []string { return []string{"seal changed 2"} },
		},
		"a seal removed": {
			statement: "DELETE FROM event_seal WHERE project_id = $1 AND number = 2 AND $2 <> ''",
			want:      func([]audit.Event) []string { return []string{"seal removed 2"} },
		},
	}
	// Every column counts, also one that comes later.
	for _, match := range regexp.MustCompile(`(?m)^    (\w+) +(?:TEXT|BIGINT|BOOLEAN)`).FindAllStringSubmatch(tables(t)["event"], -1) {
		switch column := match[1]; column {
		case "project_id", "id": // above: it is another row
		case "occurred_at":
			edits["column occurred_at"] = edit{statement: "UPDATE event SET occurred_at = occurred_at + 1" + row, want: the("changed")}
		case "refused":
			edits["column refused"] = edit{statement: "UPDATE event SET refused = NOT refused" + row, want: the("changed")}
		default:
			edits["column "+column] = edit{statement: "UPDATE event SET " + column + " = '7'" + row, want: the("changed")}
		}
	}
	if len(edits) != 8+11 {
		t.Errorf("%d edits: is there a column that newMark does not know?", len(edits))
	}
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, events := sealed(t, db)
		for name, e := range edits {
			must(t, db.Change(t.Context(), "CREATE TABLE kept_event AS SELECT * FROM event"))
			must(t, db.Change(t.Context(), "CREATE TABLE kept_seal AS SELECT * FROM event_seal"))
			must(t, db.Change(t.Context(), e.statement, append([]any{w.project.ID, events[len(events)-5].ID}, e.more...)...))
			v, err := newSeals(t, db, now.Add(24*time.Hour)).Verify(t.Context(), w.project.ID, "")
			must(t, err)
			if got, want := found(v), e.want(events); !slices.Equal(got, want) || v.Wrong != len(want) {
				t.Errorf("%s: found %q, want %q", name, got, want)
			}
			for _, statement := range []string{
				"DELETE FROM event", "INSERT INTO event SELECT * FROM kept_event", "DROP TABLE kept_event",
				"DELETE FROM event_seal", "INSERT INTO event_seal SELECT * FROM kept_seal", "DROP TABLE kept_seal",
			} {
				must(t, db.Change(t.Context(), statement))
			}
		}
	})
}

// Another project's seal vouches for nothing, and neither does one made under
// another master key.
func TestForeignSeals(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, _ := sealed(t, db)
		other := newWorld(t, db, "other.example.com")
		must(t, newSeals(t, db, now.Add(time.Hour)).Add(t.Context(), other.project.ID))
		const as = "UPDATE event_seal SET (marks, sealed_at, proof) = (SELECT s.marks, s.sealed_at, s.proof FROM event_seal AS s WHERE s.project_id = $1 AND s.number = 1) WHERE project_id = $2 AND number = 1"
		must(t, db.Change(t.Context(), as, w.project.ID, other.project.ID))
		v, err := newSeals(t, db, now.Add(24*time.Hour)).Verify(t.Context(), other.project.ID, "")
		must(t, err)
		if got := found(v); !slices.Equal(got, []string{"seal changed 1"}) || v.Unvouched == 0 || v.Events != 0 {
			t.Errorf("found %q, %+v", got, v)
		}

		stranger, err := signing.NewSealer(sha256.Sum256([]byte("another")))
		must(t, err)
		seals := newSeals(t, db, now.Add(24*time.Hour))
		seals.Open = func(proof []byte, row string) ([]byte, error) {
			return stranger.Open(proof, signing.Place{Table: "event_seal", Row: row, Column: "proof"})
		}
		if v, err = seals.Verify(t.Context(), w.project.ID, ""); err != nil || v.Wrong != 3 || v.Events != 0 {
			t.Errorf("%v %+v", err, v)
		}
	})
}

// Without the head of an earlier time nobody can tell a trail that was cut off
// from a shorter one; a server that runs has seen it.
func TestCutOffTrail(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, events := sealed(t, db)
		running := newSeals(t, db, now.Add(24*time.Hour))
		must(t, running.Add(t.Context(), w.project.ID))
		verify := func(head string) audit.Verdict {
			t.Helper()
			v, err := newSeals(t, db, now.Add(24*time.Hour)).Verify(t.Context(), w.project.ID, head)
			must(t, err)
			return v
		}
		before := verify("")
		if v := verify(before.Head); v.Wrong != 0 || v.Events != len(events) || v.Seals != 3 || v.Waiting != 0 {
			t.Errorf("%+v", v)
		}
		must(t, db.Change(t.Context(), "DELETE FROM event WHERE project_id = $1 AND id >= $2", w.project.ID, events[len(events)-4].ID))
		must(t, db.Change(t.Context(), "DELETE FROM event_seal WHERE project_id = $1 AND number = 3", w.project.ID))
		if v := verify(""); v.Wrong != 0 {
			t.Errorf("%+v", v)
		}
		if got := found(verify(before.Head)); !slices.Equal(got, []string{"seal removed 3"}) {
			t.Error(got)
		}
		if err := running.Add(t.Context(), w.project.ID); err == nil || !strings.Contains(err.Error(), "seals 3 to 3") {
			t.Errorf("the running server says %v", err)
		}
		// Another seal with its number is not the one that was remembered.
		must(t, db.Record(t.Context(), w.eventAt(audit.TokenRefused, now.Add(5*time.Hour))))
		must(t, newSeals(t, db, now.Add(6*time.Hour)).Add(t.Context(), w.project.ID))
		if got := found(verify(before.Head)); !slices.Equal(got, []string{"seal removed 3"}) {
			t.Error(got)
		}
		for _, head := range []string{"3", "x-00", "0-" + strings.Repeat("00", 16), "3-abcd"} {
			if _, err := running.Verify(t.Context(), w.project.ID, head); !errors.Is(err, audit.ErrHead) {
				t.Errorf("head %q: %v", head, err)
			}
		}
	})
}

// An event is sealed when its transaction must have ended; many make several
// seals; servers that seal at the same moment make one row of each number.
func TestSealing(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "notes.example.com")
		for i := range 2100 {
			must(t, db.Record(t.Context(), w.eventAt(audit.TokenRefreshed, now.Add(time.Duration(i)*time.Millisecond))))
		}
		must(t, db.Record(t.Context(), w.eventAt(audit.TokenRefused, now.Add(time.Hour))))
		at := now.Add(time.Hour + time.Minute - time.Microsecond)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if err := newSeals(t, db, at).Add(t.Context(), w.project.ID); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		events, err := db.EventsAfter(t.Context(), w.project.ID, time.Time{}, "", 10_000)
		must(t, err)
		v, err := newSeals(t, db, at).Verify(t.Context(), w.project.ID, "")
		must(t, err)
		if v.Wrong != 0 || v.Events != len(events)-1 || v.Waiting != 1 || !v.Oldest.Equal(now.Add(time.Hour)) || v.Seals != 3 {
			t.Errorf("%+v of %d events", v, len(events))
		}
		must(t, newSeals(t, db, at.Add(time.Microsecond)).Add(t.Context(), w.project.ID))
		v, err = newSeals(t, db, at.Add(time.Microsecond)).Verify(t.Context(), w.project.ID, "")
		must(t, err)
		if v.Wrong != 0 || v.Events != len(events) || v.Waiting != 0 || v.Seals != 4 {
			t.Errorf("%+v", v)
		}
	})
}

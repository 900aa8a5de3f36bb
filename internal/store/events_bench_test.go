package store_test

import (
	"database/sql"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/store"
)

// eventsVariable names the environment variable that says how many events the
// benchmark reads from. The bar, 30 ms, stands for 10000000.
const eventsVariable = "POSTERN_BENCH_EVENTS"

// BenchmarkEvents is what the pages of the dashboard wait for: p95-ms is the
// time of one read, everywhere in the trail.
func BenchmarkEvents(b *testing.B) {
	n, err := strconv.Atoi(os.Getenv(eventsVariable))
	if os.Getenv(eventsVariable) == "" {
		n, err = 100_000, nil
	}
	if err != nil || n < 100_000 {
		b.Fatalf("%s must be a number of at least 100000", eventsVariable)
	}
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		b.Run(name, func(b *testing.B) {
			c := store.Config{Now: time.Now}
			if name == "SQLite" {
				c.Path = sqliteCopy(b)
			} else {
				c.URL = postgresCopy(b)
			}
			w := newWorld(b, open(b, c), "auth.example.com")
			pour(b, openRaw(b, c), w.project.ID, n, name == "SQLite")
			benchEvents(b, w, n)
		})
	}
}

// benchEvents reads with each filter of the Activity page, and with those that
// no index knows of.
func benchEvents(b *testing.B, w *world, n int) {
	groups := audit.Groups()
	kindsOf := func(i int) []audit.Kind { return groups[i%len(groups)].Kinds() }
	read := func(name string, q func(i int) audit.Query) {
		b.Run(name, func(b *testing.B) {
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				asked := q(i)
				asked.ProjectID, asked.Limit = w.project.ID, 50
				if i%2 == 1 { // somewhere in the middle
					asked.Before = pouredID(i * 7919 % n)
				}
				began := time.Now()
				_, err := w.Events(b.Context(), asked)
				took = append(took, time.Since(began))
				must(b, err)
			}
			report95(b, took)
		})
	}
	subject := func(i int) string { return pouredSubject(i * 7919 % n) }
	client := func(i int) string { return fmt.Sprint("connected-app-test-", i%1000) }
	read("all", func(int) audit.Query { return audit.Query{} })
	read("a time", func(i int) audit.Query {
		until := secret.TimeOf(pouredID(i * 104_729 % n))
		return audit.Query{Since: until.Add(-time.Hour), Until: until}
	})
	read("a kind", func(i int) audit.Query { return audit.Query{Kinds: kindsOf(i)[:1]} })
	read("a group", func(i int) audit.Query { return audit.Query{Kinds: kindsOf(i)} })
	read("a person", func(i int) audit.Query { return audit.Query{Subject: subject(i)} })
	read("a client", func(i int) audit.Query { return audit.Query{ClientID: client(i)} })
	read("a client of long ago", func(int) audit.Query { return audit.Query{ClientID: "connected-app-test-old"} })
	read("refused", func(int) audit.Query { return audit.Query{RefusedOnly: true} })
	read("a client and refused", func(i int) audit.Query { return audit.Query{ClientID: client(i), RefusedOnly: true} })
	read("a client and a group", func(i int) audit.Query { return audit.Query{ClientID: client(i), Kinds: kindsOf(i)} })
	read("a person and a client", func(i int) audit.Query { return audit.Query{Subject: subject(i), ClientID: client(i)} })
	read("a group and refused", func(i int) audit.Query { return audit.Query{Kinds: kindsOf(i), RefusedOnly: true} })
	read("an actor in vain", func(int) audit.Query { return audit.Query{Actor: "nobody"} })
	read("an actor in vain in a client", func(int) audit.Query { return audit.Query{Actor: "nobody", ClientID: client(0)} })
	read("an actor in vain in a group", func(i int) audit.Query { return audit.Query{Actor: "nobody", Kinds: kindsOf(i)} })
	read("an object in vain and refused", func(int) audit.Query { return audit.Query{Object: "nothing", RefusedOnly: true} })

	now := secret.TimeOf(pouredID(n - 1))
	tally := func(name string, again bool) {
		b.Run(name, func(b *testing.B) {
			tallies := audit.NewTallies(w, func() time.Time { return now })
			var took []time.Duration
			for b.Loop() {
				began := time.Now()
				_, err := tallies.Day(b.Context(), w.project.ID)
				took = append(took, time.Since(began))
				must(b, err)
				if !again {
					tallies = audit.NewTallies(w, func() time.Time { return now })
				}
			}
			if again {
				took = took[1:]
			}
			report95(b, append(took, took[len(took)-1:]...))
		})
	}
	tally("a day after a start", false)
	tally("a day", true)
	b.Run("causes of refusals", func(b *testing.B) {
		var took []time.Duration
		for b.Loop() {
			began := time.Now()
			_, err := w.RefusalCauses(b.Context(), w.project.ID, now.Add(-24*time.Hour), 10)
			took = append(took, time.Since(began))
			must(b, err)
		}
		report95(b, took)
	})
	b.Run("record", func(b *testing.B) {
		parallel(b, 16, func(i int) error {
			return w.Record(b.Context(), audit.Event{
				ProjectID: w.project.ID, At: time.Now(), Kind: audit.TokenRefreshed, Actor: client(i), Subject: subject(int(time.Now().UnixNano())),
				ClientID: client(i), Object: "family", Address: "192.0.2.1", TraceID: "K7Q-2MX-9RD",
			})
		})
	})
}

func report95(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
}

// pouredID is the id of the event number i, as pour makes it: decimal digits
// that read as the time of a UUIDv7, 10000000 of them about three days.
func pouredID(i int) string {
	digits := fmt.Sprintf("019%09d", i)
	return digits[:8] + "-" + digits[8:] + "-7000-8000-000000000000"
}

func pouredSubject(i int) string { return fmt.Sprint("user-test-", int64(i)*7919%1_000_000) }

// pour makes events by one statement: seven of ten are refreshes, half of all
// are of one client, and a fiftieth was refused. The indexes are made
// afterwards, which is quicker.
func pour(b *testing.B, on *sql.DB, projectID string, n int, sqlite bool) {
	b.Helper()
	list := "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'event' AND indexname <> 'event_pkey'"
	statements := []string{"ANALYZE event", "VACUUM event"}
	if sqlite {
		list = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'event' AND sql IS NOT NULL"
		statements = []string{"PRAGMA wal_checkpoint(TRUNCATE)"}
	}
	found, err := on.QueryContext(b.Context(), list)
	must(b, err)
	defer found.Close()
	var drop, create []string
	for found.Next() {
		var name, definition string
		must(b, found.Scan(&name, &definition))
		drop, create = append(drop, "DROP INDEX "+name), append(create, definition)
	}
	must(b, found.Err())
	must(b, found.Close())
	insert := fmt.Sprintf(`INSERT INTO event (project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt)
		WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		SELECT '%s', '019' || substr(CAST(1000000000 + i AS text), 2, 5) || '-' || substr(CAST(1000000000 + i AS text), 7, 4) || '-7000-8000-000000000000',
			1717986918400000 + CAST(i AS bigint) * 1000,
			CASE i %% 50 WHEN 0 THEN 'token.refused' WHEN 1 THEN 'grant.allowed' WHEN 2 THEN 'signin.code_sent' WHEN 3 THEN 'signin.succeeded' WHEN 4 THEN 'session.ended'
				ELSE CASE WHEN i %% 50 < 15 THEN 'token.issued' ELSE 'token.refreshed' END END,
			'connected-app-test-1', 'user-test-' || CAST(CAST(i AS bigint) * 7919 %% 1000000 AS text),
			'connected-app-test-' || CASE WHEN i < 5000 THEN 'old' WHEN i %% 2 = 0 THEN '0' ELSE CAST(CAST(i AS bigint) * 7919 %% 1000 AS text) END,
			'family', '192.0.2.1', i %% 50 = 0, CASE i %% 50 WHEN 0 THEN 'expired' ELSE '' END, 'K7Q-2MX-9RD', ''
		FROM n`, n-1, projectID)
	for _, statement := range slices.Concat(drop, []string{insert}, create, statements) {
		if _, err := on.ExecContext(b.Context(), statement); err != nil {
			b.Fatalf("%v in %.80s", err, statement)
		}
	}
}

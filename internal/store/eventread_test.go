package store_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/store"
)

// Whatever is asked for, the pages together hold exactly the events that a
// reader of all events would pick, the newest first, and each once.
func TestEvents(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		other := newWorld(t, db, "other.example.com")
		random := rand.New(rand.NewPCG(4, 11))
		pick := func(some ...string) string { return some[random.IntN(len(some))] }
		kinds := []audit.Kind{audit.SignedIn, audit.TokenRefreshed, audit.TokenRefused, audit.ProjectChanged}
		for i := range 300 {
			e := audit.Event{
				ProjectID: w.project.ID, At: now.Add(time.Duration(i) * time.Minute), Kind: kinds[random.IntN(len(kinds))],
				Actor: pick("", "operator", "client"), Subject: pick("", "ada", "bea"), ClientID: pick("", "client", "another"),
				Object: pick("", "grant"), Address: "192.0.2.1", TraceID: "K7Q-2MX-9RD",
			}
			e.Refused = e.Kind != audit.TokenRefreshed && random.IntN(3) == 0
			if i%50 == 0 {
				e.ProjectID = other.project.ID
			}
			must(t, db.Record(t.Context(), e))
		}
		all, err := db.EventsAfter(t.Context(), w.project.ID, time.Time{}, "", 10_000)
		must(t, err)
		if len(all) < 290 || !slices.IsSortedFunc(all, func(a, b audit.Event) int { return a.At.Compare(b.At) }) {
			t.Fatalf("%d events, or not in order", len(all))
		}
		slices.Reverse(all)
		for range 300 {
			q := audit.Query{
				ProjectID: w.project.ID, Subject: pick("", "ada", "nobody"), ClientID: pick("", "", "client"),
				Actor: pick("", "", "operator"), Object: pick("", "", "grant"), RefusedOnly: random.IntN(3) == 0,
				Limit: 1 + random.IntN(60),
			}
			for range random.IntN(3) {
				q.Kinds = append(q.Kinds, kinds[random.IntN(len(kinds))])
			}
			if random.IntN(3) == 0 {
				q.Since = now.Add(time.Duration(random.IntN(200)) * time.Minute)
			}
			if random.IntN(3) == 0 {
				q.Until = now.Add(time.Duration(100+random.IntN(200)) * time.Minute)
			}
			var want, got []audit.Event
			for _, e := range all {
				if q.Matches(e) {
					want = append(want, e)
				}
			}
			turn := q
			for {
				page, err := db.Events(t.Context(), turn)
				must(t, err)
				got = append(got, page.Events...)
				if len(page.Events) > q.Limit || page.Next != "" && len(page.Events) != q.Limit || !page.LookedBackTo.IsZero() {
					t.Fatalf("%+v: a page of %d with next %q, back to %v", turn, len(page.Events), page.Next, page.LookedBackTo)
				}
				if page.Next == "" {
					break
				}
				turn.Before = page.Next
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("%+v: %s", q, diff)
			}
		}
	})
}

// What no index knows of is looked for in a bounded number of events, and the
// answer says how far back that was: nobody takes it for all there is.
func TestEventsLookBackSoFar(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		first := now.Add(time.Hour)
		rare := audit.Event{ProjectID: w.project.ID, At: first, Kind: audit.TokenIssued, Actor: "rare", Subject: "ada", ClientID: "client"}
		must(t, db.Record(t.Context(), rare))
		fill(t, db, w.project.ID, first.Add(time.Second), audit.MaxLooked+10, func(i int) audit.Event {
			return audit.Event{Kind: audit.TokenRevoked, Actor: "client", Subject: "ada", ClientID: "client"}
		})
		for name, q := range map[string]audit.Query{
			"of a project": {},
			"of a person":  {Subject: "ada"},
			"of a client":  {ClientID: "client"},
			"of kinds":     {Kinds: []audit.Kind{audit.TokenRevoked, audit.TokenIssued}},
		} {
			q.ProjectID, q.Actor, q.Limit = w.project.ID, "rare", 5
			page, err := db.Events(t.Context(), q)
			must(t, err)
			if len(page.Events) != 0 || page.Next == "" || !page.LookedBackTo.After(first) {
				t.Errorf("%s: %d events, next %q, looked back to %v", name, len(page.Events), page.Next, page.LookedBackTo)
			}
			for range 3 { // two kinds share what is looked at
				if page.Next != "" {
					q.Before = page.Next
					page, err = db.Events(t.Context(), q)
					must(t, err)
				}
			}
			if len(page.Events) != 1 || page.Next != "" || !page.LookedBackTo.IsZero() {
				t.Errorf("%s: then %+v", name, page)
			}
		}
	})
}

// Of a person and of a client refreshes are found where they are all that is
// asked for, and only so far back among everybody's.
func TestRefreshesStandApart(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		for i, kind := range []audit.Kind{audit.TokenIssued, audit.TokenRefreshed, audit.TokenRefreshed, audit.TokenRevoked} {
			must(t, db.Record(t.Context(), audit.Event{ProjectID: w.project.ID, At: now.Add(time.Duration(i) * time.Minute), Kind: kind, Subject: "ada", ClientID: "client", Object: "family"}))
		}
		refreshed := []audit.Kind{audit.TokenRefreshed}
		for name, is := range map[string]struct {
			query audit.Query
			want  string
		}{
			"of a person":                       {audit.Query{Subject: "ada"}, "revoked issued"},
			"of a client":                       {audit.Query{ClientID: "client"}, "revoked issued"},
			"of a client, one kind of more":     {audit.Query{ClientID: "client", Kinds: []audit.Kind{audit.TokenIssued, audit.TokenRefreshed}}, "issued"},
			"of a person, refreshes":            {audit.Query{Subject: "ada", Kinds: refreshed}, "refreshed refreshed"},
			"of a client, refreshes":            {audit.Query{ClientID: "client", Kinds: refreshed}, "refreshed refreshed"},
			"of somebody else, refreshes":       {audit.Query{Subject: "bea", Kinds: refreshed}, ""},
			"of a client, refused refreshes":    {audit.Query{ClientID: "client", Kinds: refreshed, RefusedOnly: true}, ""},
			"of a project, whoever they are of": {audit.Query{Object: "family"}, "revoked refreshed refreshed issued"},
		} {
			is.query.ProjectID, is.query.Limit = w.project.ID, 10
			page, err := db.Events(t.Context(), is.query)
			must(t, err)
			var got []string
			for _, e := range page.Events {
				got = append(got, strings.TrimPrefix(string(e.Kind), "token."))
			}
			if strings.Join(got, " ") != is.want {
				t.Errorf("%s: %v, want %s", name, got, is.want)
			}
		}
		fill(t, db, w.project.ID, now.Add(time.Hour), audit.MaxLooked+10, func(int) audit.Event {
			return audit.Event{Kind: audit.TokenRefreshed, Subject: "bea", ClientID: "another"}
		})
		page, err := db.Events(t.Context(), audit.Query{ProjectID: w.project.ID, ClientID: "client", Kinds: refreshed, Limit: 10})
		must(t, err)
		if len(page.Events) != 0 || page.LookedBackTo.IsZero() || page.Next == "" {
			t.Errorf("behind many others: %+v", page)
		}
	})
}

func TestCountEvents(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		start := now.Add(time.Hour).Truncate(time.Hour)
		for _, one := range []struct {
			at      time.Duration
			kind    audit.Kind
			refused bool
		}{
			{-time.Microsecond, audit.TokenIssued, false},
			{0, audit.TokenIssued, false},
			{time.Minute, audit.TokenRefreshed, false},
			{2 * time.Minute, audit.TokenRefused, true},
			{3 * time.Minute, audit.SignedIn, false},
			{4 * time.Minute, audit.SignInRefused, true},
			{5 * time.Minute, audit.GrantAllowed, false},
			{time.Hour - time.Microsecond, audit.TokenRefreshed, false},
			{time.Hour, audit.TokenRefreshed, false},
		} {
			must(t, db.Record(t.Context(), audit.Event{ProjectID: w.project.ID, At: start.Add(one.at), Kind: one.kind, Refused: one.refused}))
		}
		must(t, db.Record(t.Context(), audit.Event{At: start.Add(time.Minute), Kind: audit.TokenIssued}))
		got := map[audit.Measure]int{}
		for _, m := range []audit.Measure{audit.SignIns, audit.Grants, audit.Tokens, audit.Refusals} {
			n, err := db.CountEvents(t.Context(), w.project.ID, m, start, start.Add(time.Hour))
			must(t, err)
			got[m] = n
		}
		want := map[audit.Measure]int{audit.SignIns: 1, audit.Grants: 1, audit.Tokens: 3, audit.Refusals: 2}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
}

// fill keeps events of a project, a millisecond after one another.
func fill(t testing.TB, db *store.DB, projectID string, from time.Time, n int, event func(i int) audit.Event) {
	t.Helper()
	const each = 64 // in one transaction of SQLite
	for begin := 0; begin < n; begin += each {
		at(min(each, n-begin), func(i int) {
			e := event(begin + i)
			e.ProjectID, e.At = projectID, from.Add(time.Duration(begin+i)*time.Millisecond)
			if err := db.Record(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
}

// The statements that read events go through the index that is meant for them,
// and in its order.
func TestEventsAreReadByIndex(t *testing.T) {
	t.Parallel()
	db := open(t, store.Config{Path: sqliteCopy(t), Now: time.Now})
	texts := generated(t)
	for name, want := range map[string]string{
		"EventsByProject": "sqlite_autoindex_event_1 (project_id=? AND id>? AND id<?)", "LookBackByProject": "sqlite_autoindex_event_1 (project_id=? AND id>? AND id<?)",
		"EventsByRefused": "event_refused (project_id=? AND id>? AND id<?)", "LookBackByRefused": "event_refused (project_id=? AND id>? AND id<?)",
		"EventsByKind": "event_kind (project_id=? AND (kind,id)>(?,?) AND (kind,id)<(?,?))", "LookBackByKind": "event_kind (project_id=? AND (kind,id)>(?,?) AND (kind,id)<(?,?))",
		"EventsByClient": "event_client (project_id=? AND (client_id,id)>(?,?) AND (client_id,id)<(?,?))", "LookBackByClient": "event_client (project_id=? AND (client_id,id)>(?,?) AND (client_id,id)<(?,?))",
		"EventsBySubject": "event_subject (project_id=? AND (subject,id)>(?,?) AND (subject,id)<(?,?))", "LookBackBySubject": "event_subject (project_id=? AND (subject,id)>(?,?) AND (subject,id)<(?,?))",
		"RefusalCauses": "event_refused (project_id=? AND id>?)",
		"EventsAfter":   "sqlite_autoindex_event_1 (project_id=? AND id>?)",
		"CountEvents":   "event_kind (project_id=? AND kind=? AND id>? AND id<?)", "CountRefusals": "event_refused (project_id=? AND id>? AND id<?)",
	} {
		text := texts[name]
		plan := strings.Join(rows(t, db, "EXPLAIN QUERY PLAN "+text, make([]any, strings.Count(text, "$"))...), "\n")
		if !strings.Contains(plan+"\n", want+"\n") {
			t.Errorf("%s:\n%s\nwant %s", name, plan, want)
		}
	}
}

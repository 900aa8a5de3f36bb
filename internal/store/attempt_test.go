package store_test

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store"
)

// attempt is one that a client of the world begins.
func (w *world) attempt(code string, at time.Time) audit.Attempt {
	return audit.Attempt{
		ProjectID: w.project.ID, Code: code, ClientID: w.client.ID, ClientName: "Terminal", Creation: "dynamic",
		RedirectURI: "http://127.0.0.1/callback", Resource: notes, Scopes: "read:notes", Address: "192.0.2.1",
		State: audit.Waiting, Stage: audit.AtSignIn, DiscoveredAt: at.Add(-time.Second), RegisteredAt: at.Add(-time.Second), StartedAt: at,
	}
}

// begin keeps an attempt with its flow.
func (w *world) begin(a audit.Attempt) signin.Flow {
	w.t.Helper()
	browser := secret.New(secret.Flow, a.StartedAt)
	f := signin.Flow{
		ID: browser.ID, ProjectID: w.project.ID, BrowserHash: browser.Hash[:], TraceID: a.Code,
		CreatedAt: a.StartedAt, ExpiresAt: a.StartedAt.Add(signin.FlowLifetime),
	}
	must(w.t, w.CreateFlow(w.t.Context(), f, a))
	return f
}

// found is the attempt with a code.
func (w *world) found(code string) audit.Attempt {
	w.t.Helper()
	all, _, err := w.FindAttempts(w.t.Context(), w.project.ID, code)
	must(w.t, err)
	if len(all) != 1 {
		w.t.Fatalf("%s finds %d attempts", code, len(all))
	}
	return all[0]
}

// listed are the codes of a list.
func (w *world) listed(f audit.AttemptFilter, before string, limit int) (codes []string) {
	w.t.Helper()
	list, err := w.Attempts(w.t.Context(), w.project.ID, f, before, limit)
	must(w.t, err)
	for _, l := range list {
		codes = append(codes, l.Code)
	}
	return codes
}

// An attempt follows what happens to it, in the transactions that keep that.
func TestAttempt(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		const code = "K7F-2QX-9MD"
		a := w.attempt(code, now)
		w.flow(now)
		if got := w.listed(audit.AttemptFilter{}, "", 10); len(got) != 0 {
			t.Errorf("a sign-in without a request: %q", got)
		}
		f := w.begin(a)
		kept := w.found(code)
		a.ID = kept.ID
		if diff := cmp.Diff(a, kept); diff != "" {
			t.Errorf("begun: %s", diff)
		}

		d := w.decision(now.Add(time.Second), "read:notes")
		d.FlowID, d.Attempt = f.ID, a
		d.Attempt.State, d.Attempt.Stage, d.Attempt.Subject, d.Attempt.StepUp = audit.Allowed, audit.AtConsent, w.user.ID, true
		d.Attempt.StartedAt, d.Attempt.DiscoveredAt = now.Add(time.Hour), time.Time{} // neither moves
		d.Code.Attempt = code
		must(t, db.Decide(t.Context(), d, w.event(audit.GrantAllowed)))
		a.State, a.Stage, a.Subject, a.StepUp = audit.Allowed, audit.AtConsent, w.user.ID, true
		if diff := cmp.Diff(a, w.found(code)); diff != "" {
			t.Errorf("allowed: %s", diff)
		}

		refused := w.event(audit.TokenRefused)
		refused.Refused, refused.Attempt, refused.Reason = true, code, "wrong verifier"
		must(t, db.RefuseToken(t.Context(), "asked", refused, nil))
		a.State, a.Stage, a.Asked = audit.Refused, audit.AtToken, "asked"
		if diff := cmp.Diff(a, w.found(code)); diff != "" {
			t.Errorf("refused: %s", diff)
		}

		kc, err := db.Code(t.Context(), w.project.ID, d.Code.ID)
		must(t, err)
		if kc.Attempt != code {
			t.Errorf("the code is of attempt %q", kc.Attempt)
		}
		r := w.redeem(kc, now.Add(2*time.Second))
		r.Family.Attempt = kc.Attempt
		done := w.event(audit.TokenIssued)
		done.Attempt = code
		must(t, db.RedeemCode(t.Context(), w.project.ID, r, done, w.event(audit.CodeReused)))
		a.State, a.Stage, a.Asked = audit.Allowed, audit.AtConsent, ""
		if diff := cmp.Diff(a, w.found(code)); diff != "" {
			t.Errorf("token: %s", diff)
		}
		must(t, db.RefuseToken(t.Context(), "late", refused, nil))
		if diff := cmp.Diff(a, w.found(code)); diff != "" {
			t.Errorf("refused after the tokens: %s", diff)
		}
		live, err := db.Live(t.Context(), w.project.ID, r.Family.ID, "jti")
		if err != nil || live.Attempt != code {
			t.Errorf("the family is of attempt %q, %v", live.Attempt, err)
		}

		at(8, func(i int) {
			call := audit.Call{ProjectID: w.project.ID, Code: code, At: now.Add(time.Minute)}
			none := audit.Call{ProjectID: w.project.ID, Code: fmt.Sprintf("ZZ%d-ZZZ-ZZZ", i), At: now}
			if err := db.CallAttempts(t.Context(), []audit.Call{none, call, call}); err != nil {
				t.Error(err)
			}
		})
		must(t, db.CallAttempts(t.Context(), []audit.Call{{ProjectID: w.project.ID, Code: code, At: now.Add(time.Hour)}}))
		a.Stage, a.CalledAt = audit.AtCall, now.Add(time.Minute)
		if diff := cmp.Diff(a, w.found(code)); diff != "" {
			t.Errorf("called: %s", diff)
		}

		events, err := db.AttemptEvents(t.Context(), w.project.ID, code)
		must(t, err)
		var kinds []audit.Kind
		for _, e := range events {
			kinds = append(kinds, e.Kind)
		}
		if n := len(events); n != 3 || !slices.Contains(kinds, audit.TokenIssued) {
			t.Errorf("events: %q", kinds)
		}

		// The same code again: a theft, and the attempt says so.
		reuse := w.event(audit.CodeReused)
		reuse.Attempt = code
		second := w.redeem(kc, now.Add(3*time.Second))
		if err := db.RedeemCode(t.Context(), w.project.ID, second, done, reuse); !errors.Is(err, oauth.ErrUsed) {
			t.Fatal(err)
		}
		if got := w.found(code); got.State != audit.Refused || got.Stage != audit.AtToken {
			t.Errorf("reused: %+v", got)
		}
	})
}

// A refusal keeps its attempt or nothing: what does not fit the limits of strangers
// leaves no row.
func TestRefusedAttempt(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		limit := []oauth.Counter{{Kind: "refused_address", Key: "192.0.2.1", Limit: 3, Window: time.Minute}}
		for i := range 5 {
			a := w.attempt(fmt.Sprintf("AAA-BBB-CC%d", i), now)
			a.State, a.Stage, a.Detail, a.Asked, a.ClientID = audit.Refused, audit.AtAuthorize, "It is wrong.", "x\x00y", strings.Repeat("x", 5000)
			e := w.event(audit.AuthorizeRefused)
			e.Refused, e.Attempt, e.TraceID = true, a.Code, a.Code
			if err := db.RefuseAttempt(t.Context(), a, e, limit); (err != nil) != (i >= 3) || err != nil && !errors.Is(err, oauth.ErrLimited) {
				t.Errorf("refusal %d: %v", i, err)
			}
		}
		all, alone, err := db.FindAttempts(t.Context(), w.project.ID, "aaabbb")
		must(t, err)
		if len(all) != 3 || len(alone) != 0 || len(all[0].ClientID) > 210 || strings.Contains(all[0].Asked, "\x00") {
			t.Errorf("%d attempts, %d refusals alone: %+v", len(all), len(alone), all)
		}
		// A request of an attempt that was refused finds the attempt by its own code.
		e := w.event(audit.SignInRefused)
		e.Refused, e.Attempt, e.TraceID = true, "AAA-BBB-CC1", "ZZZ-YYY-XXX"
		must(t, db.Record(t.Context(), e))
		if a := w.found("zzz-yyy-xxx"); a.Code != "AAA-BBB-CC1" {
			t.Errorf("found %+v", a)
		}
		// One of no attempt is found alone, and one that was not refused not at all.
		e.Attempt, e.TraceID = "", "TTT-YYY-XXX"
		must(t, db.Record(t.Context(), e))
		e.Refused, e.TraceID = false, "SSS-YYY-XXX"
		must(t, db.Record(t.Context(), e))
		for code, want := range map[string]int{"TTTYYY": 1, "SSSYYY": 0, "nonsense": 0} {
			all, alone, err := db.FindAttempts(t.Context(), w.project.ID, code)
			if err != nil || len(all) != 0 || len(alone) != want {
				t.Errorf("%s: %d attempts, %d refusals, %v", code, len(all), len(alone), err)
			}
		}
		// A client that is refused with no code of ours is in its newest attempt from
		// the same address, if that has no token yet.
		for i, row := range []struct {
			address string
			at      time.Time
			state   audit.State
			want    string
		}{
			{"192.0.2.1", now.Add(time.Minute), audit.Allowed, "LLL-LLL-LL0"},
			{"192.0.2.9", now.Add(time.Minute), audit.Allowed, ""},
			{"192.0.2.1", now.Add(11 * time.Minute), audit.Allowed, ""},
			{"192.0.2.1", now.Add(time.Minute), audit.Waiting, ""},
		} {
			c := w.newClient(fmt.Sprint("client ", i))
			must(t, db.CreateClient(t.Context(), c, nil, w.event(audit.ClientCreated)))
			a := w.attempt(fmt.Sprintf("LLL-LLL-LL%d", i), now)
			a.ClientID, a.State, a.Stage = c.ID, row.state, audit.AtConsent
			w.begin(a)
			e := w.eventAt(audit.TokenRefused, row.at)
			e.Refused, e.ClientID, e.Address = true, c.ID, row.address
			must(t, db.RefuseToken(t.Context(), "", e, nil))
			if got := w.found(a.Code); (got.State == audit.Refused) != (row.want != "") {
				t.Errorf("%d: %+v", i, got)
			}
		}
	})
}

// The lists, by what one looks for.
func TestAttemptLists(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		other := newWorld(t, db, "other.example.com")
		second := w.newClient("second")
		must(t, db.CreateClient(t.Context(), second, nil, w.event(audit.ClientCreated)))
		zoe := w.signIn("zoe@example.test").User
		for i, row := range []struct {
			client, address, subject string
			state                    audit.State
		}{
			{w.client.ID, "192.0.2.1", "", audit.Waiting},
			{w.client.ID, "192.0.2.1", w.user.ID, audit.Allowed},
			{w.client.ID, "192.0.2.2", zoe.ID, audit.Denied},
			{second.ID, "192.0.2.2", zoe.ID, audit.Refused},
			{second.ID, "192.0.2.2", "", audit.Refused},
			{"https://zed.example/x", "2001:db8::1", "", audit.Refused},
		} {
			a := w.attempt(fmt.Sprintf("AA%d-BBB-CCC", i+1), now.Add(time.Duration(i)*time.Second))
			a.ClientID, a.Address, a.Subject, a.State = row.client, row.address, row.subject, row.state
			w.begin(a)
			if row.subject != "" {
				e := w.eventAt(audit.GrantAllowed, now.Add(time.Minute))
				e.Subject, e.Attempt = row.subject, a.Code
				must(t, db.Record(t.Context(), e))
			}
		}
		foreign := other.attempt("AA1-BBB-CCC", now)
		other.begin(foreign)
		in := w.event(audit.SignedIn)
		in.Attempt = "AA1-BBB-CCC"
		must(t, db.Record(t.Context(), in))

		short := func(codes []string) (all string) {
			for _, c := range codes {
				all += c[2:3]
			}
			return all
		}
		for _, row := range []struct {
			f    audit.AttemptFilter
			want string
		}{
			{audit.AttemptFilter{}, "654321"},
			{audit.AttemptFilter{ClientID: w.client.ID}, "321"},
			{audit.AttemptFilter{State: audit.Refused}, "654"},
			{audit.AttemptFilter{ClientID: second.ID, State: audit.Refused}, "54"},
			{audit.AttemptFilter{ClientID: second.ID, State: audit.Allowed}, ""},
			{audit.AttemptFilter{Query: "192.0.2.2"}, "543"},
			{audit.AttemptFilter{Query: "192.0.2.2", State: audit.Denied}, "3"},
			{audit.AttemptFilter{Query: "192.0.2.2", ClientID: second.ID}, "54"},
			{audit.AttemptFilter{Query: "2001:db8::1"}, "6"},
			{audit.AttemptFilter{Query: "ZOE@example.test"}, "43"},
			{audit.AttemptFilter{Query: "zoe@example.test", ClientID: second.ID}, "4"},
			{audit.AttemptFilter{Query: "nobody@example.test"}, ""},
			{audit.AttemptFilter{Query: "aa2-bbb-ccc"}, "2"},
			{audit.AttemptFilter{Query: "aa2bbb"}, "2"},
			{audit.AttemptFilter{Query: "aa2bbb", State: audit.Refused}, ""},
			{audit.AttemptFilter{Query: "what happened?"}, ""},
			{audit.AttemptFilter{State: "\x00"}, ""},
			{audit.AttemptFilter{ClientID: "\xff"}, ""},
			{audit.AttemptFilter{Query: "\xff@example.test"}, ""},
		} {
			if got := short(w.listed(row.f, "", 10)); got != row.want {
				t.Errorf("%+v: %q, want %q", row.f, got, row.want)
			}
			var paged string
			before := ""
			for range 10 {
				page, err := db.Attempts(t.Context(), w.project.ID, row.f, before, 2)
				must(t, err)
				if len(page) == 0 {
					break
				}
				for _, l := range page {
					paged += l.Code[2:3]
				}
				before = page[len(page)-1].ID
			}
			if paged != row.want {
				t.Errorf("%+v by pages: %q, want %q", row.f, paged, row.want)
			}
		}
		list, err := db.Attempts(t.Context(), w.project.ID, audit.AttemptFilter{}, "", 10)
		must(t, err)
		if list[2].Email != "zoe@example.test" || list[0].Email != "" || !list[5].SignedIn || list[4].SignedIn {
			t.Errorf("%+v", list)
		}
	})
}

// Attempts are gone after a day, and not before.
func TestCleanAttempts(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		for i := range 10 {
			w.begin(w.attempt(fmt.Sprintf("AA%d-BBB-CCC", i), now))
		}
		clean(t, db, now.Add(day-time.Microsecond))
		if n := len(w.listed(audit.AttemptFilter{}, "", 100)); n != 10 {
			t.Errorf("%d before the day is over", n)
		}
		clean(t, db, now.Add(day))
		if n := len(w.listed(audit.AttemptFilter{}, "", 100)); n != 0 {
			t.Errorf("%d after a day", n)
		}
	})
}

// Attempts are counted by state, exactly while they are few.
func TestCountAttempts(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, other := newWorld(t, db, "auth.example.com"), newWorld(t, db, "other.example.com")
		keep := func(w *world, n int, state audit.State, clientID string) {
			for range n {
				a := w.attempt(secret.NewTrace(), now)
				a.State, a.ClientID = state, clientID
				must(t, w.RefuseAttempt(t.Context(), a, w.event(audit.AuthorizeRefused), nil))
			}
		}
		check := func(name, clientID string, waiting, refused, denied, allowed audit.Count) {
			t.Helper()
			got, err := db.CountAttempts(t.Context(), w.project.ID, clientID)
			must(t, err)
			want := map[audit.State]audit.Count{audit.Waiting: waiting, audit.Refused: refused, audit.Denied: denied, audit.Allowed: allowed}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
		none := audit.Count{}
		check("nothing", "", none, none, none, none)
		check("nothing of a client", w.client.ID, none, none, none, none)
		keep(w, 99, audit.Refused, w.client.ID)
		keep(w, 2, audit.Allowed, "another")
		keep(other, 3, audit.Denied, w.client.ID)
		check("few", "", none, audit.Count{N: 99}, none, audit.Count{N: 2})
		check("few of a client", w.client.ID, none, audit.Count{N: 99}, none, none)
		keep(w, 1, audit.Refused, w.client.ID)
		check("many", "", none, audit.Count{N: 99, More: true}, none, audit.Count{N: 2})
		keep(w, 899, audit.Waiting, w.client.ID)
		check("not too many of a client", w.client.ID, audit.Count{N: 899}, audit.Count{N: 100}, none, none)
		keep(w, 1, audit.Waiting, w.client.ID)
		more := audit.Count{More: true}
		check("too many of a client", w.client.ID, audit.Count{N: 900, More: true}, audit.Count{N: 100, More: true}, more, more)
	})
}

// The statements that list attempts go through the index that is meant for them,
// in its order, and ask the events of the attempts that they found only.
func TestAttemptsAreListedByIndex(t *testing.T) {
	t.Parallel()
	texts := generated(t)
	t.Run("SQLite", func(t *testing.T) {
		t.Parallel()
		db := open(t, store.Config{Path: sqliteCopy(t), Now: time.Now})
		for name, want := range map[string]string{
			"Attempts":         "sqlite_autoindex_attempt_1 (project_id=? AND id<?)",
			"AttemptsOfState":  "attempt_state (project_id=? AND state=? AND id<?)",
			"AttemptsOfClient": "attempt_client (project_id=? AND client_id=? AND id<?)",
			"AttemptsFrom":     "attempt_address (project_id=? AND address=? AND id<?)",
			"AttemptsOfPerson": "attempt_subject (project_id=? AND subject=? AND id<?)",

			"CountAttempts":         "COVERING INDEX attempt_state (project_id=? AND state=?)",
			"CountAttemptsOfClient": "COVERING INDEX attempt_client (project_id=? AND client_id=?)",
		} {
			got := strings.Join(rows(t, db, "EXPLAIN QUERY PLAN "+texts[name], make([]any, strings.Count(texts[name], "$"))...), "\n") + "\n"
			if !strings.Contains(got, want+"\n") || strings.Contains(got, "TEMP B-TREE FOR ORDER") {
				t.Errorf("%s:\n%s\nwant %s", name, got, want)
			}
		}
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		t.Parallel()
		// Without indexes it would rather have them all in a hash table, as it would
		// of many.
		address, err := url.Parse(postgresCopy(t))
		must(t, err)
		values := address.Query()
		for _, scan := range []string{"enable_indexscan", "enable_indexonlyscan", "enable_bitmapscan"} {
			values.Set(scan, "off")
		}
		address.RawQuery = values.Encode()
		db := open(t, store.Config{URL: address.String(), Now: time.Now})
		for _, name := range []string{"Attempts", "AttemptsOfState", "AttemptsOfClient", "AttemptsFrom", "AttemptsOfPerson"} {
			text := regexp.MustCompile(`LIMIT \$\d+`).ReplaceAllString(texts[name], "LIMIT 50")
			text = regexp.MustCompile(`\$\d+`).ReplaceAllString(text, "'x'")
			got := strings.Join(rows(t, db, "EXPLAIN (VERBOSE) "+text), "\n")
			if strings.Contains(got, "hashed") {
				t.Errorf("%s:\n%s", name, got)
			}
		}
	})
}

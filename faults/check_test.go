package faults

import (
	"strings"
	"testing"
)

// story makes a history of one family whose entries follow one another; an
// entry with From or To of its own overlaps with others.
func story(entries ...entry) []entry {
	for i := range entries {
		e := &entries[i]
		if e.From == 0 {
			e.From = int64(2*i + 1)
		}
		if e.To == 0 {
			e.To = int64(2*i + 2)
		}
		e.Family, e.Grant = "c", "g"
		if e.Outcome == "" {
			e.Outcome = ok
		}
	}
	return entries
}

// A checker that cannot fail proves nothing: each of these histories breaks one
// promise, or keeps them all.
func TestCheck(t *testing.T) {
	t.Parallel()
	code := entry{Kind: issued, Object: "c"}
	redeem := entry{Kind: redeemed, Object: "c", Result: "r1"}
	rotate := func(from, to string) entry { return entry{Kind: refreshed, Object: from, Result: to} }
	no := func(e entry) entry { e.Outcome, e.Result = refused, ""; return e }
	silence := func(e entry) entry { e.Outcome, e.Result = unknown, ""; return e }
	active := func(token string) entry { return entry{Kind: looked, Object: token, Result: "active"} }
	gone := func(token string) entry { return entry{Kind: looked, Object: token} }
	revoke := entry{Kind: revoked, Object: "r1"}
	back := entry{Kind: takenBack}
	value := func(k kind, v string) entry { return entry{Kind: k, Object: "policy", Result: v} }
	at := func(e entry, from, to int64) entry { e.From, e.To = from, to; return e }

	for _, test := range []struct {
		name    string
		history []entry
		wrong   string // "" for a history that may happen
	}{
		{"an ordinary life", story(code, redeem, active("r1"), rotate("r1", "r2"), gone("r1"), active("r2"), rotate("r2", "r3"), revoke, gone("r3"), no(rotate("r3", "")), no(redeem)), ""},
		{"a repeat in the window", story(code, redeem, rotate("r1", "r2"), rotate("r1", "r2"), active("r2")), ""},
		{"theft ends the family", story(code, redeem, rotate("r1", "r2"), rotate("r2", "r3"), no(rotate("r1", "")), gone("r3")), ""},
		{"a second use ends the family", story(code, redeem, no(redeem), gone("r1")), ""},
		{"redeemed without an answer", story(code, silence(redeem), no(redeem)), ""},
		{"not redeemed without an answer", story(code, silence(redeem), redeem, active("r1")), ""},
		{"refreshed without an answer", story(code, redeem, silence(rotate("r1", "")), gone("r1"), rotate("r1", "r2"), active("r2")), ""},
		{"not refreshed without an answer", story(code, redeem, silence(rotate("r1", "")), active("r1"), rotate("r1", "r2")), ""},
		{"revoked without an answer, and it happened", story(code, redeem, silence(revoke), gone("r1")), ""},
		{"revoked without an answer, and it did not", story(code, redeem, silence(revoke), active("r1")), ""},
		{"two at once get one answer", story(code, redeem, at(rotate("r1", "r2"), 10, 12), at(rotate("r1", "r2"), 11, 13)), ""},
		{"allowed again after it was taken back", story(back, code, redeem, active("r1")), ""},
		{"a grant taken back", story(code, redeem, back, gone("r1"), no(rotate("r1", ""))), ""},
		{"a setting", story(value(set, "1"), value(read, "1"), silence(value(set, "2")), value(set, "3"), value(read, "3")), ""},
		{"a setting without an answer", story(value(set, "1"), entry{Kind: set, Object: "policy", Result: "2", Outcome: unknown}, value(read, "2")), ""},
		{"a client and a session", story(entry{Kind: registered, Object: "a"}, entry{Kind: known, Object: "a"}, entry{Kind: visited, Object: "b"}), ""},

		{"a code used twice", story(code, redeem, redeem), "used twice"},
		{"a code used twice, at once", story(code, at(redeem, 10, 12), at(entry{Kind: redeemed, Object: "c", Result: "other"}, 11, 13)), "used twice"},
		{"a code lost", story(code, no(redeem)), "lost"},
		{"a family lost", story(code, redeem, gone("r1")), "lost"},
		{"a rotation lost", story(code, redeem, rotate("r1", "r2"), gone("r2")), "lost"},
		{"a rotation undone", story(code, redeem, rotate("r1", "r2"), active("r1")), "an old generation lives"},
		{"a refresh token lost", story(code, redeem, no(rotate("r1", ""))), "lost"},
		{"a successor lost", story(code, redeem, rotate("r1", "r2"), no(rotate("r2", ""))), "lost"},
		{"two successors", story(code, redeem, rotate("r1", "r2"), rotate("r1", "r9")), "two generations"},
		{"two successors, at once", story(code, redeem, at(rotate("r1", "r2"), 10, 12), at(rotate("r1", "r9"), 11, 13)), "two generations"},
		{"a revocation undone", story(code, redeem, revoke, active("r1")), "came back"},
		{"refreshed after a revocation", story(code, redeem, revoke, rotate("r1", "r2")), "came back"},
		{"alive after theft", story(code, redeem, rotate("r1", "r2"), rotate("r2", "r3"), no(rotate("r1", "")), active("r3")), "came back"},
		{"alive after a second use", story(code, redeem, no(redeem), active("r1")), "came back"},
		{"alive after the grant was taken back", story(code, redeem, back, active("r1")), "came back"},
		{"a code alive after the grant was taken back", story(code, back, redeem), "came back"},
		{"taking back an earlier grant is no reason", story(back, code, redeem, gone("r1")), "lost"},
		{"a client lost", story(entry{Kind: registered, Object: "a"}, no(entry{Kind: known, Object: "a"})), "lost"},
		{"a session lost", story(no(entry{Kind: visited, Object: "b"})), "lost"},
		{"a change lost", story(value(set, "1"), value(set, "2"), value(read, "1")), "lost"},
		{"a change from nowhere", story(value(set, "1"), value(read, "7")), "lost"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			wrong := strings.Join(check(test.history), "\n")
			if (test.wrong == "") != (wrong == "") || !strings.Contains(wrong, test.wrong) {
				t.Errorf("found %q, want %q", wrong, test.wrong)
			}
		})
	}
}

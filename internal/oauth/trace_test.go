package oauth_test

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

var traceOnPage = regexp.MustCompile(`id="trace" dir="ltr">([0-9A-Z-]{11})<`)

// codeOn is the trace code of an error page.
func codeOn(t *testing.T, page servertest.Page) string {
	t.Helper()
	m := traceOnPage.FindStringSubmatch(page.Body)
	if m == nil {
		t.Fatalf("the page has no trace code:\n%s", page.Body)
	}
	return m[1]
}

// trace finds the one trace of a code.
func (w *world) trace(t *testing.T, code string) audit.Trace {
	t.Helper()
	traces, err := w.Clients.Traces(t.Context(), w.found(t), code)
	if err != nil || len(traces) != 1 {
		t.Fatalf("%s finds %d traces, %v", code, len(traces), err)
	}
	return traces[0]
}

// found is the project as it stands in the database.
func (w *world) found(t *testing.T) *project.Project {
	t.Helper()
	p, err := w.Projects.Find(t.Context(), w.Project.ID)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// newest is the newest attempt, told.
func (w *world) newest(t *testing.T) audit.Trace {
	t.Helper()
	list := w.attempts(t, audit.AttemptFilter{})
	if len(list) == 0 {
		t.Fatal("there is no attempt")
	}
	return w.trace(t, list[0].Code)
}

func (w *world) attempts(t *testing.T, f audit.AttemptFilter) []audit.Listed {
	t.Helper()
	list, err := w.Store.Attempts(t.Context(), w.Project.ID, f, "", 10)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// marks are the marks of a trace's steps, in a word each.
func marks(tr audit.Trace) string {
	var all []string
	for _, s := range tr.Steps {
		all = append(all, map[audit.Mark]string{audit.Passed: "ok", audit.Failed: "FAIL", audit.NotReached: "-"}[s.Mark])
	}
	return strings.Join(all, " ")
}

// got is what a list says of the newest attempt.
func (w *world) gotTo(t *testing.T) string {
	t.Helper()
	return w.attempts(t, audit.AttemptFilter{})[0].Got(w.Clock.Now())
}

// A trace goes from the first look at the metadata to the first call, each step
// with its moment.
func TestTraceOfSuccess(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.send(t, http.MethodGet, oauth.PathMetadata, nil, "")
		w.Clock.Advance(time.Second)
		id := w.self(t, callback)
		w.Clock.Advance(time.Second)
		b := w.Browser(t)
		page := b.Authorize(t, request(id, "scope", "read:todos"))
		if tr := w.newest(t); marks(tr) != "ok ok ok - - - -" || w.gotTo(t) != "Waiting at sign-in" {
			t.Errorf("before sign-in: %s, %s", marks(tr), w.gotTo(t))
		}
		w.Clock.Advance(time.Second)
		page = b.SignIn(t, page, "zoe@example.test")
		if tr := w.newest(t); marks(tr) != "ok ok ok ok - - -" || w.gotTo(t) != "Waiting at consent" {
			t.Errorf("before consent: %s, %s", marks(tr), w.gotTo(t))
		}
		w.Clock.Advance(time.Second)
		code := b.Allow(t, page).Query().Get("code")
		if tr := w.newest(t); marks(tr) != "ok ok ok ok ok - -" || w.gotTo(t) != "Allowed, no token yet" {
			t.Errorf("before the token: %s, %s", marks(tr), w.gotTo(t))
		}
		w.Clock.Advance(time.Second)
		self := oauth.Client{ID: id, Metadata: oauth.Metadata{TokenEndpointAuthMethod: "none"}}
		i := got(t, w.token(t, self, redeem(code)))
		if tr := w.newest(t); marks(tr) != "ok ok ok ok ok ok -" || w.gotTo(t) != "Token, no call seen" {
			t.Errorf("before a call: %s, %s", marks(tr), w.gotTo(t))
		}
		w.Clock.Advance(time.Second)
		if !w.active(t, i.Access) {
			t.Fatal("the token does not live")
		}
		w.Clock.Advance(time.Minute)
		w.active(t, i.Access)
		w.Follow(t)
		tr := w.newest(t)
		var offsets []string
		for _, s := range tr.Steps {
			offsets = append(offsets, tr.Since(s.At))
		}
		want := []string{"+0.00 s", "+1.00 s", "+2.00 s", "+3.00 s", "+4.00 s", "+5.00 s", "+6.00 s"}
		if diff := cmp.Diff(want, offsets); diff != "" || marks(tr) != "ok ok ok ok ok ok ok" || tr.Summary != "" || tr.Took != 6*time.Second {
			t.Errorf("%s, %q after %v: %s", marks(tr), tr.Summary, tr.Took, diff)
		}
		if got := w.gotTo(t); got != "First call" {
			t.Errorf("the list says %q", got)
		}
		if l := w.attempts(t, audit.AttemptFilter{Query: "Zoe@Example.test"}); len(l) != 1 || l[0].Email != "zoe@example.test" {
			t.Errorf("by person: %+v", l)
		}

		// The next one is a step-up in a browser that knows the person, without a look
		// at the metadata.
		w.Clock.Advance(2 * time.Hour)
		code = w.answer(t, b, request(id, "scope", "read:todos write:todos")).Query().Get("code")
		got(t, w.token(t, self, redeem(code)))
		tr = w.newest(t)
		if marks(tr) != "ok ok ok ok ok ok -" || w.gotTo(t) != "Step-up allowed" || !tr.Steps[0].At.IsZero() {
			t.Errorf("step-up: %s, %s, %+v", marks(tr), w.gotTo(t), tr.Steps[0])
		}
	})
}

// A server that ends keeps the first calls that it put off.
func TestFirstCallIsKeptAtTheEnd(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		c.Poll = time.Hour
		w := newWorld(t, c)
		if !w.active(t, got(t, w.token(t, w.public, redeem(w.code(t, request(w.public.ID))))).Access) {
			t.Fatal("the token does not live")
		}
		w.Stop()
		var called int64
		if err := w.db.QueryRowContext(t.Context(), "SELECT called_at FROM attempt").Scan(&called); err != nil || called != w.Clock.Now().UnixMicro() {
			t.Errorf("called at %d, %v", called, err)
		}
	})
}

// A refusal finds its attempt by the code of its page, and says what was wrong.
func TestTraceOfRefusal(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		authorize := func(changes ...string) func(*testing.T) string {
			return func(t *testing.T) string {
				return codeOn(t, w.Browser(t).Authorize(t, request(w.self(t, callback), changes...)))
			}
		}
		allowed := func(t *testing.T) (code string) { return w.code(t, request(w.public.ID)) }
		redeemed := func(changes ...string) func(*testing.T) string {
			return func(t *testing.T) string {
				a := w.token(t, w.public, redeem(allowed(t), changes...))
				if a.code == http.StatusOK {
					t.Fatal("it was not refused")
				}
				return a.header.Get("X-Request-Id")
			}
		}
		for _, row := range []struct {
			name       string
			refused    func(t *testing.T) string
			marks      string
			got        string
			sentence   string
			asked      string
			registered string
			turn       audit.Turn
		}{
			{"a return address", authorize("redirect_uri", callback+"/x"), "ok ok FAIL - - - -", "Refused at authorize", "The return address is not one of those registered.", callback + "/x", callback, audit.AppsTurn},
			{"a client", func(t *testing.T) string {
				return codeOn(t, w.Browser(t).Authorize(t, request("connected-app-test-01930000-0000-7000-8000-000000000000")))
			}, "ok FAIL - - - - -", "Refused at registration", "No client with this client_id is known here.", "", "", audit.AppsTurn},
			{"no client_id", func(t *testing.T) string { return codeOn(t, w.Browser(t).Authorize(t, url.Values{"scope": {"x"}})) }, "ok - FAIL - - - -", "Refused at authorize", "client_id is missing.", "", "", audit.AppsTurn},
			{"a parameter twice", func(t *testing.T) string {
				return codeOn(t, w.Browser(t).Authorize(t, url.Values{"client_id": {"a", "b"}}))
			}, "ok - FAIL - - - -", "Refused at authorize", "more than once", "", "", audit.AppsTurn},
			{"a scope", authorize("scope", "admin"), "ok ok FAIL - - - -", "Refused at authorize", "The scope 'admin' is not known here.", "admin", "read:todos", audit.AppsTurn},
			{"a resource", authorize("resource", "https://todo.example.test/mpc"), "ok ok FAIL - - - -", "Refused at authorize", "not registered here", "https://todo.example.test/mpc", todo, audit.AdministratorsTurn},
			{"no challenge", authorize("code_challenge", ""), "ok ok FAIL - - - -", "Refused at authorize", "code_challenge", "", "", audit.AppsTurn},
			{"prompt=none", func(t *testing.T) string {
				w.browser.Authorize(t, request(w.rival.ID, "prompt", "none"))
				return w.newest(t).Attempt.Code
			}, "ok ok ok ok FAIL - -", "Refused at consent", "prompt=none", "", "", audit.AppsTurn},
			{"a code that ran out", func(t *testing.T) string {
				code := allowed(t)
				w.Clock.Advance(time.Minute)
				return w.token(t, w.public, redeem(code)).header.Get("X-Request-Id")
			}, "ok ok ok ok ok FAIL -", "Refused at token", "had run out", "", "", audit.AppsTurn},
			{"a verifier", redeemed("code_verifier", strings.Repeat("x", 43)), "ok ok ok ok ok FAIL -", "Refused at token", "code_verifier", "", "", audit.AppsTurn},
			{"another return address", redeemed("redirect_uri", callback+"x"), "ok ok ok ok ok FAIL -", "Refused at token", "another return address", callback + "x", callback, audit.AppsTurn},
			{"another resource", redeemed("resource", notes), "ok ok ok ok ok FAIL -", "Refused at token", "another resource", notes, todo, audit.AppsTurn},
			{"more scopes", redeemed("scope", "read:todos delete:todos"), "ok ok ok ok ok FAIL -", "Refused at token", "did not allow", "delete:todos", "", audit.AppsTurn},
			{"a code that is none, from the same computer", func(t *testing.T) string {
				allowed(t)
				return w.token(t, w.public, redeem("abc")).header.Get("X-Request-Id")
			}, "ok ok ok ok ok FAIL -", "Refused at token", "none of ours", "", "", audit.AppsTurn},
			{"a secret", func(t *testing.T) string {
				code := w.code(t, request(w.post.ID))
				wrong := redeem(code, "client_id", w.post.ID, "client_secret", "wrong")
				return w.send(t, http.MethodPost, oauth.PathToken, isForm, wrong.Encode()).header.Get("X-Request-Id")
			}, "ok ok ok ok ok FAIL -", "Refused at token", "secret is wrong", "", "", audit.AppsTurn},
			{"no grant type", redeemed("grant_type", ""), "ok ok ok ok ok FAIL -", "Refused at token", "no grant_type", "", "", audit.AppsTurn},
			{"a grant type that there is not", redeemed("grant_type", "code"), "ok ok ok ok ok FAIL -", "Refused at token", "not supported", "", "", audit.AppsTurn},
			{"a scope of a wrong form", redeemed("scope", `"`), "ok ok ok ok ok FAIL -", "Refused at token", "no scope has", "", "", audit.AppsTurn},
			{"no client", func(t *testing.T) string {
				return w.send(t, http.MethodPost, oauth.PathToken, isForm, redeem(allowed(t)).Encode()).header.Get("X-Request-Id")
			}, "ok ok ok ok ok FAIL -", "Refused at token", "who it is", "", "", audit.AppsTurn},
			{"too many mails", func(t *testing.T) string {
				b := w.Browser(t)
				page := b.Authorize(t, request(w.public.ID))
				for range 7 {
					w.Clock.Advance(21 * time.Second)
					b.Submit(t, page, "email", url.Values{"email": {"gil@example.test"}})
				}
				return w.newest(t).Attempt.Code
			}, "ok ok ok FAIL - - -", "Waiting at sign-in", "within an hour", "", "", audit.PersonsTurn},
			{"a code twice", func(t *testing.T) string {
				code := allowed(t)
				got(t, w.token(t, w.public, redeem(code)))
				refusedToken(t, w.token(t, w.public, redeem(code)), http.StatusBadRequest, "invalid_grant")
				return w.newest(t).Attempt.Code
			}, "ok ok ok ok ok FAIL -", "Refused at token", "a second time", "", "", audit.AppsTurn},
			{"Deny", func(t *testing.T) string {
				b := w.Browser(t)
				page := b.SignIn(t, b.Authorize(t, request(w.public.ID)), "dan@example.test")
				b.Submit(t, page, "action", url.Values{"action": {"deny"}})
				return w.newest(t).Attempt.Code
			}, "ok ok ok ok FAIL - -", "Person chose Deny", "The person chose Deny.", "", "", ""},
			{"a mailed code", func(t *testing.T) string {
				b := w.Browser(t)
				page := b.Submit(t, b.Authorize(t, request(w.public.ID)), "email", url.Values{"email": {"eva@example.test"}})
				b.Submit(t, page, "code", url.Values{"code": {"000000"}})
				return w.newest(t).Attempt.Code
			}, "ok ok ok FAIL - - -", "Waiting at sign-in", "typed wrong", "", "", audit.PersonsTurn},
		} {
			t.Run(row.name, func(t *testing.T) {
				w.Clock.Advance(time.Minute)
				code := row.refused(t)
				tr := w.trace(t, strings.ToLower(strings.ReplaceAll(code, "-", "")))
				if marks(tr) != row.marks || w.gotTo(t) != row.got {
					t.Errorf("steps %s, list %q", marks(tr), w.gotTo(t))
				}
				s, failed := tr.Refusal()
				if !failed || !strings.Contains(s.Sentence, row.sentence) || s.Asked != row.asked || s.Turn != row.turn || (s.Turn != "") != (s.Next != "") {
					t.Errorf("the refusal: %+v", s)
				}
				if row.registered != "" && (len(s.Registered) == 0 || s.Registered[0] != row.registered) {
					t.Errorf("registered: %q", s.Registered)
				}
				if !strings.Contains(tr.Summary, row.sentence) {
					t.Errorf("summary: %q", tr.Summary)
				}
				if short := w.traceAll(t, tr.Attempt.Code[:7]); !slices.Contains(short, tr.Attempt.Code) {
					t.Errorf("two groups find %q", short)
				}
			})
		}
		// A page about an attempt has the attempt's code, not its own request's.
		t.Run("a page that was decided elsewhere", func(t *testing.T) {
			w.Clock.Advance(time.Minute)
			b := w.Browser(t)
			page := b.SignIn(t, b.Authorize(t, request(w.public.ID)), "fay@example.test")
			begun := w.newest(t).Attempt.Code
			w.Clock.Advance(time.Second)
			b.Allow(t, b.Authorize(t, request(w.public.ID)))
			if code := codeOn(t, b.Submit(t, page, "action", url.Values{"action": {"allow"}})); code != begun {
				t.Errorf("the page has the code %s, the attempt %s", code, begun)
			}
			if tr := w.trace(t, begun); marks(tr) != "ok ok ok ok - - -" {
				t.Errorf("%s: %+v", marks(tr), tr.Steps)
			}
		})
		// Tokens that come after all end the story well.
		t.Run("a verifier, then the right one", func(t *testing.T) {
			w.Clock.Advance(time.Minute)
			code := allowed(t)
			w.token(t, w.public, redeem(code, "code_verifier", strings.Repeat("x", 43)))
			w.Clock.Advance(time.Second)
			got(t, w.token(t, w.public, redeem(code)))
			if tr := w.newest(t); marks(tr) != "ok ok ok ok ok ok -" || !strings.Contains(tr.Steps[5].Sentence, "after: The code_verifier") {
				t.Errorf("%s: %+v", marks(tr), tr.Steps[5])
			}
		})
		// What belongs to no attempt is told alone.
		t.Run("a code of nobody", func(t *testing.T) {
			w.Clock.Advance(time.Hour)
			a := w.token(t, w.rival, redeem("abc"))
			if tr := w.trace(t, a.header.Get("X-Request-Id")); marks(tr) != "FAIL" || tr.Steps[0].Stage != audit.AtToken {
				t.Errorf("%+v", tr)
			}
			form := w.browser.Post(t, "/connected-apps", url.Values{"csrf": {"x"}})
			if tr := w.trace(t, codeOn(t, form)); marks(tr) != "FAIL" || !strings.Contains(tr.Summary, "no page of ours made") {
				t.Errorf("%+v", tr)
			}
			page := w.Browser(t).Get(t, "/flow/01930000-0000-7000-8000-000000000000")
			if tr := w.trace(t, codeOn(t, page)); marks(tr) != "FAIL" || tr.Steps[0].Stage != audit.AtSignIn {
				t.Errorf("%+v", tr)
			}
		})
	})
}

// traceAll are the codes that a text finds.
func (w *world) traceAll(t *testing.T, code string) (codes []string) {
	t.Helper()
	traces, err := w.Clients.Traces(t.Context(), w.found(t), code)
	if err != nil {
		t.Fatal(err)
	}
	for _, tr := range traces {
		codes = append(codes, tr.Attempt.Code)
	}
	return codes
}

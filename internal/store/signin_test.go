package store_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store"
)

func TestFlow(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		f := w.flow(now)
		read := func() signin.Flow {
			t.Helper()
			got, err := db.Flow(t.Context(), w.project.ID, f.ID, now)
			must(t, err)
			return got
		}
		if diff := cmp.Diff(f, read()); diff != "" {
			t.Error(diff)
		}
		if _, err := db.Flow(t.Context(), w.project.ID, f.ID, f.ExpiresAt); !errors.Is(err, signin.ErrNotFound) {
			t.Errorf("at its end: %v", err)
		}
		if _, err := db.Flow(t.Context(), w.project.ID, "x", now); !errors.Is(err, signin.ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}

		must(t, db.SetFlowRequest(t.Context(), w.project.ID, f.ID, []byte("pinned"), audit.Attempt{}))
		if got := read(); string(got.Request) != "pinned" {
			t.Errorf("request %q", got.Request)
		}
		must(t, db.Deny(t.Context(), w.project.ID, f.ID, now, audit.Attempt{}, w.event(audit.GrantDenied)))
		if got := read(); !got.Decided {
			t.Error("not decided")
		}
		for _, id := range []string{f.ID, "x"} {
			if err := db.SetFlowRequest(t.Context(), w.project.ID, id, []byte("late"), audit.Attempt{}); !errors.Is(err, signin.ErrNotFound) {
				t.Errorf("request of %s: %v", id, err)
			}
		}

		f = w.flow(now)
		c := w.emailCode(f, "ada@example.test", "123456", now)
		must(t, db.CreateEmailCode(t.Context(), c, generous, w.event(audit.CodeSent)))
		if got := read(); got.Email != c.Email || got.MethodID != c.ID || !got.CodeExpiresAt.Equal(c.ExpiresAt) {
			t.Errorf("after a code: %+v", got)
		}
		must(t, db.ClearFlowEmail(t.Context(), w.project.ID, f.ID))
		if got := read(); got.Email != "" || got.MethodID != "" || !got.CodeExpiresAt.IsZero() {
			t.Errorf("after clearing: %+v", got)
		}
		if out, err := db.RedeemEmailCode(t.Context(), w.try(c, "123456", now), w.event(audit.SignedIn)); err != nil || !out.Dead || out.Right {
			t.Errorf("the code of a cleared flow: %+v, %v", out, err)
		}
	})
}

func TestMailLimit(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		limit := signin.MailLimit{Gap: 20 * time.Second, Count: 5, Window: time.Hour}
		full := false // the last one was refused for the window, not for the gap
		send := func(address string, at time.Time) (wait time.Duration) {
			t.Helper()
			f := w.flow(at)
			full = false
			err := db.CreateEmailCode(t.Context(), w.emailCode(f, address, "123456", at), limit, w.eventAt(audit.CodeSent, at))
			var soon *signin.TooSoon
			if err != nil && !errors.As(err, &soon) {
				t.Fatal(err)
			}
			if soon == nil {
				return 0
			}
			if got, err := db.Flow(t.Context(), w.project.ID, f.ID, at); err != nil || got.MethodID != "" {
				t.Errorf("a refused mail changed its flow: %+v, %v", got, err)
			}
			full = soon.Full
			return soon.Wait
		}
		if wait := send("bob@example.test", now); wait != 0 {
			t.Fatal(wait)
		}
		if wait := send("Bob@Example.test ", now.Add(5*time.Second)); wait != 15*time.Second || full {
			t.Errorf("in the gap: wait %v", wait)
		}
		if wait := send("carol@example.test", now.Add(5*time.Second)); wait != 0 {
			t.Errorf("another address: wait %v", wait)
		}
		for i := range 4 {
			if wait := send("bob@example.test", now.Add(time.Duration(i+1)*time.Minute)); wait != 0 {
				t.Errorf("mail %d: wait %v", i+2, wait)
			}
		}
		if wait := send("bob@example.test", now.Add(30*time.Minute)); wait != 30*time.Minute || !full {
			t.Errorf("the sixth: wait %v, for the window: %v", wait, full)
		}
		if wait := send("bob@example.test", now.Add(time.Hour)); wait != 0 {
			t.Errorf("after the window: wait %v", wait)
		}
		if wait := send("bob@example.test", now.Add(time.Hour+time.Second)); wait != 19*time.Second || full {
			t.Errorf("in the gap of another window: wait %v", wait)
		}
		known := w.emailCode(w.flow(now.Add(30*time.Minute)), "bob@example.test", "123456", now.Add(30*time.Minute))
		known.Browser = "known"
		must(t, db.CreateEmailCode(t.Context(), known, limit, w.event(audit.CodeSent)))
		// A flow that is not there costs nobody a mail.
		c := w.emailCode(w.flow(now), "dave@example.test", "123456", now)
		c.FlowID = "x"
		if err := db.CreateEmailCode(t.Context(), c, limit, w.event(audit.CodeSent)); !errors.Is(err, signin.ErrNotFound) {
			t.Errorf("unknown flow: %v", err)
		}
		if wait := send("dave@example.test", now); wait != 0 {
			t.Errorf("after that: wait %v", wait)
		}
	})
}

func TestEmailCode(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		sent := func(address, code string) signin.EmailCode {
			t.Helper()
			c := w.emailCode(w.flow(now), address, code, now)
			must(t, db.CreateEmailCode(t.Context(), c, generous, w.event(audit.CodeSent)))
			return c
		}
		redeem := func(r signin.Redemption) signin.Outcome {
			t.Helper()
			out, err := db.RedeemEmailCode(t.Context(), r, w.eventAt(audit.SignedIn, r.Now))
			must(t, err)
			return out
		}

		t.Run("right makes a user once, and a session each time", func(t *testing.T) {
			for i, address := range []string{"New@Example.test", "new@example.test"} {
				c := sent(address, "123456")
				r := w.try(c, "123456", now.Add(time.Duration(i)*time.Minute))
				out := redeem(r)
				if !out.Right || out.Created != (i == 0) || out.User.Email != "New@Example.test" || !out.User.LastSignInAt.Equal(r.Now) {
					t.Fatalf("%+v", out)
				}
				got, user, err := db.Session(t.Context(), w.project.ID, r.Session.SecretID, r.Session.Kind, r.Now)
				must(t, err)
				if diff := cmp.Diff(out.Session, got); diff != "" {
					t.Error(diff)
				}
				if diff := cmp.Diff(out.User, user); diff != "" {
					t.Error(diff)
				}
			}
			if got := events(t, db, w.project.ID); count(got, "user.created") != 2 || count(got, "signin.succeeded") != 3 {
				t.Errorf("events %v", got)
			}
		})

		t.Run("works once", func(t *testing.T) {
			c := sent("bob@example.test", "123456")
			if out := redeem(w.try(c, "123456", now)); !out.Right {
				t.Fatalf("%+v", out)
			}
			if out := redeem(w.try(c, "123456", now)); out.Right || !out.Dead {
				t.Errorf("again: %+v", out)
			}
		})

		t.Run("is dead after five wrong tries", func(t *testing.T) {
			c := sent("carol@example.test", "123456")
			for left := 4; left >= 0; left-- {
				want := signin.Outcome{Wrong: true, Left: left, Dead: left == 0}
				if diff := cmp.Diff(want, redeem(w.try(c, "000000", now))); diff != "" {
					t.Errorf("%d left: %s", left, diff)
				}
			}
			if out := redeem(w.try(c, "123456", now)); out.Right || !out.Dead {
				t.Errorf("the right code afterwards: %+v", out)
			}
		})

		t.Run("is dead at its end", func(t *testing.T) {
			c := sent("dave@example.test", "123456")
			if out := redeem(w.try(c, "123456", c.ExpiresAt)); out.Right || !out.Dead {
				t.Errorf("%+v", out)
			}
		})

		t.Run("is dead in another flow", func(t *testing.T) {
			c := sent("erin@example.test", "123456")
			r := w.try(c, "123456", now)
			r.FlowID = w.flow(now).ID
			if out := redeem(r); out.Right || !out.Dead {
				t.Errorf("%+v", out)
			}
			if out := redeem(w.try(c, "123456", now)); !out.Right {
				t.Errorf("in its own: %+v", out)
			}
		})

		t.Run("is dead after the next one of its flow", func(t *testing.T) {
			f := w.flow(now)
			var codes []signin.EmailCode
			for _, address := range []string{"frank@example.test", "frank@example.test", "grace@example.test"} {
				c := w.emailCode(f, address, "123456", now)
				must(t, db.CreateEmailCode(t.Context(), c, generous, w.event(audit.CodeSent)))
				codes = append(codes, c)
			}
			for i, c := range codes {
				if out := redeem(w.try(c, "123456", now)); out.Right != (i == 2) {
					t.Errorf("code %d: %+v", i, out)
				}
			}
		})

		t.Run("is not compared after ten wrong ones for the address in a day", func(t *testing.T) {
			for _, address := range []string{"heidi@example.test", "Heidi@example.test"} {
				c := sent(address, "123456")
				for range 5 {
					redeem(w.try(c, "000000", now))
				}
			}
			c := sent("heidi@example.test", "123456")
			if out := redeem(w.try(c, "123456", now)); out.Right || !out.Locked {
				t.Errorf("the right code: %+v", out)
			}
			if out := redeem(w.try(sent("ivan@example.test", "123456"), "123456", now)); !out.Right {
				t.Errorf("another address: %+v", out)
			}
			known := sent("heidi@example.test", "123456")
			r := w.try(known, "123456", now)
			r.Browser = "known"
			if out := redeem(r); !out.Right {
				t.Errorf("in a browser that proved the address before: %+v", out)
			}
			f := w.flow(now.Add(day))
			c = w.emailCode(f, "heidi@example.test", "123456", now.Add(day))
			must(t, db.CreateEmailCode(t.Context(), c, generous, w.event(audit.CodeSent)))
			if out := redeem(w.try(c, "123456", now.Add(day))); !out.Right {
				t.Errorf("a day later: %+v", out)
			}
		})

		t.Run("that is right or dead does not count against the day", func(t *testing.T) {
			for range 12 {
				c := sent("judy@example.test", "123456")
				if out := redeem(w.try(c, "123456", now)); !out.Right {
					t.Fatalf("%+v", out)
				}
				redeem(w.try(c, "123456", now))
			}
		})

		t.Run("does not let an inactive user in", func(t *testing.T) {
			out := w.signIn("mallory@example.test")
			// Nothing in this release locks a user out yet.
			must(t, db.Change(t.Context(), `UPDATE "user" SET active = FALSE WHERE project_id = $1 AND id = $2`, w.project.ID, out.User.ID))
			if _, _, err := db.Session(t.Context(), w.project.ID, out.Session.SecretID, out.Session.Kind, now); err == nil {
				t.Error("the session of an inactive user lives")
			}
			c := sent("mallory@example.test", "123456")
			if out := redeem(w.try(c, "123456", now)); out.Right || out.Locked || !out.Inactive {
				t.Errorf("%+v", out)
			}
		})

		t.Run("leaves a reason for each refusal", func(t *testing.T) {
			got := events(t, db, w.project.ID)
			for _, reason := range []string{"wrong code", "code no longer works", "too many wrong codes today", "user is not active"} {
				if count(got, "signin.refused: "+reason) == 0 {
					t.Errorf("no event says %q", reason)
				}
			}
		})

		t.Run("of a browser with an odd name", func(t *testing.T) {
			c := sent("odd@example.test", "123456")
			r := w.try(c, "123456", now)
			r.Session.UserAgent = "Brows\xe9r"
			if out := redeem(r); !out.Right {
				t.Errorf("%+v", out)
			}
		})
	})
}

// One hundred right answers at once: one signs in. One hundred wrong ones: five
// are compared.
func TestOneEmailCodeHundredTimes(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		for typed, want := range map[string]struct{ right, compared int64 }{"123456": {1, 1}, "000000": {0, 5}} {
			c := w.emailCode(w.flow(now), typed+"@example.test", "123456", now)
			must(t, db.CreateEmailCode(t.Context(), c, generous, w.event(audit.CodeSent)))
			var right atomic.Int64
			at(100, func(int) {
				out, err := db.RedeemEmailCode(t.Context(), w.try(c, typed, now), w.event(audit.SignedIn))
				if err != nil {
					t.Error(err)
				}
				if out.Right {
					right.Add(1)
				}
			})
			if right.Load() != want.right {
				t.Errorf("%s: %d signed in", typed, right.Load())
			}
			tries := rows(t, db, "SELECT tries FROM email_code WHERE project_id = $1 AND id = $2", w.project.ID, c.ID)
			if tries[0] != fmt.Sprint(want.compared) {
				t.Errorf("%s: %s tries", typed, tries[0])
			}
		}
	})
}

// Wrong guesses at many codes of one address at once: ten are compared in all.
func TestGuessesOverManyCodes(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		codes := make([]signin.EmailCode, 20)
		for i := range codes {
			codes[i] = w.emailCode(w.flow(now), "bob@example.test", "123456", now)
			must(t, db.CreateEmailCode(t.Context(), codes[i], generous, w.event(audit.CodeSent)))
		}
		var mu sync.Mutex
		compared, locked := 0, 0
		at(100, func(i int) {
			out, err := db.RedeemEmailCode(t.Context(), w.try(codes[i%20], "000000", now), w.event(audit.SignedIn))
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				t.Error(err)
			case out.Locked:
				locked++
			default:
				compared++
			}
		})
		if compared != 10 || locked != 90 {
			t.Errorf("%d compared, %d locked", compared, locked)
		}
	})
}

// The same new person in a hundred browsers at once is one user.
func TestOneNewUser(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		var created atomic.Int64
		at(50, func(int) {
			c := w.emailCode(w.flow(now), "bob@example.test", "123456", now)
			if err := db.CreateEmailCode(t.Context(), c, generous, w.event(audit.CodeSent)); err != nil {
				t.Error(err)
				return
			}
			r := w.try(c, "123456", now)
			out, err := db.RedeemEmailCode(t.Context(), r, w.event(audit.SignedIn))
			if err != nil || !out.Right {
				t.Errorf("%+v, %v", out, err)
			}
			if out.Created {
				created.Add(1)
			}
		})
		if created.Load() != 1 {
			t.Errorf("%d users were made", created.Load())
		}
	})
}

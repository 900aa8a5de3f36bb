package store_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/store"
)

func TestCode(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")

		t.Run("is kept whole", func(t *testing.T) {
			d := w.decision(now, "read:notes", "write:notes")
			must(t, w.Decide(t.Context(), d, w.event(audit.GrantAllowed)))
			got, err := w.Code(t.Context(), w.project.ID, d.Code.ID)
			must(t, err)
			want := d.Code
			want.GrantID, want.PersonActive = d.Grant.ID, true
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})

		t.Run("is redeemed once, and a second use revokes what it gave", func(t *testing.T) {
			c := w.allow(now, "read:notes")
			first := w.redeem(c, now)
			must(t, w.redeemCode(first))
			if !w.alive(first.Family.ID) {
				t.Fatal("family is dead at once")
			}
			second := w.redeem(c, now.Add(time.Second))
			if err := w.redeemCode(second); !errors.Is(err, oauth.ErrUsed) {
				t.Fatalf("second use: %v", err)
			}
			if w.alive(first.Family.ID) {
				t.Error("family outlives the reuse of its code")
			}
			if _, err := w.Live(t.Context(), w.project.ID, second.Family.ID, "jti"); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("the second use made a family: %v", err)
			}
			feed := w.feed()
			if want := "family " + first.Family.ID; len(feed) == 0 || feed[len(feed)-1][2:] != want {
				t.Errorf("feed %v does not end with %q", feed, want)
			}
			// A third use says the same and publishes nothing again.
			if err := w.redeemCode(w.redeem(c, now.Add(2*time.Second))); !errors.Is(err, oauth.ErrUsed) {
				t.Errorf("third use: %v", err)
			}
			if again := w.feed(); len(again) != len(feed) {
				t.Errorf("the feed grew to %v", again)
			}
		})

		dead := func(name string, spoil func(r *oauth.Redeem, c oauth.Code)) {
			t.Run(name, func(t *testing.T) {
				c := w.allow(now, "read:notes")
				r := w.redeem(c, now)
				spoil(&r, c)
				if err := w.redeemCode(r); !errors.Is(err, oauth.ErrDead) {
					t.Fatalf("got %v, want ErrDead", err)
				}
				got, err := w.Code(t.Context(), w.project.ID, c.ID)
				must(t, err)
				if !got.RedeemedAt.IsZero() {
					t.Error("the code was used up")
				}
				if _, err := w.Live(t.Context(), w.project.ID, r.Family.ID, "jti"); !errors.Is(err, oauth.ErrNotFound) {
					t.Errorf("a family was made: %v", err)
				}
			})
		}
		dead("is dead at its expiry", func(r *oauth.Redeem, c oauth.Code) { r.Now = c.ExpiresAt })
		dead("of one client is dead for another", func(r *oauth.Redeem, _ oauth.Code) { r.Family.ClientID = "connected-app-test-other" })
		dead("of one grant is dead for another", func(r *oauth.Redeem, _ oauth.Code) { r.Family.GrantID = "grant-test-other" })
		dead("is dead after five wrong verifiers", func(r *oauth.Redeem, c oauth.Code) {
			for range 5 {
				must(t, w.CountCodeTry(t.Context(), w.project.ID, c.ID))
			}
		})
		dead("is dead when the grant was taken back", func(r *oauth.Redeem, c oauth.Code) {
			must(t, w.RevokeGrant(t.Context(), w.project.ID, w.user.ID, c.GrantID, now.Add(day), w.event(audit.GrantRevoked)))
		})

		t.Run("survives four wrong verifiers", func(t *testing.T) {
			c := w.allow(now, "read:notes")
			for range 4 {
				must(t, w.CountCodeTry(t.Context(), w.project.ID, c.ID))
			}
			must(t, w.redeemCode(w.redeem(c, now)))
		})

		t.Run("used by another client later revokes nothing", func(t *testing.T) {
			c := w.allow(now, "read:notes")
			r := w.redeem(c, now)
			must(t, w.redeemCode(r))
			other := w.redeem(c, now)
			other.Family.ClientID = "connected-app-test-other"
			if err := w.redeemCode(other); !errors.Is(err, oauth.ErrDead) {
				t.Errorf("got %v, want ErrDead", err)
			}
			if !w.alive(r.Family.ID) {
				t.Error("a stranger ended the family")
			}
		})

		t.Run("that is unknown", func(t *testing.T) {
			if _, err := w.Code(t.Context(), w.project.ID, "x"); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("Code: %v", err)
			}
			if err := w.CountCodeTry(t.Context(), w.project.ID, "x"); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("CountCodeTry: %v", err)
			}
			c := w.allow(now, "read:notes")
			c.ID = "x"
			if err := w.redeemCode(w.redeem(c, now)); !errors.Is(err, oauth.ErrDead) {
				t.Errorf("RedeemCode: %v", err)
			}
		})

		t.Run("without refresh token", func(t *testing.T) {
			c := w.allow(now, "read:notes")
			r := w.redeem(c, now)
			r.Family.Refresh = nil
			must(t, w.redeemCode(r))
			if !w.alive(r.Family.ID) {
				t.Error("family is dead")
			}
		})

		t.Run("from before a revoke stays dead when the person allows again", func(t *testing.T) {
			c := w.allow(now, "read:notes")
			must(t, w.RevokeGrant(t.Context(), w.project.ID, w.user.ID, c.GrantID, now.Add(day), w.event(audit.GrantRevoked)))
			again := w.allow(now.Add(time.Second), "read:notes")
			if again.GrantID != c.GrantID {
				t.Fatalf("a second grant %s beside %s", again.GrantID, c.GrantID)
			}
			if err := w.redeemCode(w.redeem(c, now.Add(2*time.Second))); !errors.Is(err, oauth.ErrDead) {
				t.Errorf("old code: %v", err)
			}
			must(t, w.redeemCode(w.redeem(again, now.Add(2*time.Second))))
		})
	})
}

// One hundred valid redemptions of one code at the same moment: one wins, and
// what it got is revoked, because the others proved that the code is in two
// hands.
func TestOneCodeHundredTimes(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		c := w.allow(now, "read:notes")
		var mu sync.Mutex
		var won []string
		at(100, func(int) {
			r := w.redeem(c, now)
			err := w.redeemCode(r)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won = append(won, r.Family.ID)
			case !errors.Is(err, oauth.ErrUsed):
				t.Errorf("loser got %v", err)
			}
		})
		if len(won) != 1 {
			t.Fatalf("%d winners", len(won))
		}
		if w.alive(won[0]) {
			t.Error("the winner's tokens are alive after a proven replay")
		}
		if n := rows(t, db, "SELECT count(*) FROM family WHERE project_id = $1", w.project.ID); n[0] != "1" {
			t.Errorf("%s families", n[0])
		}
		got := events(t, db, w.project.ID)
		for kind, want := range map[string]int{"token.issued": 1, "token.code_reused": 1} {
			if n := count(got, kind); n != want {
				t.Errorf("%d events %s, want %d", n, kind, want)
			}
		}
		if feed := w.feed(); !slices.Equal(feed, []string{"1 family " + won[0]}) {
			t.Errorf("feed %v", feed)
		}
	})
}

// A grant keeps its newest families; the oldest beyond end with the one that is
// one too many.
func TestManyFamilies(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		var made []string
		for i := range oauth.MaxFamilies {
			_, f := w.family(now.Add(time.Duration(i)*time.Second), "read:notes")
			made = append(made, f.ID)
		}
		// Neither what has run out nor what was revoked counts, nor does another
		// person's.
		lone := w.redeem(w.allow(now, "read:notes"), now)
		lone.Family.Refresh, lone.Family.ExpiresAt = nil, now.Add(time.Minute)
		must(t, w.redeemCode(lone))
		if got, want := w.living(), append(slices.Clone(made[1:]), lone.Family.ID); !slices.Equal(got, sorted(want)) {
			t.Fatalf("%d families live after the 51st, of them the first: %v", len(got), slices.Contains(got, made[0]))
		}
		later := now.Add(time.Hour)
		must(t, w.RevokeFamily(t.Context(), w.project.ID, made[1], later.Add(day), w.eventAt(audit.TokenRevoked, later)))
		_, again := w.family(later, "read:notes")
		_, another := w.family(later.Add(time.Second), "read:notes")
		made = append(made, again.ID, another.ID)
		if got := w.living(); len(got) != oauth.MaxFamilies+1 || slices.Contains(got, made[1]) || !slices.Contains(got, made[2]) {
			t.Errorf("%d families live: %v", len(got), got)
		}
		other := *w
		other.user = w.signIn("grace@example.test").User
		other.family(later, "read:notes")
		if !w.alive(made[2]) {
			t.Error("another person's authorization ended this one's")
		}
		_, last := w.family(later.Add(2*time.Second), "read:notes")
		if w.alive(made[2]) || !w.alive(made[3]) || !w.alive(last.ID) {
			t.Error("not the oldest one ended")
		}
		want := []string{"1 family " + made[0], "2 family " + made[1], "3 family " + made[2]}
		if diff := cmp.Diff(want, w.feed()); diff != "" {
			t.Errorf("feed (-want +got):\n%s", diff)
		}
		got := rows(t, db, "SELECT object, actor FROM event WHERE project_id = $1 AND kind = 'token.displaced' ORDER BY id", w.project.ID)
		if diff := cmp.Diff([]string{made[0] + " operator", made[2] + " operator"}, got); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	})
}

// Redemptions of one person's codes at the same moment never leave more than
// there may be, and each of them gets its tokens.
func TestManyFamiliesAtOnce(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		codes := make([]oauth.Code, oauth.MaxFamilies+30)
		for i := range codes {
			codes[i] = w.allow(now, "read:notes")
		}
		at(len(codes), func(i int) {
			if err := w.redeemCode(w.redeem(codes[i], now.Add(time.Second))); err != nil {
				t.Errorf("redeem: %v", err)
			}
		})
		if n := len(w.living()); n != oauth.MaxFamilies {
			t.Errorf("%d families live, want %d", n, oauth.MaxFamilies)
		}
		if n := len(w.feed()); n != 30 {
			t.Errorf("%d rows in the feed, want 30", n)
		}
		if n := count(events(t, db, w.project.ID), "token.displaced"); n != 30 {
			t.Errorf("%d events, want 30", n)
		}
	})
}

// living lists the families that are not revoked.
func (w *world) living() []string {
	w.t.Helper()
	return rows(w.t, w.DB, "SELECT id FROM family WHERE project_id = $1 AND revoked_at = 0 ORDER BY id", w.project.ID)
}

func count(all []string, one string) (n int) {
	for _, s := range all {
		if s == one {
			n++
		}
	}
	return n
}

func TestRefreshToken(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")

		t.Run("is kept whole", func(t *testing.T) {
			token, family := w.family(now, "read:notes")
			got, _, err := w.Family(t.Context(), w.project.ID, family.ID)
			must(t, err)
			family.Nonce, family.Attempt, family.CreatedAt = "", "", time.Time{} // which no refresh needs
			family.PersonActive = true
			if diff := cmp.Diff(family, got); diff != "" {
				t.Error(diff)
			}
			if at := w.lastUse(family.GrantID); !at.Equal(now) {
				t.Errorf("the grant was last used at %v", at)
			}
			if _, _, err := w.Family(t.Context(), w.project.ID, "x"); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("unknown family: %v", err)
			}
			r := w.rotation(token, now.Add(time.Hour))
			if _, err := w.rotate(r); err != nil {
				t.Fatal(err)
			}
			got, _, err = w.Family(t.Context(), w.project.ID, family.ID)
			must(t, err)
			r.Successor.Series = family.Refresh.Series // it does not change
			family.Refresh = &r.Successor
			if diff := cmp.Diff(family, got); diff != "" {
				t.Errorf("rotated: %s", diff)
			}
			lone := w.redeem(w.allow(now, "read:notes"), now)
			lone.Family.Refresh = nil
			must(t, w.redeemCode(lone))
			if got, _, err := w.Family(t.Context(), w.project.ID, lone.Family.ID); err != nil || got.Refresh != nil {
				t.Errorf("a family without refresh tokens has %+v, %v", got.Refresh, err)
			}
		})

		t.Run("rotates", func(t *testing.T) {
			token, family := w.family(now, "read:notes")
			later := now.Add(time.Hour)
			for generation := 2; generation < 6; generation++ {
				r := w.rotation(token, later)
				got, err := w.rotate(r)
				if err != nil || !got.Done {
					t.Fatalf("generation %d: %+v, %v", generation, got, err)
				}
				token = next(r)
				later = later.Add(time.Hour)
			}
			if at := w.lastUse(family.GrantID); !at.Equal(later.Add(-time.Hour)) {
				t.Errorf("the grant was last used at %v", at)
			}
		})

		// reuse rotates once, then presents the old token again.
		reuse := func(name string, change func(t *testing.T, again *oauth.Rotate, first oauth.Rotate)) {
			t.Run(name, func(t *testing.T) {
				token, family := w.family(now, "read:notes")
				first := w.rotation(token, now)
				if _, err := w.rotate(first); err != nil {
					t.Fatal(err)
				}
				again := w.rotation(token, now.Add(time.Second))
				change(t, &again, first)
				if got, err := w.rotate(again); !errors.Is(err, oauth.ErrUsed) {
					t.Fatalf("got %+v, %v; want ErrUsed", got, err)
				}
				if w.alive(family.ID) {
					t.Error("the family lives")
				}
				if _, err := w.rotate(w.rotation(next(first), now.Add(2*time.Second))); !errors.Is(err, oauth.ErrDead) {
					t.Errorf("the successor: %v", err)
				}
				if _, err := w.rotate(again); !errors.Is(err, oauth.ErrDead) {
					t.Errorf("a third time: %v", err)
				}
			})
		}
		reuse("used after the window is theft", func(_ *testing.T, again *oauth.Rotate, _ oauth.Rotate) {
			again.Now = now.Add(2 * time.Minute)
		})
		reuse("used again with the window off is theft", func(_ *testing.T, again *oauth.Rotate, _ oauth.Rotate) {
			again.Window, again.Now = 0, now.Add(-time.Second)
		})
		reuse("used again after its successor was used is theft", func(t *testing.T, _ *oauth.Rotate, first oauth.Rotate) {
			if _, err := w.rotate(w.rotation(next(first), now.Add(time.Second))); err != nil {
				t.Fatal(err)
			}
		})
		reuse("used again after it ran out is theft", func(_ *testing.T, again *oauth.Rotate, _ oauth.Rotate) {
			again.Now = now.Add(15 * day)
		})

		t.Run("repeated in the window gets the same answer", func(t *testing.T) {
			token, family := w.family(now, "read:notes")
			first := w.rotation(token, now)
			_, err := w.rotate(first)
			must(t, err)
			for range 3 {
				got, err := w.rotate(w.rotation(token, now.Add(2*time.Minute-time.Microsecond)))
				must(t, err)
				if got.Done || string(got.Replay) != string(first.Replay) {
					t.Fatalf("%+v", got)
				}
			}
			if !w.alive(family.ID) {
				t.Error("the family died")
			}
		})

		dead := func(name string, end func(t *testing.T, r *oauth.Rotate, f oauth.Family)) {
			t.Run(name, func(t *testing.T) {
				token, family := w.family(now, "read:notes")
				r := w.rotation(token, now)
				end(t, &r, family)
				if got, err := w.rotate(r); !errors.Is(err, oauth.ErrDead) {
					t.Fatalf("got %+v, %v; want ErrDead", got, err)
				}
				got, _, err := w.Family(t.Context(), w.project.ID, family.ID)
				must(t, err)
				if !bytes.Equal(got.Refresh.Hash, token.Hash) {
					t.Error("it was rotated")
				}
			})
		}
		dead("is dead at its idle end", func(_ *testing.T, r *oauth.Rotate, _ oauth.Family) { r.Now = now.Add(14 * day) })
		dead("of a revoked family is dead", func(t *testing.T, _ *oauth.Rotate, f oauth.Family) {
			must(t, w.RevokeFamily(t.Context(), w.project.ID, f.ID, now.Add(day), w.event(audit.TokenRevoked)))
		})
		dead("of a revoked grant is dead", func(t *testing.T, _ *oauth.Rotate, f oauth.Family) {
			must(t, w.RevokeGrant(t.Context(), w.project.ID, w.user.ID, f.GrantID, now.Add(day), w.event(audit.GrantRevoked)))
		})
		dead("of a revoked user is dead", func(t *testing.T, _ *oauth.Rotate, _ oauth.Family) {
			_, err := w.RevokeUser(t.Context(), w.project.ID, w.user.ID, w.event(audit.UserRevoked))
			must(t, err)
		})

		t.Run("is dead at the absolute end of its family in spite of use", func(t *testing.T) {
			token, _ := w.family(now, "read:notes")
			for at := now; at.Before(now.Add(90*day - 13*day)); {
				at = at.Add(13 * day)
				r := w.rotation(token, at)
				if got, err := w.rotate(r); err != nil || !got.Done {
					t.Fatalf("after %v: %+v, %v", at.Sub(now), got, err)
				}
				token = next(r)
			}
			if _, err := w.rotate(w.rotation(token, now.Add(90*day))); !errors.Is(err, oauth.ErrDead) {
				t.Errorf("got %v, want ErrDead", err)
			}
		})

		t.Run("of an unknown family is dead", func(t *testing.T) {
			token, _ := w.family(now, "read:notes")
			token.FamilyID = "x"
			if _, err := w.rotate(w.rotation(token, now)); !errors.Is(err, oauth.ErrDead) {
				t.Errorf("got %v, want ErrDead", err)
			}
		})
	})
}

// One hundred refreshes of one token at the same moment: one rotation, and
// everybody has the same answer.
func TestOneRefreshTokenHundredTimes(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		token, family := w.family(now, "read:notes")
		var mu sync.Mutex
		done, answers := 0, map[string]int{}
		at(100, func(i int) {
			r := w.rotation(token, now.Add(time.Duration(i)*time.Millisecond))
			got, err := w.rotate(r)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
				return
			}
			if got.Done {
				done++
				answers[string(r.Replay)]++
			} else {
				answers[string(got.Replay)]++
			}
		})
		if done != 1 || len(answers) != 1 {
			t.Errorf("%d rotations, answers %v", done, answers)
		}
		if !w.alive(family.ID) {
			t.Error("the family died")
		}
	})
}

// A refresh that races with a revoke: after the revoke nothing of the family
// lives, whoever came first.
func TestRefreshAgainstRevoke(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		for round := range 20 {
			token, family := w.family(now, "read:notes")
			r := w.rotation(token, now)
			at(3, func(i int) {
				switch i {
				case 0:
					if _, err := w.rotate(r); err != nil && !errors.Is(err, oauth.ErrDead) {
						t.Error(err)
					}
				case 1:
					if err := w.RevokeFamily(t.Context(), w.project.ID, family.ID, now.Add(day), w.event(audit.TokenRevoked)); err != nil {
						t.Error(err)
					}
				case 2:
					if round%2 == 0 {
						if err := w.RevokeGrant(t.Context(), w.project.ID, w.user.ID, family.GrantID, now.Add(day), w.event(audit.GrantRevoked)); err != nil {
							t.Error(err)
						}
					}
				}
			})
			if w.alive(family.ID) {
				t.Fatal("the family lives after its revoke")
			}
			if _, err := w.rotate(w.rotation(next(r), now)); !errors.Is(err, oauth.ErrDead) {
				t.Fatalf("the successor: %v", err)
			}
		}
	})
}

// A code that is redeemed while its grant is taken back and allowed again: no
// family of the old grant comes back to life.
func TestRedeemAgainstRevokeAndAllow(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		for range 20 {
			c := w.allow(now, "read:notes", "write:notes")
			r := w.redeem(c, now)
			at(2, func(i int) {
				if i == 0 {
					if err := w.redeemCode(r); err != nil && !errors.Is(err, oauth.ErrDead) {
						t.Error(err)
					}
					return
				}
				if err := w.RevokeGrant(t.Context(), w.project.ID, w.user.ID, c.GrantID, now.Add(day), w.event(audit.GrantRevoked)); err != nil {
					t.Error(err)
				}
				if err := w.Decide(t.Context(), w.decision(now, "read:notes"), w.event(audit.GrantAllowed)); err != nil {
					t.Error(err)
				}
			})
			if w.alive(r.Family.ID) {
				t.Fatal("a family from before the revoke lives")
			}
		}
	})
}

// Locking a user ends what was given. Each who asks is told besides whether the
// person of it is locked or the client blocked, whatever was ended.
func TestWhoIsShutOut(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		c := w.allow(now, "read:notes")
		must(t, w.redeemCode(w.redeem(c, now)))
		_, family := w.family(now, "read:notes")
		for _, is := range []struct{ locked, blocked bool }{{}, {locked: true}, {blocked: true}, {true, true}, {}} {
			must(t, db.Change(t.Context(), `UPDATE "user" SET active = $1 WHERE id = $2`, !is.locked, w.user.ID))
			must(t, db.Change(t.Context(), "UPDATE client SET blocked = $1 WHERE id = $2", is.blocked, w.client.ID))
			code, err := db.Code(t.Context(), w.project.ID, c.ID)
			must(t, err)
			f, client, err := db.Family(t.Context(), w.project.ID, family.ID)
			must(t, err)
			alive := w.alive(family.ID)
			if code.PersonActive == is.locked || f.PersonActive == is.locked || client.Blocked != is.blocked || alive == (is.locked || is.blocked) {
				t.Errorf("%+v: code %t, family %t, client %t, alive %t", is, code.PersonActive, f.PersonActive, client.Blocked, alive)
			}
		}
	})
}

// Of whom a member's token is for, and by which client, its rights depend.
func TestLiveOfAMember(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		d := w.decision(now, "read:notes")
		d.Grant.Subject, d.Grant.Organization, d.Code.Subject, d.Code.Organization = "member", "organization", "member", "organization"
		must(t, w.Decide(t.Context(), d, w.event(audit.GrantAllowed)))
		c, err := w.Code(t.Context(), w.project.ID, d.Code.ID)
		must(t, err)
		r := w.redeem(c, now)
		r.Family.Organization = c.Organization
		must(t, w.redeemCode(r))
		live, err := w.Live(t.Context(), w.project.ID, r.Family.ID, "jti")
		must(t, err)
		want := oauth.Live{ClientID: w.client.ID, ClientType: oauth.ThirdPartyPublic, Organization: "organization"}
		if diff := cmp.Diff(want, live); diff != "" {
			t.Error(diff)
		}
	})
}

func TestRevokeToken(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		_, family := w.family(now, "read:notes")
		for range 2 { // the second changes nothing
			must(t, w.RevokeToken(t.Context(), w.project.ID, "one", now.Add(time.Hour), w.event(audit.TokenRevoked)))
		}
		if _, err := w.Live(t.Context(), w.project.ID, family.ID, "one"); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("a token that was revoked: %v", err)
		}
		l, err := w.Live(t.Context(), w.project.ID, family.ID, "two")
		must(t, err)
		if l.ClientID != family.ClientID || l.ClientType != "" {
			t.Errorf("another token of the family: %+v", l)
		}
		if _, err := w.Live(t.Context(), w.project.ID, "x", "two"); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("unknown family: %v", err)
		}
		must(t, w.RevokeFamily(t.Context(), w.project.ID, family.ID, now.Add(day), w.event(audit.TokenRevoked)))
		must(t, w.RevokeFamily(t.Context(), w.project.ID, family.ID, now.Add(day), w.event(audit.TokenRevoked)))
		must(t, w.RevokeFamily(t.Context(), w.project.ID, "x", now.Add(day), w.event(audit.TokenRevoked)))
		if feed := w.feed(); !slices.Equal(feed, []string{"1 token one", "2 family " + family.ID}) {
			t.Errorf("feed %v", feed)
		}
		if n := count(events(t, db, w.project.ID), "token.revoked"); n != 2 {
			t.Errorf("%d events", n)
		}
	})
}

// The feed has no gap and no number twice, however many revoke at once.
func TestRevocationFeedUnderLoad(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		at(100, func(i int) {
			if err := w.RevokeToken(t.Context(), w.project.ID, fmt.Sprint(i), now.Add(time.Hour), w.event(audit.TokenRevoked)); err != nil {
				t.Error(err)
			}
		})
		for i, line := range w.feed() {
			if want := fmt.Sprintf("%d token ", i+1); line[:len(want)] != want {
				t.Fatalf("line %d of the feed is %q", i, line)
			}
		}
		if n := len(w.feed()); n != 100 {
			t.Errorf("%d rows", n)
		}
	})
}

package e2e_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"
)

// What may be used once is used once, however many ask and whatever breaks.
// These tests speak to the real binary, so they see what its store, its
// grouped commits and its start after a crash do together.

const notes = "https://notes.example.test/mcp" // a resource server; nobody calls it

// startClient starts a server with one resource server, one client and one
// person who has signed in before.
func startClient(t *testing.T, db database) (*client, resource, *person) {
	t.Helper()
	p := serveProject(t, db)
	r := p.addTodo(t, notes, "--secret")
	return newClient(t, p, notes), r, newPerson(t, p, "ada@example.test")
}

// 100 refreshes of one token at once: one rotation, 100 equal answers. When the
// successor has been used, the first token is theft and ends the family.
//
// Proves: MCP-AS-47.
func TestParallelRefreshes(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		c, r, ada := startClient(t, db)
		a, err := c.redeem(t.Context(), c.allow(t, ada))
		first := must(t, a, err).tokens(t)

		all := atOnce(t, 100, func() (answer, error) { return c.refresh(t.Context(), first.Refresh) })
		for _, a := range all {
			if a != all[0] {
				t.Fatalf("two answers to one refresh token:\n%d %s\n%d %s", all[0].status, all[0].body, a.status, a.body)
			}
		}
		second := all[0].tokens(t)
		if second.Refresh == first.Refresh || second.Access == first.Access {
			t.Error("nothing was rotated")
		}
		a, err = c.refresh(t.Context(), second.Refresh)
		third := must(t, a, err).tokens(t)
		if !c.active(t, r, third.Access) {
			t.Error("the newest access token is not active")
		}
		a, err = c.refresh(t.Context(), first.Refresh)
		if a = must(t, a, err); !a.refused("invalid_grant") {
			t.Errorf("the first token, after its successor was used: %d %s", a.status, a.body)
		}
		a, err = c.refresh(t.Context(), third.Refresh)
		if a = must(t, a, err); !a.refused("invalid_grant") {
			t.Errorf("the newest token, after theft was seen: %d %s", a.status, a.body)
		}
		if c.active(t, r, third.Access) {
			t.Error("the newest access token is active after theft was seen")
		}
	})
}

// 100 redemptions of one code at once: one of them gets tokens, and these end,
// for somebody else had the code too (RFC 6749 §4.1.2).
//
// Proves: MCP-AS-20.
func TestParallelRedemptions(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		c, r, ada := startClient(t, db)
		k := c.allow(t, ada)
		var won []answer
		for _, a := range atOnce(t, 100, func() (answer, error) { return c.redeem(t.Context(), k) }) {
			switch {
			case a.status == http.StatusOK:
				won = append(won, a)
			case !a.refused("invalid_grant"):
				t.Errorf("a loser got %d %s", a.status, a.body)
			}
		}
		if len(won) != 1 {
			t.Fatalf("%d redemptions of one code succeeded", len(won))
		}
		got := won[0].tokens(t)
		if c.active(t, r, got.Access) {
			t.Error("the access token is active after the code was used again")
		}
		a, err := c.refresh(t.Context(), got.Refresh)
		if a = must(t, a, err); !a.refused("invalid_grant") {
			t.Errorf("the refresh token after the code was used again: %d %s", a.status, a.body)
		}

		// Another code of the same grant is not touched by that.
		a, err = c.redeem(t.Context(), c.allow(t, ada))
		if next := must(t, a, err).tokens(t); !c.active(t, r, next.Access) {
			t.Error("the tokens of the next authorization are not active")
		}
	})
}

// A wrong verifier does not use a code up (decision 8).
//
// Proves: MCP-AS-43.
func TestWrongVerifier(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		c, _, ada := startClient(t, db)
		k := c.allow(t, ada)
		a, err := c.redeem(t.Context(), code{k.code, "wrong-wrong-wrong-wrong-wrong-wrong-wrong-wrong"})
		if a = must(t, a, err); !a.refused("invalid_grant") {
			t.Errorf("wrong verifier: %d %s", a.status, a.body)
		}
		a, err = c.redeem(t.Context(), k)
		must(t, a, err).tokens(t)
	})
}

// The server is killed while clients refresh. Nobody is locked out: a client
// that has no answer asks again with what it has and goes on; one that has an
// answer and asks again gets the same one.
//
// Proves: MCP-AS-47.
func TestKilledWhileRefreshing(t *testing.T) {
	const clients, rounds = 4, 3
	eachDatabase(t, func(t *testing.T, db database) {
		c, _, ada := startClient(t, db)
		held := make([]string, clients) // what each client would send next
		for i := range held {
			a, err := c.redeem(t.Context(), c.allow(t, ada))
			held[i] = must(t, a, err).tokens(t).Refresh
		}
		for round := range rounds {
			before, err := c.refresh(t.Context(), held[0])
			answered := must(t, before, err) // and used by nobody until after the crash

			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			var mu sync.Mutex
			rotations := 0
			for i := 1; i < clients; i++ {
				all.Go(func() {
					for ctx.Err() == nil {
						a, err := c.refresh(ctx, held[i])
						if err != nil {
							return // no answer: the token stays what it was
						}
						next, err := a.decode()
						if err != nil {
							t.Errorf("round %d: client %d got %v", round, i, err)
							return
						}
						held[i] = next.Refresh
						mu.Lock()
						rotations++
						mu.Unlock()
					}
				})
			}
			for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
				mu.Lock()
				busy := rotations >= 20*(round+1)
				mu.Unlock()
				if busy {
					break
				}
			}
			c.kill()
			stop()
			all.Wait()
			c.restart(t)

			again, err := c.refresh(t.Context(), held[0])
			if again = must(t, again, err); again != answered {
				t.Errorf("round %d: the repeat after the crash differs:\n%d %s\n%d %s", round, answered.status, answered.body, again.status, again.body)
			}
			held[0] = answered.tokens(t).Refresh
			for i := 1; i < clients; i++ {
				a, err := c.refresh(t.Context(), held[i])
				next, notTokens := a.decode()
				if err = errors.Join(err, notTokens); err != nil {
					t.Fatalf("round %d: client %d is locked out: %v", round, i, err)
				}
				held[i] = next.Refresh
			}
			t.Logf("round %d: killed after %d rotations, everybody goes on", round, rotations)
		}
	})
}

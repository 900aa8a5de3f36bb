package faults

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"testing"
)

// Codes and refresh tokens are presented many times at once, on PostgreSQL to two
// servers: a code gets tokens once, and a refresh token one successor, which all
// are told (F-13).
func TestRaced(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) {
		w := newWorld(t, nil)
		w.node().start()
		raced(t, w)
	})
	t.Run("postgres", func(t *testing.T) {
		w := newWorld(t, postgres(t))
		w.node().start()
		w.node().start()
		raced(t, w)
	})
}

func raced(t *testing.T, w *world) {
	for _, n := range w.nodes {
		n.ready()
	}
	a := w.actor(w.nodes[0])
	things, presentations := times(50, 200), 20
	for range things {
		code, err := a.authorize()
		must(t, err)
		at(t, presentations, func(i int) error { return w.copied(a, i).redeem(&held{code: code.code}) })
		// A refresh token whose successor nobody uses: each presentation gets the same.
		h, err := a.authorize()
		must(t, err)
		must(t, a.redeem(h))
		token := h.latest
		at(t, presentations, func(i int) error { return w.copied(a, i).refresh(&held{code: h.code}, token) })
		must(t, a.refresh(h, token))
		must(t, a.look(h, h.latest))
		if a.serial++; a.serial%10 == 0 { // 50 families of one app and person live at most
			must(t, a.takeBack())
		}
	}
	for _, sentence := range w.journal.check() {
		t.Error(sentence)
	}
	if got := w.journal.count(redeemed, ok); got != 2*things {
		t.Errorf("%d codes were redeemed, want %d", got, 2*things)
	}
	if got := w.journal.count(refreshed, ok); got != things*(presentations+1) {
		t.Errorf("%d presentations of a refresh token were answered, want all %d", got, things*(presentations+1))
	}
	result(t, "F-13", "%d codes and %d refresh tokens, each presented %d times at once to %d servers: each code used once, each token one successor",
		things, things, presentations, len(w.nodes))
}

// Every kind of thing that is good for one use is raced for in the store's own
// test, which this runs: 10,000 things on each database in the long form (F-13).
func TestUsedOnce(t *testing.T) {
	said := regexp.MustCompile(`\d+ things, \d+ uses of each at once.*`)
	for database, subtest := range map[string]string{"sqlite": "SQLite", "postgres": "PostgreSQL"} {
		t.Run(database, func(t *testing.T) {
			race := exec.CommandContext(t.Context(), "go", "test", "../internal/store", "-count=1", "-timeout=2h", "-v", "-run=^TestEachThingIsUsedOnce$/^"+subtest+"$")
			if database == "postgres" {
				race.Env = append(os.Environ(), "POSTERN_TEST_POSTGRES="+postgres(t).URL)
			}
			out, err := race.CombinedOutput()
			if sentence := said.Find(out); err != nil || sentence == nil {
				t.Errorf("%v\n%s", err, out)
			} else {
				result(t, "F-13", "%s", sentence)
			}
		})
	}
}

// copied is an app with the same tokens at another server.
func (w *world) copied(a *actor, i int) *actor {
	return &actor{w: w, node: w.nodes[i%len(w.nodes)], name: a.name, jar: a.jar}
}

// at does something n times at once.
func at(t *testing.T, n int, do func(i int) error) {
	t.Helper()
	var all sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		all.Go(func() {
			<-start
			if err := do(i); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	all.Wait()
}

// What the servers of a cluster know of each other's changes is in the database:
// a token revoked at one is dead at the other in the same moment.
func TestRevokedEverywhere(t *testing.T) {
	w := newWorld(t, postgres(t))
	w.node().start()
	w.node().start()
	for _, n := range w.nodes {
		n.ready()
	}
	a := w.actor(w.nodes[0])
	rounds := times(50, 500)
	for range rounds {
		h, err := a.authorize()
		must(t, err)
		must(t, w.copied(a, 1).redeem(h))
		must(t, w.copied(a, 0).revoke(h))
		must(t, w.copied(a, 1).look(h, h.latest))
		got, err := w.copied(a, 1).post("/v1/oauth2/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {h.latest}, "client_id": {w.client.ID}})
		if must(t, err); got.Status != http.StatusBadRequest {
			t.Fatalf("a token revoked at the other server: %d %s", got.Status, got.Body)
		}
	}
	for _, sentence := range w.journal.check() {
		t.Error(sentence)
	}
	result(t, "F-13", "%d tokens given out by one server, revoked at another: dead at both at once", rounds)
}

package faults

import (
	"context"
	"database/sql"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/rig"
	"github.com/postern-id/postern/internal/testrun/cluster"
)

// playing starts a world with actors and lets them play until the returned
// function is called.
func playing(t *testing.T, w *world, n *node, people int) (end func()) {
	t.Helper()
	for len(w.actors) < people {
		w.actor(n)
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for {
			w.play(stop)
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond): // they stop where no answer comes
			}
		}
	})
	return func() {
		close(stop)
		all.Wait()
	}
}

// settled checks the journal, once everybody has asked again what got no answer.
func (w *world) settled(t *testing.T) {
	t.Helper()
	w.each(func(a *actor) error { return a.resolve() })
	w.audit(w.data.Database == "")
	for _, sentence := range w.journal.check() {
		t.Error(sentence)
	}
}

// PostgreSQL is restarted under load, in order and not: what fails says to come
// again, and within five seconds everything works (F-08).
func TestPostgresRestarts(t *testing.T) {
	on := postgres(t)
	w := newWorld(t, on)
	n := w.node()
	n.start()
	n.ready()
	var outages []time.Duration
	for i := range times(4, 20) {
		mode := []string{"fast", "immediate"}[i%2]
		end := playing(t, w, n, actors)
		time.Sleep(300 * time.Millisecond)
		must(t, on.Stop(context.Background(), mode))
		must(t, on.Start(context.Background()))
		outages = append(outages, recovered(t, n))
		time.Sleep(100 * time.Millisecond)
		end()
		w.settled(t)
	}
	result(t, "F-08", "%d restarts under load, fast and immediate: %d acknowledgements kept, works again p50 %s, worst %s after PostgreSQL does",
		len(outages), w.journal.count("", ok), quantile(outages, 0.5), quantile(outages, 1))
}

// PostgreSQL takes connections and says nothing: everybody is told to come again
// within five seconds, health and what is in memory are answered at once, and
// when it goes on so does the server (F-11).
func TestPostgresHangs(t *testing.T) {
	on := postgres(t)
	w := newWorld(t, on)
	n := w.node()
	n.start()
	n.ready()
	end := playing(t, w, n, actors)
	time.Sleep(300 * time.Millisecond)
	resume, err := on.Pause(context.Background())
	must(t, err)
	t.Cleanup(func() { _ = resume() }) // again does no harm

	const busy = 7 // seconds: five, and what a machine with other work adds
	var mu sync.Mutex
	var slowest time.Duration
	patience := func(what string, limit time.Duration, want int, ask func() int) {
		began := time.Now()
		got := ask()
		mu.Lock()
		defer mu.Unlock()
		took := time.Since(began)
		if got != want || took > limit {
			t.Errorf("%s: %d after %s, want %d within %s", what, got, took.Round(time.Millisecond), want, limit)
		}
		if want == http.StatusServiceUnavailable {
			slowest = max(slowest, took)
		}
	}
	var all sync.WaitGroup
	for i := range 40 { // more than connections
		a := *w.actors[i%len(w.actors)]
		all.Go(func() {
			patience("refresh", busy*time.Second, http.StatusServiceUnavailable, func() int {
				got, _ := a.post("/v1/oauth2/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {"of nobody"}, "client_id": {w.client.ID}})
				return got.Status
			})
		})
		all.Go(func() {
			patience("page", busy*time.Second, http.StatusServiceUnavailable, func() int {
				got, _ := a.page(http.MethodGet, w.issuer+"/connected-apps", nil)
				return got.Status
			})
		})
	}
	for range 10 {
		patience("health", time.Second, http.StatusOK, func() int { return n.answers("/healthz") })
		patience("metadata", time.Second, http.StatusOK, func() int { return n.answers("/.well-known/oauth-authorization-server") })
		patience("keys", time.Second, http.StatusOK, func() int { return n.answers("/.well-known/jwks.json") })
		time.Sleep(200 * time.Millisecond)
	}
	all.Wait()
	patience("readiness", 6*time.Second, http.StatusServiceUnavailable, func() int { return n.answers("/readyz") })
	must(t, resume())
	back := recovered(t, n)
	end()
	w.settled(t)
	result(t, "F-11", "503 to 80 requests at once within %s, health and metadata at once; works again %s after PostgreSQL does; %d acknowledgements kept",
		slowest.Round(10*time.Millisecond), back.Round(10*time.Millisecond), w.journal.count("", ok))
}

// The primary dies under load, and the standby that had every commit takes over:
// nothing that was acknowledged is lost (F-09).
func TestSynchronousStandbyTakesOver(t *testing.T) {
	ctx := context.Background()
	var lost int
	var outages []time.Duration
	for range times(1, 3) {
		on := postgres(t, "wal_level=replica", "max_wal_senders=4", "hot_standby=on")
		w := newWorld(t, on)
		standby, err := cluster.NewStandby(ctx, on, "second")
		must(t, err)
		t.Cleanup(func() { standby.Close(ctx) })
		must(t, query(on.URL, "ALTER SYSTEM SET synchronous_standby_names = 'second'"))
		must(t, query(on.URL, "SELECT pg_reload_conf()"))
		n := w.node()
		n.start()
		n.ready()
		end := playing(t, w, n, actors)
		time.Sleep(time.Second)
		must(t, on.Kill(ctx))
		began := time.Now()
		end()
		must(t, standby.Promote(ctx))
		n.stop()
		w.data.Database = moved(t, w.data.Database, standby.URL)
		n.start()
		recovered(t, n)
		outages = append(outages, time.Since(began))
		w.settled(t)
		lost += w.journal.count("", ok)
		if out, err := w.command("audit", "verify"); err != nil {
			t.Errorf("postern audit verify: %v\n%s", err, out)
		}
	}
	result(t, "F-09", "%d fail-overs to a synchronous standby: %d acknowledgements, 0 lost; outage p50 %s, worst %s", len(outages), lost, quantile(outages, 0.5), quantile(outages, 1))
}

// The standby that takes over was behind: after restore --already-restored
// nothing that was given out before works, whether the standby knew of it or not
// (F-10).
func TestLateStandbyTakesOver(t *testing.T) {
	ctx := context.Background()
	on := postgres(t, "wal_level=replica", "max_wal_senders=4", "hot_standby=on")
	w := newWorld(t, on)
	n := w.node()
	n.start()
	n.ready()
	a := w.actor(n)
	var all []*held
	authorization := func() *held {
		h, err := a.authorize()
		must(t, err)
		all = append(all, h)
		return h
	}
	redeemed := func() *held {
		h := authorization()
		must(t, a.redeem(h))
		return h
	}
	used, rotated, revoked, stays := authorization(), redeemed(), redeemed(), redeemed()
	_ = stays
	standby, err := cluster.NewStandby(ctx, on, "late")
	must(t, err)
	t.Cleanup(func() { standby.Close(ctx) })
	must(t, standby.Stop(ctx, "fast")) // from here on it knows nothing
	must(t, a.redeem(used))
	must(t, a.refresh(rotated, rotated.latest))
	must(t, a.revoke(revoked))
	redeemed()
	must(t, on.Kill(ctx))
	must(t, standby.Start(ctx))
	must(t, standby.Promote(ctx))
	n.stop()
	w.data.Database = moved(t, w.data.Database, standby.URL)
	if out, err := w.command("restore", "--already-restored", "--yes"); err != nil {
		t.Fatalf("postern restore: %v\n%s", err, out)
	}
	n.start()
	for i, h := range all {
		got, err := a.post("/v1/oauth2/token", url.Values{
			"grant_type": {"authorization_code"}, "code": {h.code}, "redirect_uri": {rig.Callback},
			"client_id": {w.client.ID}, "code_verifier": {rig.Verifier}, "resource": {resourceURI},
		})
		if must(t, err); got.Status != http.StatusBadRequest {
			t.Errorf("code %d: %d %s", i, got.Status, got.Body)
		}
		for _, token := range []string{h.first, h.latest} {
			got, err := a.post("/v1/oauth2/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}, "client_id": {w.client.ID}})
			if must(t, err); got.Status != http.StatusBadRequest {
				t.Errorf("refresh token of %d: %d %s", i, got.Status, got.Body)
			}
		}
	}
	b := w.actor(n) // sessions ended too
	h, err := b.authorize()
	must(t, err)
	must(t, b.redeem(h))
	result(t, "F-10", "a standby that was behind took over: of %d authorizations given out before nothing works after the restore command; a new one does", len(all))
}

func query(at, statement string) error {
	db, err := sql.Open("pgx", at)
	if err != nil {
		return err
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}

// moved is a database's URL on another server.
func moved(t *testing.T, database, server string) string {
	t.Helper()
	u, err := url.Parse(server)
	must(t, err)
	_, name, _ := strings.Cut(strings.TrimPrefix(database, "postgres://"), "/")
	name, _, _ = strings.Cut(name, "?")
	u.Path = "/" + name
	return u.String()
}

package faults

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/testrun/cluster"
)

// A server that is killed while it writes has kept everything of which it said
// so, has done nothing twice, and answers again within seconds (F-01).
func TestKilled(t *testing.T) {
	worlds := times(1, 4) // beside one another, for most of a cycle is waiting
	for i := range worlds {
		t.Run(strings.TrimSuffix(fmt.Sprintf("sqlite %d", i+1), " 1"), func(t *testing.T) {
			t.Parallel()
			campaign(t, nil, times(200, 2500))
		})
	}
	t.Run("postgres", func(t *testing.T) {
		campaign(t, postgres(t), times(200, 1000))
	})
}

// A PostgreSQL whose default is to answer before its disk has a commit loses
// commits when it crashes; those of Postern it does not.
func TestKilledWithoutWaitingForTheDisk(t *testing.T) {
	on := postgres(t, "synchronous_commit=off", "wal_writer_delay=10s")
	w := newWorld(t, on)
	n := w.node()
	n.start()
	n.ready()
	kills := times(3, 10)
	for range kills {
		end := playing(t, w, n, actors)
		time.Sleep(300 * time.Millisecond)
		must(t, on.Kill(context.Background()))
		end()
		must(t, on.Start(context.Background()))
		recovered(t, n)
		w.settled(t)
	}
	result(t, "F-03", "%d kills of a PostgreSQL with synchronous_commit=off: %d acknowledgements, 0 lost", kills, w.journal.count("", ok))
}

const actors = 8

// campaign kills servers for some cycles: postern alone, and with a cluster also
// backends and the whole of PostgreSQL.
func campaign(t *testing.T, on *cluster.Cluster, cycles int) {
	w := newWorld(t, on)
	n := w.node()
	n.start()
	n.ready()
	for range actors {
		w.actor(n)
	}
	var starts []time.Duration
	var clients []string
	total, silent, changes := 0, 0, 0
	killed, took := map[string]int{}, map[string][]time.Duration{}
	for cycle := range cycles {
		stop := make(chan struct{})
		var playing sync.WaitGroup
		playing.Go(func() { w.play(stop) })
		operator := w.actors[0]
		playing.Go(func() { // beside the actors, and alone in this
			copied := *operator
			for {
				select {
				case <-stop:
					return
				default:
				}
				changes++
				if copied.change(changes) != nil {
					return
				}
				if cycle%4 == 0 {
					if id, err := copied.register(); err == nil {
						clients = append(clients, id)
					}
					operator.serial = copied.serial
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
		time.Sleep(30*time.Millisecond + rand.N(120*time.Millisecond))
		what := victim(on, cycle)
		killed[what]++
		began := time.Now()
		strike(t, n, on, what)
		close(stop)
		playing.Wait()
		if what == "postgres" {
			must(t, on.Start(context.Background()))
		}
		if what == "postern" {
			starts = append(starts, n.start())
		}
		recovered(t, n)
		took[what] = append(took[what], time.Since(began))
		w.each(func(a *actor) error { return a.resolve() })
		must(t, operator.readChange())
		for _, id := range clients {
			must(t, operator.ask(id))
		}
		clients = nil
		if cycle%50 == 49 || cycle == cycles-1 {
			total += w.journal.count("", ok)
			silent += w.journal.count("", unknown)
			w.audit(on == nil && (cycle%1000 == 999 || cycle == cycles-1))
			for _, sentence := range w.journal.check() {
				t.Errorf("cycle %d: %s", cycle, sentence)
			}
			if t.Failed() {
				return
			}
			w.begin()
			if cycle%1000 == 999 {
				t.Logf("%d kills, %d acknowledgements", cycle+1, total)
			}
		}
	}
	if silent == 0 {
		t.Error("no request was under way when a server was killed: the test proves nothing")
	}
	n.stop()
	n.start()
	if out, err := w.command("audit", "verify"); err != nil {
		t.Errorf("postern audit verify: %v\n%s", err, out)
	}
	back := ""
	for what, all := range took {
		back += fmt.Sprintf("; killed %s to works again p50 %s, worst %s", what, quantile(all, 0.5), quantile(all, 1))
	}
	result(t, "F-01", "%d kills (%s), %d acknowledgements, 0 lost, 0 done twice, %d requests without an answer; start to first answer p50 %s, worst %s%s",
		cycles, counts(killed), total, silent, quantile(starts, 0.5), quantile(starts, 1), back)
}

// victim chooses what is killed: postern in most cycles.
func victim(on *cluster.Cluster, cycle int) string {
	switch {
	case on == nil:
		return "postern"
	case cycle%20 == 3:
		return "postgres"
	case cycle%10 == 6:
		return "backend"
	}
	return "postern"
}

func strike(t *testing.T, n *node, on *cluster.Cluster, what string) {
	t.Helper()
	switch what {
	case "postern":
		n.kill()
	case "postgres":
		must(t, on.Kill(context.Background()))
	case "backend": // the postmaster ends the others, and begins anew by itself
		pids, err := on.Backends(context.Background())
		must(t, err)
		if len(pids) > 0 && syscall.Kill(pids[rand.N(len(pids))], syscall.SIGKILL) == nil { // it may have ended
			gone(pids)
		}
	}
}

// gone waits until processes have ended, for five seconds at most: one that was
// about to leave by itself takes no others with it.
func gone(pids []int) {
	for began := time.Now(); time.Since(began) < 5*time.Second; time.Sleep(5 * time.Millisecond) {
		if !slices.ContainsFunc(pids, func(pid int) bool { return syscall.Kill(pid, 0) == nil }) {
			return
		}
	}
}

// recovered waits until the server does its work again: within five seconds.
func recovered(t *testing.T, n *node) time.Duration {
	t.Helper()
	began := time.Now()
	for time.Since(began) < 5*time.Second {
		if got, err := (&actor{w: n.w, node: n}).policy(); err == nil && got.outcome() == ok {
			return time.Since(began)
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the server does not work again after five seconds:\n%s", n.log.tail(2000))
	return 0
}

// begin empties the journal, when what is in it was checked, but for the setting
// that stands, and takes back what was counted of registrations, of which a
// project takes 500 a day.
func (w *world) begin() {
	w.t.Helper()
	w.journal.mu.Lock()
	var stands []entry
	for _, e := range w.journal.entries {
		if e.Kind == read && e.Outcome == ok {
			e.Kind = set
			stands = []entry{e}
		}
	}
	w.journal.entries, w.journal.sessions, w.since = stands, nil, time.Now()
	w.journal.mu.Unlock()
	for _, a := range w.actors {
		a.held, a.silent = nil, nil
	}
	db := w.sql()
	defer db.Close()
	_, err := db.Exec("DELETE FROM counter WHERE kind = 'register_project'")
	must(w.t, err)
}

// audit checks that the trail tells of everything that was acknowledged, and
// that a SQLite file is whole.
func (w *world) audit(file bool) {
	w.t.Helper()
	db := w.sql()
	defer db.Close()
	if file {
		var verdict string
		must(w.t, db.QueryRow("PRAGMA integrity_check").Scan(&verdict))
		if verdict != "ok" {
			w.t.Errorf("integrity check: %s", verdict)
		}
	}
	rows, err := db.Query("SELECT kind, object, count(*) FROM event WHERE NOT refused AND occurred_at >= $1 GROUP BY kind, object", w.since.UnixMicro())
	must(w.t, err)
	defer rows.Close()
	told := map[string]int{}
	for rows.Next() {
		var kind, object string
		var n int
		must(w.t, rows.Scan(&kind, &object, &n))
		told[kind+" "+object] += n
	}
	must(w.t, rows.Err())
	must(w.t, w.journal.told(told))
}

// told checks that for each acknowledgement there is an event.
func (j *journal) told(events map[string]int) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	want := map[string]map[string]bool{}
	for _, e := range j.entries {
		key := ""
		switch {
		case e.Outcome != ok:
		case e.Kind == redeemed:
			key = "token.issued " + j.sessions[e.Family]
		case e.Kind == refreshed: // repeats have one event
			key = "token.refreshed " + j.sessions[e.Family]
		case e.Kind == registered:
			key = "client.registered " + e.Object
		}
		if key != "" {
			if want[key] == nil {
				want[key] = map[string]bool{}
			}
			want[key][e.Result] = true
		}
	}
	for key, different := range want {
		if events[key] < len(different) {
			return fmt.Errorf("the trail has %d events %s, and %d were acknowledged", events[key], key, len(different))
		}
	}
	return nil
}

func quantile(all []time.Duration, q float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return all[int(q*float64(len(all)-1))].Round(time.Millisecond)
}

func counts(of map[string]int) string {
	var all []string
	for name, n := range of {
		all = append(all, fmt.Sprintf("%s %d", name, n))
	}
	sort.Strings(all)
	return strings.Join(all, ", ")
}

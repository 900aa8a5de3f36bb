package main

import (
	"context"
	"database/sql"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/rig"
)

func TestMain(m *testing.M) {
	if !asYardsticks() {
		m.Run()
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Whatever form an answer has, the load generator reads what net/http would.
func TestAsk(t *testing.T) {
	long := strings.Repeat("0123456789", 5000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			_, _ = w.Write([]byte(long)) // more than one buffer: chunked
		case "/flushed":
			_, _ = w.Write([]byte("one "))
			w.(http.Flusher).Flush()
			_, _ = w.Write([]byte("two"))
		case "/nothing":
			w.WriteHeader(http.StatusNoContent)
		case "/no":
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte("no"))
		}
	}))
	t.Cleanup(server.Close)
	c := &conn{address: strings.TrimPrefix(server.URL, "http://")}
	defer c.close()
	for range 2 { // over one connection
		for _, one := range []struct {
			path   string
			status int
			body   string
		}{{"/long", 200, long}, {"/flushed", 200, "one two"}, {"/nothing", 204, ""}, {"/no", 400, "no"}, {"/empty", 200, ""}} {
			status, body, err := c.ask(t.Context(), request("host", "10.0.0.1", one.path, "", ""))
			must(t, err)
			if status != one.status || string(body) != one.body {
				t.Errorf("%s: %d and %d bytes", one.path, status, len(body))
			}
		}
	}
}

// An error is counted, ends its worker alone, and is in the median of the passes.
func TestErrorsAreCounted(t *testing.T) {
	free := func() (rig.Usage, error) { return rig.Usage{}, nil }
	good := func(context.Context) error { time.Sleep(time.Millisecond); return nil }
	bad := func(context.Context) error { return errors.New("refused") }
	empty := func(context.Context) error { return errDone }
	with, err := run(t.Context(), []worker{good, bad, empty}, 50*time.Millisecond, free)
	must(t, err)
	if with.Errors != 1 || with.Error != "refused" || with.Operations < 5 {
		t.Errorf("%+v", with)
	}
	without, err := run(t.Context(), []worker{good}, 50*time.Millisecond, free)
	must(t, err)
	if without.Errors != 0 {
		t.Errorf("%+v", without)
	}
	m := median([]result{without, without, with})
	if m.Errors != 1 || m.Error != "refused" {
		t.Errorf("the median forgot the error: %+v", m)
	}
	r := &report{}
	r.add(cell{Scenario: "refresh", Database: "sqlite", Concurrency: 16, Result: m})
	if r.failed != 1 {
		t.Error("a measurement with errors is none")
	}
}

// Every scenario runs without an error, on an empty database and on a filled one,
// and so does what is measured beside them.
func TestScenarios(t *testing.T) {
	o := options{concurrency: []int{16}, passes: 1, during: 30 * time.Millisecond, rows: 3000, folder: t.TempDir()}
	var err error
	o.binary, err = rig.Build(t.Context(), "..", o.folder)
	must(t, err)
	for _, database := range []string{"sqlite", "postgres"} {
		t.Run(database, func(t *testing.T) {
			if database == "postgres" {
				if o.postgres = os.Getenv("POSTERN_TEST_POSTGRES"); o.postgres == "" {
					t.Skip("POSTERN_TEST_POSTGRES names no server: make test starts one")
				}
			}
			r := &report{Cleaned: map[string]float64{}, After: map[string]int64{}}
			measured := []func(context.Context, *report, string) error{o.matrix, o.isolation, o.growth}
			if database == "sqlite" {
				measured = append(measured, func(ctx context.Context, r *report, _ string) error { return o.floors(ctx, r) })
			}
			for _, measure := range measured {
				must(t, measure(t.Context(), r, database))
			}
			if r.failed != 0 {
				t.Errorf("%d measurements had errors", r.failed)
			}
			if refresh, ok := r.cell("refresh", database, 16); !ok || refresh.Yardsticks <= 0 {
				t.Errorf("a refresh has no yardstick: %v", refresh.Yardsticks)
			}
			if len(r.Cells) != len(scenarios()) || len(r.Isolation) != 2 || len(r.Growth) != 4 {
				t.Errorf("measured %+v", r)
			}
		})
	}
}

// A bar that is held is not among the missed, and one that is not is.
func TestPage(t *testing.T) {
	fast := result{Operations: 1000, Wall: time.Second, P50: time.Millisecond, P99: 2 * time.Millisecond, Server: 10 * time.Microsecond}
	slow := fast
	slow.Server, slow.P99, slow.Errors = time.Second, time.Second, 3
	r := &report{Machine: "a machine", Cells: []cell{
		{getYardstick, "", 16, fast, 0},
		{postYardstick, "", 16, fast, 0},
		{"refresh", "sqlite", 16, fast, 3.5},
		{"refresh", "sqlite", 64, fast, 0},
		{"flow", "sqlite", 16, slow, 40},
		{"flow", "sqlite", 64, slow, 0},
	}}
	r.Beyond = []beyond{{"refresh", fast, result{Operations: 1000, Wall: time.Second, Server: 5 * time.Microsecond}, 2, 1}}
	r.Missing = []string{"idle: no more files"}
	r.Growth = []grown{{"sqlite", "introspect", fast, fast, 1}, {"sqlite", "register", fast, slow, 2}}
	text := string(r.markdown())
	_, missed, _ := strings.Cut(text, "## Bars that are missed")
	for want, in := range map[string]bool{
		"full flow: registration": true, "growth of registration": true, "p99 of full flow": true, "growth of introspection": false,
		"refresh with rotation, ES256 in floors: 2.00, the bar is 1.71": true, "refresh with rotation, ES256 in bare": false, "refresh with rotation, ES256 on": false,
	} {
		if strings.Contains(missed, want) != in {
			t.Errorf("%q among the missed: %v\n%s", want, !in, missed)
		}
	}
	if !strings.Contains(text, "| refresh with rotation, ES256 | 0.0100 | 0.180 | held | 0.005 | 3.5 | 7.8 |") {
		t.Error("the page does not compare with the measured floor")
	}
	if !strings.Contains(text, "| 1000.0000 | 1.000 | **missed**; held in yardsticks | 0.090 | 40.0 | 43.5 |") {
		t.Error("the page does not tell a slow machine from a slow server")
	}
	if !strings.Contains(text, "**6 failed**") || !strings.Contains(text, "idle: no more files") {
		t.Error("the page hides errors")
	}
}

// The handlers of the floors do what they are said to: one row is read, one is
// changed, one is added, for each of many callers at once.
func TestLeast(t *testing.T) {
	ctx, folder := t.Context(), t.TempDir()
	l, err := newLeast(ctx, folder)
	must(t, err)
	mux := http.NewServeMux()
	l.serve(mux)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	address := strings.TrimPrefix(server.URL, "http://")
	const workers, each = 16, 10
	var all sync.WaitGroup
	for n := range workers {
		all.Go(func() {
			c := &conn{address: address}
			defer c.close()
			for range each {
				for name, want := range map[string]string{leastRefresh: `"access_token":"ey`, leastIntrospect: `"active":true`, leastRegister: `"client_name":"Bench"`} {
					status, body, err := c.ask(ctx, leastRequest(name, address, n))
					if err != nil || status != http.StatusOK || !strings.Contains(string(body), want) {
						t.Errorf("%s: %d %s, %v", name, status, body, err)
					}
				}
			}
		})
	}
	all.Wait()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(folder, "least.db"))
	must(t, err)
	defer db.Close()
	var changed, added int
	must(t, db.QueryRowContext(ctx, "SELECT count(*) FROM held WHERE hash <> zeroblob(32)").Scan(&changed))
	must(t, db.QueryRowContext(ctx, "SELECT count(*) FROM added").Scan(&added))
	if changed != leastRows || added != 2*workers*each {
		t.Errorf("%d rows changed, %d added", changed, added)
	}
}

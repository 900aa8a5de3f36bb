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

	pprof "github.com/google/pprof/profile"

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
	o := options{
		source: "..", connections: 160, concurrency: []int{16}, passes: 1, during: 30 * time.Millisecond,
		rows: 3000, folder: t.TempDir(),
	}
	var err error
	o.binary, err = rig.Build(t.Context(), o.source, o.folder)
	must(t, err)
	o.profiled, err = o.buildProfiled(t.Context())
	must(t, err)
	for _, database := range []string{"sqlite", "postgres"} {
		t.Run(database, func(t *testing.T) {
			if database == "postgres" {
				if o.postgres = os.Getenv("POSTERN_TEST_POSTGRES"); o.postgres == "" {
					t.Skip("POSTERN_TEST_POSTGRES names no server: make test starts one")
				}
			}
			r := &report{Cleaned: map[string]float64{}, After: map[string]int64{}}
			measured := []func(context.Context, *report, string) error{o.matrix, o.isolation, o.growth, o.profiles}
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
			checkProfiles(t, r)
		})
	}
}

// checkProfiles looks whether every scenario has a profile, in which the time of the
// server is shared out and Postern's own functions are found.
func checkProfiles(t *testing.T, r *report) {
	t.Helper()
	if len(r.Profiles) != len(scenarios()) {
		t.Errorf("%d profiles", len(r.Profiles))
	}
	for _, one := range r.Profiles {
		all := 0.0
		for _, part := range one.Parts {
			all += part.Part
		}
		if all < 0.999 || all > 1.001 || !strings.Contains(strings.Join(one.Calls.lines(0, ""), "\n"), "server.(*") {
			t.Errorf("the profile of %s: %+v\n%s", one.Scenario, one.Parts, strings.Join(one.Calls.lines(0, ""), "\n"))
		}
	}
	states := map[string]bool{}
	for _, f := range r.Footprints {
		states[f.When] = true
		known := int64(f.Objects + f.Free + f.Stacks + f.Own)
		if f.Bare <= 0 || f.Resident <= f.Bare/2 || known <= 0 || known > f.Resident+64<<20 {
			t.Errorf("the memory of a server %s: %+v", f.When, f)
		}
	}
	if !states[matrixState] || r.Profiles[0].Database == "sqlite" && (!states[idleState] || !states[connectionsState]) {
		t.Errorf("memory was looked at when %v", states)
	}
	if len(r.Binary) < 5 || r.Binary[0].Part < 1e6 {
		t.Errorf("the binary: %+v", r.Binary)
	}
}

// Time belongs to whoever is the innermost that is named, but for the collector,
// the allocator and the kernel.
func TestOwner(t *testing.T) {
	const ours, sqlite, http = modulePath + "internal/oauth.(*Server).Token", "modernc.org/sqlite/lib._step", "net/http.(*conn).serve"
	for want, stack := range map[string][]string{
		"Postern":             {"strings.Index", "runtime.mapaccess1", ours, http},
		"JSON":                {"reflect.Value.Set", "encoding/json.Marshal", ours, http},
		"cryptography":        {"crypto/internal/fips140/nistec.p256Mul", "crypto/ecdsa.Sign", ours},
		"SQLite":              {sqlite, "database/sql.(*Stmt).QueryContext", ours},
		"kernel, files":       {"internal/runtime/syscall/linux.Syscall6", "modernc.org/libc.Xfsync", sqlite, ours},
		"kernel, connections": {"internal/runtime/syscall/linux.Syscall6", "internal/poll.(*FD).Write", "net.(*conn).Write", http},
		"allocation":          {"runtime.nextFreeFast", "runtime.mallocgc", "strings.Clone", ours},
		"garbage collector":   {"runtime.scanobject", "runtime.gcAssistAlloc", "runtime.mallocgc", ours},
		waiting:               {"runtime.futex", "runtime.schedule", "runtime.mcall"},
	} {
		if got := owner(stack); got != want {
			t.Errorf("%v belongs to %s, not to %s", stack, got, want)
		}
	}
}

// The tree of calls has its parts right, names the ends of a chain, and leaves out
// what is small.
func TestCalls(t *testing.T) {
	var samples []*pprof.Sample
	for _, one := range []struct {
		stack string // from the outermost in
		value int64
	}{
		{"net/http.serve, P.server.answer, P.server.answer.func1, P.oauth.Token, P.oauth.mint, crypto.Sign", 600},
		{"net/http.serve, P.server.answer, P.oauth.Token, P.store.read[go.shape.struct { a int }]", 60},
		{"net/http.serve, P.server.answer, P.web.log", 20},
		{"net/http.serve", 320},
	} {
		sample := &pprof.Sample{Value: []int64{one.value / 10, one.value}}
		for name := range strings.SplitSeq(one.stack, ", ") {
			name = strings.Replace(name, "P.", modulePath+"internal/", 1)
			sample.Location = append([]*pprof.Location{{Line: []pprof.Line{{Function: &pprof.Function{Name: name}}}}}, sample.Location...)
		}
		samples = append(samples, sample)
	}
	tree := calls(&pprof.Profile{SampleType: []*pprof.ValueType{{Type: "samples"}, {Type: "cpu"}}, Sample: samples})
	want := "68 % server.answer … oauth.mint 60 %"
	if got := strings.Join(tree.lines(0.03, ""), "\n"); got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
	tree.Calls[0].Calls[0].Part = 0.5 // no chain any more
	want = "68 % server.answer\n    50 % oauth.Token … oauth.mint 60 %\n     2 % web.log"
	if got := strings.Join(tree.lines(0.02, ""), "\n"); got != want {
		t.Errorf("%s\nnot\n%s", got, want)
	}
}

// Of 100 that waited, one waited longer than the quantile says.
func TestWaits(t *testing.T) {
	before := histogram{Bounds: []float64{0.001, 0.002, 0.004}, Counts: []uint64{1000, 0, 5}}
	after := histogram{Bounds: before.Bounds, Counts: []uint64{1990, 9, 6}}
	if got := after.since(before).quantile(0.99); got != time.Millisecond {
		t.Errorf("%s", got)
	}
	if got := after.since(before).quantile(0.995); got != 2*time.Millisecond {
		t.Errorf("%s", got)
	}
	if got := (histogram{}).quantile(0.99); got != 0 {
		t.Errorf("nobody waited %s", got)
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
		{getYardstick, "", 64, fast, 0},
		{postYardstick, "", 64, fast, 0},
		{"flow", "sqlite", 16, slow, 40},
		{"flow", "sqlite", 64, slow, 0},
	}}
	r.Beyond = []beyond{{"refresh", fast, result{Operations: 1000, Wall: time.Second, Server: 5 * time.Microsecond}, 2, 1}}
	r.Profiles = []profiled{{
		Scenario: "flow", Database: "sqlite", At16: slow, At64: slow, Wait: 5 * time.Millisecond,
		Parts: []share{{"SQLite", 0.6}, {"pages", 0.4}}, Calls: &call{Calls: []*call{{Name: "server.answer", Part: 0.9}}},
	}}
	r.Footprints = []footprint{{When: idleState, Database: "sqlite", Bare: 13 << 20, Resident: 40 << 20, Objects: 5 << 20, Sites: []share{{"bufio.NewReaderSize", 3 << 20}}}}
	r.Starts = []starts{{Database: "sqlite", Binary: 40e6, Idle: 40 << 20}}
	r.Binary = []share{{"Postern", 3.1e6}}
	r.SDK = []sdk{{"Read", 2.5, 1}, {"Rejected/expired", 6, 22}}
	r.Refused = profiled{Parts: []share{{"JSON", 0.7}}, Calls: &call{Calls: []*call{{Name: "guard.parseClaims", Part: 0.5}}}}
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
	for _, want := range []string{
		"* full flow: registration, sign-in by code, consent, token (ES256, no id_token) on SQLite: 1000.000 ms, 40.0 yardsticks, the bar is 1.000 ms, 43.5 yardsticks; it cannot cost less than 0.090 ms here.",
		"* p99 of full flow: registration, sign-in by code, consent, token (ES256, no id_token) on SQLite at 64: 1000.0 × p50, the bar is 6 × p50; bare handlers have 2.0.",
		"* binary, stripped: 40.0 MB, the bar is 30 MB; functions and data of Postern are 3.1 of it.",
		"* resident memory, idle: 40.0 MiB, the bar is 24 MiB; bare handlers take 13.0.",
		"* guard, refused before cryptography: expired: 6.00 µs, 22 allocations, the bar is 5.0 µs; base64, and whether it is JSON, take 2.50 µs.",
	} {
		if !strings.Contains(missed, want) {
			t.Errorf("among the missed is not\n%s\n%s", want, missed)
		}
	}
	for _, want := range []string{
		"| SQLite | 60 % |", "| pages | 40 % |", "90 % server.answer", "| idle | SQLite | 40.0 | 13.0 | 5.0 |", "`bufio.NewReaderSize` 3.0",
		"| Postern | 3.1 |", "JSON 70 %", "50 % guard.parseClaims", "one is longer than, ms | 5.0 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
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

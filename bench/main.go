// Command bench measures what a built Postern costs, and writes the page about it.
//
//	make bench                                       everything; writes docs/guide/performance.md
//	make bench ARGS=-quick                           everything once, briefly
//	go run ./bench -only refresh,flow -db sqlite -c 16 -binary ./postern
//
// `make bench` gives it a PostgreSQL server of its own. It starts the server as
// a process of its own and speaks to it over HTTP from this one; the figure that
// counts is the server's CPU time for each operation, because requests a second
// move with whatever else the machine does. A scenario in which anything fails is
// printed, and the exit code is 1.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/postern-id/postern/internal/rig"
)

// options is what the command line says.
type options struct {
	only        []string
	databases   []string
	concurrency []int
	passes      int
	during      time.Duration
	binary      string
	profiled    string // the same built with -tags profile
	postgres    string // URL of a server on which databases may be made
	source      string // folder of the checkout
	folder      string
	page        string // where the page about everything goes, "" for none
	rows        int    // of the filled database
	connections int    // that do nothing
	limit       time.Duration
}

func main() {
	if asYardsticks() {
		return
	}
	o := options{source: ".", connections: 10_000, databases: []string{"sqlite", "postgres"}, concurrency: []int{1, 16, 64, 256}}
	flag.Func("only", "parts or scenarios, with commas between them (default: all): yardsticks, floors, start, matrix, pool, isolation, clean, growth, idle, guard, profiles; "+
		"introspect-first, introspect, refresh, refresh-rs256, register, metadata, jwks, flow", func(text string) error {
		o.only = strings.Split(text, ",")
		return nil
	})
	flag.Func("db", "sqlite or postgres (default: both)", func(text string) error {
		o.databases = strings.Split(text, ",")
		return nil
	})
	flag.Func("c", "requests at once, with commas between them (default 1,16,64,256)", func(text string) error {
		o.concurrency = nil
		for one := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(one)
			if err != nil || n < 1 || n > 1000 {
				return errors.New("write numbers from 1 to 1000")
			}
			o.concurrency = append(o.concurrency, n)
		}
		return nil
	})
	flag.IntVar(&o.passes, "passes", 3, "passes of each measurement; the median counts")
	flag.DurationVar(&o.during, "time", time.Second, "how long a pass is")
	flag.IntVar(&o.rows, "rows", manyRows, "rows of each table of the large database of growth")
	flag.DurationVar(&o.limit, "limit", 25*time.Minute, "when to end; the page names what is missing")
	flag.StringVar(&o.page, "page", "", "where the page about the run goes (default: none)")
	flag.StringVar(&o.binary, "binary", "", "a built Postern (default: this checkout is built)")
	quick := flag.Bool("quick", false, "one pass of half a second at 16 requests at once, and 10,000 rows")
	flag.Parse()
	if *quick {
		o.passes, o.during, o.concurrency, o.rows = 1, 500*time.Millisecond, []int{16}, 10_000
	}
	o.postgres = os.Getenv("POSTERN_TEST_POSTGRES")

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := measure(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// asYardsticks serves the yardsticks where this process was started for that.
func asYardsticks() bool {
	if len(os.Args) != 3 || os.Args[1] != yardstickCommand {
		return false
	}
	if err := serveYardsticks(context.Background(), os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	return true
}

func measure(ctx context.Context, o options) (err error) {
	if o.folder, err = os.MkdirTemp("", "postern-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.folder)
	if o.binary == "" {
		if o.binary, err = rig.Build(ctx, o.source, o.folder); err != nil {
			return err
		}
	}
	if o.chosen("profiles") { // now: the source may change while the rest is measured
		if o.profiled, err = o.buildProfiled(ctx); err != nil {
			return err
		}
	}
	r := &report{
		Machine: describeMachine(), Revision: revision(ctx), Date: time.Now().UTC().Format(time.DateOnly),
		Passes: o.passes, During: o.during, Rows: o.rows, Cleaned: map[string]float64{}, After: map[string]int64{},
	}
	fmt.Println(r.Machine)
	limited, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	for _, part := range o.parts(limited, r) {
		if !o.chosen(part.name) {
			continue
		}
		err := limited.Err()
		if err == nil {
			err = part.measure()
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if limited.Err() != nil {
			err = fmt.Errorf("not done within %s", o.limit)
		}
		if err != nil { // the others can be measured all the same
			what := strings.TrimSpace(part.name + " " + title(part.database))
			r.Missing = append(r.Missing, fmt.Sprintf("%s: %s", what, err))
			fmt.Fprintf(os.Stderr, "bench: %s: %s\n", what, err)
		}
	}
	if o.page != "" {
		if err := os.WriteFile(o.page, r.markdown(), 0o644); err != nil { //nolint:gosec // a page for everybody
			return err
		}
	}
	if r.failed > 0 || len(r.Missing) > 0 {
		return fmt.Errorf("%d measurements had errors, %d parts are missing", r.failed, len(r.Missing))
	}
	return nil
}

// part is what -only names; the scenarios of the matrix are named one by one.
type part struct {
	name     string
	database string // "" for one that is measured once
	measure  func() error
}

func (o options) parts(ctx context.Context, r *report) []part {
	all := []part{
		{"yardsticks", "", func() error { return o.yardsticks(ctx, r) }},
		{"floors", "", func() error { return o.floors(ctx, r) }},
	}
	for _, database := range o.databases {
		all = append(all,
			part{"start", database, func() error { return o.starting(ctx, r, database) }},
			part{"matrix", database, func() error { return o.matrix(ctx, r, database) }},
			part{"pool", database, func() error { return o.poolOfOne(ctx, r, database) }},
			part{"isolation", database, func() error { return o.isolation(ctx, r, database) }},
			part{"clean", database, func() error { return o.cleaning(ctx, r, database) }},
			part{"growth", database, func() error { return o.growth(ctx, r, database) }},
		)
	}
	all = append(all,
		part{"idle", "", func() error { return o.idling(ctx, r) }},
		part{"guard", "", func() error { return o.guard(ctx, r) }},
	)
	for _, database := range o.databases {
		all = append(all, part{"profiles", database, func() error { return o.profiles(ctx, r, database) }})
	}
	return all
}

// revision is the commit that was measured.
func revision(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output()
	if err != nil {
		return "an unknown revision"
	}
	return strings.TrimSpace(string(out))
}

// newWorld starts a server on a new database.
func (o options) newWorld(ctx context.Context, database string, env ...string) (*world, error) {
	folder, err := os.MkdirTemp(o.folder, database+"-")
	if err != nil {
		return nil, err
	}
	c := rig.Config{Binary: o.binary, Folder: filepath.Join(folder, "server"), Env: env}
	if database == "postgres" {
		if c.Postgres = o.postgres; c.Postgres == "" {
			return nil, errors.New("POSTERN_TEST_POSTGRES names no server; make bench starts one")
		}
	}
	server, err := rig.New(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := server.Start(ctx); err != nil {
		return nil, errors.Join(err, server.Close(ctx))
	}
	return &world{server: server, folder: folder, held: map[string][]*holder{}, made: time.Now()}, nil
}

// close ends the server and removes its data: a filled database has gigabytes.
func (w *world) close(ctx context.Context) error {
	w.disconnect()
	for _, c := range w.idle {
		c.close()
	}
	return errors.Join(w.server.Close(ctx), os.RemoveAll(w.folder))
}

// chosen reports whether the command line asks for a part or a scenario.
func (o options) chosen(name string) bool {
	if name == "matrix" && slices.ContainsFunc(scenarios(), func(s scenario) bool { return slices.Contains(o.only, s.name) }) {
		return true
	}
	return o.only == nil || slices.Contains(o.only, name)
}

// inMatrix reports whether the command line asks for a scenario of the matrix.
func (o options) inMatrix(name string) bool {
	return o.chosen(name) || slices.Contains(o.only, "matrix")
}

// matrix measures the chosen scenarios on a database, and the memory after them.
func (o options) matrix(ctx context.Context, r *report, database string) (err error) {
	w, err := o.newWorld(ctx, database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	y, err := o.startYardsticks(ctx)
	if err != nil {
		return err
	}
	defer y.close()
	var rows []cell
	for _, s := range scenarios() {
		for _, c := range o.concurrency {
			if o.inMatrix(s.name) {
				rows = append(rows, cell{Scenario: s.name, Database: database, Concurrency: c})
			}
		}
	}
	// One pass of everything after another: a machine that is slow for a minute
	// has no row for itself. Nor is its yardstick that of another minute.
	one := o
	one.passes = 1
	passes, ratios := make([][]result, len(rows)), make([][]float64, len(rows))
	for range o.passes {
		for i, row := range rows {
			m, err := one.passesOf(ctx, w, named(row.Scenario), row.Concurrency)
			if err != nil {
				return fmt.Errorf("%s at %d: %w", row.Scenario, row.Concurrency, err)
			}
			passes[i] = append(passes[i], m)
			if row.Concurrency != 16 {
				continue
			}
			bare, err := y.pass(ctx, yardstickOf(row.Scenario), 16, o.during/2)
			if err != nil {
				return err
			}
			ratios[i] = append(ratios[i], float64(m.cpu())/float64(bare.Server))
		}
	}
	fmt.Println()
	r.head()
	for i, row := range rows {
		row.Result = median(passes[i])
		if len(ratios[i]) > 0 {
			row.Yardsticks = middle(ratios[i])
		}
		r.add(row)
	}
	now, most, err := w.server.Memory()
	if err != nil {
		return err
	}
	r.After[database] = now
	fmt.Printf("memory after it: %.1f MiB, %.1f at most\n", mib(now), mib(most))
	return nil
}

// poolOfOne measures every scenario on a server with a single connection to its
// database: nothing may wait for a second one.
func (o options) poolOfOne(ctx context.Context, r *report, database string) (err error) {
	w, err := o.newWorld(ctx, database, "POSTERN_DATABASE_CONNECTIONS=1")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	fmt.Println()
	r.head()
	o.passes = 1
	for _, s := range scenarios() {
		m, err := o.passesOf(ctx, w, s, 64)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		r.add(cell{Scenario: s.name + poolMark, Database: database, Concurrency: 64, Result: m})
	}
	return nil
}

// poolMark follows the name of a scenario on a server with one connection.
const poolMark = ", pool of 1"

// warm is how long workers work before they are measured.
const warm = 200 * time.Millisecond

// passesOf measures a scenario as often as the command line says, after a warm-up.
func (o options) passesOf(ctx context.Context, w *world, s scenario, c int) (result, error) {
	var passes []result
	for range o.passes {
		workers, err := s.workers(ctx, w, c)
		if err != nil {
			return result{}, err
		}
		if !s.scarce {
			if _, err := run(ctx, workers, warm, w.server.Usage); err != nil {
				return result{}, err
			}
		}
		r, err := run(ctx, workers, o.during, w.server.Usage)
		w.disconnect()
		if err != nil {
			return result{}, err
		}
		passes = append(passes, r)
	}
	return median(passes), nil
}

// Command bench measures what a built Postern costs, and writes the page about it.
//
//	go run ./bench                                   everything; writes docs/guide/performance.md
//	go run ./bench -quick                            one concurrency, one short pass, no page
//	go run ./bench -only refresh,flow -db sqlite -c 16 -binary ./postern
//
// `make bench` runs it with a PostgreSQL server of its own. It starts the server as
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
	postgres    string // URL of a server on which databases may be made
	folder      string
}

func main() {
	o := options{databases: []string{"sqlite", "postgres"}, concurrency: []int{1, 16, 64, 256}}
	flag.Func("only", "scenarios, with commas between them (default: all)", func(text string) error {
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
	flag.DurationVar(&o.during, "time", 1500*time.Millisecond, "how long a pass is")
	flag.StringVar(&o.binary, "binary", "", "a built Postern (default: this checkout is built)")
	quick := flag.Bool("quick", false, "one pass of half a second at 16 requests at once")
	flag.Parse()
	if *quick {
		o.passes, o.during, o.concurrency = 1, 500*time.Millisecond, []int{16}
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

func measure(ctx context.Context, o options) (err error) {
	if o.folder, err = os.MkdirTemp("", "postern-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.folder)
	if o.binary == "" {
		if o.binary, err = rig.Build(ctx, ".", o.folder); err != nil {
			return err
		}
	}
	fmt.Println(describeMachine())
	failed := 0
	for _, database := range o.databases {
		n, err := o.matrix(ctx, database)
		if err != nil {
			return fmt.Errorf("%s: %w", database, err)
		}
		failed += n
	}
	if failed > 0 {
		return fmt.Errorf("%d measurements had errors", failed)
	}
	return nil
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
	return &world{server: server, held: map[string][]*holder{}}, nil
}

func (w *world) close(ctx context.Context) error {
	w.disconnect()
	return w.server.Close(ctx)
}

// chosen reports whether the command line asks for a scenario.
func (o options) chosen(name string) bool { return o.only == nil || slices.Contains(o.only, name) }

// matrix measures the chosen scenarios on a database and returns how many of the
// measurements had errors.
func (o options) matrix(ctx context.Context, database string) (failed int, err error) {
	w, err := o.newWorld(ctx, database)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	fmt.Printf("\n%-18s %-9s %4s %9s %9s %9s %9s %9s %7s %6s\n", "scenario", "database", "c", "op/s", "p50 ms", "p99 ms", "CPU ms", "db ms", "others", "errors")
	for _, s := range scenarios() {
		if !o.chosen(s.name) {
			continue
		}
		for _, c := range o.concurrency {
			r, err := o.passesOf(ctx, w, s, c)
			if err != nil {
				return failed, fmt.Errorf("%s at %d: %w", s.name, c, err)
			}
			fmt.Printf("%-18s %-9s %4d %9.0f %9.3f %9.3f %9.4f %9.4f %6.0f%% %6d %s\n", s.name, database, c,
				r.rate(), ms(r.P50), ms(r.P99), ms(r.Server), ms(r.Database), r.Others*100, r.Errors, r.Error)
			if r.Errors > 0 || r.Operations == 0 {
				failed++
			}
		}
	}
	return failed, nil
}

// passesOf measures a scenario as often as the command line says, after a warm-up.
func (o options) passesOf(ctx context.Context, w *world, s scenario, c int) (result, error) {
	var passes []result
	for range o.passes {
		workers, err := s.workers(ctx, w, c)
		if err != nil {
			return result{}, err
		}
		if !s.scarce {
			if _, err := run(ctx, workers, 200*time.Millisecond, w.server.Usage); err != nil {
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

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

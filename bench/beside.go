package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// beside compares what a scenario costs alone and while something else goes on.
type beside struct {
	Database string
	Scenario string
	Alone    result
	Beside   result
	Other    float64 // how many a second of the other work were done
}

// ratio is how much longer the slowest wait meanwhile.
func (b beside) ratio() float64 { return float64(b.Beside.P99) / float64(b.Alone.P99) }

// isolation measures introspection and refresh while 16 browsers have passwords
// checked without pause. The passwords are those of the dashboard: the only ones
// there are. Nobody has the address, which costs the same as a wrong password.
func (o options) isolation(ctx context.Context, r *report, database string) (err error) {
	w, err := o.newWorld(ctx, database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	const c, browsers = 16, 16
	for _, name := range []string{"introspect", "refresh"} {
		var alone, with []result
		var tried float64
		for range o.passes {
			workers, err := named(name).workers(ctx, w, c)
			if err != nil {
				return err
			}
			if _, err := run(ctx, workers, warm, w.server.Usage); err != nil {
				return err
			}
			one, err := run(ctx, workers, o.during, w.server.Usage)
			if err != nil {
				return err
			}
			alone = append(alone, one)

			var done atomic.Int64
			hashing, stop := context.WithCancel(ctx)
			failed := make(chan error, 1)
			go func() {
				failed <- inParallel(browsers, func() error {
					c := &conn{address: w.server.Listen}
					defer c.close()
					for hashing.Err() == nil {
						if err := w.wrongPassword(hashing, c, &done); err != nil && hashing.Err() == nil {
							return err
						}
					}
					return nil
				})
			}()
			if err := sleep(ctx, warm); err != nil {
				stop()
				return err
			}
			before := done.Load()
			one, err = run(ctx, workers, o.during, w.server.Usage)
			tried += float64(done.Load()-before) / one.Wall.Seconds()
			stop()
			if err := errors.Join(err, <-failed); err != nil {
				return err
			}
			with = append(with, one)
			w.disconnect()
		}
		r.beside(&r.Isolation, beside{database, name, median(alone), median(with), tried / float64(o.passes)})
	}
	return nil
}

// wrongPassword tries to sign in to the dashboard. A line that is full is an
// answer too, but no password was checked.
func (w *world) wrongPassword(ctx context.Context, c *conn, done *atomic.Int64) error {
	body := fmt.Sprintf("email=nobody%d%%40example.test&password=not+the+password&code=000000&next=%%2Fdashboard", w.asked.Load())
	more := form + "Origin: " + w.server.Issuer + "\r\nSec-Fetch-Site: same-origin\r\n"
	status, answer, err := c.ask(ctx, w.request(w.from(), "/dashboard/sign-in", more, body))
	switch {
	case err != nil:
		return err
	case status == 403:
		done.Add(1)
	case status == 503:
		return sleep(ctx, 50*time.Millisecond)
	default:
		return fmt.Errorf("sign-in to the dashboard: %d %.300s", status, answer)
	}
	return nil
}

// expired is how many families and how many codes have run out when the clean-up
// begins.
const expired = 100_000

// cleaning measures the clean-up of rows that have run out, alone and with refresh
// going on.
func (o options) cleaning(ctx context.Context, r *report, database string) (err error) {
	w, err := o.newWorld(ctx, database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	refresh := named("refresh")
	workers, err := refresh.workers(ctx, w, 16)
	if err != nil {
		return err
	}
	alone, err := run(ctx, workers, 3*o.during, w.server.Usage)
	w.disconnect()
	if err != nil {
		return err
	}
	if err := w.server.Stop(); err != nil {
		return err
	}
	rows, err := w.fillExpired(ctx, expired)
	if err != nil {
		return err
	}
	// The clean-up begins when the server has started.
	if err := w.server.Start(ctx); err != nil {
		return err
	}
	took, err := w.untilClean(ctx)
	if err != nil {
		return err
	}
	r.cleaned(database, float64(rows)/took.Seconds())

	if err := w.server.Stop(); err != nil {
		return err
	}
	if rows, err = w.fillExpired(ctx, expired); err != nil {
		return err
	}
	if err := w.server.Start(ctx); err != nil {
		return err
	}
	if workers, err = refresh.workers(ctx, w, 16); err != nil {
		return err
	}
	var with result
	loaded := make(chan error, 1)
	done := make(chan struct{})
	go func() {
		var err error
		with, err = runUntil(ctx, workers, done, w.server.Usage)
		loaded <- err
	}()
	took, err = w.untilClean(ctx)
	close(done)
	if err := errors.Join(err, <-loaded); err != nil {
		return err
	}
	w.disconnect()
	r.beside(&r.Cleaning, beside{database, "refresh", alone, with, float64(rows) / took.Seconds()})
	return nil
}

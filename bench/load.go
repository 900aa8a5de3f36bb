package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postern-id/postern/internal/rig"
)

// worker does one operation after another, over a connection of its own. It
// returns errDone when it has no more to do.
type worker func(ctx context.Context) error

// errDone ends a load before its time.
var errDone = errors.New("nothing left to do")

// result is one measurement.
type result struct {
	Operations int           `json:"operations"`
	Errors     int           `json:"errors"`
	Error      string        `json:"error,omitempty"` // the first
	Wall       time.Duration `json:"wall"`
	P50        time.Duration `json:"p50"`
	P99        time.Duration `json:"p99"`
	Server     time.Duration `json:"server"`   // CPU time for each operation
	Database   time.Duration `json:"database"` // the same of PostgreSQL's backends
	Others     float64       `json:"others"`   // cores that others used meanwhile
}

// rate is how many operations a second were done.
func (r result) rate() float64 { return float64(r.Operations) / r.Wall.Seconds() }

// cpu is the CPU time for each operation, of server and database.
func (r result) cpu() time.Duration { return r.Server + r.Database }

// meter reads what the measured side has used so far.
type meter func() (rig.Usage, error)

// run lets all workers work for a time, and says what it cost. Errors do not end
// it, but the worker that had one: a benchmark with errors is no benchmark.
func run(ctx context.Context, workers []worker, during time.Duration, of meter) (result, error) {
	done := make(chan struct{})
	timer := time.AfterFunc(during, func() { close(done) })
	defer timer.Stop()
	return runUntil(ctx, workers, done, of)
}

// runUntil does the same until done is closed.
func runUntil(ctx context.Context, workers []worker, done <-chan struct{}, of meter) (result, error) {
	var r result
	var mu sync.Mutex
	took := make([][]time.Duration, len(workers))
	before, err := of()
	if err != nil {
		return r, err
	}
	machine, err := readMachine()
	if err != nil {
		return r, err
	}
	var stop atomic.Bool
	go func() {
		select {
		case <-done:
		case <-ctx.Done():
		}
		stop.Store(true)
	}()
	began := time.Now()
	var group sync.WaitGroup
	for i, work := range workers {
		group.Go(func() {
			mine := make([]time.Duration, 0, 1<<12)
			for once := true; once || !stop.Load(); once = false { // at least one, however busy the machine is
				at := time.Now()
				if err := work(ctx); err != nil {
					if !errors.Is(err, errDone) {
						mu.Lock()
						if r.Errors++; r.Error == "" {
							r.Error = err.Error()
						}
						mu.Unlock()
					}
					break
				}
				mine = append(mine, time.Since(at))
			}
			took[i] = mine
		})
	}
	group.Wait()
	r.Wall = time.Since(began)
	after, err := of()
	if err != nil {
		return r, err
	}
	machineAfter, err := readMachine()
	if err != nil {
		return r, err
	}
	all := slices.Concat(took...)
	r.Operations = len(all)
	if r.Operations == 0 {
		return r, nil
	}
	slices.Sort(all)
	r.P50, r.P99 = quantile(all, 0.5), quantile(all, 0.99)
	used := after.Minus(before)
	r.Server = used.Server / time.Duration(len(all))
	r.Database = used.Backends / time.Duration(len(all))
	ours := used.Server + used.Backends + used.Shared + machineAfter.self - machine.self
	r.Others = max(0, float64(machineAfter.busy-machine.busy-ours)/float64(r.Wall))
	return r, nil
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// median is the measurement in the middle by CPU time, with the errors of all.
func median(passes []result) result {
	sorted := slices.SortedFunc(slices.Values(passes), func(a, b result) int { return int(a.cpu() - b.cpu()) })
	middle := func(of func(result) time.Duration) time.Duration {
		values := make([]time.Duration, len(passes))
		for i, p := range passes {
			values[i] = of(p)
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	r := sorted[len(sorted)/2]
	r.P50 = middle(func(p result) time.Duration { return p.P50 })
	r.P99 = middle(func(p result) time.Duration { return p.P99 })
	r.Errors, r.Error = 0, ""
	for _, p := range passes {
		if r.Errors += p.Errors; r.Error == "" {
			r.Error = p.Error
		}
	}
	return r
}

// conn is a connection that sends prepared bytes and reads just enough of the
// answer. net/http's client costs as much as the server that is measured, on the
// same cores.
type conn struct {
	address string
	net     net.Conn
	r       *bufio.Reader
	body    bytes.Buffer
}

func (c *conn) close() {
	if c.net != nil {
		c.net.Close()
		c.net = nil
	}
}

// ask sends a request and returns status and body; the body is good until the
// next call.
func (c *conn) ask(ctx context.Context, request []byte) (int, []byte, error) {
	status, body, err := c.try(ctx, request)
	if err != nil {
		c.close()
	}
	return status, body, err
}

// answerTime is how long an answer is waited for: what hangs is an error.
const answerTime = 30 * time.Second

func (c *conn) try(ctx context.Context, request []byte) (int, []byte, error) {
	if c.net == nil {
		var dialer net.Dialer
		dialed, err := dialer.DialContext(ctx, "tcp", c.address)
		if err != nil {
			return 0, nil, err
		}
		c.net, c.r = dialed, bufio.NewReaderSize(dialed, 8<<10)
	}
	if err := c.net.SetDeadline(time.Now().Add(answerTime)); err != nil {
		return 0, nil, err
	}
	if _, err := c.net.Write(request); err != nil {
		return 0, nil, err
	}
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return 0, nil, err
	}
	if len(line) < len("HTTP/1.1 200") {
		return 0, nil, fmt.Errorf("not an answer: %q", line)
	}
	status, err := strconv.Atoi(string(line[9:12]))
	if err != nil {
		return 0, nil, err
	}
	length, chunked := -1, false
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return 0, nil, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if len(line) == 0 {
			break
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, nil, err
			}
		}
		chunked = chunked || bytes.Equal(line, []byte("Transfer-Encoding: chunked"))
	}
	c.body.Reset()
	switch {
	case chunked:
		err = c.chunks()
	case length > 0:
		_, err = io.CopyN(&c.body, c.r, int64(length))
	}
	return status, c.body.Bytes(), err
}

func (c *conn) chunks() error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil {
			return err
		}
		n, err := strconv.ParseInt(string(bytes.TrimRight(line, "\r\n")), 16, 64)
		if err != nil {
			return err
		}
		if _, err := io.CopyN(&c.body, c.r, n); err != nil {
			return err
		}
		if _, err := c.r.Discard(2); err != nil || n == 0 {
			return err
		}
	}
}

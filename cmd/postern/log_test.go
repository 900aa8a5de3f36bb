package main

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// writes remembers each write that reached the system.
type writes struct {
	mu  sync.Mutex
	all []string
}

func (w *writes) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, string(b))
	return len(b), nil
}

// take returns how many lines each write since the last call had.
func (w *writes) take() (counts []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, one := range w.all {
		counts = append(counts, strings.Count(one, "\n"))
	}
	w.all = nil
	return counts
}

// Lines wait for each other, but not for long, and not behind a warning; none is
// lost, whatever the number of writers.
func TestLogLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &writes{}
		log, flush := newLog(w, Log{Level: "info", Format: "json"})
		expect := func(when string, want ...int) {
			t.Helper()
			synctest.Wait()
			got := w.take()
			if len(got) != len(want) {
				t.Fatalf("%s: writes of %v lines, want %v", when, got, want)
			}
			for i := range want {
				if got[i] != want[i] {
					t.Errorf("%s: writes of %v lines, want %v", when, got, want)
				}
			}
		}
		log.Info("one")
		log.With("k", "v").WithGroup("g").Info("two", "a", 1)
		log.Debug("never")
		expect("at once")
		time.Sleep(linesWait)
		expect("after the wait", 2)
		time.Sleep(10 * linesWait)
		expect("later")

		log.Info("three")
		log.Warn("four")
		expect("a warning", 2)
		log.WithGroup("g").Error("five")
		expect("an error", 1)

		log.Info("six")
		flush()
		flush()
		expect("the end", 1)

		log.Info("long", "text", strings.Repeat("x", linesFull))
		expect("as much as may wait", 1)

		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 500 {
					log.Info("many")
				}
			})
		}
		all.Wait()
		flush()
		sum := 0
		for _, n := range w.take() {
			sum += n
		}
		if sum != 4000 {
			t.Errorf("%d lines of 4000", sum)
		}
	})
}

func TestLogFormat(t *testing.T) {
	t.Parallel()
	for format, want := range map[string]string{"json": `"msg":"hello"`, "text": "msg=hello"} {
		var out strings.Builder
		log, flush := newLog(&out, Log{Level: "error", Format: format})
		log.Info("nobody asked")
		log.Error("hello")
		flush()
		if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "nobody") {
			t.Errorf("%s: %s", format, out.String())
		}
	}
}

//go:build unix

package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// outcome of one test; when a test ran more than once the highest counts.
type outcome int

const (
	skipped outcome = iota
	passed
	failed
)

// suite collects the results of all stages.
type suite struct {
	out     io.Writer
	ci      bool // what is missing is a failure, not a skip
	results map[string]outcome
	times   map[string]time.Duration // by package, over all stages
	missing []string                 // sentences about what did not run
}

func newSuite(out io.Writer, ci bool) *suite {
	return &suite{out: out, ci: ci, results: map[string]outcome{}, times: map[string]time.Duration{}}
}

func (s *suite) record(name string, o outcome) {
	if before, ok := s.results[name]; !ok || o > before {
		s.results[name] = o
	}
}

// fail records and prints a failure outside any test.
func (s *suite) fail(name string, err error) {
	s.record(name, failed)
	fmt.Fprintf(s.out, "FAIL  %s: %v\n", name, err)
}

// lacks says that a part could not run on this machine.
func (s *suite) lacks(sentence string) {
	if s.ci {
		s.record(sentence, failed)
		fmt.Fprintf(s.out, "FAIL  %s\n", sentence)
		return
	}
	s.missing = append(s.missing, sentence)
}

func (s *suite) count(o outcome) int {
	n := 0
	for _, result := range s.results {
		if result == o {
			n++
		}
	}
	return n
}

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of a failed build, instead of Package
	Test        string
	Output      string
	Elapsed     float64 // seconds
	FailedBuild string  // ImportPath of the build that this package lacked
}

// run follows one run of `go test -json`, which is written to it: it prints a
// line for every package, and the output of what failed.
type run struct {
	suite   *suite
	partial []byte                        // a line whose end was not written yet
	output  map[testName]*strings.Builder // of unfinished tests, and of builds
	tests   map[string]int                // finished tests by package
	broken  map[string]bool               // packages with a failed test
	failed  bool                          // something failed and was recorded
}

type testName struct{ pkg, test string }

func (s *suite) newRun() *run {
	return &run{suite: s, output: map[testName]*strings.Builder{}, tests: map[string]int{}, broken: map[string]bool{}}
}

func (r *run) Write(p []byte) (int, error) {
	r.partial = append(r.partial, p...)
	for {
		line, rest, ok := bytes.Cut(r.partial, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		var e event
		if json.Unmarshal(line, &e) == nil {
			r.event(e)
		} else {
			fmt.Fprintf(r.suite.out, "%s\n", line)
		}
		r.partial = rest
	}
}

func (r *run) event(e event) {
	name := testName{cmp.Or(e.Package, e.ImportPath), e.Test}
	switch e.Action {
	case "output", "build-output":
		if r.output[name] == nil {
			r.output[name] = &strings.Builder{}
		}
		r.output[name].WriteString(e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.endPackage(e)
			return
		}
		r.tests[e.Package]++
		r.suite.record(e.Package+" "+e.Test, map[string]outcome{"pass": passed, "fail": failed, "skip": skipped}[e.Action])
		if e.Action == "fail" {
			r.failed, r.broken[e.Package] = true, true
			fmt.Fprint(r.suite.out, r.output[name])
		}
		delete(r.output, name)
	}
}

func (r *run) endPackage(e event) {
	s := r.suite
	s.times[e.Package] += time.Duration(e.Elapsed * float64(time.Second))
	if e.Action != "fail" {
		if r.tests[e.Package] > 0 {
			fmt.Fprintf(s.out, "ok    %-60s %5d tests %7.1f s\n", e.Package, r.tests[e.Package], e.Elapsed)
		}
		return
	}
	if !r.broken[e.Package] {
		// It did not build, ended outside a test, or ran out of time.
		s.record(e.Package, failed)
		r.failed = true
		for name, text := range r.output {
			if name.pkg == e.Package || name.pkg == e.FailedBuild {
				fmt.Fprint(s.out, text)
			}
		}
	}
	fmt.Fprintf(s.out, "FAIL  %-60s %5d tests %7.1f s\n", e.Package, r.tests[e.Package], e.Elapsed)
}

// report prints what was slow, what did not run and what failed; its last line
// is the count. It says whether all is well.
func (s *suite) report() bool {
	slowest := slices.SortedFunc(maps.Keys(s.times), func(a, b string) int { return cmp.Compare(s.times[b], s.times[a]) })
	fmt.Fprintln(s.out, "\nSlowest packages:")
	for _, pkg := range slowest[:min(10, len(slowest))] {
		fmt.Fprintf(s.out, "  %7.1f s  %s\n", s.times[pkg].Seconds(), pkg)
	}
	if n := s.count(skipped); n+len(s.missing) > 0 {
		fmt.Fprintf(s.out, "\nDid not run: %d tests\n", n)
		s.list(skipped)
		for _, sentence := range s.missing {
			fmt.Fprintf(s.out, "  %s\n", sentence)
		}
	}
	if s.count(failed) > 0 {
		fmt.Fprintln(s.out, "\nFailed:")
		s.list(failed)
	}
	if s.count(passed) == 0 {
		s.record("nothing ran", failed)
	}
	fmt.Fprintf(s.out, "\n%d passed, %d failed\n", s.count(passed), s.count(failed))
	return s.count(failed) == 0
}

// list prints the names of the tests with an outcome.
func (s *suite) list(o outcome) {
	for _, name := range slices.Sorted(maps.Keys(s.results)) {
		if s.results[name] == o {
			fmt.Fprintf(s.out, "  %s\n", name)
		}
	}
}

//go:build unix

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRunCountsAndShowsFailures(t *testing.T) {
	tests := []struct {
		name           string
		lines          string
		passed, failed int
		shows, hides   string
	}{
		{
			name: "a failed test shows its output, a passed one does not",
			lines: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"output","Package":"p","Test":"TestB","Output":"b.go:7: want 1\n"}
{"Action":"fail","Package":"p","Test":"TestB","Elapsed":0.1}
{"Action":"fail","Package":"p","Elapsed":0.3}
`,
			passed: 1, failed: 1, shows: "b.go:7: want 1", hides: "quiet",
		},
		{
			name: "a package that does not build is one failure and shows why",
			lines: `{"ImportPath":"p [p.test]","Action":"build-output","Output":"p/a.go:3: undefined: x\n"}
{"ImportPath":"p [p.test]","Action":"build-fail"}
{"Action":"fail","Package":"p","Elapsed":0,"FailedBuild":"p [p.test]"}
`,
			failed: 1, shows: "undefined: x",
		},
		{
			name: "a package that ends outside a test is one failure and shows all",
			lines: `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"p","Elapsed":900}
`,
			failed: 1, shows: "timed out",
		},
		{
			name:  "a line that is not an event is passed on",
			lines: "go: no such tool\n",
			shows: "no such tool",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			s := newSuite(&out, false)
			run := s.newRun()
			for i := range len(test.lines) { // in the smallest pieces
				if _, err := run.Write([]byte{test.lines[i]}); err != nil {
					t.Fatal(err)
				}
			}
			if s.count(passed) != test.passed || s.count(failed) != test.failed {
				t.Errorf("counted %d passed, %d failed; want %d, %d", s.count(passed), s.count(failed), test.passed, test.failed)
			}
			if !strings.Contains(out.String(), test.shows) {
				t.Errorf("output lacks %q:\n%s", test.shows, &out)
			}
			if test.hides != "" && strings.Contains(out.String(), test.hides) {
				t.Errorf("output has %q:\n%s", test.hides, &out)
			}
		})
	}
}

func TestSuiteKeepsTheWorstResult(t *testing.T) {
	tests := []struct {
		name    string
		results []outcome
		want    outcome
	}{
		{"skipped without PostgreSQL, passed with it", []outcome{skipped, passed}, passed},
		{"passed on SQLite, failed on PostgreSQL", []outcome{passed, failed}, failed},
		{"failed first", []outcome{failed, passed, skipped}, failed},
		{"only skipped", []outcome{skipped, skipped}, skipped},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newSuite(t.Output(), false)
			for _, result := range test.results {
				s.record("p TestA", result)
			}
			if got := s.results["p TestA"]; got != test.want {
				t.Errorf("result %d, want %d", got, test.want)
			}
		})
	}
}

func TestReportEndsWithTheCount(t *testing.T) {
	tests := []struct {
		name   string
		ci     bool
		fill   func(*suite)
		ok     bool
		ending string
	}{
		{"all well", false, func(s *suite) { s.record("a", passed); s.record("b", skipped) }, true, "\n1 passed, 0 failed\n"},
		{"a failure", false, func(s *suite) { s.record("a", passed); s.record("b", failed) }, false, "\n1 passed, 1 failed\n"},
		{"nothing ran", false, func(*suite) {}, false, "\n0 passed, 1 failed\n"},
		{"a missing browser on a laptop", false, func(s *suite) { s.record("a", passed); s.lacks("No browser.") }, true, "\n1 passed, 0 failed\n"},
		{"a missing browser in CI", true, func(s *suite) { s.record("a", passed); s.lacks("No browser.") }, false, "\n1 passed, 1 failed\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			s := newSuite(&out, test.ci)
			test.fill(s)
			if ok := s.report(); ok != test.ok {
				t.Errorf("report() = %t, want %t", ok, test.ok)
			}
			if !strings.HasSuffix(out.String(), test.ending) {
				t.Errorf("ends otherwise than %q:\n%s", test.ending, &out)
			}
		})
	}
}

func TestPlaywrightReport(t *testing.T) {
	path := filepath.Join(t.TempDir(), "report.json")
	report := `{"suites":[{"title":"consent.spec.ts","specs":[],"suites":[{"title":"consent","specs":[
		{"title":"allow","tests":[{"projectName":"wide","status":"expected"},{"projectName":"narrow","status":"unexpected"}]},
		{"title":"deny","tests":[{"projectName":"wide","status":"flaky"},{"projectName":"narrow","status":"skipped"}]}]}]}],
		"errors":[]}`
	if err := os.WriteFile(path, []byte(report), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newSuite(t.Output(), false)
	failure, err := s.readPlaywright(path)
	if err != nil || !failure {
		t.Fatalf("readPlaywright = %t, %v; want a failure", failure, err)
	}
	if s.count(passed) != 1 || s.count(failed) != 2 || s.count(skipped) != 1 {
		t.Errorf("counted %v", s.results)
	}
	if s.results["e2e/browser consent.spec.ts consent deny [wide]"] != failed {
		t.Errorf("a flaky test did not fail: %v", s.results)
	}
}

func TestGivenPostgresIsUsedAndLeftAlone(t *testing.T) {
	t.Setenv(postgresVariable, "postgres://127.0.0.1:1/given")
	server, err := postgres(t.Context(), false)
	if err != nil || server.url != "postgres://127.0.0.1:1/given" {
		t.Fatalf("postgres() = %+v, %v", server, err)
	}
	server.stop(t.Context())
}

func TestCancelReachesTheProgramsChildren(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// The child keeps the output open, so Wait ends early only if it ends too.
	cmd := command(ctx, "sh", "-c", "echo started; sleep 30; true")
	cmd.Stdout = writerFunc(func(p []byte) { cancel() })
	began := time.Now()
	if err := cmd.Run(); err == nil {
		t.Error("the command ended well")
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("took %s to end", took)
	}
}

type writerFunc func([]byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

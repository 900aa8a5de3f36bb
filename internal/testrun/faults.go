//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postern-id/postern/internal/spec"
)

// atOnce is how many faults are tried at a time. Each compiles and links a test
// binary.
const atOnce = 2

// seededFaults runs the faults of spec/faults whose name matches, and returns the
// exit code: not 0 where tests stayed green.
func seededFaults(ctx context.Context, args []string) int {
	flags := flag.NewFlagSet("faults", flag.ContinueOnError)
	pattern := flags.String("run", "", "only the faults whose name matches this regular expression")
	if flags.Parse(args) != nil || flags.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "usage: testrun faults [-run regexp]")
		return 2
	}
	match, err := regexp.Compile(*pattern)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		return 2
	}
	faults, err := readFaults()
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		return 1
	}
	faults = slices.DeleteFunc(faults, func(f spec.Fault) bool { return !match.MatchString(f.Name) })
	s := newSuite(os.Stdout, os.Getenv("CI") != "")
	s.faults(ctx, os.Environ(), faults)
	missed := s.count(failed)
	fmt.Printf("\n%d seeded, %d caught, %d missed\n", len(faults), len(faults)-missed, missed)
	if missed > 0 || len(faults) == 0 || ctx.Err() != nil {
		return 1
	}
	return 0
}

// readFaults reads spec/faults.
func readFaults() (faults []spec.Fault, err error) {
	names, err := filepath.Glob("spec/faults/*.toml")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		read, wrong := spec.Faults(name, string(text))
		for _, p := range wrong {
			return nil, fmt.Errorf("%s: %s", p.Where, p.What)
		}
		faults = append(faults, read...)
	}
	return faults, nil
}

// faults tries each fault, some at once, and counts it as a test. That the tests
// are green without the fault is asked once for all faults of a package.
func (s *suite) faults(ctx context.Context, env []string, faults []spec.Fault) {
	runs := map[string][]string{} // patterns by package
	for _, f := range faults {
		if !slices.Contains(runs[f.Package], f.Run) {
			runs[f.Package] = append(runs[f.Package], f.Run)
		}
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	slots := make(chan bool, atOnce)
	start := func(name string, try func() error) {
		slots <- true
		wait.Go(func() {
			defer func() { <-slots }()
			began := time.Now()
			err := try()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				s.fail(name, err)
				return
			}
			fmt.Fprintf(s.out, "ok    %-60s %7.1f s\n", name, time.Since(began).Seconds())
			s.record(name, passed)
		})
	}
	for _, f := range faults {
		patterns, first := runs[f.Package]
		if delete(runs, f.Package); first {
			start("without a fault: "+f.Package, func() error { return green(ctx, env, f.Package, strings.Join(patterns, "|")) })
		}
		start(f.Name, func() error { return caught(ctx, env, f) })
	}
	wait.Wait()
}

// green runs tests on the source as it is.
func green(ctx context.Context, env []string, pkg, pattern string) error {
	red, said, err := failing(ctx, env, pkg, pattern)
	if err != nil {
		return err
	}
	if len(red) > 0 {
		return fmt.Errorf("red on the source as it is: %s\n%s", strings.Join(red, ", "), said)
	}
	return nil
}

// caught puts the fault into a copy of its file and runs the tests with it. Each
// row that the fault names has to be among what failed.
func caught(ctx context.Context, env []string, f spec.Fault) error {
	folder, err := os.MkdirTemp("", "postern-fault-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	source, err := os.ReadFile(f.File)
	if err != nil {
		return err
	}
	if strings.Count(string(source), f.Old) != 1 {
		return fmt.Errorf("%s has changed: the old text does not stand in it once", f.File)
	}
	file, err := filepath.Abs(f.File)
	if err != nil {
		return err
	}
	faulty, overlay := filepath.Join(folder, "faulty"), filepath.Join(folder, "overlay.json")
	replace, err := json.Marshal(map[string]any{"Replace": map[string]string{file: faulty}})
	if err != nil {
		return err
	}
	if err := errors.Join(
		os.WriteFile(faulty, []byte(strings.Replace(string(source), f.Old, f.New, 1)), 0o600), //nolint:gosec // in a folder of its own
		os.WriteFile(overlay, replace, 0o600),
	); err != nil {
		return err
	}
	red, said, err := failing(ctx, env, f.Package, f.Run, "-overlay="+overlay)
	if err != nil {
		return err
	}
	rows, err := rowsOf(f.Package, red)
	if err != nil {
		return err
	}
	missed := slices.DeleteFunc(slices.Clone(f.Rows), func(row string) bool { return slices.Contains(rows, row) })
	if len(missed) > 0 {
		return fmt.Errorf("no test of %s failed; red were %q\n%s", strings.Join(missed, ", "), red, said)
	}
	return nil
}

// failing runs tests and returns the names of those that failed, and what was
// said. A build that fails is an error. Building is most of the work, so it is
// done without optimizing.
func failing(ctx context.Context, env []string, pkg, pattern string, flags ...string) (red []string, said string, err error) {
	args := append([]string{"go", "test", "-json", "-count=1", "-vet=off", "-timeout=5m", "-run=" + pattern, "-gcflags=" + module + "/...=-N -l", "-ldflags=-w"}, flags...)
	cmd := command(ctx, append(args, "./"+pkg)...)
	cmd.Env = env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	runErr := cmd.Run()
	var text strings.Builder
	ran := false
	for decoder := json.NewDecoder(&stdout); ; {
		var e event
		if err := decoder.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, "", err
		}
		switch {
		case e.FailedBuild != "" || e.Action == "build-fail":
			runErr = fmt.Errorf("it does not build: %s", strings.TrimSpace(text.String()))
			return nil, "", runErr
		case e.Action == "output" || e.Action == "build-output":
			text.WriteString(e.Output)
		case e.Test != "":
			ran = true
			if e.Action == "fail" {
				red = append(red, e.Test)
			}
		}
	}
	if !ran || (runErr != nil && len(red) == 0) {
		return nil, "", fmt.Errorf("no test ended: %w %s%s", runErr, stderr.String(), text.String())
	}
	said = text.String()
	if len(red) == 0 && strings.Contains(said, "no tests to run") {
		return nil, "", fmt.Errorf("%s in %s runs nothing", pattern, pkg)
	}
	return red, said[max(0, len(said)-4000):], nil
}

// rowsOf are the rows that failing tests name, in their own name or, for the
// function, in its comment.
func rowsOf(pkg string, red []string) (rows []string, err error) {
	names, err := filepath.Glob(filepath.Join(pkg, "*_test.go"))
	if err != nil {
		return nil, err
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	tests := spec.Tests(set, files)
	for _, name := range red {
		parts := strings.Split(name, "/")
		for _, part := range parts[1:] {
			rows = append(rows, spec.RowsOf(part)...)
		}
		for _, test := range tests {
			if test.Name == parts[0] {
				rows = append(rows, test.Rows...)
			}
		}
	}
	return rows, nil
}

//go:build unix

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/spec"
	"github.com/postern-id/postern/internal/testrun/cluster"
)

const module = "github.com/postern-id/postern"

// modules are the folders of the modules that are released or copied, each of
// which has to build without the workspace.
var modules = []string{".", "guard", "examples"}

// racedOnPostgres are the packages that the race detector sees on PostgreSQL
// too: those with the single-use state.
var racedOnPostgres = []string{module + "/internal/store", module + "/internal/oauth", module + "/internal/identity"}

// raced runs tests under the race detector, which watches our code and what we
// share with libraries. What only computes is left out of it: SQLite's own code
// (which comes from C, and takes most of a watched test's time), regular
// expressions and the arithmetic of crypto.
var raced = []string{
	"-race",
	"-gcflags=modernc.org/sqlite/lib=-race=false",
	"-gcflags=modernc.org/libc=-race=false",
	"-gcflags=modernc.org/memory=-race=false",
	"-gcflags=regexp/...=-race=false",
	"-gcflags=crypto/internal/...=-race=false",
}

// faultsPackage starts servers and databases of its own, on both databases in one
// run, and has a stage for itself.
const faultsPackage = module + "/faults"

// protectVariable lets the test of docs/guide/protect install what the pages
// name. Stages without it skip that test, so it runs once.
const protectVariable = "POSTERN_PROTECT"

// everything runs all stages, cheap ones first, and returns the exit code.
func everything(ctx context.Context) int {
	began := time.Now()
	s := newSuite(os.Stdout, os.Getenv("CI") != "")
	if err := s.stages(ctx); err != nil {
		s.fail("testrun", err)
	}
	if err := context.Cause(ctx); err != nil {
		s.record("interrupted: not everything ran", failed)
	}
	fmt.Printf("\nTook %s.\n", time.Since(began).Round(time.Second))
	if !s.report() {
		return 1
	}
	return 0
}

func (s *suite) stages(ctx context.Context) error {
	s.title("house rules")
	s.goTest(ctx, os.Environ(), ".")
	s.alone(ctx)

	all, onPostgres, err := packages(ctx)
	if err != nil {
		return err
	}
	server, err := postgres(ctx, false)
	switch {
	case errors.Is(err, cluster.ErrMissing):
		s.lacks(err.Error())
	case err != nil:
		return err
	}
	defer server.stop(ctx)
	both := append(os.Environ(), server.env())
	// Tests that find no PostgreSQL fail when CI is set; here it is left out on
	// purpose, and a later stage brings it.
	sqliteOnly := without("CI", postgresVariable)

	singleUse := intersect(all, racedOnPostgres)
	rest := subtract(onPostgres, singleUse)
	s.title("race detector, both databases")
	s.goTest(ctx, both, slices.Concat(raced, singleUse)...)
	s.title("race detector, SQLite")
	s.goTest(ctx, os.Environ(), slices.Concat(raced, subtract(all, onPostgres, singleUse))...)
	s.goTest(ctx, sqliteOnly, slices.Concat(raced, rest)...)
	if server.url != "" {
		s.title("PostgreSQL")
		s.goTest(ctx, both, append([]string{"-skip=/^sqlite$"}, rest...)...) // which ran before
	}
	s.title("faults of machines, disks and networks, in short")
	s.goTest(ctx, os.Environ(), faultsPackage)
	s.title("seeded faults, a few")
	faults, err := readFaults()
	if err != nil {
		return err
	}
	s.faults(ctx, sqliteOnly, slices.DeleteFunc(faults, func(f spec.Fault) bool { return !f.Smoke }))
	s.title("pages for other languages")
	s.goTest(ctx, append(os.Environ(), protectVariable+"=1"), "-run=^TestProtectPage(s|OnWorkers)$", module+"/examples/e2e")
	s.conformance(ctx)
	s.browser(ctx)
	return nil
}

// conformance runs the official suite, and compares the page of its results.
func (s *suite) conformance(ctx context.Context) {
	s.title("conformance")
	if _, err := exec.LookPath("npm"); err != nil {
		s.lacks("The official conformance suite: Node.js is not installed here (Node 22 with npm).")
		return
	}
	if ctx.Err() != nil {
		return
	}
	cmd := command(ctx, "conformance/run", "check")
	cmd.Stdout = s.out
	s.check("conformance", cmd)
}

func (s *suite) title(text string) { fmt.Fprintf(s.out, "\n== %s\n", text) }

// goTest runs `go test` on the packages among args, if there are any.
func (s *suite) goTest(ctx context.Context, env []string, args ...string) {
	if len(args) == 0 || strings.HasPrefix(args[len(args)-1], "-") || ctx.Err() != nil {
		return
	}
	tests := s.newRun()
	cmd := command(ctx, append([]string{"go", "test", "-json", "-timeout=15m"}, args...)...)
	cmd.Env = env
	cmd.Stdout = tests
	if err := cmd.Run(); err != nil && !tests.failed {
		s.fail("go test "+strings.Join(args, " "), err)
	}
}

// alone builds every module the way its users do, without the workspace.
func (s *suite) alone(ctx context.Context) {
	s.title("each module alone")
	for _, dir := range modules {
		for _, args := range [][]string{
			{"go", "build", "./..."},
			{"go", "vet", "./..."},
			{"go", "mod", "tidy", "-diff"},
		} {
			if ctx.Err() != nil {
				return
			}
			cmd := command(ctx, args...)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), "GOWORK=off")
			cmd.Stdout = os.Stdout
			s.check(fmt.Sprintf("module %s: %s", dir, strings.Join(args, " ")), cmd)
		}
	}
}

// check counts a command as one test.
func (s *suite) check(name string, cmd *exec.Cmd) {
	if err := cmd.Run(); err != nil {
		s.fail(name, err)
		return
	}
	fmt.Fprintf(s.out, "ok    %s\n", name)
	s.record(name, passed)
}

// packages lists the packages with tests, without the house rules, and those
// among them whose tests use PostgreSQL where there is one: the ones that
// name the variable, or import a package that does.
func packages(ctx context.Context) (all, onPostgres []string, err error) {
	var output bytes.Buffer
	cmd := command(ctx, "go", "list", "-test", "-json=ImportPath,Dir,Deps,ForTest,TestGoFiles,XTestGoFiles,GoFiles",
		"./...", "./guard/...", "./examples/...")
	cmd.Stdout = &output
	if err := cmd.Run(); err != nil {
		return nil, nil, fmt.Errorf("go list: %w", err)
	}
	type listed struct {
		ImportPath, Dir, ForTest           string
		Deps                               []string
		GoFiles, TestGoFiles, XTestGoFiles []string
	}
	names := map[string]bool{}      // packages whose code names the variable
	testsName := map[string]bool{}  // packages whose tests do
	binaries := map[string]listed{} // test binaries by package
	for decoder := json.NewDecoder(&output); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, nil, err
		}
		if binary, ok := strings.CutSuffix(p.ImportPath, ".test"); ok {
			binaries[binary] = p
		} else if p.ForTest == "" {
			names[p.ImportPath] = mentions(p.Dir, p.GoFiles)
			testsName[p.ImportPath] = mentions(p.Dir, append(p.TestGoFiles, p.XTestGoFiles...))
		}
	}
	for name, binary := range binaries {
		if name == module || name == faultsPackage {
			continue
		}
		all = append(all, name)
		if testsName[name] || slices.ContainsFunc(binary.Deps, func(dep string) bool {
			path, _, _ := strings.Cut(dep, " ") // "path [path.test]" for a package built for the test
			return names[path]
		}) {
			onPostgres = append(onPostgres, name)
		}
	}
	slices.Sort(all)
	slices.Sort(onPostgres)
	return all, onPostgres, nil
}

func mentions(dir string, files []string) bool {
	return slices.ContainsFunc(files, func(file string) bool {
		text, err := os.ReadFile(filepath.Join(dir, file))
		return err == nil && bytes.Contains(text, []byte(postgresVariable))
	})
}

func intersect(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(x string) bool { return !slices.Contains(b, x) })
}

func subtract(a []string, others ...[]string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(x string) bool {
		return slices.ContainsFunc(others, func(b []string) bool { return slices.Contains(b, x) })
	})
}

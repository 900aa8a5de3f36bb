//go:build unix

// Command testrun is what `make test` runs: every test of the repository on
// both databases, the check that each module stands alone, a few seeded faults,
// and the browser tests; then one line with the count.
//
//	go run ./internal/testrun                          everything
//	go run ./internal/testrun postgres [-fsync] -- go test ./internal/store
//	go run ./internal/testrun faults [-run regexp]     the faults of spec/faults
//
// The second form runs one command with a PostgreSQL server of its own, and
// ends with that command's exit code. The third takes checks out of the source,
// one at a time, and expects the tests that spec/faults names to fail.
//
// A suite keeps the worst result of every test, so a test that ran on both
// databases counts once; a run feeds it from `go test -json`. A cluster is a
// throw-away PostgreSQL server; its URL reaches the tests as
// POSTERN_TEST_POSTGRES, and when that is already set no cluster is made.
//
// What is missing on this machine (PostgreSQL, a browser, Python) is skipped
// with a sentence, and is a failure when CI is set. testrun installs nothing but
// the Node packages of the browser tests, and lets the test of docs/guide/protect
// install what those pages name.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	code := dispatch(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

func dispatch(ctx context.Context, args []string) int {
	if len(args) == 0 {
		return everything(ctx)
	}
	if args[0] == "faults" {
		return seededFaults(ctx, args[1:])
	}
	flags := flag.NewFlagSet("postgres", flag.ContinueOnError)
	fsync := flags.Bool("fsync", false, "make commits durable, as fault tests need")
	if args[0] != "postgres" || flags.Parse(args[1:]) != nil || flags.NArg() == 0 {
		fmt.Fprintln(os.Stderr, "usage: testrun [postgres [-fsync] -- command args... | faults [-run regexp]]")
		return 2
	}
	return withPostgres(ctx, *fsync, flags.Args())
}

// withPostgres runs one command with POSTERN_TEST_POSTGRES set and returns its
// exit code.
func withPostgres(ctx context.Context, fsync bool, args []string) int {
	server, err := postgres(ctx, fsync)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
		return 1
	}
	defer server.stop(ctx)
	cmd := command(ctx, args...)
	cmd.Env = append(os.Environ(), server.env())
	cmd.Stdout = os.Stdout
	return exitCode(cmd.Run())
}

// command prepares a program in a process group of its own, so that a signal
// sent to testrun alone also reaches the program's children.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...) //nolint:gosec // the commands are ours or the caller's own
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 15 * time.Second
	return cmd
}

func exitCode(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	}
	fmt.Fprintln(os.Stderr, "testrun:", err)
	return 1
}

// without returns the environment less some variables.
func without(names ...string) []string {
	var env []string
next:
	for _, entry := range os.Environ() {
		for _, name := range names {
			if strings.HasPrefix(entry, name+"=") {
				continue next
			}
		}
		env = append(env, entry)
	}
	return env
}

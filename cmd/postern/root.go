package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// program is what the commands share.
type program struct {
	out, err terminal
	now      func() time.Time
}

// run runs one command and returns the exit status: 0, 1 for a failure, 2 for
// a command line that makes no sense.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := &program{out: newTerminal(stdout), err: newTerminal(stderr), now: time.Now}
	root := p.root()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	var u *usage
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errReported):
		return 1
	case errors.As(err, &u):
		p.err.report(u.fault)
		return 2
	case strings.HasPrefix(err.Error(), "unknown command"): // cobra's own error, with suggestions below it
		p.err.report(wrong("postern help", "%s", strings.Split(err.Error(), "\n")[0]))
		return 2
	}
	p.err.report(err)
	return 1
}

// errReported ends a command that has told everything itself.
var errReported = errors.New("reported")

// usage is a command line that makes no sense.
type usage struct{ *fault }

func (u *usage) Unwrap() error { return u.fault }

func misused(cmd *cobra.Command, format string, args ...any) error {
	return &usage{&fault{problems: []string{fmt.Sprintf(format, args...)}, next: cmd.CommandPath() + " --help"}}
}

func (p *program) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "postern",
		Short: "The side door for agents: an authorization server for remote MCP servers",
		Long: `The side door for agents: an authorization server for remote MCP servers.

On your own computer "postern dev" needs no settings. On a host "postern serve"
does; docs/guide/install.md has the five that matter.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return misused(cmd, "%s", err) })
	root.PersistentFlags().String("config", "", "configuration file, YAML")
	addFlags(root.PersistentFlags(), "data", "database", "database_file")
	root.AddCommand(
		p.serveCommand(), p.devCommand(), p.migrateCommand(), p.backupCommand(), p.restoreCommand(), p.configCommand(), p.doctorCommand(), p.keysCommand(),
		p.projectCommand(), p.resourceCommand(), p.clientCommand(), p.grantCommand(), p.userCommand(), p.organizationCommand(), p.memberCommand(),
		p.policyCommand(), p.workspaceKeyCommand(), p.auditCommand(), p.traceCommand(), p.adminCommand(), p.versionCommand(),
	)
	return root
}

// group makes a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, RunE: func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return misused(cmd, "%s has no command %q", cmd.CommandPath(), args[0])
		}
		return cmd.Help()
	}}
	c.AddCommand(commands...)
	return c
}

// needs checks that a command gets exactly the named arguments.
func needs(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return misused(cmd, "%s needs %s", cmd.CommandPath(), names[len(args)])
		case len(args) > len(names):
			return misused(cmd, "%s does not know what to do with %q", cmd.CommandPath(), args[len(names)])
		}
		return nil
	}
}

// atMost is like needs for arguments that may be left out.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return misused(cmd, "%s does not know what to do with %q", cmd.CommandPath(), args[n])
		}
		return nil
	}
}

// load reads the configuration of a command, without judging it.
func load(cmd *cobra.Command) (Config, error) {
	c, problems := loadConfig(cmd.Flags(), os.LookupEnv)
	if len(problems) > 0 {
		return c, &fault{problems: problems, next: "postern config check"}
	}
	return c, nil
}

// stamp is how a time is printed: to the minute, UTC.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

package dev

import (
	"context"
	"fmt"
	"io"
	"os/exec"
	"time"
)

// Child is a command that runs beside the server, in a process group of its
// own, so that it and whatever it starts end with the server.
type Child struct {
	Args []string // program and arguments
	Env  []string // its whole environment
	Out  io.Writer
	Err  io.Writer
}

// childGrace is how long a command has to end by itself. With it, Ctrl-C ends
// everything in less than three seconds.
const childGrace = 2 * time.Second

// Run starts the command and returns when it has ended. When ctx is done, the
// group is asked to end and, after a grace, made to; that is no error.
func (c Child) Run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.Args[0], c.Args[1:]...) //nolint:gosec // the command that the developer typed
	cmd.Env, cmd.Stdout, cmd.Stderr = c.Env, c.Out, c.Err
	cmd.WaitDelay = childGrace
	ownGroup(cmd)
	err := cmd.Run()
	killGroup(cmd) // what the command left behind
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		return fmt.Errorf("%s has ended", c.Args[0])
	}
	return fmt.Errorf("%s: %w", c.Args[0], err)
}

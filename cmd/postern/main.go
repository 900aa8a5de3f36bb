// Postern is the side door for agents: an authorization server for remote MCP
// servers. This is its one binary.
//
// "postern serve" runs it on a host, "postern dev" on a developer's computer,
// with nothing to set. The other commands set projects up, look after keys and
// find out what is wrong; they work on the same data while the server runs.
// Config, in config.go, is the reference for everything that can be set.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/postern-id/postern/internal/testrun/cluster"
)

// postgresVariable carries the URL of a server on which the tests may create
// and drop databases.
const postgresVariable = "POSTERN_TEST_POSTGRES"

// database is the PostgreSQL server of a run: ours to stop, or, without a
// cluster, given by the environment.
type database struct {
	url  string
	ours *cluster.Cluster
}

// postgres returns the server of the environment, or starts one.
func postgres(ctx context.Context, fsync bool) (database, error) {
	if url := os.Getenv(postgresVariable); url != "" {
		return database{url: url}, nil
	}
	ours, err := cluster.New(ctx, cluster.Config{Durable: fsync})
	if errors.Is(err, cluster.ErrMissing) {
		return database{}, fmt.Errorf("%w, or set %s to a server's URL", err, postgresVariable)
	}
	if err != nil {
		return database{}, err
	}
	return database{ours.URL, ours}, nil
}

func (d database) env() string { return postgresVariable + "=" + d.url }

func (d database) stop(ctx context.Context) {
	if d.ours != nil {
		d.ours.Close(ctx)
	}
}

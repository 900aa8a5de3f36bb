package main

import (
	"context"
	"errors"
	"fmt"
)

// grown compares a scenario on a database with few rows and on one with many.
type grown struct {
	Database string
	Scenario string
	Few      result
	Many     result
	Ratio    float64 // of the CPU time of an operation with many rows to that with few
}

// The rows of each table, and how many of the refresh tokens are used.
const (
	fewRows  = 1_000
	manyRows = 1_000_000
	knownFew = 500
	known    = 2_000
)

// growth measures on two servers in turn, in pairs that are over within two
// seconds: the machine may be twice as slow in the next ones. The ratio is the
// median of those of the pairs.
func (o options) growth(ctx context.Context, r *report, database string) (err error) {
	few, err := o.filled(ctx, database, fewRows, knownFew)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, few.close(ctx)) }()
	many, err := o.filled(ctx, database, o.rows, known)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, many.close(ctx)) }()
	for _, name := range []string{"introspect", "refresh", "register", "flow"} {
		s := named(name)
		one := o
		one.passes, one.during = 1, o.during/2
		var passes [2][]result
		var ratios []float64
		for pair := range 3*o.passes + 1 {
			var got [2]result
			for i, w := range []*world{few, many} {
				if got[i], err = one.passesOf(ctx, w, s, 16); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
			if pair > 0 { // the first fills caches
				passes[0], passes[1] = append(passes[0], got[0]), append(passes[1], got[1])
				ratios = append(ratios, float64(got[1].cpu())/float64(got[0].cpu()))
			}
		}
		r.grew(grown{database, name, median(passes[0]), median(passes[1]), middle(ratios)})
	}
	return nil
}

// filled starts a server whose tables have rows.
func (o options) filled(ctx context.Context, database string, rows, known int) (*world, error) {
	w, err := o.newWorld(ctx, database)
	if err != nil {
		return nil, err
	}
	if err := w.fill(ctx, rows, known); err != nil {
		return nil, errors.Join(err, w.close(ctx))
	}
	return w, nil
}

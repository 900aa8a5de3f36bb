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
}

// ratio is how much more CPU time an operation takes with many rows.
func (g grown) ratio() float64 { return float64(g.Many.cpu()) / float64(g.Few.cpu()) }

// The rows of each table, and how many of the refresh tokens are used.
const (
	fewRows  = 1_000
	manyRows = 1_000_000
	knownFew = 500
	known    = 2_000
)

// growth measures on two servers in turn, so that whatever else the machine does
// falls on both.
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
		var passes [2][]result
		for pass := range o.passes + 2 {
			for i, w := range []*world{few, many} {
				one := o
				one.passes = 1
				got, err := one.passesOf(ctx, w, s, 16)
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				if pass > 0 { // the first fills caches
					passes[i] = append(passes[i], got)
				}
			}
		}
		r.grew(grown{database, name, median(passes[0]), median(passes[1])})
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

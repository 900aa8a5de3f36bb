package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/postern-id/postern/internal/rig"
)

// starting measures how long a start takes, and the memory of a server that
// nobody has asked anything.
func (o options) starting(ctx context.Context, r *report, database string) error {
	const times = 7
	s := starts{Database: database}
	var existing, ready, fresh []time.Duration
	w, err := o.newWorld(ctx, database)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	for range times {
		if err := w.server.Stop(); err != nil {
			return err
		}
		if err := w.server.Start(ctx); err != nil {
			return err
		}
		existing, ready = append(existing, w.server.FirstAnswer), append(ready, w.server.Ready)
	}
	if err := sleep(ctx, 2*time.Second); err != nil {
		return err
	}
	if s.Idle, _, err = w.server.Memory(); err != nil {
		return err
	}
	if database == "sqlite" {
		for i := range times {
			empty, err := rig.New(ctx, rig.Config{Binary: o.binary, Folder: filepath.Join(o.folder, fmt.Sprintf("empty-%d", i)), Empty: true})
			if err != nil {
				return err
			}
			err = empty.Start(ctx)
			fresh = append(fresh, empty.Ready)
			if err := errors.Join(err, empty.Close(ctx)); err != nil {
				return err
			}
		}
		s.Fresh = middle(fresh)
	}
	s.Existing, s.Ready = middle(existing), middle(ready)
	info, err := os.Stat(o.binary)
	if err != nil {
		return err
	}
	s.Binary = info.Size()
	r.Starts = append(r.Starts, s)
	fmt.Printf("\nstart, %s: first metadata %.1f ms, ready %.1f ms, fresh %.1f ms; idle %.1f MiB; binary %.1f MB\n",
		database, ms(s.Existing), ms(s.Ready), ms(s.Fresh), mib(s.Idle), float64(s.Binary)/1e6)
	return nil
}

func middle[T cmp.Ordered](of []T) T {
	sorted := slices.Sorted(slices.Values(of))
	return sorted[len(sorted)/2]
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// idling measures a server that holds many connections which do nothing: its
// memory, and how long others wait for the metadata.
func (o options) idling(ctx context.Context, r *report) (err error) {
	w, err := o.newWorld(ctx, "sqlite")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	if w.idle, err = o.holdIdle(ctx, w.server.Listen, w.metadata); err != nil {
		return err
	}
	one, err := o.passesOf(ctx, w, named("metadata"), 16)
	if err != nil {
		return err
	}
	if r.IdleMemory, _, err = w.server.Memory(); err != nil {
		return err
	}
	fmt.Printf("\n%d idle connections: %.0f MiB\n", o.connections, mib(r.IdleMemory))
	r.head()
	r.add(cell{Scenario: idleName, Database: "sqlite", Concurrency: 16, Result: one})
	return nil
}

// metadata asks for the metadata.
func (w *world) metadata() []byte { return w.request(w.from(), metadataPath, "", "") }

// holdIdle opens the connections, each for one request, and leaves them open.
func (o options) holdIdle(ctx context.Context, address string, request func() []byte) ([]*conn, error) {
	var mu sync.Mutex
	var idle []*conn
	err := inParallel(16, func() error {
		for range o.connections / 16 {
			c := &conn{address: address}
			status, _, err := c.ask(ctx, request())
			if err == nil && status != 200 {
				err = fmt.Errorf("%s: %d", address, status)
			}
			if err != nil {
				return err
			}
			c.r = nil // our own memory
			mu.Lock()
			idle = append(idle, c)
			mu.Unlock()
		}
		return nil
	})
	if err != nil {
		err = fmt.Errorf("open %d connections (see ulimit -n): %w", o.connections, err)
	}
	return idle, err
}

const idleName = "metadata beside 10,000 idle connections"

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

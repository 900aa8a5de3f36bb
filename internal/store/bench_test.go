package store_test

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/store"
)

// eachBench is eachBackend for benchmarks.
func eachBench(b *testing.B, fn func(b *testing.B, w *world)) {
	b.Run("SQLite", func(b *testing.B) {
		fn(b, newWorld(b, open(b, store.Config{Path: sqliteCopy(b), Now: time.Now}), "auth.example.com"))
	})
	b.Run("PostgreSQL", func(b *testing.B) {
		fn(b, newWorld(b, open(b, store.Config{URL: postgresCopy(b), Now: time.Now}), "auth.example.com"))
	})
}

// BenchmarkWrite is the smallest write, an event, by many callers at once.
func BenchmarkWrite(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(callers, " callers"), func(b *testing.B) {
			eachBench(b, func(b *testing.B, w *world) {
				parallel(b, callers, func(int) error { return w.Record(b.Context(), w.event(audit.SignedOut)) })
			})
		})
	}
}

// BenchmarkRotate is one refresh: the token is read, then rotated.
func BenchmarkRotate(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(fmt.Sprint(callers, " callers"), func(b *testing.B) {
			eachBench(b, func(b *testing.B, w *world) {
				tokens := make([]held, callers)
				for i := range tokens {
					out := w.signIn(fmt.Sprintf("person%d@example.test", i))
					w.user = out.User
					tokens[i], _ = w.family(now, "read:notes")
				}
				answer := make([]byte, 1400)
				parallel(b, callers, func(i int) error {
					if _, _, err := w.Family(b.Context(), w.project.ID, tokens[i].FamilyID); err != nil {
						return err
					}
					r := w.rotation(tokens[i], now)
					r.Replay = answer
					got, err := w.rotate(r)
					if err == nil && !got.Done {
						err = fmt.Errorf("not rotated: %+v", got)
					}
					tokens[i] = next(r)
					return err
				})
			})
		})
	}
}

// BenchmarkLive is the read of introspection.
func BenchmarkLive(b *testing.B) {
	eachBench(b, func(b *testing.B, w *world) {
		_, f := w.family(now, "read:notes")
		parallel(b, 16, func(int) error {
			_, err := w.Live(b.Context(), w.project.ID, f.ID, "jti")
			return err
		})
	})
}

// parallel does fn b.N times in all, by so many callers at once.
func parallel(b *testing.B, callers int, fn func(caller int) error) {
	b.ReportAllocs()
	b.ResetTimer()
	var left atomic.Int64
	left.Store(int64(b.N))
	at(callers, func(i int) {
		for left.Add(-1) >= 0 {
			if err := fn(i); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
}

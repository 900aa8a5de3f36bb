package guard

import (
	"context"
	"crypto/sha256"
	"sync"
	"time"
)

// maxVerified bounds the number of remembered tokens, about 1 KB each.
const maxVerified = 10_000

// tokenHash stands for a token wherever one is remembered.
type tokenHash [sha256.Size]byte

func hashToken(token string) tokenHash {
	var buf [2048]byte // on the stack: usual tokens are shorter
	return sha256.Sum256(append(buf[:0], token...))
}

// cache remembers up to limit values until they end. It keeps two
// generations: when the young one is half full it becomes the old one, and
// what was old is forgotten, so that what is in use stays and nothing needs
// to be swept.
type cache[V any] struct {
	mu         sync.Mutex
	half       int
	young, old map[tokenHash]cached[V]
}

type cached[V any] struct {
	value V
	until time.Time
}

func newCache[V any](limit int) *cache[V] {
	return &cache[V]{half: limit / 2, young: map[tokenHash]cached[V]{}}
}

func (c *cache[V]) get(h tokenHash, now time.Time) (v V, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.young[h]
	if !ok {
		if e, ok = c.old[h]; ok {
			c.put(h, e)
		}
	}
	if !ok || !now.Before(e.until) {
		return v, false
	}
	return e.value, true
}

func (c *cache[V]) set(h tokenHash, v V, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(h, cached[V]{v, until})
}

func (c *cache[V]) put(h tokenHash, e cached[V]) {
	if len(c.young) >= c.half {
		c.young, c.old = map[tokenHash]cached[V]{}, c.young
	}
	c.young[h] = e
}

// flights lets one caller do the work for a key while the others wait for its
// result. The zero value is ready.
type flights[K comparable, V any] struct {
	mu     sync.Mutex
	flying map[K]*flight[V]
}

type flight[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// start begins the work unless it is under way, and returns at once. The work
// is not ended when the caller who began it goes away.
func (f *flights[K, V]) start(ctx context.Context, key K, work func(context.Context) (V, error)) *flight[V] {
	f.mu.Lock()
	defer f.mu.Unlock()
	if under, ok := f.flying[key]; ok {
		return under
	}
	if f.flying == nil {
		f.flying = map[K]*flight[V]{}
	}
	fl := &flight[V]{done: make(chan struct{})}
	f.flying[key] = fl
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTimeout)
		defer cancel()
		fl.value, fl.err = work(ctx)
		f.mu.Lock()
		delete(f.flying, key)
		f.mu.Unlock()
		close(fl.done)
	}()
	return fl
}

// join waits for the work for a key if it is under way.
func (f *flights[K, V]) join(ctx context.Context, key K) {
	f.mu.Lock()
	fl := f.flying[key]
	f.mu.Unlock()
	if fl == nil {
		return
	}
	select {
	case <-fl.done:
	case <-ctx.Done():
	}
}

// do returns the result of the work, done by this caller or by another.
func (f *flights[K, V]) do(ctx context.Context, key K, work func(context.Context) (V, error)) (V, error) {
	fl := f.start(ctx, key, work)
	select {
	case <-fl.done:
		return fl.value, fl.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

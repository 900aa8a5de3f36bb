package web

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Bounds of one request. The listener takes the first group, Bounds enforces
// the second, the third is for the reader of a body to name.
const (
	MaxHeaderBytes = 16 << 10
	HeaderTimeout  = 5 * time.Second  // until the header is read
	ReadTimeout    = 10 * time.Second // until the body is read
	WriteTimeout   = 30 * time.Second
	IdleTimeout    = 60 * time.Second
	DrainTimeout   = 20 * time.Second // for running requests, when the server stops

	MaxURL         = 8 << 10
	MaxCookies     = 64
	HandlerTimeout = 15 * time.Second // from when a handler first waits until its context ends
	MaxBody        = 2 << 20          // of any request: a policy is the longest

	BodyPage = 64 << 10 // the forms of our pages
)

// Timeouts are those of a listener that are not the ones above; 0 means that one.
type Timeouts struct {
	Header, Read, Idle time.Duration
}

// EndChunked ends the connection after a request whose body comes in chunks. It
// may have said its length as well, which is gone when a handler sees it; to a
// proxy in front that counted by the length, what follows would be another
// request than to us (RFC 9112 §6.1).
func EndChunked(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// Bounds refuses requests with an endless address or countless cookies, caps
// the body, and ends the handler's context after HandlerTimeout.
func Bounds(write ErrorWriter) Middleware {
	return func(next http.Handler) http.Handler {
		return Handle(func(w http.ResponseWriter, r *http.Request) error {
			if len(r.RequestURI) > MaxURL {
				return &Error{Status: http.StatusRequestURITooLong}
			}
			cookies := 0
			for _, header := range r.Header.Values("Cookie") {
				cookies += strings.Count(header, ";") + 1
			}
			if cookies > MaxCookies {
				return &Error{Status: http.StatusBadRequest, Page: ErrorPage{
					Headline: "Your browser sent too many cookies",
					What:     "This site sets a handful of cookies, and the request had many more.",
					Next:     "Delete the cookies of this site and try again.",
				}}
			}
			ctx := &bounded{Context: r.Context()}
			defer ctx.stop()
			r = r.WithContext(ctx)
			r.Body = http.MaxBytesReader(w, r.Body, MaxBody)
			next.ServeHTTP(w, r)
			return nil
		}, write)
	}
}

// bounded is a request's context that ends HandlerTimeout after somebody first
// waited for that: most handlers are done without, and need no timer.
type bounded struct {
	context.Context // the request's

	mu     sync.Mutex
	timed  context.Context // nil until then
	cancel context.CancelFunc
}

func (b *bounded) waited() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.timed == nil {
		b.timed, b.cancel = context.WithTimeout(b.Context, HandlerTimeout)
	}
	return b.timed
}

func (b *bounded) stop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cancel != nil {
		b.cancel()
	}
}

// Deadline implements context.Context.
func (b *bounded) Deadline() (time.Time, bool) { return b.waited().Deadline() }

// Done implements context.Context.
func (b *bounded) Done() <-chan struct{} { return b.waited().Done() }

// Err implements context.Context.
func (b *bounded) Err() error { return b.waited().Err() }

// Value implements context.Context: package context asks so whose Done it got.
func (b *bounded) Value(key any) any {
	b.mu.Lock()
	timed := b.timed
	b.mu.Unlock()
	if timed == nil {
		return b.Context.Value(key)
	}
	return timed.Value(key)
}

// Limit is a flow that one key may cause: Count at once, refilled evenly over
// Per.
type Limit struct {
	Count int
	Per   time.Duration
}

// Limiter counts per key in memory. It holds at most maxKeys keys: with more it
// forgets the ones asked about longest ago, so a flood from many addresses is
// let off rather than the server filled. It is safe for concurrent use.
type Limiter struct {
	limit Limit
	half  int
	now   func() time.Time

	mu    sync.Mutex
	count int // this server's part of limit.Count
	// A key's value is the moment its flow is used up to: each call moves it by
	// Per/count, and it may be at most Per ahead (generic cell rate algorithm).
	// Keys live in two generations: what was asked about since the last turn, and
	// before it. A turn drops the older one, whose values have passed by then.
	young, old map[string]time.Time
	turned     time.Time
}

// NewLimiter makes a Limiter for about maxKeys keys, at least two.
func NewLimiter(limit Limit, maxKeys int, now func() time.Time) *Limiter {
	return &Limiter{limit: limit, half: max(1, maxKeys/2), now: now, count: limit.Count, young: map[string]time.Time{}, turned: now()}
}

// Divide makes n servers that count apart keep the limit together: each takes
// an even part of it, but one call at least.
func (l *Limiter) Divide(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count = max(1, l.limit.Count/max(1, n))
}

// Allow counts one call for key. Where it is one too many it is not counted,
// and retryAfter says when the next may come.
func (l *Limiter) Allow(key string) (retryAfter time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	used, known := l.young[key]
	if !known {
		if len(l.young) >= l.half || now.Sub(l.turned) > l.limit.Per {
			l.young, l.old, l.turned = map[string]time.Time{}, l.young, now
		}
		used = l.old[key]
		delete(l.old, key)
	}
	if used.Before(now) {
		used = now
	}
	step := l.limit.Per / time.Duration(l.count)
	next := used.Add(step)
	if wait := next.Sub(now) - l.limit.Per; wait > 0 {
		l.young[key] = used
		return wait, false
	}
	l.young[key] = next
	return 0, true
}

// Wrap answers 429 with Retry-After through write where the key of a request
// has used its limit up. A request with the key "" is not limited.
func (l *Limiter) Wrap(key func(*http.Request) string, write ErrorWriter) Middleware {
	return func(next http.Handler) http.Handler {
		return Handle(func(w http.ResponseWriter, r *http.Request) error {
			if k := key(r); k != "" {
				if wait, ok := l.Allow(k); !ok {
					return &Error{Status: http.StatusTooManyRequests, RetryAfter: wait}
				}
			}
			next.ServeHTTP(w, r)
			return nil
		}, write)
	}
}

// AddressKey returns the key of a client address: an IPv4 address, or the /64
// of an IPv6 address, which one customer has for himself.
func AddressKey(addr netip.Addr) string {
	addr = addr.Unmap().WithZone("")
	if addr.Is6() {
		network, err := addr.Prefix(64)
		if err == nil {
			return network.String()
		}
	}
	return addr.String()
}

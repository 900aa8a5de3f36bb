package web

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/postern-id/postern/internal/secret"
)

// RequestLine writes one structured log line per request: trace, method, route,
// status, size, duration, address, agent, and what handlers add with Note.
// Query strings, bodies and header values other than the agent never appear.
type RequestLine struct {
	Log      *slog.Logger
	Now      func() time.Time
	NewTrace func() string
}

// line is the request line while it grows.
type line struct {
	trace string

	mu    sync.Mutex
	route string
	attrs []slog.Attr
}

type lineKey struct{}

// Wrap gives each request of next a trace code of our own making, whatever the
// request says about itself, answers it as X-Request-Id, and logs the request
// when it is done.
func (l RequestLine) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		started := l.Now()
		current := &line{trace: l.NewTrace()}
		answer := track(w)
		answer.Header().Set("X-Request-Id", current.trace)
		r = r.WithContext(context.WithValue(r.Context(), lineKey{}, current))
		defer func() { l.write(current, answer, r, started) }()
		next.ServeHTTP(answer, r)
	})
}

func (l RequestLine) write(current *line, answer *response, r *http.Request, started time.Time) {
	current.mu.Lock()
	defer current.mu.Unlock()
	ended := l.Now()
	attrs := make([]slog.Attr, 0, 8+len(current.attrs))
	attrs = append(attrs,
		slog.String("trace", current.trace),
		slog.String("method", cut(r.Method, 16)),
	)
	if current.route != "" {
		attrs = append(attrs, slog.String("route", current.route))
	} else {
		attrs = append(attrs, slog.String("path", secret.Mask(cut(r.URL.Path, 100))))
	}
	attrs = append(attrs,
		slog.Int("status", answer.status), // 0: the connection ended before an answer
		slog.Int64("bytes", answer.bytes),
		slog.Float64("ms", float64(ended.Sub(started).Microseconds())/1000),
		slog.String("ip", ClientIP(r).String()),
		slog.String("agent", secret.Mask(cut(r.UserAgent(), 120))),
	)
	level := slog.LevelInfo
	switch {
	case answer.status == http.StatusServiceUnavailable: // not ready, or more than we take: said to whoever asked
		level = slog.LevelWarn
	case answer.status >= 500 || answer.status == 0:
		level = slog.LevelError
	}
	handler := l.Log.Handler()
	if handler.Enabled(r.Context(), level) {
		record := slog.NewRecord(ended, level, "request", 0) // Logger would look up who calls it, for each
		record.AddAttrs(append(attrs, current.attrs...)...)
		_ = handler.Handle(r.Context(), record) // a log that cannot be written has nobody to tell
	}
}

// Trace returns the trace code of the request, "" outside of one.
func Trace(ctx context.Context) string {
	if current, ok := ctx.Value(lineKey{}).(*line); ok {
		return current.trace
	}
	return ""
}

// Note adds fields to the request's log line. It must not be given secrets.
func Note(ctx context.Context, attrs ...slog.Attr) {
	if current, ok := ctx.Value(lineKey{}).(*line); ok {
		current.mu.Lock()
		defer current.mu.Unlock()
		current.attrs = append(current.attrs, attrs...)
	}
}

// route notes which route answered.
func route(ctx context.Context, pattern string) {
	if current, ok := ctx.Value(lineKey{}).(*line); ok {
		current.mu.Lock()
		defer current.mu.Unlock()
		current.route = pattern
	}
}

func cut(text string, max int) string {
	if len(text) <= max {
		return text
	}
	return text[:max] + "…"
}

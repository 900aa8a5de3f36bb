package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// newLog writes structured lines. The lines of requests wait a moment for each
// other, so that a busy server does not go to the system for each of them; what
// somebody should know of takes them along at once. Whoever ends calls flush.
func newLog(w io.Writer, c Log) (log *slog.Logger, flush func()) {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.Level)) // Config.check judged it
	options := &slog.HandlerOptions{Level: level}
	lines := &lines{to: w}
	var handler slog.Handler = slog.NewJSONHandler(lines, options)
	if c.Format == "text" {
		handler = slog.NewTextHandler(lines, options)
	}
	return slog.New(prompt{handler, lines}), lines.flush
}

// How long a line waits, and how many bytes wait before whoever writes the next
// one waits for the system.
const (
	linesWait = 20 * time.Millisecond
	linesFull = 32 << 10
)

// lines gathers what is written, and passes it on in one piece.
type lines struct {
	to io.Writer

	mu      sync.Mutex
	waiting bytes.Buffer
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting.Len() == 0 {
		time.AfterFunc(linesWait, l.flush)
	}
	l.waiting.Write(line)
	if l.waiting.Len() >= linesFull {
		l.pass()
	}
	return len(line), nil
}

func (l *lines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pass()
}

func (l *lines) pass() {
	_, _ = l.waiting.WriteTo(l.to) // a log that cannot be written has nobody to tell
	l.waiting.Reset()
}

// prompt passes warnings and errors on at once, behind the lines before them.
type prompt struct {
	slog.Handler
	lines *lines
}

func (p prompt) Handle(ctx context.Context, r slog.Record) error {
	err := p.Handler.Handle(ctx, r)
	if r.Level >= slog.LevelWarn {
		p.lines.flush()
	}
	return err
}

func (p prompt) WithAttrs(attrs []slog.Attr) slog.Handler {
	return prompt{p.Handler.WithAttrs(attrs), p.lines}
}

func (p prompt) WithGroup(name string) slog.Handler {
	return prompt{p.Handler.WithGroup(name), p.lines}
}

package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/wire"
)

// Handler answers a request or returns an error, never both.
type Handler func(w http.ResponseWriter, r *http.Request) error

// Error is a refusal that a Handler returns.
type Error struct {
	Status int // HTTP status
	// Page is the story for a person. What it leaves empty of Headline, What,
	// Turn and Next comes from StatusPage, its Status and Trace are always set.
	// A surface for programs takes What as its message.
	Page       ErrorPage
	RetryAfter time.Duration // with 429 and 503: when to come again
	Allow      string        // with 405: the methods that are there
	Cause      error         // for the log, never for a reader
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%d: %v", e.Status, e.Cause)
	}
	return fmt.Sprintf("%d %s", e.Status, http.StatusText(e.Status))
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// ErrorWriter turns an error into the answer of one surface: a page, or JSON.
// The story of e is complete; Retry-After and Allow are in the header already.
type ErrorWriter func(w http.ResponseWriter, r *http.Request, e *Error)

// Handle makes an http.Handler of h. An error it returns is noted in the
// request line and written by write; one that is no *Error, and a panic, are
// 500 without detail. Where the answer had begun before the error, or the asker
// has left, the connection is cut, so that nobody takes half an answer, or none,
// for a whole one.
func Handle(h Handler, write ErrorWriter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := track(w)
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p) // again: the handler cuts the connection
			default:
				refuse(answer, r, write, fmt.Errorf("panic: %v\n%s", p, debug.Stack()))
			}
		}()
		if err := h(answer, r); err != nil {
			refuse(answer, r, write, err)
		}
	})
}

func refuse(w *response, r *http.Request, write ErrorWriter, err error) {
	Note(r.Context(), slog.String("error", err.Error()))
	// Who has left may still listen, having closed one half of the connection
	// only, and no answer of a handler is an empty 200.
	if w.status != 0 || errors.Is(r.Context().Err(), context.Canceled) {
		panic(http.ErrAbortHandler)
	}
	e := asError(err)
	e.Page = story(e.Status, e.Page)
	e.Page.Trace = Trace(r.Context())
	RetryAfter(w, e.RetryAfter)
	if e.Allow != "" {
		w.Header().Set("Allow", e.Allow)
	}
	write(w, r, e)
}

// asError returns err as a refusal.
func asError(err error) *Error {
	var refusal *Error
	var malformed *wire.Error
	var tooLong *http.MaxBytesError
	var passing interface{ Temporary() bool } // what a database that is too busy says
	switch {
	case errors.As(err, &refusal):
		own := *refusal // the handler may return the same one again
		return &own
	case errors.As(err, &malformed):
		return &Error{Status: malformed.Status, Page: ErrorPage{What: malformed.Message, Turn: TheApps}, Cause: err}
	case errors.As(err, &tooLong):
		return &Error{Status: http.StatusRequestEntityTooLarge, Cause: err}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &passing) && passing.Temporary():
		return &Error{Status: http.StatusServiceUnavailable, RetryAfter: time.Second, Cause: err}
	default:
		return &Error{Status: http.StatusInternalServerError, Cause: err}
	}
}

// story completes a page by what its status says in general.
func story(status int, page ErrorPage) ErrorPage {
	general := StatusPage(status)
	switch {
	case status == http.StatusRequestURITooLong:
		general = StatusPage(http.StatusRequestEntityTooLarge)
	case status < 500 && general.Headline == StatusPage(http.StatusInternalServerError).Headline:
		general = StatusPage(http.StatusBadRequest) // a refusal that has no words of its own
	}
	page.Status = status
	page.Headline = cmp.Or(page.Headline, general.Headline)
	page.What = cmp.Or(page.What, general.What)
	page.Turn = cmp.Or(page.Turn, general.Turn)
	page.Next = cmp.Or(page.Next, general.Next)
	return page
}

// Mux serves m, but lets write answer where m has no route (404) or not for the
// method (405 with Allow). It notes the route for the request line.
func Mux(m *http.ServeMux, write ErrorWriter) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if builtin, pattern := m.Handler(r); pattern == "" {
			probe := &probe{header: http.Header{}}
			builtin.ServeHTTP(probe, r)
			if probe.status == http.StatusNotFound || probe.status == http.StatusMethodNotAllowed {
				refuse(track(w), r, write, &Error{Status: probe.status, Allow: probe.header.Get("Allow")})
				return
			}
		}
		defer func() { route(r.Context(), r.Pattern) }()
		m.ServeHTTP(w, r)
	})
}

// PagePath is the path of the route that a request took, with the names of its
// variables where their values are: what can be told of an address without what
// somebody put into it.
func PagePath(r *http.Request) string {
	_, path, _ := strings.Cut(r.Pattern, " ")
	return path
}

// probe takes the answer that a ServeMux gives by itself.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header         { return p.header }
func (p *probe) Write(b []byte) (int, error) { return len(b), nil }
func (p *probe) WriteHeader(status int)      { p.status = status }

// Middleware wraps a handler.
type Middleware func(http.Handler) http.Handler

// Chain puts h behind the middleware, the first one outermost.
func Chain(h http.Handler, outermostFirst ...Middleware) http.Handler {
	for i := len(outermostFirst) - 1; i >= 0; i-- {
		h = outermostFirst[i](h)
	}
	return h
}

// response remembers what was answered.
type response struct {
	http.ResponseWriter
	status int // 0 until the answer began
	bytes  int64
}

func track(w http.ResponseWriter) *response {
	if known, ok := w.(*response); ok {
		return known
	}
	return &response{ResponseWriter: w}
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// RetryAfter says in the header when to come again, in whole seconds; not at all
// when wait is 0.
func RetryAfter(w http.ResponseWriter, wait time.Duration) {
	if wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
	}
}

package guard

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxStreams bounds the sessions and event streams of one Guard, and maxOwn
// those of one caller, so that nobody takes the room of all.
const (
	maxStreams = 100_000
	maxOwn     = 64
)

// stream is what a caller holds open: one request, an event stream with its
// messages (2024-11-05), or a session with all its requests (2025). The request
// that opened it has it in its context, since all operations of a stream may
// run there, whichever request brought them.
type stream struct {
	newest atomic.Pointer[Principal]
}

func newStream(p *Principal) *stream {
	s := new(stream)
	s.newest.Store(p)
	return s
}

// extend admits one more request to the stream. Its token becomes the newest
// unless it ends earlier.
func (s *stream) extend(p *Principal) error {
	for {
		newest := s.newest.Load()
		if newest.caller() != p.caller() {
			return errOtherCaller
		}
		if p.Expires.Before(newest.Expires) || s.newest.CompareAndSwap(newest, p) {
			return nil
		}
	}
}

// handle is the name by which later requests mean a stream: a session id, or
// a part of the message endpoint's URL that an event stream announced.
type handle struct {
	session bool
	id      string
}

// streams are the open streams by their handles.
type streams struct {
	now  func() time.Time
	poll time.Duration // look at the clock at least this often

	mu     sync.Mutex
	bound  map[handle]*stream
	own    map[caller][]handle // each caller's, the last used session last
	events int                 // handles of event streams among them
	sweep  int                 // number of handles at which ended ones are looked for
	swept  time.Time
}

// bind gives a stream a name. A caller who has maxOwn of them loses the session
// that was unused for longest: a client that still wants it begins another. An
// event stream's name is never taken from it, since the endpoint would then be
// anybody's.
//
// It fails when too many are open, and when an event stream's name is another
// one's already: who sent a message could not be told from it.
func (ss *streams) bind(h handle, s *stream) error {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	now := ss.now()
	if len(ss.bound) >= max(ss.sweep, 1024) && now.Sub(ss.swept) >= time.Minute {
		// A session may be taken up again with a refreshed token some time
		// after the old one has ended, but not for ever. To forget one is
		// safe: it is then unknown, and the client starts another.
		long := now.Add(-24 * time.Hour)
		for h, s := range ss.bound {
			if h.session && s.newest.Load().Expires.Before(long) {
				ss.drop(h)
			}
		}
		ss.sweep, ss.swept = min(2*len(ss.bound), maxStreams), now
	}
	if other, taken := ss.bound[h]; taken && other != s && !h.session {
		return errTaken
	}
	ss.drop(h)
	who := s.newest.Load().caller()
	if own := ss.own[who]; len(own) >= maxOwn {
		unused := slices.IndexFunc(own, func(h handle) bool { return h.session })
		if unused < 0 {
			return errTooMany
		}
		ss.drop(own[unused])
	}
	if len(ss.bound) >= maxStreams {
		return errTooMany
	}
	ss.bound[h] = s
	ss.own[who] = append(ss.own[who], h)
	if !h.session {
		ss.events++
	}
	return nil
}

func (ss *streams) release(h handle) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	ss.drop(h)
}

// drop forgets a handle, if it is bound. The caller holds ss.mu.
func (ss *streams) drop(h handle) {
	s, ok := ss.bound[h]
	if !ok {
		return
	}
	delete(ss.bound, h)
	if !h.session {
		ss.events--
	}
	who := s.newest.Load().caller()
	ss.own[who] = keep(ss.own[who], func(other handle) bool { return other != h })
	if len(ss.own[who]) == 0 {
		delete(ss.own, who)
	}
}

// use notes that a caller used a session, if it is theirs. Whoever calls it
// holds ss.mu.
func (ss *streams) use(who caller, h handle) {
	own := ss.own[who]
	if i := slices.Index(own, h); i >= 0 {
		copy(own[i:], own[i+1:])
		own[len(own)-1] = h
	}
}

// find returns the stream that a request belongs to: one that it joins, or a
// new one.
//
// A session that this Guard did not see begin is refused: whose it is cannot
// be known. Clients answer that by beginning another.
func (ss *streams) find(r *http.Request, p *Principal) (s *stream, joins bool, err error) {
	ss.mu.Lock()
	var found []*stream
	if id := r.Header.Get(sessionHeader); id != "" {
		s, ok := ss.bound[handle{true, id}]
		if !ok {
			ss.mu.Unlock()
			return nil, false, errNoSession
		}
		ss.use(p.caller(), handle{true, id})
		found = append(found, s)
	}
	if r.Method != http.MethodGet && ss.events > 0 {
		query, path := endpointParts(r.URL)
		for _, id := range slices.Concat(query, path) {
			if s, ok := ss.bound[handle{false, id}]; ok {
				found = append(found, s)
			}
		}
	}
	ss.mu.Unlock()
	if len(found) == 0 {
		return newStream(p), false, nil
	}
	for _, s := range found {
		if err := s.extend(p); err != nil {
			return nil, false, err
		}
	}
	return found[0], true, nil
}

// endpointParts returns what may tell one message endpoint from another: the
// values of its query and the segments of its path that are long enough to be
// unguessable.
func endpointParts(u *url.URL) (query, path []string) {
	long := func(s string) bool { return len(s) >= 16 }
	for _, values := range u.Query() {
		query = append(query, keep(values, long)...)
	}
	return query, keep(strings.Split(u.Path, "/"), long)
}

func keep[T any](all []T, ok func(T) bool) []T {
	return slices.DeleteFunc(all, func(v T) bool { return !ok(v) })
}

// endpointHandles returns the handles of the message endpoint that an event
// stream opened by request announced: parts that the request did not have
// itself, of the query if there are any, else of the path.
func endpointHandles(request, endpoint *url.URL) []handle {
	oldQuery, oldPath := endpointParts(request)
	fresh := func(s string) bool { return !slices.Contains(oldQuery, s) && !slices.Contains(oldPath, s) }
	query, path := endpointParts(endpoint)
	ids := keep(query, fresh)
	if len(ids) == 0 {
		ids = keep(path, fresh)
	}
	handles := make([]handle, len(ids))
	for i, id := range ids {
		handles[i] = handle{false, id}
	}
	return handles
}

// until returns how long the stream may still be open, and at most the poll
// interval.
func (ss *streams) until(s *stream) (left time.Duration, ended bool) {
	newest, now := s.newest.Load(), ss.now()
	if newest.ended(now) {
		return 0, true
	}
	return min(newest.Expires.Add(leeway).Sub(now)+time.Millisecond, ss.poll), false
}

// open returns a context that ends when the stream's newest token has ended,
// and a function that must be called when the request is over.
func (ss *streams) open(ctx context.Context, s *stream) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	var mu sync.Mutex
	var timer *time.Timer
	mu.Lock()
	defer mu.Unlock()
	left, _ := ss.until(s)
	timer = time.AfterFunc(left, func() {
		mu.Lock()
		defer mu.Unlock()
		left, ended := ss.until(s)
		if ended {
			cancel(ErrInvalidToken)
		}
		if ctx.Err() == nil {
			timer.Reset(left)
		}
	})
	return ctx, func() {
		cancel(nil)
		timer.Stop()
	}
}

const sessionHeader = "Mcp-Session-Id"

// watcher is the ResponseWriter of a request that may open a session or an
// event stream. It binds the stream before the client can learn its name.
type watcher struct {
	http.ResponseWriter
	streams   *streams
	stream    *stream
	request   *http.Request
	bound     []handle // of an event stream, released with the request
	started   bool
	announced bool   // the message endpoint is known, or there is none
	event     []byte // what was written of the current event
	err       error
}

func (w *watcher) WriteHeader(status int) {
	if !w.started {
		w.started = status >= 200
		if id := w.Header().Get(sessionHeader); id != "" {
			if w.err = w.streams.bind(handle{true, id}, w.stream); w.err != nil {
				w.Header().Del(sessionHeader) // a session that nobody can use
			}
		}
		w.announced = w.request.Method != http.MethodGet || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream")
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *watcher) Write(b []byte) (int, error) {
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
	if !w.announced {
		w.readEvents(b)
	}
	if w.err != nil {
		return 0, w.err
	}
	return w.ResponseWriter.Write(b)
}

// maxEvent is more than an "endpoint" event ever has.
const maxEvent = 16 << 10

// readEvents looks for the event "endpoint", which an event stream of revision
// 2024-11-05 sends before any message.
func (w *watcher) readEvents(b []byte) {
	w.event = bytes.ReplaceAll(append(w.event, b...), []byte("\r\n"), []byte("\n"))
	for !w.announced {
		event, rest, complete := bytes.Cut(w.event, []byte("\n\n"))
		if !complete {
			break
		}
		w.event = rest
		w.readEvent(string(event))
	}
	if len(w.event) > maxEvent {
		w.event = w.event[len(w.event)-2:] // perhaps half of the end
	}
}

func (w *watcher) readEvent(event string) {
	name, data := "", ""
	for line := range strings.SplitSeq(event, "\n") {
		field, value, _ := strings.Cut(line, ":")
		switch value = strings.TrimPrefix(value, " "); field {
		case "event":
			name = value
		case "data":
			data = value
		}
	}
	if name != "endpoint" {
		return
	}
	w.announced, w.event = true, nil
	endpoint, err := url.Parse(data)
	if err != nil {
		w.err = err
		return
	}
	handles := endpointHandles(w.request.URL, endpoint)
	if len(handles) == 0 {
		// Whoever guessed the endpoint could speak on this stream.
		w.err = errors.New("guard: the event stream's endpoint has no unguessable part")
		return
	}
	for _, h := range handles {
		if w.err = w.streams.bind(h, w.stream); w.err != nil {
			return
		}
		w.bound = append(w.bound, h)
	}
}

// Flush is for handlers that look for an http.Flusher.
func (w *watcher) Flush() {
	if !w.started {
		w.WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(w.ResponseWriter).Flush() // best effort, as http.Flusher is
}

// Unwrap is for http.ResponseController.
func (w *watcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *watcher) close() {
	for _, h := range w.bound {
		w.streams.release(h)
	}
}

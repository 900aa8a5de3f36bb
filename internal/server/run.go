package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
	"github.com/postern-id/postern/internal/web"
)

// Taken is the error of a port that another program listens on.
type Taken struct {
	Address string
	Port    int
}

func (e *Taken) Error() string { return "another program listens on " + e.Address }

// Listen opens TCP addresses. A computer without IPv6 does with the others; a
// port that is taken is a *Taken.
func Listen(addresses ...string) ([]net.Listener, error) {
	var open []net.Listener
	var missing error
	for _, address := range addresses {
		l, err := net.Listen("tcp", address) //nolint:noctx // at once, or not at all
		if err == nil {
			open = append(open, l)
			continue
		}
		if taken(err) {
			closeAll(open)
			_, port, _ := net.SplitHostPort(address)
			n, _ := strconv.Atoi(port)
			return nil, &Taken{Address: address, Port: n}
		}
		missing = err
	}
	if len(open) == 0 {
		return nil, missing
	}
	return open, nil
}

func closeAll(listeners []net.Listener) {
	for _, l := range listeners {
		_ = l.Close() // nothing was accepted
	}
}

// Run serves on the listeners, which it closes, until ctx ends. Then it takes
// no new request, lets the running ones finish for Config.Drain, ends the
// background work and returns. An error means that serving stopped by itself.
func (s *Server) Run(ctx context.Context, listeners []net.Listener) error {
	serverTLS, err := s.tls()
	if err != nil {
		closeAll(listeners)
		return err
	}
	h := &http.Server{
		Handler:           s.handler,
		MaxHeaderBytes:    web.MaxHeaderBytes,
		ReadHeaderTimeout: cmp.Or(s.config.Timeouts.Header, web.HeaderTimeout),
		ReadTimeout:       cmp.Or(s.config.Timeouts.Read, web.ReadTimeout),
		WriteTimeout:      web.WriteTimeout,
		IdleTimeout:       cmp.Or(s.config.Timeouts.Idle, web.IdleTimeout),
		TLSConfig:         serverTLS,
		ErrorLog:          slog.NewLogLogger(s.config.Log.Handler(), slog.LevelDebug),
	}
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	// The work behind the requests goes on until the last one is answered.
	working, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	var background, serving sync.WaitGroup
	background.Go(func() {
		if err := s.background(working); err != nil {
			stop(err)
		}
	})
	for _, l := range listeners {
		serving.Go(func() {
			err := error(nil)
			if serverTLS != nil {
				err = h.ServeTLS(l, "", "")
			} else {
				err = h.Serve(l)
			}
			if !errors.Is(err, http.ErrServerClosed) {
				stop(err)
			}
		})
	}
	<-ctx.Done()
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.config.Drain)
	defer cancel()
	if err := h.Shutdown(patience); err != nil {
		s.config.Log.Warn("requests were cut off at shutdown", "after", s.config.Drain.String())
		_ = h.Close() // Shutdown's error says it already
	}
	serving.Wait()
	end()
	background.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// background does what happens without a request, until ctx ends. What fails
// is logged and tried again; only a start that can never succeed is returned.
func (s *Server) background(ctx context.Context) error {
	if err := s.awaitSchema(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	a := s.serving.Load()
	var all sync.WaitGroup
	defer all.Wait()
	for range mailers {
		all.Go(func() {
			if err := a.mails.Run(ctx); err != nil && ctx.Err() == nil {
				a.log.Error("the mail queue has stopped", "error", err)
			}
		})
	}
	hurry := make(chan struct{}, 1)
	all.Go(func() { a.keepUp(ctx, s.config.Poll, hurry) })
	all.Go(func() { a.listen(ctx, hurry) })
	all.Go(func() {
		a.compareClocks(ctx)
		every(ctx, time.Minute, func() { a.compareClocks(ctx) })
	})
	all.Go(func() {
		a.clean(ctx)
		every(ctx, time.Hour, func() { a.clean(ctx) })
	})
	all.Go(func() {
		a.count(ctx)
		every(ctx, time.Hour, func() { a.count(ctx) })
	})
	all.Go(func() {
		a.seal(ctx)
		every(ctx, time.Minute, func() { a.seal(ctx) })
	})
	return nil
}

// mailers is how many mails are on their way at once.
const mailers = 2

// every calls do at each interval until ctx ends.
func every(ctx context.Context, interval time.Duration, do func()) {
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			do()
		}
	}
}

// awaitSchema waits until somebody has migrated a PostgreSQL database.
func (s *Server) awaitSchema(ctx context.Context) error {
	if s.serving.Load() != nil {
		return nil
	}
	s.config.Log.Warn("the database waits for its migration; run: postern migrate")
	t := time.NewTicker(project.PollInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		err := s.start(ctx)
		switch {
		case err == nil, errors.Is(err, store.ErrSchemaNew), errors.Is(err, store.ErrCollation), errors.Is(err, store.ErrPurpose), errors.Is(err, signing.ErrWrongMasterKey):
			return err
		case !errors.Is(err, store.ErrSchemaOld) && ctx.Err() == nil:
			s.config.Log.Warn("the database cannot be used yet", "error", err)
		}
	}
}

// load is how far the keys of a project are loaded.
type load struct {
	change int64 // of the project, when they were asked for last
	pause  int   // how many polls to let pass after that; 0: they are loaded
	left   int   // of the pause
}

// loadKeys loads the keys of projects that changed, which others may have rotated
// or taken out, and makes those that they lack: ES256 at once, RS256 after it,
// which takes its time. Metadata does not wait for them; /readyz does. A project
// stays due until that succeeds, each time after a longer pause.
func (a *assembly) loadKeys(ctx context.Context) {
	a.loading.Lock()
	defer a.loading.Unlock()
	due := slices.DeleteFunc(a.directory.All(), func(p *project.Project) bool {
		l, known := a.loads[p.ID]
		if !known || l.change != p.Change {
			return false
		}
		if l.left > 0 {
			l.left--
			a.loads[p.ID] = l
			return true
		}
		return l.pause == 0
	})
	failed := map[string]bool{}
	for _, alg := range []signing.Algorithm{signing.ES256, signing.RS256} {
		for _, p := range due {
			one, cancel := bounded(ctx)
			err := a.keys.Ensure(one, p.ID, alg)
			cancel()
			if err != nil {
				failed[p.ID] = true
				if ctx.Err() == nil {
					a.log.Error("keys could not be loaded or made", "project", p.ID, "algorithm", alg, "error", err)
				}
			}
		}
	}
	for _, p := range due {
		l := load{change: p.Change}
		if failed[p.ID] {
			l.pause = min(2*a.loads[p.ID].pause+1, maxPause)
			l.left = l.pause
		}
		a.loads[p.ID] = l
	}
}

// maxPause is the longest pause, about a minute.
const maxPause = 60

// keepUp follows what is changed beside this server, keeps what this one put off
// and its place among the others: at each interval, and as soon as hurry tells of
// something.
func (a *assembly) keepUp(ctx context.Context, interval time.Duration, hurry <-chan struct{}) {
	a.renew(ctx)
	defer a.leave(ctx)
	a.loadKeys(ctx)
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-hurry:
		}
		if err := a.follow(ctx); err != nil && ctx.Err() == nil {
			a.log.Error("changes could not be read", "error", err)
		}
		a.keepCalls(ctx)
		a.renew(ctx)
		select { // many changes in a row are few polls
		case <-ctx.Done():
		case <-time.After(breath):
		}
	}
}

// bounded gives a piece of background work a deadline, and with it each of its
// statements: on a connection that died without a word it would wait for as long
// as the operating system keeps trying, a quarter of an hour.
func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 30*time.Second)
}

// breath is the least time between two polls.
const breath = 100 * time.Millisecond

// renew renews this server's lease when a third of it has passed, and takes its
// part of the flood limits: as many parts as servers are alive.
func (a *assembly) renew(ctx context.Context) {
	now := a.now()
	if since := now.Sub(a.renewed); since >= 0 && since < store.NodeLease/3 {
		return
	}
	one, cancel := bounded(ctx)
	defer cancel()
	live, err := a.db.RenewNode(one, a.id, a.started)
	if err != nil {
		if ctx.Err() == nil {
			a.log.Error("this server's lease could not be renewed", "error", err)
		}
		return
	}
	a.renewed = now
	for _, l := range a.limiters {
		l.Divide(live)
	}
}

// keepCalls keeps the first calls that were seen, for the traces.
func (a *assembly) keepCalls(ctx context.Context) {
	one, cancel := bounded(ctx)
	defer cancel()
	if err := a.oauth.KeepCalls(one); err != nil && ctx.Err() == nil {
		a.log.Warn("first calls are not kept yet; their traces lack them", "error", err)
	}
}

// leave keeps what was put off, and gives this server's part of the limits to the
// others.
func (a *assembly) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	a.keepCalls(ctx)
	if err := a.db.EndNode(ctx, a.id); err != nil {
		a.log.Warn("this server's lease could not be ended; it runs out by itself", "error", err)
	}
}

// listen passes on what the database tells of changes, and connects again when
// it stops. Meanwhile polling is enough.
func (a *assembly) listen(ctx context.Context, hurry chan<- struct{}) {
	const soon, late = 100 * time.Millisecond, 30 * time.Second
	for wait := soon; ; wait = min(2*wait, late) {
		err := a.db.Listen(ctx, func() {
			wait = soon // it works
			select {
			case hurry <- struct{}{}:
			default: // the poll to come will see this change too
			}
		})
		if ctx.Err() != nil {
			return
		}
		a.log.Warn("the database does not tell of changes now; they are polled for", "error", err, "again", wait.String())
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// Follow takes in at once what was changed beside this server, and keeps what it
// put off. Run does both every Config.Poll, and whenever the database tells of a
// change.
func (s *Server) Follow(ctx context.Context) error {
	a := s.serving.Load()
	if a == nil {
		return nil
	}
	a.keepCalls(ctx)
	return a.follow(ctx)
}

// follow takes in what was changed beside this server.
func (a *assembly) follow(ctx context.Context) error {
	one, cancel := bounded(ctx)
	defer cancel()
	changed, err := a.directory.Poll(one)
	if err != nil {
		return err
	}
	for _, id := range changed {
		if p, ok := a.directory.ByID(id); ok {
			for _, problem := range Unfit(p.Name, p.Issuer, a.console) {
				a.log.Error("a project is not safe to serve", "project", id, "error", problem)
			}
		}
	}
	a.loadKeys(ctx)
	return nil
}

// The tolerated differences between our clock and the database's.
const (
	skewLogged  = 2 * time.Second
	skewRefused = 10 * time.Second
)

func (a *assembly) compareClocks(ctx context.Context) {
	one, cancel := bounded(ctx)
	defer cancel()
	skew, err := a.db.ClockSkew(one)
	if err != nil {
		return // the database's trouble shows elsewhere
	}
	a.skewed.Store(skew.Abs() > skewRefused)
	if skew.Abs() > skewLogged {
		a.log.Warn("this computer's clock and the database's differ", "by", skew.String())
	}
}

// cleanBatch bounds the rows of one clean-up statement. On SQLite whoever writes
// waits behind it.
func (a *assembly) cleanBatch() int {
	if a.db.SQLite() {
		return 250
	}
	return 500
}

// unusedClients is after what time a self-registered client without grant goes
// (decision 9).
const unusedClients = 30 * 24 * time.Hour

// clean removes what has run out and renews what is due. Every step may run on
// several servers at once.
func (a *assembly) clean(ctx context.Context) {
	for _, p := range a.directory.All() {
		if err := a.keys.RotateDue(ctx, p.ID); err != nil && ctx.Err() == nil {
			a.log.Error("keys could not be rotated", "project", p.ID, "error", err)
		}
	}
	for _, step := range []struct {
		name string
		do   func() (int, error)
	}{
		{"clients", func() (int, error) {
			return a.db.ExpireClients(ctx, a.now().Add(-unusedClients), a.cleanBatch(), a.now())
		}},
		{"rows", func() (int, error) { return a.db.Clean(ctx, a.now(), a.cleanBatch()) }},
	} {
		for {
			n, err := step.do()
			if err != nil && ctx.Err() == nil {
				a.log.Error("clean-up failed", "step", step.name, "error", err)
			}
			if err != nil || n == 0 {
				break
			}
		}
	}
}

// count counts the hours that are over, which the dashboard's first page shows,
// while nobody waits for it.
func (a *assembly) count(ctx context.Context) {
	for _, p := range a.directory.All() {
		if _, err := a.tallies.Day(ctx, p.ID); err != nil && ctx.Err() == nil {
			a.log.Error("events could not be counted", "project", p.ID, "error", err)
		}
	}
}

// seal vouches for the events of the last minute, of the deployment and of each
// project.
func (a *assembly) seal(ctx context.Context) {
	trails := []string{""}
	for _, p := range a.directory.All() {
		trails = append(trails, p.ID)
	}
	for _, id := range trails {
		if err := a.seals.Add(ctx, id); err != nil && ctx.Err() == nil {
			a.log.Error("events could not be sealed; see: postern audit verify", "project", id, "error", err)
		}
	}
}

// tls is the configuration of the listeners, nil for plain http.
func (s *Server) tls() (*tls.Config, error) {
	if s.config.Certificate == "" {
		return nil, nil
	}
	c := &certificate{chain: s.config.Certificate, key: s.config.Key, now: s.config.Now, log: s.config.Log}
	if _, err := c.current(); err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.current() },
	}, nil
}

// certificate is a pair of files that is read again when it was renewed, at
// most once a minute.
type certificate struct {
	chain, key string
	now        func() time.Time
	log        *slog.Logger

	mu      sync.Mutex
	loaded  *tls.Certificate
	changed time.Time // of the chain's file, when it was loaded
	looked  time.Time
}

func (c *certificate) current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded != nil && c.now().Sub(c.looked) < time.Minute {
		return c.loaded, nil
	}
	c.looked = c.now()
	info, err := os.Stat(c.chain)
	if err == nil && c.loaded != nil && info.ModTime().Equal(c.changed) {
		return c.loaded, nil
	}
	pair, pairErr := tls.LoadX509KeyPair(c.chain, c.key)
	if err = errors.Join(err, pairErr); err != nil {
		if c.loaded == nil {
			return nil, err
		}
		c.log.Error("the renewed certificate cannot be read; the old one stays", "error", err)
		return c.loaded, nil
	}
	c.loaded, c.changed = &pair, info.ModTime()
	return c.loaded, nil
}

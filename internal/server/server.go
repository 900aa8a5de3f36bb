package server

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/store"
	"github.com/postern-id/postern/internal/web"
)

// Config is what Open needs. Storage, URL, Mail, Log, Now and Version are
// required.
type Config struct {
	Storage     *Storage
	URL         string      // the deployment's own, where the dashboard is
	Mail        mail.Sender // how one-time codes leave
	Proxies     []netip.Prefix
	Certificate string // PEM files; both or neither. They are read again when they change.
	Key         string
	Migrate     bool // bring PostgreSQL up to date at start
	Log         *slog.Logger
	Now         func() time.Time
	Version     string
	Drain       time.Duration // how long requests may finish after Run is told to end; 0 means web.DrainTimeout
	Poll        time.Duration // how often changes made beside this server are looked for; 0 means project.PollInterval
	Timeouts    web.Timeouts
	Dev         *Dev                            // only in development
	Around      func(http.Handler) http.Handler // nil, or what sees every request and answer as they are outside: for tests
	RSA         func() (*rsa.PrivateKey, error) // that of signing.Config: for tests
}

// Dev is what "postern dev" and tests change. None of it is safe on a host.
type Dev struct {
	Mailbox http.Handler   // answers at DevMailbox and DevMailboxJSON
	Roots   *x509.CertPool // trusted besides the system's for metadata documents
	// Told hears of every decision right after it was kept, with the scopes that
	// were allowed. It must not block.
	Told func(e audit.Event, scopes []string)
}

// The addresses of the mailbox of development.
const (
	DevMailbox     = "/dev/mailbox"
	DevMailboxJSON = "/dev/mailbox.json"
)

// Server serves the projects of one deployment.
type Server struct {
	config  Config
	handler http.Handler
	serving atomic.Pointer[assembly] // nil while the database waits for its migration
}

// Open checks the configuration and the data, and prepares everything that
// answers need. A PostgreSQL database that is not up to date is no error: Run
// then answers "not ready" until somebody migrates it.
func Open(ctx context.Context, c Config) (*Server, error) {
	if c.Storage == nil || c.URL == "" || c.Mail == nil || c.Log == nil || c.Now == nil || c.Version == "" {
		return nil, errors.New("server: Storage, URL, Mail, Log, Now and Version are required")
	}
	if c.Drain == 0 {
		c.Drain = web.DrainTimeout
	}
	if c.Poll == 0 {
		c.Poll = project.PollInterval
	}
	s := &Server{config: c}
	s.handler = web.Chain(http.HandlerFunc(s.answer),
		web.Proxy{Trusted: c.Proxies}.Wrap,
		web.RequestLine{Log: c.Log, Now: c.Now, NewTrace: secret.NewTrace}.Wrap,
		web.EndChunked,
	)
	if c.Around != nil {
		s.handler = c.Around(s.handler)
	}
	db := c.Storage.DB
	if !db.SQLite() && c.Migrate {
		if err := db.Migrate(ctx); err != nil {
			return nil, err
		}
	}
	err := s.start(ctx)
	if errors.Is(err, store.ErrSchemaOld) {
		return s, nil
	}
	return s, err
}

// start assembles the server once the schema is right.
func (s *Server) start(ctx context.Context) error {
	if err := s.config.Storage.DB.CheckSchema(ctx); err != nil {
		return err
	}
	if err := s.config.Storage.proveKey(ctx); err != nil {
		return err
	}
	if s.config.Dev == nil { // postern dev has its own rule
		if err := s.config.Storage.DB.Dedicate(ctx, store.Service); err != nil {
			return err
		}
	}
	a, err := assemble(ctx, s.config)
	if err != nil {
		return err
	}
	if problems := a.unsafe(); len(problems) > 0 {
		return &Unsafe{Problems: problems}
	}
	s.serving.Store(a)
	return nil
}

// Unsafe names every reason in the data why it must not be served (decision
// 36), a sentence each.
type Unsafe struct{ Problems []string }

func (e *Unsafe) Error() string { return fmt.Sprintf("server: unsafe: %v", e.Problems) }

// Handler answers every request; Run uses it.
func (s *Server) Handler() http.Handler { return s.handler }

// answer sends a request to health, or to the project of its host.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) {
	a := s.serving.Load()
	switch {
	case r.URL.Path == "/healthz":
		writeJSON(w, http.StatusOK, map[string]any{"ok": true, "version": s.config.Version})
	case a == nil:
		w.Header().Set("Retry-After", "5")
		refuse(w, http.StatusServiceUnavailable, "temporarily_unavailable", "The database waits for its migration. Whoever runs this server: postern migrate")
	case r.URL.Path == "/readyz":
		a.readyz(w, r)
	default:
		a.route(w, r)
	}
}

// readyz tells whether this server can do its work: the database answers, its
// clock agrees with ours, every project can sign with both algorithms, and none
// has come that would be unsafe to serve. It may be asked by anybody and often:
// one look runs at a time, and a good one holds for a second.
func (a *assembly) readyz(w http.ResponseWriter, r *http.Request) {
	if age := a.now().UnixNano() - a.good.Load(); age >= 0 && age < int64(time.Second) {
		writeJSON(w, http.StatusOK, map[string]any{"ready": true})
		return
	}
	look, _, _ := a.looks.Do("", func() (any, error) { // never an error
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), lookTime)
		defer cancel()
		return a.missing(ctx), nil
	})
	if missing := look.([]string); len(missing) > 0 {
		writeJSON(w, http.StatusServiceUnavailable, map[string]any{"ready": false, "missing": missing})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{"ready": true})
}

// lookTime bounds one look of readyz.
const lookTime = 5 * time.Second

func (a *assembly) missing(ctx context.Context) []string {
	var missing []string
	if err := a.db.Ping(ctx); err != nil {
		missing = append(missing, "database")
	}
	if a.skewed.Load() {
		missing = append(missing, "clock")
	}
	for _, p := range a.directory.All() {
		if a.ready.Load() && a.now().Sub(p.CreatedAt) < makingKeys {
			continue // a new project takes no server out of service
		}
		ring, err := a.keys.Ring(ctx, p.ID)
		if err != nil || !ring.Ready() {
			missing = append(missing, "keys")
			break
		}
	}
	if len(a.unsafe()) > 0 {
		missing = append(missing, "configuration")
	}
	if len(missing) == 0 {
		a.ready.Store(true)
		a.good.Store(a.now().UnixNano())
	}
	return missing
}

// makingKeys is how long the keys of a new project may take.
const makingKeys = 30 * time.Second

// unsafe finds projects that must not be served as they are.
func (a *assembly) unsafe() []string {
	var problems []string
	for _, p := range a.directory.All() {
		problems = append(problems, Unfit(p.Name, p.Issuer, a.console)...)
	}
	return problems
}

// Unfit names why a project with this issuer must not be served (decision 36),
// a sentence each. console says that the deployment's mails go to the log.
func Unfit(name, issuer string, console bool) []string {
	var problems []string
	if err := project.CheckIssuer(issuer); err != nil {
		problems = append(problems, fmt.Sprintf("project %s: %s", name, err))
	}
	u, err := url.Parse(issuer)
	if console && err == nil && !project.Loopback(u.Hostname()) {
		problems = append(problems, fmt.Sprintf("project %s: others sign in at %s, and mail.transport console writes their codes to the log; use smtp", name, issuer))
	}
	return problems
}

// refuse answers a program with an error in the form of RFC 6749 §5.2.
func refuse(w http.ResponseWriter, status int, code, description string) {
	writeJSON(w, status, map[string]string{"error": code, "error_description": description})
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil { // maps of plain values only
		status, body = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that went away is no error of ours
}

// refuseMachine is the web.ErrorWriter of the endpoints for programs.
func refuseMachine(w http.ResponseWriter, _ *http.Request, e *web.Error) {
	code, sentence := "invalid_request", e.Page.What
	switch {
	case e.Status == http.StatusNotFound:
		code, sentence = "not_found", "There is no such endpoint. The metadata of the issuer names every one there is."
	case e.Status == http.StatusMethodNotAllowed:
		sentence = "This endpoint does not take that method. The Allow header names those it takes."
	case e.Status >= http.StatusInternalServerError, e.Status == http.StatusTooManyRequests:
		code = "temporarily_unavailable"
	}
	refuse(w, e.Status, code, sentence)
}

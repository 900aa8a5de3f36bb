// Package rig runs a built Postern as a process of its own, and plays honest
// people, apps and resource servers against it. It is what the benchmarks and the
// fault campaigns stand on: unlike servertest, what it runs can be killed and
// measured.
//
// Build makes the binary. New makes a database, a project and two resource
// servers; a Server can then be started, killed, stopped and started again on the
// same data, as often as one likes, and Beside adds a second node to a PostgreSQL
// database. An Actor is a person with a browser and an app, from an address of
// their own: each of its methods returns only after the server said yes, so that
// whoever keeps a journal writes down what was acknowledged. Page is an answer as
// a browser has it, with its forms. Mailbox is the SMTP server that the one-time
// codes arrive at. Usage is what a process cost.
//
// The package decides nothing, and like servertest it counts as tests. It needs
// Linux for Usage, and for nothing else.
package rig

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"
)

// The resource servers of a project. Nobody listens there.
const (
	Notes  = "http://localhost:4999/mcp" // the project's default; tokens by RFC 9068, ES256
	Legacy = "http://localhost:4998/mcp" // the compatible profile, RS256
)

// Scopes are what both resource servers offer.
const Scopes = "notes:read notes:write"

// Build compiles the Postern of a source tree as a release is compiled, but for
// the flags that follow, and returns the binary's path, in folder.
func Build(ctx context.Context, root, folder string, flags ...string) (string, error) {
	binary := filepath.Join(folder, "postern")
	args := append([]string{"build", "-trimpath", "-ldflags=-s -w", "-o", binary}, flags...)
	c := exec.CommandContext(ctx, "go", append(args, "./cmd/postern")...) //nolint:gosec // the caller's own folder
	c.Dir, c.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build postern: %w\n%s", err, out)
	}
	return binary, nil
}

// Config is what New needs. Binary and Folder are required.
type Config struct {
	Binary   string
	Folder   string   // data and log go here; made if it is not there
	Postgres string   // URL of a server on which databases may be made; "" is SQLite in Folder
	Mail     *Mailbox // nil opens one that Close closes
	Env      []string // further settings, as POSTERN_…=…
	Empty    bool     // no project, and so no actors
}

// Server is one node of a deployment: a process that runs, or does not.
type Server struct {
	Issuer  string
	Listen  string // host and port of this node
	Data    string // folder of the SQLite file and the master key
	LogFile string
	Mail    *Mailbox

	ProjectID     string
	ProjectSecret string
	Inspectors    map[string]string // by resource: what its server authenticates with, "Basic …"

	// FirstAnswer and Ready are how long the newest Start took until the first 200
	// of the metadata (of /healthz without a project), and of /readyz.
	FirstAnswer, Ready time.Duration

	binary   string
	env      []string
	postgres string // URL of the database, "" on SQLite
	database string // its name on PostgreSQL
	ownMail  bool
	beside   bool
	actors   *atomic.Int64

	mu      sync.Mutex
	process *exec.Cmd     // nil when it does not run
	ended   chan struct{} // closed when process has ended
	db      *sql.DB
}

// New makes a database with a project and its resource servers. Nothing runs yet.
func New(ctx context.Context, c Config) (*Server, error) {
	if c.Binary == "" || c.Folder == "" {
		return nil, errors.New("rig: Binary and Folder are required")
	}
	folder, err := filepath.Abs(c.Folder)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	listen, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		return nil, err
	}
	s := &Server{
		Issuer: "http://localhost:" + port, Listen: listen, Mail: c.Mail,
		Data: filepath.Join(folder, "data"), LogFile: filepath.Join(folder, "log"),
		Inspectors: map[string]string{}, binary: c.Binary, actors: new(atomic.Int64),
	}
	if s.Mail == nil {
		if s.Mail, err = NewMailbox(ctx); err != nil {
			return nil, err
		}
		s.ownMail = true
	}
	key := make([]byte, 32)
	rand.Read(key)
	s.env = append(environment(),
		"POSTERN_DATA="+s.Data, "POSTERN_URL="+s.Issuer,
		"POSTERN_MASTER_KEY="+base64.StdEncoding.EncodeToString(key),
		"POSTERN_BEHIND_PROXY=127.0.0.1/32", // the rig is the proxy: each actor has an address of its own
		"POSTERN_MAIL_HOST=127.0.0.1", fmt.Sprintf("POSTERN_MAIL_PORT=%d", s.Mail.Port()),
		"POSTERN_MAIL_SECURITY=none", "POSTERN_MAIL_FROM=login@example.test")
	s.env = append(s.env, c.Env...)
	if c.Postgres != "" {
		if err := s.createDatabase(ctx, c.Postgres); err != nil {
			return nil, errors.Join(err, s.Close(ctx))
		}
	}
	if !c.Empty {
		if err := s.setUp(ctx); err != nil {
			return nil, errors.Join(err, s.Close(ctx))
		}
	}
	return s, nil
}

// environment is ours without the settings of a Postern.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, "POSTERN_") })
}

func (s *Server) createDatabase(ctx context.Context, base string) error {
	u, err := url.Parse(base)
	if err != nil {
		return errors.New("rig: the URL of the PostgreSQL server cannot be read")
	}
	server, err := sql.Open("pgx", base)
	if err != nil {
		return err
	}
	defer server.Close()
	s.database = "rig_" + strings.ToLower(rand.Text()[:12])
	if _, err := server.ExecContext(ctx, "CREATE DATABASE "+s.database); err != nil {
		return err
	}
	u.Path = "/" + s.database
	s.postgres = u.String()
	s.env = append(s.env, "POSTERN_DATABASE="+s.postgres)
	_, err = s.Run(ctx, "migrate")
	return err
}

func (s *Server) setUp(ctx context.Context) error {
	var created struct {
		ID     string `json:"project_id"`
		Secret string `json:"project_secret"`
	}
	if err := s.runJSON(ctx, &created, "project", "create", "Notes", "--issuer", s.Issuer, "--json"); err != nil {
		return err
	}
	s.ProjectID, s.ProjectSecret = created.ID, created.Secret
	for _, more := range [][]string{{Notes, "--default"}, {Legacy, "--profile", "compatible"}} {
		var added struct {
			ID     string `json:"resource_server_id"`
			Secret string `json:"secret"`
		}
		args := append([]string{"resource", "add"}, more...)
		args = append(args, "--secret", "--offline", "--json", "--scope", "notes:read=Read your notes", "--write-scope", "notes:write=Change your notes")
		if err := s.runJSON(ctx, &added, args...); err != nil {
			return err
		}
		s.Inspectors[more[0]] = "Basic " + base64.StdEncoding.EncodeToString([]byte(added.ID+":"+added.Secret))
	}
	return s.liftLimit(ctx)
}

// liftLimit takes the bound off the registrations that the project takes in a
// day: its counter is so far below nothing that it never gets there. Each request
// counts as it does elsewhere.
func (s *Server) liftLimit(ctx context.Context) error {
	db, err := s.DB()
	if err != nil {
		return err
	}
	key := sha256.Sum256(nil)
	_, err = db.ExecContext(ctx, "INSERT INTO counter (project_id, kind, key_hash, counted, until) VALUES ($1, 'register_project', $2, $3, $4)",
		s.ProjectID, key[:], -1_000_000_000, time.Now().AddDate(10, 0, 0).UnixMicro())
	return err
}

// Beside makes a second node on the same PostgreSQL database. It does not run yet.
// Its actors reach it under the one issuer, as through a load balancer.
func (s *Server) Beside(ctx context.Context) (*Server, error) {
	if s.postgres == "" {
		return nil, errors.New("rig: a second node needs PostgreSQL")
	}
	listen, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	return &Server{
		Issuer: s.Issuer, Listen: listen, Data: s.Data, LogFile: s.LogFile + "-" + listen[strings.LastIndexByte(listen, ':')+1:], Mail: s.Mail,
		ProjectID: s.ProjectID, ProjectSecret: s.ProjectSecret, Inspectors: s.Inspectors,
		binary: s.binary, env: s.env, postgres: s.postgres, database: s.database, beside: true, actors: s.actors,
	}, nil
}

// Set changes a setting from the next Start or Run on.
func (s *Server) Set(name, value string) { s.env = append(slices.Clone(s.env), name+"="+value) }

// Run runs a set-up command of Postern on the same data, and returns what it
// printed.
func (s *Server) Run(ctx context.Context, args ...string) (string, error) {
	c := exec.CommandContext(ctx, s.binary, args...) //nolint:gosec // the caller's own
	c.Env = s.env
	var out, failed bytes.Buffer
	c.Stdout, c.Stderr = &out, &failed
	if err := c.Run(); err != nil {
		return out.String(), fmt.Errorf("postern %s: %w\n%s", strings.Join(args, " "), err, &failed)
	}
	return out.String(), nil
}

func (s *Server) runJSON(ctx context.Context, v any, args ...string) error {
	out, err := s.Run(ctx, args...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), v)
}

// startTime is how long a start may take.
const startTime = 30 * time.Second

// Start starts the process and returns when it is ready.
func (s *Server) Start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	s.mu.Lock()
	running := s.process != nil
	s.mu.Unlock()
	if running {
		return errors.New("rig: it runs already")
	}
	log, err := os.OpenFile(s.LogFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	process := exec.Command(s.binary, "serve") //nolint:gosec,noctx // the caller's own; it outlives this call
	process.Env, process.Stderr = append(slices.Clone(s.env), "POSTERN_LISTEN="+s.Listen), log
	began := time.Now()
	if err := process.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		_ = process.Wait() // killed or not: who ended it knows
		close(ended)
	}()
	s.mu.Lock()
	s.process, s.ended = process, ended
	s.mu.Unlock()

	first := "/.well-known/oauth-authorization-server"
	if s.ProjectID == "" {
		first = "/healthz"
	}
	client := s.client()
	defer client.CloseIdleConnections()
	for _, wait := range []struct {
		path string
		took *time.Duration
	}{{first, &s.FirstAnswer}, {"/readyz", &s.Ready}} {
		if err := s.await(ctx, client, wait.path, ended); err != nil {
			return errors.Join(err, s.Kill())
		}
		*wait.took = time.Since(began)
	}
	return nil
}

// await asks until the answer is 200.
func (s *Server) await(ctx context.Context, client *http.Client, path string, ended <-chan struct{}) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Issuer+path, nil)
		if err != nil {
			return err
		}
		if answer, err := client.Do(request); err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ended:
			return fmt.Errorf("postern ended instead of serving:\n%s", s.lastOfLog())
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer 200 in time:\n%s", path, s.lastOfLog())
		case <-time.After(time.Millisecond):
		}
	}
}

func (s *Server) lastOfLog() string {
	text, err := os.ReadFile(s.LogFile)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// client reaches this node under the issuer's name.
func (s *Server) client() *http.Client { return &http.Client{Transport: s.transport()} }

func (s *Server) transport() *http.Transport {
	var dialer net.Dialer
	return &http.Transport{
		MaxIdleConnsPerHost: 1,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", s.Listen)
		},
	}
}

// PID is the process, 0 when none runs.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return 0
	}
	return s.process.Process.Pid
}

// Kill ends the process at once, as a power cut ends it. It is no error when none
// runs.
func (s *Server) Kill() error { return s.end(syscall.SIGKILL) }

// Stop ends the process as an operator does: what it answers it finishes.
func (s *Server) Stop() error { return s.end(syscall.SIGTERM) }

func (s *Server) end(by syscall.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return nil
	}
	err := s.process.Process.Signal(by)
	<-s.ended
	s.process = nil
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}

// Signal sends the process a signal, such as SIGSTOP.
func (s *Server) Signal(by os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil {
		return errors.New("rig: it does not run")
	}
	return s.process.Process.Signal(by)
}

// Restart kills the process, if one runs, and starts it again.
func (s *Server) Restart(ctx context.Context) error {
	if err := s.Kill(); err != nil {
		return err
	}
	return s.Start(ctx)
}

// DB opens the database from beside, to look at it and to fill it; $1 is a
// parameter on both. Close closes it.
func (s *Server) DB() (*sql.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db != nil {
		return s.db, nil
	}
	driver, source := "pgx", s.postgres
	if s.postgres == "" {
		driver, source = "sqlite", "file:"+filepath.Join(s.Data, "postern.db")+"?_pragma=busy_timeout(10000)&_txlock=immediate"
	}
	var err error
	s.db, err = sql.Open(driver, source)
	return s.db, err
}

// Postgres is the URL of the database, "" on SQLite.
func (s *Server) Postgres() string { return s.postgres }

// Close ends the process, removes the database that New made on PostgreSQL and
// leaves the folder to its owner.
func (s *Server) Close(ctx context.Context) error {
	err := s.Stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.postgres != "" && !s.beside {
		err = errors.Join(err, s.dropDatabase(context.WithoutCancel(ctx)))
	}
	if s.db != nil {
		err = errors.Join(err, s.db.Close())
	}
	if s.ownMail {
		err = errors.Join(err, s.Mail.Close())
	}
	return err
}

func (s *Server) dropDatabase(ctx context.Context) error {
	u, err := url.Parse(s.postgres)
	if err != nil {
		return err
	}
	u.Path = "/postgres"
	server, err := sql.Open("pgx", u.String())
	if err != nil {
		return err
	}
	defer server.Close()
	_, err = server.ExecContext(ctx, "DROP DATABASE IF EXISTS "+s.database+" WITH (FORCE)")
	return err
}

func freeAddress(ctx context.Context) (string, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

package faults

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rig"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/testrun/cluster"
)

// long says that campaigns run in their long form.
var long = os.Getenv("POSTERN_FAULTS") == "long"

// times is how often a campaign does a thing: in the short form, or in the long.
func times(short, whole int) int {
	if long {
		return whole
	}
	return short
}

var binary string // of the server under test

func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "postern-faults-")
	if err == nil {
		binary = filepath.Join(folder, "postern")
		build := exec.Command("go", "build", "-o", binary, "../cmd/postern")
		build.Stdout, build.Stderr = os.Stderr, os.Stderr
		err = build.Run()
	}
	code := 1
	if err != nil {
		fmt.Fprintln(os.Stderr, "build the server:", err)
	} else {
		code = m.Run()
	}
	_ = os.RemoveAll(folder) // it is in the temporary folder
	os.Exit(code)
}

// world is a database with what the actors need, and who reads their mail.
type world struct {
	t        testing.TB
	data     server.Data
	port     int
	issuer   string
	project  *project.Project
	secret   string // the project's
	client   oauth.Client
	key      project.WorkspaceKey
	keyText  string
	mails    *rig.Mailbox
	journal  *journal
	since    time.Time // when the journal began
	nodes    []*node
	actors   []*actor
	requests func() int64 // numbers addresses
}

const resourceURI = "http://localhost:4999/mcp"

// postgres starts a cluster that commits to the disk. It skips the test where
// there is no PostgreSQL.
func postgres(t testing.TB, options ...string) *cluster.Cluster {
	t.Helper()
	c, err := cluster.New(context.Background(), cluster.Config{Durable: true, Options: options})
	if errors.Is(err, cluster.ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	must(t, err)
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// newWorld makes a project in an empty database, SQLite without a cluster.
func newWorld(t testing.TB, on *cluster.Cluster) *world {
	t.Helper()
	return newWorldIn(t, on, t.TempDir())
}

func newWorldIn(t testing.TB, on *cluster.Cluster, folder string) *world {
	t.Helper()
	database := ""
	if on != nil {
		database = newDatabase(t, on)
	}
	w := unmade(t, database, folder)
	w.setUp()
	return w
}

// unmade is a world without tables.
func unmade(t testing.TB, database, folder string) *world {
	t.Helper()
	w := &world{t: t, data: server.Data{Folder: folder, Database: database, Now: time.Now}, journal: &journal{}, requests: counter()}
	if database != "" {
		w.data.MasterKey = servertest.NewMasterKey()
	}
	w.port = freePort(t)
	w.issuer = fmt.Sprintf("http://localhost:%d", w.port)
	mails, err := rig.NewMailbox(context.Background()) // Cleanup ends it, after the test's own context
	must(t, err)
	t.Cleanup(func() { _ = mails.Close() })
	w.mails = mails
	return w
}

// newDatabase makes a database that ends with its cluster.
func newDatabase(t testing.TB, on *cluster.Cluster) string {
	t.Helper()
	admin, err := sql.Open("pgx", on.URL)
	must(t, err)
	defer admin.Close()
	_, err = admin.Exec("CREATE DATABASE faults")
	must(t, err)
	u, err := url.Parse(on.URL)
	must(t, err)
	u.Path = "/faults"
	return u.String()
}

// setUp does what an operator does before the first start. The client is the
// project's own and asks nobody, so that a code takes one request.
func (w *world) setUp() {
	w.t.Helper()
	ctx := context.Background()
	storage, err := w.data.Open(ctx, false)
	must(w.t, err)
	defer storage.Close()
	must(w.t, storage.DB.Migrate(ctx))
	projects := project.NewSetup(storage.DB, time.Now)
	settings := project.Defaults()
	settings.Lifetimes.Code = 600 // a campaign may be slower than a client
	p, key, err := projects.Create(ctx, project.New{Name: "Notes", Issuer: w.issuer, Environment: project.Test, Settings: &settings})
	must(w.t, err)
	w.project, w.secret = p, key.Text
	_, _, err = projects.AddResource(ctx, p, project.Resource{URI: resourceURI, Name: "Notes", Default: true}, []project.Scope{
		{Name: "notes:read", Description: "Read your notes", ReadOnly: true},
	}, false)
	must(w.t, err)
	w.client, _, err = oauth.NewSetup(storage.DB, time.Now).CreateClient(ctx, p, oauth.NewClient{
		Name: "Terminal", Type: oauth.FirstPartyPublic, BypassConsent: true, RedirectURIs: []string{rig.Callback},
	})
	must(w.t, err)
	k, text, err := project.NewWorkspaceKeys(storage.DB, time.Now).Create(ctx, project.NewKey{Name: "Faults"})
	must(w.t, err)
	w.key, w.keyText = k, text.Text
}

// env is the configuration of a node, or of a command beside it.
func (w *world) env(port int) []string {
	env := []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir(),
		"POSTERN_DATA=" + w.data.Folder, "POSTERN_URL=" + w.issuer, fmt.Sprintf("POSTERN_LISTEN=127.0.0.1:%d", port),
		"POSTERN_BEHIND_PROXY=127.0.0.1/32", // each request comes from an address of its own
		"POSTERN_MAIL_HOST=127.0.0.1", fmt.Sprintf("POSTERN_MAIL_PORT=%d", w.mails.Port()),
		"POSTERN_MAIL_SECURITY=none", "POSTERN_MAIL_FROM=login@example.test",
	}
	if w.data.Database != "" {
		env = append(env, "POSTERN_DATABASE="+w.data.Database, "POSTERN_MASTER_KEY="+w.data.MasterKey)
	}
	return env
}

// command runs a command of postern beside the nodes.
func (w *world) command(args ...string) (string, error) {
	cmd := exec.CommandContext(w.t.Context(), binary, args...)
	cmd.Env = w.env(w.port)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// sql opens the database beside the nodes.
func (w *world) sql() *sql.DB {
	w.t.Helper()
	driver, at := "sqlite", "file:"+w.data.Path()+"?_pragma=busy_timeout(10000)"
	if w.data.Database != "" {
		driver, at = "pgx", w.data.Database
	}
	db, err := sql.Open(driver, at)
	must(w.t, err)
	w.t.Cleanup(func() { _ = db.Close() })
	return db
}

// node is a running server.
type node struct {
	w       *world
	port    int
	cmd     *exec.Cmd
	ended   chan struct{}
	err     error // how it ended; read after ended
	log     *logged
	dialled *http.Transport
	env     []string // beside the world's
	wrapper []string // program that runs it, such as strace
}

// node adds a server, which is not started. The first listens on the issuer's
// port.
func (w *world) node() *node {
	n := &node{w: w, port: w.port, log: &logged{}}
	if len(w.nodes) > 0 {
		n.port = freePort(w.t)
	}
	n.dialled = &http.Transport{MaxIdleConnsPerHost: 64, ResponseHeaderTimeout: 40 * time.Second, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", n.port))
	}}
	w.nodes = append(w.nodes, n)
	w.t.Cleanup(func() {
		n.stop()
		if w.t.Failed() {
			w.t.Logf("the node wrote at last:\n%s", n.log.tail(3000))
		}
	})
	return n
}

// start starts the server and waits until it answers. It returns how long that
// took.
func (n *node) start() time.Duration {
	n.w.t.Helper()
	began := time.Now()
	n.spawn()
	for time.Since(began) < 20*time.Second {
		if n.answers("/.well-known/oauth-authorization-server") == http.StatusOK {
			return time.Since(began)
		}
		select {
		case <-n.ended:
			n.w.t.Fatalf("the server ended at its start: %v\n%s", n.err, n.log.tail(3000))
		case <-time.After(2 * time.Millisecond):
		}
	}
	n.w.t.Fatalf("the server does not answer after 20 s:\n%s", n.log.tail(3000))
	return 0
}

func (n *node) spawn() {
	n.w.t.Helper()
	args := append(append([]string{}, n.wrapper...), binary, "serve")
	n.cmd = exec.Command(args[0], args[1:]...)
	n.cmd.Env = append(n.w.env(n.port), n.env...)
	n.cmd.Stdout, n.cmd.Stderr = n.log, n.log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	must(n.w.t, n.cmd.Start())
	ended := make(chan struct{})
	n.ended = ended
	cmd := n.cmd
	go func() {
		n.err = cmd.Wait()
		close(ended)
	}()
}

// answers is the status of a GET, 0 without an answer.
func (n *node) answers(path string) int {
	request, err := http.NewRequest(http.MethodGet, n.w.issuer+path, nil)
	must(n.w.t, err)
	response, err := (&http.Client{Transport: n.dialled, Timeout: 30 * time.Second}).Do(request)
	if err != nil {
		return 0
	}
	_, _ = io.Copy(io.Discard, response.Body) // only the status counts
	_ = response.Body.Close()
	return response.StatusCode
}

// ready waits until the server has all its keys.
func (n *node) ready() {
	n.w.t.Helper()
	for range 1000 {
		if n.answers("/readyz") == http.StatusOK {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	n.w.t.Fatalf("the server is not ready after 20 s:\n%s", n.log.tail(3000))
}

// kill ends it as a power switch does, for the process.
func (n *node) kill() {
	_ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-n.ended
	n.dialled.CloseIdleConnections()
}

// stop ends it in order.
func (n *node) stop() {
	if n.cmd == nil {
		return
	}
	_ = syscall.Kill(-n.cmd.Process.Pid, syscall.SIGTERM) // it may have ended
	select {
	case <-n.ended:
	case <-time.After(30 * time.Second):
		n.kill()
	}
	n.dialled.CloseIdleConnections()
}

// logged keeps the end of what a server wrote.
type logged struct {
	mu   sync.Mutex
	text []byte
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.text = append(l.text, p...); len(l.text) > 1<<20 {
		l.text = append([]byte(nil), l.text[len(l.text)-1<<19:]...)
	}
	return len(p), nil
}

func (l *logged) tail(n int) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text[max(0, len(l.text)-n):])
}

// freePort finds a port for a server, below those that the system gives to whoever
// asks for any: it has to be free when the server starts, and again after a kill.
func freePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 20_000 + rand.N(10_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			must(t, l.Close())
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// counter counts from 1, for many callers.
func counter() func() int64 {
	var mu sync.Mutex
	var n int64
	return func() int64 {
		mu.Lock()
		defer mu.Unlock()
		n++
		return n
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

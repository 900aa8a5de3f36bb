package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// process is a running program.
type process struct {
	cmd   *exec.Cmd
	out   *output
	ended chan struct{}
	err   error // how it ended; read after ended
}

// output is what a program has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// environment is what every program here gets: nothing of the settings that
// the tests themselves may run with.
func environment(more ...string) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		env = append(env, name+"="+os.Getenv(name))
	}
	return append(env, more...)
}

// start runs a program, by default one of ours, until the test ends.
func start(t *testing.T, dir string, env []string, program string, args ...string) *process {
	t.Helper()
	if !filepath.IsAbs(program) {
		program = filepath.Join(binaries, program)
	}
	p := &process{cmd: exec.Command(program, args...), out: new(output), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env, p.cmd.Stdout, p.cmd.Stderr = dir, env, p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.stop(t)
		if t.Failed() {
			t.Logf("%s %s wrote:\n%s", program, strings.Join(args, " "), tail(p.out.String(), 4000))
		}
	})
	return p
}

func tail(s string, n int) string { return s[max(0, len(s)-n):] }

// stop asks the program to end, and makes it end when it does not.
func (p *process) stop(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended already
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		t.Errorf("%s did not end within 20 s of SIGTERM", p.cmd.Path)
		p.kill()
	}
}

// kill ends the program as a power cut does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended already
	<-p.ended
}

// await returns when address answers with 200.
func (p *process) await(t *testing.T, address string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case <-p.ended:
			t.Fatalf("%s ended: %v\n%s", p.cmd.Path, p.err, tail(p.out.String(), 2000))
		default:
		}
		if status, _, err := fetch(t.Context(), http.MethodGet, address, nil); err == nil && status == http.StatusOK {
			return
		}
	}
	t.Fatalf("%s does not answer with 200 after 30 s", address)
}

// fetch sends a request without a body and returns status and body.
func fetch(ctx context.Context, method, address string, header http.Header) (int, string, error) {
	r, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return 0, "", err
	}
	for name := range header {
		r.Header.Set(name, header.Get(name))
	}
	if host := header.Get("Host"); host != "" {
		r.Host = host
	}
	return roundTrip(http.DefaultClient, r)
}

func roundTrip(client *http.Client, r *http.Request) (int, string, error) {
	resp, err := client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	var body bytes.Buffer
	_, err = body.ReadFrom(resp.Body)
	return resp.StatusCode, body.String(), err
}

// given are the ports that freePort returned: until somebody listens there, the
// system may name one again.
var given sync.Map

// freePort is a port that is free on both loopback addresses.
func freePort(t *testing.T) string {
	t.Helper()
	for range 20 {
		four, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := strconv.Itoa(four.Addr().(*net.TCPAddr).Port)
		six, err := net.Listen("tcp", "[::1]:"+port)
		four.Close()
		if err == nil {
			six.Close()
		}
		if errors.Is(err, syscall.EADDRINUSE) { // a computer without IPv6 does as well
			continue
		}
		if _, again := given.LoadOrStore(port, true); !again {
			return port
		}
	}
	t.Fatal("no free port")
	return ""
}

// postern is a running authorization server and where it is set up.
type postern struct {
	*process
	issuer string
	dir    string // working folder
	env    []string
	codes  func() ([]mail, error)
}

// mail is a caught mail.
type mail struct{ To, Text string }

// serve starts "postern serve" with mails on its console and no project yet.
func serve(t *testing.T, db database) *postern {
	t.Helper()
	port := freePort(t)
	p := &postern{issuer: "http://localhost:" + port, dir: t.TempDir()}
	p.env = environment(append([]string{
		"POSTERN_URL=" + p.issuer, "POSTERN_LISTEN=127.0.0.1:" + port + ",[::1]:" + port,
		"POSTERN_DATA=" + filepath.Join(p.dir, "data"), "POSTERN_MAIL_TRANSPORT=console",
	}, db.env...)...)
	p.codes = p.console
	p.restart(t)
	return p
}

// restart starts "postern serve" on the data that is there.
func (p *postern) restart(t *testing.T) {
	t.Helper()
	p.process = start(t, p.dir, p.env, "postern", "serve")
	p.await(t, p.issuer+"/healthz")
}

// serveProject is serve with a project that has its keys.
func serveProject(t *testing.T, db database) *postern {
	t.Helper()
	p := serve(t, db)
	p.run(t, nil, "project", "create", "Todo")
	p.await(t, p.issuer+metadataPath)
	p.await(t, p.issuer+"/readyz")
	return p
}

// dev starts "postern dev" with the example, which trusts certificates of
// authority (a PEM file) when it reads metadata documents. It returns the
// server and the address of the example.
func dev(t *testing.T, db database, authority string) (*postern, string) {
	t.Helper()
	port, todoPort := freePort(t), freePort(t)
	p := &postern{issuer: "http://localhost:" + port, dir: t.TempDir()}
	p.env = environment(append([]string{"POSTERN_PORT=" + port, "TODO_PORT=" + todoPort}, db.env...)...)
	p.codes = p.mailbox
	if err := os.MkdirAll(filepath.Join(p.dir, ".postern", "bin"), 0o700); err != nil { // as make dev leaves it
		t.Fatal(err)
	}
	p.process = start(t, p.dir, p.env, "postern", "dev", "--dev-ca", authority, "--", filepath.Join(binaries, "todo"))
	p.await(t, p.issuer+"/readyz")
	p.await(t, "http://localhost:"+todoPort+"/healthz")
	return p, "http://localhost:" + todoPort
}

// todo starts the example beside a postern, as a first-party client of it, and
// returns its address.
func (p *postern) todo(t *testing.T) string {
	t.Helper()
	port := freePort(t)
	address := "http://localhost:" + port
	var created struct {
		ID string `json:"client_id"`
	}
	p.run(t, &created, "client", "create", "--name", "Todo", "--type", "first-party-public", "--bypass-consent", "--redirect-uri", address+"/callback")
	example := start(t, p.dir, environment("TODO_URL="+address, "POSTERN_ISSUER="+p.issuer, "TODO_CLIENT_ID="+created.ID,
		"TODO_DATA="+filepath.Join(p.dir, "todo.db")), "todo")
	example.await(t, address+"/healthz")
	return address
}

// addTodo registers a resource server with the example's scopes, and waits
// until the server has seen it.
func (p *postern) addTodo(t *testing.T, uri string, more ...string) resource {
	t.Helper()
	var added resource
	p.run(t, &added, append([]string{
		"resource", "add", uri, "--offline",
		"--scope", readTodos + "=Read your to-dos", "--write-scope", writeTodos + "=Add, complete and delete your to-dos",
	}, more...)...)
	p.awaitMetadata(t, naming(uri))
	return added
}

// awaitMetadata waits until the metadata is as wanted: a server follows what
// was changed beside it within a second.
func (p *postern) awaitMetadata(t *testing.T, wanted func(metadata string) bool) {
	t.Helper()
	p.awaitAt(t, "/.well-known/openid-configuration", wanted) // the same document, below any issuer
}

// awaitAt waits until what an address of the issuer answers is as wanted.
func (p *postern) awaitAt(t *testing.T, path string, wanted func(text string) bool) {
	t.Helper()
	body := ""
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		var err error
		if _, body, err = fetch(t.Context(), http.MethodGet, p.issuer+path, nil); err == nil && wanted(body) {
			return
		}
	}
	t.Fatalf("after 10 s %s is still %s", path, body)
}

// naming is metadata in which a text stands.
func naming(text string) func(string) bool {
	return func(metadata string) bool { return strings.Contains(metadata, text) }
}

const metadataPath = "/.well-known/oauth-authorization-server"

// resource is what "resource add --json" prints.
type resource struct {
	ID     string `json:"resource_server_id"`
	URI    string `json:"resource"`
	Scopes []string
	Secret string
}

// The scopes of the example.
const (
	readTodos  = "read:todos"
	writeTodos = "write:todos"
)

// command runs a set-up command beside the server and returns what it printed
// to standard output, or an error with what it printed to standard error.
func (p *postern) command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	c := exec.CommandContext(t.Context(), filepath.Join(binaries, "postern"), args...)
	c.Dir, c.Env = p.dir, p.env
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		err = fmt.Errorf("postern %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

// run runs a set-up command and decodes what it prints into a value.
func (p *postern) run(t *testing.T, into any, args ...string) {
	t.Helper()
	out, err := p.command(t, append(args, "--json")...)
	if err != nil {
		t.Fatal(err)
	}
	if into == nil {
		return
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("postern %s printed no JSON: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// mailbox reads the mailbox of "postern dev".
func (p *postern) mailbox() ([]mail, error) {
	_, body, err := fetch(context.Background(), http.MethodGet, p.issuer+"/dev/mailbox.json", nil)
	if err != nil {
		return nil, err
	}
	var mails []mail
	return mails, json.Unmarshal([]byte(body), &mails)
}

// console reads the mails that "postern serve" wrote to its log.
func (p *postern) console() ([]mail, error) {
	var mails []mail
	for line := range strings.Lines(p.out.String()) {
		var entry struct{ Msg, To, Text string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "mail to the console" {
			mails = append(mails, mail{entry.To, entry.Text})
		}
	}
	return mails, nil
}

var codeLine = regexp.MustCompile(`(?m)^[ \t]*(\d{3}) ?(\d{3})[ \t]*\r?$`)

// code waits for a code that was sent to an address and is not in used.
func (p *postern) code(address string, used map[string]bool) (string, error) {
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		mails, err := p.codes()
		if err != nil {
			return "", err
		}
		for _, m := range mails {
			if found := codeLine.FindStringSubmatch(m.Text); found != nil && m.To == address && !used[found[1]+found[2]] {
				used[found[1]+found[2]] = true
				return found[1] + found[2], nil
			}
		}
	}
	return "", fmt.Errorf("no code was sent to %s", address)
}

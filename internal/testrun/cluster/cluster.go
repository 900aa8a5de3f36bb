//go:build unix

// Package cluster makes throw-away PostgreSQL servers for tests: a folder of
// their own, a free port of this computer, and an end by the pid that they wrote
// down. Debian's own cluster is left alone.
//
// New starts a Cluster. Kill, Stop, Start, Pause, Promote and NewStandby do to it
// what happens to servers, for the tests of faults.
package cluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// ErrMissing says that this machine has no PostgreSQL server to start.
var ErrMissing = errors.New("PostgreSQL is not installed here: no initdb in PATH or /usr/lib/postgresql " +
	"(Debian: apt-get install postgresql)")

// Config says what a Cluster does.
type Config struct {
	// Durable waits for the disk at each commit. Without it a power cut may lose
	// data, and nothing else may.
	Durable bool
	Options []string // settings of postgresql.conf, such as "wal_level=replica"
}

// Cluster is a PostgreSQL server of ours.
type Cluster struct {
	URL      string // of the superuser, on the database postgres
	dir      string
	bin      string // folder of initdb and pg_ctl
	as       *syscall.Credential
	port     int
	password string
	options  string
}

// New makes a cluster and starts it. It listens on a free port of 127.0.0.1 and
// on a socket in its own folder.
func New(ctx context.Context, config Config) (*Cluster, error) {
	c, err := prepare(ctx, config, rand.Text())
	if err != nil {
		return nil, err
	}
	if err := c.create(ctx); err != nil {
		c.Close(ctx)
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return c, nil
}

// NewStandby makes a copy of a running cluster, which follows it under a name.
// The primary needs wal_level=replica and max_wal_senders; its port is free for
// the standby's clients once the primary is gone.
func NewStandby(ctx context.Context, primary *Cluster, name string) (*Cluster, error) {
	c, err := prepare(ctx, Config{Durable: true}, primary.password)
	if err != nil {
		return nil, err
	}
	from, err := url.Parse(primary.URL)
	if err != nil {
		return nil, err
	}
	source := fmt.Sprintf("host=127.0.0.1 port=%s user=postgres password=%s application_name=%s", from.Port(), primary.password, name)
	err = c.run(ctx, "pg_basebackup", "-D", c.data(), "-d", source, "-X", "stream", "-R", "--no-sync", "-c", "fast")
	if err == nil {
		err = c.Start(ctx)
	}
	if err != nil {
		c.Close(ctx)
		return nil, fmt.Errorf("start a PostgreSQL standby: %w", err)
	}
	return c, nil
}

func prepare(ctx context.Context, config Config, password string) (*Cluster, error) {
	bin, err := find(debianFolders)
	if err != nil {
		return nil, err
	}
	as, err := serverUser()
	if err != nil {
		return nil, err
	}
	port, err := freePort(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "postern-pg-")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir, bin: bin, as: as, port: port, password: password}
	c.options = fmt.Sprintf("-c listen_addresses=127.0.0.1 -p %d -k %s -c max_connections=300", port, dir)
	if !config.Durable {
		c.options += " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
	}
	for _, option := range config.Options {
		c.options += " -c " + option
	}
	address := url.URL{
		Scheme: "postgres", User: url.UserPassword("postgres", c.password), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Path: "/postgres", RawQuery: "sslmode=disable",
	}
	c.URL = address.String()
	if c.as != nil {
		if err := os.Chown(dir, int(as.Uid), int(as.Gid)); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (c *Cluster) create(ctx context.Context) error {
	passwordFile := filepath.Join(c.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(c.password), 0o600); err != nil {
		return err
	}
	if c.as != nil {
		if err := os.Chown(passwordFile, int(c.as.Uid), int(c.as.Gid)); err != nil {
			return err
		}
	}
	// A password even on loopback: a superuser of PostgreSQL can run programs,
	// and the machine may have other users.
	if err := c.run(ctx, "initdb", "-D", c.data(), "--locale=C", "-E", "UTF8", "--no-sync",
		"-U", "postgres", "-A", "scram-sha-256", "--pwfile", passwordFile); err != nil {
		return err
	}
	return c.Start(ctx)
}

// Start starts a server that was stopped or killed, at the address it had.
func (c *Cluster) Start(ctx context.Context) error {
	logged := filepath.Join(c.dir, "log")
	if err := c.run(ctx, "pg_ctl", "start", "-w", "-t", "30", "-D", c.data(), "-l", logged, "-o", c.options); err != nil {
		log, _ := os.ReadFile(logged) // without a log the error has to do
		return fmt.Errorf("%w\n%s", err, log)
	}
	return nil
}

// Stop stops the server: "fast" ends sessions in order, "immediate" is a crash.
func (c *Cluster) Stop(ctx context.Context, mode string) error {
	return c.run(ctx, "pg_ctl", "stop", "-w", "-t", "20", "-m", mode, "-D", c.data())
}

// Promote makes a standby the server that writes.
func (c *Cluster) Promote(ctx context.Context) error {
	return c.run(ctx, "pg_ctl", "promote", "-w", "-t", "20", "-D", c.data())
}

// Kill ends every process of the server by SIGKILL.
func (c *Cluster) Kill(ctx context.Context) error {
	pids, err := c.Processes(ctx)
	if err != nil {
		return err
	}
	if err := signalAll(pids, syscall.SIGKILL); err != nil {
		return err
	}
	for range 1000 { // until the last one is gone, for the next start asks for that
		left := 0
		for _, pid := range pids {
			if syscall.Kill(pid, 0) == nil {
				left++
			}
		}
		if left == 0 {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return errors.New("a killed PostgreSQL does not end")
}

// Pause stops every process of the server where it is, until Resume: it takes
// connections and answers nothing.
func (c *Cluster) Pause(ctx context.Context) (resume func() error, err error) {
	pids, err := c.Processes(ctx)
	if err != nil {
		return nil, err
	}
	return func() error { return signalAll(pids, syscall.SIGCONT) }, signalAll(pids, syscall.SIGSTOP)
}

func signalAll(pids []int, what syscall.Signal) error {
	for _, pid := range pids {
		if err := syscall.Kill(pid, what); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// Backends are the pids of the processes that serve connections.
func (c *Cluster) Backends(ctx context.Context) ([]int, error) {
	return c.processes(ctx, func(command string) bool { return strings.Contains(command, "postgres: postgres ") })
}

// Processes are the pids of the server: the first one of the postmaster, then
// those of its children.
func (c *Cluster) Processes(ctx context.Context) ([]int, error) {
	children, err := c.processes(ctx, func(string) bool { return true })
	if err != nil {
		return nil, err
	}
	server, err := c.postmaster()
	return append([]int{server}, children...), err
}

// processes are the children of the postmaster whose command line fits.
func (c *Cluster) processes(ctx context.Context, fits func(command string) bool) ([]int, error) {
	server, err := c.postmaster()
	if err != nil {
		return nil, err
	}
	list, err := exec.CommandContext(ctx, "ps", "-A", "-o", "pid=,ppid=,args=").Output()
	if err != nil {
		return nil, err
	}
	var pids []int
	for line := range strings.Lines(string(list)) {
		var pid, parent int
		if n, err := fmt.Sscan(line, &pid, &parent); err == nil && n == 2 && parent == server && fits(line) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

func (c *Cluster) postmaster() (int, error) {
	text, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(string(text), "\n")
	return strconv.Atoi(strings.TrimSpace(first))
}

// Close ends the server, by the pid it wrote down, and removes its folder. It
// works after ctx was cancelled too.
func (c *Cluster) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if pid, err := c.postmaster(); err == nil && syscall.Kill(pid, 0) == nil {
		if err := c.Stop(ctx, "fast"); err != nil {
			if err = c.Stop(ctx, "immediate"); err != nil {
				fmt.Fprintln(os.Stderr, "stop PostgreSQL:", err)
			}
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		fmt.Fprintln(os.Stderr, "remove PostgreSQL's folder:", err)
	}
}

// Folder is what the server keeps itself in.
func (c *Cluster) Folder() string { return c.dir }

// Program is the path of one of PostgreSQL's programs, such as psql.
func (c *Cluster) Program(name string) string { return filepath.Join(c.bin, name) }

func (c *Cluster) data() string { return filepath.Join(c.dir, "data") }

// run runs one of PostgreSQL's programs as the server's user.
func (c *Cluster) run(ctx context.Context, program string, args ...string) error {
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...) //nolint:gosec // PostgreSQL's own programs
	cmd.Dir = c.dir
	cmd.Env = []string{"LC_ALL=C"}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "PG") && !strings.HasPrefix(entry, "LC_ALL=") {
			cmd.Env = append(cmd.Env, entry)
		}
	}
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.as, Setpgid: true}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w\n%s", program, err, output.Bytes())
	}
	return nil
}

// serverUser returns the user to run the server as: initdb refuses root, so
// root runs it as "postgres"; anyone else as themselves.
func serverUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses to run as root, and there is no user postgres: %w", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// debianFolders has a folder for every major version; none is in PATH.
const debianFolders = "/usr/lib/postgresql"

// find finds the folder of PostgreSQL's programs: in PATH, else those of the
// newest version below folders. It returns ErrMissing where there are none.
func find(folders string) (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path), nil
		}
	}
	newest, folder := 0, ""
	entries, _ := os.ReadDir(folders) // an absent folder has no versions
	for _, entry := range entries {
		version, err := strconv.Atoi(entry.Name())
		bin := filepath.Join(folders, entry.Name(), "bin")
		if _, absent := os.Stat(filepath.Join(bin, "initdb")); err == nil && absent == nil && version > newest {
			newest, folder = version, bin
		}
	}
	if folder == "" {
		return "", ErrMissing
	}
	return folder, nil
}

func freePort(ctx context.Context) (int, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

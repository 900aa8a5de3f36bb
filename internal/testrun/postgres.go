//go:build unix

package main

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
	"syscall"
	"time"
)

// postgresVariable carries the URL of a server on which the tests may create
// and drop databases.
const postgresVariable = "POSTERN_TEST_POSTGRES"

// errNoPostgres says that this machine has no PostgreSQL server to start.
var errNoPostgres = errors.New("PostgreSQL is not installed here: no initdb in PATH or /usr/lib/postgresql " +
	"(Debian: apt-get install postgresql; or set " + postgresVariable + " to a server's URL)")

// cluster is a PostgreSQL server: ours to stop, or, without a folder, given
// by the environment.
type cluster struct {
	url string
	dir string // "" for a server that is not ours
	bin string // folder of initdb and pg_ctl
	as  *syscall.Credential
}

// postgres returns the server of the environment, or starts one that listens
// on a free port of 127.0.0.1 and on a socket in its own folder. Without fsync
// a power cut may lose its data, and nothing else may.
func postgres(ctx context.Context, fsync bool) (*cluster, error) {
	if url := os.Getenv(postgresVariable); url != "" {
		return &cluster{url: url}, nil
	}
	bin, err := postgresFolder(debianFolders)
	if err != nil {
		return nil, err
	}
	as, err := serverUser()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "postern-pg-")
	if err != nil {
		return nil, err
	}
	c := &cluster{dir: dir, bin: bin, as: as}
	if err := c.start(ctx, fsync); err != nil {
		c.stop(ctx)
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	return c, nil
}

func (c *cluster) env() string { return postgresVariable + "=" + c.url }

func (c *cluster) start(ctx context.Context, fsync bool) error {
	password := rand.Text()
	passwordFile := filepath.Join(c.dir, "password")
	if err := os.WriteFile(passwordFile, []byte(password), 0o600); err != nil {
		return err
	}
	if c.as != nil {
		for _, path := range []string{c.dir, passwordFile} {
			if err := os.Chown(path, int(c.as.Uid), int(c.as.Gid)); err != nil {
				return err
			}
		}
	}
	// A password even on loopback: a superuser of PostgreSQL can run programs,
	// and the machine may have other users.
	if err := c.run(ctx, "initdb", "-D", c.data(), "--locale=C", "-E", "UTF8", "--no-sync",
		"-U", "postgres", "-A", "scram-sha-256", "--pwfile", passwordFile); err != nil {
		return err
	}
	port, err := freePort(ctx)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("-c listen_addresses=127.0.0.1 -p %d -k %s -c max_connections=300", port, c.dir)
	if !fsync {
		options += " -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
	}
	if err := c.run(ctx, "pg_ctl", "start", "-w", "-t", "30", "-D", c.data(), "-l", filepath.Join(c.dir, "log"), "-o", options); err != nil {
		log, _ := os.ReadFile(filepath.Join(c.dir, "log")) // without a log the error has to do
		return fmt.Errorf("%w\n%s", err, log)
	}
	server := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	c.url = server.String()
	return nil
}

// stop ends the server, by the pid it wrote down, and removes its folder. It
// works after ctx was cancelled too.
func (c *cluster) stop(ctx context.Context) {
	if c.dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if _, err := os.Stat(filepath.Join(c.data(), "postmaster.pid")); err == nil {
		if err := c.run(ctx, "pg_ctl", "stop", "-w", "-t", "20", "-m", "fast", "-D", c.data()); err != nil {
			err = c.run(ctx, "pg_ctl", "stop", "-w", "-t", "20", "-m", "immediate", "-D", c.data())
			if err != nil {
				fmt.Fprintln(os.Stderr, "testrun: stop PostgreSQL:", err)
			}
		}
	}
	if err := os.RemoveAll(c.dir); err != nil {
		fmt.Fprintln(os.Stderr, "testrun:", err)
	}
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

// run runs one of PostgreSQL's programs as the server's user.
func (c *cluster) run(ctx context.Context, program string, args ...string) error {
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, program), args...) //nolint:gosec // PostgreSQL's own programs
	cmd.Dir = c.dir
	cmd.Env = append(without("PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "LC_ALL"), "LC_ALL=C")
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

// postgresFolder finds PostgreSQL's programs: in PATH, else those of the newest
// version in folders.
func postgresFolder(folders string) (string, error) {
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
		return "", errNoPostgres
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

package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// Every acknowledged change was waited for until the disk had it: killing a
// process cannot show that, counting its calls can (F-03).
func TestEachAcknowledgementIsSynced(t *testing.T) {
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed here: without it nobody counts the calls that sync")
	}
	if err := exec.CommandContext(t.Context(), strace, "-o", os.DevNull, "true").Run(); err != nil {
		t.Skipf("strace may not look at processes here: %v", err)
	}
	w := newWorld(t, nil)
	n := w.node()
	counted := filepath.Join(t.TempDir(), "calls")
	n.wrapper = []string{strace, "-f", "-o", counted, "-e", "trace=fsync,fdatasync"}
	n.start()
	n.ready()
	syncs := func() int {
		text, err := os.ReadFile(counted)
		must(t, err)
		return len(regexp.MustCompile(`(?m)^\d+ +(fsync|fdatasync)\(`).FindAllString(string(text), -1))
	}
	a := w.actor(n)
	h, err := a.authorize()
	must(t, err)
	must(t, a.redeem(h))
	before := syncs()
	rotations := times(200, 2000)
	for range rotations {
		must(t, a.refresh(h, h.latest))
	}
	written := syncs() - before
	before = syncs()
	for range rotations {
		must(t, a.look(h, h.latest))
	}
	reading := syncs() - before
	if written < rotations || reading > rotations/10 {
		t.Errorf("%d syncs for %d changes one after another, and %d for as many reads", written, rotations, reading)
	}
	result(t, "F-03", "%d changes one after another, %d syncs; %d for as many reads", rotations, written, reading)
}

// The disk is full: changes are refused with 503, what was given out is still
// answered for, and when there is room again the server goes on by itself (F-04).
func TestDiskIsFull(t *testing.T) {
	folder := t.TempDir()
	// The actors alone do not fill it, also where a busy machine lets the log grow.
	if err := syscall.Mount("tmpfs", folder, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("a small disk cannot be made here: mount tmpfs: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(folder, syscall.MNT_DETACH) })
	w := newWorldIn(t, nil, filepath.Join(folder, "data"))
	n := w.node()
	n.start()
	n.ready()
	end := playing(t, w, n, actors)
	time.Sleep(300 * time.Millisecond)
	filler := filepath.Join(folder, "filler")
	fill(t, filler)
	a := *w.actors[0]
	full := false
	for range 200 { // what is left of the last pages is used up
		_, err := a.authorize()
		if full = errors.Is(err, errDown); full {
			break
		}
	}
	if !full {
		t.Fatal("the disk does not fill")
	}
	end()
	busy := w.journal.count("", unknown)
	h := living(w)
	for range 20 {
		if err := a.look(h, h.latest); err != nil {
			t.Errorf("introspection on a full disk: %v", err)
		}
		if got := n.answers("/.well-known/jwks.json"); got != 200 {
			t.Errorf("keys on a full disk: %d", got)
		}
	}
	must(t, os.Remove(filler))
	back := recovered(t, n)
	if _, err := a.authorize(); err != nil {
		t.Errorf("there is room again, and nothing is kept: %v", err)
	}
	end = playing(t, w, n, actors)
	time.Sleep(300 * time.Millisecond)
	end()
	w.settled(t)
	result(t, "F-04", "%d changes refused with 503, introspection and keys answered; goes on without a restart after %s; %d acknowledgements kept, integrity ok",
		busy, back.Round(time.Millisecond), w.journal.count("", ok))
}

// living is an authorization that was looked at and lives.
func living(w *world) *held {
	a := w.actors[0]
	for _, h := range a.held {
		if h.latest != "" {
			return h
		}
	}
	w.t.Fatal("nobody got a token")
	return nil
}

// fill writes until there is no room.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	must(t, err)
	defer f.Close()
	for _, size := range []int{1 << 16, 1 << 12} {
		block := make([]byte, size)
		for {
			if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A second server on one SQLite file is refused, and told by whom (F-06).
func TestSecondServerIsRefused(t *testing.T) {
	w := newWorld(t, nil)
	n := w.node()
	n.start()
	second := w.node()
	second.spawn()
	select {
	case <-second.ended:
	case <-time.After(10 * time.Second):
		t.Fatal("two servers run on one file")
	}
	if text := second.log.tail(2000); second.err == nil || !strings.Contains(text, strconv.Itoa(n.cmd.Process.Pid)) {
		t.Errorf("the second server ended with %v and said: %s", second.err, text)
	}
	second.cmd = nil
	if got := n.answers("/healthz"); got != 200 {
		t.Errorf("the first one answers %d", got)
	}
	result(t, "F-06", "refused, and the process that has the file is named")
}

// A damaged file is never served as an empty one (F-07).
func TestDamagedFileIsRefused(t *testing.T) {
	for name, damage := range map[string]func(path string) error{
		"emptied": func(path string) error {
			return errors.Join(os.Truncate(path, 0), remove(path+"-wal"), remove(path+"-shm"))
		},
		"first page overwritten": func(path string) error { return overwrite(path, 0, 4096) },
		"cut in half": func(path string) error {
			info, err := os.Stat(path)
			if err != nil {
				return err
			}
			return os.Truncate(path, info.Size()/2)
		},
		"schema overwritten": func(path string) error { return overwrite(path, 100, 3000) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			n := w.node()
			n.start()
			n.stop()
			must(t, damage(w.data.Path()))
			if name == "emptied" { // nor does a command make a database of it
				for _, args := range [][]string{{"project", "list"}, {"migrate"}, {"project", "create", "Another"}} {
					if said, err := w.command(args...); err == nil || !strings.Contains(said, "restore") {
						t.Errorf("postern %v: %v, %s", args, err, said)
					}
				}
			}
			n.spawn()
			select {
			case <-n.ended:
			case <-time.After(10 * time.Second):
				t.Fatalf("it is served:\n%s", n.log.tail(1500))
			}
			if text := n.log.tail(1500); n.err == nil || !strings.Contains(text, "restore") {
				t.Errorf("it ended with %v and said: %s", n.err, text)
			}
		})
	}
	result(t, "F-07", "a file that was emptied, cut, or overwritten at its beginning is refused, and restore is named")
}

func remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func overwrite(path string, from int64, n int) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, n)
	for i := range block {
		block[i] = byte(rand.IntN(256))
	}
	_, err = f.WriteAt(block, from)
	return errors.Join(err, remove(path+"-wal"), remove(path+"-shm"))
}

// Backups are made while everybody works, one is restored elsewhere: it is
// whole, and nothing that was given out before it works (F-26).
func TestBackupUnderLoad(t *testing.T) {
	w := newWorld(t, nil)
	n := w.node()
	n.start()
	n.ready()
	end := playing(t, w, n, actors)
	copies := t.TempDir()
	backups := times(5, 50)
	for i := range backups {
		if out, err := w.command("backup", filepath.Join(copies, fmt.Sprint(i))); err != nil {
			t.Fatalf("postern backup: %v\n%s", err, out)
		}
	}
	end()
	w.settled(t)
	n.stop()
	if out, err := w.command("restore", "--force", "--yes", filepath.Join(copies, "0")); err != nil {
		t.Fatalf("postern restore: %v\n%s", err, out)
	}
	n.start()
	a := w.actors[0]
	for _, h := range a.held {
		must(t, a.look(h, h.latest))
	}
	for _, e := range w.journal.entries[len(w.journal.entries)-len(a.held):] {
		if e.Result != "" {
			t.Errorf("after a restore a token from before it works: %s", e)
		}
	}
	b := w.actor(n)
	h, err := b.authorize()
	must(t, err)
	must(t, b.redeem(h))
	if out, err := w.command("audit", "verify"); err != nil {
		t.Errorf("postern audit verify: %v\n%s", err, out)
	}
	result(t, "F-26", "%d copies under load, the first one restored: whole, nothing from before works, a new sign-in does", backups)
}

// A server is killed while it makes its tables, again and again: the next start
// finishes, on both databases (F-23).
func TestMigrationInterrupted(t *testing.T) {
	for name, run := range map[string]func(t *testing.T) *world{
		"sqlite":   func(t *testing.T) *world { return unmade(t, "", t.TempDir()) },
		"postgres": func(t *testing.T) *world { return unmade(t, newDatabase(t, postgres(t)), t.TempDir()) },
	} {
		t.Run(name, func(t *testing.T) {
			w := run(t)
			n := w.node()
			n.env = []string{"POSTERN_MIGRATE=true"}
			kills := times(20, 100)
			for range kills {
				n.spawn()
				time.Sleep(rand.N(80 * time.Millisecond))
				n.kill()
			}
			began := time.Now()
			n.spawn()
			for n.answers("/healthz") != 200 || n.answers("/readyz") != 200 {
				if time.Since(began) > 90*time.Second { // a lease of the killed one runs out after 60
					t.Fatalf("it is not ready after %s:\n%s", time.Since(began), n.log.tail(2000))
				}
				time.Sleep(20 * time.Millisecond)
			}
			took := time.Since(began)
			n.stop()
			w.setUp()
			n.start()
			n.ready()
			a := w.actor(n)
			h, err := a.authorize()
			must(t, err)
			must(t, a.redeem(h))
			result(t, "F-23", "killed %d times in its first start; the next one finished after %s", kills, took.Round(10*time.Millisecond))
		})
	}
}

// SIGTERM comes with requests under way, whose handlers wait for the body: each
// is answered when that comes (F-27).
func TestStoppedInOrder(t *testing.T) {
	w := newWorld(t, nil)
	n := w.node()
	n.start()
	n.ready()
	restarts, each := times(3, 30), 200
	for range restarts {
		began := make(chan struct{}, each)
		finish := make(chan struct{})
		var answered atomic.Int64
		var all sync.WaitGroup
		for range each {
			all.Go(func() {
				conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.port))
				if err != nil {
					began <- struct{}{}
					t.Error(err)
					return
				}
				defer conn.Close()
				answers := bufio.NewReader(conn)
				body := "grant_type=refresh_token&refresh_token=of+nobody&client_id=" + w.client.ID
				_, err = fmt.Fprintf(conn, "POST /v1/oauth2/token HTTP/1.1\r\nHost: localhost:%d\r\nContent-Type: %s\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", w.port, formType, len(body))
				if err == nil {
					_, err = http.ReadResponse(answers, nil) // 100: its handler reads the body
				}
				began <- struct{}{}
				<-finish
				if err == nil {
					_, err = io.WriteString(conn, body)
				}
				if err != nil {
					t.Error(err)
					return
				}
				response, err := http.ReadResponse(answers, nil)
				if err != nil {
					t.Errorf("a request that was under way was cut: %v", err)
					return
				}
				_ = response.Body.Close()
				if response.StatusCode == http.StatusBadRequest || response.StatusCode == http.StatusTooManyRequests {
					answered.Add(1)
				}
			})
		}
		for range each {
			<-began
		}
		must(t, syscall.Kill(n.cmd.Process.Pid, syscall.SIGTERM))
		time.Sleep(200 * time.Millisecond)
		select {
		case <-n.ended:
			t.Error("it did not wait for the requests under way")
		default:
		}
		close(finish)
		all.Wait()
		select {
		case <-n.ended:
		case <-time.After(25 * time.Second):
			t.Fatal("it does not end")
		}
		if n.err != nil || answered.Load() != int64(each) {
			t.Fatalf("%d of %d were answered; it ended with %v", answered.Load(), each, n.err)
		}
		n.dialled.CloseIdleConnections()
		n.start()
	}
	result(t, "F-27", "%d times SIGTERM with %d requests under way: all answered, and then it ended", restarts, each)
}

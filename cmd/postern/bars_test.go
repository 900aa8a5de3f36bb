//go:build linux && !race

package main

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// The bars of a start: 150 ms to the first answer on a fresh data folder, 60 ms
// on an existing one, 40 MiB of memory at rest. The best of five counts, for
// the machine has other work.
func TestStart(t *testing.T) {
	if testing.Short() {
		t.Skip("measures")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "postern")
	if err := os.Symlink(self, binary); err != nil {
		t.Fatal(err)
	}
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	issuer := "http://localhost:" + port
	postern := func(dir string, args ...string) *exec.Cmd {
		cmd := exec.Command(binary, args...)
		cmd.Dir = dir
		return cmd
	}
	// start runs a server in dir until it has answered want, and returns how long
	// that took and how much memory it has when it rests.
	start := func(t *testing.T, dir string, want int) (time.Duration, int) {
		t.Helper()
		cmd := postern(dir, "serve", "--mail-transport", "console", "--listen", "127.0.0.1:"+port, "--url", issuer)
		begun := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			_ = cmd.Process.Signal(os.Interrupt) // it ends, or Wait tells
			if err := cmd.Wait(); err != nil {
				t.Errorf("the server ended with %v", err)
			}
			http.DefaultClient.CloseIdleConnections()
		}()
		for time.Since(begun) < 10*time.Second {
			response, err := http.Get(issuer + "/.well-known/oauth-authorization-server")
			if err == nil {
				response.Body.Close()
				if response.StatusCode == want {
					break
				}
			}
			time.Sleep(time.Millisecond)
		}
		took := time.Since(begun)
		time.Sleep(500 * time.Millisecond) // keys are made, the collector has run
		return took, resident(t, cmd.Process.Pid)
	}
	best := func(t *testing.T, bar time.Duration, dir func() string, want int) {
		t.Helper()
		fastest, memory := time.Hour, 0
		for range 5 {
			took, kib := start(t, dir(), want)
			fastest, memory = min(fastest, took), max(memory, kib)
		}
		t.Logf("first answer after %s, %d KiB at rest", fastest.Round(time.Millisecond/10), memory)
		if fastest > bar {
			t.Errorf("the first answer took %s, the bar is %s", fastest, bar)
		}
		if memory > 40<<10 {
			t.Errorf("%d KiB at rest, the bar is 40 MiB", memory)
		}
	}
	t.Run("fresh", func(t *testing.T) {
		best(t, 150*time.Millisecond, t.TempDir, http.StatusMisdirectedRequest)
	})
	t.Run("existing", func(t *testing.T) {
		dir := t.TempDir()
		if out, err := postern(dir, "project", "create", "Notes", "--issuer", issuer).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		start(t, dir, http.StatusOK) // which makes the keys
		best(t, 60*time.Millisecond, func() string { return dir }, http.StatusOK)
	})
}

// resident is the memory of a process in KiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Fatal("the system does not tell the memory of a process")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

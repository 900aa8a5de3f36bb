//go:build unix

package dev_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/dev"
)

func TestFolder(t *testing.T) {
	t.Run("a new folder is marked and private", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "dev")
		if err := dev.OpenFolder(dir, "http://localhost:4000"); err != nil {
			t.Fatal(err)
		}
		if issuer, ok := dev.Issuer(dir); !ok || issuer != "http://localhost:4000" {
			t.Errorf("got %q, %v", issuer, ok)
		}
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("got mode %v, %v", info.Mode(), err)
		}
		if err := dev.OpenFolder(dir, "http://localhost:4100"); err != nil {
			t.Errorf("the second run is refused: %v", err)
		}
		if issuer, _ := dev.Issuer(dir); issuer != "http://localhost:4100" {
			t.Errorf("got %q, want the newer issuer", issuer)
		}
	})
	t.Run("the programs that make dev built do not matter", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := dev.OpenFolder(dir, "http://localhost:4000"); err != nil {
			t.Error(err)
		}
	})
	t.Run("a folder with other data is refused", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "postern.db"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := dev.OpenFolder(dir, "http://localhost:4000"); err == nil {
			t.Error("a folder with data of another origin was taken")
		}
		if _, ok := dev.Issuer(dir); ok {
			t.Error("it was marked")
		}
	})
}

func TestPortOwner(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who has a port")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	if owner := dev.PortOwner(port); !strings.HasSuffix(owner, fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("got %q, want this process", owner)
	}
	l.Close()
	if owner := dev.PortOwner(port); owner != "" {
		t.Errorf("a free port has the owner %q", owner)
	}
}

func TestAwait(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	if err := dev.Await(t.Context(), s.URL); err != nil {
		t.Errorf("an answer of any status is an answer: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	s.Close()
	if err := dev.Await(ctx, s.URL); err == nil {
		t.Error("nobody answers, and Await came back without an error")
	}
}

func TestChild(t *testing.T) {
	shell, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no shell")
	}
	run := func(ctx context.Context, script string) (string, error) {
		var out bytes.Buffer
		err := dev.Child{Args: []string{shell, "-c", script}, Env: append(os.Environ(), "GREETING=hello"), Out: &out, Err: &out}.Run(ctx)
		return out.String(), err
	}
	t.Run("its environment and output are passed on, its end is an error", func(t *testing.T) {
		out, err := run(t.Context(), "echo $GREETING")
		if strings.TrimSpace(out) != "hello" || err == nil {
			t.Errorf("got %q, %v", out, err)
		}
	})
	t.Run("a failure is told", func(t *testing.T) {
		if _, err := run(t.Context(), "exit 3"); err == nil || !strings.Contains(err.Error(), "exit status 3") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a missing program is told", func(t *testing.T) {
		if err := (dev.Child{Args: []string{"no-such-program"}}).Run(t.Context()); err == nil {
			t.Error("no error")
		}
	})
	t.Run("what it started ends with it, even what will not listen", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		file := filepath.Join(t.TempDir(), "pid")
		done := make(chan error, 1)
		started := time.Now()
		go func() {
			_, err := run(ctx, `(trap "" TERM; sleep 60) & echo $! >`+file+`; trap "" TERM; wait; sleep 60`)
			done <- err
		}()
		pid := 0
		for pid == 0 && time.Since(started) < 5*time.Second {
			text, _ := os.ReadFile(file)
			pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
			time.Sleep(10 * time.Millisecond)
		}
		cancel()
		asked := time.Now()
		if err := <-done; err != nil {
			t.Errorf("being told to end is no error, got %v", err)
		}
		if took := time.Since(asked); took > 3*time.Second {
			t.Errorf("took %s to end, want less than three seconds", took)
		}
		for range 100 { // the kernel takes a moment to bury it
			if syscall.Kill(pid, 0) != nil {
				return
			}
			if state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); bytes.Contains(state, []byte(") Z ")) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("process %d lives on", pid)
	})
}

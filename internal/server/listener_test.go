package server_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/web"
)

// connect opens a connection to a server, and ends it with the test.
func connect(t *testing.T, s *servertest.Server) net.Conn {
	t.Helper()
	u, err := url.Parse(s.Address)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", "127.0.0.1:"+u.Port())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// closed reports whether the other side ended a connection within a limit, and
// what it said before.
func closed(conn net.Conn, limit time.Duration) (said string, ended bool) {
	_ = conn.SetReadDeadline(time.Now().Add(limit)) // a socket takes deadlines
	b, err := io.ReadAll(conn)
	return string(b), !errors.Is(err, os.ErrDeadlineExceeded)
}

// Who sends a header or a body a byte at a time is cut off, a long time before
// they are done; who sends the same at once is answered.
//
// Rows: N01, N02.
func TestSlowRequestsAreCutOff(t *testing.T) {
	t.Parallel()
	if web.HeaderTimeout != 5*time.Second || web.ReadTimeout != 10*time.Second {
		t.Errorf("a header may take %s, a body %s", web.HeaderTimeout, web.ReadTimeout)
	}
	const header, read, drop = 500 * time.Millisecond, 3 * time.Second, 25 * time.Millisecond
	const patience = 5 * read // a slow computer; a body that is let takes longer
	s := servertest.New(t, servertest.Config{Timeouts: web.Timeouts{Header: header, Read: read}})
	host := strings.TrimPrefix(s.Issuer, "http://")
	form := strings.Repeat("x", 1000)
	head := "POST " + oauth.PathToken + " HTTP/1.1\r\nHost: " + host + "\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n"
	for _, slow := range []struct {
		name         string
		first, drops string
		from, until  time.Duration
	}{
		{"N01 a header", "POST " + oauth.PathToken + " HTTP/1.1\r\nX: ", form, header / 2, read - drop},
		{"N01 nothing at all", "", "", header / 2, read - drop},
		{"N02 a body", head, form, read / 2, patience},
	} {
		t.Run(slow.name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t, s)
			begun := time.Now()
			if _, err := io.WriteString(conn, slow.first); err != nil {
				t.Fatal(err)
			}
			go func() { // 25 seconds, if it is let
				for i := range len(slow.drops) {
					if _, err := io.WriteString(conn, slow.drops[i:i+1]); err != nil {
						return
					}
					time.Sleep(drop)
				}
			}()
			said, ended := closed(conn, patience)
			took := time.Since(begun)
			if !ended || took < slow.from || took > slow.until {
				t.Errorf("ended is %t, after %s, with %q", ended, took, said)
			}
			if strings.HasPrefix(said, "HTTP/1.1 2") {
				t.Errorf("it was answered %q", said)
			}
		})
	}
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		conn := connect(t, s)
		if _, err := io.WriteString(conn, head+form); err != nil {
			t.Fatal(err)
		}
		if status, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.Contains(status, " 401 ") {
			t.Errorf("got %q, %v", status, err)
		}
	})
}

// Of a message whose end two readers may see at different places, nothing is
// taken for the next request: it is refused, or the connection ends after it.
//
// Row: N05.
func TestMessagesWithTwoEnds(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	host := strings.TrimPrefix(s.Issuer, "http://")
	hidden := "GET " + oauth.PathJWKS + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
	chunked := "Transfer-Encoding: chunked\r\n"
	for _, c := range []struct {
		name, rest string
		status     string
	}{
		{"N05 two lengths", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400"},
		{"N05 two lengths in one", "Content-Length: 5, 6\r\n\r\nhello", "400"},
		{"N05 a length with a sign", "Content-Length: +5\r\n\r\nhello", "400"},
		{"N05 a blank before the colon", "Transfer-Encoding : chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "400"},
		{"N05 chunks twice", chunked + chunked + "\r\n5\r\nhello\r\n0\r\n\r\n", "501"},
		{"N05 chunks of another name", "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n\r\nhello", "501"},
		{"N05 a bare line feed behind a size", chunked + "\r\n5\nhello\r\n0\r\n\r\n", "400"},
		{"N05 a bare line feed behind an extension", chunked + "\r\n5;a\nhello\r\n0\r\n\r\n", "400"},
		{"N05 a bare line feed behind a chunk", chunked + "\r\n5\r\nhello\n0\r\n\r\n", "400"},
		{"N05 a bare carriage return in a header", "X: a\rContent-Length: 5\r\n\r\nhello", "400"},
		// Chunks win, and nothing follows them (RFC 9112 §6.1).
		{"N05 a length and chunks", "Content-Length: 5\r\n" + chunked + "\r\n5\r\nhello\r\n0\r\n\r\n", "401"},
		{"N05 chunks and a length", chunked + "Content-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "401"},
	} {
		for _, path := range []string{oauth.PathToken, "/oauth/authorize", "/elsewhere"} {
			t.Run(c.name+" at "+path, func(t *testing.T) {
				conn := connect(t, s)
				fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\n%s%s", path, host, c.rest, hidden)
				said, ended := closed(conn, 3*time.Second)
				if !ended || strings.Count(said, "HTTP/1.1 ") != 1 || strings.Contains(said, `"keys"`) {
					t.Errorf("the connection ended is %t, after\n%s", ended, said)
				}
				if path == oauth.PathToken && !strings.HasPrefix(said, "HTTP/1.1 "+c.status+" ") {
					t.Errorf("want %s, got\n%s", c.status, said)
				}
			})
		}
	}
	t.Run("one length", func(t *testing.T) {
		conn := connect(t, s)
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 5\r\n\r\nhello%s", oauth.PathToken, host, hidden)
		if said, ended := closed(conn, time.Second); ended || strings.Count(said, "HTTP/1.1 ") != 2 || !strings.Contains(said, `"keys"`) {
			t.Errorf("the next request is not answered (ended is %t):\n%s", ended, said)
		}
	})
}

// Idle connections cost nobody else anything, and end.
//
// Row: N06. Ten thousand of them are a measurement; these are 500.
func TestIdleConnections(t *testing.T) {
	const many, idle = 500, 3 * time.Second
	s := servertest.New(t, servertest.Config{Timeouts: web.Timeouts{Idle: idle}})
	s.Ready(t)
	host := strings.TrimPrefix(s.Issuer, "http://")
	// median is how long an honest person waits for the sign-in page.
	median := func() time.Duration {
		b := s.Browser(t)
		var took []time.Duration
		for range 100 {
			begun := time.Now()
			if p := b.Get(t, "/login"); p.Status != http.StatusOK {
				t.Fatalf("got %d", p.Status)
			}
			took = append(took, time.Since(begun))
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	memory := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapInuse + m.StackInuse
	}
	alone, before := median(), memory()
	conns := make([]net.Conn, many)
	for i := range conns {
		conns[i] = connect(t, s)
		fmt.Fprintf(conns[i], "GET /healthz HTTP/1.1\r\nHost: %s\r\n\r\n", host)
		if status, err := bufio.NewReader(conns[i]).ReadString('\n'); err != nil || !strings.Contains(status, " 200 ") {
			t.Fatalf("connection %d: %q, %v", i, status, err)
		}
	}
	beside, after := median(), memory()
	t.Logf("alone %s, beside %d idle connections %s, %d KiB each", alone, many, beside, (max(after, before)-before)/many>>10)
	if beside > 3*alone+50*time.Millisecond {
		t.Errorf("a page takes %s, beside %d idle connections %s", alone, many, beside)
	}
	if after > before+many*64<<10 {
		t.Errorf("an idle connection takes %d bytes", (after-before)/many)
	}
	var all sync.WaitGroup
	for i, conn := range conns {
		all.Go(func() {
			if _, ended := closed(conn, 4*idle); !ended {
				t.Errorf("connection %d does not end", i)
			}
		})
	}
	all.Wait()
}

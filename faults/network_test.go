package faults

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// memory is the resident memory of a node in bytes.
func (n *node) memory() int64 {
	n.w.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		n.w.t.Skipf("the memory of a process cannot be read here: %v", err)
	}
	found := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	if found == nil {
		n.w.t.Fatal("no VmRSS")
	}
	kB, err := strconv.ParseInt(string(found[1]), 10, 64)
	must(n.w.t, err)
	return kB << 10
}

// dial opens a connection from one of several addresses of this computer, for
// one has not ports enough.
func (n *node) dial(i int) (net.Conn, error) {
	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(2+i%8))}, Timeout: 10 * time.Second}
	return from.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", n.port))
}

// filesFor raises the limit of open files of this process and its children.
func filesFor(t *testing.T, connections uint64) {
	t.Helper()
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	if limit.Cur < connections+500 {
		before := limit
		limit.Cur = connections + 500
		limit.Max = max(limit.Max, limit.Cur)
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Skipf("%d connections need more open files than %d, which this user may have", connections, before.Max)
		}
	}
}

// metadata measures how long the metadata takes, n times.
func (n *node) metadata(times int) (all []time.Duration) {
	n.w.t.Helper()
	for range times {
		began := time.Now()
		if got := n.answers("/.well-known/oauth-authorization-server"); got != http.StatusOK {
			n.w.t.Fatalf("metadata: %d", got)
		}
		all = append(all, time.Since(began))
	}
	return all
}

// Ten thousand connections that say nothing: others are served as before, and
// the memory stays within its bound (F-18).
func TestIdleConnections(t *testing.T) {
	connections := times(2000, 10_000)
	filesFor(t, uint64(connections))
	w := newWorld(t, nil)
	n := w.node()
	n.start()
	n.ready()
	n.metadata(50)
	before, quiet := n.memory(), fine(n.metadata(300), 0.99)
	var open []net.Conn
	defer func() {
		for _, conn := range open {
			_ = conn.Close()
		}
	}()
	began := time.Now()
	for i := range connections { // each has asked once, and keeps its connection
		conn, err := n.dial(i)
		must(t, err)
		open = append(open, conn)
		_, err = fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: localhost:%d\r\n\r\n", w.port)
		must(t, err)
	}
	for _, conn := range open {
		must(t, conn.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err := conn.Read(make([]byte, 512))
		must(t, err)
	}
	all := n.metadata(1000)
	after := n.memory()
	if limit := int64(400 << 20); after > limit {
		t.Errorf("%d MiB resident with %d idle connections, at most %d", after>>20, connections, limit>>20)
	}
	result(t, "F-18", "%d idle connections opened in %s: %d MiB resident (%d without), metadata p50 %s, p99 %s (%s without)",
		connections, time.Since(began).Round(100*time.Millisecond), after>>20, before>>20, fine(all, 0.5), fine(all, 0.99), quiet)
}

func fine(all []time.Duration, q float64) time.Duration {
	quantile(all, q) // sorts
	return all[int(q*float64(len(all)-1))].Round(10 * time.Microsecond)
}

// Headers and bodies that come by drops end at their time, and honest people are
// served meanwhile (F-16).
func TestSlowRequests(t *testing.T) {
	slow := times(500, 5000)
	filesFor(t, uint64(slow))
	w := newWorld(t, nil)
	n := w.node()
	n.start()
	n.ready()
	n.metadata(50)
	quiet := fine(n.metadata(300), 0.99)
	head := fmt.Sprintf("POST /v1/oauth2/token HTTP/1.1\r\nHost: localhost:%d\r\nContent-Type: %s\r\nContent-Length: 1000\r\n", w.port, formType)
	var headers, bodies atomic.Int64
	var all sync.WaitGroup
	gate := make(chan struct{}, 100)
	for i := range slow {
		all.Go(func() {
			gate <- struct{}{}
			conn, err := n.dial(i)
			<-gate
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			text, count, limit := head[:len(head)/2], &headers, 9*time.Second // 5 s, and what a busy machine adds
			if i%2 == 1 {
				text, count, limit = head+"\r\ngrant_type=", &bodies, 16*time.Second // 10 s
			}
			if _, err := io.WriteString(conn, text); err != nil {
				t.Error(err)
				return
			}
			began := time.Now()
			must(t, conn.SetReadDeadline(began.Add(limit)))
			for err == nil {
				_, err = conn.Read(make([]byte, 4096))
			}
			var timeout net.Error
			if errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("a slow request is kept after %s", limit)
				return
			}
			count.Add(1)
		})
	}
	time.Sleep(time.Second)
	busy := fine(n.metadata(300), 0.99)
	all.Wait()
	result(t, "F-16", "%d half headers and %d half bodies ended by the server; metadata p99 %s meanwhile (%s without)", headers.Load(), bodies.Load(), busy, quiet)
}

// Bodies and headers far over their bounds are refused, and not kept (F-17).
func TestHugeRequests(t *testing.T) {
	w := newWorld(t, nil)
	n := w.node()
	n.start()
	n.ready()
	a := &actor{w: w, node: n}
	before := n.memory()
	huge := strings.Repeat("a", 20<<20)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for _, path := range []string{"/v1/oauth2/token", "/v1/oauth2/introspect", "/v1/oauth2/revoke", "/v1/oauth2/register", "/v1/projects/" + w.project.ID + "/rbac_policy"} {
				method, kind := http.MethodPost, formType
				if strings.HasPrefix(path, "/v1/projects") {
					method, kind = http.MethodPut, "application/json"
				}
				request, err := http.NewRequest(method, w.issuer+path, strings.NewReader("token="+huge))
				must(t, err)
				request.Header.Set("Content-Type", kind)
				request.SetBasicAuth(w.key.ID, w.keyText)
				response, err := (&http.Client{Transport: n.dialled}).Do(request)
				if err != nil {
					continue // cut while it was sent
				}
				_ = response.Body.Close()
				if response.StatusCode < 400 || response.StatusCode >= 500 {
					t.Errorf("%s with 20 MiB: %d", path, response.StatusCode)
				}
			}
		})
	}
	all.Wait()
	request, err := http.NewRequest(http.MethodGet, w.issuer+"/healthz", nil)
	must(t, err)
	request.Header.Set("X-Long", huge[:1<<20])
	response, err := (&http.Client{Transport: n.dialled}).Do(request)
	if err == nil {
		_ = response.Body.Close()
		if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of 1 MiB: %d", response.StatusCode)
		}
	}
	if got, err := a.page(http.MethodGet, w.issuer+"/oauth/authorize?"+url.Values{"state": {huge[:15<<10]}}.Encode(), nil); err != nil || got.Status != http.StatusRequestURITooLong {
		t.Errorf("an address of 15 KiB: %d, %v", got.Status, err)
	}
	after := n.memory()
	if after > before+(64<<20) {
		t.Errorf("%d MiB resident after huge requests, %d before", after>>20, before>>20)
	}
	result(t, "F-17", "40 bodies of 20 MiB and a header of 1 MiB refused; %d MiB resident after, %d before", after>>20, before>>20)
}

// Nobody takes mail: the page says the same as always, tokens are refreshed as
// always, and who asks again later gets their code (F-20).
func TestMailIsDown(t *testing.T) {
	w := newWorld(t, nil)
	n := w.node()
	n.start()
	n.ready()
	inside := w.actor(n)
	h, err := inside.authorize()
	must(t, err)
	must(t, inside.redeem(h))
	w.mails.Silence(true)
	var slowest time.Duration
	for i := range 20 {
		newcomer := w.visitor(n)
		sign, err := newcomer.page(http.MethodGet, w.issuer+"/login", nil)
		must(t, err)
		began := time.Now()
		asked, err := newcomer.submit(sign, url.Values{"email": {fmt.Sprintf("nobody%d@example.test", i)}})
		must(t, err)
		slowest = max(slowest, time.Since(began))
		if asked.Status != http.StatusOK || !strings.Contains(asked.Body, "code") {
			t.Errorf("the page says: %d %.300s", asked.Status, anyTag.ReplaceAllString(asked.Body, ""))
		}
		must(t, inside.refresh(h, h.latest))
	}
	if slowest > 3*time.Second {
		t.Errorf("the page waited %s for mail", slowest)
	}
	w.mails.Silence(false)
	w.actor(n) // signs in
	w.settled(t)
	result(t, "F-20", "20 people asked for codes that nobody takes: each page within %s, refreshes go on, sign-in works when mail does", slowest.Round(10*time.Millisecond))
}

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/rig"
)

// A yardstick is a server that does nothing of what ours does: bare handlers of
// net/http, in a process of their own, measured by the same load in the same run.
// What ours costs in yardsticks can be compared between machines.

// yardstickCommand is the first argument of the process that serves them.
const yardstickCommand = "serve-yardsticks"

// serveYardsticks answers until its standard input ends. The database of those
// that need one is in folder.
func serveYardsticks(ctx context.Context, folder string) error {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	document := bytes.Repeat([]byte("0123456789abcdef"), 2048/16)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /document", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(document) // a client that went away needs no answer
	})
	type answer struct {
		Access  string `json:"access_token"`
		Type    string `json:"token_type"`
		Expires int    `json:"expires_in"`
		Refresh string `json:"refresh_token"`
		Scope   string `json:"scope"`
	}
	access, refresh := strings.Repeat("a", 600), strings.Repeat("r", 77)
	mux.HandleFunc("POST /token", func(w http.ResponseWriter, r *http.Request) {
		name, _, ok := r.BasicAuth()
		if err := r.ParseForm(); err != nil || !ok || name == "" || r.PostForm.Get("grant_type") == "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		text, err := json.Marshal(answer{access, "Bearer", 900, refresh, r.PostForm.Get("scope")})
		if err != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(text)
	})
	least, err := newLeast(ctx, folder)
	if err != nil {
		return err
	}
	least.serve(mux)
	fmt.Println(l.Addr())
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString(0) // until whoever started us is gone
		l.Close()
	}()
	_ = (&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}).Serve(l) // it ends with the listener
	return nil
}

// yardsticks is the process that serves the handlers.
type yardsticks struct {
	process *exec.Cmd
	in      io.Closer
	address string
	idle    []*conn
}

func (o options) startYardsticks(ctx context.Context) (*yardsticks, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp(o.folder, "yardsticks-")
	if err != nil {
		return nil, err
	}
	process := exec.CommandContext(ctx, self, yardstickCommand, folder) //nolint:gosec // this program
	in, err := process.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	process.Stderr = os.Stderr
	if err := process.Start(); err != nil {
		return nil, err
	}
	y := &yardsticks{process: process, in: in}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		y.close()
		return nil, err
	}
	y.address = strings.TrimSpace(line)
	return y, nil
}

func (y *yardsticks) close() {
	for _, c := range y.idle {
		c.close()
	}
	y.in.Close()
	_ = y.process.Wait() // its error is of no consequence
}

func (y *yardsticks) usage() (rig.Usage, error) {
	used, err := rig.CPUTime(y.process.Process.Pid)
	return rig.Usage{Server: used}, err
}

// request is what the worker n asks a handler.
func (y *yardsticks) request(name string, n int) []byte {
	switch name {
	case getYardstick:
		return request(y.address, rig.Address(1), "/document", "", "")
	case postYardstick:
		return request(y.address, rig.Address(1), "/token", form+"Authorization: Basic cmVzb3VyY2Utc2VydmVyOmEtc2VjcmV0\r\n",
			"grant_type=refresh_token&refresh_token="+strings.Repeat("r", 77)+"&scope=notes%3Aread&client_id=connected-app-test-0123456789")
	default:
		return leastRequest(name, y.address, n)
	}
}

// pass measures a handler once, after a warm-up.
func (y *yardsticks) pass(ctx context.Context, name string, c int, during time.Duration) (result, error) {
	var conns []*conn
	defer func() {
		for _, c := range conns {
			c.close()
		}
	}()
	workers := each(c, func(n int) worker {
		mine, request := &conn{address: y.address}, y.request(name, n)
		conns = append(conns, mine)
		return func(ctx context.Context) error {
			status, _, err := mine.ask(ctx, request)
			if err == nil && status != 200 {
				err = fmt.Errorf("yardstick: %d", status)
			}
			return err
		}
	})
	if _, err := run(ctx, workers, warm, y.usage); err != nil {
		return result{}, err
	}
	return run(ctx, workers, during, y.usage)
}

const (
	getYardstick  = "net/http GET 2 KB"
	postYardstick = "net/http token POST"
)

// yardsticks measures the bare handlers at every concurrency.
func (o options) yardsticks(ctx context.Context, r *report) error {
	y, err := o.startYardsticks(ctx)
	if err != nil {
		return err
	}
	defer y.close()
	fmt.Println()
	r.head()
	for _, name := range []string{getYardstick, postYardstick} {
		for _, c := range o.concurrency {
			var passes []result
			for range o.passes {
				one, err := y.pass(ctx, name, c, o.during)
				if err != nil {
					return err
				}
				passes = append(passes, one)
			}
			r.add(cell{Scenario: name, Concurrency: c, Result: median(passes)})
		}
	}
	return r.signatures()
}

// beyond is what an operation costs in what it cannot cost less than, and in the
// bare handler, each measured right beside it.
type beyond struct {
	Scenario         string
	Operation        result
	Floor            result
	Floors, Handlers float64
}

// floors measures operations, the least that they can cost and the bare handler
// in turn: rounds that are over in some two seconds, as in growth, and the median
// of their ratios.
func (o options) floors(ctx context.Context, r *report) (err error) {
	y, err := o.startYardsticks(ctx)
	if err != nil {
		return err
	}
	defer y.close()
	w, err := o.newWorld(ctx, "sqlite")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	one := o
	one.passes, one.during = 1, o.during/2
	for _, b := range bars() {
		if b.least == "" {
			continue
		}
		var operations, least []result
		var floors, handlers []float64
		for range 3 * o.passes {
			operation, err := one.passesOf(ctx, w, named(b.scenario), 16)
			if err != nil {
				return fmt.Errorf("%s: %w", b.scenario, err)
			}
			floor, err := y.pass(ctx, b.least, 16, one.during)
			if err != nil {
				return err
			}
			handler, err := y.pass(ctx, postYardstick, 16, one.during)
			if err != nil {
				return err
			}
			operations, least = append(operations, operation), append(least, floor)
			floors = append(floors, float64(operation.cpu())/float64(floor.cpu()))
			handlers = append(handlers, float64(operation.cpu())/float64(handler.cpu()))
		}
		r.beyond(beyond{b.scenario, median(operations), median(least), middle(floors), middle(handlers)})
	}
	return nil
}

// signatures measures what one signature costs, and a verification.
func (r *report) signatures() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	long, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	digest := sha256.Sum256([]byte("what is signed"))
	signature, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return err
	}
	for _, one := range []struct {
		into *time.Duration
		do   func() error
	}{
		{&r.SignES256, func() error { _, err := ecdsa.SignASN1(rand.Reader, key, digest[:]); return err }},
		{&r.VerifyES256, func() error {
			if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
				return fmt.Errorf("a signature does not hold")
			}
			return nil
		}},
		{&r.SignRS256, func() error { _, err := rsa.SignPKCS1v15(rand.Reader, long, crypto.SHA256, digest[:]); return err }},
	} {
		began, err := rig.CPUTime(os.Getpid())
		if err != nil {
			return err
		}
		n := 0
		for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); n++ {
			if err := one.do(); err != nil {
				return err
			}
		}
		ended, err := rig.CPUTime(os.Getpid())
		if err != nil {
			return err
		}
		*one.into = (ended - began) / time.Duration(n)
	}
	fmt.Printf("\nES256 signature %.1f µs, verification %.1f µs; RS256 signature %.0f µs\n", us(r.SignES256), us(r.VerifyES256), us(r.SignRS256))
	return nil
}

package server_test

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/oauth"
)

// The frames of HTTP/2 that the floods are made of (RFC 9113 §6), and two flags.
const (
	frameHeaders      = 1
	frameReset        = 3
	frameSettings     = 4
	framePing         = 6
	frameContinuation = 9

	endStream  = 1
	endHeaders = 4
)

// frame is one frame of HTTP/2 as it is sent.
func frame(kind, flags byte, stream uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
	b = append(b, flags)
	b = binary.BigEndian.AppendUint32(b, stream)
	return append(b, payload...)
}

// fields is the header block of a request without a body (RFC 7541): three fields
// from the static table and the authority.
func fields(host, path string) []byte {
	b := []byte{0x82, 0x87, 0x04, byte(len(path))} // GET, https, a path
	b = append(append(b, path...), 0x41, byte(len(host)))
	return append(b, host...)
}

// A flood of frames ends the connection that it comes on where it can be nothing
// else; where it could be a busy client, it costs a bounded amount. Meanwhile and
// afterwards the server answers others.
//
// Row: N04.
func TestHTTP2Floods(t *testing.T) {
	s := newSecured(t)
	host := strings.TrimPrefix(s.issuer, "https://")
	trust := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}} // the certificate is TestTLS's
	honest := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: trust, ForceAttemptHTTP2: true}}
	defer honest.CloseIdleConnections()
	ask := func() error {
		response, err := honest.Get(s.issuer + oauth.PathMetadata)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if _, err := io.Copy(io.Discard, response.Body); err != nil || response.StatusCode != http.StatusOK || response.ProtoMajor != 2 {
			return fmt.Errorf("an honest client got %s %d, %w", response.Proto, response.StatusCode, err)
		}
		return nil
	}
	if err := ask(); err != nil {
		t.Fatal(err)
	}
	memory := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapInuse + m.StackInuse)
	}
	block := fields(host, "/oauth/authorize")
	const (
		spell    = time.Second      // of a flood that may go on
		patience = 20 * time.Second // until one that may not has ended
	)
	for _, c := range []struct {
		name string
		ends bool
		read bool                  // the client reads what comes
		next func(n uint32) []byte // the n-th piece of the flood
	}{
		{"N04 a header without end", true, true, func(n uint32) []byte {
			if n == 0 {
				return frame(frameHeaders, endStream, 1, block)
			}
			// A field x of 768 bytes, in no table (RFC 7541 §6.2.2).
			return frame(frameContinuation, 0, 1, slices.Concat([]byte{0x00, 1, 'x', 0x7f, 0x81, 0x05}, make([]byte, 768)))
		}},
		{"N04 empty continuations", false, true, func(n uint32) []byte {
			if n == 0 {
				return frame(frameHeaders, endStream, 1, block)
			}
			return frame(frameContinuation, 0, 1, nil)
		}},
		{"N04 pings whose answers nobody reads", true, false, func(uint32) []byte { return frame(framePing, 0, 0, make([]byte, 8)) }},
		{"N04 settings whose answers nobody reads", false, false, func(uint32) []byte { return frame(frameSettings, 0, 0, nil) }},
		{"N04 settings of half a field", true, true, func(uint32) []byte { return frame(frameSettings, 0, 0, make([]byte, 3)) }},
		{"N04 a window beyond its bound", true, true, func(uint32) []byte {
			return frame(frameSettings, 0, 0, []byte{0, 4, 0xff, 0xff, 0xff, 0xff})
		}},
		{"N04 frames of no size", true, true, func(uint32) []byte { return frame(frameSettings, 0, 0, []byte{0, 5, 0, 0, 0, 0}) }},
		{"N04 requests that are taken back", false, true, func(n uint32) []byte {
			return append(frame(frameHeaders, endStream|endHeaders, 2*n+1, block), frame(frameReset, 0, 2*n+1, []byte{0, 0, 0, 8})...)
		}},
		{"N04 requests beyond the number that is allowed at once", false, true, func(n uint32) []byte {
			return frame(frameHeaders, endHeaders, 2*n+1, block)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			goroutines, before := runtime.NumGoroutine(), memory()
			conn, err := tls.Dial("tcp", host, trust)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			limit := spell
			if c.ends {
				limit = patience
			}
			_ = conn.SetDeadline(time.Now().Add(limit)) // a socket takes deadlines
			if c.read {
				go func() { _, _ = io.Copy(io.Discard, conn) }()
			}
			if _, err := conn.Write(append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0, nil)...)); err != nil {
				t.Fatal(err)
			}
			others := make(chan error, 1)
			go func() {
				for range 20 {
					if err := ask(); err != nil {
						others <- err
						return
					}
				}
				others <- nil
			}()
			for n := uint32(0); err == nil; {
				var pieces []byte
				for len(pieces) < 16<<10 {
					pieces = append(pieces, c.next(n)...)
					n++
				}
				_, err = conn.Write(pieces)
			}
			more, grown := runtime.NumGoroutine()-goroutines, memory()-before
			if c.ends && errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("after %s the connection still stands", patience)
			}
			if more > 600 || grown > 64<<20 { // 250 requests at once, with a goroutine or two each
				t.Errorf("it took %d goroutines and %d MiB", more, grown>>20)
			}
			if err := <-others; err != nil {
				t.Errorf("meanwhile: %v", err)
			}
			if err := ask(); err != nil {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

package rig

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Mailbox is an SMTP server that keeps the newest one-time code of each address.
type Mailbox struct {
	listener net.Listener
	silent   atomic.Bool
	mu       sync.Mutex
	boxes    map[string]chan string
}

// NewMailbox listens on a free port of this computer.
func NewMailbox(ctx context.Context) (*Mailbox, error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	m := &Mailbox{listener: l, boxes: map[string]chan string{}}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go m.serve(conn)
		}
	}()
	return m, nil
}

// Port is where it listens.
func (m *Mailbox) Port() int { return m.listener.Addr().(*net.TCPAddr).Port }

// Close stops listening.
func (m *Mailbox) Close() error { return m.listener.Close() }

// Silence makes it take connections and say nothing, until it is told otherwise.
func (m *Mailbox) Silence(on bool) { m.silent.Store(on) }

// Code waits for a code that was sent to an address, and takes it out.
func (m *Mailbox) Code(ctx context.Context, address string) (string, error) {
	box := m.box(address)
	defer func() {
		m.mu.Lock()
		delete(m.boxes, address)
		m.mu.Unlock()
	}()
	select {
	case code := <-box:
		return code, nil
	case <-ctx.Done():
		return "", fmt.Errorf("no code came for %s: %w", address, ctx.Err())
	}
}

func (m *Mailbox) box(address string) chan string {
	m.mu.Lock()
	defer m.mu.Unlock()
	box, ok := m.boxes[address]
	if !ok {
		box = make(chan string, 1)
		m.boxes[address] = box
	}
	return box
}

func (m *Mailbox) put(address, code string) {
	box := m.box(address)
	for {
		select {
		case box <- code:
			return
		case <-box: // an older one, which nobody took
		}
	}
}

var codeLine = regexp.MustCompile(`(?m)^[ \t]*(\d{3}) ?(\d{3})[ \t]*\r?$`)

func (m *Mailbox) serve(conn net.Conn) {
	defer conn.Close()
	for m.silent.Load() {
		time.Sleep(50 * time.Millisecond)
	}
	c := textproto.NewConn(conn)
	say := func(line string) { _ = c.PrintfLine("%s", line) } // a line that does not arrive ends the loop
	say("220 mail.example.test")
	var to string
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		verb, rest, _ := strings.Cut(line, " ")
		switch strings.ToUpper(verb) {
		case "EHLO", "HELO":
			say("250 mail.example.test")
		case "RCPT":
			_, to, _ = strings.Cut(rest, "<")
			to, _, _ = strings.Cut(to, ">")
			say("250 ok")
		case "DATA":
			say("354 go on")
			text, err := io.ReadAll(c.DotReader())
			if err != nil {
				return
			}
			say("250 ok")
			if found := codeLine.FindSubmatch(text); found != nil {
				m.put(to, string(found[1])+string(found[2]))
			}
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

package mail_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"mime/quotedprintable"
	"net"
	"net/http/httptest"
	netmail "net/mail"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/mail"
)

var code = mail.Mail{To: "ada@example.test", Subject: "Your code", Text: "123456\n", HTML: "<b>123456</b>"}

// Row: P09.
func TestCheckAddress(t *testing.T) {
	for _, address := range []string{
		"ada@example.test", "ada.l+tag@sub.example.test", "o'neill@example.test", "x_y-z@example.test", "a@localhost",
		"A1!#$%&'*+/=?^_`{|}~-@xn--bcher-kva.example", strings.Repeat("a", 64) + "@example.test",
	} {
		if err := mail.CheckAddress(address); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
	for name, address := range map[string]string{
		"empty":              "",
		"no @":               "ada",
		"no name":            "@example.test",
		"no host":            "ada@",
		"two @":              "ada@evil.example@example.test",
		"list":               "ada@example.test,eve@evil.example",
		"list of names":      "ada,eve@evil.example",
		"semicolon":          "ada@example.test;eve@evil.example",
		"CR LF":              "ada@example.test\r\nBcc: eve@evil.example",
		"LF":                 "ada@example.test\n",
		"CR in the name":     "a\rda@example.test",
		"NUL":                "ada\x00@example.test",
		"blank":              "ada @example.test",
		"leading blank":      " ada@example.test",
		"comment":            "ada(comment)@example.test",
		"comment behind":     "ada@example.test(comment)",
		"quoted":             `"ada"@example.test`,
		"quoted @":           `"ada@evil.example"@example.test`,
		"display name":       "Ada <ada@example.test>",
		"angle brackets":     "<ada@example.test>",
		"address literal":    "ada@[127.0.0.1]",
		"percent hack":       "ada%evil.example@",
		"source route":       "@evil.example:ada@example.test",
		"dot in front":       ".ada@example.test",
		"dot behind":         "ada.@example.test",
		"two dots":           "a..da@example.test",
		"two dots in a host": "ada@example..test",
		"dot behind a host":  "ada@example.test.",
		"dash in front":      "ada@-example.test",
		"not ASCII":          "ad\u0430@example.test",
		"full-width @":       "ada\uff20example.test",
		"long name":          strings.Repeat("a", 65) + "@example.test",
		"long host label":    "ada@" + strings.Repeat("a", 64) + ".test",
		"long":               "ada@" + strings.Repeat("a.", 130) + "test",
		"ten kilobytes":      strings.Repeat("a.", 5<<10) + "@example.test",
		"a million brackets": strings.Repeat("(", 1_000_000) + "@example.test",
	} {
		start := time.Now()
		if err := mail.CheckAddress(address); !errors.Is(err, mail.ErrAddress) {
			t.Errorf("%s: %v, want ErrAddress", name, err)
		}
		if spent := time.Since(start); spent > 200*time.Millisecond {
			t.Errorf("%s: took %v", name, spent)
		}
	}
}

func FuzzCheckAddress(f *testing.F) {
	f.Add("ada@example.test")
	f.Add("ada@example.test\r\nBcc: eve@evil.example")
	f.Fuzz(func(t *testing.T, address string) {
		if mail.CheckAddress(address) != nil {
			return
		}
		if strings.ContainsAny(address, "\r\n\x00 ,;<>()\"\\[]") || strings.Count(address, "@") != 1 {
			t.Errorf("%q accepted", address)
		}
		if parsed, err := netmail.ParseAddress(address); err != nil || parsed.Address != address || parsed.Name != "" {
			t.Errorf("%q is read otherwise elsewhere: %v, %v", address, parsed, err)
		}
	})
}

func TestRecorder(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	r := mail.NewRecorder(2, func() time.Time { return now })
	for i := range 3 {
		m := code
		m.Text = fmt.Sprint(i)
		if err := r.Send(t.Context(), m); err != nil {
			t.Fatal(err)
		}
	}
	got, err := json.Marshal(r.Mails())
	if err != nil {
		t.Fatal(err)
	}
	want := `[{"id":3,"to":"ada@example.test","subject":"Your code","text":"2","html":"\u003cb\u003e123456\u003c/b\u003e","sent_at":"2026-11-20T12:00:00Z"},` +
		`{"id":2,"to":"ada@example.test","subject":"Your code","text":"1","html":"\u003cb\u003e123456\u003c/b\u003e","sent_at":"2026-11-20T12:00:00Z"}]`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	for name, m := range map[string]mail.Mail{
		"bad address": {To: "ada", Subject: "x", Text: "x"},
		"bad subject": {To: "ada@example.test", Subject: "x\r\nBcc: eve@evil.example", Text: "x"},
		"no text":     {To: "ada@example.test", Subject: "x"},
	} {
		if err := r.Send(t.Context(), m); err == nil {
			t.Errorf("%s: recorded", name)
		}
	}
}

// script is a Sender that fails as told and notes when it was asked.
type script struct {
	mu    sync.Mutex
	start time.Time
	asked []string // offset and address of each attempt
	fail  func(attempt int, m mail.Mail) error
}

func (s *script) Send(_ context.Context, m mail.Mail) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, fmt.Sprintf("%v %s", time.Since(s.start), m.To))
	if s.fail == nil {
		return nil
	}
	return s.fail(len(s.asked), m)
}

// run starts n Runs of a queue inside a bubble, lets d pass, and stops them.
func run(t *testing.T, q *mail.Queue, n int, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for range n {
		wait.Go(func() {
			if err := q.Run(ctx); err != nil {
				t.Errorf("Run = %v", err)
			}
		})
	}
	time.Sleep(d)
	cancel()
	wait.Wait()
}

func newQueue(t *testing.T, sender mail.Sender, size int, failed func(mail.Mail, error, time.Time)) *mail.Queue {
	t.Helper()
	q, err := mail.NewQueue(mail.QueueConfig{Sender: sender, Now: time.Now, Size: size, Failed: failed})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func to(address string, life time.Duration) mail.Mail {
	return mail.Mail{To: address, Subject: "Your code", Text: "123456", Until: time.Now().Add(life)}
}

// Row: F-20: mail server down, then up.
func TestQueueTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{start: time.Now(), fail: func(attempt int, _ mail.Mail) error {
			if attempt < 5 {
				return errors.New("connection refused")
			}
			return nil
		}}
		var failures []time.Duration
		q := newQueue(t, s, 10, func(_ mail.Mail, _ error, again time.Time) { failures = append(failures, again.Sub(s.start)) })
		if err := q.Send(t.Context(), to("ada@example.test", 10*time.Minute)); err != nil {
			t.Fatal(err)
		}
		run(t, q, 1, time.Hour)
		want := []string{"0s ada@example.test", "1s ada@example.test", "3s ada@example.test", "7s ada@example.test", "15s ada@example.test"}
		if diff := cmp.Diff(want, s.asked); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]time.Duration{time.Second, 3 * time.Second, 7 * time.Second, 15 * time.Second}, failures); diff != "" {
			t.Errorf("reported: %s", diff)
		}
	})
}

// Row: F-20: mail server down for longer than the code lives.
func TestQueueGivesUpWhenTheMailIsOfNoUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{start: time.Now(), fail: func(int, mail.Mail) error { return errors.New("down") }}
		var last error
		var given int
		q := newQueue(t, s, 10, func(_ mail.Mail, err error, again time.Time) {
			if last = err; again.IsZero() {
				given++
			}
		})
		if err := q.Send(t.Context(), to("ada@example.test", 10*time.Minute)); err != nil {
			t.Fatal(err)
		}
		run(t, q, 1, time.Hour)
		if n := len(s.asked); n < 10 || n > 20 || given != 1 || !errors.Is(last, mail.ErrLate) {
			t.Errorf("%d attempts, given up %d times, last %v", n, given, last)
		}
		// And one that was late before its first turn.
		s.asked = nil
		if err := q.Send(t.Context(), to("bob@example.test", time.Minute)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		run(t, q, 1, time.Hour)
		if len(s.asked) != 0 || given != 2 {
			t.Errorf("late mail: %d attempts, given up %d times", len(s.asked), given)
		}
	})
}

func TestQueueTriesOnceWhereAgainIsUseless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, name := range []string{"rejected", "no Until"} {
			m := to("ada@example.test", time.Hour)
			if name == "no Until" {
				m.Until = time.Time{}
			}
			s := &script{start: time.Now(), fail: func(int, mail.Mail) error {
				if name == "rejected" {
					return fmt.Errorf("550: %w", mail.ErrRejected)
				}
				return errors.New("down")
			}}
			given := 0
			q := newQueue(t, s, 10, func(_ mail.Mail, _ error, again time.Time) {
				if again.IsZero() {
					given++
				}
			})
			if err := q.Send(t.Context(), m); err != nil {
				t.Fatal(err)
			}
			run(t, q, 1, time.Hour)
			if len(s.asked) != 1 || given != 1 {
				t.Errorf("%s: %d attempts, given up %d times; want one of each", name, len(s.asked), given)
			}
		}
	})
}

func TestQueueIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{start: time.Now(), fail: func(int, mail.Mail) error { return errors.New("down") }}
		q := newQueue(t, s, 3, nil)
		for i := range 5 {
			err := q.Send(t.Context(), to("ada@example.test", 10*time.Minute))
			if (i >= 3) != errors.Is(err, mail.ErrFull) {
				t.Errorf("message %d: %v", i, err)
			}
		}
		run(t, q, 1, time.Minute)
		if err := q.Send(t.Context(), to("ada@example.test", 10*time.Minute)); !errors.Is(err, mail.ErrFull) {
			t.Errorf("while three wait for another try: %v, want ErrFull", err)
		}
		run(t, q, 1, time.Hour)
		if err := q.Send(t.Context(), to("ada@example.test", 10*time.Minute)); err != nil {
			t.Errorf("after all were given up: %v", err)
		}
		if err := q.Send(t.Context(), mail.Mail{To: "a@b@c", Text: "x"}); !errors.Is(err, mail.ErrAddress) {
			t.Errorf("a bad address: %v, want ErrAddress", err)
		}
	})
}

// slow is a Sender that takes its time.
type slow struct{ script }

func (s *slow) Send(ctx context.Context, m mail.Mail) error {
	time.Sleep(10 * time.Second)
	return s.script.Send(ctx, m)
}

func TestQueueWithSeveralRunsSendsSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slow{script{start: time.Now()}}
		q := newQueue(t, s, 10, nil)
		before := time.Now()
		for i := range 4 {
			if err := q.Send(t.Context(), to(fmt.Sprintf("p%d@example.test", i), time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		if spent := time.Since(before); spent != 0 {
			t.Errorf("Send took %v", spent)
		}
		run(t, q, 4, time.Minute)
		slices.Sort(s.asked)
		want := []string{"10s p0@example.test", "10s p1@example.test", "10s p2@example.test", "10s p3@example.test"}
		if diff := cmp.Diff(want, s.asked); diff != "" {
			t.Error(diff)
		}
	})
}

// server is a mail server that answers as told and keeps what it is given.
type server struct {
	addr *net.TCPAddr

	mu       sync.Mutex
	commands []string
	messages []string
}

// listen starts a server. answer may replace the answer to a command, "" keeps
// the usual one.
func listen(t *testing.T, l net.Listener, answer func(command string) string) *server {
	t.Helper()
	s := &server{addr: l.Addr().(*net.TCPAddr)}
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(5 * time.Second))
			s.talk(c, answer)
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); wait.Wait() })
	return s
}

func (s *server) talk(c net.Conn, answer func(string) string) {
	in := bufio.NewReader(c)
	say := func(text string) { io.WriteString(c, text+"\r\n") }
	say("220 mail.example ESMTP")
	for {
		command, err := in.ReadString('\n')
		if err != nil {
			return
		}
		command = strings.TrimRight(command, "\r\n")
		s.mu.Lock()
		s.commands = append(s.commands, command)
		s.mu.Unlock()
		verb, _, _ := strings.Cut(strings.ToUpper(command), " ")
		if own := answer(command); own != "" {
			say(own)
			continue
		}
		switch verb {
		case "EHLO":
			say("250-mail.example\r\n250 AUTH PLAIN")
		case "AUTH":
			say("235 fine")
		case "DATA":
			say("354 go on")
			var message strings.Builder
			for {
				text, err := in.ReadString('\n')
				if err != nil || text == ".\r\n" {
					break
				}
				message.WriteString(strings.TrimPrefix(text, ".")) // RFC 5321 §4.5.2
			}
			s.mu.Lock()
			s.messages = append(s.messages, message.String())
			s.mu.Unlock()
			say("250 taken")
		case "QUIT":
			say("221 bye")
			return
		default:
			say("250 ok")
		}
	}
}

func (s *server) said() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.commands, "\n")
}

func usual(string) string { return "" }

func tcp(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

var clock = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

func newSMTP(t *testing.T, s *server, change func(*mail.SMTPConfig)) *mail.SMTP {
	t.Helper()
	config := mail.SMTPConfig{
		Host: "127.0.0.1", Port: s.addr.Port, TLS: mail.Plain, Timeout: 2 * time.Second,
		From: "login@issuer.example", FromName: "Ada's \"notes\", inc", Now: func() time.Time { return clock },
	}
	if change != nil {
		change(&config)
	}
	sender, err := mail.NewSMTP(config)
	if err != nil {
		t.Fatal(err)
	}
	return sender
}

func TestSMTPSendsOneMessageToOnePerson(t *testing.T) {
	s := listen(t, tcp(t), usual)
	m := code
	m.Subject = "Ihr Code für Ada"
	m.Text = "Code: 123456\n.\nSecond line\n"
	if err := newSMTP(t, s, nil).Send(t.Context(), m); err != nil {
		t.Fatal(err)
	}
	if got := s.said(); !strings.Contains(got, "EHLO issuer.example\n") || strings.Count(got, "RCPT TO:<ada@example.test>") != 1 ||
		!strings.Contains(got, "MAIL FROM:<login@issuer.example>") || strings.Count(got, "RCPT") != 1 {
		t.Errorf("conversation:\n%s", got)
	}
	message, err := netmail.ReadMessage(strings.NewReader(s.messages[0]))
	if err != nil {
		t.Fatal(err)
	}
	h := message.Header
	subject, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
	if err != nil || subject != m.Subject {
		t.Errorf("subject %q, %v", subject, err)
	}
	from, err := netmail.ParseAddress(h.Get("From"))
	if err != nil || from.Name != "Ada's \"notes\", inc" || from.Address != "login@issuer.example" {
		t.Errorf("from %v, %v", from, err)
	}
	if date, err := h.Date(); err != nil || !date.Equal(clock) {
		t.Errorf("date %v, %v", date, err)
	}
	if id := h.Get("Message-ID"); !strings.HasSuffix(id, "@issuer.example>") {
		t.Errorf("message id %q", id)
	}
	if h.Get("Auto-Submitted") != "auto-generated" || h.Get("User-Agent") != "" || h.Get("X-Mailer") != "" {
		t.Errorf("headers %v", h)
	}
	if diff := cmp.Diff(map[string]string{"text/plain": "Code: 123456\n.\nSecond line\n", "text/html": m.HTML}, parts(t, message)); diff != "" {
		t.Error(diff)
	}
}

func parts(t *testing.T, message *netmail.Message) map[string]string {
	t.Helper()
	kind, params, err := mime.ParseMediaType(message.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/alternative" {
		t.Fatalf("content type %q, %v", kind, err)
	}
	out := map[string]string{}
	for reader := multipart.NewReader(message.Body, params["boundary"]); ; {
		part, err := reader.NextRawPart()
		if errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		var body io.Reader = part
		if part.Header.Get("Content-Transfer-Encoding") == "quoted-printable" {
			body = quotedprintable.NewReader(part)
		}
		text, err := io.ReadAll(body)
		if err != nil {
			t.Fatal(err)
		}
		kind, _, _ := mime.ParseMediaType(part.Header.Get("Content-Type"))
		out[kind] = strings.ReplaceAll(string(text), "\r\n", "\n")
	}
}

// Row: P09: nothing a person typed becomes a header or a recipient.
func TestSMTPRefusesInjection(t *testing.T) {
	s := listen(t, tcp(t), usual)
	sender := newSMTP(t, s, nil)
	for name, m := range map[string]mail.Mail{
		"recipient": {To: "ada@example.test\r\nRCPT TO:<eve@evil.example>", Subject: "x", Text: "x"},
		"list":      {To: "ada@example.test, eve@evil.example", Subject: "x", Text: "x"},
		"subject":   {To: "ada@example.test", Subject: "x\r\nBcc: eve@evil.example", Text: "x"},
	} {
		if err := sender.Send(t.Context(), m); err == nil {
			t.Errorf("%s: sent", name)
		} else if strings.Contains(err.Error(), "evil") {
			t.Errorf("%s: the error repeats it: %v", name, err)
		}
	}
	if got := s.said(); got != "" {
		t.Errorf("the server heard:\n%s", got)
	}
}

func TestSMTPTellsForGoodFromForNow(t *testing.T) {
	for name, test := range map[string]struct {
		verb, answer string
		rejected     bool
	}{
		"no such person": {"RCPT", "550 5.1.1 no such user ada@example.test", true},
		"greylisted":     {"RCPT", "451 4.7.1 try again later", false},
		"sender refused": {"MAIL", "553 5.1.8 not you", true},
		"server is busy": {"MAIL", "421 4.3.2 busy", false},
		"text refused":   {"DATA", "554 5.6.0 no", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := listen(t, tcp(t), func(command string) string {
				if strings.HasPrefix(command, test.verb) {
					return test.answer
				}
				return ""
			})
			err := newSMTP(t, s, nil).Send(t.Context(), code)
			if err == nil || errors.Is(err, mail.ErrRejected) != test.rejected {
				t.Errorf("Send = %v, rejected should be %v", err, test.rejected)
			}
			if !strings.Contains(err.Error(), test.answer[4:9]) || strings.Contains(err.Error(), "@") {
				t.Errorf("for a log: %v", err)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		l := tcp(t)
		s := &server{addr: l.Addr().(*net.TCPAddr)}
		l.Close()
		if err := newSMTP(t, s, nil).Send(t.Context(), code); err == nil || errors.Is(err, mail.ErrRejected) {
			t.Errorf("Send = %v, want an error that is not for good", err)
		}
	})
	t.Run("server says nothing", func(t *testing.T) {
		l := tcp(t)
		defer l.Close()
		s := &server{addr: l.Addr().(*net.TCPAddr)}
		start := time.Now()
		sender := newSMTP(t, s, func(c *mail.SMTPConfig) { c.Timeout = 100 * time.Millisecond })
		if err := sender.Send(t.Context(), code); err == nil || time.Since(start) > 2*time.Second {
			t.Errorf("Send = %v after %v", err, time.Since(start))
		}
	})
}

func TestSMTPOverTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	web.Close()
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	encrypted := func() net.Listener {
		return tls.NewListener(tcp(t), &tls.Config{Certificates: web.TLS.Certificates})
	}
	implicit := func(c *mail.SMTPConfig) {
		c.TLS, c.Roots, c.Username, c.Password = mail.Implicit, roots, "ada", "secret"
	}

	s := listen(t, encrypted(), usual)
	sender := newSMTP(t, s, implicit)
	if err := sender.Send(t.Context(), code); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(s.said(), "AUTH PLAIN") || len(s.messages) != 1 {
		t.Errorf("conversation:\n%s", s.said())
	}
	if err := sender.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if len(s.messages) != 1 {
		t.Error("Check sends a message")
	}

	t.Run("unknown certificate", func(t *testing.T) {
		s := listen(t, encrypted(), usual)
		sender := newSMTP(t, s, func(c *mail.SMTPConfig) { implicit(c); c.Roots = x509.NewCertPool() })
		if err := sender.Send(t.Context(), code); err == nil || s.said() != "" {
			t.Errorf("Send = %v; the server heard %q", err, s.said())
		}
	})
	t.Run("STARTTLS stripped on the way", func(t *testing.T) {
		s := listen(t, tcp(t), usual) // offers none
		sender := newSMTP(t, s, func(c *mail.SMTPConfig) { implicit(c); c.TLS = mail.StartTLS })
		if err := sender.Send(t.Context(), code); err == nil {
			t.Error("sent in the clear")
		}
		if got := s.said(); strings.Contains(got, "AUTH") || strings.Contains(got, "MAIL") {
			t.Errorf("the server heard:\n%s", got)
		}
		if err := sender.Check(t.Context()); err == nil {
			t.Error("Check finds nothing wrong")
		}
	})
}

func TestNewSMTPChecksItsConfig(t *testing.T) {
	whole := mail.SMTPConfig{Host: "mail.example", From: "login@issuer.example", Now: time.Now}
	if _, err := mail.NewSMTP(whole); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*mail.SMTPConfig){
		"no host":              func(c *mail.SMTPConfig) { c.Host = "" },
		"no clock":             func(c *mail.SMTPConfig) { c.Now = nil },
		"no sender":            func(c *mail.SMTPConfig) { c.From = "" },
		"sender with a name":   func(c *mail.SMTPConfig) { c.From = "Ada <login@issuer.example>" },
		"name with a new line": func(c *mail.SMTPConfig) { c.FromName = "Ada\r\nBcc: eve@evil.example" },
		"unknown TLS":          func(c *mail.SMTPConfig) { c.TLS = "maybe" },
		"plain to afar":        func(c *mail.SMTPConfig) { c.TLS = mail.Plain },
	} {
		config := whole
		spoil(&config)
		if _, err := mail.NewSMTP(config); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := mail.NewQueue(mail.QueueConfig{Sender: mail.NewRecorder(1, time.Now), Now: time.Now}); err == nil {
		t.Error("a queue without a size is accepted")
	}
}

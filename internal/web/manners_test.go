package web_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/web"
	"github.com/postern-id/postern/internal/wire"
)

var quiet = log.New(io.Discard, "", 0)

// write is an ErrorWriter that shows all a reader would see.
func write(w http.ResponseWriter, _ *http.Request, e *web.Error) {
	w.WriteHeader(e.Status)
	fmt.Fprintf(w, "%d|%s|%s|%s|%s|%s", e.Page.Status, e.Page.Headline, e.Page.What, e.Page.Turn, e.Page.Next, e.Page.Trace)
}

func serve(h http.Handler, r *http.Request) *http.Response {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

func text(t *testing.T, answer *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// Row: N08, and invariant v: no internals in any answer.
func TestHandleAnswersErrors(t *testing.T) {
	const canary = "SELECT secret FROM internal.host"
	tests := map[string]struct {
		handler    web.Handler
		status     int
		want       string
		retryAfter string
	}{
		"refusal in its own words": {
			func(http.ResponseWriter, *http.Request) error {
				return fmt.Errorf("login: %w", &web.Error{Status: 403, Page: web.ErrorPage{
					Headline: "H", What: "W", Turn: web.TheApps, Next: "N",
				}, Cause: errors.New(canary)})
			}, 403, "403|H|W|the app's|N|", "",
		},
		"refusal in the words of its status": {
			func(http.ResponseWriter, *http.Request) error { return &web.Error{Status: 404} },
			404, "404|There is nothing here|", "",
		},
		"refusal without words for its status": {
			func(http.ResponseWriter, *http.Request) error { return &web.Error{Status: 418} },
			418, "418|We could not read that request|", "",
		},
		"malformed input": {
			func(_ http.ResponseWriter, r *http.Request) error {
				_, err := wire.Query(r)
				return err
			}, 400, "400|We could not read that request|The parameter a was given more than once; send it once.|the app's|", "",
		},
		"too often": {
			func(http.ResponseWriter, *http.Request) error {
				return &web.Error{Status: 429, RetryAfter: 1100 * time.Millisecond}
			}, 429, "429|That was too often|", "2",
		},
		"body over the cap": {
			func(w http.ResponseWriter, r *http.Request) error {
				_, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1))
				return err
			}, 413, "413|That is too much for one request|", "",
		},
		"handler out of time": {
			func(http.ResponseWriter, *http.Request) error {
				return fmt.Errorf("store: %w: %s", context.DeadlineExceeded, canary)
			}, 503, "503|We are not ready|", "1",
		},
		"a database that is busy": {
			func(http.ResponseWriter, *http.Request) error { return fmt.Errorf("store: %w: %s", busy{}, canary) },
			503, "503|We are not ready|", "1",
		},
		"unknown error": {
			func(http.ResponseWriter, *http.Request) error { return errors.New(canary) },
			500, "500|Something broke on our side|", "",
		},
		"panic": {
			func(http.ResponseWriter, *http.Request) error { panic(canary) },
			500, "500|Something broke on our side|", "",
		},
		"nil pointer": {
			func(http.ResponseWriter, *http.Request) error {
				var p *struct{ n int }
				p.n++
				return nil
			}, 500, "500|Something broke on our side|", "",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			request := httptest.NewRequest(http.MethodPost, "/?a=1&a=2", strings.NewReader("long"))
			answer := serve(web.Handle(test.handler, write), request)
			body := text(t, answer)
			if answer.StatusCode != test.status || !strings.HasPrefix(body, test.want) {
				t.Errorf("%d %q, want %d %q…", answer.StatusCode, body, test.status, test.want)
			}
			if got := answer.Header.Get("Retry-After"); got != test.retryAfter {
				t.Errorf("Retry-After %q, want %q", got, test.retryAfter)
			}
			for _, inside := range []string{canary, "goroutine", ".go:"} {
				if strings.Contains(body, inside) {
					t.Errorf("the answer shows %q", inside)
				}
			}
		})
	}
}

func TestHandleCutsAnAnswerThatBegan(t *testing.T) {
	server := httptest.NewUnstartedServer(web.Handle(func(w http.ResponseWriter, _ *http.Request) error {
		io.WriteString(w, "half an ans")
		return errors.New("no more")
	}, write))
	server.Config.ErrorLog = quiet
	server.Start()
	defer server.Close()
	answer, err := http.Get(server.URL)
	if err == nil {
		_, err = io.ReadAll(answer.Body)
		answer.Body.Close()
	}
	if err == nil {
		t.Error("half an answer reads as a whole one")
	}
}

func TestMuxAnswersWhereNothingMatches(t *testing.T) {
	m := http.NewServeMux()
	m.HandleFunc("POST /token", func(http.ResponseWriter, *http.Request) {})
	m.HandleFunc("GET /page/{id}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.PathValue("id")) })
	h := web.Mux(m, write)

	answer := serve(h, httptest.NewRequest(http.MethodGet, "/page/7", nil))
	if got := text(t, answer); answer.StatusCode != 200 || got != "7" {
		t.Errorf("route: %d %q", answer.StatusCode, got)
	}
	answer = serve(h, httptest.NewRequest(http.MethodGet, "/nowhere", nil))
	if got := text(t, answer); answer.StatusCode != 404 || !strings.HasPrefix(got, "404|There is nothing here") {
		t.Errorf("no route: %d %q", answer.StatusCode, got)
	}
	// Row: T25, I06.
	answer = serve(h, httptest.NewRequest(http.MethodGet, "/token", nil))
	if got := text(t, answer); answer.StatusCode != 405 || answer.Header.Get("Allow") != "POST" || !strings.HasPrefix(got, "405|") {
		t.Errorf("no such method: %d, Allow %q, %q", answer.StatusCode, answer.Header.Get("Allow"), got)
	}
	// Row: D14, B21: a cleaned path stays on this host.
	for _, target := range []string{"//evil.example/x", "/a/../../evil.example", "/./token"} {
		request := httptest.NewRequest(http.MethodGet, "/", nil)
		request.URL.Path = target
		if location := serve(h, request).Header.Get("Location"); strings.HasPrefix(location, "//") || strings.Contains(location, "://") {
			t.Errorf("%s redirects to %s", target, location)
		}
	}
}

func TestChainPutsTheFirstOutermost(t *testing.T) {
	var order []string
	step := func(name string) web.Middleware {
		return func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				order = append(order, name)
				next.ServeHTTP(w, r)
			})
		}
	}
	serve(web.Chain(http.NotFoundHandler(), step("a"), step("b")), httptest.NewRequest(http.MethodGet, "/", nil))
	if diff := cmp.Diff([]string{"a", "b"}, order); diff != "" {
		t.Error(diff)
	}
}

// requestLine runs h behind a request line and returns the line it wrote.
func requestLine(t *testing.T, h http.Handler, r *http.Request) (map[string]any, *http.Response) {
	t.Helper()
	var out bytes.Buffer
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	l := web.RequestLine{
		Log: slog.New(slog.NewJSONHandler(&out, nil)),
		Now: func() time.Time {
			now = now.Add(1500 * time.Microsecond)
			return now
		},
		NewTrace: func() string { return "K7F-2QX-9MD" },
	}
	answer := serve(l.Wrap(h), r)
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("not one line of JSON: %s", out.String())
	}
	delete(line, "time")
	return line, answer
}

// Row: D11, R16, I06: neither query nor body nor header values are logged.
func TestRequestLine(t *testing.T) {
	m := http.NewServeMux()
	m.HandleFunc("POST /clients/{id}", func(w http.ResponseWriter, r *http.Request) {
		web.Note(r.Context(), slog.String("client_id", "c1"))
		io.WriteString(w, web.Trace(r.Context()))
	})
	request := httptest.NewRequest(http.MethodPost, "/clients/canary?token=canary", strings.NewReader("secret=canary"))
	request.Header.Set("Authorization", "Bearer canary")
	request.Header.Set("Cookie", "session=canary")
	request.Header.Set("X-Request-Id", "canary")
	request.Header.Set("User-Agent", "agent/1 "+strings.Repeat("x", 1000))
	line, answer := requestLine(t, web.Mux(m, write), request)
	if got := text(t, answer); got != "K7F-2QX-9MD" || answer.Header.Get("X-Request-Id") != "K7F-2QX-9MD" {
		t.Errorf("trace %q, header %q", got, answer.Header.Get("X-Request-Id"))
	}
	want := map[string]any{
		"level": "INFO", "msg": "request", "trace": "K7F-2QX-9MD", "method": "POST", "route": "POST /clients/{id}",
		"status": 200.0, "bytes": 11.0, "ms": 1.5, "ip": "192.0.2.1", "client_id": "c1",
		"agent": "agent/1 " + strings.Repeat("x", 112) + "…",
	}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Error(diff)
	}
}

func TestRequestLineOfAFailure(t *testing.T) {
	h := web.Handle(func(http.ResponseWriter, *http.Request) error { return errors.New("cause") }, write)
	line, answer := requestLine(t, h, httptest.NewRequest(http.MethodGet, "/"+strings.Repeat("p", 500), nil))
	if line["level"] != "ERROR" || line["error"] != "cause" || line["status"] != 500.0 {
		t.Errorf("line %v", line)
	}
	if path := line["path"].(string); len(path) > 110 {
		t.Errorf("a path of %d bytes is logged", len(path))
	}
	if got := text(t, answer); !strings.HasSuffix(got, "|K7F-2QX-9MD") {
		t.Errorf("the page has no trace: %q", got)
	}
	if got := web.Trace(t.Context()); got != "" {
		t.Errorf("Trace outside a request = %q", got)
	}
}

// Row: B04, B18, D05 (headers of section 4.1).
func TestPageHeaders(t *testing.T) {
	h := web.PageHeaders(web.Mux(http.NewServeMux(), write))
	answer := serve(h, httptest.NewRequest(http.MethodGet, "https://issuer.example/nowhere", nil))
	if answer.StatusCode != 404 {
		t.Fatalf("status %d", answer.StatusCode)
	}
	for name, want := range map[string]string{
		"Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; script-src 'self'; " +
			"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
		"X-Frame-Options":              "DENY",
		"Referrer-Policy":              "no-referrer",
		"Cache-Control":                "no-store",
		"X-Content-Type-Options":       "nosniff",
		"Cross-Origin-Resource-Policy": "same-origin",
		"Strict-Transport-Security":    "max-age=63072000; includeSubDomains",
		"Cross-Origin-Opener-Policy":   "",
	} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := answer.Header.Get("Permissions-Policy"); !strings.Contains(got, "camera=()") || !strings.Contains(got, "publickey-credentials-get=(self)") {
		t.Errorf("Permissions-Policy: %q", got)
	}
}

func TestMachineHeaders(t *testing.T) {
	h := web.MachineHeaders(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60") // its own word counts
	}))
	answer := serve(h, httptest.NewRequest(http.MethodGet, "/", nil))
	for name, want := range map[string]string{
		"Content-Security-Policy":   "default-src 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":    "nosniff",
		"Referrer-Policy":           "no-referrer",
		"Cache-Control":             "public, max-age=60",
		"Strict-Transport-Security": "", // plain http
	} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

// Row: D15, A33.
func TestProxy(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	type want struct{ ip, host, scheme string }
	tests := map[string]struct {
		trusted []netip.Prefix
		peer    string
		header  http.Header
		want    want
	}{
		"no proxy configured": {
			nil, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"1.1.1.1"}, "X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"}},
			want{"10.0.0.1", "asked.example:4000", "http"},
		},
		"peer is not a proxy": {
			trusted, "8.8.8.8:1",
			http.Header{"X-Forwarded-For": {"1.1.1.1"}, "X-Forwarded-Host": {"evil.example"}, "X-Forwarded-Proto": {"https"}},
			want{"8.8.8.8", "asked.example:4000", "http"},
		},
		"one proxy": {
			trusted, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"8.8.8.8"}, "X-Forwarded-Host": {"Issuer.Example"}, "X-Forwarded-Proto": {"HTTPS"}},
			want{"8.8.8.8", "issuer.example", "https"},
		},
		"what the client claims is left of what the proxy saw": {
			trusted, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"127.0.0.1, 10.0.0.9, 8.8.8.8"}},
			want{"8.8.8.8", "asked.example:4000", "http"},
		},
		"two proxies": {
			trusted, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"1.2.3.4, 8.8.8.8, 10.0.0.2"}},
			want{"8.8.8.8", "asked.example:4000", "http"},
		},
		"two headers are one list": {
			trusted, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"1.2.3.4", "8.8.8.8"}, "X-Forwarded-Host": {"evil.example", "issuer.example"}},
			want{"8.8.8.8", "issuer.example", "http"},
		},
		"all are proxies": {
			trusted, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"10.0.0.3, 10.0.0.2"}},
			want{"10.0.0.3", "asked.example:4000", "http"},
		},
		"rubbish ends the list": {
			trusted, "10.0.0.1:1",
			http.Header{"X-Forwarded-For": {"8.8.8.8, unknown, 10.0.0.2"}},
			want{"10.0.0.2", "asked.example:4000", "http"},
		},
		"IPv6, mapped IPv4": {
			trusted, "[fd00::1]:1",
			http.Header{"X-Forwarded-For": {"2606:4700::1"}},
			want{"2606:4700::1", "asked.example:4000", "http"},
		},
		"mapped peer": {
			trusted, "[::ffff:10.0.0.1]:1",
			http.Header{"X-Forwarded-For": {"::ffff:8.8.8.8"}},
			want{"8.8.8.8", "asked.example:4000", "http"},
		},
		"a host and a scheme that are none": {
			trusted, "10.0.0.1:1",
			http.Header{"X-Forwarded-Host": {"evil.example/path"}, "X-Forwarded-Proto": {"javascript"}},
			want{"10.0.0.1", "asked.example:4000", "http"},
		},
		"other spellings": {
			trusted, "10.0.0.1:1",
			http.Header{"X_forwarded_for": {"8.8.8.8"}, "Forwarded": {"for=8.8.8.8;host=evil.example"}, "X-Real-Ip": {"8.8.8.8"}},
			want{"10.0.0.1", "asked.example:4000", "http"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			request := httptest.NewRequest(http.MethodGet, "http://Asked.Example:4000/", nil)
			request.RemoteAddr, request.Header = test.peer, test.header
			var got want
			web.Proxy{Trusted: test.trusted}.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				got = want{web.ClientIP(r).String(), web.Host(r), web.Scheme(r)}
			})).ServeHTTP(httptest.NewRecorder(), request)
			if got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
	t.Run("TLS here", func(t *testing.T) {
		if r := httptest.NewRequest(http.MethodGet, "https://issuer.example/", nil); web.Scheme(r) != "https" || web.Host(r) != "issuer.example" {
			t.Errorf("%s %s", web.Scheme(r), web.Host(r))
		}
	})
}

func FuzzForwarded(f *testing.F) {
	f.Add("1.1.1.1, 8.8.8.8, 10.0.0.2", "issuer.example", "https")
	f.Add("[::1]:80,,%", "a b", "\n")
	proxy := web.Proxy{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	f.Fuzz(func(t *testing.T, forwardedFor, host, proto string) {
		ask := func(claim string) (out [3]string) {
			r := httptest.NewRequest(http.MethodGet, "http://asked.example/", nil)
			r.RemoteAddr = "10.0.0.1:1"
			r.Header = http.Header{"X-Forwarded-For": {claim}, "X-Forwarded-Host": {host}, "X-Forwarded-Proto": {proto}}
			proxy.Wrap(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				out = [3]string{web.ClientIP(r).String(), web.Host(r), web.Scheme(r)}
			})).ServeHTTP(httptest.NewRecorder(), r)
			return out
		}
		got := ask(forwardedFor)
		if _, err := netip.ParseAddr(got[0]); err != nil || strings.ContainsAny(got[1], " /\\@\r\n") || got[2] != "http" && got[2] != "https" {
			t.Errorf("%q %q %q: got %q", forwardedFor, host, proto, got)
		}
		// Whatever a client claims, its proxy appends the truth.
		if told := ask(forwardedFor + ", 8.8.8.8"); told[0] != "8.8.8.8" {
			t.Errorf("%q moves the client to %s", forwardedFor, told[0])
		}
	})
}

// Row: N03.
func TestBounds(t *testing.T) {
	var deadline time.Duration
	h := web.Bounds(write)(web.Handle(func(w http.ResponseWriter, r *http.Request) error {
		end, _ := r.Context().Deadline()
		deadline = time.Until(end)
		_, err := io.Copy(w, r.Body)
		return err
	}, write))
	ask := func(target, body string, cookies ...string) (int, string) {
		r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
		r.Header["Cookie"] = cookies
		answer := serve(h, r)
		return answer.StatusCode, text(t, answer)
	}
	if status, body := ask("/", "fine", "a=1; b=2"); status != 200 || body != "fine" || deadline <= 0 || deadline > web.HandlerTimeout {
		t.Errorf("an ordinary request: %d %q, deadline in %v", status, body, deadline)
	}
	for name, test := range map[string]struct {
		target, body string
		cookies      []string
		status       int
		headline     string
	}{
		"address": {"/?" + strings.Repeat("x", 8<<10), "", nil, 414, "That is too much for one request"},
		"cookies": {"/", "", []string{strings.Repeat("a=1;", 1000)}, 400, "Your browser sent too many cookies"},
		"headers": {"/", "", strings.Split(strings.Repeat("a=1,", 64), ","), 400, "Your browser sent too many cookies"},
	} {
		status, body := ask(test.target, test.body, test.cookies...)
		if status != test.status || !strings.Contains(body, test.headline) {
			t.Errorf("%s: %d %q", name, status, body)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", web.MaxBody+1)))
	swallow := web.Bounds(write)(web.Handle(func(_ http.ResponseWriter, r *http.Request) error {
		_, err := io.Copy(io.Discard, r.Body)
		return err
	}, write))
	if answer := serve(swallow, r); answer.StatusCode != 413 {
		t.Errorf("body: %d", answer.StatusCode)
	}
}

// busy is an error after which trying again helps.
type busy struct{}

func (busy) Error() string   { return "busy" }
func (busy) Temporary() bool { return true }

func TestLimiter(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	newLimiter := func(keys int) *web.Limiter {
		return web.NewLimiter(web.Limit{Count: 5, Per: time.Minute}, keys, func() time.Time { return now })
	}
	burst := func(l *web.Limiter, key string) (n int) {
		for range 100 {
			if _, ok := l.Allow(key); ok {
				n++
			}
		}
		return n
	}
	t.Run("a burst of Count, then evenly", func(t *testing.T) {
		l := newLimiter(100)
		if n := burst(l, "a"); n != 5 {
			t.Errorf("%d of 100 at once, want 5", n)
		}
		if wait, _ := l.Allow("a"); wait != 12*time.Second {
			t.Errorf("next in %v, want 12s", wait)
		}
		now = now.Add(12 * time.Second)
		if n := burst(l, "a"); n != 1 {
			t.Errorf("%d after a fifth of the time, want 1", n)
		}
		now = now.Add(10 * time.Minute)
		if n := burst(l, "a"); n != 5 {
			t.Errorf("%d after a long pause, want 5", n)
		}
	})
	t.Run("keys do not share", func(t *testing.T) {
		l := newLimiter(100)
		burst(l, "a")
		if n := burst(l, "b"); n != 5 {
			t.Errorf("%d for another key, want 5", n)
		}
	})
	t.Run("asking again and again does not wait for ever", func(t *testing.T) {
		l := newLimiter(100)
		allowed := 0
		for range 600 { // ten minutes, each second
			if _, ok := l.Allow("a"); ok {
				allowed++
			}
			now = now.Add(time.Second)
		}
		if allowed < 50 || allowed > 55 {
			t.Errorf("%d allowed in ten minutes of asking, want about 54", allowed)
		}
	})
	t.Run("several servers share it evenly, and one takes all again", func(t *testing.T) {
		for servers, want := range map[int]int{-1: 5, 0: 5, 1: 5, 2: 2, 3: 1, 5: 1, 100: 1} {
			l := newLimiter(100)
			l.Divide(servers)
			if n := burst(l, "a"); n != want {
				t.Errorf("%d at one of %d servers, want %d", n, servers, want)
			}
			now = now.Add(time.Minute)
			l.Divide(1)
			if n := burst(l, "a"); n != 5 {
				t.Errorf("%d at the one that is left of %d, want 5", n, servers)
			}
		}
	})
	t.Run("a part that shrinks gives nobody a second burst", func(t *testing.T) {
		l := newLimiter(100)
		burst(l, "a")
		l.Divide(2)
		if n := burst(l, "a"); n != 0 {
			t.Errorf("%d right after, want 0", n)
		}
	})
	t.Run("a full table forgets the oldest and keeps the youngest", func(t *testing.T) {
		l := newLimiter(100)
		burst(l, "a")
		for i := range 40 {
			l.Allow(fmt.Sprint(i))
		}
		if n := burst(l, "a"); n != 0 {
			t.Errorf("%d for a key among 41, want 0", n)
		}
		for i := range 1000 {
			l.Allow(fmt.Sprint("flood", i))
		}
		if n := burst(l, "a"); n != 5 {
			t.Errorf("%d for a key 1,000 keys ago, want 5: it should be forgotten", n)
		}
	})
}

// Row: N07, B20: memory stays flat under a million keys.
func TestLimiterStaysSmall(t *testing.T) {
	now := time.Now()
	l := web.NewLimiter(web.Limit{Count: 5, Per: time.Minute}, 1000, func() time.Time { return now })
	for i := range 1001 {
		l.Allow(fmt.Sprint(i))
	}
	if n := testing.AllocsPerRun(1000, func() { l.Allow("same") }); n > 0 {
		t.Errorf("%v allocations for a known key", n)
	}
	web.CheckLimiterSize(t, l, 1000)
	for i := range 1_000_000 {
		l.Allow(fmt.Sprint("flood", i))
	}
	web.CheckLimiterSize(t, l, 1000)
}

func TestLimiterWrap(t *testing.T) {
	now := time.Now()
	l := web.NewLimiter(web.Limit{Count: 1, Per: time.Minute}, 10, func() time.Time { return now })
	h := l.Wrap(func(r *http.Request) string { return r.Header.Get("Key") }, write)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	ask := func(key string) *http.Response {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Key", key)
		return serve(h, r)
	}
	for i, want := range []int{200, 429, 429} {
		if answer := ask("a"); answer.StatusCode != want || (want == 429) != (answer.Header.Get("Retry-After") == "60") {
			t.Errorf("call %d: %d, Retry-After %q", i, answer.StatusCode, answer.Header.Get("Retry-After"))
		}
	}
	for range 3 {
		if answer := ask(""); answer.StatusCode != 200 {
			t.Errorf("without a key: %d", answer.StatusCode)
		}
	}
}

func TestAddressKey(t *testing.T) {
	for a, b := range map[string]string{
		"192.0.2.1":          "::ffff:192.0.2.1",
		"2001:db8:1:2::1":    "2001:db8:1:2:ffff::9",
		"fe80::1%eth0":       "fe80::2%eth1",
		"2001:db8:1:2::abcd": "2001:db8:1:2::",
	} {
		if x, y := web.AddressKey(netip.MustParseAddr(a)), web.AddressKey(netip.MustParseAddr(b)); x != y {
			t.Errorf("%s and %s: keys %s and %s", a, b, x, y)
		}
	}
	for a, b := range map[string]string{"192.0.2.1": "192.0.2.2", "2001:db8:1:2::1": "2001:db8:1:3::1"} {
		if x, y := web.AddressKey(netip.MustParseAddr(a)), web.AddressKey(netip.MustParseAddr(b)); x == y {
			t.Errorf("%s and %s share the key %s", a, b, x)
		}
	}
}

// Row: B01, B02.
func TestCSRF(t *testing.T) {
	c := web.CSRF{Key: [32]byte{1}}
	token := c.Token("session", "consent", "txn")
	if !c.Check(token, "session", "consent", "txn") {
		t.Fatal("a token is refused where it was made for")
	}
	other := web.CSRF{Key: [32]byte{2}}
	for name, ok := range map[string]bool{
		"no token":            c.Check("", "session", "consent", "txn"),
		"cut token":           c.Check(token[:len(token)-1], "session", "consent", "txn"),
		"another session":     c.Check(token, "session2", "consent", "txn"),
		"another purpose":     c.Check(token, "session", "logout", "txn"),
		"another transaction": c.Check(token, "session", "consent", "txn2"),
		"parts moved":         c.Check(token, "session", "consentt", "xn"),
		"part left out":       c.Check(token, "session", "consent"),
		"another key":         other.Check(token, "session", "consent", "txn"),
		"nothing to bind to":  c.Check(c.Token("", ""), "", ""),
		"no binding":          c.Check(c.Token()),
	} {
		if ok {
			t.Errorf("%s: accepted", name)
		}
	}
}

// Row: B03. Each refusal is heard of, before it is answered.
func TestSameOrigin(t *testing.T) {
	heard := 0
	told := func(*http.Request) error { heard++; return nil }
	h := web.SameOrigin(told, write)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	behind := web.Proxy{Trusted: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}.Wrap(h)
	tests := map[string]struct {
		handler http.Handler
		method  string
		header  http.Header
		status  int
	}{
		"same origin":                 {h, "POST", http.Header{"Sec-Fetch-Site": {"same-origin"}}, 200},
		"typed by the person":         {h, "POST", http.Header{"Sec-Fetch-Site": {"none"}}, 200},
		"cross site":                  {h, "POST", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 403},
		"same site, other host":       {h, "POST", http.Header{"Sec-Fetch-Site": {"same-site"}}, 403},
		"old browser, same origin":    {h, "POST", http.Header{"Origin": {"http://issuer.example"}}, 200},
		"old browser, evil origin":    {h, "POST", http.Header{"Origin": {"https://evil.example"}}, 403},
		"null origin":                 {h, "POST", http.Header{"Origin": {"null"}}, 403},
		"GET changes nothing":         {h, "GET", http.Header{"Sec-Fetch-Site": {"cross-site"}}, 200},
		"behind a proxy, same origin": {behind, "POST", http.Header{"Origin": {"https://public.example"}, "X-Forwarded-Host": {"public.example"}}, 200},
		"behind a proxy, evil origin": {behind, "POST", http.Header{"Origin": {"https://evil.example"}, "X-Forwarded-Host": {"public.example"}}, 403},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(test.method, "http://issuer.example/consent", nil)
			r.Header = test.header
			before := heard
			if answer := serve(test.handler, r); answer.StatusCode != test.status || (heard > before) != (test.status == http.StatusForbidden) {
				t.Errorf("status %d, want %d; heard %d times", answer.StatusCode, test.status, heard-before)
			}
		})
	}
	t.Run("what cannot be kept is not answered as if it were", func(t *testing.T) {
		r := httptest.NewRequest(http.MethodPost, "http://issuer.example/consent", nil)
		r.Header.Set("Origin", "https://evil.example")
		broken := web.SameOrigin(func(*http.Request) error { return errors.New("no database") }, write)
		if answer := serve(broken(h), r); answer.StatusCode != http.StatusInternalServerError {
			t.Errorf("status %d", answer.StatusCode)
		}
	})
}

func TestCORS(t *testing.T) {
	called := 0
	h := web.CORS(http.MethodPost)(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { called++ }))
	preflight := httptest.NewRequest(http.MethodOptions, "/token", nil)
	preflight.Header = http.Header{
		"Origin": {"https://client.example"}, "Access-Control-Request-Method": {"POST"},
		"Access-Control-Request-Headers": {"authorization,content-type,dpop,mcp-protocol-version"},
	}
	answer := serve(h, preflight)
	if answer.StatusCode != 200 || called != 0 {
		t.Errorf("preflight: %d, handler called %d times", answer.StatusCode, called)
	}
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin":      "*",
		"Access-Control-Allow-Methods":     "POST",
		"Access-Control-Allow-Headers":     "authorization,content-type,dpop,mcp-protocol-version",
		"Access-Control-Allow-Credentials": "",
	} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("preflight: %s: %q, want %q", name, got, want)
		}
	}
	preflight.Header.Set("Access-Control-Request-Method", "DELETE")
	if got := serve(h, preflight).Header.Get("Access-Control-Allow-Origin"); got != "" {
		t.Errorf("preflight for DELETE is granted to %q", got)
	}
	request := httptest.NewRequest(http.MethodPost, "/token", nil)
	request.Header.Set("Origin", "https://client.example")
	answer = serve(h, request)
	if answer.Header.Get("Access-Control-Allow-Origin") != "*" || answer.Header.Get("Access-Control-Allow-Credentials") != "" || called != 1 {
		t.Errorf("request: %v, handler called %d times", answer.Header, called)
	}
	if got := answer.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(strings.ToLower(got), "www-authenticate") {
		t.Errorf("exposed headers %q", got)
	}
}

// TestAnAskerWhoLeavesIsNotToldOfSuccess proves that a request which was given
// up gets no answer, rather than the empty 200 that a handler without an answer
// means: who closes only his own half of a connection would take it for done.
func TestAnAskerWhoLeavesIsNotToldOfSuccess(t *testing.T) {
	h := web.Handle(func(_ http.ResponseWriter, r *http.Request) error {
		<-r.Context().Done()
		return r.Context().Err()
	}, func(w http.ResponseWriter, _ *http.Request, e *web.Error) { w.WriteHeader(e.Status) })
	server := httptest.NewServer(h)
	defer server.Close()
	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if answer, _ := io.ReadAll(conn); len(answer) != 0 {
		t.Errorf("got %q, want no answer", answer)
	}
}

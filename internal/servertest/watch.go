package servertest

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postern-id/postern/internal/mail"
)

// watch sees every request that reaches a server and every answer, and fails the
// test where an answer breaks what holds for all of them (decision 22). What it
// saw is held against the log, the mails and the database when the server ends.
type watch struct {
	test     func() testing.TB // that talks to the server now
	approved func(*url.URL) bool

	mu    sync.Mutex
	held  map[string]string // what is nobody else's business, and what it is
	named map[string]bool   // every value that a request brought, in lower case
	shown map[string]bool   // every value that a request brought where nobody looks for a secret
	asked map[string]bool   // host and port of whatever was fetched while a request was answered
}

func newWatch(test func() testing.TB, approved func(*url.URL) bool) *watch {
	return &watch{test: test, approved: approved, held: map[string]string{}, named: map[string]bool{}, shown: map[string]bool{}, asked: map[string]bool{}}
}

// Watch is next with the checks of its answers that need no server around it:
// for tests that put a part of one together themselves.
func Watch(t testing.TB, next http.Handler) http.Handler {
	return newWatch(func() testing.TB { return t }, nil).wrap(next)
}

// mostKept bounds what is kept of one body: tests send megabytes too.
const mostKept = 256 << 10

// wrap puts the checks around a handler.
func (w *watch) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var sent kept
		if r.Body != nil {
			r.Body = teeBody{r.Body, &sent}
		}
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{GetConn: w.fetches}))
		answer := &witness{ResponseWriter: rw}
		defer func() {
			w.heard(r, sent.String())
			w.check(r, answer)
		}()
		next.ServeHTTP(answer, r)
	})
}

func (w *watch) fetches(hostPort string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked[hostPort] = true
}

// secretFields are the fields and parameters whose values nobody but the two
// ends may see, if they are long enough to be told from ordinary words.
var secretFields = []string{"password", "code", "code_verifier", "client_secret", "client_assertion", "id_token_hint", "refresh_token", "token", "secret", "link"}

// shortest is the length from which a value counts as a secret. Codes of six
// digits are taken from the mails.
const shortest = 16

// heard keeps what a request brought.
func (w *watch) heard(r *http.Request, body string) {
	values := r.URL.Query()
	switch kind := r.Header.Get("Content-Type"); {
	case strings.HasPrefix(kind, "application/x-www-form-urlencoded"):
		form, _ := url.ParseQuery(body) // what can be read of a broken one
		for name, list := range form {
			values[name] = append(values[name], list...)
		}
	case strings.Contains(kind, "json"):
		for name, list := range textsOf(body) {
			values[name] = append(values[name], list...)
		}
	}
	if _, password, ok := r.BasicAuth(); ok {
		if plain, err := url.QueryUnescape(password); err == nil {
			values.Add("client_secret", plain)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, part := range strings.Split(r.URL.Path, "/") {
		values.Add("path", part)
	}
	for name, list := range values {
		for _, value := range list {
			w.named[strings.ToLower(strings.TrimSpace(value))] = true
			if len(value) < shortest || public.MatchString(value) {
				continue
			}
			if slices.Contains(secretFields, name) {
				w.held[value] = name
			} else {
				w.shown[value] = true
			}
		}
	}
}

// public is what tests send in the place of a secret and everybody may know: an
// id or an address.
var public = regexp.MustCompile(`^(https?://|[a-z-]+-(test|live)-[0-9a-f-]{36}$)`)

// textsOf are the texts of a JSON object by name.
func textsOf(body string) map[string][]string {
	all := map[string][]string{}
	var object map[string]any
	if json.Unmarshal([]byte(body), &object) != nil {
		return nil
	}
	var visit func(name string, v any)
	visit = func(name string, v any) {
		switch v := v.(type) {
		case string:
			all[name] = append(all[name], v)
		case []any:
			for _, item := range v {
				visit(name, item)
			}
		case map[string]any:
			for name, item := range v {
				visit(name, item)
			}
		}
	}
	visit("", object)
	return all
}

var (
	// secretText is the form of every secret that a server gives out.
	secretText = regexp.MustCompile(`pst_[a-z]+_[0-9A-Za-z]{70}|eyJ[\w-]{10,}\.[\w-]+\.[\w-]*`)
	// insideText are the signs of a server that talks about itself.
	insideText = regexp.MustCompile(`\b(?:SELECT|INSERT INTO|UPDATE|DELETE FROM) [\w"]+ |(?:^|[\s"'(=])/(?:home|root|tmp|var|usr|etc)/|` +
		`(?i:goroutine \d|\.go:\d|\bsql:|SQLSTATE|SQLITE_|panic:|runtime error|no rows|\binternal/\w|postern\.db|` +
		`\bdial (?:tcp|udp)|\blookup \S+ on|connection re(?:fused|set)|no such host|\bx509:|\btls: )`)
	// newSession is a cookie that lets somebody in.
	newSession = regexp.MustCompile(`^\S*(?:-session|-dashboard)=[^;\s]`)
)

// check fails the test where an answer breaks what holds for every answer.
func (w *watch) check(r *http.Request, a *witness) {
	t := w.test()
	at := r.Method + " " + r.URL.Path
	for _, to := range a.leads() {
		if query := to.Query(); query.Has("error") && query.Has("code") {
			t.Errorf("%s: %d leads to %s with an error and a code", at, a.status, to.Redacted())
		}
		if w.approved != nil && !w.approved(to) {
			t.Errorf("%s: %d leads to %s, which nobody registered", at, a.status, to)
		}
	}
	if a.status < http.StatusBadRequest {
		return
	}
	body := a.body.String()
	if found := insideText.FindStringIndex(body); found != nil {
		t.Errorf("%s: the refusal %d talks about the inside: …%s…", at, a.status, body[max(0, found[0]-80):min(len(body), found[1]+80)])
	}
	text := body
	for name, list := range a.Header() {
		for _, value := range list {
			if name == "Set-Cookie" {
				if newSession.MatchString(value) {
					t.Errorf("%s: the refusal %d sets a session cookie: %.40s…", at, a.status, value)
				}
				continue // the cookie of a step is the secret of who gets it
			}
			text += "\n" + value
		}
	}
	if what, found := w.repeats(text); found {
		t.Errorf("%s: the refusal %d holds a secret: %s", at, a.status, what)
	}
}

// repeats finds a secret in the answer to whoever may have brought it in the
// place of something that is shown again: a name, an address.
func (w *watch) repeats(text string) (what string, found bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range secretText.FindAllString(text, -1) {
		if !w.shown[at] {
			return at[:min(len(at), 16)] + "…", true
		}
	}
	for value, name := range w.held {
		if !w.shown[value] && strings.Contains(text, value) {
			return "a " + name + " that a request brought", true
		}
	}
	return "", false
}

// secretIn finds a secret in a text that is kept: one of ours by its form, one
// that a request brought, or the code of a mail. The words say what it is. What a
// request brought where nobody looks for a secret, such as a state, is kept as it
// is but for the log.
func (w *watch) secretIn(text string, log bool, mails []mail.Recorded) (what string, found bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, at := range secretText.FindAllString(text, -1) {
		if log || !w.shown[at] {
			return at[:min(len(at), 16)] + "…", true
		}
	}
	for value, name := range w.held {
		if !w.shown[value] && strings.Contains(text, value) { // such as a verifier that was sent as challenge
			return "a " + name + " that a request brought", true
		}
	}
	digits := map[string]bool{}
	for _, at := range sixDigits.FindAllStringSubmatch(text, -1) {
		digits[at[1]] = true
	}
	for _, m := range mails {
		if code := codeIn(m.Text); code != "" && digits[code] {
			return "the code of a mail", true
		}
	}
	return "", false
}

// sixDigits is a code that stands by itself, and not as a number of JSON.
var sixDigits = regexp.MustCompile(`(?:^|[^0-9A-Za-z:.-])(\d{6})(?:[^0-9A-Za-z.-]|$)`)

// witness keeps the beginning of an answer.
type witness struct {
	http.ResponseWriter
	status int
	body   kept
}

func (a *witness) WriteHeader(status int) {
	if a.status == 0 && status >= http.StatusOK {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *witness) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if a.status >= http.StatusBadRequest {
		_, _ = a.body.Write(b) // never fails
	}
	return a.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the writer below.
func (a *witness) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// leads are the addresses outside the page itself that an answer sends a browser
// to.
func (a *witness) leads() (all []*url.URL) {
	addresses := a.Header().Values("Location")
	for _, refresh := range a.Header().Values("Refresh") {
		if _, to, ok := strings.Cut(refresh, "url="); ok {
			addresses = append(addresses, to)
		}
	}
	for _, address := range addresses {
		if u, err := url.Parse(address); err != nil {
			all = append(all, &url.URL{Opaque: address}) // registered by nobody
		} else if u.IsAbs() || u.Host != "" {
			all = append(all, u)
		}
	}
	return all
}

// kept is the beginning of what was written to it.
type kept struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (k *kept) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.text.Write(b[:min(len(b), max(0, mostKept-k.text.Len()))])
	return len(b), nil
}

func (k *kept) String() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.text.String()
}

// teeBody keeps what is read of a request.
type teeBody struct {
	io.ReadCloser
	to *kept
}

func (b teeBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	_, _ = b.to.Write(p[:n]) // never fails
	return n, err
}

package oauth_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/servertest"
)

var update = flag.Bool("update", false, "write the answers of testdata/*/*.txtar anew")

// The protocol, as clients and people see it: testdata/README.md tells how to
// read a transcript and how to write one.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("transcripts: %v, %v", files, err)
	}
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		if *update && c.Postgres {
			t.Skip("the answers are written from the other database")
		}
		w := newWorld(t, c)
		w.Ready(t)
		for _, file := range files {
			t.Run(strings.TrimSuffix(strings.TrimPrefix(file, "testdata/"), ".txtar"), func(t *testing.T) {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				played := play(t, w, string(text))
				switch {
				case *update && played != string(text):
					if err := os.WriteFile(file, []byte(played), 0o644); err != nil {
						t.Fatal(err)
					}
				case !*update:
					if diff := cmp.Diff(string(text), played); diff != "" {
						t.Errorf("%s (-file +server; go test -update writes the file):\n%s", file, diff)
					}
				}
			})
		}
	})
}

// section is one part of a transcript.
type section struct{ name, text string }

var marker = regexp.MustCompile(`(?m)^-- (.+) --\n`)

// sections takes a transcript apart into the words before the first marker and
// what stands behind each.
func sections(text string) (words string, parts []section) {
	marks := marker.FindAllStringSubmatchIndex(text, -1)
	if len(marks) == 0 {
		return text, nil
	}
	for i, m := range marks {
		end := len(text)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		parts = append(parts, section{text[m[2]:m[3]], text[m[1]:end]})
	}
	return text[:marks[0][0]], parts
}

// play runs a transcript and returns it with the answers that came.
func play(t *testing.T, w *world, text string) string {
	t.Helper()
	words, parts := sections(text)
	s := &stage{T: t, world: w, browser: w.Browser(t), names: newNames(w), people: "." + rand.Text() + "@"}
	out := words
	for i := 0; i < len(parts); i++ {
		step := parts[i]
		if step.name == "answer" {
			t.Fatalf("an answer to nothing: section %d", i+1)
		}
		answer := s.step(step)
		out += "-- " + step.name + " --\n" + step.text
		if answer != "" {
			out += "-- answer --\n" + s.names.hide(strings.ReplaceAll(answer, s.people, "@")) + "\n"
		}
		if i+1 < len(parts) && parts[i+1].name == "answer" {
			i++
		}
	}
	return out
}

// stage is a transcript while it plays.
type stage struct {
	*testing.T
	world   *world
	browser *servertest.Browser
	page    servertest.Page // what the browser shows
	names   *names
	people  string // what stands for the @ in addresses, so that nobody is known from another transcript
}

// step does what a section says and returns the answer as text, "" if there is
// none to show.
func (s *stage) step(step section) string {
	s.Helper()
	verb, rest, _ := strings.Cut(step.name, " ")
	switch verb {
	case "request":
		method, path, header, body := s.request(step.text)
		a := s.world.send(s.T, method, path, header, body)
		return s.show(a.code, a.header, a.body)
	case "browser":
		method, path, _, _ := s.request(step.text)
		if method != http.MethodGet {
			s.Fatalf("a browser starts with GET, not %s", method)
		}
		s.page = s.browser.Get(s.T, path)
	case "sign": // sign in ada@example.test
		if s.page = s.browser.SignIn(s.T, s.page, strings.Replace(strings.TrimPrefix(rest, "in "), "@", s.people, 1)); s.page.Status >= 400 {
			s.Fatalf("nobody is signed in: %d %s", s.page.Status, headline.FindString(s.page.Body))
		}
	case "allow":
		values := url.Values{"action": {"allow"}}
		if rest != "" {
			values["allow"] = strings.Fields(rest)
		}
		s.page = s.browser.Submit(s.T, s.page, "allow", values)
	case "deny":
		s.page = s.browser.Submit(s.T, s.page, "action", url.Values{"action": {"deny"}})
	case "wait":
		d, err := time.ParseDuration(rest)
		if err != nil {
			s.Fatal(err)
		}
		s.world.Clock.Advance(d)
		return ""
	case "read": // read {access}
		token := s.names.fill(rest)
		header, err := json.MarshalIndent(part(s.T, token, 0), "", "  ")
		if err != nil {
			s.Fatal(err)
		}
		claims, err := json.MarshalIndent(part(s.T, token, 1), "", "  ")
		if err != nil {
			s.Fatal(err)
		}
		return string(header) + "\n" + string(claims)
	default:
		s.Fatalf("no step is called %q", step.name)
	}
	return s.show(s.page.Status, s.page.Header, s.page.Body)
}

// request reads a request: method and path, headers, an empty line, the body.
// Parameters stand on lines of their own and are encoded here, and so are Basic
// credentials.
func (s *stage) request(text string) (method, path string, header http.Header, body string) {
	s.Helper()
	head, body, _ := strings.Cut(strings.TrimRight(text, "\n"), "\n\n")
	lines := strings.Split(head, "\n")
	method, path, ok := strings.Cut(s.names.fill(lines[0]), " ")
	if !ok {
		s.Fatalf("not a request line: %q", lines[0])
	}
	header = http.Header{}
	for _, line := range lines[1:] {
		if parameter := strings.TrimLeft(line, " "); parameter != line {
			path += parameter[:1] + s.encoded(parameter[1:])
			continue
		}
		name, value, _ := strings.Cut(line, ": ")
		value = s.names.fill(value)
		if credentials, basic := strings.CutPrefix(value, "Basic "); basic {
			id, password, _ := strings.Cut(credentials, ":")
			value = basicAuth(id, password)
		}
		header.Add(name, value)
	}
	if !strings.HasPrefix(header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return method, path, header, s.names.fill(body)
	}
	var form []string
	for _, line := range strings.Split(body, "\n") {
		form = append(form, s.encoded(strings.TrimPrefix(line, "&")))
	}
	return method, path, header, strings.Join(form, "&")
}

func (s *stage) encoded(parameter string) string {
	name, value, _ := strings.Cut(parameter, "=")
	return url.QueryEscape(name) + "=" + url.QueryEscape(s.names.fill(value))
}

// shown are the headers that a transcript shows.
var shown = []string{
	"Allow", "Cache-Control", "Pragma", "Content-Type", "WWW-Authenticate", "Retry-After",
	"Access-Control-Allow-Origin", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers",
}

var tags = regexp.MustCompile(`<[^>]*>`)

// show writes an answer down: status, the headers that matter, the body. Of a
// page it is the headline; the address that a client is answered at stands with
// each parameter on a line.
func (s *stage) show(status int, header http.Header, body string) string {
	s.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "%d %s\n", status, http.StatusText(status))
	for _, name := range []string{"Location", "Refresh"} {
		value := header.Get(name)
		if value == "" {
			continue
		}
		lead, address, found := strings.Cut(value, "url=")
		if !found {
			lead, address = "", value
		} else {
			lead += "url="
		}
		base, query, _ := strings.Cut(address, "?")
		fmt.Fprintf(&out, "%s: %s%s\n", name, lead, base)
		for i, pair := range strings.Split(query, "&") {
			if pair == "" {
				continue
			}
			text, err := url.QueryUnescape(pair)
			if err != nil {
				s.Fatal(err)
			}
			fmt.Fprintf(&out, "    %c%s\n", "?&"[min(i, 1)], text)
		}
	}
	for _, name := range shown {
		if value := header.Get(name); value != "" {
			fmt.Fprintf(&out, "%s: %s\n", name, value)
		}
	}
	switch {
	case body == "" || header.Get("Location") != "":
	case strings.HasPrefix(header.Get("Content-Type"), "application/json"):
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, []byte(body), "", "  "); err != nil {
			s.Fatalf("not JSON: %s", body)
		}
		fmt.Fprintf(&out, "\n%s\n", strings.TrimSpace(pretty.String()))
	default:
		fmt.Fprintf(&out, "\n%s\n", strings.TrimSpace(tags.ReplaceAllString(headline.FindString(body), "")))
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// names are the words in braces that stand for what differs from run to run.
type names struct {
	values map[string]string // name → value
	of     map[string]string // value → name
	start  int64             // {now}, in seconds since 1970
}

func newNames(w *world) *names {
	n := &names{values: map[string]string{}, of: map[string]string{}, start: w.Clock.Now().Unix()}
	for name, value := range map[string]string{
		"issuer": w.Issuer, "project": w.Project.ID, "project-secret": w.Secret,
		"public": w.public.ID, "rival": w.rival.ID, "basic": w.basic.ID, "basic-secret": w.keys[w.basic.ID],
		"post": w.post.ID, "post-secret": w.keys[w.post.ID],
		"todo": w.resources[todo][0], "todo-secret": w.resources[todo][1],
		"notes": w.resources[notes][0], "notes-secret": w.resources[notes][1],
		"verifier": rigVerifier, "challenge": challengeOf(rigVerifier),
	} {
		n.values[name], n.of[value] = value, name
	}
	return n
}

var placeholder = regexp.MustCompile(`\{([a-z][a-z0-9-]*)\}`)

// fill puts values for names. What is no name of ours stays as it is.
func (n *names) fill(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(name string) string {
		if value, known := n.values[name[1:len(name)-1]]; known {
			return value
		}
		return name
	})
}

// changing finds what differs from run to run, and how it is called.
var changing = []struct {
	name string
	text *regexp.Regexp
}{
	{"code", regexp.MustCompile(`pst_ac_[0-9A-Za-z]{70}`)},
	{"refresh", regexp.MustCompile(`pst_rt_[0-9A-Za-z]{70}`)},
	{"secret", regexp.MustCompile(`pst_cs_[0-9A-Za-z]{70}`)},
	{"registration", regexp.MustCompile(`pst_rat_[0-9A-Za-z]{70}`)},
	{"", regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`)}, // named after its token_use
	{"client", regexp.MustCompile(`connected-app-test-[0-9a-f-]{36}`)},
	{"user", regexp.MustCompile(`user-test-[0-9a-f-]{36}`)},
	{"grant", regexp.MustCompile(`grant-test-[0-9a-f-]{36}`)},
	{"session", regexp.MustCompile(`session-test-[0-9a-f-]{36}`)},
	{"jti", regexp.MustCompile(`"jti": "([0-9a-f-]{36})"`)},
	{"family", regexp.MustCompile(`"sid": "([0-9a-f-]{36})"`)},
	{"kid", regexp.MustCompile(`"kid": "([\w-]{10,})"`)},
	{"hash", regexp.MustCompile(`"at_hash": "([\w-]{10,})"`)},
	{"number", regexp.MustCompile(`"(?:n|x|y)": "([\w-]{10,})"`)},
}

var seconds = regexp.MustCompile(`\b1[0-9]{9}\b`)

// hide puts names for values, old ones first; a new value gets the next free
// name of its kind.
func (n *names) hide(text string) string {
	for _, value := range slices.SortedFunc(maps.Keys(n.of), func(a, b string) int { return len(b) - len(a) }) {
		text = strings.ReplaceAll(text, value, "{"+n.of[value]+"}")
	}
	for _, kind := range changing {
		for _, m := range kind.text.FindAllStringSubmatch(text, -1) {
			value := m[len(m)-1]
			if _, known := n.of[value]; !known {
				n.add(n.kind(kind.name, value), value)
			}
			text = strings.ReplaceAll(text, value, "{"+n.of[value]+"}")
		}
	}
	return seconds.ReplaceAllStringFunc(text, func(digits string) string {
		at, err := strconv.ParseInt(digits, 10, 64)
		switch since := at - n.start; {
		case err != nil || since < -86400 || since > 400*86400:
			return digits
		case since == 0:
			return "{now}"
		default:
			return fmt.Sprintf("{now%+d}", since)
		}
	})
}

// kind is how a value is called: a JWT after its use.
func (n *names) kind(name, value string) string {
	if name != "" {
		return name
	}
	for _, use := range []string{"access", "id"} {
		claims, err := base64.RawURLEncoding.DecodeString(strings.Split(value, ".")[1])
		if err == nil && bytes.Contains(claims, []byte(`"token_use":"`+use+`"`)) {
			return use
		}
	}
	return "jwt"
}

func (n *names) add(kind, value string) {
	name := kind
	for i := 2; n.values[name] != ""; i++ {
		name = kind + "-" + strconv.Itoa(i)
	}
	n.values[name], n.of[value] = value, name
}

package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"html"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the answers in testdata/clients and docs/clients-tested.md anew")

const clientsPage = "../../docs/clients-tested.md"

// What clients that exist send, to a server as it runs on a developer's
// computer: testdata/clients/README.md tells how a profile reads and how it was
// made. The page of tested clients is made of the profiles that pass here.
func TestClients(t *testing.T) {
	profiles := readProfiles(t)
	eachDatabase(t, func(t *testing.T, db database) {
		documents := newPublisher(t)
		p, todo := dev(t, db, documents.authority)
		for _, prof := range profiles {
			t.Run(prof.name, func(t *testing.T) {
				c := newCast(t, p, todo, documents, prof)
				played := c.play(prof)
				switch {
				case *update && db.name == "sqlite" && played != prof.text:
					if err := os.WriteFile(prof.path, []byte(played), 0o644); err != nil {
						t.Fatal(err)
					}
				case !*update:
					if diff := cmp.Diff(prof.text, played); diff != "" {
						t.Errorf("%s (-file +server; go test -update writes the file):\n%s", prof.path, diff)
					}
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	page := renderClients(profiles)
	if *update {
		if err := os.WriteFile(clientsPage, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(clientsPage); err != nil || string(text) != page {
		t.Errorf("%s is not what was replayed: run make conformance, or go test ./examples/e2e -run TestClients -update (%v)", clientsPage, err)
	}
}

// profile is one file of testdata/clients.
type profile struct {
	path, name, text string
	head             map[string][]string // "client: Codex" and the like
	parts            []part
}

// part is one section of a profile: a step, its answer, or a document.
type part struct{ name, text string }

var marker = regexp.MustCompile(`(?m)^-- (.+) --\n`)

func readProfiles(t *testing.T) []profile {
	t.Helper()
	files, err := filepath.Glob("testdata/clients/*.txtar")
	if err != nil || len(files) < 10 {
		t.Fatalf("profiles: %d, %v", len(files), err)
	}
	var all []profile
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, parseProfile(file, string(text)))
	}
	return all
}

func parseProfile(path, text string) profile {
	p := profile{path: path, name: strings.TrimSuffix(filepath.Base(path), ".txtar"), text: text, head: map[string][]string{}}
	marks := marker.FindAllStringSubmatchIndex(text, -1)
	head := text
	if len(marks) > 0 {
		head = text[:marks[0][0]]
	}
	for line := range strings.Lines(head) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ": "); ok {
			p.head[key] = append(p.head[key], value)
		}
	}
	for i, m := range marks {
		end := len(text)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		p.parts = append(p.parts, part{text[m[2]:m[3]], text[m[1]:end]})
	}
	return p
}

// first is the first value of a line of the head, "" without one.
func (p profile) first(key string) string {
	if len(p.head[key]) == 0 {
		return ""
	}
	return p.head[key][0]
}

// cast is everybody who takes part in a profile while it is played or recorded.
type cast struct {
	*testing.T
	postern *postern
	person  *person
	names   *names
	origins map[string]string // of "issuer" and "resource"
}

func newCast(t *testing.T, p *postern, todo string, documents *publisher, prof profile) *cast {
	t.Helper()
	who := newPerson(t, p, prof.name+"@example.test")
	who.stay, who.decline = true, prof.head["unticks"]
	c := &cast{T: t, postern: p, person: who, names: newNames(), origins: map[string]string{"issuer": p.issuer, "resource": todo}}
	for name, origin := range map[string]string{"issuer-port": p.issuer, "resource-port": todo, "documents-port": documents.URL} {
		u, err := url.Parse(origin)
		if err != nil {
			t.Fatal(err)
		}
		c.names.know(name, u.Port())
	}
	for _, section := range prof.parts {
		if name, ok := strings.CutPrefix(section.name, "document "); ok {
			documents.mu.Lock()
			documents.documents["/"+name] = []byte(c.names.fill(section.text))
			documents.mu.Unlock()
		}
	}
	return c
}

// play sends what a profile says, and returns it with the answers that came.
func (c *cast) play(prof profile) string {
	c.Helper()
	out := prof.text
	if mark := marker.FindStringIndex(out); mark != nil {
		out = out[:mark[0]]
	}
	for _, step := range prof.parts {
		if step.name == "answer" {
			continue
		}
		out += "-- " + step.name + " --\n" + step.text
		if strings.HasPrefix(step.name, "document ") {
			continue
		}
		out += "-- answer --\n" + c.names.hide(c.step(step)) + "\n"
	}
	return out
}

// step does one step and returns the answer as text.
func (c *cast) step(step part) string {
	c.Helper()
	switch step.name {
	case "issuer", "resource":
		r := c.request(step)
		resp, err := clientTransport.RoundTrip(r)
		if err != nil {
			c.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			c.Fatal(err)
		}
		return summary(r.URL.Path, resp.StatusCode, resp.Header, body)
	case "browser":
		r := c.request(step)
		return c.visit(r.URL.String()).String()
	default:
		c.Fatalf("no step is called %q", step.name)
		return ""
	}
}

// clientTransport adds nothing to a request that the profile does not say.
var clientTransport = &http.Transport{DisableCompression: true}

// request builds a request: the request line, with parameters on lines of their
// own, headers, an empty line, the body. All is as it was on the wire, but that
// the parameters of a form stand on lines of their own and Basic credentials are
// decoded.
func (c *cast) request(step part) *http.Request {
	c.Helper()
	head, body, _ := strings.Cut(strings.TrimRight(c.names.fill(step.text), "\n"), "\n\n")
	lines := strings.Split(head, "\n")
	method, target, ok := strings.Cut(lines[0], " ")
	if !ok {
		c.Fatalf("not a request line: %q", lines[0])
	}
	header := http.Header{}
	for _, line := range lines[1:] {
		if parameter := strings.TrimLeft(line, " "); parameter != line {
			target += parameter
			continue
		}
		name, value, _ := strings.Cut(line, ": ")
		if credentials, basic := strings.CutPrefix(value, "Basic "); basic {
			value = "Basic " + base64.StdEncoding.EncodeToString([]byte(credentials))
		}
		header.Add(name, value)
	}
	if strings.HasPrefix(header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		body = strings.ReplaceAll(body, "\n", "")
	}
	origin := c.origins[step.name]
	if step.name == "browser" {
		origin = c.postern.issuer
	}
	r, err := http.NewRequestWithContext(c.Context(), method, origin+target, strings.NewReader(body))
	if err != nil {
		c.Fatal(err)
	}
	r.Header = header
	if header.Get("User-Agent") == "" {
		r.Header["User-Agent"] = nil // else Go adds its own
	}
	return r
}

// handover is how an authorization request ended: what the person was asked,
// and the address that the client is answered at.
type handover struct {
	asked  []string
	target string
}

// visit has the person open an authorization request and allow it.
func (c *cast) visit(address string) handover {
	c.Helper()
	before := len(c.person.asked)
	at, err := c.person.visit(c.Context(), address)
	if err != nil {
		c.Fatal(err)
	}
	c.person.decline = nil // at the first time only
	var h handover
	for _, consent := range c.person.asked[before:] {
		h.asked, _ = consent.ticked()
	}
	if _, onward, ok := strings.Cut(at.header.Get("Refresh"), "url="); ok {
		h.target = onward
	} else if link := onwardLink.FindStringSubmatch(at.body); link != nil { // a private scheme gets a link only
		h.target = html.UnescapeString(link[1])
	} else {
		c.Fatalf("the person is at %v", at)
	}
	return h
}

var onwardLink = regexp.MustCompile(`href="([a-z][a-z0-9+.-]*:[^"]*[?&]code=[^"]*)"`)

func (h handover) String() string {
	asked := "nothing"
	if len(h.asked) > 0 {
		asked = strings.Join(h.asked, " ")
	}
	base, query, _ := strings.Cut(h.target, "?")
	lines := []string{"asked: " + asked, base}
	for i, pair := range strings.Split(query, "&") {
		lines = append(lines, fmt.Sprintf("    %c%s", "?&"[min(i, 1)], pair))
	}
	return strings.Join(lines, "\n")
}

// summary is what a profile shows of an answer: the status, the challenge, JSON
// of the endpoints that clients talk to, and how an MCP request went.
func summary(path string, status int, header http.Header, body []byte) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d %s", status, http.StatusText(status))
	if challenge := header.Get("WWW-Authenticate"); challenge != "" {
		fmt.Fprintf(&out, "\nWWW-Authenticate: %s", challenge)
	}
	var said map[string]any
	switch {
	case strings.HasSuffix(path, "/register"), strings.HasSuffix(path, "/token"), strings.HasSuffix(path, "/userinfo"), strings.HasSuffix(path, "/revoke"):
		if json.Unmarshal(body, &said) != nil {
			break
		}
		delete(said, "client_id_issued_at") // the time
		var pretty bytes.Buffer
		encoder := json.NewEncoder(&pretty)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		if encoder.Encode(said) == nil {
			fmt.Fprintf(&out, "\n\n%s", strings.TrimRight(pretty.String(), "\n"))
		}
	case strings.HasSuffix(path, "/mcp") && status == http.StatusOK:
		for _, message := range messages(header.Get("Content-Type"), body) {
			fmt.Fprintf(&out, "\n%s", message)
		}
	}
	return out.String()
}

// messages says of each JSON-RPC message of an answer how it went.
func messages(contentType string, body []byte) (all []string) {
	lines := [][]byte{body}
	if strings.HasPrefix(contentType, "text/event-stream") {
		lines = nil
		for line := range bytes.Lines(body) {
			if data, ok := bytes.CutPrefix(line, []byte("data:")); ok && len(bytes.TrimSpace(data)) > 0 {
				lines = append(lines, data)
			}
		}
	}
	for _, line := range lines {
		var message struct {
			Result *struct {
				IsError bool
				Tools   []struct{ Name string }
			}
			Error *struct {
				Code    int
				Message string
			}
		}
		switch err := json.Unmarshal(line, &message); {
		case err != nil:
			all = append(all, "not JSON")
		case message.Error != nil:
			all = append(all, fmt.Sprintf("error %d: %s", message.Error.Code, message.Error.Message))
		case message.Result != nil && message.Result.IsError:
			all = append(all, "result: an error of the tool")
		case message.Result != nil && message.Result.Tools != nil:
			all = append(all, fmt.Sprintf("result: %d tools", len(message.Result.Tools)))
		case message.Result != nil:
			all = append(all, "result")
		}
	}
	return all
}

// names are the words in braces that stand for what differs from run to run.
type names struct {
	values map[string]string // name → value
	of     map[string]string // value → name
}

func newNames() *names { return &names{map[string]string{}, map[string]string{}} }

func (n *names) know(name, value string) { n.values[name], n.of[value] = value, name }

// add gives a value the next free name of its kind, unless it has one.
func (n *names) add(kind, value string) {
	if _, known := n.of[value]; known || value == "" {
		return
	}
	name := kind
	for i := 2; n.values[name] != ""; i++ {
		name = fmt.Sprintf("%s-%d", kind, i)
	}
	n.know(name, value)
}

var placeholder = regexp.MustCompile(`\{(issuer-port|resource-port|documents-port|callback-port|client|secret|code|refresh|access|state|nonce|challenge|verifier|registration)(-\d+)?!?\}`)

// escaped writes what is seldom escaped as %XX, as openid-client does in Basic
// credentials; {client!} is {client} so.
var escaped = strings.NewReplacer("-", "%2D", "_", "%5F")

// fill puts values for names. What a client makes up is made up when it is
// first needed.
func (n *names) fill(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(word string) string {
		name, asEscaped := strings.CutSuffix(word[1:len(word)-1], "!")
		if n.values[name] == "" {
			n.invent(name)
		}
		switch value := n.values[name]; {
		case value == "":
			return word
		case asEscaped:
			return escaped.Replace(value)
		default:
			return value
		}
	})
}

func (n *names) invent(name string) {
	kind := strings.TrimRight(strings.TrimRight(name, "0123456789"), "-")
	number := strings.TrimPrefix(name, kind)
	switch kind {
	case "state", "nonce":
		n.know(name, kind+number+"-af0ifjsldkj")
	case "callback-port": // nobody listens there: the person stops before it
		n.know(name, fmt.Sprint(51004+len(n.values)))
	case "challenge", "verifier":
		verifier := "a-verifier-of-the-profile-that-is-long-enough" + number
		sum := sha256.Sum256([]byte(verifier))
		n.know("verifier"+number, verifier)
		n.know("challenge"+number, base64.RawURLEncoding.EncodeToString(sum[:]))
	}
}

// changing finds what a server makes up, and how it is called.
var changing = []struct {
	name string
	text *regexp.Regexp
}{
	{"code", regexp.MustCompile(`pst_ac_[0-9A-Za-z]{70}`)},
	{"refresh", regexp.MustCompile(`pst_rt_[0-9A-Za-z]{70}`)},
	{"secret", regexp.MustCompile(`pst_cs_[0-9A-Za-z]{70}`)},
	{"registration", regexp.MustCompile(`pst_rat_[0-9A-Za-z]{70}`)},
	{"access", regexp.MustCompile(`eyJ[\w-]+\.[\w-]+\.[\w-]+`)},
	{"client", regexp.MustCompile(`connected-app-test-[0-9a-f-]{36}`)},
	{"user", regexp.MustCompile(`user-test-[0-9a-f-]{36}`)},
}

var hostPort = regexp.MustCompile(`(localhost|127\.0\.0\.1|\[::1\]|%5B%3A%3A1%5D)(:|%3A|%3a)(\d+)`)

// hide puts names for values; what a server made up, and a port of this
// computer, gets the next free name of its kind.
func (n *names) hide(text string) string {
	for _, kind := range changing {
		for _, value := range kind.text.FindAllString(text, -1) {
			n.add(kind.name, value)
		}
	}
	text = hostPort.ReplaceAllStringFunc(text, func(found string) string {
		m := hostPort.FindStringSubmatch(found)
		n.add("callback-port", m[3])
		return m[1] + m[2] + "{" + n.of[m[3]] + "}"
	})
	for _, value := range slices.SortedFunc(maps.Keys(n.of), func(a, b string) int { return len(b) - len(a) }) {
		if name := n.of[value]; !strings.Contains(name, "-port") {
			text = strings.ReplaceAll(text, value, "{"+name+"}")
			if other := escaped.Replace(value); other != value {
				text = strings.ReplaceAll(text, other, "{"+name+"!}")
			}
		}
	}
	return text
}

// renderClients is the page of the clients that were replayed.
func renderClients(profiles []profile) string {
	var out strings.Builder
	out.WriteString(`# Clients that are tested

Written by ` + "`make conformance`" + ` from a run; do not edit. Every commit replays what these clients send, request by request, to a server as ` + "`make dev`" + ` starts it, with the to-do example behind ` + "`guard`" + `, on SQLite and PostgreSQL.
[Each profile](../examples/e2e/testdata/clients/README.md) is a text with every header, parameter and answer. *Recorded* means that
the client itself was run against Postern and its requests were kept; *written* means that nobody here could run it, and the
profile says where its facts are from.

| client | version | how | requests | what is particular about it | result |
|---|---|---|---|---|---|
`)
	for _, p := range profiles {
		requests := 0
		for _, section := range p.parts {
			if section.name == "issuer" || section.name == "resource" || section.name == "browser" {
				requests++
			}
		}
		how := "written"
		if date := p.first("recorded"); date != "" {
			how = "recorded " + date
		}
		fmt.Fprintf(&out, "| [%s](../examples/e2e/testdata/clients/%s.txtar) | %s | %s | %d | %s | passed |\n",
			p.first("client"), p.name, p.first("version"), how, requests, strings.Join(p.head["quirk"], "; "))
	}
	recorded := 0
	for _, p := range profiles {
		if p.first("recorded") != "" {
			recorded++
		}
	}
	fmt.Fprintf(&out, "\n%d profiles, %d of them recorded. This page is written only when all pass.\n", len(profiles), recorded)
	return out.String()
}

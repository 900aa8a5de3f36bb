package e2e_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard/guardtest"
)

const (
	pages       = "../../docs/guide/protect"
	readNotes   = "notes:read"
	changeNotes = "notes:write"
)

// lesson is a page of docs/guide/protect, and how its code is run.
type lesson struct {
	page  string
	fence string // the language of its code
	main  string // the file to run

	// with puts the code for introspection where the page says.
	with func(code, introspection string) string
	// run is the command for a file in a folder of the workshop.
	run func(t *testing.T, w workshop, file, port string) []string
	// accepts are the wrong tokens that the page's libraries let pass, all of
	// which only an issuer itself could make.
	accepts []guardtest.Wrong
	// late is how long a revoked token is good with introspection, and leeway
	// how long an expired one is.
	late, leeway time.Duration
}

// lessons are all pages.
var lessons = []lesson{
	{
		page: "go.md", fence: "go", main: "main.go", late: 5 * time.Second, leeway: 30 * time.Second,
		with: func(code, introspection string) string {
			code = strings.Replace(code, "\t\"net/http\"\n", "\t\"net/http\"\n\t\"os\"\n", 1)
			return strings.Replace(code, "guard.Config{\n", "guard.Config{\n"+introspection, 1)
		},
		run: func(t *testing.T, w workshop, file, _ string) []string {
			return []string{w.compile(t, filepath.Dir(file))}
		},
	},
	{page: "express.md", fence: "js", main: "server.mjs", with: inPlaceOfKeys, run: node, accepts: unusual},
	{page: "hono.md", fence: "js", main: "serve.mjs", with: inPlaceOfKeys, run: node, accepts: unusual},
	{
		page: "nextjs.md", fence: "js", main: "app/mcp/route.js", with: inPlaceOfKeys, accepts: unusual,
		run: func(_ *testing.T, w workshop, file, port string) []string {
			app := strings.TrimSuffix(file, "app/mcp/route.js")
			return []string{w.node, filepath.Join(w.dir, "node_modules/next/dist/bin/next"), "dev", app, "-H", "localhost", "-p", port}
		},
	},
	{
		page: "fastmcp.md", fence: "python", main: "server.py", accepts: append(unusual, guardtest.NotYetValid),
		with: func(code, introspection string) string {
			return regexp.MustCompile(`(?ms)^class AccessTokenVerifier.*?^\)\n`).ReplaceAllLiteralString(code, introspection)
		},
		run: func(_ *testing.T, w workshop, file, _ string) []string {
			return []string{filepath.Join(w.dir, "venv/bin/python"), file}
		},
	},
}

// unusual are tokens that a right key signed and that are odd in a way that no
// issuer's mistake would make dangerous here.
var unusual = []guardtest.Wrong{guardtest.IssuedInFuture, guardtest.DuplicateClaim, guardtest.CaseVariant, guardtest.NoClient}

func node(_ *testing.T, w workshop, file, _ string) []string { return []string{w.node, file} }

func inPlaceOfKeys(code, introspection string) string {
	return regexp.MustCompile(`(?ms)^const keys = .*?^}\n`).ReplaceAllLiteralString(code, introspection)
}

var (
	fenced   = regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")
	fileName = regexp.MustCompile(`(?m)^(?://|#) (\S+\.\w+)\n`)
	npm      = regexp.MustCompile(`(?m)^npm install (.+)$`)
	pip      = regexp.MustCompile(`(?m)^pip install (.+)$`)
)

// read returns the blocks of a page that are in its language: the server, then
// what else it needs, and last the code for introspection.
func (l lesson) read(t *testing.T) (text string, blocks []string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(pages, l.page))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range fenced.FindAllStringSubmatch(string(page), -1) {
		if block[1] == l.fence {
			blocks = append(blocks, block[2])
		}
	}
	if len(blocks) < 2 {
		t.Fatalf("%s has %d blocks of %s, not a server and its introspection", l.page, len(blocks), l.fence)
	}
	return string(page), blocks
}

// Each page protects a whole server in at most 40 lines, and all of them name
// the same issuer, resource and scopes, so that other values can be put in by
// replacing text.
func TestProtectPagesAreShort(t *testing.T) {
	for _, l := range lessons {
		_, blocks := l.read(t)
		if lines := strings.Count(blocks[0], "\n"); lines > 40 {
			t.Errorf("%s: the server has %d lines", l.page, lines)
		}
		for _, value := range []string{`"http://localhost:4000"`, `"http://localhost:8080/mcp"`, `"` + readNotes + `"`, `"` + changeNotes + `"`} {
			want := 1
			if l.fence == "go" && value == `"`+readNotes+`"` {
				want = 2 // the scope, and the rule
			}
			if n := strings.Count(blocks[0], value); n != want {
				t.Errorf("%s: %s stands %d times in the server, not %d", l.page, value, n, want)
			}
		}
	}
}

// The code of each page, with the packages that it names, against postern dev:
// who has no token, one for another server, one that has expired or one without
// the scope is refused as the page says, and who has the right one is known by
// name; with introspection a revocation is seen at once. Then against an issuer
// that signs tokens which are wrong in one way each.
func TestProtectPages(t *testing.T) {
	if os.Getenv("POSTERN_PROTECT") == "" {
		t.Skip("POSTERN_PROTECT is not set: this test installs packages from npm and PyPI (make test does)")
	}
	w := newWorkshop(t)
	port := freePort(t)
	p := &postern{issuer: "http://localhost:" + port, dir: t.TempDir()}
	p.env, p.codes = environment("POSTERN_PORT="+port), p.mailbox
	p.process = start(t, p.dir, p.env, "postern", "dev")
	p.await(t, p.issuer+"/readyz")

	// Tokens that will have expired when everything is installed: no lifetime is
	// shorter than a minute.
	rooms := make([]classroom, len(lessons))
	for i, l := range lessons {
		rooms[i] = classroom{lesson: l, client: newClient(t, p, ""), person: newPerson(t, p, strings.TrimSuffix(l.page, ".md")+"@example.test")}
		rooms[i].signed, rooms[i].asked = p.addNotes(t), p.addNotes(t)
		rooms[i].oldSigned = rooms[i].token(t, rooms[i].signed, readNotes)
		rooms[i].oldAsked = rooms[i].token(t, rooms[i].asked, readNotes)
	}
	minted := time.Now()

	w.install(t)
	for _, r := range rooms {
		t.Run(strings.TrimSuffix(r.page, ".md"), func(t *testing.T) {
			t.Parallel()
			r.teach(t, w, minted.Add(time.Minute))
		})
	}
}

// addNotes registers a resource server with the scopes of the pages, at a free
// port of this computer.
func (p *postern) addNotes(t *testing.T) resource {
	t.Helper()
	var added resource
	p.run(t, &added, "resource", "add", "http://localhost:"+freePort(t)+"/mcp", "--offline", "--secret", "--access-token-lifetime", "60s",
		"--scope", readNotes+"=Read your notes", "--write-scope", changeNotes+"=Change your notes")
	p.awaitMetadata(t, naming(added.URI))
	return added
}

// workshop is where the pages' code is run.
type workshop struct{ dir, node, npm, python string }

// newWorkshop finds what has to be there before anything can be installed.
func newWorkshop(t *testing.T) workshop {
	t.Helper()
	w := workshop{dir: t.TempDir()}
	for program, path := range map[string]*string{"node": &w.node, "npm": &w.npm, "python3": &w.python} {
		var err error
		if *path, err = exec.LookPath(program); err != nil {
			lacks(t, program+" is not installed here: the pages need Node.js 20.9 with npm, and Python 3.10 with venv, or newer.")
		}
	}
	return w
}

// lacks ends a test that this machine cannot run.
func lacks(t *testing.T, sentence string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(sentence)
	}
	t.Skip(sentence)
}

// install gets what the pages name in their install commands.
func (w workshop) install(t *testing.T) {
	t.Helper()
	packages, python := map[string]bool{}, []string{filepath.Join(w.dir, "venv/bin/pip"), "install", "--quiet"}
	for _, l := range lessons {
		text, _ := l.read(t)
		for _, command := range npm.FindAllStringSubmatch(text, -1) {
			for _, name := range strings.Fields(command[1]) {
				packages[name] = true
			}
		}
		for _, command := range pip.FindAllStringSubmatch(text, -1) {
			python = append(python, strings.Fields(command[1])...)
		}
	}
	w.write(t, "package.json", `{"private": true}`)
	node := append([]string{w.npm, "install", "--no-audit", "--no-fund", "--loglevel=error"}, slices.Sorted(maps.Keys(packages))...)
	done := make(chan string, 2)
	run := func(commands ...[]string) {
		for _, c := range commands {
			cmd := exec.CommandContext(t.Context(), c[0], c[1:]...)
			cmd.Dir = w.dir
			if out, err := cmd.CombinedOutput(); err != nil {
				done <- strings.Join(c, " ") + " did not work (is there a network?): " + tail(string(out), 2000)
				return
			}
		}
		done <- ""
	}
	go run(node)
	go run([]string{w.python, "-m", "venv", "venv"}, python)
	if failures := <-done + <-done; failures != "" {
		lacks(t, failures)
	}
}

// write makes a file, and its folder, and returns its path.
func (w workshop) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// compile builds a program of the page for Go with the guard of this
// repository and the modules of the examples.
func (w workshop) compile(t *testing.T, dir string) string {
	t.Helper()
	guard, err := filepath.Abs("../../guard")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		w.write(t, filepath.Join(filepath.Base(dir), name), strings.Replace(string(text), "=> ../guard", "=> "+guard, 1))
	}
	build := exec.CommandContext(t.Context(), "go", "build", "-o", "server", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return filepath.Join(dir, "server")
}

// classroom is a page with what it is tried with: a resource server for its
// code as it stands, and one for introspection.
type classroom struct {
	lesson
	client              *client
	person              *person
	signed, asked       resource
	oldSigned, oldAsked string
}

// token is a new access token.
func (r classroom) token(t *testing.T, of resource, scope string) string {
	t.Helper()
	r.client.resource, r.client.scope = of.URI, scope
	a, err := r.client.redeem(t.Context(), r.client.allow(t, r.person))
	return must(t, a, err).tokens(t).Access
}

// open starts the code of the page, with values put in for those that it
// names, in place of values and what stands for them.
func (r classroom) open(t *testing.T, w workshop, blocks []string, issuer string, at resource, more ...string) *process {
	t.Helper()
	u, err := url.Parse(at.URI)
	if err != nil {
		t.Fatal(err)
	}
	values := strings.NewReplacer(append([]string{"http://localhost:4000", issuer, "http://localhost:8080/mcp", at.URI, "8080", u.Port()}, more...)...)
	dir := strings.TrimSuffix(r.page, ".md") + "-" + u.Port()
	for _, block := range blocks {
		names := fileName.FindAllStringSubmatchIndex(block, -1)
		for i, name := range names {
			end := len(block)
			if i+1 < len(names) {
				end = names[i+1][0]
			}
			w.write(t, filepath.Join(dir, block[name[2]:name[3]]), values.Replace(block[name[0]:end]))
		}
	}
	command := r.run(t, w, filepath.Join(w.dir, dir, r.main), u.Port())
	return start(t, w.dir, environment("RESOURCE_ID="+at.ID, "RESOURCE_SECRET="+at.Secret, "NEXT_TELEMETRY_DISABLED=1"), command[0], command[1:]...)
}

// teach runs the page in its three forms and asks all questions.
func (r classroom) teach(t *testing.T, w workshop, expired time.Time) {
	_, blocks := r.read(t)
	last := len(blocks) - 1
	code, introspection := blocks[:last], blocks[last]
	asking := slices.Clone(code)
	if asking[0] = r.with(code[0], introspection); asking[0] == code[0] {
		t.Fatalf("%s: the code for introspection has no place in the server", r.page)
	}
	issuer := guardtest.New(t)
	odd := resource{URI: "http://localhost:" + freePort(t) + "/mcp"}
	signed := r.open(t, w, code, r.client.issuer, r.signed)
	asked := r.open(t, w, asking, r.client.issuer, r.asked)
	judged := r.open(t, w, code, issuer.URL, odd, "/.well-known/jwks.json", "/jwks")
	for server, at := range map[*process]resource{signed: r.signed, asked: r.asked, judged: odd} {
		server.await(t, at.metadata(t))
	}

	r.question(t, r.signed, r.asked)
	r.question(t, r.asked, r.signed)
	revoked, kept := r.token(t, r.asked, readNotes), r.token(t, r.signed, readNotes)
	r.asked.admits(t, revoked)
	for _, token := range []string{revoked, kept} {
		a, err := r.client.post(t.Context(), "/v1/oauth2/revoke", url.Values{"token": {token}, "client_id": {r.client.id}}, "", "")
		if a = must(t, a, err); a.status != http.StatusOK {
			t.Fatalf("revocation: %d %s", a.status, a.body)
		}
	}
	time.Sleep(r.late)
	r.asked.refuses(t, "revoked", revoked, http.StatusUnauthorized, "invalid_token")
	r.signed.admits(t, kept) // until it expires, as the page says

	right := guardtest.Token{Resource: odd.URI, Subject: "ada", Scopes: []string{readNotes}}
	if got := odd.call(t, issuer.Mint(right)); got.status != http.StatusOK || !strings.Contains(got.body, "You are ada") {
		t.Errorf("the other issuer's right token: %+v", got)
	}
	for _, wrong := range guardtest.Wrongs() {
		issuer.Advance(time.Since(issuer.Now())) // its clock stands still
		got := odd.call(t, issuer.MintWrong(wrong, right))
		switch accepted := slices.Contains(r.accepts, wrong); {
		case accepted && got.status == http.StatusOK:
		case accepted:
			t.Errorf("%s: %d, but the test says that it is accepted", wrong, got.status)
		case got.status != wrong.Status():
			t.Errorf("%s: %d %s, want %d", wrong, got.status, got.body, wrong.Status())
		}
	}

	time.Sleep(time.Until(expired.Add(r.leeway + time.Second)))
	r.signed.refuses(t, "expired", r.oldSigned, http.StatusUnauthorized, "invalid_token")
	r.asked.refuses(t, "expired", r.oldAsked, http.StatusUnauthorized, "invalid_token")
}

// question asks a server what both forms of the page answer alike. other is
// another resource server of the same project.
func (r classroom) question(t *testing.T, at, other resource) {
	t.Helper()
	nothing := at.call(t, "")
	if want := `resource_metadata="` + at.metadata(t) + `"`; nothing.status != http.StatusUnauthorized ||
		!strings.HasPrefix(nothing.challenge, "Bearer ") || !strings.Contains(nothing.challenge, want) {
		t.Errorf("no token: %+v, want 401 with %s", nothing, want)
	}
	var metadata struct {
		Resource string
		Issuers  []string `json:"authorization_servers"`
		Scopes   []string `json:"scopes_supported"`
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, at.metadata(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Origin", "https://client.example.test") // of a client that is a web page
	var header http.Header
	status, body, err := roundTrip(&http.Client{Transport: noting{&header}}, request)
	if err != nil || status != http.StatusOK || json.Unmarshal([]byte(body), &metadata) != nil {
		t.Fatalf("metadata: %d %s, %v", status, body, err)
	}
	if allowed := header.Get("Access-Control-Allow-Origin"); allowed != "*" {
		t.Errorf("metadata: web pages of %q may read it, not of any origin", allowed)
	}
	if metadata.Resource != at.URI || !cmp.Equal(metadata.Issuers, []string{r.client.issuer}) || !cmp.Equal(metadata.Scopes, []string{readNotes, changeNotes}) {
		t.Errorf("metadata: %s", body)
	}

	at.admits(t, r.token(t, at, readNotes))
	at.refuses(t, "without the scope", r.token(t, at, changeNotes), http.StatusForbidden, "insufficient_scope")
	at.refuses(t, "of another resource", r.token(t, other, readNotes), http.StatusUnauthorized, "invalid_token")
	at.refuses(t, "of nobody", "nonsense", http.StatusUnauthorized, "invalid_token")

	// A client that knows nothing but the address.
	session := newApp(t, r.person, byRegistration, nil).mustConnect(at.URI)
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "whoami"})
	if err != nil || result.IsError {
		t.Fatalf("the official SDK's client: %+v, %v", result, err)
	}
	if text, ok := result.Content[0].(*mcp.TextContent); !ok || !strings.HasPrefix(text.Text, "You are user-") {
		t.Errorf("the official SDK's client is told %+v", result.Content[0])
	}
}

// metadata is the address of the protected-resource metadata (RFC 9728 §3.1).
func (r resource) metadata(t *testing.T) string {
	t.Helper()
	u, err := url.Parse(r.URI)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/.well-known/oauth-protected-resource" + u.Path
	return u.String()
}

// reply is what an MCP server answered.
type reply struct {
	status          int
	challenge, body string
}

// call calls the tool of the pages.
func (r resource) call(t *testing.T, token string) reply {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URI,
		strings.NewReader(`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"whoami","arguments":{}}}`))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Accept", "application/json, text/event-stream")
	request.Header.Set("Mcp-Protocol-Version", "2025-06-18")
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	var header http.Header
	status, body, err := roundTrip(&http.Client{Transport: noting{&header}}, request)
	if err != nil {
		t.Fatal(err)
	}
	return reply{status, header.Get("WWW-Authenticate"), body}
}

// noting keeps the header of an answer.
type noting struct{ header *http.Header }

func (n noting) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err == nil {
		*n.header = resp.Header
	}
	return resp, err
}

// admits checks that the tool answers, and knows who asks.
func (r resource) admits(t *testing.T, token string) {
	t.Helper()
	var claims struct{ Sub string }
	parts := strings.Split(token, ".")
	body, err := base64.RawURLEncoding.DecodeString(parts[min(1, len(parts)-1)])
	if err != nil || json.Unmarshal(body, &claims) != nil || claims.Sub == "" {
		t.Fatalf("no claims in the token: %s, %v", body, err)
	}
	if got := r.call(t, token); got.status != http.StatusOK || !strings.Contains(got.body, "You are "+claims.Sub) {
		t.Errorf("the right token: %+v, want 200 for %s", got, claims.Sub)
	}
}

// refuses checks the status and the challenge of a refusal.
func (r resource) refuses(t *testing.T, what, token string, status int, code string) {
	t.Helper()
	got := r.call(t, token)
	parts := []string{`error="` + code + `"`, `resource_metadata="` + r.metadata(t) + `"`}
	if status == http.StatusForbidden {
		parts = append(parts, `scope="`+readNotes)
	}
	for _, part := range parts {
		if got.status != status || !strings.Contains(got.challenge, part) {
			t.Errorf("a token %s: %+v, want %d with %s", what, got, status, part)
		}
	}
}

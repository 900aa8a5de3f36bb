package e2e_test

import (
	"bytes"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

var record = flag.String("record", "", "the profile in testdata/clients to record anew, by running its client")

// TestRecordClient runs the commands at the head of a profile, which start a
// client, keeps what the client sends, and writes the profile anew. It is run by
// hand: testdata/clients/README.md says how.
func TestRecordClient(t *testing.T) {
	if *record == "" {
		t.Skip("run with -record NAME, to record a client")
	}
	path := filepath.Join("testdata", "clients", *record+".txtar")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	prof := parseProfile(path, string(text))
	documents := newPublisher(t)
	p, todo := dev(t, database{name: "sqlite"}, documents.authority)
	if len(prof.head["cimd"]) > 0 { // "cimd: off"
		p.run(t, nil, "project", "set", "cimd", prof.first("cimd"))
		p.awaitMetadata(t, func(metadata string) bool {
			return !strings.Contains(metadata, `"client_id_metadata_document_supported":true`)
		})
	}
	r := &recorder{cast: newCast(t, p, todo, documents, prof), prof: prof, opened: map[string]bool{}}
	issuer, resource := r.front("issuer"), r.front("resource")
	r.run(issuer, resource)

	head, _, _ := strings.Cut(prof.text, "\n-- ")
	out := strings.TrimRight(head, "\n") + "\n\n"
	for _, section := range prof.parts {
		if strings.HasPrefix(section.name, "document ") {
			out += "-- " + section.name + " --\n" + section.text
		}
	}
	for _, step := range r.steps {
		out += "-- " + step[0].name + " --\n" + step[0].text + "-- answer --\n" + step[1].text
	}
	if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
}

// recorder stands between a client and both servers. The client sees them at the
// recorder's ports, and everything that says where they are is rewritten on
// its way; so the servers need not know.
type recorder struct {
	*cast
	prof profile

	mu     sync.Mutex
	swaps  [][2]string // what the client sees, what the servers see
	steps  [][2]part
	opened map[string]bool
}

// front listens for one of the servers, and returns the address for clients.
func (r *recorder) front(name string) string {
	port := freePort(r.T)
	real, err := url.Parse(r.origins[name])
	if err != nil {
		r.Fatal(err)
	}
	for _, colon := range []string{":", "%3A", "%3a"} {
		r.swaps = append(r.swaps, [2]string{"localhost" + colon + port, "localhost" + colon + real.Port()})
	}
	if id := r.prof.first("client-id"); id != "" && name == "issuer" { // its document stands with us
		own := r.names.fill(r.prof.first("stands-in"))
		r.swaps = append(r.swaps, [2]string{id, own}, [2]string{url.QueryEscape(id), url.QueryEscape(own)})
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) { r.forward(name, w, in) })}
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		if l, err := net.Listen("tcp", host+":"+port); err == nil {
			go server.Serve(l)
		}
	}
	r.Cleanup(func() { server.Close() })
	return "http://localhost:" + port
}

// inward and outward rewrite what goes to the servers and to the client.
func (r *recorder) inward(text string) string {
	for _, s := range r.swaps {
		text = strings.ReplaceAll(text, s[0], s[1])
	}
	return text
}

func (r *recorder) outward(text string) string {
	for _, s := range r.swaps {
		text = strings.ReplaceAll(text, s[1], s[0])
	}
	return text
}

// unsaid are the headers that tell nothing about a client, or that the server
// of a profile's test must not get as they were.
var unsaid = []string{"Host", "Connection", "Content-Length", "Accept-Encoding", "Traceparent", "Tracestate", "Baggage", "Keep-Alive", "Transfer-Encoding"}

func (r *recorder) forward(name string, w http.ResponseWriter, in *http.Request) {
	body, err := io.ReadAll(in.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	target, sent := r.inward(in.URL.RequestURI()), r.inward(string(body))
	out, err := http.NewRequestWithContext(in.Context(), in.Method, r.origins[name]+target, strings.NewReader(sent))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	for key, values := range in.Header {
		if !slices.Contains(unsaid, key) {
			out.Header[key] = []string{r.inward(values[0])}
		}
	}
	if in.Header.Get("User-Agent") == "" {
		out.Header["User-Agent"] = nil
	}
	resp, err := clientTransport.RoundTrip(out)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	for key, values := range resp.Header {
		if key != "Content-Length" {
			w.Header()[key] = []string{r.outward(values[0])}
		}
	}
	if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream") && in.Method == http.MethodGet {
		r.keep(name, target, out, sent, resp, nil)
		w.WriteHeader(resp.StatusCode)
		http.NewResponseController(w).Flush()
		io.Copy(w, resp.Body)
		return
	}
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	r.keep(name, target, out, sent, resp, answer)
	text := r.outward(string(answer))
	if seconds := r.prof.first("expires-in"); seconds != "" && strings.HasSuffix(in.URL.Path, "/token") {
		// The client believes that its token ends at once, so that it refreshes.
		text = regexp.MustCompile(`"expires_in":\s*\d+`).ReplaceAllString(text, `"expires_in":`+seconds)
	}
	w.WriteHeader(resp.StatusCode)
	io.WriteString(w, text)
}

// keep notes a request with its answer.
func (r *recorder) keep(name, target string, out *http.Request, sent string, resp *http.Response, answer []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var text strings.Builder
	path, query, _ := strings.Cut(target, "?")
	fmt.Fprintf(&text, "%s %s\n%s", out.Method, path, parameters(query))
	keys := []string{}
	for key := range out.Header {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		value := out.Header.Get(key)
		if encoded, basic := strings.CutPrefix(value, "Basic "); basic {
			if credentials, err := base64.StdEncoding.DecodeString(encoded); err == nil {
				value = "Basic " + string(credentials)
			}
		}
		if value != "" {
			fmt.Fprintf(&text, "%s: %s\n", key, value)
		}
	}
	if strings.HasPrefix(out.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		sent = strings.ReplaceAll(sent, "&", "\n&")
	}
	if sent != "" {
		fmt.Fprintf(&text, "\n%s\n", sent)
	}
	r.learn(text.String())
	r.steps = append(r.steps, [2]part{
		{name, r.names.hide(text.String())},
		{"answer", r.names.hide(summary(path, resp.StatusCode, resp.Header, answer)) + "\n"},
	})
}

// parameters writes a query with each parameter on a line.
func parameters(query string) string {
	var out strings.Builder
	for i, pair := range strings.Split(query, "&") {
		if pair != "" {
			fmt.Fprintf(&out, "    %c%s\n", "?&"[min(i, 1)], pair)
		}
	}
	return out.String()
}

var invented = regexp.MustCompile(`(?m)[?&\s](state|nonce|code_challenge|code_verifier)=([^&\s]+)`)

// learn gives names to what the client made up.
func (r *recorder) learn(text string) {
	for _, m := range invented.FindAllStringSubmatch(text, -1) {
		switch m[1] {
		case "code_challenge":
			r.names.add("challenge", m[2])
		case "code_verifier":
			r.names.add("verifier", m[2])
		default:
			r.names.add(m[1], m[2])
		}
	}
}

// open is what the browser of this computer does with an authorization request,
// as it stands before the servers.
func (r *recorder) open(address string) handover {
	u, err := url.Parse(address)
	if err != nil {
		r.Error(err)
		return handover{}
	}
	h := r.visit(address)
	r.mu.Lock()
	defer r.mu.Unlock()
	text := "GET " + u.Path + "\n" + parameters(u.RawQuery)
	r.learn(text)
	r.steps = append(r.steps, [2]part{{"browser", r.names.hide(text)}, {"answer", r.names.hide(h.String()) + "\n"}})
	return h
}

// run runs the client's commands, and opens what they want a browser for.
func (r *recorder) run(issuer, resource string) {
	home := r.TempDir()
	wanted := filepath.Join(home, "browser-was-asked")
	for _, name := range []string{"xdg-open", "open", "sensible-browser", "www-browser"} {
		script := "#!/bin/sh\nfor a in \"$@\"; do echo \"$a\"; done >>" + wanted + "\n"
		if err := os.WriteFile(filepath.Join(home, name), []byte(script), 0o755); err != nil {
			r.Fatal(err)
		}
	}
	env := []string{
		"HOME=" + home, "PATH=" + home + ":" + filepath.Join(os.Getenv("POSTERN_CLIENTS"), "node_modules", ".bin") + ":" + os.Getenv("PATH"), "BROWSER=" + filepath.Join(home, "xdg-open"),
		"DISPLAY=:99", "MCP_URL=" + resource + "/mcp", "ISSUER=" + issuer, "CALLBACK_PORT=" + freePort(r.T), "GOMODCACHE=" + goEnv(r.T, "GOMODCACHE"),
		"GOCACHE=" + goEnv(r.T, "GOCACHE"), "CLIENTS=" + os.Getenv("POSTERN_CLIENTS"),
	}
	here, err := os.Getwd()
	if err != nil {
		r.Fatal(err)
	}
	env = append(env, "DRIVERS="+filepath.Join(here, "testdata", "clients"))
	for _, command := range r.prof.head["command"] {
		out := new(output)
		cmd := exec.CommandContext(r.Context(), "sh", "-c", command)
		cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = env, home, out, out
		cmd.WaitDelay = time.Second
		if err := cmd.Start(); err != nil {
			r.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		err, patience := error(nil), time.After(60*time.Second)
	waiting:
		for {
			select {
			case err = <-ended:
				break waiting
			case <-patience:
				_ = cmd.Process.Kill() // a proxy or a page that never ends
				err = <-ended
				break waiting
			case <-time.After(100 * time.Millisecond):
				r.browse(issuer, out.String(), wanted)
			}
		}
		r.Logf("%s: %v\n%s", command, err, tail(out.String(), 3000))
	}
}

var printed = regexp.MustCompile(`https?://[^\s"'<>\x1b\x07]+`)

// browse opens each authorization request that was printed, or that a browser
// was asked for, and carries the answer to the client.
func (r *recorder) browse(issuer, said, wanted string) {
	asked, _ := os.ReadFile(wanted) // none yet
	for _, address := range printed.FindAllString(said+"\n"+string(bytes.ToValidUTF8(asked, nil)), -1) {
		if !strings.HasPrefix(address, issuer+"/oauth/authorize?") || r.opened[address] || !strings.Contains(address, "code_challenge_method=") {
			continue
		}
		r.opened[address] = true
		h := r.open(r.inward(address))
		resp, err := http.Get(r.outward(h.target))
		for tries := 0; err != nil && tries < 50; tries++ { // some listen only after they opened the browser
			time.Sleep(100 * time.Millisecond)
			resp, err = http.Get(r.outward(h.target))
		}
		if err != nil {
			r.Logf("nobody is at %s: %v", h.target, err)
			continue
		}
		resp.Body.Close()
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

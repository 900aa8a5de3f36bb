package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// From an empty folder to the first tool call with nothing but the commands
// that the server and the commands before name; then the door is shut to
// clients that nobody registered. The server runs all the time.
func TestServeFromNothing(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		p := serve(t, db)
		said := func() bool {
			out := p.out.String()
			return strings.Contains(out, "There is no project yet") && strings.Contains(out, "postern project create")
		}
		for deadline := time.Now().Add(10 * time.Second); !said() && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
		}
		if !said() {
			t.Errorf("the server does not say what to do next:\n%s", p.out.String())
		}
		status, body, err := fetch(t.Context(), http.MethodGet, p.issuer+metadataPath, nil)
		if err != nil || status != http.StatusMisdirectedRequest || !strings.Contains(body, "postern project create") {
			t.Errorf("metadata without a project: %d %s, %v", status, body, err)
		}

		var project struct {
			ID          string `json:"project_id"`
			Issuer      string
			PublicToken string `json:"public_token"`
			Secret      string `json:"project_secret"`
		}
		p.run(t, &project, "project", "create", "Todo")
		if project.Issuer != p.issuer || project.ID == "" || project.PublicToken == "" || project.Secret == "" {
			t.Errorf("project create printed %+v", project)
		}
		p.await(t, p.issuer+"/readyz")
		address := p.todo(t)
		var added resource
		p.run(t, &added, "resource", "add", address+"/mcp") // which asks the server for its scopes
		if !cmp.Equal(added.Scopes, []string{readTodos, writeTodos}) {
			t.Errorf("resource add found the scopes %q", added.Scopes)
		}
		p.awaitMetadata(t, naming(added.URI))

		ada := newPerson(t, p, "ada@example.test")
		a := newApp(t, ada, byPreregistered, nil)
		session := a.mustConnect(address + "/mcp")
		var created struct{ Todo struct{ Text string } }
		if err := call(t, session, "createTodo", map[string]any{"todoText": "Water the lemon tree"}, &created); err != nil {
			t.Fatal(err)
		}

		// A registration, as one without the switch would be.
		register := func() answer {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.issuer+"/v1/oauth2/register",
				strings.NewReader(`{"client_name":"Anybody","redirect_uris":["http://127.0.0.1:1/callback"],"token_endpoint_auth_method":"none"}`))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			status, body, err := roundTrip(http.DefaultClient, r)
			return must(t, answer{status, body}, err)
		}
		if a := register(); a.status != http.StatusCreated {
			t.Errorf("with dynamic registration: %d %s", a.status, a.body)
		}
		if _, err := p.command(t, "project", "set", "dynamic-registration", "off"); err != nil {
			t.Fatal(err)
		}
		off := time.Now()
		p.awaitMetadata(t, func(metadata string) bool { return !strings.Contains(metadata, "registration_endpoint") })
		t.Logf("registration was no longer offered %v after the command ended", time.Since(off).Round(time.Millisecond))
		if a := register(); a.status/100 != 4 || !strings.Contains(a.body, "dynamic-registration on") {
			t.Errorf("without dynamic registration: %d %s", a.status, a.body)
		}
		if _, err := newApp(t, ada, byRegistration, nil).connect(address + "/mcp"); err == nil {
			t.Error("an app that nobody registered got in")
		}
		a.wallet.expire()
		if got := todos(t, session); !cmp.Equal(got, []string{"Water the lemon tree"}) {
			t.Errorf("the registered app sees %q", got)
		}
	})
}

// What a request says about its own address decides nothing: not the issuer in
// documents, not where a person is sent, not where a cookie lives.
//
// Proves: MCP-AS-3.
func TestForgedHost(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		c, _, _ := startClient(t, db)
		authorize := "/oauth/authorize?" + url.Values{
			"response_type": {"code"}, "client_id": {c.id}, "redirect_uri": {c.callback}, "state": {"s"}, "resource": {c.resource},
			"code_challenge": {strings.Repeat("a", 43)}, "code_challenge_method": {"S256"},
		}.Encode()
		direct := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		}}
		ask := func(path string, header ...string) (*http.Response, string) {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.issuer+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := 0; i < len(header); i += 2 {
				if header[i] == "Host" {
					r.Host = header[i+1]
				}
				r.Header.Set(header[i], header[i+1])
			}
			resp, err := direct.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			var text strings.Builder
			if err := resp.Header.Write(&text); err != nil {
				t.Fatal(err)
			}
			_, err = bufio.NewReader(resp.Body).WriteTo(&text)
			if err != nil {
				t.Fatal(err)
			}
			return resp, text.String()
		}
		for _, path := range []string{metadataPath, "/.well-known/openid-configuration", authorize, "/connected-apps"} {
			for _, host := range []string{"evil.example", "evil.example:4000", "localhost", "localhost.evil.example", strings.Replace(c.issuer, "http://localhost", "evil.example", 1)} {
				if resp, text := ask(path, "Host", host); resp.StatusCode != http.StatusMisdirectedRequest || strings.Contains(text, "evil.example") || resp.Header.Get("Set-Cookie") != "" {
					t.Errorf("%s with Host %s: %d\n%s", path, host, resp.StatusCode, text)
				}
			}
			plain, _ := ask(path)
			forged, text := ask(path, "X-Forwarded-Host", "evil.example", "X-Forwarded-Proto", "https", "X-Forwarded-For", "203.0.113.9",
				"X-Forwarded-Port", "443", "X-Forwarded-Prefix", "/evil.example", "Forwarded", "host=evil.example;proto=https", "X-Real-Ip", "203.0.113.9", "X-Original-Url", "/evil.example")
			if forged.StatusCode != plain.StatusCode || strings.Contains(text, "evil.example") || strings.Contains(text, "https://localhost") {
				t.Errorf("%s with forged X-Forwarded headers: %d, without: %d\n%s", path, forged.StatusCode, plain.StatusCode, text)
			}
			if strings.Contains(forged.Header.Get("Set-Cookie"), "Secure") != strings.Contains(plain.Header.Get("Set-Cookie"), "Secure") {
				t.Errorf("%s: a forged scheme changes the cookie: %s", path, forged.Header.Get("Set-Cookie"))
			}
		}
		if strings.Contains(c.out.String(), "203.0.113.9") {
			t.Error("a forged address of the client is in the log")
		}
	})
}

// Asked to end, the server takes no new connection, answers the request that
// it is in the middle of, and ends with status 0.
func TestGracefulShutdown(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		c, _, ada := startClient(t, db)
		a, err := c.redeem(t.Context(), c.allow(t, ada))
		first := must(t, a, err).tokens(t)
		form := url.Values{"grant_type": {"refresh_token"}, "client_id": {c.id}, "refresh_token": {first.Refresh}}.Encode()

		host := strings.TrimPrefix(c.issuer, "http://")
		conn, err := net.Dial("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		head := fmt.Sprintf("POST /v1/oauth2/token HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", host, len(form))
		if _, err := conn.Write([]byte(head + form[:10])); err != nil {
			t.Fatal(err)
		}
		answers := bufio.NewReader(conn)
		// It is in the middle when it asks for the rest; before it has read the head
		// it would hang up.
		if more, err := http.ReadResponse(answers, nil); err != nil || more.StatusCode != http.StatusContinue {
			t.Fatalf("%v, %v", more, err)
		}
		if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		closed := false
		for deadline := time.Now().Add(5 * time.Second); !closed && time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			other, err := net.Dial("tcp", host)
			if closed = err != nil; !closed {
				other.Close()
			}
		}
		if !closed {
			t.Error("new connections are accepted 5 s after SIGTERM")
		}
		select {
		case <-c.ended:
			t.Fatal("the server ended in the middle of a request")
		default:
		}
		if _, err := conn.Write([]byte(form[10:])); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var got tokens
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || resp.StatusCode != http.StatusOK || got.Refresh == "" {
			t.Errorf("the request that was open: %s, %v", resp.Status, err)
		}
		select {
		case <-c.ended:
			if c.err != nil {
				t.Errorf("the server ended with %v", c.err)
			}
		case <-time.After(10 * time.Second):
			t.Error("10 s after the last answer the server still runs")
		}
		c.restart(t)
		a, err = c.refresh(t.Context(), got.Refresh)
		must(t, a, err).tokens(t)
	})
}

// Start-up and memory are reported, and bounded so that only a blunder fails
// here; bench measures them.
func TestFootprint(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the resident memory is read from /proc")
	}
	eachDatabase(t, func(t *testing.T, db database) {
		p := serveProject(t, db)
		var took []time.Duration
		for range 5 {
			p.stop(t)
			begin := time.Now()
			p.process = start(t, p.dir, p.env, "postern", "serve")
			for {
				if status, _, err := fetch(t.Context(), http.MethodGet, p.issuer+metadataPath, nil); err == nil && status == http.StatusOK {
					break
				}
				if time.Since(begin) > 10*time.Second {
					t.Fatal("no metadata 10 s after the start")
				}
				time.Sleep(time.Millisecond)
			}
			took = append(took, time.Since(begin))
		}
		slices.Sort(took)
		p.await(t, p.issuer+"/readyz")
		t.Logf("%s, existing data: start to first metadata answer %v (median of %d; %v to %v)", db.name, took[2].Round(time.Millisecond), len(took), took[0].Round(time.Millisecond), took[4].Round(time.Millisecond))
		if took[2] > time.Second {
			t.Errorf("start to first metadata answer takes %v", took[2])
		}
		kib := resident(t, p.cmd.Process.Pid)
		t.Logf("%s: idle resident memory %d MiB", db.name, kib>>10)
		if kib > 100<<10 {
			t.Errorf("idle resident memory is %d KiB", kib)
		}
	})
	t.Run("fresh folder", func(t *testing.T) {
		port := freePort(t)
		begin := time.Now()
		start(t, t.TempDir(), environment("POSTERN_PORT="+port), "postern", "dev")
		for {
			if status, _, err := fetch(t.Context(), http.MethodGet, "http://localhost:"+port+metadataPath, nil); err == nil && status == http.StatusOK {
				break
			}
			if time.Since(begin) > 10*time.Second {
				t.Fatal("no metadata 10 s after the start")
			}
			time.Sleep(time.Millisecond)
		}
		took := time.Since(begin)
		t.Logf("postern dev, fresh folder: start to first metadata answer %v", took.Round(time.Millisecond))
		if took > 2*time.Second {
			t.Errorf("start to first metadata answer on a fresh folder takes %v", took)
		}
	})
}

// resident is the resident memory of a process in KiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

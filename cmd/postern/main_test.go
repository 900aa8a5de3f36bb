package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"

	"github.com/postern-id/postern/internal/servertest"
)

// The scripts in testdata run the real command. Beside "postern" they have a
// picture in logo.png and these commands:
//
//	get URL                     prints status and body, and fails above 399
//	child [okr]                 what "postern dev" starts: a server on TODO_PORT, or on OKR_PORT
//	await URL                   waits until URL answers 200
//	await-text FILE PATTERN     waits until the pattern is in a file that is being written
//	resource-server [not-it]    starts an MCP server's metadata; its address is $MCP
//	resource-server [protected ISSUER]  the same with a server that refuses every token
//	sign-in ISSUER EMAIL URL    signs in at a running "postern dev" and allows the client that opens URL
//	claim URL SECRET EMAIL [KEY]  makes an administrator by a one-time link, and a workspace key of theirs
//	keep NAME PATTERN           puts what the pattern's group matched in the last output into $NAME
//	database                    makes an empty PostgreSQL database, in $POSTERN_DATABASE
//	times N PATTERN             the last output has the pattern so often
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"postern": main, "get": get, "child": child})
}

// writeLogo makes the picture that the scripts give to a project.
func writeLogo(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(png.Encode(f, image.NewNRGBA(image.Rect(0, 0, 16, 16))), f.Close())
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:           "testdata",
		UpdateScripts: os.Getenv("UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			for _, name := range []string{"PORT", "PORT2", "TODO_PORT", "POSTERN_B2B_PORT", "OKR_PORT"} {
				port, err := freePort()
				if err != nil {
					return err
				}
				e.Setenv(name, port)
			}
			e.Setenv("POSTERN_PORT", e.Getenv("PORT"))
			return writeLogo(filepath.Join(e.WorkDir, "logo.png"))
		},
		Condition: func(name string) (bool, error) {
			if name == "postgres" {
				return os.Getenv(servertest.PostgresVariable) != "", nil
			}
			return false, fmt.Errorf("unknown condition %q", name)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"await": await, "await-text": awaitText, "resource-server": resourceServer, "sign-in": signIn(t), "claim": claim(t), "keep": keep, "times": times,
			"database": func(ts *testscript.TestScript, _ bool, _ []string) {
				ts.Setenv("POSTERN_DATABASE", servertest.NewDatabase(t))
			},
		},
	})
}

func freePort() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port), nil
}

// get is the command of the same name.
func get() {
	response, err := http.Get(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	body, _ := io.ReadAll(response.Body) // what came is what is printed
	fmt.Println(response.StatusCode, string(body))
	if response.StatusCode > 399 {
		os.Exit(1)
	}
}

// child is the command of the same name.
func child() {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	mine, names := "TODO", []string{"POSTERN_ISSUER", "TODO_URL", "TODO_CLIENT_ID", "DEMO_CLIENT_ID"}
	if len(os.Args) > 1 {
		mine, names = "OKR", []string{"OKR_ISSUER", "OKR_URL", "OKR_CLIENT_ID"}
	}
	for _, name := range names {
		fmt.Printf("before %s\n", os.Getenv(name))
	}
	time.Sleep(100 * time.Millisecond) // whoever reads the lines has them before we answer
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/call", func(http.ResponseWriter, *http.Request) {
		fmt.Println("call createTodo by", os.Getenv(mine+"_CLIENT_ID"), "at", os.Getenv(names[0]))
	})
	l, err := net.Listen("tcp", "127.0.0.1:"+os.Getenv(mine+"_PORT"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go http.Serve(l, nil)
	<-stop
	fmt.Fprintln(os.Stderr, "child of", mine, "ends")
}

func await(ts *testscript.TestScript, _ bool, args []string) {
	for range 200 {
		response, err := http.Get(args[0])
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return
			}
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s does not answer 200", args[0])
}

func awaitText(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[1])
	for range 200 {
		if text, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && pattern.Match(text) {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	ts.Fatalf("%s never has %s", args[0], args[1])
}

func resourceServer(ts *testscript.TestScript, _ bool, args []string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		issuer := "http://localhost:4000"
		if len(args) > 1 && args[0] == "protected" {
			if issuer = args[1]; r.URL.Path == "/mcp" {
				code := ""
				if r.Header.Get("Authorization") != "" {
					code = `error="invalid_token", `
				}
				w.Header().Set("WWW-Authenticate", "Bearer "+code+`resource_metadata="http://`+r.Host+`/.well-known/oauth-protected-resource/mcp"`)
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
		}
		root := len(args) > 0 && args[0] == "at-root"
		if want := map[bool]string{false: "/.well-known/oauth-protected-resource/mcp", true: "/.well-known/oauth-protected-resource"}[root]; r.URL.Path != want {
			http.NotFound(w, r)
			return
		}
		resource := "http://" + r.Host + "/mcp"
		if len(args) > 0 && args[0] == "not-it" {
			resource = "https://other.example.com/mcp"
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(map[string]any{
			"resource": resource, "resource_name": "Notes", "authorization_servers": []string{issuer},
			"scopes_supported": []string{"read:notes", "write:notes", "notes.list", "delete:notes", "not one"},
			"scope_details":    []map[string]any{{"name": "write:notes", "description": "Change your notes", "write": true}},
		})
	}))
	ts.Defer(s.Close)
	ts.Setenv("MCP", s.URL+"/mcp")
}

// claim opens a one-time link, given by its secret, at a deployment and makes an
// administrator of an address.
func claim(t *testing.T) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(_ *testscript.TestScript, _ bool, args []string) {
		b := servertest.NewBrowser(t, args[0], nil)
		b.Claim(t, args[1], args[2], time.Now())
		if len(args) > 3 {
			keys := b.Get(t, b.Get(t, "/dashboard").URL.Path+"/keys")
			b.Submit(t, keys, "expires", url.Values{"action": {"create"}, "name": {args[3]}})
		}
	}
}

func signIn(t *testing.T) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, _ bool, args []string) {
		issuer, email, address := args[0], args[1], args[2]
		b := servertest.NewBrowser(t, issuer, func(t testing.TB, to string) string {
			for range 500 {
				response, err := http.Get(issuer + "/dev/mailbox.json")
				if err != nil {
					ts.Fatalf("mailbox: %v", err)
				}
				var mails []struct{ To, Code string }
				err = json.NewDecoder(response.Body).Decode(&mails)
				response.Body.Close()
				if err != nil {
					ts.Fatalf("mailbox: %v", err)
				}
				for _, m := range mails {
					if m.To == to && m.Code != "" {
						return m.Code
					}
				}
				time.Sleep(10 * time.Millisecond)
			}
			ts.Fatalf("no code for %s", to)
			return ""
		})
		page := b.SignIn(t, b.Get(t, address), email)
		b.Allow(t, page)
	}
}

func keep(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("nothing matches %s", args[1])
	}
	ts.Setenv(args[0], m[1])
}

func times(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range []string{"stdout", "stderr"} {
		if got := len(regexp.MustCompile("(?m)"+args[1]).FindAllString(ts.ReadFile(name), -1)); got > 0 {
			if strconv.Itoa(got) != args[0] {
				ts.Fatalf("%s has %q %d times, not %s", name, args[1], got, args[0])
			}
			return
		}
	}
	ts.Fatalf("nothing matches %s", args[1])
}

// Every setting has one name in three spellings, and each of them works.
func TestEverySetting(t *testing.T) {
	wants := Defaults()
	for _, s := range wants.settings() {
		t.Run(s.key, func(t *testing.T) {
			text := map[string]string{"mail.port": "2525", "database_connections": "3", "migrate": "true", "behind_proxy": "10.1.0.0/16, 10.2.0.0/16"}[s.key]
			if text == "" {
				text = "some-" + s.key
			}
			if strings.HasSuffix(s.key, "_file") && s.key != "master_key_file" {
				file := t.TempDir() + "/file"
				if err := os.WriteFile(file, []byte("from the file\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				text = file
			}
			environ := func(name string) (string, bool) { return text, name == s.env() }
			c, problems := loadConfig(newFlags(), environ)
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if i := slices.IndexFunc(c.settings(), func(got setting) bool { return got.key == s.key }); reflect.DeepEqual(c.settings()[i].value.Interface(), s.value.Interface()) {
				t.Errorf("%s=%s changed nothing", s.env(), text)
			}
			if s.secret {
				if newFlags().Lookup(s.flag()) != nil {
					t.Error("a secret can be given on the command line, where everybody can read it")
				}
				return
			}
			flags := newFlags()
			if err := flags.Parse([]string{"--" + s.flag() + "=" + text}); err != nil {
				t.Fatal(err)
			}
			byFlag, problems := loadConfig(flags, func(string) (string, bool) { return "", false })
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			a, _ := json.Marshal(c)
			b, _ := json.Marshal(byFlag)
			if !bytes.Equal(a, b) {
				t.Errorf("environment and flag differ:\n%s\n%s", a, b)
			}
		})
	}
}

// newFlags has a flag for every setting that may have one.
func newFlags() *pflag.FlagSet {
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	addFlags(flags)
	return flags
}

// The guide lists every setting as the binary knows it.
func TestGuideListsEverySetting(t *testing.T) {
	c := Defaults()
	var b strings.Builder
	b.WriteString("| setting | environment | flag | default | what |\n|---|---|---|---|---|\n")
	for _, s := range c.settings() {
		flag := "`--" + s.flag() + "`"
		if s.secret {
			flag = "none: secret"
		}
		value := s.text()
		if value != "" {
			value = "`" + value + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", s.key, s.env(), flag, value, s.usage)
	}
	const path = "../../docs/guide/configuration.md"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin, end = "<!-- settings: made by go test ./cmd/postern with UPDATE=1 -->\n", "<!-- end of settings -->"
	head, rest, found := strings.Cut(string(text), begin)
	table, tail, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no place for the settings", path)
	}
	if table == b.String() {
		return
	}
	if os.Getenv("UPDATE") == "" {
		t.Fatalf("%s is not up to date: UPDATE=1 go test ./cmd/postern", path)
	}
	if err := os.WriteFile(path, []byte(head+begin+b.String()+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPrintableKeepsTheTerminalStraight(t *testing.T) {
	if got := printable("a\x1b[31mb\u202ec\nd\u009be"); strings.ContainsAny(got, "\x1b\n\u202e\u009b") {
		t.Errorf("got %q", got)
	}
}

func TestColoursOnlyOnATerminal(t *testing.T) {
	var b bytes.Buffer
	plain := newTerminal(&b)
	plain.table([]string{"A", "B"}, [][]string{{plain.green("1"), "2"}})
	if got := b.String(); got != "  A   B\n  1   2\n" {
		t.Errorf("got %q", got)
	}
	b.Reset()
	coloured := terminal{Writer: &b, color: true}
	coloured.table([]string{"A", "B"}, [][]string{{coloured.green("1"), "2"}})
	if got := escapes.ReplaceAllString(b.String(), ""); got != "  A   B\n  1   2\n" || !strings.Contains(b.String(), "\x1b[32m") {
		t.Errorf("got %q", b.String())
	}
}

// The commands of a development server write to one log, at once.
func TestTwoCommandsWrite(t *testing.T) {
	var log bytes.Buffer
	last := &lastLine{Writer: &log}
	var both sync.WaitGroup
	for _, name := range []string{"todo", "okr"} {
		both.Go(func() {
			for range 200 {
				if _, err := fmt.Fprintf(last, "%s: it failed\n", name); err != nil {
					t.Error(err)
				}
				last.lines()
			}
		})
	}
	both.Wait()
	whole := regexp.MustCompile(`^(todo|okr): it failed$`)
	written := strings.Split(strings.TrimSpace(log.String()), "\n")
	for _, line := range append(written, last.lines()...) {
		if !whole.MatchString(line) {
			t.Errorf("%q is not a line", line)
		}
	}
	if len(written) != 400 || len(last.lines()) != 3 {
		t.Errorf("%d lines were written, %d are the last", len(written), len(last.lines()))
	}
}

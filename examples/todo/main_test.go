package main

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestSettings(t *testing.T) {
	t.Chdir(t.TempDir())
	local := []string{"127.0.0.1:3000", "[::1]:3000"}
	for _, test := range []struct {
		name string
		env  map[string]string
		url  string
		on   []string
		data string
	}{
		{"none", nil, "http://localhost:3000", local, "todo.db"},
		{"port", map[string]string{"TODO_PORT": "3100"}, "http://localhost:3100", []string{"127.0.0.1:3100", "[::1]:3100"}, "todo.db"},
		{"local URL", map[string]string{"TODO_URL": "http://localhost:8081"}, "http://localhost:8081", []string{"127.0.0.1:8081", "[::1]:8081"}, "todo.db"},
		{"public URL", map[string]string{"TODO_URL": "https://todo.example.com"}, "https://todo.example.com", []string{"127.0.0.1:3000"}, "todo.db"},
		{"address", map[string]string{"TODO_LISTEN": "0.0.0.0:80", "TODO_DATA": "/data/t.db"}, "http://localhost:3000", []string{"0.0.0.0:80"}, "/data/t.db"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := readSettings(func(name string) string {
				if name == "TODO_CLIENT_ID" {
					return "web"
				}
				return test.env[name]
			})
			if err != nil {
				t.Fatal(err)
			}
			if set.url.String() != test.url || !cmp.Equal(set.listen, test.on) || set.data != test.data || set.issuer != "http://localhost:4000" {
				t.Errorf("%s on %q, data in %s, issuer %s", set.url, set.listen, set.data, set.issuer)
			}
		})
	}
	if err := os.Mkdir(".postern", 0o700); err != nil {
		t.Fatal(err)
	}
	set, err := readSettings(func(name string) string { return map[string]string{"TODO_CLIENT_ID": "web"}[name] })
	if err != nil || set.data != filepath.Join(".postern", "todo.db") {
		t.Errorf("beside .postern: %q, %v", set.data, err)
	}
	for name, env := range map[string]map[string]string{
		"TODO_CLIENT_ID": {},
		"TODO_URL":       {"TODO_CLIENT_ID": "web", "TODO_URL": "https://todo.example.com/app"},
	} {
		if _, err := readSettings(func(name string) string { return env[name] }); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s wrong: %v", name, err)
		}
	}
}

// With the resource server's own credentials the issuer is asked about every
// token: one that was taken back is refused before it ends.
func TestIntrospection(t *testing.T) {
	s := startTodo(t)
	own := s.issuer.Introspection()
	for _, test := range []struct {
		name, id, secret string
		want             int // answers a token that was taken back; 0: the settings are refused
	}{
		{"with both", own.ID, own.Secret, http.StatusUnauthorized},
		{"without", "", "", http.StatusOK},
		{"id alone", own.ID, "", 0},
		{"secret alone", "", own.Secret, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			set, err := readSettings(func(name string) string {
				return map[string]string{
					"TODO_URL": s.URL, "POSTERN_ISSUER": s.issuer.URL, "TODO_CLIENT_ID": "web",
					"TODO_INTROSPECTION_ID": test.id, "TODO_INTROSPECTION_SECRET": test.secret,
				}[name]
			})
			if test.want == 0 {
				if err == nil || !strings.Contains(err.Error(), "belong together") {
					t.Errorf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			handler, err := newHandler(set, s.service)
			if err != nil {
				t.Fatal(err)
			}
			token := s.token("ada", readTodos)
			s.issuer.Revoke(token)
			r, w := httptest.NewRequest(http.MethodGet, s.URL+"/api/todos", nil), httptest.NewRecorder()
			r.Header.Set("Authorization", "Bearer "+token)
			if handler.ServeHTTP(w, r); w.Code != test.want {
				t.Errorf("a token that was taken back: %d %s", w.Code, w.Body)
			}
		})
	}
}

func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_, err = listen([]string{l.Addr().String()})
	if want := "another program listens on port " + port + "; choose another with TODO_PORT"; err == nil || err.Error() != want {
		t.Errorf("error %v, want %q", err, want)
	}
}

// A computer without the second address does with the first.
func TestMissingAddress(t *testing.T) {
	listeners, err := listen([]string{"127.0.0.1:0", "[2001:db8::1]:0"})
	if err != nil || len(listeners) != 1 {
		t.Fatalf("%d listeners, %v", len(listeners), err)
	}
	listeners[0].Close()
	if _, err := listen([]string{"[2001:db8::1]:0"}); err == nil {
		t.Error("no address at all is no error")
	}
}

// An open event stream does not keep the program from ending.
func TestShutdownWithAnOpenStream(t *testing.T) {
	s := startTodo(t)
	listeners, err := listen([]string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, listeners, s.Config.Handler) }()

	r, err := http.NewRequest(http.MethodGet, "http://"+listeners[0].Addr().String()+"/sse", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = strings.TrimPrefix(s.URL, "http://")
	r.Header.Set("Authorization", "Bearer "+s.token("ada", readTodos))
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("stream: %d", resp.StatusCode)
	}
	start := time.Now()
	stop()
	select {
	case err := <-ended:
		if err != nil || time.Since(start) > 2*time.Second {
			t.Errorf("ended after %v with %v", time.Since(start), err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("still running")
	}
}

// The design tokens are the product's, byte for byte.
func TestTokensAreTheProducts(t *testing.T) {
	want, err := os.ReadFile("../../internal/web/static/tokens.css")
	if err != nil {
		t.Skip("the product's source is not beside the examples")
	}
	got, err := files.ReadFile("static/tokens.css")
	if err != nil || string(got) != string(want) {
		t.Error("static/tokens.css differs from internal/web/static/tokens.css: copy it again")
	}
}

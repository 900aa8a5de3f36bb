package client_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/client"
)

func at(server string) client.Config {
	return client.Config{Server: server, ProjectID: "project-test-1", KeyID: "workspace-key-prod-1", Secret: "pst_wk_secret", Version: "1.0"}
}

// The secret goes nowhere in clear but to this computer.
func TestServers(t *testing.T) {
	for server, good := range map[string]bool{
		"https://auth.example.com": true, "https://auth.example.com/": true, "http://localhost:4001": true,
		"https://auth.example.com/tenant1": true, "http://127.0.0.1": true, "http://[::1]:4001": true, " https://auth.example.com:8443 ": true,

		"": false, "auth.example.com": false, "http://auth.example.com": false, "http://localhost.evil.test": false,
		"http://127.0.0.1.evil.test": false, "ftp://auth.example.com": false, "https://u:p@auth.example.com": false,
		"https://auth.example.com?a": false, "https://auth.example.com#a": false, "https://": false,
	} {
		if _, err := client.New(at(server)); (err == nil) != good {
			t.Errorf("%q: %v", server, err)
		}
	}
	for name, change := range map[string]func(*client.Config){
		"no project": func(c *client.Config) { c.ProjectID = "" }, "no key": func(c *client.Config) { c.KeyID = "" },
		"no secret": func(c *client.Config) { c.Secret = "" }, "a key with a colon": func(c *client.Config) { c.KeyID = "a:b" },
	} {
		c := at("https://auth.example.com")
		change(&c)
		if _, err := client.New(c); err == nil || strings.Contains(err.Error(), "pst_wk_secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPolicy(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, key, _ := r.BasicAuth()
		if id != "workspace-key-prod-1" || key != "pst_wk_secret" || r.URL.Path != "/v1/projects/project-test-1/policy" || r.UserAgent() != "postern/1.0" {
			t.Errorf("%s %s by %q", r.Method, r.URL, id)
		}
		w.Header().Set("Content-Type", "application/json")
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Method == http.MethodGet:
			w.Header().Set("ETag", `"7"`)
			_, _ = io.WriteString(w, `{"version":7}`)
		case r.Header.Get("If-Match") == `"7"` && r.Header.Get("Content-Type") == "application/json" && string(body) == `{"scopes":[]}`:
			w.Header().Set("ETag", `"8"`)
			_, _ = io.WriteString(w, `{"version":8}`)
		default:
			w.WriteHeader(http.StatusPreconditionFailed)
			_, _ = io.WriteString(w, `{"error_message":"Somebody changed the policy.","request_id":"K7Q-2MX-9RD"}`)
		}
	}))
	defer s.Close()
	c, err := client.New(at(s.URL))
	if err != nil {
		t.Fatal(err)
	}
	text, tag, err := c.Policy(t.Context())
	if err != nil || string(text) != `{"version":7}` || tag != `"7"` {
		t.Fatalf("%s, %s, %v", text, tag, err)
	}
	if text, tag, err = c.SetPolicy(t.Context(), []byte(`{"scopes":[]}`), tag); err != nil || string(text) != `{"version":8}` || tag != `"8"` {
		t.Fatalf("%s, %s, %v", text, tag, err)
	}
	_, _, err = c.SetPolicy(t.Context(), []byte(`{"scopes":[]}`), tag)
	if !errors.Is(err, client.ErrChanged) || err.Error() != "Somebody changed the policy. (trace K7Q-2MX-9RD)" {
		t.Errorf("%v", err)
	}
}

// Whatever a server answers, what comes back is a sentence about it, and the
// secret goes nowhere else.
func TestOddServers(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s was called with %q", r.URL, r.Header.Get("Authorization"))
	}))
	defer elsewhere.Close()
	for name, c := range map[string]struct {
		status     int
		kind, body string
		says       string
	}{
		"redirect":      {302, "text/html", "", "redirects to another address"},
		"a page":        {200, "text/html", "<html>", "without JSON"},
		"no JSON":       {200, "application/json", "{", "without JSON"},
		"without words": {500, "application/json", "{}", "answers 500"},
		"no project":    {421, "application/json", `{"error":"misdirected_request","error_description":"This server answers at https://a.example.com."}`, "answers at https://a.example.com"},
		"endless":       {200, "application/json", `"` + strings.Repeat("a", 4<<20) + `"`, "longer than 4194304 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", elsewhere.URL)
				w.Header().Set("Content-Type", c.kind)
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}))
			defer s.Close()
			one, err := client.New(at(s.URL))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err = one.Policy(t.Context()); err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "pst_wk") {
				t.Errorf("%v", err)
			}
		})
	}
	gone := httptest.NewServer(nil)
	gone.Close()
	one, err := client.New(at(gone.URL))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = one.Policy(t.Context()); err == nil || !strings.Contains(err.Error(), "does not answer") {
		t.Errorf("%v", err)
	}
}

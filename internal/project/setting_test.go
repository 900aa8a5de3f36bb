package project_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/project"
)

func TestSpans(t *testing.T) {
	for text, want := range map[string]int{"90s": 90, "15m": 900, "1h": 3600, "12h": 43200, "14d": 14 * 86400, "0s": 0} {
		n, err := project.ParseSpan(text)
		if err != nil || n != want {
			t.Errorf("%s: got %d, %v, want %d", text, n, err, want)
		}
		if back := project.Span(n); back != text {
			t.Errorf("%d seconds print as %s, want %s", n, back, text)
		}
	}
	for _, text := range []string{"", "d", "-1d", "1.5d", "10", "1ms", "-5m", "999999999999d"} {
		if n, err := project.ParseSpan(text); err == nil {
			t.Errorf("%q was taken as %d", text, n)
		}
	}
}

// What a setting says is what it takes.
func TestSettingsReadWhatTheyWrite(t *testing.T) {
	p := project.Project{Name: "Notes", Issuer: "https://auth.example.com", Settings: project.Defaults()}
	for _, s := range project.AllSettings() {
		before := s.Get(&p)
		if err := s.Set(&p, before); err != nil || s.Get(&p) != before {
			t.Errorf("%s: %q became %q, %v", s.Name, before, s.Get(&p), err)
		}
	}
	for name, values := range map[string][]string{
		"name":                 {"", " ", "two\nlines", "a\u202eb", strings.Repeat("x", 101)},
		"authorization-url":    {"http://app.example.com/", "javascript:alert(1)", "https:///x", "https://a@b.example.com/"},
		"help-url":             {"http://localhost/help", "https://help.example.com/\n", "help"},
		"default-scopes":       {"a b", `quo"te`},
		"default-resource":     {"https://nobody.example.com/mcp"},
		"dynamic-registration": {"maybe", ""},
		"session-idle":         {"soon", ""},
	} {
		for _, v := range values {
			s, ok := project.SettingOf(name)
			if !ok {
				t.Fatalf("no setting %s", name)
			}
			if err := s.Set(&p, v); err == nil {
				t.Errorf("%s took %q", name, v)
			}
		}
	}
}

// A scope that nobody described counts as changing something unless its name
// says plainly that it reads.
func TestDiscoveredScopes(t *testing.T) {
	want := map[string]bool{
		"read:notes": true, "notes:read": true, "notes.readonly": true, "Notes_Read": true, "list": true,
		"write:notes": false, "notes": false, "read-write": false, "thread:notes": false, "admin:read": false, "notes.read.all": false,
	}
	var names []string
	for name := range want {
		names = append(names, name)
	}
	var server *httptest.Server
	server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"resource": server.URL + "/mcp", "scopes_supported": append(names, "not one")}) // the test reads it
	}))
	defer server.Close()
	p := project.Project{Issuer: "https://auth.example.com"}
	r, scopes := project.Resource{URI: server.URL + "/mcp"}, []project.Scope(nil)
	told, answered := p.Discover(t.Context(), server.Client(), &r, &scopes)
	if !answered || len(told) != 2 || len(scopes) != len(want) {
		t.Fatalf("told %q, %t, scopes %v", told, answered, scopes)
	}
	for _, s := range scopes {
		if s.ReadOnly != want[s.Name] {
			t.Errorf("%s: got %v", s.Name, s.ReadOnly)
		}
	}
}

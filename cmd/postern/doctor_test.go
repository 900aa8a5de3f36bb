package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What a server says of itself does not steer the terminal that it is printed on.
func TestDoctorKeepsTheTerminalStraight(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		own := "http://" + r.Host
		switch r.URL.Path {
		case "/mcp":
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
		case "/.well-known/oauth-protected-resource/mcp":
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprintf(w, `{"resource":%q,"authorization_servers":[%q],"scopes_supported":["a\u001b[2Jb","c\u202ed","e\u009bf\ng"]}`, own+"/mcp", own)
		default:
			http.NotFound(w, r)
		}
	}))
	defer s.Close()
	for _, form := range [][]string{nil, {"--json"}} {
		var out, errors bytes.Buffer
		status := run(t.Context(), append([]string{"doctor", "--mcp-url", s.URL + "/mcp"}, form...), &out, &errors)
		if got := out.String(); status != 1 || !strings.Contains(got, "scopes: a?[2Jb, c?d, e?f?g") {
			t.Errorf("status %d\n%q\n%s", status, got, errors.String())
		}
	}
}

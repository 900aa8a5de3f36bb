package doctor_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/doctor"
)

// issuer is a server that answers as a healthy one does, but for what a test
// spoils.
type issuer struct {
	*httptest.Server
	oauth, openid, keys map[string]any
	path                string // of the issuer
	missing             string // an address of the metadata that answers 404
	unknown             int
	date                time.Time
}

func newIssuer(t *testing.T) *issuer { return newIssuerAt(t, "") }

func newIssuerAt(t *testing.T, path string) *issuer {
	t.Helper()
	i := &issuer{path: path, unknown: http.StatusNotFound}
	i.Server = httptest.NewServer(i)
	t.Cleanup(i.Close)
	i.URL += path
	document := func() map[string]any {
		return map[string]any{
			"issuer":                           i.URL,
			"authorization_endpoint":           i.URL + "/oauth/authorize",
			"token_endpoint":                   i.URL + "/v1/oauth2/token",
			"jwks_uri":                         i.URL + "/.well-known/jwks.json",
			"code_challenge_methods_supported": []any{"S256"},
			"response_types_supported":         []any{"code"},
			"grant_types_supported":            []any{"authorization_code", "refresh_token"},
		}
	}
	i.oauth, i.openid = document(), document()
	i.keys = map[string]any{"keys": []any{
		map[string]any{"kid": "one", "alg": "ES256"}, map[string]any{"kid": "two", "alg": "RS256"},
	}}
	return i
}

func (i *issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !i.date.IsZero() {
		w.Header().Set("Date", i.date.UTC().Format(http.TimeFormat))
	}
	answers := map[string]map[string]any{
		"/.well-known/oauth-authorization-server" + i.path: i.oauth,
		"/.well-known/openid-configuration" + i.path:       i.openid,
		i.path + "/.well-known/openid-configuration":       i.openid,
		i.path + "/.well-known/jwks.json":                  i.keys,
	}
	delete(answers, i.missing)
	document, ok := answers[r.URL.Path]
	switch {
	case !ok:
		w.WriteHeader(i.unknown)
	case document == nil:
		w.WriteHeader(http.StatusMisdirectedRequest)
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(document)
	}
}

func look(t *testing.T, c doctor.Config) []doctor.Result {
	t.Helper()
	c.Client = &http.Client{Timeout: 5 * time.Second}
	if c.Now == nil {
		c.Now = time.Now
	}
	results, err := doctor.Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func TestHealthyIssuer(t *testing.T) {
	i := newIssuer(t)
	results := look(t, doctor.Config{Issuers: func() []string { return []string{i.URL} }})
	if len(results) != 6 {
		t.Errorf("got %d results, want 6: %+v", len(results), results)
	}
	for _, r := range results {
		if !r.OK || r.Fix != "" || r.Subject != i.URL {
			t.Errorf("a healthy issuer has a complaint: %+v", r)
		}
	}
}

// An issuer with a path has its metadata at three addresses, and each is missed.
func TestPathIssuer(t *testing.T) {
	const oauth, openid = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"
	for missing, check := range map[string]string{"": "", oauth + "/a/b": "reachable", openid + "/a/b": "metadata", "/a/b" + openid: "metadata"} {
		i := newIssuerAt(t, "/a/b")
		i.missing = missing
		results := look(t, doctor.Config{Issuers: func() []string { return []string{i.URL} }})
		var wrong []doctor.Result
		for _, r := range results {
			if !r.OK {
				wrong = append(wrong, r)
			}
		}
		switch {
		case missing == "" && (len(wrong) != 0 || len(results) != 7):
			t.Errorf("a healthy issuer: %+v", results)
		case missing != "" && (len(wrong) != 1 || wrong[0].Check != check || !strings.Contains(wrong[0].Fix, "to postern")):
			t.Errorf("without %s: %+v", missing, wrong)
		}
	}
}

// What a client would stumble over is named, with what to do.
func TestNamesWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(i *issuer)
		check string
		seen  string
	}{
		{"another issuer", func(i *issuer) { i.oauth["issuer"] = "https://other.example.com" }, "metadata", "names the issuer"},
		{"issuer with a slash", func(i *issuer) { i.oauth["issuer"] = i.URL + "/" }, "metadata", "names the issuer"},
		{"no S256", func(i *issuer) { i.openid["code_challenge_methods_supported"] = []any{"plain"} }, "metadata", "S256"},
		{"no challenge methods", func(i *issuer) { delete(i.oauth, "code_challenge_methods_supported") }, "metadata", "S256"},
		{"token endpoint elsewhere", func(i *issuer) { i.oauth["token_endpoint"] = "https://other.example.com/token" }, "metadata", "outside the issuer"},
		{"issuer as a prefix of another host", func(i *issuer) { i.oauth["token_endpoint"] = i.URL + ".example.com/token" }, "metadata", "outside the issuer"},
		{"documents that differ", func(i *issuer) { i.openid["grant_types_supported"] = []any{"authorization_code"} }, "metadata", "differ in grant_types_supported"},
		{"no RS256", func(i *issuer) { i.keys["keys"] = i.keys["keys"].([]any)[:1] }, "keys", "RS256"},
		{"a private key", func(i *issuer) { i.keys["keys"].([]any)[0].(map[string]any)["d"] = "x" }, "keys", "private"},
		{"a page for unknown paths", func(i *issuer) { i.unknown = http.StatusOK }, "not found", "200"},
		{"a redirect for unknown paths", func(i *issuer) { i.unknown = http.StatusFound }, "not found", "302"},
		{"another clock", func(i *issuer) { i.date = time.Now().Add(-time.Minute) }, "clock", "away"},
		{"an unknown host", func(i *issuer) { i.oauth = nil }, "reachable", "421"},
		{"nobody there", func(i *issuer) { i.Close() }, "reachable", "refused"},
	} {
		t.Run(test.name, func(t *testing.T) {
			i := newIssuer(t)
			test.spoil(i)
			for _, r := range look(t, doctor.Config{Issuers: func() []string { return []string{i.URL} }}) {
				if !r.OK && r.Check == test.check && strings.Contains(r.Seen, test.seen) {
					if r.Fix == "" {
						t.Errorf("%s is named without what to do", r.Check)
					}
					return
				}
			}
			t.Errorf("nobody complains about %s with %q", test.check, test.seen)
		})
	}
}

func TestProbesComeFirst(t *testing.T) {
	i := newIssuer(t)
	var issuers []string
	results := look(t, doctor.Config{
		Issuers: func() []string { return issuers },
		Probes: []doctor.Probe{
			{Check: "database", Look: func(context.Context) (string, error) { issuers = []string{i.URL}; return "fine", nil }, Fix: "unused"},
			{Check: "mail", Look: func(context.Context) (string, error) { return "", errors.New("no answer") }, Fix: "start it"},
		},
	})
	if len(results) < 3 {
		t.Fatalf("got %+v", results)
	}
	if r := results[0]; !r.OK || r.Seen != "fine" || r.Fix != "" {
		t.Errorf("got %+v, want a good probe without a fix", r)
	}
	if r := results[1]; r.OK || r.Seen != "no answer" || r.Fix != "start it" {
		t.Errorf("got %+v, want a failure with its fix", r)
	}
	if r := results[2]; r.Subject != i.URL {
		t.Errorf("got %+v, want the issuer that the first probe found", r)
	}
}

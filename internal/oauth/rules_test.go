package oauth

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/project"
)

func testProject() *project.Project {
	return &project.Project{
		ID: "project-test-1", Name: "Todo", Issuer: "https://auth.example.test", Settings: project.Defaults(),
		Scopes: []project.Scope{{Name: "read:todos", Description: "Read your to-dos", ReadOnly: true}, {Name: "write:todos"}},
		Resources: []project.Resource{
			{URI: "https://todo.example.test/mcp", Scopes: []string{"read:todos", "write:todos"}, Profile: project.RFC9068},
		},
	}
}

// Row: A08, G03-G06. Proves: MCP-AS-16, RFC6749-3.1.2.1-a
func TestCheckRedirectURI(t *testing.T) {
	tests := map[string]bool{
		"https://client.example.test/callback":      true,
		"https://client.example.test":               true,
		"https://client.example.test/cb?x=1":        true,
		"http://127.0.0.1/callback":                 true,
		"http://127.0.0.1:8123/callback":            true,
		"http://[::1]:8123/callback":                true,
		"http://localhost/callback":                 true,
		"cursor://anysphere.cursor-retrieval/oauth": true,

		"":                                                           false,
		"/callback":                                                  false,
		"//client.example.test/callback":                             false,
		"http://client.example.test/callback":                        false,
		"http://localhost.evil.test/callback":                        false,
		"http://127.0.0.1.evil.test/callback":                        false,
		"http://127.1/callback":                                      false,
		"http://2130706433/callback":                                 false,
		"https://client.example.test/cb#frag":                        false,
		"https://client.example.test/cb#":                            false,
		"https://*.example.test/cb":                                  false,
		"https://user@client.example.test/cb":                        false,
		"https://good.test@evil.test/cb":                             false,
		"https:///cb":                                                false,
		"https:client.example.test":                                  false,
		"HTTPS://client.example.test/cb":                             false,
		"javascript:alert(1)":                                        false,
		"JavaScript:alert(1)":                                        false,
		" data:text/html,x":                                          false,
		"vb\tscript:x":                                               false,
		"https://client.example.test/\x00":                           false,
		"https://client.example.test/a b":                            false,
		"https://client.example.test\\@evil":                         false,
		"data:text/html,x":                                           false,
		"blob:https://client.example.test/x":                         false,
		"unknown-scheme://callback":                                  false,
		"https://client.example.test/" + strings.Repeat("a", maxURI): false,
	}
	for uri, want := range tests {
		if got := checkRedirectURI(testProject(), uri) == nil; got != want {
			t.Errorf("checkRedirectURI(%q) accepts: %t, want %t", uri, got, want)
		}
	}
}

// Row: A01, A03-A07, A10, A11. Proves: MCP-AS-15
func TestMatchRedirectURI(t *testing.T) {
	const registered = "https://client.example.test/cb"
	tests := []struct {
		name       string
		registered string
		requested  string
		want       bool
	}{
		{"the same text", registered, registered, true},
		{"another host", registered, "https://evil.test/cb", false},
		{"a dot is not a wildcard", "https://foo.example.com/cb", "https://fooaexample.com/cb", false},
		{"user before the host", registered, "https://client.example.test@evil.test/cb", false},
		{"path with dots", registered, "https://client.example.test/cb/../x", false},
		{"encoded dots", registered, "https://client.example.test/%2e%2e/cb", false},
		{"letter case", registered, "https://client.example.test/CB", false},
		{"host case", registered, "https://CLIENT.example.test/cb", false},
		{"trailing slash", registered, registered + "/", false},
		{"default port", registered, "https://client.example.test:443/cb", false},
		{"more query", registered, registered + "?x=1", false},
		{"encoded tilde", "https://client.example.test/~", "https://client.example.test/%7E", false},
		{"fragment", registered, registered + "#x", false},
		{"prefix", registered, registered + "x", false},
		{"https port is not free", "https://localhost/cb", "https://localhost:8443/cb", false},

		{"loopback port", "http://127.0.0.1/cb", "http://127.0.0.1:51004/cb", true},
		{"loopback other port", "http://127.0.0.1:1/cb", "http://127.0.0.1:51004/cb", true},
		{"loopback v6 port", "http://[::1]/cb", "http://[::1]:51004/cb", true},
		{"localhost port", "http://localhost/cb", "http://localhost:51004/cb", true},
		{"loopback query stays", "http://localhost/cb?a=1", "http://localhost:5/cb?a=1", true},
		{"loopback other query", "http://localhost/cb?a=1", "http://localhost:5/cb?a=2", false},
		{"loopback other path", "http://localhost/cb", "http://localhost:51004/other", false},
		{"localhost for 127.0.0.1", "http://127.0.0.1/cb", "http://localhost:51004/cb", false},
		{"127.0.0.1 for ::1", "http://[::1]/cb", "http://127.0.0.1/cb", false},
		{"localhost as a prefix", "http://localhost/cb", "http://localhost.evil.test/cb", false},
		{"127.0.0.1 as a prefix", "http://127.0.0.1/cb", "http://127.0.0.1.evil.test/cb", false},
		{"port that is a user", "http://localhost/cb", "http://localhost:80@evil.test/cb", false},
		{"port that is no number", "http://localhost/cb", "http://localhost:8o/cb", false},
		{"empty port", "http://localhost/cb", "http://localhost:/cb", false},
		{"https for http", "http://localhost/cb", "https://localhost/cb", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := matchRedirectURI([]string{test.registered}, test.requested); got != test.want {
				t.Errorf("matchRedirectURI(%q, %q) = %t, want %t", test.registered, test.requested, got, test.want)
			}
		})
	}
}

// FuzzMatchRedirectURI: whatever matches differs from a registered URI by a
// loopback port at most, and a URL parser sees the same host.
func FuzzMatchRedirectURI(f *testing.F) {
	for _, seed := range []string{"http://localhost:1/cb", "https://client.example.test/cb", "http://localhost:1@evil/cb", "http://[::1]:9/cb"} {
		f.Add(seed)
	}
	registered := []string{"http://localhost/cb", "http://[::1]/cb", "http://127.0.0.1:7/cb", "https://client.example.test/cb"}
	f.Fuzz(func(t *testing.T, requested string) {
		if !matchRedirectURI(registered, requested) || slices.Contains(registered, requested) {
			return
		}
		u, err := url.Parse(requested)
		if err != nil || u.Scheme != "http" || !loopbackHost(u.Hostname()) || u.Path != "/cb" || u.RawQuery != "" || u.User != nil {
			t.Fatalf("%q matched", requested)
		}
	})
}

// Row: A18-A21. Proves: RFC7636-4.4.1-a, MCP-AS-14
func TestCheckChallenge(t *testing.T) {
	sum := sha256.Sum256([]byte("verifier"))
	good := base64.RawURLEncoding.EncodeToString(sum[:])
	tests := []struct {
		name, challenge, method string
		want                    bool
	}{
		{"S256", good, "S256", true},
		{"no challenge", "", "S256", false},
		{"no method means plain", good, "", false},
		{"plain", good, "plain", false},
		{"lower case", good, "s256", false},
		{"S512", good, "S512", false},
		{"42 characters", good[:42], "S256", false},
		{"44 characters", good + "A", "S256", false},
		{"padded", good + "=", "S256", false},
		{"not base64url", strings.Repeat("+", 43), "S256", false},
		{"loose last bits", good[:42] + "_", "S256", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := checkChallenge(test.challenge, test.method) == nil; got != test.want {
				t.Errorf("accepted: %t, want %t", got, test.want)
			}
		})
	}
}

// Row: T08, T10. Proves: RFC7636-4.6-a
func TestVerifierMatches(t *testing.T) {
	challenge := func(v string) string {
		sum := sha256.Sum256([]byte(v))
		return base64.RawURLEncoding.EncodeToString(sum[:])
	}
	verifier := strings.Repeat("aZ9-._~", 7)
	tests := []struct {
		name, verifier, challenge string
		want                      bool
	}{
		{"right", verifier, challenge(verifier), true},
		{"128 characters", strings.Repeat("a", 128), challenge(strings.Repeat("a", 128)), true},
		{"another", verifier + "x", challenge(verifier), false},
		{"missing", "", challenge(""), false},
		{"42 characters", strings.Repeat("a", 42), challenge(strings.Repeat("a", 42)), false},
		{"129 characters", strings.Repeat("a", 129), challenge(strings.Repeat("a", 129)), false},
		{"a character outside the set", strings.Repeat("a", 42) + "+", challenge(strings.Repeat("a", 42) + "+"), false},
		{"a code without a challenge", verifier, "", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := verifierMatches(test.verifier, test.challenge); got != test.want {
				t.Errorf("matches: %t, want %t", got, test.want)
			}
		})
	}
}

// Row: A26, A27. Proves: MCP-AS-23
func TestParseScope(t *testing.T) {
	many := make([]string, maxScopes+1)
	for i := range many {
		many[i] = "s" + strings.Repeat("x", i)
	}
	tests := []struct {
		name, text string
		want       []string
		refused    bool
	}{
		{"none", "", nil, false},
		{"two", "read:todos write:todos", []string{"read:todos", "write:todos"}, false},
		{"twice the same, as clients that unite scopes send", "a b a", []string{"a", "b"}, false},
		{"blanks around", "  a   b ", []string{"a", "b"}, false},
		{"a quote", `a"b`, nil, true},
		{"a tab", "a\tb", nil, true},
		{"not ASCII", "läs", nil, true},
		{"too many", strings.Join(many, " "), nil, true},
		{"too long, by one name", strings.Repeat("a", maxScopeText+1), nil, true},
		{"too long, by one name again and again", strings.Repeat("a ", maxScopeText/2+1), nil, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseScope(test.text)
			if (err != nil) != test.refused || !slices.Equal(got, test.want) {
				t.Errorf("parseScope = %q, %v", got, err)
			}
		})
	}
}

// A default that is no scope-token reaches no code, whatever resource it is of: in
// a token it would be two scopes that nobody was asked for.
func TestDefaultScopesAreScopes(t *testing.T) {
	for name, scopes := range map[string][]string{"a server without scopes": nil, "one with scopes": {"read:todos", "list", "read:todos write:todos"}} {
		t.Run(name, func(t *testing.T) {
			at := target{uri: "https://todo.example.test/mcp", registered: true, resource: project.Resource{
				Scopes: scopes, DefaultScopes: []string{"list", "read:todos write:todos"},
			}}
			got, err := requestedScopes(testProject(), at, nil)
			if got = offered(at, got); err != nil || !slices.Equal(got, []string{"list"}) {
				t.Errorf("asked for %q, %v", got, err)
			}
		})
	}
}

// Nor does one reach a token that was allowed before.
func TestKeptScopesAreScopes(t *testing.T) {
	kept := Family{Scopes: []string{"list", "read:todos write:todos"}, PersonActive: true}
	got, active, err := (&Server{}).grantable(t.Context(), testProject(), kept, Client{})
	if err != nil || !active || !slices.Equal(got, []string{"list"}) || len(kept.Scopes) != 2 {
		t.Errorf("%q, %t, %v; kept %q", got, active, err, kept.Scopes)
	}
}

// Row: A22-A25. Proves: MCP-AS-22, RFC8707-2-a
func TestResolveResource(t *testing.T) {
	const todo = "https://todo.example.test/mcp"
	open := testProject()
	open.Settings.UnregisteredResources = true
	none := testProject()
	none.Resources = nil
	alias := testProject()
	alias.Resources[0].Aliases = []string{"https://todo.example.test/sse"}
	two := testProject()
	two.Resources = append(two.Resources, project.Resource{URI: "https://notes.example.test"})
	tests := []struct {
		name    string
		project *project.Project
		asked   []string
		want    string
		refused bool
	}{
		{"registered", testProject(), []string{todo}, todo, false},
		{"a trailing slash does not count", testProject(), []string{todo + "/"}, todo, false},
		{"an alias is the resource itself", alias, []string{"https://todo.example.test/sse"}, todo, false},
		{"below an alias", alias, []string{"https://todo.example.test/sse/x"}, "", true},
		{"absent: the only one", testProject(), nil, todo, false},
		{"absent: none of two", two, nil, "", false},
		{"absent: there is none", none, nil, "", false},
		{"unknown", testProject(), []string{"https://other.example.test/mcp"}, "", true},
		{"unknown, but allowed", open, []string{"https://other.example.test/mcp"}, "https://other.example.test/mcp", false},
		{"relative", open, []string{"/mcp"}, "", true},
		{"fragment", open, []string{todo + "#x"}, "", true},
		{"two", testProject(), []string{todo, todo}, "", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := resolveResource(test.project, test.asked)
			var refusal *Error
			if (err != nil) != test.refused || got.uri != test.want || err != nil && (!errors.As(err, &refusal) || refusal.Code != "invalid_target") {
				t.Errorf("resolveResource = %q, %v", got.uri, err)
			}
		})
	}
}

// Row: A28, A34. Proves: MCP-AS-19, MCP-AS-21, RFC9207-2-a
func TestAnswerURL(t *testing.T) {
	state := "a b&c=d\r\n</script>"
	for _, redirect := range []string{
		"https://client.example.test/cb", "https://client.example.test/cb?keep=1", "http://127.0.0.1:7/", "cursor://host/path",
	} {
		ok := successAnswer("https://auth.example.test", redirect, state, "pst_ac_x")
		bad := errorAnswer("https://auth.example.test", redirect, state, &Error{Code: "access_denied", Description: "The person said no."})
		for _, answer := range []Answer{ok, bad} {
			u, err := url.Parse(answer.URL())
			if err != nil {
				t.Fatal(err)
			}
			q := u.Query()
			if !strings.HasPrefix(answer.URL(), redirect) || q.Get("state") != state || len(q["state"]) != 1 ||
				q.Get("iss") != "https://auth.example.test" || len(q["iss"]) != 1 || u.Fragment != "" {
				t.Errorf("answer to %s is %s", redirect, answer.URL())
			}
			if strings.Contains(redirect, "keep") && q.Get("keep") != "1" {
				t.Errorf("the registered query is gone from %s", answer.URL())
			}
		}
	}
}

// Row: B09, B10. Proves: MCP-AS-28
func TestProvesItself(t *testing.T) {
	tests := []struct {
		name     string
		client   Client
		redirect string
		want     bool
	}{
		{"metadata document, https", Client{Creation: Document, Type: ThirdPartyPublic}, "https://client.example.test/cb", true},
		{"metadata document, loopback", Client{Creation: Document, Type: ThirdPartyPublic}, "http://127.0.0.1:7/cb", false},
		{"metadata document, https loopback", Client{Creation: Document, Type: ThirdPartyPublic}, "https://localhost:7/cb", false},
		{"private-use scheme", Client{Creation: Preregistered, Type: ThirdPartyPublic}, "cursor://x", false},
		{"registered itself", Client{Creation: Dynamic, Type: ThirdPartyPublic}, "https://client.example.test/cb", false},
		{"registered itself, with a secret", Client{Creation: Dynamic, Type: ThirdParty}, "https://client.example.test/cb", false},
		{"operator, with a secret, loopback", Client{Creation: Preregistered, Type: ThirdParty}, "http://127.0.0.1:7/cb", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.client.ProvesItself(test.redirect); got != test.want {
				t.Errorf("proves itself: %t, want %t", got, test.want)
			}
		})
	}
}

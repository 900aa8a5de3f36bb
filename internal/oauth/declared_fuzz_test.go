package oauth

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/wire"
)

// fuzzProject is a project with its defaults.
func fuzzProject() *project.Project {
	return &project.Project{ID: "project-test-1", Issuer: "https://auth.example.test", Settings: project.Defaults()}
}

// checkAccepted states what holds of everything that is kept, and that keeping
// it again changes nothing: otherwise a client that sends back what it was told
// would become another one.
func checkAccepted(t *testing.T, p *project.Project, m Metadata) {
	t.Helper()
	if len(m.RedirectURIs) == 0 || len(m.GrantTypes) == 0 || !contains(m.GrantTypes, "authorization_code") || len(m.ResponseTypes) != 1 {
		t.Fatalf("kept %+v", m)
	}
	for _, uri := range m.RedirectURIs {
		if !strings.HasPrefix(uri, "https://") && !DestinationOf(uri).Loopback && !DestinationOf(uri).Private || strings.ContainsAny(uri, " \t\r\n#*<>\"") {
			t.Fatalf("kept the redirect URI %q", uri)
		}
	}
	for _, link := range []string{m.ClientURI, m.LogoURI, m.PolicyURI, m.TosURI} {
		if link != "" && !strings.HasPrefix(strings.ToLower(link), "http") {
			t.Fatalf("kept the link %q", link)
		}
	}
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	var again declared
	if err := wire.JSON(text, &again); err != nil {
		t.Fatalf("what was kept cannot be read again: %v: %s", err, text)
	}
	again.keysOptional = again.TokenEndpointAuthMethod == authNone
	kept, err := again.accept(p)
	if err != nil || string(kept.Hash()) != string(m.Hash()) {
		t.Fatalf("kept again: %v\n%+v\n%+v", err, m, kept)
	}
}

func FuzzRegistration(f *testing.F) {
	for _, text := range []string{
		`{"redirect_uris":["https://client.example.test/cb"]}`,
		`{"redirect_uris":["http://localhost:1/cb","cursor://x"],"token_endpoint_auth_method":"none","scope":"a  b a","grant_types":["refresh_token","authorization_code"],"response_types":["code"]}`,
		`{"redirect_uris":["http://127.0.0.1/"],"client_uri":"http://localhost:3000","jwks":{"keys":[{"kty":"EC","crv":"P-256"}]},"contacts":["a"],"id_token_signed_response_alg":"ES256"}`,
		`{"redirect_uris":["https://a.example.test"],"client_name":"\ud83d\ude00","client_name#de":"x","application_type":"web","post_logout_redirect_uris":["https://a.example.test/bye"]}`,
		`{"redirect_uris":["https://a.example.test"],"grant_types":["refresh_token"]}`,
		`{"redirect_uris":null,"Redirect_URIs":[]}`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var d declared
		if wire.JSON([]byte(text), &d) != nil {
			return
		}
		if d.TokenEndpointAuthMethod == "" {
			d.TokenEndpointAuthMethod = authBasic
		}
		before := fmt.Sprintf("%+v", d)
		p := fuzzProject()
		m, err := d.accept(p)
		if after := fmt.Sprintf("%+v", d); after != before {
			t.Fatalf("accept changed its input\n%s\n%s", before, after)
		}
		if err == nil {
			checkAccepted(t, p, m)
		} else if !reflect.DeepEqual(m, Metadata{}) {
			t.Fatalf("refused and kept: %+v", m)
		}
	})
}

func FuzzDocument(f *testing.F) {
	const id = "https://client.example.test/client.json"
	for _, members := range []string{
		``, `,"token_endpoint_auth_method":"none"`, `,"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_methods_supported":["none"]`,
		`,"token_endpoint_auth_method":"private_key_jwt","jwks":{"keys":[{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`,
		`,"client_secret":null`, `,"grant_types":["authorization_code","refresh_token"],"jwks_uri":"https://client.example.test/keys"`,
	} {
		f.Add(`{"client_id":"` + id + `","client_name":"x","redirect_uris":["http://localhost/cb"]` + members + `}`)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p := fuzzProject()
		m, err := acceptDocument(p, id, []byte(text))
		if err != nil {
			return
		}
		byKey := m.TokenEndpointAuthMethod == authKey && (len(m.JWKS) > 0 || m.JWKSURI != "")
		if m.TokenEndpointAuthMethod != authNone && !byKey || strings.TrimSpace(m.ClientName) == "" {
			t.Fatalf("kept %+v", m)
		}
		checkAccepted(t, p, m)
	})
}

func FuzzDocumentAddress(f *testing.F) {
	for _, id := range []string{"https://client.example.test/client.json", "https://a:8443/x?y", "https://[::1]/x", "https://a/%2e%2e/x", "https://a/x%2Fy", "http://a/x"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		u, err := checkDocumentURL(fuzzProject(), id)
		if err != nil {
			return
		}
		if u.Scheme != "https" || u.User != nil || u.Path == "" || u.Fragment != "" || u.Hostname() == "" || strings.ContainsAny(id, "#\\ \n") {
			t.Fatalf("accepted %q", id)
		}
		// A browser-grade parser sees the same host: nothing but host and port
		// stands between the slashes.
		rest := strings.TrimPrefix(id, "https://")
		if end := strings.IndexAny(rest, "/?"); end < 0 || rest[:end] != u.Host || strings.Contains(rest[:end], "@") {
			t.Fatalf("accepted %q with host %q", id, u.Host)
		}
	})
}

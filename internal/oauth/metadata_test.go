package oauth_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

func (r *rig) metadata() map[string]any {
	r.Helper()
	a := r.send(r.server.Metadata, httptest.NewRequest(http.MethodGet, oauth.PathMetadata, nil))
	if a.code != http.StatusOK || a.header.Get("Content-Type") != "application/json" {
		r.Fatalf("got %d %s", a.code, a.header)
	}
	return a.json()
}

func strs(s ...string) []any {
	var list []any
	for _, v := range s {
		list = append(list, v)
	}
	return list
}

// The whole document of a project with its defaults, so that no member comes
// or goes unseen.
//
// Row: I13. Proves: RFC8414-2-a, RFC8414-2-b, RFC8414-2-c, RFC8414-2-d, RFC8414-2-e, RFC8414-2-f, RFC8414-3.2-a
// Proves: MCP-AS-3, MCP-AS-4, MCP-AS-5, MCP-AS-6, MCP-AS-7, MCP-AS-8, OIDC-8-a, OIDC-15.2-c, OIDCDISC-3-b, OIDCDISC-3-c,
// OIDCDISC-3-f, OIDCDISC-3-h, OIDCDISC-3-i, OIDCDISC-3-j, OIDCDISC-3-k, RFC8414-2-i, RFC8414-2-k
func TestMetadata(t *testing.T) {
	r := newRig(t)
	methods := strs("client_secret_basic", "client_secret_post", "none", "private_key_jwt")
	algorithms := strs("ES256", "EdDSA", "PS256", "RS256")
	want := map[string]any{
		"issuer":                 rigIssuer,
		"authorization_endpoint": rigIssuer + "/oauth/authorize",
		"token_endpoint":         rigIssuer + "/v1/oauth2/token",
		"registration_endpoint":  rigIssuer + "/v1/oauth2/register",
		"jwks_uri":               rigIssuer + "/.well-known/jwks.json",
		"userinfo_endpoint":      rigIssuer + "/v1/oauth2/userinfo",
		"end_session_endpoint":   rigIssuer + "/oauth/logout",
		"revocation_endpoint":    rigIssuer + "/v1/oauth2/revoke",
		"revocation_endpoint_auth_methods_supported":               methods,
		"revocation_endpoint_auth_signing_alg_values_supported":    algorithms,
		"introspection_endpoint":                                   rigIssuer + "/v1/oauth2/introspect",
		"introspection_endpoint_auth_methods_supported":            methods,
		"introspection_endpoint_auth_signing_alg_values_supported": algorithms,
		"scopes_supported":                                         strs("openid", "profile", "email", "read:notes", "write:notes"),
		"response_types_supported":                                 strs("code"),
		"response_modes_supported":                                 strs("query"),
		"grant_types_supported":                                    strs("authorization_code", "refresh_token"),
		"token_endpoint_auth_methods_supported":                    methods,
		"token_endpoint_auth_signing_alg_values_supported":         algorithms,
		"code_challenge_methods_supported":                         strs("S256"),
		"subject_types_supported":                                  strs("public"),
		"id_token_signing_alg_values_supported":                    strs("RS256", "ES256"),
		"claims_supported":                                         strs("iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "name", "email", "email_verified"),
		"ui_locales_supported":                                     strs("en"),
		"claims_parameter_supported":                               false,
		"request_parameter_supported":                              false,
		"request_uri_parameter_supported":                          false,
		"authorization_response_iss_parameter_supported":           true,
		"client_id_metadata_document_supported":                    true,
		"protected_resources":                                      strs(rigNotes, rigFiles),
	}
	if diff := cmp.Diff(want, r.metadata()); diff != "" {
		t.Error(diff)
	}
}

// Proves: RFC8414-2-g, RFC8414-3.2-b, RFC8414-3.3-a, RFC9728-4-a, OIDCDISC-4.2-b
func TestMetadataFollowsTheProject(t *testing.T) {
	for _, test := range []struct {
		name   string
		edit   func(p *project.Project)
		member string
		want   any // nil: not there
	}{
		{"registration off: no endpoint", func(p *project.Project) { p.Settings.DynamicRegistration = false }, "registration_endpoint", nil},
		{"documents off: said so", func(p *project.Project) { p.Settings.MetadataDocuments = false }, "client_id_metadata_document_supported", false},
		{"own authorization page", func(p *project.Project) { p.Settings.AuthorizationURL = "https://app.example.test/authorize" }, "authorization_endpoint", "https://app.example.test/authorize"},
		{"privacy page", func(p *project.Project) { p.Settings.PrivacyURL = "https://example.test/privacy" }, "op_policy_uri", "https://example.test/privacy"},
		{"aliases", func(p *project.Project) {
			p.Resources = p.Resources[:1]
			p.Resources[0].Aliases = []string{"https://notes.example.test/sse"}
		}, "protected_resources", strs(rigNotes, "https://notes.example.test/sse")},
		{"no resources", func(p *project.Project) { p.Resources = nil }, "protected_resources", nil},
		{"a scope named like ours stands once", func(p *project.Project) { p.Scopes = []project.Scope{{Name: "openid"}} }, "scopes_supported", strs("openid", "profile", "email")},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t, test.edit)
			got := r.metadata()
			if diff := cmp.Diff(test.want, got[test.member]); diff != "" {
				t.Error(diff)
			}
			if got["issuer"] != rigIssuer {
				t.Errorf("issuer %v", got["issuer"])
			}
		})
	}
	t.Run("a change is seen at once", func(t *testing.T) {
		r := newRig(t)
		before := r.metadata()
		changed := *r.project
		changed.Settings.DynamicRegistration = false
		r.project = &changed
		if after := r.metadata(); before["registration_endpoint"] == nil || after["registration_endpoint"] != nil {
			t.Errorf("before %v, after %v", before["registration_endpoint"], after["registration_endpoint"])
		}
	})
	t.Run("the request has no say", func(t *testing.T) {
		r := newRig(t)
		req := httptest.NewRequest(http.MethodGet, oauth.PathMetadata, nil)
		req.Host = "evil.example.test"
		req.Header.Set("X-Forwarded-Host", "evil.example.test")
		req.Header.Set("X-Forwarded-Proto", "http")
		if got := r.send(r.server.Metadata, req).json(); got["issuer"] != rigIssuer || got["token_endpoint"] != rigIssuer+"/v1/oauth2/token" {
			t.Errorf("issuer %v, token_endpoint %v", got["issuer"], got["token_endpoint"])
		}
	})
}

func TestPreparedAnswersAreNotSentTwice(t *testing.T) {
	r := newRig(t)
	for name, h := range map[string]handler{"metadata": r.server.Metadata, "key set": r.server.JWKS} {
		t.Run(name, func(t *testing.T) {
			first := r.send(h, httptest.NewRequest(http.MethodGet, "/", nil))
			tag := first.header.Get("ETag")
			if first.code != http.StatusOK || tag == "" {
				t.Fatalf("got %d, tag %q", first.code, tag)
			}
			again := httptest.NewRequest(http.MethodGet, "/", nil)
			again.Header.Set("If-None-Match", tag)
			if got := r.send(h, again); got.code != http.StatusNotModified || got.body != "" {
				t.Errorf("got %d with %d bytes, want 304 without", got.code, len(got.body))
			}
		})
	}
}

// Proves: RFC8414-2-h, OIDC-15.2-c, OIDCDISC-3-e
func TestJWKS(t *testing.T) {
	r := newRig(t)
	a := r.send(r.server.JWKS, httptest.NewRequest(http.MethodGet, oauth.PathJWKS, nil))
	if a.code != http.StatusOK || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "public, max-age=300" {
		t.Fatalf("got %d %v", a.code, a.header)
	}
	var set struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal([]byte(a.body), &set); err != nil {
		t.Fatal(err)
	}
	seen := map[any]bool{}
	for _, key := range set.Keys {
		if key["use"] != "sig" || key["alg"] == nil || key["kid"] == nil || seen[key["kid"]] {
			t.Errorf("key %v", key)
		}
		seen[key["kid"]] = true
		for _, private := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			if key[private] != nil {
				t.Errorf("the private member %q is published", private)
			}
		}
	}
	if len(seen) != 2 {
		t.Errorf("%d keys, want one of each algorithm", len(seen))
	}
	t.Run("nobody keeps a set whose first keys are still being made", func(t *testing.T) {
		r := newRig(t)
		r.signing = &rigKeyRows{}
		empty := r.on(r.store)
		a := empty.send(empty.server.JWKS, httptest.NewRequest(http.MethodGet, oauth.PathJWKS, nil))
		if a.code != http.StatusOK || a.header.Get("Cache-Control") != "public, max-age=0" || len(a.json()["keys"].([]any)) != 0 {
			t.Errorf("got %d %v %s", a.code, a.header, a.body)
		}
	})
}

package oauth_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

func (r *rig) register(body string) answer {
	r.Helper()
	return r.registerFrom(rigAddress, body)
}

func (r *rig) registerFrom(address, body string) answer {
	r.Helper()
	req := httptest.NewRequest(http.MethodPost, oauth.PathRegister, strings.NewReader(body))
	req.Header.Set("Content-Type", "application/json")
	req.RemoteAddr = address
	return r.send(r.server.Register, req)
}

// without returns a copy of an answer without some members.
func without(v map[string]any, names ...string) map[string]any {
	for _, n := range names {
		delete(v, n)
	}
	return v
}

// Row: G09, G20-G22. Proves: RFC7591-2-a, RFC7591-2-d, RFC7591-3.1-a, RFC7591-3.2.1-a, RFC7591-3.2.1-b, RFC7591-3.2.1-c, MCP-AS-37, MCP-AS-39
func TestRegister(t *testing.T) {
	for _, test := range []struct {
		name, body string
		want       map[string]any
	}{
		{
			"defaults of the RFC",
			`{"redirect_uris":["https://client.example.test/callback"]}`,
			map[string]any{
				"redirect_uris": strs(rigCallback), "grant_types": strs("authorization_code"), "response_types": strs("code"),
				"token_endpoint_auth_method": "client_secret_basic",
			},
		},
		{
			"everything that is kept is told",
			`{"redirect_uris":["http://localhost:6274/oauth/callback","http://127.0.0.1/cb","http://[::1]:1/cb","cursor://done/cb"],"client_name":"Inspector",
			  "client_uri":"https://inspector.example.test","logo_uri":"https://inspector.example.test/logo.png","policy_uri":"https://inspector.example.test/privacy",
			  "tos_uri":"https://inspector.example.test/terms","contacts":["ada@example.test"],"post_logout_redirect_uris":["http://localhost/bye"],
			  "grant_types":["refresh_token","authorization_code"],"response_types":["code"],"token_endpoint_auth_method":"none","scope":"read:notes  read:notes openid",
			  "application_type":"native","software_id":"inspector","software_version":"2.12","id_token_signed_response_alg":"ES256"}`,
			map[string]any{
				"redirect_uris": strs("http://localhost:6274/oauth/callback", "http://127.0.0.1/cb", "http://[::1]:1/cb", "cursor://done/cb"), "client_name": "Inspector",
				"client_uri": "https://inspector.example.test", "logo_uri": "https://inspector.example.test/logo.png", "policy_uri": "https://inspector.example.test/privacy",
				"tos_uri": "https://inspector.example.test/terms", "contacts": strs("ada@example.test"), "post_logout_redirect_uris": strs("http://localhost/bye"),
				"grant_types": strs("authorization_code", "refresh_token"), "response_types": strs("code"), "token_endpoint_auth_method": "none", "scope": "read:notes openid",
				"application_type": "native", "software_id": "inspector", "software_version": "2.12", "id_token_signed_response_alg": "ES256",
			},
		},
		{
			"members with a meaning of their own elsewhere change nothing",
			`{"redirect_uris":["https://client.example.test/callback"],"token_endpoint_auth_method":"none","client_id":"mine","client_secret":"mine","client_type":"first_party",
			  "skip_consent":true,"bypass_consent":true,"trusted":true,"org_id":"1","roles":["admin"],"audience":"x","blocked":false,"client_name#de":"Notizen"}`,
			map[string]any{
				"redirect_uris": strs(rigCallback), "grant_types": strs("authorization_code"), "response_types": strs("code"), "token_endpoint_auth_method": "none",
			},
		},
		{
			"a grant type that we do not have is left out of the answer",
			`{"redirect_uris":["https://client.example.test/callback"],"token_endpoint_auth_method":"none","grant_types":["authorization_code","refresh_token","urn:ietf:params:oauth:grant-type:device_code"]}`,
			map[string]any{
				"redirect_uris": strs(rigCallback), "grant_types": strs("authorization_code", "refresh_token"), "response_types": strs("code"), "token_endpoint_auth_method": "none",
			},
		},
		{
			"a program on this computer may link to its page there",
			`{"redirect_uris":["http://localhost:5173/cb"],"token_endpoint_auth_method":"none","client_uri":"http://localhost:5173"}`,
			map[string]any{
				"redirect_uris": strs("http://localhost:5173/cb"), "grant_types": strs("authorization_code"), "response_types": strs("code"), "token_endpoint_auth_method": "none",
				"client_uri": "http://localhost:5173",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			a := r.register(test.body)
			if a.code != http.StatusCreated || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
				t.Fatalf("got %d %v %s", a.code, a.header, a.body)
			}
			got := a.json()
			id, _ := got["client_id"].(string)
			if !strings.HasPrefix(id, "connected-app-test-") {
				t.Errorf("client_id %q", id)
			}
			if got["client_id_issued_at"] != float64(r.clock.Now().Unix()) {
				t.Errorf("client_id_issued_at %v", got["client_id_issued_at"])
			}
			secret, secretThere := got["client_secret"].(string)
			expires, expiresThere := got["client_secret_expires_at"]
			public := got["token_endpoint_auth_method"] == "none"
			if secretThere == public || expiresThere == public {
				t.Errorf("secret %v, its expiry %v, for a client with %v", secretThere, expiresThere, got["token_endpoint_auth_method"])
			}
			kept, err := r.store.Client(t.Context(), r.project.ID, id)
			if err != nil {
				t.Fatal(err)
			}
			if public && kept.Type != oauth.ThirdPartyPublic || !public && kept.Type != oauth.ThirdParty || kept.Creation != oauth.Dynamic || kept.BypassConsent {
				t.Errorf("kept as %s, %s, bypass %v", kept.Type, kept.Creation, kept.BypassConsent)
			}
			if !public && (expires != 0.0 || !strings.HasPrefix(secret, "pst_cs_") || !strings.HasSuffix(secret, kept.SecretLast4)) {
				t.Errorf("secret %q expires at %v", secret, expires)
			}
			token, _ := got["registration_access_token"].(string)
			if uri := got["registration_client_uri"]; public && (token != "" || uri != nil) || !public && (!strings.HasPrefix(token, "pst_rat_") || uri != rigIssuer+oauth.PathRegister+"/"+id) {
				t.Errorf("registration_access_token %q, registration_client_uri %v, for a client with %v", token, uri, got["token_endpoint_auth_method"])
			}
			if diff := cmp.Diff(test.want, without(got, "client_id", "client_id_issued_at", "client_secret", "client_secret_expires_at", "registration_access_token", "registration_client_uri")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A client with a secret authenticates with what it got, by the method that the
// answer names.
//
// Proves: RFC7591-3.2.1-d
func TestRegisteredSecretWorks(t *testing.T) {
	r := newRig(t)
	got := r.register(`{"redirect_uris":["https://client.example.test/callback"]}`).json()
	client, err := r.store.Client(t.Context(), r.project.ID, got["client_id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	r.authorize(client, got["client_secret"].(string), rigNotes, "read:notes")
}

func TestRegisterMerges(t *testing.T) {
	const public = `{"client_name":"Inspector","redirect_uris":["http://localhost:6274/cb"],"token_endpoint_auth_method":"none"}`
	r := newRig(t)
	first := r.register(public).json()
	r.clock.Advance(time.Hour)
	second := r.register(`{"token_endpoint_auth_method":"none", "grant_types":["authorization_code"], "redirect_uris":["http://localhost:6274/cb"], "client_name":"Inspector"}`).json()
	if diff := cmp.Diff(first, second); diff != "" {
		t.Errorf("the same metadata, written differently, made another client: %s", diff)
	}
	kept, err := r.store.Client(t.Context(), r.project.ID, first["client_id"].(string))
	if err != nil {
		t.Fatal(err)
	}
	if !kept.LastRegisteredAt.Equal(r.clock.Now()) || kept.CreatedAt.Equal(r.clock.Now()) {
		t.Errorf("created %v, registered last %v", kept.CreatedAt, kept.LastRegisteredAt)
	}
	for name, body := range map[string]string{
		"another name":     strings.Replace(public, "Inspector", "inspector", 1),
		"another redirect": strings.Replace(public, "6274", "6275", 1),
		"another grant":    strings.Replace(public, `{`, `{"grant_types":["authorization_code","refresh_token"],`, 1),
	} {
		if r.register(body).json()["client_id"] == first["client_id"] {
			t.Errorf("%s: merged", name)
		}
	}
	confidential := strings.Replace(public, "none", "client_secret_post", 1)
	if a, b := r.register(confidential).json(), r.register(confidential).json(); a["client_id"] == b["client_id"] || a["client_secret"] == b["client_secret"] {
		t.Error("two clients with secrets are one")
	}
}

// What is refused here is refused of a change too. Row: G19.
//
// Proves: RFC7591-2-b, RFC7591-2-c, RFC7591-2.1-a, RFC7591-3.2.2-a, RFC7591-3.2.2-b, RFC7591-5-a, RFC7592-2.2-f,
// RFC6749-3.1.2.2-a
func TestRegisterRefuses(t *testing.T) {
	const cb = `"redirect_uris":["https://client.example.test/cb"]`
	redirects := func(uris ...string) string {
		return fmt.Sprintf(`{"token_endpoint_auth_method":"none","redirect_uris":[%s]}`, `"`+strings.Join(uris, `","`)+`"`)
	}
	keyed := func(set string) string {
		return `{"token_endpoint_auth_method":"private_key_jwt","jwks":` + set + `,` + cb + `}`
	}
	rsaKey := func(id string, bits int) string { // a modulus of so many bits; nobody has the other half
		n := make([]byte, bits/8)
		n[0], n[len(n)-1] = 0x80, 1
		return fmt.Sprintf(`{"kty":"RSA","kid":%q,"e":"AQAB","n":%q}`, id, base64.RawURLEncoding.EncodeToString(n))
	}
	var many []string
	for i := range 21 {
		many = append(many, fmt.Sprintf("https://client.example.test/%d", i))
	}
	for _, test := range []struct {
		name, body string
		status     int
		code       string
	}{
		{"G02 no redirect_uris", `{"client_name":"x"}`, 400, "invalid_redirect_uri"},
		{"G02 empty redirect_uris", `{"redirect_uris":[]}`, 400, "invalid_redirect_uri"},
		{"G02 21 redirect_uris", redirects(many...), 400, "invalid_redirect_uri"},
		{"G02 2049 bytes", redirects("https://client.example.test/" + strings.Repeat("a", 2021)), 400, "invalid_redirect_uri"},
		{"G03 plain http", redirects("http://client.example.test/cb"), 400, "invalid_redirect_uri"},
		{"G04 script", redirects("https://client.example.test/cb", "JavaScript:alert(1)"), 400, "invalid_redirect_uri"},
		{"G04 data", redirects("data:text/html,x"), 400, "invalid_redirect_uri"},
		{"G04 blank before it", redirects(" javascript:alert(1)"), 400, "invalid_redirect_uri"},
		{"G04 control byte", redirects(`java\tscript:alert(1)`), 400, "invalid_redirect_uri"},
		{"G05 wildcard", redirects("https://*.example.test/cb"), 400, "invalid_redirect_uri"},
		{"G06 unknown scheme", redirects("whatever://cb"), 400, "invalid_redirect_uri"},
		{"G07 unknown method", `{"token_endpoint_auth_method":"tls",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G07 secret JWT", `{"token_endpoint_auth_method":"client_secret_jwt",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G07 key method without a key", `{"token_endpoint_auth_method":"private_key_jwt",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G07 key method with an empty set", keyed(`{"keys":[]}`), 400, "invalid_client_metadata"},
		{"G07 key method with a key for encryption", keyed(`{"keys":[` + strings.Replace(rsaKey("a", 2048), `"kty"`, `"use":"enc","kty"`, 1) + `]}`), 400, "invalid_client_metadata"},
		{"G07 symmetric algorithm", strings.Replace(keyed(`{"keys":[`+rsaKey("a", 2048)+`]}`), `{`, `{"token_endpoint_auth_signing_alg":"HS256",`, 1), 400, "invalid_client_metadata"},
		{"G08 implicit", `{"grant_types":["implicit"],"response_types":["token"],` + cb + `}`, 400, "invalid_client_metadata"},
		{"G08 password beside the code", `{"grant_types":["authorization_code","password"],` + cb + `}`, 400, "invalid_client_metadata"},
		{"G08 token response", `{"response_types":["code","token"],` + cb + `}`, 400, "invalid_client_metadata"},
		{"G08 response without its grant", `{"grant_types":["refresh_token"],"response_types":["code"],` + cb + `}`, 400, "invalid_client_metadata"},
		{"G10 two places of keys", `{"jwks":{"keys":[]},"jwks_uri":"https://client.example.test/keys",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G10 private key", `{"jwks":{"keys":[{"kty":"EC","d":"x"}]},` + cb + `}`, 400, "invalid_client_metadata"},
		{"G10 private key of a client that authenticates with it", keyed(`{"keys":[{"kty":"EC","crv":"P-256","d":"x"}]}`), 400, "invalid_client_metadata"},
		{"G10 short RSA key", keyed(`{"keys":[` + rsaKey("a", 1024) + `]}`), 400, "invalid_client_metadata"},
		{"G10 one kid twice", keyed(`{"keys":[` + rsaKey("a", 2048) + `,` + rsaKey("a", 2048) + `]}`), 400, "invalid_client_metadata"},
		{"G10 a member of a key twice", keyed(`{"keys":[` + strings.Replace(rsaKey("a", 2048), `"kid":"a"`, `"kid":"a","kid":"b"`, 1) + `]}`), 400, "invalid_client_metadata"},
		{"G10 eleven keys", keyed(`{"keys":[` + strings.TrimSuffix(strings.Repeat(rsaKey("", 2048)+",", 11), ",") + `]}`), 400, "invalid_client_metadata"},
		{"G10 no set", keyed(`[]`), 400, "invalid_client_metadata"},
		{"G10 two places of keys of a client that authenticates with them", strings.Replace(keyed(`{"keys":[`+rsaKey("a", 2048)+`]}`), `{`, `{"jwks_uri":"https://client.example.test/keys",`, 1), 400, "invalid_client_metadata"},
		{"G11 keys at an address of numbers", `{"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"https://10.0.0.1/keys",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G10 symmetric key", `{"jwks":{"keys":[{"kty":"oct","k":"x"}]},` + cb + `}`, 400, "invalid_client_metadata"},
		{"G11 metadata service", `{"logo_uri":"https://169.254.169.254/latest",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G11 address in numbers", `{"client_uri":"https://2130706433/",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G11 address in hex", `{"client_uri":"https://0x7f.1/",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G11 IPv6", `{"policy_uri":"https://[::1]/",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G11 single label", `{"tos_uri":"https://intranet/",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G11 internal name", `{"jwks_uri":"https://metadata.google.internal/",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G11 loopback page of a client elsewhere", `{"client_uri":"http://localhost:3000",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G11 script in a link", `{"client_uri":"javascript:alert(1)",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G11 plain http", `{"client_uri":"http://client.example.test",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G12 sector identifier", `{"sector_identifier_uri":"https://client.example.test/s",` + cb + `}`, 400, "invalid_client_metadata"},
		{"G13 software statement", `{"software_statement":"e30.e30.",` + cb + `}`, 400, "unapproved_software_statement"},
		{"G14 17 KiB", `{"client_name":"` + strings.Repeat("x", 17<<10) + `",` + cb + `}`, 413, "invalid_request"},
		{"G14 nested deeply", `{"x":` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + `,` + cb + `}`, 400, "invalid_client_metadata"},
		{"G15 member twice", `{` + cb + `,` + cb + `}`, 400, "invalid_client_metadata"},
		{"G15 member in other case", `{"Redirect_URIs":["https://client.example.test/cb"]}`, 400, "invalid_client_metadata"},
		{"G15 NUL in a name", `{"client_name\u0000":"x",` + cb + `}`, 400, "invalid_client_metadata"},
		{"wrong type", `{"redirect_uris":"https://client.example.test/cb"}`, 400, "invalid_client_metadata"},
		{"no JSON", `redirect_uris=x`, 400, "invalid_client_metadata"},
		{"scope with a quote", `{"scope":"a \" b",` + cb + `}`, 400, "invalid_client_metadata"},
		{"unknown application type", `{"application_type":"service",` + cb + `}`, 400, "invalid_client_metadata"},
		{"unsigned id_token", `{"id_token_signed_response_alg":"none",` + cb + `}`, 400, "invalid_client_metadata"},
		{"logout to plain http", `{"post_logout_redirect_uris":["http://client.example.test"],` + cb + `}`, 400, "invalid_client_metadata"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			r.register(test.body).refused(test.status, test.code)
			if all, err := r.store.Clients(t.Context(), r.project.ID, "", 10); err != nil || len(all) != 0 {
				t.Errorf("kept %v, %v", all, err)
			}
			o := readOwn(t, http.StatusCreated, r.register(ownMetadata(nil)))
			before := r.ownRow(o)
			r.replaceFrom(o, strings.Replace(test.body, "{", `{"client_id":"`+o.ID+`",`, 1)).refused(test.status, test.code)
			if diff := cmp.Diff(before, r.ownRow(o)); diff != "" {
				t.Errorf("changed to: %s", diff)
			}
		})
	}
}

// ownRow is what is kept of a client.
func (r *rig) ownRow(o own) oauth.Client {
	r.Helper()
	c, err := r.store.Client(r.Context(), r.project.ID, o.ID)
	if err != nil {
		r.Fatal(err)
	}
	return c
}

// Row: G01.
func TestRegisterSwitchedOff(t *testing.T) {
	r := newRig(t, func(p *project.Project) { p.Settings.DynamicRegistration = false })
	a := r.register(`{"redirect_uris":["https://client.example.test/callback"]}`)
	a.refused(http.StatusNotFound, "registration_disabled")
	if text, _ := a.json()["error_description"].(string); !strings.Contains(text, "dynamic-registration") {
		t.Errorf("the sentence does not name the switch: %q", text)
	}
}

// Row: G16. Proves: RFC7591-5-b
func TestRegisterIsLimited(t *testing.T) {
	body := func(i int) string {
		return fmt.Sprintf(`{"redirect_uris":["https://client.example.test/%d"],"token_endpoint_auth_method":"none"}`, i)
	}
	t.Run("per address", func(t *testing.T) {
		r := newRig(t)
		for i := range 60 {
			// One customer has a whole network of these.
			if a := r.registerFrom(fmt.Sprintf("2001:db8::%x", i+1), body(i)); a.code != http.StatusCreated {
				t.Fatalf("registration %d: %d %s", i, a.code, a.body)
			}
		}
		a := r.registerFrom("2001:db8::ffff", body(60))
		if a.refused(http.StatusTooManyRequests, "temporarily_unavailable"); a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if a := r.registerFrom("2001:db8:0:1::1", body(60)); a.code != http.StatusCreated {
			t.Errorf("another network: %d %s", a.code, a.body)
		}
		r.clock.Advance(time.Hour)
		if a := r.registerFrom("2001:db8::ffff", body(60)); a.code != http.StatusCreated {
			t.Errorf("an hour later: %d %s", a.code, a.body)
		}
	})
	t.Run("per project", func(t *testing.T) {
		r := newRig(t)
		for i := range 500 {
			if a := r.registerFrom(fmt.Sprintf("192.0.2.%d", i/50), body(0)); a.code != http.StatusCreated {
				t.Fatalf("registration %d: %d %s", i, a.code, a.body)
			}
		}
		r.registerFrom("198.51.100.1", body(0)).refused(http.StatusTooManyRequests, "temporarily_unavailable")
	})
}

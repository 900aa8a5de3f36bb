package guard_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
)

func sprint(v any) string { return fmt.Sprintf("%v %+v %#v", v, v, v) }

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) || want == nil && got != nil {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// TestWrongTokens proves that every way of being wrong that guardtest knows is
// refused with its status, by signature and by introspection where that
// applies, and that nothing in a wrong token makes the server fetch anything.
//
// Row: J01, J02, J03, J04, J08, J09, J10, J12, J13, J16, J21. Proves: MCP-RS-6, MCP-RS-10, MCP-RS-11,
// RFC6750-5.2-a, RFC6749-10.3-a, RFC6749-7-b.
func TestWrongTokens(t *testing.T) {
	for _, alg := range []string{"ES256", "RS256", "EdDSA"} {
		issuer := guardtest.New(t)
		handler := &ran{}
		h := newGuard(t, todoConfig(issuer)).Protect(handler)
		token := guardtest.Token{Resource: resource, Scopes: []string{"admin"}, Alg: alg}
		if w := call(h, http.MethodPost, toolCall("create"), bearer(issuer.Mint(token))...); w.Code != 202 {
			t.Fatalf("%s: a right token gets %d %s", alg, w.Code, w.Header())
		}
		handler.times = 0
		for _, wrong := range guardtest.Wrongs() {
			t.Run(alg+" "+string(wrong), func(t *testing.T) {
				bad := issuer.MintWrong(wrong, token)
				for range 2 { // the second time perhaps from a cache
					w := call(h, http.MethodPost, toolCall("create"), bearer(bad)...)
					if w.Code != wrong.Status() {
						t.Errorf("status %d, want %d", w.Code, wrong.Status())
					}
				}
			})
		}
		if handler.times != 0 {
			t.Errorf("the handler ran %d times", handler.times)
		}
		if issuer.Hits("/evil") != 0 || issuer.Hits("/jwks") > 2 {
			t.Errorf("fetched /evil %d times, /jwks %d times", issuer.Hits("/evil"), issuer.Hits("/jwks"))
		}
	}
}

// TestBrokenTokens proves that text that is not quite a JWT is refused without
// a panic and quickly.
//
// Row: J14, J15.
func TestBrokenTokens(t *testing.T) {
	issuer := guardtest.New(t)
	g := newGuard(t, todoConfig(issuer))
	good := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"admin"}})
	parts := strings.Split(good, ".")
	head := func(json string) string {
		return base64.RawURLEncoding.EncodeToString([]byte(json)) + "." + parts[1] + "." + parts[2]
	}
	claims := func(json string) string {
		return parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(json)) + "." + parts[2]
	}
	for name, token := range map[string]string{
		"empty":                 "",
		"one part":              parts[0],
		"two parts":             parts[0] + "." + parts[1],
		"four parts":            good + ".x",
		"five parts (JWE)":      good + ".x.y",
		"dots only":             strings.Repeat(".", 8000),
		"empty parts":           "..",
		"padding":               good + "==",
		"JSON serialisation":    `{"payload":"","signatures":[]}`,
		"nested JWS":            parts[0] + "." + base64.RawURLEncoding.EncodeToString([]byte(good)) + "." + parts[2],
		"header is an array":    head(`[]`),
		"header is a string":    head(`"x"`),
		"header is cut":         head(`{"alg":"ES256"`),
		"header with two algs":  head(`{"alg":"ES256","alg":"none"}`),
		"header with Alg":       head(`{"Alg":"ES256","alg":"ES256"}`),
		"no alg":                head(`{"typ":"at+jwt"}`),
		"alg is a number":       head(`{"alg":1,"typ":"at+jwt"}`),
		"PS512":                 head(`{"alg":"PS512","typ":"at+jwt"}`),
		"None":                  head(`{"alg":"None","typ":"at+jwt"}`),
		"zip":                   head(`{"alg":"ES256","typ":"at+jwt","zip":"DEF"}`),
		"p2c":                   head(`{"alg":"PBES2-HS256+A128KW","enc":"A128GCM","p2c":2147483648}`),
		"kid of 4 KiB":          head(`{"alg":"ES256","typ":"at+jwt","kid":"` + strings.Repeat("k", 4000) + `"}`),
		"kid with a path":       head(`{"alg":"ES256","typ":"at+jwt","kid":"../../etc/passwd"}`),
		"claims are an array":   claims(`[1]`),
		"claims are null":       claims(`null`),
		"claims are deep":       claims(strings.Repeat(`{"a":`, 1000) + "1" + strings.Repeat("}", 1000)),
		"a thousand claims":     claims("{" + strings.TrimSuffix(manyClaims(700), ",") + "}"),
		"signature of zeros":    parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString(make([]byte, 64)),
		"signature too short":   parts[0] + "." + parts[1] + "." + parts[2][:20],
		"signature in ASN.1":    parts[0] + "." + parts[1] + "." + base64.RawURLEncoding.EncodeToString([]byte{0x30, 6, 2, 1, 0, 2, 1, 0}),
		"other last bits":       good[:len(good)-1] + string(sibling(good[len(good)-1])),
		"signature of another":  strings.Join(append(strings.Split(issuer.Mint(guardtest.Token{Resource: resource, Subject: "x"}), ".")[:2], parts[2]), "."),
		"line break in a part":  parts[0] + ".\n" + parts[1] + "." + parts[2],
		"standard alphabet":     strings.ReplaceAll(good, "-", "+"),
		"more than eight KiB":   strings.Repeat("a", 8<<10+1),
		"space before the rest": " " + good,
	} {
		t.Run(name, func(t *testing.T) {
			if name == "standard alphabet" && token == good {
				t.Skip("this token has no such letter")
			}
			start := time.Now()
			_, err := g.Verify(t.Context(), token)
			wantError(t, "Verify", err, guard.ErrInvalidToken)
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
	if hits := issuer.Hits("/jwks"); hits > 2 {
		t.Errorf("/jwks was fetched %d times", hits)
	}
}

func manyClaims(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d":1,`, i)
	}
	return b.String()
}

// sibling is the next letter of the alphabet: it differs only in bits that a
// lax decoder throws away.
func sibling(c byte) byte {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return letters[strings.IndexByte(letters, c)^1]
}

// TestTime proves the leeway of 30 seconds, to the second, and that dates are
// numbers.
//
// Row: J12, J24. Proves: RFC6750-5.2-c, RFC6749-7-b.
func TestTime(t *testing.T) {
	issuer := guardtest.New(t)
	g := newGuard(t, todoConfig(issuer))
	now := issuer.Now().Unix()
	for _, c := range []struct {
		name string
		set  map[string]any
		want error
	}{
		{"expired 30 s ago", map[string]any{"exp": now - 30}, nil},
		{"expired 31 s ago", map[string]any{"exp": now - 31}, guard.ErrInvalidToken},
		{"not before in 30 s", map[string]any{"nbf": now + 30}, nil},
		{"not before in 31 s", map[string]any{"nbf": now + 31}, guard.ErrInvalidToken},
		{"issued in 30 s", map[string]any{"iat": now + 30}, nil},
		{"issued in 31 s", map[string]any{"iat": now + 31}, guard.ErrInvalidToken},
		{"a fraction of a second", map[string]any{"exp": float64(now) + 60.5}, nil},
		{"text", map[string]any{"exp": fmt.Sprint(now + 60)}, guard.ErrInvalidToken},
		{"for ever", map[string]any{"exp": 1e308}, guard.ErrInvalidToken},
		{"negative", map[string]any{"exp": -1}, guard.ErrInvalidToken},
		{"zero", map[string]any{"exp": 0}, guard.ErrInvalidToken},
		{"null", map[string]any{"exp": []any{}}, guard.ErrInvalidToken},
		{"an object", map[string]any{"exp": map[string]any{}}, guard.ErrInvalidToken},
		{"true", map[string]any{"iat": true}, guard.ErrInvalidToken},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := g.Verify(t.Context(), issuer.Mint(guardtest.Token{Resource: resource, Claims: c.set}))
			wantError(t, "Verify", err, c.want)
		})
	}
	t.Run("a remembered token ends too", func(t *testing.T) {
		token := issuer.Mint(guardtest.Token{Resource: resource, Lifetime: time.Minute})
		for _, step := range []struct {
			by   time.Duration
			want error
		}{{0, nil}, {59 * time.Second, nil}, {time.Second, nil}, {30 * time.Second, nil}, {time.Second, guard.ErrInvalidToken}} {
			issuer.Advance(step.by)
			_, err := g.Verify(t.Context(), token)
			wantError(t, step.by.String(), err, step.want)
		}
	})
}

// TestAudience proves that only this resource's own name opens it.
//
// Proves: MCP-RS-10, RFC6750-5.2-b, RFC9728-7.4-a.
func TestAudience(t *testing.T) {
	issuer := guardtest.New(t)
	for _, c := range []struct {
		resource string
		aud      any
		want     error
	}{
		{resource, resource, nil},
		{resource, []string{"project-test-1", resource}, nil},
		{resource, resource + "/", guard.ErrInvalidToken},
		{resource, "http://localhost:8080", guard.ErrInvalidToken},
		{resource, "http://LOCALHOST:8080/mcp", guard.ErrInvalidToken},
		{resource, "project-test-1", guard.ErrInvalidToken},
		{resource, []any{resource, 1}, guard.ErrInvalidToken},
		{resource, map[string]any{"0": resource}, guard.ErrInvalidToken},
		{resource, [][]string{{resource}}, guard.ErrInvalidToken},
		{"https://notes.example.com", "https://notes.example.com", nil},
		{"https://notes.example.com", "https://notes.example.com/", nil},
		{"https://notes.example.com", "https://notes.example.com//", guard.ErrInvalidToken},
		{"https://notes.example.com/mcp/", "https://notes.example.com/mcp/", nil},
		{"https://notes.example.com/mcp/", "https://notes.example.com/mcp", guard.ErrInvalidToken},
	} {
		g := newGuard(t, issuer.Config(c.resource))
		_, err := g.Verify(t.Context(), issuer.Mint(guardtest.Token{Claims: map[string]any{"aud": c.aud}}))
		wantError(t, fmt.Sprintf("resource %s, aud %v", c.resource, c.aud), err, c.want)
	}
}

// TestKinds proves which headers and claims make an access token (decision 26).
//
// Row: J08. Proves: MCP-RS-11.
func TestKinds(t *testing.T) {
	issuer := guardtest.New(t)
	strict := newGuard(t, issuer.Config(resource, "a"))
	cfg := issuer.Config(resource, "a")
	cfg.AcceptPlainJWT = true
	plain := newGuard(t, cfg)
	for _, c := range []struct {
		name                string
		typ                 any
		claims              map[string]any
		strict, acceptPlain bool
	}{
		{"at+jwt", "at+jwt", nil, true, true},
		{"application/at+jwt", "application/at+jwt", nil, true, true},
		{"AT+JWT", "AT+JWT", nil, true, true},
		{"at+jwt without token_use", "at+jwt", map[string]any{"token_use": nil}, true, true},
		{"at+jwt that says it is an id token", "at+jwt", map[string]any{"token_use": "id"}, false, false},
		{"JWT with token_use", "JWT", nil, true, true},
		{"JWT with token_use refresh", "JWT", map[string]any{"token_use": "refresh"}, false, false},
		{"JWT alone", "JWT", map[string]any{"token_use": nil}, false, true},
		{"no type", nil, map[string]any{"token_use": nil}, false, true},
		{"no type, scp", nil, map[string]any{"token_use": nil, "scope": nil, "scp": []string{"a"}}, false, true},
		{"no type, azp", nil, map[string]any{"token_use": nil, "client_id": nil, "azp": "client"}, false, true},
		{"no type, no client", nil, map[string]any{"token_use": nil, "client_id": nil}, false, false},
		{"no type, no scope", nil, map[string]any{"token_use": nil, "scope": nil}, false, false},
		{"no type, nonce", nil, map[string]any{"token_use": nil, "nonce": "n"}, false, false},
		{"no type, at_hash", nil, map[string]any{"token_use": nil, "at_hash": "n"}, false, false},
		{"no type, c_hash", nil, map[string]any{"token_use": nil, "c_hash": "n"}, false, false},
		{"no type, session", nil, map[string]any{"token_use": nil, "https://issuer.example.com/session": map[string]any{}}, false, false},
		{"other type", "logout+jwt", nil, false, false},
		{"type of a JWK", "jwk+json", map[string]any{"token_use": nil}, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			token := issuer.MintTyped(c.typ, guardtest.Token{Resource: resource, Scopes: []string{"a"}, Claims: c.claims})
			for g, want := range map[*guard.Guard]bool{strict: c.strict, plain: c.acceptPlain} {
				if _, err := g.Verify(t.Context(), token); (err == nil) != want {
					t.Errorf("plain accepted: %v; Verify: %v, want accepted %v", g == plain, err, want)
				}
			}
		})
	}
}

// TestOrganization proves where the organization of a member is read from.
func TestOrganization(t *testing.T) {
	issuer := guardtest.New(t)
	cfg := issuer.Config(resource)
	cfg.OrganizationClaim = "https://issuer.example.com/organization"
	named := newGuard(t, cfg)
	p, err := named.Verify(t.Context(), issuer.Mint(guardtest.Token{Resource: resource, Claims: map[string]any{
		"https://issuer.example.com/organization": map[string]any{"organization_id": "organization-1", "slug": "s"},
	}}))
	if err != nil || p.Organization != "organization-1" {
		t.Errorf("%+v %v", p, err)
	}
	_, err = named.Verify(t.Context(), issuer.Mint(guardtest.Token{Resource: resource, Claims: map[string]any{
		"https://issuer.example.com/organization": 7,
	}}))
	wantError(t, "a number", err, guard.ErrInvalidToken)
}

package oauth_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

// keyholder is a client's program with a key of its own.
type keyholder struct {
	*testing.T
	id, issuer, kid string
	key             *ecdsa.PrivateKey
	now             func() time.Time
}

func newKeyholder(t *testing.T, issuer, kid string, now func() time.Time) *keyholder {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &keyholder{T: t, issuer: issuer, kid: kid, key: key, now: now}
}

// set is the JWK set of its public key.
func (k *keyholder) set() string {
	k.Helper()
	point, err := k.key.PublicKey.Bytes() // 4, then x and y
	if err != nil {
		k.Fatal(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"keys":[{"kty":"EC","use":"sig","crv":"P-256","kid":%q,"x":%q,"y":%q}]}`, k.kid, encode(point[1:33]), encode(point[33:]))
}

// claims are those of an assertion that holds, with changes; nil takes one out.
func (k *keyholder) claims(changes map[string]any) map[string]any {
	now := k.now().Unix()
	claims := map[string]any{"iss": k.id, "sub": k.id, "aud": k.issuer, "exp": now + 60, "iat": now, "jti": rand.Text()}
	for name, value := range changes {
		if claims[name] = value; value == nil {
			delete(claims, name)
		}
	}
	return claims
}

// sign makes the compact JWS of a payload.
func (k *keyholder) sign(header map[string]any, payload any) string {
	k.Helper()
	part := func(v any) string {
		text, ok := v.(string)
		if !ok {
			body, err := json.Marshal(v)
			if err != nil {
				k.Fatal(err)
			}
			text = string(body)
		}
		return base64.RawURLEncoding.EncodeToString([]byte(text))
	}
	signed := part(header) + "." + part(payload)
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, k.key, sum[:])
	if err != nil {
		k.Fatal(err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature[:])
}

func (k *keyholder) assertion(changes map[string]any) string {
	k.Helper()
	return k.sign(map[string]any{"alg": "ES256", "kid": k.kid}, k.claims(changes))
}

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// proved adds an assertion to a form, and changes as in with.
func proved(form url.Values, assertion string, changes ...string) url.Values {
	form = maps.Clone(form)
	form.Set("client_assertion_type", assertionType)
	form.Set("client_assertion", assertion)
	return with(form, changes...)
}

// keyed registers a client with a key by hand.
func (w *world) keyed(t *testing.T, name string) (oauth.Client, *keyholder) {
	t.Helper()
	k := newKeyholder(t, w.Issuer, "key-1", w.Clock.Now)
	c := w.client(t, oauth.NewClient{Name: name, Type: oauth.ThirdParty, JWKS: []byte(k.set())})
	k.id = c.ID
	if c.SecretID != "" || w.keys[c.ID] != "" || c.Metadata.TokenEndpointAuthMethod != "private_key_jwt" {
		t.Fatalf("registered %+v", c)
	}
	return c, k
}

// A client with a key is known by it at every endpoint, and every assertion is
// good for one request.
//
// Rows: T19.
//
// Proves: RFC7523-2.2-a, RFC7523-2.2-b, RFC7523-3-h, RFC7521-4.2-a, MCP-AS-44, RFC9700-2.5-b, RFC7591-2-e
func TestClientAssertion(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		c, k := w.keyed(t, "Keys")
		post := func(path string, form url.Values) answer {
			t.Helper()
			return w.send(t, http.MethodPost, path, isForm, form.Encode())
		}
		first := got(t, post(oauth.PathToken, proved(redeem(w.code(t, request(c.ID))), k.assertion(nil))))
		t.Run("with the client_id beside it, the audience in a list", func(t *testing.T) {
			assertion := k.assertion(map[string]any{"aud": []string{w.Issuer}, "nbf": k.now().Unix(), "exp": float64(k.now().Unix()) + 300.5})
			got(t, post(oauth.PathToken, proved(redeem(w.code(t, request(c.ID))), assertion, "client_id", c.ID)))
		})
		t.Run("without kid", func(t *testing.T) {
			got(t, post(oauth.PathToken, proved(redeem(w.code(t, request(c.ID))), k.sign(map[string]any{"alg": "ES256", "typ": "JWT"}, k.claims(nil)))))
		})
		t.Run("introspection, refresh, revocation", func(t *testing.T) {
			if a := post(oauth.PathIntrospect, proved(url.Values{"token": {first.Access}}, k.assertion(nil))); a.json()["active"] != true {
				t.Errorf("introspection: %d %s", a.code, a.body)
			}
			next := got(t, post(oauth.PathToken, proved(refresh(first.Refresh), k.assertion(nil))))
			if a := post(oauth.PathRevoke, proved(url.Values{"token": {next.Refresh}}, k.assertion(nil))); a.code != http.StatusOK || w.active(t, next.Access) {
				t.Errorf("revocation: %d %s", a.code, a.body)
			}
		})
		t.Run("T19 a second time, at any endpoint", func(t *testing.T) {
			assertion := k.assertion(nil)
			got(t, post(oauth.PathToken, proved(redeem(w.code(t, request(c.ID))), assertion)))
			for path, form := range map[string]url.Values{ // the code is made before anything is counted
				oauth.PathToken: redeem(w.code(t, request(c.ID))), oauth.PathRevoke: {"token": {first.Refresh}}, oauth.PathIntrospect: {"token": {first.Access}},
			} {
				w.refuses(t, audit.ClientRefused, func() {
					refusedToken(t, post(path, proved(form, assertion)), http.StatusUnauthorized, "invalid_client")
				})
			}
		})
		t.Run("T19 a second time after a request that came to nothing", func(t *testing.T) {
			assertion := k.assertion(nil)
			refusedToken(t, post(oauth.PathToken, proved(redeem("no code"), assertion)), http.StatusBadRequest, "invalid_grant")
			code := w.code(t, request(c.ID))
			w.refuses(t, audit.ClientRefused, func() {
				refusedToken(t, post(oauth.PathToken, proved(redeem(code), assertion)), http.StatusUnauthorized, "invalid_client")
			})
		})
		t.Run("T19 twenty at once", func(t *testing.T) {
			form := proved(url.Values{"token": {"x"}}, k.assertion(nil)).Encode()
			var taken atomic.Int32
			var wait sync.WaitGroup
			for range 20 {
				wait.Go(func() {
					if a, err := w.try(t, http.MethodPost, oauth.PathRevoke, isForm, form); err != nil || a.code != http.StatusOK && a.code != http.StatusUnauthorized {
						t.Errorf("%d %s %v", a.code, a.body, err)
					} else if a.code == http.StatusOK {
						taken.Add(1)
					}
				})
			}
			if wait.Wait(); taken.Load() != 1 {
				t.Errorf("%d were taken", taken.Load())
			}
		})
	})
}

// Rows: T20, T21, T22.
//
// Proves: RFC7523-3-a, RFC7523-3-b, RFC7523-3-c, RFC7523-3-d, RFC7523-3-e, RFC7523-3-f, RFC7523-3-g, RFC7523-3-i, RFC7523-3.2-a, RFC7521-4.2-b, MCP-AS-44
func TestClientAssertionRefused(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		c, k := w.keyed(t, "Keys")
		other, ok := w.keyed(t, "Other")
		stranger := newKeyholder(t, w.Issuer, k.kid, w.Clock.Now)
		stranger.id = c.ID
		type seconds int64 // from now
		claim := func(name string, value any) func() url.Values {
			return func() url.Values {
				changes := map[string]any{name: value}
				if ahead, ok := value.(seconds); ok {
					changes[name] = w.Clock.Now().Unix() + int64(ahead)
				}
				return proved(url.Values{}, k.assertion(changes))
			}
		}
		form := func(pairs ...string) func() url.Values {
			return func() url.Values { return proved(url.Values{}, k.assertion(nil), pairs...) }
		}
		text := func(assertion func() string) func() url.Values {
			return func() url.Values { return proved(url.Values{}, assertion()) }
		}
		for _, row := range []struct {
			name   string
			form   func() url.Values
			status int
			code   string
			says   string
		}{
			{"no assertion: not taken for a public client", func() url.Values { return url.Values{"client_id": {c.ID}} }, 401, "invalid_client", "private_key_jwt"},
			{"a secret instead", func() url.Values { return url.Values{"client_id": {c.ID}, "client_secret": {w.keys[w.post.ID]}} }, 401, "invalid_client", "private_key_jwt"},
			{"another type", form("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:saml2-bearer"), 401, "invalid_client", "client_assertion_type"},
			{"the type in other case", form("client_assertion_type", strings.ToUpper(assertionType)), 401, "invalid_client", "client_assertion_type"},
			{"no type", form("client_assertion_type", ""), 401, "invalid_client", "client_assertion_type"},
			{"a type alone", form("client_assertion", ""), 401, "invalid_client", "client_assertion"},
			{"T16 a secret beside it", form("client_id", c.ID, "client_secret", "x"), 400, "invalid_request", "one way"},
			{"T20 another client_id beside it", form("client_id", other.ID), 401, "invalid_client", "iss and sub"},
			{"T20 iss of another", claim("iss", other.ID), 401, "invalid_client", "iss and sub"},
			{"T20 sub of another", claim("sub", other.ID), 401, "invalid_client", "iss and sub"},
			{"T20 sub of another, with the client_id beside it", func() url.Values {
				return proved(url.Values{"client_id": {c.ID}}, k.assertion(map[string]any{"sub": other.ID}))
			}, 401, "invalid_client", "iss and sub"},
			{"T20 no sub", claim("sub", nil), 401, "invalid_client", "iss and sub"},
			{"T20 no iss", claim("iss", nil), 401, "invalid_client", "iss and sub"},
			{"T20 both of another", func() url.Values {
				return proved(url.Values{}, k.assertion(map[string]any{"iss": other.ID, "sub": other.ID}))
			}, 401, "invalid_client", "No key"},
			{"T20 of nobody", func() url.Values { return proved(url.Values{}, k.assertion(map[string]any{"iss": "x", "sub": "x"})) }, 401, "invalid_client", "not known"},
			{"T20 no audience", claim("aud", nil), 401, "invalid_client", "aud"},
			{"T20 the token endpoint as audience", claim("aud", w.Issuer+oauth.PathToken), 401, "invalid_client", "the issuer"},
			{"T20 the issuer with a slash", claim("aud", w.Issuer+"/"), 401, "invalid_client", "aud"},
			{"T20 X10 two audiences", claim("aud", []string{w.Issuer, "https://other.example.test"}), 401, "invalid_client", "aud"},
			{"T20 the issuer twice", claim("aud", []string{w.Issuer, w.Issuer}), 401, "invalid_client", "aud"},
			{"T20 an empty list of audiences", claim("aud", []string{}), 401, "invalid_client", "aud"},
			{"T20 an audience that is a number", claim("aud", 7), 401, "invalid_client", "client_assertion"},
			{"T20 no exp", claim("exp", nil), 401, "invalid_client", "exp"},
			{"T20 exp as a text", claim("exp", "1"), 401, "invalid_client", "client_assertion"},
			{"T20 exp now", claim("exp", seconds(0)), 401, "invalid_client", "exp"},
			{"T20 exp past", claim("exp", seconds(-1)), 401, "invalid_client", "exp"},
			{"T20 T21 exp more than five minutes ahead", claim("exp", seconds(331)), 401, "invalid_client", "exp"},
			{"T20 T21 exp two days ahead", claim("exp", seconds(48*3600)), 401, "invalid_client", "exp"},
			{"T20 exp beyond all clocks", claim("exp", 1e300), 401, "invalid_client", "exp"},
			{"T20 iat ahead", claim("iat", seconds(31)), 401, "invalid_client", "iat"},
			{"T20 nbf ahead", claim("nbf", seconds(31)), 401, "invalid_client", "nbf"},
			{"T20 no jti", claim("jti", nil), 401, "invalid_client", "jti"},
			{"T20 an empty jti", claim("jti", ""), 401, "invalid_client", "jti"},
			{"T20 a long jti", claim("jti", strings.Repeat("j", 257)), 401, "invalid_client", "jti"},
			{"T20 a claim twice", text(func() string {
				payload, err := json.Marshal(k.claims(nil))
				if err != nil {
					t.Error(err)
				}
				return k.sign(map[string]any{"alg": "ES256", "kid": k.kid}, `{"aud":"x",`+string(payload[1:]))
			}), 401, "invalid_client", "client_assertion"},
			{"T20 alg none", text(func() string {
				signed := k.sign(map[string]any{"alg": "none"}, k.claims(nil))
				return signed[:strings.LastIndexByte(signed, '.')+1]
			}), 401, "invalid_client", "client_assertion"},
			{"T20 alg HS256", text(func() string { return k.sign(map[string]any{"alg": "HS256"}, k.claims(nil)) }), 401, "invalid_client", "client_assertion"},
			{"T20 an algorithm that is not the key's", text(func() string { return k.sign(map[string]any{"alg": "RS256", "kid": k.kid}, k.claims(nil)) }), 401, "invalid_client", "No key"},
			{"T20 an unknown kid", text(func() string { return k.sign(map[string]any{"alg": "ES256", "kid": "other"}, k.claims(nil)) }), 401, "invalid_client", "No key"},
			{"T20 the key of a stranger", text(func() string { return stranger.assertion(nil) }), 401, "invalid_client", "No key"},
			{"T20 the key of another client", text(func() string {
				return ok.sign(map[string]any{"alg": "ES256"}, k.claims(nil))
			}), 401, "invalid_client", "No key"},
			{"T20 a critical header", text(func() string {
				return k.sign(map[string]any{"alg": "ES256", "kid": k.kid, "crit": []string{"x"}, "x": 1}, k.claims(nil))
			}), 401, "invalid_client", "client_assertion"},
			{"T22 9 KiB", claim("x", strings.Repeat("x", 9<<10)), 401, "invalid_client", "8 KiB"},
			{"T22 dots", text(func() string { return strings.Repeat(".", 9<<10) }), 401, "invalid_client", "client_assertion"},
			{"of a public client", text(func() string {
				return k.assertion(map[string]any{"iss": w.public.ID, "sub": w.public.ID})
			}), 401, "invalid_client", "as it registered"},
			{"of a client with a secret", text(func() string {
				return k.assertion(map[string]any{"iss": w.basic.ID, "sub": w.basic.ID})
			}), 401, "invalid_client", "as it registered"},
		} {
			t.Run(row.name, func(t *testing.T) {
				w.Clock.Advance(4 * time.Second) // for the count of failures
				code := w.code(t, request(c.ID))
				w.refuses(t, audit.ClientRefused, func() {
					sent := redeem(code)
					maps.Copy(sent, row.form())
					a := w.send(t, http.MethodPost, oauth.PathToken, isForm, sent.Encode())
					refusedToken(t, a, row.status, row.code)
					if a.header.Get("WWW-Authenticate") != "" {
						t.Error("Basic is asked for")
					}
					if said, _ := a.json()["error_description"].(string); !strings.Contains(said, row.says) {
						t.Errorf("it does not say %q: %s", row.says, said)
					}
				})
				got(t, w.send(t, http.MethodPost, oauth.PathToken, isForm, proved(redeem(code), k.assertion(nil)).Encode()))
			})
		}
		t.Run("T16 beside Basic", func(t *testing.T) {
			header := isForm.Clone()
			header.Set("Authorization", basicAuth(w.basic.ID, w.keys[w.basic.ID]))
			code := w.code(t, request(w.basic.ID))
			w.refuses(t, audit.ClientRefused, func() {
				a := w.send(t, http.MethodPost, oauth.PathToken, header, proved(redeem(code), k.assertion(nil)).Encode())
				refusedToken(t, a, http.StatusBadRequest, "invalid_request")
			})
		})
		t.Run("T22 a megabyte", func(t *testing.T) {
			a := w.send(t, http.MethodPost, oauth.PathToken, isForm, proved(redeem("x"), strings.Repeat(".", 1<<20)).Encode())
			refusedToken(t, a, http.StatusRequestEntityTooLarge, "invalid_request")
		})
		t.Run("of a blocked client", func(t *testing.T) {
			code := w.code(t, request(other.ID))
			if _, err := w.Clients.Block(t.Context(), w.Project, other.ID); err != nil {
				t.Fatal(err)
			}
			w.refuses(t, audit.ClientRefused, func() {
				a := w.send(t, http.MethodPost, oauth.PathToken, isForm, proved(redeem(code), ok.assertion(nil)).Encode())
				refusedToken(t, a, http.StatusUnauthorized, "invalid_client")
			})
		})
		t.Run("tokens that a key got are not refreshed by another way", func(t *testing.T) {
			i := got(t, w.send(t, http.MethodPost, oauth.PathToken, isForm, proved(redeem(w.code(t, request(c.ID))), k.assertion(nil)).Encode()))
			w.refuses(t, audit.ClientRefused, func() {
				a := w.send(t, http.MethodPost, oauth.PathToken, isForm, refresh(i.Refresh, "client_id", c.ID).Encode())
				refusedToken(t, a, http.StatusUnauthorized, "invalid_client")
			})
		})
		t.Run("wrong signatures are counted, and a right one works all the same", func(t *testing.T) {
			w.Clock.Advance(2 * time.Minute)
			code := w.code(t, request(c.ID))
			for i := range 22 {
				a := w.send(t, http.MethodPost, oauth.PathToken, isForm, proved(redeem("x"), stranger.assertion(nil)).Encode())
				if want := map[bool]int{true: 401, false: 429}[i < 20]; a.code != want {
					t.Errorf("after %d: %d, want %d", i, a.code, want)
				}
			}
			got(t, w.send(t, http.MethodPost, oauth.PathToken, isForm, proved(redeem(code), k.assertion(nil)).Encode()))
		})
	})
}

// keyHost publishes a client's keys at a jwks_uri.
type keyHost struct {
	mu     sync.Mutex
	asked  int
	answer func(r *http.Request) (status int, header http.Header, body string)
}

func (h *keyHost) RoundTrip(r *http.Request) (*http.Response, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	status, header, body := h.answer(r)
	if status == 0 {
		return nil, errors.New("nobody there")
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// publishes lets a rig's clients find these sets.
func (r *rig) publishes(sets ...*keyholder) *keyHost {
	h := &keyHost{}
	h.set(sets...)
	r.fetch = &http.Client{Transport: h}
	return h
}

func (h *keyHost) set(of ...*keyholder) {
	var keys []string
	for _, k := range of {
		keys = append(keys, strings.TrimSuffix(strings.TrimPrefix(k.set(), `{"keys":[`), `]}`))
	}
	h.says(200, http.Header{"Content-Type": {"application/jwk-set+json"}, "Cache-Control": {"max-age=86400"}}, `{"keys":[`+strings.Join(keys, ",")+`]}`)
}

func (h *keyHost) says(status int, header http.Header, body string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.answer = func(*http.Request) (int, http.Header, string) { return status, header, body }
}

const keysAt = "https://keys.example.test/jwks.json"

// keyed registers a client at a jwks_uri.
func (r *rig) keyed(k *keyholder, uri string) oauth.Client {
	r.Helper()
	a := r.register(`{"client_name":"Keys","redirect_uris":["https://client.example.test/callback"],"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"` + uri + `"}`)
	if a.code != http.StatusCreated {
		r.Fatalf("register: %d %s", a.code, a.body)
	}
	k.id = a.json()["client_id"].(string)
	c, err := r.store.Client(r.Context(), r.project.ID, k.id)
	if err != nil {
		r.Fatal(err)
	}
	return c
}

// gives asks for the revocation of nothing, for which a client needs no more than
// to be believed.
func (r *rig) gives(assertion string) answer {
	r.Helper()
	return r.post(r.server.Revoke, "", "", proved(url.Values{"token": {"x"}}, assertion))
}

// Keys at a jwks_uri are read when somebody needs them, and not for everybody.
func TestPublishedKeys(t *testing.T) {
	const ok, refused, down = http.StatusOK, http.StatusUnauthorized, http.StatusServiceUnavailable
	begin := func(t *testing.T) (*rig, *keyHost, *keyholder) {
		r := newRig(t)
		k := newKeyholder(t, rigIssuer, "key-1", r.clock.Now)
		h := r.publishes(k)
		r.keyed(k, keysAt)
		return r, h, k
	}
	says := func(r *rig, assertion string, status int) {
		r.Helper()
		if a := r.gives(assertion); a.code != status {
			r.Errorf("got %d %s, want %d", a.code, a.body, status)
		}
	}
	asked := func(r *rig, h *keyHost, want int) {
		r.Helper()
		if h.asked != want {
			r.Errorf("the keys were read %d times, want %d", h.asked, want)
		}
	}
	t.Run("are read once, and again when they are an hour old", func(t *testing.T) {
		r, h, k := begin(t)
		asked(r, h, 0) // not at registration
		for range 3 {
			says(r, k.assertion(nil), ok)
		}
		asked(r, h, 1)
		r.clock.Advance(time.Hour - time.Second)
		says(r, k.assertion(nil), ok)
		asked(r, h, 1)
		r.clock.Advance(time.Second)
		says(r, k.assertion(nil), ok)
		asked(r, h, 2)
	})
	t.Run("are read again for a key that is not among them, once a minute", func(t *testing.T) {
		r, h, k := begin(t)
		says(r, k.assertion(nil), ok)
		next := newKeyholder(t, rigIssuer, "key-2", r.clock.Now)
		next.id = k.id
		h.set(next)
		for range 3 {
			says(r, next.assertion(nil), refused)
		}
		asked(r, h, 1)
		r.clock.Advance(time.Minute)
		says(r, next.assertion(nil), ok)
		asked(r, h, 2)
		for range 5 {
			says(r, k.assertion(nil), refused) // it was taken out
		}
		asked(r, h, 2)
	})
	t.Run("serve for three hours more while the host is away", func(t *testing.T) {
		r, h, k := begin(t)
		says(r, k.assertion(nil), ok)
		h.says(0, nil, "")
		r.clock.Advance(time.Hour)
		says(r, k.assertion(nil), ok)
		says(r, k.assertion(nil), ok)
		asked(r, h, 2)
		r.clock.Advance(3*time.Hour - time.Second)
		says(r, k.assertion(nil), ok)
		r.clock.Advance(time.Minute)
		says(r, k.assertion(nil), down)
		h.set(k)
		r.clock.Advance(time.Minute)
		says(r, k.assertion(nil), ok)
	})
	for name, answer := range map[string]struct {
		status int
		header http.Header
		body   string
	}{
		"nobody there":      {},
		"not found":         {404, nil, ""},
		"moved":             {302, http.Header{"Location": {"https://other.example.test/"}}, ""},
		"a page":            {200, http.Header{"Content-Type": {"text/html"}}, `{"keys":[]}`},
		"no key set":        {200, http.Header{"Content-Type": {"application/json"}}, `[]`},
		"more than 64 KiB":  {200, http.Header{"Content-Type": {"application/json"}}, `{"keys":[]}` + strings.Repeat(" ", 64<<10)},
		"an empty document": {200, http.Header{"Content-Type": {"application/json"}}, ``},
	} {
		t.Run("T20 cannot be read: "+name, func(t *testing.T) {
			r, h, k := begin(t)
			h.says(answer.status, answer.header, answer.body)
			for range 3 {
				a := r.gives(k.assertion(nil))
				a.refused(down, "temporarily_unavailable")
				if strings.Contains(a.body, "keys.example") || strings.Contains(a.body, "nobody") {
					t.Errorf("it says too much: %s", a.body)
				}
			}
			asked(r, h, 1)
			h.set(k)
			r.clock.Advance(time.Minute)
			says(r, k.assertion(nil), ok)
		})
	}
	t.Run("are not read for what no key could make good", func(t *testing.T) {
		r, h, k := begin(t)
		for _, changes := range []map[string]any{{"aud": "https://other.example.test"}, {"exp": nil}, {"jti": nil}, {"iss": "x"}} {
			says(r, k.assertion(changes), refused)
		}
		says(r, "a.b.c", refused)
		asked(r, h, 0)
	})
	t.Run("of one host are read five times a minute", func(t *testing.T) {
		r, h, k := begin(t)
		for i := range 8 {
			next := newKeyholder(t, rigIssuer, "key-1", r.clock.Now)
			next.key = k.key
			r.keyed(next, fmt.Sprintf("%s?%d", keysAt, i))
			says(r, next.assertion(nil), map[bool]int{true: ok, false: down}[i < 5])
		}
		asked(r, h, 5)
	})
	t.Run("are read once for many who ask at once", func(t *testing.T) {
		r, h, k := begin(t)
		form := make([]string, 20)
		for i := range form {
			form[i] = k.assertion(nil)
		}
		var wait sync.WaitGroup
		for _, assertion := range form {
			wait.Go(func() { says(r, assertion, ok) })
		}
		wait.Wait()
		asked(r, h, 1)
	})
	t.Run("of an address of this server are refused", func(t *testing.T) {
		r := newRig(t, func(p *project.Project) { p.Hosts = []string{"api.example.test"} })
		for _, uri := range []string{rigIssuer + "/jwks", "https://API.example.test/jwks", "http://keys.example.test/jwks", "https://localhost/jwks"} {
			a := r.register(`{"redirect_uris":["https://client.example.test/callback"],"token_endpoint_auth_method":"private_key_jwt","jwks_uri":"` + uri + `"}`)
			a.refused(http.StatusBadRequest, "invalid_client_metadata")
		}
	})
}

// Clients that register the same keys are not one client: each is its own.
func TestRegisterWithKeys(t *testing.T) {
	r := newRig(t)
	k := newKeyholder(t, rigIssuer, "key-1", r.clock.Now)
	set := strings.Replace(k.set(), `"kty"`, `"x5u":"https://x.example.test/","kty"`, 1)
	body := `{"redirect_uris":["https://client.example.test/callback"],"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_signing_alg":"ES256","jwks":` + set + `}`
	ids := map[string]bool{}
	for range 2 {
		a := r.register(body)
		if a.code != http.StatusCreated {
			t.Fatalf("%d %s", a.code, a.body)
		}
		answer := a.json()
		ids[answer["client_id"].(string)] = true
		if answer["client_secret"] != nil || answer["token_endpoint_auth_method"] != "private_key_jwt" || answer["token_endpoint_auth_signing_alg"] != "ES256" {
			t.Errorf("answer %s", a.body)
		}
		if keys, _ := json.Marshal(answer["jwks"]); !strings.Contains(string(keys), `"kid":"key-1"`) || strings.Contains(string(keys), "x5u") {
			t.Errorf("keys %s", keys)
		}
		k.id = answer["client_id"].(string)
		if a := r.gives(k.assertion(nil)); a.code != http.StatusOK {
			t.Errorf("%d %s", a.code, a.body)
		}
	}
	if len(ids) != 2 {
		t.Error("two clients became one")
	}
	c, err := r.store.Client(t.Context(), r.project.ID, k.id)
	if err != nil || c.Type != oauth.ThirdParty || c.SecretID != "" {
		t.Errorf("%+v, %v", c, err)
	}
	t.Run("the algorithm that it named is the only one", func(t *testing.T) {
		a := r.register(strings.Replace(body, `"ES256"`, `"RS256"`, 1))
		k.id = a.json()["client_id"].(string)
		r.gives(k.assertion(nil)).refused(http.StatusUnauthorized, "invalid_client")
	})
	t.Run("a client without keys keeps none", func(t *testing.T) {
		a := r.register(strings.Replace(body, "private_key_jwt", "none", 1))
		if a.code != http.StatusCreated || a.json()["jwks"] != nil || a.json()["token_endpoint_auth_signing_alg"] != nil {
			t.Errorf("%d %s", a.code, a.body)
		}
	})
}

// A document that names the key alone makes no public client; one that names both
// ways lets the client choose.
//
// Rows: M17.
//
// Proves: CIMD-6.2-a, MCP-AS-35
func TestDocumentWithKeys(t *testing.T) {
	begin := func(t *testing.T, members string) (*rig, *publisher, *keyholder, oauth.Client) {
		r := newRig(t)
		k := newKeyholder(t, rigIssuer, "key-1", r.clock.Now)
		host := r.publish(`"grant_types":["authorization_code","refresh_token"],"jwks":` + k.set() + "," + members)
		c, err := r.begin(host.id)
		if err != nil {
			t.Fatal(err)
		}
		k.id = host.id
		return r, host, k, c
	}
	nothing := func(r *rig, id string) answer {
		return r.post(r.server.Revoke, "", "", url.Values{"token": {"x"}, "client_id": {id}})
	}
	t.Run("M17 without an assertion it is nobody", func(t *testing.T) {
		r, host, k, c := begin(t, `"token_endpoint_auth_method":"private_key_jwt"`)
		if c.Type != oauth.ThirdParty || c.Metadata.TokenEndpointAuthMethod != "private_key_jwt" {
			t.Errorf("%+v", c)
		}
		nothing(r, host.id).refused(http.StatusUnauthorized, "invalid_client")
		if a := r.gives(k.assertion(nil)); a.code != http.StatusOK {
			t.Errorf("%d %s", a.code, a.body)
		}
	})
	t.Run("M17 named in the list alone", func(t *testing.T) {
		r, host, k, _ := begin(t, `"token_endpoint_auth_methods_supported":["private_key_jwt"]`)
		nothing(r, host.id).refused(http.StatusUnauthorized, "invalid_client")
		if a := r.gives(k.assertion(nil)); a.code != http.StatusOK {
			t.Errorf("%d %s", a.code, a.body)
		}
	})
	t.Run("both ways", func(t *testing.T) {
		r, host, k, c := begin(t, `"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_methods_supported":["private_key_jwt","none"]`)
		if c.Type != oauth.ThirdPartyPublic {
			t.Errorf("%+v", c)
		}
		for _, a := range []answer{nothing(r, host.id), r.gives(k.assertion(nil))} {
			if a.code != http.StatusOK {
				t.Errorf("%d %s", a.code, a.body)
			}
		}
		wrong := newKeyholder(t, rigIssuer, "key-1", r.clock.Now)
		wrong.id = host.id
		r.gives(wrong.assertion(nil)).refused(http.StatusUnauthorized, "invalid_client")
	})
	t.Run("the internal id is not its name", func(t *testing.T) {
		r, _, k, c := begin(t, `"token_endpoint_auth_method":"private_key_jwt"`)
		k.id = c.ID
		r.gives(k.assertion(nil)).refused(http.StatusUnauthorized, "invalid_client")
	})
	t.Run("new keys in the document are found, once a minute", func(t *testing.T) {
		r, host, k, _ := begin(t, `"token_endpoint_auth_method":"private_key_jwt"`)
		next := newKeyholder(t, rigIssuer, "key-2", r.clock.Now)
		next.id = host.id
		host.answer = func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, host.document(`"token_endpoint_auth_method":"private_key_jwt","jwks":`+next.set()))
		}
		if a := r.gives(next.assertion(nil)); a.code != http.StatusOK {
			t.Errorf("%d %s", a.code, a.body)
		}
		for range 3 {
			r.gives(k.assertion(nil)).refused(http.StatusUnauthorized, "invalid_client")
		}
		if n := host.asked.Load(); n != 2 {
			t.Errorf("the document was read %d times", n)
		}
	})
	t.Run("a document without its keys is not accepted", func(t *testing.T) {
		r := newRig(t)
		host := r.publish(`"token_endpoint_auth_method":"private_key_jwt"`)
		r.refusedPage(host.id, "private_key_jwt")
	})
}

// Package guardtest is an authorization server for the tests of programs that
// use package guard. [New] starts an [Issuer] on a loopback address, with a
// clock that the test sets. It publishes metadata, keys and a policy
// ([Issuer.SetPolicy]), answers introspection and revocation, plays the code flow
// without asking anybody, and mints tokens: right ones ([Issuer.Mint]) and tokens
// that are wrong in one named way ([Issuer.MintWrong], [Wrongs]).
//
//	issuer := guardtest.New(t)
//	g, err := guard.New(issuer.Config("http://localhost:8080/mcp", "read:notes"))
//	…
//	token := issuer.Mint(guardtest.Token{Resource: "http://localhost:8080/mcp", Scopes: []string{"read:notes"}})
//
// It will not do for anything but tests: it lets everybody in.
package guardtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/postern-id/postern/guard"
)

// Issuer is a running authorization server, made by [New].
type Issuer struct {
	// URL is the issuer identifier.
	URL string
	// IntrospectionID and IntrospectionSecret are the credentials that the
	// introspection endpoint accepts.
	IntrospectionID     string
	IntrospectionSecret string

	server *httptest.Server

	mu      sync.Mutex
	now     time.Time
	keys    map[string]*key           // by alg
	issued  map[string]map[string]any // claims of minted tokens
	revoked map[string]bool
	codes   map[string]code
	refresh map[string]Token
	deny    string
	down    bool
	hits    map[string]int
	count   int

	policy        []byte // nil in a project without organizations
	policyVersion int
	members       map[string]string   // subject → organization
	narrowed      map[string][]string // token → scopes
}

type key struct {
	id     string
	signer crypto.Signer
	method jwt.SigningMethod
}

// New starts an issuer that ends with the test. Its clock stands still at the
// time of the call until [Issuer.Advance].
func New(tb testing.TB) *Issuer {
	i := &Issuer{
		IntrospectionID: "resource-server-test-1", IntrospectionSecret: "a secret with +&=%",
		now:  time.Now().Truncate(time.Second),
		keys: map[string]*key{}, issued: map[string]map[string]any{}, revoked: map[string]bool{},
		codes: map[string]code{}, refresh: map[string]Token{}, hits: map[string]int{},
		members: map[string]string{}, narrowed: map[string][]string{},
	}
	i.key("ES256")
	i.key("EdDSA")
	i.server = httptest.NewServer(i.routes())
	i.URL = i.server.URL
	tb.Cleanup(i.server.Close)
	return i
}

// Config is a guard configuration for a resource that trusts this issuer and
// uses its clock.
func (i *Issuer) Config(resource string, scopes ...string) guard.Config {
	cfg := guard.Config{Issuer: i.URL, Resource: resource, Now: i.Now}
	for _, name := range scopes {
		cfg.Scopes = append(cfg.Scopes, guard.Scope{Name: name, Description: "May " + name})
	}
	return cfg
}

// Introspection is a guard setting with the credentials of this issuer.
func (i *Issuer) Introspection() *guard.Introspection {
	return &guard.Introspection{ID: i.IntrospectionID, Secret: i.IntrospectionSecret}
}

// Now is the issuer's clock, also for guard.Config.Now.
func (i *Issuer) Now() time.Time {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.now
}

// Advance moves the clock.
func (i *Issuer) Advance(d time.Duration) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.now = i.now.Add(d)
}

// Revoke makes introspection call a token inactive.
func (i *Issuer) Revoke(token string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.revoked[token] = true
}

// RotateKeys withdraws all keys and publishes new ones.
func (i *Issuer) RotateKeys() {
	i.mu.Lock()
	algs := maps.Clone(i.keys)
	i.keys = map[string]*key{}
	i.mu.Unlock()
	for alg := range algs {
		i.key(alg)
	}
}

// Down makes every endpoint answer 500, or work again. A guard that asked
// meanwhile asks again when its clock has moved: by a second where it knows
// nothing yet, by 5 s where a key is unknown to it, by 30 s for a renewal.
func (i *Issuer) Down(down bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.down = down
}

// Deny makes the authorization endpoint answer with this error code, for
// example "access_denied"; an empty code makes it agree again.
func (i *Issuer) Deny(code string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.deny = code
}

// Hits counts the requests to a path so far, for example "/jwks" or
// "/introspect".
func (i *Issuer) Hits(path string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.hits[path]
}

// Token describes what to mint. Empty fields have working defaults.
type Token struct {
	Resource     string         // the audience
	Subject      string         // default "user-test-1"
	ClientID     string         // default "client-test-1"
	Organization string         // default none
	Scopes       []string       // default none
	Lifetime     time.Duration  // default 15 minutes
	Alg          string         // "ES256" (default), "RS256" or "EdDSA"
	Claims       map[string]any // put over the others; nil removes one
}

// Mint returns a right token: typ "at+jwt" and the claims of RFC 9068 §2.2.
func (i *Issuer) Mint(t Token) string {
	head, claims := i.describe(t)
	return i.sign(head, claims, i.key(head["alg"].(string)))
}

// MintTyped is Mint with another header "typ"; nil leaves it out.
func (i *Issuer) MintTyped(typ any, t Token) string {
	head, claims := i.describe(t)
	head["typ"] = typ
	if typ == nil {
		delete(head, "typ")
	}
	return i.sign(head, claims, i.key(head["alg"].(string)))
}

// describe returns header and claims of a right token.
func (i *Issuer) describe(t Token) (head, claims map[string]any) {
	k := i.key(or(t.Alg, "ES256"))
	now := i.Now()
	lifetime := t.Lifetime
	if lifetime == 0 {
		lifetime = 15 * time.Minute
	}
	claims = map[string]any{
		"iss": i.URL, "aud": t.Resource, "sub": or(t.Subject, "user-test-1"),
		"client_id": or(t.ClientID, "client-test-1"), "scope": strings.Join(t.Scopes, " "),
		"iat": now.Unix(), "exp": now.Add(lifetime).Unix(),
		"jti": i.id("jti"), "sid": "family-test-1", "grant_id": "grant-test-1", "token_use": "access",
	}
	if t.Organization != "" {
		claims["organization_id"] = t.Organization
	}
	for name, value := range t.Claims {
		claims[name] = value
		if value == nil {
			delete(claims, name)
		}
	}
	return map[string]any{"typ": "at+jwt", "alg": k.method.Alg(), "kid": k.id}, claims
}

// sign makes the token and remembers it for introspection.
func (i *Issuer) sign(head, claims map[string]any, k *key) string {
	token := signJSON(encode(head), encode(claims), k)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.issued[token] = claims
	return token
}

func signJSON(head, claims []byte, k *key) string {
	text := segment(head) + "." + segment(claims)
	return text + "." + segment(k.signature(text))
}

func (k *key) signature(text string) []byte {
	signature, err := k.method.Sign(text, k.signer)
	if err != nil {
		panic(err) // the key was made for the method
	}
	return signature
}

func segment(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("guardtest: claims that are not JSON: %v", err))
	}
	return b
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// id returns a name that no other call returns.
func (i *Issuer) id(kind string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.count++
	return fmt.Sprintf("%s-test-%d", kind, i.count)
}

// key returns the published key of an algorithm, making it when there is none.
func (i *Issuer) key(alg string) *key {
	i.mu.Lock()
	k := i.keys[alg]
	i.mu.Unlock()
	if k == nil {
		k = newKey(alg, i.id("key"))
		i.mu.Lock()
		i.keys[alg] = k
		i.mu.Unlock()
	}
	return k
}

func newKey(alg, id string) *key {
	k := &key{id: id}
	var err error
	switch alg {
	case "RS256":
		k.method = jwt.SigningMethodRS256
		k.signer, err = rsa.GenerateKey(rand.Reader, 2048)
	case "EdDSA":
		k.method = jwt.SigningMethodEdDSA
		_, k.signer, err = ed25519.GenerateKey(rand.Reader)
	default:
		k.method = jwt.SigningMethodES256
		k.signer, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		panic(err) // no randomness
	}
	return k
}

// jwk is the public half in the form of RFC 7517.
func (k *key) jwk() map[string]any {
	j := map[string]any{"kid": k.id, "use": "sig", "alg": k.method.Alg()}
	switch public := k.signer.Public().(type) {
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			panic(err) // a generated key is on its curve
		}
		j["kty"], j["crv"], j["x"], j["y"] = "EC", "P-256", segment(point[1:33]), segment(point[33:])
	case *rsa.PublicKey:
		j["kty"], j["n"], j["e"] = "RSA", segment(public.N.Bytes()), segment(big.NewInt(int64(public.E)).Bytes())
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", segment(public)
	}
	return j
}

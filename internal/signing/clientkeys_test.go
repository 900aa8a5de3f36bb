package signing_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/postern-id/postern/internal/signing"
)

// clientKey makes keys as clients have them.
type clientKey struct {
	p256, other, p384 *ecdsa.PrivateKey
	ed                ed25519.PrivateKey
	rsa, short        *rsa.PrivateKey
}

func newClientKey(t testing.TB) (k clientKey) {
	t.Helper()
	check := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	k.p256, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	k.other, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	k.p384, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	check(err)
	_, k.ed, err = ed25519.GenerateKey(rand.Reader)
	check(err)
	k.rsa, err = rsa.GenerateKey(rand.Reader, 2048)
	check(err)
	k.short, err = rsa.GenerateKey(rand.Reader, 1024)
	check(err)
	return k
}

func publicKey(key crypto.Signer, id, alg, use string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: alg, Use: use}
}

// Rows: G10.
func TestCheckClientKeys(t *testing.T) {
	t.Parallel()
	k := newClientKey(t)
	many := make([]jose.JSONWebKey, 11)
	for i := range many {
		many[i] = publicKey(k.p256, fmt.Sprint(i), "", "")
	}
	long := publicKey(k.p256, strings.Repeat("k", 257), "", "")
	for _, test := range []struct {
		name string
		set  []byte
		err  error
		kept int
	}{
		{"each type", keySet(t, publicKey(k.p256, "a", "ES256", "sig"), publicKey(k.ed, "b", "EdDSA", ""), publicKey(k.rsa, "c", "", "")), nil, 3},
		{"without kids", keySet(t, publicKey(k.p256, "", "", ""), publicKey(k.other, "", "", "")), nil, 2},
		{"ten", keySet(t, many[:10]...), nil, 10},
		{"a key for encryption beside", keySet(t, publicKey(k.p256, "a", "", "sig"), publicKey(k.rsa, "b", "", "enc")), nil, 1},
		{"a curve that nothing here verifies", keySet(t, publicKey(k.p384, "a", "", "")), nil, 0},
		{"a type that nobody knows", []byte(`{"keys":[{"kty":"XYZ","kid":"x"}]}`), nil, 0},
		{"none", []byte(`{"keys":[]}`), nil, 0},

		{"eleven", keySet(t, many...), signing.ErrTooManyKeys, 0},
		{"one kid twice", keySet(t, publicKey(k.p256, "a", "", ""), publicKey(k.other, "a", "", "")), signing.ErrKeyIDs, 0},
		{"a long kid", keySet(t, long), signing.ErrKeyIDs, 0},
		{"a private EC key", keySet(t, jose.JSONWebKey{Key: k.p256}), signing.ErrPrivateKey, 0},
		{"a private RSA key", keySet(t, jose.JSONWebKey{Key: k.rsa}), signing.ErrPrivateKey, 0},
		{"a private Ed25519 key", keySet(t, jose.JSONWebKey{Key: k.ed}), signing.ErrPrivateKey, 0},
		{"a secret", keySet(t, jose.JSONWebKey{Key: []byte("0123456789abcdef")}), signing.ErrPrivateKey, 0},
		{"a part of a private key", []byte(`{"keys":[{"kty":"RSA","dp":"AQ"}]}`), signing.ErrPrivateKey, 0},
		{"a private key of an unknown type", []byte(`{"keys":[{"kty":"AKP","priv":"AQ"}]}`), signing.ErrPrivateKey, 0},
		{"a short RSA key", keySet(t, publicKey(k.short, "a", "", "")), signing.ErrWeakKey, 0},
		{"no list", []byte(`{"kty":"EC"}`), signing.ErrKeySet, 0},
		{"a list of texts", []byte(`{"keys":["x"]}`), signing.ErrKeySet, 0},
		{"no JSON", []byte(`x`), signing.ErrKeySet, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys, err := signing.CheckClientKeys(test.set)
			if !errors.Is(err, test.err) || keys.Len() != test.kept {
				t.Errorf("%d keys, %v; want %d, %v", keys.Len(), err, test.kept, test.err)
			}
		})
	}
	t.Run("what is kept is public, and the same when it is read again", func(t *testing.T) {
		set := bytes.Replace(keySet(t, publicKey(k.p256, "a", "ES256", "sig")), []byte(`"use"`), []byte(`"x5u":"https://x.example.test/","use"`), 1)
		keys, err := signing.CheckClientKeys(set)
		if err != nil {
			t.Fatal(err)
		}
		text, err := keys.Set()
		if err != nil || bytes.Contains(text, []byte("x5u")) {
			t.Fatalf("%s, %v", text, err)
		}
		again, err := signing.CheckClientKeys(text)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := again.Set(); err != nil || !bytes.Equal(text, second) || len(again.IDs()) != 1 {
			t.Errorf("%s, %v", second, err)
		}
	})
}

// Rows: T20, T22.
//
// Proves: RFC7523-3-g, RFC7515-4.1.11-a
func TestAssertion(t *testing.T) {
	t.Parallel()
	k := newClientKey(t)
	kid := func(id string) map[jose.HeaderKey]any { return map[jose.HeaderKey]any{"kid": id} }
	typed := func(name any) map[jose.HeaderKey]any { return map[jose.HeaderKey]any{"kid": "a", "typ": name} }
	set := keySet(t, publicKey(k.p256, "a", "ES256", "sig"), publicKey(k.ed, "e", "", ""), publicKey(k.rsa, "r", "", ""), publicKey(k.short, "s", "", ""))
	good := foreign(t, jose.ES256, k.p256, kid("a"))
	parts := strings.Split(good, ".")
	encode := func(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }
	point, err := k.p256.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	full, err := jose.ParseSignedCompact(good, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		token string
		set   []byte
		right bool
	}{
		{"ES256", good, set, true},
		{"EdDSA", foreign(t, jose.EdDSA, k.ed, kid("e")), set, true},
		{"PS256", foreign(t, jose.PS256, k.rsa, kid("r")), set, true},
		{"RS256", foreign(t, jose.RS256, k.rsa, kid("r")), set, true},
		{"no kid: every key that fits is tried", foreign(t, jose.ES256, k.other, nil), keySet(t, publicKey(k.p256, "a", "", ""), publicKey(k.other, "b", "", "")), true},
		{"of type JWT", foreign(t, jose.ES256, k.p256, typed("jwt")), set, true},
		{"of its own type", foreign(t, jose.ES256, k.p256, typed("client-authentication+jwt")), set, true},
		{"of its own type, written out", foreign(t, jose.ES256, k.p256, typed("application/client-authentication+JWT")), set, true},

		{"T20 none", encode(`{"alg":"none","kid":"a"}`) + "." + parts[1] + ".", set, false},
		{"T20 none with a signature", encode(`{"alg":"none","kid":"a"}`) + "." + parts[1] + "." + parts[2], set, false},
		{"T20 HS256 under the public key", foreign(t, jose.HS256, point, kid("a")), set, false},
		{"T20 an unknown kid", foreign(t, jose.ES256, k.p256, kid("z")), set, false},
		{"T20 another key under the kid", foreign(t, jose.ES256, k.other, kid("a")), set, false},
		{"T20 a key of another algorithm", foreign(t, jose.PS256, k.rsa, kid("r")), keySet(t, publicKey(k.rsa, "r", "RS256", "")), false},
		{"T20 a key for encryption", foreign(t, jose.RS256, k.rsa, kid("r")), keySet(t, publicKey(k.rsa, "r", "", "enc")), false},
		{"T20 a short RSA key", foreign(t, jose.RS256, k.short, kid("s")), set, false},
		{"T20 RS512", foreign(t, jose.RS512, k.rsa, kid("r")), set, false},
		{"T20 ES384", foreign(t, jose.ES384, k.p384, kid("a")), set, false},
		{"T20 a key in its header", foreign(t, jose.ES256, k.other, map[jose.HeaderKey]any{"kid": "a", "jwk": publicKey(k.other, "a", "", "")}), set, false},
		{"T20 other claims", parts[0] + "." + encode(`{"sub":"x"}`) + "." + parts[2], set, false},
		{"T20 no signature", parts[0] + "." + parts[1] + ".", set, false},
		{"T20 a critical header", foreign(t, jose.ES256, k.p256, map[jose.HeaderKey]any{"kid": "a", "crit": []string{"x"}, "x": 1}), set, false},
		{"T20 a critical header that the library knows", foreign(t, jose.ES256, k.p256, map[jose.HeaderKey]any{"kid": "a", "crit": []string{"b64"}, "b64": true}), set, false},
		{"T20 an access token's type", foreign(t, jose.ES256, k.p256, typed("at+jwt")), set, false},
		{"T20 a type that is no text", foreign(t, jose.ES256, k.p256, typed(7)), set, false},
		{"T20 JSON serialisation", full.FullSerialize(), set, false},
		{"T20 encrypted", good + ".a.b", set, false},
		{"T22 a megabyte", good + strings.Repeat("A", 1<<20), set, false},
		{"T22 a million dots", strings.Repeat(".", 1<<20), set, false},
		{"nothing", "", set, false},
		{"an empty set", good, []byte(`{"keys":[]}`), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			keys, err := signing.ReadClientKeys(test.set)
			if err != nil {
				t.Fatal(err)
			}
			a, err := signing.ParseAssertion(test.token)
			if err == nil {
				err = a.Verify(keys)
			}
			switch {
			case test.right && (err != nil || string(a.Claims) != `{"sub":"person-1"}`):
				t.Errorf("%s, %v", a.Claims, err)
			case !test.right && !errors.Is(err, signing.ErrInvalid):
				t.Errorf("%s, %v", a.Claims, err)
			}
		})
	}
}

// Whatever comes, nothing but a signature by a key of the set is taken, and
// what is kept of a set holds nothing private.
func FuzzAssertion(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	keys, err := signing.CheckClientKeys(keySet(f, publicKey(key, "a", "", "")))
	if err != nil {
		f.Fatal(err)
	}
	good := foreign(f, jose.ES256, key, map[jose.HeaderKey]any{"kid": "a"})
	f.Add(good, keySet(f, publicKey(key, "", "", "")))
	f.Add("e30.e30.", keySet(f, jose.JSONWebKey{Key: key}))
	f.Add(good, []byte(`{"keys":[{"kty":"oct","k":""}]}`))
	f.Fuzz(func(t *testing.T, token string, set []byte) {
		if a, err := signing.ParseAssertion(token); err == nil && a.Verify(keys) == nil && string(a.Claims) != `{"sub":"person-1"}` {
			t.Errorf("%s", a.Claims)
		}
		declared, err := signing.CheckClientKeys(set)
		if err != nil {
			return
		}
		text, err := declared.Set()
		if err != nil {
			t.Fatal(err)
		}
		var kept jose.JSONWebKeySet
		if err := json.Unmarshal(text, &kept); err != nil || len(kept.Keys) != declared.Len() {
			t.Fatalf("%s: %v", text, err)
		}
		for _, k := range kept.Keys {
			if !k.IsPublic() {
				t.Errorf("kept %s", text)
			}
		}
	})
}

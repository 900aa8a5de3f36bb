package signing_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"github.com/postern-id/postern/internal/signing"
)

// foreign signs a small token as another issuer would.
func foreign(t testing.TB, alg jose.SignatureAlgorithm, key any, header map[jose.HeaderKey]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, &jose.SignerOptions{ExtraHeaders: header})
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign([]byte(`{"sub":"person-1"}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func keySet(t testing.TB, keys ...jose.JSONWebKey) []byte {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// A token of another issuer is taken by its published keys alone.
func TestVerifyForeign(t *testing.T) {
	t.Parallel()
	ec := func(curve elliptic.Curve) *ecdsa.PrivateKey {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	rsaKey := func(bits int) *rsa.PrivateKey {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	p256, other, long, short := ec(elliptic.P256()), ec(elliptic.P256()), rsaKey(2048), rsaKey(1024)
	public := func(key crypto.Signer, id, alg, use string) jose.JSONWebKey {
		return jose.JSONWebKey{Key: key.Public(), KeyID: id, Algorithm: alg, Use: use}
	}
	kid := func(id string) map[jose.HeaderKey]any { return map[jose.HeaderKey]any{"kid": id} }
	good := foreign(t, jose.ES256, p256, kid("a"))
	header, payload, _ := strings.Cut(good, ".")
	payload, signature, _ := strings.Cut(payload, ".")
	none := base64.RawURLEncoding.EncodeToString([]byte(`{"alg":"none","kid":"a"}`))
	point, err := p256.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	own := jose.JSONWebKey{Key: other.Public(), KeyID: "a"}

	for _, test := range []struct {
		name  string
		token string
		set   []byte
		right bool
	}{
		{"ES256", good, keySet(t, public(p256, "a", "ES256", "sig")), true},
		{"a key that says less", good, keySet(t, public(p256, "a", "", "")), true},
		{"RS256", foreign(t, jose.RS256, long, kid("r")), keySet(t, public(p256, "a", "", ""), public(long, "r", "", "sig")), true},
		{"PS256", foreign(t, jose.PS256, long, kid("r")), keySet(t, public(long, "r", "", "sig")), true},
		{"no kid, one key that fits", foreign(t, jose.ES256, p256, nil), keySet(t, public(p256, "a", "", ""), public(long, "r", "", "")), true},
		{"beside keys of another kind", good, []byte(strings.Replace(string(keySet(t, public(p256, "a", "", ""))), `[`, `[{"kty":"XYZ","kid":"x"},1,`, 1)), true},

		{"no kid, two keys that fit", foreign(t, jose.ES256, p256, nil), keySet(t, public(p256, "a", "", ""), public(other, "b", "", "")), false},
		{"two keys of one kid", good, keySet(t, public(p256, "a", "", ""), public(other, "a", "", "")), false},
		{"another kid", good, keySet(t, public(p256, "b", "", "")), false},
		{"another key of the kid", good, keySet(t, public(other, "a", "", "")), false},
		{"a key for encryption", good, keySet(t, public(p256, "a", "", "enc")), false},
		{"a key for another algorithm", foreign(t, jose.PS256, long, kid("r")), keySet(t, public(long, "r", "RS256", "sig")), false},
		{"a private key in the set", good, keySet(t, jose.JSONWebKey{Key: p256, KeyID: "a"}), false},
		{"a short RSA key", foreign(t, jose.RS256, short, kid("s")), keySet(t, public(short, "s", "", "")), false},
		{"ES384", foreign(t, jose.ES384, ec(elliptic.P384()), kid("a")), keySet(t, public(p256, "a", "", "")), false},
		{"RS512", foreign(t, jose.RS512, long, kid("r")), keySet(t, public(long, "r", "", "")), false},
		{"HS256 under the public key", foreign(t, jose.HS256, point, kid("a")), keySet(t, public(p256, "a", "", "")), false},
		{"HS256 with a key of the set", foreign(t, jose.HS256, []byte("0123456789abcdef0123456789abcdef"), kid("h")), keySet(t, jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "h"}), false},
		{"none", none + "." + payload + ".", keySet(t, public(p256, "a", "", "")), false},
		{"none with a signature", none + "." + payload + "." + signature, keySet(t, public(p256, "a", "", "")), false},
		{"a key in its header", foreign(t, jose.ES256, other, map[jose.HeaderKey]any{"kid": "a", "jwk": own}), keySet(t, public(p256, "a", "", "")), false},
		{"other claims", header + "." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"person-2"}`)) + "." + signature, keySet(t, public(p256, "a", "", "")), false},
		{"no signature", header + "." + payload + ".", keySet(t, public(p256, "a", "", "")), false},
		{"an empty set", good, []byte(`{"keys":[]}`), false},
		{"no set", good, []byte(`<html>`), false},
		{"nothing", "", keySet(t, public(p256, "a", "", "")), false},
		{"five parts", good + ".a.b", keySet(t, public(p256, "a", "", "")), false},
		{"too long", good + strings.Repeat("A", 33<<10), keySet(t, public(p256, "a", "", "")), false},
	} {
		t.Run(test.name, func(t *testing.T) {
			claims, err := signing.VerifyForeign(test.token, test.set)
			switch {
			case test.right && (err != nil || string(claims) != `{"sub":"person-1"}`):
				t.Errorf("%s, %v", claims, err)
			case !test.right && (!errors.Is(err, signing.ErrInvalid) || claims != nil):
				t.Errorf("%s, %v", claims, err)
			}
		})
	}
}

// Whatever comes, nothing but a signature by a key of the set is taken.
func FuzzVerifyForeign(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	set := keySet(f, jose.JSONWebKey{Key: key.Public(), KeyID: "a"})
	good := foreign(f, jose.ES256, key, map[jose.HeaderKey]any{"kid": "a"})
	f.Add(good, set)
	f.Add("e30.e30.", []byte(`{"keys":[{"kty":"oct","k":""}]}`))
	f.Add(good, []byte(`{"keys":null}`))
	f.Fuzz(func(t *testing.T, token string, other []byte) {
		if claims, err := signing.VerifyForeign(token, set); err == nil && string(claims) != `{"sub":"person-1"}` {
			t.Errorf("%s", claims)
		}
		_, _ = signing.VerifyForeign(good, other) // does not panic
	})
}

package signing

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of what another issuer publishes and sends.
const (
	minForeignRSA   = 2048 // bits
	maxForeignRSA   = 8192
	maxForeignToken = 32 << 10
)

// VerifyForeign checks that a compact JWS was signed by a key of another issuer's
// key set (RFC 7517 §5), and returns its claims. It does not look at them:
// issuer, audience, time and nonce are the caller's. Every refusal is
// ErrInvalid.
//
// The algorithm is one of RS256, PS256 and ES256, each with a key of its own
// type, so that neither "none" nor a MAC under a public key can stand for a
// signature (RFC 8725 §2.1, §3.1). Keys come from the set alone, whatever the
// header names (RFC 8725 §3.10). A token without a kid is taken where the set has one key
// that it can mean (OpenID Connect Core §10.1).
func VerifyForeign(compact string, set []byte) (claims []byte, err error) {
	if len(compact) > maxForeignToken || strings.Count(compact, ".") != 2 {
		return nil, fmt.Errorf("%w: not a compact token", ErrInvalid)
	}
	jws, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.RS256, jose.PS256, jose.ES256})
	if err != nil {
		return nil, fmt.Errorf("%w: not signed in a way that is accepted", ErrInvalid)
	}
	header := jws.Signatures[0].Protected
	key, err := foreignKey(set, header.KeyID, header.Algorithm)
	if err != nil {
		return nil, err
	}
	if claims, err = jws.Verify(key.Key); err != nil {
		return nil, fmt.Errorf("%w: the signature is wrong", ErrInvalid)
	}
	return claims, nil
}

// foreignKey finds the one key of a set that a token can mean. Keys of the set
// that we cannot read are others' business.
func foreignKey(set []byte, id, alg string) (jose.JSONWebKey, error) {
	var published struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &published); err != nil {
		return jose.JSONWebKey{}, fmt.Errorf("%w: the key set cannot be read", ErrInvalid)
	}
	var found []jose.JSONWebKey
	for _, text := range published.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) == nil && fits(key, alg) && (id == "" || key.KeyID == id) {
			found = append(found, key)
		}
	}
	if len(found) != 1 {
		return jose.JSONWebKey{}, fmt.Errorf("%w: the key set has %d keys for it", ErrInvalid, len(found))
	}
	return found[0], nil
}

// fits reports whether a key verifies signatures of an algorithm.
func fits(key jose.JSONWebKey, alg string) bool {
	if !key.IsPublic() || key.Use != "" && key.Use != "sig" || key.Algorithm != "" && key.Algorithm != alg {
		return false
	}
	switch public := key.Key.(type) {
	case *rsa.PublicKey:
		return (alg == string(jose.RS256) || alg == string(jose.PS256)) && strongEnough(key)
	case *ecdsa.PublicKey:
		return alg == string(jose.ES256) && public.Curve == elliptic.P256()
	case ed25519.PublicKey:
		return alg == string(jose.EdDSA)
	}
	return false
}

// strongEnough reports whether an RSA key is long enough to be trusted, and short
// enough to be worth our time. Other keys have one length.
func strongEnough(key jose.JSONWebKey) bool {
	public, isRSA := key.Key.(*rsa.PublicKey)
	return !isRSA || public.N.BitLen() >= minForeignRSA && public.N.BitLen() <= maxForeignRSA
}

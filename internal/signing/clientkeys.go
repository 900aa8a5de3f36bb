package signing

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of a client's keys and of what it signs with them.
const (
	maxClientKeys = 10 // in a set that is kept, and of one that was fetched
	maxKeyID      = 256
	maxAssertion  = 8 << 10 // bytes
)

// What is wrong with a set of keys that a client declares.
var (
	ErrKeySet       = errors.New("signing: not a JWK set")
	ErrPrivateKey   = errors.New("signing: the set holds a private or symmetric key")
	ErrWeakKey      = errors.New("signing: the set holds an RSA key that is too short or too long")
	ErrKeyIDs       = errors.New("signing: two keys of the set have one kid, or a kid is too long")
	ErrTooManyKeys  = errors.New("signing: the set holds too many keys")
	clientSignature = []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA, jose.PS256, jose.RS256}
)

// ClientAlgorithms are those that a client may sign its assertions with. They are
// asymmetric all of them, and each has a type of key of its own but for the two of
// RSA.
func ClientAlgorithms() []string {
	names := make([]string, len(clientSignature))
	for i, alg := range clientSignature {
		names[i] = string(alg)
	}
	return names
}

// ClientKeys are the public keys that a client signs assertions with.
type ClientKeys struct{ keys []jose.JSONWebKey }

// Len is how many there are.
func (k ClientKeys) Len() int { return len(k.keys) }

// IDs are the kids of those that have one.
func (k ClientKeys) IDs() []string {
	var ids []string
	for _, key := range k.keys {
		if key.KeyID != "" {
			ids = append(ids, key.KeyID)
		}
	}
	return ids
}

// Set is the JWK set of the keys: what verifies signatures, and nothing else that
// came with them.
func (k ClientKeys) Set() ([]byte, error) {
	return json.Marshal(jose.JSONWebKeySet{Keys: k.keys})
}

// CheckClientKeys reads a JWK set that a client declares (RFC 7517 §5). It refuses
// what the client's makers have to hear of, a private key above all; keys that
// are not for signatures, or of a type that nothing here verifies, are left out.
func CheckClientKeys(set []byte) (ClientKeys, error) {
	published, err := keysOf(set)
	if err != nil {
		return ClientKeys{}, err
	}
	if len(published) > maxClientKeys {
		return ClientKeys{}, ErrTooManyKeys
	}
	var kept ClientKeys
	ids := map[string]bool{}
	for _, text := range published {
		var members map[string]json.RawMessage
		if err := json.Unmarshal(text, &members); err != nil {
			return ClientKeys{}, ErrKeySet
		}
		for _, private := range []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth", "priv"} {
			if _, found := members[private]; found {
				return ClientKeys{}, ErrPrivateKey
			}
		}
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) != nil {
			continue
		}
		switch {
		case key.KeyID != "" && ids[key.KeyID], len(key.KeyID) > maxKeyID:
			return ClientKeys{}, ErrKeyIDs
		case !strongEnough(key):
			return ClientKeys{}, ErrWeakKey
		case verifies(key):
			kept.keys = append(kept.keys, bare(key))
		}
		ids[key.KeyID] = true
	}
	return kept, nil
}

// ReadClientKeys reads a JWK set that a client publishes: the first keys of it that
// verify signatures. What else stands there is others' business.
func ReadClientKeys(set []byte) (ClientKeys, error) {
	published, err := keysOf(set)
	if err != nil {
		return ClientKeys{}, err
	}
	var kept ClientKeys
	for _, text := range published {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(text) == nil && len(key.KeyID) <= maxKeyID && verifies(key) && len(kept.keys) < maxClientKeys {
			kept.keys = append(kept.keys, bare(key))
		}
	}
	return kept, nil
}

func keysOf(set []byte) ([]json.RawMessage, error) {
	var published struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(set, &published); err != nil || published.Keys == nil {
		return nil, ErrKeySet
	}
	return published.Keys, nil
}

// verifies reports whether a key verifies signatures of any algorithm.
func verifies(key jose.JSONWebKey) bool {
	for _, alg := range clientSignature {
		if fits(key, string(alg)) {
			return true
		}
	}
	return false
}

// bare is a key without certificates and addresses.
func bare(key jose.JSONWebKey) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key.Key, KeyID: key.KeyID, Algorithm: key.Algorithm, Use: key.Use}
}

// Assertion is a compact JWS that a client signed to say who it is (RFC 7523 §2.2).
type Assertion struct {
	Claims    []byte // nobody has vouched for them before Verify
	Algorithm string
	jws       *jose.JSONWebSignature
}

// ParseAssertion reads an assertion without looking for the key: what it says
// is worth no more than any other parameter of the request. Every refusal is
// ErrInvalid.
//
// An algorithm that is none of ClientAlgorithms is refused ("none" and every MAC
// with it, RFC 8725 §3.1), and so are a critical header, for nothing here
// understands one (RFC 7515 §4.1.11), and a type that is another one's
// (RFC 8725 §3.11).
func ParseAssertion(compact string) (Assertion, error) {
	if len(compact) > maxAssertion || strings.Count(compact, ".") != 2 {
		return Assertion{}, fmt.Errorf("%w: not a compact token", ErrInvalid)
	}
	jws, err := jose.ParseSignedCompact(compact, clientSignature)
	if err != nil {
		return Assertion{}, fmt.Errorf("%w: not signed in a way that is accepted", ErrInvalid)
	}
	header := jws.Signatures[0].Protected
	for _, name := range []jose.HeaderKey{"crit", "b64"} {
		if _, found := header.ExtraHeaders[name]; found {
			return Assertion{}, fmt.Errorf("%w: the header %s", ErrInvalid, name)
		}
	}
	if typ, found := header.ExtraHeaders[jose.HeaderType]; found && !ofAssertions(typ) {
		return Assertion{}, fmt.Errorf("%w: of another type", ErrInvalid)
	}
	return Assertion{Claims: jws.UnsafePayloadWithoutVerification(), Algorithm: header.Algorithm, jws: jws}, nil
}

// ofAssertions reports whether a typ is one that assertions have: JWT, which says
// nothing, or their own. It is a media type, written in any case, whose
// application/ may be left out (RFC 7515 §4.1.9).
func ofAssertions(typ any) bool {
	name, _ := typ.(string)
	name = strings.TrimPrefix(strings.ToLower(name), "application/")
	return name == "jwt" || name == "client-authentication+jwt"
}

// Verify checks that one of the keys made the signature, or returns ErrInvalid. The
// kid selects; without one, every key that fits is tried. Keys that the header
// brings along are not looked at (RFC 8725 §3.10).
func (a Assertion) Verify(keys ClientKeys) error {
	header := a.jws.Signatures[0].Protected
	for _, key := range keys.keys {
		if header.KeyID != "" && key.KeyID != header.KeyID || !fits(key, header.Algorithm) {
			continue
		}
		if _, err := a.jws.Verify(key.Key); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: no key of the client made the signature", ErrInvalid)
}

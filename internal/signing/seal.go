package signing

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Label names a key derived from the master key.
type Label string

// The keys derived from the master key.
const (
	OTP    Label = "otp"  // HMAC of the codes that a person types
	CSRF   Label = "csrf" // HMAC of form tokens
	SSO    Label = "sso"  // HMAC that makes nonces and PKCE verifiers
	sealed Label = "seal" // AES key of the Sealer itself
)

// Sealer encrypts values for the database with AES-256-GCM under a key derived
// from the master key. A sealed value opens only at the place it was sealed
// for. A Sealer is safe for concurrent use.
type Sealer struct {
	keys []sealKey // the first one writes
	root MasterKey // the one that Derive uses
}

type sealKey struct {
	id   [keyIDSize]byte
	aead cipher.AEAD
}

// Place is where a sealed value is kept: it cannot be moved to another row or
// column. Row is the primary key of the row.
type Place struct{ Table, Row, Column string }

// A sealed value is: version, key id, then what GCM made of it (nonce,
// ciphertext, tag).
const (
	sealVersion = 1
	keyIDSize   = 8
	headerSize  = 1 + keyIDSize
)

// NewSealer makes a Sealer that writes with the first key and reads with both,
// where a second one is given: the one that is being replaced.
func NewSealer(keys ...MasterKey) (*Sealer, error) {
	if len(keys) < 1 || len(keys) > 2 {
		return nil, fmt.Errorf("signing: %d master keys given; one is needed, two while the key is being replaced", len(keys))
	}
	s := &Sealer{root: keys[0]}
	for _, key := range keys {
		if !looksRandom(key[:]) {
			return nil, errors.New("signing: the master key is not random")
		}
		s.keys = append(s.keys, sealKey{
			id:   [keyIDSize]byte(derive(key[:], "key id", keyIDSize)),
			aead: newAEAD(derive(key[:], string(sealed), 32)),
		})
	}
	return s, nil
}

// Seal encrypts plain for its place.
func (s *Sealer) Seal(plain []byte, at Place) []byte {
	return seal(s.keys[0], plain, at)
}

// Open decrypts what Seal made for the same place, or returns ErrSealed.
func (s *Sealer) Open(value []byte, at Place) ([]byte, error) {
	for _, key := range s.keys {
		if plain, err := open(key, value, at); err == nil {
			return plain, nil
		}
	}
	return nil, fmt.Errorf("%w: %s.%s of %s", ErrSealed, at.Table, at.Column, at.Row)
}

// Rewrap returns a value sealed anew for its place under the first key, or nil
// when that sealed it already. A value of a key that is not at hand is
// ErrOtherKey, and one that its own key does not open is ErrSealed: no key does.
func (s *Sealer) Rewrap(value []byte, at Place) ([]byte, error) {
	for i, key := range s.keys {
		if len(value) < headerSize || value[0] != sealVersion || [keyIDSize]byte(value[1:headerSize]) != key.id {
			continue
		}
		plain, err := open(key, value, at)
		if err != nil || i == 0 {
			return nil, err
		}
		return s.Seal(plain, at), nil
	}
	return nil, ErrOtherKey
}

const checkText = "postern"

func checkPlace() Place { return Place{Table: "master_key_check", Row: "1", Column: "value"} }

// RewrapCheck is Rewrap for the value that Check returned.
func (s *Sealer) RewrapCheck(check []byte) ([]byte, error) { return s.Rewrap(check, checkPlace()) }

// Check returns the value to keep beside the data, by which Verify finds a
// wrong master key later.
func (s *Sealer) Check() []byte { return s.Seal([]byte(checkText), checkPlace()) }

// Verify compares the kept value with the master keys at hand. A key that did
// not write it is ErrWrongMasterKey: serve nothing.
func (s *Sealer) Verify(check []byte) error {
	plain, err := s.Open(check, checkPlace())
	if err != nil || string(plain) != checkText {
		return ErrWrongMasterKey
	}
	return nil
}

// Derive returns the key of a label. It comes from the first master key: when
// that is replaced, codes under way and open forms have to be asked for again.
func (s *Sealer) Derive(l Label) [32]byte {
	return [32]byte(derive(s.root[:], string(l), 32))
}

// MAC returns the HMAC-SHA-256 of the parts under the key of a label. Parts
// cannot run into each other: ("ab", "c") and ("a", "bc") differ.
func (s *Sealer) MAC(l Label, parts ...string) [sha256.Size]byte {
	key := s.Derive(l)
	mac := hmac.New(sha256.New, key[:])
	mac.Write(join(parts...))
	return [sha256.Size]byte(mac.Sum(nil))
}

// SealUnder encrypts plain under a key derived from secret, a text of at least
// 128 random bits: whoever does not hold the secret, the database included,
// cannot read it.
func SealUnder(secret string, plain []byte, at Place) []byte {
	return seal(keyUnder(secret), plain, at)
}

// OpenUnder decrypts what SealUnder made of the same secret and place, or
// returns ErrSealed.
func OpenUnder(secret string, value []byte, at Place) ([]byte, error) {
	return open(keyUnder(secret), value, at)
}

// keyUnder expands only: nothing needs to be extracted from a secret that is all
// random (RFC 5869 §3.3), and it is done for every refresh.
func keyUnder(secret string) sealKey {
	key, err := hkdf.Expand(sha256.New, []byte(secret), "postern seal under", 32)
	if err != nil {
		panic(err) // impossible: only for sizes over 8160 bytes
	}
	return sealKey{aead: newAEAD(key)}
}

func seal(key sealKey, plain []byte, at Place) []byte {
	header := append([]byte{sealVersion}, key.id[:]...)
	return key.aead.Seal(header, nil, plain, additional(header, at)) //nolint:gosec // G407: this AEAD draws the nonce itself
}

func open(key sealKey, value []byte, at Place) ([]byte, error) {
	if len(value) < headerSize || value[0] != sealVersion || [keyIDSize]byte(value[1:headerSize]) != key.id {
		return nil, ErrSealed
	}
	header, body := value[:headerSize], value[headerSize:]
	plain, err := key.aead.Open(nil, nil, body, additional(header, at))
	if err != nil {
		return nil, ErrSealed
	}
	return plain, nil
}

func additional(header []byte, at Place) []byte {
	return join(string(header), at.Table, at.Row, at.Column)
}

// join writes each part behind its length, so that no two lists of parts give
// the same bytes.
func join(parts ...string) []byte {
	var out []byte
	for _, part := range parts {
		out = binary.BigEndian.AppendUint64(out, uint64(len(part)))
		out = append(out, part...)
	}
	return out
}

// derive is HKDF-SHA-256 (RFC 5869).
func derive(secret []byte, label string, size int) []byte {
	key, err := hkdf.Key(sha256.New, secret, nil, "postern "+label, size)
	if err != nil {
		panic(err) // impossible: only for sizes over 8160 bytes
	}
	return key
}

func newAEAD(key []byte) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err != nil {
		panic(err) // impossible: only for a key that is not 16, 24 or 32 bytes
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // impossible: only for a cipher that is not AES
	}
	return aead
}

package signing

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxToken is the longest text that Verify looks at, in bytes.
const maxToken = 8 << 10

// Ring is the keys of one project in memory. It is safe for concurrent use and
// follows the moments written in the keys by itself: a key that is due signs, a
// retired one is gone, without a reload.
type Ring struct {
	now      func() time.Time
	reload   sync.Mutex
	snapshot atomic.Pointer[snapshot] // nil until first loaded
	seen     *seen                    // of all projects: a kid is of one key alone
}

// snapshot is what a ring knows, never changed once made.
type snapshot struct {
	keys []ringKey // by algorithm and generation, newest first
	set  []byte    // the key set
	etag string
	ends time.Time // when the next published key retires; zero for never
}

type ringKey struct {
	Key
	private crypto.Signer
}

// Token is what Verify found in a token: signed by this project, nothing else
// checked.
type Token struct {
	Claims    []byte // JSON
	Type      string // header typ
	KeyID     string // header kid
	Algorithm Algorithm

	decoded *atomic.Pointer[any] // what Decode found
}

// Decode decodes the claims of a token. Verify remembers tokens, and what was
// decoded of one with it: nobody may change what a T points to.
func Decode[T any](t Token) (claims T, err error) {
	if kept := t.decoded.Load(); kept != nil {
		if claims, ok := (*kept).(T); ok {
			return claims, nil
		}
	}
	if err := json.Unmarshal(t.Claims, &claims); err != nil {
		return claims, err
	}
	kept := any(claims)
	t.decoded.Store(&kept)
	return claims, nil
}

// Sign returns claims, encoded as JSON, as a compact JWS (RFC 7515 §7.1) with
// the header members alg, kid and typ, under the project's current key for the
// algorithm. Without one it returns ErrNoKey.
func (r *Ring) Sign(alg Algorithm, typ string, claims any) (string, error) {
	key, ok := r.snapshot.Load().current(alg, r.now())
	if !ok {
		return "", fmt.Errorf("%w: %s", ErrNoKey, alg)
	}
	header := key.header(typ)
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("signing: encode claims: %w", err)
	}
	token := make([]byte, 0, len(header)+segment.EncodedLen(len(payload))+segment.EncodedLen(longestSignature)+2)
	token = segment.AppendEncode(append(append(token, header...), '.'), payload)
	signature, err := key.sign(token)
	if err != nil {
		return "", fmt.Errorf("signing: %w", err)
	}
	return string(segment.AppendEncode(append(token, '.'), signature)), nil
}

// segment is the encoding of the parts of a token. Strict, because there is one
// text for one content; line breaks, which it skips, are looked for apart.
var segment = base64.RawURLEncoding.Strict() //nolint:gochecknoglobals // an encoding, never changed

// header is the first part of every token of a type that the key signs.
func (k ringKey) header(typ string) string {
	return segment.EncodeToString([]byte(`{"alg":"` + string(k.Algorithm) + `","kid":"` + k.ID + `","typ":"` + typ + `"}`))
}

// longestSignature is that of RS256 with 2048 bits, in bytes.
const longestSignature = 256

// sign returns the signature of a JWS over its signing input (RFC 7518 §3.3 and
// §3.4). With ECDSA it is a function of key and input (RFC 6979, RFC 8725 §3.2):
// no weakness of a random source gives the key away.
func (k ringKey) sign(input []byte) ([]byte, error) {
	digest := sha256.Sum256(input)
	switch private := k.private.(type) {
	case *ecdsa.PrivateKey:
		encoded, err := private.Sign(nil, digest[:], crypto.SHA256)
		if err != nil {
			return nil, err
		}
		var pair struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(encoded, &pair); err != nil {
			return nil, err
		}
		signature := make([]byte, 64)
		pair.R.FillBytes(signature[:32])
		pair.S.FillBytes(signature[32:])
		return signature, nil
	case *rsa.PrivateKey:
		return rsa.SignPKCS1v15(rand.Reader, private, crypto.SHA256, digest[:])
	default:
		return nil, fmt.Errorf("key %s is a %T", k.ID, private)
	}
}

// signed reports whether the key made a signature. One of ECDSA is made again and
// compared: that takes less than half of the time of verifying it, and knows the
// one that sign makes only, not its mirror too (docs/decisions/0032).
func (k ringKey) signed(input, signature []byte) bool {
	if private, ok := k.private.(*rsa.PrivateKey); ok {
		digest := sha256.Sum256(input)
		return rsa.VerifyPKCS1v15(&private.PublicKey, crypto.SHA256, digest[:], signature) == nil
	}
	own, err := k.sign(input)
	return err == nil && subtle.ConstantTimeCompare(own, signature) == 1
}

// Verify checks that a compact JWS was signed by a published key of this
// project and that its header type is one of types, and returns its claims. It
// does not look at the claims: issuer, audience and time are the caller's.
//
// A header is never read: it is one of those that Sign writes, byte for byte, or
// the token is not ours. So nothing in it can choose a key or an algorithm (RFC
// 8725 §3.1, §3.10), and there is one spelling of a token. Every refusal is
// ErrInvalid.
func (r *Ring) Verify(compact string, types ...string) (Token, error) {
	if len(compact) > maxToken {
		return Token{}, ErrInvalid
	}
	hash := sha256.Sum256([]byte(compact))
	if token, ok := r.seen.get(hash); ok {
		if _, ok := r.snapshot.Load().published(token.KeyID, r.now()); !ok || !slices.Contains(types, token.Type) {
			return Token{}, ErrInvalid
		}
		return token, nil
	}
	header, rest, _ := strings.Cut(compact, ".")
	payload, signature, whole := strings.Cut(rest, ".")
	key, typ, ok := r.snapshot.Load().wrote(header, types, r.now())
	if !ok || !whole || strings.ContainsAny(rest, "\r\n") {
		return Token{}, ErrInvalid
	}
	claims, err := segment.DecodeString(payload)
	if err != nil {
		return Token{}, ErrInvalid
	}
	made, err := segment.DecodeString(signature)
	if err != nil || !key.signed([]byte(compact[:len(header)+1+len(payload)]), made) {
		return Token{}, ErrInvalid
	}
	token := Token{Claims: claims, Type: typ, KeyID: key.ID, Algorithm: key.Algorithm, decoded: new(atomic.Pointer[any])}
	r.seen.put(hash, token)
	return token, nil
}

// JWKS returns the project's published keys as a JWK set (RFC 7517 §5) with its
// strong entity tag. Others may keep it for KeySetMaxAge.
func (r *Ring) JWKS() (body []byte, etag string) {
	s := r.snapshot.Load()
	if now := r.now(); !s.ends.IsZero() && !now.Before(s.ends) {
		next := prepare(s.keys, now)
		r.snapshot.CompareAndSwap(s, next) // a reload meanwhile knows more
		s = next
	}
	return s.set, s.etag
}

// Ready tells whether the project can sign with every algorithm.
func (r *Ring) Ready() bool {
	s, now := r.snapshot.Load(), r.now()
	for _, alg := range Algorithms() {
		if _, ok := s.current(alg, now); !ok {
			return false
		}
	}
	return true
}

// newSnapshot reads the rows of one project.
func newSnapshot(sealer *Sealer, rows []Key, now time.Time) (*snapshot, error) {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Algorithm, b.Algorithm), cmp.Compare(b.Generation, a.Generation))
	})
	var keys []ringKey
	for _, row := range rows {
		private, err := parsePrivate(sealer, row)
		if err != nil {
			return nil, err
		}
		keys = append(keys, ringKey{row, private})
	}
	return prepare(keys, now), nil
}

// prepare writes the key set of the keys that are published at the moment now.
func prepare(keys []ringKey, now time.Time) *snapshot {
	s := &snapshot{keys: keys}
	var texts [][]byte
	for _, key := range keys {
		if key.retired(now) {
			continue
		}
		texts = append(texts, key.Public)
		if !key.RetireAt.IsZero() && (s.ends.IsZero() || key.RetireAt.Before(s.ends)) {
			s.ends = key.RetireAt
		}
	}
	s.set = fmt.Appendf(nil, `{"keys":[%s]}`, bytes.Join(texts, []byte(",")))
	sum := sha256.Sum256(s.set)
	s.etag = `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`
	return s
}

// current returns the key that signs: of those that may, the newest. The first
// one waits for nobody: there is no other that could sign while the clock, set
// back or another server's, is before its beginning.
func (s *snapshot) current(alg Algorithm, now time.Time) (ringKey, bool) {
	for _, key := range s.keys {
		if key.Algorithm == alg && (key.Generation == 1 || !now.Before(key.NotBefore)) && !key.retired(now) {
			return key, true
		}
	}
	return ringKey{}, false
}

func (s *snapshot) published(id string, now time.Time) (ringKey, bool) {
	for _, key := range s.keys {
		if key.ID == id && !key.retired(now) {
			return key, true
		}
	}
	return ringKey{}, false
}

// wrote finds the published key, and the type, whose tokens begin with a header.
func (s *snapshot) wrote(header string, types []string, now time.Time) (key ringKey, typ string, ok bool) {
	for _, key := range s.keys {
		for _, typ := range types {
			if header == key.header(typ) && !key.retired(now) {
				return key, typ, true
			}
		}
	}
	return ringKey{}, "", false
}

func (k ringKey) retired(now time.Time) bool {
	return !k.RetireAt.IsZero() && !now.Before(k.RetireAt)
}

package guard

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Ages of the key set. Busy servers renew it beside their requests, so a key
// that the issuer withdrew stops working within keysStale; where the issuer
// does not answer, the last set serves until keysDead.
const (
	keysRenew      = 2 * time.Minute
	keysStale      = 5 * time.Minute
	keysDead       = time.Hour
	keysRetry      = 30 * time.Second // after a renewal that failed
	keysWait       = time.Second      // the same where there is no set to go on with; short, as metadataWait
	unknownKeyWait = time.Minute      // after a fetch because of an unknown kid
	unknownRetry   = 5 * time.Second  // after any that failed, before the next because of an unknown kid
)

// key is one verification key of the issuer.
type key struct {
	id     string
	method jwt.SigningMethod
	public interface{ Equal(crypto.PublicKey) bool }
}

// keySet is the issuer's key set (RFC 7517). Each Guard has its own, so a key
// id of one issuer never finds a key of another.
type keySet struct {
	issuer *issuer
	now    func() time.Time
	log    *slog.Logger

	latest  atomic.Pointer[keys]
	fetches flights[struct{}, *keys]

	mu      sync.Mutex
	failed  time.Time // when the last fetch failed, zero if it did not
	unknown time.Time // when a fetch because of an unknown kid last succeeded
}

type keys struct {
	list    []*key
	fetched time.Time
}

// find returns the key for a token's header. A token without a kid finds the
// only key of its algorithm.
func (k *keys) find(id, alg string) *key {
	var found *key
	for _, candidate := range k.list {
		if candidate.method.Alg() != alg || id != "" && candidate.id != id {
			continue
		}
		if id != "" {
			return candidate
		}
		if found != nil {
			return nil
		}
		found = candidate
	}
	return found
}

// find returns the key that must verify a token, fetching the key set where
// that is due.
func (s *keySet) find(ctx context.Context, id, alg string) (*key, error) {
	set, err := s.current(ctx)
	if err != nil {
		return nil, err
	}
	if key := set.find(id, alg); key != nil {
		return key, nil
	}
	// Perhaps the key is new. A fetch that is under way may bring it, or may
	// have begun before the key was published.
	s.fetches.join(ctx, struct{}{})
	if key := s.latest.Load().find(id, alg); key != nil {
		return key, nil
	}
	if s.mayAsk() {
		if _, err := s.fetches.do(ctx, struct{}{}, s.ask); err != nil {
			return nil, err
		}
	}
	if key := s.latest.Load().find(id, alg); key != nil {
		return key, nil
	}
	if s.failing() {
		return nil, ErrUnavailable // nobody knows
	}
	return nil, invalid("unknown key")
}

// mayAsk reports whether an unknown kid may cause a fetch. Garbage must not
// become a storm of them, so one answer holds for a minute. A fetch that failed
// is no answer: perhaps the key is there, and clients throw tokens away that
// are called invalid.
func (s *keySet) mayAsk() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	return now.Sub(s.unknown) >= unknownKeyWait && now.Sub(s.failed) >= unknownRetry
}

// ask is fetch because of an unknown kid, unless somebody was just faster.
func (s *keySet) ask(ctx context.Context) (*keys, error) {
	if !s.mayAsk() {
		return s.latest.Load(), nil
	}
	set, err := s.fetch(ctx)
	if err == nil {
		s.mu.Lock()
		s.unknown = s.now()
		s.mu.Unlock()
	}
	return set, err
}

// failing reports whether the last fetch failed.
func (s *keySet) failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.failed.IsZero()
}

// rests reports whether the last fetch failed less than wait ago, so that
// another would do no better.
func (s *keySet) rests(wait time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now().Sub(s.failed) < wait
}

// current returns a key set that is fresh enough.
func (s *keySet) current(ctx context.Context) (*keys, error) {
	set := s.latest.Load()
	if set == nil || s.now().Sub(set.fetched) >= keysDead {
		if s.rests(keysWait) {
			return nil, ErrUnavailable
		}
		return s.fetches.do(ctx, struct{}{}, s.fetch)
	}
	switch age := s.now().Sub(set.fetched); {
	case age < keysRenew, s.rests(keysRetry):
	case age < keysStale:
		s.fetches.start(ctx, struct{}{}, s.fetch)
	default:
		if renewed, err := s.fetches.do(ctx, struct{}{}, s.fetch); err == nil {
			return renewed, nil
		}
	}
	return set, nil
}

// holds reports whether a key that verified a token earlier is still
// published, as far as a set that is not stale can tell. It never waits.
func (s *keySet) holds(k *key) bool {
	set := s.latest.Load()
	if set == nil {
		return false
	}
	age := s.now().Sub(set.fetched)
	if age >= keysStale {
		return false
	}
	if age >= keysRenew {
		_, _ = s.current(context.Background()) // begins the renewal
	}
	return slices.Contains(set.list, k)
}

// fetch reads the key set. Keys that were there before stay the same *key, so
// that tokens verified with them stay verified.
func (s *keySet) fetch(ctx context.Context) (*keys, error) {
	set, err := s.read(ctx)
	if err != nil {
		s.mu.Lock()
		s.failed = s.now()
		s.mu.Unlock()
		s.log.Warn("guard: no keys from the issuer", "issuer", s.issuer.url, "reason", err)
		return nil, ErrUnavailable
	}
	if before := s.latest.Load(); before != nil {
		for i, k := range set.list {
			for _, old := range before.list {
				if old.id == k.id && old.method == k.method && old.public.Equal(k.public) {
					set.list[i] = old
				}
			}
		}
	}
	s.latest.Store(set)
	s.mu.Lock()
	s.failed = time.Time{}
	s.mu.Unlock()
	return set, nil
}

func (s *keySet) read(ctx context.Context) (*keys, error) {
	doc, err := s.issuer.document(ctx)
	if err != nil {
		return nil, err
	}
	if doc.parsed.JWKSURI == "" {
		return nil, fmt.Errorf("the issuer's metadata names no jwks_uri")
	}
	raw, err := fetch(ctx, s.issuer.client, doc.parsed.JWKSURI)
	if err != nil {
		return nil, err
	}
	set := &keys{fetched: s.now()}
	set.list, err = parseKeys(raw)
	return set, err
}

type jwk struct {
	Kty    string   `json:"kty"`
	Kid    string   `json:"kid"`
	Alg    string   `json:"alg"`
	Use    string   `json:"use"`
	KeyOps []string `json:"key_ops"`
	Crv    string   `json:"crv"`
	X      string   `json:"x"`
	Y      string   `json:"y"`
	N      string   `json:"n"`
	E      string   `json:"e"`
}

// parseKeys reads a JWK set and leaves out every key that cannot verify an
// access token (RFC 7517 §5 says to ignore what one does not understand): of
// another type, for another use or algorithm, too weak, or broken.
func parseKeys(raw []byte) ([]*key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &set); err != nil {
		return nil, err
	}
	var list []*key
	for _, raw := range set.Keys {
		var j jwk
		if json.Unmarshal(raw, &j) != nil {
			continue
		}
		if k := j.key(); k != nil {
			list = append(list, k)
		}
	}
	return list, nil
}

// key returns nil for a key that is not for us.
func (j *jwk) key() *key {
	if j.Use != "" && j.Use != "sig" || j.KeyOps != nil && !slices.Contains(j.KeyOps, "verify") {
		return nil
	}
	k := &key{id: j.Kid}
	switch {
	case j.Kty == "EC" && j.Crv == "P-256":
		k.method = jwt.SigningMethodES256
		x, y := coordinate(j.X), coordinate(j.Y)
		if x == nil || y == nil {
			return nil
		}
		point := slices.Concat([]byte{4}, x, y)
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil { // also for a point that is not on the curve
			return nil
		}
		k.public = public
	case j.Kty == "RSA":
		k.method = jwt.SigningMethodRS256
		n, errN := base64.RawURLEncoding.DecodeString(j.N)
		e, errE := base64.RawURLEncoding.DecodeString(j.E)
		if errN != nil || errE != nil || len(e) > 4 {
			return nil
		}
		public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
		if bits := public.N.BitLen(); bits < 2048 || bits > 8192 || public.E < 3 || public.E%2 == 0 {
			return nil
		}
		k.public = public
	case j.Kty == "OKP" && j.Crv == "Ed25519":
		k.method = jwt.SigningMethodEdDSA
		x := coordinate(j.X)
		if x == nil {
			return nil
		}
		k.public = ed25519.PublicKey(x)
	default:
		return nil
	}
	if j.Alg != "" && j.Alg != k.method.Alg() {
		return nil
	}
	return k
}

// coordinate decodes 32 bytes, or returns nil.
func coordinate(s string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(b) != 32 {
		return nil
	}
	return b
}

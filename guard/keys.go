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
	unknownKeyWait = time.Minute      // between fetches because of an unknown kid
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
	failed  time.Time // the last fetch that failed
	unknown time.Time // the last fetch because of an unknown kid
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
	// Perhaps the key is new. Garbage must not become a storm of fetches, so
	// only one in a minute asks; those who come meanwhile wait for it.
	if s.mayAsk() {
		set, err = s.fetches.do(ctx, struct{}{}, s.fetch)
	} else {
		s.fetches.join(ctx, struct{}{})
		set = s.latest.Load()
	}
	if err != nil {
		return nil, err
	}
	if key := set.find(id, alg); key != nil {
		return key, nil
	}
	if s.resting(set) {
		return nil, ErrUnavailable // nobody knows
	}
	return nil, invalid("unknown key")
}

// mayAsk reports whether an unknown kid may cause a fetch, once a minute.
func (s *keySet) mayAsk() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if now.Sub(s.unknown) < unknownKeyWait {
		return false
	}
	s.unknown = now
	return true
}

// resting reports whether a fetch has failed since the set was fetched, and
// so recently that another would do no better.
func (s *keySet) resting(set *keys) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed.After(set.fetched) && s.now().Sub(s.failed) < keysRetry
}

// current returns a key set that is fresh enough.
func (s *keySet) current(ctx context.Context) (*keys, error) {
	set := s.latest.Load()
	if set == nil {
		return s.fetches.do(ctx, struct{}{}, s.fetch)
	}
	age := s.now().Sub(set.fetched)
	switch {
	case age < keysRenew, age < keysDead && s.resting(set):
		return set, nil
	case age < keysStale:
		s.fetches.start(ctx, struct{}{}, s.fetch)
		return set, nil
	}
	renewed, err := s.fetches.do(ctx, struct{}{}, s.fetch)
	if err != nil && age < keysDead {
		return set, nil
	}
	return renewed, err
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

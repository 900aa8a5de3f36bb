package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/wire"
)

// Bounds of a key set that a client publishes at its jwks_uri.
const (
	keySetLimit = 64 << 10 // bytes
	// keySetMax is how long a set counts as fresh at most, whatever its headers say.
	keySetMax = time.Hour
	// keySetGrace is how long past that the last good set is used while it cannot
	// be read. It is shorter than a document's: a key that was taken out stays
	// good for us so long.
	keySetGrace = 3 * time.Hour
	// keySetPause is between two readings of a set. Whoever sends signatures that
	// no key made causes one at most.
	keySetPause = time.Minute
	// keySetsKept bounds how many sets are remembered.
	keySetsKept = 1000
)

// keepKeys turns the keys that a client declares into what is kept of them, or
// refuses them. Of a client that does not authenticate with a key none are kept,
// but it hears of a private one all the same.
func (m *Metadata) keepKeys(p *project.Project, optional bool) error {
	if string(m.JWKS) == "null" {
		m.JWKS = nil
	}
	if len(m.JWKS) > 0 && m.JWKSURI != "" { // RFC 7591 §2
		return invalidClientMetadata("Send jwks or jwks_uri, not both.")
	}
	if u, err := url.Parse(m.JWKSURI); m.JWKSURI != "" && (err != nil || u.Scheme != "https" || ownHost(p, u)) {
		return invalidClientMetadata("jwks_uri must be an https address, and none of this server.")
	}
	var keys signing.ClientKeys
	if len(m.JWKS) > 0 {
		var err error
		if keys, err = declaredKeys(m.JWKS); err != nil {
			return err
		}
	}
	byKey := m.TokenEndpointAuthMethod == authKey
	switch {
	case !byKey && !optional:
		m.JWKS, m.JWKSURI, m.SigningAlg = nil, "", ""
		return nil
	case m.SigningAlg != "" && !contains(signing.ClientAlgorithms(), m.SigningAlg):
		return invalidClientMetadata("token_endpoint_auth_signing_alg must be %s.", strings.Join(signing.ClientAlgorithms(), ", "))
	case m.JWKSURI == "" && keys.Len() == 0 && byKey:
		return invalidClientMetadata("A client that authenticates by private_key_jwt needs jwks with a key for signatures (EC P-256, Ed25519 or RSA), or a jwks_uri.")
	case keys.Len() == 0:
		m.JWKS = nil
		return nil
	}
	set, err := keys.Set()
	m.JWKS = set
	return err
}

// declaredKeys reads the jwks of a client. The refusal says what its makers can do.
func declaredKeys(set json.RawMessage) (signing.ClientKeys, error) {
	var members struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := wire.JSON(set, &members); err != nil { // it refuses a member that stands there twice
		return signing.ClientKeys{}, invalidClientMetadata("jwks is not a JWK set (RFC 7517 section 5).")
	}
	keys, err := signing.CheckClientKeys(set)
	switch {
	case errors.Is(err, signing.ErrPrivateKey):
		return keys, invalidClientMetadata("jwks holds a private or symmetric key. Send public keys only, and replace that one.")
	case errors.Is(err, signing.ErrWeakKey):
		return keys, invalidClientMetadata("jwks holds an RSA key with fewer than 2048 bits, or more than 8192. Make another one.")
	case errors.Is(err, signing.ErrKeyIDs):
		return keys, invalidClientMetadata("Every key of jwks must have a kid of its own, of at most 256 bytes.")
	case errors.Is(err, signing.ErrTooManyKeys):
		return keys, invalidClientMetadata("jwks must hold at most 10 keys.")
	case err != nil:
		return keys, invalidClientMetadata("jwks is not a JWK set (RFC 7517 section 5).")
	}
	return keys, nil
}

// ownHost reports whether an address is one of this server: it never asks itself.
func ownHost(p *project.Project, u *url.URL) bool {
	host := project.Host("https", u.Host)
	return host == project.IssuerHost(p.Issuer) || contains(p.Hosts, host)
}

// verifyAssertion checks the signature of an assertion with the client's keys. When
// they do not fit they may have changed, so they are read again, if that was not
// just done. errUnread when there are no keys to check with.
func (s *Server) verifyAssertion(ctx context.Context, p *project.Project, client Client, a assertion) error {
	for _, again := range []bool{false, true} {
		keys, err := s.keysOf(ctx, p, client, again)
		if err != nil {
			return err
		}
		if err := a.signed.Verify(keys); err == nil || again {
			return err
		}
	}
	return nil
}

// keysOf finds a client's keys, with again newer ones, if there are any: what it
// registered changes by itself nowhere, but a key set or a document may have.
func (s *Server) keysOf(ctx context.Context, p *project.Project, client Client, again bool) (signing.ClientKeys, error) {
	if client.Metadata.JWKSURI != "" {
		return s.publishedKeys(ctx, p, client.Metadata.JWKSURI, again)
	}
	if again && client.Creation == Document && p.Settings.MetadataDocuments && s.keySets.pause(p.ID+" "+client.URL) {
		newer, err := s.renewDocument(ctx, p, client.URL, client.Host(), true)
		var refusal *Error
		if err != nil && !errors.As(err, &refusal) {
			return signing.ClientKeys{}, err
		}
		if err == nil && newer.HasKeys() {
			return s.keysOf(ctx, p, newer, false)
		}
	}
	return signing.ReadClientKeys(client.Metadata.JWKS)
}

// keySets is what a Server remembers of the key sets that clients publish, by
// project and address. It is of this process alone: another node reads for itself.
type keySets struct {
	readings
	reading singleflight.Group

	mu    sync.Mutex
	known map[string]keySet
}

// keySet is what there is of one set.
type keySet struct {
	keys  signing.ClientKeys
	fresh time.Time // until when; zero when it was never read
	asked time.Time // when the last reading began
}

func (k *keySets) get(name string) keySet {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known[name]
}

// put remembers a set. Where there are too many, the one that was asked for least
// recently goes.
func (k *keySets) put(name string, set keySet) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known == nil {
		k.known = map[string]keySet{}
	}
	if _, found := k.known[name]; !found && len(k.known) >= keySetsKept {
		oldest := ""
		for other, s := range k.known {
			if oldest == "" || s.asked.Before(k.known[oldest].asked) {
				oldest = other
			}
		}
		delete(k.known, oldest)
	}
	k.known[name] = set
}

// pause reports whether nothing was read under a name in the last keySetPause, and
// begins another.
func (k *keySets) pause(name string) bool {
	set, now := k.get(name), k.now()
	if now.Sub(set.asked) < keySetPause {
		return false
	}
	set.asked = now
	k.put(name, set)
	return true
}

// publishedKeys are the keys at a jwks_uri: from memory while they are fresh, else
// read, at most once in keySetPause however many ask. again asks for newer ones
// than those in memory. While the address cannot be read the last ones serve.
func (s *Server) publishedKeys(ctx context.Context, p *project.Project, address string, again bool) (signing.ClientKeys, error) {
	name := p.ID + " " + address
	if set := s.keySets.get(name); !again && s.now().Before(set.fresh) {
		return set.keys, nil
	}
	result, err, _ := s.keySets.reading.Do(name, func() (any, error) {
		set, now := s.keySets.get(name), s.now()
		err := error(errNotAsked)
		if s.keySets.pause(name) {
			var read keySet
			if read, err = s.readKeySet(context.WithoutCancel(ctx), p, address); err == nil {
				read.asked = now
				s.keySets.put(name, read)
				return read.keys, nil
			}
			s.note(ctx, slog.String("keys", err.Error()))
		}
		if now.Before(set.fresh.Add(keySetGrace)) {
			return set.keys, nil
		}
		return nil, err
	})
	keys, _ := result.(signing.ClientKeys)
	return keys, err
}

// readKeySet reads the key set at an address that a client named. Every failure is
// errUnread.
func (s *Server) readKeySet(ctx context.Context, p *project.Project, address string) (keySet, error) {
	u, err := url.Parse(address)
	if err != nil {
		return keySet{}, fmt.Errorf("%w: %w", errUnread, err)
	}
	asking, _ := ctx.Value(addressKey{}).(string)
	if !s.keySets.begin(p.ID, strings.ToLower(u.Host), network(asking)) {
		return keySet{}, errNotAsked
	}
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	body, fresh, err := fetchJSON(ctx, s.fetch(p), address, keySetLimit)
	if err != nil {
		return keySet{}, err
	}
	keys, err := signing.ReadClientKeys(body)
	if err != nil {
		return keySet{}, fmt.Errorf("%w: %w", errUnread, err)
	}
	return keySet{keys: keys, fresh: s.now().Add(min(fresh, keySetMax))}, nil
}

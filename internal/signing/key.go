package signing

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/postern-id/postern/internal/audit"
)

// Algorithm is a JWS algorithm (RFC 7518 §3.1). A key has one and is used for
// no other (RFC 8725 §3.1).
type Algorithm string

// The algorithms that Postern signs with. ES256 is the cheap default; RS256 is
// there for those who need it: id_tokens, and the compatible token profile.
const (
	ES256 Algorithm = "ES256"
	RS256 Algorithm = "RS256"
)

// Algorithms lists them, in the order in which a project gets its keys: what is
// made in a moment first.
func Algorithms() []Algorithm { return []Algorithm{ES256, RS256} }

const rsaBits = 2048

// Key is one signing key of a project, as its row keeps it.
type Key struct {
	ID         string // kid: the RFC 7638 thumbprint of the public key
	ProjectID  string
	Algorithm  Algorithm
	Generation int64     // 1, 2, … of this project and algorithm
	Public     []byte    // JWK in JSON (RFC 7517), public members only
	Private    []byte    // PKCS #8, sealed for this row
	CreatedAt  time.Time // published from here on
	NotBefore  time.Time // signs from here on
	// RetireAt is zero while the key has no successor. From there on the key is
	// neither published nor accepted.
	RetireAt time.Time
}

// Store keeps the signing keys. All times are kept to the microsecond.
type Store interface {
	// Keys returns every key of the project, in any order.
	Keys(ctx context.Context, projectID string) ([]Key, error)

	// AddKey does, in one transaction: insert k; where a key of its project,
	// algorithm and generation exists, change nothing and return ErrConflict.
	// Set RetireAt of the earlier generations to previousRetireAt where it is
	// zero or later. Delete keys of the project whose RetireAt is set and not
	// after k.CreatedAt. Raise the project's change counter. Keep the event.
	AddKey(ctx context.Context, k Key, previousRetireAt time.Time, e audit.Event) error

	// RemoveKey does, in one transaction: delete a key of the project; where it
	// is not there, change nothing and return ErrNotFound. Unless next is nil, do
	// with it what AddKey does, ErrConflict included. Raise the project's change
	// counter. Keep the event.
	RemoveKey(ctx context.Context, projectID, id string, next *Key, previousRetireAt time.Time, e audit.Event) error
}

// newKey makes the key of one generation. An RSA key takes a good part of a
// second.
func (k *Keys) newKey(projectID string, alg Algorithm, generation int64, created, notBefore time.Time) (Key, error) {
	var private crypto.Signer
	var err error
	switch alg {
	case ES256:
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case RS256:
		private, err = k.config.RSA()
	default:
		err = fmt.Errorf("unknown algorithm %q", alg)
	}
	if err != nil {
		return Key{}, fmt.Errorf("signing: make key: %w", err)
	}
	id, public, err := publicJWK(private.Public(), alg)
	if err != nil {
		return Key{}, fmt.Errorf("signing: make key: %w", err)
	}
	plain, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return Key{}, fmt.Errorf("signing: make key: %w", err)
	}
	return Key{
		ID:         id,
		ProjectID:  projectID,
		Algorithm:  alg,
		Generation: generation,
		Public:     public,
		Private:    k.config.Sealer.Seal(plain, PrivatePlace(id)),
		CreatedAt:  created,
		NotBefore:  notBefore,
	}, nil
}

// PrivatePlace is where the private part of a key is kept.
func PrivatePlace(id string) Place {
	return Place{Table: "signing_key", Row: id, Column: "private"}
}

// publicJWK returns kid and JWK of a public key. key_ops says the same as use,
// for the readers that look there (RFC 7517 §4.3).
func publicJWK(public crypto.PublicKey, alg Algorithm) (id string, text []byte, err error) {
	jwk := jose.JSONWebKey{Key: public, Algorithm: string(alg), Use: "sig"}
	thumbprint, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", nil, err
	}
	jwk.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	text, err = jwk.MarshalJSON()
	if err != nil {
		return "", nil, err
	}
	var members map[string]any
	if err := json.Unmarshal(text, &members); err != nil {
		return "", nil, err
	}
	members["key_ops"] = []string{"verify"}
	text, err = json.Marshal(members)
	return jwk.KeyID, text, err
}

// parsePublic reads what publicJWK wrote.
func parsePublic(k Key) (crypto.PublicKey, error) {
	var jwk jose.JSONWebKey
	if err := jwk.UnmarshalJSON(k.Public); err != nil {
		return nil, fmt.Errorf("signing: public part of key %s: %w", k.ID, err)
	}
	if !jwk.IsPublic() || jwk.KeyID != k.ID || jwk.Algorithm != string(k.Algorithm) {
		return nil, fmt.Errorf("signing: public part of key %s is not its own", k.ID)
	}
	return jwk.Key, nil
}

// parsePrivate opens the sealed private part, and checks that the public part is
// of the same key.
func parsePrivate(sealer *Sealer, k Key) (crypto.Signer, error) {
	public, err := parsePublic(k)
	if err != nil {
		return nil, err
	}
	plain, err := sealer.Open(k.Private, PrivatePlace(k.ID))
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(plain)
	if err != nil {
		return nil, fmt.Errorf("signing: private part of key %s cannot be read", k.ID)
	}
	private, ok := parsed.(crypto.Signer)
	if of, comparable := public.(interface{ Equal(crypto.PublicKey) bool }); !ok || !comparable || !of.Equal(private.Public()) {
		return nil, fmt.Errorf("signing: private part of key %s is not that of its public part", k.ID)
	}
	return private, nil
}

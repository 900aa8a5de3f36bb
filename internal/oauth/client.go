package oauth

import (
	"crypto/sha256"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
)

// ClientType is what the dashboard and the compatible API call a client.
type ClientType string

// The four client types. First party means: the project's own program.
const (
	FirstParty       ClientType = "first_party"
	FirstPartyPublic ClientType = "first_party_public"
	ThirdParty       ClientType = "third_party"
	ThirdPartyPublic ClientType = "third_party_public"
)

// Public reports whether clients of this type have no secret.
func (t ClientType) Public() bool { return t == FirstPartyPublic || t == ThirdPartyPublic }

// FirstParty reports whether the project vouches for clients of this type.
func (t ClientType) FirstParty() bool { return t == FirstParty || t == FirstPartyPublic }

// Creation says how a client came to be known.
type Creation string

// The three ways (MCP 2026-07-28, Client Registration).
const (
	Preregistered Creation = "preregistered" // an operator typed it in
	Dynamic       Creation = "dynamic"       // RFC 7591
	Document      Creation = "document"      // client ID metadata document
)

// Client is a registered client. People know it as a connected app.
type Client struct {
	ID               string // connected-app-<test|live>-<uuid>
	ProjectID        string
	URL              string // its client_id if it is a metadata document's, else ""
	Type             ClientType
	Creation         Creation
	Metadata         Metadata
	MetadataHash     []byte // SHA-256 over the canonical JSON of Metadata
	SecretID         string // id part of its secret (decision 23), "" without
	SecretHash       []byte
	SecretLast4      string
	TokenID          string // id part of its registration access token (RFC 7592 §3), "" without
	TokenHash        []byte
	BypassConsent    bool // first party only: no consent page
	Blocked          bool
	CreatedAt        time.Time
	LastRegisteredAt time.Time
	// Of a metadata document only: when it was read and until when it counts as
	// fresh (RFC 9111), bounded by us.
	FetchedAt  time.Time
	FreshUntil time.Time
	CopiedAt   time.Time // day of the stored copy that stands for it, zero when it was read
	Logo       string    // SHA-256 of its logo in hex, "" without one
}

// Metadata is what a client says of itself, in RFC 7591 §2 names. Only what we
// keep has a field; the order of fields is the canonical order.
type Metadata struct {
	ClientName               string   `json:"client_name,omitempty"`
	ClientURI                string   `json:"client_uri,omitempty"`
	LogoURI                  string   `json:"logo_uri,omitempty"`
	PolicyURI                string   `json:"policy_uri,omitempty"`
	TosURI                   string   `json:"tos_uri,omitempty"`
	Contacts                 []string `json:"contacts,omitempty"`
	RedirectURIs             []string `json:"redirect_uris"`
	PostLogoutRedirectURIs   []string `json:"post_logout_redirect_uris,omitempty"`
	GrantTypes               []string `json:"grant_types"`
	ResponseTypes            []string `json:"response_types"`
	TokenEndpointAuthMethod  string   `json:"token_endpoint_auth_method"`
	Scope                    string   `json:"scope,omitempty"` // recorded, shown, never binding (decision 27)
	ApplicationType          string   `json:"application_type,omitempty"`
	SoftwareID               string   `json:"software_id,omitempty"`
	SoftwareVersion          string   `json:"software_version,omitempty"`
	IDTokenSignedResponseAlg string   `json:"id_token_signed_response_alg,omitempty"`
	// Of a client that authenticates with a key: the public keys themselves or
	// where they are, and the only algorithm, if it named one.
	JWKS       json.RawMessage `json:"jwks,omitempty"`
	JWKSURI    string          `json:"jwks_uri,omitempty"`
	SigningAlg string          `json:"token_endpoint_auth_signing_alg,omitempty"`
}

// PublicID is the client_id as the client writes it (decision 33).
func (c Client) PublicID() string {
	if c.URL != "" {
		return c.URL
	}
	return c.ID
}

// Host is the host of a metadata document, "" for other clients. It is the
// only name of a client that somebody has checked.
func (c Client) Host() string {
	u, err := url.Parse(c.URL)
	if err != nil {
		return ""
	}
	return u.Host
}

// HasKeys reports whether the client can authenticate with a key.
func (c Client) HasKeys() bool { return len(c.Metadata.JWKS) > 0 || c.Metadata.JWKSURI != "" }

// KeyIDs are the kids of the keys that it registered; nobody knows here those that
// it publishes at its jwks_uri.
func (c Client) KeyIDs() []string {
	keys, err := signing.ReadClientKeys(c.Metadata.JWKS)
	if err != nil {
		return nil
	}
	return keys.IDs()
}

// ChangesItself reports whether the client may read, change and delete its
// registration (RFC 7592): it registered itself and is nobody else's too.
func (c Client) ChangesItself() bool { return c.TokenID != "" }

// SelfRegistered reports whether nobody but the client itself vouches for it.
func (c Client) SelfRegistered() bool { return c.Creation != Preregistered }

// Trusted reports whether errors may be sent to the client's redirect URI
// before a person acted (decision 11).
func (c Client) Trusted() bool { return c.Creation == Preregistered }

// Refreshes reports whether the client gets refresh tokens (decision 6).
func (c Client) Refreshes() bool { return slices.Contains(c.Metadata.GrantTypes, "refresh_token") }

// ProvesItself reports whether an answer to redirectURI can only reach this
// client, so that a remembered consent may be used in silence (RFC 8252 §8.6,
// decision 13): its host said so itself or an operator registered it, and the
// address is not one that any program on a computer can take.
func (c Client) ProvesItself(redirectURI string) bool {
	if c.Creation == Dynamic || !c.CopiedAt.IsZero() {
		return false
	}
	u, err := url.Parse(redirectURI)
	if err != nil || u.Scheme != "https" {
		return !c.Type.Public()
	}
	return !project.Loopback(u.Hostname())
}

// Name is the name to show, never empty: the client's own, else the host its
// answer goes to.
func (c Client) Name() string {
	if n := strings.TrimSpace(c.Metadata.ClientName); n != "" {
		return n
	}
	if h := c.Host(); h != "" {
		return h
	}
	if len(c.Metadata.RedirectURIs) > 0 {
		if u, err := url.Parse(c.Metadata.RedirectURIs[0]); err == nil && u.Host != "" {
			return u.Host
		}
	}
	return c.ID
}

// Hash stands for everything that a client says of itself: two registrations
// with the same hash are the same client (decision 9), and a consent given to
// one hash is not a consent to another.
func (m Metadata) Hash() []byte {
	body, err := json.Marshal(m)
	if err != nil {
		panic("oauth: metadata cannot be marshalled: " + err.Error()) // impossible: strings and lists of strings
	}
	sum := sha256.Sum256(body)
	return sum[:]
}

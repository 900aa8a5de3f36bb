package oauth

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

// Setup manages the connected apps of projects, pre-registered or not: what the
// set-up commands and the dashboard do.
type Setup struct {
	store SetupStore
	now   func() time.Time
	by    audit.Origin
}

// NewSetup returns a Setup on a store, whose changes are the operator's.
func NewSetup(store SetupStore, now func() time.Time) *Setup {
	return &Setup{store: store, now: now, by: audit.Origin{Actor: audit.Operator}}
}

// By returns a Setup whose changes are made by somebody else.
func (s *Setup) By(o audit.Origin) *Setup {
	return &Setup{store: s.store, now: s.now, by: o}
}

// Logo returns the PNG under a digest, as Server.Logo does.
func (s *Setup) Logo(ctx context.Context, p *project.Project, digest string) ([]byte, error) {
	return s.store.Logo(ctx, p.ID, digest)
}

// NewClient describes a client to register.
type NewClient struct {
	Name                   string
	Type                   ClientType
	RedirectURIs           []string
	PostLogoutRedirectURIs []string
	AuthMethod             string // of a confidential client: "" is client_secret_basic, with keys private_key_jwt
	JWKS                   []byte // a JWK set of public keys, of a client that authenticates with them
	JWKSURI                string // or where they are
	BypassConsent          bool   // first party only
}

// CreateClient keeps a pre-registered client. A confidential one without keys of
// its own gets a secret, returned once. The error is a sentence for the operator.
func (s *Setup) CreateClient(ctx context.Context, p *project.Project, n NewClient) (Client, *secret.Secret, error) {
	switch n.Type {
	case FirstParty, FirstPartyPublic, ThirdParty, ThirdPartyPublic:
	default:
		return Client{}, nil, project.Problem(fmt.Sprintf("the client type %q is not one of %s, %s, %s, %s", n.Type, FirstParty, FirstPartyPublic, ThirdParty, ThirdPartyPublic))
	}
	now := s.now()
	c := Client{
		ID: secret.NewID(now, "connected-app", string(p.Environment)), ProjectID: p.ID,
		Type: n.Type, Creation: Preregistered, BypassConsent: n.BypassConsent,
		CreatedAt: now, LastRegisteredAt: now,
		Metadata: Metadata{
			ClientName: strings.TrimSpace(n.Name), RedirectURIs: n.RedirectURIs, PostLogoutRedirectURIs: n.PostLogoutRedirectURIs,
			GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
			TokenEndpointAuthMethod: authNone,
		},
	}
	method, err := n.authMethod()
	if err != nil {
		return Client{}, nil, err
	}
	c.Metadata.TokenEndpointAuthMethod = method
	var key *secret.Secret
	switch method {
	case authKey:
		c.Metadata.JWKS, c.Metadata.JWKSURI = n.JWKS, n.JWKSURI
		if err := typedKeys(p, &c.Metadata); err != nil {
			return Client{}, nil, err
		}
	case authBasic, authPost:
		k := secret.New(secret.ClientSecret, now)
		c.SecretID, c.SecretHash, c.SecretLast4, key = k.ID, k.Hash[:], k.Text[len(k.Text)-4:], &k
	}
	if err := checkTyped(p, c, Client{}); err != nil {
		return Client{}, nil, err
	}
	c.MetadataHash = c.Metadata.Hash()
	return c, key, s.store.CreateClient(ctx, c, nil, s.event(p, audit.ClientCreated, c.ID))
}

// authMethod is how the client is to authenticate.
func (n NewClient) authMethod() (string, error) {
	keys := len(n.JWKS) > 0 || n.JWKSURI != ""
	switch {
	case n.Type.Public() && keys:
		return "", project.Problem("a public client does not authenticate: choose a confidential type for one with keys")
	case n.Type.Public():
		return authNone, nil
	case keys && n.AuthMethod != "" && n.AuthMethod != authKey:
		return "", project.Problem(fmt.Sprintf("a client with keys authenticates by %s, not by %s", authKey, n.AuthMethod))
	case keys, n.AuthMethod == authKey:
		return authKey, nil
	case n.AuthMethod == "", n.AuthMethod == authBasic:
		return authBasic, nil
	case n.AuthMethod == authPost:
		return authPost, nil
	}
	return "", project.Problem(fmt.Sprintf("the authentication method %q is not %s, %s or %s", n.AuthMethod, authBasic, authPost, authKey))
}

// Clients lists clients ascending by id; see Store.
func (s *Setup) Clients(ctx context.Context, p *project.Project, after string, limit int) ([]Client, error) {
	return s.store.Clients(ctx, p.ID, after, limit)
}

// Client finds a client by its id or its metadata document's URL.
func (s *Setup) Client(ctx context.Context, p *project.Project, id string) (Client, error) {
	if strings.HasPrefix(id, "https://") {
		return s.store.ClientByURL(ctx, p.ID, id)
	}
	return s.store.Client(ctx, p.ID, id)
}

// DeleteClient removes a client; its tokens end with it.
func (s *Setup) DeleteClient(ctx context.Context, p *project.Project, id string) error {
	return s.store.DeleteClient(ctx, p.ID, id, s.event(p, audit.ClientDeleted, id))
}

// RotateSecret gives a confidential client a new secret, returned once. The
// old one stops at once.
func (s *Setup) RotateSecret(ctx context.Context, p *project.Project, id string) (secret.Secret, error) {
	c, err := s.store.Client(ctx, p.ID, id)
	if err != nil {
		return secret.Secret{}, err
	}
	if c.Type.Public() {
		return secret.Secret{}, project.Problem("this client is public: it has no secret to rotate")
	}
	if c.Metadata.TokenEndpointAuthMethod == authKey {
		return secret.Secret{}, project.Problem("this client authenticates with keys of its own: it has no secret to rotate")
	}
	k := secret.New(secret.ClientSecret, s.now())
	return k, s.store.SetClientSecret(ctx, p.ID, id, k.ID, k.Hash[:], s.event(p, audit.ClientRotated, id))
}

func (s *Setup) event(p *project.Project, kind audit.Kind, object string) audit.Event {
	e := s.by.Event(p.ID, s.now(), kind, object)
	e.ClientID = object // every change here is one of a client
	return e
}

package oauth

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

// introspectLimit bounds the body. It is wider than elsewhere so that a token
// of any silly length is answered as what it is: not active.
const introspectLimit = 128 << 10

// inspector is who asks about a token (decision 15): one of the three.
type inspector struct {
	resource *project.Resource // sees access tokens whose audience names it, by its URI or an alias
	project  bool              // sees every token of the project
	client   Client            // sees the tokens it got
}

// introspection is what is said of an active token (RFC 7662 §2.2). The zero
// value stands for every other one, and for one that the caller may not know
// of.
type introspection struct {
	Active    bool     `json:"active"`
	Subject   string   `json:"sub,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	Audience  []string `json:"aud,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	Scope     string   `json:"scope"` // a string always; some SDKs read nothing else
	TokenType string   `json:"token_type,omitempty"`
	ExpiresAt int64    `json:"exp,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	NotBefore int64    `json:"nbf,omitempty"`
	JTI       string   `json:"jti,omitempty"`
	SID       string   `json:"sid,omitempty"`
	GrantID   string   `json:"grant_id,omitempty"`

	OrganizationID   string `json:"organization_id,omitempty"`
	OrganizationSlug string `json:"organization_slug,omitempty"`
	OrganizationName string `json:"organization_name,omitempty"`
	organizationOf
}

// Introspect answers the introspection endpoint (RFC 7662 §2). token_type_hint
// is not needed: the two kinds of token look different.
func (s *Server) Introspect(w http.ResponseWriter, r *http.Request) error {
	ctx, p := s.WithAddress(r), project.FromContext(r.Context())
	form, err := s.parseBody(r, introspectLimit)
	if err != nil {
		return s.refuseBody(ctx, r, p, atIntrospection, err)
	}
	who, err := s.authenticateInspector(ctx, r, p, form)
	if err != nil {
		return err
	}
	token := form.Get("token")
	if token == "" {
		return s.refuseRequest(ctx, p, atIntrospection, cmp.Or(who.client.ID, namedClient(r, form)), "no token", invalidRequest("token is missing."))
	}
	answer, err := s.introspect(ctx, p, who, token)
	if err != nil {
		return err
	}
	if !answer.Active { // and not a word why
		writeJSON(w, http.StatusOK, map[string]bool{"active": false})
		return nil
	}
	writeJSON(w, http.StatusOK, answer)
	return nil
}

// authenticateInspector finds out who asks (RFC 7662 §2.1: nobody may ask
// unknown). The secrets of a project and of a resource server hold 256 random
// bits, so guesses at them are not counted.
func (s *Server) authenticateInspector(ctx context.Context, r *http.Request, p *project.Project, form url.Values) (inspector, error) {
	c, err := readCredentials(r, form)
	if err != nil {
		return inspector{}, s.refuseCredentials(ctx, r, p, form, err)
	}
	if c.id == p.ID {
		if !secretIs(secret.ProjectSecret, c.secret, p.SecretID, p.SecretHash) {
			return inspector{}, s.refuseClient(ctx, p, nil, p.ID, "wrong project secret")
		}
		return inspector{project: true}, nil
	}
	for i := range p.Resources {
		resource := &p.Resources[i]
		if resource.ID != c.id {
			continue
		}
		if !secretIs(secret.ResourceServer, c.secret, resource.SecretID, resource.SecretHash) {
			return inspector{}, s.refuseClient(ctx, p, nil, resource.ID, "wrong resource server secret")
		}
		return inspector{resource: resource}, nil
	}
	client, _, err := s.authenticateClient(ctx, r, p, form, Client{})
	return inspector{client: client}, err
}

// secretIs compares a presented secret with a stored one; without a stored one
// nothing is right.
func secretIs(kind secret.Kind, text, id string, hash []byte) bool {
	given, ok := secret.Parse(kind, text)
	return ok && id != "" && subtle.ConstantTimeCompare([]byte(given.ID), []byte(id)) == 1 && given.Matches(hash)
}

// introspect decides what a caller may know about a token (RFC 7662 §2.2, §4).
func (s *Server) introspect(ctx context.Context, p *project.Project, who inspector, token string) (introspection, error) {
	if given, ok := secret.Parse(secret.RefreshToken, token); ok {
		return s.introspectRefresh(ctx, p, who, given)
	}
	claims, err := s.readAccessToken(ctx, p, token)
	if errors.Is(err, errNotOurToken) {
		return introspection{}, nil
	}
	if err != nil {
		return introspection{}, err
	}
	audience := claims.audiences()
	if who.resource != nil && !slices.ContainsFunc(audience, who.resource.Is) {
		return introspection{}, nil
	}
	live, scopes, alive, err := s.live(ctx, p, claims)
	if err != nil || !alive || !who.sees(live.ClientID) {
		return introspection{}, err
	}
	if who.resource != nil || who.project { // a client that asks about its own token called nobody
		s.sawCall(p, claims.SID, live)
	}
	answer := introspection{
		Active: true, Subject: claims.Subject, Issuer: claims.Issuer, Audience: audience, ClientID: claims.ClientID,
		Scope: strings.Join(scopes, " "), TokenType: "access_token",
		ExpiresAt: claims.ExpiresAt, IssuedAt: claims.IssuedAt, NotBefore: claims.NotBefore,
		JTI: claims.JTI, SID: claims.SID, GrantID: claims.GrantID,
		OrganizationID: claims.OrganizationID, OrganizationSlug: claims.OrganizationSlug, OrganizationName: claims.OrganizationName,
		organizationOf: claims.organizationOf,
	}
	if who.resource != nil {
		answer.TokenType = "Bearer" // RFC 6749 §5.1; the other is what the compatible SDKs read
		answer.ClientID, err = s.publicClientID(ctx, p, *who.resource, claims.ClientID)
	}
	return answer, err
}

// publicClientID is the client_id for a resource server: the name that the
// client itself uses. Tokens of the compatible profile carry the internal one
// (decision 33).
func (s *Server) publicClientID(ctx context.Context, p *project.Project, r project.Resource, claimed string) (string, error) {
	if r.Profile != project.Compatible {
		return claimed, nil
	}
	client, err := s.store.Client(ctx, p.ID, claimed)
	return client.PublicID(), err
}

// sees reports whether the caller may know of the tokens of a client. A resource
// server was checked by audience.
func (who inspector) sees(clientID string) bool {
	return who.resource != nil || who.project || who.client.ID == clientID
}

// introspectRefresh tells a client or the project about a refresh token. A
// resource server never holds one, so it learns nothing.
func (s *Server) introspectRefresh(ctx context.Context, p *project.Project, who inspector, given secret.Secret) (introspection, error) {
	if who.resource != nil {
		return introspection{}, nil
	}
	family, client, err := s.store.Family(ctx, p.ID, given.ID)
	if errors.Is(err, ErrNotFound) {
		return introspection{}, nil
	}
	if err != nil {
		return introspection{}, err
	}
	token := family.Refresh
	if token == nil || !given.Matches(token.Hash) || !who.sees(family.ClientID) || !s.now().Before(token.ExpiresAt) || client.Blocked {
		return introspection{}, nil
	}
	scopes, active, err := s.grantable(ctx, p, family, client)
	if err != nil || !active {
		return introspection{}, err
	}
	return introspection{
		Active: true, Subject: family.Subject, Issuer: p.Issuer, ClientID: client.PublicID(), Scope: strings.Join(scopes, " "),
		ExpiresAt: token.ExpiresAt.Unix(), IssuedAt: token.CreatedAt.Unix(), SID: family.ID, GrantID: family.GrantID,
		OrganizationID: family.Organization,
	}, nil
}

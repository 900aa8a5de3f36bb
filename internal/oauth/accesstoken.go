package oauth

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signing"
)

// The typ headers of access tokens (RFC 9068 §2.1; decision 3).
const (
	typeAccessToken = "at+jwt"
	typeJWT         = "JWT"
)

// accessClaims are what an access token says (RFC 9068 §2.2). token_use tells
// it from every other JWT of ours; sid is its family and grant_id its grant.
type accessClaims struct {
	Issuer    string `json:"iss"`
	Subject   string `json:"sub"`
	Audience  any    `json:"aud"` // string or list, by profile
	ClientID  string `json:"client_id"`
	Scope     string `json:"scope"`
	JTI       string `json:"jti"`
	IssuedAt  int64  `json:"iat"`
	NotBefore int64  `json:"nbf"`
	ExpiresAt int64  `json:"exp"`
	AuthTime  int64  `json:"auth_time,omitempty"`
	SID       string `json:"sid"`
	GrantID   string `json:"grant_id"`
	TokenUse  string `json:"token_use"`

	// Of a member.
	OrganizationID   string `json:"organization_id,omitempty"`
	OrganizationSlug string `json:"organization_slug,omitempty"`
	OrganizationName string `json:"organization_name,omitempty"`
	organizationOf
}

const tokenUseAccess = "access"

// audiences gives the aud claim as a list, whatever its form.
func (c accessClaims) audiences() []string {
	switch aud := c.Audience.(type) {
	case string:
		return []string{aud}
	case []any:
		var list []string
		for _, a := range aud {
			if text, ok := a.(string); ok {
				list = append(list, text)
			}
		}
		return list
	default:
		return nil
	}
}

// mintAccess signs an access token for a family with some of its scopes and
// returns it with its lifetime in seconds.
func (s *Server) mintAccess(ctx context.Context, p *project.Project, f Family, client Client, scopes []string) (string, int, error) {
	ring, err := s.keys.Ring(ctx, p.ID)
	if err != nil {
		return "", 0, err
	}
	resource, registered := p.Resource(f.Resource)
	audience := f.Resource
	if registered { // one spelling, also for what was granted before it was an alias (decision 4)
		audience = resource.URI
	}
	now, life := s.now(), accessTokenLife(p, client, f.Resource)
	claims := accessClaims{
		Issuer: p.Issuer, Subject: f.Subject, Scope: strings.Join(scopes, " "),
		JTI: secret.NewUUID(now), IssuedAt: now.Unix(), NotBefore: now.Unix(),
		ExpiresAt: now.Add(time.Duration(life) * time.Second).Unix(), AuthTime: f.AuthTime.Unix(),
		SID: f.ID, GrantID: f.GrantID, TokenUse: tokenUseAccess, OrganizationID: f.Organization,
	}
	if f.Organization != "" {
		told, _, err := s.subjects.Claims(ctx, p.ID, f.Subject, f.Organization, nil)
		if err != nil {
			return "", 0, err
		}
		claims.OrganizationSlug, _ = told["organization_slug"].(string)
		claims.OrganizationName, _ = told["organization_name"].(string)
	}
	if registered && f.Resource != "" && resource.Profile == project.RFC9068 {
		claims.Audience, claims.ClientID = audience, client.PublicID()
		token, err := ring.Sign(signing.ES256, typeAccessToken, claims)
		return token, life, err
	}
	if f.Organization != "" {
		claims.Organization = &compatibleOrganization{f.Organization, claims.OrganizationSlug}
	}
	claims.Audience, claims.ClientID = slices.DeleteFunc([]string{p.ID, audience}, func(a string) bool { return a == "" }), client.ID
	token, err := ring.Sign(signing.RS256, typeJWT, claims)
	return token, life, err
}

// accessTokenLife is how many seconds an access token of a client for a
// resource lives (decision 5).
func accessTokenLife(p *project.Project, client Client, resource string) int {
	r, registered := p.Resource(resource)
	switch {
	case registered && resource != "" && r.AccessToken > 0:
		return r.AccessToken
	case client.Refreshes():
		return p.Settings.Lifetimes.AccessToken
	default:
		return p.Settings.Lifetimes.LoneAccessToken
	}
}

// mintID signs an id_token (OpenID Connect Core §2): RS256 unless the client
// registered ES256.
func (s *Server) mintID(ctx context.Context, p *project.Project, f Family, client Client, scopes []string, accessToken string) (string, error) {
	told, _, err := s.subjects.Claims(ctx, p.ID, f.Subject, f.Organization, scopes)
	if err != nil {
		return "", err
	}
	claims := map[string]any{}
	for name, value := range told {
		claims[name] = value
	}
	now := s.now()
	half := sha256.Sum256([]byte(accessToken))
	claims["iss"], claims["sub"], claims["aud"] = p.Issuer, f.Subject, client.PublicID()
	claims["iat"], claims["exp"], claims["auth_time"] = now.Unix(), now.Add(idTokenLife).Unix(), f.AuthTime.Unix()
	claims["at_hash"] = base64.RawURLEncoding.EncodeToString(half[:16])
	claims["sid"], claims["token_use"] = f.SessionID, "id"
	if f.Nonce != "" {
		claims["nonce"] = f.Nonce
	}
	alg := signing.RS256
	if client.Metadata.IDTokenSignedResponseAlg == string(signing.ES256) {
		alg = signing.ES256
	}
	ring, err := s.keys.Ring(ctx, p.ID)
	if err != nil {
		return "", err
	}
	return ring.Sign(alg, typeJWT, claims)
}

const idTokenLife = 5 * time.Minute

// nodesApart is how many seconds the clock of the node that issued a token may
// be ahead of ours; a node further from the database's clock is not ready.
const nodesApart = 10

// errNotOurToken says that a text is not an access token of this project that
// is in time.
var errNotOurToken = errors.New("oauth: not a valid access token of this project")

// readAccessToken checks signature, kind, issuer and time of an access token.
// Whether it was revoked is for live. Of a token of ours that is not in time it
// returns the claims beside errNotOurToken.
func (s *Server) readAccessToken(ctx context.Context, p *project.Project, compact string) (accessClaims, error) {
	ring, err := s.keys.Ring(ctx, p.ID)
	if err != nil {
		return accessClaims{}, err
	}
	token, err := ring.Verify(compact, typeAccessToken, typeJWT)
	if errors.Is(err, signing.ErrInvalid) {
		return accessClaims{}, errNotOurToken
	}
	if err != nil {
		return accessClaims{}, err
	}
	c, err := signing.Decode[accessClaims](token)
	if err != nil {
		return accessClaims{}, errNotOurToken
	}
	if c.Issuer != p.Issuer || c.TokenUse != tokenUseAccess || c.Subject == "" || c.SID == "" || c.JTI == "" {
		return accessClaims{}, errNotOurToken
	}
	if now := s.now().Unix(); now+nodesApart < c.NotBefore || now >= c.ExpiresAt {
		return c, errNotOurToken
	}
	return c, nil
}

// live tells whether a read access token may still be used, and with which
// scopes: what the person may grant today. It is one read, and for a member one
// question about the subject.
func (s *Server) live(ctx context.Context, p *project.Project, c accessClaims) (Live, []string, bool, error) {
	l, err := s.store.Live(ctx, p.ID, c.SID, c.JTI)
	if errors.Is(err, ErrNotFound) {
		return Live{}, nil, false, nil
	}
	scopes := strings.Fields(c.Scope)
	if err != nil || l.Organization == "" {
		return l, scopes, err == nil, err
	}
	scopes, active, err := s.subjects.Narrow(ctx, p, c.Subject, l.Organization, l.ClientID, l.ClientType.FirstParty(), scopes)
	if err != nil || !active {
		return Live{}, nil, false, err
	}
	return l, scopes, true, nil
}

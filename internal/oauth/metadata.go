package oauth

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
)

// Where the protocol's endpoints live below an issuer. The metadata names them
// and server registers them; both read these.
const (
	PathMetadata   = "/.well-known/oauth-authorization-server" // RFC 8414 §3
	PathDiscovery  = "/.well-known/openid-configuration"       // OpenID Connect Discovery §4
	PathJWKS       = "/.well-known/jwks.json"
	PathAuthorize  = "/oauth/authorize"
	PathLogout     = "/oauth/logout"
	PathToken      = "/v1/oauth2/token"
	PathRegister   = "/v1/oauth2/register"
	PathIntrospect = "/v1/oauth2/introspect"
	PathRevoke     = "/v1/oauth2/revoke"
	PathUserinfo   = "/v1/oauth2/userinfo"
	PathPolicy     = "/.well-known/rbac-policy" // our own: what the scopes of a B2B project permit
)

// metadataMaxAge is how long others may keep the metadata: short, because an
// operator's switch should be seen soon, and asking again costs a 304.
const metadataMaxAge = time.Minute

// serverMetadata is the document of RFC 8414 §2 and OpenID Connect Discovery
// §3 in one. Members whose default would be wrong for us are always there
// (MCP-AS-4).
type serverMetadata struct {
	Issuer                       string   `json:"issuer"`
	AuthorizationEndpoint        string   `json:"authorization_endpoint"`
	TokenEndpoint                string   `json:"token_endpoint"`
	RegistrationEndpoint         string   `json:"registration_endpoint,omitempty"`
	JWKSURI                      string   `json:"jwks_uri"`
	UserinfoEndpoint             string   `json:"userinfo_endpoint"`
	EndSessionEndpoint           string   `json:"end_session_endpoint"`
	RevocationEndpoint           string   `json:"revocation_endpoint"`
	RevocationAuthMethods        []string `json:"revocation_endpoint_auth_methods_supported"`
	RevocationAuthAlgs           []string `json:"revocation_endpoint_auth_signing_alg_values_supported"`
	IntrospectionEndpoint        string   `json:"introspection_endpoint"`
	IntrospectionAuthMethods     []string `json:"introspection_endpoint_auth_methods_supported"`
	IntrospectionAuthAlgs        []string `json:"introspection_endpoint_auth_signing_alg_values_supported"`
	ScopesSupported              []string `json:"scopes_supported"`
	ResponseTypesSupported       []string `json:"response_types_supported"`
	ResponseModesSupported       []string `json:"response_modes_supported"`
	GrantTypesSupported          []string `json:"grant_types_supported"`
	TokenAuthMethods             []string `json:"token_endpoint_auth_methods_supported"`
	TokenAuthAlgs                []string `json:"token_endpoint_auth_signing_alg_values_supported"`
	CodeChallengeMethods         []string `json:"code_challenge_methods_supported"`
	SubjectTypesSupported        []string `json:"subject_types_supported"`
	IDTokenSigningAlgs           []string `json:"id_token_signing_alg_values_supported"`
	ClaimsSupported              []string `json:"claims_supported"`
	UILocalesSupported           []string `json:"ui_locales_supported"`
	ClaimsParameterSupported     bool     `json:"claims_parameter_supported"`
	RequestParameterSupported    bool     `json:"request_parameter_supported"`
	RequestURIParameterSupported bool     `json:"request_uri_parameter_supported"`
	IssParameterSupported        bool     `json:"authorization_response_iss_parameter_supported"`
	ClientIDDocumentSupported    bool     `json:"client_id_metadata_document_supported"`
	ProtectedResources           []string `json:"protected_resources,omitempty"`
	PolicyURI                    string   `json:"op_policy_uri,omitempty"`
	RBACPolicyEndpoint           string   `json:"rbac_policy_endpoint,omitempty"`
}

// describeServer says what a project's server can do. Everything comes from
// the project: what a request claims to be addressed to has no part in it
// (RFC 8414 §3.3, MCP-AS-3).
func describeServer(p *project.Project) serverMetadata {
	clientAuth, clientAlgs := clientAuthMethods(), signing.ClientAlgorithms()
	m := serverMetadata{
		Issuer:                p.Issuer,
		AuthorizationEndpoint: p.Issuer + PathAuthorize,
		TokenEndpoint:         p.Issuer + PathToken,
		JWKSURI:               p.Issuer + PathJWKS,
		UserinfoEndpoint:      p.Issuer + PathUserinfo,
		EndSessionEndpoint:    p.Issuer + PathLogout,
		RevocationEndpoint:    p.Issuer + PathRevoke, RevocationAuthMethods: clientAuth, RevocationAuthAlgs: clientAlgs,
		IntrospectionEndpoint: p.Issuer + PathIntrospect, IntrospectionAuthMethods: clientAuth, IntrospectionAuthAlgs: clientAlgs,
		// offline_access is not listed: a client that sees it adds prompt=consent
		// to every request (decision 6).
		ScopesSupported:        []string{"openid", "profile", "email"},
		ResponseTypesSupported: []string{"code"},
		ResponseModesSupported: []string{"query"},
		GrantTypesSupported:    grantTypes(),
		TokenAuthMethods:       clientAuth,
		TokenAuthAlgs:          clientAlgs,
		// Clients refuse a server without it, in the OpenID document too
		// (MCP-AS-5).
		CodeChallengeMethods:  []string{"S256"},
		SubjectTypesSupported: []string{"public"},
		IDTokenSigningAlgs:    idTokenAlgorithms(),
		ClaimsSupported:       []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "name", "email", "email_verified"},
		UILocalesSupported:    []string{"en"},
		// RFC 9207 §3: said iff iss is sent, which it always is.
		IssParameterSupported:     true,
		ClientIDDocumentSupported: p.Settings.MetadataDocuments,
		PolicyURI:                 p.Settings.PrivacyURL,
	}
	if p.Settings.AuthorizationURL != "" {
		m.AuthorizationEndpoint = p.Settings.AuthorizationURL // decision 14
	}
	if p.Settings.DynamicRegistration {
		m.RegistrationEndpoint = p.Issuer + PathRegister
	}
	if p.Vertical == project.B2B {
		m.RBACPolicyEndpoint = p.Issuer + PathPolicy
	}
	for _, scope := range p.Scopes {
		if !contains(m.ScopesSupported, scope.Name) {
			m.ScopesSupported = append(m.ScopesSupported, scope.Name)
		}
	}
	for _, r := range p.Resources { // RFC 9728 §4
		m.ProtectedResources = append(m.ProtectedResources, r.URIs()...)
	}
	return m
}

// preparedMetadata is a project's metadata as bytes. A project is an immutable
// value, so the bytes hold for as long as the value is the same (decision 25).
type preparedMetadata struct {
	of   *project.Project
	body []byte
	etag string
}

// Metadata answers at PathMetadata and PathDiscovery with the same document.
func (s *Server) Metadata(w http.ResponseWriter, r *http.Request) error {
	p := project.FromContext(r.Context())
	s.sawDiscovery(p, s.address(r))
	kept, ok := s.metadata.Load(p.ID)
	prepared, _ := kept.(preparedMetadata)
	if !ok || prepared.of != p {
		body, err := json.Marshal(describeServer(p))
		if err != nil {
			return fmt.Errorf("oauth: metadata: %w", err)
		}
		sum := sha256.Sum256(body)
		prepared = preparedMetadata{of: p, body: body, etag: `"` + hex.EncodeToString(sum[:16]) + `"`}
		s.metadata.Store(p.ID, prepared)
	}
	writePrepared(w, r, prepared.body, prepared.etag, metadataMaxAge)
	return nil
}

// writePrepared answers with public JSON that others may keep for maxAge, or
// with 304 when they have it (RFC 9110 §13.1.2).
func writePrepared(w http.ResponseWriter, r *http.Request, body []byte, etag string, maxAge time.Duration) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(maxAge.Seconds())))
	h.Set("ETag", etag)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

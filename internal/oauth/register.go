package oauth

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/wire"
)

// Bounds of a registration.
const (
	registrationLimit = 16 << 10 // bytes of the body
	maxRedirectURIs   = 20
)

// registrationLimits are the counters of a registration (RFC 7591 §5, decision
// 9).
func registrationLimits(address string) []Counter {
	return []Counter{
		{Kind: "register_address", Key: network(address), Limit: 60, Window: time.Hour},
		{Kind: "register_project", Limit: 500, Window: 24 * time.Hour},
	}
}

// network is what limits count an address under: a whole IPv6 network of 64
// bits, for one customer has that many addresses.
func network(address string) string {
	if a, err := netip.ParseAddr(address); err == nil && a.Is6() && !a.Is4In6() {
		if prefix, err := a.WithZone("").Prefix(64); err == nil {
			return prefix.String()
		}
	}
	return address
}

// declared is a client's description of itself as a stranger wrote it, in a
// registration (RFC 7591 §2) or in a document that it publishes. Members that
// have no field here are ignored: nothing is kept because it was sent.
type declared struct {
	Metadata
	SoftwareStatement   string `json:"software_statement"`
	SectorIdentifierURI string `json:"sector_identifier_uri"`
	// keysOptional is of a document whose client can do with a key and without.
	keysOptional bool
}

// registered is the answer to a registration (RFC 7591 §3.2.1): what was kept,
// whatever was asked.
type registered struct {
	ClientID              string `json:"client_id"`
	ClientIDIssuedAt      int64  `json:"client_id_issued_at"`
	ClientSecret          string `json:"client_secret,omitempty"`
	ClientSecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"` // 0: never; there iff a secret is
	Metadata
}

// Register answers the client registration endpoint (RFC 7591 §3). It gives no
// registration_client_uri: a client that others may share by sending the same
// metadata must not be changeable by one of them (decision 9).
func (s *Server) Register(w http.ResponseWriter, r *http.Request) error {
	ctx, p := s.WithAddress(r), project.FromContext(r.Context())
	answer, err := s.registerFrom(ctx, p, r)
	var refusal *Error
	if errors.As(err, &refusal) {
		e := s.event(ctx, p, audit.RegisterRefused)
		e.Reason = refusal.Code
		if err := s.recordRefusal(ctx, e); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, answer)
	return nil
}

func (s *Server) registerFrom(ctx context.Context, p *project.Project, r *http.Request) (any, error) {
	if !p.Settings.DynamicRegistration {
		return nil, refuse("registration_disabled", "Dynamic client registration is off here. Use a client_id from the operator, who can also turn it on: postern project set dynamic-registration on")
	}
	metadata, err := parseRegistration(r, p)
	if err != nil {
		return nil, err
	}
	client, key, err := s.register(ctx, p, metadata, registrationLimits(s.address(r)))
	if err != nil {
		return nil, err
	}
	s.sawRegistration(p, client.ID, s.address(r))
	answer := registered{ClientID: client.ID, ClientIDIssuedAt: client.CreatedAt.Unix(), Metadata: client.Metadata}
	if key != "" {
		answer.ClientSecret, answer.ClientSecretExpiresAt = key, new(int64)
	}
	return answer, nil
}

func parseRegistration(r *http.Request, p *project.Project) (Metadata, error) {
	var d declared
	var bad *wire.Error
	err := wire.Body(r, registrationLimit, &d)
	if errors.As(err, &bad) && bad.Status == http.StatusBadRequest {
		return Metadata{}, invalidClientMetadata("%s", bad.Message) // RFC 7591 §3.2.2
	}
	if err != nil {
		return Metadata{}, err
	}
	if d.TokenEndpointAuthMethod == "" {
		d.TokenEndpointAuthMethod = authBasic // RFC 7591 §2
	}
	return d.accept(p)
}

// register keeps a self-registered client and returns it with its secret, ""
// for a public one and for one with a key of its own. Identical public metadata is one client (decision 9).
func (s *Server) register(ctx context.Context, p *project.Project, m Metadata, limits []Counter) (Client, string, error) {
	now := s.now()
	client := Client{
		ID: s.newID(p, "connected-app"), ProjectID: p.ID, Type: ThirdPartyPublic, Creation: Dynamic,
		Metadata: m, MetadataHash: m.Hash(), CreatedAt: now, LastRegisteredAt: now,
	}
	e := s.event(ctx, p, audit.ClientRegistered)
	e.Actor, e.ClientID, e.Object = client.ID, client.ID, client.ID
	var key secret.Secret
	var err error
	switch m.TokenEndpointAuthMethod {
	case authNone:
		client, err = s.store.MergeClient(ctx, client, limits, e)
	case authKey:
		client.Type = ThirdParty
		err = s.store.CreateClient(ctx, client, limits, e)
	default:
		key = secret.New(secret.ClientSecret, now)
		client.Type, client.SecretID, client.SecretHash, client.SecretLast4 = ThirdParty, key.ID, key.Hash[:], key.Text[len(key.Text)-4:]
		err = s.store.CreateClient(ctx, client, limits, e)
	}
	if errors.Is(err, ErrLimited) {
		return Client{}, "", refuse("too_many_requests", "Too many clients were registered from this address or for this project. Try again later.")
	}
	return client, key.Text, err
}

// grantTypes are those that a client may use here.
func grantTypes() []string { return []string{"authorization_code", "refresh_token"} }

// idTokenAlgorithms are those that a client may choose for its id_token; the
// first is the default (OpenID Connect Registration §2).
func idTokenAlgorithms() []string { return []string{string(signing.RS256), string(signing.ES256)} }

// accept turns what a client declares into what we keep, or refuses it. The
// caller has chosen TokenEndpointAuthMethod where it was not declared.
func (d declared) accept(p *project.Project) (Metadata, error) {
	m := d.Metadata
	if err := checkRedirectURIs(p, m.RedirectURIs); err != nil {
		return Metadata{}, err
	}
	for _, uri := range m.PostLogoutRedirectURIs {
		if err := checkRedirectURI(p, uri); err != nil || len(m.PostLogoutRedirectURIs) > maxRedirectURIs {
			return Metadata{}, invalidClientMetadata("post_logout_redirect_uris must be at most %d addresses that could be redirect URIs.", maxRedirectURIs)
		}
	}
	if err := d.checkLinks(); err != nil {
		return Metadata{}, err
	}
	if err := m.keepKeys(p, d.keysOptional); err != nil {
		return Metadata{}, err
	}
	switch {
	case !contains(clientAuthMethods(), m.TokenEndpointAuthMethod):
		return Metadata{}, invalidClientMetadata("token_endpoint_auth_method must be one of %s.", strings.Join(clientAuthMethods(), ", "))
	case m.ApplicationType != "" && m.ApplicationType != "native" && m.ApplicationType != "web":
		return Metadata{}, invalidClientMetadata("application_type must be native or web.")
	case m.IDTokenSignedResponseAlg != "" && !contains(idTokenAlgorithms(), m.IDTokenSignedResponseAlg):
		return Metadata{}, invalidClientMetadata("id_token_signed_response_alg must be RS256 or ES256.")
	case d.SectorIdentifierURI != "": // never fetched, so it may not be believed
		return Metadata{}, invalidClientMetadata("sector_identifier_uri is not supported; leave it out.")
	case d.SoftwareStatement != "": // RFC 7591 §3.2.2
		return Metadata{}, refuse("unapproved_software_statement", "Nobody's software statements are trusted here; leave it out.")
	}
	scopes, err := parseScope(m.Scope)
	if err != nil {
		return Metadata{}, invalidClientMetadata("scope must be scope names with single spaces between them (RFC 6749 section 3.3).")
	}
	m.Scope = strings.Join(scopes, " ")
	if m.GrantTypes, m.ResponseTypes, err = flows(m.GrantTypes, m.ResponseTypes); err != nil {
		return Metadata{}, err
	}
	return m, nil
}

func checkRedirectURIs(p *project.Project, uris []string) error {
	if len(uris) == 0 || len(uris) > maxRedirectURIs {
		return invalidRedirectURI("redirect_uris must hold 1 to %d addresses.", maxRedirectURIs)
	}
	for _, uri := range uris {
		if err := checkRedirectURI(p, uri); err != nil {
			return err
		}
	}
	return nil
}

// flows checks that grant and response types fit together and fills in their
// defaults (RFC 7591 §2, §2.1). A grant type that we do not have is dropped,
// as the server may, and the answer says so; those that OAuth 2.1 took away
// are refused, for a client that asks for one would not work.
func flows(grants, responses []string) ([]string, []string, error) {
	if len(grants) == 0 {
		grants = []string{"authorization_code"}
	}
	if len(responses) == 0 {
		responses = []string{"code"}
	}
	if contains(grants, "password") || contains(grants, "implicit") {
		return nil, nil, invalidClientMetadata("grant_types password and implicit do not exist any more; use authorization_code.")
	}
	if slices.ContainsFunc(responses, func(t string) bool { return t != "code" }) || !contains(grants, "authorization_code") {
		return nil, nil, invalidClientMetadata("response_types must be [\"code\"], with authorization_code among the grant_types.")
	}
	kept := slices.DeleteFunc(grantTypes(), func(g string) bool { return !contains(grants, g) })
	return kept, []string{"code"}, nil
}

// checkLinks refuses links to places that only this server's network has, and
// links that a browser would run. A client that lives on the person's computer
// may link to a page there. Nothing is fetched.
func (d declared) checkLinks() error {
	local := !slices.ContainsFunc(d.RedirectURIs, func(uri string) bool { return !DestinationOf(uri).Loopback })
	for _, link := range [][2]string{
		{"client_uri", d.ClientURI}, {"logo_uri", d.LogoURI}, {"policy_uri", d.PolicyURI}, {"tos_uri", d.TosURI}, {"jwks_uri", d.JWKSURI},
	} {
		if err := checkLink(link[0], link[1], local); err != nil {
			return err
		}
	}
	return nil
}

// checkLink refuses one such link; local ones may lead to the person's computer.
func checkLink(name, uri string, local bool) error {
	if uri == "" {
		return nil
	}
	u, err := url.Parse(uri)
	switch {
	case err != nil, len(uri) > maxURI, u.User != nil, u.Opaque != "":
	case u.Scheme == "https" && publicName(u.Hostname()):
		return nil
	case local && (u.Scheme == "https" || u.Scheme == "http") && loopbackHost(u.Hostname()):
		return nil
	}
	return invalidClientMetadata("%s must be an https address with a public host name.", name)
}

// publicName reports whether host could be a name in the public DNS: no
// address in any notation, no single label, no name of a local network.
func publicName(host string) bool {
	i := strings.LastIndexByte(host, '.')
	if i <= 0 || strings.Contains(host, ":") {
		return false
	}
	switch top := strings.ToLower(host[i+1:]); top {
	case "", "localhost", "local", "internal":
		return false
	default:
		return top[0] >= 'a' && top[0] <= 'z'
	}
}

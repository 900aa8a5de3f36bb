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
	ClientSecretExpiresAt *int64 `json:"client_secret_expires_at,omitempty"` // 0: never; there iff it has a secret
	Token                 string `json:"registration_access_token,omitempty"`
	URI                   string `json:"registration_client_uri,omitempty"`
	Metadata
}

// answerRegistered tells a client what is kept of it (RFC 7591 §3.2.1, RFC 7592
// §3), with the secret if it is new, and the registration access token if it has
// one.
func answerRegistered(p *project.Project, c Client, key, token string) registered {
	answer := registered{ClientID: c.ID, ClientIDIssuedAt: c.CreatedAt.Unix(), ClientSecret: key, Metadata: c.Metadata}
	if c.SecretID != "" {
		answer.ClientSecretExpiresAt = new(int64)
	}
	if c.ChangesItself() {
		answer.Token, answer.URI = token, p.Issuer+PathRegister+"/"+c.ID
	}
	return answer
}

// Register answers the client registration endpoint (RFC 7591 §3). It gives no
// registration_client_uri to a public client: one that others may share by sending
// the same metadata must not be changeable by one of them (decision 9).
func (s *Server) Register(w http.ResponseWriter, r *http.Request) error {
	ctx, p := s.WithAddress(r), project.FromContext(r.Context())
	answer, err := s.registerFrom(ctx, p, r)
	if err != nil {
		return s.keepRegisterRefusal(ctx, p, "", err)
	}
	writeJSON(w, http.StatusCreated, answer)
	return nil
}

// keepRegisterRefusal records that a registration was refused, or a change of the
// client's that has it, and returns err.
func (s *Server) keepRegisterRefusal(ctx context.Context, p *project.Project, clientID string, err error) error {
	var refusal *Error
	if errors.As(err, &refusal) {
		e := s.event(ctx, p, audit.RegisterRefused)
		e.Actor, e.ClientID, e.Object, e.Reason = clientID, clientID, clientID, refusal.Code
		if err := s.recordRefusal(ctx, e); err != nil {
			return err
		}
	}
	return err
}

func (s *Server) registerFrom(ctx context.Context, p *project.Project, r *http.Request) (any, error) {
	if !p.Settings.DynamicRegistration {
		return nil, refuse("registration_disabled", "Dynamic client registration is off here. Use a client_id from the operator, who can also turn it on: postern project set dynamic-registration on")
	}
	var sent declared
	if err := readRegistration(r, &sent); err != nil {
		return nil, err
	}
	metadata, err := sent.accept(p)
	if err != nil {
		return nil, err
	}
	client, key, token, err := s.register(ctx, p, metadata, registrationLimits(s.address(r)))
	if err != nil {
		return nil, err
	}
	s.sawRegistration(p, client.ID, s.address(r))
	return answerRegistered(p, client, key, token), nil
}

// readRegistration reads what a client says of itself into a *declared, or what
// embeds one.
func readRegistration(r *http.Request, dst interface{ fillIn() }) error {
	var bad *wire.Error
	err := wire.Body(r, registrationLimit, dst)
	if errors.As(err, &bad) && bad.Status == http.StatusBadRequest {
		return invalidClientMetadata("%s", bad.Message) // RFC 7591 §3.2.2
	}
	if err == nil {
		dst.fillIn()
	}
	return err
}

// fillIn chooses the method that a registration without one has (RFC 7591 §2).
func (d *declared) fillIn() {
	if d.TokenEndpointAuthMethod == "" {
		d.TokenEndpointAuthMethod = authBasic
	}
}

// register keeps a self-registered client and returns it with its secret, ""
// for a public one and for one with a key of its own, and its registration access
// token, "" for a public one. Identical public metadata is one client (decision 9).
func (s *Server) register(ctx context.Context, p *project.Project, m Metadata, limits []Counter) (client Client, key, token string, err error) {
	now := s.now()
	client = Client{
		ID: s.newID(p, "connected-app"), ProjectID: p.ID, Type: ThirdPartyPublic, Creation: Dynamic,
		Metadata: m, MetadataHash: m.Hash(), CreatedAt: now, LastRegisteredAt: now,
	}
	e := s.event(ctx, p, audit.ClientRegistered)
	e.Actor, e.ClientID, e.Object = client.ID, client.ID, client.ID
	if m.TokenEndpointAuthMethod == authNone {
		client.ID, client.CreatedAt, err = s.store.MergeClient(ctx, client, limits, e)
	} else {
		client.Type = ThirdParty
		if m.TokenEndpointAuthMethod != authKey {
			key = client.giveSecret(now)
		}
		token = client.giveToken(now)
		err = s.store.CreateClient(ctx, client, limits, e)
	}
	if errors.Is(err, ErrLimited) {
		err = refuse("too_many_requests", "Too many clients were registered from this address or for this project. Try again later.")
	}
	return client, key, token, err
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

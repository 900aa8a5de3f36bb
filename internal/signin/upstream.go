package signin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

// CallbackPath is where providers send browsers back to, followed by the id of
// the organization: each provider has an address of its own there, so that the
// answer of one is never taken for another's (RFC 9700 §4.4.2.2).
const CallbackPath = "/sso/callback/"

// Bounds of what goes to and comes from a provider.
const (
	upstreamTimeout = 5 * time.Second // for all questions of one sign-in
	upstreamSkew    = time.Minute     // between the provider's clock and ours
	upstreamAge     = 10 * time.Minute
	maxUpstreamText = 2048 // bytes of an issuer, client id or secret
	maxSubject      = 255  // OpenID Connect Core §2
)

// UpstreamError is why a provider was not usable, or its answer not taken.
// Sentence is for an administrator of the organization; it says nothing that the
// provider chose.
type UpstreamError struct {
	Sentence string
	Down     bool // it could not be asked
	cause    error
}

func (e *UpstreamError) Error() string {
	if e.cause == nil {
		return "signin: upstream: " + e.Sentence
	}
	return "signin: upstream: " + e.Sentence + ": " + e.cause.Error()
}

func (e *UpstreamError) Unwrap() error { return e.cause }

func unusable(format string, args ...any) error {
	return &UpstreamError{Sentence: fmt.Sprintf(format, args...)}
}

// Attempt is a browser that was sent to a provider. Its nonce and PKCE verifier
// are made of its id under a key outside the database.
type Attempt struct {
	ID             string // id part of the state
	ProjectID      string
	FlowID         string
	Hash           []byte // SHA-256 of the random part of the state
	OrganizationID string
	ConnectionID   string
	Test           bool // an administrator looks at what comes; nobody is signed in
	Again          bool // the person has to prove anew who they are
	CreatedAt      time.Time
	ExpiresAt      time.Time
}

// Assertion is what a provider said about a person, checked.
type Assertion struct {
	Subject string // the provider's own id of the person
	Email   string // verified by the provider
	Name    string // "" without one
}

// UpstreamStore is what Upstream needs of a database.
type UpstreamStore interface {
	// KeepAttempt keeps an attempt in the place of the one that its flow had.
	KeepAttempt(ctx context.Context, a Attempt) error
	// Attempt returns an attempt that was not used and has not run out, or
	// ErrNotFound.
	Attempt(ctx context.Context, projectID, id string, now time.Time) (Attempt, error)
	// TakeAttempt uses an attempt up: of any number of callers one succeeds, the
	// others get ErrNotFound.
	TakeAttempt(ctx context.Context, projectID, id string, now time.Time) error
}

// Upstream signs members in through their organization's own OpenID provider,
// by the authorization code flow with PKCE (OpenID Connect Core §3.1, RFC 9700).
// It is safe for concurrent use.
type Upstream struct{ c UpstreamConfig }

// UpstreamConfig is what NewUpstream needs; every field is required.
type UpstreamConfig struct {
	Store UpstreamStore
	// Fetch gives the client for a project's organizations' providers: one that
	// reaches public addresses alone and lets an Authorization header through.
	Fetch func(p *project.Project) *http.Client
	// Seal and Open keep the client secret of a connection, by the connection's id.
	Seal func(plain []byte, connectionID string) []byte
	Open func(sealed []byte, connectionID string) ([]byte, error)
	// MAC makes what only we can know of an attempt, under a key outside the
	// database.
	MAC func(parts ...string) [sha256.Size]byte
	// Verify returns the claims of a token that a key of the set signed, with an
	// algorithm that proves it.
	Verify func(token string, keySet []byte) (claims []byte, err error)
	Now    func() time.Time
}

// NewUpstream returns Upstream.
func NewUpstream(c UpstreamConfig) (*Upstream, error) {
	if c.Store == nil || c.Fetch == nil || c.Seal == nil || c.Open == nil || c.MAC == nil || c.Verify == nil || c.Now == nil {
		return nil, errors.New("signin: every field of UpstreamConfig is required")
	}
	return &Upstream{c}, nil
}

// Callback is the redirect URI that an organization's provider has to know.
func Callback(p *project.Project, organizationID string) string {
	return p.Issuer + CallbackPath + organizationID
}

// Connect asks an issuer for its metadata and makes a connection to it, which is
// not kept yet. The error may be *UpstreamError.
func (u *Upstream) Connect(ctx context.Context, p *project.Project, organizationID, issuer, clientID, clientSecret string) (identity.Connection, error) {
	for name, text := range map[string]string{"client id": clientID, "client secret": clientSecret} {
		if text == "" || len(text) > maxUpstreamText || strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
			return identity.Connection{}, unusable("Enter the %s as the provider shows it.", name)
		}
	}
	provider, err := u.Discover(ctx, p, issuer)
	if err != nil {
		return identity.Connection{}, err
	}
	c := identity.Connection{
		ID: secret.NewID(u.c.Now(), "sso-connection", string(p.Environment)), ProjectID: p.ID, OrganizationID: organizationID,
		Issuer: issuer, ClientID: clientID, Provider: provider,
	}
	c.SealedSecret = u.c.Seal([]byte(clientSecret), c.ID)
	return c, nil
}

// Discover reads the metadata of an issuer (OpenID Connect Discovery §4). The
// error may be *UpstreamError.
func (u *Upstream) Discover(ctx context.Context, p *project.Project, issuer string) (identity.Provider, error) {
	at, ok := secureURL(issuer)
	if !ok || at.RawQuery != "" || at.ForceQuery {
		return identity.Provider{}, unusable("Enter the issuer as the provider shows it: an https address without '?' and '#'.")
	}
	if host := project.Host("https", at.Host); host == project.IssuerHost(p.Issuer) || slices.Contains(p.Hosts, host) {
		return identity.Provider{}, unusable("The issuer is this project itself.")
	}
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	body, err := u.get(ctx, p, strings.TrimSuffix(issuer, "/")+"/.well-known/openid-configuration", "")
	if err != nil {
		return identity.Provider{}, &UpstreamError{Sentence: "The issuer's metadata could not be read. Check the address, and that it is reachable from the internet.", Down: true, cause: err}
	}
	var said struct {
		identity.Provider
		Issuer        string   `json:"issuer"`
		ResponseTypes []string `json:"response_types_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := json.Unmarshal(body, &said); err != nil {
		return identity.Provider{}, &UpstreamError{Sentence: "The issuer's metadata could not be read. Check the address, and that it is reachable from the internet.", Down: true, cause: err}
	}
	signs := func(alg string) bool { return slices.Contains([]string{"RS256", "PS256", "ES256"}, alg) }
	switch {
	case said.Issuer != issuer: // OpenID Connect Discovery §4.3
		return identity.Provider{}, unusable("The metadata there is of another issuer. Enter the issuer to the letter, with or without '/' at its end.")
	case !slices.Contains(said.ResponseTypes, "code"):
		return identity.Provider{}, unusable("The provider does not offer the authorization code flow.")
	case !slices.ContainsFunc(said.Algorithms, signs):
		return identity.Provider{}, unusable("The provider signs with none of RS256, PS256 and ES256.")
	case clientAuth(said.Provider) == "":
		return identity.Provider{}, unusable("The provider takes a client secret neither by client_secret_basic nor by client_secret_post.")
	}
	endpoints := []string{said.Authorization, said.Token, said.Keys}
	if said.Userinfo != "" {
		endpoints = append(endpoints, said.Userinfo)
	}
	for _, endpoint := range endpoints {
		if _, ok := secureURL(endpoint); !ok {
			return identity.Provider{}, unusable("The provider's metadata has an endpoint that is not an https address.")
		}
	}
	return said.Provider, nil
}

// secureURL reads an https address without user and fragment.
func secureURL(text string) (*url.URL, bool) {
	at, err := url.Parse(text)
	if err != nil || len(text) > maxUpstreamText || !strings.HasPrefix(text, "https://") || at.Hostname() == "" || at.User != nil ||
		strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' || r == '#' || r == '\\' }) {
		return nil, false
	}
	return at, true
}

// clientAuth is how we authenticate to a provider, "" for in no way that both
// know. Without a word of it, it is client_secret_basic (OpenID Connect
// Discovery §3).
func clientAuth(p identity.Provider) string {
	for _, method := range []string{"client_secret_basic", "client_secret_post"} {
		if slices.Contains(p.ClientAuth, method) || p.ClientAuth == nil {
			return method
		}
	}
	return ""
}

// Send keeps an attempt for a flow and returns the address at the provider to
// go to. hint is an address that the person named, "" for none. a has Test and
// Again; the rest is set here.
func (u *Upstream) Send(ctx context.Context, p *project.Project, f Flow, c identity.Connection, hint string, a Attempt) (string, error) {
	now := u.c.Now()
	state := secret.New(secret.SSOState, now)
	a.ID, a.Hash, a.ProjectID, a.FlowID = state.ID, state.Hash[:], p.ID, f.ID
	a.OrganizationID, a.ConnectionID, a.CreatedAt, a.ExpiresAt = c.OrganizationID, c.ID, now, f.ExpiresAt
	if err := u.c.Store.KeepAttempt(ctx, a); err != nil {
		return "", err
	}
	to, err := url.Parse(c.Provider.Authorization)
	if err != nil {
		return "", fmt.Errorf("signin: authorization endpoint of %s: %w", c.ID, err)
	}
	challenge := sha256.Sum256([]byte(u.derived(a, "verifier")))
	query := to.Query()
	for name, value := range map[string]string{
		"response_type": "code", "client_id": c.ClientID, "redirect_uri": Callback(p, c.OrganizationID),
		"scope": "openid email profile", "state": state.Text, "nonce": u.derived(a, "nonce"),
		"code_challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "code_challenge_method": "S256",
	} {
		query.Set(name, value)
	}
	if hint != "" {
		query.Set("login_hint", hint)
	}
	if a.Again {
		query.Set("prompt", "login")
		query.Set("max_age", "0") // asks for auth_time (OpenID Connect Core §3.1.2.1)
	}
	to.RawQuery = query.Encode()
	return to.String(), nil
}

// derived is a value of an attempt that only we can make.
func (u *Upstream) derived(a Attempt, what string) string {
	sum := u.c.MAC(a.ProjectID, a.ID, what)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Returned finds the attempt that a state belongs to, at the callback of an
// organization. Whoever calls proves next that its flow is this browser's.
// ErrNotFound for any other state.
func (u *Upstream) Returned(ctx context.Context, p *project.Project, organizationID, state string) (Attempt, error) {
	given, ok := secret.Parse(secret.SSOState, state)
	if !ok {
		return Attempt{}, ErrNotFound
	}
	a, err := u.c.Store.Attempt(ctx, p.ID, given.ID, u.c.Now())
	switch {
	case err != nil:
		return Attempt{}, err
	case !given.Matches(a.Hash) || a.OrganizationID != organizationID:
		return Attempt{}, ErrNotFound
	}
	return a, nil
}

// Redeem uses an attempt up and turns the provider's answer into what it says
// about the person. answer has the parameters of the callback, each once. Errors: ErrNotFound when the
// attempt was used, and *UpstreamError.
func (u *Upstream) Redeem(ctx context.Context, p *project.Project, c identity.Connection, a Attempt, answer url.Values) (Assertion, error) {
	if err := u.c.Store.TakeAttempt(ctx, p.ID, a.ID, u.c.Now()); err != nil {
		return Assertion{}, err
	}
	if c.ID != a.ConnectionID || c.OrganizationID != a.OrganizationID || !c.Active && !a.Test {
		return Assertion{}, unusable("The connection was changed in between.")
	}
	// RFC 9207 §2.4.
	if iss := answer.Get("iss"); iss != c.Issuer && (iss != "" || c.Provider.NamesItself) {
		return Assertion{}, unusable("The answer came from another issuer.")
	}
	switch {
	case answer.Has("error"):
		return Assertion{}, unusable("The provider refused the sign-in.")
	case answer.Get("code") == "":
		return Assertion{}, unusable("The provider's answer has no code.")
	}
	ctx, cancel := context.WithTimeout(ctx, upstreamTimeout)
	defer cancel()
	token, access, err := u.exchange(ctx, p, c, a, answer.Get("code"))
	if err != nil {
		return Assertion{}, err
	}
	keys, err := u.get(ctx, p, c.Provider.Keys, "")
	if err != nil {
		return Assertion{}, &UpstreamError{Sentence: "The provider's keys could not be read.", Down: true, cause: err}
	}
	text, err := u.c.Verify(token, keys)
	if err != nil {
		return Assertion{}, &UpstreamError{Sentence: "The signature of the provider's token is not right.", cause: err}
	}
	claims, err := u.check(text, c, a)
	if err != nil {
		return Assertion{}, err
	}
	if claims.Email == "" && c.Provider.Userinfo != "" && access != "" {
		if claims, err = u.userinfo(ctx, p, c, claims.Subject, access); err != nil {
			return Assertion{}, err
		}
	}
	switch {
	case mail.CheckAddress(claims.Email) != nil:
		return Assertion{}, unusable("The provider names no e-mail address. The scope 'email' has to be allowed there.")
	case claims.Verified != true: // and not "true" or 1
		return Assertion{}, unusable("The provider does not say that the e-mail address is verified (email_verified).")
	}
	return Assertion{Subject: claims.Subject, Email: claims.Email, Name: claims.Name}, nil
}

// exchange redeems a code for an id_token and perhaps an access token (OpenID
// Connect Core §3.1.3).
func (u *Upstream) exchange(ctx context.Context, p *project.Project, c identity.Connection, a Attempt, code string) (token, access string, err error) {
	plain, err := u.c.Open(c.SealedSecret, c.ID)
	if err != nil {
		return "", "", err
	}
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {Callback(p, c.OrganizationID)},
		"code_verifier": {u.derived(a, "verifier")},
	}
	if clientAuth(c.Provider) == "client_secret_post" {
		form.Set("client_id", c.ClientID)
		form.Set("client_secret", string(plain))
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.Provider.Token, strings.NewReader(form.Encode()))
	if err != nil {
		return "", "", fmt.Errorf("signin: token endpoint of %s: %w", c.ID, err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	if clientAuth(c.Provider) == "client_secret_basic" { // RFC 6749 §2.3.1
		request.SetBasicAuth(url.QueryEscape(c.ClientID), url.QueryEscape(string(plain)))
	}
	body, status, err := u.do(p, request)
	switch {
	case err != nil:
		return "", "", &UpstreamError{Sentence: "The provider did not answer when the code was redeemed.", Down: true, cause: err}
	case status >= http.StatusInternalServerError:
		return "", "", &UpstreamError{Sentence: "The provider did not answer when the code was redeemed.", Down: true, cause: errors.New(strconv.Itoa(status))}
	case status != http.StatusOK:
		return "", "", &UpstreamError{Sentence: "The provider did not take the code. Check client id, client secret and redirect URI.", cause: errors.New(strconv.Itoa(status))}
	}
	var answer struct {
		IDToken     string `json:"id_token"`
		AccessToken string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.IDToken == "" {
		return "", "", unusable("The provider's answer has no id_token.")
	}
	return answer.IDToken, answer.AccessToken, nil
}

// upstreamClaims are the members of an id_token or a userinfo answer that count.
type upstreamClaims struct {
	Issuer     string   `json:"iss"`
	Subject    string   `json:"sub"`
	Audience   audience `json:"aud"`
	Authorized string   `json:"azp"`
	Expires    float64  `json:"exp"`
	Issued     float64  `json:"iat"`
	AuthTime   float64  `json:"auth_time"`
	Nonce      string   `json:"nonce"`
	Email      string   `json:"email"`
	Verified   any      `json:"email_verified"`
	Name       string   `json:"name"`
}

// audience is one text or a list of them (RFC 7519 §4.1.3).
type audience []string

func (a *audience) UnmarshalJSON(text []byte) error {
	var one string
	if err := json.Unmarshal(text, &one); err == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}

// check applies OpenID Connect Core §3.1.3.7 to the claims of an id_token.
func (u *Upstream) check(text []byte, c identity.Connection, a Attempt) (claims upstreamClaims, err error) {
	if err := json.Unmarshal(text, &claims); err != nil {
		return claims, &UpstreamError{Sentence: "The provider's token cannot be read.", cause: err}
	}
	now := u.c.Now()
	switch {
	case claims.Issuer != c.Issuer:
		return claims, unusable("The provider's token is of another issuer.")
	case !slices.Contains(claims.Audience, c.ClientID),
		claims.Authorized != "" && claims.Authorized != c.ClientID,
		len(claims.Audience) > 1 && claims.Authorized == "":
		return claims, unusable("The provider's token is for another client.")
	case !now.Before(seconds(claims.Expires).Add(upstreamSkew)):
		return claims, unusable("The provider's token has expired.")
	case seconds(claims.Issued).After(now.Add(upstreamSkew)), seconds(claims.Issued).Before(now.Add(-upstreamAge)):
		return claims, unusable("The provider's token was not made just now. Check the provider's clock.")
	case subtle.ConstantTimeCompare([]byte(claims.Nonce), []byte(u.derived(a, "nonce"))) != 1:
		return claims, unusable("The provider's token is of another sign-in.")
	case claims.Subject == "" || len(claims.Subject) > maxSubject || strings.ContainsFunc(claims.Subject, func(r rune) bool { return r < ' ' || r > '~' }):
		return claims, unusable("The provider's token names nobody.")
	case a.Again && seconds(claims.AuthTime).Before(a.CreatedAt.Add(-upstreamSkew)):
		return claims, unusable("The provider did not ask the person to sign in again.")
	}
	return claims, nil
}

// seconds reads a NumericDate (RFC 7519 §2); what is none is long ago.
func seconds(date float64) time.Time {
	if !(date > 0 && date < math.MaxInt32*16) {
		return time.Time{}
	}
	return time.Unix(int64(date), 0)
}

// userinfo asks for what the id_token leaves out (OpenID Connect Core §5.3.2,
// §5.4).
func (u *Upstream) userinfo(ctx context.Context, p *project.Project, c identity.Connection, subject, access string) (claims upstreamClaims, err error) {
	body, err := u.get(ctx, p, c.Provider.Userinfo, access)
	if err != nil {
		return claims, &UpstreamError{Sentence: "The provider's userinfo could not be read.", Down: true, cause: err}
	}
	if json.Unmarshal(body, &claims) != nil || claims.Subject != subject {
		return claims, unusable("The provider's userinfo is about somebody else.")
	}
	return claims, nil
}

// get reads a document of a provider, with a bearer token where one is given.
func (u *Upstream) get(ctx context.Context, p *project.Project, address, bearer string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	if bearer != "" {
		request.Header.Set("Authorization", "Bearer "+bearer)
	}
	body, status, err := u.do(p, request)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("signin: status %d", status)
	}
	return body, err
}

func (u *Upstream) do(p *project.Project, request *http.Request) (body []byte, status int, err error) {
	answer, err := u.c.Fetch(p).Do(request)
	if err != nil {
		return nil, 0, err
	}
	defer answer.Body.Close()
	body, err = io.ReadAll(answer.Body)
	return body, answer.StatusCode, err
}

// Arrive makes the browser of a person whom a provider named, with the secret
// for its cookie. What it proves counts in the connection's organization alone.
func (u *Upstream) Arrive(p *project.Project, c identity.Connection, said Assertion, address, agent string) (identity.Browser, secret.Secret) {
	now := u.c.Now()
	cookie := secret.New(secret.HostedSession, now)
	expires := now.Add(time.Duration(p.Settings.Lifetimes.SessionAbsolute) * time.Second)
	idle := now.Add(time.Duration(p.Settings.Lifetimes.SessionIdle) * time.Second)
	if idle.After(expires) {
		idle = expires
	}
	if len(agent) > 256 {
		agent = strings.ToValidUTF8(agent[:256], "")
	}
	return identity.Browser{
		ID: cookie.ID, ProjectID: p.ID, SecretHash: cookie.Hash[:], Email: said.Email, EmailFolded: identity.Fold(said.Email),
		Factors: []identity.Factor{{Method: identity.MethodSSO, At: now, OrganizationID: c.OrganizationID, ConnectionID: c.ID}},
		Address: address, UserAgent: agent, CreatedAt: now, LastSeenAt: now, IdleExpiresAt: idle, ExpiresAt: expires,
	}, cookie
}

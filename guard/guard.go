package guard

import (
	"context"
	"crypto/cipher"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"
)

// leeway is how far the clocks of issuer and resource server may differ.
const leeway = 30 * time.Second

// Config is all that a [Guard] needs to know. Issuer and Resource are
// required; the zero value of every other field is a safe default.
type Config struct {
	// Issuer is the authorization server's issuer identifier, exactly as its
	// metadata states it: https, or http on a loopback host. Guard trusts this
	// one issuer.
	Issuer string

	// Resource is this server's resource identifier: exactly the URL that
	// clients are told to use for the MCP endpoint, for example
	// "https://notes.example.com/mcp", without a trailing slash when it has no
	// path. It is what a token's audience must contain (RFC 8707 §2) and where
	// the metadata's place comes from (RFC 9728 §3.1).
	Resource string

	// Aliases are other addresses of this same resource, such as an older
	// transport at "https://notes.example.com/sse", all at the origin of
	// Resource. Clients refuse metadata whose resource is not the URL they use,
	// so each has a metadata document and challenges of its own. A token whose
	// audience names any of the addresses is accepted at all of them. Tell the
	// issuer as well, so that clients can ask for a token by any of them; with
	// Postern: postern resource add RESOURCE --alias ALIAS.
	Aliases []string

	// Name and Documentation are shown to people by clients
	// (resource_name and resource_documentation of RFC 9728 §2).
	Name          string
	Documentation string

	// Scopes declares every scope that this server knows. The metadata's
	// scopes_supported, the challenges and the check of Tools and Methods come
	// from it. Without any, a valid token may do everything.
	Scopes []Scope

	// InitialScopes are the scopes that the first challenge asks for. Nil
	// means all of Scopes. Clients ask for exactly what the first challenge
	// names, and a person can only untick what was asked.
	InitialScopes []string

	// Tools says what a call of a tool needs, by the tool's name, and Methods the
	// same for MCP methods such as "resources/read"; the entry of a tool goes
	// before that of "tools/call". A rule names scopes, or permissions that the
	// issuer's policy gives to scopes ([Permission]).
	//
	// An operation that neither names is judged carefully: handshakes, pings,
	// notifications and lists need any one of the declared scopes, everything
	// else needs all of them.
	Tools   map[string]Rule
	Methods map[string]Rule

	// AllowedOrigins are the browser origins (scheme://host[:port]) that may
	// call besides the resource's own; "*" allows every origin. A resource on
	// a loopback host also accepts loopback origins.
	AllowedOrigins []string

	// AcceptPlainJWT also accepts access tokens that do not say that they are
	// access tokens: "typ" is "JWT" or absent, and there is no "token_use".
	// Some authorization servers issue only such tokens. The risk: their
	// id_tokens are told from access tokens only by looks (a client and a
	// scope claim, and none of nonce, at_hash, c_hash and session claims).
	AcceptPlainJWT bool

	// OrganizationClaim names the claim that holds the organization of a
	// member, as a string or as an object with "organization_id". The default
	// is "organization_id".
	OrganizationClaim string

	// Introspection, when set, asks the issuer about every token (RFC 7662)
	// instead of verifying signatures here, so that a revocation takes effect
	// within seconds.
	Introspection *Introspection

	// HTTPClient fetches the issuer's metadata, keys and policy and asks for
	// introspection. The default follows no redirects, uses no proxy and gives
	// up after 5 s.
	HTTPClient *http.Client

	// Now is the clock; the default is time.Now.
	Now func() time.Time

	// MaxBody is the largest request body in bytes that Protect lets through,
	// since it must read a body before it can judge it. The default is 4 MiB.
	MaxBody int64

	// CallsPerMinute is how many tool calls one caller may make in a minute
	// before the answer is 429: 0 means 1200, a negative value no limit.
	CallsPerMinute int

	// StateKey is the secret of 32 bytes with which [Guard.SealState] seals.
	// Instances behind one address must share it; nil makes one at start.
	StateKey []byte

	// Logger hears why a token was refused and why the issuer could not be
	// reached; never a token. Nil logs nothing.
	Logger *slog.Logger
}

// A Scope is one permission that a person can give to a client.
type Scope struct {
	// Name is what stands in tokens and challenges (RFC 6749 §3.3: printable
	// ASCII without space, quote and backslash).
	Name string
	// Description says in a sentence what the scope permits. It is published
	// with the metadata, for a consent page.
	Description string
	// Write marks a scope that changes something.
	Write bool
	// Implies names declared scopes that this one includes: a token with this
	// scope passes wherever they are asked for.
	Implies []string
}

// Introspection holds the credentials with which this resource server asks
// its issuer about tokens (RFC 7662 §2.1).
type Introspection struct {
	// ID and Secret are the resource server's own credentials, sent by HTTP
	// Basic authentication.
	ID     string
	Secret string
	// CacheFor is how long a positive answer is believed: 0 means 5 s,
	// a negative value asks every time. Never longer than the token lives.
	CacheFor time.Duration
}

// Guard protects one resource. It is made by [New] and is safe for use by
// many goroutines.
type Guard struct {
	cfg       Config
	resource  *url.URL
	addresses []address // of the resource; Config.Resource is the first
	policy    *policy
	issuer    *issuer
	keys      *keySet
	granted   *policySource
	verified  *cache[*Principal]
	asked     flights[tokenHash, *Principal] // introspections under way
	streams   *streams
	limit     limiter
	state     cipher.AEAD
}

// New checks the configuration and returns a Guard. It fails, naming every
// problem, when issuer or resource are missing or unusable, or when a rule
// names a scope that Config.Scopes does not declare. It does not reach for
// the issuer: that happens with the first token. So it cannot know the issuer's
// policy: an act in a rule that the policy does not have is logged when the
// policy is first fetched, and refused to everybody.
func New(cfg Config) (*Guard, error) {
	_, issuerErr := checkURL("Issuer", cfg.Issuer)
	policy, policyErr := newPolicy(cfg)
	addresses, resourceErr := newAddresses(cfg, policy)
	state, stateErr := newSealer(cfg.StateKey)
	problems := []error{issuerErr, resourceErr, policyErr, stateErr}
	if in := cfg.Introspection; in != nil && (in.ID == "" || in.Secret == "") {
		problems = append(problems, errors.New("Introspection: ID and Secret are required"))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, fmt.Errorf("guard: %w", err)
	}

	if cfg.OrganizationClaim == "" {
		cfg.OrganizationClaim = "organization_id"
	}
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = newHTTPClient()
	}
	clockPoll := time.Minute
	if cfg.Now == nil {
		cfg.Now = time.Now
	} else {
		clockPoll = 20 * time.Millisecond // a clock that is set by hand rings no timer
	}
	switch {
	case cfg.CallsPerMinute == 0:
		cfg.CallsPerMinute = 1200
	case cfg.CallsPerMinute < 0:
		cfg.CallsPerMinute = 0
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = 4 << 20
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	g := &Guard{
		cfg:       cfg,
		resource:  addresses[0].url,
		addresses: addresses,
		policy:    policy,
		issuer:    &issuer{url: cfg.Issuer, client: cfg.HTTPClient, now: cfg.Now},
		verified:  newCache[*Principal](maxVerified),
		limit:     limiter{now: cfg.Now, perMinute: cfg.CallsPerMinute},
		state:     state,
		streams:   &streams{now: cfg.Now, poll: clockPoll, bound: map[handle]*stream{}, own: map[caller][]handle{}},
	}
	g.keys = &keySet{issuer: g.issuer, now: cfg.Now, log: cfg.Logger}
	direct := *cfg.HTTPClient
	direct.CheckRedirect = stay
	g.granted = &policySource{issuer: g.issuer, client: &direct, rules: policy, now: cfg.Now, log: cfg.Logger}
	return g, nil
}

// newHTTPClient is for short, direct requests to the issuer.
func newHTTPClient() *http.Client {
	return &http.Client{
		Timeout: fetchTimeout,
		Transport: &http.Transport{
			DialContext:            (&net.Dialer{Timeout: 3 * time.Second}).DialContext,
			TLSHandshakeTimeout:    3 * time.Second,
			ForceAttemptHTTP2:      true,
			MaxIdleConnsPerHost:    16,
			MaxConnsPerHost:        16,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: 32 << 10,
		},
		CheckRedirect: stay,
	}
}

// stay makes a client follow no redirects.
func stay(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// checkURL accepts an absolute https URL, or http on a loopback host, that
// has neither user, query nor fragment (RFC 8414 §2, RFC 9728 §1.2).
func checkURL(field, s string) (*url.URL, error) {
	if s == "" {
		return nil, fmt.Errorf("%s is required", field)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || !utf8.ValidString(s): // no document could name it
		return nil, fmt.Errorf("%s: %q is not an absolute URL", field, s)
	case u.User != nil || strings.ContainsAny(s, "?#"):
		return nil, fmt.Errorf("%s: %q must not have a user, a query or a fragment", field, s)
	case strings.ContainsFunc(u.Host, func(c rune) bool { return !inHost(c) }):
		return nil, fmt.Errorf("%s: %q must name its host in letters, digits, dots and hyphens (a name in other letters in its form xn--…)", field, s)
	case !secure(u):
		return nil, fmt.Errorf("%s: %q must begin with https:// (http:// only on a loopback host)", field, s)
	}
	return u, nil
}

// inHost are the characters of a host as requests name it, with its port.
// net/url takes more, a quote among them, which would end the quoted URL of a
// challenge.
func inHost(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune(".-_:[]", c)
}

// secure reports whether a URL is https, or http to this very machine.
func secure(u *url.URL) bool {
	return u.Scheme == "https" || u.Scheme == "http" && loopback(u.Host)
}

// loopback reports whether host, with or without a port, names this machine.
func loopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// Require wraps the handler of a REST route. The caller is the principal that
// [WithPrincipal] put in the request's context, if there is one, otherwise
// that of the bearer token. Without either the answer is 401, with too few
// scopes or in another organization 403, all in JSON and with the same challenge
// as Protect's.
//
// It panics when the rule names an undeclared scope, as http.ServeMux does on
// a broken pattern: both are mistakes in the program, found when it starts.
func (g *Guard) Require(rule Rule, h http.Handler) http.Handler {
	if err := g.policy.check(rule); err != nil {
		panic("guard: Require: " + err.Error())
	}
	need := newNeed(rule)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := current(r.Context())
		if p == nil {
			var err error
			if p, err = g.authenticate(r); err != nil {
				g.refuse(w, r, err)
				return
			}
			r = r.WithContext(WithPrincipal(r.Context(), p))
		}
		if err := g.permit(r.Context(), p, need); err != nil {
			g.refuse(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Verify judges one access token (without the word "Bearer") up to, but not
// including, its scopes. The error is [ErrInvalidToken], or [ErrUnavailable]
// when the issuer could not be asked. The Principal is shared with other
// callers: do not change it.
func (g *Guard) Verify(ctx context.Context, token string) (*Principal, error) {
	p, err := g.verify(ctx, token)
	if errors.Is(err, errMalformed) {
		err = invalid("not a token")
	}
	return p, err
}

// Permits judges an MCP operation by the configured rules for the caller in
// ctx, as Protect does: method is for example "tools/call", name the tool's
// name where there is one. The errors are those of [Check].
func (g *Guard) Permits(ctx context.Context, method, name string) error {
	return Check(ctx, g.policy.need(method, name).Rule)
}

// Allows reports whether a principal's scopes cover an MCP operation, without
// asking whether its token is still live: for leaving out of a list what its
// reader could not use. It waits where a permission is needed and the issuer's
// policy has to be fetched, as [Principal.May] does.
func (g *Guard) Allows(p *Principal, method, name string) bool {
	return judge(context.Background(), p, g.policy.need(method, name).Rule) == nil
}

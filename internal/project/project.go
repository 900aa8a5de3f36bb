// Package project holds what one project of a deployment is: its issuer, its
// vertical, its settings, the resource servers that trust it and the scopes
// they know. Everything else in Postern happens inside one project.
//
// Project is an immutable value: whoever serves a request holds one and reads
// it without a lock. Directory keeps the current value of every project in
// memory, finds one by the host a request came to, and replaces a value whole
// when its change counter has moved. Store is what the package needs of a
// database. Setup is what commands and dashboard change projects with, Setting
// what one thing is called and what it can be; WorkspaceKeys are the deployment's
// own.
//
// The package decides nothing about people or protocols, and it never writes a
// project that is in use: changes go through Store, and come back through
// Directory.
package project

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
)

// ErrNotFound says that no project has this id or serves this host.
var ErrNotFound = errors.New("project: not found")

// ErrConflict says that another project already has this issuer's host, or that
// somebody changed the project since it was read.
var ErrConflict = errors.New("project: another project has this host, or somebody changed this one")

// ErrTaken says that another resource server of the project has an address.
var ErrTaken = errors.New("project: another resource server has this address")

// Vertical says whose sign-ins a project handles.
type Vertical string

// The two verticals.
const (
	Consumer Vertical = "consumer" // people sign in as users
	B2B      Vertical = "b2b"      // people sign in as members of organizations
)

// Environment is part of every id of a project: "test" or "live".
type Environment string

// The two environments.
const (
	Test Environment = "test"
	Live Environment = "live"
)

// Project is one project as a request sees it.
type Project struct {
	ID          string   // project-<test|live>-<uuid>
	Name        string   // as people see it
	Issuer      string   // issuer identifier, byte for byte (RFC 8414 §2); may have a path, no trailing slash
	Hosts       []string // further hosts that serve this project's API, normalized as by Host
	Vertical    Vertical
	Environment Environment
	PublicToken string // public-token-<test|live>-<uuid>
	SecretID    string // id part of the project secret (decision 23)
	SecretHash  []byte // SHA-256 of its random part
	Settings    Settings
	Logo        string     // SHA-256 of its logo in hex, "" without one
	Resources   []Resource // in the order they were added
	Scopes      []Scope    // from the policy document, in its order
	Change      int64      // raised by every change; what caches compare
	CreatedAt   time.Time
}

// Settings are what an operator may change. The zero value is not useful:
// start from Defaults.
type Settings struct {
	DynamicRegistration   bool      `json:"dynamic_registration"`
	MetadataDocuments     bool      `json:"client_id_metadata_documents"`
	DocumentCopies        bool      `json:"document_copies"`             // stored copies of documents that cannot be read (decision 28)
	UnregisteredResources bool      `json:"unregistered_resources"`      // accept a resource nobody registered (decision 4)
	PrivateUseSchemes     []string  `json:"private_use_schemes"`         // schemes a redirect URI may have besides https and loopback http
	DocumentPorts         []int     `json:"document_ports,omitempty"`    // ports besides 443 for metadata documents
	AuthorizationURL      string    `json:"authorization_url,omitempty"` // own authorization page, "" for the hosted one (decision 14)
	OrganizationCreation  bool      `json:"organization_creation"`       // B2B: whoever signs in may make an organization
	PreselectReadOnly     bool      `json:"preselect_read_only"`         // tick only reading scopes for clients without a verified host
	HideBadge             bool      `json:"hide_badge"`                  // leave "Guarded by postern" out of hosted pages
	PrivacyURL            string    `json:"privacy_url,omitempty"`
	HelpURL               string    `json:"help_url,omitempty"`
	DefaultScopes         []string  `json:"default_scopes"` // where neither request nor resource names any
	Lifetimes             Lifetimes `json:"lifetimes"`
}

// Lifetimes are in seconds. Each has a floor and a ceiling; Check names those
// that are outside.
type Lifetimes struct {
	Code            int `json:"code"`              // authorization code
	AccessToken     int `json:"access_token"`      // with a refresh token beside it
	LoneAccessToken int `json:"lone_access_token"` // without
	RefreshIdle     int `json:"refresh_idle"`
	RefreshAbsolute int `json:"refresh_absolute"`
	ReplayWindow    int `json:"replay_window"` // repeats of a rotated refresh token, 0 turns it off (decision 7)
	EmailCode       int `json:"email_code"`
	SessionIdle     int `json:"session_idle"`
	SessionAbsolute int `json:"session_absolute"`
}

// Defaults are the settings of a new project (decisions 5, 7, 9; security.md §4).
func Defaults() Settings {
	return Settings{
		DynamicRegistration:  true,
		MetadataDocuments:    true,
		DocumentCopies:       true,
		OrganizationCreation: true,
		PrivateUseSchemes:    []string{"cursor", "vscode", "vscode-insiders", "windsurf", "zed", "claude"},
		DefaultScopes:        []string{},
		Lifetimes: Lifetimes{
			Code: 60, AccessToken: 15 * 60, LoneAccessToken: 60 * 60,
			RefreshIdle: 14 * 86400, RefreshAbsolute: 90 * 86400, ReplayWindow: 120,
			EmailCode: 600, SessionIdle: 12 * 3600, SessionAbsolute: 7 * 86400,
		},
	}
}

// Check names every setting that is out of bounds, one sentence each; nil
// means that the settings can be stored.
func (s Settings) Check() []string {
	var problems []string
	bound := func(name string, v, low, high int) {
		if v < low || v > high {
			problems = append(problems, fmt.Sprintf("%s is %s; choose %s to %s", name, Span(v), Span(low), Span(high)))
		}
	}
	l := s.Lifetimes
	bound("code-lifetime", l.Code, 10, 600)
	bound("access-token-lifetime", l.AccessToken, 60, 86400)
	bound("lone-access-token-lifetime", l.LoneAccessToken, 60, 86400)
	bound("refresh-idle", l.RefreshIdle, 300, 365*86400)
	bound("refresh-absolute", l.RefreshAbsolute, 300, 730*86400)
	bound("replay-window", l.ReplayWindow, 0, 300)
	bound("email-code-lifetime", l.EmailCode, 60, 1800)
	bound("session-idle", l.SessionIdle, 300, 30*86400)
	bound("session-absolute", l.SessionAbsolute, 300, 90*86400)
	for _, port := range s.DocumentPorts {
		if port < 1 || port > 65535 {
			problems = append(problems, fmt.Sprintf("document_ports has %d; choose 1 to 65535", port))
		}
	}
	for _, scheme := range s.PrivateUseSchemes {
		if !privateScheme(scheme) {
			problems = append(problems, fmt.Sprintf("private-use-schemes has %q; use a lower-case scheme of letters, digits, '.', '+' and '-', other than http, https, javascript, data and file", scheme))
		}
	}
	return problems
}

func privateScheme(s string) bool {
	if s == "" || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	for _, c := range s {
		if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '.' || c == '+' || c == '-') {
			return false
		}
	}
	return !slices.Contains([]string{"http", "https", "javascript", "data", "file", "vbscript", "blob", "about", "view-source"}, s)
}

// TokenProfile names how access tokens for a resource are made (decision 3).
type TokenProfile string

// The two profiles.
const (
	RFC9068    TokenProfile = "rfc9068"    // ES256, typ at+jwt, aud = the resource alone
	Compatible TokenProfile = "compatible" // RS256, typ JWT, aud an array that begins with the project id
)

// Resource is a resource server (an MCP server) that trusts this project.
type Resource struct {
	ID            string   // resource-server-<test|live>-<uuid>
	URI           string   // the resource identifier of RFC 8707, as registered; what tokens for it name
	Aliases       []string // other URIs of the same server, at its origin; asking for one is asking for URI
	Name          string   // what people read on the consent page
	Scopes        []string
	DefaultScopes []string // when a request names none; empty means Scopes
	Profile       TokenProfile
	AccessToken   int    // lifetime in seconds, 0 for the project's
	SecretID      string // for introspection; "" when it has none
	SecretHash    []byte
	Default       bool // the project's default resource (decision 35)
	CreatedAt     time.Time
}

// Scope is a permission a connected app can hold, in words a person reads.
type Scope struct {
	Name        string
	Description string // a sentence such as "Read your notes"; "" when nobody described it
	Detail      string // what stands smaller below it, such as "Titles and texts"; mostly ""
	ReadOnly    bool   // false: it changes or deletes something
}

// Scope finds a scope by name.
func (p *Project) Scope(name string) (Scope, bool) {
	i := slices.IndexFunc(p.Scopes, func(s Scope) bool { return s.Name == name })
	if i < 0 {
		return Scope{}, false
	}
	return p.Scopes[i], true
}

// Resource finds a registered resource server by its identifier or by an alias.
// What comes back has the registered spelling.
func (p *Project) Resource(uri string) (Resource, bool) {
	for _, r := range p.Resources {
		if r.Is(uri) {
			return r, true
		}
	}
	return Resource{}, false
}

// ResourceKey is what two spellings of one resource identifier have in common:
// one trailing slash does not count (decision 4).
func ResourceKey(uri string) string { return strings.TrimSuffix(uri, "/") }

// Is reports whether uri names this resource server, by its URI or an alias.
func (r Resource) Is(uri string) bool {
	key := ResourceKey(uri)
	return ResourceKey(r.URI) == key || slices.ContainsFunc(r.Aliases, func(a string) bool { return ResourceKey(a) == key })
}

// WithoutScope is r without one of its scopes.
func (r Resource) WithoutScope(name string) Resource {
	is := func(s string) bool { return s == name }
	r.Scopes = slices.DeleteFunc(slices.Clone(r.Scopes), is)
	r.DefaultScopes = slices.DeleteFunc(slices.Clone(r.DefaultScopes), is)
	return r
}

// URIs are the resource's own URI and, behind it, its aliases.
func (r Resource) URIs() []string { return append([]string{r.URI}, r.Aliases...) }

// CheckAliases refuses what cannot be an alias of r: it is a resource identifier
// at the origin of r.URI, and there once. The same program answers there: an
// alias elsewhere would give one server the tokens of another.
func (r Resource) CheckAliases() error {
	for i, alias := range r.Aliases {
		if err := CheckResource(alias); err != nil {
			return err
		}
		if origin(alias) != origin(r.URI) {
			return fmt.Errorf("alias %q is not at %s, where %s is; register it as a resource server of its own", alias, origin(r.URI), r.URI)
		}
		if (Resource{URI: r.URI, Aliases: r.Aliases[:i]}).Is(alias) {
			return fmt.Errorf("alias %q is named twice", alias)
		}
	}
	return nil
}

// CheckTaken returns ErrTaken when r has an address that is one of another
// resource server's. Among all there may be r as it was before.
func (r Resource) CheckTaken(all []Resource) error {
	for _, other := range all {
		for _, uri := range r.URIs() {
			if ResourceKey(other.URI) != ResourceKey(r.URI) && other.Is(uri) {
				return fmt.Errorf("%w: %s is an address of the resource server %s; an address belongs to one", ErrTaken, uri, other.URI)
			}
		}
	}
	return nil
}

// origin is the scheme and authority of a URL that CheckResource accepts.
func origin(uri string) string {
	scheme, _, _ := strings.Cut(uri, "://")
	return strings.ToLower(scheme) + "://" + IssuerHost(uri)
}

// DefaultResource is the resource of a request that names none: the one
// marked, or the only one (decision 35).
func (p *Project) DefaultResource() (Resource, bool) {
	for _, r := range p.Resources {
		if r.Default {
			return r, true
		}
	}
	if len(p.Resources) == 1 {
		return p.Resources[0], true
	}
	return Resource{}, false
}

// Secure reports whether the issuer is https. Only loopback issuers of
// development may be plain http.
func (p *Project) Secure() bool { return strings.HasPrefix(p.Issuer, "https://") }

// Host normalizes a Host header or URL authority into the routing key of a
// project: lower case, without a default port for scheme ("http" or "https").
func Host(scheme, hostport string) string {
	h := strings.ToLower(hostport)
	host, port, err := net.SplitHostPort(h)
	if err != nil {
		return h
	}
	if scheme == "https" && port == "443" || scheme == "http" && port == "80" {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return h
}

// Loopback reports whether host (without a port) names this computer:
// localhost, 127.0.0.0/8 or ::1.
func Loopback(host string) bool {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.IsLoopback()
}

// maxIssuer bounds an issuer in bytes: it stands in every token and address.
const maxIssuer = 300

// CheckIssuer refuses what cannot be an issuer identifier (RFC 8414 §2): it is
// https, or http on this computer, with a host and without query, fragment,
// user or trailing slash. A path is made of the characters that no program
// writes in two ways (RFC 3986 §2.3), for issuers are compared byte by byte.
func CheckIssuer(issuer string) error {
	u, err := url.Parse(issuer)
	switch {
	case len(issuer) > maxIssuer:
		return fmt.Errorf("an issuer has at most %d bytes; this one has %d", maxIssuer, len(issuer))
	case err != nil || u.Host == "" || u.Opaque != "":
		return fmt.Errorf("issuer %q is not a URL; use one such as https://auth.example.com", issuer)
	case u.Scheme != "https" && !(u.Scheme == "http" && Loopback(u.Hostname())):
		return fmt.Errorf("issuer %q must begin with https:// (plain http is for this computer only)", issuer)
	case u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery || strings.Contains(issuer, "#"):
		return fmt.Errorf("issuer %q must have no user, query or fragment", issuer)
	case u.Host != strings.ToLower(u.Host) || Host(u.Scheme, u.Host) != u.Host || !strings.HasPrefix(issuer, u.Scheme+"://"+u.Host):
		return fmt.Errorf("issuer %q must be written in lower case up to the end of the host, and without a default port", issuer)
	case strings.HasSuffix(issuer, "/"):
		return fmt.Errorf("issuer %q must not end with a slash", issuer)
	case u.Path != "":
		return checkPath(issuer, u)
	}
	return nil
}

// taken are the first parts of the addresses that a host has beside the issuer's
// path.
var taken = []string{"assets", "dashboard", "healthz", "readyz", "v1"}

func checkPath(issuer string, u *url.URL) error {
	segments := strings.Split(strings.TrimPrefix(issuer, u.Scheme+"://"+u.Host+"/"), "/")
	for _, s := range segments {
		switch {
		case s == "" || s == "." || s == "..":
			return fmt.Errorf("issuer %q has a path with an empty part, . or ..; use one such as https://%s/tenant1", issuer, u.Host)
		case strings.ContainsFunc(s, func(r rune) bool { return !unreserved(r) }):
			return fmt.Errorf("issuer %q has a path with other characters than letters, digits and . _ ~ -", issuer)
		case s == ".well-known":
			return fmt.Errorf("issuer %q has a path with .well-known, which leads to metadata", issuer)
		}
	}
	if slices.Contains(taken, segments[0]) {
		return fmt.Errorf("issuer %q has a path that begins with /%s, which has its own meaning on every host", issuer, segments[0])
	}
	return nil
}

// unreserved are the characters that stand for themselves in every URL (RFC
// 3986 §2.3).
func unreserved(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._~", r)
}

// CheckURL refuses what cannot be the deployment's own URL, which is like an
// issuer without a path.
func CheckURL(address string) error {
	if u, err := url.Parse(address); err == nil && u.Host != "" && u.Path != "" {
		return fmt.Errorf("%q must end after the host, without a slash or path", address)
	}
	return CheckIssuer(address)
}

// Path is the path of the issuer, "" where it has none. Everything that the
// project serves stands below it; pages and redirects name it.
func (p *Project) Path() string {
	_, after, _ := strings.Cut(p.Issuer, "://")
	if i := strings.IndexByte(after, '/'); i >= 0 {
		return after[i:]
	}
	return ""
}

// IssuerHost is the routing key of an issuer that CheckIssuer accepts.
func IssuerHost(issuer string) string {
	u, err := url.Parse(issuer)
	if err != nil {
		return ""
	}
	return Host(u.Scheme, u.Host)
}

type contextKey struct{}

// NewContext returns a context that carries the project of a request.
func NewContext(ctx context.Context, p *Project) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// FromContext returns the project of a request. It is there on every route
// that belongs to a project; a missing one is a programming error and panics.
func FromContext(ctx context.Context) *Project {
	return ctx.Value(contextKey{}).(*Project)
}

// Known returns the project of a request that may have come to no project's
// host, such as one that is refused for it.
func Known(ctx context.Context) (*Project, bool) {
	p, ok := ctx.Value(contextKey{}).(*Project)
	return p, ok
}

// CheckResource refuses what cannot be a resource identifier: an absolute https
// URL, or http on this computer, without fragment, query or user (RFC 8707 §2).
func CheckResource(uri string) error {
	u, err := url.Parse(uri)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "":
		return fmt.Errorf("resource %q is not a URL; use the address that MCP clients call, such as https://notes.example.com/mcp", uri)
	case u.Scheme != "https" && !(u.Scheme == "http" && Loopback(u.Hostname())):
		return fmt.Errorf("resource %q must begin with https:// (plain http is for this computer only)", uri)
	case u.User != nil || u.RawQuery != "" || u.ForceQuery || strings.Contains(uri, "#"):
		return fmt.Errorf("resource %q must have no user, query or fragment", uri)
	}
	return nil
}

// ValidScope reports whether s is one scope-token (RFC 6749 §3.3) of at most
// 128 bytes.
func ValidScope(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < 0x21 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

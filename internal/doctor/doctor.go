// Package doctor finds out what is wrong with a deployment before a client
// does, and says what to do about it.
//
// Run plays a client from outside: it asks every issuer for its metadata and
// keys and compares them with what the specifications demand. What only the
// operator's side can look at (database, master key, mail) is handed in as a
// Probe. Each Result is one line: what was looked at, what was seen, and for a
// failure what to do.
//
// Walk does the same to an MCP server and its authorization servers, whoever
// made them: it goes the way of an MCP client up to the sign-in and stops at
// the first thing that is wrong.
//
// The package changes nothing unless it is asked to register a client, signs
// nobody in and sends no mail.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Result is the outcome of one look.
type Result struct {
	Subject string   `json:"subject"` // an issuer, an MCP server, or "here" for what is on this side
	Check   string   `json:"check"`   // "metadata", "clock", "database" …
	OK      bool     `json:"ok"`
	Seen    string   `json:"seen"`            // what was found, one line
	Turn    Turn     `json:"turn,omitempty"`  // whose turn it is; only from Walk and when not OK
	Fix     string   `json:"fix,omitempty"`   // what to do; only when not OK
	Notes   []string `json:"notes,omitempty"` // what some client will stumble over though it is not wrong
}

// Probe looks at something on the operator's side. Look returns what was seen;
// an error is a failure, its text is shown.
type Probe struct {
	Check string
	Look  func(ctx context.Context) (string, error)
	Fix   string
}

// Config says where to look. All but Probes are required.
type Config struct {
	Issuers func() []string // asked after the probes, which may have found them
	Probes  []Probe
	Client  *http.Client // asks the issuers; should have a time limit. Redirects are not followed
	Now     func() time.Time
}

// ClockTolerance is how far two clocks may be apart before tokens are refused
// that should not be.
const ClockTolerance = 10 * time.Second

// Run looks at everything and returns the results in a fixed order: the
// probes, then issuer by issuer.
func Run(ctx context.Context, c Config) ([]Result, error) {
	if c.Issuers == nil || c.Client == nil || c.Now == nil {
		return nil, errors.New("doctor: Issuers, Client and Now are required")
	}
	var all []Result
	for _, p := range c.Probes {
		r := Result{Subject: "here", Check: p.Check, OK: true}
		seen, err := p.Look(ctx)
		if r.Seen = seen; err != nil {
			r.OK, r.Seen, r.Fix = false, err.Error(), p.Fix
		}
		all = append(all, r)
	}
	client := *c.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.Client = &client
	for _, issuer := range c.Issuers() {
		v := visit{Config: c, subject: issuer}
		v.look(ctx)
		all = append(all, v.results...)
	}
	return all, nil
}

// visit is a look at one issuer.
type visit struct {
	Config
	subject string
	results []Result
}

func (v *visit) good(check, format string, args ...any) {
	v.results = append(v.results, Result{Subject: v.subject, Check: check, OK: true, Seen: fmt.Sprintf(format, args...)})
}

func (v *visit) bad(check, fix, format string, args ...any) {
	v.results = append(v.results, Result{Subject: v.subject, Check: check, Seen: fmt.Sprintf(format, args...), Fix: fix})
}

// What the addresses of an issuer's metadata begin with, before the issuer's own
// path (RFC 8414 §3.1), or end with, behind it (OpenID Connect Discovery §4).
const (
	oauthPath  = "/.well-known/oauth-authorization-server"
	openidPath = "/.well-known/openid-configuration"
)

// metadataPaths are the addresses of an issuer's metadata at its origin, in the
// order in which MCP clients ask: two, or three where the issuer has a path.
func metadataPaths(issuer string) (origin string, paths []string, err error) {
	u, err := url.Parse(issuer)
	if err != nil {
		return "", nil, err
	}
	path := strings.TrimSuffix(u.EscapedPath(), "/")
	return u.Scheme + "://" + u.Host, slices.Compact([]string{oauthPath + path, openidPath + path, path + openidPath}), nil
}

func (v *visit) look(ctx context.Context) {
	origin, paths, err := metadataPaths(v.subject)
	if err != nil {
		v.bad("reachable", "correct the issuer", "%s", reason(err))
		return
	}
	oauth, answer, err := v.fetch(ctx, origin+paths[0], nil)
	if err != nil {
		v.bad("reachable", reachFix(v.subject, err), "%s", reason(err))
		return
	}
	v.good("reachable", "answers on %s", paths[0])
	v.clock(answer.header)
	v.metadata(paths[0], oauth)
	for _, path := range paths[1:] {
		openid, _, err := v.fetch(ctx, origin+path, nil)
		if err != nil {
			v.bad("metadata", "route every path of the issuer's host to postern", "%s: %s", path, reason(err))
			continue
		}
		v.metadata(path, openid)
		v.same(oauth, openid)
	}
	v.keys(ctx, oauth)
	v.unknown(ctx)
}

// clock compares the Date of an answer with our time.
func (v *visit) clock(h http.Header) {
	there, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		v.bad("clock", "let the proxy pass the Date header on", "the answer has no Date")
		return
	}
	apart := v.Now().Sub(there).Truncate(time.Second)
	if apart.Abs() > ClockTolerance {
		v.bad("clock", "set both clocks by NTP", "the server's clock is %s away from this computer's", apart.Abs())
		return
	}
	v.good("clock", "within %s", ClockTolerance)
}

// metadata checks one document by itself (RFC 8414 §2, §3.3).
func (v *visit) metadata(path string, doc map[string]any) {
	const fix = "ask postern directly; if it answers right, a proxy changes the document"
	before := len(v.results)
	if got, _ := doc["issuer"].(string); got != v.subject {
		v.bad("metadata", "the issuer is set by \"postern project create --issuer\"; make sure the host belongs to this project",
			"%s names the issuer %q, not %q", path, got, v.subject)
	}
	for _, name := range []string{"authorization_endpoint", "token_endpoint", "jwks_uri"} {
		if _, ok := doc[name].(string); !ok {
			v.bad("metadata", fix, "%s has no %s", path, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(doc)) {
		address, ok := doc[name].(string)
		if !ok || !strings.HasSuffix(name, "_endpoint") && name != "jwks_uri" || name == "authorization_endpoint" {
			continue
		}
		if !strings.HasPrefix(address, v.subject+"/") {
			v.bad("metadata", fix, "%s has a %s outside the issuer: %s", path, name, address)
		}
	}
	for _, list := range [][2]string{
		{"code_challenge_methods_supported", "S256"},
		{"response_types_supported", "code"},
		{"grant_types_supported", "authorization_code"},
	} {
		if !slices.Contains(texts(doc, list[0]), list[1]) {
			v.bad("metadata", fix, "%s does not list %s in %s; MCP clients refuse it", path, list[1], list[0])
		}
	}
	if len(v.results) == before {
		v.good("metadata", "%s is consistent", path)
	}
}

// same finds members that the two documents share and answer differently.
func (v *visit) same(a, b map[string]any) {
	var differ []string
	for name, value := range a {
		if other, ok := b[name]; ok && fmt.Sprint(value) != fmt.Sprint(other) {
			differ = append(differ, name)
		}
	}
	if len(differ) > 0 {
		slices.Sort(differ)
		v.bad("metadata", "two servers or two versions answer for this host; find out which",
			"the two documents differ in %s", strings.Join(differ, ", "))
	}
}

// keys checks that the key set can verify what this issuer signs.
func (v *visit) keys(ctx context.Context, doc map[string]any) {
	address, _ := doc["jwks_uri"].(string)
	if !strings.HasPrefix(address, v.subject+"/") {
		return // told already
	}
	set, _, err := v.fetch(ctx, address, nil)
	if err != nil {
		v.bad("keys", "look at the server's log; /readyz tells whether its keys exist", "%s", reason(err))
		return
	}
	keys := readKeys(set)
	if keys.private {
		v.bad("keys", "stop this server and rotate every key: postern keys rotate --now", "the key set holds a private key")
		return
	}
	if !slices.Contains(keys.algorithms, "ES256") || !slices.Contains(keys.algorithms, "RS256") {
		v.bad("keys", "wait for /readyz; the RS256 key is made after the start", "the key set has %d keys for %v; ES256 and RS256 are needed", len(keys.all), keys.algorithms)
		return
	}
	v.good("keys", "%d keys: %s", len(keys.all), strings.Join(keys.algorithms, ", "))
}

// keySet is a JSON Web Key Set (RFC 7517 §5) as a client looks at it.
type keySet struct {
	all        []map[string]any
	algorithms []string // of the keys with an id, sorted, each once
	private    bool     // a key can sign as well
}

func readKeys(set map[string]any) keySet {
	var s keySet
	list, _ := set["keys"].([]any)
	for _, k := range list {
		key, _ := k.(map[string]any)
		s.all = append(s.all, key)
		for _, secret := range []string{"d", "p", "q", "dp", "dq", "qi", "oth", "k"} { // RFC 7518 §6.2.2, §6.3.2, §6.4.1
			if _, ok := key[secret]; ok {
				s.private = true
			}
		}
		if alg := text(key, "alg"); text(key, "kid") != "" && !slices.Contains(s.algorithms, alg) {
			s.algorithms = append(s.algorithms, alg)
		}
	}
	slices.Sort(s.algorithms)
	return s
}

// text is a member that is a string, or nothing.
func text(doc map[string]any, name string) string {
	s, _ := doc[name].(string)
	return s
}

// texts is a member that is a list of strings; others in it are left out.
func texts(doc map[string]any, name string) []string {
	list, _ := doc[name].([]any)
	var all []string
	for _, one := range list {
		if s, ok := one.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// unknown checks that a path nobody knows is plainly not found: clients stop
// at anything else (a page with 200, a redirect).
func (v *visit) unknown(ctx context.Context) {
	a, err := v.send(ctx, http.MethodGet, v.subject+"/.well-known/postern-doctor", nil, "")
	if err != nil {
		return // told already
	}
	if a.status != http.StatusNotFound {
		v.bad("not found", "route every path of the issuer's host to postern; no other page may answer below /.well-known/",
			"an unknown path answers %d instead of 404", a.status)
		return
	}
	v.good("not found", "unknown paths answer 404")
}

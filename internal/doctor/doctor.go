// Package doctor finds out what is wrong with a deployment before a client
// does, and says what to do about it.
//
// Run plays a client from outside: it asks every issuer for its metadata and
// keys and compares them with what the specifications demand. What only the
// operator's side can look at (database, master key, mail) is handed in as a
// Probe. Each Result is one line: what was looked at, what was seen, and for a
// failure what to do.
//
// The package changes nothing, signs nobody in and sends no mail.
package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Result is the outcome of one look.
type Result struct {
	Subject string `json:"subject"` // an issuer, or "here" for what is on this side
	Check   string `json:"check"`   // "metadata", "clock", "database" …
	OK      bool   `json:"ok"`
	Seen    string `json:"seen"`          // what was found, one line
	Fix     string `json:"fix,omitempty"` // what to do; only when not OK
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
	Client  *http.Client // asks the issuers; should have a time limit
	Now     func() time.Time
}

// ClockTolerance is how far two clocks may be apart before tokens are refused
// that should not be.
const ClockTolerance = 10 * time.Second

// maxDocument bounds what is read of an answer, in bytes.
const maxDocument = 1 << 20

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
	for _, issuer := range c.Issuers() {
		v := visit{Config: c, issuer: issuer}
		v.look(ctx)
		all = append(all, v.results...)
	}
	return all, nil
}

// visit is a look at one issuer.
type visit struct {
	Config
	issuer  string
	results []Result
}

func (v *visit) good(check, format string, args ...any) {
	v.results = append(v.results, Result{v.issuer, check, true, fmt.Sprintf(format, args...), ""})
}

func (v *visit) bad(check, fix, format string, args ...any) {
	v.results = append(v.results, Result{v.issuer, check, false, fmt.Sprintf(format, args...), fix})
}

// The two addresses of an issuer's metadata (RFC 8414 §3, OpenID Connect
// Discovery §4).
const (
	oauthPath  = "/.well-known/oauth-authorization-server"
	openidPath = "/.well-known/openid-configuration"
)

func (v *visit) look(ctx context.Context) {
	oauth, head, err := v.fetch(ctx, v.issuer+oauthPath)
	if err != nil {
		v.bad("reachable", reachFix(v.issuer, err), "%s", reason(err))
		return
	}
	v.good("reachable", "answers on %s", oauthPath)
	v.clock(head)
	v.metadata(oauthPath, oauth)
	openid, _, err := v.fetch(ctx, v.issuer+openidPath)
	if err != nil {
		v.bad("metadata", "route every path of the issuer's host to postern", "%s: %s", openidPath, reason(err))
	} else {
		v.metadata(openidPath, openid)
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
	if got, _ := doc["issuer"].(string); got != v.issuer {
		v.bad("metadata", "the issuer is set by \"postern project create --issuer\"; make sure the host belongs to this project",
			"%s names the issuer %q, not %q", path, got, v.issuer)
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
		if !strings.HasPrefix(address, v.issuer+"/") {
			v.bad("metadata", fix, "%s has a %s outside the issuer: %s", path, name, address)
		}
	}
	for _, list := range [][2]string{
		{"code_challenge_methods_supported", "S256"},
		{"response_types_supported", "code"},
		{"grant_types_supported", "authorization_code"},
	} {
		values, _ := doc[list[0]].([]any)
		if !slices.Contains(values, any(list[1])) {
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
	if !strings.HasPrefix(address, v.issuer+"/") {
		return // told already
	}
	set, _, err := v.fetch(ctx, address)
	if err != nil {
		v.bad("keys", "look at the server's log; /readyz tells whether its keys exist", "%s", reason(err))
		return
	}
	list, _ := set["keys"].([]any)
	var algorithms []string
	for _, k := range list {
		key, _ := k.(map[string]any)
		if _, private := key["d"]; private {
			v.bad("keys", "stop this server and rotate every key: postern keys rotate --now", "the key set holds a private key")
			return
		}
		alg, _ := key["alg"].(string)
		if kid, _ := key["kid"].(string); kid != "" && !slices.Contains(algorithms, alg) {
			algorithms = append(algorithms, alg)
		}
	}
	slices.Sort(algorithms)
	if !slices.Contains(algorithms, "ES256") || !slices.Contains(algorithms, "RS256") {
		v.bad("keys", "wait for /readyz; the RS256 key is made after the start", "the key set has %d keys for %v; ES256 and RS256 are needed", len(list), algorithms)
		return
	}
	v.good("keys", "%d keys: %s", len(list), strings.Join(algorithms, ", "))
}

// unknown checks that a path nobody knows is plainly not found: clients stop
// at anything else (a page with 200, a redirect).
func (v *visit) unknown(ctx context.Context) {
	response, err := v.get(ctx, v.issuer+"/.well-known/postern-doctor")
	if err != nil {
		return // told already
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		v.bad("not found", "route every path of the issuer's host to postern; no other page may answer below /.well-known/",
			"an unknown path answers %d instead of 404", response.StatusCode)
		return
	}
	v.good("not found", "unknown paths answer 404")
}

func (v *visit) get(ctx context.Context, address string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "postern-doctor")
	client := *v.Client
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client.Do(request)
}

// fetch reads one JSON object.
func (v *visit) fetch(ctx context.Context, address string) (map[string]any, http.Header, error) {
	response, err := v.get(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, nil, statusError(response.StatusCode)
	}
	if kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); kind != "application/json" {
		return nil, nil, fmt.Errorf("answers with %s instead of application/json", strconv.Quote(kind))
	}
	var doc map[string]any
	if err := json.NewDecoder(io.LimitReader(response.Body, maxDocument)).Decode(&doc); err != nil {
		return nil, nil, errors.New("the answer is not a JSON object")
	}
	return doc, response.Header, nil
}

type statusError int

func (e statusError) Error() string {
	return fmt.Sprintf("answers %d %s", int(e), http.StatusText(int(e)))
}

// reason is a network error in few words.
func reason(err error) string {
	if u, ok := errors.AsType[*url.Error](err); ok {
		if u.Timeout() {
			return "no answer in time"
		}
		err = u.Err
	}
	return err.Error()
}

func reachFix(issuer string, err error) string {
	host := issuer
	if u, parseErr := url.Parse(issuer); parseErr == nil {
		host = u.Host
	}
	if status, ok := errors.AsType[statusError](err); ok {
		switch status {
		case http.StatusMisdirectedRequest:
			return "the server does not know " + host + "; a proxy in front must pass the Host header on, and its network must stand in behind_proxy"
		case http.StatusServiceUnavailable:
			return "the server is not ready; /readyz names what is missing"
		}
		return "route every path of " + host + " to postern"
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return "make a DNS record for " + host
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "give " + host + " a certificate that this computer trusts"
	}
	return "start the server (postern serve), or the proxy in front of it"
}

package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Turn says who has to do something.
type Turn string

// Whose turn it can be.
const (
	TurnServer              Turn = "MCP server"
	TurnAuthorizationServer Turn = "authorization server"
	TurnClient              Turn = "client"
	TurnNetwork             Turn = "network"
)

// WalkConfig says which MCP server to look at, and how far to go. Client and
// Now are required.
type WalkConfig struct {
	URL      string // what MCP clients are given
	Token    string // an access token to call it with; it goes to URL and nowhere else, and into no Result
	Register bool   // register a client where that is offered; it stays there
	Client   *http.Client
	Now      func() time.Time
}

// maxAuthorizationServers is how many of those that a server names are looked
// at: each is some requests to an address that a stranger chose.
const maxAuthorizationServers = 4

// Walk goes the way of an MCP client without a person: from the first refusal
// over the two metadata documents to the endpoints of every authorization
// server, then back with tokens that must be refused, and with Token when there
// is one. It stops at the first thing that is wrong, so that at most the last
// Result is not OK.
//
// The addresses on the way are chosen by the servers. Their answers are read
// up to 1 MiB, redirects are followed inside an origin only, no address that
// says loopback is asked unless URL does too, and nothing secret is sent but
// Token to URL.
func Walk(ctx context.Context, c WalkConfig) ([]Result, error) {
	if c.Client == nil || c.Now == nil {
		return nil, errors.New("doctor: Client and Now are required")
	}
	client := *c.Client
	client.CheckRedirect = insideOrigin
	c.Client = &client
	w := &walk{visit: visit{Config: Config{Client: c.Client, Now: c.Now}, subject: c.URL}, WalkConfig: c, method: http.MethodPost}
	if !w.take(ctx, step{"address", w.ownAddress}, step{"reachable", w.reach}, step{"challenge", w.challenged}, step{"resource", w.describesItself}) {
		return w.results, nil
	}
	for i, issuer := range w.issuers {
		s := &authorizationServer{walk: w, issuer: issuer, listed: i}
		w.subject = issuer
		if !w.take(ctx, step{"metadata", s.metadata}, step{"register", s.register}, step{"authorize", s.authorize},
			step{"token", s.token}, step{"keys", s.keys}) {
			return w.results, nil
		}
	}
	w.subject = c.URL
	w.take(ctx, step{"refusal", w.refuses}, step{"clock", w.clocks}, step{"claims", w.claims}, step{"initialize", w.initialize}, step{"tools/list", w.tools})
	return w.results, nil
}

// insideOrigin follows the redirect of a document. That of anything else is an
// answer to look at.
func insideOrigin(r *http.Request, via []*http.Request) error {
	from := via[0]
	if from.Method != http.MethodGet || r.URL.Scheme != from.URL.Scheme || r.URL.Host != from.URL.Host || len(via) > 3 {
		return http.ErrUseLastResponse
	}
	return nil
}

// walk is a look at one MCP server, and what it has found out so far.
type walk struct {
	visit
	WalkConfig
	notes []string // of the step that is being taken

	method    string    // by which a client begins
	refusal   answer    // to a request without a token
	challenge challenge // its Bearer challenge
	issuers   []string
	key       map[string]any // the first public key that was seen
	dates     []date
	judged    bool // the claims of Token could be read, and are right
	session   string
	revision  string
}

// step is one thing to look at. What was seen is nothing when there was
// nothing to look at.
type step struct {
	check string
	look  func(ctx context.Context) (seen string, wrong *mistake)
}

// mistake is what is wrong, whose turn it is, and what to do.
type mistake struct {
	turn Turn
	seen string
	fix  string
}

func (t Turn) must(fix, format string, args ...any) *mistake {
	return &mistake{t, fmt.Sprintf(format, args...), fix}
}

// take takes steps up to the first that goes wrong, and reports whether none did.
func (w *walk) take(ctx context.Context, steps ...step) bool {
	for _, s := range steps {
		w.notes = nil
		seen, wrong := s.look(ctx)
		r := Result{Subject: w.tidy(w.subject), Check: s.check, OK: wrong == nil, Seen: w.tidy(seen)}
		for _, note := range w.notes {
			r.Notes = append(r.Notes, w.tidy(note))
		}
		if wrong != nil {
			r.Turn, r.Seen, r.Fix = wrong.turn, w.tidy(wrong.seen), w.tidy(wrong.fix)
		}
		if r.Seen != "" {
			w.results = append(w.results, r)
		}
		if wrong != nil {
			return false
		}
	}
	return true
}

func (w *walk) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// tidy keeps what strangers wrote short, and the token out of it.
func (w *walk) tidy(s string) string {
	if w.Token != "" {
		s = strings.ReplaceAll(s, w.Token, "[the token]")
	}
	if runes := []rune(s); len(runes) > 400 {
		s = string(runes[:400]) + "…"
	}
	return s
}

// unreachable is a request that got no answer that can be read.
func (w *walk) unreachable(whose Turn, address string, err error) *mistake {
	host := address
	if u, parseErr := url.Parse(address); parseErr == nil {
		host = u.Host
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		whose = TurnNetwork
	}
	fix := wireFix(host, err)
	if fix == "" {
		fix = "start the server at " + host + ", let this computer reach it, or correct the address"
	}
	return whose.must(fix, "%s: %s", address, reason(err))
}

// ownAddress checks what the walk was given.
func (w *walk) ownAddress(context.Context) (string, *mistake) {
	if problem := wrongAddress(w.URL, true); problem != "" {
		return "", TurnClient.must("give clients an https URL; http only on this computer itself", "the URL %s", problem)
	}
	return "", nil
}

// address checks one that a document or header names.
func (w *walk) address(raw string) string {
	u, err := url.Parse(w.URL)
	return wrongAddress(raw, err == nil && loopback(u))
}

// wrongAddress says why a client goes nowhere with an address; nothing when it
// does. Plain http and loopback are for servers on the same computer.
func wrongAddress(raw string, near bool) string {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Sprintf("%q is not an absolute https URL", raw)
	case u.User != nil:
		return "has a name or password in it"
	case u.Fragment != "":
		return fmt.Sprintf("%q has a fragment", raw)
	case u.Scheme == "http" && !loopback(u):
		return fmt.Sprintf("%q is not https", raw)
	case loopback(u) && !near:
		return fmt.Sprintf("%q leads every client to its own computer", raw)
	}
	return ""
}

func loopback(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	return u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
}

// opening is the first message of a client (MCP 2025-11-25). A server that
// knows later revisions only refuses it, after it looked for a token.
const opening = `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"postern-doctor","version":"1"}}}`

// knock begins as a client does, with an access token if there is one.
func (w *walk) knock(ctx context.Context, token string) (answer, error) {
	header := http.Header{"Accept": {"application/json, " + eventStream}}
	if token != "" {
		header.Set("Authorization", "Bearer "+token)
	}
	if w.method == http.MethodGet {
		header.Set("Accept", eventStream)
		return w.send(ctx, http.MethodGet, w.URL, header, "")
	}
	header.Set("Content-Type", "application/json")
	return w.send(ctx, http.MethodPost, w.URL, header, opening)
}

const oldTransport = "this is the old transport, HTTP with Server-Sent Events; newer clients do not speak it"

// reach asks without a token: everything begins with 401.
func (w *walk) reach(ctx context.Context) (string, *mistake) {
	posted, err := w.knock(ctx, "")
	if err != nil {
		return "", w.unreachable(TurnServer, w.URL, err)
	}
	w.method = http.MethodGet
	got, err := w.knock(ctx, "")
	if err != nil {
		return "", w.unreachable(TurnServer, w.URL, err)
	}
	w.refusal = posted
	if got.status == http.StatusUnauthorized && (posted.status == http.StatusNotFound || posted.status == http.StatusMethodNotAllowed) {
		w.refusal = got
		w.note(oldTransport)
	} else {
		w.method = http.MethodPost
	}
	if wrong := mustRefuse(w.refusal); wrong != nil {
		return "", wrong
	}
	w.dated(w.URL, w.refusal)
	switch kind := got.kind(); {
	case got.status == http.StatusOK && (kind == eventStream || kind == "application/json"):
		return "", TurnServer.must("look for a token in every request, whatever its method", "POST needs a token, but GET answers 200 with %s without one", kind)
	case got.status != http.StatusUnauthorized && got.status != http.StatusMethodNotAllowed:
		w.note("GET without a token answers %d; 401 or 405 is expected", got.status)
	}
	return "answers 401 to a request without a token", nil
}

// mustRefuse judges an answer to a request without a token.
func mustRefuse(a answer) *mistake {
	const protect = "look for a token before anything else, and answer 401 where there is none; docs/guide/protect shows how"
	switch {
	case a.status == http.StatusUnauthorized:
		return nil
	case a.status/100 == 2:
		return TurnServer.must(protect, "answers %d to a request without a token: nothing protects it", a.status)
	case a.status/100 == 3:
		return TurnServer.must("answer 401; if the address has moved, give clients the new one and name that in the metadata",
			"answers %d, a redirect to %q; clients do not follow that of a POST", a.status, a.header.Get("Location"))
	case a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed:
		return TurnClient.must("correct the URL: it is that of the MCP endpoint, often …/mcp", "answers %d: no MCP server is there", a.status)
	case a.status == http.StatusForbidden:
		return TurnServer.must("answer 401 without a token; if a firewall or a check of Host or Origin answers, let clients through",
			"answers 403 to a request without a token; clients begin to sign in at 401 only")
	case a.status == http.StatusMisdirectedRequest:
		return TurnServer.must("give clients the URL that the server was set up with, or set it up with this one; a proxy in front must pass the Host header on",
			"answers 421: the server does not know this host name")
	case a.status >= 500:
		return TurnServer.must("look at the server's log", "answers %d to a request without a token", a.status)
	}
	return TurnServer.must(protect, "answers %d to a request without a token; clients begin to sign in at 401 only", a.status)
}

// challenged reads what the 401 tells a client to do (RFC 9728 §5.1).
func (w *walk) challenged(context.Context) (string, *mistake) {
	const fix = `send WWW-Authenticate: Bearer resource_metadata="…" with the 401`
	values := w.refusal.header.Values("WWW-Authenticate")
	if len(values) == 0 {
		return "", TurnServer.must(fix, "the 401 has no WWW-Authenticate header") // RFC 9110 §15.5.2
	}
	all, ok := parseChallenges(values)
	if !ok {
		return "", TurnServer.must(fix, "WWW-Authenticate cannot be read: %q", strings.Join(values, ", "))
	}
	if w.challenge, ok = bearer(all); !ok {
		return "", TurnServer.must(fix, "WWW-Authenticate does not ask for a Bearer token: %q", strings.Join(values, ", "))
	}
	seen := "Bearer"
	if at, ok := w.challenge.params["resource_metadata"]; !ok {
		w.note("it names no resource_metadata, so clients guess where the metadata is")
	} else if problem := w.address(at); problem != "" {
		return "", TurnServer.must("name the absolute URL of the metadata", "resource_metadata %s", problem)
	} else {
		seen += " with resource_metadata"
	}
	if code, ok := w.challenge.params["error"]; ok { // RFC 6750 §3.1
		w.note("it has error=%q, though no token was sent", code)
	}
	if scope, ok := w.challenge.params["scope"]; ok {
		seen += fmt.Sprintf(", scope %q", scope)
	}
	return seen, nil
}

// describesItself reads the protected-resource metadata (RFC 9728 §3.3).
func (w *walk) describesItself(ctx context.Context) (string, *mistake) {
	doc, a, wrong := w.findResource(ctx)
	if wrong != nil {
		return "", wrong
	}
	switch resource := text(doc, "resource"); {
	case resource == w.URL:
	case strings.TrimSuffix(resource, "/") == strings.TrimSuffix(w.URL, "/"):
		w.note("resource is %q: some clients want it without the difference of a slash", resource)
	default:
		return "", TurnServer.must("let resource be the URL that clients are given, character by character; behind a proxy that is the outer one",
			"resource is %q, not %q, so clients refuse it", resource, w.URL)
	}
	w.issuers = texts(doc, "authorization_servers")
	if len(w.issuers) == 0 {
		return "", TurnServer.must("name the issuer of your authorization server in authorization_servers", "%s names no authorization server", a.from)
	}
	for _, issuer := range w.issuers {
		problem := w.address(issuer)
		if u, err := url.Parse(issuer); problem == "" && (err != nil || u.RawQuery != "" || strings.Contains(u.Path, "/.well-known/")) {
			problem = fmt.Sprintf("%q is no issuer; the address of a document is not one", issuer)
		}
		if problem != "" {
			return "", TurnServer.must("name the issuer, exactly as the authorization server's own metadata has it", "authorization_servers: %s", problem)
		}
	}
	if more := len(w.issuers) - maxAuthorizationServers; more > 0 {
		w.issuers = w.issuers[:maxAuthorizationServers]
		w.note("it names %d more authorization servers, which are not looked at", more)
	}
	scopes := texts(doc, "scopes_supported")
	if len(scopes) == 0 {
		w.note("it has no scopes_supported: clients that get no scope from the challenge ask for none")
	}
	if slices.Contains(append(strings.Fields(w.challenge.params["scope"]), scopes...), "offline_access") {
		w.note("offline_access is not the server's scope; clients ask the authorization server for it by themselves")
	}
	if methods := texts(doc, "bearer_methods_supported"); len(methods) > 0 && !slices.Contains(methods, "header") {
		w.note("bearer_methods_supported lacks header, the only way of MCP clients")
	}
	w.notForBrowsers(a)
	return fmt.Sprintf("%s is consistent; scopes: %s", a.from, orNone(scopes)), nil
}

func orNone(list []string) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, ", ")
}

// findResource fetches the metadata where the challenge says, else at the
// path form of the well-known address, then at the root form.
func (w *walk) findResource(ctx context.Context) (map[string]any, answer, *mistake) {
	const wellKnown = "/.well-known/oauth-protected-resource"
	if named, ok := w.challenge.params["resource_metadata"]; ok {
		doc, a, err := w.document(ctx, named)
		if err != nil {
			return nil, a, w.badDocument(TurnServer, named, err, "serve the metadata of RFC 9728 at the address that the challenge names")
		}
		return doc, a, nil
	}
	u, err := url.Parse(w.URL)
	if err != nil {
		return nil, answer{}, TurnClient.must("correct the URL", "%q is no URL", w.URL)
	}
	root := u.Scheme + "://" + u.Host + wellKnown
	places := slices.Compact([]string{root + strings.TrimSuffix(u.EscapedPath(), "/"), root})
	var first error
	for _, place := range places {
		doc, a, err := w.document(ctx, place)
		if err == nil {
			return doc, a, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, answer{}, TurnServer.must(`serve the metadata of RFC 9728 and name it in the challenge: resource_metadata="`+places[0]+`"`,
		"no metadata: the challenge names none, and %s %s", places[0], reason(first))
}

// document fetches a JSON object as a client in a browser would, from the MCP
// Inspector's origin.
func (w *walk) document(ctx context.Context, address string) (map[string]any, answer, error) {
	doc, a, err := w.fetch(ctx, address, http.Header{"Origin": {"http://localhost:6274"}})
	if err == nil && a.from != address {
		w.note("%s redirects; not every client follows", address)
	}
	return doc, a, err
}

// badDocument is a document that did not come: the wire or the server.
func (w *walk) badDocument(whose Turn, address string, err error, fix string) *mistake {
	if _, ok := errors.AsType[*url.Error](err); ok {
		return w.unreachable(whose, address, err)
	}
	return whose.must(fix, "%s %s", address, reason(err))
}

func (w *walk) notForBrowsers(a answer) {
	if a.header.Get("Access-Control-Allow-Origin") == "" {
		w.note("%s has no Access-Control-Allow-Origin: clients in a browser cannot read it", a.from)
	}
}

// date is how far the clock of a server is from ours.
type date struct {
	of   string
	away time.Duration
	said bool
}

// dated keeps the Date of an answer that no cache has kept.
func (w *walk) dated(of string, a answer) {
	there, err := http.ParseTime(a.header.Get("Date"))
	w.dates = append(w.dates, date{of, w.Now().Sub(there), err == nil})
}

// clocks compares the servers' clocks. Ours matters less: it judges no token.
func (w *walk) clocks(context.Context) (string, *mistake) {
	var known []date
	for _, d := range w.dates {
		if !d.said {
			w.note("%s sends no Date", d.of)
			continue
		}
		known = append(known, d)
	}
	for _, d := range known[min(1, len(known)):] {
		if apart := (d.away - known[0].away).Abs(); apart > ClockTolerance {
			return "", TurnServer.must("set both clocks by NTP", "the clocks of %s and %s are %s apart", known[0].of, d.of, apart.Round(time.Second))
		}
	}
	if len(known) > 0 && known[0].away.Abs() > ClockTolerance {
		w.note("this computer's clock is %s away from the servers'", known[0].away.Abs().Round(time.Second))
	}
	return fmt.Sprintf("within %s", ClockTolerance), nil
}

// message is a JSON-RPC answer.
type message struct {
	Result map[string]any `json:"result"`
	Error  *struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	} `json:"error"`
}

func readMessage(data []byte) (message, bool) {
	var m message
	err := json.Unmarshal(data, &m)
	return m, err == nil
}

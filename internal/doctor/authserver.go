package doctor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// authorizationServer is one that the MCP server names.
type authorizationServer struct {
	*walk
	issuer string
	listed int // its place in the list; clients take the first
	doc    map[string]any
	client string // the client id that was registered, or nothing
}

// The redirect URIs of a client that never gets an answer. The first is what a
// program on a computer registers; nothing can be at the second.
const (
	ownRedirect     = "http://127.0.0.1:33418/callback"
	foreignRedirect = "https://postern-doctor.invalid/callback"
)

// metadata finds and checks the document in the order of places that MCP
// prescribes: RFC 8414 §3.1 before OpenID Connect Discovery §4.
func (s *authorizationServer) metadata(ctx context.Context) (string, *mistake) {
	origin, places, err := metadataPaths(s.issuer)
	if err != nil {
		return "", TurnServer.must("correct authorization_servers", "%q is no URL", s.issuer)
	}
	for i := range places {
		places[i] = origin + places[i]
	}
	var found answer
	for _, place := range places {
		s.doc, found, err = s.document(ctx, place)
		if status, ok := errors.AsType[statusError](err); err == nil || !ok || status/100 != 4 {
			if err != nil { // clients try the next place after a 4xx only
				return "", s.badDocument(TurnAuthorizationServer, place, err, "answer with the metadata, or with a plain 404 so that clients look elsewhere")
			}
			break
		}
	}
	if s.doc == nil {
		return "", TurnAuthorizationServer.must("serve the metadata of RFC 8414 there; if this is no authorization server, correct authorization_servers of the MCP server",
			"no metadata: %s", strings.Join(places, " and ")+" answer with 4xx")
	}
	if got := text(s.doc, "issuer"); got != s.issuer { // RFC 8414 §3.3
		return "", TurnAuthorizationServer.must("let issuer and the MCP server's authorization_servers be equal, character by character",
			"%s has the issuer %q, not %q, so clients refuse it", found.from, got, s.issuer)
	}
	for _, name := range []string{"authorization_endpoint", "token_endpoint"} {
		if problem := s.address(text(s.doc, name)); problem != "" {
			return "", TurnAuthorizationServer.must("name the absolute URL of the endpoint", "%s %s", name, problem)
		}
	}
	if !slices.Contains(texts(s.doc, "code_challenge_methods_supported"), "S256") {
		return "", TurnAuthorizationServer.must("list S256 in code_challenge_methods_supported, and check it",
			"%s does not list S256 in code_challenge_methods_supported; MCP clients refuse it", found.from)
	}
	if !slices.Contains(texts(s.doc, "response_types_supported"), "code") {
		return "", TurnAuthorizationServer.must("list code in response_types_supported", "%s does not list code in response_types_supported", found.from)
	}
	grants := texts(s.doc, "grant_types_supported")
	if grants != nil && !slices.Contains(grants, "authorization_code") {
		return "", TurnAuthorizationServer.must("list authorization_code in grant_types_supported", "%s does not list authorization_code in grant_types_supported", found.from)
	}
	if !slices.Contains(grants, "refresh_token") {
		s.note("it does not list refresh_token: people sign in again whenever a token expires")
	}
	if s.doc["authorization_response_iss_parameter_supported"] != true {
		s.note("it does not send iss with its answers (RFC 9207): clients cannot notice that an answer is another server's")
	}
	if resources := texts(s.doc, "protected_resources"); len(resources) > 0 && !slices.ContainsFunc(resources, s.isURL) {
		s.note("its protected_resources do not name this MCP server (RFC 9728 §4)")
	}
	s.notForBrowsers(found)
	if s.listed > 0 {
		s.note("most clients only look at the first authorization server, and this is number %d", s.listed+1)
	}
	return fmt.Sprintf("%s is consistent; clients register %s", found.from, s.ways()), nil
}

// isURL reports whether a resource identifier is the MCP server's.
func (w *walk) isURL(resource string) bool {
	return strings.TrimSuffix(resource, "/") == strings.TrimSuffix(w.URL, "/")
}

// ways says how clients come by a client id, and notes what is in their way.
func (s *authorizationServer) ways() string {
	var ways []string
	if s.doc["client_id_metadata_document_supported"] == true {
		ways = append(ways, "by metadata document")
	}
	if text(s.doc, "registration_endpoint") != "" {
		ways = append(ways, "dynamically")
	}
	if len(ways) == 0 {
		s.note("it takes neither metadata documents nor dynamic registration: register every client in advance and give it the client id")
		return "in advance only"
	}
	// Left out means client_secret_basic alone (RFC 8414 §2).
	if !slices.Contains(texts(s.doc, "token_endpoint_auth_methods_supported"), "none") {
		s.note("token_endpoint_auth_methods_supported lacks none: clients that can keep no secret may not register")
	}
	return strings.Join(ways, " or ")
}

// register registers a client when that was asked for.
func (s *authorizationServer) register(ctx context.Context) (string, *mistake) {
	const fix = "register public clients with a loopback redirect URI (RFC 7591), or stop advertising registration_endpoint"
	if !s.Register {
		return "", nil
	}
	endpoint := text(s.doc, "registration_endpoint")
	if endpoint == "" {
		return "not offered, so not tried", nil
	}
	if problem := s.address(endpoint); problem != "" {
		return "", TurnAuthorizationServer.must("name the absolute URL of the endpoint", "registration_endpoint %s", problem)
	}
	body, err := json.Marshal(map[string]any{
		"client_name": "Postern Doctor", "redirect_uris": []string{ownRedirect}, "application_type": "native", "token_endpoint_auth_method": "none",
		"grant_types": []string{"authorization_code", "refresh_token"}, "response_types": []string{"code"},
	})
	if err != nil {
		return "", TurnClient.must("report this", "the registration cannot be written")
	}
	a, err := s.send(ctx, http.MethodPost, endpoint, http.Header{"Content-Type": {"application/json"}, "Accept": {"application/json"}}, string(body))
	if err != nil {
		return "", s.unreachable(TurnAuthorizationServer, endpoint, err)
	}
	var said map[string]any
	if json.Unmarshal(a.body, &said) != nil || a.status/100 != 2 || text(said, "client_id") == "" {
		return "", TurnAuthorizationServer.must(fix, "%s answers %d%s to the registration of a public client", endpoint, a.status, saying(said))
	}
	if a.status != http.StatusCreated {
		s.note("it answers %d instead of 201", a.status)
	}
	s.client = text(said, "client_id")
	return fmt.Sprintf("the client %q, named Postern Doctor, was registered and stays there", s.client), nil
}

// saying is the error of an OAuth answer, for a sentence.
func saying(said map[string]any) string {
	code := text(said, "error")
	if code == "" {
		return ""
	}
	if description := text(said, "error_description"); description != "" {
		return fmt.Sprintf(" %q (%q)", code, description)
	}
	return fmt.Sprintf(" %q", code)
}

// authorize looks at the page that people are sent to. A registered client
// also tries to have the answer sent elsewhere.
func (s *authorizationServer) authorize(ctx context.Context) (string, *mistake) {
	endpoint := text(s.doc, "authorization_endpoint")
	a, err := s.send(ctx, http.MethodGet, endpoint, http.Header{"Accept": {"text/html"}}, "")
	if err != nil {
		return "", s.unreachable(TurnAuthorizationServer, endpoint, err)
	}
	if a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed || a.status >= 500 {
		return "", TurnAuthorizationServer.must("route the address to the page that people sign in at", "%s answers %d to a browser", endpoint, a.status)
	}
	seen := fmt.Sprintf("answers %d to a request without parameters", a.status)
	if s.client == "" {
		return seen, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil {
		return "", TurnAuthorizationServer.must("name the absolute URL of the endpoint", "%q is no URL", endpoint)
	}
	q := u.Query()
	for name, value := range map[string]string{
		"response_type": "code", "client_id": s.client, "redirect_uri": foreignRedirect, "state": "postern-doctor", "resource": s.URL,
		"code_challenge": strings.Repeat("a", 43), "code_challenge_method": "S256",
	} {
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	a, err = s.send(ctx, http.MethodGet, u.String(), http.Header{"Accept": {"text/html"}}, "")
	if err != nil {
		return "", s.unreachable(TurnAuthorizationServer, endpoint, err)
	}
	_, refresh, _ := strings.Cut(strings.ReplaceAll(a.header.Get("Refresh"), " ", ""), "url=")
	for _, target := range []string{a.header.Get("Location"), refresh} {
		if strings.HasPrefix(target, foreignRedirect) {
			return "", TurnAuthorizationServer.must("compare redirect_uri with the registered ones, character by character, and show a page when it is none of them (RFC 9700 §4.1.3)",
				"%s redirects to an address that the client never registered", endpoint)
		}
	}
	return seen + fmt.Sprintf(", and %d without a redirect to one with a foreign redirect_uri", a.status), nil
}

// token redeems a code that never was: the answer must be OAuth's.
func (s *authorizationServer) token(ctx context.Context) (string, *mistake) {
	const fix = "answer with 400 and JSON as RFC 6749 §5.2 has it, and let no proxy or page stand before the endpoint"
	endpoint, client := text(s.doc, "token_endpoint"), s.client
	if client == "" {
		client = "postern-doctor"
	}
	a, err := s.send(ctx, http.MethodPost, endpoint, http.Header{
		"Content-Type": {"application/x-www-form-urlencoded"}, "Accept": {"application/json"},
	}, url.Values{
		"grant_type": {"authorization_code"}, "code": {"postern-doctor-has-no-code"}, "client_id": {client}, "redirect_uri": {ownRedirect},
		"code_verifier": {strings.Repeat("a", 43)}, "resource": {s.URL},
	}.Encode())
	if err != nil {
		return "", s.unreachable(TurnAuthorizationServer, endpoint, err)
	}
	s.dated(s.issuer, a)
	var said map[string]any
	isJSON := a.kind() == "application/json" && json.Unmarshal(a.body, &said) == nil
	code := text(said, "error")
	switch {
	case a.status/100 == 2:
		return "", TurnAuthorizationServer.must("refuse codes that were never issued", "%s answers %d to a code that nobody issued", endpoint, a.status)
	case a.status == http.StatusTooManyRequests:
		s.note("it answers 429 for now: what it says to a wrong code was not seen")
		return "answers", nil
	case a.status != http.StatusBadRequest && a.status != http.StatusUnauthorized || !isJSON || code == "":
		return "", TurnAuthorizationServer.must(fix, "%s answers %d with %q to a wrong code, where clients expect an OAuth error", endpoint, a.status, a.kind())
	case code == "invalid_grant", code == "invalid_client" && s.client == "":
	case code == "invalid_client":
		return "", TurnAuthorizationServer.must("keep what was registered, and let public clients come without a secret",
			"%s answers invalid_client to the client that has just registered", endpoint)
	default:
		s.note("it answers%s; invalid_grant or invalid_client was expected", saying(said))
	}
	return fmt.Sprintf("refuses a wrong code with %d %s", a.status, code), nil
}

// keys looks at the key set, if there is one: tokens may be opaque.
func (s *authorizationServer) keys(ctx context.Context) (string, *mistake) {
	const fix = "publish the public half of every signing key, with kid and alg"
	address := text(s.doc, "jwks_uri")
	if address == "" {
		s.note("without jwks_uri the MCP server has to ask about every token (introspection)")
		return "the metadata names no key set", nil
	}
	if problem := s.address(address); problem != "" {
		return "", TurnAuthorizationServer.must("name the absolute URL of the key set", "jwks_uri %s", problem)
	}
	set, a, err := s.document(ctx, address)
	if err != nil {
		return "", s.badDocument(TurnAuthorizationServer, address, err, fix)
	}
	keys := readKeys(set)
	if keys.private {
		return "", TurnAuthorizationServer.must("take the key set down and make new keys: whoever read it can sign tokens", "%s holds a private or secret key", a.from)
	}
	usable, nameless := 0, false
	for _, key := range keys.all {
		if !slices.Contains([]string{"EC", "RSA", "OKP"}, text(key, "kty")) || text(key, "use") == "enc" {
			continue
		}
		if usable++; s.key == nil {
			s.key = key
		}
		nameless = nameless || text(key, "kid") == "" || text(key, "alg") == ""
	}
	if nameless {
		s.note("a key has no kid or no alg; some verifiers do not find it")
	}
	if usable == 0 {
		return "", TurnAuthorizationServer.must(fix, "%s has no key that could verify a signature", a.from)
	}
	return fmt.Sprintf("%d keys: %s", usable, orNone(keys.algorithms)), nil
}

package doctor

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// refuses tries tokens that nobody issued: text, a JWT without a signature and
// one with a wrong signature. The claims of the JWTs are right.
func (w *walk) refuses(ctx context.Context) (string, *mistake) {
	const verify = "verify the signature against the issuer's key set, then issuer, audience and expiry; docs/guide/protect shows how"
	now := w.Now().Unix()
	claims := map[string]any{
		"iss": w.issuers[0], "aud": w.URL, "sub": "postern-doctor", "client_id": "postern-doctor",
		"iat": now, "exp": now + 300, "scope": w.challenge.params["scope"],
	}
	alg := text(w.key, "alg")
	if alg == "" {
		alg = "ES256"
	}
	signature := base64.RawURLEncoding.EncodeToString(slices.Repeat([]byte{1}, 64))
	var last answer
	for _, try := range []struct{ name, token string }{
		{"that nobody issued", "postern-doctor-has-no-token"},
		{"without a signature (alg none)", unsigned(map[string]any{"typ": "at+jwt", "alg": "none"}, claims)},
		{"with a forged signature", unsigned(map[string]any{"typ": "at+jwt", "alg": alg, "kid": text(w.key, "kid")}, claims) + signature},
	} {
		a, err := w.knock(ctx, try.token)
		if err != nil {
			return "", w.unreachable(TurnServer, w.URL, err)
		}
		switch {
		case a.status/100 == 2:
			return "", TurnServer.must(verify, "accepts a token %s", try.name)
		case a.status >= 500:
			return "", TurnServer.must("look at the server's log; a token that cannot be verified is 401", "answers %d to a token %s", a.status, try.name)
		case a.status != http.StatusUnauthorized:
			return "", TurnServer.must(`answer 401 with error="invalid_token"`, "answers %d to a token %s; clients sign in again at 401 only", a.status, try.name)
		}
		last = a
	}
	all, _ := parseChallenges(last.header.Values("WWW-Authenticate"))
	told, _ := bearer(all)
	if told.params["error"] != "invalid_token" { // RFC 6750 §3.1
		w.note(`the 401 has no error="invalid_token": clients cannot tell a bad token from none`)
	}
	if w.challenge.params["resource_metadata"] != "" && told.params["resource_metadata"] == "" {
		w.note("the 401 to a bad token has no resource_metadata, unlike the one without a token")
	}
	return "answers 401 to tokens that nobody issued", nil
}

// unsigned is a JWT up to its signature (RFC 7515 §7.1).
func unsigned(header, claims map[string]any) string {
	part := func(v map[string]any) string {
		text, err := json.Marshal(v)
		if err != nil {
			return ""
		}
		return base64.RawURLEncoding.EncodeToString(text) + "."
	}
	return part(header) + part(claims)
}

// claims reads Token as the MCP server should.
func (w *walk) claims(context.Context) (string, *mistake) {
	if w.Token == "" {
		return "", nil
	}
	claims, ok := readClaims(w.Token)
	if !ok {
		w.note("the token is opaque: only the authorization server knows what is in it")
		return "cannot be looked at", nil
	}
	if issuer := text(claims, "iss"); !slices.Contains(w.issuers, issuer) {
		return "", TurnClient.must("sign in at an authorization server that the MCP server names", "the token is from %q, and the MCP server trusts %s", issuer, strings.Join(w.issuers, " and "))
	}
	audience := texts(claims, "aud")
	if one := text(claims, "aud"); one != "" {
		audience = []string{one}
	}
	right := slices.ContainsFunc(audience, w.isURL)
	switch {
	case right:
	case slices.ContainsFunc(audience, w.isNear):
		w.note("the token is for %q; only the server knows whether that is the same", strings.Join(audience, " "))
	default:
		return "", TurnClient.must("send resource="+w.URL+" with the authorization and the token request; if it was sent, the authorization server must put it into aud (RFC 8707)",
			"the token is for %q, not for %q", strings.Join(audience, " "), w.URL)
	}
	now := w.Now()
	expires, ok := claims["exp"].(float64)
	if !ok {
		return "", TurnAuthorizationServer.must("give every access token an exp (RFC 9068 §2.2)", "the token has no expiry")
	}
	end := time.Unix(int64(expires), 0).UTC()
	if !now.Before(end) {
		return "", TurnClient.must("refresh the token or sign in again", "the token ended at %s", end.Format(time.DateTime))
	}
	if begin, ok := claims["nbf"].(float64); ok && now.Add(ClockTolerance).Before(time.Unix(int64(begin), 0)) {
		return "", TurnAuthorizationServer.must("set the clocks by NTP", "the token is not valid yet")
	}
	for _, name := range []string{"nonce", "at_hash", "c_hash"} {
		if _, ok := claims[name]; ok {
			return "", TurnClient.must("send access_token, not id_token", "the token is an ID token: it has %s", name)
		}
	}
	scopes := append(strings.Fields(text(claims, "scope")), texts(claims, "scp")...)
	var lacks []string
	for _, scope := range strings.Fields(w.challenge.params["scope"]) {
		if !slices.Contains(scopes, scope) {
			lacks = append(lacks, scope)
		}
	}
	if len(lacks) > 0 {
		w.note("it lacks %s, which the challenge asks for", strings.Join(lacks, " "))
	}
	w.judged = right
	return fmt.Sprintf("issuer and times are right, ends in %s, scope: %s", end.Sub(now).Round(time.Second), orNone(scopes)), nil
}

// isNear reports whether a resource identifier is at the MCP server's origin:
// one server may have several addresses, and its tokens the name of one.
func (w *walk) isNear(resource string) bool {
	a, err := url.Parse(resource)
	b, errURL := url.Parse(w.URL)
	return err == nil && errURL == nil && a.Scheme == b.Scheme && a.Host == b.Host
}

// readClaims decodes a JWT without verifying it.
func readClaims(token string) (map[string]any, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, false
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, false
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil || claims == nil {
		return nil, false
	}
	return claims, true
}

// modern is the revision that knows no initialize.
const modern = "2026-07-28"

// initialize opens the server with Token.
func (w *walk) initialize(ctx context.Context) (string, *mistake) {
	if w.Token == "" {
		return "", nil
	}
	a, err := w.knock(ctx, w.Token)
	if err == nil && a.status == http.StatusMethodNotAllowed && w.method == http.MethodPost { // behind its check it takes no POST
		w.note(oldTransport)
		w.method = http.MethodGet
		a, err = w.knock(ctx, w.Token)
	}
	if err != nil {
		return "", w.unreachable(TurnServer, w.URL, err)
	}
	m, isMessage := readMessage(a.body)
	if isMessage && m.Error != nil && a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
		w.revision = modern // it let us in, and has no initialize
		return "takes the token, and knows no initialize", nil
	}
	if wrong := w.letIn(a); wrong != nil {
		return "", wrong
	}
	if w.method == http.MethodGet {
		return "opens its event stream to the token", nil
	}
	if !isMessage || m.Result == nil {
		return "", TurnServer.must("answer initialize with JSON or an event stream; correct the URL if this is no MCP endpoint", "takes the token, but answers initialize with %q that is no JSON-RPC answer", a.kind())
	}
	w.session, w.revision = a.header.Get("Mcp-Session-Id"), text(m.Result, "protocolVersion")
	return fmt.Sprintf("takes the token, speaks %q", w.revision), nil
}

// letIn judges the answer to a request with Token.
func (w *walk) letIn(a answer) *mistake {
	all, _ := parseChallenges(a.header.Values("WWW-Authenticate"))
	told, _ := bearer(all)
	why := saying(map[string]any{"error": told.params["error"], "error_description": told.params["error_description"]})
	switch {
	case a.status/100 == 2:
		return nil
	case a.status == http.StatusUnauthorized && w.judged:
		return TurnServer.must("compare issuer, resource and clock in the server's settings with the claims, and look at its log; it may also be revoked, or signed with a key that is not in the key set",
			"answers 401%s to a token whose claims are right", why)
	case a.status == http.StatusUnauthorized:
		return TurnClient.must("sign in again; if that does not help, look at the server's log", "answers 401%s to the token", why)
	case a.status == http.StatusForbidden && told.params["error"] == "insufficient_scope":
		return TurnClient.must(fmt.Sprintf("sign in again and ask for the scope %q", told.params["scope"]), "answers 403%s: the token lacks a scope", why)
	case a.status == http.StatusForbidden:
		return TurnServer.must("look at the server's log: whoever signed in may lack a role, or a check of Host or Origin refuses", "answers 403%s to the token", why)
	}
	return TurnServer.must("look at the server's log", "answers %d to a request with the token", a.status)
}

// tools lists what the token opens.
func (w *walk) tools(ctx context.Context) (string, *mistake) {
	if w.Token == "" || w.method == http.MethodGet {
		return "", nil
	}
	body := `{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{}}`
	header := http.Header{
		"Authorization": {"Bearer " + w.Token}, "Content-Type": {"application/json"}, "Accept": {"application/json, " + eventStream},
		"Mcp-Protocol-Version": {w.revision},
	}
	if w.revision == modern {
		header.Set("Mcp-Method", "tools/list")
		body = `{"jsonrpc":"2.0","id":2,"method":"tools/list","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"` + modern +
			`","io.modelcontextprotocol/clientInfo":{"name":"postern-doctor","version":"1"},"io.modelcontextprotocol/clientCapabilities":{}}}}`
	} else {
		if w.session != "" {
			header.Set("Mcp-Session-Id", w.session)
		}
		if _, err := w.send(ctx, http.MethodPost, w.URL, header, `{"jsonrpc":"2.0","method":"notifications/initialized"}`); err != nil {
			return "", w.unreachable(TurnServer, w.URL, err)
		}
	}
	a, err := w.send(ctx, http.MethodPost, w.URL, header, body)
	if w.session != "" {
		_, _ = w.send(ctx, http.MethodDelete, w.URL, header, "") // otherwise the server ends the session by itself
	}
	if err != nil {
		return "", w.unreachable(TurnServer, w.URL, err)
	}
	m, ok := readMessage(a.body)
	if ok && m.Error != nil && a.status != http.StatusUnauthorized && a.status != http.StatusForbidden {
		if m.Error.Code == -32601 {
			return "the server has no tools", nil
		}
		return "", TurnServer.must("look at the server's log", "answers tools/list with the error %d %q", m.Error.Code, m.Error.Message)
	}
	if wrong := w.letIn(a); wrong != nil {
		return "", wrong
	}
	list, ok := m.Result["tools"].([]any)
	if !ok {
		return "", TurnServer.must("answer tools/list with a list of tools", "answers tools/list without a list of tools")
	}
	return fmt.Sprintf("the token opens %d tools", len(list)), nil
}

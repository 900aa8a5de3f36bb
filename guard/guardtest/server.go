package guardtest

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// code is an authorization code that waits to be redeemed.
type code struct {
	token       Token
	challenge   string
	redirectURI string
}

func (i *Issuer) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/oauth-authorization-server", i.metadata)
	mux.HandleFunc("GET /.well-known/openid-configuration", i.metadata)
	mux.HandleFunc("GET /jwks", i.jwks)
	mux.HandleFunc("GET /.well-known/rbac-policy", i.servePolicy)
	mux.HandleFunc("GET /authorize", i.authorize)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("POST /introspect", i.introspect)
	mux.HandleFunc("POST /revoke", i.revoke)
	mux.HandleFunc("GET /logout", i.logout)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		i.hits[r.URL.Path]++
		down := i.down
		i.mu.Unlock()
		if down {
			answer(w, http.StatusInternalServerError, map[string]any{"error": "server_error"})
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(encode(v)) // the client is gone if this fails
}

func fail(w http.ResponseWriter, code string) {
	answer(w, http.StatusBadRequest, map[string]any{"error": code})
}

func (i *Issuer) metadata(w http.ResponseWriter, _ *http.Request) {
	document := map[string]any{
		"issuer":                                         i.URL,
		"authorization_endpoint":                         i.URL + "/authorize",
		"token_endpoint":                                 i.URL + "/token",
		"jwks_uri":                                       i.URL + "/jwks",
		"introspection_endpoint":                         i.URL + "/introspect",
		"revocation_endpoint":                            i.URL + "/revoke",
		"end_session_endpoint":                           i.URL + "/logout",
		"response_types_supported":                       []string{"code"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token"},
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{"none", "client_secret_basic", "client_secret_post"},
		"authorization_response_iss_parameter_supported": true,
	}
	i.mu.Lock()
	if i.policy != nil {
		document["rbac_policy_endpoint"] = i.URL + "/.well-known/rbac-policy"
	}
	i.mu.Unlock()
	answer(w, http.StatusOK, document)
}

func (i *Issuer) jwks(w http.ResponseWriter, _ *http.Request) {
	i.mu.Lock()
	defer i.mu.Unlock()
	list := []any{}
	for _, k := range i.keys {
		list = append(list, k.jwk())
	}
	answer(w, http.StatusOK, map[string]any{"keys": list})
}

// authorize says yes for the person in login_hint and goes back at once.
func (i *Issuer) authorize(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	target, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || target.Host == "" || q.Get("client_id") == "" {
		fail(w, "invalid_request")
		return
	}
	i.mu.Lock()
	problem := i.deny
	i.mu.Unlock()
	switch {
	case problem != "":
	case q.Get("response_type") != "code":
		problem = "unsupported_response_type"
	case q.Get("code_challenge_method") != "S256", q.Get("code_challenge") == "":
		problem = "invalid_request"
	case q.Get("resource") == "":
		problem = "invalid_target"
	}
	back := target.Query()
	back.Set("state", q.Get("state"))
	back.Set("iss", i.URL)
	if problem != "" {
		back.Set("error", problem)
	} else {
		name := i.id("code")
		i.mu.Lock()
		i.codes[name] = code{
			token: Token{
				Resource: q.Get("resource"), Subject: q.Get("login_hint"), ClientID: q.Get("client_id"),
				Scopes: strings.Fields(q.Get("scope")), Organization: i.members[q.Get("login_hint")],
			},
			challenge: q.Get("code_challenge"), redirectURI: q.Get("redirect_uri"),
		}
		i.mu.Unlock()
		back.Set("code", name)
	}
	target.RawQuery = back.Encode()
	http.Redirect(w, r, target.String(), http.StatusFound)
}

// token redeems codes (with PKCE) and refresh tokens, each once.
func (i *Issuer) token(w http.ResponseWriter, r *http.Request) {
	var t Token
	switch r.PostFormValue("grant_type") {
	case "authorization_code":
		i.mu.Lock()
		c, ok := i.codes[r.PostFormValue("code")]
		delete(i.codes, r.PostFormValue("code"))
		i.mu.Unlock()
		sum := sha256.Sum256([]byte(r.PostFormValue("code_verifier")))
		if !ok || segment(sum[:]) != c.challenge || r.PostFormValue("redirect_uri") != c.redirectURI {
			fail(w, "invalid_grant")
			return
		}
		t = c.token
	case "refresh_token":
		i.mu.Lock()
		old, ok := i.refresh[r.PostFormValue("refresh_token")]
		delete(i.refresh, r.PostFormValue("refresh_token"))
		i.mu.Unlock()
		if !ok {
			fail(w, "invalid_grant")
			return
		}
		t = old
	default:
		fail(w, "unsupported_grant_type")
		return
	}
	if resource := r.PostFormValue("resource"); resource != "" && resource != t.Resource {
		fail(w, "invalid_target")
		return
	}
	refresh := i.id("refresh")
	i.mu.Lock()
	i.refresh[refresh] = t
	i.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{
		"access_token": i.Mint(t), "token_type": "Bearer", "expires_in": 900,
		"refresh_token": refresh, "scope": strings.Join(t.Scopes, " "),
	})
}

// introspect answers a resource server about tokens that were minted here.
func (i *Issuer) introspect(w http.ResponseWriter, r *http.Request) {
	id, secret, _ := r.BasicAuth()
	id, errID := url.QueryUnescape(id)
	secret, errSecret := url.QueryUnescape(secret)
	if errID != nil || errSecret != nil || id != i.IntrospectionID || secret != i.IntrospectionSecret {
		answer(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
		return
	}
	token := r.PostFormValue("token")
	i.mu.Lock()
	defer i.mu.Unlock()
	if _, ok := i.refresh[token]; ok {
		answer(w, http.StatusOK, map[string]any{"active": true, "iss": i.URL, "token_use": "refresh"})
		return
	}
	claims, ok := i.issued[token]
	if !ok || i.revoked[token] {
		answer(w, http.StatusOK, map[string]any{"active": false})
		return
	}
	reply := map[string]any{"active": true, "token_type": "Bearer"}
	for name, value := range claims {
		reply[name] = value
	}
	if scopes, ok := i.narrowed[token]; ok {
		reply["scope"] = strings.Join(scopes, " ")
	}
	answer(w, http.StatusOK, reply)
}

func (i *Issuer) revoke(w http.ResponseWriter, r *http.Request) {
	token := r.PostFormValue("token")
	i.Revoke(token)
	i.mu.Lock()
	delete(i.refresh, token)
	i.mu.Unlock()
	answer(w, http.StatusOK, map[string]any{})
}

func (i *Issuer) logout(w http.ResponseWriter, r *http.Request) {
	back := r.URL.Query().Get("post_logout_redirect_uri")
	if !slices.ContainsFunc([]string{"http://", "https://"}, func(s string) bool { return strings.HasPrefix(back, s) }) {
		fail(w, "invalid_request")
		return
	}
	http.Redirect(w, r, back, http.StatusFound)
}

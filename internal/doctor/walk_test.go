package doctor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/doctor"
)

// pair is an MCP server and its authorization server, right but for what a test
// spoils.
type pair struct {
	mcp, as            *httptest.Server
	resource, doc, set map[string]any
	atMCP, atAS        map[string]http.HandlerFunc // by path, before everything else
	challenge          string
	key                *ecdsa.PrivateKey
	calls              []string // what was asked of either server
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{atMCP: map[string]http.HandlerFunc{}, atAS: map[string]http.HandlerFunc{}}
	serve := func(name string, routes map[string]http.HandlerFunc, otherwise http.HandlerFunc) *httptest.Server {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			p.calls = append(p.calls, name+" "+r.Method+" "+r.URL.Path)
			if h, ok := routes[r.URL.Path]; ok {
				h(w, r)
				return
			}
			otherwise(w, r)
		}))
		t.Cleanup(s.Close)
		return s
	}
	p.mcp, p.as = serve("mcp", p.atMCP, p.server), serve("as", p.atAS, p.authorizationServer)
	p.challenge = `Bearer resource_metadata="` + p.mcp.URL + `/.well-known/oauth-protected-resource/mcp", scope="read:notes"`
	p.resource = map[string]any{
		"resource": p.mcp.URL + "/mcp", "authorization_servers": []any{p.as.URL},
		"scopes_supported": []any{"read:notes"}, "bearer_methods_supported": []any{"header"},
	}
	p.doc = map[string]any{
		"issuer": p.as.URL, "authorization_endpoint": p.as.URL + "/authorize", "token_endpoint": p.as.URL + "/token",
		"jwks_uri": p.as.URL + "/keys", "registration_endpoint": p.as.URL + "/register",
		"code_challenge_methods_supported": []any{"S256"}, "response_types_supported": []any{"code"},
		"grant_types_supported":                          []any{"authorization_code", "refresh_token"},
		"token_endpoint_auth_methods_supported":          []any{"none"},
		"authorization_response_iss_parameter_supported": true,
	}
	var err error
	if p.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	p.set = map[string]any{"keys": []any{map[string]any{"kty": "EC", "crv": "P-256", "kid": "one", "alg": "ES256", "use": "sig"}}}
	return p
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Access-Control-Allow-Origin", "*")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

func answerPage(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	_, _ = io.WriteString(w, "<!doctype html><title>Welcome</title>")
}

// server is the MCP server.
func (p *pair) server(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/.well-known/oauth-protected-resource/mcp" {
		answerJSON(w, http.StatusOK, p.resource)
		return
	}
	if r.URL.Path != "/mcp" {
		http.NotFound(w, r)
		return
	}
	token, sent := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case !sent:
		if p.challenge != "" {
			w.Header().Set("WWW-Authenticate", p.challenge)
		}
		answerJSON(w, http.StatusUnauthorized, nil)
	case !p.verify(token):
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", `+strings.TrimPrefix(p.challenge, "Bearer "))
		answerJSON(w, http.StatusUnauthorized, nil)
	default:
		p.methods(w, r)
	}
}

// methods is what stands behind the check.
func (p *pair) methods(w http.ResponseWriter, r *http.Request) {
	var asked struct{ Method string }
	_ = json.NewDecoder(r.Body).Decode(&asked)
	switch asked.Method {
	case "initialize":
		w.Header().Set("Mcp-Session-Id", "session")
		answerJSON(w, http.StatusOK, map[string]any{"jsonrpc": "2.0", "id": 1, "result": map[string]any{"protocolVersion": "2025-11-25"}})
	case "tools/list": // by an event stream, after a notification
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "event: message\r\ndata: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\r\n\r\n"+
			"data: {\"jsonrpc\":\"2.0\",\"id\":2,\ndata: \"result\":{\"tools\":[{\"name\":\"a\"},{\"name\":\"b\"}]}}\n\n")
		w.(http.Flusher).Flush()
		<-r.Context().Done() // as a server that leaves the stream open
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

// sign makes an access token; change spoils its claims.
func (p *pair) sign(t *testing.T, change func(claims map[string]any)) string {
	t.Helper()
	claims := map[string]any{"iss": p.as.URL, "aud": p.mcp.URL + "/mcp", "exp": time.Now().Add(time.Hour).Unix(), "scope": "read:notes"}
	if change != nil {
		change(claims)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString([]byte(`{"typ":"at+jwt","alg":"ES256","kid":"one"}`)) + "." + base64.RawURLEncoding.EncodeToString(body)
	sum := sha256.Sum256([]byte(text))
	signature, err := ecdsa.SignASN1(rand.Reader, p.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func (p *pair) verify(token string) bool {
	i := strings.LastIndex(token, ".")
	if i < 0 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	sum := sha256.Sum256([]byte(token[:i]))
	return err == nil && ecdsa.VerifyASN1(&p.key.PublicKey, sum[:], signature)
}

func (p *pair) authorizationServer(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/.well-known/oauth-authorization-server":
		answerJSON(w, http.StatusOK, p.doc)
	case "/keys":
		answerJSON(w, http.StatusOK, p.set)
	case "/register":
		answerJSON(w, http.StatusCreated, map[string]any{"client_id": "client-one"})
	case "/authorize":
		w.WriteHeader(http.StatusBadRequest)
	case "/token":
		answerJSON(w, http.StatusBadRequest, map[string]any{"error": "invalid_grant"})
	default:
		http.NotFound(w, r)
	}
}

func walk(t *testing.T, c doctor.WalkConfig) []doctor.Result {
	t.Helper()
	c.Client = &http.Client{Timeout: 5 * time.Second}
	if c.Now == nil {
		c.Now = time.Now
	}
	results, err := doctor.Walk(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

// checks are the names of the steps, with those that failed and those that
// have notes marked.
func checks(results []doctor.Result) []string {
	var all []string
	for _, r := range results {
		name := r.Check
		if !r.OK {
			name += " FAIL"
		}
		if len(r.Notes) > 0 {
			name += " note"
		}
		all = append(all, name)
	}
	return all
}

func TestWalkPastTheRightPair(t *testing.T) {
	p := newPair(t)
	for _, test := range []struct {
		name   string
		config doctor.WalkConfig
		want   []string
	}{
		{"without a token", doctor.WalkConfig{URL: p.mcp.URL + "/mcp"}, []string{
			"reachable", "challenge", "resource", "metadata", "authorize", "token", "keys", "refusal", "clock",
		}},
		{"with a registration and a token", doctor.WalkConfig{URL: p.mcp.URL + "/mcp", Register: true, Token: p.sign(t, nil)}, []string{
			"reachable", "challenge", "resource", "metadata", "register", "authorize", "token", "keys", "refusal", "clock", "claims", "initialize", "tools/list",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p.calls = nil
			results := walk(t, test.config)
			if diff := cmp.Diff(test.want, checks(results)); diff != "" {
				t.Errorf("steps (-want +got):\n%s\n%+v", diff, results)
			}
			for _, r := range results {
				if r.Turn != "" || r.Fix != "" {
					t.Errorf("%s passed, but it is somebody's turn: %+v", r.Check, r)
				}
				if want := map[bool]string{true: p.as.URL, false: test.config.URL}[slices.Contains([]string{"metadata", "register", "authorize", "token", "keys"}, r.Check)]; r.Subject != want {
					t.Errorf("%s is about %s, want %s", r.Check, r.Subject, want)
				}
			}
			if slices.Contains(p.calls, "as POST /register") != test.config.Register {
				t.Errorf("a client was registered though it was not asked for, or the other way round: %q", p.calls)
			}
			if last := results[len(results)-1]; test.config.Token != "" && last.Seen != "the token opens 2 tools" {
				t.Errorf("got %q at the end", last.Seen)
			}
		})
	}
}

// Whatever one thing is wrong, the walk ends there and says so.
func TestWalkNamesTheFirstMistake(t *testing.T) {
	const metadata = "/.well-known/oauth-authorization-server"
	register := func(_ *pair, _ *testing.T, c *doctor.WalkConfig) { c.Register = true }
	token := func(change func(p *pair, claims map[string]any)) func(*pair, *testing.T, *doctor.WalkConfig) {
		return func(p *pair, t *testing.T, c *doctor.WalkConfig) {
			c.Token = p.sign(t, func(claims map[string]any) { change(p, claims) })
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	for _, test := range []struct {
		name  string
		spoil func(p *pair)
		with  func(p *pair, t *testing.T, c *doctor.WalkConfig)
		check string
		turn  doctor.Turn
		seen  string
	}{
		{
			"nobody there", func(p *pair) { p.mcp.Close() }, nil,
			"reachable", doctor.TurnServer, "refused",
		},
		{
			"nothing protects the server", func(p *pair) { p.atMCP["/mcp"] = p.methods }, nil,
			"reachable", doctor.TurnServer, "nothing protects it",
		},
		{
			"no MCP server at the address", func(p *pair) { p.atMCP["/mcp"] = http.NotFound }, nil,
			"reachable", doctor.TurnClient, "404",
		},
		{
			"403 instead of 401", func(p *pair) { p.atMCP["/mcp"] = status(http.StatusForbidden) }, nil,
			"reachable", doctor.TurnServer, "403",
		},
		{
			"another host name", func(p *pair) { p.atMCP["/mcp"] = status(http.StatusMisdirectedRequest) }, nil,
			"reachable", doctor.TurnServer, "does not know this host name",
		},
		{
			"a redirect to a login page", func(p *pair) {
				p.atMCP["/mcp"] = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) }
			}, nil,
			"reachable", doctor.TurnServer, "302",
		},
		{
			"an event stream without a token", func(p *pair) {
				p.atMCP["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
					if r.Method != http.MethodGet {
						p.server(w, r)
						return
					}
					w.Header().Set("Content-Type", "text/event-stream")
					w.(http.Flusher).Flush()
					<-r.Context().Done()
				}
			}, nil,
			"reachable", doctor.TurnServer, "GET answers 200",
		},
		{
			"no WWW-Authenticate", func(p *pair) { p.challenge = "" }, nil,
			"challenge", doctor.TurnServer, "no WWW-Authenticate",
		},
		{
			"another scheme", func(p *pair) { p.challenge = `Basic realm="notes"` }, nil,
			"challenge", doctor.TurnServer, "does not ask for a Bearer token",
		},
		{
			"a challenge that cannot be read", func(p *pair) { p.challenge = `Bearer resource_metadata="` + p.mcp.URL }, nil,
			"challenge", doctor.TurnServer, "cannot be read",
		},
		{
			"a relative address of the metadata", func(p *pair) {
				p.challenge = `Bearer resource_metadata="/.well-known/oauth-protected-resource/mcp"`
			}, nil,
			"challenge", doctor.TurnServer, "not an absolute https URL",
		},
		{
			"no metadata anywhere", func(p *pair) {
				p.challenge = "Bearer"
				p.atMCP["/.well-known/oauth-protected-resource/mcp"] = http.NotFound
			}, nil,
			"resource", doctor.TurnServer, "the challenge names none",
		},
		{
			"a page instead of the metadata", func(p *pair) { p.atMCP["/.well-known/oauth-protected-resource/mcp"] = answerPage }, nil,
			"resource", doctor.TurnServer, "text/html",
		},
		{
			"metadata behind a redirect to another host", func(p *pair) {
				p.atMCP["/.well-known/oauth-protected-resource/mcp"] = func(w http.ResponseWriter, r *http.Request) {
					http.Redirect(w, r, p.as.URL+metadata, http.StatusFound)
				}
			}, nil,
			"resource", doctor.TurnServer, "302",
		},
		{
			"the resource of another host", func(p *pair) { p.resource["resource"] = "http://localhost:8000/mcp" }, nil,
			"resource", doctor.TurnServer, `"http://localhost:8000/mcp"`,
		},
		{
			"the origin as resource", func(p *pair) { p.resource["resource"] = p.mcp.URL }, nil,
			"resource", doctor.TurnServer, "clients refuse it",
		},
		{
			"no authorization server", func(p *pair) { p.resource["authorization_servers"] = []any{} }, nil,
			"resource", doctor.TurnServer, "names no authorization server",
		},
		{
			"a document instead of an issuer", func(p *pair) { p.resource["authorization_servers"] = []any{p.as.URL + metadata} }, nil,
			"resource", doctor.TurnServer, "is no issuer",
		},
		{
			"an authorization server that is not there", func(p *pair) { p.as.Close() }, nil,
			"metadata", doctor.TurnAuthorizationServer, "refused",
		},
		{
			"an authorization server without metadata", func(p *pair) { p.atAS[metadata] = http.NotFound }, nil,
			"metadata", doctor.TurnAuthorizationServer, "no metadata",
		},
		{
			"a page for every path", func(p *pair) { p.atAS[metadata] = answerPage }, nil,
			"metadata", doctor.TurnAuthorizationServer, "text/html",
		},
		{
			"metadata that breaks", func(p *pair) { p.atAS[metadata] = status(http.StatusInternalServerError) }, nil,
			"metadata", doctor.TurnAuthorizationServer, "500",
		},
		{
			"too much metadata", func(p *pair) { p.doc["x"] = strings.Repeat("x", 1<<20) }, nil,
			"metadata", doctor.TurnAuthorizationServer, "more than 1 MiB",
		},
		{
			"another issuer", func(p *pair) { p.doc["issuer"] = p.as.URL + "/" }, nil,
			"metadata", doctor.TurnAuthorizationServer, "has the issuer",
		},
		{
			"an endpoint without https", func(p *pair) { p.doc["token_endpoint"] = "http://login.example.com/token" }, nil,
			"metadata", doctor.TurnAuthorizationServer, "is not https",
		},
		{
			"no S256", func(p *pair) { p.doc["code_challenge_methods_supported"] = []any{"plain"} }, nil,
			"metadata", doctor.TurnAuthorizationServer, "S256",
		},
		{
			"no code", func(p *pair) { p.doc["response_types_supported"] = []any{"token"} }, nil,
			"metadata", doctor.TurnAuthorizationServer, "response_types_supported",
		},
		{
			"a registration that is refused", func(p *pair) { p.atAS["/register"] = status(http.StatusForbidden) }, register,
			"register", doctor.TurnAuthorizationServer, "403",
		},
		{
			"no authorization page", func(p *pair) { p.atAS["/authorize"] = http.NotFound }, nil,
			"authorize", doctor.TurnAuthorizationServer, "404",
		},
		{
			"an open redirect", func(p *pair) {
				p.atAS["/authorize"] = func(w http.ResponseWriter, r *http.Request) {
					if to := r.URL.Query().Get("redirect_uri"); to != "" {
						http.Redirect(w, r, to+"?error=invalid_request", http.StatusFound)
					}
				}
			}, register,
			"authorize", doctor.TurnAuthorizationServer, "never registered",
		},
		{
			"an open redirect by a header of a page", func(p *pair) {
				p.atAS["/authorize"] = func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Refresh", "0; url="+r.URL.Query().Get("redirect_uri"))
				}
			}, register,
			"authorize", doctor.TurnAuthorizationServer, "never registered",
		},
		{
			"no token endpoint", func(p *pair) { p.atAS["/token"] = http.NotFound }, nil,
			"token", doctor.TurnAuthorizationServer, "404",
		},
		{
			"a page for a token endpoint", func(p *pair) { p.atAS["/token"] = answerPage }, nil,
			"token", doctor.TurnAuthorizationServer, "200",
		},
		{
			"an error page for a wrong code", func(p *pair) {
				p.atAS["/token"] = func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/html")
					w.WriteHeader(http.StatusBadRequest)
				}
			}, nil,
			"token", doctor.TurnAuthorizationServer, "OAuth error",
		},
		{
			"a client that is forgotten at once", func(p *pair) {
				p.atAS["/token"] = func(w http.ResponseWriter, _ *http.Request) {
					answerJSON(w, http.StatusUnauthorized, map[string]any{"error": "invalid_client"})
				}
			}, register,
			"token", doctor.TurnAuthorizationServer, "just registered",
		},
		{
			"no key", func(p *pair) { p.set["keys"] = []any{} }, nil,
			"keys", doctor.TurnAuthorizationServer, "no key",
		},
		{
			"a private key", func(p *pair) { p.set["keys"].([]any)[0].(map[string]any)["d"] = "x" }, nil,
			"keys", doctor.TurnAuthorizationServer, "private",
		},
		{
			"a shared secret", func(p *pair) { p.set["keys"] = []any{map[string]any{"kty": "oct", "k": "x"}} }, nil,
			"keys", doctor.TurnAuthorizationServer, "private or secret",
		},
		{
			"any token will do", func(p *pair) {
				p.atMCP["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") == "" {
						p.server(w, r)
						return
					}
					p.methods(w, r)
				}
			}, nil,
			"refusal", doctor.TurnServer, "accepts a token that nobody issued",
		},
		{
			"signatures are not verified", func(p *pair) { p.atMCP["/mcp"] = p.decodesOnly(func(alg string) bool { return alg != "none" }) }, nil,
			"refusal", doctor.TurnServer, "accepts a token with a forged signature",
		},
		{
			"alg none is accepted", func(p *pair) { p.atMCP["/mcp"] = p.decodesOnly(func(alg string) bool { return alg == "none" }) }, nil,
			"refusal", doctor.TurnServer, "accepts a token without a signature",
		},
		{
			"a bad token breaks the server", func(p *pair) {
				p.atMCP["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") != "" {
						w.WriteHeader(http.StatusInternalServerError)
						return
					}
					p.server(w, r)
				}
			}, nil,
			"refusal", doctor.TurnServer, "500",
		},
		{
			"two clocks", func(p *pair) {
				p.atAS["/token"] = func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Date", time.Now().Add(-time.Minute).UTC().Format(http.TimeFormat))
					p.authorizationServer(w, r)
				}
			}, nil,
			"clock", doctor.TurnServer, "1m0s apart",
		},
		{
			"a token of another issuer", nil, token(func(_ *pair, claims map[string]any) { claims["iss"] = "https://login.example.com" }),
			"claims", doctor.TurnClient, `from "https://login.example.com"`,
		},
		{
			"a token for another server", nil, token(func(p *pair, claims map[string]any) { claims["aud"] = []any{p.as.URL} }),
			"claims", doctor.TurnClient, "the token is for",
		},
		{
			"a token that has ended", nil, token(func(_ *pair, claims map[string]any) { claims["exp"] = time.Now().Add(-time.Hour).Unix() }),
			"claims", doctor.TurnClient, "ended at",
		},
		{
			"an ID token", nil, token(func(_ *pair, claims map[string]any) { claims["nonce"] = "n" }),
			"claims", doctor.TurnClient, "an ID token",
		},
		{
			"a right token that is refused", func(p *pair) { p.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader) },
			func(p *pair, t *testing.T, c *doctor.WalkConfig) {
				other := newPair(t)
				c.Token = other.sign(t, func(claims map[string]any) { claims["iss"], claims["aud"] = p.as.URL, p.mcp.URL+"/mcp" })
			},
			"initialize", doctor.TurnServer, "whose claims are right",
		},
		{
			"a scope that is missing", func(p *pair) {
				p.atMCP["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
					if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok || !p.verify(token) {
						p.server(w, r)
						return
					}
					w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="write:notes"`)
					w.WriteHeader(http.StatusForbidden)
				}
			}, token(func(*pair, map[string]any) {}),
			"initialize", doctor.TurnClient, "lacks a scope",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t)
			c := doctor.WalkConfig{URL: p.mcp.URL + "/mcp"}
			if test.spoil != nil {
				test.spoil(p)
			}
			if test.with != nil {
				test.with(p, t, &c)
			}
			results := walk(t, c)
			for _, r := range results[:len(results)-1] {
				if !r.OK {
					t.Errorf("something comes after what is wrong: %+v", r)
				}
			}
			last := results[len(results)-1]
			if last.OK || last.Check != test.check || last.Turn != test.turn || !strings.Contains(last.Seen, test.seen) || last.Fix == "" {
				t.Errorf("got %+v, want %s, %s, %q", last, test.check, test.turn, test.seen)
			}
		})
	}
}

// decodesOnly is a server that looks into a token and verifies nothing.
func (p *pair) decodesOnly(accepts func(alg string) bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		first, _, _ := strings.Cut(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), ".")
		text, err := base64.RawURLEncoding.DecodeString(first)
		var header struct{ Alg string }
		if err != nil || json.Unmarshal(text, &header) != nil || !accepts(header.Alg) {
			p.server(w, r)
			return
		}
		p.methods(w, r)
	}
}

// What only some clients stumble over stands beside the step, and the walk goes on.
func TestWalkNotes(t *testing.T) {
	for _, test := range []struct {
		name  string
		spoil func(p *pair)
		check string
		note  string
	}{
		{"no resource_metadata", func(p *pair) { p.challenge = "Bearer" }, "challenge", "clients guess"},
		{"an error without a token", func(p *pair) { p.challenge += `, error="invalid_token"` }, "challenge", "no token was sent"},
		{"a slash", func(p *pair) { p.resource["resource"] = p.mcp.URL + "/mcp/" }, "resource", "slash"},
		{"no scopes", func(p *pair) { delete(p.resource, "scopes_supported") }, "resource", "scopes_supported"},
		{"offline_access", func(p *pair) { p.resource["scopes_supported"] = []any{"offline_access"} }, "resource", "offline_access"},
		{"metadata that has moved", func(p *pair) {
			p.atMCP["/.well-known/oauth-protected-resource/mcp"] = func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/prm", http.StatusFound)
			}
			p.atMCP["/prm"] = func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, http.StatusOK, p.resource) }
		}, "resource", "redirects"},
		{"only the OpenID document", func(p *pair) {
			p.atAS["/.well-known/oauth-authorization-server"] = http.NotFound
			delete(p.doc, "authorization_response_iss_parameter_supported")
			p.atAS["/.well-known/openid-configuration"] = func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, http.StatusOK, p.doc) }
		}, "metadata", "RFC 9207"},
		{"no registration", func(p *pair) { delete(p.doc, "registration_endpoint") }, "metadata", "register every client in advance"},
		{"no public clients", func(p *pair) { delete(p.doc, "token_endpoint_auth_methods_supported") }, "metadata", "lacks none"},
		{"no CORS", func(p *pair) {
			p.atAS["/.well-known/oauth-authorization-server"] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(p.doc)
			}
		}, "metadata", "in a browser"},
		{"another server's resources", func(p *pair) { p.doc["protected_resources"] = []any{"https://other.example.com/mcp"} }, "metadata", "protected_resources"},
		{"no key set", func(p *pair) { delete(p.doc, "jwks_uri") }, "keys", "introspection"},
		{"a key without kid", func(p *pair) { delete(p.set["keys"].([]any)[0].(map[string]any), "kid") }, "keys", "no kid"},
		{"the old transport", func(p *pair) {
			p.atMCP["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodPost {
					w.WriteHeader(http.StatusMethodNotAllowed)
					return
				}
				p.server(w, r)
			}
		}, "reachable", "old transport"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPair(t)
			test.spoil(p)
			found := false
			for _, r := range walk(t, doctor.WalkConfig{URL: p.mcp.URL + "/mcp"}) {
				if !r.OK {
					t.Errorf("the walk ended: %+v", r)
				}
				found = found || r.Check == test.check && strings.Contains(strings.Join(r.Notes, "\n"), test.note)
			}
			if !found {
				t.Errorf("no note at %s has %q", test.check, test.note)
			}
		})
	}
}

// A server of the newest revision alone has no initialize.
func TestWalkWithTheNewestRevision(t *testing.T) {
	p := newPair(t)
	p.atMCP["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
		if token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer "); !ok || !p.verify(token) {
			p.server(w, r)
			return
		}
		if r.Header.Get("Mcp-Protocol-Version") != "2026-07-28" || r.Header.Get("Mcp-Method") != "tools/list" {
			answerJSON(w, http.StatusBadRequest, map[string]any{"jsonrpc": "2.0", "id": 1, "error": map[string]any{"code": -32022, "message": "unsupported"}})
			return
		}
		answerJSON(w, http.StatusOK, map[string]any{"jsonrpc": "2.0", "id": 2, "result": map[string]any{"tools": []any{map[string]any{"name": "a"}}}})
	}
	results := walk(t, doctor.WalkConfig{URL: p.mcp.URL + "/mcp", Token: p.sign(t, nil)})
	if last := results[len(results)-1]; !last.OK || last.Seen != "the token opens 1 tools" {
		t.Errorf("got %+v", last)
	}
}

// Whether a token for another address of the same origin will do is the
// server's to say.
func TestWalkWithATokenForAnAlias(t *testing.T) {
	p := newPair(t)
	token := p.sign(t, func(claims map[string]any) { claims["aud"] = p.mcp.URL + "/sse" })
	results := walk(t, doctor.WalkConfig{URL: p.mcp.URL + "/mcp", Token: token})
	got := checks(results)
	if want := []string{"claims note", "initialize", "tools/list"}; !slices.Equal(got[len(got)-3:], want) {
		t.Errorf("got %q, want %q at the end", got, want)
	}
}

// The old transport may show itself only behind the check of the token.
func TestWalkWithTheOldTransport(t *testing.T) {
	p := newPair(t)
	p.atMCP["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		switch {
		case !ok || !p.verify(token):
			p.server(w, r)
		case r.Method != http.MethodGet:
			w.WriteHeader(http.StatusMethodNotAllowed)
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}
	results := walk(t, doctor.WalkConfig{URL: p.mcp.URL + "/mcp", Token: p.sign(t, nil)})
	if last := results[len(results)-1]; !last.OK || last.Check != "initialize" || len(last.Notes) != 1 || !strings.Contains(last.Seen, "event stream") {
		t.Errorf("got %+v", last)
	}
}

// An issuer with a path is asked at three places, in the order of the specification.
func TestWalkFindsAnIssuerWithAPath(t *testing.T) {
	p := newPair(t)
	issuer := p.as.URL + "/notes"
	p.resource["authorization_servers"], p.doc["issuer"] = []any{issuer}, issuer
	p.atAS["/notes/.well-known/openid-configuration"] = func(w http.ResponseWriter, _ *http.Request) { answerJSON(w, http.StatusOK, p.doc) }
	results := walk(t, doctor.WalkConfig{URL: p.mcp.URL + "/mcp"})
	if last := results[len(results)-1]; !last.OK {
		t.Fatalf("got %+v", last)
	}
	var asked []string
	for _, call := range p.calls {
		if strings.Contains(call, "as GET") && strings.Contains(call, "well-known") {
			asked = append(asked, strings.TrimPrefix(call, "as GET "))
		}
	}
	want := []string{"/.well-known/oauth-authorization-server/notes", "/.well-known/openid-configuration/notes", "/notes/.well-known/openid-configuration"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Errorf("places (-want +got):\n%s", diff)
	}
}

// The token is sent to the MCP server alone, and is in no result, even when the
// server repeats it.
func TestWalkKeepsTheToken(t *testing.T) {
	p := newPair(t)
	token := p.sign(t, nil)
	leaked := func(h http.Header, body string) bool {
		return strings.Contains(h.Get("Authorization"), token) || strings.Contains(body, token)
	}
	inner := p.as.Config.Handler
	p.as.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if leaked(r.Header, string(body)+r.URL.String()) {
			t.Errorf("the authorization server got the token: %s", r.URL.Path)
		}
		inner.ServeHTTP(w, r)
	})
	p.atMCP["/mcp"] = func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			p.server(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token", error_description="`+token+`"`)
		w.WriteHeader(http.StatusUnauthorized)
	}
	results := walk(t, doctor.WalkConfig{URL: p.mcp.URL + "/mcp", Token: token})
	text, err := json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), token) || !strings.Contains(string(text), "[the token]") {
		t.Errorf("got %s", text)
	}
}

// An address on the internet leads nobody to this computer, and nothing is sent
// over plain http.
func TestWalkGoesNowhereUnsafe(t *testing.T) {
	for address, want := range map[string]string{
		"http://notes.example.com/mcp":         "not https",
		"":                                     "not an absolute https URL",
		"notes.example.com/mcp":                "not an absolute https URL",
		"ftp://notes.example.com":              "not an absolute https URL",
		"https://ada:secret@notes.example.com": "name or password",
		"https://notes.example.com/mcp#top":    "fragment",
	} {
		c := doctor.WalkConfig{URL: address, Client: &http.Client{Transport: noWay{t}}, Now: time.Now}
		results, err := doctor.Walk(t.Context(), c)
		if err != nil || len(results) != 1 || results[0].OK || results[0].Check != "address" || !strings.Contains(results[0].Seen, want) || strings.Contains(results[0].Seen, "secret") {
			t.Errorf("%s: got %+v, %v", address, results, err)
		}
	}
	p := newPair(t)
	for _, named := range []string{p.mcp.URL + "/prm", "http://127.0.0.1:1/prm", "https://localhost/prm", "https://[::1]/prm"} {
		far := &http.Client{Transport: far{p, t}}
		p.challenge = `Bearer resource_metadata="` + named + `"`
		results, err := doctor.Walk(t.Context(), doctor.WalkConfig{URL: "https://notes.example.com/mcp", Client: far, Now: time.Now})
		if err != nil {
			t.Fatal(err)
		}
		if last := results[len(results)-1]; last.OK || last.Check != "challenge" || !strings.Contains(last.Seen, "its own computer") {
			t.Errorf("%s: got %+v", named, last)
		}
	}
}

type noWay struct{ t *testing.T }

func (n noWay) RoundTrip(r *http.Request) (*http.Response, error) {
	n.t.Errorf("%s was asked", r.URL)
	return nil, io.ErrUnexpectedEOF
}

// far is the MCP server as https://notes.example.com.
type far struct {
	p *pair
	t *testing.T
}

func (f far) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Host != "notes.example.com" {
		return noWay{f.t}.RoundTrip(r)
	}
	w := httptest.NewRecorder()
	f.p.server(w, r)
	answer := w.Result()
	answer.Request = r
	return answer, nil
}

// A name that does not exist is nobody's server.
func TestWalkNamesTheNetwork(t *testing.T) {
	results, err := doctor.Walk(t.Context(), doctor.WalkConfig{URL: "https://notes.example.com/mcp", Client: &http.Client{Transport: noName{}}, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	if last := results[len(results)-1]; last.OK || last.Turn != doctor.TurnNetwork || last.Fix != "make a DNS record for notes.example.com" {
		t.Errorf("got %+v", last)
	}
}

type noName struct{}

func (noName) RoundTrip(r *http.Request) (*http.Response, error) {
	return nil, &net.DNSError{Err: "no such host", Name: r.URL.Host, IsNotFound: true}
}

func TestWalkLooksAtFewAuthorizationServers(t *testing.T) {
	p := newPair(t)
	p.resource["authorization_servers"] = slices.Repeat([]any{p.as.URL}, 9)
	times := 0
	for _, r := range walk(t, doctor.WalkConfig{URL: p.mcp.URL + "/mcp"}) {
		if r.Check == "metadata" {
			times++
		}
	}
	if times != 4 {
		t.Errorf("%d authorization servers were looked at, want 4", times)
	}
}

func TestWalkNeedsItsConfig(t *testing.T) {
	if _, err := doctor.Walk(t.Context(), doctor.WalkConfig{URL: "https://notes.example.com/mcp"}); err == nil {
		t.Error("no client and no clock, and no error")
	}
}

func TestChallenges(t *testing.T) {
	for _, test := range []struct {
		header []string
		want   map[string]map[string]string
	}{
		{[]string{`Bearer`}, map[string]map[string]string{"Bearer": {}}},
		{[]string{`bearer realm=x`}, map[string]map[string]string{"bearer": {"realm": "x"}}},
		{[]string{`Bearer realm="a, b=\"c\"", Scope = "d e"`}, map[string]map[string]string{"Bearer": {"realm": `a, b="c"`, "scope": "d e"}}},
		{[]string{`Basic realm="x", Bearer resource_metadata="https://a/b", scope="c"`}, map[string]map[string]string{"Basic": {"realm": "x"}, "Bearer": {"resource_metadata": "https://a/b", "scope": "c"}}},
		{[]string{`Negotiate YWJj==, Bearer error=x`}, map[string]map[string]string{"Negotiate": {}, "Bearer": {"error": "x"}}},
		{[]string{`Negotiate`, `, Bearer scope=""`}, map[string]map[string]string{"Negotiate": {}, "Bearer": {"scope": ""}}},
		{[]string{`realm="x"`}, nil},
		{[]string{`Bearer realm="x`}, nil},
		{[]string{`Bearer realm="x" scope="y"`}, nil},
		{[]string{`Bearer realm=;`}, nil},
		{[]string{`Bearer a=1, a=2`}, nil},
		{[]string{`"Bearer"`}, nil},
	} {
		all, ok := doctor.ParseChallenges(test.header)
		if ok != (test.want != nil) || ok && !maps.EqualFunc(test.want, all, maps.Equal[map[string]string, map[string]string]) {
			t.Errorf("%q: got %v, %v", test.header, all, ok)
		}
	}
}

// What was read, written again, is read as the same.
func FuzzChallenges(f *testing.F) {
	f.Add(`Bearer realm="a, b=\"c\"", scope="d e"`)
	f.Add(`Negotiate YWJj==, Bearer error=x`)
	f.Fuzz(func(t *testing.T, header string) {
		all, ok := doctor.ParseChallenges([]string{header})
		if !ok {
			return
		}
		var parts []string
		for scheme, params := range all {
			part := scheme
			for name, value := range params {
				if part != scheme {
					part += ","
				}
				part += " " + name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value) + `"`
			}
			parts = append(parts, part)
		}
		again, ok := doctor.ParseChallenges([]string{strings.Join(parts, ", ")})
		if !ok || !maps.EqualFunc(all, again, maps.Equal[map[string]string, map[string]string]) {
			t.Errorf("%q was read as %v, and that as %v, %v", header, all, again, ok)
		}
	})
}

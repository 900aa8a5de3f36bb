package login_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
)

const upstreamClient, upstreamSecret = "postern-client", "s3cret/with:signs and%blanks"

// provider is an OpenID provider of a test's own. What it says about the person
// is Person; the changes make it wrong in one way.
type provider struct {
	*httptest.Server
	clock *servertest.Clock
	key   *ecdsa.PrivateKey

	mu      sync.Mutex
	codes   map[string]url.Values // code -> the authorization request
	Person  map[string]any
	Claims  func(claims map[string]any)        // changes an id_token before it is signed
	Sign    func(claims map[string]any) string // signs instead of the provider
	Meta    func(metadata map[string]any)      // changes the metadata
	Info    map[string]any                     // of the userinfo endpoint
	Token   func(w http.ResponseWriter) bool   // answers instead of the token endpoint
	Down    bool                               // answers 503 everywhere
	asked   atomic.Int64
	reached atomic.Int64 // connections, whether or not anything was asked
	redeems atomic.Int64
}

func newProvider(t *testing.T) *provider {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{key: key, codes: map[string]url.Values{}, clock: servertest.NewClock()}
	p.Person = map[string]any{"sub": "person-1", "email": "eve@example.test", "email_verified": true, "name": "Eve"}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		metadata := map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/authorize?tenant=1", "token_endpoint": p.URL + "/token",
			"jwks_uri": p.URL + "/keys", "userinfo_endpoint": p.URL + "/userinfo", "response_types_supported": []string{"code"},
			"id_token_signing_alg_values_supported": []string{"ES256"},
		}
		if p.Meta != nil {
			p.Meta(metadata)
		}
		answer(w, metadata)
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) { answer(w, p.keys()) })
	mux.HandleFunc("GET /userinfo", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer upstream-access" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		answer(w, p.Info)
	})
	mux.HandleFunc("POST /token", p.token)
	p.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.asked.Add(1)
		if p.Down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	p.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			p.reached.Add(1)
		}
	}
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

func (p *provider) keys() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: p.key.Public(), KeyID: "k1", Use: "sig", Algorithm: "ES256"}}}
}

// roots trusts the provider's certificate.
func (p *provider) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.Certificate())
	return pool
}

// token redeems a code: once, for who has the secret and the verifier.
func (p *provider) token(w http.ResponseWriter, r *http.Request) {
	p.redeems.Add(1)
	if p.Token != nil && p.Token(w) {
		return
	}
	id, secret, _ := r.BasicAuth()
	id, _ = url.QueryUnescape(id)
	secret, _ = url.QueryUnescape(secret)
	asked, ok := p.codes[r.FormValue("code")]
	delete(p.codes, r.FormValue("code"))
	sum := sha256.Sum256([]byte(r.FormValue("code_verifier")))
	if !ok || id != upstreamClient || secret != upstreamSecret || r.FormValue("redirect_uri") != asked.Get("redirect_uri") ||
		asked.Get("code_challenge") != base64.RawURLEncoding.EncodeToString(sum[:]) {
		w.WriteHeader(http.StatusBadRequest)
		answer(w, map[string]string{"error": "invalid_grant"})
		return
	}
	now := p.clock.Now().Unix()
	claims := map[string]any{"iss": p.URL, "aud": id, "iat": now, "exp": now + 300, "nonce": asked.Get("nonce")}
	maps.Copy(claims, p.Person)
	if asked.Get("max_age") == "0" {
		claims["auth_time"] = now
	}
	if p.Claims != nil {
		p.Claims(claims)
	}
	sign := func(claims map[string]any) string { return signAs(jose.ES256, p.key, "k1", claims) }
	if p.Sign != nil {
		sign = p.Sign
	}
	answer(w, map[string]any{"id_token": sign(claims), "access_token": "upstream-access", "token_type": "Bearer"})
}

func signAs(alg jose.SignatureAlgorithm, key any, id string, claims map[string]any) string {
	options := (&jose.SignerOptions{}).WithType("JWT")
	if id != "" {
		options = options.WithHeader("kid", id)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, options)
	if err != nil {
		panic(err)
	}
	text, _ := json.Marshal(claims)
	jws, err := signer.Sign(text)
	if err != nil {
		panic(err)
	}
	compact, _ := jws.CompactSerialize()
	return compact
}

// authorize plays a person who signs in at the provider: it takes an
// authorization request and returns the callback with the answer.
func (p *provider) authorize(t *testing.T, request *url.URL) *url.URL {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	q := request.Query()
	for name, want := range map[string]string{"response_type": "code", "client_id": upstreamClient, "code_challenge_method": "S256", "scope": "openid email profile", "tenant": "1"} {
		if q.Get(name) != want {
			t.Errorf("%s is %q in %s", name, q.Get(name), request)
		}
	}
	if q.Get("nonce") == "" || q.Get("code_challenge") == "" || q.Get("state") == "" || !strings.HasPrefix(request.String(), p.URL+"/authorize?") {
		t.Errorf("asked by %s", request)
	}
	code := rand.Text()
	p.codes[code] = q
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil {
		t.Fatal(err)
	}
	back.RawQuery = url.Values{"code": {code}, "state": {q.Get("state")}}.Encode()
	return back
}

// ssoOffice is a B2B project with an organization whose provider is connected.
type ssoOffice struct {
	*office
	idp    *provider
	fennel identity.Organization
	admin  *servertest.Browser
	told   []audit.Event // what was refused
}

func newSSOOffice(t *testing.T, postgres bool) *ssoOffice {
	t.Helper()
	idp := newProvider(t)
	o := &ssoOffice{idp: idp}
	told := func(e audit.Event, _ []string) {
		idp.mu.Lock()
		defer idp.mu.Unlock()
		o.told = append(o.told, e)
	}
	o.office = &office{Server: servertest.New(t, servertest.Config{
		Postgres: postgres, Vertical: project.B2B, Dev: &server.Dev{Roots: idp.roots(), Told: told},
	})}
	idp.clock = o.Clock
	o.AddResource(t, okrMCP, project.Scope{Name: "read:okrs", Description: "Read objectives", ReadOnly: true})
	o.Ready(t)
	o.app, _ = o.AddClient(t, oauth.NewClient{Name: "Claude", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{okrCallback}})
	o.fennel = o.organization(t, "Fennel Labs", nil)
	o.member(t, o.fennel, "ada@example.test", "admin")
	o.admin = o.Browser(t)
	o.admin.SignIn(t, o.admin.Get(t, "/login"), "ada@example.test")
	return o
}

// connect makes a connection on the page and switches it on.
func (o *ssoOffice) connect(t *testing.T) {
	t.Helper()
	page := o.admin.Submit(t, o.admin.Get(t, "/organization/sso"), "issuer", url.Values{
		"issuer": {o.idp.URL}, "client_id": {upstreamClient}, "client_secret": {upstreamSecret},
	})
	shows(t, page, http.StatusOK, "The connection is kept.", "Not on yet")
	page = o.admin.Submit(t, page, "connection", url.Values{"action": {"activate"}})
	shows(t, page, http.StatusOK, "Single sign-on is on.")
}

func eachSSOOffice(t *testing.T, test func(t *testing.T, o *ssoOffice)) {
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newSSOOffice(t, name == "PostgreSQL")
			o.connect(t)
			test(t, o)
		})
	}
}

func (o *ssoOffice) change(t *testing.T, id string, change func(s *identity.OrganizationSettings)) {
	t.Helper()
	_, err := o.People.ChangeOrganization(t.Context(), o.Project, id, func(f *identity.Organization) error {
		change(&f.Settings)
		return nil
	}, o.event(""))
	if err != nil {
		t.Fatal(err)
	}
}

// joinable lets everybody of example.test into the organization.
func (o *ssoOffice) joinable(t *testing.T) {
	t.Helper()
	o.change(t, o.fennel.ID, func(s *identity.OrganizationSettings) {
		s.AllowedDomains, s.Provisioning = []string{"example.test"}, true
	})
}

// start goes from a page of a flow to the provider.
func (o *ssoOffice) start(t *testing.T, b *servertest.Browser, flow servertest.Page, organization string) *url.URL {
	t.Helper()
	return b.Get(t, flow.URL.Path+"/sso?organization="+organization).Answer(t)
}

// signIn goes the whole way in a browser, and returns the page at its end.
func (o *ssoOffice) signIn(t *testing.T, b *servertest.Browser) servertest.Page {
	t.Helper()
	return b.Get(t, o.idp.authorize(t, o.start(t, b, b.Get(t, "/login"), o.fennel.ID)).String())
}

// signedInAs reports whether a browser is in an organization as somebody.
func signedInAs(t *testing.T, b *servertest.Browser, email string) bool {
	t.Helper()
	page := b.Get(t, "/connected-apps")
	return strings.Contains(page.Body, "My connected apps") && strings.Contains(page.Body, email)
}

// events are the refusals of a kind that were kept.
func (o *ssoOffice) events(kind audit.Kind) []audit.Event {
	o.idp.mu.Lock()
	defer o.idp.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(o.told), func(e audit.Event) bool { return e.Kind != kind })
}

// A member goes from a connected app's request through the organization's own
// provider to consent.
func TestSSO(t *testing.T) {
	eachSSOOffice(t, func(t *testing.T, o *ssoOffice) {
		o.joinable(t)
		b := o.Browser(t)
		flow := b.SignIn(t, b.Authorize(t, o.request("scope", "read:okrs")), "eve@example.test")
		shows(t, flow, http.StatusOK, "Fennel Labs", "Open to everybody with your e-mail domain", "Sign in with single sign-on")
		before := cookieOf(t, b, "session")
		back := o.idp.authorize(t, o.start(t, b, flow, o.fennel.ID))
		page := b.Get(t, back.String())
		shows(t, page, http.StatusOK, "Claude wants to act for you in Notes", "Fennel Labs", "eve@example.test")
		if cookieOf(t, b, "session") == before {
			t.Error("the session kept its secret")
		}
		if b.Allow(t, page).Query().Get("code") == "" {
			t.Error("no code")
		}
		members, err := o.People.Members(t.Context(), o.fennel, identity.MemberQuery{Text: "eve@", Limit: 10})
		if err != nil || len(members) != 1 || members[0].Status != identity.Active || members[0].Name != "Eve" {
			t.Fatalf("%+v, %v", members, err)
		}

		// Row: P35.
		t.Run("an answer works once", func(t *testing.T) {
			shows(t, b.Get(t, back.String()), http.StatusBadRequest, "This link is too old")
		})
		t.Run("the same person again", func(t *testing.T) {
			again := o.Browser(t)
			o.signIn(t, again)
			if !signedInAs(t, again, "eve@example.test") {
				t.Error("not signed in")
			}
			if cookieOf(t, again, "known") != "" {
				t.Error("the browser counts as one that proved the address")
			}
		})
		t.Run("from the first page, by the organization's short name", func(t *testing.T) {
			fresh := o.Browser(t)
			first := fresh.Authorize(t, o.request("scope", "read:okrs", "prompt", "consent"))
			shows(t, first, http.StatusOK, "Use single sign-on")
			find := fresh.Get(t, first.URL.Path+"/sso")
			quarry := o.organization(t, "Quarry Lane", nil)
			for _, slug := range []string{quarry.Slug, "none", "../x", ""} {
				p := fresh.Submit(t, find, "slug", url.Values{"slug": {slug}})
				shows(t, p, http.StatusUnprocessableEntity, "No organization with this short name has single sign-on.")
				if p.Header.Get("Refresh") != "" {
					t.Errorf("%q leads to %s", slug, p.Header.Get("Refresh"))
				}
			}
			found := fresh.Submit(t, find, "slug", url.Values{"slug": {strings.ToUpper(o.fennel.Slug)}})
			shows(t, found, http.StatusOK, "On to the sign-in service of Fennel Labs.")
			if to := "0; url=" + first.URL.Path + "/sso?organization=" + o.fennel.ID; found.Header.Get("Refresh") != to {
				t.Errorf("leads to %q, want %q", found.Header.Get("Refresh"), to)
			}
			page := fresh.Get(t, o.idp.authorize(t, o.start(t, fresh, first, o.fennel.ID)).String())
			shows(t, page, http.StatusOK, "Claude wants to act for you in Notes", "eve@example.test")
		})
		t.Run("signing out everywhere ends it", func(t *testing.T) {
			if n, err := o.People.SignOutMember(t.Context(), members[0], o.event("")); err != nil || n < 2 {
				t.Errorf("%d, %v", n, err)
			}
			if signedInAs(t, b, "eve@example.test") {
				t.Error("still signed in")
			}
		})
	})
}

func cookieOf(t *testing.T, b *servertest.Browser, what string) string {
	t.Helper()
	u, err := url.Parse(b.Get(t, "/login").URL.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range b.Client.Jar.Cookies(u) {
		if strings.HasSuffix(c.Name, "-"+what) {
			return c.Value
		}
	}
	return ""
}

// What a provider must not say, and what must not come back. Row: P29, J10, J12.
func TestSSORefuses(t *testing.T) {
	eachSSOOffice(t, func(t *testing.T, o *ssoOffice) {
		o.joinable(t)
		idp := o.idp
		other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		point, err := idp.key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		now := func() int64 { return o.Clock.Now().Unix() }
		claim := func(name string, value any) func() {
			return func() {
				idp.Claims = func(claims map[string]any) {
					if claims[name] = value; value == nil {
						delete(claims, name)
					}
				}
			}
		}
		const failed = "Single sign-on did not work"
		for _, test := range []struct {
			name   string
			wrong  func()
			back   func(q url.Values) // changes what comes back
			status int
			says   string
		}{
			{name: "issuer of the token", wrong: claim("iss", "https://other.example"), says: failed},
			{name: "issuer of the token with a slash", wrong: claim("iss", idp.URL+"/"), says: failed},
			{name: "no issuer", wrong: claim("iss", nil), says: failed},
			{name: "J10 audience", wrong: claim("aud", "another-client"), says: failed},
			{name: "J10 no audience", wrong: claim("aud", nil), says: failed},
			{name: "authorized party", wrong: claim("azp", "another-client"), says: failed},
			{name: "two audiences and no authorized party", wrong: claim("aud", []string{upstreamClient, "another-client"}), says: failed},
			{name: "expired", wrong: claim("exp", now()-61), says: failed},
			{name: "no expiry", wrong: claim("exp", nil), says: failed},
			{name: "made long ago", wrong: claim("iat", now()-3600), says: failed},
			{name: "made in the future", wrong: claim("iat", now()+3600), says: failed},
			{name: "no issue time", wrong: claim("iat", nil), says: failed},
			{name: "X10 nonce of another sign-in", wrong: claim("nonce", "another"), says: failed},
			{name: "X10 no nonce", wrong: claim("nonce", nil), says: failed},
			{name: "no subject", wrong: claim("sub", ""), says: failed},
			{name: "long subject", wrong: claim("sub", strings.Repeat("a", 256)), says: failed},
			{name: "email_verified false", wrong: claim("email_verified", false), says: failed},
			{name: "email_verified as text", wrong: claim("email_verified", "true"), says: failed},
			{name: "email_verified 1", wrong: claim("email_verified", 1), says: failed},
			{name: "email_verified absent", wrong: claim("email_verified", nil), says: failed},
			{name: "two addresses", wrong: claim("email", "eve@example.test,ada@example.test"), says: failed},
			{name: "address as a list", wrong: claim("email", []string{"eve@example.test"}), says: failed},
			{name: "address of another domain", wrong: claim("email", "eve@example.test.attacker.example"), says: "You are not in this organization"},
			{name: "alg none", wrong: func() {
				idp.Sign = func(claims map[string]any) string {
					text, _ := json.Marshal(claims)
					enc := base64.RawURLEncoding.EncodeToString
					return enc([]byte(`{"alg":"none","kid":"k1"}`)) + "." + enc(text) + "."
				}
			}, says: failed},
			{name: "HS256 with the public key", wrong: func() {
				idp.Sign = func(claims map[string]any) string { return signAs(jose.HS256, point, "k1", claims) }
			}, says: failed},
			{name: "HS256 with the client secret", wrong: func() {
				idp.Sign = func(claims map[string]any) string {
					return signAs(jose.HS256, []byte(upstreamSecret+upstreamSecret), "k1", claims)
				}
			}, says: failed},
			{name: "key of somebody else", wrong: func() {
				idp.Sign = func(claims map[string]any) string { return signAs(jose.ES256, other, "k1", claims) }
			}, says: failed},
			{name: "key that is not published", wrong: func() {
				idp.Sign = func(claims map[string]any) string { return signAs(jose.ES256, other, "k2", claims) }
			}, says: failed},
			{name: "no token", wrong: func() {
				idp.Token = func(w http.ResponseWriter) bool { answer(w, map[string]string{"access_token": "x"}); return true }
			}, says: failed},
			{name: "code refused", wrong: func() {
				idp.Token = func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusBadRequest); return true }
			}, says: failed},
			{name: "endless answer", wrong: func() {
				idp.Token = func(w http.ResponseWriter) bool {
					_, _ = w.Write([]byte(`{"id_token":"` + strings.Repeat("a", 1<<20) + `"}`))
					return true
				}
			}, status: http.StatusBadGateway, says: "sign-in service does not answer"},
			{name: "provider down", wrong: func() { idp.Down = true }, status: http.StatusBadGateway, says: "Your organization’s sign-in service does not answer"},
			{name: "redirect at the token endpoint", wrong: func() {
				idp.Token = func(w http.ResponseWriter) bool {
					w.Header().Set("Location", idp.URL+"/keys")
					w.WriteHeader(http.StatusTemporaryRedirect)
					return true
				}
			}, says: failed},
			{name: "iss of another in the answer", back: func(q url.Values) { q.Set("iss", "https://other.example") }, says: failed},
			{name: "refused by the person", back: func(q url.Values) { q.Del("code"); q.Set("error", "access_denied") }, says: failed},
			{name: "error beside a code", back: func(q url.Values) { q.Set("error", "access_denied") }, says: failed},
			{name: "no code", back: func(q url.Values) { q.Del("code") }, says: failed},
			{name: "foreign code", back: func(q url.Values) { q.Set("code", "made-up") }, says: failed},
			{name: "two codes", back: func(q url.Values) { q.Add("code", "made-up") }, status: http.StatusBadRequest, says: ""},
			{name: "no state", back: func(q url.Values) { q.Del("state") }, status: http.StatusBadRequest, says: "This link is too old"},
			{name: "made-up state", back: func(q url.Values) { q.Set("state", "s") }, status: http.StatusBadRequest, says: "This link is too old"},
		} {
			t.Run(test.name, func(t *testing.T) {
				defer func() { idp.Claims, idp.Sign, idp.Token, idp.Down = nil, nil, nil, false }()
				b := o.Browser(t)
				back := idp.authorize(t, o.start(t, b, b.Get(t, "/login"), o.fennel.ID))
				if test.wrong != nil {
					test.wrong()
				}
				if test.back != nil {
					q := back.Query()
					test.back(q)
					back.RawQuery = q.Encode()
				}
				status := test.status
				if status == 0 {
					status = http.StatusForbidden
				}
				shows(t, b.Get(t, back.String()), status, test.says)
				if cookieOf(t, b, "session") != "" || signedInAs(t, b, "e") {
					t.Error("signed in")
				}
			})
		}
		if refused := o.events(audit.SignInRefused); len(refused) < 30 || !refused[0].Refused || refused[0].Reason == "" {
			t.Errorf("%d refusals were kept", len(refused))
		}
		members, err := o.People.Members(t.Context(), o.fennel, identity.MemberQuery{Limit: 10})
		if err != nil || len(members) != 1 {
			t.Errorf("%+v, %v", members, err)
		}
		t.Run("and the right one", func(t *testing.T) {
			for name, right := range map[string]func(){
				"as it is": func() {},
				"two audiences": func() {
					idp.Claims = func(c map[string]any) { c["aud"], c["azp"] = []string{"x", upstreamClient}, upstreamClient }
				},
				"a clock a little off": func() { idp.Claims = func(c map[string]any) { c["iat"], c["exp"] = now()+30, now()-30 } },
				"no kid":               func() { idp.Sign = func(c map[string]any) string { return signAs(jose.ES256, idp.key, "", c) } },
				"the address in the userinfo": func() {
					idp.Claims = func(c map[string]any) { delete(c, "email"); delete(c, "email_verified") }
					idp.Info = map[string]any{"sub": "person-1", "email": "eve@example.test", "email_verified": true}
				},
			} {
				b := o.Browser(t)
				right()
				o.signIn(t, b)
				if idp.Claims, idp.Sign = nil, nil; !signedInAs(t, b, "eve@example.test") {
					t.Errorf("%s: not signed in", name)
				}
			}
		})
		t.Run("userinfo about somebody else", func(t *testing.T) {
			b := o.Browser(t)
			idp.Claims = func(c map[string]any) { delete(c, "email") }
			idp.Info = map[string]any{"sub": "person-2", "email": "ada@example.test", "email_verified": true}
			shows(t, o.signIn(t, b), http.StatusForbidden, failed)
			idp.Claims = nil
		})
	})
}

// An answer belongs to the browser that was sent, to one sign-in in it, and to
// one organization's provider.
// Row: X10.
func TestSSOAnswersStayWhereTheyWereAsked(t *testing.T) {
	eachSSOOffice(t, func(t *testing.T, o *ssoOffice) {
		o.joinable(t)
		t.Run("the answer of another browser", func(t *testing.T) {
			attacker, victim := o.Browser(t), o.Browser(t)
			victim.Get(t, "/login")
			back := o.idp.authorize(t, o.start(t, attacker, attacker.Get(t, "/login"), o.fennel.ID))
			redeemed := o.idp.redeems.Load()
			shows(t, victim.Get(t, back.String()), http.StatusBadRequest, "This link is too old")
			if cookieOf(t, victim, "session") != "" || o.idp.redeems.Load() != redeemed {
				t.Error("signed in, or the code was redeemed")
			}
			attacker.Get(t, back.String())
			if !signedInAs(t, attacker, "eve@example.test") {
				t.Error("the stranger's try used the state up")
			}
		})
		t.Run("a code of another sign-in", func(t *testing.T) {
			attacker, victim := o.Browser(t), o.Browser(t)
			stolen := o.idp.authorize(t, o.start(t, victim, victim.Get(t, "/login"), o.fennel.ID))
			own := o.idp.authorize(t, o.start(t, attacker, attacker.Get(t, "/login"), o.fennel.ID))
			q := own.Query()
			q.Set("code", stolen.Query().Get("code"))
			own.RawQuery = q.Encode()
			shows(t, attacker.Get(t, own.String()), http.StatusForbidden, "Single sign-on did not work")
		})
		t.Run("an older state of the flow", func(t *testing.T) {
			b := o.Browser(t)
			flow := b.Get(t, "/login")
			first := o.idp.authorize(t, o.start(t, b, flow, o.fennel.ID))
			o.start(t, b, flow, o.fennel.ID)
			shows(t, b.Get(t, first.String()), http.StatusBadRequest, "This link is too old", "My connected apps")
		})
		t.Run("a state that ran out", func(t *testing.T) {
			b := o.Browser(t)
			back := o.idp.authorize(t, o.start(t, b, b.Get(t, "/login"), o.fennel.ID))
			o.Clock.Advance(16 * time.Minute)
			shows(t, b.Get(t, back.String()), http.StatusBadRequest, "This link is too old")
		})
		t.Run("at once it works once", func(t *testing.T) {
			b := o.Browser(t)
			back := o.idp.authorize(t, o.start(t, b, b.Get(t, "/login"), o.fennel.ID))
			redeemed := o.idp.redeems.Load()
			var group sync.WaitGroup
			for range 10 {
				group.Go(func() { b.Get(t, back.String()) })
			}
			group.Wait()
			if n := o.idp.redeems.Load() - redeemed; n != 1 {
				t.Errorf("%d codes were redeemed", n)
			}
		})
		t.Run("at the callback of another organization", func(t *testing.T) {
			quarry := o.organization(t, "Quarry Lane", nil)
			b := o.Browser(t)
			back := o.idp.authorize(t, o.start(t, b, b.Get(t, "/login"), o.fennel.ID))
			back.Path = strings.Replace(back.Path, o.fennel.ID, quarry.ID, 1)
			shows(t, b.Get(t, back.String()), http.StatusBadRequest, "This link is too old")
			for _, id := range []string{quarry.ID, "fennel-labs", "%00", "%ff", "organization-test-none"} {
				if page := b.Get(t, b.Get(t, "/login").URL.Path+"/sso?organization="+id); page.Status != http.StatusNotFound {
					t.Errorf("%q has no connection: %d", id, page.Status)
				}
			}
		})
		t.Run("a provider that names itself has to", func(t *testing.T) {
			c, err := o.People.Connection(t.Context(), o.Project.ID, o.fennel.ID)
			if err != nil {
				t.Fatal(err)
			}
			c.Provider.NamesItself = true
			if err := o.People.SaveProvider(t.Context(), c, o.event("")); err != nil {
				t.Fatal(err)
			}
			b := o.Browser(t)
			shows(t, o.signIn(t, b), http.StatusForbidden, "Single sign-on did not work")
			back := o.idp.authorize(t, o.start(t, b, b.Get(t, "/login"), o.fennel.ID))
			b.Get(t, back.String()+"&iss="+url.QueryEscape(o.idp.URL))
			if !signedInAs(t, b, "eve@example.test") {
				t.Error("not signed in")
			}
		})
	})
}

// A provider speaks for its own organization: for no other, and not for the
// address itself. Row: O15.
func TestSSOCountsInItsOrganizationAlone(t *testing.T) {
	eachSSOOffice(t, func(t *testing.T, o *ssoOffice) {
		o.joinable(t)
		quarry := o.organization(t, "Quarry Lane", func(s *identity.OrganizationSettings) {
			s.AllowedDomains, s.Provisioning = []string{"victim.example"}, true
		})
		o.member(t, quarry, "eve@example.test")
		b := o.Browser(t)
		o.signIn(t, b)
		if !signedInAs(t, b, "eve@example.test") {
			t.Fatal("not signed in")
		}
		chooser := b.Get(t, "/switch-organization")
		shows(t, chooser, http.StatusOK, "Fennel Labs")
		if strings.Contains(chooser.Body, "Quarry Lane") || strings.Contains(chooser.Body, "Make a new organization") {
			t.Error("more is offered than the provider speaks for")
		}
		for name, form := range map[string]url.Values{
			"another organization of the address": {"organization": {quarry.ID}},
			"a new one":                           {"action": {"create"}, "name": {"Mine"}},
		} {
			if page := b.Submit(t, chooser, "csrf", form); page.Status != http.StatusForbidden {
				t.Errorf("%s: %d", name, page.Status)
			}
		}
		who, err := o.People.Members(t.Context(), quarry, identity.MemberQuery{Limit: 10})
		if err != nil || len(who) != 1 || who[0].Status != identity.Invited {
			t.Errorf("%+v, %v", who, err)
		}
		t.Run("an address of somebody else's", func(t *testing.T) {
			o.idp.Person["email"], o.idp.Person["sub"] = "boss@victim.example", "person-9"
			other := o.Browser(t)
			shows(t, o.signIn(t, other), http.StatusForbidden, "You are not in this organization")
		})
		t.Run("an invited address that nobody proved", func(t *testing.T) {
			m := o.member(t, o.fennel, "boss@victim.example")
			other := o.Browser(t)
			shows(t, o.signIn(t, other), http.StatusForbidden, "Prove your address once")
			if got, err := o.People.Member(t.Context(), o.fennel, m.ID); err != nil || got.Status != identity.Invited {
				t.Errorf("%+v, %v", got, err)
			}
			proved := o.Browser(t)
			page := proved.SignIn(t, proved.Get(t, "/login"), "boss@victim.example")
			proved.Submit(t, page, "organization", url.Values{"organization": {o.fennel.ID}})
			o.signIn(t, other)
			if !signedInAs(t, other, "boss@victim.example") {
				t.Error("not signed in after the address was proved")
			}
			page = other.Get(t, "/connected-apps")
			shows(t, page, http.StatusOK, "Sign out here, and of Fennel Labs in every other browser.")
			shows(t, other.Submit(t, page, "action", url.Values{"action": {"sign_out_everywhere"}}), http.StatusOK,
				"This browser is signed out, and every other one is signed out of Fennel Labs.")
			page = proved.Get(t, "/connected-apps")
			shows(t, page, http.StatusOK, "Send me a code") // it was in Fennel Labs, and there alone
		})
	})
}

// A provider's id of a person is one member's for good.
func TestSSOSubjects(t *testing.T) {
	eachSSOOffice(t, func(t *testing.T, o *ssoOffice) {
		o.joinable(t)
		o.signIn(t, o.Browser(t))
		member, err := o.People.Member(t.Context(), o.fennel, "eve@example.test")
		if err != nil {
			t.Fatal(err)
		}
		for name, person := range map[string]map[string]any{
			"the address of a member, by another person": {"sub": "person-2", "email": "eve@example.test", "email_verified": true},
			"another address, by the same person":        {"sub": "person-1", "email": "max@example.test", "email_verified": true},
			"an address in other letters":                {"sub": "person-2", "email": "EVE@Example.test", "email_verified": true},
		} {
			o.idp.Person = person
			b := o.Browser(t)
			shows(t, o.signIn(t, b), http.StatusForbidden, "This is not the person we know")
			if cookieOf(t, b, "session") != "" {
				t.Errorf("%s: signed in", name)
			}
		}
		o.idp.Person = map[string]any{"sub": "person-1", "email": "Eve@EXAMPLE.test", "email_verified": true}
		b := o.Browser(t)
		if o.signIn(t, b); !signedInAs(t, b, "Eve@EXAMPLE.test") {
			t.Error("the same person is not signed in")
		}
		// Row: P33.
		t.Run("a removed member stays out", func(t *testing.T) {
			remove := func(m *identity.Member) error { m.Status = identity.Deleted; return nil }
			if _, err := o.People.ChangeMember(t.Context(), o.Project, o.fennel, member.ID, remove, o.event("")); err != nil {
				t.Fatal(err)
			}
			if signedInAs(t, b, "eve@example.test") {
				t.Error("still signed in")
			}
			shows(t, o.signIn(t, o.Browser(t)), http.StatusForbidden, "You are not in this organization")
		})
		// Row: O08.
		t.Run("invited again they are somebody new", func(t *testing.T) {
			again := o.member(t, o.fennel, "eve@example.test")
			b := o.Browser(t)
			o.signIn(t, b)
			if got, err := o.People.Member(t.Context(), o.fennel, "eve@example.test"); err != nil || got.ID != again.ID || got.Status != identity.Active || got.ID == member.ID {
				t.Errorf("%+v, %v", got, err)
			}
		})
	})
}

// An organization that asks for single sign-on gets it, and a connection that is
// gone signs nobody in. Row: P36.
func TestSSOAlone(t *testing.T) {
	eachSSOOffice(t, func(t *testing.T, o *ssoOffice) {
		o.joinable(t)
		b := o.Browser(t)
		o.signIn(t, b)
		o.change(t, o.fennel.ID, func(s *identity.OrganizationSettings) { s.Methods, s.AllowedMethods = identity.Listed, []string{"sso"} })
		if signedInAs(t, o.admin, "ada@example.test") {
			t.Error("a code by mail still counts")
		}
		if !signedInAs(t, b, "eve@example.test") {
			t.Error("single sign-on does not count")
		}
		o.Clock.Advance(time.Minute) // between two codes
		admin := o.Browser(t)
		flow := admin.SignIn(t, admin.Get(t, "/login"), "ada@example.test")
		shows(t, flow, http.StatusOK, "Fennel Labs", "Sign in with single sign-on")
		refusal := admin.Submit(t, flow, "csrf", url.Values{"organization": {o.fennel.ID}})
		shows(t, refusal, http.StatusForbidden, "asks for another way to sign in")
		shows(t, admin.Get(t, refusal.Link(t, "Go back")), http.StatusOK, "Sign in with single sign-on")
		o.idp.Person = map[string]any{"sub": "admin-1", "email": "ada@example.test", "email_verified": true}
		admin.Get(t, o.idp.authorize(t, o.start(t, admin, flow, o.fennel.ID)).String())
		settings := admin.Get(t, "/organization/sso")
		shows(t, settings, http.StatusOK, "The connection")

		refused := admin.Submit(t, settings, "connection", url.Values{"action": {"delete"}})
		shows(t, refused, http.StatusUnprocessableEntity, "Nothing was changed.", "Allow codes by e-mail first")
		o.change(t, o.fennel.ID, func(s *identity.OrganizationSettings) { s.Methods = identity.All })
		waiting := o.Browser(t)
		back := o.idp.authorize(t, o.start(t, waiting, waiting.Get(t, "/login"), o.fennel.ID))
		admin.Submit(t, settings, "connection", url.Values{"action": {"delete"}})
		for name, browser := range map[string]*servertest.Browser{"a member": b, "the administrator": admin} {
			if signedInAs(t, browser, "@example.test") {
				t.Errorf("%s is still signed in", name)
			}
		}
		shows(t, waiting.Get(t, back.String()), http.StatusNotFound, "No single sign-on here")
	})
}

// An invitation does not promise a code where there is another way in.
func TestSSOInvitation(t *testing.T) {
	eachSSOOffice(t, func(t *testing.T, o *ssoOffice) {
		o.admin.Submit(t, o.admin.Get(t, membersPage), "email", url.Values{"email": {"eve@example.test"}})
		mail := o.invited(t, "eve@example.test")
		if !strings.Contains(mail, "by single sign-on\nor with a code to this mail address.") || strings.Contains(mail, "nobody gets in") {
			t.Errorf("the mail says:\n%s", mail)
		}
	})
}

// A request for a new proof goes to the provider too.
func TestSSOProvesAgain(t *testing.T) {
	eachSSOOffice(t, func(t *testing.T, o *ssoOffice) {
		o.joinable(t)
		b := o.Browser(t)
		flow := b.Authorize(t, o.request("scope", "read:okrs", "prompt", "login"))
		to := o.start(t, b, flow, o.fennel.ID)
		if to.Query().Get("prompt") != "login" || to.Query().Get("max_age") != "0" {
			t.Errorf("asked by %s", to)
		}
		o.idp.Claims = func(c map[string]any) { c["auth_time"] = o.Clock.Now().Add(-time.Hour).Unix() }
		failed := b.Get(t, o.idp.authorize(t, to).String())
		shows(t, failed, http.StatusForbidden, "Single sign-on did not work")
		shows(t, b.Get(t, failed.Link(t, "Go back")), http.StatusOK, "Send me a code", "Use single sign-on")
		o.idp.Claims = nil
		to = o.start(t, b, flow, o.fennel.ID)
		shows(t, b.Get(t, o.idp.authorize(t, to).String()), http.StatusOK, "Claude wants to act for you")
	})
}

// The page greys what a role does not permit, and the server refuses it.
func TestSSOSettings(t *testing.T) {
	t.Parallel()
	o := newSSOOffice(t, false)
	o.member(t, o.fennel, "eve@example.test")
	eve := o.Browser(t)
	eve.SignIn(t, eve.Get(t, "/login"), "eve@example.test")

	t.Run("a member may not", func(t *testing.T) {
		page := eve.Get(t, "/organization/sso")
		shows(t, page, http.StatusOK, "Single sign-on", "SAML and SCIM", "Your role, Member, does not include")
		if strings.Contains(page.Body, `name="client_secret"`) {
			t.Error("the form is there")
		}
		csrf := eve.Get(t, "/organization")
		for _, action := range []string{"create", "activate", "delete"} {
			form := url.Values{"action": {action}, "issuer": {o.idp.URL}, "client_id": {"x"}, "client_secret": {"y"}, "csrf": csrfOf(t, csrf)}
			shows(t, eve.Post(t, "/organization/sso", form), http.StatusForbidden, "You may not do that here")
		}
		shows(t, eve.Get(t, "/organization/sso/test"), http.StatusForbidden, "You may not do that here")
		if refused := o.events(audit.SSOCreated); len(refused) != 1 || !refused[0].Refused {
			t.Errorf("%+v", refused)
		}
		if o.idp.asked.Load() != 0 {
			t.Error("the provider was asked")
		}
	})
	t.Run("what cannot be connected", func(t *testing.T) {
		for name, test := range map[string]struct {
			issuer, id, secret string
			meta               func(map[string]any)
			says               string
		}{
			"not https":            {issuer: "http://login.example.test", says: "an https address"},
			"with a query":         {issuer: o.idp.URL + "?x", says: "an https address"},
			"a script":             {issuer: "javascript:alert(1)", says: "an https address"},
			"nothing":              {issuer: "", says: "an https address"},
			"nobody there":         {issuer: "https://127.0.0.1:1", says: "could not be read"},
			"no metadata":          {issuer: o.idp.URL + "/tenant", says: "could not be read"},
			"another issuer":       {meta: func(m map[string]any) { m["issuer"] = "https://other.example" }, says: "of another issuer"},
			"a slash too many":     {issuer: o.idp.URL + "/", says: "of another issuer"},
			"MACs alone":           {meta: func(m map[string]any) { m["id_token_signing_alg_values_supported"] = []string{"HS256", "none"} }, says: "signs with none of"},
			"implicit alone":       {meta: func(m map[string]any) { m["response_types_supported"] = []string{"id_token"} }, says: "authorization code flow"},
			"no client secret":     {meta: func(m map[string]any) { m["token_endpoint_auth_methods_supported"] = []string{"private_key_jwt"} }, says: "takes a client secret neither"},
			"a plain endpoint":     {meta: func(m map[string]any) { m["token_endpoint"] = "http://login.example.test/token" }, says: "not an https address"},
			"a script for address": {meta: func(m map[string]any) { m["authorization_endpoint"] = "javascript:alert(1)" }, says: "not an https address"},
			"no secret":            {secret: " ", says: "client secret"},
			"lines in the id":      {id: "a\nb", says: "client id"},
		} {
			t.Run(name, func(t *testing.T) {
				o.idp.Meta = test.meta
				form := url.Values{"issuer": {o.idp.URL}, "client_id": {upstreamClient}, "client_secret": {upstreamSecret}}
				if test.issuer != "" || name == "nothing" {
					form.Set("issuer", test.issuer)
				}
				if test.id != "" {
					form.Set("client_id", test.id)
				}
				if test.secret != "" {
					form.Set("client_secret", test.secret)
				}
				page := o.admin.Submit(t, o.admin.Get(t, "/organization/sso"), "issuer", form)
				if name == "lines in the id" && page.Status == http.StatusBadRequest {
					return // refused before it came so far
				}
				shows(t, page, http.StatusUnprocessableEntity, "Nothing was changed.", test.says)
				if strings.Contains(page.Body, upstreamSecret) {
					t.Error("the secret comes back")
				}
			})
		}
		o.idp.Meta = nil
		if _, err := o.People.Connection(t.Context(), o.Project.ID, o.fennel.ID); err == nil {
			t.Error("something was kept")
		}
	})
	t.Run("test, switch on", func(t *testing.T) {
		page := o.admin.Get(t, "/organization/sso")
		shows(t, page, http.StatusOK, o.Issuer+"/sso/callback/"+o.fennel.ID)
		page = o.admin.Submit(t, page, "issuer", url.Values{"issuer": {o.idp.URL}, "client_id": {upstreamClient}, "client_secret": {upstreamSecret}})
		shows(t, page, http.StatusOK, "Not on yet", o.idp.URL)
		c, err := o.People.Connection(t.Context(), o.Project.ID, o.fennel.ID)
		if err != nil || strings.Contains(string(c.SealedSecret), "s3cret") || strings.Contains(page.Body, "s3cret") {
			t.Errorf("%+v, %v", c, err)
		}
		b := o.Browser(t)
		if page := b.Get(t, b.Get(t, "/login").URL.Path+"/sso?organization="+o.fennel.ID); page.Status != http.StatusNotFound {
			t.Errorf("it works before it is on: %d", page.Status)
		}
		test := func(says ...string) {
			t.Helper()
			back := o.idp.authorize(t, o.admin.Get(t, "/organization/sso/test").Answer(t))
			page := o.admin.Get(t, back.String())
			status := http.StatusOK
			if !slices.Contains(says, "The test worked") {
				status = http.StatusUnprocessableEntity
			}
			shows(t, page, status, says...)
			if !signedInAs(t, o.admin, "ada@example.test") {
				t.Error("the test changed who is signed in")
			}
		}
		test("The test worked", "eve@example.test, verified", "person-1", "They are a member, and would be signed in.")
		o.idp.Person["email_verified"] = false
		test("Nothing was changed.", "email_verified")
		o.idp.Person["email_verified"] = true
		o.idp.Token = func(w http.ResponseWriter) bool { w.WriteHeader(http.StatusUnauthorized); return true }
		test("Check client id, client secret and redirect URI.")
		o.idp.Token = nil
		o.idp.Down = true
		shows(t, o.admin.Get(t, "/organization/sso/test"), http.StatusUnprocessableEntity, "could not be read")
		o.idp.Down = false

		t.Run("an answer of a test signs nobody in", func(t *testing.T) {
			back := o.idp.authorize(t, o.admin.Get(t, "/organization/sso/test").Answer(t))
			if page := eve.Get(t, back.String()); page.Status != http.StatusBadRequest {
				t.Errorf("%d", page.Status)
			}
		})
		o.admin.Submit(t, o.admin.Get(t, "/organization/sso"), "connection", url.Values{"action": {"activate"}})
		if page := b.Get(t, b.Get(t, "/login").URL.Path+"/sso?organization="+o.fennel.ID); !strings.HasPrefix(page.Answer(t).String(), o.idp.URL) {
			t.Errorf("it does not work when it is on: %d", page.Status)
		}
		form := url.Values{"action": {"create"}, "issuer": {o.idp.URL}, "client_id": {"x"}, "client_secret": {"y"}, "csrf": csrfOf(t, o.admin.Get(t, "/organization/sso"))}
		shows(t, o.admin.Post(t, "/organization/sso", form), http.StatusUnprocessableEntity, "Somebody else changed this")
	})
}

// A test waits for the provider, and meanwhile another administrator goes on.
func TestSSOChangesWhileItIsTested(t *testing.T) {
	eachSSOOffice(t, func(t *testing.T, o *ssoOffice) {
		c, err := o.People.Connection(t.Context(), o.Project.ID, o.fennel.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.People.DeleteConnection(t.Context(), c, o.event("")); err != nil {
			t.Fatal(err)
		}
		o.admin.Submit(t, o.admin.Get(t, "/organization/sso"), "issuer", url.Values{
			"issuer": {o.idp.URL}, "client_id": {upstreamClient}, "client_secret": {upstreamSecret},
		})
		if c, err = o.People.Connection(t.Context(), o.Project.ID, o.fennel.ID); err != nil {
			t.Fatal(err)
		}
		meanwhile := func(change func() error) {
			o.idp.Meta = func(metadata map[string]any) {
				metadata["authorization_response_iss_parameter_supported"] = true
				if err := change(); err != nil {
					t.Error(err)
				}
			}
		}
		meanwhile(func() error { return o.People.ActivateConnection(t.Context(), c, o.event("")) })
		o.admin.Get(t, "/organization/sso/test").Answer(t)
		c, err = o.People.Connection(t.Context(), o.Project.ID, o.fennel.ID)
		if err != nil || !c.Active || !c.Provider.NamesItself {
			t.Errorf("active %v, new metadata %v, %v", c.Active, c.Provider.NamesItself, err)
		}
		meanwhile(func() error { return o.People.DeleteConnection(t.Context(), c, o.event("")) })
		c.Provider.NamesItself = false
		if err := o.People.SaveProvider(t.Context(), c, o.event("")); err != nil {
			t.Fatal(err)
		}
		shows(t, o.admin.Get(t, "/organization/sso/test"), http.StatusNotFound, "No single sign-on here")
	})
}

// A sign-in that takes the place of another one happens as a whole: when the old
// one cannot be ended, the code still works, and nobody is signed in by halves.
func TestSignInTakesThePlaceOfAnother(t *testing.T) {
	eachSSOOffice(t, func(t *testing.T, o *ssoOffice) {
		o.joinable(t)
		stuck, free := "CREATE TRIGGER stuck BEFORE DELETE ON browser BEGIN SELECT RAISE(ABORT, 'stuck'); END", "DROP TRIGGER stuck"
		if strings.HasSuffix(t.Name(), "PostgreSQL") {
			stuck = "CREATE FUNCTION stuck() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'stuck'; END $$; CREATE TRIGGER stuck BEFORE DELETE ON browser EXECUTE FUNCTION stuck()"
			free = "DROP TRIGGER stuck ON browser"
		}
		db := o.SQL(t)
		run := func(statement string) {
			t.Helper()
			if _, err := db.ExecContext(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
		live := func() []string { return texts(t, db, "SELECT id FROM browser ORDER BY id") }
		b, before := o.admin, live()
		o.Clock.Advance(time.Minute)
		page := b.Authorize(t, o.request("scope", "read:okrs", "prompt", "login"))
		page = b.Submit(t, page, "email", url.Values{"email": {"bob@example.test"}})
		code := url.Values{"code": {o.Code(t, "bob@example.test")}}
		run(stuck)
		if p := b.Submit(t, page, "code", code); p.Status < 500 || !slices.Equal(live(), before) || !signedInAs(t, b, "ada@example.test") {
			t.Errorf("%d, browsers %v, before %v", p.Status, live(), before)
		}
		run(free)
		page = b.Submit(t, page, "code", code)
		shows(t, page, http.StatusOK, "bob@example.test", "Fennel Labs")
		if now := live(); len(now) != len(before) || slices.Equal(now, before) {
			t.Errorf("browsers %v, before %v", now, before)
		}

		before = live()
		back := o.idp.authorize(t, o.start(t, b, page, o.fennel.ID))
		run(strings.Replace(stuck, "CREATE FUNCTION", "CREATE OR REPLACE FUNCTION", 1))
		if p := b.Get(t, back.String()); p.Status < 500 || !slices.Equal(live(), before) {
			t.Errorf("by single sign-on: %d, browsers %v, before %v", p.Status, live(), before)
		}
		run(free)
		b.Get(t, o.idp.authorize(t, o.start(t, b, page, o.fennel.ID)).String())
		if now := live(); len(now) != len(before) || !signedInAs(t, b, "eve@example.test") {
			t.Errorf("by single sign-on: browsers %v, before %v", now, before)
		}
	})
}

func csrfOf(t *testing.T, p servertest.Page) []string {
	t.Helper()
	_, rest, ok := strings.Cut(p.Body, `name="csrf" value="`)
	if !ok {
		t.Fatalf("no form on %s", p.URL)
	}
	value, _, _ := strings.Cut(rest, `"`)
	return []string{value}
}

// Outside development no connection reaches a private address. Row: S11.
func TestSSOReachesNothingInside(t *testing.T) {
	t.Parallel()
	o := &office{Server: servertest.New(t, servertest.Config{Vertical: project.B2B})}
	o.Ready(t)
	idp := newProvider(t)
	fennel := o.organization(t, "Fennel Labs", nil)
	o.member(t, fennel, "ada@example.test", rbac.RoleAdmin)
	admin := o.Browser(t)
	admin.SignIn(t, admin.Get(t, "/login"), "ada@example.test")
	for _, issuer := range []string{
		idp.URL, strings.Replace(idp.URL, "127.0.0.1", "localhost", 1), "https://169.254.169.254", "https://10.0.0.1", "https://[::1]",
		"https://2130706433", "https://0x7f.1", "https://[::ffff:127.0.0.1]",
	} {
		page := admin.Submit(t, admin.Get(t, "/organization/sso"), "issuer", url.Values{"issuer": {issuer}, "client_id": {"x"}, "client_secret": {"y"}})
		shows(t, page, http.StatusUnprocessableEntity, "metadata could not be read.")
	}
	if n := idp.reached.Load(); n != 0 {
		t.Errorf("%d connections came through", n)
	}
}

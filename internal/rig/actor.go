package rig

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
)

// Callback is where the apps of actors are answered. Nobody listens there.
const Callback = "http://127.0.0.1:7777/callback"

// Verifier proves that whoever redeems a code is who asked for it (RFC 7636).
const Verifier = "a-verifier-that-is-long-enough-for-the-flow-0123456789"

// Challenge is what an authorization request says of Verifier.
func Challenge() string {
	sum := sha256.Sum256([]byte(Verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Actor is a person with a new browser and an app of theirs. It plays one step
// after another, over connections of its own. A method that returns no error was
// told yes by the server; one that returns a *Refused was told no; after any other
// error nobody knows what the server did.
type Actor struct {
	Email    string
	Address  string // as the proxy forwards it
	Resource string // what the app asks for
	ClientID string // after Register

	server *Server
	http   *http.Client
}

// Tokens are what an app holds.
type Tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
	Expires int    `json:"expires_in"`
	Scope   string `json:"scope"`
}

// Refused is an answer that says no.
type Refused struct {
	Status int
	Code   string // of an OAuth error, else ""
	Text   string // method, address and body
}

func (r *Refused) Error() string { return fmt.Sprintf("%d %s: %s", r.Status, r.Code, r.Text) }

// Actor makes the next actor: another person, another address.
func (s *Server) Actor() *Actor {
	a := &Actor{Resource: Notes, server: s}
	a.http = &http.Client{Transport: s.transport(), CheckRedirect: func(r *http.Request, via []*http.Request) error {
		if r.URL.Scheme+"://"+r.URL.Host != s.Issuer || len(via) > 10 {
			return http.ErrUseLastResponse
		}
		a.dress(r)
		return nil
	}}
	a.Next()
	return a
}

// Next makes the actor another person, with a new browser and an app that is not
// registered yet. It keeps its connections, as a proxy does.
func (a *Actor) Next() {
	n := a.server.actors.Add(1)
	a.Email, a.Address, a.ClientID = fmt.Sprintf("person%d@example.test", n), Address(n), ""
	jar, err := cookiejar.New(nil)
	if err != nil {
		panic(err) // impossible: without options there is no error
	}
	a.http.Jar = jar
}

// Address is the nth address, of 16 million.
func Address(n int64) string { return fmt.Sprintf("10.%d.%d.%d", n>>16&255, n>>8&255, n&255) }

// At moves the actor to another node, with its cookies and connections.
func (a *Actor) At(s *Server) {
	a.Close()
	a.server, a.http.Transport = s, s.transport()
}

// Close lets go of the connections.
func (a *Actor) Close() { a.http.CloseIdleConnections() }

// Connect registers, signs in, allows and redeems: the whole flow.
func (a *Actor) Connect(ctx context.Context) (Tokens, error) {
	if err := a.Discover(ctx); err != nil {
		return Tokens{}, err
	}
	if err := a.Register(ctx); err != nil {
		return Tokens{}, err
	}
	code, err := a.Authorize(ctx)
	if err != nil {
		return Tokens{}, err
	}
	return a.Redeem(ctx, code)
}

// Discover reads the metadata, as every client does first.
func (a *Actor) Discover(ctx context.Context) error {
	_, err := a.call(ctx, http.MethodGet, "/.well-known/oauth-authorization-server", "", nil, nil)
	return err
}

// Registration is what an app says of itself; public apps that say the same are
// one client.
func Registration(name string) []byte {
	return fmt.Appendf(nil, `{"client_name":%q,"redirect_uris":[%q],"token_endpoint_auth_method":"none",`+
		`"grant_types":["authorization_code","refresh_token"],"response_types":["code"]}`, name, Callback)
}

// Register registers the app, under a name that no other has.
func (a *Actor) Register(ctx context.Context) error {
	var client struct {
		ID string `json:"client_id"`
	}
	if err := a.post(ctx, &client, "/v1/oauth2/register", "application/json", Registration("App of "+a.Email), nil); err != nil {
		return err
	}
	a.ClientID = client.ID
	return nil
}

// Authorize walks the pages: the address, the mailed code, consent. A browser that
// is signed in skips what the pages skip. The answer is the authorization code.
func (a *Actor) Authorize(ctx context.Context) (string, error) {
	page, err := a.call(ctx, http.MethodGet, "/oauth/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {a.ClientID}, "redirect_uri": {Callback}, "state": {"a-state-of-the-app"},
		"code_challenge": {Challenge()}, "code_challenge_method": {"S256"},
		"resource": {a.Resource}, "scope": {Scopes},
	}.Encode(), "", nil, nil)
	if err != nil {
		return "", err
	}
	for range 4 {
		if to := page.Target(); to != nil {
			return answer(to)
		}
		forms := page.Forms()
		if len(forms) == 0 {
			break
		}
		with := url.Values{"action": {"allow"}}
		switch fields := forms[0].Names; {
		case fields["email"]:
			with = url.Values{"email": {a.Email}}
		case fields["code"]:
			mailed, err := a.server.Mail.Code(ctx, a.Email)
			if err != nil {
				return "", err
			}
			with = url.Values{"code": {mailed}}
		}
		if page, err = a.submit(ctx, page, forms[0], with); err != nil {
			return "", err
		}
	}
	if to := page.Target(); to != nil {
		return answer(to)
	}
	return "", fmt.Errorf("%s leads nowhere:\n%s", page.At, page.Body)
}

// answer is the code that the app is told, or the refusal.
func answer(to *url.URL) (string, error) {
	if code := to.Query().Get("code"); code != "" {
		return code, nil
	}
	return "", &Refused{Code: to.Query().Get("error"), Text: "the app is told " + to.RawQuery}
}

// Redeem exchanges an authorization code.
func (a *Actor) Redeem(ctx context.Context, code string) (t Tokens, err error) {
	return t, a.form(ctx, &t, "/v1/oauth2/token", url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {Callback},
		"client_id": {a.ClientID}, "code_verifier": {Verifier}, "resource": {a.Resource},
	}, nil)
}

// Refresh exchanges a refresh token for the next.
func (a *Actor) Refresh(ctx context.Context, refresh string) (t Tokens, err error) {
	return t, a.form(ctx, &t, "/v1/oauth2/token", url.Values{
		"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {a.ClientID}, "resource": {a.Resource},
	}, nil)
}

// Revoke ends a token: with a refresh token the whole family.
func (a *Actor) Revoke(ctx context.Context, token string) error {
	return a.form(ctx, nil, "/v1/oauth2/revoke", url.Values{"token": {token}, "client_id": {a.ClientID}}, nil)
}

// Introspect asks, as the resource server, whether a token is active.
func (a *Actor) Introspect(ctx context.Context, token string) (bool, error) {
	var live struct {
		Active bool `json:"active"`
	}
	err := a.form(ctx, &live, "/v1/oauth2/introspect", url.Values{"token": {token}},
		http.Header{"Authorization": {a.server.Inspectors[a.Resource]}})
	return live.Active, err
}

// TakeBack takes back what the person allowed their newest app, on their own page.
func (a *Actor) TakeBack(ctx context.Context) error {
	page, err := a.call(ctx, http.MethodGet, "/connected-apps", "", nil, nil)
	if err != nil {
		return err
	}
	for _, form := range page.Forms() {
		if form.Names["grant"] {
			_, err := a.submit(ctx, page, form, url.Values{"action": {"take_back"}})
			return err
		}
	}
	return fmt.Errorf("%s lists no connected app:\n%s", page.At, page.Body)
}

const formType = "application/x-www-form-urlencoded"

func (a *Actor) form(ctx context.Context, v any, path string, form url.Values, header http.Header) error {
	return a.post(ctx, v, path, formType, []byte(form.Encode()), header)
}

// post sends a body and reads the answer as JSON, or not at all when v is nil.
func (a *Actor) post(ctx context.Context, v any, path, contentType string, body []byte, header http.Header) error {
	answer, err := a.call(ctx, http.MethodPost, path, contentType, body, header)
	if err != nil || v == nil {
		return err
	}
	return json.Unmarshal([]byte(answer.Body), v)
}

// dress makes a request look as if it came from the actor's address.
func (a *Actor) dress(r *http.Request) {
	r.Header.Set("X-Forwarded-For", a.Address)
	r.Header.Set("X-Forwarded-Proto", "http")
	r.Header.Set("User-Agent", "Mozilla/5.0 (rig)")
}

func (a *Actor) call(ctx context.Context, method, address, contentType string, body []byte, header http.Header) (Page, error) {
	if strings.HasPrefix(address, "/") {
		address = a.server.Issuer + address
	}
	request, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return Page{}, err
	}
	a.dress(request)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := a.http.Do(request)
	if err != nil {
		return Page{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return Page{}, err
	}
	if response.StatusCode >= http.StatusBadRequest {
		no := &Refused{Status: response.StatusCode, Text: fmt.Sprintf("%s %s\n%s", method, address, text)}
		var refusal struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(text, &refusal) == nil {
			no.Code = refusal.Error
		}
		return Page{}, no
	}
	return Page{response.StatusCode, response.Request.URL, response.Header, string(text)}, nil
}

// submit sends a form of a page, with values over what it holds.
func (a *Actor) submit(ctx context.Context, p Page, form Form, values url.Values) (Page, error) {
	to, err := form.Fill(p, values)
	if err != nil {
		return Page{}, err
	}
	return a.call(ctx, http.MethodPost, to, formType, []byte(form.Values.Encode()),
		http.Header{"Origin": {a.server.Issuer}, "Sec-Fetch-Site": {"same-origin"}})
}

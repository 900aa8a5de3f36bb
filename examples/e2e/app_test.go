package e2e_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
)

// registration is how an app becomes known to the authorization server.
type registration string

const (
	byDocument      registration = "metadata document"
	byRegistration  registration = "dynamic registration"
	byPreregistered registration = "pre-registered"
)

// app is an MCP client of one person: the official SDK's, with a callback
// listener of its own.
type app struct {
	name   string
	person *person // nil: nobody is there to ask
	wallet *wallet

	transport http.RoundTripper // nil is http.DefaultTransport

	t        *testing.T
	callback string
	answers  chan url.Values
	handler  *auth.AuthorizationCodeHandler

	mu    sync.Mutex
	trail []string // every request that it sent, with the answer's status
}

// newApp makes an app. documents is where a metadata document can be
// published; only byDocument needs it.
func newApp(t *testing.T, who *person, how registration, documents *publisher) *app {
	t.Helper()
	a := &app{name: "Notebook of " + who.email, person: who, wallet: new(wallet), t: t, answers: make(chan url.Values, 1)}
	listener := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.answers <- r.URL.Query()
		fmt.Fprintln(w, "Connected.")
	}))
	t.Cleanup(listener.Close)
	a.callback = listener.URL + "/callback"

	config := &auth.AuthorizationCodeHandlerConfig{
		RedirectURL: a.callback, AuthorizationCodeFetcher: a.authorize, NewTokenSource: a.wallet.take,
		Client: &http.Client{Transport: recording{a}, Timeout: 20 * time.Second},
	}
	switch how {
	case byDocument:
		config.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: documents.publish(t, map[string]any{
			"client_name": a.name, "redirect_uris": []string{"http://127.0.0.1/callback"}, // any port (RFC 8252 §7.3)
			"grant_types":    []string{"authorization_code", "refresh_token"},
			"response_types": []string{"code"}, "token_endpoint_auth_method": "none",
		})}
	case byRegistration:
		config.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
			ClientName: a.name, RedirectURIs: []string{a.callback}, TokenEndpointAuthMethod: "none",
			GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
		}}
	case byPreregistered:
		var created struct {
			ID string `json:"client_id"`
		}
		who.postern.run(t, &created, "client", "create", "--name", a.name, "--redirect-uri", "http://127.0.0.1/callback")
		config.PreregisteredClient = &oauthex.ClientCredentials{ClientID: created.ID, Issuer: who.postern.issuer}
	}
	var err error
	if a.handler, err = auth.NewAuthorizationCodeHandler(config); err != nil {
		t.Fatal(err)
	}
	return a
}

// errNobody is why an app gets no authorization when its person has gone.
var errNobody = errors.New("nobody is there to ask")

// authorize sends the person to the authorization server and waits for the
// answer at the callback.
func (a *app) authorize(ctx context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
	if a.person == nil {
		return nil, errNobody
	}
	at, err := a.person.visit(ctx, args.URL)
	if err != nil {
		return nil, err
	}
	select {
	case q := <-a.answers:
		if q.Get("error") != "" {
			return nil, fmt.Errorf("%s: %s", q.Get("error"), q.Get("error_description"))
		}
		return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
	default:
		return nil, fmt.Errorf("the person never came to the callback, but to %v", at)
	}
}

// connect connects to an MCP server: at /sse by the transport of 2024-11-05,
// elsewhere by Streamable HTTP.
func (a *app) connect(endpoint string) (*mcp.ClientSession, error) {
	var transport mcp.Transport = &mcp.StreamableClientTransport{
		Endpoint: endpoint, HTTPClient: &http.Client{Transport: recording{a}}, OAuthHandler: a.handler,
	}
	if strings.HasSuffix(endpoint, "/sse") { // whose client knows no OAuthHandler
		transport = &mcp.SSEClientTransport{
			Endpoint: endpoint, HTTPClient: &http.Client{Transport: authorizing{recording{a}, a.handler, endpoint}},
		}
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: a.name, Version: "1"}, nil).Connect(a.t.Context(), transport, nil)
	if err == nil {
		a.t.Cleanup(func() { _ = session.Close() }) // the server may have ended it
	}
	return session, err
}

// mustConnect is connect for an app that must succeed.
func (a *app) mustConnect(endpoint string) *mcp.ClientSession {
	a.t.Helper()
	session, err := a.connect(endpoint)
	if err != nil {
		a.t.Fatalf("connect to %s: %v\nrequests:\n%s", endpoint, err, strings.Join(a.requests(), "\n"))
	}
	return session
}

// requests are the requests so far, such as "GET /mcp 401".
func (a *app) requests() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.trail...)
}

// wantTrail checks that the app sent these requests in this order, with others
// between them.
func (a *app) wantTrail(t *testing.T, want ...string) {
	t.Helper()
	all, i := a.requests(), 0
	for _, request := range all {
		if i < len(want) && request == want[i] {
			i++
		}
	}
	if i < len(want) {
		t.Errorf("the app never sent %q (after %q). It sent:\n%s", want[i], want[:i], strings.Join(all, "\n"))
	}
}

// recording notes an app's requests.
type recording struct{ app *app }

func (rec recording) RoundTrip(r *http.Request) (*http.Response, error) {
	transport := rec.app.transport
	if transport == nil {
		transport = http.DefaultTransport
	}
	resp, err := transport.RoundTrip(r)
	status := "no answer"
	if err == nil {
		status = fmt.Sprint(resp.StatusCode)
	}
	rec.app.mu.Lock()
	defer rec.app.mu.Unlock()
	rec.app.trail = append(rec.app.trail, r.Method+" "+r.URL.Path+" "+status)
	return resp, err
}

// authorizing does for any transport what the SDK's Streamable HTTP client does
// by itself: sends the token, and asks for authorization on 401 and 403.
type authorizing struct {
	http.RoundTripper
	handler  auth.OAuthHandler
	endpoint string
}

func (au authorizing) RoundTrip(r *http.Request) (*http.Response, error) {
	var body []byte
	if r.Body != nil {
		var err error
		if body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	resp, err := au.send(r, body)
	if err != nil || resp.StatusCode != http.StatusUnauthorized && resp.StatusCode != http.StatusForbidden {
		return resp, err
	}
	// The resource is the URL that people gave the client, not the address of
	// one stream's messages.
	asked := r.Clone(r.Context())
	if asked.URL, err = url.Parse(au.endpoint); err != nil {
		return nil, err
	}
	if err := au.handler.Authorize(r.Context(), asked, resp); err != nil {
		return nil, err
	}
	return au.send(r, body)
}

func (au authorizing) send(r *http.Request, body []byte) (*http.Response, error) {
	r = r.Clone(r.Context())
	if body != nil {
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	source, err := au.handler.TokenSource(r.Context())
	if err != nil {
		return nil, err
	}
	if source != nil {
		token, err := source.Token()
		var refused *oauth2.RetrieveError
		switch {
		case errors.As(err, &refused): // then the server asks for authorization
		case err != nil:
			return nil, err
		default:
			r.Header.Set("Authorization", "Bearer "+token.AccessToken)
		}
	}
	return au.RoundTripper.RoundTrip(r)
}

// wallet keeps an app's tokens and refreshes them as x/oauth2 does, and can be
// told that the access token has ended.
type wallet struct {
	mu      sync.Mutex
	ctx     context.Context // for refreshes, as the SDK hands it
	config  *oauth2.Config
	token   *oauth2.Token
	refused error // of the last refresh
}

func (w *wallet) take(ctx context.Context, config *oauth2.Config, token *oauth2.Token) (oauth2.TokenSource, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ctx, w.config, w.token = ctx, config, token
	return w, nil
}

// Token returns the access token, after a refresh where it has ended.
func (w *wallet) Token() (*oauth2.Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	token, err := w.config.TokenSource(w.ctx, w.token).Token()
	w.refused = err
	if err == nil {
		w.token = token
	}
	return token, err
}

// expire makes the next use of the wallet a refresh.
func (w *wallet) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	ended := *w.token
	ended.Expiry = time.Now().Add(-time.Hour)
	w.token = &ended
}

// now is the token as it is, and how the last refresh went.
func (w *wallet) now() (oauth2.Token, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return *w.token, w.refused
}

// call calls a tool. The error is the refusal of server, tool or transport.
func call(t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any, into any) error {
	t.Helper()
	result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		return err
	}
	text, ok := result.Content[0].(*mcp.TextContent)
	if !ok {
		return fmt.Errorf("%s answered %T", tool, result.Content[0])
	}
	if result.IsError {
		return errors.New(text.Text)
	}
	return json.Unmarshal([]byte(text.Text), into)
}

// todos are the texts of the caller's list.
func todos(t *testing.T, session *mcp.ClientSession) []string {
	t.Helper()
	var all struct{ Todos []struct{ Text string } }
	if err := call(t, session, "listTodos", nil, &all); err != nil {
		t.Fatal(err)
	}
	texts := []string{}
	for _, todo := range all.Todos {
		texts = append(texts, todo.Text)
	}
	return texts
}

// publisher is an https server for metadata documents, with a certificate of
// its own authority.
type publisher struct {
	*httptest.Server
	authority string // PEM file

	mu        sync.Mutex
	documents map[string][]byte // by path
}

func newPublisher(t *testing.T) *publisher {
	t.Helper()
	certificate, authority := newCertificate(t, "localhost")
	p := &publisher{authority: authority, documents: map[string][]byte{}}
	p.Server = httptest.NewUnstartedServer(p)
	p.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	p.StartTLS()
	t.Cleanup(p.Close)
	return p
}

// newCertificate makes a certificate for some names, which is its own authority,
// and returns it with the authority's PEM file.
func newCertificate(t *testing.T, names ...string) (certificate tls.Certificate, authority string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Postern e2e"}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	authority = filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, authority
}

// publish publishes a document under an address of its own, which becomes its
// client_id, and returns the address.
func (p *publisher) publish(t *testing.T, document map[string]any) string {
	t.Helper()
	u, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	path := fmt.Sprintf("/apps/%d/client.json", len(p.documents)+1)
	address := "https://localhost:" + u.Port() + path
	document["client_id"] = address
	if p.documents[path], err = json.Marshal(document); err != nil {
		t.Fatal(err)
	}
	return address
}

func (p *publisher) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	document := p.documents[r.URL.Path]
	p.mu.Unlock()
	if document == nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(document)
}

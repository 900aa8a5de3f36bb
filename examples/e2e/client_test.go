package e2e_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"
)

// client is a public, pre-registered client that sends every request by hand.
type client struct {
	*postern
	id       string
	resource string
	scope    string // what allow asks for
	callback string
	answers  chan url.Values
	http     *http.Client
}

// newClient registers a client for a resource server.
func newClient(t *testing.T, p *postern, resource string) *client {
	t.Helper()
	c := &client{postern: p, resource: resource, scope: readTodos + " " + writeTodos, answers: make(chan url.Values, 1)}
	listener := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { c.answers <- r.URL.Query() }))
	t.Cleanup(listener.Close)
	c.callback = listener.URL + "/callback"
	var created struct {
		ID string `json:"client_id"`
	}
	p.run(t, &created, "client", "create", "--name", "By hand", "--redirect-uri", "http://127.0.0.1/callback")
	c.id = created.ID
	transport := &http.Transport{MaxIdleConnsPerHost: 100}
	t.Cleanup(transport.CloseIdleConnections)
	c.http = &http.Client{Transport: transport, Timeout: 30 * time.Second}
	return c
}

// code is an authorization code that waits to be redeemed.
type code struct{ code, verifier string }

// allow sends a person through the authorization endpoint.
func (c *client) allow(t *testing.T, who *person) code {
	t.Helper()
	verifier := rand.Text() + rand.Text()
	challenge := sha256.Sum256([]byte(verifier))
	at, err := who.visit(t.Context(), c.issuer+"/oauth/authorize?"+url.Values{
		"response_type": {"code"}, "client_id": {c.id}, "redirect_uri": {c.callback}, "state": {"s"},
		"scope": {c.scope}, "resource": {c.resource},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}.Encode())
	if err != nil {
		t.Fatal(err)
	}
	select {
	case q := <-c.answers:
		if q.Get("code") == "" || q.Get("iss") != c.issuer || q.Get("state") != "s" {
			t.Fatalf("the answer is %v", q)
		}
		return code{q.Get("code"), verifier}
	default:
		t.Fatalf("no answer arrived; the person is at %v", at)
		return code{}
	}
}

// answer is what the token endpoint said.
type answer struct {
	status int
	body   string
}

// decode reads the tokens of an answer that has any.
func (a answer) decode() (tokens, error) {
	var got tokens
	if err := json.Unmarshal([]byte(a.body), &got); err != nil || a.status != http.StatusOK || got.Refresh == "" {
		return got, fmt.Errorf("no tokens: %d %s", a.status, a.body)
	}
	return got, nil
}

// tokens is decode for an answer that must have them.
func (a answer) tokens(t *testing.T) tokens {
	t.Helper()
	got, err := a.decode()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// refused reports whether the answer is 400 with an error code.
func (a answer) refused(code string) bool {
	var e struct{ Error string }
	return a.status == http.StatusBadRequest && json.Unmarshal([]byte(a.body), &e) == nil && e.Error == code
}

type tokens struct {
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

// post sends a form to an endpoint of the issuer. id and secret, where there
// are any, go by Basic authentication.
func (c *client) post(ctx context.Context, path string, form url.Values, id, secret string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.issuer+path, strings.NewReader(form.Encode()))
	if err != nil {
		return answer{}, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if id != "" {
		r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	}
	status, body, err := roundTrip(c.http, r)
	return answer{status, body}, err
}

func (c *client) redeem(ctx context.Context, k code) (answer, error) {
	return c.post(ctx, "/v1/oauth2/token", url.Values{
		"grant_type": {"authorization_code"}, "client_id": {c.id}, "code": {k.code}, "code_verifier": {k.verifier},
		"redirect_uri": {c.callback}, "resource": {c.resource},
	}, "", "")
}

func (c *client) refresh(ctx context.Context, token string) (answer, error) {
	return c.post(ctx, "/v1/oauth2/token", url.Values{
		"grant_type": {"refresh_token"}, "client_id": {c.id}, "refresh_token": {token},
	}, "", "")
}

// must ends the test when a request was not answered.
func must(t *testing.T, a answer, err error) answer {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// active asks the introspection endpoint, as the resource server.
func (c *client) active(t *testing.T, r resource, token string) bool {
	t.Helper()
	a, err := c.post(t.Context(), "/v1/oauth2/introspect", url.Values{"token": {token}}, r.ID, r.Secret)
	var said struct{ Active bool }
	if err != nil || a.status != http.StatusOK || json.Unmarshal([]byte(a.body), &said) != nil {
		t.Fatalf("introspection: %d %s, %v", a.status, a.body, err)
	}
	return said.Active
}

// atOnce sends n requests together and returns all answers.
func atOnce(t *testing.T, n int, send func() (answer, error)) []answer {
	t.Helper()
	gate, answers, failed := make(chan struct{}), make(chan answer, n), make(chan error, n)
	for range n {
		go func() {
			<-gate
			a, err := send()
			answers <- a
			failed <- err
		}()
	}
	close(gate)
	var all []answer
	for range n {
		all = append(all, <-answers)
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	return all
}

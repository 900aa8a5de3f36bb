package oauth

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

// The ways a client authenticates (RFC 7591 §2).
const (
	authNone  = "none"
	authBasic = "client_secret_basic"
	authPost  = "client_secret_post"
	authKey   = "private_key_jwt" // OpenID Connect Core §9
)

// clientAuthMethods are those that a client may register.
func clientAuthMethods() []string { return []string{authBasic, authPost, authNone, authKey} }

// failedClientAuth bounds wrong secrets and signatures per client (RFC 6749 §2.3.1
// asks for protection against guessing). A right one always works: nobody guesses
// it, and a stranger who knows the client_id must not be able to shut the
// client out.
func failedClientAuth(clientID string) Counter {
	return Counter{Kind: "client_auth", Key: clientID, Limit: 20, Window: time.Minute}
}

// credentials are what a request says about who sends it.
type credentials struct {
	id     string
	secret string
	method string // authNone, authBasic, authPost or authKey
	// What the client signed, nil for another method. Until it is verified id is
	// what anybody can say.
	assertion *assertion
}

// readCredentials takes client_id and secret from the Authorization header or
// the body. Both halves of Basic are form-encoded (RFC 6749 §2.3.1). An empty
// password in the header counts as no secret sent: some clients probe that way
// and then put the same code into the body (MCP-AS-43). What a client signed
// stands in the body too (RFC 7523 §2.2).
func readCredentials(r *http.Request, form url.Values) (credentials, error) {
	if form.Has("client_assertion") || form.Has("client_assertion_type") {
		return readAssertion(r, form)
	}
	header := r.Header.Values("Authorization")
	if len(header) > 1 {
		return credentials{}, invalidRequest("Send one Authorization header.")
	}
	if len(header) == 0 {
		c := credentials{id: form.Get("client_id"), secret: form.Get("client_secret"), method: authNone}
		if c.secret != "" {
			c.method = authPost
		}
		if c.id == "" {
			return credentials{}, invalidClient("client_id is missing.")
		}
		return c, nil
	}
	scheme, encoded, _ := strings.Cut(header[0], " ")
	if !strings.EqualFold(scheme, "Basic") {
		return credentials{}, invalidClient("Authenticate with Basic, with client_secret in the body, with client_assertion, or with client_id alone.")
	}
	id, password, ok := basicCredentials(encoded)
	if !ok {
		return credentials{}, invalidClient("The Basic credentials cannot be read.")
	}
	if form.Has("client_secret") {
		return credentials{}, invalidRequest("Authenticate in the header or in the body, not in both.")
	}
	if body := form.Get("client_id"); body != "" && body != id {
		return credentials{}, invalidRequest("client_id in the body is not the one in the header.")
	}
	return credentials{id: id, secret: password, method: authBasic}, nil
}

// basicCredentials decodes what stands behind the scheme: base64, a colon, and
// in both halves the form encoding. What comes out is text.
func basicCredentials(encoded string) (id, password string, ok bool) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	id, password, found := strings.Cut(string(raw), ":")
	if err != nil || !found {
		return "", "", false
	}
	for _, half := range []*string{&id, &password} {
		if *half, err = url.QueryUnescape(*half); err != nil || !utf8.ValidString(*half) || strings.Contains(*half, "\x00") {
			return "", "", false
		}
	}
	return id, password, id != ""
}

// authenticateClient finds the client of a request and checks its secret or its
// assertion by the method it registered (RFC 6749 §2.3). It returns the method
// used. A client that was read already, as known, is not read again.
func (s *Server) authenticateClient(ctx context.Context, r *http.Request, p *project.Project, form url.Values, known Client) (Client, string, error) {
	c, err := readCredentials(r, form)
	if err != nil {
		return Client{}, "", s.refuseCredentials(ctx, r, p, form, err)
	}
	if c.assertion != nil {
		if reason, refusal := c.assertion.check(p, c.id, s.now()); refusal != nil {
			return Client{}, "", s.refuseAssertion(ctx, p, form, Client{ID: c.id}, reason, refusal)
		}
	}
	client := known
	if known.ID == "" || known.PublicID() != c.id {
		client, err = s.findClient(ctx, p, c.id)
	}
	switch {
	case errors.Is(err, ErrNotFound):
		return Client{}, "", s.refuseClient(ctx, p, form, c.id, "unknown client")
	case err != nil:
		return Client{}, "", err
	case client.Blocked:
		return Client{}, "", s.refuseClient(ctx, p, form, client.ID, "blocked client")
	}
	switch {
	case c.assertion != nil:
		return s.authenticateByKey(ctx, p, form, client, *c.assertion)
	case client.Metadata.TokenEndpointAuthMethod == authKey: // not a public client, whatever it leaves out
		return Client{}, "", s.refuseAssertion(ctx, p, form, client, "no client assertion",
			invalidClient("This client authenticates by private_key_jwt: send client_assertion and client_assertion_type."))
	case client.Metadata.TokenEndpointAuthMethod == authNone:
		switch {
		case c.method == authNone:
			return client, authNone, nil
		case c.secret == "": // a client that tries the header first; it comes again
			return Client{}, "", unauthenticated()
		}
		return Client{}, "", s.refuseClient(ctx, p, form, client.ID, "secret from a public client")
	}
	if c.method != client.Metadata.TokenEndpointAuthMethod || !client.hasSecret(c.secret) {
		if err := s.countFailedClientAuth(ctx, p, client); err != nil {
			return Client{}, "", err
		}
		return Client{}, "", s.refuseClient(ctx, p, form, client.ID, "wrong secret or method")
	}
	return client, c.method, nil
}

// countFailedClientAuth counts a wrong secret or signature, and refuses one too
// many.
func (s *Server) countFailedClientAuth(ctx context.Context, p *project.Project, client Client) error {
	err := s.store.Count(ctx, p.ID, failedClientAuth(client.ID), s.now())
	if errors.Is(err, ErrLimited) {
		return refuse("too_many_requests", "Too many wrong secrets or signatures for this client. Wait a minute.")
	}
	return err
}

// findClient finds a client by what it calls itself. The internal id of a
// metadata-document client is not a name it may use (decision 33).
func (s *Server) findClient(ctx context.Context, p *project.Project, id string) (Client, error) {
	if strings.HasPrefix(id, "https://") {
		if len(id) > maxURI {
			return Client{}, ErrNotFound
		}
		return s.store.ClientByURL(ctx, p.ID, id)
	}
	if len(id) > 128 {
		return Client{}, ErrNotFound
	}
	c, err := s.store.Client(ctx, p.ID, id)
	if err == nil && c.URL != "" {
		return Client{}, ErrNotFound
	}
	return c, err
}

// namedClient is the client that a request names, right or wrong, "" for none.
func namedClient(r *http.Request, form url.Values) string {
	scheme, encoded, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if id, _, ok := basicCredentials(encoded); ok && strings.EqualFold(scheme, "Basic") {
		return short(id)
	}
	return short(form.Get("client_id"))
}

// short bounds a client_id that nobody knows.
func short(id string) string { return id[:min(len(id), 200)] }

// refuseCredentials records that a request does not say who sends it in a way
// that can be read, and returns refusal.
func (s *Server) refuseCredentials(ctx context.Context, r *http.Request, p *project.Project, form url.Values, refusal error) error {
	if err := s.recordClient(ctx, p, form, namedClient(r, form), "client authentication cannot be read"); err != nil {
		return err
	}
	return refusal
}

// refuseClient records why a client was refused, and answers with one sentence
// for every case.
func (s *Server) refuseClient(ctx context.Context, p *project.Project, form url.Values, clientID, reason string) error {
	if err := s.recordClient(ctx, p, form, clientID, reason); err != nil {
		return err
	}
	return unauthenticated()
}

// recordClient keeps the refusal of a client. form is what it sent: with a code it
// is a step of an authorization attempt.
func (s *Server) recordClient(ctx context.Context, p *project.Project, form url.Values, clientID, reason string) error {
	e := s.event(ctx, p, audit.ClientRefused)
	e.ClientID, e.Reason = short(clientID), reason
	if form.Get("grant_type") != "authorization_code" {
		return s.recordRefusal(ctx, e)
	}
	var err error
	if e.Attempt, err = s.attemptOfCode(ctx, p, form.Get("code")); err != nil {
		return err
	}
	return s.refuseCode(ctx, "", e)
}

// unauthenticated is one sentence for all cases: 401 makes a client register
// again, which is right when it is unknown (MCP-AS-42).
func unauthenticated() error {
	return invalidClient("The client is not known here or did not authenticate as it registered. Register again.")
}

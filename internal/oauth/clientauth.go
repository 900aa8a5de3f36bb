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
	"github.com/postern-id/postern/internal/secret"
)

// The ways a client authenticates (RFC 7591 §2).
const (
	authNone  = "none"
	authBasic = "client_secret_basic"
	authPost  = "client_secret_post"
)

// failedClientAuth bounds wrong secrets per client (RFC 6749 §2.3.1 asks for
// protection against guessing). A right one always works: it holds 256 random
// bits, and a stranger who knows the client_id must not be able to shut the
// client out.
func failedClientAuth(clientID string) Counter {
	return Counter{Kind: "client_auth", Key: clientID, Limit: 20, Window: time.Minute}
}

// credentials are what a request says about who sends it.
type credentials struct {
	id     string
	secret string
	method string // authNone, authBasic or authPost
}

// readCredentials takes client_id and secret from the Authorization header or
// the body. Both halves of Basic are form-encoded (RFC 6749 §2.3.1). An empty
// password in the header counts as no secret sent: some clients probe that way
// and then put the same code into the body (MCP-AS-43).
func readCredentials(r *http.Request, form url.Values) (credentials, error) {
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
		return credentials{}, invalidClient("Authenticate with Basic, with client_secret in the body, or with client_id alone.")
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

// authenticateClient finds the client of a request and checks its secret by
// the method it registered (RFC 6749 §2.3). It returns the method used.
func (s *Server) authenticateClient(ctx context.Context, r *http.Request, p *project.Project, form url.Values) (Client, string, error) {
	c, err := readCredentials(r, form)
	if err != nil {
		return Client{}, "", err
	}
	client, err := s.findClient(ctx, p, c.id)
	switch {
	case errors.Is(err, ErrNotFound):
		return Client{}, "", s.refuseClient(ctx, p, form, c.id, "unknown client")
	case err != nil:
		return Client{}, "", err
	case client.Blocked:
		return Client{}, "", s.refuseClient(ctx, p, form, client.ID, "blocked client")
	}
	if client.Metadata.TokenEndpointAuthMethod == authNone {
		switch {
		case c.method == authNone:
			return client, authNone, nil
		case c.secret == "": // a client that tries the header first; it comes again
			return Client{}, "", unauthenticated()
		}
		return Client{}, "", s.refuseClient(ctx, p, form, client.ID, "secret from a public client")
	}
	given, ok := secret.Parse(secret.ClientSecret, c.secret)
	if c.method != client.Metadata.TokenEndpointAuthMethod || !ok || given.ID != client.SecretID || !given.Matches(client.SecretHash) {
		err := s.store.Count(ctx, p.ID, failedClientAuth(client.ID), s.now())
		if errors.Is(err, ErrLimited) {
			return Client{}, "", refuse("too_many_requests", "Too many wrong secrets for this client. Wait a minute.")
		}
		if err != nil {
			return Client{}, "", err
		}
		return Client{}, "", s.refuseClient(ctx, p, form, client.ID, "wrong secret or method")
	}
	return client, c.method, nil
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

// refuseClient records why a client was refused. form is what it sent: with a
// code it is a step of an authorization attempt.
func (s *Server) refuseClient(ctx context.Context, p *project.Project, form url.Values, clientID, reason string) error {
	e := s.event(ctx, p, audit.ClientRefused)
	e.ClientID, e.Reason = clientID, reason
	if len(e.ClientID) > 200 {
		e.ClientID = e.ClientID[:200]
	}
	var err error
	if form.Get("grant_type") == "authorization_code" {
		if e.Attempt, err = s.attemptOfCode(ctx, p, form.Get("code")); err != nil {
			return err
		}
		err = s.refuseCode(ctx, "", e)
	} else {
		err = s.recordRefusal(ctx, e)
	}
	if err != nil {
		return err
	}
	return unauthenticated()
}

// unauthenticated is one sentence for all cases: 401 makes a client register
// again, which is right when it is unknown (MCP-AS-42).
func unauthenticated() error {
	return invalidClient("The client is not known here or did not authenticate as it registered. Register again.")
}

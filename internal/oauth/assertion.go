package oauth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/wire"
)

// assertionType is the only client_assertion_type (RFC 7523 §2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

const (
	// assertionLife is how far ahead an assertion may end.
	assertionLife = 5 * time.Minute
	// clientClock is how far ahead of ours a client's clock may be. What has ended
	// has ended: there is nothing to add for a clock that is behind.
	clientClock = 30 * time.Second
	// assertionKept is how long past its end an assertion is known: on a node whose
	// clock is behind it has not ended yet.
	assertionKept = time.Minute
	maxJTI        = 256 // bytes
)

// assertion is what a client says of itself and signed (RFC 7523 §3). Until the
// signature was checked nothing of it is worth more than a client_id.
type assertion struct {
	signed   signing.Assertion
	issuer   string
	subject  string
	audience []string
	expires  time.Time // zero without one
	issued   time.Time
	after    time.Time
	jti      string
}

// readAssertion takes the assertion out of a request. There is one way to
// authenticate in a request (RFC 6749 §2.3), so nothing may stand beside it but
// the client_id that it is for (RFC 7521 §4.2).
func readAssertion(r *http.Request, form url.Values) (credentials, error) {
	if r.Header.Get("Authorization") != "" || form.Has("client_secret") {
		return credentials{}, invalidRequest("Authenticate in one way: with client_assertion, or with a secret.")
	}
	if form.Get("client_assertion_type") != assertionType {
		return credentials{}, invalidClient("client_assertion_type must be %s.", assertionType)
	}
	a, err := parseAssertion(form.Get("client_assertion"))
	if err != nil {
		return credentials{}, &Error{Code: "invalid_client", cause: err, Description: "client_assertion must be a signed JWT in compact form, of at most 8 KiB, " +
			"with one of the algorithms that the metadata lists and the claims iss, sub, aud, exp and jti."}
	}
	id := a.subject
	if named := form.Get("client_id"); named != "" {
		id = named
	}
	return credentials{id: id, method: authKey, assertion: &a}, nil
}

func parseAssertion(compact string) (assertion, error) {
	signed, err := signing.ParseAssertion(compact)
	if err != nil {
		return assertion{}, err
	}
	var c struct {
		Issuer   string          `json:"iss"`
		Subject  string          `json:"sub"`
		Audience json.RawMessage `json:"aud"`
		Expires  float64         `json:"exp"` // RFC 7519 §2 allows fractions of a second
		Issued   float64         `json:"iat"`
		After    float64         `json:"nbf"`
		JTI      string          `json:"jti"`
	}
	if err := wire.JSON(signed.Claims, &c); err != nil {
		return assertion{}, err
	}
	a := assertion{
		signed: signed, issuer: c.Issuer, subject: c.Subject, jti: c.JTI,
		expires: instant(c.Expires), issued: instant(c.Issued), after: instant(c.After),
	}
	switch { // one text or a list of them (RFC 7519 §4.1.3)
	case bytes.HasPrefix(c.Audience, []byte("[")):
		err = json.Unmarshal(c.Audience, &a.audience)
	case len(c.Audience) > 0:
		a.audience = []string{""}
		err = json.Unmarshal(c.Audience, &a.audience[0])
	}
	return a, err
}

// instant is a NumericDate (RFC 7519 §2); one that no clock shows is the end of
// time.
func instant(seconds float64) time.Time {
	switch {
	case seconds == 0:
		return time.Time{}
	case seconds < -1<<40 || seconds > 1<<40:
		return time.Unix(1<<40, 0)
	}
	return time.UnixMicro(int64(seconds * 1e6))
}

// check says what is wrong with the claims of an assertion for the client id, as
// the reason of an event and for the client (RFC 7523 §3). It costs nothing, so it
// comes before anything is looked up or fetched. The audience is the issuer alone:
// what is addressed to others as well they could show us.
func (a assertion) check(p *project.Project, id string, now time.Time) (reason string, err error) {
	switch {
	case id == "" || a.subject != id || a.issuer != id:
		return "client assertion names another client", invalidClient("iss and sub of the client assertion must both be the client_id.")
	case len(a.audience) != 1 || a.audience[0] != p.Issuer:
		return "client assertion is for another server", invalidClient("aud of the client assertion must be %s alone: the issuer, not the address of an endpoint.", p.Issuer)
	case !now.Before(a.expires) || a.expires.After(now.Add(assertionLife+clientClock)):
		return "client assertion is out of time", invalidClient("exp of the client assertion must be in the next five minutes. Sign a new one for every request, and set the clock.")
	case a.issued.After(now.Add(clientClock)) || a.after.After(now.Add(clientClock)):
		return "client assertion is out of time", invalidClient("iat and nbf of the client assertion must not lie ahead. Set the clock.")
	case a.jti == "" || len(a.jti) > maxJTI:
		return "client assertion has no id", invalidClient("jti of the client assertion must be a text of 1 to %d bytes, a new one in every assertion.", maxJTI)
	}
	return "", nil
}

// authenticateByKey checks that a client signed its assertion, and uses the
// assertion up. That is a statement of its own before whatever the request is
// for: an assertion was shown, also when the rest of the request is refused.
func (s *Server) authenticateByKey(ctx context.Context, p *project.Project, form url.Values, client Client, a assertion) (Client, string, error) {
	if !client.HasKeys() || a.signed.Algorithm != client.Metadata.SigningAlg && client.Metadata.SigningAlg != "" {
		return Client{}, "", s.refuseAssertion(ctx, p, form, client, "client assertion is not what it registered", unauthenticated())
	}
	err := s.verifyAssertion(ctx, p, client, a)
	switch {
	case errors.Is(err, errUnread):
		// Not 401: clients throw their registration away then, and theirs is right.
		return Client{}, "", s.refuseAssertion(ctx, p, form, client, "client keys cannot be read", &Error{
			Code: "temporarily_unavailable", Description: "The client's keys at its jwks_uri could not be read. Try again in a minute.", cause: err,
		})
	case errors.Is(err, signing.ErrInvalid):
		if err := s.countFailedClientAuth(ctx, p, client); err != nil {
			return Client{}, "", err
		}
		return Client{}, "", s.refuseAssertion(ctx, p, form, client, "client assertion is not signed by its keys",
			invalidClient("No key that the client registered made the signature of its assertion. Sign with one that it has in its jwks or at its jwks_uri, and name it by kid."))
	case err != nil:
		return Client{}, "", err
	}
	err = s.store.UseAssertion(ctx, p.ID, client.ID, a.jti, a.expires.Add(assertionKept))
	if errors.Is(err, ErrUsed) {
		return Client{}, "", s.refuseAssertion(ctx, p, form, client, "client assertion was used before",
			invalidClient("The client assertion was used before. Sign a new one, with a new jti, for every request."))
	}
	return client, authKey, err
}

// refuseAssertion records why an assertion was refused, and returns refusal.
func (s *Server) refuseAssertion(ctx context.Context, p *project.Project, form url.Values, client Client, reason string, refusal error) error {
	if err := s.recordClient(ctx, p, form, client.ID, reason); err != nil {
		return err
	}
	return refusal
}

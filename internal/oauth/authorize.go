package oauth

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

// ErrSignInFirst says that the client names itself by a metadata document
// which is read only once somebody has signed in, so that strangers cannot
// make this server send requests.
var ErrSignInFirst = errors.New("oauth: sign in before the client's document is read")

// AuthorizeRequest is an authorization request as it came (RFC 6749 §4.1.1,
// OpenID Connect Core §3.1.2.1). Parameters that are not here are ignored.
type AuthorizeRequest struct {
	ClientID            string   `json:"client_id"`
	RedirectURI         string   `json:"redirect_uri,omitempty"`
	ResponseType        string   `json:"response_type,omitempty"`
	ResponseMode        string   `json:"response_mode,omitempty"`
	Scope               string   `json:"scope,omitempty"`
	State               string   `json:"state,omitempty"`
	Nonce               string   `json:"nonce,omitempty"`
	CodeChallenge       string   `json:"code_challenge,omitempty"`
	CodeChallengeMethod string   `json:"code_challenge_method,omitempty"`
	Resources           []string `json:"resource,omitempty"`
	Prompt              []string `json:"prompt,omitempty"`
	LoginHint           string   `json:"login_hint,omitempty"`
	MaxAge              int      `json:"max_age"`           // seconds; -1 when it was not sent
	IDTokenHint         string   `json:"-"`                 // a flow keeps whom it is about, and not the token
	Hinted              string   `json:"hinted,omitempty"`  // subject of the id_token_hint, set by Begin
	Attempt             string   `json:"attempt,omitempty"` // code of the attempt that it is, set by Begin
	wrong               error    // a refusal that does not depend on the client, for when it is certain
}

// Asks reports whether prompt has this value.
func (r AuthorizeRequest) Asks(prompt string) bool { return slices.Contains(r.Prompt, prompt) }

// Bounds of what is kept and sent back.
const (
	maxState = 2048
	maxNonce = 512
	maxHint  = 4096
)

// ParseAuthorize reads an authorization request from its query or form. An error
// means that nothing of the request can be believed, so it is for our own page.
// What else is wrong with it comes out of Begin.
func ParseAuthorize(q url.Values) (AuthorizeRequest, error) {
	r := AuthorizeRequest{
		ClientID: q.Get("client_id"), RedirectURI: q.Get("redirect_uri"),
		ResponseType: q.Get("response_type"), ResponseMode: q.Get("response_mode"),
		Scope: q.Get("scope"), State: q.Get("state"), Nonce: q.Get("nonce"),
		CodeChallenge: q.Get("code_challenge"), CodeChallengeMethod: q.Get("code_challenge_method"),
		Resources: q["resource"], Prompt: strings.Fields(q.Get("prompt")),
		LoginHint: q.Get("login_hint"), MaxAge: -1, IDTokenHint: q.Get("id_token_hint"),
	}
	var age int
	var notANumber error
	if text := q.Get("max_age"); text != "" {
		age, notANumber = strconv.Atoi(text)
		r.MaxAge = age
	}
	switch {
	case r.ClientID == "":
		return r, invalidRequest("client_id is missing.")
	case len(r.ClientID) > maxURI || len(r.RedirectURI) > maxURI:
		return r, invalidRequest("client_id or redirect_uri is longer than %d bytes.", maxURI)
	case len(r.State) > maxState:
		r.wrong = invalidRequest("state is longer than %d bytes.", maxState)
	case len(r.Nonce) > maxNonce:
		r.wrong = invalidRequest("nonce is longer than %d bytes.", maxNonce)
	case len(r.Scope) > maxScopeText:
		r.wrong = invalidScope("scope is longer than %d bytes.", maxScopeText)
	case len(r.IDTokenHint) > maxHint:
		r.wrong = invalidRequest("id_token_hint is longer than %d bytes.", maxHint)
	case q.Has("request"):
		r.wrong = refuse("request_not_supported", "Request objects are not supported.")
	case q.Has("request_uri"):
		r.wrong = refuse("request_uri_not_supported", "Request objects are not supported.")
	case notANumber != nil || age < 0:
		r.wrong = invalidRequest("max_age must be a number of seconds.")
	}
	return r, nil
}

// Pending is an authorization request that holds, with the client as it was
// when it was checked: what the client's document says later changes nothing
// in it.
type Pending struct {
	Request      AuthorizeRequest `json:"request"`
	Client       Client           `json:"client"`
	RedirectURI  string           `json:"redirect_uri"`
	Resource     string           `json:"resource"`      // as it goes into aud, "" for none
	ResourceName string           `json:"resource_name"` // what people read
	Scopes       []string         `json:"scopes"`        // what is asked, after defaults
}

// Expects reports whether the request may be answered for this person: one with
// an id_token_hint is about nobody else (OpenID Connect Core §3.1.2.1).
func (p Pending) Expects(subject string) bool {
	return p.Request.Hinted == "" || p.Request.Hinted == subject
}

// AuthorizeError is a refused authorization request whose client and redirect
// URI are beyond doubt. Whether the answer may travel there by itself is the
// caller's decision (decision 11).
type AuthorizeError struct {
	Refusal *Error
	Client  Client
	Answer  Answer
}

func (e *AuthorizeError) Error() string { return e.Refusal.Error() }

// Unwrap gives the refusal to errors.As.
func (e *AuthorizeError) Unwrap() error { return e.Refusal }

// MismatchError is a request whose client is certain and whose redirect URI is
// not one of the client's, so that nothing may be sent there.
type MismatchError struct {
	Refusal *Error
	Client  Client
	Asked   string // "" when the request named none
}

func (e *MismatchError) Error() string { return e.Refusal.Error() }

// Unwrap gives the refusal to errors.As.
func (e *MismatchError) Unwrap() error { return e.Refusal }

// Begin checks an authorization request. The error is an *AuthorizeError when
// client and redirect URI are certain, a *MismatchError when the redirect URI is
// not the client's, ErrSignInFirst when the client's document has to be read and
// nobody signed in, and an *Error when the client is in doubt; the last ones
// are for our own page (RFC 6749 §4.1.2.1). With ErrSignInFirst comes what is
// known of the request, to be begun again.
func (s *Server) Begin(ctx context.Context, p *project.Project, r AuthorizeRequest, signedIn bool) (Pending, error) {
	if r.Attempt == "" {
		r.Attempt = s.trace(ctx)
	}
	hinted, wrong := s.hinted(ctx, p, r)
	r.Hinted = hinted
	client, err := s.authorizingClient(ctx, p, r.ClientID, signedIn)
	if errors.Is(err, ErrSignInFirst) {
		switch {
		case wrong != nil:
			err = wrong
		case r.Asks("none"):
			err = refuse("login_required", "It asked us not to show a page, and nobody is signed in here.")
		default:
			return Pending{Request: r}, err
		}
	}
	if err != nil {
		return Pending{}, s.refusedAuthorize(ctx, p, r, Client{}, "", err)
	}
	redirectURI, err := chooseRedirectURI(client, r.RedirectURI)
	if err != nil {
		return Pending{}, s.refusedAuthorize(ctx, p, r, client, "", err)
	}
	pending, err := Pending{}, wrong
	if err == nil {
		pending, err = check(p, r, client, redirectURI)
	}
	var refusal *Error
	if errors.As(err, &refusal) {
		return Pending{}, s.refusedAuthorize(ctx, p, r, client, "", s.Refuse(p, client, redirectURI, r.State, refusal))
	}
	return pending, err
}

// hinted is whom a request is about, "" without a hint: the subject of an
// id_token of ours that this client got, expired or not (OpenID Connect Core
// §3.1.2.1). A request that is begun again says it by itself. A request that
// nobody could grant is refused here.
func (s *Server) hinted(ctx context.Context, p *project.Project, r AuthorizeRequest) (string, error) {
	if r.wrong != nil {
		return "", r.wrong
	}
	if r.IDTokenHint == "" {
		return r.Hinted, nil
	}
	c, err := s.readIDToken(ctx, p, r.IDTokenHint)
	switch {
	case err != nil:
		return "", err
	case c.Audience != r.ClientID:
		return "", invalidRequest("id_token_hint was issued to another client.")
	}
	return c.Subject, nil
}

// Refuse makes the error that answers a certain client.
func (s *Server) Refuse(p *project.Project, client Client, redirectURI, state string, refusal *Error) *AuthorizeError {
	return &AuthorizeError{Refusal: refusal, Client: client, Answer: errorAnswer(p.Issuer, redirectURI, state, refusal)}
}

// The refusals that depend on the person's session (OpenID Connect Core
// §3.1.2.6).
func loginRequired() *Error {
	return &Error{Code: "login_required", Description: "Nobody is signed in, and prompt=none forbids to ask."}
}

func otherPerson() *Error {
	return &Error{Code: "login_required", Description: "Somebody else is signed in than the request is about."}
}

func consentRequired() *Error {
	return &Error{Code: "consent_required", Description: "The person has to be asked, and prompt=none forbids it."}
}

// LoginRequired refuses a request with prompt=none that would need a sign-in.
func (s *Server) LoginRequired(ctx context.Context, p *project.Project, pending Pending) error {
	return s.refusePending(ctx, p, pending, "", loginRequired())
}

// OtherPerson refuses a request that is about another person than the one who
// signed in for it (OpenID Connect Core §3.1.2.1).
func (s *Server) OtherPerson(ctx context.Context, p *project.Project, pending Pending, who Person) error {
	return s.refusePending(ctx, p, pending, who.Subject, otherPerson())
}

// ConsentRequired refuses a request with prompt=none that would need consent.
func (s *Server) ConsentRequired(ctx context.Context, p *project.Project, pending Pending, who Person) error {
	return s.refusePending(ctx, p, pending, who.Subject, consentRequired())
}

// refusePending answers a client whose request holds, and records why not.
func (s *Server) refusePending(ctx context.Context, p *project.Project, pending Pending, subject string, refusal *Error) error {
	return s.refusedAuthorize(ctx, p, pending.Request, pending.Client, subject,
		s.Refuse(p, pending.Client, pending.RedirectURI, pending.Request.State, refusal))
}

func (s *Server) authorizingClient(ctx context.Context, p *project.Project, id string, signedIn bool) (Client, error) {
	if strings.Contains(id, "://") {
		return s.documentClient(ctx, p, id, signedIn)
	}
	c, err := s.findClient(ctx, p, id)
	switch {
	case errors.Is(err, ErrNotFound), err == nil && c.Blocked:
		return Client{}, invalidClient("No client with this client_id is known here. Connect again, so that it can register.")
	default:
		return c, err
	}
}

// refusedAuthorize records a refusal and returns its error, or the trouble with
// recording it. client is zero where it is in doubt; subject is who was refused,
// "" where nobody signed in.
func (s *Server) refusedAuthorize(ctx context.Context, p *project.Project, r AuthorizeRequest, client Client, subject string, err error) error {
	var refusal *Error
	if !errors.As(err, &refusal) {
		return err
	}
	a := s.attemptOf(ctx, p, r, client).Bound()
	e := s.event(ctx, p, audit.AuthorizeRefused)
	e.Actor, e.Subject, e.ClientID = subject, subject, a.ClientID
	e.Reason, a.Asked = whyRefused(r, err, refusal)
	a.Subject, a.State, a.Stage, a.Detail = subject, audit.Refused, audit.RefusedAt(e.Reason), refusal.Description
	if record := s.refuseAttempt(ctx, a, e); record != nil {
		return record
	}
	return err
}

// Unreadable refuses a request of which nothing can be believed, with what could be
// read of it. err says why, in the protocol's words.
func (s *Server) Unreadable(ctx context.Context, p *project.Project, r AuthorizeRequest, err error) error {
	r.Attempt = s.trace(ctx)
	return s.refusedAuthorize(ctx, p, r, Client{}, "", err)
}

// errOrganization says that the person's organization does not let a client in.
var errOrganization = errors.New("oauth: the organization does not allow the client")

// NotAdmitted refuses a request of a client that the person's organization does
// not let in. who is zero where none of the organizations that are open to the
// person does.
func (s *Server) NotAdmitted(ctx context.Context, p *project.Project, pending Pending, who Person) error {
	return s.refusePending(ctx, p, pending, who.Subject,
		&Error{Code: "access_denied", Description: "The person's organization does not allow this client.", cause: errOrganization})
}

// chooseRedirectURI compares the requested address with the registered ones.
// It may be left out only when there is exactly one (RFC 6749 §3.1.2.3).
func chooseRedirectURI(c Client, requested string) (string, error) {
	registered := c.Metadata.RedirectURIs
	mismatch := func(sentence string) error {
		return &MismatchError{Refusal: &Error{Code: "invalid_request", Description: sentence}, Client: c, Asked: requested}
	}
	switch {
	case requested == "" && len(registered) == 1:
		return registered[0], nil
	case requested == "":
		return "", mismatch("redirect_uri is missing, and the client registered more than one.")
	case !matchRedirectURI(registered, requested):
		return "", mismatch("redirect_uri is not one that the client registered.")
	default:
		return requested, nil
	}
}

// check decides everything about a request that follows from the request, the
// client and the project.
func check(p *project.Project, r AuthorizeRequest, c Client, redirectURI string) (Pending, error) {
	switch {
	case r.ResponseType == "":
		return Pending{}, invalidRequest("response_type is missing.")
	case r.ResponseType != "code":
		return Pending{}, refuse("unsupported_response_type", "Only response_type=code is supported.")
	case r.ResponseMode != "" && r.ResponseMode != "query":
		return Pending{}, invalidRequest("Only response_mode=query is supported.")
	case !slices.Contains(c.Metadata.GrantTypes, "authorization_code"):
		return Pending{}, unauthorizedClient("This client did not register for the authorization code grant.")
	case r.Asks("none") && len(r.Prompt) > 1:
		return Pending{}, invalidRequest("prompt=none stands alone.")
	}
	if err := checkChallenge(r.CodeChallenge, r.CodeChallengeMethod); err != nil {
		return Pending{}, err
	}
	target, err := resolveResource(p, r.Resources)
	if err != nil {
		return Pending{}, err
	}
	asked, err := parseScope(r.Scope)
	if err != nil {
		return Pending{}, err
	}
	scopes, err := requestedScopes(p, target, asked)
	if err != nil {
		return Pending{}, err
	}
	switch scopes = offered(target, scopes); {
	case useful(scopes):
	case useful(asked):
		return Pending{}, invalidScope("None of the scopes is one of this resource.")
	default:
		return Pending{}, invalidScope("No scope was asked for, and this server has no default for the resource.")
	}
	name := target.resource.Name
	if name == "" {
		name = p.Name
	}
	return Pending{Request: r, Client: c, RedirectURI: redirectURI, Resource: target.uri, ResourceName: name, Scopes: scopes}, nil
}

// offered keeps the scopes that mean something at the resource; those of
// another resource would only confuse the person who is asked. A default that is
// no scope-token goes too: with a blank in it, a token would have it as two.
func offered(t target, scopes []string) []string {
	names := t.registered && len(t.resource.Scopes) > 0
	return slices.DeleteFunc(slices.Clone(scopes), func(name string) bool {
		return !project.ValidScope(name) || names && !slices.Contains(t.resource.Scopes, name) && !ofOpenID(name)
	})
}

package oauth

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

// tokenRequest is a request to the token endpoint whose client is certain.
type tokenRequest struct {
	project   *project.Project
	client    Client // for a refresh token as Store.Family tells it
	attempt   string // code of the authorization attempt that a code is of, "" while that is unknown
	grant     string // grant_type
	method    string // how the client authenticated
	code      string
	verifier  string
	redirect  string
	held      held
	scopes    []string // asked; empty for what was granted
	resources []string
}

// held is the refresh token of a request, with the family that it names and that
// one's client: one read. Nothing of it was checked yet.
type held struct {
	token  secret.Secret // the zero one where the request has none
	family Family        // the zero one where nobody knows it
	client Client
}

// tokenResponse is RFC 6749 §5.1.
type tokenResponse struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"`
	Scope        string `json:"scope"`
	RefreshToken string `json:"refresh_token,omitempty"`
	IDToken      string `json:"id_token,omitempty"`
}

// Token is the token endpoint (RFC 6749 §3.2). The client is checked first,
// then every parameter; only then is a code or a refresh token used up
// (MCP-AS-43).
func (s *Server) Token(w http.ResponseWriter, r *http.Request) error {
	ctx, p := s.WithAddress(r), project.FromContext(r.Context())
	form, err := s.parseBody(r, bodyLimit, "resource")
	if err != nil {
		return s.refuseBody(ctx, r, p, atToken, err)
	}
	presented, err := s.readHeld(ctx, p, form)
	if err != nil {
		return err
	}
	client, method, err := s.authenticateClient(ctx, r, p, form, presented.client)
	if err != nil {
		return err
	}
	req, err := parseToken(p, client, method, form)
	req.held = presented
	registered := slices.Contains(client.Metadata.GrantTypes, req.grant)
	var answer []byte
	switch {
	case err != nil:
		return s.refuseForm(ctx, req, "scope of a wrong form", err)
	case req.grant == "":
		return s.refuseForm(ctx, req, "no grant type", invalidRequest("grant_type is missing."))
	case req.grant != "authorization_code" && req.grant != "refresh_token":
		return s.refuseForm(ctx, req, "unknown grant type", unsupportedGrantType("Use authorization_code or refresh_token."))
	case !registered:
		return s.refuseForm(ctx, req, "grant type not registered", unauthorizedClient("This client did not register for the grant type %s.", req.grant))
	case req.grant == "authorization_code":
		answer, err = s.exchangeCode(ctx, req)
	default:
		answer, err = s.exchangeRefresh(ctx, req)
	}
	if err != nil {
		return err
	}
	writeBody(w, http.StatusOK, answer)
	return nil
}

// parseToken reads a token request. The error is about scope; all else is read
// beside it.
func parseToken(p *project.Project, client Client, method string, form url.Values) (tokenRequest, error) {
	scopes, err := parseScope(form.Get("scope"))
	return tokenRequest{
		project: p, client: client, grant: form.Get("grant_type"), method: method,
		code: form.Get("code"), verifier: form.Get("code_verifier"), redirect: form.Get("redirect_uri"),
		scopes: scopes, resources: form["resource"],
	}, err
}

func (s *Server) readHeld(ctx context.Context, p *project.Project, form url.Values) (held, error) {
	token, ok := secret.Parse(secret.RefreshToken, form.Get("refresh_token"))
	if !ok || form.Get("grant_type") != "refresh_token" {
		return held{}, nil
	}
	family, client, err := s.store.Family(ctx, p.ID, token.ID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return held{}, err
	}
	return held{token, family, client}, nil
}

// checkResource checks that a token request stays inside what was granted (RFC
// 8707 §2.2): it names the granted resource by any of its addresses, or none. A
// resource that the operator removed since gets no more tokens.
func (s *Server) checkResource(ctx context.Context, r tokenRequest, subject, granted string) error {
	resource, registered := r.project.Resource(granted)
	if !registered {
		resource = project.Resource{URI: granted}
	}
	for _, asked := range r.resources {
		if granted == "" || !resource.Is(asked) {
			return s.refuseToken(ctx, r, subject, "asked for another resource", asked,
				invalidTarget("The grant is not for this resource. Start a new authorization for it."))
		}
	}
	if !registered && granted != "" && !r.project.Settings.UnregisteredResources {
		return s.refuseGrant(ctx, r, subject, "resource is no longer registered")
	}
	return nil
}

// narrow returns the scopes of a new access token: what is asked, inside what
// was granted (RFC 6749 §6), inside what the person may grant today. Asking for
// too much is refused without a word against the grant, which a client would
// throw away.
func (s *Server) narrow(ctx context.Context, r tokenRequest, f Family) ([]string, error) {
	for _, name := range r.scopes {
		if !slices.Contains(f.Scopes, name) {
			return nil, s.refuseToken(ctx, r, f.Subject, "asked for more scopes", name, invalidScope("The scope '%s' was not granted.", name))
		}
	}
	grantable, active, err := s.grantable(ctx, r.project, f, r.client)
	switch {
	case err != nil:
		return nil, err
	case !active || !useful(grantable):
		return nil, s.refuseGrant(ctx, r, f.Subject, "the person can no longer grant any of it")
	case len(r.scopes) == 0:
		return grantable, nil
	}
	scopes := slices.DeleteFunc(slices.Clone(r.scopes), func(name string) bool { return !slices.Contains(grantable, name) })
	if !useful(scopes) {
		return nil, s.refuseToken(ctx, r, f.Subject, "the person can no longer grant what was asked", strings.Join(r.scopes, " "),
			invalidScope("The person can no longer grant any of these scopes."))
	}
	return scopes, nil
}

// grantable is what of a family's scopes its person may grant today. Of a
// consumer project's person there is no more to know than was read with it. What
// is no scope-token, from a default that was kept before those were checked, stays
// out of tokens (see offered).
func (s *Server) grantable(ctx context.Context, p *project.Project, f Family, c Client) (scopes []string, active bool, err error) {
	if bad := func(name string) bool { return !project.ValidScope(name) }; slices.ContainsFunc(f.Scopes, bad) {
		f.Scopes = slices.DeleteFunc(slices.Clone(f.Scopes), bad)
	}
	if f.Organization == "" {
		return f.Scopes, f.PersonActive, nil
	}
	return s.narrowed(ctx, p, f.Subject, f.Organization, c, f.Scopes)
}

// mint makes the whole answer for a family, as it is sent, and what is kept of
// next, the refresh token, where the client gets one. Nothing is kept yet.
func (s *Server) mint(ctx context.Context, r tokenRequest, f Family, scopes []string, next secret.Secret) (body []byte, refresh *RefreshToken, err error) {
	access, life, err := s.mintAccess(ctx, r.project, f, r.client, scopes)
	if err != nil {
		return nil, nil, err
	}
	answer := tokenResponse{AccessToken: access, TokenType: "Bearer", ExpiresIn: life, Scope: strings.Join(scopes, " ")}
	if slices.Contains(scopes, "openid") {
		if answer.IDToken, err = s.mintID(ctx, r.project, f, r.client, scopes, access); err != nil {
			return nil, nil, err
		}
	}
	if r.client.Refreshes() {
		now := s.now()
		expires := now.Add(time.Duration(r.project.Settings.Lifetimes.RefreshIdle) * time.Second)
		if expires.After(f.ExpiresAt) {
			expires = f.ExpiresAt
		}
		answer.RefreshToken = next.Text
		refresh = &RefreshToken{
			Series: next.Series(), Hash: next.Hash[:], AuthMethod: r.method, CreatedAt: now, ExpiresAt: expires,
		}
	}
	body, err = json.Marshal(answer)
	return body, refresh, err
}

// refuseGrant records why a code or refresh token was refused and answers with
// one sentence for every case.
func (s *Server) refuseGrant(ctx context.Context, r tokenRequest, subject, reason string) error {
	return s.refuseToken(ctx, r, subject, reason, "", deadGrant())
}

func deadGrant() error {
	return invalidGrant("The code or refresh token is not valid for this client any more. Start a new authorization.")
}

// refuseForm is refuseToken for a request that is wrong before its code or
// refresh token is looked at. With a code it is a step of an attempt all the same.
func (s *Server) refuseForm(ctx context.Context, r tokenRequest, reason string, refusal error) error {
	var err error
	if r.attempt, err = s.attemptOfCode(ctx, r.project, r.code); err != nil {
		return err
	}
	return s.refuseToken(ctx, r, "", reason, "", refusal)
}

// refuseToken records why tokens were refused and returns refusal. asked is what
// was not right, "" where nothing was compared.
func (s *Server) refuseToken(ctx context.Context, r tokenRequest, subject, reason, asked string, refusal error) error {
	e := s.tokenEvent(ctx, r, audit.TokenRefused, subject, "")
	e.Reason = reason
	var err error
	if r.grant == "authorization_code" || r.attempt != "" {
		err = s.refuseCode(ctx, asked, e)
	} else {
		err = s.recordRefusal(ctx, e)
	}
	if err != nil {
		return err
	}
	return refusal
}

// tokenEvent is the event of tokens that were given, or of a theft.
func (s *Server) tokenEvent(ctx context.Context, r tokenRequest, kind audit.Kind, subject, object string) audit.Event {
	e := s.event(ctx, r.project, kind)
	e.Actor, e.ClientID, e.Subject, e.Object, e.Attempt = r.client.ID, r.client.ID, subject, object, r.attempt
	return e
}

package websession

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/guard"
)

// issuer sends the requests of the code flow that do not go through the
// browser. Where they go to, the guard has found out and checked.
type issuer struct {
	guard        *guard.Guard
	clientID     string
	clientSecret string
	resource     string
	redirectURI  string
	client       *http.Client
	now          func() time.Time
}

const maxAnswer = 1 << 20 // bytes read of any answer

// metadata is the guard's, if it has what a sign-in needs and no endpoint that
// would carry a secret over plain http to another computer.
func (i *issuer) metadata(ctx context.Context) (*guard.IssuerMetadata, error) {
	meta, err := i.guard.IssuerMetadata(ctx)
	if err != nil {
		return nil, err
	}
	if meta.AuthorizationEndpoint == "" || meta.TokenEndpoint == "" {
		return nil, errors.New("the issuer's metadata lacks authorization_endpoint or token_endpoint")
	}
	for _, endpoint := range []string{meta.AuthorizationEndpoint, meta.TokenEndpoint, meta.RevocationEndpoint, meta.EndSessionEndpoint} {
		if u, err := url.Parse(endpoint); endpoint != "" && (err != nil || !secure(u)) {
			return nil, fmt.Errorf("the issuer's metadata names %q, which is not https", endpoint)
		}
	}
	return meta, nil
}

// secure reports whether what is sent to an address stays between the two ends.
func secure(u *url.URL) bool {
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	return u.Scheme == "https" && u.Host != "" || u.Scheme == "http" && loopback
}

// tokens is an answer of the token endpoint (RFC 6749 §5.1).
type tokens struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
}

// refused is an error answer of the issuer (RFC 6749 §5.2).
type refused struct {
	Status int
	Code   string `json:"error"`
}

func (e *refused) Error() string { return fmt.Sprintf("answered %d %q", e.Status, e.Code) }

// final reports whether asking again is of no use. A proxy in front of the issuer
// has statuses of its own, and says none of these words.
func (e *refused) final() bool {
	switch e.Code {
	case "invalid_grant", "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_target", "invalid_request":
		return e.Status >= 400 && e.Status < 500
	}
	return false
}

// redeem exchanges an authorization code (RFC 6749 §4.1.3, RFC 7636 §4.5).
func (i *issuer) redeem(ctx context.Context, code, verifier string) (tokens, error) {
	return i.token(ctx, url.Values{
		"grant_type":    {"authorization_code"},
		"code":          {code},
		"redirect_uri":  {i.redirectURI},
		"code_verifier": {verifier},
	})
}

// refresh exchanges a refresh token. The answer has the next one, or none
// when the old one stays good (RFC 6749 §6).
func (i *issuer) refresh(ctx context.Context, token string) (tokens, error) {
	return i.token(ctx, url.Values{
		"grant_type":    {"refresh_token"},
		"refresh_token": {token},
	})
}

// token asks the token endpoint for an access token for our resource (RFC 8707 §2.2).
func (i *issuer) token(ctx context.Context, form url.Values) (tokens, error) {
	meta, err := i.metadata(ctx)
	if err != nil {
		return tokens{}, err
	}
	form.Set("resource", i.resource)
	var answer tokens
	if err := i.post(ctx, meta.TokenEndpoint, form, &answer); err != nil {
		return tokens{}, err
	}
	if answer.AccessToken == "" || !strings.EqualFold(answer.TokenType, "Bearer") {
		return tokens{}, fmt.Errorf("the token endpoint sent no bearer token (token_type %q)", answer.TokenType)
	}
	return answer, nil
}

// revoke ends a token at the issuer (RFC 7009 §2.1), if the issuer can.
func (i *issuer) revoke(ctx context.Context, token, hint string) error {
	meta, err := i.metadata(ctx)
	if err != nil || meta.RevocationEndpoint == "" {
		return err
	}
	return i.post(ctx, meta.RevocationEndpoint, url.Values{"token": {token}, "token_type_hint": {hint}}, nil)
}

// post sends a form with the client's authentication and decodes a 200 answer
// into the struct, if one is wanted; any other status is a *refused. A secret
// goes into the Basic header, each half form-encoded (RFC 6749 §2.3.1).
func (i *issuer) post(ctx context.Context, endpoint string, form url.Values, into any) error {
	if i.clientSecret == "" {
		form.Set("client_id", i.clientID)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if i.clientSecret != "" {
		req.SetBasicAuth(url.QueryEscape(i.clientID), url.QueryEscape(i.clientSecret))
	}
	resp, err := i.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s: %w", endpoint, err)
	}
	if resp.StatusCode != http.StatusOK {
		answer := &refused{Status: resp.StatusCode}
		_ = json.Unmarshal(body, answer) // an error page is no JSON: then the status speaks
		return fmt.Errorf("%s: %w", endpoint, answer)
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", endpoint, err)
	}
	return nil
}

// identity is what an id_token says about the person and the sign-in.
type identity struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expires  float64  `json:"exp"`
	Nonce    string   `json:"nonce"`
	Name     string   `json:"name"`
	Email    string   `json:"email"`
}

// audience is one string or several.
type audience []string

func (a *audience) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		*a = make(audience, 1)
		return json.Unmarshal(data, &(*a)[0])
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// identify reads an id_token that came straight from the token endpoint, where
// the connection vouches for the issuer and the signature need not be checked
// again (OpenID Connect Core 1.0 §3.1.3.7, step 6). An id_token from anywhere
// else must never be handed in.
func (i *issuer) identify(meta *guard.IssuerMetadata, token, nonce string) (identity, error) {
	var id identity
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return id, errors.New("the id_token is missing or no JWT")
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return id, fmt.Errorf("the id_token is no JWT: %w", err)
	}
	if err := json.Unmarshal(payload, &id); err != nil {
		return id, fmt.Errorf("the id_token is no JWT: %w", err)
	}
	switch {
	case id.Issuer != meta.Issuer:
		return id, fmt.Errorf("the id_token is from %q", id.Issuer)
	case !slices.Contains(id.Audience, i.clientID):
		return id, fmt.Errorf("the id_token is for %q", id.Audience)
	case i.now().After(time.Unix(int64(id.Expires), 0).Add(leeway)):
		return id, errors.New("the id_token has expired")
	case id.Nonce != nonce:
		return id, errors.New("the id_token answers another request (nonce)")
	}
	return id, nil
}

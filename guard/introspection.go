package guard

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// introspect asks the issuer about a token (RFC 7662 §2) and remembers a
// positive answer for some seconds. Only one question for each token is under
// way at a time.
func (g *Guard) introspect(ctx context.Context, token string, hash tokenHash) (*Principal, error) {
	p, err := g.asked.do(ctx, hash, func(ctx context.Context) (*Principal, error) {
		asked := g.cfg.Now()
		p, err := g.ask(ctx, token)
		if err == nil {
			g.verified.set(hash, p, g.believedUntil(asked, p))
		}
		return p, err
	})
	if err != nil && !errors.Is(err, ErrInvalidToken) {
		return nil, g.unavailable("introspection", err)
	}
	return p, err
}

// believedUntil bounds the age of a positive answer, counted from before the
// question.
func (g *Guard) believedUntil(asked time.Time, p *Principal) time.Time {
	believe := g.cfg.Introspection.CacheFor
	if believe == 0 {
		believe = 5 * time.Second
	}
	until := asked.Add(believe)
	if p.Expires.Before(until) {
		return p.Expires
	}
	return until
}

func (g *Guard) ask(ctx context.Context, token string) (*Principal, error) {
	doc, err := g.issuer.document(ctx)
	if err != nil {
		return nil, err
	}
	if doc.parsed.IntrospectionEndpoint == "" {
		return nil, errors.New("the issuer's metadata names no introspection_endpoint")
	}
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, doc.parsed.IntrospectionEndpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	in := g.cfg.Introspection
	req.SetBasicAuth(url.QueryEscape(in.ID), url.QueryEscape(in.Secret)) // RFC 6749 §2.3.1
	answer, err := send(g.cfg.HTTPClient, req)
	if err != nil {
		return nil, err
	}

	c, err := parseClaims(answer, g.cfg.OrganizationClaim)
	if err != nil {
		return nil, invalid(err.Error())
	}
	// Refresh tokens may be active too, so the answer must say that this is an
	// access token. "iss" is optional (RFC 7662 §2.2): we asked the issuer.
	if c.iss == "" {
		c.iss = g.cfg.Issuer
	}
	isAccess := strings.EqualFold(c.tokenType, "Bearer") || c.tokenType == "access_token" || c.tokenUse == "access"
	switch {
	case !c.active:
		return nil, invalid("not active")
	case !isAccess || c.tokenUse != "" && c.tokenUse != "access":
		return nil, invalid("not an access token, by the introspection answer")
	}
	if err := g.judgeClaims(c, g.cfg.Now()); err != nil {
		return nil, err
	}
	return g.principal(c, token, nil), nil
}

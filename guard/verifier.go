package guard

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxToken bounds a token in bytes, before anything is parsed.
const maxToken = 8 << 10

// invalid is an ErrInvalidToken that says for the log why.
type invalid string

func (e invalid) Error() string { return ErrInvalidToken.Error() + ": " + string(e) }

func (e invalid) Unwrap() error { return ErrInvalidToken }

// tokenSyntax is b64token of RFC 6750 §2.1.
func tokenSyntax(s string) bool {
	body := strings.TrimRight(s, "=")
	for i := range len(body) {
		c := body[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '.', c == '_', c == '~', c == '+', c == '/':
		default:
			return false
		}
	}
	return body != ""
}

// verify is Verify, but says errMalformed of what cannot be a token.
func (g *Guard) verify(ctx context.Context, token string) (*Principal, error) {
	if len(token) > maxToken {
		return nil, invalid("too long")
	}
	hash, now := hashToken(token), g.cfg.Now()
	if p, ok := g.verified.get(hash, now); ok && (p.proof.key == nil || g.keys.holds(p.proof.key)) {
		return p, nil
	}
	if !tokenSyntax(token) {
		return nil, errMalformed
	}
	if g.cfg.Introspection != nil {
		return g.introspect(ctx, token, hash)
	}
	p, err := g.verifyJWT(ctx, token, now)
	if err == nil {
		g.verified.set(hash, p, p.Expires)
	}
	return p, err
}

// verifyJWT judges a signed token (RFC 9068 §4). All that costs little comes
// before the signature, so that garbage is cheap to refuse; none of it is
// believed before the signature holds.
func (g *Guard) verifyJWT(ctx context.Context, token string, now time.Time) (*Principal, error) {
	signed, signature, ok := cutLast(token)
	if !ok {
		return nil, invalid("not a JWT")
	}
	head, payload, ok := strings.Cut(signed, ".")
	if !ok || strings.Contains(payload, ".") {
		return nil, invalid("not a JWT")
	}
	h, err := parseHeader(head)
	if err != nil {
		return nil, invalid(err.Error())
	}
	raw, err := decodeJSON(payload)
	if err != nil {
		return nil, invalid(err.Error())
	}
	c, err := parseClaims(raw, g.cfg.OrganizationClaim)
	if err != nil {
		return nil, invalid(err.Error())
	}
	if err := g.judgeKind(h, c); err != nil {
		return nil, err
	}
	if err := g.judgeClaims(c, now); err != nil {
		return nil, err
	}

	key, err := g.keys.find(ctx, h.kid, h.alg)
	switch {
	case errors.Is(err, ErrInvalidToken):
		return nil, err
	case err != nil:
		return nil, ErrUnavailable
	}
	sig, err := segment.DecodeString(signature)
	if err != nil || key.method.Verify(signed, sig, key.public) != nil {
		return nil, invalid("the signature does not hold")
	}
	return g.principal(c, token, key), nil
}

func cutLast(token string) (before, after string, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return "", "", false
	}
	return token[:i], token[i+1:], true
}

// segment is the encoding of a JWT's parts: one text for one content.
var segment = base64.RawURLEncoding.Strict() //nolint:gochecknoglobals // an encoding, never changed

func decodeJSON(part string) ([]byte, error) {
	raw, err := segment.DecodeString(part)
	if err != nil || !json.Valid(raw) {
		return nil, errors.New("not a JWT")
	}
	return raw, nil
}

type header struct{ alg, kid, typ string }

var headerNames = []string{"alg", "kid", "typ", "crit", "b64", "zip", "enc"}

// parseHeader reads what decides; jku, jwk, x5u and x5c are never looked at
// (RFC 8725 §3.10).
func parseHeader(part string) (h header, err error) {
	raw, err := decodeJSON(part)
	if err != nil {
		return h, err
	}
	err = members(raw, headerNames, func(name, value []byte) error {
		switch string(name) {
		case "alg":
			return unquoteInto(&h.alg, value)
		case "kid":
			return unquoteInto(&h.kid, value)
		case "typ":
			return unquoteInto(&h.typ, value)
		case "crit", "b64", "zip", "enc":
			return errors.New("the header asks for something that is not understood")
		}
		return nil
	})
	switch h.alg {
	case "ES256", "RS256", "EdDSA":
	default:
		err = errors.Join(err, errors.New("algorithm"))
	}
	return h, err
}

// claims are what a token or an introspection answer says.
type claims struct {
	raw                                    []byte
	iss, sub, clientID, azp, organization  string
	jti, grantID, sid, tokenUse, tokenType string
	audience, scopes                       []string
	exp, nbf, iat                          time.Time
	active, hasScope, looksOtherwise       bool
}

var claimNames = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "scope", "scp", "client_id", "azp",
	"token_use", "token_type", "active", "grant_id", "sid", "nonce", "at_hash", "c_hash",
}

func parseClaims(raw []byte, organizationClaim string) (*claims, error) {
	c := &claims{raw: raw}
	err := members(raw, claimNames, func(name, value []byte) (err error) {
		if string(value) == "null" {
			return nil // as good as absent
		}
		switch string(name) {
		case "iss":
			err = unquoteInto(&c.iss, value)
		case "sub":
			err = unquoteInto(&c.sub, value)
		case "aud":
			c.audience, err = oneOrMore(value)
		case "exp":
			c.exp, err = numericDate(value)
		case "nbf":
			c.nbf, err = numericDate(value)
		case "iat":
			c.iat, err = numericDate(value)
		case "jti":
			err = unquoteInto(&c.jti, value)
		case "scope":
			var scope string
			err = unquoteInto(&scope, value)
			c.scopes, c.hasScope = append(c.scopes, strings.Fields(scope)...), true
		case "scp":
			var scp []string
			scp, err = oneOrMore(value)
			c.scopes, c.hasScope = append(c.scopes, strings.Fields(strings.Join(scp, " "))...), true
		case "client_id":
			err = unquoteInto(&c.clientID, value)
		case "azp":
			err = unquoteInto(&c.azp, value)
		case "token_use":
			err = unquoteInto(&c.tokenUse, value)
		case "token_type":
			err = unquoteInto(&c.tokenType, value)
		case "active":
			c.active = string(value) == "true"
		case "grant_id":
			err = unquoteInto(&c.grantID, value)
		case "sid":
			err = unquoteInto(&c.sid, value)
		case "nonce", "at_hash", "c_hash":
			c.looksOtherwise = true
		}
		if string(name) == organizationClaim {
			c.organization, err = organization(value)
		}
		if string(name) == "session" || bytes.HasSuffix(name, []byte("/session")) {
			c.looksOtherwise = true
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	if c.clientID == "" {
		c.clientID = c.azp
	}
	return c, nil
}

// oneOrMore reads a string or an array of strings, in valid JSON.
func oneOrMore(value []byte) ([]string, error) {
	if value[0] != '[' {
		var one string
		err := unquoteInto(&one, value)
		return []string{one}, err
	}
	var all []string
	for i := 1; ; {
		switch i = skipSpace(value, i); value[i] {
		case ']':
			return all, nil
		case ',':
			i++
			continue
		}
		end := skipValue(value, i)
		var one string
		if err := unquoteInto(&one, value[i:end]); err != nil {
			return nil, err
		}
		all, i = append(all, one), end
	}
}

// numericDate reads seconds since 1970 (RFC 7519 §2), up to the year 9999.
func numericDate(value []byte) (time.Time, error) {
	seconds, err := strconv.ParseFloat(string(value), 64)
	if err != nil || seconds <= 0 || seconds >= 253402300800 {
		return time.Time{}, errors.New("not a date")
	}
	whole, part := math.Modf(seconds)
	return time.Unix(int64(whole), int64(part*1e9)), nil
}

// organization reads an id, or an object that has one.
func organization(value []byte) (id string, err error) {
	switch value[0] {
	case '"':
		err = unquoteInto(&id, value)
	case '{':
		err = members(value, []string{"organization_id"}, func(name, value []byte) error {
			if string(name) != "organization_id" {
				return nil
			}
			return unquoteInto(&id, value)
		})
	default:
		err = errors.New("not an organization")
	}
	return id, err
}

// judgeKind tells access tokens from everything else that an issuer signs:
// the header says so (RFC 9068 §4), or the claim token_use does, or, where the
// configuration allows it, the token looks like nothing else.
func (g *Guard) judgeKind(h header, c *claims) error {
	if c.tokenUse != "" && c.tokenUse != "access" {
		return invalid("not an access token, by its token_use")
	}
	switch strings.ToLower(h.typ) {
	case "at+jwt", "application/at+jwt":
		return nil
	case "jwt", "":
		if h.typ != "" && c.tokenUse == "access" {
			return nil
		}
		if g.cfg.AcceptPlainJWT && c.clientID != "" && c.hasScope && !c.looksOtherwise {
			return nil
		}
	}
	return invalid("not an access token, by its type")
}

// judgeClaims checks issuer, audience and time.
func (g *Guard) judgeClaims(c *claims, now time.Time) error {
	switch {
	case c.iss != g.cfg.Issuer:
		return invalid("another issuer")
	case !g.isAudience(c.audience):
		return invalid("for another audience")
	case c.sub == "":
		return invalid("no subject")
	case c.exp.IsZero():
		return invalid("no expiry")
	case now.After(c.exp.Add(leeway)):
		return invalid("expired")
	case c.nbf.After(now.Add(leeway)), c.iat.After(now.Add(leeway)):
		return invalid("not valid yet")
	}
	return nil
}

// isAudience reports whether the token is for this resource, by any of its
// addresses, spelled exactly as configured; only the empty path may be written
// either way (RFC 3986 §6.2.3).
func (g *Guard) isAudience(audience []string) bool {
	return slices.ContainsFunc(g.addresses, func(a address) bool {
		return slices.Contains(audience, a.name) || a.path == "" && slices.Contains(audience, a.name+"/")
	})
}

func (g *Guard) principal(c *claims, token string, k *key) *Principal {
	p := &Principal{
		Issuer: g.cfg.Issuer, Subject: c.sub, ClientID: c.clientID, Organization: c.organization,
		Expires: c.exp, TokenID: c.jti, GrantID: c.grantID, SessionID: c.sid,
		proof: &proof{guard: g, token: token, claims: c.raw, key: k},
	}
	// Without a client nobody has consented to anything: such a token may do
	// nothing that needs a scope.
	if c.clientID != "" {
		p.proof.scopes = c.scopes
		p.Scopes = g.policy.grant(c.scopes)
	}
	return p
}

package guard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// The errors of [Guard.Verify], [Guard.Permits] and [Check], to be told apart
// with errors.Is. Their texts are for logs, not for clients.
var (
	// ErrNoToken: there is no caller in the context.
	ErrNoToken = errors.New("guard: no access token")
	// ErrInvalidToken: the token is malformed, expired, revoked, of another
	// kind, from another issuer or for another resource.
	ErrInvalidToken = errors.New("guard: access token is not valid here")
	// ErrInsufficientScope: the token is good, but not for this.
	ErrInsufficientScope = errors.New("guard: access token lacks a scope")
	// ErrOtherOrganization: the token is good, but its organization is not the
	// one that the rule is about.
	ErrOtherOrganization = errors.New("guard: caller is in another organization")
	// ErrUnavailable: the issuer could not be asked; nothing is known about
	// the token or what it permits, so nothing is allowed.
	ErrUnavailable = errors.New("guard: issuer is not available")
)

// Principal is who a request acts for: a subject, through a client, perhaps
// in an organization. It holds nothing that could be sent on as a credential.
type Principal struct {
	// Issuer and Subject together name the person, or the client itself where
	// it acts on its own behalf. Keep a person's data under Subject.
	Issuer  string
	Subject string
	// ClientID is the OAuth client, a URL for clients with a metadata document.
	ClientID string
	// Organization is the organization's id, empty for a consumer project.
	Organization string
	// Scopes are the token's scopes and those that they imply.
	Scopes []string
	// Expires is the token's own end, without the leeway of 30 s.
	Expires time.Time
	// TokenID is the claim jti, GrantID grant_id, SessionID sid; empty where
	// the issuer does not say.
	TokenID   string
	GrantID   string
	SessionID string

	proof *proof // nil in a Principal that did not come from a token
}

// proof is what a Principal rests on. It is behind a pointer so that printing
// a Principal does not print it.
type proof struct {
	guard  *Guard
	token  string
	claims []byte
	key    *key     // that verified the signature; nil after introspection
	scopes []string // the token's own: what Config implies, the issuer did not grant
	held   atomic.Pointer[held]
}

// Has reports whether the principal has a scope.
func (p *Principal) Has(scope string) bool { return slices.Contains(p.Scopes, scope) }

// May reports whether the issuer's policy lets the principal's scopes do action
// on resource: Permission as a question, for a page that greys its buttons or
// code in the middle of an operation. It judges by the newest policy and costs
// less than a microsecond; only where the policy must be fetched, once a minute
// at most, does it wait, for 5 s at most. It reports false while no policy is
// known, and for a Principal that was not made from a token.
//
// Scopes count that the token itself has, not those that Config.Scopes says they
// imply: what they permit, the issuer has compared with the person's roles.
func (p *Principal) May(resource, action string) bool {
	held, err := p.held(context.Background())
	return err == nil && held.may(Act{resource, action})
}

// Permissions returns everything that May answers with true: the actions,
// sorted, by resource. The map is the caller's own. It is empty, never nil,
// where May would always say false.
func (p *Principal) Permissions() map[string][]string {
	all := map[string][]string{}
	held, err := p.held(context.Background())
	if err != nil {
		return all
	}
	for resource, actions := range held.of.resources {
		for _, action := range actions {
			if held.may(Act{resource, action}) {
				all[resource] = append(all[resource], action)
			}
		}
	}
	return all
}

// held finds the principal's scopes in the newest policy, and remembers them
// until there is a newer one.
func (p *Principal) held(ctx context.Context) (*held, error) {
	if p.proof == nil {
		return nil, fmt.Errorf("%w: this principal was not made from a token", ErrInsufficientScope)
	}
	permissions, err := p.proof.guard.granted.current(ctx)
	if err != nil {
		return nil, err
	}
	h := p.proof.held.Load()
	if h == nil || h.of != permissions {
		h = permissions.hold(p.proof.scopes)
		p.proof.held.Store(h)
	}
	return h, nil
}

// Claims decodes the token's claims (or the introspection answer) into a
// struct or map of the caller's, as json.Unmarshal does. A Principal that was
// not made from a token has none.
func (p *Principal) Claims(into any) error {
	if p.proof == nil {
		return errors.New("guard: this principal was not made from a token")
	}
	return json.Unmarshal(p.proof.claims, into)
}

// caller is who a Principal acts for: only the same caller may use what it
// opened.
type caller struct{ issuer, subject, client, organization string }

func (p *Principal) caller() caller {
	return caller{p.Issuer, p.Subject, p.ClientID, p.Organization}
}

// ended reports whether the token's life and the leeway are over.
func (p *Principal) ended(now time.Time) bool { return now.After(p.Expires.Add(leeway)) }

type contextKey struct{}

// FromContext returns who the current operation acts for, or nil: the principal
// of the request's own token. In the context of a request that opened a session
// or an event stream, where the operations of later requests may run, it is that
// of the newest token that came to it. The value is the caller's own copy.
func FromContext(ctx context.Context) *Principal {
	p := current(ctx)
	if p == nil {
		return nil
	}
	own := *p
	own.Scopes = slices.Clone(p.Scopes)
	return &own
}

// current is FromContext without the copy. The context holds a *Principal, or
// the *stream whose newest token counts.
func current(ctx context.Context) *Principal {
	switch v := ctx.Value(contextKey{}).(type) {
	case *Principal:
		return v
	case *stream:
		return v.newest.Load()
	}
	return nil
}

// WithPrincipal returns a context in which [FromContext], [Check] and
// [Guard.Require] find p. Package websession uses it, and so may a test of a
// handler with a Principal that it wrote itself.
func WithPrincipal(ctx context.Context, p *Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// Check judges the current caller again, in the middle of an operation that
// takes long: is the token still live (with introspection: not revoked, and with
// what scopes now), and does it satisfy every given rule? Call it before each
// step that changes something. It returns nil, [ErrNoToken], [ErrInvalidToken],
// [ErrOtherOrganization], [ErrInsufficientScope] or [ErrUnavailable].
func Check(ctx context.Context, rules ...Rule) error {
	p := current(ctx)
	if p == nil {
		return ErrNoToken
	}
	if p.proof != nil {
		var err error
		if p, err = p.proof.guard.Verify(ctx, p.proof.token); err != nil {
			return err
		}
	}
	return judge(ctx, p, rules...)
}

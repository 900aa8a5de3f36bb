package guard

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Rule says what an operation needs: all scopes of All, at least one scope of
// Any where it is not empty, all permissions of Acts, and, where [Rule.In] named
// one, to be in that organization. The zero Rule is satisfied by every valid
// token. A challenge asks for All, the first of Any and, for each of Acts, the
// smallest declared scope that permits it; so put the smallest scope of Any
// first.
type Rule struct {
	All  []string
	Any  []string
	Acts []Act

	organization string
	inside       bool // In was called
}

// An Act is something to do in the application, as the issuer's policy names it:
// an action on a kind of resource, such as "create" on "objective".
type Act struct{ Resource, Action string }

// String is the act in the form "objective:create", for logs.
func (a Act) String() string { return a.Resource + ":" + a.Action }

// AllOf is the rule that every one of the scopes is needed.
func AllOf(scopes ...string) Rule { return Rule{All: scopes} }

// AnyOf is the rule that one of the scopes is enough.
func AnyOf(scopes ...string) Rule { return Rule{Any: scopes} }

// Permission is the rule that the issuer's policy lets the caller's scopes do
// action on resource. It asks the newest policy whenever it is judged, so what
// changes there changes here within a minute, without a restart. While no
// policy is known nobody is permitted anything.
func Permission(resource, action string) Rule {
	return Rule{Acts: []Act{{resource, action}}}
}

// In returns the rule with one thing more: the caller must be in that
// organization. It is judged before everything else in the rule. Nobody is in
// the organization "", so a missing id locks out rather than lets in.
func (r Rule) In(organization string) Rule {
	r.organization, r.inside = organization, true
	return r
}

// judge decides whether a principal may do what all the rules say: nil,
// [ErrOtherOrganization], [ErrInsufficientScope] or [ErrUnavailable].
func judge(ctx context.Context, p *Principal, rules ...Rule) error {
	for i := range rules {
		r := &rules[i]
		if r.inside && (r.organization == "" || p.Organization != r.organization) {
			return ErrOtherOrganization
		}
	}
	for i := range rules {
		if err := rules[i].judge(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rule) judge(ctx context.Context, p *Principal) error {
	if len(r.Acts) > 0 {
		// Without a policy even a missing scope is not the whole story.
		held, err := p.held(ctx)
		if err != nil {
			return err
		}
		for _, act := range r.Acts {
			if !held.may(act) {
				return held.lack(act)
			}
		}
	}
	for _, scope := range r.All {
		if !p.Has(scope) {
			return ErrInsufficientScope
		}
	}
	if len(r.Any) > 0 && !slices.ContainsFunc(r.Any, p.Has) {
		return ErrInsufficientScope
	}
	return nil
}

// need is a rule and the scopes of it that a challenge asks for where it is not
// met. Those for its acts depend on the issuer's policy.
type need struct {
	Rule
	ask []string
}

func newNeed(r Rule) need {
	return need{r, slices.Concat(r.All, r.Any[:min(1, len(r.Any))])}
}

// ask returns the scopes that a token must have for all the needs: everything
// at once, what this one has already included, and nothing more (MCP, Scope
// Challenge Handling). It returns nil where no declared scope would help.
func (p *policy) ask(ctx context.Context, who *Principal, needs []need) []string {
	var ask []string
	var acts []Act
	for _, n := range needs {
		ask = union(ask, n.ask)
		acts = append(acts, n.Acts...)
	}
	if len(acts) == 0 {
		return ask
	}
	held, err := who.held(ctx)
	if err != nil {
		return nil
	}
	for _, act := range acts {
		if held.of.smallest(act, ask) != "" {
			continue
		}
		candidates := p.names
		if held.may(act) {
			candidates = who.proof.scopes
		}
		scope := held.of.smallest(act, candidates)
		if scope == "" {
			return nil
		}
		ask = append(ask, scope)
	}
	return ask
}

// policy is the part of Config that says which scopes there are and what
// needs them.
type policy struct {
	names          []string            // the declared scopes
	scopes         map[string][]string // scope → itself and everything it implies
	initial        []string            // asked for by the first challenge
	tools, methods map[string]need
	lists          need // of handshakes, pings, notifications and lists
	rest           need // of everything else that no rule names
}

func newPolicy(cfg Config) (*policy, error) {
	p := &policy{scopes: map[string][]string{}, initial: cfg.InitialScopes}
	implies := map[string][]string{}
	var problems []error
	for _, s := range cfg.Scopes {
		switch {
		case !scopeSyntax(s.Name):
			problems = append(problems, fmt.Errorf("Scopes: %q is not a scope name (RFC 6749 §3.3)", s.Name))
		case s.Name == "offline_access":
			// Whether a client may refresh is between it and the issuer (MCP,
			// Refresh Tokens).
			problems = append(problems, errors.New("Scopes: leave out offline_access, it is no scope of a resource"))
		case implies[s.Name] != nil:
			problems = append(problems, fmt.Errorf("Scopes: %q is declared twice", s.Name))
		}
		p.names = append(p.names, s.Name)
		implies[s.Name] = append([]string{}, s.Implies...)
	}
	for _, name := range p.names {
		p.scopes[name] = closure(name, implies)
	}

	for _, s := range cfg.Scopes {
		problems = append(problems, wrap("Scopes: "+s.Name+" implies", p.check(AllOf(s.Implies...))))
	}
	problems = append(problems, wrap("InitialScopes", p.check(AllOf(cfg.InitialScopes...))))
	p.tools = map[string]need{}
	for _, tool := range slices.Sorted(maps.Keys(cfg.Tools)) {
		problems = append(problems, wrap("Tools: "+tool, p.check(cfg.Tools[tool])))
		p.tools[tool] = newNeed(cfg.Tools[tool])
	}
	p.methods = map[string]need{}
	for _, method := range slices.Sorted(maps.Keys(cfg.Methods)) {
		problems = append(problems, wrap("Methods: "+method, p.check(cfg.Methods[method])))
		p.methods[method] = newNeed(cfg.Methods[method])
	}

	if p.initial == nil {
		p.initial = p.names
	}
	p.lists = need{AnyOf(p.names...), p.initial}
	if len(p.initial) == 0 {
		p.lists.ask = p.names
	}
	p.rest = newNeed(AllOf(p.names...))
	return p, errors.Join(problems...)
}

// closure returns name and every scope that it implies, directly or not.
func closure(name string, implies map[string][]string) []string {
	all := []string{name}
	for i := 0; i < len(all); i++ {
		for _, implied := range implies[all[i]] {
			if !slices.Contains(all, implied) {
				all = append(all, implied)
			}
		}
	}
	return all
}

func wrap(where string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", where, err)
}

// check refuses a rule with a scope that is not declared, or with something
// that can be no act or no organization: a typing mistake would lock everybody
// out of a tool, or let the wrong ones in.
func (p *policy) check(r Rule) error {
	for _, scope := range slices.Concat(r.All, r.Any) {
		if p.scopes[scope] == nil {
			return fmt.Errorf("scope %q is not declared in Config.Scopes", scope)
		}
	}
	for _, act := range r.Acts {
		if act.Resource == "" || act.Action == "" || act.Resource == everyAction || act.Action == everyAction {
			return fmt.Errorf("a permission is one action on one resource, not %q", act)
		}
	}
	if r.inside && r.organization == "" {
		return errors.New("In needs an organization's id")
	}
	return nil
}

// grant returns a token's scopes and everything that they imply
// (MCP, Step-Up Authorization Flow: hierarchies are honoured).
func (p *policy) grant(scopes []string) []string {
	var all []string
	for _, scope := range scopes {
		known := p.scopes[scope]
		if known == nil {
			known = []string{scope}
		}
		for _, s := range known {
			if !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
	}
	return all
}

// need finds what an MCP operation needs; name is the tool's where there is
// one.
func (p *policy) need(method, name string) need {
	if method == "tools/call" {
		if n, ok := p.tools[name]; ok {
			return n
		}
	}
	if n, ok := p.methods[method]; ok {
		return n
	}
	switch method {
	case "", // a response, or a GET that opens a stream
		"initialize", "server/discover", "ping", "logging/setLevel", "subscriptions/listen",
		"tools/list", "prompts/list", "resources/list", "resources/templates/list":
		return p.lists
	}
	if strings.HasPrefix(method, "notifications/") {
		return p.lists
	}
	return p.rest
}

// scopeSyntax is scope-token of RFC 6749 §3.3.
func scopeSyntax(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return s != ""
}

package guard

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Rule says which scopes an operation needs: all of All and, where Any is
// not empty, at least one of Any. The zero Rule is satisfied by every valid
// token. A challenge asks for All and the first of Any, so put the smallest
// scope first.
type Rule struct {
	All []string
	Any []string
}

// AllOf is the rule that every one of the scopes is needed.
func AllOf(scopes ...string) Rule { return Rule{All: scopes} }

// AnyOf is the rule that one of the scopes is enough.
func AnyOf(scopes ...string) Rule { return Rule{Any: scopes} }

func (r Rule) metBy(p *Principal) bool {
	for _, scope := range r.All {
		if !p.Has(scope) {
			return false
		}
	}
	return len(r.Any) == 0 || slices.ContainsFunc(r.Any, p.Has)
}

// need is a rule and the scopes that a challenge asks for where it is not met.
type need struct {
	Rule
	ask []string
}

func newNeed(r Rule) need {
	return need{r, slices.Concat(r.All, r.Any[:min(1, len(r.Any))])}
}

// policy is the part of Config that says which scopes there are and what
// needs them.
type policy struct {
	scopes         map[string][]string // scope → itself and everything it implies
	initial        []string            // asked for by the first challenge
	tools, methods map[string]need
	lists          need // of handshakes, pings, notifications and lists
	rest           need // of everything else that no rule names
}

func newPolicy(cfg Config) (*policy, error) {
	p := &policy{scopes: map[string][]string{}, initial: cfg.InitialScopes}
	var names []string
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
		names = append(names, s.Name)
		implies[s.Name] = append([]string{}, s.Implies...)
	}
	for _, name := range names {
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
		p.initial = names
	}
	p.lists = need{AnyOf(names...), p.initial}
	if len(p.initial) == 0 {
		p.lists.ask = names
	}
	p.rest = newNeed(AllOf(names...))
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

// check refuses a rule with a scope that is not declared: a typing mistake
// would lock everybody out of a tool, or let the wrong ones in.
func (p *policy) check(r Rule) error {
	for _, scope := range slices.Concat(r.All, r.Any) {
		if p.scopes[scope] == nil {
			return fmt.Errorf("scope %q is not declared in Config.Scopes", scope)
		}
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

// Package rbac holds what may be done in a project and by whom.
//
// A [Policy] is one document per project: the [Resource] kinds and their
// actions, the [Role]s that permit them, and the [Scope]s under which a
// connected app may ask for them. [Parse] reads a document and names every
// mistake in it at once; [Policy.Scope] gives the sentence a person reads on
// the consent page.
//
// The words in it are Postern's. Translating them for compatible clients, and
// deciding whose token carries what, happens elsewhere; the package is pure
// and keeps nothing.
package rbac

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// Policy is the policy document of a project. Lists keep the order in which
// they were written: pages show them so.
type Policy struct {
	// Version is 1 for the first document of a project and one more with every
	// change; who writes with another version than the last has missed a change.
	Version   int64      `json:"version"`
	Scopes    []Scope    `json:"scopes"`
	Resources []Resource `json:"resources"`
	Roles     []Role     `json:"roles"`
}

// Scope is what a connected app may ask for (RFC 6749 §3.3).
type Scope struct {
	Name        string       `json:"scope"`
	Description string       `json:"description"`      // the sentence a person reads, such as "Read your notes"
	Detail      string       `json:"detail,omitempty"` // what stands smaller below it, such as "Titles and texts"
	ReadOnly    bool         `json:"read_only"`        // changes and deletes nothing
	Permissions []Permission `json:"permissions"`      // what it stands for; empty in a project without roles
}

// Resource is a kind of thing in the application, such as "document".
type Resource struct {
	ID          string   `json:"resource_id"`
	Description string   `json:"description"`
	Actions     []string `json:"actions"`
}

// Role permits its holders some actions.
type Role struct {
	ID          string       `json:"role_id"`
	Description string       `json:"description"`
	Permissions []Permission `json:"permissions"`
}

// Permission is some actions on one kind of resource; the action "*" is all of
// them.
type Permission struct {
	Resource string   `json:"resource_id"`
	Actions  []string `json:"actions"`
}

// AllActions in a Permission stands for every action of its resource.
const AllActions = "*"

// Limits of a document.
const (
	maxEntries     = 500 // of each list
	maxDescription = 200 // bytes, of a description or a detail
)

// Parse reads a policy document in JSON and checks it. Members it does not know
// are refused: a misspelt one must not pass for a missing one.
func Parse(document []byte) (Policy, error) {
	var p Policy
	dec := json.NewDecoder(bytes.NewReader(document))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&p); err != nil {
		return Policy{}, fmt.Errorf("rbac: the policy is not a document of the expected form: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Policy{}, errors.New("rbac: there is something behind the policy document")
	}
	if err := p.Validate(); err != nil {
		return Policy{}, err
	}
	return p, nil
}

// MarshalJSON writes lists that are empty as [], never as null.
func (p Policy) MarshalJSON() ([]byte, error) {
	type plain Policy
	p.Scopes = append([]Scope{}, p.Scopes...)
	for i := range p.Scopes {
		p.Scopes[i].Permissions = filled(p.Scopes[i].Permissions)
	}
	p.Resources = append([]Resource{}, p.Resources...)
	for i := range p.Resources {
		p.Resources[i].Actions = append([]string{}, p.Resources[i].Actions...)
	}
	p.Roles = append([]Role{}, p.Roles...)
	for i := range p.Roles {
		p.Roles[i].Permissions = filled(p.Roles[i].Permissions)
	}
	return json.Marshal(plain(p))
}

func filled(permissions []Permission) []Permission {
	out := append([]Permission{}, permissions...)
	for i := range out {
		out[i].Actions = append([]string{}, out[i].Actions...)
	}
	return out
}

// WithScopes returns the policy with these scopes: one whose name is there
// already is replaced in its place, the others follow at the end. p is not
// changed.
func (p Policy) WithScopes(scopes ...Scope) Policy {
	p.Scopes = slices.Clone(p.Scopes)
	for _, scope := range scopes {
		at := slices.IndexFunc(p.Scopes, func(s Scope) bool { return s.Name == scope.Name })
		if at < 0 {
			p.Scopes = append(p.Scopes, scope)
		} else {
			p.Scopes[at] = scope
		}
	}
	return p
}

// Scope returns the scope of that name: the project's own, or one of OpenID
// Connect. described is false where nobody described it; the Scope then has
// its name alone and is taken for one that changes something.
func (p Policy) Scope(name string) (scope Scope, described bool) {
	for _, s := range slices.Concat(p.Scopes, standard()) {
		if s.Name == name {
			return s, s.Description != ""
		}
	}
	return Scope{Name: name}, false
}

// standard returns the scopes that every project has (OpenID Connect Core
// §5.4, §11).
func standard() []Scope {
	return []Scope{
		{Name: "openid", Description: "Know who you are", ReadOnly: true},
		{Name: "profile", Description: "See your name", ReadOnly: true},
		{Name: "email", Description: "See your e-mail address", ReadOnly: true},
		{Name: "phone", Description: "See your phone number", ReadOnly: true},
		{Name: "offline_access", Description: "Stay connected while you are away", ReadOnly: true},
	}
}

// Standard tells whether a scope is one that every project has.
func Standard(name string) bool {
	return slices.ContainsFunc(standard(), func(s Scope) bool { return s.Name == name })
}

// Problems is what is wrong with a policy, a sentence each.
type Problems []string

func (p Problems) Error() string { return "rbac: " + strings.Join(p, "; ") }

var (
	// scopeForm is a scope-token of RFC 6749 §3.3, at most 128 characters.
	scopeForm = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]{1,128}$`)
	idForm    = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)
)

// ValidScope tells whether name can be the name of a scope.
func ValidScope(name string) bool { return scopeForm.MatchString(name) }

// Validate returns nil or Problems, with every problem of the document.
func (p Policy) Validate() error {
	c := &check{actions: map[string][]string{}}
	c.require(p.Version >= 1, "version must be 1 or more")
	c.count("resources", len(p.Resources))
	c.count("roles", len(p.Roles))
	c.count("scopes", len(p.Scopes))

	for i, r := range p.Resources {
		at := fmt.Sprintf("resources[%d]", i)
		_, known := c.actions[r.ID]
		c.require(idForm.MatchString(r.ID), "%s: resource_id %q is not 1 to 128 letters, digits and . _ : -", at, r.ID)
		c.require(!known, "%s: resource_id %q is there twice", at, r.ID)
		c.description(at, r.Description)
		c.require(len(r.Actions) > 0, "%s: actions is empty", at)
		for n, action := range r.Actions {
			c.require(idForm.MatchString(action), "%s: action %q is not 1 to 128 letters, digits and . _ : -", at, action)
			c.require(!slices.Contains(r.Actions[:n], action), "%s: action %q is there twice", at, action)
		}
		c.actions[r.ID] = r.Actions
	}
	for i, r := range p.Roles {
		at := fmt.Sprintf("roles[%d]", i)
		c.require(idForm.MatchString(r.ID), "%s: role_id %q is not 1 to 128 letters, digits and . _ : -", at, r.ID)
		c.require(!slices.ContainsFunc(p.Roles[:i], func(o Role) bool { return o.ID == r.ID }), "%s: role_id %q is there twice", at, r.ID)
		c.description(at, r.Description)
		c.permissions(at, r.Permissions)
	}
	for i, s := range p.Scopes {
		at := fmt.Sprintf("scopes[%d]", i)
		c.require(ValidScope(s.Name), "%s: scope %q is not 1 to 128 visible ASCII characters without quote and backslash", at, s.Name)
		c.require(!Standard(s.Name), "%s: scope %q belongs to OpenID Connect", at, s.Name)
		c.require(!slices.ContainsFunc(p.Scopes[:i], func(o Scope) bool { return o.Name == s.Name }), "%s: scope %q is there twice", at, s.Name)
		c.description(at, s.Description)
		c.text(at, "detail", s.Detail)
		c.require(s.Detail == "" || s.Description != "", "%s: detail stands below a description, and there is none", at)
		c.permissions(at, s.Permissions)
	}
	if len(c.problems) > 0 {
		return c.problems
	}
	return nil
}

// check collects problems.
type check struct {
	problems Problems
	actions  map[string][]string // by resource
}

func (c *check) require(ok bool, format string, args ...any) {
	if !ok {
		c.problems = append(c.problems, fmt.Sprintf(format, args...))
	}
}

func (c *check) count(name string, n int) {
	c.require(n <= maxEntries, "%s has %d entries; at most %d are allowed", name, n, maxEntries)
}

func (c *check) description(at, text string) { c.text(at, "description", text) }

// text checks what a person reads.
func (c *check) text(at, name, text string) {
	c.require(len(text) <= maxDescription, "%s: %s is longer than %d bytes", at, name, maxDescription)
	// A character that moves or hides text could make a sentence read as another.
	odd := strings.ContainsFunc(text, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) })
	c.require(!odd, "%s: %s has a character that is not printable", at, name)
}

func (c *check) permissions(at string, permissions []Permission) {
	for i, p := range permissions {
		at := fmt.Sprintf("%s.permissions[%d]", at, i)
		actions, known := c.actions[p.Resource]
		if !known {
			c.require(false, "%s: resource_id %q is not among the resources", at, p.Resource)
			continue
		}
		c.require(len(p.Actions) > 0, "%s: actions is empty", at)
		for _, action := range p.Actions {
			c.require(action == AllActions || slices.Contains(actions, action), "%s: resource %q has no action %q", at, p.Resource, action)
		}
	}
}

// Package rbac holds what may be done in a project, by whom, and decides.
//
// A [Policy] is one document per project: the [Resource] kinds and their
// actions, the [Role]s that permit them, and the [Scope]s under which a
// connected app may ask for them. [Parse] reads a document, YAML or JSON, and
// names every mistake in it at its line; [Format] writes one for people, [Diff]
// tells what another would change. Every project has the resources and roles of
// [Policy.WithBuiltIns] besides its own.
//
// [Compile] makes a [Judge] of a policy, and the judge makes [Rights] of the
// roles that a member holds: what they may do, which scopes they may hand on to
// a connected app, and whether they may give somebody else a role.
//
// The words in it are Postern's; translating them for compatible clients happens
// elsewhere. Who holds which role, and whose token carries which scope, is not
// known here: the package is pure and keeps nothing.
package rbac

import (
	"encoding/json"
	"regexp"
	"slices"
)

// Policy is the policy document of a project. Lists keep the order in which
// they were written: pages show them so.
type Policy struct {
	// Version is 1 for the first document of a project and one more with every
	// change; who writes with another version than the last has missed a change.
	// 0 is a document that does not say which one it follows.
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

// Permission is some actions on one kind of resource. The action "*" is every
// action of it and stands alone. There is no "*" for resources and no way to
// forbid: what no permission names is not permitted.
type Permission struct {
	Resource string   `json:"resource_id"`
	Actions  []string `json:"actions"`
}

// AllActions in a Permission stands for every action of its resource.
const AllActions = "*"

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

// reserved names can be no scope of a project: the standard ones, and the one
// that compatible clients know as everything a person may do.
func reserved(name string) bool { return Standard(name) || name == "full_access" }

var (
	// scopeForm is a scope-token of RFC 6749 §3.3, at most 128 characters.
	scopeForm = regexp.MustCompile(`^[\x21\x23-\x5B\x5D-\x7E]{1,128}$`)
	idForm    = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,128}$`)
)

// ValidScope tells whether name can be the name of a scope.
func ValidScope(name string) bool { return scopeForm.MatchString(name) }

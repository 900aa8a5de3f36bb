package rbac

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// Problems is everything that is wrong with a policy, in the order of its lines.
// It is made of the document and of sentences of ours, and is for its author.
type Problems struct {
	List []Problem
}

// Problem is one thing that is wrong with a policy.
type Problem struct {
	Line    int // of the document, from 1; 0 if it is about the whole, or no document was read
	Message string
}

// String begins with the line, where there is one.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.Message
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.Message)
}

// Error is the first few problems in one line.
func (p *Problems) Error() string {
	const most = 5
	var lines []string
	for _, problem := range p.List[:min(len(p.List), most)] {
		lines = append(lines, problem.String())
	}
	if n := len(p.List) - most; n > 0 {
		lines = append(lines, fmt.Sprintf("and %d more problems", n))
	}
	return "rbac: " + strings.Join(lines, "; ")
}

// Limits of a policy.
const (
	maxEntries     = 2000 // of each list
	maxDescription = 200  // bytes
	maxProblems    = 500  // that are worth telling
	maxPolicy      = 1 << 20
)

// Validate returns nil or [*Problems], without lines: what Parse would say about
// the document that stands for p.
func (p Policy) Validate() error {
	c := &check{}
	c.policy(p.node())
	return c.err()
}

// CheckRoles returns nil or [*Problems], without lines: whether roles can be the
// roles of one organization in a project with this policy. They are checked as
// the project's are, and none may have the id of one of those.
func (p Policy) CheckRoles(roles []Role) error {
	c := &check{}
	own := Policy{Roles: roles}
	c.require(len(own.document()) <= maxPolicy, 0, "the roles are longer than %d bytes as JSON", maxPolicy)
	c.rolesBeside(p, own.node().member("roles"))
	return c.err()
}

// ParseRoles reads the roles of one organization: a document in YAML or JSON
// with the member roles alone, checked as CheckRoles does. The error is
// [*Problems], each with its line.
func (p Policy) ParseRoles(document []byte) ([]Role, error) {
	n, problem := read(document)
	if problem != nil {
		return nil, &Problems{List: []Problem{*problem}}
	}
	c := &check{}
	var roles []Role
	if f, ok := c.object(n, "", "roles"); ok {
		roles = c.rolesBeside(p, f["roles"])
	}
	if err := c.err(); err != nil {
		return nil, err
	}
	return roles, p.CheckRoles(roles)
}

// rolesBeside reads roles that stand beside those of a policy.
func (c *check) rolesBeside(p Policy, list node) (roles []Role) {
	whole := p.WithBuiltIns()
	c.know(whole.Resources)
	taken := map[string]bool{}
	for _, r := range whole.Roles {
		taken[r.ID] = true
	}
	for i, n := range c.list(list, "", "roles") {
		r := c.role(n, i)
		c.require(r.ID == "" || !taken[r.ID], n.line, "role %s: there is a role of that id already; choose another role_id", r.ID)
		taken[r.ID] = true
		roles = append(roles, r)
	}
	return roles
}

// document returns p in JSON.
func (p Policy) document() []byte {
	document, err := json.Marshal(p)
	if err != nil {
		return nil // impossible: a policy is text, numbers and lists
	}
	return document
}

// node returns the document that stands for p, without lines.
func (p Policy) node() node {
	n, _ := readJSON(p.document())
	return n.unlined()
}

func (n node) unlined() node {
	n.line = 0
	for i := range n.keys {
		n.keys[i].line = 0
	}
	for i := range n.items {
		n.items[i] = n.items[i].unlined()
	}
	return n
}

// member returns the member of an object, and nothing if it is not there.
func (n node) member(name string) node {
	for i, key := range n.keys {
		if key.text == name {
			return n.items[i]
		}
	}
	return node{line: n.line}
}

// check reads a policy out of nodes and collects what is wrong with it.
type check struct {
	problems []Problem
	more     bool                       // than maxProblems
	actions  map[string]map[string]bool // by resource
}

func (c *check) require(ok bool, line int, format string, args ...any) {
	switch {
	case ok:
	case len(c.problems) == maxProblems:
		c.more = true
	default:
		c.problems = append(c.problems, Problem{line, fmt.Sprintf(format, args...)})
	}
}

func (c *check) err() error {
	if len(c.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(c.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
	if c.more {
		c.problems = append(c.problems, Problem{Message: fmt.Sprintf("there are more problems than these %d", maxProblems)})
	}
	return &Problems{List: c.problems}
}

// know makes resources known to the permissions that are checked after it.
func (c *check) know(resources []Resource) {
	if c.actions == nil {
		c.actions = map[string]map[string]bool{}
	}
	for _, r := range resources {
		actions := map[string]bool{}
		for _, action := range r.Actions {
			actions[action] = true
		}
		c.actions[r.ID] = actions
	}
}

func (c *check) policy(n node) (p Policy) {
	if n.kind == nothing {
		c.require(false, n.line, "the policy is empty")
		return p
	}
	f, ok := c.object(n, "", "version", "resources", "roles", "scopes")
	if !ok {
		return p
	}
	p.Version = c.version(f["version"])

	c.know(builtInResources())
	builtIn := maps.Clone(c.actions)
	for i, n := range c.list(f["resources"], "", "resources") {
		r := c.resource(n, i)
		if builtIn[r.ID] != nil {
			c.require(false, n.line, "resource %s is built in and cannot be described anew; choose another resource_id", r.ID)
			continue
		}
		c.require(c.actions[r.ID] == nil, n.line, "resource %s is there twice", r.ID)
		if r.ID != "" {
			c.know([]Resource{r})
		}
		p.Resources = append(p.Resources, r)
	}
	seen := map[string]bool{}
	for i, n := range c.list(f["roles"], "", "roles") {
		r := c.role(n, i)
		c.require(r.ID == "" || !seen[r.ID], n.line, "role %s is there twice", r.ID)
		seen[r.ID] = true
		p.Roles = append(p.Roles, r)
	}
	clear(seen)
	for i, n := range c.list(f["scopes"], "", "scopes") {
		s := c.scope(n, i)
		c.require(s.Name == "" || !seen[s.Name], n.line, "scope %.60q is there twice", s.Name)
		seen[s.Name] = true
		p.Scopes = append(p.Scopes, s)
	}
	c.require(len(p.document()) <= maxPolicy, 0, "the policy is longer than %d bytes as JSON", maxPolicy)
	return p
}

func (c *check) version(n node) int64 {
	if n.kind == nothing {
		return 0
	}
	v, err := strconv.ParseInt(n.text, 10, 64)
	c.require(n.kind == number && err == nil && v >= 0, n.line, "version is not a whole number, 0 or more")
	return v
}

func (c *check) resource(n node, i int) (r Resource) {
	at := entry("resource", n.member("resource_id"), i)
	f, ok := c.object(n, at, "resource_id", "description", "actions")
	if !ok {
		return r
	}
	r.ID = c.id(f["resource_id"], at, "resource_id")
	r.Description = c.sentence(f["description"], at, "description")
	seen := map[string]bool{}
	for _, n := range c.list(f["actions"], at, "actions") {
		action := c.id(n, at, "an action")
		c.require(action == "" || !seen[action], n.line, "%saction %.60q is there twice", at, action)
		seen[action] = true
		r.Actions = append(r.Actions, action)
	}
	c.require(len(r.Actions) > 0, f["actions"].line, "%sactions is empty", at)
	return r
}

func (c *check) role(n node, i int) (r Role) {
	at := entry("role", n.member("role_id"), i)
	f, ok := c.object(n, at, "role_id", "description", "permissions")
	if !ok {
		return r
	}
	r.ID = c.id(f["role_id"], at, "role_id")
	r.Description = c.sentence(f["description"], at, "description")
	r.Permissions = c.permissions(f["permissions"], at)
	return r
}

func (c *check) scope(n node, i int) (s Scope) {
	at := entry("scope", n.member("scope"), i)
	f, ok := c.object(n, at, "scope", "description", "detail", "read_only", "permissions")
	if !ok {
		return s
	}
	s.Name = c.text(f["scope"], at, "scope")
	s.Description = c.sentence(f["description"], at, "description")
	s.Detail = c.sentence(f["detail"], at, "detail")
	c.require(s.Detail == "" || s.Description != "", f["detail"].line, "%sdetail stands below a description, and there is none", at)
	s.ReadOnly = c.truth(f["read_only"], at, "read_only")
	s.Permissions = c.permissions(f["permissions"], at)
	c.require(s.Name == "" || ValidScope(s.Name), f["scope"].line, "%s%.60q is not 1 to 128 visible ASCII characters without quote and backslash", at, s.Name)
	c.require(!reserved(s.Name), f["scope"].line, "%sthe name is reserved; choose another", at)
	return s
}

func (c *check) permissions(n node, at string) (permissions []Permission) {
	for _, n := range c.list(n, at, "permissions") {
		f, ok := c.object(n, at+"a permission: ", "resource_id", "actions")
		if !ok {
			continue
		}
		p := Permission{Resource: c.text(f["resource_id"], at, "resource_id")}
		actions, known := c.actions[p.Resource]
		c.require(known || p.Resource == "", f["resource_id"].line, "%sthere is no resource %.60q", at, p.Resource)
		seen := map[string]bool{}
		for _, n := range c.list(f["actions"], at, "actions") {
			action := c.text(n, at, "an action")
			c.require(!known || action == "" || action == AllActions || actions[action], n.line, "%sresource %.60q has no action %.60q", at, p.Resource, action)
			c.require(action == "" || !seen[action], n.line, "%saction %.60q is there twice", at, action)
			seen[action] = true
			p.Actions = append(p.Actions, action)
		}
		c.require(len(p.Actions) > 0, f["actions"].line, "%sactions is empty", at)
		c.require(!seen[AllActions] || len(p.Actions) == 1, f["actions"].line, `%s"*" is every action already; write it alone, or the others without it`, at)
		permissions = append(permissions, p)
	}
	return permissions
}

// object returns the members of n by name, for every one of names; those that
// are not there are nothing, in the line of n. ok is false if n is no object.
func (c *check) object(n node, at string, names ...string) (members map[string]node, ok bool) {
	if n.kind != object {
		c.require(false, n.line, "%snot an object with the members %s", at, strings.Join(names, ", "))
		return nil, false
	}
	members = map[string]node{}
	for i, key := range n.keys {
		_, twice := members[key.text]
		c.require(!twice, key.line, "%s%.60q is there twice", at, key.text)
		c.require(slices.Contains(names, key.text), key.line, "%sthere is no member %.60q; known are %s", at, key.text, strings.Join(names, ", "))
		members[key.text] = n.items[i]
	}
	for _, name := range names {
		if _, ok := members[name]; !ok {
			members[name] = node{line: n.line}
		}
	}
	return members, true
}

func (c *check) list(n node, at, name string) []node {
	c.require(n.kind == list || n.kind == nothing, n.line, "%s%s is not a list", at, name)
	c.require(len(n.items) <= maxEntries, n.line, "%s%s has %d entries; at most %d are allowed", at, name, len(n.items), maxEntries)
	if n.kind != list {
		return nil
	}
	return n.items[:min(len(n.items), maxEntries)]
}

// text returns the text of a member that must be there.
func (c *check) text(n node, at, name string) string {
	switch {
	case n.kind == nothing || n.kind == text && n.text == "":
		c.require(false, n.line, "%s%s is missing", at, name)
	case n.kind != text:
		c.require(false, n.line, "%s%s is %s, not text; write it in quotes", at, name, n.kind)
		return ""
	}
	return n.text
}

// id returns "" for what is no id.
func (c *check) id(n node, at, name string) string {
	id := c.text(n, at, name)
	if id != "" && !idForm.MatchString(id) {
		c.require(false, n.line, "%s%s %.60q is not 1 to 128 letters, digits and . _ : -", at, name, id)
		return ""
	}
	return id
}

func (c *check) truth(n node, at, name string) bool {
	c.require(n.kind == truth || n.kind == nothing, n.line, "%s%s is neither true nor false", at, name)
	return n.kind == truth && n.text == "true"
}

func (c *check) sentence(n node, at, name string) string {
	if n.kind == nothing || n.kind == text && n.text == "" {
		return ""
	}
	s := c.text(n, at, name)
	c.require(len(s) <= maxDescription, n.line, "%s%s is longer than %d bytes", at, name, maxDescription)
	// A character that moves or hides text could make a sentence read as another.
	odd := strings.ContainsFunc(s, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) })
	c.require(!odd, n.line, "%s%s has a character that is not printable", at, name)
	return s
}

// entry names the entry of a list that a problem is in, by its id or else by its
// place, as the beginning of a sentence.
func entry(kind string, id node, i int) string {
	if id.kind == text && scopeForm.MatchString(id.text) {
		return kind + " " + id.text + ": "
	}
	return fmt.Sprintf("%ss[%d]: ", kind, i)
}

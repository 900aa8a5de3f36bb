package api

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/web"
)

// vendorPolicy is the policy document as the vendor's scripts send and expect
// it. It has no word for whether a scope only reads, nor for the second sentence
// about it.
type vendorPolicy struct {
	BuiltIn   []vendorResource `json:"stytch_resources"` // told, never read
	Resources []vendorResource `json:"custom_resources"`
	Roles     []rbac.Role      `json:"custom_roles"`
	Scopes    []vendorScope    `json:"custom_scopes"`
	// The roles that every project has. What everybody holds is Member in a B2B
	// project and User in a consumer project.
	Member *rbac.Role `json:"stytch_member,omitempty"`
	User   *rbac.Role `json:"stytch_user,omitempty"`
	Admin  *rbac.Role `json:"stytch_admin,omitempty"`
}

type vendorResource struct {
	ID          string   `json:"resource_id"`
	Description string   `json:"description"`
	Actions     []string `json:"available_actions"`
}

type vendorScope struct {
	Name        string            `json:"scope"`
	Description string            `json:"description"`
	Permissions []rbac.Permission `json:"permissions"`
}

// vendorPrefix begins every name that the vendor keeps for itself.
const vendorPrefix = "stytch"

// vendorResources are the vendor's names of the resources that every project
// has.
func vendorResources() map[string]string {
	return map[string]string{
		rbac.ResourceOrganization: "stytch.organization",
		rbac.ResourceMember:       "stytch.member",
		rbac.ResourceSSO:          "stytch.sso",
		rbac.ResourceSCIM:         "stytch.scim",
		rbac.ResourceRole:         "stytch.custom-org-roles",
		rbac.ResourceSelf:         "stytch.self",
	}
}

// The vendor's names of the roles that every project has.
const (
	vendorMember = "stytch_member"
	vendorAdmin  = "stytch_admin"
	vendorUser   = "stytch_user"
)

// toVendor translates a policy. The error is a refusal: a policy with names that
// the vendor keeps for itself would be read back as another.
func toVendor(p rbac.Policy, vertical project.Vertical) (vendorPolicy, error) {
	t := translator{names: vendorResources()}
	v := vendorPolicy{BuiltIn: []vendorResource{}, Resources: []vendorResource{}, Roles: []rbac.Role{}, Scopes: []vendorScope{}}
	for _, r := range p.WithBuiltIns().Resources {
		if id, builtIn := t.names[r.ID]; builtIn {
			v.BuiltIn = append(v.BuiltIn, vendorResource{id, r.Description, r.Actions})
			continue
		}
		t.custom("resource", r.ID)
		v.Resources = append(v.Resources, vendorResource(r))
	}
	for _, r := range p.WithBuiltIns().Roles {
		r.Permissions = t.permissions("role", r.ID, r.Permissions)
		switch {
		case r.ID == rbac.RoleMember && vertical == project.B2B:
			r.ID, v.Member = vendorMember, &r
		case r.ID == rbac.RoleMember:
			r.ID, v.User = vendorUser, &r
		case r.ID == rbac.RoleAdmin:
			r.ID, v.Admin = vendorAdmin, &r
		default:
			t.custom("role", r.ID)
			v.Roles = append(v.Roles, r)
		}
	}
	for _, s := range p.Scopes {
		v.Scopes = append(v.Scopes, vendorScope{s.Name, s.Description, t.permissions("scope", s.Name, s.Permissions)})
	}
	if len(t.problems) > 0 {
		return v, refuse(http.StatusConflict, "policy_not_representable",
			"This form of the policy cannot say what stands; use /policy instead. %s", strings.Join(t.problems, "; "))
	}
	return v, nil
}

// fromVendor translates a document, and takes from the standing policy what the
// document cannot say. A scope that is new, or permits something else than
// before, is taken for one that only reads if every action of it has a name that
// says so.
func fromVendor(v vendorPolicy, vertical project.Vertical, standing rbac.Policy) (rbac.Policy, error) {
	t := translator{names: map[string]string{}}
	for ours, theirs := range vendorResources() {
		t.names[theirs] = ours
	}
	var p rbac.Policy
	for _, r := range v.Resources {
		t.custom("resource", r.ID)
		p.Resources = append(p.Resources, rbac.Resource(r))
	}
	everybody := v.Member
	if vertical != project.B2B {
		everybody = v.User
	}
	for _, r := range []struct {
		id string
		as *rbac.Role
	}{{rbac.RoleMember, everybody}, {rbac.RoleAdmin, v.Admin}} {
		if r.as != nil {
			p.Roles = append(p.Roles, rbac.Role{ID: r.id, Description: r.as.Description, Permissions: t.permissions("role", r.id, r.as.Permissions)})
		}
	}
	for _, r := range v.Roles {
		if r.ID == rbac.RoleMember || r.ID == rbac.RoleAdmin {
			t.say("role %q: every project has a role of that id already; choose another role_id", r.ID)
			continue
		}
		t.custom("role", r.ID)
		r.Permissions = t.permissions("role", r.ID, r.Permissions)
		p.Roles = append(p.Roles, r)
	}
	for _, s := range v.Scopes {
		next := rbac.Scope{Name: s.Name, Description: s.Description, Permissions: t.permissions("scope", s.Name, s.Permissions)}
		next.ReadOnly = reads(next.Permissions)
		i := slices.IndexFunc(standing.Scopes, func(old rbac.Scope) bool { return old.Name == s.Name })
		if i >= 0 {
			old := standing.Scopes[i]
			same := slices.EqualFunc(old.Permissions, next.Permissions, func(a, b rbac.Permission) bool {
				return a.Resource == b.Resource && slices.Equal(a.Actions, b.Actions)
			})
			next.Detail, next.ReadOnly = old.Detail, old.ReadOnly && (same || next.ReadOnly)
		}
		p.Scopes = append(p.Scopes, next)
	}
	var wrong *rbac.Problems
	if errors.As(p.Validate(), &wrong) {
		for _, problem := range wrong.List {
			t.say("%s", problem)
		}
	}
	if len(t.problems) > 0 {
		return p, badPolicy(t.problems...)
	}
	return p, nil
}

// translator translates the names of resources in one direction, and collects
// what cannot be translated.
type translator struct {
	names    map[string]string
	problems []string
}

func (t *translator) say(format string, args ...any) {
	t.problems = append(t.problems, fmt.Sprintf(format, args...))
}

// custom refuses a name that the vendor keeps for itself.
func (t *translator) custom(kind, id string) {
	if strings.HasPrefix(id, vendorPrefix) {
		t.say("%s %q: names that begin with %s are kept; choose another", kind, id, vendorPrefix)
	}
}

// permissions translates the resources of permissions. A name that means
// something in the other language only is refused: it would permit what nobody
// wrote.
func (t *translator) permissions(kind, id string, permissions []rbac.Permission) []rbac.Permission {
	out := []rbac.Permission{}
	for _, p := range permissions {
		to, known := t.names[p.Resource]
		switch {
		case known:
			p.Resource = to
		case slices.Contains(values(t.names), p.Resource):
			t.say("%s %q: there is no resource %q", kind, id, p.Resource)
		}
		p.Actions = append([]string{}, p.Actions...)
		out = append(out, p)
	}
	return out
}

func values(m map[string]string) (list []string) {
	for _, v := range m {
		list = append(list, v)
	}
	return list
}

// reads tells whether every permitted action has a name that says it changes
// nothing.
func reads(permissions []rbac.Permission) bool {
	for _, p := range permissions {
		for _, action := range p.Actions {
			if !slices.Contains([]string{"read", "get", "list", "search", "view"}, action) {
				return false
			}
		}
	}
	return len(permissions) > 0
}

// compatibleAnswer is what published SDKs find beside every answer.
type compatibleAnswer struct {
	RequestID  string `json:"request_id"`
	StatusCode int    `json:"status_code"`
}

type compatiblePolicyAnswer struct {
	compatibleAnswer
	Policy vendorPolicy `json:"policy"`
}

type compatiblePolicyRequest struct {
	ProjectID string        `json:"project_id"`
	Policy    *vendorPolicy `json:"policy"`
}

func (a *API) compatiblePolicy(c call, _ none) (compatiblePolicyAnswer, error) {
	p, err := a.people.Policy(c.Context(), c.project.ID)
	if err != nil {
		return compatiblePolicyAnswer{}, err
	}
	return answerCompatibly(c, p)
}

func answerCompatibly(c call, p rbac.Policy) (compatiblePolicyAnswer, error) {
	v, err := toVendor(p, c.project.Vertical)
	return compatiblePolicyAnswer{compatibleAnswer{web.Trace(c.Context()), http.StatusOK}, v}, err
}

// setCompatiblePolicy replaces the policy document by one in the vendor's words.
// The document knows no versions, so it replaces whatever stands; what comes in
// between is a conflict.
func (a *API) setCompatiblePolicy(c call, in compatiblePolicyRequest) (compatiblePolicyAnswer, error) {
	switch {
	case in.ProjectID != "" && in.ProjectID != c.project.ID:
		return compatiblePolicyAnswer{}, refuse(http.StatusBadRequest, "project_id_mismatch", "project_id in the body is not the one in the path.")
	case in.Policy == nil:
		return compatiblePolicyAnswer{}, refuse(http.StatusBadRequest, "bad_request", "The body has no policy; send it as the member policy.")
	}
	standing, err := a.people.Policy(c.Context(), c.project.ID)
	if err != nil {
		return compatiblePolicyAnswer{}, err
	}
	next, err := fromVendor(*in.Policy, c.project.Vertical, standing)
	if err != nil {
		return compatiblePolicyAnswer{}, err
	}
	next, err = a.apply(c, standing, next)
	switch {
	case errors.Is(err, identity.ErrStale):
		return compatiblePolicyAnswer{}, policyChanged(http.StatusConflict)
	case err != nil:
		return compatiblePolicyAnswer{}, err
	}
	return answerCompatibly(c, next)
}

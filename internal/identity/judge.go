package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
)

// Rules are a project's policy document and what decides by it.
type Rules struct {
	Policy rbac.Policy // with the built-in resources and roles
	Judge  *rbac.Judge
	change int64 // of the project, when they were read
}

// HasRole reports whether the project has a role.
func (r Rules) HasRole(id string) bool {
	return slices.ContainsFunc(r.Policy.Roles, func(role rbac.Role) bool { return role.ID == id })
}

// role reports whether a role exists in the project or the organization.
func (r Rules) role(o Organization, id string) bool {
	return r.HasRole(id) || slices.ContainsFunc(o.Roles, func(role rbac.Role) bool { return role.ID == id })
}

// Rules returns a project's rules, read anew when the project has changed.
func (p *People) Rules(ctx context.Context, proj *project.Project) (Rules, error) {
	if kept, ok := p.rules.Load(proj.ID); ok && kept.(Rules).change == proj.Change {
		return kept.(Rules), nil
	}
	policy, err := p.store.Policy(ctx, proj.ID)
	if err != nil {
		return Rules{}, fmt.Errorf("identity: read policy: %w", err)
	}
	r := Rules{policy.WithBuiltIns(), rbac.Compile(policy), proj.Change}
	p.rules.Store(proj.ID, r)
	return r, nil
}

// Rights returns what a member's roles permit in the organization.
func (p *People) Rights(ctx context.Context, proj *project.Project, m Member, o Organization) (rbac.Rights, error) {
	rules, err := p.Rules(ctx, proj)
	if err != nil {
		return rbac.Rights{}, err
	}
	judge := rules.Judge
	if len(o.Roles) > 0 {
		judge = judge.WithOrganization(o.Roles)
	}
	return judge.Rights(roleIDs(m, o)...), nil
}

// Narrow returns those of scopes that the subject may grant now, in order. A
// user of a consumer project may grant every scope, a member those whose every
// permission their roles cover. active is false when the subject is gone or
// locked, or when the organization does not let the connected app in.
func (p *People) Narrow(ctx context.Context, proj *project.Project, subject, organization, clientID string, firstParty bool, scopes []string) (grantable []string, active bool, err error) {
	if proj.Vertical != project.B2B {
		u, err := p.store.User(ctx, proj.ID, subject)
		if errors.Is(err, ErrNotFound) {
			return nil, false, nil
		}
		return scopes, err == nil && u.Active, err
	}
	m, o, err := p.store.MemberAndOrganization(ctx, proj.ID, organization, subject)
	if errors.Is(err, ErrNotFound) {
		return nil, false, nil
	}
	if err != nil || m.Status != Active || !o.Active || !o.Admits(clientID, firstParty) {
		return nil, false, err
	}
	rights, err := p.Rights(ctx, proj, m, o)
	if err != nil {
		return nil, false, err
	}
	grantable = []string{}
	for _, scope := range scopes {
		if ok, _ := rights.Grantable(scope); ok {
			grantable = append(grantable, scope)
		}
	}
	return grantable, true, nil
}

// WhyNot says in a sentence why a member cannot grant a scope, "" when they can.
func WhyNot(rights rbac.Rights, titles []string, scope string) string {
	ok, missing := rights.Grantable(scope)
	if ok {
		return ""
	}
	return Lacking(titles, missing...)
}

// Lacking says in a sentence that a member's roles, by their titles, do not
// permit something.
func Lacking(titles []string, missing ...rbac.Permission) string {
	var acts []string
	for _, m := range missing {
		acts = append(acts, enumerate(m.Actions)+" of "+strings.ReplaceAll(m.Resource, "_", " "))
	}
	return fmt.Sprintf("Your role, %s, does not include %s.", strings.Join(titles, " and "), strings.Join(acts, ", nor "))
}

// enumerate is a list in words: "create, update and delete".
func enumerate(words []string) string {
	if n := len(words) - 1; n > 0 {
		return strings.Join(words[:n], ", ") + " and " + words[n]
	}
	return strings.Join(words, "")
}

// Titles are the names of a member's roles as people read them. The role that
// everybody has is named where there is no other.
func Titles(m Member, o Organization) []string {
	var titles []string
	for _, id := range roleIDs(m, o) {
		if id != rbac.RoleMember {
			titles = append(titles, Title(id))
		}
	}
	if len(titles) == 0 {
		titles = []string{Title(rbac.RoleMember)}
	}
	return titles
}

// Title is a role's id as the name of a role: "team_lead" is "Team lead".
func Title(role string) string {
	words := strings.NewReplacer("_", " ", "-", " ").Replace(role)
	return strings.ToUpper(words[:1]) + words[1:]
}

// Policy returns a project's policy document.
func (p *People) Policy(ctx context.Context, projectID string) (rbac.Policy, error) {
	return p.store.Policy(ctx, projectID)
}

// ApplyPolicy replaces a project's policy document. policy.Version is the
// version that was read before; ErrStale when another one stands there by now.
// It returns the version that stands now.
func (p *People) ApplyPolicy(ctx context.Context, projectID string, policy rbac.Policy, e audit.Event) (int64, error) {
	if err := policy.Validate(); err != nil {
		return 0, err
	}
	return p.store.ApplyPolicy(ctx, projectID, policy, e)
}

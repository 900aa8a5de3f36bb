package api

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
)

// dice makes policies by chance.
type dice struct{ *rand.Rand }

func (d dice) permissions(resources []rbac.Resource) []rbac.Permission {
	var out []rbac.Permission
	for range d.IntN(4) {
		r := resources[d.IntN(len(resources))]
		p := rbac.Permission{Resource: r.ID, Actions: []string{rbac.AllActions}}
		if d.IntN(3) > 0 {
			p.Actions = nil
			for _, i := range d.Perm(len(r.Actions))[:1+d.IntN(min(3, len(r.Actions)))] {
				p.Actions = append(p.Actions, r.Actions[i])
			}
		}
		out = append(out, p)
	}
	return out
}

func (d dice) policy() rbac.Policy {
	var p rbac.Policy
	for i := range d.IntN(4) {
		p.Resources = append(p.Resources, rbac.Resource{
			ID: fmt.Sprintf("thing%d", i), Description: "Things", Actions: []string{"read", "search", "write", "delete"}[:1+d.IntN(4)],
		})
	}
	resources := p.WithBuiltIns().Resources
	for _, id := range []string{rbac.RoleMember, rbac.RoleAdmin, "manager", "guest"} {
		if d.IntN(2) == 0 {
			p.Roles = append(p.Roles, rbac.Role{ID: id, Description: "A role", Permissions: d.permissions(resources)})
		}
	}
	for i := range d.IntN(4) {
		p.Scopes = append(p.Scopes, rbac.Scope{
			Name: fmt.Sprintf("scope%d", i), Description: "Do it", Detail: "Really.", ReadOnly: d.IntN(2) == 0, Permissions: d.permissions(resources),
		})
	}
	return p
}

// Translated to the vendor's form, sent as JSON and translated back, a policy
// decides as before, and what the form cannot say is as before.
func TestPolicyGoesThereAndBack(t *testing.T) {
	for seed := range uint64(500) {
		d := dice{rand.New(rand.NewPCG(seed, 1))}
		before := d.policy()
		if err := before.Validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, vertical := range []project.Vertical{project.B2B, project.Consumer} {
			told, err := toVendor(before, vertical)
			if err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			text, err := json.Marshal(told)
			if err != nil {
				t.Fatal(err)
			}
			var read vendorPolicy
			if err := json.Unmarshal(text, &read); err != nil {
				t.Fatal(err)
			}
			after, err := fromVendor(read, vertical, before)
			if err != nil {
				t.Fatalf("seed %d: %v\n%s", seed, err, text)
			}
			if changes := rbac.Diff(before, after); len(changes) > 0 {
				t.Errorf("seed %d: %v", seed, changes)
			}
			sameDecisions(t, seed, before, after)
		}
	}
}

func sameDecisions(t *testing.T, seed uint64, before, after rbac.Policy) {
	t.Helper()
	was, is := rbac.Compile(before), rbac.Compile(after)
	for _, role := range before.WithBuiltIns().Roles {
		a, b := was.Rights(role.ID), is.Rights(role.ID)
		if diff := cmp.Diff(a.Permissions(), b.Permissions()); diff != "" {
			t.Errorf("seed %d: role %s: %s", seed, role.ID, diff)
		}
		for _, s := range before.Scopes {
			x, _ := a.Grantable(s.Name)
			if y, _ := b.Grantable(s.Name); x != y {
				t.Errorf("seed %d: role %s, scope %s: %v, then %v", seed, role.ID, s.Name, x, y)
			}
		}
	}
}

// A name of ours in the vendor's document, where it would mean another thing,
// permits nothing.
func TestForeignNames(t *testing.T) {
	for ours, theirs := range vendorResources() {
		if _, err := fromVendor(vendorPolicy{Roles: []rbac.Role{{ID: "r", Permissions: []rbac.Permission{{Resource: ours, Actions: []string{"*"}}}}}}, project.B2B, rbac.Policy{}); err == nil {
			t.Errorf("%s means the built-in resource", ours)
		}
		p, err := fromVendor(vendorPolicy{Roles: []rbac.Role{{ID: "r", Permissions: []rbac.Permission{{Resource: theirs, Actions: []string{"*"}}}}}}, project.B2B, rbac.Policy{})
		if err != nil || p.Roles[0].Permissions[0].Resource != ours {
			t.Errorf("%s: %v, %v", theirs, p, err)
		}
	}
	for _, r := range (rbac.Policy{}).WithBuiltIns().Resources {
		if vendorResources()[r.ID] == "" {
			t.Errorf("the built-in resource %s has no name in the vendor's form", r.ID)
		}
	}
}

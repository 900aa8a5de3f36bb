package rbac_test

import (
	"fmt"
	"testing"

	"github.com/postern-id/postern/internal/rbac"
)

// large is a policy of n roles with 10 permissions each, on 10 resources.
func large(n int) rbac.Policy {
	var p rbac.Policy
	actions := []string{"create", "read", "update", "delete", "share", "archive"}
	for i := range 10 {
		p.Resources = append(p.Resources, rbac.Resource{ID: fmt.Sprint("resource", i), Description: "A kind of thing", Actions: actions})
	}
	for i := range n {
		role := rbac.Role{ID: fmt.Sprint("role", i), Description: "A role that does things"}
		for j, r := range p.Resources {
			permitted := actions[(i+j)%5 : (i+j)%5+2]
			if j == i%10 {
				permitted = []string{rbac.AllActions}
			}
			role.Permissions = append(role.Permissions, rbac.Permission{Resource: r.ID, Actions: permitted})
		}
		p.Roles = append(p.Roles, role)
	}
	for i, r := range p.Resources {
		p.Scopes = append(p.Scopes, rbac.Scope{Name: fmt.Sprint("scope", i), Permissions: []rbac.Permission{{Resource: r.ID, Actions: []string{"*"}}}})
	}
	return p
}

func BenchmarkApply(b *testing.B) {
	p := large(1000)
	document := rbac.Format(p)
	old := large(1100)
	old.Roles = old.Roles[100:]
	b.SetBytes(int64(len(document)))
	for b.Loop() {
		p, err := rbac.Parse(document)
		if err != nil {
			b.Fatal(err)
		}
		if len(rbac.Diff(old, p)) == 0 {
			b.Fatal("no difference")
		}
		rbac.Compile(p)
	}
}

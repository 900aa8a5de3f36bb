package rbac_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/rbac"
)

func lines(changes []rbac.Change) (text []string) {
	for _, c := range changes {
		text = append(text, c.String())
	}
	return text
}

func TestDiff(t *testing.T) {
	permit := func(resource string, actions ...string) rbac.Permission {
		return rbac.Permission{Resource: resource, Actions: actions}
	}
	tests := map[string]struct {
		change func(p *rbac.Policy)
		want   []string
	}{
		"nothing": {func(*rbac.Policy) {}, nil},
		"a version, and the order and repetition of what is permitted": {
			func(p *rbac.Policy) {
				p.Version = 9
				p.Roles[0].Permissions = []rbac.Permission{
					permit("key_result", "update"), permit("objective", "read"), permit("key_result", "read", "update"), permit("self", "*"),
				}
			}, nil,
		},
		"what is new": {
			func(p *rbac.Policy) {
				p.Resources = append(p.Resources, rbac.Resource{ID: "note", Actions: []string{"read", "write"}})
				p.Roles = append(p.Roles, rbac.Role{ID: "guest"}, rbac.Role{ID: "editor", Permissions: []rbac.Permission{permit("note", "*"), permit("objective", "update", "read")}})
				p.Scopes = append(p.Scopes,
					rbac.Scope{Name: "notes", Permissions: []rbac.Permission{permit("note", "*")}},
					rbac.Scope{Name: "see", Permissions: []rbac.Permission{permit("objective", "read")}},
					rbac.Scope{Name: "end", Permissions: []rbac.Permission{permit("organization", "delete"), permit("note", "read")}},
					rbac.Scope{Name: "plain"})
			},
			[]string{
				`+ resource "note": read, write`,
				`+ role "guest": no permissions`,
				`+ role "editor": note (*), objective (read, update)`,
				`+ scope "notes": note (*); grantable with the role editor`,
				`+ scope "see": objective (read); grantable with every role`,
				`+ scope "end": organization (delete), note (read); grantable with no role`,
				`+ scope "plain": no permissions`,
			},
		},
		"what is gone": {
			func(p *rbac.Policy) {
				p.Resources = append([]rbac.Resource{}, p.Resources[1])
				p.Roles = p.Roles[:1]
				p.Roles[0].Permissions = p.Roles[0].Permissions[:1]
				p.Scopes = p.Scopes[2:3]
			},
			[]string{
				`- resource "objective": create, read, update, delete`,
				`~ role "member": permissions on objective: read → none`,
				`~ role "member": permissions on key_result: read, update → none`,
				`~ role "admin": description: "CEO" → "Runs the organization"`,
				`~ role "admin": permissions on sso: none → *`,
				`~ role "admin": permissions on scim: none → *`,
				`~ role "admin": permissions on role: none → *`,
				`~ role "admin": permissions on objective: * → none`,
				`~ role "admin": permissions on key_result: * → none`,
				`- role "manager": member (create, search), objective (read), key_result (*)`,
				`~ scope "manage:krs": no longer grantable with the role admin`,
				`- scope "read:okrs": objective (read), key_result (read)`,
				`- scope "manage:objectives": objective (*)`,
				`- scope "report_kr_status": key_result (read, update)`,
			},
		},
		"what is different": {
			func(p *rbac.Policy) {
				p.Resources[0].Actions = []string{"read", "create", "update", "delete", "close"}
				p.Resources[1].Description = "A number"
				p.Roles[1].Permissions = append(p.Roles[1].Permissions, permit("objective", "*"))
				p.Roles[2].Permissions = p.Roles[2].Permissions[:3]
				p.Scopes[0].Detail = ""
				p.Scopes[0].ReadOnly = false
				p.Scopes[1].Permissions[0].Actions = []string{"create", "close"}
				p.Scopes[2].Description = "Change key results"
				p.Scopes[0], p.Scopes[1] = p.Scopes[1], p.Scopes[0]
			},
			[]string{
				`~ resource "objective": actions: create, read, update, delete → read, create, update, delete, close`,
				`~ resource "key_result": description: "How one sees that it is reached" → "A number"`,
				`~ role "admin": permissions on key_result: * → none`,
				`~ role "manager": permissions on objective: read → *`,
				`~ scope "manage:objectives": permissions on objective: * → close, create`,
				`~ scope "manage:objectives": now grantable with the role manager`,
				`~ scope "read:okrs": detail: "None that's not yours" → ""`,
				`~ scope "read:okrs": read_only: true → false`,
				`~ scope "manage:krs": description: "" → "Change key results"`,
				`~ scope "manage:krs": no longer grantable with the role admin`,
				`~ scopes are listed in another order`,
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p := parsed(t, okrs)
			test.change(&p)
			if err := p.Validate(); err != nil && name != "what is gone" {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, lines(rbac.Diff(parsed(t, okrs), p))); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("many roles are not listed one by one", func(t *testing.T) {
		p := notes()
		for i := range 12 {
			p.Roles = append(p.Roles, rbac.Role{ID: fmt.Sprint("r", i)})
		}
		was := p
		p.Roles = slices.Clone(p.Roles)
		for i := range p.Roles[1:] {
			p.Roles[1+i].Permissions = []rbac.Permission{permit("note", "read")}
		}
		changes := lines(rbac.Diff(was, p))
		want := `~ scope "read:notes": now grantable with the roles r0, r1, r2, r3, r4, r5, r6, r7 and 4 more`
		if diff := cmp.Diff(want, changes[len(changes)-1]); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a first policy", func(t *testing.T) {
		want := []string{
			`+ resource "note": read, write`, `+ role "editor": note (*)`,
			`+ scope "read:notes": note (read); grantable with the role editor`, `+ scope "write:notes": no permissions`,
		}
		if diff := cmp.Diff(want, lines(rbac.Diff(rbac.Policy{}, notes()))); diff != "" {
			t.Error(diff)
		}
	})
}

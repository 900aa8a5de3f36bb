package rbac_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/rbac"
)

func notes() rbac.Policy {
	return rbac.Policy{
		Version:   1,
		Resources: []rbac.Resource{{ID: "note", Description: "A note", Actions: []string{"read", "write"}}},
		Roles:     []rbac.Role{{ID: "editor", Permissions: []rbac.Permission{{Resource: "note", Actions: []string{rbac.AllActions}}}}},
		Scopes: []rbac.Scope{
			{Name: "read:notes", Description: "Read your notes", ReadOnly: true, Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"read"}}}},
			{Name: "write:notes", Description: "Change your notes", Detail: "Yours alone"},
		},
	}
}

func TestDocumentRoundTrip(t *testing.T) {
	text, err := json.Marshal(notes())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":1,"scopes":[` +
		`{"scope":"read:notes","description":"Read your notes","read_only":true,"permissions":[{"resource_id":"note","actions":["read"]}]},` +
		`{"scope":"write:notes","description":"Change your notes","detail":"Yours alone","read_only":false,"permissions":[]}],` +
		`"resources":[{"resource_id":"note","description":"A note","actions":["read","write"]}],` +
		`"roles":[{"role_id":"editor","description":"","permissions":[{"resource_id":"note","actions":["*"]}]}]}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	got, err := rbac.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(notes(), got); diff != "" {
		t.Error(diff)
	}
	if text, err := json.Marshal(rbac.Policy{Version: 1}); err != nil || string(text) != `{"version":1,"scopes":[],"resources":[],"roles":[]}` {
		t.Errorf("empty: %s, %v", text, err)
	}
}

func TestScope(t *testing.T) {
	tests := map[string]struct {
		want      rbac.Scope
		described bool
	}{
		"write:notes": {rbac.Scope{Name: "write:notes", Description: "Change your notes", Detail: "Yours alone"}, true},
		"email":       {rbac.Scope{Name: "email", Description: "See your e-mail address", ReadOnly: true}, true},
		"never:heard": {rbac.Scope{Name: "never:heard"}, false},
		"unworded":    {rbac.Scope{Name: "unworded", ReadOnly: true}, false},
	}
	p := notes().WithScopes(rbac.Scope{Name: "unworded", ReadOnly: true})
	for name, test := range tests {
		got, described := p.Scope(name)
		if diff := cmp.Diff(test.want, got); diff != "" || described != test.described {
			t.Errorf("%s: described %v, %s", name, described, diff)
		}
	}
	for name, want := range map[string]bool{"openid": true, "offline_access": true, "read:notes": false, "": false} {
		if got := rbac.Standard(name); got != want {
			t.Errorf("Standard(%q) = %v", name, got)
		}
	}
}

func TestWithScopes(t *testing.T) {
	before := notes()
	after := before.WithScopes(rbac.Scope{Name: "delete:notes"}, rbac.Scope{Name: "read:notes", Description: "Look at your notes"})
	var names []string
	for _, s := range after.Scopes {
		names = append(names, s.Name)
	}
	if diff := cmp.Diff([]string{"read:notes", "write:notes", "delete:notes"}, names); diff != "" {
		t.Error(diff)
	}
	if after.Scopes[0].Description != "Look at your notes" {
		t.Error("the scope was not replaced")
	}
	if diff := cmp.Diff(notes(), before); diff != "" {
		t.Errorf("the policy before was changed: %s", diff)
	}
}

func TestWithBuiltIns(t *testing.T) {
	ids := func(p rbac.Policy) (resources, roles []string) {
		for _, r := range p.Resources {
			resources = append(resources, r.ID)
		}
		for _, r := range p.Roles {
			roles = append(roles, r.ID)
		}
		return resources, roles
	}
	resources, roles := ids(notes().WithBuiltIns())
	if diff := cmp.Diff([]string{"organization", "member", "sso", "scim", "role", "self", "note"}, resources); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"member", "admin", "editor"}, roles); diff != "" {
		t.Error(diff)
	}
	all := func(resources ...string) (permissions []rbac.Permission) {
		for _, r := range resources {
			permissions = append(permissions, rbac.Permission{Resource: r, Actions: []string{"*"}})
		}
		return permissions
	}
	whole := notes().WithBuiltIns()
	if diff := cmp.Diff(all("self"), whole.Roles[0].Permissions); diff != "" {
		t.Errorf("member: %s", diff)
	}
	if diff := cmp.Diff(all("organization", "member", "sso", "scim", "role"), whole.Roles[1].Permissions); diff != "" {
		t.Errorf("admin: %s", diff)
	}

	t.Run("the document's member and admin stand for the defaults", func(t *testing.T) {
		p := notes()
		p.Roles = append(p.Roles, rbac.Role{ID: "admin", Description: "CEO"}, rbac.Role{ID: "member", Description: "Employee"})
		whole := p.WithBuiltIns()
		if _, roles := ids(whole); !cmp.Equal(roles, []string{"member", "admin", "editor"}) {
			t.Errorf("roles %v", roles)
		}
		if whole.Roles[0].Description != "Employee" || whole.Roles[1].Description != "CEO" || whole.Roles[1].Permissions != nil {
			t.Errorf("%+v", whole.Roles[:2])
		}
	})
	t.Run("a built-in resource has each action once and can be permitted", func(t *testing.T) {
		p := notes()
		for _, r := range p.WithBuiltIns().Resources {
			p.Roles[0].Permissions = append(p.Roles[0].Permissions, rbac.Permission{Resource: r.ID, Actions: r.Actions})
		}
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
	})
}

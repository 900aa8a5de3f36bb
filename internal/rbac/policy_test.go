package rbac_test

import (
	"encoding/json"
	"errors"
	"strings"
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
			{Name: "read:notes", Description: "Read your notes", Detail: "Titles and texts", ReadOnly: true, Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"read"}}}},
			{Name: "write:notes", Description: "Change your notes"},
		},
	}
}

func TestDocumentRoundTrip(t *testing.T) {
	text, err := json.Marshal(notes())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"version":1,"scopes":[` +
		`{"scope":"read:notes","description":"Read your notes","detail":"Titles and texts","read_only":true,"permissions":[{"resource_id":"note","actions":["read"]}]},` +
		`{"scope":"write:notes","description":"Change your notes","read_only":false,"permissions":[]}],` +
		`"resources":[{"resource_id":"note","description":"A note","actions":["read","write"]}],` +
		`"roles":[{"role_id":"editor","description":"","permissions":[{"resource_id":"note","actions":["*"]}]}]}`
	if diff := cmp.Diff(want, string(text)); diff != "" {
		t.Error(diff)
	}
	got, err := rbac.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(got)
	if err != nil || string(again) != want {
		t.Errorf("%s, %v", again, err)
	}
	if text, err := json.Marshal(rbac.Policy{Version: 1}); err != nil || string(text) != `{"version":1,"scopes":[],"resources":[],"roles":[]}` {
		t.Errorf("empty: %s, %v", text, err)
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	p := rbac.Policy{
		Resources: []rbac.Resource{{ID: "note", Actions: []string{"read", "read", "*"}}, {ID: "note", Actions: []string{"read"}}, {ID: "a b"}},
		Roles: []rbac.Role{
			{ID: "", Permissions: []rbac.Permission{{Resource: "gone", Actions: []string{"read"}}}},
			{ID: "r", Description: "reads \u202eeverything"},
			{ID: "r"},
		},
		Scopes: []rbac.Scope{
			{Name: "read notes"},
			{Name: `read"`},
			{Name: "openid"},
			{Name: "x"},
			{Name: "x", Description: strings.Repeat("x", 201)},
			{Name: "y", Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"delete"}}, {Resource: "note"}}},
			{Name: "long", Description: "Long", Detail: strings.Repeat("x", 201)},
			{Name: "turned", Description: "Turned", Detail: "sti\u202ede"},
			{Name: "alone", Detail: "Below nothing"},
		},
	}
	var got rbac.Problems
	if err := p.Validate(); !errors.As(err, &got) {
		t.Fatalf("Validate = %v", err)
	}
	want := rbac.Problems{
		"version must be 1 or more",
		`resources[0]: action "read" is there twice`,
		`resources[0]: action "*" is not 1 to 128 letters, digits and . _ : -`,
		`resources[1]: resource_id "note" is there twice`,
		`resources[2]: resource_id "a b" is not 1 to 128 letters, digits and . _ : -`,
		`resources[2]: actions is empty`,
		`roles[0]: role_id "" is not 1 to 128 letters, digits and . _ : -`,
		`roles[0].permissions[0]: resource_id "gone" is not among the resources`,
		`roles[1]: description has a character that is not printable`,
		`roles[2]: role_id "r" is there twice`,
		`scopes[0]: scope "read notes" is not 1 to 128 visible ASCII characters without quote and backslash`,
		`scopes[1]: scope "read\"" is not 1 to 128 visible ASCII characters without quote and backslash`,
		`scopes[2]: scope "openid" belongs to OpenID Connect`,
		`scopes[4]: scope "x" is there twice`,
		`scopes[4]: description is longer than 200 bytes`,
		`scopes[5].permissions[0]: resource "note" has no action "delete"`,
		`scopes[5].permissions[1]: actions is empty`,
		`scopes[6]: detail is longer than 200 bytes`,
		`scopes[7]: detail has a character that is not printable`,
		`scopes[8]: detail stands below a description, and there is none`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := notes().Validate(); err != nil {
		t.Errorf("a good policy: %v", err)
	}
	many := rbac.Policy{Version: 1, Scopes: make([]rbac.Scope, 501)}
	if err := many.Validate(); err == nil || !strings.Contains(err.Error(), "scopes has 501 entries") {
		t.Error("501 scopes are accepted")
	}
}

func TestParseRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":         "",
		"not JSON":        "scopes:",
		"misspelt member": `{"version":1,"scope":[]}`,
		"misspelt deeper": `{"version":1,"scopes":[{"scope":"x","readonly":true}]}`,
		"wrong type":      `{"version":"1"}`,
		"two documents":   `{"version":1}{"version":2}`,
		"invalid":         `{"version":0}`,
	} {
		if _, err := rbac.Parse([]byte(text)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestScope(t *testing.T) {
	tests := map[string]struct {
		want      rbac.Scope
		described bool
	}{
		"write:notes": {rbac.Scope{Name: "write:notes", Description: "Change your notes"}, true},
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

func FuzzParse(f *testing.F) {
	text, err := json.Marshal(notes())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := rbac.Parse(text)
		if err != nil {
			return
		}
		first, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again, err := rbac.Parse(first)
		if err != nil {
			t.Fatalf("%q, written again as %q, is refused: %v", text, first, err)
		}
		if second, _ := json.Marshal(again); string(second) != string(first) {
			t.Errorf("%q changes to %q", first, second)
		}
	})
}

package rbac_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/rbac"
)

// okrs is a policy as a person writes it.
const okrs = `# Objectives and key results.
resources:
  - resource_id: objective
    description: What a company wants to reach
    actions: [create, read, update, delete]
  - resource_id: key_result
    description: >
      How one sees
      that it is reached
    actions:
      - create
      - read
      - update
      - delete

roles:
  - role_id: member # everybody
    description: Employee
    permissions:
      - {resource_id: self, actions: ["*"]}
      - {resource_id: objective, actions: [read]}
      - {resource_id: key_result, actions: [read, update]}
  - role_id: manager
    description: 'Manager'
    permissions:
    - resource_id: member
      actions: [create, search]
    - resource_id: objective
      actions: [read]
    - resource_id: key_result
      actions: ["*"]
  - role_id: admin
    description: "CEO"
    permissions:
      - {resource_id: organization, actions: ["*"]}
      - {resource_id: member, actions: ["*"]}
      - {resource_id: objective, actions: ["*"]}
      - {resource_id: key_result, actions: ["*"]}

scopes:
  - scope: read:okrs
    description: Read objectives and key results
    detail: 'None that''s not yours'
    read_only: true
    permissions:
      - {resource_id: objective, actions: [read]}
      - {resource_id: key_result, actions: [read]}
  - {scope: "manage:objectives", permissions: [{resource_id: objective, actions: ["*"]}]}
  - {scope: "manage:krs", permissions: [{resource_id: key_result, actions: ["*"]}]}
  - scope: report_kr_status
    permissions:
      - resource_id: key_result
        actions: [
          read, # and
          update,
        ]
`

func parsed(t testing.TB, document string) rbac.Policy {
	t.Helper()
	p, err := rbac.Parse([]byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParseYAML(t *testing.T) {
	p := parsed(t, okrs)
	want := []rbac.Resource{
		{ID: "objective", Description: "What a company wants to reach", Actions: []string{"create", "read", "update", "delete"}},
		{ID: "key_result", Description: "How one sees that it is reached", Actions: []string{"create", "read", "update", "delete"}},
	}
	if diff := cmp.Diff(want, p.Resources); diff != "" {
		t.Error(diff)
	}
	manager := rbac.Role{ID: "manager", Description: "Manager", Permissions: []rbac.Permission{
		{Resource: "member", Actions: []string{"create", "search"}},
		{Resource: "objective", Actions: []string{"read"}},
		{Resource: "key_result", Actions: []string{"*"}},
	}}
	if diff := cmp.Diff(manager, p.Roles[1]); diff != "" {
		t.Error(diff)
	}
	read := rbac.Scope{
		Name: "read:okrs", Description: "Read objectives and key results", Detail: "None that's not yours", ReadOnly: true,
		Permissions: []rbac.Permission{{Resource: "objective", Actions: []string{"read"}}, {Resource: "key_result", Actions: []string{"read"}}},
	}
	if diff := cmp.Diff(read, p.Scopes[0]); diff != "" {
		t.Error(diff)
	}
	report := []rbac.Permission{{Resource: "key_result", Actions: []string{"read", "update"}}}
	if diff := cmp.Diff(report, p.Scopes[3].Permissions); diff != "" {
		t.Error(diff)
	}

	text, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, parsed(t, string(text))); diff != "" {
		t.Errorf("in JSON: %s", diff)
	}
	for name, document := range map[string]string{
		"line ends of Windows":      strings.ReplaceAll(okrs, "\n", "\r\n"),
		"a byte order mark":         "\ufeff" + okrs,
		"the marks of one document": "---\n" + okrs + "...\n",
	} {
		if diff := cmp.Diff(p, parsed(t, document)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	for _, document := range []string{"{}", "version: 0", "roles:\nscopes: null\nresources: []", "--- {}", "# x\n{roles: [], }"} {
		if diff := cmp.Diff(rbac.Policy{}, parsed(t, document)); diff != "" {
			t.Errorf("%q: %s", document, diff)
		}
	}
}

func TestParseNamesEveryProblemAtItsLine(t *testing.T) {
	long := strings.Repeat("x", 129)
	tests := map[string]struct {
		document string
		want     []string
	}{
		"resources": {
			`version: -1
resources:
  - resource_id: note
    actions: [read, read, "*", 5, ""]
  - resource_id: note
    actions: [read]
  - resource_id: a b
    description: 5
  - resource_id: self
    actions: [read]
  - actions: []
  -
  - ` + long + `
`, []string{
				`line 1: version is not a whole number, 0 or more`,
				`line 4: resource note: action "read" is there twice`,
				`line 4: resource note: an action "*" is not 1 to 128 letters, digits and . _ : -`,
				`line 4: resource note: an action is a number, not text; write it in quotes`,
				`line 4: resource note: an action is missing`,
				`line 5: resource note is there twice`,
				`line 7: resources[2]: resource_id "a b" is not 1 to 128 letters, digits and . _ : -`,
				`line 7: resources[2]: actions is empty`,
				`line 8: resources[2]: description is a number, not text; write it in quotes`,
				`line 9: resource self is built in and cannot be described anew; choose another resource_id`,
				`line 11: resources[4]: resource_id is missing`,
				`line 11: resources[4]: actions is empty`,
				`line 12: resources[5]: not an object with the members resource_id, description, actions`,
				`line 13: resources[6]: not an object with the members resource_id, description, actions`,
			},
		},
		"roles": {
			`resources:
  - {resource_id: note, actions: [read, write]}
roles:
  - role_id: a
    permisions: []
    permissions:
      - resource_id: gone
        actions: [read]
      - resource_id: note
        actions:
          - read
          - fly
          - read
      - {resource_id: note, actions: [read, "*"]}
      - {resource_id: note}
      - note
      - {actions: [read]}
  - role_id: a
    role_id: b
  - role_id: a
    description: "reads \u202eeverything"
    permissions: note
  - role_id: true
`, []string{
				`line 5: role a: there is no member "permisions"; known are role_id, description, permissions`,
				`line 7: role a: there is no resource "gone"`,
				`line 12: role a: resource "note" has no action "fly"`,
				`line 13: role a: action "read" is there twice`,
				`line 14: role a: "*" is every action already; write it alone, or the others without it`,
				`line 15: role a: actions is empty`,
				`line 16: role a: a permission: not an object with the members resource_id, actions`,
				`line 17: role a: resource_id is missing`,
				`line 19: role a: "role_id" is there twice`,
				`line 20: role a is there twice`,
				`line 21: role a: description has a character that is not printable`,
				`line 22: role a: permissions is not a list`,
				`line 23: roles[3]: role_id is true or false, not text; write it in quotes`,
			},
		},
		"scopes": {
			`scopes:
  - scope: read notes
  - scope: 'read"'
  - scope: openid
  - scope: full_access
  - scope: x
    read_only: yes
    description: ` + strings.Repeat("x", 201) + `
  - scope: x
    description: Does it
    detail: |
      one
      two
  - description: nameless
  - scope: alone
    detail: Below nothing
`, []string{
				`line 2: scopes[0]: "read notes" is not 1 to 128 visible ASCII characters without quote and backslash`,
				`line 3: scopes[1]: "read\"" is not 1 to 128 visible ASCII characters without quote and backslash`,
				`line 4: scope openid: the name is reserved; choose another`,
				`line 5: scope full_access: the name is reserved; choose another`,
				`line 7: scope x: read_only is neither true nor false`,
				`line 8: scope x: description is longer than 200 bytes`,
				`line 9: scope "x" is there twice`,
				`line 11: scope x: detail has a character that is not printable`,
				`line 14: scopes[6]: scope is missing`,
				`line 16: scope alone: detail stands below a description, and there is none`,
			},
		},
		"JSON": {
			`{"Roles": [],
"roles": [{"role_id": "a"},
  {"role_id": "a",
   "description": null,
   "permissions": [{"resource_id": "self",
     "actions": ["fly"]}]}],
"roles": []}`, []string{
				`line 1: there is no member "Roles"; known are version, resources, roles, scopes`,
				`line 7: "roles" is there twice`,
			},
		},
		"JSON, deeper": {
			`{
"roles": [{"role_id": "a"},
  {"role_id": "a",
   "description": null,
   "permissions": [{"resource_id": "self",
     "actions": ["fly"]}]}],
"version": 1.5,
"scopes": {}}`, []string{
				`line 3: role a is there twice`,
				`line 6: role a: resource "self" has no action "fly"`,
				`line 7: version is not a whole number, 0 or more`,
				`line 8: scopes is not a list`,
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			p, err := rbac.Parse([]byte(test.document))
			var problems *rbac.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("Parse = %v", err)
			}
			var got []string
			for _, problem := range problems.List {
				got = append(got, problem.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff(rbac.Policy{}, p); diff != "" {
				t.Errorf("with the error came %s", diff)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for document, want := range map[string]string{
		"":                               "line 1: the policy is empty",
		"# a comment":                    "line 1: the policy is empty",
		"null":                           "line 1: the policy is empty",
		"---\n...\n":                     "line 1: the policy is empty",
		"version:1":                      "line 1: not an object with the members version, resources, roles, scopes",
		"[]":                             "line 1: not an object with the members version, resources, roles, scopes",
		`{"version": 1,}`:                "line 1: this is not JSON: invalid character '}' looking for beginning of object key string",
		"{\n\"version\": 1\n}\n{}":       "line 4: this is not JSON: invalid character '{' after top-level value",
		"{":                              "line 1: this is not JSON: unexpected end of JSON input",
		"version: 1\n---\nversion: 2":    "line 2: there is another document behind the policy",
		"version: 1\n...\nversion: 2":    `line 3: "version" is not expected here`,
		"roles:\n\t- x":                  "line 2: a tab is no indentation in YAML",
		"roles: [\n{role_id: x}":         "line 1: the bracket that is opened here is not closed",
		"roles: [x}":                     "line 1: the bracket that is opened here is not closed",
		"roles: [,]":                     `line 1: "," is not expected here`,
		"roles: [a: b]":                  `line 1: ":" is not expected here`,
		"roles: []\n scopes: []":         "line 2: ", // indented further than its fellow
		"roles:\n  - role_id: x\n - y":   `line 3: "-" is not expected here`,
		"roles:\n- []\n  - []":           `line 3: "-" is not expected here`,
		"\"version\"\n: 1":               `line 2: ":" is not expected here`, // what is a key shows in its line
		"roles: - x":                     `line 1: "-" is not expected here`,
		"version: \"1\" 2":               `line 1: "2" is not expected here`,
		"roles:\n- description: a: b":    `line 2: ":" is not expected here`,
		"version: 'x":                    "line 1: this is not YAML: ",
		"roles: [*]":                     "line 1: YAML takes * for an alias",
		"a: &x []\nroles: *x":            "line 1: a policy has none of YAML's anchors",
		"<<: {}\n":                       "line 1: a policy has none of YAML's anchors",
		"!!binary x: y":                  "line 1: a policy has none of YAML's anchors",
		"%YAML 1.2\n---\nversion: 1":     "line 1: a policy has none of YAML's anchors",
		"? version\n: 1":                 "line 1: a policy has none of YAML's anchors",
		strings.Repeat("[", 1000):        "line 1: lists and objects are nested too deeply",
		strings.Repeat("- ", 1000):       "line 1: lists and objects are nested too deeply",
		"x:\n" + strings.Repeat("- ", 9): "line 1: there is no member \"x\"",
		`{"x":` + strings.Repeat("[", 1000) + strings.Repeat("]", 1000) + "}": "line 1: lists and objects are nested too deeply",
		"version: \xff":                       "the policy is not written in UTF-8",
		strings.Repeat(" ", 2<<20) + "# long": "the policy is longer than 2097152 bytes",
	} {
		shown := document[:min(len(document), 40)]
		if p, err := rbac.Parse([]byte(document)); err == nil || !strings.HasPrefix(err.Error(), "rbac: "+want) {
			t.Errorf("%q: %v, %v, want %s", shown, p, err, want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Run("entries of a list", func(t *testing.T) {
		p := rbac.Policy{Scopes: make([]rbac.Scope, 2000)}
		for i := range p.Scopes {
			p.Scopes[i].Name = fmt.Sprint("scope", i)
		}
		if err := p.Validate(); err != nil {
			t.Error(err)
		}
		p.Scopes = append(p.Scopes, rbac.Scope{Name: "one:more"})
		if err := p.Validate(); err == nil || err.Error() != "rbac: scopes has 2001 entries; at most 2000 are allowed" {
			t.Errorf("2001 scopes: %v", err)
		}
	})
	t.Run("the whole", func(t *testing.T) {
		p := rbac.Policy{Resources: []rbac.Resource{{ID: "note"}}}
		for i := range 500 {
			p.Resources[0].Actions = append(p.Resources[0].Actions, fmt.Sprintf("an-action-of-the-notes-%d", i))
		}
		for i := range 90 {
			p.Roles = append(p.Roles, rbac.Role{ID: fmt.Sprint("role", i), Permissions: []rbac.Permission{{Resource: "note", Actions: p.Resources[0].Actions}}})
		}
		want := "rbac: the policy is longer than 1048576 bytes as JSON"
		if err := p.Validate(); err == nil || err.Error() != want {
			t.Errorf("too long: %v", err)
		}
		if _, err := rbac.Parse(rbac.Format(p)); err == nil || err.Error() != want {
			t.Errorf("too long, in YAML: %v", err)
		}
		if err := (rbac.Policy{Resources: p.Resources}).CheckRoles(p.Roles); err == nil || err.Error() != "rbac: the roles are longer than 1048576 bytes as JSON" {
			t.Errorf("too long, of an organization: %v", err)
		}
	})
	t.Run("problems in one line", func(t *testing.T) {
		_, err := rbac.Parse([]byte(strings.Repeat("x: 1\n", 4)))
		unknown := `: there is no member "x"; known are version, resources, roles, scopes`
		twice := `: "x" is there twice`
		want := "rbac: line 1" + unknown + "; line 2" + twice + "; line 2" + unknown + "; line 3" + twice + "; line 3" + unknown + "; and 2 more problems"
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("problems", func(t *testing.T) {
		_, err := rbac.Parse([]byte(strings.Repeat("x: 1\n", 5000)))
		var problems *rbac.Problems
		if !errors.As(err, &problems) || len(problems.List) != 501 || problems.List[500].String() != "there are more problems than these 500" {
			t.Errorf("%d problems", len(problems.List))
		}
	})
}

func TestValidate(t *testing.T) {
	if err := notes().Validate(); err != nil {
		t.Error(err)
	}
	p := notes()
	p.Version = -1
	p.Roles[0].Permissions[0].Actions = []string{"fly"}
	if err := p.Validate(); err == nil || err.Error() != `rbac: version is not a whole number, 0 or more; role editor: resource "note" has no action "fly"` {
		t.Errorf("Validate = %v", err)
	}
}

func TestCheckRoles(t *testing.T) {
	role := func(id, resource, action string) rbac.Role {
		return rbac.Role{ID: id, Permissions: []rbac.Permission{{Resource: resource, Actions: []string{action}}}}
	}
	if err := notes().CheckRoles([]rbac.Role{role("reader", "note", "read"), role("inviter", "member", "create")}); err != nil {
		t.Errorf("good roles: %v", err)
	}
	err := notes().CheckRoles([]rbac.Role{
		role("editor", "note", "read"), role("admin", "note", "*"), role("x", "note", "fly"), role("x", "gone", "read"), role("", "note", "read"),
	})
	want := `rbac: role editor: there is a role of that id already; choose another role_id; ` +
		`role admin: there is a role of that id already; choose another role_id; ` +
		`role x: resource "note" has no action "fly"; ` +
		`role x: there is no resource "gone"; ` +
		`role x: there is a role of that id already; choose another role_id; and 1 more problems`
	if err == nil {
		t.Fatal("accepted")
	}
	if diff := cmp.Diff(want, err.Error()); diff != "" {
		t.Error(diff)
	}
}

func TestFormat(t *testing.T) {
	p := notes()
	p.Version = 7
	p.Roles = append(p.Roles, rbac.Role{ID: "no", Description: `On: "all" #1, and \ too`}, rbac.Role{ID: "-"})
	p.Resources[0].Actions = append(p.Resources[0].Actions, "true", "a:b", "1.5")
	want := `# What may be done (resources), by whom (roles), and what connected apps may ask
# for (scopes). "*" is every action of a resource.
version: 7

resources:
  - resource_id: note
    description: A note
    actions: [read, write, "true", a:b, "1.5"]

roles:
  - role_id: editor
    permissions:
      - {resource_id: note, actions: ["*"]}
  - role_id: "no"
    description: "On: \"all\" #1, and \\ too"
  - role_id: "-"

scopes:
  - scope: read:notes
    description: Read your notes
    read_only: true
    permissions:
      - {resource_id: note, actions: [read]}
  - scope: write:notes
    description: Change your notes
    detail: Yours alone
`
	if diff := cmp.Diff(want, string(rbac.Format(p))); diff != "" {
		t.Error(diff)
	}
	for _, p := range []rbac.Policy{p, {}, parsed(t, okrs)} {
		if diff := cmp.Diff(p, parsed(t, string(rbac.Format(p)))); diff != "" {
			t.Error(diff)
		}
	}
}

// FuzzParse proves that a document that is accepted means the same when it is
// written again, in either language, and that YAML is read as the library's own
// reader reads it.
func FuzzParse(f *testing.F) {
	text, err := json.Marshal(notes())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(okrs))
	f.Add([]byte("scopes:\n- scope: x\n  description: |\n    a\n\n- {scope: y, description: z, detail: \"\\u00e9\", read_only: True,}\n"))
	f.Add([]byte("roles:\n  -\n    role_id: x\n    permissions:\n    - {resource_id: self, actions: ['*']}\n...\n"))
	f.Fuzz(func(t *testing.T, document []byte) {
		p, err := rbac.Parse(document)
		var problems *rbac.Problems
		if err != nil {
			if !errors.As(err, &problems) || len(problems.List) == 0 {
				t.Fatalf("%q: %v", document, err)
			}
			return
		}
		if diff := cmp.Diff(p, parsed(t, string(rbac.Format(p)))); diff != "" {
			t.Errorf("%q, written again as\n%s: %s", document, rbac.Format(p), diff)
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, parsed(t, string(text))); diff != "" {
			t.Errorf("%q, written again as %s: %s", document, text, diff)
		}
		if err := p.Validate(); err != nil {
			t.Errorf("%q: %v", document, err)
		}
		if changes := rbac.Diff(p, p); len(changes) > 0 {
			t.Errorf("%q differs from itself: %v", document, changes)
		}
		rbac.Compile(p)

		var plain any
		if err := yaml.Unmarshal(bytes.TrimPrefix(document, []byte("\ufeff")), &plain); err != nil || plain == nil {
			return // it allows less, such as a bracket that is closed left of its line
		}
		text, err = json.Marshal(trimmed(plain))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(p, parsed(t, string(text))); diff != "" {
			t.Errorf("%q means %s to the library: %s", document, text, diff)
		}
	})
}

// trimmed takes the line ends from the ends of texts, as Parse does for blocks.
func trimmed(v any) any {
	switch v := v.(type) {
	case string:
		return strings.TrimRight(v, "\n")
	case []any:
		for i := range v {
			v[i] = trimmed(v[i])
		}
	case map[string]any:
		for key := range v {
			v[key] = trimmed(v[key])
		}
	}
	return v
}

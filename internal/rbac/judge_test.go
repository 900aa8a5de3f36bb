package rbac_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/rbac"
)

// grantable lists the scopes of p that somebody with these rights can grant.
func grantable(p rbac.Policy, r rbac.Rights) (names []string) {
	for _, s := range p.Scopes {
		if ok, _ := r.Grantable(s.Name); ok {
			names = append(names, s.Name)
		}
	}
	return names
}

func TestGrantable(t *testing.T) {
	p := parsed(t, okrs)
	judge := rbac.Compile(p)
	for name, test := range map[string]struct {
		roles, want []string
	}{
		"employee":              {nil, []string{"read:okrs", "report_kr_status"}},
		"manager":               {[]string{"manager"}, []string{"read:okrs", "manage:krs", "report_kr_status"}},
		"CEO":                   {[]string{"admin"}, []string{"read:okrs", "manage:objectives", "manage:krs", "report_kr_status"}},
		"a role that nobody is": {[]string{"owner", "Manager", ""}, []string{"read:okrs", "report_kr_status"}},
	} {
		if diff := cmp.Diff(test.want, grantable(p, judge.Rights(test.roles...))); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}

	ok, missing := judge.Rights().Grantable("manage:krs")
	if diff := cmp.Diff([]rbac.Permission{{Resource: "key_result", Actions: []string{"create", "delete"}}}, missing); ok || diff != "" {
		t.Errorf("ok %v, %s", ok, diff)
	}
	for _, scope := range []string{"openid", "never:heard"} {
		if ok, _ := judge.Rights().Grantable(scope); !ok {
			t.Errorf("%s, which permits nothing, is not grantable", scope)
		}
	}

	t.Run("several roles cover a scope together", func(t *testing.T) {
		p := parsed(t, `
resources:
  - {resource_id: note, actions: [read, write]}
  - {resource_id: list, actions: [read]}
roles:
  - {role_id: reader, permissions: [{resource_id: note, actions: [read]}]}
  - {role_id: writer, permissions: [{resource_id: note, actions: [write]}]}
  - {role_id: lister, permissions: [{resource_id: list, actions: ["*"]}]}
scopes:
  - {scope: notes, permissions: [{resource_id: note, actions: ["*"]}, {resource_id: list, actions: [read]}]}
`)
		judge := rbac.Compile(p)
		if ok, missing := judge.Rights("reader", "writer", "lister").Grantable("notes"); !ok {
			t.Errorf("missing %v", missing)
		}
		_, missing := judge.Rights("reader").Grantable("notes")
		want := []rbac.Permission{{Resource: "note", Actions: []string{"write"}}, {Resource: "list", Actions: []string{"read"}}}
		if diff := cmp.Diff(want, missing); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("a scope that nobody checked is granted by nobody", func(t *testing.T) {
		judge := rbac.Compile(rbac.Policy{
			Roles:  []rbac.Role{{ID: "r", Permissions: []rbac.Permission{{Resource: "gone", Actions: []string{"read", "*"}}}}},
			Scopes: []rbac.Scope{{Name: "s", Permissions: []rbac.Permission{{Resource: "gone", Actions: []string{"read"}}}}},
		})
		if ok, _ := judge.Rights("r", "admin").Grantable("s"); ok {
			t.Error("granted")
		}
		if judge.Rights("r").Allows("gone", "read") {
			t.Error("permitted")
		}
	})
}

func TestAllows(t *testing.T) {
	judge := rbac.Compile(parsed(t, okrs))
	for name, test := range map[string]struct {
		rights rbac.Rights
		yes    []string // resource, action
		no     []string
	}{
		"nobody": {rbac.Rights{}, nil, []string{"self", "delete", "objective", "read"}},
		"employee": {
			judge.Rights(),
			[]string{"self", "delete", "objective", "read", "key_result", "update"},
			[]string{"objective", "create", "objective", "*", "objective", "", "", "", "gone", "read", "?", "?", "member", "search", "objectiv", "read"},
		},
		"manager": {
			judge.Rights("manager"),
			[]string{"key_result", "create", "key_result", "*", "member", "create", "self", "delete"},
			[]string{"objective", "create", "member", "delete", "organization", "delete"},
		},
		"admin and manager": {
			judge.Rights("manager", "admin", "admin"),
			[]string{"objective", "delete", "organization", "update.info.name", "key_result", "an action of tomorrow"},
			[]string{"scim", "create", "*", "read", "*", "*"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			for pair := range slices.Chunk(test.yes, 2) {
				if !test.rights.Allows(pair[0], pair[1]) {
					t.Errorf("%v is not permitted", pair)
				}
			}
			for pair := range slices.Chunk(test.no, 2) {
				if test.rights.Allows(pair[0], pair[1]) {
					t.Errorf("%v is permitted", pair)
				}
			}
		})
	}
	if ok, missing := (rbac.Rights{}).Grantable("openid"); ok || missing != nil {
		t.Error("nobody grants")
	}
	if p := (rbac.Rights{}).Permissions(); p != nil {
		t.Errorf("nobody may %v", p)
	}
}

func TestPermissions(t *testing.T) {
	rights := rbac.Compile(parsed(t, okrs)).Rights("manager")
	var got []rbac.Permission
	for _, p := range rights.Permissions() {
		if p.Resource != "self" {
			got = append(got, p)
		}
	}
	want := []rbac.Permission{
		{Resource: "member", Actions: []string{"create", "search"}},
		{Resource: "objective", Actions: []string{"read"}},
		{Resource: "key_result", Actions: []string{"create", "read", "update", "delete"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestBeyond(t *testing.T) {
	judge := rbac.Compile(parsed(t, okrs))
	permit := func(resource string, actions ...string) []rbac.Permission {
		return []rbac.Permission{{Resource: resource, Actions: actions}}
	}
	for name, test := range map[string]struct {
		given rbac.Rights
		want  []rbac.Permission
	}{
		"a role of one's own":       {judge.Rights("manager"), nil},
		"the role of everybody":     {judge.Rights(), nil},
		"less than a role":          {judge.Permit(permit("key_result", "create")), nil},
		"nothing":                   {rbac.Rights{}, nil},
		"an action one has not":     {judge.Permit(permit("objective", "read", "create")), permit("objective", "create")},
		"every action, with some":   {judge.Permit(permit("objective", "*")), permit("objective", "*")},
		"what the policy knows not": {judge.Permit(permit("gone", "read")), permit("?", "?")},
		"a role with more": {judge.Rights("admin"), slices.Concat(
			permit("organization", "*"), permit("member", "*"), permit("objective", "*"))},
	} {
		if diff := cmp.Diff(test.want, judge.Rights("manager").Beyond(test.given)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
	t.Run("all actions by name are not every action", func(t *testing.T) {
		all := judge.Permit(permit("key_result", "create", "read", "update", "delete"))
		if diff := cmp.Diff(permit("key_result", "*"), all.Beyond(judge.Permit(permit("key_result", "*")))); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("by an older policy", func(t *testing.T) {
		other := rbac.Compile(notes())
		if diff := cmp.Diff(permit("note", "*"), judge.Rights("admin").Beyond(other.Rights("editor"))); diff != "" {
			t.Error(diff)
		}
	})
}

func TestWithOrganization(t *testing.T) {
	p := parsed(t, okrs)
	judge := rbac.Compile(p)
	role := func(id, resource string, actions ...string) rbac.Role {
		return rbac.Role{ID: id, Permissions: []rbac.Permission{{Resource: resource, Actions: actions}}}
	}
	one := judge.WithOrganization([]rbac.Role{role("planner", "objective", "*")})
	two := judge.WithOrganization([]rbac.Role{role("planner", "objective", "create"), role("manager", "objective", "*"), role("old", "gone", "*")})

	if !one.Rights("planner").Allows("objective", "delete") || !two.Rights("planner").Allows("objective", "create") {
		t.Error("a role of the organization permits nothing")
	}
	if two.Rights("planner").Allows("objective", "delete") || judge.Rights("planner").Allows("objective", "create") {
		t.Error("a role of one organization permits in another")
	}
	if two.Rights("manager").Allows("objective", "create") {
		t.Error("an organization gave the project's role more")
	}
	if diff := cmp.Diff(judge.Rights().Permissions(), two.Rights("old").Permissions()); diff != "" {
		t.Errorf("what is gone from the policy permits %s", diff)
	}
	if diff := cmp.Diff([]string{"read:okrs", "manage:objectives", "report_kr_status"}, grantable(p, one.Rights("planner"))); diff != "" {
		t.Error(diff)
	}
}

// random makes a policy of few names, so that its parts meet.
func random(r *rand.Rand) rbac.Policy {
	var p rbac.Policy
	for i := range 1 + r.IntN(4) {
		resource := rbac.Resource{ID: fmt.Sprint("r", i)}
		for a := range 1 + r.IntN(4) {
			resource.Actions = append(resource.Actions, fmt.Sprint("a", a))
		}
		p.Resources = append(p.Resources, resource)
	}
	for _, id := range []string{"member", "admin", "x", "y", "z"} {
		if r.IntN(3) > 0 {
			p.Roles = append(p.Roles, rbac.Role{ID: id, Permissions: permissions(r, p)})
		}
	}
	for i := range r.IntN(5) {
		p.Scopes = append(p.Scopes, rbac.Scope{Name: fmt.Sprint("s", i), Permissions: permissions(r, p)})
	}
	return p
}

func permissions(r *rand.Rand, p rbac.Policy) (permissions []rbac.Permission) {
	for range r.IntN(4) {
		resource := p.Resources[r.IntN(len(p.Resources))]
		actions := []string{rbac.AllActions}
		if r.IntN(4) > 0 {
			actions = nil
			for _, i := range r.Perm(len(resource.Actions))[:1+r.IntN(len(resource.Actions))] {
				actions = append(actions, resource.Actions[i])
			}
		}
		permissions = append(permissions, rbac.Permission{Resource: resource.ID, Actions: actions})
	}
	return permissions
}

func held(r *rand.Rand) (ids []string) {
	for _, id := range []string{"member", "admin", "x", "y", "z", "own", "nobody"} {
		if r.IntN(3) == 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

// allows is Allows as its rule is written.
func allows(p rbac.Policy, ids []string, resource, action string) bool {
	for _, role := range p.WithBuiltIns().Roles {
		if role.ID != "member" && !slices.Contains(ids, role.ID) {
			continue
		}
		for _, permission := range role.Permissions {
			if permission.Resource == resource && (slices.Contains(permission.Actions, action) || slices.Contains(permission.Actions, "*")) {
				return true
			}
		}
	}
	return false
}

// covers is Grantable as its rule is written.
func covers(p rbac.Policy, ids []string, scope rbac.Scope) bool {
	for _, permission := range scope.Permissions {
		needed := permission.Actions
		if needed[0] == "*" {
			i := slices.IndexFunc(p.Resources, func(r rbac.Resource) bool { return r.ID == permission.Resource })
			needed = p.Resources[i].Actions
		}
		for _, action := range needed {
			if !allows(p, ids, permission.Resource, action) {
				return false
			}
		}
	}
	return true
}

// questions asks everything there is to ask of rights by a policy.
func questions(p rbac.Policy, r rbac.Rights) map[string]bool {
	answers := map[string]bool{}
	for _, resource := range append(p.WithBuiltIns().Resources, rbac.Resource{ID: "gone"}) {
		for _, action := range append([]string{"*", "unlisted", "a0", "a3"}, resource.Actions...) {
			answers[resource.ID+" "+action] = r.Allows(resource.ID, action)
		}
	}
	for _, s := range p.Scopes {
		answers["scope "+s.Name], _ = r.Grantable(s.Name)
	}
	return answers
}

// narrower fails the test if one of after's answers is yes where before's was no.
func narrower(t *testing.T, what string, before, after map[string]bool) {
	t.Helper()
	for question, yes := range after {
		if yes && !before[question] {
			t.Errorf("%s: %s came to be permitted", what, question)
		}
	}
}

// TestRights holds a judge against the rules as they are written, and against
// what must be so whatever the rules: more permissions never permit less, fewer
// never permit more, and no organization touches another.
func TestRights(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		p := random(r)
		if err := p.Validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		ids := held(r)
		judge := rbac.Compile(p)
		rights := judge.Rights(ids...)
		answers := questions(p, rights)

		for _, resource := range append(p.WithBuiltIns().Resources, rbac.Resource{ID: "gone"}) {
			for _, action := range append([]string{"*", "unlisted", "a0", "a3"}, resource.Actions...) {
				if got, want := answers[resource.ID+" "+action], allows(p, ids, resource.ID, action); got != want {
					t.Errorf("Allows(%s, %s) = %v", resource.ID, action, got)
				}
			}
		}
		for _, s := range p.Scopes {
			ok, missing := rights.Grantable(s.Name)
			if ok != covers(p, ids, s) || ok != (len(missing) == 0) {
				t.Errorf("Grantable(%s) = %v, %v", s.Name, ok, missing)
			}
			for _, m := range missing {
				for _, action := range m.Actions {
					if rights.Allows(m.Resource, action) {
						t.Errorf("%s %s is there and missing", m.Resource, action)
					}
				}
			}
		}
		for _, given := range rights.Permissions() {
			for _, action := range given.Actions {
				if !rights.Allows(given.Resource, action) || action == "*" {
					t.Errorf("Permissions has %s %s", given.Resource, action)
				}
			}
		}

		more := p
		more.Roles = slices.Clone(p.Roles)
		if n := len(more.Roles); n > 0 {
			i := r.IntN(n)
			more.Roles[i].Permissions = slices.Concat(more.Roles[i].Permissions, permissions(r, p))
			wider := questions(more, rbac.Compile(more).Rights(ids...))
			narrower(t, "a permission taken from a role", wider, answers)
		}
		if n := len(ids); n > 0 {
			i := r.IntN(n)
			fewer := judge.Rights(slices.Delete(slices.Clone(ids), i, i+1)...)
			narrower(t, "a role taken from a member", answers, questions(p, fewer))
			if beyond := rights.Beyond(fewer); len(beyond) > 0 {
				t.Errorf("fewer roles are %v beyond more", beyond)
			}
			if beyond := fewer.Beyond(rights); (len(beyond) == 0) != cmp.Equal(answers, questions(p, fewer)) {
				t.Errorf("more roles are %v beyond fewer", beyond)
			}
		}

		ours := judge.WithOrganization([]rbac.Role{{ID: "own", Permissions: permissions(r, p)}, {ID: "admin", Permissions: permissions(r, p)}})
		theirs := judge.WithOrganization([]rbac.Role{{ID: "own", Permissions: permissions(r, p)}})
		mine := questions(p, ours.Rights(ids...))
		narrower(t, "the roles of an organization", mine, answers)
		if !slices.Contains(ids, "own") && !cmp.Equal(mine, answers) {
			t.Error("a role that the member does not hold changed the answers")
		}
		theirs.Rights(ids...)
		if !cmp.Equal(mine, questions(p, ours.Rights(ids...))) || !cmp.Equal(answers, questions(p, judge.Rights(ids...))) {
			t.Error("the roles of one organization changed another's answers")
		}

		again, err := rbac.Parse(rbac.Format(p))
		if err != nil || !cmp.Equal(p, again) || len(rbac.Diff(p, again)) > 0 {
			t.Errorf("written again: %v, %v", err, rbac.Diff(p, again))
		}
		if changes := rbac.Diff(p, more); len(changes) == 0 && !cmp.Equal(questions(p, rbac.Compile(more).Rights("x", "y", "z", "admin")), questions(p, judge.Rights("x", "y", "z", "admin"))) {
			t.Error("a difference that Diff does not see")
		}
		if t.Failed() {
			t.Fatalf("seed %d, roles %v\n%s", seed, ids, rbac.Format(p))
		}
	}
}

func TestJudgeIsForManyGoroutines(t *testing.T) {
	p := parsed(t, okrs)
	judge := rbac.Compile(p)
	manager := judge.Rights("manager")
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			own := judge.WithOrganization([]rbac.Role{{ID: "own", Permissions: []rbac.Permission{{Resource: "objective", Actions: []string{"create"}}}}})
			for range 100 {
				if !own.Rights("own").Allows("objective", "create") || manager.Allows("objective", "create") || len(grantable(p, manager)) != 3 {
					t.Errorf("goroutine %d was answered wrongly", i)
					return
				}
			}
		})
	}
	wg.Wait()
}

// hot is 1,000 permissions of 100 roles, all held, and questions about them.
func hot(t testing.TB) (rights rbac.Rights, resource, action string) {
	p := large(100)
	judge := rbac.Compile(p)
	var ids []string
	for _, r := range p.Roles {
		ids = append(ids, r.ID)
	}
	rights = judge.Rights(ids...)
	if !rights.Allows("resource7", "archive") || rights.Allows("resource7", "unlisted") == rights.Allows("gone", "read") {
		t.Fatal("the answers are wrong")
	}
	return rights, "resource7", "archive"
}

func TestDecisionsDoNotAllocate(t *testing.T) {
	rights, resource, action := hot(t)
	if n := testing.AllocsPerRun(1000, func() {
		rights.Allows(resource, action)
		rights.Allows(resource, "unlisted")
		rights.Allows("gone", action)
		rights.Grantable("scope3")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAllows(b *testing.B) {
	rights, resource, action := hot(b)
	b.ReportAllocs()
	for b.Loop() {
		rights.Allows(resource, action)
	}
}

func BenchmarkGrantable(b *testing.B) {
	rights, _, _ := hot(b)
	b.ReportAllocs()
	for b.Loop() {
		rights.Grantable("scope3")
	}
}

func BenchmarkRights(b *testing.B) {
	judge := rbac.Compile(large(100))
	b.ReportAllocs()
	for b.Loop() {
		judge.Rights("role1", "role50", "role99")
	}
}

func BenchmarkCompile(b *testing.B) {
	p := large(1000)
	for b.Loop() {
		rbac.Compile(p)
	}
}

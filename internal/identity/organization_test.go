package identity_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/servertest"
)

func notesPolicy() rbac.Policy {
	return rbac.Policy{
		Resources: []rbac.Resource{{ID: "note", Actions: []string{"read", "write", "share"}}},
		Roles: []rbac.Role{
			{ID: rbac.RoleMember, Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"read"}}}},
			{ID: "team_lead", Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"write"}}}},
		},
		Scopes: []rbac.Scope{
			{Name: "read:notes", Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"read"}}}},
			{Name: "write:notes", Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"read", "write"}}}},
			{Name: "all:notes", Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"*"}}}},
		},
	}
}

// office is a B2B project with one organization.
type office struct {
	*servertest.Server
	fennel identity.Organization
}

func eachOffice(t *testing.T, test func(t *testing.T, o *office)) {
	t.Helper()
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		c.Vertical = project.B2B
		o := &office{Server: servertest.New(t, c)}
		if _, err := o.People.ApplyPolicy(t.Context(), o.Project.ID, notesPolicy(), o.by(audit.PolicyApplied)); err != nil {
			t.Fatal(err)
		}
		o.Follow(t)
		var err error
		o.fennel, err = o.People.CreateOrganization(t.Context(), o.Project, identity.Organization{Name: "Fennel Labs", Slug: "fennel", Settings: identity.DefaultOrganization()}, o.by(""))
		if err != nil {
			t.Fatal(err)
		}
		test(t, o)
	})
}

func (o *office) by(kind audit.Kind) audit.Event {
	return audit.Event{ProjectID: o.Project.ID, At: o.Clock.Now(), Kind: kind, Actor: "operator"}
}

func (o *office) add(t *testing.T, email string, status identity.MemberStatus, roles ...string) identity.Member {
	t.Helper()
	m, err := o.People.AddMember(t.Context(), o.Project, o.fennel, identity.Member{Email: email, Status: status, Roles: roles}, o.by(""))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCheckOrganization(t *testing.T) {
	policy := notesPolicy()
	rules := identity.Rules{Policy: policy.WithBuiltIns(), Judge: rbac.Compile(policy)}
	sound := identity.Organization{Name: "Fennel Labs", Slug: "fennel-labs.1_~", Settings: identity.DefaultOrganization()}
	sound.Settings.AllowedDomains, sound.Settings.Provisioning = []string{"fennel.example.test", "xn--fsq.example.test"}, true
	sound.Settings.Methods, sound.Settings.AllowedMethods = identity.Listed, identity.SignInMethods()
	sound.Settings.ImplicitRoles = []identity.ImplicitRole{{Domain: "fennel.example.test", Role: "team_lead"}, {Domain: "fennel.example.test", Role: "guest"}}
	sound.Roles = []rbac.Role{{ID: "guest", Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"read"}}}}}
	if problems := sound.Check(rules); problems != nil {
		t.Fatalf("a sound organization: %q", problems)
	}
	const (
		badName = "The name must have 1 to 128 characters that can be read."
		badSlug = "The slug must have 2 to 128 of a-z, 0-9, '-', '_', '.' and '~', such as 'fennel-labs'."
	)
	notDomain := func(d string) string { return "'" + d + "' is not a domain in lower case, such as 'example.com'." }
	many := func(n int, text string) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf(text, i))
		}
		return list
	}
	for name, test := range map[string]struct {
		change func(o *identity.Organization)
		want   []string
	}{
		"no name":                {func(o *identity.Organization) { o.Name = "" }, []string{badName}},
		"a name of blanks":       {func(o *identity.Organization) { o.Name = "  " }, []string{badName}},
		"a name that turns text": {func(o *identity.Organization) { o.Name = "Fennel\u202eLabs" }, []string{badName}},
		"a name of two lines":    {func(o *identity.Organization) { o.Name = "Fennel\nLabs" }, []string{badName}},
		"a long name":            {func(o *identity.Organization) { o.Name = strings.Repeat("é", 129) }, []string{badName}},
		"no slug":                {func(o *identity.Organization) { o.Slug = "" }, []string{badSlug}},
		"a short slug":           {func(o *identity.Organization) { o.Slug = "f" }, []string{badSlug}},
		"a long slug":            {func(o *identity.Organization) { o.Slug = strings.Repeat("f", 129) }, []string{badSlug}},
		"a slug with capitals":   {func(o *identity.Organization) { o.Slug = "Fennel" }, []string{badSlug}},
		"a long external id":     {func(o *identity.Organization) { o.ExternalID = strings.Repeat("é", 65) }, []string{"The external id must have at most 128 bytes."}},
		"a slug with a slash":    {func(o *identity.Organization) { o.Slug = "a/b" }, []string{badSlug}},
		"too many domains": {func(o *identity.Organization) {
			o.Settings.AllowedDomains = many(51, "d%d.example.test")
		}, []string{"At most 50 domains can be allowed."}},
		"what is no domain": {func(o *identity.Organization) {
			o.Settings.AllowedDomains = []string{"localhost", "Example.test", "a..test", "-a.test", "a_b.test", "a@b.test", "*.example.test", ""}
		}, []string{notDomain("localhost"), notDomain("Example.test"), notDomain("a..test"), notDomain("-a.test"), notDomain("a_b.test"), notDomain("a@b.test"), notDomain("*.example.test"), notDomain("")}},
		"everybody's domain": {
			func(o *identity.Organization) { o.Settings.AllowedDomains = []string{"gmail.com"} },
			[]string{"'gmail.com' belongs to everybody; only a domain of the organization's own can be allowed."},
		},
		"joining by no domain": {func(o *identity.Organization) { o.Settings.AllowedDomains = nil }, []string{"Joining by e-mail domain needs an allowed domain."}},
		"extents that are none": {func(o *identity.Organization) {
			o.Settings.Invitations, o.Settings.FirstParty.Allowed, o.Settings.ThirdParty.Allowed = "", "some", "ALL"
		}, []string{
			"email_invites is ''; choose all, listed or none.", "first_party_connected_apps is 'some'; choose all, listed or none.",
			"third_party_connected_apps is 'ALL'; choose all, listed or none.",
		}},
		"no way to sign in": {func(o *identity.Organization) { o.Settings.Methods = identity.None }, []string{"auth_methods is 'none'; choose all, listed."}},
		"none of the ways listed": {
			func(o *identity.Organization) { o.Settings.AllowedMethods = []string{} },
			[]string{"At least one way to sign in must be allowed."},
		},
		"a way nobody knows": {
			func(o *identity.Organization) { o.Settings.AllowedMethods = []string{"pigeon"} },
			[]string{"'pigeon' is not a way to sign in; choose from email_code, sso."},
		},
		"too many apps": {
			func(o *identity.Organization) { o.Settings.ThirdParty.Listed = many(501, "connected-app-test-%d") },
			[]string{"At most 500 connected apps can be listed."},
		},
		"too many apps of one's own": {
			func(o *identity.Organization) { o.Settings.FirstParty.Listed = many(501, "connected-app-test-%d") },
			[]string{"At most 500 connected apps can be listed."},
		},
		"a role for everybody's domain": {
			func(o *identity.Organization) { o.Settings.ImplicitRoles[0].Domain = "gmail.com" },
			[]string{"'gmail.com' brings no role: it is not a domain of the organization's own."},
		},
		"a role for no domain": {
			func(o *identity.Organization) { o.Settings.ImplicitRoles[0].Domain = "fennel" },
			[]string{"'fennel' brings no role: it is not a domain of the organization's own."},
		},
		"a domain with no role": {func(o *identity.Organization) { o.Settings.ImplicitRoles[0].Role = "chief" }, []string{"There is no role 'chief'."}},
		"everything at once":    {func(o *identity.Organization) { o.Name, o.Slug = "", "" }, []string{badName, badSlug}},
	} {
		t.Run(name, func(t *testing.T) {
			o := sound
			o.Settings.ImplicitRoles = slices.Clone(sound.Settings.ImplicitRoles)
			test.change(&o)
			if diff := cmp.Diff(sorted(test.want), o.Check(rules)); diff != "" {
				t.Error(diff)
			}
		})
	}
	for name, role := range map[string]rbac.Role{
		"a role that the project has":         {ID: "team_lead", Permissions: []rbac.Permission{}},
		"a built-in role":                     {ID: rbac.RoleAdmin, Permissions: []rbac.Permission{}},
		"a resource that the project has not": {ID: "guest2", Permissions: []rbac.Permission{{Resource: "invoice", Actions: []string{"read"}}}},
		"an action that the project has not":  {ID: "guest2", Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"burn"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			o := sound
			o.Roles = append(slices.Clone(sound.Roles), role)
			if problems := o.Check(rules); len(problems) != 1 || !strings.Contains(problems[0], "role") {
				t.Errorf("got %q", problems)
			}
		})
	}
}

func sorted(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return list
}

func TestSlugs(t *testing.T) {
	for name, want := range map[string]string{
		"Fennel Labs": "fennel-labs", "  Ada’s  Works! ": "ada-s-works", "日本": "", "A": "a", "x--y": "x-y",
		strings.Repeat("ab ", 40): strings.Repeat("ab-", 20)[:59],
	} {
		if got := identity.SlugOf(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
		one, two := identity.NewSlug(name), identity.NewSlug(name)
		if one == two || !identity.ValidSlug(one) || !identity.ValidSlug(two) {
			t.Errorf("%q: new slugs %q and %q", name, one, two)
		}
	}
}

// What a member may grant follows the member, the organization and the policy,
// each as it is now.
func TestNarrowForMembers(t *testing.T) {
	all := []string{"openid", "read:notes", "write:notes", "all:notes"}
	const app = "connected-app-test-one"
	type change struct {
		organization func(o *identity.Organization)
		member       func(m *identity.Member)
	}
	allows := func(extent identity.Extent, listed ...string) func(o *identity.Organization) {
		return func(o *identity.Organization) {
			o.Settings.ThirdParty = identity.AppPolicy{Allowed: extent, Listed: slices.Concat([]string{}, listed)}
		}
	}
	own := func(o *identity.Organization) {
		o.Roles = []rbac.Role{{ID: "sharer", Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"share"}}}}}
	}
	has := func(roles ...string) func(m *identity.Member) { return func(m *identity.Member) { m.Roles = roles } }
	is := func(s identity.MemberStatus) func(m *identity.Member) {
		return func(m *identity.Member) { m.Status = s }
	}
	eachOffice(t, func(t *testing.T, o *office) {
		n := 0
		for name, test := range map[string]struct {
			change
			firstParty bool
			want       []string // nil: not active
		}{
			"everybody's role":           {change{}, false, all[:2]},
			"a role":                     {change{nil, has("team_lead")}, false, all[:3]},
			"a role of the organization": {change{own, has("sharer")}, false, all[:2]},
			"both together":              {change{own, has("sharer", "team_lead")}, false, all[:4]},
			"a role that is of another":  {change{nil, has()}, false, all[:2]},
			"a role by domain": {change{func(o *identity.Organization) {
				o.Settings.ImplicitRoles = []identity.ImplicitRole{{Domain: "example.test", Role: "team_lead"}}
			}, nil}, false, all[:3]},
			"a role by another domain": {change{func(o *identity.Organization) {
				o.Settings.ImplicitRoles = []identity.ImplicitRole{{Domain: "test.example.test", Role: "team_lead"}}
			}, nil}, false, all[:2]},
			"invited":                           {change{nil, is(identity.Invited)}, false, nil},
			"pending":                           {change{nil, is(identity.Pending)}, false, nil},
			"removed":                           {change{nil, is(identity.Deleted)}, false, nil},
			"suspended":                         {change{func(o *identity.Organization) { o.Active = false }, nil}, false, nil},
			"no apps":                           {change{allows(identity.None, app), nil}, false, nil},
			"other apps":                        {change{allows(identity.Listed, app+"x"), nil}, false, nil},
			"this app":                          {change{allows(identity.Listed, app), nil}, false, all[:2]},
			"no apps, but one of the project's": {change{allows(identity.None), nil}, true, all[:2]},
			"not even one of the project's":     {change{func(o *identity.Organization) { o.Settings.FirstParty.Allowed = identity.None }, nil}, true, nil},
		} {
			t.Run(name, func(t *testing.T) {
				n++
				settings := identity.DefaultOrganization()
				made, err := o.People.CreateOrganization(t.Context(), o.Project, identity.Organization{Name: "One", Slug: fmt.Sprint("one-", n), Settings: settings}, o.by(""))
				if err != nil {
					t.Fatal(err)
				}
				if test.organization != nil {
					made, err = o.People.ChangeOrganization(t.Context(), o.Project, made.ID, func(o *identity.Organization) error { test.organization(o); return nil }, o.by(""))
					if err != nil {
						t.Fatal(err)
					}
				}
				m, err := o.People.AddMember(t.Context(), o.Project, made, identity.Member{Email: "Ada@Example.test", Status: identity.Active}, o.by(""))
				if err != nil {
					t.Fatal(err)
				}
				if test.member != nil {
					m, err = o.People.ChangeMember(t.Context(), o.Project, made, m.ID, func(m *identity.Member) error { test.member(m); return nil }, o.by(""))
					if err != nil {
						t.Fatal(err)
					}
				}
				got, active, err := o.People.Narrow(t.Context(), o.Project, m.ID, made.ID, app, test.firstParty, all)
				if err != nil || active != (test.want != nil) || !slices.Equal(got, test.want) {
					t.Errorf("got %v, active %t, %v", got, active, err)
				}
				// And nothing anywhere else.
				for _, ids := range [][2]string{{m.ID, o.fennel.ID}, {m.ID, ""}, {"member-test-none", made.ID}, {"", made.ID}} {
					if got, active, err := o.People.Narrow(t.Context(), o.Project, ids[0], ids[1], app, test.firstParty, all); err != nil || active || got != nil {
						t.Errorf("%v: %v, active %t, %v", ids, got, active, err)
					}
				}
			})
		}
		t.Run("a role of one organization is nothing in another", func(t *testing.T) {
			m := o.add(t, "bea@example.test", identity.Active)
			if _, err := o.People.ChangeMember(t.Context(), o.Project, o.fennel, m.ID, func(m *identity.Member) error { m.Roles = []string{"sharer"}; return nil }, o.by("")); err == nil {
				t.Error("it was given")
			}
		})
		t.Run("an empty list is not nobody", func(t *testing.T) {
			m := o.add(t, "cid@example.test", identity.Active)
			got, active, err := o.People.Narrow(t.Context(), o.Project, m.ID, o.fennel.ID, app, false, []string{"all:notes"})
			if err != nil || !active || got == nil || len(got) != 0 {
				t.Errorf("%#v, active %t, %v", got, active, err)
			}
		})
	})
}

func TestWhyNot(t *testing.T) {
	judge := rbac.Compile(notesPolicy())
	for _, test := range []struct {
		roles []string
		scope string
		want  string
	}{
		{nil, "read:notes", ""},
		{nil, "write:notes", "Your role, Member, does not include write of note."},
		{nil, "all:notes", "Your role, Member, does not include write and share of note."},
		{[]string{"team_lead"}, "all:notes", "Your role, Team lead, does not include share of note."},
		{[]string{"team_lead"}, "write:notes", ""},
	} {
		titles := identity.Titles(identity.Member{EmailFolded: "ada@example.test", Roles: test.roles}, identity.Organization{})
		if got := identity.WhyNot(judge.Rights(test.roles...), titles, test.scope); got != test.want {
			t.Errorf("%v, %s: %q, want %q", test.roles, test.scope, got, test.want)
		}
	}
}

func TestTitles(t *testing.T) {
	o := identity.Organization{Settings: identity.OrganizationSettings{ImplicitRoles: []identity.ImplicitRole{
		{Domain: "example.test", Role: "team_lead"}, {Domain: "example.test", Role: "night-shift"}, {Domain: "other.test", Role: "admin"},
	}}}
	for _, test := range []struct {
		email string
		roles []string
		want  []string
	}{
		{"ada@elsewhere.test", nil, []string{"Member"}},
		{"ada@elsewhere.test", []string{"admin", "team_lead"}, []string{"Admin", "Team lead"}},
		{"ada@example.test", []string{"team_lead"}, []string{"Team lead", "Night shift"}},
		{"ada@sub.example.test", nil, []string{"Member"}},
		{`"ada@example.test"@elsewhere.test`, nil, []string{"Member"}},
	} {
		m := identity.Member{EmailFolded: test.email, Roles: test.roles}
		if got := identity.Titles(m, o); !slices.Equal(got, test.want) {
			t.Errorf("%s %v: %v, want %v", test.email, test.roles, got, test.want)
		}
	}
	want := []identity.RoleSource{
		{Role: "member", Source: "member"},
		{Role: "team_lead", Source: "direct_assignment"},
		{Role: "team_lead", Source: "email_assignment", Domain: "example.test"},
		{Role: "night-shift", Source: "email_assignment", Domain: "example.test"},
	}
	if diff := cmp.Diff(want, identity.RolesOf(identity.Member{EmailFolded: "ada@example.test", Roles: []string{"team_lead"}}, o)); diff != "" {
		t.Error(diff)
	}
}

// Of 100 changes at once each is made whole or refused; none is lost.
func TestChangesAtOnce(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		ada := o.add(t, "ada@example.test", identity.Active)
		atOnce := func(change func(key string) error) (made []string) {
			var mu sync.Mutex
			var all sync.WaitGroup
			for i := range 100 {
				all.Go(func() {
					key := fmt.Sprint("key-", i)
					switch err := change(key); {
					case err == nil:
						mu.Lock()
						made = append(made, key)
						mu.Unlock()
					case !errors.Is(err, identity.ErrStale):
						t.Errorf("%s: %v", key, err)
					}
				})
			}
			all.Wait()
			if len(made) == 0 {
				t.Error("nothing was changed")
			}
			return made
		}
		put := func(metadata map[string]any, key string) map[string]any {
			metadata = maps.Clone(metadata)
			if metadata == nil {
				metadata = map[string]any{}
			}
			metadata[key] = true
			return metadata
		}
		t.Run("of an organization", func(t *testing.T) {
			made := atOnce(func(key string) error {
				_, err := o.People.ChangeOrganization(t.Context(), o.Project, o.fennel.ID, func(o *identity.Organization) error {
					o.TrustedMetadata = put(o.TrustedMetadata, key)
					return nil
				}, o.by(""))
				return err
			})
			got, err := o.People.Organization(t.Context(), o.Project.ID, "FENNEL")
			if err != nil || got.Version != int64(1+len(made)) {
				t.Errorf("version %d after %d changes, %v", got.Version, len(made), err)
			}
			if diff := cmp.Diff(sorted(made), slices.Sorted(maps.Keys(got.TrustedMetadata))); diff != "" {
				t.Error(diff)
			}
		})
		t.Run("of a member", func(t *testing.T) {
			made := atOnce(func(key string) error {
				_, err := o.People.ChangeMember(t.Context(), o.Project, o.fennel, ada.ID, func(m *identity.Member) error {
					m.UntrustedMetadata = put(m.UntrustedMetadata, key)
					return nil
				}, o.by(""))
				return err
			})
			got, err := o.People.Member(t.Context(), o.fennel, " ADA@example.test")
			if err != nil || got.ID != ada.ID || got.Version != int64(1+len(made)) {
				t.Errorf("%+v after %d changes, %v", got, len(made), err)
			}
			if diff := cmp.Diff(sorted(made), slices.Sorted(maps.Keys(got.UntrustedMetadata))); diff != "" {
				t.Error(diff)
			}
		})
		t.Run("one address is added once", func(t *testing.T) {
			var mu sync.Mutex
			won := 0
			var all sync.WaitGroup
			for range 100 {
				all.Go(func() {
					_, err := o.People.AddMember(t.Context(), o.Project, o.fennel, identity.Member{Email: "Zoe@example.test", Status: identity.Invited}, o.by(""))
					if err != nil && !errors.Is(err, identity.ErrConflict) {
						t.Error(err)
					}
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						won++
					}
				})
			}
			all.Wait()
			if won != 1 {
				t.Errorf("%d times", won)
			}
		})
	})
}

// A member is found by the whole address, however many others end alike.
func TestMemberByAddress(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		for i := range 101 {
			o.add(t, fmt.Sprintf("person%da@example.test", i), identity.Active)
		}
		last := o.add(t, "A@example.test", identity.Active)
		for _, ref := range []string{"a@example.test", " A@EXAMPLE.test ", last.ID} {
			if got, err := o.People.Member(t.Context(), o.fennel, ref); err != nil || got.ID != last.ID {
				t.Errorf("%q: %+v, %v", ref, got, err)
			}
		}
		for _, ref := range []string{"", "example.test", "nobody@example.test", "member-test-none", "%"} {
			if got, err := o.People.Member(t.Context(), o.fennel, ref); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("%q: %+v, %v", ref, got, err)
			}
		}
		if _, err := o.People.ChangeMember(t.Context(), o.Project, o.fennel, last.ID, func(m *identity.Member) error { m.Status = identity.Deleted; return nil }, o.by("")); err != nil {
			t.Fatal(err)
		}
		if _, err := o.People.Member(t.Context(), o.fennel, "a@example.test"); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("removed, by address: %v", err)
		}
		if got, err := o.People.Member(t.Context(), o.fennel, last.ID); err != nil || got.Status != identity.Deleted {
			t.Errorf("removed, by id: %+v, %v", got, err)
		}
	})
}

// A bad change changes nothing, and says everything that is wrong.
func TestRefusedChanges(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		ada := o.add(t, "ada@example.test", identity.Active, rbac.RoleAdmin)
		stop := errors.New("stop")
		for name, test := range map[string]struct {
			change func(m *identity.Member) error
			want   string
		}{
			"everybody's role":       {func(m *identity.Member) error { m.Roles = []string{"member"}; return nil }, "Everybody has the role 'member'; it cannot be given."},
			"a role that is none":    {func(m *identity.Member) error { m.Roles = []string{"chief", "admin", "admin"}; return nil }, "There is no role 'chief' here. The role 'admin' is named twice."},
			"a name of none":         {func(m *identity.Member) error { m.Name = "a\u202eb"; return nil }, "The name must have at most 128 characters that can be read."},
			"the last administrator": {func(m *identity.Member) error { m.Roles = nil; return nil }, identity.ErrLastAdmin.Error()},
			"the caller's own mind":  {func(*identity.Member) error { return stop }, "stop"},
		} {
			_, err := o.People.ChangeMember(t.Context(), o.Project, o.fennel, ada.ID, func(m *identity.Member) error { return test.change(m) }, o.by(""))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		got, err := o.People.Member(t.Context(), o.fennel, ada.ID)
		if err != nil || got.Version != 1 || !slices.Equal(got.Roles, []string{rbac.RoleAdmin}) {
			t.Errorf("%+v, %v", got, err)
		}
		var problems identity.Problems
		_, err = o.People.ChangeOrganization(t.Context(), o.Project, o.fennel.ID, func(o *identity.Organization) error { o.Name, o.Slug = "", "/"; return nil }, o.by(""))
		if !errors.As(err, &problems) || len(problems) != 2 {
			t.Errorf("an organization: %v", err)
		}
		if _, err := o.People.CreateOrganization(t.Context(), o.Project, identity.Organization{Name: "Other", Slug: "fennel", Settings: identity.DefaultOrganization()}, o.by("")); !errors.Is(err, identity.ErrConflict) {
			t.Errorf("a taken slug: %v", err)
		}
		alone := identity.DefaultOrganization()
		alone.Methods, alone.AllowedMethods = identity.Listed, []string{identity.MethodSSO}
		_, err = o.People.CreateOrganization(t.Context(), o.Project, identity.Organization{Name: "Alone", Settings: alone}, o.by(""))
		if !errors.As(err, &problems) || len(problems) != 1 || !strings.Contains(problems[0], "lock everybody out") {
			t.Errorf("one that nobody can enter: %v", err)
		}
	})
}

// What was wrong before holds no other change up: whoever has a role that left the
// policy can be shut out, and so can an organization that names it.
func TestShutOutAllTheSame(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		bea := o.add(t, "bea@example.test", identity.Active, "team_lead")
		change := func(to func(*identity.Organization)) error {
			_, err := o.People.ChangeOrganization(t.Context(), o.Project, o.fennel.ID, func(o *identity.Organization) error { to(o); return nil }, o.by(""))
			return err
		}
		if err := change(func(o *identity.Organization) {
			o.Settings.ImplicitRoles = []identity.ImplicitRole{{Domain: "example.test", Role: "team_lead"}}
		}); err != nil {
			t.Fatal(err)
		}
		policy := notesPolicy()
		policy.Version, policy.Roles = 1, policy.Roles[:1]
		if _, err := o.People.ApplyPolicy(t.Context(), o.Project.ID, policy, o.by(audit.PolicyApplied)); err != nil {
			t.Fatal(err)
		}
		o.Follow(t)
		member := func(to func(*identity.Member)) error {
			_, err := o.People.ChangeMember(t.Context(), o.Project, o.fennel, bea.ID, func(m *identity.Member) error { to(m); return nil }, o.by(""))
			return err
		}
		var problems identity.Problems
		if err := member(func(m *identity.Member) { m.Roles = append(m.Roles, "nobody") }); !errors.As(err, &problems) || len(problems) != 1 {
			t.Errorf("another role that is not there: %v", err)
		}
		if err := member(func(m *identity.Member) { m.Status = identity.Deleted }); err != nil {
			t.Errorf("a member stays: %v", err)
		}
		if err := change(func(o *identity.Organization) { o.Slug = "/" }); !errors.As(err, &problems) || len(problems) != 1 {
			t.Errorf("a new fault: %v", err)
		}
		if err := change(func(o *identity.Organization) { o.Active = false }); err != nil {
			t.Errorf("an organization stays: %v", err)
		}
	})
}

// Proves: OIDC-5.4-a
func TestClaimsOfMembers(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		ada, err := o.People.AddMember(t.Context(), o.Project, o.fennel, identity.Member{Email: "Ada@example.test", Name: "Ada L", Status: identity.Active}, o.by(""))
		if err != nil {
			t.Fatal(err)
		}
		about := map[string]any{"organization_id": o.fennel.ID, "organization_slug": "fennel", "organization_name": "Fennel Labs"}
		with := func(more ...any) map[string]any {
			all := maps.Clone(about)
			for i := 0; i < len(more); i += 2 {
				all[more[i].(string)] = more[i+1]
			}
			return all
		}
		ask := func(subject, organization string, scopes ...string) (map[string]any, bool) {
			t.Helper()
			claims, active, err := o.People.Claims(t.Context(), o.Project.ID, subject, organization, scopes)
			if err != nil {
				t.Fatal(err)
			}
			return claims, active
		}
		for scopes, want := range map[string]map[string]any{
			"":              with(),
			"openid notes":  with(),
			"email":         with("email", "Ada@example.test", "email_verified", true),
			"profile email": with("email", "Ada@example.test", "email_verified", true, "name", "Ada L"),
		} {
			if got, active := ask(ada.ID, o.fennel.ID, strings.Fields(scopes)...); !active || !cmp.Equal(got, want) {
				t.Errorf("%q: %v, active %t", scopes, got, active)
			}
		}
		bea := o.add(t, "bea@example.test", identity.Invited)
		for name, ids := range map[string][2]string{
			"invited": {bea.ID, o.fennel.ID}, "of no organization": {ada.ID, ""}, "of another": {ada.ID, "organization-test-none"}, "nobody": {"", o.fennel.ID},
		} {
			if got, active := ask(ids[0], ids[1], "email"); active || got != nil {
				t.Errorf("%s: %v, active %t", name, got, active)
			}
		}
		if _, err := o.People.ChangeOrganization(t.Context(), o.Project, o.fennel.ID, func(o *identity.Organization) error { o.Active = false; return nil }, o.by("")); err != nil {
			t.Fatal(err)
		}
		if got, active := ask(ada.ID, o.fennel.ID, "email"); active || got != nil {
			t.Errorf("suspended: %v, active %t", got, active)
		}
	})
}

// Rules are read again when the project changed, and not before.
func TestRulesFollowTheProject(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		ada := o.add(t, "ada@example.test", identity.Active, "team_lead")
		may := func() bool {
			t.Helper()
			rights, err := o.People.Rights(t.Context(), o.Project, ada, o.fennel)
			if err != nil {
				t.Fatal(err)
			}
			return rights.Allows("note", "write")
		}
		if !may() {
			t.Fatal("a team lead cannot write")
		}
		policy, err := o.People.Policy(t.Context(), o.Project.ID)
		if err != nil {
			t.Fatal(err)
		}
		policy.Roles[1].Permissions[0].Actions = []string{"share"}
		if _, err := o.People.ApplyPolicy(t.Context(), o.Project.ID, policy, o.by(audit.PolicyApplied)); err != nil {
			t.Fatal(err)
		}
		o.Follow(t)
		if may() {
			t.Error("a team lead can still write")
		}
		if _, err := o.People.ApplyPolicy(t.Context(), o.Project.ID, policy, o.by(audit.PolicyApplied)); !errors.Is(err, identity.ErrStale) {
			t.Errorf("an old version: %v", err)
		}
		bad := policy
		bad.Version++
		bad.Scopes = append(slices.Clone(policy.Scopes), rbac.Scope{Name: "bad:notes", Permissions: []rbac.Permission{{Resource: "nothing", Actions: []string{"read"}}}})
		if _, err := o.People.ApplyPolicy(t.Context(), o.Project.ID, bad, o.by(audit.PolicyApplied)); err == nil {
			t.Error("a bad policy was applied")
		}
		if got, err := o.People.Policy(t.Context(), o.Project.ID); err != nil || got.Version != 2 || len(got.Scopes) != len(policy.Scopes) {
			t.Errorf("%+v, %v", got, err)
		}
	})
}

// BenchmarkApplyPolicy applies 1,000 roles. Bar: 1 s.
func BenchmarkApplyPolicy(b *testing.B) {
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		b.Run(name, func(b *testing.B) {
			s := servertest.New(b, servertest.Config{Postgres: name == "PostgreSQL", Vertical: project.B2B})
			policy := notesPolicy()
			for i := range 1000 {
				policy.Roles = append(policy.Roles, rbac.Role{ID: fmt.Sprint("role_", i), Description: "A role", Permissions: []rbac.Permission{{Resource: "note", Actions: []string{"read", "share"}}}})
			}
			event := audit.Event{ProjectID: s.Project.ID, At: time.Unix(0, 0), Kind: audit.PolicyApplied, Actor: "operator"}
			for b.Loop() {
				version, err := s.People.ApplyPolicy(b.Context(), s.Project.ID, policy, event)
				if err != nil {
					b.Fatal(err)
				}
				policy.Version = version
				proj := *s.Project
				proj.Change = version
				if _, err := s.People.Rules(b.Context(), &proj); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

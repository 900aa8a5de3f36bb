package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/store"
)

// organization makes an organization of the world's project.
func (w *world) organization(slug string, change func(*identity.Organization)) identity.Organization {
	w.t.Helper()
	o := identity.Organization{
		ID: secret.NewID(now, "organization", "test"), ProjectID: w.project.ID, Name: "Fennel Labs", Slug: slug, Active: true,
		Settings: identity.DefaultOrganization(), TrustedMetadata: map[string]any{"plan": "gold"}, Roles: []rbac.Role{},
		Version: 1, CreatedAt: now, UpdatedAt: now,
	}
	if change != nil {
		change(&o)
	}
	must(w.t, w.CreateOrganization(w.t.Context(), o, w.event(audit.OrganizationCreated)))
	return o
}

func (w *world) newMember(o identity.Organization, email string, roles ...string) identity.Member {
	return identity.Member{
		ID: secret.NewID(now, "member", "test"), ProjectID: o.ProjectID, OrganizationID: o.ID, Email: email, EmailFolded: identity.Fold(email),
		Status: identity.Active, Roles: slices.Concat([]string{}, roles), TrustedMetadata: map[string]any{}, UntrustedMetadata: map[string]any{},
		Version: 1, CreatedAt: now, UpdatedAt: now,
	}
}

func (w *world) member(o identity.Organization, email string, roles ...string) identity.Member {
	w.t.Helper()
	m := w.newMember(o, email, roles...)
	must(w.t, w.CreateMember(w.t.Context(), m, w.event(audit.MemberAdded)))
	return m
}

// browser is one in which an address was proved by a code.
func (w *world) browser(email string) identity.Browser {
	w.t.Helper()
	f := w.flow(now)
	c := w.emailCode(f, email, "123456", now)
	must(w.t, w.CreateEmailCode(w.t.Context(), c, generous, w.event(audit.CodeSent)))
	r := w.try(c, "123456", now)
	cookie := secret.New(secret.HostedSession, now)
	r.Visitor = &identity.Browser{
		ID: cookie.ID, ProjectID: w.project.ID, SecretHash: cookie.Hash[:], Factors: r.Session.Factors, Address: "192.0.2.7", UserAgent: "Browser",
		CreatedAt: now, LastSeenAt: now, IdleExpiresAt: now.Add(12 * time.Hour), ExpiresAt: now.Add(7 * day),
	}
	out, err := w.RedeemEmailCode(w.t.Context(), r, w.event(audit.SignedIn))
	if err != nil || !out.Right || out.User.ID != "" || out.Session.ID != "" {
		w.t.Fatalf("prove an address: %+v, %v", out, err)
	}
	return out.Visitor
}

func (w *world) entry(b identity.Browser, organizationID string) identity.Entry {
	own := secret.New(secret.HostedSession, now)
	return identity.Entry{
		Browser: b, Keep: 3,
		Session: identity.Session{
			ID: secret.NewID(now, "member-session", "test"), ProjectID: w.project.ID, Kind: identity.Hosted, SecretID: own.ID, SecretHash: own.Hash[:],
			Factors: b.Factors, CreatedAt: now, LastSeenAt: now, IdleExpiresAt: b.IdleExpiresAt, ExpiresAt: b.ExpiresAt,
		},
		Newcomer: identity.Member{
			ID: secret.NewID(now, "member", "test"), ProjectID: w.project.ID, OrganizationID: organizationID, Email: b.Email, EmailFolded: b.EmailFolded,
			Status: identity.Active, Version: 1, CreatedAt: now, UpdatedAt: now,
		},
	}
}

func (w *world) enter(b identity.Browser, organizationID string) (identity.Session, identity.Member, error) {
	return w.Enter(w.t.Context(), w.entry(b, organizationID), w.event(audit.MemberEntered))
}

func TestOrganizations(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w, ctx := newWorld(t, d, "auth.example.com"), t.Context()
		o := w.organization("fennel", func(o *identity.Organization) {
			o.ExternalID, o.Roles = "crm-7", []rbac.Role{{ID: "guest", Permissions: []rbac.Permission{}}}
		})
		got, err := d.Organization(ctx, w.project.ID, o.ID)
		must(t, err)
		if diff := cmp.Diff(o, got); diff != "" {
			t.Error(diff)
		}
		got, err = d.OrganizationBySlug(ctx, w.project.ID, "fennel")
		if err != nil || got.ID != o.ID {
			t.Errorf("by slug: %+v, %v", got, err)
		}
		t.Run("a slug and an external id are one organization's", func(t *testing.T) {
			for name, change := range map[string]func(*identity.Organization){
				"slug":        func(*identity.Organization) {},
				"external id": func(o *identity.Organization) { o.Slug, o.ExternalID = "other", "crm-7" },
			} {
				again := o
				again.ID, again.ExternalID = secret.NewID(now, "organization", "test"), ""
				change(&again)
				if err := d.CreateOrganization(ctx, again, w.event(audit.OrganizationCreated)); !errors.Is(err, identity.ErrConflict) {
					t.Errorf("%s: %v", name, err)
				}
			}
			other := w.organization("quarry", nil)
			other.Slug = "fennel"
			if err := d.SaveOrganization(ctx, other, w.event(audit.OrganizationChanged)); !errors.Is(err, identity.ErrConflict) {
				t.Errorf("save: %v", err)
			}
		})
		t.Run("of two changes of one version one is made", func(t *testing.T) {
			o.Name = "Fennel"
			must(t, d.SaveOrganization(ctx, o, w.event(audit.OrganizationChanged)))
			o.Name = "Lost"
			if err := d.SaveOrganization(ctx, o, w.event(audit.OrganizationChanged)); !errors.Is(err, identity.ErrStale) {
				t.Errorf("got %v", err)
			}
			got, err := d.Organization(ctx, w.project.ID, o.ID)
			if err != nil || got.Name != "Fennel" || got.Version != 2 {
				t.Errorf("%+v, %v", got, err)
			}
		})
		t.Run("its logo", func(t *testing.T) {
			must(t, d.SaveOrganizationLogo(ctx, w.project.ID, o.ID, []byte("a picture"), w.event(audit.OrganizationChanged)))
			got, err := d.Organization(ctx, w.project.ID, o.ID)
			must(t, err)
			png, err := d.Logo(ctx, w.project.ID, got.Logo)
			if err != nil || string(png) != "a picture" || got.Version != 3 {
				t.Errorf("%q, version %d, %v", png, got.Version, err)
			}
			must(t, d.SaveOrganizationLogo(ctx, w.project.ID, o.ID, nil, w.event(audit.OrganizationChanged)))
			if after, err := d.Organization(ctx, w.project.ID, o.ID); err != nil || after.Logo != "" {
				t.Errorf("taken away: %+v, %v", after, err)
			}
			if _, err := d.Logo(ctx, w.project.ID, got.Logo); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("taken away: %v", err)
			}
			if err := d.SaveOrganizationLogo(ctx, w.project.ID, "organization-test-none", nil, w.event(audit.OrganizationChanged)); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("of none: %v", err)
			}
		})
		t.Run("a list by prefix, page by page", func(t *testing.T) {
			for i := range 5 {
				w.organization(fmt.Sprintf("team-%d", i), nil)
			}
			var slugs []string
			after := ""
			for {
				page, err := d.Organizations(ctx, w.project.ID, "team", after, 2)
				must(t, err)
				for _, o := range page {
					slugs = append(slugs, o.Slug)
				}
				if len(page) < 2 {
					break
				}
				after = page[1].ID
			}
			if diff := cmp.Diff([]string{"team-0", "team-1", "team-2", "team-3", "team-4"}, sorted(slugs)); diff != "" {
				t.Error(diff)
			}
		})
	})
}

func TestMembers(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w, ctx := newWorld(t, d, "auth.example.com"), t.Context()
		o, other := w.organization("fennel", nil), w.organization("quarry", nil)
		ada := w.member(o, "Ada@example.test", rbac.RoleAdmin)
		elsewhere := w.member(other, "ada@example.test")
		got, organization, err := d.MemberAndOrganization(ctx, w.project.ID, o.ID, ada.ID)
		must(t, err)
		if diff := cmp.Diff(ada, got); diff != "" || organization.ID != o.ID {
			t.Error(diff, organization.ID)
		}
		if _, err := d.Member(ctx, w.project.ID, other.ID, ada.ID); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("in another organization: %v", err)
		}
		again := w.newMember(o, "ADA@example.test")
		if err := d.CreateMember(ctx, again, w.event(audit.MemberAdded)); !errors.Is(err, identity.ErrConflict) {
			t.Errorf("the same address: %v", err)
		}
		again.OrganizationID = "organization-test-none"
		if err := d.CreateMember(ctx, again, w.event(audit.MemberAdded)); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("no organization: %v", err)
		}

		t.Run("the last administrator stays", func(t *testing.T) {
			for name, change := range map[string]func(*identity.Member){
				"loses the role": func(m *identity.Member) { m.Roles = []string{} },
				"is removed":     func(m *identity.Member) { m.Status = identity.Deleted },
			} {
				m := ada
				change(&m)
				if err := d.SaveMember(ctx, m, w.event(audit.MemberChanged)); !errors.Is(err, identity.ErrLastAdmin) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
		t.Run("also when two administrators remove each other", func(t *testing.T) {
			for range 10 {
				team := w.organization("team-"+secret.NewUUID(now), nil)
				pair := []identity.Member{w.member(team, "a@example.test", rbac.RoleAdmin), w.member(team, "b@example.test", rbac.RoleAdmin)}
				errs := make([]error, 2)
				var all sync.WaitGroup
				for i, m := range pair {
					all.Go(func() {
						m.Status = identity.Deleted
						errs[i] = d.SaveMember(context.WithoutCancel(ctx), m, w.event(audit.MemberRemoved))
					})
				}
				all.Wait()
				if (errs[0] == nil) == (errs[1] == nil) || !errors.Is(errors.Join(errs...), identity.ErrLastAdmin) {
					t.Fatalf("got %v", errs)
				}
			}
		})
		t.Run("who is removed loses everything, and comes back as somebody new", func(t *testing.T) {
			bea := w.member(o, "bea@example.test")
			b := w.browser("bea@example.test")
			_, _, err := w.enter(b, o.ID)
			must(t, err)
			grant := w.decision(now, "read:notes")
			grant.Grant.Subject, grant.Grant.Organization, grant.Code.Subject, grant.Code.Organization = bea.ID, o.ID, bea.ID, o.ID
			must(t, d.Decide(ctx, grant, w.event(audit.GrantAllowed)))
			bea, err = d.Member(ctx, w.project.ID, o.ID, bea.ID)
			must(t, err)
			bea.Status = identity.Deleted
			must(t, d.SaveMember(ctx, bea, w.event(audit.MemberRemoved)))
			if _, err := d.Browser(ctx, w.project.ID, b.ID, now); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("the browser lives: %v", err)
			}
			if _, _, err := d.Grant(ctx, w.project.ID, bea.ID, o.ID, w.client.ID, notes); err == nil {
				t.Error("the grant lives")
			}
			if len(w.feed()) == 0 {
				t.Error("nothing in the feed")
			}
			fresh := w.member(o, "bea@example.test")
			bea.Status, bea.Version = identity.Active, bea.Version+1
			if err := d.SaveMember(ctx, bea, w.event(audit.MemberRestored)); !errors.Is(err, identity.ErrConflict) {
				t.Errorf("restored beside %s: %v", fresh.ID, err)
			}
		})
		t.Run("lists", func(t *testing.T) {
			team := w.organization("lists", nil)
			w.member(team, "ada_l@example.test", rbac.RoleAdmin)
			w.member(team, "adaxl@example.test", "editor")
			gone := w.member(team, "old@example.test", "editor")
			gone.Status = identity.Deleted
			must(t, d.SaveMember(ctx, gone, w.event(audit.MemberRemoved)))
			for name, test := range map[string]struct {
				q    identity.MemberQuery
				want []string
			}{
				"all who are there": {identity.MemberQuery{}, []string{"ada_l@example.test", "adaxl@example.test"}},
				"by part":           {identity.MemberQuery{Text: "XL@"}, []string{"adaxl@example.test"}},
				"a sign is a sign":  {identity.MemberQuery{Text: "a_l"}, []string{"ada_l@example.test"}},
				"not every sign":    {identity.MemberQuery{Text: "%"}, nil},
				"not even quoted":   {identity.MemberQuery{Text: "' OR '1'='1"}, nil},
				"no role by case":   {identity.MemberQuery{Role: "EDITOR"}, nil},
				"nor by signs":      {identity.MemberQuery{Role: "e%r"}, nil},
				"by id":             {identity.MemberQuery{Text: gone.ID, Status: identity.Deleted}, []string{"old@example.test"}},
				"removed":           {identity.MemberQuery{Status: identity.Deleted}, []string{"old@example.test"}},
				"by role":           {identity.MemberQuery{Role: "editor"}, []string{"adaxl@example.test"}},
				"by part of a role": {identity.MemberQuery{Role: "edit"}, nil},
			} {
				t.Run(name, func(t *testing.T) {
					test.q.Limit = 10
					found, err := d.Members(ctx, w.project.ID, team.ID, test.q)
					must(t, err)
					var got []string
					for _, m := range found {
						got = append(got, m.Email)
					}
					slices.Sort(got)
					if diff := cmp.Diff(test.want, got); diff != "" {
						t.Error(diff)
					}
				})
			}
		})
		t.Run("an organization goes with everything in it", func(t *testing.T) {
			b := w.browser("ada@example.test")
			_, m, err := w.enter(b, other.ID)
			must(t, err)
			if m.ID != elsewhere.ID {
				t.Errorf("entered as %s", m.ID)
			}
			must(t, d.DeleteOrganization(ctx, w.project.ID, other.ID, w.event(audit.OrganizationDeleted)))
			if err := d.DeleteOrganization(ctx, w.project.ID, other.ID, w.event(audit.OrganizationDeleted)); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("twice: %v", err)
			}
			b, err = d.Browser(ctx, w.project.ID, b.ID, now)
			must(t, err)
			if _, _, _, err := d.BrowserSession(ctx, b, now); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("a session in it lives: %v", err)
			}
			if _, _, err := w.enter(b, other.ID); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("entered: %v", err)
			}
			fresh := w.organization("quarry", nil)
			if _, _, err := w.enter(b, fresh.ID); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("in one with the old slug: %v", err)
			}
		})
	})
}

// Row: O02, O08, O09. Who may enter is decided by the proved address.
func TestEnter(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w, ctx := newWorld(t, d, "auth.example.com"), t.Context()
		open := func(o *identity.Organization) {
			o.Settings.AllowedDomains, o.Settings.Provisioning = []string{"example.test"}, true
		}
		home := w.organization("home", nil)
		invited := w.organization("invited", nil)
		byDomain := w.organization("by-domain", open)
		strange := w.organization("strange", nil)
		suspended := w.organization("suspended", func(o *identity.Organization) { open(o); o.Active = false })
		closed := w.organization("closed", func(o *identity.Organization) { open(o); o.Settings.Provisioning = false })
		was := w.organization("was", open)
		ada := w.newMember(home, "Ada@example.test")
		ada.LastSignInAt = now // so that it is the first
		must(t, d.CreateMember(ctx, ada, w.event(audit.MemberAdded)))
		waiting := w.newMember(invited, "ada@example.test")
		waiting.Status, waiting.InvitedAt = identity.Invited, now
		must(t, d.CreateMember(ctx, waiting, w.event(audit.MemberInvited)))
		w.member(suspended, "ada@example.test")
		removed := w.member(was, "ada@example.test")
		removed.Status = identity.Deleted
		must(t, d.SaveMember(ctx, removed, w.event(audit.MemberRemoved)))

		b := w.browser("ADA@example.test")
		discovered := func() (slugs []string) {
			choices, err := d.Discover(ctx, w.project.ID, b.EmailFolded, 10)
			must(t, err)
			for _, c := range choices {
				slug := c.Organization.Slug
				if c.Member.ID == "" {
					slug += " by domain"
				}
				slugs = append(slugs, slug)
			}
			return slugs
		}
		if diff := cmp.Diff([]string{"home", "invited", "by-domain by domain"}, discovered()); diff != "" {
			t.Error(diff)
		}
		for name, id := range map[string]string{
			"a stranger's": strange.ID, "suspended": suspended.ID, "closed": closed.ID, "none": "organization-test-none", "removed from": was.ID,
		} {
			if _, _, err := w.enter(b, id); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
		s, m, err := w.enter(b, invited.ID)
		if err != nil || m.ID != waiting.ID || m.Status != identity.Active || s.Subject != m.ID || s.OrganizationID != invited.ID || s.BrowserID != b.ID {
			t.Fatalf("%+v %+v %v", s, m, err)
		}
		_, m, err = w.enter(b, byDomain.ID)
		if err != nil || m.Status != identity.Active || m.EmailFolded != "ada@example.test" || len(m.Roles) != 0 {
			t.Fatalf("%+v %v", m, err)
		}
		first, _, err := w.enter(b, home.ID)
		must(t, err)
		b, err = d.Browser(ctx, w.project.ID, b.ID, now)
		must(t, err)
		got, member, organization, err := d.BrowserSession(ctx, b, now)
		if err != nil || b.OrganizationID != home.ID || got.ID != first.ID || member.ID != ada.ID || organization.ID != home.ID {
			t.Fatalf("%+v %+v %v", got, member, err)
		}
		t.Run("at most so many organizations at once, the oldest goes", func(t *testing.T) {
			more := w.organization("more", open)
			_, _, err := w.enter(b, more.ID)
			must(t, err)
			n := len(rows(t, d, "SELECT id FROM session WHERE project_id = $1 AND browser_id = $2", w.project.ID, b.ID))
			if n != 3 {
				t.Errorf("%d sessions", n)
			}
		})
		t.Run("a suspended organization opens nothing that was open", func(t *testing.T) {
			_, _, err := w.enter(b, home.ID)
			must(t, err)
			o, err := d.Organization(ctx, w.project.ID, home.ID)
			must(t, err)
			o.Active = false
			must(t, d.SaveOrganization(ctx, o, w.event(audit.OrganizationChanged)))
			b.OrganizationID = home.ID
			if _, _, _, err := d.BrowserSession(ctx, b, now); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("got %v", err)
			}
		})
		t.Run("100 browsers of one person join once", func(t *testing.T) {
			o := w.organization("race", open)
			browsers := make([]identity.Browser, 100)
			for i := range browsers {
				browsers[i] = w.browser("zoe@example.test")
			}
			members := make([]string, len(browsers))
			var all sync.WaitGroup
			for i := range browsers {
				all.Go(func() {
					_, m, err := w.enter(browsers[i], o.ID)
					if err != nil {
						t.Error(err)
					}
					members[i] = m.ID
				})
			}
			all.Wait()
			if slices.Sort(members); members[0] == "" || members[0] != members[len(members)-1] {
				t.Errorf("members %v", slices.Compact(members))
			}
		})
	})
}

func TestFoundOrganization(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w, ctx := newWorld(t, d, "auth.example.com"), t.Context()
		b := w.browser("ada@example.test")
		found := func(slug string) (identity.Member, error) {
			o := identity.Organization{
				ID: secret.NewID(now, "organization", "test"), ProjectID: w.project.ID, Name: slug, Slug: slug, Active: true,
				Settings: identity.DefaultOrganization(), CreatedAt: now, UpdatedAt: now,
			}
			n := w.entry(b, o.ID)
			n.Newcomer.Roles = []string{rbac.RoleAdmin}
			_, m, err := d.FoundOrganization(ctx, o, n, w.event(audit.MemberEntered))
			return m, err
		}
		m, err := found("fennel")
		if err != nil || m.Status != identity.Active || !slices.Equal(m.Roles, []string{rbac.RoleAdmin}) {
			t.Fatalf("%+v, %v", m, err)
		}
		if _, err := found("fennel"); !errors.Is(err, identity.ErrConflict) {
			t.Errorf("a taken slug: %v", err)
		}
		for i := 1; i < identity.OrganizationsADay; i++ {
			_, err := found(fmt.Sprintf("more-%d", i))
			must(t, err)
		}
		if _, err := found("too-many"); !errors.Is(err, identity.ErrLimited) {
			t.Errorf("one too many: %v", err)
		}
	})
}

func TestEndMemberSessions(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w, ctx := newWorld(t, d, "auth.example.com"), t.Context()
		o := w.organization("fennel", nil)
		m := w.member(o, "ada@example.test")
		var browsers []identity.Browser
		for range 3 {
			b := w.browser("ada@example.test")
			_, _, err := w.enter(b, o.ID)
			must(t, err)
			browsers = append(browsers, b)
		}
		elsewhere := w.browser("ada@example.test")
		must(t, d.EndBrowser(ctx, w.project.ID, browsers[0].ID, w.event(audit.SignedOut)))
		if n, err := d.EndMemberSessions(ctx, w.project.ID, m.ID, w.event(audit.SignedOut)); err != nil || n != 2 {
			t.Errorf("%d ended, %v", n, err)
		}
		for _, b := range browsers {
			if _, err := d.Browser(ctx, w.project.ID, b.ID, now); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("a browser lives: %v", err)
			}
		}
		must(t, d.TouchBrowser(ctx, w.project.ID, elsewhere.ID, now.Add(time.Hour), now.Add(13*time.Hour)))
		b, err := d.Browser(ctx, w.project.ID, elsewhere.ID, now.Add(12*time.Hour+time.Minute))
		if err != nil || !b.LastSeenAt.Equal(now.Add(time.Hour)) {
			t.Errorf("touched: %+v, %v", b, err)
		}
	})
}

// Whoever signs a member out means every browser in which the address was proved,
// those too that are at the chooser or in another organization.
func TestOldProofs(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w, ctx := newWorld(t, d, "auth.example.com"), t.Context()
		quarry := w.organization("quarry", nil)
		w.member(quarry, "ada@example.test")
		for name, out := range map[string]func(identity.Member) error{
			"signed out": func(m identity.Member) error {
				_, err := d.EndMemberSessions(ctx, w.project.ID, m.ID, w.event(audit.SignedOut))
				return err
			},
			"revoked": func(m identity.Member) error {
				_, err := d.RevokeMember(ctx, m, w.event(audit.MemberRevoked))
				return err
			},
			"removed and restored": func(m identity.Member) error {
				m.Status = identity.Deleted
				if err := d.SaveMember(ctx, m, w.event(audit.MemberRemoved)); err != nil {
					return err
				}
				m.Status, m.Version = identity.Active, m.Version+1
				return d.SaveMember(ctx, m, w.event(audit.MemberRestored))
			},
		} {
			o := w.organization(strings.ReplaceAll(name, " ", "-"), nil)
			m := w.member(o, "ada@example.test")
			choosing, elsewhere := w.browser("ada@example.test"), w.browser("ada@example.test")
			_, _, err := w.enter(elsewhere, quarry.ID)
			must(t, err)
			must(t, out(m))
			for where, b := range map[string]identity.Browser{"at the chooser": choosing, "in another organization": elsewhere} {
				if _, _, err := w.enter(b, o.ID); !errors.Is(err, identity.ErrOldProof) {
					t.Errorf("%s, %s: %v", name, where, err)
				}
			}
			elsewhere.OrganizationID = quarry.ID
			if _, _, _, err := d.BrowserSession(ctx, elsewhere, now); err != nil {
				t.Errorf("%s: out of the other organization: %v", name, err)
			}
			fresh := w.browser("ada@example.test")
			fresh.CreatedAt = now.Add(time.Microsecond)
			if _, _, err := w.enter(fresh, o.ID); err != nil {
				t.Errorf("%s: by a new proof: %v", name, err)
			}
		}
		t.Run("and who goes in at the same moment is out", func(t *testing.T) {
			o := w.organization("race", nil)
			m := w.member(o, "zoe@example.test")
			browsers := make([]identity.Browser, 20)
			for i := range browsers {
				browsers[i] = w.browser("zoe@example.test")
			}
			var all sync.WaitGroup
			for i, b := range browsers {
				all.Go(func() {
					if _, _, err := w.enter(b, o.ID); err != nil && !errors.Is(err, identity.ErrOldProof) {
						t.Error(err)
					}
				})
				if i == len(browsers)/2 {
					all.Go(func() {
						if _, err := d.EndMemberSessions(ctx, w.project.ID, m.ID, w.event(audit.SignedOut)); err != nil {
							t.Error(err)
						}
					})
				}
			}
			all.Wait()
			if live := rows(t, d, "SELECT id FROM session WHERE project_id = $1 AND subject = $2", w.project.ID, m.ID); len(live) != 0 {
				t.Errorf("%d sessions live", len(live))
			}
		})
	})
}

func TestLeaveEverywhere(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w, ctx := newWorld(t, d, "auth.example.com"), t.Context()
		fennel, quarry := w.organization("fennel", nil), w.organization("quarry", nil)
		m := w.member(fennel, "ada@example.test")
		w.member(quarry, "ada@example.test")
		here, choosing, elsewhere, other := w.browser("ada@example.test"), w.browser("ada@example.test"), w.browser("ada@example.test"), w.browser("zoe@example.test")
		for b, id := range map[string]string{here.ID: fennel.ID, elsewhere.ID: quarry.ID} {
			_, _, err := w.enter(identity.Browser{ID: b, ProjectID: w.project.ID, EmailFolded: "ada@example.test", CreatedAt: now, ExpiresAt: here.ExpiresAt}, id)
			must(t, err)
		}
		lives := func(b identity.Browser) bool {
			_, err := d.Browser(ctx, w.project.ID, b.ID, now)
			return err == nil
		}
		vouched := here
		vouched.Factors = []identity.Factor{{Method: identity.MethodSSO, At: now, OrganizationID: fennel.ID, ConnectionID: "connection"}}
		must(t, d.LeaveEverywhere(ctx, m, vouched, w.event(audit.SignedOut)))
		if lives(here) || !lives(choosing) || !lives(elsewhere) {
			t.Errorf("by the word of one organization: its browser %v, others %v %v", lives(here), lives(choosing), lives(elsewhere))
		}
		must(t, d.LeaveEverywhere(ctx, m, choosing, w.event(audit.SignedOut)))
		if lives(choosing) || lives(elsewhere) || !lives(other) {
			t.Errorf("by the address: its browsers %v %v, another person's %v", lives(choosing), lives(elsewhere), lives(other))
		}
	})
}

func TestApplyPolicy(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, d *store.DB) {
		w, ctx := newWorld(t, d, "auth.example.com"), t.Context()
		changes := func() int64 {
			all, err := d.Changes(ctx)
			must(t, err)
			return all[w.project.ID]
		}
		before := changes()
		policy := rbac.Policy{Scopes: []rbac.Scope{{Name: "read:okrs", Description: "Read objectives", ReadOnly: true}}}
		wins := 0
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				v, err := d.ApplyPolicy(ctx, w.project.ID, policy, w.event(audit.PolicyApplied))
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil && v == 1:
					wins++
				case !errors.Is(err, identity.ErrStale):
					t.Errorf("version %d, %v", v, err)
				}
			})
		}
		all.Wait()
		got, err := d.Policy(ctx, w.project.ID)
		if err != nil || wins != 1 || got.Version != 1 || len(got.Scopes) != 1 || changes() != before+1 {
			t.Errorf("%d applied, %+v, %v, %d changes", wins, got, err, changes()-before)
		}
		if p := find(t, d, w.project.ID); len(p.Scopes) != 1 {
			t.Errorf("scopes of the project: %v", p.Scopes)
		}
	})
}

package oauth_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/servertest"
)

// A member's tokens are worth what the member is: the tests of this file take
// something away from Ada, who is an editor at Fennel and at Quarry, and look at
// what is left.

const workPolicy = `{
  "resources": [{"resource_id": "todo", "actions": ["read", "write"]}],
  "roles": [
    {"role_id": "member", "permissions": [{"resource_id": "todo", "actions": ["read"]}]},
    {"role_id": "editor", "permissions": [{"resource_id": "todo", "actions": ["*"]}]}],
  "scopes": [
    {"scope": "read:todos", "description": "Read to-dos", "read_only": true, "permissions": [{"resource_id": "todo", "actions": ["read"]}]},
    {"scope": "write:todos", "description": "Change to-dos", "permissions": [{"resource_id": "todo", "actions": ["write"]}]},
    {"scope": "read:notes", "description": "Read notes", "read_only": true, "permissions": [{"resource_id": "todo", "actions": ["read"]}]}]}`

const adaAtWork = "ada@example.test"

// work is a B2B project in which Ada is a member of two organizations.
type work struct {
	*world
	fennel, quarry identity.Organization
	ada            identity.Member // at Fennel
}

func eachWork(t *testing.T, test func(t *testing.T, w *work)) {
	t.Helper()
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		c.Vertical = project.B2B
		db := rowsOf(t, &c)
		w := &work{world: &world{Server: servertest.New(t, c), keys: map[string]string{}, resources: map[string][2]string{}}}
		w.db = db()
		w.apply(t, workPolicy)
		for _, r := range []project.Resource{
			{URI: todo, Name: "Todo", Default: true, Scopes: []string{"read:todos", "write:todos"}},
			{URI: notes, Name: "Notes", Profile: project.Compatible, Scopes: []string{"read:notes"}},
		} {
			added, key, err := w.Projects.AddResource(t.Context(), w.Project, r, nil, true)
			if err != nil {
				t.Fatal(err)
			}
			w.resources[added.URI] = [2]string{added.ID, key.Text}
		}
		w.Follow(t)
		w.Ready(t)
		w.public = w.client(t, oauth.NewClient{Name: "Public", Type: oauth.ThirdPartyPublic})
		w.rival = w.client(t, oauth.NewClient{Name: "Rival", Type: oauth.ThirdPartyPublic})
		w.fennel, w.quarry = w.organization(t, "fennel"), w.organization(t, "quarry")
		w.ada = w.add(t, w.fennel, adaAtWork, "editor")
		w.add(t, w.quarry, adaAtWork, "editor")
		w.browser = w.inside(t, adaAtWork, w.fennel)
		test(t, w)
	})
}

func (w *work) apply(t *testing.T, text string) {
	t.Helper()
	policy, err := rbac.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	stands, err := w.People.Policy(t.Context(), w.Project.ID)
	if err != nil {
		t.Fatal(err)
	}
	policy.Version = stands.Version
	if _, err := w.People.ApplyPolicy(t.Context(), w.Project.ID, policy, w.by(audit.PolicyApplied)); err != nil {
		t.Fatal(err)
	}
	w.Follow(t)
}

func (w *work) by(kind audit.Kind) audit.Event {
	return audit.Event{ProjectID: w.Project.ID, At: w.Clock.Now(), Kind: kind, Actor: "operator"}
}

func (w *work) organization(t *testing.T, slug string) identity.Organization {
	t.Helper()
	o, err := w.People.CreateOrganization(t.Context(), w.Project, identity.Organization{
		Name: strings.ToUpper(slug[:1]) + slug[1:], Slug: slug, Settings: identity.DefaultOrganization(),
	}, w.by(""))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (w *work) add(t *testing.T, o identity.Organization, email string, roles ...string) identity.Member {
	t.Helper()
	m, err := w.People.AddMember(t.Context(), w.Project, o, identity.Member{Email: email, Status: identity.Invited, Roles: roles}, w.by(""))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// inside signs somebody in and brings them into an organization.
func (w *work) inside(t *testing.T, email string, o identity.Organization) *servertest.Browser {
	t.Helper()
	w.Clock.Advance(time.Minute) // between two mails
	b := w.Browser(t)
	if page := b.SignIn(t, b.Get(t, "/login"), email); strings.Contains(page.Body, `name="organization"`) {
		b.Submit(t, page, "organization", url.Values{"organization": {o.ID}})
	}
	return b
}

// change changes Ada at Fennel.
func (w *work) change(t *testing.T, change func(m *identity.Member)) {
	t.Helper()
	_, err := w.People.ChangeMember(t.Context(), w.Project, w.fennel, w.ada.ID, func(m *identity.Member) error { change(m); return nil }, w.by(""))
	if err != nil {
		t.Fatal(err)
	}
}

// changeFennel changes the organization.
func (w *work) changeFennel(t *testing.T, change func(o *identity.Organization)) {
	t.Helper()
	changed, err := w.People.ChangeOrganization(t.Context(), w.Project, w.fennel.ID, func(o *identity.Organization) error { change(o); return nil }, w.by(""))
	if err != nil {
		t.Fatal(err)
	}
	w.fennel = changed
}

// said is what the resource server hears of a token.
func (w *work) said(t *testing.T, resource, token string) map[string]any {
	t.Helper()
	header, key := isForm.Clone(), w.resources[resource]
	header.Set("Authorization", basicAuth(key[0], key[1]))
	a := w.send(t, http.MethodPost, oauth.PathIntrospect, header, url.Values{"token": {token}}.Encode())
	if a.code != http.StatusOK {
		t.Fatalf("introspection: %d %s", a.code, a.body)
	}
	return a.json()
}

// over checks that nothing can be done with tokens any more, and that the
// answers do not say why.
func (w *work) over(t *testing.T, i issued) {
	t.Helper()
	if diff := cmp.Diff(map[string]any{"active": false}, w.said(t, todo, i.Access)); diff != "" {
		t.Errorf("introspection: %s", diff)
	}
	if w.active(t, i.Access) || w.active(t, i.Refresh) {
		t.Error("the project is told that a token lives")
	}
	refusedToken(t, w.token(t, w.public, refresh(i.Refresh)), http.StatusBadRequest, "invalid_grant")
	a := w.send(t, http.MethodGet, oauth.PathUserinfo, http.Header{"Authorization": {"Bearer " + i.Access}}, "")
	if a.code != http.StatusUnauthorized {
		t.Errorf("userinfo: %d %s", a.code, a.body)
	}
}

// alive checks that everything works.
func (w *work) alive(t *testing.T, i issued, scope string) issued {
	t.Helper()
	if got := w.said(t, todo, i.Access); got["active"] != true || got["scope"] != scope {
		t.Errorf("introspection: %v", got)
	}
	next := got(t, w.token(t, w.public, refresh(i.Refresh)))
	if next.Scope != scope || claimsOf(t, next.Access)["scope"] != scope {
		t.Errorf("refreshed with %q, want %q", next.Scope, scope)
	}
	return next
}

// feed counts the revocation feed by kind.
func (w *work) feed(t *testing.T) map[string]int {
	t.Helper()
	return w.count(t, "SELECT kind, count(*) FROM revocation WHERE project_id = $1 GROUP BY 1")
}

// A role that is taken away takes its scopes with it: at introspection in that
// moment, in tokens at the next refresh. Row: O04.
func TestRoleIsTakenAway(t *testing.T) {
	both := "read:todos write:todos"
	roles := func(t *testing.T, w *work, roles ...string) {
		t.Helper()
		w.change(t, func(m *identity.Member) { m.Roles = roles })
	}
	writer := func(o *identity.Organization) {
		o.Roles = []rbac.Role{{ID: "writer", Permissions: []rbac.Permission{{Resource: "todo", Actions: []string{"write"}}}}}
	}
	for name, test := range map[string]struct{ give, take func(t *testing.T, w *work) }{
		"from the member": {
			func(t *testing.T, w *work) { t.Helper(); roles(t, w, "editor") },
			func(t *testing.T, w *work) { t.Helper(); roles(t, w) },
		},
		"its permission in the policy": {
			func(t *testing.T, w *work) { t.Helper(); roles(t, w, "editor") },
			func(t *testing.T, w *work) {
				t.Helper()
				w.apply(t, strings.Replace(workPolicy, `"actions": ["*"]`, `"actions": ["read"]`, 1))
			},
		},
		"the permission of the organization's own": {
			func(t *testing.T, w *work) { t.Helper(); w.changeFennel(t, writer); roles(t, w, "writer") },
			func(t *testing.T, w *work) {
				t.Helper()
				w.changeFennel(t, func(o *identity.Organization) { o.Roles[0].Permissions[0].Actions = []string{"read"} })
			},
		},
		"the organization's own": {
			func(t *testing.T, w *work) { t.Helper(); w.changeFennel(t, writer); roles(t, w, "writer") },
			func(t *testing.T, w *work) {
				t.Helper()
				w.changeFennel(t, func(o *identity.Organization) { o.Roles = nil })
			},
		},
		"the domain's": {
			func(t *testing.T, w *work) {
				t.Helper()
				roles(t, w)
				w.changeFennel(t, func(o *identity.Organization) {
					o.Settings.ImplicitRoles = []identity.ImplicitRole{{Domain: "example.test", Role: "editor"}}
				})
			},
			func(t *testing.T, w *work) {
				t.Helper()
				w.changeFennel(t, func(o *identity.Organization) { o.Settings.ImplicitRoles = nil })
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachWork(t, func(t *testing.T, w *work) {
				test.give(t, w)
				i := w.alive(t, w.tokens(t, w.public), both)
				test.take(t, w)
				if got := w.said(t, todo, i.Access); got["active"] != true || got["scope"] != "read:todos" {
					t.Errorf("introspection at once: %v", got)
				}
				i = w.alive(t, i, "read:todos")
				if n := w.events(t)[string(audit.GrantNarrowed)]; n != 1 {
					t.Errorf("%d events say that the grant is narrower", n)
				}
				// It was allowed once, so that asking for it is no error; it is not given.
				i = got(t, w.token(t, w.public, refresh(i.Refresh, "scope", both)))
				w.alive(t, i, "read:todos")
			})
		})
	}
}

// Who is removed is out: tokens, sessions, grants, and the feed says so. Who
// comes back at the same address is somebody new. Row: O08.
func TestMemberIsRemoved(t *testing.T) {
	eachWork(t, func(t *testing.T, w *work) {
		i := w.tokens(t, w.public)
		elsewhere := w.inside(t, adaAtWork, w.quarry)
		quarry := got(t, w.token(t, w.public, redeem(w.answer(t, elsewhere, request(w.public.ID)).Query().Get("code"))))
		w.change(t, func(m *identity.Member) { m.Status = identity.Deleted })
		w.over(t, i)
		if diff := cmp.Diff(map[string]int{"family": 1, "grant": 1}, w.feed(t)); diff != "" {
			t.Errorf("the feed: %s", diff)
		}
		if page := w.browser.Authorize(t, request(w.public.ID)); page.Header.Get("Location") != "" || !strings.Contains(page.Body, "Send me a code") {
			t.Errorf("the browser is signed in: %d %s", page.Status, page.Body)
		}
		w.alive(t, quarry, "read:todos write:todos")

		t.Run("restored, the old tokens stay dead", func(t *testing.T) {
			w.change(t, func(m *identity.Member) { m.Status = identity.Active })
			w.over(t, i)
			w.change(t, func(m *identity.Member) { m.Status = identity.Deleted })
		})
		t.Run("a new member with the address is somebody else", func(t *testing.T) {
			fresh := w.add(t, w.fennel, "ADA@example.test", "editor")
			w.over(t, i)
			w.browser = w.inside(t, adaAtWork, w.fennel)
			next := w.tokens(t, w.public)
			if sub := claimsOf(t, next.Access)["sub"]; sub != fresh.ID || sub == w.ada.ID {
				t.Errorf("the subject is %v", sub)
			}
			w.over(t, i)
		})
	})
}

// Row: O08, with the whole organization.
func TestOrganizationIsDeleted(t *testing.T) {
	eachWork(t, func(t *testing.T, w *work) {
		i := w.tokens(t, w.public)
		if err := w.People.DeleteOrganization(t.Context(), w.Project.ID, w.fennel.ID, w.by("")); err != nil {
			t.Fatal(err)
		}
		w.over(t, i)
		if diff := cmp.Diff(map[string]int{"family": 1, "grant": 1}, w.feed(t)); diff != "" {
			t.Errorf("the feed: %s", diff)
		}
		again := w.organization(t, "fennel")
		fresh := w.add(t, again, adaAtWork)
		w.over(t, i)
		w.browser = w.inside(t, adaAtWork, again)
		next := w.tokens(t, w.public)
		if c := claimsOf(t, next.Access); c["sub"] != fresh.ID || c["organization_id"] != again.ID || c["organization_slug"] != "fennel" || c["scope"] != "read:todos" {
			t.Errorf("got %v", c)
		}
		w.over(t, i)
	})
}

// Row: B25, O09. A suspended organization is out within one request, and back when
// it is resumed: nothing was used up by asking.
func TestOrganizationIsSuspended(t *testing.T) {
	eachWork(t, func(t *testing.T, w *work) {
		i := w.tokens(t, w.public)
		code := w.code(t, request(w.public.ID))
		w.changeFennel(t, func(o *identity.Organization) { o.Active = false })
		w.over(t, i)
		refusedToken(t, w.token(t, w.public, redeem(code)), http.StatusBadRequest, "invalid_grant")
		if page := w.browser.Authorize(t, request(w.public.ID, "prompt", "none")); page.Answer(t).Query().Get("code") != "" {
			t.Error("a code for a suspended organization")
		}
		if page := w.browser.Authorize(t, request(w.public.ID)); strings.Contains(page.Body, "Fennel") {
			t.Errorf("it can be chosen: %s", page.Body)
		}
		w.changeFennel(t, func(o *identity.Organization) { o.Active = true })
		w.alive(t, i, "read:todos write:todos")
	})
}

// An organization that lets a connected app in no longer, is heard at once.
func TestOrganizationRefusesApp(t *testing.T) {
	for name, policy := range map[string]identity.AppPolicy{
		"none":           {Allowed: identity.None, Listed: []string{}},
		"others, listed": {Allowed: identity.Listed, Listed: []string{"connected-app-test-other"}},
	} {
		t.Run(name, func(t *testing.T) {
			eachWork(t, func(t *testing.T, w *work) {
				i := w.tokens(t, w.public)
				code := w.code(t, request(w.public.ID))
				w.changeFennel(t, func(o *identity.Organization) { o.Settings.ThirdParty = policy })
				w.over(t, i)
				refusedToken(t, w.token(t, w.public, redeem(code)), http.StatusBadRequest, "invalid_grant")
				w.changeFennel(t, func(o *identity.Organization) { // of another kind: not heard
					o.Settings.FirstParty = identity.AppPolicy{Allowed: identity.All, Listed: []string{w.public.ID}}
				})
				w.over(t, i)
				w.changeFennel(t, func(o *identity.Organization) {
					o.Settings.ThirdParty = identity.AppPolicy{Allowed: identity.Listed, Listed: []string{w.public.ID}}
				})
				w.alive(t, i, "read:todos write:todos")
			})
		})
	}
}

// One person in two organizations is two subjects, with grants of their own.
func TestTwoOrganizations(t *testing.T) {
	eachWork(t, func(t *testing.T, w *work) {
		fennel := w.tokens(t, w.public, "scope", "read:todos")
		w.browser = w.inside(t, adaAtWork, w.quarry)
		quarry := w.tokens(t, w.public)
		a, b := claimsOf(t, fennel.Access), claimsOf(t, quarry.Access)
		for _, name := range []string{"sub", "organization_id", "organization_slug", "grant_id", "sid"} {
			if a[name] == b[name] || a[name] == nil || b[name] == nil {
				t.Errorf("%s is %v and %v", name, a[name], b[name])
			}
		}
		if a["scope"] != "read:todos" || b["scope"] != "read:todos write:todos" {
			t.Errorf("scopes %v and %v", a["scope"], b["scope"])
		}
		for name, at := range map[string]identity.Organization{"fennel": w.fennel, "quarry": w.quarry} {
			subject := map[string]any{"fennel": a["sub"], "quarry": b["sub"]}[name].(string)
			apps, err := w.Store.ConnectedApps(t.Context(), w.Project.ID, subject, at.ID, w.Clock.Now())
			if err != nil || len(apps) != 1 || apps[0].Grant.Organization != at.ID {
				t.Errorf("%s: %+v, %v", name, apps, err)
			}
			other := map[string]string{"fennel": w.quarry.ID, "quarry": w.fennel.ID}[name]
			if apps, err = w.Store.ConnectedApps(t.Context(), w.Project.ID, subject, other, w.Clock.Now()); err != nil || len(apps) != 0 {
				t.Errorf("%s in the other organization: %+v, %v", name, apps, err)
			}
		}
		a2 := w.send(t, http.MethodPost, oauth.PathRevoke, isForm, url.Values{"token": {quarry.Refresh}, "client_id": {w.public.ID}}.Encode())
		if a2.code != http.StatusOK {
			t.Fatalf("revoke: %d", a2.code)
		}
		w.over(t, quarry)
		w.alive(t, fennel, "read:todos")
	})
}

// profileClaim is the organization in the compatible profile's own name.
func profileClaim(claims map[string]any) any {
	for name, value := range claims {
		if strings.HasPrefix(name, "https://") && strings.HasSuffix(name, "/organization") {
			return value
		}
	}
	return nil
}

// What tokens and introspection say of the organization, in both profiles.
func TestOrganizationInTokens(t *testing.T) {
	eachWork(t, func(t *testing.T, w *work) {
		old := w.tokens(t, w.public, "scope", "openid email read:todos")
		w.changeFennel(t, func(o *identity.Organization) { o.Slug, o.Name = "fennel-labs", "Fennel Labs" })
		i := got(t, w.token(t, w.public, refresh(old.Refresh)))
		about := map[string]any{"organization_id": w.fennel.ID, "organization_slug": "fennel-labs", "organization_name": "Fennel Labs"}
		says := func(what string, got map[string]any) {
			t.Helper()
			for name, want := range about {
				if got[name] != want {
					t.Errorf("%s: %s is %v, want %v", what, name, got[name], want)
				}
			}
		}
		c := claimsOf(t, i.Access)
		says("access token", c)
		says("id_token", claimsOf(t, i.ID))
		says("introspection", w.said(t, todo, i.Access))
		says("userinfo", w.send(t, http.MethodGet, oauth.PathUserinfo, http.Header{"Authorization": {"Bearer " + i.Access}}, "").json())
		if claimsOf(t, old.Access)["organization_slug"] != "fennel" {
			t.Error("the old token names the new slug: the test proves nothing")
		}
		if profileClaim(c) != nil {
			t.Errorf("a token by RFC 9068 has the other profile's claim: %v", c)
		}
		i = w.tokens(t, w.public, "scope", "read:notes", "resource", notes)
		want := map[string]any{"organization_id": w.fennel.ID, "slug": "fennel-labs"}
		c = claimsOf(t, i.Access)
		says("compatible access token", c)
		if diff := cmp.Diff(want, profileClaim(c)); diff != "" {
			t.Errorf("compatible claim: %s", diff)
		}
		if diff := cmp.Diff(want, profileClaim(w.said(t, notes, i.Access))); diff != "" {
			t.Errorf("compatible introspection: %s", diff)
		}
	})
}

// Row: O13, O14. Two B2B projects of one deployment with the same organization
// and person: neither takes anything of the other's.
func TestTwoProjectsWithMembers(t *testing.T) {
	eachWork(t, func(t *testing.T, w *work) {
		i := w.tokens(t, w.public)
		issuer, err := url.Parse(w.Issuer)
		if err != nil {
			t.Fatal(err)
		}
		const host = "other.example.test"
		other, key, err := w.Projects.Create(t.Context(), project.New{Name: "Other", Issuer: "https://" + host, Vertical: project.B2B, Environment: project.Test})
		if err != nil {
			t.Fatal(err)
		}
		o, err := w.People.CreateOrganization(t.Context(), other, identity.Organization{Name: "Fennel", Slug: "fennel", Settings: identity.DefaultOrganization()},
			audit.Event{ProjectID: other.ID, At: w.Clock.Now()})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.People.AddMember(t.Context(), other, o, identity.Member{Email: adaAtWork, Status: identity.Active},
			audit.Event{ProjectID: other.ID, At: w.Clock.Now()}); err != nil {
			t.Fatal(err)
		}
		w.Follow(t)
		w.Ready(t)
		at := func(method, path string, header http.Header, body string) answer {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), method, w.Address+path, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Host, r.Header = host, header
			response, err := machines.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			text, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			return answer{T: t, code: response.StatusCode, header: response.Header, body: string(text)}
		}
		introspect := isForm.Clone()
		introspect.Set("Authorization", basicAuth(other.ID, key.Text))
		for name, token := range map[string]string{"access": i.Access, "refresh": i.Refresh} {
			a := at(http.MethodPost, oauth.PathIntrospect, introspect.Clone(), url.Values{"token": {token}}.Encode())
			if a.code != http.StatusOK || a.json()["active"] != false {
				t.Errorf("%s token: %d %s", name, a.code, a.body)
			}
		}
		if a := at(http.MethodGet, oauth.PathUserinfo, http.Header{"Authorization": {"Bearer " + i.Access}}, ""); a.code != http.StatusUnauthorized {
			t.Errorf("userinfo: %d %s", a.code, a.body)
		}
		if a := at(http.MethodPost, oauth.PathToken, isForm.Clone(), refresh(i.Refresh, "client_id", w.public.ID).Encode()); a.code == http.StatusOK {
			t.Errorf("refreshed: %s", a.body)
		}
		sum := sha256.Sum256([]byte(other.ID))
		theirs := "__Host-postern-" + hex.EncodeToString(sum[:4]) + "-session"
		tried := 0
		for _, c := range w.browser.Client.Jar.Cookies(issuer) {
			if !strings.HasSuffix(c.Name, "-session") {
				continue
			}
			tried++
			for _, name := range []string{c.Name, theirs} {
				a := at(http.MethodGet, "/connected-apps", http.Header{"Cookie": {name + "=" + c.Value}}, "")
				if a.code != http.StatusSeeOther || !strings.HasPrefix(a.header.Get("Location"), "/flow/") {
					t.Errorf("as %s the session opens the other project:\n%s", name, a.body)
				}
			}
		}
		if tried != 1 {
			t.Errorf("%d sessions were tried", tried)
		}
		w.alive(t, i, "read:todos write:todos")
	})
}

package login_test

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/servertest"
)

// okrPolicy has three roles that cover two, three and four of its scopes.
const okrPolicy = `{
  "resources": [
    {"resource_id": "objective", "actions": ["create", "read", "update", "delete"]},
    {"resource_id": "key_result", "actions": ["create", "read", "update", "delete"]}],
  "roles": [
    {"role_id": "member", "permissions": [
      {"resource_id": "self", "actions": ["*"]}, {"resource_id": "objective", "actions": ["read"]}, {"resource_id": "key_result", "actions": ["read", "update"]}]},
    {"role_id": "manager", "permissions": [{"resource_id": "objective", "actions": ["read"]}, {"resource_id": "key_result", "actions": ["*"]}]},
    {"role_id": "admin", "permissions": [
      {"resource_id": "organization", "actions": ["*"]}, {"resource_id": "member", "actions": ["*"]},
      {"resource_id": "objective", "actions": ["*"]}, {"resource_id": "key_result", "actions": ["*"]}]}],
  "scopes": [
    {"scope": "read:okrs", "description": "Read objectives and key results", "read_only": true, "permissions": [
      {"resource_id": "objective", "actions": ["read"]}, {"resource_id": "key_result", "actions": ["read"]}]},
    {"scope": "report_kr_status", "description": "Say how far key results are", "read_only": false, "permissions": [{"resource_id": "key_result", "actions": ["read", "update"]}]},
    {"scope": "manage:krs", "description": "Change key results", "read_only": false, "permissions": [{"resource_id": "key_result", "actions": ["*"]}]},
    {"scope": "manage:objectives", "description": "Change objectives", "read_only": false, "permissions": [{"resource_id": "objective", "actions": ["*"]}]}]}`

const (
	okrMCP      = "https://okr.example.test/mcp"
	okrCallback = "https://app.example.test/callback"
	allOKRs     = "read:okrs report_kr_status manage:krs manage:objectives"
)

// office is a B2B project with a connected app.
type office struct {
	*servertest.Server
	app oauth.Client
}

func newOffice(t *testing.T, postgres bool, settings func(*project.Settings)) *office {
	t.Helper()
	o := &office{Server: servertest.New(t, servertest.Config{Postgres: postgres, Vertical: project.B2B, Settings: settings})}
	policy, err := rbac.Parse([]byte(okrPolicy))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.People.ApplyPolicy(t.Context(), o.Project.ID, policy, o.event(audit.PolicyApplied)); err != nil {
		t.Fatal(err)
	}
	_, _, err = o.Projects.AddResource(t.Context(), o.Project, project.Resource{URI: okrMCP, Name: "OKR", Scopes: strings.Fields(allOKRs)}, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	o.Follow(t)
	o.Ready(t)
	o.app, _ = o.AddClient(t, oauth.NewClient{Name: "Claude", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{okrCallback}})
	return o
}

func eachOffice(t *testing.T, settings func(*project.Settings), test func(t *testing.T, o *office)) {
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		t.Run(name, func(t *testing.T) { test(t, newOffice(t, name == "PostgreSQL", settings)) })
	}
}

func (o *office) event(kind audit.Kind) audit.Event {
	return audit.Event{ProjectID: o.Project.ID, At: o.Clock.Now(), Kind: kind, Actor: "operator"}
}

func (o *office) organization(t *testing.T, name string, change func(*identity.OrganizationSettings)) identity.Organization {
	t.Helper()
	settings := identity.DefaultOrganization()
	if change != nil {
		change(&settings)
	}
	made, err := o.People.CreateOrganization(t.Context(), o.Project, identity.Organization{Name: name, Settings: settings}, o.event(""))
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func (o *office) member(t *testing.T, in identity.Organization, email string, roles ...string) identity.Member {
	t.Helper()
	m, err := o.People.AddMember(t.Context(), o.Project, in, identity.Member{Email: email, Status: identity.Invited, Roles: roles}, o.event(""))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func (o *office) request(changes ...string) url.Values {
	v := url.Values{
		"response_type": {"code"}, "client_id": {o.app.ID}, "redirect_uri": {okrCallback}, "scope": {allOKRs}, "state": {"s"},
		"resource": {okrMCP}, "code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
	}
	for i := 0; i < len(changes); i += 2 {
		v.Set(changes[i], changes[i+1])
	}
	return v
}

var openBox = regexp.MustCompile(`<input type="checkbox" name="allow" value="([^"]+)"[^>]*>`)

// boxes are the scopes of a consent page that can be ticked, and those that
// cannot.
func boxes(p servertest.Page) (open, closed []string) {
	for _, m := range openBox.FindAllStringSubmatch(p.Body, -1) {
		if strings.Contains(m[0], "disabled") {
			closed = append(closed, m[1])
		} else {
			open = append(open, m[1])
		}
	}
	return open, closed
}

func shows(t *testing.T, p servertest.Page, status int, texts ...string) {
	t.Helper()
	plain := regexp.MustCompile(`<[^>]+>`).ReplaceAllString(p.Body, "")
	if p.Status != status {
		t.Errorf("status %d, want %d", p.Status, status)
	}
	for _, text := range texts {
		if !strings.Contains(plain, text) {
			t.Errorf("the page does not say %q:\n%s", text, plain)
		}
	}
}

// Three roles see three consent pages, and the token has what the role covers.
// Row: O03.
func TestMembersConsent(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		fennel := o.organization(t, "Fennel Labs", nil)
		for _, test := range []struct {
			email, role, title string
			open               int
			reason             string
		}{
			{"eve@example.test", "", "Member", 2, "Your role, Member, does not include create and delete of key result."},
			{"max@example.test", "manager", "Manager", 3, "Your role, Manager, does not include create, update and delete of objective."},
			{"ada@example.test", "admin", "Admin", 4, ""},
		} {
			t.Run(test.title, func(t *testing.T) {
				var roles []string
				if test.role != "" {
					roles = []string{test.role}
				}
				m := o.member(t, fennel, test.email, roles...)
				b := o.Browser(t)
				page := b.SignIn(t, b.Authorize(t, o.request()), test.email)
				shows(t, page, http.StatusOK, "Claude wants to act for you in Notes", "Fennel Labs", "Your role: "+test.title, test.reason)
				open, closed := boxes(page)
				if len(open) != test.open || len(open)+len(closed) != 4 {
					t.Fatalf("can tick %v, cannot %v", open, closed)
				}
				// What is greyed does not come by posting it.
				to := b.Submit(t, page, "allow", url.Values{"action": {"allow"}, "allow": strings.Fields(allOKRs)}).Answer(t)
				code := to.Query().Get("code")
				if code == "" {
					t.Fatalf("no code: %s", to)
				}
				kept, err := o.Store.ConnectedApps(t.Context(), o.Project.ID, m.ID, fennel.ID, o.Clock.Now())
				if err != nil || len(kept) != 1 || kept[0].Grant.Organization != fennel.ID {
					t.Fatalf("%+v, %v", kept, err)
				}
				allowed := 0
				for _, s := range kept[0].Scopes {
					if s.Allowed {
						allowed++
					}
				}
				if allowed != test.open {
					t.Errorf("%d scopes are allowed", allowed)
				}
			})
		}
	})
}

// Where a role permits nothing of what is asked there is nothing to tick, and
// nothing to press but Deny.
func TestConsentToNothing(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		o.member(t, o.organization(t, "Fennel Labs", nil), "eve@example.test")
		b := o.Browser(t)
		page := b.SignIn(t, b.Authorize(t, o.request("scope", "manage:krs manage:objectives")), "eve@example.test")
		shows(t, page, http.StatusOK, "Claude wants to act for you in Notes", "Your role permits none of this. Ask an administrator of Fennel Labs.", "Deny")
		if strings.Contains(page.Body, `value="allow"`) || strings.Contains(page.Body, "You are allowing") {
			t.Errorf("the page offers to allow nothing:\n%s", page.Body)
		}
		to := b.Submit(t, page, "page", url.Values{"action": {"deny"}}).Answer(t)
		if got := to.Query().Get("error"); got != "access_denied" {
			t.Errorf("Deny answers %s", to)
		}
	})
}

// Discovery: where a proved address belongs, is invited, may join or can make
// one of its own. Row: O02.
func TestDiscovery(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		fennel := o.organization(t, "Fennel Labs", nil)
		o.member(t, fennel, "ada@example.test")
		quarry := o.organization(t, "Quarry Lane", nil)
		o.member(t, quarry, "ada@example.test", "manager")
		o.organization(t, "Domain House", func(s *identity.OrganizationSettings) {
			s.AllowedDomains, s.Provisioning = []string{"example.test"}, true
		})
		strange := o.organization(t, "Strange", nil)
		strict := fennel // as one may be that was made before such a one was refused
		strict.ID, strict.Name, strict.Slug = fennel.ID+"-strict", "Strict", "strict"
		strict.Settings.Methods, strict.Settings.AllowedMethods = identity.Listed, []string{identity.MethodSSO}
		if err := o.Store.CreateOrganization(t.Context(), strict, o.event(audit.OrganizationCreated)); err != nil {
			t.Fatal(err)
		}
		invites := strict
		invites.Settings = fennel.Settings
		o.member(t, invites, "ada@example.test")

		b := o.Browser(t)
		page := b.SignIn(t, b.Authorize(t, o.request()), "ada@example.test")
		shows(t, page, http.StatusOK, "Choose an organization", "Claude will act for you inside this organization only.",
			"Fennel Labs", "Quarry Lane", "You are invited", "Domain House", "Open to everybody with your e-mail domain", "Asks for another way to sign in")
		if strings.Contains(page.Body, "Strange") {
			t.Error("a stranger's organization is shown")
		}
		flow := page
		t.Run("an organization of somebody else's", func(t *testing.T) {
			for name, id := range map[string]string{"strange": strange.ID, "none": "organization-test-none", "empty": ""} {
				p := b.Submit(t, flow, "organization", url.Values{"organization": {id}})
				if p.Status != http.StatusForbidden {
					t.Errorf("%s: %d", name, p.Status)
				}
			}
			shows(t, b.Submit(t, flow, "organization", url.Values{"organization": {strict.ID}}), http.StatusForbidden, "asks for another way to sign in")
		})
		page = b.Submit(t, flow, "organization", url.Values{"organization": {quarry.ID}})
		shows(t, page, http.StatusOK, "Quarry Lane", "Your role: Manager")
		if open, _ := boxes(page); len(open) != 3 {
			t.Errorf("can tick %v", open)
		}
		t.Run("changing the organization asks again, for the other one", func(t *testing.T) {
			chooser := b.Get(t, page.URL.Path+"/organization")
			shows(t, chooser, http.StatusOK, "Choose an organization")
			o.Clock.Advance(time.Second)
			other := b.Submit(t, chooser, "organization", url.Values{"organization": {fennel.ID}})
			shows(t, other, http.StatusOK, "Fennel Labs", "Your role: Member")
			// The page of the first organization is worth nothing now.
			if p := b.Submit(t, page, "allow", url.Values{"action": {"allow"}}); p.Status != http.StatusForbidden {
				t.Errorf("allowed for an organization that was left: %d", p.Status)
			}
			if to := b.Allow(t, other); to.Query().Get("code") == "" {
				t.Errorf("no code: %s", to)
			}
		})
		t.Run("an app that asks to choose leads to the choice, without a new proof", func(t *testing.T) {
			page := b.Authorize(t, o.request("prompt", "select_account"))
			shows(t, page, http.StatusOK, "Choose an organization", "Fennel Labs", "Quarry Lane")
			page = b.Submit(t, page, "organization", url.Values{"organization": {quarry.ID}})
			shows(t, page, http.StatusOK, "Quarry Lane", "Your role: Manager")
			o.Clock.Advance(time.Second)
			page = b.Submit(t, b.Authorize(t, o.request("prompt", "select_account")), "organization", url.Values{"organization": {fennel.ID}})
			shows(t, page, http.StatusOK, "Fennel Labs")
			shows(t, b.Authorize(t, o.request("prompt", "login select_account")), http.StatusOK, "Send me a code")
		})
		t.Run("the last one is remembered", func(t *testing.T) {
			o.Clock.Advance(time.Minute)
			page := b.Authorize(t, o.request("prompt", "consent"))
			shows(t, page, http.StatusOK, "Fennel Labs")
			again := o.Browser(t)
			page = again.SignIn(t, again.Authorize(t, o.request()), "ada@example.test")
			plain := page.Body
			if strings.Index(plain, "Fennel Labs") > strings.Index(plain, "Quarry Lane") || !strings.Contains(plain, "Choose an organization") {
				t.Errorf("the last organization is not the first:\n%s", plain)
			}
		})
	})
}

func TestMakeOrganization(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		b := o.Browser(t)
		page := b.SignIn(t, b.Get(t, "/login"), "new@example.test")
		shows(t, page, http.StatusOK, "Make your organization")
		shows(t, b.Submit(t, page, "name", url.Values{"name": {" \u202e "}}), http.StatusUnprocessableEntity, "Enter a name")
		made := b.Submit(t, page, "name", url.Values{"name": {"Ada’s Works"}})
		shows(t, made, http.StatusOK, "My connected apps")
		found, err := o.People.Organizations(t.Context(), o.Project.ID, "", "", 10)
		if err != nil || len(found) != 1 || found[0].Name != "Ada’s Works" || !strings.HasPrefix(found[0].Slug, "ada-s-works-") {
			t.Fatalf("%+v, %v", found, err)
		}
		members, err := o.People.Members(t.Context(), found[0], identity.MemberQuery{Limit: 10})
		if err != nil || len(members) != 1 || members[0].Email != "new@example.test" || members[0].Roles[0] != rbac.RoleAdmin {
			t.Fatalf("%+v, %v", members, err)
		}
		t.Run("a few a day", func(t *testing.T) {
			var last servertest.Page
			for i := range identity.OrganizationsADay {
				last = b.Submit(t, b.Get(t, "/switch-organization"), "name", url.Values{"name": {fmt.Sprint("More ", i)}})
			}
			shows(t, last, http.StatusUnprocessableEntity, "several organizations today")
		})
	})
	t.Run("not where the project forbids it", func(t *testing.T) {
		o := newOffice(t, false, func(s *project.Settings) { s.OrganizationCreation = false })
		b := o.Browser(t)
		page := b.SignIn(t, b.Get(t, "/login"), "new@example.test")
		shows(t, page, http.StatusOK, "No organization yet", "Ask the administrator of yours for an invitation.")
		if p := b.Submit(t, page, "csrf", url.Values{"action": {"create"}, "name": {"Forged"}}); p.Status != http.StatusForbidden {
			t.Errorf("made one: %d", p.Status)
		}
	})
}

// An organization decides which connected apps its members may let in.
func TestOrganizationsApps(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		none := func(s *identity.OrganizationSettings) { s.ThirdParty.Allowed = identity.None }
		harbour := o.organization(t, "Harbour Trust", none)
		o.member(t, harbour, "eve@example.test")
		o.member(t, harbour, "ada@example.test")
		fennel := o.organization(t, "Fennel Labs", func(s *identity.OrganizationSettings) {
			s.ThirdParty = identity.AppPolicy{Allowed: identity.Listed, Listed: []string{o.app.ID}}
		})
		o.member(t, fennel, "ada@example.test")

		b := o.Browser(t)
		page := b.SignIn(t, b.Authorize(t, o.request()), "eve@example.test")
		shows(t, page, http.StatusForbidden, "Your organization does not allow Claude")
		others := b.Get(t, page.Link(t, "See your organizations"))
		shows(t, others, http.StatusOK, "Harbour Trust", "Does not allow Claude. Ask its administrator.", "Not you?")

		two := o.Browser(t)
		page = two.SignIn(t, two.Authorize(t, o.request()), "ada@example.test")
		shows(t, page, http.StatusOK, "Does not allow Claude. Ask its administrator.")
		page = two.Submit(t, page, "organization", url.Values{"organization": {fennel.ID}})
		shows(t, page, http.StatusOK, "Claude wants to act for you")
		if to := two.Allow(t, page); to.Query().Get("code") == "" {
			t.Errorf("no code: %s", to)
		}
		if _, err := o.People.ChangeOrganization(t.Context(), o.Project, fennel.ID, func(f *identity.Organization) error {
			f.Settings.ThirdParty.Allowed = identity.None
			return nil
		}, o.event("")); err != nil {
			t.Fatal(err)
		}
		page = two.Authorize(t, o.request("scope", "read:okrs"))
		shows(t, page, http.StatusForbidden, "Your organization does not allow Claude")
	})
}

func TestMembersOwnPage(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		fennel, quarry := o.organization(t, "Fennel Labs", nil), o.organization(t, "Quarry Lane", nil)
		for _, in := range []identity.Organization{fennel, quarry} {
			o.member(t, in, "ada@example.test")
		}
		b := o.Browser(t)
		page := b.SignIn(t, b.Authorize(t, o.request()), "ada@example.test")
		b.Allow(t, b.Submit(t, page, "organization", url.Values{"organization": {fennel.ID}}))
		shows(t, b.Get(t, "/connected-apps"), http.StatusOK, "Claude", "They can act for you in Fennel Labs")
		t.Run("another organization has its own", func(t *testing.T) {
			page := b.Submit(t, b.Get(t, "/switch-organization"), "organization", url.Values{"organization": {quarry.ID}})
			shows(t, page, http.StatusOK, "No connected apps")
		})
		t.Run("signed out by an administrator, a proof from before opens nothing", func(t *testing.T) {
			o.Clock.Advance(time.Minute)
			ada, err := o.People.Member(t.Context(), fennel, "ada@example.test")
			if err != nil {
				t.Fatal(err)
			}
			first := b
			b = o.Browser(t)
			p := b.SignIn(t, b.Get(t, "/login"), "ada@example.test")
			b.Submit(t, p, "organization", url.Values{"organization": {quarry.ID}})
			if n, err := o.People.SignOutMember(t.Context(), ada, o.event("")); err != nil || n == 0 {
				t.Fatalf("%d, %v", n, err)
			}
			shows(t, first.Get(t, "/connected-apps"), http.StatusOK, "Send me a code")
			shows(t, b.Get(t, "/connected-apps"), http.StatusOK, "Quarry Lane", "No connected apps")
			p = b.Submit(t, b.Get(t, "/switch-organization"), "organization", url.Values{"organization": {fennel.ID}})
			shows(t, p, http.StatusOK, "Send me a code")
			o.Clock.Advance(time.Minute)
			p = b.SignIn(t, p, "ada@example.test")
			p = b.Submit(t, p, "organization", url.Values{"organization": {fennel.ID}})
			shows(t, p, http.StatusOK, "They can act for you in Fennel Labs")
		})
		t.Run("signing out everywhere ends every browser", func(t *testing.T) {
			o.Clock.Advance(time.Minute)
			other := o.Browser(t)
			p := other.SignIn(t, other.Get(t, "/login"), "ada@example.test")
			other.Submit(t, p, "organization", url.Values{"organization": {quarry.ID}})
			o.Clock.Advance(time.Minute)
			choosing := o.Browser(t)
			choosing.SignIn(t, choosing.Get(t, "/login"), "ada@example.test")
			b.Submit(t, b.Get(t, "/connected-apps"), "action", url.Values{"action": {"sign_out_everywhere"}})
			for _, browser := range []*servertest.Browser{b, other, choosing} {
				shows(t, browser.Get(t, "/connected-apps"), http.StatusOK, "Send me a code")
			}
		})
	})
}

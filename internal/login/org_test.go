package login_test

import (
	"cmp"
	"database/sql"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/servertest"
)

// database reads what the office's server keeps. t is that of the office.
func (o *office) database(t *testing.T) *sql.DB {
	t.Helper()
	if strings.HasSuffix(t.Name(), "PostgreSQL") {
		return o.SQL(t)
	}
	files, err := filepath.Glob(filepath.Join(filepath.Dir(t.TempDir()), "*", "postern.db"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	db, err := sql.Open("sqlite", "file:"+files[0]+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() }) // it was read only
	return db
}

// texts are the rows of a query with one column.
func texts(t *testing.T, db *sql.DB, query string) []string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	var all []string
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		all = append(all, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// refusals returns a function that lists what was refused since its last call.
func (o *office) refusals(t *testing.T) func() []string {
	db, seen := o.database(t), map[string]bool{}
	return func() []string {
		fresh := []string{}
		for _, text := range texts(t, db, "SELECT id || ' ' || kind || ': ' || reason FROM event WHERE refused") {
			if id, what, _ := strings.Cut(text, " "); !seen[id] {
				seen[id], fresh = true, append(fresh, what)
			}
		}
		return fresh
	}
}

// signIn types an address and the newest code for it, which is on its way
// beside the answer.
func (o *office) signIn(t *testing.T, b *servertest.Browser, p servertest.Page, email string) servertest.Page {
	t.Helper()
	codes := func() (n int) {
		for _, m := range o.Mail.Mails() {
			if strings.EqualFold(m.To, email) && strings.Contains(m.Subject, "code") {
				n++
			}
		}
		return n
	}
	before := codes()
	p = b.Submit(t, p, "email", url.Values{"email": {email}})
	for range 500 {
		if codes() > before {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return b.Submit(t, p, "code", url.Values{"code": {o.Code(t, email)}})
}

// inside signs a member in and opens a page about their organization.
func (o *office) inside(t *testing.T, in identity.Organization, email, page string) (*servertest.Browser, servertest.Page) {
	t.Helper()
	o.Clock.Advance(13 * time.Minute) // five mails an hour go to one address
	b := o.Browser(t)
	p := o.signIn(t, b, b.Get(t, page), email)
	if strings.Contains(p.Body, "Choose an organization") {
		p = b.Submit(t, p, "organization", url.Values{"organization": {in.ID}})
	}
	if p.URL.Path != page {
		t.Fatalf("%s is at %s, not %s:\n%s", email, p.URL, page, p.Body)
	}
	return b, p
}

func (o *office) now(t *testing.T, in identity.Organization) identity.Organization {
	t.Helper()
	found, err := o.People.Organization(t.Context(), o.Project.ID, in.ID)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (o *office) memberNow(t *testing.T, m identity.Member) identity.Member {
	t.Helper()
	found, err := o.Store.Member(t.Context(), o.Project.ID, m.OrganizationID, m.ID)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// roles gives the organization roles of its own.
func (o *office) roles(t *testing.T, in identity.Organization, roles ...rbac.Role) identity.Organization {
	t.Helper()
	with, err := o.People.ChangeOrganization(t.Context(), o.Project, in.ID, func(now *identity.Organization) error {
		now.Roles = roles
		return nil
	}, o.event(""))
	if err != nil {
		t.Fatal(err)
	}
	return with
}

func role(id, resource string, actions ...string) rbac.Role {
	return rbac.Role{ID: id, Permissions: []rbac.Permission{{Resource: resource, Actions: actions}}}
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

// post sends a form of one's own making with the token of a page.
func post(t *testing.T, b *servertest.Browser, p servertest.Page, path string, form url.Values) servertest.Page {
	t.Helper()
	m := csrfField.FindStringSubmatch(p.Body)
	if m == nil {
		t.Fatalf("no form on %s:\n%s", p.URL, p.Body)
	}
	form.Set("csrf", m[1])
	return b.Post(t, path, form)
}

const settingsPage, membersPage, orgAppsPage = "/organization", "/organization/members", "/organization/connected-apps"

func TestOrganizationPagesAskWhoIsThere(t *testing.T) {
	o := newOffice(t, false, nil)
	fennel := o.organization(t, "Fennel Labs", nil)
	o.member(t, fennel, "eve@example.test")
	for _, page := range []string{settingsPage, membersPage, orgAppsPage} {
		t.Run("to sign-in and back: "+page, func(t *testing.T) {
			_, p := o.inside(t, fennel, "eve@example.test", page)
			if !strings.Contains(p.Body, `aria-current="page"`) || !strings.Contains(p.Body, "Fennel Labs") {
				t.Errorf("not the page:\n%s", p.Body)
			}
		})
	}
	t.Run("a form of nobody changes nothing", func(t *testing.T) {
		shows(t, o.Browser(t).Post(t, settingsPage, url.Values{"section": {"info"}, "name": {"Stolen"}}), http.StatusOK, "Send me a code")
	})
	t.Run("a form without this session's token is refused", func(t *testing.T) {
		b, _ := o.inside(t, fennel, "eve@example.test", settingsPage)
		_, other := o.inside(t, fennel, "eve@example.test", settingsPage)
		form := url.Values{"section": {"info"}, "csrf": {csrfField.FindStringSubmatch(other.Body)[1]}}
		if p := b.Post(t, settingsPage, form); p.Status != http.StatusForbidden {
			t.Errorf("status %d", p.Status)
		}
	})
	t.Run("a consumer project has none", func(t *testing.T) {
		consumer := servertest.New(t, servertest.Config{})
		for _, page := range []string{settingsPage, membersPage, orgAppsPage} {
			if p := consumer.Browser(t).Get(t, page); p.Status != http.StatusNotFound {
				t.Errorf("%s: %d", page, p.Status)
			}
		}
	})
}

// Each field of the settings has an action of its own: who has it changes the
// field, who has not sees it greyed and is refused.
func TestOrganizationSettings(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		refusals := o.refusals(t)
		fields := []struct {
			action, section string
			form            url.Values
			kept            func(identity.Organization) bool
		}{
			{"update.info.name", "info", url.Values{"name": {"Fennel & Sons"}}, func(n identity.Organization) bool { return n.Name == "Fennel & Sons" }},
			{"update.info.slug", "info", url.Values{"slug": {"fennel"}}, func(n identity.Organization) bool { return n.Slug == "fennel" }},
			{"update.settings.allowed-domains", "people", url.Values{"domains": {"Fennel.example\r\n"}}, func(n identity.Organization) bool {
				return slices.Equal(n.Settings.AllowedDomains, []string{"fennel.example"})
			}},
			{"update.settings.email-jit-provisioning", "people", url.Values{"provisioning": {"on"}}, func(n identity.Organization) bool { return n.Settings.Provisioning }},
			{"update.settings.email-invites", "people", url.Values{"invitations": {"listed"}}, func(n identity.Organization) bool { return n.Settings.Invitations == identity.Listed }},
			{"update.settings.allowed-auth-methods", "people", url.Values{"methods": {"email_code"}}, func(n identity.Organization) bool {
				return n.Settings.Methods == identity.Listed && slices.Equal(n.Settings.AllowedMethods, []string{"email_code"})
			}},
			{
				"update.settings.connected-apps", "apps",
				url.Values{"first_party": {"none"}, "third_party": {"listed"}, "third_party_app": {o.app.ID}, "third_party_ids": {"one two\r\none"}},
				func(n identity.Organization) bool {
					return n.Settings.FirstParty.Allowed == identity.None && n.Settings.ThirdParty.Allowed == identity.Listed &&
						slices.Equal(n.Settings.ThirdParty.Listed, []string{o.app.ID, "one", "two"})
				},
			},
		}
		fennel := o.organization(t, "Fennel Labs", func(s *identity.OrganizationSettings) { s.AllowedDomains = []string{"old.example"} })
		var roles []rbac.Role
		for i, f := range fields {
			roles = append(roles, role(fmt.Sprint("can_", i), "organization", f.action))
			o.member(t, fennel, fmt.Sprintf("can%d@fennel.example", i))
		}
		fennel = o.roles(t, fennel, roles...)
		o.member(t, fennel, "eve@fennel.example")
		for i, f := range fields {
			t.Run(f.action, func(t *testing.T) {
				m, err := o.People.Member(t.Context(), fennel, fmt.Sprintf("can%d@fennel.example", i))
				if err != nil {
					t.Fatal(err)
				}
				if _, err := o.People.ChangeMember(t.Context(), o.Project, fennel, m.ID, func(m *identity.Member) error {
					m.Roles = []string{roles[i].ID}
					return nil
				}, o.event("")); err != nil {
					t.Fatal(err)
				}
				now := o.now(t, fennel)
				f.form.Set("section", f.section)
				f.form.Set("version", fmt.Sprint(now.Version))

				other := fields[(i+1)%len(fields)]
				for _, no := range []string{"eve@fennel.example", fmt.Sprintf("can%d@fennel.example", (i+1)%len(fields))} {
					if no != "eve@fennel.example" && other.action == f.action {
						continue
					}
					b, page := o.inside(t, fennel, no, settingsPage)
					shows(t, page, http.StatusOK, "does not include "+f.action+" of organization.")
					shows(t, post(t, b, page, settingsPage, f.form), http.StatusForbidden, "You may not do that here")
					if got := refusals(); !slices.Equal(got, []string{"organization.changed: no permission"}) {
						t.Errorf("events %q", got)
					}
				}
				if after := o.now(t, fennel); after.Version != now.Version {
					t.Fatalf("changed: %+v", after)
				}

				b, page := o.inside(t, fennel, m.Email, settingsPage)
				if strings.Contains(page.Body, "does not include "+f.action+" of") {
					t.Errorf("greyed:\n%s", page.Body)
				}
				shows(t, post(t, b, page, settingsPage, f.form), http.StatusOK, "Saved.")
				if after := o.now(t, fennel); !f.kept(after) {
					t.Errorf("kept: %+v", after)
				}
			})
		}
	})
}

func TestOrganizationSettingsRefuse(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		refusals := o.refusals(t)
		fennel, quarry := o.organization(t, "Fennel Labs", nil), o.organization(t, "Quarry Lane", nil)
		o.member(t, fennel, "ada@fennel.example", "admin")
		o.member(t, fennel, "bob@gmail.com", "admin")
		b, page := o.inside(t, fennel, "ada@fennel.example", settingsPage)
		form := func(section string, pairs ...string) url.Values {
			v := url.Values{"section": {section}, "version": {fmt.Sprint(o.now(t, fennel).Version)}}
			for i := 0; i < len(pairs); i += 2 {
				v.Set(pairs[i], pairs[i+1])
			}
			return v
		}
		t.Run("what breaks a rule, and the form stands as it was sent", func(t *testing.T) {
			p := post(t, b, page, settingsPage, form("info", "slug", "With Blanks"))
			shows(t, p, http.StatusUnprocessableEntity, "Nothing was changed.", "The name must have", "The slug must have")
			if !strings.Contains(p.Body, `value="With Blanks"`) {
				t.Error("what was typed is gone")
			}
			shows(t, post(t, b, page, settingsPage, form("info", "name", "Fennel", "slug", quarry.Slug)), http.StatusUnprocessableEntity, "This slug is taken.")
			shows(t, post(t, b, page, settingsPage, form("people", "provisioning", "on", "invitations", "all")), http.StatusUnprocessableEntity, "needs an allowed domain")
			shows(t, post(t, b, page, settingsPage, form("people", "invitations", "some")), http.StatusUnprocessableEntity, "choose all, listed or none")
			shows(t, post(t, b, page, settingsPage, form("elsewhere", "name", "x")), http.StatusForbidden)
		})
		// Row: O15.
		t.Run("a domain that is not the member's own", func(t *testing.T) {
			refusals()
			shows(t, post(t, b, page, settingsPage, form("people", "domains", "fennel.example victim.example", "invitations", "all")), http.StatusForbidden, "You can add only fennel.example")
			if got := refusals(); !slices.Equal(got, []string{"organization.changed: not the member's own domain"}) {
				t.Errorf("events %q", got)
			}
			two, other := o.inside(t, fennel, "bob@gmail.com", settingsPage)
			shows(t, post(t, two, other, settingsPage, form("people", "domains", "gmail.com", "invitations", "all")), http.StatusUnprocessableEntity, "belongs to everybody")
			if now := o.now(t, fennel); len(now.Settings.AllowedDomains) != 0 {
				t.Errorf("kept %v", now.Settings.AllowedDomains)
			}
		})
		t.Run("a change that somebody else's came before", func(t *testing.T) {
			old := form("info", "name", "Mine", "slug", "mine")
			shows(t, post(t, b, page, settingsPage, form("info", "name", "Theirs", "slug", "theirs")), http.StatusOK, "Saved.")
			shows(t, post(t, b, page, settingsPage, old), http.StatusConflict, "Somebody else changed the settings")
			if now := o.now(t, fennel); now.Name != "Theirs" {
				t.Errorf("kept %q", now.Name)
			}
		})
		t.Run("ways to sign in that are listed one by one stay as they are", func(t *testing.T) {
			both := identity.SignInMethods()
			if _, err := o.People.ChangeOrganization(t.Context(), o.Project, fennel.ID, func(n *identity.Organization) error {
				n.Settings.Methods, n.Settings.AllowedMethods = identity.Listed, both
				return nil
			}, o.event("")); err != nil {
				t.Fatal(err)
			}
			checked := regexp.MustCompile(`name="methods" value="([^"]*)" checked`).FindStringSubmatch(b.Get(t, settingsPage).Body)
			if checked == nil {
				t.Fatal("no way to sign in is chosen")
			}
			shows(t, post(t, b, page, settingsPage, form("people", "domains", "fennel.example", "invitations", "all", "methods", checked[1])), http.StatusOK, "Saved.")
			if now := o.now(t, fennel).Settings; now.Methods != identity.Listed || !slices.Equal(now.AllowedMethods, both) || len(now.AllowedDomains) != 1 {
				t.Errorf("kept %+v", now)
			}
		})
		t.Run("another organization has settings of its own", func(t *testing.T) {
			if now := o.now(t, quarry); now.Version != 1 {
				t.Errorf("changed: %+v", now)
			}
		})
	})
}

// invited waits for the mail with an invitation.
func (o *office) invited(t *testing.T, to string) string {
	t.Helper()
	for range 500 {
		for _, m := range o.Mail.Mails() {
			if strings.EqualFold(m.To, to) && strings.Contains(m.Subject, "invited") {
				return m.Subject + "\n" + m.Text
			}
		}
		time.Sleep(10 * time.Millisecond) // the queue sends beside the answer
	}
	t.Fatalf("no invitation to %s", to)
	return ""
}

func TestInvitations(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		refusals := o.refusals(t)
		fennel := o.organization(t, "Fennel https://evil.example Labs", nil)
		fennel = o.roles(t, fennel, role("greeter", "member", "create"), role("seer", "member", "search"))
		o.member(t, fennel, "ada@example.test", "admin")
		o.member(t, fennel, "gus@example.test", "greeter")
		o.member(t, fennel, "eve@example.test")
		for _, email := range []string{"gus@example.test", "eve@example.test"} {
			o.inside(t, fennel, email, membersPage) // their own invitations do not run out
		}
		b, page := o.inside(t, fennel, "ada@example.test", membersPage)
		invite := func(email string, roles ...string) url.Values {
			return url.Values{"action": {"invite"}, "email": {email}, "role": roles}
		}
		t.Run("by mail, and the address opens it", func(t *testing.T) {
			shows(t, post(t, b, page, membersPage, invite("Max@Example.Test", "manager")), http.StatusOK, "Invitation sent to Max@Example.Test")
			mail := o.invited(t, "Max@Example.Test")
			for _, want := range []string{"ada@example.test invites you", "we send a code to this mail address", "Notes", o.Issuer + "/switch-organization"} {
				if !strings.Contains(mail, want) {
					t.Errorf("the mail does not say %q:\n%s", want, mail)
				}
			}
			if strings.Contains(mail, "evil.example") {
				t.Errorf("an organization's name makes a link:\n%s", mail)
			}
			shows(t, post(t, b, page, membersPage, invite("max@example.test")), http.StatusUnprocessableEntity, "is invited already")
			max := o.Browser(t)
			p := o.signIn(t, max, max.Get(t, "/switch-organization"), "max@example.test")
			shows(t, p, http.StatusOK, "My connected apps")
			m, err := o.People.Member(t.Context(), fennel, "max@example.test")
			if err != nil || m.Status != identity.Active || !slices.Equal(m.Roles, []string{"manager"}) {
				t.Errorf("%+v, %v", m, err)
			}
		})
		// Row: O07.
		t.Run("to somebody else's address is worth nothing", func(t *testing.T) {
			post(t, b, page, membersPage, invite("zoe@example.test", "admin"))
			o.invited(t, "zoe@example.test")
			other := o.Browser(t)
			shows(t, o.signIn(t, other, other.Get(t, "/switch-organization"), "other@example.test"), http.StatusOK, "Make your organization")
		})
		// Row: O07.
		t.Run("that was taken back is dead, and one that ran out too, until it is renewed", func(t *testing.T) {
			for _, email := range []string{"back@example.test", "late@example.test"} {
				post(t, b, page, membersPage, invite(email))
			}
			back, _ := o.People.Member(t.Context(), fennel, "back@example.test")
			late, _ := o.People.Member(t.Context(), fennel, "late@example.test")
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"remove"}, "member": {back.ID}}), http.StatusOK, "is removed.")
			o.Clock.Advance(identity.InvitationLifetime)
			if _, err := o.People.ChangeMember(t.Context(), o.Project, fennel, late.ID, func(m *identity.Member) error {
				m.Name = "Late" // which sends no mail, and opens nothing
				return nil
			}, o.event("")); err != nil {
				t.Fatal(err)
			}
			for _, email := range []string{"back@example.test", "late@example.test"} {
				who := o.Browser(t)
				shows(t, o.signIn(t, who, who.Get(t, "/login"), email), http.StatusOK, "Make your organization")
			}
			b, page = o.inside(t, fennel, "ada@example.test", membersPage)
			shows(t, page, http.StatusOK, "Invitation ran out")
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"invite_again"}, "member": {late.ID}}), http.StatusOK, "Invitation sent to late@example.test")
			o.Clock.Advance(time.Minute)
			who := o.Browser(t)
			shows(t, o.signIn(t, who, who.Get(t, "/login"), "late@example.test"), http.StatusOK, "My connected apps")
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"invite_again"}, "member": {late.ID}}), http.StatusUnprocessableEntity, "came already")
		})
		// Row: O05. Row: O07.
		t.Run("with more than the inviter has is refused", func(t *testing.T) {
			gus, its := o.inside(t, fennel, "gus@example.test", membersPage)
			refusals()
			shows(t, its, http.StatusOK, "It permits more than your own roles.")
			for _, beyond := range []string{"admin", "manager", "seer"} {
				if p := post(t, gus, its, membersPage, invite("evil@example.test", beyond)); p.Status != http.StatusForbidden {
					t.Errorf("%s: %d", beyond, p.Status)
				}
			}
			if got := refusals(); len(got) != 3 || got[0] != "member.invited: no permission" {
				t.Errorf("events %q", got)
			}
			shows(t, post(t, gus, its, membersPage, invite("evil@example.test", "none_such")), http.StatusUnprocessableEntity, "There is no role")
			if _, err := o.People.Member(t.Context(), fennel, "evil@example.test"); err == nil {
				t.Error("invited")
			}
			shows(t, post(t, gus, its, membersPage, invite("peer@example.test", "greeter")), http.StatusOK) // the list is not theirs to see
			if m, err := o.People.Member(t.Context(), fennel, "peer@example.test"); err != nil || !slices.Equal(m.Roles, []string{"greeter"}) {
				t.Errorf("%+v, %v", m, err)
			}
		})
		t.Run("without member:create is refused", func(t *testing.T) {
			eve, its := o.inside(t, fennel, "eve@example.test", membersPage)
			refusals()
			shows(t, its, http.StatusOK, "does not include create of member.")
			shows(t, post(t, eve, its, membersPage, invite("evil@example.test")), http.StatusForbidden, "You may not do that here")
			if got := refusals(); !slices.Equal(got, []string{"member.invited: no permission"}) {
				t.Errorf("events %q", got)
			}
		})
		t.Run("to what is no address", func(t *testing.T) {
			for _, bad := range []string{"", "ada", "a b@example.test", "a@example.test\nBcc: b@example.test"} {
				shows(t, post(t, b, page, membersPage, invite(bad)), http.StatusUnprocessableEntity, "Enter an e-mail address")
			}
		})
		t.Run("as far as the organization invites", func(t *testing.T) {
			set := func(extent identity.Extent) {
				if _, err := o.People.ChangeOrganization(t.Context(), o.Project, fennel.ID, func(now *identity.Organization) error {
					now.Settings.Invitations, now.Settings.AllowedDomains = extent, []string{"house.example"}
					return nil
				}, o.event("")); err != nil {
					t.Fatal(err)
				}
			}
			set(identity.Listed)
			shows(t, post(t, b, page, membersPage, invite("a@example.test")), http.StatusUnprocessableEntity, "invites only addresses of house.example.")
			shows(t, post(t, b, page, membersPage, invite("a@house.example")), http.StatusOK, "Invitation sent")
			set(identity.None)
			shows(t, post(t, b, page, membersPage, invite("b@house.example")), http.StatusUnprocessableEntity, "invites nobody.")
			m, _ := o.People.Member(t.Context(), fennel, "a@house.example")
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"invite_again"}, "member": {m.ID}}), http.StatusUnprocessableEntity, "invites nobody.")
			set(identity.All)
		})
		t.Run("so many an hour to one address", func(t *testing.T) {
			o.Clock.Advance(time.Hour)
			post(t, b, page, membersPage, invite("often@example.test"))
			m, err := o.People.Member(t.Context(), fennel, "often@example.test")
			if err != nil {
				t.Fatal(err)
			}
			again := url.Values{"action": {"invite_again"}, "member": {m.ID}}
			for range identity.InvitedAnHour - 1 {
				shows(t, post(t, b, page, membersPage, again), http.StatusOK, "Invitation sent")
			}
			shows(t, post(t, b, page, membersPage, again), http.StatusUnprocessableEntity, "Too many invitations within an hour")
		})
		t.Run("so many an hour", func(t *testing.T) {
			o.Clock.Advance(time.Hour)
			var last servertest.Page
			for i := range identity.InvitationsAnHour + 1 {
				last = post(t, b, page, membersPage, invite(fmt.Sprintf("many%d@example.test", i)))
			}
			shows(t, last, http.StatusUnprocessableEntity, "Too many invitations within an hour")
		})
	})
}

func TestMembersOfAnOrganization(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		refusals := o.refusals(t)
		fennel, quarry := o.organization(t, "Fennel Labs", nil), o.organization(t, "Quarry Lane", nil)
		deeds := map[string]string{"roles": "update.settings.roles", "remove": "delete", "sign_out": "revoke-sessions", "restore": "create", "invite_again": "create"}
		var roles []rbac.Role
		for _, action := range []string{"update.settings.roles", "delete", "revoke-sessions", "create", "search"} {
			id := strings.NewReplacer(".", "_", "-", "_").Replace(action)
			roles = append(roles, role(id, "member", action))
			o.member(t, fennel, id+"@example.test")
		}
		fennel = o.roles(t, fennel, roles...)
		for _, r := range roles {
			m, err := o.People.Member(t.Context(), fennel, r.ID+"@example.test")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := o.People.ChangeMember(t.Context(), o.Project, fennel, m.ID, func(m *identity.Member) error {
				m.Roles, m.Status = []string{r.ID}, identity.Active
				return nil
			}, o.event("")); err != nil {
				t.Fatal(err)
			}
		}
		ada := o.member(t, fennel, "ada@example.test", "admin")
		eve := o.member(t, fennel, "eve@example.test")
		stranger := o.member(t, quarry, "quinn@example.test")
		b, page := o.inside(t, fennel, "ada@example.test", membersPage)

		t.Run("each deed has its action", func(t *testing.T) {
			for _, do := range slices.Sorted(maps.Keys(deeds)) {
				action := deeds[do]
				form := func() url.Values { return url.Values{"action": {do}, "member": {eve.ID}} }
				if do == "restore" {
					if _, err := o.People.ChangeMember(t.Context(), o.Project, fennel, eve.ID, func(m *identity.Member) error {
						m.Status = identity.Deleted
						return nil
					}, o.event("")); err != nil {
						t.Fatal(err)
					}
				} else if now := o.memberNow(t, eve); now.Status != identity.Invited {
					if _, err := o.People.ChangeMember(t.Context(), o.Project, fennel, eve.ID, func(m *identity.Member) error {
						m.Status = identity.Invited
						return nil
					}, o.event("")); err != nil {
						t.Fatal(err)
					}
				}
				for _, r := range roles {
					who, its := o.inside(t, fennel, r.ID+"@example.test", membersPage)
					refusals()
					p, want := post(t, who, its, membersPage, form()), http.StatusForbidden
					if r.Permissions[0].Actions[0] == action {
						want = http.StatusOK
					}
					if p.Status != want {
						t.Errorf("%s by %s: %d", do, r.ID, p.Status)
					}
					if got := refusals(); (len(got) == 1) != (want == http.StatusForbidden) {
						t.Errorf("%s by %s: events %q", do, r.ID, got)
					}
				}
			}
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"promote"}, "member": {eve.ID}}), http.StatusBadRequest)
		})
		t.Run("without member:search only one's own row is there", func(t *testing.T) {
			_, its := o.inside(t, fennel, "delete@example.test", membersPage)
			shows(t, its, http.StatusOK, "does not include search of member.", "delete@example.test")
			if strings.Contains(its.Body, "ada@example.test") {
				t.Error("another member is shown")
			}
		})
		// Row: O06.
		t.Run("who may do more cannot be touched", func(t *testing.T) {
			for do := range deeds {
				for _, r := range roles {
					if r.Permissions[0].Actions[0] != deeds[do] {
						continue
					}
					who, its := o.inside(t, fennel, r.ID+"@example.test", membersPage)
					if p := post(t, who, its, membersPage, url.Values{"action": {do}, "member": {ada.ID}}); p.Status != http.StatusForbidden {
						t.Errorf("%s: %d", do, p.Status)
					}
				}
			}
			if now := o.memberNow(t, ada); now.Status != identity.Active || !slices.Equal(now.Roles, []string{"admin"}) {
				t.Errorf("changed: %+v", now)
			}
		})
		// Row: O05. Row: O06.
		t.Run("nobody gives what they have not, not to themselves either", func(t *testing.T) {
			self, err := o.People.Member(t.Context(), fennel, "update_settings_roles@example.test")
			if err != nil {
				t.Fatal(err)
			}
			who, its := o.inside(t, fennel, self.Email, membersPage)
			refusals()
			for _, id := range []string{self.ID, eve.ID} {
				for _, beyond := range []string{"admin", "manager", "search"} {
					p := post(t, who, its, membersPage, url.Values{"action": {"roles"}, "member": {id}, "role": {"update_settings_roles", beyond}})
					if p.Status != http.StatusForbidden {
						t.Errorf("%s: %d", beyond, p.Status)
					}
				}
			}
			if got := refusals(); len(got) != 6 || got[0] != "member.changed: no permission" {
				t.Errorf("events %q", got)
			}
			if now := o.memberNow(t, self); !slices.Equal(now.Roles, []string{"update_settings_roles"}) {
				t.Errorf("has %v", now.Roles)
			}
			shows(t, post(t, who, its, membersPage, url.Values{"action": {"roles"}, "member": {eve.ID}, "role": {"update_settings_roles"}}), http.StatusOK)
			if now := o.memberNow(t, eve); !slices.Equal(now.Roles, []string{"update_settings_roles"}) {
				t.Errorf("has %v", now.Roles)
			}
		})
		// Row: O06.
		t.Run("the last administrator stays", func(t *testing.T) {
			for _, form := range []url.Values{{"action": {"remove"}, "member": {ada.ID}}, {"action": {"roles"}, "member": {ada.ID}, "role": {"manager"}}} {
				refused := post(t, b, page, membersPage, form)
				shows(t, refused, http.StatusUnprocessableEntity, "This is the last administrator.")
				open := openRow.FindStringSubmatch(refused.Body)
				if roles := form.Get("action") == "roles"; roles != (open != nil) {
					t.Errorf("the row of %s is open: %v", form.Get("action"), !roles)
				} else if roles && (!strings.Contains(open[1], `value="manager" checked`) || strings.Contains(open[1], `value="admin" checked`)) {
					t.Errorf("the row does not stand as it was sent:\n%s", open[1])
				}
			}
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"roles"}, "member": {eve.ID}, "role": {"admin"}}), http.StatusOK, "The roles of eve@example.test are saved.")
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"roles"}, "member": {eve.ID}}), http.StatusOK)
		})
		// Row: O01.
		t.Run("another organization's member is nobody", func(t *testing.T) {
			for do := range deeds {
				for _, id := range []string{stranger.ID, "member-test-none", "quinn@example.test", ""} {
					if p := post(t, b, page, membersPage, url.Values{"action": {do}, "member": {id}}); p.Status != http.StatusNotFound {
						t.Errorf("%s %s: %d", do, id, p.Status)
					}
				}
			}
			if now := o.memberNow(t, stranger); now.Version != stranger.Version {
				t.Errorf("changed: %+v", now)
			}
		})
		t.Run("signed out everywhere, removed, and back", func(t *testing.T) {
			if _, err := o.People.ChangeMember(t.Context(), o.Project, fennel, eve.ID, func(m *identity.Member) error {
				m.Status = identity.Active
				return nil
			}, o.event("")); err != nil {
				t.Fatal(err)
			}
			signedIn, _ := o.inside(t, fennel, "eve@example.test", membersPage)
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"sign_out"}, "member": {eve.ID}}), http.StatusOK, "eve@example.test is signed out everywhere.")
			shows(t, signedIn.Get(t, membersPage), http.StatusOK, "Send me a code")
			signedIn, _ = o.inside(t, fennel, "eve@example.test", membersPage)
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"remove"}, "member": {eve.ID}}), http.StatusOK, "eve@example.test is removed.")
			shows(t, signedIn.Get(t, membersPage), http.StatusOK, "Send me a code")
			gone := b.Get(t, membersPage+"?status=deleted")
			shows(t, gone, http.StatusOK, "eve@example.test", "Removed", "Bring back")
			shows(t, post(t, b, gone, membersPage, url.Values{"action": {"restore"}, "member": {eve.ID}}), http.StatusOK, "eve@example.test is back.")
		})
		// Row: O08.
		t.Run("who is removed and invited again is somebody new", func(t *testing.T) {
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"remove"}, "member": {eve.ID}}), http.StatusOK)
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"invite"}, "email": {"eve@example.test"}}), http.StatusOK)
			again, err := o.People.Member(t.Context(), fennel, "eve@example.test")
			if err != nil || again.ID == eve.ID || len(again.Roles) != 0 {
				t.Errorf("%+v, %v", again, err)
			}
			shows(t, post(t, b, page, membersPage, url.Values{"action": {"restore"}, "member": {eve.ID}}), http.StatusUnprocessableEntity, "Somebody with this address is a member")
		})
	})
}

var openRow = regexp.MustCompile(`(?s)<details class="member-end" open>(.*?)</details>`)

var memberHeading = regexp.MustCompile(`<h2 class="heading anywhere">([^<\s]+)`)

// listed are the addresses of a page of members.
func listed(p servertest.Page) []string {
	var all []string
	for _, m := range memberHeading.FindAllStringSubmatch(p.Body, -1) {
		all = append(all, m[1])
	}
	return all
}

func TestMembersList(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		fennel, quarry := o.organization(t, "Fennel Labs", nil), o.organization(t, "Quarry Lane", nil)
		o.member(t, fennel, "ada@example.test", "admin")
		strangers := o.member(t, quarry, "quinn@example.test")
		want := []string{"ada@example.test"}
		for i := range 57 {
			email := fmt.Sprintf("m%02d@example.test", i)
			o.Clock.Advance(time.Millisecond) // ids ascend with time
			if i%10 == 0 {
				o.member(t, fennel, email, "manager")
			} else {
				o.member(t, fennel, email)
			}
			want = append(want, email)
		}
		b, page := o.inside(t, fennel, "ada@example.test", membersPage)
		t.Run("pages show everybody once", func(t *testing.T) {
			var got []string
			p, next := page, regexp.MustCompile(`<a href="([^"]+)">Next page</a>`)
			for {
				got = append(got, listed(p)...)
				m := next.FindStringSubmatch(p.Body)
				if m == nil {
					break
				}
				p = b.Get(t, strings.ReplaceAll(m[1], "&amp;", "&"))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%v", got)
			}
		})
		t.Run("search", func(t *testing.T) {
			for query, most := range map[string][]string{
				"q=M05": {"m05@example.test"}, "role=manager&q=m1": {"m10@example.test"}, "status=active": {"ada@example.test"},
				"status=invited&q=ada": nil, "q=quinn": nil, "q=m0_@": nil,
			} {
				if got := listed(b.Get(t, membersPage+"?"+query)); !slices.Equal(got, most) {
					t.Errorf("%s: %v", query, got)
				}
			}
		})
		// Row: O11.
		t.Run("signs of a query language are text", func(t *testing.T) {
			for _, q := range []string{"%", "_", "' OR '1'='1", `\`, "m05' --", "*"} {
				for _, field := range []string{"q", "role"} {
					if got := listed(b.Get(t, membersPage+"?"+url.Values{field: {q}}.Encode())); len(got) != 0 {
						t.Errorf("%s=%s: %v", field, q, got)
					}
				}
			}
		})
		// Row: O10.
		t.Run("a cursor of another organization, or none", func(t *testing.T) {
			for _, after := range []string{strangers.ID, "member-test-00000000", "x", "member-", "' OR 1=1"} {
				p := b.Get(t, membersPage+"?"+url.Values{"after": {after}}.Encode())
				if p.Status != http.StatusBadRequest || len(listed(p)) != 0 {
					t.Errorf("%q: %d %v", after, p.Status, listed(p))
				}
			}
		})
		// Row: O12.
		t.Run("no page says how many there are", func(t *testing.T) {
			if plain := regexp.MustCompile(`<[^>]+>`).ReplaceAllString(page.Body, ""); strings.Contains(plain, "58") || strings.Contains(plain, "59") {
				t.Errorf("a total is shown:\n%s", plain)
			}
		})
	})
}

func TestAppsOfAnOrganization(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		refusals, db := o.refusals(t), o.database(t)
		fennel, quarry := o.organization(t, "Fennel Labs", nil), o.organization(t, "Quarry Lane", nil)
		fennel = o.roles(t, fennel, role("watcher", "organization", "get.connected-apps"))
		o.member(t, fennel, "ada@example.test", "admin")
		people := map[string]identity.Member{
			"eve@example.test": o.member(t, fennel, "eve@example.test"), "max@example.test": o.member(t, fennel, "max@example.test", "manager"),
			"quinn@example.test": o.member(t, quarry, "quinn@example.test"),
		}
		o.member(t, fennel, "walt@example.test", "watcher")
		second, _ := o.AddClient(t, oauth.NewClient{Name: "Notebook", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{okrCallback}})
		grants := map[string]string{}
		for email, m := range people {
			b := o.Browser(t)
			b.Allow(t, o.signIn(t, b, b.Authorize(t, o.request()), email))
			if email == "eve@example.test" {
				o.Clock.Advance(time.Minute)
				b.Allow(t, b.Authorize(t, o.request("client_id", second.ID, "scope", "openid")))
			}
			for _, app := range o.grants(t, m) {
				grants[email+" "+app.Client.Name()] = app.Grant.ID
			}
		}
		b, page := o.inside(t, fennel, "ada@example.test", orgAppsPage)
		shows(t, page, http.StatusOK, "Claude", "Notebook", "eve@example.test", "max@example.test", "Read objectives and key results.", "Change key results.",
			"Do what needs no permission in OKR. Know who you are.")
		if strings.Contains(page.Body, "quinn") || strings.Contains(page.Body, grants["quinn@example.test Claude"]) {
			t.Error("another organization's member is shown")
		}
		t.Run("the settings offer what members use", func(t *testing.T) {
			p := b.Get(t, settingsPage)
			if !strings.Contains(p.Body, `name="third_party_app" value="`+second.ID+`"`) {
				t.Errorf("not offered:\n%s", p.Body)
			}
			shows(t, p, http.StatusOK, second.ID) // another one may have the same name
		})
		t.Run("who may not see or take back", func(t *testing.T) {
			eve, its := o.inside(t, fennel, "eve@example.test", settingsPage)
			shows(t, eve.Get(t, orgAppsPage), http.StatusForbidden, "does not include get.connected-apps of organization.")
			walt, list := o.inside(t, fennel, "walt@example.test", orgAppsPage)
			shows(t, list, http.StatusOK, "does not include revoke.connected-apps of organization.", "max@example.test")
			refusals()
			for _, form := range []url.Values{{"action": {"one"}, "grant": {grants["max@example.test Claude"]}}, {"action": {"all"}, "client": {o.app.ID}}} {
				shows(t, post(t, eve, its, orgAppsPage, form), http.StatusForbidden)
				shows(t, post(t, walt, list, orgAppsPage, form), http.StatusForbidden)
			}
			if got := refusals(); len(got) != 4 || got[0] != "grant.revoked: no permission" {
				t.Errorf("events %q", got)
			}
			if len(o.grants(t, people["max@example.test"])) != 1 {
				t.Error("taken back")
			}
		})
		// Row: O01. Row: O10.
		t.Run("another organization's grant is none", func(t *testing.T) {
			foreign := grants["quinn@example.test Claude"]
			shows(t, post(t, b, page, orgAppsPage, url.Values{"action": {"one"}, "grant": {foreign}}), http.StatusNotFound)
			shows(t, b.Get(t, orgAppsPage+"?after="+foreign), http.StatusBadRequest)
			shows(t, b.Get(t, orgAppsPage+"?after=x"), http.StatusBadRequest)
		})
		feed := func() []string { return texts(t, db, "SELECT value FROM revocation WHERE kind = 'grant'") }
		t.Run("for one member", func(t *testing.T) {
			shows(t, post(t, b, page, orgAppsPage, url.Values{"action": {"one"}, "grant": {grants["max@example.test Claude"]}}), http.StatusOK, "Access taken back.", "eve@example.test")
			if len(o.grants(t, people["max@example.test"])) != 0 || len(o.grants(t, people["eve@example.test"])) != 2 {
				t.Error("not the one")
			}
			if got := feed(); !slices.Equal(got, []string{grants["max@example.test Claude"]}) {
				t.Errorf("the feed says %v", got)
			}
		})
		t.Run("for all, in this organization", func(t *testing.T) {
			p := post(t, b, page, orgAppsPage, url.Values{"action": {"all"}, "client": {o.app.ID}})
			shows(t, p, http.StatusOK, "Access taken back.", "Notebook")
			if left := o.grants(t, people["eve@example.test"]); len(left) != 1 || left[0].Client.ID != second.ID {
				t.Errorf("left %+v", left)
			}
			if len(o.grants(t, people["quinn@example.test"])) != 1 {
				t.Error("another organization lost its grant")
			}
			if got := feed(); len(got) != 2 || !slices.Contains(got, grants["eve@example.test Claude"]) {
				t.Errorf("the feed says %v", got)
			}
		})
	})
}

func (o *office) grants(t *testing.T, m identity.Member) []oauth.ConnectedApp {
	t.Helper()
	apps, err := o.Store.ConnectedApps(t.Context(), o.Project.ID, m.ID, m.OrganizationID, o.Clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(apps, func(a oauth.ConnectedApp) bool { return !a.Grant.RevokedAt.IsZero() })
}

// elsewhere says in every way there is that a request came for another host.
type elsewhere struct{ host string }

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Host = cmp.Or(e.host, r.Host)
	for name, value := range map[string]string{
		"X-Forwarded-Host": "evil.example.test", "X-Forwarded-Proto": "https", "X-Forwarded-Port": "443", "X-Forwarded-Prefix": "/evil",
		"Forwarded": "host=evil.example.test;proto=https", "X-Original-Host": "evil.example.test", "X-Host": "evil.example.test",
		"X-Original-Url": "https://evil.example.test/", "X-Rewrite-Url": "https://evil.example.test/",
	} {
		r.Header.Set(name, value)
	}
	return http.DefaultTransport.RoundTrip(r)
}

// The link of a mail leads to the issuer of the configuration, whatever host the
// request named that caused it; a request to another host causes none.
//
// Row: P08.
func TestLinksInMailsAreOurs(t *testing.T) {
	eachOffice(t, nil, func(t *testing.T, o *office) {
		fennel := o.organization(t, "Fennel Labs", nil)
		o.member(t, fennel, "ada@example.test", "admin")
		b, page := o.inside(t, fennel, "ada@example.test", membersPage)
		invite := func(email string) servertest.Page {
			return post(t, b, page, membersPage, url.Values{"action": {"invite"}, "email": {email}, "role": {"manager"}})
		}
		t.Run("P08 other names beside our own", func(t *testing.T) {
			b.Client.Transport = elsewhere{}
			shows(t, invite("max@example.test"), http.StatusOK, "Invitation sent to max@example.test")
			mail := o.invited(t, "max@example.test")
			if strings.Contains(mail, "evil") || strings.Count(mail, "://") != strings.Count(mail, o.Issuer+"/") || !strings.Contains(mail, o.Issuer+"/") {
				t.Errorf("the mail leads elsewhere:\n%s", mail)
			}
		})
		t.Run("P08 another name instead of it", func(t *testing.T) {
			before := len(o.Mail.Mails())
			for _, host := range []string{"evil.example.test", strings.TrimPrefix(o.Issuer, "http://") + ".evil.example.test"} {
				b.Client.Transport = elsewhere{host}
				if p := invite("eve@example.test"); p.Status != http.StatusMisdirectedRequest {
					t.Errorf("%s: %d", host, p.Status)
				}
			}
			if n := len(o.Mail.Mails()); n != before {
				t.Errorf("%d mails, want %d", n, before)
			}
		})
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
}

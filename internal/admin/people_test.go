package admin_test

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

// person is a user who allowed a client something.
func (d desk) person(t *testing.T, email string) (identity.User, oauth.Grant) {
	t.Helper()
	d.AddResource(t, "https://notes.example.test/mcp", project.Scope{Name: "read:notes", Description: "Read your notes", ReadOnly: true})
	app, _ := d.addApp(t, "Terminal", oauth.ThirdPartyPublic)
	d.Follow(t)
	grant := d.allowedBy(t, app, email)
	u, err := d.People.User(t.Context(), d.Project.ID, grant.Subject)
	if err != nil {
		t.Fatal(err)
	}
	return u, grant
}

func TestUserPages(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		shows(t, d.b.Get(t, d.page("users")), http.StatusOK, "Nobody has signed in yet", "postern user list")
		u, grant := d.person(t, "ada@example.test")
		shows(t, d.b.Get(t, d.page("users")), http.StatusOK, "ada@example.test", "Active", "postern user list")
		shows(t, d.b.Get(t, d.page("users?q="+u.ID)), http.StatusOK, "ada@example.test")
		shows(t, d.b.Get(t, d.page("users?q=ADA")), http.StatusOK, "ada@example.test", "postern user list ADA")
		shows(t, d.b.Get(t, d.page("users?q=bob")), http.StatusOK, "Nobody matches")
		path := d.page("users/" + u.ID)
		one := d.b.Get(t, path)
		shows(t, one, http.StatusOK, "Terminal", "read:notes at https://notes.example.test/mcp", "A code by e-mail", "127.0.0.1", "postern user deactivate ada@example.test", "1 session", "1 connected app")

		taken := d.send(t, one, "action", "take_back", "grant", grant.ID)
		shows(t, taken, http.StatusOK, "Access is taken back.", "They allowed no connected app anything.")
		d.by(t, d.Project.ID, audit.GrantRevoked)

		sessions, err := d.People.Sessions(t.Context(), d.Project.ID, u.ID)
		if err != nil || len(sessions) != 1 {
			t.Fatalf("sessions: %v, %v", sessions, err)
		}
		ended := d.send(t, one, "action", "end_session", "session", sessions[0].ID)
		shows(t, ended, http.StatusOK, "The session ended.", "They are not signed in anywhere.")
		d.by(t, d.Project.ID, audit.SignedOut)
		shows(t, d.send(t, one, "action", "end_session", "session", sessions[0].ID), http.StatusNotFound, "This session has ended")
		if p := d.send(t, one, "action", "sign_out"); p.Status != http.StatusOK {
			t.Errorf("sign out everywhere: %d", p.Status)
		}

		// What takes access away wants the name, and does nothing without it.
		for _, action := range []string{"revoke", "deactivate", "delete"} {
			refused := d.send(t, one, "action", action, "confirm", "somebody else")
			shows(t, refused, http.StatusUnprocessableEntity, "Nothing was changed.", "Type ada@example.test as it stands here")
		}
		if now, err := d.People.User(t.Context(), d.Project.ID, u.ID); err != nil || !now.Active {
			t.Fatalf("%+v, %v", now, err)
		}
		shows(t, d.send(t, one, "action", "revoke", "confirm", u.Email), http.StatusOK, "signed out everywhere")
		d.by(t, d.Project.ID, audit.UserRevoked)
		shut := d.send(t, one, "action", "deactivate", "confirm", u.Email)
		shows(t, shut, http.StatusOK, "Deactivated", "They are shut out")
		d.by(t, d.Project.ID, audit.UserDeactivated)
		shows(t, d.send(t, shut, "action", "activate"), http.StatusOK, "They can sign in again.", "Active")
		d.by(t, d.Project.ID, audit.UserActivated)
		shows(t, d.send(t, one, "action", "nothing"), http.StatusUnprocessableEntity, "no such button")

		shows(t, d.send(t, one, "action", "delete", "confirm", u.Email), http.StatusOK, "ada@example.test is deleted.", "Nobody has signed in yet")
		d.by(t, d.Project.ID, audit.UserDeleted)
		shows(t, d.b.Get(t, path), http.StatusNotFound, "no user with this id")
	})
}

// A form without its token, a stranger, and the ids of another project change
// nothing.
func TestUserPagesRefuse(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		u, grant := d.person(t, "ada@example.test")
		path := d.page("users/" + u.ID)
		one := d.b.Get(t, path)
		for _, form := range [][]string{{"action", "deactivate", "confirm", u.Email}, {"action", "take_back", "grant", grant.ID}, {"action", "delete", "confirm", u.Email}} {
			shows(t, d.send(t, one, append(form, "csrf", "x")...), http.StatusForbidden)
		}
		for _, page := range []string{"users", "users/" + u.ID, "roles"} {
			if p := d.Browser(t).Get(t, d.page(page)); p.URL.Path != "/dashboard/sign-in" {
				t.Errorf("%s leads a stranger to %s", page, p.URL)
			}
		}
		shows(t, d.b.Get(t, d.page("organizations")), http.StatusNotFound, "This is a consumer project")

		other, _, err := d.Projects.Create(t.Context(), project.New{Name: "Elsewhere", Issuer: strings.Replace(d.Issuer, "localhost", "127.0.0.1", 1), Environment: project.Test})
		if err != nil {
			t.Fatal(err)
		}
		d.Follow(t)
		there := "/dashboard/projects/" + other.ID + "/users/" + u.ID
		shows(t, d.b.Get(t, there), http.StatusNotFound, "no user with this id")
		shows(t, d.send(t, one, "at", there, "action", "delete", "confirm", u.Email), http.StatusNotFound)
		if now, err := d.People.User(t.Context(), d.Project.ID, u.ID); err != nil || !now.Active {
			t.Errorf("%+v, %v", now, err)
		}
		if all := d.events(t, d.Project.ID, audit.GrantRevoked); len(all) != 0 {
			t.Errorf("a grant was taken back: %v", all)
		}
		// Another's session and grant are not this one's.
		zoe := d.Browser(t)
		zoe.SignIn(t, zoe.Get(t, "/login"), "zoe@example.test")
		users, err := d.People.Users(t.Context(), d.Project.ID, "zoe@", "", 1)
		if err != nil || len(users) != 1 {
			t.Fatalf("%v, %v", users, err)
		}
		hers := d.b.Get(t, d.page("users/"+users[0].ID))
		sessions, err := d.People.Sessions(t.Context(), d.Project.ID, u.ID)
		if err != nil || len(sessions) == 0 {
			t.Fatalf("%v, %v", sessions, err)
		}
		shows(t, d.send(t, hers, "action", "take_back", "grant", grant.ID), http.StatusNotFound)
		shows(t, d.send(t, hers, "action", "end_session", "session", sessions[0].ID), http.StatusNotFound)
	})
}

// A list goes on where its page ends, with what was searched for.
func TestPeopleListsGoOn(t *testing.T) {
	each(t, servertest.Config{Vertical: project.B2B}, func(t *testing.T, d desk) {
		o, _ := d.fennel(t)
		by := audit.Event{ProjectID: d.Project.ID, At: d.Clock.Now()}
		for i := range 53 {
			team := identity.Organization{Name: fmt.Sprintf("Team %02d", i), Slug: fmt.Sprintf("team-%02d", i), Settings: identity.DefaultOrganization()}
			if _, err := d.People.CreateOrganization(t.Context(), d.Project, team, by); err != nil {
				t.Fatal(err)
			}
			if _, err := d.People.AddMember(t.Context(), d.Project, o, identity.Member{Email: fmt.Sprintf("many-%02d@example.test", i), Status: identity.Pending}, by); err != nil {
				t.Fatal(err)
			}
		}
		for _, list := range []struct{ path, first, last, after, not string }{
			{"organizations?q=team", "Team 00", "Team 49", "Team 52", "Fennel"},
			{"organizations/" + o.ID + "/members?q=many", "", "", "", "ada@example.test"},
		} {
			first := d.b.Get(t, d.page(list.path))
			shows(t, first, http.StatusOK, list.first, list.last, "Next page")
			next := d.b.Get(t, first.Link(t, "Next page"))
			shows(t, next, http.StatusOK, list.after, "First page")
			_, main, _ := strings.Cut(next.Text(), "Search")
			if n := strings.Count(next.Body, "<tr><td"); n != 3 || strings.Contains(main, list.not) || strings.Contains(main, "Next page") {
				t.Errorf("%s goes on with %d rows:\n%s", list.path, n, main)
			}
		}
		gone := d.b.Get(t, d.page("organizations?q=team&after=organization-test-gone"))
		shows(t, gone, http.StatusNotFound, "was deleted")
	})
}

const hostile = `<img src=x onerror=alert(1)>`

// fennel makes an organization with an administrator.
func (d desk) fennel(t *testing.T) (identity.Organization, identity.Member) {
	t.Helper()
	o, err := d.People.CreateOrganization(t.Context(), d.Project, identity.Organization{Name: "Fennel Labs", Slug: "fennel", Settings: identity.DefaultOrganization()},
		audit.Event{ProjectID: d.Project.ID, At: d.Clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	m, err := d.People.AddMember(t.Context(), d.Project, o, identity.Member{Email: "ada@example.test", Roles: []string{"admin"}, Status: identity.Active},
		audit.Event{ProjectID: d.Project.ID, At: d.Clock.Now()})
	if err != nil {
		t.Fatal(err)
	}
	d.Clock.Advance(time.Second) // events of one moment are in any order
	return o, m
}

func TestOrganizationPages(t *testing.T) {
	each(t, servertest.Config{Vertical: project.B2B}, func(t *testing.T, d desk) {
		list := d.b.Get(t, d.page("organizations"))
		shows(t, list, http.StatusOK, "No organization yet", "postern organization create NAME")
		shows(t, d.b.Get(t, d.page("users")), http.StatusNotFound, "This is a B2B project")
		shows(t, d.send(t, list, "name", "A", "slug", "?"), http.StatusUnprocessableEntity, "The slug must have")
		made := d.send(t, list, "name", hostile, "slug", "fennel")
		shows(t, made, http.StatusOK, "The organization is made.", hostile)
		if strings.Contains(made.Body, "<img src=x") { // Row: D07.
			t.Error("an organization's name is markup")
		}
		d.by(t, d.Project.ID, audit.OrganizationCreated)
		shows(t, d.send(t, list, "name", "Again", "slug", "fennel"), http.StatusUnprocessableEntity, "Another one has this address or name already.")
		shows(t, d.b.Get(t, d.page("organizations?q=fenn")), http.StatusOK, hostile, "postern organization list fenn")
		shows(t, d.b.Get(t, d.page("organizations?q=other")), http.StatusOK, "No organization matches")

		path := made.URL.Path
		organization := func() identity.Organization {
			t.Helper()
			o, err := d.People.Organization(t.Context(), d.Project.ID, "fennel")
			if err != nil {
				t.Fatal(err)
			}
			return o
		}
		version := func() string { return fmt.Sprint(organization().Version) }
		shows(t, d.send(t, made, "at", path, "action", "info", "version", version(), "name", "Fennel Labs", "slug", "fennel", "external_id", "crm-7"), http.StatusOK, "Saved.")
		shows(t, d.send(t, made, "at", path, "action", "info", "version", "1", "name", "Lost", "slug", "fennel"), http.StatusUnprocessableEntity, "Another window changed it first")
		shows(t, d.send(t, made, "at", path, "action", "people", "version", version(), "domains", "fennel.example\nFENNEL.test", "provisioning", "on",
			"invitations", "listed", "methods", "email_code", "by_domain", "fennel.example=admin"), http.StatusOK, "Saved.")
		shows(t, d.send(t, made, "at", path, "action", "people", "version", version(), "domains", "gmail.com", "invitations", "all", "methods", "all"),
			http.StatusUnprocessableEntity, "'gmail.com' belongs to everybody")
		app, _ := d.addApp(t, "Terminal", oauth.ThirdPartyPublic)
		shows(t, d.send(t, made, "at", path, "action", "apps", "version", version(), "third_party", "listed", "third_party_ids", "nobody", "first_party", "none"),
			http.StatusUnprocessableEntity, "no connected app with the id nobody")
		shows(t, d.send(t, made, "at", path, "action", "apps", "version", version(), "third_party", "listed", "third_party_ids", app.ID, "first_party", "none"), http.StatusOK, "Saved.")
		shows(t, d.send(t, made, "at", path, "action", "metadata", "version", version(), "trusted", "[]"), http.StatusUnprocessableEntity, "must be a JSON object")
		shows(t, d.send(t, made, "at", path, "action", "metadata", "version", version(), "trusted", `{"plan": "gold"}`), http.StatusOK, "Saved.")
		shows(t, d.send(t, made, "at", path, "action", "own_roles", "version", version(), "roles", "roles:\r\n  - role_id: guest\r\n    chief: x\r\n"), http.StatusUnprocessableEntity, "Line 3")
		shows(t, d.send(t, made, "at", path, "action", "own_roles", "version", version(), "roles", "roles:\r\n  - role_id: guest\r\n    description: Looks\r\n    permissions: []\r\n"), http.StatusOK, "Saved.")
		o := organization()
		s := o.Settings
		if o.Name != "Fennel Labs" || o.ExternalID != "crm-7" || strings.Join(s.AllowedDomains, " ") != "fennel.example fennel.test" || !s.Provisioning ||
			s.Invitations != identity.Listed || s.Methods != identity.Listed || len(s.ImplicitRoles) != 1 || s.ThirdParty.Listed[0] != app.ID || s.FirstParty.Allowed != identity.None ||
			o.TrustedMetadata["plan"] != "gold" || len(o.Roles) != 1 {
			t.Errorf("%+v", o)
		}
		d.by(t, d.Project.ID, audit.OrganizationChanged)
		shows(t, d.b.Get(t, path), http.StatusOK, "postern organization set fennel --name 'Fennel Labs' --slug fennel --external-id crm-7",
			"--domain fennel.example --domain fennel.test --join-by-domain on --invites listed --methods email_code --role-by-domain fennel.example=admin",
			"--first-party-apps=none --third-party-apps=listed:"+app.ID, `--trusted-metadata '{ "plan": "gold" }'`, "postern organization delete fennel")

		shows(t, d.send(t, made, "at", path, "action", "suspend", "confirm", "x"), http.StatusUnprocessableEntity, "Type fennel as it stands here")
		shows(t, d.send(t, made, "at", path, "action", "suspend", "confirm", "fennel"), http.StatusOK, "Suspended")
		if organization().Active {
			t.Error("it is active")
		}
		shows(t, d.send(t, made, "at", path, "action", "resume"), http.StatusOK, "active again")
		shows(t, d.b.Get(t, path+"/sso"), http.StatusOK, "No connection", "/organization/sso")
		shows(t, d.b.Get(t, path+"/apps"), http.StatusOK, "No connected app")
		shows(t, d.b.Get(t, d.page("organizations/organization-test-none")), http.StatusNotFound, "no organization with this id")

		shows(t, d.send(t, made, "at", path, "csrf", "x", "action", "delete", "confirm", "fennel"), http.StatusForbidden)
		shows(t, d.send(t, made, "at", path, "action", "delete", "confirm", "Fennel"), http.StatusUnprocessableEntity)
		organization()
		shows(t, d.send(t, made, "at", path, "action", "delete", "confirm", "fennel"), http.StatusOK, "Fennel Labs is deleted", "No organization yet")
		d.by(t, d.Project.ID, audit.OrganizationDeleted)
	})
}

// sendFile posts the form with a picture of an organization's page.
func (d desk) sendFile(t *testing.T, p servertest.Page, csrf string, file []byte) int {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	if csrf == "" {
		csrf = csrfField.FindStringSubmatch(p.Body)[1]
	}
	for name, value := range map[string]string{"csrf": csrf, "action": "logo"} {
		if err := form.WriteField(name, value); err != nil {
			t.Fatal(err)
		}
	}
	part, err := form.CreateFormFile("file", "logo.png")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := part.Write(file); err != nil {
		t.Fatal(err)
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.Issuer+p.URL.Path, &body)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", form.FormDataContentType())
	request.Header.Set("Origin", d.Issuer)
	response, err := d.b.Client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close() // only the status counts
	return response.StatusCode
}

// Row: D08.
func TestOrganizationLogo(t *testing.T) {
	each(t, servertest.Config{Vertical: project.B2B}, func(t *testing.T, d desk) {
		o, _ := d.fennel(t)
		page := d.b.Get(t, d.page("organizations/"+o.ID))
		logo := func() string {
			t.Helper()
			o, err := d.People.Organization(t.Context(), d.Project.ID, o.ID)
			if err != nil {
				t.Fatal(err)
			}
			return o.Logo
		}
		var file bytes.Buffer
		if err := png.Encode(&file, image.NewGray(image.Rect(0, 0, 8, 8))); err != nil {
			t.Fatal(err)
		}
		for name, test := range map[string]struct {
			csrf   string
			file   []byte
			status int
		}{
			"nothing":         {"", nil, http.StatusUnprocessableEntity},
			"a script":        {"", []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`), http.StatusUnprocessableEntity},
			"too large":       {"", append(file.Bytes(), make([]byte, 300<<10)...), http.StatusUnprocessableEntity},
			"without a token": {"x", file.Bytes(), http.StatusForbidden},
		} {
			if got := d.sendFile(t, page, test.csrf, test.file); got != test.status || logo() != "" {
				t.Errorf("%s: status %d, logo %q", name, got, logo())
			}
		}
		if got := d.sendFile(t, page, "", file.Bytes()); got != http.StatusOK || logo() == "" {
			t.Errorf("a picture: status %d, logo %q", got, logo())
		}
		for _, path := range []string{"organizations/" + o.ID, "organizations"} {
			if shown := d.b.Get(t, d.page(path)); !strings.Contains(shown.Body, `src="`+d.page("logo/"+logo())+`"`) {
				t.Errorf("%s does not show the picture", path)
			}
		}
		if shown := d.b.Get(t, d.page("logo/"+logo())); shown.Status != http.StatusOK {
			t.Errorf("the picture is %d", shown.Status)
		}
		d.by(t, d.Project.ID, audit.OrganizationChanged)
		shows(t, d.send(t, page, "action", "no_logo"), http.StatusOK, "Saved.", "It has none")
		if logo() != "" {
			t.Error("it stays")
		}
	})
}

func TestMemberPages(t *testing.T) {
	each(t, servertest.Config{Vertical: project.B2B}, func(t *testing.T, d desk) {
		o, ada := d.fennel(t)
		path := d.page("organizations/" + o.ID + "/members")
		list := d.b.Get(t, path)
		shows(t, list, http.StatusOK, "ada@example.test", "Admin", "postern member list --organization fennel")
		shows(t, d.send(t, list, "email", "nonsense"), http.StatusUnprocessableEntity, "Enter an e-mail address")
		shows(t, d.send(t, list, "email", "ADA@example.test"), http.StatusUnprocessableEntity, "is a member or is invited already")
		shows(t, d.send(t, list, "email", "bea@example.test", "role", "chief"), http.StatusUnprocessableEntity, "There is no role 'chief' here.")
		shows(t, d.send(t, list, "email", "bea@example.test", "name", hostile), http.StatusOK, "bea@example.test is added.", hostile, "Not here yet")
		d.by(t, d.Project.ID, audit.MemberAdded)
		shows(t, d.b.Get(t, path+"?status=pending"), http.StatusOK, "bea@example.test")
		shows(t, d.b.Get(t, path+"?role=admin"), http.StatusOK, "ada@example.test")
		shows(t, d.b.Get(t, path+"?q=nobody"), http.StatusOK, "Nobody matches")

		bea, err := d.People.Member(t.Context(), o, "bea@example.test")
		if err != nil {
			t.Fatal(err)
		}
		one := d.b.Get(t, path+"/"+bea.ID)
		shows(t, one, http.StatusOK, hostile, "everybody", "postern member revoke bea@example.test --organization fennel")
		if strings.Contains(one.Body, "<img src=x") { // Row: D07.
			t.Error("a member's name is markup")
		}
		form := []string{"action", "save", "version", "1", "name", "Bea", "external_id", "b-7", "trusted", `{"seat": 4}`, "untrusted", "{}", "role", "admin"}
		shows(t, d.send(t, one, form...), http.StatusOK, "Saved.", "Bea")
		d.by(t, d.Project.ID, audit.MemberChanged)
		shows(t, d.send(t, one, form...), http.StatusUnprocessableEntity, "Another window changed it first")
		shows(t, d.send(t, one, "action", "save", "version", "2", "untrusted", "[]"), http.StatusUnprocessableEntity, "The untrusted metadata must be a JSON object")
		if now, err := d.People.Member(t.Context(), o, bea.ID); err != nil || now.Name != "Bea" || now.ExternalID != "b-7" || len(now.Roles) != 1 || now.TrustedMetadata["seat"] == nil {
			t.Errorf("%+v, %v", now, err)
		}

		// The last administrator stays; bea did not come yet and does not count.
		his := d.b.Get(t, path+"/"+ada.ID)
		shows(t, d.send(t, his, "action", "remove", "confirm", ada.Email), http.StatusUnprocessableEntity, "This is the last administrator")
		shows(t, d.send(t, one, "action", "remove", "confirm", "bea"), http.StatusUnprocessableEntity, "Type bea@example.test")
		removed := d.send(t, one, "action", "remove", "confirm", bea.Email)
		shows(t, removed, http.StatusOK, "They are removed.", "Removed", "Bring back")
		d.by(t, d.Project.ID, audit.MemberRemoved)
		shows(t, d.send(t, removed, "action", "restore"), http.StatusOK, "They are back")
		d.by(t, d.Project.ID, audit.MemberRestored)
		shows(t, d.send(t, one, "action", "revoke", "confirm", bea.Email), http.StatusOK, "signed out everywhere")
		d.by(t, d.Project.ID, audit.MemberRevoked)
		shows(t, d.send(t, one, "action", "delete", "confirm", bea.Email), http.StatusUnprocessableEntity, "no such button")
		shows(t, d.send(t, one, "action", "remove", "confirm", bea.Email, "csrf", "x"), http.StatusForbidden)

		quarry, err := d.People.CreateOrganization(t.Context(), d.Project, identity.Organization{Name: "Quarry", Settings: identity.DefaultOrganization()}, audit.Event{ProjectID: d.Project.ID, At: d.Clock.Now()})
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{bea.ID, bea.Email, "x"} {
			there := d.page("organizations/" + quarry.ID + "/members/" + url.PathEscape(id))
			shows(t, d.b.Get(t, there), http.StatusNotFound, "no member with this id")
			shows(t, d.send(t, one, "at", there, "action", "remove", "confirm", bea.Email), http.StatusNotFound)
		}
		other, _, err := d.Projects.Create(t.Context(), project.New{
			Name: "Elsewhere", Issuer: strings.Replace(d.Issuer, "localhost", "127.0.0.1", 1), Environment: project.Test, Vertical: project.B2B,
		})
		if err != nil {
			t.Fatal(err)
		}
		d.Follow(t)
		for _, page := range []string{"", "/members", "/members/" + bea.ID, "/apps", "/sso"} {
			there := "/dashboard/projects/" + other.ID + "/organizations/" + o.ID + page
			shows(t, d.b.Get(t, there), http.StatusNotFound, "no organization with this id")
			if page != "/sso" { // which takes no form
				shows(t, d.send(t, one, "at", there, "action", "delete", "confirm", o.Slug), http.StatusNotFound)
			}
			if p := d.Browser(t).Get(t, d.page("organizations/"+o.ID+page)); p.URL.Path != "/dashboard/sign-in" {
				t.Errorf("%s leads a stranger to %s", page, p.URL)
			}
		}
		if now, err := d.People.Member(t.Context(), o, bea.ID); err != nil || now.Status == identity.Deleted {
			t.Errorf("%+v, %v", now, err)
		}
	})
}

// What members allowed, by connected app, and taken back from all of them.
func TestOrganizationAppsPage(t *testing.T) {
	each(t, servertest.Config{Vertical: project.B2B}, func(t *testing.T, d desk) {
		o, ada := d.fennel(t)
		app, _ := d.addApp(t, "Terminal", oauth.ThirdPartyPublic)
		grant := oauth.Grant{ID: "grant-test-1", ProjectID: d.Project.ID, Subject: ada.ID, Organization: o.ID, ClientID: app.ID, CreatedAt: d.Clock.Now()}
		decision := oauth.Decision{Asked: true, Grant: grant, Code: oauth.Code{
			ID: "code", ProjectID: d.Project.ID, Hash: []byte("x"), ClientID: app.ID, Subject: ada.ID, Organization: o.ID, CreatedAt: d.Clock.Now(), ExpiresAt: d.Clock.Now(),
		}, Scopes: []oauth.GrantScope{{Resource: "https://notes.example.test/mcp", Scope: "read:notes", Allowed: true, DecidedAt: d.Clock.Now()}}}
		if err := d.Store.Decide(t.Context(), decision, audit.Event{ProjectID: d.Project.ID, At: d.Clock.Now(), Kind: audit.GrantAllowed}); err != nil {
			t.Fatal(err)
		}
		path := d.page("organizations/" + o.ID + "/apps")
		page := d.b.Get(t, path)
		shows(t, page, http.StatusOK, "Terminal", "ada@example.test", "read:notes at https://notes.example.test/mcp", "postern organization revoke fennel "+app.ID)
		shows(t, d.b.Submit(t, page, "confirm", url.Values{"action": {"revoke"}, "confirm": {"x"}}), http.StatusUnprocessableEntity, "as it stands here")
		shows(t, d.b.Submit(t, page, "confirm", url.Values{"action": {"revoke"}, "confirm": {app.ID}, "csrf": {"x"}}), http.StatusForbidden)
		if all := d.events(t, d.Project.ID, audit.GrantRevoked); len(all) != 0 {
			t.Errorf("taken back already: %v", all)
		}
		shows(t, d.b.Submit(t, page, "confirm", url.Values{"action": {"revoke"}, "confirm": {app.ID}}), http.StatusOK, "Access of Terminal is taken back", "No connected app")
		d.by(t, d.Project.ID, audit.GrantRevoked)
		if _, _, err := d.Store.Grant(t.Context(), d.Project.ID, ada.ID, o.ID, app.ID, ""); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("the grant lives: %v", err)
		}
	})
}

const policyText = `resources:
  - resource_id: note
    actions: [read, write]
roles:
  - role_id: editor
    description: Writes
    permissions:
      - {resource_id: note, actions: [read, write]}
scopes:
  - scope: read:notes
    description: Read your notes
    read_only: true
    permissions:
      - {resource_id: note, actions: [read]}
`

func TestRolesPage(t *testing.T) {
	each(t, servertest.Config{Vertical: project.B2B}, func(t *testing.T, d desk) {
		page := d.b.Get(t, d.page("roles"))
		shows(t, page, http.StatusOK, "member", "admin", "Built in", "postern policy export", "No scope yet")
		version := func() string {
			t.Helper()
			p, err := d.People.Policy(t.Context(), d.Project.ID)
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprint(p.Version)
		}
		before := version()
		wrong := d.send(t, page, "action", "plan", "version", before, "document", "roles:\n  - role_id: editor\n    rights: all\n")
		shows(t, wrong, http.StatusUnprocessableEntity, "Nothing was changed.", "Line 3", "rights: all")
		planned := d.send(t, page, "action", "plan", "version", before, "document", strings.ReplaceAll(policyText, "\n", "\r\n"))
		shows(t, planned, http.StatusOK, "What would change", `role "editor"`, `scope "read:notes"`, "grantable with the role editor")
		if version() != before {
			t.Fatal("a plan changed the policy")
		}
		shows(t, d.send(t, page, "action", "apply", "version", before, "document", policyText, "csrf", "x"), http.StatusForbidden)
		if version() != before {
			t.Fatal("a form without its token changed the policy")
		}
		applied := d.b.Submit(t, planned, "document", url.Values{"action": {"apply"}})
		shows(t, applied, http.StatusOK, "The policy is applied.", "editor", "can grant it", "cannot grant it")
		if version() == before {
			t.Error("the policy is the old one")
		}
		d.by(t, d.Project.ID, audit.PolicyApplied)

		// A second window does not overwrite what came between, with or without the
		// version in the document.
		for _, text := range []string{policyText, "version: " + before + "\n" + policyText} {
			late := d.send(t, page, "action", "apply", "version", before, "document", strings.ReplaceAll(text, "Writes", "Late"))
			shows(t, late, http.StatusUnprocessableEntity, "Another window changed the policy first")
		}
		shows(t, d.b.Get(t, d.page("roles")), http.StatusOK, "Writes")
		same := d.send(t, page, "action", "plan", "version", version(), "document", policyText)
		shows(t, same, http.StatusOK, "the policy that stands says the same")
		long := d.send(t, page, "action", "plan", "version", version(), "document", policyText+strings.Repeat("# a long comment in the file\n", 5000))
		shows(t, long, http.StatusOK, "the policy that stands says the same")
	})
}

// A consumer project has scopes alone.
func TestScopesOfAConsumerProject(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		d.AddResource(t, "https://notes.example.test/mcp", project.Scope{Name: "read:notes", Description: "Read your notes", ReadOnly: true})
		page := d.b.Get(t, d.page("roles"))
		shows(t, page, http.StatusOK, "read:notes", "Read your notes", "Read only", "Every user can let a connected app have any of them.")
		if text := page.Text(); strings.Contains(text, "Built in") || strings.Contains(text, "Who can grant what") {
			t.Error("it has roles")
		}
	})
}

var actionButton = regexp.MustCompile(`name="action" value="([a-z_]+)"`)

// Whatever a button of these pages does, a command does too: the page shows it,
// and the guide has it.
func TestPeopleHaveCommands(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{} // by group: its commands
	for line := range strings.Lines(string(guide)) {
		for _, one := range strings.Split(line, "`postern ")[1:] {
			group, verbs, _ := strings.Cut(one, " ")
			known[group] = append(known[group], strings.FieldsFunc(verbs, func(c rune) bool { return strings.ContainsRune(" `·|[]", c) })...)
		}
	}
	check := func(p servertest.Page, commands map[string]string) {
		t.Helper()
		if p.Status != http.StatusOK {
			t.Fatalf("%s: %d", p.URL, p.Status)
		}
		text := p.Text()
		for _, m := range actionButton.FindAllStringSubmatch(p.Body, -1) {
			command := commands[m[1]]
			if command == "" || !strings.Contains(text, "postern "+command) {
				t.Errorf("%s: nothing says how %s is done by %q", p.URL, m[1], command)
			}
			words := strings.Fields(command)
			if len(words) > 1 && !slices.Contains(known[words[0]], words[1]) {
				t.Errorf("the guide does not know postern %s", command)
			}
		}
	}
	t.Run("users", func(t *testing.T) {
		s := servertest.New(t, servertest.Config{})
		d := desk{s, s.Administrator(t)}
		u, _ := d.person(t, "ada@example.test")
		commands := map[string]string{
			"sign_out": "user sign-out ada@example.test", "end_session": "user sign-out ada@example.test", "take_back": "grant revoke", "revoke": "user revoke ada@example.test",
			"deactivate": "user deactivate ada@example.test", "activate": "user activate ada@example.test", "delete": "user delete ada@example.test", "plan": "policy plan",
		}
		page := d.b.Get(t, d.page("users/"+u.ID))
		check(page, commands)
		check(d.send(t, page, "action", "deactivate", "confirm", u.Email), commands)
		check(d.b.Get(t, d.page("roles")), commands)
	})
	t.Run("organizations", func(t *testing.T) {
		s := servertest.New(t, servertest.Config{Vertical: project.B2B})
		d := desk{s, s.Administrator(t)}
		o, ada := d.fennel(t)
		path := d.page("organizations/" + o.ID)
		set := "organization set fennel --"
		check(d.b.Get(t, path), map[string]string{
			"info": set + "name", "people": set + "domain", "apps": set + "first-party-apps", "metadata": set + "trusted-metadata", "own_roles": set + "roles",
			"logo": set + "logo", "suspend": set + "suspend", "delete": "organization delete fennel",
		})
		check(d.send(t, d.b.Get(t, path), "action", "suspend", "confirm", "fennel"), map[string]string{
			"info": set + "name", "people": set + "domain", "apps": set + "first-party-apps", "metadata": set + "trusted-metadata", "own_roles": set + "roles",
			"logo": set + "logo", "resume": set + "resume", "delete": "organization delete fennel",
		})
		member := map[string]string{
			"save": "member set ada@example.test", "revoke": "member revoke ada@example.test", "remove": "member remove ada@example.test", "restore": "member restore",
		}
		check(d.b.Get(t, path+"/members/"+ada.ID), member)
		shows(t, d.b.Get(t, path+"/members"), http.StatusOK, "postern member add EMAIL --organization fennel")
	})
}

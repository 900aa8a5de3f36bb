package login

import (
	"net/http"
	"time"

	"github.com/postern-id/postern/internal/web"
)

// orgSamples draws the pages about an organization, with words from outside
// wherever they can stand.
func orgSamples(name string) []sample {
	const lacks = "Your role, Member, does not include update.info.name of organization."
	frame := func(current string) orgView {
		v := orgView{
			Site: web.Site{Name: "Office"}, form: form{Post: current, CSRF: "csrf-token"},
			Person: "ravi@menon.example", Standing: "Admin", Organization: name, OrganizationID: "organization-test-1",
			SignOut: "/sign-out", Switch: "/switch-organization", MyApps: "/connected-apps",
			Nav: []orgLink{{"Settings", orgPath, current == orgPath}, {"Members", orgMembersPath, current == orgMembersPath}, {"Connected apps", orgAppsPath, current == orgAppsPath}},
		}
		return v
	}
	settings := func(c control) orgSettingsView {
		return orgSettingsView{
			orgView: frame(orgPath), Version: 3,
			Name: textField{name, c}, Slug: textField{"fennel", c}, Domains: textField{"menon.example\nfennel.example", c}, OwnDomain: "menon.example",
			Provisioning: switchField{true, c}, Invitations: choiceField{c, options("invitations", "listed", c, nil)}, Connect: c,
			Policies: []appPolicyField{{control: c, Kind: "third_party", Title: "Apps of others", Options: options("third_party", "all", c, nil), Known: []knownApp{{"app-1", clientView{Name: name, Registered: on(sampleTime)}, true}}, IDs: "app-2"}},
		}
	}
	boxes := []roleBox{{ID: "admin", Title: "Admin", Description: "Runs the organization", Given: true}, {ID: "owner", Title: "Owner", Beyond: true, Closed: true}}
	row := func(status string, c control) memberRow {
		return memberRow{
			ID: "member-test-" + status, Email: status + "@menon.example", Name: name, Titles: "Admin", Status: status, Lapsed: status == "invited",
			SignedIn: before(oneDay), Boxes: boxes, ByDomain: []string{"Reader"},
			Can: map[string]control{doRoles: c, doRemove: c, doRestore: c, doSignOut: c, doInviteAgain: c},
		}
	}
	members := func(c control) orgMembersView {
		return orgMembersView{
			orgView: frame(orgMembersPath), Search: c, Invite: c, Query: name, Roles: boxes, InviteRoles: boxes, Statuses: statusOptions(""),
			Members: []memberRow{row("active", c), row("invited", c), row("deleted", c)}, First: orgMembersPath, Next: orgMembersPath + "?after=member-test-1",
		}
	}
	client := clientView{Name: name, Registered: on(sampleTime)}
	apps := orgAppsView{orgView: frame(orgAppsPath), Done: true, Clients: []orgClientView{{ID: "app-1", Client: client, Grants: []orgGrantView{
		{ID: "grant-1", Email: "max@menon.example", Allowed: before(oneDay), Used: before(time.Hour), Permissions: []permission{{Scope: "read:okrs", Sentence: "Read objectives"}, {Scope: "x"}}},
		{ID: "grant-2", Allowed: before(oneDay)},
	}}}}
	settingsOf := func(v orgSettingsView, status int) func(*pages, http.ResponseWriter) error {
		return func(p *pages, w http.ResponseWriter) error { return p.orgSettings(w, status, v) }
	}
	membersOf := func(v orgMembersView, status int) func(*pages, http.ResponseWriter) error {
		return func(p *pages, w http.ResponseWriter) error { return p.orgMembers(w, status, v) }
	}
	appsOf := func(v orgAppsView, status int) func(*pages, http.ResponseWriter) error {
		return func(p *pages, w http.ResponseWriter) error { return p.orgApps(w, status, v) }
	}
	wrong, done, nobody := settings(control{}), members(control{}), members(control{})
	wrong.Problems = []string{"The slug is wrong."}
	done.Done, done.DoneTo = doRoles, "max@menon.example"
	nobody.Members = nil
	return []sample{
		{"organization", 200, settingsOf(settings(control{}), 200)},
		{"organization-closed", 200, settingsOf(settings(control{lacks}), 200)},
		{"organization-wrong", 422, settingsOf(wrong, 422)},
		{"organization-members", 200, membersOf(done, 200)},
		{"organization-members-closed", 200, membersOf(members(control{lacks}), 200)},
		{"organization-members-nobody", 200, membersOf(nobody, 200)},
		{"organization-apps", 200, appsOf(apps, 200)},
		{"organization-apps-none", 200, appsOf(orgAppsView{orgView: frame(orgAppsPath)}, 200)},
		{"organization-apps-closed", 403, appsOf(orgAppsView{orgView: frame(orgAppsPath), See: control{lacks}}, 403)},
	}
}

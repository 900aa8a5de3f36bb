package login

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/web"
)

// orgView is the frame of the pages about an organization. Their views embed
// it.
type orgView struct {
	web.Site
	form
	Person         string // address of the member
	Standing       string // the member's roles, by name
	Organization   string // its name
	OrganizationID string
	SignOut        string // addresses
	Switch         string
	MyApps         string
	Nav            []orgLink
	Problems       []string // what was wrong with the form that was sent, one sentence each
}

// orgLink is one of the pages.
type orgLink struct {
	Name, Path string
	Current    bool
}

// control is whether a person can use a control, and else the sentence why not.
type control struct{ Refused string }

// Open reports whether it can be used.
func (c control) Open() bool { return c.Refused == "" }

// orgSettingsView is the page with the organization's settings. Its forms send
// section, version and their fields: info (name, slug), people (domains,
// provisioning, invitations), apps (first_party, third_party, each with _app,
// repeated, and _ids).
type orgSettingsView struct {
	orgView
	Version      int64
	Saved        bool
	Name, Slug   textField
	Domains      textField // one a line
	OwnDomain    string    // the only one that this member may add
	Provisioning switchField
	Invitations  choiceField
	Methods      choiceField // ways to sign in
	Connect      control     // of what Policies change
	Policies     []appPolicyField
}

// Info and People report whether anything in the form can be changed.
func (v orgSettingsView) Info() bool { return v.Name.Open() || v.Slug.Open() }

func (v orgSettingsView) People() bool {
	return v.Domains.Open() || v.Provisioning.Open() || v.Invitations.Open() || v.Methods.Open()
}

type textField struct {
	Value string
	control
}

type switchField struct {
	On bool
	control
}

type choiceField struct {
	control
	Options []option
}

// option is one of several in a form.
type option struct {
	Name, Value, Words string
	Chosen, Closed     bool
}

// options are the choices of a field.
func options(name string, chosen identity.Extent, c control, words map[identity.Extent]string) []option {
	var all []option
	for _, e := range []identity.Extent{identity.All, identity.Listed, identity.None} {
		all = append(all, option{name, string(e), words[e], e == chosen, !c.Open()})
	}
	return all
}

// appPolicyField is the choice of connected apps of one kind.
type appPolicyField struct {
	control
	Kind, Title string
	Options     []option
	Known       []knownApp
	IDs         string // of others, one a line
}

// knownApp is a connected app that members have used.
type knownApp struct {
	ID     string
	Client clientView
	Listed bool
}

func (p *pages) orgSettings(w http.ResponseWriter, status int, v orgSettingsView) error {
	return p.web.Render(w, status, "org_settings", v)
}

// orgMembersView is the page with the members. Its forms send action and, but
// for invite (email, role repeated), member; roles sends role, repeated.
type orgMembersView struct {
	orgView
	Search   control // without it only the member's own row is here
	Query    string
	Role     string
	Statuses []option
	Roles    []roleBox // to search for

	Invite      control
	Inviting    bool // the form was sent and refused
	Email       string
	InviteRoles []roleBox

	Members     []memberRow
	First, Next string // addresses of other pages, "" for none
	Done        string // what the form before did
	DoneTo      string // address of the member it was done to
}

// Searched reports whether the list is not the whole one.
func (v orgMembersView) Searched() bool {
	return v.Query != "" || v.Role != "" || slices.ContainsFunc(v.Statuses, func(o option) bool { return o.Chosen && o.Value != "" })
}

// roleBox is a role that can be given.
type roleBox struct {
	ID, Title, Description string
	Given, Closed          bool
	Beyond                 bool // it permits more than who is looking has
}

// memberRow is one member.
type memberRow struct {
	ID, Email, Name string
	Titles          string
	Self            bool
	Status          string
	Lapsed          bool // the invitation was not taken up in time
	SignedIn, Since moment
	ByDomain        []string // roles that the address's domain brings
	Boxes           []roleBox
	Open            bool               // its form was sent and refused: Boxes are what it said
	Can             map[string]control // by what can be done
}

// Refusals are the reasons why something cannot be done here, each once.
func (r memberRow) Refusals() []string {
	var all []string
	for _, do := range r.Deeds() {
		if why := r.Can[do].Refused; why != "" && !slices.Contains(all, why) {
			all = append(all, why)
		}
	}
	return all
}

// Deeds is what could be done to the member in their state.
func (r memberRow) Deeds() []string {
	switch identity.MemberStatus(r.Status) {
	case identity.Deleted:
		return []string{doRestore}
	case identity.Active:
		return []string{doRoles, doSignOut, doRemove}
	}
	return []string{doRoles, doInviteAgain, doRemove}
}

// Here reports whether the member is not removed.
func (r memberRow) Here() bool { return r.Status != string(identity.Deleted) }

// Came reports whether the member is active.
func (r memberRow) Came() bool { return r.Status == string(identity.Active) }

func (p *pages) orgMembers(w http.ResponseWriter, status int, v orgMembersView) error {
	return p.web.Render(w, status, "org_members", v)
}

// orgAppsView is the page with the connected apps of every member. Its forms send
// action one with grant, or all with client.
type orgAppsView struct {
	orgView
	See, Revoke control
	Done        bool // something was taken back
	Clients     []orgClientView
	First, Next string // addresses of other pages, "" for none
}

// orgClientView is a connected app with the members who allowed it.
type orgClientView struct {
	ID     string
	Client clientView
	Grants []orgGrantView
}

// orgGrantView is what one member allowed.
type orgGrantView struct {
	ID            string
	Email         string // "" for a member who is gone
	Allowed, Used moment
	Permissions   []permission
}

func (p *pages) orgApps(w http.ResponseWriter, status int, v orgAppsView) error {
	return p.web.Render(w, status, "org_apps", v)
}

// orgValues are a form's values; lines and words of a field are separate.
type orgValues struct{ url.Values }

// list cuts a field at blanks, commas and line ends, in lower case.
func (v orgValues) list(name string) []string {
	list := []string{}
	for _, word := range strings.FieldsFunc(v.Get(name), func(r rune) bool { return strings.ContainsRune(" ,;\t\r\n", r) }) {
		list = append(list, strings.ToLower(word))
	}
	return list
}

// notPermitted: the member's roles do not include what was asked.
func notPermitted() web.ErrorPage {
	return web.ErrorPage{
		Status:   http.StatusForbidden,
		Headline: "You may not do that here",
		What:     "Your role in this organization does not include it. Nothing was changed.",
		Turn:     web.Administrators,
		Next:     "Ask an administrator of your organization to do it, or to give you a role that may.",
	}
}

package admin

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
)

// membersView is a part of the members of an organization, with the form that
// adds one.
type membersView struct {
	organizationFrame
	pager
	Query    string
	Status   identity.MemberStatus
	Role     string
	Statuses []choice
	Roles    []roleBox
	Members  []memberRow
	Adding   bool   // the form was sent and refused
	Address  string // what was typed
	Name     string
	AddCLI   string
}

// choice is one of several in a form.
type choice struct {
	Value, Words string
	Chosen       bool
}

// memberRow is one member in a list.
type memberRow struct {
	identity.Member
	Path     string
	Titles   string
	Standing string
}

// roleBox is a role that can be given.
type roleBox struct {
	ID, Description string
	Given           bool
}

// Members lists the members of an organization and adds new ones. No mail is
// sent: they are in when they sign in with the address.
func (d *Dashboard) Members(w http.ResponseWriter, r *http.Request) error {
	v, o, ok, err := d.organization(w, r)
	if !ok {
		return err
	}
	ctx, query := r.Context(), r.URL.Query()
	view := membersView{
		organizationFrame: d.organizationFrame(r, v, o, "members", v.command("member", "list", "--organization", o.Slug)),
		Query:             strings.TrimSpace(query.Get("q")), Status: identity.MemberStatus(query.Get("status")), Role: query.Get("role"),
		AddCLI: v.command("member", "add", "EMAIL", "--organization", o.Slug),
	}
	status, given := http.StatusOK, []string(nil)
	if r.Method == http.MethodPost {
		values, err := d.form(r, v, "role")
		if err != nil {
			return err
		}
		view.Adding, view.Address, view.Name, given = true, strings.TrimSpace(values.Get("email")), strings.TrimSpace(values.Get("name")), values["role"]
		added, err := d.People.AddMember(ctx, v.project, o,
			identity.Member{Email: view.Address, Name: view.Name, Roles: append([]string{}, given...), Status: identity.Pending}, d.event(v, audit.MemberAdded, o.ID))
		if err == nil {
			d.done(w, r, view.Here, "add", added.Email)
			return nil
		}
		if view.Problems, err = memberSentences(err); err != nil {
			return err
		}
		status = http.StatusUnprocessableEntity
	}
	if view.Roles, err = d.givable(r, v, o, given); err != nil {
		return err
	}
	for _, s := range []choice{{"", "Not removed", false}, {string(identity.Active), "Active", false}, {string(identity.Invited), "Invited", false}, {string(identity.Pending), "Added, not here yet", false}, {string(identity.Deleted), "Removed", false}} {
		s.Chosen = s.Value == string(view.Status)
		view.Statuses = append(view.Statuses, s)
	}
	if !slices.ContainsFunc(view.Statuses, func(s choice) bool { return s.Chosen }) {
		view.Status = ""
	}
	members, err := d.People.Members(ctx, o, identity.MemberQuery{
		Text: view.Query, Status: view.Status, Role: view.Role, After: query.Get("after"), Limit: peoplePage + 1,
	})
	if err != nil {
		return err
	}
	next := ""
	if len(members) > peoplePage {
		members = members[:peoplePage]
		next = members[peoplePage-1].ID
	}
	view.pager = turn(r, next)
	for _, m := range members {
		view.Members = append(view.Members, memberRow{m, memberPath(v.project, o.ID, m.ID), strings.Join(identity.Titles(m, o), ", "), standing(m, d.Now())})
	}
	return d.pages.Render(w, status, "members", view)
}

// standing is where a membership stands, in one word for the template.
func standing(m identity.Member, now time.Time) string {
	if m.Lapsed(now) {
		return "lapsed"
	}
	return string(m.Status)
}

func memberPath(p *project.Project, organization, id string) string {
	return organizationPath(p, organization, "members/"+url.PathEscape(id))
}

// givable are the roles of the project and the organization besides the one that
// everybody has.
func (d *Dashboard) givable(r *http.Request, v visit, o identity.Organization, given []string) ([]roleBox, error) {
	rules, err := d.People.Rules(r.Context(), v.project)
	if err != nil {
		return nil, err
	}
	var boxes []roleBox
	for _, role := range slices.Concat(rules.Policy.Roles, o.Roles) {
		if role.ID != rbac.RoleMember && !slices.ContainsFunc(boxes, func(b roleBox) bool { return b.ID == role.ID }) {
			boxes = append(boxes, roleBox{role.ID, role.Description, slices.Contains(given, role.ID)})
		}
	}
	return boxes, nil
}

// memberSentences is sentences, in the words of a member.
func memberSentences(err error) ([]string, error) {
	switch {
	case errors.Is(err, identity.ErrConflict):
		return []string{"Somebody with this address is a member or is invited already."}, nil
	case errors.Is(err, identity.ErrLastAdmin):
		return []string{"This is the last administrator of the organization. Give somebody else the role admin first."}, nil
	}
	return sentences(err)
}

// memberView is what a member has besides what every person has.
type memberView struct {
	identity.Member
	Organization     string
	OrganizationPath string
	Standing         string
	Removed          bool
	Sources          []identity.RoleSource
	Boxes            []roleBox
	Form             memberForm
	SetCLI           string
	RestoreCLI       string
}

// memberForm is what the fields of the page hold.
type memberForm struct {
	Name, ExternalID   string
	Trusted, Untrusted string // JSON
	Roles              []string
}

// What can be done to a member besides.
const (
	doSave    = "save"
	doRemove  = "remove"
	doRestore = "restore"
)

// Member shows a member, what they allowed and where they are signed in, and
// changes it.
func (d *Dashboard) Member(w http.ResponseWriter, r *http.Request) error {
	v, o, ok, err := d.organization(w, r)
	if !ok {
		return err
	}
	id := r.PathValue("member")
	if !strings.HasPrefix(id, "member-") { // an address is no id
		return gone(identity.ErrNotFound, "This organization has no member with this id.")
	}
	m, err := d.People.Member(r.Context(), o, id)
	if err != nil {
		return gone(err, "This organization has no member with this id.")
	}
	form := memberForm{m.Name, m.ExternalID, metadataText(m.TrustedMetadata), metadataText(m.UntrustedMetadata), m.Roles}
	status, problems, tried := http.StatusOK, []string(nil), ""
	if r.Method == http.MethodPost {
		values, err := d.form(r, v, "role")
		if err != nil {
			return err
		}
		if tried = values.Get("action"); tried == doSave {
			form = memberForm{strings.TrimSpace(values.Get("name")), strings.TrimSpace(values.Get("external_id")), values.Get("trusted"), values.Get("untrusted"), values["role"]}
		}
		if problems, err = d.changeMember(r, v, o, m, form, values); err != nil {
			return err
		}
		if problems == nil {
			d.done(w, r, memberPath(v.project, o.ID, m.ID), tried, "")
			return nil
		}
		status = http.StatusUnprocessableEntity
	}
	view, err := d.memberView(r, v, o, m, form)
	if err != nil {
		return err
	}
	view.Problems = problems
	if i := slices.IndexFunc(view.Dangers, func(one danger) bool { return one.Action == tried }); i >= 0 && problems != nil {
		view.Dangers[i].Open = true
	}
	return d.pages.Render(w, status, "person", view)
}

// changeMember does what a form of the page asks for. problems says why nothing
// was done.
func (d *Dashboard) changeMember(r *http.Request, v visit, o identity.Organization, m identity.Member, form memberForm, values url.Values) (problems []string, err error) {
	ctx, do := r.Context(), values.Get("action")
	if (do == doRevoke || do == doRemove) && !confirmed(values, confirmationOf(m.Email)) {
		return unconfirmed(confirmationOf(m.Email)), nil
	}
	switch do {
	case doSignOut:
		_, err = d.People.SignOutMember(ctx, m, d.event(v, audit.SignedOut, o.ID))
		return nil, err
	case doEndSession:
		return nil, gone(d.People.EndSession(ctx, v.project.ID, m.ID, values.Get("session"), d.event(v, audit.SignedOut, "")), "This session has ended, or is somebody else’s.")
	case doTakeBack:
		who := oauth.Person{Subject: m.ID, Organization: o.ID}
		return nil, gone(d.Clients.By(v.origin).TakeBack(ctx, v.project, who, values.Get("grant")), "This grant is not there, or is somebody else’s.")
	case doRevoke:
		_, err = d.People.RevokeMember(ctx, m, d.event(v, audit.MemberRevoked, o.ID))
		return nil, err
	}
	change, problems := memberChange(do, form)
	if problems != nil {
		return problems, nil
	}
	_, err = d.People.ChangeMember(ctx, v.project, o, m.ID, func(m *identity.Member) error {
		if sent := values.Get("version"); sent != "" && sent != strconv.FormatInt(m.Version, 10) {
			return identity.ErrStale
		}
		change(m)
		return nil
	}, d.event(v, audit.MemberChanged, o.ID))
	if err == nil {
		return nil, nil
	}
	return memberSentences(err)
}

// memberChange is what a form of the page changes.
func memberChange(do string, form memberForm) (change func(*identity.Member), problems []string) {
	switch do {
	case doSave:
		trusted, wrong := metadataOf("The trusted metadata", form.Trusted)
		untrusted, more := metadataOf("The untrusted metadata", form.Untrusted)
		return func(m *identity.Member) {
			m.Name, m.ExternalID, m.TrustedMetadata, m.UntrustedMetadata = form.Name, form.ExternalID, trusted, untrusted
			m.Roles = append([]string{}, form.Roles...)
		}, append(wrong, more...)
	case doRemove:
		return func(m *identity.Member) { m.Status = identity.Deleted }, nil
	case doRestore:
		return func(m *identity.Member) {
			switch {
			case m.Status != identity.Deleted:
			case m.LastSignInAt.IsZero():
				m.Status = identity.Pending
			default:
				m.Status = identity.Active
			}
		}, nil
	}
	return nil, []string{"This page has no such button any more. Load it again."}
}

func (d *Dashboard) memberView(r *http.Request, v visit, o identity.Organization, m identity.Member, form memberForm) (personView, error) {
	command := func(words ...string) string { return v.command(append(words, "--organization", o.Slug)...) }
	of := organizationPath(v.project, o.ID, "")
	view := personView{
		frame: d.frame(r, v, "organizations", m.Email, command("member", "show", m.Email)).in(link{o.Name, of}, link{"Members", of + "/members"}),
		Name:  m.Name, ID: m.ID,
		Activity:   projectPath(v.project, "activity?person="+url.QueryEscape(m.ID)),
		SignOutCLI: command("member", "sign-out", m.Email), GrantCLI: v.command("grant", "revoke", "GRANT_ID"),
		Member: &memberView{
			Member: m, Organization: o.Name, OrganizationPath: of, Standing: standing(m, d.Now()), Removed: m.Status == identity.Deleted,
			Sources: identity.RolesOf(m, o), Form: form,
			SetCLI: command("member", "set", m.Email, "--role", "ROLE"), RestoreCLI: command("member", "restore", m.ID),
		},
	}
	view.Lead = "Times are UTC"
	var err error
	if view.Member.Boxes, err = d.givable(r, v, o, form.Roles); err != nil {
		return view, err
	}
	if err := d.access(r.Context(), v, oauth.Person{Subject: m.ID, Organization: o.ID}, &view); err != nil {
		return view, err
	}
	if m.Status == identity.Deleted {
		return view, nil
	}
	view.Dangers = []danger{
		view.guard(danger{
			Action: doRevoke, Button: "Revoke everything", Type: confirmationOf(m.Email), Sure: "Revoke everything",
			Stops: view.stops("They stay a member, can sign in and allow again."), CLI: command("member", "revoke", m.Email),
		}),
		view.guard(danger{
			Action: doRemove, Button: "Remove " + m.Email, Type: confirmationOf(m.Email), Sure: "Remove",
			Stops: view.stops("You can bring them back, without what was taken back."), CLI: command("member", "remove", m.Email),
		}),
	}
	return view, nil
}

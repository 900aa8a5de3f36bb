package login

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/web"
)

// membersShown is how many members a page lists.
const membersShown = 25

// memberParameter names a member in addresses and forms.
const memberParameter = "member"

// What can be done to members, with the action that each needs.
const (
	doInvite      = "invite"
	doInviteAgain = "invite_again"
	doRoles       = "roles"
	doRemove      = "remove"
	doRestore     = "restore"
	doSignOut     = "sign_out"
)

func memberAction(do string) (action string, known bool) {
	switch do {
	case doInvite, doInviteAgain, doRestore:
		return "create", true
	case doRoles:
		return "update.settings.roles", true
	case doRemove:
		return "delete", true
	case doSignOut:
		return "revoke-sessions", true
	}
	return "", false
}

// errBeyond says that somebody would be given more than the member who acts
// has, or that the one who is acted upon has more.
var errBeyond = errors.New("login: beyond the member's own rights")

// beyond lists what another member may do and m may not.
func (l *Pages) beyond(r *http.Request, m manager, other identity.Member) ([]rbac.Permission, error) {
	rights, err := l.people.Rights(r.Context(), m.project, other, m.organization)
	return m.rights.Beyond(rights), err
}

// within returns errBeyond unless each of the others may do no more than m.
func (l *Pages) within(r *http.Request, m manager, others ...identity.Member) error {
	for _, other := range others {
		more, err := l.beyond(r, m, other)
		if err != nil {
			return err
		}
		if len(more) > 0 {
			return errBeyond
		}
	}
	return nil
}

// Members shows the members of the member's organization, and changes them.
func (l *Pages) Members(w http.ResponseWriter, r *http.Request) error {
	m, ok, err := l.manage(w, r, orgMembersPath)
	if !ok {
		return err
	}
	if r.Method == http.MethodPost {
		return l.changeMembers(w, r, m)
	}
	return l.listMembers(w, r, m, http.StatusOK, r.URL.Query(), nil, orgValues{})
}

// changeMembers does what a form of the page asks for. What the member's roles
// do not permit is refused whatever the page showed; nobody gives what they
// have not, or touches somebody who may do more.
func (l *Pages) changeMembers(w http.ResponseWriter, r *http.Request, m manager) error {
	values, ok, err := l.orgForm(w, r, m, "role")
	if !ok {
		return err
	}
	do, id := values.Get("action"), values.Get(memberParameter)
	action, known := memberAction(do)
	if !known {
		return l.fail(w, r, "members", web.StatusPage(http.StatusBadRequest))
	}
	kinds := map[string]audit.Kind{doInvite: audit.MemberInvited, doInviteAgain: audit.MemberInvited, doRemove: audit.MemberRemoved, doRestore: audit.MemberRestored, doSignOut: audit.SignedOut}
	e := l.orgEvent(r, m, audit.MemberChanged)
	if kind, ok := kinds[do]; ok {
		e.Kind = kind
	}
	e.Subject = id
	if !m.may(rbac.ResourceMember, action) {
		return l.forbid(w, r, e)
	}
	changed, err := l.changeMember(r, m, do, id, values, e)
	problems := identity.Problems(nil)
	switch {
	case err == nil:
		back := url.Values{doneParameter: {do}, memberParameter: {changed.ID}}
		http.Redirect(w, r, m.project.Path()+orgMembersPath+"?"+back.Encode(), http.StatusSeeOther)
		return nil
	case errors.Is(err, errBeyond):
		return l.forbid(w, r, e)
	case errors.Is(err, identity.ErrNotFound):
		return l.fail(w, r, "members", web.StatusPage(http.StatusNotFound))
	case errors.As(err, &problems):
	case errors.Is(err, errNoInvitations):
		problems = identity.Problems{l.whyNoInvitation(m)}
	case errors.Is(err, identity.ErrConflict):
		problems = identity.Problems{"Somebody with this address is a member or is invited already."}
	case errors.Is(err, identity.ErrLimited):
		problems = identity.Problems{"Too many invitations within an hour, from your organization or to this address. Wait a while and try again."}
	case errors.Is(err, identity.ErrLastAdmin):
		problems = identity.Problems{"This is the last administrator. Give somebody else the role Admin first."}
	case errors.Is(err, identity.ErrNotInvited):
		problems = identity.Problems{"This person came already, or was removed."}
	case errors.Is(err, identity.ErrStale):
		problems = identity.Problems{"Somebody else changed this member at the same moment. Try again."}
	default:
		return err
	}
	return l.listMembers(w, r, m, http.StatusUnprocessableEntity, url.Values{}, problems, values)
}

// errNoInvitations says that the organization's rules let an address not be
// invited.
var errNoInvitations = errors.New("login: the organization does not invite this address")

func (l *Pages) whyNoInvitation(m manager) string {
	if m.organization.Settings.Invitations == identity.Listed {
		return "Your organization invites only addresses of " + strings.Join(m.organization.Settings.AllowedDomains, ", ") + "."
	}
	return "Your organization invites nobody. That stands in its settings."
}

// changeMember does one thing to one member.
func (l *Pages) changeMember(r *http.Request, m manager, do, id string, values orgValues, e audit.Event) (identity.Member, error) {
	ctx := r.Context()
	roles := append([]string{}, values.Values["role"]...)
	change := func(with func(*identity.Member) error) (identity.Member, error) {
		return l.people.ChangeMember(ctx, m.project, m.organization, id, func(other *identity.Member) error {
			if err := l.within(r, m, *other); err != nil {
				return err
			}
			return with(other)
		}, e)
	}
	switch do {
	case doInvite:
		invited := identity.Member{Email: strings.TrimSpace(values.Get("email")), Roles: roles}
		if err := l.within(r, m, identity.Member{Roles: roles}); err != nil {
			return invited, err
		}
		if !m.organization.Invites(invited.Email) {
			return invited, errNoInvitations
		}
		invited, err := l.people.Invite(ctx, m.project, m.organization, invited, e)
		if err != nil {
			return invited, err
		}
		return invited, l.mailInvitation(r, m, invited)
	case doInviteAgain:
		invited, err := l.people.InviteAgain(ctx, m.project, m.organization, id, func(other identity.Member) error {
			if !m.organization.Invites(other.Email) {
				return errNoInvitations
			}
			return l.within(r, m, other)
		}, e)
		if err != nil {
			return invited, err
		}
		return invited, l.mailInvitation(r, m, invited)
	case doRoles:
		return change(func(other *identity.Member) error {
			other.Roles = roles
			return l.within(r, m, *other)
		})
	case doRemove:
		return change(func(other *identity.Member) error {
			other.Status = identity.Deleted
			return nil
		})
	case doRestore:
		return change(func(other *identity.Member) error {
			switch {
			case other.Status != identity.Deleted:
			case other.LastSignInAt.IsZero():
				other.Status = identity.Pending
			default:
				other.Status = identity.Active
			}
			return nil
		})
	}
	other, err := l.people.Member(ctx, m.organization, memberID(id))
	if err != nil {
		return other, err
	}
	if err := l.within(r, m, other); err != nil {
		return other, err
	}
	_, err = l.people.SignOutMember(ctx, other, e)
	return other, err
}

// memberID keeps an address from being taken for the id of a member.
func memberID(id string) string {
	if !strings.HasPrefix(id, "member-") {
		return "member-"
	}
	return id
}

// mailInvitation tells somebody that they are invited. There is no secret in
// the mail: the address is proved by a code.
func (l *Pages) mailInvitation(r *http.Request, m manager, invited identity.Member) error {
	c, err := l.people.Connection(r.Context(), m.project.ID, m.organization.ID)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	subject, text, err := l.pages.inviteMail(inviteMailView{
		SSO:     c.Active && m.organization.TakesSSO(),
		Project: m.project.Name, Organization: m.organization.Name, By: m.email, To: invited.Email,
		Link: m.project.Issuer + switchPath, Until: moment{invited.InvitedAt.Add(identity.InvitationLifetime), l.now()},
	})
	if err != nil {
		return err
	}
	return l.methods.Invite(r.Context(), invited, subject, text)
}

// listMembers draws the page. query is what was searched for; problems are those
// of a form, whose values stand in it again.
func (l *Pages) listMembers(w http.ResponseWriter, r *http.Request, m manager, status int, query url.Values, problems []string, sent orgValues) error {
	v := orgMembersView{
		orgView: l.orgView(m, orgMembersPath), Query: query.Get("q"), Role: query.Get("role"),
		Search: m.control(rbac.ResourceMember, "search"), Invite: m.control(rbac.ResourceMember, "create"),
	}
	v.Problems = problems
	if v.Invite.Open() && m.organization.Settings.Invitations == identity.None {
		v.Invite = control{l.whyNoInvitation(m)}
	}
	roles, err := l.givableRoles(r, m)
	if err != nil {
		return err
	}
	v.Roles = roles
	v.InviteRoles = ticked(roles, nil, v.Invite)
	if v.Inviting = sent.Get("action") == doInvite; v.Inviting {
		v.Email, v.InviteRoles = sent.Get("email"), ticked(roles, sent.Values["role"], v.Invite)
	}
	v.Statuses = statusOptions(identity.MemberStatus(query.Get("status")))
	if !v.Search.Open() {
		v.Members, err = l.memberRows(r, m, []identity.Member{m.visit.Member}, roles)
		if err != nil {
			return err
		}
		return l.pages.orgMembers(w, status, v)
	}
	q := identity.MemberQuery{Text: strings.TrimSpace(v.Query), Role: v.Role, Limit: membersShown + 1}
	if s := identity.MemberStatus(query.Get("status")); slices.ContainsFunc(v.Statuses, func(o option) bool { return o.Value == string(s) }) {
		q.Status = s
	}
	if after := query.Get("after"); after != "" {
		// What was never on a page of this organization is nobody's cursor.
		if _, err := l.people.Member(r.Context(), m.organization, memberID(after)); errors.Is(err, identity.ErrNotFound) {
			return l.fail(w, r, "members", web.StatusPage(http.StatusBadRequest))
		} else if err != nil {
			return err
		}
		q.After, v.First = after, pageOf(v.Post, query, "")
	}
	found, err := l.people.Members(r.Context(), m.organization, q)
	if err != nil {
		return err
	}
	if len(found) > membersShown {
		found = found[:membersShown]
		v.Next = pageOf(v.Post, query, found[membersShown-1].ID)
	}
	if v.Members, err = l.memberRows(r, m, found, roles); err != nil {
		return err
	}
	if sent.Get("action") == doRoles {
		for i, row := range v.Members {
			if row.ID == sent.Get(memberParameter) {
				v.Members[i].Open, v.Members[i].Boxes = true, ticked(roles, sent.Values["role"], row.Can[doRoles])
			}
		}
	}
	// Anybody can make a link that says something was done: it counts only for a
	// member of this organization.
	if id := query.Get(memberParameter); id != "" {
		switch done, err := l.people.Member(r.Context(), m.organization, memberID(id)); {
		case err == nil:
			v.Done, v.DoneTo = doneOf(query.Get(doneParameter), done), done.Email
		case !errors.Is(err, identity.ErrNotFound):
			return err
		}
	}
	return l.pages.orgMembers(w, status, v)
}

// doneOf is what was done to a member, "" where it is not so.
func doneOf(do string, m identity.Member) string {
	switch do {
	case doRemove:
		if m.Status == identity.Deleted {
			return do
		}
	case doInvite, doInviteAgain:
		if m.Status == identity.Invited {
			return do
		}
	case doRoles, doRestore, doSignOut:
		if m.Status != identity.Deleted {
			return do
		}
	}
	return ""
}

// pageOf is the address of another page of the same search.
func pageOf(path string, query url.Values, after string) string {
	next := url.Values{}
	for _, name := range []string{"q", "status", "role"} {
		if value := query.Get(name); value != "" {
			next.Set(name, value)
		}
	}
	if after != "" {
		next.Set("after", after)
	}
	if len(next) == 0 {
		return path
	}
	return path + "?" + next.Encode()
}

// givableRoles are the roles of the project and the organization that a member
// can be given, closed where they permit more than m has.
func (l *Pages) givableRoles(r *http.Request, m manager) ([]roleBox, error) {
	rules, err := l.people.Rules(r.Context(), m.project)
	if err != nil {
		return nil, err
	}
	var boxes []roleBox
	for _, role := range slices.Concat(rules.Policy.Roles, m.organization.Roles) {
		if role.ID == rbac.RoleMember || slices.ContainsFunc(boxes, func(b roleBox) bool { return b.ID == role.ID }) {
			continue
		}
		more, err := l.beyond(r, m, identity.Member{Roles: []string{role.ID}})
		if err != nil {
			return nil, err
		}
		boxes = append(boxes, roleBox{ID: role.ID, Title: identity.Title(role.ID), Description: role.Description, Beyond: len(more) > 0})
	}
	return boxes, nil
}

// ticked returns boxes with those ticked that are given.
func ticked(boxes []roleBox, given []string, c control) []roleBox {
	boxes = slices.Clone(boxes)
	for i, b := range boxes {
		boxes[i].Given, boxes[i].Closed = slices.Contains(given, b.ID), b.Beyond || !c.Open()
	}
	return boxes
}

func (l *Pages) memberRows(r *http.Request, m manager, members []identity.Member, roles []roleBox) ([]memberRow, error) {
	var rows []memberRow
	now := l.now()
	for _, other := range members {
		more, err := l.beyond(r, m, other)
		if err != nil {
			return nil, err
		}
		row := memberRow{
			ID: other.ID, Email: other.Email, Name: other.Name, Titles: strings.Join(identity.Titles(other, m.organization), ", "),
			Self: other.ID == m.session.Subject, Status: string(other.Status), Lapsed: other.Lapsed(now),
			SignedIn: moment{other.LastSignInAt, now}, Since: moment{other.UpdatedAt, now},
			Can: map[string]control{},
		}
		for _, source := range identity.RolesOf(other, m.organization) {
			if source.Domain != "" {
				row.ByDomain = append(row.ByDomain, identity.Title(source.Role))
			}
		}
		for _, do := range []string{doInviteAgain, doRoles, doRemove, doRestore, doSignOut} {
			action, _ := memberAction(do)
			c := m.control(rbac.ResourceMember, action)
			if c.Open() && len(more) > 0 {
				c = control{"This member may do more than you."}
			}
			row.Can[do] = c
		}
		row.Boxes = ticked(roles, other.Roles, row.Can[doRoles])
		rows = append(rows, row)
	}
	return rows, nil
}

// inviteMailView is the mail to somebody who is invited.
type inviteMailView struct {
	Project      string
	Organization string
	By, To       string
	Link         string
	Until        moment
	SSO          bool // members can come by single sign-on
}

// Sender is the name of the project, cleaned: it cannot begin a line of its own.
func (v inviteMailView) Sender() string { return web.ClientText(v.Project) }

// Into is the organization's name, without what addresses are made of: anybody
// can make an organization and have a mail sent in its name.
func (v inviteMailView) Into() string { return web.ClientText(addressMarks.Replace(v.Organization)) }

// inviteMail is the subject and the text of an invitation.
func (p *pages) inviteMail(v inviteMailView) (subject, text string, err error) {
	return p.mailOf("mail_invite.txt", v)
}

// statusOptions are the states to search for.
func statusOptions(chosen identity.MemberStatus) []option {
	var all []option
	for _, s := range []struct {
		status identity.MemberStatus
		words  string
	}{{"", "Not removed"}, {identity.Active, "Active"}, {identity.Invited, "Invited"}, {identity.Pending, "Added, not here yet"}, {identity.Deleted, "Removed"}} {
		all = append(all, option{Name: "status", Value: string(s.status), Words: s.words, Chosen: s.status == chosen})
	}
	return all
}

package login

import (
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/web"
)

// The addresses of the pages about an organization.
const (
	orgPath        = "/organization"
	orgMembersPath = "/organization/members"
	orgAppsPath    = "/organization/connected-apps"
	orgSSOPath     = "/organization/sso"
)

// manager is a member on the pages about their organization, with what their
// roles permit there now.
type manager struct {
	signedIn
	project      *project.Project
	organization identity.Organization
	rights       rbac.Rights
}

// manage returns the member who is signed in, with their organization. ok is
// false when the answer was written: whoever is not signed in is sent to sign
// in, and comes back to returnTo.
func (l *Pages) manage(w http.ResponseWriter, r *http.Request, returnTo string) (m manager, ok bool, err error) {
	p := project.FromContext(r.Context())
	if p.Vertical != project.B2B {
		return m, false, l.fail(w, r, "organization", web.StatusPage(http.StatusNotFound))
	}
	who, ok, err := l.insider(w, r, returnTo)
	if !ok {
		return m, false, err
	}
	m = manager{signedIn: who, project: p, organization: who.visit.Organization}
	m.rights, err = l.people.Rights(r.Context(), p, who.visit.Member, m.organization)
	return m, err == nil, err
}

// binding ties a form to the member's session in this organization.
func (m manager) binding() []string {
	return []string{"organization", m.organization.ID, m.cookieID(), m.session.ID}
}

// may reports whether the member's roles permit an action.
func (m manager) may(resource, action string) bool { return m.rights.Allows(resource, action) }

// control says whether a control is greyed, and why.
func (m manager) control(resource, action string) control {
	if m.may(resource, action) {
		return control{}
	}
	return control{identity.Lacking(m.roleNames(), rbac.Permission{Resource: resource, Actions: []string{action}})}
}

// orgForm reads and checks a form about the organization.
func (l *Pages) orgForm(w http.ResponseWriter, r *http.Request, m manager, repeatable ...string) (orgValues, bool, error) {
	values, ok, err := l.form(w, r, step{who: m.signedIn}, m.binding(), repeatable...)
	return orgValues{values}, ok, err
}

// orgEvent begins an event of something that a member does in their
// organization.
func (l *Pages) orgEvent(r *http.Request, m manager, kind audit.Kind) audit.Event {
	e := l.event(r, kind)
	e.Actor, e.Object = m.session.Subject, m.organization.ID
	return e
}

// forbid keeps the refusal of something that a member may not do, and says so.
// e is what would have been done.
func (l *Pages) forbid(w http.ResponseWriter, r *http.Request, e audit.Event) error {
	e.Refused, e.Reason = true, "no permission"
	web.Note(r.Context(), slog.String("refused", string(e.Kind)))
	if err := l.audit.Record(r.Context(), e); err != nil {
		return err
	}
	return l.fail(w, r, "organization", notPermitted())
}

// orgView begins the view of a page about the organization; current is the
// page's address.
func (l *Pages) orgView(m manager, current string) orgView {
	base := m.project.Path()
	v := orgView{
		Site: site(m.project), form: form{Post: base + current, CSRF: l.csrf.Token(m.binding()...)},
		Person: m.email, Standing: strings.Join(m.roleNames(), " and "), Organization: m.organization.Name, OrganizationID: m.organization.ID,
		SignOut: base + signOutPath, Switch: base + switchPath, MyApps: base + appsPath,
		Nav: []orgLink{{Name: "Settings", Path: base + orgPath}, {Name: "Members", Path: base + orgMembersPath}, {Name: "Connected apps", Path: base + orgAppsPath}, {Name: "Single sign-on", Path: base + orgSSOPath}},
	}
	i := slices.IndexFunc(v.Nav, func(n orgLink) bool { return n.Path == v.Post })
	if i >= 0 {
		v.Nav[i].Current = true
	}
	return v
}

package login

import (
	"errors"
	"net/http"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/web"
)

// appsShown is how many members' connected apps a page lists.
const appsShown = 50

// The actions on the connected apps of an organization.
const (
	seeApps    = "get.connected-apps"
	revokeApps = "revoke.connected-apps"
)

// doneRevoked is what the form of the page did.
const doneRevoked = "revoked"

// OrganizationApps shows what the members of the member's organization allowed,
// and takes it back for one or for all.
func (l *Pages) OrganizationApps(w http.ResponseWriter, r *http.Request) error {
	m, ok, err := l.manage(w, r, orgAppsPath)
	if !ok {
		return err
	}
	if r.Method == http.MethodPost {
		return l.revokeApps(w, r, m)
	}
	v := orgAppsView{orgView: l.orgView(m, orgAppsPath), See: m.control(rbac.ResourceOrganization, seeApps), Revoke: m.control(rbac.ResourceOrganization, revokeApps)}
	v.Done = r.URL.Query().Get(doneParameter) == doneRevoked
	if !v.See.Open() {
		return l.pages.orgApps(w, http.StatusForbidden, v)
	}
	after := r.URL.Query().Get("after")
	found, err := l.oauth.OrganizationApps(r.Context(), m.project, m.organization.ID, after, appsShown+1)
	if errors.Is(err, oauth.ErrNotFound) {
		return l.fail(w, r, "connected apps", web.StatusPage(http.StatusBadRequest))
	}
	if err != nil {
		return err
	}
	if after != "" {
		v.First = v.Post
	}
	if len(found) > appsShown {
		found = found[:appsShown]
		v.Next = v.Post + "?after=" + urlQuery(found[appsShown-1].Grant.ID)
	}
	if v.Clients, err = l.orgClients(r, m, found); err != nil {
		return err
	}
	return l.pages.orgApps(w, http.StatusOK, v)
}

// orgClients groups grants, which come by client, and names who gave them.
func (l *Pages) orgClients(r *http.Request, m manager, found []oauth.ConnectedApp) ([]orgClientView, error) {
	var clients []orgClientView
	now := l.now()
	for _, app := range found {
		if n := len(clients); n == 0 || clients[n-1].ID != app.Client.ID {
			clients = append(clients, orgClientView{ID: app.Client.ID, Client: clientViewOf(m.project, app.Client, now)})
		}
		row := orgGrantView{
			ID: app.Grant.ID, Allowed: moment{app.Grant.CreatedAt, now}, Used: moment{app.LastUsedAt, now},
			Permissions: l.allowed(m.project, app.Scopes),
		}
		member, err := l.people.Member(r.Context(), m.organization, memberID(app.Grant.Subject))
		switch {
		case err == nil:
			row.Email = member.Email
		case !errors.Is(err, identity.ErrNotFound):
			return nil, err
		}
		last := &clients[len(clients)-1]
		last.Grants = append(last.Grants, row)
	}
	return clients, nil
}

// revokeApps takes back what one member, or every member, allowed a connected
// app.
func (l *Pages) revokeApps(w http.ResponseWriter, r *http.Request, m manager) error {
	values, ok, err := l.orgForm(w, r, m)
	if !ok {
		return err
	}
	if !m.may(rbac.ResourceOrganization, revokeApps) {
		e := l.orgEvent(r, m, audit.GrantRevoked)
		e.ClientID = values.Get("client")
		return l.forbid(w, r, e)
	}
	ctx := l.oauth.WithAddress(r)
	switch values.Get("action") {
	case "one":
		err = l.oauth.RevokeInOrganization(ctx, m.project, m.person(), values.Get(grantParameter))
	case "all":
		_, err = l.oauth.RevokeAllInOrganization(ctx, m.project, m.person(), values.Get("client"))
	default:
		return l.fail(w, r, "connected apps", web.StatusPage(http.StatusBadRequest))
	}
	if errors.Is(err, oauth.ErrNotFound) {
		return l.fail(w, r, "connected apps", web.StatusPage(http.StatusNotFound))
	}
	if err != nil {
		return err
	}
	http.Redirect(w, r, m.project.Path()+orgAppsPath+"?"+doneParameter+"="+doneRevoked, http.StatusSeeOther)
	return nil
}

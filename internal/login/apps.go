package login

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// What the form before did travels to the page in its address.
const (
	doneParameter  = "done"
	grantParameter = "grant"
)

// ConnectedApps is the person's own page: what may act for them, and taking it
// back.
func (l *Pages) ConnectedApps(w http.ResponseWriter, r *http.Request) error {
	ctx, p := r.Context(), project.FromContext(r.Context())
	who, ok, err := l.insider(w, r, appsPath)
	if !ok {
		return err
	}
	apps, err := l.oauth.ConnectedApps(ctx, p, who.person())
	if err != nil {
		return err
	}
	v := appsView{
		Site: site(p), form: form{Post: p.Path() + appsPath, CSRF: l.csrf.Token("apps", who.session.ID)},
		Email: who.email, SignOut: p.Path() + signOutPath, Organization: who.visit.Organization.Name, Confined: who.confined(), Switch: p.Path() + switchPath, Manage: p.Path() + orgPath,
	}
	query := r.URL.Query()
	for _, app := range apps {
		now, client, done := l.now(), clientViewOf(p, app.Client, l.now()), doneNothing
		if !app.Grant.RevokedAt.IsZero() {
			client.Shut, done = true, doneTakenBack
			v.TakenBack = append(v.TakenBack, takenBackView{Client: client, When: moment{app.Grant.RevokedAt, now}})
		} else {
			row := l.appView(p, app, client, now)
			if !slices.ContainsFunc(row.Permissions, func(p permission) bool { return p.Writes }) {
				done = doneReadOnly
			}
			v.Apps = append(v.Apps, row)
		}
		// The address says what was done, and anybody can make a link: it counts
		// only where it is true.
		if app.Grant.ID == query.Get(grantParameter) && string(done) == query.Get(doneParameter) {
			v.Done, v.DoneName, v.LastCall = done, app.Client.Name(), moment{app.LastUsedAt, now}
		}
	}
	return l.pages.apps(w, v)
}

func (l *Pages) appView(p *project.Project, app oauth.ConnectedApp, client clientView, now time.Time) appView {
	v := appView{
		Grant: app.Grant.ID, Client: client,
		Allowed: moment{app.Grant.CreatedAt, now}, Used: moment{app.LastUsedAt, now},
		IdleEnd: moment{app.IdleExpiresAt, now}, End: moment{app.ExpiresAt, now},
		Permissions: l.allowed(p, app.Scopes),
	}
	for _, uri := range app.Client.Metadata.RedirectURIs {
		d := oauth.DestinationOf(uri)
		v.Local = v.Local || d.Loopback || d.Private
	}
	return v
}

// ChangeApps takes a connected app's access back, makes it read only, or signs
// the person out everywhere.
func (l *Pages) ChangeApps(w http.ResponseWriter, r *http.Request) error {
	ctx, p := l.oauth.WithAddress(r), project.FromContext(r.Context())
	who, ok, err := l.insider(w, r, appsPath)
	if !ok {
		return err
	}
	values, ok, err := l.form(w, r, step{who: who}, []string{"apps", who.session.ID})
	if !ok {
		return err
	}
	grant := values.Get(grantParameter)
	var done appsDone
	switch values.Get("action") {
	case "take_back":
		done, err = doneTakenBack, l.oauth.TakeBack(ctx, p, who.person(), grant)
	case "read_only":
		done, err = doneReadOnly, l.oauth.MakeReadOnly(ctx, p, who.person(), grant)
	case "sign_out_everywhere":
		if err := l.signOutEverywhere(w, r, who); err != nil {
			return err
		}
		return l.pages.signedOut(w, signedOutView{Site: site(p), Everywhere: true, Organization: who.confined(), SignIn: p.Path() + signInPath})
	default:
		return l.fail(w, r, "connected apps", web.StatusPage(http.StatusBadRequest))
	}
	if errors.Is(err, oauth.ErrNotFound) {
		return l.fail(w, r, "connected apps", web.StatusPage(http.StatusNotFound))
	}
	if err != nil {
		return err
	}
	back := p.Path() + appsPath + "?" + doneParameter + "=" + urlQuery(string(done)) + "&" + grantParameter + "=" + urlQuery(grant)
	http.Redirect(w, r, back, http.StatusSeeOther)
	return nil
}

// signOutEverywhere ends every session of a person, in every browser.
func (l *Pages) signOutEverywhere(w http.ResponseWriter, r *http.Request, who signedIn) error {
	var err error
	if who.visit.Browser.ID != "" {
		err = l.people.LeaveEverywhere(r.Context(), who.visit, l.signedOut(r, who))
	} else {
		_, err = l.people.SignOutEverywhere(r.Context(), who.session, l.signedOut(r, who))
	}
	if err == nil {
		dropCookie(w, project.FromContext(r.Context()), "session")
	}
	return err
}

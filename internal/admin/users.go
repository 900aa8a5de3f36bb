package admin

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

// usersView is a part of the users of a consumer project.
type usersView struct {
	frame
	pager
	Query string
	Users []userRow
}

type userRow struct {
	identity.User
	Path string
}

// Users lists the people of a consumer project.
func (d *Dashboard) Users(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.among(w, r, project.Consumer)
	if !ok {
		return err
	}
	query := strings.TrimSpace(r.URL.Query().Get("q"))
	words := []string{"user", "list"}
	if query != "" {
		words = append(words, query)
	}
	view := usersView{frame: d.frame(r, v, "users", "Users", v.command(words...)), Query: query}
	view.Lead = "Times are UTC"
	users, err := d.People.Users(r.Context(), v.project.ID, query, r.URL.Query().Get("after"), peoplePage+1)
	if err != nil {
		return gone(err, "The user that this page begins after was deleted.")
	}
	next := ""
	if len(users) > peoplePage {
		users = users[:peoplePage]
		next = users[peoplePage-1].ID
	}
	view.pager = turn(r, next)
	for _, u := range users {
		view.Users = append(view.Users, userRow{u, userPath(v.project, u.ID)})
	}
	return d.pages.Render(w, http.StatusOK, "users", view)
}

func userPath(p *project.Project, id string) string {
	return projectPath(p, "users/"+url.PathEscape(id))
}

// What can be done to a user besides.
const (
	doDeactivate = "deactivate"
	doActivate   = "activate"
)

// User shows a user, what they allowed and where they are signed in, and takes
// it away.
func (d *Dashboard) User(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.among(w, r, project.Consumer)
	if !ok {
		return err
	}
	u, err := d.People.User(r.Context(), v.project.ID, r.PathValue("user"))
	if err != nil {
		return gone(err, "This project has no user with this id.")
	}
	status, problems, tried := http.StatusOK, []string(nil), ""
	if r.Method == http.MethodPost {
		values, err := d.form(r, v)
		if err != nil {
			return err
		}
		tried = values.Get("action")
		if problems, err = d.changeUser(r, v, u, values); err != nil {
			return err
		}
		if problems == nil {
			back, about := userPath(v.project, u.ID), ""
			if tried == doDelete {
				back, about = projectPath(v.project, "users"), u.Email
			}
			d.done(w, r, back, tried, about)
			return nil
		}
		status = http.StatusUnprocessableEntity
	}
	view, err := d.userView(r, v, u)
	if err != nil {
		return err
	}
	view.Problems = problems
	if i := slices.IndexFunc(view.Dangers, func(one danger) bool { return one.Action == tried }); i >= 0 && problems != nil {
		view.Dangers[i].Open = true
	}
	return d.pages.Render(w, status, "person", view)
}

// changeUser does what a form of the page asks for. problems says why nothing
// was done.
func (d *Dashboard) changeUser(r *http.Request, v visit, u identity.User, values url.Values) (problems []string, err error) {
	ctx, do := r.Context(), values.Get("action")
	if slices.Contains([]string{doRevoke, doDeactivate, doDelete}, do) && !confirmed(values, confirmationOf(u.Email)) {
		return unconfirmed(confirmationOf(u.Email)), nil
	}
	switch do {
	case doSignOut:
		_, err = d.People.SignOutUser(ctx, u, d.event(v, audit.SignedOut, u.ID))
	case doEndSession:
		err = gone(d.People.EndSession(ctx, v.project.ID, u.ID, values.Get("session"), d.event(v, audit.SignedOut, "")), "This session has ended, or is somebody else’s.")
	case doTakeBack:
		err = gone(d.Clients.By(v.origin).TakeBack(ctx, v.project, oauth.Person{Subject: u.ID}, values.Get("grant")), "This grant is not there, or is somebody else’s.")
	case doRevoke:
		e := d.event(v, audit.UserRevoked, u.ID)
		e.Subject = u.ID
		_, err = d.People.Revoke(ctx, v.project.ID, u.ID, e)
	case doDeactivate, doActivate:
		_, err = d.People.SetActive(ctx, u, do == doActivate, d.event(v, audit.UserActivated, u.ID))
	case doDelete:
		err = d.People.DeleteUser(ctx, u, d.event(v, audit.UserDeleted, u.ID))
	default:
		return []string{"This page has no such button any more. Load it again."}, nil
	}
	return nil, err
}

func (d *Dashboard) userView(r *http.Request, v visit, u identity.User) (personView, error) {
	view := personView{
		frame: d.frame(r, v, "users", u.Email, v.command("user", "show", u.Email)).in(),
		Name:  u.Name, ID: u.ID, User: &u,
		Activity:   projectPath(v.project, "activity?person="+url.QueryEscape(u.ID)),
		SignOutCLI: v.command("user", "sign-out", u.Email), GrantCLI: v.command("grant", "revoke", "GRANT_ID"),
		InCLI: v.command("user", "activate", u.Email),
	}
	view.Lead = "Times are UTC"
	if err := d.access(r.Context(), v, oauth.Person{Subject: u.ID}, &view); err != nil {
		return view, err
	}
	if u.Active {
		view.Dangers = append(view.Dangers,
			view.guard(danger{
				Action: doRevoke, Button: "Revoke everything", Type: confirmationOf(u.Email), Sure: "Revoke everything",
				Stops: view.stops("They can sign in and allow again."), CLI: v.command("user", "revoke", u.Email),
			}),
			view.guard(danger{
				Action: doDeactivate, Button: "Deactivate " + u.Email, Type: confirmationOf(u.Email), Sure: "Deactivate",
				Stops: view.stops("They cannot sign in until you activate them. What was taken back does not come back then."), CLI: v.command("user", "deactivate", u.Email),
			}))
	}
	view.Dangers = append(view.Dangers, view.guard(danger{
		Action: doDelete, Button: "Delete " + u.Email, Type: confirmationOf(u.Email), Sure: "Delete for good",
		Stops: view.stops("Who signs in with this address afterwards is somebody new. The events stay, with the id alone."), CLI: v.command("user", "delete", u.Email),
	}))
	return view, nil
}

package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// personView is one person: a user, or a member of an organization.
type personView struct {
	frame
	Name       string
	ID         string
	User       *identity.User // nil for a member
	Member     *memberView    // nil for a user
	Sessions   []identity.Session
	Grants     []grantRow
	Activity   string // address of what happened to them
	SignOutCLI string
	GrantCLI   string
	InCLI      string // lets a user in again
	Dangers    []danger
}

// grantRow is what a person allowed one connected app.
type grantRow struct {
	oauth.Grant
	LastUsedAt time.Time
	Door       door
	App        string // path of the connected app's page
	Scopes     []string
	Resources  []string // that its tokens are for
	Person     string   // whose it is, where grants of several people are listed
	Path       string   // of their page
}

// door is a connected app's arch.
type door struct {
	Name        string
	Known, Shut bool
	Logo        string // address of its picture, "" without one
}

func (v visit) doorOf(c oauth.Client) door {
	return door{Name: c.Name(), Known: c.Creation != oauth.Dynamic, Shut: c.Blocked, Logo: logoPath(v.project, c.Logo)}
}

// What can be done on the page of a person; users and members alike.
const (
	doSignOut    = "sign_out"
	doEndSession = "end_session"
	doTakeBack   = "take_back"
	doRevoke     = "revoke"
	doDelete     = "delete"
)

// peoplePage is how many people or organizations stand on a page.
const peoplePage = 50

// among enters a project that has this kind of people.
func (d *Dashboard) among(w http.ResponseWriter, r *http.Request, vertical project.Vertical) (v visit, ok bool, err error) {
	if v, ok, err = d.enter(w, r); !ok || v.project.Vertical == vertical {
		return v, ok, err
	}
	what := "This is a consumer project: it has users, and neither organizations nor members."
	if vertical == project.Consumer {
		what = "This is a B2B project: its people are members of organizations."
	}
	return v, false, &web.Error{Status: http.StatusNotFound, Page: web.ErrorPage{What: what, Next: "Choose it in the dashboard’s list of sections."}}
}

// gone makes a page of what is not there, or not there any more.
func gone(err error, what string) error {
	if errors.Is(err, identity.ErrNotFound) || errors.Is(err, oauth.ErrNotFound) {
		return &web.Error{Status: http.StatusNotFound, Page: web.ErrorPage{What: what, Next: "Go back to the list and look for it again."}}
	}
	return err
}

// event begins the event of what an administrator does here.
func (d *Dashboard) event(v visit, kind audit.Kind, object string) audit.Event {
	return v.origin.Event(v.project.ID, d.Now(), kind, object)
}

// access fills in where a person is signed in, and what they allowed.
func (d *Dashboard) access(ctx context.Context, v visit, who oauth.Person, view *personView) error {
	var err error
	if view.Sessions, err = d.People.Sessions(ctx, v.project.ID, who.Subject); err != nil {
		return err
	}
	apps, err := d.Clients.ConnectedApps(ctx, v.project, who)
	if err != nil {
		return err
	}
	for _, app := range apps {
		if app.Grant.RevokedAt.IsZero() {
			view.Grants = append(view.Grants, v.grantRow(app))
		}
	}
	return nil
}

func (v visit) grantRow(app oauth.ConnectedApp) grantRow {
	row := grantRow{
		Grant: app.Grant, LastUsedAt: app.LastUsedAt, Door: v.doorOf(app.Client),
		App: projectPath(v.project, "apps/"+url.PathEscape(app.Client.ID)),
	}
	row.Scopes, row.Resources = oauth.Allowed(app.Scopes)
	return row
}

// stops says what a person loses.
func (view *personView) stops(more string) string {
	return "Ends " + counted(len(view.Sessions), "session") + " and takes back what they allowed " +
		counted(len(view.Grants), "connected app") + ", within seconds. " + more
}

// counted is a number with its noun: "1 session", "12 sessions".
func counted(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.Itoa(n) + " " + noun
}

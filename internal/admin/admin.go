// Package admin is the dashboard: the pages on which administrators look after
// the projects of a deployment. It answers below /dashboard on the deployment's
// own URL and nowhere else.
//
// Dashboard holds the handlers; server registers them. A page begins with enter,
// which finds the administrator behind the cookie and the project of the
// address, and ends with a frame (the rail, the title, the command that does the
// same) around its own view. A form is checked by form, done by an operation of
// a domain package with the administrator as its origin, and answered with a
// redirect that says what was done; only a page that shows a secret once is the
// answer to the form itself.
//
// What a page does, a command of postern does too, with the same operation and
// the same event. The package keeps nothing and decides nothing: no rule about
// clients, people or tokens lives here.
package admin

import (
	"context"
	"embed"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/picture"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/web"
	"github.com/postern-id/postern/internal/wire"
)

// Path is where the dashboard begins.
const Path = "/dashboard"

// The addresses outside of any project.
const (
	signInPath   = Path + "/sign-in"
	signOutPath  = Path + "/sign-out"
	projectsPath = Path + "/projects"
)

// Config is what New needs. All of it is required, but for FixedIssuers.
type Config struct {
	URL            string // the deployment's own
	Version        string
	Database       string // "SQLite" or "PostgreSQL", for the foot of the rail
	Projects       *project.Setup
	Clients        *oauth.Setup
	People         *identity.People
	Administrators *signin.Administrators
	Keys           *signing.Keys
	Workspace      *project.WorkspaceKeys
	Events         audit.Reader
	Tallies        *audit.Tallies
	Traces         audit.TraceReader
	CSRF           web.CSRF
	Now            func() time.Time
	// Changed makes the server take in at once what was changed in the database.
	Changed func(ctx context.Context)
	// KeepRefusal keeps the event of a refusal that somebody can cause at will, inside
	// limits.
	KeepRefusal func(ctx context.Context, e audit.Event, own ...oauth.Counter) error
	// Ask is the client that asks an MCP server what it says of itself.
	Ask func(p *project.Project) *http.Client
	// FixedIssuers says that the addresses of the projects are not the
	// administrators' to choose: postern dev makes them of its ports.
	FixedIssuers bool
	// Unfit names why a project with this name and issuer must not be served.
	Unfit func(name, issuer string) []string
}

// Dashboard answers what administrators ask for.
type Dashboard struct {
	Config
	pages *web.Pages
}

//go:embed templates
var templates embed.FS

// New reads the templates and returns a Dashboard.
func New(c Config) (*Dashboard, error) {
	if c.URL == "" || c.Version == "" || c.Database == "" || c.Projects == nil || c.Clients == nil || c.People == nil ||
		c.Administrators == nil || c.Keys == nil || c.Workspace == nil || c.Ask == nil || c.Events == nil || c.Tallies == nil || c.Traces == nil || c.CSRF.Key == [32]byte{} || c.Now == nil || c.Changed == nil || c.KeepRefusal == nil || c.Unfit == nil {
		return nil, errors.New("admin: every field of Config is required")
	}
	pages, err := web.NewPages(templates)
	if err != nil {
		return nil, err
	}
	return &Dashboard{Config: c, pages: pages}, nil
}

// Error is the web.ErrorWriter of the dashboard.
func (d *Dashboard) Error(w http.ResponseWriter, _ *http.Request, e *web.Error) {
	page := e.Page
	page.At, page.Way, page.WayTo = d.Now(), Path, "Back to the dashboard"
	if err := d.pages.Error(w, page); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// visit is one request of a signed-in administrator.
type visit struct {
	session  identity.AdministratorSession
	who      identity.Administrator
	origin   audit.Origin
	project  *project.Project // of the address, nil where there is none
	projects []*project.Project
}

// enter finds who asks, and about which project. ok is false when the answer was
// written: whoever is not signed in goes to the door and comes back.
func (d *Dashboard) enter(w http.ResponseWriter, r *http.Request) (v visit, ok bool, err error) {
	ctx := r.Context()
	v.session, v.who, err = d.Administrators.Session(ctx, readSession(r, d.URL))
	if errors.Is(err, identity.ErrNotFound) {
		next := r.URL.RequestURI()
		if r.Method != http.MethodGet {
			next = r.URL.Path
		}
		http.Redirect(w, r, signInPath+"?next="+url.QueryEscape(next), http.StatusSeeOther)
		return v, false, nil
	}
	if err != nil {
		return v, false, err
	}
	v.origin = audit.Origin{Actor: v.who.Email, Address: web.ClientIP(r).String(), TraceID: web.Trace(ctx)}
	if v.projects, err = d.Projects.All(ctx); err != nil {
		return v, false, err
	}
	if id := r.PathValue("project"); id != "" {
		i := slices.IndexFunc(v.projects, func(p *project.Project) bool { return p.ID == id })
		if i < 0 {
			return v, false, &web.Error{Status: http.StatusNotFound, Page: web.ErrorPage{
				What: "No project has this id. It may have been made in another deployment.", Next: "Choose a project on " + d.URL + Path + ".",
			}}
		}
		v.project = v.projects[i]
	}
	return v, true, nil
}

// form reads a form of this administrator's own pages.
func (d *Dashboard) form(r *http.Request, v visit, repeatable ...string) (url.Values, error) {
	return d.formUpTo(r, v, web.BodyPage, repeatable...)
}

// formUpTo is form for one that may be longer than others.
func (d *Dashboard) formUpTo(r *http.Request, v visit, most int64, repeatable ...string) (url.Values, error) {
	values, err := wire.Form(r, most, repeatable...)
	if err != nil {
		return nil, err
	}
	return values, d.ofOurs(r, v, values)
}

// upload is form for one with a picture in the field called file, nil where none
// was chosen.
func (d *Dashboard) upload(r *http.Request, v visit) (values url.Values, file []byte, err error) {
	values, file, err = wire.Upload(r, picture.MaxBytes+web.BodyPage, "file")
	if err == nil {
		err = d.ofOurs(r, v, values)
	}
	return values, file, err
}

const csrfPurpose = "dashboard"

// ofOurs refuses a form that no page of ours made for this session.
func (d *Dashboard) ofOurs(r *http.Request, v visit, values url.Values) error {
	if d.CSRF.Check(values.Get("csrf"), csrfPurpose, v.session.ID) {
		return nil
	}
	if err := d.refuseForm(r, v.who.Email, audit.ReasonFormToken); err != nil {
		return err
	}
	return &web.Error{Status: http.StatusForbidden}
}

// OtherSite keeps that a form came from another site, for web.SameOrigin.
func (d *Dashboard) OtherSite(r *http.Request) error {
	return d.refuseForm(r, "", audit.ReasonOtherSite)
}

// refuseForm keeps that a form came which none of our pages made. Whoever it is
// about did not send it, as far as we know.
func (d *Dashboard) refuseForm(r *http.Request, about, reason string) error {
	return d.KeepRefusal(r.Context(), audit.Event{
		At: d.Now(), Kind: audit.FormRefused, Subject: about, Object: web.PagePath(r),
		Address: web.ClientIP(r).String(), TraceID: web.Trace(r.Context()), Reason: reason,
	})
}

// done answers a form that was carried out: back to a page, which says so.
// about is the name of what it was done to, "" for none.
func (d *Dashboard) done(w http.ResponseWriter, r *http.Request, path, what, about string) {
	query := url.Values{"done": {what}}
	if about != "" {
		query.Set("about", about)
	}
	separator := "?"
	if strings.Contains(path, "?") {
		separator = "&"
	}
	http.Redirect(w, r, path+separator+query.Encode(), http.StatusSeeOther)
}

// Home leads to the overview of the only project, or to the list of them.
func (d *Dashboard) Home(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	to := projectsPath
	if len(v.projects) == 1 {
		to = projectPath(v.projects[0], "")
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// projectPath is the address of a page of a project; page is "" for the
// overview.
func projectPath(p *project.Project, page string) string {
	path := projectsPath + "/" + p.ID
	if page != "" {
		path += "/" + page
	}
	return path
}

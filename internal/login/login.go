// Package login is the hosted side of Postern: the pages where a person signs
// in, decides what a connected app may do, and takes it back.
//
// Pages holds the handlers; server registers them at these addresses:
//
//	GET  /oauth/authorize        Authorize       an authorization request arrives
//	POST /oauth/authorize        AuthorizeForm   one by a form; becomes the GET
//	GET  /login                  SignIn          sign in without a connected app
//	GET  /switch-organization    SwitchOrganization
//	GET  /flow/{flow}            Flow            whatever this flow needs next
//	POST /flow/{flow}/email      SendCode
//	POST /flow/{flow}/code       RedeemCode
//	GET, POST /flow/{flow}/organization  Organization  choose, make or switch to an organization
//	POST /flow/{flow}/consent    Consent
//	GET  /flow/{flow}/email, code, consent  Again  a form's page that is loaded again
//	GET  /connected-apps         ConnectedApps   the person's own page
//	POST /connected-apps         ChangeApps
//	GET, POST /organization      OrganizationSettings  of the member's organization
//	GET, POST /organization/members  Members
//	GET, POST /organization/connected-apps  OrganizationApps
//	GET, POST /organization/sso  OrganizationSSO  its own sign-in service
//	GET  /organization/sso/test  TestSSO
//	GET  /flow/{flow}/sso        SSO             sign in there
//	GET  /sso/callback/{organization}  SSOCallback
//	GET, POST /sign-out          SignOut
//	GET, POST /oauth/logout      Logout          RP-initiated logout
//	GET  /logo/{digest}          Logo            of the project or a connected app
//	GET  /                       Home
//
// A flow is a sign-in in one browser, bound to it by a cookie, perhaps with an
// authorization request that waits. Every step reads the flow, decides what
// comes next, and either draws that page or moves on to the same address. The
// person's session is a cookie of its own. The answer to a connected app leaves
// by a page with a Refresh header, never by a redirect after a form (decision
// 12).
//
// The package decides nothing about the protocol (oauth does) or about proofs
// (signin does); it is the bridge between them, and the only place with
// cookies.
package login

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/web"
)

// The addresses that pages send people to, below the issuer's path.
const (
	flowPath    = "/flow/"
	appsPath    = "/connected-apps"
	switchPath  = "/switch-organization"
	signInPath  = "/login"
	signOutPath = "/sign-out"
	logoutPath  = "/oauth/logout"
	logoPath    = "/logo/"
)

// Config is what New needs. All but Mailbox are required.
type Config struct {
	OAuth    *oauth.Server
	People   *identity.People
	Methods  *signin.Methods
	Upstream *signin.Upstream
	CSRF     web.CSRF
	Audit    audit.Recorder // keeps what was refused
	Now      func() time.Time
	Mailbox  string // address of the mailbox of `postern dev`, "" elsewhere
	// Mails counts a mail that a browser asks for; where its network has had all
	// of them it says how long to wait.
	Mails func(r *http.Request) (wait time.Duration, ok bool)
}

// Pages answers everything a person's browser asks for.
type Pages struct {
	oauth    *oauth.Server
	people   *identity.People
	methods  *signin.Methods
	upstream *signin.Upstream
	csrf     web.CSRF
	audit    audit.Recorder
	now      func() time.Time
	mailbox  string
	mails    func(r *http.Request) (wait time.Duration, ok bool)
	pages    *pages
}

// New reads the templates and returns Pages.
func New(c Config) (*Pages, error) {
	if c.OAuth == nil || c.People == nil || c.Methods == nil || c.Upstream == nil || c.Audit == nil || c.Now == nil || c.Mails == nil || c.CSRF.Key == [32]byte{} {
		return nil, errors.New("login: OAuth, People, Methods, Upstream, CSRF, Audit, Now and Mails are required")
	}
	pages, err := newPages()
	if err != nil {
		return nil, err
	}
	return &Pages{
		oauth: c.OAuth, people: c.People, methods: c.Methods, upstream: c.Upstream, csrf: c.CSRF, audit: c.Audit,
		now: c.Now, mailbox: c.Mailbox, mails: c.Mails, pages: pages,
	}, nil
}

// site is the frame that every page of a project has.
func site(p *project.Project) web.Site {
	return web.Site{
		Base: p.Path(), Name: p.Name, ID: p.ID, Logo: logoAddress(p, p.Logo), HideBadge: p.Settings.HideBadge,
		PrivacyURL: p.Settings.PrivacyURL, HelpURL: p.Settings.HelpURL,
	}
}

// fail draws an error page of this project and request. Its headline goes into
// the log beside the trace code; it is a sentence of ours with its holes open.
func (l *Pages) fail(w http.ResponseWriter, r *http.Request, step string, e web.ErrorPage) error {
	web.Note(r.Context(), slog.String("refused", e.Headline), slog.String("step", step))
	e.Site, e.At, e.Step = site(project.FromContext(r.Context())), l.now(), step
	if e.Trace == "" {
		e.Trace = web.Trace(r.Context())
	}
	return l.pages.fail(w, e)
}

// Error is the web.ErrorWriter of pages: it draws what a handler returned.
func (l *Pages) Error(w http.ResponseWriter, r *http.Request, e *web.Error) {
	page := e.Page
	page.At = l.now()
	if p, ok := project.Known(r.Context()); ok {
		page.Site = site(p)
	}
	if err := l.pages.fail(w, page); err != nil {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

// event begins an audit event of this request.
func (l *Pages) event(r *http.Request, kind audit.Kind) audit.Event {
	return audit.Event{
		ProjectID: project.FromContext(r.Context()).ID, At: l.now(), Kind: kind,
		Address: web.ClientIP(r).String(), TraceID: web.Trace(r.Context()),
	}
}

// signedOut is the event of a person's session that ends.
func (l *Pages) signedOut(r *http.Request, who signedIn) audit.Event {
	e := l.event(r, audit.SignedOut)
	e.Actor, e.Subject, e.Object = who.session.Subject, who.session.Subject, who.cookieID()
	return e
}

// ending is what a new sign-in on this request takes the place of.
func (l *Pages) ending(r *http.Request, who signedIn) identity.Ending {
	if who.visit.Browser.ID != "" {
		return identity.Ending{BrowserID: who.visit.Browser.ID, Event: l.signedOut(r, who)}
	}
	return identity.Ending{SessionID: who.session.ID, Event: l.signedOut(r, who)}
}

// signedIn is who is signed in on a request. In a B2B project the cookie stands
// for a browser, and there is no session before an organization is chosen.
type signedIn struct {
	session identity.Session
	email   string
	visit   identity.Visit // of a B2B project
}

// inside reports whether the person can act: in a B2B project, whether they are
// in an organization.
func (s signedIn) inside() bool { return s.session.ID != "" }

// confined is the name of the one organization that the person's proof counts for,
// "" where the address itself was proved.
func (s signedIn) confined() string {
	if s.visit.Browser.Confined() == "" {
		return ""
	}
	return s.visit.Organization.Name
}

// authTime is when the person last proved who they are.
func (s signedIn) authTime() time.Time {
	if s.visit.Browser.ID != "" {
		return s.visit.Browser.AuthTime()
	}
	return s.session.AuthTime()
}

// cookieID is what the cookie stands for.
func (s signedIn) cookieID() string {
	if s.visit.Browser.ID != "" {
		return s.visit.Browser.ID
	}
	return s.session.ID
}

// person gives the signed-in person in the protocol's words.
func (s signedIn) person() oauth.Person {
	return oauth.Person{
		Subject: s.session.Subject, Organization: s.session.OrganizationID, SessionID: s.session.ID, AuthTime: s.authTime(),
	}
}

// session returns who is signed in, or identity.ErrNotFound.
func (l *Pages) session(ctx context.Context, r *http.Request) (signedIn, error) {
	p := project.FromContext(ctx)
	given, ok := readSession(r, p)
	if !ok {
		return signedIn{}, identity.ErrNotFound
	}
	if p.Vertical == project.B2B {
		v, err := l.people.Visit(ctx, p, given.ID, given.Matches)
		return signedIn{session: v.Session, email: v.Browser.Email, visit: v}, err
	}
	idle := time.Duration(p.Settings.Lifetimes.SessionIdle) * time.Second
	s, u, err := l.people.Session(ctx, p.ID, given.ID, given.Matches, idle)
	return signedIn{session: s, email: u.Email}, err
}

// insider returns who is signed in and can act. ok is false when the answer
// was written: whoever is not is sent to sign in, and comes back to returnTo.
func (l *Pages) insider(w http.ResponseWriter, r *http.Request, returnTo string) (who signedIn, ok bool, err error) {
	who, err = l.session(r.Context(), r)
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return who, false, err
	}
	if err != nil || !who.inside() {
		return who, false, l.begin(w, r, returnTo, nil)
	}
	return who, true, nil
}

// signOut ends what the cookie stands for, and the cookie.
func (l *Pages) signOut(w http.ResponseWriter, r *http.Request, who signedIn) error {
	var err error
	if who.visit.Browser.ID != "" {
		err = l.people.Leave(r.Context(), who.visit.Browser, l.signedOut(r, who))
	} else {
		err = l.people.SignOut(r.Context(), who.session, l.signedOut(r, who))
	}
	if err == nil {
		dropCookie(w, project.FromContext(r.Context()), "session")
	}
	return err
}

// Package login is the hosted side of Postern: the pages where a person signs
// in, decides what a connected app may do, and takes it back.
//
// Pages holds the handlers; server registers them at these addresses:
//
//	GET  /oauth/authorize        Authorize       an authorization request arrives
//	POST /oauth/authorize        AuthorizeForm   one by a form; becomes the GET
//	GET  /login                  SignIn          sign in without a connected app
//	GET  /flow/{flow}            Flow            whatever this flow needs next
//	POST /flow/{flow}/email      SendCode
//	POST /flow/{flow}/code       RedeemCode
//	POST /flow/{flow}/consent    Consent
//	GET  /connected-apps         ConnectedApps   the person's own page
//	POST /connected-apps         ChangeApps
//	GET, POST /sign-out          SignOut
//	GET, POST /oauth/logout      Logout          RP-initiated logout
//	GET  /logo/{digest}          Logo            of the project or a connected app
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

// The addresses that pages send people to.
const (
	flowPath    = "/flow/"
	appsPath    = "/connected-apps"
	signInPath  = "/login"
	signOutPath = "/sign-out"
	logoutPath  = "/oauth/logout"
	logoPath    = "/logo/"
)

// Config is what New needs. All but Mailbox are required.
type Config struct {
	OAuth   *oauth.Server
	People  *identity.People
	Methods *signin.Methods
	CSRF    web.CSRF
	Now     func() time.Time
	Mailbox string // address of the mailbox of `postern dev`, "" elsewhere
}

// Pages answers everything a person's browser asks for.
type Pages struct {
	oauth   *oauth.Server
	people  *identity.People
	methods *signin.Methods
	csrf    web.CSRF
	now     func() time.Time
	mailbox string
	pages   *pages
}

// New parses the templates and returns Pages.
func New(c Config) (*Pages, error) {
	if c.OAuth == nil || c.People == nil || c.Methods == nil || c.Now == nil || c.CSRF.Key == [32]byte{} {
		return nil, errors.New("login: OAuth, People, Methods, CSRF and Now are required")
	}
	pages, err := newPages()
	if err != nil {
		return nil, err
	}
	return &Pages{
		oauth: c.OAuth, people: c.People, methods: c.Methods, csrf: c.CSRF,
		now: c.Now, mailbox: c.Mailbox, pages: pages,
	}, nil
}

// site is the frame that every page of a project has.
func site(p *project.Project) web.Site {
	return web.Site{
		Name: p.Name, ID: p.ID, Logo: logoAddress(p.Logo), HideBadge: p.Settings.HideBadge,
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
	e.Actor, e.Subject, e.Object = who.user.ID, who.user.ID, who.session.ID
	return e
}

// signedIn is who is signed in on a request.
type signedIn struct {
	session identity.Session
	user    identity.User
}

// person gives the signed-in person in the protocol's words.
func (s signedIn) person() oauth.Person {
	return oauth.Person{Subject: s.user.ID, SessionID: s.session.ID, AuthTime: s.session.AuthTime()}
}

// session returns who is signed in, or identity.ErrNotFound.
func (l *Pages) session(ctx context.Context, r *http.Request) (signedIn, error) {
	p := project.FromContext(ctx)
	given, ok := readSession(r, p)
	if !ok {
		return signedIn{}, identity.ErrNotFound
	}
	idle := time.Duration(p.Settings.Lifetimes.SessionIdle) * time.Second
	s, u, err := l.people.Session(ctx, p.ID, given.ID, given.Matches, idle)
	return signedIn{s, u}, err
}

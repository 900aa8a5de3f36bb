package admin

import (
	"errors"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/web"
	"github.com/postern-id/postern/internal/wire"
)

// The addresses of the door.
const (
	setupPath = Path + "/setup"
	youPath   = Path + "/you"
	addPath   = youPath + "/add"
)

// from says where a request comes from.
func from(r *http.Request) signin.From {
	address := web.ClientIP(r)
	return signin.From{Address: address.String(), Network: web.AddressKey(address), UserAgent: r.UserAgent(), TraceID: web.Trace(r.Context())}
}

// setupView is the page that takes a one-time link.
type setupView struct {
	web.Site
	Problem string
}

// enrolView is the page on which somebody makes themselves a way to sign in.
type enrolView struct {
	web.Site
	Heading   string
	Lead      string
	Here      string
	Back      string
	CSRF      string // of a signed-in administrator, "" before
	Enrolment signin.Enrolment
	Typed     string // address
	Password  bool   // that is the way they chose
	Problems  []string
}

// Wide is how wide the QR code is, with the quiet zone that readers need.
func (v enrolView) Wide() int { return v.Enrolment.TOTP.Size + 8 }

// Pixels is how wide it is drawn: a camera needs whole pixels.
func (v enrolView) Pixels() int { return 4 * v.Wide() }

// Setup takes a one-time link and makes its holder an administrator, or gives an
// administrator a new way to sign in.
func (d *Dashboard) Setup(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return d.pages.Render(w, http.StatusOK, "setup", setupView{})
	}
	values, err := wire.Form(r, web.BodyPage)
	if err != nil {
		return err
	}
	if values.Has("link") {
		enrolment, err := d.Administrators.OpenLink(r.Context(), values.Get("link"), from(r))
		if errors.Is(err, signin.ErrRefused) {
			return d.noLink(w)
		}
		if err != nil {
			return err
		}
		return d.enrol(w, http.StatusOK, setupPage(), enrolment)
	}
	key, again, err := d.Administrators.Accept(r.Context(), d.step(r), answerOf(values), from(r))
	var problems identity.Problems
	switch {
	case err == nil:
		d.dropStep(w)
		d.setSession(w, key)
		http.Redirect(w, r, Path, http.StatusSeeOther)
		return nil
	case errors.As(err, &problems):
		view := setupPage()
		view.Problems, view.Typed, view.Password = problems, values.Get("email"), values.Get("passkey") == ""
		return d.enrol(w, http.StatusUnprocessableEntity, view, again)
	case errors.Is(err, signin.ErrRefused):
		d.dropStep(w)
		return d.noLink(w)
	}
	return busy(err)
}

func (d *Dashboard) noLink(w http.ResponseWriter) error {
	return d.pages.Render(w, http.StatusForbidden, "setup", setupView{
		Problem: "This link does not work: it was used, has run out, or is not whole. Open it again as it was printed, or have a new one made with postern admin.",
	})
}

func setupPage() enrolView {
	return enrolView{
		Heading: "Choose how you sign in", Here: setupPath,
		Lead: "The link is right. It is used up when you have a way to sign in.",
	}
}

// enrol draws the page of an enrolment and binds it to the browser.
func (d *Dashboard) enrol(w http.ResponseWriter, status int, view enrolView, e signin.Enrolment) error {
	view.Enrolment = e
	d.setStep(w, e.Cookie)
	return d.pages.Render(w, status, "enrol", view)
}

func answerOf(values url.Values) signin.Answer {
	return signin.Answer{
		Email: values.Get("email"), Name: values.Get("name"), Passkey: values.Get("passkey"), Password: values.Get("password"), Code: values.Get("code"),
	}
}

// signInView is the page that asks who somebody is.
type signInView struct {
	web.Site
	Next      string
	Email     string
	Problem   string
	Unclaimed bool
	SignedOut bool
}

// SignIn asks for a passkey, or for address, password and code at once.
func (d *Dashboard) SignIn(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		claimed, err := d.Administrators.Store.Claimed(ctx)
		if err != nil {
			return err
		}
		query := r.URL.Query()
		return d.pages.Render(w, http.StatusOK, "signin", signInView{
			Next: onward(query.Get("next")), Unclaimed: !claimed, SignedOut: query.Get("done") == "signed-out",
		})
	}
	values, err := wire.Form(r, web.BodyPage)
	if err != nil {
		return err
	}
	view := signInView{Next: onward(values.Get("next")), Email: values.Get("email")}
	var key secret.Secret
	passkey := values.Get("passkey") != ""
	if passkey {
		key, err = d.Administrators.SignInByPasskey(ctx, d.step(r), values.Get("passkey"), from(r))
	} else {
		key, err = d.Administrators.SignInByPassword(ctx, view.Email, values.Get("password"), values.Get("code"), from(r))
	}
	switch {
	case err == nil:
		d.dropStep(w)
		d.setSession(w, key)
		http.Redirect(w, r, view.Next, http.StatusSeeOther)
		return nil
	case errors.Is(err, signin.ErrRefused) && passkey:
		view.Problem = "This passkey did not sign you in. Try again, or use your password."
		return d.pages.Render(w, http.StatusForbidden, "signin", view)
	case errors.Is(err, signin.ErrRefused):
		view.Problem = "Address, password and code do not belong together, or the code was used. Wait for the next code and try again."
		return d.pages.Render(w, http.StatusForbidden, "signin", view)
	case errors.Is(err, identity.ErrLimited):
		view.Problem = "Too many tries with a password. Wait a few minutes, or sign in with a passkey."
		return d.pages.Render(w, http.StatusTooManyRequests, "signin", view)
	}
	return busy(err)
}

// busy answers while too many passwords are being checked.
func busy(err error) error {
	if errors.Is(err, signin.ErrBusy) {
		return &web.Error{Status: http.StatusServiceUnavailable, RetryAfter: 2 * time.Second, Cause: err, Page: web.ErrorPage{
			Headline: "Too many people sign in at once", What: "We check a few passwords at a time, and the line is full. Nothing was changed.",
			Turn: web.Yours, Next: "Wait a moment and try again. A passkey works all the same.",
		}}
	}
	return err
}

// Challenge begins a sign-in by passkey: the options for the browser, in JSON.
func (d *Dashboard) Challenge(w http.ResponseWriter, r *http.Request) error {
	options, cookie, err := d.Administrators.Challenge(r.Context())
	if err != nil {
		return err
	}
	d.setStep(w, cookie)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(options)) // a browser that went away needs no answer
	return nil
}

// SignOut ends the session of this browser.
func (d *Dashboard) SignOut(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	if _, err := d.form(r, v); err != nil {
		return err
	}
	if err := d.Administrators.End(r.Context(), v.session, v.who, from(r)); err != nil {
		return err
	}
	d.dropSession(w)
	http.Redirect(w, r, signInPath+"?done=signed-out", http.StatusSeeOther)
	return nil
}

// youView is an administrator's own page.
type youView struct {
	frame
	Fresh    bool // they may change how they sign in
	Only     bool // there is one way
	Password bool
	Others   bool // they are signed in elsewhere
	Passkeys []passkeyRow
	Browsers []browserRow
}

type passkeyRow struct{ ID, Name, Since, Used string }

type browserRow struct {
	Address, Agent, Since, Seen string
	This                        bool
}

// You shows how an administrator signs in and where they are signed in.
func (d *Dashboard) You(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	if r.Method == http.MethodPost {
		done, problems, err := d.changeYou(r, v)
		if err != nil {
			return err
		}
		if len(problems) == 0 {
			d.done(w, r, youPath, done, "")
			return nil
		}
		return d.you(w, r, v, problems)
	}
	return d.you(w, r, v, nil)
}

func (d *Dashboard) changeYou(r *http.Request, v visit) (done string, problems []string, err error) {
	values, err := d.form(r, v)
	if err != nil {
		return "", nil, err
	}
	switch values.Get("action") {
	case "others":
		return "others", nil, d.Administrators.EndOthers(r.Context(), v.session, v.who, from(r))
	case "remove":
		if !d.Administrators.Fresh(v.session) {
			return "", nil, stale()
		}
		err := d.Administrators.RemoveWay(r.Context(), v.who, v.session.ID, values.Get("passkey"), from(r))
		switch {
		case errors.Is(err, identity.ErrLastWay):
			return "", []string{"The only way to sign in stays. Add another one first."}, nil
		case errors.Is(err, identity.ErrNotFound):
			return "", []string{"It is gone already."}, nil
		}
		return "removed", nil, err
	}
	return "", nil, &web.Error{Status: http.StatusBadRequest}
}

// stale refuses a change of how somebody signs in that comes too long after they
// proved who they are.
func stale() error {
	return &web.Error{Status: http.StatusForbidden, Page: web.ErrorPage{
		Headline: "Sign in again first", What: "Changing how you sign in needs a sign-in of the last five minutes. Nothing was changed.",
		Turn: web.Yours, Next: "Go back to your page, choose Sign in again, and repeat what you did.",
	}}
}

func (d *Dashboard) you(w http.ResponseWriter, r *http.Request, v visit, problems []string) error {
	ways, err := d.Administrators.Ways(r.Context(), v.who)
	if err != nil {
		return err
	}
	view := youView{
		frame: d.frame(r, v, "-", "You", command("admin", "list")), Fresh: d.Administrators.Fresh(v.session), Password: ways.Password,
		Only: len(ways.Passkeys) == 0 || len(ways.Passkeys) == 1 && !ways.Password, Others: len(ways.Sessions) > 1,
	}
	view.Problems = problems
	for _, p := range ways.Passkeys {
		view.Passkeys = append(view.Passkeys, passkeyRow{ID: p.ID, Name: p.Name, Since: moment(p.CreatedAt), Used: moment(p.LastUsedAt)})
	}
	for _, s := range ways.Sessions {
		view.Browsers = append(view.Browsers, browserRow{
			Address: s.Address, Agent: s.UserAgent, Since: moment(s.CreatedAt), Seen: moment(s.LastSeenAt), This: s.ID == v.session.ID,
		})
	}
	status := http.StatusOK
	if len(problems) > 0 {
		status = http.StatusUnprocessableEntity
	}
	return d.pages.Render(w, status, "you", view)
}

// moment is a time as the page of an administrator shows it.
func moment(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02 15:04") + " UTC"
}

// AddWay gives an administrator another way to sign in.
func (d *Dashboard) AddWay(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	values, err := d.form(r, v)
	if err != nil {
		return err
	}
	if !d.Administrators.Fresh(v.session) {
		return stale()
	}
	view := enrolView{
		Heading: "Add a way to sign in", Here: addPath, Back: youPath, CSRF: d.CSRF.Token(csrfPurpose, v.session.ID),
		Lead: "The ways you have stay, but for a password: a new one takes the place of the old.",
	}
	if !values.Has("step") {
		e, err := d.Administrators.Another(r.Context(), v.who)
		if err != nil {
			return err
		}
		return d.enrol(w, http.StatusOK, view, e)
	}
	again, err := d.Administrators.Add(r.Context(), v.who, v.session.ID, d.step(r), answerOf(values), from(r))
	var problems identity.Problems
	switch {
	case err == nil:
		d.dropStep(w)
		d.done(w, r, youPath, "added", "")
		return nil
	case errors.As(err, &problems):
		view.Problems, view.Password = problems, values.Get("passkey") == ""
		return d.enrol(w, http.StatusUnprocessableEntity, view, again)
	case errors.Is(err, signin.ErrRefused):
		return &web.Error{Status: http.StatusForbidden, Cause: err, Page: web.ErrorPage{
			Headline: "This page is too old", What: "It was sent before, or more than a quarter of an hour ago. Nothing was changed.",
			Next: "Go back to your page and begin again.",
		}}
	}
	return busy(err)
}

// onward is where to go after the sign-in: a page of the dashboard.
func onward(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || strings.ContainsAny(next, "\\\t\r\n") {
		return Path
	}
	if clean := path.Clean(u.Path); clean != Path && !strings.HasPrefix(clean, Path+"/") {
		return Path
	}
	return (&url.URL{Path: path.Clean(u.Path), RawQuery: u.RawQuery}).String()
}

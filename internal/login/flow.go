package login

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/web"
	"github.com/postern-id/postern/internal/wire"
)

// step is one request to an open flow, with everything that decides what comes
// next.
type step struct {
	project *project.Project
	flow    signin.Flow
	pending *oauth.Pending // the waiting authorization request, nil without one
	who     signedIn
	known   bool        // who is signed in, with a proof that is new enough for the request
	other   bool        // who signed in for this flow is not whom its request is about
	rights  rbac.Rights // of a member, once consent is asked
}

// open reads the flow of a request. ok is false when the page that says so was
// drawn.
func (l *Pages) open(w http.ResponseWriter, r *http.Request) (st step, ok bool, err error) {
	ctx, p := r.Context(), project.FromContext(r.Context())
	id := r.PathValue("flow")
	st.project = p
	st.flow, err = l.methods.Open(ctx, p, id, flowCookie(r, p, id), readMark(r, p))
	if errors.Is(err, signin.ErrNotFound) {
		return st, false, l.refuseSignIn(w, r, st, "link is too old", "sign in", linkTooOld(p, ""))
	}
	if err != nil {
		return st, false, err
	}
	if st.flow.Request != nil {
		st.pending = new(oauth.Pending)
		if err := json.Unmarshal(st.flow.Request, st.pending); err != nil {
			return st, false, err
		}
	}
	if st.flow.Decided {
		name := ""
		if st.pending != nil && st.pending.Client.ID != "" {
			name = st.pending.Client.Name()
		}
		return st, false, l.failIn(w, r, st, "consent", linkTooOld(p, name))
	}
	st.who, err = l.session(ctx, r)
	switch {
	case errors.Is(err, identity.ErrNotFound):
	case err != nil:
		return st, false, err
	default:
		expected := st.pending == nil || !st.who.inside() || st.pending.Expects(st.who.session.Subject)
		st.known = st.pending == nil || expected && !l.proveAgain(p, st.pending.Request, st.who.authTime(), st.flow.CreatedAt)
		st.other = !expected && !st.who.authTime().Before(st.flow.CreatedAt)
	}
	return st, true, nil
}

// at is an address of this flow: the flow's own, or one below it.
func (st step) at(below string) string { return st.project.Path() + flowPath + st.flow.ID + below }

// binding ties a form to this flow, this browser's cookie and whoever is
// signed in, so that a form of one is worth nothing in another.
func (st step) binding() []string {
	return []string{"flow", st.flow.ID, st.who.cookieID(), st.who.session.ID}
}

// shown is what a consent page is about: this flow and person, the client as it
// is pinned, and what is asked and opened. A decision about another page is none.
func (st step) shown(consent oauth.Consent) []string {
	binding := append(st.binding(), "consent", hex.EncodeToString(st.pending.Client.MetadataHash), strconv.FormatBool(consent.Skip), string(consent.Reach))
	for _, choice := range consent.Choices {
		binding = append(binding, "asked", choice.Scope.Name)
	}
	for _, choice := range consent.Kept {
		binding = append(binding, "kept", choice.Scope.Name)
	}
	return binding
}

// form reads and checks a form of a page that was drawn for whoever st knows. ok
// is false when the page that refuses it was drawn.
func (l *Pages) form(w http.ResponseWriter, r *http.Request, st step, binding []string, repeatable ...string) (url.Values, bool, error) {
	values, err := wire.Form(r, web.BodyPage, repeatable...)
	if err != nil {
		return nil, false, err
	}
	if !l.csrf.Check(values.Get("csrf"), binding...) {
		if err := l.refuseForm(r, st, audit.ReasonFormToken); err != nil {
			return nil, false, err
		}
		page := web.StatusPage(http.StatusForbidden)
		page.Way, page.WayTo = project.FromContext(r.Context()).Path()+web.PagePath(r), goBack
		if st.flow.ID != "" { // whoever signed in in another window since goes on there
			page.Way = st.at("")
		}
		return nil, false, l.fail(w, r, "form", page)
	}
	return values, true, nil
}

// refuseForm keeps that a form came which none of our pages made. Whoever it is
// about did not send it, as far as we know; and its attempt goes on.
func (l *Pages) refuseForm(r *http.Request, st step, reason string) error {
	e := st.about(l.event(r, audit.FormRefused))
	e.Subject, e.Object, e.Reason, e.Attempt = st.who.session.Subject, web.PagePath(r), reason, ""
	return l.oauth.KeepRefusal(r.Context(), e)
}

// OtherSite keeps that a form came from another site, for web.SameOrigin.
func (l *Pages) OtherSite(r *http.Request) error {
	return l.refuseForm(r, step{}, audit.ReasonOtherSite)
}

// Flow draws what a flow needs next: an address, a code, a decision, or the
// way on.
func (l *Pages) Flow(w http.ResponseWriter, r *http.Request) error {
	st, ok, err := l.open(w, r)
	if !ok {
		return err
	}
	switch {
	case st.other:
		return l.refuse(w, r, st.pending.Request, true, l.oauth.OtherPerson(l.oauth.WithAddress(r), st.project, *st.pending, st.who.person()))
	case !st.known && st.flow.MethodID != "":
		v := l.codeView(st)
		v.Resent = r.URL.Query().Get(doneParameter) == doneResent
		return l.pages.code(w, v)
	case !st.known:
		return l.pages.signIn(w, l.signInView(st))
	case !st.who.inside():
		return l.discover(w, r, st)
	case st.pending == nil:
		http.Redirect(w, r, st.project.Path()+st.flow.ReturnTo, http.StatusSeeOther)
		return nil
	}
	consent, ok, err := l.ask(w, r, &st)
	if !ok {
		return err
	}
	if consent.Skip {
		return l.allow(w, r, st, consent, nil)
	}
	return l.pages.consent(w, l.consentView(st, consent))
}

// doneResent is what the form of a code did.
const doneResent = "sent"

// Again leads a page that was drawn in answer to a form, and is loaded again, to
// what its flow needs next.
func (l *Pages) Again(w http.ResponseWriter, r *http.Request) error {
	st, ok, err := l.open(w, r)
	if !ok {
		return err
	}
	http.Redirect(w, r, st.at(""), http.StatusSeeOther)
	return nil
}

// ask says what consent a flow needs. A client that is known by its metadata
// document is read here for the first time, now that somebody signed in, and
// what it said is pinned to the flow. ok is false when the answer was written.
func (l *Pages) ask(w http.ResponseWriter, r *http.Request, st *step) (oauth.Consent, bool, error) {
	ctx := l.oauth.WithAddress(r)
	if st.pending.Client.ID == "" {
		request := st.pending.Request
		pending, err := l.oauth.Begin(ctx, st.project, request, true)
		if err != nil {
			return oauth.Consent{}, false, l.refuse(w, r, request, true, err)
		}
		pinned, err := json.Marshal(pending)
		if err != nil {
			return oauth.Consent{}, false, err
		}
		err = l.methods.Pin(ctx, st.flow, pinned, l.oauth.Attempt(ctx, st.project, pending, audit.AtConsent))
		if errors.Is(err, signin.ErrNotFound) { // decided in between
			return oauth.Consent{}, false, l.failIn(w, r, *st, "consent", linkTooOld(st.project, pending.Client.Name()))
		}
		if err != nil {
			return oauth.Consent{}, false, err
		}
		st.pending = &pending
	}
	if !st.who.admits(st.pending.Client) {
		return oauth.Consent{}, false, l.notAdmitted(w, r, *st)
	}
	consent, err := l.oauth.Consent(ctx, st.project, *st.pending, st.who.person())
	if err != nil {
		return oauth.Consent{}, false, l.refuse(w, r, st.pending.Request, true, err)
	}
	if st.who.visit.Organization.ID != "" {
		if st.rights, err = l.people.Rights(ctx, st.project, st.who.visit.Member, st.who.visit.Organization); err != nil {
			return oauth.Consent{}, false, err
		}
	}
	return consent, true, nil
}

// SendCode takes an address and sends a code to it.
func (l *Pages) SendCode(w http.ResponseWriter, r *http.Request) error {
	st, ok, err := l.open(w, r)
	if !ok {
		return err
	}
	values, ok, err := l.form(w, r, st, st.binding())
	if !ok {
		return err
	}
	v := l.signInView(st)
	v.Email = values.Get("email")
	v.BadEmail, v.pause, err = l.sendCode(r, st, v.Email)
	switch {
	case err != nil:
		return err
	case v.BadEmail || v.Wait > 0:
		return l.pages.signIn(w, v)
	}
	http.Redirect(w, r, st.at(""), http.StatusSeeOther)
	return nil
}

// sendCode sends a code, or says what is wrong with the address or why and how
// long to wait.
func (l *Pages) sendCode(r *http.Request, st step, email string) (bad bool, wait pause, err error) {
	if wait, ok := l.mails(r); !ok {
		return false, pause{pauseNetwork, wait}, l.keepTooManyMails(r, st)
	}
	err = l.methods.SendCode(r.Context(), st.project, st.flow, email, st.project.Issuer+flowPath+st.flow.ID, func(code string, until time.Time) (string, string, error) {
		return l.pages.codeMail(codeMailView{
			Project: st.project.Name, Code: code, Until: moment{until, l.now()}, Client: st.clientView(l.now()),
		})
	}, st.about(l.event(r, audit.CodeSent)))
	var soon *signin.TooSoon
	switch {
	case errors.Is(err, signin.ErrAddress):
		return true, pause{}, nil
	case errors.As(err, &soon) && soon.Full:
		return false, pause{pauseAddress, soon.Wait}, l.keepTooSoon(r, st, email, soon)
	case errors.As(err, &soon): // nothing to keep
		return false, pause{pauseGap, soon.Wait}, nil
	}
	return false, pause{}, err
}

// keepTooManyMails keeps that a network has had all the mails that it may get,
// once within an hour.
func (l *Pages) keepTooManyMails(r *http.Request, st step) error {
	e := st.about(l.event(r, audit.SignInRefused))
	e.Reason = "too many mails from this network"
	once := oauth.Counter{Kind: "refused_mails_network", Key: web.AddressKey(web.ClientIP(r)), Limit: 1, Window: time.Hour}
	return l.oauth.KeepRefusal(r.Context(), e, once)
}

// keepTooSoon keeps that an address has got all the mails that it may get, once
// until it may get more.
func (l *Pages) keepTooSoon(r *http.Request, st step, email string, soon *signin.TooSoon) error {
	e := st.about(l.event(r, audit.SignInRefused))
	e.Subject, e.Reason = soon.Subject, "too many mails for this address"
	return l.oauth.KeepRefusal(r.Context(), e, oauth.Counter{Kind: "refused_mails", Key: identity.Fold(email), Limit: 1, Window: soon.Wait})
}

// about says in an event which connected app the sign-in is for, and in which
// attempt.
func (st step) about(e audit.Event) audit.Event {
	if st.pending != nil {
		e.ClientID, e.Attempt = st.pending.Client.ID, st.flow.TraceID
	}
	return e
}

// refuseSignIn keeps why a sign-in came to nothing, and says so.
func (l *Pages) refuseSignIn(w http.ResponseWriter, r *http.Request, st step, reason, at string, page web.ErrorPage) error {
	e := st.about(l.event(r, audit.SignInRefused))
	e.Actor, e.Subject, e.Reason = st.who.session.Subject, st.who.session.Subject, reason
	if err := l.oauth.KeepRefusal(r.Context(), e); err != nil {
		return err
	}
	return l.failIn(w, r, st, at, page)
}

// goBack are the words on a link to the page that comes before an error.
const goBack = "Go back"

// failIn draws an error page about a flow: its trace code is the one of the
// attempt that the flow is a part of, and it leads back to the flow where the
// page leads nowhere else.
func (l *Pages) failIn(w http.ResponseWriter, r *http.Request, st step, at string, e web.ErrorPage) error {
	if st.pending != nil {
		e.Trace = st.flow.TraceID
	}
	if e.Way == "" && st.flow.ID != "" {
		e.Way, e.WayTo = st.at(""), goBack
	}
	return l.fail(w, r, at, e)
}

// RedeemCode takes a typed code. A right one starts a session, always a new
// one (RFC 9700 §4.7 and session fixation).
func (l *Pages) RedeemCode(w http.ResponseWriter, r *http.Request) error {
	st, ok, err := l.open(w, r)
	if !ok {
		return err
	}
	values, ok, err := l.form(w, r, st, st.binding())
	if !ok {
		return err
	}
	if st.flow.MethodID == "" {
		http.Redirect(w, r, st.at(""), http.StatusSeeOther)
		return nil
	}
	v := l.codeView(st)
	switch values.Get("action") {
	case "other_address":
		if err := l.methods.Forget(r.Context(), st.flow); err != nil {
			return err
		}
		http.Redirect(w, r, st.at(""), http.StatusSeeOther)
		return nil
	case "resend":
		_, v.pause, err = l.sendCode(r, st, st.flow.Email)
		switch {
		case err != nil:
			return err
		case v.Wait > 0:
			v.Problem, v.Spent = codeWait, values.Has("spent") || !st.flow.CodeExpiresAt.After(l.now())
			return l.pages.code(w, v)
		}
		http.Redirect(w, r, st.at("")+"?"+doneParameter+"="+doneResent, http.StatusSeeOther)
		return nil
	}
	out, cookie, err := l.methods.RedeemCode(r.Context(), st.project, st.flow, values.Get("code"),
		web.ClientIP(r).String(), r.UserAgent(), l.ending(r, st.who), st.about(l.event(r, audit.SignedIn)))
	if err != nil {
		return err
	}
	switch {
	case out.Right:
		email, ends := out.User.Email, out.Session.ExpiresAt
		if st.project.Vertical == project.B2B {
			email, ends = out.Visitor.Email, out.Visitor.ExpiresAt
		}
		setCookie(w, st.project, "session", cookie.Text, ends.Sub(l.now()))
		setCookie(w, st.project, "known", l.methods.Mark(st.project, email), markLifetime)
		http.Redirect(w, r, st.at(""), http.StatusSeeOther)
		return nil
	case out.Inactive:
		v.Problem = codeInactive
	case out.Locked:
		v.Problem = codeLocked
	case out.Wrong && out.Dead:
		v.Problem = codeTooMany
	case out.Dead:
		v.Problem = codeRunOut
	default:
		v.Problem, v.TriesLeft = codeWrong, out.Left
	}
	return l.pages.code(w, v)
}

// switchPerson signs this browser out and asks again who is there.
func (l *Pages) switchPerson(w http.ResponseWriter, r *http.Request, st step) error {
	if err := l.signOut(w, r, st.who); err != nil {
		return err
	}
	if err := l.methods.Forget(r.Context(), st.flow); err != nil {
		return err
	}
	http.Redirect(w, r, st.at(""), http.StatusSeeOther)
	return nil
}

// Consent takes the decision. Nothing is fetched or written before the form was
// checked, and the step that is open comes first.
func (l *Pages) Consent(w http.ResponseWriter, r *http.Request) error {
	st, ok, err := l.open(w, r)
	if !ok {
		return err
	}
	if !st.known || !st.who.inside() || st.pending == nil || st.pending.Client.ID == "" {
		http.Redirect(w, r, st.at(""), http.StatusSeeOther)
		return nil
	}
	values, ok, err := l.form(w, r, st, st.binding(), "allow")
	if !ok {
		return err
	}
	if values.Get("action") == "switch" {
		return l.switchPerson(w, r, st)
	}
	consent, ok, err := l.ask(w, r, &st)
	if !ok {
		return err
	}
	if !l.csrf.Check(values.Get("page"), st.shown(consent)...) {
		return l.failIn(w, r, st, "consent", pageTooOld(st.pending.Client.Name()))
	}
	v := l.consentView(st, consent)
	switch values.Get("action") {
	case "allow":
		return l.allow(w, r, st, consent, values["allow"])
	case "deny":
		answer, err := l.oauth.Deny(l.oauth.WithAddress(r), st.project, st.flow.ID, *st.pending, st.who.person())
		if err != nil {
			return l.decided(w, r, st, err)
		}
		return l.handOver(w, st, answer, handOverView{Denied: true, Keeps: consent.StepUp()})
	case "read_only":
		v.tickReads()
	case "everything":
		v.tickAll()
	default:
		v.tickOnly(values["allow"])
	}
	return l.pages.consent(w, v)
}

// allow keeps what was allowed and hands the answer over.
func (l *Pages) allow(w http.ResponseWriter, r *http.Request, st step, consent oauth.Consent, ticked []string) error {
	answer, err := l.oauth.Allow(l.oauth.WithAddress(r), st.project, st.flow.ID, *st.pending, st.who.person(), consent, ticked)
	if errors.Is(err, oauth.ErrNothingTicked) {
		v := l.consentView(st, consent)
		v.tickOnly(ticked)
		v.NothingTicked = true
		return l.pages.consent(w, v)
	}
	if err != nil {
		return l.decided(w, r, st, err)
	}
	v, granted := handOverView{}, []string{}
	for _, choice := range consent.Choices {
		if p := permissionOf(choice); consent.Skip && choice.Silently() || slices.Contains(ticked, p.Scope) {
			v.Allowed, granted = append(v.Allowed, p), append(granted, p.Scope)
		}
	}
	for _, kept := range consent.Kept {
		granted = append(granted, kept.Scope.Name)
	}
	v.Allowed = withReach(st.project, st.pending.Resource, granted, v.Allowed)
	return l.handOver(w, st, answer, v)
}

// decided answers a decision that comes too late: the first one of a flow
// stands, and there is none for a client that is gone.
func (l *Pages) decided(w http.ResponseWriter, r *http.Request, st step, err error) error {
	if errors.Is(err, oauth.ErrUsed) || errors.Is(err, oauth.ErrDead) {
		return l.failIn(w, r, st, "consent", linkTooOld(st.project, st.pending.Client.Name()))
	}
	return err
}

// handOver draws the page that takes the answer to the connected app. After
// Allow the browser goes on by itself to an http address; a private-use scheme
// and the answer of a Deny to a client nobody vouches for wait for a click
// (decisions 11 and 12).
func (l *Pages) handOver(w http.ResponseWriter, st step, answer oauth.Answer, v handOverView) error {
	client := st.pending.Client
	v.Site, v.Client, v.Apps = site(st.project), clientViewOf(st.project, client, l.now()), st.project.Path()+appsPath
	v.Answer, v.Link = answerTo(answer.RedirectURI, client.Host()), link(answer)
	dropCookie(w, st.project, "txn-"+st.flow.ID)
	if v.Answer.Kind != toScheme && !(v.Denied && client.SelfRegistered()) {
		w.Header().Set("Refresh", "0; url="+answer.URL())
	}
	return l.pages.handOver(w, v)
}

// link marks an answer's address as one that a template may use as it is. Its
// redirect URI passed the allow-list of schemes when the client was registered
// and matched a registered one, and oauth built the rest.
func link(answer oauth.Answer) template.URL {
	return template.URL(answer.URL()) //nolint:gosec // see above
}

package login

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/web"
	"github.com/postern-id/postern/internal/wire"
)

// maxAuthorizeForm is how many bytes of form still make a GET.
const maxAuthorizeForm = web.MaxHeaderBytes / 2

// AuthorizeForm takes an authorization request that came as a form (OpenID
// Connect Core §3.1.2.1). Another site sent it, so that the browser keeps our
// cookies back: it is turned into the same request by GET, which a person who is
// signed in brings them to. It reads no cookie and keeps nothing, so a forged
// one does no more than a link.
func (l *Pages) AuthorizeForm(w http.ResponseWriter, r *http.Request) error {
	form, err := wire.Form(r, maxAuthorizeForm, "resource")
	var bad *wire.Error
	if errors.As(err, &bad) {
		return l.unreadable(w, r, oauth.AuthorizeRequest{}, &oauth.Error{Code: "invalid_request", Description: bad.Message})
	}
	if err != nil {
		return err
	}
	if request, err := oauth.ParseAuthorize(form); err != nil {
		return l.unreadable(w, r, request, err)
	}
	http.Redirect(w, r, project.FromContext(r.Context()).Path()+oauth.PathAuthorize+"?"+form.Encode(), http.StatusSeeOther)
	return nil
}

// Authorize is the authorization endpoint (RFC 6749 §3.1). It checks the
// request and either answers at once, when there is nothing to ask, or parks
// it in a flow.
func (l *Pages) Authorize(w http.ResponseWriter, r *http.Request) error {
	ctx, p := l.oauth.WithAddress(r), project.FromContext(r.Context())
	query, err := wire.Query(r, "resource")
	var bad *wire.Error
	if errors.As(err, &bad) {
		return l.unreadable(w, r, oauth.AuthorizeRequest{}, &oauth.Error{Code: "invalid_request", Description: bad.Message})
	}
	if err != nil {
		return err
	}
	request, err := oauth.ParseAuthorize(query)
	if err != nil {
		return l.unreadable(w, r, request, err)
	}
	who, err := l.session(ctx, r)
	known := err == nil
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	pending, err := l.oauth.Begin(ctx, p, request, known)
	switch {
	case errors.Is(err, oauth.ErrSignInFirst): // and pending is what is known by then
	case err != nil:
		return l.answerRefusal(w, r, request, known, err)
	}
	fresh := known && who.inside() && pending.Expects(who.session.Subject) && !l.proveAgain(p, request, who.authTime(), time.Time{}) && !request.Asks("select_account")
	if fresh {
		answer, err := l.silently(r, pending, who)
		switch {
		case err == nil:
			http.Redirect(w, r, answer.URL(), http.StatusSeeOther)
			return nil
		case !errors.Is(err, errAsk):
			return l.answerRefusal(w, r, request, known, err)
		}
	}
	// OpenID Connect Core §3.1.2.1: prompt=none never leads to a question.
	switch {
	case request.Asks("none") && fresh:
		return l.answerRefusal(w, r, request, known, l.oauth.ConsentRequired(ctx, p, pending, who.person()))
	case request.Asks("none") && known && who.inside() && !pending.Expects(who.session.Subject):
		return l.answerRefusal(w, r, request, known, l.oauth.OtherPerson(ctx, p, pending, who.person()))
	case request.Asks("none"):
		return l.answerRefusal(w, r, request, known, l.oauth.LoginRequired(ctx, p, pending))
	}
	parked, err := json.Marshal(pending)
	if err != nil {
		return err
	}
	waitsAt := audit.AtSignIn
	if fresh {
		waitsAt = audit.AtConsent
	}
	flow, err := l.park(w, r, "", parked, l.oauth.Attempt(ctx, p, pending, waitsAt))
	if err != nil {
		return err
	}
	next := p.Path() + flowPath + flow.ID
	if known && p.Vertical == project.B2B && request.Asks("select_account") {
		next += "/organization"
	}
	http.Redirect(w, r, next, http.StatusSeeOther)
	return nil
}

// Home sends who opens the issuer itself to their own page.
func (l *Pages) Home(w http.ResponseWriter, r *http.Request) error {
	http.Redirect(w, r, project.FromContext(r.Context()).Path()+appsPath, http.StatusSeeOther)
	return nil
}

// SignIn starts a sign-in that no connected app asked for.
func (l *Pages) SignIn(w http.ResponseWriter, r *http.Request) error {
	return l.begin(w, r, appsPath, nil)
}

// unreadable refuses a request of which nothing can be believed.
func (l *Pages) unreadable(w http.ResponseWriter, r *http.Request, request oauth.AuthorizeRequest, err error) error {
	return l.refuse(w, r, request, false, l.oauth.Unreadable(l.oauth.WithAddress(r), project.FromContext(r.Context()), request, err))
}

// park begins a flow in this browser. a is the attempt that its request is, zero
// without a request.
func (l *Pages) park(w http.ResponseWriter, r *http.Request, returnTo string, request []byte, a audit.Attempt) (signin.Flow, error) {
	p := project.FromContext(r.Context())
	flow, browser, err := l.methods.Begin(r.Context(), p, returnTo, request, web.Trace(r.Context()), a)
	if err == nil {
		setFlowCookie(w, r, p, flow, browser)
	}
	return flow, err
}

// begin parks a request in a new flow and goes there.
func (l *Pages) begin(w http.ResponseWriter, r *http.Request, returnTo string, request []byte) error {
	flow, err := l.park(w, r, returnTo, request, audit.Attempt{})
	if err != nil {
		return err
	}
	http.Redirect(w, r, project.FromContext(r.Context()).Path()+flowPath+flow.ID, http.StatusSeeOther)
	return nil
}

// errAsk says that a request cannot be answered without a question.
var errAsk = errors.New("login: the person has to be asked")

// silently answers a request that leaves nothing to ask.
func (l *Pages) silently(r *http.Request, pending oauth.Pending, who signedIn) (oauth.Answer, error) {
	ctx, p := l.oauth.WithAddress(r), project.FromContext(r.Context())
	if !who.admits(pending.Client) {
		return oauth.Answer{}, errAsk // to say so on a page of ours
	}
	consent, err := l.oauth.Consent(ctx, p, pending, who.person())
	switch {
	case err != nil:
		return oauth.Answer{}, err
	case !consent.Skip:
		return oauth.Answer{}, errAsk
	}
	answer, err := l.oauth.Allow(ctx, p, "", pending, who.person(), consent, nil)
	if errors.Is(err, oauth.ErrDead) { // what was remembered is taken back this very moment
		err = errAsk
	}
	return answer, err
}

// proveAgain reports whether the request wants a newer proof than the session
// was given at proved: prompt=login wants one given in this flow, max_age one that is not
// older. prompt=select_account wants one where there is nothing else to choose
// by: a member chooses among organizations. begun is when the flow began, zero
// when there is none yet.
func (l *Pages) proveAgain(p *project.Project, request oauth.AuthorizeRequest, proved, begun time.Time) bool {
	if request.Asks("login") || request.Asks("select_account") && p.Vertical != project.B2B {
		if begun.IsZero() || proved.Before(begun) {
			return true
		}
	}
	return request.MaxAge >= 0 && l.now().Sub(proved)/time.Second >= time.Duration(request.MaxAge) &&
		(begun.IsZero() || proved.Before(begun))
}

// answerRefusal answers a request that cannot be granted, before any form was
// sent. A client that an operator registered hears of it by redirect.
func (l *Pages) answerRefusal(w http.ResponseWriter, r *http.Request, request oauth.AuthorizeRequest, known bool, err error) error {
	var certain *oauth.AuthorizeError
	if errors.As(err, &certain) && certain.Client.Trusted() {
		http.Redirect(w, r, certain.Answer.URL(), http.StatusSeeOther)
		return nil
	}
	return l.refuse(w, r, request, known, err)
}

// refuse shows a refusal. Of a client that registered itself nobody knows
// whether its address is there to catch people: before sign-in the refusal stays
// on our page, after it the person may carry it there by a link (decision 11,
// OAuth 2.1 draft-ietf-oauth-v2-1-13 §7.12.2).
func (l *Pages) refuse(w http.ResponseWriter, r *http.Request, request oauth.AuthorizeRequest, known bool, err error) error {
	fail := func(page web.ErrorPage) error {
		page.Trace = request.Attempt // of the flow; without one it is this request's
		return l.fail(w, r, "authorize", page)
	}
	var certain *oauth.AuthorizeError
	var mismatch *oauth.MismatchError
	var refusal *oauth.Error
	switch {
	case errors.As(err, &certain):
		page := requestRefused(certain.Client.Name(), certain.Refusal.Description)
		if known {
			page.Onward, page.OnwardTo = link(certain.Answer), certain.Client.Name()
		}
		return fail(page)
	case errors.As(err, &mismatch):
		return fail(returnAddressUnknown(mismatch.Client.Name(), mismatch.Asked, mismatch.Client.Metadata.RedirectURIs))
	case errors.As(err, &refusal):
		return fail(doubtful(project.FromContext(r.Context()), request, refusal))
	}
	return err
}

// doubtful is the page for a refusal whose client or return address is in
// doubt.
func doubtful(p *project.Project, request oauth.AuthorizeRequest, refusal *oauth.Error) web.ErrorPage {
	host := oauth.Client{URL: request.ClientID}.Host()
	switch {
	case refusal.Code != "invalid_client":
		return requestRefused("", refusal.Description)
	case host == "":
		return clientUnknown(request.ClientID)
	case !p.Settings.MetadataDocuments:
		return documentsOff(host)
	case errors.Is(refusal, web.ErrFetch):
		return documentUnreadable(host)
	}
	return documentUnusable(host, refusal.Description)
}

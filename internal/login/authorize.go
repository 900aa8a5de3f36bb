package login

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
	"github.com/postern-id/postern/internal/wire"
)

// Authorize is the authorization endpoint (RFC 6749 §3.1). It checks the
// request and either answers at once, when there is nothing to ask, or parks
// it in a flow.
func (l *Pages) Authorize(w http.ResponseWriter, r *http.Request) error {
	ctx, p := l.oauth.WithAddress(r), project.FromContext(r.Context())
	query, err := wire.Query(r, "resource")
	var bad *wire.Error
	if errors.As(err, &bad) {
		return l.fail(w, r, "authorize", requestRefused("", bad.Message))
	}
	if err != nil {
		return err
	}
	request, err := oauth.ParseAuthorize(query)
	if err != nil {
		return l.refuse(w, r, request, false, err)
	}
	who, err := l.session(ctx, r)
	known := err == nil
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	pending, err := l.oauth.Begin(ctx, p, request, known)
	switch {
	case errors.Is(err, oauth.ErrSignInFirst):
		if request.Asks("none") {
			return l.fail(w, r, "authorize", requestRefused("", "It asked us not to show a page, and nobody is signed in here."))
		}
		pending = oauth.Pending{Request: request}
	case err != nil:
		return l.refuse(w, r, request, known, err)
	}
	if request.Asks("none") {
		return l.silent(w, r, pending, who, known)
	}
	if known && pending.Client.ID != "" && !l.proveAgain(request, who.session, time.Time{}) {
		consent, err := l.oauth.Consent(ctx, p, pending, who.person())
		if err != nil {
			return l.refuse(w, r, request, known, err)
		}
		if consent.Skip {
			answer, err := l.oauth.Allow(ctx, p, "", pending, who.person(), consent, nil)
			if err != nil {
				return err
			}
			http.Redirect(w, r, answer.URL(), http.StatusSeeOther)
			return nil
		}
	}
	parked, err := json.Marshal(pending)
	if err != nil {
		return err
	}
	return l.begin(w, r, "", parked)
}

// SignIn starts a sign-in that no connected app asked for.
func (l *Pages) SignIn(w http.ResponseWriter, r *http.Request) error {
	return l.begin(w, r, appsPath, nil)
}

// begin parks a request in a new flow and goes there.
func (l *Pages) begin(w http.ResponseWriter, r *http.Request, returnTo string, request []byte) error {
	p := project.FromContext(r.Context())
	flow, browser, err := l.methods.Begin(r.Context(), p, returnTo, request, web.Trace(r.Context()))
	if err != nil {
		return err
	}
	setFlowCookie(w, r, p, flow, browser)
	http.Redirect(w, r, flowPath+flow.ID, http.StatusSeeOther)
	return nil
}

// silent answers prompt=none: with a code or with the reason, never with a
// question (OpenID Connect Core §3.1.2.1).
func (l *Pages) silent(w http.ResponseWriter, r *http.Request, pending oauth.Pending, who signedIn, known bool) error {
	ctx, p := l.oauth.WithAddress(r), project.FromContext(r.Context())
	if !known || l.proveAgain(pending.Request, who.session, time.Time{}) {
		return l.refuse(w, r, pending.Request, known, l.oauth.LoginRequired(p, pending))
	}
	consent, err := l.oauth.Consent(ctx, p, pending, who.person())
	if err != nil {
		return l.refuse(w, r, pending.Request, known, err)
	}
	if !consent.Skip {
		return l.refuse(w, r, pending.Request, known, l.oauth.ConsentRequired(p, pending))
	}
	answer, err := l.oauth.Allow(ctx, p, "", pending, who.person(), consent, nil)
	if err != nil {
		return err
	}
	http.Redirect(w, r, answer.URL(), http.StatusSeeOther)
	return nil
}

// proveAgain reports whether the request wants a newer proof than the session
// has: prompt=login wants one given in this flow, max_age one that is not
// older. begun is when the flow began, zero when there is none yet.
func (l *Pages) proveAgain(request oauth.AuthorizeRequest, s identity.Session, begun time.Time) bool {
	if request.Asks("login") || request.Asks("select_account") {
		if begun.IsZero() || s.AuthTime().Before(begun) {
			return true
		}
	}
	return request.MaxAge >= 0 && l.now().Sub(s.AuthTime()) > time.Duration(request.MaxAge)*time.Second &&
		(begun.IsZero() || s.AuthTime().Before(begun))
}

// refuse shows or sends a refusal. A client that an operator registered gets
// it by redirect. Of any other client nobody knows whether its address is
// there to catch people: before sign-in the refusal stays on our page, after
// it the person may carry it there by a link (decision 11, OAuth 2.1
// draft-ietf-oauth-v2-1-13 §7.12.2).
func (l *Pages) refuse(w http.ResponseWriter, r *http.Request, request oauth.AuthorizeRequest, known bool, err error) error {
	var certain *oauth.AuthorizeError
	var mismatch *oauth.MismatchError
	var refusal *oauth.Error
	switch {
	case errors.As(err, &certain) && certain.Client.Trusted():
		http.Redirect(w, r, certain.Answer.URL(), http.StatusSeeOther)
		return nil
	case errors.As(err, &certain):
		page := requestRefused(certain.Client.Name(), certain.Refusal.Description)
		if known {
			page.Onward, page.OnwardTo = link(certain.Answer), certain.Client.Name()
		}
		return l.fail(w, r, "authorize", page)
	case errors.As(err, &mismatch):
		return l.fail(w, r, "authorize", returnAddressUnknown(mismatch.Client.Name(), mismatch.Asked, mismatch.Client.Metadata.RedirectURIs))
	case errors.As(err, &refusal):
		return l.fail(w, r, "authorize", doubtful(request, refusal))
	}
	return err
}

// doubtful is the page for a refusal whose client or return address is in
// doubt.
func doubtful(request oauth.AuthorizeRequest, refusal *oauth.Error) web.ErrorPage {
	switch refusal.Code {
	case "invalid_client":
		if u, err := url.Parse(request.ClientID); err == nil && u.Scheme == "https" && u.Host != "" {
			return documentUnreadable(u.Host)
		}
		return clientUnknown(request.ClientID)
	default:
		return requestRefused("", refusal.Description)
	}
}

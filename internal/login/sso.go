package login

import (
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/web"
	"github.com/postern-id/postern/internal/wire"
)

// ssoTestPath is where an administrator's test of a connection begins.
const ssoTestPath = orgSSOPath + "/test"

// ssoAddress sends the person of a flow to an organization's own sign-in
// service.
func (st step) ssoAddress(organizationID string) string {
	return st.at("/sso") + "?organization=" + urlQuery(organizationID)
}

// SSO sends the browser of a flow to the sign-in service of an organization. It
// is a GET: a form's redirect must not leave the host (decision 12).
func (l *Pages) SSO(w http.ResponseWriter, r *http.Request) error {
	st, ok, err := l.open(w, r)
	if !ok {
		return err
	}
	id := r.URL.Query().Get("organization")
	if id == "" {
		return l.findSSO(w, r, st)
	}
	c, err := l.people.Connection(r.Context(), st.project.ID, id)
	if errors.Is(err, identity.ErrNotFound) || err == nil && !c.Active {
		return l.refuseSignIn(w, r, st, "single sign-on is off", "single sign-on", noConnection())
	}
	if err != nil {
		return err
	}
	hint, again := st.who.email, false
	if st.pending != nil {
		if hint == "" {
			hint = st.pending.Request.LoginHint
		}
		again = l.proveAgain(st.project, st.pending.Request, time.Time{}, st.flow.CreatedAt)
	}
	to, err := l.upstream.Send(r.Context(), st.project, st.flow, c, hint, signin.Attempt{Again: again})
	if err != nil {
		return err
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// findSSO asks somebody who is not signed in for their organization, and leads to
// its sign-in service: by a page of ours, for the redirects after a form must not
// leave the host (decision 12).
func (l *Pages) findSSO(w http.ResponseWriter, r *http.Request, st step) error {
	v := findSSOView{
		Site: site(st.project), form: form{Post: st.at("/sso"), CSRF: l.csrf.Token(st.binding()...)},
		Client: st.clientView(l.now()), Back: st.at(""),
	}
	if st.project.Vertical != project.B2B {
		return l.fail(w, r, "single sign-on", web.StatusPage(http.StatusNotFound))
	}
	if r.Method != http.MethodPost {
		return l.pages.findSSO(w, v)
	}
	values, ok, err := l.form(w, r, st, st.binding())
	if !ok {
		return err
	}
	v.Slug = strings.TrimSpace(values.Get("slug"))
	o, err := l.people.Organization(r.Context(), st.project.ID, v.Slug)
	if err == nil && o.Active && o.TakesSSO() {
		var c identity.Connection
		if c, err = l.people.Connection(r.Context(), st.project.ID, o.ID); err == nil && c.Active {
			v.Name, v.Onward = o.Name, st.ssoAddress(o.ID)
			w.Header().Set("Refresh", "0; url="+v.Onward)
			return l.pages.findSSO(w, v)
		}
	}
	if err != nil && !errors.Is(err, identity.ErrNotFound) {
		return err
	}
	v.Unknown = true
	return l.pages.findSSO(w, v)
}

// SSOCallback takes the answer of an organization's sign-in service. The state
// leads to the flow, and the flow's cookie has to be in this browser: an answer
// that was made in another one signs nobody in (RFC 9700 §4.7).
func (l *Pages) SSOCallback(w http.ResponseWriter, r *http.Request) error {
	ctx, p := r.Context(), project.FromContext(r.Context())
	answer, err := wire.Query(r)
	var bad *wire.Error
	if errors.As(err, &bad) {
		return l.fail(w, r, "single sign-on", web.StatusPage(http.StatusBadRequest))
	}
	if err != nil {
		return err
	}
	attempt, err := l.upstream.Returned(ctx, p, r.PathValue("organization"), answer.Get("state"))
	if errors.Is(err, signin.ErrNotFound) {
		return l.refuseSignIn(w, r, step{}, "link is too old", "single sign-on", linkTooOld(p, ""))
	}
	if err != nil {
		return err
	}
	r.SetPathValue("flow", attempt.FlowID)
	st, ok, err := l.open(w, r)
	if !ok {
		return err
	}
	c, err := l.people.Connection(ctx, p.ID, attempt.OrganizationID)
	if errors.Is(err, identity.ErrNotFound) {
		return l.refuseSignIn(w, r, st, "single sign-on is off", "single sign-on", noConnection())
	}
	if err != nil {
		return err
	}
	said, err := l.upstream.Redeem(ctx, p, c, attempt, answer)
	switch {
	case errors.Is(err, signin.ErrNotFound):
		page := linkTooOld(p, "")
		page.Way, page.WayTo = st.at(""), goBack
		return l.refuseSignIn(w, r, st, "link is too old", "single sign-on", page)
	case attempt.Test:
		return l.ssoTested(w, r, c, said, err)
	case err != nil:
		return l.ssoRefused(w, r, st, c, err)
	}
	browser, cookie := l.upstream.Arrive(p, c, said, web.ClientIP(r).String(), r.UserAgent())
	if _, err := l.people.EnterBySSO(ctx, p, browser, c, said.Subject, said.Name, l.ending(r, st.who), st.about(l.event(r, audit.SignedIn))); err != nil {
		return l.ssoRefused(w, r, st, c, err)
	}
	// The browser gets no mark of a known address: this one was not proved by mail.
	setCookie(w, p, "session", cookie.Text, browser.ExpiresAt.Sub(l.now()))
	http.Redirect(w, r, st.at(""), http.StatusSeeOther)
	return nil
}

// ssoRefused keeps and shows why a sign-in through an organization's service
// came to nothing.
func (l *Pages) ssoRefused(w http.ResponseWriter, r *http.Request, st step, c identity.Connection, err error) error {
	var upstream *signin.UpstreamError
	var page web.ErrorPage
	reason := ""
	switch {
	case errors.As(err, &upstream):
		web.Note(r.Context(), slog.String("cause", err.Error()))
		page, reason = ssoFailed(upstream.Down), upstream.Sentence
	case errors.Is(err, identity.ErrNotFound):
		page, reason = ssoStranger(), "not a member"
	case errors.Is(err, identity.ErrUnproved):
		page, reason = ssoUnproved(), "the address was never proved"
	case errors.Is(err, identity.ErrOtherPerson):
		page, reason = ssoOtherPerson(), "bound to another person"
	case errors.Is(err, identity.ErrMethod):
		page, reason = otherProof(), "single sign-on is not allowed"
	default:
		return err
	}
	e := st.about(l.event(r, audit.SignInRefused))
	e.Object, e.Refused, e.Reason = c.ID, true, reason
	if err := l.audit.Record(r.Context(), e); err != nil {
		return err
	}
	return l.failIn(w, r, st, "single sign-on", page)
}

// OrganizationSSO shows how members sign in through the organization's own
// service, and takes changes.
func (l *Pages) OrganizationSSO(w http.ResponseWriter, r *http.Request) error {
	m, ok, err := l.manage(w, r, orgSSOPath)
	if !ok {
		return err
	}
	if r.Method != http.MethodPost {
		return l.ssoPage(w, r, m, ssoView{Done: r.URL.Query().Get(doneParameter)})
	}
	values, ok, err := l.orgForm(w, r, m)
	if !ok {
		return err
	}
	needs := map[string]string{"create": "create", "activate": "update", "delete": "delete"}
	kinds := map[string]audit.Kind{"create": audit.SSOCreated, "activate": audit.SSOChanged, "delete": audit.SSODeleted}
	action := values.Get("action")
	e := l.orgEvent(r, m, kinds[action])
	switch {
	case needs[action] == "":
		return l.fail(w, r, "single sign-on", web.StatusPage(http.StatusBadRequest))
	case !m.may(rbac.ResourceSSO, needs[action]):
		return l.forbid(w, r, e)
	}
	v := ssoView{Issuer: strings.TrimSpace(values.Get("issuer")), ClientID: strings.TrimSpace(values.Get("client_id"))}
	c, err := l.people.Connection(r.Context(), m.project.ID, m.organization.ID)
	switch {
	case action != "create" && (errors.Is(err, identity.ErrNotFound) || err == nil && c.ID != values.Get("connection")):
		err = identity.ErrStale
	case err != nil && !errors.Is(err, identity.ErrNotFound):
		return err
	case action == "create":
		c, err = l.upstream.Connect(r.Context(), m.project, m.organization.ID, v.Issuer, v.ClientID, strings.TrimSpace(values.Get("client_secret")))
		if err == nil {
			err = l.people.CreateConnection(r.Context(), c, e)
		}
	case action == "activate":
		err = l.people.ActivateConnection(r.Context(), c, e)
	case action == "delete":
		err = l.people.DeleteConnection(r.Context(), c, e)
	}
	if err == nil {
		http.Redirect(w, r, m.project.Path()+orgSSOPath+"?"+doneParameter+"="+action, http.StatusSeeOther)
		return nil
	}
	var upstream *signin.UpstreamError
	var problems identity.Problems
	switch {
	case errors.As(err, &upstream):
		web.Note(r.Context(), slog.String("cause", err.Error()))
		v.Problems = []string{upstream.Sentence}
	case errors.As(err, &problems):
		v.Problems = problems
	case errors.Is(err, identity.ErrStale), errors.Is(err, identity.ErrConflict), errors.Is(err, identity.ErrNotFound):
		v.Problems = []string{"Somebody else changed this in between. Look again."}
	default:
		return err
	}
	return l.ssoPage(w, r, m, v)
}

// ssoPage draws the page; v has what the form before did or came to.
func (l *Pages) ssoPage(w http.ResponseWriter, r *http.Request, m manager, v ssoView) error {
	problems := v.Problems
	v.orgView = l.orgView(m, orgSSOPath)
	v.Problems, v.Callback, v.TestPath = problems, signin.Callback(m.project, m.organization.ID), m.project.Path()+ssoTestPath
	v.See, v.Make = m.control(rbac.ResourceSSO, "get"), m.control(rbac.ResourceSSO, "create")
	v.Change, v.Delete = m.control(rbac.ResourceSSO, "update"), m.control(rbac.ResourceSSO, "delete")
	c, err := l.people.Connection(r.Context(), m.project.ID, m.organization.ID)
	switch {
	case errors.Is(err, identity.ErrNotFound):
	case err != nil:
		return err
	case v.See.Open():
		v.Connection = &ssoConnectionView{ID: c.ID, Issuer: c.Issuer, ClientID: c.ClientID, Active: c.Active, Made: moment{c.CreatedAt, l.now()}}
	}
	return l.pages.sso(w, v)
}

// TestSSO reads the metadata of the organization's service anew and goes through
// a sign-in there, at whose end nobody is signed in.
func (l *Pages) TestSSO(w http.ResponseWriter, r *http.Request) error {
	m, ok, err := l.manage(w, r, orgSSOPath)
	if !ok {
		return err
	}
	e := l.orgEvent(r, m, audit.SSOChanged)
	if !m.may(rbac.ResourceSSO, "update") {
		return l.forbid(w, r, e)
	}
	c, err := l.people.Connection(r.Context(), m.project.ID, m.organization.ID)
	if errors.Is(err, identity.ErrNotFound) {
		return l.fail(w, r, "single sign-on", noConnection())
	}
	if err != nil {
		return err
	}
	before := c.Provider
	c.Provider, err = l.upstream.Discover(r.Context(), m.project, c.Issuer)
	var upstream *signin.UpstreamError
	if errors.As(err, &upstream) {
		web.Note(r.Context(), slog.String("cause", err.Error()))
		return l.ssoPage(w, r, m, ssoView{orgView: orgView{Problems: []string{upstream.Sentence}}})
	}
	if err == nil && !before.Equal(c.Provider) {
		err = l.people.SaveProvider(r.Context(), c, e)
	}
	if errors.Is(err, identity.ErrNotFound) { // deleted in between
		return l.fail(w, r, "single sign-on", noConnection())
	}
	if err != nil {
		return err
	}
	flow, err := l.park(w, r, orgSSOPath, nil, audit.Attempt{})
	if err != nil {
		return err
	}
	to, err := l.upstream.Send(r.Context(), m.project, flow, c, m.email, signin.Attempt{Test: true})
	if err != nil {
		return err
	}
	http.Redirect(w, r, to, http.StatusSeeOther)
	return nil
}

// ssoTested shows an administrator what came of a test. failed is why it came to
// nothing, or nil.
func (l *Pages) ssoTested(w http.ResponseWriter, r *http.Request, c identity.Connection, said signin.Assertion, failed error) error {
	m, ok, err := l.manage(w, r, orgSSOPath)
	if !ok {
		return err
	}
	if m.organization.ID != c.OrganizationID || !m.may(rbac.ResourceSSO, "update") {
		return l.forbid(w, r, l.orgEvent(r, m, audit.SSOChanged))
	}
	var upstream *signin.UpstreamError
	if errors.As(failed, &upstream) {
		web.Note(r.Context(), slog.String("cause", failed.Error()))
		return l.ssoPage(w, r, m, ssoView{orgView: orgView{Problems: []string{upstream.Sentence}}})
	}
	if failed != nil {
		return failed
	}
	tested := &ssoTestView{Subject: said.Subject, Email: said.Email, Name: said.Name}
	member, err := l.people.Member(r.Context(), m.organization, said.Email)
	domain := identity.DomainOf(identity.Fold(said.Email))
	listed := slices.Contains(m.organization.Settings.AllowedDomains, domain)
	switch {
	case err != nil && !errors.Is(err, identity.ErrNotFound):
		return err
	case err == nil && (member.Status == identity.Active || listed):
		tested.Outcome = "They are a member, and would be signed in."
	case err == nil:
		tested.Outcome = "They are invited, but nobody has proved the address yet and its domain is not in Settings. They sign in with a code once, then with single sign-on."
	case listed && m.organization.Settings.Provisioning:
		tested.Outcome = "They are no member yet, and would join by their e-mail domain."
	default:
		tested.Outcome = "They are no member and not invited: they would not be signed in."
	}
	return l.ssoPage(w, r, m, ssoView{Tested: tested})
}

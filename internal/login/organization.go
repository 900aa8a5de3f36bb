package login

import (
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// SwitchOrganization lets a person choose another organization, for nobody's
// sake but their own.
func (l *Pages) SwitchOrganization(w http.ResponseWriter, r *http.Request) error {
	p := project.FromContext(r.Context())
	if p.Vertical != project.B2B {
		return l.fail(w, r, "organization", web.StatusPage(http.StatusNotFound))
	}
	flow, err := l.park(w, r, appsPath, nil, audit.Attempt{})
	if err != nil {
		return err
	}
	http.Redirect(w, r, p.Path()+flowPath+flow.ID+"/organization", http.StatusSeeOther)
	return nil
}

// discover answers a flow whose person is in no organization yet: it goes into
// the only one there is, or asks which.
func (l *Pages) discover(w http.ResponseWriter, r *http.Request, st step) error {
	v, err := l.choiceView(r, st)
	if err != nil {
		return err
	}
	entry := func(c choiceRow) bool { return !c.NoEntry }
	switch {
	case len(v.Choices) == 1 && v.Choices[0].Open() && !v.Choices[0].Joining:
		return l.enter(w, r, st, v.Choices[0].ID)
	case len(v.Choices) > 0 && !slices.ContainsFunc(v.Choices, entry):
		return l.refuseClient(w, r, st)
	}
	return l.pages.choose(w, v)
}

// refuseClient says that the person's organizations do not let the connected app
// in.
func (l *Pages) refuseClient(w http.ResponseWriter, r *http.Request, st step) error {
	var refusal *oauth.Error
	err := l.oauth.NotAdmitted(l.oauth.WithAddress(r), st.project, *st.pending, st.who.person())
	if !errors.As(err, &refusal) {
		return err
	}
	page := notAdmitted(st.pending.Client.Name())
	page.Way, page.WayTo = st.at("/organization"), "See your organizations"
	return l.failIn(w, r, st, "organization", page)
}

// Organization shows the organizations of a person, and takes their choice.
func (l *Pages) Organization(w http.ResponseWriter, r *http.Request) error {
	st, ok, err := l.open(w, r)
	if !ok {
		return err
	}
	if !st.known || st.who.visit.Browser.ID == "" {
		http.Redirect(w, r, st.at(""), http.StatusSeeOther)
		return nil
	}
	v, err := l.choiceView(r, st)
	if err != nil {
		return err
	}
	if r.Method != http.MethodPost {
		return l.pages.choose(w, v)
	}
	values, ok, err := l.form(w, r, st, st.binding())
	if !ok {
		return err
	}
	switch values.Get("action") {
	case "switch":
		return l.switchPerson(w, r, st)
	case "create":
		if !v.Create {
			return l.failIn(w, r, st, "organization", notInvited())
		}
		v.NewName = strings.TrimSpace(values.Get("name"))
		if v.BadName = !identity.Printable(v.NewName, 128); v.BadName {
			return l.pages.choose(w, v)
		}
		_, err := l.people.Found(r.Context(), st.project, st.who.visit.Browser, v.NewName, st.about(l.event(r, audit.MemberEntered)))
		if errors.Is(err, identity.ErrLimited) {
			v.TooMany = true
			return l.pages.choose(w, v)
		}
		if err != nil {
			return err
		}
		http.Redirect(w, r, st.at(""), http.StatusSeeOther)
		return nil
	}
	return l.enter(w, r, st, values.Get("organization"))
}

// enter goes into an organization and on in the flow. Which organizations are
// open is decided by the address that was proved, not by what was shown.
func (l *Pages) enter(w http.ResponseWriter, r *http.Request, st step, id string) error {
	_, err := l.people.Enter(r.Context(), st.project, st.who.visit.Browser, id, st.about(l.event(r, audit.MemberEntered)))
	switch {
	case errors.Is(err, identity.ErrNotFound):
		return l.refuseSignIn(w, r, st, "not a member of it", "organization", notInvited())
	case errors.Is(err, identity.ErrMethod):
		return l.refuseSignIn(w, r, st, "single sign-on is not allowed", "organization", otherProof())
	case errors.Is(err, identity.ErrOldProof): // signed out everywhere since: this browser has to prove the address anew
		return l.switchPerson(w, r, st)
	case err != nil:
		return err
	}
	http.Redirect(w, r, st.at(""), http.StatusSeeOther)
	return nil
}

// choiceView lists what the person of a flow can choose from.
func (l *Pages) choiceView(r *http.Request, st step) (chooseView, error) {
	v := chooseView{
		Site: site(st.project), form: form{Post: st.at("/organization"), CSRF: l.csrf.Token(st.binding()...)},
		Client: st.clientView(l.now()), Email: st.who.email, Create: st.project.Settings.OrganizationCreation && st.who.visit.Browser.Confined() == "",
	}
	choices, err := l.people.Choices(r.Context(), st.who.visit.Browser)
	if err != nil {
		return v, err
	}
	connected, err := l.people.Connected(r.Context(), st.who.visit.Browser)
	if err != nil {
		return v, err
	}
	for _, c := range choices {
		o := c.Organization
		row := choiceRow{ID: o.ID, Name: o.Name, Logo: logoAddress(st.project, o.Logo), Roles: identity.Titles(c.Member, o), Joining: c.Member.ID == "", Invited: c.Member.Status != identity.Active && c.Member.ID != ""}
		switch {
		case !o.Accepts(st.who.visit.Browser.Factors):
			row.OtherProof = true
		case st.pending != nil && st.pending.Client.ID != "" && !o.Admits(st.pending.Client.ID, st.pending.Client.Type.FirstParty()):
			row.NoEntry = true
		}
		if !row.NoEntry && o.TakesSSO() && slices.Contains(connected, o.ID) {
			row.SSO = st.ssoAddress(o.ID)
		}
		v.Choices = append(v.Choices, row)
	}
	return v, nil
}

// admits reports whether the person's organization lets a connected app in.
func (s signedIn) admits(c oauth.Client) bool {
	return s.visit.Organization.ID == "" || s.visit.Organization.Admits(c.ID, c.Type.FirstParty())
}

// notAdmitted refuses a connected app that the organization does not let in, or
// offers another organization where there is one.
func (l *Pages) notAdmitted(w http.ResponseWriter, r *http.Request, st step) error {
	v, err := l.choiceView(r, st)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(v.Choices, choiceRow.Open) {
		return l.pages.choose(w, v)
	}
	return l.refuseClient(w, r, st)
}

// whyNot says why a person cannot grant a scope.
func (st step) whyNot(scope string) string {
	if st.who.visit.Organization.ID == "" {
		return "You cannot allow this."
	}
	return identity.WhyNot(st.rights, st.who.roleNames(), scope)
}

// roleNames are the roles of the member who is signed in, for people.
func (s signedIn) roleNames() []string { return identity.Titles(s.visit.Member, s.visit.Organization) }

package login

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

// clientViewOf says who a client is and who vouches for it.
func clientViewOf(p *project.Project, c oauth.Client, now time.Time) clientView {
	v := clientView{Name: c.Name(), Shut: c.Blocked, Logo: logoAddress(p, c.Logo)}
	switch {
	case c.Type.FirstParty():
		v.Vouched = byProject
	case c.Creation == oauth.Preregistered:
		v.Vouched = byOperator
	case c.Creation == oauth.Document:
		v.Vouched, v.Host, v.Copied = byHost, c.Host(), moment{c.CopiedAt, now}
	default:
		v.Registered = moment{c.CreatedAt, now}
	}
	return v
}

// clientView is who waits for a flow. Before its document was read a client is
// no more than the host that it names.
func (st step) clientView(now time.Time) *clientView {
	switch {
	case st.pending == nil:
		return nil
	case st.pending.Client.ID == "":
		host := oauth.Client{URL: st.pending.Request.ClientID}.Host()
		return &clientView{Name: host, Registered: moment{now, now}}
	}
	v := clientViewOf(st.project, st.pending.Client, now)
	return &v
}

func (l *Pages) signInView(st step) signInView {
	v := signInView{
		Site: site(st.project), form: form{Post: st.at("/email"), CSRF: l.csrf.Token(st.binding()...)},
		Client: st.clientView(l.now()),
	}
	if st.pending != nil {
		v.Email = st.pending.Request.LoginHint
	}
	if st.project.Vertical == project.B2B {
		v.SSO = st.at("/sso")
	}
	return v
}

func (l *Pages) codeView(st step) codeView {
	v := codeView{
		Site: site(st.project), form: form{Post: st.at("/code"), CSRF: l.csrf.Token(st.binding()...)},
		Email: st.flow.Email, Until: moment{st.flow.CodeExpiresAt, l.now()},
	}
	if l.mailbox != "" {
		v.Mailbox = st.project.Path() + l.mailbox
	}
	return v
}

// opens puts the reach of tokens into words; where is "there", or names the
// resource server.
func opens(reach oauth.Reach, where string) permission {
	switch reach {
	case oauth.ReachServer:
		return permission{Sentence: "Do everything that you can " + where, Detail: "This server names no narrower permissions", Writes: true}
	case oauth.ReachOpen:
		return permission{Sentence: "Do what needs no permission " + where, Detail: "It gets none of this server’s own permissions"}
	}
	return permission{}
}

// withReach puts before permissions what tokens for the resource with these scopes
// open besides.
func withReach(p *project.Project, resource string, scopes []string, permissions []permission) []permission {
	name := placeOf(resource)
	if r, ok := p.Resource(resource); ok && r.Name != "" {
		name = r.Name
	}
	if reach := oauth.ReachOf(p, resource, scopes); reach != oauth.ReachScopes {
		return append([]permission{opens(reach, "in "+name)}, permissions...)
	}
	return permissions
}

// allowed puts what a grant allows into words, by resource.
func (l *Pages) allowed(p *project.Project, rows []oauth.GrantScope) []permission {
	scopes := map[string][]string{}
	for _, row := range rows {
		if row.Allowed {
			scopes[row.Resource] = append(scopes[row.Resource], row.Scope)
		}
	}
	var all []permission
	for _, resource := range slices.Sorted(maps.Keys(scopes)) {
		var there []permission
		for _, scope := range scopes[resource] {
			there = append(there, permissionOf(l.oauth.Describe(p, scope)))
		}
		for _, one := range withReach(p, resource, scopes[resource], there) {
			if !slices.Contains(all, one) { // who a person is can be allowed for two
				all = append(all, one)
			}
		}
	}
	return all
}

// permissionOf puts a choice into the words of the page.
func permissionOf(c oauth.Choice) permission {
	p := permission{Scope: c.Scope.Name, Sentence: c.Scope.Description, Detail: c.Scope.Detail, Writes: !c.Scope.ReadOnly, Ticked: c.Ticked}
	return p
}

// permissionOf is permissionOf with the reason why the person cannot allow it.
func (st step) permissionOf(c oauth.Choice) permission {
	p := permissionOf(c)
	if !c.Grantable {
		p.Refused = st.whyNot(c.Scope.Name)
	}
	return p
}

// organizationView is where a member acts, nil in a consumer project.
func (st step) organizationView() *organizationView {
	o := st.who.visit.Organization
	if o.ID == "" {
		return nil
	}
	return &organizationView{ID: o.ID, Name: o.Name, Logo: logoAddress(st.project, o.Logo), Roles: strings.Join(st.who.roleNames(), " and "), Change: st.at("/organization")}
}

func (l *Pages) consentView(st step, consent oauth.Consent) consentView {
	pending, life := st.pending, st.project.Settings.Lifetimes
	if r, ok := st.project.Resource(pending.Resource); ok && r.AccessToken > 0 {
		life.LoneAccessToken = r.AccessToken
	}
	v := consentView{
		Site: site(st.project), form: form{Post: st.at("/consent"), CSRF: l.csrf.Token(st.binding()...)},
		Page:   l.csrf.Token(st.shown(consent)...),
		Client: clientViewOf(st.project, pending.Client, l.now()), Answer: answerTo(pending.RedirectURI, pending.Client.Host()),
		Email: st.who.email, Apps: st.project.Path() + appsPath, Organization: st.organizationView(),
		AtMost: time.Duration(life.LoneAccessToken) * time.Second,
	}
	if pending.Client.Refreshes() {
		v.Idle, v.AtMost = time.Duration(life.RefreshIdle)*time.Second, time.Duration(life.RefreshAbsolute)*time.Second
	}
	about := permissionGroup{Name: "About you"}
	there := permissionGroup{Name: pending.ResourceName, Address: pending.Resource}
	for _, choice := range consent.Choices {
		if choice.Identity {
			about.Permissions = append(about.Permissions, st.permissionOf(choice))
		} else {
			there.Permissions = append(there.Permissions, st.permissionOf(choice))
		}
	}
	// The tokens are for the resource server whatever is asked: it is always named.
	there.Opens = opens(consent.Reach, "there")
	if pending.Resource != "" && len(there.Permissions) == 0 && there.Opens.Sentence == "" {
		there.Opens = opens(oauth.ReachOpen, "there")
		if slices.ContainsFunc(consent.Kept, func(c oauth.Choice) bool { return !c.Identity }) {
			there.Opens = permission{Sentence: "Do what you already allow there"}
		}
	}
	for _, g := range []permissionGroup{there, about} {
		if len(g.Permissions) > 0 || g.Opens.Sentence != "" {
			v.Groups = append(v.Groups, g)
		}
	}
	for _, kept := range consent.Kept {
		v.Already = append(v.Already, permissionOf(kept))
	}
	return v
}

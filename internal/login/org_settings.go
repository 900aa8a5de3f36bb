package login

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
)

// savedParameter names the version that a form of the settings made.
const savedParameter = "saved"

// orgField is a part of the settings that one action is needed for: the form
// fields that belong to it and what they change.
type orgField struct {
	action string
	names  []string
	take   func(o *identity.Organization, v orgValues)
}

// orgFields are the parts of each form of the settings page.
func orgFields(section string) []orgField {
	switch section {
	case "info":
		return []orgField{
			{"update.info.name", []string{"name"}, func(o *identity.Organization, v orgValues) { o.Name = strings.TrimSpace(v.Get("name")) }},
			{"update.info.slug", []string{"slug"}, func(o *identity.Organization, v orgValues) { o.Slug = strings.TrimSpace(v.Get("slug")) }},
		}
	case "people":
		return []orgField{
			{"update.settings.allowed-domains", []string{"domains"}, func(o *identity.Organization, v orgValues) { o.Settings.AllowedDomains = v.list("domains") }},
			{"update.settings.email-jit-provisioning", []string{"provisioning"}, func(o *identity.Organization, v orgValues) { o.Settings.Provisioning = v.Get("provisioning") == "on" }},
			{"update.settings.email-invites", []string{"invitations"}, func(o *identity.Organization, v orgValues) {
				o.Settings.Invitations = identity.Extent(v.Get("invitations"))
			}},
			{"update.settings.allowed-auth-methods", []string{"methods"}, func(o *identity.Organization, v orgValues) {
				if way := v.Get("methods"); way != wayOf(o.Settings) {
					o.Settings.Methods, o.Settings.AllowedMethods = methodsOf(way)
				}
			}},
		}
	case "apps":
		names := appPolicyNames("first_party")
		return []orgField{{"update.settings.connected-apps", append(names, appPolicyNames("third_party")...), func(o *identity.Organization, v orgValues) {
			o.Settings.FirstParty, o.Settings.ThirdParty = appPolicyOf(v, "first_party"), appPolicyOf(v, "third_party")
		}}}
	}
	return nil
}

// methodsOf is what a choice of ways to sign in stands for: every way, or one.
func methodsOf(choice string) (identity.Extent, []string) {
	if choice == string(identity.All) {
		return identity.All, []string{}
	}
	return identity.Listed, []string{choice}
}

// wayOf is the choice that stands for an organization's ways to sign in.
func wayOf(s identity.OrganizationSettings) string {
	email, sso := slices.Contains(s.AllowedMethods, identity.MethodEmailCode), slices.Contains(s.AllowedMethods, identity.MethodSSO)
	switch {
	case s.Methods == identity.Listed && !sso:
		return identity.MethodEmailCode
	case s.Methods == identity.Listed && !email:
		return identity.MethodSSO
	}
	return string(identity.All)
}

func appPolicyNames(kind string) []string { return []string{kind, kind + "_app", kind + "_ids"} }

// appPolicyOf reads the policy for one kind of connected apps: boxes that are
// ticked, and ids that were typed.
func appPolicyOf(v orgValues, kind string) identity.AppPolicy {
	policy := identity.AppPolicy{Allowed: identity.Extent(v.Get(kind)), Listed: []string{}}
	for _, id := range append(slices.Clone(v.Values[kind+"_app"]), strings.Fields(v.Get(kind+"_ids"))...) {
		if !slices.Contains(policy.Listed, id) {
			policy.Listed = append(policy.Listed, id)
		}
	}
	return policy
}

// OrganizationSettings shows the settings of the member's organization, and
// takes changes.
func (l *Pages) OrganizationSettings(w http.ResponseWriter, r *http.Request) error {
	m, ok, err := l.manage(w, r, orgPath)
	if !ok {
		return err
	}
	if r.Method == http.MethodPost {
		return l.changeOrganization(w, r, m)
	}
	v, err := l.orgSettingsView(r, m, m.organization)
	if err != nil {
		return err
	}
	v.Saved = r.URL.Query().Get(savedParameter) == strconv.FormatInt(m.organization.Version, 10)
	return l.pages.orgSettings(w, http.StatusOK, v)
}

// errForeignDomain says that a member wants people of a domain in that is not
// the member's own.
var errForeignDomain = errors.New("login: not the member's own domain")

// changeOrganization takes one of the forms. What the member's roles do not
// permit is refused whatever the page showed.
func (l *Pages) changeOrganization(w http.ResponseWriter, r *http.Request, m manager) error {
	values, ok, err := l.orgForm(w, r, m, "first_party_app", "third_party_app")
	if !ok {
		return err
	}
	e := l.orgEvent(r, m, audit.OrganizationChanged)
	fields := orgFields(values.Get("section"))
	permitted := slices.DeleteFunc(slices.Clone(fields), func(f orgField) bool { return !m.may(rbac.ResourceOrganization, f.action) })
	for _, f := range fields {
		if !m.may(rbac.ResourceOrganization, f.action) && slices.ContainsFunc(f.names, values.Has) {
			return l.forbid(w, r, e)
		}
	}
	if len(permitted) == 0 {
		return l.forbid(w, r, e)
	}
	var wanted identity.Organization
	saved, err := l.people.ChangeOrganization(r.Context(), m.project, m.organization.ID, func(o *identity.Organization) error {
		before := o.Settings.AllowedDomains
		if wanted = *o; strconv.FormatInt(o.Version, 10) != values.Get("version") {
			return identity.ErrStale
		}
		for _, f := range permitted {
			f.take(o, values)
		}
		wanted = *o
		if slices.ContainsFunc(o.Settings.AllowedDomains, func(d string) bool { return d != m.domain() && !slices.Contains(before, d) }) {
			return errForeignDomain
		}
		return nil
	}, e)
	if err == nil {
		http.Redirect(w, r, m.project.Path()+orgPath+"?"+savedParameter+"="+strconv.FormatInt(saved.Version, 10), http.StatusSeeOther)
		return nil
	}
	status, problems := http.StatusUnprocessableEntity, identity.Problems(nil)
	switch {
	case errors.As(err, &problems):
	case errors.Is(err, identity.ErrStale):
		status, problems = http.StatusConflict, identity.Problems{"Somebody else changed the settings while this page was open. Look at them as they are now, then change yours again."}
	case errors.Is(err, identity.ErrConflict):
		problems = identity.Problems{"This slug is taken. Choose another one."}
	case errors.Is(err, errForeignDomain):
		e.Refused, e.Reason = true, "not the member's own domain"
		if err := l.audit.Record(r.Context(), e); err != nil {
			return err
		}
		status, problems = http.StatusForbidden, identity.Problems{fmt.Sprintf("You can add only %s, the domain of your own address. The people who run this server can add others.", m.domain())}
	default:
		return err
	}
	v, err := l.orgSettingsView(r, m, wanted)
	if err != nil {
		return err
	}
	v.Problems = problems
	return l.pages.orgSettings(w, status, v)
}

// domain is that of the member's own address.
func (m manager) domain() string { return identity.DomainOf(m.visit.Member.EmailFolded) }

// orgSettingsView shows an organization as it is, or as it was wanted.
func (l *Pages) orgSettingsView(r *http.Request, m manager, o identity.Organization) (orgSettingsView, error) {
	can := func(action string) control { return m.control(rbac.ResourceOrganization, "update."+action) }
	s := o.Settings
	v := orgSettingsView{
		orgView: l.orgView(m, orgPath), Version: m.organization.Version,
		Name: textField{o.Name, can("info.name")}, Slug: textField{o.Slug, can("info.slug")},
		Domains:      textField{strings.Join(s.AllowedDomains, "\n"), can("settings.allowed-domains")},
		OwnDomain:    m.domain(),
		Provisioning: switchField{s.Provisioning, can("settings.email-jit-provisioning")},
	}
	invites := can("settings.email-invites")
	v.Invitations = choiceField{invites, options("invitations", s.Invitations, invites, map[identity.Extent]string{
		identity.All: "Any address", identity.Listed: "Only addresses of the domains above", identity.None: "Nobody",
	})}
	methods, way := can("settings.allowed-auth-methods"), wayOf(s)
	v.Methods = choiceField{methods, []option{
		{"methods", string(identity.All), "A code by mail, or single sign-on", way == string(identity.All), !methods.Open()},
		{"methods", identity.MethodEmailCode, "A code by mail only", way == identity.MethodEmailCode, !methods.Open()},
		{"methods", identity.MethodSSO, "Single sign-on only", way == identity.MethodSSO, !methods.Open()},
	}}
	clients, err := l.oauth.OrganizationClients(r.Context(), m.project, o.ID)
	if err != nil {
		return v, err
	}
	slices.SortStableFunc(clients, func(a, b oauth.Client) int { return cmp.Compare(a.Name(), b.Name()) })
	apps := can("settings.connected-apps")
	v.Policies = []appPolicyField{
		l.appPolicyField(m.project, "third_party", "Apps of others", s.ThirdParty, clients, apps),
		l.appPolicyField(m.project, "first_party", "Apps of "+m.project.Name+" itself", s.FirstParty, clients, apps),
	}
	v.Connect = apps
	return v, nil
}

func (l *Pages) appPolicyField(p *project.Project, kind, title string, policy identity.AppPolicy, clients []oauth.Client, c control) appPolicyField {
	f := appPolicyField{
		control: c, Kind: kind, Title: title,
		Options: options(kind, policy.Allowed, c, map[identity.Extent]string{
			identity.All: "All of them", identity.Listed: "Only those that are listed here", identity.None: "None",
		}),
	}
	known := map[string]bool{}
	for _, client := range clients {
		if client.Type.FirstParty() == (kind == "first_party") {
			known[client.ID] = true
			f.Known = append(f.Known, knownApp{client.ID, clientViewOf(p, client, l.now()), slices.Contains(policy.Listed, client.ID)})
		}
	}
	others := slices.DeleteFunc(slices.Clone(policy.Listed), func(id string) bool { return known[id] })
	f.IDs = strings.Join(others, "\n")
	return f
}

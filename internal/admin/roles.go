package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/web"
)

// rolesView is the policy of a project: as it stands, as it is edited, and what
// that would change.
type rolesView struct {
	frame
	B2B      bool
	Stands   int64 // the version
	Document string
	Planned  bool
	Changes  []rbac.Change
	Roles    []roleRow
	Scopes   []scopeRow
	Built    []rbac.Resource // that every project has
	Cut      bool            // there are more than the table shows
}

// roleRow is one role of the table, and a column of who can grant what.
type roleRow struct {
	rbac.Role
	BuiltIn bool
	Permits []string
}

// scopeRow is one scope, and which roles can grant it.
type scopeRow struct {
	rbac.Scope
	Grantable []bool // by role, in the order of the roles
	Servers   []string
}

// The tables show so many roles and scopes; the document has all.
const (
	rolesShown  = 12
	scopesShown = 200
)

// Roles shows the policy of a project as a document, tells what another one
// would change, and applies it.
func (d *Dashboard) Roles(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	standing, err := d.People.Policy(r.Context(), v.project.ID)
	if err != nil {
		return err
	}
	view := rolesView{
		frame: d.frame(r, v, "roles", "Roles & scopes", v.command("policy", "export")),
		B2B:   v.project.Vertical == project.B2B, Stands: standing.Version, Document: string(rbac.Format(standing)),
	}
	view.Lead = "What connected apps can ask for"
	if view.B2B {
		view.Lead = "Who may do what, and what connected apps can ask for"
	}
	status := http.StatusOK
	if r.Method == http.MethodPost {
		values, err := d.formUpTo(r, v, web.MaxBody)
		if err != nil {
			return err
		}
		applied, err := d.policy(r, v, standing, values, &view)
		if err != nil {
			return err
		}
		if applied {
			d.Changed(r.Context())
			d.done(w, r, view.Here, "apply", "")
			return nil
		}
		if view.Problems != nil {
			status = http.StatusUnprocessableEntity
		}
	}
	if err := d.whoCanGrant(r, v, &view); err != nil {
		return err
	}
	return d.pages.Render(w, status, "roles", view)
}

// policy compares or applies the document of a form. Who edited an older version
// than the one that stands is told so: theirs would undo what came between.
func (d *Dashboard) policy(r *http.Request, v visit, standing rbac.Policy, values url.Values, view *rolesView) (applied bool, err error) {
	view.Document = unixLines(values.Get("document"))
	next, err := rbac.Parse([]byte(view.Document))
	if err != nil {
		view.Problems = documentProblems(err)
		return false, nil
	}
	if sent := values.Get("version"); sent != strconv.FormatInt(standing.Version, 10) || next.Version != 0 && next.Version != standing.Version {
		view.Problems = []string{fmt.Sprintf("Another window changed the policy first: version %d stands now. Load the page again, and make your change in that one.", standing.Version)}
		return false, nil
	}
	view.Planned, view.Changes = true, rbac.Diff(standing, next)
	if values.Get("action") != "apply" {
		return false, nil
	}
	next.Version = standing.Version
	if len(view.Changes) > 0 {
		_, err = d.People.ApplyPolicy(r.Context(), v.project.ID, next, d.event(v, audit.PolicyApplied, strconv.FormatInt(next.Version+1, 10)))
	}
	if err == nil {
		return true, nil
	}
	view.Problems, err = sentences(err)
	return false, err
}

// whoCanGrant fills the tables of the policy that stands.
func (d *Dashboard) whoCanGrant(r *http.Request, v visit, view *rolesView) error {
	rules, err := d.People.Rules(r.Context(), v.project)
	if err != nil {
		return err
	}
	own := map[string][]string{} // resource servers by scope
	for _, s := range v.project.Resources {
		for _, scope := range s.Scopes {
			own[scope] = append(own[scope], s.Name)
		}
	}
	if view.B2B {
		for _, role := range rules.Policy.Roles {
			if len(view.Roles) == rolesShown {
				view.Cut = true
				break
			}
			view.Roles = append(view.Roles, roleRow{role, role.ID == rbac.RoleMember || role.ID == rbac.RoleAdmin, permits(role.Permissions)})
		}
		view.Built = rbac.Policy{}.WithBuiltIns().Resources
	}
	for _, scope := range rules.Policy.Scopes {
		if len(view.Scopes) == scopesShown {
			view.Cut = true
			break
		}
		row := scopeRow{Scope: scope, Servers: own[scope.Name]}
		for _, role := range view.Roles {
			can, _ := rules.Judge.Rights(rbac.RoleMember, role.ID).Grantable(scope.Name)
			row.Grantable = append(row.Grantable, can)
		}
		view.Scopes = append(view.Scopes, row)
	}
	return nil
}

func permits(permissions []rbac.Permission) []string {
	var all []string
	for _, p := range permissions {
		actions := strings.Join(p.Actions, ", ")
		if slices.Contains(p.Actions, rbac.AllActions) {
			actions = "everything"
		}
		all = append(all, p.Resource+": "+actions)
	}
	return all
}

// documentProblems tells the problems of a document one by one, each with its line. It is
// nil without an error.
func documentProblems(err error) []string {
	var bad *rbac.Problems
	if !errors.As(err, &bad) {
		return nil
	}
	var all []string
	for _, p := range bad.List {
		text := sentence(p.Message)
		if p.Line > 0 {
			text = fmt.Sprintf("Line %d: %s", p.Line, text)
		}
		all = append(all, text)
	}
	return all
}

// unixLines takes the line ends of a form's text field away.
func unixLines(text string) string { return strings.ReplaceAll(text, "\r\n", "\n") }

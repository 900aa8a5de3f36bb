package admin

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// resourcesPage is how many resource servers stand on a page.
const resourcesPage = 50

// resourcesView is the list of the resource servers of a project, with the form
// that registers one.
type resourcesView struct {
	frame
	Query  string
	Rows   []resourceRow
	Pager  pager
	New    newResource
	Made   resourceRow // just registered
	Told   []string    // what it says of itself
	Secret string      // of that: shown once
}

// resourceRow is one resource server.
type resourceRow struct {
	project.Resource
	Path    string
	Default bool // of requests that name none
}

// Token says how tokens for it are made.
func (r resourceRow) Token() string {
	if r.Profile == project.Compatible {
		return "Compatible"
	}
	return "RFC 9068"
}

// newResource is what was typed to register one.
type newResource struct {
	URI, Name, Reads, Writes, Profile string
	Default, Secret                   bool
}

func resourcePath(p *project.Project, id, page string) string {
	path := projectPath(p, "resources") + "/" + id
	if page != "" {
		path += "/" + page
	}
	return path
}

func toResourceRow(p *project.Project, r project.Resource) resourceRow {
	fallback, ok := p.DefaultResource()
	return resourceRow{r, resourcePath(p, r.ID, ""), ok && fallback.ID == r.ID}
}

// Resources lists the resource servers of a project and registers new ones.
func (d *Dashboard) Resources(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	view := resourcesView{frame: d.frame(r, v, "resources", "Resource servers", v.command("resource", "list"))}
	view.Lead = "The MCP servers that trust this project."
	status := http.StatusOK
	if r.Method == http.MethodPost {
		values, err := d.form(r, v)
		if err != nil {
			return err
		}
		if err := d.register(r, v, &view, values); err != nil {
			if view.Problems, err = sentences(err); err != nil {
				return err
			}
			status = http.StatusUnprocessableEntity
		}
		// What was just registered is on the list.
		if v.project, err = d.Projects.Find(r.Context(), v.project.ID); err != nil {
			return err
		}
	}
	view.Query = strings.TrimSpace(r.URL.Query().Get("q"))
	view.Rows, view.Pager = resourceRows(r, v.project, view.Query)
	return d.pages.Render(w, status, "resources", view)
}

// resourceRows is a page of those that have the text in an address or in their
// name. A project has all of its resource servers in memory.
func resourceRows(r *http.Request, p *project.Project, query string) ([]resourceRow, pager) {
	after, text := r.URL.Query().Get("after"), strings.ToLower(query)
	all := p.Resources
	if i := slices.IndexFunc(all, func(one project.Resource) bool { return one.ID == after }); i >= 0 {
		all = all[i+1:]
	}
	var rows []resourceRow
	for _, one := range all {
		if !strings.Contains(strings.ToLower(strings.Join(append(one.URIs(), one.Name, one.ID), "\n")), text) {
			continue
		}
		if len(rows) == resourcesPage {
			return rows, turn(r, rows[resourcesPage-1].ID)
		}
		rows = append(rows, toResourceRow(p, one))
	}
	return rows, turn(r, "")
}

// register makes a resource server of what was typed.
func (d *Dashboard) register(r *http.Request, v visit, view *resourcesView, values url.Values) error {
	view.New = newResource{
		URI: strings.TrimSpace(values.Get("uri")), Name: strings.TrimSpace(values.Get("name")), Reads: values.Get("reads"), Writes: values.Get("writes"),
		Profile: values.Get("profile"), Default: values.Get("default") == "on", Secret: values.Get("secret") == "on",
	}
	one := project.Resource{URI: view.New.URI, Name: view.New.Name, Profile: project.TokenProfile(view.New.Profile), Default: view.New.Default}
	if err := project.CheckResource(one.URI); err != nil {
		return project.Problem(err.Error())
	}
	if known, ok := v.project.Resource(one.URI); ok {
		return project.Problem(fmt.Sprintf("the resource server %s has this address already", known.URI))
	}
	scopes := append(typedScopes(view.New.Reads, true), typedScopes(view.New.Writes, false)...)
	for _, s := range scopes { // before another server is asked
		if !project.ValidScope(s.Name) {
			return project.Problem(fmt.Sprintf("the scope %q has a character that a scope cannot have; write NAME=Sentence on each line", s.Name))
		}
	}
	told := d.discover(r, v, &one, &scopes)
	made, key, err := d.Projects.By(v.origin).AddResource(r.Context(), v.project, one, scopes, view.New.Secret)
	if err != nil {
		return err
	}
	d.Changed(r.Context())
	view.Made, view.Told, view.New = resourceRow{Resource: made, Path: resourcePath(v.project, made.ID, "")}, told, newResource{}
	if key != nil {
		view.Secret = key.Text
	}
	return nil
}

// discover asks the server itself. What is added is its own word.
func (d *Dashboard) discover(r *http.Request, v visit, one *project.Resource, scopes *[]project.Scope) []string {
	told, answered := v.project.Discover(r.Context(), d.Ask(v.project), one, scopes)
	switch {
	case !answered && len(*scopes)+len(one.Scopes) > 0:
		told[0] += ". Its scopes are those you named; its page reads its own words when it runs."
	case !answered:
		told[0] += ". Name its scopes here, or read them again when it runs."
	}
	return told
}

// typedScopes reads NAME=Sentence from each line.
func typedScopes(text string, readOnly bool) []project.Scope {
	var scopes []project.Scope
	for line := range strings.Lines(text) {
		name, sentence, _ := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); name != "" {
			scopes = append(scopes, project.Scope{Name: name, Description: strings.TrimSpace(sentence), ReadOnly: readOnly})
		}
	}
	return scopes
}

// resourceOf finds the resource server of the address.
func resourceOf(r *http.Request, v visit) (project.Resource, error) {
	i := slices.IndexFunc(v.project.Resources, func(one project.Resource) bool { return one.ID == r.PathValue("resource") })
	if i < 0 {
		return project.Resource{}, &web.Error{Status: http.StatusNotFound, Page: web.ErrorPage{
			What: "The project has no resource server with this id. It may have been removed, or belong to another project.",
			Next: "Look for it among the resource servers of each project.",
		}}
	}
	return v.project.Resources[i], nil
}

// plainProblem makes a sentence of an error of package project whose words are
// for operators.
func plainProblem(err error) error {
	text := err.Error()
	for _, s := range []error{project.ErrNotFound, project.ErrTaken} {
		text = strings.TrimPrefix(text, s.Error()+": ")
	}
	return project.Problem(text)
}

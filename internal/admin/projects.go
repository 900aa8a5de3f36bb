package admin

import (
	"net/http"
	"strings"

	"github.com/postern-id/postern/internal/project"
)

// projectsView is the list of projects, with the form that makes one.
type projectsView struct {
	frame
	Name   string // what was typed
	Issuer string
	B2B    bool
	Secret string // of a project that was just made: shown once
	Made   projectRow
}

// ProjectList shows the projects of the deployment and makes new ones.
func (d *Dashboard) ProjectList(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	view := projectsView{frame: d.frame(r, v, "", "Projects", command("project", "list"))}
	if len(v.projects) == 0 {
		view.Issuer = d.URL
	}
	if r.Method == http.MethodGet {
		return d.pages.Render(w, http.StatusOK, "projects", view)
	}
	values, err := d.form(r, v)
	if err != nil {
		return err
	}
	view.Name, view.Issuer, view.B2B = values.Get("name"), strings.TrimSpace(values.Get("issuer")), values.Get("vertical") == string(project.B2B)
	n := project.New{Name: view.Name, Issuer: view.Issuer, Environment: project.Live, Vertical: project.Consumer}
	if view.B2B {
		n.Vertical = project.B2B
	}
	if !strings.HasPrefix(n.Issuer, "https://") {
		n.Environment = project.Test
	}
	if view.Problems = d.Unfit(n.Name, n.Issuer); len(view.Problems) == 0 {
		made, key, err := d.Projects.By(v.origin).Create(r.Context(), n)
		if err == nil {
			d.Changed(r.Context())
			view.Secret, view.Made = key.Text, toProjectRow(made)
			view.Projects = append(view.Projects, view.Made)
			view.Name, view.Issuer = "", ""
			return d.pages.Render(w, http.StatusOK, "projects", view)
		}
		if view.Problems, err = sentences(err); err != nil {
			return err
		}
	}
	return d.pages.Render(w, http.StatusUnprocessableEntity, "projects", view)
}

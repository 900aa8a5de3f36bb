package admin

import (
	"errors"
	"net/http"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// Logo shows an administrator the picture of a project, of one of its connected
// apps or of one of its organizations. Everybody else gets it from the project's
// own host, which a page of the dashboard must not load anything from.
func (d *Dashboard) Logo(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	png, err := d.Clients.Logo(r.Context(), v.project, r.PathValue("digest"))
	if errors.Is(err, oauth.ErrNotFound) {
		return &web.Error{Status: http.StatusNotFound}
	}
	if err != nil {
		return err
	}
	web.Picture(w, png, "private")
	return nil
}

// logoPath is where a logo of a project is shown, "" for none.
func logoPath(p *project.Project, digest string) string {
	if digest == "" {
		return ""
	}
	return projectPath(p, "logo/"+digest)
}

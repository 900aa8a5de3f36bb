package login

import (
	"errors"
	"net/http"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// Logo serves the picture of the project, of one of its connected apps or of one
// of its organizations.
func (l *Pages) Logo(w http.ResponseWriter, r *http.Request) error {
	png, err := l.oauth.Logo(r.Context(), project.FromContext(r.Context()), r.PathValue("digest"))
	if errors.Is(err, oauth.ErrNotFound) {
		return l.fail(w, r, "logo", web.StatusPage(http.StatusNotFound))
	}
	if err != nil {
		return err
	}
	web.Picture(w, png, "public")
	return nil
}

// logoAddress is where a logo of a project is served, "" for none.
func logoAddress(p *project.Project, digest string) string {
	if digest == "" {
		return ""
	}
	return p.Path() + logoPath + digest
}

package login

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// Logo serves the picture of the project or of one of its connected apps. The
// address is made of the picture's own bytes, so that it may be kept for ever; a
// browser that opens it by itself gets a picture that can do nothing.
func (l *Pages) Logo(w http.ResponseWriter, r *http.Request) error {
	png, err := l.oauth.Logo(r.Context(), project.FromContext(r.Context()), r.PathValue("digest"))
	if errors.Is(err, oauth.ErrNotFound) {
		return l.fail(w, r, "logo", web.StatusPage(http.StatusNotFound))
	}
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "image/png")
	h.Set("Content-Length", strconv.Itoa(len(png)))
	h.Set("Cache-Control", "public, max-age=31536000, immutable")
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	_, _ = w.Write(png) // a client that went away needs no answer
	return nil
}

// logoAddress is where a logo of a project is served, "" for none.
func logoAddress(p *project.Project, digest string) string {
	if digest == "" {
		return ""
	}
	return p.Path() + logoPath + digest
}

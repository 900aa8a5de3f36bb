package oauth

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/postern-id/postern/internal/picture"
	"github.com/postern-id/postern/internal/project"
)

// logoTimeout bounds the reading of a logo, inside documentTimeout.
const logoTimeout = 2 * time.Second

// Logo returns the PNG under a digest, if it is the logo of the project or of
// one of its clients, or ErrNotFound.
func (s *Server) Logo(ctx context.Context, p *project.Project, digest string) ([]byte, error) {
	return s.store.Logo(ctx, p.ID, digest)
}

// logos draws the logos that clients' documents name, one at a time: a large
// picture takes much memory, and strangers choose when one is drawn.
type logos struct{ drawing sync.Mutex }

// read fetches the logo of a document and draws it anew, or returns nil without
// one. It asks no other host than the document's: a document sends us nowhere,
// and what people see beside a host's name comes from that host.
func (l *logos) read(ctx context.Context, client *http.Client, id, uri string) ([]byte, error) {
	if uri == "" {
		return nil, nil
	}
	document, err1 := url.Parse(id)
	u, err2 := url.Parse(uri)
	switch {
	case errors.Join(err1, err2) != nil || u.Scheme != "https" || u.User != nil:
		return nil, errors.New("oauth: the logo has no https address")
	case project.Host("https", u.Host) != project.Host("https", document.Host):
		return nil, errors.New("oauth: the logo is not at the document's host")
	}
	ctx, cancel := context.WithTimeout(ctx, logoTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, fmt.Errorf("oauth: read logo: %w", err)
	}
	r.Header.Set("Accept", "image/png, image/webp, image/jpeg, image/gif")
	answer, err := inPlace(client).Do(r)
	if err != nil {
		return nil, fmt.Errorf("oauth: read logo: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("oauth: read logo: status %d", answer.StatusCode)
	}
	file, err := io.ReadAll(io.LimitReader(answer.Body, picture.MaxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("oauth: read logo: %w", err)
	}
	l.drawing.Lock()
	defer l.drawing.Unlock()
	return picture.Logo(file)
}

// inPlace is the client without redirects.
func inPlace(client *http.Client) *http.Client {
	stays := *client
	stays.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &stays
}

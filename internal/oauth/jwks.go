package oauth

import (
	"fmt"
	"net/http"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
)

// JWKS answers with the project's public keys (RFC 7517 §5, RFC 8414 §2). The
// bytes are the ring's. While a first key is still being made nobody may keep
// the answer, or they would miss that key.
func (s *Server) JWKS(w http.ResponseWriter, r *http.Request) error {
	p := project.FromContext(r.Context())
	ring, err := s.keys.Ring(r.Context(), p.ID)
	if err != nil {
		return fmt.Errorf("oauth: key set: %w", err)
	}
	maxAge := signing.KeySetMaxAge
	if !ring.Ready() {
		maxAge = 0
	}
	body, etag := ring.JWKS()
	writePrepared(w, r, body, etag, maxAge)
	return nil
}

package guard

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
)

const (
	resourceMetadataPath = "/.well-known/oauth-protected-resource"
	issuerMetadataPath   = "/.well-known/oauth-authorization-server"
)

// resourceMetadata is the document of RFC 9728 §2. ScopeDetails is ours: what
// Config.Scopes says about each scope, for authorization servers that want to
// show it to people.
type resourceMetadata struct {
	Resource             string         `json:"resource"`
	AuthorizationServers []string       `json:"authorization_servers"`
	ScopesSupported      []string       `json:"scopes_supported,omitempty"`
	BearerMethods        []string       `json:"bearer_methods_supported"`
	Name                 string         `json:"resource_name,omitempty"`
	Documentation        string         `json:"resource_documentation,omitempty"`
	ScopeDetails         []scopeDetails `json:"scope_details,omitempty"`
}

type scopeDetails struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Write       bool   `json:"write"`
}

// Metadata serves the well-known documents. Mount it on "/.well-known/" of
// the resource's origin:
//
//   - the protected-resource metadata (RFC 9728) of the resource and of each
//     alias at its path form, /.well-known/oauth-protected-resource/<path>; the
//     bare form answers only for one without a path of its own, for a document
//     there must name the origin as its resource (RFC 9728 §3.3);
//   - a copy of the issuer's metadata at
//     /.well-known/oauth-authorization-server, for clients of the MCP revision
//     2025-03-26, which look for the authorization server on the resource's
//     own origin. It is 503 while the issuer has not been reached.
//
// Everything else is 404. Every origin may read it.
func (g *Guard) Metadata() http.Handler {
	documents := map[string][]byte{}
	for _, a := range g.addresses {
		documents[resourceMetadataPath+a.path] = a.document
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := r.URL.EscapedPath()
		document, ok := documents[path]
		if !ok && path != issuerMetadataPath {
			writeJSON(w, http.StatusNotFound, map[string]string{"error": "not_found"})
			return
		}
		w.Header().Set("Access-Control-Allow-Origin", "*")
		switch r.Method {
		case http.MethodGet, http.MethodHead:
		case http.MethodOptions:
			w.Header().Set("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
			w.Header().Set("Access-Control-Allow-Headers", "*, Authorization")
			w.Header().Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		default:
			w.Header().Set("Allow", "GET, HEAD, OPTIONS")
			writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"error": "invalid_request"})
			return
		}
		if ok {
			serveDocument(w, r, document)
			return
		}
		issuer, err := g.issuer.document(r.Context())
		if err != nil {
			g.refuse(w, r, g.unavailable("metadata", err))
			return
		}
		serveDocument(w, r, issuer.raw)
	})
}

func serveDocument(w http.ResponseWriter, r *http.Request, body []byte) {
	sum := sha256.Sum256(body)
	etag := `"` + base64.RawURLEncoding.EncodeToString(sum[:12]) + `"`
	w.Header().Set("ETag", etag)
	w.Header().Set("Cache-Control", "public, max-age=300")
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the client is gone if this fails
}

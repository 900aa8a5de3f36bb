package web

import (
	"net/http"

	"github.com/rs/cors"
)

// CORS lets programs in any browser page call an endpoint by the given methods,
// without credentials: what opens these endpoints is in the request, never in a
// cookie. A page may read the headers that tell it what to do next. Register
// the route for OPTIONS too: preflights are answered here.
func CORS(methods ...string) Middleware {
	return cors.New(cors.Options{
		AllowedOrigins: []string{"*"},
		AllowedMethods: methods,
		AllowedHeaders: []string{"Authorization", "Content-Type", "Accept", "DPoP", "MCP-Protocol-Version", "If-None-Match"},
		ExposedHeaders: []string{"WWW-Authenticate", "DPoP-Nonce", "Retry-After", "ETag", "X-Request-Id"},
		MaxAge:         600,
		// 200 rather than 204: some old clients take 204 for a failure.
		OptionsSuccessStatus: http.StatusOK,
	}).Handler
}

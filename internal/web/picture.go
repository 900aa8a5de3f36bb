package web

import (
	"net/http"
	"strconv"
)

// Picture answers with a PNG whose address is made of its own bytes, so that it may
// be kept for ever: by every cache when keep is "public", by the browser alone when
// it is "private". A browser that opens it by itself gets a picture that can do
// nothing.
func Picture(w http.ResponseWriter, png []byte, keep string) {
	h := w.Header()
	h.Set("Content-Type", "image/png")
	h.Set("Content-Length", strconv.Itoa(len(png)))
	h.Set("Cache-Control", keep+", max-age=31536000, immutable")
	h.Set("Content-Security-Policy", "default-src 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	_, _ = w.Write(png) // a client that went away needs no answer
}

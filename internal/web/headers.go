package web

import "net/http"

// pagePolicy is the Content-Security-Policy of every page: nothing from
// anywhere but our own files, no inline script or style, in no frame.
const pagePolicy = "default-src 'none'; style-src 'self'; img-src 'self'; font-src 'self'; script-src 'self'; " +
	"connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// machinePolicy is that of answers which are no pages: a browser that shows one
// all the same loads and runs nothing.
const machinePolicy = "default-src 'none'; frame-ancestors 'none'"

// permissionsPolicy turns off what a page could ask the browser for, but for
// passkeys.
const permissionsPolicy = "accelerometer=(), autoplay=(), browsing-topics=(), camera=(), display-capture=(), " +
	"encrypted-media=(), fullscreen=(), geolocation=(), gyroscope=(), magnetometer=(), microphone=(), midi=(), " +
	"payment=(), screen-wake-lock=(), usb=(), xr-spatial-tracking=(), " +
	"publickey-credentials-get=(self), publickey-credentials-create=(self)"

// PageHeaders sets the headers of everything a browser shows: errors too, for
// they are set before next runs. A handler may replace Cache-Control.
func PageHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		setCommon(h, r)
		h.Set("Content-Security-Policy", pagePolicy)
		h.Set("X-Frame-Options", "DENY")
		h.Set("Permissions-Policy", permissionsPolicy)
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// DashboardHeaders is PageHeaders for pages that no window of another site may
// keep a hand on. The pages of a sign-in go without it: clients open those in a
// window of their own and wait for it to close.
func DashboardHeaders(next http.Handler) http.Handler {
	return PageHeaders(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cross-Origin-Opener-Policy", "same-origin")
		next.ServeHTTP(w, r)
	}))
}

// MachineHeaders sets the headers of the endpoints that programs call. A
// handler may replace Cache-Control.
func MachineHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		setCommon(h, r)
		h.Set("Content-Security-Policy", machinePolicy)
		next.ServeHTTP(w, r)
	})
}

func setCommon(h http.Header, r *http.Request) {
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	if Scheme(r) == "https" {
		h.Set("Strict-Transport-Security", "max-age=63072000; includeSubDomains")
	}
}

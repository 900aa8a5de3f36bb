package admin

import (
	"net/http"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/secret"
)

// cookieName is of the deployment: projects on the same host have names of
// their own. Only plain http on this computer goes without the __Host- prefix,
// which browsers tie to https (RFC 6265bis §4.1.3.2).
func cookieName(deployment, what string) string {
	if strings.HasPrefix(deployment, "https://") {
		return "__Host-postern-" + what
	}
	return "postern-" + what
}

// The cookies: of a session, and of a step on the way to one.
const (
	sessionCookie = "dashboard"
	stepCookie    = "dashboard-step"
)

// readSession reads the cookie of a session, "" without one.
func readSession(r *http.Request, deployment string) string {
	return readCookie(r, deployment, sessionCookie)
}

func readCookie(r *http.Request, deployment, what string) string {
	c, err := r.Cookie(cookieName(deployment, what))
	if err != nil {
		return ""
	}
	return c.Value
}

// setSession keeps a session's secret in the browser until it is closed; the
// row says when the session ends.
func (d *Dashboard) setSession(w http.ResponseWriter, s secret.Secret) {
	d.setCookie(w, sessionCookie, s.Text, 0)
}

func (d *Dashboard) dropSession(w http.ResponseWriter) {
	d.setCookie(w, sessionCookie, "", -time.Second)
}

// setStep binds the next step of a sign-in to this browser; step reads it.
func (d *Dashboard) setStep(w http.ResponseWriter, s secret.Secret) {
	d.setCookie(w, stepCookie, s.Text, 0)
}

func (d *Dashboard) dropStep(w http.ResponseWriter) { d.setCookie(w, stepCookie, "", -time.Second) }

func (d *Dashboard) step(r *http.Request) string { return readCookie(r, d.URL, stepCookie) }

func (d *Dashboard) setCookie(w http.ResponseWriter, what, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure but for plain http on this computer
		Name: cookieName(d.URL, what), Value: value, Path: "/", MaxAge: int(life / time.Second),
		Secure: strings.HasPrefix(d.URL, "https://"), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

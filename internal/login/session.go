package login

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signin"
)

// maxFlows is how many sign-ins a browser may have open; the oldest goes.
const maxFlows = 8

// markLifetime is how long a browser is known by the address that was last
// proved in it. Signing out does not end it: it opens nothing.
const markLifetime = 365 * 24 * time.Hour

// cookieName carries its owner, for cookies know no port: two projects, and the
// programs beside them, may share one host name. Only a plain http issuer of
// development goes without the __Host- prefix, which browsers tie to https
// (RFC 6265bis §4.1.3.2).
func cookieName(p *project.Project, what string) string {
	sum := sha256.Sum256([]byte(p.ID))
	name := "postern-" + hex.EncodeToString(sum[:4]) + "-" + what
	if p.Secure() {
		return "__Host-" + name
	}
	return name
}

func setCookie(w http.ResponseWriter, p *project.Project, what, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure but for a plain http issuer of development
		Name: cookieName(p, what), Value: value, Path: "/", MaxAge: int(life / time.Second),
		Secure: p.Secure(), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

func dropCookie(w http.ResponseWriter, p *project.Project, what string) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure but for a plain http issuer of development
		Name: cookieName(p, what), Path: "/", MaxAge: -1,
		Secure: p.Secure(), HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// readSession reads the session cookie.
func readSession(r *http.Request, p *project.Project) (secret.Secret, bool) {
	c, err := r.Cookie(cookieName(p, "session"))
	if err != nil {
		return secret.Secret{}, false
	}
	return secret.Parse(secret.HostedSession, c.Value)
}

// readMark reads what the browser shows of an earlier sign-in, "" for nothing.
func readMark(r *http.Request, p *project.Project) string {
	c, err := r.Cookie(cookieName(p, "known"))
	if err != nil {
		return ""
	}
	return c.Value
}

// setFlowCookie binds a new flow to this browser. Flow ids ascend with time,
// so the first names are the oldest.
func setFlowCookie(w http.ResponseWriter, r *http.Request, p *project.Project, f signin.Flow, browser secret.Secret) {
	prefix := cookieName(p, "txn-")
	var open []string
	for _, c := range r.Cookies() {
		if id, ok := strings.CutPrefix(c.Name, prefix); ok {
			open = append(open, id)
		}
	}
	slices.Sort(open)
	for len(open) >= maxFlows {
		dropCookie(w, p, "txn-"+open[0])
		open = open[1:]
	}
	setCookie(w, p, "txn-"+f.ID, browser.Text, signin.FlowLifetime)
}

// flowCookie reads the cookie of a flow, "" when this browser has none.
func flowCookie(r *http.Request, p *project.Project, id string) string {
	c, err := r.Cookie(cookieName(p, "txn-"+id))
	if err != nil {
		return ""
	}
	return c.Value
}

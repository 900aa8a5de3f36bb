package login

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signin"
)

// FuzzSessionCookie proves that what is read as a session is the text that this
// server wrote, in the cookie of this project; and that however many sign-ins a
// browser has open, it keeps eight of them, the new one among them, in cookies
// that no other host and no script reads.
func FuzzSessionCookie(f *testing.F) {
	p := &project.Project{ID: "project-test-1", Issuer: "https://auth.example.test"}
	name, txn := cookieName(p, "session"), cookieName(p, "txn-")
	good := secret.New(secret.HostedSession, time.Unix(1_800_000_000, 0)).Text
	for _, cookies := range []string{
		name + "=" + good, name + `="` + good + `"`, name + "=" + good + "x", name + "=" + strings.ToUpper(good), name + "=x; " + name + "=" + good, strings.TrimPrefix(name, "__Host-") + "=" + good,
		strings.ToLower(name) + "=" + good, name + " =" + good, name + "= " + good + " ", name, "=" + good,
		strings.Repeat(txn+"a=b; ", 12), txn + "1=a; " + txn + "2=a; " + txn + "3=a; " + txn + "4=a; " + txn + "5=a; " + txn + "6=a; " + txn + "7=a; " + txn + "8=a; " + txn + "9=a; " + txn + "zz=a",
		txn + "\x80=a; " + txn + "=a", "__Host-postern-00000000-txn-1=a",
	} {
		f.Add(cookies)
	}
	f.Fuzz(func(t *testing.T, cookies string) {
		r := httptest.NewRequest(http.MethodGet, "/login", nil)
		r.Header["Cookie"] = []string{cookies}
		plain := strings.NewReplacer(" ", "", "\t", "", `"`, "").Replace(cookies) // net/http takes these off, as browsers do
		if s, ok := readSession(r, p); ok && !strings.Contains(";"+plain+";", ";"+name+"="+s.Text+";") {
			t.Fatalf("%q is read as the session %q", cookies, s.Text)
		}
		open := map[string]bool{}
		for _, c := range r.Cookies() {
			if strings.HasPrefix(c.Name, txn) {
				open[c.Name] = true
			}
		}
		w := httptest.NewRecorder()
		setFlowCookie(w, r, p, signin.Flow{ID: "new"}, secret.Secret{Text: "browser"})
		for _, line := range w.Header().Values("Set-Cookie") {
			c, err := http.ParseSetCookie(line)
			if err != nil || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || c.SameSite != http.SameSiteLaxMode || !strings.HasPrefix(c.Name, txn) {
				t.Fatalf("%q is answered with %q, %v", cookies, line, err)
			}
			if open[c.Name] = true; c.MaxAge < 0 {
				delete(open, c.Name)
			}
		}
		if len(open) > maxFlows || !open[txn+"new"] {
			t.Fatalf("%q leaves %d sign-ins open: %q", cookies, len(open), w.Header().Values("Set-Cookie"))
		}
	})
}

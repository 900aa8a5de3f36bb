package websession

import (
	"encoding/base64"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
)

// Whatever returnPath lets through stays on this host.
func FuzzReturnPath(f *testing.F) {
	for _, seed := range []string{"/", "/a?b=//c", "//evil", "/\\evil", "/\t/evil", "https://evil", "/%2f/evil", "/.//evil", "/..//evil"} {
		f.Add(seed)
	}
	base, err := url.Parse("https://todo.example.com/login")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target string) {
		got := returnPath(target)
		if got != "/" && got != target {
			t.Errorf("%q became %q", target, got)
		}
		// As a browser reads it: without tabs and newlines, \ as /.
		seen := strings.NewReplacer("\t", "", "\n", "", "\r", "", "\\", "/").Replace(got)
		u, err := base.Parse(seen)
		if err != nil || u.Host != base.Host || u.Scheme != base.Scheme {
			t.Errorf("%q leads to %v", target, u)
		}
	})
}

// FuzzFlowCookie proves that a sign-in goes on only with the state that this
// browser began it with, and comes back to a path of this host; and that however
// many cookies a browser has, those of sign-ins stay few.
func FuzzFlowCookie(f *testing.F) {
	s := &Sessions{config: Config{CookieName: "todo_session"}, prefix: "__Host-", secure: true}
	path := func(p string) string { return base64.RawURLEncoding.EncodeToString([]byte(p)) }
	name := s.prefix + s.flowCookie("state")
	for _, cookies := range []string{
		name + "=state." + path("/todos?a=b"), name + "=state." + path("//evil.test"), name + "=state." + path("/\\evil.test"), name + "=state", name + "=.",
		name + "=other." + path("/"), name + "=x; " + name + "=state." + path("/"), name + `="state.` + path("/") + `"`, strings.Repeat(s.prefix+s.flowCookie("x")+"=y; ", 9),
		strings.Repeat(s.prefix+"todo_session_login_=y; ", 20) + s.prefix + "todo_session_login_\x80=", "todo_session_login_1=2",
	} {
		f.Add(cookies, "state")
		f.Add(cookies, "")
	}
	f.Fuzz(func(t *testing.T, cookies, state string) {
		r := httptest.NewRequest(http.MethodGet, "/callback", nil)
		r.Header["Cookie"] = []string{cookies}
		if back, ok := s.flow(r, state); ok {
			if state == "" || !strings.Contains(cookies, s.prefix+s.flowCookie(state)+"=") || !strings.Contains(cookies, state) {
				t.Fatalf("%q is taken for a sign-in with the state %q", cookies, state)
			}
			if back != returnPath(back) {
				t.Fatalf("%q leads to %q", cookies, back)
			}
		}
		sent, open := map[string]bool{}, map[string]bool{}
		for _, c := range r.Cookies() {
			sent[c.Name], open[c.Name] = true, true
		}
		w := httptest.NewRecorder()
		s.dropOldFlows(w, r)
		for _, line := range w.Header().Values("Set-Cookie") {
			c, err := http.ParseSetCookie(line)
			if err != nil || c.MaxAge >= 0 || !c.Secure || !c.HttpOnly || c.Path != "/" || c.Domain != "" || !sent[c.Name] {
				t.Fatalf("%q is answered with %q, %v", cookies, line, err)
			}
			delete(open, c.Name)
		}
		flows := 0
		for name := range open {
			if strings.HasPrefix(name, s.prefix+"todo_session_login_") {
				flows++
			}
		}
		if flows >= maxFlows {
			t.Fatalf("%d sign-ins stay open beside a new one: %q", flows, cookies)
		}
	})
}

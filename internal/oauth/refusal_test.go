package oauth_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

// A stranger can have as much refused as they like, and fills no table with it.
func TestRefusalsAreBounded(t *testing.T) {
	r := newRig(t)
	kept := &counting{Store: r.store}
	server := r.serve(kept)
	from := func(address string) {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.RemoteAddr = address
		_, err := server.Begin(server.WithAddress(req), r.project, oauth.AuthorizeRequest{ClientID: "connected-app-test-none"}, false)
		var refusal *oauth.Error
		if !errors.As(err, &refusal) {
			t.Fatalf("refused with %v", err)
		}
	}
	many := func(n int, address string) int {
		before := kept.events
		for range n {
			from(address)
		}
		return kept.events - before
	}
	if n := many(30, "192.0.2.7"); n != 20 {
		t.Errorf("%d events of one address, want 20", n)
	}
	if n := many(15, "2001:db8::1") + many(15, "2001:db8::2"); n != 20 {
		t.Errorf("%d events of one network, want 20", n)
	}
	if n := many(300, "127.0.0.1"); n != 300 {
		t.Errorf("%d events of this computer, want all", n)
	}
	total := 0
	for i := range 20 {
		total += many(20, "198.51.100."+string(rune('a'+i)))
	}
	if total != 160 {
		t.Errorf("%d more events of one project, want 160", total)
	}
	r.clock.Advance(time.Minute)
	if n := many(30, "192.0.2.7"); n != 20 {
		t.Errorf("%d events a minute later, want 20", n)
	}
}

// The same holds of whatever a stranger can send: of each address 20 a minute are
// kept, of a project and of the deployment 200, without the secrets that were in
// them. Row: D17.
func TestNobodyFillsTheTrail(t *testing.T) {
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		c.Proxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
		w := newWorld(t, c)
		dead, key, code := w.tokens(t, w.public), w.keys[w.basic.ID], w.code(t, request(w.public.ID))
		w.Clock.Advance(time.Hour)
		canaries := []string{dead.Access, dead.Refresh, key, code}
		attack := func(from string, i int) {
			canary := canaries[i%len(canaries)]
			post := func(path string, body url.Values, header ...string) {
				h := isForm.Clone()
				h.Set("X-Forwarded-For", from)
				for i := 0; i < len(header); i += 2 {
					h.Set(header[i], header[i+1])
				}
				if a := w.send(t, http.MethodPost, path, h, body.Encode()); a.code < 400 || a.code > 499 {
					t.Fatalf("%s: %d %s", path, a.code, a.body)
				}
			}
			public := url.Values{"client_id": {w.public.ID}}
			switch i / len(canaries) % 9 {
			case 0:
				post(oauth.PathToken, with(public, "grant_type", canary))
			case 1:
				post(oauth.PathToken, with(public, "grant_type", "refresh_token", "scope", canary+`"`))
			case 2:
				post(oauth.PathToken+"?code="+canary, public)
			case 3:
				post(oauth.PathToken, url.Values{"client_id": {canary, "x"}}, "Authorization", basicAuth(canary, canary))
			case 4:
				post(oauth.PathIntrospect, url.Values{"client_secret": {canary}}, "Authorization", basicAuth(canary, canary))
			case 5:
				post(oauth.PathRevoke, url.Values{"token": {canary}})
			case 6:
				post(oauth.PathUserinfo, nil, "Authorization", "Bearer "+canary)
			case 7:
				post("/connected-apps", url.Values{"csrf": {canary}}, "Origin", "https://evil.example.test")
			case 8:
				post("/dashboard/sign-in", url.Values{"password": {canary}}, "Origin", "https://evil.example.test")
			}
		}
		kept := func(from string) (ofProject, ofDeployment int) {
			counts := map[string]int{}
			for _, id := range []string{w.Project.ID, ""} {
				events, err := w.Store.EventsAfter(t.Context(), id, w.Clock.Now(), "", 10_000)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range events {
					text := fmt.Sprintf("%+v", e)
					for _, canary := range canaries {
						if strings.Contains(text, canary[len(canary)-40:]) {
							t.Errorf("an event holds a secret: %s", text)
						}
					}
					if !e.Refused || e.Reason == "" || e.TraceID == "" || e.Address == "" {
						t.Errorf("an event says too little: %s", text)
					}
					if from == "" || e.Address == from {
						counts[id]++
					}
				}
			}
			return counts[w.Project.ID], counts[""]
		}
		for i := range 200 {
			attack("198.51.100.1", i)
		}
		for i := range 40 { // the dashboard's
			attack("198.51.100.1", 8*len(canaries)+i%len(canaries))
		}
		if project, deployment := kept("198.51.100.1"); project != 20 || deployment != 20 {
			t.Errorf("of 240 refusals of one address %d and %d events, want 20 and 20", project, deployment)
		}
		for from := range 12 {
			for i := range 36 {
				attack(fmt.Sprintf("198.51.100.%d", from+2), i)
			}
		}
		if project, deployment := kept(""); project != 200 || deployment > 200 {
			t.Errorf("%d events of the project and %d of the deployment, want 200 and no more", project, deployment)
		}
		w.Clock.Advance(time.Minute)
		attack("198.51.100.1", 0)
		if project, _ := kept(""); project != 1 {
			t.Errorf("%d events a minute later, want 1", project)
		}
	})
}

// counting counts the refusals that are kept.
type counting struct {
	oauth.Store
	events int
}

func (c *counting) RefuseAttempt(ctx context.Context, a audit.Attempt, e audit.Event, limits []oauth.Counter) error {
	err := c.Store.RefuseAttempt(ctx, a, e, limits)
	if err == nil && e.Refused {
		c.events++
	}
	return err
}

// What prompt=none forbids to ask is in the trail like every other refusal.
func TestPromptNoneIsRecorded(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		none := request(w.rival.ID, "prompt", "none")
		w.refuses(t, audit.AuthorizeRefused, func() {
			w.refusedAnswer(t, w.Browser(t).Authorize(t, none), callback, "login_required")
		})
		w.refuses(t, audit.AuthorizeRefused, func() {
			w.refusedAnswer(t, w.browser.Authorize(t, none), callback, "consent_required")
		})
		got := w.count(t, `SELECT reason || CASE WHEN subject = '' THEN '' ELSE ' by somebody' END, count(*) FROM event
			WHERE project_id = $1 AND kind = 'authorize.refused' GROUP BY 1`)
		if want := map[string]int{"login_required": 1, "consent_required by somebody": 1}; !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// A registration that is refused is in the trail, with what was wrong.
func TestRefusedRegistrationIsRecorded(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		register := func(body string, status int) {
			t.Helper()
			w.refuses(t, audit.RegisterRefused, func() {
				a := w.send(t, http.MethodPost, "/v1/oauth2/register", http.Header{"Content-Type": {"application/json"}}, body)
				if a.code != status {
					t.Errorf("%d %s", a.code, a.body)
				}
			})
		}
		register(`{"redirect_uris":["javascript:alert(1)"]}`, http.StatusBadRequest)
		_, err := w.Projects.Change(t.Context(), w.Project.ID, func(p *project.Project) error {
			p.Settings.DynamicRegistration = false
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		w.Follow(t)
		register(`{"redirect_uris":["https://client.example.test/callback"]}`, http.StatusNotFound)
		got := w.count(t, `SELECT reason, count(*) FROM event WHERE project_id = $1 AND kind = 'client.registration_refused' GROUP BY 1`)
		if want := map[string]int{"invalid_redirect_uri": 1, "registration_disabled": 1}; !maps.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// An id_token_hint says whom the request is about: nobody else gets an answer. It
// is in no table, while the person signs in. Row: D11.
//
// Proves: OIDC-3.1.2.1-b, OIDC-3.1.2.2-a
func TestIDTokenHint(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.Ready(t) // id_tokens are RS256
		id := w.public.ID
		hint := w.tokens(t, w.public, "scope", "openid read:todos").ID
		if hint == "" {
			t.Fatal("no id_token")
		}
		about := func(changes ...string) url.Values {
			return request(id, append([]string{"scope", "openid read:todos", "id_token_hint", hint}, changes...)...)
		}
		answered := func(t *testing.T, page servertest.Page) {
			t.Helper()
			to := page.Answer(t)
			w.carries(t, to, callback, "code", to.Query().Get("code"))
		}
		silent := func(t *testing.T) { answered(t, w.browser.Authorize(t, about("prompt", "none"))) }
		t.Run("the same person", silent)
		t.Run("long expired", func(t *testing.T) {
			w.Clock.Advance(time.Hour)
			silent(t)
		})
		other := w.signedIn(t, "grace@example.test")
		t.Run("somebody else, prompt none", func(t *testing.T) {
			w.refuses(t, audit.AuthorizeRefused, func() {
				w.refusedAnswer(t, other.Authorize(t, about("prompt", "none")), callback, "login_required")
			})
		})
		t.Run("nobody, prompt none", func(t *testing.T) {
			w.refuses(t, audit.AuthorizeRefused, func() {
				w.refusedAnswer(t, w.Browser(t).Authorize(t, about("prompt", "none")), callback, "login_required")
			})
		})
		t.Run("somebody else is asked who is there, and Ida gets on", func(t *testing.T) {
			w.Clock.Advance(2 * time.Minute)
			page := other.Authorize(t, about())
			w.Clock.Advance(2 * time.Minute)
			answered(t, other.SignIn(t, page, ida))
		})
		t.Run("who signs in as somebody else is refused", func(t *testing.T) {
			b := w.Browser(t)
			page := b.Authorize(t, about())
			w.Clock.Advance(2 * time.Minute)
			before := w.kept(t)["code"]
			page = b.SignIn(t, page, "grace@example.test")
			refusedPage(t, page, "Somebody else is signed in", "Tell <bdi>Public</bdi>")
			if n := w.kept(t)["code"]; n != before {
				t.Errorf("%d codes were made", n-before)
			}
		})
		t.Run("another client's id_token", func(t *testing.T) {
			w.refuses(t, audit.AuthorizeRefused, func() {
				w.refusedAnswer(t, w.browser.Authorize(t, request(w.rival.ID, "id_token_hint", hint)), callback, "invalid_request")
			})
		})
		t.Run("an access token", func(t *testing.T) {
			access := w.tokens(t, w.public).Access
			w.refuses(t, audit.AuthorizeRefused, func() {
				w.refusedAnswer(t, w.browser.Authorize(t, about("id_token_hint", access)), callback, "invalid_request")
			})
		})
	})
}

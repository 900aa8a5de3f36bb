package oauth_test

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

// A refresh token works once. A repeat within the window, as clients that
// refresh in parallel send it, gets the same answer; any other is a theft and
// ends everything of that authorization.
//
// Proves: MCP-AS-47, RFC9700-2.2.2-a, RFC9700-4.14.2-a, RFC9700-4.14.2-b, RFC6749-10.4-a
func TestRefreshRotates(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		again := func(t *testing.T, i issued) answer { t.Helper(); return w.token(t, w.public, refresh(i.Refresh)) }
		theft := func(t *testing.T, stolen issued, alive ...issued) {
			t.Helper()
			w.refuses(t, audit.RefreshReused, func() { refusedToken(t, again(t, stolen), http.StatusBadRequest, "invalid_grant") })
			for _, i := range alive {
				if w.active(t, i.Access) || w.active(t, i.Refresh) {
					t.Error("a token of the family lives")
				}
				w.refuses(t, audit.TokenRefused, func() { refusedToken(t, again(t, i), http.StatusBadRequest, "invalid_grant") })
			}
		}
		t.Run("each use gives a new pair, and the old refresh token is over", func(t *testing.T) {
			first := w.tokens(t, w.public)
			second := got(t, again(t, first))
			if second.Refresh == first.Refresh || second.Access == first.Access || second.Scope != first.Scope || second.Type != "Bearer" {
				t.Errorf("got %+v", second)
			}
			if w.active(t, first.Refresh) || !w.active(t, second.Refresh) || !w.active(t, first.Access) {
				t.Error("the wrong tokens live")
			}
			got(t, again(t, second))
		})
		t.Run("R01 used again after the window", func(t *testing.T) {
			first := w.tokens(t, w.public)
			second := got(t, again(t, first))
			w.Clock.Advance(120 * time.Second)
			theft(t, first, second)
		})
		t.Run("R01 a theft ends its own authorization and no other", func(t *testing.T) {
			other, first := w.tokens(t, w.public), w.tokens(t, w.public)
			second := got(t, again(t, first))
			w.Clock.Advance(time.Hour)
			theft(t, first, second)
			got(t, again(t, other))
		})
		t.Run("R02 used again within the window, its successor unused", func(t *testing.T) {
			first := w.tokens(t, w.public)
			a := again(t, first)
			for range 3 {
				w.Clock.Advance(39 * time.Second)
				before := w.events(t)["token.refreshed"]
				b := again(t, first)
				if b.code != http.StatusOK || b.body != a.body {
					t.Fatalf("got %d and another answer", b.code)
				}
				if n := w.events(t)["token.refreshed"]; n != before {
					t.Errorf("%d rotations", n-before)
				}
			}
			got(t, again(t, got(t, a)))
		})
		t.Run("R03 used again within the window, its successor used", func(t *testing.T) {
			first := w.tokens(t, w.public)
			second := got(t, again(t, first))
			third := got(t, again(t, second))
			theft(t, first, second, third)
		})
		t.Run("R06 three rotations in one moment, then the oldest", func(t *testing.T) {
			first := w.tokens(t, w.public)
			second := got(t, again(t, first))
			third := got(t, again(t, second))
			fourth := got(t, again(t, third))
			theft(t, first, fourth)
		})
		t.Run("R08 by another client: nothing happens to it", func(t *testing.T) {
			first := w.tokens(t, w.public)
			for _, c := range []oauth.Client{w.rival, w.basic} {
				w.refuses(t, audit.TokenRefused, func() {
					refusedToken(t, w.token(t, c, refresh(first.Refresh)), http.StatusBadRequest, "invalid_grant")
				})
			}
			got(t, again(t, first))
		})
		t.Run("R20 on a node whose clock is behind there is no false alarm", func(t *testing.T) {
			first := w.tokens(t, w.public)
			a := again(t, first)
			w.Clock.Advance(-time.Hour)
			b := again(t, first)
			w.Clock.Advance(time.Hour)
			if b.code != http.StatusOK || b.body != a.body {
				t.Errorf("got %d %s", b.code, b.body)
			}
			got(t, again(t, got(t, a)))
		})
	})
}

// Row: R02 with the window off.
func TestRefreshWithoutWindow(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		first := w.tokens(t, w.public)
		second := got(t, w.token(t, w.public, refresh(first.Refresh)))
		w.refuses(t, audit.RefreshReused, func() {
			refusedToken(t, w.token(t, w.public, refresh(first.Refresh)), http.StatusBadRequest, "invalid_grant")
		})
		if w.active(t, second.Access) {
			t.Error("the successor lives")
		}
	}, func(s *project.Settings) { s.Lifetimes.ReplayWindow = 0 })
}

// What is wrong with a request does not rotate the token.
//
// Proves: MCP-AS-46, MCP-AS-47, RFC6749-6-a, RFC6749-6-b, RFC6749-6-c, RFC8707-2.2-a, RFC6749-10.10-a
func TestRefreshRefused(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		rows := []struct {
			name   string
			attack func(i issued) url.Values
			code   string
		}{
			{"R09 a scope that was not allowed", func(i issued) url.Values { return refresh(i.Refresh, "scope", "read:todos delete:todos") }, "invalid_scope"},
			{"R09 a scope nobody knows", func(i issued) url.Values { return refresh(i.Refresh, "scope", "admin") }, "invalid_scope"},
			{"R10 another resource", func(i issued) url.Values { return refresh(i.Refresh, "resource", notes) }, "invalid_target"},
			{"R10 two resources", func(i issued) url.Values { return with2(refresh(i.Refresh, "resource", todo), "resource", notes) }, "invalid_target"},
			{"R14 one character less", func(i issued) url.Values { return refresh(i.Refresh[:len(i.Refresh)-1]) }, "invalid_grant"},
			{"R14 ten characters less", func(i issued) url.Values { return refresh(i.Refresh[:len(i.Refresh)-10]) }, "invalid_grant"},
			{"R14 the prefix alone", func(issued) url.Values { return refresh("pst_rt_") }, "invalid_grant"},
			{"R14 one character more", func(i issued) url.Values { return refresh(i.Refresh + "0") }, "invalid_grant"},
			{"R14 other letter case", func(i issued) url.Values { return refresh(swapCase(i.Refresh)) }, "invalid_grant"},
			{"R14 a blank before it", func(i issued) url.Values { return refresh(" " + i.Refresh) }, "invalid_grant"},
			{"R14 a line end behind it", func(i issued) url.Values { return refresh(i.Refresh + "\r\n") }, "invalid_grant"},
			{"R14 the right id with another secret", func(i issued) url.Values {
				return refresh(forge(t, "rt", i.Refresh, secret.New(secret.RefreshToken, w.Clock.Now()).Text))
			}, "invalid_grant"},
			{"R14 a token that never was", func(issued) url.Values {
				return refresh(secret.New(secret.RefreshToken, w.Clock.Now()).Text)
			}, "invalid_grant"},
			{"R15 an access token", func(i issued) url.Values { return refresh(i.Access) }, "invalid_grant"},
			{"R15 a code", func(issued) url.Values { return refresh(w.code(t, request(w.public.ID))) }, "invalid_grant"},
			{"R15 a refresh token as a code", func(i issued) url.Values { return redeem(i.Refresh) }, "invalid_grant"},
			{"no token", func(issued) url.Values { return refresh("") }, "invalid_grant"},
		}
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				i := w.tokens(t, w.public)
				form := row.attack(i)
				w.refuses(t, audit.TokenRefused, func() { refusedToken(t, w.token(t, w.public, form), http.StatusBadRequest, row.code) })
				got(t, w.token(t, w.public, refresh(i.Refresh)))
			})
		}
		t.Run("R09 narrower: the access token is narrow, the next one has everything again", func(t *testing.T) {
			i := got(t, w.token(t, w.public, refresh(w.tokens(t, w.public).Refresh, "scope", "read:todos")))
			if i.Scope != "read:todos" || claimsOf(t, i.Access)["scope"] != "read:todos" {
				t.Errorf("got %+v", i)
			}
			if i = got(t, w.token(t, w.public, refresh(i.Refresh))); i.Scope != "read:todos write:todos" {
				t.Errorf("got %+v", i)
			}
		})
		t.Run("R10 the resource itself, with and without a slash", func(t *testing.T) {
			i := got(t, w.token(t, w.public, refresh(w.tokens(t, w.public).Refresh, "resource", todo)))
			i = got(t, w.token(t, w.public, refresh(i.Refresh, "resource", todo+"/")))
			if claimsOf(t, i.Access)["aud"] != todo {
				t.Errorf("got %v", claimsOf(t, i.Access))
			}
		})
		t.Run("R15 a refresh token is no access token", func(t *testing.T) {
			i := w.tokens(t, w.public)
			a := w.send(t, http.MethodGet, oauth.PathUserinfo, http.Header{"Authorization": {"Bearer " + i.Refresh}}, "")
			if a.code != http.StatusUnauthorized || a.json()["error"] != "invalid_token" {
				t.Errorf("got %d %s", a.code, a.body)
			}
		})
		t.Run("R16 in the address it is refused, and the log does not have it", func(t *testing.T) {
			i := w.tokens(t, w.public)
			w.refuses(t, audit.RequestRefused, func() {
				query := "?" + refresh(i.Refresh, "client_id", w.public.ID).Encode()
				refusedToken(t, w.send(t, http.MethodPost, oauth.PathToken+query, isForm, ""), http.StatusBadRequest, "invalid_request")
			})
			if strings.Contains(w.Log.String(), i.Refresh) {
				t.Error("the log has the token")
			}
			got(t, w.token(t, w.public, refresh(i.Refresh)))
		})
		t.Run("R19 a confidential client without its secret", func(t *testing.T) {
			i := w.tokens(t, w.basic)
			w.refuses(t, audit.ClientRefused, func() {
				form := refresh(i.Refresh, "client_id", w.basic.ID).Encode()
				refusedToken(t, w.send(t, http.MethodPost, oauth.PathToken, isForm, form), http.StatusUnauthorized, "invalid_client")
			})
			got(t, w.token(t, w.basic, refresh(i.Refresh)))
		})
	})
}

func swapCase(text string) string {
	prefix, digits := text[:len("pst_rt_")], text[len("pst_rt_"):]
	return prefix + strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z':
			return c - 'A' + 'a'
		}
		return c
	}, digits)
}

// Row: R12, R13. Refresh tokens end, used or not.
//
// Proves: RFC9700-4.14.2-c, MCP-AS-47
func TestRefreshEnds(t *testing.T) {
	const day = 24 * time.Hour
	eachWorld(t, func(t *testing.T, w *world) {
		next := func(t *testing.T, i issued) issued {
			t.Helper()
			return got(t, w.token(t, w.public, refresh(i.Refresh)))
		}
		back := func(t *testing.T) { // the session has ended as well
			t.Helper()
			w.browser = w.signedIn(t, rand.Text()+"@example.test")
		}
		over := func(t *testing.T, i issued) {
			t.Helper()
			back(t)
			w.refuses(t, audit.TokenRefused, func() {
				refusedToken(t, w.token(t, w.public, refresh(i.Refresh)), http.StatusBadRequest, "invalid_grant")
			})
		}
		t.Run("R13 in the last second", func(t *testing.T) {
			i := w.tokens(t, w.public)
			w.Clock.Advance(14*day - time.Second)
			next(t, i)
		})
		t.Run("R12 not used for 14 days", func(t *testing.T) {
			back(t)
			i := w.tokens(t, w.public)
			w.Clock.Advance(14 * day)
			over(t, i)
		})
		t.Run("R12 used every 13 days: over after 90", func(t *testing.T) {
			back(t)
			i, at := w.tokens(t, w.public), time.Duration(0)
			for ; at+13*day < 90*day; at += 13 * day {
				w.Clock.Advance(13 * day)
				i = next(t, i)
			}
			w.Clock.Advance(90*day - at - time.Second)
			i = next(t, i)
			w.Clock.Advance(time.Second)
			over(t, i)
		})
		t.Run("R13 the answer is kept although the old token ran out meanwhile", func(t *testing.T) {
			back(t)
			i := w.tokens(t, w.public)
			w.Clock.Advance(14*day - time.Second)
			first := w.token(t, w.public, refresh(i.Refresh))
			w.Clock.Advance(time.Minute)
			if again := w.token(t, w.public, refresh(i.Refresh)); again.code != http.StatusOK || again.body != first.body {
				t.Errorf("got %d %s", again.code, again.body)
			}
		})
	})
}

// Row: R04. However many at once: one rotation, one answer.
//
// Proves: MCP-AS-47
func TestRefreshRace(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		first := w.tokens(t, w.public)
		race := func(token string) answer {
			t.Helper()
			form := refresh(token, "client_id", w.public.ID).Encode()
			events := w.events(t)["token.refreshed"]
			answers := w.together(t, 100, func(int) (answer, error) { return w.try(t, http.MethodPost, oauth.PathToken, isForm, form) })
			for _, a := range answers {
				if a.code != http.StatusOK || a.body != answers[0].body {
					t.Fatalf("got %d %.80s, and %.80s", a.code, a.body, answers[0].body)
				}
			}
			if n := w.events(t)["token.refreshed"] - events; n != 1 {
				t.Errorf("%d events of a rotation", n)
			}
			return answers[0]
		}
		second := got(t, race(first.Refresh))
		third := got(t, race(second.Refresh))
		if !w.active(t, third.Access) || !w.active(t, third.Refresh) {
			t.Error("the winner's tokens are dead")
		}
		if n := w.events(t)["token.refresh_reused"]; n != 0 {
			t.Errorf("%d false alarms", n)
		}
	})
}

// Row: R07. Whoever wins: after a revocation was answered nothing of the
// family lives.
func TestRefreshRacesRevocation(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for range 5 {
			first := w.tokens(t, w.public)
			refreshing := refresh(first.Refresh, "client_id", w.public.ID).Encode()
			revoking := url.Values{"token": {first.Refresh}, "client_id": {w.public.ID}}.Encode()
			given := []string{first.Access, first.Refresh}
			for i, a := range w.together(t, 20, func(i int) (answer, error) {
				if i == 7 {
					return w.try(t, http.MethodPost, oauth.PathRevoke, isForm, revoking)
				}
				return w.try(t, http.MethodPost, oauth.PathToken, isForm, refreshing)
			}) {
				switch {
				case i == 7 && a.code == http.StatusOK:
				case a.code == http.StatusOK:
					given = append(given, got(t, a).Access, got(t, a).Refresh)
				case i == 7 || a.code != http.StatusBadRequest || a.json()["error"] != "invalid_grant":
					t.Errorf("got %d %s", a.code, a.body)
				}
			}
			for _, token := range given {
				if w.active(t, token) {
					t.Fatal("a token lives after the revocation")
				}
			}
		}
	})
}

// Row: R05, R18. What happened is in the database: another process, started
// after a crash, answers the same.
//
// Proves: MCP-AS-47
func TestRefreshAfterRestart(t *testing.T) { eachRig(t, refreshAfterRestart) }

func refreshAfterRestart(t *testing.T, newRig rigMaker) {
	r := newRig(t)
	client, _ := r.client("none")
	send := func(on *rig, i issued) answer {
		return on.post(on.server.Token, "", "", refresh(i.Refresh, "client_id", client.ID))
	}
	first := issued{Refresh: r.authorize(client, "", rigNotes, "read:notes").Refresh}
	lost := send(r, first) // committed, and the answer never arrived
	restarted := r.on(r.store)
	again := send(restarted, first)
	if again.code != http.StatusOK || again.body != lost.body {
		t.Fatalf("R18 got %d %s", again.code, again.body)
	}
	second := got(t, again)
	got(t, send(restarted, second))
	restarted = restarted.on(r.store)
	send(restarted, first).refused(http.StatusBadRequest, "invalid_grant") // R05
	send(restarted, second).refused(http.StatusBadRequest, "invalid_grant")
}

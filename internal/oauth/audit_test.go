package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

// Each kind of decision leaves an event that says who, about whom, with which
// client, from where, in which request and with what outcome. Row: D17.
func TestTrail(t *testing.T) {
	const here = "127.0.0.1"
	eachWorld(t, func(t *testing.T, w *world) {
		users, err := w.People.Users(t.Context(), w.Project.ID, ida, "", 1)
		if err != nil || len(users) != 1 {
			t.Fatal(users, err)
		}
		person, client := users[0].ID, w.public.ID
		dashboard := audit.Origin{Actor: "kim@example.test", Address: "192.0.2.9", TraceID: "K7Q-2MX-9RD"}
		for _, one := range []struct {
			name  string
			want  audit.Event // At, ID, TraceID, Object and Attempt are not compared
			cause func(t *testing.T)
		}{
			{"a code is mailed", audit.Event{Kind: audit.CodeSent}, func(t *testing.T) {
				w.Clock.Advance(2 * time.Minute)
				b := w.Browser(t)
				b.Submit(t, b.Get(t, "/login"), "email", url.Values{"email": {ida}})
			}},
			{"a sign-in", audit.Event{Kind: audit.SignedIn, Actor: person, Subject: person}, func(t *testing.T) {
				w.Clock.Advance(2 * time.Minute)
				w.signedIn(t, ida)
			}},
			{"a wrong code", audit.Event{Kind: audit.SignInRefused, Subject: person, Refused: true, Reason: "wrong code"}, func(t *testing.T) {
				w.Clock.Advance(2 * time.Minute)
				b := w.Browser(t)
				page := b.Submit(t, b.Get(t, "/login"), "email", url.Values{"email": {ida}})
				b.Submit(t, page, "code", url.Values{"code": {otherDigit(w.Code(t, ida))}})
			}},
			{"an authorization request that is wrong", audit.Event{Kind: audit.AuthorizeRefused, ClientID: client, Refused: true, Reason: "return address not registered"}, func(t *testing.T) {
				w.Browser(t).Authorize(t, request(client, "redirect_uri", "https://elsewhere.example.test/"))
			}},
			{"consent", audit.Event{Kind: audit.GrantAllowed, Actor: person, Subject: person, ClientID: client}, func(t *testing.T) {
				w.code(t, request(client))
			}},
			{"a no", audit.Event{Kind: audit.GrantDenied, Actor: person, Subject: person, ClientID: w.rival.ID}, func(t *testing.T) {
				w.browser.Submit(t, w.browser.Authorize(t, request(w.rival.ID)), "action", url.Values{"action": {"deny"}})
			}},
			{"tokens", audit.Event{Kind: audit.TokenIssued, Actor: client, Subject: person, ClientID: client}, func(t *testing.T) { w.tokens(t, w.public) }},
			{"a refresh", audit.Event{Kind: audit.TokenRefreshed, Actor: client, Subject: person, ClientID: client}, func(t *testing.T) {
				got(t, w.token(t, w.public, refresh(w.tokens(t, w.public).Refresh)))
			}},
			{"a wrong verifier", audit.Event{Kind: audit.TokenRefused, Actor: client, Subject: person, ClientID: client, Refused: true, Reason: "wrong verifier"}, func(t *testing.T) {
				w.token(t, w.public, redeem(w.code(t, request(client)), "code_verifier", strings.Repeat("x", 43)))
			}},
			{"a code twice", audit.Event{Kind: audit.CodeReused, Actor: client, Subject: person, ClientID: client}, func(t *testing.T) {
				code := w.code(t, request(client))
				got(t, w.token(t, w.public, redeem(code)))
				w.token(t, w.public, redeem(code))
			}},
			{"an old refresh token", audit.Event{Kind: audit.RefreshReused, Actor: client, Subject: person, ClientID: client}, func(t *testing.T) {
				old := w.tokens(t, w.public).Refresh
				got(t, w.token(t, w.public, refresh(old)))
				w.Clock.Advance(time.Hour)
				w.token(t, w.public, refresh(old))
			}},
			{"a token given back", audit.Event{Kind: audit.TokenRevoked, Actor: client, Subject: person, ClientID: client}, func(t *testing.T) {
				form := url.Values{"client_id": {client}, "token": {w.tokens(t, w.public).Refresh}}
				w.send(t, http.MethodPost, oauth.PathRevoke, isForm, form.Encode())
			}},
			{"a wrong client secret", audit.Event{Kind: audit.ClientRefused, ClientID: w.basic.ID, Refused: true, Reason: "wrong secret or method"}, func(t *testing.T) {
				header := isForm.Clone()
				header.Set("Authorization", basicAuth(w.basic.ID, "pst_cs_wrong"))
				w.send(t, http.MethodPost, oauth.PathToken, header, redeem("code").Encode())
			}},
			{"a wrong project secret", audit.Event{Kind: audit.ClientRefused, ClientID: w.Project.ID, Refused: true, Reason: "wrong project secret"}, func(t *testing.T) {
				header := isForm.Clone()
				header.Set("Authorization", basicAuth(w.Project.ID, "wrong"))
				w.send(t, http.MethodPost, oauth.PathIntrospect, header, "token=x")
			}},
			{"a client that registers itself", audit.Event{Kind: audit.ClientRegistered, Actor: "self", ClientID: "self"}, func(t *testing.T) { w.self(t, callback) }},
			{"signing out", audit.Event{Kind: audit.SignedOut, Actor: person, Subject: person}, func(t *testing.T) {
				w.Clock.Advance(2 * time.Minute)
				b := w.signedIn(t, ida)
				b.Submit(t, b.Get(t, "/sign-out"), "action", url.Values{"action": {"sign_out"}})
			}},
			{"a client from the dashboard", audit.Event{Kind: audit.ClientDeleted, Actor: dashboard.Actor, ClientID: w.post.ID, Address: dashboard.Address}, func(t *testing.T) {
				if err := w.Clients.By(dashboard).DeleteClient(t.Context(), w.Project, w.post.ID); err != nil {
					t.Fatal(err)
				}
			}},
			{"a setting from the dashboard", audit.Event{Kind: audit.ProjectChanged, Actor: dashboard.Actor, Address: dashboard.Address}, func(t *testing.T) {
				if _, err := w.Projects.By(dashboard).Change(t.Context(), w.Project.ID, func(p *project.Project) error { p.Name = "Other"; return nil }); err != nil {
					t.Fatal(err)
				}
			}},
			{"a user from the dashboard", audit.Event{Kind: audit.UserRevoked, Actor: dashboard.Actor, Subject: person, Address: dashboard.Address}, func(t *testing.T) {
				e := dashboard.Event(w.Project.ID, w.Clock.Now(), audit.UserRevoked, person)
				e.Subject = person
				if _, err := w.People.Revoke(t.Context(), w.Project.ID, person, e); err != nil {
					t.Fatal(err)
				}
			}},
		} {
			t.Run(one.name, func(t *testing.T) {
				w.Clock.Advance(time.Second)
				q := audit.Query{ProjectID: w.Project.ID, Kinds: []audit.Kind{one.want.Kind}, Since: w.Clock.Now(), Limit: 10}
				one.cause(t)
				page, err := w.Store.Events(t.Context(), q)
				if err != nil || len(page.Events) != 1 {
					t.Fatalf("%d events, %v", len(page.Events), err)
				}
				e := page.Events[0]
				want := one.want
				if want.ProjectID = w.Project.ID; want.Address == "" {
					want.Address = here
				}
				if want.ClientID == "self" {
					want.ClientID, want.Actor = e.Object, e.Object
				}
				if e.TraceID == "" || e.Object == "" && !e.Refused && e.Kind != audit.GrantDenied {
					t.Errorf("no trace or no object: %+v", e)
				}
				want.ID, want.At, want.Object, want.TraceID, want.Attempt = e.ID, e.At, e.Object, e.TraceID, e.Attempt
				if e != want {
					t.Errorf("%+v\nwant %+v", e, want)
				}
			})
		}
	})
}

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
		machine := func(path, query string, header http.Header, body string) func(t *testing.T) {
			return func(t *testing.T) {
				h := isForm.Clone()
				for name, values := range header {
					h[name] = values
				}
				if a := w.send(t, http.MethodPost, path+query, h, body); a.code < 400 || a.code > 499 {
					t.Errorf("%d %s", a.code, a.body)
				}
			}
		}
		basic := http.Header{"Authorization": {basicAuth(w.basic.ID, w.keys[w.basic.ID])}}
		single := w.without(t, w.public, "refresh_token")
		refused := func(kind audit.Kind, clientID, object, reason string) audit.Event {
			return audit.Event{Kind: kind, ClientID: clientID, Object: object, Refused: true, Reason: reason}
		}
		ofToken := func(reason string) audit.Event {
			e := refused(audit.TokenRefused, client, "", reason)
			e.Actor = client
			return e
		}
		ofPerson := func(e audit.Event) audit.Event { e.Subject = person; return e }
		userinfo := func(token func(t *testing.T) string) func(t *testing.T) {
			return func(t *testing.T) {
				machine(oauth.PathUserinfo, "", http.Header{"Authorization": {"Bearer " + token(t)}}, "")(t)
			}
		}
		w.Clock.Advance(2 * time.Minute)
		w.signedIn(t, "mia@example.test")
		mia, err := w.People.Users(t.Context(), w.Project.ID, "mia@example.test", "", 1)
		if err != nil || len(mia) != 1 {
			t.Fatal(mia, err)
		}
		dashboard := audit.Origin{Actor: "kim@example.test", Address: "192.0.2.9", TraceID: "K7Q-2MX-9RD"}
		for _, one := range []struct {
			name  string
			want  audit.Event // At, ID, TraceID and Attempt are not compared, nor Object where it is not wanted
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
			{"no grant type", ofToken("no grant type"), machine(oauth.PathToken, "", nil, "client_id="+client)},
			{"a grant type that there is not", ofToken("unknown grant type"), machine(oauth.PathToken, "", nil, "grant_type=password&client_id="+client)},
			{"a scope of a wrong form", ofToken("scope of a wrong form"), machine(oauth.PathToken, "", nil, "grant_type=refresh_token&scope=%22&client_id="+client)},
			{"a grant type that is not the client's", audit.Event{Kind: audit.TokenRefused, Actor: single.ID, ClientID: single.ID, Refused: true, Reason: "grant type not registered"}, machine(oauth.PathToken, "", nil, refresh("x", "client_id", single.ID).Encode())},
			{"no code", ofToken("malformed code"), machine(oauth.PathToken, "", nil, "grant_type=authorization_code&client_id="+client)},
			{"more scopes", ofPerson(ofToken("asked for more scopes")), func(t *testing.T) {
				w.token(t, w.public, refresh(w.tokens(t, w.public).Refresh, "scope", "delete:todos"))
			}},
			{"another resource", ofPerson(ofToken("asked for another resource")), func(t *testing.T) {
				w.token(t, w.public, refresh(w.tokens(t, w.public).Refresh, "resource", "not an address"))
			}},
			{"nobody", refused(audit.ClientRefused, "", "", "client authentication cannot be read"), machine(oauth.PathToken, "", nil, "grant_type=refresh_token")},
			{"two ways to authenticate", refused(audit.ClientRefused, w.basic.ID, "", "client authentication cannot be read"), machine(oauth.PathToken, "", basic, "client_secret=x")},
			{"introspection by nobody", refused(audit.ClientRefused, "", "", "client authentication cannot be read"), machine(oauth.PathIntrospect, "", nil, "token=x")},
			{"a parameter twice", refused(audit.RequestRefused, w.basic.ID, "token", "request cannot be read"), machine(oauth.PathToken, "", basic, "code=a&code=b")},
			{"a secret in the address", refused(audit.RequestRefused, "", "token", "request cannot be read"), machine(oauth.PathToken, "?client_secret=pst_cs_x", nil, "")},
			{"a text", refused(audit.RequestRefused, "", "introspection", "request has another content type"), machine(oauth.PathIntrospect, "", http.Header{"Content-Type": {"text/plain"}}, "x")},
			{"a long one", refused(audit.RequestRefused, "", "revocation", "request is too long"), machine(oauth.PathRevoke, "", nil, "x="+strings.Repeat("x", 40<<10))},
			{"no token to give back", refused(audit.RequestRefused, client, "revocation", "no token"), machine(oauth.PathRevoke, "", nil, "client_id="+client)},
			{"no token to ask about", refused(audit.RequestRefused, w.basic.ID, "introspection", "no token"), machine(oauth.PathIntrospect, "", basic, "")},
			{"userinfo with a foreign token", refused(audit.UserinfoRefused, "", "", "access token is none of ours"), userinfo(func(*testing.T) string { return "eyJhbGciOiJFUzI1NiJ9.e30.c2ln" })},
			{"userinfo without openid", ofPerson(refused(audit.UserinfoRefused, client, "", "access token without openid")), userinfo(func(t *testing.T) string { return w.tokens(t, w.public).Access })},
			{"userinfo with a token that ran out", ofPerson(refused(audit.UserinfoRefused, client, "", "access token ran out")), userinfo(func(t *testing.T) string {
				i := w.tokens(t, w.public)
				w.Clock.Advance(15 * time.Minute)
				return i.Access
			})},
			{"userinfo with a token that was given back", ofPerson(refused(audit.UserinfoRefused, client, "", "access token works no more")), userinfo(func(t *testing.T) string {
				i := w.tokens(t, w.public)
				w.send(t, http.MethodPost, oauth.PathRevoke, isForm, url.Values{"client_id": {client}, "token": {i.Access}}.Encode())
				return i.Access
			})},
			{"a form without our token", ofPerson(refused(audit.FormRefused, "", "/connected-apps", "form token is wrong")), func(t *testing.T) {
				w.browser.Post(t, "/connected-apps", url.Values{"action": {"sign_out_everywhere"}})
			}},
			{"a consent without our token", ofPerson(refused(audit.FormRefused, client, "/flow/{flow}/consent", "form token is wrong")), func(t *testing.T) {
				page := w.browser.Authorize(t, request(client, "scope", "read:todos delete:todos"))
				w.browser.Post(t, page.URL.Path+"/consent", url.Values{"action": {"allow"}, "csrf": {"x"}})
			}},
			{"a form from another site", refused(audit.FormRefused, "", "/sign-out", "form from another site"), machine("/sign-out", "", http.Header{"Origin": {"https://evil.example.test"}}, "action=sign_out")},
			{"too many mails", audit.Event{Kind: audit.SignInRefused, Subject: mia[0].ID, Refused: true, Reason: "too many mails for this address"}, func(t *testing.T) {
				b := w.Browser(t)
				page := b.Get(t, "/login")
				for range 12 {
					b.Submit(t, page, "email", url.Values{"email": {"Mia@example.test"}})
					b.Submit(t, page, "email", url.Values{"email": {"mia@example.test"}}) // too soon after the last one, which is no event
					w.Clock.Advance(21 * time.Second)
				}
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
				if want.Object == "" {
					want.Object = e.Object
				}
				if want.ClientID == "self" {
					want.ClientID, want.Actor = e.Object, e.Object
				}
				if e.TraceID == "" || e.Object == "" && !e.Refused && e.Kind != audit.GrantDenied {
					t.Errorf("no trace or no object: %+v", e)
				}
				want.ID, want.At, want.TraceID, want.Attempt = e.ID, e.At, e.TraceID, e.Attempt
				if e != want {
					t.Errorf("%+v\nwant %+v", e, want)
				}
			})
		}
	})
}

package admin_test

import (
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

const callback = "https://client.example.test/cb"

// addApp registers a client and returns it with its secret.
func (d desk) addApp(t *testing.T, name string, kind oauth.ClientType) (oauth.Client, string) {
	t.Helper()
	return d.AddClient(t, oauth.NewClient{Name: name, Type: kind, RedirectURIs: []string{callback}})
}

// selfRegistered is a client that registered itself.
func (d desk) selfRegistered(t *testing.T, name string) oauth.Client {
	t.Helper()
	body := fmt.Sprintf(`{"client_name":%q,"redirect_uris":["http://localhost/cb"],"token_endpoint_auth_method":"none"}`, name)
	response, err := http.Post(d.Issuer+oauth.PathRegister, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close() // only the status counts
	found, err := d.Clients.FindClients(t.Context(), d.Project, oauth.ClientQuery{Text: name, Limit: 1})
	if err != nil || len(found) != 1 || response.StatusCode != http.StatusCreated {
		t.Fatalf("register: %d, %v, %v", response.StatusCode, found, err)
	}
	return found[0]
}

// send posts a form of a page: name, value, and so on. "at" is another address,
// and csrf is the page's own if it is not given.
func (d desk) send(t *testing.T, p servertest.Page, pairs ...string) servertest.Page {
	t.Helper()
	values, at := url.Values{}, p.URL.Path
	if m := formToken.FindStringSubmatch(p.Body); m != nil {
		values.Set("csrf", m[1])
	}
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i] == "at" {
			at = pairs[i+1]
		} else {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return d.b.Post(t, at, values)
}

var formToken = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

func (d desk) app(t *testing.T, c oauth.Client) oauth.Client {
	t.Helper()
	c, err := d.Clients.Client(t.Context(), d.Project, c.ID)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// allowedBy lets a person allow a client something, and returns their grant.
func (d desk) allowedBy(t *testing.T, c oauth.Client, email string) oauth.Grant {
	t.Helper()
	grant, _ := d.codeBy(t, c, email)
	return grant
}

// codeBy is allowedBy, with the code that the client gets.
func (d desk) codeBy(t *testing.T, c oauth.Client, email string) (grant oauth.Grant, code string) {
	t.Helper()
	b := d.Browser(t)
	page := b.Authorize(t, url.Values{
		"response_type": {"code"}, "client_id": {c.PublicID()}, "redirect_uri": {callback}, "scope": {"read:notes"}, "state": {"s"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}, "resource": {"https://notes.example.test/mcp"},
	})
	code = b.Allow(t, b.SignIn(t, page, email)).Query().Get("code")
	grants, err := d.Clients.Grants(t.Context(), d.Project, c.ID, "", 1)
	if err != nil || len(grants) != 1 {
		t.Fatalf("grants: %v, %v", grants, err)
	}
	return grants[0].Grant, code
}

func (d desk) grants(t *testing.T, c oauth.Client) int {
	t.Helper()
	n, err := d.Clients.CountGrants(t.Context(), d.Project, c.ID, 100)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (d desk) addNotes(t *testing.T) {
	t.Helper()
	d.AddResource(t, "https://notes.example.test/mcp", project.Scope{Name: "read:notes", Description: "Read your notes", ReadOnly: true})
}

// The list is searched, narrowed and turned over; its commands ask the same.
func TestAppList(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		shows(t, d.b.Get(t, d.page("apps")), http.StatusOK, "No connected app yet", "postern client create --name NAME --redirect-uri URL", "0 in the day that is running")
		d.addApp(t, "Robot", oauth.ThirdParty)
		d.addApp(t, `<script>alert(1)</script>`, oauth.ThirdPartyPublic)
		self := d.selfRegistered(t, "MCP Inspector")
		all := d.b.Get(t, d.page("apps"))
		shows(t, all, http.StatusOK, "Robot", "MCP Inspector", "Unverified", "Registered itself", "1 in the day that is running", "postern client list")
		if strings.Contains(all.Body, "<script>alert") { // Row: D07.
			t.Error("a client's name is markup")
		}
		robots := d.b.Get(t, d.page("apps?q=rob"))
		shows(t, robots, http.StatusOK, "Robot", "postern client list rob")
		if strings.Contains(robots.Text(), "MCP Inspector") {
			t.Error("a search finds everything")
		}
		shows(t, d.b.Get(t, d.page("apps?q="+self.ID)), http.StatusOK, "MCP Inspector")
		shows(t, d.b.Get(t, d.page("apps?show=how:dynamic")), http.StatusOK, "MCP Inspector", "postern client list --how dynamic")
		shows(t, d.b.Get(t, d.page("apps?show=type:third_party")), http.StatusOK, "Robot", "postern client list --type third-party")
		shows(t, d.b.Get(t, d.page("apps?show=blocked")), http.StatusOK, "No connected app is like that", "postern client list --blocked")

		for i := range 60 {
			d.addApp(t, fmt.Sprintf("Many %02d", i), oauth.ThirdPartyPublic)
		}
		first := d.b.Get(t, d.page("apps?q=many"))
		shows(t, first, http.StatusOK, "Many 00", "Many 49", "Next page")
		next := d.b.Get(t, first.Link(t, "Next page"))
		shows(t, next, http.StatusOK, "Many 50", "Many 59", "First page")
		if strings.Contains(next.Text(), "Many 49") || strings.Contains(next.Text(), "Robot") {
			t.Error("the next page begins anew, or forgets the search")
		}
	})
}

// How clients may come in is set above the list, and nothing else with it.
func TestHowAppsComeIn(t *testing.T) {
	each(t, servertest.Config{Settings: func(s *project.Settings) { s.UnregisteredResources = true }}, func(t *testing.T, d desk) {
		list := d.b.Get(t, d.page("apps"))
		saved := d.b.Submit(t, list, "cimd", url.Values{"cimd": {"on"}, "dynamic-registration": nil, "action": {"registration"}})
		shows(t, saved, http.StatusOK, "Saved.")
		d.Follow(t)
		if s := d.Project.Settings; !s.MetadataDocuments || s.DynamicRegistration || !s.UnregisteredResources {
			t.Errorf("settings: %+v", s)
		}
		d.by(t, d.Project.ID, audit.ProjectChanged)
	})
}

// A client is registered by hand; its secret is shown once.
func TestRegisterByHand(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		list := d.b.Get(t, d.page("apps"))
		form := func(pairs ...string) url.Values {
			v := url.Values{"action": {"create"}, "name": {"Robot"}, "type": {"third_party"}, "addresses": {callback + "\r\n\r\n  https://client.example.test/two \r\n"}}
			for i := 0; i < len(pairs); i += 2 {
				v.Set(pairs[i], pairs[i+1])
			}
			return v
		}
		for want, values := range map[string]url.Values{
			"A client needs a name.":                      form("name", " "),
			"A client needs at least one redirect URI.":   form("addresses", "\n"),
			"plain http is for 127.0.0.1":                 form("addresses", "http://client.example.test/cb"),
			"is there already.":                           form("addresses", callback+"\n"+callback),
			"Only first-party clients can do without con": form("bypass_consent", "on"),
			"is not one of":                               form("type", "fifth_party"),
		} {
			bad := d.b.Submit(t, list, "addresses", values)
			shows(t, bad, http.StatusUnprocessableEntity, "Nothing was changed.", want)
			if !strings.Contains(bad.Body, `value="`+strings.TrimSpace(values.Get("name"))) {
				t.Errorf("%s: what was typed is gone", want)
			}
		}
		made := d.b.Submit(t, list, "addresses", form("auth_method", "client_secret_post"))
		shows(t, made, http.StatusOK, "Robot is registered.", "shown once", "pst_cs_", "connected-app-test-")
		d.by(t, d.Project.ID, audit.ClientCreated)
		if again := d.b.Get(t, d.page("apps")); strings.Contains(again.Body, "pst_cs_") { // Row: D10.
			t.Error("the secret is shown again")
		}
		found, err := d.Clients.FindClients(t.Context(), d.Project, oauth.ClientQuery{Text: "robot", Limit: 2})
		if err != nil || len(found) != 1 {
			t.Fatalf("found %v, %v", found, err)
		}
		m := found[0].Metadata
		if diff := cmp.Diff([]string{callback, "https://client.example.test/two"}, m.RedirectURIs); diff != "" || m.TokenEndpointAuthMethod != "client_secret_post" {
			t.Errorf("%s, %s", m.TokenEndpointAuthMethod, diff)
		}
		public := d.b.Submit(t, list, "addresses", form("type", "first_party_public", "name", "Page", "bypass_consent", "on"))
		shows(t, public, http.StatusOK, "Registered.", "Page", "People are not asked.")

		forged := form()
		forged.Set("csrf", "x")
		shows(t, d.b.Post(t, d.page("apps"), forged), http.StatusForbidden)
		if n := len(d.events(t, d.Project.ID, audit.ClientCreated)); n != 2 {
			t.Errorf("%d clients were registered", n)
		}
	})
}

const publicKeys = `{"keys":[{"kty":"EC","crv":"P-256","kid":"key-1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}`

// addSigner registers a client with a key of its own.
func (d desk) addSigner(t *testing.T) oauth.Client {
	t.Helper()
	c, _ := d.AddClient(t, oauth.NewClient{Name: "Signer", Type: oauth.ThirdParty, RedirectURIs: []string{callback}, JWKS: []byte(publicKeys)})
	return c
}

// A client with a key of its own is registered without a secret, and gets other
// keys; what somebody else registered stays as it is.
func TestAppWithKeys(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		list := d.b.Get(t, d.page("apps"))
		form := func(jwks, uri string) url.Values {
			return url.Values{
				"action": {"create"}, "name": {"Signer"}, "type": {"third_party"}, "addresses": {callback}, "auth_method": {"private_key_jwt"}, "jwks": {jwks}, "jwks_uri": {uri},
			}
		}
		for want, values := range map[string]url.Values{
			"needs jwks with a key for signatures":     form("", ""),
			"Send jwks or jwks_uri, not both.":         form(publicKeys, "https://signer.example.test/jwks"),
			"jwks holds a private or symmetric key.":   form(`{"keys":[{"kty":"oct","k":"AAAA"}]}`, ""),
			"jwks_uri must be an https address with a": form("", "https://10.0.0.1/jwks"),
		} {
			bad := d.b.Submit(t, list, "addresses", values)
			shows(t, bad, http.StatusUnprocessableEntity, "Nothing was changed.", want)
			if typed := values.Get("jwks_uri"); !strings.Contains(bad.Body, `name="jwks_uri" value="`+typed+`"`) {
				t.Errorf("%s: what was typed is gone", want)
			}
		}
		made := d.b.Submit(t, list, "addresses", form(" "+publicKeys+"\r\n", ""))
		shows(t, made, http.StatusOK, "Registered.", "it has no secret", "private_key_jwt")
		found, err := d.Clients.FindClients(t.Context(), d.Project, oauth.ClientQuery{Text: "signer", Limit: 2})
		if err != nil || len(found) != 1 || found[0].SecretID != "" {
			t.Fatalf("found %v, %v", found, err)
		}
		c := found[0]
		settings := d.page("apps/" + c.ID + "/settings")
		page := d.b.Get(t, settings)
		shows(t, page, http.StatusOK, "Its keys")
		if strings.Contains(page.Body, "New secret") || !strings.Contains(page.Body, "&#34;kid&#34;: &#34;key-1&#34;") {
			t.Errorf("a secret is offered, or the keys are not there:\n%s", page.Body)
		}
		keys := func(jwks, uri string) servertest.Page {
			return d.b.Submit(t, d.b.Get(t, settings), "jwks", url.Values{"action": {"keys"}, "jwks": {jwks}, "jwks_uri": {uri}})
		}
		shows(t, keys("", ""), http.StatusUnprocessableEntity, "needs jwks with a key for signatures")
		shows(t, keys("x", ""), http.StatusUnprocessableEntity, "jwks is not a JWK set")
		shows(t, keys("", "https://signer.example.test/jwks"), http.StatusOK, "Its keys are saved.")
		d.by(t, d.Project.ID, audit.ClientChanged)
		if c = d.app(t, c); c.Metadata.JWKSURI == "" || len(c.Metadata.JWKS) != 0 {
			t.Errorf("%+v", c.Metadata)
		}
		robot, _ := d.addApp(t, "Robot", oauth.ThirdParty)
		other := d.b.Get(t, d.page("apps/"+robot.ID+"/settings"))
		shows(t, d.send(t, other, "action", "keys", "jwks", publicKeys), http.StatusUnprocessableEntity, "does not authenticate with keys")
	})
}

// Of a client that may change its registration the pages say so.
func TestAppChangesItself(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		const may, shared = "It may change itself (RFC 7592).", "is the same connected app here"
		body := `{"client_name":"Own","redirect_uris":["https://own.example.test/cb"]}`
		response, err := http.Post(d.Issuer+oauth.PathRegister, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close() // only the status counts
		own, err := d.Clients.FindClients(t.Context(), d.Project, oauth.ClientQuery{Text: "Own", Limit: 1})
		if err != nil || len(own) != 1 {
			t.Fatalf("register: %d, %v, %v", response.StatusCode, own, err)
		}
		page := d.b.Get(t, d.page("apps/"+own[0].ID))
		if shows(t, page, http.StatusOK, may); strings.Contains(page.Body, shared) {
			t.Error("others are said to be the same client")
		}
		shows(t, d.b.Get(t, d.page("apps/"+own[0].ID+"/addresses")), http.StatusOK, "and may give others (RFC 7592)")
		page = d.b.Get(t, d.page("apps/"+d.selfRegistered(t, "MCP Inspector").ID))
		if shows(t, page, http.StatusOK, shared); strings.Contains(page.Body, may) {
			t.Error("a shared client is said to change itself")
		}
	})
}

// What a client that was registered by hand says of itself is changed; one that
// registered itself stays as it is.
func TestChangeApp(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		c, _ := d.addApp(t, "Robot", oauth.FirstPartyPublic)
		self := d.selfRegistered(t, "MCP Inspector")
		settings, addresses := d.page("apps/"+c.ID+"/settings"), d.page("apps/"+c.ID+"/addresses")

		shows(t, d.b.Submit(t, d.b.Get(t, settings), "bypass_consent", url.Values{"action": {"change"}, "name": {""}}), http.StatusUnprocessableEntity, "A client needs a name.")
		open := d.b.Get(t, settings) // in another window
		saved := d.b.Submit(t, d.b.Get(t, settings), "bypass_consent", url.Values{"action": {"change"}, "name": {"Machine"}, "bypass_consent": {"on"}})
		shows(t, saved, http.StatusOK, "Saved.", "Machine")
		// Row: D18.
		stale := d.b.Submit(t, open, "bypass_consent", url.Values{"action": {"change"}, "name": {"Robot 2"}})
		shows(t, stale, http.StatusUnprocessableEntity, "Another window changed it first.")
		if c = d.app(t, c); c.Metadata.ClientName != "Machine" || !c.BypassConsent {
			t.Errorf("%+v", c)
		}
		d.by(t, d.Project.ID, audit.ClientChanged)

		add := func(action, uri string) servertest.Page {
			return d.send(t, d.b.Get(t, addresses), "action", action, "address", uri)
		}
		shows(t, add("add", "https://client.example.test/two"), http.StatusOK, "The address is added.", "https://client.example.test/two")
		shows(t, add("add", "http://client.example.test/two"), http.StatusUnprocessableEntity, "plain http is for 127.0.0.1")
		shows(t, add("add_signed_out", "https://client.example.test/"), http.StatusOK, "The address is added.")
		shows(t, add("remove", callback), http.StatusOK, "The address is removed.")
		shows(t, add("remove", "https://client.example.test/two"), http.StatusUnprocessableEntity, "A client needs at least one redirect URI.")
		shows(t, add("remove_signed_out", "https://client.example.test/"), http.StatusOK, "None. People stay on our page.")
		shows(t, d.b.Get(t, addresses+"?add=https://client.example.test/three"), http.StatusOK)
		c = d.app(t, c)
		if diff := cmp.Diff([]string{"https://client.example.test/two"}, c.Metadata.RedirectURIs); diff != "" || len(c.Metadata.PostLogoutRedirectURIs) != 0 {
			t.Errorf("%v, %s", c.Metadata.PostLogoutRedirectURIs, diff)
		}

		shows(t, d.b.Get(t, d.page("apps/"+self.ID+"/addresses")), http.StatusOK, "It says itself where its answers go.")
		its := d.b.Get(t, d.page("apps/"+self.ID+"/settings"))
		shows(t, its, http.StatusOK, "It chose its name itself")
		refused := d.send(t, its, "action", "add", "address", "https://evil.example.test/cb")
		shows(t, refused, http.StatusUnprocessableEntity, "only one that was registered by hand can be changed.")
	})
}

// What an app got last is on its page. Its refreshes would drown what else happened
// with it, so they have a list of their own.
func TestWhatAnAppGot(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		d.addNotes(t)
		c, _ := d.addApp(t, "Robot", oauth.ThirdPartyPublic)
		grant, code := d.codeBy(t, c, "ada@example.test")
		used := func() string { return d.Clock.Now().UTC().Format("2 Jan 2006 15:04") }
		first := d.tokens(t, url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {callback}, "code_verifier": {verifier}, "client_id": {c.PublicID()}}, "", "")
		shows(t, d.b.Get(t, d.page("apps/"+c.ID)), http.StatusOK, used())
		d.Clock.Advance(5 * time.Minute)
		d.tokens(t, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {first.Refresh}, "client_id": {c.PublicID()}}, "", "")
		shows(t, d.b.Get(t, d.page("apps/"+c.ID)), http.StatusOK, used())

		for name, list := range map[string]string{"the app's": "activity?client=" + c.ID, "the person's": "activity?person=" + grant.Subject} {
			page := d.b.Get(t, d.page(list))
			shows(t, page, http.StatusOK, "Token issued", "Refreshes of tokens are not in this list.")
			if strings.Contains(page.Text(), "Token refreshed") {
				t.Errorf("%s list has a refresh", name)
			}
			page = d.b.Get(t, d.page(list+"&kind=token.refreshed"))
			shows(t, page, http.StatusOK, "Token refreshed")
			if strings.Contains(page.Text(), "Token issued") || strings.Contains(page.Text(), "not in this list") {
				t.Errorf("%s list of refreshes has more", name)
			}
		}
		for _, list := range []string{"activity", "activity?kind=access"} {
			page := d.b.Get(t, d.page(list))
			shows(t, page, http.StatusOK, "Token refreshed", "Token issued")
			if strings.Contains(page.Text(), "not in this list") {
				t.Errorf("%s says that it leaves refreshes out", list)
			}
		}
	})
}

// Whoever allowed a connected app something is listed, and loses it alone or with
// everybody.
func TestAppGrants(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		d.addNotes(t)
		c, _ := d.addApp(t, "Robot", oauth.ThirdPartyPublic)
		other, _ := d.addApp(t, "Other", oauth.ThirdPartyPublic)
		path := d.page("apps/" + c.ID + "/grants")
		shows(t, d.b.Get(t, path), http.StatusOK, "Nobody allows it anything", "postern client grants "+c.ID)
		d.allowedBy(t, c, "ada@example.test")
		theirs := d.allowedBy(t, other, "zoe@example.test")
		d.Clock.Advance(time.Second)
		d.allowedBy(t, c, "ida@example.test")
		list := d.b.Get(t, path)
		shows(t, list, http.StatusOK, "ada@example.test", "ida@example.test", "read:notes at https://notes.example.test/mcp", "postern grant revoke GRANT_ID")
		shows(t, d.b.Get(t, d.page("apps/"+c.ID)), http.StatusOK, "read:notes at https://notes.example.test/mcp", "None yet.", "Third party, public")

		shows(t, d.send(t, list, "action", "revoke", "grant", theirs.ID), http.StatusNotFound)
		if n := d.grants(t, other); n != 1 {
			t.Errorf("another app's grant ended: %d left", n)
		}
		left := d.b.Submit(t, list, "grant", url.Values{"action": {"revoke"}}) // the first: the newest
		shows(t, left, http.StatusOK, "Taken back.", "ada@example.test")
		if strings.Contains(left.Text(), "ida@example.test") {
			t.Error("the grant is listed still")
		}
		d.by(t, d.Project.ID, audit.GrantRevoked)

		shows(t, d.send(t, left, "action", "revoke_all", "confirm", "robot"), http.StatusUnprocessableEntity, "Type Robot as it stands here to confirm.")
		if n := d.grants(t, c); n != 1 {
			t.Errorf("%d grants after a wrong name", n)
		}
		shows(t, d.send(t, left, "action", "revoke_all", "confirm", "Robot"), http.StatusOK, "Taken back from everybody.", "One grant has ended.")
		if n := d.grants(t, c); n != 0 || d.grants(t, other) != 1 {
			t.Errorf("%d grants are left", n)
		}
	})
}

// A blocked connected app is refused, and what it had does not come back.
func TestBlockApp(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		d.addNotes(t)
		c, _ := d.addApp(t, "Robot", oauth.ThirdPartyPublic)
		d.allowedBy(t, c, "ada@example.test")
		path := d.page("apps/" + c.ID + "/settings")
		page := d.b.Get(t, path+"?open=block")
		shows(t, page, http.StatusOK, "One grant ends.", "postern client block "+c.ID)
		shows(t, d.send(t, page, "action", "block", "confirm", "Robo"), http.StatusUnprocessableEntity, "Type Robot as it stands here to confirm.")
		shows(t, d.send(t, page, "csrf", "x", "action", "block", "confirm", "Robot"), http.StatusForbidden)
		if d.app(t, c).Blocked {
			t.Fatal("it is blocked")
		}
		shows(t, d.send(t, page, "action", "block", "confirm", "Robot"), http.StatusOK, "Blocked.", "One grant has ended.")
		if !d.app(t, c).Blocked || d.grants(t, c) != 0 {
			t.Error("it is not blocked, or has a grant")
		}
		d.by(t, d.Project.ID, audit.ClientBlocked)
		shows(t, d.b.Get(t, d.page("apps?show=blocked")), http.StatusOK, "Robot", "Blocked")
		shows(t, d.b.Submit(t, d.b.Get(t, path), "action", url.Values{"action": {"unblock"}}), http.StatusOK, "Unblocked.", "What had ended stays ended.")
		if d.app(t, c).Blocked || d.grants(t, c) != 0 {
			t.Error("it is blocked still, or its grant is back")
		}
		d.by(t, d.Project.ID, audit.ClientUnblocked)
	})
}

// A new secret is shown once; a deleted client is gone. Neither is done to a
// client of another project, nor without its name.
func TestRotateAndDeleteApp(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		c, old := d.addApp(t, "Robot", oauth.ThirdParty)
		other, _, err := d.Projects.Create(t.Context(), project.New{Name: "Elsewhere", Issuer: strings.Replace(d.Issuer, "localhost", "127.0.0.1", 1), Environment: project.Test})
		if err != nil {
			t.Fatal(err)
		}
		d.Follow(t)
		path := d.page("apps/" + c.ID + "/settings")
		page := d.b.Get(t, path)
		elsewhere := strings.Replace(path, d.Project.ID, other.ID, 1)
		shows(t, d.b.Get(t, elsewhere), http.StatusNotFound, "no connected app with this id")
		shows(t, d.send(t, d.b.Get(t, path), "at", elsewhere, "action", "delete", "confirm", "Robot"), http.StatusNotFound)
		shows(t, d.b.Get(t, d.page("apps/"+c.ID+"/nothing")), http.StatusNotFound)
		shows(t, d.send(t, page, "action", "nothing", "confirm", "Robot"), http.StatusBadRequest)

		shows(t, d.send(t, page, "action", "rotate", "confirm", ""), http.StatusUnprocessableEntity, "to confirm")
		rotated := d.send(t, page, "action", "rotate", "confirm", "Robot")
		shows(t, rotated, http.StatusOK, "The new secret of Robot.", "pst_cs_")
		if strings.Contains(rotated.Body, old) {
			t.Error("the new secret is the old one")
		}
		d.by(t, d.Project.ID, audit.ClientRotated)
		if again := d.b.Get(t, path); strings.Contains(again.Body, "pst_cs_") { // Row: D10.
			t.Error("the secret is shown again")
		}

		shows(t, d.send(t, page, "action", "delete", "confirm", "Rob"), http.StatusUnprocessableEntity, "to confirm")
		shows(t, d.send(t, page, "action", "delete", "confirm", "Robot"), http.StatusOK, "Robot is deleted.", "No connected app yet")
		if _, err := d.Clients.Client(t.Context(), d.Project, c.ID); !errors.Is(err, oauth.ErrNotFound) {
			t.Errorf("it is there: %v", err)
		}
		d.by(t, d.Project.ID, audit.ClientDeleted)
		if p := d.Browser(t).Get(t, path); p.URL.Path != "/dashboard/sign-in" {
			t.Errorf("a stranger is at %s", p.URL)
		}
	})
}

// The attempts of a connected app are told on its page, and what was wrong can be
// put right from there.
func TestAppAttempts(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		c, _ := d.addApp(t, "Robot", oauth.ThirdPartyPublic)
		other, _ := d.addApp(t, "Other", oauth.ThirdPartyPublic)
		path := d.page("apps/" + c.ID + "/attempts")
		shows(t, d.b.Get(t, path), http.StatusOK, "Nobody tried in the last 24 hours.")
		wrong := "https://client.example.test/wrong"
		d.Browser(t).Authorize(t, url.Values{"response_type": {"code"}, "client_id": {c.ID}, "redirect_uri": {wrong}})
		found, err := d.Store.Attempts(t.Context(), d.Project.ID, audit.AttemptFilter{ClientID: c.ID}, "", 5)
		if err != nil || len(found) != 1 {
			t.Fatalf("attempts: %v, %v", found, err)
		}
		list := d.b.Get(t, path)
		shows(t, list, http.StatusOK, "Refused at authorize", "Choose an attempt", "postern trace", "Attempts 1", "Refused 1", "Allowed 0")
		shows(t, d.b.Get(t, d.page("attempts")), http.StatusOK, "Refused 1", "Waiting 0")
		searched := d.b.Get(t, d.page("attempts?q=192.0.2.1"))
		if shows(t, searched, http.StatusOK, "Refused"); strings.Contains(searched.Text(), "Refused 1") {
			t.Error("a search has the counts of all")
		}
		told := d.b.Get(t, path+"?code="+found[0].Code)
		shows(t, told, http.StatusOK, found[0].Code, "Registered", "Add this return address", "postern trace "+found[0].Code)
		request := d.Issuer + "/oauth/authorize?" + url.Values{"client_id": {c.ID}, "redirect_uri": {wrong}}.Encode()
		if !strings.Contains(html.UnescapeString(told.Body), `value="`+request+`" readonly`) {
			t.Errorf("the request is not %s", request)
		}
		add := d.b.Get(t, told.Link(t, "Add this return address"))
		if !strings.Contains(add.Body, `value="`+wrong+`"`) {
			t.Error("the address is not in the form")
		}
		theirs := d.b.Get(t, d.page("apps/"+other.ID+"/attempts?code="+found[0].Code))
		shows(t, theirs, http.StatusOK, "Choose an attempt")
		if strings.Contains(theirs.Text(), "Add this return address") {
			t.Error("another app's attempt is told")
		}
	})
}

// Members of organizations are named and led to; whoever is gone is listed all
// the same, and the list is turned over.
func TestAppGrantsOfMembers(t *testing.T) {
	each(t, servertest.Config{Vertical: project.B2B}, func(t *testing.T, d desk) {
		o, ada := d.fennel(t)
		c, _ := d.addApp(t, "Robot", oauth.ThirdPartyPublic)
		allow := func(n int, subject string) {
			t.Helper()
			now := d.Clock.Now()
			grant := oauth.Grant{ID: fmt.Sprintf("grant-test-%02d", n), ProjectID: d.Project.ID, Subject: subject, Organization: o.ID, ClientID: c.ID, CreatedAt: now}
			code := oauth.Code{ID: fmt.Sprint("code", n), ProjectID: d.Project.ID, Hash: []byte("x"), ClientID: c.ID, Subject: subject, Organization: o.ID, CreatedAt: now, ExpiresAt: now}
			decision := oauth.Decision{Asked: true, Grant: grant, Code: code, Scopes: []oauth.GrantScope{{Scope: "read:notes", Allowed: true, DecidedAt: now}}}
			if err := d.Store.Decide(t.Context(), decision, audit.Event{ProjectID: d.Project.ID, At: now, Kind: audit.GrantAllowed}); err != nil {
				t.Fatal(err)
			}
		}
		allow(0, ada.ID)
		for n := 1; n <= 50; n++ {
			allow(n, fmt.Sprint("member-test-gone-", n))
		}
		first := d.b.Get(t, d.page("apps/"+c.ID+"/grants"))
		shows(t, first, http.StatusOK, "Somebody who is gone", "member-test-gone-50", "Next page")
		if strings.Contains(first.Text(), "ada@example.test") {
			t.Error("the first page has more than fifty")
		}
		next := d.b.Get(t, first.Link(t, "Next page"))
		shows(t, next, http.StatusOK, "ada@example.test", "read:notes", "First page")
		shows(t, d.b.Get(t, next.Link(t, "ada@example.test")), http.StatusOK, "ada@example.test", "Fennel Labs")
	})
}

package admin_test

import (
	"bytes"
	"image"
	"image/png"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/signing"
)

var (
	projectSecret   = regexp.MustCompile(`pst_ps_[0-9A-Za-z]{70}`)
	workspaceSecret = regexp.MustCompile(`pst_wk_[0-9A-Za-z]{70}`)
)

// Signing keys rotate at the administrator's word, the next at once only with
// the project's name.
func TestSigningKeys(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		d.Ready(t)
		keys := func() (all []signing.Key) {
			t.Helper()
			all, err := d.Store.Keys(t.Context(), d.Project.ID)
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		page := d.b.Get(t, d.page("keys"))
		shows(t, page, http.StatusOK, "ES256", "RS256", "Signs", "postern keys rotate", "/.well-known/jwks.json", d.Project.PublicToken, d.Project.ID)
		shows(t, d.send(t, page, "csrf", "x", "action", "rotate"), http.StatusForbidden)
		shows(t, d.send(t, page, "action", "hurry", "confirm", "x"), http.StatusUnprocessableEntity, "Type "+d.Project.Name+" as it stands here to confirm.")
		shows(t, d.send(t, page, "action", "nothing"), http.StatusBadRequest)
		if n := len(keys()); n != 2 {
			t.Fatalf("%d keys", n)
		}
		shows(t, d.send(t, page, "action", "rotate"), http.StatusOK, "The new keys are published, and sign after a day.", "Next", "Signs")
		if n := len(keys()); n != 4 {
			t.Errorf("%d keys", n)
		}
		d.by(t, d.Project.ID, audit.KeyRotated)
		shows(t, d.send(t, page, "action", "hurry", "confirm", d.Project.Name), http.StatusOK, "sign after five minutes")
		soon := 0
		for _, k := range keys() {
			if k.NotBefore.Equal(d.Clock.Now().Add(signing.KeySetMaxAge)) {
				soon++
			}
		}
		if soon != 2 {
			t.Errorf("%d keys sign in five minutes", soon)
		}
		var bad signing.Key
		for _, k := range keys() {
			if k.Algorithm == signing.ES256 && k.Generation == 1 {
				bad = k
			}
		}
		send := func(confirm string) servertest.Page { // Row: K01.
			return d.send(t, page, "action", "compromise", "about", bad.ID, "confirm", confirm)
		}
		shows(t, page, http.StatusOK, "Take out ES256 "+bad.ID[:8], "postern keys compromise --kid "+bad.ID)
		shows(t, send("x"), http.StatusUnprocessableEntity, "to confirm")
		if set := d.b.Get(t, "/.well-known/jwks.json").Body; !strings.Contains(set, bad.ID) {
			t.Errorf("before it is taken out: %s", set)
		}
		shows(t, send(d.Project.Name), http.StatusOK, "The key is out: every token that it signed ends.")
		d.by(t, d.Project.ID, audit.KeyCompromised)
		if event := d.events(t, d.Project.ID, audit.KeyCompromised)[0]; event.Object != bad.ID {
			t.Errorf("the event is about %q", event.Object)
		}
		if set := d.b.Get(t, "/.well-known/jwks.json").Body; strings.Contains(set, bad.ID) || strings.Count(set, `"kid"`) != 6 {
			t.Errorf("after it was taken out: %s", set)
		}
		shows(t, send(d.Project.Name), http.StatusUnprocessableEntity, "This key is out already")
		if p := d.Browser(t).Get(t, d.page("keys")); p.URL.Path != "/dashboard/sign-in" {
			t.Errorf("a stranger gets %s", p.URL)
		}
	})
}

// The project's secret and workspace keys are shown once, and end.
func TestSecrets(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		page := d.b.Get(t, d.page("keys"))
		shows(t, d.send(t, page, "action", "secret", "confirm", "x"), http.StatusUnprocessableEntity, "to confirm")
		made := d.send(t, page, "action", "secret", "confirm", d.Project.Name)
		shows(t, made, http.StatusOK, "The new project secret of "+d.Project.Name, "pst_ps_")
		d.by(t, d.Project.ID, audit.ProjectRotated)
		d.Follow(t)
		old, ok := secret.Parse(secret.ProjectSecret, d.Secret)
		if !ok || old.Matches(d.Project.SecretHash) || old.ID == d.Project.SecretID {
			t.Error("the old secret works")
		}
		introspect := func(key, query string) int {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.Issuer+"/v1/oauth2/introspect"+query, strings.NewReader("token=x"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.SetBasicAuth(d.Project.ID, key)
			response, err := d.b.Client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			return response.StatusCode
		}
		now := projectSecret.FindString(made.Body)
		if before, after := introspect(d.Secret, ""), introspect(now, ""); before != http.StatusUnauthorized || after != http.StatusOK {
			t.Errorf("the old secret is answered %d, the new one %d", before, after)
		}
		if status := introspect(now, "?project_id="+d.Project.ID+"&secret="+now); status != http.StatusBadRequest { // Row: D04.
			t.Errorf("in the address it is answered %d", status)
		}

		shows(t, d.send(t, page, "action", "create", "name", " "), http.StatusUnprocessableEntity, "A workspace key needs a name")
		shows(t, d.send(t, page, "action", "create", "name", "two\nlines"), http.StatusUnprocessableEntity, "that can be read")
		key := d.send(t, page, "action", "create", "name", `<b onclick="x">CI</b>`)
		shows(t, key, http.StatusOK, "is made.", "pst_wk_", "workspace-key-prod-", `<b onclick="x">CI</b>`)
		if strings.Contains(key.Body, "<b onclick") { // Row: D07.
			t.Error("a key's name is markup")
		}
		d.by(t, "", audit.WorkspaceKeyCreated)
		again := d.b.Get(t, d.page("keys"))
		if strings.Contains(again.Body, "pst_wk_") || strings.Contains(again.Body, "pst_ps_") { // Row: D10.
			t.Error("a secret is shown again")
		}
		all, err := project.NewWorkspaceKeys(d.Store, d.Clock.Now).All(t.Context())
		if err != nil || len(all) != 1 || all[0].ReadOnly || !all[0].ExpiresAt.IsZero() || all[0].MadeBy != servertest.AdministratorEmail {
			t.Fatalf("%v, %v", all, err)
		}
		revoke := "revoke-" + all[0].ID
		shows(t, d.send(t, again, "action", revoke, "confirm", "CI"), http.StatusUnprocessableEntity, "to confirm")
		shows(t, d.send(t, again, "action", revoke+"0", "confirm", "CI"), http.StatusNotFound)
		shows(t, d.send(t, again, "action", revoke, "confirm", `<b onclick="x">CI</b>`), http.StatusOK, "The workspace key is revoked.", "Revoked")
		d.by(t, "", audit.WorkspaceKeyRevoked)
		shows(t, d.send(t, again, "action", revoke, "confirm", `<b onclick="x">CI</b>`), http.StatusNotFound)
	})
}

// Row: D04. A workspace key may only read, and may end: the page makes such a key
// as the command does, says so, and shows its end. The key of an administrator who
// was removed is refused.
func TestKeysThatReadAndEnd(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		page := d.b.Get(t, d.page("keys"))
		refused := d.send(t, page, "action", "create", "name", "Look", "read_only", "on", "expires", "soon")
		shows(t, refused, http.StatusUnprocessableEntity, "A workspace key ends after a time such as 12h or 90d, from 1m to 3650d")
		for _, typed := range []string{`value="Look"`, `value="soon"`, `name="read_only" value="on" checked`} {
			if !strings.Contains(refused.Body, typed) {
				t.Errorf("the form forgets %s", typed)
			}
		}
		end := d.Clock.Now().Add(time.Hour)
		made := d.send(t, page, "action", "create", "name", "Look", "read_only", "on", "expires", "1h")
		shows(t, made, http.StatusOK, "is made.", "Works", "Only reads", "by "+servertest.AdministratorEmail, "Ends "+end.UTC().Format("2 Jan 2006"))
		if strings.Contains(made.Body, "checked") || strings.Contains(made.Body, `value="1h"`) {
			t.Error("the next key begins as this one was")
		}
		d.Clock.Advance(time.Second)
		shows(t, d.send(t, page, "action", "create", "name", "CI"), http.StatusOK, "Ends never.")

		// What the server says to either.
		all, err := project.NewWorkspaceKeys(d.Store, d.Clock.Now).All(t.Context())
		if err != nil || len(all) != 2 || !all[0].ReadOnly || !all[0].ExpiresAt.Equal(end) || all[1].ReadOnly || !all[1].ExpiresAt.IsZero() {
			t.Fatalf("%+v, %v", all, err)
		}
		key := workspaceSecret.FindString(made.Body)
		call := func(method string) int {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), method, d.Issuer+"/v1/projects/"+d.Project.ID+"/policy", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			if method != http.MethodGet {
				r.Header.Set("If-Match", `"0"`)
			}
			r.SetBasicAuth(all[0].ID, key)
			response, err := d.b.Client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			return response.StatusCode
		}
		if got, put := call(http.MethodGet), call(http.MethodPut); got != http.StatusOK || put != http.StatusForbidden {
			t.Errorf("a key that only reads: %d and %d", got, put)
		}

		// One more administrator, whose key ends with them.
		d.Clock.Advance(30 * time.Minute)
		administrators := identity.NewAdministrators(d.Store, d.Clock.Now)
		who, err := administrators.Find(t.Context(), servertest.AdministratorEmail)
		if err != nil {
			t.Fatal(err)
		}
		if err := administrators.Remove(t.Context(), who, true); err != nil {
			t.Fatal(err)
		}
		if got := call(http.MethodGet); got != http.StatusUnauthorized {
			t.Errorf("a key of somebody who was removed: %d", got)
		}
		all, err = project.NewWorkspaceKeys(d.Store, d.Clock.Now).All(t.Context())
		if err != nil || all[0].State(d.Clock.Now()) != project.KeyRevoked || all[1].State(d.Clock.Now()) != project.KeyRevoked {
			t.Errorf("%+v, %v", all, err)
		}
	})
}

// A key that has ended says so on the page, and has no button.
func TestEndedKey(t *testing.T) {
	d := servertest.New(t, servertest.Config{})
	if _, _, err := project.NewWorkspaceKeys(d.Store, d.Clock.Now).Create(t.Context(), project.NewKey{Name: "Guest", Lifetime: "1m"}); err != nil {
		t.Fatal(err)
	}
	rig := desk{d, d.Administrator(t)}
	shows(t, rig.b.Get(t, rig.page("keys")), http.StatusOK, "Guest Works", "on the command line", "Revoke it")
	d.Clock.Advance(time.Minute)
	ended := rig.b.Get(t, rig.page("keys"))
	shows(t, ended, http.StatusOK, "Guest Ended")
	if strings.Contains(ended.Text(), "Revoke it") {
		t.Error("it can still be revoked")
	}
}

// Every setting of the command is on the page, and what cannot be is refused
// with what was typed still there.
func TestSettings(t *testing.T) {
	each(t, servertest.Config{Vertical: project.B2B}, func(t *testing.T, d desk) {
		page := d.b.Get(t, d.page("settings"))
		for _, s := range project.AllSettings() {
			if s.Name != project.IssuerSetting && !strings.Contains(page.Body, `name="`+s.Name+`"`) {
				t.Errorf("the page has no field for %s", s.Name)
			}
		}
		shows(t, page, http.StatusOK, "postern project set code-lifetime 1m access-token-lifetime 15m", "There is no list to keep.", d.Issuer)

		lifetimes := func(pairs ...string) url.Values {
			values := url.Values{}
			for _, s := range project.AllSettings() {
				if _, err := project.ParseSpan(s.Get(d.Project)); err == nil {
					values.Set(s.Name, s.Get(d.Project))
				}
			}
			for i := 0; i < len(pairs); i += 2 {
				values.Set(pairs[i], pairs[i+1])
			}
			return values
		}
		for name, c := range map[string]struct{ action, setting, value, want string }{ // Row: D16.
			"newline":       {"look", "name", "two\nlines", "Name is"},
			"no name":       {"look", "name", "", "Name is"},
			"no lifetime":   {"lifetimes", "session-idle", "0s", "Session-idle is 0s; choose 5m to 30d."},
			"ten years":     {"lifetimes", "access-token-lifetime", "3650d", "Access-token-lifetime is 3650d; choose 1m to 1d."},
			"no time":       {"lifetimes", "code-lifetime", "soon", "use a time such as 90s"},
			"a bad scheme":  {"registration", "private-use-schemes", "javascript", "private-use-schemes has"},
			"a bad link":    {"look", "help-url", "javascript:alert(1)", "use an https address, or none"},
			"a bad page":    {"authorization", "authorization-url", "http://app.example.test/", "authorization page, or none"},
			"a bad default": {"consent", "default-resource", "https://nobody.example.test/", "use the URL of a resource server, or none"},
		} {
			values := lifetimes()
			values.Set("action", c.action)
			values.Set(c.setting, c.value)
			bad := d.b.Submit(t, page, c.setting, values)
			if bad.Status != http.StatusUnprocessableEntity || !strings.Contains(strings.ToLower(bad.Text()), strings.ToLower(c.want)) {
				t.Errorf("%s: %d\n%s", name, bad.Status, bad.Text())
			}
			if !strings.Contains(bad.Body, `role="alert"`) {
				t.Errorf("%s is not announced", name)
			}
		}
		d.Follow(t)
		before := d.Project.Change
		shows(t, d.b.Submit(t, page, "code-lifetime", url.Values{"action": {"lifetimes"}, "csrf": {"x"}}), http.StatusForbidden)
		shows(t, d.send(t, page, "action", "nothing"), http.StatusBadRequest)
		if d.Follow(t); d.Project.Change != before {
			t.Error("a refused form changed the project")
		}

		d.AddResource(t, files)
		d.AddResource(t, "https://other.example.test/mcp") // of one alone it would be the default
		d.Follow(t)
		before = d.Project.Change
		shows(t, d.b.Submit(t, page, "code-lifetime", lifetimes("action", "lifetimes")), http.StatusOK, "Saved.")
		if d.Follow(t); d.Project.Change != before {
			t.Error("what was left as it is, was a change")
		}
		for _, values := range []url.Values{
			{"action": {"look"}, "name": {"<i>New</i>"}, "privacy-url": {"https://example.test/privacy"}, "badge": {"on"}},
			{"action": {"authorization"}, "authorization-url": {"https://app.example.test/authorize"}},
			{"action": {"registration"}, "dynamic-registration": nil, "cimd": {"on"}, "cimd-copies": nil, "private-use-schemes": {""}},
			{"action": {"consent"}, "preselect": {"on"}, "default-resource": {files}, "default-scopes": {"files:read"}},
			{"action": {"joining"}, "organization-creation": nil},
			lifetimes("action", "lifetimes", "access-token-lifetime", "5m", "session-idle", "1h"),
		} {
			page = d.b.Get(t, d.page("settings"))
			for field := range values {
				if field != "action" {
					shows(t, d.b.Submit(t, page, field, values), http.StatusOK, "Saved.")
					break
				}
			}
		}
		d.by(t, d.Project.ID, audit.ProjectChanged)
		// Row: D18. Somebody who has this page open saves after another, who turned something off.
		_, err := d.Projects.Set(t.Context(), d.Project.ID, []project.Change{{Setting: "refresh-idle", Value: "1d"}}, nil)
		must(t, err)
		stale := d.b.Submit(t, page, "code-lifetime", lifetimes("action", "lifetimes", "code-lifetime", "2m"))
		shows(t, stale, http.StatusUnprocessableEntity, "another window changed it first")
		d.Follow(t)
		s := d.Project.Settings
		if d.Project.Name != "<i>New</i>" || s.PrivacyURL == "" || !s.HideBadge || s.AuthorizationURL == "" || s.DynamicRegistration || !s.MetadataDocuments || s.DocumentCopies ||
			len(s.PrivateUseSchemes) != 0 || !s.PreselectReadOnly || len(s.DefaultScopes) != 1 || s.OrganizationCreation || s.Lifetimes.AccessToken != 300 || s.Lifetimes.SessionIdle != 3600 {
			t.Errorf("%q, %+v", d.Project.Name, s)
		}
		if r, ok := d.resource(t, files); !ok || !r.Default {
			t.Error("the default is not marked")
		}
		after := d.b.Get(t, d.page("settings"))
		if strings.Contains(after.Body, "<i>New") { // Row: D07.
			t.Error("a project's name is markup")
		}
	})
}

// A logo is drawn anew, and a file that is none is refused. Row: D08.
func TestLogo(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		page := d.b.Get(t, d.page("settings"))
		token := formToken.FindStringSubmatch(page.Body)[1]
		upload := func(csrf, action string, file []byte) (int, string) {
			t.Helper()
			var b bytes.Buffer
			w := multipart.NewWriter(&b)
			_ = w.WriteField("csrf", csrf) // into memory
			_ = w.WriteField("action", action)
			part, err := w.CreateFormFile("file", "logo.png")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = part.Write(file)
			_ = w.Close()
			response, err := d.b.Client.Post(d.Issuer+d.page("settings"), w.FormDataContentType(), &b)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			d.Follow(t)
			return response.StatusCode, string(body)
		}
		var picture bytes.Buffer
		if err := png.Encode(&picture, image.NewNRGBA(image.Rect(0, 0, 16, 16))); err != nil {
			t.Fatal(err)
		}
		for name, c := range map[string]struct {
			csrf, action string
			file         []byte
			status       int
		}{
			"a drawing": {token, "logo", []byte(`<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>`), http.StatusUnprocessableEntity},
			"nothing":   {token, "logo", nil, http.StatusUnprocessableEntity},
			"too long":  {token, "logo", make([]byte, 400<<10), http.StatusRequestEntityTooLarge},
			"forged":    {"x", "logo", picture.Bytes(), http.StatusForbidden},
			"unknown":   {token, "paint", picture.Bytes(), http.StatusBadRequest},
		} {
			if status, _ := upload(c.csrf, c.action, c.file); status != c.status || d.Project.Logo != "" {
				t.Errorf("%s: %d, logo %q", name, status, d.Project.Logo)
			}
		}
		trailed := append(picture.Bytes(), "<script>alert(1)</script>"...)
		if status, body := upload(token, "logo", trailed); status != http.StatusOK || d.Project.Logo == "" || !strings.Contains(body, `src="`+d.page("logo/"+d.Project.Logo)+`"`) {
			t.Errorf("a picture: %d, logo %q", status, d.Project.Logo)
		}
		address := d.page("logo/" + d.Project.Logo)
		if shown := d.b.Get(t, address); shown.Status != http.StatusOK || !strings.HasPrefix(shown.Body, "\x89PNG") || strings.Contains(shown.Body, "script") {
			t.Errorf("%s is %d: %q", address, shown.Status, shown.Body)
		}
		for path, want := range map[string]int{d.page("logo/" + strings.Repeat("0", 64)): http.StatusNotFound, strings.Replace(address, d.Project.ID, "project-test-none", 1): http.StatusNotFound} {
			if got := d.b.Get(t, path); got.Status != want {
				t.Errorf("%s is %d, want %d", path, got.Status, want)
			}
		}
		d.by(t, d.Project.ID, audit.ProjectChanged)
		if status, _ := upload(token, "no_logo", nil); status != http.StatusOK || d.Project.Logo != "" {
			t.Errorf("taken away: %d, logo %q", status, d.Project.Logo)
		}
	})
}

// tokenFor lets a person allow a public client something, which gets tokens.
func (d desk) tokenFor(t *testing.T, c oauth.Client, email string) {
	t.Helper()
	b := d.Browser(t)
	page := b.Authorize(t, url.Values{
		"response_type": {"code"}, "client_id": {c.PublicID()}, "redirect_uri": {callback}, "scope": {"read:notes"}, "state": {"s"},
		"code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"}, "resource": {"https://notes.example.test/mcp"},
	})
	answer := b.Allow(t, b.SignIn(t, page, email))
	response, err := http.PostForm(d.Issuer+"/v1/oauth2/token", url.Values{
		"grant_type": {"authorization_code"}, "client_id": {c.PublicID()}, "redirect_uri": {callback}, "code": {answer.Query().Get("code")},
		"code_verifier": {"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"}, "resource": {"https://notes.example.test/mcp"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Fatalf("no token: %d", response.StatusCode)
	}
}

// Another issuer is set after the page has said what ends, with the project's
// name; postern dev keeps its own.
func TestIssuer(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		d.addNotes(t)
		c, _ := d.addApp(t, "Robot", oauth.ThirdPartyPublic)
		d.tokenFor(t, c, "ada@example.test")
		page := d.b.Get(t, d.page("settings/issuer"))
		shows(t, d.b.Get(t, d.page("resources/"+d.Project.Resources[0].ID+"/move")), http.StatusOK, "people 1", "Robot")
		shows(t, page, http.StatusOK, "What ends", "people 1", "Robot", d.Issuer, "postern project set issuer NEW_URL")
		const next = "https://auth.example.test"
		for want, values := range map[string]url.Values{
			"Type " + d.Project.Name + " as it":    {"issuer": {next}, "confirm": {"x"}},
			"must begin with https://":             {"issuer": {"http://auth.example.test"}, "confirm": {d.Project.Name}},
			"The project has this issuer already.": {"issuer": {d.Issuer}, "confirm": {d.Project.Name}},
			"must not end with a slash":            {"issuer": {next + "/"}, "confirm": {d.Project.Name}},
		} {
			shows(t, d.b.Submit(t, page, "issuer", values), http.StatusUnprocessableEntity, "Nothing was changed.", want)
		}
		shows(t, d.b.Submit(t, page, "issuer", url.Values{"csrf": {"x"}, "issuer": {next}, "confirm": {d.Project.Name}}), http.StatusForbidden)
		shows(t, d.b.Submit(t, page, "issuer", url.Values{"issuer": {next}, "confirm": {d.Project.Name}}), http.StatusOK, "The issuer is "+next)
		p, err := d.Projects.Find(t.Context(), d.Project.ID)
		if err != nil || p.Issuer != next {
			t.Errorf("%+v, %v", p, err)
		}
		d.by(t, d.Project.ID, audit.IssuerChanged)
	})
	d := servertest.New(t, servertest.Config{Dev: &server.Dev{}})
	b := d.Administrator(t)
	path := "/dashboard/projects/" + d.Project.ID + "/settings/issuer"
	shows(t, b.Get(t, path), http.StatusOK, "postern dev gives its projects their addresses.")
}

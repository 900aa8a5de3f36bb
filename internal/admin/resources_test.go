package admin_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
)

const files = "https://files.example.test/mcp"

// addFiles registers a resource server and returns the address of its page.
func (d desk) addFiles(t *testing.T) (project.Resource, string) {
	t.Helper()
	r := d.AddResource(t, files, project.Scope{Name: "files:read", Description: "Read your files", ReadOnly: true}, project.Scope{Name: "files:write", Description: "Change your files"})
	return r, d.page("resources/" + r.ID)
}

// resource is a resource server as it is now.
func (d desk) resource(t *testing.T, uri string) (project.Resource, bool) {
	t.Helper()
	p, err := d.Projects.Find(t.Context(), d.Project.ID)
	if err != nil {
		t.Fatal(err)
	}
	return p.Resource(uri)
}

// A resource server is registered with its scopes and its secret, and asked what
// it says of itself.
func TestRegisterResource(t *testing.T) {
	var mcp *httptest.Server
	mcp = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"resource": mcp.URL + "/mcp", "resource_name": `<b onclick="x">Tasks</b>`, "scopes_supported": []string{"tasks:list"}}) // the test reads it
	}))
	defer mcp.Close()
	each(t, servertest.Config{Dev: &server.Dev{}}, func(t *testing.T, d desk) {
		list := d.b.Get(t, d.page("resources"))
		shows(t, list, http.StatusOK, "No resource server yet", "postern resource add https://notes.example.com/mcp")
		for want, values := range map[string]url.Values{
			"is not a URL":                             {"uri": {"nonsense"}},
			"must begin with https://":                 {"uri": {"http://files.example.test/mcp"}},
			"has a character that a scope cannot have": {"uri": {files}, "reads": {"read files=Read"}},
			"The profile is":                           {"uri": {files}, "profile": {"jwt"}},
			"on one line":                              {"uri": {files}, "name": {"two\nlines"}}, // Row: D16.
		} {
			bad := d.b.Submit(t, list, "uri", values)
			shows(t, bad, http.StatusUnprocessableEntity, "Nothing was changed.", want)
			if !strings.Contains(bad.Body, `value="`+values.Get("uri")+`"`) {
				t.Errorf("%s: what was typed is gone", want)
			}
		}
		forged := d.b.Post(t, d.page("resources"), url.Values{"csrf": {"x"}, "uri": {files}})
		shows(t, forged, http.StatusForbidden)
		if n := len(d.events(t, d.Project.ID, audit.ResourceAdded)); n != 0 {
			t.Fatalf("%d resource servers were registered", n)
		}

		made := d.b.Submit(t, list, "uri", url.Values{"uri": {"http://localhost:1/mcp"}, "reads": {"files:read=Read your files\r\n\r\n"}, "writes": {"files:write=Change your files"}, "secret": {"on"}, "default": {"on"}, "profile": {"compatible"}})
		shows(t, made, http.StatusOK, "is registered.", "pst_rs_", "Its metadata was not read (it does not answer)", "localhost:1")
		d.by(t, d.Project.ID, audit.ResourceAdded)
		if r, ok := d.resource(t, "http://localhost:1/mcp"); !ok || !r.Default || r.Profile != project.Compatible || r.SecretID == "" || !slices.Equal(r.Scopes, []string{"files:read", "files:write"}) {
			t.Errorf("%+v", r)
		}
		again := d.b.Get(t, d.page("resources"))
		if strings.Contains(again.Body, "pst_rs_") { // Row: D10.
			t.Error("the secret is shown again")
		}
		shows(t, d.b.Submit(t, again, "uri", url.Values{"uri": {"http://localhost:1/mcp/"}}), http.StatusUnprocessableEntity, "has this address already")

		found := d.b.Submit(t, again, "uri", url.Values{"uri": {mcp.URL + "/mcp"}})
		shows(t, found, http.StatusOK, "is registered.", "Read 1 scopes from "+mcp.URL, `<b onclick="x">Tasks</b>`)
		if strings.Contains(found.Body, "<b onclick") { // Row: D07.
			t.Error("a server's name is markup")
		}
		if r, ok := d.resource(t, mcp.URL+"/mcp"); !ok || !slices.Equal(r.Scopes, []string{"tasks:list"}) || r.SecretID != "" {
			t.Errorf("%+v", r)
		}
		shows(t, d.b.Get(t, d.page("resources?q=TASKS")), http.StatusOK, "Tasks")
		shows(t, d.b.Get(t, d.page("resources?q=nobody")), http.StatusOK, "No resource server matches")
	})
}

// Outside of development no address of this computer or of its network is asked.
func TestResourcesAreAskedOutsideOnly(t *testing.T) {
	asked := false
	mcp := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer mcp.Close()
	s := servertest.New(t, servertest.Config{})
	d := desk{s, s.Administrator(t)}
	made := d.b.Submit(t, d.b.Get(t, d.page("resources")), "uri", url.Values{"uri": {mcp.URL + "/mcp"}})
	shows(t, made, http.StatusOK, "is registered.", "Its metadata was not read (it does not answer)")
	if asked {
		t.Error("the server was asked")
	}
}

// Fifty stand on a page, and the next page has the others.
func TestManyResources(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		for i := range 51 {
			d.AddResource(t, "https://files.example.test/"+strings.Repeat("x", i+1))
		}
		first := d.b.Get(t, d.page("resources"))
		if n := strings.Count(first.Body, "<tr><td>"); n != 50 {
			t.Errorf("%d on the first page", n)
		}
		next := d.b.Get(t, first.Link(t, "Next page"))
		if n := strings.Count(next.Body, "<tr><td>"); n != 1 {
			t.Errorf("%d on the next page", n)
		}
		shows(t, next, http.StatusOK, "First page")
	})
}

// What a resource server is, is changed on its pages.
func TestChangeResource(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		r, path := d.addFiles(t)
		shows(t, d.b.Get(t, path), http.StatusOK, files, "Read your files", "Change your files", "postern resource show "+files)

		settings := d.b.Get(t, path+"/settings")
		save := func(pairs ...string) servertest.Page {
			values := url.Values{"action": {"save"}, "name": {"Files"}, "profile": {"rfc9068"}}
			for i := 0; i < len(pairs); i += 2 {
				values.Set(pairs[i], pairs[i+1])
			}
			return d.b.Submit(t, settings, "aliases", values)
		}
		for want, bad := range map[string]servertest.Page{
			"is not at https://files.example.test":       save("aliases", "https://other.example.test/sse"),
			"The default scope “nothing” is not":         save("defaults", "nothing"),
			"use a time such as 10m":                     save("lifetime", "0s"),  // Row: D16.
			"choose 1m to 1d":                            save("lifetime", "10d"), // Row: D16.
			"The name of a resource server has at most ": save("name", strings.Repeat("x", 101)),
		} {
			shows(t, bad, http.StatusUnprocessableEntity, strings.NewReplacer("“", `"`, "”", `"`).Replace(want))
		}
		if now, _ := d.resource(t, files); now.Name != r.Name {
			t.Errorf("%+v", now)
		}
		shows(t, save("aliases", "https://files.example.test/sse", "defaults", "files:read", "lifetime", "10m", "default", "on"), http.StatusOK, "Saved.",
			"postern resource add https://files.example.test/mcp --offline --name Files --profile rfc9068 --alias https://files.example.test/sse --default-scope files:read --access-token-lifetime 10m --default")
		now, _ := d.resource(t, files)
		if now.Name != "Files" || now.AccessToken != 600 || !now.Default || !slices.Equal(now.DefaultScopes, []string{"files:read"}) || !slices.Equal(now.Aliases, []string{"https://files.example.test/sse"}) {
			t.Errorf("%+v", now)
		}
		d.by(t, d.Project.ID, audit.ResourceChanged)

		page := d.b.Get(t, path+"?scope=files:read")
		if !strings.Contains(page.Body, `value="Read your files"`) {
			t.Error("a scope is not edited from what it is")
		}
		shows(t, d.send(t, page, "action", "scope", "scope", "files:drop", "kind", "write"), http.StatusUnprocessableEntity, "A scope needs a sentence")
		shows(t, d.send(t, page, "action", "scope", "scope", `files"`, "sentence", "x"), http.StatusUnprocessableEntity, "must be printable ASCII")
		shows(t, d.send(t, page, "action", "scope", "scope", "files:drop", "sentence", "Delete <i>files</i>", "detail", "For good", "kind", "write"), http.StatusOK, "The scope is saved.", "Delete <i>files</i>", "For good")
		shows(t, d.send(t, page, "action", "drop", "scope", "files:read"), http.StatusOK, "no longer has files:read")
		shows(t, d.send(t, page, "action", "drop", "scope", "files:read"), http.StatusNotFound)
		if now, _ = d.resource(t, files); !slices.Equal(now.Scopes, []string{"files:write", "files:drop"}) || len(now.DefaultScopes) != 0 {
			t.Errorf("%+v", now)
		}

		shows(t, d.send(t, settings, "action", "rotate", "confirm", "Files"), http.StatusUnprocessableEntity, "Another window changed it first")
		first := d.send(t, settings, "action", "secret")
		shows(t, first, http.StatusOK, "The introspection secret of Files.", "pst_rs_", r.ID)
		before, _ := d.resource(t, files)
		shows(t, d.send(t, settings, "action", "rotate", "confirm", "files"), http.StatusUnprocessableEntity, "Type Files as it stands here to confirm.")
		shows(t, d.send(t, settings, "action", "rotate", "confirm", "Files"), http.StatusOK, "pst_rs_")
		if now, _ = d.resource(t, files); before.SecretID == "" || now.SecretID == before.SecretID {
			t.Errorf("the secret was %s and is %s", before.SecretID, now.SecretID)
		}

		shows(t, d.send(t, page, "csrf", "x", "action", "drop", "scope", "files:write"), http.StatusForbidden)
		shows(t, d.send(t, page, "action", "nothing"), http.StatusBadRequest)
		shows(t, d.b.Get(t, path+"/nothing"), http.StatusNotFound)
		other, _, err := d.Projects.Create(t.Context(), project.New{Name: "Elsewhere", Issuer: strings.Replace(d.Issuer, "localhost", "127.0.0.1", 1), Environment: project.Test})
		if err != nil {
			t.Fatal(err)
		}
		elsewhere := strings.Replace(path, d.Project.ID, other.ID, 1)
		shows(t, d.b.Get(t, elsewhere), http.StatusNotFound, "no resource server with this id")
		shows(t, d.send(t, page, "at", elsewhere, "action", "drop", "scope", "files:write"), http.StatusNotFound)
		if p := d.Browser(t).Get(t, path+"/protect"); p.URL.Path != "/dashboard/sign-in" {
			t.Errorf("a stranger gets %s", p.URL)
		}
	})
}

// The text to copy has this project's values, in each language.
func TestProtectIt(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		_, path := d.addFiles(t)
		for language, words := range map[string][]string{
			"":        {"package main", `Scopes: []guard.Scope{{Name: "files:read"}, {Name: "files:write", Write: true}}`},
			"express": {"requireBearerAuth", `const SCOPES = ["files:read", "files:write"];`, "node server.mjs"},
			"hono":    {`new Hono()`, `["files:read", "files:write"]`},
			"nextjs":  {"// app/mcp/route.js", "npx next dev"},
			"fastmcp": {`SCOPES = ["files:read", "files:write"]`, "pip install fastmcp"},
		} {
			p := d.b.Get(t, path+"/protect?in="+language)
			shows(t, p, http.StatusOK, append(words, d.Issuer, files)...)
			if strings.Contains(p.Body, "notes:read") || strings.Contains(p.Body, "localhost:4000") {
				t.Errorf("%s has the example's values", language)
			}
		}
	})
}

// A move says what ends, asks for the name, and ends it; so does a removal.
func TestMoveAndRemoveResource(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		r, path := d.addFiles(t)
		name := r.Name
		page := d.b.Get(t, path+"/move")
		shows(t, page, http.StatusOK, "Nobody has access now", "postern resource move "+files+" NEW_URL")
		const next = "https://files.example.test/v2"
		shows(t, d.send(t, page, "action", "move", "to", next, "confirm", "x"), http.StatusUnprocessableEntity, "Type "+name+" as it stands here to confirm.")
		shows(t, d.send(t, page, "action", "move", "to", "http://files.example.test/", "confirm", name), http.StatusUnprocessableEntity, "must begin with https://")
		shows(t, d.send(t, page, "action", "move", "to", files, "confirm", name), http.StatusUnprocessableEntity, "The resource server is there already.")
		shows(t, d.send(t, page, "action", "move", "to", next, "confirm", name), http.StatusOK, "It has its new address.")
		if now, ok := d.resource(t, next); !ok || now.ID != r.ID {
			t.Errorf("it is not at its new address: %+v", now)
		}
		d.by(t, d.Project.ID, audit.ResourceMoved)
		shows(t, d.send(t, page, "action", "remove", "confirm", ""), http.StatusUnprocessableEntity, "to confirm")
		shows(t, d.send(t, page, "action", "remove", "confirm", name), http.StatusOK, next+" is removed.", "No resource server yet")
		if _, ok := d.resource(t, next); ok {
			t.Error("it is there still")
		}
		d.by(t, d.Project.ID, audit.ResourceRemoved)
	})
}

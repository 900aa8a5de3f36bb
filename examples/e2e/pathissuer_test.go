package e2e_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// tenant is the path of the issuer in these tests.
const tenant = "/tenant1"

// serveTenant is serveProject with an issuer that has a path. With mounted a
// proxy stands in front of it that forwards what is below the path and nothing
// else of its host.
func serveTenant(t *testing.T, db database, mounted bool) *postern {
	t.Helper()
	p := serve(t, db)
	origin := p.issuer
	if mounted {
		inside, err := url.Parse(p.issuer)
		if err != nil {
			t.Fatal(err)
		}
		forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(inside)
			r.Out.Host = r.In.Host
		}}
		proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !strings.HasPrefix(r.URL.Path, tenant+"/") {
				http.NotFound(w, r) // the other product on this host
				return
			}
			forward.ServeHTTP(w, r)
		}))
		t.Cleanup(proxy.Close)
		origin = strings.Replace(proxy.URL, "127.0.0.1", "localhost", 1)
	}
	ready := p.issuer + "/readyz"
	p.issuer = origin + tenant
	p.run(t, nil, "project", "create", "Todo", "--issuer", p.issuer)
	p.awaitMetadata(t, naming(`"issuer":"`+p.issuer+`"`))
	p.await(t, ready)
	return p
}

// From the first request of the official client to a call after a refresh, at
// an issuer with a path: an app that knows nothing but the address of the MCP
// server finds it in the order that MCP prescribes, and so does guard. Also with
// a proxy that leaves only the last of the three addresses of its metadata.
//
// Proves: MCP-AS-2, RFC8414-3.1-a, MCP-AS-21.
func TestPathIssuer(t *testing.T) {
	const oauth, openid = "GET " + metadataPath + tenant, "GET /.well-known/openid-configuration" + tenant
	test := func(t *testing.T, db database, mounted bool, trail ...string) {
		p := serveTenant(t, db, mounted)
		address := p.todo(t)
		p.addTodo(t, address+"/mcp")
		ada := newPerson(t, p, "ada@example.test")
		a := newApp(t, ada, byRegistration, nil)
		session := a.mustConnect(address + "/mcp")
		var created struct{ Todo struct{ Text string } }
		if err := call(t, session, "createTodo", map[string]any{"todoText": "Water the lemon tree"}, &created); err != nil {
			t.Fatal(err)
		}
		a.wallet.expire()
		if got := todos(t, session); !cmp.Equal(got, []string{"Water the lemon tree"}) {
			t.Errorf("after a refresh the app sees %q", got)
		}
		a.wantTrail(t, append(trail, "POST "+tenant+"/v1/oauth2/register 201", "POST "+tenant+"/v1/oauth2/token 200", "POST "+tenant+"/v1/oauth2/token 200")...)

		// The web page of the example, whose sign-in is the same issuer's.
		home, err := ada.visit(t.Context(), address+"/login")
		if err != nil || home.status != http.StatusOK || !strings.Contains(home.body, "Water the lemon tree") {
			t.Errorf("the web page of the example: %v, %v", home, err)
		}
		if apps, err := ada.takeBack(t.Context(), a.name); err != nil || apps.status != http.StatusOK {
			t.Errorf("take back: %v, %v", apps, err)
		}
		a.wallet.expire()
		a.person = nil
		if err := call(t, session, "listTodos", nil, nil); err == nil {
			t.Error("the app still gets in after its access was taken back")
		}
	}
	eachDatabase(t, func(t *testing.T, db database) { test(t, db, false, oauth+" 200") })
	t.Run("below a path of a proxy", func(t *testing.T) {
		test(t, database{name: "sqlite"}, true, oauth+" 404", openid+" 404", "GET "+tenant+"/.well-known/openid-configuration 200")
	})
}

// The doctor finds nothing wrong with an issuer that has a path, and says what
// a proxy keeps back. A resource server whose guard names the issuer a little
// differently lets nobody in.
func TestPathIssuerMistakes(t *testing.T) {
	p := serveTenant(t, database{name: "sqlite"}, false)
	address := p.todo(t)
	p.addTodo(t, address+"/mcp")
	if d, err := p.doctor(t); err != nil {
		t.Errorf("the issuer: %v\n%+v", err, d)
	}
	if d, err := p.doctor(t, "--mcp-url", address+"/mcp", "--register"); err != nil {
		t.Errorf("the MCP server: %v\n%+v", err, d)
	}

	a := newApp(t, newPerson(t, p, "ada@example.test"), byPreregistered, nil)
	a.mustConnect(address + "/mcp")
	token, err := a.wallet.now()
	if err != nil {
		t.Fatal(err)
	}
	origin := strings.TrimSuffix(p.issuer, tenant)
	for _, issuer := range []string{p.issuer + "/", origin, origin + "/Tenant1", origin + "/tenant2", p.issuer + tenant} {
		port := freePort(t)
		other := start(t, p.dir, environment("TODO_URL=http://localhost:"+port, "POSTERN_ISSUER="+issuer, "TODO_CLIENT_ID=x", "TODO_DATA="+t.TempDir()+"/todo.db"), "todo")
		other.await(t, "http://localhost:"+port+"/healthz")
		if status, _, _ := post(t, "http://localhost:"+port+"/mcp", token.AccessToken, createTodo("one")); status == http.StatusOK {
			t.Errorf("a guard that trusts %s let a token of %s in", issuer, p.issuer)
		}
		other.stop(t)
	}

	mounted := serveTenant(t, database{name: "sqlite"}, true)
	if found, err := mounted.doctor(t); err == nil {
		t.Errorf("a proxy that keeps two addresses back: %+v", found)
	}
}

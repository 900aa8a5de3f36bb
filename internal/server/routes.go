package server

import (
	"net/http"

	"github.com/postern-id/postern/internal/admin"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/web"
)

// Who says who may call a route. It is written beside the path so that a
// reader of the list sees it; the handler is what checks it.
type Who string

// The callers.
const (
	Anyone         Who = "anyone"          // public; what it does depends on nobody
	Client         Who = "client"          // authenticates as it registered
	OwnClient      Who = "own client"      // its registration access token
	Bearer         Who = "access token"    // an access token of this project
	Browser        Who = "browser"         // the cookie of the flow it belongs to
	Administrator  Who = "administrator"   // a session of the dashboard; otherwise to its door first
	Person         Who = "person"          // a hosted session; otherwise to sign-in first
	ResourceServer Who = "resource server" // its own secret, the project's, or the client for its own tokens
)

// Route is one address of the server.
type Route struct {
	Method string // "GET" also answers HEAD
	Path   string // ServeMux pattern
	Who    Who
	CORS   bool // any origin, without credentials (MCP-AS-10); never on a page
	handle http.Handler
}

// machines are the endpoints that programs call: no cookie is read, and what
// browsers of other origins may call says so.
func (a *assembly) machines() []Route {
	o := a.oauth
	h := o.Handle
	routes := []Route{
		{"GET", oauth.PathMetadata, Anyone, true, h(o.Metadata)},
		{"GET", oauth.PathDiscovery, Anyone, true, h(o.Metadata)},
		{"GET", oauth.PathJWKS, Anyone, true, h(o.JWKS)},
		{"GET", "/v1/sessions/jwks/{project_id}", Anyone, true, thisProject(h(o.JWKS))},
		{"GET", "/v1/b2b/sessions/jwks/{project_id}", Anyone, true, thisProject(h(o.JWKS))},
	}
	for _, op := range a.api.Operations() {
		routes = append(routes, Route{op.Method, op.Path, Who(op.Who), op.CORS, op.Handler})
	}
	// Every endpoint stands at its own address and at the one below the
	// project's id that the published SDKs use.
	for _, twin := range []struct {
		prefix string
		wrap   func(http.Handler) http.Handler
	}{
		{"/v1/oauth2", func(next http.Handler) http.Handler { return next }},
		{"/v1/public/{project_id}/oauth2", thisProject},
	} {
		routes = append(routes,
			Route{"POST", twin.prefix + "/register", Anyone, true, twin.wrap(h(o.Register))},
			Route{"GET", twin.prefix + "/register/{client_id}", OwnClient, true, twin.wrap(h(o.ReadRegistration))},
			Route{"PUT", twin.prefix + "/register/{client_id}", OwnClient, true, twin.wrap(h(o.ReplaceRegistration))},
			Route{"DELETE", twin.prefix + "/register/{client_id}", OwnClient, true, twin.wrap(h(o.DeleteRegistration))},
			Route{"POST", twin.prefix + "/token", Client, true, twin.wrap(h(o.Token))},
			Route{"POST", twin.prefix + "/introspect", ResourceServer, false, twin.wrap(h(o.Introspect))},
			Route{"POST", twin.prefix + "/revoke", Client, true, twin.wrap(h(o.Revoke))},
			Route{"GET", twin.prefix + "/userinfo", Bearer, true, twin.wrap(h(o.Userinfo))},
			Route{"POST", twin.prefix + "/userinfo", Bearer, true, twin.wrap(h(o.Userinfo))},
		)
	}
	return routes
}

// people are the pages, and what they are made of. Only our own pages may post
// to them (RFC 9700 §4.7.1), but for logout, which other programs' pages may
// start and which asks before it does anything, and for an authorization
// request by a form, which becomes a GET.
func (a *assembly) people(assets http.Handler) []Route {
	l := a.login
	often, authorize := a.limit(pageLimit(), l.Error), a.limit(authorizeLimit(), l.Error)
	fromAnywhere := func(h web.Handler) http.Handler { return often(web.Handle(h, l.Error)) }
	ours := web.SameOrigin(l.OtherSite, l.Error)
	page := func(h web.Handler) http.Handler { return often(ours(web.Handle(h, l.Error))) }
	routes := []Route{
		{"GET", oauth.PathAuthorize, Anyone, false, authorize(page(l.Authorize))},
		{"POST", oauth.PathAuthorize, Anyone, false, authorize(fromAnywhere(l.AuthorizeForm))},
		{"GET", "/login", Anyone, false, page(l.SignIn)},
		{"GET", "/switch-organization", Anyone, false, page(l.SwitchOrganization)},
		{"GET", "/flow/{flow}", Browser, false, page(l.Flow)},
		{"GET", "/flow/{flow}/email", Browser, false, page(l.Again)},
		{"POST", "/flow/{flow}/email", Browser, false, page(l.SendCode)},
		{"GET", "/flow/{flow}/code", Browser, false, page(l.Again)},
		{"POST", "/flow/{flow}/code", Browser, false, page(l.RedeemCode)},
		{"GET", "/flow/{flow}/organization", Browser, false, page(l.Organization)},
		{"POST", "/flow/{flow}/organization", Browser, false, page(l.Organization)},
		{"GET", "/flow/{flow}/consent", Browser, false, page(l.Again)},
		{"POST", "/flow/{flow}/consent", Browser, false, page(l.Consent)},
		{"GET", "/connected-apps", Person, false, page(l.ConnectedApps)},
		{"POST", "/connected-apps", Person, false, page(l.ChangeApps)},
		{"GET", "/organization", Person, false, page(l.OrganizationSettings)},
		{"POST", "/organization", Person, false, page(l.OrganizationSettings)},
		{"GET", "/organization/members", Person, false, page(l.Members)},
		{"POST", "/organization/members", Person, false, page(l.Members)},
		{"GET", "/organization/connected-apps", Person, false, page(l.OrganizationApps)},
		{"POST", "/organization/connected-apps", Person, false, page(l.OrganizationApps)},
		{"GET", "/organization/sso", Person, false, page(l.OrganizationSSO)},
		{"POST", "/organization/sso", Person, false, page(l.OrganizationSSO)},
		{"GET", "/organization/sso/test", Person, false, page(l.TestSSO)},
		{"GET", "/flow/{flow}/sso", Browser, false, page(l.SSO)},
		{"POST", "/flow/{flow}/sso", Browser, false, page(l.SSO)},
		{"GET", signin.CallbackPath + "{organization}", Browser, false, page(l.SSOCallback)},
		{"GET", "/sign-out", Person, false, page(l.SignOut)},
		{"POST", "/sign-out", Person, false, page(l.SignOut)},
		{"GET", oauth.PathLogout, Anyone, false, fromAnywhere(l.Logout)},
		{"POST", oauth.PathLogout, Anyone, false, fromAnywhere(l.Logout)},
		{"GET", "/logo/{digest}", Anyone, false, page(l.Logo)},
		{"GET", web.AssetsPath, Anyone, false, assets},
		{"GET", "/{$}", Anyone, false, page(l.Home)},
	}
	if a.dev != nil && a.dev.Mailbox != nil {
		routes = append(routes,
			Route{"GET", DevMailbox, Anyone, false, a.dev.Mailbox},
			Route{"GET", DevMailboxJSON, Anyone, false, a.dev.Mailbox},
		)
	}
	return routes
}

// administrators are the pages of the dashboard, on the deployment's own URL.
func (a *assembly) administrators(assets http.Handler) []Route {
	d := a.admin
	often, ours := a.limit(pageLimit(), d.Error), web.SameOrigin(d.OtherSite, d.Error)
	page := func(h web.Handler) http.Handler { return often(ours(web.Handle(h, d.Error))) }
	const one = admin.Path + "/projects/{project}"
	routes := []Route{
		{"GET", admin.Path, Administrator, false, page(d.Home)},
		{"GET", one + "/activity/export", Administrator, false, page(d.ExportActivity)},
		{"GET", admin.Path + "/activity/export", Administrator, false, page(d.ExportActivity)},
		{"GET", one + "/activity", Administrator, false, page(d.Activity)},
		{"GET", admin.Path + "/activity", Administrator, false, page(d.Activity)},
		{"GET", one + "/attempts", Administrator, false, page(d.Attempts)},
		{"GET", one + "/attempts/{code}", Administrator, false, page(d.Attempts)},
		{"GET", one + "/logo/{digest}", Administrator, false, a.limit(machineLimit(), d.Error)(ours(web.Handle(d.Logo, d.Error)))}, // a list has dozens
		{"GET", one + "/users", Administrator, false, page(d.Users)},
		{"GET", one + "/organizations/{organization}/sso", Administrator, false, page(d.OrganizationSSO)},
		{"GET", admin.Path + "/setup", Anyone, false, page(d.Setup)},
		{"POST", admin.Path + "/setup", Anyone, false, page(d.Setup)},
		{"GET", admin.Path + "/sign-in", Anyone, false, page(d.SignIn)},
		{"POST", admin.Path + "/sign-in", Anyone, false, page(d.SignIn)},
		{"POST", admin.Path + "/sign-in/challenge", Anyone, false, page(d.Challenge)},
		{"POST", admin.Path + "/sign-out", Administrator, false, page(d.SignOut)},
		{"POST", admin.Path + "/you/add", Administrator, false, page(d.AddWay)},
		{"GET", web.AssetsPath, Anyone, false, assets},
		{"GET", "/{$}", Anyone, false, http.RedirectHandler(admin.Path, http.StatusSeeOther)},
	}
	// A page takes its own forms; those above have none.
	for _, p := range []struct {
		path   string
		handle web.Handler
	}{
		{admin.Path + "/projects", d.ProjectList},
		{admin.Path + "/you", d.You},
		{one, d.Overview},
		{one + "/apps", d.AppList},
		{one + "/apps/{app}", d.App},
		{one + "/apps/{app}/{tab}", d.App},
		{one + "/users/{user}", d.User},
		{one + "/organizations", d.Organizations},
		{one + "/organizations/{organization}", d.Organization},
		{one + "/organizations/{organization}/members", d.Members},
		{one + "/organizations/{organization}/members/{member}", d.Member},
		{one + "/organizations/{organization}/apps", d.OrganizationApps},
		{one + "/roles", d.Roles},
		{one + "/resources", d.Resources},
		{one + "/resources/{resource}", d.Resource},
		{one + "/resources/{resource}/{page}", d.Resource},
		{one + "/keys", d.SigningKeys},
		{one + "/settings", d.Settings},
		{one + "/settings/issuer", d.Issuer},
	} {
		routes = append(routes,
			Route{"GET", p.path, Administrator, false, page(p.handle)},
			Route{"POST", p.path, Administrator, false, page(p.handle)},
		)
	}
	return routes
}

// thisProject refuses a path that names another project than the host's.
func thisProject(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("project_id") != project.FromContext(r.Context()).ID {
			refuse(w, http.StatusNotFound, "not_found", "This host serves another project. The project's own address is its issuer.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// mux registers routes. A route with CORS also answers OPTIONS.
func mux(routes []Route) *http.ServeMux {
	m := http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range routes {
		if r.CORS {
			methods[r.Path] = append(methods[r.Path], r.Method)
		}
	}
	for path, allowed := range methods {
		m.Handle("OPTIONS "+path, web.CORS(allowed...)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNoContent)
		})))
	}
	for _, r := range routes {
		h := r.handle
		if r.CORS {
			h = web.CORS(methods[r.Path]...)(h)
		}
		m.Handle(r.Method+" "+r.Path, h)
	}
	return m
}

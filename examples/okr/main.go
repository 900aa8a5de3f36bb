// Okr is an OKR manager for organizations and for the agents that their members
// let in: a web page, a REST API and an MCP server in front of one [Service].
//
// It reads top to bottom. service.go keeps the objectives and has nothing to do
// with HTTP. mcp.go, rest.go and page.go are its three doors, and agents.go
// notes what the guard in front of them refused. This file reads the settings,
// says what each operation does to what (see acts), declares the scopes (see
// newGuard), puts the doors side by side (see newHandler) and serves them. Who
// may do what is in policy.yaml, which the issuer keeps: roles there, and which
// scope permits which act. Everything about OAuth is in package guard, and in
// guard/websession for the page's sign-in.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/mcpguard"
	"github.com/postern-id/postern/guard/websession"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv); err != nil {
		fmt.Fprintln(os.Stderr, "okr:", err)
		os.Exit(1)
	}
}

// settings come from the environment.
type settings struct {
	url          *url.URL // OKR_URL: where people and clients find us
	listen       []string // OKR_LISTEN: the address we listen on
	issuer       string   // OKR_ISSUER, or POSTERN_ISSUER: who signs people in
	clientID     string   // OKR_CLIENT_ID: this web page, as the issuer knows it
	clientSecret string   // OKR_CLIENT_SECRET: empty for a public client
	data         string   // OKR_DATA: the SQLite file
	organization string   // OKR_ORGANIZATION_URL: the issuer's page of the organization and its members

	// OKR_INTROSPECTION_ID and OKR_INTROSPECTION_SECRET, which the issuer made for
	// this resource server: with them it is asked about every token. nil without.
	introspection *guard.Introspection

	client *http.Client     // for requests to the issuer; nil is the guard's own
	now    func() time.Time // the clock for tokens; nil is the system's
}

func readSettings(getenv func(string) string) (settings, error) {
	port := cmp.Or(getenv("OKR_PORT"), "3001")
	address := cmp.Or(getenv("OKR_URL"), "http://localhost:"+port)
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || address != u.Scheme+"://"+u.Host {
		return settings{}, fmt.Errorf("OKR_URL is %q; it must be an address without a path, such as https://okr.example.com", address)
	}
	set := settings{
		url:          u,
		issuer:       cmp.Or(getenv("OKR_ISSUER"), getenv("POSTERN_ISSUER"), "http://localhost:4001"),
		clientID:     getenv("OKR_CLIENT_ID"),
		clientSecret: getenv("OKR_CLIENT_SECRET"),
		data:         getenv("OKR_DATA"),
	}
	set.organization = cmp.Or(getenv("OKR_ORGANIZATION_URL"), strings.TrimSuffix(set.issuer, "/")+"/organization")
	if set.clientID == "" {
		return settings{}, fmt.Errorf("OKR_CLIENT_ID is missing: register a client with the redirect URI %s%s at %s, or start this program with `postern dev -- …`, which does it for you",
			u, websession.CallbackPath, set.issuer)
	}
	if in := (guard.Introspection{ID: getenv("OKR_INTROSPECTION_ID"), Secret: getenv("OKR_INTROSPECTION_SECRET")}); in != (guard.Introspection{}) {
		if in.ID == "" || in.Secret == "" {
			return settings{}, errors.New("OKR_INTROSPECTION_ID and OKR_INTROSPECTION_SECRET belong together: both are what `postern resource add … --secret` printed, or neither is set")
		}
		set.introspection = &in
	}
	switch listen := getenv("OKR_LISTEN"); {
	case listen != "":
		set.listen = []string{listen}
	case u.Hostname() == "localhost": // which is either, as the browser likes
		port = cmp.Or(u.Port(), "80")
		set.listen = []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}
	default: // a proxy on this computer passes requests on
		set.listen = []string{net.JoinHostPort("127.0.0.1", port)}
	}
	if set.data == "" {
		set.data = "okr.db"
		if info, err := os.Stat(".postern"); err == nil && info.IsDir() {
			set.data = filepath.Join(".postern", "okr.db")
		}
	}
	return set, nil
}

func run(ctx context.Context, getenv func(string) string) error {
	set, err := readSettings(getenv)
	if err != nil {
		return err
	}
	listeners, err := listen(set.listen)
	if err != nil {
		return err
	}
	service, err := OpenService(ctx, set.data)
	if err != nil {
		return err
	}
	defer service.Close()
	handler, err := newHandler(set, service)
	if err != nil {
		return err
	}
	fmt.Printf("OKR is at %s, its MCP server at %s/mcp\n", set.url, set.url)
	return serve(ctx, listeners, handler)
}

// listen opens the addresses. A computer without IPv6 does with one of two.
func listen(addresses []string) ([]net.Listener, error) {
	var listeners []net.Listener
	for _, address := range addresses {
		l, err := net.Listen("tcp", address) //nolint:noctx // at once, or not at all
		switch {
		case errors.Is(err, syscall.EADDRINUSE):
			_, port, _ := net.SplitHostPort(address)
			return nil, fmt.Errorf("another program listens on port %s; choose another with OKR_PORT", port)
		case err != nil && len(listeners) > 0:
			slog.Warn("not listening", "address", address, "error", err)
		case err != nil:
			return nil, err
		default:
			listeners = append(listeners, l)
		}
	}
	return listeners, nil
}

// serve serves until ctx ends, then lets running requests finish for a second.
// What still runs after that are event streams, which never end by themselves.
func serve(ctx context.Context, listeners []net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- server.Serve(l) }()
	}
	select {
	case err := <-failed:
		server.Close()
		return err
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := server.Shutdown(patience); err != nil {
		server.Close()
	}
	return nil
}

// The operations. Each is a tool and a REST route of the same meaning, and all
// but the first are forms of the page.
const (
	listObjectives         = "listObjectives"
	addObjective           = "addObjective"
	deleteObjective        = "deleteObjective"
	addKeyResult           = "addKeyResult"
	setKeyResultAttainment = "setKeyResultAttainment"
	deleteKeyResult        = "deleteKeyResult"
)

// acts says what each operation does to what, in the words of policy.yaml.
// Tools, REST routes and forms are all judged by it.
func acts() map[string]guard.Act {
	return map[string]guard.Act{
		listObjectives:         {Resource: "objective", Action: "read"},
		addObjective:           {Resource: "objective", Action: "create"},
		deleteObjective:        {Resource: "objective", Action: "delete"},
		addKeyResult:           {Resource: "key_result", Action: "create"},
		setKeyResultAttainment: {Resource: "key_result", Action: "update"},
		deleteKeyResult:        {Resource: "key_result", Action: "delete"},
	}
}

// permission is the rule of an operation.
func permission(operation string) guard.Rule {
	act := acts()[operation]
	return guard.Permission(act.Resource, act.Action)
}

// What a person can allow. policy.yaml says which acts each permits.
const (
	readOKRs         = "read:okrs"
	reportStatus     = "report_kr_status"
	manageKeyResults = "manage:krs"
	manageObjectives = "manage:objectives"
)

// newGuard says who may do what. REST routes name their operation where they
// are registered.
func newGuard(set settings) (*guard.Guard, error) {
	tools := map[string]guard.Rule{}
	for _, operation := range slices.Collect(maps.Keys(acts())) {
		tools[operation] = permission(operation)
	}
	// Which objectives and key results there are to read is judged one by one.
	anything := guard.AnyOf(readOKRs, reportStatus, manageKeyResults, manageObjectives)
	return guard.New(guard.Config{
		Issuer:   set.issuer,
		Resource: set.url.String() + "/mcp",
		Aliases:  []string{set.url.String() + "/sse"},
		Name:     "OKR manager",
		Scopes: []guard.Scope{
			{Name: readOKRs, Description: "Read objectives and key results"},
			{Name: reportStatus, Description: "Read key results and say how far they are", Write: true},
			{Name: manageKeyResults, Description: "Add, change and delete key results", Write: true},
			{Name: manageObjectives, Description: "Add and delete objectives", Write: true},
		},
		Tools:         tools,
		Methods:       map[string]guard.Rule{"resources/list": anything, "resources/read": anything},
		Introspection: set.introspection,
		HTTPClient:    set.client,
		Now:           set.now,
		Logger:        slog.Default(),
	})
}

// newHandler puts the doors side by side.
func newHandler(set settings, service *Service) (http.Handler, error) {
	g, err := newGuard(set)
	if err != nil {
		return nil, err
	}
	page := newPage(service, set)
	sessions, err := websession.New(websession.Config{
		Guard:        g,
		Resource:     set.url.String() + "/mcp",
		URL:          set.url.String(),
		ClientID:     set.clientID,
		ClientSecret: set.clientSecret,
		Scopes:       []string{"openid", "email", "profile", readOKRs, reportStatus, manageKeyResults, manageObjectives},
		CookieName:   "okr_session",
		Fail:         page.fail,
		HTTPClient:   set.client,
		Now:          set.now,
		Logger:       slog.Default(),
	})
	if err != nil {
		return nil, err
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })

	// For agents: two transports, one MCP server, one guard.
	refusals := &refusals{guard: g, service: service, ownClient: set.clientID}
	streamable, sse := newMCP(service, g)
	mux.Handle("/mcp", refusals.ofTools(mcpguard.Protect(g, members(streamable))))
	mux.Handle("/sse", refusals.ofTools(mcpguard.Protect(g, members(sse))))
	mux.Handle("/.well-known/", g.Metadata())

	// For programs: the page's cookie or a bearer token.
	rest := &rest{service: service, ownClient: set.clientID}
	type route struct {
		operation string
		handle    http.HandlerFunc
	}
	for path, methods := range map[string]map[string]route{
		"/api/objectives": {
			http.MethodGet:  {listObjectives, rest.list},
			http.MethodPost: {addObjective, rest.addObjective},
		},
		"/api/objectives/{okrID}": {
			http.MethodDelete: {deleteObjective, rest.deleteObjective},
		},
		"/api/objectives/{okrID}/keyresults": {
			http.MethodPost: {addKeyResult, rest.addKeyResult},
		},
		"/api/objectives/{okrID}/keyresults/{keyResultID}": {
			http.MethodDelete: {deleteKeyResult, rest.deleteKeyResult},
		},
		"/api/objectives/{okrID}/keyresults/{keyResultID}/attainment": {
			http.MethodPost: {setKeyResultAttainment, rest.setAttainment},
		},
	} {
		for method, route := range methods {
			judged := sessions.API(g.Require(permission(route.operation), members(route.handle)))
			mux.Handle(method+" "+path, refusals.of(route.operation, judged))
		}
		mux.Handle(path, onlyMethods(slices.Sorted(maps.Keys(methods))))
	}
	mux.HandleFunc("/api/", rest.nothingHere)

	// For people.
	mux.Handle("GET /{$}", sessions.Optional(http.HandlerFunc(page.home)))
	mux.Handle("POST /objectives", sessions.Page(http.HandlerFunc(page.addObjective)))
	mux.Handle("POST /objectives/{okrID}/delete", sessions.Page(http.HandlerFunc(page.deleteObjective)))
	mux.Handle("POST /objectives/{okrID}/keyresults", sessions.Page(http.HandlerFunc(page.addKeyResult)))
	mux.Handle("POST /objectives/{okrID}/keyresults/{keyResultID}/attainment", sessions.Page(http.HandlerFunc(page.setAttainment)))
	mux.Handle("POST /objectives/{okrID}/keyresults/{keyResultID}/delete", sessions.Page(http.HandlerFunc(page.deleteKeyResult)))
	mux.HandleFunc("GET "+websession.LoginPath, sessions.Login)
	mux.HandleFunc("GET "+switchPath, func(w http.ResponseWriter, r *http.Request) { sessions.Login(choosing{w}, r) })
	mux.HandleFunc("GET "+websession.CallbackPath, sessions.Callback)
	mux.HandleFunc("POST "+websession.LogoutPath, sessions.Logout)
	mux.Handle("GET /static/", staticFiles())

	return onlyHost(set.url, secureHeaders(set.issuer, mux)), nil
}

// switchPath is where a person signs in again, to choose another organization.
const switchPath = "/switch"

// choosing lets a sign-in ask which organization, also who chose one already
// (OpenID Connect Core 1.0 §3.1.2.1, prompt).
type choosing struct{ http.ResponseWriter }

func (w choosing) WriteHeader(status int) {
	if target, err := url.Parse(w.Header().Get("Location")); err == nil && status == http.StatusSeeOther {
		q := target.Query()
		q.Set("prompt", "select_account")
		target.RawQuery = q.Encode()
		w.Header().Set("Location", target.String())
	}
	w.ResponseWriter.WriteHeader(status)
}

// members lets nobody pass who acts outside any organization: there is nothing
// that could be theirs. It stands behind the guard.
func members(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if guard.FromContext(r.Context()).Organization == "" {
			refuse(w, http.StatusForbidden, "access_denied", "Objectives belong to organizations, and this access token names none.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// onlyMethods answers any other method on a path.
func onlyMethods(methods []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", strings.Join(methods, ", "))
		refuse(w, http.StatusMethodNotAllowed, "method_not_allowed", "This path answers to "+strings.Join(methods, " and ")+" only.")
	})
}

// onlyHost answers for our own host only, so that no page on another name that
// points at this computer can use us (DNS rebinding). Who typed the address of
// this computer in numbers is sent to its name, where the cookies are.
func onlyHost(u *url.URL, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			name = r.Host
		}
		ip := net.ParseIP(name)
		switch {
		case r.Host == u.Host, r.URL.Path == "/healthz":
			next.ServeHTTP(w, r)
		case ip != nil && ip.IsLoopback() && r.Method == http.MethodGet:
			http.Redirect(w, r, u.String()+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		default:
			http.Error(w, "This server answers at "+u.String()+" only. A proxy in front of it must pass the Host header on.", http.StatusMisdirectedRequest)
		}
	})
}

// secureHeaders lets a page load nothing but our own files and be framed by
// nobody. Forms may lead to the issuer: that is where signing in goes.
func secureHeaders(issuer string, next http.Handler) http.Handler {
	origin := "'self'"
	if u, err := url.Parse(issuer); err == nil {
		origin += " " + u.Scheme + "://" + u.Host
	}
	policy := "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action " + origin + "; base-uri 'none'; frame-ancestors 'none'"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

// Todo is a to-do list for people and for the agents they let in: a web page,
// a REST API and an MCP server in front of one [Service].
//
// It reads top to bottom. service.go keeps the lists and has nothing to do
// with HTTP. mcp.go, rest.go and page.go are its three doors. This file reads
// the settings, declares the scopes and who needs which (see newGuard), puts
// the doors side by side (see newHandler) and serves them. Everything about
// OAuth is in package guard, and in guard/websession for the page's sign-in.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
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
		fmt.Fprintln(os.Stderr, "todo:", err)
		os.Exit(1)
	}
}

// settings come from the environment.
type settings struct {
	url          *url.URL // TODO_URL: where people and clients find us
	listen       []string // TODO_LISTEN: the address we listen on
	issuer       string   // POSTERN_ISSUER: who signs people in
	clientID     string   // TODO_CLIENT_ID: this web page, as the issuer knows it
	clientSecret string   // TODO_CLIENT_SECRET: empty for a public client
	data         string   // TODO_DATA: the SQLite file

	// TODO_INTROSPECTION_ID and TODO_INTROSPECTION_SECRET, which the issuer made
	// for this resource server: with them it is asked about every token. nil without.
	introspection *guard.Introspection

	client *http.Client // for requests to the issuer; nil is the guard's own
}

func readSettings(getenv func(string) string) (settings, error) {
	port := cmp.Or(getenv("TODO_PORT"), "3000")
	address := cmp.Or(getenv("TODO_URL"), "http://localhost:"+port)
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || address != u.Scheme+"://"+u.Host {
		return settings{}, fmt.Errorf("TODO_URL is %q; it must be an address without a path, such as https://todo.example.com", address)
	}
	set := settings{
		url:          u,
		issuer:       cmp.Or(getenv("POSTERN_ISSUER"), "http://localhost:4000"),
		clientID:     getenv("TODO_CLIENT_ID"),
		clientSecret: getenv("TODO_CLIENT_SECRET"),
		data:         getenv("TODO_DATA"),
	}
	if set.clientID == "" {
		return settings{}, fmt.Errorf("TODO_CLIENT_ID is missing: register a client with the redirect URI %s%s at %s, or start this program with `postern dev -- …`, which does it for you",
			u, websession.CallbackPath, set.issuer)
	}
	if in := (guard.Introspection{ID: getenv("TODO_INTROSPECTION_ID"), Secret: getenv("TODO_INTROSPECTION_SECRET")}); in != (guard.Introspection{}) {
		if in.ID == "" || in.Secret == "" {
			return settings{}, errors.New("TODO_INTROSPECTION_ID and TODO_INTROSPECTION_SECRET belong together: both are what Postern shows when a secret for this resource server is made, or neither is set")
		}
		set.introspection = &in
	}
	switch listen := getenv("TODO_LISTEN"); {
	case listen != "":
		set.listen = []string{listen}
	case u.Hostname() == "localhost": // which is either, as the browser likes
		port = cmp.Or(u.Port(), "80")
		set.listen = []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)}
	default: // a proxy on this computer passes requests on
		set.listen = []string{net.JoinHostPort("127.0.0.1", port)}
	}
	if set.data == "" {
		set.data = "todo.db"
		if info, err := os.Stat(".postern"); err == nil && info.IsDir() {
			set.data = filepath.Join(".postern", "todo.db")
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
	fmt.Printf("Todo is at %s, its MCP server at %s/mcp\n", set.url, set.url)
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
			return nil, fmt.Errorf("another program listens on port %s; choose another with TODO_PORT", port)
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

// The two things a person can allow.
const (
	readTodos  = "read:todos"
	writeTodos = "write:todos"
)

// newGuard says who may do what. REST routes name their rule where they are
// registered.
func newGuard(set settings) (*guard.Guard, error) {
	return guard.New(guard.Config{
		Issuer:   set.issuer,
		Resource: set.url.String() + "/mcp",
		Aliases:  []string{set.url.String() + "/sse"},
		Name:     "Todo",
		Scopes: []guard.Scope{
			{Name: readTodos, Description: "Read your to-dos"},
			{Name: writeTodos, Description: "Add, complete and delete your to-dos", Write: true},
		},
		Tools: map[string]guard.Rule{
			"listTodos":        guard.AllOf(readTodos),
			"readTodo":         guard.AllOf(readTodos),
			"createTodo":       guard.AllOf(writeTodos),
			"markTodoComplete": guard.AllOf(writeTodos),
			"deleteTodo":       guard.AllOf(writeTodos),
		},
		Methods: map[string]guard.Rule{
			"resources/list": guard.AllOf(readTodos),
			"resources/read": guard.AllOf(readTodos),
		},
		Introspection: set.introspection,
		HTTPClient:    set.client,
		Logger:        slog.Default(),
	})
}

// newHandler puts the doors side by side.
func newHandler(set settings, service *Service) (http.Handler, error) {
	g, err := newGuard(set)
	if err != nil {
		return nil, err
	}
	page := newPage(service, set.url.String(), set.issuer)
	sessions, err := websession.New(websession.Config{
		Guard:        g,
		Resource:     set.url.String() + "/mcp",
		URL:          set.url.String(),
		ClientID:     set.clientID,
		ClientSecret: set.clientSecret,
		Scopes:       []string{"openid", "email", readTodos, writeTodos},
		CookieName:   "todo_session",
		Fail:         page.fail,
		HTTPClient:   set.client,
		Logger:       slog.Default(),
	})
	if err != nil {
		return nil, err
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })

	// For agents: two transports, one MCP server, one guard.
	streamable, sse := newMCP(service, g)
	mux.Handle("/mcp", mcpguard.Protect(g, streamable))
	mux.Handle("/sse", mcpguard.Protect(g, sse))
	mux.Handle("/.well-known/", g.Metadata())

	// For programs: the page's cookie or a bearer token.
	rest := &rest{service: service, ownClient: set.clientID}
	methods := map[string][]string{}
	for pattern, route := range map[string]struct {
		scope  string
		handle http.HandlerFunc
	}{
		"GET /api/todos":                {readTodos, rest.list},
		"GET /api/todos/{id}":           {readTodos, rest.read},
		"POST /api/todos":               {writeTodos, rest.create},
		"POST /api/todos/{id}/complete": {writeTodos, rest.complete},
		"DELETE /api/todos/{id}":        {writeTodos, rest.delete},
	} {
		mux.Handle(pattern, sessions.API(g.Require(guard.AllOf(route.scope), route.handle)))
		method, path, _ := strings.Cut(pattern, " ")
		methods[path] = append(methods[path], method)
	}
	for path, allowed := range methods {
		mux.HandleFunc(path, rest.otherMethod(allowed...))
	}
	mux.HandleFunc("/api/", rest.nothingHere)

	// For people.
	mux.Handle("GET /{$}", sessions.Optional(http.HandlerFunc(page.home)))
	mux.Handle("POST /todos", sessions.Page(http.HandlerFunc(page.create)))
	mux.Handle("POST /todos/{id}/complete", sessions.Page(page.change(service.Complete)))
	mux.Handle("POST /todos/{id}/delete", sessions.Page(page.change(service.Delete)))
	mux.HandleFunc("GET "+websession.LoginPath, sessions.Login)
	mux.HandleFunc("GET "+websession.CallbackPath, sessions.Callback)
	mux.HandleFunc("POST "+websession.LogoutPath, sessions.Logout)
	mux.Handle("GET /static/", staticFiles())

	return onlyHost(set.url, secureHeaders(set.issuer, mux)), nil
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

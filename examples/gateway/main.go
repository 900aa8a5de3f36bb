// Command gateway protects an MCP server that runs elsewhere and cannot be
// changed: it stands in front of it, asks for tokens with package guard, and
// passes on what it lets through, events as they come.
//
//	gateway -issuer http://localhost:4000 -resource http://localhost:8080/mcp -upstream http://127.0.0.1:9000/mcp
//
// The server behind it must listen where nobody but the gateway reaches it: it
// is never shown a token. It has one scope, which permits everything; a gateway
// that knows the server's tools declares more and says in [guard.Config] what
// each tool needs.
package main

import (
	"flag"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	"github.com/postern-id/postern/guard"
)

var scopes = []guard.Scope{{Name: "mcp", Description: "Use everything that this server offers", Write: true}}

func main() {
	issuer := flag.String("issuer", "http://localhost:4000", "the authorization server that is trusted")
	resource := flag.String("resource", "http://localhost:8080/mcp", "the `URL` that clients use")
	upstream := flag.String("upstream", "", "the `URL` of the MCP server behind this one")
	flag.Parse()
	g, err := guard.New(guard.Config{Issuer: *issuer, Resource: *resource, Scopes: scopes, Logger: slog.Default()})
	if err != nil {
		log.Fatal(err)
	}
	handler, address, err := newGateway(g, *resource, *upstream)
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute}
	log.Fatal(server.ListenAndServe())
}

// newGateway puts guard in front of an MCP server. address is the host and port
// of the resource, where it is meant to listen.
func newGateway(g *guard.Guard, resource, upstream string) (handler http.Handler, address string, err error) {
	outside, err := url.Parse(resource)
	if err != nil {
		return nil, "", fmt.Errorf("resource: %w", err)
	}
	inside, err := url.Parse(upstream)
	if err != nil || inside.Host == "" {
		return nil, "", fmt.Errorf("upstream: %q is no URL of an MCP server, such as http://127.0.0.1:9000/mcp", upstream)
	}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.URL.Path, r.Out.URL.RawPath = inside.Scheme, inside.Host, inside.Path, inside.RawPath
			r.Out.Host = inside.Host
		},
		FlushInterval: -1, // each event as it comes
	}
	mux := http.NewServeMux()
	mux.Handle(outside.Path, g.Protect(forward))
	mux.Handle("/.well-known/", g.Metadata())
	// The server behind sees its own name, so a page on another name that points
	// at this computer (DNS rebinding) has to be turned away here.
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != outside.Host {
			http.Error(w, "This server answers at "+resource+" only.", http.StatusMisdirectedRequest)
			return
		}
		mux.ServeHTTP(w, r)
	}), outside.Host, nil
}

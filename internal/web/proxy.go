package web

import (
	"context"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Proxy finds out who asks when a reverse proxy stands in front. Trusted is the
// networks that proxies ask from; where it is empty, nobody's word is taken.
//
// A trusted proxy must set X-Forwarded-Host and X-Forwarded-Proto itself and
// not pass on what it was sent, and append to X-Forwarded-For.
type Proxy struct{ Trusted []netip.Prefix }

// origin is what we know of a request's way here.
type origin struct {
	client netip.Addr
	host   string
	scheme string
}

type originKey struct{}

// Wrap works out ClientIP, Host and Scheme for the requests of next.
func (p Proxy) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), originKey{}, p.origin(r))))
	})
}

// ClientIP returns the address of the client, behind the trusted proxies. It is
// the zero Addr where the listener knows none.
func ClientIP(r *http.Request) netip.Addr { return originOf(r).client }

// Host returns host and port as the client wrote them, in lower case. It is
// what the request says: good for choosing a project, never for building an
// address.
func Host(r *http.Request) string { return originOf(r).host }

// Scheme returns "http" or "https", as the client sees us.
func Scheme(r *http.Request) string { return originOf(r).scheme }

func originOf(r *http.Request) origin {
	if known, ok := r.Context().Value(originKey{}).(origin); ok {
		return known
	}
	return direct(r)
}

// direct is the origin of a request that no proxy forwarded.
func direct(r *http.Request) origin {
	o := origin{host: strings.ToLower(r.Host), scheme: "http"}
	if r.TLS != nil {
		o.scheme = "https"
	}
	if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		o.client = peer.Addr().Unmap()
	}
	return o
}

// hostForm is a name or address literal with an optional port.
var hostForm = regexp.MustCompile(`^([a-z0-9._-]{1,253}|\[[0-9a-f:.]{2,45}\])(:[0-9]{1,5})?$`)

func (p Proxy) origin(r *http.Request) origin {
	o := direct(r)
	if !p.trusts(o.client) {
		return o
	}
	// The list grows to the right, so the right end is what our own proxies
	// wrote. The first address from there that is not one of them is the client.
	// What stands further left is the client's own tale.
	hops := list(r.Header, "X-Forwarded-For")
	for _, hop := range slices.Backward(hops) {
		addr, err := netip.ParseAddr(hop)
		if err != nil || addr.Zone() != "" {
			break
		}
		o.client = addr.Unmap()
		if !p.trusts(o.client) {
			break
		}
	}
	if scheme := strings.ToLower(last(list(r.Header, "X-Forwarded-Proto"))); scheme == "http" || scheme == "https" {
		o.scheme = scheme
	}
	if host := strings.ToLower(last(list(r.Header, "X-Forwarded-Host"))); hostForm.MatchString(host) {
		o.host = host
	}
	return o
}

func (p Proxy) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(p.Trusted, func(network netip.Prefix) bool { return network.Contains(addr) })
}

// list returns the comma-separated values of all headers of a name, in order.
func list(h http.Header, name string) []string {
	var out []string
	for _, value := range h.Values(name) {
		for part := range strings.SplitSeq(value, ",") {
			out = append(out, strings.TrimSpace(part))
		}
	}
	return out
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

package oauth

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/project"
)

// maxURI bounds every URI that a client gives us.
const maxURI = 2048

// checkRedirectURI says whether a client may register uri (OAuth 2.1
// draft-ietf-oauth-v2-1-13 §2.3; decision 10): https, http on a loopback name,
// or a private-use scheme that the project allows. Nothing is a pattern.
func checkRedirectURI(p *project.Project, uri string) error {
	if len(uri) > maxURI {
		return invalidRedirectURI("A redirect URI is longer than %d bytes.", maxURI)
	}
	for i := range len(uri) {
		if c := uri[i]; c <= 0x20 || c >= 0x7f || c == '\\' || c == '"' || c == '<' || c == '>' || c == '`' || c == '{' || c == '}' || c == '|' || c == '^' {
			return invalidRedirectURI("A redirect URI has a character that a URI cannot have.")
		}
	}
	u, err := url.Parse(uri)
	if err != nil || u.Scheme == "" {
		return invalidRedirectURI("A redirect URI must be absolute, such as https://client.example/callback.")
	}
	if strings.Contains(uri, "#") {
		return invalidRedirectURI("A redirect URI must have no fragment.")
	}
	if strings.Contains(uri, "*") {
		return invalidRedirectURI("A redirect URI is compared as it stands; it must have no wildcard.")
	}
	// url.Parse lowers the scheme; what is compared later is the text.
	if !strings.HasPrefix(uri, u.Scheme+":") {
		return invalidRedirectURI("Write the scheme of a redirect URI in lower case.")
	}
	switch {
	case u.Scheme == "https" || u.Scheme == "http":
		if u.Host == "" || u.Hostname() == "" || u.Opaque != "" || u.User != nil {
			return invalidRedirectURI("A redirect URI must have a host and no user.")
		}
		if u.Scheme == "http" && !loopbackHost(u.Hostname()) {
			return invalidRedirectURI("A redirect URI must be https; plain http is for 127.0.0.1, [::1] and localhost only.")
		}
		return nil
	case len(uri) == len(u.Scheme)+1:
		return invalidRedirectURI("A redirect URI needs something after its scheme.")
	case slices.Contains(p.Settings.PrivateUseSchemes, u.Scheme):
		return nil
	default:
		return invalidRedirectURI("Redirect URIs of this scheme are not allowed here. Use https or a loopback address, or ask the operator to allow the scheme.")
	}
}

// loopbackHost is narrower than project.Loopback: the three names that RFC 8252
// §7.3 and OAuth 2.1 speak of, and no other way to write them.
func loopbackHost(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && (a == netip.MustParseAddr("127.0.0.1") || a == netip.IPv6Loopback())
}

// matchRedirectURI compares a requested redirect URI with the registered ones,
// byte for byte. The one exception is the port of an http loopback address,
// which a native client cannot know in advance (RFC 8252 §7.3).
func matchRedirectURI(registered []string, requested string) bool {
	if slices.Contains(registered, requested) {
		return true
	}
	want, ok := withoutLoopbackPort(requested)
	if !ok {
		return false
	}
	return slices.ContainsFunc(registered, func(r string) bool {
		have, ok := withoutLoopbackPort(r)
		return ok && have == want
	})
}

// withoutLoopbackPort cuts the port out of the text of an http loopback URI
// and leaves every other byte alone. It is false for all other URIs.
func withoutLoopbackPort(uri string) (string, bool) {
	rest, ok := strings.CutPrefix(uri, "http://")
	if !ok {
		return "", false
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	host := authority
	if h, port, err := net.SplitHostPort(authority); err == nil {
		if !validPort(port) {
			return "", false
		}
		host = h
		if strings.Contains(h, ":") {
			host = "[" + h + "]"
		}
	}
	switch host {
	case "localhost", "127.0.0.1", "[::1]":
		return host + tail, true
	default:
		return "", false
	}
}

func validPort(port string) bool {
	if port == "" || len(port) > 5 {
		return false
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

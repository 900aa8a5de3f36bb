package oauth

import (
	"net/url"
	"strings"
)

// Answer is what goes back to a client through the browser: a code or an error
// (RFC 6749 §4.1.2), always with iss (RFC 9207 §2).
type Answer struct {
	RedirectURI string // as the request named it, after it matched a registered one
	params      url.Values
}

// successAnswer carries a code.
func successAnswer(issuer, redirectURI, state, code string) Answer {
	v := url.Values{"code": {code}, "iss": {issuer}}
	if state != "" {
		v.Set("state", state)
	}
	return Answer{RedirectURI: redirectURI, params: v}
}

// errorAnswer carries a refusal.
func errorAnswer(issuer, redirectURI, state string, e *Error) Answer {
	v := url.Values{"error": {e.Code}, "iss": {issuer}}
	if e.Description != "" {
		v.Set("error_description", e.Description)
	}
	if state != "" {
		v.Set("state", state)
	}
	return Answer{RedirectURI: redirectURI, params: v}
}

// URL is the address to go to: the redirect URI with the answer added to its
// query, which stays as it was registered (RFC 6749 §3.1.2). Nothing else in
// Postern builds such an address.
func (a Answer) URL() string {
	separator := "?"
	if strings.Contains(a.RedirectURI, "?") {
		separator = "&"
		if strings.HasSuffix(a.RedirectURI, "?") || strings.HasSuffix(a.RedirectURI, "&") {
			separator = ""
		}
	}
	return a.RedirectURI + separator + a.params.Encode()
}

// Destination says where an answer goes, in the words of the consent page.
type Destination struct {
	Host     string // with port, "" for a private-use scheme
	Scheme   string
	Loopback bool // a program on the person's computer
	Private  bool // a program that opens links of Scheme
}

// DestinationOf reads a redirect URI that checkRedirectURI accepted.
func DestinationOf(redirectURI string) Destination {
	u, err := url.Parse(redirectURI)
	if err != nil {
		return Destination{}
	}
	d := Destination{Scheme: u.Scheme, Host: u.Host}
	switch u.Scheme {
	case "https":
		d.Loopback = loopbackHost(u.Hostname())
	case "http":
		d.Loopback = true
	default:
		d.Private, d.Host = true, ""
	}
	return d
}

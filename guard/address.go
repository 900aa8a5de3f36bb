package guard

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// address is one of the URLs of the resource, with what clients that use it
// are told: they refuse metadata for another URL than theirs (RFC 9728 §3.3).
type address struct {
	name       string // as configured
	url        *url.URL
	path       string // escaped, "" where there is none
	challenges challenges
	document   []byte // the protected-resource metadata
}

// newAddresses prepares Resource, which comes first, and Aliases.
func newAddresses(cfg Config, p *policy) ([]address, error) {
	resource, err := checkResource("Resource", cfg.Resource)
	if err != nil {
		return nil, err
	}
	origin := resource.Scheme + "://" + resource.Host
	addresses := []address{{name: cfg.Resource, url: resource, path: resource.EscapedPath()}}
	var problems []error
	for _, alias := range cfg.Aliases {
		u, err := checkResource("Aliases", alias)
		switch {
		case err != nil:
			problems = append(problems, err)
		case u.Scheme+"://"+u.Host != origin:
			problems = append(problems, fmt.Errorf("Aliases: %q is not at %s, where Resource is", alias, origin))
		case slices.ContainsFunc(addresses, func(a address) bool { return a.path == u.EscapedPath() }):
			problems = append(problems, fmt.Errorf("Aliases: %q is named twice", alias))
		default:
			addresses = append(addresses, address{name: alias, url: u, path: u.EscapedPath()})
		}
	}
	for i := range addresses {
		a := &addresses[i]
		a.challenges = newChallenges(origin+resourceMetadataPath+a.path, p.initial)
		a.document = newDocument(cfg, a.name)
	}
	return addresses, errors.Join(problems...)
}

func checkResource(field, s string) (*url.URL, error) {
	u, err := checkURL(field, s)
	if err == nil && u.Path == "/" {
		err = fmt.Errorf("%s: leave out the trailing slash of a URL without a path", field)
	}
	return u, err
}

// newDocument is the protected-resource metadata for one address.
func newDocument(cfg Config, resource string) []byte {
	doc := resourceMetadata{
		Resource: resource, AuthorizationServers: []string{cfg.Issuer},
		BearerMethods: []string{"header"}, Name: cfg.Name, Documentation: cfg.Documentation,
	}
	for _, s := range cfg.Scopes {
		doc.ScopesSupported = append(doc.ScopesSupported, s.Name)
		doc.ScopeDetails = append(doc.ScopeDetails, scopeDetails{s.Name, s.Description, s.Write})
	}
	body, err := json.Marshal(doc)
	if err != nil {
		panic("guard: " + err.Error()) // strings and booleans always marshal
	}
	return body
}

// called is the address that a request came to, at it or below it; the resource
// itself where it came to none, as a REST route of the same program does.
func (g *Guard) called(r *http.Request) *address {
	path := r.URL.EscapedPath()
	var best *address
	for i := range g.addresses {
		a := &g.addresses[i]
		under := path == a.path || strings.HasPrefix(path, a.path+"/")
		if under && (best == nil || len(a.path) > len(best.path)) {
			best = a
		}
	}
	return cmp.Or(best, &g.addresses[0])
}

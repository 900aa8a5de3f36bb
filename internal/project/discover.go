package project

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// resourceMetadata is what we read of an MCP server's protected-resource
// metadata (RFC 9728 §2).
type resourceMetadata struct {
	Resource             string   `json:"resource"`
	ResourceName         string   `json:"resource_name"`
	AuthorizationServers []string `json:"authorization_servers"`
	ScopesSupported      []string `json:"scopes_supported"`
	// ScopeDetails is what package guard adds: the sentence of each scope, and
	// whether it changes something.
	ScopeDetails []struct {
		Name        string `json:"name"`
		Description string `json:"description"`
		Write       bool   `json:"write"`
	} `json:"scope_details"`
}

// scope is what the server says of one of its scopes. Where it says nothing but
// the name, that is judged.
func (m resourceMetadata) scope(name string) Scope {
	for _, d := range m.ScopeDetails {
		if d.Name == name && plain(d.Description, 200) {
			return Scope{Name: name, Description: d.Description, ReadOnly: !d.Write}
		}
	}
	return Scope{Name: name, ReadOnly: onlyReads(name)}
}

// Discover asks an MCP server what it says of itself, adds that to r and scopes,
// which are about to be registered, and returns sentences about what it found.
// What the project or the caller describes keeps its description. A server that
// has not answered need not run yet: the only sentence, without its full stop,
// says what was in the way.
func (p *Project) Discover(ctx context.Context, client *http.Client, r *Resource, scopes *[]Scope) (told []string, answered bool) {
	m, where, err := fetchMetadata(ctx, client, r.URI)
	if err != nil {
		return []string{"Its metadata was not read (" + err.Error() + ")"}, false
	}
	if ResourceKey(m.Resource) != ResourceKey(r.URI) {
		return []string{fmt.Sprintf("Its metadata calls it %q, so nothing was taken from there; register that address, or correct the server.", m.Resource)}, true
	}
	m.ScopesSupported = slices.DeleteFunc(m.ScopesSupported, func(name string) bool { return !ValidScope(name) })
	told = []string{fmt.Sprintf("Read %d scopes from %s", len(m.ScopesSupported), where)}
	if !slices.Contains(m.AuthorizationServers, p.Issuer) {
		told = append(told, "Its metadata does not name "+p.Issuer+" as its authorization server yet; set that as its issuer.")
	}
	if r.Name == "" && checkName(m.ResourceName) == nil {
		r.Name = m.ResourceName
	}
	for _, name := range m.ScopesSupported {
		named := slices.ContainsFunc(*scopes, func(s Scope) bool { return s.Name == name })
		_, described := p.Scope(name)
		switch {
		case named || slices.Contains(r.Scopes, name):
		case described:
			r.Scopes = append(r.Scopes, name)
		default:
			*scopes = append(*scopes, m.scope(name))
		}
	}
	return told, true
}

// onlyReads guesses from a scope's name whether it only reads. A wrong guess must
// be the cautious one, so anything else counts as changing something.
func onlyReads(scope string) bool {
	words := strings.FieldsFunc(strings.ToLower(scope), func(c rune) bool { return c < 'a' || c > 'z' })
	only := slices.ContainsFunc(words, func(w string) bool { return w == "read" || w == "readonly" || w == "list" || w == "view" })
	return only && !slices.ContainsFunc(words, func(w string) bool { return w == "write" || w == "admin" || w == "all" || w == "delete" })
}

// metadataLimit bounds what is read of a resource's metadata, in bytes.
const metadataLimit = 64 << 10

// fetchMetadata asks at the path form of the well-known address, then at the
// root form (RFC 9728 §3.1).
func fetchMetadata(ctx context.Context, client *http.Client, resource string) (resourceMetadata, string, error) {
	u, err := url.Parse(resource)
	if err != nil {
		return resourceMetadata{}, "", err
	}
	const wellKnown = "/.well-known/oauth-protected-resource"
	at := u.Scheme + "://" + u.Host
	places := []string{at + wellKnown + strings.TrimSuffix(u.EscapedPath(), "/"), at + wellKnown}
	for _, place := range slices.Compact(places) {
		var m resourceMetadata
		if m, err = readMetadata(ctx, client, place); err == nil {
			return m, place, nil
		}
	}
	return resourceMetadata{}, "", err
}

func readMetadata(ctx context.Context, client *http.Client, place string) (resourceMetadata, error) {
	var m resourceMetadata
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, place, nil)
	if err != nil {
		return m, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	var failed *url.Error
	switch {
	case errors.As(err, &failed) && failed.Timeout():
		return m, errors.New("no answer in 5 seconds")
	case err != nil:
		return m, errors.New("it does not answer")
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return m, fmt.Errorf("it answers %d at %s", response.StatusCode, place)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, metadataLimit)).Decode(&m); err != nil {
		return m, fmt.Errorf("what it answers at %s is not JSON metadata", place)
	}
	return m, nil
}

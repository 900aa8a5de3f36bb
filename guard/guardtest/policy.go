package guardtest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
)

// Policy is what a project with organizations publishes: which actions each
// kind of resource has, and which of them each scope permits. The action "*"
// permits all of a resource.
type Policy struct {
	Resources map[string][]string            // resource → actions
	Scopes    map[string]map[string][]string // scope → resource → actions
}

// SetPolicy publishes a policy; each is a version more than the one before. An
// issuer without any is one of a project without organizations, and its metadata
// names no policy, so the first call comes before the guard's first question.
//
// Like Postern's, the answer may be kept for a minute: a guard sees a change
// after Advance(time.Minute).
func (i *Issuer) SetPolicy(p Policy) {
	type permission struct {
		Resource string   `json:"resource_id"`
		Actions  []string `json:"actions"`
	}
	type scope struct {
		Scope       string       `json:"scope"`
		Permissions []permission `json:"permissions"`
	}
	list := func(of map[string][]string) []permission {
		all := []permission{}
		for _, resource := range slices.Sorted(maps.Keys(of)) {
			all = append(all, permission{resource, of[resource]})
		}
		return all
	}
	scopes := []scope{}
	for _, name := range slices.Sorted(maps.Keys(p.Scopes)) {
		scopes = append(scopes, scope{name, list(p.Scopes[name])})
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.policyVersion++
	i.policy = encode(map[string]any{"version": i.policyVersion, "resources": list(p.Resources), "scopes": scopes})
}

// servePolicy is the policy endpoint.
func (i *Issuer) servePolicy(w http.ResponseWriter, r *http.Request) {
	i.mu.Lock()
	body, etag := i.policy, fmt.Sprintf(`"%d"`, i.policyVersion)
	i.mu.Unlock()
	if body == nil {
		answer(w, http.StatusNotFound, map[string]any{"error": "not_found"})
		return
	}
	w.Header().Set("ETag", etag)
	w.Header().Set("Cache-Control", "public, max-age=60")
	if r.Header.Get("If-None-Match") == etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(body) // the client is gone if this fails
}

// Join puts a person into an organization: tokens of the code flow for this
// subject carry it. Minted tokens carry what [Token] says.
func (i *Issuer) Join(subject, organization string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.members[subject] = organization
}

// Narrow makes introspection name these scopes for a token, as an issuer does
// when a role was taken from its member.
func (i *Issuer) Narrow(token string, scopes ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.narrowed[token] = scopes
}

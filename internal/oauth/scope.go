package oauth

import (
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/postern-id/postern/internal/project"
)

// The scopes that OpenID Connect gives a meaning. offline_access is accepted
// and does nothing: who gets a refresh token follows from grant_types
// (decision 6).
var openIDScopes = []project.Scope{
	{Name: "openid", Description: "Know who you are", ReadOnly: true},
	{Name: "profile", Description: "See your name", ReadOnly: true},
	{Name: "email", Description: "See your e-mail address", ReadOnly: true},
	{Name: "offline_access", Description: "Stay connected while you are away", ReadOnly: true},
}

// maxScopes bounds one request; maxScopeText its text.
const (
	maxScopes    = 64
	maxScopeText = 4096
)

// parseScope splits a scope parameter (RFC 6749 §3.3) and drops repeats; clients
// that unite old and new scopes send some twice (MCP-AS-23).
func parseScope(text string) ([]string, error) {
	if len(text) > maxScopeText {
		return nil, invalidScope("scope is longer than %d bytes.", maxScopeText)
	}
	var scopes []string
	for _, name := range strings.Split(text, " ") {
		if name == "" {
			continue
		}
		if !project.ValidScope(name) {
			return nil, invalidScope("scope has a name with a character that RFC 6749 section 3.3 does not allow.")
		}
		if !slices.Contains(scopes, name) {
			if scopes = append(scopes, name); len(scopes) > maxScopes {
				return nil, invalidScope("scope has more than %d names.", maxScopes)
			}
		}
	}
	return scopes, nil
}

// describe finds a scope by name, ours or the project's.
func describe(p *project.Project, name string) (project.Scope, bool) {
	if i := slices.IndexFunc(openIDScopes, func(s project.Scope) bool { return s.Name == name }); i >= 0 {
		return openIDScopes[i], true
	}
	return p.Scope(name)
}

// ofOpenID are scopes about the person, which belong to no resource server.
func ofOpenID(scope string) bool {
	return slices.ContainsFunc(openIDScopes, func(s project.Scope) bool { return s.Name == scope })
}

// silent are scopes without a box on the consent page: they do nothing by
// themselves.
func silent(scope string) bool { return scope == "offline_access" }

// useful reports whether some scope of a list permits anything.
func useful(scopes []string) bool {
	return slices.ContainsFunc(scopes, func(name string) bool { return !silent(name) })
}

// requestedScopes decides what a request asks for: its own scopes if every one
// is known, else the resource's defaults, else the project's (decision 27). An
// unregistered resource of development brings scopes nobody defined; those are
// taken as named.
func requestedScopes(p *project.Project, target target, asked []string) ([]string, error) {
	if !useful(asked) {
		switch {
		case len(target.resource.DefaultScopes) > 0:
			return union(target.resource.DefaultScopes, asked), nil
		case len(target.resource.Scopes) > 0:
			return union(target.resource.Scopes, asked), nil
		default:
			return union(p.Settings.DefaultScopes, asked), nil
		}
	}
	for _, name := range asked {
		if _, known := describe(p, name); !known && (target.registered || !p.Settings.UnregisteredResources) {
			return nil, invalidScope("The scope '%s' is not known here.", name)
		}
	}
	return asked, nil
}

// target is the resource that a request is for.
type target struct {
	uri        string           // as it goes into aud; "" for none
	resource   project.Resource // zero when not registered
	registered bool
}

// resolveResource decides which resource a request is for (RFC 8707 §2,
// decisions 4 and 35).
func resolveResource(p *project.Project, asked []string) (target, error) {
	switch len(asked) {
	case 0:
		if r, ok := p.DefaultResource(); ok {
			return target{uri: r.URI, resource: r, registered: true}, nil
		}
		return target{}, nil
	case 1:
	default:
		return target{}, invalidTarget("Ask for one resource at a time.")
	}
	uri := asked[0]
	if r, ok := p.Resource(uri); ok {
		return target{uri: r.URI, resource: r, registered: true}, nil
	}
	if len(uri) > maxURI || project.CheckResource(uri) != nil {
		return target{}, invalidTarget("resource must be an absolute https URL without a fragment.")
	}
	if !p.Settings.UnregisteredResources {
		return target{}, invalidTarget("This resource is not registered here. The operator can add it with: postern resource add")
	}
	return target{uri: strings.TrimSuffix(uri, "/")}, nil
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

func mediaType(r *http.Request) string {
	t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return ""
	}
	return t
}

// printable makes a short piece of input safe to repeat in a description:
// RFC 6749 §5.2 allows ASCII without quotes and backslashes.
func printable(s string) string {
	if len(s) > 40 {
		s = s[:40]
	}
	return strings.Map(func(c rune) rune {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return '?'
		}
		return c
	}, s)
}

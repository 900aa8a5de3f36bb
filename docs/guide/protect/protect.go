// Package protect holds the pages of this folder, so that the dashboard shows
// their code with the values of a project in it. For is all there is: what it
// returns is text to copy, and the pages themselves are what is tested.
package protect

import (
	"embed"
	"fmt"
	"net/url"
	"regexp"
	"strconv"
	"strings"
)

//go:embed go.md express.md hono.md nextjs.md fastmcp.md
var pages embed.FS

// Text protects one MCP server in one language.
type Text struct {
	Name    string // for an address, such as "express"
	Title   string // for people
	Install string // the command that gets what the code needs
	Code    string // the whole server
	Run     string // the command that starts it
	Asking  string // code with which the server asks the issuer about each token
	Place   string // a sentence that says where Asking goes
}

// Server is the MCP server to protect.
type Server struct {
	Issuer   string
	Resource string // its URL
	Scopes   []Scope
}

// Scope is one that clients can ask the server for.
type Scope struct {
	Name  string
	Write bool
}

// The values in the pages, which For replaces.
const (
	pageIssuer   = "http://localhost:4000"
	pageResource = "http://localhost:8080/mcp"
	pagePort     = "8080"
	pagePath     = "/mcp"
	pageScopes   = `["notes:read", "notes:write"]`
	pageGoScopes = `{{Name: "notes:read"}, {Name: "notes:write", Write: true}}`
	pageGoNeeds  = `guard.AllOf("notes:read")`
)

var fences = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// asking finds the other way: a sentence, where the secret is from, and the code.
var asking = regexp.MustCompile("(?s)\n## By introspection\n\n(.*?\\.) The secret:.*?\n```[a-z]+\n(.*?)\n```\n")

// For returns the texts for a server, in the order of the languages on the index
// page. Without scopes the examples' own stay. The tool of the examples needs
// the first scope.
func For(s Server) ([]Text, error) {
	to, err := url.Parse(s.Resource)
	if err != nil {
		return nil, fmt.Errorf("protect: %w", err)
	}
	port, path := pagePort, to.EscapedPath()
	if to.Scheme == "http" && to.Port() != "" { // on this computer, with no proxy before it
		port = to.Port()
	}
	if path == "" {
		path = "/"
	}
	pairs := []string{
		strconv.Quote(pageResource), strconv.Quote(s.Resource),
		strconv.Quote(pageIssuer), strconv.Quote(s.Issuer),
		strconv.Quote(pagePath), strconv.Quote(path),
		pagePort, port,
	}
	// Next.js is told by the names of folders where it answers.
	folder, up := strings.TrimPrefix(path, "/"), strings.Repeat("../", 2+strings.Count(strings.TrimSuffix(path, "/"), "/"))
	if folder != "" && !strings.HasSuffix(folder, "/") {
		folder += "/"
	}
	pairs = append(pairs, "app/mcp/", "app/"+folder, "oauth-protected-resource/mcp/", "oauth-protected-resource/"+folder, "../../../mcp/", up+folder)
	if len(s.Scopes) > 0 {
		var names, structs []string
		for _, scope := range s.Scopes {
			write := ""
			if scope.Write {
				write = ", Write: true"
			}
			names = append(names, strconv.Quote(scope.Name))
			structs = append(structs, fmt.Sprintf("{Name: %q%s}", scope.Name, write))
		}
		pairs = append(pairs,
			pageScopes, "["+strings.Join(names, ", ")+"]",
			pageGoScopes, "{"+strings.Join(structs, ", ")+"}",
			pageGoNeeds, fmt.Sprintf("guard.AllOf(%q)", s.Scopes[0].Name))
	}
	replace := strings.NewReplacer(pairs...)
	var all []Text
	for _, page := range []struct{ name, title string }{
		{"go", "Go"}, {"express", "Express"}, {"hono", "Hono"}, {"nextjs", "Next.js"}, {"fastmcp", "FastMCP"},
	} {
		raw, err := pages.ReadFile(page.name + ".md")
		if err != nil {
			return nil, fmt.Errorf("protect: %w", err)
		}
		text := Text{Name: page.name, Title: page.title}
		// A page installs, shows the server, and registers and starts it; what comes
		// after is another way.
		for _, fence := range fences.FindAllStringSubmatch(string(raw), -1) {
			body := strings.TrimSuffix(fence[2], "\n")
			switch {
			case fence[1] == "sh" && text.Code == "":
				text.Install = body
			case fence[1] == "sh":
				text.Run = replace.Replace(lastLine(body))
			case text.Run == "":
				text.Code = strings.TrimPrefix(text.Code+"\n\n"+replace.Replace(body), "\n\n")
			}
			if text.Run != "" {
				break
			}
		}
		if other := asking.FindSubmatch(raw); other != nil {
			text.Place, text.Asking = strings.ReplaceAll(string(other[1]), "`", ""), string(other[2])
		}
		if text.Install == "" || text.Code == "" || text.Run == "" || text.Asking == "" {
			return nil, fmt.Errorf("protect: %s.md does not show how to install, write and run it, and how it asks the issuer", page.name)
		}
		all = append(all, text)
	}
	return all, nil
}

func lastLine(s string) string { return s[strings.LastIndexByte(s, '\n')+1:] }

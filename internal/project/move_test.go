package project_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/project"
)

func TestMoved(t *testing.T) {
	t.Parallel()
	p := project.Project{Name: "Notes", Resources: []project.Resource{
		{ID: "1", URI: "https://notes.example.com/mcp", Name: "notes.example.com", Aliases: []string{"https://notes.example.com/sse", "https://notes.example.com"}},
		{ID: "2", URI: "https://other.example.com/mcp", Name: "Other"},
	}}
	for _, c := range []struct {
		old, uri string
		want     project.Resource
	}{
		{"https://notes.example.com/mcp", "https://n.example.net:8443/mcp", project.Resource{
			ID: "1", URI: "https://n.example.net:8443/mcp", Name: "n.example.net:8443",
			Aliases: []string{"https://n.example.net:8443/sse", "https://n.example.net:8443"},
		}},
		{"https://notes.example.com/mcp/", "https://notes.example.com/sse", project.Resource{ // an alias becomes the address
			ID: "1", URI: "https://notes.example.com/sse", Name: "notes.example.com", Aliases: []string{"https://notes.example.com"},
		}},
		{"https://notes.example.com/mcp", "https://n.example.net", project.Resource{
			ID: "1", URI: "https://n.example.net", Name: "n.example.net", Aliases: []string{"https://n.example.net/sse"},
		}},
		{"https://other.example.com/mcp", "http://localhost:3000/mcp", project.Resource{ID: "2", URI: "http://localhost:3000/mcp", Name: "Other"}},
	} {
		got, err := p.Moved(c.old, c.uri)
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil {
			t.Errorf("%s to %s: %v %s", c.old, c.uri, err, diff)
		}
	}
	for _, c := range []struct {
		old, uri, why string
		is            error
	}{
		{"https://gone.example.com/mcp", "https://n.example.net/mcp", "no resource server", project.ErrNotFound},
		{"https://notes.example.com/sse", "https://n.example.net/sse", "is an alias of https://notes.example.com/mcp", nil},
		{"https://notes.example.com/mcp", "http://n.example.net/mcp", "must begin with https://", nil},
		{"https://notes.example.com/mcp", "https://notes.example.com/mcp/", "there already", nil},
		{"https://notes.example.com/mcp", "https://other.example.com/mcp/", "an address belongs to one", project.ErrTaken},
	} {
		_, err := p.Moved(c.old, c.uri)
		if err == nil || !strings.Contains(err.Error(), c.why) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s to %s: %v", c.old, c.uri, err)
		}
	}
}

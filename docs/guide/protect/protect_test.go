package protect_test

import (
	"go/parser"
	"go/token"
	"strings"
	"testing"

	"github.com/postern-id/postern/docs/guide/protect"
)

// Every language gets the server's values and keeps none of the example's.
func TestFor(t *testing.T) {
	s := protect.Server{
		Issuer: "https://auth.example.com", Resource: "https://files.example.com/api/tools",
		Scopes: []protect.Scope{{Name: "files:list"}, {Name: "files:put", Write: true}, {Name: "files:drop", Write: true}},
	}
	all, err := protect.For(s)
	if err != nil || len(all) != 5 {
		t.Fatalf("%d texts, %v", len(all), err)
	}
	for _, text := range all {
		for _, want := range []string{s.Issuer, s.Resource, "files:list", "files:put", "files:drop", "8080"} {
			if !strings.Contains(text.Code+text.Run, want) {
				t.Errorf("%s: no %s in\n%s", text.Name, want, text.Code)
			}
		}
		if !strings.Contains(text.Asking, "RESOURCE_SECRET") || strings.Contains(text.Asking, "```") || !strings.HasSuffix(text.Place, ".") || strings.ContainsAny(text.Place, "`[\n") {
			t.Errorf("%s asks the issuer by:\n%s\n%s", text.Name, text.Place, text.Asking)
		}
		for _, left := range []string{"localhost:4000", "localhost:8080/mcp", `"/mcp"`, "notes:read", "notes:write", "postern resource add"} {
			if strings.Contains(text.Install+text.Code+text.Run+text.Asking, left) {
				t.Errorf("%s: still %s in\n%s", text.Name, left, text.Code)
			}
		}
	}
	for _, want := range []string{"// app/api/tools/route.js", "// app/.well-known/oauth-protected-resource/api/tools/route.js", `from "../../../../api/tools/settings.js"`} {
		if !strings.Contains(all[3].Code, want) {
			t.Errorf("no %s in\n%s", want, all[3].Code)
		}
	}
	if _, err := parser.ParseFile(token.NewFileSet(), "main.go", all[0].Code, 0); err != nil {
		t.Errorf("%v in\n%s", err, all[0].Code)
	}
	s.Resource, s.Scopes = `http://localhost:9000/a"b`, nil
	all, err = protect.For(s)
	if err != nil || !strings.Contains(all[0].Code, `"http://localhost:9000/a\"b"`) || !strings.Contains(all[0].Code, "localhost:9000\"") || !strings.Contains(all[0].Code, "notes:read") {
		t.Errorf("%v:\n%s", err, all[0].Code)
	}
}

package audit_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strconv"
	"testing"
)

// Operators search by kind: each is a noun and a verb, and means one thing.
func TestKinds(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "audit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		value, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		kind, err := strconv.Unquote(value.Value)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^[a-z]+\.[a-z_]+$`).MatchString(kind) {
			t.Errorf("%s is %q", spec.Names[0], kind)
		}
		if other := seen[kind]; other != "" {
			t.Errorf("%s and %s are both %q", other, spec.Names[0], kind)
		}
		seen[kind] = spec.Names[0].Name
		return true
	})
	if len(seen) < 20 {
		t.Errorf("only %d kinds were found", len(seen))
	}
}

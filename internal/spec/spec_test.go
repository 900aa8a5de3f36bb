package spec_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/spec"
)

func TestRead(t *testing.T) {
	doc, wrong := spec.Read("spec/a.toml", "# Words. More.\n# And more\n\n[[clause]]\nid = \"a \\\"b\\\"\"\n\n[[clause]]\nid = \"c\"\n", "clause", "id")
	want := spec.Document{Name: "spec/a.toml", Title: "Words. More", Tables: []spec.Table{
		{Where: "spec/a.toml:4", Values: map[string]string{"id": `a "b"`}}, {Where: "spec/a.toml:7", Values: map[string]string{"id": "c"}},
	}}
	if diff := cmp.Diff(want, doc); diff != "" || len(wrong) > 0 {
		t.Errorf("%v %s", wrong, diff)
	}
	for text, want := range map[string]spec.Problem{
		"[[clause]]":                                        {Where: "a", What: "the first line is not a comment with the document's title"},
		"# A\nid = \"x\"":                                   {Where: "a:2", What: "a key that is unknown here"},
		"# A\n[[clause]]\ncolour = \"x\"":                   {Where: "a:3", What: "a key that is unknown here"},
		"# A\n[[clause]]\nid = \"x\"\nid = \"\"":            {Where: "a:4", What: "a key that stands twice"},
		"# A\n[[clause]]\nid = x":                           {Where: "a:3", What: `not a line of this file: key = "one string"`},
		"# A\n[[fault]]":                                    {Where: "a:2", What: `not a line of this file: key = "one string"`},
		"# A\n[[clause]]\nid = \"x\"\n\"id\" = \"stray\"\n": {Where: "a:4", What: "a key that is unknown here"},
	} {
		if _, wrong := spec.Read("a", text, "clause", "id"); len(wrong) != 1 || wrong[0] != want {
			t.Errorf("%q: %v, want %v", text, wrong, want)
		}
	}
}

func TestFaults(t *testing.T) {
	const text = "# F.\n[[fault]]\nname = \"n\"\nfile = \"f\"\nold = \"a\\n\\tb\"\nnew = \"\"\nrows = \"T05, R08\"\npackage = \"p\"\nrun = \"TestX\"\nsmoke = \"yes\"\n"
	got, wrong := spec.Faults("spec/faults/t.toml", text)
	want := []spec.Fault{{
		Where: "spec/faults/t.toml:2", Name: "n", File: "f", Old: "a\n\tb", Rows: []string{"T05", "R08"}, Package: "p", Run: "TestX", Smoke: true,
	}}
	if diff := cmp.Diff(want, got); diff != "" || len(wrong) > 0 {
		t.Errorf("%v %s", wrong, diff)
	}
}

func TestAdvisories(t *testing.T) {
	a := spec.Attack{Source: "RFC 6749 §10.5; CVE-2026-1035; GHSA-9vm7-v8wj-3fqw; GO-2025-4212; Keycloak issue 22448"}
	if diff := cmp.Diff([]string{"CVE-2026-1035", "GHSA-9vm7-v8wj-3fqw", "GO-2025-4212"}, a.Advisories()); diff != "" {
		t.Error(diff)
	}
}

func TestRowsOf(t *testing.T) {
	for name, want := range map[string][]string{
		"T06 one digit less":             {"T06"},
		"T06_one_digit_less":             {"T06"},
		"T28 R11 the consent":            {"T28", "R11"},
		"P13, P21: ten wrong ones a day": {"P13", "P21"},
		"M10: a document that changes":   {"M10"},
		"T06":                            {"T06"},
		"one digit less T06":             nil,
		"T066 digits":                    nil,
		"ES256 keys":                     nil,
		"":                               nil,
	} {
		if diff := cmp.Diff(want, spec.RowsOf(name)); diff != "" {
			t.Errorf("%q: %s", name, diff)
		}
	}
}

func TestMarked(t *testing.T) {
	for comment, want := range map[string][]string{
		"Row: D17.":                           {"D17"},
		"Of a kind. Rows: A01, A03-A05, A10.": {"A01", "A03", "A04", "A05", "A10"},
		"Row: T03. Of any number T04":         {"T03"},
		"Row: J01,\nJ02. Proves: MCP-RS-6.":   {"J01", "J02"},
		"Row: O05. Row: O07.":                 {"O05", "O07"},
		"Row: R02 with the window off.":       {"R02"},
		"Row: F-20: mail server down":         nil,
		"A row: D17":                          nil,
	} {
		if diff := cmp.Diff(want, spec.Marked(comment)); diff != "" {
			t.Errorf("%q: %s", comment, diff)
		}
	}
}

func TestTests(t *testing.T) {
	const source = `package oauth_test

// TestCode is about codes. Row: T01.
func TestCode(t *testing.T) {
	each(t, func(t *testing.T) {
		t.Run("T02 used", nil)
		t.Error("T03 said")
		look() // Row: T04.
		for _, c := range cases {
			t.Run(c, nil)
		}
	})
}

var cases = []string{"T05 other client", "T05 other client again", "T99"}

func each(t *testing.T, test func(*testing.T)) { servertest.Each(t, start) }

func start(t *testing.T) { servertest.New(t, nil) }

func TestRules(t *testing.T) { t.Run("A01 a rule", nil) }

func TestNothing(t *testing.T) { look() }

func look() {}
`
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "a_test.go", source, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	got := spec.Tests(set, []*ast.File{file})
	want := []spec.Test{
		{Where: "a_test.go:4:1", Name: "TestCode", Rows: []string{"T01", "T04"}, Named: []string{"T02 used", "T05 other client", "T05 other client again"}, Both: true, Watched: true},
		{Where: "a_test.go:21:1", Name: "TestRules", Named: []string{"A01 a rule"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	if n := got[0].Vectors("T05"); n != 2 || !got[0].Names("T04") || got[0].Names("T03") {
		t.Errorf("%d vectors of T05; names T04 %v, T03 %v", n, got[0].Names("T04"), got[0].Names("T03"))
	}
}

func TestLines(t *testing.T) {
	got, ok := spec.Lines("e2e/browser/a.spec.ts", "// Row: B17\ntest('x');\n// Row: B17, B04\n")
	want := spec.Test{Where: "e2e/browser/a.spec.ts", Name: "e2e/browser/a.spec.ts", Rows: []string{"B04", "B17"}}
	if diff := cmp.Diff(want, got); diff != "" || !ok {
		t.Error(diff)
	}
	if _, ok := spec.Lines("a.txtar", "nothing"); ok {
		t.Error("nothing was named")
	}
}

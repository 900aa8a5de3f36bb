package spec

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Test is a test that names rows of the catalogue.
type Test struct {
	Where string
	Name  string   // the function; of a transcript or a browser test, the file
	Rows  []string // named by the test as a whole
	Named []string // subtests whose name starts with a row, each once
	Both  bool     // runs on SQLite and PostgreSQL
	// Watched says that it has a server of package servertest, or its checks of
	// answers, around it.
	Watched bool
}

// Names says whether the test, or a subtest of it, names the row.
func (t Test) Names(row string) bool { return slices.Contains(t.Rows, row) || t.Vectors(row) > 0 }

// Vectors counts the subtests that name the row.
func (t Test) Vectors(row string) (n int) {
	for _, name := range t.Named {
		if slices.Contains(RowsOf(name), row) {
			n++
		}
	}
	return n
}

// RowID is the form of an attack's id.
var RowID = regexp.MustCompile(`^[A-Z]\d\d$`)

// RowsOf returns the rows at the beginning of a subtest's name, as it stands in
// the source ("T28 R11 a consent") or in what `go test` prints
// ("T28_R11_a_consent").
func RowsOf(name string) []string { return leading(strings.ReplaceAll(name, "_", " ")) }

// leading are the ids that a text begins with, with ranges (A03-A07) written
// out.
func leading(text string) (rows []string) {
	for text != "" {
		word := text
		if end := strings.IndexAny(text, " ,\n"); end >= 0 {
			word, text = text[:end], strings.TrimLeft(text[end:], " ,\n")
		} else {
			text = ""
		}
		bare := strings.TrimRight(word, ".:;)")
		first, last, isRange := strings.Cut(bare, "-")
		switch {
		case RowID.MatchString(bare):
			rows = append(rows, bare)
		case isRange && RowID.MatchString(first) && RowID.MatchString(last) && first[0] == last[0]:
			from, _ := strconv.Atoi(first[1:])
			to, _ := strconv.Atoi(last[1:])
			for n := from; n <= to; n++ {
				rows = append(rows, fmt.Sprintf("%c%02d", first[0], n))
			}
		default:
			return rows
		}
		if bare != word {
			return rows
		}
	}
	return rows
}

var mark = regexp.MustCompile(`\bRows?: `)

// Marked returns the rows that a comment names, as "Row: D17." or "Rows: A03-A07,
// A10".
func Marked(comment string) (rows []string) {
	for _, at := range mark.FindAllStringIndex(comment, -1) {
		rows = append(rows, leading(comment[at[1]:])...)
	}
	return rows
}

// declaration is a function or variable of a package's tests: what it names
// itself, and which other declarations it uses.
type declaration struct {
	where       string
	test        bool
	rows, named []string
	uses        []string
	both        bool
	watched     bool
}

// Tests returns the tests of one package that name rows, given all its test
// files. A test has what the functions and tables have that it uses.
func Tests(fset *token.FileSet, files []*ast.File) (tests []Test) {
	declared := map[string]*declaration{}
	var order []string
	for _, file := range files {
		for _, decl := range file.Decls {
			for name, d := range declarations(fset, file, decl) {
				declared[name] = d
				if d.test {
					order = append(order, name)
				}
			}
		}
	}
	slices.Sort(order)
	for _, name := range order {
		test := Test{Where: declared[name].where, Name: name}
		seen := map[string]bool{}
		var visit func(name string)
		visit = func(name string) {
			d := declared[name]
			if d == nil || seen[name] {
				return
			}
			seen[name] = true
			test.Rows = append(test.Rows, d.rows...)
			test.Named = append(test.Named, d.named...)
			test.Both, test.Watched = test.Both || d.both, test.Watched || d.watched
			for _, used := range d.uses {
				visit(used)
			}
		}
		visit(name)
		if len(test.Rows)+len(test.Named) > 0 {
			slices.Sort(test.Rows)
			test.Rows = slices.Compact(test.Rows)
			tests = append(tests, test)
		}
	}
	return tests
}

// declarations are the names that one declaration brings, as Tests needs them.
func declarations(fset *token.FileSet, file *ast.File, decl ast.Decl) map[string]*declaration {
	d := &declaration{where: fset.Position(decl.Pos()).String()}
	names := map[string]*declaration{}
	switch decl := decl.(type) {
	case *ast.FuncDecl:
		if decl.Recv != nil {
			return nil
		}
		d.test = strings.HasPrefix(decl.Name.Name, "Test") || strings.HasPrefix(decl.Name.Name, "Fuzz")
		names[decl.Name.Name] = d
		if decl.Doc != nil {
			d.rows = append(d.rows, Marked(decl.Doc.Text())...)
		}
	case *ast.GenDecl:
		for _, spec := range decl.Specs {
			if value, ok := spec.(*ast.ValueSpec); ok {
				for _, name := range value.Names {
					names[name.Name] = d
				}
			}
		}
	}
	for _, group := range file.Comments {
		if decl.Pos() < group.Pos() && group.End() < decl.End() {
			d.rows = append(d.rows, Marked(group.Text())...)
		}
	}
	ast.Inspect(decl, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			// What a test says about a failure names no subtest.
			method, ok := n.Fun.(*ast.SelectorExpr)
			if ok && slices.Contains(spoken, method.Sel.Name) {
				return false
			}
		case *ast.Ident:
			d.uses = append(d.uses, n.Name)
		case *ast.SelectorExpr:
			if pkg, ok := n.X.(*ast.Ident); ok && pkg.Name == "servertest" {
				d.both = d.both || n.Sel.Name == "Each"
				d.watched = d.watched || n.Sel.Name == "New" || n.Sel.Name == "Watch"
			}
		case *ast.BasicLit:
			text, err := strconv.Unquote(n.Value)
			if err == nil && n.Kind == token.STRING && len(RowsOf(text)) > 0 && !RowID.MatchString(text) {
				d.named = append(d.named, text)
			}
			d.both = d.both || text == "postgres" || text == "PostgreSQL"
		}
		return true
	})
	return names
}

// spoken are the methods of testing.T that print.
var spoken = []string{"Error", "Errorf", "Fatal", "Fatalf", "Log", "Logf", "Skip", "Skipf"}

// Lines returns what a transcript or a browser test names, on lines of their
// own.
func Lines(name, text string) (Test, bool) {
	test := Test{Where: name, Name: name, Rows: Marked(text)}
	slices.Sort(test.Rows)
	test.Rows = slices.Compact(test.Rows)
	return test, len(test.Rows) > 0
}

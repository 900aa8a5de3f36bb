// Package postern_test checks the house: which package may import which, which
// words and calls stay out of which folders, that modules and ledger are in
// order. CONTRIBUTING.md tells the rules to people; this file tells them to the
// machine.
//
// A rule looks at a tree and returns findings. TestHouse applies every rule to
// the repository; TestRulesCanFail applies it to a small tree that breaks it and
// to one that keeps it. ledger_test.go and attacks_test.go have the rules about
// spec/.
//
// To change a rule, write a page in docs/decisions first.
package postern_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/postern-id/postern"

// mayImport says which packages of the product a package may import; a folder
// below one of these belongs to it. Tests may import all of internal/.
var mayImport = map[string]string{
	"internal/audit":   "",
	"internal/secret":  "",
	"internal/wire":    "",
	"internal/picture": "",
	"internal/project": "audit picture secret",
	"internal/rbac":    "",
	"internal/signing": "audit secret",
	"internal/web":     "secret wire",
	"internal/mail":    "",

	"internal/identity": "project rbac audit mail picture secret",
	"internal/signin":   "project identity audit mail secret",
	"internal/oauth":    "project audit picture signing secret wire",

	"internal/store": "project rbac audit signing identity signin oauth secret",

	"internal/login": "project identity rbac signin oauth audit web secret wire",
	"internal/admin": "project identity rbac signin oauth audit web signing secret wire picture docs/guide/protect",
	"internal/api":   "project identity rbac signin oauth audit web signing secret wire",

	"internal/server": "project rbac signing web mail audit identity signin oauth store login admin api secret wire",

	"internal/dev":        "project identity rbac oauth audit mail web secret",
	"internal/client":     "",
	"internal/doctor":     "",
	"internal/servertest": "", // counts as tests
	"internal/rig":        "", // likewise
	"internal/spec":       "",
	"internal/testrun":    "spec",
	"internal/sbom":       "",
	"bench":               "rig secret",

	"docs/guide/protect": "",

	// The set-up commands call the operations that the dashboard will call:
	// docs/decisions/0001.
	"cmd/postern": "server dev client doctor store project oauth identity rbac signing signin audit picture secret",
}

// thirdParty says which packages may import a module; tests may import all of
// these. A module without a row needs a decision.
var thirdParty = map[string]string{
	"code.dny.dev/ssrf":                      "internal/web",
	"github.com/boombuler/barcode":           "internal/signin",
	"github.com/caarlos0/env/v11":            "cmd/postern",
	"github.com/coreos/go-oidc/v3":           "",
	"github.com/go-jose/go-jose/v4":          "internal/signing",
	"github.com/go-webauthn/webauthn":        "internal/signin",
	"github.com/goccy/go-yaml":               "cmd/postern internal/rbac",
	"github.com/golang-jwt/jwt/v5":           "guard guard/guardtest",
	"github.com/descope/virtualwebauthn":     "",
	"github.com/google/go-cmp":               "",
	"github.com/google/pprof":                "bench",
	"github.com/google/uuid":                 "examples",
	"github.com/jackc/pgx/v5":                "internal/store",
	"github.com/jedib0t/go-pretty/v6":        "cmd/postern",
	"github.com/maypok86/otter/v2":           "internal/oauth internal/web",
	"github.com/google/jsonschema-go":        "examples",
	"github.com/modelcontextprotocol/go-sdk": "guard/mcpguard examples",
	"github.com/pquerna/otp":                 "internal/signin",
	"github.com/pressly/goose/v3":            "internal/store",
	"github.com/rogpeppe/go-internal":        "",
	"github.com/rs/cors":                     "internal/web internal/server",
	"github.com/spf13/cobra":                 "cmd/postern",
	"github.com/spf13/pflag":                 "cmd/postern",
	"github.com/wneessen/go-mail":            "internal/mail",
	"golang.org/x/crypto":                    "internal/signin internal/signing",
	"golang.org/x/image":                     "internal/picture",
	"golang.org/x/net":                       "internal/web",
	"golang.org/x/oauth2":                    "guard/websession examples",
	"golang.org/x/sync":                      "internal/oauth internal/store internal/server guard",
	"golang.org/x/term":                      "cmd/postern",
	"golang.org/x/text":                      "internal/identity",
	"modernc.org/sqlite":                     "internal/store examples",
	"pgregory.net/rapid":                     "",
}

// standard does the same inside internal/ for the packages of Go's own library
// that have one home; the others may be imported everywhere.
var standard = map[string]string{
	"database/sql": "internal/store",
	"flag":         "",
	"log":          "",
	"math/rand":    "",
	"math/rand/v2": "",
	"net/smtp":     "",
	"os/exec":      "internal/dev internal/testrun internal/sbom",
	"testing":      "internal/servertest",
}

// calls are names of packages that internal/ does without, and where each is
// at home all the same. Programs (package main) and tests are free.
var calls = map[string]string{
	"time.Now":           "internal/server",
	"time.Since":         "internal/server",
	"time.Until":         "internal/server",
	"time.NewTicker":     "internal/server internal/dev",
	"time.Tick":          "internal/server",
	"time.Sleep":         "internal/testrun",
	"net/http.Error":     "",
	"net/http.SetCookie": "internal/login internal/admin",
	"net/http.Cookie":    "internal/login internal/admin",
	"fmt.Print":          "",
	"fmt.Printf":         "",
	"fmt.Println":        "",
	"os.Getenv":          "",
	"os.LookupEnv":       "",
	"os.Exit":            "",

	// Attributes are data; a logger is a log line.
	"log/slog.Logger":  "internal/web internal/server internal/dev internal/servertest",
	"log/slog.New":     "internal/web internal/server internal/dev internal/servertest",
	"log/slog.Default": "",
	"log/slog.Debug":   "",
	"log/slog.Info":    "",
	"log/slog.Warn":    "",
	"log/slog.Error":   "",
}

// rule is one house rule.
type rule struct {
	name  string
	do    string // what to do about a finding
	check func(*tree) []finding
}

// finding is one place that breaks a rule.
type finding struct{ where, what string }

var rules = []rule{
	{"imports of our own packages", "Move the code to where it may live, or change mayImport with a page in docs/decisions.", ownImports},
	{"imports of other modules", "Ask the package that may import it, or change thirdParty with a page in docs/decisions.", foreignImports},
	{"calls with one home", "Take what you need in Config (a clock, a client, a writer), or return an error to the caller.", forbiddenCalls},
	{"no panic, goroutine or init", "Return an error, or end the line of a panic that cannot happen with // impossible: and why, of one that is passed on with // again: and whence; offer Run(ctx) error for internal/server to start; build values in New.", forbiddenStatements},
	{"folder names", "Name the folder after what it is about.", folderNames},
	{"package comments", "Write a tour in one file of the package: what it is for, its main types, what it will not do.", packageComments},
	{"comments on exported names", "Say what it promises: units, errors, source.", exportedComments},
	{"todos name an issue", `Write "TODO(issue 7): …", or do it now.`, todos},
	{"citations name their document", "Write RFC 9700 §4.14.2, or the full name of the draft with its version before the §.", citations},
	{"constructors take a Config", "Write New(Config) with named fields, and check the required ones.", constructors},
	{"main is small", "Move code into a file per subcommand.", smallMain},
	{"vendor words stay outside", "Translate in internal/api or the compatible token profile; use our own word here.", vendorWords},
	{"modules", "See docs/decisions/0002.", goModules},
	{"one SQL for both databases", "Say it in the SQL that both databases know; see house rules in CONTRIBUTING.md.", commonSQL},
	{"one design", "Copy internal/web/static/tokens.css over it.", sameTokens},
	{"clients in the README", "Write the versions of docs/clients-tested.md into its table, the first two numbers of each.", readmeClients},
	{"lock files name no host", "Write the file again with npm's omit-lockfile-registry-resolved=true.", lockFiles},
	{"ledger", "See spec/README.md.", ledger},
	{"proofs", "Write the test and name the clause (Proves: …), or correct the row in spec/.", proofs},
	{"divergences page", "Run make spec.", divergencesPage},
	{"attacks", "See spec/README.md.", attackRows},
	{"attacks are tried", "Write the subtest and begin its name with the row's id (or write Row: … in the test's comment), or correct the row in spec/attacks.", attackProofs},
	{"seeded faults", "Correct the fault in spec/faults: it is a copy of a place in the source.", seededFaults},
	{"attacks page", "Run make spec.", attacksAreWritten},
}

func TestHouse(t *testing.T) {
	house, err := readTree(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			for _, f := range rule.check(house) {
				t.Errorf("%s: %s", f.where, f.what)
			}
			if t.Failed() {
				t.Log("What to do: " + rule.do)
			}
		})
	}
}

// tree is the repository as the rules see it: Go files parsed, the other files
// that have rules as text.
type tree struct {
	fset  *token.FileSet
	files []*source
	texts map[string]string // by path
}

// source is one Go file.
type source struct {
	path    string // from the root, with slashes
	dir     string
	test    bool
	program bool // package main
	written bool // by a person, not by a generator
	text    string
	syntax  *ast.File
}

// withText are the endings of the files kept as text.
var withText = []string{".mod", ".work", ".sql", ".html", ".css", ".toml", ".txtar", ".spec.ts", "package-lock.json", "divergences.md", "attacks.md", "clients-tested.md", "README.md"}

func readTree(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet(), texts: map[string]string{}}
	err := fs.WalkDir(fsys, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(name)
		if entry.IsDir() {
			if name != "." && (strings.HasPrefix(base, ".") || base == "node_modules" || base == "dist") {
				return fs.SkipDir
			}
			return nil
		}
		inTestdata := strings.Contains("/"+name, "/testdata/")
		switch {
		case strings.HasSuffix(name, ".go") && !inTestdata:
			text, err := fs.ReadFile(fsys, name)
			if err != nil {
				return err
			}
			syntax, err := parser.ParseFile(t.fset, name, text, parser.ParseComments)
			if err != nil {
				return err
			}
			t.files = append(t.files, &source{
				path: name, dir: path.Dir(name), text: string(text), syntax: syntax,
				test:    strings.HasSuffix(name, "_test.go") || listed(path.Dir(name), "internal/servertest internal/rig"), // decisions 8 and 25
				program: syntax.Name.Name == "main",
				written: !ast.IsGenerated(syntax),
			})
		case slices.ContainsFunc(withText, func(ending string) bool { return strings.HasSuffix(name, ending) }):
			if inTestdata && !strings.HasSuffix(name, ".txtar") {
				return nil
			}
			text, err := fs.ReadFile(fsys, name)
			if err != nil {
				return err
			}
			t.texts[name] = string(text)
		}
		return nil
	})
	return t, err
}

// at turns a position into a finding.
func (t *tree) at(pos token.Pos, format string, args ...any) finding {
	p := t.fset.Position(pos)
	return finding{fmt.Sprintf("%s:%d", p.Filename, p.Line), fmt.Sprintf(format, args...)}
}

// internals are the files that the rules of internal/ bind: no tests, programs
// or generated code.
func (t *tree) internals() []*source {
	return slices.DeleteFunc(slices.Clone(t.files), func(f *source) bool {
		return f.test || f.program || !f.written || !under(f.dir, "internal")
	})
}

func under(dir, folder string) bool { return dir == folder || strings.HasPrefix(dir, folder+"/") }

// listed says whether dir is one of the folders, or below one.
func listed(dir, folders string) bool {
	return slices.ContainsFunc(strings.Fields(folders), func(folder string) bool { return under(dir, folder) })
}

// home is the row of mayImport that a folder belongs to.
func home(dir string) (string, bool) {
	for folder := range mayImport {
		if under(dir, folder) {
			return folder, true
		}
	}
	return dir, false
}

func imports(f *source) map[string]token.Pos {
	found := map[string]token.Pos{}
	for _, spec := range f.syntax.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err == nil {
			found[name] = spec.Pos()
		}
	}
	return found
}

func ownImports(t *tree) (found []finding) {
	for _, f := range t.files {
		row, known := home(f.dir)
		for name, pos := range imports(f) {
			ours, ok := strings.CutPrefix(name, module+"/")
			if !ok {
				continue
			}
			switch target, _ := home(ours); {
			case under(f.dir, "guard"):
				if !under(ours, "guard") {
					found = append(found, t.at(pos, "guard imports %s; it imports nothing of the product", ours))
				}
			case under(f.dir, "examples"):
				if !under(ours, "guard") && !under(ours, path.Dir(f.dir+"/x")) {
					found = append(found, t.at(pos, "an example imports %s; examples import guard only", ours))
				}
			case under(ours, "guard") || under(ours, "examples"):
				found = append(found, t.at(pos, "the product imports %s, which is another module", ours))
			case f.test || f.dir == "." || target == row:
			case !known:
				found = append(found, t.at(pos, "%s has no row in mayImport", f.dir))
			case target != ours:
				found = append(found, t.at(pos, "%s imports %s, which belongs to %s alone", f.dir, ours, target))
			case !slices.Contains(strings.Fields(mayImport[row]), strings.TrimPrefix(ours, "internal/")):
				found = append(found, t.at(pos, "%s imports %s", f.dir, ours))
			}
		}
		if !known && !f.test && under(f.dir, "internal") {
			found = append(found, t.at(f.syntax.Name.Pos(), "%s has no row in mayImport", f.dir))
		}
	}
	return found
}

func foreignImports(t *tree) (found []finding) {
	for _, f := range t.files {
		for name, pos := range imports(f) {
			first, _, _ := strings.Cut(name, "/")
			switch {
			case name == module || strings.HasPrefix(name, module+"/") || !f.written:
			case strings.Contains(first, "."):
				folders, ok := rowOf(thirdParty, name)
				switch {
				case !ok:
					found = append(found, t.at(pos, "%s has no row in thirdParty", name))
				case !f.test && !listed(f.dir, folders):
					found = append(found, t.at(pos, "%s imports %s; only %s may", f.dir, name, allowed(folders)))
				}
			case !f.test && !f.program && under(f.dir, "internal"):
				if folders, ok := standard[name]; ok && !listed(f.dir, folders) {
					found = append(found, t.at(pos, "%s imports %s; only %s may", f.dir, name, allowed(folders)))
				}
			}
		}
	}
	return found
}

func rowOf(table map[string]string, name string) (folders string, ok bool) {
	for prefix, folders := range table {
		if under(name, prefix) {
			return folders, true
		}
	}
	return "", false
}

func allowed(folders string) string {
	if folders == "" {
		return "tests"
	}
	return strings.Join(strings.Fields(folders), " and ")
}

func forbiddenCalls(t *tree) (found []finding) {
	for _, f := range t.internals() {
		names := map[string]string{} // import path by local name
		for _, spec := range f.syntax.Imports {
			if name, err := strconv.Unquote(spec.Path.Value); err == nil {
				local := path.Base(name)
				if spec.Name != nil {
					local = spec.Name.Name
				}
				names[local] = name
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			pkg, ok := selector.X.(*ast.Ident)
			if !ok || names[pkg.Name] == "" {
				return true
			}
			name := names[pkg.Name] + "." + selector.Sel.Name
			if folders, ok := calls[name]; ok && !listed(f.dir, folders) {
				found = append(found, t.at(n.Pos(), "%s uses %s", f.dir, name))
			}
			return true
		})
	}
	return found
}

func forbiddenStatements(t *tree) (found []finding) {
	for _, f := range t.internals() {
		explained := map[int]bool{} // lines that say why a panic stands there
		for _, group := range f.syntax.Comments {
			if text := group.Text(); strings.HasPrefix(text, "impossible: ") || strings.HasPrefix(text, "again: ") {
				explained[t.fset.Position(group.Pos()).Line] = true
			}
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				if f.dir != "internal/server" {
					found = append(found, t.at(n.Pos(), "a goroutine outside internal/server"))
				}
			case *ast.CallExpr:
				if name, ok := n.Fun.(*ast.Ident); ok && slices.Contains([]string{"panic", "print", "println"}, name.Name) &&
					!explained[t.fset.Position(n.Pos()).Line] && !abortsHandler(n) {
					found = append(found, t.at(n.Pos(), "%s()", name.Name))
				}
			case *ast.FuncDecl:
				if n.Recv == nil && n.Name.Name == "init" {
					found = append(found, t.at(n.Pos(), "func init"))
				}
			}
			return true
		})
	}
	return found
}

// abortsHandler knows the panic by which net/http lets a handler cut the
// connection.
func abortsHandler(call *ast.CallExpr) bool {
	if len(call.Args) != 1 {
		return false
	}
	value, ok := call.Args[0].(*ast.SelectorExpr)
	return ok && value.Sel.Name == "ErrAbortHandler"
}

func folderNames(t *tree) (found []finding) {
	banned := []string{"util", "utils", "common", "helpers", "helper", "models", "types", "misc", "pkg", "lib"}
	for _, f := range t.files {
		for _, part := range strings.Split(f.dir, "/") {
			if slices.Contains(banned, part) {
				found = append(found, finding{f.path, fmt.Sprintf("a folder named %s", part)})
			}
		}
	}
	return found
}

func packageComments(t *tree) (found []finding) {
	documented := map[string]bool{}
	for _, f := range t.files {
		if f.test || !f.written {
			continue
		}
		doc := f.syntax.Doc.Text()
		documented[f.dir] = documented[f.dir] || strings.HasPrefix(doc, "Package "+f.syntax.Name.Name+" ") ||
			f.program && doc != ""
	}
	for _, dir := range slices.Sorted(maps.Keys(documented)) {
		if !documented[dir] {
			found = append(found, finding{dir, `no comment "Package … " above the package clause`})
		}
	}
	return found
}

func exportedComments(t *tree) (found []finding) {
	missing := func(name *ast.Ident, docs ...*ast.CommentGroup) {
		if name.IsExported() && !slices.ContainsFunc(docs, func(doc *ast.CommentGroup) bool { return doc != nil }) {
			found = append(found, t.at(name.Pos(), "%s has no comment", name.Name))
		}
	}
	for _, f := range t.files {
		if f.test || f.program || !f.written {
			continue
		}
		for _, decl := range f.syntax.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				// What these promise, their interface says.
				known := decl.Recv != nil && slices.Contains([]string{"Error", "Unwrap", "ServeHTTP"}, decl.Name.Name)
				if decl.Recv == nil || ast.IsExported(receiver(decl)) && !known {
					missing(decl.Name, decl.Doc)
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						missing(spec.Name, spec.Doc, decl.Doc)
						// The comment on an interface of one method is about that method.
						if methods, ok := spec.Type.(*ast.InterfaceType); ok && spec.Name.IsExported() && len(methods.Methods.List) > 1 {
							for _, method := range methods.Methods.List {
								for _, name := range method.Names {
									missing(name, method.Doc, method.Comment)
								}
							}
						}
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							missing(name, spec.Doc, spec.Comment, decl.Doc)
						}
					}
				}
			}
		}
	}
	return found
}

// receiver is the name of a method's type.
func receiver(f *ast.FuncDecl) string {
	expr := f.Recv.List[0].Type
	for {
		switch e := expr.(type) {
		case *ast.StarExpr:
			expr = e.X
		case *ast.IndexExpr:
			expr = e.X
		case *ast.Ident:
			return e.Name
		default:
			return ""
		}
	}
}

var (
	todo      = regexp.MustCompile(`(?m)^\s*(?://|/?\*)?\s*(?:TODO|FIXME)\b.*|\b(?:TODO|FIXME)[:(].*`)
	withIssue = regexp.MustCompile(`\bissue \d+`)
)

func todos(t *tree) (found []finding) {
	for _, f := range t.files {
		for _, group := range f.syntax.Comments {
			for _, comment := range group.List {
				for _, text := range todo.FindAllString(comment.Text, -1) {
					if !withIssue.MatchString(text) {
						found = append(found, t.at(comment.Pos(), "a TODO without an issue"))
					}
				}
			}
		}
	}
	return found
}

const documents = `RFC \d+|draft-[a-z0-9-]*\d{2}|(?:OIDC|OpenID) [A-Z][\w.-]*(?: [A-Z0-9][\w.-]*)*|MCP [\w-]+(?: [\w-]+)*`

var (
	document = regexp.MustCompile(documents)
	// A § is fine after the name of a document, after another §, and in a comment
	// that names one document only.
	cited = regexp.MustCompile(`(?:` + documents + `|§[\w.]+(?:,| and| or| to|–|-)?)\s*$`)
	bare  = regexp.MustCompile(`(?i)\bsections? \d`)
)

func citations(t *tree) (found []finding) {
	for _, f := range t.files {
		if !listed(f.dir, "internal/oauth internal/signing guard") {
			continue
		}
		for _, group := range f.syntax.Comments {
			text := strings.Join(strings.Fields(group.Text()), " ")
			named := document.FindAllString(text, -1)
			slices.Sort(named)
			alone := len(slices.Compact(named)) == 1
			for rest := text; !alone; {
				i := strings.Index(rest, "§")
				if i < 0 {
					break
				}
				done := len(text) - len(rest) + i
				if !cited.MatchString(text[:done]) {
					found = append(found, t.at(group.Pos(), "a § without its document: …%s", excerpt(text, done)))
				}
				rest = rest[i+len("§"):]
			}
			if at := bare.FindStringIndex(text); at != nil {
				found = append(found, t.at(group.Pos(), "a section without its document: …%s", excerpt(text, at[0])))
			}
		}
	}
	return found
}

func excerpt(text string, at int) string {
	return strings.ToValidUTF8(text[max(0, at-20):min(len(text), at+12)], "")
}

// constructors looks at the packages that have a Config: New takes it, and no
// option function stands beside it.
func constructors(t *tree) (found []finding) {
	configured := map[string]bool{}
	functions := map[string][]*ast.FuncDecl{}
	for _, f := range t.files {
		if f.test || f.program || !f.written || !listed(f.dir, "internal guard") {
			continue
		}
		for _, decl := range f.syntax.Decls {
			switch decl := decl.(type) {
			case *ast.FuncDecl:
				if decl.Recv == nil && decl.Name.Name == "New" {
					functions[f.dir] = append(functions[f.dir], decl)
				}
			case *ast.GenDecl:
				for _, spec := range decl.Specs {
					spec, ok := spec.(*ast.TypeSpec)
					if !ok {
						continue
					}
					configured[f.dir] = configured[f.dir] || spec.Name.Name == "Config"
					if _, ok := spec.Type.(*ast.FuncType); ok && strings.HasSuffix(spec.Name.Name, "Option") {
						found = append(found, t.at(spec.Pos(), "%s is an option function", spec.Name.Name))
					}
				}
			}
		}
	}
	for dir, news := range functions {
		for _, decl := range news {
			takesConfig := slices.ContainsFunc(decl.Type.Params.List, func(param *ast.Field) bool {
				name, ok := param.Type.(*ast.Ident)
				return ok && name.Name == "Config"
			})
			if !takesConfig && (configured[dir] || decl.Type.Params.NumFields() > 2) {
				found = append(found, t.at(decl.Pos(), "New without a Config"))
			}
		}
	}
	return found
}

func smallMain(t *tree) (found []finding) {
	for _, f := range t.files {
		if f.path == "cmd/postern/main.go" {
			if lines := t.fset.Position(f.syntax.FileEnd).Line; lines > 40 {
				found = append(found, finding{f.path, fmt.Sprintf("%d lines; 40 are enough", lines)})
			}
		} else if under(f.dir, "cmd/postern") && !f.test {
			ast.Inspect(f.syntax, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok && s.Sel.Name == "Exit" {
					if pkg, ok := s.X.(*ast.Ident); ok && pkg.Name == "os" {
						found = append(found, t.at(n.Pos(), "os.Exit outside main.go"))
					}
				}
				return true
			})
		}
	}
	return found
}

// compatible is the one file outside internal/api that may spell the vendor's
// constants: the claims of the compatible token profile.
const compatible = "internal/oauth/compatible.go"

func vendorWords(t *tree) (found []finding) {
	for _, f := range t.internals() {
		if under(f.dir, "internal/api") || f.path == compatible {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if text, ok := n.(*ast.BasicLit); ok && text.Kind == token.STRING && strings.Contains(strings.ToLower(text.Value), "stytch") {
				found = append(found, t.at(n.Pos(), "%s", text.Value))
			}
			return true
		})
	}
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		if strings.HasPrefix(name, "internal/") && !under(name, "internal/api") && !strings.HasSuffix(name, ".txtar") &&
			strings.Contains(strings.ToLower(t.texts[name]), "stytch") {
			found = append(found, finding{name, "the vendor's name"})
		}
	}
	return found
}

// goVersions is the oldest Go of each module: for guard, the oldest that the
// MCP SDK supports.
var goVersions = map[string]string{"go.mod": "1.26.0", "guard/go.mod": "1.25.0", "examples/go.mod": "1.26.0", "tools/go.mod": "1.26.0"}

func goModules(t *tree) (found []finding) {
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		if path.Base(name) == "go.work" {
			if used := regexp.MustCompile(`(?m)^\s+(\./?\S*)$`).FindAllString(t.texts[name], -1); strings.Join(strings.Fields(strings.Join(used, " ")), " ") != ". ./examples ./guard" {
				found = append(found, finding{name, "the workspace uses other modules than . ./examples ./guard"})
			}
		}
		if path.Base(name) != "go.mod" {
			continue
		}
		want, known := goVersions[name]
		if !known {
			found = append(found, finding{name, "a module without a row in goVersions"})
		}
		for i, line := range strings.Split(t.texts[name], "\n") {
			where := fmt.Sprintf("%s:%d", name, i+1)
			fields := strings.Fields(line)
			switch {
			case len(fields) == 0:
			case fields[0] == "go" && known && fields[1] != want:
				found = append(found, finding{where, fmt.Sprintf("go %s, want %s", fields[1], want)})
			case fields[0] == "toolchain":
				found = append(found, finding{where, "a toolchain line"})
			case fields[0] == "replace" && (name != "examples/go.mod" || line != "replace "+module+"/guard => ../guard"):
				found = append(found, finding{where, "a replace: go install would break, or the examples would not be what people copy"})
			}
		}
	}
	return found
}

var sqlBans = []struct {
	pattern *regexp.Regexp
	why     string
}{
	{regexp.MustCompile(`::`), "a cast with ::, which SQLite refuses; CAST(x AS t)"},
	{regexp.MustCompile(`(?i)\bnow\(|\bCURRENT_(?:TIME|DATE)`), "the database's clock; bind the time"},
	{regexp.MustCompile(`(?i)\bILIKE\b`), "ILIKE; compare a folded column"},
	{regexp.MustCompile(`(?i)\bFOR UPDATE\b`), "FOR UPDATE; one conditional statement decides"},
	{regexp.MustCompile(`(?i)\b(?:SELECT|RETURNING)\s+\*`), "*; name the columns"},
	{regexp.MustCompile(`(?i)\bCOLLATE\b`), "a collation; the migrator sets it"},
	{regexp.MustCompile(`(?i)\bJSONB?\b|\[\]|\bSERIAL\b|\bTIMESTAMP`), "a type that only one database knows"},
}

func commonSQL(t *tree) (found []finding) {
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		if !strings.HasPrefix(name, "internal/store/") || !strings.HasSuffix(name, ".sql") {
			continue
		}
		for i, line := range strings.Split(t.texts[name], "\n") {
			statement, _, _ := strings.Cut(line, "--")
			for _, ban := range sqlBans {
				if ban.pattern.MatchString(statement) {
					found = append(found, finding{fmt.Sprintf("%s:%d", name, i+1), ban.why})
				}
			}
		}
	}
	return found
}

func sameTokens(t *tree) (found []finding) {
	const original = "internal/web/static/tokens.css"
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		if path.Base(name) == "tokens.css" && t.texts[name] != t.texts[original] {
			found = append(found, finding{name, "differs from " + original})
		}
	}
	return found
}

// readmeClients compares the versions in the README's table of clients with
// those that were run.
func readmeClients(t *tree) (found []finding) {
	const page, readme = "docs/clients-tested.md", "README.md"
	_, section, _ := strings.Cut(t.texts[readme], "\n## Works with\n")
	section, _, _ = strings.Cut(section, "\n## ")
	said, ran := versionsIn(section, 1, -1), versionsIn(t.texts[page], 2, 1)
	for _, v := range slices.Sorted(maps.Keys(said)) {
		if !ran[v] {
			found = append(found, finding{readme, v + " is no version of " + page})
		}
	}
	for _, v := range slices.Sorted(maps.Keys(ran)) {
		if !said[v] {
			found = append(found, finding{readme, v + " of " + page + " is not in the table of clients"})
		}
	}
	return found
}

var twoNumbers = regexp.MustCompile(`(?:^|[^\d.])(\d+\.\d+)\b`)

// versionsIn are the first two numbers of the versions in a column of a page's
// tables, of at most so many in a cell, or of all.
func versionsIn(page string, column, most int) map[string]bool {
	all := map[string]bool{}
	for line := range strings.Lines(page) {
		if cells := strings.Split(line, "|"); len(cells) > column {
			for _, version := range twoNumbers.FindAllStringSubmatch(cells[column], most) {
				all[version[1]] = true
			}
		}
	}
	return all
}

func lockFiles(t *tree) (found []finding) {
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		if path.Base(name) == "package-lock.json" && strings.Contains(t.texts[name], `"resolved"`) {
			found = append(found, finding{name, "download addresses"})
		}
	}
	return found
}

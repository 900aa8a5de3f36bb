package postern_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/postern-id/postern/internal/spec"
)

// samples are small trees for every rule: one that breaks it for each way to
// break it, with a part of what the finding says, and ones that keep it, which
// say "".
var samples = map[string][]sample{
	"imports of our own packages": {
		{"domain imports storage", "imports internal/store", files{"internal/oauth/a.go": `package oauth; import _ "` + module + `/internal/store"`}},
		{"package without a row", "has no row", files{"internal/extra/a.go": `package extra`}},
		{"another package's inside", "belongs to internal/store alone", files{"internal/server/a.go": `package server; import _ "` + module + `/internal/store/db"`}},
		{"guard imports the product", "imports nothing of the product", files{"guard/a.go": `package guard; import _ "` + module + `/internal/oauth"`}},
		{"guard's tests import the product", "imports nothing of the product", files{"guard/a_test.go": `package guard; import _ "` + module + `/internal/oauth"`}},
		{"example imports the product", "examples import guard only", files{"examples/todo/a.go": `package main; import _ "` + module + `/internal/web"`}},
		{"example imports another", "examples import guard only", files{"examples/todo/a.go": `package main; import _ "` + module + `/examples/okr"`}},
		{"product imports guard", "another module", files{"internal/server/a.go": `package server; import _ "` + module + `/guard"`}},
		{"allowed", "", files{
			"internal/oauth/a.go":          `package oauth; import _ "` + module + `/internal/signing"`,
			"internal/oauth/a_test.go":     `package oauth_test; import _ "` + module + `/internal/store"`,
			"internal/store/a.go":          `package store; import _ "` + module + `/internal/store/db"`,
			"examples/todo/a.go":           `package main; import _ "` + module + `/guard/mcpguard"`,
			"guard/mcpguard/a.go":          `package mcpguard; import _ "` + module + `/guard"`,
			"cmd/postern/a.go":             `package main; import _ "` + module + `/internal/project"`,
			"internal/server/assemble.go":  `package server; import _ "` + module + `/internal/api"`,
			"internal/servertest/start.go": `package servertest; import _ "` + module + `/internal/server"`,
			"internal/rig/start.go":        `package rig; import _ "os/exec"`,
		}},
	},
	"imports of other modules": {
		{"unknown module", "has no row", files{"internal/web/a.go": `package web; import _ "example.com/framework"`}},
		{"JOSE outside signing", "only internal/signing may", files{"internal/oauth/a.go": `package oauth; import _ "github.com/go-jose/go-jose/v4/jwt"`}},
		{"tests' module in a program", "only tests may", files{"cmd/postern/a.go": `package main; import _ "github.com/google/go-cmp/cmp"`}},
		{"SQL outside store", "only internal/store may", files{"internal/oauth/a.go": `package oauth; import _ "database/sql"`}},
		{"allowed", "", files{
			"internal/signing/a.go":    `package signing; import _ "github.com/go-jose/go-jose/v4"`,
			"internal/oauth/a_test.go": `package oauth; import (_ "github.com/go-jose/go-jose/v4"; _ "database/sql"; _ "github.com/google/go-cmp/cmp")`,
			"internal/store/a.go":      `package store; import (_ "database/sql"; _ "modernc.org/sqlite")`,
		}},
	},
	"calls with one home": {
		{"the clock", "uses time.Now", files{"internal/oauth/a.go": `package oauth; import "time"; var now = time.Now`}},
		{"the clock by another name", "uses time.Now", files{"internal/oauth/a.go": `package oauth; import clock "time"; var now = clock.Now`}},
		{"error pages", "uses net/http.Error", files{"internal/login/a.go": `package login; import "net/http"; func f(w http.ResponseWriter) { http.Error(w, "no", 400) }`}},
		{"printing", "uses fmt.Println", files{"internal/login/a.go": `package login; import "fmt"; func f() { fmt.Println() }`}},
		{"cookies", "uses net/http.SetCookie", files{"internal/oauth/a.go": `package oauth; import "net/http"; func f(w http.ResponseWriter) { http.SetCookie(w, nil) }`}},
		{"settings", "uses os.Getenv", files{"internal/store/a.go": `package store; import "os"; var s = os.Getenv("X")`}},
		{"log lines", "uses log/slog.Logger", files{"internal/oauth/a.go": `package oauth; import "log/slog"; type Config struct { Log *slog.Logger }`}},
		{"allowed", "", files{
			"internal/server/a.go":     `package server; import "time"; var now = time.Now`,
			"internal/oauth/a.go":      `package oauth; import ("time"; "log/slog"); func f(time struct{ Now int }) slog.Attr { return slog.Int("n", 1) }; var d = time.Second`,
			"internal/oauth/a_test.go": `package oauth; import "time"; var now = time.Now`,
			"internal/testrun/a.go":    `package main; import "time"; var now = time.Now`,
			"cmd/postern/a.go":         `package main; import "time"; var now = time.Now`,
		}},
	},
	"no panic, goroutine or init": {
		{"panic", "panic()", files{"internal/oauth/a.go": "package oauth\nfunc f() { panic(1) }"}},
		{"panic with an ordinary comment", "panic()", files{"internal/oauth/a.go": "package oauth\nfunc f() {\n\tpanic(1) // never\n}"}},
		{"println", "println()", files{"internal/oauth/a.go": "package oauth\nfunc f() { println(1) }"}},
		{"goroutine", "a goroutine", files{"internal/store/a.go": "package store\nfunc f() { go f() }"}},
		{"init", "func init", files{"internal/store/a.go": "package store\nfunc init() {}"}},
		{"allowed", "", files{
			"internal/server/run.go":   "package server\nfunc f() { go f() }",
			"internal/oauth/a.go":      "package oauth\nfunc f() {\n\tpanic(1) // impossible: the key has 32 bytes\n\tpanic(2) // again: the leader caught it\n}\ntype t struct{}\nfunc (t) init() {}",
			"internal/web/a.go":        "package web\nimport \"net/http\"\nfunc f() { panic(http.ErrAbortHandler) }",
			"internal/oauth/a_test.go": "package oauth\nfunc f() { go panic(1) }",
		}},
	},
	"folder names": {
		{"util", "a folder named util", files{"internal/util/a.go": "package util"}},
		{"below", "a folder named helpers", files{"guard/helpers/a.go": "package helpers"}},
		{"allowed", "", files{"internal/wire/a.go": "package wire"}},
	},
	"package comments": {
		{"none", "no comment", files{"internal/oauth/a.go": "package oauth"}},
		{"of another form", "no comment", files{"internal/oauth/a.go": "// Here is OAuth.\npackage oauth"}},
		{"allowed", "", files{
			"internal/oauth/a.go":      "package oauth",
			"internal/oauth/doc.go":    "// Package oauth is the protocol.\npackage oauth",
			"internal/store/db/a.go":   "// Code generated by sqlc. DO NOT EDIT.\n\npackage db",
			"cmd/postern/main.go":      "// Postern is the one binary.\npackage main",
			"examples/e2e/all_test.go": "package e2e_test",
		}},
	},
	"comments on exported names": {
		{"function", "F has no comment", files{"guard/a.go": "package guard\nfunc F() {}"}},
		{"method", "M has no comment", files{"guard/a.go": "package guard\n// T is.\ntype T[A any] struct{}\nfunc (t *T[A]) M() {}"}},
		{"type", "T has no comment", files{"guard/a.go": "package guard\ntype T int"}},
		{"constant", "C has no comment", files{"guard/a.go": "package guard\nconst C = 1"}},
		{"method of an interface", "M has no comment", files{"guard/a.go": "package guard\n// I is.\ntype I interface {\n\tM()\n\t// N is.\n\tN()\n}"}},
		{"allowed", "", files{"guard/a.go": "package guard\n// T is.\ntype T int\nfunc (T) Error() string { return \"\" }\ntype t int\nfunc (t) M() {}\n// I is.\ntype I interface{ M() }\n// The kinds.\nconst (\n\tA = 1\n\tB = 2\n)"}},
	},
	"todos name an issue": {
		{"bare", "without an issue", files{"guard/a.go": "package guard\n// TODO later"}},
		{"with a name", "without an issue", files{"guard/a.go": "package guard\n// Works. TODO(ada): faster"}},
		{"in a block", "without an issue", files{"guard/a.go": "package guard\n/*\n * FIXME\n */"}},
		{"allowed", "", files{"guard/a.go": "package guard\n// TODO(issue 7): DPoP\n// The TODO example listens on TODO_PORT."}},
	},
	"citations name their document": {
		{"bare sign", "a § without its document", files{"guard/a.go": "package guard\n// As §4.1 says."}},
		{"after two documents", "a § without its document", files{"guard/a.go": "package guard\n// RFC 6749 and RFC 6750 agree (see §3)."}},
		{"bare word", "a section without its document", files{"guard/a.go": "package guard\n// As section 4.1 says."}},
		{"draft without version", "a § without its document", files{"internal/oauth/a.go": "package oauth\n// draft-ietf-oauth-v2 §4.1"}},
		{"allowed", "", files{
			"guard/a.go":          "package guard\n// RFC 9700 §4.14.2, RFC 6749 §4.1, §4.2 and §5; draft-ietf-oauth-v2-1-13 §4.1.3;\n// OpenID Connect Core 1.0 §3.1.2.1, RFC\n// 6750 §3",
			"guard/b.go":          "package guard\n// Revocation is RFC 7009. A dead token is fine (§2.2).",
			"internal/store/a.go": "package store\n// §1",
		}},
	},
	"constructors take a Config": {
		{"Config ignored", "New without a Config", files{"guard/a.go": "package guard\ntype Config struct{}\nfunc New(a string) {}"}},
		{"many arguments", "New without a Config", files{"guard/a.go": "package guard\nfunc New(a, b string, c int) {}"}},
		{"options", "an option function", files{"guard/a.go": "package guard\ntype ServerOption func(*int)"}},
		{"allowed", "", files{"guard/a.go": "package guard\nimport \"context\"\ntype Config struct{}\nfunc New(ctx context.Context, c Config) {}", "internal/secret/a.go": "package secret\nfunc New(kind string) {}"}},
	},
	"main is small": {
		{"long", "lines; 40 are enough", files{"cmd/postern/main.go": "package main" + strings.Repeat("\n", 45) + "func main() {}"}},
		{"exit elsewhere", "os.Exit outside", files{"cmd/postern/serve.go": "package main\nimport \"os\"\nfunc f() { os.Exit(1) }"}},
		{"allowed", "", files{"cmd/postern/main.go": "package main\nimport \"os\"\nfunc main() { os.Exit(1) }"}},
	},
	"vendor words stay outside": {
		{"literal", `"stytch_session"`, files{"internal/login/a.go": `package login; const c = "stytch_session"`}},
		{"tag", "Stytch", files{"internal/oauth/a.go": "package oauth; type T struct { A string `json:\"Stytch\"` }"}},
		{"template", "the vendor's name", files{"internal/login/templates/a.html": "<p>Stytch"}},
		{"allowed", "", files{
			"internal/api/a.go":        `package api; const c = "stytch_session"`,
			compatible:                 `package oauth; const c = "https://stytch.com/session"`,
			"internal/login/a.go":      "package login\n// The form is the one Stytch's SDKs send.",
			"internal/login/a_test.go": `package login; const c = "stytch"`,
		}},
	},
	"modules": {
		{"replace", "a replace", files{"go.mod": "module x\n\ngo 1.26.0\n\nreplace a => b\n"}},
		{"replace of another module", "a replace", files{"examples/go.mod": "go 1.26.0\nreplace a => ../a\n"}},
		{"newer Go for guard", "go 1.26.0, want 1.25.0", files{"guard/go.mod": "go 1.26.0\n"}},
		{"toolchain", "a toolchain line", files{"go.mod": "go 1.26.0\ntoolchain go1.26.8\n"}},
		{"a fifth module", "without a row", files{"internal/go.mod": "go 1.26.0\n"}},
		{"tools in the workspace", "the workspace uses", files{"go.work": "go 1.26.0\n\nuse (\n\t.\n\t./examples\n\t./guard\n\t./tools\n)\n"}},
		{"allowed", "", files{
			"go.mod":          "module x\n\ngo 1.26.0\n",
			"go.work":         "go 1.26.0\n\nuse (\n\t.\n\t./examples\n\t./guard\n)\n",
			"examples/go.mod": "go 1.26.0\nreplace " + module + "/guard => ../guard\n",
		}},
	},
	"one SQL for both databases": {
		{"cast", "CAST", files{"internal/store/queries/a.sql": "SELECT a::text FROM t"}},
		{"clock", "bind the time", files{"internal/store/queries/a.sql": "SELECT now()"}},
		{"lock", "conditional statement", files{"internal/store/queries/a.sql": "SELECT a FROM t for update"}},
		{"star", "name the columns", files{"internal/store/queries/a.sql": "DELETE FROM t RETURNING *"}},
		{"collation", "the migrator", files{"internal/store/schema/1.sql": `a TEXT COLLATE "C"`}},
		{"type", "only one database", files{"internal/store/schema/1.sql": "a JSONB"}},
		{"fold", "folded column", files{"internal/store/queries/a.sql": "SELECT a FROM t WHERE a ILIKE $1"}},
		{"allowed", "", files{"internal/store/queries/a.sql": "-- not now(), not x::y\nSELECT CAST(a AS TEXT), count(*) FROM t WHERE id = $1"}},
	},
	"one design": {
		{"changed copy", "differs from", files{"internal/web/static/tokens.css": "a", "examples/todo/static/tokens.css": "b"}},
		{"allowed", "", files{"internal/web/static/tokens.css": "a", "examples/todo/static/tokens.css": "a"}},
	},
	"clients in the README": {
		{"old version", "1.31 is no version", files{"README.md": "\n## Works with\n\n| SDK 1.32 and 1.31 | x |\n\n## Next\n", "docs/clients-tested.md": "| [SDK](1.9) | 1.32.2 |\n"}},
		{"left out", "4.1 of docs/clients-tested.md", files{"README.md": "\n## Works with\n\n| SDK 1.32 | x |\n", "docs/clients-tested.md": "| SDK | 1.32.2 |\n| F | 4.1.2, on 3.3.0 |\n"}},
		{"allowed", "", files{"README.md": "Go 1.26\n## Works with\n\n2.0 by hand.\n| SDK 1.32, 2.4 | 2.2 |\n\n## Next\n| 3.3 |\n", "docs/clients-tested.md": "| A | 1.32.2 |\n| B | 2.4.0 |\n| C | as in 2025 |\n"}},
	},
	"lock files name no host": {
		{"address", "download addresses", files{"e2e/browser/package-lock.json": `{"resolved": "https://…"}`}},
		{"allowed", "", files{"e2e/browser/package-lock.json": `{"version": "1"}`}},
	},
	"ledger": {
		{"no title", "the document's title", files{"spec/a.toml": withoutTitle(row())}},
		{"no string", "not a line of this file", files{"spec/a.toml": row("reason = later")}},
		{"unknown key", "a key that is unknown", files{"spec/a.toml": row(`colour = "red"`)}},
		{"key twice", "stands twice", files{"spec/a.toml": row(`level = "MAY"`)}},
		{"bad id", "not of the form", files{"spec/a.toml": strings.Replace(row(), "RFC1-2-a", "rfc1", 1)}},
		{"id twice", "stands already at spec/a.toml:2", files{"spec/a.toml": row(), "spec/b.toml": row()}},
		{"bad level", `level "OUGHT"`, files{"spec/a.toml": strings.Replace(row(), "MUST", "OUGHT", 1)}},
		{"bad status", `status "done"`, files{"spec/a.toml": strings.Replace(row(`reason = "Was."`), "kept", "done", 1)}},
		{"no text", "no text", files{"spec/a.toml": strings.Replace(row(), "Do it.", "", 1)}},
		{"no reason", "without a reason", files{"spec/a.toml": strings.Replace(row(), "kept", "differs", 1)}},
		{"key before a clause", "a key that is unknown", files{"spec/a.toml": "# A document\nid = \"RFC1-2-a\""}},
		{"allowed", "", files{"spec/a.toml": "# A.\n# B.\n\n" + row(), "spec/b.toml": strings.NewReplacer("kept", "open", "RFC1-2-a", "MCP-AS-1").Replace(row())}},
	},
	"proofs": {
		{"kept MUST without proof", "no test proves RFC1-2-a", files{"spec/a.toml": row()}},
		{"proof outside tests", "no test proves RFC1-2-a", files{"spec/a.toml": row(), "guard/a.go": "package guard\n// Proves: RFC1-2-a"}},
		{"unknown clause", "proves RFC1-9-z", files{"guard/a_test.go": "package guard\n// Proves: RFC1-9-z"}},
		{"unknown clause in a transcript", "proves RFC1-9-z", files{"internal/oauth/testdata/a.txtar": "# Proves: RFC1-9-z\n"}},
		{"allowed", "", files{"spec/a.toml": row(), "guard/a_test.go": "package guard\n// TestX.\n//\n// Proves: RFC1-2-a."}},
		{"second in a list", "", files{"spec/a.toml": row() + strings.ReplaceAll(withoutTitle(row()), "-2-a", "-2-b"), "guard/a_test.go": "package guard\n// Proves: RFC1-2-a,\n// RFC1-2-b and more"}},
		{"in a browser test", "", files{"spec/a.toml": row(), "e2e/browser/consent.spec.ts": "// Proves: RFC1-2-a\n"}},
		{"kept MUST NOT without proof", "no test proves", files{"spec/a.toml": strings.Replace(row(), "MUST", "MUST NOT", 1)}},
		{"kept SHOULD", "", files{"spec/a.toml": strings.Replace(row(), "MUST", "SHOULD", 1)}},
	},
	"divergences page": {
		{"missing", "is not what spec/ says", files{"spec/a.toml": row()}},
		{"old", "is not what spec/ says", files{"spec/a.toml": row(), divergences: "old"}},
		{"allowed", "", files{"spec/a.toml": row(), divergences: renderDivergences(nil)}},
	},
	"attacks": {
		{"no title", "the document's title", files{"spec/attacks/t.toml": withoutTitle(attack())}},
		{"unknown key", "a key that is unknown", files{"spec/attacks/t.toml": attack(`colour = "red"`)}},
		{"bad id", "not of the form", files{"spec/attacks/t.toml": strings.Replace(attack(), "T05", "T5", 1)}},
		{"id of another group", "not of the form", files{"spec/attacks/r.toml": attack()}},
		{"id twice", "stands already at spec/attacks/t.toml:2", files{"spec/attacks/t.toml": attack() + withoutTitle(attack())}},
		{"no source", "lacks endpoint, text or source", files{"spec/attacks/t.toml": strings.Replace(attack(), "CVE-2026-1", "", 1)}},
		{"bad tier", `tier "3"`, files{"spec/attacks/t.toml": strings.Replace(attack(), `tier = "1"`, `tier = "3"`, 1)}},
		{"bad storage", `storage "some"`, files{"spec/attacks/t.toml": attack(`storage = "some"`)}},
		{"bad status", `status "open"`, files{"spec/attacks/t.toml": strings.Replace(attack(`reason = "Was."`), "kept", "open", 1)}},
		{"no reason", "without a reason", files{"spec/attacks/t.toml": strings.Replace(attack(), "kept", "not done", 1)}},
		{"allowed", "", files{"spec/attacks/t.toml": attack(`storage = "none"`)}},
	},
	"attacks are tried": {
		{"kept without a test", "no test names T05", files{"spec/attacks/t.toml": attack()}},
		{"on one database", "on one database only", files{"spec/attacks/t.toml": attack(), "internal/oauth/a_test.go": trying(`t.Run("T05 other client", nil)`)}},
		{"in what a failure says", "no test names T05", files{"spec/attacks/t.toml": attack(), "internal/oauth/a_test.go": trying(`servertest.Each(t, nil); t.Error("T05 other client")`)}},
		{"unknown row", "names T06", files{"spec/attacks/t.toml": attack(`storage = "none"`), "internal/oauth/a_test.go": trying(`t.Run("T05 T06 other client", nil)`)}},
		{"unknown row in a browser test", "names B99", files{"spec/attacks/t.toml": strings.Replace(attack(`reason = "Later."`), "kept", "not done", 1), "e2e/browser/a.spec.ts": "// Row: B99\n"}},
		{"by name", "", files{"spec/attacks/t.toml": attack(), "internal/oauth/a_test.go": trying(`servertest.Each(t, nil); t.Run("T05 other client", nil)`)}},
		{"by comment", "", files{"spec/attacks/t.toml": attack(), "internal/oauth/a_test.go": "package oauth\n// Row: T05." + strings.TrimPrefix(trying(`servertest.Each(t, nil)`), "package oauth")}},
		{"by a table that a test uses", "", files{"spec/attacks/t.toml": attack(), "internal/oauth/a_test.go": trying(`each(t, cases)`) + "\nvar cases = []string{\"T05 other client\"}\nfunc each(t *testing.T, all []string) { t.Run(\"postgres\", nil) }"}},
		{"not done", "", files{"spec/attacks/t.toml": strings.Replace(attack(`reason = "Later."`), "kept", "not done", 1)}},
	},
	"seeded faults": {
		{"advisory without a fault", "no fault in spec/faults re-creates it", files{"spec/attacks/t.toml": attack()}},
		{"no longer there", "stands 0 times", faulty("case a != b:", "case a == b:")},
		{"more than once", "stands 2 times", faulty("case a != b:", "case a != b:\n\tcase a != b:")},
		{"changes nothing", "to differ", faulty("case false:", "case a != b:")},
		{"unknown row", "T06 is no row", faulty(`rows = "T05"`, `rows = "T05, T06"`)},
		{"no such test", "no test in internal/oauth is called TestToken", faulty("TestCode", "TestToken")},
		{"another key", "", faulty(`smoke = "yes"`, `smoke = "no"`)},
		{"allowed", "", faulty("", "")},
	},
	"attacks page": {
		{"missing", "is not what spec/ and the tests say", files{"spec/attacks/t.toml": attack()}},
		{"old", "is not what spec/ and the tests say", files{"spec/attacks/t.toml": attack(), attacksPage: "old"}},
		{"allowed", "", files{"spec/attacks/t.toml": attack(), attacksPage: renderAttacks(catalogue{groups: attackGroups(attack())})}},
	},
}

type sample struct {
	name  string
	want  string // part of the one finding; "" for none
	files files
}

type files map[string]string

// row is a ledger file with one kept MUST and further lines.
func row(more ...string) string {
	return "# A document.\n[[clause]]\nid = \"RFC1-2-a\"\nlevel = \"MUST\"\ntext = \"Do it.\"\nstatus = \"kept\"\n" +
		strings.Join(more, "\n") + "\n"
}

func withoutTitle(file string) string {
	_, rest, _ := strings.Cut(file, "\n")
	return rest
}

// attack is a row of the catalogue, with more lines behind it.
func attack(more ...string) string {
	return "# Token endpoint.\n[[attack]]\nid = \"T05\"\nendpoint = \"token\"\ntext = \"Another client.\"\nsource = \"CVE-2026-1\"\ntier = \"1\"\nstatus = \"kept\"\n" +
		strings.Join(more, "\n") + "\n"
}

func attackGroups(text string) []group {
	title, rows, _ := spec.Attacks("spec/attacks/t.toml", text)
	return []group{{"spec/attacks/t.toml", title, rows}}
}

// trying is a file with a test that runs a statement.
func trying(statement string) string {
	return "package oauth\nfunc TestCode(t *testing.T) { " + statement + " }"
}

// faulty is a tree with a fault that fits, one text in it replaced.
func faulty(old, replacement string) files {
	tree := files{
		"spec/attacks/t.toml":      attack(),
		"internal/oauth/a.go":      "package oauth\nfunc f(a, b int) {\n\tswitch {\n\tcase a != b:\n\t}\n}",
		"internal/oauth/a_test.go": trying(""),
		"spec/faults/t.toml": "# Faults.\n[[fault]]\nname = \"a code is for every client\"\nfile = \"internal/oauth/a.go\"\nold = \"case a != b:\"\nnew = \"case false:\"\n" +
			"rows = \"T05\"\npackage = \"internal/oauth\"\nrun = \"TestCode$/sqlite\"\nsmoke = \"yes\"\n",
	}
	place := "spec/faults/t.toml"
	if strings.HasPrefix(old, "case a") {
		place = "internal/oauth/a.go"
	}
	tree[place] = strings.Replace(tree[place], old, replacement, 1)
	return tree
}

func TestRulesCanFail(t *testing.T) {
	for _, rule := range rules {
		t.Run(rule.name, func(t *testing.T) {
			broken, kept := false, false
			for _, sample := range samples[rule.name] {
				t.Run(sample.name, func(t *testing.T) {
					fsys := fstest.MapFS{}
					for name, text := range sample.files {
						fsys[name] = &fstest.MapFile{Data: []byte(text)}
					}
					house, err := readTree(fsys)
					if err != nil {
						t.Fatal(err)
					}
					found := rule.check(house)
					switch {
					case sample.want == "" && len(found) > 0:
						t.Errorf("found %v", found)
					case sample.want != "" && (len(found) != 1 || !strings.Contains(found[0].what, sample.want)):
						t.Errorf("found %v, want one with %q", found, sample.want)
					}
				})
				broken, kept = broken || sample.want != "", kept || sample.want == ""
			}
			if !broken || !kept {
				t.Error("needs a sample that breaks it and one that keeps it")
			}
		})
	}
}

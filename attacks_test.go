package postern_test

import (
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/spec"
)

// machinery are the packages whose tests are about the catalogue itself, and name
// rows as examples.
var machinery = []string{".", "internal/servertest", "internal/spec", "internal/testrun"}

const attacksPage = "docs/attacks.md"

var (
	attackStatuses = []string{"kept", "differs", "not-applicable", "not done"}
	attackTiers    = []string{"1", "2"}
)

// group is one file of spec/attacks.
type group struct {
	name, title string
	rows        []spec.Attack
}

// attackTest is a test that names attacks, and the folder it is in.
type attackTest struct {
	dir string
	spec.Test
}

// String is how the page of attacks calls it.
func (a attackTest) String() string {
	if path.Ext(a.Name) != "" {
		return a.Name
	}
	return a.dir + "." + a.Name
}

// catalogue is what spec/ and the tests say about attacks.
type catalogue struct {
	groups []group
	faults []spec.Fault
	tests  []attackTest
}

// readCatalogue reads spec/attacks, spec/faults and the tests of all modules.
func readCatalogue(t *tree) (c catalogue, found []finding) {
	problems := func(all []spec.Problem) {
		for _, p := range all {
			found = append(found, finding{p.Where, p.What})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		switch {
		case path.Ext(name) == ".toml" && path.Dir(name) == "spec/attacks":
			title, rows, wrong := spec.Attacks(name, t.texts[name])
			problems(wrong)
			c.groups = append(c.groups, group{name, title, rows})
		case path.Ext(name) == ".toml" && path.Dir(name) == "spec/faults":
			faults, wrong := spec.Faults(name, t.texts[name])
			problems(wrong)
			c.faults = append(c.faults, faults...)
		case strings.HasSuffix(name, ".txtar"), strings.HasSuffix(name, ".spec.ts"):
			if test, ok := spec.Lines(name, t.texts[name]); ok {
				c.tests = append(c.tests, attackTest{path.Dir(name), test})
			}
		}
	}
	packages := map[string][]*ast.File{}
	for _, f := range t.files {
		if f.test && !slices.Contains(machinery, f.dir) {
			packages[f.dir] = append(packages[f.dir], f.syntax)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		for _, test := range spec.Tests(t.fset, packages[dir]) {
			c.tests = append(c.tests, attackTest{dir, test})
		}
	}
	return c, found
}

// naming are the tests that name a row.
func (c catalogue) naming(row string) []attackTest {
	return slices.DeleteFunc(slices.Clone(c.tests), func(t attackTest) bool { return !t.Names(row) })
}

// seeded says whether a fault is to turn the row's tests red.
func (c catalogue) seeded(row string) bool {
	return slices.ContainsFunc(c.faults, func(f spec.Fault) bool { return slices.Contains(f.Rows, row) })
}

func attackRows(t *tree) []finding {
	c, found := readCatalogue(t)
	seen := map[string]string{}
	for _, g := range c.groups {
		for _, row := range g.rows {
			bad := func(format string, args ...any) {
				found = append(found, finding{row.Where, fmt.Sprintf(format, args...)})
			}
			if !spec.RowID.MatchString(row.ID) || !strings.HasPrefix(path.Base(g.name), strings.ToLower(row.ID[:1])+".") {
				bad("id %q is not of the form T06, in the file of its letter", row.ID)
			}
			if before, twice := seen[row.ID]; twice {
				bad("id %s stands already at %s", row.ID, before)
			}
			seen[row.ID] = row.Where
			if row.Endpoint == "" || row.Text == "" || row.Source == "" {
				bad("%s lacks endpoint, text or source", row.ID)
			}
			if !slices.Contains(attackTiers, row.Tier) {
				bad("tier %q is none of %v", row.Tier, attackTiers)
			}
			if row.Storage != "" && row.Storage != "none" {
				bad("storage %q is neither left out nor none", row.Storage)
			}
			if row.Node != "" && row.Node != "second" {
				bad("node %q is neither left out nor second", row.Node)
			}
			if row.Event != "" && !strings.Contains(kindsOf(t), `"`+row.Event+`"`) {
				bad("event %q is no kind of internal/audit/audit.go", row.Event)
			}
			if !slices.Contains(attackStatuses, row.Status) {
				bad("status %q is none of %v", row.Status, attackStatuses)
			}
			if row.Status != "kept" && row.Reason == "" {
				bad("%s is %s without a reason", row.ID, row.Status)
			}
		}
	}
	return found
}

// kindsOf is the source that names the kinds of events.
func kindsOf(t *tree) string {
	for _, f := range t.files {
		if f.path == "internal/audit/audit.go" {
			return f.text
		}
	}
	return ""
}

// watch says what is checked around the tests of a row without their doing.
func (c catalogue) watch(row spec.Attack) string {
	tests := c.naming(row.ID)
	watched := 0
	for _, t := range tests {
		if t.Watched {
			watched++
		}
	}
	var words []string
	switch {
	case watched == 0:
		return "without"
	case watched == len(tests):
		words = append(words, "all")
	default:
		words = append(words, fmt.Sprintf("%d of %d", watched, len(tests)))
	}
	if row.Event != "" {
		words = append(words, "`"+row.Event+"`")
	}
	if row.Node == "second" {
		words = append(words, "second server")
	}
	return strings.Join(words, ", ")
}

func attackProofs(t *tree) (found []finding) {
	c, _ := readCatalogue(t)
	known := map[string]bool{}
	for _, g := range c.groups {
		for _, row := range g.rows {
			known[row.ID] = true
			if row.Status != "kept" {
				continue
			}
			tests := c.naming(row.ID)
			onBoth := slices.ContainsFunc(tests, func(t attackTest) bool { return t.Both })
			switch {
			case len(tests) == 0:
				found = append(found, finding{row.Where, "no test names " + row.ID})
			case row.Tier == "1" && row.Storage != "none" && !onBoth:
				found = append(found, finding{row.Where, row.ID + " is tried on one database only"})
			}
		}
	}
	for _, test := range c.tests {
		named := slices.Clone(test.Rows)
		for _, name := range test.Named {
			named = append(named, spec.RowsOf(name)...)
		}
		slices.Sort(named)
		for _, id := range slices.Compact(named) {
			if !known[id] && len(c.groups) > 0 {
				found = append(found, finding{test.Where, "names " + id + ", which no file in spec/attacks has"})
			}
		}
	}
	return found
}

// seededFaults checks the faults without running them: a fault that no longer
// fits its file would be missed in silence.
func seededFaults(t *tree) (found []finding) {
	c, _ := readCatalogue(t)
	rows := map[string]spec.Attack{}
	for _, g := range c.groups {
		for _, row := range g.rows {
			rows[row.ID] = row
		}
	}
	sources := maps.Clone(t.texts)
	tests := map[string][]string{} // names of test functions by folder
	for _, f := range t.files {
		sources[f.path] = f.text
		for _, decl := range f.syntax.Decls {
			if decl, ok := decl.(*ast.FuncDecl); ok && f.test && strings.HasPrefix(decl.Name.Name, "Test") {
				tests[f.dir] = append(tests[f.dir], decl.Name.Name)
			}
		}
	}
	names := map[string]string{}
	for _, fault := range c.faults {
		bad := func(format string, args ...any) {
			found = append(found, finding{fault.Where, fmt.Sprintf(format, args...)})
		}
		if before, twice := names[fault.Name]; twice || fault.Name == "" {
			bad("the name %q is empty or stands already at %s", fault.Name, before)
		}
		names[fault.Name] = fault.Where
		if n := strings.Count(sources[fault.File], fault.Old); n != 1 || fault.Old == "" || fault.Old == fault.New {
			bad("%s: the old text stands %d times in %q, and has to once, and to differ from the new one", fault.Name, n, fault.File)
		}
		if len(fault.Rows) == 0 {
			bad("%s names no row", fault.Name)
		}
		for _, id := range fault.Rows {
			if rows[id].Status != "kept" {
				bad("%s: %s is no row that is kept", fault.Name, id)
			}
		}
		first, _, _ := strings.Cut(fault.Run, "/")
		run, err := regexp.Compile(first)
		if err != nil || first == "" || !slices.ContainsFunc(tests[fault.Package], run.MatchString) {
			bad("%s: no test in %s is called %s", fault.Name, fault.Package, first)
		}
	}
	for _, g := range c.groups {
		for _, row := range g.rows {
			if row.Tier == "1" && row.Status == "kept" && len(row.Advisories()) > 0 && !c.seeded(row.ID) {
				found = append(found, finding{row.Where, row.ID + " comes from an advisory, and no fault in spec/faults re-creates it"})
			}
		}
	}
	return found
}

// renderAttacks is the page of the whole catalogue.
func renderAttacks(c catalogue) string {
	var out strings.Builder
	count := map[string]int{}
	vectors, seeded, watched, withEvent, onTwo := 0, 0, 0, 0, 0
	for _, g := range c.groups {
		for _, row := range g.rows {
			count[row.Status]++
			if c.seeded(row.ID) {
				seeded++
			}
			if row.Status != "kept" {
				continue
			}
			if c.watch(row) != "without" {
				watched++
			}
			if row.Event != "" {
				withEvent++
			}
			if row.Node != "" {
				onTwo++
			}
		}
	}
	for _, test := range c.tests {
		vectors += len(test.Named)
	}
	out.WriteString("# The attacks that are tried\n\nWritten by `make spec` from [the catalogue](../spec/README.md#the-catalogue-of-attacks); do not edit.\n\n")
	out.WriteString("Each row is an attack and what has to happen instead. `make test` tries the rows that are kept; `make teeth` takes checks\n")
	out.WriteString("out of the source, one at a time, and expects the tests of the named rows to fail. Rows of tier 1 that touch what is\nstored are tried on SQLite and on PostgreSQL.\n\n")
	fmt.Fprintf(&out, "| | |\n|---|---|\n| attacks | %d |\n| kept | %d |\n| differs on purpose | %d |\n| does not apply | %d |\n| not done | %d |\n| subtests that carry the id of a row | %d |\n| seeded faults | %d |\n| rows that are known to fail without their check | %d |\n| kept rows with a test whose answers are watched | %d |\n| kept rows whose event is looked for | %d |\n| kept rows that are tried on two servers | %d |\n",
		count["kept"]+count["differs"]+count["not-applicable"]+count["not done"], count["kept"], count["differs"], count["not-applicable"], count["not done"], vectors, len(c.faults), seeded, watched, withEvent, onTwo)
	out.WriteString("\n\"Watched\" says around how many of a row's tests [the checks of every answer](../spec/README.md#what-is-checked-around-every-test)\nstand; a test that has only a part of a server is spared those of logs, mails and tables. \"without\" are rules, units and\nmodules that have no server. After it stands the event that has to be kept, and whether a second\nserver answers every other request.\n")
	out.WriteString("\nBehind a test stands the number of its subtests that carry the row's id; without a number the test as a whole does. \"Falls\"\nsays whether a seeded fault is known to make the row's tests fail.\n")
	for _, g := range c.groups {
		fmt.Fprintf(&out, "\n## %s. %s\n\n| id | where | attack | from | tests | falls | watched | status |\n|---|---|---|---|---|---|---|---|\n", strings.ToUpper(path.Base(g.name)[:1]), g.title)
		for _, row := range g.rows {
			var tests []string
			for _, test := range c.naming(row.ID) {
				name := "`" + test.String() + "`"
				if n := test.Vectors(row.ID); n > 0 {
					name += fmt.Sprintf(" %d", n)
				}
				tests = append(tests, name)
			}
			falls := ""
			if c.seeded(row.ID) {
				falls = "yes"
			}
			watch, status := "", row.Status
			if row.Status == "kept" {
				watch = c.watch(row)
			}
			if row.Status != "kept" {
				status = "**" + status + "**: " + row.Reason
			}
			fmt.Fprintf(&out, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", row.ID, row.Endpoint, row.Text, row.Source, strings.Join(tests, "<br>"), falls, watch, status)
		}
	}
	out.WriteString("\n## Advisories\n\nPublished vulnerabilities of other products, and the rows that try the same mistake here.\n\n| advisory | rows |\n|---|---|\n")
	from := map[string][]string{}
	for _, g := range c.groups {
		for _, row := range g.rows {
			for _, advisory := range row.Advisories() {
				from[advisory] = append(from[advisory], row.ID)
			}
		}
	}
	for _, advisory := range slices.Sorted(maps.Keys(from)) {
		fmt.Fprintf(&out, "| %s | %s |\n", advisory, strings.Join(from[advisory], ", "))
	}
	return out.String()
}

func attacksAreWritten(t *tree) []finding {
	c, _ := readCatalogue(t)
	if len(c.groups) == 0 || t.texts[attacksPage] == renderAttacks(c) {
		return nil
	}
	return []finding{{attacksPage, "is not what spec/ and the tests say"}}
}

// TestAttackTable prints how far the catalogue is, and with -update writes the
// page of attacks.
func TestAttackTable(t *testing.T) {
	house, err := readTree(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	c, _ := readCatalogue(house)
	if *update {
		if err := os.WriteFile(attacksPage, []byte(renderAttacks(c)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintf(t.Output(), "%-40s %6s %7s %8s %5s %9s\n", "", "kept", "falls", "differs", "n/a", "not done")
	for _, g := range c.groups {
		n := map[string]int{}
		for _, row := range g.rows {
			n[row.Status]++
			if c.seeded(row.ID) {
				n["falls"]++
			}
		}
		fmt.Fprintf(t.Output(), "%-40s %6d %7d %8d %5d %9d\n", g.name, n["kept"], n["falls"], n["differs"], n["not-applicable"], n["not done"])
	}
}

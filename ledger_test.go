package postern_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/spec"
)

var update = flag.Bool("update", false, "write docs/divergences.md and docs/attacks.md from spec/")

const divergences = "docs/divergences.md"

// clause is one row of the ledger; spec/README.md explains the fields.
type clause struct {
	where                           string
	id, level, text, status, reason string
}

// page is one file of the ledger.
type page struct {
	name, title string
	clauses     []*clause
}

var (
	levels   = []string{"MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "MAY", "INTEROP"}
	statuses = []string{"kept", "differs", "not-applicable", "open"}
	clauseID = regexp.MustCompile(`^[A-Z][A-Z0-9]*(?:-[A-Za-z0-9.]+)+$`)
)

// readLedger reads spec/*.toml.
func readLedger(t *tree) (pages []page, found []finding) {
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		if path.Dir(name) != "spec" || path.Ext(name) != ".toml" {
			continue
		}
		doc, problems := spec.Read(name, t.texts[name], "clause", "id", "level", "text", "status", "reason")
		for _, p := range problems {
			found = append(found, finding{p.Where, p.What})
		}
		one := page{name: name, title: doc.Title}
		for _, row := range doc.Tables {
			v := row.Values
			one.clauses = append(one.clauses, &clause{row.Where, v["id"], v["level"], v["text"], v["status"], v["reason"]})
		}
		pages = append(pages, one)
	}
	return pages, found
}

func ledger(t *tree) []finding {
	pages, found := readLedger(t)
	seen := map[string]string{}
	for _, doc := range pages {
		for _, row := range doc.clauses {
			bad := func(format string, args ...any) {
				found = append(found, finding{row.where, fmt.Sprintf(format, args...)})
			}
			if !clauseID.MatchString(row.id) {
				bad("id %q is not of the form RFC7636-4.6-a", row.id)
			}
			if before, twice := seen[row.id]; twice {
				bad("id %s stands already at %s", row.id, before)
			}
			seen[row.id] = row.where
			if !slices.Contains(levels, row.level) {
				bad("level %q is none of %v", row.level, levels)
			}
			if !slices.Contains(statuses, row.status) {
				bad("status %q is none of %v", row.status, statuses)
			}
			if row.text == "" {
				bad("no text")
			}
			if (row.status == "differs" || row.status == "not-applicable") && row.reason == "" {
				bad("%s is %s without a reason", row.id, row.status)
			}
		}
	}
	return found
}

// proven maps the clauses that tests name to the first place that does.
func proven(t *tree) map[string]string {
	found := map[string]string{}
	add := func(where, text string) {
		lines := strings.Split(text, "\n")
		for i, line := range lines {
			_, list, ok := strings.Cut(line, "Proves:")
			for next := i + 1; ok && strings.HasSuffix(strings.TrimSpace(list), ",") && next < len(lines); next++ {
				list += " " + strings.Trim(lines[next], "/*#- \t")
			}
			for _, id := range strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' }) {
				if id = strings.TrimRight(id, ".;"); !clauseID.MatchString(id) {
					break
				}
				if _, known := found[id]; !known {
					found[id] = where
				}
			}
		}
	}
	for _, f := range t.files {
		for _, group := range f.syntax.Comments {
			if f.test {
				add(fmt.Sprintf("%s:%d", f.path, t.fset.Position(group.Pos()).Line), group.Text())
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		if strings.HasSuffix(name, ".txtar") || strings.HasSuffix(name, ".spec.ts") {
			add(name, t.texts[name])
		}
	}
	return found
}

func proofs(t *tree) (found []finding) {
	pages, _ := readLedger(t)
	proof := proven(t)
	known := map[string]bool{}
	for _, doc := range pages {
		for _, row := range doc.clauses {
			known[row.id] = true
			if row.status == "kept" && strings.HasPrefix(row.level, "MUST") && proof[row.id] == "" {
				found = append(found, finding{row.where, "no test proves " + row.id})
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(proof)) {
		if !known[id] {
			found = append(found, finding{proof[id], "proves " + id + ", which no file in spec/ has"})
		}
	}
	return found
}

// renderDivergences is the page of everything that is not kept.
func renderDivergences(pages []page) string {
	var out strings.Builder
	out.WriteString("# Where Postern differs\n\nWritten by `make spec` from [the ledger](../spec/README.md); do not edit.\n")
	out.WriteString("Attacks that are tried, and those that are not done yet, are in [attacks.md](attacks.md).\n")
	for _, part := range []struct{ status, heading string }{
		{"differs", "Differs on purpose"},
		{"open", "Not done yet"},
		{"not-applicable", "Does not apply"},
	} {
		fmt.Fprintf(&out, "\n## %s\n", part.heading)
		empty := true
		for _, doc := range pages {
			first := true
			for _, row := range doc.clauses {
				if row.status != part.status {
					continue
				}
				if first {
					fmt.Fprintf(&out, "\n### %s\n\n", doc.title)
				}
				first, empty = false, false
				fmt.Fprintf(&out, "* **%s** (%s) %s", row.id, row.level, row.text)
				if row.reason != "" {
					fmt.Fprintf(&out, " *%s*", row.reason)
				}
				out.WriteString("\n")
			}
		}
		if empty {
			out.WriteString("\nNothing.\n")
		}
	}
	return out.String()
}

func divergencesPage(t *tree) []finding {
	pages, _ := readLedger(t)
	if len(pages) == 0 || t.texts[divergences] == renderDivergences(pages) {
		return nil
	}
	return []finding{{divergences, "is not what spec/ says"}}
}

// TestLedgerTable prints how far the ledger is, and with -update writes the
// page of divergences.
func TestLedgerTable(t *testing.T) {
	house, err := readTree(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	pages, _ := readLedger(house)
	proof := proven(house)
	if *update {
		if err := os.WriteFile(divergences, []byte(renderDivergences(pages)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fmt.Fprintf(t.Output(), "%-40s %6s %7s %8s %5s %6s\n", "", "kept", "proven", "differs", "n/a", "open")
	for _, doc := range pages {
		n := map[string]int{}
		for _, row := range doc.clauses {
			n[row.status]++
			if row.status == "kept" && proof[row.id] != "" {
				n["proven"]++
			}
		}
		fmt.Fprintf(t.Output(), "%-40s %6d %7d %8d %5d %6d\n", doc.name, n["kept"], n["proven"], n["differs"], n["not-applicable"], n["open"])
	}
}

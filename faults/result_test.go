package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// page is what `make faults` writes.
const page = "../docs/faults.md"

// row is one line of the page: a fault on a database.
type row struct{ fault, name, database string }

var results = struct {
	sync.Mutex
	rows map[row]string
}{rows: map[row]string{}}

// result tells what a campaign saw. The fault is a row of the matrix that
// docs/guide/reliability.md explains.
func result(t testing.TB, fault, format string, args ...any) {
	t.Helper()
	if t.Failed() {
		return
	}
	text := fmt.Sprintf(format, args...)
	t.Log(text)
	name, database, _ := strings.Cut(strings.TrimPrefix(t.Name(), "Test"), "/")
	if database == "" {
		database = "sqlite"
		if strings.Contains(name, "Postgres") || strings.Contains(name, "Standby") || strings.Contains(name, "Everywhere") || strings.Contains(name, "Disk") && !strings.Contains(name, "Full") {
			database = "postgres"
		}
	}
	results.Lock()
	defer results.Unlock()
	results.rows[row{fault, name, database}] = text
	if long {
		must(t, writePage()) // at once, for a long run may be interrupted
	}
}

// writePage writes the results into the page, and keeps the rows of campaigns
// that did not run now.
func writePage() error {
	text, err := os.ReadFile(page)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(line, "| \n"), " | ")
		if len(cells) != 4 || !strings.HasPrefix(cells[0], "F-") {
			continue
		}
		if r := (row{cells[0], cells[1], cells[2]}); results.rows[r] == "" {
			results.rows[r] = cells[3]
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# What was done to the server, and what it did

Written by `+"`make faults`"+`, which runs the campaigns of `+"`faults/`"+` in their long form; the last run was on %d cores (%s/%s, %s).
[The guide](guide/reliability.md) says what the faults are and what follows for operators.

| fault | campaign | database | what was seen |
|---|---|---|---|
`, runtime.NumCPU(), runtime.GOOS, runtime.GOARCH, runtime.Version())
	for _, r := range slices.SortedFunc(maps.Keys(results.rows), func(a, b row) int {
		return strings.Compare(a.fault+a.name+a.database, b.fault+b.name+b.database)
	}) {
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", r.fault, r.name, r.database, results.rows[r])
	}
	return os.WriteFile(page, []byte(b.String()), 0o644)
}

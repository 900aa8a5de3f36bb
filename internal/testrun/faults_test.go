//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/spec"
)

// A fault is caught when a test of each of its rows fails, and in no other case.
func TestFaults(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":         "module example.test/door\n\ngo 1.26.0\n",
		"door/door.go":   "package door\n\nfunc Open(key int) bool {\n\tif key != 7 {\n\t\treturn false\n\t}\n\treturn key > 0\n}\n",
		"door/a_test.go": "package door\n\nimport \"testing\"\n\n// Row: T02.\nfunc TestDoor(t *testing.T) {\n\tt.Run(\"T01 a wrong key\", func(t *testing.T) {\n\t\tif Open(8) {\n\t\t\tt.Error(\"opened\")\n\t\t}\n\t})\n}\n",
	} {
		if err := os.MkdirAll(filepath.Join(folder, filepath.Dir(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(folder)
	env := append(os.Environ(), "GOWORK=off")
	fault := func(name, old, replacement string, rows ...string) spec.Fault {
		return spec.Fault{Name: name, File: "door/door.go", Old: old, New: replacement, Rows: rows, Package: "door", Run: "TestDoor"}
	}
	var out bytes.Buffer
	s := newSuite(&out, false)
	s.faults(t.Context(), env, []spec.Fault{
		fault("caught", "key != 7", "false", "T01", "T02"),
		fault("another row", "key != 7", "false", "T03"),
		fault("harmless", "key > 0", "key == 7", "T01"),
		fault("no Go", "key != 7", "key !!", "T01"),
		fault("gone", "key != 9", "false", "T01"),
		{Name: "nothing", File: "door/door.go", Old: "key != 7", New: "false", Rows: []string{"T01"}, Package: "door", Run: "TestDoor/T02"},
	})
	for name, want := range map[string]outcome{
		"without a fault: door": passed, "caught": passed, "another row": failed, "harmless": failed, "no Go": failed, "gone": failed, "nothing": failed,
	} {
		if got := s.results[name]; got != want {
			t.Errorf("%s: outcome %d, want %d", name, got, want)
		}
	}
	for _, want := range []string{
		"another row: no test of T03 failed", "harmless: no test of T01 failed", "no Go: it does not build", "gone: door/door.go has changed",
		"nothing: TestDoor/T02 in door runs nothing",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not said:\n%s", want, out.String())
		}
	}
	if source, err := os.ReadFile("door/door.go"); err != nil || !strings.Contains(string(source), "key != 7") {
		t.Errorf("the source was changed: %v %s", err, source)
	}
}

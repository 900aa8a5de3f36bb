package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestDiff proves what the README promises: the hello server becomes a
// protected one by a diff of at most ten lines, and both compile.
func TestDiff(t *testing.T) {
	plain, protected := lines(t, "main.go"), lines(t, filepath.Join("..", "hello-protected", "main.go"))
	if len(protected) > 40 {
		t.Errorf("the protected server has %d lines, want at most 40", len(protected))
	}
	kept := common(plain, protected)
	if added := len(protected) - kept; added == 0 || added > 10 {
		t.Errorf("%d lines are added or changed, want at most 10", added)
	}
	if removed := len(plain) - kept; removed > 1 {
		t.Errorf("%d lines are removed or changed, want the one that mounts the handler", removed)
	}
	out, err := exec.Command("go", "build", "-o", t.TempDir(), "../hello", "../hello-protected").CombinedOutput()
	if err != nil {
		t.Errorf("go build: %v\n%s", err, out)
	}
}

func lines(t *testing.T, name string) []string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimRight(string(text), "\n"), "\n")
}

// common is the number of lines in the longest common subsequence, those that
// a diff leaves alone.
func common(a, b []string) int {
	best := make([]int, len(b)+1)
	for _, line := range a {
		diagonal := 0
		for j := range b {
			above := best[j+1]
			if line == b[j] {
				best[j+1] = diagonal + 1
			} else {
				best[j+1] = max(above, best[j])
			}
			diagonal = above
		}
	}
	return best[len(b)]
}

//go:build linux && !race

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The bar of an apply: a second for 1,000 roles. The best of three counts, for
// the machine has other work.
func TestApplyThousandRoles(t *testing.T) {
	if testing.Short() {
		t.Skip("measures")
	}
	folder := t.TempDir()
	t.Setenv("POSTERN_DATA", folder)
	postern := func(args ...string) {
		t.Helper()
		var out bytes.Buffer
		if status := run(t.Context(), args, &out, &out); status != 0 {
			t.Fatalf("postern %s:\n%s", strings.Join(args, " "), out.String())
		}
	}
	postern("project", "create", "OKR", "--b2b", "--issuer", "https://okr.example.com")
	best := time.Hour
	for round := range 3 {
		var b strings.Builder
		b.WriteString("resources:\n")
		for i := range 10 {
			fmt.Fprintf(&b, "  - {resource_id: r%d, actions: [create, read, update, delete]}\n", i)
		}
		b.WriteString("scopes:\n")
		for i := range 10 {
			fmt.Fprintf(&b, "  - {scope: s%d, permissions: [{resource_id: r%d, actions: [read]}]}\n", i, i)
		}
		b.WriteString("roles:\n")
		for i := range 1000 {
			fmt.Fprintf(&b, "  - role_id: role%d-%d\n    permissions:\n", round, i)
			for j := range 5 {
				fmt.Fprintf(&b, "      - {resource_id: r%d, actions: [read, update]}\n", (i+j)%10)
			}
		}
		file := filepath.Join(folder, "policy.yaml")
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		postern("policy", "apply", "-f", file, "--yes")
		best = min(best, time.Since(begun))
	}
	t.Logf("1,000 roles in %s", best)
	if best > time.Second {
		t.Errorf("1,000 roles took %s; the bar is a second", best)
	}
}

package faults

import (
	"fmt"
	"strings"
	"testing"
)

// result tells what a campaign found, for the table.
func result(t testing.TB, format string, args ...any) {
	t.Helper()
	if !t.Failed() {
		t.Logf("%s", strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

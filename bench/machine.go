package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/rig"
)

// machine is what all processes of this computer used of its cores so far, and
// what this one did.
type machine struct{ busy, self time.Duration }

func readMachine() (machine, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machine{}, fmt.Errorf("%w: the benchmarks need Linux", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	var m machine
	for i, field := range strings.Fields(first)[1:] {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return m, err
		}
		// user, nice, system, idle, iowait, irq, softirq, steal; guests are in user
		if i != 3 && i != 4 && i < 7 {
			m.busy += time.Duration(n) * (time.Second / 100)
		}
	}
	m.self, err = rig.CPUTime(os.Getpid())
	return m, err
}

// describeMachine is what a reader needs to compare figures.
func describeMachine() string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores (%s), %s, %s/%s", runtime.NumCPU(), model, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

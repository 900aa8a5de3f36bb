package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	pprof "github.com/google/pprof/profile"
)

// sdk is a microbenchmark of guard.
type sdk struct {
	Name   string
	Micros float64
	Allocs int
}

// guard runs the microbenchmarks of the SDK: a token seen before, one first seen,
// tokens that are refused before any cryptography, and the bare verification.
func (o options) guard(ctx context.Context, r *report) error {
	c := exec.CommandContext(ctx, "go", "test", "./guard", //nolint:gosec // our own tests
		"-run", "^$", "-benchmem", "-count", strconv.Itoa(o.passes),
		"-bench", "^Benchmark(Seen|FirstSeen|Bare|Read|Rejected|IntrospectionCached)$")
	c.Dir = o.source
	out, err := c.CombinedOutput()
	if err != nil {
		return fmt.Errorf("benchmarks of guard: %w\n%s", err, out)
	}
	var order []string
	times, allocs := map[string][]float64{}, map[string]int{}
	for line := range strings.Lines(string(out)) {
		// BenchmarkSeen-2  1045132  1140 ns/op  96 B/op  2 allocs/op
		f := strings.Fields(line)
		if len(f) < 8 || !strings.HasPrefix(f[0], "Benchmark") || f[3] != "ns/op" {
			continue
		}
		name := strings.TrimPrefix(f[0], "Benchmark")
		if i := strings.LastIndexByte(name, '-'); i > 0 {
			name = name[:i]
		}
		ns, err := strconv.ParseFloat(f[2], 64)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(f[len(f)-2])
		if err != nil {
			return err
		}
		if times[name] == nil {
			order = append(order, name)
		}
		times[name], allocs[name] = append(times[name], ns/1000), n
	}
	if len(order) == 0 {
		return fmt.Errorf("benchmarks of guard: nothing was measured\n%s", out)
	}
	fmt.Println()
	for _, name := range order {
		one := sdk{name, middle(times[name]), allocs[name]}
		r.SDK = append(r.SDK, one)
		fmt.Printf("guard %-44s %9.3f µs %5d allocations\n", one.Name, one.Micros, one.Allocs)
	}
	r.Refused, err = o.refused(ctx)
	return err
}

// refused is where the time goes for tokens that are parsed, and refused before any
// cryptography.
func (o options) refused(ctx context.Context) (p profiled, err error) {
	file := filepath.Join(o.folder, "refused")
	c := exec.CommandContext(ctx, "go", "test", "./guard", "-run", "^$", "-o", file+".test", "-cpuprofile", file, //nolint:gosec // our own tests
		"-bench", "^BenchmarkRejected$/^(wrong type|unknown key|other issuer|other audience|expired|duplicate claim)$")
	c.Dir = o.source
	if out, err := c.CombinedOutput(); err != nil {
		return p, fmt.Errorf("profile of guard: %w\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return p, err
	}
	taken, err := pprof.ParseData(text)
	if err != nil {
		return p, err
	}
	return profiled{Parts: parts(taken), Calls: calls(taken)}, nil
}

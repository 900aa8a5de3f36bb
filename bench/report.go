package main

import (
	"fmt"
	"slices"
	"time"
)

// report is all that was measured; what is printed while it is measured is also
// what the page is made of.
type report struct {
	Machine  string
	Revision string
	Date     string
	Passes   int
	During   time.Duration

	SignES256, VerifyES256, SignRS256 time.Duration

	Cells      []cell
	Beyond     []beyond
	Growth     []grown
	Isolation  []beside
	Cleaning   []beside
	Cleaned    map[string]float64 // rows a second without other work, by database
	Starts     []starts
	After      map[string]int64 // resident bytes after the matrix, by database
	IdleMemory int64
	SDK        []sdk
	Rows       int
	Profiles   []profiled
	Footprints []footprint
	Refused    profiled // tokens that guard refuses
	Binary     []share  // bytes

	Missing []string // parts that were not measured, and why
	failed  int
}

// cell is a scenario on a database at a concurrency.
type cell struct {
	Scenario    string
	Database    string // "" for a yardstick
	Concurrency int
	Result      result
	Yardsticks  float64 // what it costs in bare requests, each measured right behind a pass; 0 where none was
}

// starts is what does not depend on load.
type starts struct {
	Database               string
	Existing, Ready, Fresh time.Duration
	Idle, Binary           int64
}

func (r *report) head() {
	fmt.Printf("%-22s %-9s %4s %9s %9s %9s %9s %9s %7s %6s\n", "scenario", "database", "c", "op/s", "p50 ms", "p99 ms", "CPU ms", "db ms", "others", "errors")
}

// add keeps and prints a measurement, and counts it when it had errors.
func (r *report) add(c cell) {
	r.Cells = append(r.Cells, c)
	r.print(c.Scenario, c.Database, c.Concurrency, c.Result)
}

func (r *report) print(name, database string, concurrency int, m result) {
	fmt.Printf("%-22s %-9s %4d %9.0f %9.3f %9.3f %9.4f %9.4f %6.0f%% %6d %s\n", name, database, concurrency,
		m.rate(), ms(m.P50), ms(m.P99), ms(m.Server), ms(m.Database), m.Others*100, m.Errors, m.Error)
	if m.Errors > 0 || m.Operations == 0 {
		r.failed++
	}
}

func (r *report) beyond(b beyond) {
	r.Beyond = append(r.Beyond, b)
	r.print(b.Scenario, "sqlite", 16, b.Operation)
	r.print("its floor", "", 16, b.Floor)
	fmt.Printf("%-22s %-9s %.2f floors, %.1f bare handlers\n", b.Scenario, "sqlite", b.Floors, b.Handlers)
}

func (r *report) grew(g grown) {
	r.Growth = append(r.Growth, g)
	r.print(g.Scenario+", few rows", g.Database, 16, g.Few)
	r.print(g.Scenario+", many", g.Database, 16, g.Many)
	fmt.Printf("%-22s %-9s %.2f times\n", g.Scenario, g.Database, g.Ratio)
}

func (r *report) beside(into *[]beside, b beside) {
	*into = append(*into, b)
	r.print(b.Scenario+" alone", b.Database, 16, b.Alone)
	r.print(b.Scenario+" beside", b.Database, 16, b.Beside)
	fmt.Printf("%-22s %-9s p99 %.1f times; the other work %.0f/s\n", b.Scenario, b.Database, b.ratio(), b.Other)
}

func (r *report) cleaned(database string, rows float64) {
	r.Cleaned[database] = rows
	fmt.Printf("%-22s %-9s %.0f rows/s\n", "clean-up", database, rows)
}

// find is a measurement, and whether there is one.
func (r *report) find(scenario, database string, concurrency int) (result, bool) {
	c, ok := r.cell(scenario, database, concurrency)
	return c.Result, ok
}

func (r *report) cell(scenario, database string, concurrency int) (cell, bool) {
	i := slices.IndexFunc(r.Cells, func(c cell) bool {
		return c.Scenario == scenario && c.Database == database && c.Concurrency == concurrency
	})
	if i < 0 {
		return cell{}, false
	}
	return r.Cells[i], true
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func us(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

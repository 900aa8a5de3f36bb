package main

import (
	"cmp"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	pprof "github.com/google/pprof/profile"

	"github.com/postern-id/postern/internal/rig"
)

// Profiles say where time and memory go. They are taken of the same source, built
// with -tags profile (cmd/postern/profiled.go), under the same load, after all that
// is compared with a bar was measured.

// profiled is where the CPU time of a scenario goes.
type profiled struct {
	Scenario, Database string
	At16, At64         result
	Parts              []share       // of the server's CPU time, by what the code belongs to
	Calls              *call         // of functions of Postern
	Wait               time.Duration // with 64 requests at once, one of 100 goroutines waited longer for a core
}

// share is a part of a whole, or so many bytes.
type share struct {
	Name string
	Part float64
}

// footprint is where the memory of a server goes, in bytes.
type footprint struct {
	When, Database string
	Bare           int64 // what the yardsticks' process had after the same
	Resident       int64
	Objects        uint64 // with those that nobody needs any more
	Free           uint64 // kept for the next objects
	Stacks, Own    uint64 // of goroutines; of Go's own
	Sites          []share
}

// buildProfiled compiles the server that is profiled, with the names that sizes
// reads.
func (o options) buildProfiled(ctx context.Context) (string, error) {
	return rig.Build(ctx, o.source, filepath.Join(o.folder, "profiled"), "-tags=profile", "-ldflags=")
}

// profiles takes all of them on a database. The bare handlers go through the same,
// for what memory is needed at least.
func (o options) profiles(ctx context.Context, r *report, database string) (err error) {
	o.binary = o.profiled
	if r.Binary, err = sizes(o.binary); err != nil {
		return err
	}
	fmt.Println()
	o.passes = 1
	for _, one := range []struct {
		when   string
		sqlite bool // there alone
		bare   func(*yardsticks) error
		ours   func(*world, inside) error
	}{
		{
			idleState, true,
			func(*yardsticks) error { return sleep(ctx, time.Second) },
			func(*world, inside) error { return sleep(ctx, 2*time.Second) },
		},
		{
			connectionsState, true,
			func(y *yardsticks) (err error) {
				if y.idle, err = o.holdIdle(ctx, y.address, func() []byte { return y.request(getYardstick, 0) }); err != nil {
					return err
				}
				_, err = y.pass(ctx, getYardstick, 16, o.during)
				return err
			},
			func(w *world, _ inside) (err error) {
				if w.idle, err = o.holdIdle(ctx, w.server.Listen, w.metadata); err != nil {
					return err
				}
				_, err = o.passesOf(ctx, w, named("metadata"), 16)
				return err
			},
		},
		{
			matrixState, false,
			func(y *yardsticks) error {
				for _, name := range []string{getYardstick, postYardstick, leastRefresh, leastIntrospect, leastRegister} {
					if _, err := y.pass(ctx, name, 256, o.during); err != nil {
						return err
					}
				}
				return nil
			},
			func(w *world, in inside) error {
				for _, s := range scenarios() {
					p, err := o.profile(ctx, w, in, s)
					if err == nil { // the most at once that the matrix has
						_, err = o.passesOf(ctx, w, s, 256)
					}
					if err != nil {
						return fmt.Errorf("%s: %w", s.name, err)
					}
					p.Database = database
					r.Profiles = append(r.Profiles, p)
					fmt.Printf("profile of %-22s %-9s %s\n", s.name, database, percents(p.Parts, 5))
				}
				return nil
			},
		},
	} {
		if one.sqlite && database != "sqlite" {
			continue
		}
		f, err := o.footprint(ctx, database, one.bare, one.ours)
		if err != nil {
			return fmt.Errorf("%s: %w", one.when, err)
		}
		f.When, f.Database = one.when, database
		r.Footprints = append(r.Footprints, f)
		fmt.Printf("memory %-29s %-9s %.1f MiB, of bare handlers %.1f\n", f.When, database, mib(f.Resident), mib(f.Bare))
	}
	return nil
}

// The moments at which memory is looked at.
const (
	idleState        = "idle"
	connectionsState = "with 10,000 idle connections"
	matrixState      = "after the whole matrix"
)

// profile takes the CPU profile of a scenario at 16 requests at once, and looks how
// long goroutines wait for a core at 64.
func (o options) profile(ctx context.Context, w *world, in inside, s scenario) (profiled, error) {
	p := profiled{Scenario: s.name}
	rounds := 1
	if s.scarce { // what there is lasts half a second
		rounds = 6
	}
	var all []*pprof.Profile
	for range rounds {
		workers, err := s.workers(ctx, w, 16)
		if err != nil {
			return p, err
		}
		done, taken := make(chan struct{}), make(chan error, 1)
		go func() {
			defer close(done)
			one, err := in.profile(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", max(1, int(4*o.during.Seconds())/rounds)))
			all = append(all, one)
			taken <- err
		}()
		p.At16, err = runUntil(ctx, workers, done, w.server.Usage)
		w.disconnect()
		if err := errors.Join(err, <-taken); err != nil {
			return p, err
		}
	}
	merged, err := pprof.Merge(all)
	if err != nil {
		return p, err
	}
	p.Parts, p.Calls = parts(merged), calls(merged)

	workers, err := s.workers(ctx, w, 64)
	if err != nil {
		return p, err
	}
	defer w.disconnect()
	before, err := in.waits(ctx)
	if err != nil {
		return p, err
	}
	if p.At64, err = run(ctx, workers, o.during, w.server.Usage); err != nil {
		return p, err
	}
	if n := p.At16.Errors + p.At64.Errors; n > 0 {
		return p, fmt.Errorf("%d errors, the first: %s", n, cmp.Or(p.At16.Error, p.At64.Error))
	}
	after, err := in.waits(ctx)
	p.Wait = after.since(before).quantile(0.99)
	return p, err
}

// footprint looks at the memory of new bare handlers and of a new server, each
// after something was done with it.
func (o options) footprint(ctx context.Context, database string, bare func(*yardsticks) error, ours func(*world, inside) error) (f footprint, err error) {
	y, err := o.startYardsticks(ctx)
	if err != nil {
		return f, err
	}
	if err = bare(y); err == nil {
		f.Bare, _, err = rig.Memory(y.process.Process.Pid)
	}
	if y.close(); err != nil {
		return f, err
	}
	in := inside(filepath.Join(o.folder, "profile.sock"))
	w, err := o.newWorld(ctx, database, "PROFILE_SOCKET="+string(in))
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, w.close(ctx)) }()
	if err := ours(w, in); err != nil {
		return f, err
	}
	if f.Resident, _, err = w.server.Memory(); err != nil {
		return f, err
	}
	text, err := in.get(ctx, "/debug/vars")
	if err != nil {
		return f, err
	}
	var of struct {
		Memory runtime.MemStats `json:"memstats"`
	}
	if err := json.Unmarshal(text, &of); err != nil {
		return f, err
	}
	heap, err := in.profile(ctx, "/debug/pprof/heap?gc=1")
	if err != nil {
		return f, err
	}
	f.Sites = sites(heap)
	m := of.Memory
	f.Stacks, f.Own = m.StackInuse, m.MSpanSys+m.MCacheSys+m.GCSys+m.BuckHashSys+m.OtherSys
	f.Objects, f.Free = m.HeapAlloc, m.HeapInuse-m.HeapAlloc+m.HeapIdle-m.HeapReleased
	if i := slices.IndexFunc(f.Sites, func(s share) bool { return s.Name == untouched }); i >= 0 {
		f.Objects -= uint64(f.Sites[i].Part)
		f.Sites = slices.Delete(f.Sites, i, i+1)
	}
	return f, nil
}

// untouched is the function that makes the slice for the collector to count
// (docs/decisions/0031), which takes no memory.
const untouched = "main.(*program).serve"

// inside is the socket of a server that was built with -tags profile.
type inside string

func (in inside) get(ctx context.Context, path string) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", string(in))
	}}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://inside"+path, nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", path, answer.Status, text)
	}
	return text, err
}

func (in inside) profile(ctx context.Context, path string) (*pprof.Profile, error) {
	text, err := in.get(ctx, path)
	if err != nil {
		return nil, err
	}
	return pprof.ParseData(text)
}

// histogram counts by upper bounds, in seconds.
type histogram struct {
	Bounds []float64
	Counts []uint64
}

func (in inside) waits(ctx context.Context) (histogram, error) {
	var of struct{ Waits histogram }
	text, err := in.get(ctx, "/debug/vars")
	if err == nil {
		err = json.Unmarshal(text, &of)
	}
	return of.Waits, err
}

// since is what was counted after before.
func (h histogram) since(before histogram) histogram {
	h.Counts = slices.Clone(h.Counts)
	for i, n := range before.Counts {
		h.Counts[i] -= n
	}
	return h
}

// quantile is the bound below which a share of all lies.
func (h histogram) quantile(q float64) time.Duration {
	var all, below uint64
	for _, n := range h.Counts {
		all += n
	}
	for i, n := range h.Counts {
		if below += n; all > 0 && float64(below) >= q*float64(all) {
			return time.Duration(h.Bounds[i] * float64(time.Second))
		}
	}
	return 0
}

// What a function belongs to, by the beginning of its name. Functions that have no
// row, as those of strings or reflect, belong to what calls them.
var belongs = [][2]string{
	{"github.com/postern-id/postern/", "Postern"},
	{"main.", "Postern"},
	{"modernc.org/", "SQLite"},
	{"github.com/jackc/", "pgx"},
	{"database/sql.", "database/sql"},
	{"crypto/", "cryptography"},
	{"encoding/json", "JSON"},
	{"html/template.", "pages"},
	{"text/template.", "pages"},
	{"log/slog", "log"},
	{"net/smtp.", "mail"},
	{"github.com/wneessen/go-mail", "mail"},
	{"net/http.", "net/http"},
	{"net.", "net/http"},
	{"net/textproto.", "net/http"},
	{"bufio.", "net/http"},
	{"github.com/", "other libraries"},
	{"golang.org/", "other libraries"},
}

// waiting is what belongs to nothing.
const waiting = "scheduler and timers"

const modulePath = "github.com/postern-id/postern/"

// owner is what a stack's time belongs to, from the innermost function out: the
// garbage collector, the allocator, the kernel, or the first that belongs to
// something.
func owner(stack []string) string {
	kernel := false
	for _, name := range stack {
		switch {
		case strings.HasPrefix(name, "runtime.gc"), strings.HasPrefix(name, "runtime.bgsweep"), strings.HasPrefix(name, "runtime.bgscavenge"):
			return "garbage collector"
		case name == "runtime.mallocgc":
			return "allocation"
		case strings.HasPrefix(name, "internal/runtime/syscall"):
			kernel = true
		}
		for _, one := range belongs {
			if !strings.HasPrefix(name, one[0]) {
				continue
			}
			if kernel && one[1] == "SQLite" {
				return "kernel, files"
			}
			if kernel {
				return "kernel, connections"
			}
			return one[1]
		}
	}
	return waiting
}

// stacks calls a function for each stack, from the innermost function out, with
// its value of a type.
func stacks(p *pprof.Profile, of string, do func(stack []string, value int64)) {
	column := slices.IndexFunc(p.SampleType, func(t *pprof.ValueType) bool { return t.Type == of })
	for _, sample := range p.Sample {
		var stack []string
		for _, at := range sample.Location {
			for _, line := range at.Line {
				stack = append(stack, line.Function.Name)
			}
		}
		do(stack, sample.Value[column])
	}
}

// parts shares the CPU time out to its owners.
func parts(p *pprof.Profile) []share {
	sums, all := map[string]float64{}, 0.0
	stacks(p, "cpu", func(stack []string, value int64) {
		sums[owner(stack)] += float64(value)
		all += float64(value)
	})
	return largest(sums, all)
}

// call is a function of Postern, with what it calls.
type call struct {
	Name  string
	Part  float64 // of the CPU time
	Calls []*call
}

// calls is the tree of functions of Postern: who calls whom, and how much of the
// time is spent below. Functions without a name are those that they are in.
func calls(p *pprof.Profile) *call {
	root, all := &call{Part: 1}, 0.0
	stacks(p, "cpu", func(_ []string, value int64) { all += float64(value) })
	stacks(p, "cpu", func(stack []string, value int64) {
		at := root
		for _, name := range slices.Backward(stack) {
			if !strings.HasPrefix(name, modulePath) || strings.Contains(name, ".func") {
				continue
			}
			name = short(name)
			i := slices.IndexFunc(at.Calls, func(c *call) bool { return c.Name == name })
			if i < 0 {
				i = len(at.Calls)
				at.Calls = append(at.Calls, &call{Name: name})
			}
			at = at.Calls[i]
			at.Part += float64(value) / all
		}
	})
	return root
}

// lines are the tree in lines, indented. Calls with less than a part are left out.
// Functions that have nearly all from each other are one line: the first and the
// last of them.
func (c *call) lines(least float64, indent string) (lines []string) {
	slices.SortFunc(c.Calls, func(a, b *call) int { return cmp.Or(cmp.Compare(b.Part, a.Part), cmp.Compare(a.Name, b.Name)) })
	for _, one := range c.Calls {
		if one.Part < least {
			break
		}
		last := one
		for {
			i := slices.IndexFunc(last.Calls, func(next *call) bool { return next.Part >= 0.85*last.Part })
			if i < 0 {
				break
			}
			last = last.Calls[i]
		}
		line := fmt.Sprintf("%s%2.0f %% %s", indent, 100*one.Part, one.Name)
		if last != one {
			line += fmt.Sprintf(" … %s %.0f %%", last.Name, 100*last.Part)
		}
		lines = append(append(lines, line), last.lines(least, indent+"    ")...)
	}
	return lines
}

// sites are the functions outside the runtime that made what is on the heap, in
// bytes.
func sites(p *pprof.Profile) []share {
	sums := map[string]float64{}
	stacks(p, "inuse_space", func(stack []string, value int64) {
		i := slices.IndexFunc(stack, func(name string) bool { return !strings.HasPrefix(name, "runtime.") })
		sums[short(stack[max(i, 0)])] += float64(value)
	})
	return largest(sums, 1)
}

// short is a function's name without module and type arguments.
func short(name string) string {
	if from, to := strings.IndexByte(name, '['), strings.LastIndexByte(name, ']'); from >= 0 && to > from {
		name = name[:from] + name[to+1:]
	}
	return strings.TrimPrefix(strings.TrimPrefix(name, modulePath), "internal/")
}

// sizes are the bytes of a binary, without names for debuggers, by what they belong
// to.
func sizes(binary string) ([]share, error) {
	file, err := elf.Open(binary)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	symbols, err := file.Symbols()
	if err != nil {
		return nil, err
	}
	const tables, rest, itself = "tables of functions and lines", "types, texts, embedded files", "Go itself"
	sums := map[string]float64{}
	for _, one := range file.Sections {
		if one.Flags&elf.SHF_ALLOC == 0 || one.Type == elf.SHT_NOBITS {
			continue
		}
		if one.Name == ".gopclntab" {
			sums[tables] = float64(one.Size)
		} else {
			sums[rest] += float64(one.Size)
		}
	}
	for _, one := range symbols {
		at := int(one.Section)
		if at >= len(file.Sections) || file.Sections[at].Type == elf.SHT_NOBITS || file.Sections[at].Name == ".gopclntab" {
			continue
		}
		name := owner([]string{one.Name})
		if strings.HasPrefix(one.Name, "runtime.") || name == waiting {
			name = itself
		}
		sums[name] += float64(one.Size)
		sums[rest] -= float64(one.Size)
	}
	return largest(sums, 1), nil
}

// largest sorts sums, the largest first, as parts of all.
func largest(sums map[string]float64, all float64) []share {
	var sorted []share
	for name, sum := range sums {
		sorted = append(sorted, share{name, sum / all})
	}
	slices.SortFunc(sorted, func(a, b share) int { return cmp.Or(cmp.Compare(b.Part, a.Part), cmp.Compare(a.Name, b.Name)) })
	return sorted
}

// percents are the first n in words.
func percents(of []share, n int) string {
	var texts []string
	for _, one := range of[:min(n, len(of))] {
		texts = append(texts, fmt.Sprintf("%s %.0f %%", one.Name, 100*one.Part))
	}
	return strings.Join(texts, ", ")
}

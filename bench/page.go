package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

// bar is what an operation may cost at 16 requests at once, as CPU time of the
// server, on PostgreSQL with that of its processes. Where the bars were set, a bare
// GET cost barGET and a bare POST barPOST: what others cost was measured there too.
type bar struct {
	scenario         string
	sqlite, postgres time.Duration // 0 for none
	get, post        int           // bare requests that nobody can do without
	sign, verify     bool          // an ES256 signature, a verification
	signRS           bool
	least            string        // the yardstick that does what nobody can do without, "" for none; on SQLite
	assumed          time.Duration // what that was taken to cost where the bars were set
	durable, memory  time.Duration // the best of the others: with a database, without
}

const (
	barGET  = 14500 * time.Nanosecond
	barPOST = 23 * time.Microsecond
)

func bars() []bar {
	const µs = time.Microsecond
	return []bar{
		{scenario: "refresh", sqlite: 180 * µs, postgres: 350 * µs, post: 1, sign: true, least: leastRefresh, assumed: 105 * µs, durable: 1790 * µs, memory: 530 * µs},
		{scenario: "refresh-rs256", post: 1, signRS: true},
		{scenario: "introspect", sqlite: 60 * µs, postgres: 120 * µs, post: 1, least: leastIntrospect, assumed: 35 * µs, durable: 360 * µs, memory: 60 * µs},
		{scenario: "introspect-first", sqlite: 120 * µs, post: 1, verify: true},
		{scenario: "register", sqlite: 120 * µs, postgres: 250 * µs, post: 1, least: leastRegister, assumed: 55 * µs, durable: 2600 * µs, memory: 170 * µs},
		{scenario: "metadata", sqlite: 18 * µs, get: 1, durable: 30 * µs, memory: 23 * µs},
		{scenario: "jwks", sqlite: 18 * µs, get: 1, durable: 30 * µs, memory: 23 * µs},
		{scenario: "flow", sqlite: 1000 * µs, postgres: 2000 * µs, get: 4, post: 5, sign: true, durable: 8000 * µs, memory: 1000 * µs},
	}
}

// floor is what the operation costs when nothing is done but what cannot be left
// out, by the yardsticks of the same run: the least that was measured, or else
// bare requests and cryptography.
func (r *report) floor(b bar, database string) time.Duration {
	for _, one := range r.Beyond {
		if one.Scenario == b.scenario && database == "sqlite" {
			return one.Floor.cpu()
		}
	}
	floor := time.Duration(b.get)*r.yardstick(getYardstick) + time.Duration(b.post)*r.yardstick(postYardstick)
	if b.sign {
		floor += r.SignES256
	}
	if b.verify {
		floor += r.VerifyES256
	}
	if b.signRS {
		floor += r.SignRS256
	}
	return floor
}

// yardstick is what a bare request costs at 16 at once.
func (r *report) yardstick(name string) time.Duration {
	m, _ := r.find(name, "", 16)
	return m.Server
}

// yardstickOf is the bare request that a scenario is like.
func yardstickOf(scenario string) string {
	if scenario == "metadata" || scenario == "jwks" {
		return getYardstick
	}
	return postYardstick
}

// page collects the lines of the page, and what it has to say about misses.
type page struct {
	bytes.Buffer
	missed []string
}

func (p *page) line(format string, args ...any) { fmt.Fprintf(p, format+"\n", args...) }

// held says whether a bar is held, and keeps the miss with its reason.
func (p *page) held(what, measured, limit string, ok bool, floor string) string {
	if ok {
		return "held"
	}
	if floor != "" {
		floor = "; " + floor
	}
	p.missed = append(p.missed, fmt.Sprintf("%s: %s, the bar is %s%s", what, measured, limit, floor))
	return "**missed**"
}

func (r *report) markdown() []byte {
	p := &page{}
	r.introduce(p)
	r.operations(p)
	r.beyondTable(p)
	r.matrixTables(p)
	r.growthTable(p)
	r.besideTables(p)
	r.fixedTable(p)
	r.guardTable(p)
	r.whereItGoes(p)
	p.line("## Bars that are missed\n")
	if len(p.missed) == 0 {
		p.line("None, in this run.")
	} else {
		p.line("Where the time and the memory of each go is above.\n")
	}
	for _, one := range p.missed {
		p.line("* %s.", one)
	}
	p.line("")
	if len(r.Missing) > 0 {
		p.line("## Not measured in this run\n")
		for _, one := range r.Missing {
			p.line("* %s", one)
		}
		p.line("")
	}
	p.line(`## Limits of these figures

Server, load and database share the cores of one machine, and whatever else it did is in requests a second and in the tails.
The load is honest and evenly spread; each request comes, by ` + "`X-Forwarded-For`" + `, from one of 65,536 addresses, so no flood
limit is met, and the limit of 500 registrations of a project in a day is lifted in the database. The disk of such a machine
answers a flush sooner than a cloud disk: rows that wait for one are the optimistic end. Access tokens are JWTs and leave no
row; what others keep for each token is not the same work.`)
	return p.Bytes()
}

func (r *report) introduce(p *page) {
	p.line("# Performance\n")
	p.line("<!-- Made by make bench. Do not edit: run it. -->\n")
	p.line("Measured on %s at `%s`, on %s. %d passes of %s each after a warm-up, minutes apart under load; each figure is the median.", r.Date, r.Revision, r.Machine, r.Passes, r.During)
	p.line(`` + "`make bench`" + ` makes this page again, on any Linux with Go, and with PostgreSQL for its half.

**How to read it.** The server runs as a process of its own, as it is released, with its request log on: SQLite with write-ahead
log and ` + "`synchronous=FULL`" + `, PostgreSQL with ` + "`fsync`" + `, nothing answered before it is kept. Load comes over HTTP from another process
on the same cores, as fast as answers come back. **CPU for each operation** is the CPU time of the server's threads, on
PostgreSQL plus that of its backends, divided by the operations: it hardly moves with what else the machine does, and requests
a second and waiting times do. "Others" is how much of one core other processes used meanwhile.

A **yardstick** is a bare ` + "`net/http`" + ` handler measured the same way in the same run: a GET of 2 KB (G), and a POST shaped like a token
request, Basic authentication, form and JSON, without storage or cryptography (H). Bars are in milliseconds of the machine that
they were set on; in yardsticks they can be compared with any other. There G was 0.0145 ms and H 0.023 ms. What an operation costs
in yardsticks is the median of its passes, each over a yardstick measured right behind it.
`)
	if others := r.others(); others > 0.2 {
		p.line("**Other processes used %.1f cores on average while this was measured.** Waiting times and operations a second are worse by it, and so is what they decide.\n", others)
	}
	p.line("| yardstick | requests at once | requests/s | p50 ms | p99 ms | CPU ms | others |\n|---|--:|--:|--:|--:|--:|--:|")
	for _, c := range r.Cells {
		if c.Database == "" {
			p.line("| %s | %d | %.0f | %.3f | %.3f | %.4f | %.0f %% |", c.Scenario, c.Concurrency, c.Result.rate(), ms(c.Result.P50), ms(c.Result.P99), ms(c.Result.Server), c.Result.Others*100)
		}
	}
	p.line("\nOne ES256 signature takes %.0f µs of CPU here, its verification %.0f, one RS256 signature (2048 bits) %.0f.\n", us(r.SignES256), us(r.VerifyES256), us(r.SignRS256))
}

// others is how many cores other processes used on average.
func (r *report) others() float64 {
	var used, wall float64
	for _, c := range r.Cells {
		used, wall = used+c.Result.Others*c.Result.Wall.Seconds(), wall+c.Result.Wall.Seconds()
	}
	if wall == 0 {
		return 0
	}
	return used / wall
}

// operations is the table of the bars.
func (r *report) operations(p *page) {
	for _, database := range []string{"sqlite", "postgres"} {
		if _, ok := r.find("refresh", database, 16); !ok {
			continue
		}
		p.line("## CPU for each operation, %s, 16 requests at once\n", title(database))
		p.line("| operation | CPU ms | bar ms | | floor ms | in yardsticks | the bar in yardsticks | best durable peer | best in memory |\n|---|--:|--:|---|--:|--:|--:|--:|--:|")
		for _, b := range bars() {
			c, ok := r.cell(b.scenario, database, 16)
			if !ok {
				continue
			}
			m, limit := c.Result, b.sqlite
			if database == "postgres" {
				limit = b.postgres
			}
			if b.signRS && database == "sqlite" { // refresh with ES256, and the difference of the signatures
				limit = 180*time.Microsecond + 730*time.Microsecond
			}
			there := barPOST
			if yardstickOf(b.scenario) == getYardstick {
				there = barGET
			}
			floor, verdict, limitText := r.floor(b, database), "", ""
			if limit > 0 {
				limitText = fmt.Sprintf("%.3f", ms(limit))
				verdict = p.held(fmt.Sprintf("%s on %s", named(b.scenario).what, title(database)),
					fmt.Sprintf("%.3f ms, %.1f yardsticks", ms(m.cpu()), c.Yardsticks),
					fmt.Sprintf("%s ms, %s yardsticks", limitText, times(limit, there)), m.cpu() <= limit, fmt.Sprintf("it cannot cost less than %.3f ms here", ms(floor)))
				if m.cpu() > limit && c.Yardsticks <= float64(limit)/float64(there) {
					verdict += "; held in yardsticks"
				}
			}
			p.line("| %s | %.4f | %s | %s | %.3f | %.1f | %s | %s | %s |", named(b.scenario).what, ms(m.cpu()), limitText, verdict, ms(floor),
				c.Yardsticks, times(limit, there), times(b.durable, there), times(b.memory, there))
		}
		p.line("")
	}
	p.line(`"Floor" is bare HTTP and cryptography, without storage, but for the operations of the next table. Peers are in yardsticks of the day they
were measured: refresh and registration Glewlwyd 2.7.5 and oidc-provider 9.13.3, introspection Dex (head of August 2026) and
zitadel/oidc 3.49, metadata Glewlwyd and zitadel/oidc, flow Dex 2.45.1 and zitadel/oidc; Dex and zitadel/oidc register nobody in it.
`)
}

// beyondTable is what cannot be left out, beside what is there.
func (r *report) beyondTable(p *page) {
	if len(r.Beyond) == 0 {
		return
	}
	p.line("## What cannot be left out, SQLite, 16 requests at once\n")
	p.line(`The **floor** of an operation is a handler that does what it cannot do without and nothing else: it parses the request, reads one
row, signs, and keeps a changed and an added row with one flush for all who wait, on SQLite as the server uses it; it knows no
projects, checks nothing, and keeps no trail. Operation, floor and the bare POST (H) are measured in turn, %d times, a round in some two
seconds, and the ratios are medians: a machine that is faster one second and slower the next moves them little. The bars
were set on what such floors were taken to cost: 0.105 ms for a refresh, 0.035 for an introspection, 0.055 for a registration.
`, 3*r.Passes)
	p.line("| operation | CPU ms | floor ms | in floors | bar | | in H | bar | |\n|---|--:|--:|--:|--:|---|--:|--:|---|")
	for _, one := range r.Beyond {
		b := bars()[slices.IndexFunc(bars(), func(b bar) bool { return b.scenario == one.Scenario })]
		what := named(one.Scenario).what
		barFloors, barHandlers := float64(b.sqlite)/float64(b.assumed), float64(b.sqlite)/float64(barPOST)
		p.line("| %s | %.4f | %.4f | %.2f | %.2f | %s | %.1f | %.1f | %s |", what, ms(one.Operation.cpu()), ms(one.Floor.cpu()),
			one.Floors, barFloors, p.held(what+" in floors", fmt.Sprintf("%.2f", one.Floors), fmt.Sprintf("%.2f", barFloors), one.Floors <= barFloors, ""),
			one.Handlers, barHandlers, p.held(what+" in bare handlers", fmt.Sprintf("%.1f", one.Handlers), fmt.Sprintf("%.1f", barHandlers), one.Handlers <= barHandlers, ""))
	}
	p.line("")
}

// times is how often a goes into d, "" where either is not known.
func times(d, a time.Duration) string {
	if d == 0 || a == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", float64(d)/float64(a))
}

func title(database string) string {
	return map[string]string{"sqlite": "SQLite", "postgres": "PostgreSQL"}[database]
}

// matrixTables are all measurements under load.
func (r *report) matrixTables(p *page) {
	operations, errors := 0, 0
	for _, c := range r.Cells {
		if c.Database != "" {
			operations += c.Result.Operations
			errors += c.Result.Errors
		}
	}
	p.line("## Under load\n")
	p.line("%d operations were measured in the passes shown; **%d failed**.\n", operations, errors)
	for _, database := range []string{"sqlite", "postgres"} {
		var rows []string
		for _, s := range scenarios() {
			row := ""
			for _, c := range r.Cells {
				if c.Scenario == s.name && c.Database == database {
					row += fmt.Sprintf("| %s | %d | %.0f | %.2f | %.2f | %.4f | %.0f %% |\n", s.what, c.Concurrency, c.Result.rate(), ms(c.Result.P50), ms(c.Result.P99), ms(c.Result.cpu()), c.Result.Others*100)
				}
			}
			if row != "" {
				rows = append(rows, row)
			}
		}
		if len(rows) == 0 {
			continue
		}
		p.line("### %s\n", title(database))
		p.line("| operation | requests at once | operations/s | p50 ms | p99 ms | CPU ms | others |\n|---|--:|--:|--:|--:|--:|--:|")
		p.line("%s", strings.Join(rows, ""))
	}
	p.line("### Tails and steadiness, 64 requests at once\n")
	p.line("| operation | database | p99 ÷ p50 (bar 6) | | operations/s against 16 at once (goal 0.9) |\n|---|---|--:|---|--:|")
	for _, database := range []string{"sqlite", "postgres"} {
		for _, s := range scenarios() {
			at64, ok := r.find(s.name, database, 64)
			at16, too := r.find(s.name, database, 16)
			if !ok || !too || at64.P50 == 0 || at16.Operations == 0 {
				continue
			}
			tail, bare := float64(at64.P99)/float64(at64.P50), ""
			if y, ok := r.find(yardstickOf(s.name), "", 64); ok && y.P50 > 0 {
				bare = fmt.Sprintf("bare handlers have %.1f", float64(y.P99)/float64(y.P50))
			}
			p.line("| %s | %s | %.1f | %s | %.2f |", s.what, title(database), tail,
				p.held(fmt.Sprintf("p99 of %s on %s at 64", s.what, title(database)), fmt.Sprintf("%.1f × p50", tail), "6 × p50", tail <= 6, bare), at64.rate()/at16.rate())
		}
	}
	p.line("")
	pool := false
	for _, c := range r.Cells {
		if scenario, ok := strings.CutSuffix(c.Scenario, poolMark); ok {
			if !pool {
				p.line("### One connection to the database, 64 requests at once\n")
				p.line("| operation | database | operations/s | p50 ms | p99 ms | errors |\n|---|---|--:|--:|--:|--:|")
				pool = true
			}
			p.line("| %s | %s | %.0f | %.2f | %.2f | %d |", named(scenario).what, title(c.Database), c.Result.rate(), ms(c.Result.P50), ms(c.Result.P99), c.Result.Errors)
		}
	}
	p.line("")
}

func (r *report) growthTable(p *page) {
	if len(r.Growth) == 0 {
		return
	}
	p.line("## Growth with rows\n")
	p.line(`Users, clients, grants, scopes of grants, families, attempts and audit events: %d rows of each against %d, on two
servers that are measured in turn; the ratio is the median of those of %d pairs. The refresh tokens that are used, and the access tokens that are asked about, lie all over the
tables. CPU ms for each operation at 16 at once.
`, r.Rows, fewRows, 3*r.Passes)
	p.line("| operation | database | few rows | many rows | ratio | bar | | others |\n|---|---|--:|--:|--:|--:|---|--:|")
	for _, g := range r.Growth {
		limit := 1.5
		if g.Scenario == "introspect" {
			limit = 1.3
		}
		p.line("| %s | %s | %.4f | %.4f | %.2f | %.1f | %s | %.0f %% |", named(g.Scenario).what, title(g.Database), ms(g.Few.cpu()), ms(g.Many.cpu()), g.Ratio, limit,
			p.held(fmt.Sprintf("growth of %s on %s", named(g.Scenario).what, title(g.Database)), fmt.Sprintf("%.2f times", g.Ratio), fmt.Sprintf("%.1f", limit), g.Ratio <= limit, ""), g.Many.Others*100)
	}
	p.line("")
}

func (r *report) besideTables(p *page) {
	if len(r.Isolation) > 0 {
		p.line("## While passwords are checked\n")
		p.line("16 browsers try passwords at the dashboard without pause; the operations run 16 at once.\n")
		p.line("| operation | database | p99 ms alone | p99 ms meanwhile | ratio (bar 5) | | passwords/s | others |\n|---|---|--:|--:|--:|---|--:|--:|")
		for _, b := range r.Isolation {
			p.line("| %s | %s | %.1f | %.1f | %.1f | %s | %.0f | %.0f %% |", named(b.Scenario).what, title(b.Database), ms(b.Alone.P99), ms(b.Beside.P99), b.ratio(),
				p.held(fmt.Sprintf("p99 of %s on %s while passwords are checked", named(b.Scenario).what, title(b.Database)), fmt.Sprintf("%.1f times", b.ratio()), "5", b.ratio() <= 5, ""), b.Other, b.Beside.Others*100)
		}
		p.line("")
	}
	if len(r.Cleaning) > 0 {
		p.line("## Clean-up of what has run out\n")
		p.line("%d codes and as many families. Beside the clean-up, refresh tokens are exchanged 16 at once.\n", expired)
		p.line("| database | rows/s alone (bar 20,000) | | rows/s beside refresh | p99 ms of refresh alone | meanwhile | ratio (bar 2) | | others |\n|---|--:|---|--:|--:|--:|--:|---|--:|")
		for _, b := range r.Cleaning {
			rate := r.Cleaned[b.Database]
			p.line("| %s | %.0f | %s | %.0f | %.1f | %.1f | %.1f | %s | %.0f %% |", title(b.Database), rate,
				p.held("clean-up on "+title(b.Database), fmt.Sprintf("%.0f rows/s", rate), "20,000", rate >= 20_000, ""), b.Other, ms(b.Alone.P99), ms(b.Beside.P99), b.ratio(),
				p.held("p99 of tokens during the clean-up on "+title(b.Database), fmt.Sprintf("%.1f times", b.ratio()), "2", b.ratio() <= 2, ""), b.Beside.Others*100)
		}
		p.line("")
	}
}

func (r *report) fixedTable(p *page) {
	p.line("## Size, start, memory\n")
	p.line("| | measured | bar | |\n|---|--:|--:|---|")
	row := func(what string, measured, limit float64, unit, floor string) {
		text, most := fmt.Sprintf("%.1f %s", measured, unit), fmt.Sprintf("%.0f %s", limit, unit)
		p.line("| %s | %s | %s | %s |", what, text, most, p.held(what, text, most, measured <= limit, floor))
	}
	bare := func(when, database string) string {
		for _, f := range r.Footprints {
			if f.When == when && f.Database == database {
				return fmt.Sprintf("bare handlers take %.1f", mib(f.Bare))
			}
		}
		return ""
	}
	for _, s := range r.Starts {
		if s.Database == "sqlite" {
			row("binary, stripped", float64(s.Binary)/1e6, 30, "MB", ownPart(r.Binary))
			row("start on an existing database, until metadata is answered", ms(s.Existing), 20, "ms", "")
			row("start on a fresh database, until ready", ms(s.Fresh), 60, "ms", "")
			row("resident memory, idle", mib(s.Idle), 24, "MiB", bare(idleState, "sqlite"))
		} else {
			p.line("| start on an existing PostgreSQL database | %.1f ms | | |", ms(s.Existing))
			p.line("| resident memory on PostgreSQL, idle | %.1f MiB | | |", mib(s.Idle))
		}
	}
	for _, database := range []string{"sqlite", "postgres"} {
		if after, ok := r.After[database]; ok {
			row("resident memory after the whole matrix, "+title(database), mib(after), 64, "MiB", bare(matrixState, database))
		}
	}
	if m, ok := r.find(idleName, "sqlite", 16); ok {
		row("resident memory with 10,000 idle connections", mib(r.IdleMemory), 220, "MiB", bare(connectionsState, "sqlite"))
		row("p99 of metadata meanwhile, 16 at once", ms(m.P99), 5, "ms", "")
	}
	p.line("")
}

// ownPart is how much of a binary is Postern's, "" where nobody looked.
func ownPart(of []share) string {
	for _, one := range of {
		if one.Name == "Postern" {
			return fmt.Sprintf("functions and data of Postern are %.1f of it", one.Part/1e6)
		}
	}
	return ""
}

func (r *report) guardTable(p *page) {
	if len(r.SDK) == 0 {
		return
	}
	p.line("## guard\n")
	p.line("Microbenchmarks of the SDK, a token with 600 bytes of claims, wall time on one core.\n")
	p.line("| | µs | allocations | bar | |\n|---|--:|--:|--:|---|")
	floor := ""
	for _, s := range r.SDK {
		if s.Name == "Read" {
			floor = fmt.Sprintf("base64, and whether it is JSON, take %.2f µs", s.Micros)
		}
	}
	for _, s := range r.SDK {
		limit, allocs, floor := 0.0, -1, floor
		switch {
		case s.Name == "Seen":
			limit, allocs, floor = 1.5, 2, ""
		case s.Name == "FirstSeen/ES256":
			limit, floor = 62, ""
		case strings.HasPrefix(s.Name, "Rejected/"):
			limit = 5
		}
		text, verdict := "", ""
		if limit > 0 {
			text = fmt.Sprintf("%.1f µs", limit)
			if allocs >= 0 {
				text += fmt.Sprintf(", %d allocations", allocs)
			}
			verdict = p.held("guard, "+guardName(s.Name), fmt.Sprintf("%.2f µs, %d allocations", s.Micros, s.Allocs), text,
				s.Micros <= limit && (allocs < 0 || s.Allocs <= allocs), floor)
		}
		p.line("| %s | %.2f | %d | %s | %s |", guardName(s.Name), s.Micros, s.Allocs, text, verdict)
	}
	p.line("")
}

// guardName is a microbenchmark in words.
func guardName(name string) string {
	for from, to := range map[string]string{
		"Seen": "JWT seen before, whole middleware", "IntrospectionCached": "introspection, seen before",
		"Read": "bare reading: base64, and whether it is JSON",
	} {
		if name == from {
			return to
		}
	}
	for from, to := range map[string]string{
		"FirstSeen/": "JWT first seen, ", "Bare/": "bare verification, ", "Rejected/": "refused before cryptography: ",
	} {
		if rest, ok := strings.CutPrefix(name, from); ok {
			return to + strings.ReplaceAll(rest, "_", " ")
		}
	}
	return name
}

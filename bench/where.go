package main

import (
	"fmt"
	"slices"
	"strings"
)

// whereItGoes is the part of the page that profiles make.
func (r *report) whereItGoes(p *page) {
	if len(r.Profiles)+len(r.Footprints)+len(r.Refused.Parts) == 0 {
		return
	}
	p.line("## Where time and memory go\n")
	p.line("%s\n", `Taken of the same source built with `+"`-tags profile`"+`, under the same load, after all that is above: such a server is a little
slower and larger, and none of its figures is compared with a bar. "Kernel" is time in system calls. Functions that serve all, as
those for texts, belong to what calls them. A profile has some hundred samples: a point or two is chance.`)
	for _, database := range []string{"sqlite", "postgres"} {
		r.timeOn(p, database)
	}
	r.memory(p)
	if len(r.Binary) > 0 {
		p.line("### The binary\n\nBy what functions and data belong to, without names for debuggers.\n\n| | MB |\n|---|--:|")
		for _, one := range r.Binary {
			if one.Part >= 50_000 {
				p.line("| %s | %.1f |", one.Name, one.Part/1e6)
			}
		}
		p.line("")
	}
	if len(r.Refused.Parts) > 0 {
		p.line("### guard: a token that is parsed and refused before cryptography\n\n%s.\n", percents(r.Refused.Parts, 6))
		r.Refused.tree(p)
	}
}

// timeOn is where the CPU time of the scenarios goes.
func (r *report) timeOn(p *page, database string) {
	var all []profiled
	var kinds []string
	for _, one := range r.Profiles {
		if one.Database != database {
			continue
		}
		all = append(all, one)
		for _, part := range one.Parts {
			if part.Part >= 0.01 && !slices.Contains(kinds, part.Name) {
				kinds = append(kinds, part.Name)
			}
		}
	}
	if len(all) == 0 {
		return
	}
	slices.Sort(kinds)
	p.line("### CPU time on %s\n", title(database))
	row := func(name string, cell func(profiled) string) {
		text := "| " + name
		for _, one := range all {
			text += " | " + cell(one)
		}
		p.line("%s |", text)
	}
	row("16 requests at once", func(one profiled) string { return one.Scenario })
	p.line("|---%s|", strings.Repeat("|--:", len(all)))
	for _, kind := range kinds {
		row(kind, func(one profiled) string {
			for _, part := range one.Parts {
				if part.Name == kind && part.Part >= 0.005 {
					return fmt.Sprintf("%.0f %%", 100*part.Part)
				}
			}
			return ""
		})
	}
	row("the server, ms", func(one profiled) string { return fmt.Sprintf("%.3f", ms(one.At16.Server)) })
	if database == "postgres" {
		row("PostgreSQL's processes besides, ms", func(one profiled) string { return fmt.Sprintf("%.3f", ms(one.At16.Database)) })
	}
	row("64 at once: p99 ms", func(one profiled) string { return fmt.Sprintf("%.1f", ms(one.At64.P99)) })
	row("of 100 waits for a core, one is longer than, ms", func(one profiled) string { return fmt.Sprintf("%.1f", ms(one.Wait)) })
	p.line("\nIn functions of Postern with all that they call, 16 at once; what has less than 3 %% is left out,\nand of functions that pass nearly all on to the next one line has the first and the last.\n")
	for _, one := range all {
		p.line("%s:\n", named(one.Scenario).what)
		one.tree(p)
	}
}

// tree is who calls whom.
func (one profiled) tree(p *page) {
	p.line("```\n%s\n```\n", strings.Join(one.Calls.lines(0.03, ""), "\n"))
}

// memory is where the memory of the footprints goes.
func (r *report) memory(p *page) {
	if len(r.Footprints) == 0 {
		return
	}
	p.line("### Memory\n")
	p.line("%s\n", `In MiB. "Bare handlers" are what the yardsticks' process takes after the same: what cannot be left out. "Objects" are with those that
nobody needs any more: a server lets 64 MiB of them come together before it collects
([decision 31](../decisions/0031-where-refreshes-stand.md)). "The rest" is the program itself, SQLite's pages and whatever Go asked for and did not use.`)
	p.line("| | database | resident | bare handlers | objects | free for the next | stacks | Go's own | the rest |\n|---|---|--:|--:|--:|--:|--:|--:|--:|")
	for _, f := range r.Footprints {
		rest := f.Resident - int64(f.Objects+f.Free+f.Stacks+f.Own)
		p.line("| %s | %s | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f | %.1f |", f.When, title(f.Database), mib(f.Resident), mib(f.Bare),
			mib(int64(f.Objects)), mib(int64(f.Free)), mib(int64(f.Stacks)), mib(int64(f.Own)), mib(rest))
	}
	p.line("\nWho made the objects that are needed, after a collection:\n")
	for _, f := range r.Footprints {
		var makers []string
		for _, site := range f.Sites[:min(8, len(f.Sites))] {
			if site.Part >= 1<<18 {
				makers = append(makers, fmt.Sprintf("`%s` %.1f", site.Name, mib(int64(site.Part))))
			}
		}
		p.line("* %s, %s: %s.", f.When, title(f.Database), strings.Join(makers, ", "))
	}
	p.line("")
}

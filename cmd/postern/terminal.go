package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// terminal writes what people read: two spaces of indent, columns three
// apart, and colours only where somebody looks (never with NO_COLOR). Every
// colour has a word or a sign beside it.
type terminal struct {
	io.Writer
	color bool
}

func newTerminal(w io.Writer) terminal {
	f, ok := w.(*os.File)
	return terminal{Writer: w, color: ok && term.IsTerminal(int(f.Fd())) && os.Getenv("NO_COLOR") == ""}
}

func (t terminal) paint(code, s string) string {
	if !t.color || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

func (t terminal) bright(s string) string { return t.paint("97", s) }
func (t terminal) dim(s string) string    { return t.paint("2", s) }
func (t terminal) green(s string) string  { return t.paint("32", s) }
func (t terminal) amber(s string) string  { return t.paint("33", s) }
func (t terminal) red(s string) string    { return t.paint("31", s) }

// ok and fail are the signs before a result.
func (t terminal) ok() string {
	if t.color {
		return t.green("✓")
	}
	return "ok"
}

func (t terminal) fail() string {
	if t.color {
		return t.red("✗")
	}
	return "FAIL"
}

// line writes one indented line.
func (t terminal) line(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if text != "" {
		text = "  " + text
	}
	fmt.Fprintln(t, strings.TrimRight(text, " "))
}

// table writes rows in aligned columns. Heads may be nil.
func (t terminal) table(heads []string, rows [][]string) {
	widths := []int{}
	measure := func(row []string) {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], width(cell))
		}
	}
	measure(heads)
	for _, row := range rows {
		measure(row)
	}
	write := func(row []string, style func(string) string) {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(style(cell))
			if i < len(row)-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-width(cell)+3))
			}
		}
		t.line("%s", b.String())
	}
	if heads != nil {
		write(heads, t.dim)
	}
	for _, row := range rows {
		write(row, func(s string) string { return s })
	}
}

// facts writes labelled values, the labels dim.
func (t terminal) facts(pairs ...[2]string) {
	var rows [][]string
	for _, p := range pairs {
		rows = append(rows, []string{t.dim(p[0]), p[1]})
	}
	t.table(nil, rows)
}

// json writes v for programs.
func (t terminal) json(v any) error {
	e := json.NewEncoder(t)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

func width(s string) int { return utf8.RuneCountInString(escapes.ReplaceAllString(s, "")) }

// fault is an error as people read it: what is wrong, a sentence each, and
// what to do now.
type fault struct {
	problems []string
	next     string
}

func (f *fault) Error() string { return strings.Join(f.problems, "; ") }

func wrong(next, format string, args ...any) error {
	return &fault{problems: []string{fmt.Sprintf(format, args...)}, next: next}
}

// report writes an error.
func (t terminal) report(err error) {
	var f *fault
	ok := errors.As(err, &f)
	if !ok {
		f = &fault{problems: []string{err.Error()}, next: "postern help"}
	}
	for _, p := range f.problems {
		t.line("%s %s", t.fail(), strings.ReplaceAll(p, "\n", "\n       "))
	}
	if f.next != "" {
		t.line("%s   %s", t.dim("Next"), t.green(f.next))
	}
}

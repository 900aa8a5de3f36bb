// Package spec reads what spec/ holds, and the names of tests that refer to it:
// the ledger of clauses, the catalogue of attacks and the faults that are seeded
// to try its tests. The house rules check these files, internal/testrun runs the
// faults; spec/README.md tells people what the fields mean.
//
// A file is a small part of TOML: a comment with a title, then [[…]] tables of
// one-line strings. Read returns its tables, Tests the tests of a package that
// name attacks. Nothing of the product imports this package.
package spec

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Document is one file.
type Document struct {
	Name   string // path from the root of the repository
	Title  string
	Tables []Table
}

// Table is one [[…]] of a document.
type Table struct {
	Where  string // "spec/rfc7636.toml:12"
	Values map[string]string
}

// Problem is a line that cannot be read.
type Problem struct{ Where, What string }

// Read parses a document whose tables have one heading and the given keys.
func Read(name, text, heading string, keys ...string) (Document, []Problem) {
	var found []Problem
	first, _, _ := strings.Cut(text, "\n")
	title, ok := strings.CutPrefix(first, "# ")
	if !ok {
		found = append(found, Problem{name, "the first line is not a comment with the document's title"})
	}
	doc := Document{Name: name, Title: strings.TrimSuffix(title, ".")}
	for i, line := range strings.Split(text, "\n") {
		where := fmt.Sprintf("%s:%d", name, i+1)
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if line == "[["+heading+"]]" {
			doc.Tables = append(doc.Tables, Table{where, map[string]string{}})
			continue
		}
		key, quoted, _ := strings.Cut(line, "=")
		key = strings.TrimSpace(key)
		value, err := strconv.Unquote(strings.TrimSpace(quoted))
		if err != nil {
			found = append(found, Problem{where, `not a line of this file: key = "one string"`})
			continue
		}
		if len(doc.Tables) == 0 || !slices.Contains(keys, key) {
			found = append(found, Problem{where, "a key that is unknown here"})
			continue
		}
		values := doc.Tables[len(doc.Tables)-1].Values
		if _, twice := values[key]; twice {
			found = append(found, Problem{where, "a key that stands twice"})
		}
		values[key] = value
	}
	return doc, found
}

// Attack is one row of the catalogue.
type Attack struct {
	Where                                                     string
	ID, Endpoint, Text, Source, Tier, Status, Reason, Storage string
	Event                                                     string // kind of the event that each subtest of the row leaves on a server
	Node                                                      string // "second" where another server answers every other request
}

// Attacks reads one group of the catalogue.
func Attacks(name, text string) (title string, attacks []Attack, found []Problem) {
	doc, found := Read(name, text, "attack", "id", "endpoint", "text", "source", "tier", "status", "reason", "storage", "event", "node")
	for _, row := range doc.Tables {
		v := row.Values
		attacks = append(attacks, Attack{
			Where: row.Where, ID: v["id"], Endpoint: v["endpoint"], Text: v["text"], Source: v["source"],
			Tier: v["tier"], Status: v["status"], Reason: v["reason"], Storage: v["storage"],
			Event: v["event"], Node: v["node"],
		})
	}
	return doc.Title, attacks, found
}

var advisory = regexp.MustCompile(`CVE-\d{4}-\d+|GHSA(?:-[a-z0-9]{4}){3}|GO-\d{4}-\d+`)

// Advisories are the published vulnerabilities that an attack comes from.
func (a Attack) Advisories() []string { return advisory.FindAllString(a.Source, -1) }

// Fault is a check that is taken out of a copy of the source, to see whether
// the tests miss it.
type Fault struct {
	Where    string
	Name     string
	File     string // path from the root
	Old, New string // Old stands in File once
	Rows     []string
	Package  string // folder of the tests
	Run      string // their -run
	Smoke    bool   // is tried by every `make test`
}

// Faults reads a file of seeded faults.
func Faults(name, text string) (faults []Fault, found []Problem) {
	doc, found := Read(name, text, "fault", "name", "file", "old", "new", "rows", "package", "run", "smoke")
	for _, row := range doc.Tables {
		v := row.Values
		faults = append(faults, Fault{
			Where: row.Where, Name: v["name"], File: v["file"], Old: v["old"], New: v["new"],
			Rows:    strings.FieldsFunc(v["rows"], func(r rune) bool { return r == ',' || r == ' ' }),
			Package: v["package"], Run: v["run"], Smoke: v["smoke"] == "yes",
		})
	}
	return faults, found
}

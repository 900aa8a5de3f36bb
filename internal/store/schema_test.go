package store_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/store"
)

// deploymentTables belong to no project.
var deploymentTables = []string{"schema_state", "master_key_check", "workspace_key", "administrator", "administrator_session", "administrator_passkey", "administrator_link", "administrator_ceremony", "deployment_claim", "node", "purpose"}

// deploymentStatements bind no project: they read all projects, to route
// requests, to learn whether there is one, and to replace the master key.
var deploymentStatements = []string{
	"ProjectIDs", "Changes", "Projects", "ProjectHosts", "ResourceServers", "Policies", "ProjectLogos", "KeepPurposeOfEmpty",
	"SealedSigningKeys", "SealedConnections", "SealedProofs",
}

// tables returns the columns of every table in the schema's text.
func tables(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := store.SchemaFiles.ReadDir("schema")
	must(t, err)
	for _, e := range entries {
		text, err := store.SchemaFiles.ReadFile("schema/" + e.Name())
		must(t, err)
		for _, m := range regexp.MustCompile(`(?s)CREATE TABLE "?(\w+)"? \((.*?)\n\);`).FindAllStringSubmatch(string(text), -1) {
			all[m[1]] = m[2]
		}
	}
	return all
}

func TestEveryTableHasItsProject(t *testing.T) {
	t.Parallel()
	all := tables(t)
	if len(all) < 20 {
		t.Fatalf("only %d tables were found", len(all))
	}
	for name, columns := range all {
		if slices.Contains(deploymentTables, name) {
			continue
		}
		if !regexp.MustCompile(`\bproject_id\s+TEXT (NOT NULL|PRIMARY KEY)`).MatchString(columns) {
			t.Errorf("table %s has no project_id", name)
		}
		key := regexp.MustCompile(`PRIMARY KEY \((\w+)`).FindStringSubmatch(columns)
		alone := regexp.MustCompile(`(\w+)\s+TEXT PRIMARY KEY`).FindStringSubmatch(columns)
		switch {
		case name == "project_host": // one host leads to one project
		case key != nil && key[1] == "project_id", alone != nil && alone[1] == "project_id":
		default:
			t.Errorf("the key of table %s does not begin with project_id", name)
		}
		for _, m := range regexp.MustCompile(`FOREIGN KEY \((\w+)`).FindAllStringSubmatch(columns, -1) {
			if m[1] != "project_id" {
				t.Errorf("a foreign key of %s leaves its project", name)
			}
		}
	}
}

// Every statement binds the project of every table that it names: the
// parameter itself, or the project_id of a row that does.
func TestEveryStatementBindsItsProject(t *testing.T) {
	t.Parallel()
	statements := generated(t)
	if len(statements) < 80 {
		t.Fatalf("only %d statements were found", len(statements))
	}
	for name, text := range statements {
		if slices.Contains(deploymentStatements, name) || ofDeployment(text) {
			continue
		}
		if strings.Contains(text, "INSERT INTO") {
			if !regexp.MustCompile(`INSERT INTO "?\w+"? \([^)]*project_id`).MatchString(text) {
				t.Errorf("%s inserts no project_id", name)
			}
			continue
		}
		parameter := regexp.MustCompile(`project_id = (\$\d+)`).FindStringSubmatch(text)
		if parameter == nil {
			t.Errorf("%s binds no project", name)
			continue
		}
		named := len(regexp.MustCompile(`(?i)\b(FROM|JOIN|UPDATE) "?\w+"?`).FindAllString(text, -1))
		bound := len(regexp.MustCompile(`project_id (?:\|\| '' )?= (`+regexp.QuoteMeta(parameter[1])+`\b|\w+\.project_id)`).FindAllString(text, -1))
		if bound < named {
			t.Errorf("%s names %d tables and binds the project of %d:\n%s", name, named, bound, text)
		}
	}
}

// ofDeployment reports whether a statement names only tables that belong to no
// project.
func ofDeployment(text string) bool {
	named := regexp.MustCompile(`(?i)\b(?:FROM|JOIN|UPDATE|INTO) "?(\w+)"?`).FindAllStringSubmatch(strings.ReplaceAll(text, "DO UPDATE SET", ""), -1)
	return len(named) > 0 && !slices.ContainsFunc(named, func(m []string) bool { return !slices.Contains(deploymentTables, m[1]) })
}

// The rules that keep one text of SQL right on both databases.
func TestStatementsAreForBoth(t *testing.T) {
	t.Parallel()
	texts := generated(t)
	for name, columns := range tables(t) {
		texts["table "+name] = columns
	}
	for name, text := range texts {
		for _, forbidden := range []string{`::`, `(?i)\bFOR UPDATE\b`, `(?i)\bnow\(\)`, `(?i)\bILIKE\b`, `(?i)\bLIKE\b`, `(?i)\bCOLLATE\b`, `(?i)\bARRAY\b`, `(?i)SELECT \*`, `(?i)\bTIMESTAMP\b`, `(?i)RETURNING \*`} {
			if regexp.MustCompile(forbidden).MatchString(strings.ReplaceAll(text, "-- name: ", "")) {
				t.Errorf("%s has %s", name, forbidden)
			}
		}
	}
}

package store_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/store"
)

// generated returns the text of every statement that sqlc made, by its name.
func generated(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("db/*.sql.go")
	must(t, err)
	all := map[string]string{}
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		must(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && strings.HasPrefix(literal.Value, "`-- name: ") {
				text, err := strconv.Unquote(literal.Value)
				must(t, err)
				all[strings.Fields(text)[2]] = text
			}
			return true
		})
	}
	return all
}

// Every statement finds its rows by a key, or reads tables that have a few rows
// for each project.
func TestNoStatementScans(t *testing.T) {
	t.Parallel()
	db := open(t, store.Config{Path: sqliteCopy(t), Now: time.Now})
	small := regexp.MustCompile(`^(Projects|ProjectIDs|ProjectHosts|Changes|ResourceServers|ResourceAddresses|Polic(y|ies)|SigningKeys|WorkspaceKeys|RevokeWorkspaceKeysOf|(Other)?Administrators|` +
		`DeleteLateNodes|CountNodes|KeepPurposeOfEmpty|DeleteRetiredSigningKeys|RaiseChange|RaiseChangeFrom|RaiseRevocation|SaveSettings|SetProjectSecret|(Delete)?ProjectLogos?|ClearOtherDefaults)$`)
	// What an operator does once in years reads what it concerns from end to end:
	// an index for it would cost every consent.
	rare := regexp.MustCompile(`^(SetIssuer|DeleteProjectHosts|MoveScopesOfResource|DeleteScopesOfResource|ConnectedOrganizations|AccessByClient|` +
		`End(Codes|Flows|All(Administrator)?Sessions|AllBrowsers)|SkipCounters|SkipAdministratorCodes)$`)
	// These end what a whole project gave out. Elsewhere an index by expiry walks all
	// that live in a project to find the few that somebody has.
	everything := regexp.MustCompile(`^(AccessOf|AccessByClient|EndAccess)$`)
	oldest := regexp.MustCompile(`^Clean(Flows|Attempts|Codes|Revocations)$`) // the first few rows by key
	counted := regexp.MustCompile(`SCAN ([a-z]|CONSTANT ROW)$`)
	for name, text := range generated(t) {
		args := make([]any, strings.Count(text, "$"))
		for _, line := range rows(t, db, "EXPLAIN QUERY PLAN "+text, args...) {
			wide := strings.Contains(line, "SCAN ") || strings.HasSuffix(line, "(project_id=?)")
			if oldest.MatchString(name) && strings.Contains(line, "COVERING INDEX") {
				continue
			}
			if strings.HasSuffix(line, "SCAN e") && (strings.HasPrefix(name, "EventsBy") || name == "RefusalCauses") {
				continue // the few rows that the inner statement found; see TestEventsAreReadByIndex
			}
			if strings.HasPrefix(name, "CountAttempts") && counted.MatchString(line) {
				continue // as many keys as the inner statement may read; see TestAttemptsAreListedByIndex
			}
			if strings.Contains(line, "expires_at>?") && !everything.MatchString(name) {
				t.Errorf("%s: %s", name, line)
			}
			if wide && !small.MatchString(name) && !rare.MatchString(name) {
				t.Errorf("%s: %s", name, line)
			}
		}
	}
}

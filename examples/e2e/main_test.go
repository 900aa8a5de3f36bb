// Package e2e_test walks the real binaries as people and programs do: postern,
// todo and okr are built once, run on free ports of this computer with their
// data in a temporary folder, and are spoken to over HTTP only.
//
// A [postern] is a running server, on SQLite or PostgreSQL ([eachDatabase]),
// set up with its own commands; an [office] is one whose people are members of
// organizations, with the OKR manager. A [person] has a browser and a mailbox, and
// decides on the consent page. An [app] is an MCP client: the official SDK's,
// by one of three ways of registration and one of two transports. What a token
// endpoint promises is tested below that, by plain requests ([client]).
//
// The clock of a real binary cannot be set, so what happens when a token ends
// in an open stream is shown in streams_test.go, with guard and guardtest.
package e2e_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
)

// binaries is the folder of the programs under test.
var binaries string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	folder, err := os.MkdirTemp("", "postern-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(folder)
	binaries = folder
	for name, from := range map[string]string{"postern": "../../cmd/postern", "todo": "../todo", "okr": "../okr"} {
		build := exec.Command("go", "build", "-o", filepath.Join(folder, name), ".")
		build.Dir = from
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build %s: %v\n%s", name, err, out)
			return 1
		}
	}
	return m.Run()
}

// database is where a postern keeps its data.
type database struct {
	name string
	env  []string // settings of postern that select it
}

// eachDatabase runs a test on both databases.
func eachDatabase(t *testing.T, test func(t *testing.T, db database)) {
	t.Run("sqlite", func(t *testing.T) { test(t, database{"sqlite", nil}) })
	t.Run("postgres", func(t *testing.T) { test(t, newPostgres(t)) })
}

// newPostgres makes a database that ends with the test.
func newPostgres(t *testing.T) database {
	t.Helper()
	const variable = "POSTERN_TEST_POSTGRES"
	base := os.Getenv(variable)
	switch {
	case base == "" && os.Getenv("CI") != "":
		t.Fatal(variable + " is not set: in CI this test needs a PostgreSQL server")
	case base == "":
		t.Skip(variable + " is not set: this test needs a PostgreSQL server")
	}
	admin, err := sql.Open("pgx", base)
	if err != nil {
		t.Fatal(err)
	}
	name := "postern_e2e_" + strings.ToLower(rand.Text())
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := admin.ExecContext(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Error(err)
		}
		admin.Close()
	})
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	var key [32]byte
	rand.Read(key[:])
	return database{"postgres", []string{
		"POSTERN_DATABASE=" + u.String(), "POSTERN_MIGRATE=true",
		"POSTERN_MASTER_KEY=" + base64.StdEncoding.EncodeToString(key[:]),
	}}
}

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/signing"
)

// postern runs a command on a folder. onLine is called with what it prints, while
// it does.
func postern(t *testing.T, folder string, onLine func(string), args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), append(args, "--data", folder), listener{&out, onLine}, &errs)
	return status, out.String(), errs.String()
}

type listener struct {
	*bytes.Buffer
	onLine func(string)
}

func (l listener) Write(b []byte) (int, error) {
	if l.onLine != nil {
		l.onLine(string(b))
	}
	return l.Buffer.Write(b)
}

// Where a setting is lost after the issuer moved, here a logo that somebody takes
// away meanwhile, the command tells what it did.
func TestIssuerMovesAndTheRestDoesNot(t *testing.T) {
	folder := t.TempDir()
	logo := filepath.Join(folder, "logo.png")
	if err := writeLogo(logo); err != nil {
		t.Fatal(err)
	}
	if status, _, errs := postern(t, folder, nil, "project", "create", "Notes", "--issuer", "https://old.example.com"); status != 0 {
		t.Fatal(errs)
	}
	takeAway := func(line string) {
		if strings.Contains(line, "What was issued by") {
			_ = os.Remove(logo) // the second time it is gone
		}
	}
	status, _, errs := postern(t, folder, takeAway, "project", "set", "issuer", "https://new.example.com", "logo", logo)
	if status != 1 || !strings.Contains(errs, "no such file") || !strings.Contains(errs, "FAIL the issuer is https://new.example.com all the same") {
		t.Errorf("status %d\n%s", status, errs)
	}
}

// A server that is just starting makes one key after the other: between them,
// nothing is rotated.
func TestRotateWaitsForBothKeys(t *testing.T) {
	folder := t.TempDir()
	if status, _, errs := postern(t, folder, nil, "project", "create", "Notes", "--issuer", "https://auth.example.com"); status != 0 {
		t.Fatal(errs)
	}
	keys, id := keysIn(t, folder)
	if err := keys.Ensure(t.Context(), id, signing.ES256); err != nil {
		t.Fatal(err)
	}
	status, out, errs := postern(t, folder, nil, "keys", "rotate")
	if status != 1 || out != "" || !strings.Contains(errs, "FAIL there is no RS256 key yet") || !strings.Contains(errs, "Next   postern serve") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	if all, err := keys.All(t.Context(), id); err != nil || len(all) != 1 {
		t.Errorf("%d keys, %v; the first was rotated without the second", len(all), err)
	}
}

// keysIn opens the keys of the only project in a folder.
func keysIn(t *testing.T, folder string) (keys *signing.Keys, project string) {
	t.Helper()
	opened, err := server.Data{Folder: folder, Now: time.Now}.Open(context.WithoutCancel(t.Context()), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = opened.Close() }) // read from, and one key made
	all, err := opened.DB.Projects(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatalf("%d projects, %v", len(all), err)
	}
	keys, err = signing.New(signing.Config{Store: opened.DB, Sealer: opened.Sealer, Now: time.Now, MaxTokenLife: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return keys, all[0].ID
}

// What a stranger chose does not steer the terminal, wherever it is printed.
func TestNamesKeepTheTerminalStraight(t *testing.T) {
	folder := t.TempDir()
	if status, _, errs := postern(t, folder, nil, "project", "create", "Notes", "--issuer", "https://auth.example.com"); status != 0 {
		t.Fatal(errs)
	}
	_, made, errs := postern(t, folder, nil, "client", "create", "--name", "Ro\u202ebot", "--type", "third-party", "--redirect-uri", "https://robot.example.com/cb")
	_, rotated, _ := postern(t, folder, nil, "client", "rotate-secret", regexp.MustCompile(`connected-app-[0-9a-z-]+`).FindString(made))
	if !strings.Contains(made, "registered Ro?bot") || !strings.Contains(rotated, "Ro?bot has a new secret") {
		t.Errorf("%s%s%s", made, errs, rotated)
	}
	if got := orNone([]string{"https://a.example.com/\u202emcp", "b\u009b2J"}); got != "https://a.example.com/?mcp b?2J" {
		t.Errorf("%q", got)
	}
}

//go:build unix

package cluster_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/postern-id/postern/internal/testrun/cluster"
)

func TestPostgresIsStartedAndRemoved(t *testing.T) {
	server, err := cluster.New(t.Context(), cluster.Config{})
	if errors.Is(err, cluster.ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close(t.Context())
	psql := exec.CommandContext(t.Context(), server.Program("psql"), server.URL, "-Atc",
		`SELECT current_setting('server_encoding'), datcollate, current_setting('listen_addresses'), current_setting('fsync')
		 FROM pg_database WHERE datname = 'postgres'`)
	got, err := psql.CombinedOutput()
	if want := "UTF8|C|127.0.0.1|off\n"; err != nil || string(got) != want {
		t.Errorf("psql printed %q, %v; want %q", got, err, want)
	}
	server.Close(t.Context())
	if _, err := os.Stat(server.Folder()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s was not removed: %v", server.Folder(), err)
	}
	if err := exec.CommandContext(t.Context(), server.Program("pg_isready"), "-d", server.URL).Run(); err == nil {
		t.Error("the server still answers")
	}
}

func TestPostgresIsFound(t *testing.T) {
	folders := func(programs ...string) string {
		root, err := filepath.EvalSymlinks(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		for _, program := range programs {
			path := filepath.Join(root, program)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		return root
	}
	inPath := folders("initdb")
	three := folders("9/bin/initdb", "17/bin/initdb", "15/bin/initdb")
	clientsOnly := folders("15/bin/initdb", "17/bin/psql")
	tests := []struct {
		name         string
		path, debian string
		want         string // "" for cluster.ErrMissing
	}{
		{"in PATH first", inPath, three, inPath},
		{"the newest version", folders(), three, filepath.Join(three, "17/bin")},
		{"a version with clients only is passed over", folders(), clientsOnly, filepath.Join(clientsOnly, "15/bin")},
		{"nowhere", folders(), folders("17/bin/psql"), ""},
		{"no folder at all", folders(), filepath.Join(folders(), "absent"), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("PATH", test.path)
			got, err := cluster.Find(test.debian)
			if got != test.want || errors.Is(err, cluster.ErrMissing) != (test.want == "") {
				t.Errorf("found %q, %v; want %q", got, err, test.want)
			}
		})
	}
}

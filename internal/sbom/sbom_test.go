package main

import (
	"crypto/sha256"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

// Every module of a release, on the platform with the most of them, has a
// licence that we know and may use.
func TestLicencesOfTheProduct(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}\t{{.Dir}}{{end}}", "../../cmd/postern")
	list.Env = append(os.Environ(), "GOOS=windows", "CGO_ENABLED=0")
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		path, folder, ok := strings.Cut(strings.TrimSpace(line), "\t")
		if !ok || seen[path] {
			continue
		}
		seen[path] = true
		if _, err := licenses(folder); err != nil {
			t.Errorf("%s: %s", path, err)
		}
	}
	if len(seen) < 30 {
		t.Errorf("only %d modules were looked at", len(seen))
	}
}

func TestDescribe(t *testing.T) {
	mit, strange := t.TempDir(), t.TempDir()
	write := func(folder, name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(mit, "LICENSE", "Permission is hereby granted, free of charge, to any\nperson obtaining a copy … The above copyright notice and this\npermission notice shall be included")
	write(mit, "NOTICE", "Made by somebody.")
	write(strange, "LICENSE", "All rights reserved.")
	info := &debug.BuildInfo{
		GoVersion: "go1.26.8",
		Main:      debug.Module{Path: "example.test/product", Version: "v1.0.0+dirty"},
		Deps:      []*debug.Module{{Path: "example.test/dep", Version: "v0.1.0", Sum: "h1:AAAA"}},
		Settings:  []debug.BuildSetting{{Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}},
	}
	folders := map[string]string{standard: mit, "example.test/product": mit, "example.test/dep": mit}
	doc, err := describe("product_linux", info, sha256.Sum256(nil), folders)
	if err != nil {
		t.Fatal(err)
	}
	if doc.Metadata.Timestamp != "2026-01-02T03:04:05Z" || doc.Metadata.Component.PURL != "pkg:golang/example.test/product@v1.0.0%2Bdirty" {
		t.Errorf("metadata %+v", doc.Metadata)
	}
	if len(doc.Components) != 2 {
		t.Fatalf("%d components, want Go's library and the module", len(doc.Components))
	}
	dep := doc.Components[1]
	if dep.PURL != "pkg:golang/example.test/dep@v0.1.0" || len(dep.Hashes) != 1 || dep.Hashes[0].Content != "000000" ||
		len(dep.Licenses) != 2 || dep.Licenses[0].License.ID != "MIT" || dep.Licenses[1].License.Name != "NOTICE" ||
		dep.Licenses[1].License.Text.Content != "Made by somebody." {
		t.Errorf("the module is %+v", dep)
	}
	if !slices.Equal(doc.Dependencies[0].DependsOn, []string{doc.Components[0].Ref, dep.Ref}) {
		t.Errorf("dependencies %+v", doc.Dependencies)
	}

	for name, folder := range map[string]string{"licence that we do not know": strange, "no licence": t.TempDir(), "no folder": ""} {
		t.Run(name, func(t *testing.T) {
			folders["example.test/dep"] = folder
			if _, err := describe("product_linux", info, sha256.Sum256(nil), folders); err == nil || !strings.Contains(err.Error(), "example.test/dep") {
				t.Errorf("error %v, want one that names the module", err)
			}
		})
	}
}

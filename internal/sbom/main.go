// Command sbom writes a bill of materials beside each release binary: what is
// linked into it, and under which licence, in the form of CycloneDX 1.6.
//
//	go run ./internal/sbom dist/postern_*
//
// What is in a binary it takes from the binary (debug/buildinfo); the licences
// it reads in the module cache, which the build has just filled. So it needs no
// network, and it fails on a module whose licence it does not know. The
// document depends on the binary alone: it has the time of the commit, not of
// the run.
package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

// oldestGo is the first Go whose library is good enough for a release: 1.26.6
// mended HTTP/2 without TLS, URLs and templates.
const oldestGo = "go1.26.6"

func run(binaries []string) error {
	if len(binaries) == 0 {
		return errors.New("name the binaries, such as dist/postern_*")
	}
	for _, binary := range binaries {
		info, err := buildinfo.ReadFile(binary)
		if err != nil {
			return err
		}
		if version.Compare(info.GoVersion, oldestGo) < 0 {
			return fmt.Errorf("%s was built by %s, whose library has known holes; use %s or newer", binary, info.GoVersion, oldestGo)
		}
		content, err := os.ReadFile(binary) //nolint:gosec // named by whoever builds
		if err != nil {
			return err
		}
		folders, err := locate(info)
		if err != nil {
			return fmt.Errorf("%s: %w", binary, err)
		}
		doc, err := describe(filepath.Base(binary), info, sha256.Sum256(content), folders)
		if err != nil {
			return fmt.Errorf("%s: %w", binary, err)
		}
		text, err := json.MarshalIndent(doc, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(strings.TrimSuffix(binary, ".exe")+".cdx.json", append(text, '\n'), 0o644); err != nil { //nolint:gosec // for everybody to read
			return err
		}
	}
	return nil
}

// standard is the name of Go's own library among the modules.
const standard = "std"

// locate returns the folder of every module of a binary: the product's own,
// those that it needs, and Go's library. It fails where the folder has another
// version than the binary.
func locate(info *debug.BuildInfo) (map[string]string, error) {
	found, err := output("go", "env", "GOVERSION", "GOROOT")
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(found), "\n")
	if len(lines) != 2 || lines[0] != info.GoVersion {
		return nil, fmt.Errorf("it was built by %s; run this with the same Go", info.GoVersion)
	}
	folders := map[string]string{standard: lines[1]}
	args := []string{"list", "-m", "-f", "{{.Path}}\t{{.Version}}\t{{.Dir}}", info.Main.Path}
	versions := map[string]string{}
	for _, dep := range info.Deps {
		if dep.Replace != nil {
			return nil, fmt.Errorf("%s is replaced; releases are built without a replace", dep.Path)
		}
		versions[dep.Path] = dep.Version
		args = append(args, dep.Path)
	}
	list, err := output("go", args...)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(list) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) == 2 { // the product itself has no version
			f = []string{f[0], "", f[1]}
		}
		if f[1] != versions[f[0]] {
			return nil, fmt.Errorf("it has %s %s, and this tree %s; build it again", f[0], versions[f[0]], f[1])
		}
		folders[f[0]] = f[2]
	}
	return folders, nil
}

func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output() //nolint:gosec,noctx // go, with paths of modules; ends with the build
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("%s %s: %s", name, args[0], failed.Stderr)
	}
	return string(out), err
}

// The parts of CycloneDX 1.6 (ECMA-424) that are written here.
type (
	document struct {
		Schema       string       `json:"$schema"`
		Format       string       `json:"bomFormat"`
		SpecVersion  string       `json:"specVersion"`
		Version      int          `json:"version"`
		Metadata     metadata     `json:"metadata"`
		Components   []component  `json:"components"`
		Dependencies []dependency `json:"dependencies"`
	}
	metadata struct {
		Timestamp  string     `json:"timestamp,omitempty"`
		Component  component  `json:"component"`
		Properties []property `json:"properties"`
	}
	component struct {
		Type     string    `json:"type"`
		Ref      string    `json:"bom-ref"`
		Name     string    `json:"name"`
		Version  string    `json:"version"`
		Hashes   []hash    `json:"hashes,omitempty"`
		Licenses []license `json:"licenses"`
		PURL     string    `json:"purl"`
	}
	hash struct {
		Algorithm string `json:"alg"`
		Content   string `json:"content"`
	}
	license struct {
		License licenseText `json:"license"`
	}
	licenseText struct {
		ID   string `json:"id,omitempty"`   // of SPDX
		Name string `json:"name,omitempty"` // of the file, where its text is not one of SPDX's
		Text struct {
			ContentType string `json:"contentType"`
			Content     string `json:"content"`
		} `json:"text"`
	}
	dependency struct {
		Ref       string   `json:"ref"`
		DependsOn []string `json:"dependsOn,omitempty"`
	}
	property struct {
		Name  string `json:"name"`
		Value string `json:"value"`
	}
)

// describe makes the document of one binary. A binary does not say which module
// needs which, so they all stand below the product.
func describe(name string, info *debug.BuildInfo, sum [sha256.Size]byte, folders map[string]string) (document, error) {
	doc := document{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json",
		Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			doc.Metadata.Timestamp = s.Value
		}
		doc.Metadata.Properties = append(doc.Metadata.Properties, property{"go:build:" + s.Key, s.Value})
	}
	var err error
	if doc.Metadata.Component, err = describeModule("application", info.Main, folders); err != nil {
		return document{}, err
	}
	doc.Metadata.Component.Name = name
	doc.Metadata.Component.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum[:])}}

	modules := append([]*debug.Module{{Path: standard, Version: strings.TrimPrefix(info.GoVersion, "go")}}, info.Deps...)
	root := dependency{Ref: doc.Metadata.Component.Ref}
	for _, m := range modules {
		c, err := describeModule("library", *m, folders)
		if err != nil {
			return document{}, err
		}
		doc.Components = append(doc.Components, c)
		root.DependsOn = append(root.DependsOn, c.Ref)
		doc.Dependencies = append(doc.Dependencies, dependency{Ref: c.Ref})
	}
	doc.Dependencies = slices.Insert(doc.Dependencies, 0, root)
	return doc, nil
}

func describeModule(kind string, m debug.Module, folders map[string]string) (component, error) {
	// A version such as v1.0.0+dirty is escaped in a package URL.
	purl := "pkg:golang/" + m.Path + "@" + url.QueryEscape(m.Version)
	c := component{Type: kind, Ref: purl, Name: m.Path, Version: m.Version, PURL: purl}
	if encoded, ok := strings.CutPrefix(m.Sum, "h1:"); ok { // go.sum's: a SHA-256 over the list of all files with theirs
		sum, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			return component{}, fmt.Errorf("%s: %w", m.Path, err)
		}
		c.Hashes = []hash{{"SHA-256", hex.EncodeToString(sum)}}
	}
	var err error
	c.Licenses, err = licenses(folders[m.Path])
	if err != nil {
		return component{}, fmt.Errorf("%s: %w", m.Path, err)
	}
	return c, nil
}

// licenseFile is what the files are called that come with a right to use. With
// a binary their texts have to be passed on, so they are in the document whole.
var licenseFile = regexp.MustCompile(`(?i)^(licen[sc]e|copying|notice|patents)`)

// licenses reads those in the folder of a module. One at least must be known.
func licenses(folder string) ([]license, error) {
	if folder == "" {
		return nil, errors.New("its folder is unknown; run go mod download")
	}
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var all []license
	known := false
	for _, e := range entries {
		if e.IsDir() || !licenseFile.MatchString(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(folder, e.Name()))
		if err != nil {
			return nil, err
		}
		var l licenseText
		if l.ID = recognize(string(text)); l.ID == "" {
			l.Name = e.Name()
		}
		known = known || l.ID != ""
		l.Text.ContentType, l.Text.Content = "text/plain", string(text)
		all = append(all, license{l})
	}
	if !known {
		return nil, fmt.Errorf("no licence is known in %s; teach recognize its text, if we may use it", folder)
	}
	return all, nil
}

// recognize returns the SPDX name of a licence by sentences that it alone has,
// or "".
func recognize(text string) string {
	text = strings.ToLower(strings.Join(strings.Fields(text), " "))
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case has("apache license version 2.0, january 2004"):
		return "Apache-2.0"
	case has("mozilla public license version 2.0") || has("mozilla public license, version 2.0"):
		return "MPL-2.0"
	case has("permission is hereby granted, free of charge, to any person obtaining a copy") &&
		has("the above copyright notice and this permission notice"):
		return "MIT"
	case has("redistribution and use in source and binary forms, with or without modification, are permitted"):
		if has("to endorse or promote products derived from this software without specific prior written permission") {
			return "BSD-3-Clause"
		}
		return "BSD-2-Clause"
	case has("permission to use, copy, modify, and/or distribute this software for any purpose with or without fee"):
		return "ISC"
	}
	return ""
}

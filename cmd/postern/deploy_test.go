package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// The settings that the guide shows are complete and safe as they stand, but for
// files that are elsewhere here, and for what a fragment says it replaces.
func TestDeployGuide(t *testing.T) {
	page, err := os.ReadFile("../../docs/guide/deploy.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "smtp-password"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	shown := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(page), -1)
	if len(shown) != 3 {
		t.Fatalf("%d configurations, want one host, own certificates and PostgreSQL", len(shown))
	}
	host, certificates, cluster := shown[0][1], shown[1][1], shown[2][1]
	ownTLS := certificates + regexp.MustCompile(`(?m)^(listen|behind_proxy):.*\n`).ReplaceAllString(host, "")
	for name, text := range map[string]string{"one host": host, "own certificates": ownTLS, "PostgreSQL": cluster} {
		file := filepath.Join(dir, "postern.yaml")
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, "/etc/postern", dir)), 0o600); err != nil {
			t.Fatal(err)
		}
		c, problems := loadConfig(pflag.NewFlagSet("", pflag.ContinueOnError), func(name string) (string, bool) {
			return file, name == "POSTERN_CONFIG"
		})
		if problems = append(problems, c.check()...); len(problems) > 0 || c.URL != "https://auth.example.com" {
			t.Errorf("%s, %s: %q", name, c.URL, problems)
		}
	}
	// The container's settings, by name.
	known := map[string]bool{"POSTERN_CONFIG": true}
	for _, s := range new(Config).settings() {
		known[s.env()] = true
	}
	for _, name := range regexp.MustCompile(`POSTERN_[A-Z_]+`).FindAllString(string(page), -1) {
		if !known[name] {
			t.Errorf("there is no setting %s", name)
		}
	}
}

//go:build unix

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const browserTests = "e2e/browser"

// browsers are the names under which Chromium is installed.
var browsers = []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}

// browser runs the Playwright tests with the Chromium of this machine, whose
// path they find in POSTERN_CHROMIUM.
func (s *suite) browser(ctx context.Context) {
	if _, err := os.Stat(filepath.Join(browserTests, "package.json")); err != nil || ctx.Err() != nil {
		return
	}
	s.title("browser")
	if _, err := exec.LookPath("npm"); err != nil {
		s.lacks("Browser tests: Node.js is not installed here (Node 22 with npm).")
		return
	}
	chromium := findBrowser()
	if chromium == "" {
		s.lacks("Browser tests: Chromium is not installed here (Debian: apt-get install chromium).")
		return
	}
	install := command(ctx, "npm", "ci", "--no-audit", "--no-fund", "--loglevel=error")
	install.Dir = browserTests
	install.Env = append(os.Environ(), "PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1")
	install.Stdout = s.out
	if err := install.Run(); err != nil {
		s.fail(browserTests+": npm ci", err)
		return
	}
	dir, err := os.MkdirTemp("", "postern-browser-")
	if err != nil {
		s.fail(browserTests, err)
		return
	}
	defer os.RemoveAll(dir)
	report := filepath.Join(dir, "report.json")
	tests := command(ctx, "npm", "test", "--", "--reporter=list,json")
	tests.Dir = browserTests
	tests.Env = append(os.Environ(), "POSTERN_CHROMIUM="+chromium,
		"PLAYWRIGHT_JSON_OUTPUT_FILE="+report, "PLAYWRIGHT_JSON_OUTPUT_NAME="+report)
	tests.Stdout = s.out
	ran := tests.Run()
	found, err := s.readPlaywright(report)
	if err != nil {
		s.fail(browserTests+": report", err)
	} else if ran != nil && !found {
		s.fail(browserTests+": npm test", ran)
	}
}

func findBrowser() string {
	for _, name := range browsers {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

// playwright is the part of its JSON report that counts.
type playwright struct {
	Suites []playwrightSuite `json:"suites"`
	Errors []struct {
		Message string `json:"message"`
	} `json:"errors"` // outside any test
}

type playwrightSuite struct {
	Title  string            `json:"title"`
	Suites []playwrightSuite `json:"suites"`
	Specs  []struct {
		Title string `json:"title"`
		Tests []struct {
			ProjectName string `json:"projectName"`
			Status      string `json:"status"` // expected, unexpected, flaky, skipped
		} `json:"tests"`
	} `json:"specs"`
}

// readPlaywright records the tests of a report and says whether one failed. A
// test that passed only at the second try has failed.
func (s *suite) readPlaywright(path string) (failure bool, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	var report playwright
	if err := json.Unmarshal(text, &report); err != nil {
		return false, err
	}
	for _, e := range report.Errors {
		s.record(browserTests+" "+firstLine(e.Message), failed)
		failure = true
	}
	for _, top := range report.Suites {
		failure = s.recordPlaywright(browserTests, top) || failure
	}
	return failure, nil
}

func (s *suite) recordPlaywright(prefix string, suite playwrightSuite) (failure bool) {
	prefix += " " + suite.Title
	for _, inner := range suite.Suites {
		failure = s.recordPlaywright(prefix, inner) || failure
	}
	for _, spec := range suite.Specs {
		for _, test := range spec.Tests {
			result := failed
			switch test.Status {
			case "expected":
				result = passed
			case "skipped":
				result = skipped
			}
			s.record(fmt.Sprintf("%s %s [%s]", prefix, spec.Title, test.ProjectName), result)
			failure = failure || result == failed
		}
	}
	return failure
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

package api_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store"
)

var update = flag.Bool("update", false, "write the answers of testdata/*.txtar anew")

// A transcript is requests with their answers, after words about it. A request
// is method and path, headers, an empty line and a body; its header Key names
// credentials of the world. -update writes the answers of SQLite.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 4 {
		t.Fatalf("transcripts: %v, %v", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		vertical := project.B2B
		if strings.HasPrefix(name, "consumer") {
			vertical = project.Consumer
		}
		text, err := os.ReadFile(file)
		must(t, err)
		t.Run(name, func(t *testing.T) {
			if *update {
				w := newWorld(t, store.Config{Path: filepath.Join(t.TempDir(), "postern.db")}, vertical)
				must(t, os.WriteFile(file, []byte(play(t, w, string(text))), 0o644))
				return
			}
			each(t, vertical, func(t *testing.T, w *world) {
				if diff := cmp.Diff(string(text), play(t, w, string(text))); diff != "" {
					t.Errorf("(-file +server; go test -update writes the file):\n%s", diff)
				}
			})
		})
	}
}

const (
	requestMark = "-- request --\n"
	answerMark  = "-- answer --\n"
)

// play returns a transcript with the answers that came.
func play(t *testing.T, w *world, text string) string {
	t.Helper()
	words, rest, _ := strings.Cut(text, requestMark)
	out := words
	for request := range strings.SplitSeq(rest, requestMark) {
		request, _, _ = strings.Cut(request, answerMark)
		head, body, _ := strings.Cut(strings.TrimSpace(request), "\n\n")
		lines := strings.Split(head, "\n")
		method, path, _ := strings.Cut(lines[0], " ")
		var headers []string
		key := ""
		for _, line := range lines[1:] {
			name, value, _ := strings.Cut(line, ": ")
			if name == "Key" {
				key = value
				continue
			}
			headers = append(headers, name, value)
		}
		answer := w.send(method, path, w.credentials(key), body, headers...)
		out += requestMark + strings.TrimSpace(request) + "\n" + answerMark + w.show(t, answer)
	}
	return out
}

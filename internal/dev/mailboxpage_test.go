package dev

import (
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/mail"
)

const codeText = `Your code is

    481920

It works until 23:52 UTC, in the window where you asked for it.

You asked for it to connect MCP Inspector, an unverified app.
If that was not you, ignore this message. Nobody gets in without the code.

--
Sent by Todo. Nobody from Todo will ever ask you for this code.
`

func caught() []letter {
	evening := time.Date(2026, 11, 20, 23, 42, 0, 0, time.UTC)
	letters := lettersOf([]mail.Recorded{
		{ID: 3, Mail: mail.Mail{To: "ravi@menon.example", Subject: "481 920 is your code for Todo", Text: codeText}, SentAt: evening},
		{ID: 2, Mail: mail.Mail{To: "ada@example.test", Subject: "<b>Hello</b> & welcome", Text: "<script>alert(1)</script>\r\nsecond line\r\n\r\nNo code: 4819201"}, SentAt: evening.Add(-13 * time.Minute)},
		{ID: 1, Mail: mail.Mail{To: "ravi@menon.example", Subject: "112 233 is your code for Todo", Text: "112 233"}, SentAt: evening.Add(-2 * time.Hour)},
	})
	letters[0].Waiting = "http://localhost:4000/flow/1"
	return letters
}

func drawnMailbox(t *testing.T, letters []letter, query string) string {
	t.Helper()
	p, err := newMailboxPage()
	if err != nil {
		t.Fatal(err)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	if err := p.render(w, newMailboxView(letters, values, "csrf-token")); err != nil {
		t.Fatal(err)
	}
	return w.Body.String()
}

func TestMailboxShows(t *testing.T) {
	for _, c := range []struct {
		name, query string
		has, not    []string
	}{
		{
			"the newest", "",
			[]string{
				`<h1 class="title">481 920 is your code for Todo</h1>`, `<p class="letter-code">481 920</p>`, `data-copy-text="481920"`, `href="http://localhost:4000/flow/1"`,
				"3 messages, kept until you stop", `<p class="letter-foot">Sent by Todo.`, `panes-listed`, `href="?id=2"`, "connect MCP Inspector, an unverified app. If that",
			},
			[]string{"panes-chosen"},
		},
		{
			"the one that was asked for, as words", "id=2",
			[]string{`&lt;b&gt;Hello&lt;/b&gt; &amp; welcome</h1>`, "&lt;script&gt;alert(1)&lt;/script&gt; second line</p>", "panes-chosen"},
			[]string{"<script>alert", "letter-code", "data-copy-text", "Open the waiting page"},
		},
		{"the text as it is", "id=3&show=text", []string{"<pre>Your code is\n\n    481920\n"}, []string{"letter-code"}},
		{"what matches", "q=ADA", []string{`&amp; welcome</h1>`, "1 of 3 messages", `href="?id=2&amp;q=ADA"`, `value="ADA"`}, []string{"481 920"}},
		{"that nothing matches", "q=" + url.QueryEscape(`"><script>`), []string{"Nothing matches", "Show all 3"}, []string{`"><script>`, "pane-back"}},
		{"the newest for an id that is gone", "id=99", []string{`<p class="letter-code">481 920</p>`}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			page := drawnMailbox(t, caught(), c.query)
			for _, s := range c.has {
				if !strings.Contains(page, s) {
					t.Errorf("no %q in\n%s", s, page)
				}
			}
			for _, s := range c.not {
				if strings.Contains(page, s) {
					t.Errorf("%q in\n%s", s, page)
				}
			}
		})
	}
}

func TestMailboxPageIsWellMade(t *testing.T) {
	for name, page := range map[string]string{
		"full":    drawnMailbox(t, caught(), ""),
		"search":  drawnMailbox(t, caught(), "q=nobody"),
		"no mail": drawnMailbox(t, nil, ""),
	} {
		t.Run(name, func(t *testing.T) {
			if n := strings.Count(page, "<h1"); n != 1 {
				t.Errorf("%d h1", n)
			}
			if bad := regexp.MustCompile(`(?i)\sstyle=|<style|<script[^>]*>[^<]|\son[a-z]+=`).FindAllString(page, -1); bad != nil {
				t.Errorf("the content policy refuses %q", bad)
			}
			if strings.Contains(page, `id="q"`) && !strings.Contains(page, `<label class="unseen" for="q">`) {
				t.Error("the search has no label")
			}
			if !strings.Contains(page, "No mail leaves this computer") {
				t.Error("nothing says that this is development")
			}
		})
	}
	if page := drawnMailbox(t, nil, ""); !strings.Contains(page, "No mail yet") {
		t.Errorf("an empty mailbox says nothing:\n%s", page)
	}
}

func TestLetterParagraphs(t *testing.T) {
	got := letter{Text: strings.ReplaceAll(codeText, "\n", "\r\n")}.Paragraphs()
	want := []paragraph{
		{"text", "Your code is"},
		{"code", "481 920"},
		{"text", "It works until 23:52 UTC, in the window where you asked for it."},
		{"text", "You asked for it to connect MCP Inspector, an unverified app. If that was not you, ignore this message. Nobody gets in without the code."},
		{"foot", "Sent by Todo. Nobody from Todo will ever ask you for this code."},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// TestWriteMailbox writes the mailbox into the directory that POSTERN_PAGES
// names. The test of package web puts the style sheets beside it.
func TestWriteMailbox(t *testing.T) {
	dir := os.Getenv("POSTERN_PAGES")
	if dir == "" {
		t.Skip("POSTERN_PAGES names no directory to write the pages to")
	}
	for name, page := range map[string]string{
		"mailbox":        drawnMailbox(t, caught(), ""),
		"mailbox-chosen": drawnMailbox(t, caught(), "id=3"),
		"mailbox-text":   drawnMailbox(t, caught(), "id=3&show=text"),
		"mailbox-search": drawnMailbox(t, caught(), "q=nobody"),
		"mailbox-empty":  drawnMailbox(t, nil, ""),
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".html"), []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

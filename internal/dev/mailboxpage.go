package dev

import (
	"embed"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/web"
)

//go:embed templates
var templates embed.FS

// letter is one caught mail as the mailbox page shows it.
type letter struct {
	ID      string
	To      string
	Subject string
	Text    string
	At      time.Time
	Waiting string // address of the page that waits for its code, "" for none
}

// lettersOf is what the recorder kept.
func lettersOf(mails []mail.Recorded) []letter {
	all := make([]letter, len(mails))
	for i, m := range mails {
		all[i] = letter{ID: strconv.FormatInt(m.ID, 10), To: m.To, Subject: m.Subject, Text: m.Text, At: m.SentAt, Waiting: m.Waiting}
	}
	return all
}

// codeLine is a one-time code on a line of its own.
var codeLine = regexp.MustCompile(`(?m)^[ \t]*(\d{3} ?\d{3})[ \t]*\r?$`)

// Code is the one-time code in the message as it is typed, "" without one.
func (l letter) Code() string {
	if m := codeLine.FindStringSubmatch(l.Text); m != nil {
		return strings.ReplaceAll(m[1], " ", "")
	}
	return ""
}

// Spaced is the code as it is read, in two groups.
func (l letter) Spaced() string {
	if c := l.Code(); c != "" {
		return c[:3] + " " + c[3:]
	}
	return ""
}

// Clock is the time it was caught, UTC.
func (l letter) Clock() string { return l.At.UTC().Format("15:04") }

// Exact is At for machines.
func (l letter) Exact() string { return l.At.UTC().Format(time.RFC3339) }

// paragraph is a piece of a message: running text, its code, or what follows
// the signature line.
type paragraph struct {
	Kind string // "text", "code" or "foot"
	Text string
}

// Paragraphs cuts the text at its empty lines. Lines inside a paragraph are
// joined, for they were broken for a terminal.
func (l letter) Paragraphs() []paragraph {
	var all []paragraph
	kind := "text"
	for block := range strings.SplitSeq(strings.ReplaceAll(l.Text, "\r\n", "\n"), "\n\n") {
		rest, signed := strings.CutPrefix(strings.TrimSpace(block), "--\n")
		if signed {
			kind = "foot"
		}
		text := strings.Join(strings.Fields(rest), " ")
		switch {
		case text == "":
		case kind == "text" && codeLine.MatchString(block):
			all = append(all, paragraph{"code", l.Spaced()})
		default:
			all = append(all, paragraph{kind, text})
		}
	}
	return all
}

// mailboxRow is one line of the list.
type mailboxRow struct {
	letter
	Link string
	Open bool
}

// mailboxView is the page of all caught mails with one of them open. Links go
// to the page itself with the query id, show (text or nothing) and q; the form
// posts csrf and action=empty to it.
type mailboxView struct {
	web.Site
	CSRF   string // "" leaves the button that empties the mailbox out
	Query  string
	Rows   []mailboxRow
	Total  int     // before the search
	Open   *letter // nil when there is nothing to show
	Chosen bool    // the open one was asked for
	AsText bool    // show the text as it is
	Links  struct{ Message, Text, List string }
}

// newMailboxView picks what the page shows from all caught mails, newest first:
// those whose address or subject holds query's q, and the one that its id
// names, else the newest.
func newMailboxView(letters []letter, query url.Values, csrf string) mailboxView {
	q := strings.TrimSpace(query.Get("q"))
	v := mailboxView{CSRF: csrf, Query: q, Total: len(letters), AsText: query.Get("show") == "text"}
	link := func(id, show string) string {
		to := url.Values{}
		for name, value := range map[string]string{"id": id, "show": show, "q": q} {
			if value != "" {
				to.Set(name, value)
			}
		}
		return "?" + to.Encode()
	}
	for _, l := range letters {
		if strings.Contains(strings.ToLower(l.To+"\n"+l.Subject), strings.ToLower(q)) {
			v.Rows = append(v.Rows, mailboxRow{letter: l, Link: link(l.ID, "")})
		}
	}
	if len(v.Rows) == 0 {
		return v
	}
	open := slices.IndexFunc(v.Rows, func(r mailboxRow) bool { return r.ID == query.Get("id") })
	v.Chosen = open >= 0
	open = max(open, 0)
	v.Rows[open].Open = true
	v.Open = &v.Rows[open].letter
	v.Links.Message, v.Links.Text, v.Links.List = link(v.Open.ID, ""), link(v.Open.ID, "text"), link("", "")
	return v
}

// mailboxPage draws the mailbox.
type mailboxPage struct{ pages *web.Pages }

func newMailboxPage() (*mailboxPage, error) {
	p, err := web.NewPages(templates)
	if err != nil {
		return nil, err
	}
	return &mailboxPage{p}, nil
}

func (p *mailboxPage) render(w http.ResponseWriter, v mailboxView) error {
	return p.pages.Render(w, http.StatusOK, "mailbox", v)
}

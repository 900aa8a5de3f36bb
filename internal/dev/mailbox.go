package dev

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/web"
)

// Mailbox shows the caught mails: as a page, and as JSON at the same address
// with .json for programs that sign in by themselves.
type Mailbox struct {
	mails *Mail
	page  *mailboxPage
}

// NewMailbox returns the mailbox of what mails caught.
func NewMailbox(mails *Mail) (*Mailbox, error) {
	page, err := newMailboxPage()
	if err != nil {
		return nil, err
	}
	return &Mailbox{mails: mails, page: page}, nil
}

func (m *Mailbox) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	web.Handle(m.answer, func(w http.ResponseWriter, _ *http.Request, e *web.Error) { w.WriteHeader(e.Status) }).ServeHTTP(w, r)
}

func (m *Mailbox) answer(w http.ResponseWriter, r *http.Request) error {
	letters := lettersOf(m.mails.Mails())
	if !strings.HasSuffix(r.URL.Path, ".json") {
		return m.page.render(w, newMailboxView(letters, r.URL.Query(), ""))
	}
	type caught struct {
		ID      string    `json:"id"`
		To      string    `json:"to"`
		Subject string    `json:"subject"`
		Text    string    `json:"text"`
		Code    string    `json:"code,omitempty"` // the one-time code in it
		SentAt  time.Time `json:"sent_at"`
	}
	list := []caught{}
	for _, l := range letters {
		list = append(list, caught{l.ID, l.To, l.Subject, l.Text, l.Code(), l.At})
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(list)
}

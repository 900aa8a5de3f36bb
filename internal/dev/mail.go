package dev

import (
	"context"
	"time"

	"github.com/postern-id/postern/internal/mail"
)

// Mail catches every mail: the mailbox page shows it, and whoever runs the
// program hears of each one-time code.
type Mail struct {
	*mail.Recorder
	code func(to, code string)
}

// caughtMails is how many mails are kept.
const caughtMails = 200

// NewMail returns a mail transport that sends nothing. code is told the address
// and the code of each mail that has one; it must not block.
func NewMail(now func() time.Time, code func(to, code string)) *Mail {
	return &Mail{Recorder: mail.NewRecorder(caughtMails, now), code: code}
}

// Send keeps the mail.
func (m *Mail) Send(ctx context.Context, one mail.Mail) error {
	if err := m.Recorder.Send(ctx, one); err != nil {
		return err
	}
	if code := (letter{Text: one.Text}).Code(); code != "" {
		m.code(one.To, code)
	}
	return nil
}

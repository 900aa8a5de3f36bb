package server

import (
	"context"
	"log/slog"
	"time"

	"github.com/postern-id/postern/internal/mail"
)

// SMTP says which server carries the mails.
type SMTP struct {
	Host     string
	Port     int
	Security string // "starttls", "implicit" or "none"
	Username string // "" for no login
	Password string
	From     string
	FromName string
	Now      func() time.Time
}

// NewSMTP returns the mail transport of a deployment. It does not connect.
func NewSMTP(c SMTP) (mail.Sender, error) {
	return mail.NewSMTP(mail.SMTPConfig{
		Host: c.Host, Port: c.Port, TLS: mail.TLS(c.Security), Username: c.Username, Password: c.Password,
		From: c.From, FromName: c.FromName, Now: c.Now,
	})
}

// ConsoleMail is a mail transport for one person on one computer: mails are
// log lines. It must never run where others sign in, for whoever reads the log
// can be anybody.
type ConsoleMail struct{ Log *slog.Logger }

// Send writes the mail to the log.
func (c ConsoleMail) Send(_ context.Context, m mail.Mail) error {
	c.Log.Warn("mail to the console", "to", m.To, "subject", m.Subject, "text", m.Text)
	return nil
}

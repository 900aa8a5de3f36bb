// Package mail sends the few messages that Postern writes: one-time codes and
// links, each to one person.
//
// A [Sender] takes a [Mail]. [SMTP] hands it to a mail server, [Recorder] keeps
// it in memory for the development mailbox and for tests, and [Queue] takes it
// at once and sends it in the background, so that a page does not wait for a
// mail server and does not show by its speed whether anything was sent.
//
// The package writes no texts and decides nothing about people. It sends no
// attachments, no lists and no copies.
package mail

import (
	"context"
	"errors"
	"regexp"
	"strings"
	"time"
)

// Mail is one message to one person.
type Mail struct {
	To      string    `json:"to"`
	Subject string    `json:"subject"`
	Text    string    `json:"text"` // required
	HTML    string    `json:"html"` // the same, for programs that show it; may be empty
	Until   time.Time `json:"-"`    // when it is of no use any more; a queue gives up then
	Waiting string    `json:"-"`    // address of the page that waits for it, for a mailbox of development; never sent
}

// Sender sends messages. It returns ErrAddress for an address that no message
// is sent to, and ErrRejected where trying again is useless.
type Sender interface {
	Send(ctx context.Context, m Mail) error
}

// Errors of this package.
var (
	ErrAddress  = errors.New("mail: not an address that mail can be sent to")
	ErrRejected = errors.New("mail: the mail server refused the message for good")
	ErrFull     = errors.New("mail: too many messages are waiting")
	ErrLate     = errors.New("mail: the message could not be sent while it was of use")
)

// The characters of a dot-atom (RFC 5322 §3.2.3), and names of hosts.
var (
	localForm  = regexp.MustCompile("^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$")
	domainForm = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)
)

// CheckAddress returns nil for a plain address, name@host in ASCII, and
// ErrAddress for everything else: no display name, no comment, no quoting, no
// list, no address literal, so that there is nothing to inject and one way to
// read it.
func CheckAddress(address string) error {
	// Lengths first: RFC 5321 §4.5.3.1.
	local, domain, found := strings.Cut(address, "@")
	if len(address) > 254 || !found || len(local) > 64 || !localForm.MatchString(local) || !domainForm.MatchString(domain) {
		return ErrAddress
	}
	return nil
}

// check refuses what could become another message than the one meant.
func check(m Mail) error {
	if err := CheckAddress(m.To); err != nil {
		return err
	}
	if strings.ContainsFunc(m.Subject, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return errors.New("mail: control character in the subject")
	}
	if m.Text == "" {
		return errors.New("mail: no text")
	}
	return nil
}

package signin

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

// ErrAddress says that a text is not an e-mail address we can write to.
var ErrAddress = errors.New("signin: not an e-mail address")

// The limits of one-time codes: five tries a code, ten wrong ones an address and
// day, one mail in 20 seconds and five an hour. A browser that proved the
// address before has the last three for itself (docs/decisions/0007).
const (
	codeTries      = 5
	codeDailyTries = 10
)

var mailLimit = MailLimit{Gap: 20 * time.Second, Count: 5, Window: time.Hour} //nolint:gochecknoglobals // a constant

// SendCode sends a new code to an address; earlier ones of the flow stop
// working. It works no longer than the flow does. write makes the mail; waiting is the address of the page that asks
// for the code. The answer is the same whether anybody has the address. Errors: ErrAddress, *TooSoon.
func (m *Methods) SendCode(ctx context.Context, p *project.Project, f Flow, email, waiting string, write func(code string, until time.Time) (subject, text string, err error), e audit.Event) error {
	email = strings.TrimSpace(email)
	if mail.CheckAddress(email) != nil {
		return ErrAddress
	}
	now := m.now()
	code, until := secret.NewCode(), now.Add(time.Duration(p.Settings.Lifetimes.EmailCode)*time.Second)
	if f.ExpiresAt.Before(until) {
		until = f.ExpiresAt
	}
	subject, text, err := write(code, until)
	if err != nil {
		return fmt.Errorf("signin: write mail: %w", err)
	}
	row := EmailCode{
		ID: secret.NewID(now, "email", string(p.Environment)), ProjectID: p.ID, FlowID: f.ID,
		Email: email, EmailFolded: identity.Fold(email), Browser: m.knownAs(p, f.Mark, email), CreatedAt: now, ExpiresAt: until,
	}
	mac := m.mac(p.ID, row.ID, code)
	row.MAC = mac[:]
	if err := m.store.CreateEmailCode(ctx, row, mailLimit, e); err != nil {
		return err
	}
	if err := m.mail.Send(ctx, mail.Mail{To: email, Subject: subject, Text: text, Until: until, Waiting: waiting}); err != nil {
		return fmt.Errorf("signin: send mail: %w", err)
	}
	return nil
}

// RedeemCode tries a typed code. If it is right, the outcome has the person
// and a new session, or the browser in a B2B project, which takes the place of
// ends; the secret is for its cookie.
func (m *Methods) RedeemCode(ctx context.Context, p *project.Project, f Flow, typed, address, agent string, ends identity.Ending, e audit.Event) (Outcome, secret.Secret, error) {
	now := m.now()
	digits := strings.Map(func(c rune) rune {
		if c == ' ' || c == '-' || c == '\u00a0' || c == '\t' {
			return -1
		}
		return c
	}, typed)
	mac := m.mac(p.ID, f.MethodID, digits)
	cookie := secret.New(secret.HostedSession, now)
	env, life := string(p.Environment), p.Settings.Lifetimes
	expires := now.Add(time.Duration(life.SessionAbsolute) * time.Second)
	idle := now.Add(time.Duration(life.SessionIdle) * time.Second)
	if idle.After(expires) {
		idle = expires
	}
	if len(agent) > 256 {
		agent = strings.ToValidUTF8(agent[:256], "")
	}
	factors := []identity.Factor{{Method: "email_code", At: now}}
	r := Redemption{
		ProjectID: p.ID, FlowID: f.ID, MethodID: f.MethodID, MAC: mac[:],
		Tries: codeTries, DailyTries: codeDailyTries, Browser: m.knownAs(p, f.Mark, f.Email),
		NewUserID: secret.NewID(now, "user", env), Ends: ends, Now: now,
		Session: identity.Session{
			ID: secret.NewID(now, "session", env), ProjectID: p.ID, Kind: identity.Hosted,
			SecretID: cookie.ID, SecretHash: cookie.Hash[:],
			Factors: factors,
			Address: address, UserAgent: agent,
			CreatedAt: now, LastSeenAt: now, IdleExpiresAt: idle, ExpiresAt: expires,
		},
	}
	if p.Vertical == project.B2B {
		r.Visitor = &identity.Browser{
			ID: cookie.ID, ProjectID: p.ID, SecretHash: cookie.Hash[:], Factors: factors, Address: address, UserAgent: agent,
			CreatedAt: now, LastSeenAt: now, IdleExpiresAt: idle, ExpiresAt: expires,
		}
	}
	out, err := m.store.RedeemEmailCode(ctx, r, e)
	return out, cookie, err
}

package signin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/mail"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

// Methods is every way to sign in, and the flow they happen in. It is safe for
// concurrent use.
type Methods struct {
	store Store
	mail  mail.Sender
	mac   func(projectID, methodID, code string) [sha256.Size]byte
	now   func() time.Time
}

// Config is what New needs; every field is required.
type Config struct {
	Store Store
	Mail  mail.Sender // answers before the mail has left
	// MAC authenticates a typed code under a key outside the database, so that a
	// copy of the database cannot be searched for six digits.
	MAC func(projectID, methodID, code string) [sha256.Size]byte
	Now func() time.Time
}

// New returns Methods.
func New(c Config) (*Methods, error) {
	if c.Store == nil || c.Mail == nil || c.MAC == nil || c.Now == nil {
		return nil, errors.New("signin: every field of Config is required")
	}
	return &Methods{store: c.Store, mail: c.Mail, mac: c.MAC, now: c.Now}, nil
}

// Begin starts a flow in a browser. The secret is for that browser's cookie.
// request may be nil; then returnTo says where to go after sign-in. With a request
// comes the attempt that it is, else the zero Attempt.
func (m *Methods) Begin(ctx context.Context, p *project.Project, returnTo string, request []byte, trace string, a audit.Attempt) (Flow, secret.Secret, error) {
	now := m.now()
	browser := secret.New(secret.Flow, now)
	f := Flow{
		ID: browser.ID, ProjectID: p.ID, BrowserHash: browser.Hash[:], ReturnTo: returnTo, Request: request,
		TraceID: trace, CreatedAt: now, ExpiresAt: now.Add(FlowLifetime),
	}
	return f, browser, m.store.CreateFlow(ctx, f, a)
}

// Open returns a flow to the browser that started it: cookie is the text that
// Begin's secret had. Anything else is ErrNotFound. mark is what that browser
// shows of an earlier sign-in, "" for nothing; it stays with the flow's value.
func (m *Methods) Open(ctx context.Context, p *project.Project, id, cookie, mark string) (Flow, error) {
	browser, ok := secret.Parse(secret.Flow, cookie)
	if !ok || subtle.ConstantTimeCompare([]byte(browser.ID), []byte(id)) != 1 {
		return Flow{}, ErrNotFound
	}
	f, err := m.store.Flow(ctx, p.ID, id, m.now())
	if err != nil {
		return Flow{}, err
	}
	if !browser.Matches(f.BrowserHash) {
		return Flow{}, ErrNotFound
	}
	f.Mark = mark
	return f, nil
}

// Pin replaces the waiting request of an undecided flow. a is the attempt that it
// is, with what is known of its client now.
func (m *Methods) Pin(ctx context.Context, f Flow, request []byte, a audit.Attempt) error {
	return m.store.SetFlowRequest(ctx, f.ProjectID, f.ID, request, a)
}

// Forget takes address and code out of a flow, so that it starts again with
// the question who you are.
func (m *Methods) Forget(ctx context.Context, f Flow) error {
	return m.store.ClearFlowEmail(ctx, f.ProjectID, f.ID)
}

package identity

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/secret"
)

// sessionsKept is how many member sessions a browser has at most (decision 30).
const sessionsKept = 10

// maxChoices bounds the organizations that a person is offered.
const maxChoices = 100

// Visit returns who a browser's cookie says is there, and where. matches tells
// whether a stored hash is the cookie's. Without a live browser it is
// ErrNotFound; a session that the organization no longer takes is left out.
func (p *People) Visit(ctx context.Context, proj *project.Project, id string, matches func(hash []byte) bool) (Visit, error) {
	now := p.now()
	b, err := p.store.Browser(ctx, proj.ID, id, now)
	if err != nil {
		return Visit{}, err
	}
	if !matches(b.SecretHash) {
		return Visit{}, ErrNotFound
	}
	if now.Sub(b.LastSeenAt) >= touchAfter {
		idle := time.Duration(proj.Settings.Lifetimes.SessionIdle) * time.Second
		b.LastSeenAt, b.IdleExpiresAt = now, earlier(now.Add(idle), b.ExpiresAt)
		if err := p.store.TouchBrowser(ctx, proj.ID, b.ID, b.LastSeenAt, b.IdleExpiresAt); err != nil {
			return Visit{}, fmt.Errorf("identity: touch browser: %w", err)
		}
	}
	v := Visit{Browser: b}
	if b.OrganizationID == "" {
		return v, nil
	}
	s, m, o, err := p.store.BrowserSession(ctx, b, now)
	if errors.Is(err, ErrNotFound) || err == nil && !o.Accepts(s.Factors) {
		return v, nil
	}
	if err != nil {
		return Visit{}, err
	}
	v.Session, v.Member, v.Organization = s, m, o
	return v, nil
}

// Choices lists the organizations that a browser's person belongs to, is
// invited to, or may join, the one they were in last first.
func (p *People) Choices(ctx context.Context, b Browser) ([]Choice, error) {
	choices, err := p.store.Discover(ctx, b.ProjectID, b.EmailFolded, maxChoices)
	now, only := p.now(), b.Confined()
	return slices.DeleteFunc(choices, func(c Choice) bool {
		return c.Member.Lapsed(now) || only != "" && c.Organization.ID != only
	}), err
}

// Enter goes into an organization: as its member, by invitation, or by e-mail
// domain. ErrNotFound when the person may not be there, ErrMethod when the
// organization asks for another proof, ErrOldProof when it asks for a new one.
func (p *People) Enter(ctx context.Context, proj *project.Project, b Browser, organizationID string, e audit.Event) (Visit, error) {
	o, err := p.store.Organization(ctx, proj.ID, organizationID)
	switch {
	case err != nil:
		return Visit{}, err
	case !o.Active:
		return Visit{}, ErrNotFound
	case !o.Accepts(b.Factors):
		return Visit{}, ErrMethod
	}
	if err := p.stillConnected(ctx, b, o); err != nil {
		return Visit{}, err
	}
	e.Kind = audit.MemberEntered
	s, m, err := p.store.Enter(ctx, p.entry(proj, b, o.ID), e)
	if err != nil {
		return Visit{}, err
	}
	b.OrganizationID = o.ID
	return Visit{b, s, m, o}, nil
}

// Found makes an organization whose first member and administrator is the
// person of a browser, and enters it. ErrConflict when the slug is taken,
// ErrLimited after OrganizationsADay, ErrMethod when the address itself was not
// proved. name must be Printable.
func (p *People) Found(ctx context.Context, proj *project.Project, b Browser, name string, e audit.Event) (Visit, error) {
	if b.Confined() != "" {
		return Visit{}, ErrMethod
	}
	now := p.now()
	o := Organization{
		ID: secret.NewID(now, "organization", string(proj.Environment)), ProjectID: proj.ID, Name: name, Slug: NewSlug(name),
		Active: true, Settings: DefaultOrganization(), Version: 1, CreatedAt: now, UpdatedAt: now,
	}
	n := p.entry(proj, b, o.ID)
	n.Newcomer.Roles = []string{rbac.RoleAdmin}
	e.Kind = audit.MemberEntered
	s, m, err := p.store.FoundOrganization(ctx, o, n, e)
	if err != nil {
		return Visit{}, err
	}
	b.OrganizationID = o.ID
	return Visit{b, s, m, o}, nil
}

// NewSlug makes a slug from a name with a tail of its own, so that it says
// nothing about which slugs are taken.
func NewSlug(name string) string {
	return strings.TrimPrefix(SlugOf(name)+"-"+strings.ToLower(strings.ReplaceAll(secret.NewTrace(), "-", ""))[:6], "-")
}

func (p *People) entry(proj *project.Project, b Browser, organizationID string) Entry {
	now, env := p.now(), string(proj.Environment)
	own := secret.New(secret.HostedSession, now) // nobody gets it: the browser's cookie opens the session
	return Entry{
		Browser: b, Keep: sessionsKept,
		Session: Session{
			ID: secret.NewID(now, "member-session", env), ProjectID: proj.ID, Kind: Hosted, SecretID: own.ID, SecretHash: own.Hash[:],
			Factors: b.Factors, Address: b.Address, UserAgent: b.UserAgent,
			CreatedAt: now, LastSeenAt: now, IdleExpiresAt: b.IdleExpiresAt, ExpiresAt: b.ExpiresAt,
		},
		Newcomer: Member{
			ID: secret.NewID(now, "member", env), ProjectID: proj.ID, OrganizationID: organizationID,
			Email: b.Email, EmailFolded: b.EmailFolded, Status: Active, Version: 1, CreatedAt: now, UpdatedAt: now,
		},
	}
}

// LeaveEverywhere signs a visitor out in every browser. From one that only an
// organization's own service vouches for, no other browser ends, but all are out
// of that organization.
func (p *People) LeaveEverywhere(ctx context.Context, v Visit, e audit.Event) error {
	return p.store.LeaveEverywhere(ctx, v.Member, v.Browser, e)
}

// Leave ends a browser with its sessions: nobody is signed in there any more.
func (p *People) Leave(ctx context.Context, b Browser, e audit.Event) error {
	return p.store.EndBrowser(ctx, b.ProjectID, b.ID, e)
}

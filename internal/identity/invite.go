package identity

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

// InvitationLifetime is how long an invitation can be taken up. An administrator
// can send it again.
const InvitationLifetime = 30 * 24 * time.Hour

// How many invitations one organization sends in an hour, and how many one
// address is sent by all of them.
const (
	InvitationsAnHour = 30
	InvitedAnHour     = 5
)

// ErrNotInvited says that a member is past being invited: active or removed.
var ErrNotInvited = errors.New("identity: not an open invitation")

// Invites reports whether the organization's rules let an address be invited.
func (o Organization) Invites(email string) bool {
	switch o.Settings.Invitations {
	case All:
		return true
	case Listed:
		return o.inDomains(Fold(email))
	}
	return false
}

// inDomains reports whether a folded address is of the organization's domains.
func (o Organization) inDomains(folded string) bool {
	return slices.Contains(o.Settings.AllowedDomains, DomainOf(folded))
}

// Lapsed reports whether a member's invitation was not taken up in time.
func (m Member) Lapsed(now time.Time) bool {
	return m.Status == Invited && !now.Before(m.InvitedAt.Add(InvitationLifetime))
}

// Invite adds an invited member; the mail is the caller's. Besides what AddMember
// returns, the error may be ErrLimited after InvitationsAnHour or
// InvitedAnHour.
func (p *People) Invite(ctx context.Context, proj *project.Project, o Organization, m Member, e audit.Event) (Member, error) {
	rules, err := p.Rules(ctx, proj)
	if err != nil {
		return Member{}, err
	}
	if problems := m.check(rules, o); problems != nil {
		return Member{}, problems
	}
	if err := checkAddress(m.Email); err != nil {
		return Member{}, err
	}
	if err := p.store.CountInvitation(ctx, proj.ID, o.ID, Fold(m.Email), p.now()); err != nil {
		return Member{}, err
	}
	m.Status = Invited
	return p.AddMember(ctx, proj, o, m, e)
}

// InviteAgain renews the invitation of somebody who has not come yet. change may
// refuse, as in ChangeMember. ErrNotInvited when the member came or was removed,
// ErrLimited as in Invite.
func (p *People) InviteAgain(ctx context.Context, proj *project.Project, o Organization, id string, change func(Member) error, e audit.Event) (Member, error) {
	counted := false
	return p.ChangeMember(ctx, proj, o, id, func(m *Member) error {
		if err := change(*m); err != nil {
			return err
		}
		if m.Status != Invited && m.Status != Pending {
			return ErrNotInvited
		}
		if !counted {
			if err := p.store.CountInvitation(ctx, proj.ID, o.ID, Fold(m.Email), p.now()); err != nil {
				return err
			}
			counted = true
		}
		m.Status, m.InvitedAt = Invited, p.now()
		return nil
	}, e)
}

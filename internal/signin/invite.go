package signin

import (
	"context"
	"fmt"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/mail"
)

// Invite writes to a member who was invited. The mail opens nothing: whoever
// takes the invitation up proves the address with a code. Only so many may be
// sent; identity.People counts them.
func (m *Methods) Invite(ctx context.Context, to identity.Member, subject, text string) error {
	message := mail.Mail{To: to.Email, Subject: subject, Text: text, Until: m.now().Add(identity.InvitationLifetime)}
	if err := m.mail.Send(ctx, message); err != nil {
		return fmt.Errorf("signin: send mail: %w", err)
	}
	return nil
}

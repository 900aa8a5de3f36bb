package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/postern-id/postern/internal/audit"
)

// refusalLimits bound the events of what strangers were refused, so that nobody
// fills the trail: of one address 20 a minute, of a project 200. What is more
// leaves its line in the log and no row. A program on this computer is no
// stranger: it goes without limits here as it does at the door.
func refusalLimits(address string) []Counter {
	if a, err := netip.ParseAddr(address); err == nil && a.IsLoopback() {
		return nil
	}
	return []Counter{
		{Kind: "refused_address", Key: network(address), Limit: 20, Window: time.Minute},
		{Kind: "refused_project", Limit: 200, Window: time.Minute},
	}
}

// recordRefusal keeps the event of a refusal inside those limits.
func (s *Server) recordRefusal(ctx context.Context, e audit.Event) error {
	e.Refused = true
	return s.unlessLimited(ctx, s.store.RecordRefusal(ctx, e, refusalLimits(e.Address)))
}

// KeepRefusal keeps the event of a refusal that somebody can cause at will, inside
// the same limits.
func (s *Server) KeepRefusal(ctx context.Context, e audit.Event) error {
	return s.recordRefusal(ctx, e)
}

// refuseAttempt keeps the refusal of an authorization request inside those limits.
func (s *Server) refuseAttempt(ctx context.Context, a audit.Attempt, e audit.Event) error {
	e.Refused, e.Attempt = true, a.Code
	return s.unlessLimited(ctx, s.store.RefuseAttempt(ctx, a, e, refusalLimits(e.Address)))
}

// refuseCode keeps the refusal of a code inside those limits.
func (s *Server) refuseCode(ctx context.Context, asked string, e audit.Event) error {
	e.Refused = true
	return s.unlessLimited(ctx, s.store.RefuseToken(ctx, asked, e, refusalLimits(e.Address)))
}

// unlessLimited passes on how keeping a refusal went, but for its limits.
func (s *Server) unlessLimited(ctx context.Context, err error) error {
	if errors.Is(err, ErrLimited) {
		s.note(ctx, slog.String("event", "not kept: too many refusals"))
		return nil
	}
	return err
}

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
	err := s.store.RecordRefusal(ctx, e, refusalLimits(e.Address))
	if errors.Is(err, ErrLimited) {
		s.note(ctx, slog.String("event", "not kept: too many refusals"))
		return nil
	}
	return err
}

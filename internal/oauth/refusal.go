package oauth

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/wire"
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

// recordRefusal keeps the event of a refusal inside those limits, and inside own.
func (s *Server) recordRefusal(ctx context.Context, e audit.Event, own ...Counter) error {
	e.Refused = true
	return s.unlessLimited(ctx, s.store.RecordRefusal(ctx, e, append(own, refusalLimits(e.Address)...)))
}

// KeepRefusal keeps the event of a refusal that somebody can cause at will, inside
// the same limits and inside own ones, which hold on this computer too.
func (s *Server) KeepRefusal(ctx context.Context, e audit.Event, own ...Counter) error {
	return s.recordRefusal(ctx, e, own...)
}

// The endpoints by the names that their events have.
const (
	atToken         = "token"
	atRevocation    = "revocation"
	atIntrospection = "introspection"
)

// refuseRequest keeps that a request to an endpoint lacks what it is about, or
// cannot be read, and returns refusal. clientID is who sent it, as far as that is
// known or was said.
func (s *Server) refuseRequest(ctx context.Context, p *project.Project, endpoint, clientID, reason string, refusal error) error {
	e := s.event(ctx, p, audit.RequestRefused)
	e.ClientID, e.Object, e.Reason = clientID, endpoint, reason
	if err := s.recordRefusal(ctx, e); err != nil {
		return err
	}
	return refusal
}

// refuseBody is refuseRequest for a body that parseBody did not take: nobody
// knows yet whose it is, so what stands in the header is taken for it.
func (s *Server) refuseBody(ctx context.Context, r *http.Request, p *project.Project, endpoint string, refusal error) error {
	reason := "request cannot be read"
	var bad *wire.Error
	if errors.As(refusal, &bad) {
		switch bad.Status {
		case http.StatusRequestEntityTooLarge:
			reason = "request is too long"
		case http.StatusUnsupportedMediaType:
			reason = "request has another content type"
		}
	}
	return s.refuseRequest(ctx, p, endpoint, namedClient(r, nil), reason, refusal)
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

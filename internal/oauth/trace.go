package oauth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

// discoverySeen is how long before an attempt a read of the metadata counts as
// its first step.
const discoverySeen = 30 * time.Minute

// traces is what a Server remembers of requests that leave no row, so that a trace
// can begin with them. It is of this process alone: behind a load balancer the
// first step of a trace may be missing.
type traces struct {
	discovered memory[time.Time] // by project and network: when the metadata was read
	registered memory[string]    // by project and client: the network it registered from
	called     memory[struct{}]  // by project and family: its first call was seen

	mu    sync.Mutex
	calls []audit.Call // first calls that are not kept yet, at most memorySize
}

// memory keeps values by key, the newest memorySize of them at least and twice as
// many at most.
type memory[V any] struct {
	mu         sync.Mutex
	young, old map[string]V
}

const memorySize = 10_000

func (m *memory[V]) put(key string, value V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keep(key, value)
}

func (m *memory[V]) keep(key string, value V) {
	if len(m.young) >= memorySize || m.young == nil {
		m.old, m.young = m.young, map[string]V{}
	}
	m.young[key] = value
}

func (m *memory[V]) get(key string) (V, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.find(key)
}

func (m *memory[V]) find(key string) (V, bool) {
	if value, ok := m.young[key]; ok {
		return value, true
	}
	value, ok := m.old[key]
	return value, ok
}

// first keeps a value and reports whether there was none.
func (m *memory[V]) first(key string, value V) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.find(key); ok {
		return false
	}
	m.keep(key, value)
	return true
}

// sawDiscovery remembers that somebody read the metadata.
func (s *Server) sawDiscovery(p *project.Project, address string) {
	s.traces.discovered.put(p.ID+" "+network(address), s.now())
}

// sawRegistration remembers where a client registered from: that is where it
// read the metadata, if the person's browser is elsewhere.
func (s *Server) sawRegistration(p *project.Project, clientID, address string) {
	s.traces.registered.put(p.ID+" "+clientID, network(address))
}

// discoveredAt is when the metadata was read last from where the browser is or
// the client registered, zero when that is long ago or was never seen.
func (s *Server) discoveredAt(p *project.Project, clientID, address string) time.Time {
	newest, _ := s.traces.discovered.get(p.ID + " " + network(address))
	if elsewhere, ok := s.traces.registered.get(p.ID + " " + clientID); ok {
		if at, ok := s.traces.discovered.get(p.ID + " " + elsewhere); ok && at.After(newest) {
			newest = at
		}
	}
	if s.now().Sub(newest) > discoverySeen {
		return time.Time{}
	}
	return newest
}

// sawCall remembers the first use of a family's tokens for the attempt that it
// came of, until KeepCalls keeps it: an answer about a token waits for no disk.
func (s *Server) sawCall(p *project.Project, familyID string, l Live) {
	now := s.now()
	if l.Attempt == "" || now.Sub(secret.TimeOf(familyID)) > audit.AttemptKept || !s.traces.called.first(p.ID+" "+familyID, struct{}{}) {
		return
	}
	s.traces.mu.Lock()
	defer s.traces.mu.Unlock()
	if len(s.traces.calls) < memorySize {
		s.traces.calls = append(s.traces.calls, audit.Call{ProjectID: p.ID, Code: l.Attempt, At: now})
	}
}

// KeepCalls keeps the first calls that were seen since it was called last. Whoever
// runs the Server calls it every second, and once at the end. What it could not
// keep waits for the next time.
func (s *Server) KeepCalls(ctx context.Context) error {
	s.traces.mu.Lock()
	calls := s.traces.calls
	s.traces.calls = nil
	s.traces.mu.Unlock()
	for len(calls) > 0 {
		n := min(len(calls), callsAtOnce)
		if err := s.store.CallAttempts(ctx, calls[:n]); err != nil {
			s.traces.mu.Lock()
			defer s.traces.mu.Unlock()
			s.traces.calls = append(calls, s.traces.calls...)
			return err
		}
		calls = calls[n:]
	}
	return nil
}

// callsAtOnce bounds for how long first calls hold up other writes.
const callsAtOnce = 200

// attemptOf is the attempt that a request is, with what is known of its client by
// now.
func (s *Server) attemptOf(ctx context.Context, p *project.Project, r AuthorizeRequest, c Client) audit.Attempt {
	address, _ := ctx.Value(addressKey{}).(string)
	a := audit.Attempt{
		ProjectID: p.ID, Code: r.Attempt, ClientID: r.ClientID, RedirectURI: r.RedirectURI,
		Resource: strings.Join(r.Resources, " "), Scopes: r.Scope, Address: address,
		DiscoveredAt: s.discoveredAt(p, c.ID, address), StartedAt: s.now(),
	}
	if c.ID == "" {
		return a
	}
	a.ClientID, a.ClientName, a.Creation = c.ID, c.Name(), string(c.Creation)
	switch {
	case c.Creation == Preregistered:
		a.RegisteredAt = c.CreatedAt
	case !c.CopiedAt.IsZero():
		a.RegisteredAt = c.CopiedAt
	default:
		a.RegisteredAt = c.LastRegisteredAt
	}
	return a
}

// Attempt is the attempt of a request that waits for a person at a stage.
func (s *Server) Attempt(ctx context.Context, p *project.Project, pending Pending, at audit.Stage) audit.Attempt {
	a := s.attemptOf(ctx, p, pending.Request, pending.Client)
	a.State, a.Stage = audit.Waiting, at
	return a
}

// attemptOfCode is the attempt that a code was given in, "" for a code that nobody
// was given.
func (s *Server) attemptOfCode(ctx context.Context, p *project.Project, text string) (string, error) {
	given, ok := secret.Parse(secret.AuthorizationCode, text)
	if !ok {
		return "", nil
	}
	code, err := s.store.Code(ctx, p.ID, given.ID)
	if errors.Is(err, ErrNotFound) || err == nil && !given.Matches(code.Hash) {
		return "", nil
	}
	return code.Attempt, err
}

// The reasons of refusals whose protocol error says too little.
const (
	reasonReturnAddress   = "return address not registered"
	reasonNoReturnAddress = "no return address"
	reasonOrganization    = "organization does not allow the app"
)

// whyRefused is the reason of a refused authorization request, and what of the
// request was compared and not right.
func whyRefused(r AuthorizeRequest, err error, refusal *Error) (why, asked string) {
	var mismatch *MismatchError
	switch {
	case errors.As(err, &mismatch) && mismatch.Asked == "":
		return reasonNoReturnAddress, ""
	case errors.As(err, &mismatch):
		return reasonReturnAddress, mismatch.Asked
	case errors.Is(err, errOrganization):
		return reasonOrganization, ""
	case refusal.Code == "invalid_scope":
		return refusal.Code, r.Scope
	case refusal.Code == "invalid_target":
		return refusal.Code, strings.Join(r.Resources, " ")
	}
	return refusal.Code, ""
}

// Traces tells what a trace code stands for, whole or its first two groups: the
// attempts, and refusals that belong to none.
func (s *Setup) Traces(ctx context.Context, p *project.Project, code string) ([]audit.Trace, error) {
	attempts, alone, err := s.store.FindAttempts(ctx, p.ID, code)
	if err != nil {
		return nil, err
	}
	var told []audit.Trace
	for _, a := range attempts {
		events, err := s.store.AttemptEvents(ctx, p.ID, a.Code)
		if err != nil {
			return nil, err
		}
		known, err := s.known(ctx, p, a)
		if err != nil {
			return nil, err
		}
		told = append(told, audit.Tell(a, events, known, s.now()))
	}
	for _, e := range alone {
		told = append(told, audit.TellRefusal(e))
	}
	return told, nil
}

// known is what an attempt can be compared with.
func (s *Setup) known(ctx context.Context, p *project.Project, a audit.Attempt) (audit.Known, error) {
	find := s.store.Client
	if strings.Contains(a.ClientID, "://") {
		find = s.store.ClientByURL
	}
	c, err := find(ctx, p.ID, a.ClientID)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return audit.Known{}, err
	}
	known := audit.Known{RedirectURIs: c.Metadata.RedirectURIs}
	for _, r := range p.Resources {
		known.Resources = append(known.Resources, r.URI)
	}
	resource, registered := p.Resource(a.Resource)
	if !registered {
		resource, registered = p.DefaultResource()
	}
	if registered {
		known.Scopes = resource.Scopes
	}
	if len(known.Scopes) == 0 {
		for _, scope := range p.Scopes {
			known.Scopes = append(known.Scopes, scope.Name)
		}
	}
	return known, nil
}

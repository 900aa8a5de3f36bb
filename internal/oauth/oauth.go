// Package oauth is the protocol: OAuth 2.1 for MCP clients with as much of
// OpenID Connect as they use, one file per endpoint or grant. A file's top half
// reads a request into a struct; its bottom half decides, without HTTP, with
// the clause it obeys above each rule.
//
// Server answers the machine endpoints itself. The authorization endpoint is
// three functions that package login calls between its pages: Begin checks a
// request, Consent says what to ask, Allow or Deny answer. Store holds the
// state changes that the protocol needs, each one transaction; Subjects is all
// that it knows of people, in plain strings.
//
// The package renders no page, reads no cookie and knows no organization's
// rules.
package oauth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/wire"
)

// Subjects is what the protocol asks about people. The same narrowing runs at
// consent and, for members, whenever tokens are given or asked about, so that a
// person who lost a permission loses it here without a special case. Whether a
// consumer project's person is there and not locked, the Store tells with the
// code, the family or the token.
type Subjects interface {
	// Narrow returns those of scopes that the subject may grant this client now, in
	// order; active is false when the subject is gone, locked or outside the
	// organization, or when the organization does not let the client in.
	Narrow(ctx context.Context, p *project.Project, subject, organization, clientID string, firstParty bool, scopes []string) (grantable []string, active bool, err error)
	// Claims returns what may be told about the subject to a holder of scopes
	// (OpenID Connect Core §5.4).
	Claims(ctx context.Context, projectID, subject, organization string, scopes []string) (claims map[string]any, active bool, err error)
}

// Config is what New needs; every field but Copies is required.
type Config struct {
	Store    Store
	Subjects Subjects
	Keys     *signing.Keys
	Fetch    func(p *project.Project) *http.Client // safe for addresses that strangers chose
	Now      func() time.Time
	Address  func(r *http.Request) string              // the peer's address as the server trusts it
	Trace    func(ctx context.Context) string          // the trace code of this request
	Note     func(ctx context.Context, a ...slog.Attr) // adds to this request's log line
	Copies   fs.FS                                     // stored copies of metadata documents; nil for this program's own
}

// Server is the protocol of every project of a deployment. Handlers take the
// project from the request's context. It is safe for concurrent use.
type Server struct {
	store     Store
	subjects  Subjects
	keys      *signing.Keys
	fetch     func(p *project.Project) *http.Client
	now       func() time.Time
	address   func(r *http.Request) string
	trace     func(ctx context.Context) string
	note      func(ctx context.Context, a ...slog.Attr)
	documents documents
	keySets   keySets
	traces    traces
	metadata  sync.Map // project id → preparedMetadata
}

// New returns a Server.
func New(c Config) (*Server, error) {
	if c.Store == nil || c.Subjects == nil || c.Keys == nil || c.Fetch == nil || c.Now == nil ||
		c.Address == nil || c.Trace == nil || c.Note == nil {
		return nil, errors.New("oauth: every field of Config but Copies is required")
	}
	if c.Copies == nil {
		own, err := fs.Sub(embeddedCopies, "copies")
		if err != nil {
			return nil, fmt.Errorf("oauth: read copies: %w", err)
		}
		c.Copies = own
	}
	copies, err := readCopies(c.Copies)
	if err != nil {
		return nil, err
	}
	return &Server{
		store: c.Store, subjects: c.Subjects, keys: c.Keys, fetch: c.Fetch, now: c.Now,
		address: c.Address, trace: c.Trace, note: c.Note, documents: documents{readings: readings{now: c.Now}, copies: copies},
		keySets: keySets{readings: readings{now: c.Now}},
	}, nil
}

// event begins an audit event of now. Address is the peer's if the handler
// put the request's address into the context; see withAddress.
func (s *Server) event(ctx context.Context, p *project.Project, kind audit.Kind) audit.Event {
	address, _ := ctx.Value(addressKey{}).(string)
	return audit.Event{ProjectID: p.ID, At: s.now(), Kind: kind, Address: address, TraceID: s.trace(ctx)}
}

type addressKey struct{}

// WithAddress returns a context whose events name the request's peer.
func (s *Server) WithAddress(r *http.Request) context.Context {
	return context.WithValue(r.Context(), addressKey{}, s.address(r))
}

// bodyLimit is for token, introspection and revocation requests.
const bodyLimit = 32 << 10

// parseBody reads the parameters of a POST. Clients of the protocol send a
// form; the compatible SDKs may send one JSON object whose members are strings
// or lists of strings. Either way a repeated parameter is refused unless it is
// in repeatable (RFC 6749 §3.2), and an empty one counts as absent.
func (s *Server) parseBody(r *http.Request, limit int64, repeatable ...string) (url.Values, error) {
	if mediaType(r) != "application/json" {
		return wire.Form(r, limit, repeatable...)
	}
	var members map[string]any
	if err := wire.Body(r, limit, &members); err != nil {
		return nil, err
	}
	form := url.Values{}
	for name, value := range members {
		switch v := value.(type) {
		case string:
			if v != "" {
				form.Set(name, v)
			}
		case []any:
			if len(v) > 1 && !contains(repeatable, name) {
				return nil, invalidRequest("The parameter '%s' was sent more than once.", printable(name))
			}
			for _, item := range v {
				text, ok := item.(string)
				if !ok {
					return nil, invalidRequest("The member '%s' must hold strings.", printable(name))
				}
				if text != "" {
					form.Add(name, text)
				}
			}
		case nil:
		default:
			return nil, invalidRequest("The member '%s' must be a string.", printable(name))
		}
	}
	return form, nil
}

// newID makes an id of this project's environment.
func (s *Server) newID(p *project.Project, kind string) string {
	return secret.NewID(s.now(), kind, string(p.Environment))
}

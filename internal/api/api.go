// Package api is the JSON API of a project: what programs other than MCP
// clients call, such as a policy script or the command line of another
// computer.
//
// [API.Operations] is the table of everything it answers: method, path, who may
// call, and the function behind it. From the types of that function a request
// is decoded and an answer is written, so a function here sees a call and
// returns a value or an [*Error]. Errors have one JSON form everywhere.
//
// Half of the operations take the documents of a vendor's published SDKs and
// scripts; compatible.go translates them in both directions, and the vendor's
// names are in this package alone (decision 2). The other half speaks Postern's
// words.
//
// The package has no rules of its own: who may do what is in rbac and identity.
package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
	"github.com/postern-id/postern/internal/wire"
)

// API answers the calls of every project of a deployment. It is safe for
// concurrent use.
type API struct {
	people   *identity.People
	keys     *project.WorkspaceKeys
	store    Store
	now      func() time.Time
	prepared sync.Map // project id -> preparedPermits
}

// Config is what New needs; every field is required.
type Config struct {
	People *identity.People
	Keys   *project.WorkspaceKeys
	Store  Store
	Now    func() time.Time
}

// Store is what the package itself needs of a database.
type Store interface {
	// RecordRefusal keeps an event, or returns oauth.ErrLimited when one of the
	// counters is full.
	RecordRefusal(ctx context.Context, e audit.Event, limits []oauth.Counter) error
}

// New returns the API on a store.
func New(c Config) (*API, error) {
	if c.People == nil || c.Keys == nil || c.Store == nil || c.Now == nil {
		return nil, errors.New("api: every field of Config is required")
	}
	return &API{people: c.People, keys: c.Keys, store: c.Store, now: c.Now}, nil
}

// Who says who may call an operation.
type Who string

// The callers.
const (
	Anyone     Who = "anyone"
	AnyKey     Who = "workspace key"                // Basic, with id and secret of a key of the deployment
	WritingKey Who = "workspace key that may write" // the same, and the key is not one that only reads
)

// Operation is one call of the API.
type Operation struct {
	Method  string // "GET" also answers HEAD
	Path    string // ServeMux pattern
	Who     Who
	CORS    bool // any origin may read the answer
	Handler http.Handler
}

// Operations is everything the API answers. A handler takes the project from
// the request's context.
func (a *API) Operations() []Operation {
	const one = "/v1/projects/{project_id}"
	return []Operation{
		operation(a, http.MethodGet, oauth.PathPolicy, Anyone, a.permits),

		operation(a, http.MethodGet, one+"/policy", AnyKey, a.policy),
		operation(a, http.MethodPut, one+"/policy", WritingKey, a.setPolicy),

		operation(a, http.MethodGet, one+"/rbac_policy", AnyKey, a.compatiblePolicy),
		operation(a, http.MethodPut, one+"/rbac_policy", WritingKey, a.setCompatiblePolicy),
	}
}

// call is a request whose caller is known.
type call struct {
	*http.Request
	project *project.Project
	key     project.WorkspaceKey // zero where anyone may call
	answer  http.Header
}

// none is the body of an operation that has none.
type none struct{}

// maxBody bounds the body of a request, in bytes: the largest is a policy.
const maxBody = 2 << 20

// operation makes a row of the table. The body of a request is decoded into an
// In, unless that is none; members that In does not have are left out.
func operation[In, Out any](a *API, method, path string, who Who, do func(c call, in In) (Out, error)) Operation {
	handler := web.Handle(func(w http.ResponseWriter, r *http.Request) error {
		c := call{Request: r, project: project.FromContext(r.Context()), answer: w.Header()}
		if err := a.admit(&c, who); err != nil {
			return refusal(err)
		}
		var in In
		if _, empty := any(in).(none); !empty {
			if err := wire.Body(r, maxBody, &in); err != nil {
				return err
			}
		}
		out, err := do(c, in)
		if err != nil {
			return refusal(err)
		}
		return reply(w, r, out)
	}, writeError)
	return Operation{Method: method, Path: path, Who: who, CORS: who == Anyone, Handler: handler}
}

// reply answers with JSON; with 304 when it has an ETag that the caller named
// (RFC 9110 §13.1.2).
func reply(w http.ResponseWriter, r *http.Request, out any) error {
	body, err := json.Marshal(out)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", cmp.Or(h.Get("Cache-Control"), "no-store"))
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
		return nil
	}
	_, _ = w.Write(body) // a client that went away is no error of ours
	return nil
}

// event begins the audit event of a call.
func (a *API) event(c call, kind audit.Kind) audit.Event {
	ctx := c.Context()
	return audit.Event{
		ProjectID: c.project.ID, At: a.now(), Kind: kind, Actor: c.key.ID,
		Address: web.ClientIP(c.Request).String(), TraceID: web.Trace(ctx),
	}
}

package api

import (
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/web"
)

// admit finds out who calls, and refuses a path that names another project than
// the host's: to a stranger nothing is told about projects.
func (a *API) admit(c *call, who Who) error {
	if who == Anyone {
		return nil
	}
	if inAddress(c.Request) {
		return a.refuseAddress(*c)
	}
	id, text, _ := c.BasicAuth()
	k, err := a.keys.Check(c.Context(), id, text)
	switch {
	case errors.Is(err, project.ErrNotFound):
		return a.refuseKey(*c, id, "unknown or wrong key")
	case errors.Is(err, project.ErrKeyEnded):
		return a.refuseKey(*c, id, k.State(a.now())+" key")
	case err != nil:
		return err
	}
	c.key = k
	switch {
	case c.PathValue("project_id") != c.project.ID:
		return refuse(http.StatusNotFound, "project_not_found", "This host serves another project. Call the address of the project that the path names: its issuer.")
	case who == WritingKey && k.ReadOnly:
		return a.refuseWrite(*c)
	}
	return nil
}

// refusalsKept bound the events that one caller leaves.
func refusalsKept(kind, key string) oauth.Counter {
	return oauth.Counter{Kind: kind, Key: key, Limit: 20, Window: time.Minute}
}

// refuseKey counts and records a wrong key, 20 a minute of one address: more are
// told to wait. A right one always works: it holds 256 random bits, and who
// shares an address must not be shut out by another. One sentence serves for all
// that can be wrong.
func (a *API) refuseKey(c call, id, reason string) error {
	e := a.event(c, audit.WorkspaceKeyRefused)
	e.Object, e.Refused, e.Reason = id[:min(len(id), 64)], true, reason
	limit := refusalsKept("workspace_key", web.AddressKey(web.ClientIP(c.Request)))
	switch err := a.store.RecordRefusal(c.Context(), e, []oauth.Counter{limit}); {
	case errors.Is(err, oauth.ErrLimited):
		e := refuse(http.StatusTooManyRequests, "too_many_requests", "Too many wrong workspace keys came from this address. Wait a minute.")
		e.retryAfter = limit.Window
		return e
	case err != nil:
		return err
	}
	return refuse(http.StatusUnauthorized, "unauthorized_credentials",
		"Authenticate with Basic: the id of a workspace key that works here, and its secret. postern workspace-key list says which work, postern workspace-key create makes one.")
}

// refuseWrite refuses a change by a key that only reads.
func (a *API) refuseWrite(c call) error {
	e := a.event(c, audit.WorkspaceKeyRefused)
	e.Object, e.Refused, e.Reason = c.key.ID, true, "key that only reads"
	if err := a.keep(c, e, refusalsKept("workspace_key_write", c.key.ID)); err != nil {
		return err
	}
	return refuse(http.StatusForbidden, "read_only_key", "This workspace key only reads, and nothing was changed. Use one that may change things: postern workspace-key create without --read-only.")
}

// inAddress reports whether a secret stands in the query string, where proxies,
// logs and histories keep it. There is no parameter for one; it is not a question
// of its name.
func inAddress(r *http.Request) bool {
	if r.URL.RawQuery == "" {
		return false
	}
	text, err := url.QueryUnescape(r.URL.RawQuery)
	if err != nil {
		text = r.URL.RawQuery
	}
	return secret.Mask(text) != text
}

// refuseAddress refuses a request with a secret in its address, whatever else
// it brings: who sent it must learn that the secret is known to others now.
func (a *API) refuseAddress(c call) error {
	e := a.event(c, audit.WorkspaceKeyRefused)
	e.Refused, e.Reason = true, "secret in the address"
	if err := a.keep(c, e, refusalsKept("workspace_key_address", web.AddressKey(web.ClientIP(c.Request)))); err != nil {
		return err
	}
	return refuse(http.StatusBadRequest, "bad_request",
		"Send no secret in the address, where logs keep it: the id of the workspace key and its secret belong in the Authorization header, with Basic. Revoke the key that was in the address.")
}

// keep keeps the event of a refusal, or leaves it out when there are too many.
func (a *API) keep(c call, e audit.Event, limit oauth.Counter) error {
	err := a.store.RecordRefusal(c.Context(), e, []oauth.Counter{limit})
	if errors.Is(err, oauth.ErrLimited) {
		return nil
	}
	return err
}

package api

import (
	"errors"
	"net/http"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// admit finds out who calls, and refuses a path that names another project than
// the host's: to a stranger nothing is told about projects.
func (a *API) admit(c *call, who Who) error {
	if who == Anyone {
		return nil
	}
	id, text, _ := c.BasicAuth()
	var err error
	c.key, err = a.keys.Check(c.Context(), id, text)
	switch {
	case errors.Is(err, project.ErrNotFound):
		return a.refuseKey(*c, id)
	case err != nil:
		return err
	case c.PathValue("project_id") != c.project.ID:
		return refuse(http.StatusNotFound, "project_not_found", "This host serves another project. Call the address of the project that the path names: its issuer.")
	}
	return nil
}

// wrongKeys bounds wrong keys per address. A right one always works: it holds
// 256 random bits, and who shares an address must not be shut out by another.
func wrongKeys(c call) oauth.Counter {
	return oauth.Counter{Kind: "workspace_key", Key: web.AddressKey(web.ClientIP(c.Request)), Limit: 20, Window: time.Minute}
}

// refuseKey counts and records a wrong key. One sentence serves for all that can
// be wrong with it.
func (a *API) refuseKey(c call, id string) error {
	limit := wrongKeys(c)
	switch err := a.store.Count(c.Context(), c.project.ID, limit, a.now()); {
	case errors.Is(err, oauth.ErrLimited):
		e := refuse(http.StatusTooManyRequests, "too_many_requests", "Too many wrong workspace keys came from this address. Wait a minute.")
		e.retryAfter = limit.Window
		return e
	case err != nil:
		return err
	}
	e := a.event(c, audit.WorkspaceKeyRefused)
	e.Object, e.Refused, e.Reason = id[:min(len(id), 64)], true, "unknown, revoked or wrong key"
	if err := a.store.Record(c.Context(), e); err != nil {
		return err
	}
	return refuse(http.StatusUnauthorized, "unauthorized_credentials",
		"Authenticate with Basic: the id of a workspace key that works here, and its secret. postern workspace-key create makes one.")
}

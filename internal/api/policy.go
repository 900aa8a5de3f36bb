package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
)

// policyChanged refuses a change of a policy that is another by now.
func policyChanged(status int) error {
	return refuse(status, "policy_changed", "Somebody changed the policy since it was read, and nothing was changed now. Read it again, and make the change in that.")
}

// badPolicy refuses a policy with everything that is wrong with it.
func badPolicy(problems ...string) error {
	return refuse(http.StatusBadRequest, "invalid_policy", "The policy was not changed. %s", strings.Join(problems, "; "))
}

// asBadPolicy makes a refusal of [*rbac.Problems]; others pass.
func asBadPolicy(err error) error {
	var wrong *rbac.Problems
	if !errors.As(err, &wrong) {
		return err
	}
	problems := make([]string, len(wrong.List))
	for i, p := range wrong.List {
		problems[i] = p.String()
	}
	return badPolicy(problems...)
}

// apply replaces the standing policy and returns what stands then. A policy that
// means the same as the standing one makes no new version.
func (a *API) apply(c call, standing, next rbac.Policy) (rbac.Policy, error) {
	if len(rbac.Diff(standing, next)) == 0 {
		return standing, nil
	}
	e := a.event(c, audit.PolicyApplied)
	e.Object = strconv.FormatInt(standing.Version+1, 10)
	var err error
	next.Version = standing.Version
	next.Version, err = a.people.ApplyPolicy(c.Context(), c.project.ID, next, e)
	return next, asBadPolicy(err)
}

// policy answers with the policy document, and its version as the ETag.
func (a *API) policy(c call, _ none) (rbac.Policy, error) {
	p, err := a.people.Policy(c.Context(), c.project.ID)
	c.answer.Set("ETag", versionTag(p))
	return p, err
}

// setPolicy replaces the policy document. If-Match has the ETag of the one that
// the change was made in; a version inside the document must be the same.
func (a *API) setPolicy(c call, document json.RawMessage) (rbac.Policy, error) {
	switch tags := c.Header.Values("If-Match"); {
	case len(tags) == 0:
		return rbac.Policy{}, refuse(http.StatusPreconditionRequired, "precondition_required", "Send If-Match with the ETag of the policy that you changed.")
	case len(tags) > 1 || !tagForm.MatchString(tags[0]):
		return rbac.Policy{}, refuse(http.StatusBadRequest, "bad_request", `Send one If-Match with one ETag, such as "7" in its quotes.`)
	}
	next, err := rbac.Parse(document)
	if err != nil {
		return rbac.Policy{}, asBadPolicy(err)
	}
	standing, err := a.people.Policy(c.Context(), c.project.ID)
	if err != nil {
		return rbac.Policy{}, err
	}
	if c.Header.Get("If-Match") != versionTag(standing) || next.Version != 0 && next.Version != standing.Version {
		return rbac.Policy{}, policyChanged(http.StatusPreconditionFailed)
	}
	next, err = a.apply(c, standing, next)
	if errors.Is(err, identity.ErrStale) {
		return rbac.Policy{}, policyChanged(http.StatusPreconditionFailed)
	}
	c.answer.Set("ETag", versionTag(next))
	return next, err
}

var tagForm = regexp.MustCompile(`^"[0-9]{1,19}"$`)

func versionTag(p rbac.Policy) string { return `"` + strconv.FormatInt(p.Version, 10) + `"` }

// published is what resource servers need to judge a token: its scopes say what
// it may do, and the roles were judged when they were granted.
type published struct {
	Version   int64       `json:"version"`
	Resources []actions   `json:"resources"`
	Scopes    []permitted `json:"scopes"`
}

// actions is a resource with its actions, or a permission on it.
type actions struct {
	Resource string   `json:"resource_id"`
	Actions  []string `json:"actions"`
}

type permitted struct {
	Scope       string    `json:"scope"`
	Permissions []actions `json:"permissions"`
}

// preparedPermits is a published policy as bytes. A project is an immutable
// value, so they hold for as long as it is the same (decision 25).
type preparedPermits struct {
	of   *project.Project
	body json.RawMessage
	etag string
}

// permits answers anyone with what the scopes permit.
func (a *API) permits(c call, _ none) (json.RawMessage, error) {
	if c.project.Vertical != project.B2B {
		return nil, refuse(http.StatusNotFound, "not_found", "This project has no organizations, and its scopes permit nothing beyond themselves.")
	}
	kept, ok := a.prepared.Load(c.project.ID)
	prepared, _ := kept.(preparedPermits)
	if !ok || prepared.of != c.project {
		rules, err := a.people.Rules(c.Context(), c.project)
		if err != nil {
			return nil, err
		}
		body, err := json.Marshal(publish(rules.Policy))
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(body)
		prepared = preparedPermits{of: c.project, body: body, etag: `"` + hex.EncodeToString(sum[:16]) + `"`}
		a.prepared.Store(c.project.ID, prepared)
	}
	c.answer.Set("ETag", prepared.etag)
	c.answer.Set("Cache-Control", "public, max-age=60")
	return prepared.body, nil
}

func publish(p rbac.Policy) published {
	out := published{Version: p.Version, Resources: []actions{}, Scopes: []permitted{}}
	for _, r := range p.Resources {
		out.Resources = append(out.Resources, actions{r.ID, r.Actions})
	}
	for _, s := range p.Scopes {
		one := permitted{Scope: s.Name, Permissions: []actions{}}
		for _, permission := range s.Permissions {
			one.Permissions = append(one.Permissions, actions(permission))
		}
		out.Scopes = append(out.Scopes, one)
	}
	return out
}

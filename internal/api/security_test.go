package api_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/project"
)

const oneScope = `{"scopes": [{"scope": "read:notes"}]}`

// Row: D04. A workspace key counts in the header of Basic alone, and only while it
// works. There are no keys that only read, and none that end by themselves.
func TestWhereAKeyCounts(t *testing.T) {
	each(t, project.B2B, func(t *testing.T, w *world) {
		id, text, _ := strings.Cut(w.key, ":")
		query := url.Values{"key_id": {id}, "key_secret": {text}, "key": {w.key}, "access_token": {text}, "project_id": {w.project.ID}, "secret": {text}}.Encode()
		for _, path := range []string{"/v1/projects/{project}/policy", "/v1/projects/{project}/rbac_policy"} {
			for _, method := range []string{http.MethodGet, http.MethodPut} {
				for name, one := range map[string]struct {
					path, credentials string
					headers           []string
				}{
					"none":               {path: path},
					"revoked":            {path: path, credentials: w.revoked},
					"in the address":     {path: path + "?" + query},
					"as a bearer token":  {path: path, headers: []string{"Authorization", "Bearer " + text}},
					"in another header":  {path: path, headers: []string{"X-API-Key", text, "Cookie", "key=" + text}},
					"the other way":      {path: path, credentials: text + ":" + id},
					"without its id":     {path: path, credentials: ":" + text},
					"without its secret": {path: path, credentials: id + ":"},
				} {
					answer := w.send(method, one.path, one.credentials, oneScope, append([]string{"If-Match", `"0"`}, one.headers...)...)
					if answer.Code != http.StatusUnauthorized {
						t.Errorf("%s %s: %s", method, name, w.show(t, answer))
					}
				}
				w.clock.Advance(time.Minute) // wrong keys are counted
			}
		}
		if p, err := w.people.Policy(t.Context(), w.project.ID); err != nil || p.Version != 0 {
			t.Errorf("version %d, %v", p.Version, err)
		}
		if answer := w.send(http.MethodPut, "/v1/projects/{project}/policy", w.key, oneScope, "If-Match", `"0"`); answer.Code != http.StatusOK {
			t.Errorf("in the right place: %s", w.show(t, answer))
		}
	})
}

// Row: D09. What a caller may not choose is refused or not looked at.
func TestNothingElseIsSet(t *testing.T) {
	each(t, project.B2B, func(t *testing.T, w *world) {
		body := strings.TrimSuffix(oneScope, "}") + `, "version": 99, "project_id": "project-test-1", "is_admin": true, "created_at": "2020-01-01T00:00:00Z", "workspace_key": "x"}`
		answer := w.send(http.MethodPut, "/v1/projects/{project}/policy", w.key, body, "If-Match", `"0"`)
		if answer.Code != http.StatusOK && answer.Code != http.StatusBadRequest {
			t.Error(w.show(t, answer))
		}
		p, err := w.people.Policy(t.Context(), w.project.ID)
		if must(t, err); p.Version > 1 || p.Version == 1 && len(p.Scopes) != 1 {
			t.Errorf("%+v", p)
		}
	})
}

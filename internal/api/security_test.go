package api_test

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/api"
	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

const oneScope = `{"scopes": [{"scope": "read:notes"}]}`

// Row: D04. A workspace key counts in the header of Basic alone, and only while it
// works.
func TestWhereAKeyCounts(t *testing.T) {
	each(t, project.B2B, func(t *testing.T, w *world) {
		id, text, _ := strings.Cut(w.key, ":")
		w.clock.Advance(time.Hour) // the end of one of the keys
		for _, path := range []string{"/v1/projects/{project}/policy", "/v1/projects/{project}/rbac_policy"} {
			for _, method := range []string{http.MethodGet, http.MethodPut} {
				for name, one := range map[string]struct {
					path, credentials string
					headers           []string
				}{
					"none":               {path: path},
					"revoked":            {path: path, credentials: w.revoked},
					"ended":              {path: path, credentials: w.ends},
					"its id alone":       {path: path + "?key_id=" + id},
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
		w.unchanged(t)
		if answer := w.send(http.MethodPut, "/v1/projects/{project}/policy", w.key, oneScope, "If-Match", `"0"`); answer.Code != http.StatusOK {
			t.Errorf("in the right place: %s", w.show(t, answer))
		}
	})
}

// unchanged fails the test when the policy has been changed.
func (w *world) unchanged(t *testing.T) {
	t.Helper()
	if p, err := w.people.Policy(t.Context(), w.project.ID); err != nil || p.Version != 0 {
		t.Errorf("version %d, %v", p.Version, err)
	}
}

// refusals are the events about keys that were refused, by their reasons.
func (w *world) refusals(t *testing.T) map[string][]audit.Event {
	t.Helper()
	page, err := w.db.Events(t.Context(), audit.Query{ProjectID: w.project.ID, Kinds: []audit.Kind{audit.WorkspaceKeyRefused}, Limit: 1000})
	must(t, err)
	found := map[string][]audit.Event{}
	for _, e := range page.Events {
		if !e.Refused || e.TraceID == "" || e.Address == "" || strings.Contains(e.Object, "pst_") {
			t.Errorf("%+v", e)
		}
		found[e.Reason] = append(found[e.Reason], e)
	}
	return found
}

// searches are the operations that only read though they are no GET: a body says
// what is looked for.
var searches = []string{}

// Row: D04. Every operation says whether a key that only reads may call it: one
// that is a GET or only searches, and no other.
func TestAKeyThatOnlyReads(t *testing.T) {
	each(t, project.B2B, func(t *testing.T, w *world) {
		a, err := api.New(api.Config{People: w.people, Keys: w.keys, Store: w.db, Now: w.clock.Now})
		must(t, err)
		id, _, _ := strings.Cut(w.reads, ":")
		changes := 0
		for _, o := range a.Operations() {
			name := o.Method + " " + o.Path
			reads := o.Method == http.MethodGet || slices.Contains(searches, name)
			if o.Who != api.WritingKey && !reads || o.Who == api.WritingKey && reads {
				t.Errorf("%s is for: %s", name, o.Who)
			}
			if o.Who == api.Anyone {
				continue
			}
			var headers []string
			if !reads {
				headers = []string{"If-Match", `"0"`}
			}
			answer := w.send(o.Method, strings.ReplaceAll(o.Path, "{project_id}", w.project.ID), w.reads, oneScope, headers...)
			switch text := w.show(t, answer); {
			case reads && answer.Code != http.StatusOK:
				t.Errorf("%s: %s", name, text)
			case reads:
			case answer.Code != http.StatusForbidden || !strings.Contains(text, `"error_type": "read_only_key"`) || !strings.Contains(text, "nothing was changed"):
				t.Errorf("%s: %s", name, text)
			default:
				changes++
			}
		}
		w.unchanged(t)
		told := w.refusals(t)["key that only reads"]
		if changes == 0 || len(told) != changes {
			t.Errorf("%d changes were refused, %d events", changes, len(told))
		}
		for _, e := range told {
			if e.Actor != id || e.Object != id {
				t.Errorf("%+v", e)
			}
		}
		// A program that does not stop leaves a bounded number of events.
		for range 200 {
			if answer := w.send(http.MethodPut, "/v1/projects/{project}/policy", w.reads, oneScope, "If-Match", `"0"`); answer.Code != http.StatusForbidden {
				t.Fatal(w.show(t, answer))
			}
		}
		if n := len(w.refusals(t)["key that only reads"]); n != 20 {
			t.Errorf("%d events", n)
		}
	})
}

// Row: D04. A key ends at its moment, which the trail tells from a wrong one, and
// not before.
func TestAKeyEnds(t *testing.T) {
	each(t, project.B2B, func(t *testing.T, w *world) {
		const path = "/v1/projects/{project}/policy"
		w.clock.Advance(time.Hour - time.Microsecond)
		if answer := w.send(http.MethodPut, path, w.ends, oneScope, "If-Match", `"0"`); answer.Code != http.StatusOK {
			t.Errorf("before its end: %s", w.show(t, answer))
		}
		w.clock.Advance(time.Microsecond)
		for range 2 {
			if answer := w.send(http.MethodGet, path, w.ends, ""); answer.Code != http.StatusUnauthorized {
				t.Errorf("at its end: %s", w.show(t, answer))
			}
		}
		w.send(http.MethodGet, path, w.revoked, "")
		w.send(http.MethodGet, path, w.credentials("wrong"), "")
		told := w.refusals(t)
		for reason, credentials := range map[string]string{"ended key": w.ends, "revoked key": w.revoked, "unknown or wrong key": w.key} {
			id, _, _ := strings.Cut(credentials, ":")
			if events := told[reason]; len(events) == 0 || events[0].Object != id || events[0].Actor != "" {
				t.Errorf("%s: %+v", reason, events)
			}
		}
	})
}

// Row: D04. A secret in the address is refused whatever its name and however right
// the header is: the address is in the logs by now.
func TestAKeyInTheAddress(t *testing.T) {
	each(t, project.B2B, func(t *testing.T, w *world) {
		id, text, _ := strings.Cut(w.key, ":")
		hidden := strings.ReplaceAll(text, "_", "%5f")
		for _, path := range []string{"/v1/projects/{project}/policy", "/v1/projects/{project}/rbac_policy"} {
			for _, method := range []string{http.MethodGet, http.MethodPut} {
				for name, query := range map[string]string{
					"by its name":      url.Values{"key_id": {id}, "key_secret": {text}}.Encode(),
					"as a token":       "access_token=" + text,
					"without a name":   text,
					"as a name":        text + "=1",
					"both in one":      "key=" + url.QueryEscape(w.key),
					"escaped":          "secret=" + hidden,
					"in a wrong query": "a=%zz&secret=" + text,
					"of the project":   "secret=pst_ps_" + strings.TrimPrefix(text, "pst_wk_"),
				} {
					for _, credentials := range []string{"", w.key} {
						answer := w.send(method, path+"?"+query, credentials, oneScope, "If-Match", `"0"`)
						if body := w.show(t, answer); answer.Code != http.StatusBadRequest || !strings.Contains(body, "Authorization header") || strings.Contains(body, text[10:]) {
							t.Errorf("%s %s: %s", method, name, body)
						}
					}
				}
			}
		}
		w.unchanged(t)
		// 64 requests of one address, in one minute.
		if n := len(w.refusals(t)["secret in the address"]); n != 20 {
			t.Errorf("%d events", n)
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

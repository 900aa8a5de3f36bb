package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/api"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/store"
)

// okrDocument is the request of the OKR example's script, from its transcript.
func okrDocument(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("testdata/compatible.txtar")
	must(t, err)
	_, put, found := strings.Cut(string(text), "PUT /v1/projects/{project}/rbac_policy\nKey: key\n\n")
	body, _, ended := strings.Cut(put, answerMark)
	if !found || !ended {
		t.Fatal("the transcript has no document")
	}
	return body
}

// The document of the OKR example decides as its table says: which role may hand
// on which scope.
func TestCompatibleDocumentDecides(t *testing.T) {
	each(t, project.B2B, func(t *testing.T, w *world) {
		if answer := w.send(http.MethodPut, "/v1/projects/{project}/rbac_policy", w.key, okrDocument(t)); answer.Code != http.StatusOK {
			t.Fatal(w.show(t, answer))
		}
		policy, err := w.people.Policy(t.Context(), w.project.ID)
		must(t, err)
		judge := rbac.Compile(policy)
		for role, want := range map[string][]string{
			"member":  {"read:okrs", "report_kr_status"},
			"manager": {"read:okrs", "manage:krs", "report_kr_status"},
			"admin":   {"read:okrs", "manage:objectives", "manage:krs", "report_kr_status"},
		} {
			var got []string
			for _, s := range policy.Scopes {
				if ok, _ := judge.Rights(role).Grantable(s.Name); ok {
					got = append(got, s.Name)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", role, diff)
			}
		}
		if r := judge.Rights("manager"); !r.Allows("member", "search") || r.Allows("member", "delete") || !r.Allows("self", "delete") {
			t.Error("the built-in resources mean something else")
		}
		if s, _ := policy.Scope("read:okrs"); !s.ReadOnly {
			t.Error("a scope that permits reading alone is taken for one that changes something")
		}
		if s, _ := policy.Scope("report_kr_status"); s.ReadOnly {
			t.Error("a scope that permits changes is taken for one that only reads")
		}
		// Once more is no change.
		if answer := w.send(http.MethodPut, "/v1/projects/{project}/rbac_policy", w.key, okrDocument(t)); answer.Code != http.StatusOK {
			t.Fatal(w.show(t, answer))
		}
		if again, err := w.people.Policy(t.Context(), w.project.ID); err != nil || again.Version != 1 {
			t.Errorf("version %d, %v", again.Version, err)
		}
	})
}

// Row: O01. One key opens every project, and each only at its own address: the
// id of another in path or body reaches nothing.
func TestAnotherProject(t *testing.T) {
	each(t, project.B2B, func(t *testing.T, w *world) {
		other, _, err := project.NewSetup(w.db, w.clock.Now).Create(t.Context(), project.New{Name: "Other", Issuer: "http://localhost:4002", Vertical: project.B2B})
		must(t, err)
		const scopes = `{"scopes": [{"scope": "s"}]}`
		path := "/v1/projects/" + other.ID
		for name, answer := range map[string]*httptest.ResponseRecorder{
			"read":              w.send(http.MethodGet, path+"/policy", w.key, ""),
			"write":             w.send(http.MethodPut, path+"/policy", w.key, scopes, "If-Match", `"0"`),
			"compatible read":   w.send(http.MethodGet, path+"/rbac_policy", w.key, ""),
			"compatible write":  w.send(http.MethodPut, path+"/rbac_policy", w.key, okrDocument(t)),
			"an id of nobody's": w.send(http.MethodGet, "/v1/projects/project-test-1/policy", w.key, ""),
		} {
			if answer.Code != http.StatusNotFound {
				t.Errorf("%s: %s", name, w.show(t, answer))
			}
		}
		body := strings.ReplaceAll(okrDocument(t), "{project}", other.ID)
		if answer := w.send(http.MethodPut, "/v1/projects/{project}/rbac_policy", w.key, body); answer.Code != http.StatusBadRequest {
			t.Errorf("in the body: %s", w.show(t, answer))
		}
		for _, id := range []string{w.project.ID, other.ID} {
			if p, err := w.people.Policy(t.Context(), id); err != nil || p.Version != 0 {
				t.Errorf("version %d, %v", p.Version, err)
			}
		}
	})
}

// A policy with names that the vendor keeps for itself would be read back as
// another, so it is not told in the vendor's form.
func TestUnspeakablePolicy(t *testing.T) {
	w := newWorld(t, store.Config{Path: filepath.Join(t.TempDir(), "postern.db")}, project.B2B)
	const mine = `{"resources": [{"resource_id": "stytch.member", "actions": ["delete"]}],
		"scopes": [{"scope": "s", "permissions": [{"resource_id": "stytch.member", "actions": ["*"]}]}]}`
	if answer := w.send(http.MethodPut, "/v1/projects/{project}/policy", w.key, mine, "If-Match", `"0"`); answer.Code != http.StatusOK {
		t.Fatal(w.show(t, answer))
	}
	answer := w.send(http.MethodGet, "/v1/projects/{project}/rbac_policy", w.key, "")
	if text := w.show(t, answer); answer.Code != http.StatusConflict || !strings.Contains(text, "policy_not_representable") {
		t.Error(text)
	}
}

// Of changes that were made in the same version one wins, and the others are
// told.
func TestOneOfTwoChanges(t *testing.T) {
	each(t, project.B2B, func(t *testing.T, w *world) {
		const n = 8
		send := map[string]func(i int) *httptest.ResponseRecorder{
			"native": func(i int) *httptest.ResponseRecorder {
				return w.send(http.MethodPut, "/v1/projects/{project}/policy", w.key, fmt.Sprintf(`{"scopes": [{"scope": "n%d"}]}`, i), "If-Match", `"0"`)
			},
			"compatible": func(i int) *httptest.ResponseRecorder {
				return w.send(http.MethodPut, "/v1/projects/{project}/rbac_policy", w.key, fmt.Sprintf(`{"policy": {"custom_scopes": [{"scope": "c%d"}]}}`, i))
			},
		}
		version := int64(0)
		for _, form := range []string{"native", "compatible"} {
			var wait sync.WaitGroup
			codes := make([]int, n)
			for i := range n {
				wait.Go(func() { codes[i] = send[form](i).Code })
			}
			wait.Wait()
			won := 0
			for _, code := range codes {
				switch {
				case code == http.StatusOK:
					won++
				case form == "native" && code == http.StatusPreconditionFailed, form == "compatible" && code == http.StatusConflict:
				default:
					t.Errorf("%s: %d", form, code)
				}
			}
			if form == "native" && won != 1 || won == 0 {
				t.Errorf("%s: %d won of %v", form, won, codes)
			}
			version += int64(won)
			if p, err := w.people.Policy(t.Context(), w.project.ID); err != nil || p.Version != version {
				t.Errorf("%s: version %d, %v, want %d", form, p.Version, err, version)
			}
		}
	})
}

// Wrong keys are counted per address; a right one works all the same.
func TestWrongKeysAreLimited(t *testing.T) {
	each(t, project.B2B, func(t *testing.T, w *world) {
		const path = "/v1/projects/{project}/policy"
		for i := range 25 {
			answer := w.send(http.MethodGet, path, w.credentials("wrong"), "")
			want := http.StatusUnauthorized
			if i >= 20 {
				want = http.StatusTooManyRequests
			}
			if answer.Code != want || (answer.Header().Get("Retry-After") != "") != (i >= 20) {
				t.Fatalf("wrong key %d: %s", i+1, w.show(t, answer))
			}
		}
		if answer := w.send(http.MethodGet, path, w.key, ""); answer.Code != http.StatusOK {
			t.Errorf("a right key: %d", answer.Code)
		}
		w.clock.Advance(time.Minute)
		if answer := w.send(http.MethodGet, path, w.credentials("revoked"), ""); answer.Code != http.StatusUnauthorized {
			t.Errorf("a minute later: %d", answer.Code)
		}
		keys, err := w.keys.All(t.Context())
		must(t, err)
		if i := slices.IndexFunc(keys, func(k project.WorkspaceKey) bool { return !k.LastUsedAt.IsZero() }); i < 0 || !keys[i].RevokedAt.IsZero() {
			t.Errorf("the use of the right key alone is noted: %+v", keys)
		}
	})
}

func TestNewNeedsEverything(t *testing.T) {
	if a, err := api.New(api.Config{}); err == nil || a != nil {
		t.Error("made of nothing")
	}
}

// The largest policy fits, and what is larger is refused in words.
func TestSizes(t *testing.T) {
	w := newWorld(t, store.Config{Path: filepath.Join(t.TempDir(), "postern.db")}, project.B2B)
	if answer := w.send(http.MethodPut, "/v1/projects/{project}/rbac_policy", w.key, manyRoles(1000)); answer.Code != http.StatusOK {
		t.Errorf("1,000 roles: %d", answer.Code)
	}
	answer := w.send(http.MethodPut, "/v1/projects/{project}/policy", w.key, `{"x":"`+strings.Repeat("a", 2<<20)+`"}`, "If-Match", `"1"`)
	if text := w.show(t, answer); answer.Code != http.StatusRequestEntityTooLarge || !strings.Contains(text, "at most 2097152 bytes") || !strings.Contains(text, "request_too_large") {
		t.Error(text)
	}
}

// manyRoles is a compatible request with n roles of ten permissions.
func manyRoles(n int) string {
	type object = map[string]any
	var resources, roles, scopes []object
	for i := range 10 {
		id := fmt.Sprintf("resource%d", i)
		resources = append(resources, object{"resource_id": id, "available_actions": []string{"create", "read", "update", "delete"}})
		scopes = append(scopes, object{"scope": "read:" + id, "permissions": []object{{"resource_id": id, "actions": []string{"read"}}}})
	}
	for i := range n {
		var permissions []object
		for j := range 10 {
			permissions = append(permissions, object{"resource_id": fmt.Sprintf("resource%d", j), "actions": []string{"read", "update"}})
		}
		roles = append(roles, object{"role_id": fmt.Sprintf("role%d", i), "permissions": permissions})
	}
	text, err := json.Marshal(object{"policy": object{"custom_resources": resources, "custom_roles": roles, "custom_scopes": scopes}})
	if err != nil {
		panic(err)
	}
	return string(text)
}

// The bar is a second for 1,000 roles.
func BenchmarkApplyRoles(b *testing.B) {
	w := newWorld(b, store.Config{Path: filepath.Join(b.TempDir(), "postern.db")}, project.B2B)
	bodies := []string{manyRoles(1000), manyRoles(999)}
	for i := range b.N {
		if answer := w.send(http.MethodPut, "/v1/projects/{project}/rbac_policy", w.key, bodies[i%2]); answer.Code != http.StatusOK {
			b.Fatal(answer.Code)
		}
	}
}

package oauth_test

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

// A client may ask for a resource by any of its addresses, at both endpoints;
// its token is for the resource, in one spelling, and the resource server may
// ask about it.
//
// Proves: MCP-AS-22, RFC7662-2.2-d
func TestAlias(t *testing.T) {
	const sse = "https://todo.example.test/sse"
	eachWorld(t, func(t *testing.T, w *world) {
		asks := func(uri, token string) bool {
			t.Helper()
			header := isForm.Clone()
			header.Set("Authorization", basicAuth(w.resources[uri][0], w.resources[uri][1]))
			a := w.send(t, http.MethodPost, oauth.PathIntrospect, header, url.Values{"token": {token}}.Encode())
			if a.code != http.StatusOK {
				t.Fatalf("introspection: %d %s", a.code, a.body)
			}
			return a.json()["active"] == true
		}
		aud := func(i issued) any { t.Helper(); return claimsOf(t, i.Access)["aud"] }

		before := w.tokens(t, w.public, "resource", sse) // nobody's yet, and allowed
		if diff := cmp.Diff([]any{w.Project.ID, sse}, aud(before)); diff != "" {
			t.Fatal(diff)
		}
		if asks(todo, before.Access) {
			t.Error("a resource server sees a token for an address that is not its own")
		}

		r, _ := w.Project.Resource(todo)
		if r.URI == "" {
			r = project.Resource{URI: todo, Name: "Todo", Default: true, Scopes: []string{"read:todos", "write:todos", "delete:todos"}}
		}
		r.Aliases = []string{sse}
		if _, _, err := w.Projects.AddResource(t.Context(), w.Project, r, nil, false); err != nil {
			t.Fatal(err)
		}
		w.Follow(t)

		for _, at := range [][2]string{{sse, sse}, {sse, todo}, {todo, sse}, {sse + "/", ""}, {"", sse}} {
			code := w.code(t, request(w.public.ID, "resource", at[0]))
			i := got(t, w.token(t, w.public, redeem(code, "resource", at[1])))
			if aud(i) != todo || !asks(todo, i.Access) || asks(notes, i.Access) {
				t.Errorf("asked for %q: aud %v, its server sees it: %t, another does: %t", at, aud(i), asks(todo, i.Access), asks(notes, i.Access))
			}
			i = got(t, w.token(t, w.public, refresh(i.Refresh, "resource", sse)))
			if aud(i) != todo {
				t.Errorf("refreshed by the alias: aud %v", aud(i))
			}
		}

		t.Run("what was granted before it was an alias goes on as the resource's", func(t *testing.T) {
			if !asks(todo, before.Access) || asks(notes, before.Access) {
				t.Error("the token of before is not the resource server's alone")
			}
			if after := got(t, w.token(t, w.public, refresh(before.Refresh, "resource", sse))); aud(after) != todo {
				t.Errorf("aud %v", aud(after))
			}
		})
		t.Run("an alias is not another's", func(t *testing.T) {
			code := w.code(t, request(w.public.ID, "resource", notes, "scope", "read:notes"))
			refusedToken(t, w.token(t, w.public, redeem(code, "resource", sse)), http.StatusBadRequest, "invalid_target")
			code = w.code(t, request(w.public.ID, "resource", sse))
			refusedToken(t, w.token(t, w.public, redeem(code, "resource", notes)), http.StatusBadRequest, "invalid_target")
			refusedToken(t, w.token(t, w.public, redeem(code, "resource", sse+"/x")), http.StatusBadRequest, "invalid_target")
		})
	}, func(s *project.Settings) { s.UnregisteredResources = true })
}

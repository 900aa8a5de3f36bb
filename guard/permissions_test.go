package guard_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/guardtest"
)

// okrPolicy is the policy of an application that keeps objectives.
func okrPolicy() guardtest.Policy {
	actions := []string{"create", "read", "update", "delete"}
	return guardtest.Policy{
		Resources: map[string][]string{"objective": actions, "key_result": actions},
		Scopes: map[string]map[string][]string{
			"read:okrs":         {"objective": {"read"}, "key_result": {"read"}},
			"manage:objectives": {"objective": {"*"}},
			"manage:krs":        {"key_result": {"*"}},
			"report_kr_status":  {"key_result": {"read", "update"}},
			"export":            {"objective": {"read", "update"}, "key_result": {"*"}},
			"openid":            {},
		},
	}
}

// newOKR is an issuer with that policy and the configuration of its server,
// which declares every scope but "export".
func newOKR(t testing.TB) (*guardtest.Issuer, guard.Config) {
	issuer := guardtest.New(t)
	issuer.SetPolicy(okrPolicy())
	cfg := issuer.Config(resource, "read:okrs", "manage:objectives", "manage:krs", "report_kr_status")
	cfg.Tools = map[string]guard.Rule{
		"listObjectives": guard.Permission("objective", "read"),
		"addObjective":   guard.Permission("objective", "create"),
		"setAttainment":  guard.Permission("key_result", "update"),
		"copyObjective":  {Acts: []guard.Act{{Resource: "objective", Action: "read"}, {Resource: "objective", Action: "create"}}},
		"reset":          {All: []string{"manage:krs"}, Acts: []guard.Act{{Resource: "key_result", Action: "delete"}, {Resource: "objective", Action: "delete"}}},
		"addKeyResult":   {Acts: []guard.Act{{Resource: "key_result", Action: "update"}, {Resource: "objective", Action: "create"}}},
		"misspelt":       guard.Permission("objective", "crate"),
		"home":           guard.Permission("objective", "read").In("organization-a"),
	}
	return issuer, cfg
}

// TestPermission proves that an operation needs a permission that the issuer's
// policy gives to the caller's scopes, and that a challenge names everything
// that the operation needs and nothing else.
//
// Proves: MCP-RS-8.
func TestPermission(t *testing.T) {
	issuer, cfg := newOKR(t)
	var log bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	introspecting := cfg
	introspecting.Introspection = issuer.Introspection()
	handlers := map[string]http.Handler{
		"signed":       newGuard(t, cfg).Protect(&ran{}),
		"introspected": newGuard(t, introspecting).Protect(&ran{}),
	}
	const where = `resource_metadata="` + metadataURL + `"`
	ask := func(scopes string) string {
		return `Bearer error="insufficient_scope", error_description="The access token lacks a scope that this operation needs.", scope="` + scopes + `", ` + where
	}
	const hopeless = `Bearer error="insufficient_scope", error_description="No scope of this server permits this operation.", ` + where
	call2 := func(one, two string) string { return "[" + toolCall(one) + "," + toolCall(two) + "]" }
	for _, c := range []struct {
		name, scopes, body string
		status             int
		challenge          string
	}{
		{"a scope that names the action", "read:okrs", toolCall("listObjectives"), 202, ""},
		{"a scope with every action", "manage:objectives", toolCall("addObjective"), 202, ""},
		{"one of two scopes", "read:okrs report_kr_status", toolCall("setAttainment"), 202, ""},
		{"a scope that the server did not declare", "read:okrs export", toolCall("setAttainment"), 202, ""},
		{"another action", "read:okrs", toolCall("addObjective"), 403, ask("manage:objectives")},
		{"another resource", "manage:objectives", toolCall("setAttainment"), 403, ask("report_kr_status")},
		{"the smallest scope is asked for", "read:okrs", toolCall("setAttainment"), 403, ask("report_kr_status")},
		{"a scope of OpenID Connect", "read:okrs openid", toolCall("addObjective"), 403, ask("manage:objectives")},
		{"two permissions, one is there", "read:okrs", toolCall("copyObjective"), 403, ask("read:okrs manage:objectives")},
		{"two permissions, one is there by a scope not declared", "export read:okrs", toolCall("copyObjective"), 403, ask("read:okrs manage:objectives")},
		{"two permissions, both are there", "manage:objectives", toolCall("copyObjective"), 202, ""},
		{"two permissions, one is there by more than the smallest scope", "manage:krs", toolCall("addKeyResult"), 403, ask("manage:krs manage:objectives")},
		{"scope and permissions", "read:okrs", toolCall("reset"), 403, ask("manage:krs manage:objectives")},
		{"scope without its permission", "manage:krs", toolCall("reset"), 403, ask("manage:krs manage:objectives")},
		{"permission without its scope", "manage:objectives export", toolCall("reset"), 403, ask("manage:krs manage:objectives")},
		{"scope and permissions there", "manage:krs manage:objectives", toolCall("reset"), 202, ""},
		{"an act that the policy does not have", "manage:objectives", toolCall("misspelt"), 403, hopeless},
		{"a batch with one too many", "read:okrs", call2("listObjectives", "addObjective"), 403, ask("read:okrs manage:objectives")},
		{"a batch with a hopeless one", "read:okrs", call2("addObjective", "misspelt"), 403, hopeless},
		{"a tool that no rule names", "read:okrs", toolCall("other"), 403, ask("read:okrs manage:objectives manage:krs report_kr_status")},
	} {
		for mode, h := range handlers {
			t.Run(mode+" "+c.name, func(t *testing.T) {
				token := issuer.Mint(guardtest.Token{Resource: resource, Organization: "organization-a", Scopes: strings.Fields(c.scopes)})
				w := call(h, http.MethodPost, c.body, bearer(token)...)
				if w.Code != c.status || w.Header().Get("WWW-Authenticate") != c.challenge {
					t.Errorf("got %d %q\nwant %d %q", w.Code, w.Header().Get("WWW-Authenticate"), c.status, c.challenge)
				}
				for _, secret := range []string{"policy", "version", "objective:"} {
					if strings.Contains(w.Body.String(), secret) {
						t.Errorf("the body says %q: %s", secret, w.Body)
					}
				}
			})
		}
	}
	if n := strings.Count(log.String(), "tool=misspelt act=objective:crate"); n != len(handlers) {
		t.Errorf("the log names the misspelt act %d times, want once for each guard:\n%s", n, log.String())
	}
}

// TestOrganizationRule proves that who is not in the rule's organization is
// refused before anything else is looked at, by signature and by introspection,
// and without being told to ask for scopes.
//
// Row: O13.
func TestOrganizationRule(t *testing.T) {
	issuer, cfg := newOKR(t)
	introspecting := cfg
	introspecting.Introspection = issuer.Introspection()
	owner := guardtest.Token{Resource: resource, Organization: "organization-a", Scopes: []string{"read:okrs"}}
	for mode, cfg := range map[string]guard.Config{"signed": cfg, "introspected": introspecting} {
		g := newGuard(t, cfg)
		handler := &ran{}
		narrow := owner
		narrow.Scopes = nil
		other := narrow
		other.Organization = "organization-b"
		prefix := owner
		prefix.Organization = "organization-"
		for _, c := range []struct {
			name, token string
			status      int
			code        string
		}{
			{"the organization's member", issuer.Mint(owner), 202, ""},
			{"its member without the scope", issuer.Mint(narrow), 403, "insufficient_scope"},
			{"another organization", issuer.MintWrong(guardtest.OtherOrganization, owner), guardtest.OtherOrganization.Status(), "access_denied"},
			{"no organization", issuer.MintWrong(guardtest.NoOrganization, owner), guardtest.NoOrganization.Status(), "access_denied"},
			{"another organization, without the scope", issuer.Mint(other), 403, "access_denied"},
			{"the beginning of its id", issuer.Mint(prefix), 403, "access_denied"},
			{"another organization, expired", issuer.MintWrong(guardtest.Expired, other), 401, "invalid_token"},
		} {
			t.Run(mode+" "+c.name, func(t *testing.T) {
				for door, h := range map[string]http.Handler{
					"Protect": g.Protect(handler),
					"Require": g.Require(guard.Permission("objective", "read").In("organization-a"), handler),
				} {
					handler.times = 0
					w := call(h, http.MethodPost, toolCall("home"), bearer(c.token)...)
					if w.Code != c.status || !strings.Contains(w.Body.String(), c.code) || handler.times != map[int]int{202: 1}[c.status] {
						t.Errorf("%s: status %d %s, the handler ran %d times; want %d %s", door, w.Code, w.Body, handler.times, c.status, c.code)
					}
					if challenge := w.Header().Get("WWW-Authenticate"); c.code == "access_denied" && challenge != "" {
						t.Errorf("%s: a challenge that no scope can answer: %s", door, challenge)
					}
				}
			})
		}

		t.Run(mode+" Check", func(t *testing.T) {
			p, err := g.Verify(t.Context(), issuer.Mint(narrow))
			if err != nil {
				t.Fatal(err)
			}
			ctx := guard.WithPrincipal(t.Context(), p)
			act := guard.Permission("objective", "read")
			wantError(t, "its own", guard.Check(ctx, guard.Rule{}.In("organization-a")), nil)
			wantError(t, "another", guard.Check(ctx, guard.Rule{}.In("organization-b")), guard.ErrOtherOrganization)
			wantError(t, "another, behind a scope that is missing", guard.Check(ctx, act, act.In("organization-b")), guard.ErrOtherOrganization)
			wantError(t, "an id that is missing", guard.Check(ctx, guard.Rule{}.In("")), guard.ErrOtherOrganization)
			wantError(t, "its own, without the scope", guard.Check(ctx, act.In("organization-a")), guard.ErrInsufficientScope)
		})
	}
	t.Run("nobody is in the organization without an id", func(t *testing.T) {
		nobody := guard.WithPrincipal(t.Context(), &guard.Principal{})
		wantError(t, "Check", guard.Check(nobody, guard.Rule{}.In("")), guard.ErrOtherOrganization)
	})
	t.Run("In does not change the rule that it comes from", func(t *testing.T) {
		rule := guard.AllOf("a")
		rule.In("organization-a")
		wantError(t, "Check", guard.Check(guard.WithPrincipal(t.Context(), &guard.Principal{Scopes: []string{"a"}}), rule), nil)
	})
}

// TestMay proves what a principal says of itself: by the newest policy, by the
// token's own scopes, and nothing without a policy.
func TestMay(t *testing.T) {
	issuer, cfg := newOKR(t)
	cfg.Scopes[2].Implies = []string{"manage:objectives"} // manage:krs, says the server
	g := newGuard(t, cfg)
	principal := func(t *testing.T, g *guard.Guard, scopes ...string) *guard.Principal {
		t.Helper()
		p, err := g.Verify(t.Context(), issuer.Mint(guardtest.Token{Resource: resource, Scopes: scopes, Lifetime: 3 * time.Hour}))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	for _, c := range []struct {
		name, scopes string
		want         map[string][]string
	}{
		{"nothing", "", map[string][]string{}},
		{"listed actions", "report_kr_status", map[string][]string{"key_result": {"read", "update"}}},
		{"all actions", "manage:objectives", map[string][]string{"objective": {"create", "delete", "read", "update"}}},
		{"together", "read:okrs report_kr_status", map[string][]string{"objective": {"read"}, "key_result": {"read", "update"}}},
		{"scopes that the policy does not have", "openid email", map[string][]string{}},
		{"what a scope implies here was not granted there", "manage:krs", map[string][]string{"key_result": {"create", "delete", "read", "update"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := principal(t, g, strings.Fields(c.scopes)...)
			if got := p.Permissions(); !reflect.DeepEqual(got, c.want) {
				t.Errorf("Permissions %v, want %v", got, c.want)
			}
			for resource, actions := range okrPolicy().Resources {
				for _, action := range append(actions, "*", "", "Read", "reads") {
					if got, want := p.May(resource, action), slices.Contains(c.want[resource], action); got != want {
						t.Errorf("May(%q, %q) = %v", resource, action, got)
					}
				}
			}
			for _, resource := range []string{"", "*", "objectives", "Objective", "self"} {
				if p.May(resource, "read") {
					t.Errorf("May(%q, read)", resource)
				}
			}
		})
	}
	t.Run("a copy is the caller's own", func(t *testing.T) {
		p := principal(t, g, "read:okrs")
		all := p.Permissions()
		all["objective"][0], all["key_result"] = "delete", nil
		own := guard.FromContext(guard.WithPrincipal(t.Context(), p))
		own.Scopes[0] = "manage:objectives"
		if own.May("objective", "delete") || p.May("objective", "delete") || !p.May("key_result", "read") || !own.May("objective", "read") {
			t.Error("who writes into a copy changes what is permitted")
		}
	})
	t.Run("without a token", func(t *testing.T) {
		p := &guard.Principal{Scopes: []string{"manage:objectives"}}
		if all := p.Permissions(); p.May("objective", "read") || all == nil || len(all) > 0 {
			t.Errorf("a principal without a token may %v", all)
		}
		err := guard.Check(guard.WithPrincipal(t.Context(), p), guard.Permission("objective", "read"))
		wantError(t, "Check", err, guard.ErrInsufficientScope)
	})
	t.Run("without a policy", func(t *testing.T) {
		plain := guardtest.New(t)
		p, err := newGuard(t, plain.Config(resource)).Verify(t.Context(), plain.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:okrs"}}))
		if err != nil {
			t.Fatal(err)
		}
		if all := p.Permissions(); p.May("objective", "read") || all == nil || len(all) > 0 {
			t.Errorf("may %v by no policy", all)
		}
		err = guard.Check(guard.WithPrincipal(t.Context(), p), guard.Permission("objective", "read"))
		wantError(t, "Check", err, guard.ErrUnavailable)
	})
	t.Run("a principal from before the change is judged by the newest", func(t *testing.T) {
		p := principal(t, g, "read:okrs")
		if !p.May("objective", "read") {
			t.Fatal("nothing to test with")
		}
		changed := okrPolicy()
		changed.Scopes["read:okrs"] = map[string][]string{"objective": {"delete"}}
		issuer.SetPolicy(changed)
		issuer.Advance(time.Minute)
		if p.May("objective", "read") || !p.May("objective", "delete") || !maps.EqualFunc(p.Permissions(), map[string][]string{"objective": {"delete"}}, slices.Equal) {
			t.Errorf("may %v after the change", p.Permissions())
		}
	})
}

// TestNarrowed proves that Check hears from the issuer what a token may do now:
// a role that was taken away in the middle of an operation ends it.
func TestNarrowed(t *testing.T) {
	issuer, cfg := newOKR(t)
	cfg.Introspection = issuer.Introspection()
	g := newGuard(t, cfg)
	token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:okrs", "manage:objectives"}})
	var before, after, scope, still error
	var allowed bool
	h := g.Require(guard.Permission("objective", "create"), http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		before = guard.Check(r.Context(), guard.Permission("objective", "create"))
		issuer.Narrow(token, "read:okrs")
		issuer.Advance(5 * time.Second)
		after = guard.Check(r.Context(), guard.Permission("objective", "create"))
		scope = guard.Check(r.Context(), guard.AllOf("manage:objectives"))
		still = guard.Check(r.Context(), guard.Permission("objective", "read"))
		allowed = g.Permits(r.Context(), "tools/call", "addObjective") == nil
	}))
	if w := call(h, http.MethodGet, "", bearer(token)...); w.Code != 200 || allowed {
		t.Errorf("status %d; Permits: %v", w.Code, allowed)
	}
	wantError(t, "before", before, nil)
	wantError(t, "after", after, guard.ErrInsufficientScope)
	wantError(t, "the scope itself", scope, guard.ErrInsufficientScope)
	wantError(t, "what is left", still, nil)
	if w := call(h, http.MethodGet, "", bearer(token)...); w.Code != 403 {
		t.Errorf("the next request: status %d, want 403", w.Code)
	}
}

// TestPermissionInOpenStream proves, on both transports with the official
// client, that an operation in a stream is judged by the policy of the moment
// and not by that of the connection (decision 20).
//
// Proves: MCP-RS-23.
func TestPermissionInOpenStream(t *testing.T) {
	for _, transport := range []string{"/sse", "/mcp"} {
		t.Run(transport, func(t *testing.T) {
			issuer, cfg := newOKR(t)
			cfg.Tools["list"], cfg.Tools["create"] = guard.Permission("objective", "read"), guard.Permission("objective", "create")
			g := newGuard(t, cfg)
			todo := newTodoServer()
			server := httptest.NewServer(g.Protect(handlerOf(transport, todo)))
			defer server.Close()
			session, err := mcp.NewClient(&mcp.Implementation{Name: "client", Version: "1"}, nil).Connect(t.Context(),
				clientOf(transport, server.URL, issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:okrs"}})), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer session.Close()
			list := func() error {
				_, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "list"})
				return err
			}
			if err := list(); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			changed := okrPolicy()
			changed.Scopes["read:okrs"] = nil
			issuer.SetPolicy(changed)
			issuer.Advance(time.Minute)
			if err := list(); err == nil || !strings.Contains(err.Error(), "Forbidden") {
				t.Errorf("after the change: %v, want 403 Forbidden", err)
			}
		})
	}
}

func handlerOf(transport string, todo *todoServer) http.Handler {
	get := func(*http.Request) *mcp.Server { return todo.Server }
	if transport == "/sse" {
		return mcp.NewSSEHandler(get, nil)
	}
	return mcp.NewStreamableHTTPHandler(get, nil)
}

func clientOf(transport, url, token string) mcp.Transport {
	var bearer bearerTransport
	bearer.set(token)
	client := &http.Client{Transport: &bearer}
	if transport == "/sse" {
		return &mcp.SSEClientTransport{Endpoint: url + transport, HTTPClient: client}
	}
	return &mcp.StreamableClientTransport{Endpoint: url + transport, HTTPClient: client, MaxRetries: -1}
}

const policyPath = "/.well-known/rbac-policy"

// tap is the wire to the issuer, on which a test can answer for its policy
// endpoint or move it.
type tap struct {
	mu                 sync.Mutex
	answer             func() *http.Response // nil: the issuer's own
	endpoint           string                // "": the issuer's own
	unchanged, changed int                   // answers of the policy endpoint: 304, 200
}

func (t *tap) set(answer func() *http.Response) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.answer = answer
}

func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, policyPath) && t.answer != nil {
		return t.answer(), nil
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	switch {
	case err != nil:
	case r.URL.Path == policyPath && resp.StatusCode == http.StatusNotModified:
		t.unchanged++
	case r.URL.Path == policyPath:
		t.changed++
	case strings.HasSuffix(r.URL.Path, "oauth-authorization-server") && t.endpoint != "":
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		_, after, _ := strings.Cut(string(body), `"rbac_policy_endpoint":"`)
		place, _, _ := strings.Cut(after, `"`)
		resp.Body = io.NopCloser(strings.NewReader(strings.Replace(string(body), place, t.endpoint, 1)))
		resp.ContentLength = -1
	}
	return resp, err
}

// answered makes an answer of the policy endpoint; headers in pairs.
func answered(status int, body string, headers ...string) func() *http.Response {
	return func() *http.Response {
		h := http.Header{"Content-Type": {"application/json"}}
		for i := 0; i+1 < len(headers); i += 2 {
			h.Set(headers[i], headers[i+1])
		}
		return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
	}
}

// redirected leads elsewhere, where the document is.
func redirected(document string) func() *http.Response {
	here := false
	return func() *http.Response {
		if here = !here; here {
			return answered(302, document, "Location", "https://other.example.com"+policyPath)()
		}
		return answered(200, document)()
	}
}

// TestPolicyCache proves when the policy is fetched, how long it is believed,
// and that without one nothing is permitted.
func TestPolicyCache(t *testing.T) {
	// world is a protected server, a token for it that outlives the test, and
	// the wire to its issuer.
	type world struct {
		*guardtest.Issuer
		*tap
		log    *bytes.Buffer
		guard  *guard.Guard
		status func() int // of a request that read:okrs permits
		answer *httptest.ResponseRecorder
	}
	newWorld := func(t *testing.T) *world {
		issuer, cfg := newOKR(t)
		w := &world{Issuer: issuer, tap: &tap{}, log: new(bytes.Buffer)}
		cfg.HTTPClient = &http.Client{Transport: w.tap}
		cfg.Logger = slog.New(slog.NewTextHandler(w.log, nil))
		w.guard = newGuard(t, cfg)
		h := w.guard.Protect(&ran{})
		token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:okrs"}, Lifetime: 24 * time.Hour})
		w.status = func() int {
			w.answer = call(h, http.MethodPost, toolCall("listObjectives"), bearer(token)...)
			return w.answer.Code
		}
		return w
	}
	want := func(t *testing.T, w *world, status int) {
		t.Helper()
		if got := w.status(); got != status {
			t.Errorf("status %d %s, want %d", got, w.answer.Body, status)
		}
	}
	asked := func(t *testing.T, w *world, times int) {
		t.Helper()
		if n := w.Hits(policyPath); n != times {
			t.Errorf("asked %d times, want %d", n, times)
		}
	}

	t.Run("fetched when it is first needed", func(t *testing.T) {
		w := newWorld(t)
		token := w.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:okrs"}})
		call(w.guard.Protect(&ran{}), http.MethodPost, pingBody, bearer(token)...)
		asked(t, w, 0)
		for range 100 {
			want(t, w, 202)
		}
		asked(t, w, 1)
	})
	t.Run("many at once are one fetch", func(t *testing.T) {
		w := newWorld(t)
		p, err := w.guard.Verify(t.Context(), w.Mint(guardtest.Token{Resource: resource, Scopes: []string{"read:okrs"}}))
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				if !p.May("objective", "read") {
					t.Error("not permitted")
				}
			})
		}
		wg.Wait()
		if n := w.Hits(policyPath); n > 2 { // a late one may just miss the first fetch's end
			t.Errorf("%d fetches", n)
		}
	})
	t.Run("a change takes effect within a minute, without a restart", func(t *testing.T) {
		w := newWorld(t)
		want(t, w, 202)
		w.SetPolicy(guardtest.Policy{})
		want(t, w, 202) // nobody has noticed yet
		w.Advance(time.Minute)
		want(t, w, 403)
		w.SetPolicy(okrPolicy())
		w.Advance(time.Minute)
		want(t, w, 202)
	})
	t.Run("the issuer is asked whether anything is new", func(t *testing.T) {
		w := newWorld(t)
		for range 5 {
			want(t, w, 202)
			w.Advance(time.Minute)
		}
		if w.changed != 1 || w.unchanged != 4 || strings.Count(w.log.String(), "version=1") != 2 { // the line about it, and one about the misspelt act
			t.Errorf("%d answers with a policy, %d without:\n%s", w.changed, w.unchanged, w.log)
		}
	})
	t.Run("a busy server notices beside its requests", func(t *testing.T) {
		w := newWorld(t)
		want(t, w, 202)
		w.SetPolicy(guardtest.Policy{})
		w.Advance(30 * time.Second)
		deadline := time.Now().Add(10 * time.Second)
		for w.status() != 403 {
			if time.Now().After(deadline) {
				t.Fatal("the change is not noticed")
			}
			time.Sleep(time.Millisecond)
		}
		asked(t, w, 2)
	})
	t.Run("an issuer whose policy cannot be fetched stops nobody for an hour", func(t *testing.T) {
		w := newWorld(t)
		want(t, w, 202)
		w.set(answered(500, `{}`))
		for range 59 {
			w.Advance(time.Minute)
			want(t, w, 202)
		}
		w.Advance(time.Minute)
		want(t, w, 503)
		if body := w.answer.Body.String(); w.answer.Header().Get("Retry-After") == "" || w.answer.Header().Get("WWW-Authenticate") != "" ||
			strings.Contains(body, "policy") || strings.Contains(body, w.URL) {
			t.Errorf("answer %v %s", w.answer.Header(), body)
		}
		w.set(nil)
		want(t, w, 503) // not asked again at once
		w.Advance(5 * time.Second)
		want(t, w, 202)
	})
	t.Run("while an issuer is down it is asked once in a while", func(t *testing.T) {
		w := newWorld(t)
		questions := 0
		w.set(func() *http.Response { questions++; return answered(500, `{}`)() })
		for range 10 {
			want(t, w, 503)
		}
		w.Advance(5 * time.Second)
		want(t, w, 503)
		if questions != 2 {
			t.Errorf("asked %d times without a policy, want 2", questions)
		}
		w.set(nil)
		w.Advance(5 * time.Second)
		want(t, w, 202)
		questions = 0
		w.set(func() *http.Response { questions++; return answered(500, `{}`)() })
		w.Advance(time.Minute)
		for range 10 {
			want(t, w, 202)
		}
		w.Advance(30 * time.Second)
		for range 10 {
			want(t, w, 202)
		}
		if questions != 2 {
			t.Errorf("asked %d times with an old policy, want 2", questions)
		}
	})
	t.Run("what is refused for other reasons does not wait for a policy", func(t *testing.T) {
		w := newWorld(t)
		w.set(answered(500, `{}`))
		other := guardtest.Token{Resource: resource, Organization: "organization-b"}
		for name, c := range map[string]struct {
			token, tool string
			status      int
		}{
			"expired":              {w.MintWrong(guardtest.Expired, other), "home", 401},
			"another organization": {w.Mint(other), "home", 403},
		} {
			if got := call(w.guard.Protect(&ran{}), http.MethodPost, toolCall(c.tool), bearer(c.token)...); got.Code != c.status {
				t.Errorf("%s: status %d, want %d", name, got.Code, c.status)
			}
		}
	})

	const good = `{"version":9,"resources":[{"resource_id":"objective","actions":["read"]}],"scopes":[{"scope":"read:okrs","permissions":[{"resource_id":"objective","actions":["*"]}]}]}`
	for _, c := range []struct {
		name   string
		answer func() *http.Response
		status int
	}{
		{"a good document", answered(200, good), 202},
		{"of another JSON type", answered(200, good, "Content-Type", "application/policy+json; charset=utf-8"), 202},
		{"of nearly 2 MiB", answered(200, strings.Replace(good, "{", `{"more":"`+strings.Repeat("x", 2<<20-len(good)-10)+`",`, 1)), 202},
		{"of more than 2 MiB", answered(200, strings.Replace(good, "{", `{"more":"`+strings.Repeat("x", 2<<20)+`",`, 1)), 503},
		{"an old document and nothing new", answered(304, ``), 503},
		{"a redirect", redirected(good), 503},
		{"not found", answered(404, good), 503},
		{"a page", answered(200, good, "Content-Type", "text/html"), 503},
		{"not JSON", answered(200, `<html>`), 503},
		{"cut", answered(200, good[:len(good)-1]), 503},
		{"not a policy", answered(200, `{"issuer":"x"}`), 503},
		{"read in two ways", answered(200, strings.Replace(good, `"scopes"`, `"scopes":[],"scopes"`, 1)), 503},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			w.set(c.answer)
			want(t, w, c.status)
			if c.status == 202 {
				return
			}
			if !strings.Contains(w.log.String(), "no policy from the issuer") {
				t.Errorf("the log does not say why: %s", w.log)
			}
			w.set(nil)
			w.Advance(5 * time.Second)
			want(t, w, 202)
			w.set(c.answer)
			w.Advance(time.Minute)
			want(t, w, 202) // the last good one stays
		})
	}

	t.Run("nothing new is no answer to who did not ask so", func(t *testing.T) {
		w := newWorld(t)
		w.set(answered(200, good)) // without an ETag
		want(t, w, 202)
		w.set(answered(304, ``))
		for range 59 {
			w.Advance(time.Minute)
			want(t, w, 202)
		}
		w.Advance(time.Minute)
		want(t, w, 503)
	})

	for _, c := range []struct {
		name     string
		endpoint func(issuer string) string
		status   int
	}{
		{"at another path of the issuer", func(issuer string) string { return issuer + policyPath + "?v=1" }, 202},
		{"at another port", func(string) string { return "http://127.0.0.1:1" + policyPath }, 503},
		{"at another host", func(issuer string) string { return strings.Replace(issuer, "127.0.0.1", "localhost", 1) + policyPath }, 503},
		{"at another scheme", func(issuer string) string { return strings.Replace(issuer, "http:", "https:", 1) + policyPath }, 503},
		{"at a host that only begins like it", func(issuer string) string { return issuer + ".example.com" + policyPath }, 503},
		{"with a user", func(issuer string) string { return strings.Replace(issuer, "//", "//u:p@", 1) + policyPath }, 503},
		{"relative", func(string) string { return policyPath }, 503},
	} {
		t.Run("the endpoint is "+c.name, func(t *testing.T) {
			w := newWorld(t)
			w.endpoint = c.endpoint(w.URL)
			want(t, w, c.status)
			if c.status == 503 {
				asked(t, w, 0)
			}
		})
	}
}

// TestPolicyRaces proves that while the policy changes, everybody is judged by
// one version or the other and never by a mixture.
func TestPolicyRaces(t *testing.T) {
	issuer := guardtest.New(t)
	policies := [2]guardtest.Policy{}
	var complete [2]map[string][]string
	for n, actions := range [2][]string{{"create", "delete"}, {"read", "update"}} {
		complete[n] = map[string][]string{"objective": actions, "key_result": actions}
		policies[n] = guardtest.Policy{
			Resources: okrPolicy().Resources,
			Scopes:    map[string]map[string][]string{"a": {"objective": actions}, "b": {"key_result": actions}},
		}
	}
	issuer.SetPolicy(policies[0])
	g := newGuard(t, issuer.Config(resource, "a", "b"))
	token := issuer.Mint(guardtest.Token{Resource: resource, Scopes: []string{"a", "b"}, Lifetime: 100 * time.Hour})
	h := g.Require(guard.Rule{Acts: []guard.Act{{Resource: "objective", Action: "create"}, {Resource: "key_result", Action: "read"}}}, &ran{})
	var stop atomic.Bool
	var versions [2]atomic.Int32
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for !stop.Load() {
				p, err := g.Verify(t.Context(), token)
				if err != nil {
					t.Errorf("Verify: %v", err)
					return
				}
				switch all := p.Permissions(); {
				case reflect.DeepEqual(all, complete[0]):
					versions[0].Add(1)
				case reflect.DeepEqual(all, complete[1]):
					versions[1].Add(1)
				default:
					t.Errorf("a mixture: %v", all)
				}
				p.May("objective", "read")
				if w := call(h, http.MethodGet, "", bearer(token)...); w.Code != 403 {
					t.Errorf("what no version permits: status %d", w.Code)
				}
			}
		})
	}
	deadline := time.Now().Add(20 * time.Second)
	for n := 1; n <= 20 && time.Now().Before(deadline); n++ {
		seen := versions[n%2].Load()
		issuer.SetPolicy(policies[n%2])
		issuer.Advance(time.Minute)
		for versions[n%2].Load() < seen+100 && time.Now().Before(deadline) {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	wg.Wait()
	if versions[0].Load() < 100 || versions[1].Load() < 100 {
		t.Errorf("versions were seen %d and %d times: nothing was proved", versions[0].Load(), versions[1].Load())
	}
}

// largePolicy has 1,000 acts on 100 resources and 100 scopes with 10 each.
func largePolicy() guardtest.Policy {
	p := guardtest.Policy{Resources: map[string][]string{}, Scopes: map[string]map[string][]string{}}
	for r := range 100 {
		resource := fmt.Sprintf("resource_%02d", r)
		for a := range 10 {
			p.Resources[resource] = append(p.Resources[resource], fmt.Sprintf("action_%d", a))
		}
		p.Scopes[fmt.Sprintf("scope:%02d", r)] = map[string][]string{resource: p.Resources[resource]}
	}
	return p
}

// largePrincipal holds every other scope of largePolicy.
func largePrincipal(tb testing.TB, now func() time.Time) *guard.Principal {
	issuer := guardtest.New(tb)
	issuer.SetPolicy(largePolicy())
	cfg := issuer.Config(resource)
	cfg.Now = now
	token := guardtest.Token{Resource: resource}
	for n := 0; n < 100; n += 2 {
		token.Scopes = append(token.Scopes, fmt.Sprintf("scope:%02d", n))
	}
	p, err := newGuard(tb, cfg).Verify(tb.Context(), issuer.Mint(token))
	if err != nil {
		tb.Fatal(err)
	}
	if !p.May("resource_98", "action_9") || p.May("resource_99", "action_9") {
		tb.Fatal("a principal of another kind")
	}
	return p
}

// TestMayAllocates proves that a decision leaves nothing to collect.
func TestMayAllocates(t *testing.T) {
	p := largePrincipal(t, nil)
	for _, resource := range []string{"resource_98", "resource_99", "resource_none"} {
		if n := testing.AllocsPerRun(1000, func() { p.May(resource, "action_9") }); n != 0 {
			t.Errorf("May(%q) allocates %v times", resource, n)
		}
	}
}

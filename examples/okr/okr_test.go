package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/postern-id/postern/guard/guardtest"
)

// okr is the running example with an issuer that trusts everybody and has the
// policy of policy.yaml.
type okr struct {
	*httptest.Server
	t          *testing.T
	issuer     *guardtest.Issuer
	identities *identities
	service    *Service
	policy     guardtest.Policy
	roles      map[string]map[string][]string // role → resource → actions
}

func startOKR(t *testing.T) *okr {
	t.Helper()
	issuer := guardtest.New(t)
	policy, roles := readPolicy(t)
	issuer.SetPolicy(policy)
	server := httptest.NewUnstartedServer(nil)
	server.Start()
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	service := newService(t)
	identities := &identities{issuer: issuer}
	server.Config.Handler, err = newHandler(settings{
		url: u, issuer: issuer.URL, clientID: "web", organization: issuer.URL + "/organization",
		client: &http.Client{Transport: identities}, now: issuer.Now,
	}, service)
	if err != nil {
		t.Fatal(err)
	}
	return &okr{server, t, issuer, identities, service, policy, roles}
}

// readPolicy reads policy.yaml, which is written plainly enough for a reader
// of lines.
func readPolicy(t *testing.T) (guardtest.Policy, map[string]map[string][]string) {
	t.Helper()
	text, err := os.ReadFile("policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	policy := guardtest.Policy{Resources: map[string][]string{}, Scopes: map[string]map[string][]string{}}
	roles := map[string]map[string][]string{}
	line := regexp.MustCompile(`^ +(?:- )?\{?(role_id|scope|resource_id|actions): ([^,\[]*)(?:, actions: )?(?:\[(.*)\])?`)
	resource := ""
	var permissions map[string][]string // of the role or scope that is being read
	for text := range strings.Lines(string(text)) {
		m := line.FindStringSubmatch(strings.TrimRight(text, "\n"))
		if m == nil {
			continue
		}
		actions := strings.Split(strings.ReplaceAll(m[3], `"`, ""), ", ")
		switch key, value := m[1], m[2]; {
		case key == "role_id":
			permissions = map[string][]string{}
			roles[value] = permissions
		case key == "scope":
			permissions = map[string][]string{}
			policy.Scopes[value] = permissions
		case key == "actions":
			policy.Resources[resource] = actions
		case permissions == nil:
			resource = value
		default:
			permissions[value] = actions
		}
	}
	return policy, roles
}

// grantable returns the scopes that a person with a role can hand on: those
// whose every permission the role covers.
func (s *okr) grantable(role string) []string {
	var scopes []string
	for scope, permissions := range s.policy.Scopes {
		covered := true
		for resource, actions := range permissions {
			if actions[0] == "*" {
				actions = s.policy.Resources[resource]
			}
			held := s.roles[role][resource]
			for _, action := range actions {
				covered = covered && (slices.Contains(held, action) || slices.Contains(held, "*"))
			}
		}
		if covered {
			scopes = append(scopes, scope)
		}
	}
	slices.Sort(scopes)
	return scopes
}

// token is what a connected app of a member gets.
func (s *okr) token(subject, organization string, scopes ...string) string {
	return s.issuer.Mint(guardtest.Token{
		Resource: s.URL + "/mcp", Subject: subject, Organization: organization,
		ClientID: "https://app.example.test/client.json", Scopes: scopes,
	})
}

// call sends a request with a token and a JSON body, if they are not empty.
func (s *okr) call(method, path, token, body string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 10*time.Second) // a stream that opens by mistake has no end
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, s.URL+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	resp, err := http.DefaultTransport.RoundTrip(r) // which follows no redirect
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, string(text)
}

// callTool posts a tool call as an older client does and returns the answer.
func (s *okr) callTool(token, tool, arguments string, headers ...string) (*http.Response, string) {
	s.t.Helper()
	return s.call("POST", "/mcp", token,
		`{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"`+tool+`","arguments":`+arguments+`}}`,
		append(headers, "Accept", "application/json, text/event-stream")...)
}

// bearer adds a token to every request of an MCP client.
type bearer string

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+string(b))
	return http.DefaultTransport.RoundTrip(r)
}

// connect connects the official client by one of the transports.
func (s *okr) connect(t *testing.T, path, token string) *mcp.ClientSession {
	t.Helper()
	client := &http.Client{Transport: bearer(token)}
	var transport mcp.Transport = &mcp.StreamableClientTransport{Endpoint: s.URL + path, HTTPClient: client}
	if path == "/sse" {
		transport = &mcp.SSEClientTransport{Endpoint: s.URL + path, HTTPClient: client}
	}
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), transport, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { session.Close() })
	return session
}

var transports = []string{"/mcp", "/sse"}

// result is what any of the tools answers.
type result struct {
	Message      string
	Organization string
	Objectives   []Objective
	Objective    Objective
	KeyResult    KeyResult
}

// use calls a tool and decodes its result, whose text must be the same JSON as
// its structured content.
func use(t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any) result {
	t.Helper()
	answer, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	text := answer.Content[0].(*mcp.TextContent).Text
	if answer.IsError {
		t.Fatalf("%s: %s", tool, text)
	}
	var r result
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%s: %q is no JSON: %v", tool, text, err)
	}
	var a, b any
	structured, _ := json.Marshal(answer.StructuredContent)
	if json.Unmarshal([]byte(text), &a) != nil || json.Unmarshal(structured, &b) != nil || !cmp.Equal(a, b) || len(answer.Content) != 1 {
		t.Errorf("%s: text %q, structured %s", tool, text, structured)
	}
	return r
}

// refusal calls a tool that must fail and returns what the client is told.
func refusal(t *testing.T, session *mcp.ClientSession, tool string, arguments map[string]any) string {
	t.Helper()
	answer, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: arguments})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	if !answer.IsError {
		t.Fatalf("%s was not refused", tool)
	}
	return answer.Content[0].(*mcp.TextContent).Text
}

func tools(t *testing.T, session *mcp.ClientSession) []string {
	t.Helper()
	list, err := session.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if list.CacheScope != "private" {
		t.Errorf("tools/list has the cache scope %q", list.CacheScope)
	}
	names := []string{}
	for _, tool := range list.Tools {
		names = append(names, tool.Name)
	}
	return names
}

// args are the arguments of a tool that names an objective and a key result.
func args(okr, kr string) map[string]any { return map[string]any{"okrID": okr, "keyResultID": kr} }

// Who may hand on what, by policy.yaml: two, three and four of the four scopes.
func TestPolicyGrantsByRole(t *testing.T) {
	s := startOKR(t)
	for role, want := range map[string][]string{
		"member":  {readOKRs, reportStatus},
		"manager": {manageKeyResults, readOKRs, reportStatus},
		"admin":   {manageKeyResults, manageObjectives, readOKRs, reportStatus},
	} {
		if diff := cmp.Diff(want, s.grantable(role)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", role, diff)
		}
	}
	all := []string{"create", "read", "update", "delete"}
	if diff := cmp.Diff(map[string][]string{"objective": all, "key_result": all}, s.policy.Resources); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}

// Each tool needs its own act and no other.
func TestActs(t *testing.T) {
	s := startOKR(t)
	for tool, act := range map[string][2]string{
		listObjectives:         {"objective", "read"},
		addObjective:           {"objective", "create"},
		deleteObjective:        {"objective", "delete"},
		addKeyResult:           {"key_result", "create"},
		setKeyResultAttainment: {"key_result", "update"},
		deleteKeyResult:        {"key_result", "delete"},
	} {
		s.policy.Scopes = map[string]map[string][]string{readOKRs: {act[0]: {act[1]}}}
		s.issuer.SetPolicy(s.policy)
		s.issuer.Advance(61 * time.Second)
		if got := tools(t, s.connect(t, "/mcp", s.token("ada", "acme", readOKRs))); !cmp.Equal(got, []string{tool}) {
			t.Errorf("%s of %s permits %q, want %s", act[1], act[0], got, tool)
		}
	}
}

// What each role can do through a connected app, by REST and by both
// transports: the tools that are shown are the tools that work.
func TestRoles(t *testing.T) {
	employee := []string{listObjectives, setKeyResultAttainment}
	manager := append(employee[:2:2], addKeyResult, deleteKeyResult)
	for role, may := range map[string][]string{
		"member":  employee,
		"manager": manager,
		"admin":   append(manager[:4:4], addObjective, deleteObjective),
	} {
		t.Run(role, func(t *testing.T) {
			s := startOKR(t)
			token := s.token("ada", "acme", s.grantable(role)...)
			for _, path := range transports {
				names := tools(t, s.connect(t, path, token))
				slices.Sort(may)
				if diff := cmp.Diff(may, names); diff != "" {
					t.Errorf("tools on %s (-want +got):\n%s", path, diff)
				}
			}
			for _, call := range []struct{ tool, method, path, body, arguments string }{
				{listObjectives, "GET", "", "", `{}`},
				{setKeyResultAttainment, "POST", "/OKR/keyresults/KR/attainment", `{"attainment":5}`, `{"okrID":"OKR","keyResultID":"KR","attainment":5}`},
				{addKeyResult, "POST", "/OKR/keyresults", `{"keyResultText":"x"}`, `{"okrID":"OKR","keyResultText":"x"}`},
				{deleteKeyResult, "DELETE", "/OKR/keyresults/KR", "", `{"okrID":"OKR","keyResultID":"KR"}`},
				{addObjective, "POST", "", `{"objectiveText":"x"}`, `{"objectiveText":"x"}`},
				{deleteObjective, "DELETE", "/OKR", "", `{"okrID":"OKR"}`},
			} {
				before := outline(t, s.service, "acme")
				fill := func(text string) string {
					okr := must[Objective](t)(s.service.AddObjective(t.Context(), by("acme"), "to change"))
					kr := must[KeyResult](t)(s.service.AddKeyResult(t.Context(), by("acme"), okr.ID, "to change"))
					before = outline(t, s.service, "acme")
					return strings.NewReplacer("OKR", okr.ID, "KR", kr.ID).Replace(text)
				}
				allowed := slices.Contains(may, call.tool)
				asks := `scope="` + map[string]string{
					addObjective: manageObjectives, deleteObjective: manageObjectives, addKeyResult: manageKeyResults, deleteKeyResult: manageKeyResults,
				}[call.tool]
				path := fill(call.path)
				resp, body := s.call(call.method, "/api/objectives"+path, token, call.body)
				challenge := resp.Header.Get("WWW-Authenticate")
				switch {
				case allowed && resp.StatusCode/100 != 2:
					t.Errorf("%s by REST: %d %s", call.tool, resp.StatusCode, body)
				case !allowed && (resp.StatusCode != http.StatusForbidden || !strings.Contains(body, `"insufficient_scope"`) || !strings.Contains(challenge, asks)):
					t.Errorf("%s by REST: %d %s %s", call.tool, resp.StatusCode, body, challenge)
				case !allowed && !cmp.Equal(before, outline(t, s.service, "acme")):
					t.Errorf("%s by REST changed something", call.tool)
				}
				arguments := fill(call.arguments)
				resp, body = s.callTool(token, call.tool, arguments)
				challenge = resp.Header.Get("WWW-Authenticate")
				switch {
				case allowed && (resp.StatusCode != http.StatusOK || strings.Contains(body, `"isError":true`) || !strings.Contains(body, `structuredContent`)):
					t.Errorf("%s by /mcp: %d %s", call.tool, resp.StatusCode, body)
				case !allowed && (resp.StatusCode != http.StatusForbidden || !strings.Contains(challenge, asks)):
					t.Errorf("%s by /mcp: %d %s %s", call.tool, resp.StatusCode, body, challenge)
				case !allowed && !cmp.Equal(before, outline(t, s.service, "acme")):
					t.Errorf("%s by /mcp changed something", call.tool)
				}
				var in map[string]any
				if err := json.Unmarshal([]byte(fill(call.arguments)), &in); err != nil {
					t.Fatal(err)
				}
				answer, err := s.connect(t, "/sse", token).CallTool(t.Context(), &mcp.CallToolParams{Name: call.tool, Arguments: in})
				if done := err == nil && !answer.IsError; done != allowed || !allowed && !cmp.Equal(before, outline(t, s.service, "acme")) {
					t.Errorf("%s by /sse: %+v, %v", call.tool, answer, err)
				}
			}
		})
	}
}

func TestTools(t *testing.T) {
	for _, path := range transports {
		t.Run(path, func(t *testing.T) {
			s := startOKR(t)
			session := s.connect(t, path, s.token("ada", "acme", s.grantable("admin")...))
			list, err := session.ListTools(t.Context(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, tool := range list.Tools {
				if schema, _ := json.Marshal(tool.OutputSchema); strings.Contains(string(schema), `"null"`) {
					t.Errorf("%s: the result may be null, says %s", tool.Name, schema)
				}
			}
			all := use(t, session, listObjectives, nil)
			if all.Organization != "acme" || len(all.Objectives) != 1 || len(all.Objectives[0].KeyResults) != 2 {
				t.Errorf("a new organization: %+v", all)
			}
			added := use(t, session, addObjective, map[string]any{"objectiveText": "Grow"})
			id := added.Objective.ID
			if added.Message == "" || added.Organization != "acme" || added.Objective.Text != "Grow" {
				t.Errorf("added %+v", added)
			}
			kr := use(t, session, addKeyResult, map[string]any{"okrID": id, "keyResultText": "20 customers"}).KeyResult
			set := use(t, session, setKeyResultAttainment, map[string]any{"okrID": id, "keyResultID": kr.ID, "attainment": 64})
			if set.KeyResult.ID != kr.ID || set.KeyResult.Objective != id || set.KeyResult.Attainment != 64 || set.Message != "The key result is at 64 % now." {
				t.Errorf("set %+v", set)
			}
			all = use(t, session, listObjectives, nil)
			if len(all.Objectives) != 2 || all.Objectives[1].KeyResults[0] != set.KeyResult {
				t.Errorf("list %+v", all)
			}
			use(t, session, deleteKeyResult, args(id, kr.ID))
			for _, attainment := range []any{-1, 101, 1e300, "64", 6.4, nil} {
				refusal(t, session, setKeyResultAttainment, map[string]any{"okrID": id, "keyResultID": kr.ID, "attainment": attainment})
			}
			refusal(t, session, setKeyResultAttainment, args(id, kr.ID))
			for tool, want := range map[string]string{
				deleteKeyResult: "There is no key result with that id in that objective.",
				addObjective:    "Write 1 to 300 characters, on one line.",
			} {
				if got := refusal(t, session, tool, map[string]map[string]any{
					deleteKeyResult: args(id, kr.ID), addObjective: {"objectiveText": " "},
				}[tool]); got != want {
					t.Errorf("%s: %q, want %q", tool, got, want)
				}
			}
			use(t, session, deleteObjective, map[string]any{"okrID": id})
			if got := refusal(t, session, deleteObjective, map[string]any{"okrID": id}); got != "There is no objective with that id." {
				t.Errorf("deleting it again: %q", got)
			}
			if diff := cmp.Diff(seeded, outline(t, s.service, "acme")); diff != "" {
				t.Errorf("in the end (-want +got):\n%s", diff)
			}
		})
	}
}

// uris lists the resources that a caller is shown, and their templates.
func uris(t *testing.T, session *mcp.ClientSession) (resources, templates []string) {
	t.Helper()
	list, err := session.ListResources(t.Context(), nil)
	if err != nil || list.CacheScope != "private" {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, r := range list.Resources {
		resources = append(resources, r.URI)
	}
	kinds, err := session.ListResourceTemplates(t.Context(), nil)
	if err != nil || kinds.CacheScope != "private" {
		t.Fatalf("%+v, %v", kinds, err)
	}
	for _, r := range kinds.ResourceTemplates {
		templates = append(templates, r.URITemplate)
	}
	return resources, templates
}

// Resources are filtered and judged by kind: who may read key results only sees
// no objective.
func TestResources(t *testing.T) {
	for _, path := range transports {
		t.Run(path, func(t *testing.T) {
			s := startOKR(t)
			o := must[[]Objective](t)(s.service.List(t.Context(), "acme"))[0]
			objective := []string{objectivesAt + o.ID}
			results := []string{keyResultsAt + o.KeyResults[0].ID, keyResultsAt + o.KeyResults[1].ID}
			for scope, want := range map[string][2][]string{
				readOKRs:         {append(objective[:1:1], results...), {objectivesAt + "{id}", keyResultsAt + "{id}"}},
				reportStatus:     {results, {keyResultsAt + "{id}"}},
				manageKeyResults: {results, {keyResultsAt + "{id}"}},
				manageObjectives: {objective, {objectivesAt + "{id}"}},
			} {
				session := s.connect(t, path, s.token("ada", "acme", scope))
				resources, templates := uris(t, session)
				slices.Sort(templates)
				slices.Sort(want[1])
				if diff := cmp.Diff(want, [2][]string{resources, templates}); diff != "" {
					t.Errorf("%s (-want +got):\n%s", scope, diff)
				}
				for _, uri := range append(objective[:1:1], results...) {
					got, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri})
					if listed := slices.Contains(want[0], uri); listed != (err == nil) {
						t.Errorf("%s reads %s: %v", scope, uri, err)
					}
					if err != nil {
						if !strings.Contains(err.Error(), "do not include reading this") {
							t.Errorf("%s reads %s: %v", scope, uri, err)
						}
						continue
					}
					var read struct{ ID, OKRID string }
					if err := json.Unmarshal([]byte(got.Contents[0].Text), &read); err != nil || !strings.HasSuffix(uri, "/"+read.ID) || got.CacheScope != "private" {
						t.Errorf("%s: %+v, %v", uri, got.Contents[0], err)
					}
				}
				for _, uri := range []string{objectivesAt + "made-up", objectivesAt, keyResultsAt, objectivesAt + o.KeyResults[0].ID, "file:///etc/passwd"} {
					if _, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri}); err == nil {
						t.Errorf("%s was read", uri)
					}
				}
			}
		})
	}
}

// The objectives of one organization do not exist for another, whichever way
// its members ask, whatever they may do at home.
func TestTwoOrganizations(t *testing.T) {
	s := startOKR(t)
	theirs := must[[]Objective](t)(s.service.List(t.Context(), "acme"))[0]
	ceo := s.token("bob", "rival", s.grantable("admin")...)
	for _, ids := range [][2]string{{theirs.ID, theirs.KeyResults[0].ID}, {"0123456789abcdef0123456789abcdef", "made-up"}} {
		for route, body := range map[string]string{
			"DELETE /api/objectives/" + ids[0]:                                            "",
			"POST /api/objectives/" + ids[0] + "/keyresults":                              `{"keyResultText":"x"}`,
			"POST /api/objectives/" + ids[0] + "/keyresults/" + ids[1] + "/attainment":    `{"attainment":1}`,
			"DELETE /api/objectives/" + ids[0] + "/keyresults/" + ids[1]:                  "",
			"DELETE /api/objectives/" + strings.ToUpper(ids[0]) + "/keyresults/" + ids[1]: "",
		} {
			method, path, _ := strings.Cut(route, " ")
			resp, got := s.call(method, path, ceo, body)
			if resp.StatusCode != http.StatusNotFound || !strings.HasPrefix(got, `{"error":"not_found","error_description":"There is no `) {
				t.Errorf("%s: %d %s", route, resp.StatusCode, got)
			}
		}
		for _, path := range transports {
			session := s.connect(t, path, ceo)
			for tool, in := range map[string]map[string]any{
				deleteObjective:        {"okrID": ids[0]},
				addKeyResult:           {"okrID": ids[0], "keyResultText": "x"},
				setKeyResultAttainment: {"okrID": ids[0], "keyResultID": ids[1], "attainment": 1},
				deleteKeyResult:        args(ids[0], ids[1]),
			} {
				if got := refusal(t, session, tool, in); !strings.HasPrefix(got, "There is no ") {
					t.Errorf("%s on %s: %q", tool, path, got)
				}
			}
			for _, uri := range []string{objectivesAt + ids[0], keyResultsAt + ids[1]} {
				if got, err := session.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri}); err == nil {
					t.Errorf("%s on %s: %+v", uri, path, got)
				}
			}
			if resources, _ := uris(t, session); slices.Contains(resources, objectivesAt+theirs.ID) || len(resources) != 3 {
				t.Errorf("resources on %s: %q", path, resources)
			}
			if all := use(t, session, listObjectives, nil); all.Organization != "rival" || len(all.Objectives) != 1 || all.Objectives[0].ID == theirs.ID {
				t.Errorf("list on %s: %+v", path, all)
			}
		}
	}
	if _, body := s.call("GET", "/api/objectives", ceo, ""); strings.Contains(body, theirs.ID) {
		t.Errorf("list: %s", body)
	}
	if diff := cmp.Diff(theirs, must[Objective](t)(s.service.Objective(t.Context(), "acme", theirs.ID))); diff != "" {
		t.Errorf("theirs has changed:\n%s", diff)
	}
	if len(must[[]Event](t)(s.service.Events(t.Context(), "acme"))) != 0 {
		t.Error("they see what another organization's app tried")
	}
}

// Nobody acts outside an organization, however much their token permits.
func TestNoOrganization(t *testing.T) {
	s := startOKR(t)
	nobody := s.token("ada", "", s.grantable("admin")...)
	for _, route := range []string{"GET /api/objectives", "DELETE /api/objectives/x", "GET /sse"} {
		method, path, _ := strings.Cut(route, " ")
		if resp, body := s.call(method, path, nobody, ""); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s: %d %s", route, resp.StatusCode, body)
		}
	}
	if resp, body := s.callTool(nobody, listObjectives, `{}`); resp.StatusCode != http.StatusForbidden || !strings.Contains(body, "access_denied") {
		t.Errorf("tool: %d %s", resp.StatusCode, body)
	}
}

// A person unticked a scope: the challenge names the smallest that is missing.
func TestStepUp(t *testing.T) {
	s := startOKR(t)
	reader := s.token("ada", "acme", readOKRs)
	o := must[[]Objective](t)(s.service.List(t.Context(), "acme"))[0]
	for tool, want := range map[string]string{
		addObjective:           manageObjectives,
		deleteObjective:        manageObjectives,
		addKeyResult:           manageKeyResults,
		deleteKeyResult:        manageKeyResults,
		setKeyResultAttainment: reportStatus, // not manage:krs, which permits more
	} {
		for _, headers := range [][]string{nil, {"MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", tool}} {
			resp, body := s.callTool(reader, tool, `{}`, headers...)
			got := resp.Header.Get("WWW-Authenticate")
			if resp.StatusCode != http.StatusForbidden || !strings.Contains(got, `error="insufficient_scope"`) || !strings.Contains(got, want) ||
				want == reportStatus && strings.Contains(got, manageKeyResults) {
				t.Errorf("%s: %d %s %s", tool, resp.StatusCode, got, body)
			}
		}
	}
	use(t, s.connect(t, "/mcp", s.token("ada", "acme", readOKRs, reportStatus)), setKeyResultAttainment,
		map[string]any{"okrID": o.ID, "keyResultID": o.KeyResults[0].ID, "attainment": 10})
}

// A policy that changes takes effect in an open stream, without a restart.
func TestPolicyChanges(t *testing.T) {
	s := startOKR(t)
	token := s.token("ada", "acme", readOKRs, manageObjectives)
	streams := map[string]*mcp.ClientSession{}
	for _, path := range transports {
		streams[path] = s.connect(t, path, token)
		use(t, streams[path], addObjective, map[string]any{"objectiveText": "before"})
	}
	before := outline(t, s.service, "acme")
	delete(s.policy.Scopes, manageObjectives)
	s.issuer.SetPolicy(s.policy)
	s.issuer.Advance(61 * time.Second)
	for _, path := range transports {
		if got := tools(t, streams[path]); !cmp.Equal(got, []string{listObjectives}) {
			t.Errorf("tools on %s: %q", path, got)
		}
		answer, err := streams[path].CallTool(t.Context(), &mcp.CallToolParams{Name: addObjective, Arguments: map[string]any{"objectiveText": "after"}})
		if err == nil && !answer.IsError {
			t.Errorf("%s added one", path)
		}
	}
	if diff := cmp.Diff(before, outline(t, s.service, "acme")); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

// Without a policy nobody may do anything, and that is no programming error.
func TestNoPolicy(t *testing.T) {
	s := startOKR(t)
	token := s.token("ada", "acme", s.grantable("admin")...)
	s.issuer.SetPolicy(guardtest.Policy{Resources: map[string][]string{"other": {"read"}}})
	if resp, body := s.call("GET", "/api/objectives", token, ""); resp.StatusCode != http.StatusForbidden {
		t.Errorf("a policy that does not know objectives: %d %s", resp.StatusCode, body)
	}
	if got := tools(t, s.connect(t, "/mcp", token)); len(got) != 0 {
		t.Errorf("tools %q", got)
	}
}

func TestREST(t *testing.T) {
	s := startOKR(t)
	ceo := s.token("ada", "acme", s.grantable("admin")...)
	resp, body := s.call("POST", "/api/objectives", ceo, `{"objectiveText":"Grow"}`)
	var one result
	if err := json.Unmarshal([]byte(body), &one); err != nil || resp.StatusCode != http.StatusCreated || one.Objective.Text != "Grow" {
		t.Fatalf("add: %d %s", resp.StatusCode, body)
	}
	at := "/api/objectives/" + one.Objective.ID
	resp, body = s.call("POST", at+"/keyresults", ceo, `{"keyResultText":"20 customers"}`)
	if err := json.Unmarshal([]byte(body), &one); err != nil || resp.StatusCode != http.StatusCreated || one.KeyResult.Text != "20 customers" {
		t.Fatalf("add key result: %d %s", resp.StatusCode, body)
	}
	kr := at + "/keyresults/" + one.KeyResult.ID
	if resp, body := s.call("POST", kr+"/attainment", ceo, `{"attainment":0}`); resp.StatusCode != http.StatusOK || !strings.Contains(body, `"attainment":0`) {
		t.Errorf("attainment: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.call("GET", "/api/objectives", ceo, ""); resp.StatusCode != http.StatusOK || !strings.Contains(body, `{"objectives":[{"id":"`) || !strings.Contains(body, "20 customers") {
		t.Errorf("list: %d %s", resp.StatusCode, body)
	}

	for _, test := range []struct {
		name, method, path, token, body string
		headers                         []string
		status                          int
		code                            string
	}{
		{"no token", "GET", "/api/objectives", "", "", nil, 401, ""},
		{"broken token", "GET", "/api/objectives", "nonsense", "", nil, 401, "invalid_token"},
		{"token for another resource", "GET", "/api/objectives", s.issuer.Mint(guardtest.Token{Resource: "https://other.example.test", Organization: "acme", Scopes: []string{readOKRs}}), "", nil, 401, "invalid_token"},
		{"no scope", "GET", "/api/objectives", s.token("ada", "acme"), "", nil, 403, "insufficient_scope"},
		{"no organization", "GET", "/api/objectives", s.token("ada", "", readOKRs), "", nil, 403, "access_denied"},
		{"unknown objective", "DELETE", "/api/objectives/made-up", ceo, "", nil, 404, "not_found"},
		{"unknown key result", "DELETE", at + "/keyresults/made-up", ceo, "", nil, 404, "not_found"},
		{"unknown path", "GET", "/api/objective", ceo, "", nil, 404, "not_found"},
		{"unknown path below", "GET", at + "/keyresults/x/y", ceo, "", nil, 404, "not_found"},
		{"unknown method", "PUT", "/api/objectives", ceo, "", nil, 405, "method_not_allowed"},
		{"unknown method of one", "GET", at, ceo, "", nil, 405, "method_not_allowed"},
		{"attainment is not read", "GET", kr + "/attainment", ceo, "", nil, 405, "method_not_allowed"},
		{"a form", "POST", "/api/objectives", ceo, "objectiveText=x", []string{"Content-Type", "application/x-www-form-urlencoded"}, 415, "unsupported_media_type"},
		{"plain text, as another site may send", "POST", "/api/objectives", ceo, `{"objectiveText":"x"}`, []string{"Content-Type", "text/plain"}, 415, "unsupported_media_type"},
		{"broken JSON", "POST", "/api/objectives", ceo, `{"objectiveText":`, nil, 400, "invalid_request"},
		{"no text", "POST", "/api/objectives", ceo, `{}`, nil, 400, "invalid_request"},
		{"above 100", "POST", kr + "/attainment", ceo, `{"attainment":101}`, nil, 400, "invalid_request"},
		{"below 0", "POST", kr + "/attainment", ceo, `{"attainment":-1}`, nil, 400, "invalid_request"},
		{"too large to be a number", "POST", kr + "/attainment", ceo, `{"attainment":1e300}`, nil, 400, "invalid_request"},
		{"half a per cent", "POST", kr + "/attainment", ceo, `{"attainment":0.5}`, nil, 400, "invalid_request"},
		{"no attainment", "POST", kr + "/attainment", ceo, `{}`, nil, 400, "invalid_request"},
		{"a text for attainment", "POST", kr + "/attainment", ceo, `{"attainment":"5"}`, nil, 400, "invalid_request"},
		{"too large", "POST", "/api/objectives", ceo, `{"objectiveText":"` + strings.Repeat("x", 20<<10) + `"}`, nil, 413, "too_large"},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, body := s.call(test.method, test.path, test.token, test.body, test.headers...)
			var answer struct {
				Error       string
				Description string `json:"error_description"`
			}
			if err := json.Unmarshal([]byte(body), &answer); err != nil || resp.StatusCode != test.status || resp.Header.Get("Content-Type") != "application/json" {
				t.Fatalf("%d %s %s; want %d in JSON", resp.StatusCode, resp.Header.Get("Content-Type"), body, test.status)
			}
			if test.code != "" && answer.Error != test.code || answer.Description == "" {
				t.Errorf("answered %s, want the error %q and a sentence", body, test.code)
			}
			if (test.status == 405) != (resp.Header.Get("Allow") != "") {
				t.Errorf("Allow: %q", resp.Header.Get("Allow"))
			}
		})
	}
	if resp, _ := s.call("PUT", "/api/objectives", ceo, ""); resp.Header.Get("Allow") != "GET, POST" {
		t.Errorf("Allow: %q", resp.Header.Get("Allow"))
	}
	if resp, body := s.call("DELETE", kr, ceo, ""); resp.StatusCode != http.StatusOK {
		t.Errorf("delete: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.call("DELETE", at, ceo, ""); resp.StatusCode != http.StatusOK {
		t.Errorf("delete: %d %s", resp.StatusCode, body)
	}
}

// What agents do, and what they may not do, is noted, whichever door they take.
func TestAgentsAreNoted(t *testing.T) {
	s := startOKR(t)
	employee, ceo := s.token("eve", "acme", s.grantable("member")...), s.token("ada", "acme", s.grantable("admin")...)
	s.call("POST", "/api/objectives", ceo, `{"objectiveText":"by REST"}`)
	use(t, s.connect(t, "/sse", ceo), addObjective, map[string]any{"objectiveText": "by SSE"})
	s.call("GET", "/api/objectives", employee, "") // reading is no news
	s.callTool(employee, addObjective, `{"objectiveText":"x"}`)
	s.callTool(employee, deleteObjective, `{"okrID":"x"}`, "MCP-Protocol-Version", "2026-07-28", "Mcp-Method", "tools/call", "Mcp-Name", deleteObjective)
	s.call("DELETE", "/api/objectives/x/keyresults/y", employee, "")
	s.call("DELETE", "/api/objectives/x/keyresults/y", employee, "")
	// None of these is somebody's try at something that they may not do.
	s.callTool("nonsense", addObjective, `{}`)
	s.callTool(employee, "madeUp", `{}`)
	s.callTool(ceo, addKeyResult, `{}`, "Origin", "https://evil.example")
	s.callTool(s.token("eve", "", readOKRs), addObjective, `{}`)
	own := s.issuer.Mint(guardtest.Token{
		Resource: s.URL + "/mcp", Subject: "ada", ClientID: "web", Organization: "acme", Scopes: []string{manageObjectives},
	})
	s.call("POST", "/api/objectives", own, `{"objectiveText":"by the page's own script"}`)
	s.call("DELETE", "/api/objectives/x/keyresults/y", own, "")

	var got []string
	for _, e := range must[[]Event](t)(s.service.Events(t.Context(), "acme")) {
		if e.Client != "https://app.example.test/client.json" || time.Since(e.At) > time.Minute {
			t.Errorf("%+v", e)
		}
		line := e.Subject + " " + e.Operation + " " + e.About
		if e.Refused {
			line += "refused"
		}
		got = append(got, line)
	}
	slices.Reverse(got)
	want := []string{
		"ada addObjective by REST", "ada addObjective by SSE",
		"eve addObjective refused", "eve deleteObjective refused", "eve deleteKeyResult refused",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A page of another name that points at this computer gets nothing.
func TestHosts(t *testing.T) {
	s := startOKR(t)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/mcp", "/sse", "/api/objectives", "/.well-known/oauth-protected-resource/mcp"} {
		for _, host := range []string{"evil.example", "evil.example:" + u.Port(), "127.0.0.1.evil.example"} {
			if resp, body := s.call("POST", path, s.token("ada", "acme", readOKRs), `{}`, "Host", host); resp.StatusCode != http.StatusMisdirectedRequest {
				t.Errorf("%s of %s: %d %s", path, host, resp.StatusCode, body)
			}
		}
	}
	if resp, _ := s.call("GET", "/page?x=1", "", "", "Host", "[::1]:"+u.Port()); resp.StatusCode != http.StatusTemporaryRedirect || resp.Header.Get("Location") != s.URL+"/page?x=1" {
		t.Errorf("by address: %d to %q", resp.StatusCode, resp.Header.Get("Location"))
	}
	if resp, _ := s.call("GET", "/healthz", "", "", "Host", "10.0.0.1"); resp.StatusCode != http.StatusOK {
		t.Errorf("healthz: %d", resp.StatusCode)
	}
	if resp, _ := s.call("POST", "/mcp", s.token("ada", "acme", readOKRs), `{}`, "Origin", "https://evil.example"); resp.StatusCode != http.StatusForbidden {
		t.Errorf("foreign origin at /mcp: %d", resp.StatusCode)
	}
}

// The first challenge asks for all four scopes: the person unticks what they do
// not want, and the issuer what their role does not include.
func TestMetadata(t *testing.T) {
	s := startOKR(t)
	resp, _ := s.call("POST", "/mcp", "", `{}`)
	challenge := resp.Header.Get("WWW-Authenticate")
	for _, scope := range []string{readOKRs, reportStatus, manageKeyResults, manageObjectives} {
		if _, body := s.call("GET", "/.well-known/oauth-protected-resource/mcp", "", ""); !strings.Contains(body, scope) || !strings.Contains(challenge, scope) {
			t.Errorf("%s is not in %s or in %s", scope, body, challenge)
		}
		if s.policy.Scopes[scope] == nil {
			t.Errorf("policy.yaml has no %s", scope)
		}
	}
	if len(s.policy.Scopes) != 4 || resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("%d, scopes %v", resp.StatusCode, s.policy.Scopes)
	}
}

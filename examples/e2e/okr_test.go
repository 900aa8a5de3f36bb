package e2e_test

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/modelcontextprotocol/go-sdk/mcp"
)

// office is a server with a B2B project, and the OKR manager beside it.
type office struct {
	*postern
	okr string // address of the OKR manager
}

// newOffice sets one up. introspect lets the OKR manager ask the server about
// every token.
func newOffice(t *testing.T, db database, introspect bool) *office {
	t.Helper()
	p := serve(t, db)
	p.run(t, nil, "project", "create", "OKR", "--b2b")
	policy, err := filepath.Abs("../okr/policy.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p.run(t, nil, "policy", "apply", "--yes", "-f", policy)
	p.await(t, p.issuer+"/readyz")
	port := freePort(t)
	o := &office{p, "http://localhost:" + port}
	add := []string{"resource", "add", o.okr + "/mcp", "--offline", "--default", "--alias", o.okr + "/sse", "--secret"}
	for _, scope := range everyScope() {
		add = append(add, "--scope", scope)
	}
	var registered resource
	p.run(t, &registered, add...)
	var web struct {
		ID string `json:"client_id"`
	}
	p.run(t, &web, "client", "create", "--name", "OKR", "--type", "first-party-public", "--bypass-consent", "--redirect-uri", o.okr+"/callback")
	env := environment("OKR_URL="+o.okr, "OKR_ISSUER="+p.issuer, "OKR_CLIENT_ID="+web.ID, "OKR_DATA="+filepath.Join(p.dir, "okr.db"))
	if introspect {
		env = append(env, "OKR_INTROSPECTION_ID="+registered.ID, "OKR_INTROSPECTION_SECRET="+registered.Secret)
	}
	start(t, p.dir, env, "okr").await(t, o.okr+"/healthz")
	p.awaitMetadata(t, naming(registered.URI))
	// A server that is ready already takes a second for the RSA key of a new
	// project, and the page wants an id_token.
	p.awaitAt(t, "/.well-known/jwks.json", naming("RS256"))
	return o
}

// The scopes of policy.yaml.
const (
	readOKRs         = "read:okrs"
	reportStatus     = "report_kr_status"
	manageKeyResults = "manage:krs"
	manageObjectives = "manage:objectives"
)

func everyScope() []string {
	return []string{readOKRs, reportStatus, manageKeyResults, manageObjectives}
}

// organization makes one and returns its id.
func (o *office) organization(t *testing.T, slug string) string {
	t.Helper()
	var created struct {
		ID string `json:"organization_id"`
	}
	o.run(t, &created, "organization", "create", slug, "--slug", slug)
	return created.ID
}

// member adds a member with a role ("" for none but everybody's), and an app of
// theirs that nobody has let in yet.
func (o *office) member(t *testing.T, organization, email, role string) (*person, *app) {
	t.Helper()
	args := []string{"member", "add", email, "--organization", organization}
	if role != "" {
		args = append(args, "--role", role)
	}
	o.run(t, nil, args...)
	who := newPerson(t, o.postern, email)
	return who, newApp(t, who, byRegistration, nil)
}

// set changes a member, and wants it to succeed.
func (o *office) set(t *testing.T, args ...string) {
	t.Helper()
	o.run(t, nil, args...)
}

// objective and keyResult are as tools, REST and resources show them.
type objective struct {
	ID         string
	Text       string      `json:"objectiveText"`
	KeyResults []keyResult `json:"keyResults"`
}

type keyResult struct {
	ID         string
	Text       string
	Attainment int
}

// objectives are what a session is shown.
func objectives(t *testing.T, session *mcp.ClientSession) []objective {
	t.Helper()
	var all struct{ Objectives []objective }
	if err := call(t, session, "listObjectives", nil, &all); err != nil {
		t.Fatal(err)
	}
	return all.Objectives
}

// add adds an objective with a key result.
func add(t *testing.T, session *mcp.ClientSession, text string) (objectiveID, keyResultID string) {
	t.Helper()
	var first struct{ Objective objective }
	if err := call(t, session, "addObjective", map[string]any{"objectiveText": text}, &first); err != nil {
		t.Fatal(err)
	}
	var second struct{ KeyResult keyResult }
	if err := call(t, session, "addKeyResult", map[string]any{"okrID": first.Objective.ID, "keyResultText": text}, &second); err != nil {
		t.Fatal(err)
	}
	return first.Objective.ID, second.KeyResult.ID
}

// operation is a tool, its REST route, what both take, and the scopes of which
// one permits it.
type operation struct {
	tool, method, path string
	arguments          map[string]any
	scopes             []string
}

// operations are all there are, on one objective and its key result. One after
// the other they can all succeed by either door.
func operations(okr, kr string) []operation {
	at := "/api/objectives/" + okr
	return []operation{
		{"listObjectives", http.MethodGet, "/api/objectives", map[string]any{}, []string{readOKRs, manageObjectives}},
		{
			"setKeyResultAttainment", http.MethodPost, at + "/keyresults/" + kr + "/attainment",
			map[string]any{"okrID": okr, "keyResultID": kr, "attainment": 40},
			[]string{reportStatus, manageKeyResults},
		},
		{
			"addKeyResult", http.MethodPost, at + "/keyresults",
			map[string]any{"okrID": okr, "keyResultText": "Twenty customers"},
			[]string{manageKeyResults},
		},
		{
			"deleteKeyResult", http.MethodDelete, at + "/keyresults/" + kr,
			map[string]any{"okrID": okr, "keyResultID": kr},
			[]string{manageKeyResults},
		},
		{"addObjective", http.MethodPost, "/api/objectives", map[string]any{"objectiveText": "Be known"}, []string{manageObjectives}},
		{"deleteObjective", http.MethodDelete, at, map[string]any{"okrID": okr}, []string{manageObjectives}},
	}
}

// rest sends an operation to the REST API, as a program with a token.
func (o *office) rest(t *testing.T, op operation, token string) (status int, body string) {
	t.Helper()
	arguments, err := json.Marshal(op.arguments)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), op.method, o.okr+op.path, strings.NewReader(string(arguments)))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+token)
	if status, body, err = roundTrip(http.DefaultClient, r); err != nil {
		t.Fatal(err)
	}
	return status, body
}

// message is a call of an operation's tool as the transports carry it.
func (op operation) message(t *testing.T) string {
	t.Helper()
	text, err := json.Marshal(map[string]any{
		"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": map[string]any{"name": op.tool, "arguments": op.arguments},
	})
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// forbidden checks that an operation is refused by tool and by REST, with the
// scope to ask for.
func (o *office) forbidden(t *testing.T, op operation, token string) {
	t.Helper()
	status, challenge, body := post(t, o.okr+"/mcp", token, op.message(t))
	asks := slices.ContainsFunc(op.scopes, func(scope string) bool { return strings.Contains(challenge, `scope="`+scope+`"`) })
	if status != http.StatusForbidden || !strings.Contains(challenge, `error="insufficient_scope"`) || !asks {
		t.Errorf("the tool %s: %d %s %s", op.tool, status, challenge, body)
	}
	if status, body := o.rest(t, op, token); status != http.StatusForbidden {
		t.Errorf("%s %s: %d %s", op.method, op.path, status, body)
	}
}

// held is the access token of an app, and what is in it.
func held(t *testing.T, a *app) (token string, scopes []string) {
	t.Helper()
	now, err := a.wallet.now()
	if err != nil {
		t.Fatal(err)
	}
	var c struct{ Scope string }
	decodeClaims(t, now.AccessToken, &c)
	scopes = strings.Fields(c.Scope)
	slices.Sort(scopes)
	return now.AccessToken, scopes
}

// refresh makes an app take new tokens by listing its tools.
func refresh(t *testing.T, a *app, session *mcp.ClientSession) (token string, scopes []string) {
	t.Helper()
	a.wallet.expire()
	tools(t, session)
	return held(t, a)
}

// refreshRefused checks that an app gets no new tokens, and no answer.
func refreshRefused(t *testing.T, a *app, session *mcp.ClientSession) {
	t.Helper()
	a.person = nil
	a.wallet.expire()
	if err := call(t, session, "listObjectives", nil, new(any)); err == nil {
		t.Error("the call went through")
	}
	if _, refused := a.wallet.now(); refused == nil || !strings.Contains(refused.Error(), "invalid_grant") {
		t.Errorf("the refresh: %v, want invalid_grant", refused)
	}
}

// Organizations, roles and scopes, with the programs that people run: who is
// asked what, which tools there are then, and what each of them may do; and
// that what changes beside the server takes effect.
func TestOKR(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		o := newOffice(t, db, false)
		for name, test := range map[string]func(*testing.T, *office){
			"roles": testRoles, "step-up": testRoleStepUp, "two organizations": testTwoOrganizations,
			"role removed": testRoleRemoved, "member removed": testMemberRemoved, "app policy": testAppPolicy,
		} {
			t.Run(name, func(t *testing.T) { test(t, o) })
		}
	})
}

// Three roles are asked the same and can allow two, three and four scopes. The
// tools that are listed are those that are allowed, and the others are refused,
// by every door. Row: O03.
func testRoles(t *testing.T, o *office) {
	o.organization(t, "roles")
	admin, adminApp := o.member(t, "roles", "admin@roles.test", "admin")
	adminSession := adminApp.mustConnect(o.okr + "/mcp")
	employee, employeeApp := o.member(t, "roles", "employee@roles.test", "")
	manager, managerApp := o.member(t, "roles", "manager@roles.test", "manager")
	for _, test := range []struct {
		who    *person
		app    *app
		scopes []string
		tools  []string
	}{
		{employee, employeeApp, []string{readOKRs, reportStatus}, []string{"listObjectives", "setKeyResultAttainment"}},
		{
			manager, managerApp,
			[]string{manageKeyResults, readOKRs, reportStatus},
			[]string{"addKeyResult", "deleteKeyResult", "listObjectives", "setKeyResultAttainment"},
		},
		{admin, adminApp, slices.Sorted(slices.Values(everyScope())), []string{
			"addKeyResult", "addObjective", "deleteKeyResult", "deleteObjective", "listObjectives", "setKeyResultAttainment",
		}},
	} {
		t.Run(test.who.email, func(t *testing.T) {
			session := test.app.mustConnect(o.okr + "/mcp")
			if len(test.who.asked) != 1 {
				t.Fatalf("%d consent pages, want one", len(test.who.asked))
			}
			shown, ticked := test.who.asked[0].ticked()
			slices.Sort(ticked)
			if len(shown) != 4 || !cmp.Equal(ticked, test.scopes) {
				t.Errorf("the consent page shows %q and ticks %q", shown, ticked)
			}
			token, scopes := held(t, test.app)
			if !cmp.Equal(scopes, test.scopes) {
				t.Errorf("the token has %q", scopes)
			}
			sse := test.app.mustConnect(o.okr + "/sse")
			if got, older := tools(t, session), tools(t, sse); !cmp.Equal(got, test.tools) || !cmp.Equal(older, got) {
				t.Errorf("offered %q at /mcp and %q at /sse", got, older)
			}

			test.app.person = nil // nobody to ask for more
			okr, kr := add(t, adminSession, "By tool, for "+test.who.email)
			for _, op := range operations(okr, kr) {
				err := call(t, session, op.tool, op.arguments, new(any))
				if may := slices.Contains(test.tools, op.tool); may != (err == nil) {
					t.Errorf("%s: allowed %v, got %v", op.tool, may, err)
				}
			}
			okr, kr = add(t, adminSession, "By REST, for "+test.who.email)
			before := objectives(t, adminSession)
			for _, op := range operations(okr, kr) {
				if !slices.Contains(test.tools, op.tool) {
					o.forbidden(t, op, token)
				} else if status, body := o.rest(t, op, token); status/100 != 2 {
					t.Errorf("%s %s: %d %s", op.method, op.path, status, body)
				}
			}
			if len(test.tools) == 2 {
				before[len(before)-1].KeyResults[0].Attainment = 40
				if diff := cmp.Diff(before, objectives(t, adminSession)); diff != "" {
					t.Errorf("what was refused changed something: %s", diff)
				}
			}
			for _, op := range operations(okr, kr) { // the older client gives up on the first refusal
				if !slices.Contains(test.tools, op.tool) {
					if err := call(t, sse, op.tool, op.arguments, new(any)); err == nil {
						t.Errorf("%s at /sse went through", op.tool)
					}
					test.app.wantTrail(t, "POST /sse 403")
					break
				}
			}
		})
	}
}

// An administrator unticks what an app can do with objectives. The tool that
// needs it brings the question back, for that alone. An employee is told that
// they cannot give it, and why.
func testRoleStepUp(t *testing.T, o *office) {
	o.organization(t, "step-up")
	admin, a := o.member(t, "step-up", "admin@step-up.test", "admin")
	admin.decline = []string{manageObjectives}
	session := a.mustConnect(o.okr + "/mcp")
	if got := tools(t, session); slices.Contains(got, "addObjective") {
		t.Errorf("offered %q", got)
	}
	admin.decline = nil
	okr, _ := add(t, session, "Asked again")
	if len(admin.asked) != 2 {
		t.Fatalf("%d consent pages, want two", len(admin.asked))
	}
	if shown, ticked := admin.asked[1].ticked(); !cmp.Equal(shown, []string{manageObjectives}) || !cmp.Equal(ticked, shown) {
		t.Errorf("the second page shows %q and ticks %q", shown, ticked)
	}
	if _, scopes := held(t, a); len(scopes) != 4 {
		t.Errorf("the token has %q", scopes)
	}
	a.wantTrail(t, "POST /mcp 403", "POST /v1/oauth2/token 200")

	employee, theirs := o.member(t, "step-up", "employee@step-up.test", "")
	session = theirs.mustConnect(o.okr + "/mcp")
	if err := call(t, session, "deleteObjective", map[string]any{"okrID": okr}, new(any)); err == nil {
		t.Error("an employee deleted an objective")
	}
	if len(employee.asked) != 2 {
		t.Fatalf("%d consent pages, want two", len(employee.asked))
	}
	step := employee.asked[1]
	if shown, ticked := step.ticked(); !cmp.Equal(shown, []string{manageObjectives}) || len(ticked) > 0 ||
		!strings.Contains(step.body, "Your role, Member, does not include create, update and delete of objective.") {
		t.Errorf("the second page ticks %q: %v", ticked, step)
	}
	if _, scopes := held(t, theirs); !cmp.Equal(scopes, []string{readOKRs, reportStatus}) {
		t.Errorf("the token has %q", scopes)
	}
	if got := objectives(t, theirs.mustConnect(o.okr+"/mcp")); len(got) != 2 {
		t.Errorf("there are %d objectives", len(got))
	}
}

// Two organizations see nothing of each other's objectives, whatever ids they
// name, and each begins with objectives of its own. A person of both acts in
// one of them.
func testTwoOrganizations(t *testing.T, o *office) {
	fennel, sorrel := o.organization(t, "fennel"), o.organization(t, "sorrel")
	ada, hers := o.member(t, "fennel", "ada@two.test", "admin")
	o.set(t, "member", "add", ada.email, "--organization", "sorrel")
	ada.organization = fennel
	_, his := o.member(t, "sorrel", "bob@two.test", "admin")
	hersSession, hisSession := hers.mustConnect(o.okr+"/mcp"), his.mustConnect(o.okr+"/mcp")

	// A first write in one organization is nowhere in the other one's beginning.
	okr, kr := add(t, hersSession, "Hers alone")
	all := objectives(t, hersSession)
	theirs := objectives(t, hisSession)
	if len(all) != 2 || len(theirs) != 1 || theirs[0].Text != all[0].Text || theirs[0].ID == all[0].ID {
		t.Fatalf("hers %+v, theirs %+v", all, theirs)
	}
	for i, k := range theirs[0].KeyResults {
		if k.ID == all[0].KeyResults[i].ID || k.Text != all[0].KeyResults[i].Text {
			t.Errorf("the key result %+v is both organizations'", k)
		}
	}

	token, _ := held(t, his)
	for _, seed := range []struct{ okr, kr string }{{okr, kr}, {all[0].ID, all[0].KeyResults[0].ID}} {
		for _, op := range operations(seed.okr, seed.kr) {
			if !strings.Contains(op.path, seed.okr) {
				continue
			}
			if err := call(t, hisSession, op.tool, op.arguments, new(any)); err == nil || !strings.HasPrefix(err.Error(), "There is no ") {
				t.Errorf("%s on hers: %v", op.tool, err)
			}
			if status, body := o.rest(t, op, token); status != http.StatusNotFound {
				t.Errorf("%s on hers: %d %s", op.path, status, body)
			}
		}
		for _, uri := range []string{"okrmanager://objectives/" + seed.okr, "okrmanager://key_result/" + seed.kr} {
			if got, err := hisSession.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri}); err == nil {
				t.Errorf("he read %s: %+v", uri, got)
			}
			if _, err := hersSession.ReadResource(t.Context(), &mcp.ReadResourceParams{URI: uri}); err != nil {
				t.Errorf("she did not read %s: %v", uri, err)
			}
		}
	}
	if got := uris(t, hisSession); !cmp.Equal(got, urisOf(theirs)) {
		t.Errorf("his resources are %q", got)
	}
	if diff := cmp.Diff(all, objectives(t, hersSession)); diff != "" {
		t.Errorf("hers changed: %s", diff)
	}

	// She is a member of his organization too, where she may change little. There
	// she is another subject.
	ada.organization = sorrel
	if at, err := ada.visit(t.Context(), o.issuer+"/switch-organization"); err != nil {
		t.Fatalf("switching: %v, %v", at, err)
	}
	there := newApp(t, ada, byRegistration, nil)
	thereSession := there.mustConnect(o.okr + "/mcp")
	if diff := cmp.Diff(theirs, objectives(t, thereSession)); diff != "" {
		t.Errorf("what she sees in his organization: %s", diff)
	}
	var here, over struct {
		Sub          string
		Organization string `json:"organization_id"`
	}
	first, _ := held(t, hers)
	second, scopes := held(t, there)
	decodeClaims(t, first, &here)
	decodeClaims(t, second, &over)
	if here.Organization != fennel || over.Organization != sorrel || here.Sub == over.Sub || len(scopes) != 2 {
		t.Errorf("here %+v, there %+v with %q", here, over, scopes)
	}
}

// uris are the addresses of what a session can read.
func uris(t *testing.T, session *mcp.ClientSession) []string {
	t.Helper()
	list, err := session.ListResources(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range list.Resources {
		all = append(all, r.URI)
	}
	slices.Sort(all)
	return all
}

func urisOf(objectives []objective) []string {
	var all []string
	for _, o := range objectives {
		all = append(all, "okrmanager://objectives/"+o.ID)
		for _, k := range o.KeyResults {
			all = append(all, "okrmanager://key_result/"+k.ID)
		}
	}
	slices.Sort(all)
	return all
}

// A role is taken away between two refreshes: the second has its scope no more,
// and the tool is refused. Row: O04.
func testRoleRemoved(t *testing.T, o *office) {
	o.organization(t, "role-removed")
	manager, a := o.member(t, "role-removed", "manager@removed.test", "manager")
	session := a.mustConnect(o.okr + "/mcp")
	okr := objectives(t, session)[0]
	adding := operations(okr.ID, okr.KeyResults[0].ID)[2]
	if _, scopes := refresh(t, a, session); !slices.Contains(scopes, manageKeyResults) {
		t.Fatalf("after the first refresh the token has %q", scopes)
	}
	if err := call(t, session, adding.tool, adding.arguments, new(any)); err != nil {
		t.Fatal(err)
	}
	o.set(t, "member", "set", manager.email, "--organization", "role-removed", "--role", "none")
	a.person = nil
	token, scopes := refresh(t, a, session)
	if !cmp.Equal(scopes, []string{readOKRs, reportStatus}) {
		t.Errorf("after the second refresh the token has %q", scopes)
	}
	if err := call(t, session, adding.tool, adding.arguments, new(any)); err == nil {
		t.Error("the tool went through")
	}
	o.forbidden(t, adding, token)
	if got := tools(t, session); !cmp.Equal(got, []string{"listObjectives", "setKeyResultAttainment"}) {
		t.Errorf("offered %q", got)
	}
	if got := objectives(t, session)[0]; len(got.KeyResults) != 3 {
		t.Errorf("%d key results, want those of the beginning and one", len(got.KeyResults))
	}
}

// A member is removed during a session: the next refresh is refused, nobody is
// signed in, and they cannot come back.
func testMemberRemoved(t *testing.T, o *office) {
	o.organization(t, "member-removed")
	manager, a := o.member(t, "member-removed", "manager@gone.test", "manager")
	session := a.mustConnect(o.okr + "/mcp")
	objectives(t, session)
	o.set(t, "member", "remove", manager.email, "--organization", "member-removed")
	refreshRefused(t, a, session)

	a.person = manager
	if _, err := a.connect(o.okr + "/mcp"); err == nil {
		t.Error("who was removed let an app in")
	}
	if len(manager.asked) != 1 {
		t.Errorf("%d consent pages, want one", len(manager.asked))
	}
}

// An organization lets no connected app of others in any more: those that were
// let in get no new tokens, and the next one ends at a page that says so. The
// members of another organization notice nothing.
func testAppPolicy(t *testing.T, o *office) {
	o.organization(t, "closed")
	o.organization(t, "open")
	eve, hers := o.member(t, "closed", "eve@policy.test", "")
	_, his := o.member(t, "open", "tom@policy.test", "")
	hersSession, hisSession := hers.mustConnect(o.okr+"/mcp"), his.mustConnect(o.okr+"/mcp")
	objectives(t, hersSession)
	o.set(t, "organization", "set", "closed", "--third-party-apps", "none")
	refreshRefused(t, hers, hersSession)
	refresh(t, his, hisSession)

	another := newApp(t, eve, byRegistration, nil)
	_, err := another.connect(o.okr + "/mcp")
	if err == nil {
		t.Fatal("another app got in")
	}
	if !strings.Contains(err.Error(), "(403)") || !strings.Contains(err.Error(), another.name) || len(eve.asked) != 1 {
		t.Errorf("the person was asked %d times, and is told %v", len(eve.asked), err)
	}

	// The page of the OKR manager is the project's own.
	if at, err := eve.visit(t.Context(), o.okr+"/login"); err != nil || !strings.Contains(at.body, "Objectives of") {
		t.Errorf("the OKR manager's own page: %v, %v", at, err)
	}
	o.set(t, "organization", "set", "closed", "--third-party-apps", "all")
	newApp(t, eve, byRegistration, nil).mustConnect(o.okr + "/mcp")
}

// With introspection what is taken away is gone within seconds, in the middle
// of an open event stream and on the page of the OKR manager: a role, a member,
// a whole organization. Row: O04.
func TestOKRIntrospects(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		o := newOffice(t, db, true)
		o.organization(t, "fennel")
		o.organization(t, "sorrel")
		type stream struct {
			who     *person
			app     *app
			session *mcp.ClientSession
			token   string
			adding  operation
		}
		open := func(organization, email string) stream {
			who, a := o.member(t, organization, email, "manager")
			s := stream{who: who, app: a, session: a.mustConnect(o.okr + "/sse")}
			if at, err := who.visit(t.Context(), o.okr+"/login"); err != nil || !strings.Contains(at.body, "Objectives of") {
				t.Fatalf("the page: %v, %v", at, err)
			}
			okr := objectives(t, s.session)[0]
			s.adding = operations(okr.ID, okr.KeyResults[0].ID)[2]
			if err := call(t, s.session, s.adding.tool, s.adding.arguments, new(any)); err != nil {
				t.Fatal(err)
			}
			a.person = nil
			s.token, _ = held(t, a)
			return s
		}
		demoted, removed, suspended := open("fennel", "demoted@example.test"), open("fennel", "removed@example.test"), open("sorrel", "suspended@example.test")
		o.set(t, "member", "set", "demoted@example.test", "--organization", "fennel", "--role", "none")
		o.set(t, "member", "remove", "removed@example.test", "--organization", "fennel")
		o.set(t, "organization", "set", "sorrel", "--suspend")
		changed := time.Now()

		for name, test := range map[string]struct {
			stream
			status, page string
		}{
			"role":         {demoted, "403", "Add key results: your role does not include it"},
			"member":       {removed, "401", "Sign in to see your objectives"},
			"organization": {suspended, "401", "Sign in to see your objectives"},
		} {
			t.Run(name, func(t *testing.T) {
				soon(t, changed, "the tool is refused", func() bool {
					return call(t, test.session, test.adding.tool, test.adding.arguments, new(any)) != nil
				})
				soon(t, changed, "the page says "+test.page, func() bool {
					at, err := test.who.open(t.Context(), o.okr+"/")
					return err == nil && strings.Contains(at.body, test.page)
				})
				if test.status == "403" { // with a token that is dead the stream may end before the call
					// The first may have been refused after its message was taken.
					if call(t, test.session, test.adding.tool, test.adding.arguments, new(any)) == nil {
						t.Error("the tool is allowed again")
					}
					test.app.wantTrail(t, "GET /sse 200", "POST /sse 403")
				}
				if now, _ := held(t, test.app); now != test.token {
					t.Error("the token is another one")
				}
			})
		}
		o.forbidden(t, demoted.adding, demoted.token)
		if status, body := o.rest(t, operations("", "")[0], demoted.token); status != http.StatusOK {
			t.Errorf("reading, which every role includes: %d %s", status, body)
		}
		for name, token := range map[string]string{"who was removed": removed.token, "whose organization is suspended": suspended.token} {
			if status, body := o.rest(t, operations("", "")[0], token); status != http.StatusUnauthorized {
				t.Errorf("reading, by %s: %d %s", name, status, body)
			}
		}
	})
}

// soon waits for what happens within 10 s of a change: guard believes an answer
// of the issuer for 5 s. It asks less often than there is room for key results.
func soon(t *testing.T, changed time.Time, what string, happened func() bool) {
	t.Helper()
	for !happened() {
		if time.Since(changed) > 10*time.Second {
			t.Fatalf("not within 10 s of the change: %s", what)
		}
		time.Sleep(250 * time.Millisecond)
	}
	t.Logf("%v after the change %s", time.Since(changed).Round(time.Millisecond), what)
}

package login_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/servertest"
)

// membersVariable names the environment variable that says how many members the
// benchmarks have. The bars stand for 1000000.
const membersVariable = "POSTERN_BENCH_MEMBERS"

// crowd is how many members there are, a hundred of them to an organization.
func crowd(b *testing.B) int {
	b.Helper()
	n, err := strconv.Atoi(os.Getenv(membersVariable))
	if os.Getenv(membersVariable) == "" {
		n, err = 10_000, nil
	}
	if err != nil || n < 10_000 {
		b.Fatalf("%s must be a number of at least 10000", membersVariable)
	}
	return n
}

// BenchmarkMemberPages is what a person of 20 organizations waits for, who is
// one of very many: p95-ms is the time of a whole request, client and network
// included. Bar: 15 ms.
func BenchmarkMemberPages(b *testing.B) {
	eachCrowd(b, func(b *testing.B, s *servertest.Server, app oauth.Client) {
		request := url.Values{
			"response_type": {"code"}, "client_id": {app.ID}, "redirect_uri": {okrCallback}, "scope": {allOKRs}, "state": {"s"},
			"resource": {okrMCP}, "code_challenge": {"E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"}, "code_challenge_method": {"S256"},
		}
		browser := s.Browser(b)
		page := browser.SignIn(b, browser.Authorize(b, request), "ada@bench.example.test")
		if n := strings.Count(page.Body, `name="organization"`); n < 24 {
			b.Fatalf("%d organizations", n)
		}
		b.Run("discovery", func(b *testing.B) { wait(b, browser, page.URL.String(), "Choose an organization") })
		_, id, _ := strings.Cut(page.Body, `name="organization" value="`)
		id, _, _ = strings.Cut(id, `"`)
		page = browser.Submit(b, page, "organization", url.Values{"organization": {id}})
		b.Run("consent", func(b *testing.B) { wait(b, browser, page.URL.String(), "wants to act for you") })
		b.Run("authorize", func(b *testing.B) {
			wait(b, browser, "/oauth/authorize?"+request.Encode(), "wants to act for you")
		})
	})
}

// wait opens a page again and again.
func wait(b *testing.B, browser *servertest.Browser, address, text string) {
	b.Helper()
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		page := browser.Get(b, address)
		took = append(took, time.Since(began))
		if !strings.Contains(page.Body, text) {
			b.Fatalf("%d, without %q:\n%s", page.Status, text, page.Body)
		}
	}
	report(b, took)
}

func report(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
}

// BenchmarkMembers is what else reads the members of a large project.
func BenchmarkMembers(b *testing.B) {
	eachCrowd(b, func(b *testing.B, s *servertest.Server, app oauth.Client) {
		ctx := b.Context()
		large, err := s.People.Organization(ctx, s.Project.ID, "org-100000000")
		if err != nil {
			b.Fatal(err)
		}
		first, err := s.People.Members(ctx, large, identity.MemberQuery{Limit: 1})
		if err != nil || len(first) != 1 {
			b.Fatal(first, err)
		}
		for _, one := range []struct {
			name string
			do   func() error
		}{
			{"narrow", func() error { // what a refresh and an introspection ask
				got, active, err := s.People.Narrow(ctx, s.Project, first[0].ID, large.ID, app.ID, false, strings.Fields(allOKRs))
				if err == nil && (!active || len(got) != 2) {
					err = fmt.Errorf("%v, %t", got, active)
				}
				return err
			}},
			{"page of a large organization", func() error {
				_, err := s.People.Members(ctx, large, identity.MemberQuery{Limit: 50})
				return err
			}},
			{"search in a large organization in vain", func() error { // reads all of them
				_, err := s.People.Members(ctx, large, identity.MemberQuery{Text: "nobody@", Limit: 50})
				return err
			}},
			{"one by address", func() error {
				_, err := s.People.Member(ctx, large, first[0].Email)
				return err
			}},
		} {
			b.Run(one.name, func(b *testing.B) {
				var took []time.Duration
				for b.Loop() {
					began := time.Now()
					if err := one.do(); err != nil {
						b.Fatal(err)
					}
					took = append(took, time.Since(began))
				}
				report(b, took)
			})
		}
	})
}

// eachCrowd runs a benchmark on both databases, full of members.
func eachCrowd(b *testing.B, run func(b *testing.B, s *servertest.Server, app oauth.Client)) {
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		b.Run(name, func(b *testing.B) {
			c := servertest.Config{Vertical: project.B2B, Postgres: name == "PostgreSQL"}
			s := servertest.New(b, c)
			populate(b, s, beside(b, s, c), crowd(b))
			policy, err := rbac.Parse([]byte(okrPolicy))
			if err != nil {
				b.Fatal(err)
			}
			for i := range 97 {
				policy.Roles = append(policy.Roles, rbac.Role{ID: fmt.Sprint("more_", i), Permissions: []rbac.Permission{{Resource: "objective", Actions: []string{"read"}}}})
			}
			event := audit.Event{ProjectID: s.Project.ID, At: s.Clock.Now(), Kind: audit.PolicyApplied, Actor: "operator"}
			if _, err := s.People.ApplyPolicy(b.Context(), s.Project.ID, policy, event); err != nil {
				b.Fatal(err)
			}
			_, _, err = s.Projects.AddResource(b.Context(), s.Project, project.Resource{URI: okrMCP, Name: "OKR", Scopes: strings.Fields(allOKRs)}, nil, false)
			if err != nil {
				b.Fatal(err)
			}
			s.Follow(b)
			s.Ready(b)
			app, _ := s.AddClient(b, oauth.NewClient{Name: "Claude", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{okrCallback}})
			run(b, s, app)
		})
	}
}

// beside opens the database of a server.
func beside(b *testing.B, s *servertest.Server, c servertest.Config) *sql.DB {
	b.Helper()
	if c.Postgres {
		return s.SQL(b)
	}
	found, err := filepath.Glob(filepath.Join(filepath.Dir(b.TempDir()), "*", "postern.db"))
	if err != nil || len(found) != 1 {
		b.Fatalf("databases of this benchmark: %v, %v", found, err)
	}
	db, err := sql.Open("sqlite", "file:"+found[0]+"?_pragma=busy_timeout(60000)")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = db.Close() }) // nothing is written any more
	return db
}

// populate makes members, by one statement for each table. A tenth of them is in the
// first organization. Ada is in 20 organizations and may join five by domain.
func populate(b *testing.B, s *servertest.Server, db *sql.DB, members int) {
	b.Helper()
	organizations := members / 100
	settings, err := json.Marshal(identity.DefaultOrganization())
	if err != nil {
		b.Fatal(err)
	}
	id := strconv.Quote(s.Project.ID)
	id = "'" + id[1:len(id)-1] + "'"
	const member = `INSERT INTO member (project_id, id, organization_id, email, email_folded, name, status, roles, is_admin, external_id,
		trusted_metadata, untrusted_metadata, version, created_at, updated_at, last_sign_in_at, invited_at, proofs_after) `
	for _, statement := range []string{
		fmt.Sprintf(`INSERT INTO organization (project_id, id, name, slug, external_id, active, settings, trusted_metadata, roles, logo, version, created_at, updated_at)
			WITH RECURSIVE n(i) AS (SELECT 100000000 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
			SELECT %s, 'organization-test-' || CAST(i AS text), 'Organization ' || CAST(i AS text), 'org-' || CAST(i AS text), '', TRUE, '%s', '{}', '[]', '', 1, 1, 1 FROM n`,
			99999999+organizations, id, settings),
		fmt.Sprintf(`INSERT INTO organization_domain (project_id, domain, organization_id)
			SELECT project_id, slug || '.example.test', id FROM organization WHERE project_id = %s`, id),
		fmt.Sprintf(`INSERT INTO organization_domain (project_id, domain, organization_id)
			SELECT project_id, 'bench.example.test', id FROM organization WHERE project_id = %s ORDER BY id DESC LIMIT 5`, id),
		fmt.Sprintf(member+`WITH RECURSIVE n(i) AS (SELECT 100000000 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
			SELECT %s, 'member-test-' || CAST(i AS text), 'organization-test-' || CAST(CASE WHEN i %% 10 = 0 THEN 100000000 ELSE 100000000 + i %% %d END AS text),
			'person' || CAST(i AS text) || '@example.test', 'person' || CAST(i AS text) || '@example.test', '', 'active', '[]', FALSE, '', '{}', '{}', 1, 1, 1, i, 0, 0 FROM n`,
			99999999+members-20, id, organizations),
		fmt.Sprintf(member+`WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 19)
			SELECT %s, 'member-test-ada-' || CAST(i AS text), 'organization-test-' || CAST(100000000 + i * %d AS text),
			'ada@bench.example.test', 'ada@bench.example.test', '', 'active', '["manager"]', FALSE, '', '{}', '{}', 1, 1, 1, i, 0, 0 FROM n`,
			id, organizations/20),
		"ANALYZE",
	} {
		if _, err := db.ExecContext(b.Context(), statement); err != nil {
			b.Fatalf("%v in %.80s", err, statement)
		}
	}
}

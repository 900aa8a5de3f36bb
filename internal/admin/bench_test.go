package admin_test

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

// dashboardVariable names the environment variable that fills the benchmark's
// projects with what the bar, 30 ms, stands for; without it they have a
// hundredth of that.
const dashboardVariable = "POSTERN_BENCH_DASHBOARD"

// crowd is how much there is: attempts of one day and events of three. There are
// a tenth as many members in the other project, a tenth of them in its first
// organization; a tenth of the users allow the first client something.
type crowd struct{ users, clients, events, attempts int }

// BenchmarkDashboard is what an administrator waits for: p95-ms is the time of a
// whole request, client and network included.
func BenchmarkDashboard(b *testing.B) {
	many := crowd{10_000, 1_000, 100_000, 1_000}
	if os.Getenv(dashboardVariable) != "" {
		many = crowd{1_000_000, 100_000, 10_000_000, 100_000}
	}
	for _, name := range []string{"SQLite", "PostgreSQL"} {
		b.Run(name, func(b *testing.B) {
			c := servertest.Config{Postgres: name == "PostgreSQL"}
			s := servertest.New(b, c)
			other, _, err := s.Projects.Create(b.Context(), project.New{Name: "OKR", Issuer: "http://localhost", Vertical: project.B2B, Environment: project.Test})
			if err != nil {
				b.Fatal(err)
			}
			p := poured{crowd: many, db: beside(b, s, c), postgres: c.Postgres, notes: s.Project.ID, okr: other.ID, now: s.Clock.Now()}
			s.Follow(b)
			s.Ready(b)
			p.fill(b)
			p.read(b, s)
		})
	}
}

// poured are projects that are full.
type poured struct {
	crowd
	db         *sql.DB
	postgres   bool
	notes, okr string // ids of the consumer project and of the B2B one
	now        time.Time
}

// read opens every list of the dashboard with each of its filters, from the first
// page and from the middle.
func (p poured) read(b *testing.B, s *servertest.Server) {
	notes, okr := "/dashboard/projects/"+p.notes, "/dashboard/projects/"+p.okr
	organization := okr + "/organizations/organization-test-0000000"
	app := func(i int) string { return fmt.Sprintf("connected-app-test-%07d", i) }
	event := p.id(p.event(p.events/2), "7000")
	attempt := p.id(p.attempt(p.attempts/2), "7001")
	day := p.now.Add(-36 * time.Hour).Format("2006-01-02T15:04")
	for _, one := range []struct{ name, path string }{
		{"overview", notes},
		{"users", notes + "/users"},
		{"users, deep", notes + "/users?after=" + fmt.Sprintf("user-test-%07d", p.users/2)},
		{"users, an address", notes + "/users?q=person" + fmt.Sprintf("%07d", p.users/3)},
		{"users, a beginning", notes + "/users?q=person"},
		{"users, a beginning, deep", notes + "/users?q=person&after=" + fmt.Sprintf("user-test-%07d", p.users/2)},
		{"users, in vain", notes + "/users?q=nobody"},
		{"user", notes + "/users/user-test-0000001"},
		{"organizations", okr + "/organizations"},
		{"organizations, deep", okr + "/organizations?after=" + fmt.Sprintf("organization-test-%07d", p.users/2000)},
		{"organizations, a beginning", okr + "/organizations?q=org-000"},
		{"organizations, in vain", okr + "/organizations?q=nothing"},
		{"organization", organization},
		{"organization's apps", organization + "/apps"},
		{"organization's apps, deep", organization + "/apps?after=" + fmt.Sprintf("grant-test-%07d", p.users/10+p.users/200)},
		{"members", organization + "/members"},
		{"members, deep", organization + "/members?after=" + fmt.Sprintf("member-test-%07d", p.users/20)},
		{"members, an address", organization + "/members?q=person0000010@example.test"},
		{"members, in vain", organization + "/members?q=nobody"},
		{"members, invited", organization + "/members?status=invited"},
		{"members, removed", organization + "/members?status=deleted"},
		{"members, a role", organization + "/members?role=admin"},
		{"members, a role in vain", organization + "/members?role=nothing"},
		{"member", organization + "/members/member-test-0000010"},
		{"apps", notes + "/apps"},
		{"apps, deep", notes + "/apps?after=" + app(p.clients/2)},
		{"apps, a name", notes + "/apps?q=robot+" + fmt.Sprintf("%07d", p.clients/3)},
		{"apps, a beginning", notes + "/apps?q=ro"},
		{"apps, an id", notes + "/apps?q=" + app(p.clients/3)},
		{"apps, in vain", notes + "/apps?q=nothing"},
		{"apps, by hand", notes + "/apps?show=how:preregistered"},
		{"apps, by document", notes + "/apps?show=how:document"},
		{"apps, registered themselves", notes + "/apps?show=how:dynamic"},
		{"apps, a type", notes + "/apps?show=type:third_party"},
		{"apps, a type, deep", notes + "/apps?show=type:third_party_public&after=" + app(p.clients/2)},
		{"apps, blocked", notes + "/apps?show=blocked"},
		{"apps, blocked and a name", notes + "/apps?show=blocked&q=robot+0"},
		{"app", notes + "/apps/" + app(0)},
		{"app, of few events", notes + "/apps/" + app(p.clients-1)},
		{"app's grants", notes + "/apps/" + app(0) + "/grants"},
		{"app's grants, deep", notes + "/apps/" + app(0) + "/grants?after=" + fmt.Sprintf("grant-test-%07d", p.users/20)},
		{"app's attempts", notes + "/apps/" + app(0) + "/attempts"},
		{"app's attempts, refused", notes + "/apps/" + app(0) + "/attempts?state=refused"},
		{"app's attempts, waiting", notes + "/apps/" + app(0) + "/attempts?state=waiting"},
		{"app's attempts, few, denied", notes + "/apps/" + app(3) + "/attempts?state=denied"},
		{"app's attempts, few, a busy address", notes + "/apps/" + app(3) + "/attempts?q=192.0.2.1"},
		{"app's attempts, an address in vain", notes + "/apps/" + app(3) + "/attempts?q=198.51.100.1"},
		{"activity", notes + "/activity"},
		{"activity, deep", notes + "/activity?after=" + event},
		{"activity, a group", notes + "/activity?kind=access"},
		{"activity, a kind, deep", notes + "/activity?kind=token.issued&after=" + event},
		{"activity, a kind in vain", notes + "/activity?kind=key.rotated"},
		{"activity, a person", notes + "/activity?person=" + fmt.Sprintf("user-test-%07d", p.users/3)},
		{"activity, an actor in vain", notes + "/activity?person=nobody@example.test"},
		{"activity, a client", notes + "/activity?client=" + app(0)},
		{"activity, a client, deep", notes + "/activity?client=" + app(0) + "&after=" + event},
		{"activity, an object in vain", notes + "/activity?object=nothing"},
		{"activity, refused", notes + "/activity?refused=yes"},
		{"activity, refused, deep", notes + "/activity?refused=yes&after=" + event},
		{"activity, a time", notes + "/activity?since=" + day + "&until=" + day},
		{"activity, a client, a group and refused", notes + "/activity?client=" + app(0) + "&kind=access&refused=yes"},
		{"activity, a client and a kind in vain", notes + "/activity?client=" + app(0) + "&kind=key.rotated"},
		{"activity, a client, refused and a time", notes + "/activity?client=" + app(1) + "&refused=yes&until=" + day},
		{"activity, everything in vain", notes + "/activity?client=" + app(0) + "&kind=access&refused=yes&object=nothing&person=nobody@example.test"},
		{"attempts", notes + "/attempts"},
		{"attempts, deep", notes + "/attempts?after=" + attempt},
		{"attempts, refused", notes + "/attempts?state=refused"},
		{"attempts, allowed", notes + "/attempts?state=allowed"},
		{"attempts, denied", notes + "/attempts?state=denied"},
		{"attempts, waiting", notes + "/attempts?state=waiting"},
		{"attempts, an address", notes + "/attempts?q=198.51.100.7"},
		{"attempts, an address and waiting", notes + "/attempts?q=198.51.100.7&state=waiting"},
		{"attempts, a busy address", notes + "/attempts?q=192.0.2.1"},
		{"attempts, a busy address and denied", notes + "/attempts?q=192.0.2.1&state=denied"},
		{"attempts, an address in vain", notes + "/attempts?q=203.0.113.1"},
		{"attempts, a person", notes + "/attempts?q=" + fmt.Sprintf("person%07d@example.test", 123)},
		{"attempts, a busy person", notes + "/attempts?q=person0000000@example.test"},
		{"attempts, a busy person, denied", notes + "/attempts?q=person0000000@example.test&state=denied"},
		{"attempts, half a code", notes + "/attempts?q=000-000"},
		{"attempt", notes + "/attempts/" + fmt.Sprintf("%03d-%03d-%03d", 0, p.attempts/2/1000, p.attempts/2%1000)},
		{"roles", notes + "/roles"},
		{"resources", notes + "/resources"},
		{"keys", notes + "/keys"},
		{"settings", notes + "/settings"},
	} {
		b.Run(one.name, func(b *testing.B) {
			browser := s.Administrator(b)
			browser.Get(b, one.path) // what follows is what a page costs again and again
			var took []time.Duration
			for b.Loop() {
				s.Clock.Advance(time.Second / 2) // no address may ask for more than 120 pages a minute
				began := time.Now()
				page := browser.Get(b, one.path)
				took = append(took, time.Since(began))
				if page.Status != http.StatusOK || strings.HasPrefix(page.URL.Path, "/dashboard/sign-in") {
					b.Fatalf("%s: %d", page.URL, page.Status)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)*95/100].Microseconds())/1000, "p95-ms")
			b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
		})
	}
}

// Milliseconds in which the events and the attempts that are numbered happened.
func (p poured) event(i int) int64 {
	return p.now.UnixMilli() - 3*86_400_000 + int64(i)*3*86_400_000/int64(p.events)
}

func (p poured) attempt(i int) int64 {
	return p.now.UnixMilli() - 86_000_000 + int64(i)*86_000_000/int64(p.attempts)
}

// id is what the id of something of this millisecond looks like.
func (p poured) id(ms int64, more string) string {
	text := fmt.Sprintf("%012x", ms)
	return text[:8] + "-" + text[8:] + "-" + more + "-8000-000000000000"
}

// idSQL is id of an expression.
func (p poured) idSQL(ms, more string) string {
	text := "printf('%012x', " + ms + ")"
	if p.postgres {
		text = "lpad(to_hex(" + ms + "), 12, '0')"
	}
	return "substr(" + text + ", 1, 8) || '-' || substr(" + text + ", 9, 4) || '-" + more + "-8000-000000000000'"
}

// digits writes a number with seven digits.
func digits(number string) string { return "substr(CAST(10000000 + " + number + " AS text), 2)" }

// fill makes everything, by one statement for each table, and the indexes of
// events afterwards, which is quicker.
func (p poured) fill(b *testing.B) {
	b.Helper()
	list := "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'event' AND indexname <> 'event_pkey'"
	last := "ANALYZE"
	if !p.postgres {
		list = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'event' AND sql IS NOT NULL"
		last = "PRAGMA wal_checkpoint(TRUNCATE)"
	}
	found, err := p.db.QueryContext(b.Context(), list)
	if err != nil {
		b.Fatal(err)
	}
	defer found.Close()
	var drop, create []string
	for found.Next() {
		var name, definition string
		if err := found.Scan(&name, &definition); err != nil {
			b.Fatal(err)
		}
		drop, create = append(drop, "DROP INDEX "+name), append(create, definition)
	}
	if err := found.Err(); err != nil {
		b.Fatal(err)
	}
	_ = found.Close() // read to its end
	for _, statement := range slices.Concat(p.people(b), p.apps(), drop, p.happened(), create, []string{last}) {
		if _, err := p.db.ExecContext(b.Context(), statement); err != nil {
			b.Fatalf("%v in %.80s", err, statement)
		}
	}
}

// numbers is what a statement counts with.
func numbers(n int) string {
	return fmt.Sprintf(" WITH RECURSIVE n(i) AS (SELECT CAST(0 AS bigint) UNION ALL SELECT i + 1 FROM n WHERE i < %d) ", n-1)
}

// people are users, organizations and their members: a tenth of these in the first,
// where every five thousandth is invited and another is an administrator.
func (p poured) people(b *testing.B) []string {
	b.Helper()
	settings, err := json.Marshal(identity.DefaultOrganization())
	if err != nil {
		b.Fatal(err)
	}
	users, members, i := p.users, p.users/10, digits("i")
	return []string{
		`INSERT INTO "user" (project_id, id, email, email_folded, email_verified, name, active, created_at, last_sign_in_at)` + numbers(users) +
			`SELECT '` + p.notes + `', 'user-test-' || ` + i + `, 'person' || ` + i + ` || '@example.test', 'person' || ` + i + ` || '@example.test', TRUE, 'Person ' || ` + i + `, TRUE, 1, 1 FROM n`,
		`INSERT INTO organization (project_id, id, name, slug, external_id, active, settings, trusted_metadata, roles, logo, version, created_at, updated_at)` + numbers(users/1000) +
			`SELECT '` + p.okr + `', 'organization-test-' || ` + i + `, 'Organization ' || ` + i + `, 'org-' || ` + i + `, '', TRUE, '` + string(settings) + `', '{}', '[]', '', 1, 1, 1 FROM n`,
		`INSERT INTO member (project_id, id, organization_id, email, email_folded, name, status, roles, is_admin, external_id, trusted_metadata, untrusted_metadata, version, created_at, updated_at, last_sign_in_at, invited_at, proofs_after)` + numbers(members) +
			`SELECT '` + p.okr + `', 'member-test-' || ` + i + `, 'organization-test-' || CASE WHEN i % 10 = 0 THEN '0000000' ELSE ` + digits(fmt.Sprintf("i %% %d", users/1000)) + ` END,
			'person' || ` + i + ` || '@example.test', 'person' || ` + i + ` || '@example.test', '', CASE WHEN i % 5000 = 20 THEN 'invited' ELSE 'active' END, CASE WHEN i % 5000 = 10 THEN '["admin"]' ELSE '[]' END, i % 5000 = 10, '', '{}', '{}', 1, 1, 1, i, 1, 0 FROM n`,
	}
}

// apps are the clients of both projects, with what people allowed them.
func (p poured) apps() []string {
	i, blob := digits("i"), "X''"
	if p.postgres {
		blob = `'\x'::bytea`
	}
	micros := p.now.UnixMicro()
	var all []string
	for _, project := range []string{p.notes, p.okr} {
		all = append(all, fmt.Sprintf(`INSERT INTO client (project_id, id, url, type, creation, metadata, metadata_hash, merged, secret_id, secret_hash, secret_last4, rat_id, rat_hash, bypass_consent, blocked, created_at, last_registered_at, fetched_at, fresh_until, copied_at, logo, name_folded)`+numbers(p.clients)+
			`SELECT '%s', 'connected-app-test-' || `+i+`, CASE WHEN i %% 20 = 2 THEN 'https://app' || CAST(i AS text) || '.example.test/client.json' ELSE '' END,
			CASE WHEN i %% 50 = 1 THEN 'third_party' ELSE 'third_party_public' END, CASE WHEN i %% 50 < 2 THEN 'preregistered' WHEN i %% 20 = 2 THEN 'document' ELSE 'dynamic' END,
			'{"client_name":"Robot ' || `+i+` || '","redirect_uris":["http://localhost/cb"],"grant_types":["authorization_code","refresh_token"],"response_types":["code"],"token_endpoint_auth_method":"none"}',
			%s, FALSE, '', NULL, '', '', NULL, FALSE, i %% 5000 = 3, %d, %d, 0, 0, 0, '', 'robot ' || `+i+` FROM n`, project, blob, micros, micros))
	}
	grant := `INSERT INTO "grant" (project_id, id, subject, organization, client_id, created_at, last_used_at, revoked_at)`
	scope := `INSERT INTO grant_scope (project_id, grant_id, resource, scope, allowed, consent_hash, decided_at)
		SELECT g.project_id, g.id, 'https://notes.example.test/mcp', s.scope, TRUE, ` + blob + `, 1 FROM "grant" g CROSS JOIN (SELECT 'read:notes' AS scope UNION ALL SELECT 'write:notes') s`
	return append(all,
		grant+numbers(p.users/10)+`SELECT '`+p.notes+`', 'grant-test-' || `+i+`, 'user-test-' || `+i+`, '', 'connected-app-test-0000000', 1, 1, 0 FROM n`,
		grant+numbers(p.users/100)+`SELECT '`+p.okr+`', 'grant-test-' || `+digits(fmt.Sprintf("%d + i", p.users/10))+`, 'member-test-' || `+digits("i * 10")+`, 'organization-test-0000000', 'connected-app-test-' || `+digits("i % 7")+`, 1, 1, 0 FROM n`,
		// One person allowed many something, and each client somebody.
		grant+numbers(p.clients)+fmt.Sprintf(`SELECT '%s', 'grant-test-' || `+digits("2000000 + i")+`, 'user-test-' || CASE WHEN i < 40 THEN '0000001' ELSE %s END, '', 'connected-app-test-' || `+i+`, 1, 1, 0 FROM n WHERE i > 0`,
			p.notes, i),
		scope)
}

// happened are the events and the attempts. Seven of ten events are refreshes,
// half of all are of one client, and a fiftieth was refused. Of the attempts a
// fiftieth was refused and a few wait; half come from one address, and a tenth
// are of one person.
func (p poured) happened() []string {
	const event = `INSERT INTO event (project_id, id, occurred_at, kind, actor, subject, client_id, object, address, refused, reason, trace_id, attempt)`
	ms := fmt.Sprintf("(%d + i * 259200000 / %d)", p.event(0), p.events)
	began := fmt.Sprintf("(%d + i * 86000000 / %d)", p.attempt(0), p.attempts)
	code := "substr(CAST(1000000000 + i AS text), 2, 3) || '-' || substr(CAST(1000000000 + i AS text), 5, 3) || '-' || substr(CAST(1000000000 + i AS text), 8)"
	who := "'user-test-' || CASE WHEN i % 10 = 7 THEN '0000000' ELSE " + digits("i") + " END"
	client := "'connected-app-test-' || CASE WHEN i % 2 = 0 THEN '0000000' ELSE " + digits("i * 7919 % 1000") + " END"
	all := []string{
		event + numbers(p.events) + `SELECT '` + p.notes + `', ` + p.idSQL(ms, "7000") + `, ` + ms + ` * 1000,
			CASE i % 50 WHEN 0 THEN 'token.refused' WHEN 1 THEN 'grant.allowed' WHEN 2 THEN 'signin.code_sent' WHEN 3 THEN 'signin.succeeded' WHEN 4 THEN CASE WHEN i % 500 = 4 THEN 'client.registered' ELSE 'session.ended' END
				ELSE CASE WHEN i % 50 < 15 THEN 'token.issued' ELSE 'token.refreshed' END END,
			'connected-app-test-0000001', 'user-test-' || ` + digits(fmt.Sprintf("i * 7919 %% %d", p.users)) + `, ` + client + `,
			'family', '192.0.2.1', i % 50 = 0, CASE i % 50 WHEN 0 THEN 'expired' ELSE '' END, 'K7Q-2MX-9RD', '' FROM n`,
		`INSERT INTO attempt (project_id, id, code, client_id, client_name, creation, redirect_uri, resource, scopes, address, subject, state, step, step_up, detail, asked, discovered_at, registered_at, started_at, called_at)` + numbers(p.attempts) +
			`SELECT '` + p.notes + `', ` + p.idSQL(began, "7001") + `, ` + code + `, ` + client + `, 'Robot', 'dynamic', 'http://localhost/cb', 'https://notes.example.test/mcp', 'read:notes',
			CASE WHEN i % 2 = 0 THEN '192.0.2.1' ELSE '198.51.100.' || CAST(i % 256 AS text) END,
			CASE WHEN i % 50 = 0 OR i % 5000 = 1 THEN '' ELSE ` + who + ` END,
			CASE WHEN i % 50 = 0 THEN 'refused' WHEN i % 5000 = 1 THEN 'waiting' ELSE 'allowed' END,
			CASE WHEN i % 50 = 0 THEN 'authorize' ELSE 'consent' END, FALSE, '', '', 0, 0, ` + began + ` * 1000, 0 FROM n`,
	}
	for step, kind := range []string{"signin.succeeded", "grant.allowed", "token.issued"} {
		at := fmt.Sprintf("(%s + %d)", began, 100*step)
		all = append(all, event+numbers(p.attempts)+`SELECT '`+p.notes+`', `+p.idSQL(at, fmt.Sprintf("701%d", step))+`, `+at+` * 1000, '`+kind+`', `+who+`, `+who+`, `+client+`,
			'', '192.0.2.1', FALSE, '', `+code+`, `+code+` FROM n WHERE i % 50 <> 0 AND i % 5000 <> 1`)
	}
	return all
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

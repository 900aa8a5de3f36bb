package servertest

import (
	"context"
	"database/sql"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/spec"
)

// catalogue is the rows of spec/attacks by id.
var catalogue = sync.OnceValues(func() (map[string]spec.Attack, error) {
	folder, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for ; ; folder = filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.work")); err == nil {
			break
		}
		if folder == filepath.Dir(folder) {
			return nil, fmt.Errorf("no go.work in the folder of the tests or above it")
		}
	}
	files, err := filepath.Glob(filepath.Join(folder, "spec", "attacks", "*.toml"))
	if err != nil {
		return nil, err
	}
	rows := map[string]spec.Attack{}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		_, attacks, wrong := spec.Attacks(name, string(text))
		for _, p := range wrong {
			return nil, fmt.Errorf("%s: %s", p.Where, p.What)
		}
		for _, a := range attacks {
			rows[a.ID] = a
		}
	}
	return rows, nil
})

// rowsOf are the rows that a test is about, by its name and those of the tests
// around it.
func rowsOf(name string) (ids []string) {
	for part := range strings.SplitSeq(name, "/") {
		ids = append(ids, spec.RowsOf(part)...)
	}
	return ids
}

// commented are the rows that the tests in the present folder name in comments,
// by the name of the test.
var commented = sync.OnceValues(func() (map[string][]string, error) {
	names, err := filepath.Glob("*_test.go")
	if err != nil {
		return nil, err
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	rows := map[string][]string{}
	for _, test := range spec.Tests(set, files) {
		rows[test.Name] = test.Rows
	}
	return rows, nil
})

// Under tells the server which test talks to it. Browser and the other methods
// with a testing.TB do so by themselves; a test that sends requests in another
// way calls it before them.
//
// A subtest whose name begins with rows of the catalogue fails where no event of
// the kind was kept that these rows name. While one runs, or a test that names
// rows in a comment, another server of the same database answers every other
// request if a row says so. And after tests of groups A, R and T an honest client
// has to get its tokens.
func (s *Server) Under(t testing.TB) {
	t.Helper()
	if s.watch == nil || !s.rows.begin(t) {
		return
	}
	known, err := catalogue()
	if err != nil {
		t.Fatal(err)
	}
	comments, err := commented()
	if err != nil {
		t.Fatal(err)
	}
	named := rowsOf(t.Name())
	test, _, _ := strings.Cut(t.Name(), "/")
	for _, id := range append(slices.Clone(comments[test]), named...) {
		if known[id].Node == "second" && s.data.Database != "" {
			s.alternate(t)
		}
		if strings.ContainsAny(id[:1], "ART") {
			s.rows.honest.Do(s.expectHonest)
		}
	}
	for _, id := range named {
		if known[id].Event != "" {
			s.expectEvent(t, known[id])
		}
	}
}

// rows is which tests talk to a server.
type rows struct {
	mu      sync.Mutex
	running []testing.TB // the innermost last

	honest sync.Once

	node  *Server // the second one, made when a row asks for it
	turns int     // how many running tests ask for it
	count int     // of the requests meanwhile
}

// begin notes that a test talks to the server. It is false for one that did
// before, or whose rows the test around it began with.
func (r *rows) begin(t testing.TB) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	inner := false
	for _, other := range r.running {
		if other == t {
			return false
		}
		inner = inner || strings.HasPrefix(t.Name(), other.Name()+"/") && len(rowsOf(other.Name())) > 0
	}
	r.running = append(r.running, t)
	t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.running = slices.DeleteFunc(r.running, func(other testing.TB) bool { return other == t })
	})
	return !inner
}

// now is the test that talks to the server, its own one when none is known.
func (s *Server) now() testing.TB {
	s.rows.mu.Lock()
	defer s.rows.mu.Unlock()
	if n := len(s.rows.running); n > 0 {
		return s.rows.running[n-1]
	}
	return s.test
}

// expectEvent fails the test if no event of the row's kind, whole, is there at
// its end that was not there before.
func (s *Server) expectEvent(t testing.TB, row spec.Attack) {
	kind := audit.Kind(row.Event)
	before := s.eventsOf(t, kind)
	t.Cleanup(func() {
		if t.Failed() || t.Skipped() || s.stopped.Load() {
			return
		}
		after := s.eventsOf(t, kind)
		added := 0
		for id, e := range after {
			if _, old := before[id]; old {
				continue
			}
			added++
			if e.Actor+e.Subject+e.ClientID+e.Object == "" && !slices.Contains(namesNobody, e.Kind) || e.TraceID == "" || e.Refused != (e.Reason != "") {
				t.Errorf("%s: the event %s does not say who, in which request, or how it ended: %+v", row.ID, kind, e)
			}
		}
		if added == 0 {
			t.Errorf("%s: no event %s was kept", row.ID, kind)
		}
	})
}

// namesNobody are the kinds of what may happen before anybody is known.
var namesNobody = []audit.Kind{audit.RequestRefused, audit.RegisterRefused, audit.FormRefused, audit.AuthorizeRefused, audit.TokenRefused, audit.AdministratorRefused, audit.UserinfoRefused, audit.ClientRefused}

// eventsOf are the events of a kind, of every project and of the deployment.
func (s *Server) eventsOf(t testing.TB, kind audit.Kind) map[string]audit.Event {
	t.Helper()
	ctx := context.WithoutCancel(t.Context())
	projects, err := s.Projects.All(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{""}
	for _, p := range projects {
		ids = append(ids, p.ID)
	}
	all := map[string]audit.Event{}
	for _, id := range ids {
		page, err := s.Store.Events(ctx, audit.Query{ProjectID: id, Kinds: []audit.Kind{kind}, Limit: 1000})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			all[e.ID] = e
		}
	}
	return all
}

// alternate has a second server of the same database answer every other request
// of a test.
func (s *Server) alternate(t testing.TB) {
	s.rows.mu.Lock()
	defer s.rows.mu.Unlock()
	if s.rows.node == nil {
		s.rows.node = New(s.test, Config{Beside: s, Proxies: s.config.Proxies, Dev: s.config.Dev, Poll: s.config.Poll, Timeouts: s.config.Timeouts, node: true})
	}
	s.rows.turns++
	t.Cleanup(func() {
		s.rows.mu.Lock()
		defer s.rows.mu.Unlock()
		s.rows.turns--
	})
}

// other is the second server if it is its turn.
func (s *Server) other() *Server {
	s.rows.mu.Lock()
	defer s.rows.mu.Unlock()
	if s.rows.turns == 0 || s.rows.node.stopped.Load() {
		return nil
	}
	s.rows.count++
	if s.rows.count%2 == 0 {
		return s.rows.node
	}
	return nil
}

// beside opens the server's database beside it, to read.
func (s *Server) beside() (*sql.DB, error) {
	if s.data.Database != "" {
		return sql.Open("pgx", s.data.Database)
	}
	file := url.URL{Scheme: "file", Path: filepath.Join(s.data.Folder, "postern.db"), RawQuery: "mode=ro&_pragma=busy_timeout(5000)"}
	return sql.Open("sqlite", file.String())
}

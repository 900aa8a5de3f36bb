package audit_test

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
)

// Operators search by kind: each is a noun and a verb, and means one thing.
func TestKinds(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "audit.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 || spec.Type == nil {
			return true
		}
		value, ok := spec.Values[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		kind, err := strconv.Unquote(value.Value)
		if err != nil {
			t.Fatal(err)
		}
		if !regexp.MustCompile(`^[a-z]+\.[a-z_]+$`).MatchString(kind) {
			t.Errorf("%s is %q", spec.Names[0], kind)
		}
		if other := seen[kind]; other != "" {
			t.Errorf("%s and %s are both %q", other, spec.Names[0], kind)
		}
		seen[kind] = spec.Names[0].Name
		return true
	})
	if len(seen) < 20 {
		t.Errorf("only %d kinds were found", len(seen))
	}

	// Each is described once, and the guide has the same sentence.
	guide, err := os.ReadFile("../../docs/guide/audit.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range audit.Groups() {
		for _, e := range g.Entries {
			if seen[string(e.Kind)] == "" {
				t.Errorf("%s is described twice, or is no kind", e.Kind)
			}
			delete(seen, string(e.Kind))
			if row := fmt.Sprintf("| `%s` | %s |\n", e.Kind, e.Sentence); !strings.Contains(string(guide), row) {
				t.Errorf("docs/guide/audit.md lacks\n%s", row)
			}
		}
	}
	for kind := range seen {
		t.Errorf("%s is not described in Groups", kind)
	}
}

func TestKindsOf(t *testing.T) {
	for name, want := range map[string]int{"signins": 5, "token.issued": 1} {
		if got, ok := audit.KindsOf(name); !ok || len(got) != want {
			t.Errorf("%s: %v, %t", name, got, ok)
		}
	}
	if got, ok := audit.KindsOf("token.borrowed"); ok {
		t.Error(got)
	}
}

// trail is a Reader that counts what it is asked.
type trail struct {
	audit.Reader
	events []audit.Event
	asked  int
}

func (r *trail) CountEvents(_ context.Context, projectID string, m audit.Measure, since, until time.Time) (n int, err error) {
	r.asked++
	for _, e := range r.events {
		if e.ProjectID == projectID && !e.At.Before(since) && e.At.Before(until) && (slices.Contains(m.Kinds(), e.Kind) || m == audit.Refusals && e.Refused) {
			n++
		}
	}
	return n, nil
}

// What is over is counted once; what happens now is seen at once.
func TestTallies(t *testing.T) {
	now := time.Date(2026, 11, 20, 12, 30, 0, 0, time.UTC)
	r := &trail{}
	happens := func(kind audit.Kind, ago time.Duration) {
		r.events = append(r.events, audit.Event{ProjectID: "p", At: now.Add(-ago), Kind: kind, Refused: kind == audit.TokenRefused})
	}
	happens(audit.SignedIn, 47*time.Hour)
	happens(audit.SignedIn, 49*time.Hour) // too old
	happens(audit.TokenIssued, 23*time.Hour)
	happens(audit.TokenRefreshed, 10*time.Minute)
	happens(audit.TokenRefused, 0)
	tallies := audit.NewTallies(r, func() time.Time { return now })
	day := func() audit.Day {
		t.Helper()
		d, err := tallies.Day(t.Context(), "p")
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	d := day()
	if s := d.Sum(); len(d.Hours) != 24 || d.Before.SignIns != 1 || s.SignIns != 0 || s.Tokens != 2 || s.Refusals != 1 || d.Hours[23].Refusals != 1 || d.Hours[0].Tokens != 1 {
		t.Errorf("%+v", d)
	}
	r.asked = 0
	happens(audit.GrantAllowed, 0)
	now = now.Add(30 * time.Second)
	if d = day(); d.Sum().Grants != 1 || r.asked > 8 {
		t.Errorf("%+v after %d questions", d, r.asked)
	}
	now = now.Add(40 * time.Minute) // another hour
	happens(audit.SignedIn, 0)
	if d = day(); d.Sum().SignIns != 1 || d.Sum().Grants != 1 || d.Hours[22].Grants != 1 || d.Sum().Tokens != 1 || d.Before.Tokens != 1 {
		t.Errorf("%+v", d)
	}
}

func (r *trail) EventsAfter(_ context.Context, projectID string, since time.Time, after string, limit int) (all []audit.Event, err error) {
	slices.SortFunc(r.events, func(a, b audit.Event) int { return strings.Compare(a.ID, b.ID) })
	for _, e := range r.events {
		if e.ProjectID == projectID && e.ID > after && !e.At.Before(since) && len(all) < limit {
			all = append(all, e)
		}
	}
	return all, nil
}

// What appears behind events that were read is read all the same, and nothing
// twice.
func TestFollow(t *testing.T) {
	began := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	r := &trail{}
	happens := func(project string, at time.Duration) {
		e := audit.Event{ProjectID: project, At: began.Add(at)}
		e.ID = fmt.Sprintf("%020d %s", e.At.UnixMicro(), project)
		r.events = append(r.events, e)
	}
	follower := audit.Follow(r, began)
	next := func() (seconds []float64) {
		t.Helper()
		events, err := follower.Next(t.Context(), []string{"", "p"})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range events {
			seconds = append(seconds, e.At.Sub(began).Seconds())
		}
		return seconds
	}
	happens("p", -time.Second)
	happens("p", 10*time.Second)
	happens("", 2*time.Second)
	if got := next(); !slices.Equal(got, []float64{2, 10}) {
		t.Error(got)
	}
	happens("p", 6*time.Second)
	happens("", 3*time.Second)
	if got := next(); !slices.Equal(got, []float64{3, 6}) {
		t.Error(got)
	}
	for i := range 1200 {
		happens("p", time.Hour+time.Duration(i)*time.Second)
	}
	if got := next(); len(got) != 1200 {
		t.Error(len(got))
	}
	if got := next(); len(got) != 0 {
		t.Error(got)
	}
}

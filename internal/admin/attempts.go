package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/postern-id/postern/internal/audit"
)

// attemptsView is the list of attempts with one of them open.
type attemptsView struct {
	frame
	List     attemptList
	Trace    *traceView // nil while none is open
	Refused  []audit.Trace
	Chosen   string
	NotFound bool // a code was asked for that nothing has
}

// attemptList is a part of the attempts of the day.
type attemptList struct {
	Path    string // of the list
	Rows    []attemptRow
	States  []stateChip
	Query   string
	State   audit.State
	First   string
	Next    string
	Filters string // what links to an attempt carry on
}

// stateChip is a filter that can be pressed.
type stateChip struct {
	Words, Path string
	Pressed     bool
}

// attemptRow is one attempt in a list.
type attemptRow struct {
	audit.Listed
	Got     string
	Path    string
	Current bool
	Bad     bool
	Good    bool
}

// traceView is one attempt, told.
type traceView struct {
	audit.Trace
	App   string // path of the connected app's page, "" where it is not known
	Took  string
	Steps []stepView
}

// stepView is one step of a trace.
type stepView struct {
	audit.Step
	Clock string // time since the beginning
	// Asked cut at where it begins to differ from Registered.
	AskedSame, AskedDiffers string
	Right                   []differs
}

type differs struct{ Same, Differs string }

// attemptsPage is how many attempts stand on a page, latestAttempts how many on
// the first page of a project.
const (
	attemptsPage   = 30
	latestAttempts = 6
)

// Attempts lists the attempts of the last 24 hours; with a trace code in the
// address one is open.
func (d *Dashboard) Attempts(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	ctx, code := r.Context(), r.PathValue("code")
	query := strings.TrimSpace(r.URL.Query().Get("q"))
	if _, _, isCode := audit.CodeRange(query); isCode && code == "" {
		http.Redirect(w, r, projectPath(v.project, "attempts/"+url.PathEscape(strings.ToUpper(query))), http.StatusSeeOther)
		return nil
	}
	view := attemptsView{frame: d.frame(r, v, "activity", "Attempts", v.command("trace"))}
	view.Lead = "Authorization attempts of the last 24 hours, UTC"
	status := http.StatusOK
	if code != "" {
		view.frame = view.in(link{"Attempts", projectPath(v.project, "attempts")})
		view.Title, view.CLI = code, v.command("trace", code)
		if view.Trace, view.Refused, err = d.trace(ctx, v, code); err != nil {
			return err
		}
		if view.Trace == nil && len(view.Refused) == 0 {
			view.NotFound, status = true, http.StatusNotFound
		}
		if view.Trace != nil {
			view.Chosen = view.Trace.Attempt.Code
		}
	}
	if view.List, err = d.attemptList(r, v, projectPath(v.project, "attempts"), "", view.Chosen); err != nil {
		return err
	}
	return d.pages.Render(w, status, "attempts", view)
}

// attemptList reads a part of the attempts, as the address filters them.
func (d *Dashboard) attemptList(r *http.Request, v visit, path, clientID, chosen string) (attemptList, error) {
	values := r.URL.Query()
	l := attemptList{Path: path, Query: strings.TrimSpace(values.Get("q")), State: audit.State(values.Get("state"))}
	rows, err := d.Traces.Attempts(r.Context(), v.project.ID, audit.AttemptFilter{ClientID: clientID, State: l.State, Query: l.Query}, values.Get("after"), attemptsPage)
	if err != nil {
		return l, err
	}
	keep := url.Values{}
	for _, name := range []string{"q", "state"} {
		if values.Get(name) != "" {
			keep.Set(name, values.Get(name))
		}
	}
	if l.Filters = keep.Encode(); l.Filters != "" {
		l.Filters = "?" + l.Filters
	}
	for _, a := range rows {
		row := d.attemptRow(v, a)
		row.Path += l.Filters
		row.Current = a.Code == chosen
		l.Rows = append(l.Rows, row)
	}
	for _, s := range []audit.State{audit.Refused, audit.Allowed, audit.Denied, audit.Waiting} {
		to := url.Values{}
		if l.Query != "" {
			to.Set("q", l.Query)
		}
		if s != l.State {
			to.Set("state", string(s))
		}
		l.States = append(l.States, stateChip{strings.ToUpper(string(s[:1])) + string(s[1:]), path + "?" + to.Encode(), s == l.State})
	}
	if values.Get("after") != "" {
		l.First = path + l.Filters
	}
	if len(rows) == attemptsPage {
		keep.Set("after", rows[len(rows)-1].ID)
		l.Next = path + "?" + keep.Encode()
	}
	return l, nil
}

func (d *Dashboard) attemptRow(v visit, a audit.Listed) attemptRow {
	return attemptRow{
		Listed: a, Got: a.Got(d.Now()), Path: projectPath(v.project, "attempts/"+url.PathEscape(a.Code)),
		Bad: a.State == audit.Refused, Good: a.State == audit.Allowed,
	}
}

// trace finds what a code stands for: an attempt, or refusals that belong to
// none.
func (d *Dashboard) trace(ctx context.Context, v visit, code string) (*traceView, []audit.Trace, error) {
	told, err := d.Clients.Traces(ctx, v.project, code)
	if err != nil || len(told) == 0 {
		return nil, nil, err
	}
	if told[0].Attempt.ID == "" {
		return nil, told, nil
	}
	view := &traceView{Trace: told[0], Took: fmt.Sprintf("%.1f s", told[0].Took.Seconds())}
	if strings.HasPrefix(view.Attempt.ClientID, "connected-app-") {
		view.App = projectPath(v.project, "apps/"+url.PathEscape(view.Attempt.ClientID))
	}
	for _, s := range view.Trace.Steps {
		step := stepView{Step: s}
		if !s.At.IsZero() {
			step.Clock = view.Since(s.At)
		}
		step.AskedSame, step.AskedDiffers = s.Asked, ""
		for _, right := range s.Registered {
			same := common(s.Asked, right)
			step.AskedSame, step.AskedDiffers = s.Asked[:same], s.Asked[same:]
			step.Right = append(step.Right, differs{right[:same], right[same:]})
		}
		view.Steps = append(view.Steps, step)
	}
	return view, nil, nil
}

// common is how many bytes two texts begin with alike, up to the last slash
// among them, so that whole words are marked.
func common(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	if n == len(a) && n == len(b) {
		return n
	}
	return strings.LastIndexByte(a[:n], '/') + 1
}

package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
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
	Count       string // how many there are, as far as it was counted, "" where that says nothing
	Pressed     bool
	Bad         bool
}

// attemptRow is one attempt in a list.
type attemptRow struct {
	audit.Listed
	Door    door // as the attempt kept it: what became of the connected app since is not asked
	Got     string
	Path    string
	Current bool
	Bad     bool
	Good    bool
}

// traceView is one attempt, told.
type traceView struct {
	audit.Trace
	App     string // path of the connected app's page, "" where it is not known
	Add     string // where the return address that was refused can be added, "" for nowhere
	Request string // as an address, of what is kept of it
	Took    string
	Steps   []stepView
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
	counts, err := d.Traces.CountAttempts(ctx, v.project.ID, "")
	if err != nil {
		return err
	}
	if view.List, err = d.attemptList(r, v, projectPath(v.project, "attempts"), "", view.Chosen, counts); err != nil {
		return err
	}
	return d.pages.Render(w, status, "attempts", view)
}

// attemptList reads a part of the attempts, as the address filters them. counts
// says how many there are of each state.
func (d *Dashboard) attemptList(r *http.Request, v visit, path, clientID, chosen string, counts map[audit.State]audit.Count) (attemptList, error) {
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
		chip := stateChip{Words: strings.ToUpper(string(s[:1])) + string(s[1:]), Path: path + "?" + to.Encode(), Pressed: s == l.State, Bad: s == audit.Refused}
		if l.Query == "" { // of those that a search finds nobody knows how many
			chip.Count = atLeast(counts[s])
		}
		l.States = append(l.States, chip)
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

// atLeast writes a number, and a plus behind it where there are more.
func atLeast(c audit.Count) string {
	switch {
	case c.More && c.N == 0:
		return ""
	case c.More:
		return strconv.Itoa(c.N) + "+"
	}
	return strconv.Itoa(c.N)
}

func (d *Dashboard) attemptRow(v visit, a audit.Listed) attemptRow {
	return attemptRow{
		Listed: a, Door: door{Name: a.ClientName, Known: a.Creation != "" && a.Creation != string(oauth.Dynamic)}, Got: a.Got(d.Now()), Path: projectPath(v.project, "attempts/"+url.PathEscape(a.Code)),
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
	if view.Request, err = d.request(ctx, v.project, view.Attempt); err != nil {
		return nil, nil, err
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

// request writes what is kept of an attempt's request as its address, "" where the
// client is gone that it named.
func (d *Dashboard) request(ctx context.Context, p *project.Project, a audit.Attempt) (string, error) {
	id := a.ClientID
	if a.Creation == string(oauth.Document) { // requests name it by another id
		c, err := d.Clients.Client(ctx, p, id)
		if errors.Is(err, oauth.ErrNotFound) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		id = c.PublicID()
	}
	query := url.Values{}
	for name, value := range map[string]string{"client_id": id, "redirect_uri": a.RedirectURI, "resource": a.Resource, "scope": a.Scopes} {
		if value != "" {
			query.Set(name, value)
		}
	}
	return p.Issuer + oauth.PathAuthorize + "?" + query.Encode(), nil
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

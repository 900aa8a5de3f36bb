package admin

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/web"
)

// activityView is a part of the audit trail.
type activityView struct {
	frame
	Events []eventRow
	Groups []audit.Group
	Filter activityFilter
	Whose  []wholeID // what the list is narrowed to
	Unread []string  // filters that could not be read, a sentence each
	Search string    // where a trace code is looked up, "" for the deployment's own events
	Export string
	pager
	Back      time.Time // how far a search without an index looked, zero when it found enough
	Refreshes string    // the list of the refreshes that this one leaves out, "" when it leaves out none
}

// activityFilter is what the address asks for, as it was typed.
type activityFilter struct{ Kind, Person, Client, Object, Refused, Since, Until string }

// Any reports whether anything is asked for.
func (f activityFilter) Any() bool { return f != activityFilter{} }

// eventRow is one event in the table.
type eventRow struct {
	audit.Event
	Words string // its kind as a person says it
	Who   shortID
	About []shortID // whom and what it is about, besides who did it
	Trace string    // path of the attempt's page, "" for none
}

// shortID is an id in a row: a few signs of it, and a list that is narrowed to it
// and shows it whole.
type shortID struct{ Short, ID, Path string }

// wholeID is an id that a list is narrowed to.
type wholeID struct {
	What, ID string
	Path     string // of its page, "" for none
}

// activityPage is how many events stand on a page.
const activityPage = 50

// Activity shows the audit trail of a project, or of the deployment itself.
func (d *Dashboard) Activity(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	query, filter, problems := activityQuery(r.URL.Query(), v)
	query.Limit = activityPage
	view := activityView{frame: d.frame(r, v, "activity", "Activity", activityCommand("list", v, filter)), Groups: audit.Groups(), Filter: filter}
	view.Lead = "Times are UTC"
	view.Unread = problems
	if v.project != nil {
		view.Search = projectPath(v.project, "attempts")
	} else {
		view.Title = "Activity of the deployment"
	}
	page, err := d.Events.Events(r.Context(), query)
	if err != nil {
		return err
	}
	for _, e := range page.Events {
		view.Events = append(view.Events, v.eventRow(r.URL.Path, e))
	}
	for _, one := range []wholeID{{What: "Person", ID: filter.Person}, {What: "Connected app", ID: filter.Client}, {What: "About", ID: filter.Object}} {
		if one.Path = v.pageOf(one.ID); one.ID != "" {
			view.Whose = append(view.Whose, one)
		}
	}
	view.Back = page.LookedBackTo
	view.pager = turn(r, page.Next)
	asked := r.URL.Query()
	asked.Del("after")
	view.Export = r.URL.Path + "/export?" + asked.Encode()
	if lacksRefreshes(query) {
		asked.Set("kind", string(audit.TokenRefreshed))
		view.Refreshes = r.URL.Path + "?" + asked.Encode()
	}
	return d.pages.Render(w, http.StatusOK, "activity", view)
}

// lacksRefreshes reports whether the answer to a query would have refreshes, were it
// not about somebody.
func lacksRefreshes(q audit.Query) bool {
	asked := len(q.Kinds) == 0 || slices.Contains(q.Kinds, audit.TokenRefreshed)
	return q.ProjectID != "" && asked && !q.RefusedOnly && q.LeavesOutRefreshes()
}

// activityQuery reads the filters of an address.
func activityQuery(values url.Values, v visit) (audit.Query, activityFilter, []string) {
	f := activityFilter{
		Kind: values.Get("kind"), Person: strings.TrimSpace(values.Get("person")), Client: strings.TrimSpace(values.Get("client")),
		Object: strings.TrimSpace(values.Get("object")), Refused: values.Get("refused"), Since: values.Get("since"), Until: values.Get("until"),
	}
	q := audit.Query{ClientID: f.Client, Object: f.Object, RefusedOnly: f.Refused == "yes", Before: values.Get("after")}
	if v.project != nil {
		q.ProjectID = v.project.ID
	}
	var problems []string
	if f.Kind != "" {
		if q.Kinds, _ = audit.KindsOf(f.Kind); q.Kinds == nil {
			problems = append(problems, "There is no such kind of event.")
		}
	}
	// Ids of people are subjects; an address is an administrator's.
	if strings.Contains(f.Person, "@") || f.Person == audit.Operator {
		q.Actor = f.Person
	} else {
		q.Subject = f.Person
	}
	for _, one := range []struct {
		name, text string
		at         *time.Time
	}{{"From", f.Since, &q.Since}, {"Until", f.Until, &q.Until}} {
		if one.text == "" {
			continue
		}
		at, err := time.Parse("2006-01-02T15:04", one.text)
		if err != nil {
			problems = append(problems, one.name+" must be a day and a time, such as 2026-11-20T23:00.")
		}
		*one.at = at
	}
	return q, f, problems
}

// activityCommand is the command that shows the same.
func activityCommand(verb string, v visit, f activityFilter) string {
	words := []string{"audit", verb}
	for _, one := range []struct{ flag, value string }{{"--kind", f.Kind}, {"--client", f.Client}, {"--object", f.Object}} {
		if one.value != "" {
			words = append(words, one.flag, one.value)
		}
	}
	switch {
	case f.Person == "":
	case strings.Contains(f.Person, "@") || f.Person == audit.Operator:
		words = append(words, "--actor", f.Person)
	default:
		words = append(words, "--subject", f.Person)
	}
	if f.Refused == "yes" {
		words = append(words, "--refused")
	}
	if f.Since != "" {
		words = append(words, "--since", f.Since+":00Z")
	}
	if f.Until != "" {
		words = append(words, "--until", f.Until+":00Z")
	}
	return v.command(words...)
}

// eventRow adds what the table at a path shows besides an event.
func (v visit) eventRow(path string, e audit.Event) eventRow {
	row := eventRow{Event: e, Words: kindWords(e.Kind), Who: shortID{Short: e.Actor, ID: e.Actor}}
	by := "person"
	if e.Actor == e.ClientID {
		by = "client"
	}
	row.Who.Path = path + "?" + url.Values{by: {e.Actor}}.Encode()
	if ourID.MatchString(e.Actor) {
		row.Who.Short = short(e.Actor)
	}
	seen := []string{e.Actor}
	for _, one := range []struct{ filter, id string }{{"person", e.Subject}, {"client", e.ClientID}, {"object", e.Object}} {
		if one.id == "" || slices.Contains(seen, one.id) {
			continue
		}
		seen = append(seen, one.id)
		id := shortID{Short: short(one.id), ID: one.id, Path: path + "?" + url.Values{one.filter: {one.id}}.Encode()}
		if one.filter == "person" && strings.Contains(one.id, "@") {
			id.Path = "" // the filter would ask what this administrator did
		}
		row.About = append(row.About, id)
	}
	if v.project != nil && e.Attempt != "" {
		row.Trace = projectPath(v.project, "attempts/"+url.PathEscape(e.Attempt))
	}
	return row
}

// pageOf is the path of the page about what an id names, "" for none.
func (v visit) pageOf(id string) string {
	if v.project == nil {
		return ""
	}
	for prefix, list := range map[string]string{"user-": "users/", "organization-": "organizations/", "connected-app-": "apps/"} {
		if strings.HasPrefix(id, prefix) {
			return projectPath(v.project, list+url.PathEscape(id))
		}
	}
	return ""
}

// ourID is one that Postern made: mostly what it names, and a UUID.
var ourID = regexp.MustCompile(`^([a-z-]+?-)??(?:(?:test|live)-)?[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{6}([0-9a-f]{6})$`)

// shortest is how much a table shows of a text that is none of our ids.
const shortest = 22

// short leaves the middle of an id out. What our ids end with is random; what
// they begin with, the time, is alike in neighbouring rows.
func short(id string) string {
	if parts := ourID.FindStringSubmatch(id); parts != nil {
		return parts[1] + "…" + parts[2]
	}
	if runes := []rune(id); len(runes) > shortest {
		return string(runes[:shortest/2]) + "…" + string(runes[len(runes)-shortest/2:])
	}
	return id
}

// kindWords says a kind in words: "token.refresh_reused" is "Token refresh
// reused".
func kindWords(k audit.Kind) string {
	words := strings.NewReplacer(".", " ", "_", " ").Replace(string(k))
	return strings.ToUpper(words[:1]) + words[1:]
}

const (
	// exportBatch is how many events are read at once, exportMost how many an
	// export has at most; "postern audit export" has no such end.
	exportBatch = 1_000
	exportMost  = 100_000
)

// ExportActivity sends what the filters find as JSON lines, the newest first.
func (d *Dashboard) ExportActivity(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	query, _, problems := activityQuery(r.URL.Query(), v)
	if len(problems) > 0 {
		return &web.Error{Status: http.StatusBadRequest, Page: web.ErrorPage{What: problems[0]}}
	}
	query.Limit = exportBatch
	page, err := d.Events.Events(r.Context(), query)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/jsonl; charset=utf-8")
	h.Set("Content-Disposition", `attachment; filename="postern-activity-`+d.Now().UTC().Format("2006-01-02T150405")+`.jsonl"`)
	out := bufio.NewWriter(w)
	lines := json.NewEncoder(out)
	for sent := 0; ; {
		for _, e := range page.Events {
			if err := lines.Encode(e); err != nil {
				return nil // whoever asked went away
			}
		}
		if sent += len(page.Events); page.Next == "" || sent >= exportMost {
			break
		}
		query.Before = page.Next
		if page, err = d.Events.Events(r.Context(), query); err != nil {
			return err // the answer ends in the middle, and the log says why
		}
	}
	_ = out.Flush() // as above
	return nil
}

package admin

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
)

// overviewView is the first page of a project.
type overviewView struct {
	frame
	Charts        []chart
	Warnings      []warning
	Switches      []switchRow
	Was           string // what their form says it saw
	Registrations oauth.Registrations
	Search        string // where a trace code is looked up
	Attempts      []attemptRow
	Switch        string // the command that turns the switches
}

// warning is something to look at, with a way out.
type warning struct {
	Bold, Text string
	Way        link
}

// Overview shows the last 24 hours of a project, and what needs attention.
func (d *Dashboard) Overview(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	if r.Method == http.MethodPost {
		values, err := d.form(r, v)
		if err != nil {
			return err
		}
		return d.flip(w, r, v, values, doors())
	}
	ctx := r.Context()
	day, err := d.Tallies.Day(ctx, v.project.ID)
	if err != nil {
		return err
	}
	causes, err := d.Events.RefusalCauses(ctx, v.project.ID, day.Hours[0].Start, maxCauses)
	if err != nil {
		return err
	}
	keys, err := d.Keys.All(ctx, v.project.ID)
	if err != nil {
		return err
	}
	registrations, err := d.Clients.Registrations(ctx, v.project)
	if err != nil {
		return err
	}
	attempts, err := d.Traces.Attempts(ctx, v.project.ID, audit.AttemptFilter{}, "", latestAttempts)
	if err != nil {
		return err
	}
	view := overviewView{
		frame: d.frame(r, v, "", "Overview", v.command("project", "show")), Charts: charts(day),
		Registrations: registrations, Search: projectPath(v.project, "attempts"),
	}
	for _, a := range attempts {
		view.Attempts = append(view.Attempts, d.attemptRow(v, a))
	}
	view.Lead = "Last 24 hours, UTC"
	view.Switches, view.Switch, view.Was = v.switchRows(doors())
	view.Warnings = append(d.warnings(v, keys), refusalWarnings(v, causes)...)
	return d.pages.Render(w, http.StatusOK, "overview", view)
}

// warnings are about the project itself.
func (d *Dashboard) warnings(v visit, keys []signing.Key) []warning {
	var all []warning
	for _, problem := range d.Unfit(v.project.Name, v.project.Issuer) {
		all = append(all, warning{"This project is not safe to serve.", sentence(problem), link{"Open Settings", projectPath(v.project, "settings")}})
	}
	if len(v.project.Resources) == 0 {
		all = append(all, warning{"No resource server yet.", "No server accepts a token of this project before one is registered.", link{"Register one", projectPath(v.project, "resources")}})
	}
	if v.project.Settings.UnregisteredResources && v.project.Environment == project.Live {
		all = append(all, warning{"Unregistered resources are allowed.", "A connected app may ask for a token for any server.", link{"Open Settings", projectPath(v.project, "settings")}})
	}
	if due := d.Keys.Due(keys); !due.IsZero() && due.Sub(d.Now()) < soonRotated {
		all = append(all, warning{"A signing key is about to be followed by the next.", "It rotates by itself on " + due.UTC().Format("2 Jan") + ". Nothing to do.", link{"Open Keys", projectPath(v.project, "keys")}})
	}
	return all
}

const (
	soonRotated = 10 * 24 * time.Hour
	// manyRefusals is from how many refusals on a cause is worth a warning, and
	// maxCauses how many causes are.
	manyRefusals = 5
	maxCauses    = 2
)

// refusalWarnings name what many refusals have in common.
func refusalWarnings(v visit, causes []audit.Cause) []warning {
	var all []warning
	for _, c := range causes {
		if c.Count < manyRefusals {
			break
		}
		filter := "?refused=yes&kind=" + string(c.Kind)
		if c.ClientID != "" {
			filter += "&client=" + c.ClientID
		}
		all = append(all, warning{
			fmt.Sprintf("%d refusals since %s share one cause.", c.Count, c.First.UTC().Format("15:04")), sentence(c.Reason),
			link{"See them", projectPath(v.project, "activity") + filter},
		})
	}
	return all
}

// chart is one figure of the day, drawn.
type chart struct {
	Name, Figure, Change string
	Bad                  bool
	Bars                 []bar
	From, Middle         string // clock of the first hour and of the one in the middle
}

// bar is one hour of a chart.
type bar struct {
	Path    string // of the bar, in the chart's units; "" for an hour without any
	X       string
	Clock   string
	Count   int
	Running bool
}

// The chart's units.
const (
	chartHeight = 44.0
	barWidth    = 6.0
	barStep     = 8.25
)

func charts(day audit.Day) []chart {
	sum := day.Sum()
	figures := []struct {
		name          string
		now, before   int
		of            func(audit.Hour) int
		bad, complete bool
	}{
		{name: "Sign-ins", now: sum.SignIns, before: day.Before.SignIns, of: func(h audit.Hour) int { return h.SignIns }},
		{name: "Grants", now: sum.Grants, before: day.Before.Grants, of: func(h audit.Hour) int { return h.Grants }},
		{name: "Tokens", now: sum.Tokens, before: day.Before.Tokens, of: func(h audit.Hour) int { return h.Tokens }},
		{name: "Refusals", now: sum.Refusals, before: day.Before.Refusals, of: func(h audit.Hour) int { return h.Refusals }, bad: true},
	}
	all := make([]chart, len(figures))
	for i, f := range figures {
		highest := 1
		for _, h := range day.Hours {
			highest = max(highest, f.of(h))
		}
		c := chart{
			Name: f.name, Figure: thousands(f.now), Change: change(f.now, f.before), Bad: f.bad,
			From: day.Hours[0].Start.Format("15:04"), Middle: day.Hours[len(day.Hours)/2].Start.Format("15:04"),
		}
		for n, h := range day.Hours {
			x := float64(n) * barStep
			b := bar{Clock: h.Start.Format("15:04"), Count: f.of(h), Running: n == len(day.Hours)-1, X: number(x)}
			if b.Count > 0 {
				// A round top on straight sides; the smallest bar is its top.
				straight := math.Max(0, chartHeight*float64(b.Count)/float64(highest)-barWidth/2)
				b.Path = "M" + number(x) + " " + number(chartHeight) + "v-" + number(straight) + "a3 3 0 0 1 6 0v" + number(straight) + "z"
			}
			c.Bars = append(c.Bars, b)
		}
		all[i] = c
	}
	return all
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 32) }

// change compares a day with the day before.
func change(now, before int) string {
	if before == 0 || now == before {
		return ""
	}
	return fmt.Sprintf("%+.0f %%", 100*float64(now-before)/float64(before))
}

// thousands writes a number with commas.
func thousands(n int) string {
	digits := strconv.Itoa(n)
	var groups []string
	for len(digits) > 3 {
		groups = append([]string{digits[len(digits)-3:]}, groups...)
		digits = digits[:len(digits)-3]
	}
	return strings.Join(append([]string{digits}, groups...), ",")
}

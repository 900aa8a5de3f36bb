package admin

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/signing"
)

// overviewView is the first page of a project.
type overviewView struct {
	frame
	Charts     []chart
	Warnings   []warning
	Switches   []switchRow
	Registered string // new self-registrations of the day
	Search     string // where a trace code is looked up
	Attempts   []attemptRow
	Switch     string // the command that turns the switches
}

// warning is something to look at, with a way out.
type warning struct {
	Bold, Text string
	Way        link
}

// switchRow is one of the settings that say who may register.
type switchRow struct {
	Setting, Name, Text string // Setting is the field of the form
	On                  bool
}

// aSwitch is a setting that is on or off, by the word that form and command
// know it by.
type aSwitch struct {
	setting, name, on, off string
	field                  func(*project.Settings) *bool
}

// word is the value as the command says it.
func (s aSwitch) word(on bool) string {
	words := [2]string{"off", "on"}
	if s.setting == "unregistered-resources" {
		words = [2]string{"refuse", "allow"}
	}
	if on {
		return words[1]
	}
	return words[0]
}

// The switches on the first page.
var switches = []aSwitch{
	{"cimd", "Registration by metadata document", "The host it comes from vouches for it.", "Off. Clients that are known by an address of their own are refused.", func(s *project.Settings) *bool { return &s.MetadataDocuments }},
	{"dynamic-registration", "Self-registration", "Dynamic client registration, at most 60 an hour for each address.", "Off: no dynamic client registration. Only clients that you register, or that have a metadata document, come in.", func(s *project.Settings) *bool { return &s.DynamicRegistration }},
	{"unregistered-resources", "Unregistered resources", "Tokens may name servers that nobody registered here.", "Off. Tokens name a server you know.", func(s *project.Settings) *bool { return &s.UnregisteredResources }},
}

// Overview shows the last 24 hours of a project, and what needs attention.
func (d *Dashboard) Overview(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	if r.Method == http.MethodPost {
		return d.turn(w, r, v)
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
	registered, err := d.Events.Events(ctx, audit.Query{ProjectID: v.project.ID, Kinds: []audit.Kind{audit.ClientRegistered}, Since: day.Hours[0].Start, Limit: manyRegistered})
	if err != nil {
		return err
	}
	attempts, err := d.Traces.Attempts(ctx, v.project.ID, audit.AttemptFilter{}, "", latestAttempts)
	if err != nil {
		return err
	}
	view := overviewView{
		frame: d.frame(r, v, "", "Overview", v.command("project", "show")), Charts: charts(day),
		Registered: strconv.Itoa(len(registered.Events)), Search: projectPath(v.project, "attempts"),
	}
	if len(registered.Events) == manyRegistered {
		view.Registered += " or more"
	}
	for _, a := range attempts {
		view.Attempts = append(view.Attempts, d.attemptRow(v, a))
	}
	view.Lead = "Last 24 hours, UTC"
	set := []string{"project", "set"}
	for _, s := range switches {
		row := switchRow{Setting: s.setting, Name: s.name, Text: s.off, On: *s.field(&v.project.Settings)}
		if row.On {
			row.Text = s.on
		}
		view.Switches = append(view.Switches, row)
		set = append(set, s.setting, s.word(row.On))
	}
	view.Switch = v.command(set...)
	view.Warnings = append(d.warnings(v, keys), refusalWarnings(v, causes)...)
	return d.pages.Render(w, http.StatusOK, "overview", view)
}

// manyRegistered is how many new clients are counted one by one.
const manyRegistered = 500

// turn sets the switches of the form.
func (d *Dashboard) turn(w http.ResponseWriter, r *http.Request, v visit) error {
	values, err := d.form(r, v)
	if err != nil {
		return err
	}
	_, err = d.Projects.By(v.origin).Change(r.Context(), v.project.ID, func(p *project.Project) error {
		for _, s := range switches {
			*s.field(&p.Settings) = values.Get(s.setting) == "on"
		}
		return nil
	})
	if err != nil {
		return err
	}
	d.Changed(r.Context())
	d.done(w, r, r.URL.Path, "saved", "")
	return nil
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

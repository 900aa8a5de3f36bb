package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

func (p *program) auditCommand() *cobra.Command {
	c := group("audit", "Read what happened: who did what, from where, and what was refused", p.auditList(), p.auditTail(), p.auditExport(), p.auditVerify())
	c.PersistentFlags().Bool("json", false, "print JSON")
	c.PersistentFlags().String("project", "", "of one project alone, by id or issuer; without it of all, and of the deployment")
	return c
}

// everyEvent is how many events are read at once.
const everyEvent = 500

// eventFlags say which events somebody wants to see.
type eventFlags struct {
	kinds           []string
	client, subject string
	refused         bool
	limit           int
}

func (f *eventFlags) add(c *cobra.Command, limit int) {
	c.Flags().StringSliceVar(&f.kinds, "kind", nil, "a kind such as token.refused, or signins, access, apps, people, settings; repeat it for more")
	c.Flags().StringVar(&f.client, "client", "", "about the client with this id; its refreshes with --kind token.refreshed")
	c.Flags().StringVar(&f.subject, "subject", "", "about the user or member with this id; refreshes of their tokens with --kind token.refreshed")
	c.Flags().BoolVar(&f.refused, "refused", false, "only what was refused")
	c.Flags().IntVar(&f.limit, "limit", limit, "how many, the newest")
}

// query makes a query of the flags, for any project.
func (f *eventFlags) query(cmd *cobra.Command) (audit.Query, error) {
	q := audit.Query{ClientID: f.client, Subject: f.subject, RefusedOnly: f.refused, Limit: f.limit}
	for _, name := range f.kinds {
		kinds, ok := audit.KindsOf(name)
		if !ok {
			return q, misused(cmd, "there is no kind of event %s; docs/guide/audit.md lists them", printable(name))
		}
		q.Kinds = append(q.Kinds, kinds...)
	}
	if slices.Contains(f.kinds, string(audit.TokenRefreshed)) && q.LeavesOutRefreshes() {
		return q, misused(cmd, "with --client and --subject, token.refreshed is asked for alone: leave out the other kinds")
	}
	if f.limit < 1 || f.limit > 10_000 {
		return q, misused(cmd, "--limit must be from 1 to 10000")
	}
	return q, nil
}

// momentFlag reads a flag that is a time, or how long ago that was; "" is the
// zero time.
func momentFlag(cmd *cobra.Command, name, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, form := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(form, text); err == nil {
			return t, nil
		}
	}
	ago, err := project.ParseSpan(text)
	if err != nil {
		return time.Time{}, misused(cmd, "--%s must be a time such as 2026-11-20T18:00:00Z or 2026-11-20, or how long ago, such as 2h or 7d", name)
	}
	return now.Add(-time.Duration(ago) * time.Second), nil
}

// trails are the ids of the projects whose events a command reads; "" is the
// deployment.
func (d *desk) trails(ctx context.Context, ref string) ([]string, error) {
	if ref != "" {
		one, err := d.project(ctx, ref)
		if err != nil {
			return nil, err
		}
		return []string{one.ID}, nil
	}
	all, err := d.projects.All(ctx)
	ids := []string{""}
	for _, one := range all {
		ids = append(ids, one.ID)
	}
	return ids, err
}

// newest reads the newest events that a query asks for, the newest first.
func (d *desk) newest(ctx context.Context, ids []string, q audit.Query) ([]audit.Event, error) {
	var all []audit.Event
	for _, id := range ids {
		turn, found := q, 0
		turn.ProjectID = id
		for {
			page, err := d.db.Events(ctx, turn)
			if err != nil {
				return nil, err
			}
			all, found = append(all, page.Events...), found+len(page.Events)
			if page.Next == "" || found >= q.Limit {
				break
			}
			turn.Before = page.Next // it looked only so far back
		}
	}
	slices.SortFunc(all, func(a, b audit.Event) int { return cmp.Compare(b.ID, a.ID) })
	return all[:min(len(all), q.Limit)], nil
}

func (p *program) auditList() *cobra.Command {
	var f eventFlags
	var since string
	c := &cobra.Command{
		Use:   "list",
		Short: "List events, the newest first",
		Args:  needs(),
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		q, err := f.query(cmd)
		if err != nil {
			return err
		}
		if q.Since, err = momentFlag(cmd, "since", since, p.now()); err != nil {
			return err
		}
		return p.atTrails(func(ctx context.Context, d *desk, ids []string) error {
			events, err := d.newest(ctx, ids, q)
			switch {
			case err != nil:
				return err
			case d.json:
				return d.out.json(append([]audit.Event{}, events...)) // never null
			case len(events) == 0:
				d.out.line("No such event.")
				return nil
			}
			heads, rows := eventTable(d.out, events, len(ids) > 2)
			d.out.table(heads, rows)
			return nil
		})(cmd, args)
	}
	f.add(c, 50)
	c.Flags().StringVar(&since, "since", "", "not before this time, or so long ago: 2026-11-20T18:00:00Z, 2026-11-20, 2h, 7d")
	return c
}

// atTrails is atDesk for commands about the events of one project or of all.
func (p *program) atTrails(do func(ctx context.Context, d *desk, ids []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ref, err := cmd.Flags().GetString("project")
		if err != nil {
			return err
		}
		return p.atDesk(func(ctx context.Context, d *desk, _ []string) error {
			ids, err := d.trails(ctx, ref)
			if err != nil {
				return err
			}
			return do(ctx, d, ids)
		})(cmd, args)
	}
}

func (p *program) auditTail() *cobra.Command {
	var f eventFlags
	var follow bool
	c := &cobra.Command{
		Use:   "tail",
		Short: "Print the newest events, the oldest of them first, and with --follow what happens next",
		Args:  needs(),
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		q, err := f.query(cmd)
		if err != nil {
			return err
		}
		return p.atTrails(func(ctx context.Context, d *desk, ids []string) error {
			began := p.now()
			events, err := d.newest(ctx, ids, q)
			if err != nil {
				return err
			}
			slices.Reverse(events)
			if err := d.tell(events); err != nil || !follow {
				return err
			}
			ref, _ := cmd.Flags().GetString("project")
			return d.follow(ctx, ref, q, began, events)
		})(cmd, args)
	}
	f.add(c, 20)
	c.Flags().BoolVarP(&follow, "follow", "f", false, "go on until Ctrl-C")
	return c
}

// follow prints events as they come, until ctx ends; known were printed already.
func (d *desk) follow(ctx context.Context, ref string, q audit.Query, began time.Time, known []audit.Event) error {
	printed := map[string]bool{}
	for _, e := range known {
		printed[e.ID] = true
	}
	// Some seconds before the first look, for what was on its way then.
	follower := audit.Follow(d.db, began.Add(-5*time.Second))
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		ids, err := d.trails(ctx, ref) // a new project counts from its first event
		var events []audit.Event
		if err == nil {
			events, err = follower.Next(ctx, ids)
		}
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		events = slices.DeleteFunc(events, func(e audit.Event) bool {
			asked := q
			asked.ProjectID = e.ProjectID
			// What was there before the first look was printed, or is too old for it.
			return printed[e.ID] || len(known) >= q.Limit && e.ID < known[0].ID || !asked.Matches(e)
		})
		if err := d.tell(events); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// tell prints events as lines, each for itself.
func (d *desk) tell(events []audit.Event) error {
	for _, e := range events {
		if d.json {
			if err := d.eventLine(e); err != nil {
				return err
			}
			continue
		}
		outcome := ""
		if e.Refused {
			outcome = d.out.red("refused: " + printable(e.Reason))
		}
		text := []string{d.out.dim(e.At.UTC().Format(time.DateTime)), d.out.bright(printable(string(e.Kind)))}
		for _, part := range []struct{ name, value string }{
			{"by", e.Actor}, {"about", e.Subject}, {"client", e.ClientID}, {"object", e.Object}, {"from", e.Address}, {"trace", e.TraceID},
		} {
			if part.value != "" {
				text = append(text, d.out.dim(part.name)+" "+printable(part.value))
			}
		}
		if outcome != "" {
			text = append(text, outcome)
		}
		d.out.line("%s", strings.Join(text, "  "))
	}
	return nil
}

// eventLine prints one event as a line of JSON.
func (d *desk) eventLine(e audit.Event) error {
	encoder := json.NewEncoder(d.out)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(e)
}

func (p *program) auditExport() *cobra.Command {
	var since, until string
	c := &cobra.Command{
		Use:   "export",
		Short: "Print events as lines of JSON, one project after another, the oldest first",
		Args:  needs(),
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		from, err := momentFlag(cmd, "since", since, p.now())
		if err != nil {
			return err
		}
		to, err := momentFlag(cmd, "until", until, p.now())
		if err != nil {
			return err
		}
		return p.atTrails(func(ctx context.Context, d *desk, ids []string) error {
			for _, id := range ids {
				if err := d.export(ctx, id, from, to); err != nil {
					return err
				}
			}
			return nil
		})(cmd, args)
	}
	c.Flags().StringVar(&since, "since", "", "not before this time, or so long ago: 2026-11-20T18:00:00Z, 2026-11-20, 2h, 7d")
	c.Flags().StringVar(&until, "until", "", "only before this time, or so long ago")
	return c
}

// export prints the events of a project in [from, to).
func (d *desk) export(ctx context.Context, projectID string, from, to time.Time) error {
	after := ""
	for {
		events, err := d.db.EventsAfter(ctx, projectID, from, after, everyEvent)
		if err != nil {
			return err
		}
		for _, e := range events {
			if !to.IsZero() && !e.At.Before(to) {
				return nil
			}
			if err := d.eventLine(e); err != nil {
				return err
			}
			after = e.ID
		}
		if len(events) < everyEvent {
			return nil
		}
	}
}

// verdictJSON is what verify found in one trail.
type verdictJSON struct {
	ProjectID string        `json:"project_id"` // "" for the deployment
	Events    int           `json:"events"`     // that are as they were sealed
	Waiting   int           `json:"waiting"`    // for their seal
	Unvouched int           `json:"unvouched"`  // their seal was changed or removed
	Wrong     int           `json:"wrong"`
	Head      string        `json:"head"`
	Findings  []findingJSON `json:"findings"` // the first 100
}

type findingJSON struct {
	What  string       `json:"what"`
	Seal  int64        `json:"seal"`
	ID    string       `json:"event_id,omitempty"`
	Event *audit.Event `json:"event,omitempty"` // as it is now
}

func (p *program) auditVerify() *cobra.Command {
	var head string
	c := &cobra.Command{
		Use:   "verify",
		Short: "Say which events were changed, removed or added in the database",
		Long: `Compare the events with the seals that a running server makes of them every
minute, and name those that somebody changed, removed or added in the database.
It prints the head of each trail. Keep that elsewhere and give it back with
--head, to see also when the newest events were cut off with their seals.`,
		Args: needs(),
	}
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if head != "" && !cmd.Flags().Changed("project") {
			return misused(cmd, "--head is of one project; name it with --project")
		}
		return p.atTrails(func(ctx context.Context, d *desk, ids []string) error {
			opened, err := d.withKey(cmd)
			if err != nil {
				return err
			}
			defer opened.Close()
			seals, wrongs, all := opened.Seals(p.now), 0, []verdictJSON{}
			for _, id := range ids {
				v, err := seals.Verify(ctx, id, head)
				switch {
				case errors.Is(err, audit.ErrHead):
					return misused(cmd, "--head must be what an earlier postern audit verify printed")
				case err != nil:
					return err
				}
				wrongs += v.Wrong
				all = append(all, describeVerdict(id, v))
				if !d.json {
					d.verdict(id, v)
				}
			}
			if d.json {
				if err := d.out.json(all); err != nil {
					return err
				}
			}
			if wrongs > 0 {
				return wrong("", "the audit trail was changed in the database; findings: %d", wrongs)
			}
			return nil
		})(cmd, args)
	}
	c.Flags().StringVar(&head, "head", "", "the head that an earlier verify of this project printed")
	return c
}

func describeVerdict(id string, v audit.Verdict) verdictJSON {
	j := verdictJSON{ProjectID: id, Events: v.Events, Waiting: v.Waiting, Unvouched: v.Unvouched, Wrong: v.Wrong, Head: v.Head, Findings: []findingJSON{}}
	for _, f := range v.Findings {
		one := findingJSON{What: f.What, Seal: f.Seal, ID: f.Event.ID}
		if f.Event.Kind != "" {
			one.Event = &f.Event
		}
		j.Findings = append(j.Findings, one)
	}
	return j
}

// verdict prints what verify found in a trail.
func (d *desk) verdict(id string, v audit.Verdict) {
	name := cmp.Or(id, "the deployment")
	sign := d.out.green("ok")
	if v.Wrong > 0 {
		sign = d.out.red("FAIL")
	}
	text := fmt.Sprintf("%s %s: events as they were sealed: %d; waiting for their seal: %d", sign, name, v.Events, v.Waiting)
	if v.Waiting > 0 {
		text += ", since " + stamp(v.Oldest)
	}
	if v.Unvouched > 0 {
		text += fmt.Sprintf("; without a seal that holds: %d", v.Unvouched)
	}
	d.out.line("%s", text)
	for _, f := range v.Findings {
		switch f.What {
		case audit.SealChanged, audit.SealRemoved:
			d.out.line("   %s  number %d", d.out.red(f.What), f.Seal)
		case audit.EventRemoved:
			d.out.line("   %s  %s", d.out.red(f.What), f.Event.ID)
		default:
			d.out.line("   %s  %s  %s  %s", d.out.red(f.What), printable(f.Event.ID), f.Event.At.UTC().Format(time.DateTime), printable(string(f.Event.Kind)))
		}
	}
	if more := v.Wrong - len(v.Findings); more > 0 {
		d.out.line("   and %d more", more)
	}
	if v.Head != "" {
		d.out.line("   %s %s", d.out.dim("head"), v.Head)
	}
}

// eventTable makes a table of events; projects gives it a column for theirs.
func eventTable(out terminal, events []audit.Event, projects bool) (heads []string, rows [][]string) {
	heads = []string{"AT", "EVENT", "OUTCOME", "BY", "ABOUT", "CLIENT", "FROM", "TRACE"}
	for _, e := range events {
		outcome := out.green("done")
		if e.Refused {
			outcome = out.red("refused: " + printable(e.Reason))
		}
		row := []string{
			e.At.UTC().Format(time.DateTime), out.bright(printable(string(e.Kind))), outcome,
			shown(e.Actor), shown(cmp.Or(e.Subject, e.Object)), shown(e.ClientID), shown(e.Address), shown(e.TraceID),
		}
		if projects {
			row = append(row, shown(e.ProjectID))
		}
		rows = append(rows, row)
	}
	if projects {
		heads = append(heads, "PROJECT")
	}
	return heads, rows
}

// shown is a text that a stranger may have chosen, in a cell of a table.
func shown(text string) string { return cmp.Or(printable(text), "-") }

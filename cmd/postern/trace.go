package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
)

// listedAttempts is how many attempts are listed when nobody says.
const listedAttempts = 20

func (p *program) traceCommand() *cobra.Command {
	var f audit.AttemptFilter
	var state string
	limit := listedAttempts
	c := &cobra.Command{
		Use:   "trace [CODE]",
		Short: "Show what happened to an authorization attempt, step by step",
		Long: `Show what happened to an authorization attempt, step by step: discovery,
registration, authorize, sign-in, consent, token, first call. Where it was
refused it says why, what was asked, what is registered, and whose turn it is.

CODE is the trace code of an error page, of a log line, or of the header
X-Request-Id of a refused answer; its first two groups are enough. A person's
e-mail address or a network address lists the attempts from there; without
anything the newest are listed. Attempts are kept for 24 hours.`,
		Args: atMost(1),
		RunE: p.ofProject(func(ctx context.Context, d *desk, one *project.Project, args []string) error {
			if f.State = audit.State(state); f.State != "" && !known(f.State) {
				return wrong("postern trace --help", "--state is waiting, refused, denied or allowed, not %q", state)
			}
			if limit < 1 || limit > 1000 {
				return wrong("postern trace --help", "--limit is a number from 1 to 1000")
			}
			query := strings.Join(args, "")
			if _, _, isCode := audit.CodeRange(query); isCode {
				return d.showTrace(ctx, one, query)
			}
			f.Query = query
			code, email, address := f.Search()
			if query != "" && code+email+address == "" {
				return wrong("postern trace", "%q is no trace code, e-mail address or network address; a code has nine letters and digits, such as K7F-2QX-9MD", printable(query))
			}
			return d.listAttempts(ctx, one, f, limit)
		}),
	}
	c.Flags().Bool("json", false, "print JSON")
	c.Flags().String("project", "", "which project, by id or issuer; not needed when there is one")
	c.Flags().StringVar(&f.ClientID, "client", "", "only those of a connected app, by its id")
	c.Flags().StringVar(&state, "state", "", "only waiting, refused, denied or allowed ones")
	c.Flags().IntVar(&limit, "limit", limit, "how many to list")
	return c
}

func known(s audit.State) bool {
	for _, one := range audit.States() {
		if s == one {
			return true
		}
	}
	return false
}

// showTrace prints what a code stands for; where it stands for several, a list
// to choose from.
func (d *desk) showTrace(ctx context.Context, one *project.Project, code string) error {
	traces, err := d.clients.Traces(ctx, one, code)
	if err != nil {
		return err
	}
	switch {
	case len(traces) == 0:
		return wrong("postern trace", "the project %s has no attempt with the code %s; attempts are kept for 24 hours", one.Name, printable(code))
	case d.json:
		all := make([]traceJSON, len(traces))
		for i, t := range traces {
			all[i] = describeTrace(t)
		}
		return d.out.json(all)
	case len(traces) > 1:
		d.out.line("%d attempts begin with %s:", len(traces), printable(strings.ToUpper(code)))
		d.out.line("")
		var rows [][]string
		for _, t := range traces {
			rows = append(rows, []string{d.out.bright(t.Attempt.Code), stamp(t.Attempt.StartedAt), string(t.Attempt.State), printable(clientOf(t.Attempt))})
		}
		d.out.table([]string{"CODE", "BEGAN", "STATE", "CONNECTED APP"}, rows)
		return nil
	}
	d.printTrace(traces[0])
	return nil
}

// clientOf is what an attempt's client is called.
func clientOf(a audit.Attempt) string {
	if a.ClientName != "" {
		return a.ClientName
	}
	return a.ClientID
}

func (d *desk) printTrace(t audit.Trace) {
	a := t.Attempt
	state := d.out.bright(string(a.State))
	if a.State == audit.Refused {
		state = d.out.red(string(a.State))
	}
	d.out.line("%s   %s   %s", d.out.bright(a.Code), state, printable(clientOf(a)))
	d.out.line("%s", d.out.dim(fmt.Sprintf("%s UTC. %.1f s", a.StartedAt.UTC().Format("2006-01-02 15:04:05"), t.Took.Seconds())))
	if t.Summary != "" {
		d.out.line("%s", printable(t.Summary))
	}
	d.out.line("")
	var rows [][]string
	beside := func(label, value string) {
		rows = append(rows, []string{"", "", d.out.dim(label), printable(value)})
	}
	for _, s := range t.Steps {
		sign, sentence := d.out.dim("-"), d.out.dim(printable(s.Sentence))
		switch s.Mark {
		case audit.Passed:
			sign, sentence = d.out.ok(), printable(s.Sentence)
		case audit.Failed:
			sign, sentence = d.out.fail(), d.out.red(printable(s.Sentence))
		}
		rows = append(rows, []string{sign, s.Stage.Title(), d.out.dim(t.Since(s.At)), sentence})
		if s.Asked != "" {
			beside("asked", s.Asked)
		}
		for i, r := range s.Registered {
			beside([]string{"registered", ""}[min(i, 1)], r)
		}
		if s.Turn != "" {
			beside("whose turn", string(s.Turn))
		}
		if s.Next != "" {
			beside("what to do", s.Next)
		}
	}
	d.out.table(nil, rows)
}

func (d *desk) listAttempts(ctx context.Context, one *project.Project, f audit.AttemptFilter, limit int) error {
	list, err := d.db.Attempts(ctx, one.ID, f, "", limit)
	if err != nil {
		return err
	}
	now := d.program.now()
	if d.json {
		all := make([]attemptJSON, len(list))
		for i, l := range list {
			all[i] = describeAttempt(l.Attempt)
			all[i].Got, all[i].Email = l.Got(now), l.Email
		}
		return d.out.json(all)
	}
	if len(list) == 0 {
		d.out.line("No attempt in the last 24 hours.")
		return nil
	}
	var rows [][]string
	for _, l := range list {
		got := l.Got(now)
		if l.State == audit.Refused {
			got = d.out.red(got)
		}
		rows = append(rows, []string{d.out.bright(l.Code), l.StartedAt.UTC().Format("15:04:05"), got, printable(clientOf(l.Attempt)), printable(l.Email)})
	}
	d.out.table([]string{"CODE", "UTC", "GOT TO", "CONNECTED APP", "PERSON"}, rows)
	return nil
}

// attemptJSON is an attempt for programs.
type attemptJSON struct {
	Code         string     `json:"code"`
	State        string     `json:"state"`
	Stage        string     `json:"stage"`
	Got          string     `json:"got_to,omitempty"`
	ClientID     string     `json:"client_id"`
	ClientName   string     `json:"client_name,omitempty"`
	RedirectURI  string     `json:"redirect_uri,omitempty"`
	Resource     string     `json:"resource,omitempty"`
	Scope        string     `json:"scope,omitempty"`
	Address      string     `json:"address,omitempty"`
	Subject      string     `json:"subject,omitempty"`
	Email        string     `json:"email,omitempty"`
	StepUp       bool       `json:"step_up,omitempty"`
	StartedAt    time.Time  `json:"started_at"`
	DiscoveredAt *time.Time `json:"discovered_at,omitempty"`
	CalledAt     *time.Time `json:"called_at,omitempty"`
}

// traceJSON is a trace for programs.
type traceJSON struct {
	attemptJSON
	Summary string     `json:"summary,omitempty"`
	Steps   []stepJSON `json:"steps"`
}

type stepJSON struct {
	Name       string     `json:"name"`
	State      string     `json:"state"`
	At         *time.Time `json:"at,omitempty"`
	Sentence   string     `json:"sentence"`
	Asked      string     `json:"asked,omitempty"`
	Registered []string   `json:"registered,omitempty"`
	Turn       string     `json:"turn,omitempty"`
	Next       string     `json:"next,omitempty"`
}

func describeAttempt(a audit.Attempt) attemptJSON {
	return attemptJSON{
		Code: a.Code, State: string(a.State), Stage: string(a.Stage), ClientID: a.ClientID, ClientName: a.ClientName,
		RedirectURI: a.RedirectURI, Resource: a.Resource, Scope: a.Scopes, Address: a.Address, Subject: a.Subject, StepUp: a.StepUp,
		StartedAt: a.StartedAt, DiscoveredAt: unlessZero(a.DiscoveredAt), CalledAt: unlessZero(a.CalledAt),
	}
}

func describeTrace(t audit.Trace) traceJSON {
	j := traceJSON{attemptJSON: describeAttempt(t.Attempt), Summary: t.Summary}
	for _, s := range t.Steps {
		j.Steps = append(j.Steps, stepJSON{
			Name: string(s.Stage), State: string(s.Mark), At: unlessZero(s.At), Sentence: s.Sentence,
			Asked: s.Asked, Registered: s.Registered, Turn: string(s.Turn), Next: s.Next,
		})
	}
	return j
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

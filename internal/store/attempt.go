package store

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/store/db"
)

// saveAttempt keeps an attempt, or what became of it. The zero Attempt is none.
func saveAttempt(ctx context.Context, q *db.Queries, a audit.Attempt) error {
	if a.Code == "" {
		return nil
	}
	a = a.Bound()
	return wrap("save attempt", q.SaveAttempt(ctx, db.SaveAttemptParams{
		ProjectID: a.ProjectID, ID: secret.NewUUID(a.StartedAt), Code: a.Code,
		ClientID: told(a.ClientID), ClientName: told(a.ClientName), Creation: a.Creation,
		RedirectURI: told(a.RedirectURI), Resource: told(a.Resource), Scopes: told(a.Scopes),
		Address: a.Address, Subject: a.Subject, State: string(a.State), Step: string(a.Stage), StepUp: a.StepUp,
		Detail: told(a.Detail), Asked: told(a.Asked),
		DiscoveredAt: micros(a.DiscoveredAt), RegisteredAt: micros(a.RegisteredAt), StartedAt: micros(a.StartedAt),
	}))
}

// decideAttempt keeps that a person allowed an attempt. Where nobody was asked it
// begins with the decision.
func decideAttempt(ctx context.Context, q *db.Queries, flowID string, a audit.Attempt) error {
	if flowID == "" {
		return saveAttempt(ctx, q, a)
	}
	return wrap("decide attempt", q.DecideAttempt(ctx, db.DecideAttemptParams{
		ProjectID: a.ProjectID, Code: a.Code, State: string(a.State), Step: string(a.Stage), Subject: a.Subject, StepUp: a.StepUp,
	}))
}

// recoverAttempt says that an attempt ended well after a refusal at the token
// endpoint.
func recoverAttempt(ctx context.Context, q *db.Queries, projectID, code string) error {
	if code == "" {
		return nil
	}
	return wrap("recover attempt", q.RecoverAttempt(ctx, db.RecoverAttemptParams{
		ProjectID: projectID, Code: code, State: string(audit.Allowed), Step: string(audit.AtConsent),
	}))
}

// failAttempt says that an attempt was refused at the token endpoint.
func failAttempt(ctx context.Context, q *db.Queries, projectID, code, asked string) error {
	return wrap("fail attempt", q.FailAttempt(ctx, db.FailAttemptParams{
		ProjectID: projectID, Code: code, State: string(audit.Refused), Step: string(audit.AtToken),
		Asked: told(audit.Attempt{Asked: asked}.Bound().Asked),
	}))
}

// RefuseAttempt keeps the refusal of an authorization request with its event, or
// returns oauth.ErrLimited when a counter is full.
func (d *DB) RefuseAttempt(ctx context.Context, a audit.Attempt, e audit.Event, limits []oauth.Counter) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := countAll(ctx, q, e.ProjectID, limits, e.At); err != nil {
			return err
		}
		if err := saveAttempt(ctx, q, a); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// lateRefusal is how long after an attempt began a refusal at the token endpoint
// that names no code of ours can belong to it.
const lateRefusal = 10 * time.Minute

// RefuseToken keeps a refusal at the token endpoint with its event, which gets the
// attempt that it belongs to: the code's, or of a code that is none of ours the
// newest that the client began from the same address and has no token for.
func (d *DB) RefuseToken(ctx context.Context, asked string, e audit.Event, limits []oauth.Counter) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := countAll(ctx, q, e.ProjectID, limits, e.At); err != nil {
			return err
		}
		if e.Attempt == "" {
			code, err := q.AttemptWithoutToken(ctx, db.AttemptWithoutTokenParams{
				ProjectID: e.ProjectID, ClientID: storable(e.ClientID), Address: e.Address,
				State: string(audit.Allowed), Step: string(audit.AtConsent), After: secret.FirstUUID(e.At.Add(-lateRefusal)),
			})
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return wrap("find attempt", err)
			}
			e.Attempt = code
		}
		// What is refused after tokens were given does not count.
		given, err := q.CountTokensOfAttempt(ctx, e.ProjectID, e.Attempt)
		if err != nil {
			return wrap("find attempt", err)
		}
		if given == 0 {
			if err := failAttempt(ctx, q, e.ProjectID, e.Attempt, asked); err != nil {
				return err
			}
		}
		return record(ctx, q, e)
	})
}

// CallAttempts keeps when tokens of attempts were used first.
func (d *DB) CallAttempts(ctx context.Context, calls []audit.Call) error {
	calls = slices.SortedFunc(slices.Values(calls), func(a, b audit.Call) int { // so that no two servers wait for each other
		return cmp.Or(strings.Compare(a.ProjectID, b.ProjectID), strings.Compare(a.Code, b.Code))
	})
	return d.write(ctx, func(q *db.Queries) error {
		for _, c := range calls {
			err := q.CallAttempt(ctx, db.CallAttemptParams{Now: micros(c.At), Step: string(audit.AtCall), ProjectID: c.ProjectID, Code: c.Code})
			if err != nil {
				return wrap("first call", err)
			}
		}
		return nil
	})
}

// maxFound bounds what one code finds, and maxTold the events of one attempt.
const (
	maxFound = 20
	maxTold  = 200
)

// FindAttempts finds what a trace code stands for.
func (d *DB) FindAttempts(ctx context.Context, projectID, code string) ([]audit.Attempt, []audit.Event, error) {
	first, last, ok := audit.CodeRange(code)
	if !ok {
		return nil, nil, nil
	}
	found, err := d.attemptsByCode(ctx, projectID, first, last)
	if err != nil {
		return nil, nil, err
	}
	rows, err := d.read.RefusedInRequest(ctx, db.RefusedInRequestParams{ProjectID: projectID, First: first, Last: last, MaxRows: maxFound})
	if err != nil {
		return nil, nil, wrap("find refusals", err)
	}
	seen := map[string]bool{}
	for _, a := range found {
		seen[a.Code] = true
	}
	var alone []audit.Event
	for _, e := range toEvents(rows) {
		switch {
		case e.Attempt == "":
			alone = append(alone, e)
		case !seen[e.Attempt]:
			seen[e.Attempt] = true
			its, err := d.attemptsByCode(ctx, projectID, e.Attempt, e.Attempt)
			if err != nil {
				return nil, nil, err
			}
			found = append(found, its...)
		}
	}
	return found, alone, nil
}

func (d *DB) attemptsByCode(ctx context.Context, projectID, first, last string) ([]audit.Attempt, error) {
	rows, err := d.read.AttemptsByCode(ctx, db.AttemptsByCodeParams{ProjectID: projectID, First: first, Last: last, MaxRows: maxFound})
	if err != nil {
		return nil, wrap("find attempts", err)
	}
	var found []audit.Attempt
	for _, row := range rows {
		found = append(found, toAttempt(row.Attempt))
	}
	return found, nil
}

// AttemptEvents are the events of an attempt, oldest first.
func (d *DB) AttemptEvents(ctx context.Context, projectID, code string) ([]audit.Event, error) {
	rows, err := d.read.AttemptEvents(ctx, db.AttemptEventsParams{ProjectID: projectID, Attempt: code, MaxRows: maxTold})
	return toEvents(rows), wrap("read events", err)
}

// Attempts lists attempts, newest first.
func (d *DB) Attempts(ctx context.Context, projectID string, f audit.AttemptFilter, before string, limit int) ([]audit.Listed, error) {
	before = cmp.Or(before, afterAll)
	all := attemptsWith(f)
	code, email, address := f.Search()
	switch {
	case code != "":
		return d.attemptsOfCode(ctx, projectID, f, code, before)
	case email != "":
		return d.attemptsOfPerson(ctx, projectID, f, email, before, limit)
	case address != "":
		return toListed(d.read.AttemptsFrom(ctx, db.AttemptsFromParams{
			ProjectID: projectID, Address: address, Before: before, MaxRows: int32(limit),
			FirstClient: all.firstClient, LastClient: all.lastClient, FirstState: all.firstState, LastState: all.lastState,
		}))
	case f.Query != "":
		return nil, nil // nothing that an attempt is found by
	case f.ClientID != "":
		return toListed(d.read.AttemptsOfClient(ctx, db.AttemptsOfClientParams{
			ProjectID: projectID, ClientID: f.ClientID, Before: before, MaxRows: int32(limit), FirstState: all.firstState, LastState: all.lastState,
		}))
	case f.State != "":
		return toListed(d.read.AttemptsOfState(ctx, db.AttemptsOfStateParams{
			ProjectID: projectID, State: string(f.State), Before: before, MaxRows: int32(limit),
		}))
	}
	return toListed(d.read.Attempts(ctx, db.AttemptsParams{ProjectID: projectID, Before: before, MaxRows: int32(limit)}))
}

// How far attempts are counted: of each state in a project, and the newest of a
// client.
const (
	countedOfState  = 99
	countedOfClient = 1000
)

// CountAttempts counts attempts by state. No index tells the states of a client
// apart, so that of more attempts than are read each state may have more.
func (d *DB) CountAttempts(ctx context.Context, projectID, clientID string) (map[audit.State]audit.Count, error) {
	if clientID == "" {
		row, err := d.read.CountAttempts(ctx, projectID, countedOfState+1)
		if err != nil {
			return nil, wrap("count attempts", err)
		}
		counts := map[audit.State]audit.Count{}
		for state, n := range map[audit.State]int64{audit.Waiting: row.Waiting, audit.Refused: row.Refused, audit.Denied: row.Denied, audit.Allowed: row.Allowed} {
			counts[state] = audit.Count{N: min(int(n), countedOfState), More: n > countedOfState}
		}
		return counts, nil
	}
	rows, err := d.read.CountAttemptsOfClient(ctx, db.CountAttemptsOfClientParams{ProjectID: projectID, ClientID: clientID, MaxRows: countedOfClient})
	if err != nil {
		return nil, wrap("count attempts", err)
	}
	all, counts := 0, map[audit.State]audit.Count{}
	for _, row := range rows {
		all += int(row.Counted)
	}
	for _, state := range audit.States() {
		counts[state] = audit.Count{More: all == countedOfClient}
	}
	for _, row := range rows {
		counts[audit.State(row.State)] = audit.Count{N: int(row.Counted), More: all == countedOfClient}
	}
	return counts, nil
}

// ranges are the filters of a list as its statement wants them.
type ranges struct{ firstClient, lastClient, firstState, lastState string }

func attemptsWith(f audit.AttemptFilter) ranges {
	const last = "\U0010FFFF"
	return ranges{f.ClientID, cmp.Or(f.ClientID, last), string(f.State), cmp.Or(string(f.State), last)}
}

// attemptsOfCode lists the few attempts that a code finds.
func (d *DB) attemptsOfCode(ctx context.Context, projectID string, f audit.AttemptFilter, code, before string) ([]audit.Listed, error) {
	found, _, err := d.FindAttempts(ctx, projectID, code)
	if err != nil {
		return nil, err
	}
	var list []audit.Listed
	for _, a := range found {
		if (f.ClientID != "" && a.ClientID != f.ClientID) || (f.State != "" && a.State != f.State) || a.ID >= before {
			continue
		}
		list = append(list, audit.Listed{Attempt: a})
	}
	return list, nil
}

// attemptsOfPerson lists the attempts of all users and members with an address.
func (d *DB) attemptsOfPerson(ctx context.Context, projectID string, f audit.AttemptFilter, email, before string, limit int) ([]audit.Listed, error) {
	subjects, err := d.read.SubjectsAt(ctx, projectID, identity.Fold(email))
	if err != nil && !impossibleText(err) {
		return nil, wrap("find person", err)
	}
	all := attemptsWith(f)
	var list []audit.Listed
	for _, subject := range subjects {
		its, err := toListed(d.read.AttemptsOfPerson(ctx, db.AttemptsOfPersonParams{
			ProjectID: projectID, Subject: subject, Before: before, MaxRows: int32(limit),
			FirstClient: all.firstClient, LastClient: all.lastClient, FirstState: all.firstState, LastState: all.lastState,
		}))
		if err != nil {
			return nil, err
		}
		list = append(list, its...)
	}
	slices.SortFunc(list, func(a, b audit.Listed) int { return strings.Compare(b.ID, a.ID) })
	return list[:min(limit, len(list))], nil
}

// toListed turns the rows of any of the lists into attempts.
func toListed[R db.AttemptsRow | db.AttemptsOfStateRow | db.AttemptsOfClientRow | db.AttemptsFromRow | db.AttemptsOfPersonRow](rows []R, err error) ([]audit.Listed, error) {
	if impossibleText(err) {
		return nil, nil // of no attempt
	}
	if err != nil {
		return nil, wrap("list attempts", err)
	}
	list := make([]audit.Listed, len(rows))
	for i, row := range rows {
		r := db.AttemptsRow(row)
		list[i] = audit.Listed{Attempt: toAttempt(r.Attempt), Email: r.Email, SignedIn: r.SignedIn, HasTokens: r.HasTokens}
	}
	return list, nil
}

func toAttempt(a db.Attempt) audit.Attempt {
	return audit.Attempt{
		ID: a.ID, ProjectID: a.ProjectID, Code: a.Code, ClientID: a.ClientID, ClientName: a.ClientName, Creation: a.Creation,
		RedirectURI: a.RedirectURI, Resource: a.Resource, Scopes: a.Scopes, Address: a.Address, Subject: a.Subject,
		State: audit.State(a.State), Stage: audit.Stage(a.Step), StepUp: a.StepUp, Detail: a.Detail, Asked: a.Asked,
		DiscoveredAt: fromMicros(a.DiscoveredAt), RegisteredAt: fromMicros(a.RegisteredAt),
		StartedAt: fromMicros(a.StartedAt), CalledAt: fromMicros(a.CalledAt),
	}
}

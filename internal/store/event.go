package store

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/store/db"
)

// Record keeps an event that stands alone.
func (d *DB) Record(ctx context.Context, e audit.Event) error {
	return d.write(ctx, func(q *db.Queries) error { return record(ctx, q, e) })
}

// RecordRefusal keeps an event, or returns oauth.ErrLimited when a counter is
// full.
func (d *DB) RecordRefusal(ctx context.Context, e audit.Event, limits []oauth.Counter) error {
	return d.write(ctx, func(q *db.Queries) error {
		if err := countAll(ctx, q, e.ProjectID, limits, e.At); err != nil {
			return err
		}
		return record(ctx, q, e)
	})
}

// record keeps the event that tells of a change, beside it.
func record(ctx context.Context, q *db.Queries, e audit.Event) error {
	return wrap("record event", q.CreateEvent(ctx, db.CreateEventParams{
		ProjectID:  e.ProjectID,
		ID:         secret.NewUUID(e.At),
		OccurredAt: micros(e.At),
		Kind:       string(e.Kind),
		Actor:      told(e.Actor),
		Subject:    told(e.Subject),
		ClientID:   told(e.ClientID),
		Object:     told(e.Object),
		Address:    e.Address,
		Refused:    e.Refused,
		Reason:     e.Reason,
		TraceID:    e.TraceID,
		Attempt:    e.Attempt,
	}))
}

// afterAll is a text after every id.
const afterAll = "~"

// An index holds some of a project's events in order.
type index struct {
	// events reads, of the newest in bounds, those that a query asks for.
	events func(looked, limit int32) ([]db.Event, error)
	// lookBack returns the id of the event that many before the newest in bounds.
	lookBack func(looked int32) (string, error)
	// asks says that the query has a condition that the index does not know of.
	asks bool
}

// looked is what a look through an index found.
type looked struct {
	events []db.Event // one more than were asked for, where there are more
	oldest string     // where it stopped, "" when it did not
}

// Events reads a page of the trail; see audit.Query.
func (d *DB) Events(ctx context.Context, q audit.Query) (audit.Page, error) {
	before, oldest := afterAll, ""
	if q.Before != "" {
		before = q.Before
	}
	if !q.Until.IsZero() {
		before = min(before, secret.FirstUUID(q.Until))
	}
	if !q.Since.IsZero() {
		oldest = secret.FirstUUID(q.Since)
	}
	limit := max(q.Limit, 1)
	var looks []looked
	indexes := d.indexes(ctx, q, before, oldest)
	for _, i := range indexes {
		l, err := i.look(limit, audit.MaxLooked/len(indexes))
		switch {
		case impossibleText(err):
			return audit.Page{}, nil // of no event
		case err != nil:
			return audit.Page{}, wrap("read events", err)
		}
		looks = append(looks, l)
	}
	return toPage(looks, limit), nil
}

// look reads one event more than limit, so that the caller knows whether there
// are more, and looks at no more than most for them.
func (i index) look(limit, most int) (looked, error) {
	if !i.asks {
		most = limit + 1
	}
	events, err := i.events(int32(most), int32(limit)+1)
	if err != nil || !i.asks || len(events) > limit {
		return looked{events: events}, err
	}
	stop, err := i.lookBack(int32(most - 1))
	if errors.Is(err, sql.ErrNoRows) {
		return looked{events: events}, nil
	}
	return looked{events, stop}, err
}

// indexes are those that hold the events of a query together, the narrowest
// that the query has a value for: a person's events are few, and so are
// refusals, of which strangers cannot make as many as they like.
func (d *DB) indexes(ctx context.Context, q audit.Query, before, oldest string) []index {
	id := q.ProjectID
	some := q.Actor != "" || q.Object != ""
	switch {
	case q.OfRefreshes(): // all of them are by kind, whomever they are about
		return d.ofKinds(ctx, q, before, oldest)
	case q.Subject != "":
		return []index{{
			asks: some || q.RefusedOnly || q.ClientID != "" || len(q.Kinds) > 0,
			lookBack: func(n int32) (string, error) {
				return d.read.LookBackBySubject(ctx, db.LookBackBySubjectParams{ProjectID: id, Subject: q.Subject, Before: before, Oldest: oldest, Looked: n})
			},
			events: func(n, limit int32) ([]db.Event, error) {
				return d.read.EventsBySubject(ctx, db.EventsBySubjectParams{
					ProjectID: id, Subject: q.Subject, Before: before, Oldest: oldest, Looked: n, MaxRows: limit,
					Kinds: kinds(q), ClientID: q.ClientID, Actor: q.Actor, Object: q.Object, RefusedOnly: q.RefusedOnly,
				})
			},
		}}
	case q.RefusedOnly:
		return []index{{
			asks: some || q.ClientID != "" || len(q.Kinds) > 0,
			lookBack: func(n int32) (string, error) {
				return d.read.LookBackByRefused(ctx, db.LookBackByRefusedParams{ProjectID: id, Before: before, Oldest: oldest, Looked: n})
			},
			events: func(n, limit int32) ([]db.Event, error) {
				return d.read.EventsByRefused(ctx, db.EventsByRefusedParams{
					ProjectID: id, Before: before, Oldest: oldest, Looked: n, MaxRows: limit,
					Kinds: kinds(q), ClientID: q.ClientID, Actor: q.Actor, Object: q.Object,
				})
			},
		}}
	case q.ClientID != "":
		return []index{{
			asks: some || len(q.Kinds) > 0,
			lookBack: func(n int32) (string, error) {
				return d.read.LookBackByClient(ctx, db.LookBackByClientParams{ProjectID: id, ClientID: q.ClientID, Before: before, Oldest: oldest, Looked: n})
			},
			events: func(n, limit int32) ([]db.Event, error) {
				return d.read.EventsByClient(ctx, db.EventsByClientParams{
					ProjectID: id, ClientID: q.ClientID, Before: before, Oldest: oldest, Looked: n, MaxRows: limit,
					Kinds: kinds(q), Actor: q.Actor, Object: q.Object,
				})
			},
		}}
	case len(q.Kinds) > 0:
		return d.ofKinds(ctx, q, before, oldest)
	}
	return []index{{
		asks: some,
		lookBack: func(n int32) (string, error) {
			return d.read.LookBackByProject(ctx, db.LookBackByProjectParams{ProjectID: id, Before: before, Oldest: oldest, Looked: n})
		},
		events: func(n, limit int32) ([]db.Event, error) {
			return d.read.EventsByProject(ctx, db.EventsByProjectParams{
				ProjectID: id, Before: before, Oldest: oldest, Looked: n, MaxRows: limit, Actor: q.Actor, Object: q.Object,
			})
		},
	}}
}

// ofKinds are the indexes of the kinds of a query, one for each.
func (d *DB) ofKinds(ctx context.Context, q audit.Query, before, oldest string) (all []index) {
	for _, kind := range slices.Compact(slices.Sorted(slices.Values(q.Kinds))) {
		all = append(all, index{
			asks: q.Actor != "" || q.Object != "" || q.Subject != "" || q.ClientID != "" || q.RefusedOnly,
			lookBack: func(n int32) (string, error) {
				return d.read.LookBackByKind(ctx, db.LookBackByKindParams{ProjectID: q.ProjectID, Kind: string(kind), Before: before, Oldest: oldest, Looked: n})
			},
			events: func(n, limit int32) ([]db.Event, error) {
				return d.read.EventsByKind(ctx, db.EventsByKindParams{
					ProjectID: q.ProjectID, Kind: string(kind), Before: before, Oldest: oldest, Looked: n, MaxRows: limit,
					Subject: q.Subject, ClientID: q.ClientID, Actor: q.Actor, Object: q.Object, RefusedOnly: q.RefusedOnly,
				})
			},
		})
	}
	return all
}

// kinds are the kinds of a query as the statements compare them: each between
// spaces.
func kinds(q audit.Query) string {
	if len(q.Kinds) == 0 {
		return ""
	}
	var text strings.Builder
	for _, kind := range q.Kinds {
		text.WriteString(" " + string(kind) + " ")
	}
	return text.String()
}

// toPage merges looks. Where they stopped at different moments, only what all
// of them saw is whole.
func toPage(looks []looked, limit int) audit.Page {
	var rows []db.Event
	oldest := ""
	for _, l := range looks {
		rows, oldest = append(rows, l.events...), max(oldest, l.oldest)
	}
	rows = slices.DeleteFunc(rows, func(e db.Event) bool { return e.ID < oldest })
	slices.SortFunc(rows, func(a, b db.Event) int { return strings.Compare(b.ID, a.ID) })
	more := len(rows) > limit
	page := audit.Page{Events: toEvents(rows[:min(len(rows), limit)])}
	switch {
	case more:
		page.Next = rows[limit-1].ID
	case oldest != "":
		page.Next, page.LookedBackTo = oldest, secret.TimeOf(oldest)
	}
	return page
}

// EventsAfter lists events of a project, the oldest first; see audit.Reader.
func (d *DB) EventsAfter(ctx context.Context, projectID string, since time.Time, after string, limit int) ([]audit.Event, error) {
	if !since.IsZero() {
		after = max(after, secret.FirstUUID(since)) // which is no event's id
	}
	rows, err := d.read.EventsAfter(ctx, db.EventsAfterParams{ProjectID: projectID, After: after, MaxRows: int32(limit)})
	return toEvents(rows), wrap("read events", err)
}

// CountEvents counts what a measure is about in [since, until).
func (d *DB) CountEvents(ctx context.Context, projectID string, m audit.Measure, since, until time.Time) (int, error) {
	from, to := secret.FirstUUID(since), secret.FirstUUID(until)
	if m == audit.Refusals {
		n, err := d.read.CountRefusals(ctx, db.CountRefusalsParams{ProjectID: projectID, Since: from, Until: to})
		return int(n), wrap("count refusals", err)
	}
	total := 0
	for _, kind := range m.Kinds() {
		n, err := d.read.CountEvents(ctx, db.CountEventsParams{ProjectID: projectID, Kind: string(kind), Since: from, Until: to})
		if err != nil {
			return 0, wrap("count events", err)
		}
		total += int(n)
	}
	return total, nil
}

// refusalsLooked is how many refusals RefusalCauses looks at. They lie apart
// among the other events, so each is a page to read.
const refusalsLooked = 2_000

// RefusalCauses groups refusals by what they have in common; see audit.Reader.
func (d *DB) RefusalCauses(ctx context.Context, projectID string, since time.Time, limit int) ([]audit.Cause, error) {
	rows, err := d.read.RefusalCauses(ctx, db.RefusalCausesParams{
		ProjectID: projectID, Since: secret.FirstUUID(since), Looked: refusalsLooked, MaxRows: int32(limit),
	})
	if err != nil {
		return nil, wrap("read refusals", err)
	}
	causes := make([]audit.Cause, len(rows))
	for i, r := range rows {
		newest, err := d.read.Event(ctx, projectID, r.Newest)
		if err != nil {
			return nil, wrap("read event", err)
		}
		causes[i] = audit.Cause{
			Kind: audit.Kind(r.Kind), Reason: r.Reason, ClientID: r.ClientID, Count: int(r.Refusals),
			First: secret.TimeOf(r.First), Newest: toEvents([]db.Event{newest})[0],
		}
	}
	return causes, nil
}

func toEvents(rows []db.Event) []audit.Event {
	all := make([]audit.Event, len(rows))
	for i, r := range rows {
		all[i] = audit.Event{
			ID: r.ID, ProjectID: r.ProjectID, At: fromMicros(r.OccurredAt), Kind: audit.Kind(r.Kind),
			Actor: r.Actor, Subject: r.Subject, ClientID: r.ClientID, Object: r.Object, Address: r.Address,
			Refused: r.Refused, Reason: r.Reason, TraceID: r.TraceID, Attempt: r.Attempt,
		}
	}
	return all
}

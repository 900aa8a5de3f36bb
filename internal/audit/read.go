package audit

import (
	"context"
	"slices"
	"time"
)

// MaxLooked is how many events one Query looks at, at most, for something that
// no index knows of.
const MaxLooked = 2_000

// Query says which events to read. What is "" or zero is not asked for.
//
// The store has the events of a project in order, and besides those of each
// subject, the refused ones, those of each client and of each kind in theirs.
// It goes through the first of these that the query has a value for. For what
// else is asked it looks at no more than MaxLooked events there, and says in
// Page.LookedBackTo where it stopped.
//
// Refreshes, which are most of what happens, are not among those of each subject
// and client (docs/decisions/0031). A query for one of these is answered without
// them, unless they are all it asks for: then it goes through everybody's.
type Query struct {
	ProjectID   string // "" is the deployment's own events, of no project
	Kinds       []Kind // one of these
	Subject     string
	ClientID    string
	Actor       string
	Object      string
	RefusedOnly bool
	Since       time.Time // at or after
	Until       time.Time // before
	Before      string    // cursor: Page.Next of the page before this one
	Limit       int       // 1 or more
}

// OfRefreshes reports whether refreshes are all that the query asks for.
func (q Query) OfRefreshes() bool {
	return len(q.Kinds) > 0 && !slices.ContainsFunc(q.Kinds, func(k Kind) bool { return k != TokenRefreshed })
}

// LeavesOutRefreshes reports whether the query is answered without refreshes because
// of whom it is about.
func (q Query) LeavesOutRefreshes() bool {
	return (q.Subject != "" || q.ClientID != "") && !q.OfRefreshes()
}

// Matches reports whether an event is one that the query asks for, whatever its
// cursor.
func (q Query) Matches(e Event) bool {
	is := func(asked, given string) bool { return asked == "" || asked == given }
	return e.ProjectID == q.ProjectID && is(q.Subject, e.Subject) && is(q.ClientID, e.ClientID) &&
		is(q.Actor, e.Actor) && is(q.Object, e.Object) && (!q.RefusedOnly || e.Refused) &&
		(len(q.Kinds) == 0 || slices.Contains(q.Kinds, e.Kind)) &&
		(e.Kind != TokenRefreshed || !q.LeavesOutRefreshes()) &&
		(q.Since.IsZero() || !e.At.Before(q.Since)) && (q.Until.IsZero() || e.At.Before(q.Until))
}

// Page is a part of the trail, the newest event first.
type Page struct {
	Events []Event
	Next   string // Query.Before of the page after this one, "" when there is none
	// LookedBackTo is set when the search stopped there with fewer events than
	// were asked for; Next goes on from it.
	LookedBackTo time.Time
}

// Measure is one of the figures of a project's day.
type Measure string

// The measures.
const (
	SignIns  Measure = "sign_ins"
	Grants   Measure = "grants"
	Tokens   Measure = "tokens" // issued and refreshed
	Refusals Measure = "refusals"
)

// Kinds are those that a measure counts. Refusals counts refused events of every
// kind and has none.
func (m Measure) Kinds() []Kind {
	switch m {
	case SignIns:
		return []Kind{SignedIn}
	case Grants:
		return []Kind{GrantAllowed}
	case Tokens:
		return []Kind{TokenIssued, TokenRefreshed}
	}
	return nil
}

// Reader reads the trail.
type Reader interface {
	// Events reads one page.
	Events(ctx context.Context, q Query) (Page, error)
	// EventsAfter lists the events of a project since a moment and after the one
	// with this id, the oldest first; the zero time and "" are before the first.
	EventsAfter(ctx context.Context, projectID string, since time.Time, after string, limit int) ([]Event, error)
	// RefusalCauses groups the newest refusals of a project since a moment, at most
	// 2,000, the most frequent cause first.
	RefusalCauses(ctx context.Context, projectID string, since time.Time, limit int) ([]Cause, error)
	// CountEvents counts what a measure is about in [since, until).
	CountEvents(ctx context.Context, projectID string, m Measure, since, until time.Time) (int, error)
}

// Cause is what a number of refusals have in common: kind, reason and client.
type Cause struct {
	Kind     Kind
	Reason   string
	ClientID string
	Count    int
	First    time.Time // to the millisecond
	Newest   Event     // whose trace code stands for all
}

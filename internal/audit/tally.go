package audit

import (
	"context"
	"sync"
	"time"
)

// lateness is how old an event is at the most when it becomes visible: it gets
// its time before its transaction begins.
const lateness = time.Minute

// maxHours bounds what Tallies remembers, about 100 bytes each.
const maxHours = 10_000

// Day is what happened in a project in 24 hours and how much it was in the 24
// before.
type Day struct {
	Hours  []Hour // the oldest first; the last one is running
	Before Hour   // the sums of the 24 hours before
}

// Hour is what happened in an hour.
type Hour struct {
	Start                             time.Time
	SignIns, Grants, Tokens, Refusals int
}

func (h Hour) plus(o Hour) Hour {
	return Hour{h.Start, h.SignIns + o.SignIns, h.Grants + o.Grants, h.Tokens + o.Tokens, h.Refusals + o.Refusals}
}

// Sum is what happened in all hours of the day.
func (d Day) Sum() Hour {
	var sum Hour
	for _, h := range d.Hours {
		sum = sum.plus(h)
	}
	return sum
}

// Tallies counts events by the hour. What is older than a minute is counted
// once and remembered, in a bounded memory of this process, because nothing is
// added to it.
type Tallies struct {
	reader Reader
	now    func() time.Time

	mu    sync.Mutex
	known map[hourKey]counted
}

// counted is an hour as far as it was counted for ever.
type counted struct {
	Hour
	until time.Time
}

type hourKey struct {
	projectID string
	start     int64 // Unix time
}

// NewTallies returns Tallies of what a reader reads.
func NewTallies(reader Reader, now func() time.Time) *Tallies {
	return &Tallies{reader: reader, now: now, known: map[hourKey]counted{}}
}

// Day counts the last 24 hours, the running one with them, and the 24 before.
// The first call for a project counts all of them, about a second for each
// million events on PostgreSQL; what needs an answer at once calls it beforehand.
func (t *Tallies) Day(ctx context.Context, projectID string) (Day, error) {
	first := t.now().UTC().Truncate(time.Hour).Add(-23 * time.Hour)
	var d Day
	for i := -24; i < 24; i++ {
		h, err := t.hour(ctx, projectID, first.Add(time.Duration(i)*time.Hour))
		switch {
		case err != nil:
			return Day{}, err
		case i < 0:
			d.Before = d.Before.plus(h)
		default:
			d.Hours = append(d.Hours, h)
		}
	}
	d.Before.Start = first.Add(-24 * time.Hour)
	return d, nil
}

func (t *Tallies) hour(ctx context.Context, projectID string, start time.Time) (Hour, error) {
	key, end := hourKey{projectID, start.Unix()}, start.Add(time.Hour)
	t.mu.Lock()
	known, ok := t.known[key]
	t.mu.Unlock()
	if !ok {
		known = counted{Hour{Start: start}, start}
	}
	settled := t.now().Add(-lateness)
	if settled.After(end) {
		settled = end
	}
	if known.until.Before(settled) {
		more, err := t.count(ctx, projectID, known.until, settled)
		if err != nil {
			return Hour{}, err
		}
		known = counted{known.plus(more), settled}
		t.remember(key, known)
	}
	if !known.until.Before(end) {
		return known.Hour, nil
	}
	last, err := t.count(ctx, projectID, known.until, end)
	return known.plus(last), err
}

func (t *Tallies) count(ctx context.Context, projectID string, since, until time.Time) (Hour, error) {
	var h Hour
	for _, one := range []struct {
		measure Measure
		count   *int
	}{{SignIns, &h.SignIns}, {Grants, &h.Grants}, {Tokens, &h.Tokens}, {Refusals, &h.Refusals}} {
		n, err := t.reader.CountEvents(ctx, projectID, one.measure, since, until)
		if err != nil {
			return Hour{}, err
		}
		*one.count = n
	}
	return h, nil
}

// remember keeps what was counted. When there is too much, all that no page
// asks for any more goes; were that not enough, all goes.
func (t *Tallies) remember(key hourKey, c counted) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.known) >= maxHours {
		asked := t.now().Add(-48 * time.Hour).Unix()
		for k := range t.known {
			if k.start < asked {
				delete(t.known, k)
			}
		}
	}
	if len(t.known) >= maxHours {
		clear(t.known)
	}
	t.known[key] = c
}

package audit

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// overlap is how far Follower looks back again. An event's id is of the moment
// at which its transaction began, and on PostgreSQL one that began earlier can
// end later: its events then appear behind those that were read already. Five
// seconds are more than any transaction of ours takes, and than the clocks of
// two servers may be apart.
const overlap = 5 * time.Second

// everyEvents is how many events are read at once.
const everyEvents = 500

// Follower reads the events of projects as they come, each once.
type Follower struct {
	reader Reader
	since  time.Time
	newest map[string]time.Time // of each project
	told   map[string]time.Time // the newest events by id, with their time
}

// Follow returns a Follower of the events since a moment.
func Follow(r Reader, since time.Time) *Follower {
	return &Follower{reader: r, since: since, newest: map[string]time.Time{}, told: map[string]time.Time{}}
}

// Next returns the events of these projects that it has not returned before,
// the oldest first.
func (f *Follower) Next(ctx context.Context, projectIDs []string) ([]Event, error) {
	var news []Event
	for _, id := range projectIDs {
		since, after := f.since, ""
		if at := f.newest[id].Add(-overlap); at.After(since) {
			since = at
		}
		for {
			page, err := f.reader.EventsAfter(ctx, id, since, after, everyEvents)
			if err != nil {
				return nil, err
			}
			for _, e := range page {
				if _, ok := f.told[e.ID]; !ok {
					news, f.told[e.ID] = append(news, e), e.At
				}
				if e.At.After(f.newest[id]) {
					f.newest[id] = e.At
				}
				after = e.ID
			}
			if len(page) < everyEvents {
				break
			}
		}
	}
	f.forget()
	slices.SortFunc(news, func(a, b Event) int { return cmp.Compare(a.ID, b.ID) })
	return news, nil
}

// forget drops the ids that no look back can meet again.
func (f *Follower) forget() {
	var oldest time.Time
	for _, at := range f.newest {
		if oldest.IsZero() || at.Before(oldest) {
			oldest = at
		}
	}
	for id, at := range f.told {
		if at.Before(oldest.Add(-2 * overlap)) {
			delete(f.told, id)
		}
	}
}

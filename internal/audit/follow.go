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
	reader   Reader
	since    time.Time
	projects map[string]followed
}

// followed is where a project's events were followed to.
type followed struct {
	newest time.Time
	told   map[string]time.Time // the newest events by id, with their time
}

// Follow returns a Follower of the events since a moment.
func Follow(r Reader, since time.Time) *Follower {
	return &Follower{reader: r, since: since, projects: map[string]followed{}}
}

// Next returns the events of these projects that it has not returned before,
// the oldest first.
func (f *Follower) Next(ctx context.Context, projectIDs []string) ([]Event, error) {
	var news []Event
	for _, id := range projectIDs {
		more, err := f.next(ctx, id)
		if err != nil {
			return nil, err
		}
		news = append(news, more...)
	}
	slices.SortFunc(news, func(a, b Event) int { return cmp.Compare(a.ID, b.ID) })
	return news, nil
}

func (f *Follower) next(ctx context.Context, projectID string) ([]Event, error) {
	was := f.projects[projectID]
	is := followed{newest: was.newest, told: map[string]time.Time{}}
	since := f.since
	if back := was.newest.Add(-overlap); back.After(since) {
		since = back
	}
	var news []Event
	for after := ""; ; {
		page, err := f.reader.EventsAfter(ctx, projectID, since, after, everyEvents)
		if err != nil {
			return nil, err
		}
		for _, e := range page {
			if _, ok := was.told[e.ID]; !ok {
				news = append(news, e)
			}
			is.told[e.ID], after = e.At, e.ID
			if e.At.After(is.newest) {
				is.newest = e.At
			}
		}
		if len(page) < everyEvents {
			break
		}
	}
	for id, at := range is.told {
		if at.Before(is.newest.Add(-2 * overlap)) { // no look back meets it again
			delete(is.told, id)
		}
	}
	f.projects[projectID] = is
	return news, nil
}

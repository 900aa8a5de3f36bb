package mail

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// How long a queue waits after a failure: twice as long each time.
const (
	firstPause = time.Second
	maxPause   = time.Minute
)

// QueueConfig is what a Queue needs.
type QueueConfig struct {
	Sender Sender
	Now    func() time.Time
	Size   int // how many messages may wait; required
	// Failed, where set, is told of every attempt that failed. again is when the
	// next one is due, zero where the message was given up.
	Failed func(m Mail, err error, again time.Time)
}

// Queue is a Sender that answers at once and sends while Run runs. It tries a
// message again until its Until has passed; one without Until is tried once.
// What still waits when the program ends is lost: whoever waits for a code asks
// for another.
type Queue struct {
	config QueueConfig
	wake   chan struct{} // holds one token while there may be work

	mu      sync.Mutex
	waiting []item
	sending int
}

type item struct {
	mail  Mail
	due   time.Time
	pause time.Duration // after the next failure
}

// NewQueue checks the configuration.
func NewQueue(config QueueConfig) (*Queue, error) {
	if config.Sender == nil || config.Now == nil || config.Size <= 0 {
		return nil, errors.New("mail: Sender, Now and Size are required")
	}
	if config.Failed == nil {
		config.Failed = func(Mail, error, time.Time) {}
	}
	return &Queue{config: config, wake: make(chan struct{}, 1)}, nil
}

// Send puts the message in line, or returns ErrFull. It refuses at once what no
// Sender would take.
func (q *Queue) Send(_ context.Context, m Mail) error {
	if err := check(m); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting)+q.sending >= q.config.Size {
		return ErrFull
	}
	q.put(item{mail: m, due: q.config.Now(), pause: firstPause})
	return nil
}

// Run sends what is in line until ctx ends, then returns nil. Several calls may
// run at once: then one slow message does not hold up the others.
func (q *Queue) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		next, wait := q.take()
		if next != nil {
			q.attempt(ctx, *next)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-q.wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// take removes the item that is due first, or says how long until one is.
func (q *Queue) take() (*item, time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return nil, maxPause
	}
	first := 0
	for i, it := range q.waiting {
		if it.due.Before(q.waiting[first].due) {
			first = i
		}
	}
	next := q.waiting[first]
	if wait := next.due.Sub(q.config.Now()); wait > 0 {
		return nil, wait
	}
	last := len(q.waiting) - 1
	q.waiting[first] = q.waiting[last]
	q.waiting = q.waiting[:last]
	q.sending++
	if last > 0 {
		q.signal() // for another Run
	}
	return &next, 0
}

func (q *Queue) attempt(ctx context.Context, it item) {
	err := ErrLate // it may have waited too long in line
	if until := it.mail.Until; until.IsZero() || q.config.Now().Before(until) {
		err = q.config.Sender.Send(ctx, it.mail)
	}
	q.mu.Lock()
	q.sending--
	var again time.Time
	if err != nil {
		due := q.config.Now().Add(it.pause)
		switch {
		case errors.Is(err, ErrRejected), errors.Is(err, ErrAddress), errors.Is(err, ErrLate):
		case !due.Before(it.mail.Until):
			err = fmt.Errorf("%w: %w", ErrLate, err)
		default:
			again = due
			q.put(item{mail: it.mail, due: due, pause: min(2*it.pause, maxPause)})
		}
	}
	q.mu.Unlock()
	if err != nil {
		q.config.Failed(it.mail, err, again)
	}
}

// put needs the lock.
func (q *Queue) put(it item) {
	q.waiting = append(q.waiting, it)
	q.signal()
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default: // somebody is to wake up already
	}
}

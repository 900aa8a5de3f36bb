package mail

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Recorded is a message that a Recorder keeps.
type Recorded struct {
	ID int64 `json:"id"` // 1, 2, … in the order of arrival
	Mail
	SentAt time.Time `json:"sent_at"`
}

// Recorder is a Sender that sends nothing: it keeps the newest messages for
// whoever wants to look. It is safe for concurrent use.
type Recorder struct {
	now  func() time.Time
	size int

	mu    sync.Mutex
	last  int64
	mails []Recorded // oldest first, at most size
}

// NewRecorder makes a Recorder that keeps the newest size messages.
func NewRecorder(size int, now func() time.Time) *Recorder {
	return &Recorder{size: size, now: now}
}

// Send keeps the message. It refuses what SMTP would refuse.
func (r *Recorder) Send(_ context.Context, m Mail) error {
	if err := check(m); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	r.mails = append(r.mails, Recorded{ID: r.last, Mail: m, SentAt: r.now().UTC()})
	if len(r.mails) > r.size {
		r.mails = slices.Delete(r.mails, 0, len(r.mails)-r.size)
	}
	return nil
}

// Mails returns the messages that are kept, newest first.
func (r *Recorder) Mails() []Recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := slices.Clone(r.mails)
	slices.Reverse(out)
	return out
}

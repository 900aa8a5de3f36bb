package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// sealAfter is how old an event is when it is sealed: by then its transaction
// has ended, so that no event appears among those that were sealed.
const sealAfter = time.Minute

// maxMarks is how many events one Seal vouches for, at most.
const maxMarks = 1000

// markSize is the length of a mark: the event's id, and the first half of its
// digest.
const (
	idSize   = 16
	markSize = idSize + sha256.Size/2
)

// Seal vouches for some events of a trail. The seals of a trail are numbered
// from 1 without a gap, and each goes on where the one before ended.
type Seal struct {
	ProjectID string
	Number    int64
	At        time.Time
	Marks     []byte // one mark of markSize bytes for each event, in the order of their ids
	// Proof is the SHA-256 of the above, sealed under the master key: who can
	// write to the database alone cannot make one.
	Proof []byte
}

// ErrSealed says that another server sealed the same events first.
var ErrSealed = errors.New("audit: sealed already")

// SealStore keeps the seals beside the events.
type SealStore interface {
	Reader
	// LastSeal returns the newest seal of a trail; its Number is 0 when there is
	// none.
	LastSeal(ctx context.Context, projectID string) (Seal, error)
	// SealsAfter lists the seals of a trail with higher numbers, the lowest first.
	SealsAfter(ctx context.Context, projectID string, number int64, limit int) ([]Seal, error)
	// CreateSeal keeps a seal, or returns ErrSealed where its number is taken.
	CreateSeal(ctx context.Context, s Seal) error
}

// SealsConfig is what Seals needs; all fields are required.
type SealsConfig struct {
	Store SealStore
	Now   func() time.Time
	// Close encrypts a digest for the row of a seal, Open gives it back or fails.
	Close func(digest []byte, row string) []byte
	Open  func(proof []byte, row string) ([]byte, error)
}

// Seals makes an edit of the trail show: it vouches for the events of every
// minute, and tells later which of them were changed, removed or added in the
// database. It is safe for concurrent use.
type Seals struct {
	SealsConfig
	mu   sync.Mutex
	last map[string]int64 // number of the last seal by trail, as far as seen here
}

// NewSeals makes a Seals.
func NewSeals(c SealsConfig) *Seals { return &Seals{SealsConfig: c, last: map[string]int64{}} }

// Add seals the events of a trail that are old enough. An error that says that
// seals are gone means that somebody removed the newest of them.
func (s *Seals) Add(ctx context.Context, projectID string) error {
	for {
		last, err := s.Store.LastSeal(ctx, projectID)
		if err != nil {
			return err
		}
		if err := s.remember(projectID, last.Number); err != nil {
			return err
		}
		events, err := s.Store.EventsAfter(ctx, projectID, time.Time{}, last.lastID(), maxMarks)
		if err != nil {
			return err
		}
		next := Seal{ProjectID: projectID, Number: last.Number + 1, At: s.Now()}
		for _, e := range events {
			if e.At.After(next.At.Add(-sealAfter)) {
				break
			}
			mark, err := newMark(e)
			if err != nil {
				return err
			}
			next.Marks = append(next.Marks, mark...)
		}
		if len(next.Marks) == 0 {
			return nil
		}
		next.Proof = s.Close(next.digest(), next.Row())
		if err := s.Store.CreateSeal(ctx, next); err != nil && !errors.Is(err, ErrSealed) {
			return err
		}
		if len(next.Marks) < maxMarks*markSize {
			return nil
		}
	}
}

// remember compares the number of a trail's last seal with the last that was
// seen here.
func (s *Seals) remember(projectID string, number int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seen := s.last[projectID]; number < seen {
		return fmt.Errorf("audit: seals %d to %d of the trail %q are gone: somebody removed them from the database", number+1, seen, projectID)
	}
	s.last[projectID] = number
	return nil
}

// What Verify finds wrong.
const (
	EventChanged = "changed" // since it was sealed
	EventRemoved = "removed"
	EventAdded   = "added" // among events that had been sealed without it
	SealChanged  = "seal changed"
	SealRemoved  = "seal removed"
)

// Finding is one thing that Verify found wrong.
type Finding struct {
	What  string
	Event Event // as it is now; a removed one has its id alone
	Seal  int64 // the number of the seal that shows it
}

// Verdict is what Verify found in a trail.
type Verdict struct {
	Findings  []Finding // the first maxFindings of them
	Wrong     int       // how many there are
	Events    int       // that are as they were sealed
	Unvouched int       // whose seal was changed or removed
	Waiting   int       // newer than the last seal
	Oldest    time.Time // of those that wait
	Seals     int
	Until     time.Time // when the last seal was made
	// Head names the last seal. Kept where nobody who can write to the database
	// can reach, it shows later that the end of the trail was cut off.
	Head string
}

const maxFindings = 100

func (v *Verdict) find(f Finding) {
	if v.Wrong++; len(v.Findings) < maxFindings {
		v.Findings = append(v.Findings, f)
	}
}

// Verify compares a trail with its seals. head is the Verdict.Head of an
// earlier time, or "": a trail without that seal has lost its end.
func (s *Seals) Verify(ctx context.Context, projectID, head string) (Verdict, error) {
	remembered, wanted, err := parseHead(head)
	if err != nil {
		return Verdict{}, err
	}
	var v Verdict
	events := cursor{store: s.Store, projectID: projectID}
	number, broken, seen := int64(0), false, head == ""
	// A later seal may vouch for an event that the cursor was too early to see.
	began := s.Now()
	for {
		seals, err := s.Store.SealsAfter(ctx, projectID, number, 50)
		if err != nil {
			return v, err
		}
		seals = slices.DeleteFunc(seals, func(seal Seal) bool { return seal.At.After(began) })
		for _, seal := range seals {
			for number++; number < seal.Number; number++ {
				v.find(Finding{What: SealRemoved, Seal: number})
				broken = true
			}
			digest, err := s.Open(seal.Proof, seal.Row())
			if err != nil || !bytes.Equal(digest, seal.digest()) || len(seal.Marks)%markSize != 0 {
				v.find(Finding{What: SealChanged, Seal: number})
				broken = true
				continue
			}
			seen = seen || number == remembered && bytes.HasPrefix(digest, wanted)
			v.Seals, v.Until, v.Head = v.Seals+1, seal.At, fmt.Sprintf("%d-%x", number, digest[:idSize])
			if err := seal.compare(ctx, &events, &v, broken); err != nil {
				return v, err
			}
			broken = false
		}
		if len(seals) == 0 {
			break
		}
	}
	if !seen {
		v.find(Finding{What: SealRemoved, Seal: remembered})
	}
	for {
		e, err := events.peek(ctx)
		if err != nil || e.ID == "" {
			return v, err
		}
		switch {
		case broken:
			v.Unvouched++
		case v.Waiting == 0:
			v.Oldest = e.At
			fallthrough
		default:
			v.Waiting++
		}
		events.next()
	}
}

// compare goes through the events up to the last that a seal vouches for. Of
// those before its first nothing is known after a broken seal.
func (s Seal) compare(ctx context.Context, events *cursor, v *Verdict, broken bool) error {
	for marks := s.Marks; len(marks) > 0; marks = marks[markSize:] {
		id := markedID(marks)
		for {
			e, err := events.peek(ctx)
			if err != nil {
				return err
			}
			if e.ID == "" || e.ID > id {
				v.find(Finding{What: EventRemoved, Event: Event{ID: id, ProjectID: s.ProjectID}, Seal: s.Number})
				break
			}
			events.next()
			if e.ID == id {
				mark, err := newMark(e)
				if err != nil || !bytes.Equal(mark, marks[:markSize]) {
					v.find(Finding{What: EventChanged, Event: e, Seal: s.Number})
				} else {
					v.Events++
				}
				break
			}
			if broken {
				v.Unvouched++
			} else {
				v.find(Finding{What: EventAdded, Event: e, Seal: s.Number})
			}
		}
		broken = false
	}
	return nil
}

// cursor walks through the events of a trail.
type cursor struct {
	store     Reader
	projectID string
	page      []Event
	after     string
	done      bool
}

// peek returns the event it stands before, one without id at the end.
func (c *cursor) peek(ctx context.Context) (Event, error) {
	if len(c.page) == 0 && !c.done {
		page, err := c.store.EventsAfter(ctx, c.projectID, time.Time{}, c.after, everyEvents)
		if err != nil {
			return Event{}, err
		}
		c.page, c.done = page, len(page) == 0
	}
	if c.done {
		return Event{}, nil
	}
	return c.page[0], nil
}

func (c *cursor) next() { c.after, c.page = c.page[0].ID, c.page[1:] }

// row is the primary key of a seal, as its proof is bound to it.
// Row names a seal for what encrypts its proof.
func (s Seal) Row() string { return s.ProjectID + " " + strconv.FormatInt(s.Number, 10) }

func (s Seal) digest() []byte {
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, uint64(s.At.UnixMicro())), s.Marks...))
	return sum[:]
}

// lastID is the id of the last event that a seal vouches for, "" for none.
func (s Seal) lastID() string {
	if len(s.Marks) < markSize {
		return ""
	}
	return markedID(s.Marks[len(s.Marks)-markSize:])
}

// newMark makes the mark of an event. The fields that an event has today always
// count; one that is added later must count only where it is not empty, so that
// the events from before keep their marks.
func newMark(e Event) ([]byte, error) {
	id, err := hex.DecodeString(strings.ReplaceAll(e.ID, "-", ""))
	if err != nil || len(id) != idSize {
		return nil, fmt.Errorf("audit: the id of event %q is no UUID", e.ID)
	}
	var text []byte
	for _, field := range []string{
		e.ID, e.ProjectID, strconv.FormatInt(e.At.UnixMicro(), 10), string(e.Kind), e.Actor, e.Subject, e.ClientID, e.Object,
		e.Address, strconv.FormatBool(e.Refused), e.Reason, e.TraceID, e.Attempt,
	} {
		text = binary.BigEndian.AppendUint32(text, uint32(len(field)))
		text = append(text, field...)
	}
	sum := sha256.Sum256(text)
	return append(id, sum[:markSize-idSize]...), nil
}

// markedID is the id of the event that the first of some marks is of.
func markedID(marks []byte) string {
	digits := hex.EncodeToString(marks[:idSize])
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}

// ErrHead is the error of a head that Verify never gave.
var ErrHead = errors.New("audit: no head of a trail")

func parseHead(head string) (number int64, digest []byte, err error) {
	if head == "" {
		return 0, nil, nil
	}
	count, digits, _ := strings.Cut(head, "-")
	number, err = strconv.ParseInt(count, 10, 64)
	if err == nil {
		digest, err = hex.DecodeString(digits)
	}
	if err != nil || number < 1 || len(digest) != idSize {
		return 0, nil, ErrHead
	}
	return number, digest, nil
}

package faults

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
)

// kind is what an actor asked for.
type kind string

const (
	issued     kind = "code issued"            // Object is the code
	redeemed   kind = "code redeemed"          // Object is the code, Result the first refresh token
	refreshed  kind = "refreshed"              // Object is a refresh token, Result its successor
	revoked    kind = "revoked"                // Object is a refresh token of the family
	looked     kind = "introspected"           // Object is a refresh token, Result "active" or ""
	takenBack  kind = "grant taken back"       // Grant
	registered kind = "registered"             // Object is the client
	known      kind = "client asked for again" // Object is the client
	set        kind = "setting changed"        // Object is its name, Result the value
	read       kind = "setting read"           // the same
	visited    kind = "session used"           // Object is the browser
)

// outcome is what came of it.
type outcome string

const (
	ok      outcome = "ok"
	refused outcome = "refused"
	// unknown: no answer came, or one that says to try again. It happened or not.
	unknown outcome = "unknown"
)

// entry is one request and its answer. From and To are drawn from one counter
// before it was sent and after the answer came: of two entries whose spans do not
// meet, the order is known.
type entry struct {
	From, To int64
	Kind     kind
	Outcome  outcome
	Family   string // the code that everything came from
	Grant    string // the person and the client
	Object   string
	Result   string
}

func (e entry) String() string {
	return fmt.Sprintf("%d-%d %s %.24s → %s %.24s", e.From, e.To, e.Kind, e.Object, e.Outcome, e.Result)
}

// journal collects the entries of all actors.
type journal struct {
	mu       sync.Mutex
	clock    int64
	entries  []entry
	sessions map[string]string // id of the family that a code became
}

func (j *journal) tick() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.clock++
	return j.clock
}

func (j *journal) add(e entry) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.clock++
	e.To = j.clock
	j.entries = append(j.entries, e)
}

// name remembers which family of the server a code became.
func (j *journal) name(code, session string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.sessions == nil {
		j.sessions = map[string]string{}
	}
	j.sessions[code] = session
}

// count is how many entries of a kind had an outcome; "" counts all.
func (j *journal) count(k kind, o outcome) (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, e := range j.entries {
		if (k == "" || e.Kind == k) && (o == "" || e.Outcome == o) {
			n++
		}
	}
	return n
}

func (j *journal) check() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return check(j.entries)
}

// check replays a history and returns a sentence for everything that must not
// have happened.
func check(entries []entry) (wrong []string) {
	families := map[string][]entry{}
	grants := map[string][]entry{}
	objects := map[string][]entry{} // by name, of what stands alone
	for _, e := range entries {
		switch e.Kind {
		case takenBack:
			grants[e.Grant] = append(grants[e.Grant], e)
		case registered, known, set, read, visited:
			objects[e.Object] = append(objects[e.Object], e)
		default:
			families[e.Family] = append(families[e.Family], e)
		}
	}
	for _, family := range families {
		h := newHistory(family, grants[family[0].Grant])
		wrong = append(wrong, h.check()...)
	}
	for _, object := range objects {
		wrong = append(wrong, checkObject(object)...)
	}
	slices.Sort(wrong)
	return wrong
}

// history is what happened to one code and everything that came from it.
type history struct {
	all       []entry           // in the order in which they were sent
	back      []entry           // the grant taken back
	successor map[string]string // of a refresh token, as it was answered
	wrong     []string
}

func newHistory(all, back []entry) *history {
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.From, b.From) })
	return &history{all: all, back: back, successor: map[string]string{}}
}

func (h *history) is(e entry, what string) { h.wrong = append(h.wrong, what+": "+e.String()) }

func (h *history) check() []string {
	used := 0
	for _, e := range h.all {
		switch {
		case e.Kind == redeemed && e.Outcome == ok:
			if used++; used > 1 {
				h.is(e, "a code was used twice")
			}
		case e.Kind == refreshed && e.Outcome == ok:
			if before, known := h.successor[e.Object]; known && before != e.Result {
				h.is(e, "two generations live")
			}
			h.successor[e.Object] = e.Result
		}
	}
	for _, e := range h.all {
		works := e.Outcome == ok && (e.Kind == redeemed || e.Kind == refreshed || e.Kind == looked && e.Result == "active")
		fails := e.Outcome == refused && (e.Kind == redeemed || e.Kind == refreshed) || e.Kind == looked && e.Outcome == ok && e.Result == ""
		switch {
		case works && h.surelyDead(e):
			h.is(e, "what was revoked came back")
		case works && e.Kind == looked && h.any(e.Object, func(o entry) bool { return o.Kind == refreshed && o.Outcome == ok && o.To < e.From }):
			h.is(e, "an old generation lives")
		case fails && !h.mayBeDead(e):
			h.is(e, "what was acknowledged is lost")
		}
	}
	return h.wrong
}

// any reports whether an entry about an object fits.
func (h *history) any(object string, fits func(entry) bool) bool {
	return slices.ContainsFunc(h.all, func(o entry) bool { return o.Object == object && fits(o) })
}

// surelyDead reports that the family had ended before e was sent.
func (h *history) surelyDead(e entry) bool {
	began := h.began()
	if slices.ContainsFunc(h.back, func(o entry) bool { return o.Outcome == ok && o.From > began.To && o.To < e.From }) {
		return true
	}
	return slices.ContainsFunc(h.all, func(o entry) bool {
		switch {
		case o.To >= e.From:
			return false
		case o.Kind == revoked:
			return o.Outcome == ok
		case o.Kind == refreshed: // a refusal ends the family, or the family had ended
			return o.Outcome == refused
		case o.Kind == redeemed:
			return o.Outcome == refused && h.any(o.Object, func(first entry) bool {
				return first.Kind == redeemed && first.Outcome == ok && first.To < o.From
			})
		}
		return false
	})
}

// mayBeDead reports that something sent before e was answered is a reason for
// its refusal.
func (h *history) mayBeDead(e entry) bool {
	began := h.began()
	if slices.ContainsFunc(h.back, func(o entry) bool { return o.To > began.From && o.From < e.To }) {
		return true
	}
	return slices.ContainsFunc(h.all, func(o entry) bool {
		if o.From >= e.To || o == e {
			return false
		}
		switch o.Kind {
		case revoked:
			return true
		case redeemed: // a second use ends what the first one got
			return h.any(o.Object, func(first entry) bool { return first.Kind == redeemed && first != o && first.From < e.To }) ||
				e.Kind == redeemed && e.Object == o.Object
		case refreshed: // an old token whose successor was used
			if e.Kind == looked && e.Object == o.Object && o.Outcome != refused {
				return true // it was rotated
			}
			next, rotated := h.successor[o.Object]
			return rotated && h.any(next, func(later entry) bool { return later.Kind == refreshed && later.From < o.To })
		}
		return false
	}) || e.Kind == refreshed && h.stolen(e)
}

// stolen reports that e presented a token whose successor was used.
func (h *history) stolen(e entry) bool {
	next, rotated := h.successor[e.Object]
	return rotated && h.any(next, func(o entry) bool { return o.Kind == refreshed && o.From < e.To })
}

// began is when the code was given out.
func (h *history) began() entry {
	for _, e := range h.all {
		if e.Kind == issued {
			return e
		}
	}
	return h.all[0]
}

// checkObject checks what stands alone: a client, a session, a setting.
func checkObject(all []entry) (wrong []string) {
	slices.SortFunc(all, func(a, b entry) int { return cmp.Compare(a.From, b.From) })
	for _, e := range all {
		switch {
		case (e.Kind == known || e.Kind == visited) && e.Outcome == refused:
			wrong = append(wrong, "what was acknowledged is lost: "+e.String())
		case e.Kind == read && e.Outcome == ok && !mayRead(all, e):
			before := slices.DeleteFunc(slices.Clone(all), func(o entry) bool { return o.From > e.To })
			wrong = append(wrong, fmt.Sprintf("what was acknowledged is lost: %s after %v", e, before[max(0, len(before)-8):]))
		}
	}
	return wrong
}

// mayRead reports whether a setting may have the value that was read: that of the
// last acknowledged change, or of a later one. One actor at a time changes it.
func mayRead(all []entry, e entry) bool {
	for _, o := range slices.Backward(all) {
		if o.Kind != set || o.Outcome == refused || o.From > e.To {
			continue
		}
		if o.Result == e.Result {
			return true
		}
		if o.Outcome == ok && o.To < e.From {
			return false
		}
	}
	return false
}

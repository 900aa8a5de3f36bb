package signing

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/postern-id/postern/internal/audit"
)

// KeySetMaxAge is how long others may keep a key set before they ask again. A
// new key is published at least so long before it signs.
const KeySetMaxAge = 5 * time.Minute

// Config is what Keys needs.
type Config struct {
	Store  Store
	Sealer *Sealer
	Now    func() time.Time
	// MaxTokenLife is the longest life of anything that is signed. A key stays
	// published so long after its successor began to sign.
	MaxTokenLife time.Duration
	// Lead is how long the next key is published before it signs; 24 hours where
	// it is zero, never less than KeySetMaxAge.
	Lead time.Duration
	// RotateEvery is how long a key signs; 90 days where it is zero.
	RotateEvery time.Duration
	// RSA gives the private part of an RS256 key, of 2048 bits. Where it is nil, as
	// everywhere but in tests, a new one is made.
	RSA func() (*rsa.PrivateKey, error)
}

// Keys makes, rotates and loads the signing keys of all projects. It is safe
// for concurrent use, and several servers may share a store.
type Keys struct {
	config Config

	mu    sync.Mutex
	rings map[string]*Ring // by project
	seen  seen
}

// New checks the configuration.
func New(config Config) (*Keys, error) {
	if config.Store == nil || config.Sealer == nil || config.Now == nil || config.MaxTokenLife <= 0 {
		return nil, errors.New("signing: Store, Sealer, Now and MaxTokenLife are required")
	}
	if config.Lead == 0 {
		config.Lead = 24 * time.Hour
	}
	if config.RotateEvery == 0 {
		config.RotateEvery = 90 * 24 * time.Hour
	}
	if config.Lead < KeySetMaxAge || config.RotateEvery <= config.Lead {
		return nil, fmt.Errorf("signing: Lead must be at least %v and RotateEvery longer than Lead", KeySetMaxAge)
	}
	if config.RSA == nil {
		config.RSA = func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, rsaBits) }
	}
	return &Keys{config: config, rings: map[string]*Ring{}}, nil
}

// Ring returns the keys of a project. The first call reads the store, later
// ones do not. The Ring stays valid: Reload renews it in place.
func (k *Keys) Ring(ctx context.Context, projectID string) (*Ring, error) {
	r := k.ring(projectID)
	if r.snapshot.Load() == nil {
		if err := k.Reload(ctx, projectID); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (k *Keys) ring(projectID string) *Ring {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.rings[projectID]
	if r == nil {
		r = &Ring{now: k.config.Now, seen: &k.seen}
		k.rings[projectID] = r
	}
	return r
}

// Reload reads the keys of a project again. Call it when the project's change
// counter moved.
func (k *Keys) Reload(ctx context.Context, projectID string) error {
	r := k.ring(projectID)
	// One reload at a time, so that an older answer of the store never replaces
	// a newer one.
	r.reload.Lock()
	defer r.reload.Unlock()
	rows, err := k.config.Store.Keys(ctx, projectID)
	if err != nil {
		return fmt.Errorf("signing: load keys: %w", err)
	}
	next, err := newSnapshot(k.config.Sealer, rows, k.config.Now())
	if err != nil {
		return err
	}
	r.snapshot.Store(next)
	return nil
}

// Ensure makes the first key of a project and algorithm where there is none,
// and loads it. Of several callers, on several servers, one makes the key that
// all then use.
func (k *Keys) Ensure(ctx context.Context, projectID string, alg Algorithm) error {
	last, err := k.newest(ctx, projectID, alg)
	if err != nil {
		return err
	}
	if last.Generation == 0 {
		now := k.moment()
		first, err := k.newKey(projectID, alg, 1, now, now)
		if err != nil {
			return err
		}
		err = k.config.Store.AddKey(ctx, first, now, audit.Origin{}.Event(projectID, now, audit.KeyCreated, first.ID))
		if err != nil && !errors.Is(err, ErrConflict) {
			return fmt.Errorf("signing: add key: %w", err)
		}
	}
	return k.Reload(ctx, projectID)
}

// Rotate makes the next key of a project and algorithm for by, who asked for it;
// the zero Origin is the server itself. The key is published at once and signs
// after lead, or after Config.Lead where lead is zero; lead is at least
// KeySetMaxAge. The keys before it stay published until the last token signed
// with them has ended. ErrConflict means that somebody else rotated at the same
// moment, ErrNoKey that there is no first key yet.
func (k *Keys) Rotate(ctx context.Context, by audit.Origin, projectID string, alg Algorithm, lead time.Duration) (Key, error) {
	if lead == 0 {
		lead = k.config.Lead
	}
	if lead < KeySetMaxAge {
		return Key{}, fmt.Errorf("signing: a new key must be published at least %v before it signs: others keep the key set so long", KeySetMaxAge)
	}
	last, err := k.newest(ctx, projectID, alg)
	if err != nil {
		return Key{}, err
	}
	if last.Generation == 0 {
		return Key{}, ErrNoKey
	}
	now := k.moment()
	next, err := k.newKey(projectID, alg, last.Generation+1, now, now.Add(lead))
	if err != nil {
		return Key{}, err
	}
	if err := k.config.Store.AddKey(ctx, next, k.retirement(next), by.Event(projectID, now, audit.KeyRotated, next.ID)); err != nil {
		return Key{}, fmt.Errorf("signing: add key: %w", err)
	}
	return next, k.Reload(ctx, projectID)
}

// Compromise takes a key out of the key set at once, for by, because somebody
// else may have it: what it signed is good nowhere from then on, whether it was
// ours or forged. The other servers follow as soon as they see the change; who
// keeps the key set, within KeySetMaxAge.
//
// A key that signs, or is about to, has a successor that takes its place without
// having been published before, so whoever does not ask again for an unknown key
// refuses new tokens for KeySetMaxAge; that is the lesser evil. next is the zero
// Key where a newer one signs already. ErrNotFound means that the project has no
// such key.
func (k *Keys) Compromise(ctx context.Context, by audit.Origin, projectID, id string) (next Key, err error) {
	for range compromiseTries {
		next, err = k.compromise(ctx, by, projectID, id)
		if !errors.Is(err, ErrConflict) { // somebody made a key meanwhile
			break
		}
	}
	if err != nil {
		return Key{}, err
	}
	return next, k.Reload(ctx, projectID)
}

const (
	// compromiseTries bounds how often Compromise begins again because somebody
	// rotates at the same moment.
	compromiseTries = 5
	// skewed is how far the clock of another server may be behind ours. Of a key
	// that takes another's place every server has to know that it signs now.
	skewed = 10 * time.Second
)

func (k *Keys) compromise(ctx context.Context, by audit.Origin, projectID, id string) (Key, error) {
	rows, err := k.All(ctx, projectID)
	if err != nil {
		return Key{}, err
	}
	i := slices.IndexFunc(rows, func(row Key) bool { return row.ID == id })
	if i < 0 {
		return Key{}, ErrNotFound
	}
	bad, now := rows[i], k.moment()
	from := now.Add(-skewed)
	if bad.NotBefore.After(now) { // its successor signs when it would have
		from = bad.NotBefore
	}
	newest, followed := bad.Generation, false
	for _, row := range rows {
		if row.Algorithm == bad.Algorithm && row.Generation > bad.Generation {
			newest = max(newest, row.Generation)
			followed = followed || !row.NotBefore.After(from)
		}
	}
	var next Key
	var add *Key
	var retireAt time.Time
	if !followed {
		if next, err = k.newKey(projectID, bad.Algorithm, newest+1, now, from); err != nil {
			return Key{}, err
		}
		add, retireAt = &next, k.retirement(next)
	}
	err = k.config.Store.RemoveKey(ctx, projectID, id, add, retireAt, by.Event(projectID, now, audit.KeyCompromised, id))
	if err != nil {
		return Key{}, fmt.Errorf("signing: remove key: %w", err)
	}
	return next, nil
}

// retirement is until when the keys before next stay published: until the last
// token of theirs has ended. A server whose clock is behind signs with the old
// key a little longer.
func (k *Keys) retirement(next Key) time.Time {
	return next.NotBefore.Add(k.config.MaxTokenLife + KeySetMaxAge)
}

// RotateDue rotates the keys of a project that have signed for nearly
// RotateEvery, so that the next one takes over on time. Call it every hour or
// so, on every server.
func (k *Keys) RotateDue(ctx context.Context, projectID string) error {
	for _, alg := range Algorithms() {
		last, err := k.newest(ctx, projectID, alg)
		if err != nil {
			return err
		}
		due := last.NotBefore.Add(k.config.RotateEvery - k.config.Lead)
		if last.Generation == 0 || k.config.Now().Before(due) {
			continue
		}
		if _, err := k.Rotate(ctx, audit.Origin{}, projectID, alg, 0); err != nil && !errors.Is(err, ErrConflict) {
			return err
		}
	}
	return nil
}

// All returns every key of a project that is kept, in any order.
func (k *Keys) All(ctx context.Context, projectID string) ([]Key, error) {
	rows, err := k.config.Store.Keys(ctx, projectID)
	if err != nil {
		return nil, fmt.Errorf("signing: load keys: %w", err)
	}
	return rows, nil
}

// Due is when the first of these keys, all of a project, is followed by the
// next by itself; zero where there are none.
func (k *Keys) Due(rows []Key) time.Time {
	var due time.Time
	for _, row := range rows {
		if next := row.NotBefore.Add(k.config.RotateEvery); row.RetireAt.IsZero() && (due.IsZero() || next.Before(due)) {
			due = next
		}
	}
	return due
}

// newest returns the key of the highest generation, the zero Key where there is
// none.
func (k *Keys) newest(ctx context.Context, projectID string, alg Algorithm) (Key, error) {
	rows, err := k.All(ctx, projectID)
	if err != nil {
		return Key{}, err
	}
	var last Key
	for _, row := range rows {
		if row.Algorithm == alg && row.Generation > last.Generation {
			last = row
		}
	}
	return last, nil
}

// moment is now as the store keeps it.
func (k *Keys) moment() time.Time { return k.config.Now().UTC().Truncate(time.Microsecond) }

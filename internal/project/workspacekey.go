package project

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/secret"
)

// WorkspaceKey lets a program read the projects of a deployment through its
// management API and, unless it only reads, change them. It belongs to the
// deployment and to no project.
type WorkspaceKey struct {
	ID         string // workspace-key-prod-<uuid>
	Name       string
	SecretHash []byte // SHA-256 of the random part of its secret (decision 23)
	ReadOnly   bool
	MadeBy     string // audit.Operator, or the address of an administrator, whose removal ends it
	CreatedAt  time.Time
	LastUsedAt time.Time // to the minute; zero before
	ExpiresAt  time.Time // the first moment at which it does not work; zero for never
	RevokedAt  time.Time // zero for never
}

// What a workspace key does.
const (
	KeyWorks   = "works"
	KeyEnded   = "ended" // by itself
	KeyRevoked = "revoked"
)

// State says what the key does at a time.
func (k WorkspaceKey) State(now time.Time) string {
	switch {
	case !k.RevokedAt.IsZero():
		return KeyRevoked
	case !k.ExpiresAt.IsZero() && !now.Before(k.ExpiresAt):
		return KeyEnded
	}
	return KeyWorks
}

// WorkspaceKeyStore is what WorkspaceKeys needs of a database. A change is one
// transaction and keeps the event.
type WorkspaceKeyStore interface {
	// CreateWorkspaceKey keeps a new key, or returns ErrNotFound when an
	// administrator makes it who was removed.
	CreateWorkspaceKey(ctx context.Context, k WorkspaceKey, e audit.Event) error
	// WorkspaceKey returns a key by id, revoked or not, or ErrNotFound.
	WorkspaceKey(ctx context.Context, id string) (WorkspaceKey, error)
	// WorkspaceKeys returns every key, revoked or not, the oldest first.
	WorkspaceKeys(ctx context.Context) ([]WorkspaceKey, error)
	// RevokeWorkspaceKey ends a key at the time of the event, or returns
	// ErrNotFound when none of this id works.
	RevokeWorkspaceKey(ctx context.Context, id string, e audit.Event) error
	// TouchWorkspaceKey notes that a key was used.
	TouchWorkspaceKey(ctx context.Context, id string, used time.Time) error
}

// WorkspaceKeys makes, lists, ends and checks the keys of a deployment.
type WorkspaceKeys struct {
	store WorkspaceKeyStore
	now   func() time.Time
	by    audit.Origin
}

// NewWorkspaceKeys returns the WorkspaceKeys of a store, whose changes are the
// operator's.
func NewWorkspaceKeys(store WorkspaceKeyStore, now func() time.Time) *WorkspaceKeys {
	return &WorkspaceKeys{store: store, now: now, by: audit.Origin{Actor: audit.Operator}}
}

// By returns a WorkspaceKeys whose changes are made by somebody else.
func (w *WorkspaceKeys) By(o audit.Origin) *WorkspaceKeys {
	return &WorkspaceKeys{store: w.store, now: w.now, by: o}
}

const (
	// workspaceKeyPrefix is the form that programs made for the compatible API
	// expect of an id.
	workspaceKeyPrefix = "workspace-key-prod-"
	maxKeyName         = 100 // characters
	touchedEvery       = time.Minute
	minKeyLifetime     = 60               // seconds
	maxKeyLifetime     = 10 * 365 * 86400 // seconds
)

// NewKey is what a workspace key is made from.
type NewKey struct {
	Name     string
	ReadOnly bool
	Lifetime string // as ParseSpan reads it, such as 90d; "" for a key that does not end by itself
}

// Create keeps a new key and returns it with its secret, which is shown once
// and kept as a hash only.
func (w *WorkspaceKeys) Create(ctx context.Context, n NewKey) (WorkspaceKey, secret.Secret, error) {
	name := strings.TrimSpace(n.Name)
	unreadable := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	if name == "" || utf8.RuneCountInString(name) > maxKeyName || strings.ContainsFunc(name, unreadable) {
		return WorkspaceKey{}, secret.Secret{}, Problem(fmt.Sprintf("a workspace key needs a name of 1 to %d characters that can be read", maxKeyName))
	}
	now := w.now()
	s := secret.New(secret.WorkspaceKey, now)
	k := WorkspaceKey{ID: workspaceKeyPrefix + s.ID, Name: name, SecretHash: s.Hash[:], ReadOnly: n.ReadOnly, MadeBy: w.by.Actor, CreatedAt: now}
	if lifetime := strings.TrimSpace(n.Lifetime); lifetime != "" {
		seconds, err := ParseSpan(lifetime)
		if err != nil || seconds < minKeyLifetime || seconds > maxKeyLifetime {
			return WorkspaceKey{}, secret.Secret{}, Problem(fmt.Sprintf("a workspace key ends after a time such as 12h or 90d, from %s to %s", Span(minKeyLifetime), Span(maxKeyLifetime)))
		}
		k.ExpiresAt = now.Add(time.Duration(seconds) * time.Second)
	}
	err := w.store.CreateWorkspaceKey(ctx, k, w.event(audit.WorkspaceKeyCreated, k.ID))
	if errors.Is(err, ErrNotFound) {
		err = Problem("you are no administrator any more, so no key was made")
	}
	return k, s, err
}

// All returns every key, revoked or not, the oldest first.
func (w *WorkspaceKeys) All(ctx context.Context) ([]WorkspaceKey, error) {
	return w.store.WorkspaceKeys(ctx)
}

// Revoke ends a key at once, or returns ErrNotFound when none of this id works.
func (w *WorkspaceKeys) Revoke(ctx context.Context, id string) error {
	return w.store.RevokeWorkspaceKey(ctx, id, w.event(audit.WorkspaceKeyRevoked, id))
}

// ErrKeyEnded says that a workspace key was revoked, or ended by itself.
var ErrKeyEnded = errors.New("project: the workspace key works no more")

// Check returns the key that an id and a secret name together. ErrNotFound says
// that they do not: the key is unknown, or another's. With ErrKeyEnded comes the
// key, which works no more.
func (w *WorkspaceKeys) Check(ctx context.Context, id, text string) (WorkspaceKey, error) {
	given, ok := secret.Parse(secret.WorkspaceKey, text)
	if !ok || id != workspaceKeyPrefix+given.ID {
		return WorkspaceKey{}, ErrNotFound
	}
	k, err := w.store.WorkspaceKey(ctx, id)
	if err != nil {
		return WorkspaceKey{}, err
	}
	if !given.Matches(k.SecretHash) {
		return WorkspaceKey{}, ErrNotFound
	}
	now := w.now()
	if k.State(now) != KeyWorks {
		return k, ErrKeyEnded
	}
	if now.Sub(k.LastUsedAt) >= touchedEvery {
		// A database that cannot keep this still lets the key read: the next use
		// tries again.
		if err := w.store.TouchWorkspaceKey(ctx, k.ID, now); err == nil {
			k.LastUsedAt = now
		}
	}
	return k, nil
}

// event is of no project: it is the deployment's own.
func (w *WorkspaceKeys) event(kind audit.Kind, id string) audit.Event {
	return w.by.Event("", w.now(), kind, id)
}

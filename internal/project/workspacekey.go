package project

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/secret"
)

// WorkspaceKey lets a program change the projects of a deployment through its
// management API. It belongs to the deployment and to no project.
type WorkspaceKey struct {
	ID         string // workspace-key-prod-<uuid>
	Name       string
	SecretHash []byte // SHA-256 of the random part of its secret (decision 23)
	CreatedAt  time.Time
	LastUsedAt time.Time // to the minute; zero before
	RevokedAt  time.Time // zero while it works
}

// WorkspaceKeyStore is what WorkspaceKeys needs of a database. A change is one
// transaction and keeps the event.
type WorkspaceKeyStore interface {
	// CreateWorkspaceKey keeps a new key.
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
)

// Create keeps a new key and returns it with its secret, which is shown once
// and kept as a hash only.
func (w *WorkspaceKeys) Create(ctx context.Context, name string) (WorkspaceKey, secret.Secret, error) {
	name = strings.TrimSpace(name)
	unreadable := func(r rune) bool { return r == utf8.RuneError || !unicode.IsPrint(r) }
	if name == "" || utf8.RuneCountInString(name) > maxKeyName || strings.ContainsFunc(name, unreadable) {
		return WorkspaceKey{}, secret.Secret{}, Problem(fmt.Sprintf("a workspace key needs a name of 1 to %d characters that can be read", maxKeyName))
	}
	now := w.now()
	s := secret.New(secret.WorkspaceKey, now)
	k := WorkspaceKey{ID: workspaceKeyPrefix + s.ID, Name: name, SecretHash: s.Hash[:], CreatedAt: now}
	return k, s, w.store.CreateWorkspaceKey(ctx, k, w.event(audit.WorkspaceKeyCreated, k.ID))
}

// All returns every key, revoked or not, the oldest first.
func (w *WorkspaceKeys) All(ctx context.Context) ([]WorkspaceKey, error) {
	return w.store.WorkspaceKeys(ctx)
}

// Revoke ends a key at once, or returns ErrNotFound when none of this id works.
func (w *WorkspaceKeys) Revoke(ctx context.Context, id string) error {
	return w.store.RevokeWorkspaceKey(ctx, id, w.event(audit.WorkspaceKeyRevoked, id))
}

// Check returns the key that an id and a secret name together. Whatever is
// wrong with them is ErrNotFound: a key that is unknown, revoked, or another's.
func (w *WorkspaceKeys) Check(ctx context.Context, id, text string) (WorkspaceKey, error) {
	given, ok := secret.Parse(secret.WorkspaceKey, text)
	if !ok || id != workspaceKeyPrefix+given.ID {
		return WorkspaceKey{}, ErrNotFound
	}
	k, err := w.store.WorkspaceKey(ctx, id)
	if err != nil {
		return WorkspaceKey{}, err
	}
	if !given.Matches(k.SecretHash) || !k.RevokedAt.IsZero() {
		return WorkspaceKey{}, ErrNotFound
	}
	if now := w.now(); now.Sub(k.LastUsedAt) >= touchedEvery {
		k.LastUsedAt = now
		err = w.store.TouchWorkspaceKey(ctx, k.ID, now)
	}
	return k, err
}

// event is of no project: it is the deployment's own.
func (w *WorkspaceKeys) event(kind audit.Kind, id string) audit.Event {
	return w.by.Event("", w.now(), kind, id)
}

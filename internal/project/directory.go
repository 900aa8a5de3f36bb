package project

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Store is what Directory needs of a database.
type Store interface {
	// Projects returns every project with its resource servers and scopes.
	Projects(ctx context.Context) ([]*Project, error)
	// Changes returns the change counter of every project by its id. It is
	// read once a second and touches one small table.
	Changes(ctx context.Context) (map[string]int64, error)
}

// Directory answers which project serves a host. It is safe for concurrent
// use; its answers are at most one poll interval (a second) old, and at once
// current after Reload.
type Directory struct {
	store   Store
	reading sync.Mutex // one reading at a time, so that no older one comes last
	current atomic.Pointer[snapshot]
}

type snapshot struct {
	byHost map[string]*Project
	byID   map[string]*Project
}

// NewDirectory reads all projects once.
func NewDirectory(ctx context.Context, store Store) (*Directory, error) {
	d := &Directory{store: store}
	d.current.Store(&snapshot{})
	return d, d.Reload(ctx)
}

// ByHost finds the project that serves a host as normalized by Host.
func (d *Directory) ByHost(host string) (*Project, bool) {
	p, ok := d.current.Load().byHost[host]
	return p, ok
}

// ByID finds a project by its id.
func (d *Directory) ByID(id string) (*Project, bool) {
	p, ok := d.current.Load().byID[id]
	return p, ok
}

// All returns every project, ordered by id.
func (d *Directory) All() []*Project {
	return slices.SortedFunc(maps.Values(d.current.Load().byID), func(a, b *Project) int {
		return strings.Compare(a.ID, b.ID)
	})
}

// Reload reads every project again.
func (d *Directory) Reload(ctx context.Context) error {
	d.reading.Lock()
	defer d.reading.Unlock()
	return d.reload(ctx)
}

func (d *Directory) reload(ctx context.Context) error {
	all, err := d.store.Projects(ctx)
	if err != nil {
		return fmt.Errorf("project: load: %w", err)
	}
	next := &snapshot{byHost: map[string]*Project{}, byID: map[string]*Project{}}
	for _, p := range all {
		next.byID[p.ID] = p
		next.byHost[IssuerHost(p.Issuer)] = p
		for _, h := range p.Hosts {
			next.byHost[h] = p
		}
	}
	d.current.Store(next)
	return nil
}

// Poll reloads if any change counter moved, and reports the ids of the
// projects that are new or changed. The caller refreshes what it keeps for them.
func (d *Directory) Poll(ctx context.Context) ([]string, error) {
	d.reading.Lock()
	defer d.reading.Unlock()
	now, err := d.store.Changes(ctx)
	if err != nil {
		return nil, fmt.Errorf("project: changes: %w", err)
	}
	known := d.current.Load().byID
	var changed []string
	for id, change := range now {
		if p, ok := known[id]; !ok || p.Change != change {
			changed = append(changed, id)
		}
	}
	if len(changed) == 0 && len(now) == len(known) {
		return nil, nil
	}
	slices.Sort(changed)
	return changed, d.reload(ctx)
}

// PollInterval is how often a server asks for changes made beside it.
const PollInterval = time.Second

package store_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
)

// find reads one project.
func find(t *testing.T, db *store.DB, id string) *project.Project {
	t.Helper()
	all, err := db.Projects(t.Context())
	must(t, err)
	i := slices.IndexFunc(all, func(p *project.Project) bool { return p.ID == id })
	if i < 0 {
		t.Fatalf("project %s is not among %d", id, len(all))
	}
	return all[i]
}

func (w *world) resource(uri string) project.Resource {
	return project.Resource{
		ID: secret.NewID(now, "resource-server", "test"), URI: uri, Name: "Notes", Scopes: []string{"read:notes"},
		Profile: project.RFC9068, CreatedAt: now,
	}
}

func TestProject(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")

		t.Run("is kept whole", func(t *testing.T) {
			p := newProject("whole.example.com:8443")
			p.Hosts = []string{"api.example.com", "login.example.com"}
			p.Settings.PrivateUseSchemes = []string{"cursor"}
			must(t, db.CreateProject(t.Context(), p, audit.Event{ProjectID: p.ID, At: now, Kind: audit.ProjectCreated}))
			p.Change = 1
			if diff := cmp.Diff(&p, find(t, db, p.ID)); diff != "" {
				t.Error(diff)
			}
			if got := events(t, db, p.ID); !slices.Equal(got, []string{"project.created"}) {
				t.Errorf("events %v", got)
			}
		})

		t.Run("cannot take another's host", func(t *testing.T) {
			for _, host := range []string{"auth.example.com", "api.example.com"} {
				asIssuer, beside := newProject(host), newProject("free.example.com")
				beside.Hosts = []string{host}
				for _, p := range []project.Project{asIssuer, beside} {
					err := db.CreateProject(t.Context(), p, audit.Event{ProjectID: p.ID, At: now})
					if !errors.Is(err, project.ErrConflict) {
						t.Errorf("%s: %v", host, err)
					}
				}
			}
			all, err := db.Projects(t.Context())
			must(t, err)
			if len(all) != 2 {
				t.Errorf("%d projects", len(all))
			}
		})

		t.Run("settings are saved by who saw the last change", func(t *testing.T) {
			p := find(t, db, w.project.ID)
			p.Settings.DynamicRegistration = false
			must(t, db.SaveSettings(t.Context(), p.ID, p.Change, "Renamed", p.Settings, w.event(audit.ProjectChanged)))
			got := find(t, db, p.ID)
			if got.Name != "Renamed" || got.Settings.DynamicRegistration || got.Change != p.Change+1 {
				t.Errorf("%+v", got)
			}
			err := db.SaveSettings(t.Context(), p.ID, p.Change, "Late", p.Settings, w.event(audit.ProjectChanged))
			if !errors.Is(err, project.ErrConflict) {
				t.Errorf("an old view was saved: %v", err)
			}
			if err := db.SaveSettings(t.Context(), "project-test-x", 1, "x", p.Settings, w.event(audit.ProjectChanged)); !errors.Is(err, project.ErrConflict) {
				t.Errorf("unknown project: %v", err)
			}
		})

		t.Run("a new secret replaces the old one", func(t *testing.T) {
			before := find(t, db, w.project.ID)
			must(t, db.SetProjectSecret(t.Context(), w.project.ID, "new", []byte{7}, w.event(audit.ProjectRotated)))
			got := find(t, db, w.project.ID)
			if got.SecretID != "new" || !slices.Equal(got.SecretHash, []byte{7}) || got.Change != before.Change+1 || count(events(t, db, w.project.ID), "project.secret_rotated") != 1 {
				t.Errorf("%+v", got)
			}
			if err := db.SetProjectSecret(t.Context(), "project-test-x", "new", []byte{7}, w.event(audit.ProjectRotated)); !errors.Is(err, project.ErrNotFound) {
				t.Errorf("unknown project: %v", err)
			}
		})

		t.Run("settings saved at once by many are saved by one", func(t *testing.T) {
			p := find(t, db, w.project.ID)
			var saved atomic.Int64
			at(20, func(i int) {
				err := db.SaveSettings(t.Context(), p.ID, p.Change, fmt.Sprint("Name ", i), p.Settings, w.event(audit.ProjectChanged))
				if err == nil {
					saved.Add(1)
				} else if !errors.Is(err, project.ErrConflict) {
					t.Error(err)
				}
			})
			if saved.Load() != 1 {
				t.Errorf("%d were saved", saved.Load())
			}
		})
	})
}

// A resource server is kept, changed and removed whole, whoever else does so at the
// same moment. Row: D18.
func TestResource(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		id := w.project.ID
		add := func(t *testing.T, r project.Resource, scopes ...project.Scope) {
			t.Helper()
			kind := audit.ResourceAdded
			if known, ok := find(t, db, id).Resource(r.URI); ok {
				r.ID, kind = known.ID, audit.ResourceChanged
			}
			must(t, db.AddResource(t.Context(), id, nil, r, scopes, w.event(kind)))
		}
		read := project.Scope{Name: "read:notes", Description: "Read your notes", Detail: "Titles and texts", ReadOnly: true}
		write := project.Scope{Name: "write:notes", Description: "Change your notes"}

		t.Run("is kept whole, with its scopes", func(t *testing.T) {
			before := find(t, db, id).Change
			r := w.resource(notes)
			key := secret.New(secret.ResourceServer, now)
			r.SecretID, r.SecretHash, r.AccessToken, r.DefaultScopes = key.ID, key.Hash[:], 600, []string{"read:notes"}
			r.Aliases = []string{"https://notes.example.com/sse", "https://notes.example.com/old"}
			add(t, r, read, write)
			p := find(t, db, id)
			if diff := cmp.Diff([]project.Resource{r}, p.Resources); diff != "" {
				t.Error(diff)
			}
			if diff := cmp.Diff([]project.Scope{read, write}, p.Scopes); diff != "" {
				t.Error(diff)
			}
			if p.Change != before+1 {
				t.Errorf("change went from %d to %d", before, p.Change)
			}
		})

		t.Run("added again keeps id, secret and place, whatever its last slash", func(t *testing.T) {
			first := find(t, db, id).Resources[0]
			again := w.resource(notes + "/")
			again.Name, again.Scopes, again.DefaultScopes, again.Aliases = "More notes", []string{"read:notes", "share:notes"}, []string{}, []string{}
			changed := project.Scope{Name: "read:notes", Description: "Read all your notes", ReadOnly: true}
			add(t, again, changed, project.Scope{Name: "share:notes"}, project.Scope{Name: "write:notes"}, project.Scope{Name: "openid", Description: "x"})
			p := find(t, db, id)
			again.ID, again.SecretID, again.SecretHash, again.CreatedAt = first.ID, first.SecretID, first.SecretHash, first.CreatedAt
			if diff := cmp.Diff([]project.Resource{again}, p.Resources); diff != "" {
				t.Error(diff)
			}
			// A sentence is replaced by a sentence, and not by none.
			if diff := cmp.Diff([]project.Scope{changed, write, {Name: "share:notes"}}, p.Scopes); diff != "" {
				t.Error(diff)
			}
			if got := events(t, db, id); count(got, "resource.added") != 1 || count(got, "resource.changed") != 1 {
				t.Errorf("events %v", got)
			}
		})

		t.Run("is not replaced by another, registered at the same moment", func(t *testing.T) {
			before := find(t, db, id)
			other := w.resource(notes)
			other.SecretID, other.SecretHash = "other", []byte{7}
			if err := db.AddResource(t.Context(), id, nil, other, []project.Scope{{Name: "other:notes"}}, w.event(audit.ResourceAdded)); !errors.Is(err, project.ErrConflict) {
				t.Error(err)
			}
			if diff := cmp.Diff(before, find(t, db, id)); diff != "" {
				t.Error(diff)
			}
		})

		t.Run("one is the default", func(t *testing.T) {
			for _, uri := range []string{"https://a.example.com", "https://b.example.com"} {
				r := w.resource(uri)
				r.Default = true
				add(t, r)
			}
			var defaults []string
			for _, r := range find(t, db, id).Resources {
				if r.Default {
					defaults = append(defaults, r.URI)
				}
			}
			if !slices.Equal(defaults, []string{"https://b.example.com"}) {
				t.Errorf("defaults %v", defaults)
			}
		})

		t.Run("is removed by any spelling, and its scopes stay", func(t *testing.T) {
			must(t, db.RemoveResource(t.Context(), id, notes, w.event(audit.ResourceRemoved)))
			p := find(t, db, id)
			if len(p.Resources) != 2 || len(p.Scopes) != 3 {
				t.Errorf("%d resources, %d scopes", len(p.Resources), len(p.Scopes))
			}
			if err := db.RemoveResource(t.Context(), id, notes, w.event(audit.ResourceRemoved)); !errors.Is(err, project.ErrNotFound) {
				t.Errorf("again: %v", err)
			}
		})

		t.Run("with a scope that cannot be described changes nothing", func(t *testing.T) {
			before := find(t, db, id)
			bad := project.Scope{Name: "bad", Description: strings.Repeat("long ", 100)}
			if err := db.AddResource(t.Context(), id, nil, w.resource("https://c.example.com"), []project.Scope{bad}, w.event(audit.ResourceAdded)); err == nil {
				t.Error("it was added")
			}
			if diff := cmp.Diff(before, find(t, db, id)); diff != "" {
				t.Error(diff)
			}
		})

		t.Run("of no project", func(t *testing.T) {
			err := db.AddResource(t.Context(), "project-test-x", nil, w.resource(notes), nil, w.event(audit.ResourceAdded))
			if !errors.Is(err, project.ErrNotFound) {
				t.Error(err)
			}
		})

		t.Run("a detail", func(t *testing.T) {
			described := func(s project.Scope) project.Scope {
				t.Helper()
				s.Name = "detailed"
				add(t, w.resource("https://a.example.com"), s)
				got, _ := find(t, db, id).Scope(s.Name)
				got.Name = ""
				return got
			}
			whole := project.Scope{Description: "Read it", Detail: "All of it", ReadOnly: true}
			for _, test := range []struct {
				name        string
				given, want project.Scope
			}{
				{"comes with its sentence", whole, whole},
				{"stays when nothing is said", project.Scope{}, whole},
				{"alone joins the sentence that is there", project.Scope{Detail: "Some of it"}, project.Scope{Description: "Read it", Detail: "Some of it", ReadOnly: true}},
				{"goes with the sentence that it was about", project.Scope{Description: "Read it", ReadOnly: true}, project.Scope{Description: "Read it", ReadOnly: true}},
			} {
				if diff := cmp.Diff(test.want, described(test.given)); diff != "" {
					t.Errorf("%s: %s", test.name, diff)
				}
			}
			alone := []project.Scope{{Name: "nobody's", Detail: "Below nothing"}}
			if err := db.AddResource(t.Context(), id, nil, w.resource("https://a.example.com"), alone, w.event(audit.ResourceAdded)); err == nil {
				t.Error("a detail below no sentence is kept")
			}
		})

		t.Run("many at once lose no scope", func(t *testing.T) {
			at(20, func(i int) {
				s := project.Scope{Name: fmt.Sprint("scope:", i), Description: "Do it"}
				if err := db.AddResource(t.Context(), id, nil, w.resource(fmt.Sprintf("https://r%d.example.com", i)), []project.Scope{s}, w.event(audit.ResourceAdded)); err != nil {
					t.Error(err)
				}
			})
			if p := find(t, db, id); len(p.Scopes) != 24 || len(p.Resources) != 22 {
				t.Errorf("%d resources, %d scopes", len(p.Resources), len(p.Scopes))
			}
		})
	})
}

// An address belongs to one resource server, whoever comes first.
func TestResourceAddresses(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, other := newWorld(t, db, "auth.example.com"), newWorld(t, db, "other.example.com")
		const sse = "https://notes.example.com/sse"
		add := func(w *world, uri string, aliases ...string) error {
			r := w.resource(uri)
			r.Aliases = aliases
			if known, ok := find(t, db, w.project.ID).Resource(uri); ok && known.URI == uri {
				r.ID = known.ID
			}
			return db.AddResource(t.Context(), w.project.ID, nil, r, nil, w.event(audit.ResourceAdded))
		}
		must(t, add(w, notes, sse))
		before := find(t, db, w.project.ID)
		for _, c := range [][]string{{sse}, {sse + "/"}, {"https://notes.example.com/api", sse}, {"https://notes.example.com/api", notes + "/"}} {
			if err := add(w, c[0], c[1:]...); !errors.Is(err, project.ErrTaken) {
				t.Errorf("%q: %v", c, err)
			}
		}
		if diff := cmp.Diff(before, find(t, db, w.project.ID)); diff != "" {
			t.Errorf("a refusal changed something: %s", diff)
		}
		must(t, add(other, sse)) // another project is another world
		must(t, add(w, notes))
		must(t, add(w, sse)) // which is free again

		t.Run("many at once", func(t *testing.T) {
			var took atomic.Int64
			at(20, func(i int) {
				switch err := add(w, fmt.Sprintf("https://r.example.com/%d", i), "https://r.example.com/sse"); {
				case err == nil:
					took.Add(1)
				case !errors.Is(err, project.ErrTaken):
					t.Error(err)
				}
			})
			if took.Load() != 1 {
				t.Errorf("%d have one alias", took.Load())
			}
		})
	})
}

// Directory sees what was changed beside it at its next poll.
func TestDirectoryPolls(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		serving, setup := open(t, c), open(t, c)
		w := newWorld(t, setup, "auth.example.com")
		directory, err := project.NewDirectory(t.Context(), serving)
		must(t, err)
		if changed, err := directory.Poll(t.Context()); err != nil || changed != nil {
			t.Fatalf("nothing changed: %v, %v", changed, err)
		}
		must(t, setup.AddResource(t.Context(), w.project.ID, nil, w.resource(notes), nil, w.event(audit.ResourceAdded)))
		changed, err := directory.Poll(t.Context())
		if err != nil || !slices.Equal(changed, []string{w.project.ID}) {
			t.Fatalf("changed: %v, %v", changed, err)
		}
		p, ok := directory.ByHost("auth.example.com")
		if !ok || len(p.Resources) != 1 {
			t.Errorf("%+v", p)
		}
	})
}

func TestSigningKeys(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		key := func(alg signing.Algorithm, generation int64, at time.Time) signing.Key {
			return signing.Key{
				ID: fmt.Sprint(alg, generation), ProjectID: w.project.ID, Algorithm: alg, Generation: generation,
				Public: []byte(`{"kty":"EC"}`), Private: []byte{1, 0, 255}, CreatedAt: at, NotBefore: at.Add(day),
			}
		}
		list := func() map[string]signing.Key {
			keys, err := db.Keys(t.Context(), w.project.ID)
			must(t, err)
			byID := map[string]signing.Key{}
			for _, k := range keys {
				byID[k.ID] = k
			}
			return byID
		}
		add := func(k signing.Key, previous time.Time) {
			t.Helper()
			kind := audit.KeyRotated
			if k.Generation == 1 {
				kind = audit.KeyCreated
			}
			must(t, db.AddKey(t.Context(), k, previous, w.event(kind)))
		}
		if len(list()) != 0 {
			t.Fatal("keys before the first")
		}
		before := find(t, db, w.project.ID).Change
		first, other := key(signing.ES256, 1, now), key(signing.RS256, 1, now)
		add(first, time.Time{})
		add(other, time.Time{})
		if diff := cmp.Diff(map[string]signing.Key{first.ID: first, other.ID: other}, list()); diff != "" {
			t.Error(diff)
		}
		if err := db.AddKey(t.Context(), key(signing.ES256, 1, now), now, w.event(audit.KeyCreated)); !errors.Is(err, signing.ErrConflict) {
			t.Errorf("the same generation again: %v", err)
		}
		if err := db.AddKey(t.Context(), signing.Key{ProjectID: "project-test-x"}, now, w.event(audit.KeyCreated)); err == nil {
			t.Error("a key of no project")
		}
		if change := find(t, db, w.project.ID).Change; change != before+2 {
			t.Errorf("change went from %d to %d", before, change)
		}

		second := key(signing.ES256, 2, now.Add(day))
		add(second, now.Add(10*day))
		if got := list(); !got[first.ID].RetireAt.Equal(now.Add(10*day)) || !got[second.ID].RetireAt.IsZero() || !got[other.ID].RetireAt.IsZero() {
			t.Errorf("retirement: %v", got)
		}
		third := key(signing.ES256, 3, now.Add(2*day))
		add(third, now.Add(5*day)) // a key retires earlier, never later
		if got := list(); !got[first.ID].RetireAt.Equal(now.Add(5*day)) || !got[second.ID].RetireAt.Equal(now.Add(5*day)) {
			t.Errorf("retirement: %v", got)
		}
		add(key(signing.ES256, 4, now.Add(5*day)), now.Add(9*day))
		if got := list(); len(got) != 3 {
			t.Errorf("what retired is still there: %v", got)
		}
		if got := events(t, db, w.project.ID); count(got, "key.created") != 2 || count(got, "key.rotated") != 3 {
			t.Errorf("events %v", got)
		}
	})
}

// A compromised key goes, and its successor comes, in one step or not at all.
func TestRemoveKey(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, stranger := newWorld(t, db, "auth.example.com"), newWorld(t, db, "other.example.com")
		key := func(generation int64) signing.Key {
			return signing.Key{
				ID: fmt.Sprint("key", generation), ProjectID: w.project.ID, Algorithm: signing.ES256, Generation: generation,
				Public: []byte("{}"), Private: []byte{1}, CreatedAt: now, NotBefore: now,
			}
		}
		ids := func() (all []string) {
			keys, err := db.Keys(t.Context(), w.project.ID)
			must(t, err)
			for _, k := range keys {
				all = append(all, k.ID)
			}
			return all
		}
		compromised := func() int { return count(events(t, db, w.project.ID), "key.compromised") }
		first, second, third := key(1), key(2), key(3)
		must(t, db.AddKey(t.Context(), first, time.Time{}, w.event(audit.KeyCreated)))
		must(t, db.AddKey(t.Context(), second, now.Add(day), w.event(audit.KeyRotated)))
		before := find(t, db, w.project.ID).Change

		if err := db.RemoveKey(t.Context(), stranger.project.ID, first.ID, nil, time.Time{}, stranger.event(audit.KeyCompromised)); !errors.Is(err, signing.ErrNotFound) {
			t.Errorf("of another project: %v", err)
		}
		if err := db.RemoveKey(t.Context(), w.project.ID, first.ID, &second, now, w.event(audit.KeyCompromised)); !errors.Is(err, signing.ErrConflict) {
			t.Errorf("with a successor of a generation that is there: %v", err)
		}
		if got := ids(); len(got) != 2 || compromised() != 0 || find(t, db, w.project.ID).Change != before {
			t.Errorf("a refusal left %v, %d events", got, compromised())
		}
		must(t, db.RemoveKey(t.Context(), w.project.ID, second.ID, &third, now.Add(day), w.event(audit.KeyCompromised)))
		if got := ids(); !slices.Equal(got, []string{first.ID, third.ID}) {
			t.Errorf("kept are %v", got)
		}
		must(t, db.RemoveKey(t.Context(), w.project.ID, first.ID, nil, time.Time{}, w.event(audit.KeyCompromised)))
		if got := ids(); !slices.Equal(got, []string{third.ID}) || compromised() != 2 || find(t, db, w.project.ID).Change != before+2 {
			t.Errorf("kept are %v, %d events", got, compromised())
		}
	})
}

// Many nodes make the first key at once: one does.
func TestOneFirstKey(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		var made atomic.Int64
		at(50, func(i int) {
			k := signing.Key{
				ID: fmt.Sprint("key", i), ProjectID: w.project.ID, Algorithm: signing.ES256, Generation: 1,
				Public: []byte("{}"), Private: []byte{1}, CreatedAt: now, NotBefore: now,
			}
			if err := db.AddKey(t.Context(), k, time.Time{}, w.event(audit.KeyCreated)); err == nil {
				made.Add(1)
			} else if !errors.Is(err, signing.ErrConflict) {
				t.Error(err)
			}
		})
		keys, err := db.Keys(t.Context(), w.project.ID)
		must(t, err)
		if made.Load() != 1 || len(keys) != 1 {
			t.Errorf("%d made, %d kept", made.Load(), len(keys))
		}
	})
}

// Rows: D18. What somebody saw of a resource server, before another changed, removed or gave
// it a new secret, undoes nothing of that; and a change brings no secret along.
func TestResourceChangedMeanwhile(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		setup := project.NewSetup(db, func() time.Time { return now })
		see := func() *project.Project {
			t.Helper()
			p, err := setup.Find(t.Context(), w.project.ID)
			must(t, err)
			return p
		}
		_, _, err := setup.AddResource(t.Context(), see(), project.Resource{URI: notes, Name: "Notes"}, nil, true)
		must(t, err)
		seen := see()
		old, _ := seen.Resource(notes)
		_, rotated, err := setup.RotateResourceSecret(t.Context(), see(), notes)
		must(t, err)
		stale := func() {
			t.Helper()
			if _, _, err := setup.AddResource(t.Context(), seen, old, nil, false); !errors.Is(err, project.ErrConflict) {
				t.Errorf("changed as it was: %v", err)
			}
			if _, _, err := setup.RotateResourceSecret(t.Context(), seen, notes); !errors.Is(err, project.ErrConflict) {
				t.Errorf("rotated as it was: %v", err)
			}
			if _, _, err := setup.MoveResource(t.Context(), seen, notes, "https://moved.example.com"); !errors.Is(err, project.ErrConflict) {
				t.Errorf("moved as it was: %v", err)
			}
		}
		stale()
		old.Name = "Renamed"
		_, _, err = setup.AddResource(t.Context(), see(), old, nil, false) // with the secret that it had
		must(t, err)
		if got, ok := see().Resource(notes); !ok || got.Name != "Renamed" || !rotated.Matches(got.SecretHash) || got.SecretID != rotated.ID {
			t.Errorf("the secret went back: %+v", got)
		}
		must(t, setup.RemoveResource(t.Context(), see(), notes))
		stale()
		if got, ok := see().Resource(notes); ok {
			t.Errorf("it is back: %+v", got)
		}
	})
}

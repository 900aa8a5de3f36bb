package store_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/store"
)

func sha(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func TestLogo(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w, other := newWorld(t, db, "auth.example.com"), newWorld(t, db, "other.example.com")
		is := func(projectID, digest, want string) {
			t.Helper()
			png, err := db.Logo(t.Context(), projectID, digest)
			if want == "" && !errors.Is(err, oauth.ErrNotFound) || want != "" && (err != nil || string(png) != want) {
				t.Errorf("%q, %v; want %q", png, err, want)
			}
		}
		save := func(name, logo string) oauth.Client {
			t.Helper()
			c := w.newClient(name)
			c.Creation, c.URL = oauth.Document, "https://"+name+".example.com/client.json"
			var png []byte
			if logo != "" {
				png = []byte(logo)
			}
			c, err := db.SaveDocumentClient(t.Context(), c, png, w.event(audit.ClientRegistered))
			must(t, err)
			return c
		}

		t.Run("of a client goes with its client, in its project", func(t *testing.T) {
			first := save("app", "one")
			if first.Logo != sha("one") {
				t.Errorf("digest %q", first.Logo)
			}
			is(w.project.ID, first.Logo, "one")
			is(other.project.ID, first.Logo, "")
			save("twin", "one") // the same picture
			save("app", "two")
			is(w.project.ID, sha("two"), "two")
			is(w.project.ID, sha("one"), "one") // of the twin
			if c := save("app", ""); c.Logo != "" {
				t.Errorf("digest %q", c.Logo)
			}
			is(w.project.ID, sha("two"), "")
			twin, err := db.ClientByURL(t.Context(), w.project.ID, "https://twin.example.com/client.json")
			must(t, err)
			must(t, db.DeleteClient(t.Context(), w.project.ID, twin.ID, w.event(audit.ClientDeleted)))
			is(w.project.ID, sha("one"), "")
		})

		t.Run("of a project is known with it, and a change of it", func(t *testing.T) {
			look := func() *project.Project {
				t.Helper()
				all, err := db.Projects(t.Context())
				must(t, err)
				for _, p := range all {
					if p.ID == w.project.ID {
						return p
					} else if p.Logo != "" {
						t.Error("another project has it")
					}
				}
				return nil
			}
			before := look()
			must(t, db.SaveLogo(t.Context(), w.project.ID, []byte("mine"), w.event(audit.ProjectChanged)))
			must(t, db.SaveLogo(t.Context(), w.project.ID, []byte("mine 2"), w.event(audit.ProjectChanged)))
			if now := look(); now.Logo != sha("mine 2") || now.Change != before.Change+2 {
				t.Errorf("logo %q, change %d after %d", now.Logo, now.Change, before.Change)
			}
			is(w.project.ID, sha("mine 2"), "mine 2")
			is(w.project.ID, sha("mine"), "")
			is(other.project.ID, sha("mine 2"), "")
			must(t, db.SaveLogo(t.Context(), w.project.ID, nil, w.event(audit.ProjectChanged)))
			if now := look(); now.Logo != "" {
				t.Errorf("logo %q", now.Logo)
			}
			is(w.project.ID, sha("mine 2"), "")
			if err := db.SaveLogo(t.Context(), "project-test-none", []byte("x"), w.event(audit.ProjectChanged)); !errors.Is(err, project.ErrNotFound) {
				t.Errorf("of no project: %v", err)
			}
		})
	})
}

// A copy that takes a document's place, or gives it back, is told even when both
// say the same.
func TestCopiedClient(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		c := w.newClient("copied")
		c.Creation, c.URL = oauth.Document, "https://app.example.com/client.json"
		for _, step := range []struct {
			copied bool
			kind   audit.Kind
			told   int
		}{{true, audit.ClientCopied, 1}, {true, audit.ClientCopied, 1}, {false, audit.ClientRegistered, 1}, {true, audit.ClientCopied, 2}} {
			if c.CopiedAt = now; !step.copied {
				c.CopiedAt = time.Time{}
			}
			got, err := db.SaveDocumentClient(t.Context(), c, nil, w.event(step.kind))
			must(t, err)
			if !got.CopiedAt.Equal(c.CopiedAt) {
				t.Errorf("copied %v, want %v", got.CopiedAt, c.CopiedAt)
			}
			if n := count(events(t, db, w.project.ID), string(step.kind)); n != step.told {
				t.Errorf("%s told %d times, want %d", step.kind, n, step.told)
			}
		}
	})
}

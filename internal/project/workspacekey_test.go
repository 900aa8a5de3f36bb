package project_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
)

func TestWorkspaceKeys(t *testing.T) {
	db, _ := data(t)
	now := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	keys := project.NewWorkspaceKeys(db, func() time.Time { return now })
	for name, bad := range map[string]string{"nothing": " ", "two lines": "a\nb", "much": strings.Repeat("a", 101), "no text": "a\xff", "a hidden turn": "a\u202eb"} {
		if _, _, err := keys.Create(t.Context(), project.NewKey{Name: bad}); err == nil {
			t.Errorf("a key named by %s", name)
		}
	}
	k, s, err := keys.Create(t.Context(), project.NewKey{Name: " CI "})
	if err != nil {
		t.Fatal(err)
	}
	if k.Name != "CI" || k.ID != "workspace-key-prod-"+s.ID || !strings.HasPrefix(s.Text, "pst_wk_") || !s.Matches(k.SecretHash) {
		t.Errorf("created %+v", k)
	}
	now = now.Add(time.Second)
	other, otherSecret, err := keys.Create(t.Context(), project.NewKey{Name: "CI"})
	if err != nil {
		t.Fatal(err)
	}

	check := func(id, text string) bool {
		t.Helper()
		got, err := keys.Check(t.Context(), id, text)
		if err != nil && !errors.Is(err, project.ErrNotFound) && !errors.Is(err, project.ErrKeyEnded) {
			t.Fatal(err)
		}
		return err == nil && got.ID == id
	}
	if !check(k.ID, s.Text) || !check(other.ID, otherSecret.Text) {
		t.Error("a key does not open")
	}
	never := secret.New(secret.WorkspaceKey, now)
	for name, pair := range map[string][2]string{
		"another's secret":  {k.ID, otherSecret.Text},
		"no id":             {"", s.Text},
		"no secret":         {k.ID, ""},
		"unknown":           {"workspace-key-prod-" + never.ID, never.Text},
		"another kind":      {k.ID, strings.Replace(s.Text, "pst_wk_", "pst_ps_", 1)},
		"something behind":  {k.ID, s.Text + " "},
		"id in upper case":  {strings.ToUpper(k.ID), s.Text},
		"id without prefix": {s.ID, s.Text},
	} {
		if check(pair[0], pair[1]) {
			t.Errorf("%s opens", name)
		}
	}

	// A use is noted once a minute.
	used := func() time.Time {
		t.Helper()
		one, err := db.WorkspaceKey(t.Context(), k.ID)
		if err != nil {
			t.Fatal(err)
		}
		return one.LastUsedAt
	}
	first := now
	now = now.Add(59 * time.Second)
	if check(k.ID, s.Text); !used().Equal(first) {
		t.Errorf("last used %s", used())
	}
	now = now.Add(time.Second)
	if check(k.ID, s.Text); !used().Equal(now) {
		t.Errorf("last used %s", used())
	}

	if err := keys.Revoke(t.Context(), k.ID); err != nil {
		t.Fatal(err)
	}
	if err := keys.Revoke(t.Context(), k.ID); !errors.Is(err, project.ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
	if check(k.ID, s.Text) || !check(other.ID, otherSecret.Text) {
		t.Error("not the revoked key is closed, or not it alone")
	}
	if all, err := keys.All(t.Context()); err != nil || len(all) != 2 || all[0].RevokedAt.IsZero() || !all[1].RevokedAt.IsZero() {
		t.Errorf("%+v, %v", all, err)
	}
}

// Row: D04. A key ends at its moment and not before; a time that is none, too
// short or too long makes no key.
func TestWorkspaceKeysEnd(t *testing.T) {
	db, _ := data(t)
	start := time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC)
	now := start
	keys := project.NewWorkspaceKeys(db, func() time.Time { return now })
	for _, bad := range []string{"90", "90 days", "0s", "59s", "-1h", "3651d", "1.5s", "99999999d", "never"} {
		if _, _, err := keys.Create(t.Context(), project.NewKey{Name: "CI", Lifetime: bad}); err == nil || !strings.Contains(err.Error(), "from 1m to 3650d") {
			t.Errorf("a key that ends after %s: %v", bad, err)
		}
	}
	for text, want := range map[string]time.Duration{"1m": time.Minute, " 90d ": 90 * 24 * time.Hour, "3650d": 3650 * 24 * time.Hour, "": 0} {
		now = start
		k, s, err := keys.Create(t.Context(), project.NewKey{Name: "CI", ReadOnly: true, Lifetime: text})
		if err != nil || !k.ReadOnly || k.MadeBy != "operator" || want == 0 && !k.ExpiresAt.IsZero() || want > 0 && !k.ExpiresAt.Equal(start.Add(want)) {
			t.Fatalf("%q: %+v, %v", text, k, err)
		}
		if want == 0 {
			now = start.AddDate(100, 0, 0)
			if kept, err := keys.Check(t.Context(), k.ID, s.Text); err != nil || !kept.ReadOnly {
				t.Errorf("a key without an end: %v", err)
			}
			continue
		}
		now = k.ExpiresAt.Add(-time.Microsecond)
		if kept, err := keys.Check(t.Context(), k.ID, s.Text); err != nil || !kept.ReadOnly {
			t.Errorf("%q: before its end: %v", text, err)
		}
		now = k.ExpiresAt
		if kept, err := keys.Check(t.Context(), k.ID, s.Text); !errors.Is(err, project.ErrKeyEnded) || kept.State(now) != project.KeyEnded {
			t.Errorf("%q: at its end: %v", text, err)
		}
		if err := keys.Revoke(t.Context(), k.ID); !errors.Is(err, project.ErrNotFound) {
			t.Errorf("%q: revoked after its end: %v", text, err)
		}
	}
}

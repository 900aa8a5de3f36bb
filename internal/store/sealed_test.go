package store_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
)

// Of every column of bytes somebody decided whether the master key seals it.
func TestSealedColumnsAreKnown(t *testing.T) {
	t.Parallel()
	why := map[string]string{
		"master_key_check.value": "sealed; ReplaceMasterKey moves it last",

		"family.replay":    "sealed under the old refresh token, not the master key",
		"email_code.mac":   "under a key derived from the master key; it lives for ten minutes, and is asked for again",
		"counter.key_hash": "a hash", "grant_scope.consent_hash": "a hash", "client.metadata_hash": "a hash",
		"workspace_key.secret_hash": "a hash", "administrator_session.secret_hash": "a hash", "administrator_link.secret_hash": "a hash",
		"administrator_ceremony.secret_hash": "a hash", "project.secret_hash": "a hash", "resource_server.secret_hash": "a hash",
		"browser.secret_hash": "a hash", "session.secret_hash": "a hash", "flow.browser_hash": "a hash", "sso_attempt.hash": "a hash",
		"client.secret_hash": "a hash", "client.rat_hash": "a hash", "client_assertion.jti_hash": "a hash", "code.hash": "a hash", "family.series_hash": "a hash", "family.refresh_hash": "a hash", "family.previous_hash": "a hash",
		"flow.request":    "what a client asked, in clear",
		"client_logo.png": "a picture", "organization_logo.png": "a picture", "project_logo.png": "a picture",
		"signing_key.public_key": "public", "event_seal.marks": "digests",
	}
	for _, c := range store.SealedColumns() {
		why[string(c)] = "sealed"
	}
	found := 0
	for table, columns := range tables(t) {
		for _, m := range regexp.MustCompile(`(?m)^\s*(\w+)\s+BYTEA\b`).FindAllStringSubmatch(columns, -1) {
			found++
			name := table + "." + m[1]
			if why[name] == "" {
				t.Errorf("is %s sealed under the master key? Then add it to SealedColumns; else say here why not.", name)
			}
			delete(why, name)
		}
	}
	if found < 20 || len(why) > 0 {
		t.Errorf("%d columns were found, and these are none: %v", found, why)
	}
}

// Each column is read from end to end, and a value is replaced only while it is
// as it was read.
func TestReseal(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		db, raw := open(t, c), openRaw(t, c)
		w, second := newWorld(t, db, "auth.example.com"), newWorld(t, db, "second.example.com")
		for n := range 3 {
			for _, one := range []*world{w, second} {
				key := signing.Key{ID: fmt.Sprint("key", n), ProjectID: one.project.ID, Algorithm: signing.ES256, Generation: int64(n + 1), Public: []byte("{}"), Private: []byte("old"), CreatedAt: now}
				must(t, db.AddKey(t.Context(), key, now.Add(day), one.event(audit.KeyCreated)))
				one.connection(one.organization(fmt.Sprint("o", n), nil), true)
				must(t, db.CreateSeal(t.Context(), audit.Seal{ProjectID: one.project.ID, Number: int64(n + 1), At: now, Marks: []byte{1}, Proof: []byte("old")}))
			}
			must(t, db.CreateSeal(t.Context(), audit.Seal{Number: int64(n + 1), At: now, Marks: []byte{1}, Proof: []byte("old")}))
			must(t, db.KeepCeremony(t.Context(), fmt.Sprint("c", n), []byte{1}, []byte("old"), now))
			_, err := raw.Exec(fmt.Sprintf(`INSERT INTO administrator (id, email, email_folded, password_hash, totp_secret, totp_step, created_at, last_sign_in_at, removed_at)
				VALUES ('a%d', 'a%d', 'a%d', '', $1, 0, 0, 0, 0)`, n, n, n), []byte("old"))
			must(t, err)
		}
		counts := map[store.SealedColumn]int{store.SealedSigningKey: 6, store.SealedConnection: 6, store.SealedProof: 9, store.SealedCeremony: 3, store.SealedAdministrator: 3}
		for _, column := range store.SealedColumns() {
			var all []store.Resealed
			var after store.SealedValue
			for {
				batch, err := db.SealedValues(t.Context(), column, after, 2)
				must(t, err)
				if len(batch) == 0 {
					break
				}
				for _, v := range batch {
					all = append(all, store.Resealed{SealedValue: v, Sealed: []byte("new")})
				}
				after = batch[len(batch)-1]
			}
			if len(all) != counts[column] {
				t.Errorf("%s: %d values, want %d", column, len(all), counts[column])
			}
			stale := slices.Clone(all[1:])
			stale[0].Value = []byte("what it was before")
			if n, err := db.Reseal(t.Context(), column, stale); err != nil || n != len(stale)-1 {
				t.Errorf("%s: %d of %d replaced, %v", column, n, len(stale), err)
			}
			table, name, _ := strings.Cut(string(column), ".")
			fresh := rows(t, db, fmt.Sprintf("SELECT count(*) FROM %s WHERE %s = $1", table, name), []byte("new"))[0]
			if fresh != fmt.Sprint(len(stale)-1) {
				t.Errorf("%s: %s are new", column, fresh)
			}
		}
	})
}

func TestReplaceMasterKey(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		kept, err := db.KeepMasterKeyCheck(t.Context(), []byte("old"))
		must(t, err)
		e := audit.Event{At: now, Kind: audit.MasterKeyReplaced}
		if done, err := db.ReplaceMasterKey(t.Context(), []byte("another"), []byte("new"), e); done || err != nil {
			t.Errorf("over another key's: %v, %v", done, err)
		}
		if done, err := db.ReplaceMasterKey(t.Context(), kept, []byte("new"), e); !done || err != nil {
			t.Errorf("%v, %v", done, err)
		}
		if now, err := db.MasterKeyCheck(t.Context()); err != nil || string(now) != "new" {
			t.Errorf("%q, %v", now, err)
		}
		if got := events(t, db, ""); !slices.Equal(got, []string{string(audit.MasterKeyReplaced)}) {
			t.Errorf("%q", got)
		}
	})
}

package server_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
)

// sealedData is a database with values in every sealed column.
func sealedData(t *testing.T, data server.Data) (*server.Storage, *project.Project) {
	t.Helper()
	ctx, now := t.Context(), time.Now()
	if err := opened(t, data).Close(); err != nil { // it is migrated now
		t.Fatal(err)
	}
	s := beside(t, data)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	p, _, err := project.NewSetup(s.DB, time.Now).Create(ctx, project.New{Name: "Notes", Issuer: "http://localhost:4000", Vertical: project.B2B})
	check(err)
	keys, err := signing.New(signing.Config{Store: s.DB, Sealer: s.Sealer, Now: time.Now, MaxTokenLife: time.Hour})
	check(err)
	check(keys.Ensure(ctx, p.ID, signing.ES256))
	e := audit.Event{ProjectID: p.ID, At: now, Kind: audit.SSOCreated}
	o := identity.Organization{ID: secret.NewID(now, "organization", "test"), ProjectID: p.ID, Name: "Fennel", Slug: "fennel", Active: true, CreatedAt: now, UpdatedAt: now}
	check(s.DB.CreateOrganization(ctx, o, e))
	c := identity.Connection{ID: "connection", ProjectID: p.ID, OrganizationID: o.ID, Issuer: "https://login.example.com", ClientID: "postern", CreatedAt: now, UpdatedAt: now}
	c.SealedSecret = s.Sealer.Seal([]byte("client secret"), signing.Place{Table: "sso_connection", Row: c.ID, Column: "client_secret"})
	check(s.DB.CreateConnection(ctx, c, e))

	link, err := identity.NewAdministrators(s.DB, time.Now).FirstLink(ctx)
	check(err)
	of := func(row string) signing.Place {
		return signing.Place{Table: "administrator", Row: row, Column: "secret"}
	}
	who := identity.Administrator{ID: "administrator", Email: "edda@example.test", CreatedAt: now}
	cookie := secret.New(secret.AdminSession, now)
	check(s.DB.AcceptAdministratorLink(ctx, link.ID, who,
		identity.Proof{Password: &identity.Password{Hash: "x", TOTPSecret: s.Sealer.Seal([]byte("TOTP"), of(who.ID)), TOTPStep: 1}},
		identity.AdministratorSession{ID: cookie.ID, AdministratorID: who.ID, SecretHash: cookie.Hash[:], CreatedAt: now, IdleExpiresAt: now.Add(time.Hour), ExpiresAt: now.Add(time.Hour)},
		audit.Event{At: now, Kind: audit.AdministratorCreated}))
	check(s.DB.KeepCeremony(ctx, "ceremony", []byte{1}, s.Sealer.Seal([]byte("state"), of("ceremony")), now.Add(time.Hour)))
	for _, trail := range []string{"", p.ID} {
		check(s.Seals(func() time.Time { return now.Add(time.Hour) }).Add(ctx, trail))
	}
	for _, column := range store.SealedColumns() {
		if all, err := s.DB.SealedValues(ctx, column, store.SealedValue{}, 10); err != nil || len(all) == 0 {
			t.Fatalf("%s: %d values, %v", column, len(all), err)
		}
	}
	return s, p
}

// beside opens data as several programs at once do.
func beside(t *testing.T, data server.Data) *server.Storage {
	t.Helper()
	s, err := data.Open(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// eachKeyed runs a test on both databases, with data whose master key is given.
func eachKeyed(t *testing.T, test func(t *testing.T, data server.Data)) {
	t.Helper()
	each(t, func(t *testing.T, data server.Data) {
		data.MasterKey = servertest.NewMasterKey()
		test(t, data)
	})
}

func silent(int) error { return nil }

// opens reports whether every value opens under the data's master key alone.
func opens(t *testing.T, data server.Data) error {
	t.Helper()
	data.OldMasterKey = servertest.NewMasterKey() // which sealed nothing
	r, err := data.Rewrap(t.Context(), silent)
	switch {
	case err != nil:
		return err
	case r.Moved != 0 || len(r.Damaged)+len(r.Foreign) > 0:
		return fmt.Errorf("%+v", r)
	}
	return nil
}

// Killed after any batch, the work is begun again where it was; meanwhile both
// keys together open everything, and the new one alone is refused.
func TestRewrapGoesOnWhereItWasKilled(t *testing.T) {
	eachKeyed(t, func(t *testing.T, old server.Data) {
		sealedData(t, old)
		both := old
		both.MasterKey, both.OldMasterKey = servertest.NewMasterKey(), old.MasterKey
		fresh := old
		fresh.MasterKey = both.MasterKey
		killed := errors.New("killed")
		kills := 0
		for {
			if _, err := fresh.Open(t.Context(), false); !errors.Is(err, signing.ErrWrongMasterKey) {
				t.Fatalf("after %d kills, the new key alone: %v", kills, err)
			}
			beside(t, both)
			_, err := both.Rewrap(t.Context(), func(int) error { return killed })
			if err == nil {
				break
			}
			if kills++; !errors.Is(err, killed) || kills > 20 {
				t.Fatalf("after %d kills: %v", kills, err)
			}
		}
		if kills != len(store.SealedColumns()) {
			t.Errorf("killed %d times, there are %d columns", kills, len(store.SealedColumns()))
		}
		if err := opens(t, fresh); err != nil {
			t.Errorf("under the new key alone: %v", err)
		}
		if _, err := old.Open(t.Context(), false); !errors.Is(err, signing.ErrWrongMasterKey) {
			t.Errorf("the old key alone: %v", err)
		}
		if r, err := both.Rewrap(t.Context(), silent); err != nil || r.Moved != 0 || !r.Done() {
			t.Errorf("once more: %+v, %v", r, err)
		}
		s := beside(t, fresh)
		if v, err := s.Seals(func() time.Time { return time.Now().Add(2 * time.Hour) }).Verify(t.Context(), "", ""); err != nil || v.Wrong != 0 || v.Seals != 1 {
			t.Errorf("the trail: %+v, %v", v, err)
		}
		page, err := s.DB.Events(t.Context(), audit.Query{Kinds: []audit.Kind{audit.MasterKeyReplaced}, Limit: 10})
		if err != nil || len(page.Events) != 1 {
			t.Errorf("events: %+v, %v", page.Events, err)
		}
	})
}

// A server with both keys rotates its keys meanwhile: nothing of that is lost.
func TestRewrapBesideAServer(t *testing.T) {
	eachKeyed(t, func(t *testing.T, old server.Data) {
		_, p := sealedData(t, old)
		both := old
		both.MasterKey, both.OldMasterKey = servertest.NewMasterKey(), old.MasterKey
		running := beside(t, both)
		keys, err := signing.New(signing.Config{Store: running.DB, Sealer: running.Sealer, Now: time.Now, MaxTokenLife: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		rotated := 0
		rotate := func(int) error {
			rotated++
			_, err := keys.Rotate(t.Context(), audit.Origin{}, p.ID, signing.ES256, 0)
			return err
		}
		if r, err := both.Rewrap(t.Context(), rotate); err != nil || !r.Done() || rotated == 0 {
			t.Fatalf("%+v, %v, %d rotations", r, err, rotated)
		}
		fresh := old
		fresh.MasterKey = both.MasterKey
		if err := opens(t, fresh); err != nil {
			t.Error(err)
		}
		if all, err := running.DB.Keys(t.Context(), p.ID); err != nil || len(all) != 1+rotated {
			t.Errorf("%d keys after %d rotations, %v", len(all), rotated, err)
		}
	})
}

// A server that knows the old key alone should not run then; what it still
// sealed while the work went on is moved all the same.
func TestRewrapMovesWhatComesMeanwhile(t *testing.T) {
	eachKeyed(t, func(t *testing.T, old server.Data) {
		s, p := sealedData(t, old)
		both := old
		both.MasterKey, both.OldMasterKey = servertest.NewMasterKey(), old.MasterKey
		added := false
		r, err := both.Rewrap(t.Context(), func(int) error {
			if added {
				return nil
			}
			added = true
			late := signing.Key{ID: "late", ProjectID: p.ID, Algorithm: signing.ES256, Generation: 2, Public: []byte("{}"), CreatedAt: time.Now(), NotBefore: time.Now()}
			late.Private = s.Sealer.Seal([]byte("private"), signing.PrivatePlace(late.ID))
			return s.DB.AddKey(t.Context(), late, time.Now().Add(time.Hour), audit.Event{ProjectID: p.ID, At: time.Now(), Kind: audit.KeyRotated})
		})
		if err != nil || !added || !r.Done() {
			t.Fatalf("%+v, %v", r, err)
		}
		fresh := old
		fresh.MasterKey = both.MasterKey
		if err := opens(t, fresh); err != nil {
			t.Error(err)
		}
	})
}

// What no key opens is told and holds nothing up; what a third key sealed is
// told, and the old key stays needed.
func TestRewrapTellsWhatItCannotOpen(t *testing.T) {
	eachKeyed(t, func(t *testing.T, old server.Data) {
		s, _ := sealedData(t, old)
		spoil := func(column store.SealedColumn, with func([]byte) []byte) {
			t.Helper()
			all, err := s.DB.SealedValues(t.Context(), column, store.SealedValue{}, 1)
			if err == nil {
				_, err = s.DB.Reseal(t.Context(), column, []store.Resealed{{SealedValue: all[0], Sealed: with(all[0].Value)}})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		spoil(store.SealedProof, func(v []byte) []byte {
			spoiled := append([]byte{}, v...)
			spoiled[len(spoiled)-1] ^= 1
			return spoiled
		})
		kept := []byte{}
		spoil(store.SealedConnection, func(v []byte) []byte { kept = v; return append([]byte{1}, []byte("another key's secret")...) })
		both := old
		both.MasterKey, both.OldMasterKey = servertest.NewMasterKey(), old.MasterKey
		r, err := both.Rewrap(t.Context(), silent)
		if err != nil || r.Done() || len(r.Damaged) != 1 || len(r.Foreign) != 1 ||
			!strings.HasPrefix(r.Damaged[0], "event_seal.proof") || r.Foreign[0] != "sso_connection.client_secret of connection" {
			t.Errorf("%+v, %v", r, err)
		}
		beside(t, old) // which is still needed
		spoil(store.SealedConnection, func([]byte) []byte { return kept })
		if r, err := both.Rewrap(t.Context(), silent); err != nil || !r.Done() || r.Moved != 1 || len(r.Damaged) != 1 {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestRewrapNeedsTwoKeys(t *testing.T) {
	data := server.Data{Folder: t.TempDir(), MasterKey: servertest.NewMasterKey(), Now: time.Now}
	sealedData(t, data)
	if _, err := data.Rewrap(t.Context(), silent); err == nil {
		t.Error("without an old key")
	}
	data.OldMasterKey = data.MasterKey
	if _, err := data.Rewrap(t.Context(), silent); err == nil {
		t.Error("with one key twice")
	}
	data.MasterKey, data.OldMasterKey = servertest.NewMasterKey(), servertest.NewMasterKey()
	if _, err := data.Rewrap(t.Context(), silent); !errors.Is(err, signing.ErrWrongMasterKey) {
		t.Errorf("with two others: %v", err)
	}
}

package server_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/server"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/store"
)

// What stands in decision 31 about the master key.
func TestMasterKey(t *testing.T) {
	open := func(t *testing.T, d server.Data) (*server.Storage, error) {
		t.Helper()
		d.Now = time.Now
		s, err := d.Open(t.Context(), true)
		if err == nil {
			t.Cleanup(func() { s.Close() })
		}
		return s, err
	}
	t.Run("is made with a new database, for its owner alone, and told of once", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "data")
		s, err := open(t, server.Data{Folder: dir})
		if err != nil {
			t.Fatal(err)
		}
		if s.NewKey != filepath.Join(dir, "master.key") {
			t.Errorf("told of %q", s.NewKey)
		}
		for _, path := range []string{s.NewKey, filepath.Join(dir, "postern.db")} {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: mode %v, %v", path, info.Mode(), err)
			}
		}
		s.Close()
		if s, err = open(t, server.Data{Folder: dir}); err != nil || s.NewKey != "" {
			t.Errorf("the second start: told of %q, %v", s.NewKey, err)
		}
	})
	t.Run("a database without its key is refused", func(t *testing.T) {
		dir := t.TempDir()
		s, err := open(t, server.Data{Folder: dir})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if err := os.Remove(filepath.Join(dir, "master.key")); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, server.Data{Folder: dir}); err == nil || !strings.Contains(err.Error(), "master.key") {
			t.Errorf("got %v", err)
		}
		if _, err := os.Stat(filepath.Join(dir, "master.key")); err == nil {
			t.Error("a new key was made for an old database")
		}
	})
	t.Run("a wrong key is refused", func(t *testing.T) {
		dir := t.TempDir()
		s, err := open(t, server.Data{Folder: dir, MasterKey: servertest.NewMasterKey()})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if _, err := open(t, server.Data{Folder: dir, MasterKey: servertest.NewMasterKey()}); err == nil {
			t.Error("another key was taken")
		}
	})
	t.Run("a key that others may read is refused", func(t *testing.T) {
		dir := t.TempDir()
		s, err := open(t, server.Data{Folder: dir})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if err := os.Chmod(filepath.Join(dir, "master.key"), 0o644); err != nil {
			t.Fatal(err)
		}
		d := server.Data{Folder: dir, Now: time.Now}
		if err := d.CheckMasterKey(); err == nil {
			t.Error("the check found nothing")
		}
		if _, err := open(t, d); err == nil {
			t.Error("it was taken")
		}
	})
	t.Run("PostgreSQL needs one that is given", func(t *testing.T) {
		if _, err := open(t, server.Data{Folder: t.TempDir(), Database: servertest.NewDatabase(t)}); err == nil || !strings.Contains(err.Error(), "POSTERN_MASTER_KEY") {
			t.Errorf("got %v", err)
		}
	})
}

func TestOneServerPerSQLiteDatabase(t *testing.T) {
	d := server.Data{Folder: t.TempDir(), Now: time.Now}
	first, err := d.Open(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	_, err = d.Open(t.Context(), true)
	var locked *store.Locked
	if !errors.As(err, &locked) || locked.PID != os.Getpid() {
		t.Errorf("got %v, want the pid of this process", err)
	}
	beside, err := d.OpenBeside(t.Context())
	if err != nil {
		t.Fatalf("a command beside the server: %v", err)
	}
	beside.Close()
}

func TestBesideCreatesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	if _, err := (server.Data{Folder: dir, Now: time.Now}).OpenBeside(t.Context()); !errors.Is(err, server.ErrNoData) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder was made")
	}
}

// A running server vouches for the events of the deployment and of each project.
func TestServerSealsTheTrail(t *testing.T) {
	each(t, func(t *testing.T, data server.Data) {
		storage := opened(t, data)
		made, _, err := project.NewSetup(storage.DB, time.Now).Create(t.Context(), project.New{Name: "Notes", Issuer: "http://localhost:4000"})
		if err != nil {
			t.Fatal(err)
		}
		e := audit.Origin{Actor: audit.Operator}.Event("", time.Now(), audit.WorkspaceKeyCreated, "key")
		if err := storage.DB.Record(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		later := func() time.Time { return time.Now().Add(2 * time.Minute) }
		c := config(storage)
		c.Now = later
		s, err := server.Open(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		listeners, err := server.Listen("127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx, listeners) }()
		for _, trail := range []string{"", made.ID} {
			soon(t, 10*time.Second, "sealed", func() bool {
				v, err := storage.Seals(later).Verify(t.Context(), trail, "")
				return err == nil && v.Wrong == 0 && v.Events > 0 && v.Seals == 1
			})
		}
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

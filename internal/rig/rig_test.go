package rig_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/rig"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// An honest actor gets through all that the rig can play, on both databases, and
// what was said yes to is there after a kill.
func TestActor(t *testing.T) {
	binary, err := rig.Build(t.Context(), filepath.Join("..", ".."), t.TempDir())
	must(t, err)
	t.Run("sqlite", func(t *testing.T) { play(t, rig.Config{Binary: binary}) })
	t.Run("postgres", func(t *testing.T) {
		postgres := os.Getenv("POSTERN_TEST_POSTGRES")
		if postgres == "" {
			t.Skip("POSTERN_TEST_POSTGRES names no server: make test starts one")
		}
		play(t, rig.Config{Binary: binary, Postgres: postgres, Env: []string{"POSTERN_DATABASE_CONNECTIONS=1"}})
	})
}

func play(t *testing.T, c rig.Config) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c.Folder = t.TempDir()
	s, err := rig.New(ctx, c)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close(context.WithoutCancel(ctx))) })
	must(t, s.Start(ctx))
	for _, resource := range []string{rig.Notes, rig.Legacy} {
		a := s.Actor()
		defer a.Close()
		a.Resource = resource
		first, err := a.Connect(ctx)
		must(t, err)
		second, err := a.Refresh(ctx, first.Refresh)
		must(t, err)
		must(t, s.Restart(ctx))
		a.Close() // connections of the one that was killed
		third, err := a.Refresh(ctx, second.Refresh)
		must(t, err)
		active(t, a, third.Access, true)
		must(t, a.Revoke(ctx, third.Refresh))
		active(t, a, third.Access, false)
		var no *rig.Refused
		if _, err := a.Refresh(ctx, third.Refresh); !errors.As(err, &no) || no.Code != "invalid_grant" {
			t.Errorf("the revoked refresh token: %v", err)
		}

		code, err := a.Authorize(ctx) // the browser is signed in
		must(t, err)
		again, err := a.Redeem(ctx, code)
		must(t, err)
		must(t, a.TakeBack(ctx))
		active(t, a, again.Access, false)
	}
	used, err := s.Usage()
	must(t, err)
	resident, most, err := s.Memory()
	must(t, err)
	if used.Server <= 0 || used.Written <= 0 || resident <= 0 || most < resident {
		t.Errorf("used %+v, resident %d of %d at most", used, resident, most)
	}
	if s.Postgres() == "" {
		return
	}
	if used.Backends <= 0 {
		t.Errorf("used %+v: PostgreSQL has done something", used)
	}
	db, err := s.DB()
	must(t, err)
	open := 0
	must(t, db.QueryRowContext(ctx, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'postern'").Scan(&open))
	if open != 2 { // the pool of one, and the one that listens for changes
		t.Errorf("the server has %d connections", open)
	}
	beside, err := s.Beside(ctx)
	must(t, err)
	t.Cleanup(func() { must(t, beside.Close(context.WithoutCancel(ctx))) })
	must(t, beside.Start(ctx))
	a := s.Actor()
	defer a.Close()
	tokens, err := a.Connect(ctx)
	must(t, err)
	a.At(beside)
	active(t, a, tokens.Access, true)
}

func active(t *testing.T, a *rig.Actor, token string, want bool) {
	t.Helper()
	got, err := a.Introspect(t.Context(), token)
	must(t, err)
	if got != want {
		t.Errorf("active is %v, want %v", got, want)
	}
}

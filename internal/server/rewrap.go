package server

import (
	"context"
	"errors"
	"fmt"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
)

// Rewrapped is what Rewrap did.
type Rewrapped struct {
	Moved   int      // values that were sealed anew
	Damaged []string // where values are that no key opens; they stay as they are
	Foreign []string // where values are that a third key sealed
}

// Done reports whether everything that can be opened is sealed under the new
// key.
func (r Rewrapped) Done() bool { return len(r.Foreign) == 0 }

var (
	errNoOldKey = errors.New("the old master key is not named: set old_master_key_file")
	errSameKey  = errors.New("the old master key and the new one are the same")
)

// rewrapBatch bounds how long others wait behind one transaction.
const rewrapBatch = 200

// Rewrap seals everything under the master key that was sealed under the old
// one, a batch at a time; told hears of each, and an error of it ends the work.
// It may be ended or killed at any moment and run again, and a server that has
// both keys may run meanwhile.
func (d Data) Rewrap(ctx context.Context, told func(moved int) error) (Rewrapped, error) {
	if d.OldMasterKey == "" && d.OldMasterKeyFile == "" {
		return Rewrapped{}, errNoOldKey
	}
	keys, err := d.masterKeys()
	if err != nil {
		return Rewrapped{}, err
	}
	if keys[0] == keys[1] {
		return Rewrapped{}, errSameKey
	}
	db, err := d.OpenBeside(ctx)
	if err != nil {
		return Rewrapped{}, err
	}
	defer db.Close()
	s := &Storage{DB: db}
	if s.Sealer, err = signing.NewSealer(keys...); err != nil {
		return Rewrapped{}, err
	}
	if err := s.proveKey(ctx); err != nil {
		return Rewrapped{}, err
	}
	return s.rewrap(ctx, audit.Origin{Actor: audit.Operator}.Event("", d.Now(), audit.MasterKeyReplaced, ""), told)
}

// rewrap moves what the database says its key is last: a server with the new
// key alone is refused before, and with the old one alone afterwards.
func (s *Storage) rewrap(ctx context.Context, e audit.Event, told func(moved int) error) (Rewrapped, error) {
	var done Rewrapped
	for {
		r, err := s.pass(ctx, &done, told)
		if err != nil {
			return done, err
		}
		if done.Damaged, done.Foreign = r.Damaged, r.Foreign; r.Moved == 0 {
			break // and nothing was left to move
		}
	}
	if !done.Done() {
		return done, nil
	}
	check, err := s.DB.MasterKeyCheck(ctx)
	if err != nil {
		return done, err
	}
	sealed, err := s.Sealer.RewrapCheck(check)
	if err != nil || sealed == nil {
		return done, err
	}
	_, err = s.DB.ReplaceMasterKey(ctx, check, sealed, e)
	return done, err
}

// pass goes through every sealed column once and returns what it found.
func (s *Storage) pass(ctx context.Context, total *Rewrapped, told func(int) error) (Rewrapped, error) {
	var r Rewrapped
	for _, column := range store.SealedColumns() {
		var after store.SealedValue
		for {
			values, err := s.DB.SealedValues(ctx, column, after, rewrapBatch)
			if err != nil {
				return r, err
			}
			if len(values) == 0 {
				break
			}
			after = values[len(values)-1]
			if err := s.batch(ctx, column, values, &r); err != nil {
				return r, err
			}
			if r.Moved > 0 {
				if err := told(total.Moved + r.Moved); err != nil {
					return r, err
				}
			}
		}
	}
	total.Moved += r.Moved
	return r, nil
}

func (s *Storage) batch(ctx context.Context, column store.SealedColumn, values []store.SealedValue, r *Rewrapped) error {
	var all []store.Resealed
	for _, v := range values {
		if len(v.Value) == 0 { // an administrator without a password
			continue
		}
		at := placeOf(column, v)
		sealed, err := s.Sealer.Rewrap(v.Value, at)
		switch {
		case errors.Is(err, signing.ErrOtherKey):
			r.Foreign = append(r.Foreign, fmt.Sprintf("%s of %s", column, at.Row))
		case err != nil:
			r.Damaged = append(r.Damaged, fmt.Sprintf("%s of %s", column, at.Row))
		case sealed != nil:
			all = append(all, store.Resealed{SealedValue: v, Sealed: sealed})
		}
	}
	n, err := s.DB.Reseal(ctx, column, all)
	r.Moved += n
	return err
}

// placeOf is what a value of a column was sealed for.
func placeOf(column store.SealedColumn, v store.SealedValue) signing.Place {
	switch column {
	case store.SealedSigningKey:
		return signing.PrivatePlace(v.ID)
	case store.SealedConnection:
		return ssoSecret(v.ID)
	case store.SealedProof:
		return sealProof(audit.Seal{ProjectID: v.ProjectID, Number: v.Number}.Row())
	default: // of administrators
		return adminSecret(v.ID)
	}
}

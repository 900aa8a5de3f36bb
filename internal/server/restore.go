package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
)

// ErrDataThere: what would be restored here would replace a database.
var ErrDataThere = errors.New("server: there is a database already")

// Backup writes a copy of the SQLite database into a new file, beside a server
// that may be running; see store.DB.Backup. The master key is not in it. It
// changes nothing, so it leaves no event. Data of development is not for
// keeping: store.ErrPurpose.
func (d Data) Backup(ctx context.Context, file string) error {
	if d.Database != "" {
		return store.ErrNoFile
	}
	if !d.Exists() {
		return ErrNoData
	}
	db, err := store.Open(ctx, store.Config{Path: d.Path(), ReadOnly: true, Now: d.Now})
	if err != nil {
		return err
	}
	defer db.Close()
	version, _, err := db.SchemaVersion(ctx)
	if err != nil {
		return err
	}
	if version == 0 {
		return ErrNoData
	}
	purpose, err := db.Purpose(ctx)
	if err != nil {
		return err
	}
	if purpose == store.Development {
		return store.ErrPurpose
	}
	return db.Backup(ctx, file)
}

// Restored is what a restore did.
type Restored struct {
	store.Ended
	Until time.Time // when the newest event in the database happened: what came later is lost
	Aside string    // file of the database that was there before, "" for none
}

// Restore makes a copy the SQLite database. Before anything changes, the copy
// is checked from end to end, migrated if it is older, and opened with the
// master key; what it holds that may have been used since ends in it. So
// whatever is in place is safe to serve, also when a restore is killed. replace
// sets a database that is there aside; without it that is ErrDataThere. Errors
// besides those of store.Stage: store.ErrPurpose for a copy of development.
func (d Data) Restore(ctx context.Context, file string, replace bool) (Restored, error) {
	if d.Database != "" {
		return Restored{}, store.ErrNoFile
	}
	if d.Exists() && !replace {
		return Restored{}, ErrDataThere
	}
	if err := d.makeFolder(); err != nil {
		return Restored{}, err
	}
	staged, err := store.Stage(ctx, file, d.Path(), d.Now)
	if err != nil {
		return Restored{}, err
	}
	done, err := d.renew(ctx, staged.DB)
	if err != nil {
		return Restored{}, errors.Join(err, staged.Discard())
	}
	done.Aside, err = staged.PutInPlace(ctx)
	return done, err
}

// Restarted ends what may have been used or revoked since, in a database that
// was put in place by other means: by PostgreSQL's tools, or a standby that was
// behind when it was promoted. On SQLite no server may run.
func (d Data) Restarted(ctx context.Context) (Restored, error) {
	if !d.Exists() {
		return Restored{}, ErrNoData
	}
	db, err := d.connect(ctx, true)
	if err != nil {
		return Restored{}, err
	}
	if err = db.LockServer(); err == nil && db.SQLite() {
		err = db.Migrate(ctx)
	}
	var done Restored
	if err == nil {
		done, err = d.renew(ctx, db)
	}
	if err := errors.Join(err, db.Close()); err != nil || d.Database != "" {
		return done, err
	}
	return done, store.Adopt(ctx, d.Path())
}

// renew proves that a database is whole and ours, and begins its epoch.
func (d Data) renew(ctx context.Context, db *store.DB) (Restored, error) {
	var done Restored
	if err := db.CheckSchema(ctx); err != nil {
		return done, err
	}
	purpose, err := db.Purpose(ctx)
	if err != nil {
		return done, err
	}
	if purpose == store.Development {
		return done, store.ErrPurpose
	}
	sealer, err := d.sealer()
	if errors.Is(err, fs.ErrNotExist) {
		return done, fmt.Errorf("the master key is not there: bring %s back from where it was kept; no copy of a database has it", d.keyFile())
	}
	if err != nil {
		return done, err
	}
	check, err := db.MasterKeyCheck(ctx)
	if err != nil {
		return done, err
	}
	if check == nil {
		return done, signing.ErrWrongMasterKey
	}
	if err := sealer.Verify(check); err != nil {
		return done, err
	}
	if done.Until, err = newest(ctx, db); err != nil {
		return done, err
	}
	e := audit.Origin{Actor: audit.Operator}.Event("", d.Now(), audit.DeploymentRestored, "")
	done.Ended, err = db.BeginEpoch(ctx, e)
	return done, err
}

// newest is when the last event of any trail happened.
func newest(ctx context.Context, db *store.DB) (last time.Time, err error) {
	projects, err := db.Projects(ctx)
	if err != nil {
		return last, err
	}
	trails := []string{""} // the deployment's own
	for _, p := range projects {
		trails = append(trails, p.ID)
	}
	for _, trail := range trails {
		page, err := db.Events(ctx, audit.Query{ProjectID: trail, Limit: 1})
		if err != nil {
			return last, err
		}
		for _, e := range page.Events {
			if e.At.After(last) {
				last = e.At
			}
		}
	}
	return last, nil
}

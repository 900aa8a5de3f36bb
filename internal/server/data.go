package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
)

// Data says where a deployment keeps what must survive a restart.
type Data struct {
	Folder        string // holds postern.db and master.key; made if it is not there
	Database      string // PostgreSQL URL; "" for SQLite in Folder
	Connections   int    // as store.Config.MaxConns
	MasterKey     string // 32 bytes in base64; "" to read it from a file
	MasterKeyFile string // "" for master.key in Folder
	// The key that MasterKey takes the place of: it opens what it sealed, and
	// seals nothing. Both empty but while that goes on.
	OldMasterKey     string
	OldMasterKeyFile string
	Now              func() time.Time
}

// ErrNoData says that nothing was kept here yet.
var ErrNoData = errors.New("server: no data yet")

// ErrEmptied says that the database was there, for its master key is, and has
// nothing in it now.
var ErrEmptied = errors.New("server: the database is empty, and its master key is not new")

// Path is the SQLite file.
func (d Data) Path() string { return filepath.Join(d.Folder, "postern.db") }

// Exists reports whether there is a database to work with.
func (d Data) Exists() bool {
	if d.Database != "" {
		return true
	}
	_, err := os.Stat(d.Path())
	return err == nil
}

func (d Data) keyFile() string {
	if d.MasterKeyFile != "" {
		return d.MasterKeyFile
	}
	return filepath.Join(d.Folder, "master.key")
}

// Storage is opened Data.
type Storage struct {
	DB     *store.DB
	Sealer *signing.Sealer
	// NewKey is the file that the master key was just created in, "" when it was
	// there: whoever keeps the data has to keep that file too.
	NewKey string
}

// Close closes the database.
func (s *Storage) Close() error { return s.DB.Close() }

// Seals returns what vouches for the audit trail.
func (s *Storage) Seals(now func() time.Time) *audit.Seals {
	return audit.NewSeals(audit.SealsConfig{
		Store: s.DB, Now: now,
		Close: func(digest []byte, row string) []byte { return s.Sealer.Seal(digest, sealProof(row)) },
		Open:  func(proof []byte, row string) ([]byte, error) { return s.Sealer.Open(proof, sealProof(row)) },
	})
}

// sealProof is where the proof of a seal of the trail is kept.
func sealProof(row string) signing.Place {
	return signing.Place{Table: "event_seal", Row: row, Column: "proof"}
}

// Open opens the data. With SQLite it makes and updates the database and, for a
// new database, the master key (decision 31). On PostgreSQL the schema is left
// to Migrate, and the master key has to be given. lock is for servers: one at a
// time serves a SQLite database, and a second one gets a *store.Locked.
func (d Data) Open(ctx context.Context, lock bool) (*Storage, error) {
	if d.Database == "" {
		if err := d.makeFolder(); err != nil {
			return nil, err
		}
	}
	s, err := d.open(ctx, lock)
	if err != nil {
		return nil, err
	}
	if err := d.unseal(ctx, s); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func (d Data) makeFolder() error {
	if err := os.MkdirAll(d.Folder, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	return nil
}

// OpenBeside opens the database for a command that works while a server runs.
// It creates and migrates nothing, for the server may be an older one:
// ErrNoData says that there is no database, store.ErrSchemaOld that it waits for
// its migration.
func (d Data) OpenBeside(ctx context.Context) (*store.DB, error) {
	db, err := d.OpenToMigrate(ctx)
	if err != nil {
		return nil, err
	}
	if err := db.CheckSchema(ctx); err != nil {
		_ = db.Close()
		return nil, err
	}
	return db, nil
}

// OpenToMigrate opens the database, whatever version its tables have. ErrNoData
// says that there is none.
func (d Data) OpenToMigrate(ctx context.Context) (*store.DB, error) {
	if !d.Exists() {
		return nil, ErrNoData
	}
	return d.connect(ctx, false)
}

// connect opens the database, and a copy that nobody restored only with copied. A
// file without tables beside a master key that this package made, which it does
// after the tables, is ErrEmptied: a disk or a copying program that failed leaves
// such a file, and it is not to become a new database.
func (d Data) connect(ctx context.Context, copied bool) (*store.DB, error) {
	c := store.Config{URL: d.Database, MaxConns: d.Connections, Now: d.Now}
	if d.Database == "" {
		c.Path, c.Copied = d.Path(), copied
	}
	there := d.Exists()
	db, err := store.Open(ctx, c)
	if err != nil || !there || !db.SQLite() || d.MasterKey != "" || d.MasterKeyFile != "" {
		return db, err
	}
	if version, _, err := db.SchemaVersion(ctx); err != nil || version > 0 {
		return db, nil // whoever works with it finds out what is damaged
	}
	if _, err := os.Stat(d.keyFile()); err != nil {
		return db, nil
	}
	_ = db.Close()
	return nil, ErrEmptied
}

func (d Data) open(ctx context.Context, lock bool) (*Storage, error) {
	db, err := d.connect(ctx, false)
	if err != nil {
		return nil, err
	}
	err = func() error {
		if lock {
			if err := db.LockServer(); err != nil {
				return err
			}
		}
		if db.SQLite() {
			return db.Migrate(ctx)
		}
		return nil
	}()
	if err != nil {
		_ = db.Close()
		return nil, err
	}
	return &Storage{DB: db}, nil
}

// unseal finds the master key and proves that it is this database's.
func (d Data) unseal(ctx context.Context, s *Storage) error {
	if err := d.ensureKey(ctx, s); err != nil {
		return err
	}
	var err error
	if s.Sealer, err = d.sealer(); err != nil {
		return err
	}
	err = s.DB.CheckSchema(ctx)
	if errors.Is(err, store.ErrSchemaOld) {
		return nil // a PostgreSQL database that waits for its migration; start proves the key
	}
	if err != nil {
		return err
	}
	return s.proveKey(ctx)
}

// proveKey refuses a master key that is not this database's, before anything
// is served.
func (s *Storage) proveKey(ctx context.Context) error {
	check, err := s.DB.KeepMasterKeyCheck(ctx, s.Sealer.Check())
	if err != nil {
		return err
	}
	return s.Sealer.Verify(check)
}

var errSharedKey = errors.New("PostgreSQL needs a master key that every server shares: set POSTERN_MASTER_KEY or master_key_file; openssl rand -base64 32 makes one")

// ensureKey makes the master key of a new SQLite database.
func (d Data) ensureKey(ctx context.Context, s *Storage) error {
	_, err := d.masterKey()
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if !s.DB.SQLite() {
		return errSharedKey
	}
	check, err := s.DB.MasterKeyCheck(ctx)
	if err != nil {
		return err
	}
	path := d.keyFile()
	if check != nil {
		return fmt.Errorf("the database is there but its master key is not: bring %s back from where it was kept", path)
	}
	if _, err = signing.CreateMasterKey(path); err == nil {
		s.NewKey = path
	}
	return err
}

func (d Data) masterKey() (signing.MasterKey, error) {
	if d.MasterKey != "" {
		return signing.ParseMasterKey(d.MasterKey)
	}
	return signing.ReadMasterKey(d.keyFile())
}

// masterKeys are the master key and, where there is one, the old one behind it.
func (d Data) masterKeys() ([]signing.MasterKey, error) {
	key, err := d.masterKey()
	if err != nil || d.OldMasterKey == "" && d.OldMasterKeyFile == "" {
		return []signing.MasterKey{key}, err
	}
	var old signing.MasterKey
	if d.OldMasterKey != "" {
		old, err = signing.ParseMasterKey(d.OldMasterKey)
	} else {
		old, err = signing.ReadMasterKey(d.OldMasterKeyFile)
	}
	if err != nil {
		return nil, fmt.Errorf("old master key: %s", err) //nolint:errorlint // a missing old key is not a missing key
	}
	return []signing.MasterKey{key, old}, nil
}

func (d Data) sealer() (*signing.Sealer, error) {
	keys, err := d.masterKeys()
	if err != nil {
		return nil, err
	}
	return signing.NewSealer(keys...)
}

// CheckMasterKey refuses a master key that is given but cannot be used: sample
// text, or a file that others may read; and none where one has to be given. A
// key that Open can make is no error.
func (d Data) CheckMasterKey() error {
	_, err := d.masterKeys()
	if !errors.Is(err, fs.ErrNotExist) || d.MasterKeyFile != "" {
		return err
	}
	if d.Database != "" {
		return errSharedKey
	}
	return nil
}

// CheckCertificate refuses a certificate and key that no listener can use.
func CheckCertificate(chain, key string) error {
	_, err := tls.LoadX509KeyPair(chain, key)
	return err
}

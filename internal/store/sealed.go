package store

import (
	"context"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/store/db"
)

// SealedColumn names a column whose values are sealed under the master key.
type SealedColumn string

// The sealed columns. master_key_check, which says what key that is, is not
// among them: ReplaceMasterKey moves it when all others were.
const (
	SealedSigningKey    SealedColumn = "signing_key.private_key"
	SealedConnection    SealedColumn = "sso_connection.client_secret"
	SealedAdministrator SealedColumn = "administrator.totp_secret"
	SealedCeremony      SealedColumn = "administrator_ceremony.state"
	SealedProof         SealedColumn = "event_seal.proof"
)

// SealedColumns lists them.
func SealedColumns() []SealedColumn {
	return []SealedColumn{SealedSigningKey, SealedConnection, SealedAdministrator, SealedCeremony, SealedProof}
}

// SealedValue is one value of a sealed column, with the key of its row: ID, or
// Number for the seals of a trail.
type SealedValue struct {
	ProjectID string // "" for what belongs to the deployment
	ID        string
	Number    int64
	Value     []byte
}

// SealedValues lists the values of a column behind one of them, in the order of
// their keys; the zero value is before all.
func (d *DB) SealedValues(ctx context.Context, c SealedColumn, after SealedValue, limit int) ([]SealedValue, error) {
	all, err := d.sealedValues(ctx, c, after, int32(limit))
	return all, wrap("read "+string(c), err)
}

func (d *DB) sealedValues(ctx context.Context, c SealedColumn, after SealedValue, limit int32) ([]SealedValue, error) {
	switch c {
	case SealedSigningKey:
		rows, err := d.read.SealedSigningKeys(ctx, db.SealedSigningKeysParams{ProjectID: after.ProjectID, ID: after.ID, MaxRows: limit})
		return values(rows, err, func(r db.SealedSigningKeysRow) SealedValue {
			return SealedValue{ProjectID: r.ProjectID, ID: r.ID, Value: r.PrivateKey}
		})
	case SealedConnection:
		rows, err := d.read.SealedConnections(ctx, db.SealedConnectionsParams{ProjectID: after.ProjectID, ID: after.ID, MaxRows: limit})
		return values(rows, err, func(r db.SealedConnectionsRow) SealedValue {
			return SealedValue{ProjectID: r.ProjectID, ID: r.ID, Value: r.ClientSecret}
		})
	case SealedAdministrator:
		rows, err := d.read.SealedAdministrators(ctx, after.ID, limit)
		return values(rows, err, func(r db.SealedAdministratorsRow) SealedValue {
			return SealedValue{ID: r.ID, Value: r.TotpSecret}
		})
	case SealedCeremony:
		rows, err := d.read.SealedCeremonies(ctx, after.ID, limit)
		return values(rows, err, func(r db.SealedCeremoniesRow) SealedValue {
			return SealedValue{ID: r.ID, Value: r.State}
		})
	default:
		rows, err := d.read.SealedProofs(ctx, db.SealedProofsParams{ProjectID: after.ProjectID, Number: after.Number, MaxRows: limit})
		return values(rows, err, func(r db.SealedProofsRow) SealedValue {
			return SealedValue{ProjectID: r.ProjectID, Number: r.Number, Value: r.Proof}
		})
	}
}

func values[Row any](rows []Row, err error, of func(Row) SealedValue) ([]SealedValue, error) {
	all := make([]SealedValue, len(rows))
	for i, r := range rows {
		all[i] = of(r)
	}
	return all, err
}

// Resealed is a value and what takes its place.
type Resealed struct {
	SealedValue
	Sealed []byte
}

// Reseal replaces values of a column in one transaction, each only while it is
// as it was read, and reports how many it replaced: a server may have written
// others meanwhile.
func (d *DB) Reseal(ctx context.Context, c SealedColumn, all []Resealed) (int, error) {
	total := 0
	err := d.write(ctx, func(q *db.Queries) error {
		total = 0 // again: a lost transaction is repeated
		for _, r := range all {
			n, err := reseal(ctx, q, c, r)
			if err != nil {
				return wrap("replace "+string(c), err)
			}
			total += int(n)
		}
		return nil
	})
	return total, err
}

func reseal(ctx context.Context, q *db.Queries, c SealedColumn, r Resealed) (int64, error) {
	switch c {
	case SealedSigningKey:
		return q.ResealSigningKey(ctx, db.ResealSigningKeyParams{Sealed: r.Sealed, ProjectID: r.ProjectID, ID: r.ID, Was: r.Value})
	case SealedConnection:
		return q.ResealConnection(ctx, db.ResealConnectionParams{Sealed: r.Sealed, ProjectID: r.ProjectID, ID: r.ID, Was: r.Value})
	case SealedAdministrator:
		return q.ResealAdministrator(ctx, db.ResealAdministratorParams{Sealed: r.Sealed, ID: r.ID, Was: r.Value})
	case SealedCeremony:
		return q.ResealCeremony(ctx, db.ResealCeremonyParams{Sealed: r.Sealed, ID: r.ID, Was: r.Value})
	default:
		return q.ResealProof(ctx, db.ResealProofParams{Sealed: r.Sealed, ProjectID: r.ProjectID, Number: r.Number, Was: r.Value})
	}
}

// ReplaceMasterKey replaces the value by which a wrong master key is found,
// while it is still was, and reports whether it did: from then on the key that
// wrote was is none of this database's.
func (d *DB) ReplaceMasterKey(ctx context.Context, was, check []byte, e audit.Event) (bool, error) {
	replaced := false
	err := d.write(ctx, func(q *db.Queries) error {
		n, err := q.ReplaceMasterKeyCheck(ctx, check, was)
		if replaced = n == 1; err != nil || !replaced {
			return wrap("replace master key check", err)
		}
		return record(ctx, q, e)
	})
	return replaced, err
}

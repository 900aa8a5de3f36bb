// Package signing holds the keys of a deployment: the signing keys of each
// project and the master key that seals what must be read back.
//
// [Keys] makes and rotates signing keys in a [Store]. [Ring] is one project's
// keys in memory: it signs tokens, verifies them, and publishes the key set.
// [Sealer] encrypts values for the database under the master key, and derives
// the keys for codes, forms and cursors from it.
//
// The life of a signing key is written in its row as three moments: published
// from CreatedAt, signing from NotBefore, gone from RetireAt. Nobody switches a
// key over; every node reads the same row and does the same at the same time. A
// key that somebody else may have is the exception: [Keys.Compromise] deletes its
// row, and with the row goes everything that it signed.
//
// The package signs what it is given and says who signed what it is shown. What
// claims mean, when a token ends and whom it is for belong to package oauth. It
// starts no goroutine and keeps no private key in the clear outside memory. It
// is the only importer of the JOSE library.
package signing

import "errors"

// Errors of this package. None of them is for a client to read.
var (
	// ErrConflict: the store already has a key of this project, algorithm and
	// generation.
	ErrConflict = errors.New("signing: another key was added at the same time")
	// ErrNoKey: the project has no key of this algorithm yet that may sign.
	ErrNoKey = errors.New("signing: no key to sign with")
	// ErrNotFound: the project has no such key.
	ErrNotFound = errors.New("signing: no such key")
	// ErrInvalid: not a token that this project signed, or not of a wanted type.
	ErrInvalid = errors.New("signing: not a valid token")
	// ErrSealed: the sealed value was not written under a key we hold, for this
	// place, or was changed since.
	ErrSealed = errors.New("signing: sealed value cannot be opened")
	// ErrOtherKey: the sealed value was written under a key that we do not hold.
	ErrOtherKey = errors.New("signing: sealed under another master key")
	// ErrWrongMasterKey: the master key is not the one this database was
	// written with.
	ErrWrongMasterKey = errors.New("signing: the master key is not the one this database was written with")
)

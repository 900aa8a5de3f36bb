package signin

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/base64"
	"fmt"
	"runtime"
	"sort"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"

	"github.com/postern-id/postern/internal/identity"
)

// What a password costs to check: 19 MiB, two passes, one thread, the least that
// OWASP's password storage cheat sheet asks of argon2id.
const (
	hashMemory = 19 * 1024 // KiB
	hashPasses = 2
	hashLanes  = 1
	hashSalt   = 16
	hashSize   = 32
	hashHead   = "$argon2id$v=19$m=19456,t=2,p=1$"
)

// hashAtOnce is how many passwords are checked at once: on half of the cores, so
// that everybody else has the other half, and in 76 MiB at most.
func hashAtOnce() int { return min(4, max(1, runtime.GOMAXPROCS(0)/2)) }

// hashWaiting is how many wait for their turn, the last of them about a second.
const hashWaiting = 32

// The lengths of a password. But for the commonest ones there are no other rules:
// a second factor always goes with it (NIST SP 800-63B-4 §3.1.1).
const (
	minPassword = 12  // characters
	maxPassword = 256 // bytes
)

// checkPassword says what is wrong with a new password, "" for nothing.
func checkPassword(password, email string) string {
	switch {
	case utf8.RuneCountInString(password) < minPassword:
		return fmt.Sprintf("Choose a password of at least %d characters. A few words in a row are good.", minPassword)
	case len(password) > maxPassword:
		return fmt.Sprintf("Choose a password of at most %d characters.", maxPassword)
	case identity.Fold(password) == identity.Fold(email):
		return "Choose a password that is not your address."
	case isCommon(password):
		return "Choose another password: this is one of the commonest, which are guessed first. A few words in a row are good."
	}
	return ""
}

// commonSize is how many bytes of its hash stand for one of the commonest
// passwords.
const commonSize = 5

// common are the first bytes of the SHA-256 of the commonest passwords that are
// long enough, in order. docs/decisions/0021 says where they are from.
//
//go:embed common.bin
var common string

// isCommon reports whether a password, in any case, is one of the commonest.
func isCommon(password string) bool {
	sum := sha256.Sum256([]byte(identity.Fold(password)))
	_, found := sort.Find(len(common)/commonSize, func(i int) int {
		return strings.Compare(string(sum[:commonSize]), common[i*commonSize:(i+1)*commonSize])
	})
	return found
}

// hasher makes and checks argon2id hashes in the form of PHC strings, a few at a
// time.
type hasher struct {
	running chan struct{}
	waiting chan struct{} // the running ones too
}

func newHasher() hasher {
	n := hashAtOnce()
	return hasher{running: make(chan struct{}, n), waiting: make(chan struct{}, n+hashWaiting)}
}

// hash returns the hash of a new password, or ErrBusy.
func (h hasher) hash(ctx context.Context, password string) (string, error) {
	salt := make([]byte, hashSalt)
	rand.Read(salt) // never fails: crypto/rand ends the program instead
	sum, err := h.sum(ctx, password, salt)
	if err != nil {
		return "", err
	}
	return hashHead + base64.RawStdEncoding.EncodeToString(salt) + "$" + base64.RawStdEncoding.EncodeToString(sum), nil
}

// verify reports whether a password has a hash, or returns ErrBusy. Without a
// hash the answer is no, after the same work.
func (h hasher) verify(ctx context.Context, password, hash string) (bool, error) {
	text, ok := strings.CutPrefix(hash, hashHead)
	if hash != "" && !ok {
		return false, fmt.Errorf("signin: a password has a hash of another form")
	}
	saltText, sumText, _ := strings.Cut(text, "$")
	salt, err := base64.RawStdEncoding.DecodeString(saltText)
	if err != nil {
		return false, fmt.Errorf("signin: damaged hash: %w", err)
	}
	want, err := base64.RawStdEncoding.DecodeString(sumText)
	if err != nil {
		return false, fmt.Errorf("signin: damaged hash: %w", err)
	}
	sum, err := h.sum(ctx, password[:min(len(password), maxPassword+1)], salt)
	return err == nil && subtle.ConstantTimeCompare(sum, want) == 1, err
}

func (h hasher) sum(ctx context.Context, password string, salt []byte) ([]byte, error) {
	select {
	case h.waiting <- struct{}{}:
		defer func() { <-h.waiting }()
	default:
		return nil, ErrBusy
	}
	select {
	case h.running <- struct{}{}:
		defer func() { <-h.running }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return argon2.IDKey([]byte(password), salt, hashPasses, hashMemory, hashLanes, hashSize), nil
}

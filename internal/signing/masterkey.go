package signing

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// MasterKey is the one secret of a deployment that is not in its database: 32
// random bytes, written as base64.
type MasterKey [32]byte

// String hides the key from logs and messages.
func (MasterKey) String() string { return "master key" }

// GoString hides the key from %#v.
func (MasterKey) GoString() string { return "master key" }

// howToMakeOne ends every message about an unusable key.
const howToMakeOne = `make one with "openssl rand -base64 32"`

// ParseMasterKey reads a master key from its text: 32 bytes in standard base64,
// blank space around it allowed. It refuses bytes that nobody drew at random: a
// repeated byte, a counting sequence, a typed sentence.
func ParseMasterKey(text string) (MasterKey, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(string(bytes.TrimSpace([]byte(text))))
	if err != nil {
		// The error of base64 is left out: it can quote the text.
		return MasterKey{}, errors.New("the master key is not base64; " + howToMakeOne)
	}
	if len(raw) != len(MasterKey{}) {
		return MasterKey{}, fmt.Errorf("the master key has %d bytes instead of %d; %s", len(raw), len(MasterKey{}), howToMakeOne)
	}
	if !looksRandom(raw) {
		return MasterKey{}, errors.New("the master key is not random; " + howToMakeOne)
	}
	return MasterKey(raw), nil
}

// looksRandom refuses what 32 random bytes are in less than one of 10^12 cases:
// few different bytes, even steps, printable text.
func looksRandom(raw []byte) bool {
	values, steps, printable := map[byte]bool{}, map[byte]bool{}, true
	for i, b := range raw {
		values[b] = true
		if i > 0 {
			steps[b-raw[i-1]] = true
		}
		printable = printable && ' ' <= b && b <= '~'
	}
	return len(values) > 16 && len(steps) > 12 && !printable
}

// ReadMasterKey reads the master key from a file. It refuses a file that anyone
// but its owner may read or write. Where there is no file, the error is
// fs.ErrNotExist.
func ReadMasterKey(path string) (MasterKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return MasterKey{}, fmt.Errorf("master key file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return MasterKey{}, fmt.Errorf("master key file: %w", err)
	}
	if !info.Mode().IsRegular() {
		return MasterKey{}, fmt.Errorf("master key file %s is not a file", path)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return MasterKey{}, fmt.Errorf("master key file %s can be read by others (mode %04o); run: chmod 600 %s", path, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, 1024)) // a key has 44 characters
	if err != nil {
		return MasterKey{}, fmt.Errorf("master key file: %w", err)
	}
	key, err := ParseMasterKey(string(text))
	if err != nil {
		return MasterKey{}, fmt.Errorf("master key file %s: %w", path, err)
	}
	return key, nil
}

// CreateMasterKey draws a master key and writes it to a new file that only its
// owner can read. It never overwrites: where there is a file, the error is
// fs.ErrExist. The key is on the disk when CreateMasterKey returns.
func CreateMasterKey(path string) (MasterKey, error) {
	var key MasterKey
	rand.Read(key[:]) // never fails: crypto/rand ends the program instead
	if err := writeNew(path, base64.StdEncoding.EncodeToString(key[:])+"\n"); err != nil {
		return MasterKey{}, fmt.Errorf("master key file: %w", err)
	}
	return key, nil
}

func writeNew(path, text string) error {
	// Link makes the finished file appear at once, and fails where there is one:
	// a crash leaves no half key, and of two starters one wins.
	f, err := os.CreateTemp(filepath.Dir(path), ".master-key-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

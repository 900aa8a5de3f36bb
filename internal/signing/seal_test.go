package signing_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/signing"
)

// masterKey returns a key that is the same at every call with the same n.
func masterKey(n byte) signing.MasterKey {
	var key signing.MasterKey
	for i := range key {
		key[i] = byte(i*i*7) + byte(i)*n + n
	}
	return key
}

func newSealer(t *testing.T, keys ...signing.MasterKey) *signing.Sealer {
	t.Helper()
	s, err := signing.NewSealer(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var place = signing.Place{Table: "signing_key", Row: "k1", Column: "private"}

// Row: K05.
func TestSealedValueOpensOnlyAtItsPlace(t *testing.T) {
	s := newSealer(t, masterKey(1))
	value := s.Seal([]byte("private"), place)
	if got, err := s.Open(value, place); err != nil || string(got) != "private" {
		t.Fatalf("Open = %q, %v", got, err)
	}
	if bytes.Contains(value, []byte("private")) {
		t.Error("the sealed value shows its text")
	}
	for name, other := range map[string]signing.Place{
		"another table":           {Table: "client", Row: "k1", Column: "private"},
		"another row":             {Table: "signing_key", Row: "k2", Column: "private"},
		"another column":          {Table: "signing_key", Row: "k1", Column: "public"},
		"names moved by a letter": {Table: "signing_keyk", Row: "1", Column: "private"},
	} {
		if _, err := s.Open(value, other); !errors.Is(err, signing.ErrSealed) {
			t.Errorf("%s: Open = %v, want ErrSealed", name, err)
		}
	}
}

func TestSealedValueCannotBeChanged(t *testing.T) {
	s := newSealer(t, masterKey(1))
	value := s.Seal([]byte("x"), place)
	for i := range value {
		changed := bytes.Clone(value)
		changed[i] ^= 1
		if _, err := s.Open(changed, place); !errors.Is(err, signing.ErrSealed) {
			t.Errorf("byte %d changed: Open = %v, want ErrSealed", i, err)
		}
		if _, err := s.Open(value[:i], place); !errors.Is(err, signing.ErrSealed) {
			t.Errorf("cut to %d bytes: Open = %v, want ErrSealed", i, err)
		}
	}
	if bytes.Equal(value, s.Seal([]byte("x"), place)) {
		t.Error("sealing twice gives the same bytes")
	}
}

func TestMasterKeyIsReplacedInTwoSteps(t *testing.T) {
	before := newSealer(t, masterKey(1))
	during := newSealer(t, masterKey(2), masterKey(1))
	after := newSealer(t, masterKey(2))

	old := before.Seal([]byte("x"), place)
	if got, err := during.Open(old, place); err != nil || string(got) != "x" {
		t.Fatalf("with both keys: Open = %q, %v", got, err)
	}
	rewrapped := during.Seal([]byte("x"), place)
	if _, err := after.Open(rewrapped, place); err != nil { // Seal wrote with the first key
		t.Errorf("with the new key alone: %v", err)
	}
	if _, err := after.Open(old, place); !errors.Is(err, signing.ErrSealed) {
		t.Errorf("old value without its key: %v, want ErrSealed", err)
	}
}

// Row: K03.
func TestCheckFindsAWrongMasterKey(t *testing.T) {
	check := newSealer(t, masterKey(1)).Check()
	tests := map[string]struct {
		sealer *signing.Sealer
		check  []byte
		want   error
	}{
		"same key":             {newSealer(t, masterKey(1)), check, nil},
		"being replaced":       {newSealer(t, masterKey(2), masterKey(1)), check, nil},
		"another key":          {newSealer(t, masterKey(2)), check, signing.ErrWrongMasterKey},
		"value from elsewhere": {newSealer(t, masterKey(1)), newSealer(t, masterKey(1)).Seal([]byte("postern"), place), signing.ErrWrongMasterKey},
		"empty row":            {newSealer(t, masterKey(1)), nil, signing.ErrWrongMasterKey},
	}
	for name, test := range tests {
		if err := test.sealer.Verify(test.check); !errors.Is(err, test.want) {
			t.Errorf("%s: Verify = %v, want %v", name, err, test.want)
		}
	}
}

func TestDerivedKeysDiffer(t *testing.T) {
	seen := map[[32]byte]string{}
	for n := range byte(2) {
		s := newSealer(t, masterKey(n+1))
		for _, label := range []signing.Label{signing.OTP, signing.CSRF, "seal"} {
			key, name := s.Derive(label), fmt.Sprintf("%s of key %d", label, n+1)
			if other, ok := seen[key]; ok {
				t.Errorf("%s equals %s", name, other)
			}
			seen[key] = name
			if key != s.Derive(label) {
				t.Errorf("%s changes", name)
			}
		}
	}
}

func TestMACKeepsPartsApart(t *testing.T) {
	s := newSealer(t, masterKey(1))
	mac := s.MAC(signing.OTP, "p", "123456")
	if again := newSealer(t, masterKey(1)).MAC(signing.OTP, "p", "123456"); again != mac {
		t.Error("MAC changes")
	}
	for name, other := range map[string][32]byte{
		"moved boundary": s.MAC(signing.OTP, "p1", "23456"),
		"joined":         s.MAC(signing.OTP, "p123456"),
		"empty part":     s.MAC(signing.OTP, "p", "123456", ""),
		"another label":  s.MAC(signing.CSRF, "p", "123456"),
		"another key":    newSealer(t, masterKey(2)).MAC(signing.OTP, "p", "123456"),
	} {
		if other == mac {
			t.Errorf("%s: same MAC", name)
		}
	}
}

func TestSealUnderNeedsItsSecret(t *testing.T) {
	value := signing.SealUnder("old token", []byte("answer"), place)
	if got, err := signing.OpenUnder("old token", value, place); err != nil || string(got) != "answer" {
		t.Fatalf("OpenUnder = %q, %v", got, err)
	}
	if _, err := signing.OpenUnder("another token", value, place); !errors.Is(err, signing.ErrSealed) {
		t.Errorf("another secret: %v, want ErrSealed", err)
	}
	if _, err := signing.OpenUnder("old token", value, signing.Place{Row: "other"}); !errors.Is(err, signing.ErrSealed) {
		t.Errorf("another place: %v, want ErrSealed", err)
	}
	if _, err := newSealer(t, masterKey(1)).Open(value, place); !errors.Is(err, signing.ErrSealed) {
		t.Errorf("opened by the master key: %v, want ErrSealed", err)
	}
}

// Row: K04.
func TestParseMasterKeyRefusesWhatNobodyDrew(t *testing.T) {
	counting := make([]byte, 32)
	for i := range counting {
		counting[i] = byte(i)
	}
	encode := base64.StdEncoding.EncodeToString
	for name, text := range map[string]string{
		"empty":           "",
		"blank":           "  \n",
		"not base64":      "change-me-change-me-change-me!",
		"short":           encode(counting[:16]),
		"long":            encode(append(counting, 7)),
		"zeros":           encode(make([]byte, 32)),
		"one byte":        encode(bytes.Repeat([]byte{0xA5}, 32)),
		"counting":        encode(counting),
		"four bytes":      encode(bytes.Repeat([]byte{1, 200, 9, 77}, 8)),
		"typed text":      encode([]byte("this is my very secret passphrase")[:32]),
		"trailing bits":   strings.TrimSuffix(encode(bytesOf(masterKey(1))), "=")[:42] + "B=",
		"two keys":        encode(bytesOf(masterKey(1))) + encode(bytesOf(masterKey(2))),
		"inner new lines": encode(bytesOf(masterKey(1)))[:20] + " " + encode(bytesOf(masterKey(1)))[20:],
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := signing.ParseMasterKey(text); err == nil {
				t.Errorf("%q accepted", text)
			} else if len(text) > 8 && strings.Contains(err.Error(), text[:8]) {
				t.Errorf("the error %q repeats the key", err)
			}
		})
	}
	if _, err := signing.NewSealer(signing.MasterKey{}); err == nil {
		t.Error("NewSealer accepts the zero key")
	}
	if _, err := signing.NewSealer(); err == nil {
		t.Error("NewSealer accepts no key")
	}
	good := encode(bytesOf(masterKey(1)))
	if key, err := signing.ParseMasterKey(" " + good + "\n"); err != nil || key != masterKey(1) {
		t.Errorf("ParseMasterKey of a good key: %v", err)
	}
	if text := fmt.Sprintf("%v %+v %#v %s", masterKey(1), masterKey(1), masterKey(1), masterKey(1)); strings.Contains(text, "0x") || strings.Count(text, "master key") != 4 {
		t.Errorf("printing shows the key: %s", text)
	}
}

func bytesOf(key signing.MasterKey) []byte { return key[:] }

func TestMasterKeyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := signing.ReadMasterKey(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no file: %v, want fs.ErrNotExist", err)
	}
	made, err := signing.CreateMasterKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if got, err := signing.ReadMasterKey(path); err != nil || got != made {
		t.Fatalf("ReadMasterKey: %v", err)
	}
	if _, err := signing.CreateMasterKey(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second creation: %v, want fs.ErrExist", err)
	}
	if got, err := signing.ReadMasterKey(path); err != nil || got != made {
		t.Errorf("a second creation changed the key: %v", err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
		t.Errorf("left behind: %v", entries)
	}
	for _, mode := range []fs.FileMode{0o640, 0o604, 0o620, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := signing.ReadMasterKey(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
			t.Errorf("mode %v: %v, want a refusal that says what to do", mode, err)
		}
	}
	if _, err := signing.ReadMasterKey(filepath.Dir(path)); err == nil {
		t.Error("a directory is read as a key")
	}
}

func FuzzOpen(f *testing.F) {
	s, err := signing.NewSealer(masterKey(1))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.Seal([]byte("x"), place)[:20])
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, value []byte) {
		if _, err := s.Open(value, place); err == nil {
			t.Errorf("opened %x, which nobody sealed", value)
		}
	})
}

func TestRewrap(t *testing.T) {
	old, second := newSealer(t, masterKey(1)), newSealer(t, masterKey(3))
	value := old.Seal([]byte("private"), place)
	both := newSealer(t, masterKey(2), masterKey(1))
	moved, err := both.Rewrap(value, place)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := newSealer(t, masterKey(2)).Open(moved, place); err != nil || string(got) != "private" {
		t.Errorf("under the new key: %q, %v", got, err)
	}
	if again, err := both.Rewrap(moved, place); again != nil || err != nil {
		t.Errorf("once more: %v, %v", again, err)
	}
	for name, test := range map[string]struct {
		value []byte
		at    signing.Place
		want  error
	}{
		"of another place":           {value, signing.Place{Row: "other"}, signing.ErrSealed},
		"changed":                    {append(bytes.Clone(value[:len(value)-1]), value[len(value)-1]^1), place, signing.ErrSealed},
		"moved, of another place":    {moved, signing.Place{Row: "other"}, signing.ErrSealed},
		"of a third key":             {second.Seal([]byte("private"), place), place, signing.ErrOtherKey},
		"empty":                      {nil, place, signing.ErrOtherKey},
		"sealed under a text secret": {signing.SealUnder("old token", []byte("answer"), place), place, signing.ErrOtherKey},
	} {
		if got, err := both.Rewrap(test.value, test.at); got != nil || !errors.Is(err, test.want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	check, err := both.RewrapCheck(old.Check())
	if err != nil || newSealer(t, masterKey(2)).Verify(check) != nil || old.Verify(check) == nil {
		t.Errorf("the check: %v", err)
	}
}

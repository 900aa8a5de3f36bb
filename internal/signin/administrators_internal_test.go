package signin

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pquerna/otp"
	"github.com/pquerna/otp/totp"
)

// Rows: P15, P16. A code works in its own step and in the one beside it, and
// never at or before the last one used.
func TestCheckCode(t *testing.T) {
	t.Parallel()
	const key = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // of RFC 6238 appendix B
	at := time.Unix(1111111111, 0)
	current := at.Unix() / totpPeriod
	of := func(step int64) string {
		text, err := totp.GenerateCode(key, time.Unix(step*totpPeriod, 0))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	if of(current) != "050471" { // 14050471 in eight digits
		t.Errorf("the code of RFC 6238 is %s", of(current))
	}
	for _, test := range []struct {
		name string
		code string
		last int64
		step int64 // 0: refused
	}{
		{"this step", of(current), 0, current},
		{"typed with a blank", of(current)[:3] + " " + of(current)[3:], 0, current},
		{"the step before", of(current - 1), 0, current - 1},
		{"the step after", of(current + 1), 0, current + 1},
		{"two steps before", of(current - 2), 0, 0},
		{"two steps after", of(current + 2), 0, 0},
		{"a used step", of(current), current, 0},
		{"older than a used step", of(current - 1), current, 0},
		{"newer than a used step", of(current + 1), current, current + 1},
		{"nothing", "", 0, 0},
		{"five digits", of(current)[:5], 0, 0},
		{"seven digits", of(current) + "0", 0, 0},
	} {
		if step, ok := checkCode(key, test.code, at, test.last); step != test.step || ok != (test.step != 0) {
			t.Errorf("%s: step %d %v, want %d", test.name, step, ok, test.step)
		}
	}
}

// The picture and the text say the same, and an app reads them.
func TestNewTOTP(t *testing.T) {
	t.Parallel()
	key := newTOTPSecret()
	made, err := newTOTP(key, "http://localhost:4000", "ada@example.test")
	if err != nil {
		t.Fatal(err)
	}
	read, err := otp.NewKeyFromURL(made.URI)
	if err != nil {
		t.Fatal(err)
	}
	if read.Secret() != key || read.Issuer() != "Postern localhost 4000" || read.AccountName() != "ada@example.test" || read.Period() != totpPeriod || read.Digits() != otp.DigitsSix {
		t.Errorf("an app reads %s %s %s", read.Secret(), read.Issuer(), read.AccountName())
	}
	if strings.ReplaceAll(made.Secret, " ", "") != key || len(key) != 32 || newTOTPSecret() == key {
		t.Errorf("the secret is shown as %s", made.Secret)
	}
	if made.Size < 25 || !strings.HasPrefix(made.Path, "M0 0h1v1h-1z") { // the corner of a finder
		t.Errorf("QR code of %d modules, %.20s", made.Size, made.Path)
	}
}

// Rows: P22, P23, P24.
func TestPasswords(t *testing.T) {
	t.Parallel()
	h, ctx := newHasher(), t.Context()
	long := strings.Repeat("x", 72)
	hash, err := h.hash(ctx, long+"a")
	if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("%s %v", hash, err)
	}
	for _, test := range []struct {
		name, password, hash string
		want                 bool
	}{
		{"the password", long + "a", hash, true},
		{"the same beginning", long + "b", hash, false},
		{"nothing", "", hash, false},
		{"nothing for nobody", "", "", false},
		{"something for nobody", long, "", false},
		{"with a zero byte", long + "a\x00", hash, false},
		{"far too long", strings.Repeat("x", 1<<20), hash, false},
	} {
		if got, err := h.verify(ctx, test.password, test.hash); err != nil || got != test.want {
			t.Errorf("%s: %v %v", test.name, got, err)
		}
	}
	if _, err := h.verify(ctx, "x", "$2a$10$abc"); err == nil {
		t.Error("a hash of another form passes")
	}
	for password, fine := range map[string]bool{
		"password1234": false, "PassWord1234": false, " qwertyuiop12 ": false, "123456789012": false, "1Q2w3e4r5t6y": false, "unbelievable": false,
		"correct horse battery": true, "password1235 is mine": true, "unbelievably": true,
		strings.Repeat("ä", 11): false, strings.Repeat("ä", 12): true, strings.Repeat("x", 256): true, strings.Repeat("x", 257): false,
		"Ada.Lovelace@example.test ": false,
	} {
		if problem := checkPassword(password, "ada.lovelace@example.test"); (problem == "") != fine {
			t.Errorf("%q: %q", password, problem)
		}
	}
}

// The list of the commonest passwords can be searched: in order, none twice, and
// none of the two ends is missed.
func TestCommonPasswords(t *testing.T) {
	if len(common)%commonSize != 0 || len(common)/commonSize < 400 {
		t.Fatalf("the list has %d bytes", len(common))
	}
	for i := commonSize; i < len(common); i += commonSize {
		if common[i-commonSize:i] >= common[i:i+commonSize] {
			t.Fatalf("entry %d is out of order", i/commonSize)
		}
	}
}

// Rows: P27. A few are checked at a time, a few wait, the rest is told so at
// once.
func TestPasswordsInLine(t *testing.T) {
	t.Parallel()
	h := newHasher()
	for range cap(h.running) {
		h.running <- struct{}{} // as if so many were being checked
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	var waiting sync.WaitGroup
	for range cap(h.waiting) {
		waiting.Go(func() {
			if _, err := h.verify(ctx, "x", ""); !errors.Is(err, context.Canceled) {
				t.Errorf("who waits and leaves: %v", err)
			}
		})
	}
	for until := time.Now().Add(10 * time.Second); len(h.waiting) < cap(h.waiting); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatalf("%d wait", len(h.waiting))
		}
	}
	patient, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	if _, err := h.verify(patient, "x", ""); !errors.Is(err, ErrBusy) {
		t.Errorf("one more: %v, want ErrBusy", err)
	}
	leave()
	waiting.Wait()
	for range cap(h.running) {
		<-h.running
	}
	if _, err := h.verify(t.Context(), "x", ""); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

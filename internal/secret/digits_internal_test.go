package secret

import (
	"bytes"
	"crypto/rand"
	"math/big"
	"strings"
	"testing"
)

// decode is the other half of encode, for every value that fits and no other.
func TestDigits(t *testing.T) {
	for zeros := range rawSize {
		raw := make([]byte, rawSize)
		rand.Read(raw[zeros:])
		if got, ok := decode(encode(raw)); !ok || !bytes.Equal(got, raw) {
			t.Fatalf("%x: %t, %x", raw, ok, got)
		}
	}
	largest := bytes.Repeat([]byte{0xff}, rawSize)
	if got, ok := decode(encode(largest)); !ok || !bytes.Equal(got, largest) {
		t.Errorf("the largest value: %t, %x", ok, got)
	}
	more := new(big.Int).Add(new(big.Int).SetBytes(largest), big.NewInt(1))
	for _, digits := range []string{more.Text(base), strings.Repeat("Z", textSize)} {
		if _, ok := decode(digits); ok {
			t.Errorf("%s fits into %d bytes", digits, rawSize)
		}
	}
	for _, c := range "/:@[`{-_+ é" {
		if _, ok := decode(string(c) + strings.Repeat("0", textSize-len(string(c)))); ok {
			t.Errorf("%q is a digit", c)
		}
	}
}

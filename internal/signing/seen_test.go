package signing_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/signing"
)

// Row: J08, O13, K01. What is remembered of a token is its signature alone: a
// token that was found right is found right again only for the same project, the
// same type, and while its key is published.
func TestSeenTokens(t *testing.T) {
	b := newBench(t, signing.ES256)
	ring := b.ring(t)
	if err := b.Ensure(t.Context(), "project-test-2", signing.ES256); err != nil {
		t.Fatal(err)
	}
	other, err := b.Ring(t.Context(), "project-test-2")
	if err != nil {
		t.Fatal(err)
	}
	text := sign(t, ring, signing.ES256, "at+jwt")
	first, err := ring.Verify(text, "at+jwt")
	if err != nil {
		t.Fatal(err)
	}
	again := func() {
		t.Helper()
		got, err := ring.Verify(text, "JWT", "at+jwt")
		if err != nil || string(got.Claims) != string(first.Claims) || got.Type != "at+jwt" || got.KeyID != first.KeyID || got.Algorithm != signing.ES256 {
			t.Errorf("seen before: %+v, %v; want %+v", got, err, first)
		}
	}
	refused := func(what string, r *signing.Ring, text string, types ...string) {
		t.Helper()
		if got, err := r.Verify(text, types...); !errors.Is(err, signing.ErrInvalid) {
			t.Errorf("%s: %+v, %v; want ErrInvalid", what, got, err)
		}
	}
	again()
	refused("as another type", ring, text, "JWT")
	refused("for another project", other, text, "at+jwt")
	refused("with another end", ring, text[:len(text)-4]+"AAAA", "at+jwt")
	for i := range 10 {
		if _, err := ring.Verify(sign(t, ring, signing.ES256, fmt.Sprint("t", i)), fmt.Sprint("t", i)); err != nil {
			t.Fatal(err)
		}
	}
	again()
	if _, err := b.Rotate(t.Context(), audit.Origin{}, project, signing.ES256, 0); err != nil {
		t.Fatal(err)
	}
	again()
	b.now = b.now.Add(100 * time.Hour)
	refused("of a retired key", ring, text, "at+jwt")
}

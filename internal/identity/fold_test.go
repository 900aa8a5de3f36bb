package identity_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/mail"
)

// Row: P21.
func TestFold(t *testing.T) {
	for given, want := range map[string]string{
		"ada@example.test":                   "ada@example.test",
		" Ada@EXAMPLE.Test\t":                "ada@example.test",
		"\u00a0ada@example.test\u2003":       "ada@example.test",
		"zoe\u0308@example.test":             "zo\u00eb@example.test", // one letter, two ways to write it
		"ZO\u00cb@example.test":              "zo\u00eb@example.test",
		"ada+notes@example.test":             "ada+notes@example.test", // where that is the same mailbox, its host says so
		"a.da@example.test":                  "a.da@example.test",
		"\uff41da@example.test":              "\uff41da@example.test", // looks alike, is another
		strings.Repeat("A", 64) + "@test":    strings.Repeat("a", 64) + "@test",
		"":                                   "",
		"STRASSE@example.test":               "strasse@example.test",
		"stra\u00dfe@example.test":           "stra\u00dfe@example.test",
		"\u0130stanbul@example.test":         "istanbul@example.test", // no mail goes there: see FuzzFold
		"ada@xn--bcher-kva.example.test":     "ada@xn--bcher-kva.example.test",
		"ada@XN--BCHER-KVA.example.test  \n": "ada@xn--bcher-kva.example.test",
	} {
		if got := identity.Fold(given); got != want {
			t.Errorf("Fold(%q) = %q, want %q", given, got, want)
		}
		if once := identity.Fold(given); identity.Fold(once) != once {
			t.Errorf("Fold(%q) is not at rest: %q", given, identity.Fold(once))
		}
	}
}

// Two spellings are one address; what mail cannot be sent to has none.
func FuzzFold(f *testing.F) {
	for _, seed := range []string{"ada@example.test", " Ada@Example.Test ", "zoe\u0308@example.test", "\u0130@x", "\xff@x", "\u212aelvin@example.test"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, email string) {
		folded := identity.Fold(email)
		if !utf8.ValidString(email) {
			return
		}
		if again := identity.Fold(folded); again != folded {
			t.Fatalf("Fold(%q) = %q, and that folds to %q", email, folded, again)
		}
		// Nobody takes over an address by a look-alike: mail goes to ASCII only,
		// and there folding is lower case and nothing else.
		trimmed := strings.TrimSpace(email)
		if mail.CheckAddress(trimmed) == nil && !strings.EqualFold(trimmed, folded) {
			t.Fatalf("Fold(%q) = %q", email, folded)
		}
	})
}

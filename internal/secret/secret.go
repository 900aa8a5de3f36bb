// Package secret makes the random texts that Postern hands out.
//
// [Secret] is an opaque secret: an authorization code, a refresh token, a
// client secret, a session. Its text carries the primary key of the row it
// belongs to and 256 random bits; the database keeps only a hash of those
// bits. [New] makes one, [Parse] takes one apart, [Secret.Matches] compares it
// with the row. Refresh tokens take the place of one another: [Secret.Next] makes
// a secret of the same row, and [Secret.InSeries] knows every one that was made
// so, though the row keeps the hash of the last alone. [NewUUID] and [NewID] make
// identifiers that ascend with time, [NewCode] the digits a person types,
// [NewTrace] the code that ties an error page to a log line.
//
// The package keeps nothing, reads no clock and knows no storage. A secret that
// a person types is not an opaque secret: its hash needs a key, which package
// signing derives.
package secret

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"math/big"
	"math/bits"
	"regexp"
	"strings"
	"time"
)

// Kind says what an opaque secret is for. It is part of the text, so that a
// secret of one kind is never taken for another, and a leaked one can be
// recognised.
type Kind string

// The kinds of opaque secrets.
const (
	AuthorizationCode Kind = "ac"
	RefreshToken      Kind = "rt"
	ClientSecret      Kind = "cs"
	HostedSession     Kind = "hs"
	AdminSession      Kind = "as" // of the dashboard
	ResourceServer    Kind = "rs"
	Registration      Kind = "rat" // registration access token, RFC 7592 §2
	WorkspaceKey      Kind = "wk"
	Setup             Kind = "setup"
	ProjectSecret     Kind = "ps" // of the compatible API and of introspection
	Flow              Kind = "fl" // binds a sign-in to one browser
	Ceremony          Kind = "ce" // binds a step of an administrator's sign-in to one browser
	SSOState          Kind = "so" // state of a sign-in that goes through an organization's own service
)

const (
	idSize     = 16 // UUIDv7
	randomSize = 32
	seriesSize = 16 // of those, what Next keeps
	sumSize    = 4  // CRC-32
	rawSize    = idSize + randomSize + sumSize

	// textSize is the number of base62 digits that rawSize bytes need at most.
	// Every text has exactly so many: one value, one spelling.
	textSize = 70
)

// Secret is an opaque secret. Printing one, by fmt, slog or encoding/json,
// shows its kind and id and never its text.
type Secret struct {
	Kind Kind   `json:"kind"`
	ID   string `json:"id"` // primary key of its row: a UUIDv7, ascending with time
	// Text is what the holder gets, once: "pst_", kind, "_", 70 base62 digits.
	Text string `json:"-"`
	// Hash is the SHA-256 of the random part: what the row keeps.
	Hash [sha256.Size]byte `json:"-"`

	body [idSize + randomSize]byte
}

// New makes a secret whose id is of the moment now.
func New(kind Kind, now time.Time) Secret {
	var body [idSize + randomSize]byte
	id := newUUID(now)
	copy(body[:], id[:])
	rand.Read(body[idSize:]) // never fails: crypto/rand ends the program instead
	return of(kind, body)
}

// of makes the secret of an id and its random bits.
func of(kind Kind, body [idSize + randomSize]byte) Secret {
	raw := binary.BigEndian.AppendUint32(body[:], checksum(kind, body[:]))
	return Secret{
		Kind: kind,
		ID:   formatUUID([idSize]byte(body[:idSize])),
		Text: prefix(kind) + encode(raw),
		Hash: sha256.Sum256(body[idSize:]),
		body: body,
	}
}

// Next makes the secret that takes the place of s: its kind, id and series stay,
// 128 of its random bits are new.
func (s Secret) Next() Secret {
	body := s.body
	rand.Read(body[idSize+seriesSize:])
	return of(s.Kind, body)
}

// Series is the SHA-256 of the 128 random bits that s has in common with those
// before it and after it: what the row keeps to know them all.
func (s Secret) Series() []byte {
	hash := sha256.Sum256(s.body[idSize : idSize+seriesSize])
	return hash[:]
}

// InSeries tells whether stored, the series kept in the row, is this secret's.
// Who holds one that is, and whose hash is not the row's, holds one of before:
// nobody else knows the series.
func (s Secret) InSeries(stored []byte) bool {
	return subtle.ConstantTimeCompare(s.Series(), stored) == 1
}

// Parse takes apart a text that should be a secret of the given kind. It
// accepts exactly the texts that New makes: a text that was cut, extended,
// changed in case or padded with blanks is not one. A text it accepts is well
// formed, not valid: look its ID up and compare with Matches.
func Parse(kind Kind, text string) (Secret, bool) {
	digits, found := strings.CutPrefix(text, prefix(kind))
	if !found || len(digits) != textSize {
		return Secret{}, false
	}
	raw, ok := decode(digits)
	if !ok {
		return Secret{}, false
	}
	body, sum := raw[:idSize+randomSize], raw[idSize+randomSize:]
	if binary.BigEndian.Uint32(sum) != checksum(kind, body) {
		return Secret{}, false
	}
	return Secret{
		Kind: kind,
		ID:   formatUUID([idSize]byte(body[:idSize])),
		Text: text,
		Hash: sha256.Sum256(body[idSize:]),
		body: [idSize + randomSize]byte(body),
	}, true
}

// Matches tells whether stored, the hash kept in the row, is this secret's. The
// time it takes does not depend on where they differ.
func (s Secret) Matches(stored []byte) bool {
	return subtle.ConstantTimeCompare(s.Hash[:], stored) == 1
}

// String returns kind and id, enough to find the row.
func (s Secret) String() string { return "secret " + string(s.Kind) + " " + s.ID }

// Format makes every verb of package fmt print String.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, s.String()) }

// LogValue makes package slog log String.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// shape is an opaque secret, whole or without its end, or a signed token.
var shape = regexp.MustCompile(`(pst_[a-z]+_)[0-9A-Za-z]{12,}|(eyJ)[\w-]{12,}(?:\.[\w-]*)*`)

// Mask cuts what has the shape of a secret of ours down to its beginning. It is
// for the words of a stranger that are kept or logged: people mix up fields, and
// send a secret where its name belongs.
func Mask(text string) string {
	if !strings.Contains(text, "pst_") && !strings.Contains(text, "eyJ") { // as good as always
		return text
	}
	return shape.ReplaceAllString(text, "${1}${2}…")
}

func prefix(kind Kind) string { return "pst_" + string(kind) + "_" }

// checksum finds typing and copying mistakes before the database is asked. It
// covers the prefix, so that one kind cannot be relabelled as another.
func checksum(kind Kind, body []byte) uint32 {
	return crc32.Update(crc32.ChecksumIEEE([]byte(prefix(kind))), crc32.IEEETable, body)
}

// The digits of base62 in the order math/big uses: 0-9, a-z, A-Z.
const base = 62

func encode(raw []byte) string {
	text := new(big.Int).SetBytes(raw).Text(base)
	return strings.Repeat("0", textSize-len(text)) + text
}

// decode reads ten digits at a time, which fit into a word: every request brings a
// secret, and math/big takes each digit by itself.
func decode(digits string) ([]byte, bool) {
	const ten = 839299365868340224 // 62^10
	var number [7]uint64           // the least significant word first
	for ; digits != ""; digits = digits[10:] {
		carry := uint64(0)
		for _, c := range []byte(digits[:10]) {
			switch {
			case '0' <= c && c <= '9':
				c -= '0'
			case 'a' <= c && c <= 'z':
				c -= 'a' - 10
			case 'A' <= c && c <= 'Z':
				c -= 'A' - 36
			default:
				return nil, false
			}
			carry = carry*base + uint64(c)
		}
		for i, word := range number {
			high, low := bits.Mul64(word, ten)
			sum, over := bits.Add64(low, carry, 0)
			number[i], carry = sum, high+over
		}
	}
	if number[6]>>32 != 0 {
		return nil, false // more than rawSize bytes
	}
	raw := binary.BigEndian.AppendUint32(make([]byte, 0, rawSize), uint32(number[6]))
	for i := 5; i >= 0; i-- {
		raw = binary.BigEndian.AppendUint64(raw, number[i])
	}
	return raw, true
}

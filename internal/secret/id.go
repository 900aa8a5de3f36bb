package secret

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// NewUUID returns a UUIDv7 of the moment now, in its text form (RFC 9562 §5.7).
// Identifiers made later sort later, to about a quarter of a microsecond.
func NewUUID(now time.Time) string { return formatUUID(newUUID(now)) }

// FirstUUID returns a text at or before every UUIDv7 of the moment at or a later
// one, and after those of earlier ones.
func FirstUUID(at time.Time) string {
	id := newUUID(at)
	clear(id[8:])
	return formatUUID(id)
}

// TimeOf returns the moment of a UUIDv7, to the millisecond, or the zero time
// when id is none.
func TimeOf(id string) time.Time {
	head := strings.ReplaceAll(id, "-", "")
	if len(head) != 2*idSize {
		return time.Time{}
	}
	millis, err := strconv.ParseInt(head[:12], 16, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(millis).UTC()
}

// NewID returns an identifier in the form the compatible API expects, for
// example NewID(now, "user", "test") = "user-test-0193…". env is "test" or
// "live".
func NewID(now time.Time, kind, env string) string {
	return kind + "-" + env + "-" + NewUUID(now)
}

func newUUID(now time.Time) [idSize]byte {
	var id [idSize]byte
	rand.Read(id[:]) // never fails: crypto/rand ends the program instead
	millis := uint64(now.UnixMilli())
	binary.BigEndian.PutUint16(id[0:], uint16(millis>>32))
	binary.BigEndian.PutUint32(id[2:], uint32(millis))
	// The fraction of the millisecond in twelve bits keeps identifiers in order
	// inside it (RFC 9562 §6.2, method 3).
	fraction := uint16(now.Nanosecond() % 1e6 * 4096 / 1e6)
	binary.BigEndian.PutUint16(id[6:], 7<<12|fraction)
	id[8] = id[8]&0x3f | 0x80 // variant
	return id
}

func formatUUID(id [idSize]byte) string {
	h := hex.EncodeToString(id[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

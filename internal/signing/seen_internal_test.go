package signing

import (
	"crypto/sha256"
	"encoding/binary"
	"testing"
)

// Two generations at most are kept, and what is asked for stays.
func TestSeenIsBounded(t *testing.T) {
	var s seen
	hash := func(i int) [sha256.Size]byte {
		return sha256.Sum256(binary.BigEndian.AppendUint32(nil, uint32(i)))
	}
	for i := range 5 * maxSeen {
		s.put(hash(i), Token{KeyID: "k"})
		if len(s.young)+len(s.old) > 2*maxSeen {
			t.Fatalf("%d and %d tokens are kept", len(s.young), len(s.old))
		}
		if _, ok := s.get(hash(7)); i >= 7 && !ok {
			t.Fatalf("what is asked for all the time is gone after %d", i)
		}
	}
	if _, ok := s.get(hash(0)); ok {
		t.Error("nothing is forgotten")
	}
	if _, ok := s.get(hash(5*maxSeen - 1)); !ok {
		t.Error("the newest is not there")
	}
}

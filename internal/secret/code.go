package secret

import "crypto/rand"

// NewCode returns six random digits for a person to type, every value equally
// likely.
func NewCode() string { return pick("0123456789", 6) }

// NewTrace returns the code under which one request is found again, for example
// "K7F-2QX-9MD": nine characters in three groups, without the ones that are
// mistaken for each other when read aloud or copied by hand (0 O 1 I L U).
func NewTrace() string {
	s := pick("23456789ABCDEFGHJKMNPQRSTVWXYZ", 9)
	return s[:3] + "-" + s[3:6] + "-" + s[6:]
}

// pick returns n letters of the alphabet, each equally likely.
func pick(alphabet string, n int) string {
	// Bytes at or above limit are drawn again: taking them modulo the alphabet
	// would favour its first letters.
	limit := 256 - 256%len(alphabet)
	out := make([]byte, 0, n)
	var buf [16]byte
	for {
		rand.Read(buf[:])
		for _, b := range buf {
			if int(b) >= limit {
				continue
			}
			out = append(out, alphabet[int(b)%len(alphabet)])
			if len(out) == n {
				return string(out)
			}
		}
	}
}

package signing

import (
	"crypto/sha256"
	"sync"
)

// seen remembers tokens whose signature was found right, by their SHA-256: the
// same token is asked about again and again, and a signature costs more than all
// else. Whether the key is still published is asked each time.
//
// It keeps two generations: when the young one is full it becomes the old one,
// and what was old is forgotten. What is in use stays, and nothing is swept.
type seen struct {
	mu         sync.Mutex
	young, old map[[sha256.Size]byte]Token
}

// maxSeen bounds a generation. A token is about 1 KB.
const maxSeen = 4096

func (s *seen) get(hash [sha256.Size]byte) (Token, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token, ok := s.young[hash]
	if !ok {
		if token, ok = s.old[hash]; ok {
			s.keep(hash, token)
		}
	}
	return token, ok
}

func (s *seen) put(hash [sha256.Size]byte, token Token) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keep(hash, token)
}

func (s *seen) keep(hash [sha256.Size]byte, token Token) {
	if s.young == nil || len(s.young) >= maxSeen {
		s.young, s.old = map[[sha256.Size]byte]Token{}, s.young
	}
	s.young[hash] = token
}

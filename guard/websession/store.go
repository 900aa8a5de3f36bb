package websession

import (
	"crypto/sha256"
	"sync"
	"time"
)

// session is one signed-in browser.
type session struct {
	person  Person
	created time.Time

	mu      sync.Mutex // held while refreshing: whoever waits finds the new tokens
	tokens  tokens
	expires time.Time // of the access token; zero when the issuer does not say
	renewAt time.Time // when to get the next one
	ended   bool      // signed out, or refused by the issuer
}

// lives notes how long the access token lives. It is renewed in the last
// minute, or in the last quarter of a life of less than four.
func (s *session) lives(now, expires time.Time) {
	s.expires = expires
	s.renewAt = expires.Add(-min(time.Minute, expires.Sub(now)/4))
}

// store holds the sessions of this process, at most max of them, none older
// than age. It knows a session by the hash of its cookie's value, so what can
// be read here opens nothing.
type store struct {
	max int
	age time.Duration

	mu       sync.Mutex
	sessions map[[sha256.Size]byte]*session
}

func (s *store) get(value string, now time.Time) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	sess := s.sessions[sha256.Sum256([]byte(value))]
	if sess == nil || now.Sub(sess.created) >= s.age {
		return nil
	}
	return sess
}

// put adds a session. When there is no room it forgets those that are too old
// and, if none is, the oldest: that browser signs in again.
func (s *store) put(value string, sess *session, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sessions) >= s.max {
		var oldest [sha256.Size]byte
		var created time.Time
		for key, other := range s.sessions {
			if now.Sub(other.created) >= s.age {
				delete(s.sessions, key)
			} else if created.IsZero() || other.created.Before(created) {
				oldest, created = key, other.created
			}
		}
		if len(s.sessions) >= s.max {
			delete(s.sessions, oldest)
		}
	}
	s.sessions[sha256.Sum256([]byte(value))] = sess
}

// delete removes a session and returns it, or nil.
func (s *store) delete(value string) *session {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := sha256.Sum256([]byte(value))
	sess := s.sessions[key]
	delete(s.sessions, key)
	return sess
}

package web

import "testing"

// CheckLimiterSize fails where l holds more than max keys.
func CheckLimiterSize(t *testing.T, l *Limiter, max int) {
	t.Helper()
	if n := len(l.young) + len(l.old); n > max {
		t.Errorf("the limiter holds %d keys, at most %d allowed", n, max)
	}
}

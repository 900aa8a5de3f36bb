package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"log/slog"
	"net/http"
)

// CSRF makes the hidden tokens of forms. A token is bound to what it is given:
// the session, the purpose of the form, the transaction it decides. It holds
// for as long as those exist, so it is kept nowhere.
type CSRF struct{ Key [32]byte }

// Token returns the token of a form for this binding.
func (c CSRF) Token(binding ...string) string {
	return base64.RawURLEncoding.EncodeToString(c.sum(binding))
}

// Check tells whether token was made for this binding. There must be one part
// that is not empty: without a session there is nothing to protect with.
func (c CSRF) Check(token string, binding ...string) bool {
	bound := false
	for _, part := range binding {
		bound = bound || part != ""
	}
	return bound && hmac.Equal([]byte(token), []byte(c.Token(binding...)))
}

func (c CSRF) sum(binding []string) []byte {
	mac := hmac.New(sha256.New, c.Key[:])
	for _, part := range binding {
		// The length in front keeps parts from running into each other.
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part))))
		mac.Write([]byte(part))
	}
	return mac.Sum(nil)
}

// SameOrigin refuses requests that change something and come from another site,
// by Sec-Fetch-Site and Origin. It is for the routes that a cookie opens, and
// only for them: programs call the others from anywhere. refused hears of each
// one that it refuses.
func SameOrigin(refused func(r *http.Request) error, write ErrorWriter) Middleware {
	protection := http.NewCrossOriginProtection()
	return func(next http.Handler) http.Handler {
		return Handle(func(w http.ResponseWriter, r *http.Request) error {
			// Origin is compared with the host that the client wrote, not with the
			// one by which a proxy calls us.
			seen := *r
			seen.Host = Host(r)
			if err := protection.Check(&seen); err != nil {
				Note(r.Context(), slog.String("origin", cut(r.Header.Get("Origin"), 100)))
				if err := refused(r); err != nil {
					return err
				}
				return &Error{Status: http.StatusForbidden, Cause: err}
			}
			next.ServeHTTP(w, r)
			return nil
		}, write)
	}
}

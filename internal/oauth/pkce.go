package oauth

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
)

// checkChallenge accepts what S256 can make: 43 characters of base64url
// (RFC 7636 §4.2). There is no other method here; one that is left out means
// plain (RFC 7636 §4.3) and is refused like it.
func checkChallenge(challenge, method string) error {
	switch {
	case challenge == "":
		return invalidRequest("code_challenge is missing. This server requires PKCE with code_challenge_method=S256.")
	case method != "S256":
		return invalidRequest("code_challenge_method must be S256.")
	}
	if raw, err := base64.RawURLEncoding.Strict().DecodeString(challenge); err != nil || len(raw) != sha256.Size {
		return invalidRequest("code_challenge must be the 43 base64url characters of a SHA-256 digest.")
	}
	return nil
}

// verifierMatches compares a verifier with the challenge of its code
// (RFC 7636 §4.6). One that is not 43 to 128 unreserved characters never matches
// (RFC 7636 §4.1).
func verifierMatches(verifier, challenge string) bool {
	if len(verifier) < 43 || len(verifier) > 128 {
		return false
	}
	for i := range len(verifier) {
		c := verifier[i]
		if !(c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~') {
			return false
		}
	}
	sum := sha256.Sum256([]byte(verifier))
	got := base64.RawURLEncoding.EncodeToString(sum[:])
	return subtle.ConstantTimeCompare([]byte(got), []byte(challenge)) == 1
}

package signin

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"fmt"
	"image/color"
	"net/url"
	"strings"
	"time"

	"github.com/boombuler/barcode/qr"
	"github.com/pquerna/otp/hotp"
)

// totpPeriod is how long a code of an authenticator app is shown (RFC 6238
// §5.2).
const totpPeriod = 30

// TOTP is what an authenticator app is told.
type TOTP struct {
	Secret string // base32, in groups of four, for who types it
	URI    string // otpauth://totp/…
	Size   int    // of the QR code, in modules
	Path   string // its dark modules, as the path of an SVG
}

// newTOTPSecret returns 160 random bits in base32, as RFC 4226 §4 recommends.
func newTOTPSecret() string {
	raw := make([]byte, 20)
	rand.Read(raw) // never fails: crypto/rand ends the program instead
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw)
}

// newTOTP shows a secret. email is "" for somebody who has not named themselves.
func newTOTP(key, deployment, email string) (TOTP, error) {
	u, err := url.Parse(deployment)
	if err != nil {
		return TOTP{}, fmt.Errorf("signin: read URL: %w", err)
	}
	if email == "" {
		email = "administrator"
	}
	issuer := "Postern " + u.Host
	// Authenticator apps differ in how they read "+" and an escaped colon.
	label := strings.ReplaceAll(issuer, ":", " ") + ":" + email
	t := TOTP{URI: (&url.URL{Scheme: "otpauth", Host: "totp", Path: "/" + label}).String() +
		"?secret=" + key + "&issuer=" + url.PathEscape(strings.ReplaceAll(issuer, ":", " "))}
	for i := 0; i < len(key); i += 4 {
		t.Secret += key[i:min(i+4, len(key))] + " "
	}
	t.Secret = strings.TrimSpace(t.Secret)
	code, err := qr.Encode(t.URI, qr.L, qr.Auto)
	if err != nil {
		return TOTP{}, fmt.Errorf("signin: draw QR code: %w", err)
	}
	var path strings.Builder
	t.Size = code.Bounds().Dx()
	for y := range t.Size {
		for x := range t.Size {
			if code.At(x, y) == color.Black {
				fmt.Fprintf(&path, "M%d %dh1v1h-1z", x, y)
			}
		}
	}
	t.Path = path.String()
	return t, nil
}

// LastCodeStep is the last time step whose code checkCode takes at a moment.
func LastCodeStep(now time.Time) int64 { return now.Unix()/totpPeriod + 1 }

// checkCode finds the time step of a code, one early or late allowed. A step up
// to last was used, and is refused (RFC 6238 §5.2).
func checkCode(key, code string, now time.Time, last int64) (step int64, ok bool) {
	digits := strings.Map(func(c rune) rune {
		if c == ' ' || c == '-' || c == '\u00a0' {
			return -1
		}
		return c
	}, code)
	current := now.Unix() / totpPeriod
	for s := current - 1; s <= LastCodeStep(now); s++ {
		want, err := hotp.GenerateCode(key, uint64(s))
		if err == nil && s > last && subtle.ConstantTimeCompare([]byte(want), []byte(digits)) == 1 {
			return s, true
		}
	}
	return 0, false
}

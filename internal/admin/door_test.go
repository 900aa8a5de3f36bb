package admin_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/descope/virtualwebauthn"
	"github.com/pquerna/otp/totp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/servertest"
)

const long = servertest.AdministratorPassword

// firstLink makes the link that serve prints.
func firstLink(t *testing.T, s *servertest.Server) string {
	t.Helper()
	key, err := identity.NewAdministrators(s.Store, s.Clock.Now).FirstLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return key.Text
}

// open gives a link to the setup page, as its script does.
func open(t *testing.T, b *servertest.Browser, link string) servertest.Page {
	t.Helper()
	return b.Submit(t, b.Get(t, "/dashboard/setup"), "link", url.Values{"link": {link}})
}

func code(t *testing.T, secret string, at time.Time) string {
	t.Helper()
	text, err := totp.GenerateCode(secret, at)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// claim makes the first administrator with a password, and returns the secret of
// their authenticator.
func claim(t *testing.T, s *servertest.Server, b *servertest.Browser) string {
	t.Helper()
	return b.Claim(t, firstLink(t, s), "Ada@example.test", s.Clock.Now())
}

func signIn(t *testing.T, b *servertest.Browser, email, password, code string) servertest.Page {
	t.Helper()
	return b.Submit(t, b.Get(t, "/dashboard/sign-in"), "password", url.Values{"email": {email}, "password": {password}, "code": {code}})
}

func signedIn(t *testing.T, b *servertest.Browser) bool {
	t.Helper()
	return b.Get(t, "/dashboard/you").URL.Path == "/dashboard/you"
}

// Rows: D01. Without the right link nobody becomes an administrator; the fifth
// wrong secret ends it.
func TestSetupNeedsTheLink(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	link := firstLink(t, s)
	b := s.Browser(t)
	if p := b.Post(t, "/dashboard/setup", url.Values{"email": {"eve@example.test"}, "password": {long}, "code": {"123456"}}); p.Status != http.StatusForbidden {
		t.Errorf("no link at all: %d", p.Status)
	}
	other := firstLink(t, s) // replaces the one above
	for name, wrong := range map[string]string{"of before": link, "cut": other[:40], "nonsense": "pst_setup_x", "of another kind": strings.Replace(other, "setup", "wk", 1)} {
		if p := open(t, b, wrong); p.Status != http.StatusForbidden || !strings.Contains(p.Body, "This link does not work") {
			t.Errorf("%s: %d", name, p.Status)
		}
	}
	if p := open(t, b, other); p.Status != http.StatusOK {
		t.Fatalf("the link itself: %d", p.Status)
	}
	p := open(t, b, other) // opening does not use it up
	s.Clock.Advance(24*time.Hour + time.Second)
	if p := open(t, b, other); p.Status != http.StatusForbidden {
		t.Errorf("a day later: %d", p.Status)
	}
	if p = b.Submit(t, p, "password", url.Values{"email": {"ada@example.test"}, "password": {long}, "code": {"1"}}); p.Status != http.StatusForbidden {
		t.Errorf("an answer a day later: %d", p.Status)
	}
}

// Rows: D01. The id of a link with another secret is refused, and the fifth such
// try ends the link.
func TestWrongSecretEndsTheLink(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	now := s.Clock.Now()
	guess, right := secret.New(secret.Setup, now), secret.New(secret.Setup, now)
	l := identity.AdministratorLink{ID: guess.ID, SecretHash: right.Hash[:], CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
	if err := s.Store.KeepAdministratorLink(t.Context(), l, audit.Event{At: now, Kind: audit.AdministratorInvited}); err != nil {
		t.Fatal(err)
	}
	b := s.Browser(t)
	for try := range identity.LinkTries {
		if _, err := s.Store.AdministratorLink(t.Context(), l.ID, now); err != nil {
			t.Fatalf("before try %d: %v", try+1, err)
		}
		if p := open(t, b, guess.Text); p.Status != http.StatusForbidden {
			t.Errorf("try %d: %d", try+1, p.Status)
		}
	}
	if _, err := s.Store.AdministratorLink(t.Context(), l.ID, now); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("after five tries: %v, want ErrNotFound", err)
	}
}

// Nothing is kept before the code of the app is right; the secret stays the same
// through mistakes; the link is used up by the first success.
func TestSetupWithPassword(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	b, link := s.Browser(t), firstLink(t, s)
	p := open(t, b, link)
	secret := p.TOTPSecret(t)
	right := code(t, secret, s.Clock.Now())
	for _, wrong := range []struct{ name, email, password, code, says string }{
		{"no address", "nobody", long, right, "Enter an e-mail address"},
		{"a short password", "ada@example.test", "short", right, "at least 12 characters"},
		{"a common password", "ada@example.test", "Password1234", right, "one of the commonest"},
		{"the address as password", "ada@example.test", "ADA@example.test", right, "not your address"},
		{"a wrong code", "ada@example.test", long, "000000", "does not match"},
		{"no way at all", "ada@example.test", "", "", "at least 12 characters"},
	} {
		p = b.Submit(t, p, "password", url.Values{"email": {wrong.email}, "password": {wrong.password}, "code": {wrong.code}})
		if p.Status != http.StatusUnprocessableEntity || !strings.Contains(p.Body, wrong.says) || p.TOTPSecret(t) != secret {
			t.Errorf("%s: %d, want 422 with %q and the same secret", wrong.name, p.Status, wrong.says)
		}
		if signedIn(t, b) {
			t.Fatalf("%s: signed in", wrong.name)
		}
	}
	p = b.Submit(t, p, "password", url.Values{"email": {"ada@example.test"}, "password": {long}, "code": {right}})
	if p.Status != http.StatusOK || !signedIn(t, b) {
		t.Fatalf("the right answer: %d at %s\n%s", p.Status, p.URL, p.Body)
	}
	if p := open(t, s.Browser(t), link); p.Status != http.StatusForbidden {
		t.Errorf("the link again: %d", p.Status)
	}
}

// Rows: P15, P16, P18, P21. Address, password and code are asked at once, one
// refusal for all that is wrong; a used code, and one two steps off, is wrong.
func TestSignInWithPassword(t *testing.T) {
	t.Parallel()
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		s := servertest.New(t, c)
		b := s.Browser(t)
		secret := claim(t, s, b)
		used := code(t, secret, s.Clock.Now())
		fresh := s.Browser(t)
		var first string
		for _, wrong := range []struct {
			name, email, password string
			off                   time.Duration // of the code
			code                  string        // instead of the one that is off
		}{
			{"the code of the setup", "ada@example.test", long, 0, used},
			{"an unknown address", "eve@example.test", long, 0, ""},
			{"a wrong password", "ada@example.test", long + "!", 0, ""},
			{"no password", "ada@example.test", "", 0, ""},
			{"a wrong code", "ada@example.test", long, 0, "000000"},
			{"two steps early", "ada@example.test", long, time.Minute, ""},
			{"two steps late", "ada@example.test", long, -time.Minute, ""},
		} {
			if wrong.code == "" {
				wrong.code = code(t, secret, s.Clock.Now().Add(wrong.off))
			}
			p := signIn(t, fresh, wrong.email, wrong.password, wrong.code)
			said := regexp.MustCompile(`id="problem">.*?</p>`).FindString(p.Body)
			if first == "" {
				first = said
			}
			if p.Status != http.StatusForbidden || said == "" || said != first {
				t.Errorf("%s: %d %s, want 403 %s", wrong.name, p.Status, said, first)
			}
			if wrong.name == "a wrong code" {
				s.Clock.Advance(5 * time.Minute) // five a minute
			}
		}
		s.Clock.Advance(20 * time.Minute)
		now := s.Clock.Now()
		if p := signIn(t, fresh, " ADA@example.test ", long, code(t, secret, now)); p.Status != http.StatusOK || !signedIn(t, fresh) {
			t.Fatalf("the right answer: %d at %s", p.Status, p.URL)
		}
		if p := signIn(t, s.Browser(t), "ada@example.test", long, code(t, secret, now)); p.Status != http.StatusForbidden {
			t.Errorf("the same code again: %d", p.Status)
		}
		if p := signIn(t, s.Browser(t), "ada@example.test", long, code(t, secret, now.Add(-30*time.Second))); p.Status != http.StatusForbidden {
			t.Errorf("an older code that nobody used: %d", p.Status)
		}
		if p := signIn(t, s.Browser(t), "ada@example.test", long, code(t, secret, now.Add(30*time.Second))); p.Status != http.StatusOK {
			t.Errorf("the next code: %d", p.Status)
		}
	})
}

// Rows: P17, P25, P26. Tries are counted, whatever browser they come from.
func TestSignInTriesAreCounted(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	secret := claim(t, s, s.Browser(t))
	for i := range 5 {
		if p := signIn(t, s.Browser(t), "ada@example.test", "wrong wrong wrong", "1"); p.Status != http.StatusForbidden {
			t.Fatalf("try %d: %d", i, p.Status)
		}
	}
	if p := signIn(t, s.Browser(t), "bob@example.test", "wrong wrong wrong", "1"); p.Status != http.StatusTooManyRequests {
		t.Errorf("the sixth of this network in a minute: %d", p.Status)
	}
	s.Clock.Advance(time.Minute)
	for range 5 {
		signIn(t, s.Browser(t), "ADA@example.test", "wrong wrong wrong", "1")
	}
	s.Clock.Advance(time.Minute)
	if p := signIn(t, s.Browser(t), "ada@example.test", long, code(t, secret, s.Clock.Now())); p.Status != http.StatusTooManyRequests {
		t.Errorf("the eleventh for this address: %d", p.Status)
	}
	s.Clock.Advance(15 * time.Minute)
	if p := signIn(t, s.Browser(t), "ada@example.test", long, code(t, secret, s.Clock.Now())); p.Status != http.StatusOK {
		t.Errorf("a quarter of an hour later: %d", p.Status)
	}
	// Whoever has the password gets ten wrong codes a day, from wherever.
	for range 2 {
		for range 5 {
			signIn(t, s.Browser(t), "ada@example.test", long, "000000")
		}
		s.Clock.Advance(16 * time.Minute)
	}
	if p := signIn(t, s.Browser(t), "ada@example.test", long, code(t, secret, s.Clock.Now())); p.Status != http.StatusForbidden {
		t.Errorf("after ten wrong codes: %d", p.Status)
	}
	s.Clock.Advance(24 * time.Hour)
	if p := signIn(t, s.Browser(t), "ada@example.test", long, code(t, secret, s.Clock.Now())); p.Status != http.StatusOK {
		t.Errorf("the day after: %d", p.Status)
	}
}

// device is an authenticator with its owner before it.
type device struct {
	rp   virtualwebauthn.RelyingParty
	auth virtualwebauthn.Authenticator
	key  virtualwebauthn.Credential
}

func newDevice(s *servertest.Server) *device {
	return &device{
		rp:   virtualwebauthn.RelyingParty{ID: "localhost", Name: "Postern", Origin: s.Issuer},
		auth: virtualwebauthn.NewAuthenticator(),
		key:  newPasskey(),
	}
}

// newPasskey makes a key whose coordinates are of full length: one in 128 has a
// shorter one, which the library would write as it is and a real device with zeros
// before it (RFC 9053 §7.1.1).
func newPasskey() virtualwebauthn.Credential {
	for {
		const whole = 77 // bytes of such a key in CBOR
		key := virtualwebauthn.NewCredential(virtualwebauthn.KeyTypeEC2)
		if len(key.Key.AttestationData()) == whole {
			return key
		}
	}
}

var optionsOf = regexp.MustCompile(`data-options="([^"]+)"`)

// make answers the options of a page.
func (d *device) make(t *testing.T, p servertest.Page) string {
	t.Helper()
	m := optionsOf.FindStringSubmatch(p.Body)
	if m == nil {
		t.Fatalf("no options on the page (%d):\n%s", p.Status, p.Body)
	}
	text := unescape(m[1])
	options, err := virtualwebauthn.ParseAttestationOptions(`{"publicKey":` + text + `}`)
	if err != nil {
		t.Fatal(err)
	}
	d.auth.Options.UserHandle = []byte(options.UserID)
	return virtualwebauthn.CreateAttestationResponse(d.rp, d.auth, d.key, *options)
}

// use answers a challenge.
func (d *device) use(t *testing.T, challenge string) string {
	t.Helper()
	options, err := virtualwebauthn.ParseAssertionOptions(`{"publicKey":` + challenge + `}`)
	if err != nil {
		t.Fatal(err)
	}
	d.key.Counter++
	return virtualwebauthn.CreateAssertionResponse(d.rp, d.auth, d.key, *options)
}

func unescape(s string) string {
	return strings.NewReplacer("&#34;", `"`, "&#43;", "+", "&amp;", "&", "&#39;", "'").Replace(s)
}

// claimWith makes the first administrator with a passkey.
func claimWith(t *testing.T, s *servertest.Server, b *servertest.Browser) *device {
	t.Helper()
	d := newDevice(s)
	p := open(t, b, firstLink(t, s))
	p = b.Submit(t, p, "passkey", url.Values{"email": {"ada@example.test"}, "passkey": {d.make(t, p)}})
	if p.Status != http.StatusOK || !signedIn(t, b) {
		t.Fatalf("after the first link: %d at %s\n%s", p.Status, p.URL, p.Body)
	}
	return d
}

func (d *device) signIn(t *testing.T, b *servertest.Browser, change func(*device)) servertest.Page {
	t.Helper()
	challenge := b.Post(t, "/dashboard/sign-in/challenge", nil)
	if challenge.Status != http.StatusOK {
		t.Fatalf("challenge: %d", challenge.Status)
	}
	if change != nil {
		change(d)
	}
	return b.Post(t, "/dashboard/sign-in", url.Values{"passkey": {d.use(t, challenge.Body)}, "next": {"/dashboard/you"}})
}

func TestSignInWithPasskey(t *testing.T) {
	t.Parallel()
	servertest.Each(t, func(t *testing.T, c servertest.Config) {
		s := servertest.New(t, c)
		b := s.Browser(t)
		d := claimWith(t, s, b)
		you := b.Get(t, "/dashboard/you")
		if p := b.Submit(t, you, "csrf", nil); p.Status == 0 {
			t.Fatal("no form")
		}
		fresh := s.Browser(t)
		for range 2 {
			if p := d.signIn(t, fresh, nil); p.Status != http.StatusOK || p.URL.Path != "/dashboard/you" {
				t.Fatalf("%d at %s\n%s", p.Status, p.URL, p.Body)
			}
		}
	})
}

// Rows: W01, W02, W03, W04, W05, W12.
func TestPasskeysThatAreRefused(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	d := claimWith(t, s, s.Browser(t))
	refused := func(name string, p servertest.Page, b *servertest.Browser) {
		t.Helper()
		if p.Status != http.StatusForbidden || signedIn(t, b) {
			t.Errorf("%s: %d", name, p.Status)
		}
	}
	for name, change := range map[string]func(*device){
		"another origin":                  func(d *device) { d.rp.Origin = "http://evil.example.test" },
		"another port":                    func(d *device) { d.rp.Origin = "http://localhost:1" },
		"another relying party":           func(d *device) { d.rp.ID = "example.test" },
		"nobody was asked":                func(d *device) { d.auth.Options.UserNotVerified = true },
		"another person's handle":         func(d *device) { d.auth.Options.UserHandle = []byte("administrator-x") },
		"an unknown passkey":              func(d *device) { d.key = newPasskey() },
		"a copy, whose counter went back": func(d *device) { d.key.Counter = 0; d.signIn(t, s.Browser(t), nil); d.key.Counter = 0 },
	} {
		copied, b := *d, s.Browser(t)
		refused(name, copied.signIn(t, b, change), b)
		d.key.Counter = max(d.key.Counter, copied.key.Counter)
	}

	b := s.Browser(t)
	challenge := b.Post(t, "/dashboard/sign-in/challenge", nil).Body
	given := d.use(t, challenge)
	other := s.Browser(t)
	other.Post(t, "/dashboard/sign-in/challenge", nil)
	refused("a challenge of another browser", other.Post(t, "/dashboard/sign-in", url.Values{"passkey": {given}}), other)
	if p := b.Post(t, "/dashboard/sign-in", url.Values{"passkey": {given}}); p.Status != http.StatusOK {
		t.Fatalf("the right one: %d\n%s", p.Status, p.Body)
	}
	again := s.Browser(t)
	again.Client.Jar = b.Client.Jar
	if p := again.Post(t, "/dashboard/sign-in", url.Values{"passkey": {given}}); p.Status != http.StatusForbidden {
		t.Errorf("the same answer again: %d", p.Status)
	}

	late := s.Browser(t)
	challenge = late.Post(t, "/dashboard/sign-in/challenge", nil).Body
	s.Clock.Advance(5*time.Minute + time.Second)
	refused("five minutes later", late.Post(t, "/dashboard/sign-in", url.Values{"passkey": {d.use(t, challenge)}}), late)

	for name, bytes := range map[string]string{"no JSON": "{", "empty": "{}", "a bomb": strings.Repeat("[", 20000)} {
		b := s.Browser(t)
		b.Post(t, "/dashboard/sign-in/challenge", nil)
		refused(name, b.Post(t, "/dashboard/sign-in", url.Values{"passkey": {bytes}}), b)
	}
}

// Rows: P30, W07, W08. Ways are added and removed only right after a sign-in,
// and the last one stays.
func TestOwnWaysToSignIn(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	b := s.Browser(t)
	first := claimWith(t, s, b)
	you := b.Get(t, "/dashboard/you")
	if p := b.Submit(t, you, "action", url.Values{"action": {"remove"}}); p.Status != http.StatusUnprocessableEntity || !strings.Contains(p.Body, "The only way to sign in stays") {
		t.Errorf("removing the only passkey: %d", p.Status)
	}
	add := func() servertest.Page {
		you := b.Get(t, "/dashboard/you")
		return b.Post(t, "/dashboard/you/add", url.Values{"csrf": {csrfOf(t, you)}})
	}
	second := newDevice(s)
	p := add()
	p = b.Submit(t, p, "passkey", url.Values{"name": {"Work  laptop"}, "passkey": {second.make(t, p)}})
	if p.URL.Path != "/dashboard/you" || !strings.Contains(p.Body, "You have another way to sign in") || !strings.Contains(p.Body, "Work laptop") {
		t.Fatalf("a second passkey: %d at %s\n%s", p.Status, p.URL, p.Body)
	}
	p = add()
	if p = b.Submit(t, p, "passkey", url.Values{"passkey": {first.make(t, p)}}); p.Status != http.StatusUnprocessableEntity {
		t.Errorf("a passkey that is there already: %d", p.Status)
	}
	p = add()
	secret := p.TOTPSecret(t)
	p = b.Submit(t, p, "password", url.Values{"password": {long}, "code": {code(t, secret, s.Clock.Now())}})
	if !strings.Contains(p.Body, "Password and authenticator app") {
		t.Fatalf("a password: %d at %s", p.Status, p.URL)
	}
	if p := second.signIn(t, s.Browser(t), nil); p.Status != http.StatusOK {
		t.Errorf("sign-in with the second passkey: %d", p.Status)
	}

	early := add()
	s.Clock.Advance(5 * time.Minute)
	token := csrfOf(t, b.Get(t, "/dashboard/you"))
	for name, p := range map[string]servertest.Page{
		"a removal":   b.Post(t, "/dashboard/you", url.Values{"csrf": {token}, "action": {"remove"}}),
		"a beginning": b.Post(t, "/dashboard/you/add", url.Values{"csrf": {token}}),
		"an answer":   b.Submit(t, early, "passkey", url.Values{"passkey": {newDevice(s).make(t, early)}}),
	} {
		if p.Status != http.StatusForbidden || !strings.Contains(p.Body, "Sign in again first") {
			t.Errorf("%s five minutes after the sign-in: %d", name, p.Status)
		}
	}
	first.signIn(t, b, nil)
	if p := b.Submit(t, b.Get(t, "/dashboard/you"), "action", url.Values{"action": {"remove"}}); p.Status != http.StatusOK || !strings.Contains(p.Body, "It no longer signs you in") {
		t.Errorf("a removal after a new sign-in: %d", p.Status)
	}
}

var csrfField = regexp.MustCompile(`name="csrf" value="([^"]+)"`)

func csrfOf(t *testing.T, p servertest.Page) string {
	t.Helper()
	m := csrfField.FindStringSubmatch(p.Body)
	if m == nil {
		t.Fatalf("no form on %s (%d)", p.URL, p.Status)
	}
	return m[1]
}

// Signing out, here and elsewhere.
func TestSignOut(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	b, other := s.Browser(t), s.Browser(t)
	d := claimWith(t, s, b)
	d.signIn(t, other, nil)
	token := csrfOf(t, b.Get(t, "/dashboard/you"))
	if p := b.Post(t, "/dashboard/you", url.Values{"csrf": {"x"}, "action": {"others"}}); p.Status != http.StatusForbidden || !signedIn(t, other) {
		t.Errorf("without the form's token: %d", p.Status)
	}
	if p := b.Post(t, "/dashboard/you", url.Values{"csrf": {token}, "action": {"others"}}); p.Status != http.StatusOK || signedIn(t, other) || !signedIn(t, b) {
		t.Errorf("signing out elsewhere: %d", p.Status)
	}
	if p := b.Post(t, "/dashboard/sign-out", url.Values{"csrf": {token}}); p.URL.Path != "/dashboard/sign-in" || signedIn(t, b) {
		t.Errorf("signing out here: %d at %s", p.Status, p.URL)
	}
}

// After the sign-in the browser goes to a page of the dashboard and to no other.
func TestWhereTheSignInLeads(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	b := s.Browser(t)
	for next, want := range map[string]string{
		"/dashboard/you?a=b":             "/dashboard/you?a=b",
		"":                               "/dashboard",
		"https://evil.example.test/":     "/dashboard",
		"//evil.example.test/dashboard/": "/dashboard",
		"/\\evil.example.test":           "/dashboard",
		"/dashboard/../connected-apps":   "/dashboard",
		"/dashboardx":                    "/dashboard",
		"javascript:alert(1)":            "/dashboard",
	} {
		p := b.Get(t, "/dashboard/sign-in?next="+url.QueryEscape(next))
		if !strings.Contains(p.Body, `name="next" value="`+want+`"`) {
			t.Errorf("next=%s does not become %s", next, want)
		}
	}
}

// The door that servertest opens for the tests of other pages.
func TestServertestAdministrator(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	for range 2 {
		if b := s.Administrator(t); !signedIn(t, b) {
			t.Error("servertest's administrator is not signed in")
		}
	}
}

// A wrong password of nobody takes as long as one of somebody: it is the hash that
// takes the time, and it is computed for both.
//
// Row: P20.
func TestPasswordsOfNobodyCostTheSame(t *testing.T) {
	s := servertest.New(t, servertest.Config{})
	claim(t, s, s.Browser(t))
	took := map[string][]time.Duration{}
	for range 15 {
		for _, email := range []string{"ada@example.test", "nobody@example.test"} { // in turns, so that other work slows both
			s.Clock.Advance(16 * time.Minute) // the limits of tries
			b := s.Browser(t)
			page := b.Get(t, "/dashboard/sign-in")
			begun := time.Now()
			p := b.Submit(t, page, "password", url.Values{"email": {email}, "password": {"wrong horse battery"}, "code": {"000000"}})
			took[email] = append(took[email], time.Since(begun))
			if p.Status != http.StatusForbidden {
				t.Fatalf("%s: %d", email, p.Status)
			}
		}
	}
	median := func(email string) time.Duration {
		slices.Sort(took[email])
		return took[email][len(took[email])/2]
	}
	if known, unknown := median("ada@example.test"), median("nobody@example.test"); unknown < known/3 || known < unknown/3 {
		t.Errorf("somebody's wrong password takes %s, nobody's %s", known, unknown)
	}
}

// Of a passkey nothing is believed but what its attestation object says of the
// challenge that was asked.
//
// Row: W06.
func TestPasskeysWithoutAttestation(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	b, link := s.Browser(t), firstLink(t, s)
	p := open(t, b, link)
	other := newDevice(s).make(t, open(t, s.Browser(t), link))
	object := func(text string) (whole, response map[string]any) {
		t.Helper()
		if err := json.Unmarshal([]byte(text), &whole); err != nil {
			t.Fatal(err)
		}
		return whole, whole["response"].(map[string]any)
	}
	_, others := object(other)
	for name, forge := range map[string]func(response map[string]any){
		"W06 none": func(r map[string]any) { delete(r, "attestationObject") },
		"W06 none, but the key itself": func(r map[string]any) {
			delete(r, "attestationObject")
			r["publicKey"], r["publicKeyAlgorithm"], r["authenticatorData"], r["transports"] = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE", -7, "SZYN5YgOjGh0NBcPZHZgW4_krrmihjLHmVzzuoMdl2NFAAAAAA", []string{"internal"}
		},
		"W06 an empty one":                    func(r map[string]any) { r["attestationObject"] = "" },
		"W06 an empty map":                    func(r map[string]any) { r["attestationObject"] = "oA" },
		"W06 one that is no CBOR":             func(r map[string]any) { r["attestationObject"] = "bm90IGNib3I" },
		"W06 null":                            func(r map[string]any) { r["attestationObject"] = nil },
		"W06 the answer to another challenge": func(r map[string]any) { maps.Copy(r, others) },
		"W06 the client data of another":      func(r map[string]any) { r["clientDataJSON"] = others["clientDataJSON"] },
		"W06 one without a key in it":         func(r map[string]any) { r["attestationObject"] = noKey },
		"W06 what a sign-in with it would be": func(r map[string]any) {
			r["authenticatorData"], r["signature"] = "AA", "AA"
			delete(r, "attestationObject")
		},
		"W06 client data of another ceremony":  func(r map[string]any) { r["clientDataJSON"] = "eyJ0eXBlIjoid2ViYXV0aG4uZ2V0In0" },
		"W06 no client data":                   func(r map[string]any) { delete(r, "clientDataJSON") },
		"W06 neither one nor the other thing":  func(r map[string]any) { clear(r) },
		"W06 an attestation object of objects": func(r map[string]any) { r["attestationObject"] = map[string]any{"fmt": "none"} },
	} {
		t.Run(name, func(t *testing.T) {
			b := s.Browser(t)
			p := open(t, b, link)
			whole, response := object(newDevice(s).make(t, p))
			forge(response)
			text, err := json.Marshal(whole)
			if err != nil {
				t.Fatal(err)
			}
			got := b.Submit(t, p, "passkey", url.Values{"email": {"eve@example.test"}, "passkey": {string(text)}})
			if got.Status != http.StatusUnprocessableEntity || signedIn(t, b) {
				t.Errorf("%d, signed in is %t", got.Status, signedIn(t, b))
			}
		})
	}
	if p := b.Submit(t, p, "passkey", url.Values{"email": {"ada@example.test"}, "passkey": {newDevice(s).make(t, p)}}); p.Status != http.StatusOK || !signedIn(t, b) {
		t.Errorf("a right one afterwards: %d", p.Status)
	}
}

// noKey is an attestation object of the form none whose authenticator data ends
// before a key: its flags say that the person was there and was asked.
const noKey = "o2NmbXRkbm9uZWdhdHRTdG10oGhhdXRoRGF0YVglSZYN5YgOjGh0NBcPZHZgW4_krrmihjLHmVzzuoMdl2MFAAAAAA"

// A sign-in that is older than five minutes stays old, whatever else happens in
// this browser or to this person.
//
// Row: W10.
func TestNothingElseIsAFreshSignIn(t *testing.T) {
	t.Parallel()
	s := servertest.New(t, servertest.Config{})
	b := s.Browser(t)
	d := claimWith(t, s, b)
	s.Clock.Advance(5 * time.Minute)
	stale := func(t *testing.T) {
		t.Helper()
		token := csrfOf(t, b.Get(t, "/dashboard/you"))
		for _, path := range []string{"/dashboard/you/add", "/dashboard/you"} {
			p := b.Post(t, path, url.Values{"csrf": {token}, "action": {"remove"}})
			if p.Status != http.StatusForbidden || !strings.Contains(p.Body, "Sign in again first") {
				t.Errorf("%s: %d", path, p.Status)
			}
		}
	}
	for _, c := range []struct {
		name string
		do   func(t *testing.T)
	}{
		{"W10 five minutes", func(*testing.T) {}},
		{"W10 work in the dashboard", func(t *testing.T) {
			for range 5 {
				b.Get(t, "/dashboard/projects")
			}
		}},
		{"W10 a challenge that nobody answered", func(t *testing.T) { b.Post(t, "/dashboard/sign-in/challenge", nil) }},
		{"W10 a wrong passkey", func(t *testing.T) {
			copied := *d
			copied.signIn(t, b, func(d *device) { d.key = newPasskey() })
		}},
		{"W10 a passkey without its owner", func(t *testing.T) {
			copied := *d
			copied.signIn(t, b, func(d *device) { d.auth.Options.UserNotVerified = true })
		}},
		{"W10 a password", func(t *testing.T) {
			b.Post(t, "/dashboard/sign-in", url.Values{"email": {"ada@example.test"}, "password": {long}, "code": {"000000"}})
		}},
		{"W10 the same person in another browser", func(t *testing.T) {
			other := s.Browser(t)
			if p := d.signIn(t, other, nil); p.Status != http.StatusOK || !signedIn(t, other) {
				t.Fatalf("%d", p.Status)
			}
		}},
		{"W10 the same person as a user of the project", func(t *testing.T) {
			if p := b.SignIn(t, b.Get(t, "/login"), "ada@example.test"); p.Status != http.StatusOK {
				t.Fatalf("%d", p.Status)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.do(t)
			stale(t)
		})
	}
	d.signIn(t, b, nil)
	token := csrfOf(t, b.Get(t, "/dashboard/you"))
	if p := b.Post(t, "/dashboard/you/add", url.Values{"csrf": {token}}); p.Status != http.StatusOK {
		t.Errorf("after a new sign-in: %d", p.Status)
	}
}

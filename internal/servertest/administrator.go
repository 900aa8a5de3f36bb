package servertest

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/secret"
)

// AdministratorEmail is the address of the first administrator that
// Administrator makes.
const AdministratorEmail = "edda@example.test"

// Administrator is a browser that is signed in to the dashboard: by the first
// link of an unclaimed deployment, else by an invitation of a further
// administrator, <uuid>.edda@example.test. It goes through the operations
// behind the pages, not through the pages.
func (s *Server) Administrator(t testing.TB) *Browser {
	t.Helper()
	ctx, now := t.Context(), s.Clock.Now()
	administrators := identity.NewAdministrators(s.Store, s.Clock.Now)
	claimed, err := s.Store.Claimed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	id := secret.NewUUID(now)
	who := identity.Administrator{ID: "administrator-" + id, Email: AdministratorEmail, CreatedAt: now}
	var link secret.Secret
	if claimed {
		who.Email = id + "." + AdministratorEmail
		link, err = administrators.Invite(ctx, who.Email)
	} else {
		link, err = administrators.FirstLink(ctx)
	}
	if err != nil {
		t.Fatal(err)
	}
	cookie := secret.New(secret.AdminSession, now)
	proof := identity.Proof{Passkey: &identity.Passkey{ID: id, AdministratorID: who.ID, Name: "Passkey", Credential: "{}", CreatedAt: now}}
	session := identity.AdministratorSession{
		ID: cookie.ID, AdministratorID: who.ID, SecretHash: cookie.Hash[:], Address: "127.0.0.1",
		CreatedAt: now, LastSeenAt: now, IdleExpiresAt: now.Add(15 * time.Minute), ExpiresAt: now.Add(8 * time.Hour),
	}
	e := audit.Event{At: now, Kind: audit.AdministratorCreated, Actor: who.Email, Object: who.ID}
	if err := s.Store.AcceptAdministratorLink(ctx, link.ID, who, proof, session, e); err != nil {
		t.Fatal(err)
	}
	b := s.Browser(t)
	deployment, err := url.Parse(s.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	// The name that package admin gives it on plain http.
	b.Client.Jar.SetCookies(deployment, []*http.Cookie{{Name: "postern-dashboard", Value: cookie.Text, Path: "/"}})
	return b
}

// AdministratorPassword is the password that Claim gives.
const AdministratorPassword = "correct horse battery"

var totpSecret = regexp.MustCompile(`id="totp-secret">([A-Z2-7 ]+)<`)

// TOTPSecret is the secret that a page of the dashboard tells the authenticator
// app.
func (p Page) TOTPSecret(t testing.TB) string {
	t.Helper()
	m := totpSecret.FindStringSubmatch(p.Body)
	if m == nil {
		t.Fatalf("the page %s (%d) shows no secret:\n%s", p.URL, p.Status, p.Body)
	}
	return strings.ReplaceAll(m[1], " ", "")
}

// Claim goes through the pages of a one-time link, given by its secret, with a
// password and an authenticator app whose clock shows at. It returns the
// authenticator's secret.
func (b *Browser) Claim(t testing.TB, link, email string, at time.Time) string {
	t.Helper()
	p := b.Submit(t, b.Get(t, "/dashboard/setup"), "link", url.Values{"link": {link}})
	key := p.TOTPSecret(t)
	code, err := totp.GenerateCode(key, at)
	if err != nil {
		t.Fatal(err)
	}
	answer := url.Values{"password": {AdministratorPassword}, "code": {code}}
	if strings.Contains(p.Body, `name="email"`) { // an invitation has it already
		answer.Set("email", email)
	}
	p = b.Submit(t, p, "password", answer)
	if p.Status != http.StatusOK || strings.HasPrefix(p.URL.Path, "/dashboard/setup") {
		t.Fatalf("after the one-time link: %d at %s\n%s", p.Status, p.URL, p.Body)
	}
	return key
}

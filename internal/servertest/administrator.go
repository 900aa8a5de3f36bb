package servertest

import (
	"net/http"
	"net/url"
	"testing"
	"time"

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
	claimed, err := administrators.Claimed(ctx)
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
		CreatedAt: now, LastSeenAt: now, IdleExpiresAt: now.Add(2 * time.Hour), ExpiresAt: now.Add(12 * time.Hour),
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

package identity_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/servertest"
)

// people are the people of a whole server, who sign in on its pages.
func people(t *testing.T) (*servertest.Server, *identity.People) {
	t.Helper()
	s := servertest.New(t, servertest.Config{})
	p, err := identity.New(identity.Config{Store: s.Store, Now: s.Clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	return s, p
}

// signIn signs somebody in and returns the secret of the session's cookie.
func signIn(t *testing.T, s *servertest.Server, email string) secret.Secret {
	t.Helper()
	b := s.Browser(t)
	page := b.SignIn(t, b.Get(t, "/login"), email)
	for _, c := range b.Client.Jar.Cookies(page.URL) {
		if given, ok := secret.Parse(secret.HostedSession, c.Value); ok {
			return given
		}
	}
	t.Fatalf("no session after sign-in: %s", page.Body)
	return secret.Secret{}
}

const idle = 12 * time.Hour

func TestNewWantsEverything(t *testing.T) {
	s := servertest.New(t, servertest.Config{})
	for name, c := range map[string]identity.Config{"Store": {Now: s.Clock.Now}, "Now": {Store: s.Store}} {
		if _, err := identity.New(c); err == nil {
			t.Errorf("New does without %s", name)
		}
	}
}

func TestSession(t *testing.T) {
	s, p := people(t)
	given := signIn(t, s, "ada@example.test")
	began := s.Clock.Now()
	ask := func(projectID string, given secret.Secret) (identity.Session, identity.User, error) {
		return p.Session(t.Context(), projectID, given.ID, given.Matches, idle)
	}
	session, user, err := ask(s.Project.ID, given)
	if err != nil || user.Email != "ada@example.test" || !user.EmailVerified || session.Subject != user.ID || !session.AuthTime().Equal(began) {
		t.Fatalf("%+v %+v %v", session, user, err)
	}
	t.Run("only with its secret, in its project", func(t *testing.T) {
		forged := secret.New(secret.HostedSession, began)
		forged.ID = given.ID
		for name, err := range map[string]error{
			"a forged secret": func() error { _, _, err := ask(s.Project.ID, forged); return err }(),
			"another project": func() error { _, _, err := ask("project-test-other", given); return err }(),
			"no session":      func() error { _, _, err := ask(s.Project.ID, secret.New(secret.HostedSession, began)); return err }(),
		} {
			if !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("use moves its end, and not in every request", func(t *testing.T) {
		s.Clock.Advance(59 * time.Second)
		if got, _, err := ask(s.Project.ID, given); err != nil || !got.LastSeenAt.Equal(began) || !got.IdleExpiresAt.Equal(began.Add(idle)) {
			t.Errorf("within a minute: %+v, %v", got, err)
		}
		s.Clock.Advance(time.Second)
		now := s.Clock.Now()
		for range 2 { // as told, and as kept
			if got, _, err := ask(s.Project.ID, given); err != nil || !got.LastSeenAt.Equal(now) || !got.IdleExpiresAt.Equal(now.Add(idle)) {
				t.Errorf("after a minute: %+v, %v", got, err)
			}
		}
	})
	t.Run("but never past its absolute end", func(t *testing.T) {
		end := began.Add(7 * 24 * time.Hour)
		for s.Clock.Now().Before(end.Add(-idle)) {
			s.Clock.Advance(11 * time.Hour)
			got, _, err := ask(s.Project.ID, given)
			if err != nil || got.IdleExpiresAt.After(end) {
				t.Fatalf("%+v, %v", got, err)
			}
		}
		s.Clock.Advance(end.Sub(s.Clock.Now()) - time.Microsecond)
		if got, _, err := ask(s.Project.ID, given); err != nil || !got.IdleExpiresAt.Equal(end) {
			t.Errorf("at its end: %+v, %v", got, err)
		}
		s.Clock.Advance(time.Microsecond)
		if _, _, err := ask(s.Project.ID, given); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("after its end: %v", err)
		}
	})
}

func TestSignOut(t *testing.T) {
	s, p := people(t)
	alive := func(given secret.Secret) bool {
		_, _, err := p.Session(t.Context(), s.Project.ID, given.ID, given.Matches, idle)
		if err != nil && !errors.Is(err, identity.ErrNotFound) {
			t.Fatal(err)
		}
		return err == nil
	}
	event := audit.Event{ProjectID: s.Project.ID, At: s.Clock.Now(), Kind: audit.SignedOut}
	var ada []secret.Secret
	for range 3 {
		ada = append(ada, signIn(t, s, "ada@example.test"))
		s.Clock.Advance(time.Minute)
	}
	bea := signIn(t, s, "bea@example.test")
	session, user, err := p.Session(t.Context(), s.Project.ID, ada[0].ID, ada[0].Matches, idle)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if err := p.SignOut(t.Context(), session, event); err != nil {
			t.Fatal(err)
		}
	}
	if alive(ada[0]) || !alive(ada[1]) || !alive(bea) {
		t.Errorf("signed out here: %t %t %t", alive(ada[0]), alive(ada[1]), alive(bea))
	}
	if n, err := p.SignOutEverywhere(t.Context(), session, event); err != nil || n != 2 {
		t.Errorf("%d sessions ended, %v", n, err)
	}
	if alive(ada[1]) || alive(ada[2]) || !alive(bea) {
		t.Error("signed out everywhere: a session of ada's lives, or bea's does not")
	}
	if _, err := p.Revoke(t.Context(), s.Project.ID, user.ID, event); err != nil {
		t.Fatal(err)
	}
	if got, err := p.User(t.Context(), s.Project.ID, user.ID); err != nil || !got.Active {
		t.Errorf("revoked: %+v, %v", got, err)
	}
	if _, err := p.Revoke(t.Context(), s.Project.ID, "user-test-nobody", event); !errors.Is(err, identity.ErrNotFound) {
		t.Errorf("revoke nobody: %v", err)
	}
}

func TestWhatIsToldOfASubject(t *testing.T) {
	s, p := people(t)
	signIn(t, s, "Ada@example.test")
	users, err := p.Users(t.Context(), s.Project.ID, "ADA", "", 10)
	if err != nil || len(users) != 1 {
		t.Fatal(users, err)
	}
	ada := users[0].ID
	for name, test := range map[string]struct {
		project, subject string
		scopes           []string
		claims           map[string]any
		active           bool
	}{
		"nothing without a scope":  {s.Project.ID, ada, []string{"openid", "profile", "read:notes"}, map[string]any{}, true},
		"the address for email":    {s.Project.ID, ada, []string{"email"}, map[string]any{"email": "Ada@example.test", "email_verified": true}, true},
		"nobody":                   {s.Project.ID, "user-test-nobody", []string{"email"}, nil, false},
		"nobody in another":        {"project-test-other", ada, []string{"email"}, nil, false},
		"nobody without a subject": {s.Project.ID, "", []string{"email"}, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			claims, active, err := p.Claims(t.Context(), test.project, test.subject, "", test.scopes)
			if err != nil || active != test.active || !cmp.Equal(claims, test.claims) {
				t.Errorf("claims %v, active %t, %v", claims, active, err)
			}
			proj := *s.Project
			proj.ID = test.project
			scopes, active, err := p.Narrow(t.Context(), &proj, test.subject, "", "", false, test.scopes)
			if err != nil || active != test.active || active && !cmp.Equal(scopes, test.scopes) || !active && scopes != nil {
				t.Errorf("scopes %v, active %t, %v", scopes, active, err)
			}
		})
	}
}

func TestAuthTime(t *testing.T) {
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	s := identity.Session{CreatedAt: at}
	if !s.AuthTime().Equal(at) {
		t.Errorf("without factors: %v", s.AuthTime())
	}
	s.Factors = []identity.Factor{{At: at.Add(time.Hour)}, {At: at.Add(time.Minute)}}
	if !s.AuthTime().Equal(at.Add(time.Hour)) {
		t.Errorf("the newest proof counts: %v", s.AuthTime())
	}
}

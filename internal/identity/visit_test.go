package identity_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/secret"
)

// visit is who a cookie says is there.
func (o *office) visit(given secret.Secret) (identity.Visit, error) {
	return o.People.Visit(context.Background(), o.Project, given.ID, given.Matches)
}

func (o *office) changeFennel(t *testing.T, change func(o *identity.Organization)) {
	t.Helper()
	_, err := o.People.ChangeOrganization(t.Context(), o.Project, o.fennel.ID, func(o *identity.Organization) error { change(o); return nil }, o.by(""))
	if err != nil {
		t.Fatal(err)
	}
}

func TestVisit(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		ada := o.add(t, "ada@example.test", identity.Invited)
		given := signIn(t, o.Server, "Ada@example.test")
		began := o.Clock.Now()
		v, err := o.visit(given)
		if err != nil || v.Member.ID != ada.ID || v.Member.Status != identity.Active || v.Organization.ID != o.fennel.ID ||
			v.Session.Subject != ada.ID || v.Session.BrowserID != v.Browser.ID || v.Browser.Email != "Ada@example.test" || !v.Browser.AuthTime().Equal(began) {
			t.Fatalf("%+v, %v", v, err)
		}
		t.Run("only with its secret, in its project", func(t *testing.T) {
			forged := secret.New(secret.HostedSession, began)
			forged.ID = given.ID
			other := *o.Project
			other.ID = "project-test-other"
			_, elsewhere := o.People.Visit(t.Context(), &other, given.ID, given.Matches)
			_, wrong := o.visit(forged)
			_, unknown := o.visit(secret.New(secret.HostedSession, began))
			// A session below the browser opens nothing by its own id.
			_, _, below := o.People.Session(t.Context(), o.Project.ID, v.Session.SecretID, func([]byte) bool { return true }, idle)
			for name, err := range map[string]error{"a forged secret": wrong, "another project": elsewhere, "no browser": unknown, "the session's own": below} {
				if !errors.Is(err, identity.ErrNotFound) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
		inside := func() bool {
			t.Helper()
			v, err := o.visit(given)
			if err != nil {
				t.Fatal(err)
			}
			return v.Session.ID != "" && v.Member.ID == ada.ID
		}
		t.Run("a suspended organization is left, and entered again when it is resumed", func(t *testing.T) {
			o.changeFennel(t, func(o *identity.Organization) { o.Active = false })
			if inside() {
				t.Error("inside a suspended organization")
			}
			o.changeFennel(t, func(o *identity.Organization) { o.Active = true })
			if !inside() {
				t.Error("not inside after it was resumed")
			}
		})
		t.Run("nobody is locked out by single sign-on that is not there", func(t *testing.T) {
			only := func(o *identity.Organization) error {
				o.Settings.Methods, o.Settings.AllowedMethods = identity.Listed, []string{identity.MethodSSO}
				return nil
			}
			var problems identity.Problems
			if _, err := o.People.ChangeOrganization(t.Context(), o.Project, o.fennel.ID, only, o.by("")); !errors.As(err, &problems) {
				t.Fatalf("got %v", err)
			}
			c := identity.Connection{
				ID: "sso-connection-test-1", ProjectID: o.Project.ID, OrganizationID: o.fennel.ID, Issuer: "https://idp.example.test",
				ClientID: "postern", SealedSecret: []byte("sealed"),
			}
			if err := o.People.CreateConnection(t.Context(), c, o.by("")); err != nil {
				t.Fatal(err)
			}
			if _, err := o.People.ChangeOrganization(t.Context(), o.Project, o.fennel.ID, only, o.by("")); !errors.As(err, &problems) {
				t.Fatalf("with one that is not active: %v", err)
			}
			c, err := o.People.Connection(t.Context(), o.Project.ID, o.fennel.ID)
			if err != nil {
				t.Fatal(err)
			}
			if err := o.People.ActivateConnection(t.Context(), c, o.by("")); err != nil {
				t.Fatal(err)
			}
		})
		t.Run("one that asks for another proof is left", func(t *testing.T) {
			o.changeFennel(t, func(o *identity.Organization) {
				o.Settings.Methods, o.Settings.AllowedMethods = identity.Listed, []string{identity.MethodSSO}
			})
			if inside() {
				t.Error("inside by the wrong proof")
			}
			if _, err := o.People.Enter(t.Context(), o.Project, v.Browser, o.fennel.ID, o.by("")); !errors.Is(err, identity.ErrMethod) {
				t.Errorf("entered: %v", err)
			}
			strict, err := o.People.Organization(t.Context(), o.Project.ID, o.fennel.ID)
			if err != nil {
				t.Fatal(err)
			}
			var problems identity.Problems
			for _, status := range []identity.MemberStatus{identity.Invited, identity.Pending} {
				if _, err := o.People.AddMember(t.Context(), o.Project, strict, identity.Member{Email: "new@contractor.test", Status: status}, o.by("")); !errors.As(err, &problems) {
					t.Errorf("somebody who can never prove the address: %v", err)
				}
			}
			strict.Settings.AllowedDomains = []string{"contractor.test"}
			if _, err := o.People.AddMember(t.Context(), o.Project, strict, identity.Member{Email: "new@contractor.test", Status: identity.Pending}, o.by("")); err != nil {
				t.Errorf("of the organization's domain: %v", err)
			}
			o.changeFennel(t, func(o *identity.Organization) { o.Settings.Methods = identity.All })
			if !inside() {
				t.Error("not inside when every proof counts")
			}
		})
		t.Run("use moves its end, and not in every request", func(t *testing.T) {
			o.Clock.Advance(59 * time.Second)
			if v, err := o.visit(given); err != nil || !v.Browser.IdleExpiresAt.Equal(began.Add(idle)) {
				t.Errorf("within a minute: %+v, %v", v.Browser, err)
			}
			o.Clock.Advance(time.Second)
			if v, err := o.visit(given); err != nil || !v.Browser.IdleExpiresAt.Equal(o.Clock.Now().Add(idle)) {
				t.Errorf("after a minute: %+v, %v", v.Browser, err)
			}
		})
		t.Run("but never past its absolute end, and the session goes with it", func(t *testing.T) {
			end := began.Add(7 * 24 * time.Hour)
			for o.Clock.Now().Before(end.Add(-idle)) {
				o.Clock.Advance(11 * time.Hour)
				if v, err := o.visit(given); err != nil || v.Session.ID == "" || v.Browser.IdleExpiresAt.After(end) {
					t.Fatalf("%+v, %v", v, err)
				}
			}
			o.Clock.Advance(end.Sub(o.Clock.Now()) - time.Microsecond)
			if !inside() {
				t.Error("not inside at its end")
			}
			o.Clock.Advance(time.Microsecond)
			if _, err := o.visit(given); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("after its end: %v", err)
			}
		})
		t.Run("who is removed is out", func(t *testing.T) {
			given := signIn(t, o.Server, "ada@example.test")
			if _, err := o.People.ChangeMember(t.Context(), o.Project, o.fennel, ada.ID, func(m *identity.Member) error { m.Status = identity.Deleted; return nil }, o.by("")); err != nil {
				t.Fatal(err)
			}
			if v, err := o.visit(given); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("%+v, %v", v, err)
			}
		})
	})
}

// Who may enter is decided by the address that was proved. Row: O02.
func TestEnterAndFound(t *testing.T) {
	eachOffice(t, func(t *testing.T, o *office) {
		v, err := o.visit(signIn(t, o.Server, "ada@example.test"))
		if err != nil || v.Session.ID != "" || v.Browser.OrganizationID != "" {
			t.Fatalf("%+v, %v", v, err)
		}
		for _, id := range []string{o.fennel.ID, "organization-test-none", ""} {
			if _, err := o.People.Enter(t.Context(), o.Project, v.Browser, id, o.by("")); !errors.Is(err, identity.ErrNotFound) {
				t.Errorf("%q: %v", id, err)
			}
		}
		for i := range identity.OrganizationsADay {
			made, err := o.People.Found(t.Context(), o.Project, v.Browser, fmt.Sprint("Works ", i), o.by(""))
			if err != nil || !slices.Equal(made.Member.Roles, []string{rbac.RoleAdmin}) || made.Organization.Settings.Provisioning || made.Browser.OrganizationID != made.Organization.ID {
				t.Fatalf("%+v, %v", made, err)
			}
		}
		if _, err := o.People.Found(t.Context(), o.Project, v.Browser, "One more", o.by("")); !errors.Is(err, identity.ErrLimited) {
			t.Errorf("one more: %v", err)
		}
		o.Clock.Advance(24 * time.Hour)
		v, err = o.visit(signIn(t, o.Server, "ada@example.test"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := o.People.Found(t.Context(), o.Project, v.Browser, "A day later", o.by("")); err != nil {
			t.Errorf("a day later: %v", err)
		}
		choices, err := o.People.Choices(t.Context(), v.Browser)
		if err != nil || len(choices) != identity.OrganizationsADay+1 || choices[0].Organization.Name != "A day later" {
			t.Errorf("%d choices, %v", len(choices), err)
		}
		if err := o.People.Leave(t.Context(), v.Browser, o.by(audit.SignedOut)); err != nil {
			t.Fatal(err)
		}
		if _, err := o.People.Enter(t.Context(), o.Project, v.Browser, choices[0].Organization.ID, o.by("")); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("entered by a browser that was left: %v", err)
		}
	})
}

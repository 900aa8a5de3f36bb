package store_test

import (
	"errors"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/store"
)

// Row: D13. The same of what is done in the dashboard, and of those who sign in to
// it: where the event cannot be kept, nothing changes.
func TestNothingInTheDashboardChangesWithoutItsEvent(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		db := open(t, c)
		w := newWorld(t, db, "auth.example.com")
		ctx, id := t.Context(), w.project.ID
		session2 := w.signIn("bea@example.test")
		r := w.resource(notes)
		must(t, db.AddResource(ctx, id, nil, r, nil, w.event(audit.ResourceAdded)))
		w.family(now, "read:notes")
		shut := w.newClient("shut")
		must(t, db.CreateClient(ctx, shut, nil, w.event(audit.ClientCreated)))
		_, err := db.BlockClient(ctx, id, shut.ID, w.event(audit.ClientBlocked))
		must(t, err)
		must(t, db.CreateWorkspaceKey(ctx, project.WorkspaceKey{ID: "key", Name: "CI", SecretHash: []byte{1}, MadeBy: audit.Operator, CreatedAt: now}, w.event(audit.WorkspaceKeyCreated)))

		fennel, quarry := w.organization("fennel", func(*identity.Organization) {}), w.organization("quarry", func(*identity.Organization) {})
		ada := w.member(fennel, "ada@example.test", "admin")
		w.member(fennel, "bea@example.test", "admin") // so that nobody is the last one
		browser := w.browser("ada@example.test")
		_, _, err = w.enter(browser, fennel.ID)
		must(t, err)
		browser.OrganizationID = fennel.ID
		d := w.decision(now, "read:notes")
		d.Grant.Subject, d.Grant.Organization, d.Code.Subject, d.Code.Organization = ada.ID, fennel.ID, ada.ID, fennel.ID
		must(t, db.Decide(ctx, d, w.event(audit.GrantAllowed)))
		connection := w.connection(fennel, true)
		second := connection
		second.ID, second.OrganizationID = secret.NewID(now, "sso-connection", "test"), quarry.ID
		flow := w.flow(now)

		o := newOffice(t, db)
		first, err := o.by.FirstLink(ctx)
		must(t, err)
		who, err := o.accept(first.ID, "kim@example.test")
		must(t, err)
		password := identity.Password{Hash: "x", TOTPSecret: []byte{1}, TOTPStep: 1}
		must(t, db.AddAdministratorProof(ctx, who.ID, inside(t, db, who.ID), identity.Proof{Password: &password}, adminEvent(audit.AdministratorChanged, who)))
		signedIn, next := session(who), password
		next.TOTPStep = 2
		must(t, db.SignInByPassword(ctx, who.ID, next, nil, signedIn, adminEvent(audit.AdministratorSignedIn, who)))
		next.TOTPStep = 3
		keys, err := db.AdministratorPasskeys(ctx, who.ID)
		if err != nil || len(keys) != 1 {
			t.Fatal(keys, err)
		}
		invited, err := o.by.Invite(ctx, "lee@example.test")
		must(t, err)
		link := func(administrator, email string) identity.AdministratorLink {
			s := secret.New(secret.Setup, now)
			return identity.AdministratorLink{ID: s.ID, SecretHash: s.Hash[:], AdministratorID: administrator, Email: email, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
		}
		limit := identity.TryLimit{Kind: "admin_refused", Key: "192.0.2.1", Count: 3, Window: time.Hour}
		lee := identity.Administrator{ID: "administrator-lee", Email: "lee@example.test", CreatedAt: now}

		check, err := db.KeepMasterKeyCheck(ctx, []byte{1})
		must(t, err)

		operations := map[string]func() error{
			"begin an epoch": func() error {
				_, err := db.BeginEpoch(ctx, audit.Event{At: now, Kind: audit.DeploymentRestored})
				return err
			},
			"replace the master key": func() error {
				_, err := db.ReplaceMasterKey(ctx, check, []byte{2}, audit.Event{At: now, Kind: audit.MasterKeyReplaced})
				return err
			},
			"block a client":   func() error { _, err := db.BlockClient(ctx, id, w.client.ID, w.event(audit.ClientBlocked)); return err },
			"unblock a client": func() error { return db.UnblockClient(ctx, id, shut.ID, w.event(audit.ClientUnblocked)) },
			"change a client": func() error {
				c := w.client
				c.BypassConsent = true
				return db.ChangeClient(ctx, c, w.client, w.event(audit.ClientChanged))
			},
			"keep a document": func() error {
				c := w.newClient("document")
				c.Creation, c.URL = oauth.Document, "https://client.example.com/oauth"
				_, err := db.SaveDocumentClient(ctx, c, nil, w.event(audit.ClientRegistered))
				return err
			},
			"take back from everybody": func() error {
				_, err := db.RevokeClientGrants(ctx, id, w.client.ID, w.event(audit.GrantRevoked))
				return err
			},
			"take back in an organization": func() error {
				_, err := db.RevokeOrganizationClient(ctx, id, fennel.ID, w.client.ID, now.Add(time.Hour), w.event(audit.GrantRevoked))
				return err
			},
			"deny": func() error {
				return db.Deny(ctx, id, flow.ID, now, w.attempt("AAA-BBB-CCC", now), w.event(audit.GrantDenied))
			},
			"refuse a request": func() error {
				return db.RefuseAttempt(ctx, w.attempt("AAA-BBB-DDD", now), w.event(audit.AuthorizeRefused), nil)
			},
			"refuse a code":   func() error { return db.RefuseToken(ctx, "", w.event(audit.TokenRefused), nil) },
			"sign a user out": func() error { _, err := db.EndSessions(ctx, id, w.user.ID, w.event(audit.SignedOut)); return err },
			"end a session": func() error {
				return db.EndSubjectSession(ctx, id, session2.User.ID, session2.Session.ID, w.event(audit.SignedOut))
			},
			"end a browser": func() error { return db.EndBrowser(ctx, id, browser.ID, w.event(audit.SignedOut)) },
			"shut a user out": func() error {
				_, err := db.SetUserActive(ctx, id, w.user.ID, false, w.event(audit.UserDeactivated))
				return err
			},
			"delete a user": func() error { return db.DeleteUser(ctx, id, w.user.ID, w.event(audit.UserDeleted)) },
			"add a member": func() error {
				return db.CreateMember(ctx, w.newMember(fennel, "zoe@example.test"), w.event(audit.MemberAdded))
			},
			"revoke a member":   func() error { _, err := db.RevokeMember(ctx, ada, w.event(audit.MemberRevoked)); return err },
			"sign a member out": func() error { _, err := db.EndMemberSessions(ctx, id, ada.ID, w.event(audit.SignedOut)); return err },
			"leave everywhere":  func() error { return db.LeaveEverywhere(ctx, ada, browser, w.event(audit.SignedOut)) },
			"go in": func() error {
				_, _, err := db.Enter(ctx, w.entry(browser, fennel.ID), w.event(audit.MemberEntered))
				return err
			},
			"go in by another service": func() error {
				_, _, err := db.EnterBySSO(ctx, w.arrival(connection, "bea@example.test"), connection.ID, "bea", w.event(audit.SignedIn))
				return err
			},
			"found an organization": func() error {
				made := fennel
				made.ID, made.Slug, made.Name = secret.NewID(now, "organization", "test"), "mallow", "Mallow"
				_, _, err := db.FoundOrganization(ctx, made, w.entry(browser, made.ID), w.event(audit.MemberEntered))
				return err
			},
			"change an organization": func() error {
				after := fennel
				after.Name = "Other"
				return db.SaveOrganization(ctx, after, w.event(audit.OrganizationChanged))
			},
			"set an organization's logo": func() error {
				return db.SaveOrganizationLogo(ctx, id, fennel.ID, []byte("logo"), w.event(audit.OrganizationChanged))
			},
			"connect an organization": func() error { return db.CreateConnection(ctx, second, w.event(audit.SSOCreated)) },
			"activate a connection":   func() error { return db.ActivateConnection(ctx, connection, w.event(audit.SSOChanged)) },
			"keep what a provider says": func() error {
				after := connection
				after.Provider.NamesItself = !after.Provider.NamesItself
				return db.SaveProvider(ctx, after, w.event(audit.SSOChanged))
			},
			"disconnect an organization": func() error { return db.DeleteConnection(ctx, connection, w.event(audit.SSODeleted)) },
			"move a resource server": func() error {
				moved := r
				moved.URI = "https://notes.example.com/v2"
				_, err := db.MoveResource(ctx, id, find(t, db, id).Change, r, moved, []string{notes}, w.event(audit.ResourceChanged))
				return err
			},
			"change the issuer": func() error {
				_, err := db.SetIssuer(ctx, id, w.project.Issuer, "https://next.example.com", w.event(audit.ProjectChanged))
				return err
			},
			"revoke a workspace key": func() error { return db.RevokeWorkspaceKey(ctx, "key", w.event(audit.WorkspaceKeyRevoked)) },
			"make a one-time link": func() error {
				return db.KeepAdministratorLink(ctx, link("", "max@example.test"), adminEvent(audit.AdministratorInvited, lee))
			},
			"use a one-time link": func() error { return o.acceptAs(invited.ID, lee) }, // AcceptAdministratorLink
			"refuse a one-time link": func() error {
				return db.RefuseAdministratorLink(ctx, invited.ID, limit, adminEvent(audit.AdministratorRefused, lee))
			},
			"refuse an administrator": func() error { return db.RefuseAdministrator(ctx, limit, adminEvent(audit.AdministratorRefused, who)) },
			"reset an administrator": func() error {
				return db.ResetAdministrator(ctx, link(who.ID, who.Email), adminEvent(audit.AdministratorInvited, who))
			},
			"remove an administrator": func() error {
				return db.RemoveAdministrator(ctx, who, true, adminEvent(audit.AdministratorRemoved, who))
			},
			"add a way to sign in": func() error {
				return db.AddAdministratorProof(ctx, who.ID, inside(t, db, who.ID), identity.Proof{Password: &next}, adminEvent(audit.AdministratorChanged, who))
			},
			"remove a way to sign in": func() error {
				return db.RemoveAdministratorProof(ctx, who.ID, inside(t, db, who.ID), keys[0].ID, adminEvent(audit.AdministratorChanged, who))
			},
			"sign in by password": func() error {
				return db.SignInByPassword(ctx, who.ID, next, nil, session(who), adminEvent(audit.AdministratorSignedIn, who))
			},
			"sign in by passkey": func() error {
				return db.SignInByPasskey(ctx, keys[0], keys[0].Credential, session(who), adminEvent(audit.AdministratorSignedIn, who))
			},
			"sign an administrator out": func() error {
				return db.EndAdministratorSession(ctx, signedIn.ID, adminEvent(audit.AdministratorSignedOut, who))
			},
			"sign an administrator out elsewhere": func() error {
				return db.EndOtherAdministratorSessions(ctx, who.ID, signedIn.ID, adminEvent(audit.AdministratorSignedOut, who))
			},
		}
		look := func() (all []string) {
			all = append(everything(t, db, id), rows(t, db, "SELECT project_id FROM project")...)
			for _, table := range []string{"workspace_key", "administrator", "administrator_session", "administrator_passkey", "administrator_link", "master_key_check"} {
				all = append(all, rows(t, db, "SELECT * FROM "+table)...)
			}
			return all
		}
		rename := func(from, to string) {
			_, err := openRaw(t, c).ExecContext(ctx, "ALTER TABLE "+from+" RENAME TO "+to)
			must(t, err)
		}
		before := look()
		rename("event", "moved")
		for name, do := range operations {
			if err := do(); err == nil || !strings.Contains(err.Error(), "event") {
				t.Errorf("%s: %v", name, err)
			}
		}
		rename("moved", "event")
		if diff := cmp.Diff(before, look()); diff != "" {
			t.Errorf("something changed: %s", diff)
		}
		for _, name := range []string{"change a client", "sign in by passkey", "use a one-time link"} {
			if err := operations[name](); err != nil {
				t.Errorf("with events again, %s: %v", name, err)
			}
		}
		if err := operations["change a client"](); !errors.Is(err, oauth.ErrConflict) {
			t.Errorf("twice: %v", err)
		}
	})
}

// Every method that takes an event is tried by one of the two tests.
func TestTheLawKnowsEveryChange(t *testing.T) {
	var text strings.Builder
	for _, file := range []string{"eventlaw_test.go", "eventlaw_admin_test.go"} {
		source, err := os.ReadFile(file)
		must(t, err)
		text.Write(source)
	}
	// Called by a helper of the tests: w.redeemCode, w.rotate, o.acceptAs.
	elsewhere := map[string]bool{"RedeemCode": true, "RotateRefresh": true, "AcceptAdministratorLink": true}
	methods := reflect.TypeFor[*store.DB]()
	known := 0
	for m := range methods.Methods() {
		for i := range m.Type.NumIn() {
			if m.Type.In(i) != reflect.TypeFor[audit.Event]() {
				continue
			}
			known++
			if !elsewhere[m.Name] && !regexp.MustCompile(`\bdb\.`+m.Name+`\(`).MatchString(text.String()) {
				t.Errorf("nothing shows that %s changes nothing without its event", m.Name)
			}
			break
		}
	}
	if known < 60 {
		t.Errorf("%d methods take an event", known)
	}
}

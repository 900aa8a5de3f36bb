package store_test

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
)

// Where the event cannot be kept, the operation fails and nothing changes.
func TestNothingChangesWithoutItsEvent(t *testing.T) {
	t.Parallel()
	eachConfig(t, func(t *testing.T, c store.Config) {
		db := open(t, c)
		w := newWorld(t, db, "auth.example.com")
		ctx, id := t.Context(), w.project.ID
		session := w.signIn("bea@example.test")
		must(t, db.AddResource(ctx, id, nil, w.resource(notes), nil, w.event(audit.ResourceAdded)))
		token, family := w.family(now, "read:notes")
		code := w.allow(now, "read:notes")
		flow := w.flow(now)
		mail := w.emailCode(flow, "zoe@example.test", "123456", now)
		must(t, db.CreateEmailCode(ctx, mail, generous, w.event(audit.CodeSent)))
		fennel := w.organization("fennel", func(*identity.Organization) {})
		ada := w.member(fennel, "ada@example.test", "admin")
		own := w.ownClient("own")
		must(t, db.CreateClient(ctx, own, nil, w.event(audit.ClientRegistered)))
		must(t, db.AddKey(ctx, signing.Key{ID: "standing", ProjectID: id, Algorithm: signing.RS256, Generation: 1, Public: []byte("{}"), Private: []byte{1}, CreatedAt: now}, now, w.event(audit.KeyCreated)))
		standing := find(t, db, id)

		operations := map[string]func() error{
			"create a project": func() error {
				return db.CreateProject(ctx, newProject("new.example.com"), w.event(audit.ProjectCreated))
			},
			"change settings": func() error {
				return db.SaveSettings(ctx, id, standing.Change, "Other", standing.Settings, w.event(audit.ProjectChanged))
			},
			"set a logo": func() error { return db.SaveLogo(ctx, id, []byte("logo"), w.event(audit.ProjectChanged)) },
			"add a resource server": func() error {
				return db.AddResource(ctx, id, nil, w.resource("https://other.example.com/mcp"), nil, w.event(audit.ResourceAdded))
			},
			"remove a resource server": func() error { return db.RemoveResource(ctx, id, notes, w.event(audit.ResourceRemoved)) },
			"apply a policy": func() error {
				_, err := db.ApplyPolicy(ctx, id, rbac.Policy{}, w.event(audit.PolicyApplied))
				return err
			},
			"make a key": func() error {
				return db.AddKey(ctx, signing.Key{ID: "key", ProjectID: id, Algorithm: signing.ES256, Generation: 1, Public: []byte("{}"), Private: []byte{1}, CreatedAt: now}, now, w.event(audit.KeyCreated))
			},
			"take a key out": func() error {
				next := signing.Key{ID: "next", ProjectID: id, Algorithm: signing.RS256, Generation: 2, Public: []byte("{}"), Private: []byte{1}, CreatedAt: now}
				return db.RemoveKey(ctx, id, "standing", &next, now, w.event(audit.KeyCompromised))
			},
			"give a project a secret": func() error {
				k := secret.New(secret.ProjectSecret, now)
				return db.SetProjectSecret(ctx, id, k.ID, k.Hash[:], w.event(audit.ProjectRotated))
			},
			"make a workspace key": func() error {
				return db.CreateWorkspaceKey(ctx, project.WorkspaceKey{ID: "key", Name: "CI", SecretHash: []byte{1}, MadeBy: audit.Operator, CreatedAt: now}, w.event(audit.WorkspaceKeyCreated))
			},
			"create a client": func() error { return db.CreateClient(ctx, w.newClient("another"), nil, w.event(audit.ClientCreated)) },
			"merge a client": func() error {
				_, _, err := db.MergeClient(ctx, w.newClient("self"), nil, w.event(audit.ClientRegistered))
				return err
			},
			"give a client a secret": func() error {
				k := secret.New(secret.ClientSecret, now)
				return db.SetClientSecret(ctx, id, w.client.ID, k.ID, k.Hash[:], w.event(audit.ClientRotated))
			},
			"let a client replace itself": func() error {
				c := own
				c.TokenID, c.TokenHash = "other", []byte{2}
				return db.ReplaceOwnClient(ctx, c, own, nil, w.event(audit.ClientChanged))
			},
			"let a client delete itself": func() error { return db.DeleteOwnClient(ctx, own, w.event(audit.ClientDeleted)) },
			"delete a client":            func() error { return db.DeleteClient(ctx, id, w.client.ID, w.event(audit.ClientDeleted)) },
			"send a code": func() error {
				return db.CreateEmailCode(ctx, w.emailCode(flow, "eve@example.test", "1", now), generous, w.event(audit.CodeSent))
			},
			"sign in": func() error {
				_, err := db.RedeemEmailCode(ctx, w.try(mail, "123456", now), w.event(audit.SignedIn))
				return err
			},
			"refuse a sign-in": func() error {
				_, err := db.RedeemEmailCode(ctx, w.try(mail, "654321", now), w.event(audit.SignedIn))
				return err
			},
			"sign out":      func() error { return db.EndSession(ctx, id, session.Session.ID, w.event(audit.SignedOut)) },
			"revoke a user": func() error { _, err := db.RevokeUser(ctx, id, w.user.ID, w.event(audit.UserRevoked)); return err },
			"allow":         func() error { return db.Decide(ctx, w.decision(now, "read:notes"), w.event(audit.GrantAllowed)) },
			"redeem a code": func() error { return w.redeemCode(w.redeem(code, now)) },
			"refresh":       func() error { _, err := w.rotate(w.rotation(token, now)); return err },
			"revoke a token": func() error {
				return db.RevokeToken(ctx, id, "jti", now.Add(time.Hour), w.event(audit.TokenRevoked))
			},
			"end a family": func() error {
				return db.RevokeFamily(ctx, id, family.ID, now.Add(time.Hour), w.event(audit.TokenRevoked))
			},
			"revoke a grant": func() error {
				return db.RevokeGrant(ctx, id, w.user.ID, family.GrantID, now.Add(time.Hour), w.event(audit.GrantRevoked))
			},
			"decline scopes": func() error {
				return db.DeclineScopes(ctx, id, w.user.ID, family.GrantID, []string{"read:notes"}, now, w.event(audit.GrantNarrowed))
			},
			"create an organization": func() error {
				o := fennel
				o.ID, o.Slug, o.Name = secret.NewID(now, "organization", "test"), "quarry", "Quarry"
				return db.CreateOrganization(ctx, o, w.event(audit.OrganizationCreated))
			},
			"delete an organization": func() error { return db.DeleteOrganization(ctx, id, fennel.ID, w.event(audit.OrganizationDeleted)) },
			"change a member": func() error {
				m := ada
				m.Name = "Ada"
				return db.SaveMember(ctx, m, w.event(audit.MemberChanged))
			},
			"expire clients": func() error {
				_, err := db.ExpireClients(ctx, now.Add(day), 10, now.Add(day))
				return err
			},
			"a refusal":     func() error { return db.RecordRefusal(ctx, w.event(audit.ClientRefused), nil) },
			"nothing alone": func() error { return db.Record(ctx, w.event(audit.TokenRefused)) },
		}
		stranger := w.newClient("stranger")
		stranger.Creation = oauth.Dynamic
		_, _, err := db.MergeClient(ctx, stranger, nil, w.event(audit.ClientRegistered)) // for expiry
		must(t, err)
		look := func() []string {
			return append(append(everything(t, db, id), rows(t, db, "SELECT project_id FROM project")...), rows(t, db, "SELECT id FROM workspace_key")...)
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
		for _, name := range []string{"refresh", "sign in"} {
			if err := operations[name](); err != nil {
				t.Errorf("with events again, %s: %v", name, err)
			}
		}
	})
}

// openRaw opens the database of a store once more, to do what no store does.
func openRaw(t testing.TB, c store.Config) *sql.DB {
	t.Helper()
	driver, source := "pgx", c.URL
	if c.Path != "" {
		driver, source = "sqlite", "file:"+c.Path+"?_pragma=busy_timeout(60000)"
	}
	raw, err := sql.Open(driver, source)
	must(t, err)
	t.Cleanup(func() { _ = raw.Close() }) // what it did was committed
	return raw
}

package store_test

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rbac"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/signing"
	"github.com/postern-id/postern/internal/store"
)

// Whoever asks in one project with the ids of another finds nothing and changes
// nothing.
func TestProjectsAreApart(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		a, b := newWorld(t, db, "a.example.com"), newWorld(t, db, "b.example.com")
		session := a.signIn("ada@example.test").Session
		must(t, db.AddResource(t.Context(), a.project.ID, nil, a.resource(notes), nil, a.event(audit.ResourceAdded)))
		must(t, db.AddKey(t.Context(), signing.Key{ID: "key", ProjectID: a.project.ID, Algorithm: signing.ES256, Generation: 1, Public: []byte("{}"), Private: []byte{1}, CreatedAt: now}, now, a.event(audit.KeyCreated)))
		document := a.newClient("document")
		document.URL, document.Creation = "https://app.example.com/client.json", oauth.Document
		_, err := db.SaveDocumentClient(t.Context(), document, []byte("a logo"), a.event(audit.ClientRegistered))
		must(t, err)
		must(t, db.SaveLogo(t.Context(), a.project.ID, []byte("another"), a.event(audit.ProjectChanged)))
		token, family := a.family(now, "read:notes")
		code := a.allow(now, "read:notes")
		flow := a.flow(now)
		mail := a.emailCode(flow, "zoe@example.test", "123456", now)
		must(t, db.CreateEmailCode(t.Context(), mail, generous, a.event(audit.CodeSent)))

		a.begin(a.attempt("AAA-BBB-CCC", now))

		look := func() []string { return everything(t, db, a.project.ID) }
		before := look()

		id, ctx := b.project.ID, t.Context()
		other := b.event(audit.TokenRevoked)
		missing := map[string]error{}
		_, missing["User"] = db.User(ctx, id, a.user.ID)
		_, _, missing["Session"] = db.Session(ctx, id, session.SecretID, identity.Hosted, now)
		_, missing["RevokeUser"] = db.RevokeUser(ctx, id, a.user.ID, other)
		_, missing["SetUserActive"] = db.SetUserActive(ctx, id, a.user.ID, false, other)
		missing["DeleteUser"] = db.DeleteUser(ctx, id, a.user.ID, other)
		missing["EndSubjectSession"] = db.EndSubjectSession(ctx, id, a.user.ID, session.ID, other)
		_, missing["Client"] = db.Client(ctx, id, a.client.ID)
		_, missing["ClientByURL"] = db.ClientByURL(ctx, id, document.URL)
		_, missing["Logo"] = db.Logo(ctx, id, sha("a logo"))
		_, missing["Logo of the project"] = db.Logo(ctx, id, sha("another"))
		missing["SetClientSecret"] = db.SetClientSecret(ctx, id, a.client.ID, "x", nil, other)
		change := a.client
		change.ProjectID = id
		if err := db.ChangeClient(ctx, change, change, other); !errors.Is(err, oauth.ErrConflict) {
			t.Errorf("ChangeClient: %v", err)
		}
		_, missing["BlockClient"] = db.BlockClient(ctx, id, a.client.ID, other)
		missing["UnblockClient"] = db.UnblockClient(ctx, id, a.client.ID, other)
		_, missing["GrantByID"] = db.GrantByID(ctx, id, family.GrantID)
		_, missing["FindClients after"] = db.FindClients(ctx, id, oauth.ClientQuery{After: a.client.ID, Limit: 1})
		missing["DeleteClient"] = db.DeleteClient(ctx, id, a.client.ID, other)
		_, _, missing["Grant"] = db.Grant(ctx, id, a.user.ID, "", a.client.ID, notes)
		missing["RevokeGrant"] = db.RevokeGrant(ctx, id, a.user.ID, family.GrantID, now, other)
		missing["DeclineScopes"] = db.DeclineScopes(ctx, id, a.user.ID, family.GrantID, []string{"read:notes"}, now, other)
		_, missing["Code"] = db.Code(ctx, id, code.ID)
		missing["CountCodeTry"] = db.CountCodeTry(ctx, id, code.ID)
		missing["RedeemCode"] = db.RedeemCode(ctx, id, a.redeem(code, now), other, other)
		_, _, missing["Family"] = db.Family(ctx, id, family.ID)
		rotate := a.rotation(token, now)
		rotate.ProjectID = id
		_, missing["RotateRefresh"] = db.RotateRefresh(ctx, rotate, other, other)
		_, missing["Live"] = db.Live(ctx, id, family.ID, "jti")
		_, missing["Flow"] = db.Flow(ctx, id, flow.ID, now)
		missing["SetFlowRequest"] = db.SetFlowRequest(ctx, id, flow.ID, nil, audit.Attempt{})
		missing["Deny"] = db.Deny(ctx, id, flow.ID, now, audit.Attempt{}, other)
		foreign := b.decision(now, "read:notes")
		foreign.Grant.ClientID = a.client.ID
		missing["Decide"] = db.Decide(ctx, foreign, other)
		missing["RemoveResource"] = db.RemoveResource(ctx, id, notes, other)
		stolen := mail
		stolen.ProjectID = id
		missing["CreateEmailCode"] = db.CreateEmailCode(ctx, stolen, generous, other)
		for name, err := range missing {
			if !errors.Is(err, oauth.ErrNotFound) && !errors.Is(err, oauth.ErrDead) && !errors.Is(err, identity.ErrNotFound) &&
				!errors.Is(err, signin.ErrNotFound) && !errors.Is(err, project.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}

		if out, err := db.RedeemEmailCode(ctx, b.try(stolen, "123456", now), other); err != nil || !out.Dead {
			t.Errorf("RedeemEmailCode: %+v, %v", out, err)
		}
		must(t, db.EndSession(ctx, id, session.ID, other))
		must(t, db.TouchSession(ctx, id, session.ID, now.Add(day), now.Add(2*day)))
		must(t, db.ClearFlowEmail(ctx, id, flow.ID))
		must(t, db.RevokeFamily(ctx, id, family.ID, now, other))
		must(t, db.RevokeToken(ctx, id, "jti", now.Add(day), other))
		must(t, db.CallAttempts(ctx, []audit.Call{{ProjectID: id, Code: "AAA-BBB-CCC", At: now}}))
		refused := other
		refused.Attempt, refused.Refused = "AAA-BBB-CCC", true
		must(t, db.RefuseToken(ctx, "", refused, nil))
		b.begin(b.attempt("AAA-BBB-CCC", now.Add(time.Minute))) // the same code by chance
		if all, _, err := db.FindAttempts(ctx, id, "AAA-BBB-CCC"); err != nil || len(all) != 1 || all[0].ClientID != b.client.ID {
			t.Errorf("FindAttempts: %+v, %v", all, err)
		}
		if n, err := db.EndSessions(ctx, id, a.user.ID, other); n != 0 || err != nil {
			t.Errorf("EndSessions: %d, %v", n, err)
		}
		if sessions, err := db.Sessions(ctx, id, a.user.ID, now, 10); len(sessions) != 0 || err != nil {
			t.Errorf("Sessions: %v, %v", sessions, err)
		}
		users, err := db.Users(ctx, id, "", "", 10)
		if err != nil || len(users) != 1 || users[0].ID != b.user.ID {
			t.Errorf("Users: %v, %v", users, err)
		}
		clients, err := db.Clients(ctx, id, "", 10)
		if err != nil || len(clients) != 1 || clients[0].ID != b.client.ID {
			t.Errorf("Clients: %v, %v", clients, err)
		}
		if clients, err := db.FindClients(ctx, id, oauth.ClientQuery{Limit: 10}); err != nil || len(clients) != 1 || clients[0].ID != b.client.ID {
			t.Errorf("FindClients: %v, %v", clients, err)
		}
		if grants, err := db.ClientGrants(ctx, id, a.client.ID, "", 10); err != nil || len(grants) != 0 {
			t.Errorf("ClientGrants: %v, %v", grants, err)
		}
		if n, err := db.CountClientGrants(ctx, id, a.client.ID, 10); err != nil || n != 0 {
			t.Errorf("CountClientGrants: %d, %v", n, err)
		}
		if n, err := db.RevokeClientGrants(ctx, id, a.client.ID, other); err != nil || n != 0 {
			t.Errorf("RevokeClientGrants: %d, %v", n, err)
		}
		apps, err := db.ConnectedApps(ctx, id, a.user.ID, "", now)
		if err != nil || len(apps) != 0 {
			t.Errorf("ConnectedApps: %v, %v", apps, err)
		}
		keys, err := db.Keys(ctx, id)
		if err != nil || len(keys) != 0 {
			t.Errorf("Keys: %v, %v", keys, err)
		}
		if p := find(t, db, id); len(p.Resources) != 0 || len(p.Scopes) != 0 {
			t.Errorf("%+v", p)
		}
		if _, err := db.Live(ctx, a.project.ID, family.ID, "jti"); err != nil {
			t.Errorf("a token id revoked in another project: %v", err)
		}

		if diff := cmp.Diff(before, look()); diff != "" {
			t.Errorf("the other project changed: %s", diff)
		}
	})
}

// everything is every row of a project.
func everything(t *testing.T, db *store.DB, projectID string) (all []string) {
	t.Helper()
	for _, table := range slices.Sorted(maps.Keys(tables(t))) {
		if slices.Contains(deploymentTables, table) {
			continue
		}
		for _, row := range rows(t, db, `SELECT * FROM "`+table+`" WHERE project_id = $1`, projectID) {
			all = append(all, table+" "+row)
		}
	}
	return all
}

// The same of organizations and their members: between projects, and between two
// organizations of one project.
func TestOrganizationsAreApart(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		a, b := newWorld(t, db, "a.example.com"), newWorld(t, db, "b.example.com")
		id, ctx := b.project.ID, t.Context()
		fennel := a.organization("fennel", func(o *identity.Organization) {
			o.Settings.AllowedDomains, o.Settings.Provisioning = []string{"example.test"}, true
		})
		ada := a.member(fennel, "ada@example.test", "admin")
		a.member(fennel, "bea@example.test", "admin") // so that nobody is the last one
		browser := a.browser("ada@example.test")
		_, _, err := a.enter(browser, fennel.ID)
		must(t, err)
		browser.OrganizationID = fennel.ID
		d := a.decision(now, "read:notes")
		d.Grant.Subject, d.Grant.Organization, d.Code.Subject, d.Code.Organization = ada.ID, fennel.ID, ada.ID, fennel.ID
		must(t, db.Decide(ctx, d, a.event(audit.GrantAllowed)))
		must(t, db.SaveOrganizationLogo(ctx, a.project.ID, fennel.ID, []byte("a logo"), a.event(audit.OrganizationChanged)))
		connection := identity.Connection{
			ID: "sso-connection-test-a", ProjectID: a.project.ID, OrganizationID: fennel.ID, Issuer: "https://login.example.test", ClientID: "postern",
			SealedSecret: []byte{1}, Active: true, CreatedAt: now, UpdatedAt: now,
		}
		must(t, db.CreateConnection(ctx, connection, a.event(audit.OrganizationChanged)))
		by := a.entry(identity.Browser{
			ID: "by-sso", ProjectID: a.project.ID, SecretHash: mac("by sso"), Email: "ada@example.test", EmailFolded: "ada@example.test",
			CreatedAt: now, LastSeenAt: now, IdleExpiresAt: now.Add(day), ExpiresAt: now.Add(day),
		}, fennel.ID)
		_, _, err = db.EnterBySSO(ctx, by, connection.ID, "248289761001", a.event(audit.MemberEntered))
		must(t, err)
		attempt := signin.Attempt{
			ID: "attempt", ProjectID: a.project.ID, FlowID: a.flow(now).ID, Hash: mac("state"), OrganizationID: fennel.ID, ConnectionID: connection.ID,
			CreatedAt: now, ExpiresAt: now.Add(time.Hour),
		}
		must(t, db.KeepAttempt(ctx, attempt))
		fennel, err = db.Organization(ctx, a.project.ID, fennel.ID)
		must(t, err)
		ada, err = db.Member(ctx, a.project.ID, fennel.ID, ada.ID)
		must(t, err)
		policy := rbac.Policy{Scopes: []rbac.Scope{{Name: "read:notes", Description: "Read your notes"}}}
		_, err = db.ApplyPolicy(ctx, a.project.ID, policy, a.event(audit.PolicyApplied))
		must(t, err)
		must(t, db.RevokeToken(ctx, a.project.ID, "jti", now.Add(day), a.event(audit.TokenRevoked)))
		quarry := a.organization("quarry", nil)
		theirs := b.organization("fennel", nil) // a slug is a project's own
		before := everything(t, db, a.project.ID)

		other := b.event(audit.MemberChanged)
		foreign := func(m identity.Member) identity.Member { m.ProjectID = id; return m }
		elsewhere := fennel
		elsewhere.ProjectID = id
		strange := browser
		strange.ProjectID = id
		missing := map[string]error{}
		_, missing["Organization"] = db.Organization(ctx, id, fennel.ID)
		_, missing["Member"] = db.Member(ctx, id, fennel.ID, ada.ID)
		_, missing["Member of another"] = db.Member(ctx, a.project.ID, quarry.ID, ada.ID)
		_, missing["MemberByAddress"] = db.MemberByAddress(ctx, id, fennel.ID, ada.EmailFolded)
		_, missing["MemberByAddress of another"] = db.MemberByAddress(ctx, a.project.ID, quarry.ID, ada.EmailFolded)
		_, _, missing["MemberAndOrganization"] = db.MemberAndOrganization(ctx, id, fennel.ID, ada.ID)
		_, _, missing["MemberAndOrganization of another"] = db.MemberAndOrganization(ctx, a.project.ID, quarry.ID, ada.ID)
		missing["CreateMember"] = db.CreateMember(ctx, foreign(a.newMember(fennel, "new@example.test")), other)
		missing["SaveMember"] = db.SaveMember(ctx, foreign(ada), other)
		moved := ada
		moved.OrganizationID = quarry.ID
		missing["SaveMember of another"] = db.SaveMember(ctx, moved, a.event(audit.MemberChanged))
		missing["SaveOrganization"] = db.SaveOrganization(ctx, elsewhere, other)
		missing["DeleteOrganization"] = db.DeleteOrganization(ctx, id, fennel.ID, other)
		_, missing["Browser"] = db.Browser(ctx, id, browser.ID, now)
		_, _, _, missing["BrowserSession"] = db.BrowserSession(ctx, strange, now)
		inQuarry := browser
		inQuarry.OrganizationID = quarry.ID
		_, _, _, missing["BrowserSession of another"] = db.BrowserSession(ctx, inQuarry, now)
		entry := a.entry(strange, fennel.ID)
		entry.Session.ProjectID, entry.Newcomer.ProjectID = id, id
		_, _, missing["Enter"] = db.Enter(ctx, entry, other)
		_, _, missing["Enter another"] = a.enter(browser, quarry.ID)
		_, missing["OrganizationGrant"] = db.OrganizationGrant(ctx, id, fennel.ID, d.Grant.ID)
		_, missing["OrganizationGrant of another"] = db.OrganizationGrant(ctx, a.project.ID, quarry.ID, d.Grant.ID)
		missing["SaveOrganizationLogo"] = db.SaveOrganizationLogo(ctx, id, fennel.ID, nil, other)
		_, missing["Connection"] = db.Connection(ctx, id, fennel.ID)
		_, missing["Connection of another"] = db.Connection(ctx, a.project.ID, quarry.ID)
		stolen := connection
		stolen.ProjectID = id
		missing["ActivateConnection"] = db.ActivateConnection(ctx, stolen, other)
		missing["SaveProvider"] = db.SaveProvider(ctx, stolen, other)
		missing["DeleteConnection"] = db.DeleteConnection(ctx, stolen, other)
		sso := func(projectID, organizationID string) error {
			n := by
			n.Browser.ID, n.Browser.ProjectID = "by-sso-again", projectID
			n.Session.ID, n.Session.ProjectID = "again", projectID
			n.Newcomer.ID, n.Newcomer.ProjectID, n.Newcomer.OrganizationID = "again", projectID, organizationID
			_, _, err := db.EnterBySSO(ctx, n, connection.ID, "248289761001", other)
			return err
		}
		missing["EnterBySSO"] = sso(id, fennel.ID)
		missing["EnterBySSO another"] = sso(a.project.ID, quarry.ID)
		_, missing["Attempt"] = db.Attempt(ctx, id, attempt.ID, now)
		missing["TakeAttempt"] = db.TakeAttempt(ctx, id, attempt.ID, now)
		for name, err := range missing {
			if !errors.Is(err, identity.ErrNotFound) && !errors.Is(err, identity.ErrStale) && !errors.Is(err, oauth.ErrNotFound) && !errors.Is(err, signin.ErrNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}

		if o, err := db.OrganizationBySlug(ctx, id, "fennel"); err != nil || o.ID != theirs.ID {
			t.Errorf("OrganizationBySlug: %+v, %v", o, err)
		}
		if all, err := db.Organizations(ctx, id, "", "", 10); err != nil || len(all) != 1 || all[0].ID != theirs.ID {
			t.Errorf("Organizations: %+v, %v", all, err)
		}
		if all, err := db.Members(ctx, id, fennel.ID, identity.MemberQuery{Limit: 10}); err != nil || len(all) != 0 {
			t.Errorf("Members: %+v, %v", all, err)
		}
		if all, err := db.Members(ctx, a.project.ID, quarry.ID, identity.MemberQuery{Text: ada.ID, Limit: 10}); err != nil || len(all) != 0 {
			t.Errorf("Members of another by id: %+v, %v", all, err)
		}
		if all, err := db.Discover(ctx, id, "ada@example.test", 10); err != nil || len(all) != 0 {
			t.Errorf("Discover: %+v, %v", all, err)
		}
		if all, err := db.Connected(ctx, id, "ada@example.test"); err != nil || len(all) != 0 {
			t.Errorf("Connected: %v, %v", all, err)
		}
		of := ada
		of.ProjectID = id
		if _, err := db.RevokeMember(ctx, of, other); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("RevokeMember: %v", err)
		}
		if _, err := db.EndMemberSessions(ctx, id, ada.ID, other); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("EndMemberSessions: %v", err)
		}
		if err := db.LeaveEverywhere(ctx, of, identity.Browser{ProjectID: id, EmailFolded: ada.EmailFolded}, other); !errors.Is(err, identity.ErrNotFound) {
			t.Errorf("LeaveEverywhere: %v", err)
		}
		for name, all := range map[string][2]string{"another project": {id, fennel.ID}, "another organization": {a.project.ID, quarry.ID}} {
			if apps, err := db.ConnectedApps(ctx, all[0], ada.ID, all[1], now); err != nil || len(apps) != 0 {
				t.Errorf("ConnectedApps in %s: %v, %v", name, apps, err)
			}
			if apps, err := db.OrganizationApps(ctx, all[0], all[1], "", 10); err != nil || len(apps) != 0 {
				t.Errorf("OrganizationApps in %s: %v, %v", name, apps, err)
			}
			if clients, err := db.OrganizationClients(ctx, all[0], all[1], 10); err != nil || len(clients) != 0 {
				t.Errorf("OrganizationClients in %s: %v, %v", name, clients, err)
			}
			if n, err := db.RevokeOrganizationClient(ctx, all[0], all[1], a.client.ID, now.Add(day), other); err != nil || n != 0 {
				t.Errorf("RevokeOrganizationClient in %s: %d, %v", name, n, err)
			}
			if _, _, err := db.Grant(ctx, all[0], ada.ID, all[1], a.client.ID, notes); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("Grant in %s: %v", name, err)
			}
		}
		if got, err := db.Policy(ctx, id); err != nil || got.Version != 0 || len(got.Scopes) != 0 {
			t.Errorf("Policy: %+v, %v", got, err)
		}
		if _, err := db.ApplyPolicy(ctx, id, rbac.Policy{Version: 1}, other); !errors.Is(err, identity.ErrStale) {
			t.Errorf("ApplyPolicy by the version of another: %v", err)
		}
		_, err = db.ApplyPolicy(ctx, id, rbac.Policy{}, other)
		must(t, err)
		must(t, db.TouchBrowser(ctx, id, browser.ID, now.Add(day), now.Add(2*day)))
		must(t, db.EndBrowser(ctx, id, browser.ID, other))

		if diff := cmp.Diff(before, everything(t, db, a.project.ID)); diff != "" {
			t.Errorf("the other project changed: %s", diff)
		}
	})
}

// Both databases compare and order text by its bytes: what is one user, one
// client and the next page does not depend on the database's language.
func TestTextIsBytes(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		w := newWorld(t, db, "auth.example.com")
		ids := []string{"B", "_a", "a", "a-b", "a.b", "aB", "ab", "á", "a\u0301", "ｂ", "-z", "Z", "~", "\U0001F600", "\uFFFD"}
		for i, id := range ids {
			c := w.newClient(id)
			c.ID, c.URL = id, "https://app.example.com/"+id
			if err := db.CreateClient(t.Context(), c, nil, w.event(audit.ClientCreated)); err != nil {
				t.Fatalf("%d %q: %v", i, id, err)
			}
		}
		clients, err := db.Clients(t.Context(), w.project.ID, "", 100)
		must(t, err)
		var got []string
		for _, c := range clients {
			if c.ID != w.client.ID {
				got = append(got, c.ID)
			}
		}
		want := sorted(ids)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		for _, id := range []string{"A", "b", "ab ", "a\u0301\u0301"} {
			if _, err := db.Client(t.Context(), w.project.ID, id); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("%q is found: %v", id, err)
			}
		}
	})
}

func sorted(ids []string) []string { return slices.Sorted(slices.Values(ids)) }

package store_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
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
		must(t, db.AddResource(t.Context(), a.project.ID, a.resource(notes), nil, a.event(audit.ResourceAdded)))
		must(t, db.AddKey(t.Context(), signing.Key{ID: "key", ProjectID: a.project.ID, Algorithm: signing.ES256, Generation: 1, Public: []byte("{}"), Private: []byte{1}, CreatedAt: now}, now))
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

		var before []string
		look := func() (all []string) {
			for _, table := range []string{"project", "resource_server", "policy", "project_logo", "signing_key", `"user"`, "session", "flow", "email_code", "client", "client_logo", `"grant"`, "grant_scope", "code", "family", "refresh_token", "revoked_token", "revocation", "counter", "event"} {
				all = append(all, rows(t, db, "SELECT * FROM "+table+" WHERE project_id = $1", a.project.ID)...)
			}
			return all
		}
		before = look()

		id, ctx := b.project.ID, t.Context()
		other := b.event(audit.TokenRevoked)
		missing := map[string]error{}
		_, missing["User"] = db.User(ctx, id, a.user.ID)
		_, _, missing["Session"] = db.Session(ctx, id, session.SecretID, identity.Hosted, now)
		_, missing["RevokeUser"] = db.RevokeUser(ctx, id, a.user.ID, other)
		_, missing["Client"] = db.Client(ctx, id, a.client.ID)
		_, missing["ClientByURL"] = db.ClientByURL(ctx, id, document.URL)
		_, missing["Logo"] = db.Logo(ctx, id, sha("a logo"))
		_, missing["Logo of the project"] = db.Logo(ctx, id, sha("another"))
		missing["SetClientSecret"] = db.SetClientSecret(ctx, id, a.client.ID, "x", nil, other)
		missing["DeleteClient"] = db.DeleteClient(ctx, id, a.client.ID, other)
		_, _, missing["Grant"] = db.Grant(ctx, id, a.user.ID, "", a.client.ID, notes)
		missing["RevokeGrant"] = db.RevokeGrant(ctx, id, a.user.ID, family.GrantID, now, other)
		missing["DeclineScopes"] = db.DeclineScopes(ctx, id, a.user.ID, family.GrantID, []string{"read:notes"}, now, other)
		_, missing["Code"] = db.Code(ctx, id, code.ID)
		missing["CountCodeTry"] = db.CountCodeTry(ctx, id, code.ID)
		missing["RedeemCode"] = db.RedeemCode(ctx, id, a.redeem(code, now), other, other)
		_, _, _, missing["RefreshToken"] = db.RefreshToken(ctx, id, token.ID)
		rotate := a.rotation(token, now)
		rotate.ProjectID = id
		_, missing["RotateRefresh"] = db.RotateRefresh(ctx, rotate, other, other)
		_, missing["Live"] = db.Live(ctx, id, family.ID, "jti")
		_, missing["Flow"] = db.Flow(ctx, id, flow.ID, now)
		missing["SetFlowRequest"] = db.SetFlowRequest(ctx, id, flow.ID, nil)
		missing["Deny"] = db.Deny(ctx, id, flow.ID, now, other)
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
		if n, err := db.EndSessions(ctx, id, a.user.ID, other); n != 0 || err != nil {
			t.Errorf("EndSessions: %d, %v", n, err)
		}
		users, err := db.Users(ctx, id, "", "", 10)
		if err != nil || len(users) != 1 || users[0].ID != b.user.ID {
			t.Errorf("Users: %v, %v", users, err)
		}
		clients, err := db.Clients(ctx, id, "", 10)
		if err != nil || len(clients) != 1 || clients[0].ID != b.client.ID {
			t.Errorf("Clients: %v, %v", clients, err)
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
		if l, err := db.Live(ctx, a.project.ID, family.ID, "jti"); err != nil || !l.Alive {
			t.Errorf("a token id revoked in another project: %+v, %v", l, err)
		}

		if diff := cmp.Diff(before, look()); diff != "" {
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

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
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store"
)

// afterRestore says of every table what becomes of its rows in a restored
// database: they go, they change, or they stay.
var afterRestore = map[string]string{
	"administrator_ceremony": "go",
	"administrator_link":     "go",
	"administrator_session":  "go",
	"browser":                "go",
	"code":                   "go",
	"email_code":             "go", // with its flow
	"flow":                   "go",
	"node":                   "go",
	"session":                "go",
	"sso_attempt":            "go", // with its flow

	"administrator":   "change", // no code of an authenticator that is shown now
	"event":           "change", // one more
	"family":          "change", // ended
	"project_counter": "change", // further than any lost one
	"revocation":      "change", // one more for each project

	"revoked_token": "stay",
	// One that was used after the copy proves for five minutes more who the client
	// is; what it was used for is dead.
	"client_assertion": "stay",
	"counter":          "stay", // limits of guesses
	"attempt":          "stay", // what was asked, and no right to anything

	"administrator_passkey": "stay", "deployment_claim": "stay", "master_key_check": "stay", "purpose": "stay",
	"schema_state": "stay", "workspace_key": "stay", "event_seal": "stay",
	"project": "stay", "project_host": "stay", "project_logo": "stay", "policy": "stay", "resource_server": "stay", "signing_key": "stay",
	"client": "stay", "client_logo": "stay", "grant": "stay", "grant_scope": "stay",
	"user": "stay", "organization": "stay", "organization_domain": "stay", "organization_logo": "stay", "member": "stay",
	"sso_connection": "stay", "sso_subject": "stay",
}

func TestRestoredDatabaseBeginsAnew(t *testing.T) {
	t.Parallel()
	eachBackend(t, func(t *testing.T, db *store.DB) {
		ctx := t.Context()
		w, second := newWorld(t, db, "auth.example.com"), newWorld(t, db, "second.example.com")
		token, family := w.family(now, "read:notes")
		first := w.rotation(token, now)
		_, err := w.rotate(first)
		must(t, err)
		_, other := second.family(now, "read:notes")
		code := w.allow(now, "read:notes")
		flow := w.flow(now)
		mail := w.emailCode(flow, "zoe@example.test", "123456", now)
		must(t, db.CreateEmailCode(ctx, mail, generous, w.event(audit.CodeSent)))
		must(t, db.RevokeToken(ctx, w.project.ID, "another jti", now.Add(day), w.event(audit.TokenRevoked)))
		must(t, db.CreateWorkspaceKey(ctx, project.WorkspaceKey{ID: "key", Name: "CI", MadeBy: audit.Operator, SecretHash: []byte{1}, CreatedAt: now}, audit.Event{At: now, Kind: audit.WorkspaceKeyCreated}))

		fennel := w.organization("fennel", nil)
		w.member(fennel, "ada@example.test")
		browser := w.browser("ada@example.test")
		_, _, err = w.enter(browser, fennel.ID)
		must(t, err)
		connection := w.connection(fennel, true)
		must(t, db.KeepAttempt(ctx, signin.Attempt{ID: secret.NewUUID(now), ProjectID: w.project.ID, FlowID: flow.ID, Hash: []byte{1}, OrganizationID: fennel.ID, ConnectionID: connection.ID, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}))

		o := newOffice(t, db)
		link, err := o.by.FirstLink(ctx)
		must(t, err)
		kim, err := o.accept(link.ID, "kim@example.test")
		must(t, err)
		password := identity.Password{Hash: "x", TOTPSecret: []byte{1}, TOTPStep: 1}
		must(t, db.AddAdministratorProof(ctx, kim.ID, inside(t, db, kim.ID), identity.Proof{Password: &password}, adminEvent(audit.AdministratorChanged, kim)))
		_, err = o.by.Invite(ctx, "lee@example.test")
		must(t, err)
		must(t, db.KeepCeremony(ctx, "ceremony", []byte{1}, []byte{2}, now.Add(time.Hour)))
		if !db.SQLite() {
			_, err := db.RenewNode(ctx, "node", now)
			must(t, err)
		}

		before := map[string][]string{}
		look := func(table string) []string { return rows(t, db, `SELECT * FROM "`+table+`" ORDER BY 1, 2`) }
		for _, table := range slices.Sorted(maps.Keys(tables(t))) {
			before[table] = look(table)
			if fate := afterRestore[table]; fate == "" {
				t.Errorf("what becomes of %s after a restore?", table)
			} else if fate != "stay" && len(before[table]) == 0 && (table != "node" || !db.SQLite()) {
				t.Errorf("the test has no %s", table)
			}
		}

		at := now.Add(time.Minute)
		ended, err := db.BeginEpoch(ctx, audit.Event{At: at, Kind: audit.DeploymentRestored, Actor: audit.Operator})
		must(t, err)
		want := store.Ended{
			Authorizations: 2, Codes: len(before["code"]), SignIns: len(before["flow"]),
			Sessions: len(before["session"]) + len(before["browser"]), AdministratorSessions: 1, AdministratorLinks: 1,
		}
		if diff := cmp.Diff(want, ended); diff != "" {
			t.Error(diff)
		}
		for table, fate := range afterRestore {
			after := look(table)
			switch {
			case fate == "go" && len(after) > 0:
				t.Errorf("%s: %q", table, after)
			case fate == "stay" && !slices.Equal(before[table], after):
				t.Errorf("%s changed: %s", table, cmp.Diff(before[table], after))
			case fate == "change" && slices.Equal(before[table], after):
				t.Errorf("%s is as it was", table)
			}
		}

		// What it is for.
		if w.alive(family.ID) || second.alive(other.ID) {
			t.Error("a family lives")
		}
		for what, used := range map[string]held{"the newest": next(first), "the one before, in its window": token} {
			if r, err := w.rotate(w.rotation(used, at)); !errors.Is(err, oauth.ErrDead) {
				t.Errorf("%s refreshes: %+v, %v", what, r, err)
			}
		}
		if err := w.redeemCode(w.redeem(code, at)); err == nil {
			t.Error("a code is redeemed")
		}
		if out, err := db.RedeemEmailCode(ctx, w.try(mail, "123456", at), w.event(audit.SignedIn)); err == nil && !out.Dead {
			t.Errorf("a code that was mailed: %+v", out)
		}
		if step := rows(t, db, "SELECT totp_step FROM administrator")[0]; step != rows(t, db, "SELECT CAST($1 AS bigint)", signin.LastCodeStep(at))[0] {
			t.Errorf("codes of authenticators are good again after step %s", step)
		}
		if kinds := events(t, db, ""); !slices.Contains(kinds, string(audit.DeploymentRestored)) {
			t.Errorf("the deployment's trail: %q", kinds)
		}
		if feed := second.feed(); len(feed) != 1 || feed[0] != "1000001 issuer https://second.example.com" {
			t.Errorf("the feed: %q", feed)
		}

		// And it goes on: the same person allows the same client again, unasked.
		_, anew := w.family(at, "read:notes")
		if !w.alive(anew.ID) || anew.GrantID != family.GrantID {
			t.Error("what the person allowed did not stay")
		}
	})
}

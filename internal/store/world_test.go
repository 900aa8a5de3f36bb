package store_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/identity"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/signin"
	"github.com/postern-id/postern/internal/store"
)

// now is when every test begins.
var now = time.Date(2026, 11, 20, 12, 0, 0, 123456000, time.UTC)

const (
	notes = "https://notes.example.com/mcp"
	day   = 24 * time.Hour
)

// world is a project with one client and one person.
type world struct {
	*store.DB
	t       testing.TB
	project project.Project
	client  oauth.Client
	user    identity.User
}

// newWorld makes a world whose project has the given host.
func newWorld(t testing.TB, db *store.DB, host string) *world {
	t.Helper()
	w := &world{DB: db, t: t, project: newProject(host)}
	must(t, db.CreateProject(t.Context(), w.project, w.event(audit.ProjectCreated)))
	w.client = w.newClient(host)
	must(t, db.CreateClient(t.Context(), w.client, nil, w.event(audit.ClientCreated)))
	w.user = w.signIn("ada@example.test").User
	return w
}

func newProject(host string) project.Project {
	key := secret.New(secret.ProjectSecret, now)
	return project.Project{
		ID: secret.NewID(now, "project", "test"), Name: "Notes", Issuer: "https://" + host,
		Vertical: project.Consumer, Environment: project.Test,
		PublicToken: secret.NewID(now, "public-token", "test"), SecretID: key.ID, SecretHash: key.Hash[:],
		Settings: project.Defaults(), CreatedAt: now,
	}
}

func (w *world) event(kind audit.Kind) audit.Event {
	return audit.Event{ProjectID: w.project.ID, At: now, Kind: kind, Actor: "operator", Address: "192.0.2.1", TraceID: "K7Q-2MX-9RD"}
}

func (w *world) newClient(name string) oauth.Client {
	hash := sha256.Sum256([]byte(name))
	return oauth.Client{
		ID: secret.NewID(now, "connected-app", "test"), ProjectID: w.project.ID,
		Type: oauth.ThirdPartyPublic, Creation: oauth.Preregistered,
		Metadata: oauth.Metadata{
			ClientName: name, RedirectURIs: []string{"http://127.0.0.1/callback"},
			GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
			TokenEndpointAuthMethod: "none",
		},
		MetadataHash: hash[:], CreatedAt: now, LastRegisteredAt: now,
	}
}

// flow starts a sign-in.
func (w *world) flow(at time.Time) signin.Flow {
	w.t.Helper()
	browser := secret.New(secret.Flow, at)
	f := signin.Flow{
		ID: browser.ID, ProjectID: w.project.ID, BrowserHash: browser.Hash[:], Request: []byte(`{"state":"s"}`),
		TraceID: "K7Q-2MX-9RD", CreatedAt: at, ExpiresAt: at.Add(signin.FlowLifetime),
	}
	must(w.t, w.CreateFlow(w.t.Context(), f, audit.Attempt{}))
	return f
}

func mac(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// generous lets tests send as many mails as they like.
var generous = signin.MailLimit{Gap: 0, Count: 1000, Window: time.Hour}

func (w *world) emailCode(f signin.Flow, address, code string, at time.Time) signin.EmailCode {
	return signin.EmailCode{
		ID: secret.NewID(at, "email", "test"), ProjectID: w.project.ID, FlowID: f.ID,
		Email: address, EmailFolded: identity.Fold(address), MAC: mac(code),
		CreatedAt: at, ExpiresAt: at.Add(10 * time.Minute),
	}
}

func (w *world) try(c signin.EmailCode, code string, at time.Time) signin.Redemption {
	cookie := secret.New(secret.HostedSession, at)
	return signin.Redemption{
		ProjectID: c.ProjectID, FlowID: c.FlowID, MethodID: c.ID, MAC: mac(code), Tries: 5, DailyTries: 10,
		NewUserID: secret.NewID(at, "user", "test"), Now: at,
		Session: identity.Session{
			ID: secret.NewID(at, "session", "test"), ProjectID: c.ProjectID, Kind: identity.Hosted,
			SecretID: cookie.ID, SecretHash: cookie.Hash[:], Factors: []identity.Factor{{Method: "email_code", At: at}},
			Address: "192.0.2.7", UserAgent: "Browser", CreatedAt: at, LastSeenAt: at,
			IdleExpiresAt: at.Add(12 * time.Hour), ExpiresAt: at.Add(7 * day),
		},
	}
}

// signIn signs a person in by an e-mail code.
func (w *world) signIn(address string) signin.Outcome {
	w.t.Helper()
	f := w.flow(now)
	c := w.emailCode(f, address, "123456", now)
	must(w.t, w.CreateEmailCode(w.t.Context(), c, generous, w.event(audit.CodeSent)))
	out, err := w.RedeemEmailCode(w.t.Context(), w.try(c, "123456", now), w.event(audit.SignedIn))
	if err != nil || !out.Right {
		w.t.Fatalf("sign in: %+v, %v", out, err)
	}
	return out
}

// decision is the person allowing the client scopes for the notes resource.
func (w *world) decision(at time.Time, scopes ...string) oauth.Decision {
	code := secret.New(secret.AuthorizationCode, at)
	d := oauth.Decision{
		Asked: true,
		Grant: oauth.Grant{ID: secret.NewID(at, "grant", "test"), ProjectID: w.project.ID, Subject: w.user.ID, ClientID: w.client.ID, CreatedAt: at},
		Code: oauth.Code{
			ID: code.ID, ProjectID: w.project.ID, Hash: code.Hash[:], ClientID: w.client.ID, Subject: w.user.ID,
			SessionID: "session", RedirectURI: "http://127.0.0.1:7777/callback",
			Challenge: "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", Resource: notes, Scopes: scopes,
			Nonce: "n", AuthTime: at, CreatedAt: at, ExpiresAt: at.Add(time.Minute),
		},
	}
	for _, s := range scopes {
		d.Scopes = append(d.Scopes, oauth.GrantScope{Resource: notes, Scope: s, Allowed: true, ConsentHash: mac("consent"), DecidedAt: at})
	}
	return d
}

// allow decides and returns the code as it is kept.
func (w *world) allow(at time.Time, scopes ...string) oauth.Code {
	w.t.Helper()
	d := w.decision(at, scopes...)
	must(w.t, w.Decide(w.t.Context(), d, w.eventAt(audit.GrantAllowed, at)))
	c, err := w.Code(w.t.Context(), w.project.ID, d.Code.ID)
	must(w.t, err)
	return c
}

func (w *world) eventAt(kind audit.Kind, at time.Time) audit.Event {
	e := w.event(kind)
	e.At = at
	return e
}

// redeem is the exchange of a code for a family with a refresh token.
func (w *world) redeem(c oauth.Code, at time.Time) oauth.Redeem {
	f := oauth.Family{
		ID: secret.NewUUID(at), ProjectID: c.ProjectID, GrantID: c.GrantID, ClientID: c.ClientID, Subject: c.Subject,
		SessionID: c.SessionID, Resource: c.Resource, Scopes: c.Scopes, Nonce: c.Nonce, AuthTime: c.AuthTime,
		CreatedAt: at, ExpiresAt: at.Add(90 * day),
	}
	f.Refresh = refreshToken(at)
	return oauth.Redeem{CodeID: c.ID, Now: at, Family: f}
}

func refreshToken(at time.Time) *oauth.RefreshToken {
	s := secret.New(secret.RefreshToken, at)
	return &oauth.RefreshToken{Series: s.Series(), Hash: s.Hash[:], AuthMethod: "none", CreatedAt: at, ExpiresAt: at.Add(14 * day)}
}

// held is a refresh token that somebody has.
type held struct {
	oauth.RefreshToken

	FamilyID string
}

// next is what a rotation gives.
func next(r oauth.Rotate) held { return held{r.Successor, r.FamilyID} }

func (w *world) redeemCode(r oauth.Redeem) error {
	return w.RedeemCode(w.t.Context(), w.project.ID, r, w.eventAt(audit.TokenIssued, r.Now), w.eventAt(audit.CodeReused, r.Now))
}

// family is a completed authorization: its refresh token and family.
func (w *world) family(at time.Time, scopes ...string) (held, oauth.Family) {
	w.t.Helper()
	r := w.redeem(w.allow(at, scopes...), at)
	must(w.t, w.redeemCode(r))
	return held{*r.Family.Refresh, r.Family.ID}, r.Family
}

// rotation is a refresh of t.
func (w *world) rotation(t held, at time.Time) oauth.Rotate {
	successor := *refreshToken(at)
	return oauth.Rotate{
		ProjectID: w.project.ID, FamilyID: t.FamilyID, Hash: t.Hash, Now: at, Window: 2 * time.Minute,
		Successor: successor, Replay: fmt.Appendf(nil, "answer with %x", successor.Hash),
	}
}

func (w *world) rotate(r oauth.Rotate) (oauth.Rotation, error) {
	return w.RotateRefresh(w.t.Context(), r, w.eventAt(audit.TokenRefreshed, r.Now), w.eventAt(audit.RefreshReused, r.Now))
}

// lastUse is when tokens were last given for a grant of the world's person.
func (w *world) lastUse(grantID string) time.Time {
	w.t.Helper()
	apps, err := w.ConnectedApps(w.t.Context(), w.project.ID, w.user.ID, "", now)
	must(w.t, err)
	i := slices.IndexFunc(apps, func(a oauth.ConnectedApp) bool { return a.Grant.ID == grantID })
	if i < 0 {
		w.t.Fatalf("no grant %s", grantID)
	}
	return apps[i].LastUsedAt
}

// alive reports what introspection says about a family.
func (w *world) alive(familyID string) bool {
	w.t.Helper()
	_, err := w.Live(w.t.Context(), w.project.ID, familyID, "jti")
	if !errors.Is(err, oauth.ErrNotFound) {
		must(w.t, err)
	}
	return err == nil
}

// feed lists the revocation feed: sequence, kind, value.
func (w *world) feed() []string {
	w.t.Helper()
	return rows(w.t, w.DB, "SELECT sequence, kind, value FROM revocation WHERE project_id = $1 ORDER BY sequence", w.project.ID)
}

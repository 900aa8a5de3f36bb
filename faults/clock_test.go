package faults

import (
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/rig"
	"github.com/postern-id/postern/internal/servertest"
	"github.com/postern-id/postern/internal/signing"
)

// app is a person with an app on a server inside the test, whose clock is moved.
type app struct {
	*servertest.Server
	t       *testing.T
	client  oauth.Client
	browser *servertest.Browser
}

func newApp(t *testing.T, c servertest.Config) *app {
	t.Helper()
	s := servertest.New(t, c)
	a := &app{Server: s, t: t, browser: s.Browser(t)}
	s.AddResource(t, resourceURI, project.Scope{Name: "notes:read", Description: "Read your notes", ReadOnly: true})
	a.client, _ = s.AddClient(t, oauth.NewClient{Name: "Terminal", Type: oauth.FirstPartyPublic, BypassConsent: true, RedirectURIs: []string{rig.Callback}})
	s.Ready(t)
	a.browser.SignIn(t, a.browser.Get(t, "/login"), "ada@example.test")
	return a
}

// authorize gets a code; "" when the person is asked to sign in.
func (a *app) authorize() string {
	a.t.Helper()
	p := a.browser.Authorize(a.t, url.Values{
		"response_type": {"code"}, "client_id": {a.client.ID}, "redirect_uri": {rig.Callback}, "state": {"a-state"},
		"code_challenge": {rig.Challenge()}, "code_challenge_method": {"S256"}, "resource": {resourceURI}, "scope": {"notes:read"},
	})
	if p.Header.Get("Location") == "" && p.Header.Get("Refresh") == "" {
		return ""
	}
	return p.Answer(a.t).Query().Get("code")
}

type tokens struct {
	Status  int
	Access  string `json:"access_token"`
	Refresh string `json:"refresh_token"`
}

func (a *app) token(form url.Values) (got tokens) {
	a.t.Helper()
	form.Set("client_id", a.client.ID)
	response, err := http.PostForm(a.Issuer+"/v1/oauth2/token", form)
	must(a.t, err)
	defer response.Body.Close()
	must(a.t, json.NewDecoder(response.Body).Decode(&got))
	got.Status = response.StatusCode
	return got
}

func (a *app) redeem(code string) tokens {
	return a.token(url.Values{"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {rig.Callback}, "code_verifier": {rig.Verifier}, "resource": {resourceURI}})
}

func (a *app) refresh(token string) tokens {
	return a.token(url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}})
}

func (a *app) active(token string) bool {
	a.t.Helper()
	request, err := http.NewRequestWithContext(a.t.Context(), http.MethodPost, a.Issuer+"/v1/oauth2/introspect", strings.NewReader(url.Values{"token": {token}}.Encode()))
	must(a.t, err)
	request.Header.Set("Content-Type", formType)
	request.SetBasicAuth(a.Project.ID, a.Secret)
	response, err := http.DefaultClient.Do(request)
	must(a.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	must(a.t, err)
	return strings.Contains(string(text), `"active":true`)
}

// The clock jumps an hour ahead and back: nothing that ended or was used lives
// again, nobody is signed out, and a refresh token goes on (F-12).
func TestClockSteps(t *testing.T) {
	each := func(t *testing.T, c servertest.Config) {
		a := newApp(t, c)
		code, used := a.authorize(), a.authorize()
		got := a.redeem(used)
		if got.Status != http.StatusOK {
			t.Fatalf("%+v", got)
		}
		for i, step := range []time.Duration{time.Hour, -time.Hour, -time.Hour, time.Hour, time.Second, -time.Second} {
			a.Clock.Advance(step)
			what := fmt.Sprintf("step %d, %s", i, step)
			if a.redeem(used).Status == http.StatusOK {
				t.Errorf("%s: a used code works", what)
			}
			fresh := a.authorize()
			if fresh == "" {
				t.Errorf("%s: the person is signed out", what)
				continue
			}
			next := a.redeem(fresh)
			if next.Status != http.StatusOK || !a.active(next.Access) || !a.active(next.Refresh) {
				t.Errorf("%s: a new authorization: %d, active %t", what, next.Status, a.active(next.Access))
			}
			after := a.refresh(next.Refresh)
			if after.Status != http.StatusOK || a.active(next.Refresh) || !a.active(after.Refresh) {
				t.Errorf("%s: a refresh: %+v", what, after.Status)
			}
			if i == 0 && a.redeem(code).Status == http.StatusOK {
				t.Errorf("%s: a code works an hour later", what)
			}
		}
		result(t, "F-12", "steps of an hour and a second, ahead and back: used codes stay used, sessions stay, refreshes go on")
	}
	t.Run("sqlite", func(t *testing.T) { each(t, servertest.Config{}) })
	t.Run("postgres", func(t *testing.T) {
		t.Setenv(servertest.PostgresVariable, postgres(t).URL)
		each(t, servertest.Config{Postgres: true})
	})
}

// keySet checks tokens as a resource server does that keeps the key set for
// as long as it was told, and never asks before.
type keySet struct {
	a       *app
	keys    jose.JSONWebKeySet
	expires time.Time
	fetches int
}

var maxAge = regexp.MustCompile(`max-age=(\d+)`)

func (k *keySet) verify(token string) error {
	if now := k.a.Clock.Now(); !now.Before(k.expires) {
		response, err := http.Get(k.a.Issuer + "/.well-known/jwks.json")
		if err != nil {
			return err
		}
		defer response.Body.Close()
		k.keys = jose.JSONWebKeySet{}
		if err := json.NewDecoder(response.Body).Decode(&k.keys); err != nil {
			return err
		}
		age := maxAge.FindStringSubmatch(response.Header.Get("Cache-Control"))
		if age == nil {
			return fmt.Errorf("the key set does not say how long it may be kept: %q", response.Header.Get("Cache-Control"))
		}
		seconds, _ := strconv.Atoi(age[1])
		k.expires = now.Add(time.Duration(seconds) * time.Second)
		k.fetches++
	}
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		return err
	}
	found := k.keys.Key(parsed.Headers[0].KeyID)
	if len(found) != 1 {
		return fmt.Errorf("key %s is not in the set of %d", parsed.Headers[0].KeyID, len(k.keys.Keys))
	}
	return parsed.Claims(found[0].Key.(*ecdsa.PublicKey), &jwt.Claims{})
}

// Keys are rotated sixty times while tokens are made and checked by three
// resource servers that keep the key set: every token that has not run out is
// right at each of them (F-14).
func TestKeysRotate(t *testing.T) {
	a := newApp(t, servertest.Config{})
	keys, err := signing.New(signing.Config{Store: a.Store, Sealer: a.Storage.Sealer, Now: a.Clock.Now, MaxTokenLife: 24 * time.Hour})
	must(t, err)
	servers := []*keySet{{a: a}, {a: a}, {a: a}}
	got := a.redeem(a.authorize())
	type issued struct {
		token string
		until time.Time
	}
	var alive []issued
	used, checked, rotations := map[string]bool{}, 0, 60
	for i := range rotations {
		_, err := keys.Rotate(t.Context(), audit.Origin{Actor: audit.Operator}, a.Project.ID, signing.ES256, signing.KeySetMaxAge)
		must(t, err)
		a.Follow(t)
		for range 4 { // a key signs five minutes after it was published
			a.Clock.Advance(signing.KeySetMaxAge/4 + time.Second)
			if got = a.refresh(got.Refresh); got.Status != http.StatusOK {
				t.Fatalf("rotation %d: refresh %d", i, got.Status)
			}
			alive = append(alive, issued{got.Access, a.Clock.Now().Add(15 * time.Minute)})
			for n, server := range servers {
				if (i+n)%3 == 0 && n > 0 {
					continue // they do not all ask at the same time
				}
				for _, one := range alive {
					if a.Clock.Now().Before(one.until) {
						if err := server.verify(one.token); err != nil {
							t.Errorf("rotation %d, server %d: %v", i, n, err)
						}
						checked++
					}
				}
			}
			parsed, err := jwt.ParseSigned(got.Access, []jose.SignatureAlgorithm{jose.ES256})
			must(t, err)
			used[parsed.Headers[0].KeyID] = true
			for len(alive) > 0 && !a.Clock.Now().Before(alive[0].until) {
				alive = alive[1:]
			}
		}
	}
	if len(used) < rotations {
		t.Errorf("tokens of %d keys were made in %d rotations: they were none", len(used), rotations)
	}
	result(t, "F-14", "%d rotations, %d keys signed, %d checks by three servers that keep the key set for as long as they may: 0 refused", rotations, len(used), checked)
}

package oauth_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"math/big"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/secret"
	"github.com/postern-id/postern/internal/servertest"
)

// What a client gets: no-store JSON, a short-lived token for one resource, a
// refresh token iff it registered for one.
//
// Proves: MCP-AS-1, MCP-AS-41, MCP-AS-48, MCP-AS-49, MCP-AS-50, RFC6749-3.2-a, RFC6749-3.3-a, RFC6749-5.1-a, RFC6749-5.1-b,
// RFC9068-2.1-a, RFC9068-2.1-b, RFC9068-2.1-c, RFC9068-2.2-a, RFC9068-2.2.1-a, RFC9068-2.2.3-a, RFC9068-3-a, RFC8707-2.2-b, RFC9700-2.3-a,
// RFC6750-5.2-b, RFC6750-5.2-c, RFC6750-5.3-a, OIDC-2-a, OIDC-2-b, OIDC-2-c, OIDC-2-d, OIDC-2-e, OIDC-2-f, OIDC-3.1.3.3-a,
// OIDC-3.1.3.6-a, OIDC-10.1-a, OIDC-11-b, OIDC-12.2-a, OIDC-12.2-b, OIDC-15.1-a, OIDCDISC-4.3-b, OIDC-8-a, RFC6749-5.1-c,
// RFC9068-5-a
func TestTokenResponse(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		w.Ready(t)
		for _, c := range []oauth.Client{w.public, w.basic, w.post} {
			t.Run("a client that authenticates by "+c.Metadata.TokenEndpointAuthMethod, func(t *testing.T) {
				a := w.token(t, c, redeem(w.code(t, request(c.ID))))
				i := got(t, a)
				for name, want := range map[string]string{"Content-Type": "application/json", "Cache-Control": "no-store", "Pragma": "no-cache"} {
					if a.header.Get(name) != want {
						t.Errorf("%s is %q, want %q", name, a.header.Get(name), want)
					}
				}
				if i.Type != "Bearer" || i.Expires != 15*60 || i.Scope != "read:todos write:todos" || i.Refresh == "" || i.ID != "" {
					t.Errorf("got %+v", i)
				}
			})
		}
		t.Run("an access token of RFC 9068", func(t *testing.T) {
			i, now := w.tokens(t, w.public), w.Clock.Now()
			header, claims := part(t, i.Access, 0), claimsOf(t, i.Access)
			if header["typ"] != "at+jwt" || header["alg"] != "ES256" || header["kid"] == "" {
				t.Errorf("header %v", header)
			}
			for name, want := range map[string]any{
				"iss": w.Issuer, "aud": todo, "client_id": w.public.ID, "scope": "read:todos write:todos",
				"iat": float64(now.Unix()), "exp": float64(now.Add(15 * time.Minute).Unix()), "token_use": "access",
			} {
				if claims[name] != want {
					t.Errorf("%s is %v, want %v", name, claims[name], want)
				}
			}
			for _, name := range []string{"sub", "jti", "auth_time", "sid", "grant_id"} {
				if claims[name] == nil || claims[name] == "" {
					t.Errorf("no %s in %v", name, claims)
				}
			}
			if sub, _ := claims["sub"].(string); !strings.HasPrefix(sub, "user-test-") || strings.Contains(i.Access, ida) {
				t.Errorf("sub %v", claims["sub"])
			}
			if again := claimsOf(t, w.tokens(t, w.public).Access); again["jti"] == claims["jti"] {
				t.Error("two tokens with one jti")
			}
		})
		t.Run("an access token of the compatible profile", func(t *testing.T) {
			i := w.tokens(t, w.public, "resource", notes, "scope", "read:notes")
			header, claims := part(t, i.Access, 0), claimsOf(t, i.Access)
			aud, _ := claims["aud"].([]any)
			if header["typ"] != "JWT" || header["alg"] != "RS256" || len(aud) != 2 || aud[0] != w.Project.ID || aud[1] != notes || claims["token_use"] != "access" {
				t.Errorf("header %v, claims %v", header, claims)
			}
		})
		t.Run("an id_token iff openid was allowed", func(t *testing.T) {
			i := w.tokens(t, w.public, "scope", "openid email read:todos", "nonce", "n-0S6_WzA2Mj")
			header, claims, now := part(t, i.ID, 0), claimsOf(t, i.ID), w.Clock.Now().Unix()
			if header["alg"] != "RS256" || header["kid"] == nil || len(header) != 3 {
				t.Errorf("header %v", header) // neither keys nor their addresses are in it
			}
			half := sha256.Sum256([]byte(i.Access))
			for name, want := range map[string]any{
				"iat": float64(now), "exp": float64(now + 300), "auth_time": claimsOf(t, i.Access)["auth_time"], "azp": nil,
				"at_hash": base64.RawURLEncoding.EncodeToString(half[:16]),
				"iss":     w.Issuer, "aud": w.public.ID, "nonce": "n-0S6_WzA2Mj", "email": ida, "email_verified": true, "token_use": "id",
				"sub": claimsOf(t, i.Access)["sub"],
			} {
				if claims[name] != want {
					t.Errorf("%s is %v, want %v", name, claims[name], want)
				}
			}
			if sub, _ := claims["sub"].(string); len(sub) == 0 || len(sub) > 255 {
				t.Errorf("sub is %q", sub)
			}
			w.Clock.Advance(time.Minute)
			again := claimsOf(t, got(t, w.token(t, w.public, refresh(i.Refresh))).ID) // OpenID Connect Core §12.2
			for name, want := range map[string]any{
				"iss": claims["iss"], "sub": claims["sub"], "aud": claims["aud"], "auth_time": claims["auth_time"],
				"iat": float64(now + 60), "nonce": nil, "azp": nil,
			} {
				if again[name] != want {
					t.Errorf("id_token of a refresh: %s is %v, want %v", name, again[name], want)
				}
			}
		})
		t.Run("an id_token by the algorithm that the client registered", func(t *testing.T) {
			c := w.asClient(t, w.own(t, map[string]any{"id_token_signed_response_alg": "ES256"}))
			i := w.tokens(t, c, "scope", "openid read:todos")
			if header := part(t, i.ID, 0); header["alg"] != "ES256" {
				t.Errorf("header %v", header)
			}
			if sub := claimsOf(t, i.ID)["sub"]; sub != claimsOf(t, w.tokens(t, w.public).Access)["sub"] {
				t.Errorf("to another client the person is %v", sub)
			}
		})
		t.Run("no refresh token for who did not register for it, but a longer access token", func(t *testing.T) {
			once := w.client(t, oauth.NewClient{Name: "Once", Type: oauth.ThirdPartyPublic})
			once = w.without(t, once, "refresh_token")
			i := got(t, w.token(t, once, redeem(w.code(t, request(once.ID, "scope", "offline_access read:todos")))))
			if i.Refresh != "" || i.Expires != 3600 {
				t.Errorf("got %+v", i)
			}
		})
		t.Run("offline_access is accepted and changes nothing", func(t *testing.T) {
			i := w.tokens(t, w.public, "scope", "read:todos offline_access")
			if i.Refresh == "" || i.Scope != "read:todos offline_access" {
				t.Errorf("got %+v", i)
			}
		})
	})
}

// Row: A22. Where no resource is registered a token is for the project alone.
//
// Proves: RFC9068-3-b
func TestTokenWithoutResource(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		for _, uri := range []string{todo, notes} {
			if err := w.Projects.RemoveResource(t.Context(), w.Project, uri); err != nil {
				t.Fatal(err)
			}
		}
		w.Follow(t)
		w.Ready(t)
		i := w.tokens(t, w.public, "resource", "", "scope", "openid read:todos")
		if aud, _ := claimsOf(t, i.Access)["aud"].([]any); len(aud) != 1 || aud[0] != w.Project.ID {
			t.Errorf("aud is %v", claimsOf(t, i.Access)["aud"])
		}
		w.refusedAnswer(t, w.browser.Authorize(t, request(w.public.ID)), callback, "invalid_target")
		w.refusedAnswer(t, w.browser.Authorize(t, request(w.public.ID, "resource", "", "scope", "")), callback, "invalid_scope")
		refusedToken(t, w.token(t, w.public, refresh(i.Refresh, "resource", todo)), http.StatusBadRequest, "invalid_target")
	})
}

// without is a client like another one, registered by itself for fewer grant
// types.
func (w *world) without(t *testing.T, c oauth.Client, grant string) oauth.Client {
	t.Helper()
	c.ID, c.Metadata.GrantTypes = secret.NewID(w.Clock.Now(), "connected-app", "test"), nil
	for _, g := range []string{"authorization_code", "refresh_token"} {
		if g != grant {
			c.Metadata.GrantTypes = append(c.Metadata.GrantTypes, g)
		}
	}
	e := audit.Event{ProjectID: w.Project.ID, At: w.Clock.Now(), Kind: audit.ClientCreated}
	if err := w.Store.CreateClient(t.Context(), c, nil, e); err != nil {
		t.Fatal(err)
	}
	return c
}

// A code works once, in time, for its client, verifier, redirect URI and
// resource. What is refused does not use it up.
//
// Proves: MCP-AS-20, MCP-AS-43, MCP-AS-45, MCP-AS-46, RFC6749-4.1.2-a, RFC6749-4.1.2-b, RFC6749-4.1.2-c, RFC6749-4.1.3-a,
// RFC6749-4.1.3-b, RFC6749-5.2-a, RFC6749-10.5-a, RFC7636-4.1-a, RFC7636-4.4-a, RFC7636-4.5-a, RFC7636-4.6-a, RFC8707-2.2-a, RFC9700-2.1.1-c,
// RFC9700-4.8.2-a, OIDC-3.1.3.2-a
func TestCode(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		refused := func(t *testing.T, kind audit.Kind, c oauth.Client, form url.Values, code string) {
			t.Helper()
			w.refuses(t, kind, func() { refusedToken(t, w.token(t, c, form), http.StatusBadRequest, code) })
		}
		for _, wait := range []time.Duration{0, 61 * time.Second, 40 * time.Minute} {
			t.Run("T01 a code used again after "+wait.String(), func(t *testing.T) {
				code := w.code(t, request(w.public.ID))
				first := got(t, w.token(t, w.public, redeem(code)))
				w.Clock.Advance(wait)
				second := got(t, w.token(t, w.public, refresh(first.Refresh)))
				refused(t, audit.CodeReused, w.public, redeem(code), "invalid_grant")
				if w.active(t, second.Access) || w.active(t, second.Refresh) {
					t.Error("the tokens of the first use live")
				}
				refused(t, audit.TokenRefused, w.public, refresh(second.Refresh), "invalid_grant")
			})
		}
		t.Run("T02 a used code with a wrong verifier or by another client ends nothing", func(t *testing.T) {
			code := w.code(t, request(w.public.ID))
			first := got(t, w.token(t, w.public, redeem(code)))
			refused(t, audit.TokenRefused, w.public, redeem(code, "code_verifier", strings.Repeat("w", 43)), "invalid_grant")
			refused(t, audit.TokenRefused, w.rival, redeem(code), "invalid_grant")
			refused(t, audit.TokenRefused, w.basic, redeem(code), "invalid_grant")
			if !w.active(t, first.Access) || !w.active(t, first.Refresh) {
				t.Error("the honest tokens are dead")
			}
		})
		t.Run("T04 a code of 60 seconds", func(t *testing.T) {
			code := w.code(t, request(w.public.ID))
			w.Clock.Advance(60 * time.Second)
			refused(t, audit.TokenRefused, w.public, redeem(code), "invalid_grant")
		})
		t.Run("T04 a code of 59 seconds", func(t *testing.T) {
			code := w.code(t, request(w.public.ID))
			w.Clock.Advance(59 * time.Second)
			got(t, w.token(t, w.public, redeem(code)))
		})

		// Each of these is refused, and then the honest client redeems the code.
		refresher := w.tokens(t, w.public)
		rows := []struct {
			name   string
			by     oauth.Client
			attack func(code string) url.Values
			code   string
		}{
			{"T05 by another public client", w.rival, func(c string) url.Values { return redeem(c) }, "invalid_grant"},
			{"T05 by a confidential client", w.basic, func(c string) url.Values { return redeem(c) }, "invalid_grant"},
			{"T06 one digit more", w.public, func(c string) url.Values { return redeem(c + "0") }, "invalid_grant"},
			{"T06 one digit less", w.public, func(c string) url.Values { return redeem(c[:len(c)-1]) }, "invalid_grant"},
			{"T06 another last digit", w.public, func(c string) url.Values { return redeem(c[:len(c)-1] + otherDigit(c)) }, "invalid_grant"},
			{"T06 blanks around", w.public, func(c string) url.Values { return redeem(" " + c + " ") }, "invalid_grant"},
			{"T06 other letter case", w.public, func(c string) url.Values { return redeem(strings.ToUpper(c)) }, "invalid_grant"},
			{"T06 the right id with another secret", w.public, func(c string) url.Values {
				return redeem(forge(t, "ac", c, secret.New(secret.AuthorizationCode, w.Clock.Now()).Text))
			}, "invalid_grant"},
			{"T06 a well-formed code that never was", w.public, func(string) url.Values {
				return redeem(secret.New(secret.AuthorizationCode, w.Clock.Now()).Text)
			}, "invalid_grant"},
			{"T07 a refresh token as a code", w.public, func(string) url.Values { return redeem(refresher.Refresh) }, "invalid_grant"},
			{"T07 an access token as a code", w.public, func(string) url.Values { return redeem(refresher.Access) }, "invalid_grant"},
			{"T07 the id of a code as the id of a sign-in", w.public, func(c string) url.Values {
				return redeem(strings.Replace(c, "pst_ac_", "pst_fl_", 1))
			}, "invalid_grant"},
			{"T08 no verifier", w.public, func(c string) url.Values { return redeem(c, "code_verifier", "") }, "invalid_grant"},
			{"T10 another verifier", w.public, func(c string) url.Values { return redeem(c, "code_verifier", strings.Repeat("w", 43)) }, "invalid_grant"},
			{"T10 the challenge as verifier", w.public, func(c string) url.Values { return redeem(c, "code_verifier", challengeOf(rigVerifier)) }, "invalid_grant"},
			{"T10 a verifier of 42 characters", w.public, func(c string) url.Values { return redeem(c, "code_verifier", rigVerifier[:42]) }, "invalid_grant"},
			{"T10 a verifier of 129 characters", w.public, func(c string) url.Values { return redeem(c, "code_verifier", strings.Repeat("w", 129)) }, "invalid_grant"},
			{"T10 a verifier with other characters", w.public, func(c string) url.Values { return redeem(c, "code_verifier", rigVerifier+"+/") }, "invalid_grant"},
			{"T11 another redirect URI", w.public, func(c string) url.Values { return redeem(c, "redirect_uri", callback+"/") }, "invalid_grant"},
			{"T11 the redirect URI of an attacker", w.public, func(c string) url.Values { return redeem(c, "redirect_uri", evil) }, "invalid_grant"},
			{"T12 another resource", w.public, func(c string) url.Values { return redeem(c, "resource", notes) }, "invalid_target"},
			{"T12 the resource and another one", w.public, func(c string) url.Values { return with2(redeem(c, "resource", todo), "resource", notes) }, "invalid_target"},
			{"T12 no resource that anybody has", w.public, func(c string) url.Values { return redeem(c, "resource", "nonsense") }, "invalid_target"},
			{"T13 a scope that was not allowed", w.public, func(c string) url.Values { return redeem(c, "scope", "read:todos delete:todos") }, "invalid_scope"},
			{"T13 a scope that is no scope", w.public, func(c string) url.Values { return redeem(c, "scope", `"`) }, "invalid_scope"},
			{"no code", w.public, func(string) url.Values { return redeem("") }, "invalid_grant"},
		}
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				code := w.code(t, request(w.public.ID))
				refused(t, audit.TokenRefused, row.by, row.attack(code), row.code)
				got(t, w.token(t, w.public, redeem(code)))
			})
		}
		t.Run("T09 a code without a challenge", func(t *testing.T) {
			planted := secret.New(secret.AuthorizationCode, w.Clock.Now())
			w.plant(t, planted)
			refused(t, audit.TokenRefused, w.public, redeem(planted.Text), "invalid_grant")
			refused(t, audit.TokenRefused, w.public, redeem(planted.Text, "code_verifier", ""), "invalid_grant")
		})
		t.Run("T10 after five wrong verifiers the right one does not count", func(t *testing.T) {
			code := w.code(t, request(w.public.ID))
			for range 5 {
				refused(t, audit.TokenRefused, w.public, redeem(code, "code_verifier", strings.Repeat("w", 43)), "invalid_grant")
			}
			refused(t, audit.TokenRefused, w.public, redeem(code), "invalid_grant")
		})
		t.Run("T11 no redirect URI", func(t *testing.T) {
			got(t, w.token(t, w.public, redeem(w.code(t, request(w.public.ID)), "redirect_uri", "")))
		})
		t.Run("T12 the granted resource, with a slash behind it", func(t *testing.T) {
			i := got(t, w.token(t, w.public, redeem(w.code(t, request(w.public.ID, "resource", todo+"/")), "resource", todo+"/")))
			if aud := claimsOf(t, i.Access)["aud"]; aud != todo {
				t.Errorf("aud is %v, want the registered spelling", aud)
			}
		})
		t.Run("T13 fewer scopes than were allowed", func(t *testing.T) {
			i := got(t, w.token(t, w.public, redeem(w.code(t, request(w.public.ID)), "scope", "read:todos")))
			if i.Scope != "read:todos" || claimsOf(t, i.Access)["scope"] != "read:todos" {
				t.Errorf("got %+v", i)
			}
		})
	})
}

// otherDigit is a last digit that a text does not have.
func otherDigit(text string) string {
	if strings.HasSuffix(text, "0") {
		return "1"
	}
	return "0"
}

// forge makes a well-formed secret with the id of one and the random bits of
// another.
func forge(t *testing.T, kind, idOf, randomOf string) string {
	t.Helper()
	prefix := "pst_" + kind + "_"
	raw := func(text string) []byte {
		n, ok := new(big.Int).SetString(strings.TrimPrefix(text, prefix), 62)
		if !ok {
			t.Fatalf("not a secret: %s", text)
		}
		return n.FillBytes(make([]byte, 52))
	}
	body := append(raw(idOf)[:16:16], raw(randomOf)[16:48]...)
	sum := crc32.ChecksumIEEE(append([]byte(prefix), body...))
	text := new(big.Int).SetBytes(append(body, byte(sum>>24), byte(sum>>16), byte(sum>>8), byte(sum))).Text(62)
	forged := prefix + strings.Repeat("0", 70-len(text)) + text
	if _, ok := secret.Parse(secret.Kind(kind), forged); !ok {
		t.Fatalf("badly forged: %s", forged)
	}
	return forged
}

// plant keeps a code as no server of ours would: without a challenge.
func (w *world) plant(t *testing.T, s secret.Secret) {
	t.Helper()
	sub, _ := claimsOf(t, w.tokens(t, w.public).Access)["sub"].(string)
	now := w.Clock.Now()
	err := w.Store.Decide(t.Context(), oauth.Decision{
		Grant:  oauth.Grant{ID: "grant-test-planted", ProjectID: w.Project.ID, Subject: sub, ClientID: w.public.ID, CreatedAt: now},
		Scopes: []oauth.GrantScope{{Resource: todo, Scope: "read:todos", Allowed: true, DecidedAt: now}},
		Code: oauth.Code{
			ID: s.ID, ProjectID: w.Project.ID, Hash: s.Hash[:], ClientID: w.public.ID, Subject: sub, RedirectURI: callback,
			Resource: todo, Scopes: []string{"read:todos"}, AuthTime: now, CreatedAt: now, ExpiresAt: now.Add(time.Minute),
		},
	}, audit.Event{ProjectID: w.Project.ID, At: now, Kind: audit.GrantAllowed})
	if err != nil {
		t.Fatal(err)
	}
}

// Row: T03. Of any number of redemptions at once one gets tokens, and they die
// with the second.
//
// Proves: RFC6749-4.1.2-b, MCP-AS-20
func TestCodeRace(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		code := w.code(t, request(w.public.ID))
		form := with(redeem(code), "client_id", w.public.ID).Encode()
		answers := w.together(t, 100, func(int) (answer, error) {
			return w.try(t, http.MethodPost, oauth.PathToken, isForm, form)
		})
		var won []answer
		for _, a := range answers {
			if a.code == http.StatusOK {
				won = append(won, a)
				continue
			}
			refusedToken(t, a, http.StatusBadRequest, "invalid_grant")
		}
		if len(won) != 1 {
			t.Fatalf("%d redemptions won", len(won))
		}
		if n := w.kept(t)["family"]; n != 1 {
			t.Errorf("%d families", n)
		}
		if i := got(t, won[0]); w.active(t, i.Access) || w.active(t, i.Refresh) {
			t.Error("the winner's tokens live after a proven replay")
		}
		if n := w.events(t)["token.code_reused"]; n != 1 {
			t.Errorf("%d events of the reuse", n)
		}
	})
}

// together makes n calls at once and returns what each was answered.
func (w *world) together(t *testing.T, n int, call func(i int) (answer, error)) []answer {
	t.Helper()
	answers, errs := make([]answer, n), make([]error, n)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Add(1)
		go func() {
			defer all.Done()
			<-start
			answers[i], errs[i] = call(i)
		}()
	}
	close(start)
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return answers
}

// A client authenticates as it registered. Whoever does not learns nothing but
// that, and a code it presents stays as it was.
//
// Proves: MCP-AS-42, MCP-AS-43, RFC6749-2.3-a, RFC6749-2.3.1-a, RFC6749-2.3.1-b, RFC6749-3.2.1-a, RFC6749-4.1.3-a,
// RFC6749-5.2-b, RFC9700-2.5-a, OIDC-3.1.3.2-a, RFC6749-2.2-a, RFC6749-10.2-a
func TestClientAuthentication(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		basic, post := w.basic, w.post
		raw := func(text string) string { return "Basic " + base64.StdEncoding.EncodeToString([]byte(text)) }
		wrong := secret.New(secret.ClientSecret, w.Clock.Now()).Text
		const refused = audit.ClientRefused
		rows := []struct {
			name   string
			client oauth.Client // whose code it is
			header string
			form   []string
			status int
			code   string
			event  audit.Kind
		}{
			{"T14 a confidential client without a secret", basic, "", []string{"client_id", basic.ID}, 401, "invalid_client", refused},
			{"T14 a wrong secret in the header", basic, basicAuth(basic.ID, wrong), nil, 401, "invalid_client", refused},
			{"T14 a wrong secret in the body", post, "", []string{"client_id", post.ID, "client_secret", wrong}, 401, "invalid_client", refused},
			{"T14 the secret of another client", basic, basicAuth(basic.ID, w.keys[post.ID]), nil, 401, "invalid_client", refused},
			{"T14 a secret that is cut", basic, basicAuth(basic.ID, w.keys[basic.ID][:60]), nil, 401, "invalid_client", refused},
			{"T14 the right id of the secret, other random bits", basic, basicAuth(basic.ID, forge(t, "cs", w.keys[basic.ID], wrong)), nil, 401, "invalid_client", refused},
			{"T15 not base64", basic, "Basic %%%", nil, 401, "invalid_client", refused},
			{"T15 no colon", basic, raw(basic.ID), nil, 401, "invalid_client", refused},
			{"T15 not UTF-8", basic, raw("\xff\xfe:x"), nil, 401, "invalid_client", refused},
			{"T15 not UTF-8 once decoded", basic, raw("%ff%fe:x"), nil, 401, "invalid_client", refused},
			{"T15 a NUL", basic, raw("a\x00b:x"), nil, 401, "invalid_client", refused},
			{"T15 a NUL once decoded", basic, raw("a%00b:x"), nil, 401, "invalid_client", refused},
			{"T15 a broken percent sign", basic, raw("%zz:x"), nil, 401, "invalid_client", refused},
			{"T15 nothing but a colon", basic, raw(":"), nil, 401, "invalid_client", refused},
			{"T15 a control byte", basic, raw(basic.ID + "\x01:x"), nil, 401, "invalid_client", refused},
			{"T15 another scheme", basic, "Bearer " + wrong, nil, 401, "invalid_client", refused},
			{"T16 header and body", basic, basicAuth(basic.ID, w.keys[basic.ID]), []string{"client_secret", w.keys[basic.ID]}, 400, "invalid_request", refused},
			{"T16 another client_id in the body", basic, basicAuth(basic.ID, w.keys[basic.ID]), []string{"client_id", post.ID}, 400, "invalid_request", refused},
			{"T17 body for header", basic, "", []string{"client_id", basic.ID, "client_secret", w.keys[basic.ID]}, 401, "invalid_client", refused},
			{"T17 header for body", post, basicAuth(post.ID, w.keys[post.ID]), nil, 401, "invalid_client", refused},
			{"T17 none for body", post, "", []string{"client_id", post.ID}, 401, "invalid_client", refused},
			{"T18 a public client with a secret in the body", w.public, "", []string{"client_id", w.public.ID, "client_secret", wrong}, 401, "invalid_client", refused},
			{"T18 a public client with a secret in the header", w.public, basicAuth(w.public.ID, wrong), nil, 401, "invalid_client", refused},
			{"no client at all", w.public, "", nil, 401, "invalid_client", refused},
			{"an unknown client", w.public, "", []string{"client_id", "connected-app-test-none"}, 401, "invalid_client", refused},
			{"an unknown client by a URL", w.public, "", []string{"client_id", "https://client.example.test/document"}, 401, "invalid_client", refused},
			{"A36 a client of another project", w.public, "", []string{"client_id", w.neighbour(t).ID}, 401, "invalid_client", refused},
		}
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				code := w.code(t, request(row.client.ID))
				w.refuses(t, row.event, func() {
					header := isForm.Clone()
					if row.header != "" {
						header.Set("Authorization", row.header)
					}
					a := w.send(t, http.MethodPost, oauth.PathToken, header, redeem(code, row.form...).Encode())
					refusedToken(t, a, row.status, row.code)
					asks := strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Basic ")
					if want := row.status == 401 && strings.HasPrefix(row.header, "Basic"); asks != want {
						t.Errorf("WWW-Authenticate %q", a.header.Get("WWW-Authenticate"))
					}
				})
				got(t, w.token(t, row.client, redeem(code)))
			})
		}
		t.Run("T15 the scheme in lower case", func(t *testing.T) {
			header := isForm.Clone()
			header.Set("Authorization", "b"+strings.TrimPrefix(basicAuth(basic.ID, w.keys[basic.ID]), "B"))
			got(t, w.send(t, http.MethodPost, oauth.PathToken, header, redeem(w.code(t, request(basic.ID))).Encode()))
		})
		t.Run("T15 both halves form-encoded, down to the last letter", func(t *testing.T) {
			var id, key strings.Builder
			for _, c := range []byte(basic.ID) {
				fmt.Fprintf(&id, "%%%02x", c)
			}
			for _, c := range []byte(w.keys[basic.ID]) {
				fmt.Fprintf(&key, "%%%02X", c)
			}
			header := isForm.Clone()
			header.Set("Authorization", raw(id.String()+":"+key.String()))
			got(t, w.send(t, http.MethodPost, oauth.PathToken, header, redeem(w.code(t, request(basic.ID))).Encode()))
		})
		t.Run("T32 an unknown client and a wrong secret get one answer", func(t *testing.T) {
			bodies := map[string]bool{}
			for _, auth := range []string{
				basicAuth("connected-app-test-none", wrong), basicAuth(basic.ID, wrong), basicAuth(w.public.ID, wrong), basicAuth(w.blocked(t).ID, wrong),
				basicAuth(post.ID, w.keys[post.ID]),
			} {
				header := isForm.Clone()
				header.Set("Authorization", auth)
				a := w.send(t, http.MethodPost, oauth.PathToken, header, redeem("x").Encode())
				bodies[a.header.Get("WWW-Authenticate")+a.body] = true
			}
			if len(bodies) != 1 {
				t.Errorf("%d different answers: %v", len(bodies), bodies)
			}
		})
	})
}

// Nor does the time of the answer tell whether a client is known.
//
// Row: T32.
func TestUnknownClientsCostTheSame(t *testing.T) {
	w := newWorld(t, servertest.Config{})
	known, _ := w.AddClient(t, oauth.NewClient{Name: "Robot", Type: oauth.ThirdParty, RedirectURIs: []string{callback}})
	wrong := secret.New(secret.ClientSecret, w.Clock.Now()).Text
	took := map[string][]time.Duration{}
	for range 200 {
		for _, id := range []string{known.ID, "connected-app-test-none"} { // in turns, so that other work slows both
			w.Clock.Advance(time.Minute) // the limits of tries
			header := isForm.Clone()
			header.Set("Authorization", basicAuth(id, wrong))
			begun := time.Now()
			a := w.send(t, http.MethodPost, oauth.PathToken, header, redeem("x").Encode())
			took[id] = append(took[id], time.Since(begun))
			if a.code != http.StatusUnauthorized {
				t.Fatalf("%s: %d %s", id, a.code, a.body)
			}
		}
	}
	median := func(id string) time.Duration {
		slices.Sort(took[id])
		return took[id][len(took[id])/2]
	}
	a, b := median(known.ID), median("connected-app-test-none")
	t.Logf("a known client %s, an unknown one %s", a, b)
	if (a - b).Abs() > max(5*time.Millisecond, max(a, b)/2) {
		t.Errorf("a known client's wrong secret takes %s, an unknown client's %s", a, b)
	}
}

// Wrong secrets are counted, exactly; the right one works all the same, so that
// a stranger cannot shut a client out.
//
// Proves: RFC6749-2.3.1-c
func TestClientSecretGuesses(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		guess := secret.New(secret.ClientSecret, w.Clock.Now()).Text
		try := func() answer {
			header := isForm.Clone()
			header.Set("Authorization", basicAuth(w.basic.ID, guess))
			return w.send(t, http.MethodPost, oauth.PathToken, header, redeem("x").Encode())
		}
		for range 20 {
			refusedToken(t, try(), http.StatusUnauthorized, "invalid_client")
		}
		a := try()
		refusedToken(t, a, http.StatusTooManyRequests, "temporarily_unavailable")
		if a.header.Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if a := w.token(t, w.basic, redeem(w.code(t, request(w.basic.ID)))); a.code != http.StatusOK {
			t.Errorf("the client itself waits: %d", a.code)
		}
		if a := w.token(t, w.post, redeem(w.code(t, request(w.post.ID)))); a.code != http.StatusOK {
			t.Errorf("another client waits too: %d", a.code)
		}
		w.Clock.Advance(time.Minute)
		got(t, w.token(t, w.basic, redeem(w.code(t, request(w.basic.ID)))))
	})
}

// What is no token request at all.
//
// Proves: MCP-AS-41, RFC6749-2.3.1-d, RFC6749-3.2-a, RFC6749-3.2-b, RFC6749-3.2-c, RFC6749-5.2-b, RFC6749-5.2-c, RFC6749-4.2-a, RFC6749-4.3-a, RFC9700-2.4-a
func TestTokenRequestForm(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		single := w.without(t, w.public, "refresh_token")
		secrets := url.Values{"client_id": {w.post.ID}, "client_secret": {w.keys[w.post.ID]}}.Encode()
		form := func(code string, more ...string) string {
			return strings.Join(append([]string{redeem(code, "client_id", w.public.ID).Encode()}, more...), "&")
		}
		json := http.Header{"Content-Type": {"application/json"}}
		theirs := w.tokens(t, w.rival).Access
		rows := []struct {
			name   string
			query  string
			header http.Header
			body   func(code string) string
			code   string
			event  audit.Kind
		}{
			{"T23 no grant type", "", isForm, func(c string) string { return redeem(c, "client_id", w.public.ID, "grant_type", "").Encode() }, "invalid_request", audit.TokenRefused},
			{"T23 grant type password", "", isForm, func(c string) string {
				return "grant_type=password&username=ada&password=x&client_id=" + w.public.ID
			}, "unsupported_grant_type", audit.TokenRefused},
			{"T23 grant type implicit", "", isForm, func(c string) string { return redeem(c, "client_id", w.public.ID, "grant_type", "implicit").Encode() }, "unsupported_grant_type", audit.TokenRefused},
			{"T23 T30 grant type client_credentials", "", isForm, func(c string) string { return "grant_type=client_credentials&" + secrets }, "unsupported_grant_type", audit.TokenRefused},
			{"T30 client_credentials by a public client", "", isForm, func(string) string {
				return "grant_type=client_credentials&scope=read:todos&client_id=" + w.public.ID
			}, "unsupported_grant_type", audit.TokenRefused},
			{"T31 token exchange", "", isForm, func(string) string {
				return url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {theirs}, "client_id": {w.public.ID}}.Encode()
			}, "unsupported_grant_type", audit.TokenRefused},
			{"T31 JWT bearer", "", isForm, func(string) string {
				return url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:jwt-bearer"}, "assertion": {theirs}, "client_id": {w.public.ID}}.Encode()
			}, "unsupported_grant_type", audit.TokenRefused},
			{"T31 device code", "", isForm, func(c string) string {
				return url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "device_code": {c}, "client_id": {w.public.ID}}.Encode()
			}, "unsupported_grant_type", audit.TokenRefused},
			{"T23 a grant type in other letters", "", isForm, func(c string) string {
				return redeem(c, "client_id", w.public.ID, "grant_type", "Authorization_Code").Encode()
			}, "unsupported_grant_type", audit.TokenRefused},
			{"T24 a grant type the client did not register for", "", isForm, func(c string) string { return refresh(c, "client_id", single.ID).Encode() }, "unauthorized_client", audit.TokenRefused},
			{"T26 no media type", "", http.Header{}, func(c string) string { return form(c) }, "invalid_request", audit.RequestRefused},
			{"T26 text", "", http.Header{"Content-Type": {"text/plain"}}, func(c string) string { return form(c) }, "invalid_request", audit.RequestRefused},
			{"T26 two media types in one", "", http.Header{"Content-Type": {"application/json, application/x-www-form-urlencoded"}}, func(c string) string { return form(c) }, "invalid_request", audit.RequestRefused},
			{"T26 two media types", "", http.Header{"Content-Type": {"application/x-www-form-urlencoded", "application/json"}}, func(c string) string { return form(c) }, "invalid_request", audit.RequestRefused},
			{"T26 JSON that is a form", "", json, func(c string) string { return form(c) }, "invalid_request", audit.RequestRefused},
			{"T26 JSON with a number for a text", "", json, func(c string) string {
				return `{"grant_type":"authorization_code","client_id":"` + w.public.ID + `","code":7}`
			}, "invalid_request", audit.RequestRefused},
			{"T26 JSON with a list for a text", "", json, func(c string) string {
				return `{"grant_type":"authorization_code","client_id":["` + w.public.ID + `","x"],"code":"` + c + `"}`
			}, "invalid_request", audit.RequestRefused},
			{"T26 JSON with an object for a text", "", json, func(c string) string {
				return `{"grant_type":{"a":"authorization_code"},"client_id":"` + w.public.ID + `","code":"` + c + `"}`
			}, "invalid_request", audit.RequestRefused},
			{"T26 a JSON list", "", json, func(c string) string { return `["` + c + `"]` }, "invalid_request", audit.RequestRefused},
			{"T26 a member twice", "", json, func(c string) string {
				return `{"grant_type":"authorization_code","grant_type":"refresh_token","client_id":"` + w.public.ID + `"}`
			}, "invalid_request", audit.RequestRefused},
			{"T27 code twice", "", isForm, func(c string) string { return form(c, "code="+c) }, "invalid_request", audit.RequestRefused},
			{"T27 client_id twice", "", isForm, func(c string) string { return form(c, "client_id="+w.rival.ID) }, "invalid_request", audit.RequestRefused},
			{"T27 code_verifier twice", "", isForm, func(c string) string { return form(c, "code_verifier=x") }, "invalid_request", audit.RequestRefused},
			{"T27 secrets in the address", "?" + secrets, isForm, func(c string) string { return redeem(c).Encode() }, "invalid_request", audit.RequestRefused},
			{"R16 a refresh token in the address", "?refresh_token=pst_rt_x", isForm, func(c string) string {
				return "grant_type=refresh_token&client_id=" + w.public.ID
			}, "invalid_request", audit.RequestRefused},
			{"a form that is none", "", isForm, func(string) string { return "%zz=%" }, "invalid_request", audit.RequestRefused},
			{"a NUL", "", isForm, func(c string) string { return form(c, "x=%00") }, "invalid_request", audit.RequestRefused},
		}
		for _, row := range rows {
			t.Run(row.name, func(t *testing.T) {
				code := w.code(t, request(w.public.ID))
				w.refuses(t, row.event, func() {
					refusedToken(t, w.send(t, http.MethodPost, oauth.PathToken+row.query, row.header, row.body(code)), http.StatusBadRequest, row.code)
				})
				got(t, w.token(t, w.public, redeem(code)))
			})
		}
		for _, method := range []string{"GET", "PUT", "DELETE", "PATCH"} {
			t.Run("T25 "+method, func(t *testing.T) {
				w.refuses(t, "", func() {
					a := w.send(t, method, oauth.PathToken+"?"+redeem("x", "client_id", w.public.ID).Encode(), nil, "")
					if a.code != http.StatusMethodNotAllowed || !strings.Contains(a.header.Get("Allow"), "POST") {
						t.Errorf("got %d, Allow %q", a.code, a.header.Get("Allow"))
					}
					innocent(t, a.header, a.body)
				})
			})
		}
		t.Run("a body of 33 KiB", func(t *testing.T) {
			w.refuses(t, audit.RequestRefused, func() {
				a := w.send(t, http.MethodPost, oauth.PathToken, isForm, form("x", "y="+strings.Repeat("z", 33<<10)))
				refusedToken(t, a, http.StatusRequestEntityTooLarge, "invalid_request")
			})
		})
		t.Run("parameters nobody knows and empty ones are ignored", func(t *testing.T) {
			got(t, w.send(t, http.MethodPost, oauth.PathToken, isForm, form(w.code(t, request(w.public.ID)), "x=1", "scope=", "resource=")))
		})
		t.Run("JSON, as the compatible SDKs send it", func(t *testing.T) {
			body := `{"grant_type":"authorization_code","client_id":"` + w.public.ID + `","code":"` + w.code(t, request(w.public.ID)) +
				`","code_verifier":"` + rigVerifier + `","resource":["` + todo + `"],"scope":null}`
			got(t, w.send(t, http.MethodPost, oauth.PathToken, json, body))
		})
	})
}

// Row: T28, R11. Between code and token, or token and refresh, who was allowed
// may be gone.
//
// Proves: RFC6749-4.1.3-b, MCP-AS-20
func TestGoneBetween(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		grantOf := func(i issued) (subject, grant string) {
			c := claimsOf(t, i.Access)
			return c["sub"].(string), c["grant_id"].(string)
		}
		withdraw := func(t *testing.T, i issued) {
			subject, grant := grantOf(i)
			e := audit.Event{ProjectID: w.Project.ID, At: w.Clock.Now(), Kind: audit.GrantRevoked}
			if err := w.Store.RevokeGrant(t.Context(), w.Project.ID, subject, grant, w.Clock.Now().Add(time.Hour), e); err != nil {
				t.Fatal(err)
			}
		}
		t.Run("T28 R11 the consent was withdrawn", func(t *testing.T) {
			before := w.tokens(t, w.rival)
			code := w.code(t, request(w.rival.ID))
			withdraw(t, before)
			w.refuses(t, audit.TokenRefused, func() {
				refusedToken(t, w.token(t, w.rival, redeem(code)), http.StatusBadRequest, "invalid_grant")
			})
			w.refuses(t, audit.TokenRefused, func() {
				refusedToken(t, w.token(t, w.rival, refresh(before.Refresh)), http.StatusBadRequest, "invalid_grant")
			})
			if w.active(t, before.Access) || w.active(t, before.Refresh) {
				t.Error("tokens outlive the consent")
			}
			t.Run("and given again: the old code and tokens stay dead", func(t *testing.T) {
				after := w.tokens(t, w.rival)
				refusedToken(t, w.token(t, w.rival, redeem(code)), http.StatusBadRequest, "invalid_grant")
				refusedToken(t, w.token(t, w.rival, refresh(before.Refresh)), http.StatusBadRequest, "invalid_grant")
				if w.active(t, before.Access) || !w.active(t, after.Access) {
					t.Error("the wrong tokens live")
				}
			})
		})
		t.Run("T28 R11 the client was deleted", func(t *testing.T) {
			gone := w.client(t, oauth.NewClient{Name: "Gone", Type: oauth.ThirdPartyPublic})
			before := w.tokens(t, gone)
			code := w.code(t, request(gone.ID))
			if err := w.Clients.DeleteClient(t.Context(), w.Project, gone.ID); err != nil {
				t.Fatal(err)
			}
			for _, form := range []url.Values{redeem(code), refresh(before.Refresh)} {
				w.refuses(t, audit.ClientRefused, func() {
					refusedToken(t, w.token(t, gone, form), http.StatusUnauthorized, "invalid_client")
				})
			}
			if w.active(t, before.Access) {
				t.Error("a token outlives its client")
			}
		})
		t.Run("T28 the resource was removed", func(t *testing.T) {
			const short = "https://short.example.test/mcp"
			w.AddResource(t, short, project.Scope{Name: "read:short", ReadOnly: true})
			q := request(w.public.ID, "resource", short, "scope", "read:short")
			before := got(t, w.token(t, w.public, redeem(w.code(t, q))))
			code := w.code(t, q)
			if err := w.Projects.RemoveResource(t.Context(), w.Project, short); err != nil {
				t.Fatal(err)
			}
			w.Follow(t)
			for _, form := range []url.Values{redeem(code), refresh(before.Refresh)} {
				w.refuses(t, audit.TokenRefused, func() {
					refusedToken(t, w.token(t, w.public, form), http.StatusBadRequest, "invalid_grant")
				})
			}
		})
		t.Run("R17 everything of a person is ended", func(t *testing.T) {
			b := w.signedIn(t, "grace@example.test")
			code := w.answer(t, b, request(w.public.ID)).Query().Get("code")
			mine := got(t, w.token(t, w.public, redeem(code)))
			next := w.answer(t, b, request(w.public.ID)).Query().Get("code")
			subject, _ := grantOf(mine)
			e := audit.Event{ProjectID: w.Project.ID, At: w.Clock.Now(), Kind: audit.UserRevoked}
			if _, err := w.Store.RevokeUser(t.Context(), w.Project.ID, subject, e); err != nil {
				t.Fatal(err)
			}
			if w.active(t, mine.Access) || w.active(t, mine.Refresh) {
				t.Error("tokens outlive the end of everything")
			}
			for _, form := range []url.Values{refresh(mine.Refresh), redeem(next)} {
				refusedToken(t, w.token(t, w.public, form), http.StatusBadRequest, "invalid_grant")
			}
			if page := b.Authorize(t, request(w.public.ID)); !strings.Contains(page.Body, `name="email"`) {
				t.Error("the browser is still signed in")
			}
		})
	})
}

// Row: T28, R11. A person who is locked, or a member who lost a permission. The
// latter is a question to whoever knows people, so a rig with people of its own
// asks.
func TestPersonNarrowed(t *testing.T) { eachRig(t, personNarrowed) }

func personNarrowed(t *testing.T, newRig rigMaker) {
	for _, grant := range []string{"code", "refresh token"} {
		t.Run(grant, func(t *testing.T) {
			r, consumer := newRig(t, members), newRig(t)
			client, _ := r.client("none")
			post := func(t *testing.T, r *rig, f url.Values) answer {
				a := r.post(r.server.Token, "", "", f)
				a.T = t
				return a
			}
			form := func(r *rig, client oauth.Client) url.Values {
				if grant == "code" {
					return with(redeem(r.allowed(client, rigNotes, "read:notes", "write:notes")), "client_id", client.ID, "redirect_uri", "")
				}
				return refresh(r.authorize(client, "", rigNotes, "read:notes", "write:notes").Refresh, "client_id", client.ID)
			}
			for kind, r := range map[string]*rig{"locked": consumer, "member locked": r} {
				t.Run(kind, func(t *testing.T) {
					client, _ := r.client("none")
					f := form(r, client)
					r.lock(true)
					defer r.lock(false)
					post(t, r, f).refused(http.StatusBadRequest, "invalid_grant")
					if e := r.newest(audit.TokenRefused); e.Reason != "the person can no longer grant any of it" {
						t.Errorf("%+v", e)
					}
				})
			}
			t.Run("lost one of two: the token has the other", func(t *testing.T) {
				f := form(r, client)
				r.people.lost = []string{"write:notes"}
				defer func() { r.people.lost = nil }()
				if i := got(t, post(t, r, f)); i.Scope != "read:notes" {
					t.Errorf("scope %q", i.Scope)
				}
			})
			t.Run("lost one of two and asks for that one alone: the grant lives", func(t *testing.T) {
				f := form(r, client)
				r.people.lost = []string{"write:notes"}
				r.clock.Advance(time.Second)
				post(t, r, with(f, "scope", "write:notes")).refused(http.StatusBadRequest, "invalid_scope")
				if e := r.newest(audit.TokenRefused); e.Reason != "the person can no longer grant what was asked" || e.Subject != rigSubject || e.ClientID != client.ID {
					t.Errorf("%+v", e)
				}
				r.people.lost = nil
				got(t, post(t, r, f))
			})
			t.Run("lost all", func(t *testing.T) {
				f := form(r, client)
				r.people.lost = []string{"read:notes", "write:notes"}
				defer func() { r.people.lost = nil }()
				post(t, r, f).refused(http.StatusBadRequest, "invalid_grant")
			})
			t.Run("lost all that does anything", func(t *testing.T) {
				code := r.allowed(client, rigNotes, "read:notes", "offline_access")
				f := with(redeem(code), "client_id", client.ID, "redirect_uri", "")
				r.people.lost = []string{"read:notes"}
				defer func() { r.people.lost = nil }()
				post(t, r, f).refused(http.StatusBadRequest, "invalid_grant")
			})
		})
	}
}

// allowed has the rig's person allow scopes and returns the code.
func (r *rig) allowed(c oauth.Client, resource string, scopes ...string) string {
	r.Helper()
	ctx := r.Context()
	pending, err := r.server.Begin(ctx, r.project, r.request(c.PublicID(), resource, scopes...), true)
	if err != nil {
		r.Fatal(err)
	}
	consent, err := r.server.Consent(ctx, r.project, pending, r.person())
	if err != nil {
		r.Fatal(err)
	}
	given, err := r.server.Allow(ctx, r.project, "", pending, r.person(), consent, scopes)
	if err != nil {
		r.Fatal(err)
	}
	to, err := url.Parse(given.URL())
	if err != nil {
		r.Fatal(err)
	}
	return to.Query().Get("code")
}

// failing is a store that cannot do one thing.
type failing struct {
	oauth.Store
	what string
}

func (f failing) fails(what string) error {
	if f.what == what {
		return errBroken
	}
	return nil
}

func (f failing) Client(ctx context.Context, projectID, id string) (oauth.Client, error) {
	return orBroken(f.fails("client"), func() (oauth.Client, error) { return f.Store.Client(ctx, projectID, id) })
}

func (f failing) Code(ctx context.Context, projectID, id string) (oauth.Code, error) {
	return orBroken(f.fails("code"), func() (oauth.Code, error) { return f.Store.Code(ctx, projectID, id) })
}

func (f failing) RedeemCode(ctx context.Context, projectID string, r oauth.Redeem, done, reuse audit.Event) error {
	return errors.Join(f.fails("redeem"), f.only("redeem", func() error { return f.Store.RedeemCode(ctx, projectID, r, done, reuse) }))
}

func (f failing) Family(ctx context.Context, projectID, id string) (oauth.Family, oauth.Client, error) {
	if err := f.fails("family"); err != nil {
		return oauth.Family{}, oauth.Client{}, err
	}
	return f.Store.Family(ctx, projectID, id)
}

func (f failing) RotateRefresh(ctx context.Context, r oauth.Rotate, done, reuse audit.Event) (oauth.Rotation, error) {
	return orBroken(f.fails("rotate"), func() (oauth.Rotation, error) { return f.Store.RotateRefresh(ctx, r, done, reuse) })
}

func (f failing) Count(ctx context.Context, projectID string, c oauth.Counter, now time.Time) error {
	return errors.Join(f.fails("count"), f.only("count", func() error { return f.Store.Count(ctx, projectID, c, now) }))
}

func (f failing) CountCodeTry(ctx context.Context, projectID, id string) error {
	return errors.Join(f.fails("try"), f.only("try", func() error { return f.Store.CountCodeTry(ctx, projectID, id) }))
}

func (f failing) Record(ctx context.Context, e audit.Event) error {
	return errors.Join(f.fails("record"), f.only("record", func() error { return f.Store.Record(ctx, e) }))
}

func (f failing) RefuseAttempt(ctx context.Context, a audit.Attempt, e audit.Event, limits []oauth.Counter) error {
	return errors.Join(f.fails("record"), f.only("record", func() error { return f.Store.RefuseAttempt(ctx, a, e, limits) }))
}

func (f failing) RefuseToken(ctx context.Context, asked string, e audit.Event, limits []oauth.Counter) error {
	return errors.Join(f.fails("record"), f.only("record", func() error { return f.Store.RefuseToken(ctx, asked, e, limits) }))
}

func (f failing) RecordRefusal(ctx context.Context, e audit.Event, limits []oauth.Counter) error {
	return errors.Join(f.fails("record"), f.only("record", func() error { return f.Store.RecordRefusal(ctx, e, limits) }))
}

// only calls unless this is what cannot be done.
func (f failing) only(what string, call func() error) error {
	if f.what == what {
		return nil
	}
	return call()
}

func orBroken[T any](err error, call func() (T, error)) (T, error) {
	if err != nil {
		var none T
		return none, err
	}
	return call()
}

// Row: T29. Trouble of ours is 503, never a reason to throw a client's
// registration or tokens away, and the client can simply try again.
//
// Proves: MCP-AS-53
func TestStorageFails(t *testing.T) { eachRig(t, storageFails) }

func storageFails(t *testing.T, newRig rigMaker) {
	shared := newRig(t)
	wrongVerifier := func(f url.Values) url.Values { return with(f, "code_verifier", strings.Repeat("w", 43)) }
	wrongSecret := func(f url.Values) url.Values {
		return with(f, "client_secret", secret.New(secret.ClientSecret, time.Now()).Text)
	}
	noGrant := func(f url.Values) url.Values { return with(f, "grant_type", "") }
	for _, row := range []struct {
		what, grant string
		change      func(url.Values) url.Values
	}{
		{"code", "code", noGrant},
		{"record", "code", noGrant},
		{"record", "code", func(f url.Values) url.Values { return with(f, "client_id", "", "client_secret", "") }},
		{"record", "code", func(f url.Values) url.Values { return url.Values{"code": {f.Get("code"), "x"}} }},
		{"client", "code", nil},
		{"code", "code", nil},
		{"redeem", "code", nil},
		{"try", "code", wrongVerifier},
		{"record", "code", wrongVerifier},
		{"count", "code", wrongSecret},
		{"record", "code", wrongSecret},
		{"family", "refresh token", nil},
		{"rotate", "refresh token", nil},
	} {
		t.Run("T29 "+row.what+" while a "+row.grant+" is exchanged", func(t *testing.T) {
			r := shared.on(shared.store)
			r.T = t
			client, key := r.client("client_secret_post")
			auth := []string{"client_id", client.ID, "client_secret", key, "redirect_uri", ""}
			var form url.Values
			if row.grant == "code" {
				form = with(redeem(r.allowed(client, rigNotes, "read:notes")), auth...)
			} else {
				code := with(redeem(r.allowed(client, rigNotes, "read:notes")), auth...)
				form = with(refresh(got(t, r.post(r.server.Token, "", "", code)).Refresh), auth...)
			}
			attack := form
			if row.change != nil {
				attack = row.change(form)
			}
			broken := r.on(failing{r.store, row.what})
			a := broken.post(broken.server.Token, "", "", attack)
			a.refused(http.StatusServiceUnavailable, "temporarily_unavailable")
			if a.header.Get("Retry-After") == "" || strings.Contains(a.body, "database is away") {
				t.Errorf("got %v %s", a.header, a.body)
			}
			got(t, r.post(r.server.Token, "", "", form))
		})
	}
}

// What clients that exist do to the token endpoint.
//
// Proves: MCP-AS-43
func TestTokenHabits(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		t.Run("Basic with an empty password, then the same code in the body", func(t *testing.T) {
			self := w.self(t, callback)
			for _, c := range []string{w.public.ID, self} {
				code := w.code(t, request(c))
				header := isForm.Clone()
				header.Set("Authorization", basicAuth(c, ""))
				w.refuses(t, "", func() {
					refusedToken(t, w.send(t, http.MethodPost, oauth.PathToken, header, redeem(code).Encode()), http.StatusUnauthorized, "invalid_client")
				})
				got(t, w.send(t, http.MethodPost, oauth.PathToken, isForm, redeem(code, "client_id", c).Encode()))
			}
		})
		t.Run("a secret client that probes with the header first", func(t *testing.T) {
			code := w.code(t, request(w.post.ID))
			header := isForm.Clone()
			header.Set("Authorization", basicAuth(w.post.ID, w.keys[w.post.ID]))
			refusedToken(t, w.send(t, http.MethodPost, oauth.PathToken, header, redeem(code).Encode()), http.StatusUnauthorized, "invalid_client")
			got(t, w.token(t, w.post, redeem(code)))
		})
		t.Run("resource with a slash behind it, at both endpoints or at one", func(t *testing.T) {
			for _, slashes := range [][2]string{{"/", "/"}, {"/", ""}, {"", "/"}} {
				code := w.code(t, request(w.public.ID, "resource", todo+slashes[0]))
				got(t, w.token(t, w.public, redeem(code, "resource", todo+slashes[1])))
			}
		})
		t.Run("resource only at the authorization endpoint, or nowhere", func(t *testing.T) {
			for _, resource := range []string{todo, ""} {
				i := w.tokens(t, w.public, "resource", resource)
				i = got(t, w.token(t, w.public, refresh(i.Refresh)))
				if aud := claimsOf(t, i.Access)["aud"]; aud != todo {
					t.Errorf("aud is %v", aud)
				}
			}
		})
		t.Run("resource only at the token endpoint", func(t *testing.T) {
			got(t, w.token(t, w.public, redeem(w.code(t, request(w.public.ID, "resource", "")), "resource", todo)))
		})
	})
}

// Row: R20, T04. A node whose clock is a little behind takes what another one
// has just issued, and nothing that ran out.
func TestClockBehind(t *testing.T) {
	w := newWorld(t, servertest.Config{})
	i := w.tokens(t, w.public)
	w.Clock.Advance(-9 * time.Second)
	if !w.active(t, i.Access) {
		t.Error("a token of the last moments is not known on a node nine seconds behind")
	}
	w.Clock.Advance(-time.Hour)
	if w.active(t, i.Access) {
		t.Error("a token from an hour ahead is taken")
	}
	w.Clock.Advance(time.Hour + 9*time.Second + 15*time.Minute)
	if w.active(t, i.Access) {
		t.Error("a token lives longer than its time")
	}
}

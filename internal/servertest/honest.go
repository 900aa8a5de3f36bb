package servertest

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

const (
	honestPerson   = "honest@example.test"
	honestCallback = "https://honest.example.test/cb"
	honestVerifier = "what-an-honest-client-keeps-to-itself-until-it-comes-back"
)

// expectHonest fails the test if, after its attacks, a person with a new browser
// cannot give a new client its tokens for the first resource, or the client cannot
// refresh them. In an organization's project nobody is a member by themselves; its
// tests look at the members that they made.
func (s *Server) expectHonest() {
	if s.Project == nil || s.Project.Vertical == project.B2B {
		return
	}
	s.test.Cleanup(func() {
		if s.test.Failed() || s.test.Skipped() || s.stopped.Load() {
			return
		}
		p, err := s.Projects.Find(context.WithoutCancel(s.test.Context()), s.Project.ID)
		if err != nil {
			s.test.Fatal(err)
		}
		if len(p.Resources) == 0 || len(p.Resources[0].Scopes) == 0 {
			return // there is nothing to ask for
		}
		if err := s.honestRound(s.test, p.Resources[0]); err != nil {
			s.test.Errorf("an honest client gets no tokens after the attacks: %v", err)
		}
	})
}

func (s *Server) honestRound(t testing.TB, resource project.Resource) error {
	t.Helper()
	b := s.Browser(t)
	client, _, err := s.Clients.CreateClient(context.WithoutCancel(t.Context()), s.Project, oauth.NewClient{
		Name: "Honest", Type: oauth.ThirdPartyPublic, RedirectURIs: []string{honestCallback},
	})
	if err != nil {
		return err
	}
	challenge := sha256.Sum256([]byte(honestVerifier))
	p := b.SignIn(t, b.Authorize(t, url.Values{
		"response_type": {"code"}, "client_id": {client.ID}, "redirect_uri": {honestCallback}, "state": {"honest"}, "resource": {resource.URI}, "scope": {resource.Scopes[0]},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(challenge[:])}, "code_challenge_method": {"S256"},
	}), honestPerson)
	if strings.Contains(p.Body, `name="action"`) {
		p = b.Submit(t, p, "allow", url.Values{"action": {"allow"}})
	}
	code := p.Answer(t).Query().Get("code")
	if code == "" {
		return fmt.Errorf("no code, but %d at %s: %s", p.Status, p.URL, p.Text())
	}
	refresh, err := s.tokens(b, url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "code_verifier": {honestVerifier},
		"redirect_uri": {honestCallback}, "client_id": {client.ID},
	})
	if err != nil {
		return err
	}
	_, err = s.tokens(b, url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refresh}, "client_id": {client.ID}})
	return err
}

// tokens asks for tokens, and returns the refresh token.
func (s *Server) tokens(b *Browser, form url.Values) (refresh string, err error) {
	response, err := b.Client.PostForm(s.Issuer+oauth.PathToken, form)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	var got struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
	}
	if err := json.Unmarshal(body, &got); err != nil || response.StatusCode != http.StatusOK || got.AccessToken == "" || got.RefreshToken == "" {
		return "", fmt.Errorf("%s: %d %s", form.Get("grant_type"), response.StatusCode, body)
	}
	return got.RefreshToken, nil
}

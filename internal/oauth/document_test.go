package oauth_test

import (
	"compress/gzip"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
)

// publisher is the host of a client's metadata document.
type publisher struct {
	*httptest.Server
	id     string // the client_id, which is the document's address
	asked  atomic.Int32
	answer http.HandlerFunc
}

// publish starts a host whose document is the members, as JSON, after those
// that every document has.
func (r *rig) publish(members string) *publisher {
	r.Helper()
	p := &publisher{}
	p.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p.asked.Add(1)
		w.Header().Set("Content-Type", "application/json")
		p.answer(w, req)
	}))
	r.Cleanup(p.Close)
	p.id = p.URL + "/client.json"
	p.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, p.document(members)) }
	r.fetch = p.Client()
	return p
}

// document is one that holds, with further members.
func (p *publisher) document(members string) string {
	if members != "" {
		members = "," + members
	}
	return fmt.Sprintf(`{"client_id":%q,"client_name":"Notebook","redirect_uris":["%s"]%s}`, p.id, rigCallback, members)
}

// begin starts an authorization of the client with this id, for somebody who
// signed in.
func (r *rig) begin(id string) (oauth.Client, error) {
	pending, err := r.server.Begin(r.Context(), r.project, r.request(id, rigNotes, "read:notes"), true)
	return pending.Client, err
}

// refusedPage checks that an authorization ends on our own page: nothing about
// the client is certain enough to send anything to it.
func (r *rig) refusedPage(id, sentence string) {
	r.Helper()
	_, err := r.begin(id)
	var refusal *oauth.Error
	var atClient *oauth.AuthorizeError
	if errors.As(err, &atClient) || !errors.As(err, &refusal) || refusal.Code != "invalid_client" {
		r.Fatalf("got %v, want invalid_client for our own page", err)
	}
	if !strings.Contains(refusal.Description, sentence) {
		r.Errorf("the sentence %q does not say %q", refusal.Description, sentence)
	}
}

// Proves: CIMD-4-a, CIMD-4.1-a, MCP-AS-30
func TestDocumentClient(t *testing.T) {
	r := newRig(t)
	host := r.publish(`"grant_types":["authorization_code","refresh_token"],"logo_uri":"https://client.example.test/logo.png","bypass_consent":true,"scope":"read:notes"`)
	var header http.Header
	page := host.answer
	host.answer = func(w http.ResponseWriter, req *http.Request) { header = req.Header.Clone(); page(w, req) }
	client, err := r.begin(host.id)
	if err != nil {
		t.Fatal(err)
	}
	want := oauth.Metadata{
		ClientName: "Notebook", RedirectURIs: []string{rigCallback}, GrantTypes: []string{"authorization_code", "refresh_token"},
		ResponseTypes: []string{"code"}, TokenEndpointAuthMethod: "none", LogoURI: "https://client.example.test/logo.png", Scope: "read:notes",
	}
	if diff := cmp.Diff(want, client.Metadata); diff != "" {
		t.Error(diff)
	}
	if client.URL != host.id || client.PublicID() != host.id || client.Type != oauth.ThirdPartyPublic || client.Creation != oauth.Document || client.BypassConsent {
		t.Errorf("client %+v", client)
	}
	if strings.HasPrefix(client.ID, "https://") {
		t.Errorf("internal id %q", client.ID)
	}
	for _, name := range []string{"Cookie", "Authorization", "Referer"} { // Row: M16.
		if header.Get(name) != "" {
			t.Errorf("%s was sent", name)
		}
	}
	got := r.authorize(client, "", rigNotes, "read:notes")
	if got.Refresh == "" {
		t.Error("no refresh token for a client that declares the grant type")
	}
	if host.asked.Load() != 1 {
		t.Errorf("the document was read %d times", host.asked.Load())
	}
}

// Nothing leaves the server for these, whoever asks.
//
// Row: M01, M15. Proves: CIMD-3-a, CIMD-3-b, CIMD-6.5-a, MCP-AS-31
func TestDocumentAddress(t *testing.T) {
	for _, id := range []string{
		"http://client.example.test/client.json", "HTTPS://client.example.test/client.json", "ftp://client.example.test/x",
		"https://client.example.test", "https://client.example.test/a#b", "https://client.example.test/a#",
		"https://user@client.example.test/a", "https://user:pw@client.example.test/a",
		"https://client.example.test/./a", "https://client.example.test/../a", "https://client.example.test/a/..", "https://client.example.test/%2e%2E/a",
		"https:///a", "https://client.example.test:/a", "https://client.example.test/a b", "https://client.example.test\\@evil.example.test/a", "https://clïent.example.test/a",
		"https://client.example.test/" + strings.Repeat("a", 2048), rigIssuer + "/client.json", rigIssuer + ":443/client.json", "https://AUTH.example.test/x", "https://api.example.test/x",
	} {
		t.Run(id[:min(len(id), 60)], func(t *testing.T) {
			r := newRig(t, func(p *project.Project) { p.Hosts = []string{"api.example.test"} })
			r.fetch = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
				t.Error("a request was sent")
				return nil, errBroken
			})}
			r.refusedPage(id, "A client_id that is a URL must ")
		})
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// Proves: CIMD-4-b, CIMD-4-c, CIMD-4.1-b, CIMD-4.1-c, CIMD-4.1-d, CIMD-4.1-e, CIMD-4.3-a, CIMD-4.4-b, CIMD-6.6-a, MCP-AS-32, MCP-AS-34
func TestDocumentRefused(t *testing.T) {
	write := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	const unread, wrong = "could not be read", "document"
	for _, test := range []struct {
		name     string
		sentence string
		answer   func(p *publisher) http.HandlerFunc
	}{
		{"M02 other client_id", "another client", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", strings.Replace(p.document(""), "/client.json", "/Client.json", 1))
		}},
		{"M02 no client_id", "another client", func(*publisher) http.HandlerFunc {
			return write(200, "application/json", `{"client_name":"x","redirect_uris":["`+rigCallback+`"]}`)
		}},
		{"M03 redirect", unread, func(p *publisher) http.HandlerFunc {
			return func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/client.json" {
					http.Redirect(w, req, "/moved.json", http.StatusFound)
					return
				}
				fmt.Fprint(w, p.document(""))
			}
		}},
		{"M04 204", unread, func(*publisher) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
		}},
		{"M04 404", unread, func(p *publisher) http.HandlerFunc { return write(404, "application/json", p.document("")) }},
		{"M04 500", unread, func(p *publisher) http.HandlerFunc { return write(500, "application/json", p.document("")) }},
		{"M04 connection broken", unread, func(*publisher) http.HandlerFunc {
			return func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
		}},
		{"M05 HTML", unread, func(p *publisher) http.HandlerFunc { return write(200, "text/html", p.document("")) }},
		{"M05 no media type", unread, func(p *publisher) http.HandlerFunc { return write(200, "", p.document("")) }},
		{"M05 wrong type", wrong, func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", p.document(`"contacts":"ada@example.test"`))
		}},
		{"M05 member twice", wrong, func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", p.document(`"client_name":"Other"`))
		}},
		{"M05 no name", "client_name", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", strings.Replace(p.document(""), `"client_name":"Notebook",`, "", 1))
		}},
		{"M05 blank name", "client_name", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", strings.Replace(p.document(""), "Notebook", " ", 1))
		}},
		{"no redirect_uris", "redirect_uris", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", strings.Replace(p.document(""), `"`+rigCallback+`"`, "", 1))
		}},
		{"a redirect URI nobody may have", "scheme", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", strings.Replace(p.document(""), rigCallback, "javascript:alert(1)", 1))
		}},
		{"M06 5121 bytes", unread, func(p *publisher) http.HandlerFunc {
			text := p.document("")
			return write(200, "application/json", text+strings.Repeat(" ", 5121-len(text)))
		}},
		{"M06 compressed to nearly nothing", unread, func(p *publisher) http.HandlerFunc {
			return func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				fmt.Fprint(z, p.document("")+strings.Repeat(" ", 1<<20))
				z.Close()
			}
		}},
		{"M08 secret", "secret", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", p.document(`"client_secret":"x"`))
		}},
		{"M08 secret that never expires", "secret", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", p.document(`"client_secret_expires_at":0`))
		}},
		{"M08 secret method", "secret", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", p.document(`"token_endpoint_auth_method":"client_secret_basic"`))
		}},
		{"M08 secret method beside none", "secret", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", p.document(`"token_endpoint_auth_method":"client_secret_jwt","token_endpoint_auth_methods_supported":["none"]`))
		}},
		{"M17 key method without keys", "private_key_jwt", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", p.document(`"token_endpoint_auth_method":"private_key_jwt"`))
		}},
		{"M17 keys by halves", "jwks", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", p.document(`"token_endpoint_auth_methods_supported":["private_key_jwt","none"],"jwks":{"keys":[{"kty":"EC","d":"x"}]}`))
		}},
		{"a way that there is not", "no way to authenticate", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", p.document(`"token_endpoint_auth_method":"tls_client_auth"`))
		}},
		{"M17 key method in the list only, without keys", "private_key_jwt", func(p *publisher) http.HandlerFunc {
			return write(200, "application/json", p.document(`"token_endpoint_auth_methods_supported":["private_key_jwt"]`))
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			host := r.publish("")
			good := host.answer
			host.answer = test.answer(host)
			r.refusedPage(host.id, test.sentence)
			if host.asked.Load() != 1 {
				t.Errorf("the host was asked %d times", host.asked.Load())
			}
			if _, err := r.store.ClientByURL(t.Context(), r.project.ID, host.id); !errors.Is(err, oauth.ErrNotFound) {
				t.Errorf("something was kept: %v", err)
			}
			host.answer = good
			if _, err := r.begin(host.id); err != nil {
				t.Errorf("the refusal outlived its cause: %v", err)
			}
		})
	}
	t.Run("exactly 5120 bytes are read", func(t *testing.T) {
		r := newRig(t)
		host := r.publish("")
		host.answer = write(200, "application/vnd.client+json; charset=utf-8", host.document("")+strings.Repeat(" ", 5120-len(host.document(""))))
		if _, err := r.begin(host.id); err != nil {
			t.Error(err)
		}
	})
}

// Proves: MCP-AS-35
func TestDocumentThatPrefersAKeyButCanDoWithout(t *testing.T) {
	r := newRig(t)
	host := r.publish(`"token_endpoint_auth_method":"private_key_jwt","token_endpoint_auth_methods_supported":["private_key_jwt","none"]`)
	client, err := r.begin(host.id)
	if err != nil {
		t.Fatal(err)
	}
	if client.Metadata.TokenEndpointAuthMethod != "none" {
		t.Errorf("method %q", client.Metadata.TokenEndpointAuthMethod)
	}
}

// Row: M11. Proves: CIMD-4.4-a, MCP-AS-34
func TestDocumentFreshness(t *testing.T) {
	for _, test := range []struct {
		name   string
		header http.Header
		fresh  time.Duration
	}{
		{"nothing said", nil, 5 * time.Minute},
		{"an hour", http.Header{"Cache-Control": {"public, max-age=3600"}}, time.Hour},
		{"an hour, half of it gone", http.Header{"Cache-Control": {"max-age=3600"}, "Age": {"1800"}}, 30 * time.Minute},
		{"shared caches have less", http.Header{"Cache-Control": {"max-age=3600", "s-maxage=600"}}, 10 * time.Minute},
		{"a year", http.Header{"Cache-Control": {"max-age=31536000, immutable"}}, 24 * time.Hour},
		{"a number beyond all numbers", http.Header{"Cache-Control": {"max-age=99999999999999999999"}}, 24 * time.Hour},
		{"no-store", http.Header{"Cache-Control": {"no-store"}}, time.Minute},
		{"no-cache beside an age", http.Header{"Cache-Control": {"No-Cache, max-age=3600"}}, time.Minute},
		{"zero", http.Header{"Cache-Control": {"max-age=0"}}, time.Minute},
		{"negative", http.Header{"Cache-Control": {"max-age=-1"}}, time.Minute},
		{"older than its age", http.Header{"Cache-Control": {"max-age=600"}, "Age": {"6000"}}, time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRig(t)
			host := r.publish("")
			page := host.answer
			host.answer = func(w http.ResponseWriter, req *http.Request) {
				for name, values := range test.header {
					w.Header()[name] = values
				}
				page(w, req)
			}
			for _, step := range []struct {
				wait  time.Duration
				asked int32
			}{{0, 1}, {test.fresh - time.Second, 1}, {time.Second, 2}} {
				r.clock.Advance(step.wait)
				if _, err := r.begin(host.id); err != nil {
					t.Fatal(err)
				}
				if got := host.asked.Load(); got != step.asked {
					t.Fatalf("after %v more: read %d times, want %d", step.wait, got, step.asked)
				}
			}
		})
	}
}

// Row: M14. Proves: CIMD-6.5-b
func TestDocumentIsReadForPeopleWhoSignedInOnly(t *testing.T) {
	eachRig(t, documentIsReadForPeopleWhoSignedInOnly)
}

func documentIsReadForPeopleWhoSignedInOnly(t *testing.T, newRig rigMaker) {
	r := newRig(t)
	host := r.publish("")
	stranger := func() error {
		_, err := r.server.Begin(t.Context(), r.project, r.request(host.id, rigNotes, "read:notes"), false)
		return err
	}
	if err := stranger(); !errors.Is(err, oauth.ErrSignInFirst) || host.asked.Load() != 0 {
		t.Fatalf("got %v, asked %d times", err, host.asked.Load())
	}
	if _, err := r.begin(host.id); err != nil {
		t.Fatal(err)
	}
	if err := stranger(); err != nil {
		t.Errorf("with a fresh copy: %v", err)
	}
	r.clock.Advance(time.Hour)
	if err := stranger(); !errors.Is(err, oauth.ErrSignInFirst) || host.asked.Load() != 1 {
		t.Errorf("with an old copy: %v, asked %d times", err, host.asked.Load())
	}
}

// The copy we keep follows its document, and outlives a host that is away but
// not one that says something else.
//
// Proves: MCP-AS-34
func TestDocumentRenewed(t *testing.T) {
	away := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }
	read := func(r *rig, host *publisher) oauth.Client {
		r.Helper()
		client, err := r.begin(host.id)
		if err != nil {
			r.Fatal(err)
		}
		return client
	}
	t.Run("a changed document is another description of the same client", func(t *testing.T) {
		r := newRig(t)
		host := r.publish("")
		first := read(r, host)
		r.clock.Advance(time.Hour)
		host.answer = func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, strings.Replace(host.document(""), "Notebook", "Notebook 2", 1))
		}
		second := read(r, host)
		if second.ID != first.ID || !second.CreatedAt.Equal(first.CreatedAt) || second.Metadata.ClientName != "Notebook 2" || cmp.Equal(second.MetadataHash, first.MetadataHash) {
			t.Errorf("first %+v\nsecond %+v", first, second)
		}
	})
	t.Run("while the host is away the last copy serves for a day", func(t *testing.T) {
		r := newRig(t)
		host := r.publish("")
		first := read(r, host)
		host.answer = away
		r.clock.Advance(5*time.Minute + 24*time.Hour - time.Second)
		if got := read(r, host); got.ID != first.ID {
			t.Errorf("another client: %+v", got)
		}
		if host.asked.Load() != 2 {
			t.Errorf("the host was asked %d times", host.asked.Load())
		}
		r.clock.Advance(time.Second)
		r.refusedPage(host.id, "could not be read")
	})
	t.Run("a document that takes itself back counts at once", func(t *testing.T) {
		r := newRig(t)
		host := r.publish("")
		read(r, host)
		r.clock.Advance(time.Hour)
		host.answer = func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, host.document(`"token_endpoint_auth_method":"private_key_jwt"`))
		}
		r.refusedPage(host.id, "private_key_jwt")
	})
	t.Run("blocked: whatever its document says", func(t *testing.T) {
		r := newRig(t)
		host := r.publish("")
		blocked := oauth.Client{
			ID: "connected-app-test-blocked", ProjectID: r.project.ID, URL: host.id, Type: oauth.ThirdPartyPublic, Creation: oauth.Document,
			Blocked: true, CreatedAt: r.clock.Now(), LastRegisteredAt: r.clock.Now(),
		}
		if err := r.store.CreateClient(t.Context(), blocked, nil, audit.Event{ProjectID: r.project.ID, At: r.clock.Now(), Kind: audit.ClientCreated}); err != nil {
			t.Fatal(err)
		}
		r.refusedPage(host.id, "blocked")
		if host.asked.Load() != 0 {
			t.Error("the document was read")
		}
	})
	t.Run("switched off: not even the copy", func(t *testing.T) {
		r := newRig(t)
		host := r.publish("")
		read(r, host)
		r.project.Settings.MetadataDocuments = false
		r.refusedPage(host.id, "project set cimd on")
	})
}

// Row: M09.
func TestDocumentListsItsRedirectURIs(t *testing.T) { eachRig(t, documentListsItsRedirectURIs) }

func documentListsItsRedirectURIs(t *testing.T, newRig rigMaker) {
	r := newRig(t)
	host := r.publish("")
	for _, first := range []bool{true, false} { // of the document as it is read, and of the copy
		request := r.request(host.id, rigNotes, "read:notes")
		request.RedirectURI += "/elsewhere"
		_, err := r.server.Begin(t.Context(), r.project, request, true)
		var refusal *oauth.Error
		var atClient *oauth.AuthorizeError
		if errors.As(err, &atClient) || !errors.As(err, &refusal) || host.asked.Load() != 1 {
			t.Errorf("first %v: got %v, want our own page; asked %d times", first, err, host.asked.Load())
		}
	}
}

// Row: M12.
func TestDocumentAddressesAreComparedAsText(t *testing.T) {
	eachRig(t, documentAddressesAreComparedAsText)
}

func documentAddressesAreComparedAsText(t *testing.T, newRig rigMaker) {
	r := newRig(t)
	host := r.publish("")
	host.answer = func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprint(w, strings.Replace(host.document(""), host.id, host.URL+req.URL.String(), 1))
	}
	one, err1 := r.begin(host.id + "?1")
	two, err2 := r.begin(host.id)
	if err := errors.Join(err1, err2); err != nil || one.ID == two.ID || host.asked.Load() != 2 {
		t.Errorf("%v; ids %s and %s; asked %d times", err, one.ID, two.ID, host.asked.Load())
	}
}

// Row: M14. Proves: CIMD-6.5-b
func TestDocumentLimits(t *testing.T) { eachRig(t, documentLimits) }

func documentLimits(t *testing.T, newRig rigMaker) {
	t.Run("callers at once cause one reading", func(t *testing.T) {
		r := newRig(t)
		host := r.publish("")
		page, release := host.answer, make(chan struct{})
		host.answer = func(w http.ResponseWriter, req *http.Request) { <-release; page(w, req) }
		var wait sync.WaitGroup
		errs := make([]error, 20)
		for i := range errs {
			wait.Go(func() { _, errs[i] = r.begin(host.id) })
		}
		for host.asked.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		close(release)
		wait.Wait()
		if err := errors.Join(errs...); err != nil || host.asked.Load() != 1 {
			t.Errorf("%v; asked %d times", err, host.asked.Load())
		}
	})
	t.Run("five a minute at one host", func(t *testing.T) {
		r := newRig(t)
		host := r.publish("")
		host.answer = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }
		for i := range 5 {
			r.refusedPage(fmt.Sprintf("%s/%d", host.URL, i), "could not be read")
		}
		_, err := r.begin(host.id)
		var refusal *oauth.Error
		if !errors.As(err, &refusal) || refusal.Code != "too_many_requests" || host.asked.Load() != 5 {
			t.Fatalf("got %v, asked %d times", err, host.asked.Load())
		}
		r.clock.Advance(time.Minute)
		r.refusedPage(host.id, "could not be read")
	})
	t.Run("sixty a minute for a project, ten for an address", func(t *testing.T) {
		for name, limit := range map[string]int32{"": 60, "192.0.2.7": 10} {
			r := newRig(t)
			var asked atomic.Int32
			r.fetch = &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) { asked.Add(1); return nil, errBroken })}
			for i := range 70 {
				req := httptest.NewRequest(http.MethodGet, "/", nil)
				req.RemoteAddr = name
				if name == "" {
					req.RemoteAddr = fmt.Sprintf("192.0.2.%d", i)
				}
				id := fmt.Sprintf("https://client%d.example.test/client.json", i)
				if _, err := r.server.Begin(r.server.WithAddress(req), r.project, r.request(id, rigNotes, "read:notes"), true); err == nil {
					t.Fatal("accepted")
				}
			}
			if asked.Load() != limit {
				t.Errorf("from %q: %d readings, want %d", name, asked.Load(), limit)
			}
		}
	})
}

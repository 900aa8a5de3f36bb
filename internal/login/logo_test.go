package login_test

import (
	"bytes"
	"image"
	"image/png"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
)

func pictureOf(t *testing.T, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewNRGBA(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

var (
	doorLogo = regexp.MustCompile(`<span class="door door-logo"><img src="(/logo/[0-9a-f]{64})" alt="" width="24" height="24"></span>`)
	tileLogo = regexp.MustCompile(`<img class="tile tile-logo" src="(/logo/[0-9a-f]{64})" alt="" width="28" height="28">`)
)

// logoOn is the address of the one logo of this kind on a page, "" for none.
func logoOn(t *testing.T, p page, kind *regexp.Regexp) string {
	t.Helper()
	found := kind.FindAllStringSubmatch(p.body, -1)
	if len(found) > 1 {
		t.Errorf("%s has %d of them", p.at, len(found))
	}
	if len(found) == 0 {
		return ""
	}
	return found[0][1]
}

func TestLogoOfAConnectedApp(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		logo := pictureOf(t, 300, 200)
		w.document.logo.Store(&logo)
		text := `{"client_id":"` + w.document.url + `","client_name":"Claude","redirect_uris":["` + loopback +
			`"],"token_endpoint_auth_method":"none","logo_uri":"` + strings.Replace(w.document.url, "client.json", "logo.png", 1) + `"}`
		w.document.text.Store(&text)

		b := w.signedIn(ada)
		p := b.authorize(request(w.document.url, loopback))
		address := logoOn(t, p, doorLogo)
		if address == "" {
			t.Fatalf("no logo on the consent page: %s", p.body)
		}
		if b.allow(p).answer() == nil {
			t.Fatal("not allowed")
		}
		if got := logoOn(t, b.get("/connected-apps"), doorLogo); got != address {
			t.Errorf("connected apps show %q, consent %q", got, address)
		}

		picture := w.browser().send(http.MethodGet, address, "")
		if config, err := png.DecodeConfig(strings.NewReader(picture.body)); err != nil || config.Width != 128 || config.Height != 85 {
			t.Errorf("%d by %d, %v", config.Width, config.Height, err)
		}
		for name, want := range map[string]string{
			"Content-Type": "image/png", "Cache-Control": "public, max-age=31536000, immutable",
			"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "default-src 'none'", "Cross-Origin-Resource-Policy": "same-origin",
		} {
			if got := picture.header.Get(name); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		wantText(t, w.browser().send(http.MethodGet, "/logo/"+strings.Repeat("0", 64), ""), http.StatusNotFound, "There is nothing here")

		// What was taken back, and what has none, shows the letter.
		p = b.follow(b.submit(b.get("/connected-apps"), "action", "take_back"))
		wantText(t, p, http.StatusOK, "Access taken back from Claude.")
		if got := logoOn(t, p, doorLogo); got != "" {
			t.Errorf("taken back, it shows %s", got)
		}
	})
}

func TestLogoOfTheProject(t *testing.T) {
	eachDatabase(t, func(t *testing.T, w *world) {
		signIn := func() page { return w.browser().get("/login") }
		if got := logoOn(t, signIn(), tileLogo); got != "" {
			t.Errorf("before: %s", got)
		}
		if err := w.Projects.SetLogo(t.Context(), w.Project, pictureOf(t, 64, 64)); err != nil {
			t.Fatal(err)
		}
		w.Follow(t)
		address := logoOn(t, signIn(), tileLogo)
		if address == "" {
			t.Fatal("not on the sign-in page")
		}
		b := w.signedIn(ada)
		for _, p := range []page{b.authorize(request(w.operator.ID, callback)), b.get("/connected-apps"), b.get("/sign-out"), b.get("/nowhere")} {
			if got := logoOn(t, p, tileLogo); got != address {
				t.Errorf("%s: %q", p.at, got)
			}
		}
		if p := b.get(address); p.status != http.StatusOK || p.header.Get("Content-Type") != "image/png" {
			t.Errorf("%d %s", p.status, p.header.Get("Content-Type"))
		}
		if err := w.Projects.SetLogo(t.Context(), w.Project, nil); err != nil {
			t.Fatal(err)
		}
		w.Follow(t)
		if got := logoOn(t, signIn(), tileLogo); got != "" {
			t.Errorf("taken away: %s", got)
		}
	})
}

// Whoever decides about a copy reads that it is one, and from when.
func TestCopyOfADocumentSaysSo(t *testing.T) {
	const sentence = "From a copy of this app’s document, taken on 3 Nov 2026 : its own host did not answer."
	eachDatabase(t, func(t *testing.T, w *world) {
		now := w.Clock.Now()
		m := oauth.Metadata{
			ClientName: "Claude", RedirectURIs: []string{callback}, GrantTypes: []string{"authorization_code", "refresh_token"},
			ResponseTypes: []string{"code"}, TokenEndpointAuthMethod: "none",
		}
		_, err := w.Store.SaveDocumentClient(t.Context(), oauth.Client{
			ID: "connected-app-test-copied", ProjectID: w.Project.ID, URL: w.document.url, Type: oauth.ThirdPartyPublic, Creation: oauth.Document,
			Metadata: m, MetadataHash: m.Hash(), CreatedAt: now, LastRegisteredAt: now,
			FreshUntil: now.Add(time.Hour), CopiedAt: time.Date(2026, 11, 3, 0, 0, 0, 0, time.UTC),
		}, nil, audit.Event{ProjectID: w.Project.ID, At: now, Kind: audit.ClientCopied})
		if err != nil {
			t.Fatal(err)
		}
		b := w.signedIn(ada)
		p := b.authorize(request(w.document.url, callback))
		wantText(t, p, http.StatusOK, sentence)
		if strings.Contains(p.text(), "Verified host") {
			t.Error("the host of a copy is called verified")
		}
		if b.allow(p).answer() == nil {
			t.Fatal("not allowed")
		}
		wantText(t, b.get("/connected-apps"), http.StatusOK, sentence)
		wantText(t, b.authorize(request(w.document.url, callback)), http.StatusOK, sentence) // never in silence

		// When the host answers, its document counts and the sentence is gone.
		w.Clock.Advance(2 * time.Hour)
		b = w.signedIn(bea)
		p = b.authorize(request(w.document.url, callback))
		wantText(t, p, http.StatusOK, "Verified host")
		if strings.Contains(p.text(), "From a copy") {
			t.Error("it is still called a copy")
		}
	})
}

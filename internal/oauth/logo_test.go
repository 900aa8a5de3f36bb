package oauth_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image"
	"image/png"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/oauth"
)

// pictureOf is a PNG file.
func pictureOf(t *testing.T, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewNRGBA(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// withLogo is a rig with a host whose document names a logo there, or at uri.
// Links to this computer are for clients that live on it.
func withLogo(t *testing.T, uri string, logo http.HandlerFunc) (*rig, *publisher, *atomic.Int32) {
	t.Helper()
	r := newRig(t)
	host := r.publish("")
	asked := new(atomic.Int32)
	host.answer = func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/client.json":
			named := uri
			if named == "" {
				named = host.URL + "/logo.png"
			}
			document := strings.Replace(host.document(`"logo_uri":"`+named+`"`), rigCallback, "http://127.0.0.1/cb", 1)
			fmt.Fprint(w, document)
		default:
			asked.Add(1)
			logo(w, req)
		}
	}
	return r, host, asked
}

func (r *rig) local(id string) (oauth.Client, error) {
	request := r.request(id, rigNotes, "read:notes")
	request.RedirectURI = "http://127.0.0.1:3000/cb"
	pending, err := r.server.Begin(r.Context(), r.project, request, true)
	return pending.Client, err
}

func TestLogoOfADocumentsOwnHost(t *testing.T) {
	r, host, asked := withLogo(t, "", func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Cookie") != "" || req.Method != http.MethodGet {
			t.Error("more than a plain GET")
		}
		_, _ = w.Write(pictureOf(t, 512, 256))
	})
	client, err := r.local(host.id)
	if err != nil {
		t.Fatal(err)
	}
	kept, err := r.server.Logo(t.Context(), r.project, client.Logo)
	if err != nil {
		t.Fatal(err)
	}
	if sum := sha256.Sum256(kept); hex.EncodeToString(sum[:]) != client.Logo {
		t.Errorf("the digest %q is not of what is kept", client.Logo)
	}
	if size, err := png.DecodeConfig(bytes.NewReader(kept)); err != nil || size.Width != 128 || size.Height != 64 {
		t.Errorf("%d by %d, %v", size.Width, size.Height, err)
	}
	if _, err := r.local(host.id); err != nil || asked.Load() != 1 {
		t.Errorf("%v, asked %d times", err, asked.Load())
	}
	other := *r.project
	other.ID = "project-test-other"
	if _, err := r.server.Logo(t.Context(), &other, client.Logo); !errors.Is(err, oauth.ErrNotFound) {
		t.Errorf("in another project: %v", err)
	}
}

// A logo that cannot be had is absent, and nothing else changes.
func TestLogoThatCannotBeHad(t *testing.T) {
	good := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(pictureOf(t, 8, 8)) }
	body := func(b []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
	}
	for _, test := range []struct {
		name   string
		uri    string
		answer http.HandlerFunc
		asked  int32
	}{
		{"at another host", "https://example.com/logo.png", good, 0}, // which the client of httptest leads to host
		{"at another port", "https://127.0.0.1:1/logo.png", good, 0},
		{"by plain http", "http://127.0.0.1/logo.png", good, 0},
		{"not there", "", away(http.StatusNotFound), 1},
		{"elsewhere by redirect", "", func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, "/real.png", http.StatusFound)
		}, 1},
		{"SVG", "", body([]byte(`<svg xmlns="http://www.w3.org/2000/svg"/>`)), 1},
		{"a page", "", body([]byte("<!doctype html>")), 1},
		{"2049 pixels wide", "", body(pictureOf(t, 2049, 1)), 1},
		{"more than 256 KiB", "", body(append(pictureOf(t, 8, 8), make([]byte, 256<<10)...)), 1},
		{"later than two seconds", "", func(_ http.ResponseWriter, req *http.Request) {
			select {
			case <-req.Context().Done():
			case <-time.After(10 * time.Second):
			}
		}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, host, asked := withLogo(t, test.uri, test.answer)
			start := time.Now()
			client, err := r.local(host.id)
			if waited := time.Since(start); waited > 4*time.Second {
				t.Errorf("the person waited %v", waited)
			}
			if err != nil || client.Logo != "" || client.Metadata.ClientName != "Notebook" {
				t.Errorf("%v: logo %q of %s", err, client.Logo, client.Metadata.ClientName)
			}
			if asked.Load() != test.asked {
				t.Errorf("asked %d times for it, want %d", asked.Load(), test.asked)
			}
		})
	}
}

// Another logo, by address or by picture, is no other client.
func TestAnotherLogoAsksNobodyAgain(t *testing.T) {
	r := newRig(t)
	host := r.publish("")
	allowed := func() bool {
		t.Helper()
		pending, err := r.server.Begin(t.Context(), r.project, r.request(host.id, rigNotes, "read:notes"), true)
		if err != nil {
			t.Fatal(err)
		}
		consent, err := r.server.Consent(t.Context(), r.project, pending, r.person())
		if err != nil {
			t.Fatal(err)
		}
		return consent.Skip
	}
	client, err := r.begin(host.id)
	if err != nil {
		t.Fatal(err)
	}
	r.authorize(client, "", rigNotes, "read:notes")
	for _, test := range []struct {
		members string
		silent  bool
	}{
		{`"logo_uri":"https://client.example.test/1.png"`, true},
		{`"logo_uri":"https://client.example.test/2.png"`, true},
		{`"client_uri":"https://client.example.test/2.png"`, false},
	} {
		host.answer = func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, host.document(test.members)) }
		r.clock.Advance(time.Hour)
		if got := allowed(); got != test.silent {
			t.Errorf("with %s: allowed in silence: %v", test.members, got)
		}
	}
}

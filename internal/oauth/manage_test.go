package oauth_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
)

// A client that is blocked has nothing at any endpoint, at once; unblocked it may
// ask, and what it had stays ended.
func TestBlock(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		had, theirs := w.tokens(t, w.public), w.tokens(t, w.rival)
		waiting := w.code(t, request(w.public.ID))
		if !w.active(t, had.Access) || !w.active(t, had.Refresh) {
			t.Fatal("its tokens are not active before")
		}
		n, err := w.Clients.Block(t.Context(), w.Project, w.public.ID)
		if n != 1 || err != nil {
			t.Fatalf("%d grants, %v", n, err)
		}
		if w.active(t, had.Access) || w.active(t, had.Refresh) || !w.active(t, theirs.Access) {
			t.Error("its tokens are active, or another client's are not")
		}
		for name, form := range map[string]url.Values{"refresh": refresh(had.Refresh), "code": redeem(waiting)} {
			if a := w.token(t, w.public, form); a.code != http.StatusUnauthorized || a.json()["error"] != "invalid_client" {
				t.Errorf("%s: %d %s", name, a.code, a.body)
			}
		}
		if p := w.browser.Authorize(t, request(w.public.ID)); p.Status == http.StatusOK || strings.Contains(p.Body, "Allow") {
			t.Errorf("authorize: %d", p.Status)
		}

		if err := w.Clients.Unblock(t.Context(), w.Project, w.public.ID); err != nil {
			t.Fatal(err)
		}
		if w.active(t, had.Access) || w.active(t, had.Refresh) {
			t.Error("its tokens are back")
		}
		for name, form := range map[string]url.Values{"refresh": refresh(had.Refresh), "code": redeem(waiting)} {
			if a := w.token(t, w.public, form); a.code != http.StatusBadRequest || a.json()["error"] != "invalid_grant" {
				t.Errorf("%s after it was unblocked: %d %s", name, a.code, a.body)
			}
		}
		if again := w.tokens(t, w.public); !w.active(t, again.Access) {
			t.Error("it cannot be connected again")
		}
		events := w.events(t)
		if events[string(audit.ClientBlocked)] != 1 || events[string(audit.ClientUnblocked)] != 1 {
			t.Errorf("events: %v", events)
		}
	})
}

// Whoever registers with the words of a blocked client is that client.
func TestBlockedRegistersAgain(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		id := w.self(t, callback)
		if _, err := w.Clients.Block(t.Context(), w.Project, id); err != nil {
			t.Fatal(err)
		}
		if again := w.self(t, callback); again != id {
			t.Errorf("it is %s now, not %s", again, id)
		}
		if p := w.browser.Authorize(t, request(id)); p.Status == http.StatusOK {
			t.Errorf("authorize: %d", p.Status)
		}
	})
}

func TestFoldName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"  Claude\tCode ":        "claude code",
		"ÉCLAIR":                 "éclair",
		"a\x00b\u202ec\ufffd":    "abc",
		strings.Repeat("é", 100): strings.Repeat("é", 60),
		"\u200b":                 "",
	} {
		if got := oauth.FoldName(name); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

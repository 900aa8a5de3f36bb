package oauth_test

import "testing"

func TestProbe(t *testing.T) {
	eachWorld(t, func(t *testing.T, w *world) {
		i := w.tokens(t, w.public)
		t.Log(i, w.events(t), w.kept(t))
		t.Log(w.active(t, i.Access))
		w.refuses(t, "authorize.refused", func() {
			refusedPage(t, w.browser.Authorize(t, request(w.public.ID, "redirect_uri", "https://evil.example.test/cb")))
		})
	})
}

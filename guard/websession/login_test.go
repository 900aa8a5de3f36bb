package websession

import (
	"net/url"
	"strings"
	"testing"
)

// Whatever returnPath lets through stays on this host.
func FuzzReturnPath(f *testing.F) {
	for _, seed := range []string{"/", "/a?b=//c", "//evil", "/\\evil", "/\t/evil", "https://evil", "/%2f/evil", "/.//evil", "/..//evil"} {
		f.Add(seed)
	}
	base, err := url.Parse("https://todo.example.com/login")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target string) {
		got := returnPath(target)
		if got != "/" && got != target {
			t.Errorf("%q became %q", target, got)
		}
		// As a browser reads it: without tabs and newlines, \ as /.
		seen := strings.NewReplacer("\t", "", "\n", "", "\r", "", "\\", "/").Replace(got)
		u, err := base.Parse(seen)
		if err != nil || u.Host != base.Host || u.Scheme != base.Scheme {
			t.Errorf("%q leads to %v", target, u)
		}
	})
}

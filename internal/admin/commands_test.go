package admin_test

import (
	"html"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

var (
	section     = regexp.MustCompile(`(?s)<section.*?</section>`)
	commandLine = regexp.MustCompile(`class="cli-line"><code>(.*?)</code>`)
)

// What a form does, a command does too: it stands in the same part of the page,
// and the guide lists it.
func TestEveryFormHasItsCommand(t *testing.T) {
	guide, err := os.ReadFile("../../docs/guide/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	check := func(t *testing.T, p servertest.Page) {
		t.Helper()
		shows(t, p, http.StatusOK)
		for _, s := range section.FindAllString(p.Body, -1) {
			if strings.Contains(s, `method="post"`) && !strings.Contains(s, `class="cli"`) {
				t.Errorf("%s has a form without its command:\n%s", p.URL, s)
			}
		}
		lines := commandLine.FindAllStringSubmatch(p.Body, -1)
		if len(lines) == 0 {
			t.Errorf("%s shows no command", p.URL)
		}
		for _, line := range lines {
			words := strings.Fields(html.UnescapeString(line[1]))
			if len(words) < 3 || words[0] != "postern" || !listed(string(guide), words[1], words[2]) {
				t.Errorf("%s shows %q, which the guide does not list", p.URL, line[1])
			}
		}
	}
	d := servertest.New(t, servertest.Config{})
	rig := desk{d, d.Administrator(t)}
	r, path := rig.addFiles(t)
	if _, _, err := d.Projects.RotateResourceSecret(t.Context(), d.Project, r.URI); err != nil {
		t.Fatal(err)
	}
	if _, _, err := project.NewWorkspaceKeys(d.Store, d.Clock.Now).Create(t.Context(), project.NewKey{Name: "CI"}); err != nil {
		t.Fatal(err)
	}
	c, _ := rig.addApp(t, "Robot", oauth.ThirdParty)
	signer := rig.addSigner(t)
	for _, page := range []string{
		rig.page(""), rig.page("apps"), rig.page("apps/" + c.ID + "/settings"), rig.page("apps/" + signer.ID + "/settings"), rig.page("apps/" + c.ID + "/addresses"), rig.page("users"), rig.page("roles"),
		rig.page("resources"), path, path + "/settings", path + "/move", rig.page("keys"), rig.page("settings"), rig.page("settings/issuer"),
	} {
		check(t, rig.b.Get(t, page))
	}
}

// listed reports whether the guide has a command: a line names its group and,
// there or later on it, itself.
func listed(guide, group, name string) bool {
	for line := range strings.Lines(guide) {
		_, rest, ok := strings.Cut(line, "`postern "+group)
		if ok && (strings.Contains(rest, " "+name) || strings.Contains(rest, "`"+name)) {
			return true
		}
	}
	return false
}

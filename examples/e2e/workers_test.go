package e2e_test

import (
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// onWorkers runs a page's app on workerd, the runtime of Cloudflare Workers, by
// the tool that docs/guide/deploy.md names.
func onWorkers(t *testing.T, w workshop, file, port string) []string {
	t.Helper()
	env, err := exec.LookPath("env")
	if err != nil {
		t.Skip("there is no env here.")
	}
	return []string{
		env, "CLOUDFLARE_INCLUDE_PROCESS_ENV=true", "WRANGLER_SEND_METRICS=false", "CI=1",
		w.node, filepath.Join(w.dir, "node_modules/wrangler/bin/wrangler.js"), "dev", file,
		"--ip", "localhost", "--port", port, "--compatibility-date", "2026-04-01", "--compatibility-flags", "nodejs_compat",
	}
}

// The Hono page's code as it stands runs on Workers' runtime, against Postern on
// a host of its own: by signed tokens and by introspection.
func TestProtectPageOnWorkers(t *testing.T) {
	if os.Getenv("POSTERN_PROTECT") == "" {
		t.Skip("POSTERN_PROTECT is not set: this test installs packages from npm (make test does)")
	}
	i := slices.IndexFunc(lessons, func(l lesson) bool { return l.page == "hono.md" })
	hono := lessons[i]
	hono.main, hono.run = "app.mjs", onWorkers
	w := installFor(t, filepath.Join(pages, hono.page), "../../docs/guide/deploy.md")

	p := serveProject(t, database{name: "sqlite"})
	r := classroom{lesson: hono, client: newClient(t, p, ""), person: newPerson(t, p, "workers@example.test")}
	r.signed, r.asked = p.addNotes(t), p.addNotes(t)
	_, blocks := hono.read(t)
	asking := slices.Clone(blocks[:1])
	asking[0] = hono.with(blocks[0], blocks[len(blocks)-1])
	r.open(t, w, blocks[:1], p.issuer, r.signed).await(t, r.signed.metadata(t))
	r.open(t, w, asking, p.issuer, r.asked).await(t, r.asked.metadata(t))

	r.question(t, r.signed, r.asked)
	r.question(t, r.asked, r.signed)
	token := r.token(t, r.asked, readNotes)
	r.asked.admits(t, token)
	a, err := r.client.post(t.Context(), "/v1/oauth2/revoke", url.Values{"token": {token}, "client_id": {r.client.id}}, "", "")
	if a = must(t, a, err); a.status != http.StatusOK {
		t.Fatalf("revocation: %d %s", a.status, a.body)
	}
	time.Sleep(hono.late)
	r.asked.refuses(t, "revoked", token, http.StatusUnauthorized, "invalid_token")
}

// installFor installs what the npm commands of some pages name.
func installFor(t *testing.T, documents ...string) workshop {
	t.Helper()
	w := workshop{dir: t.TempDir()}
	lacks := t.Skip
	if os.Getenv("CI") != "" {
		lacks = t.Fatal
	}
	var err error
	if w.node, err = exec.LookPath("node"); err != nil {
		lacks("Node.js is not installed here (20.9 or newer, with npm).")
	}
	install := []string{"install", "--no-audit", "--no-fund", "--loglevel=error"}
	for _, name := range documents {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found := npm.FindAllStringSubmatch(string(text), -1)
		if len(found) == 0 {
			t.Fatalf("%s installs nothing", name)
		}
		for _, command := range found {
			install = append(install, strings.Fields(command[1])...)
		}
	}
	w.write(t, "package.json", `{"private": true}`)
	cmd := exec.CommandContext(t.Context(), "npm", install...)
	cmd.Dir = w.dir
	if out, err := cmd.CombinedOutput(); err != nil {
		lacks("npm install did not work (is there a network?): " + tail(string(out), 2000))
	}
	return w
}

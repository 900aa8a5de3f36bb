package e2e_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// moved is what the two commands print about what they ended.
type moved struct {
	Ended  int `json:"ended_authorizations"`
	People int
	Apps   []struct {
		ID     string `json:"client_id"`
		Name   string
		People int
	} `json:"connected_apps"`
}

// A resource server moves to another URL under a running server: what was held
// for the old one is dead at once, and the new one can be asked for.
func TestResourceMove(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		const next = "https://todo.example.com/mcp"
		c, server, ada := startClient(t, db)
		a, err := c.redeem(t.Context(), c.allow(t, ada))
		held := must(t, a, err).tokens(t)

		out, err := c.command(t, "resource", "move", c.resource, next)
		if err == nil || !strings.Contains(err.Error(), "nobody can be asked here") || !strings.Contains(out, "By hand") || !strings.Contains(out, "people 1") {
			t.Errorf("without --yes: %v\n%s", err, out)
		}
		a, err = c.refresh(t.Context(), held.Refresh)
		held = must(t, a, err).tokens(t) // nothing was done

		var done moved
		c.run(t, &done, "resource", "move", c.resource, next, "--yes")
		if done.Ended != 1 || done.People != 1 || len(done.Apps) != 1 || done.Apps[0].ID != c.id || done.Apps[0].Name != "By hand" || done.Apps[0].People != 1 {
			t.Errorf("the command printed %+v", done)
		}
		if a, err := c.refresh(t.Context(), held.Refresh); err != nil || !a.refused("invalid_grant") {
			t.Errorf("refresh for the old address: %v, %v", a, err)
		}
		if c.active(t, server, held.Access) {
			t.Error("introspection, which has the secret of before, calls the access token active")
		}
		c.awaitMetadata(t, naming(next))
		if status, body, err := fetch(t.Context(), http.MethodGet, c.issuer+metadataPath, nil); err != nil || status != http.StatusOK || strings.Contains(body, c.resource) {
			t.Errorf("the metadata still names the old address: %d %s, %v", status, body, err)
		}
		c.resource = next
		a, err = c.redeem(t.Context(), c.allow(t, ada))
		must(t, a, err).tokens(t)
	})
}

// A project gets another issuer under a running server, which answers there a
// second later, with metadata made anew, and nowhere else.
func TestSetIssuer(t *testing.T) {
	eachDatabase(t, func(t *testing.T, db database) {
		c, _, ada := startClient(t, db)
		old := c.issuer
		c.awaitMetadata(t, naming(`"issuer":"`+old+`"`)) // its answer is prepared
		a, err := c.redeem(t.Context(), c.allow(t, ada))
		held := must(t, a, err).tokens(t)

		u, err := url.Parse(old)
		if err != nil {
			t.Fatal(err)
		}
		next := "http://127.0.0.1:" + u.Port()
		for issuer, why := range map[string]string{
			next:                       "nobody can be asked here",
			"http://auth.example.com":  "such as https://auth.example.com",
			"https://auth.example.com": "mail.transport console", // what serve refuses at its next start
		} {
			if _, err := c.command(t, "project", "set", "issuer", issuer); err == nil || !strings.Contains(err.Error(), why) {
				t.Errorf("%s: %v", issuer, err)
			}
		}
		a, err = c.refresh(t.Context(), held.Refresh)
		held = must(t, a, err).tokens(t) // nothing was done

		var done moved
		c.run(t, &done, "project", "set", "issuer", next, "--yes")
		if done.Ended != 1 || len(done.Apps) != 1 || done.Apps[0].ID != c.id {
			t.Errorf("the command printed %+v", done)
		}
		c.issuer = next
		c.awaitMetadata(t, naming(`"issuer":"`+next+`"`))
		if status, body, err := fetch(t.Context(), http.MethodGet, next+metadataPath, nil); err != nil || status != http.StatusOK || strings.Contains(body, old) {
			t.Errorf("metadata at the new host: %d %s, %v", status, body, err)
		}
		if status, body, err := fetch(t.Context(), http.MethodGet, old+metadataPath, nil); err != nil || status != http.StatusMisdirectedRequest || !strings.Contains(body, next) {
			t.Errorf("metadata at the old host: %d %s, %v", status, body, err)
		}
		if a, err := c.refresh(t.Context(), held.Refresh); err != nil || !a.refused("invalid_grant") {
			t.Errorf("refresh: %v, %v", a, err)
		}
		a, err = c.redeem(t.Context(), c.allow(t, newPerson(t, c.postern, "bea@example.test")))
		must(t, a, err).tokens(t)
	})
}

package admin_test

import (
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/servertest"
)

// desk is a deployment with an administrator who is signed in.
type desk struct {
	*servertest.Server
	b *servertest.Browser
}

// each runs a test at a desk on both databases.
func each(t *testing.T, c servertest.Config, test func(t *testing.T, d desk)) {
	t.Helper()
	servertest.Each(t, func(t *testing.T, base servertest.Config) {
		c.Postgres = base.Postgres
		s := servertest.New(t, c)
		test(t, desk{s, s.Administrator(t)})
	})
}

// page is the address of a page of the project.
func (d desk) page(path string) string {
	address := "/dashboard/projects/" + d.Project.ID
	if path != "" {
		address += "/" + path
	}
	return address
}

// events are those of a kind, the newest first.
func (d desk) events(t *testing.T, projectID string, kind audit.Kind) []audit.Event {
	t.Helper()
	page, err := d.Store.Events(t.Context(), audit.Query{ProjectID: projectID, Kinds: []audit.Kind{kind}, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	return page.Events
}

// by asserts that the newest event of a kind is the administrator's.
func (d desk) by(t *testing.T, projectID string, kind audit.Kind) {
	t.Helper()
	all := d.events(t, projectID, kind)
	switch {
	case len(all) == 0:
		t.Errorf("no event %s", kind)
	case all[0].Actor != servertest.AdministratorEmail || all[0].Address == "" || all[0].TraceID == "":
		t.Errorf("event %s is of actor %q, address %q, trace %q", kind, all[0].Actor, all[0].Address, all[0].TraceID)
	}
}

func shows(t *testing.T, p servertest.Page, status int, words ...string) {
	t.Helper()
	if p.Status != status {
		t.Errorf("%s: status %d, want %d", p.URL, p.Status, status)
	}
	text := p.Text()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("%s does not say %q:\n%s", p.URL, w, text)
		}
	}
}

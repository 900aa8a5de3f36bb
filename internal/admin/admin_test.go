package admin_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postern-id/postern/internal/audit"
	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

// The dashboard is on the deployment's own URL and nowhere else, and opens to
// administrators alone.
func TestWhereTheDashboardIs(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		stranger := d.Browser(t)
		for _, path := range []string{"/dashboard", "/dashboard/projects", d.page(""), d.page("activity"), d.page("activity/export"), d.page("attempts"), "/dashboard/activity"} {
			if p := stranger.Get(t, path); p.URL.Path != "/dashboard/sign-in" {
				t.Errorf("%s leads a stranger to %s", path, p.URL)
			}
		}
		// Rows: D14.
		for _, path := range []string{"//dashboard/projects", "/dashboard/../dashboard/projects", "/dashboard/%2e%2e/dashboard/projects", "/dashboard/projects/..;/projects"} {
			p := stranger.Get(t, path)
			if p.Status == http.StatusOK && p.URL.Path != "/dashboard/sign-in" {
				t.Errorf("%s answers a stranger %d at %s", path, p.Status, p.URL)
			}
		}
		shows(t, d.b.Get(t, "/dashboard"), http.StatusOK, "Overview", "Notes")
		shows(t, d.b.Get(t, "/dashboard/projects/project-test-of-nobody"), http.StatusNotFound, "No project has this id")

		other, _, err := d.Projects.Create(t.Context(), project.New{Name: "Elsewhere", Issuer: strings.Replace(d.Issuer, "localhost", "127.0.0.1", 1), Environment: project.Test})
		if err != nil {
			t.Fatal(err)
		}
		d.Follow(t)
		response, err := d.b.Client.Get(other.Issuer + "/dashboard")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusNotFound {
			t.Errorf("the dashboard answers %d on another project's host", response.StatusCode)
		}
		// Row: D06.
		for _, origin := range []string{"https://evil.example.test", "null"} {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, d.Issuer+"/dashboard/projects", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Origin", origin)
			response, err := d.b.Client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = response.Body.Close() // only its header counts
			if granted := response.Header.Get("Access-Control-Allow-Origin"); granted != "" {
				t.Errorf("origin %s is granted %q", origin, granted)
			}
		}
	})
}

// A server that was just started is set up in a browser: before there is a
// project its own URL leads to the dashboard.
func TestFirstProject(t *testing.T) {
	each(t, servertest.Config{Empty: true}, func(t *testing.T, d desk) {
		shows(t, d.b.Get(t, "/"), http.StatusOK, "No project yet", "postern project create")
		list := d.b.Get(t, "/dashboard/projects")
		bad := d.b.Submit(t, list, "issuer", url.Values{"name": {" "}, "issuer": {d.Issuer}})
		shows(t, bad, http.StatusUnprocessableEntity, "A project needs a name.")
		bad = d.b.Submit(t, list, "issuer", url.Values{"name": {"Notes"}, "issuer": {"http://notes.example.test"}})
		shows(t, bad, http.StatusUnprocessableEntity, "must begin with https://")
		made := d.b.Submit(t, list, "issuer", url.Values{"name": {`<b onclick="x">Notes</b>`}, "issuer": {d.Issuer}, "vertical": {"b2b"}})
		shows(t, made, http.StatusOK, "shown once", "pst_ps_", `<b onclick="x">Notes</b>`)
		if strings.Contains(made.Body, "<b onclick") { // Row: D07.
			t.Error("a project's name is markup")
		}
		all, err := d.Projects.All(t.Context())
		if err != nil || len(all) != 1 || all[0].Vertical != project.B2B || all[0].Environment != project.Test {
			t.Fatalf("projects: %+v, %v", all, err)
		}
		d.by(t, all[0].ID, audit.ProjectCreated)
		shows(t, d.b.Get(t, "/dashboard"), http.StatusOK, "Overview", "Organizations", "No resource server yet.")
		if again := d.b.Get(t, "/dashboard/projects"); strings.Contains(again.Body, "pst_ps_") { // Row: D10.
			t.Error("the secret is shown again")
		}
	})
}

// The switches on the first page are settings like all others.
func TestWhoMayRegister(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		overview := d.b.Get(t, d.page(""))
		shows(t, overview, http.StatusOK, "postern project set cimd on dynamic-registration on unregistered-resources refuse")
		saved := d.b.Submit(t, overview, "cimd", url.Values{"cimd": {"on"}, "dynamic-registration": nil, "unregistered-resources": {"on"}})
		shows(t, saved, http.StatusOK, "Saved.")
		d.Follow(t)
		if s := d.Project.Settings; !s.MetadataDocuments || s.DynamicRegistration || !s.UnregisteredResources {
			t.Errorf("settings: %+v", s)
		}
		d.by(t, d.Project.ID, audit.ProjectChanged)

		// Row: D18. A page from before brings nothing back that was turned off since.
		stale := d.b.Submit(t, overview, "cimd", url.Values{"cimd": {"on"}, "dynamic-registration": {"on"}, "unregistered-resources": nil})
		shows(t, stale, http.StatusConflict, "Somebody changed the project first")
		if d.Follow(t); d.Project.Settings.DynamicRegistration || !d.Project.Settings.UnregisteredResources {
			t.Errorf("settings after a stale page: %+v", d.Project.Settings)
		}

		before := d.Project.Change
		forged := d.b.Post(t, d.page(""), url.Values{"csrf": {"x"}, "dynamic-registration": {"on"}})
		shows(t, forged, http.StatusForbidden)
		if d.Follow(t); d.Project.Change != before {
			t.Error("a form without its token changed the project")
		}
	})
}

// Row: D17. A form that none of our pages made is in the trail, with the page that
// it was for and whom it would have used.
func TestForgedFormsLeaveAnEvent(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		refused := func(n int) audit.Event {
			t.Helper()
			all := d.events(t, "", audit.FormRefused)
			if len(all) != n {
				t.Fatalf("%d events, want %d", len(all), n)
			}
			e := all[0]
			if e.Address == "" || e.TraceID == "" || !e.Refused || e.Actor != "" {
				t.Errorf("%+v", e)
			}
			return e
		}
		shows(t, d.b.Post(t, d.page("settings"), url.Values{"csrf": {"x"}, "action": {"look"}, "name": {"Forged"}}), http.StatusForbidden)
		if e := refused(1); e.Subject != servertest.AdministratorEmail || e.Object != "/dashboard/projects/{project}/settings" || e.Reason != audit.ReasonFormToken {
			t.Errorf("%+v", e)
		}
		if status := d.sendFile(t, d.b.Get(t, d.page("settings")), "x", []byte("x")); status != http.StatusForbidden {
			t.Errorf("a file: %d", status)
		}
		d.Clock.Advance(time.Second)
		refused(2)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, d.Issuer+"/dashboard/sign-in", strings.NewReader("email=ada%40example.test"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", "https://evil.example.test")
		answer, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close() // only the status counts
		if e := refused(3); answer.StatusCode != http.StatusForbidden || e.Subject != "" || e.Object != "/dashboard/sign-in" || e.Reason != audit.ReasonOtherSite {
			t.Errorf("%d, %+v", answer.StatusCode, e)
		}
	})
}

// Figures and warnings of the first page come from the trail.
func TestOverviewCounts(t *testing.T) {
	each(t, servertest.Config{}, func(t *testing.T, d desk) {
		// What is older than a minute is counted once, at any moment after the start.
		now := d.Clock.Now()
		record := func(kind audit.Kind, refused bool) {
			t.Helper()
			e := audit.Event{ProjectID: d.Project.ID, At: now, Kind: kind, Refused: refused, Subject: "user-test-1", Address: "192.0.2.7"}
			if refused {
				e.Reason = "the return address is not one of those registered"
			}
			if err := d.Store.Record(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
		for range 1500 {
			record(audit.SignedIn, false)
		}
		for range 7 {
			record(audit.AuthorizeRefused, true)
		}
		p := d.b.Get(t, d.page(""))
		shows(t, p, http.StatusOK, "1,500", "7 refusals since", "The return address is not one of those registered.")

		seen := d.b.Get(t, d.page("activity?refused=yes&kind=authorize.refused"))
		shows(t, seen, http.StatusOK, "Authorize refused", "192.0.2.7", "postern audit list --kind authorize.refused --refused")
		if n := strings.Count(seen.Body, `<time datetime=`); n != 7 {
			t.Errorf("%d events, want 7", n)
		}
		shows(t, d.b.Get(t, d.page("activity?kind=nothing")), http.StatusOK, "A filter was left out.", "There is no such kind of event.")
		// An id is cut in its row, and whole above the list that it leads to.
		c, _ := d.addApp(t, "Robot", oauth.ThirdPartyPublic)
		row := d.b.Get(t, d.page("activity?kind=client.created"))
		whole := d.b.Get(t, row.Link(t, "connected-app-…"+c.ID[len(c.ID)-6:]))
		shows(t, whole, http.StatusOK, c.ID, "Client created")
		if whole.URL.Query().Has("kind") || strings.Contains(whole.Text(), "Signin succeeded") {
			t.Errorf("%s is another list", whole.URL)
		}
		shows(t, d.b.Get(t, whole.Link(t, "Open its page")), http.StatusOK, "Robot", "Who it is")
		first := d.b.Get(t, d.page("activity"))
		shows(t, first, http.StatusOK, "Older")
		older := d.b.Get(t, first.Link(t, "Older"))
		shows(t, older, http.StatusOK, "Newest", "Signin succeeded")

		export := d.b.Get(t, d.page("activity/export?refused=yes"))
		var kinds []string
		for line := range strings.Lines(export.Body) {
			var e struct {
				Kind string `json:"kind"`
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			kinds = append(kinds, e.Kind)
		}
		if len(kinds) != 7 || slices.Compact(kinds)[0] != "authorize.refused" {
			t.Errorf("export has %v", kinds)
		}
	})
}

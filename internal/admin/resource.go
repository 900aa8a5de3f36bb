package admin

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/postern-id/postern/docs/guide/protect"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/web"
)

// The pages about a resource server, by the end of their address.
const (
	resourceSummary  = ""
	resourceProtect  = "protect"
	resourceSettings = "settings"
	resourceMove     = "move"
)

// resourceView is one resource server. What a page does not show is not read.
type resourceView struct {
	frame
	Resource resourceRow
	Tabs     []tab
	Page     string
	Life     string            // of access tokens for it
	Inherits bool              // that is the project's
	Commands map[string]string // by action

	Scopes []project.Scope
	Scope  typedScope // in the form
	Told   []string   // what the server says of itself

	Secret     string // a new one: shown once
	Rotate     danger // of the secret that is there
	Introspect string // where the secret works

	Language  protect.Text // chosen
	Languages []tab
	Sample    bool // the scopes in the text are the example's

	Form   resourceForm
	Impact impactView
	To     string // the new address, as it was typed
	Type   string // what has to be typed to move it
	Remove danger
}

// typedScope is what was typed about a scope.
type typedScope struct {
	Name, Sentence, Detail string
	Write                  bool
}

// resourceForm is the settings as they stand in the form.
type resourceForm struct {
	Name, Aliases, Defaults, Lifetime, Profile string
	Default                                    bool
}

// impactView says what a new address ends.
type impactView struct {
	project.Impact
	More int // connected apps that are not named
}

func toImpact(i project.Impact) impactView { return impactView{i, i.Clients - len(i.Apps)} }

// Resource shows a resource server and takes the forms about it.
func (d *Dashboard) Resource(w http.ResponseWriter, r *http.Request) error {
	v, ok, err := d.enter(w, r)
	if !ok {
		return err
	}
	one, err := resourceOf(r, v)
	if err != nil {
		return err
	}
	view := resourceView{Page: r.PathValue("page"), Form: resourceFormOf(one)}
	if !slices.Contains([]string{resourceSummary, resourceProtect, resourceSettings, resourceMove}, view.Page) {
		return &web.Error{Status: http.StatusNotFound}
	}
	if name := r.URL.Query().Get("scope"); name != "" {
		if s, ok := v.project.Scope(name); ok && slices.Contains(one.Scopes, name) {
			view.Scope = typedScope{s.Name, s.Description, s.Detail, !s.ReadOnly}
		}
	}
	if r.Method != http.MethodPost {
		return d.resource(w, r, v, http.StatusOK, view, one)
	}
	values, err := d.form(r, v)
	if err != nil {
		return err
	}
	action := values.Get("action")
	err = d.changeResource(r, v, &view, one, values)
	if err == nil {
		d.Changed(r.Context())
		if action == "remove" {
			d.done(w, r, projectPath(v.project, "resources"), "removed", one.URI)
			return nil
		}
		if view.Secret == "" && view.Told == nil {
			d.done(w, r, r.URL.Path, action, view.Scope.Name)
			return nil
		}
		if v.project, err = d.Projects.Find(r.Context(), v.project.ID); err != nil {
			return err
		}
		if one, err = resourceOf(r, v); err != nil {
			return err
		}
		return d.resource(w, r, v, http.StatusOK, view, one)
	}
	if view.Problems, err = sentences(err); err != nil {
		return err
	}
	return d.resource(w, r, v, http.StatusUnprocessableEntity, view, one)
}

// changeResource carries a form out.
func (d *Dashboard) changeResource(r *http.Request, v visit, view *resourceView, one project.Resource, values url.Values) error {
	ctx, projects := r.Context(), d.Projects.By(v.origin)
	action := values.Get("action")
	keep := func(after project.Resource, scopes ...project.Scope) error {
		_, _, err := projects.AddResource(ctx, v.project, after, scopes, false)
		return err
	}
	name := confirmationOf(one.Name)
	if slices.Contains([]string{"rotate", "move", "remove"}, action) && !confirmed(values, name) {
		view.To, view.Rotate.Open, view.Remove.Open = values.Get("to"), action == "rotate", action == "remove"
		return project.Problem(strings.Join(unconfirmed(name), "\n"))
	}
	switch action {
	case "save":
		view.Form = resourceForm{
			Name: strings.TrimSpace(values.Get("name")), Aliases: values.Get("aliases"), Defaults: values.Get("defaults"),
			Lifetime: strings.TrimSpace(values.Get("lifetime")), Profile: values.Get("profile"), Default: values.Get("default") == "on",
		}
		after, err := view.Form.apply(v.project, one)
		if err != nil {
			return err
		}
		return keep(after)
	case "scope":
		view.Scope = typedScope{strings.TrimSpace(values.Get("scope")), strings.TrimSpace(values.Get("sentence")), strings.TrimSpace(values.Get("detail")), values.Get("kind") == "write"}
		s := project.Scope{Name: view.Scope.Name, Description: view.Scope.Sentence, Detail: view.Scope.Detail, ReadOnly: !view.Scope.Write}
		if s.Description == "" {
			return project.Problem("a scope needs a sentence that people can read, such as Read your notes")
		}
		return keep(one, s)
	case "drop":
		scope := values.Get("scope")
		if !slices.Contains(one.Scopes, scope) {
			return &web.Error{Status: http.StatusNotFound}
		}
		view.Scope.Name = scope
		return keep(one.WithoutScope(scope))
	case "discover":
		scopes := []project.Scope(nil)
		view.Told = d.discover(r, v, &one, &scopes)
		return keep(one, scopes...)
	case "rotate", "secret":
		if (action == "secret") != (one.SecretID == "") { // another window was faster
			return project.Problem("another window changed it first; load the page again")
		}
		_, key, err := projects.RotateResourceSecret(ctx, v.project, one.URI)
		view.Secret = key.Text
		return err
	case "move":
		view.To = strings.TrimSpace(values.Get("to"))
		if _, err := v.project.Moved(one.URI, view.To); err != nil {
			return plainProblem(err)
		}
		_, _, err := projects.MoveResource(ctx, v.project, one.URI, view.To)
		return err
	case "remove":
		return projects.RemoveResource(ctx, v.project, one.URI)
	}
	return &web.Error{Status: http.StatusBadRequest}
}

func resourceFormOf(one project.Resource) resourceForm {
	life := ""
	if one.AccessToken > 0 {
		life = project.Span(one.AccessToken)
	}
	return resourceForm{one.Name, strings.Join(one.Aliases, "\n"), strings.Join(one.DefaultScopes, " "), life, string(one.Profile), one.Default}
}

// apply makes a resource server of what was typed.
func (f resourceForm) apply(p *project.Project, one project.Resource) (project.Resource, error) {
	one.Name, one.Aliases, one.DefaultScopes = f.Name, strings.Fields(f.Aliases), strings.Fields(f.Defaults)
	one.Profile, one.Default, one.AccessToken = project.TokenProfile(f.Profile), f.Default, 0
	if f.Lifetime != "" {
		n, err := project.ParseSpan(f.Lifetime)
		if err != nil || n == 0 {
			return one, project.Problem(fmt.Sprintf("the access token lifetime is %q; use a time such as 10m, from 1m to 1d", f.Lifetime))
		}
		one.AccessToken = n
	}
	for _, s := range one.DefaultScopes {
		if !slices.Contains(one.Scopes, s) {
			return one, project.Problem(fmt.Sprintf("the default scope %q is not one of its scopes", s))
		}
	}
	others := slices.DeleteFunc(slices.Clone(p.Resources), func(r project.Resource) bool { return r.ID == one.ID })
	if err := one.CheckAliases(); err != nil {
		return one, plainProblem(err)
	}
	if err := one.CheckTaken(others); err != nil {
		return one, plainProblem(err)
	}
	return one, nil
}

// resource draws a page about a resource server.
func (d *Dashboard) resource(w http.ResponseWriter, r *http.Request, v visit, status int, view resourceView, one project.Resource) error {
	problems := view.Problems
	view.frame = d.frame(r, v, "resources", one.Name, v.command("resource", "show", one.URI)).in()
	view.Problems, view.Resource = problems, toResourceRow(v.project, one)
	for _, t := range []struct{ name, path string }{
		{"Summary", resourceSummary}, {"Protect it", resourceProtect}, {"Settings", resourceSettings}, {"Move or remove", resourceMove},
	} {
		view.Tabs = append(view.Tabs, tab{t.name, resourcePath(v.project, one.ID, t.path), t.path == view.Page})
	}
	view.Life, view.Inherits = project.Span(one.AccessToken), false
	if one.AccessToken == 0 {
		view.Life, view.Inherits = project.Span(v.project.Settings.Lifetimes.AccessToken), true
	}
	for _, name := range one.Scopes {
		s, ok := v.project.Scope(name)
		if !ok {
			s.Name = name
		}
		view.Scopes = append(view.Scopes, s)
	}
	var err error
	switch view.Page {
	case resourceSummary:
		view.Commands = map[string]string{
			"scope":    v.command("resource", "add", one.URI, "--offline", "--scope", "read:notes=Read your notes", "--scope-detail", "read:notes=Titles and texts"),
			"drop":     v.command("resource", "add", one.URI, "--offline", "--remove-scope", "NAME"),
			"discover": v.command("resource", "add", one.URI),
		}
	case resourceProtect:
		err = d.protect(r, v, &view, one)
	case resourceSettings:
		view.Introspect = v.project.Issuer + "/v1/oauth2/introspect"
		view.Commands = map[string]string{"save": v.resourceCommand(one), "secret": v.command("resource", "rotate-secret", one.URI)}
		view.Rotate = view.guard(danger{
			Action: "rotate", Button: "Make a new secret", Type: confirmationOf(one.Name), Sure: "Make a new secret", CLI: view.Commands["secret"], Open: view.Rotate.Open,
			Stops: "The one that works now stops at once: until the server has the new one, it can ask about no token and lets nobody in.",
		})
	case resourceMove:
		err = d.moving(r.Context(), v, &view, one)
	}
	if err != nil {
		return err
	}
	return d.pages.Render(w, status, "resource", view)
}

// resourceCommand is the settings of a resource server as a command.
func (v visit) resourceCommand(one project.Resource) string {
	words := []string{"resource", "add", one.URI, "--offline", "--name", one.Name, "--profile", string(one.Profile)}
	for _, alias := range one.Aliases {
		words = append(words, "--alias", alias)
	}
	for _, s := range one.DefaultScopes {
		words = append(words, "--default-scope", s)
	}
	if one.AccessToken > 0 {
		words = append(words, "--access-token-lifetime", project.Span(one.AccessToken))
	}
	if one.Default {
		words = append(words, "--default")
	}
	return v.command(words...)
}

// protect shows the text for the chosen language.
func (d *Dashboard) protect(r *http.Request, v visit, view *resourceView, one project.Resource) error {
	server := protect.Server{Issuer: v.project.Issuer, Resource: one.URI}
	for _, s := range view.Scopes {
		server.Scopes = append(server.Scopes, protect.Scope{Name: s.Name, Write: !s.ReadOnly})
	}
	view.Sample = len(server.Scopes) == 0
	all, err := protect.For(server)
	if err != nil {
		return err
	}
	chosen := max(0, slices.IndexFunc(all, func(t protect.Text) bool { return t.Name == r.URL.Query().Get("in") }))
	view.Language = all[chosen]
	for i, t := range all {
		view.Languages = append(view.Languages, tab{t.Title, view.Here + "?in=" + t.Name, i == chosen})
	}
	return nil
}

// moving says what a new address ends, and what removing does.
func (d *Dashboard) moving(ctx context.Context, v visit, view *resourceView, one project.Resource) error {
	impact, err := d.Projects.MoveImpact(ctx, v.project, one.URI)
	if err != nil {
		return err
	}
	view.Impact, view.Type = toImpact(impact), confirmationOf(one.Name)
	view.Commands = map[string]string{"move": v.command("resource", "move", one.URI, "NEW_URL")}
	view.Remove = view.guard(danger{
		Action: "remove", Button: "Remove " + one.Name, Type: view.Type, Sure: "Remove it", CLI: v.command("resource", "remove", one.URI), Open: view.Remove.Open,
		Stops: fmt.Sprintf("Connected apps that have access now: %d, people: %d. ", impact.Clients, impact.People) + "No token for it is issued or refreshed any more; those that are out live until they expire. What people allowed stays, for when it comes back.",
	})
	return nil
}

package main

import (
	"bytes"
	"cmp"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/websession"
)

//go:embed templates static
var files embed.FS

// page is the web page. It works without script: a dialog is a popover, which
// the browser opens by itself, and a form with a mistake in it is shown again
// above the list.
type page struct {
	service  *Service
	set      settings
	template *template.Template
}

func newPage(service *Service, set settings) *page {
	return &page{service, set, template.Must(template.ParseFS(files, "templates/*.html"))}
}

// view is what the template shows.
type view struct {
	MCPURL          string
	AppsURL         string // the issuer's page of connected apps
	OrganizationURL string // the issuer's page of the organization and its members
	SwitchURL       string

	Person       *websession.Person // nil when nobody is signed in
	Organization organizationView
	Rights       []right
	Closed       bool // some of the rights are
	NoPolicy     bool // not one right: most likely there is no policy
	Readable     bool // the objectives are
	Add          dialog
	Objectives   []objectiveView
	Events       []eventView

	Again  *dialog // what was sent and cannot be done, to be corrected
	Notice string  // what else went wrong
}

// organizationView is an organization as people know it.
type organizationView struct {
	Name   string
	Letter string
	Tile   int // which of the three colours of places
}

// right is a line of "What your role allows".
type right struct {
	Operation string
	Text      string
	Allowed   bool
}

// dialog is a question with a form. Its button is greyed where the person may
// not do it.
type dialog struct {
	ID        string
	Operation string
	Allowed   bool

	Open   string // the button that opens it
	For    string // what that button is about, for who cannot see where it stands
	Title  string
	About  string // the text of what it is about
	Then   string // what follows from it
	Action string
	Submit string

	Field   string // its name; empty for a question without one
	Label   string
	Value   string
	PerCent bool
	Wrong   string // what is wrong with the value
}

// objectiveView is an objective with its forms.
type objectiveView struct {
	Objective
	Number int
	Delete dialog
	Add    dialog
	List   []keyResultView
}

// keyResultView is a key result with its forms.
type keyResultView struct {
	KeyResult
	Set    dialog
	Delete dialog
}

// eventView is an Event in words.
type eventView struct {
	Event
	Host string // that vouches for the connected app; empty for one that only has an id
	For  string // the person
	Did  string // or tried
	Ago  string
}

// home shows the objectives, or the way to them.
func (p *page) home(w http.ResponseWriter, r *http.Request) {
	p.show(w, r, http.StatusOK, view{})
}

func (p *page) addObjective(w http.ResponseWriter, r *http.Request) {
	text := field(w, r, "objectiveText")
	p.change(w, r, newObjective(text), func(c Caller) error {
		_, err := p.service.AddObjective(r.Context(), c, text)
		return err
	})
}

func (p *page) deleteObjective(w http.ResponseWriter, r *http.Request) {
	p.change(w, r, dialog{Operation: deleteObjective}, func(c Caller) error {
		_, err := p.service.DeleteObjective(r.Context(), c, r.PathValue("okrID"))
		return err
	})
}

func (p *page) addKeyResult(w http.ResponseWriter, r *http.Request) {
	text := field(w, r, "keyResultText")
	p.change(w, r, newKeyResult(Objective{ID: r.PathValue("okrID")}, text), func(c Caller) error {
		_, err := p.service.AddKeyResult(r.Context(), c, r.PathValue("okrID"), text)
		return err
	})
}

func (p *page) setAttainment(w http.ResponseWriter, r *http.Request) {
	value := strings.TrimSpace(field(w, r, "attainment"))
	k := KeyResult{ID: r.PathValue("keyResultID"), Objective: r.PathValue("okrID")}
	p.change(w, r, newAttainment(k, value), func(c Caller) error {
		attainment, err := strconv.Atoi(value)
		if err != nil {
			return ErrAttainment
		}
		_, err = p.service.SetAttainment(r.Context(), c, k.Objective, k.ID, attainment)
		return err
	})
}

func (p *page) deleteKeyResult(w http.ResponseWriter, r *http.Request) {
	p.change(w, r, dialog{Operation: deleteKeyResult}, func(c Caller) error {
		_, err := p.service.DeleteKeyResult(r.Context(), c, r.PathValue("okrID"), r.PathValue("keyResultID"))
		return err
	})
}

// field reads a field of a form.
func field(w http.ResponseWriter, r *http.Request, name string) string {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	return r.PostFormValue(name)
}

// change answers a form: the list again, the form again with what is wrong in
// it, or what went wrong above the list.
func (p *page) change(w http.ResponseWriter, r *http.Request, sent dialog, do func(Caller) error) {
	caller := guard.FromContext(r.Context())
	err := guard.Check(r.Context(), permission(sent.Operation))
	switch {
	case err == nil && caller.Organization == "":
		err = errNoOrganization
	case err == nil:
		err = do(Caller{Organization: caller.Organization, Subject: caller.Subject})
	}
	switch {
	case err == nil:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	case errors.Is(err, ErrText), errors.Is(err, ErrAttainment), errors.Is(err, ErrFull):
		sent.ID, sent.Allowed, sent.Wrong = "again", true, sentence(err)
		p.show(w, r, http.StatusUnprocessableEntity, view{Again: &sent})
	case errors.Is(err, ErrNoObjective), errors.Is(err, ErrNoKeyResult):
		p.show(w, r, http.StatusNotFound, view{Notice: "That is gone already. Here is the list as it is now."})
	case errors.Is(err, guard.ErrInsufficientScope):
		p.show(w, r, http.StatusForbidden, view{Notice: "Nothing was changed: your role does not include it."})
	default:
		p.broken(w, r, err)
	}
}

// errNoOrganization: the person signed in as nobody's member.
var errNoOrganization = errors.New("no organization")

// broken shows what a person can do about an error that is not theirs.
func (p *page) broken(w http.ResponseWriter, r *http.Request, err error) {
	status, notice := problem(r, err)
	p.show(w, r, status, view{Notice: notice})
}

func problem(r *http.Request, err error) (status int, notice string) {
	switch {
	case errors.Is(err, errNoOrganization):
		return http.StatusForbidden, "Objectives belong to organizations, and you are signed in without one. Sign out and in again, and choose yours."
	case errors.Is(err, guard.ErrUnavailable):
		return http.StatusServiceUnavailable, "The sign-in service does not answer, so nobody can say what you may do. Try again in a minute."
	}
	slog.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
	return http.StatusInternalServerError, sentence(err)
}

// fail shows why signing in or out did not work.
func (p *page) fail(w http.ResponseWriter, r *http.Request, status int, message string) {
	p.show(w, r, status, view{Notice: message})
}

// show renders the page for whoever is signed in.
func (p *page) show(w http.ResponseWriter, r *http.Request, status int, v view) {
	v.MCPURL, v.AppsURL = p.set.url.String()+"/mcp", p.set.issuer+"/connected-apps"
	v.OrganizationURL, v.SwitchURL = p.set.organization, switchPath
	if person, ok := websession.FromContext(r.Context()); ok {
		v.Person = &person
		if err := p.fill(r, &v); err != nil {
			status, v.Notice = problem(r, err)
		}
	}
	var body bytes.Buffer // so that a template's error does not end in half a page
	if err := p.template.ExecuteTemplate(&body, "page.html", v); err != nil {
		slog.ErrorContext(r.Context(), "template failed", "error", err)
		http.Error(w, sentence(err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = body.WriteTo(w)
}

// fill adds what the person may see.
func (p *page) fill(r *http.Request, v *view) error {
	ctx, caller := r.Context(), guard.FromContext(r.Context())
	if caller.Organization == "" {
		return errNoOrganization
	}
	v.Organization = describe(caller)
	may := map[string]bool{}
	v.NoPolicy = true
	permissions := caller.Permissions()
	for _, line := range []right{
		{Operation: listObjectives, Text: "Read objectives"},
		{Operation: setKeyResultAttainment, Text: "Say how far key results are"},
		{Operation: addKeyResult, Text: "Add key results"},
		{Operation: deleteKeyResult, Text: "Delete key results"},
		{Operation: addObjective, Text: "Add objectives"},
		{Operation: deleteObjective, Text: "Delete objectives"},
	} {
		act := acts()[line.Operation]
		line.Allowed = slices.Contains(permissions[act.Resource], act.Action)
		may[line.Operation] = line.Allowed
		v.Closed = v.Closed || !line.Allowed
		v.NoPolicy = v.NoPolicy && !line.Allowed
		v.Rights = append(v.Rights, line)
	}

	if err := p.service.Remember(ctx, caller.Organization, caller.Subject, cmp.Or(v.Person.Name, v.Person.Email)); err != nil {
		return err
	}
	events, err := p.service.Events(ctx, caller.Organization)
	if err != nil {
		return err
	}
	for _, e := range events {
		v.Events = append(v.Events, tell(e, caller.Subject, time.Now()))
	}
	if !may[listObjectives] {
		if !v.NoPolicy {
			v.Notice = cmp.Or(v.Notice, "Your role does not include reading objectives.")
		}
		return nil
	}
	objectives, err := p.service.List(ctx, caller.Organization)
	if err != nil {
		return err
	}
	v.Readable = true
	allow := func(d dialog) dialog {
		d.Allowed = may[d.Operation]
		if v.Again != nil && v.Again.Action == d.Action {
			v.Again.About = d.About
		}
		return d
	}
	v.Add = allow(newObjective(""))
	for i, o := range objectives {
		shown := objectiveView{Objective: o, Number: i + 1, Delete: allow(noObjective(o)), Add: allow(newKeyResult(o, ""))}
		for _, k := range o.KeyResults {
			shown.List = append(shown.List, keyResultView{k, allow(newAttainment(k, strconv.Itoa(k.Attainment))), allow(noKeyResult(k))})
		}
		v.Objectives = append(v.Objectives, shown)
	}
	return nil
}

// The dialogs of the page.

func newObjective(text string) dialog {
	return dialog{
		ID: "add", Operation: addObjective, Open: "Add an objective", Title: "Add an objective",
		Action: "/objectives", Submit: "Add", Field: "objectiveText", Label: "What do we want to reach?", Value: text,
	}
}

func noObjective(o Objective) dialog {
	then := "It cannot be brought back."
	if n := len(o.KeyResults); n > 0 {
		then = fmt.Sprintf("Its key results (%d) go with it. They cannot be brought back.", n)
	}
	return dialog{
		ID: "delete-" + o.ID, Operation: deleteObjective, Open: "Delete", For: o.Text, Title: "Delete this objective?",
		About: o.Text, Then: then, Action: "/objectives/" + o.ID + "/delete", Submit: "Delete",
	}
}

func newKeyResult(o Objective, text string) dialog {
	return dialog{
		ID: "add-" + o.ID, Operation: addKeyResult, Open: "Add a key result", For: o.Text, Title: "Add a key result", About: o.Text,
		Action: "/objectives/" + o.ID + "/keyresults", Submit: "Add", Field: "keyResultText", Label: "How does one see that it is reached?", Value: text,
	}
}

func newAttainment(k KeyResult, value string) dialog {
	return dialog{
		ID: "set-" + k.ID, Operation: setKeyResultAttainment, Open: "Update", For: k.Text, Title: "How far is it?", About: k.Text,
		Action: "/objectives/" + k.Objective + "/keyresults/" + k.ID + "/attainment", Submit: "Save",
		Field: "attainment", Label: "Per cent, from 0 to 100", Value: value, PerCent: true,
	}
}

func noKeyResult(k KeyResult) dialog {
	return dialog{
		ID: "delete-" + k.ID, Operation: deleteKeyResult, Open: "Delete", For: k.Text, Title: "Delete this key result?",
		About: k.Text, Then: "It cannot be brought back.", Action: "/objectives/" + k.Objective + "/keyresults/" + k.ID + "/delete", Submit: "Delete",
	}
}

// describe names the caller's organization by the best that the token says.
func describe(caller *guard.Principal) organizationView {
	var claims struct {
		Name string `json:"organization_name"`
		Slug string `json:"organization_slug"`
	}
	_ = caller.Claims(&claims) // then it has its id only
	name := cmp.Or(claims.Name, claims.Slug, caller.Organization)
	sum := 0
	for _, c := range []byte(caller.Organization) {
		sum += int(c)
	}
	return organizationView{name, strings.ToUpper(string([]rune(name)[:1])), 1 + sum%3}
}

// tell says what a connected app did.
func tell(e Event, reader string, now time.Time) eventView {
	v := eventView{Event: e, Host: verifiedHost(e.Client), For: cmp.Or(e.Name, "a colleague"), Ago: ago(now.Sub(e.At))}
	if e.Subject == reader {
		v.For = "you"
	}
	words := map[string][2]string{
		listObjectives:         {"read the objectives", "tried to read the objectives"},
		addObjective:           {"added the objective", "tried to add an objective"},
		deleteObjective:        {"deleted the objective", "tried to delete an objective"},
		addKeyResult:           {"added the key result", "tried to add a key result"},
		setKeyResultAttainment: {"updated the key result", "tried to update a key result"},
		deleteKeyResult:        {"deleted the key result", "tried to delete a key result"},
	}[e.Operation]
	v.Did = words[0]
	if e.Refused {
		v.Did = words[1]
	}
	return v
}

// ago is a time that has passed, as short as people say it.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "now"
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d d", int(d.Hours()/24))
}

// verifiedHost returns the host of a client_id that is the https address of a
// metadata document: the issuer has fetched it there. Any other client chose
// its name itself, so the page does not repeat one.
func verifiedHost(clientID string) string {
	u, err := url.Parse(clientID)
	if err != nil || u.Scheme != "https" {
		return ""
	}
	return u.Hostname()
}

// staticFiles serves the style sheets and the script.
func staticFiles() http.Handler {
	server := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "max-age=300")
		server.ServeHTTP(w, r)
	})
}

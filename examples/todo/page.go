package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"

	"github.com/postern-id/postern/guard"
	"github.com/postern-id/postern/guard/websession"
)

//go:embed templates static
var files embed.FS

// page is the web page. Its forms work without script.
type page struct {
	service  *Service
	url      string // our own, without a path
	issuer   string
	template *template.Template
}

func newPage(service *Service, url, issuer string) *page {
	return &page{service, url, issuer, template.Must(template.ParseFS(files, "templates/*.html"))}
}

// view is what the template shows.
type view struct {
	MCPURL  string
	AppsURL string             // the issuer's page of connected apps
	Person  *websession.Person // nil when nobody is signed in
	Todos   []todoView
	Open    int
	Text    string // what was typed into the field
	Wrong   string // what is wrong with it
	Notice  string // what else went wrong
}

// todoView is a to-do with its connected app in words.
type todoView struct {
	Todo
	// Host is the host that vouches for the connected app that added the
	// to-do; empty for an app that only has an id.
	Host string
}

// home shows the list, or the way to it.
func (p *page) home(w http.ResponseWriter, r *http.Request) {
	p.show(w, r, http.StatusOK, view{})
}

func (p *page) create(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<10)
	text := r.PostFormValue("todoText")
	err := guard.Check(r.Context(), guard.AllOf(writeTodos))
	if err == nil {
		_, err = p.service.Create(r.Context(), guard.FromContext(r.Context()).Subject, "", text)
	}
	if errors.Is(err, ErrText) || errors.Is(err, ErrFull) {
		p.show(w, r, http.StatusUnprocessableEntity, view{Text: text, Wrong: sentence(err)})
		return
	}
	p.done(w, r, err)
}

// change is the target of a form on one to-do.
func (p *page) change(operation func(ctx context.Context, subject, id string) (Todo, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := guard.Check(r.Context(), guard.AllOf(writeTodos))
		if err == nil {
			_, err = operation(r.Context(), guard.FromContext(r.Context()).Subject, r.PathValue("id"))
		}
		p.done(w, r, err)
	})
}

// done answers a form: the list again, or what went wrong above it.
func (p *page) done(w http.ResponseWriter, r *http.Request, err error) {
	switch {
	case err == nil:
		http.Redirect(w, r, "/", http.StatusSeeOther)
	case errors.Is(err, ErrNotFound):
		p.show(w, r, http.StatusNotFound, view{Notice: "That to-do is gone already. Here is the list as it is now."})
	case errors.Is(err, guard.ErrInsufficientScope):
		p.show(w, r, http.StatusForbidden, view{Notice: "You did not allow this page to change your to-dos. Sign out and in again to be asked once more."})
	default:
		slog.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
		p.show(w, r, http.StatusInternalServerError, view{Notice: sentence(err)})
	}
}

// fail shows why signing in or out did not work.
func (p *page) fail(w http.ResponseWriter, r *http.Request, status int, message string) {
	p.show(w, r, status, view{Notice: message})
}

// show renders the page for whoever is signed in.
func (p *page) show(w http.ResponseWriter, r *http.Request, status int, v view) {
	v.MCPURL, v.AppsURL = p.url+"/mcp", p.issuer+"/connected-apps"
	if person, ok := websession.FromContext(r.Context()); ok {
		v.Person = &person
		err := guard.Check(r.Context(), guard.AllOf(readTodos))
		var todos []Todo
		if err == nil {
			todos, err = p.service.List(r.Context(), person.Subject)
		}
		switch {
		case errors.Is(err, guard.ErrInsufficientScope):
			status, v.Notice = http.StatusForbidden, "You did not allow this page to read your to-dos. Sign out and in again to be asked once more."
		case err != nil:
			slog.ErrorContext(r.Context(), "request failed", "path", r.URL.Path, "error", err)
			status, v.Notice = http.StatusInternalServerError, sentence(err)
		}
		for _, todo := range todos {
			v.Todos = append(v.Todos, todoView{todo, verifiedHost(todo.AddedBy)})
			if !todo.Completed {
				v.Open++
			}
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

package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"
	"golang.org/x/net/publicsuffix"
)

//go:embed static templates
var files embed.FS

// AssetsPath is where the handler of Assets must be registered: pages name
// their style sheets below it.
const AssetsPath = "/assets/"

// asset is one file of static/ at the address that names its content.
type asset struct {
	url         string
	contentType string
	body        []byte
}

// assets reads static/, by file name.
func assets() (map[string]asset, error) {
	// Written out, for the system's own table differs from host to host.
	types := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	all := map[string]asset{}
	err := fs.WalkDir(files, "static", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := files.ReadFile(file)
		if err != nil {
			return err
		}
		name, ext := path.Base(file), path.Ext(file)
		sum := sha256.Sum256(body)
		hash := base64.RawURLEncoding.EncodeToString(sum[:9])
		all[name] = asset{
			url:         AssetsPath + strings.TrimSuffix(name, ext) + "." + hash + ext,
			contentType: types[ext],
			body:        body,
		}
		return nil
	})
	return all, err
}

// Assets serves the style sheets, the script and the mark below AssetsPath.
// Every address names the content behind it, so answers may be kept for ever;
// any other address is 404.
func Assets() (http.Handler, error) {
	all, err := assets()
	if err != nil {
		return nil, fmt.Errorf("web: read assets: %w", err)
	}
	byURL := map[string]asset{}
	for _, a := range all {
		byURL[a.url] = a
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := byURL[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		h := w.Header()
		h.Set("Content-Type", a.contentType)
		h.Set("Content-Length", strconv.Itoa(len(a.body)))
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
		h.Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodHead {
			_, _ = w.Write(a.body) // a client that went away needs no answer
		}
	}), nil
}

// Site is whose page it is: what the shell shows around every page. A view
// embeds it. The zero Site is Postern's own.
type Site struct {
	Base       string // path of the issuer, in front of every address of the page; "" for none
	Name       string // the project's name; "" shows Postern's mark instead
	ID         string // the project's id, which chooses its tile's colour; "" is the working colour
	Logo       string // address of the project's logo on this host; "" shows a tile with its initial
	HideBadge  bool   // leave "Guarded by postern" out
	PrivacyURL string // "" for none
	HelpURL    string // "" for none
}

// Turn says who can do something about an error.
type Turn string

// The three turns.
const (
	Yours          Turn = "yours"
	TheApps        Turn = "the app's"
	Administrators Turn = "the administrator's"
)

// ErrorPage is the view of the page that says what went wrong. Headline, What
// and Next are sentences of ours; words from outside never stand in them but in
// their holes: {client}, {host}, {asked}, {registered} and {project} are
// replaced by the fields below, cleaned, escaped and set apart.
type ErrorPage struct {
	Site
	Status   int
	Headline string // what went wrong, in a few words
	What     string // what happened, in one or two sentences
	Turn     Turn
	Next     string // what that one does now

	Client     string // name of the connected app, as it gave it
	Host       string // a host, with or without a port
	Asked      string // what was asked for
	Registered string // what would have been right

	Onward   template.URL // where the person may carry the refusal, made and checked like an answer; "" for nowhere
	OnwardTo string       // name of the connected app behind it
	Way      string       // address on this host where the person goes on; "" for nowhere
	WayTo    string       // the words on the link there

	Trace string    // trace code; "" when nothing was traced
	At    time.Time // when it happened; zero leaves it out
	Step  string    // the step it happened at, such as "authorize"
}

// HeadlineHTML is Headline with its holes filled.
func (e ErrorPage) HeadlineHTML() template.HTML { return e.fill(e.Headline) }

// WhatHTML is What with its holes filled.
func (e ErrorPage) WhatHTML() template.HTML { return e.fill(e.What) }

// NextHTML is Next with its holes filled.
func (e ErrorPage) NextHTML() template.HTML { return e.fill(e.Next) }

func (e ErrorPage) fill(sentence string) template.HTML {
	name := func(s, otherwise string) string {
		if s == "" {
			return otherwise
		}
		return "<bdi>" + template.HTMLEscapeString(ClientText(s)) + "</bdi>"
	}
	code := func(s string) string {
		return `<code dir="ltr">` + template.HTMLEscapeString(visible(s)) + "</code>"
	}
	nobody := "the program that sent you here"
	if strings.HasPrefix(sentence, "{client}") {
		nobody = "The program that sent you here"
	}
	return template.HTML(strings.NewReplacer( //nolint:gosec // every value is escaped above
		"{client}", name(e.Client, nobody),
		"{project}", name(e.Name, "this server"),
		"{host}", code(asciiHost(e.Host)),
		"{asked}", code(e.Asked),
		"{registered}", code(e.Registered),
	).Replace(template.HTMLEscapeString(sentence))) // one pass over escaped text: a value opens no hole
}

// StatusPage returns the page for an HTTP status that carries no story of its
// own. The caller adds Site, Trace and At.
func StatusPage(status int) ErrorPage {
	e := ErrorPage{Status: status, Turn: Yours, Next: "Go back and try again."}
	switch status {
	case http.StatusBadRequest:
		e.Headline, e.What = "We could not read that request", "Part of it is missing or malformed, so we did nothing."
	case http.StatusForbidden:
		e.Headline, e.What = "This page did not come from us", "The form was sent from another site or from a page that is too old. Nothing was changed."
		e.Next = "Go back to the page and repeat what you did."
	case http.StatusNotFound:
		e.Headline, e.What = "There is nothing here", "The address may be mistyped, or what was here is gone."
		e.Next = "Check the address, or go back to where you came from."
	case http.StatusMethodNotAllowed:
		e.Headline, e.What = "This address does not work that way", "It exists, but not for the kind of request that your browser sent."
	case http.StatusRequestEntityTooLarge:
		e.Headline, e.What = "That is too much for one request", "We stopped reading it and did nothing."
	case http.StatusMisdirectedRequest:
		e.Headline, e.What = "No project has this address", "The request reached us under a name that is not set up here."
		e.Turn, e.Next = Administrators, "Whoever runs this server can compare the address with the issuer of each project."
	case http.StatusTooManyRequests:
		e.Headline, e.What = "That was too often", "Too many requests came from your network, so we did nothing with this one."
		e.Next = "Wait a minute and try again."
	case http.StatusServiceUnavailable:
		e.Headline, e.What = "We are not ready", "The server is starting or cannot reach its database. Nothing was changed."
		e.Turn, e.Next = Administrators, "Try again in a minute. If it stays, tell the people who run {project}."
	default:
		e.Headline, e.What = "Something broke on our side", "It is not your doing. We cannot say whether the last step was kept."
		e.Turn, e.Next = Administrators, "Try again. If it stays, send the trace code to the people who run {project}."
	}
	return e
}

// Pages draws the pages of one package. A page is parsed when it is drawn for
// the first time: a server that starts reads what all of them share, and keeps
// no copy of it for pages that nobody opens.
type Pages struct {
	pages map[string]func() (*template.Template, error)
}

// NewPages reads the page shell, the components and the names of the caller's
// templates, which are templates/*.html of fsys: each file is one page, named
// after the file, except parts.html, whose definitions every page can use. A
// page begins with {{template "gate" .}} (a card before the gate) or
// {{template "bar" .}} (a full page below a top bar) and defines "title", "main"
// and what else the layout asks for. Its view embeds Site.
func NewPages(fsys fs.FS) (*Pages, error) {
	static, err := assets()
	if err != nil {
		return nil, fmt.Errorf("web: read assets: %w", err)
	}
	base, err := template.New("").Funcs(template.FuncMap{
		"asset": func(name string) (string, error) {
			a, ok := static[name]
			if !ok {
				return "", fmt.Errorf("no asset %q", name)
			}
			return a.url, nil
		},
		"clientText": ClientText,
		"initial":    initial,
		"tile":       tile,
		"host":       splitHost,
	}).ParseFS(files, "templates/shell.html", "templates/components.html", "templates/icons.html")
	if err != nil {
		return nil, fmt.Errorf("web: parse shell: %w", err)
	}
	p := &Pages{pages: map[string]func() (*template.Template, error){}}
	p.add(base, files, "templates/error.html")
	own, err := base.Clone() // the caller's parts are nothing to the error page
	if err != nil {
		return nil, fmt.Errorf("web: parse shell: %w", err)
	}
	names, err := fs.Glob(fsys, "templates/*.html")
	if err != nil {
		return nil, fmt.Errorf("web: list templates: %w", err)
	}
	const parts = "templates/parts.html"
	for _, name := range names {
		if name == parts {
			if own, err = own.ParseFS(fsys, parts); err != nil {
				return nil, fmt.Errorf("web: parse %s: %w", parts, err)
			}
		}
	}
	for _, name := range names {
		if name != parts {
			p.add(own, fsys, name)
		}
	}
	return p, nil
}

func (p *Pages) add(shell *template.Template, fsys fs.FS, file string) {
	name := path.Base(file)
	p.pages[strings.TrimSuffix(name, ".html")] = sync.OnceValues(func() (*template.Template, error) {
		t, err := shell.Clone()
		if err != nil {
			return nil, fmt.Errorf("web: parse %s: %w", file, err)
		}
		if t, err = t.ParseFS(fsys, file); err != nil {
			return nil, fmt.Errorf("web: parse %s: %w", file, err)
		}
		return t.Lookup(name), nil
	})
}

// Render draws a page into memory and, only if that worked, answers with it:
// nobody sees half a page, and after an error nothing was written.
func (p *Pages) Render(w http.ResponseWriter, status int, page string, view any) error {
	parsed, ok := p.pages[page]
	if !ok {
		return errors.New("web: no page " + page)
	}
	t, err := parsed()
	if err != nil {
		return err
	}
	var body bytes.Buffer
	if err := t.Execute(&body, view); err != nil {
		return fmt.Errorf("web: draw %s: %w", page, err)
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	h.Set("Cache-Control", "no-store") // pages hold addresses of people and form tokens
	w.WriteHeader(status)
	if _, err := body.WriteTo(w); err != nil {
		return fmt.Errorf("web: send %s: %w", page, err)
	}
	return nil
}

// Error draws an ErrorPage with its status.
func (p *Pages) Error(w http.ResponseWriter, e ErrorPage) error {
	return p.Render(w, e.Status, "error", e)
}

// nameLength is how many characters of a name from outside are shown.
const nameLength = 60

// ClientText makes a name that a connected app or another outsider chose fit to
// stand in our sentences: one line without control, direction, zero-width and
// other invisible characters, no piles of combining marks, at most 60
// characters with an ellipsis where more were cut. An empty name becomes "A
// program without a name". The result is text: escape and isolate (bdi) it
// where it is shown.
func ClientText(s string) string {
	s = visible(s)
	if s == "" {
		return "A program without a name"
	}
	if utf8.RuneCountInString(s) > nameLength {
		s = strings.TrimSpace(string([]rune(s)[:nameLength-1])) + "…"
	}
	return s
}

// visible keeps the characters of s that a person can see, on one line.
func visible(s string) string {
	var b strings.Builder
	marks := 0
	for _, r := range s {
		switch {
		case unicode.IsSpace(r) || unicode.Is(unicode.Z, r):
			r = ' '
		case r == utf8.RuneError, !unicode.IsGraphic(r),
			unicode.Is(unicode.Other_Default_Ignorable_Code_Point, r), unicode.Is(unicode.Variation_Selector, r),
			r == '\u2800': // a blank that counts as a symbol
			continue
		}
		if marks++; !unicode.Is(unicode.M, r) {
			marks = 0
		}
		if marks <= 2 { // no script needs more on one letter of a name
			b.WriteRune(r)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// initial is the letter on a tile or door.
func initial(name string) string {
	for _, r := range visible(name) {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return string(unicode.ToUpper(r))
		}
	}
	return "·"
}

// tile is the class of a project's tile without a logo.
func tile(id string) string {
	if id == "" {
		return "tile"
	}
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // never fails
	return []string{"tile", "tile tile-1", "tile tile-2", "tile tile-3"}[h.Sum32()%4]
}

// hostParts is a host cut at its registrable part, which says who owns it.
type hostParts struct{ Before, Owner, After string }

// longHost is the length from which the registrable part is emphasised.
const longHost = 20

// splitHost shows a host, with or without a port, in ASCII. Only a long host
// has an Owner.
func splitHost(s string) hostParts {
	s = asciiHost(s)
	name, port := cutPort(s)
	owner, err := publicsuffix.EffectiveTLDPlusOne(name)
	if err != nil || len(name) < longHost || owner == name {
		return hostParts{Before: s}
	}
	return hostParts{strings.TrimSuffix(name, owner), owner, port}
}

// asciiHost writes an internationalised host as punycode, so that no letter
// looks like another. What is no host keeps its ASCII, the rest turns to '?'.
func asciiHost(s string) string {
	name, port := cutPort(visible(s))
	if ascii, err := idna.Punycode.ToASCII(name); err == nil {
		name = ascii
	}
	return strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '?'
		}
		return r
	}, name+port)
}

// cutPort cuts ":port" off a host name; an address in brackets stays whole.
func cutPort(s string) (name, port string) {
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.ContainsAny(s, "[/") {
		return s[:i], s[i:]
	}
	return s, ""
}

package servertest

import (
	"context"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Browser is one person's browser: it keeps cookies and follows redirects that
// stay inside the issuer. A redirect that leaves it comes back as the page.
type Browser struct {
	Client *http.Client
	issuer string
	code   func(t testing.TB, to string) string
	under  func(t testing.TB) // nil, or tells the server which test talks to it
}

// Page is what a browser shows.
type Page struct {
	Status int
	URL    *url.URL
	Header http.Header
	Body   string
}

// Browser opens a browser without cookies.
func (s *Server) Browser(t testing.TB) *Browser {
	t.Helper()
	b := NewBrowser(t, s.Issuer, s.nextCode)
	b.under = s.Under
	return b
}

// NewBrowser opens a browser for any issuer; code finds the newest one-time
// code that was sent to an address.
func NewBrowser(t testing.TB, issuer string, code func(t testing.TB, to string) string) *Browser {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &Browser{Client: &http.Client{Jar: jar, Timeout: 20 * time.Second}, issuer: issuer, code: code}
	b.Client.CheckRedirect = func(r *http.Request, via []*http.Request) error {
		if r.URL.Scheme+"://"+r.URL.Host != originOf(issuer) || len(via) > 10 {
			return http.ErrUseLastResponse
		}
		return nil
	}
	t.Cleanup(b.Client.CloseIdleConnections)
	return b
}

// Get opens an address; one that begins with a slash is the issuer's.
func (b *Browser) Get(t testing.TB, address string) Page {
	t.Helper()
	return b.do(t, http.MethodGet, b.absolute(address), nil)
}

// Post sends a form from a page of the issuer.
func (b *Browser) Post(t testing.TB, address string, form url.Values) Page {
	t.Helper()
	return b.do(t, http.MethodPost, b.absolute(address), form)
}

func (b *Browser) absolute(address string) string {
	if strings.HasPrefix(address, "/") {
		return b.issuer + address
	}
	return address
}

func (b *Browser) do(t testing.TB, method, address string, form url.Values) Page {
	t.Helper()
	if b.under != nil {
		b.under(t)
	}
	// What runs at the end of a test still browses: its own context has ended.
	request, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, address, strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("User-Agent", "Mozilla/5.0 (servertest)")
	if method == http.MethodPost {
		request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		request.Header.Set("Origin", originOf(b.issuer))
		request.Header.Set("Sec-Fetch-Site", "same-origin")
	}
	response, err := b.Client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return Page{Status: response.StatusCode, URL: response.Request.URL, Header: response.Header, Body: string(body)}
}

// Submit presses a button of a page: it sends the form that holds the field or
// button called name, with what the form has already, and values over it.
func (b *Browser) Submit(t testing.TB, p Page, name string, values url.Values) Page {
	t.Helper()
	for _, f := range p.forms() {
		if _, ok := f.fields[name]; !ok && !strings.Contains(f.text, `name="`+name+`"`) {
			continue
		}
		form := url.Values{}
		for field, list := range f.fields {
			form[field] = list
		}
		for field, list := range values {
			form[field] = list
		}
		action := p.URL.String()
		if f.action != "" {
			to, err := p.URL.Parse(f.action)
			if err != nil {
				t.Fatal(err)
			}
			action = to.String()
		}
		return b.do(t, http.MethodPost, action, form)
	}
	t.Fatalf("the page %s (%d) has no form with %q:\n%s", p.URL, p.Status, name, p.Body)
	return Page{}
}

// SignIn types an address and its code into a sign-in page, and returns the
// page after it.
func (b *Browser) SignIn(t testing.TB, p Page, email string) Page {
	t.Helper()
	p = b.Submit(t, p, "email", url.Values{"email": {email}})
	return b.Submit(t, p, "code", url.Values{"code": {b.code(t, email)}})
}

// Authorize opens an authorization request.
func (b *Browser) Authorize(t testing.TB, request url.Values) Page {
	t.Helper()
	return b.Get(t, "/oauth/authorize?"+request.Encode())
}

// Allow presses Allow on a consent page with nothing touched, and returns the
// address that the answer goes to.
func (b *Browser) Allow(t testing.TB, p Page) *url.URL {
	t.Helper()
	return b.Submit(t, p, "allow", url.Values{"action": {"allow"}}).Answer(t)
}

// Answer is where a page sends the answer to a connected app: by its Refresh
// header, or by a redirect.
func (p Page) Answer(t testing.TB) *url.URL {
	t.Helper()
	address := p.Header.Get("Location")
	if _, to, ok := strings.Cut(p.Header.Get("Refresh"), "url="); ok {
		address = to
	}
	u, err := url.Parse(address)
	if err != nil || address == "" {
		t.Fatalf("the page %s (%d) carries no answer:\n%s", p.URL, p.Status, p.Body)
	}
	return u
}

// Text is what the page says, without its markup.
func (p Page) Text() string {
	return html.UnescapeString(anyTag.ReplaceAllString(p.Body, ""))
}

// Link is the address of the first link that says words.
func (p Page) Link(t testing.TB, words string) string {
	t.Helper()
	for _, m := range linkTag.FindAllStringSubmatch(p.Body, -1) {
		if strings.TrimSpace(anyTag.ReplaceAllString(m[2], "")) == words {
			to, err := p.URL.Parse(html.UnescapeString(m[1]))
			if err != nil {
				t.Fatal(err)
			}
			return to.String()
		}
	}
	t.Fatalf("the page %s (%d) has no link %q:\n%s", p.URL, p.Status, words, p.Body)
	return ""
}

// aForm is one form of a page.
type aForm struct {
	action string
	fields url.Values // hidden fields, and boxes that are ticked
	text   string
}

var (
	anyTag    = regexp.MustCompile(`<[^>]+>`)
	linkTag   = regexp.MustCompile(`(?s)<a [^>]*href="([^"]*)"[^>]*>(.*?)</a>`)
	formTag   = regexp.MustCompile(`(?s)<form([^>]*)>(.*?)</form>`)
	inputTag  = regexp.MustCompile(`(?s)<input([^>]*)>`)
	attribute = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)
)

func attributes(text string) map[string]string {
	all := map[string]string{}
	for _, m := range attribute.FindAllStringSubmatch(text, -1) {
		all[m[1]] = html.UnescapeString(m[2])
	}
	return all
}

func (p Page) forms() []aForm {
	var all []aForm
	for _, m := range formTag.FindAllStringSubmatch(p.Body, -1) {
		tag := attributes(m[1])
		if !strings.EqualFold(tag["method"], "post") {
			continue
		}
		f := aForm{action: tag["action"], fields: url.Values{}, text: m[2]}
		for _, in := range inputTag.FindAllStringSubmatch(m[2], -1) {
			field := attributes(in[1])
			_, checked := field["checked"]
			if field["name"] != "" && (field["type"] == "hidden" || checked) {
				f.fields.Add(field["name"], field["value"])
			}
		}
		all = append(all, f)
	}
	return all
}

var codeText = regexp.MustCompile(`(?m)^[ \t]*(\d{3}) ?(\d{3})[ \t]*\r?$`)

// codeIn is the one-time code of a mail, "" without one.
func codeIn(text string) string {
	m := codeText.FindStringSubmatch(text)
	if m == nil {
		return ""
	}
	return m[1] + m[2]
}

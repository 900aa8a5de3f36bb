package e2e_test

import (
	"context"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// person is somebody with a browser and a mailbox. A person signs in where
// asked, goes into organization, unticks what is in decline, and presses Allow
// with the rest untouched.
type person struct {
	email        string
	organization string   // id; needed by who is in several
	decline      []string // scopes
	stay         bool     // at the page that would carry the answer to a client

	postern *postern
	browser *http.Client
	used    map[string]bool // codes
	asked   []page          // the consent pages so far
}

func newPerson(t *testing.T, p *postern, email string) *person {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &person{
		email: email, postern: p, used: map[string]bool{},
		browser: &http.Client{Jar: jar, Timeout: 20 * time.Second},
	}
}

// page is what the browser shows.
type page struct {
	status int
	url    *url.URL
	header http.Header
	body   string
}

func (p page) String() string {
	return fmt.Sprintf("%s (%d)\n%s", p.url, p.status, p.body)
}

// open gets an address, and redirects lead on.
func (p *person) open(ctx context.Context, address string) (page, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return page{}, err
	}
	return p.show(r)
}

// submit sends a form from a page as a browser does.
func (p *person) submit(ctx context.Context, from page, f form) (page, error) {
	action, err := from.url.Parse(f.action)
	if err != nil {
		return page{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, action.String(), strings.NewReader(f.values.Encode()))
	if err != nil {
		return page{}, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Origin", from.url.Scheme+"://"+from.url.Host)
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return p.show(r)
}

func (p *person) show(r *http.Request) (page, error) {
	r.Header.Set("User-Agent", "Mozilla/5.0 (e2e)")
	resp, err := p.browser.Do(r)
	if err != nil {
		return page{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return page{resp.StatusCode, resp.Request.URL, resp.Header, string(body)}, err
}

// visit opens an address and does what the pages of the issuer ask for, until
// it is there or somewhere else than at the issuer.
func (p *person) visit(ctx context.Context, address string) (page, error) {
	now, err := p.open(ctx, address)
	for range 10 {
		if err != nil {
			return now, err
		}
		_, onward, handedOver := strings.Cut(now.header.Get("Refresh"), "url=")
		mailForm, asksMail := now.form(`name="email"`)
		codeForm, asksCode := now.form(`name="code"`)
		chooser, asksOrganization := now.form(`name="organization"`)
		consent, asksConsent := now.form(`name="allow"`)
		switch {
		case !strings.HasPrefix(now.url.String(), p.postern.issuer+"/"):
			return now, nil
		case handedOver && p.stay:
			return now, nil
		case handedOver:
			now, err = p.open(ctx, onward)
		case asksMail:
			mailForm.values.Set("email", p.email)
			now, err = p.submit(ctx, now, mailForm)
		case asksCode:
			var code string
			if code, err = p.postern.code(p.email, p.used); err != nil {
				return now, err
			}
			codeForm.values.Set("code", code)
			now, err = p.submit(ctx, now, codeForm)
		case asksOrganization && p.organization != "":
			chooser.values.Set("organization", p.organization)
			now, err = p.submit(ctx, now, chooser)
		case asksConsent:
			p.asked = append(p.asked, now)
			if _, ticked := now.ticked(); len(ticked) == 0 { // nothing that they can allow
				return now, nil
			}
			consent.values["allow"] = slices.DeleteFunc(consent.values["allow"], func(scope string) bool {
				return slices.Contains(p.decline, scope)
			})
			consent.values.Set("action", "allow")
			now, err = p.submit(ctx, now, consent)
		default:
			return now, nil
		}
	}
	return now, fmt.Errorf("no end in sight at %v: %w", now, err)
}

// takeBack presses "Take back" beside a connected app, and returns the page.
func (p *person) takeBack(ctx context.Context, name string) (page, error) {
	apps, err := p.visit(ctx, p.postern.issuer+"/connected-apps")
	if err != nil {
		return apps, err
	}
	for row := range strings.SplitSeq(apps.body, `<li class="app">`) {
		end := apps
		end.body = row
		if f, ok := end.form(`value="take_back"`); ok && strings.Contains(row, html.EscapeString(name)) {
			f.values.Set("action", "take_back")
			return p.submit(ctx, apps, f)
		}
	}
	return apps, fmt.Errorf("%s is not among the connected apps: %v", name, apps)
}

// form is what a browser would send of a form with nothing touched: hidden
// fields, and boxes that are ticked.
type form struct {
	action string
	values url.Values
}

var (
	formTag   = regexp.MustCompile(`(?s)<form([^>]*)>(.*?)</form>`)
	inputTag  = regexp.MustCompile(`(?s)<input([^>]*)>`)
	attribute = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)
)

// form finds the form of a page that contains a text.
func (p page) form(with string) (form, bool) {
	for _, m := range formTag.FindAllStringSubmatch(p.body, -1) {
		if !strings.Contains(m[2], with) {
			continue
		}
		f := form{attributes(m[1])["action"], url.Values{}}
		for _, in := range inputTag.FindAllStringSubmatch(m[2], -1) {
			field := attributes(in[1])
			if _, checked := field["checked"]; checked || field["type"] == "hidden" {
				f.values.Add(field["name"], field["value"])
			}
		}
		return f, true
	}
	return form{}, false
}

func attributes(text string) map[string]string {
	all := map[string]string{}
	for _, m := range attribute.FindAllStringSubmatch(text, -1) {
		all[m[1]] = html.UnescapeString(m[2])
	}
	return all
}

// ticked are the scopes that a consent page shows, and those ticked in it.
func (p page) ticked() (shown, ticked []string) {
	for _, in := range inputTag.FindAllStringSubmatch(p.body, -1) {
		if field := attributes(in[1]); field["name"] == "allow" {
			shown = append(shown, field["value"])
			if _, checked := field["checked"]; checked {
				ticked = append(ticked, field["value"])
			}
		}
	}
	return shown, ticked
}

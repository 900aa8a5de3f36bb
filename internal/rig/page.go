package rig

import (
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// Page is an answer of the server as a browser has it.
type Page struct {
	Status int
	At     *url.URL // after redirects inside the issuer
	Header http.Header
	Body   string
}

// Form is one form of a page.
type Form struct {
	Posts  bool // its method is POST
	Action string
	Names  map[string]bool // of all its fields
	Values url.Values      // what it sends if nobody touches it
}

var (
	formTag   = regexp.MustCompile(`(?s)<form([^>]*)>(.*?)</form>`)
	inputTag  = regexp.MustCompile(`(?s)<input([^>]*)>`)
	attribute = regexp.MustCompile(`([a-z-]+)(?:="([^"]*)")?`)
)

// Forms are the forms of a page, in their order.
func (p Page) Forms() []Form {
	var forms []Form
	for _, found := range formTag.FindAllStringSubmatch(p.Body, -1) {
		tag := attributes(found[1])
		f := Form{Posts: strings.EqualFold(tag["method"], "post"), Action: tag["action"], Names: map[string]bool{}, Values: url.Values{}}
		for _, in := range inputTag.FindAllStringSubmatch(found[2], -1) {
			field := attributes(in[1])
			f.Names[field["name"]] = true
			_, checked := field["checked"]
			if field["name"] != "" && (field["type"] == "hidden" || checked) {
				f.Values.Add(field["name"], field["value"])
			}
		}
		forms = append(forms, f)
	}
	return forms
}

// Fill puts values over what the form sends, and returns the address that it
// sends them to.
func (f Form) Fill(on Page, values url.Values) (string, error) {
	for name, list := range values {
		f.Values[name] = list
	}
	to, err := on.At.Parse(f.Action)
	if err != nil {
		return "", err
	}
	return to.String(), nil
}

func attributes(tag string) map[string]string {
	all := map[string]string{}
	for _, m := range attribute.FindAllStringSubmatch(tag, -1) {
		all[m[1]] = html.UnescapeString(m[2])
	}
	return all
}

// Target is where a page sends the browser with the answer for an app: by a
// redirect, or a little later. It is nil if nowhere.
func (p Page) Target() *url.URL {
	address := p.Header.Get("Location")
	if _, to, refresh := strings.Cut(p.Header.Get("Refresh"), "url="); refresh {
		address = to
	}
	to, err := url.Parse(address)
	if err != nil || address == "" {
		return nil
	}
	return to
}

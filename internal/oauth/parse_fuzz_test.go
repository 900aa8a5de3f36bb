package oauth

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/postern-id/postern/internal/project"
)

// FuzzScope: the names that are taken are those that stand between spaces, each
// once, in their order, and written again they are read as the same.
func FuzzScope(f *testing.F) {
	for _, seed := range []string{
		"read:notes write:notes", "a  a b ", "", " ", "a\tb", `a"b`, `a\b`, "ä", "a\x00b", "a\u00a0b", "openid offline_access",
		strings.Repeat("a ", 65), strings.Repeat("a", 129), strings.Repeat("s", 64<<10),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		scopes, err := parseScope(text)
		if err != nil {
			if scopes != nil {
				t.Fatalf("%q is refused and read as %q", text, scopes)
			}
			return
		}
		var want []string
		for name := range strings.FieldsFuncSeq(text, func(c rune) bool { return c == ' ' }) {
			if strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' || c == '"' || c == '\\' }) || len(name) > 128 {
				t.Fatalf("%q is read as %q", text, scopes)
			}
			if !slices.Contains(want, name) {
				want = append(want, name)
			}
		}
		if !slices.Equal(scopes, want) || len(scopes) > maxScopes || len(text) > maxScopeText {
			t.Fatalf("%q is read as %q", text, scopes)
		}
		if again, err := parseScope(strings.Join(scopes, " ")); err != nil || !slices.Equal(again, scopes) {
			t.Fatalf("%q is read as %q, and that as %q, %v", text, scopes, again, err)
		}
	})
}

// FuzzAuthorizeRequest: what is kept of a request until it is decided stays what
// it was, and whatever check lets through can be answered with a code that only
// one verifier redeems, for one resource and scopes that somebody defined.
func FuzzAuthorizeRequest(f *testing.F) {
	const challenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
	good := "client_id=c&response_type=code&scope=read:notes&state=s&code_challenge=" + challenge + "&code_challenge_method=S256"
	for _, seed := range []string{
		good, good + "&resource=https://notes.example.test/mcp", good + "&resource=https://a.test/&resource=https://b.test/", good + "&resource=/mcp%23x",
		good + "&prompt=none+login", good + "&prompt=consent&max_age=0", good + "&max_age=-1", good + "&max_age=99999999999999999999", good + "&request=x",
		good + "&request_uri=https://evil.test/", good + "&response_mode=fragment", "client_id=c&response_type=token", "client_id=c&response_type=code+token",
		strings.Replace(good, "S256", "plain", 1), strings.Replace(good, challenge, challenge+"=", 1), strings.Replace(good, "=s&", "=%0d%0aX:y&", 1),
		good + "&client_id=d", good + "&redirect_uri=https://client.example.test/cb",
	} {
		f.Add(seed)
	}
	p := fuzzProject()
	p.Scopes = []project.Scope{{Name: "read:notes"}, {Name: "write:notes"}}
	p.Resources = []project.Resource{{URI: "https://notes.example.test/mcp", Scopes: []string{"read:notes"}, Default: true}}
	client := Client{ID: "c", Metadata: Metadata{GrantTypes: []string{"authorization_code"}, RedirectURIs: []string{"https://client.example.test/cb", "http://localhost/cb"}}}
	f.Fuzz(func(t *testing.T, query string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		r, err := ParseAuthorize(q)
		if err != nil || r.wrong != nil {
			return
		}
		uri, err := chooseRedirectURI(client, r.RedirectURI)
		if err == nil && uri != r.RedirectURI {
			t.Fatalf("%q is answered at %q", r.RedirectURI, uri)
		}
		pending, err := check(p, r, client, uri)
		if err != nil {
			return
		}
		raw, err := base64.RawURLEncoding.Strict().DecodeString(r.CodeChallenge)
		if err != nil || len(raw) != 32 || r.CodeChallengeMethod != "S256" || r.ResponseType != "code" || r.MaxAge < -1 || len(r.State) > maxState {
			t.Fatalf("%q is accepted as %+v", query, r)
		}
		if len(r.Resources) > 1 || pending.Resource != p.Resources[0].URI || !useful(pending.Scopes) {
			t.Fatalf("%q is for %q with %q", query, pending.Resource, pending.Scopes)
		}
		for _, scope := range pending.Scopes {
			if _, known := describe(p, scope); !known || scope == "write:notes" {
				t.Fatalf("%q asks for %q", query, scope)
			}
		}
		if !utf8.ValidString(query) || !utf8.ValidString(r.State+r.Nonce+r.LoginHint+r.IDTokenHint+strings.Join(r.Prompt, "")) {
			return // package wire lets none through
		}
		parked, err := json.Marshal(pending)
		if err != nil {
			t.Fatal(err)
		}
		var again Pending
		if err := json.Unmarshal(parked, &again); err != nil || !reflect.DeepEqual(again.Request, normal(pending.Request)) || !slices.Equal(again.Scopes, pending.Scopes) {
			t.Fatalf("%+v becomes %+v, %v", pending, again, err)
		}
	})
}

// normal is a request without the difference between no list and an empty one.
func normal(r AuthorizeRequest) AuthorizeRequest {
	if len(r.Prompt) == 0 {
		r.Prompt = nil
	}
	if len(r.Resources) == 0 {
		r.Resources = nil
	}
	return r
}

// FuzzBasic: a client_id and a secret that were encoded as RFC 6749 §2.3.1 says
// come out as they were, and any header is read as net/http reads it or not at
// all.
func FuzzBasic(f *testing.F) {
	for _, header := range []string{
		"Basic YTpi", "basic YTpi", "Basic  YTpi ", "Basic YTpi\n", "Basic", "Basic !!!", "Basic YWI=", "Basic Og==", "Basic YTo=", "Basic YSUzQTpi", "Basic YSV6OmI=",
		"Basic YQD/OmI=", "Basic YTo6Og==", "Bearer YTpi", "Basic YTpi YTpi",
	} {
		f.Add(header, "client-test-1", "a+b %:ä")
		f.Add(header, "https://client.example.test/client.json", "")
	}
	f.Fuzz(func(t *testing.T, header, id, password string) {
		read := func(header string) (credentials, error) {
			r := httptest.NewRequest(http.MethodPost, PathToken, nil)
			r.Header["Authorization"] = []string{header}
			return readCredentials(r, url.Values{})
		}
		encoded := "Basic " + base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(id)+":"+url.QueryEscape(password)))
		c, err := read(encoded)
		sound := id != "" && utf8.ValidString(id+"\x00"+password) && !strings.Contains(id+password, "\x00")
		if sound != (err == nil) || sound && !reflect.DeepEqual(c, credentials{id: id, secret: password, method: authBasic}) {
			t.Fatalf("%q and %q are read as %+v, %v", id, password, c, err)
		}
		if c, err = read(header); err != nil {
			return
		}
		scheme, rest, _ := strings.Cut(header, " ")
		plain := &http.Request{Header: http.Header{"Authorization": {scheme + " " + strings.TrimSpace(rest)}}}
		user, word, ok := plain.BasicAuth()
		wantID, err1 := url.QueryUnescape(user)
		wantSecret, err2 := url.QueryUnescape(word)
		if !ok || err1 != nil || err2 != nil || c.id != wantID || c.secret != wantSecret || c.method != authBasic {
			t.Fatalf("%q is read as %+v; net/http reads %q and %q, %t", header, c, user, word, ok)
		}
		if c.id == "" || !utf8.ValidString(c.id+c.secret) || strings.Contains(c.id+c.secret, "\x00") {
			t.Fatalf("%q is read as %+v", header, c)
		}
	})
}

// FuzzTokenForm: the same parameters, as a form and as a JSON object, are the
// same request of the same client.
func FuzzTokenForm(f *testing.F) {
	for _, seed := range []string{
		`{"grant_type":"authorization_code","client_id":"c","code":"x","code_verifier":"y"}`,
		`{"grant_type":"refresh_token","refresh_token":"x","scope":"a b","resource":["https://a.test","https://b.test"]}`,
		`{"client_id":["c","d"]}`, `{"client_id":["c"],"client_secret":[""]}`, `{"client_id":"","client_assertion":[""]}`, `{"client_id":7}`, `{"code":{"a":"b"}}`,
		`{"client_id":null,"scope":[]}`, `{"resource":["",""]}`, `{"client_assertion_type":"urn:ietf:params:oauth:client-assertion-type:jwt-bearer","client_assertion":"a.b.c"}`,
		`{"grant_type":"password","username":"\u0000"}`, `{"scope":"\ud800"}`, `{"a":["b",["c"]]}`,
	} {
		f.Add([]byte(seed))
	}
	s := &Server{}
	f.Fuzz(func(t *testing.T, body []byte) {
		read := func(media string, body []byte) (*http.Request, url.Values, error) {
			r := httptest.NewRequest(http.MethodPost, PathToken, bytes.NewReader(body))
			r.Header.Set("Content-Type", media)
			form, err := s.parseBody(r, bodyLimit, "resource")
			return r, form, err
		}
		r, form, err := read("application/json", body)
		if err != nil {
			return
		}
		text := form.Encode()
		if len(text) > bodyLimit || strings.Count(text, "&") > 90 {
			return // a form has bounds of its own
		}
		_, again, err := read("application/x-www-form-urlencoded", []byte(text))
		if err != nil || !maps.EqualFunc(form, again, slices.Equal[[]string]) {
			t.Fatalf("%q is read as %q, and that as %q, %v", body, form, again, err)
		}
		for name, values := range form {
			if name != "resource" && len(values) > 1 {
				t.Fatalf("%q is read as %q", body, form)
			}
		}
		one, err1 := readCredentials(r, form)
		two, err2 := readCredentials(r, again)
		if (err1 == nil) != (err2 == nil) || !reflect.DeepEqual(one, two) {
			t.Fatalf("%q is from %+v, %v; as a form from %+v, %v", body, one, err1, two, err2)
		}
	})
}

package server_test

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/oauth"
	"github.com/postern-id/postern/internal/project"
	"github.com/postern-id/postern/internal/servertest"
)

// The addresses of the clients that the fuzz tests know.
var fuzzRedirects = []string{"http://127.0.0.1/cb", "http://[::1]/cb?app=1", "https://client.example.test/cb"}

// fuzzed is a server that one fuzz process asks, without a network between.
type fuzzed struct {
	*servertest.Server
	words  *strings.Replacer // what inputs call CLIENT, and so on
	cookie string            // of a person who is signed in
}

func newFuzzed(f *testing.F) *fuzzed {
	s := servertest.New(f, servertest.Config{})
	s.AddResource(f, "https://notes.example.test/mcp", project.Scope{Name: "read:notes", Description: "Read your notes", ReadOnly: true})
	own, _ := s.AddClient(f, oauth.NewClient{Name: "Own", Type: oauth.FirstPartyPublic, BypassConsent: true, RedirectURIs: fuzzRedirects})
	public, _ := s.AddClient(f, oauth.NewClient{Name: "Public", Type: oauth.ThirdPartyPublic, RedirectURIs: fuzzRedirects})
	basic, key := s.AddClient(f, oauth.NewClient{Name: "Basic", Type: oauth.ThirdParty, RedirectURIs: fuzzRedirects})
	browser := s.Browser(f)
	browser.SignIn(f, browser.Get(f, "/login"), "ida@example.test")
	issuer, err := url.Parse(s.Issuer)
	if err != nil {
		f.Fatal(err)
	}
	z := &fuzzed{Server: s}
	for _, c := range browser.Client.Jar.Cookies(issuer) {
		if strings.HasSuffix(c.Name, "-session") {
			z.cookie = c.Name + "=" + c.Value
		}
	}
	if z.cookie == "" {
		f.Fatal("nobody is signed in")
	}
	z.words = strings.NewReplacer(
		"OWN", own.ID, "PUBLIC", public.ID, "BASIC", basic.ID, "KEY", key,
		"HEADER", base64.StdEncoding.EncodeToString([]byte(basic.ID+":"+key)),
		"WRONG", base64.StdEncoding.EncodeToString([]byte(basic.ID+":wrong")),
	)
	return z
}

// ask sends a request, unless no HTTP server would take it for one.
func (z *fuzzed) ask(t *testing.T, method, target string, header http.Header, body string) *httptest.ResponseRecorder {
	t.Helper()
	to, err := url.ParseRequestURI(target)
	if err != nil || strings.ContainsFunc(target, func(c rune) bool { return c <= ' ' || c == 0x7f }) {
		return nil
	}
	for name, values := range header {
		for _, value := range values {
			if strings.ContainsFunc(name+value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }) {
				return nil
			}
		}
	}
	r := httptest.NewRequest(method, "/", strings.NewReader(body))
	r.URL, r.RequestURI, r.Header, r.RemoteAddr = to, target, header.Clone(), "127.0.0.1:1"
	r.Header.Del("Host")
	if r.Host = header.Get("Host"); r.Host == "" {
		r.Host = strings.TrimPrefix(z.Issuer, "http://")
	}
	w := httptest.NewRecorder()
	z.Handler().ServeHTTP(w, r)
	if w.Code >= 500 {
		t.Fatalf("%s %s %q %q: %d %s", method, target, header, body, w.Code, w.Body)
	}
	return w
}

// leads is where an answer sends a browser, by itself or by a link.
func leads(w *httptest.ResponseRecorder) []string {
	var out []string
	if to := w.Header().Get("Location"); to != "" {
		out = append(out, to)
	}
	if _, to, ok := strings.Cut(w.Header().Get("Refresh"), "url="); ok {
		out = append(out, to)
	}
	return out
}

const aChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"

// FuzzAuthorize proves that an authorization request, whatever stands in it, is
// answered on our own pages or at an address that its client registered, with
// iss and the state that it came with; and that a code comes only to one with a
// challenge. As a form it is the same request.
func FuzzAuthorize(f *testing.F) {
	good := "client_id=OWN&response_type=code&scope=read:notes&state=a%20b&code_challenge=" + aChallenge + "&code_challenge_method=S256&redirect_uri="
	const callback = "http%3A%2F%2F127.0.0.1%3A4711%2Fcb"
	for _, seed := range []string{
		good + callback, strings.Replace(good, "OWN", "PUBLIC", 1) + callback, strings.Replace(good, "OWN", "BASIC", 1) + callback,
		good + callback + "&prompt=none", good + callback + "&response_mode=fragment", good + callback + "&request_uri=https://evil.test/", good + callback + "&request=a.b.c",
		good + callback + "&resource=https://evil.test/mcp", good + callback + "&resource=%2Fmcp&resource=x", good + callback + "&client_id=PUBLIC", good + callback + "&max_age=0",
		strings.Replace(good, "=code&", "=token&", 1) + callback, strings.Replace(good, "=code&", "=code+token&", 1) + callback, strings.Replace(good, "S256", "plain", 1) + callback,
		strings.Replace(good, aChallenge, aChallenge[:42], 1) + callback, strings.Replace(good, "a%20b", "%0d%0aSet-Cookie:x=y%3C/script%3E", 1) + callback,
		strings.Replace(good, "a%20b", strings.Repeat("s", 2049), 1) + callback, strings.Replace(good, "read:notes", strings.Repeat("x+", 2000), 1) + callback,
		good + "https%3A%2F%2Fclient.example.test%2Fcb", good + "https%3A%2F%2Fclient.example.test%40evil.test%2Fcb", good + "https%3A%2F%2Fclientaexample.test%2Fcb",
		good + "https%3A%2F%2Fclient.example.test%2Fcb%2F..%2Fx", good + "https%3A%2F%2Fclient.example.test%2Fcb%2F..%3B%2Fx", good + "https%3A%2F%2Fclient.example.test%5C%40evil.test%2Fcb",
		good + "https%3A%2F%2Fclient.example.test%3A443%2Fcb", good + "HTTPS%3A%2F%2FCLIENT.example.test%2Fcb", good + "https%3A%2F%2Fclient.example.test%2Fcb%23x", good + "JavaScript%3Aalert(1)",
		good + "http%3A%2F%2F127.0.0.1.evil.test%2Fcb", good + "http%3A%2F%2F127.0.0.1%3A80%40evil.test%2Fcb", good + "http%3A%2F%2Flocalhost%2Fcb", good + "http%3A%2F%2F%5B%3A%3A1%5D%3A9%2Fcb%3Fapp%3D1",
		good + "com.example.app%3A%2Fcb", "client_id=https%3A%2F%2Fapp.example.test%2Fclient.json&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcb&response_type=code", "client_id=%00", "a=1;b=2", "%",
	} {
		f.Add(seed)
	}
	z := newFuzzed(f)
	f.Fuzz(func(t *testing.T, query string) {
		query = z.words.Replace(query)
		read, broken := url.ParseQuery(query)
		answers := func(w *httptest.ResponseRecorder) {
			for _, address := range leads(w) {
				to, err := url.Parse(address)
				if err != nil {
					t.Fatalf("%q leads to %q: %v", query, address, err)
				}
				if to.Scheme == "" && to.Host == "" && strings.HasPrefix(address, "/") && !strings.ContainsAny(address, "\\\r\n\t") {
					continue // one of our own pages
				}
				q := to.Query()
				asked := read.Get("redirect_uri")
				if broken != nil || len(read["redirect_uri"]) != 1 || len(read["client_id"]) != 1 || !registered(asked) || !strings.HasPrefix(address, asked) {
					t.Fatalf("%q leads to %q", query, address)
				}
				if !slices.Equal(q["iss"], []string{z.Issuer}) || q.Get("state") != read.Get("state") {
					t.Fatalf("%q is answered by %q", query, address)
				}
				if q.Has("code") == q.Has("error") || q.Has("access_token") || q.Has("id_token") ||
					q.Has("code") && (read.Get("response_type") != "code" || read.Get("code_challenge_method") != "S256" || len(read.Get("code_challenge")) != 43) {
					t.Fatalf("%q is answered by %q", query, address)
				}
			}
		}
		for _, cookie := range []string{"", z.cookie} {
			header := http.Header{}
			if cookie != "" {
				header.Set("Cookie", cookie)
			}
			if w := z.ask(t, http.MethodGet, oauth.PathAuthorize+"?"+query, header, ""); w != nil {
				answers(w)
			}
		}
		w := z.ask(t, http.MethodPost, oauth.PathAuthorize, http.Header{"Content-Type": {"application/x-www-form-urlencoded"}, "Origin": {"https://client.example.test"}}, query)
		if to := w.Header().Get("Location"); to != "" {
			onward, err := url.Parse(to)
			if err != nil || onward.Scheme+onward.Host != "" || onward.Path != oauth.PathAuthorize {
				t.Fatalf("the form %q leads to %q, %v", query, to, err)
			}
			for name, values := range onward.Query() {
				if !slices.Equal(values, slices.DeleteFunc(slices.Clone(read[name]), func(v string) bool { return v == "" })) {
					t.Fatalf("the form %q becomes %q", query, to)
				}
			}
		}
	})
}

// anyPort is the port of a loopback address, which a client may choose.
var anyPort = regexp.MustCompile(`^(http://(?:127\.0\.0\.1|\[::1\])):[0-9]{1,5}/`)

// registered tells whether an address is one of fuzzRedirects.
func registered(uri string) bool {
	return slices.Contains(fuzzRedirects, uri) || slices.Contains(fuzzRedirects, anyPort.ReplaceAllString(uri, "$1/"))
}

// FuzzToken proves that the token endpoint answers whatever comes in the form of
// RFC 6749 §5.2, keeps nothing in caches, never repeats what it was sent, and
// never gives tokens where no code was given out.
func FuzzToken(f *testing.F) {
	const form = "application/x-www-form-urlencoded"
	const code = "grant_type=authorization_code&code=pst_code_x&code_verifier=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	for _, seed := range [][3]string{
		{form, "Basic HEADER", code},
		{form, "Basic WRONG", code},
		{form, "basic HEADER", code + "&client_secret=KEY"},
		{form, "Basic !!", code},
		{form, "Basic", code},
		{form, "Bearer x", code},
		{form, "Basic 4oKsOv8=", code},
		{form, "", code + "&client_id=BASIC&client_secret=KEY"},
		{form, "", code + "&client_id=PUBLIC"},
		{form, "", code + "&client_id=PUBLIC&client_secret=x"},
		{form, "", code + "&client_id=PUBLIC&client_id=OWN"},
		{form, "", "grant_type=refresh_token&refresh_token=pst_refresh_x&client_id=PUBLIC&scope=a%22b"},
		{form, "", "grant_type=password&client_id=PUBLIC&username=a&password=b"},
		{form, "", "grant_type=client_credentials&client_id=PUBLIC"},
		{form, "", "grant_type=urn:ietf:params:oauth:grant-type:token-exchange&client_id=PUBLIC"},
		{form, "", "client_id=PUBLIC&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=eyJhbGciOiJub25lIn0.e30."},
		{form, "", "client_id=x&client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer&client_assertion=" + strings.Repeat(".", 1000)},
		{form, "", "client_id=" + strings.Repeat("%C3%A4", 150)},
		{form, "", "client_id=https%3A%2F%2Fevil.test%2Fclient.json&grant_type=authorization_code&code=x"},
		{form + "; charset=latin1", "", code},
		{"application/json, " + form, "", code},
		{"application/json", "", `{"grant_type":"authorization_code","client_id":"PUBLIC","code":{"a":1}}`},
		{"application/json", "", `{"grant_type":["refresh_token"],"client_id":"PUBLIC","refresh_token":["x",""],"resource":["https://notes.example.test/mcp"]}`},
		{"application/json", "Basic HEADER", `{"grant_type":"refresh_token","client_id":"` + strings.Repeat("ä", 150) + `"}`},
		{"", "", ""},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	z := newFuzzed(f)
	// The characters of error_description, RFC 6749 §5.2.
	description := regexp.MustCompile(`^[\x20-\x21\x23-\x5b\x5d-\x7e]*$`)
	codes := []string{
		"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_target",
		"temporarily_unavailable", // with 429: too many wrong secrets
	}
	statuses := []int{400, 401, 413, 415, 429}
	f.Fuzz(func(t *testing.T, media, authorization, body string) {
		authorization, body = z.words.Replace(authorization), z.words.Replace(body)
		header := http.Header{"Content-Type": {media}}
		if authorization != "" {
			header.Set("Authorization", authorization)
		}
		w := z.ask(t, http.MethodPost, oauth.PathToken, header, body)
		if w == nil {
			return
		}
		var refusal map[string]string
		if err := json.Unmarshal(w.Body.Bytes(), &refusal); err != nil || !slices.Contains(statuses, w.Code) || len(refusal) != 2 ||
			!slices.Contains(codes, refusal["error"]) || refusal["error_description"] == "" || !description.MatchString(refusal["error_description"]) {
			t.Fatalf("%q: %d %s", body, w.Code, w.Body)
		}
		if w.Header().Get("Cache-Control") != "no-store" || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Set-Cookie") != "" {
			t.Fatalf("%q: %d %v", body, w.Code, w.Header())
		}
		scheme, _, _ := strings.Cut(authorization, " ")
		challenged := strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Basic ")
		if (w.Code == http.StatusUnauthorized) != (refusal["error"] == "invalid_client") || challenged != (w.Code == http.StatusUnauthorized && strings.EqualFold(scheme, "Basic")) {
			t.Fatalf("%q: %d %q %s", authorization, w.Code, w.Header().Get("WWW-Authenticate"), w.Body)
		}
	})
}

// FuzzCookies proves that no cookie that this server did not give lets anybody
// in, and that whatever a browser sends is answered and never sent back.
func FuzzCookies(f *testing.F) {
	z := newFuzzed(f)
	name, value, _ := strings.Cut(z.cookie, "=")
	for _, seed := range []string{
		"SESSION=VALUE", "SESSION=", "SESSION=VALUEx", `SESSION="VALUE"`, "SESSION=VALUE; SESSION=x", "SESSION=x; SESSION=VALUE", "session=VALUE", "__Host-SESSION=VALUE",
		"SESSION=\x80", "a=b;;;=;", "SESSION", "=SESSION", strings.Repeat("a=b; ", 500), "SESSION=VALUE%00", "SESSION=pst_session_" + strings.Repeat("0", 70),
	} {
		f.Add(seed, byte(0))
		f.Add(seed, byte(1))
	}
	words := strings.NewReplacer("SESSION", name, "VALUE", value)
	f.Fuzz(func(t *testing.T, cookies string, page byte) {
		paths := []string{"/apps", "/login", "/flow/x", oauth.PathLogout}
		w := z.ask(t, http.MethodGet, paths[int(page)%len(paths)], http.Header{"Cookie": {words.Replace(cookies)}}, "")
		if w == nil {
			return
		}
		sent := strings.NewReplacer(" ", "", "\t", "", `"`, "").Replace(words.Replace(cookies)) // net/http takes these off
		if strings.Contains(w.Body.String(), "ida@example.test") && !strings.Contains(";"+sent+";", ";"+z.cookie+";") {
			t.Fatalf("%q opens the page of a person", cookies)
		}
		for _, line := range w.Header().Values("Set-Cookie") {
			c, err := http.ParseSetCookie(line)
			if err != nil || !c.HttpOnly || c.SameSite != http.SameSiteLaxMode || c.Path != "/" || c.Domain != "" || !strings.HasPrefix(c.Name, "postern-") {
				t.Fatalf("%q is answered with the cookie %q, %v", cookies, line, err)
			}
		}
		for _, address := range leads(w) {
			if !strings.HasPrefix(address, "/") || strings.HasPrefix(address, "//") {
				t.Fatalf("%q leads to %q", cookies, address)
			}
		}
	})
}

// FuzzHost proves that a host chooses a project and nothing else: a project
// answers at its own host, as a proxy in front says it or the request itself, with
// the issuer that it was given, and any other host gets 421 and no word of what
// it called itself.
func FuzzHost(f *testing.F) {
	s := servertest.New(f, servertest.Config{Proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	const other = "https://auth.example.test"
	if _, _, err := s.Projects.Create(f.Context(), project.New{Name: "Other", Issuer: other, Environment: project.Test}); err != nil {
		f.Fatal(err)
	}
	s.Follow(f)
	z := &fuzzed{Server: s}
	own := strings.TrimPrefix(s.Issuer, "http://")
	for _, seed := range [][3]string{
		{"OWN", "", ""},
		{"OWN", "auth.example.test", "https"},
		{"evil.test", "", ""},
		{"auth.example.test:443", "", "https"},
		{"auth.example.test", "", "http"},
		{"AUTH.example.TEST", "", "https"},
		{"auth.example.test.", "", "https"},
		{"auth.example.test:0443", "", "https"},
		{"auth.example.test:80", "", "http"},
		{"auth.example.test:", "", "https"},
		{"auth.example.test@evil.test", "", "https"},
		{"OWN", "evil.test, auth.example.test", "https"},
		{"OWN", "auth.example.test, evil.test", "http,https"},
		{"OWN", "auth.example.test/x", "https"},
		{"[::1]", "[::1", ""},
		{"", "", ""},
		{"auth.example.test\t", "", "https"},
		{"auth.exämple.test", "", "https"},
	} {
		f.Add(seed[0], seed[1], seed[2])
	}
	f.Fuzz(func(t *testing.T, host, forwarded, proto string) {
		words := strings.NewReplacer("OWN", own)
		header := http.Header{"Host": {words.Replace(host)}}
		if forwarded != "" {
			header.Set("X-Forwarded-Host", words.Replace(forwarded))
		}
		if proto != "" {
			header.Set("X-Forwarded-Proto", proto)
		}
		w := z.ask(t, http.MethodGet, oauth.PathMetadata, header, "")
		if w == nil || words.Replace(host) == "" {
			return
		}
		// Who is asked, in other words: the last of what the proxy says, if that
		// could be a host.
		last := func(list string) string {
			all := strings.Split(list, ",")
			return strings.ToLower(strings.TrimSpace(all[len(all)-1]))
		}
		port := ":80" // which a client may leave out
		if last(proto) == "https" {
			port = ":443"
		}
		asked := strings.ToLower(words.Replace(host))
		want := ""
		for _, candidate := range []string{asked, last(words.Replace(forwarded))} {
			switch {
			case candidate == own, candidate+port == own:
				want = s.Issuer
			case candidate == "auth.example.test", candidate == "auth.example.test"+port:
				want = other
			case candidate == asked, forwardable.MatchString(candidate):
				want = ""
			}
		}
		var document struct{ Issuer, Error string }
		if err := json.Unmarshal(w.Body.Bytes(), &document); err != nil {
			t.Fatalf("%q: %d %s", header, w.Code, w.Body)
		}
		switch {
		case want == "" && (w.Code != http.StatusMisdirectedRequest || document.Error != "misdirected_request"):
			t.Fatalf("%q is answered for %q: %d", header, document.Issuer, w.Code)
		case want != "" && (w.Code != http.StatusOK || document.Issuer != want):
			t.Fatalf("%q is answered for %q, want %q: %d %s", header, document.Issuer, want, w.Code, w.Body)
		}
	})
}

// forwardable is a host that a proxy may have been asked for.
var forwardable = regexp.MustCompile(`^(?:[a-z0-9._-]{1,253}|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?$`)

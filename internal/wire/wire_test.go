package wire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postern-id/postern/internal/wire"
)

const form = "application/x-www-form-urlencoded"

func post(target, contentType, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, target, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	return r
}

// plain is what an error_description may have, RFC 6749 §5.2.
var plain = regexp.MustCompile(`^[\x20-\x21\x23-\x5B\x5D-\x7E]+$`)

func wantError(t *testing.T, err error, status int, parameter string) {
	t.Helper()
	var refused *wire.Error
	if !errors.As(err, &refused) {
		t.Fatalf("error %v, want a *wire.Error", err)
	}
	if refused.Status != status || refused.Parameter != parameter {
		t.Errorf("%+v, want status %d and parameter %q", refused, status, parameter)
	}
	if !plain.MatchString(refused.Message) || strings.Contains(refused.Message, "%s") {
		t.Errorf("message %q cannot be an error_description", refused.Message)
	}
}

func TestFormReads(t *testing.T) {
	tests := map[string]struct {
		contentType, body string
		want              url.Values
	}{
		"parameters":      {form, "a=1&b=x+y%20z&c=%C3%A9", url.Values{"a": {"1"}, "b": {"x y z"}, "c": {"é"}}},
		"no value":        {form, "a=&b&c=1", url.Values{"c": {"1"}}},
		"charset":         {form + ";charset=UTF-8", "a=1", url.Values{"a": {"1"}}},
		"repeatable":      {form, "resource=1&resource=2", url.Values{"resource": {"1", "2"}}},
		"nothing":         {form, "", url.Values{}},
		"case of type":    {"Application/X-WWW-Form-URLencoded", "a=1", url.Values{"a": {"1"}}},
		"exactly the cap": {form, "a=" + strings.Repeat("x", 998), url.Values{"a": {strings.Repeat("x", 998)}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := wire.Form(post("/token", test.contentType, test.body), 1000, "resource")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Row: A14, A15, T26, T27, R16, N03.
func TestFormRefuses(t *testing.T) {
	tests := map[string]struct {
		target, contentType, body string
		status                    int
		parameter                 string
	}{
		"repeated":                  {"/token", form, "client_id=a&client_id=b", 400, "client_id"},
		"repeated, same value":      {"/token", form, "client_id=a&client_id=a", 400, "client_id"},
		"repeated, once empty":      {"/token", form, "code=&code=b", 400, "code"},
		"repeated, encoded name":    {"/token", form, "code=a&c%6fde=b", 400, "code"},
		"odd name repeated":         {"/token", form, "%22%3Cb%3E=a&%22%3Cb%3E=b", 400, `"<b>`},
		"query beside the body":     {"/token?code=a", form, "state=b", 400, ""},
		"secret in the query":       {"/token?refresh_token=x", form, "", 400, ""},
		"JSON":                      {"/token", "application/json", `{"code":"a"}`, 415, ""},
		"no type":                   {"/token", "", "code=a", 415, ""},
		"two types in one":          {"/token", "application/json, " + form, "code=a", 415, ""},
		"multipart":                 {"/token", "multipart/form-data; boundary=x", "--x--", 415, ""},
		"another charset":           {"/token", form + "; charset=iso-8859-1", "code=a", 415, ""},
		"too long":                  {"/token", form, "a=" + strings.Repeat("x", 999), 413, ""},
		"too many":                  {"/token", form, strings.Repeat("a&", 100) + "b", 400, ""},
		"bad escape":                {"/token", form, "a=%zz", 400, ""},
		"semicolon":                 {"/token", form, "a=1;b=2", 400, ""},
		"NUL":                       {"/token", form, "a=%00", 400, "a"},
		"not UTF-8":                 {"/token", form, "a=%ff", 400, "a"},
		"not UTF-8 in a name":       {"/token", form, "%ff=a", 400, ""},
		"overlong form of a letter": {"/token", form, "a=%c0%ae", 400, "a"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := wire.Form(post(test.target, test.contentType, test.body), 1000, "resource")
			wantError(t, err, test.status, test.parameter)
		})
	}
	t.Run("two Content-Type headers", func(t *testing.T) {
		r := post("/token", form, "a=1")
		r.Header.Add("Content-Type", "application/json")
		_, err := wire.Form(r, 1000)
		wantError(t, err, 415, "")
	})
	t.Run("compressed", func(t *testing.T) {
		r := post("/token", form, "a=1")
		r.Header.Set("Content-Encoding", "gzip")
		_, err := wire.Form(r, 1000)
		wantError(t, err, 415, "")
	})
	t.Run("cap of an outer reader", func(t *testing.T) {
		r := post("/token", form, "a="+strings.Repeat("x", 500))
		r.Body = http.MaxBytesReader(httptest.NewRecorder(), r.Body, 100)
		_, err := wire.Form(r, 1000)
		wantError(t, err, 413, "")
	})
	t.Run("client hangs up", func(t *testing.T) {
		r := post("/token", form, "")
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader("a=1"), broken{}))
		_, err := wire.Form(r, 1000)
		wantError(t, err, 400, "")
	})
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Row: A14, A27, N03.
func TestQuery(t *testing.T) {
	get := func(query string) (url.Values, error) {
		return wire.Query(&http.Request{URL: &url.URL{RawQuery: query}}, "resource")
	}
	got, err := get("scope=a+b&resource=x&resource=y&state=")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(url.Values{"scope": {"a b"}, "resource": {"x", "y"}}, got); diff != "" {
		t.Error(diff)
	}
	_, err = get("state=a&state=b")
	wantError(t, err, 400, "state")

	start := time.Now()
	_, err = get(strings.Repeat("scope=a&", 10_000))
	wantError(t, err, 400, "")
	if spent := time.Since(start); spent > 200*time.Millisecond {
		t.Errorf("10,000 pairs took %v", spent)
	}
}

type document struct {
	ClientID     string   `json:"client_id"`
	RedirectURIs []string `json:"redirect_uris,omitempty"`
	Nested       *struct {
		Kid string `json:"kid"`
	} `json:"nested"`
	List   []struct{ N int }
	Free   map[string]any  `json:"free"`
	Raw    json.RawMessage `json:"raw"`
	Hidden string          `json:"-"`
}

func TestJSONReads(t *testing.T) {
	var got document
	err := wire.JSON([]byte(`{"client_id":"a","redirect_uris":["x"],"nested":{"kid":"k"},"List":[{"N":1}],
		"free":{"A":1,"a":2},"raw":{"B":1,"b":[{}]},"unknown":{"Client_ID":1},"hidden":"x"}`), &got)
	if err != nil {
		t.Fatal(err)
	}
	if got.ClientID != "a" || got.Nested.Kid != "k" || got.List[0].N != 1 || len(got.Free) != 2 || got.Hidden != "" {
		t.Errorf("%+v", got)
	}
}

// Row: G14, G15, M05, J16.
func TestJSONRefuses(t *testing.T) {
	tests := map[string]struct{ text, parameter string }{
		"nothing":                    {``, ""},
		"not JSON":                   {`client_id=a`, ""},
		"cut":                        {`{"client_id":"a"`, ""},
		"cut in a list":              {`{"redirect_uris":["a"`, ""},
		"two values":                 {`{} {}`, ""},
		"text behind":                {`{}x`, ""},
		"trailing comma":             {`{"client_id":"a",}`, ""},
		"duplicate":                  {`{"client_id":"a","client_id":"b"}`, "client_id"},
		"duplicate, escaped":         {`{"client_id":"a","client\u005fid":"b"}`, "client_id"},
		"duplicate of an unknown":    {`{"x":1,"x":1}`, "x"},
		"duplicate deep down":        {`{"unknown":[{"a":{"b":1,"b":2}}]}`, "b"},
		"duplicate in raw":           {`{"raw":{"b":1,"b":2}}`, "b"},
		"another case":               {`{"Redirect_URIs":["a"]}`, "Redirect_URIs"},
		"another case, nested":       {`{"nested":{"KID":"a"}}`, "KID"},
		"another case, in a list":    {`{"List":[{"n":1}]}`, "n"},
		"Kelvin sign for k":          {`{"nested":{"` + "\u212a" + `id":"a"}}`, "\u212aid"},
		"NUL in a name":              {`{"client_id\u0000":"a"}`, ""},
		"NUL in a value":             {`{"client_id":"a\u0000"}`, ""},
		"not UTF-8":                  {"{\"client_id\":\"\xff\"}", ""},
		"wrong type":                 {`{"client_id":["a"]}`, "client_id"},
		"wrong type, nested":         {`{"nested":{"kid":1}}`, "nested.kid"},
		"array for the whole":        {`[]`, ""},
		"text for the whole":         {`"a"`, ""},
		"null for the whole":         {` null`, ""},
		"seventeen levels":           {strings.Repeat(`{"x":`, 17) + "1" + strings.Repeat("}", 17), ""},
		"ten thousand levels":        {strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000), ""},
		"ten thousand open brackets": {strings.Repeat(`{"x":[`, 10_000), ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			var got document
			wantError(t, wire.JSON([]byte(test.text), &got), 400, test.parameter)
			if spent := time.Since(start); spent > 200*time.Millisecond {
				t.Errorf("took %v", spent)
			}
		})
	}
	if err := wire.JSON([]byte(strings.Repeat(`{"x":`, 16)+"1"+strings.Repeat("}", 16)), &document{}); err != nil {
		t.Errorf("sixteen levels: %v", err)
	}
}

func TestBody(t *testing.T) {
	var got document
	if err := wire.Body(post("/register", "application/json; charset=utf-8", `{"client_id":"a"}`), 100, &got); err != nil || got.ClientID != "a" {
		t.Errorf("%+v, %v", got, err)
	}
	wantError(t, wire.Body(post("/register", form, `{}`), 100, &got), 415, "")
	wantError(t, wire.Body(post("/register", "application/json", `{"client_id":"`+strings.Repeat("a", 100)+`"}`), 100, &got), 413, "")
}

func FuzzForm(f *testing.F) {
	f.Add("a=1&b=x+y")
	f.Add("a=%00&a=1;b")
	f.Fuzz(func(t *testing.T, raw string) {
		first, err := wire.Form(post("/", form, raw), 1<<20)
		if err != nil {
			return
		}
		again, err := wire.Form(post("/", form, first.Encode()), 1<<20)
		if err != nil {
			t.Fatalf("%q, read as %v, is refused when written again: %v", raw, first, err)
		}
		if diff := cmp.Diff(first, again); diff != "" {
			t.Errorf("%q changes when written and read again:\n%s", raw, diff)
		}
	})
}

func FuzzJSON(f *testing.F) {
	f.Add(`{"client_id":"a","redirect_uris":["x"],"free":{"A":1,"a":2}}`)
	f.Add(`{"client_id":"a","client\u005fid":"b"}`)
	f.Fuzz(func(t *testing.T, text string) {
		var first document
		if wire.JSON([]byte(text), &first) != nil {
			return
		}
		again, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		var second document
		if err := wire.JSON(again, &second); err != nil {
			t.Fatalf("%q is refused when written again as %q: %v", text, again, err)
		}
		if fmt.Sprintf("%+v", first.ClientID) != fmt.Sprintf("%+v", second.ClientID) {
			t.Errorf("%q changes to %q", text, again)
		}
	})
}

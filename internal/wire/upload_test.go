package wire_test

import (
	"bytes"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postern-id/postern/internal/wire"
)

func TestUpload(t *testing.T) {
	form := func(pairs ...string) (string, string) {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for i := 0; i < len(pairs); i += 2 {
			create := w.CreateFormField
			if pairs[i] == "logo" {
				create = func(name string) (io.Writer, error) { return w.CreateFormFile(name, `../"logo.png`) }
			}
			part, err := create(pairs[i])
			if err != nil {
				t.Fatal(err)
			}
			if _, err := part.Write([]byte(pairs[i+1])); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return w.FormDataContentType(), b.String()
	}
	upload := func(kind, body string) (string, string, error) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		r.Header.Set("Content-Type", kind)
		values, file, err := wire.Upload(r, 1000, "logo")
		return values.Encode(), string(file), err
	}
	values, file, err := upload(form("csrf", "1", "action", "logo", "empty", "", "logo", "\x89PNG\x00"))
	if err != nil || values != "action=logo&csrf=1" || file != "\x89PNG\x00" {
		t.Errorf("%q, %q, %v", values, file, err)
	}
	if _, file, err := upload(form("logo", "")); err != nil || file != "" {
		t.Errorf("no file: %q, %v", file, err)
	}
	kind, whole := form("csrf", "1")
	for name, c := range map[string]struct {
		status     int
		kind, body string
	}{
		"too long":    {http.StatusRequestEntityTooLarge, kind, strings.Repeat("x", 1001)},
		"urlencoded":  {http.StatusUnsupportedMediaType, "application/x-www-form-urlencoded", "csrf=1"},
		"no boundary": {http.StatusUnsupportedMediaType, "multipart/form-data", whole},
		"cut off":     {http.StatusBadRequest, kind, whole[:len(whole)-10]},
		"not one":     {http.StatusBadRequest, kind, "csrf=1"},
	} {
		_, _, err := upload(c.kind, c.body)
		var refused *wire.Error
		if !errors.As(err, &refused) || refused.Status != c.status {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, pairs := range map[string][]string{
		"twice": {"csrf", "1", "csrf", "2"}, "a zero": {"name", "a\x00b"}, "not UTF-8": {"name", "\xff"}, "two files": {"logo", "1", "logo", "2"},
	} {
		if _, _, err := upload(form(pairs...)); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

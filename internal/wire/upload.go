package wire

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
)

// Upload reads a form with a file in it, at most max bytes of
// multipart/form-data (RFC 7578), by the rules of Form. The file is what the
// field called file holds, nil where nothing was chosen; its name and type are
// the sender's words, and dropped.
func Upload(r *http.Request, max int64, file string) (url.Values, []byte, error) {
	const want = "multipart/form-data"
	if r.URL.RawQuery != "" {
		return nil, nil, refuse("", "Send the parameters in the body alone, not in the address.")
	}
	raw, err := body(r, max, want)
	if err != nil {
		return nil, nil, err
	}
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || params["boundary"] == "" {
		return nil, nil, wrongType(want)
	}
	values, content, seen := url.Values{}, []byte(nil), map[string]bool{}
	for parts := multipart.NewReader(bytes.NewReader(raw), params["boundary"]); ; {
		part, err := parts.NextRawPart()
		if errors.Is(err, io.EOF) && len(seen) > 0 {
			return values, content, nil
		}
		if err != nil {
			return nil, nil, refuse("", "The form is not whole: a part of it has no end.")
		}
		text, err := io.ReadAll(part)
		name := part.FormName()
		switch {
		case err != nil:
			return nil, nil, refuse("", "The form is not whole: a part of it has no end.")
		case len(seen) >= maxPairs:
			return nil, nil, refuse("", "There are too many parameters.")
		case seen[name]:
			return nil, nil, refuse(name, "%s was given more than once; send it once.")
		case name == file && len(text) > 0:
			content = text
		case name == file:
		case !clean(name) || !clean(string(text)):
			return nil, nil, refuse(name, "%s is not clean UTF-8 text.")
		case len(text) > 0:
			values.Set(name, string(text))
		}
		seen[name] = true
	}
}

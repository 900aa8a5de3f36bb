package admin

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/postern-id/postern/internal/picture"
	"github.com/postern-id/postern/internal/web"
)

// A form with a file has at most so many fields, each at most so long.
const (
	uploadFields = 10
	uploadField  = 4 << 10
)

// uploads reports whether a request is a form with a file.
func uploads(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data")
}

// upload is form for one with a picture in a field of its own. file is nil where
// none was chosen; of one that is too large it is as much as picture.Logo
// refuses.
func (d *Dashboard) upload(r *http.Request, v visit, field string) (values url.Values, file []byte, err error) {
	unreadable := &web.Error{Status: http.StatusBadRequest, Page: web.ErrorPage{What: "The form did not arrive whole."}}
	parts, err := r.MultipartReader()
	if err != nil {
		return nil, nil, unreadable
	}
	values = url.Values{}
	for n := 0; ; n++ {
		part, err := parts.NextPart()
		if err == io.EOF {
			break
		}
		if err != nil || n == uploadFields {
			return nil, nil, unreadable
		}
		most := int64(uploadField)
		if part.FormName() == field {
			most = picture.MaxBytes
		}
		content, err := io.ReadAll(io.LimitReader(part, most+1))
		switch {
		case err != nil:
			return nil, nil, unreadable
		case part.FormName() == field:
			if len(content) > 0 {
				file = content
			}
		case len(content) > uploadField, !utf8.Valid(content), values.Has(part.FormName()):
			return nil, nil, unreadable
		default:
			values.Set(part.FormName(), string(content))
		}
	}
	if !d.CSRF.Check(values.Get("csrf"), csrfPurpose, v.session.ID) {
		return nil, nil, &web.Error{Status: http.StatusForbidden}
	}
	return values, file, nil
}
